/* What inbound and outbound listeners are made of. */
#include "api/io.pb.h"
#include "api/stats.pb.h"
#include "mesh/translate/listener.h"

const struct envoy_FilterChain *listener_chain(struct build *b, sv name,
                                               const struct envoy_FilterChainMatch *match,
                                               const struct envoy_TransportSocket *socket,
                                               const struct envoy_Filter *filter)
{
    const struct envoy_Filter **v = arena_array(b->a, const struct envoy_Filter *, 2);
    uint32_t n = 0;

    /* HTTP is counted by request, the rest by connection. */
    if (b->p->weft && sv_eq(filter->name, SV("envoy.filters.network.tcp_proxy")))
        v[n++] =
            build_filter(b, "istio.stats", &stats_PluginConfig_pb, MAKE0(b, stats_PluginConfig));
    v[n++] = filter;
    return MAKE(b, envoy_FilterChain, .name = name, .filter_chain_match = match,
                .transport_socket = socket, .filters = {v, n});
}

static const struct envoy_HttpFilter *http_filter(struct build *b, const char *name,
                                                  const struct pb_message *m, const void *config)
{
    return MAKE(b, envoy_HttpFilter, .name = sv_of(name),
                .which_config_type = envoy_HttpFilter_typed_config_tag,
                .typed_config = pb_any_pack(m, config, b->a));
}

/* A server learns from the request who asks, and answers those who asked back; a client introduces
 * itself, and knows of its servers from their endpoints. */
static const struct envoy_HttpFilter *peer_filter(struct build *b, bool inbound)
{
    struct io_PeerMetadata *m = MAKE0(b, io_PeerMetadata);
    const struct io_PeerMetadata_IstioHeaders *h =
        MAKE(b, io_PeerMetadata_IstioHeaders, .skip_external_clusters = true);
    struct io_PeerMetadata_DiscoveryMethod *from =
        MAKE(b, io_PeerMetadata_DiscoveryMethod,
             .which_method_specifier = io_PeerMetadata_DiscoveryMethod_istio_headers_tag,
             .istio_headers = h);
    struct io_PeerMetadata_PropagationMethod *to =
        MAKE(b, io_PeerMetadata_PropagationMethod,
             .which_method_specifier = io_PeerMetadata_PropagationMethod_istio_headers_tag,
             .istio_headers = h);
    if (inbound) {
        m->downstream_discovery.v = build_one(b, from);
        m->downstream_propagation.v = build_one(b, to);
        m->downstream_discovery.n = m->downstream_propagation.n = 1;
    } else {
        m->upstream_discovery.v = build_one(b, from);
        m->upstream_propagation.v = build_one(b, to);
        m->upstream_discovery.n = m->upstream_propagation.n = 1;
    }
    return http_filter(b, "istio.metadata_exchange", &io_PeerMetadata_pb, m);
}

/* Who the peer is comes first; what is counted is what the router made of it. */
static void add_istio_filters(struct build *b, struct envoy_HttpConnectionManager *h, bool inbound)
{
    uint32_t n = h->http_filters.n, k = 0;
    const struct envoy_HttpFilter **v = arena_array(b->a, const struct envoy_HttpFilter *, n + 2);

    v[k++] = peer_filter(b, inbound);
    for (uint32_t i = 0; i + 1 < n; i++)
        v[k++] = h->http_filters.v[i];
    v[k++] = http_filter(b, "istio.stats", &stats_PluginConfig_pb, MAKE0(b, stats_PluginConfig));
    v[k++] = h->http_filters.v[n - 1];
    h->http_filters.v = v;
    h->http_filters.n = k;
}

const struct envoy_Filter *
listener_hcm(struct build *b, const struct envoy_HttpConnectionManager *config, bool inbound)
{
    struct envoy_HttpConnectionManager *h = build_copy(b, config, sizeof *h);

    build_tracing(b, h);
    if (b->p->weft)
        add_istio_filters(b, h, inbound);
    return build_filter(b, "envoy.filters.network.http_connection_manager",
                        &envoy_HttpConnectionManager_pb, h);
}

struct envoy_FilterChainMatch *listener_match(struct build *b, uint16_t port, const char *transport,
                                              sv *protocols, uint32_t n)
{
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = sv_of(transport),
             .application_protocols = {.v = protocols, .n = n});
    if (port)
        m->destination_port = build_u32(b, port);
    return m;
}

struct envoy_FilterChainMatch *listener_match_http(struct build *b, uint16_t port)
{
    static sv protocols[] = {SV_INIT("http/1.0"), SV_INIT("http/1.1"), SV_INIT("h2c")};
    return listener_match(b, port, "raw_buffer", protocols, 3);
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
