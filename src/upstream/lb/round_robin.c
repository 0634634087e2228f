/* Round robin: in turn, or by earliest deadline when weights differ. Begins at a random place, so
 * that workers and proxies started together do not march in step. */
#include "base/mem.h"
#include "base/code.h"
#include "upstream/lb/lb.h"

struct round_robin {
    uint32_t next;
    struct edf edf; /* when weights differ, or grow (slow start) */
};

static double weight(const struct lb *lb, uint32_t index)
{
    return lb_warmed_weight(lb, index, lb->table->v[index].weight);
}

static void init(struct lb *lb, struct lb_list *l, const struct lb_priority *p)
{
    struct round_robin *rr = mem_new(struct round_robin);
    rr->next = (uint32_t)rand_below(lb->rand, l->n);
    l->state = rr;
    if (!lb_by_weight(lb, l))
        return;
    edf_init(&rr->edf, l->n);
    for (uint32_t i = 0; i < l->n; i++)
        edf_add(&rr->edf, l->v[i], weight(lb, l->v[i]));
    for (uint32_t i = 0; i < rr->next; i++)
        edf_pick(&rr->edf);
}

static void fini(struct lb_list *l)
{
    struct round_robin *rr = l->state;
    edf_fini(&rr->edf);
    free(rr);
}

HOT static uint32_t pick(struct lb *lb, struct lb_list *l, uint64_t hash, uint32_t attempt)
{
    struct round_robin *rr = l->state;
    if (rr->edf.n) {
        uint32_t index = edf_next(&rr->edf);
        edf_next_done(&rr->edf, weight(lb, index));
        return index;
    }
    if (rr->next >= l->n)
        rr->next = 0;
    return l->v[rr->next++];
}

const struct lb_policy lb_round_robin = {
    .name = "round_robin", .init = init, .fini = fini, .pick = pick};
