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
#include "base/strbuf.h"
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
    return listener_hcm(b, h, false);
}

static const struct envoy_CidrRange *range(struct build *b, sv cidr)
{
    sv ip, bits;
    uint64_t n = 0;

    if (!sv_cut(cidr, '/', &ip, &bits) || sv_to_u64(bits, &n))
        n = sv_find(ip, ':') >= 0 ? 128 : 32;
    return MAKE(b, envoy_CidrRange, .address_prefix = ip, .prefix_len = build_u32(b, (uint32_t)n));
}

/* ---- chains of one listener ---- */

struct chain_list {
    const struct envoy_FilterChain **v;
    uint32_t n, cap;
    struct map taken; /* "range|source|server name" of TCP and TLS chains: the first keeps it */
    bool sni;         /* some chain asks for a server name */
};

static void add_chain(struct build *b, struct chain_list *l, const struct envoy_FilterChain *c)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 4;
        const struct envoy_FilterChain **v =
            arena_array(b->a, const struct envoy_FilterChain *, cap);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = c;
}

static void add_match(struct build *b, struct chain_list *l, sv name, const sv *cidrs,
                      uint32_t n_cidrs, sv source, const sv *sni, uint32_t n_sni,
                      const struct envoy_Filter *filter)
{
    const struct envoy_CidrRange **list =
        arena_array(b->a, const struct envoy_CidrRange *, n_cidrs + 1);
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .prefix_ranges = {.v = list, .n = n_cidrs},
             .server_names = {.v = (sv *)sni, .n = n_sni});

    for (uint32_t i = 0; i < n_cidrs; i++)
        list[i] = range(b, cidrs[i]);
    if (source.n) {
        m->source_prefix_ranges.v = build_one(b, range(b, source));
        m->source_prefix_ranges.n = 1;
    }
    if (n_sni) {
        m->transport_protocol = SV("tls");
        l->sni = true;
    }
    add_chain(b, l, listener_chain(b, name, n_cidrs || n_sni || source.n ? m : NULL, NULL, filter));
}

/* What each pair of a range and a server name is called; false when another chain has it. */
static bool take(struct build *b, struct chain_list *l, sv cidr, sv source, sv sni)
{
    const sv parts[] = {cidr, source, sni};
    struct strbuf key;
    bool mine;

    strbuf_init(&key, 1024);
    for (size_t i = 0; i < 3; i++) {
        strbuf_add_sv(&key, parts[i]);
        strbuf_add_ch(&key, '|');
    }
    mine = !map_has(&l->taken, strbuf_sv(&key));
    if (mine)
        map_put(&l->taken, arena_sv(b->a, strbuf_sv(&key)), l);
    strbuf_fini(&key);
    return mine;
}

/* One chain, or, where others have part of what it would take, one for each pair that is left. */
static void add_l4(struct build *b, struct chain_list *l, sv name, const struct l4_chain *c)
{
    uint32_t nc = c->n_cidrs ? c->n_cidrs : 1, ns = c->n_sni ? c->n_sni : 1, left = 0;
    bool *mine = arena_array(b->a, bool, (size_t)nc *ns);

    for (uint32_t i = 0; i < nc * ns; i++) {
        mine[i] = take(b, l, c->n_cidrs ? c->cidrs[i / ns] : (sv){NULL, 0}, c->source,
                       c->n_sni ? c->sni[i % ns] : (sv){NULL, 0});
        left += mine[i];
    }
    if (left == nc * ns) {
        add_match(b, l, name, c->cidrs, c->n_cidrs, c->source, c->sni, c->n_sni, c->filter);
        return;
    }
    for (uint32_t i = 0; i < nc * ns; i++) {
        if (mine[i])
            add_match(b, l, name, c->n_cidrs ? &c->cidrs[i / ns] : NULL, c->n_cidrs ? 1 : 0,
                      c->source, c->n_sni ? &c->sni[i % ns] : NULL, c->n_sni ? 1 : 0, c->filter);
    }
}

/* The chains of a service's port; ranges and server name hold where a rule does not say its own. */
static void add_service_chains(struct build *b, struct chain_list *l,
                               const struct model_service *svc, const struct model_port *port,
                               const sv *cidrs, uint32_t n_cidrs, bool by_name)
{
    struct l4_chain *v;
    uint32_t n = build_l4_chains(b, svc, port, &v);

    for (uint32_t i = 0; i < n; i++) {
        if (!v[i].n_cidrs) {
            v[i].cidrs = cidrs;
            v[i].n_cidrs = n_cidrs;
        }
        if (!v[i].n_sni && by_name) {
            v[i].sni = &svc->host;
            v[i].n_sni = 1;
        }
        add_l4(b, l, by_name || n_cidrs ? svc->host : (sv){NULL, 0}, &v[i]);
    }
}

static const struct envoy_FilterChain *passthrough_chain(struct build *b,
                                                         const struct envoy_FilterChainMatch *match)
{
    return listener_chain(b, SV("PassthroughFilterChain"), match, NULL,
                          build_tcp_proxy(b, build_elsewhere(b), build_elsewhere(b)));
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

/* What asks for nothing stands apart: proxies look for the most specific chain one criterion after
 * the other and do not come back to it, so that a connection which fits another one half would be
 * lost. */
static void set_chains(struct envoy_Listener *l, struct chain_list *chains)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < chains->n; i++) {
        if (chains->n > 1 && !chains->v[i]->filter_chain_match && !l->default_filter_chain)
            l->default_filter_chain = chains->v[i];
        else
            chains->v[n++] = chains->v[i];
    }
    l->filter_chains.v = chains->v;
    l->filter_chains.n = n;
}

/* A service's port at an address. Several services may have it: the older one stands first. */
struct claim {
    const struct model_service *svc;
    const struct model_port *port;
    struct claim *next;
};
struct claims {
    struct map by_name; /* "ADDRESS_PORT" -> struct claim */
    struct address {
        sv ip, name;
    } * v; /* each once, in order */
    uint32_t n, cap;
};

static void claim(struct build *b, struct claims *l, const struct model_service *svc,
                  const struct model_port *port, sv ip)
{
    sv name = arena_printf(b->a, "%.*s_%u", SV_ARG(ip), port->port);
    struct claim *c = MAKE(b, claim, .svc = svc, .port = port), *first = map_get(&l->by_name, name);
    struct claim **at = &first;

    if (!first && l->n == l->cap) {
        struct address *v = arena_array(b->a, struct address, l->cap ? l->cap * 2 : 16);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->cap = l->cap ? l->cap * 2 : 16;
        l->v = v;
    }
    if (!first)
        l->v[l->n++] = (struct address){ip, name};
    while (*at && !build_older(svc, (*at)->svc))
        at = &(*at)->next;
    c->next = *at;
    *at = c;
    map_put(&l->by_name, name, first);
}

static void add_sniffed(struct build *b, struct chain_list *l, const struct claim *c, sv listener)
{
    sv route = arena_printf(b->a, "%.*s:%u", SV_ARG(c->svc->host), c->port->port);

    add_chain(b, l,
              listener_chain(
                  b, (sv){NULL, 0}, listener_match_http(b, 0), NULL,
                  outbound_http(b, arena_printf(b->a, "outbound_%.*s", SV_ARG(listener)), route)));
}

/* TLS to an address that is several services' goes by the server name; the rest is the oldest's. */
static void emit_address(struct build *b, const struct address *at, const struct claim *first)
{
    struct envoy_Listener *l = build_copy(b, b->t->listener_tcp, sizeof *l);
    struct chain_list chains = {0};
    const struct claim *rest = NULL;
    bool sniffed;

    map_init_borrow(&chains.taken);
    l->name = at->name;
    l->address = build_address(b, at->ip, first->port->port);
    for (const struct claim *c = first; c; c = c->next) {
        if (first->next && build_is_tls(c->port->protocol))
            add_service_chains(b, &chains, c->svc, c->port, NULL, 0, true);
        else if (!rest)
            rest = c;
    }
    sniffed = rest && rest->port->protocol == MODEL_AUTO;
    if (sniffed)
        add_sniffed(b, &chains, rest, l->name);
    if (rest)
        add_service_chains(b, &chains, rest->svc, rest->port, NULL, 0, false);
    /* Names that no rule has go where they were going. */
    if (chains.sni && take(b, &chains, SV(""), SV(""), SV("")))
        add_chain(b, &chains, passthrough_chain(b, NULL));
    set_inspectors(b, l, chains.sni, sniffed);
    /* The client of TLS speaks first, however long it takes. */
    if (!rest || build_is_tls(rest->port->protocol))
        l->listener_filters_timeout = build_ms(b, 0);
    set_chains(l, &chains);
    map_fini(&chains.taken);
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

/* ---- 0.0.0.0_PORT ---- */

struct wildcard {
    uint16_t port;
    bool http, sniff_http;
    struct chain_list chains;
    const struct model_service *tcp; /* takes what nothing else claims */
    const struct model_port *tcp_port;
};

/* Ranges, with the server name where it is TLS: other hosts may share them. */
static void add_ranges(struct build *b, struct wildcard *w, const struct model_service *svc,
                       const struct model_port *port)
{
    const struct envoy_CidrRange **list =
        arena_array(b->a, const struct envoy_CidrRange *, svc->n_cidrs + 1);
    struct envoy_FilterChainMatch *http;

    if (port->protocol == MODEL_AUTO) {
        for (uint32_t i = 0; i < svc->n_cidrs; i++)
            list[i] = range(b, svc->cidrs[i]);
        http = listener_match_http(b, 0);
        http->prefix_ranges.v = list;
        http->prefix_ranges.n = svc->n_cidrs;
        w->sniff_http = true;
        add_chain(b, &w->chains,
                  listener_chain(
                      b, svc->host, http, NULL,
                      outbound_http(b, SV("outbound"),
                                    arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port->port))));
    }
    add_service_chains(b, &w->chains, svc, port, svc->cidrs, svc->n_cidrs,
                       build_is_tls(port->protocol));
}

/* Pods of a headless service are called by their addresses: those that have a sidecar over mTLS,
 * the others as they were called, also where nobody else is. */
static void add_pods(struct build *b, struct wildcard *w, const struct model_service *svc,
                     const struct model_port *port, bool mtls)
{
    const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port->port);
    const struct envoy_CidrRange **list =
        arena_array(b->a, const struct envoy_CidrRange *, (eps ? eps->n : 0) + 1);
    struct envoy_FilterChainMatch *m =
        MAKE(b, envoy_FilterChainMatch, .prefix_ranges = {.v = list});
    bool any = build_pods(b, svc, port);
    sv cluster = mtls ? build_pods_cluster(b, svc, port->port) : SV("PassthroughCluster");
    struct envoy_TcpProxy *t =
        MAKE(b, envoy_TcpProxy, .stat_prefix = cluster,
             .which_cluster_specifier = envoy_TcpProxy_cluster_tag, .cluster = cluster);

    for (uint32_t i = 0; eps && i < eps->n; i++) {
        const struct model_endpoint *e = &eps->v[i];
        if ((any && e->tls) == mtls && e->port == port->port &&
            take(b, &w->chains, e->address, SV(""), SV("")))
            list[m->prefix_ranges.n++] = range(b, e->address);
    }
    if (!m->prefix_ranges.n)
        return;
    build_tcp_policy(
        b, t, translate_cluster_name(b->a, "outbound", port->port, (sv){NULL, 0}, svc->host));
    add_chain(b, &w->chains, listener_chain(b, svc->host, m, NULL, build_tcp_filter(b, t)));
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
        add_pods(b, w, svc, port, true);
        add_pods(b, w, svc, port, false);
        return;
    }
    if (!build_on_wildcard(b, svc))
        return;
    if (build_is_tls(port->protocol)) {
        add_service_chains(b, &w->chains, svc, port, NULL, 0, true);
        return;
    }
    if (port->protocol == MODEL_AUTO)
        w->http = w->sniff_http = true;
    if (!w->tcp || build_older(svc, w->tcp)) {
        w->tcp = svc;
        w->tcp_port = port;
    }
}

/* TLS of a name that nobody has named is no business of what stands beside it. */
static void add_passthrough(struct build *b, struct wildcard *w)
{
    struct envoy_FilterChainMatch *tls =
        MAKE(b, envoy_FilterChainMatch, .transport_protocol = SV("tls"));

    if (!w->tcp && (!w->http || w->chains.sni))
        add_chain(b, &w->chains, passthrough_chain(b, w->http ? tls : NULL));
}

static void emit_wildcard(struct build *b, struct wildcard *w)
{
    struct envoy_Listener *l;
    sv number = arena_printf(b->a, "%u", w->port);
    bool other = w->chains.n || w->tcp;

    if (!w->http && !other)
        return;
    l = build_copy(b, other ? b->t->listener_tcp : b->t->listener_http, sizeof *l);
    l->name = arena_printf(b->a, "0.0.0.0_%u", w->port);
    l->address = build_address(b, LISTENER_ANY, w->port);
    if (w->http) {
        bool sniffed = w->tcp != NULL;
        w->sniff_http |= sniffed;
        add_chain(
            b, &w->chains,
            listener_chain(
                b, (sv){NULL, 0}, sniffed ? listener_match_http(b, 0) : NULL, NULL,
                outbound_http(b, arena_printf(b->a, "outbound_%.*s", SV_ARG(l->name)), number)));
    }
    if (w->tcp)
        add_service_chains(b, &w->chains, w->tcp, w->tcp_port, NULL, 0, false);
    add_passthrough(b, w);
    set_inspectors(b, l, w->chains.sni, w->sniff_http);
    set_chains(l, &w->chains);
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
    chains[1] = listener_chain(b, SV("virtualOutbound-catchall-tcp"), NULL, NULL,
                               build_tcp_proxy(b, build_elsewhere(b), build_elsewhere(b)));
    l->address = build_address(b, LISTENER_ANY, b->p->outbound_port);
    l->filter_chains.v = chains;
    l->filter_chains.n = 2;
    build_emit(b, l->name, &envoy_Listener_pb, l);
}

static void claim_addresses(struct build *b, struct claims *claims, const struct model_service *svc,
                            const struct model_port *port)
{
    if (model_protocol_is_http(port->protocol))
        return;
    for (uint32_t i = 0; i < svc->n_addresses; i++)
        claim(b, claims, svc, port, svc->addresses[i]);
    if (!svc->n_addresses && svc->vip.n && !build_on_wildcard(b, svc))
        claim(b, claims, svc, port, svc->vip);
}

static void emit_outbound(struct build *b)
{
    struct wildcard **ports = arena_array(b->a, struct wildcard *, 65536);
    struct claims claims = {0};

    map_init_borrow(&claims.by_name);
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
            claim_addresses(b, &claims, svc, port);
            if (!*w) {
                *w = MAKE(b, wildcard, .port = port->port);
                map_init_borrow(&(*w)->chains.taken);
            }
            add_service(b, *w, svc, port);
        }
    }
    for (uint32_t i = 0; i < claims.n; i++)
        emit_address(b, &claims.v[i], map_get(&claims.by_name, claims.v[i].name));
    map_fini(&claims.by_name);
    for (uint32_t i = 0; i < 65536; i++) {
        if (!ports[i])
            continue;
        emit_wildcard(b, ports[i]);
        map_fini(&ports[i]->chains.taken);
    }
}

void translate_listeners_outbound(const struct translate *t, const struct model *m,
                                  const struct translate_proxy *p, struct arena *a,
                                  translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    emit_outbound(&b);
}
