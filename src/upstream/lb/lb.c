#include "upstream/lb/lb.h"
#include "base/code.h"

#include <math.h>
#include "base/mem.h"
#include "upstream/cluster_stats.h"
#include "upstream/lb/subset.h"

#define LB_MAX_PRIORITIES 130

const struct lb_policy lb_cluster_provided = {.name = "cluster_provided"};

void lb_config_default(struct lb_config *c, const struct lb_policy *policy)
{
    *c = (struct lb_config){.policy = policy,
                            .panic_percent = 50,
                            .choice_count = 2,
                            .active_request_bias = 1.0,
                            .slow_start_aggression = 1.0,
                            .slow_start_min = 0.1,
                            .min_ring_size = 1024,
                            .max_ring_size = 8u << 20,
                            .table_size = 65537};
}

void lb_init(struct lb *lb, const struct lb_config *cfg, struct rand_state *rand)
{
    *lb = (struct lb){.cfg = cfg, .rand = rand};
    if (cfg->subsets) {
        lb->subsets = lb_subsets_new(lb);
        lb->flat = !cfg->subsets->locality_weight_aware;
    }
}

static bool by_locality(const struct lb *lb)
{
    return lb->cfg->locality_weighted && !lb->flat;
}

/* ---- lists ---- */

static void list_fini(struct lb *lb, struct lb_list *l)
{
    if (l->state)
        lb->cfg->policy->fini(l);
    free(l->v);
    *l = (struct lb_list){0};
}

static void priority_fini(struct lb *lb, struct lb_priority *p)
{
    for (uint32_t i = 0; i < p->n_localities; i++) {
        list_fini(lb, &p->localities[i].all);
        list_fini(lb, &p->localities[i].healthy);
        list_fini(lb, &p->localities[i].degraded);
    }
    list_fini(lb, &p->all);
    list_fini(lb, &p->healthy);
    list_fini(lb, &p->degraded);
    list_fini(lb, &p->hashed);
    edf_fini(&p->healthy_localities);
    edf_fini(&p->degraded_localities);
    free(p->localities);
    free(p->shares);
}

static void clear(struct lb *lb)
{
    for (uint32_t i = 0; i < lb->n_prio; i++)
        priority_fini(lb, &lb->prio[i]);
    free(lb->prio);
    free(lb->loads);
    free(lb->hosts);
    lb->prio = NULL;
    lb->loads = NULL;
    lb->hosts = NULL;
    lb->n_prio = 0;
    lb->table = NULL;
}

void lb_fini(struct lb *lb)
{
    lb_subsets_free(lb->subsets);
    lb->subsets = NULL;
    clear(lb);
}

static void list_add(struct lb *lb, struct lb_list *l, uint32_t cap, uint32_t index)
{
    if (!l->v)
        l->v = mem_array(uint32_t, cap);
    if (l->n > 0 && lb->table->v[index].weight != lb->table->v[l->v[0]].weight)
        l->weighted = true;
    l->v[l->n++] = index;
}

static void lists_add(struct lb *lb, struct lb_list *all, struct lb_list *healthy,
                      struct lb_list *degraded, uint32_t cap, uint32_t index,
                      enum endpoint_health h)
{
    list_add(lb, all, cap, index);
    if (h == ENDPOINT_IS_HEALTHY)
        list_add(lb, healthy, cap, index);
    else if (h == ENDPOINT_IS_DEGRADED)
        list_add(lb, degraded, cap, index);
}

/* ---- building ---- */

static void count(struct priority_hosts *h, const struct endpoint_table *t, uint32_t index,
                  enum endpoint_health health)
{
    uint64_t w = t->weighted_priority_health ? t->v[index].weight : 1;
    h->hosts++;
    if (health == ENDPOINT_IS_EXCLUDED) {
        h->excluded++;
        return;
    }
    h->total_weight += w;
    if (health == ENDPOINT_IS_HEALTHY) {
        h->healthy++;
        h->healthy_weight += w;
    } else if (health == ENDPOINT_IS_DEGRADED) {
        h->degraded++;
        h->degraded_weight += w;
    }
}

static void add_locality_lists(struct lb *lb, const uint32_t *slot, uint32_t index,
                               enum endpoint_health health)
{
    const struct endpoint *e = &lb->table->v[index];
    struct lb_locality *l = &lb->prio[e->priority].localities[slot[e->locality]];
    lists_add(lb, &l->all, &l->healthy, &l->degraded, lb->table->localities[e->locality].n, index,
              health);
}

/* How much of a locality's weight counts: all of it as long as overprovisioning covers what is
 * missing. */
static double effective_weight(const struct lb *lb, const struct lb_locality *l, uint32_t eligible)
{
    uint32_t excluded = 0;
    for (uint32_t i = 0; i < l->all.n; i++)
        excluded += endpoint_health(&lb->table->v[l->all.v[i]]) == ENDPOINT_IS_EXCLUDED;
    if (l->all.n <= excluded)
        return 0;
    double ratio = (double)eligible / (l->all.n - excluded);
    double share = lb->table->overprovisioning / 100.0 * ratio;
    return l->weight * (share < 1.0 ? share : 1.0);
}

/* Of a locality of which only some endpoints are here, a part of its weight. */
static void scale_localities(struct lb *lb, const uint32_t *slot)
{
    const struct endpoint_table *t = lb->table;
    for (uint32_t i = 0; i < t->n_localities; i++) {
        struct lb_locality *l = &lb->prio[t->localities[i].priority].localities[slot[i]];
        uint32_t whole = t->localities[i].n;
        l->weight = whole ? (uint32_t)lround((double)l->weight * l->all.n / whole) : 0;
    }
}

static void schedule_localities(struct lb *lb, struct lb_priority *p)
{
    edf_init(&p->healthy_localities, p->n_localities);
    edf_init(&p->degraded_localities, p->n_localities);
    for (uint32_t i = 0; i < p->n_localities; i++) {
        double h = effective_weight(lb, &p->localities[i], p->localities[i].healthy.n);
        double d = effective_weight(lb, &p->localities[i], p->localities[i].degraded.n);
        if (h > 0)
            edf_add(&p->healthy_localities, i, h);
        if (d > 0)
            edf_add(&p->degraded_localities, i, d);
    }
}

/* slot[i]: the number of the table's locality i within its priority. */
static uint32_t *locality_slots(struct lb *lb)
{
    const struct endpoint_table *t = lb->table;
    uint32_t *slot = mem_array(uint32_t, t->n_localities + 1);
    for (uint32_t i = 0; i < t->n_localities; i++)
        slot[i] = lb->prio[t->localities[i].priority].n_localities++;
    for (uint32_t i = 0; i < lb->n_prio; i++)
        lb->prio[i].localities = mem_array(struct lb_locality, lb->prio[i].n_localities + 1);
    for (uint32_t i = 0; i < t->n_localities; i++)
        lb->prio[t->localities[i].priority].localities[slot[i]].weight = t->localities[i].weight;
    return slot;
}

/* An endpoint that is seen healthy for the first time begins to warm up, whoever of the workers
 * sees it first. */
static void begin_slow_start(struct lb *lb)
{
    const struct endpoint_table *t = lb->table;
    lb->slow_until_ms = 0;
    if (!lb->cfg->slow_start_ms || !lb->now_ms)
        return;
    uint64_t now = lb->now_ms(lb->clock);
    for (uint32_t i = 0; i < t->n; i++) {
        if (endpoint_health(&t->v[i]) != ENDPOINT_IS_HEALTHY)
            continue;
        uint64_t since = 0;
        if (atomic_compare_exchange_strong(&t->v[i].info->state->warm_since_ms, &since,
                                           now ? now : 1))
            since = now;
        if (since + lb->cfg->slow_start_ms > lb->slow_until_ms)
            lb->slow_until_ms = since + lb->cfg->slow_start_ms;
    }
}

static uint32_t members(const struct lb *lb)
{
    return lb->only ? lb->n_only : lb->table->n;
}

static uint32_t member(const struct lb *lb, uint32_t i)
{
    return lb->only ? lb->only[i] : i;
}

void lb_update(struct lb *lb, const struct endpoint_table *t)
{
    clear(lb);
    lb->table = t;
    begin_slow_start(lb);
    lb->n_prio = t->n_priorities;
    lb->prio = mem_array(struct lb_priority, lb->n_prio);
    lb->loads = mem_array(struct priority_load, lb->n_prio);
    struct priority_hosts *hosts = lb->hosts = mem_array(struct priority_hosts, lb->n_prio);
    uint32_t *sizes = mem_array(uint32_t, lb->n_prio);
    uint32_t *slot = by_locality(lb) ? locality_slots(lb) : NULL;
    for (uint32_t k = 0; k < members(lb); k++)
        sizes[t->v[member(lb, k)].priority]++;
    for (uint32_t k = 0; k < members(lb); k++) {
        uint32_t i = member(lb, k);
        struct lb_priority *p = &lb->prio[t->v[i].priority];
        enum endpoint_health h = endpoint_health(&t->v[i]);
        count(&hosts[t->v[i].priority], t, i, h);
        lists_add(lb, &p->all, &p->healthy, &p->degraded, sizes[t->v[i].priority], i, h);
        if (slot)
            add_locality_lists(lb, slot, i, h);
    }
    if (slot && lb->scale_weight)
        scale_localities(lb, slot);
    priority_load_compute(hosts, lb->n_prio, t->overprovisioning, lb->cfg->panic_percent,
                          lb->loads);
    for (uint32_t i = 0; i < lb->n_prio; i++) {
        lb->prio[i].load = lb->loads[i];
        if (slot)
            schedule_localities(lb, &lb->prio[i]);
    }
    free(slot);
    free(sizes);
    if (lb->subsets)
        lb_subsets_update(lb->subsets, t);
}

/* ---- picking ---- */

static struct lb_list *pick_locality(struct lb_priority *p, bool degraded)
{
    struct edf *e = degraded ? &p->degraded_localities : &p->healthy_localities;
    if (e->n == 0)
        return NULL;
    struct lb_locality *l = &p->localities[edf_pick(e)];
    return degraded ? &l->degraded : &l->healthy;
}

static struct lb_list *pick_list(struct lb *lb, struct lb_priority *p, bool degraded)
{
    if (lb->cfg->policy->hashing) {
        p->hashed.n = p->load.panic ? p->all.n : p->healthy.n;
        if (p->load.panic && lb->stats)
            stat_inc(lb->stats, cluster_stat_lb_healthy_panic);
        return &p->hashed;
    }
    if (p->load.panic) {
        if (lb->stats)
            stat_inc(lb->stats, cluster_stat_lb_healthy_panic);
        return lb->cfg->fail_traffic_on_panic ? NULL : &p->all;
    }
    struct lb_list *l = by_locality(lb) ? pick_locality(p, degraded) : NULL;
    return l ? l : degraded ? &p->degraded : &p->healthy;
}

/* The load without the priorities that had their chance; the usual one when no other has hosts. */
static const struct priority_load *loads_for(const struct lb *lb, const struct lb_ask *ask,
                                             struct priority_load *room)
{
    struct priority_hosts hosts[LB_MAX_PRIORITIES];
    bool any = false;
    if (!ask->spent_priorities || lb->n_prio > LB_MAX_PRIORITIES)
        return lb->loads;
    for (uint32_t i = 0; i < lb->n_prio; i++) {
        bool spent = i < 64 && ask->spent_priorities >> i & 1;
        hosts[i] = spent ? (struct priority_hosts){0} : lb->hosts[i];
        any = any || hosts[i].healthy + hosts[i].degraded > 0;
    }
    if (!any)
        return lb->loads;
    priority_load_compute(hosts, lb->n_prio, lb->table->overprovisioning, 0, room);
    return room;
}

HOT static uint32_t pick_once(struct lb *lb, const struct lb_ask *ask, uint32_t attempt)
{
    uint64_t hash = ask->has_hash && lb->cfg->policy->hashing ? ask->hash : rand_u64(lb->rand);
    bool degraded;
    struct priority_load room[LB_MAX_PRIORITIES];
    uint32_t at = priority_load_choose(loads_for(lb, ask, room), lb->n_prio, hash, &degraded);
    struct lb_list *list = pick_list(lb, &lb->prio[at], degraded);
    if (!list || list->n == 0)
        return LB_NONE;
    if (!list->state && lb->cfg->policy->init)
        lb->cfg->policy->init(lb, list, &lb->prio[at]);
    uint32_t index = lb->cfg->policy->pick(lb, list, hash, attempt);
    return index != LB_NONE && lb->cfg->policy->hashing && lb->cfg->hash_balance_factor
               ? lb_bounded(lb, &lb->prio[at], hash, index)
               : index;
}

/* The picks all fell on endpoints to be avoided: is there another one at all? Begins anywhere, so
 * that the retries of many requests do not meet on one endpoint. */
static uint32_t pick_other(struct lb *lb, const struct lb_ask *ask, uint32_t fallback)
{
    const struct lb_priority *p = &lb->prio[lb->table->v[fallback].priority];
    const struct lb_list *l = p->load.panic      ? &p->all
                              : p->healthy.n > 0 ? &p->healthy
                                                 : &p->degraded;
    uint32_t from = l->n ? (uint32_t)rand_below(lb->rand, l->n) : 0;
    for (uint32_t i = 0; i < l->n; i++) {
        uint32_t index = l->v[(from + i) % l->n];
        if (!ask->avoid(ask->arg, &lb->table->v[index]))
            return index;
    }
    return fallback;
}

uint32_t lb_pick(struct lb *lb, const struct lb_ask *ask)
{
    return lb->subsets ? lb_subsets_pick(lb->subsets, ask) : lb_pick_whole(lb, ask);
}

HOT uint32_t lb_pick_whole(struct lb *lb, const struct lb_ask *ask)
{
    if (lb->n_prio == 0)
        return LB_NONE;
    uint32_t index = pick_once(lb, ask, 0);
    if (!ask->avoid || index == LB_NONE || !ask->avoid(ask->arg, &lb->table->v[index]))
        return index;
    for (uint32_t attempt = 1; attempt < 4; attempt++) {
        uint32_t other = pick_once(lb, ask, attempt);
        if (other != LB_NONE && !ask->avoid(ask->arg, &lb->table->v[other]))
            return other;
    }
    return pick_other(lb, ask, index);
}

/* ---- for policies with weights ---- */

bool lb_by_weight(const struct lb *lb, const struct lb_list *l)
{
    return l->weighted || (lb->slow_until_ms && lb->now_ms(lb->clock) < lb->slow_until_ms);
}

double lb_warmed_weight(const struct lb *lb, uint32_t index, double weight)
{
    const struct lb_config *c = lb->cfg;
    if (!lb->slow_until_ms || endpoint_health(&lb->table->v[index]) != ENDPOINT_IS_HEALTHY)
        return weight;
    uint64_t since =
        atomic_load_explicit(&lb->table->v[index].info->state->warm_since_ms, memory_order_relaxed);
    uint64_t now = lb->now_ms(lb->clock), age = now > since ? now - since : 1;
    if (age >= c->slow_start_ms)
        return weight;
    double grown = (double)age / (double)c->slow_start_ms;
    if (c->slow_start_aggression != 1.0)
        grown = pow(grown, 1.0 / c->slow_start_aggression);
    if (grown < c->slow_start_min)
        grown = c->slow_start_min;
    return weight * (grown > 1e-9 ? grown : 1e-9); /* never no weight at all */
}

/* ---- for hashing policies ---- */

static uint32_t add_normalized(const struct lb *lb, const struct lb_list *l, double share,
                               struct lb_weighted *out, double *min, double *max)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->n; i++)
        sum += lb->table->v[l->v[i]].weight;
    for (uint32_t i = 0; i < l->n; i++) {
        double w = lb->table->v[l->v[i]].weight * share / (double)sum;
        out[i] = (struct lb_weighted){l->v[i], w};
        if (w < *min)
            *min = w;
        if (w > *max)
            *max = w;
    }
    return l->n;
}

uint32_t lb_normalized(const struct lb *lb, const struct lb_priority *p, struct lb_weighted **out,
                       double *min, double *max)
{
    bool panic = p->load.panic;
    uint64_t sum = 0;
    uint32_t n = 0;
    struct lb_weighted *v = mem_array(struct lb_weighted, p->all.n + 1);
    *out = v;
    *min = 1.0;
    *max = 0.0;
    for (uint32_t i = 0; i < p->n_localities; i++)
        sum += p->localities[i].weight;
    if (!by_locality(lb) || p->n_localities == 0)
        return add_normalized(lb, panic ? &p->all : &p->healthy, 1.0, v, min, max);
    for (uint32_t i = 0; sum > 0 && i < p->n_localities; i++) {
        const struct lb_locality *l = &p->localities[i];
        if (l->weight)
            n += add_normalized(lb, panic ? &l->all : &l->healthy, l->weight / (double)sum, v + n,
                                min, max);
    }
    return n;
}

sv lb_hash_key(const struct lb *lb, uint32_t index)
{
    const struct endpoint_info *i = lb->table->v[index].info;
    if (i->hash_key.n)
        return i->hash_key;
    return lb->cfg->hash_hostname && i->hostname.n ? i->hostname : i->addr_text;
}
