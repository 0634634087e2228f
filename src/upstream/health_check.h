/* Active health checks of a cluster: each endpoint is asked again and again.
 *
 *   checker ─ session (one an endpoint) ─ probe (HTTP, gRPC or TCP; keeps its connection)
 *               start -> outcome -> thresholds -> flags of the endpoint's state -> on_change
 *
 * An endpoint begins as failed; its first good answer makes it healthy at once, later changes need
 * healthy_threshold good or unhealthy_threshold bad ones in a row; a bad HTTP status counts as that
 * many. Intervals are Envoy's: longer while the cluster has no traffic, others at the edge.
 * An endpoint that its assignment drops is dropped at once, whatever its health.
 * Stats: cluster.NAME.health_check.*. Thread: main. */
#ifndef WEFT_UPSTREAM_HEALTH_CHECK_H
#define WEFT_UPSTREAM_HEALTH_CHECK_H

#include "upstream/cluster.h"

struct health_checker;
/* on_change: flags changed, or the first round of checks is over (see health_checker_warm).
 * `forgive` is called for each good answer (outlier detection lets the host back in). */
struct health_checker *health_checker_new(struct loop *l, struct cluster *c,
                                          struct endpoint_set *set, void (*on_change)(void *arg),
                                          void (*forgive)(void *arg, struct endpoint_state *s),
                                          void *arg);
void health_checker_free(struct health_checker *h); /* NULL is fine */
/* New endpoints: those that are new are flagged before it returns. */
void health_checker_set_endpoints(struct health_checker *h, struct endpoint_set *set);
/* The endpoint said itself that it is about to fail (passive_failure): failed, and not counted
 * among those whose share decides about panic, until a check finds it well. */
void health_checker_fail(struct health_checker *h, struct endpoint_state *e);
/* Every endpoint was checked once. */
bool health_checker_warm(const struct health_checker *h);

/* ---- for probes ---- */
enum health_outcome {
    HEALTH_OK,
    HEALTH_DEGRADED,
    HEALTH_FAILED,    /* answered that it is not well */
    HEALTH_LEAVING,   /* the same, with x-envoy-immediate-health-check-fail */
    HEALTH_RETRIABLE, /* the same, but only counts towards the threshold */
    HEALTH_NETWORK,   /* not reached, connection lost */
    HEALTH_TIMEOUT,
};

struct health_session; /* opaque to probes */
struct health_target {
    struct loop *loop;
    const struct health_config *cfg;
    const struct cluster_config *cluster;
    sv host; /* authority when the configuration says none */
};
const struct health_target *health_session_target(const struct health_session *s);
/* Connects to the endpoint, with TLS where it is used. NULL when that cannot even begin. */
struct conn *health_session_connect(struct health_session *s, const sv *alpn, uint32_t n_alpn,
                                    conn_fn fn, void *user);
/* The check that was started is over. May start the next one or free the probe: return at once. */
void health_session_result(struct health_session *s, enum health_outcome o);

struct health_probe; /* each kind has its own */
struct health_probe_ops {
    struct health_probe *(*open)(struct health_session *s);
    void (*start)(struct health_probe *p);
    /* Gives the check up; its connection is not used again. */
    void (*stop)(struct health_probe *p);
    void (*free)(struct health_probe *p); /* deferred: no event comes after it */
};
extern const struct health_probe_ops health_probe_http, health_probe_tcp;

#endif
