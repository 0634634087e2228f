/* Intrusive binary min-heap keyed by uint64 (deadlines, EDF scheduling). Thread: owner. */
#ifndef WEFT_BASE_HEAP_H
#define WEFT_BASE_HEAP_H

#include <stdint.h>

struct heap_node {
    uint64_t key;
    uint32_t pos; /* private; HEAP_OUT when in no heap */
};
#define HEAP_OUT UINT32_MAX

struct heap {
    struct heap_node **v;
    uint32_t n, cap;
};

void heap_init(struct heap *h);
void heap_fini(struct heap *h);
void heap_push(struct heap *h, struct heap_node *n);   /* n->key is set by the caller */
struct heap_node *heap_top(const struct heap *h);      /* NULL when empty */
void heap_remove(struct heap *h, struct heap_node *n); /* fine when it is in no heap */
void heap_update(struct heap *h, struct heap_node *n, uint64_t key);

#endif
