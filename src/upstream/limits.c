#include "upstream/limits.h"
#include "base/code.h"

#define LIMIT_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                            \
    GAUGE(P, cx_open)                                                                              \
    GAUGE(P, rq_pending_open)                                                                      \
    GAUGE(P, rq_open)                                                                              \
    GAUGE(P, rq_retry_open)                                                                        \
    GAUGE(P, cx_pool_open)                                                                         \
    GAUGE(P, remaining_cx)                                                                         \
    GAUGE(P, remaining_pending)                                                                    \
    GAUGE(P, remaining_rq)                                                                         \
    GAUGE(P, remaining_retries)                                                                    \
    GAUGE(P, remaining_cx_pools)
STAT_GROUP_DECLARE(limit_stats, LIMIT_STATS);
STAT_GROUP_DEFINE(limit_stats, LIMIT_STATS);

static const unsigned open_gauge[LIMIT_COUNT] = {limit_stats_cx_open, limit_stats_rq_pending_open,
                                                 limit_stats_rq_open, limit_stats_rq_retry_open,
                                                 limit_stats_cx_pool_open};
static const unsigned remaining_gauge[LIMIT_COUNT] = {
    limit_stats_remaining_cx, limit_stats_remaining_pending, limit_stats_remaining_rq,
    limit_stats_remaining_retries, limit_stats_remaining_cx_pools};

void limit_config_default(struct limit_config *c)
{
    *c = (struct limit_config){.max = {1024, 1024, 1024, 3, UINT32_MAX}};
}

void limits_init(struct limits *l, const struct limit_config cfg[2], struct stats_scope *scope)
{
    static const char *const names[2] = {"circuit_breakers.default.", "circuit_breakers.high."};
    *l = (struct limits){.cfg = {cfg[0], cfg[1]}};
    for (int p = 0; p < 2; p++) {
        struct stats_scope *sub = stats_scope_sub(scope, sv_of(names[p]), (sv){0}, NULL, 0);
        stat_group_init(&l->stats[p], &limit_stats_def, sub);
        stats_scope_unref(sub);
        for (int k = 0; k < LIMIT_COUNT && cfg[p].track_remaining; k++)
            stat_gauge_set(&l->stats[p], remaining_gauge[k], limits_max(l, (unsigned)p, k));
    }
}

void limits_fini(struct limits *l)
{
    stat_group_fini(&l->stats[0]);
    stat_group_fini(&l->stats[1]);
}

uint32_t limits_used(const struct limits *l, unsigned p, enum limit_kind k)
{
    return atomic_load_explicit(&l->used[p][k], memory_order_relaxed);
}

HOT uint32_t limits_max(const struct limits *l, unsigned p, enum limit_kind k)
{
    const struct limit_config *c = &l->cfg[p];
    if (k != LIMIT_RETRY || !c->budget)
        return c->max[k];
    double active = (double)limits_used(l, p, LIMIT_RQ) + limits_used(l, p, LIMIT_PENDING);
    uint32_t share = (uint32_t)(c->budget_percent / 100.0 * active);
    return share > c->budget_min ? share : c->budget_min;
}

/* Gauges are only written where they change, so that clusters far from their limits have none. */
static void show(struct limits *l, unsigned p, enum limit_kind k, uint32_t before, uint32_t after,
                 uint32_t max)
{
    bool was_open = before >= max, is_open = after >= max;
    if (was_open != is_open)
        stat_gauge_set(&l->stats[p], open_gauge[k], is_open);
    if (l->cfg[p].track_remaining)
        stat_gauge_set(&l->stats[p], remaining_gauge[k], max > after ? max - after : 0);
}

void limits_force(struct limits *l, unsigned p, enum limit_kind k)
{
    uint32_t before = atomic_fetch_add_explicit(&l->used[p][k], 1, memory_order_relaxed);
    show(l, p, k, before, before + 1, limits_max(l, p, k));
}

HOT bool limits_take(struct limits *l, unsigned p, enum limit_kind k)
{
    uint32_t max = limits_max(l, p, k);
    uint32_t before = atomic_fetch_add_explicit(&l->used[p][k], 1, memory_order_relaxed);
    if (before >= max) {
        atomic_fetch_sub_explicit(&l->used[p][k], 1, memory_order_relaxed);
        return false;
    }
    show(l, p, k, before, before + 1, max);
    return true;
}

void limits_give(struct limits *l, unsigned p, enum limit_kind k)
{
    uint32_t before = atomic_fetch_sub_explicit(&l->used[p][k], 1, memory_order_relaxed);
    show(l, p, k, before, before - 1, limits_max(l, p, k));
}
