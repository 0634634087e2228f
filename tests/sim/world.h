/* A world to let proxies live in: hosts, a mesh, clients and backends on one simulated network,
 * and a book of every request in which both ends write.
 *
 *     struct world *w = world_new(seed);
 *     ... mesh.h: control plane, sidecars, plain proxies;  backend.h, client.h ...
 *     world_run_ms(w, 5000);
 *     world_free(w);                    says how many rules were broken
 *
 * A seed decides two things apart from each other: what the network does (sim.h draws it) and what
 * the test does (world_rand), so that a change of the code under test does not change the script.
 * A rule that is broken is noted by world_violation with the simulated time and the run goes on;
 * the first ones are printed, with the trace of what happened to the request.
 * Thread: one. */
#ifndef WEFT_TESTS_SIM_WORLD_H
#define WEFT_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/list.h"
#include "base/rand.h"
#include "base/sv.h"
#include "net/sim.h"

/* What backends did with a request. */
enum trace {
    TRACE_SEEN = 1,     /* its head came */
    TRACE_ANSWERED = 2, /* a whole answer was written */
    TRACE_HUNG = 4,     /* never to be answered */
    TRACE_RESET = 8,    /* connection reset, before or within the answer */
    TRACE_CUT = 16,     /* half an answer, then the end of the connection */
    TRACE_GARBAGE = 32, /* bytes that are no answer */
    TRACE_FAILED = 64,  /* the backend itself answered 503 */
    TRACE_SLOW = 128,   /* answered late */
    TRACE_EARLY = 256,  /* answered before the request had come whole */
};

enum outcome {
    OUTCOME_PENDING,
    OUTCOME_ANSWERED, /* a whole, well-framed answer */
    OUTCOME_CUT,      /* an answer began and did not end */
    OUTCOME_LOST,     /* the connection ended without an answer */
    OUTCOME_GAVE_UP,  /* the client's patience ended */
    OUTCOME_ABORTED,  /* the client went away on purpose */
    OUTCOME_UNSENT,   /* no connection to the proxy */
    OUTCOME_BROKEN,   /* the answer breaks HTTP: always a violation */
};
const char *outcome_name(enum outcome o);

struct sim_client;

/* One request, in the book from the moment it is sent. */
struct request {
    uint64_t id; /* from 1: its place in the book */
    struct sim_client *client;
    uint64_t sent_ns, done_ns;
    uint64_t body_n; /* that it carries */
    bool post, jason;
    enum outcome outcome;
    unsigned status;
    int backend;       /* index of the one whose answer came; -1: the proxy's own, or none */
    unsigned arrivals; /* at backends */
    uint64_t arrived_ns[8];
    unsigned trace;
    uint64_t delay_ns; /* the longest that a backend took on purpose */
    char said[96];     /* the beginning of the proxy's own answer */
};

struct world {
    uint64_t seed;
    struct sim *sim;
    struct rand_state rnd;
    struct request *book;
    size_t n_requests, cap_requests;
    struct list backends, clients;
    int n_backends;
    unsigned n_violations;
    /* Looks at each request when it ends; set by the test. */
    void (*judge)(void *arg, struct request *r);
    /* Tells of each arrival at a backend; may be NULL. */
    void (*arrival)(void *arg, struct request *r, int backend);
    void *arg;
    struct loop **graves; /* loops of dead processes */
    int n_graves;
    size_t blocks; /* buffers in use before anything was there */
    FILE *trace;   /* TRACE=FILE in the environment: everything on the network, a line an event */
};

struct world *world_new(uint64_t seed);
/* Everything that lives on its hosts is gone before. Checks that buffers are, too; returns how many
 * violations there were in all. NULL is fine. */
unsigned world_free(struct world *w);

/* The loop of a process that died: what still waits on it (the last bytes of closed TLS
 * connections, which can no longer leave) ends with the world. */
void world_bury(struct world *w, struct loop *l);

void world_run_ms(struct world *w, uint64_t ms);
uint64_t world_ms(const struct world *w); /* now */
/* From n numbers, or from a range, ends included. */
uint64_t world_below(struct world *w, uint64_t n);
uint64_t world_between(struct world *w, uint64_t low, uint64_t high);
bool world_permille(struct world *w, unsigned n);

/* What the test does, with VERBOSE in the environment. */
void world_note(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void world_violation(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same, and what is known about the request. */
void world_wrong(struct world *w, const struct request *r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct request *world_request_new(struct world *w);
struct request *world_request(struct world *w, uint64_t id); /* NULL: no such one */
/* Its end: asks judge. */
void world_request_done(struct world *w, uint64_t id, enum outcome o);

/* ---- seeds of a run ----
 * Environment: SEEDS=200 (1 to 200), SEEDS=17-17; else 1 to dflt. Runs fn for each, in the same
 * process; returns how many seeds had violations, each printed with the command that repeats it. */
unsigned world_each_seed(unsigned dflt, const char *program, unsigned (*fn)(uint64_t seed));

#endif
