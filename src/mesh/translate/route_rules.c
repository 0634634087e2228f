/* The rules of a VirtualService: a route for each match of each rule, in order. */
#include <string.h>
#include "mesh/translate/route.h"

static void push(struct build *b, struct route_list *l, const struct envoy_Route *r)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 8;
        const struct envoy_Route **v = arena_array(b->a, const struct envoy_Route *, cap);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = r;
}

/* Which object and rule decided, for logs and `weft explain`; also as Istio's metadata. */
static const struct envoy_Metadata *origin(struct build *b, const struct model_object *vs)
{
    sv where =
        arena_printf(b->a, "/apis/networking.istio.io/v1/namespaces/%.*s/virtual-service/%.*s",
                     SV_ARG(vs->ns), SV_ARG(vs->name));
    struct envoy_Metadata_FilterMetadataEntry *e =
        MAKE(b, envoy_Metadata_FilterMetadataEntry, .key = SV("istio"),
             .value = build_struct1(b, SV("config"), where));
    return MAKE(b, envoy_Metadata, .filter_metadata = {.v = build_one(b, e), .n = 1});
}

/* "RULE" or "RULE.MATCH" as in Istio; a rule without a name is called by its place. */
static sv name_of(struct build *b, const struct model_http_rule *rule,
                  const struct istio_HTTPMatchRequest *match)
{
    sv name = rule->route->name;

    if (!name.n)
        name = arena_printf(b->a, "%.*s/%.*s/http[%u]", SV_ARG(rule->from->ns),
                            SV_ARG(rule->from->name), rule->index);
    return match && match->name.n
               ? arena_printf(b->a, "%.*s.%.*s", SV_ARG(name), SV_ARG(match->name))
               : name;
}

static void add_route(struct build *b, const struct route_at *at,
                      const struct istio_HTTPMatchRequest *match, struct route_list *out)
{
    const struct istio_HTTPRoute *in = at->rule->route;
    struct route_headers h = route_headers(
        b, in->headers,
        in->route.n == 1 && !in->redirect && !in->direct_response ? in->route.v[0]->headers : NULL);
    struct envoy_Route *r = MAKE(b, envoy_Route, .match = build_route_match(b, match),
                                 .name = name_of(b, at->rule, match),
                                 .stat_prefix = match ? match->stat_prefix : (sv){NULL, 0},
                                 .metadata = origin(b, at->vs->object));

    ROUTE_PUT_HEADERS(r, &h);
    if (in->redirect) {
        r->which_action = envoy_Route_redirect_tag;
        r->redirect = route_redirect(b, in->redirect, at->port);
    } else if (in->direct_response) {
        r->which_action = envoy_Route_direct_response_tag;
        r->direct_response = route_direct(b, in->direct_response);
    } else {
        r->which_action = envoy_Route_route_tag;
        r->route = route_forward(b, at, h.authority);
    }
    r->decorator = build_route_operation(b, r, at->vs->object->name, at->port);
    route_filters(b, in, r);
    push(b, out, r);
}

/* A match that takes everything ends the list: what stands behind it can never be reached. */
bool build_takes_everything(const struct istio_HTTPMatchRequest *m)
{
    return !m->headers.n && !m->without_headers.n && !m->query_params.n &&
           !build_string_set(m->scheme) && !build_string_set(m->method) &&
           !build_string_set(m->authority) &&
           (!m->uri || !m->uri->which_match_type ||
            (m->uri->which_match_type == istio_StringMatch_prefix_tag &&
             (!m->uri->prefix.n || sv_eq_c(m->uri->prefix, "/"))));
}

bool build_http_routes(struct build *b, const struct model_virtual *vs, uint16_t port,
                       struct route_list *out)
{
    for (uint32_t i = 0; i < vs->n_http; i++) {
        const struct route_at at = {vs, &vs->http[i], port};
        const struct istio_HTTPRoute *r = vs->http[i].route;
        if (!r->match.n) {
            add_route(b, &at, NULL, out);
            return true;
        }
        for (uint32_t k = 0; k < r->match.n; k++) {
            if (!build_match_holds(b, r->match.v[k], port))
                continue;
            add_route(b, &at, r->match.v[k], out);
            if (build_takes_everything(r->match.v[k]))
                return true;
        }
    }
    return out->n > 0;
}

void build_default_route(struct build *b, sv cluster, struct route_list *out)
{
    struct envoy_Route *r =
        MAKE(b, envoy_Route, .name = SV("default"), .match = build_route_match(b, NULL),
             .which_action = envoy_Route_route_tag, .route = route_forward_plain(b, cluster));
    r->decorator = build_route_operation(b, r, (sv){NULL, 0}, 0);
    push(b, out, r);
}
