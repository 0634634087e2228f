/* What the proxy asks of the upstream room.
 *
 *   main thread:   cluster_manager  --- immutable, refcounted cluster snapshots --->  workers
 *   worker:        upstream_worker: pools, load balancer state, limits of that worker
 *
 *   router: upstream_find(name) -> upstream_http_open(cluster, ctx) -> on_ready(stream, host)
 *                                                                    \ on_fail(why, host)
 *
 * Configuration is kept packed (bytes of envoy_Cluster and envoy_ClusterLoadAssignment); it is
 * decoded once for validation and again into its runtime form at first use on a worker. Stats
 * of a cluster exist once touched. A cluster is warm when its endpoints (EDS, DNS) and secrets
 * (SDS) have arrived; until then the previous one of that name serves.
 *
 * Sources of later data are given by the proxy as small tables (struct eds_source below and
 * tls_secret_store in src/tls), so this room does not know xDS.
 * Thread: said at each part. */
#ifndef WEFT_UPSTREAM_UPSTREAM_H
#define WEFT_UPSTREAM_UPSTREAM_H

#include "base/error.h"
#include "base/strbuf.h"
#include "http/codec.h"
#include "net/conn.h"

struct stats;
struct cluster_manager;
struct upstream_worker;
struct stats_scope;
struct upstream_cluster; /* worker-local handle on one cluster; valid while a reference is held */
struct upstream_host;    /* one endpoint, worker-local handle */
struct resolver;
struct tls_secret_store;
struct pb_opts;
struct bind_source;

/* ---------------- main thread: configuration ---------------- */

/* Where EDS comes from. want() is called when a cluster of type EDS appears (service_name or the
 * cluster's name; file: its packed ConfigSource where that is a file, else empty), unwant() when
 * the last one that needs it is gone. Answers come through cluster_manager_endpoints(). */
struct eds_source {
    void (*want)(void *self, sv resource_name, sv file);
    void (*unwant)(void *self, sv resource_name);
    void *self;
    bool no_ads; /* clusters whose source is not a file are refused */
};

struct cluster_manager_opts {
    struct loop *main;
    struct stats *stats;
    const struct eds_source *eds;                /* NULL: EDS clusters are refused by name */
    struct tls_secret_store *secrets;            /* NULL: SDS references are refused by name */
    const char *dns_servers;                     /* NULL: /etc/resolv.conf; for STRICT_DNS */
    struct resolver *resolver;                   /* simulation: use this one, else NULL */
    sv local_zone, local_region, local_sub_zone; /* of this node */
    uint32_t socket_mark;                        /* SO_MARK of upstream sockets, 0 none */
    const struct bind_source *bind; /* of clusters that do not say their own, or NULL */
    /* What to do about unknown fields; NULL: they are refused. Must outlive the manager. */
    const struct pb_opts *static_fields, *dynamic_fields;
};

struct cluster_manager *cluster_manager_new(const struct cluster_manager_opts *o);
/* After its workers and their loops. */
void cluster_manager_free(struct cluster_manager *cm);

/* Adds or replaces. `packed` (envoy.config.cluster.v3.Cluster) is copied. Validated whole before
 * anything changes; err names cluster and field path. Equal bytes: nothing happens. */
int cluster_manager_put(struct cluster_manager *cm, sv packed, struct error *err) MUST_CHECK;
/* Streams in flight end on the old one; then its pools drain. E_NOT_FOUND. */
int cluster_manager_remove(struct cluster_manager *cm, sv name);
/* packed envoy.config.endpoint.v3.ClusterLoadAssignment, copied. */
int cluster_manager_endpoints(struct cluster_manager *cm, sv packed, struct error *err) MUST_CHECK;
bool cluster_manager_has(const struct cluster_manager *cm, sv name); /* known (warm or warming) */
bool cluster_manager_warm(const struct cluster_manager *cm, sv name);
/* fn once every cluster known now is warm or has failed to warm within its time-out
 * (initial_fetch_timeout 15 s); at once if so already. */
void cluster_manager_when_warm(struct cluster_manager *cm, void (*fn)(void *arg), void *arg);
/* The same for one cluster; at once when there is none of that name. */
void cluster_manager_when_one_warm(struct cluster_manager *cm, sv name, void (*fn)(void *arg),
                                   void *arg);
/* For config_dump: packed bytes of each. */
void cluster_manager_each(const struct cluster_manager *cm,
                          void (*fn)(void *arg, sv name, sv packed, bool warm, bool is_static,
                                     uint64_t updated_wall_ns),
                          void *arg);
/* The same for endpoints that came by EDS: packed ClusterLoadAssignment of the version in force. */
void cluster_manager_each_assignment(const struct cluster_manager *cm,
                                     void (*fn)(void *arg, sv cluster, sv packed), void *arg);
/* Marks clusters put from now on as static (bootstrap) or dynamic. */
void cluster_manager_set_static(struct cluster_manager *cm, bool is_static);
/* Admin /clusters in Envoy's text form, and as envoy.admin.v3.Clusters JSON. */
void cluster_manager_dump_text(struct cluster_manager *cm, struct strbuf *out);
void cluster_manager_dump_json(struct cluster_manager *cm, struct strbuf *out);

/* One per worker loop; made on main before the worker's thread runs, freed on main after it ended
 * and before its loop is freed. Streams and TCP connections must have ended, handles released. The
 * last of it goes with the loop's deferred work (loop_free runs that). */
struct upstream_worker *upstream_worker_new(struct cluster_manager *cm, struct loop *worker);
void upstream_worker_free(struct upstream_worker *w);

/* ---------------- worker: choosing and opening ---------------- */

/* Handle of a cluster by name, NULL when there is none (or it is not warm yet). Holds a reference:
 * release with upstream_cluster_unref. A stream takes it once and keeps it to its end (rule 9).
 * Every host that was handed out for this handle (on_ready, on_fail), and all views of its info,
 * live at least until the handle's reference is released: also when the endpoint went away. */
struct upstream_cluster *upstream_find(struct upstream_worker *w, sv name);
void upstream_cluster_ref(struct upstream_cluster *c);
void upstream_cluster_unref(struct upstream_cluster *c);
sv upstream_cluster_name(const struct upstream_cluster *c);
sv upstream_cluster_stat_name(const struct upstream_cluster *c); /* alt_stat_name or name */
uint32_t upstream_cluster_buffer_limit(const struct upstream_cluster *c);

enum upstream_priority { UPSTREAM_DEFAULT, UPSTREAM_HIGH };

/* What a balancer may look at. Zero-initialise. */
struct upstream_ctx {
    enum upstream_priority priority;
    bool has_hash;
    uint64_t hash;                   /* from the route's hash policy */
    const struct addr *original_dst; /* ORIGINAL_DST clusters */
    bool straight;                   /* original_dst is our own: nobody meant another host */
    const struct addr *client;       /* whom it is for: PROXY protocol says it, together
                                        with original_dst. NULL: nobody in particular */
    const struct http_head *request; /* header overrides (x-envoy-original-dst-host) */
    const struct upstream_host *const *tried; /* previous hosts, avoided when others are left */
    uint32_t n_tried;
    bool avoid_canaries;        /* likewise: endpoints marked as canaries */
    const void *avoid_metadata; /* likewise: const struct envoy_Metadata *, endpoints that have all
                                   of its envoy.lb, or NULL */
    uint64_t spent_priorities;  /* bit i: priority i is not asked again, likewise */
    const void *metadata_match; /* const struct envoy_Metadata *: subset selection, or NULL */
    enum http_protocol downstream_protocol; /* use_downstream_protocol_config */
    sv sni_override;                        /* auto_sni: the authority */
    const sv *alpn_override;                /* offered instead of the cluster's list (istio.alpn) */
    uint32_t n_alpn_override;
};

/* Why no stream or connection came to be: response flag and details follow from it. */
#define UPSTREAM_FAILS(X)                                                                          \
    X(NO_HOST, "no_healthy_upstream")        /* UH */                                              \
    X(OVERFLOW, "overflow")                  /* UO: circuit breaker */                             \
    X(CONNECT, "connection_failure")         /* UF: refused, reset, unreachable, TLS */            \
    X(CONNECT_TIMEOUT, "connection_timeout") /* UF */                                              \
    X(CANCELLED, "cancelled")
enum upstream_fail {
#define X(id, text) UPSTREAM_FAIL_##id,
    UPSTREAM_FAILS(X)
#undef X
};
const char *upstream_fail_text(enum upstream_fail f);

/* About an endpoint, for logs, stats and headers. Views live as long as the host. */
struct upstream_host_info {
    const struct addr *addr;
    sv addr_text; /* "10.0.0.1:80" */
    sv hostname;
    sv cluster;
    sv zone;
    uint32_t priority;
    const void *metadata; /* const struct envoy_Metadata * or NULL */
};
const struct upstream_host_info *upstream_host_info(const struct upstream_host *h);

/* The first URI name (SPIFFE identity) in the certificates of both ends, empty where there is none
 * or the peer's was not verified; views live as long as the connection. */
void upstream_conn_ids(const struct conn *c, sv *local, sv *peer);
/* What records say of the connection: addresses, certificates. It lives as long as the arena, also
 * when the connection ends before it: a slow client's request is logged later. */
struct stream_conn;
void upstream_conn_describe(const struct conn *c, struct arena *a, struct stream_conn *out);
/* membership_total, and how many of those are healthy or degraded. */
void upstream_cluster_members(const struct upstream_cluster *c, uint32_t *usable, uint32_t *total);

/* The cluster's own metadata (const struct envoy_Metadata *), or NULL; lives as long as the handle.
 */
const void *upstream_cluster_metadata(const struct upstream_cluster *c);

/* Outcome of a request at a host: feeds outlier detection, rq_success/rq_error and least-request
 * counts. Called by the router once per try that got a stream; failures to connect are counted
 * here. */
enum upstream_result {
    UPSTREAM_OK,
    UPSTREAM_5XX,
    UPSTREAM_GATEWAY_ERROR,
    UPSTREAM_LOCAL_TIMEOUT,
    UPSTREAM_LOCAL_RESET
};
void upstream_host_result(struct upstream_host *h, enum upstream_result r, uint16_t http_status);
/* The head of a response came: one with x-envoy-immediate-health-check-fail takes a host of a
 * cluster with active checks out of balancing, until a check finds it well. */
void upstream_host_response(struct upstream_host *h, const struct http_headers *head);

/* ---- HTTP ---- */
struct upstream_http_cb {
    /* A stream on a pooled connection. The callee has called http_stream_set_user before it
     * returns and then sends the request head. `conn` is for logs (local address, TLS). */
    void (*on_ready)(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn);
    /* host is NULL when none was chosen. `details`: transport failure reason, alive during call. */
    void (*on_fail)(void *user, enum upstream_fail why, struct upstream_host *host, sv details);
};
struct upstream_open; /* handle of an attempt under way */
/* Chooses a host and gets a stream: pooled, or after connecting. One of the two callbacks comes,
 * possibly from inside this call (then NULL is returned). Cancel with upstream_cancel before one
 * came. Pending and active counts are held against the circuit breakers until the stream closes. */
struct upstream_open *upstream_http_open(struct upstream_cluster *c, const struct upstream_ctx *ctx,
                                         const struct upstream_http_cb *cb, void *user);

/* ---- TCP ---- */
struct upstream_tcp_cb {
    /* The conn belongs to the callee, who closes it and calls upstream_tcp_done(host) then. */
    void (*on_ready)(void *user, struct conn *c, struct upstream_host *host);
    void (*on_fail)(void *user, enum upstream_fail why, struct upstream_host *host, sv details);
};
struct upstream_open *upstream_tcp_open(struct upstream_cluster *c, const struct upstream_ctx *ctx,
                                        const struct upstream_tcp_cb *cb, void *user);
void upstream_tcp_done(struct upstream_host *h);
/* The same, just before the callee closes c: counts its bytes and length
 * (upstream_cx_rx_bytes_total …) and by whom it was ended. */
void upstream_tcp_finished(struct upstream_host *h, const struct conn *c, bool by_remote);
void upstream_cancel(struct upstream_open *o);

/* Retry circuit breaker (max_retries or budget): true takes one; give it back after the retry. */
bool upstream_retry_take(struct upstream_cluster *c, enum upstream_priority p);
void upstream_retry_give(struct upstream_cluster *c, enum upstream_priority p);

/* ---- stats of the cluster (Envoy's cluster.NAME.*), created on first touch ---- */
#define UPSTREAM_RQ_COUNTERS(X)                                                                    \
    X(upstream_rq_timeout)                                                                         \
    X(upstream_rq_per_try_idle_timeout)                                                            \
    X(upstream_rq_per_try_timeout)                                                                 \
    X(upstream_rq_retry)                                                                           \
    X(upstream_rq_replay)                                                                          \
    X(upstream_rq_retry_backoff_exponential)                                                       \
    X(upstream_rq_retry_backoff_ratelimited)                                                       \
    X(upstream_rq_retry_success)                                                                   \
    X(upstream_rq_retry_overflow)                                                                  \
    X(upstream_rq_retry_limit_exceeded)                                                            \
    X(upstream_rq_rx_reset)                                                                        \
    X(upstream_rq_tx_reset)                                                                        \
    X(upstream_rq_max_duration_reached)                                                            \
    X(upstream_cx_connect_attempts_exceeded)                                                       \
    X(upstream_rq_dropped_overload)                                                                \
    X(upstream_internal_redirect_failed_total)                                                     \
    X(upstream_internal_redirect_succeeded_total)                                                  \
    X(upstream_flow_control_paused_reading_total)                                                  \
    X(upstream_flow_control_resumed_reading_total)                                                 \
    X(upstream_flow_control_backed_up_total)                                                       \
    X(upstream_flow_control_drained_total)                                                         \
    X(retry_or_shadow_abandoned)
enum upstream_rq_counter {
#define X(name) UPSTREAM_##name,
    UPSTREAM_RQ_COUNTERS(X)
#undef X
};
void upstream_count(struct upstream_cluster *c, enum upstream_rq_counter which);
/* "cluster.NAME.", for filters that count there; lives as long as the handle. */
struct stats_scope *upstream_cluster_scope(const struct upstream_cluster *c);
/* Instead of a time: the answer is the router's own, upstream_rq_time gets no sample. */
#define UPSTREAM_NO_TIME UINT64_MAX
/* upstream_rq_completed, upstream_rq_2xx, upstream_rq_200, upstream_rq_time (ms), and the same
 * under "canary."/"internal."/"external." as Envoy does it: internal = x-envoy-internal. */
void upstream_count_response(struct upstream_cluster *c, uint16_t status, uint64_t time_us,
                             bool internal);
/* An answer that is not passed on: the request is sent again. retry.upstream_rq_503 and so on. */
void upstream_count_retried(struct upstream_cluster *c, uint16_t status);

#endif
