/* For tests of this room: a cluster manager, a worker and backends on a simulated network.
 *
 *   rig (10.0.0.1): main loop, worker loop        backends: any number of loops, ip:port each
 *
 * Clusters and endpoints are written as YAML; requests are opened on the worker and remember what
 * became of them. Thread: the test's. */
#ifndef WEFT_UPSTREAM_TESTING_RIG_H
#define WEFT_UPSTREAM_TESTING_RIG_H

#include "base/map.h"
#include "http/codec.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/sim.h"
#include "telemetry/stats.h"
#include "tls/tls_ctx.h"
#include "upstream/upstream.h"

/* What a backend does with a request. */
enum backend_app {
    BACKEND_ANSWER, /* 200 "ok" when the request ended */
    BACKEND_HOLD,   /* nothing, until backend_answer_all */
    BACKEND_CLOSE,  /* 200 with "connection: close" */
    BACKEND_RESET,  /* RST of the connection */
    BACKEND_FAIL,   /* 503 */
    BACKEND_GRPC,   /* grpc.health.v1: SERVING, or NOT_SERVING when `sick` */
    BACKEND_STREAM, /* 200 at the head, then the request's body back */
};

struct backend {
    struct loop *loop;
    struct net_listener *listener;
    struct list conns;
    struct addr addr;
    struct tls_ctx *tls; /* NULL: plain */
    enum backend_app app;
    bool http2;
    bool sick;
    bool mute;           /* TCP: accepts and says nothing; HTTP: reads nothing */
    unsigned n_conns;    /* accepted so far */
    unsigned n_requests; /* heads seen so far */
    unsigned open_conns;
};

struct rig {
    struct sim *sim;
    struct loop *main, *loop;
    struct stats *stats;
    struct cluster_manager *cm;
    struct upstream_worker *worker;
    struct tls_secret_store *secrets;
    struct resolver *resolver;
    char wanted[256]; /* EDS names, " +name" and " -name" as they come and go */
    struct eds_source eds;
    struct cluster_manager_opts opts;
    struct error err; /* of the last put or endpoints */
    struct backend *backends[16];
    unsigned n_backends;
};

void rig_init(struct rig *r, uint64_t seed);
/* Between init and start opts may be changed. */
void rig_start(struct rig *r);
void rig_fini(struct rig *r);
/* YAML of a Cluster / ClusterLoadAssignment; the code of the manager, text in r->err. */
int rig_put(struct rig *r, const char *yaml);
int rig_endpoints(struct rig *r, const char *yaml);
/* The same, must succeed, and everybody has heard of it. */
void rig_put_ok(struct rig *r, const char *yaml);
void rig_endpoints_ok(struct rig *r, const char *yaml);
void rig_run_ms(struct rig *r, uint64_t ms);
uint64_t rig_stat(struct rig *r, const char *name); /* 0 when it is not there */

struct backend *rig_backend(struct rig *r, const char *ip, uint16_t port);
/* Backends at 10.0.1.1:80 and so on; a cluster c of the first n of them, whose `fields` end with a
 * comma, and that knows no panic. */
void rig_hosts(struct rig *r, struct backend **b, int n);
void rig_put_hosts(struct rig *r, const char *fields, int n);
/* On a loop of the caller's, simulated or not. port 0: any free one, see addr. */
struct backend *backend_new(struct loop *l, const char *ip, uint16_t port);
void backend_free(struct backend *b); /* not the loop */
void backend_stop_listening(struct backend *b);
void backend_answer_all(struct backend *b);
/* FIN (RST) on every connection. */
void backend_close_all(struct backend *b, bool reset);
void backend_drain_all(struct backend *b); /* GOAWAY */

/* One request. */
struct req {
    struct rig *rig;
    struct upstream_cluster *cluster;
    struct upstream_open *open;
    struct http_stream *stream;
    struct upstream_host *host;
    struct upstream_ctx ctx;
    uint64_t conn_id;
    bool ready, failed, ended, reset, closed;
    bool keep_open; /* does not end the request */
    enum upstream_fail why;
    char details[256];
    char host_text[64];
    enum http_reset reset_why;
    unsigned status;
    size_t body;
    void (*then)(struct req *q); /* after it closed or failed */
    void (*on_ready)(struct req *q);
};
/* Opens GET / on the cluster; q is zeroed but for what is passed. */
void req_start(struct rig *r, struct req *q, const char *cluster);
/* q as the caller filled it (ctx, keep_open, then). */
void req_go(struct rig *r, struct req *q, const char *cluster);
void req_end(struct req *q); /* gives the handle back; cancels or resets what is under way */
/* Starts and waits until it is over. */
void req_run(struct rig *r, struct req *q, const char *cluster);
bool req_over(const struct req *q);

#endif
