#include "base/runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"

struct entry {
    struct entry *next; /* among the dead */
    char *text;
    size_t n;
    uint32_t numerator, denominator;
};

struct runtime {
    pthread_mutex_t lock; /* of keys and values: configuration is built on workers, too */
    struct map keys;      /* -> struct runtime_key * */
    struct map values;    /* -> const struct entry * of the last layer that has one */
    struct entry *dead;   /* replaced, but maybe in values still: until the next publish */
    unsigned n;
    struct map layers[]; /* -> struct entry * */
};

struct runtime *runtime_new(unsigned layers)
{
    struct runtime *r = mem_zalloc(sizeof *r + layers * sizeof *r->layers);
    pthread_mutex_init(&r->lock, NULL);
    map_init(&r->keys);
    map_init(&r->values);
    r->n = layers;
    for (unsigned i = 0; i < layers; i++)
        map_init(&r->layers[i]);
    return r;
}

static void entry_free(struct entry *e)
{
    free(e->text);
    free(e);
}

static void bury(struct runtime *r, struct entry *e)
{
    if (!e)
        return;
    e->next = r->dead;
    r->dead = e;
}

static void free_dead(struct runtime *r)
{
    while (r->dead) {
        struct entry *e = r->dead;
        r->dead = e->next;
        entry_free(e);
    }
}

static void bury_layer(struct runtime *r, struct map *m)
{
    map_each (e, m)
        bury(r, e->val);
    map_fini(m);
    map_init(m);
}

void runtime_free(struct runtime *r)
{
    if (!r)
        return;
    map_each (e, &r->keys)
        free(e->val);
    map_fini(&r->keys);
    map_fini(&r->values);
    for (unsigned i = 0; i < r->n; i++) {
        bury_layer(r, &r->layers[i]);
        map_fini(&r->layers[i]);
    }
    free_dead(r);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- layers ---- */

void runtime_set(struct runtime *r, unsigned layer, sv key, const struct runtime_value *v)
{
    struct entry *e = NULL;
    if (v) {
        e = mem_new(struct entry);
        e->text = mem_alloc(v->text.n + 1);
        if (v->text.n)
            memcpy(e->text, v->text.p, v->text.n);
        e->n = v->text.n;
        e->numerator = v->numerator;
        e->denominator = v->denominator;
    }
    bury(r, v ? map_put(&r->layers[layer], key, e) : map_del(&r->layers[layer], key));
}

void runtime_clear(struct runtime *r, unsigned layer)
{
    bury_layer(r, &r->layers[layer]);
}

/* ---- values ---- */

/* A whole number, also spelled 1e+06 or 3.0; UINT64_MAX: none. */
static uint64_t number_of(const struct entry *e)
{
    char text[32], *end;
    if (!e || !e->n || e->n >= sizeof text)
        return UINT64_MAX;
    memcpy(text, e->text, e->n);
    text[e->n] = 0;
    double v = strtod(text, &end);
    return !*end && v >= 0 && v < 0x1p63 && v == (double)(uint64_t)v ? (uint64_t)v : UINT64_MAX;
}

static void tell(struct runtime_key *k, const struct entry *e)
{
    uint64_t number = number_of(e), fraction = 0;
    if (e && e->denominator)
        fraction = (uint64_t)e->denominator << 32 | e->numerator;
    else if (number != UINT64_MAX)
        fraction = 100ull << 32 | (number < UINT32_MAX ? number : UINT32_MAX);
    atomic_store_explicit(&k->number, e && e->denominator ? UINT64_MAX : number,
                          memory_order_relaxed);
    atomic_store_explicit(&k->fraction, fraction, memory_order_relaxed);
}

void runtime_publish(struct runtime *r)
{
    pthread_mutex_lock(&r->lock);
    map_fini(&r->values);
    map_init(&r->values);
    for (unsigned i = 0; i < r->n; i++)
        map_each (e, &r->layers[i])
            map_put(&r->values, e->key, e->val);
    free_dead(r);
    map_each (e, &r->keys)
        tell(e->val, map_get(&r->values, e->key));
    pthread_mutex_unlock(&r->lock);
}

struct runtime_key *runtime_key(struct runtime *r, sv key)
{
    if (!r || !key.n)
        return NULL;
    pthread_mutex_lock(&r->lock);
    struct runtime_key *k = map_get(&r->keys, key);
    if (!k) {
        k = mem_new(struct runtime_key);
        tell(k, map_get(&r->values, key));
        map_put(&r->keys, key, k);
    }
    pthread_mutex_unlock(&r->lock);
    return k;
}

sv runtime_text(const struct runtime *r, sv key)
{
    const struct entry *e = r ? map_get(&r->values, key) : NULL;
    return e ? sv_make(e->text, e->n) : (sv){NULL, 0};
}

uint64_t runtime_text_number(const struct runtime *r, sv key, uint64_t otherwise)
{
    uint64_t v = r ? number_of(map_get(&r->values, key)) : UINT64_MAX;
    return v == UINT64_MAX ? otherwise : v;
}

static int by_key(const void *a, const void *b)
{
    return sv_cmp((*(const struct map_entry *const *)a)->key,
                  (*(const struct map_entry *const *)b)->key);
}

void runtime_each(const struct runtime *r,
                  void (*fn)(void *arg, sv key, sv value, const sv *of, unsigned layers), void *arg)
{
    uint32_t n = 0;
    const struct map_entry **v = mem_zalloc((map_len(&r->values) + 1) * sizeof *v);
    sv *of = mem_zalloc((r->n + 1) * sizeof *of);
    map_each (e, &r->values)
        v[n++] = e;
    qsort(v, n, sizeof *v, by_key);
    for (uint32_t i = 0; i < n; i++) {
        const struct entry *in_force = v[i]->val;
        for (unsigned k = 0; k < r->n; k++) {
            const struct entry *e = map_get(&r->layers[k], v[i]->key);
            of[k] = e ? sv_make(e->text, e->n) : (sv){NULL, 0};
        }
        fn(arg, v[i]->key, sv_make(in_force->text, in_force->n), of, r->n);
    }
    free(v);
    free(of);
}

unsigned runtime_count(const struct runtime *r, unsigned layer)
{
    return map_len(&r->layers[layer]);
}
