/* Maglev (Eisenbud et al., NSDI 2016): a table whose entries the endpoints claim in turns, each
 * along a permutation of its own that its name's hash gives; with weights an endpoint waits until
 * its share is due. A key belongs to entry hash mod size. The order of turns, hashes and arithmetic
 * are Envoy's, so that the table agrees with it. */
#include "base/mem.h"
#include "upstream/lb/lb.h"

STAT_GROUP_DEFINE(lb_maglev_stat, LB_MAGLEV_STATS);

struct claimant {
    sv key;
    uint64_t offset, skip, next, entries;
    double weight, target;
    uint32_t index;
};

static int claimant_cmp(const void *pa, const void *pb)
{
    const struct claimant *a = pa, *b = pb;
    int c = sv_cmp(a->key, b->key);
    return c ? c : a->index < b->index ? -1 : a->index > b->index;
}

static void claim(struct claimant *c, uint32_t *table, uint64_t size)
{
    uint64_t at;
    do
        at = (c->offset + c->skip * c->next++) % size;
    while (table[at] != LB_NONE);
    table[at] = c->index;
    c->entries++;
}

static void fill(struct claimant *v, uint32_t n, double max_weight, uint32_t *table, uint64_t size)
{
    uint64_t filled = 0;
    for (uint64_t turn = 1; filled < size; turn++) {
        for (uint32_t i = 0; i < n && filled < size; i++) {
            if ((double)turn * v[i].weight < v[i].target)
                continue;
            v[i].target += max_weight;
            claim(&v[i], table, size);
            filled++;
        }
    }
}

static void show(const struct lb *lb, const struct claimant *v, uint32_t n, uint64_t size)
{
    uint64_t least = size, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        least = v[i].entries < least ? v[i].entries : least;
        most = v[i].entries > most ? v[i].entries : most;
    }
    stat_gauge_set(lb->maglev, lb_maglev_stat_min_entries_per_host, least);
    stat_gauge_set(lb->maglev, lb_maglev_stat_max_entries_per_host, most);
}

static void init(struct lb *lb, struct lb_list *l, const struct lb_priority *p)
{
    struct lb_weighted *w;
    double min, max;
    uint64_t size = lb->cfg->table_size;
    uint32_t n = lb_normalized(lb, p, &w, &min, &max);
    uint32_t *table = mem_array(uint32_t, size);
    for (uint64_t i = 0; i < size; i++)
        table[i] = LB_NONE;
    struct claimant *v = mem_array(struct claimant, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        sv key = lb_hash_key(lb, w[i].index);
        v[i] = (struct claimant){.key = key,
                                 .offset = sv_hash_xx64(key, 0) % size,
                                 .skip = sv_hash_xx64(key, 1) % (size - 1) + 1,
                                 .weight = w[i].weight,
                                 .index = w[i].index};
    }
    qsort(v, n, sizeof *v, claimant_cmp);
    if (n > 0)
        fill(v, n, max, table, size);
    if (n > 0 && lb->maglev)
        show(lb, v, n, size);
    free(v);
    free(w);
    l->state = table;
}

static void fini(struct lb_list *l)
{
    free(l->state);
}

static uint32_t pick(struct lb *lb, struct lb_list *l, uint64_t hash, uint32_t attempt)
{
    const uint32_t *table = l->state;
    if (attempt > 0)
        hash ^= ~0ull - attempt + 1;
    return table[hash % lb->cfg->table_size];
}

const struct lb_policy lb_maglev = {
    .name = "maglev", .hashing = true, .init = init, .fini = fini, .pick = pick};
