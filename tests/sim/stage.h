/* A world with one proxy, for tests that say each byte: scripted backends and clients of raw text.
 *
 *   client 10.0.0.3  --->  proxy 10.0.0.1:80  --->  backends 10.0.0.2:9001 ... 9004
 *
 *     struct stage s;
 *     stage_init(&s, seed, fns);
 *     stage_start(&s, text, NULL);
 *     ... raw_open, raw_send, raw_wait ...
 *     stage_fini(&s);
 *
 * The backends and clients of backend.h and client.h can play beside them: s.w is their world.
 * What goes wrong fails the cmocka test at once. Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_STAGE_H
#define WEFT_TESTS_SIM_STAGE_H

#include "base/strbuf.h"
#include "mesh.h"
#include "net/conn.h"
#include "net/listener.h"
#include "world.h"

#define SIM_PROXY   "10.0.0.1"
#define SIM_BACKEND "10.0.0.2"
#define SIM_CLIENT  "10.0.0.3"

struct script;
/* A whole request head (and what body came with it) arrived. Answers with script_send and the
 * like; `text` is all of it. */
struct script_conn {
    struct script *b;
    struct conn *c;
    struct buf in, out;
    struct timer later;
    char *later_text;
    bool closed, close_after;
    struct deferred freeing;
    struct list link;
    uint32_t requests;
};
typedef void (*script_fn)(struct script_conn *sc, sv text);

struct script {
    struct stage *s;
    struct net_listener *l;
    struct list conns;
    script_fn fn;
    uint16_t port;
    uint32_t requests, connections, open;
    char last[8192]; /* the last request's text */
};

struct stage {
    struct world *w;
    struct loop *backend_loop, *client_loop;
    struct sidecar *proxy; /* NULL until stage_start */
    struct script b[4];
};

/* fn NULL: that one does not listen; fns NULL: all are script_ok. */
void stage_init(struct stage *s, uint64_t seed, const script_fn fns[4]);
/* Starts the proxy and runs until it is live. */
void stage_start(struct stage *s, const char *bootstrap, struct config_source *source);
/* A bootstrap with one listener on port 80: the HCM's fields, routes and clusters as YAML flow. */
char *stage_bootstrap(const char *hcm_fields, const char *routes, const char *clusters);
/* "{name: b1, ...}" clusters b1..b3 of one endpoint each, and `both` of b1 and b2. */
extern const char stage_clusters[];
void stage_run(struct stage *s, uint64_t ms);
/* Ends the proxy and everything; fails the test when sockets or buffers are left. */
void stage_fini(struct stage *s);
/* The same, outside cmocka: the number of violations. */
unsigned stage_end(struct stage *s);
uint64_t stage_stat(struct stage *s, const char *name);

/* ---- backends ---- */
void script_ok(struct script_conn *sc, sv text);    /* 200, body: what it got */
void script_503(struct script_conn *sc, sv text);   /* 503 "no" */
void script_reset(struct script_conn *sc, sv text); /* RST */
void script_close(struct script_conn *sc, sv text); /* FIN without an answer */
void script_hang(struct script_conn *sc, sv text);  /* never answers */
void script_send(struct script_conn *sc, const char *text);
void script_send_later(struct script_conn *sc, const char *text, uint64_t ms);

/* ---- the client ---- */
struct raw {
    struct stage *s;
    struct conn *c;
    struct buf out;
    struct strbuf got;
    bool connected, eof, error;
    uint64_t eof_ms; /* simulated time of the end */
};
void raw_open(struct raw *cl, struct stage *s, uint16_t port);
void raw_send(struct raw *cl, const char *text);
void raw_close(struct raw *cl, bool reset);
/* Runs until the text is in what came, or the time is over. */
bool raw_wait(struct raw *cl, const char *text, uint64_t ms);
bool raw_wait_eof(struct raw *cl, uint64_t ms);
/* One request on a connection of its own; everything that came, malloc'd. */
char *raw_get(struct stage *s, const char *path);

#endif
