/* A route: its match and everything around its action. */
#include "api/google.pb.h"
#include "route/route_int.h"

int route_build_headers(struct route_builder *b, const struct envoy_HeaderMatcher *const *v,
                        uint32_t n, const char *field, const struct header_match **out)
{
    struct header_match *h = arena_array(b->a, struct header_match, n);
    for (uint32_t i = 0; i < n; i++) {
        int rc = header_match_build(v[i], "", b->a, &h[i], b->err);
        if (rc != 0) {
            error_prefix(b->err, ".%s[%u]", field, i);
            return rc;
        }
    }
    *out = h;
    return 0;
}

static int build_separated(struct route_builder *b, sv prefix)
{
    if (prefix.n < 2 || prefix.p[0] != '/' || prefix.p[prefix.n - 1] == '/' ||
        sv_find(prefix, '?') >= 0 || sv_find(prefix, '#') >= 0)
        return error_set(b->err, E_INVALID,
                         ".path_separated_prefix: '%.*s' must start with '/', not end with it, and "
                         "have no '?' or '#'",
                         SV_ARG(prefix));
    return 0;
}

static int build_path(struct route_builder *b, const struct envoy_RouteMatch *m,
                      struct route_path_match *p)
{
    p->ignore_case = m->case_sensitive && !m->case_sensitive->value;
    int rc = 0;
    switch (m->which_path_specifier) {
    case envoy_RouteMatch_prefix_tag:
        p->kind = PATH_PREFIX;
        p->text = m->prefix;
        break;
    case envoy_RouteMatch_path_tag:
        p->kind = PATH_EXACT;
        p->text = m->path;
        break;
    case envoy_RouteMatch_safe_regex_tag:
        p->kind = PATH_REGEX;
        rc = route_regex_build(m->safe_regex, ".safe_regex", b->a, &p->regex, b->err);
        break;
    case envoy_RouteMatch_connect_matcher_tag:
        p->kind = PATH_CONNECT;
        break;
    case envoy_RouteMatch_path_separated_prefix_tag:
        p->kind = PATH_SEPARATED;
        p->text = m->path_separated_prefix;
        rc = build_separated(b, p->text);
        break;
    default:
        return error_set(b->err, E_INVALID,
                         ": one of prefix, path, safe_regex, connect_matcher, "
                         "path_separated_prefix must be set");
    }
    return rc;
}

static int build_query(struct route_builder *b, const struct envoy_RouteMatch *m, struct route *out)
{
    struct query_match *q = arena_array(b->a, struct query_match, m->query_parameters.n);
    for (uint32_t i = 0; i < m->query_parameters.n; i++) {
        int rc = query_match_build(m->query_parameters.v[i], "", b->a, &q[i], b->err);
        if (rc != 0) {
            error_prefix(b->err, ".query_parameters[%u]", i);
            return rc;
        }
    }
    out->query = q;
    out->n_query = m->query_parameters.n;
    return 0;
}

static int build_metadata(struct route_builder *b, const struct envoy_RouteMatch *m,
                          struct route *out)
{
    const struct metadata_match **v =
        arena_array(b->a, const struct metadata_match *, m->dynamic_metadata.n);
    for (uint32_t i = 0; i < m->dynamic_metadata.n; i++) {
        int rc = metadata_match_build(m->dynamic_metadata.v[i], "", b->a, &v[i], b->err);
        if (rc != 0) {
            error_prefix(b->err, ".dynamic_metadata[%u]", i);
            return rc;
        }
    }
    out->metadata_matches = v;
    out->n_metadata_matches = m->dynamic_metadata.n;
    return 0;
}

static int build_match(struct route_builder *b, const struct envoy_RouteMatch *m, struct route *out)
{
    struct route_path_match *p = arena_new(b->a, struct route_path_match);
    int rc = build_path(b, m, p);
    if (rc != 0)
        return rc;
    out->path = p;
    out->grpc = m->grpc != NULL;
    out->tls_presented = out->tls_validated = -1;
    if (m->tls_context && m->tls_context->presented)
        out->tls_presented = m->tls_context->presented->value;
    if (m->tls_context && m->tls_context->validated)
        out->tls_validated = m->tls_context->validated->value;
    if (m->runtime_fraction) {
        if (!m->runtime_fraction->default_value)
            return error_set(b->err, E_INVALID, ".runtime_fraction.default_value: must be set");
        out->has_fraction = true;
        rc = fraction_build(m->runtime_fraction->default_value, ".runtime_fraction.default_value",
                            &out->fraction, b->err);
        out->fraction.live = runtime_key(b->h->opts.runtime, m->runtime_fraction->runtime_key);
    }
    if (rc == 0)
        rc = route_build_headers(b, m->headers.v, m->headers.n, "headers", &out->headers);
    out->n_headers = m->headers.n;
    if (rc == 0)
        rc = build_query(b, m, out);
    return rc == 0 ? build_metadata(b, m, out) : rc;
}

static int sampling(struct route_builder *b, const struct envoy_FractionalPercent *p,
                    const char *field, sv key, struct fraction *out)
{
    *out = (struct fraction){100, 100, NULL};
    int rc = p ? fraction_build(p, field, out, b->err) : 0;
    out->live = runtime_key(b->h->opts.runtime, key);
    return rc;
}

static int operation(struct route_builder *b, sv format, const char *field,
                     const struct substitution **out)
{
    const struct substitution_opts o = {.use = SUBSTITUTION_BODY, .omit_empty = true};
    int rc = format.n ? substitution_compile(format, &o, b->a, out, b->err) : 0;
    if (rc != 0)
        error_prefix(b->err, "%s: ", field);
    return rc;
}

static int build_tracing(struct route_builder *b, const struct envoy_Tracing *m,
                         struct route_tracing *out)
{
    const struct envoy_Tracing *kept = route_copy(b, &envoy_Tracing_pb, m);
    out->set = true;
    int rc =
        custom_tags_build((const struct envoy_CustomTag *const *)kept->custom_tags.v,
                          kept->custom_tags.n, ".tracing.custom_tags", b->a, &out->tags, b->err);
    if (rc == 0)
        rc = operation(b, m->operation, ".tracing.operation", &out->operation);
    if (rc == 0)
        rc = operation(b, m->upstream_operation, ".tracing.upstream_operation",
                       &out->upstream_operation);
    if (rc == 0)
        rc = sampling(b, m->client_sampling, ".tracing.client_sampling",
                      SV("tracing.client_enabled"), &out->client);
    if (rc == 0)
        rc = sampling(b, m->random_sampling, ".tracing.random_sampling",
                      SV("tracing.random_sampling"), &out->random);
    return rc == 0 ? sampling(b, m->overall_sampling, ".tracing.overall_sampling",
                              SV("tracing.global_enabled"), &out->overall)
                   : rc;
}

int route_build(struct route_builder *b, const struct envoy_Route *m, struct route *out)
{
    out->name = m->name;
    out->stat_prefix = m->stat_prefix;
    if (!m->match)
        return error_set(b->err, E_INVALID, ".match: must be set");
    int rc = build_match(b, m->match, out);
    if (rc != 0) {
        error_prefix(b->err, ".match");
        return rc;
    }
    rc = route_action_build(b, m, out);
    if (rc == 0)
        rc = route_ops_build(b, ROUTE_OPS_MSG(m), &out->ops);
    if (rc == 0)
        rc = route_filters_build(b, ROUTE_FILTERS(m), &out->filters);
    if (rc == 0 && m->tracing)
        rc = build_tracing(b, m->tracing, &out->tracing);
    out->metadata = route_copy(b, &envoy_Metadata_pb, m->metadata);
    if (m->decorator) {
        out->decorator = m->decorator->operation;
        out->decorator_propagate = !m->decorator->propagate || m->decorator->propagate->value;
    }
    out->has_body_limit = b->defaults.has_body_limit;
    out->body_limit = b->defaults.body_limit;
    if (m->request_body_buffer_limit || m->per_request_buffer_limit_bytes) {
        out->has_body_limit = true;
        out->body_limit = m->request_body_buffer_limit ? m->request_body_buffer_limit->value
                                                       : m->per_request_buffer_limit_bytes->value;
    }
    return rc;
}
