/* Requests for streams and connections that are still to be answered. */
#include "upstream/http_pool.h"
#include "upstream/worker.h"

const char *upstream_fail_text(enum upstream_fail f)
{
    static const char *const text[] = {
#define X(id, t) t,
        UPSTREAM_FAILS(X)
#undef X
    };
    return text[f];
}

struct upstream_open *open_new(struct upstream_cluster *handle, struct upstream_host *host,
                               void *user, enum upstream_priority p)
{
    struct cluster_core *c = handle->core;
    struct upstream_open *o = pool_get(&c->w->opens);
    *o = (struct upstream_open){.handle = handle, .host = host, .user = user, .priority = p};
    list_init(&o->link);
    upstream_cluster_ref(handle);
    host_use(host);
    stat_inc(core_stats(c), cluster_stat_upstream_rq_pending_total);
    stat_gauge_inc(core_stats(c), cluster_stat_upstream_rq_pending_active);
    atomic_fetch_add_explicit(&host->state->rq_pending, 1, memory_order_relaxed);
    return o;
}

void open_end(struct upstream_open *o)
{
    struct cluster_core *c = o->handle->core;
    struct upstream_worker *w = c->w;
    struct upstream_cluster *handle = o->handle;
    struct upstream_host *host = o->host;
    list_del(&o->link);
    if (o->pool)
        o->pool->n_pending--;
    stat_gauge_dec(core_stats(c), cluster_stat_upstream_rq_pending_active);
    atomic_fetch_sub_explicit(&host->state->rq_pending, 1, memory_order_relaxed);
    limits_give(&c->rt->limits, o->priority, LIMIT_PENDING);
    pool_put(&w->opens, o);
    host_unuse(host);
    upstream_cluster_unref(handle);
}

void open_fail(struct upstream_open *o, enum upstream_fail why, sv details)
{
    struct upstream_open got = *o;
    upstream_cluster_ref(got.handle);
    open_end(o);
    if (why == UPSTREAM_FAIL_CONNECT || why == UPSTREAM_FAIL_CONNECT_TIMEOUT)
        host_connect_failed(got.host, why == UPSTREAM_FAIL_CONNECT_TIMEOUT, got.pool != NULL);
    if (got.pool)
        got.cb.http->on_fail(got.user, why, got.host, details);
    else
        got.cb.tcp->on_fail(got.user, why, got.host, details);
    upstream_cluster_unref(got.handle);
}

/* ---- retries ---- */

bool upstream_retry_take(struct upstream_cluster *h, enum upstream_priority p)
{
    return limits_take(&h->core->rt->limits, p, LIMIT_RETRY);
}

void upstream_retry_give(struct upstream_cluster *h, enum upstream_priority p)
{
    limits_give(&h->core->rt->limits, p, LIMIT_RETRY);
}

/* ---- stats that the router counts ---- */

void upstream_count(struct upstream_cluster *h, enum upstream_rq_counter which)
{
    static const unsigned id[] = {
#define X(name) cluster_stat_##name,
        UPSTREAM_RQ_COUNTERS(X)
#undef X
    };
    stat_inc(core_stats(h->core), id[which]);
}

void upstream_count_response(struct upstream_cluster *h, uint16_t status, uint64_t time_us,
                             bool internal)
{
    cluster_stats_response(&h->core->rt->stats, status, time_us, internal);
}

void upstream_count_retried(struct upstream_cluster *h, uint16_t status)
{
    cluster_stats_retried(&h->core->rt->stats, status);
}

struct stats_scope *upstream_cluster_scope(const struct upstream_cluster *h)
{
    return h->core->rt->stats.scope;
}
