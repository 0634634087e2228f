/* One worker: a loop, usually with a thread of its own, and everything on it that is not shared.
 *
 *   main --loop_post--> worker: listener added / changed / drained / removed
 *
 * With concurrency 0 there is one worker on the main loop and no thread (simulation, tests).
 * Thread: said at each function. */
#ifndef WEFT_PROXY_WORKER_H
#define WEFT_PROXY_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include "base/list.h"
#include "base/map.h"
#include "filters/worker.h"
#include "net/addr.h"
#include "proxy/hcm_stats.h"

struct proxy_server;
struct listener_conf;
struct worker_listener;
struct os;

#define WORKER_SPARES 32

struct worker {
    struct filter_worker f; /* what filters see */
    struct proxy_server *server;
    bool own_loop;
    pthread_t thread;
    bool running;                             /* the thread exists */
    struct hcm_codec_counters codec[2];       /* HTTP/1, HTTP/2 */
    struct http_codec *spares[WORKER_SPARES]; /* HTTP/1, of connections that are idle now */
    uint32_t n_spares;
    struct list listeners; /* struct worker_listener.link */
    struct map by_addr;    /* address -> worker_listener, for use_original_dst */
    uint32_t connections;  /* all listeners' */
    bool draining;         /* the whole process ends */
    uint64_t drain_ms;
    bool drain_gradually;
    uint64_t flush_ms; /* access logs */
    struct timer log_flush;
};

struct worker_opts {
    struct proxy_server *server;
    struct os *os;
    struct loop *loop; /* NULL: one of its own */
    struct stats *stats;
    const struct filter_node *node;
    struct access_log_writer *logs;
    const _Atomic bool *health_failed;
    unsigned index, count;
    uint64_t drain_ms;
    bool drain_gradually;
    uint64_t flush_ms;
};

/* ---- main ---- */
/* Everything but the thread. upstream is set by the caller before it runs. */
struct worker *worker_new(const struct worker_opts *o);
/* Starts the thread (nothing to do on a loop of somebody else). */
int worker_start(struct worker *w, bool pin_cpu);
/* Stops the loop and waits for the thread; its connections are ended. */
void worker_stop(struct worker *w);
void worker_free(struct worker *w);

/* Run on the worker, from anywhere, in order. A worker_listener belongs to the worker from `add`
 * on. Each takes over one reference on conf. */
void worker_add_listener(struct worker *w, struct worker_listener *wl);
void worker_update_listener(struct worker *w, struct worker_listener *wl,
                            struct listener_conf *conf);
/* Stops accepting, drains, and frees it when the last connection is gone or the time is up. */
void worker_remove_listener(struct worker *w, struct worker_listener *wl);
/* POST /drain_listeners: connections are told to go elsewhere / accepting stops. */
void worker_drain_listener(struct worker *w, struct worker_listener *wl);
void worker_stop_listener(struct worker *w, struct worker_listener *wl);
/* The whole process drains. */
void worker_drain(struct worker *w);

/* Makes one for a worker; sockets are added by the manager. Takes over a reference on conf. */
struct worker_listener *worker_listener_new(struct worker *w, struct listener_conf *conf);

/* ---- worker ---- */
/* Who is bound to that address, or to its port on any address; NULL. `not`: passed over. */
struct worker_listener *worker_find_listener(struct worker *w, const struct addr *a,
                                             const struct worker_listener * not );
/* Connections with something under way. */
uint32_t worker_busy(struct worker *w);

#endif
