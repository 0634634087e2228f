#include "filters/http/header_to_metadata/header_to_metadata.h"

#include <stdlib.h>

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "filters/metadata.h"
#include "route/match.h"
#include "telemetry/stats.h"

#define OWN_NAMESPACE "envoy.filters.http.header_to_metadata"
#define VALUE_MAX     8192 /* what is longer is not taken */

#define H2M_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                              \
    COUNTER(P, request_rules_processed)                                                            \
    COUNTER(P, request_metadata_added)                                                             \
    COUNTER(P, request_header_not_found)                                                           \
    COUNTER(P, response_rules_processed)                                                           \
    COUNTER(P, response_metadata_added)                                                            \
    COUNTER(P, response_header_not_found)                                                          \
    COUNTER(P, base64_decode_failed)                                                               \
    COUNTER(P, header_value_too_long)                                                              \
    COUNTER(P, regex_substitution_failed)
STAT_GROUP_DECLARE(h2m_stats, H2M_STATS);
STAT_GROUP_DEFINE(h2m_stats, H2M_STATS);

/* What one rule writes. */
struct write {
    bool set;
    sv ns, key, value; /* value: instead of the field's */
    const struct regex *regex;
    sv to;
    int type, encode; /* enum envoy_HeaderToMetadata_ValueType, ..._ValueEncode */
};

struct rule {
    sv header, cookie; /* one of them; header in lower case */
    bool remove;
    struct write present, missing;
};

struct rules {
    struct rule *v;
    uint32_t n;
};

struct config {
    struct rules request, response;
    bool has_stats;
    struct stat_group stats;
};

struct h2m {
    struct http_filter f;
    struct config *own;
    struct config *cfg; /* the route's, else own */
};

/* ---- configuration ---- */

static int build_write(const struct filter_ctx *x,
                       const struct envoy_HeaderToMetadata_KeyValuePair *m, bool missing,
                       struct write *w, struct error *err)
{
    if (!m)
        return 0;
    w->set = true;
    w->ns = m->metadata_namespace.n ? m->metadata_namespace : SV(OWN_NAMESPACE);
    w->key = m->key;
    w->value = m->value;
    w->type = m->type;
    w->encode = m->encode;
    if (!m->key.n)
        return error_set(err, E_INVALID, "%s: must not be empty", filter_path(x, "key"));
    if (missing && !m->value.n)
        return error_set(err, E_INVALID, "%s: must not be empty", filter_path(x, "value"));
    if (missing || !m->regex_value_rewrite)
        return 0;
    if (m->value.n)
        return error_set(err, E_INVALID, "%s: excludes value, which is set too",
                         filter_path(x, "regex_value_rewrite"));
    int rc =
        route_regex_build(m->regex_value_rewrite->pattern,
                          filter_path(x, "regex_value_rewrite.pattern"), x->arena, &w->regex, err);
    w->to = m->regex_value_rewrite->substitution;
    if (rc == 0) {
        rc = regex_check_rewrite(w->regex, w->to, err);
        if (rc < 0)
            error_prefix(err, "%s: ", filter_path(x, "regex_value_rewrite.substitution"));
    }
    return rc;
}

static int build_rule(const struct filter_ctx *x, const struct envoy_HeaderToMetadata_Rule *m,
                      struct rule *r, struct error *err)
{
    if (!m->header.n == !m->cookie.n)
        return error_set(err, E_INVALID, "%s: one of header, cookie must be set", x->path);
    if (m->cookie.n && m->remove)
        return error_set(err, E_INVALID, "%s: a cookie cannot be removed",
                         filter_path(x, "remove"));
    if (!m->on_header_present && !m->on_header_missing)
        return error_set(err, E_INVALID,
                         "%s: one of on_header_present, on_header_missing must be set", x->path);
    r->header = http_name_to_lower(m->header, x->arena);
    r->cookie = m->cookie;
    r->remove = m->remove;
    if (m->remove && (r->header.p[0] == ':' || sv_eq(r->header, SV("host"))))
        return error_set(err, E_UNSUPPORTED, "%s: '%.*s' cannot be removed",
                         filter_path(x, "remove"), SV_ARG(r->header));
    int rc = build_write(filter_ctx_at(x, "on_header_present"), m->on_header_present, false,
                         &r->present, err);
    return rc < 0 ? rc
                  : build_write(filter_ctx_at(x, "on_header_missing"), m->on_header_missing, true,
                                &r->missing, err);
}

static int build_rules(const struct filter_ctx *x, const char *field,
                       const struct envoy_HeaderToMetadata_Rule *const *v, uint32_t n,
                       struct rules *out, struct error *err)
{
    out->v = arena_array(x->arena, struct rule, n + 1);
    for (; out->n < n; out->n++) {
        int rc =
            build_rule(filter_ctx_at(x, "%s[%u]", field, out->n), v[out->n], &out->v[out->n], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void fini(void *stats)
{
    stat_group_fini(stats);
}

static void make_stats(const struct filter_ctx *x, struct config *c, sv prefix)
{
    sv name = arena_printf(x->arena, "http_filter_name.%.*s.", SV_ARG(prefix));
    struct stats_scope *sc = stats_scope_plain(x->stats, name);
    stat_group_init(&c->stats, &h2m_stats_def, sc);
    stats_scope_unref(sc);
    arena_on_free(x->arena, fini, &c->stats);
    c->has_stats = true;
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_HeaderToMetadata *m;
    struct config *c = arena_new(x->arena, struct config);
    int rc = filter_decode(x, &envoy_HeaderToMetadata_pb, packed, (const void **)&m, err);
    if (rc == 0)
        rc = build_rules(x, "request_rules", m->request_rules.v, m->request_rules.n, &c->request,
                         err);
    if (rc == 0)
        rc = build_rules(x, "response_rules", m->response_rules.v, m->response_rules.n,
                         &c->response, err);
    if (rc == 0 && m->stat_prefix.n && !x->stats)
        return error_set(err, E_UNSUPPORTED, "%s: is not supported in the configuration of a route",
                         filter_path(x, "stat_prefix"));
    if (rc == 0 && m->stat_prefix.n)
        make_stats(x, c, m->stat_prefix);
    *config = c;
    return rc;
}

static int parse_route(const struct filter_ctx *x, sv packed, const void **config,
                       struct error *err)
{
    int rc = parse(x, packed, config, err);
    const struct config *c = *config;
    if (rc == 0 && !c->request.n && !c->response.n)
        return error_set(err, E_INVALID, "%s: one of request_rules, response_rules must be set",
                         x->path ? x->path : "typed_per_filter_config");
    return rc;
}

/* ---- messages ---- */

static void count(struct h2m *f, enum h2m_stats id)
{
    if (f->cfg->has_stats)
        stat_inc(&f->cfg->stats, id);
}

/* The field's values joined, without it when the rule says so. p == NULL: it is not there. */
static sv take(struct h2m *f, const struct rule *r, struct http_head *head)
{
    struct arena *a = f->f.host->arena;
    if (r->cookie.n)
        return http_headers_cookie(&head->h, r->cookie);
    bool field = r->header.p[0] != ':' && !sv_eq(r->header, SV("host"));
    sv v = field ? http_headers_joined(&head->h, r->header, a) : http_head_get(head, r->header, a);
    if (v.p && r->remove)
        http_headers_remove(&head->h, r->header);
    return v;
}

static bool make_value(struct h2m *f, const struct write *w, sv text, struct google_Value *v)
{
    struct arena *a = f->f.host->arena;
    if (text.n >= VALUE_MAX) {
        count(f, h2m_stats_header_value_too_long);
        return false;
    }
    if (w->encode == envoy_HeaderToMetadata_BASE64 &&
        (pb_base64_parse(text, a, &text) < 0 || !text.n)) {
        count(f, h2m_stats_base64_decode_failed);
        return false;
    }
    if (w->type == envoy_HeaderToMetadata_NUMBER) {
        char *end, *number = arena_cstr(a, sv_trim(text));
        v->which_kind = google_Value_number_value_tag;
        v->number_value = strtod(number, &end);
        return *number && !*end;
    }
    if (w->type == envoy_HeaderToMetadata_PROTOBUF_VALUE) {
        void *read;
        if (pb_decode(&google_Value_pb, text, a, NULL, &read, NULL) < 0)
            return false;
        *v = *(struct google_Value *)read;
        return true;
    }
    v->which_kind = google_Value_string_value_tag;
    v->string_value = text;
    return true;
}

static bool write(struct h2m *f, const struct write *w, sv text)
{
    struct google_Value v = {0};
    struct strbuf b;
    strbuf_init(&b, 2 * VALUE_MAX);
    if (w->value.n)
        text = w->value;
    else if (w->regex) {
        regex_replace_all(w->regex, text, w->to, &b);
        text = strbuf_sv(&b);
        if (!text.n)
            count(f, h2m_stats_regex_substitution_failed);
    }
    bool ok = text.n && make_value(f, w, text, &v);
    if (ok)
        filter_metadata_set(f->f.host->info, w->ns, w->key, &v, false);
    strbuf_fini(&b);
    return ok;
}

static void run(struct h2m *f, const struct rules *rules, struct http_head *head, bool request)
{
    for (uint32_t i = 0; i < rules->n; i++) {
        const struct rule *r = &rules->v[i];
        sv v = take(f, r, head);
        bool added = v.p ? r->present.set && write(f, &r->present, v)
                         : r->missing.set && write(f, &r->missing, v);
        count(f, request ? h2m_stats_request_rules_processed : h2m_stats_response_rules_processed);
        if (!v.p && r->missing.set)
            count(f, request ? h2m_stats_request_header_not_found
                             : h2m_stats_response_header_not_found);
        if (added)
            count(f,
                  request ? h2m_stats_request_metadata_added : h2m_stats_response_metadata_added);
    }
}

static struct config *choose(struct h2m *f)
{
    const void *route = f->f.host->ops->route_config(f->f.host);
    f->cfg = route ? (struct config *)route : f->own;
    return f->cfg;
}

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct h2m *h = container_of(f, struct h2m, f);
    run(h, &choose(h)->request, head, true);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct h2m *h = container_of(f, struct h2m, f);
    run(h, &choose(h)->response, head, false);
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = OWN_NAMESPACE,
    .decode_head = decode_head,
    .encode_head = encode_head,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct h2m *h = arena_new(host->arena, struct h2m);
    h->f.ops = &ops;
    h->own = (struct config *)config; /* only its counters change */
    return &h->f;
}

const struct http_filter_type http_header_to_metadata_type = {
    .name = OWN_NAMESPACE,
    .config_type = "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    .route_type = "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    .parse = parse,
    .parse_route = parse_route,
    .make = make,
};
