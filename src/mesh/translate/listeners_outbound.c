/* LDS, outbound: behind the virtual listener that interception leads to, a listener for each port.
 *
 *   ADDRESS_PORT   of each address of a TCP service that has one: its only chain leads there
 *   0.0.0.0_PORT   everything else of the port, told apart by chains:
 *                    destination in a range, or a pod of a headless service
 *                    server name (TLS and HTTPS services without an address)
 *                    HTTP (by the route configuration "PORT")
 *                    the one TCP service without an address, else where it was going
 *
 * A chain's criteria are looked at in this order, so that the more special one wins. */
#include <string.h>
#include "mesh/translate/listener.h"

static const struct envoy_ConfigSource *ads(struct build *b)
{
    return MAKE(b, envoy_ConfigSource, .which_config_source_specifier = envoy_ConfigSource_ads_tag,
                .ads = MAKE0(b, envoy_AggregatedConfigSource),
                .initial_fetch_timeout = build_ms(b, 0),
                .resource_api_version = envoy_ApiVersion_V3);
}

static const struct envoy_Filter *outbound_http(struct build *b, sv stat_prefix, sv route_name)
{
    struct envoy_HttpConnectionManager *h = build_copy(b, b->t->hcm_outbound, sizeof *h);

    h->stat_prefix = stat_prefix;
    h->which_route_specifier = envoy_HttpConnectionManager_rds_tag;
    h->rds = MAKE(b, envoy_Rds, .config_source = ads(b), .route_config_name = route_name);
    return listener_hcm(b, h);
}

/* Where TCP to a service goes: its cluster, or what a VirtualService's tcp route says. */
static const struct envoy_Filter *outbound_tcp(struct build *b, const struct model_service *svc,
                                               const struct model_port *port)
{
    const struct model_object *vs = build_virtual(b->m, svc->host, b->p->ns);
    const struct istio_TCPRoute *r = build_tcp_route(b, vs, port->port);
    sv plain = translate_cluster_name(b->a, "outbound", port->port, (sv){NULL, 0}, svc->host);
    struct envoy_TcpProxy *t =
        MAKE(b, envoy_TcpProxy, .stat_prefix = plain,
             .which_cluster_specifier = envoy_TcpProxy_cluster_tag, .cluster = plain);
    struct envoy_TcpProxy_WeightedCluster *w;
    const struct envoy_TcpProxy_WeightedCluster_ClusterWeight **list;

    if (r && r->route.n == 1)
        t->stat_prefix = t->cluster =
            build_destination(b, r->route.v[0]->destination, vs->ns, port->port);
    if (!r || r->route.n == 1) {
        build_tcp_policy(b, t, t->cluster);
        return build_tcp_filter(b, t);
    }
    list =
        arena_array(b->a, const struct envoy_TcpProxy_WeightedCluster_ClusterWeight *, r->route.n);
    w = MAKE(b, envoy_TcpProxy_WeightedCluster, .clusters = {.v = list});
    for (uint32_t i = 0; i < r->route.n; i++) {
        sv to = build_destination(b, r->route.v[i]->destination, vs->ns, port->port);
        if (r->route.v[i]->weight <= 0)
            continue;
        list[w->clusters.n++] = MAKE(b, envoy_TcpProxy_WeightedCluster_ClusterWeight, .name = to,
                                     .weight = (uint32_t)r->route.v[i]->weight);
        build_tcp_policy(b, t, to);
    }
    t->cluster = (sv){NULL, 0};
    t->which_cluster_specifier = envoy_TcpProxy_weighted_clusters_tag;
    t->weighted_clusters = w;
    return build_tcp_filter(b, t);
}

/* ---- listeners of one address ---- */

static void set_inspectors(struct build *b, struct envoy_Listener *l, bool tls, bool http)
{
    const struct envoy_ListenerFilter **filters =
        arena_array(b->a, const struct envoy_ListenerFilter *, 2);
    uint32_t n = 0;

    if (tls || http)
        filters[n++] = listener_tls_inspector(b);
    if (http)
        filters[n++] = listener_http_inspector(b);
    l->listener_filters.v = filters;
    l->listener_filters.n = n;
}

static void emit_address(struct build *b, const struct model_service *svc,
                         const struct model_port *port, sv address)
{
    struct envoy_Listener *l = build_copy(b, b->t->listener_tcp, sizeof *l);
    const struct envoy_FilterChain **chains =
        arena_array(b->a, const struct envoy_FilterChain *, 2);
    sv route = arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port->port);

    l->name = arena_printf(b->a, "%.*s_%u", SV_ARG(address), port->port);
    l->address = build_address(b, address, port->port);
    if (port->protocol == MODEL_AUTO) {
        set_inspectors(b, l, true, true);
        chains[l->filter_chains.n++] = listener_chain(
            b, (sv){NULL, 0}, listener_match_http(b, 0), NULL,
            outbound_http(b, arena_printf(b->a, "outbound_%.*s", SV_ARG(l->name)), route));
    }
    chains[l->filter_chains.n++] =
        listener_chain(b, (sv){NULL, 0}, NULL, NULL, outbound_tcp(b, svc, port));
    l->filter_chains.v = chains;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

/* ---- 0.0.0.0_PORT ---- */

struct wildcard {
    uint16_t port;
    bool http, sniff_http, sniff_tls;
    const struct envoy_FilterChain **chains;
    uint32_t n, cap;
    const struct model_service *tcp; /* takes what nothing else claims */
    const struct model_port *tcp_port;
};

static void add_chain(struct build *b, struct wildcard *w, const struct envoy_FilterChain *c)
{
    if (w->n == w->cap) {
        uint32_t cap = w->cap ? w->cap * 2 : 4;
        const struct envoy_FilterChain **v =
            arena_array(b->a, const struct envoy_FilterChain *, cap);
        if (w->n)
            memcpy(v, w->chains, w->n * sizeof *v);
        w->chains = v;
        w->cap = cap;
    }
    w->chains[w->n++] = c;
}

static const struct envoy_CidrRange *range(struct build *b, sv cidr)
{
    sv ip, bits;
    uint64_t n = 0;

    if (!sv_cut(cidr, '/', &ip, &bits) || sv_to_u64(bits, &n))
        n = sv_find(ip, ':') >= 0 ? 128 : 32;
    return MAKE(b, envoy_CidrRange, .address_prefix = ip, .prefix_len = build_u32(b, (uint32_t)n));
}

static bool is_tls(enum model_protocol p)
{
    return p == MODEL_TLS || p == MODEL_HTTPS;
}

/* Ranges, with the server name where it is TLS: other hosts may share them. */
static void add_ranges(struct build *b, struct wildcard *w, const struct model_service *svc,
                       const struct model_port *port)
{
    const struct envoy_CidrRange **list =
        arena_array(b->a, const struct envoy_CidrRange *, svc->n_cidrs + 1);
    struct envoy_FilterChainMatch *m = MAKE(b, envoy_FilterChainMatch,
                                            .prefix_ranges = {.v = list, .n = svc->n_cidrs}),
                                  *http;

    for (uint32_t i = 0; i < svc->n_cidrs; i++)
        list[i] = range(b, svc->cidrs[i]);
    if (is_tls(port->protocol)) {
        w->sniff_tls = true;
        m->transport_protocol = SV("tls");
        m->server_names.v = (sv *)&svc->host;
        m->server_names.n = 1;
    }
    if (port->protocol == MODEL_AUTO) {
        http = listener_match_http(b, 0);
        http->prefix_ranges = m->prefix_ranges;
        w->sniff_http = true;
        add_chain(b, w,
                  listener_chain(
                      b, svc->host, http, NULL,
                      outbound_http(b, SV("outbound"),
                                    arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port->port))));
    }
    add_chain(b, w, listener_chain(b, svc->host, m, NULL, outbound_tcp(b, svc, port)));
}

static void add_server_name(struct build *b, struct wildcard *w, const struct model_service *svc,
                            const struct model_port *port)
{
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = SV("tls"),
             .server_names = {.v = (sv *)&svc->host, .n = 1});

    w->sniff_tls = true;
    add_chain(b, w, listener_chain(b, svc->host, m, NULL, outbound_tcp(b, svc, port)));
}

/* Pods of a headless service are called by their addresses: those that have a sidecar over mTLS;
 * to the others the way is open anyhow. */
static void add_pods(struct build *b, struct wildcard *w, const struct model_service *svc,
                     const struct model_port *port)
{
    const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port->port);
    const struct envoy_CidrRange **list =
        arena_array(b->a, const struct envoy_CidrRange *, (eps ? eps->n : 0) + 1);
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .prefix_ranges = {.v = list});
    sv cluster = build_pods_cluster(b, svc, port->port);
    struct envoy_TcpProxy *t =
        MAKE(b, envoy_TcpProxy, .stat_prefix = cluster,
             .which_cluster_specifier = envoy_TcpProxy_cluster_tag, .cluster = cluster);

    for (uint32_t i = 0; eps && i < eps->n; i++) {
        if (eps->v[i].tls && eps->v[i].port == port->port)
            list[m->prefix_ranges.n++] = range(b, eps->v[i].address);
    }
    if (!m->prefix_ranges.n || !build_pods(b, svc, port))
        return;
    build_tcp_policy(
        b, t, translate_cluster_name(b->a, "outbound", port->port, (sv){NULL, 0}, svc->host));
    add_chain(b, w, listener_chain(b, svc->host, m, NULL, build_tcp_filter(b, t)));
}

static void add_service(struct build *b, struct wildcard *w, const struct model_service *svc,
                        const struct model_port *port)
{
    if (model_protocol_is_http(port->protocol)) {
        w->http = true;
        return;
    }
    if (svc->n_cidrs)
        add_ranges(b, w, svc, port);
    if (svc->spec->headless && !svc->entry) {
        add_pods(b, w, svc, port);
        return;
    }
    if (!build_on_wildcard(b, svc))
        return;
    if (is_tls(port->protocol)) {
        add_server_name(b, w, svc, port);
        return;
    }
    if (port->protocol == MODEL_AUTO)
        w->http = w->sniff_http = true;
    if (!w->tcp) {
        w->tcp = svc;
        w->tcp_port = port;
    }
}

/* TLS of a name that nobody has named is no business of what stands beside it. */
static void add_passthrough(struct build *b, struct wildcard *w)
{
    struct envoy_FilterChainMatch *tls =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = SV("tls"));

    if (w->tcp || (w->http && !w->sniff_tls))
        return;
    add_chain(
        b, w,
        listener_chain(b, SV("PassthroughFilterChain"), w->http ? tls : NULL, NULL,
                       build_tcp_proxy(b, SV("PassthroughCluster"), SV("PassthroughCluster"))));
}

static void emit_wildcard(struct build *b, struct wildcard *w)
{
    struct envoy_Listener *l;
    sv number = arena_printf(b->a, "%u", w->port);
    bool other = w->n || w->tcp;

    if (!w->http && !other)
        return;
    l = build_copy(b, other ? b->t->listener_tcp : b->t->listener_http, sizeof *l);
    l->name = arena_printf(b->a, "0.0.0.0_%u", w->port);
    l->address = build_address(b, LISTENER_ANY, w->port);
    if (w->http) {
        bool sniffed = w->tcp != NULL;
        w->sniff_http |= sniffed;
        add_chain(
            b, w,
            listener_chain(
                b, (sv){NULL, 0}, sniffed ? listener_match_http(b, 0) : NULL, NULL,
                outbound_http(b, arena_printf(b->a, "outbound_%.*s", SV_ARG(l->name)), number)));
    }
    if (w->tcp)
        add_chain(
            b, w,
            listener_chain(b, (sv){NULL, 0}, NULL, NULL, outbound_tcp(b, w->tcp, w->tcp_port)));
    add_passthrough(b, w);
    set_inspectors(b, l, w->sniff_tls, w->sniff_http);
    l->filter_chains.v = w->chains;
    l->filter_chains.n = w->n;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

/* ---- all ---- */

static void emit_virtual_outbound(struct build *b)
{
    struct envoy_Listener *l = build_copy(b, b->t->virtual_outbound, sizeof *l);
    struct envoy_FilterChainMatch *self =
        MAKE(b, envoy_FilterChainMatch, .destination_port = build_u32(b, b->p->outbound_port));
    const struct envoy_FilterChain **chains =
        arena_array(b->a, const struct envoy_FilterChain *, 2);

    /* A connection to the listener's own port would come back to it for ever. */
    chains[0] = listener_chain(b, SV("virtualOutbound-blackhole"), self, NULL,
                               build_tcp_proxy(b, SV("BlackHoleCluster"), SV("BlackHoleCluster")));
    chains[1] =
        listener_chain(b, SV("virtualOutbound-catchall-tcp"), NULL, NULL,
                       build_tcp_proxy(b, SV("PassthroughCluster"), SV("PassthroughCluster")));
    l->address = build_address(b, LISTENER_ANY, b->p->outbound_port);
    l->filter_chains.v = chains;
    l->filter_chains.n = 2;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

static void emit_addresses(struct build *b, const struct model_service *svc,
                           const struct model_port *port)
{
    if (port->protocol == MODEL_UDP || model_protocol_is_http(port->protocol))
        return;
    for (uint32_t i = 0; i < svc->n_addresses; i++)
        emit_address(b, svc, port, svc->addresses[i]);
    if (!svc->n_addresses && svc->vip.n && !build_on_wildcard(b, svc))
        emit_address(b, svc, port, svc->vip);
}

static void emit_outbound(struct build *b)
{
    struct wildcard **ports = arena_array(b->a, struct wildcard *, 65536);

    emit_virtual_outbound(b);
    for (uint32_t i = 0; i < b->m->n_services; i++) {
        const struct model_service *svc = b->m->service_list[i];
        if (!build_visible(b, svc))
            continue;
        for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
            const struct model_port *port = &svc->spec->ports[k];
            struct wildcard **w = &ports[port->port];
            if (port->protocol == MODEL_UDP)
                continue;
            emit_addresses(b, svc, port);
            if (!*w)
                *w = MAKE(b, wildcard, .port = port->port);
            add_service(b, *w, svc, port);
        }
    }
    for (uint32_t i = 0; i < 65536; i++) {
        if (ports[i])
            emit_wildcard(b, ports[i]);
    }
}

void translate_listeners_outbound(const struct translate *t, const struct model *m,
                                  const struct translate_proxy *p, struct arena *a,
                                  translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    emit_outbound(&b);
}
