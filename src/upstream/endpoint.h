/* Endpoints of a cluster, as all its users see them.
 *
 *   endpoint_table  immutable, one a version of the assignment; made at first use
 *     └ endpoint    weight, priority, locality, health as EDS says it   (by value, in one array)
 *         └ endpoint_info   who it is: address, names, metadata, transport; immutable, counted
 *             └ endpoint_state   what happens to it: counters, health flags; atomics, counted
 *
 * Info and state are found again by address when a new version comes, so that counters, health and
 * the workers' pools outlive an update that does not concern them: the registry of a cluster holds
 * them weakly. An info whose content changed (metadata, host name …) is a new info with the
 * same state. A logical endpoint (LOGICAL_DNS) keeps its state while its address changes.
 *
 * Thread: any. The registry's mutex is taken when a table is made or freed and when a worker first
 * uses a host, never for a request. */
#ifndef WEFT_UPSTREAM_ENDPOINT_H
#define WEFT_UPSTREAM_ENDPOINT_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/map.h"
#include "net/addr.h"

struct envoy_ClusterLoadAssignment;
struct envoy_Metadata;
struct google_Struct;

/* Bits of endpoint_state.flags. Names as /clusters prints them. */
#define ENDPOINT_FLAGS(X)                                                                          \
    X(FAILED_ACTIVE_HC, "failed_active_hc")                                                        \
    X(FAILED_OUTLIER, "failed_outlier_check")                                                      \
    X(FAILED_EDS, "failed_eds_health")                                                             \
    X(DEGRADED_ACTIVE_HC, "degraded_active_hc")                                                    \
    X(DEGRADED_EDS, "degraded_eds_health")                                                         \
    X(PENDING_REMOVAL, "pending_dynamic_removal")                                                  \
    X(PENDING_ACTIVE_HC, "pending_active_hc")                                                      \
    X(EXCLUDED_HC_FAIL, "excluded_via_immediate_hc_fail")                                          \
    X(HC_TIMEOUT, "active_hc_timeout")                                                             \
    X(EDS_DRAINING, "eds_status_draining")
enum endpoint_flag_bit {
#define X(id, text) ENDPOINT_BIT_##id,
    ENDPOINT_FLAGS(X)
#undef X
        ENDPOINT_FLAG_COUNT
};
#define X(id, text) static const uint32_t ENDPOINT_##id = 1u << ENDPOINT_BIT_##id;
ENDPOINT_FLAGS(X)
#undef X
const char *endpoint_flag_text(enum endpoint_flag_bit b);

/* Which group a balancer puts it in. */
enum endpoint_health {
    ENDPOINT_IS_HEALTHY,
    ENDPOINT_IS_DEGRADED,
    ENDPOINT_IS_UNHEALTHY,
    ENDPOINT_IS_EXCLUDED, /* not counted at all: its first health check has not come */
};

/* Outlier detection's view of a host; written by workers, read and reset by main. */
struct endpoint_outlier {
    _Atomic uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
    _Atomic uint32_t window_total, window_ok;             /* of the current interval */
    _Atomic uint32_t window_local_total, window_local_ok; /* local origin, when split */
    /* Main only. */
    uint32_t ejections;   /* multiplier of the ejection time */
    uint64_t ejected_ms;  /* when, on main's clock; 0: is not ejected */
    uint64_t ejection_ms; /* for how long */
    double success_rate;  /* percent of the last interval, -1: too few requests */
    double local_success_rate;
};

struct endpoint_state {
    uint32_t refs; /* under the registry's lock */
    _Atomic uint32_t flags;
    _Atomic uint32_t rq_active, rq_pending, cx_active;
    _Atomic uint64_t warm_since_ms; /* slow start: healthy since then; 0: not seen so yet */
    _Atomic uint64_t rq_total, rq_success, rq_error, rq_timeout, cx_total, cx_connect_fail;
    struct endpoint_outlier outlier;
    uint32_t key_n;
    char key[]; /* what it is found by */
};

struct endpoint_info {
    uint32_t refs; /* under the registry's lock */
    struct endpoint_state *state;
    struct endpoint_registry *registry;
    struct info_store *store; /* holds the decoded metadata; NULL when there is none */
    struct addr addr;
    sv addr_text; /* "10.0.0.1:80" */
    sv hostname;
    sv region, zone, sub_zone;
    sv hash_key;             /* metadata envoy.lb/hash_key, or empty */
    sv health_hostname;      /* health_check_config */
    struct addr health_addr; /* len 0: addr */
    bool no_health_check;
    bool canary;        /* metadata envoy.lb/canary */
    uint32_t transport; /* index of the cluster's transport sockets */
    const struct envoy_Metadata *metadata;
    sv content; /* everything that makes it itself, packed; compared on updates */
    char bytes[];
};

struct endpoint {
    struct endpoint_info *info;
    uint32_t weight;   /* >= 1 */
    uint32_t locality; /* index in the table */
    uint32_t priority;
    int32_t eds_health; /* enum envoy_HealthStatus */
};

struct endpoint_locality {
    sv region, zone, sub_zone; /* views into an info of it, or empty */
    uint32_t priority;
    uint32_t weight; /* 0: no load when localities are weighted */
    uint32_t n;      /* endpoints */
};

struct endpoint_table {
    struct endpoint *v; /* by priority, then in order of appearance */
    uint32_t n;
    struct endpoint_locality *localities; /* by priority, then name */
    uint32_t n_localities;
    uint32_t n_priorities;     /* highest priority + 1; some may be empty */
    uint32_t overprovisioning; /* percent, 140 */
    bool weighted_priority_health;
    struct endpoint_registry *registry;
};

/* What balancers look at: metadata's "envoy.lb", or NULL. m may be NULL. */
const struct google_Struct *endpoint_lb_metadata(const struct envoy_Metadata *m);
enum endpoint_health endpoint_health(const struct endpoint *e);
/* Flags as /clusters shows them: those of the state and those EDS gave. */
uint32_t endpoint_flags(const struct endpoint *e);

/* ---- registry ---- */
struct endpoint_registry {
    pthread_mutex_t lock;
    struct map infos;  /* packed address -> newest endpoint_info of it */
    struct map states; /* key -> endpoint_state */
};
void endpoint_registry_init(struct endpoint_registry *r);
void endpoint_registry_fini(struct endpoint_registry *r); /* all tables and hosts are gone */
struct endpoint_info *endpoint_info_ref(struct endpoint_info *i);
void endpoint_info_unref(struct endpoint_info *i); /* NULL is fine */
/* An endpoint that no assignment names (ORIGINAL_DST). One reference belongs to the caller. */
struct endpoint_info *endpoint_info_adhoc(struct endpoint_registry *r, const struct addr *a,
                                          uint32_t transport);
/* Calls fn for each known state with its newest info, under the lock: fn must not come back. */
void endpoint_registry_each(struct endpoint_registry *r,
                            void (*fn)(void *arg, const struct endpoint_info *i), void *arg);

/* ---- tables ---- */
/* Chooses the transport socket of an endpoint by its metadata. */
typedef uint32_t (*endpoint_transport_fn)(const void *cfg, const struct envoy_Metadata *m);

struct endpoint_table_opts {
    endpoint_transport_fn transport; /* NULL: always 0 */
    const void *transport_cfg;
    bool dedupe;  /* an address counts once, the first time (EDS, DNS) */
    bool logical; /* one endpoint that keeps its state whatever its address is */
};
/* From an assignment that passed endpoint_check. Never NULL. */
struct endpoint_table *endpoint_table_new(struct endpoint_registry *r,
                                          const struct envoy_ClusterLoadAssignment *cla,
                                          const struct endpoint_table_opts *o);
void endpoint_table_free(struct endpoint_table *t); /* NULL is fine */

struct endpoint_counts {
    uint32_t total, healthy, degraded, excluded;
};
struct endpoint_counts endpoint_table_count(const struct endpoint_table *t);

/* Whether all of an assignment is understood and supported. `names`: host names are allowed where
 * addresses are expected (DNS clusters). Errors begin with `path`. */
int endpoint_check(const struct envoy_ClusterLoadAssignment *cla, bool names, const char *path,
                   struct error *err) MUST_CHECK;

#endif
