#include "filters/http/health_check/health_check.h"

#include <stdatomic.h>
#include "api/envoy.pb.h"
#include "net/loop.h"
#include "route/match.h"
#include "route/route.h"
#include "telemetry/stats.h"
#include "upstream/upstream.h"

#define HEALTH_CHECK_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                     \
    COUNTER(P, cached_response)                                                                    \
    COUNTER(P, degraded)                                                                           \
    COUNTER(P, failed)                                                                             \
    COUNTER(P, failed_cluster_empty)                                                               \
    COUNTER(P, failed_cluster_not_found)                                                           \
    COUNTER(P, failed_cluster_unhealthy)                                                           \
    COUNTER(P, ok)                                                                                 \
    COUNTER(P, request_total)
STAT_GROUP_DECLARE(hc_stats, HEALTH_CHECK_STATS);
STAT_GROUP_DEFINE(hc_stats, HEALTH_CHECK_STATS);

struct least {
    sv cluster;
    double percent;
};

struct config {
    bool pass_through;
    const struct header_match *headers;
    uint32_t n_headers;
    const struct least *least; /* cluster_min_healthy_percentages */
    uint32_t n_least;
    uint64_t cache_ms; /* 0: every check goes to the application */
    /* What the application said last, for all workers: the loop's time at which it is forgotten in
     * the upper bits, the status in the lower 16. */
    _Atomic uint64_t cached;
    struct stat_group stats;
};

struct check {
    struct http_filter f;
    struct config *cfg;
    bool is_check, mine;
};

/* ---- configuration ---- */

static int parse_least(const struct filter_ctx *x, const struct envoy_filter_HealthCheck *m,
                       struct config *c, struct error *err)
{
    uint32_t n = m->cluster_min_healthy_percentages.n;
    struct least *l = arena_array(x->arena, struct least, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct envoy_filter_HealthCheck_ClusterMinHealthyPercentagesEntry *e =
            m->cluster_min_healthy_percentages.v[i];
        l[i] = (struct least){arena_sv(x->arena, e->key), e->value ? e->value->value : 0};
        if (!(l[i].percent >= 0 && l[i].percent <= 100))
            return error_set(err, E_INVALID,
                             "%s.cluster_min_healthy_percentages['%.*s']: must be within 0 and 100",
                             x->path, SV_ARG(e->key));
    }
    if (n && m->pass_through_mode->value)
        return error_set(err, E_INVALID,
                         "%s.cluster_min_healthy_percentages: not with pass_through_mode", x->path);
    c->least = l;
    c->n_least = n;
    return 0;
}

static void fini(void *stats)
{
    stat_group_fini(stats);
}

static void make_stats(const struct filter_ctx *x, struct config *c)
{
    struct stats_scope *http = stats_scope_http(x->stats, x->stat_prefix);
    struct stats_scope *sc = stats_scope_sub(http, SV("health_check."), (sv){NULL, 0}, NULL, 0);
    stat_group_init(&c->stats, &hc_stats_def, sc);
    stats_scope_unref(sc);
    stats_scope_unref(http);
    arena_on_free(x->arena, fini, &c->stats);
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_filter_HealthCheck *m;
    int rc = filter_decode(x, &envoy_filter_HealthCheck_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    if (!m->pass_through_mode)
        return error_set(err, E_INVALID, "%s.pass_through_mode: is required", x->path);
    struct config *c = arena_new(x->arena, struct config);
    c->pass_through = m->pass_through_mode->value;
    if (m->cache_time) {
        rc = duration_ms(m->cache_time, filter_path(x, "cache_time"), &c->cache_ms, err);
        if (rc < 0)
            return rc;
        if (!c->pass_through)
            return error_set(err, E_INVALID, "%s.cache_time: only with pass_through_mode", x->path);
    }
    rc = parse_least(x, m, c, err);
    if (rc < 0)
        return rc;
    struct header_match *h = arena_array(x->arena, struct header_match, m->headers.n + 1);
    for (uint32_t i = 0; i < m->headers.n; i++) {
        rc = header_match_build(m->headers.v[i], filter_path(x, "headers[%u]", i), x->arena,
                                &h[c->n_headers++], err);
        if (rc < 0)
            return rc;
    }
    c->headers = h;
    make_stats(x, c);
    *config = c;
    return 0;
}

static const struct filter_worker *worker_of(const struct http_filter *f)
{
    return f->host->worker;
}

/* ---- the application's last word ---- */

/* 0: there is none, or it is too old. */
static uint16_t cached_status(const struct check *c)
{
    uint64_t v = c->cfg->cache_ms ? atomic_load_explicit(&c->cfg->cached, memory_order_relaxed) : 0;
    return v >> 16 > loop_now_ms(worker_of(&c->f)->loop) ? v & 0xffff : 0;
}

static void remember(struct check *c, uint16_t status)
{
    uint64_t until = loop_now_ms(worker_of(&c->f)->loop) + c->cfg->cache_ms;
    if (c->cfg->cache_ms)
        atomic_store_explicit(&c->cfg->cached, until << 16 | status, memory_order_relaxed);
}

/* ---- answering ---- */

static bool failing(const struct http_filter *f)
{
    const struct filter_worker *w = worker_of(f);
    return w->health_failed && atomic_load_explicit(w->health_failed, memory_order_relaxed);
}

struct verdict {
    uint16_t status;
    sv details;
    unsigned stat; /* besides ok or failed */
};

/* Looks at the clusters that the answer depends on. */
static struct verdict by_clusters(const struct check *c)
{
    for (uint32_t i = 0; i < c->cfg->n_least; i++) {
        const struct least *l = &c->cfg->least[i];
        uint32_t usable = 0, total = 0;
        struct upstream_cluster *u = upstream_find(worker_of(&c->f)->upstream, l->cluster);
        if (!u)
            return (struct verdict){503, SV("health_check_failed_no_cluster_found"),
                                    hc_stats_failed_cluster_not_found};
        upstream_cluster_members(u, &usable, &total);
        upstream_cluster_unref(u);
        if (total == 0 && l->percent > 0)
            return (struct verdict){503, SV("health_check_failed_cluster_empty"),
                                    hc_stats_failed_cluster_empty};
        if (100.0 * usable < total * l->percent)
            return (struct verdict){503, SV("health_check_failed_cluster_unhealthy"),
                                    hc_stats_failed_cluster_unhealthy};
    }
    return (struct verdict){200, SV("health_check_ok_cluster_healthy"), hc_stats_COUNT};
}

static struct verdict judge(const struct check *c)
{
    uint16_t cached = cached_status(c);
    if (failing(&c->f))
        return (struct verdict){503, SV("health_check_failed"), hc_stats_COUNT};
    if (cached)
        return (struct verdict){cached, SV("health_check_cached"), hc_stats_cached_response};
    if (c->cfg->n_least)
        return by_clusters(c);
    return (struct verdict){200, SV("health_check_ok"), hc_stats_COUNT};
}

static void answer(struct check *c)
{
    struct http_filter_host *h = c->f.host;
    struct verdict v = judge(c);
    bool ok = v.status / 100 == 2;
    stat_inc(&c->cfg->stats, hc_stats_request_total);
    stat_inc(&c->cfg->stats, ok ? hc_stats_ok : hc_stats_failed);
    if (v.stat != hc_stats_COUNT)
        stat_inc(&c->cfg->stats, v.stat);
    h->ops->local_reply(h, &(struct http_local_reply){.status = v.status,
                                                      .details = v.details,
                                                      .flags = ok ? 0 : STREAM_FLAG_LH});
}

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct check *c = container_of(f, struct check, f);
    struct http_filter_host *h = f->host;
    if (!header_match_all(c->cfg->headers, c->cfg->n_headers, head, h->arena))
        return HTTP_FILTER_CONTINUE;
    c->is_check = true;
    h->info->health_check = true;
    c->mine = !c->cfg->pass_through || failing(f) || cached_status(c);
    if (!c->mine)
        return HTTP_FILTER_CONTINUE;
    if (end)
        answer(c);
    return HTTP_FILTER_STOP;
}

static enum http_filter_status decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct check *c = container_of(f, struct check, f);
    if (!c->mine)
        return HTTP_FILTER_CONTINUE;
    buf_reset(data);
    if (end)
        answer(c);
    return HTTP_FILTER_STOP;
}

static enum http_filter_status decode_trailers(struct http_filter *f, struct http_headers *t)
{
    struct check *c = container_of(f, struct check, f);
    if (!c->mine)
        return HTTP_FILTER_CONTINUE;
    answer(c);
    return HTTP_FILTER_STOP;
}

/* Any other response too tells the balancer at once: it need not wait for its next check. */
static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct check *c = container_of(f, struct check, f);
    if (c->is_check && !c->mine)
        remember(c, head->status);
    if (c->is_check)
        http_headers_set(&head->h, SV("x-envoy-upstream-healthchecked-cluster"),
                         worker_of(f)->node ? worker_of(f)->node->cluster : (sv){NULL, 0});
    if (failing(f) && (!c->is_check || c->mine))
        http_headers_set(&head->h, SV("x-envoy-immediate-health-check-fail"), SV("true"));
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.health_check",
    .decode_head = decode_head,
    .decode_data = decode_data,
    .decode_trailers = decode_trailers,
    .encode_head = encode_head,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct check *c = arena_new(host->arena, struct check);
    c->f.ops = &ops;
    c->cfg = (struct config *)(uintptr_t)config;
    return &c->f;
}

const struct http_filter_type http_health_check_type = {
    .name = "envoy.filters.http.health_check",
    .config_type = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    .parse = parse,
    .make = make,
};
