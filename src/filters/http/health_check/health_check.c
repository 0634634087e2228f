#include "filters/http/health_check/health_check.h"

#include "api/envoy.pb.h"
#include "route/match.h"

struct config {
    bool pass_through;
    const struct header_match *headers;
    uint32_t n_headers;
};

struct check {
    struct http_filter f;
    const struct config *cfg;
    bool is_check;
};

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_filter_HealthCheck *m;
    int rc = filter_decode(x, &envoy_filter_HealthCheck_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    if (m->cache_time)
        return error_set(err, E_UNSUPPORTED, "%s.cache_time: is not supported", x->path);
    if (m->cluster_min_healthy_percentages.n)
        return error_set(err, E_UNSUPPORTED, "%s.cluster_min_healthy_percentages: is not supported",
                         x->path);
    if (!m->pass_through_mode)
        return error_set(err, E_INVALID, "%s.pass_through_mode: is required", x->path);
    struct config *c = arena_new(x->arena, struct config);
    c->pass_through = m->pass_through_mode->value;
    struct header_match *h = arena_array(x->arena, struct header_match, m->headers.n + 1);
    for (uint32_t i = 0; i < m->headers.n; i++) {
        rc = header_match_build(m->headers.v[i], filter_path(x, "headers[%u]", i), x->arena,
                                &h[c->n_headers++], err);
        if (rc < 0)
            return rc;
    }
    c->headers = h;
    *config = c;
    return 0;
}

static bool failing(const struct http_filter *f)
{
    const struct filter_worker *w = f->host->worker;
    return w->health_failed && atomic_load_explicit(w->health_failed, memory_order_relaxed);
}

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct check *c = container_of(f, struct check, f);
    struct http_filter_host *h = f->host;
    if (!header_match_all(c->cfg->headers, c->cfg->n_headers, head, h->arena))
        return HTTP_FILTER_CONTINUE;
    c->is_check = true;
    h->info->health_check = true;
    if (c->cfg->pass_through && !failing(f))
        return HTTP_FILTER_CONTINUE;
    h->ops->local_reply(
        h, &(struct http_local_reply){
               .status = failing(f) ? 503 : 200,
               .details = failing(f) ? SV("health_check_failed") : SV("health_check_ok"),
           });
    return HTTP_FILTER_STOP;
}

/* Tells the balancer at once, on any response: it need not wait for its next check. */
static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    if (failing(f))
        http_headers_set(&head->h, SV("x-envoy-immediate-health-check-fail"), SV("true"));
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.health_check",
    .decode_head = decode_head,
    .encode_head = encode_head,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct check *c = arena_new(host->arena, struct check);
    c->f.ops = &ops;
    c->cfg = config;
    return &c->f;
}

const struct http_filter_type http_health_check_type = {
    .name = "envoy.filters.http.health_check",
    .config_type = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    .parse = parse,
    .make = make,
};
