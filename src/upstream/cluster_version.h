/* One version of a cluster on main: what it needs before it may serve, and what keeps it current.
 *
 *   put -> [warming: endpoints (EDS, DNS), secrets (SDS)] --on_warm--> in use --on_endpoints--> ...
 *
 * It is warm when its first endpoints and all its secrets came, each endpoint was checked once, or
 * the time for that is over: then it serves with what there is, as in Envoy. Thread: main. */
#ifndef WEFT_UPSTREAM_CLUSTER_VERSION_H
#define WEFT_UPSTREAM_CLUSTER_VERSION_H

#include "upstream/cluster.h"
#include "upstream/dns_cluster.h"
#include "upstream/eds.h"
#include "upstream/health_check.h"
#include "upstream/outlier.h"

struct secret_wait;

struct cluster_version {
    struct cluster *cluster;
    struct endpoint_set *set; /* NULL until something is known; never NULL when warm */
    struct eds *eds_table;
    struct eds_user eds;
    struct secret_wait *secrets;
    uint32_t n_secrets, n_missing;
    struct dns_cluster *dns;
    struct health_checker *health; /* NULL: no checks, or no endpoints yet */
    struct outlier *outlier;       /* NULL: none, or nobody uses the cluster */
    struct timer timeout;
    struct deferred gone;
    enum cluster_type type;
    bool in_init; /* wait_for_warm_on_init */
    bool checked; /* there are health checks */
    bool starting, warm, timed_out, dead;
    void (*on_warm)(struct cluster_version *v);
    void (*on_endpoints)(struct cluster_version *v);
    void (*on_health)(struct cluster_version *v);
    void *owner;
};

struct version_env {
    struct loop *loop;
    struct eds *eds;
    struct tls_secret_store *secrets;
    struct resolver *resolver; /* for DNS clusters */
};
/* cfg is the checked configuration of c. Callbacks and owner are set by the caller before
 * cluster_version_start, during which on_warm may come. */
struct cluster_version *cluster_version_new(struct cluster *c, struct loop *l);
void cluster_version_start(struct cluster_version *v, const struct cluster_config *cfg,
                           const struct version_env *env);
/* Ends it; the memory goes at the end of the turn. NULL is fine. */
void cluster_version_free(struct cluster_version *v);

#endif
