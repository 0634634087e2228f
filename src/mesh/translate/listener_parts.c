/* What inbound and outbound listeners are made of. */
#include "mesh/translate/listener.h"

const struct envoy_FilterChain *listener_chain(struct build *b, sv name,
                                               const struct envoy_FilterChainMatch *match,
                                               const struct envoy_TransportSocket *socket,
                                               const struct envoy_Filter *filter)
{
    return MAKE(b, envoy_FilterChain, .name = name, .filter_chain_match = match,
                .transport_socket = socket, .filters = {.v = build_one(b, filter), .n = 1});
}

const struct envoy_Filter *listener_hcm(struct build *b,
                                        const struct envoy_HttpConnectionManager *h)
{
    return build_filter(b, "envoy.filters.network.http_connection_manager",
                        &envoy_HttpConnectionManager_pb, h);
}

struct envoy_FilterChainMatch *listener_match_http(struct build *b, uint16_t port)
{
    sv *protocols = arena_array(b->a, sv, 3);
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = SV("raw_buffer"));
    protocols[0] = SV("http/1.0");
    protocols[1] = SV("http/1.1");
    protocols[2] = SV("h2c");
    m->application_protocols.v = protocols;
    m->application_protocols.n = 3;
    if (port)
        m->destination_port = build_u32(b, port);
    return m;
}

static const struct envoy_ListenerFilter *inspector(struct build *b, const char *name,
                                                    const struct pb_message *m, const void *config)
{
    return MAKE(b, envoy_ListenerFilter, .name = sv_of(name),
                .which_config_type = envoy_ListenerFilter_typed_config_tag,
                .typed_config = pb_any_pack(m, config, b->a));
}

const struct envoy_ListenerFilter *listener_http_inspector(struct build *b)
{
    return inspector(b, "envoy.filters.listener.http_inspector", &envoy_HttpInspector_pb,
                     MAKE0(b, envoy_HttpInspector));
}

const struct envoy_ListenerFilter *listener_tls_inspector(struct build *b)
{
    return inspector(b, "envoy.filters.listener.tls_inspector", &envoy_TlsInspector_pb,
                     MAKE0(b, envoy_TlsInspector));
}
