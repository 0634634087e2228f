#include "base/map.h"
#include "base/code.h"

#include <stdlib.h>
#include "base/mem.h"

/* Up to this many entries are searched one by one: no index is made for small maps. */
#define SMALL 8
#define NONE  UINT32_MAX

void map_init(struct map *m)
{
    *m = (struct map){.borrow = false};
}

void map_init_borrow(struct map *m)
{
    *m = (struct map){.borrow = true};
}

static void free_key(struct map *m, sv key)
{
    if (!m->borrow)
        free((char *)(uintptr_t)key.p);
}

void map_fini(struct map *m)
{
    for (uint32_t i = 0; i < m->n; i++)
        free_key(m, m->entries[i].key);
    free(m->entries);
    free(m->index);
    *m = (struct map){.borrow = m->borrow};
}

static inline bool same(const struct map_entry *e, uint64_t hash, sv key)
{
    return e->hash == hash && sv_eq(e->key, key);
}

/* The position in the index that points at entry i. */
static uint32_t slot_of(const struct map *m, uint32_t i)
{
    uint32_t mask = m->index_cap - 1, s = (uint32_t)m->entries[i].hash & mask;
    while (m->index[s] != i + 1)
        s = (s + 1) & mask;
    return s;
}

static uint32_t find(const struct map *m, uint64_t hash, sv key)
{
    if (!m->index) {
        for (uint32_t i = 0; i < m->n; i++)
            if (same(&m->entries[i], hash, key))
                return i;
        return NONE;
    }
    uint32_t mask = m->index_cap - 1;
    for (uint32_t s = (uint32_t)hash & mask; m->index[s]; s = (s + 1) & mask)
        if (same(&m->entries[m->index[s] - 1], hash, key))
            return m->index[s] - 1;
    return NONE;
}

static void index_add(struct map *m, uint32_t i)
{
    uint32_t mask = m->index_cap - 1, s = (uint32_t)m->entries[i].hash & mask;
    while (m->index[s])
        s = (s + 1) & mask;
    m->index[s] = i + 1;
}

/* Keeps the index at most half full. */
static void grow(struct map *m)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 4;
        m->entries = mem_realloc(m->entries, sizeof *m->entries * m->cap);
    }
    if (m->n < SMALL || (m->index && (m->n + 1) * 2 <= m->index_cap))
        return;
    free(m->index);
    m->index_cap = m->index_cap ? m->index_cap * 2 : 4 * SMALL;
    m->index = mem_zalloc(sizeof *m->index * m->index_cap);
    for (uint32_t i = 0; i < m->n; i++)
        index_add(m, i);
}

HOT void *map_get(const struct map *m, sv key)
{
    if (m->n == 0)
        return NULL;
    uint32_t i = find(m, sv_hash(key), key);
    return i == NONE ? NULL : m->entries[i].val;
}

bool map_has(const struct map *m, sv key)
{
    return m->n && find(m, sv_hash(key), key) != NONE;
}

void *map_put(struct map *m, sv key, void *val)
{
    uint64_t hash = sv_hash(key);
    uint32_t i = find(m, hash, key);
    if (i != NONE) {
        void *old = m->entries[i].val;
        m->entries[i].val = val;
        if (m->borrow)
            m->entries[i].key = key;
        return old;
    }
    grow(m);
    i = m->n++;
    m->entries[i] = (struct map_entry){
        .key = m->borrow ? key : sv_make(sv_dup(key), key.n), .val = val, .hash = hash};
    if (m->index)
        index_add(m, i);
    return NULL;
}

/* Empties slot s, moving later members of the same run up so that no search stops early. */
static void index_del(struct map *m, uint32_t s)
{
    uint32_t mask = m->index_cap - 1, hole = s;
    for (uint32_t i = (s + 1) & mask; m->index[i]; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)m->entries[m->index[i] - 1].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->index[hole] = m->index[i];
            hole = i;
        }
    }
    m->index[hole] = 0;
}

void *map_del(struct map *m, sv key)
{
    uint32_t i = m->n ? find(m, sv_hash(key), key) : NONE;
    if (i == NONE)
        return NULL;
    void *val = m->entries[i].val;
    sv owned = m->entries[i].key;
    uint32_t last = m->n - 1;
    if (m->index) {
        index_del(m, slot_of(m, i));
        if (i != last)
            m->index[slot_of(m, last)] = i + 1;
    }
    m->entries[i] = m->entries[last];
    m->n = last;
    free_key(m, owned);
    return val;
}
