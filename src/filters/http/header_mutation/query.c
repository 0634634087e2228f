#include "filters/http/header_mutation/query.h"

#include <stdlib.h>
#include <string.h>

#include "api/google.pb.h"
#include "http/path.h"

struct mutation {
    sv key;
    int action; /* enum envoy_KeyValueAppend_KeyValueAppendAction, or REMOVE */
    const struct substitution *value;
};
#define REMOVE (-1)

struct query_mutations {
    uint32_t n;
    struct mutation v[];
};

static int build_append(const struct envoy_KeyValueAppend *m, struct arena *a, struct mutation *out,
                        struct error *err)
{
    const struct envoy_KeyValuePair *r = m->record;
    if (!r)
        return error_set(err, E_INVALID, ".append.record: must be set");
    if (!r->key.n)
        return error_set(err, E_INVALID, ".append.record.key: must not be empty");
    if (!r->value || r->value->which_kind != google_Value_string_value_tag)
        return error_set(err, E_INVALID, ".append.record.value: must be a string");
    if (m->action < 0 || m->action > 3)
        return error_set(err, E_INVALID, ".append.action: %d is not known", m->action);
    out->key = r->key;
    out->action = m->action;
    struct substitution_opts o = {.use = SUBSTITUTION_BODY, .omit_empty = true};
    int rc = substitution_compile(r->value->string_value, &o, a, &out->value, err);
    if (rc != 0)
        error_prefix(err, ".append.record.value: ");
    return rc;
}

int query_mutations_build(const struct envoy_KeyValueMutation *const *v, uint32_t n,
                          const char *path, struct arena *a, const struct query_mutations **out,
                          struct error *err)
{
    *out = NULL;
    if (!n)
        return 0;
    struct query_mutations *m = arena_zalloc(a, sizeof *m + n * sizeof *m->v);
    for (m->n = 0; m->n < n; m->n++) {
        const struct envoy_KeyValueMutation *one = v[m->n];
        int rc = 0;
        m->v[m->n] = (struct mutation){.key = one->remove, .action = REMOVE};
        if (!one->append == !one->remove.n)
            rc = error_set(err, E_INVALID, ": one of append, remove must be set");
        else if (one->append)
            rc = build_append(one->append, a, &m->v[m->n], err);
        if (rc != 0) {
            error_prefix(err, "%s[%u]", path, m->n);
            return rc;
        }
    }
    *out = m;
    return 0;
}

/* ---- a query taken apart ---- */

struct param {
    sv key;            /* decoded */
    sv raw_key, value; /* as they are written */
    uint32_t order;    /* among those of one key */
};

struct params {
    struct param *v;
    uint32_t n;
};

static uint32_t pieces(sv query)
{
    uint32_t n = 1;
    for (size_t i = 0; i < query.n; i++)
        n += query.p[i] == '&';
    return n;
}

static void put(struct params *p, sv key, sv raw_key, sv value)
{
    p->v[p->n] = (struct param){key, raw_key, value, p->n};
    p->n++;
}

static void read_query(struct params *p, sv query, struct arena *a)
{
    sv one, key, value;
    while (query.n) {
        sv_cut(query, '&', &one, &query);
        sv_cut(one, '=', &key, &value);
        put(p, path_decode(key, false, a), key, value);
    }
}

static bool has(const struct params *p, sv key)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (sv_eq(p->v[i].key, key))
            return true;
    return false;
}

static void drop(struct params *p, sv key)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (!sv_eq(p->v[i].key, key))
            p->v[n++] = p->v[i];
    p->n = n;
}

static void change(struct params *p, const struct mutation *m, const struct substitution_ctx *c,
                   struct arena *a)
{
    if (m->action == REMOVE) {
        drop(p, m->key);
        return;
    }
    bool there = has(p, m->key);
    if ((m->action == envoy_KeyValueAppend_ADD_IF_ABSENT && there) ||
        (m->action == envoy_KeyValueAppend_OVERWRITE_IF_EXISTS && !there))
        return;
    sv value = substitution_eval_arena(m->value, c, a);
    if (m->action == envoy_KeyValueAppend_OVERWRITE_IF_EXISTS ||
        m->action == envoy_KeyValueAppend_OVERWRITE_IF_EXISTS_OR_ADD)
        drop(p, m->key);
    put(p, m->key, path_encode(m->key, "", a), path_encode(value, "", a));
}

static int by_key(const void *a, const void *b)
{
    const struct param *x = a, *y = b;
    int c = sv_cmp(x->key, y->key);
    return c ? c : (x->order > y->order) - (x->order < y->order);
}

struct text {
    char *p;
    size_t n;
};

static void text_add(struct text *t, sv v)
{
    if (v.n)
        memcpy(t->p + t->n, v.p, v.n);
    t->n += v.n;
}

sv query_mutations_apply(const struct query_mutations *m, sv path, const struct substitution_ctx *c,
                         struct arena *a)
{
    sv bare, query;
    sv_cut(path, '?', &bare, &query);
    struct params p = {arena_array(a, struct param, pieces(query) + m->n), 0};
    read_query(&p, query, a);
    for (uint32_t i = 0; i < m->n; i++)
        change(&p, &m->v[i], c, a);
    qsort(p.v, p.n, sizeof *p.v, by_key);
    size_t size = bare.n + 1;
    for (uint32_t i = 0; i < p.n; i++)
        size += p.v[i].raw_key.n + p.v[i].value.n + 2;
    struct text out = {arena_alloc(a, size), 0};
    text_add(&out, bare);
    for (uint32_t i = 0; i < p.n; i++) {
        text_add(&out, i ? SV("&") : SV("?"));
        text_add(&out, p.v[i].raw_key);
        text_add(&out, SV("="));
        text_add(&out, p.v[i].value);
    }
    return sv_make(out.p, out.n);
}
