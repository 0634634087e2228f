#include "mesh/translate/locality.h"

#include <stdlib.h>

static bool in_subset(const struct istio_Subset *s, const struct model_endpoint *e)
{
    for (uint32_t i = 0; s && i < s->labels.n; i++) {
        if (!sv_eq(model_labels_get(e->labels, s->labels.v[i]->key), s->labels.v[i]->value))
            return false;
    }
    return true;
}

/* ---- failoverPriority ---- */

/* Well known labels speak of what is known otherwise, where the workload has no such label. */
static sv topology(sv key, sv region, sv zone, sv sub_zone, sv network, sv node)
{
    if (sv_eq_c(key, "topology.kubernetes.io/region"))
        return region;
    if (sv_eq_c(key, "topology.kubernetes.io/zone"))
        return zone;
    if (sv_eq_c(key, "topology.istio.io/subzone"))
        return sub_zone;
    if (sv_eq_c(key, "topology.istio.io/network"))
        return network;
    if (sv_eq_c(key, "kubernetes.io/hostname"))
        return node;
    return (sv){NULL, 0};
}

static sv label_of_proxy(const struct translate_proxy *p, sv key)
{
    sv v = model_labels_get(p->labels, key);
    return v.p ? v : topology(key, p->region, p->zone, p->sub_zone, p->network, (sv){NULL, 0});
}

static sv label_of_endpoint(const struct model_endpoint *e, sv key)
{
    sv v = model_labels_get(e->labels, key);
    return v.p ? v : topology(key, e->region, e->zone, e->sub_zone, e->network, e->node);
}

/* "key" compares with the client's value, "key=value" with that one. */
static uint32_t rank_of(const struct translate_proxy *p, const struct model_endpoint *e,
                        const sv *labels, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        sv key, want;
        if (!sv_cut(labels[i], '=', &key, &want))
            want = label_of_proxy(p, key);
        if (!sv_eq(label_of_endpoint(e, key), want))
            return n - i;
    }
    return 0;
}

/* ---- groups ---- */

static bool belongs(const struct locality_group *g, const struct model_endpoint *e, uint32_t rank)
{
    return g->rank == rank && sv_eq(g->region, e->region) && sv_eq(g->zone, e->zone) &&
           sv_eq(g->sub_zone, e->sub_zone);
}

static void put(struct build *b, struct locality_group *g, uint32_t *n,
                const struct model_endpoint *e, uint32_t rank, uint32_t most)
{
    uint32_t i = 0;

    while (i < *n && !belongs(&g[i], e, rank))
        i++;
    if (i == *n) {
        g[(*n)++] =
            (struct locality_group){.region = e->region,
                                    .zone = e->zone,
                                    .sub_zone = e->sub_zone,
                                    .rank = rank,
                                    .v = arena_array(b->a, const struct model_endpoint *, most)};
    }
    g[i].v[g[i].n++] = e;
    g[i].weight += e->weight;
}

/* ---- distribute ---- */

/* "region/zone/sub-zone", each '*' or left out for any. */
static bool locality_matches(sv pattern, sv region, sv zone, sv sub_zone)
{
    const sv have[3] = {region, zone, sub_zone};

    for (int i = 0; i < 3; i++) {
        sv part;
        sv_cut(pattern, '/', &part, &pattern);
        if (part.n && !sv_eq_c(part, "*") && !sv_eq(part, have[i]))
            return false;
    }
    return true;
}

static int most_special_first(const void *pa, const void *pb)
{
    const struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry *a =
        *(const struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry *const *)pa;
    const struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry *b =
        *(const struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry *const *)pb;
    bool wild_a = sv_find(a->key, '*') >= 0, wild_b = sv_find(b->key, '*') >= 0;

    if (wild_a != wild_b)
        return wild_a ? 1 : -1;
    return a->key.n != b->key.n ? (a->key.n > b->key.n ? -1 : 1) : sv_cmp(a->key, b->key);
}

/* A share is divided among the localities that it names in proportion to their endpoints. */
static void give_share(struct locality_group *g, uint32_t n, bool *given, sv to, uint32_t share)
{
    uint64_t total = 0;
    bool *hit = given + n;

    for (uint32_t i = 0; i < n; i++) {
        hit[i] = !given[i] && locality_matches(to, g[i].region, g[i].zone, g[i].sub_zone);
        total += hit[i] ? g[i].weight : 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!hit[i])
            continue;
        given[i] = true;
        g[i].weight = (uint32_t)(((uint64_t)g[i].weight * share + total - 1) / total);
        if (!share)
            g[i].n = 0;
    }
}

static void distribute(struct build *b, const struct istio_LocalityLoadBalancerSetting *l,
                       struct locality_group *g, uint32_t n)
{
    const struct istio_LocalityLoadBalancerSetting_Distribute *d = NULL;
    const struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry **to;
    bool *given;

    for (uint32_t i = 0; i < l->distribute.n && !d; i++) {
        if (locality_matches(l->distribute.v[i]->from, b->p->region, b->p->zone, b->p->sub_zone))
            d = l->distribute.v[i];
    }
    if (!d)
        return;
    given = arena_array(b->a, bool, n * 2 + 1);
    to = build_copy(b, d->to.v, d->to.n * sizeof *to);
    if (d->to.n > 1)
        qsort(to, d->to.n, sizeof *to, most_special_first);
    for (uint32_t i = 0; i < d->to.n; i++)
        give_share(g, n, given, to[i]->key, to[i]->value);
    for (uint32_t i = 0; i < n; i++) {
        if (!given[i])
            g[i].n = 0;
    }
}

/* ---- failover ---- */

static uint32_t distance(const struct translate_proxy *p, const struct locality_group *g,
                         const struct istio_LocalityLoadBalancerSetting *l)
{
    if (sv_eq(p->region, g->region)) {
        if (!sv_eq(p->zone, g->zone))
            return 2;
        return sv_eq(p->sub_zone, g->sub_zone) ? 0 : 1;
    }
    for (uint32_t i = 0; l && i < l->failover.n; i++) {
        if (sv_eq(l->failover.v[i]->from, p->region))
            return sv_eq(l->failover.v[i]->to, g->region) ? 3 : 4;
    }
    return 3;
}

/* Priorities are used from 0 on, without gaps. */
static void number(struct locality_group *g, uint32_t n)
{
    for (uint32_t next = 0;; next++) {
        uint32_t least = UINT32_MAX;
        for (uint32_t i = 0; i < n; i++) {
            if (g[i].n && g[i].priority >= next && g[i].priority < least)
                least = g[i].priority;
        }
        if (least == UINT32_MAX)
            return;
        for (uint32_t i = 0; i < n; i++) {
            if (g[i].priority == least)
                g[i].priority = next;
        }
    }
}

static bool fails_over(const struct istio_TrafficPolicy *p,
                       const struct istio_LocalityLoadBalancerSetting *l)
{
    if (l && l->enabled)
        return l->enabled->value;
    return p->outlier_detection || (l && (l->failover.n || l->failover_priority.n));
}

struct locality_group *locality_groups(struct build *b, const struct istio_TrafficPolicy *policy,
                                       const struct model_endpoints *eps,
                                       const struct istio_Subset *subset, uint32_t *n)
{
    const struct istio_LocalityLoadBalancerSetting *l = build_locality(policy);
    struct locality_group *g = arena_array(b->a, struct locality_group, eps->n + 1);
    bool shares = l && l->distribute.n && !(l->enabled && !l->enabled->value);
    bool over = !shares && fails_over(policy, l);
    uint32_t labels = over && l ? l->failover_priority.n : 0, members = 0, found = 0;

    for (uint32_t i = 0; i < eps->n; i++)
        members += in_subset(subset, &eps->v[i]);
    for (uint32_t i = 0; i < eps->n; i++) {
        if (in_subset(subset, &eps->v[i]))
            put(b, g, &found, &eps->v[i],
                labels ? rank_of(b->p, &eps->v[i], l->failover_priority.v, labels) : 0, members);
    }
    if (shares)
        distribute(b, l, g, found);
    for (uint32_t i = 0; i < found && over; i++) {
        g[i].priority = g[i].rank * 5;
        if (!labels || l->failover.n)
            g[i].priority += distance(b->p, &g[i], l);
    }
    if (over)
        number(g, found);
    *n = found;
    return g;
}
