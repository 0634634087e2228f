/* LDS: the two virtual listeners that interception leads to, and behind the outbound one a listener
 * for each HTTP port and each TCP service address. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mesh/translate/internal.h"

#define ANY SV("0.0.0.0")

static const struct envoy_FilterChain *chain(struct build *b, sv name,
                                             const struct envoy_FilterChainMatch *match,
                                             const struct envoy_TransportSocket *socket,
                                             const struct envoy_Filter *filter)
{
    return MAKE(b, envoy_FilterChain, .name = name, .filter_chain_match = match,
                .transport_socket = socket, .filters = {.v = build_one(b, filter), .n = 1});
}

static const struct envoy_ConfigSource *ads(struct build *b)
{
    return MAKE(b, envoy_ConfigSource, .which_config_source_specifier = envoy_ConfigSource_ads_tag,
                .ads = MAKE0(b, envoy_AggregatedConfigSource),
                .initial_fetch_timeout = build_ms(b, 0),
                .resource_api_version = envoy_ApiVersion_V3);
}

static const struct envoy_Filter *hcm_filter(struct build *b,
                                             const struct envoy_HttpConnectionManager *h)
{
    return build_filter(b, "envoy.filters.network.http_connection_manager",
                        &envoy_HttpConnectionManager_pb, h);
}

/* ---- outbound ---- */

static const struct envoy_Filter *outbound_http(struct build *b, sv stat_prefix, sv route_name)
{
    struct envoy_HttpConnectionManager *h = build_copy(b, b->t->hcm_outbound, sizeof *h);

    h->stat_prefix = stat_prefix;
    h->which_route_specifier = envoy_HttpConnectionManager_rds_tag;
    h->rds = MAKE(b, envoy_Rds, .config_source = ads(b), .route_config_name = route_name);
    return hcm_filter(b, h);
}

static void emit_http_port(struct build *b, uint16_t port)
{
    struct envoy_Listener *l = build_copy(b, b->t->listener_http, sizeof *l);
    sv number = arena_printf(b->a, "%u", port);

    l->name = arena_printf(b->a, "0.0.0.0_%u", port);
    l->address = build_address(b, ANY, port);
    l->filter_chains.v = build_one(
        b, chain(b, (sv){NULL, 0}, NULL, NULL,
                 outbound_http(b, arena_printf(b->a, "outbound_%.*s", SV_ARG(l->name)), number)));
    l->filter_chains.n = 1;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

/* Where TCP to a service goes: its cluster, or what a VirtualService's tcp route says. */
static const struct envoy_Filter *outbound_tcp(struct build *b, const struct model_service *svc,
                                               const struct model_port *port)
{
    const struct model_object *vs = build_virtual(b->m, svc->host, b->p->ns);
    const struct istio_TCPRoute *r = build_tcp_route(b, vs, port->port);
    sv plain = translate_cluster_name(b->a, "outbound", port->port, (sv){NULL, 0}, svc->host);
    struct envoy_TcpProxy *t;
    struct envoy_TcpProxy_WeightedCluster *w;
    const struct envoy_TcpProxy_WeightedCluster_ClusterWeight **list;

    if (!r)
        return build_tcp_proxy(b, plain, plain);
    if (r->route.n == 1) {
        sv to = build_destination(b, r->route.v[0]->destination, vs->ns, port->port);
        return build_tcp_proxy(b, to, to);
    }
    list =
        arena_array(b->a, const struct envoy_TcpProxy_WeightedCluster_ClusterWeight *, r->route.n);
    w = MAKE(b, envoy_TcpProxy_WeightedCluster, .clusters = {.v = list});
    for (uint32_t i = 0; i < r->route.n; i++) {
        if (r->route.v[i]->weight > 0)
            list[w->clusters.n++] =
                MAKE(b, envoy_TcpProxy_WeightedCluster_ClusterWeight,
                     .name = build_destination(b, r->route.v[i]->destination, vs->ns, port->port),
                     .weight = (uint32_t)r->route.v[i]->weight);
    }
    t = MAKE(b, envoy_TcpProxy, .stat_prefix = plain,
             .which_cluster_specifier = envoy_TcpProxy_weighted_clusters_tag,
             .weighted_clusters = w);
    return build_filter(b, "envoy.filters.network.tcp_proxy", &envoy_TcpProxy_pb, t);
}

static const struct envoy_FilterChainMatch *looks_like_http(struct build *b, uint16_t port)
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

static const struct envoy_ListenerFilter *http_inspector(struct build *b)
{
    return inspector(b, "envoy.filters.listener.http_inspector", &envoy_HttpInspector_pb,
                     MAKE0(b, envoy_HttpInspector));
}

static void emit_tcp_port(struct build *b, const struct model_service *svc,
                          const struct model_port *port)
{
    struct envoy_Listener *l = build_copy(b, b->t->listener_tcp, sizeof *l);
    const struct envoy_FilterChain **chains =
        arena_array(b->a, const struct envoy_FilterChain *, 2);
    sv route = arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port->port);

    l->name = arena_printf(b->a, "%.*s_%u", SV_ARG(svc->vip), port->port);
    l->address = build_address(b, svc->vip, port->port);
    if (port->protocol == MODEL_AUTO) {
        const struct envoy_ListenerFilter **filters =
            arena_array(b->a, const struct envoy_ListenerFilter *, 2);
        filters[0] = inspector(b, "envoy.filters.listener.tls_inspector", &envoy_TlsInspector_pb,
                               MAKE0(b, envoy_TlsInspector));
        filters[1] = http_inspector(b);
        l->listener_filters.v = filters;
        l->listener_filters.n = 2;
        chains[l->filter_chains.n++] =
            chain(b, (sv){NULL, 0}, looks_like_http(b, 0), NULL,
                  outbound_http(b, arena_printf(b->a, "outbound_%.*s", SV_ARG(l->name)), route));
    }
    chains[l->filter_chains.n++] = chain(b, (sv){NULL, 0}, NULL, NULL, outbound_tcp(b, svc, port));
    l->filter_chains.v = chains;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

static void emit_virtual_outbound(struct build *b)
{
    struct envoy_Listener *l = build_copy(b, b->t->virtual_outbound, sizeof *l);
    struct envoy_FilterChainMatch *self =
        MAKE(b, envoy_FilterChainMatch, .destination_port = build_u32(b, b->p->outbound_port));
    const struct envoy_FilterChain **chains =
        arena_array(b->a, const struct envoy_FilterChain *, 2);

    /* A connection to the listener's own port would come back to it for ever. */
    chains[0] = chain(b, SV("virtualOutbound-blackhole"), self, NULL,
                      build_tcp_proxy(b, SV("BlackHoleCluster"), SV("BlackHoleCluster")));
    chains[1] = chain(b, SV("virtualOutbound-catchall-tcp"), NULL, NULL,
                      build_tcp_proxy(b, SV("PassthroughCluster"), SV("PassthroughCluster")));
    l->address = build_address(b, ANY, b->p->outbound_port);
    l->filter_chains.v = chains;
    l->filter_chains.n = 2;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

static void emit_outbound(struct build *b)
{
    bool *http = arena_array(b->a, bool, 65536);

    emit_virtual_outbound(b);
    for (uint32_t i = 0; i < b->m->n_services; i++) {
        const struct model_service *svc = b->m->service_list[i];
        if (!build_visible(b, svc))
            continue;
        for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
            const struct model_port *port = &svc->spec->ports[k];
            if (model_protocol_is_http(port->protocol)) {
                if (!http[port->port])
                    emit_http_port(b, port->port);
                http[port->port] = true;
            } else if (port->protocol != MODEL_UDP && svc->vip.n) {
                emit_tcp_port(b, svc, port);
            }
        }
    }
}

/* ---- inbound ---- */

static int by_port(const void *pa, const void *pb)
{
    const struct inbound_port *a = pa, *b = pb;
    return a->port != b->port ? (int)a->port - (int)b->port : sv_cmp(a->svc->host, b->svc->host);
}

uint32_t build_inbound_ports(struct build *b, struct inbound_port **out)
{
    struct inbound_port *v;
    uint32_t n = 0, kept = 0;

    for (uint32_t i = 0; i < b->m->n_services; i++)
        n += b->m->service_list[i]->spec->n_ports;
    v = arena_array(b->a, struct inbound_port, n + 1);
    n = 0;
    for (uint32_t i = 0; i < b->m->n_services; i++) {
        const struct model_service *svc = b->m->service_list[i];
        if (!sv_eq(svc->ns, b->p->ns))
            continue;
        for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
            const struct model_port *port = &svc->spec->ports[k];
            const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port->port);
            for (uint32_t e = 0; eps && e < eps->n && port->protocol != MODEL_UDP; e++) {
                if (sv_eq(eps->v[e].address, b->p->ip))
                    v[n++] = (struct inbound_port){eps->v[e].port, port->protocol, svc, port->port};
            }
        }
    }
    if (n > 1)
        qsort(v, n, sizeof *v, by_port);
    for (uint32_t i = 0; i < n; i++) {
        if (!kept || v[kept - 1].port != v[i].port)
            v[kept++] = v[i];
    }
    *out = v;
    return kept;
}

static const struct envoy_Filter *inbound_http(struct build *b, const struct inbound_port *p,
                                               sv cluster)
{
    struct envoy_HttpConnectionManager *h = build_copy(b, b->t->hcm_inbound, sizeof *h);
    struct envoy_RouteAction *action =
        MAKE(b, envoy_RouteAction, .which_cluster_specifier = envoy_RouteAction_cluster_tag,
             .cluster = cluster, .timeout = build_ms(b, 0));
    struct envoy_RouteMatch *match =
        MAKE(b, envoy_RouteMatch, .which_path_specifier = envoy_RouteMatch_prefix_tag,
             .prefix = SV("/"));
    struct envoy_Route *route = MAKE(b, envoy_Route, .name = SV("default"), .match = match,
                                     .which_action = envoy_Route_route_tag, .route = action);
    sv *star = arena_array(b->a, sv, 1);
    struct envoy_VirtualHost *vh =
        MAKE(b, envoy_VirtualHost, .name = arena_printf(b->a, "inbound|http|%u", p->service_port),
             .domains = {.v = star, .n = 1}, .routes = {.v = build_one(b, route), .n = 1});
    star[0] = SV("*");
    h->stat_prefix = arena_printf(b->a, "inbound_0.0.0.0_%u", p->port);
    h->which_route_specifier = envoy_HttpConnectionManager_route_config_tag;
    h->route_config = MAKE(b, envoy_RouteConfiguration, .name = cluster,
                           .validate_clusters = build_bool(b, false),
                           .virtual_hosts = {.v = build_one(b, vh), .n = 1});
    return hcm_filter(b, h);
}

struct chains {
    const struct envoy_FilterChain **v;
    uint32_t n;
};

static const struct envoy_FilterChainMatch *mesh_tls_match(struct build *b, uint16_t port)
{
    sv *protocols = arena_array(b->a, sv, 5);
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = SV("tls"));

    protocols[0] = SV("istio");
    protocols[1] = SV("istio-peer-exchange");
    protocols[2] = SV("istio-http/1.0");
    protocols[3] = SV("istio-http/1.1");
    protocols[4] = SV("istio-h2");
    m->application_protocols.v = protocols;
    m->application_protocols.n = 5;
    if (port)
        m->destination_port = build_u32(b, port);
    return m;
}

static const struct envoy_FilterChainMatch *transport_match(struct build *b, uint16_t port,
                                                            const char *transport)
{
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = sv_of(transport));
    if (port)
        m->destination_port = build_u32(b, port);
    return m;
}

/* mTLS from the mesh; the application's own TLS passed through; plain text unless it is refused. A
 * port of unknown protocol is HTTP where it looks like it. */
static void add_inbound_port(struct build *b, const struct inbound_port *p, struct chains *out)
{
    sv cluster = translate_cluster_name(b->a, "inbound", p->port, (sv){NULL, 0}, (sv){NULL, 0});
    const struct envoy_Filter *tcp = build_tcp_proxy(b, cluster, cluster), *http = NULL;
    bool is_http = model_protocol_is_http(p->protocol);
    sv name = arena_printf(b->a, "0.0.0.0_%u", p->port);

    if (is_http || p->protocol == MODEL_AUTO)
        http = inbound_http(b, p, cluster);
    out->v[out->n++] = chain(b, name, mesh_tls_match(b, p->port), b->t->tls_downstream,
                             is_http                     ? http
                             : p->protocol == MODEL_AUTO ? http
                                                         : tcp);
    if (b->t->mtls_strict)
        return;
    out->v[out->n++] = chain(b, name, transport_match(b, p->port, "tls"), NULL, tcp);
    if (p->protocol == MODEL_AUTO)
        out->v[out->n++] = chain(b, name, looks_like_http(b, p->port), NULL, http);
    out->v[out->n++] =
        chain(b, name, transport_match(b, p->port, "raw_buffer"), NULL, is_http ? http : tcp);
}

static void emit_inbound(struct build *b)
{
    struct envoy_Listener *l = build_copy(b, b->t->virtual_inbound, sizeof *l);
    struct inbound_port *ports;
    uint32_t n = build_inbound_ports(b, &ports);
    struct chains out = {.v = arena_array(b->a, const struct envoy_FilterChain *, n * 4 + 3)};
    struct envoy_FilterChainMatch *self =
        MAKE(b, envoy_FilterChainMatch, .destination_port = build_u32(b, b->p->inbound_port));
    const struct envoy_Filter *through =
        build_tcp_proxy(b, SV("InboundPassthroughCluster"), SV("InboundPassthroughCluster"));
    bool sniff = false;

    out.v[out.n++] = chain(b, SV("virtualInbound-blackhole"), self, NULL,
                           build_tcp_proxy(b, SV("BlackHoleCluster"), SV("BlackHoleCluster")));
    for (uint32_t i = 0; i < n; i++) {
        add_inbound_port(b, &ports[i], &out);
        sniff |= ports[i].protocol == MODEL_AUTO;
    }
    out.v[out.n++] =
        chain(b, SV("virtualInbound"), mesh_tls_match(b, 0), b->t->tls_downstream, through);
    if (!b->t->mtls_strict)
        out.v[out.n++] = chain(b, SV("virtualInbound-catchall"), NULL, NULL, through);
    if (sniff) {
        const struct envoy_ListenerFilter **filters =
            arena_array(b->a, const struct envoy_ListenerFilter *, l->listener_filters.n + 1);
        memcpy(filters, l->listener_filters.v, l->listener_filters.n * sizeof *filters);
        filters[l->listener_filters.n++] = http_inspector(b);
        l->listener_filters.v = filters;
    }
    l->address = build_address(b, ANY, b->p->inbound_port);
    l->filter_chains.v = out.v;
    l->filter_chains.n = out.n;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

void translate_listeners_outbound(const struct translate *t, const struct model *m,
                                  const struct translate_proxy *p, struct arena *a,
                                  translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    emit_outbound(&b);
}

void translate_listeners_inbound(const struct translate *t, const struct model *m,
                                 const struct translate_proxy *p, struct arena *a,
                                 translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    emit_inbound(&b);
}
