/* A listener's configuration in its runtime form: addresses, listener filters, filter chains with
 * their TLS contexts and network filters.
 *
 * Immutable and refcounted: the manager holds the one in force, workers hold it, and so does every
 * connection that was accepted with it, to its end. Freed by whoever drops it last, except for what
 * belongs to main (TLS slots, route providers), which is posted there.
 * Thread: made on main; read by any. */
#ifndef WEFT_PROXY_LISTENER_CONF_H
#define WEFT_PROXY_LISTENER_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/refcount.h"
#include "filters/listener.h"
#include "filters/network.h"
#include "net/addr.h"
#include "proxy/filter_chain.h"
#include "telemetry/stats.h"
#include "tls/tls_slot.h"

struct proxy_server;
struct access_log;
struct rds_provider;
struct pb_opts;

#define LISTENER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                         \
    HISTOGRAM(P, connections_accepted_per_socket_event, STAT_UNIT_NONE)                            \
    COUNTER(P, downstream_cx_accept_exhausted)                                                     \
    GAUGE(P, downstream_cx_active)                                                                 \
    COUNTER(P, downstream_cx_destroy)                                                              \
    HISTOGRAM(P, downstream_cx_length_ms, STAT_UNIT_MS)                                            \
    COUNTER(P, downstream_cx_overflow)                                                             \
    COUNTER(P, downstream_cx_overload_reject)                                                      \
    COUNTER(P, downstream_cx_total)                                                                \
    COUNTER(P, downstream_cx_transport_socket_connect_timeout)                                     \
    COUNTER(P, downstream_global_cx_overflow)                                                      \
    COUNTER(P, downstream_listener_filter_error)                                                   \
    COUNTER(P, downstream_listener_filter_remote_close)                                            \
    GAUGE(P, downstream_pre_cx_active)                                                             \
    COUNTER(P, downstream_pre_cx_timeout)                                                          \
    COUNTER(P, no_filter_chain_match)
STAT_GROUP_DECLARE(listener_stats, LISTENER_STATS);

/* listener.ADDR.worker_N.* */
#define LISTENER_WORKER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                  \
    GAUGE(P, downstream_cx_active)                                                                 \
    COUNTER(P, downstream_cx_total)
STAT_GROUP_DECLARE(listener_worker_stats, LISTENER_WORKER_STATS);

/* listener.ADDR.ssl.* */
#define LISTENER_TLS_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                     \
    COUNTER(P, connection_error)                                                                   \
    COUNTER(P, fail_verify_cert_hash)                                                              \
    COUNTER(P, fail_verify_error)                                                                  \
    COUNTER(P, fail_verify_no_cert)                                                                \
    COUNTER(P, fail_verify_san)                                                                    \
    COUNTER(P, handshake)                                                                          \
    COUNTER(P, no_certificate)                                                                     \
    COUNTER(P, session_reused)
STAT_GROUP_DECLARE(listener_tls_stats, LISTENER_TLS_STATS);

/* listener.ADDR.server_ssl_socket_factory.* */
#define LISTENER_SDS_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                     \
    COUNTER(P, downstream_context_secrets_not_ready)                                               \
    COUNTER(P, ssl_context_update_by_sds)
STAT_GROUP_DECLARE(listener_sds_stats, LISTENER_SDS_STATS);

struct listener_chain {
    sv name;    /* or else its path in the configuration */
    bool named; /* by the configuration */
    sv packed;  /* the FilterChain's bytes: equal ones need no drain */
    struct chain_match match;
    const struct network_filter *filters; /* the last one is terminal */
    uint32_t n_filters;
    struct tls_slot *tls; /* NULL: plain text */
    bool require_sni;
    uint64_t connect_timeout_ms; /* of the handshake */
};

struct listener_lf {
    struct listener_filter f;
    const struct envoy_ListenerFilterChainMatchPredicate *disabled; /* or NULL */
};

struct listener_conf {
    struct refcount ref;
    struct arena arena;
    struct proxy_server *server;
    sv packed; /* envoy.config.listener.v3.Listener */
    sv name;
    sv version;
    bool is_static;
    uint64_t updated_wall_ns;

    struct addr *addrs;
    uint32_t n_addrs;
    uint32_t unix_mode;
    bool bind_to_port, use_original_dst, transparent, freebind, reuse_port, v6_only;
    int backlog;
    uint32_t buffer_limit;
    uint64_t max_connections; /* runtime envoy.resource_limits.listener.NAME.connection_limit */
    int32_t direction;        /* envoy_TrafficDirection */
    bool modify_only;         /* drain_type: drains on updates, not on health check failures */
    const struct envoy_Metadata *metadata; /* or NULL */

    struct listener_lf *lfs;
    uint32_t n_lfs;
    uint64_t lf_timeout_ms; /* 0: none */
    bool continue_on_timeout;

    struct listener_chain *chains;
    const struct chain_match **matches; /* &chains[i].match */
    uint32_t n_chains;
    bool by_name;                    /* some chains are chosen by server names */
    struct listener_chain *fallback; /* default_filter_chain, or NULL */

    const struct access_log *logs;
    struct stats_scope *scope;
    struct stat_group stats, tls_stats, sds_stats;

    /* What must be there before it serves, and how long it waits for that (0: for ever). */
    uint64_t warm_ms;
    struct rds_provider **waits;
    uint32_t n_waits, cap_waits;
};

/* Decodes, checks and builds; nothing outside of the object changes but subscriptions. `packed` is
 * copied. Errors name the listener and the path. One reference for the caller. */
int listener_conf_build(struct proxy_server *srv, sv packed, bool is_static,
                        const struct pb_opts *pb, struct listener_conf **out,
                        struct error *err) MUST_CHECK;
void listener_conf_ref(struct listener_conf *c);
void listener_conf_unref(struct listener_conf *c); /* any thread; NULL is fine */
/* The name in packed bytes, or the address when it has none; empty when they are broken. */
sv listener_conf_name(sv packed, struct arena *a);
/* Same sockets? */
bool listener_conf_same_addrs(const struct listener_conf *a, const struct listener_conf *b);
/* All secrets and routes are there, or known not to come. */
bool listener_conf_ready(const struct listener_conf *c);
/* The chain for a connection, or NULL. */
const struct listener_chain *listener_conf_chain(const struct listener_conf *c,
                                                 const struct chain_conn *conn);
/* A route table that the listener must not serve without. Called while it is built. */
void listener_conf_wait_for(struct listener_conf *c, struct rds_provider *p);

#endif
