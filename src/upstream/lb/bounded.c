/* Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam; arXiv:1608.01350). The
 * other endpoints are tried in a random order that the hash seeds (arXiv:1908.08762), so that an
 * endpoint's overflow does not all fall on its neighbour. Generator, order and rounding are those
 * of Envoy, so that both choose the same. */
#include <math.h>
#include "base/mem.h"
#include "upstream/lb/lb.h"

/* MT19937 (Matsumoto, Nishimura 1998), 32 bits. */
#define MT_N 624
#define MT_M 397
struct mt {
    uint32_t v[MT_N];
    uint32_t at;
};

static void mt_seed(struct mt *m, uint32_t seed)
{
    m->v[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        m->v[i] = 1812433253u * (m->v[i - 1] ^ m->v[i - 1] >> 30) + i;
    m->at = MT_N;
}

static uint32_t mt_next(struct mt *m)
{
    if (m->at == MT_N) {
        for (uint32_t i = 0; i < MT_N; i++) {
            uint32_t y = (m->v[i] & 0x80000000u) | (m->v[(i + 1) % MT_N] & 0x7fffffffu);
            m->v[i] = m->v[(i + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        m->at = 0;
    }
    uint32_t y = m->v[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Below k, each as likely. */
static uint32_t mt_below(struct mt *m, uint32_t k)
{
    uint32_t x = k;
    while (x >= k)
        x = (uint32_t)(mt_next(m) / ((1ull << 32) / k));
    return x;
}

static uint32_t active(const struct lb *lb, uint32_t index)
{
    return atomic_load_explicit(&lb->table->v[index].info->state->rq_active, memory_order_relaxed);
}

/* What it has of what it may have. */
static double overload(const struct lb *lb, uint64_t total, const struct lb_weighted *w)
{
    uint64_t slots = ((total + 1) * lb->cfg->hash_balance_factor + 99) / 100;
    double mine = ceil((double)slots * w->weight);
    return active(lb, w->index) / (mine > 1 ? mine : 1);
}

static uint32_t other(const struct lb *lb, const struct lb_priority *p, uint64_t total,
                      uint64_t hash, uint32_t index, double least)
{
    uint32_t *order = mem_array(uint32_t, p->n_shares), best = index;
    struct mt random;
    mt_seed(&random, (uint32_t)hash);
    for (uint32_t i = 0; i < p->n_shares; i++)
        order[i] = i;
    for (uint32_t i = 0; i < p->n_shares && least > 1; i++) {
        uint32_t j = i + mt_below(&random, p->n_shares - i), k = order[j];
        order[j] = order[i];
        order[i] = k;
        if (p->shares[k].index == index)
            continue;
        double load = overload(lb, total, &p->shares[k]);
        if (load < least) {
            best = p->shares[k].index;
            least = load;
        }
    }
    free(order);
    return best;
}

uint32_t lb_bounded(struct lb *lb, struct lb_priority *p, uint64_t hash, uint32_t index)
{
    uint64_t total = 0;
    double min, max, load = 0;
    if (!p->shares)
        p->n_shares = lb_normalized(lb, p, &p->shares, &min, &max);
    for (uint32_t i = 0; i < lb->table->n; i++)
        total += active(lb, i);
    for (uint32_t i = 0; i < p->n_shares; i++)
        if (p->shares[i].index == index)
            load = overload(lb, total, &p->shares[i]);
    return load <= 1 ? index : other(lb, p, total, hash, index, load);
}
