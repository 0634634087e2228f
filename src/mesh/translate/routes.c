/* RDS: virtual hosts for the services of a port, and Istio's HTTP routes as Envoy's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mesh/translate/internal.h"

/* ---- which VirtualService ---- */

static bool for_mesh(const struct istio_VirtualService *vs)
{
    if (!vs->gateways.n)
        return true;
    for (uint32_t i = 0; i < vs->gateways.n; i++) {
        if (sv_eq_c(vs->gateways.v[i], "mesh"))
            return true;
    }
    return false;
}

static bool usable(const struct model_object *o, sv client_ns)
{
    const struct istio_VirtualService *vs = o->spec;
    return for_mesh(vs) && model_exported_to(vs->export_to.v, vs->export_to.n, o->ns, client_ns);
}

static bool wildcard_matches(sv pattern, sv host)
{
    return pattern.n && pattern.p[0] == '*' && host.n >= pattern.n &&
           sv_ends(host, sv_from(pattern, 1));
}

const struct model_object *build_virtual(const struct model *m, sv host, sv client_ns)
{
    const struct model_list *exact = map_get(&m->virtuals_by_host, host);
    const struct model_object *best = NULL;
    size_t best_len = 0;

    /* Lists and objects are in order of precedence: the first usable one wins. */
    for (uint32_t i = 0; exact && i < exact->n; i++) {
        if (usable(exact->v[i], client_ns))
            return exact->v[i];
    }
    for (uint32_t i = 0; i < m->n_objects[MODEL_VIRTUAL_SERVICE]; i++) {
        const struct model_object *o = m->objects[MODEL_VIRTUAL_SERVICE][i];
        const struct istio_VirtualService *vs = o->spec;
        for (uint32_t h = 0; h < vs->hosts.n; h++) {
            if (wildcard_matches(vs->hosts.v[h], host) && vs->hosts.v[h].n > best_len &&
                usable(o, client_ns)) {
                best = o;
                best_len = vs->hosts.v[h].n;
            }
        }
    }
    return best;
}

/* ---- destinations ---- */

sv build_destination(struct build *b, const struct istio_Destination *d, sv ns,
                     uint16_t default_port)
{
    sv host = model_host_resolve(b->m, d->host, ns, b->a);
    const struct model_service *svc = model_service_find(b->m, host);
    uint16_t port = d->port ? (uint16_t)d->port->number : default_port;

    /* Without a port a service with one port is meant by it. */
    if (!d->port && svc && !build_port(svc, port) && svc->spec->n_ports == 1)
        port = svc->spec->ports[0].port;
    return translate_cluster_name(b->a, "outbound", port, d->subset, host);
}

static bool port_matches(uint32_t want, uint16_t port)
{
    return !want || want == port;
}

const struct istio_TCPRoute *build_tcp_route(struct build *b, const struct model_object *vs,
                                             uint16_t port)
{
    const struct istio_VirtualService *spec = vs ? vs->spec : NULL;

    for (uint32_t i = 0; spec && i < spec->tcp.n; i++) {
        const struct istio_TCPRoute *r = spec->tcp.v[i];
        bool hit = r->match.n == 0;
        for (uint32_t k = 0; k < r->match.n && !hit; k++) {
            const struct istio_L4MatchAttributes *mt = r->match.v[k];
            bool labels = true;
            for (uint32_t s = 0; s < mt->source_labels.n; s++)
                labels &= sv_eq(model_labels_get(b->p->labels, mt->source_labels.v[s]->key),
                                mt->source_labels.v[s]->value);
            hit = port_matches(mt->port, port) && labels &&
                  (!mt->source_namespace.n || sv_eq(mt->source_namespace, b->p->ns));
        }
        if (hit)
            return r;
    }
    return NULL;
}

/* ---- matches ---- */

static const struct envoy_RegexMatcher *regex(struct build *b, sv text)
{
    return MAKE(b, envoy_RegexMatcher, .regex = text);
}

static const struct envoy_StringMatcher *string_matcher(struct build *b,
                                                        const struct istio_StringMatch *s)
{
    struct envoy_StringMatcher *out = MAKE0(b, envoy_StringMatcher);

    switch (s->which_match_type) {
    case istio_StringMatch_exact_tag:
        out->which_match_pattern = envoy_StringMatcher_exact_tag;
        out->exact = s->exact;
        break;
    case istio_StringMatch_prefix_tag:
        out->which_match_pattern = envoy_StringMatcher_prefix_tag;
        out->prefix = s->prefix;
        break;
    default:
        out->which_match_pattern = envoy_StringMatcher_safe_regex_tag;
        out->safe_regex = regex(b, s->regex);
    }
    return out;
}

static bool string_set(const struct istio_StringMatch *s)
{
    if (!s || !s->which_match_type)
        return false;
    return s->which_match_type != istio_StringMatch_prefix_tag || s->prefix.n > 0;
}

static sv lower(struct build *b, sv v)
{
    sv out = arena_sv(b->a, v);
    for (size_t i = 0; i < out.n; i++) {
        char *ch = (char *)out.p + i;
        if (*ch >= 'A' && *ch <= 'Z')
            *ch = (char)(*ch | 0x20);
    }
    return out;
}

/* A header without a value pattern is a header that is present. */
static const struct envoy_HeaderMatcher *header(struct build *b, sv name,
                                                const struct istio_StringMatch *s, bool invert)
{
    struct envoy_HeaderMatcher *h =
        MAKE(b, envoy_HeaderMatcher, .name = lower(b, name), .invert_match = invert);

    if (!s || !s->which_match_type) {
        h->which_header_match_specifier = envoy_HeaderMatcher_present_match_tag;
        h->present_match = true;
        return h;
    }
    h->which_header_match_specifier = envoy_HeaderMatcher_string_match_tag;
    h->string_match = string_matcher(b, s);
    /* withoutHeaders: a header that is absent does not have the value. */
    h->treat_missing_header_as_empty = invert;
    return h;
}

static void match_path(struct build *b, struct envoy_RouteMatch *out,
                       const struct istio_HTTPMatchRequest *in)
{
    const struct istio_StringMatch *uri = in ? in->uri : NULL;

    out->which_path_specifier = envoy_RouteMatch_prefix_tag;
    out->prefix = SV("/");
    if (uri) {
        switch (uri->which_match_type) {
        case istio_StringMatch_exact_tag:
            out->which_path_specifier = envoy_RouteMatch_path_tag;
            out->path = uri->exact;
            break;
        case istio_StringMatch_regex_tag:
            out->which_path_specifier = envoy_RouteMatch_safe_regex_tag;
            out->safe_regex = regex(b, uri->regex);
            break;
        case istio_StringMatch_prefix_tag:
            out->prefix = uri->prefix;
            break;
        }
        if (in->ignore_uri_case && uri->which_match_type != istio_StringMatch_regex_tag)
            out->case_sensitive = build_bool(b, false);
    }
}

static const struct envoy_RouteMatch *route_match(struct build *b,
                                                  const struct istio_HTTPMatchRequest *in)
{
    struct envoy_RouteMatch *out = MAKE0(b, envoy_RouteMatch);
    const struct envoy_HeaderMatcher **headers;
    const struct envoy_QueryParameterMatcher **params;
    uint32_t n = 0;

    match_path(b, out, in);
    if (!in)
        return out;
    headers = arena_array(b->a, const struct envoy_HeaderMatcher *,
                          in->headers.n + in->without_headers.n + 3);
    for (uint32_t i = 0; i < in->headers.n; i++)
        headers[n++] = header(b, in->headers.v[i]->key, in->headers.v[i]->value, false);
    for (uint32_t i = 0; i < in->without_headers.n; i++)
        headers[n++] =
            header(b, in->without_headers.v[i]->key, in->without_headers.v[i]->value, true);
    if (string_set(in->scheme))
        headers[n++] = header(b, SV(":scheme"), in->scheme, false);
    if (string_set(in->method))
        headers[n++] = header(b, SV(":method"), in->method, false);
    if (string_set(in->authority))
        headers[n++] = header(b, SV(":authority"), in->authority, false);
    out->headers.v = headers;
    out->headers.n = n;
    params = arena_array(b->a, const struct envoy_QueryParameterMatcher *, in->query_params.n + 1);
    for (uint32_t i = 0; i < in->query_params.n; i++) {
        const struct istio_StringMatch *s = in->query_params.v[i]->value;
        struct envoy_QueryParameterMatcher *q = MAKE(
            b, envoy_QueryParameterMatcher, .name = in->query_params.v[i]->key,
            .which_query_parameter_match_specifier = envoy_QueryParameterMatcher_present_match_tag,
            .present_match = true);
        if (string_set(s)) {
            q->which_query_parameter_match_specifier = envoy_QueryParameterMatcher_string_match_tag;
            q->string_match = string_matcher(b, s);
        }
        params[i] = q;
    }
    out->query_parameters.v = params;
    out->query_parameters.n = in->query_params.n;
    return out;
}

/* The parts of a match that the control plane decides: where the client is. */
static bool match_holds_here(struct build *b, const struct istio_HTTPMatchRequest *m, uint16_t port)
{
    if (!port_matches(m->port, port))
        return false;
    if (m->source_namespace.n && !sv_eq(m->source_namespace, b->p->ns))
        return false;
    for (uint32_t i = 0; i < m->source_labels.n; i++) {
        if (!sv_eq(model_labels_get(b->p->labels, m->source_labels.v[i]->key),
                   m->source_labels.v[i]->value))
            return false;
    }
    if (!m->gateways.n)
        return true;
    for (uint32_t i = 0; i < m->gateways.n; i++) {
        if (sv_eq_c(m->gateways.v[i], "mesh"))
            return true;
    }
    return false;
}

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
                                .pattern = regex(b, rw->uri_regex_rewrite->match),
                                .substitution = rw->uri_regex_rewrite->rewrite);
    } else if (rw->uri.n) {
        const struct istio_StringMatch *uri = match ? match->uri : NULL;
        if (uri && uri->which_match_type == istio_StringMatch_regex_tag)
            a->regex_rewrite = MAKE(b, envoy_RegexMatchAndSubstitute,
                                    .pattern = regex(b, uri->regex), .substitution = rw->uri);
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
    struct envoy_Route *r = MAKE(b, envoy_Route, .match = route_match(b, match));
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
    push(b, out,
         MAKE(b, envoy_Route, .name = SV("default"), .match = route_match(b, NULL),
              .which_action = envoy_Route_route_tag, .route = a));
}

/* A match that takes everything ends the list: what stands behind it can never be reached. */
static bool takes_everything(const struct istio_HTTPMatchRequest *m)
{
    return !m->headers.n && !m->without_headers.n && !m->query_params.n && !string_set(m->scheme) &&
           !string_set(m->method) && !string_set(m->authority) &&
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
            if (!match_holds_here(b, r->match.v[k], port))
                continue;
            add_route(b, vs, i, r, r->match.v[k], port, out);
            if (takes_everything(r->match.v[k]))
                return;
        }
    }
}

/* ---- virtual hosts ---- */

/* All forms under which the host is known here: a.b.svc.cluster.local, a.b.svc, a.b, a (in its own
 * namespace), and the address. Ports are ignored when matching. */
static uint32_t domains_of(struct build *b, const struct model_service *svc, sv *out)
{
    uint32_t n = 0;

    out[n++] = svc->host;
    if (sv_eq(svc->ns, b->p->ns))
        out[n++] = svc->name;
    out[n++] = arena_printf(b->a, "%.*s.%.*s", SV_ARG(svc->name), SV_ARG(svc->ns));
    out[n++] = arena_printf(b->a, "%.*s.%.*s.svc", SV_ARG(svc->name), SV_ARG(svc->ns));
    if (svc->vip.n)
        out[n++] =
            sv_find(svc->vip, ':') >= 0 ? arena_printf(b->a, "[%.*s]", SV_ARG(svc->vip)) : svc->vip;
    return n;
}

static const struct envoy_VirtualHost *virtual_host(struct build *b, struct map *taken,
                                                    const struct model_service *svc, uint16_t port)
{
    const struct model_object *vs = build_virtual(b->m, svc->host, b->p->ns);
    struct route_list routes = {0};
    sv *domains = arena_array(b->a, sv, 8), candidates[8];
    uint32_t n = domains_of(b, svc, candidates), kept = 0;

    /* Two addresses alike, or a service called as another one's short form: the first keeps it. */
    for (uint32_t i = 0; i < n; i++) {
        if (map_has(taken, candidates[i]))
            continue;
        map_put(taken, candidates[i], domains);
        domains[kept++] = candidates[i];
    }
    build_http_routes(b, vs, svc, port, &routes);
    return MAKE(b, envoy_VirtualHost,
                .name = arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port),
                .domains = {.v = domains, .n = kept}, .routes = {.v = routes.v, .n = routes.n},
                .include_request_attempt_count = true);
}

/* Whatever no service claims goes where it was going. */
static const struct envoy_VirtualHost *allow_any(struct build *b)
{
    struct envoy_RouteAction *a =
        MAKE(b, envoy_RouteAction, .which_cluster_specifier = envoy_RouteAction_cluster_tag,
             .cluster = SV("PassthroughCluster"), .timeout = build_ms(b, 0));
    struct envoy_Route *r =
        MAKE(b, envoy_Route, .name = SV("allow_any"), .match = route_match(b, NULL),
             .which_action = envoy_Route_route_tag, .route = a);
    sv *star = arena_array(b->a, sv, 1);
    star[0] = SV("*");
    return MAKE(b, envoy_VirtualHost, .name = SV("allow_any"), .domains = {.v = star, .n = 1},
                .routes = {.v = build_one(b, r), .n = 1}, .include_request_attempt_count = true);
}

struct hosts {
    const struct envoy_VirtualHost **v;
    uint32_t n;
};

static void hosts_of_port(struct build *b, uint16_t port, const struct model_service *only,
                          struct map *taken, struct hosts *out)
{
    for (uint32_t i = 0; i < b->m->n_services; i++) {
        const struct model_service *svc = b->m->service_list[i];
        const struct model_port *p = build_port(svc, port);
        if (!p || !build_visible(b, svc) || (only && only != svc))
            continue;
        if (model_protocol_is_http(p->protocol) || (only && p->protocol == MODEL_AUTO))
            out->v[out->n++] = virtual_host(b, taken, svc, port);
    }
}

bool translate_routes(const struct translate *t, const struct model *m,
                      const struct translate_proxy *p, sv name, struct arena *a, sv *packed)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a};
    struct hosts hosts = {.v = arena_array(a, const struct envoy_VirtualHost *, m->n_services + 1)};
    const struct model_service *only = NULL;
    struct envoy_RouteConfiguration rc = {.name = name, .ignore_port_in_host_matching = true};
    struct map taken;
    sv port_text = name;
    ptrdiff_t colon = sv_rfind(name, ':');
    uint64_t port;

    if (colon >= 0) {
        only = model_service_find(m, sv_first(name, (size_t)colon));
        port_text = sv_from(name, (size_t)colon + 1);
        if (!only)
            return false;
    }
    if (sv_to_u64(port_text, &port) || port > 65535)
        return false;
    map_init_borrow(&taken);
    hosts_of_port(&b, (uint16_t)port, only, &taken, &hosts);
    map_fini(&taken);
    if (!hosts.n)
        return false;
    hosts.v[hosts.n++] = allow_any(&b);
    rc.virtual_hosts.v = hosts.v;
    rc.virtual_hosts.n = hosts.n;
    rc.validate_clusters = build_bool(&b, false);
    *packed = pb_encode_arena(&envoy_RouteConfiguration_pb, &rc, a);
    return true;
}
