/* Ring hash (ketama): every endpoint stands at several places of a ring of 64-bit hashes, as many
 * as its weight says; a key belongs to the first place at or after its own hash. The places are
 * hashes of "address_0", "address_1" …, so that the ring agrees with Envoy's. */
#include <math.h>
#include <stdio.h>
#include "base/mem.h"
#include "upstream/lb/hash.h"
#include "upstream/lb/lb.h"

STAT_GROUP_DEFINE(lb_ring_stat, LB_RING_STATS);

struct place {
    uint64_t hash;
    uint32_t index;
};
struct ring {
    uint64_t n;
    struct place v[];
};

static int place_cmp(const void *pa, const void *pb)
{
    const struct place *a = pa, *b = pb;
    return a->hash < b->hash ? -1 : a->hash > b->hash;
}

static uint64_t hash_place(const struct lb *lb, sv key, uint64_t number)
{
    char buf[512];
    if (key.n > sizeof buf - 24)
        key.n = sizeof buf - 24;
    memcpy(buf, key.p, key.n);
    int digits = snprintf(buf + key.n, sizeof buf - key.n, "_%llu", (unsigned long long)number);
    sv whole = sv_make(buf, key.n + (size_t)digits);
    return lb->cfg->murmur2 ? hash_murmur2(whole) : sv_hash_xx64(whole, 0);
}

static void init(struct lb *lb, struct lb_list *l, const struct lb_priority *p)
{
    struct lb_weighted *w;
    double min, max;
    uint32_t n = lb_normalized(lb, p, &w, &min, &max);
    /* The lightest endpoint gets a whole number of places, unless the ring would be too big. */
    double scale = n ? ceil(min * (double)lb->cfg->min_ring_size) / min : 0;
    if (scale > (double)lb->cfg->max_ring_size)
        scale = (double)lb->cfg->max_ring_size;
    uint64_t cap = (uint64_t)ceil(scale) + 1;
    struct ring *r = mem_zalloc(sizeof *r + cap * sizeof *r->v);
    /* Running sums, so that parts of a place even out over the endpoints. */
    double target = 0;
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        sv key = lb_hash_key(lb, w[i].index);
        uint64_t k = 0;
        target += scale * w[i].weight;
        for (; (double)r->n < target && r->n < cap; k++)
            r->v[r->n++] = (struct place){hash_place(lb, key, k), w[i].index};
        least = k < least ? k : least;
        most = k > most ? k : most;
    }
    if (n > 0 && lb->ring) {
        stat_gauge_set(lb->ring, lb_ring_stat_size, r->n);
        stat_gauge_set(lb->ring, lb_ring_stat_min_hashes_per_host, least);
        stat_gauge_set(lb->ring, lb_ring_stat_max_hashes_per_host, most);
    }
    qsort(r->v, r->n, sizeof *r->v, place_cmp);
    free(w);
    l->state = r;
}

static void fini(struct lb_list *l)
{
    free(l->state);
}

static uint32_t pick(struct lb *lb, struct lb_list *l, uint64_t hash, uint32_t attempt)
{
    const struct ring *r = l->state;
    uint64_t lo = 0, hi = r->n;
    if (r->n == 0)
        return LB_NONE;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (r->v[mid].hash < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    return r->v[(lo + attempt) % r->n].index;
}

const struct lb_policy lb_ring_hash = {
    .name = "ring_hash", .hashing = true, .init = init, .fini = fini, .pick = pick};
