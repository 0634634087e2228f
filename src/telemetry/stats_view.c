#include "telemetry/stats_view.h"

#include <stdlib.h>
#include "api/regex.h"
#include "base/mem.h"

static void add(struct stats_view *v, const struct stats_query *q, struct stats_entry e)
{
    if (q) {
        if ((q->used_only && !e.used) || (!q->all_kinds && e.kind != q->kind))
            return;
        if (q->filter && !regex_partial(q->filter, e.name))
            return;
    }
    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 256;
        v->v = mem_realloc(v->v, v->cap * sizeof(*v->v));
    }
    v->v[v->n++] = e;
}

static sv full_name(struct stats_view *v, const struct stats_scope *sc, sv tail)
{
    char *p = arena_alloc(&v->arena, sc->prefix.n + tail.n + 1);
    if (sc->prefix.n)
        memcpy(p, sc->prefix.p, sc->prefix.n);
    memcpy(p + sc->prefix.n, tail.p, tail.n);
    return sv_make(p, sc->prefix.n + tail.n);
}

/* Reads a value into e by its kind. Texts are copied under the lock that replaces them. */
static void read_value(struct stats_view *v, stat_value *val, struct stats_entry *e)
{
    uint64_t raw = atomic_load_explicit(val, memory_order_acquire);
    e->used = raw != 0;
    switch (e->kind) {
    case STAT_COUNTER:
        e->value = raw;
        break;
    case STAT_GAUGE:
        e->value = stats_gauge_value(raw);
        break;
    case STAT_HISTOGRAM:
        e->hist = (const struct stat_histogram *)(uintptr_t)raw;
        break;
    case STAT_TEXT:
        pthread_mutex_lock(&v->stats->lock);
        raw = atomic_load_explicit(val, memory_order_acquire);
        if (raw) {
            const struct stat_text *t = (const struct stat_text *)(uintptr_t)raw;
            e->text = arena_sv(&v->arena, sv_make(t->p, t->n));
        }
        pthread_mutex_unlock(&v->stats->lock);
        break;
    }
}

static void add_scope(struct stats_view *v, const struct stats_query *q, struct stats_scope *sc)
{
    struct stat_block *b = atomic_load_explicit(&sc->blocks, memory_order_acquire);
    for (; b; b = b->next) {
        for (uint32_t i = 0; i < b->def->n; i++) {
            struct stats_entry e = {.scope = sc, .kind = b->def->defs[i].kind};
            e.tail = sv_of(b->def->defs[i].name);
            e.name = full_name(v, sc, e.tail);
            read_value(v, &b->v[i], &e);
            add(v, q, e);
        }
    }
    struct stat_code_list *l = atomic_load_explicit(&sc->codes, memory_order_acquire);
    for (; l; l = l->next) {
        struct stat_code *c = atomic_load_explicit(&l->head, memory_order_acquire);
        for (; c; c = c->next) {
            struct stats_entry e = {.scope = sc, .kind = STAT_COUNTER};
            e.tail = arena_printf(&v->arena, "%s_%u", l->stem, c->status);
            e.name = full_name(v, sc, e.tail);
            read_value(v, &c->v, &e);
            add(v, q, e);
        }
    }
}

/* "istiocustom.istio_requests_total.reporter.source.…": names and values of labels in a row. */
static sv series_name(struct stats_view *v, const struct stat_series *s)
{
    struct strbuf b;
    strbuf_init(&b, 16384);
    strbuf_add_sv(&b, s->scope->prefix);
    uint32_t placed = 0;
    for (size_t i = 0; i < s->name.n; i++) {
        if (s->name.p[i] == '%' && placed < s->n_labels && !s->overflow)
            strbuf_add_sv(&b, s->labels[placed++].value);
        else
            strbuf_add_ch(&b, s->name.p[i]);
    }
    for (uint32_t i = placed; i < s->n_labels; i++) {
        strbuf_add_ch(&b, '.');
        strbuf_add_sv(&b, s->labels[i].name);
        strbuf_add_ch(&b, '.');
        strbuf_add_sv(&b, s->labels[i].value);
    }
    sv name = arena_sv(&v->arena, strbuf_sv(&b));
    strbuf_fini(&b);
    return name;
}

/* Without the places of labels. */
static sv series_tail(struct stats_view *v, const struct stat_series *s)
{
    if (sv_find(s->name, '%') < 0)
        return s->name;
    char *p = arena_alloc(&v->arena, s->name.n);
    size_t n = 0;
    for (size_t i = 0; i < s->name.n; i++)
        if (s->name.p[i] == '%')
            i++; /* and the dot behind it */
        else
            p[n++] = s->name.p[i];
    return sv_make(p, n);
}

static void take_series(struct stats_view *v)
{
    struct stats *s = v->stats;
    pthread_mutex_lock(&s->lock);
    v->series = mem_array(struct stat_series *, map_len(&s->series));
    map_each (e, &s->series) {
        struct stat_series *x = e->val;
        /* Its scope too: the names of both are read after the lock is gone. */
        x->scope->refs++;
        refcount_get(&x->ref);
        v->series[v->n_series++] = x;
    }
    pthread_mutex_unlock(&s->lock);
}

static int by_name(const void *a, const void *b)
{
    return sv_cmp(((const struct stats_entry *)a)->name, ((const struct stats_entry *)b)->name);
}

/* Unsorted. wanted: only what may have this name, by the scopes' prefixes; empty: everything. */
static void collect(struct stats_view *v, struct stats *s, const struct stats_query *q, sv wanted)
{
    *v = (struct stats_view){.stats = s};
    arena_init_malloc(&v->arena);
    stats_scopes_take(s, &v->scopes);
    take_series(v);
    for (uint32_t i = 0; i < v->scopes.n; i++)
        if (!wanted.n || sv_starts(wanted, v->scopes.v[i]->prefix))
            add_scope(v, q, v->scopes.v[i]);
    for (uint32_t i = 0; i < v->n_series; i++) {
        struct stat_series *x = v->series[i];
        if (wanted.n && !sv_starts(wanted, x->scope->prefix))
            continue;
        struct stats_entry e = {
            .scope = x->scope,
            .kind = x->kind,
            .tail = series_tail(v, x),
            .labels = x->labels,
            .n_labels = x->n_labels,
            .name = series_name(v, x),
        };
        read_value(v, &x->v, &e);
        add(v, q, e);
    }
}

void stats_view_init(struct stats_view *v, struct stats *s, const struct stats_query *q)
{
    collect(v, s, q, (sv){0});
    if (v->n)
        qsort(v->v, v->n, sizeof(*v->v), by_name);
}

void stats_view_fini(struct stats_view *v)
{
    for (uint32_t i = 0; i < v->n_series; i++) {
        struct stats_scope *sc = v->series[i]->scope;
        stats_series_unref(v->series[i]);
        stats_scope_unref(sc);
    }
    free(v->series);
    stats_scopes_drop(&v->scopes);
    free(v->v);
    arena_free(&v->arena);
}

bool stats_find(struct stats *s, sv full_name, uint64_t *value)
{
    struct stats_view v;
    collect(&v, s, NULL, full_name);
    bool found = false;
    for (uint32_t i = 0; i < v.n && !found; i++) {
        if (!sv_eq(v.v[i].name, full_name))
            continue;
        *value = v.v[i].hist ? hist_count(v.v[i].hist) : v.v[i].value;
        found = true;
    }
    stats_view_fini(&v);
    return found;
}

void stats_each(struct stats *s, stats_each_fn fn, void *arg)
{
    struct stats_view v;
    collect(&v, s, NULL, (sv){0});
    for (uint32_t i = 0; i < v.n; i++)
        if (v.v[i].kind != STAT_HISTOGRAM)
            fn(arg, v.v[i].kind, v.v[i].name, v.v[i].value, v.v[i].text, v.v[i].used);
    stats_view_fini(&v);
}

static void reset_scope(struct stats_scope *sc)
{
    struct stat_block *b = atomic_load_explicit(&sc->blocks, memory_order_acquire);
    for (; b; b = b->next)
        for (uint32_t i = 0; i < b->def->n; i++)
            if (b->def->defs[i].kind == STAT_COUNTER)
                atomic_store_explicit(&b->v[i], 0, memory_order_relaxed);
    struct stat_code_list *l = atomic_load_explicit(&sc->codes, memory_order_acquire);
    for (; l; l = l->next)
        for (struct stat_code *c = atomic_load_explicit(&l->head, memory_order_acquire); c;
             c = c->next)
            atomic_store_explicit(&c->v, 0, memory_order_relaxed);
}

void stats_reset_counters(struct stats *s)
{
    struct stats_scopes t;
    stats_scopes_take(s, &t);
    for (uint32_t i = 0; i < t.n; i++)
        reset_scope(t.v[i]);
    stats_scopes_drop(&t);
    pthread_mutex_lock(&s->lock);
    map_each (e, &s->series) {
        struct stat_series *x = e->val;
        if (x->kind == STAT_COUNTER)
            atomic_store_explicit(&x->v, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
}
