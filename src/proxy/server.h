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

enum proxy_state { PROXY_PRE_INITIALIZING, PROXY_INITIALIZING, PROXY_LIVE, PROXY_DRAINING };

struct proxy_server_opts {
    const struct proxy_options *cli; /* NULL: defaults; must live as long as the server */
    sv bootstrap;                    /* text; p == NULL: from cli's files */
    struct os *os;                   /* NULL: the kernel */
    struct loop *loop;               /* NULL: one of its own */
    uint32_t concurrency;      /* 0: from cli; PROXY_NO_THREADS: one worker on the main loop */
    struct resolver *resolver; /* simulation; NULL: the system's */
    const char *dns_servers;   /* NULL: the system's */
    uint32_t socket_mark;      /* SO_MARK of upstream sockets */
    /* Instead of ADS from the bootstrap (tests); taken over. */
    struct config_source *source;
    /* Secrets whose ConfigSource is not ADS (the agent's). */
    const struct tls_secret_source *secrets;
    /* Gets each version of the name table (istio.networking.nds.v1.NameTable, packed): then it is
     * subscribed with ADS. */
    void (*on_names)(void *arg, sv packed);
    void *names_arg;
    bool no_signals; /* do not handle SIGTERM, SIGINT, SIGUSR1, SIGHUP */
};

/* Builds everything up to binding static listeners. NULL + err: the configuration is wrong, or an
 * address is taken. */
struct proxy_server *proxy_server_new(const struct proxy_server_opts *o, struct error *err);
/* Starts workers, admin and config source; returns at once. */
int proxy_server_start(struct proxy_server *s, struct error *err) MUST_CHECK;
/* Turns the main loop until the proxy has ended. The exit status of the process. */
int proxy_server_run(struct proxy_server *s);
/* Ends now (connections are closed). Any thread. */
void proxy_server_stop(struct proxy_server *s);
/* SIGTERM: stop accepting, tell peers, let requests end, then stop; at the latest after the drain
 * time. A second call stops at once. */
void proxy_server_drain(struct proxy_server *s);
void proxy_server_free(struct proxy_server *s);

/* --mode validate: builds everything, binds and starts nothing. */
int proxy_server_validate(const struct proxy_options *cli, struct error *err) MUST_CHECK;

/* ---- its parts ---- */
struct loop *proxy_server_loop(const struct proxy_server *s);
struct stats *proxy_server_stats(const struct proxy_server *s);
struct cluster_manager *proxy_server_clusters(const struct proxy_server *s);
struct rds_manager *proxy_server_rds(const struct proxy_server *s);
struct listener_manager *proxy_server_listeners(const struct proxy_server *s);
struct tls_secret_store *proxy_server_secrets(const struct proxy_server *s);
const struct proxy_options *proxy_server_options(const struct proxy_server *s);
const struct envoy_Bootstrap *proxy_server_bootstrap(const struct proxy_server *s);
const struct filter_node *proxy_server_node(const struct proxy_server *s);
enum proxy_state proxy_server_state(const struct proxy_server *s);
uint32_t proxy_server_concurrency(const struct proxy_server *s);
uint64_t proxy_server_started_wall_ns(const struct proxy_server *s);
uint64_t proxy_server_uptime_s(const struct proxy_server *s);
bool proxy_server_validating(const struct proxy_server *s);
/* Version of the last update of that type that was taken whole; empty before. */
sv proxy_server_version(const struct proxy_server *s, enum config_type t);
/* Health as the admin sets it (POST /healthcheck/fail). Any thread. */
bool proxy_server_health_failed(const struct proxy_server *s);
void proxy_server_set_health(struct proxy_server *s, bool failed);
/* POST /reopen_logs, SIGUSR1. */
void proxy_server_reopen_logs(struct proxy_server *s);
/* The address the admin endpoint got; NULL without one. */
const struct addr *proxy_server_admin_addr(const struct proxy_server *s);

/* ---- for the parts ---- */
/* The common fields of a configuration context. */
void proxy_server_filter_ctx(struct proxy_server *s, struct filter_ctx *x);
/* A TLS context was rebuilt / something that listeners wait for may have come. */
void proxy_server_tls_changed(struct proxy_server *s);
void proxy_server_warm_later(struct proxy_server *s);

#endif
