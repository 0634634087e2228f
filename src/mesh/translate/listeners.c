/* LDS, inbound: the listener that interception leads connections to the workload through. */
#include <stdlib.h>
#include <string.h>
#include "mesh/translate/listener.h"

/* ---- inbound ---- */

static int by_port(const void *pa, const void *pb)
{
    const struct inbound_port *a = pa, *b = pb;

    if (a->port != b->port)
        return (int)a->port - (int)b->port;
    if (a->svc != b->svc)
        return build_older(a->svc, b->svc) ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* Ports of a service at the proxy's own address; only counted when v is NULL. */
static uint32_t own_ports(struct build *b, const struct model_service *svc, struct inbound_port *v)
{
    uint32_t n = 0;

    if (!sv_eq(svc->ns, b->p->ns) || svc->mesh_external)
        return 0;
    for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
        const struct model_port *port = &svc->spec->ports[k];
        const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port->port);
        for (uint32_t e = 0; eps && e < eps->n && port->protocol != MODEL_UDP; e++) {
            if (!sv_eq(eps->v[e].address, b->p->ip))
                continue;
            if (v)
                v[n] = (struct inbound_port){eps->v[e].port, port->protocol, svc, port->port, k};
            n++;
        }
    }
    return n;
}

uint32_t build_inbound_ports(struct build *b, struct inbound_port **out)
{
    struct inbound_port *v;
    uint32_t n = 0, kept = 0;

    for (uint32_t i = 0; i < b->m->n_services; i++)
        n += own_ports(b, b->m->service_list[i], NULL);
    v = arena_array(b->a, struct inbound_port, n + 1);
    n = 0;
    for (uint32_t i = 0; i < b->m->n_services; i++)
        n += own_ports(b, b->m->service_list[i], v + n);
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
    struct envoy_Route *route =
        MAKE(b, envoy_Route, .name = SV("default"), .match = match,
             .which_action = envoy_Route_route_tag, .route = action,
             .decorator = build_operation(b, p->svc->host, p->service_port, SV("/*")));
    sv *star = arena_array(b->a, sv, 1);
    struct envoy_VirtualHost *vh =
        MAKE(b, envoy_VirtualHost, .name = arena_printf(b->a, "inbound|http|%u", p->service_port),
             .domains = {.v = star, .n = 1}, .routes = {.v = build_one(b, route), .n = 1});
    star[0] = SV("*");
    /* Between sidecars only: a proxy that does not read them must not pass them on either. */
    sv *peer_headers = arena_array(b->a, sv, 2);
    peer_headers[0] = SV("x-envoy-peer-metadata");
    peer_headers[1] = SV("x-envoy-peer-metadata-id");
    h->stat_prefix = arena_printf(b->a, "inbound_0.0.0.0_%u", p->port);
    h->which_route_specifier = envoy_HttpConnectionManager_route_config_tag;
    h->route_config = MAKE(b, envoy_RouteConfiguration, .name = cluster,
                           .validate_clusters = build_bool(b, false),
                           .virtual_hosts = {.v = build_one(b, vh), .n = 1},
                           .request_headers_to_remove = {peer_headers, 2});
    return listener_hcm(b, h, true);
}

struct chains {
    const struct envoy_FilterChain **v;
    uint32_t n;
};

static const struct envoy_FilterChainMatch *mesh_tls_match(struct build *b, uint16_t port)
{
    static sv protocols[] = {SV_INIT("istio"), SV_INIT("istio-peer-exchange"),
                             SV_INIT("istio-http/1.0"), SV_INIT("istio-http/1.1"),
                             SV_INIT("istio-h2")};
    return listener_match(b, port, "tls", protocols, 5);
}

static const struct envoy_FilterChainMatch *transport_match(struct build *b, uint16_t port,
                                                            const char *transport)
{
    return listener_match(b, port, transport, NULL, 0);
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
    out->v[out->n++] = listener_chain(b, name, mesh_tls_match(b, p->port), b->t->tls_downstream,
                                      is_http                     ? http
                                      : p->protocol == MODEL_AUTO ? http
                                                                  : tcp);
    if (b->t->mtls_strict)
        return;
    out->v[out->n++] = listener_chain(b, name, transport_match(b, p->port, "tls"), NULL, tcp);
    if (p->protocol == MODEL_AUTO)
        out->v[out->n++] = listener_chain(b, name, listener_match_http(b, p->port), NULL, http);
    out->v[out->n++] = listener_chain(b, name, transport_match(b, p->port, "raw_buffer"), NULL,
                                      is_http ? http : tcp);
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

    out.v[out.n++] =
        listener_chain(b, SV("virtualInbound-blackhole"), self, NULL,
                       build_tcp_proxy(b, SV("BlackHoleCluster"), SV("BlackHoleCluster")));
    for (uint32_t i = 0; i < n; i++) {
        add_inbound_port(b, &ports[i], &out);
        sniff |= ports[i].protocol == MODEL_AUTO;
    }
    out.v[out.n++] = listener_chain(b, SV("virtualInbound"), mesh_tls_match(b, 0),
                                    b->t->tls_downstream, through);
    if (!b->t->mtls_strict)
        out.v[out.n++] = listener_chain(b, SV("virtualInbound-catchall"), NULL, NULL, through);
    if (sniff) {
        const struct envoy_ListenerFilter **filters =
            arena_array(b->a, const struct envoy_ListenerFilter *, l->listener_filters.n + 1);
        memcpy(filters, l->listener_filters.v, l->listener_filters.n * sizeof *filters);
        filters[l->listener_filters.n++] = listener_http_inspector(b);
        l->listener_filters.v = filters;
    }
    l->address = build_address(b, LISTENER_ANY, b->p->inbound_port);
    l->filter_chains.v = out.v;
    l->filter_chains.n = out.n;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

void translate_listeners_inbound(const struct translate *t, const struct model *m,
                                 const struct translate_proxy *p, struct arena *a,
                                 translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    emit_inbound(&b);
}
