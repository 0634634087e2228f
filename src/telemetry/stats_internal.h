/* What the files of the stats registry share; nobody else includes this.
 *
 * One lock guards the maps of scopes and series, scopes' reference counts and texts; values are
 * atomics and never need it. Blocks and code lists are only ever pushed in front, so a reader who
 * holds a scope may walk them freely. */
#ifndef WEFT_TELEMETRY_STATS_INTERNAL_H
#define WEFT_TELEMETRY_STATS_INTERNAL_H

#include <pthread.h>
#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/refcount.h"
#include "telemetry/stats.h"
#include "telemetry/stats_histogram.h"

struct stat_block {
    struct stat_block *next;
    const struct stat_group_def *def;
    stat_value v[]; /* histograms: struct stat_histogram *; texts: struct stat_text * */
};

struct stat_text {
    size_t n;
    char p[];
};

struct stat_code {
    struct stat_code *next;
    uint16_t status;
    stat_value v;
};
struct stat_code_list {
    struct stat_code_list *next;
    const char *stem;
    _Atomic(struct stat_code *) head;
};

struct stats_scope {
    uint32_t refs; /* under the lock: a scope at 0 must not be found again */
    struct stats *stats;
    sv prefix, family;
    struct stat_label *labels;
    uint32_t n_labels;
    bool bare;
    struct arena arena; /* strings above */
    _Atomic(struct stat_block *) blocks;
    _Atomic(struct stat_code_list *) codes;
    struct list series;
    _Atomic uint64_t idle_ms; /* of its series; 0: the registry's */
};

struct stat_series {
    struct refcount ref; /* the registry's, and one a cache */
    _Atomic bool dead;   /* evicted, or its scope is gone */
    bool overflow;       /* stands for refused ones: not counted against the budget */
    uint8_t kind;
    struct stats_scope *scope; /* valid while it is not dead */
    struct list in_scope;
    sv key, name; /* key: see series_key() */
    struct stat_label *labels;
    uint32_t n_labels;
    struct arena arena;
    stat_value v;
    uint64_t swept_value, swept_ms; /* main: since when it has not changed */
};

#define STATS_SELF(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                             \
    GAUGE(P, series)                                                                               \
    COUNTER(P, series_refused)                                                                     \
    COUNTER(P, series_evicted)
STAT_GROUP_DECLARE(stats_self, STATS_SELF);

struct stats {
    pthread_mutex_t lock;
    struct map scopes; /* by prefix */
    struct map series; /* by key */
    uint32_t n_series, budget;
    uint64_t idle_ms;
    struct stat_group self;
    double *bounds;
    uint32_t n_bounds;
};

/* Scopes as they are now, each referenced. */
struct stats_scopes {
    struct stats_scope **v;
    uint32_t n;
};
void stats_scopes_take(struct stats *s, struct stats_scopes *out);
void stats_scopes_drop(struct stats_scopes *t);

/* Histogram behind a slot, made on demand. */
struct stat_histogram *stats_slot_histogram(stat_value *v);
/* Under the lock: takes a series out of the registry and drops the registry's reference. */
void stats_series_kill(struct stats *s, struct stat_series *e);
void stats_series_unref(struct stat_series *e);

static inline uint64_t stats_gauge_value(uint64_t raw)
{
    return raw < STAT_GAUGE_BIAS ? 0 : raw - STAT_GAUGE_BIAS;
}

#endif
