/* The worker's side of the room: what one loop knows of clusters, hosts, pools and connections.
 *
 *   upstream_worker
 *    └ worker_entry        one a cluster name; nothing else until it is used
 *       └ upstream_cluster a handle (see below), given to streams
 *          └ cluster_core  balancer and hosts of one version of the cluster
 *             └ upstream_host     made when the balancer first picks the endpoint
 *                ├ endpoint_info  who it is now; changes with updates
 *                └ http_pool      one a (priority, protocol, server name, ALPN)
 *                   └ http_conn   connector, conn, codec
 *
 * Handles and epochs. Whoever holds a handle may look at hosts that were handed out for it, and at
 * views of their infos, also after an update took them away. So each update that takes something
 * away begins a new epoch with a new handle; a removed host (or replaced info) remembers the first
 * and last epoch it was handed out in, and is freed when no handle of those is left.
 *
 * Life: hosts and cores are only freed by the core's sweep, deferred to the end of a turn. A
 * http_conn is freed in the turn in which it closed, after all callbacks.
 * Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_WORKER_H
#define WEFT_UPSTREAM_WORKER_H

#include "base/pool.h"
#include "upstream/cluster.h"
#include "upstream/connector.h"
#include "upstream/upstream.h"

struct upstream_worker {
    struct cluster_env *env;
    struct cluster_manager *cm; /* main only */
    struct loop *loop;
    struct mailbox *mail;
    struct list link;     /* manager's list of workers: main only */
    struct map entries;   /* name -> worker_entry; keys are the entry's cluster's */
    struct list cores;    /* all there are, replaced ones included */
    struct map tcp_conns; /* id -> tcp_attempt */
    struct pool opens, conns;
    struct stats_cache *series; /* ssl.ciphers.NAME and the like; NULL at the end */
    struct http_conn *working;  /* its codec is calling back just now */
    struct deferred gone;
    uint32_t gone_tries;
    bool draining;
};

struct worker_entry {
    struct cluster *cluster;
    struct endpoint_set *set;
    struct upstream_cluster *handle; /* NULL until used */
};

struct upstream_cluster {
    uint32_t refs;
    uint32_t epoch;
    struct cluster_core *core;
    struct list link; /* core->handles, by epoch */
};

struct epochs {
    uint32_t first, last; /* 0: none */
};

struct cluster_core {
    struct list link; /* worker->cores */
    struct upstream_worker *w;
    struct cluster *cluster;
    struct cluster_rt *rt;
    const struct cluster_config *cfg;
    struct endpoint_set *set;
    const struct endpoint_table *table;
    struct lb lb;
    struct upstream_host **by_index; /* per endpoint of the table; NULL until picked */
    struct map by_state;             /* endpoint_state -> upstream_host: those in use */
    struct map by_addr;              /* ORIGINAL_DST: address -> upstream_host */
    struct list hosts;               /* in use */
    struct list removed;             /* no longer: freed by the sweep */
    struct list retired;             /* replaced infos: likewise */
    struct list handles;
    struct list awaiting_tls;               /* connectors */
    struct http_codec_stats codec_stats[2]; /* HTTP/1, HTTP/2: not yet published */
    struct timer cleanup;                   /* ORIGINAL_DST */
    struct deferred sweep;
    uint32_t epoch;
    bool sweep_due;
    bool detached; /* the cluster was replaced or removed */
};

struct upstream_host {
    struct upstream_host_info about;
    struct list link; /* core->hosts or core->removed */
    struct cluster_core *core;
    struct endpoint_info *info;
    struct endpoint_state *state;
    struct list pools;
    struct list tcp, tcp_up;   /* TCP attempts under way, and what became of them */
    struct epochs handed;      /* the host */
    struct epochs handed_info; /* with this info */
    uint32_t index;            /* in the table, LB_NONE when in none */
    uint32_t uses;             /* connections, attempts: keep it alive */
    uint32_t rq_active;        /* of this worker */
    uint64_t
        idle_closed_ms[2]; /* how long connections lay idle when the peer closed the last two */
    bool removed;
    bool failed;  /* its health was found bad: what is open is not used again */
    bool touched; /* ORIGINAL_DST: picked since the last clean-up */
};

/* A request for a stream or connection that has not been answered. */
struct upstream_open {
    struct list link; /* pool's pending, or the core's TCP attempts */
    struct upstream_cluster *handle;
    struct upstream_host *host;
    struct http_pool *pool; /* NULL: TCP */
    union {
        const struct upstream_http_cb *http;
        const struct upstream_tcp_cb *tcp;
    } cb;
    void *user;
    enum upstream_priority priority;
    struct tcp_attempt *tcp;
};

/* ---- worker.c: what main tells it ---- */
enum worker_news {
    WORKER_PUT,       /* a cluster is new, or replaces the one of its name */
    WORKER_REMOVE,    /* the cluster is gone */
    WORKER_ENDPOINTS, /* it has other endpoints */
    WORKER_HEALTH,    /* the health of some endpoint changed */
    WORKER_TLS,       /* a TLS slot that was asked for is there */
};
/* Main: `set` only for PUT and ENDPOINTS. */
void worker_tell(struct upstream_worker *w, enum worker_news what, struct cluster *c,
                 struct endpoint_set *set);

/* ---- core.c ---- */
/* The current handle of an entry, made at first use; borrowed. */
struct upstream_cluster *core_open(struct upstream_worker *w, struct worker_entry *e);
/* New endpoints, or (the same set) new health of endpoints. */
void core_update(struct worker_entry *e, struct endpoint_set *set);
void core_health_changed(struct cluster_core *c);
/* The cluster is no longer known by its name: its hosts drain. Drops the entry's handle. */
void core_detach(struct worker_entry *e);
/* At the end of the turn: frees what nobody can see any more. */
void core_sweep_soon(struct cluster_core *c);
/* Worker's end: closes and frees everything, whoever still holds handles. */
void core_destroy(struct cluster_core *c);

/* ---- host.c ---- */
/* Chooses by the balancer; NULL when there is none (counted). */
struct upstream_host *host_choose(struct upstream_cluster *h, const struct upstream_ctx *ctx);
bool host_failed(const struct upstream_host *h); /* by checks or as an outlier */
struct upstream_host *host_new(struct cluster_core *c, struct endpoint_info *info);
/* Its endpoint is now described by this info (a reference is taken). */
void host_set_info(struct upstream_host *h, struct endpoint_info *info);
/* It takes no new streams; idle connections are closed. */
void host_remove(struct upstream_host *h);
void host_free(struct upstream_host *h);
/* Frees replaced infos that nobody can see any more; all of them when seen is NULL. */
void host_retired_sweep(struct cluster_core *c,
                        bool (*seen)(const struct cluster_core *c, const struct epochs *e));
/* It is about to be seen by the holder of this handle. */
void host_hand_out(struct upstream_host *h, const struct upstream_cluster *to);
void host_use(struct upstream_host *h);
void host_unuse(struct upstream_host *h);
/* A request begins and ends (counters of host, cluster and limits but LIMIT_RQ's taking). */
void host_rq_begin(struct upstream_host *h, enum upstream_priority p);
void host_rq_end(struct upstream_host *h, enum upstream_priority p, uint32_t n);

/* A request (or TCP session) could not reach it: for outlier detection and rq_error. */
void host_connect_failed(struct upstream_host *h, bool timeout, bool http);
void host_connected(struct upstream_host *h);

/* ---- original_dst.c ---- */
struct upstream_host *original_dst_host(struct cluster_core *c, const struct upstream_ctx *ctx);
void original_dst_start(struct cluster_core *c);

/* ---- tcp_open.c ---- */
void tcp_attempts_close(struct upstream_host *h);

/* ---- open.c ---- */
struct upstream_open *open_new(struct upstream_cluster *h, struct upstream_host *host, void *user,
                               enum upstream_priority p);
/* Takes it out of its list and frees it; its pending counts are given back. */
void open_end(struct upstream_open *o);
/* Ends it with on_fail. The callback may do anything. */
void open_fail(struct upstream_open *o, enum upstream_fail why, sv details);

static inline struct stat_group *core_stats(struct cluster_core *c)
{
    return &c->rt->stats.g;
}

#endif
