/* The action of a route: forward, redirect, direct response. */
#include <stdio.h>
#include <stdlib.h>
#include "api/google.pb.h"
#include "base/mem.h"
#include "http/path.h"
#include "route/route_int.h"

static int header_name(struct route_builder *b, sv name, const char *field, sv *out)
{
    sv bare = name.n && name.p[0] == ':' ? sv_from(name, 1) : name;
    if (!http_name_valid(bare))
        return error_set(b->err, E_INVALID, "%s: '%.*s' is no header name", field, SV_ARG(name));
    *out = http_name_to_lower(name, b->a);
    return 0;
}

static int substitute(struct route_builder *b, const struct envoy_RegexMatchAndSubstitute *m,
                      const char *field, const struct regex **re, sv *to)
{
    int rc = route_regex_build(m->pattern, "", b->a, re, b->err);
    if (rc != 0) {
        error_prefix(b->err, "%s.pattern", field);
        return rc;
    }
    *to = m->substitution;
    rc = regex_check_rewrite(*re, *to, b->err);
    if (rc != 0)
        error_prefix(b->err, "%s.substitution: ", field);
    return rc;
}

/* ---- clusters ---- */

int route_cluster_check(struct route_builder *b, sv name, const char *field)
{
    const struct route_head *h = b->h;
    if (!b->checking || !h->check_clusters || !h->opts.cluster_known ||
        h->opts.cluster_known(h->opts.arg, name))
        return 0;
    return error_set(b->err, E_NOT_FOUND, "%s: unknown cluster '%.*s'", field, SV_ARG(name));
}

/* The "envoy.lb" values of both, the second one's winning, as one message. */
static const struct envoy_Metadata *merge_metadata(struct route_builder *b,
                                                   const struct envoy_Metadata *low,
                                                   const struct envoy_Metadata *high)
{
    const struct google_Struct *a = NULL, *z = NULL;
    for (uint32_t i = 0; low && i < low->filter_metadata.n; i++)
        if (sv_eq(low->filter_metadata.v[i]->key, SV("envoy.lb")))
            a = low->filter_metadata.v[i]->value;
    for (uint32_t i = 0; high && i < high->filter_metadata.n; i++)
        if (sv_eq(high->filter_metadata.v[i]->key, SV("envoy.lb")))
            z = high->filter_metadata.v[i]->value;
    if (!a || !z)
        return route_copy(b, &envoy_Metadata_pb, z ? high : low);
    struct google_Struct *s = arena_new(b->tmp, struct google_Struct);
    s->fields.v =
        arena_array(b->tmp, const struct google_Struct_FieldsEntry *, a->fields.n + z->fields.n);
    for (uint32_t i = 0; i < a->fields.n; i++) {
        bool hidden = false;
        for (uint32_t k = 0; k < z->fields.n; k++)
            hidden = hidden || sv_eq(z->fields.v[k]->key, a->fields.v[i]->key);
        if (!hidden)
            s->fields.v[s->fields.n++] = a->fields.v[i];
    }
    for (uint32_t k = 0; k < z->fields.n; k++)
        s->fields.v[s->fields.n++] = z->fields.v[k];
    struct envoy_Metadata_FilterMetadataEntry entry = {.key = SV("envoy.lb"), .value = s};
    const struct envoy_Metadata_FilterMetadataEntry *entries[] = {&entry};
    struct envoy_Metadata m = {.filter_metadata = {.v = entries, .n = 1}};
    return route_copy(b, &envoy_Metadata_pb, &m);
}

static int build_weight(struct route_builder *b,
                        const struct envoy_WeightedCluster_ClusterWeight *m,
                        const struct envoy_Metadata *route_metadata, struct route_weight *w)
{
    if ((m->name.n != 0) == (m->cluster_header.n != 0))
        return error_set(b->err, E_INVALID, ": one of name, cluster_header must be set");
    w->cluster = m->name;
    int rc = m->name.n ? route_cluster_check(b, m->name, ".name")
                       : header_name(b, m->cluster_header, ".cluster_header", &w->cluster_header);
    if (rc != 0)
        return rc;
    w->host_rewrite = m->host_rewrite_literal;
    w->metadata_match = merge_metadata(b, route_metadata, m->metadata_match);
    rc = route_ops_build(b, ROUTE_OPS_MSG(m), &w->ops);
    return rc == 0 ? route_filters_build(b, ROUTE_FILTERS(m), &w->filters) : rc;
}

static const struct runtime_key *weight_key(struct route_builder *b, sv prefix, sv cluster)
{
    return runtime_key(b->h->opts.runtime,
                       arena_printf(b->tmp, "%.*s.%.*s", SV_ARG(prefix), SV_ARG(cluster)));
}

static int build_weighted(struct route_builder *b, const struct envoy_WeightedCluster *m,
                          const struct envoy_Metadata *route_metadata, struct route *out)
{
    struct route_weighted *w = arena_new(b->a, struct route_weighted);
    if (m->clusters.n == 0)
        return error_set(b->err, E_INVALID, ".clusters: must not be empty");
    w->v = arena_array(b->a, struct route_weight, m->clusters.n);
    for (w->n = 0; w->n < m->clusters.n; w->n++) {
        const struct envoy_WeightedCluster_ClusterWeight *c = m->clusters.v[w->n];
        int rc = build_weight(b, c, route_metadata, &w->v[w->n]);
        if (rc != 0) {
            error_prefix(b->err, ".clusters[%u]", w->n);
            return rc;
        }
        if (!c->weight)
            return error_set(b->err, E_INVALID, ".clusters[%u].weight: must be set", w->n);
        w->total += c->weight->value;
        w->v[w->n].end = w->total;
        w->v[w->n].weight = c->weight->value;
        if (m->runtime_key_prefix.n && c->name.n)
            w->v[w->n].live = weight_key(b, m->runtime_key_prefix, c->name);
        w->live = w->live || w->v[w->n].live;
    }
    if (w->total == 0)
        return error_set(b->err, E_INVALID,
                         ".clusters: the sum of the weights must be greater than 0");
    if (w->total > UINT32_MAX)
        return error_set(b->err, E_INVALID, ".clusters: the sum of the weights must be at most %u",
                         UINT32_MAX);
    if (m->total_weight && m->total_weight->value != w->total)
        return error_set(b->err, E_INVALID, ".total_weight: is %u, but the weights add up to %llu",
                         m->total_weight->value, (unsigned long long)w->total);
    if (m->which_random_value_specifier == envoy_WeightedCluster_use_hash_policy_tag)
        w->use_hash = m->use_hash_policy->value;
    out->weighted = w;
    return m->which_random_value_specifier == envoy_WeightedCluster_header_name_tag
               ? header_name(b, m->header_name, ".header_name", &w->random_header)
               : 0;
}

static int build_cluster(struct route_builder *b, const struct envoy_RouteAction *m,
                         struct route *out)
{
    static const uint16_t status[] = {503, 404, 500};
    int rc;
    if (m->cluster_not_found_response_code < 0 || m->cluster_not_found_response_code > 2)
        return error_set(b->err, E_INVALID, ".cluster_not_found_response_code: %d is not known",
                         m->cluster_not_found_response_code);
    out->cluster_not_found_status = status[m->cluster_not_found_response_code];
    switch (m->which_cluster_specifier) {
    case envoy_RouteAction_cluster_tag:
        if (m->cluster.n == 0)
            return error_set(b->err, E_INVALID, ".cluster: must not be empty");
        out->cluster = m->cluster;
        rc = route_cluster_check(b, m->cluster, ".cluster");
        break;
    case envoy_RouteAction_cluster_header_tag:
        rc = header_name(b, m->cluster_header, ".cluster_header", &out->cluster_header);
        break;
    case envoy_RouteAction_weighted_clusters_tag:
        rc = build_weighted(b, m->weighted_clusters, m->metadata_match, out);
        if (rc != 0)
            error_prefix(b->err, ".weighted_clusters");
        break;
    default:
        return error_set(b->err, E_INVALID,
                         ": one of cluster, cluster_header, weighted_clusters must be set");
    }
    out->metadata_match = route_copy(b, &envoy_Metadata_pb, m->metadata_match);
    return rc;
}

/* ---- rewrites ---- */

static int build_rewrite(struct route_builder *b, const struct envoy_RouteAction *m,
                         struct route *out)
{
    struct route_rewrite *w = arena_new(b->a, struct route_rewrite);
    int rc = 0;
    if (m->prefix_rewrite.n && m->regex_rewrite)
        return error_set(b->err, E_INVALID,
                         ".prefix_rewrite: must not be set beside regex_rewrite");
    w->prefix = m->prefix_rewrite.n ? m->prefix_rewrite : (sv){0};
    if (m->regex_rewrite)
        rc = substitute(b, m->regex_rewrite, ".regex_rewrite", &w->path, &w->path_to);
    if (rc != 0)
        return rc;
    switch (m->which_host_rewrite_specifier) {
    case envoy_RouteAction_host_rewrite_literal_tag:
        w->host = m->host_rewrite_literal;
        if (!http_value_valid(w->host))
            return error_set(b->err, E_INVALID, ".host_rewrite_literal: is no host");
        break;
    case envoy_RouteAction_auto_host_rewrite_tag:
        out->auto_host_rewrite = m->auto_host_rewrite->value;
        break;
    case envoy_RouteAction_host_rewrite_header_tag:
        rc = header_name(b, m->host_rewrite_header, ".host_rewrite_header", &w->host_header);
        break;
    case envoy_RouteAction_host_rewrite_path_regex_tag:
        rc = substitute(b, m->host_rewrite_path_regex, ".host_rewrite_path_regex", &w->host_path,
                        &w->host_to);
        break;
    default:
        break;
    }
    out->append_x_forwarded_host = m->append_x_forwarded_host;
    out->rewrite = w;
    return rc;
}

/* ---- timeouts ---- */

static int build_timeouts(struct route_builder *b, const struct envoy_RouteAction *m,
                          struct route *out)
{
    int rc = 0;
    out->timeout_ms = 15000;
    if (m->timeout)
        rc = duration_ms(m->timeout, ".timeout", &out->timeout_ms, b->err);
    if (rc == 0 && m->idle_timeout) {
        out->has_idle_timeout = true;
        rc = duration_ms(m->idle_timeout, ".idle_timeout", &out->idle_timeout_ms, b->err);
    }
    const struct envoy_RouteAction_MaxStreamDuration *d = m->max_stream_duration;
    if (rc == 0 && d && d->max_stream_duration) {
        out->has_max_stream_duration = true;
        rc = duration_ms(d->max_stream_duration, ".max_stream_duration.max_stream_duration",
                         &out->max_stream_duration_ms, b->err);
    }
    out->new_timeouts = d != NULL;
    const struct google_Duration *max = d ? d->grpc_timeout_header_max : m->max_grpc_timeout;
    const struct google_Duration *offset =
        d ? d->grpc_timeout_header_offset : m->grpc_timeout_offset;
    if (rc == 0 && max) {
        out->has_grpc_timeout_max = true;
        rc = duration_ms(max, ".max_stream_duration.grpc_timeout_header_max",
                         &out->grpc_timeout_max_ms, b->err);
    }
    if (rc == 0 && offset)
        rc = duration_ms(offset, ".max_stream_duration.grpc_timeout_header_offset",
                         &out->grpc_timeout_offset_ms, b->err);
    return rc;
}

static int build_policies(struct route_builder *b, const struct envoy_RouteAction *m,
                          struct route *out)
{
    int rc = route_retry_build(b, m->retry_policy, &out->retry);
    if (!m->retry_policy)
        out->retry = b->defaults.retry;
    if (rc == 0)
        rc = route_hedge_build(b, m->hedge_policy, &out->hedge);
    if (rc == 0)
        rc = route_mirrors_build(b, m->request_mirror_policies.v, m->request_mirror_policies.n,
                                 &out->mirrors);
    out->n_mirrors = m->request_mirror_policies.n;
    if (out->n_mirrors == 0) {
        out->mirrors = b->defaults.mirrors;
        out->n_mirrors = b->defaults.n_mirrors;
    }
    if (rc == 0)
        rc = route_upgrades_build(b, m, out);
    if (rc == 0)
        rc = route_internal_redirect_build(b, m->internal_redirect_policy, &out->internal_redirect);
    if (rc == 0)
        rc = route_hash_build(b, m, &out->hash);
    if (m->priority < 0 || m->priority > 1)
        return error_set(b->err, E_INVALID, ".priority: %d is not known", m->priority);
    out->priority = (uint8_t)m->priority;
    return rc;
}

static int build_forward(struct route_builder *b, const struct envoy_RouteAction *m,
                         struct route *out)
{
    out->action = ROUTE_FORWARD;
    int rc = build_cluster(b, m, out);
    if (rc == 0)
        rc = build_rewrite(b, m, out);
    if (rc == 0)
        rc = build_timeouts(b, m, out);
    return rc == 0 ? build_policies(b, m, out) : rc;
}

/* ---- redirects ---- */

static int build_redirect(struct route_builder *b, const struct envoy_RedirectAction *m,
                          struct route *out)
{
    static const uint16_t codes[] = {301, 302, 303, 307, 308};
    struct route_rewrite *w = arena_new(b->a, struct route_rewrite);
    int rc = 0;
    if (m->response_code < 0 || m->response_code > 4)
        return error_set(b->err, E_INVALID, ".response_code: %d is not known", m->response_code);
    out->action = ROUTE_REDIRECT;
    out->status = codes[m->response_code];
    out->rewrite = w;
    w->https = m->which_scheme_rewrite_specifier == envoy_RedirectAction_https_redirect_tag &&
               m->https_redirect;
    if (m->which_scheme_rewrite_specifier == envoy_RedirectAction_scheme_redirect_tag)
        w->scheme = m->scheme_redirect;
    w->redirect_host = m->host_redirect;
    w->strip_query = m->strip_query;
    if (m->port_redirect > 65535)
        return error_set(b->err, E_INVALID, ".port_redirect: %u is no port", m->port_redirect);
    if (m->port_redirect)
        w->redirect_port = arena_printf(b->a, ":%u", m->port_redirect);
    if (!http_value_valid(w->scheme) || !http_value_valid(w->redirect_host) ||
        !http_value_valid(m->path_redirect) || !http_value_valid(m->prefix_rewrite))
        return error_set(b->err, E_INVALID, ": has bytes that a header value may not have");
    switch (m->which_path_rewrite_specifier) {
    case envoy_RedirectAction_path_redirect_tag:
        w->redirect_path = m->path_redirect;
        w->path_has_query = sv_find(m->path_redirect, '?') >= 0;
        break;
    case envoy_RedirectAction_prefix_rewrite_tag:
        w->prefix = m->prefix_rewrite.n ? m->prefix_rewrite : (sv){0};
        break;
    case envoy_RedirectAction_regex_rewrite_tag:
        rc = substitute(b, m->regex_rewrite, ".regex_rewrite", &w->path, &w->path_to);
        break;
    default:
        break;
    }
    return rc;
}

/* ---- direct responses ---- */

static int read_body(struct route_builder *b, const void *arg, struct route_kept *out)
{
    const struct envoy_DataSource *m = arg;
    const struct route_table_opts *o = &b->h->opts;
    if (m->which_specifier == envoy_DataSource_environment_variable_tag) {
        const char *v = getenv(arena_cstr(b->tmp, m->environment_variable));
        if (!v)
            return error_set(b->err, E_NOT_FOUND,
                             ".environment_variable: '%.*s' is not set in the environment",
                             SV_ARG(m->environment_variable));
        out->text = arena_sv(&b->keep->arena, sv_of(v));
        return 0;
    }
    if (!o->read_file)
        return error_set(b->err, E_UNSUPPORTED, ".filename: is not supported here");
    int rc = o->read_file(o->arg, m->filename, &b->keep->arena, &out->text, b->err);
    if (rc != 0)
        error_prefix(b->err, ".filename: ");
    return rc;
}

static int data_source(struct route_builder *b, const struct envoy_DataSource *m, sv *out)
{
    struct route_kept kept = {0};
    int rc;
    if (m->watched_directory)
        return error_set(b->err, E_UNSUPPORTED, ".watched_directory: is not supported here");
    switch (m->which_specifier) {
    case envoy_DataSource_inline_string_tag:
        *out = m->inline_string;
        return 0;
    case envoy_DataSource_inline_bytes_tag:
        *out = m->inline_bytes;
        return 0;
    case envoy_DataSource_filename_tag:
    case envoy_DataSource_environment_variable_tag:
        rc = route_keep(b, read_body, m, &kept);
        *out = kept.text;
        return rc;
    default:
        return error_set(b->err, E_INVALID, ": names no source");
    }
}

static int build_body_format(struct route_builder *b,
                             const struct envoy_SubstitutionFormatString *m, struct route *out)
{
    sv text = m->text_format;
    if (m->which_format == envoy_SubstitutionFormatString_json_format_tag)
        return error_set(b->err, E_UNSUPPORTED, ".json_format: is not supported here");
    if (m->formatters.n)
        return error_set(b->err, E_UNSUPPORTED, ".formatters[0]: '%.*s' is not supported here",
                         SV_ARG(m->formatters.v[0]->name));
    if (m->which_format == envoy_SubstitutionFormatString_text_format_source_tag) {
        int rc = data_source(b, m->text_format_source, &text);
        if (rc != 0) {
            error_prefix(b->err, ".text_format_source");
            return rc;
        }
    }
    out->body_content_type = m->content_type;
    struct substitution_opts o = {.use = SUBSTITUTION_BODY, .omit_empty = m->omit_empty_values};
    int rc = substitution_compile(text, &o, b->a, &out->body_format, b->err);
    if (rc != 0)
        error_prefix(b->err, ": ");
    return rc;
}

static int build_direct(struct route_builder *b, const struct envoy_DirectResponseAction *m,
                        struct route *out)
{
    int rc = 0;
    out->action = ROUTE_DIRECT_RESPONSE;
    if (m->status < 200 || m->status > 599)
        return error_set(b->err, E_INVALID, ".status: %u is none of 200 … 599", m->status);
    out->status = (uint16_t)m->status;
    if (m->body) {
        rc = data_source(b, m->body, &out->body);
        if (rc != 0) {
            error_prefix(b->err, ".body");
            return rc;
        }
        if (out->body.n > b->h->max_body)
            return error_set(b->err, E_LIMIT, ".body: has %zu bytes, the maximum is %u",
                             out->body.n, b->h->max_body);
    }
    if (m->body_format) {
        rc = build_body_format(b, m->body_format, out);
        if (rc != 0)
            error_prefix(b->err, ".body_format");
    }
    return rc;
}

int route_action_build(struct route_builder *b, const struct envoy_Route *m, struct route *out)
{
    const char *field;
    int rc = 0;
    switch (m->which_action) {
    case envoy_Route_route_tag:
        field = ".route";
        rc = build_forward(b, m->route, out);
        break;
    case envoy_Route_redirect_tag:
        field = ".redirect";
        rc = build_redirect(b, m->redirect, out);
        break;
    case envoy_Route_direct_response_tag:
        field = ".direct_response";
        rc = build_direct(b, m->direct_response, out);
        break;
    case envoy_Route_non_forwarding_action_tag:
        out->action = ROUTE_NON_FORWARDING;
        return 0;
    default:
        return error_set(b->err, E_INVALID,
                         ": one of route, redirect, direct_response, non_forwarding_action must "
                         "be set");
    }
    if (rc != 0)
        error_prefix(b->err, "%s", field);
    return rc;
}
