/* Rules of VirtualServices for TCP and for TLS that is passed through, as filter chains.
 *
 * What a match says of port, gateway and client is decided here; subnets and server names stay for
 * the proxy, where the most specific one wins whatever the order of the rules. */
#include <string.h>
#include "mesh/translate/internal.h"

bool build_is_tls(enum model_protocol p)
{
    return p == MODEL_TLS || p == MODEL_HTTPS;
}

struct l4_list {
    struct l4_chain *v;
    uint32_t n, cap;
};

static void add(struct build *b, struct l4_list *l, struct l4_chain c)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 4;
        struct l4_chain *v = arena_array(b->a, struct l4_chain, cap);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = c;
}

/* ---- where to ---- */

static const struct envoy_Filter *to_cluster(struct build *b, sv cluster)
{
    struct envoy_TcpProxy *t =
        MAKE(b, envoy_TcpProxy, .stat_prefix = cluster,
             .which_cluster_specifier = envoy_TcpProxy_cluster_tag, .cluster = cluster);

    build_tcp_policy(b, t, cluster);
    build_tcp_tunnel(b, t, cluster, false);
    return build_tcp_filter(b, t);
}

static const struct envoy_Filter *to_route(struct build *b, const struct model_object *vs,
                                           const struct istio_RouteDestination **route, uint32_t n,
                                           uint16_t port)
{
    const struct envoy_TcpProxy_WeightedCluster_ClusterWeight **list;
    struct envoy_TcpProxy_WeightedCluster *w;
    struct envoy_TcpProxy *t;

    if (n == 1)
        return to_cluster(b, build_destination(b, route[0]->destination, vs->ns, port));
    list = arena_array(b->a, const struct envoy_TcpProxy_WeightedCluster_ClusterWeight *, n);
    w = MAKE(b, envoy_TcpProxy_WeightedCluster, .clusters = {.v = list});
    t = MAKE(b, envoy_TcpProxy,
             .stat_prefix = arena_printf(b->a, "%.*s.%.*s", SV_ARG(vs->name), SV_ARG(vs->ns)),
             .which_cluster_specifier = envoy_TcpProxy_weighted_clusters_tag,
             .weighted_clusters = w);
    for (uint32_t i = 0; i < n; i++) {
        sv to = build_destination(b, route[i]->destination, vs->ns, port);
        if (route[i]->weight <= 0)
            continue;
        list[w->clusters.n++] = MAKE(b, envoy_TcpProxy_WeightedCluster_ClusterWeight, .name = to,
                                     .weight = (uint32_t)route[i]->weight);
        build_tcp_policy(b, t, to);
    }
    build_tcp_tunnel(b, t, build_destination(b, route[0]->destination, vs->ns, port), true);
    return build_tcp_filter(b, t);
}

static const struct envoy_Filter *to_service(struct build *b, const struct model_service *svc,
                                             uint16_t port)
{
    return to_cluster(b, translate_cluster_name(b->a, "outbound", port, (sv){NULL, 0}, svc->host));
}

/* ---- the rules ---- */

/* "0.0.0.0/0" and "::/0" ask for nothing. */
static bool everything(sv cidr)
{
    return sv_ends(cidr, SV("/0"));
}

static bool any_everything(const sv *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (everything(v[i]))
            return true;
    }
    return false;
}

/* True when what was added takes every connection. */
static bool add_tcp_rules(struct build *b, const struct model_virtual *v, uint16_t port,
                          struct l4_list *out)
{
    for (uint32_t i = 0; i < v->spec->tcp.n; i++) {
        const struct istio_TCPRoute *r = v->spec->tcp.v[i];
        const struct envoy_Filter *f = NULL;
        for (uint32_t k = 0; k < r->match.n || (k == 0 && !r->match.n); k++) {
            const struct istio_L4MatchAttributes *m = r->match.n ? r->match.v[k] : NULL;
            if (m && !BUILD_HOLDS_HERE(b, m, port))
                continue;
            struct l4_chain c = {0};
            if (!f)
                f = to_route(b, v->object, r->route.v, r->route.n, port);
            c.filter = f;
            if (m && !any_everything(m->destination_subnets.v, m->destination_subnets.n)) {
                c.cidrs = m->destination_subnets.v;
                c.n_cidrs = m->destination_subnets.n;
            }
            if (m && !everything(m->source_subnet))
                c.source = m->source_subnet;
            add(b, out, c);
            if (!c.n_cidrs && !c.source.n)
                return true;
        }
    }
    return false;
}

static void add_tls_rules(struct build *b, const struct model_virtual *v, uint16_t port,
                          struct l4_list *out)
{
    for (uint32_t i = 0; i < v->spec->tls.n; i++) {
        const struct istio_TLSRoute *r = v->spec->tls.v[i];
        for (uint32_t k = 0; k < r->match.n; k++) {
            const struct istio_TLSMatchAttributes *m = r->match.v[k];
            if (!BUILD_HOLDS_HERE(b, m, port))
                continue;
            add(b, out,
                (struct l4_chain){.cidrs = m->destination_subnets.v,
                                  .n_cidrs = m->destination_subnets.n,
                                  .sni = m->sni_hosts.v,
                                  .n_sni = m->sni_hosts.n,
                                  .filter = to_route(b, v->object, r->route.v, r->route.n, port)});
        }
    }
}

uint32_t build_l4_chains(struct build *b, const struct model_service *svc,
                         const struct model_port *port, struct l4_chain **out)
{
    struct model_virtual_list l = build_virtuals(b, svc->host);
    struct l4_list chains = {0};
    bool all = false;

    for (uint32_t i = 0; i < l.n && !all; i++) {
        if (build_is_tls(port->protocol))
            add_tls_rules(b, l.v[i], port->port, &chains);
        else
            all = add_tcp_rules(b, l.v[i], port->port, &chains);
    }
    if (!chains.n || (!all && !build_is_tls(port->protocol)))
        add(b, &chains, (struct l4_chain){.filter = to_service(b, svc, port->port)});
    *out = chains.v;
    return chains.n;
}
