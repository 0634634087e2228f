#include "telemetry/stats_internal.h"
#include "base/code.h"

#include <stdlib.h>
#include "base/mem.h"

STAT_GROUP_DEFINE(stats_self, STATS_SELF);

static const double default_bounds[] = {0.5,   1,      5,      10,      25,     50,    100,
                                        250,   500,    1000,   2500,    5000,   10000, 30000,
                                        60000, 300000, 600000, 1800000, 3600000};

struct stats *stats_new(void)
{
    struct stats *s = mem_new(struct stats);
    pthread_mutex_init(&s->lock, NULL);
    map_init_borrow(&s->scopes);
    map_init_borrow(&s->series);
    s->budget = 10000;
    stats_set_buckets(s, default_bounds, sizeof(default_bounds) / sizeof(default_bounds[0]));
    struct stats_scope *sc = stats_scope_plain(s, SV("stats."));
    stat_group_init(&s->self, &stats_self_def, sc);
    stats_scope_unref(sc);
    return s;
}

void stats_free(struct stats *s)
{
    if (!s)
        return;
    stat_group_fini(&s->self);
    map_fini(&s->series);
    map_fini(&s->scopes);
    pthread_mutex_destroy(&s->lock);
    free(s->bounds);
    free(s);
}

void stats_set_budget(struct stats *s, uint32_t max_series)
{
    pthread_mutex_lock(&s->lock);
    s->budget = max_series;
    pthread_mutex_unlock(&s->lock);
}

void stats_set_idle_ms(struct stats *s, uint64_t idle_ms)
{
    pthread_mutex_lock(&s->lock);
    s->idle_ms = idle_ms;
    pthread_mutex_unlock(&s->lock);
}

void stats_set_buckets(struct stats *s, const double *bounds, uint32_t n)
{
    double *copy = mem_array(double, n);
    memcpy(copy, bounds, n * sizeof(*copy));
    free(s->bounds);
    s->bounds = copy;
    s->n_bounds = n;
}

/* ---- scopes ---- */

static struct stats_scope *scope_new(struct stats *s, const struct stats_scope_spec *spec)
{
    struct stats_scope *sc = mem_new(struct stats_scope);
    sc->refs = 1;
    sc->stats = s;
    sc->bare = spec->bare;
    arena_init_malloc(&sc->arena);
    sc->prefix = arena_sv(&sc->arena, spec->prefix);
    sc->family = arena_sv(&sc->arena, spec->family);
    sc->n_labels = spec->n_labels;
    sc->labels = arena_array(&sc->arena, struct stat_label, spec->n_labels);
    for (uint32_t i = 0; i < spec->n_labels; i++) {
        sc->labels[i].name = arena_sv(&sc->arena, spec->labels[i].name);
        sc->labels[i].value = arena_sv(&sc->arena, spec->labels[i].value);
    }
    list_init(&sc->series);
    return sc;
}

struct stats_scope *stats_scope_get(struct stats *s, const struct stats_scope_spec *spec)
{
    pthread_mutex_lock(&s->lock);
    struct stats_scope *sc = map_get(&s->scopes, spec->prefix);
    if (sc) {
        sc->refs++;
    } else {
        sc = scope_new(s, spec);
        map_put(&s->scopes, sc->prefix, sc);
    }
    pthread_mutex_unlock(&s->lock);
    return sc;
}

void stats_scope_ref(struct stats_scope *sc)
{
    pthread_mutex_lock(&sc->stats->lock);
    sc->refs++;
    pthread_mutex_unlock(&sc->stats->lock);
}

static void block_free(struct stat_block *b)
{
    for (uint32_t i = 0; i < b->def->n; i++) {
        uintptr_t p = (uintptr_t)atomic_load_explicit(&b->v[i], memory_order_acquire);
        if (b->def->defs[i].kind == STAT_HISTOGRAM)
            hist_free((struct stat_histogram *)p);
        else if (b->def->defs[i].kind == STAT_TEXT)
            free((struct stat_text *)p);
    }
    free(b);
}

static void codes_free(struct stat_code_list *l)
{
    struct stat_code *c = atomic_load(&l->head);
    while (c) {
        struct stat_code *next = c->next;
        free(c);
        c = next;
    }
    free(l);
}

static void scope_free(struct stats_scope *sc)
{
    struct stat_block *b = atomic_load(&sc->blocks);
    while (b) {
        struct stat_block *next = b->next;
        block_free(b);
        b = next;
    }
    struct stat_code_list *l = atomic_load(&sc->codes);
    while (l) {
        struct stat_code_list *next = l->next;
        codes_free(l);
        l = next;
    }
    arena_free(&sc->arena);
    free(sc);
}

void stats_scope_unref(struct stats_scope *sc)
{
    if (!sc)
        return;
    struct stats *s = sc->stats;
    pthread_mutex_lock(&s->lock);
    bool last = --sc->refs == 0;
    if (last) {
        map_del(&s->scopes, sc->prefix);
        list_each_safe (it, &sc->series)
            stats_series_kill(s, container_of(it, struct stat_series, in_scope));
    }
    pthread_mutex_unlock(&s->lock);
    if (last)
        scope_free(sc);
}

sv stats_scope_prefix(const struct stats_scope *sc)
{
    return sc->prefix;
}

void stats_scopes_take(struct stats *s, struct stats_scopes *out)
{
    pthread_mutex_lock(&s->lock);
    out->v = mem_array(struct stats_scope *, map_len(&s->scopes));
    out->n = 0;
    map_each (e, &s->scopes) {
        struct stats_scope *sc = e->val;
        sc->refs++;
        out->v[out->n++] = sc;
    }
    pthread_mutex_unlock(&s->lock);
}

void stats_scopes_drop(struct stats_scopes *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        stats_scope_unref(t->v[i]);
    free(t->v);
}

/* ---- scopes by Envoy's conventions ---- */

struct stats_scope *stats_scope_sub(struct stats_scope *parent, sv name, sv tagged,
                                    const struct stat_label *labels, uint32_t n_labels)
{
    struct arena a;
    arena_init_malloc(&a);
    uint32_t n = n_labels + parent->n_labels;
    struct stat_label *all = arena_array(&a, struct stat_label, n);
    /* The innermost first: Envoy's order. */
    for (uint32_t i = 0; i < n_labels; i++)
        all[i] = labels[i];
    for (uint32_t i = 0; i < parent->n_labels; i++)
        all[n_labels + i] = parent->labels[i];
    struct stats_scope_spec spec = {
        .prefix =
            arena_printf(&a, "%.*s%.*s%.*s", SV_ARG(parent->prefix), SV_ARG(name), SV_ARG(tagged)),
        .family = arena_printf(&a, "%.*s%.*s", SV_ARG(parent->family), SV_ARG(name)),
        .labels = all,
        .n_labels = n,
        .bare = parent->bare,
    };
    struct stats_scope *sc = stats_scope_get(parent->stats, &spec);
    arena_free(&a);
    return sc;
}

struct stats_scope *stats_scope_plain(struct stats *s, sv prefix)
{
    return stats_scope_get(s, &(struct stats_scope_spec){.prefix = prefix, .family = prefix});
}

/* FAMILY + value + "." with one label. */
static struct stats_scope *scope_tagged(struct stats *s, sv family, const char *label, sv value)
{
    struct arena a;
    arena_init_malloc(&a);
    struct stat_label l = {sv_of(label), value};
    struct stats_scope_spec spec = {
        .prefix = arena_printf(&a, "%.*s%.*s.", SV_ARG(family), SV_ARG(value)),
        .family = family,
        .labels = &l,
        .n_labels = 1,
    };
    struct stats_scope *sc = stats_scope_get(s, &spec);
    arena_free(&a);
    return sc;
}

struct stats_scope *stats_scope_cluster(struct stats *s, sv name)
{
    return scope_tagged(s, SV("cluster."), "envoy.cluster_name", name);
}

struct stats_scope *stats_scope_listener(struct stats *s, sv address)
{
    char *copy = sv_dup(address);
    for (size_t i = 0; i < address.n; i++)
        if (copy[i] == ':')
            copy[i] = '_';
    struct stats_scope *sc =
        scope_tagged(s, SV("listener."), "envoy.listener_address", sv_make(copy, address.n));
    free(copy);
    return sc;
}

struct stats_scope *stats_scope_http(struct stats *s, sv stat_prefix)
{
    return scope_tagged(s, SV("http."), "envoy.http_conn_manager_prefix", stat_prefix);
}

struct stats_scope *stats_scope_tcp(struct stats *s, sv stat_prefix)
{
    return scope_tagged(s, SV("tcp."), "envoy.tcp_prefix", stat_prefix);
}

/* ---- groups ---- */

void stat_group_init(struct stat_group *g, const struct stat_group_def *def,
                     struct stats_scope *scope)
{
    stats_scope_ref(scope);
    atomic_init(&g->v, NULL);
    g->scope = scope;
    g->def = def;
}

void stat_group_fini(struct stat_group *g)
{
    struct stats_scope *sc = g->scope;
    atomic_store(&g->v, NULL);
    g->scope = NULL;
    stats_scope_unref(sc);
}

stat_value *stat_group_touch(struct stat_group *g)
{
    struct stats_scope *sc = g->scope;
    pthread_mutex_lock(&sc->stats->lock);
    struct stat_block *b = atomic_load_explicit(&sc->blocks, memory_order_relaxed);
    while (b && b->def != g->def)
        b = b->next;
    if (!b) {
        b = mem_zalloc(sizeof(*b) + g->def->n * sizeof(b->v[0]));
        b->def = g->def;
        b->next = atomic_load_explicit(&sc->blocks, memory_order_relaxed);
        atomic_store_explicit(&sc->blocks, b, memory_order_release);
    }
    pthread_mutex_unlock(&sc->stats->lock);
    atomic_store_explicit(&g->v, b->v, memory_order_release);
    return b->v;
}

struct stat_histogram *stats_slot_histogram(stat_value *v)
{
    uint64_t p = atomic_load_explicit(v, memory_order_acquire);
    if (p)
        return (struct stat_histogram *)(uintptr_t)p;
    struct stat_histogram *h = hist_new();
    if (atomic_compare_exchange_strong_explicit(v, &p, (uint64_t)(uintptr_t)h, memory_order_acq_rel,
                                                memory_order_acquire))
        return h;
    hist_free(h);
    return (struct stat_histogram *)(uintptr_t)p;
}

HOT void stat_record(struct stat_group *g, unsigned id, uint64_t value)
{
    hist_record(stats_slot_histogram(stat_at(g, id)), value);
}

void stat_text_set(struct stat_group *g, unsigned id, sv text)
{
    struct stat_text *t = mem_alloc(sizeof(*t) + text.n);
    t->n = text.n;
    memcpy(t->p, text.p ? text.p : "", text.n);
    stat_value *v = stat_at(g, id);
    struct stats *s = g->scope->stats;
    pthread_mutex_lock(&s->lock);
    uint64_t old = atomic_exchange_explicit(v, (uint64_t)(uintptr_t)t, memory_order_acq_rel);
    pthread_mutex_unlock(&s->lock);
    free((struct stat_text *)(uintptr_t)old);
}

uint64_t stat_get(const struct stat_group *g, unsigned id)
{
    stat_value *v = atomic_load_explicit(&g->v, memory_order_acquire);
    if (!v)
        return 0;
    uint64_t raw = atomic_load_explicit(v + id, memory_order_acquire);
    switch (g->def->defs[id].kind) {
    case STAT_GAUGE:
        return stats_gauge_value(raw);
    case STAT_HISTOGRAM:
        return raw ? hist_count((struct stat_histogram *)(uintptr_t)raw) : 0;
    case STAT_TEXT:
        return 0;
    default:
        return raw;
    }
}

/* ---- counts by status ---- */

void stat_codes_init(struct stat_codes *c, const char *stem, struct stats_scope *scope)
{
    stats_scope_ref(scope);
    atomic_init(&c->list, NULL);
    c->scope = scope;
    c->stem = stem;
}

void stat_codes_fini(struct stat_codes *c)
{
    struct stats_scope *sc = c->scope;
    atomic_store(&c->list, NULL);
    c->scope = NULL;
    stats_scope_unref(sc);
}

static struct stat_code_list *codes_touch(struct stat_codes *c)
{
    struct stats_scope *sc = c->scope;
    pthread_mutex_lock(&sc->stats->lock);
    struct stat_code_list *l = atomic_load_explicit(&sc->codes, memory_order_relaxed);
    while (l && strcmp(l->stem, c->stem) != 0)
        l = l->next;
    if (!l) {
        l = mem_new(struct stat_code_list);
        l->stem = c->stem;
        l->next = atomic_load_explicit(&sc->codes, memory_order_relaxed);
        atomic_store_explicit(&sc->codes, l, memory_order_release);
    }
    pthread_mutex_unlock(&sc->stats->lock);
    atomic_store_explicit(&c->list, l, memory_order_release);
    return l;
}

void stat_codes_inc(struct stat_codes *c, unsigned status)
{
    if (status < 100 || status > 599)
        return;
    struct stat_code_list *l = atomic_load_explicit(&c->list, memory_order_acquire);
    if (!l)
        l = codes_touch(c);
    struct stat_code *fresh = NULL;
    struct stat_code *head = atomic_load_explicit(&l->head, memory_order_acquire);
    for (;;) {
        for (struct stat_code *e = head; e; e = e->next) {
            if (e->status != status)
                continue;
            atomic_fetch_add_explicit(&e->v, 1, memory_order_relaxed);
            free(fresh);
            return;
        }
        if (!fresh)
            fresh = mem_new(struct stat_code);
        fresh->status = (uint16_t)status;
        atomic_store_explicit(&fresh->v, 1, memory_order_relaxed);
        fresh->next = head;
        if (atomic_compare_exchange_strong_explicit(&l->head, &head, fresh, memory_order_acq_rel,
                                                    memory_order_acquire))
            return;
    }
}
