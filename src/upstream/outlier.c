/* The main thread's half of outlier detection: judging, ejecting, letting back in. */
#include "upstream/outlier.h"

#include <math.h>
#include "base/mem.h"

#define OUTLIER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                          \
    GAUGE(P, ejections_active)                                                                     \
    COUNTER(P, ejections_consecutive_5xx)                                                          \
    COUNTER(P, ejections_detected_consecutive_5xx)                                                 \
    COUNTER(P, ejections_detected_consecutive_gateway_failure)                                     \
    COUNTER(P, ejections_detected_consecutive_local_origin_failure)                                \
    COUNTER(P, ejections_detected_failure_percentage)                                              \
    COUNTER(P, ejections_detected_local_origin_failure_percentage)                                 \
    COUNTER(P, ejections_detected_local_origin_success_rate)                                       \
    COUNTER(P, ejections_detected_success_rate)                                                    \
    COUNTER(P, ejections_enforced_consecutive_5xx)                                                 \
    COUNTER(P, ejections_enforced_consecutive_gateway_failure)                                     \
    COUNTER(P, ejections_enforced_consecutive_local_origin_failure)                                \
    COUNTER(P, ejections_enforced_failure_percentage)                                              \
    COUNTER(P, ejections_enforced_local_origin_failure_percentage)                                 \
    COUNTER(P, ejections_enforced_local_origin_success_rate)                                       \
    COUNTER(P, ejections_enforced_success_rate)                                                    \
    COUNTER(P, ejections_enforced_total)                                                           \
    COUNTER(P, ejections_overflow)                                                                 \
    COUNTER(P, ejections_success_rate)                                                             \
    COUNTER(P, ejections_total)
STAT_GROUP_DECLARE(outlier_stat, OUTLIER_STATS);
STAT_GROUP_DEFINE(outlier_stat, OUTLIER_STATS);

struct outlier {
    struct loop *loop;
    struct cluster *cluster;
    struct endpoint_set *set;
    const struct outlier_config *cfg; /* the cluster's */
    struct timer interval;
    struct stat_group stats;
    struct outlier_rates rates;
    void (*on_change)(void *arg);
    void *arg;
};

static const struct {
    unsigned detected, enforced;
} stat_of[OUTLIER_KINDS] = {
    [OUTLIER_5XX] = {outlier_stat_ejections_detected_consecutive_5xx,
                     outlier_stat_ejections_enforced_consecutive_5xx},
    [OUTLIER_GATEWAY] = {outlier_stat_ejections_detected_consecutive_gateway_failure,
                         outlier_stat_ejections_enforced_consecutive_gateway_failure},
    [OUTLIER_LOCAL] = {outlier_stat_ejections_detected_consecutive_local_origin_failure,
                       outlier_stat_ejections_enforced_consecutive_local_origin_failure},
    [OUTLIER_SUCCESS_RATE] = {outlier_stat_ejections_detected_success_rate,
                              outlier_stat_ejections_enforced_success_rate},
    [OUTLIER_SUCCESS_RATE_LOCAL] = {outlier_stat_ejections_detected_local_origin_success_rate,
                                    outlier_stat_ejections_enforced_local_origin_success_rate},
    [OUTLIER_FAILURE_PERCENT] = {outlier_stat_ejections_detected_failure_percentage,
                                 outlier_stat_ejections_enforced_failure_percentage},
    [OUTLIER_FAILURE_PERCENT_LOCAL] =
        {outlier_stat_ejections_detected_local_origin_failure_percentage,
         outlier_stat_ejections_enforced_local_origin_failure_percentage},
};

static bool ejected(const struct endpoint_state *s)
{
    return atomic_load_explicit(&s->flags, memory_order_relaxed) & ENDPOINT_FAILED_OUTLIER;
}

static uint32_t count_ejected(const struct endpoint_table *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n; i++)
        n += ejected(t->v[i].info->state);
    return n;
}

static void changed(struct outlier *o)
{
    stat_gauge_set(&o->stats, outlier_stat_ejections_active,
                   count_ejected(endpoint_set_table(o->set)));
    endpoint_set_show(o->set);
    o->on_change(o->arg);
}

/* ---- ejecting ---- */

static bool enforced(struct outlier *o, enum outlier_kind k)
{
    const struct outlier_config *c = o->cfg;
    const uint32_t percent[OUTLIER_KINDS] = {
        [OUTLIER_5XX] = c->enforce_5xx,
        [OUTLIER_GATEWAY] = c->enforce_gateway,
        [OUTLIER_LOCAL] = c->enforce_local,
        [OUTLIER_SUCCESS_RATE] = c->enforce_sr,
        [OUTLIER_SUCCESS_RATE_LOCAL] = c->enforce_sr_local,
        [OUTLIER_FAILURE_PERCENT] = c->enforce_fp,
        [OUTLIER_FAILURE_PERCENT_LOCAL] = c->enforce_fp_local,
    };
    return rand_below(loop_rand(o->loop), 100) < percent[k];
}

static bool room_for_one(const struct outlier *o)
{
    const struct endpoint_table *t = endpoint_set_table(o->set);
    uint32_t n = count_ejected(t);
    if (n == 0 && o->cfg->always_one)
        return true;
    return t->n && 100.0 * (n + 1) / t->n <= o->cfg->max_percent;
}

/* Host, reason: out, if dice and limits agree. Returns whether it was. */
static bool eject(struct outlier *o, struct endpoint_state *s, enum outlier_kind k)
{
    struct endpoint_outlier *e = &s->outlier;
    if (!room_for_one(o)) {
        stat_inc(&o->stats, outlier_stat_ejections_overflow);
        return false;
    }
    if (k == OUTLIER_5XX || k == OUTLIER_SUCCESS_RATE)
        stat_inc(&o->stats, outlier_stat_ejections_total);
    if (!enforced(o, k))
        return false;
    stat_inc(&o->stats, outlier_stat_ejections_enforced_total);
    stat_inc(&o->stats, stat_of[k].enforced);
    atomic_fetch_or_explicit(&s->flags, ENDPOINT_FAILED_OUTLIER, memory_order_relaxed);
    e->ejected_ms = loop_now_ms(o->loop);
    if (e->ejections * o->cfg->base_ms < o->cfg->max_ms + o->cfg->base_ms)
        e->ejections++;
    e->ejection_ms = e->ejections * o->cfg->base_ms;
    if (e->ejection_ms > o->cfg->max_ms)
        e->ejection_ms = o->cfg->max_ms;
    if (o->cfg->jitter_ms)
        e->ejection_ms += rand_below(loop_rand(o->loop), o->cfg->jitter_ms + 1);
    return true;
}

static void forget_runs(struct endpoint_outlier *e)
{
    atomic_store_explicit(&e->consecutive_5xx, 0, memory_order_relaxed);
    atomic_store_explicit(&e->consecutive_gateway, 0, memory_order_relaxed);
    atomic_store_explicit(&e->consecutive_local, 0, memory_order_relaxed);
}

void outlier_hit(struct outlier *o, const struct endpoint_state *hit, enum outlier_kind k)
{
    const struct endpoint_table *t = endpoint_set_table(o->set);
    struct endpoint_state *s = NULL;
    for (uint32_t i = 0; i < t->n && !s; i++)
        if (t->v[i].info->state == hit)
            s = t->v[i].info->state;
    if (!s) /* it went away meanwhile */
        return;
    _Atomic uint32_t *run = k == OUTLIER_5XX       ? &s->outlier.consecutive_5xx
                            : k == OUTLIER_GATEWAY ? &s->outlier.consecutive_gateway
                                                   : &s->outlier.consecutive_local;
    bool out = false;
    if (!ejected(s)) {
        stat_inc(&o->stats, stat_of[k].detected);
        if (k == OUTLIER_5XX)
            stat_inc(&o->stats, outlier_stat_ejections_consecutive_5xx);
        out = eject(o, s, k);
    }
    atomic_store_explicit(run, 0, memory_order_relaxed);
    if (out)
        changed(o);
}

/* ---- every interval ---- */

static bool let_in(struct outlier *o, struct endpoint_state *s)
{
    struct endpoint_outlier *e = &s->outlier;
    if (!ejected(s)) {
        if (e->ejections) /* it behaved: the next ejection is shorter */
            e->ejections--;
        return false;
    }
    if (loop_now_ms(o->loop) - e->ejected_ms < e->ejection_ms)
        return false;
    atomic_fetch_and_explicit(&s->flags, ~ENDPOINT_FAILED_OUTLIER, memory_order_relaxed);
    forget_runs(e);
    return true;
}

void outlier_forgive(struct outlier *o, struct endpoint_state *s)
{
    if (!o->cfg->forgiven_by_health_check || !ejected(s) ||
        atomic_load_explicit(&s->flags, memory_order_relaxed) & ENDPOINT_FAILED_ACTIVE_HC)
        return;
    atomic_fetch_and_explicit(&s->flags, ~ENDPOINT_FAILED_OUTLIER, memory_order_relaxed);
    forget_runs(&s->outlier);
    changed(o);
}

struct sample {
    struct endpoint_state *s;
    double rate;
    uint32_t volume;
};

/* The interval's figures of each host that is in; zeroes them. */
static uint32_t collect(struct outlier *o, const struct endpoint_table *t, bool local,
                        struct sample *out)
{
    const struct outlier_config *c = o->cfg;
    uint32_t least = c->sr_volume < c->fp_volume ? c->sr_volume : c->fp_volume, n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        struct endpoint_state *s = t->v[i].info->state;
        struct endpoint_outlier *e = &s->outlier;
        uint32_t total = atomic_exchange_explicit(local ? &e->window_local_total : &e->window_total,
                                                  0, memory_order_relaxed);
        uint32_t ok = atomic_exchange_explicit(local ? &e->window_local_ok : &e->window_ok, 0,
                                               memory_order_relaxed);
        double rate = total ? 100.0 * ok / total : -1;
        *(local ? &e->local_success_rate : &e->success_rate) = total && total >= least ? rate : -1;
        if (total && !ejected(s))
            out[n++] = (struct sample){s, rate, total};
    }
    return n;
}

/* Mean and threshold over the hosts with enough requests. */
static bool deviation(const struct outlier_config *c, const struct sample *v, uint32_t n,
                      double *mean, double *threshold)
{
    double sum = 0, squares = 0;
    uint32_t hosts = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (v[i].volume < c->sr_volume)
            continue;
        hosts++;
        sum += v[i].rate;
    }
    if (hosts == 0 || hosts < c->sr_minimum_hosts)
        return false;
    *mean = sum / hosts;
    for (uint32_t i = 0; i < n; i++)
        if (v[i].volume >= c->sr_volume)
            squares += (v[i].rate - *mean) * (v[i].rate - *mean);
    *threshold = *mean - c->sr_stdev_factor / 1000.0 * sqrt(squares / hosts);
    return true;
}

static bool judge(struct outlier *o, struct endpoint_state *s, enum outlier_kind k)
{
    stat_inc(&o->stats, stat_of[k].detected);
    if (k == OUTLIER_SUCCESS_RATE)
        stat_inc(&o->stats, outlier_stat_ejections_success_rate);
    return eject(o, s, k);
}

static bool judge_all(struct outlier *o, bool local, const struct sample *v, uint32_t n)
{
    const struct outlier_config *c = o->cfg;
    double mean = -1, threshold = -1;
    uint32_t enough = 0;
    bool any = false;
    if (deviation(c, v, n, &mean, &threshold)) {
        for (uint32_t i = 0; i < n; i++)
            if (v[i].volume >= c->sr_volume && v[i].rate < threshold)
                any |= judge(o, v[i].s, local ? OUTLIER_SUCCESS_RATE_LOCAL : OUTLIER_SUCCESS_RATE);
    }
    for (uint32_t i = 0; i < n; i++)
        enough += v[i].volume >= c->fp_volume;
    for (uint32_t i = 0; enough > 0 && enough >= c->fp_minimum_hosts && i < n; i++)
        if (v[i].volume >= c->fp_volume && 100.0 - v[i].rate >= c->fp_threshold && !ejected(v[i].s))
            any |=
                judge(o, v[i].s, local ? OUTLIER_FAILURE_PERCENT_LOCAL : OUTLIER_FAILURE_PERCENT);
    *(local ? &o->rates.local_average : &o->rates.average) = mean;
    *(local ? &o->rates.local_threshold : &o->rates.threshold) = threshold;
    return any;
}

static void on_interval(struct timer *t)
{
    struct outlier *o = container_of(t, struct outlier, interval);
    const struct endpoint_table *table = endpoint_set_table(o->set);
    struct sample *v = mem_array(struct sample, table->n + 1);
    bool any = false;
    timer_set(t, o->cfg->interval_ms);
    for (uint32_t i = 0; i < table->n; i++)
        any |= let_in(o, table->v[i].info->state);
    any |= judge_all(o, false, v, collect(o, table, false, v));
    if (o->cfg->split_local)
        any |= judge_all(o, true, v, collect(o, table, true, v));
    free(v);
    if (any)
        changed(o);
}

/* ---- life ---- */

struct outlier *outlier_new(struct loop *l, struct cluster *c, struct endpoint_set *set,
                            void (*on_change)(void *arg), void *arg)
{
    struct outlier *o = mem_new(struct outlier);
    struct cluster_rt *rt = cluster_rt(c);
    struct stats_scope *sub =
        stats_scope_sub(rt->stats.scope, SV("outlier_detection."), (sv){0}, NULL, 0);
    stat_group_init(&o->stats, &outlier_stat_def, sub);
    stats_scope_unref(sub);
    o->loop = l;
    o->cluster = cluster_ref(c);
    o->set = endpoint_set_ref(set);
    o->cfg = &rt->cfg->outlier;
    o->rates = outlier_rates(NULL);
    o->on_change = on_change;
    o->arg = arg;
    timer_init(&o->interval, l, on_interval);
    timer_set(&o->interval, o->cfg->interval_ms);
    return o;
}

void outlier_free(struct outlier *o)
{
    if (!o)
        return;
    timer_cancel(&o->interval);
    stat_group_fini(&o->stats);
    endpoint_set_unref(o->set);
    cluster_unref(o->cluster);
    free(o);
}

void outlier_set_endpoints(struct outlier *o, struct endpoint_set *set)
{
    endpoint_set_ref(set);
    endpoint_set_unref(o->set);
    o->set = set;
    stat_gauge_set(&o->stats, outlier_stat_ejections_active,
                   count_ejected(endpoint_set_table(set)));
}

struct outlier_rates outlier_rates(const struct outlier *o)
{
    return o ? o->rates : (struct outlier_rates){-1, -1, -1, -1};
}
