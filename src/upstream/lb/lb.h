/* Load balancers: which endpoint gets the next stream.
 *
 *   lb_pick:  priority_load chooses a priority and a group (healthy, degraded; all when in panic)
 *             -> with locality weights, a locality of it (EDF)
 *             -> the policy chooses in that list
 *
 * A policy is one file: it keeps state per list (made on the list's first use) and picks from it;
 * all else is common. Consistent-hashing policies have one list a priority. To add a policy:
 * write its file, declare it below, put it into the table of lb.c, and let cluster_config.c read
 * its options.
 *
 * The state is a worker's own; it is made anew when endpoints or their health change. A pick does
 * not allocate (but the first one of a list does).
 * Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_LB_LB_H
#define WEFT_UPSTREAM_LB_LB_H

#include "base/map.h"
#include "base/rand.h"
#include "telemetry/stats.h"
#include "upstream/endpoint.h"
#include "upstream/lb/edf.h"
#include "upstream/lb/priority_load.h"

#define LB_NONE UINT32_MAX

struct lb_policy;
struct lb_subset_config; /* lb/subset.h */
struct lb_subsets;
struct google_Struct;

/* A cluster's options, read once from its configuration. */
struct lb_config {
    const struct lb_policy *policy;
    bool locality_weighted;
    uint32_t panic_percent;     /* healthy_panic_threshold, 50 */
    bool fail_traffic_on_panic; /* no host rather than any */
    bool ignore_unchecked;      /* hosts do not count before their first health check */
    /* least request */
    uint32_t choice_count;      /* 2 */
    double active_request_bias; /* 1.0 */
    bool full_scan;
    /* round robin and least request: a new endpoint's weight grows over this time; 0: at once */
    uint64_t slow_start_ms;
    double slow_start_aggression; /* 1.0: in a straight line */
    double slow_start_min;        /* share of the weight that it begins with, 0.1 */
    /* ring hash, Maglev */
    uint64_t min_ring_size, max_ring_size; /* 1024, 8 Mi */
    bool murmur2;
    bool hash_hostname;  /* instead of the address */
    uint32_t table_size; /* 65537, a prime */
    /* A host takes at most this percentage of the average number of requests; 0: any number. */
    uint32_t hash_balance_factor;
    const struct lb_subset_config *subsets; /* NULL: endpoints are not divided */
};
/* What was made of the endpoints: ring_hash_lb.* and maglev_lb.* of the cluster. */
#define LB_RING_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                          \
    GAUGE(P, size)                                                                                 \
    GAUGE(P, min_hashes_per_host)                                                                  \
    GAUGE(P, max_hashes_per_host)
STAT_GROUP_DECLARE(lb_ring_stat, LB_RING_STATS);
#define LB_MAGLEV_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                        \
    GAUGE(P, min_entries_per_host)                                                                 \
    GAUGE(P, max_entries_per_host)
STAT_GROUP_DECLARE(lb_maglev_stat, LB_MAGLEV_STATS);

/* Envoy's defaults with this policy. */
void lb_config_default(struct lb_config *c, const struct lb_policy *policy);

/* Endpoints of one source: a priority's healthy ones, those of a locality … */
struct lb_list {
    uint32_t *v; /* indices into the table */
    uint32_t n;
    bool weighted; /* not all weights are the same */
    void *state;   /* the policy's; NULL until the first pick */
};

struct lb_locality {
    uint32_t weight; /* configured */
    struct lb_list all, healthy, degraded;
};

struct lb_priority {
    struct lb_list all, healthy, degraded;
    struct lb_locality *localities; /* only when localities are weighted */
    uint32_t n_localities;
    struct edf healthy_localities, degraded_localities; /* indices into localities */
    struct priority_load load;
    struct lb_list hashed;      /* hashing policies: healthy, or all in panic; v is not used */
    struct lb_weighted *shares; /* hash_balance_factor: what `hashed` was made of */
    uint32_t n_shares;
};

struct lb {
    const struct lb_config *cfg;
    const struct endpoint_table *table;
    struct rand_state *rand;
    /* For slow start; NULL: there is none. Any clock that all users of the endpoints share. */
    uint64_t (*now_ms)(const void *clock);
    const void *clock;
    uint64_t slow_until_ms; /* some endpoint is warming up until then */
    struct lb_priority *prio;
    uint32_t n_prio;
    struct priority_load *loads;      /* the same as in prio, in a row */
    struct priority_hosts *hosts;     /* what they were computed from */
    struct stat_group *stats;         /* cluster_stat_…; NULL: nothing is counted */
    struct stat_group *ring, *maglev; /* NULL, or where their sizes are shown */
    /* A part of the table: ascending indices, borrowed. NULL: all of it. */
    const uint32_t *only;
    uint32_t n_only;
    bool flat;         /* localities do not count, whatever cfg says */
    bool scale_weight; /* a locality weighs as much as the share of its endpoints in `only` */
    struct lb_subsets *subsets;
};

struct lb_weighted {
    uint32_t index;
    double weight; /* share of the whole; all add up to 1 */
};

struct lb_policy {
    const char *name; /* as in load_balancing_policy: "round_robin" */
    bool hashing;
    /* Makes list->state. Hashing policies get the priority for its weights. */
    void (*init)(struct lb *lb, struct lb_list *list, const struct lb_priority *p);
    void (*fini)(struct lb_list *list);
    /* An index into the table; list->n > 0. `hash` is the request's, or random; attempt > 0:
     * the same pick again, another host is wanted. */
    uint32_t (*pick)(struct lb *lb, struct lb_list *list, uint64_t hash, uint32_t attempt);
};

extern const struct lb_policy lb_round_robin, lb_random, lb_least_request, lb_ring_hash, lb_maglev;
/* ORIGINAL_DST clusters: worker_cluster asks original_dst.c instead of lb_pick. */
extern const struct lb_policy lb_cluster_provided;

/* `rand` must outlive it; so must cfg and, until the next lb_update, the table. */
void lb_init(struct lb *lb, const struct lb_config *cfg, struct rand_state *rand);
void lb_fini(struct lb *lb);
/* To be called after every change of the endpoints or of their health. */
void lb_update(struct lb *lb, const struct endpoint_table *t);

struct lb_ask {
    const struct google_Struct *criteria; /* what the endpoint's metadata must have, or NULL */
    bool has_hash;
    uint64_t hash;
    /* Endpoints that are only taken when there is no other. May be NULL. */
    bool (*avoid)(void *arg, const struct endpoint *e);
    void *arg;
    /* Bit i: priority i had its chance (of the first 64), as long as others have usable hosts. */
    uint64_t spent_priorities;
};
/* An index into the table or LB_NONE. With subsets, in that of ask->criteria or its fallback. */
uint32_t lb_pick(struct lb *lb, const struct lb_ask *ask);

/* The same without subsets. */
uint32_t lb_pick_whole(struct lb *lb, const struct lb_ask *ask);

/* ---- for policies with weights ---- */
/* Whether turns are to be taken by weight: weights differ, or an endpoint is warming up. */
bool lb_by_weight(const struct lb *lb, const struct lb_list *l);
/* `weight` of an endpoint as slow start has it now. */
double lb_warmed_weight(const struct lb *lb, uint32_t index, double weight);

/* ---- for hashing policies ---- */
/* The endpoints that a hashing structure is made of, with their normalised weights (locality and
 * endpoint). Returns how many; *out is malloc'd. */
uint32_t lb_normalized(const struct lb *lb, const struct lb_priority *p, struct lb_weighted **out,
                       double *min, double *max);
/* With hash_balance_factor, `index` or another endpoint where it has more than its share of active
 * requests; which one follows from the hash. As Envoy does it: at most factor/100 times the
 * average, and the others in an order that the hash gives (consistent hashing with bounded loads).
 */
uint32_t lb_bounded(struct lb *lb, struct lb_priority *p, uint64_t hash, uint32_t index);
/* What of an endpoint is hashed: metadata's hash_key, host name or address. */
sv lb_hash_key(const struct lb *lb, uint32_t index);

#endif
