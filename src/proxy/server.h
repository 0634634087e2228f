/* The proxy: everything of one process put together.
 *
 *   main loop:  bootstrap, config source (ADS), cluster manager, routes, listeners, secrets, admin
 *   workers:    connections
 *
 *   new -> start -> INITIALIZING -> LIVE -> (SIGTERM, drain) DRAINING -> stopped -> free
 *
 * Initialising ends, and listeners begin to accept, when static clusters are warm and, with dynamic
 * configuration, the first clusters and listeners have arrived and are warm, or their time for that
 * (initial_fetch_timeout) is over.
 * A simulation runs whole proxies in one thread: give `os` and `loop`, and concurrency
 * PROXY_NO_THREADS; then the caller turns the loop.
 * Thread: main, unless said otherwise. */
#ifndef WEFT_PROXY_SERVER_H
#define WEFT_PROXY_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "base/error.h"
#include "filters/context.h"
#include "filters/worker.h"
#include "proxy/config_source.h"
#include "proxy/options.h"
#include "tls/tls_secret.h"

struct os;
struct loop;
struct resolver;
struct stats;
struct cluster_manager;
struct rds_manager;
struct listener_manager;
struct proxy_server;
struct worker;

#define PROXY_NO_THREADS UINT32_MAX

/* What an agent in this process does for the proxy: certificates of the workload, names for its
 * DNS (weft-proxy --agent wires one; this room does not know it). All functions are required, and
 * run on main. */
struct proxy_agent {
    /* On the proxy's main loop, before anything asks for secrets. */
    int (*start)(void *self, struct loop *l, struct error *err);
    /* Once, after a start that succeeded, before the store that it supplies goes. */
    void (*stop)(void *self);
    bool (*ready)(void *self); /* it has what the workload needs */
    /* Secrets that are its own, whatever their ConfigSource says. */
    bool (*has_secret)(void *self, sv name);
    void (*want)(void *self, struct tls_secret_store *st, sv name, sv config);
    void (*unwant)(void *self, struct tls_secret_store *st, sv name, sv config);
    /* Then istio.networking.nds.v1.NameTable is subscribed, and given as it comes (packed). */
    bool (*wants_names)(void *self);
    int (*set_names)(void *self, sv packed, struct error *err);
    /* Appends its metrics in Prometheus' text form. */
    void (*metrics)(void *self, struct strbuf *out);
    void *self;
};

enum proxy_state { PROXY_PRE_INITIALIZING, PROXY_INITIALIZING, PROXY_LIVE, PROXY_DRAINING };

struct proxy_server_opts {
    const struct proxy_options *cli; /* NULL: defaults; must live as long as the server */
    sv bootstrap;                    /* text; p == NULL: from cli's files */
    struct os *os;                   /* NULL: the kernel */
    struct loop *loop;               /* NULL: one of its own */
    uint32_t concurrency;      /* 0: from cli; PROXY_NO_THREADS: one worker on the main loop */
    struct resolver *resolver; /* simulation; NULL: the system's */
    const char *dns_servers;   /* NULL: the system's */
    /* Instead of ADS from the bootstrap (tests); taken over. */
    struct config_source *source;
    const struct proxy_agent *agent; /* NULL: none; lives as long as the server */
    bool no_signals;                 /* do not handle SIGTERM, SIGINT, SIGUSR1, SIGHUP */
};

/* Builds everything up to binding static listeners. NULL + err: the configuration is wrong, or an
 * address is taken. */
struct proxy_server *proxy_server_new(const struct proxy_server_opts *o, struct error *err);
/* Starts workers, admin and config source; returns at once. */
int proxy_server_start(struct proxy_server *s, struct error *err) MUST_CHECK;
/* Turns the main loop until the proxy has ended. The exit status of the process. */
int proxy_server_run(struct proxy_server *s);
/* Ends now (connections are closed). Any thread. On a loop of the caller's the end takes some
 * turns: free the server when proxy_server_ended() says so. */
void proxy_server_stop(struct proxy_server *s);
bool proxy_server_ended(const struct proxy_server *s);
/* SIGTERM: stop accepting, tell peers, let requests end, then stop; at the latest after the drain
 * time. A second call stops at once. */
void proxy_server_drain(struct proxy_server *s);
void proxy_server_free(struct proxy_server *s);

/* --mode validate: builds everything, binds and starts nothing, also not the agent (NULL: none). */
int proxy_server_validate(const struct proxy_options *cli, const struct proxy_agent *agent,
                          struct error *err) MUST_CHECK;

/* ---- its parts ---- */
struct loop *proxy_server_loop(const struct proxy_server *s);
struct stats *proxy_server_stats(const struct proxy_server *s);
struct cluster_manager *proxy_server_clusters(const struct proxy_server *s);
struct rds_manager *proxy_server_rds(const struct proxy_server *s);
struct listener_manager *proxy_server_listeners(const struct proxy_server *s);
struct tls_secret_store *proxy_server_secrets(const struct proxy_server *s);
const struct proxy_options *proxy_server_options(const struct proxy_server *s);
const struct envoy_Bootstrap *proxy_server_bootstrap(const struct proxy_server *s);
enum proxy_state proxy_server_state(const struct proxy_server *s);
/* Live, and its agent (if there is one) has its certificate: what /ready tells. */
bool proxy_server_ready(const struct proxy_server *s);
/* The agent's metrics, if there is one. */
void proxy_server_agent_metrics(const struct proxy_server *s, struct strbuf *out);
uint32_t proxy_server_concurrency(const struct proxy_server *s);
uint64_t proxy_server_started_wall_ns(const struct proxy_server *s);
uint64_t proxy_server_uptime_s(const struct proxy_server *s);
bool proxy_server_validating(const struct proxy_server *s);
/* Version of the last update of that type that was taken whole; empty before. */
sv proxy_server_version(const struct proxy_server *s, enum config_type t);
/* Health as the admin sets it (POST /healthcheck/fail). Any thread. */
void proxy_server_set_health(struct proxy_server *s, bool failed);
/* POST /reopen_logs, SIGUSR1. */
void proxy_server_reopen_logs(struct proxy_server *s);

/* ---- for the parts ---- */
/* The common fields of a configuration context. */
void proxy_server_filter_ctx(struct proxy_server *s, struct filter_ctx *x);
/* A TLS context was rebuilt / something that listeners wait for may have come. */
void proxy_server_tls_changed(struct proxy_server *s);
void proxy_server_warm_later(struct proxy_server *s);

#endif
