#include <string.h>
#include "api/pb_struct.h"
#include "mesh/translate/internal.h"

void *build_copy(struct build *b, const void *p, size_t n)
{
    return memcpy(arena_alloc(b->a, n), p, n);
}

void *build_one(struct build *b, const void *x)
{
    const void **v = arena_array(b->a, const void *, 1);
    v[0] = x;
    return v;
}

const struct google_UInt32Value *build_u32(struct build *b, uint32_t v)
{
    return MAKE(b, google_UInt32Value, .value = v);
}

const struct google_BoolValue *build_bool(struct build *b, bool v)
{
    return MAKE(b, google_BoolValue, .value = v);
}

const struct google_Duration *build_ms(struct build *b, int64_t ms)
{
    return MAKE(b, google_Duration, .seconds = ms / 1000, .nanos = (int32_t)(ms % 1000) * 1000000);
}

const struct google_Struct *build_struct1(struct build *b, sv key, sv value)
{
    struct google_Struct *s = pb_struct_new(b->a, 1);
    pb_struct_put_text(s, b->a, key, value);
    return s;
}

const struct envoy_Address *build_address(struct build *b, sv ip, uint16_t port)
{
    struct envoy_SocketAddress *s =
        MAKE(b, envoy_SocketAddress, .address = ip,
             .which_port_specifier = envoy_SocketAddress_port_value_tag, .port_value = port);
    return MAKE(b, envoy_Address, .which_address = envoy_Address_socket_address_tag,
                .socket_address = s);
}

const struct envoy_Filter *build_filter(struct build *b, const char *name,
                                        const struct pb_message *m, const void *config)
{
    return MAKE(b, envoy_Filter, .name = sv_of(name),
                .which_config_type = envoy_Filter_typed_config_tag,
                .typed_config = pb_any_pack(m, config, b->a));
}

const struct envoy_Filter *build_tcp_proxy(struct build *b, sv stat_prefix, sv cluster)
{
    return build_tcp_filter(b, MAKE(b, envoy_TcpProxy, .stat_prefix = stat_prefix,
                                    .which_cluster_specifier = envoy_TcpProxy_cluster_tag,
                                    .cluster = cluster));
}

const struct envoy_Filter *build_tcp_filter(struct build *b, struct envoy_TcpProxy *t)
{
    if (b->t->access_log) {
        t->access_log.v = build_one(b, b->t->access_log);
        t->access_log.n = 1;
    }
    return build_filter(b, "envoy.filters.network.tcp_proxy", &envoy_TcpProxy_pb, t);
}

void build_emit(struct build *b, sv name, const struct pb_message *m, const void *msg)
{
    b->emit(b->arg, name, pb_encode_arena(m, msg, b->a));
}

/* ---- names ---- */

sv translate_cluster_name(struct arena *a, const char *direction, uint16_t port, sv subset, sv host)
{
    return arena_printf(a, "%s|%u|%.*s|%.*s", direction, port, SV_ARG(subset), SV_ARG(host));
}

bool translate_cluster_parse(sv name, sv *direction, uint16_t *port, sv *subset, sv *host)
{
    sv number, rest;
    uint64_t n;

    if (!sv_cut(name, '|', direction, &rest) || !sv_cut(rest, '|', &number, &rest) ||
        !sv_cut(rest, '|', subset, host) || sv_to_u64(number, &n) || n > 65535)
        return false;
    *port = (uint16_t)n;
    return true;
}

sv translate_sni(struct arena *a, uint16_t port, sv subset, sv host)
{
    return arena_printf(a, "outbound_.%u_.%.*s_.%.*s", port, SV_ARG(subset), SV_ARG(host));
}
