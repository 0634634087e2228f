/* Inside the server: server.c (putting together, life), server_config.c (resources from the
 * config source), server_stats.c (server.*), drain.c (the end). */
#ifndef WEFT_PROXY_SERVER_PRIVATE_H
#define WEFT_PROXY_SERVER_PRIVATE_H

#include <stdatomic.h>
#include "base/arena.h"
#include "base/map.h"
#include "net/loop.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "telemetry/stats.h"
#include "upstream/upstream.h"

struct access_log_sinks;
struct admin;

#define SERVER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                           \
    GAUGE(P, compilation_settings_fips_mode)                                                       \
    GAUGE(P, concurrency)                                                                          \
    GAUGE(P, days_until_first_cert_expiring)                                                       \
    COUNTER(P, debug_assertion_failures)                                                           \
    COUNTER(P, dropped_stat_flushes)                                                               \
    COUNTER(P, dynamic_unknown_fields)                                                             \
    COUNTER(P, envoy_bug_failures)                                                                 \
    GAUGE(P, hot_restart_epoch)                                                                    \
    GAUGE(P, hot_restart_generation)                                                               \
    HISTOGRAM(P, initialization_time_ms, STAT_UNIT_MS)                                             \
    GAUGE(P, live)                                                                                 \
    GAUGE(P, memory_allocated)                                                                     \
    COUNTER(P, memory_allocation_failures)                                                         \
    GAUGE(P, memory_heap_size)                                                                     \
    GAUGE(P, memory_physical_size)                                                                 \
    GAUGE(P, memory_short)                                                                         \
    GAUGE(P, parent_connections)                                                                   \
    GAUGE(P, seconds_until_first_ocsp_response_expiring)                                           \
    GAUGE(P, state)                                                                                \
    COUNTER(P, static_unknown_fields)                                                              \
    GAUGE(P, stats_recent_lookups)                                                                 \
    GAUGE(P, total_connections)                                                                    \
    GAUGE(P, uptime)                                                                               \
    GAUGE(P, version)                                                                              \
    COUNTER(P, wip_protos)
STAT_GROUP_DECLARE(server_stats, SERVER_STATS);

struct proxy_server {
    struct proxy_options own_options;
    const struct proxy_options *cli;
    struct os *os;
    struct loop *loop;
    bool own_loop, validating, no_signals, started, stopped;
    uint32_t concurrency;
    bool threads;
    enum proxy_state state;
    int exit_status;
    unsigned end_step; /* of the steps in server.c */

    struct arena arena; /* bootstrap, node texts */
    const struct envoy_Bootstrap *bootstrap;
    struct filter_node node;
    struct pb_opts static_pb, dynamic_pb;
    struct runtime *runtime;           /* of layered_runtime */
    struct runtime_watch *disk_layers; /* its directories */
    struct stat_group runtime_stats;
    int admin_layer;              /* the layer that /runtime_modify changes; -1: there is none */
    uint64_t memory_failures;     /* that are counted */
    uint64_t max_connections;     /* overload.global_downstream_max_connections */
    _Atomic uint64_t connections; /* of all listeners, now */

    struct stats *stats;
    struct access_log_sinks *sinks;
    struct tls_secret_store *secrets;
    struct tls_secret_source secret_source; /* ours: sends ADS names to the config source */
    const struct proxy_agent *agent;
    bool agent_started;
    struct cluster_manager *clusters;
    struct rds_manager *rds;
    struct listener_manager *listeners;
    struct worker **workers;
    struct loop **worker_loops;
    struct config_source *source;
    bool given_source;                     /* by whoever made the server: it has everything */
    struct upstream_worker *main_upstream; /* clusters for ADS itself */
    struct admin *admin;

    /* initialising */
    bool static_warm, cds_done, lds_done, cds_warm, lds_asked;
    bool gave_up; /* the fetch timeout: what is warming does not hold up the rest */
    struct config_sink sink;
    char *versions[CONFIG_TYPE_COUNT];
    size_t config_bytes;    /* that came since memory was last given back */
    struct map eds_names;   /* wanted of the source */
    struct map ads_secrets; /* name -> struct sds_secret *, of sds.c */
    struct timer fetch_timer;
    struct deferred warm_check;
    bool warm_queued;
    uint64_t started_wall_ns, started_ns;

    /* life */
    struct timer tick; /* sweep of stats, gauges */
    struct timer drain_timer;
    uint64_t drain_until_ms;
    bool drain_asked;
    _Atomic uint32_t busy_left;
    _Atomic bool health_failed;
    struct stat_group server_stats;
    struct stat_group subscriptions[CONFIG_TYPE_COUNT];
};

/* server_config.c */
extern const struct filter_hcm_glue proxy_hcm_glue;
void proxy_server_start_source(struct proxy_server *s);
const char *proxy_config_type_name(enum config_type t);
/* The bootstrap's node with what this program says of itself. */
const struct envoy_Node *proxy_server_node_message(struct proxy_server *s);
void proxy_server_check_initialised(struct proxy_server *s);
/* ADS, or a source that has everything. */
bool proxy_server_has_ads(const struct proxy_server *s);
void proxy_eds_want(void *self, sv name, sv file);
void proxy_eds_unwant(void *self, sv name);
void proxy_secret_want(void *self, sv name, sv config);
void proxy_secret_unwant(void *self, sv name, sv config);
int proxy_secret_check(void *self, sv name, sv config, struct error *err) MUST_CHECK;

/* server_stats.c */
void proxy_server_stats_init(struct proxy_server *s);
void proxy_server_stats_update(struct proxy_server *s); /* gauges, before they are read */
void proxy_server_stats_fini(struct proxy_server *s);

/* drain.c */
void proxy_drain_init(struct proxy_server *s);

/* runtime_layers.c: layered_runtime. Errors name the layer. */
int proxy_runtime_load(struct proxy_server *s, struct error *err) MUST_CHECK;
void proxy_runtime_stats(struct proxy_server *s);
/* Of the admin layer: text p == NULL or empty takes the key out of it. */
void proxy_runtime_modify(struct proxy_server *s, sv key, sv text);
void proxy_runtime_published(struct proxy_server *s); /* after changes */
/* The value of a key, when it is a whole number; else `otherwise`. */
uint64_t proxy_runtime_number(const struct proxy_server *s, sv key, uint64_t otherwise);
void proxy_runtime_unwatch(struct proxy_server *s); /* before loop and stats go */
void proxy_runtime_fini(struct proxy_server *s);

#endif
