/* Counters, gauges, histograms and text readouts, named and typed as Envoy does.
 *
 *   stats ── scope "cluster.outbound|80||x."  ── block of values of one group (made on first touch)
 *     │        family "cluster."                  └ histogram (made on first record)
 *     │        labels envoy.cluster_name="outbound|80||x"
 *     │                                        ── codes: upstream_rq_503 … (made on first touch)
 *     └─ series: dynamic names and labels, budgeted, evicted when idle (istio_requests_total{…})
 *
 * A *group* is a static table of names and kinds, written once as an X-macro. A *scope* is where a
 * group is instantiated: Envoy's dotted prefix, and the same with the variable parts taken out as
 * labels, given by the owner; nothing is extracted with regular expressions. Scopes are found by
 * prefix and counted: a cluster that is replaced by a new version of itself goes on counting in
 * the same values, and one that goes away takes its values along.
 * A stat_group is the owner's handle: three words, and no values until something is counted.
 *
 * Counting is one relaxed atomic addition. Names ending in _rq_503 and _rq_5xx become the labels
 * envoy_response_code and envoy_response_code_class in Prometheus output, as in Envoy.
 * Thread: counting and touching: any. Scopes: any. Rendering and sweeping: one at a time (main). */
#ifndef WEFT_TELEMETRY_STATS_H
#define WEFT_TELEMETRY_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

struct stats;
struct stats_scope;
struct stat_histogram;

enum stat_kind { STAT_COUNTER, STAT_GAUGE, STAT_HISTOGRAM, STAT_TEXT };
/* What a histogram's whole numbers mean. Only shown, never converted. */
enum stat_unit { STAT_UNIT_NONE, STAT_UNIT_MS, STAT_UNIT_US, STAT_UNIT_BYTES, STAT_UNIT_PERCENT };

struct stat_def {
    const char *name; /* may contain dots */
    uint8_t kind, unit;
};
struct stat_group_def {
    const char *name;
    const struct stat_def *defs;
    uint32_t n;
};

/* ---- declaring a group ----
 *
 *   #define LISTENER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)
 *       COUNTER(P, downstream_cx_total)
 *       GAUGE(P, downstream_cx_active)
 *       HISTOGRAM(P, downstream_cx_length_ms, STAT_UNIT_MS)
 *   STAT_GROUP_DECLARE(listener_stats, LISTENER_STATS);   in the header (or the .c)
 *   STAT_GROUP_DEFINE(listener_stats, LISTENER_STATS);    in one .c
 *
 * gives the numbers listener_stats_downstream_cx_total …, listener_stats_COUNT and the table
 * listener_stats_def. Then, in the owner:
 *
 *   struct stat_group stats;
 *   stat_group_init(&l->stats, &listener_stats_def, scope);
 *   stat_inc(&l->stats, listener_stats_downstream_cx_total);
 */
#define STAT_ENUM_(P, name)         P##_##name,
#define STAT_ENUM_UNIT_(P, name, u) P##_##name,
#define STAT_DEF_C_(P, name)        {#name, STAT_COUNTER, STAT_UNIT_NONE},
#define STAT_DEF_G_(P, name)        {#name, STAT_GAUGE, STAT_UNIT_NONE},
#define STAT_DEF_H_(P, name, u)     {#name, STAT_HISTOGRAM, (u)},
#define STAT_DEF_T_(P, name)        {#name, STAT_TEXT, STAT_UNIT_NONE},
#define STAT_GROUP_DECLARE(id, LIST)                                                               \
    enum id { LIST(id, STAT_ENUM_, STAT_ENUM_, STAT_ENUM_UNIT_, STAT_ENUM_) id##_COUNT };          \
    extern const struct stat_group_def id##_def
#define STAT_GROUP_DEFINE(id, LIST)                                                                \
    static const struct stat_def id##_defs_[] = {                                                  \
        LIST(id, STAT_DEF_C_, STAT_DEF_G_, STAT_DEF_H_, STAT_DEF_T_)};                             \
    const struct stat_group_def id##_def = {#id, id##_defs_, id##_COUNT}

/* ---- the registry ---- */
struct stats *stats_new(void);
/* After every scope, group and cache is gone. */
void stats_free(struct stats *s);

struct stat_label {
    sv name, value;
};
struct stats_scope_spec {
    sv prefix;                       /* "cluster.outbound|80||x.": ends with '.', or is empty */
    sv family;                       /* the same without the variable parts: "cluster." */
    const struct stat_label *labels; /* {"envoy.cluster_name", "outbound|80||x"} */
    uint32_t n_labels;
    bool bare; /* Prometheus names without "envoy_" (istio_*, own namespaces) */
};
/* The scope of that prefix, made if there is none (then labels and family count; all is copied).
 * The caller owns one reference. */
struct stats_scope *stats_scope_get(struct stats *s, const struct stats_scope_spec *spec);
/* A scope below: "ssl." is added to prefix and family; the labels are added to the parent's.
 * `tagged`, when not empty, is added to the prefix only: ("http.", "ingress.", …) under a listener.
 */
struct stats_scope *stats_scope_sub(struct stats_scope *parent, sv name, sv tagged,
                                    const struct stat_label *labels, uint32_t n_labels);
void stats_scope_ref(struct stats_scope *sc);
/* The last one takes the scope's values out of the registry. NULL is fine. */
void stats_scope_unref(struct stats_scope *sc);
sv stats_scope_prefix(const struct stats_scope *sc);

/* Envoy's usual ones. */
struct stats_scope *stats_scope_plain(struct stats *s, sv prefix);     /* "server." */
struct stats_scope *stats_scope_cluster(struct stats *s, sv name);     /* cluster.NAME. */
struct stats_scope *stats_scope_listener(struct stats *s, sv address); /* listener.ADDR. with ':'
                                                                          turned into '_' */
struct stats_scope *stats_scope_http(struct stats *s, sv stat_prefix); /* http.PREFIX. */
struct stats_scope *stats_scope_tcp(struct stats *s, sv stat_prefix);  /* tcp.PREFIX. */

/* ---- a group in a scope ---- */
typedef _Atomic uint64_t stat_value;

struct stat_group {
    struct stats_scope *scope;
    const struct stat_group_def *def;
    _Atomic(stat_value *) v; /* NULL until touched */
};

/* Takes a reference on the scope; no memory beyond that. */
void stat_group_init(struct stat_group *g, const struct stat_group_def *def,
                     struct stats_scope *scope);
/* Drops it. A zeroed or finished group is fine. */
void stat_group_fini(struct stat_group *g);
/* Makes the values (shared with other groups of the same def and scope). Called by the ops below;
 * call it yourself where zeros must show before anything happened. */
stat_value *stat_group_touch(struct stat_group *g);

static inline stat_value *stat_at(struct stat_group *g, unsigned id)
{
    stat_value *v = atomic_load_explicit(&g->v, memory_order_acquire);
    if (__builtin_expect(!v, 0))
        v = stat_group_touch(g);
    return v + id;
}

/* Counters only grow. */
static inline void stat_add(struct stat_group *g, unsigned id, uint64_t n)
{
    atomic_fetch_add_explicit(stat_at(g, id), n, memory_order_relaxed);
}
static inline void stat_inc(struct stat_group *g, unsigned id)
{
    stat_add(g, id, 1);
}

/* A gauge is stored with a bias, so that "never set" (0) and "back to zero" differ (?usedonly), and
 * so that one that was decremented before it was incremented shows 0. Small beside 2^64: gauges of
 * versions hold hashes. */
#define STAT_GAUGE_BIAS (1ull << 40)
static inline void stat_value_gauge_add(stat_value *v, int64_t delta)
{
    if (__builtin_expect(atomic_load_explicit(v, memory_order_relaxed) == 0, 0)) {
        uint64_t unset = 0;
        atomic_compare_exchange_strong_explicit(v, &unset, STAT_GAUGE_BIAS, memory_order_relaxed,
                                                memory_order_relaxed);
    }
    atomic_fetch_add_explicit(v, (uint64_t)delta, memory_order_relaxed);
}
static inline void stat_gauge_add(struct stat_group *g, unsigned id, int64_t delta)
{
    stat_value_gauge_add(stat_at(g, id), delta);
}
static inline void stat_gauge_inc(struct stat_group *g, unsigned id)
{
    stat_gauge_add(g, id, 1);
}
static inline void stat_gauge_dec(struct stat_group *g, unsigned id)
{
    stat_gauge_add(g, id, -1);
}
static inline uint64_t stat_gauge_get(struct stat_group *g, unsigned id)
{
    uint64_t v = atomic_load_explicit(stat_at(g, id), memory_order_relaxed);
    return v ? v - STAT_GAUGE_BIAS : 0;
}
static inline void stat_gauge_set(struct stat_group *g, unsigned id, uint64_t value)
{
    atomic_store_explicit(stat_at(g, id), value + STAT_GAUGE_BIAS, memory_order_relaxed);
}

/* A sample of a histogram, in the unit of its definition. */
void stat_record(struct stat_group *g, unsigned id, uint64_t value);
/* A text readout; the text is copied. Main thread's pace: takes a lock. */
void stat_text_set(struct stat_group *g, unsigned id, sv text);

/* Counter or gauge as it stands; 0 when the group was never touched (which this does not do).
 * A histogram gives its number of samples. */
uint64_t stat_get(const struct stat_group *g, unsigned id);

/* ---- counts by HTTP status: PREFIX.upstream_rq_503 ---- */
struct stat_code_list;
struct stat_codes {
    struct stats_scope *scope;
    const char *stem;                      /* "upstream_rq", static */
    _Atomic(struct stat_code_list *) list; /* the scope's list of this stem once touched */
};
void stat_codes_init(struct stat_codes *c, const char *stem, struct stats_scope *scope);
void stat_codes_fini(struct stat_codes *c);
/* 100..599; others are not counted. */
void stat_codes_inc(struct stat_codes *c, unsigned status);

/* ---- dynamic series ----
 * For names and labels that come with the traffic. A series is found through the worker's cache
 * without a lock; the registry holds at most `budget` of them. Past that, what is new is counted
 * in one series a name, with the single label overflow="true", and stats.series_refused grows.
 * A series that did not change for the idle time is evicted by stats_sweep; whoever still holds
 * it in a cache finds out on its next look-up and gets a fresh one. */
struct stat_series;
struct stats_cache;

/* One per worker; `max` bounds its entries (the oldest half is dropped when it is full). */
struct stats_cache *stats_cache_new(struct stats *s, uint32_t max);
void stats_cache_free(struct stats_cache *c);
/* Never NULL. Valid until the next call with this cache. The labels' order is part of the
 * identity: give them in one order. The scope is not kept alive by its series.
 * A name may say where its labels stand in the dotted form, as Envoy's names have it: the first '%'
 * is the first label's value, and so on. "%.vcluster.%.upstream_rq_total" of the scope "vhost." is
 * vhost.HOST.vcluster.NAME.upstream_rq_total, and envoy_vhost_vcluster_upstream_rq_total{…} in
 * Prometheus. Labels without a '%' follow the name. */
struct stat_series *stats_cache_get(struct stats_cache *c, struct stats_scope *scope, sv name,
                                    enum stat_kind kind, const struct stat_label *labels,
                                    uint32_t n_labels);
void stat_series_add(struct stat_series *s, uint64_t n); /* counter */
void stat_series_gauge_add(struct stat_series *s, int64_t delta);
void stat_series_gauge_set(struct stat_series *s, uint64_t value);
void stat_series_record(struct stat_series *s, uint64_t value); /* histogram */

/* The same without a cache, for owners that have a look-up of their own: one reference, given back
 * with stat_series_release. A dead one (evicted, or its scope is gone) counts for nobody: get it
 * anew; likewise now and then when it is the overflow's. Thread: any; takes a lock. */
struct stat_series *stats_series_hold(struct stats *s, struct stats_scope *scope, sv name,
                                      enum stat_kind kind, const struct stat_label *labels,
                                      uint32_t n_labels);
bool stat_series_dead(const struct stat_series *s);
bool stat_series_overflow(const struct stat_series *s);
void stat_series_release(struct stat_series *s); /* NULL is fine */

/* Idle time of one scope's series instead of the registry's. */
void stats_scope_set_idle_ms(struct stats_scope *sc, uint64_t idle_ms);
/* Budget of dynamic series (default 10000) and idle time (default 0: never evicted). */
void stats_set_budget(struct stats *s, uint32_t max_series);
void stats_set_idle_ms(struct stats *s, uint64_t idle_ms);
/* Evicts what is idle and closes the interval of the histograms ("interval" quantiles are those
 * between the last two sweeps). Call it every stats_flush_interval (5 s). */
void stats_sweep(struct stats *s, uint64_t now_ms);

/* ---- reading ---- */
enum stats_format {
    STATS_FORMAT_TEXT,
    STATS_FORMAT_JSON,
    STATS_FORMAT_PROMETHEUS,
    STATS_FORMAT_OPENMETRICS
};
enum stats_buckets {
    STATS_BUCKETS_SUMMARY,
    STATS_BUCKETS_CUMULATIVE,
    STATS_BUCKETS_DISJOINT,
    STATS_BUCKETS_NONE
};
struct regex;
struct stats_query {
    enum stats_format format;
    enum stats_buckets buckets;
    bool used_only;
    bool all_kinds; /* else only `kind` */
    enum stat_kind kind;
    bool text_readouts; /* Prometheus: text readouts as gauges with a label text_value */
    bool pretty;
    const struct regex *filter; /* owned: stats_query_fini */
    sv filter_text;
};
/* From the query string of /stats?… and /stats/prometheus?…: format, filter, usedonly, type,
 * histogram_buckets, text_readouts, pretty. `path` chooses the default format. E_INVALID with
 * Envoy's words (the answer is then 400). */
int stats_query_parse(sv path_and_query, struct stats_query *q, struct error *err) MUST_CHECK;
void stats_query_fini(struct stats_query *q);
/* Content type of the answer. */
sv stats_content_type(const struct stats_query *q);
/* Appends the page, sorted by name. Does not block counting. */
void stats_render(struct stats *s, const struct stats_query *q, struct strbuf *out);

/* Upper bounds of Prometheus buckets for all histograms; the default are Envoy's 0.5 … 3600000. */
void stats_set_buckets(struct stats *s, const double *bounds, uint32_t n);

/* By full dotted name, for tests, drains and /ready: false when it is not there. Histograms give
 * their number of samples. */
bool stats_find(struct stats *s, sv full_name, uint64_t *value);
/* Every counter, gauge and text readout, unsorted; the views live during the call. */
typedef void (*stats_each_fn)(void *arg, enum stat_kind kind, sv full_name, uint64_t value, sv text,
                              bool used);
void stats_each(struct stats *s, stats_each_fn fn, void *arg);
/* POST /reset_counters: counters to zero. */
void stats_reset_counters(struct stats *s);

#endif
