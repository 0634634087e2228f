/* Earliest deadline first: weighted round robin. Each item has a deadline; the pick is the item
 * with the earliest one, and its next deadline is 1/weight later. Items of equal deadline come in
 * the order in which they were put. Thread: owner. */
#ifndef WEFT_UPSTREAM_LB_EDF_H
#define WEFT_UPSTREAM_LB_EDF_H

#include <stdint.h>

struct edf_item {
    double deadline, weight;
    uint64_t order;
    uint32_t value;
};
struct edf {
    struct edf_item *heap;
    uint32_t n, cap;
    double now;
    uint64_t order;
};

/* Room for cap items; a zeroed edf is an empty one. */
void edf_init(struct edf *e, uint32_t cap);
void edf_fini(struct edf *e);
/* weight > 0. At most cap items. */
void edf_add(struct edf *e, uint32_t value, double weight);
/* The value that is next; e->n > 0. It is to be put back with edf_next_done. */
uint32_t edf_next(const struct edf *e);
/* Puts the item that edf_next returned back, with this weight from now on. */
void edf_next_done(struct edf *e, double weight);
/* Both, with the weight it has. */
uint32_t edf_pick(struct edf *e);

#endif
