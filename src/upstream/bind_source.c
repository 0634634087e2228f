#include "upstream/bind_source.h"

#include "api/envoy.pb.h"
#include "api/google.pb.h"

static int read_address(const struct envoy_SocketAddress *s, const char *path, const char *field,
                        struct addr *out, struct error *err)
{
    if (s->port_value > 65535 || addr_ip(out, s->address, (uint16_t)s->port_value) != 0)
        return error_set(err, E_INVALID, "%s.%s: '%.*s' is no IP address with a port", path, field,
                         SV_ARG(s->address));
    return 0;
}

int bind_source_read(const struct envoy_BindConfig *b, const char *path, struct bind_source *out,
                     struct error *err)
{
    struct bind_source got = {.n = 0};
    if (b->freebind && b->freebind->value)
        return error_set(err, E_UNSUPPORTED, "%s.freebind: not supported", path);
    if (b->additional_source_addresses.n && !b->source_address)
        return error_set(err, E_INVALID, "%s.additional_source_addresses: needs source_address",
                         path);
    if (b->additional_source_addresses.n > 1)
        return error_set(err, E_INVALID, "%s.additional_source_addresses: at most one", path);
    if (b->source_address) {
        int rc = read_address(b->source_address, path, "source_address", &got.v[got.n++], err);
        if (rc == 0 && b->additional_source_addresses.n)
            rc = read_address(b->additional_source_addresses.v[0], path,
                              "additional_source_addresses[0]", &got.v[got.n++], err);
        if (rc < 0)
            return rc;
    }
    if (got.n == 2 && got.v[0].sa.sa_family == got.v[1].sa.sa_family)
        return error_set(err, E_INVALID,
                         "%s.additional_source_addresses[0]: must be of the other IP version than "
                         "source_address",
                         path);
    *out = got;
    return 0;
}

const struct addr *bind_source_for(const struct bind_source *b, const struct addr *to)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (b->v[i].sa.sa_family == to->sa.sa_family)
            return &b->v[i];
    return b->n ? &b->v[0] : NULL;
}
