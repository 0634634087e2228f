#include "upstream/lb/edf.h"

#include <stdbool.h>
#include "base/mem.h"

void edf_init(struct edf *e, uint32_t cap)
{
    *e = (struct edf){.cap = cap, .heap = mem_array(struct edf_item, cap ? cap : 1)};
}

void edf_fini(struct edf *e)
{
    free(e->heap);
    *e = (struct edf){0};
}

static bool before(const struct edf_item *a, const struct edf_item *b)
{
    return a->deadline < b->deadline || (a->deadline == b->deadline && a->order < b->order);
}

static void sift_up(struct edf *e, uint32_t i)
{
    struct edf_item it = e->heap[i];
    while (i > 0 && before(&it, &e->heap[(i - 1) / 2])) {
        e->heap[i] = e->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    e->heap[i] = it;
}

static void sift_down(struct edf *e)
{
    struct edf_item it = e->heap[0];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= e->n)
            break;
        if (child + 1 < e->n && before(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!before(&e->heap[child], &it))
            break;
        e->heap[i] = e->heap[child];
        i = child;
    }
    e->heap[i] = it;
}

void edf_add(struct edf *e, uint32_t value, double weight)
{
    if (e->n == e->cap)
        return;
    e->heap[e->n] = (struct edf_item){
        .deadline = e->now + 1.0 / weight, .weight = weight, .order = e->order++, .value = value};
    sift_up(e, e->n++);
}

uint32_t edf_next(const struct edf *e)
{
    return e->heap[0].value;
}

void edf_next_done(struct edf *e, double weight)
{
    e->now = e->heap[0].deadline;
    e->heap[0].deadline = e->now + 1.0 / weight;
    e->heap[0].weight = weight;
    e->heap[0].order = e->order++;
    sift_down(e);
}

uint32_t edf_pick(struct edf *e)
{
    uint32_t value = e->heap[0].value;
    edf_next_done(e, e->heap[0].weight);
    return value;
}
