/* RDS of proxyless gRPC clients: the rules that hold for one host and port. */
#include <string.h>
#include "mesh/translate/grpc.h"
#include "mesh/translate/route.h"

struct rules {
    struct grpc_build *g;
    const struct model_service *svc;
    uint16_t port;
    struct route_list out;
};

static void push(struct rules *r, const struct envoy_Route *route)
{
    struct route_list *l = &r->out;

    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 8;
        const struct envoy_Route **v = arena_array(r->g->b.a, const struct envoy_Route *, cap);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = route;
}

/* ---- what gRPC cannot do ---- */

static void field(struct rules *r, const struct route_at *at, const char *name, const char *what)
{
    grpc_report(r->g, at->rule->from,
                arena_printf(r->g->b.a, "spec.http[%u].%s", at->rule->index, name), what);
}

#define FAILS "; calls of this rule fail"

/* False: the rule would do something else without what gRPC leaves out. */
static bool can_forward(struct rules *r, const struct route_at *at)
{
    const struct istio_HTTPRoute *in = at->rule->route;
    bool headers = in->headers != NULL;
    uint64_t weight = 0;
    const struct {
        bool there;
        const char *name, *what;
    } refused[] = {
        {in->redirect != NULL, "redirect", "are not redirected" FAILS},
        {in->direct_response != NULL, "directResponse", "cannot answer themselves" FAILS},
        {in->rewrite != NULL, "rewrite", "cannot rewrite calls" FAILS},
        {in->fault != NULL, "fault", "are given no faults" FAILS}};

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (refused[i].there) {
            field(r, at, refused[i].name, refused[i].what);
            return false;
        }
    }
    for (uint32_t i = 0; i < in->route.n; i++) {
        headers |= in->route.v[i]->headers != NULL;
        weight += in->route.v[i]->weight > 0 ? (uint64_t)in->route.v[i]->weight : 0;
    }
    if (headers)
        field(r, at, "headers", "cannot change headers" FAILS);
    if (in->mirror || in->mirrors.n)
        field(r, at, in->mirror ? "mirror" : "mirrors", "do not mirror calls");
    return !headers && in->route.n && (in->route.n == 1 || weight);
}

/* ---- actions ---- */

/* Of retries gRPC knows the number, the pause and five statuses. */
static const struct envoy_RetryPolicy *retries(struct build *b, const struct istio_HTTPRetry *in,
                                               const struct envoy_RetryPolicy *p)
{
    if (!in || !p || in->attempts <= 0)
        return NULL;
    return MAKE(b, envoy_RetryPolicy, .retry_on = p->retry_on, .num_retries = p->num_retries,
                .retry_back_off = p->retry_back_off);
}

/* Those that gRPC knows: headers. */
static void keep_hash(struct build *b, struct envoy_RouteAction *a,
                      const struct envoy_RouteAction *from)
{
    const struct envoy_RouteAction_HashPolicy **v =
        arena_array(b->a, const struct envoy_RouteAction_HashPolicy *, from->hash_policy.n + 1);

    for (uint32_t i = 0; i < from->hash_policy.n; i++) {
        if (from->hash_policy.v[i]->which_policy_specifier ==
            envoy_RouteAction_HashPolicy_header_tag)
            v[a->hash_policy.n++] = from->hash_policy.v[i];
    }
    a->hash_policy.v = v;
}

/* The part of a sidecar's action that gRPC reads. A rule without a time-out leaves calls the
 * deadline that they have. */
static const struct envoy_RouteAction *action(struct build *b, const struct envoy_RouteAction *from,
                                              const struct istio_HTTPRoute *in)
{
    struct envoy_RouteAction *a =
        MAKE(b, envoy_RouteAction, .which_cluster_specifier = from->which_cluster_specifier,
             .cluster = from->cluster);

    if (from->which_cluster_specifier == envoy_RouteAction_weighted_clusters_tag)
        a->weighted_clusters = from->weighted_clusters;
    if (in && in->timeout)
        a->max_stream_duration =
            MAKE(b, envoy_RouteAction_MaxStreamDuration, .max_stream_duration = in->timeout);
    a->retry_policy = retries(b, in ? in->retries : NULL, from->retry_policy);
    keep_hash(b, a, from);
    return a;
}

/* To where nobody answers. A route that does not forward would say it better, but ends grpc-js. */
static const struct envoy_RouteAction *fail(struct rules *r)
{
    struct build *b = &r->g->b;

    return MAKE(b, envoy_RouteAction, .which_cluster_specifier = envoy_RouteAction_cluster_tag,
                .cluster =
                    translate_cluster_name(b->a, "refused", r->port, (sv){NULL, 0}, r->svc->host));
}

/* ---- rules ---- */

static sv name_of(struct rules *r, const struct route_at *at)
{
    const struct model_http_rule *rule = at->rule;

    return rule->route->name.n
               ? rule->route->name
               : arena_printf(r->g->b.a, "%.*s/%.*s/http[%u]", SV_ARG(rule->from->ns),
                              SV_ARG(rule->from->name), rule->index);
}

/* A route for each way to fit a match; true: nothing passes it by. */
static bool add_match(struct rules *r, const struct route_at *at,
                      const struct istio_HTTPMatchRequest *match, struct envoy_Route route)
{
    struct grpc_matches m;

    if (!grpc_match(r->g, match, r->svc->host, r->port, &m)) {
        /* What it would have taken is not known: nothing that stands behind it may take it. */
        field(r, at, "match.withoutHeaders",
              "match at most four values that headers must not have" FAILS);
        route.route = fail(r);
        route.match = build_route_match(&r->g->b, NULL);
        push(r, build_copy(&r->g->b, &route, sizeof route));
        return true;
    }
    for (uint32_t i = 0; i < m.n; i++) {
        route.match = m.v[i];
        push(r, build_copy(&r->g->b, &route, sizeof route));
        if (m.v[i]->which_path_specifier == envoy_RouteMatch_prefix_tag &&
            (!m.v[i]->prefix.n || sv_eq_c(m.v[i]->prefix, "/")) && !m.v[i]->headers.n)
            return true;
    }
    return false;
}

static bool add_rule(struct rules *r, const struct route_at *at)
{
    struct build *b = &r->g->b;
    const struct istio_HTTPRoute *in = at->rule->route;
    struct envoy_Route route = {.name = name_of(r, at), .which_action = envoy_Route_route_tag};
    bool here = !in->match.n;

    for (uint32_t k = 0; k < in->match.n && !here; k++)
        here = build_match_holds(b, in->match.v[k], r->port);
    if (!here)
        return false;
    route.route = can_forward(r, at) ? action(b, route_forward(b, at, (sv){NULL, 0}), in) : fail(r);
    if (!in->match.n)
        return add_match(r, at, NULL, route);
    for (uint32_t k = 0; k < in->match.n; k++) {
        if (build_match_holds(b, in->match.v[k], r->port) &&
            add_match(r, at, in->match.v[k], route))
            return true;
    }
    return false;
}

/* The first VirtualService that has a rule for clients like this one, as for sidecars. */
static void add_rules(struct rules *r)
{
    struct build *b = &r->g->b;
    struct model_virtual_list l = build_http_virtuals(b, r->svc->host);
    struct envoy_Route *plain;

    for (uint32_t i = 0; i < l.n && !r->out.n; i++) {
        for (uint32_t k = 0; k < l.v[i]->n_http; k++) {
            const struct route_at at = {l.v[i], &l.v[i]->http[k], r->port};
            if (add_rule(r, &at))
                break;
        }
    }
    if (r->out.n)
        return;
    plain = MAKE(b, envoy_Route, .name = SV("default"), .match = build_route_match(b, NULL),
                 .which_action = envoy_Route_route_tag);
    plain->route =
        action(b,
               route_forward_plain(b, translate_cluster_name(b->a, "outbound", r->port,
                                                             (sv){NULL, 0}, r->svc->host)),
               NULL);
    push(r, plain);
}

const struct envoy_RouteConfiguration *
grpc_routes(struct grpc_build *g, const struct model_service *svc, uint16_t port, sv name)
{
    struct build *b = &g->b;
    struct rules r = {.g = g, .svc = svc, .port = port};
    sv *any = arena_array(b->a, sv, 1);
    struct envoy_VirtualHost *h;

    add_rules(&r);
    /* Only the listener of the host leads here, under whatever name it was called. */
    any[0] = SV("*");
    h = MAKE(b, envoy_VirtualHost, .name = arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port),
             .domains = {.v = any, .n = 1}, .routes = {.v = r.out.v, .n = r.out.n});
    return MAKE(b, envoy_RouteConfiguration, .name = name,
                .virtual_hosts = {.v = build_one(b, h), .n = 1});
}
