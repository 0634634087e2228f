/* Dynamic series and the workers' caches of them. */
#include "telemetry/stats_internal.h"

#include <stdlib.h>
#include "base/mem.h"

#define KEY_MAX 4096 /* a longer identity is refused like one over the budget */

struct stats_cache {
    struct stats *stats;
    struct map map; /* key -> series, each with a reference */
    uint32_t max;
};

struct stats_cache *stats_cache_new(struct stats *s, uint32_t max)
{
    struct stats_cache *c = mem_new(struct stats_cache);
    c->stats = s;
    c->max = max < 16 ? 16 : max;
    map_init_borrow(&c->map);
    return c;
}

void stats_series_unref(struct stat_series *e)
{
    if (!refcount_put(&e->ref))
        return;
    if (e->kind == STAT_HISTOGRAM)
        hist_free((struct stat_histogram *)(uintptr_t)atomic_load(&e->v));
    arena_free(&e->arena);
    free(e);
}

void stats_cache_free(struct stats_cache *c)
{
    if (!c)
        return;
    map_each (e, &c->map)
        stats_series_unref(e->val);
    map_fini(&c->map);
    free(c);
}

void stats_series_kill(struct stats *s, struct stat_series *e)
{
    map_del(&s->series, e->key);
    list_del(&e->in_scope);
    if (!e->overflow)
        s->n_series--;
    atomic_store_explicit(&e->dead, true, memory_order_release);
    stats_series_unref(e);
}

static inline char *put_sv(char *p, sv v)
{
    uint32_t n = (uint32_t)v.n;
    memcpy(p, &n, sizeof(n));
    if (n)
        memcpy(p + sizeof(n), v.p, n);
    return p + sizeof(n) + n;
}

/* Scope's address, kind, and each text with its length: unambiguous whatever the texts contain.
 * False when it is too long. */
static bool series_key(char key[KEY_MAX], size_t *n, const struct stats_scope *scope, sv name,
                       enum stat_kind kind, const struct stat_label *labels, uint32_t n_labels)
{
    uint32_t k = (uint32_t)kind;
    size_t total = sizeof(scope) + sizeof(k) + sizeof(uint32_t) + name.n;
    for (uint32_t i = 0; i < n_labels && total <= KEY_MAX; i++)
        total += 2 * sizeof(uint32_t) + labels[i].name.n + labels[i].value.n;
    if (total > KEY_MAX)
        return false;
    memcpy(key, &scope, sizeof(scope));
    memcpy(key + sizeof(scope), &k, sizeof(k));
    char *p = put_sv(key + sizeof(scope) + sizeof(k), name);
    for (uint32_t i = 0; i < n_labels; i++)
        p = put_sv(put_sv(p, labels[i].name), labels[i].value);
    *n = total;
    return true;
}

static struct stat_series *series_new(struct stats *s, struct stats_scope *scope, sv key, sv name,
                                      enum stat_kind kind, const struct stat_label *labels,
                                      uint32_t n_labels)
{
    struct stat_series *e = mem_new(struct stat_series);
    refcount_init(&e->ref);
    arena_init_malloc(&e->arena);
    e->kind = (uint8_t)kind;
    e->scope = scope;
    e->key = arena_sv(&e->arena, key);
    e->name = arena_sv(&e->arena, name);
    e->n_labels = n_labels;
    e->labels = arena_array(&e->arena, struct stat_label, n_labels);
    for (uint32_t i = 0; i < n_labels; i++) {
        e->labels[i].name = arena_sv(&e->arena, labels[i].name);
        e->labels[i].value = arena_sv(&e->arena, labels[i].value);
    }
    list_push(&scope->series, &e->in_scope);
    map_put(&s->series, e->key, e);
    return e;
}

/* Under the lock. The one that takes what is refused for this name. */
static struct stat_series *series_overflow(struct stats *s, struct stats_scope *scope, sv name,
                                           enum stat_kind kind, uint32_t n_labels)
{
    static const struct stat_label overflow = {SV_INIT("overflow"), SV_INIT("true")};
    char key[KEY_MAX];
    size_t n;
    /* A name without labels is itself what varies (or is far too long): all such share one. */
    if (n_labels == 0 || !series_key(key, &n, scope, name, kind, &overflow, 1)) {
        name = SV("overflow");
        if (!series_key(key, &n, scope, name, kind, &overflow, 1))
            abort();
    }
    struct stat_series *e = map_get(&s->series, sv_make(key, n));
    if (!e) {
        e = series_new(s, scope, sv_make(key, n), name, kind, &overflow, 1);
        e->overflow = true;
    }
    return e;
}

/* The registry's series, with a reference for the caller; *refused when it is the overflow's. */
static struct stat_series *series_find(struct stats *s, struct stats_scope *scope, sv key, sv name,
                                       enum stat_kind kind, const struct stat_label *labels,
                                       uint32_t n_labels, bool *refused)
{
    *refused = false;
    pthread_mutex_lock(&s->lock);
    struct stat_series *e = key.n ? map_get(&s->series, key) : NULL;
    if (!e && key.n && s->n_series < s->budget) {
        e = series_new(s, scope, key, name, kind, labels, n_labels);
        s->n_series++;
    }
    if (!e) {
        e = series_overflow(s, scope, name, kind, n_labels);
        *refused = true;
    }
    refcount_get(&e->ref);
    uint32_t count = s->n_series;
    pthread_mutex_unlock(&s->lock);
    stat_gauge_set(&s->self, stats_self_series, count);
    if (*refused)
        stat_inc(&s->self, stats_self_series_refused);
    return e;
}

/* Drops the older half. */
static void cache_shrink(struct stats_cache *c)
{
    struct map old = c->map;
    map_init_borrow(&c->map);
    uint32_t i = 0, keep_from = map_len(&old) / 2;
    map_each (e, &old) {
        if (i++ < keep_from)
            stats_series_unref(e->val);
        else
            map_put(&c->map, e->key, e->val);
    }
    map_fini(&old);
}

struct stat_series *stats_cache_get(struct stats_cache *c, struct stats_scope *scope, sv name,
                                    enum stat_kind kind, const struct stat_label *labels,
                                    uint32_t n_labels)
{
    char buf[KEY_MAX];
    sv key = {buf, 0};
    if (!series_key(buf, &key.n, scope, name, kind, labels, n_labels))
        key.n = 0;
    struct stat_series *e = key.n ? map_get(&c->map, key) : NULL;
    if (e && !atomic_load_explicit(&e->dead, memory_order_acquire))
        return e;
    if (e) {
        map_del(&c->map, key);
        stats_series_unref(e);
    }
    bool refused;
    e = series_find(c->stats, scope, key, name, kind, labels, n_labels, &refused);
    /* The overflow series is kept under its own key: the refused identity may fit next time. */
    struct stat_series *known = map_get(&c->map, e->key);
    if (known == e) {
        stats_series_unref(e);
        return e;
    }
    if (known) {
        map_del(&c->map, e->key);
        stats_series_unref(known);
    }
    if (map_len(&c->map) >= c->max)
        cache_shrink(c);
    map_put(&c->map, e->key, e);
    return e;
}

struct stat_series *stats_series_hold(struct stats *s, struct stats_scope *scope, sv name,
                                      enum stat_kind kind, const struct stat_label *labels,
                                      uint32_t n_labels)
{
    char buf[KEY_MAX];
    sv key = {buf, 0};
    bool refused;
    if (!series_key(buf, &key.n, scope, name, kind, labels, n_labels))
        key.n = 0;
    return series_find(s, scope, key, name, kind, labels, n_labels, &refused);
}

bool stat_series_dead(const struct stat_series *s)
{
    return atomic_load_explicit(&s->dead, memory_order_acquire);
}

bool stat_series_overflow(const struct stat_series *s)
{
    return s->overflow;
}

void stat_series_release(struct stat_series *s)
{
    if (s)
        stats_series_unref(s);
}

void stats_scope_set_idle_ms(struct stats_scope *sc, uint64_t idle_ms)
{
    atomic_store_explicit(&sc->idle_ms, idle_ms, memory_order_relaxed);
}

void stat_series_add(struct stat_series *s, uint64_t n)
{
    atomic_fetch_add_explicit(&s->v, n, memory_order_relaxed);
}

void stat_series_gauge_add(struct stat_series *s, int64_t delta)
{
    stat_value_gauge_add(&s->v, delta);
}

void stat_series_gauge_set(struct stat_series *s, uint64_t value)
{
    atomic_store_explicit(&s->v, value + STAT_GAUGE_BIAS, memory_order_relaxed);
}

void stat_series_record(struct stat_series *s, uint64_t value)
{
    hist_record(stats_slot_histogram(&s->v), value);
}

/* ---- sweeping ---- */

/* What changes whenever the series was used; a gauge that is not at zero is in use. */
static uint64_t activity(const struct stat_series *e, bool *in_use)
{
    uint64_t raw = atomic_load_explicit(&e->v, memory_order_acquire);
    *in_use = e->kind == STAT_GAUGE && stats_gauge_value(raw) != 0;
    if (e->kind == STAT_HISTOGRAM)
        return raw ? hist_count((struct stat_histogram *)(uintptr_t)raw) : 0;
    return raw;
}

static void sweep_series(struct stats *s, uint64_t now_ms)
{
    uint64_t evicted = 0;
    pthread_mutex_lock(&s->lock);
    /* From the end: a deletion moves the last entry into the hole, which was seen already. */
    for (uint32_t i = map_len(&s->series); i-- > 0;) {
        struct stat_series *e = s->series.entries[i].val;
        if (e->kind == STAT_HISTOGRAM) {
            uint64_t p = atomic_load_explicit(&e->v, memory_order_acquire);
            if (p)
                hist_close_interval((struct stat_histogram *)(uintptr_t)p);
        }
        bool in_use;
        uint64_t v = activity(e, &in_use);
        uint64_t idle = atomic_load_explicit(&e->scope->idle_ms, memory_order_relaxed);
        if (!idle)
            idle = s->idle_ms;
        if (v != e->swept_value || in_use || e->swept_ms == 0) {
            e->swept_value = v;
            e->swept_ms = now_ms ? now_ms : 1;
        } else if (idle && now_ms - e->swept_ms >= idle) {
            stats_series_kill(s, e);
            evicted++;
        }
    }
    uint32_t count = s->n_series;
    pthread_mutex_unlock(&s->lock);
    if (evicted) {
        stat_add(&s->self, stats_self_series_evicted, evicted);
        stat_gauge_set(&s->self, stats_self_series, count);
    }
}

void stats_sweep(struct stats *s, uint64_t now_ms)
{
    struct stats_scopes t;
    stats_scopes_take(s, &t);
    for (uint32_t i = 0; i < t.n; i++) {
        struct stat_block *b = atomic_load_explicit(&t.v[i]->blocks, memory_order_acquire);
        for (; b; b = b->next) {
            for (uint32_t k = 0; k < b->def->n; k++) {
                if (b->def->defs[k].kind != STAT_HISTOGRAM)
                    continue;
                uint64_t p = atomic_load_explicit(&b->v[k], memory_order_acquire);
                if (p)
                    hist_close_interval((struct stat_histogram *)(uintptr_t)p);
            }
        }
    }
    stats_scopes_drop(&t);
    sweep_series(s, now_ms);
}
