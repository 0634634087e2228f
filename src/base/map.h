/* Hash map from string views to pointers. Keys are copied unless the map borrows them.
 * Open addressing, seeded hash (sv_hash). Iteration order is insertion order as long as nothing
 * was deleted; a deletion may change it. Thread: owner; read-only maps may be shared. */
#ifndef WEFT_BASE_MAP_H
#define WEFT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/sv.h"

struct map_entry {
    sv key;
    void *val;
    uint64_t hash; /* private */
};

struct map {
    struct map_entry *entries; /* dense, insertion order */
    uint32_t *index;           /* private */
    uint32_t n, cap, index_cap;
    bool borrow; /* keys are not copied: they outlive their entry */
};

void map_init(struct map *m);
void map_init_borrow(struct map *m);
void map_fini(struct map *m);               /* frees keys that were copied; never the values */
void *map_get(const struct map *m, sv key); /* NULL when absent */
bool map_has(const struct map *m, sv key);
/* Inserts or replaces; returns the value that was there before, or NULL. */
void *map_put(struct map *m, sv key, void *val);
/* Removes and returns the value, or NULL. */
void *map_del(struct map *m, sv key);
static inline uint32_t map_len(const struct map *m)
{
    return m->n;
}
/* for each entry: map_each(e, &m) { e->key, e->val } — do not insert or delete inside. */
#define map_each(e, m)                                                                             \
    for (struct map_entry *e = (m)->entries, *e##_end = e ? e + (m)->n : e; e < e##_end; e++)

#endif
