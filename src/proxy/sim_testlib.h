/* A world for tests of whole proxies: simulated hosts, scripted HTTP/1 backends, a client that
 * sends and receives raw text. One thread, simulated time.
 *
 *   client 10.0.0.3  --->  proxy 10.0.0.1:80  --->  backends 10.0.0.2:9001 ...
 */
#ifndef WEFT_PROXY_SIM_TESTLIB_H
#define WEFT_PROXY_SIM_TESTLIB_H

#include "base/strbuf.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/sim.h"
#include "proxy/server.h"

#define SIM_PROXY   "10.0.0.1"
#define SIM_BACKEND "10.0.0.2"
#define SIM_CLIENT  "10.0.0.3"

struct backend;
/* A whole request head (and what body came with it) arrived. Answers with backend_send and the
 * like; `text` is all of it. */
struct backend_conn {
    struct backend *b;
    struct conn *c;
    struct buf in, out;
    struct timer later;
    char *later_text;
    bool closed, close_after;
    struct deferred freeing;
    struct list link;
    uint32_t requests;
};
typedef void (*backend_fn)(struct backend_conn *bc, sv text);

struct backend {
    struct world *w;
    struct net_listener *l;
    struct list conns;
    backend_fn fn;
    uint16_t port;
    uint32_t requests, connections, open;
    char last[8192]; /* the last request's text */
};

struct world {
    struct sim *sim;
    struct loop *proxy_loop, *backend_loop, *client_loop;
    struct proxy_server *server;
    struct backend b[4];
    struct resolver *resolver;
};

/* Ports 9001..9004 on SIM_BACKEND; fn NULL: that one does not listen. */
void world_init(struct world *w, uint64_t seed, const backend_fn fns[4]);
/* Starts the proxy and runs until it is live. */
void world_start(struct world *w, const char *bootstrap, struct config_source *source);
/* A bootstrap with one listener on port 80: the HCM's fields, routes and clusters as YAML flow. */
char *world_bootstrap(const char *hcm_fields, const char *routes, const char *clusters);
/* "{name: b1, ...}" clusters b1..b4 of one endpoint each. */
extern const char world_clusters[];
void world_run(struct world *w, uint64_t ms);
/* Ends the proxy and everything; fails the test when sockets are left. */
void world_fini(struct world *w);
uint64_t world_stat(struct world *w, const char *name);

/* ---- backends ---- */
void backend_ok(struct backend_conn *bc, sv text);    /* 200, body: what it got */
void backend_503(struct backend_conn *bc, sv text);   /* 503 "no" */
void backend_reset(struct backend_conn *bc, sv text); /* RST */
void backend_close(struct backend_conn *bc, sv text); /* FIN without an answer */
void backend_hang(struct backend_conn *bc, sv text);  /* never answers */
void backend_send(struct backend_conn *bc, const char *text);
void backend_send_later(struct backend_conn *bc, const char *text, uint64_t ms);

/* ---- the client ---- */
struct client {
    struct world *w;
    struct conn *c;
    struct buf out;
    struct strbuf got;
    bool connected, eof, error;
    uint64_t eof_ms; /* simulated time of the end */
};
void client_open(struct client *cl, struct world *w, uint16_t port);
void client_send(struct client *cl, const char *text);
void client_close(struct client *cl, bool reset);
/* Runs until the text is in what came, or the time is over. */
bool client_wait(struct client *cl, const char *text, uint64_t ms);
bool client_wait_eof(struct client *cl, uint64_t ms);
/* One request on a connection of its own; everything that came, malloc'd. */
char *client_get(struct world *w, const char *path);

#endif
