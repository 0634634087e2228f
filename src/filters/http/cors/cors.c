#include "filters/http/cors/cors.h"

#include "api/envoy.pb.h"
#include "net/loop.h"
#include "route/match.h"
#include "telemetry/stats.h"

#define CORS_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                             \
    COUNTER(P, origin_invalid)                                                                     \
    COUNTER(P, origin_valid)
STAT_GROUP_DECLARE(cors_stats, CORS_STATS);
STAT_GROUP_DEFINE(cors_stats, CORS_STATS);

struct config {
    struct stat_group stats;
};

struct policy {
    const struct string_match *origins;
    uint32_t n_origins;
    sv methods, headers, expose, max_age;
    bool credentials, private_network, forward_not_matching;
    bool has_enabled, has_shadow;
    struct fraction enabled, shadow;
};

struct cors {
    struct http_filter f;
    struct config *cfg;
    const struct policy *p;
    sv origin; /* allowed; p == NULL: none */
};

/* ---- configuration ---- */

static void fini(void *g)
{
    stat_group_fini(g);
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_Cors *m;
    int rc = filter_decode(x, &envoy_Cors_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    struct stats_scope *http = stats_scope_http(x->stats, x->stat_prefix);
    struct stats_scope *sc = stats_scope_sub(http, SV("cors."), (sv){NULL, 0}, NULL, 0);
    stat_group_init(&c->stats, &cors_stats_def, sc);
    stats_scope_unref(sc);
    stats_scope_unref(http);
    arena_on_free(x->arena, fini, &c->stats);
    *config = c;
    return 0;
}

static int build_fraction(const struct filter_ctx *x,
                          const struct envoy_RuntimeFractionalPercent *m, const char *field,
                          bool *has, struct fraction *out, struct error *err)
{
    if (!m)
        return 0;
    *has = true;
    *out = (struct fraction){100, 100, NULL};
    int rc = m->default_value ? fraction_build(m->default_value,
                                               filter_path(x, "%s.default_value", field), out, err)
                              : 0;
    out->live = runtime_key(x->runtime, m->runtime_key);
    return rc;
}

static int parse_route(const struct filter_ctx *x, sv packed, const void **config,
                       struct error *err)
{
    const struct envoy_cors_CorsPolicy *m;
    int rc = filter_decode(x, &envoy_cors_CorsPolicy_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct policy *p = arena_new(x->arena, struct policy);
    struct string_match *o =
        arena_array(x->arena, struct string_match, m->allow_origin_string_match.n + 1);
    for (uint32_t i = 0; i < m->allow_origin_string_match.n; i++) {
        rc = string_match_build(m->allow_origin_string_match.v[i],
                                filter_path(x, "allow_origin_string_match[%u]", i), x->arena,
                                &o[p->n_origins++], err);
        if (rc < 0)
            return rc;
    }
    p->origins = o;
    p->methods = m->allow_methods;
    p->headers = m->allow_headers;
    p->expose = m->expose_headers;
    p->max_age = m->max_age;
    p->credentials = m->allow_credentials && m->allow_credentials->value;
    p->private_network = m->allow_private_network_access && m->allow_private_network_access->value;
    p->forward_not_matching =
        !m->forward_not_matching_preflights || m->forward_not_matching_preflights->value;
    rc = build_fraction(x, m->filter_enabled, "filter_enabled", &p->has_enabled, &p->enabled, err);
    if (rc == 0)
        rc =
            build_fraction(x, m->shadow_enabled, "shadow_enabled", &p->has_shadow, &p->shadow, err);
    *config = p;
    return rc;
}

/* ---- requests ---- */

static bool hit(struct cors *c, bool has, const struct fraction *f, bool dflt)
{
    return has ? fraction_hit(f, rand_u64(loop_rand(c->f.host->loop))) : dflt;
}

static bool allowed(const struct policy *p, sv origin)
{
    for (uint32_t i = 0; i < p->n_origins; i++)
        if (string_match(&p->origins[i], origin) || sv_eq(p->origins[i].text, SV("*")))
            return true;
    return false;
}

static void allow(struct cors *c, struct http_headers *h)
{
    http_headers_set(h, SV("access-control-allow-origin"), c->origin);
    if (c->p->credentials)
        http_headers_set(h, SV("access-control-allow-credentials"), SV("true"));
}

static void preflight_headers(struct http_head *head, void *arg)
{
    struct cors *c = arg;
    const struct policy *p = c->p;
    const struct http_head *req = c->f.host->info->req;
    allow(c, &head->h);
    if (p->methods.n)
        http_headers_set(&head->h, SV("access-control-allow-methods"), p->methods);
    if (p->headers.n)
        http_headers_set(&head->h, SV("access-control-allow-headers"), p->headers);
    if (p->max_age.n)
        http_headers_set(&head->h, SV("access-control-max-age"), p->max_age);
    if (p->private_network &&
        sv_eq(http_headers_get_sv(&req->h, SV("access-control-request-private-network")),
              SV("true")))
        http_headers_set(&head->h, SV("access-control-allow-private-network"), SV("true"));
}

static void answer(struct cors *c, bool allow_it)
{
    struct http_filter_host *h = c->f.host;
    h->ops->local_reply(h, &(struct http_local_reply){
                               .status = 200,
                               .details = SV("cors_response"),
                               .modify = allow_it ? preflight_headers : NULL,
                               .arg = c,
                           });
}

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct cors *c = container_of(f, struct cors, f);
    sv origin = http_headers_get_sv(&head->h, SV("origin"));
    if (!origin.n)
        return HTTP_FILTER_CONTINUE;
    c->p = f->host->ops->route_config(f->host);
    if (!c->p)
        return HTTP_FILTER_CONTINUE;
    bool enabled = hit(c, c->p->has_enabled, &c->p->enabled, !c->p->has_shadow);
    if (!enabled && !hit(c, c->p->has_shadow, &c->p->shadow, false))
        return HTTP_FILTER_CONTINUE;
    bool ok = allowed(c->p, origin);
    stat_inc(&c->cfg->stats, ok ? cors_stats_origin_valid : cors_stats_origin_invalid);
    bool preflight = sv_eq(head->method, SV("OPTIONS")) &&
                     http_headers_get_sv(&head->h, SV("access-control-request-method")).n;
    if (!enabled)
        return HTTP_FILTER_CONTINUE;
    if (ok)
        c->origin = origin;
    if (preflight && (ok || !c->p->forward_not_matching)) {
        answer(c, ok);
        return HTTP_FILTER_STOP;
    }
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct cors *c = container_of(f, struct cors, f);
    if (!c->origin.p)
        return HTTP_FILTER_CONTINUE;
    allow(c, &head->h);
    if (c->p->expose.n)
        http_headers_set(&head->h, SV("access-control-expose-headers"), c->p->expose);
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.cors",
    .decode_head = decode_head,
    .encode_head = encode_head,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct cors *c = arena_new(host->arena, struct cors);
    c->f.ops = &ops;
    c->cfg = (struct config *)config; /* only its counters change */
    return &c->f;
}

const struct http_filter_type http_cors_type = {
    .name = "envoy.filters.http.cors",
    .config_type = "envoy.extensions.filters.http.cors.v3.Cors",
    .route_type = "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    .parse = parse,
    .parse_route = parse_route,
    .make = make,
};
