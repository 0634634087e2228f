/* Atomic reference count for what several threads hold (snapshots, TLS contexts, clusters).
 * Objects start with one reference. Thread: any. */
#ifndef WEFT_BASE_REFCOUNT_H
#define WEFT_BASE_REFCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct refcount {
    _Atomic uint32_t n;
};

static inline void refcount_init(struct refcount *r)
{
    atomic_init(&r->n, 1);
}

static inline void refcount_get(struct refcount *r)
{
    atomic_fetch_add_explicit(&r->n, 1, memory_order_relaxed);
}

/* True when this was the last reference: the caller frees the object. */
static inline bool refcount_put(struct refcount *r)
{
    if (atomic_fetch_sub_explicit(&r->n, 1, memory_order_release) != 1)
        return false;
    /* A load, not a fence: the same on every machine, and the thread sanitizer understands it. */
    (void)atomic_load_explicit(&r->n, memory_order_acquire);
    return true;
}

#endif
