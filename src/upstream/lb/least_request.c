/* Least request: of choice_count endpoints drawn at random (all of them with a full scan) the one
 * with the fewest active requests. When weights differ: earliest deadline first with
 * weight / (active + 1)^active_request_bias, as Envoy does it. Active requests are those of all
 * workers. */
#include <math.h>
#include "base/mem.h"
#include "upstream/lb/lb.h"

static uint32_t active(const struct lb *lb, uint32_t index)
{
    return atomic_load_explicit(&lb->table->v[index].info->state->rq_active, memory_order_relaxed);
}

static double weight(const struct lb *lb, uint32_t index)
{
    double w = lb->table->v[index].weight, bias = lb->cfg->active_request_bias;
    double n = active(lb, index) + 1.0;
    w = bias == 1.0 ? w / n : bias == 0.0 ? w : w / pow(n, bias);
    return lb_warmed_weight(lb, index, w);
}

static void init(struct lb *lb, struct lb_list *l, const struct lb_priority *p)
{
    struct edf *e = mem_new(struct edf);
    l->state = e;
    if (!lb_by_weight(lb, l))
        return;
    edf_init(e, l->n);
    for (uint32_t i = 0; i < l->n; i++)
        edf_add(e, l->v[i], weight(lb, l->v[i]));
    for (uint64_t i = rand_below(lb->rand, l->n); i > 0; i--)
        edf_pick(e);
}

static void fini(struct lb_list *l)
{
    edf_fini(l->state);
    free(l->state);
}

/* The least of all; among equals each is as likely (reservoir of one). */
static uint32_t scan(struct lb *lb, const struct lb_list *l)
{
    uint32_t best = l->v[0], best_active = active(lb, best), ties = 1;
    for (uint32_t i = 1; i < l->n; i++) {
        uint32_t a = active(lb, l->v[i]);
        if (a > best_active)
            continue;
        ties = a < best_active ? 1 : ties + 1;
        if (a < best_active || rand_below(lb->rand, ties) == 0) {
            best = l->v[i];
            best_active = a;
        }
    }
    return best;
}

static uint32_t draw(struct lb *lb, const struct lb_list *l)
{
    uint32_t best = l->v[rand_below(lb->rand, l->n)], best_active = active(lb, best);
    for (uint32_t i = 1; i < lb->cfg->choice_count; i++) {
        uint32_t index = l->v[rand_below(lb->rand, l->n)], a = active(lb, index);
        if (a < best_active) {
            best = index;
            best_active = a;
        }
    }
    return best;
}

static uint32_t pick(struct lb *lb, struct lb_list *l, uint64_t hash, uint32_t attempt)
{
    struct edf *e = l->state;
    if (e->n) {
        uint32_t index = edf_next(e);
        edf_next_done(e, weight(lb, index));
        return index;
    }
    return lb->cfg->full_scan ? scan(lb, l) : draw(lb, l);
}

const struct lb_policy lb_least_request = {
    .name = "least_request", .init = init, .fini = fini, .pick = pick};
