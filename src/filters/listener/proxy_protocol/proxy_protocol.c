#include "filters/listener/proxy_protocol/proxy_protocol.h"

#include <string.h>

#include "api/envoy.pb.h"
#include "filters/context.h"
#include "telemetry/stats.h"

#define V1_MAX 107
#define V2_SIG "\r\n\r\n\0\r\nQUIT\n"

#define PROXY_PROTOCOL_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                   \
    COUNTER(P, not_found_allowed)                                                                  \
    COUNTER(P, not_found_disallowed)
STAT_GROUP_DECLARE(proxy_protocol_stats, PROXY_PROTOCOL_STATS);
STAT_GROUP_DEFINE(proxy_protocol_stats, PROXY_PROTOCOL_STATS);

#define PROXY_VERSION_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                    \
    COUNTER(P, disallowed)                                                                         \
    COUNTER(P, error)                                                                              \
    COUNTER(P, found)
STAT_GROUP_DECLARE(proxy_version_stats, PROXY_VERSION_STATS);
STAT_GROUP_DEFINE(proxy_version_stats, PROXY_VERSION_STATS);

struct config {
    bool allow_without;
    bool disallowed[3]; /* by version */
    struct stat_group stats, version[3];
};

/* ---- the header ---- */

static bool port_of(sv text, uint16_t *out)
{
    uint64_t n;
    if (text.n > 5 || sv_to_u64(text, &n) < 0 || n > 65535 || (text.n > 1 && text.p[0] == '0'))
        return false;
    *out = (uint16_t)n;
    return true;
}

static enum proxy_header read_v1(sv bytes, struct proxy_header_info *out)
{
    sv line = sv_first(bytes, V1_MAX);
    ptrdiff_t lf = sv_find(line, '\n');
    if (lf < 0)
        return bytes.n >= V1_MAX ? PROXY_HEADER_BAD : PROXY_HEADER_MORE;
    if (lf < 1 || line.p[lf - 1] != '\r')
        return PROXY_HEADER_BAD;
    out->version = 1;
    out->length = (uint32_t)lf + 1;
    sv rest = sv_from(sv_first(line, (size_t)lf - 1), 6), family, src, dst, sport;
    sv_cut(rest, ' ', &family, &rest);
    if (sv_eq(family, SV("UNKNOWN"))) {
        out->local = true;
        return PROXY_HEADER_OK;
    }
    bool v6 = sv_eq(family, SV("TCP6"));
    uint16_t sp, dp;
    if ((!v6 && !sv_eq(family, SV("TCP4"))) || !sv_cut(rest, ' ', &src, &rest) ||
        !sv_cut(rest, ' ', &dst, &rest) || !sv_cut(rest, ' ', &sport, &rest) ||
        !port_of(sport, &sp) || !port_of(rest, &dp))
        return PROXY_HEADER_BAD;
    if ((sv_find(src, ':') >= 0) != v6 || (sv_find(dst, ':') >= 0) != v6 ||
        addr_ip(&out->source, src, sp) < 0 || addr_ip(&out->destination, dst, dp) < 0)
        return PROXY_HEADER_BAD;
    return PROXY_HEADER_OK;
}

static uint16_t be16(const unsigned char *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void addr4(struct addr *a, const unsigned char *ip, uint16_t port)
{
    memset(a, 0, sizeof *a);
    a->len = sizeof a->in4;
    a->in4.sin_family = AF_INET;
    a->in4.sin_port = htons(port);
    memcpy(&a->in4.sin_addr, ip, 4);
}

static void addr6(struct addr *a, const unsigned char *ip, uint16_t port)
{
    memset(a, 0, sizeof *a);
    a->len = sizeof a->in6;
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons(port);
    memcpy(&a->in6.sin6_addr, ip, 16);
}

/* The TLVs must fill what is left exactly. */
static bool tlvs_ok(const unsigned char *p, size_t n)
{
    while (n) {
        if (n < 3 || be16(p + 1) > n - 3)
            return false;
        size_t one = 3u + be16(p + 1);
        p += one;
        n -= one;
    }
    return true;
}

static enum proxy_header read_v2(sv bytes, struct proxy_header_info *out)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    if (bytes.n < 16)
        return PROXY_HEADER_MORE;
    unsigned command = p[12] & 15, family = p[13];
    uint32_t length = be16(p + 14);
    if (p[12] >> 4 != 2 || command > 1)
        return PROXY_HEADER_BAD;
    if (bytes.n < 16u + length)
        return PROXY_HEADER_MORE;
    out->version = 2;
    out->length = 16 + length;
    p += 16;
    if (command == 0) { /* LOCAL: whatever follows is skipped */
        out->local = true;
        return PROXY_HEADER_OK;
    }
    uint32_t used = 0;
    switch (family) {
    case 0x11:
        if (length < 12)
            return PROXY_HEADER_BAD;
        addr4(&out->source, p, be16(p + 8));
        addr4(&out->destination, p + 4, be16(p + 10));
        used = 12;
        break;
    case 0x21:
        if (length < 36)
            return PROXY_HEADER_BAD;
        addr6(&out->source, p, be16(p + 32));
        addr6(&out->destination, p + 16, be16(p + 34));
        used = 36;
        break;
    case 0x00:
        out->local = true;
        return PROXY_HEADER_OK;
    default: /* datagrams and Unix sockets do not come here */
        return PROXY_HEADER_BAD;
    }
    return tlvs_ok(p + used, length - used) ? PROXY_HEADER_OK : PROXY_HEADER_BAD;
}

enum proxy_header proxy_header_read(sv bytes, struct proxy_header_info *out)
{
    sv v1 = SV("PROXY "), v2 = SV(V2_SIG);
    memset(out, 0, sizeof *out);
    if (sv_starts(bytes, v1))
        return read_v1(bytes, out);
    if (sv_starts(bytes, v2))
        return read_v2(bytes, out);
    if (sv_starts(v1, bytes) || sv_starts(v2, bytes))
        return PROXY_HEADER_MORE;
    return PROXY_HEADER_NONE;
}

/* ---- the filter ---- */

static void fini(void *config)
{
    struct config *c = config;
    stat_group_fini(&c->stats);
    stat_group_fini(&c->version[1]);
    stat_group_fini(&c->version[2]);
}

static void init_stats(const struct filter_ctx *x, struct config *c, sv prefix)
{
    sv name =
        prefix.n ? arena_printf(x->arena, "proxy_proto.%.*s.", SV_ARG(prefix)) : SV("proxy_proto.");
    struct stats_scope *sc = stats_scope_plain(x->stats, name);
    stat_group_init(&c->stats, &proxy_protocol_stats_def, sc);
    for (unsigned v = 1; v <= 2; v++) {
        struct stats_scope *sub = stats_scope_sub(
            sc, v == 1 ? SV("versions.v1.") : SV("versions.v2."), (sv){NULL, 0}, NULL, 0);
        stat_group_init(&c->version[v], &proxy_version_stats_def, sub);
        stats_scope_unref(sub);
    }
    stats_scope_unref(sc);
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_ProxyProtocol *m;
    int rc = filter_decode(x, &envoy_ProxyProtocol_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    c->allow_without = m->allow_requests_without_proxy_protocol;
    for (uint32_t i = 0; i < m->disallowed_versions.n; i++)
        c->disallowed[m->disallowed_versions.v[i] == 0 ? 1 : 2] = true;
    init_stats(x, c, m->stat_prefix);
    arena_on_free(x->arena, fini, c);
    *config = c;
    return 0;
}

static enum listener_status bad(struct listener_accept *a, const char *why)
{
    a->why = why;
    return LISTENER_CLOSE;
}

static enum listener_status found(struct config *c, struct listener_accept *a,
                                  const struct proxy_header_info *h)
{
    if (c->disallowed[h->version]) {
        stat_inc(&c->version[h->version], proxy_version_stats_disallowed);
        return bad(a, "proxy_protocol_version");
    }
    stat_inc(&c->version[h->version], proxy_version_stats_found);
    a->consume = h->length;
    if (!h->local) {
        a->conn->remote = h->source;
        a->conn->local = h->destination;
    }
    return LISTENER_CONTINUE;
}

static enum listener_status on_bytes(const void *config, struct listener_accept *a, sv bytes,
                                     bool eof)
{
    struct config *c = (struct config *)config; /* only its counters change */
    struct proxy_header_info h;
    switch (proxy_header_read(bytes, &h)) {
    case PROXY_HEADER_MORE:
        return LISTENER_MORE;
    case PROXY_HEADER_OK:
        return found(c, a, &h);
    case PROXY_HEADER_BAD:
        stat_inc(&c->version[bytes.p[0] == 'P' ? 1 : 2], proxy_version_stats_error);
        return bad(a, "proxy_protocol_malformed");
    case PROXY_HEADER_NONE:
        break;
    }
    stat_inc(&c->stats, c->allow_without ? proxy_protocol_stats_not_found_allowed
                                         : proxy_protocol_stats_not_found_disallowed);
    return c->allow_without ? LISTENER_CONTINUE : bad(a, "proxy_protocol_missing");
}

const struct listener_filter_type listener_proxy_protocol_type = {
    .name = "envoy.filters.listener.proxy_protocol",
    .config_type = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    .parse = parse,
    .on_bytes = on_bytes,
};
