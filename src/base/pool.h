/* Free list of equal pieces of memory of one thread, under arena and buf.
 *
 *   pool_get: from the list, or malloc      pool_put: to the list, or free past `cap`
 *
 * The list remembers the fewest pieces it held since the last pool_age: those were not needed, so
 * ageing gives half of them back. A process that goes idle returns its memory in a few steps,
 * one that works at a steady rate keeps what it needs.
 * Under AddressSanitizer there is no list: each piece is malloc'd and freed, so that a use after
 * the free is found. Thread: owner (pools are thread-local). */
#ifndef WEFT_BASE_POOL_H
#define WEFT_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "base/mem.h"

#ifdef WEFT_ASAN
#include <sanitizer/asan_interface.h>
#define POOL_POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define POOL_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POOL_POISON(p, n)   ((void)(p), (void)(n))
#define POOL_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct pool_item {
    struct pool_item *next;
};

struct pool {
    struct pool_item *head;
    uint32_t n;   /* pieces in the list */
    uint32_t low; /* fewest since the last ageing */
    uint32_t cap; /* most that the list may hold */
    size_t size;  /* bytes of a piece */
};

static inline void *pool_get(struct pool *p)
{
#ifndef WEFT_ASAN
    struct pool_item *it = p->head;
    if (__builtin_expect(it != NULL, 1)) {
        p->head = it->next;
        if (--p->n < p->low)
            p->low = p->n;
        return it;
    }
#endif
    return mem_alloc(p->size);
}

static inline void pool_put(struct pool *p, void *piece)
{
#ifndef WEFT_ASAN
    if (__builtin_expect(p->n < p->cap, 1)) {
        struct pool_item *it = piece;
        it->next = p->head;
        p->head = it;
        p->n++;
        return;
    }
#endif
    free(piece);
}

/* Frees pieces until `keep` are left. Returns how many bytes went. */
static inline size_t pool_trim(struct pool *p, uint32_t keep)
{
    size_t freed = 0;
    while (p->n > keep) {
        struct pool_item *it = p->head;
        p->head = it->next;
        p->n--;
        freed += p->size;
        free(it);
    }
    p->low = p->n;
    return freed;
}

/* Gives back half of what stayed unused since the last call, all of it when little is left. */
static inline size_t pool_age(struct pool *p, uint32_t floor)
{
    uint32_t drop = p->low > 32 ? p->low / 2 : p->low;
    uint32_t keep = p->n - drop > floor ? p->n - drop : floor;
    return pool_trim(p, keep);
}

/* Arranges that the calling thread's pools are emptied when it ends. Cheap after the first call. */
void pool_at_thread_exit(void);

#endif
