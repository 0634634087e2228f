/* Outlier detection: hosts that fail are taken out of balancing for a while.
 *
 *   worker: result of each request --> counters of the endpoint's state (atomics)
 *           a run of failures as long as the limit --> main
 *   main:   ejects, unless too many are; every interval: lets hosts back in whose time is over,
 *           and looks for hosts whose success rate stands out (mean - factor * deviation) or
 *           whose failures pass a percentage
 *   an ejection lasts base_ejection_time times the number of them in a row, at most
 *   max_ejection_time
 *
 * Ejected hosts carry ENDPOINT_FAILED_OUTLIER; workers are told that health changed.
 * Semantics and stats (cluster.NAME.outlier_detection.*) are Envoy's.
 * Thread: outlier_result: worker. Everything else: main. */
#ifndef WEFT_UPSTREAM_OUTLIER_H
#define WEFT_UPSTREAM_OUTLIER_H

#include "upstream/cluster.h"
#include "upstream/upstream.h"

enum outlier_kind {
    OUTLIER_5XX,
    OUTLIER_GATEWAY,
    OUTLIER_LOCAL,
    OUTLIER_SUCCESS_RATE,
    OUTLIER_SUCCESS_RATE_LOCAL,
    OUTLIER_FAILURE_PERCENT,
    OUTLIER_FAILURE_PERCENT_LOCAL,
    OUTLIER_KINDS
};

/* Worker: a request ended. Cheap; nothing when the cluster has no outlier detection. */
void outlier_result(struct cluster *c, struct endpoint_info *info, enum upstream_result r,
                    uint16_t http_status);

/* Worker: begins to use the cluster, so main is to watch it. */
void outlier_used(struct cluster *c);

struct outlier;
/* on_change: health of some endpoint changed; called from inside these functions. */
struct outlier *outlier_new(struct loop *l, struct cluster *c, struct endpoint_set *set,
                            void (*on_change)(void *arg), void *arg);
void outlier_free(struct outlier *o); /* NULL is fine */
/* The cluster has other endpoints now. */
void outlier_set_endpoints(struct outlier *o, struct endpoint_set *set);
/* A worker counted as many failures in a row as the configuration allows. */
void outlier_hit(struct outlier *o, const struct endpoint_state *s, enum outlier_kind k);
/* An active health check found it well: it is let back in, unless the configuration says no. */
void outlier_forgive(struct outlier *o, struct endpoint_state *s);
/* For /clusters: percent, -1 when there was not enough traffic. */
struct outlier_rates {
    double average, threshold, local_average, local_threshold;
};
struct outlier_rates outlier_rates(const struct outlier *o); /* NULL: all -1 */

/* Called on main by mails of workers; implemented by the manager. */
void cluster_manager_outlier_used(struct cluster *c);
void cluster_manager_outlier_hit(struct cluster *c, const struct endpoint_state *s,
                                 enum outlier_kind k);

#endif
