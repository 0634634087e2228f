/* What a rule does: routes, their actions and header operations. */
#include <string.h>
#include "mesh/translate/internal.h"

/* ---- header operations ---- */

struct operations {
    const struct envoy_HeaderValueOption **add;
    uint32_t n_add;
    sv *remove;
    uint32_t n_remove;
    sv authority; /* "host" or ":authority" that was set */
};

static void add_operation(struct build *b, struct operations *o, sv key, sv value,
                          enum envoy_HeaderValueOption_HeaderAppendAction action)
{
    struct envoy_HeaderValue *h = MAKE(b, envoy_HeaderValue, .key = key, .value = value);
    o->add[o->n_add++] = MAKE(b, envoy_HeaderValueOption, .header = h, .append_action = action);
}

static struct operations operations(struct build *b,
                                    const struct istio_Headers_HeaderOperations *in)
{
    struct operations o = {0};

    if (!in)
        return o;
    o.add = arena_array(b->a, const struct envoy_HeaderValueOption *, in->set.n + in->add.n + 1);
    for (uint32_t i = 0; i < in->set.n; i++) {
        if (sv_eq_icase(in->set.v[i]->key, SV("host")) ||
            sv_eq_icase(in->set.v[i]->key, SV(":authority"))) {
            o.authority = in->set.v[i]->value;
            continue;
        }
        add_operation(b, &o, in->set.v[i]->key, in->set.v[i]->value,
                      envoy_HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD);
    }
    for (uint32_t i = 0; i < in->add.n; i++)
        add_operation(b, &o, in->add.v[i]->key, in->add.v[i]->value,
                      envoy_HeaderValueOption_APPEND_IF_EXISTS_OR_ADD);
    o.remove = in->remove.v;
    o.n_remove = in->remove.n;
    return o;
}

/* Both structs have the same four lists under the same names. */
#define APPLY_HEADERS(b, out, headers)                                                             \
    do {                                                                                           \
        struct operations rq_ = operations((b), (headers) ? (headers)->request : NULL);            \
        struct operations rs_ = operations((b), (headers) ? (headers)->response : NULL);           \
        (out)->request_headers_to_add.v = rq_.add;                                                 \
        (out)->request_headers_to_add.n = rq_.n_add;                                               \
        (out)->request_headers_to_remove.v = rq_.remove;                                           \
        (out)->request_headers_to_remove.n = rq_.n_remove;                                         \
        (out)->response_headers_to_add.v = rs_.add;                                                \
        (out)->response_headers_to_add.n = rs_.n_add;                                              \
        (out)->response_headers_to_remove.v = rs_.remove;                                          \
        (out)->response_headers_to_remove.n = rs_.n_remove;                                        \
        authority_ = rq_.authority;                                                                \
    } while (0)

/* ---- actions ---- */

static const struct envoy_RetryPolicy *retries(struct build *b, const struct istio_HTTPRetry *in,
                                               const struct envoy_RetryPolicy *dflt)
{
    struct envoy_RetryPolicy *out;
    uint32_t *codes, n = 0;
    sv list, item;
    struct strbuf on;

    if (!in)
        return dflt;
    if (in->attempts == 0)
        return NULL;
    out = build_copy(b, dflt, sizeof *out);
    out->num_retries = build_u32(b, (uint32_t)in->attempts);
    out->per_try_timeout = in->per_try_timeout;
    if (in->retry_ignore_previous_hosts && !in->retry_ignore_previous_hosts->value)
        out->retry_host_predicate.n = 0;
    if (in->backoff)
        out->retry_back_off = MAKE(b, envoy_RetryPolicy_RetryBackOff, .base_interval = in->backoff);
    if (!in->retry_on.n)
        return out;
    /* Numbers among the conditions are status codes. */
    strbuf_init(&on, 4096);
    codes = arena_array(b->a, uint32_t, in->retry_on.n + 1);
    for (list = in->retry_on; list.n;) {
        uint64_t code;
        sv_cut(list, ',', &item, &list);
        item = sv_trim(item);
        if (sv_to_u64(item, &code) == 0 && code >= 100 && code <= 599)
            codes[n++] = (uint32_t)code;
        else if (item.n)
            strbuf_addf(&on, "%s%.*s", on.n ? "," : "", SV_ARG(item));
    }
    if (n && sv_find_sv(strbuf_sv(&on), SV("retriable-status-codes")) < 0)
        strbuf_addf(&on, "%sretriable-status-codes", on.n ? "," : "");
    out->retry_on = arena_sv(b->a, strbuf_sv(&on));
    out->retriable_status_codes.v = codes;
    out->retriable_status_codes.n = n;
    strbuf_fini(&on);
    return out;
}

static const struct envoy_RuntimeFractionalPercent *percent(struct build *b, double value)
{
    struct envoy_FractionalPercent *f =
        MAKE(b, envoy_FractionalPercent, .numerator = (uint32_t)(value * 10000.0 + 0.5),
             .denominator = envoy_FractionalPercent_MILLION);
    return MAKE(b, envoy_RuntimeFractionalPercent, .default_value = f);
}

static void mirror_to(struct build *b, const struct envoy_RouteAction_RequestMirrorPolicy **list,
                      uint32_t *n, const struct istio_Destination *d,
                      const struct istio_Percent *share, const struct google_UInt32Value *old_share,
                      sv ns, uint16_t port)
{
    double value = share ? share->value : old_share ? (double)old_share->value : 100.0;

    if (value > 0)
        list[(*n)++] = MAKE(b, envoy_RouteAction_RequestMirrorPolicy,
                            .cluster = build_destination(b, d, ns, port),
                            .runtime_fraction = percent(b, value));
}

static void apply_mirrors(struct build *b, struct envoy_RouteAction *a,
                          const struct istio_HTTPRoute *in, sv ns, uint16_t port)
{
    const struct envoy_RouteAction_RequestMirrorPolicy **list =
        arena_array(b->a, const struct envoy_RouteAction_RequestMirrorPolicy *, in->mirrors.n + 1);
    uint32_t n = 0;

    if (in->mirror)
        mirror_to(b, list, &n, in->mirror, in->mirror_percentage, in->mirror_percent, ns, port);
    for (uint32_t i = 0; i < in->mirrors.n; i++)
        mirror_to(b, list, &n, in->mirrors.v[i]->destination, in->mirrors.v[i]->percentage, NULL,
                  ns, port);
    a->request_mirror_policies.v = list;
    a->request_mirror_policies.n = n;
}

static void set_host_rewrite(struct envoy_RouteAction *a, sv authority)
{
    if (!authority.n)
        return;
    a->which_host_rewrite_specifier = envoy_RouteAction_host_rewrite_literal_tag;
    a->host_rewrite_literal = authority;
}

static void apply_rewrite(struct build *b, struct envoy_RouteAction *a,
                          const struct istio_HTTPRewrite *rw,
                          const struct istio_HTTPMatchRequest *match)
{
    if (!rw)
        return;
    if (rw->uri_regex_rewrite) {
        a->regex_rewrite = MAKE(b, envoy_RegexMatchAndSubstitute,
                                .pattern = build_regex(b, rw->uri_regex_rewrite->match),
                                .substitution = rw->uri_regex_rewrite->rewrite);
    } else if (rw->uri.n) {
        const struct istio_StringMatch *uri = match ? match->uri : NULL;
        if (uri && uri->which_match_type == istio_StringMatch_regex_tag)
            a->regex_rewrite = MAKE(b, envoy_RegexMatchAndSubstitute,
                                    .pattern = build_regex(b, uri->regex), .substitution = rw->uri);
        else
            a->prefix_rewrite = rw->uri;
    }
    set_host_rewrite(a, rw->authority);
}

static const struct envoy_RouteAction *route_action(struct build *b,
                                                    const struct istio_HTTPRoute *in,
                                                    const struct istio_HTTPMatchRequest *match,
                                                    sv ns, uint16_t port, sv authority)
{
    struct envoy_RouteAction *a = build_copy(b, b->t->route_action, sizeof *a);
    const struct envoy_WeightedCluster_ClusterWeight **list;
    struct envoy_WeightedCluster *w;
    sv authority_;

    if (in->timeout)
        a->timeout = in->timeout;
    a->retry_policy = retries(b, in->retries, a->retry_policy);
    apply_rewrite(b, a, in->rewrite, match);
    if (!a->which_host_rewrite_specifier)
        set_host_rewrite(a, authority);
    apply_mirrors(b, a, in, ns, port);
    if (in->route.n == 1 && !in->route.v[0]->headers) {
        a->which_cluster_specifier = envoy_RouteAction_cluster_tag;
        a->cluster = build_destination(b, in->route.v[0]->destination, ns, port);
        build_hash(b, a, a->cluster);
        return a;
    }
    list = arena_array(b->a, const struct envoy_WeightedCluster_ClusterWeight *, in->route.n);
    w = MAKE(b, envoy_WeightedCluster, .clusters = {.v = list});
    for (uint32_t i = 0; i < in->route.n; i++) {
        const struct istio_HTTPRouteDestination *d = in->route.v[i];
        struct envoy_WeightedCluster_ClusterWeight *c;
        uint32_t weight = in->route.n == 1 ? 100 : (uint32_t)d->weight;
        if (!weight)
            continue;
        c = MAKE(b, envoy_WeightedCluster_ClusterWeight,
                 .name = build_destination(b, d->destination, ns, port),
                 .weight = build_u32(b, weight));
        APPLY_HEADERS(b, c, d->headers);
        if (authority_.n) {
            c->which_host_rewrite_specifier =
                envoy_WeightedCluster_ClusterWeight_host_rewrite_literal_tag;
            c->host_rewrite_literal = authority_;
        }
        list[w->clusters.n++] = c;
        build_hash(b, a, c->name);
    }
    a->which_cluster_specifier = envoy_RouteAction_weighted_clusters_tag;
    a->weighted_clusters = w;
    return a;
}

static const struct envoy_RedirectAction *redirect(struct build *b,
                                                   const struct istio_HTTPRedirect *in)
{
    struct envoy_RedirectAction *r = MAKE(b, envoy_RedirectAction, .host_redirect = in->authority);

    if (in->uri.n) {
        r->which_path_rewrite_specifier = envoy_RedirectAction_path_redirect_tag;
        r->path_redirect = in->uri;
    } else if (in->prefix_rewrite.n) {
        r->which_path_rewrite_specifier = envoy_RedirectAction_prefix_rewrite_tag;
        r->prefix_rewrite = in->prefix_rewrite;
    }
    if (in->scheme.n) {
        r->which_scheme_rewrite_specifier = envoy_RedirectAction_scheme_redirect_tag;
        r->scheme_redirect = in->scheme;
    }
    if (in->which_redirect_port == istio_HTTPRedirect_port_tag)
        r->port_redirect = in->port;
    switch (in->redirect_code) {
    case 302:
        r->response_code = envoy_RedirectAction_FOUND;
        break;
    case 303:
        r->response_code = envoy_RedirectAction_SEE_OTHER;
        break;
    case 307:
        r->response_code = envoy_RedirectAction_TEMPORARY_REDIRECT;
        break;
    case 308:
        r->response_code = envoy_RedirectAction_PERMANENT_REDIRECT;
        break;
    default:
        r->response_code = envoy_RedirectAction_MOVED_PERMANENTLY;
    }
    return r;
}

static const struct envoy_DirectResponseAction *direct(struct build *b,
                                                       const struct istio_HTTPDirectResponse *in)
{
    struct envoy_DirectResponseAction *d =
        MAKE(b, envoy_DirectResponseAction, .status = in->status);

    if (in->body && in->body->which_specifier) {
        bool text = in->body->which_specifier == istio_HTTPBody_string_tag;
        d->body = MAKE(b, envoy_DataSource,
                       .which_specifier = text ? envoy_DataSource_inline_string_tag
                                               : envoy_DataSource_inline_bytes_tag,
                       .inline_string = in->body->string, .inline_bytes = in->body->bytes);
    }
    return d;
}

/* ---- routes ---- */

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

static void add_route(struct build *b, const struct model_object *vs, uint32_t index,
                      const struct istio_HTTPRoute *in, const struct istio_HTTPMatchRequest *match,
                      uint16_t port, struct route_list *out)
{
    struct envoy_Route *r = MAKE(b, envoy_Route, .match = build_route_match(b, match));
    sv authority_ = {NULL, 0};

    r->name = in->name.n ? in->name
                         : arena_printf(b->a, "%.*s/%.*s/http[%u]", SV_ARG(vs->ns),
                                        SV_ARG(vs->name), index);
    if (in->name.n && match && match->name.n)
        r->name = arena_printf(b->a, "%.*s.%.*s", SV_ARG(in->name), SV_ARG(match->name));
    r->metadata = origin(b, vs);
    APPLY_HEADERS(b, r, in->headers);
    if (in->redirect) {
        r->which_action = envoy_Route_redirect_tag;
        r->redirect = redirect(b, in->redirect);
    } else if (in->direct_response) {
        r->which_action = envoy_Route_direct_response_tag;
        r->direct_response = direct(b, in->direct_response);
    } else {
        r->which_action = envoy_Route_route_tag;
        r->route = route_action(b, in, match, vs->ns, port, authority_);
    }
    push(b, out, r);
}

static void add_default(struct build *b, const struct model_service *svc, uint16_t port,
                        struct route_list *out)
{
    struct envoy_RouteAction *a = build_copy(b, b->t->route_action, sizeof *a);

    a->which_cluster_specifier = envoy_RouteAction_cluster_tag;
    a->cluster = translate_cluster_name(b->a, "outbound", port, (sv){NULL, 0}, svc->host);
    build_hash(b, a, a->cluster);
    push(b, out,
         MAKE(b, envoy_Route, .name = SV("default"), .match = build_route_match(b, NULL),
              .which_action = envoy_Route_route_tag, .route = a));
}

/* A match that takes everything ends the list: what stands behind it can never be reached. */
static bool takes_everything(const struct istio_HTTPMatchRequest *m)
{
    return !m->headers.n && !m->without_headers.n && !m->query_params.n &&
           !build_string_set(m->scheme) && !build_string_set(m->method) &&
           !build_string_set(m->authority) &&
           (!m->uri || !m->uri->which_match_type ||
            (m->uri->which_match_type == istio_StringMatch_prefix_tag &&
             (!m->uri->prefix.n || sv_eq_c(m->uri->prefix, "/"))));
}

void build_http_routes(struct build *b, const struct model_object *vs,
                       const struct model_service *svc, uint16_t port, struct route_list *out)
{
    const struct istio_VirtualService *spec = vs ? vs->spec : NULL;

    if (!spec || !spec->http.n) {
        add_default(b, svc, port, out);
        return;
    }
    for (uint32_t i = 0; i < spec->http.n; i++) {
        const struct istio_HTTPRoute *r = spec->http.v[i];
        if (!r->match.n) {
            add_route(b, vs, i, r, NULL, port, out);
            return;
        }
        for (uint32_t k = 0; k < r->match.n; k++) {
            if (!build_match_holds(b, r->match.v[k], port))
                continue;
            add_route(b, vs, i, r, r->match.v[k], port, out);
            if (takes_everything(r->match.v[k]))
                return;
        }
    }
}
