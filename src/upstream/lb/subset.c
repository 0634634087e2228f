#include "upstream/lb/subset.h"

#include <stdlib.h>
#include "api/google.pb.h"
#include "api/pb_struct.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "upstream/cluster_stats.h"

#define KEY_MAX (64u << 10) /* bytes of a subset's name; more of them match nothing */
/* Combinations of one endpoint's lists; what comes after them is not seen. */
#define COMBINATIONS_MAX 1024

struct subset {
    struct lb lb; /* table NULL: not made yet */
    uint32_t *v;  /* ascending indices into the table */
    uint32_t n, cap;
    bool single;
};

struct lb_subsets {
    struct lb *whole;
    const struct lb_subset_config *cfg;
    struct map by_name; /* name -> subset */
    struct subset dflt;
    struct strbuf name;
};

/* One key and value of a match. */
struct criterion {
    sv key;
    const struct google_Value *value;
};
struct criteria {
    struct criterion v[LB_SUBSET_MAX_KEYS]; /* sorted by key */
    uint32_t n;
    bool too_many;
};

/* ---- names: equal when keys and values are ---- */

static void add_sv(struct strbuf *out, sv v)
{
    uint32_t n = (uint32_t)v.n;
    strbuf_add(out, &n, sizeof n);
    strbuf_add_sv(out, v);
}

static int entry_cmp(const void *a, const void *b)
{
    const struct google_Struct_FieldsEntry *const *x = a, *const *y = b;
    return sv_cmp((*x)->key, (*y)->key);
}

static void add_value(struct strbuf *out, const struct google_Value *v);

static void add_struct(struct strbuf *out, const struct google_Struct *s)
{
    uint32_t n = s ? s->fields.n : 0;
    const struct google_Struct_FieldsEntry **sorted =
        mem_array(const struct google_Struct_FieldsEntry *, n + 1);
    if (n)
        memcpy(sorted, s->fields.v, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, entry_cmp);
    strbuf_add(out, &n, sizeof n);
    for (uint32_t i = 0; i < n; i++) {
        add_sv(out, sorted[i]->key);
        add_value(out, sorted[i]->value);
    }
    free(sorted);
}

static void add_value(struct strbuf *out, const struct google_Value *v)
{
    uint32_t kind = v ? v->which_kind : 0, n;
    double number;
    strbuf_add(out, &kind, sizeof kind);
    switch (kind) {
    case google_Value_number_value_tag:
        number = v->number_value + 0.0; /* -0 is 0 */
        strbuf_add(out, &number, sizeof number);
        break;
    case google_Value_string_value_tag:
        add_sv(out, v->string_value);
        break;
    case google_Value_bool_value_tag:
        strbuf_add_ch(out, v->bool_value ? 1 : 0);
        break;
    case google_Value_struct_value_tag:
        add_struct(out, v->struct_value);
        break;
    case google_Value_list_value_tag:
        n = v->list_value ? v->list_value->values.n : 0;
        strbuf_add(out, &n, sizeof n);
        for (uint32_t i = 0; i < n; i++)
            add_value(out, v->list_value->values.v[i]);
        break;
    default:
        break;
    }
}

static void add_pair(struct strbuf *out, sv key, const struct google_Value *value)
{
    add_sv(out, key);
    add_value(out, value);
}

static bool value_eq(struct strbuf *room, const struct google_Value *a,
                     const struct google_Value *b)
{
    strbuf_reset(room);
    add_value(room, a);
    size_t n = room->n;
    add_value(room, b);
    return !room->overflow && room->n == 2 * n && memcmp(room->p, room->p + n, n) == 0;
}

/* ---- dividing ---- */

static void subset_fini(struct subset *g)
{
    lb_fini(&g->lb);
    free(g->v);
    *g = (struct subset){0};
}

static void subset_add(struct subset *g, uint32_t index)
{
    if (g->n && g->v[g->n - 1] == index)
        return;
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 4;
        g->v = mem_realloc(g->v, g->cap * sizeof *g->v);
    }
    g->v[g->n++] = index;
}

static void join(struct lb_subsets *s, const struct lb_subset_selector *sel, uint32_t index)
{
    if (s->name.overflow)
        return;
    struct subset *g = map_get(&s->by_name, strbuf_sv(&s->name));
    if (!g) {
        g = mem_new(struct subset);
        g->single = sel->single_host;
        map_put(&s->by_name, strbuf_sv(&s->name), g);
    }
    subset_add(g, index);
}

/* The keys from `at` on are added to the name in every combination of the endpoint's values. */
static void combine(struct lb_subsets *s, const struct lb_subset_selector *sel, uint32_t at,
                    const struct google_Struct *have, uint32_t index, uint32_t *left)
{
    if (at == sel->n_keys) {
        if (*left && (*left)--)
            join(s, sel, index);
        return;
    }
    const struct google_Value *v = pb_struct_get(have, sel->keys[at]);
    size_t n = s->name.n;
    if (!v)
        return;
    if (!s->cfg->list_as_any || v->which_kind != google_Value_list_value_tag) {
        add_pair(&s->name, sel->keys[at], v);
        combine(s, sel, at + 1, have, index, left);
        strbuf_cut(&s->name, n);
        return;
    }
    for (uint32_t i = 0; v->list_value && i < v->list_value->values.n && *left; i++) {
        add_pair(&s->name, sel->keys[at], v->list_value->values.v[i]);
        combine(s, sel, at + 1, have, index, left);
        strbuf_cut(&s->name, n);
    }
}

static bool has_value(struct lb_subsets *s, const struct google_Value *have,
                      const struct google_Value *want)
{
    if (!have)
        return false;
    if (!s->cfg->list_as_any || have->which_kind != google_Value_list_value_tag)
        return value_eq(&s->name, have, want);
    for (uint32_t i = 0; have->list_value && i < have->list_value->values.n; i++)
        if (value_eq(&s->name, have->list_value->values.v[i], want))
            return true;
    return false;
}

static bool in_default(struct lb_subsets *s, const struct google_Struct *have)
{
    const struct google_Struct *want = s->cfg->default_subset;
    for (uint32_t i = 0; want && i < want->fields.n; i++) {
        const struct google_Struct_FieldsEntry *e = want->fields.v[i];
        if (!has_value(s, pb_struct_get(have, e->key), e->value))
            return false;
    }
    return true;
}

static bool default_is_used(const struct lb_subset_config *c)
{
    bool used = c->fallback == LB_FALLBACK_DEFAULT;
    for (uint32_t i = 0; i < c->n_selectors; i++)
        used |= c->selectors[i].fallback == LB_FALLBACK_DEFAULT;
    return used;
}

static void divide(struct lb_subsets *s, const struct endpoint_table *t)
{
    bool dflt = default_is_used(s->cfg);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct google_Struct *have = endpoint_lb_metadata(t->v[i].info->metadata);
        for (uint32_t k = 0; k < s->cfg->n_selectors; k++) {
            uint32_t left = COMBINATIONS_MAX;
            strbuf_reset(&s->name);
            combine(s, &s->cfg->selectors[k], 0, have, i, &left);
        }
        if (dflt && in_default(s, have))
            subset_add(&s->dflt, i);
    }
}

/* ---- counting ---- */

static int64_t duplicates(const struct map *m)
{
    int64_t n = 0;
    map_each (e, m) {
        const struct subset *g = e->val;
        n += g->single ? g->n - 1 : 0;
    }
    return n;
}

static void count(struct lb_subsets *s, const struct map *before)
{
    struct stat_group *g = s->whole->stats;
    int64_t created = 0, removed = 0;
    map_each (e, &s->by_name)
        created += !map_has(before, e->key);
    map_each (e, before)
        removed += !map_has(&s->by_name, e->key);
    int64_t twice = duplicates(&s->by_name) - duplicates(before);
    if (g && created)
        stat_add(g, cluster_stat_lb_subsets_created, (uint64_t)created);
    if (g && removed)
        stat_add(g, cluster_stat_lb_subsets_removed, (uint64_t)removed);
    if (g && created != removed)
        stat_gauge_add(g, cluster_stat_lb_subsets_active, created - removed);
    if (g && twice)
        stat_gauge_add(g, cluster_stat_lb_subsets_single_host_per_subset_duplicate, twice);
}

static void map_clear(struct map *m)
{
    map_each (e, m) {
        subset_fini(e->val);
        free(e->val);
    }
    map_fini(m);
}

/* ---- life ---- */

struct lb_subsets *lb_subsets_new(struct lb *whole)
{
    struct lb_subsets *s = mem_new(struct lb_subsets);
    s->whole = whole;
    s->cfg = whole->cfg->subsets;
    map_init(&s->by_name);
    strbuf_init(&s->name, KEY_MAX);
    return s;
}

void lb_subsets_update(struct lb_subsets *s, const struct endpoint_table *t)
{
    struct map before = s->by_name;
    map_init(&s->by_name);
    subset_fini(&s->dflt);
    divide(s, t);
    count(s, &before);
    map_clear(&before);
}

void lb_subsets_free(struct lb_subsets *s)
{
    if (!s)
        return;
    struct map before = s->by_name;
    map_init(&s->by_name);
    count(s, &before);
    map_clear(&before);
    map_fini(&s->by_name);
    subset_fini(&s->dflt);
    strbuf_fini(&s->name);
    free(s);
}

uint32_t lb_subsets_count(const struct lb_subsets *s)
{
    return map_len(&s->by_name);
}

/* ---- picking ---- */

static uint32_t pick_in(struct lb_subsets *s, struct subset *g, const struct lb_ask *ask)
{
    static const uint32_t nobody;
    if (g->single)
        return g->v[0];
    if (!g->lb.table) {
        const struct lb *w = s->whole;
        g->lb = (struct lb){.cfg = w->cfg,
                            .rand = w->rand,
                            .now_ms = w->now_ms,
                            .clock = w->clock,
                            .stats = w->stats,
                            .ring = w->ring,
                            .maglev = w->maglev,
                            .only = g->n ? g->v : &nobody, /* nobody: that is panic */
                            .n_only = g->n,
                            .flat = w->flat,
                            .scale_weight = s->cfg->scale_locality_weight};
        lb_update(&g->lb, w->table);
    }
    return lb_pick_whole(&g->lb, ask);
}

static void put(struct criteria *c, sv key, const struct google_Value *value)
{
    uint32_t at = c->n;
    while (at > 0 && sv_cmp(c->v[at - 1].key, key) >= 0)
        at--;
    if (at < c->n && sv_eq(c->v[at].key, key)) {
        c->v[at].value = value;
        return;
    }
    if (c->n == LB_SUBSET_MAX_KEYS) {
        c->too_many = true; /* no selector has so many */
        return;
    }
    memmove(&c->v[at + 1], &c->v[at], (c->n - at) * sizeof *c->v);
    c->v[at] = (struct criterion){key, value};
    c->n++;
}

static void put_all(struct criteria *c, const struct google_Struct *s)
{
    for (uint32_t i = 0; s && i < s->fields.n; i++)
        put(c, s->fields.v[i]->key, s->fields.v[i]->value);
}

static void drop(struct criteria *c, sv key)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (!sv_eq(c->v[i].key, key))
            continue;
        memmove(&c->v[i], &c->v[i + 1], (c->n - i - 1) * sizeof *c->v);
        c->n--;
        return;
    }
}

static void keep_keys(struct criteria *c, const sv *keys, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        bool wanted = false;
        for (uint32_t k = 0; k < n; k++)
            wanted |= sv_eq(c->v[i].key, keys[k]);
        if (wanted)
            c->v[kept++] = c->v[i];
    }
    c->n = kept;
}

static struct subset *find(struct lb_subsets *s, const struct criteria *c)
{
    if (c->n == 0 || c->too_many)
        return NULL;
    strbuf_reset(&s->name);
    for (uint32_t i = 0; i < c->n; i++)
        add_pair(&s->name, c->v[i].key, c->v[i].value);
    return s->name.overflow ? NULL : map_get(&s->by_name, strbuf_sv(&s->name));
}

/* The selector of just these keys that says what to do else. */
static const struct lb_subset_selector *selector_of(const struct lb_subset_config *cfg,
                                                    const struct criteria *c)
{
    for (uint32_t i = 0; i < cfg->n_selectors && !c->too_many; i++) {
        const struct lb_subset_selector *sel = &cfg->selectors[i];
        uint32_t k = 0;
        if (sel->n_keys != c->n || sel->fallback == LB_FALLBACK_UNSAID)
            continue;
        while (k < c->n && sv_eq(sel->keys[k], c->v[k].key))
            k++;
        if (k == c->n)
            return sel;
    }
    return NULL;
}

static uint32_t fall_back(struct lb_subsets *s, const struct lb_ask *ask)
{
    struct stat_group *g = s->whole->stats;
    if (s->cfg->fallback == LB_FALLBACK_NONE)
        return LB_NONE;
    uint32_t index = s->cfg->fallback == LB_FALLBACK_ANY ? lb_pick_whole(s->whole, ask)
                                                         : pick_in(s, &s->dflt, ask);
    if (index != LB_NONE) {
        if (g)
            stat_inc(g, cluster_stat_lb_subsets_fallback);
        return index;
    }
    if (s->cfg->panic_any)
        index = lb_pick_whole(s->whole, ask);
    if (index != LB_NONE && g)
        stat_inc(g, cluster_stat_lb_subsets_fallback_panic);
    return index;
}

static uint32_t pick(struct lb_subsets *s, struct criteria *c, const struct lb_ask *ask)
{
    while (c) {
        struct subset *g = find(s, c);
        if (g) {
            if (s->whole->stats)
                stat_inc(s->whole->stats, cluster_stat_lb_subsets_selected);
            return pick_in(s, g, ask);
        }
        const struct lb_subset_selector *sel = selector_of(s->cfg, c);
        if (!sel)
            break;
        switch (sel->fallback) {
        case LB_FALLBACK_ANY:
            return lb_pick_whole(s->whole, ask);
        case LB_FALLBACK_DEFAULT:
            return pick_in(s, &s->dflt, ask);
        case LB_FALLBACK_KEYS: /* fewer of them each time */
            keep_keys(c, sel->fallback_keys, sel->n_fallback_keys);
            continue;
        default:
            return LB_NONE;
        }
    }
    return fall_back(s, ask);
}

uint32_t lb_subsets_pick(struct lb_subsets *s, const struct lb_ask *ask)
{
    const sv list_key = SV("fallback_list");
    struct criteria c = {.n = 0};
    const struct google_Value *list =
        s->cfg->fallback_list ? pb_struct_get(ask->criteria, list_key) : NULL;
    put_all(&c, ask->criteria);
    if (!list)
        return pick(s, ask->criteria ? &c : NULL, ask);
    drop(&c, list_key);
    bool is_list = list->which_kind == google_Value_list_value_tag && list->list_value;
    uint32_t n = is_list ? list->list_value->values.n : 0, index = LB_NONE;
    if (n == 0)
        return pick(s, &c, ask);
    for (uint32_t i = 0; i < n && index == LB_NONE; i++) {
        const struct google_Value *v = list->list_value->values.v[i];
        struct criteria with = c;
        if (v->which_kind == google_Value_struct_value_tag)
            put_all(&with, v->struct_value);
        index = pick(s, &with, ask);
    }
    return index;
}
