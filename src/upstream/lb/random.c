/* Random: uniform; weights of endpoints are not looked at (those of localities are), as in Envoy.
 */
#include "upstream/lb/lb.h"

static uint32_t pick(struct lb *lb, struct lb_list *l, uint64_t hash, uint32_t attempt)
{
    return l->v[rand_below(lb->rand, l->n)];
}

const struct lb_policy lb_random = {.name = "random", .pick = pick};
