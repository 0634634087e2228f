#include "base/heap.h"

#include <stdbool.h>
#include <stdlib.h>
#include "base/mem.h"

void heap_init(struct heap *h)
{
    h->v = NULL;
    h->n = h->cap = 0;
}

void heap_fini(struct heap *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        h->v[i]->pos = HEAP_OUT;
    free(h->v);
    heap_init(h);
}

static void put(struct heap *h, uint32_t i, struct heap_node *n)
{
    h->v[i] = n;
    n->pos = i;
}

static void sift_up(struct heap *h, uint32_t i, struct heap_node *n)
{
    while (i > 0) {
        uint32_t up = (i - 1) / 2;
        if (h->v[up]->key <= n->key)
            break;
        put(h, i, h->v[up]);
        i = up;
    }
    put(h, i, n);
}

static void sift_down(struct heap *h, uint32_t i, struct heap_node *n)
{
    for (;;) {
        uint32_t kid = 2 * i + 1;
        if (kid >= h->n)
            break;
        if (kid + 1 < h->n && h->v[kid + 1]->key < h->v[kid]->key)
            kid++;
        if (n->key <= h->v[kid]->key)
            break;
        put(h, i, h->v[kid]);
        i = kid;
    }
    put(h, i, n);
}

/* A zeroed node has pos 0 without being in the heap, so the slot itself is asked. */
static bool is_in(const struct heap *h, const struct heap_node *n)
{
    return n->pos < h->n && h->v[n->pos] == n;
}

void heap_push(struct heap *h, struct heap_node *n)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 16;
        h->v = mem_realloc(h->v, sizeof *h->v * h->cap);
    }
    sift_up(h, h->n++, n);
}

struct heap_node *heap_top(const struct heap *h)
{
    return h->n ? h->v[0] : NULL;
}

static void place(struct heap *h, uint32_t i, struct heap_node *n)
{
    if (i > 0 && h->v[(i - 1) / 2]->key > n->key)
        sift_up(h, i, n);
    else
        sift_down(h, i, n);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    if (!is_in(h, n))
        return;
    uint32_t i = n->pos;
    struct heap_node *last = h->v[--h->n];
    n->pos = HEAP_OUT;
    if (last != n)
        place(h, i, last);
}

void heap_update(struct heap *h, struct heap_node *n, uint64_t key)
{
    n->key = key;
    if (is_in(h, n))
        place(h, n->pos, n);
    else
        heap_push(h, n);
}
