/* A backend: an HTTP/1.1 server that does to each request what the odds of its mood say.
 *
 * Every answer says who gave it (x-backend), to which request (x-request-number), and has a body
 * that the client can check byte by byte. What was done to a request is written in the book.
 * Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_BACKEND_H
#define WEFT_TESTS_SIM_BACKEND_H

#include "net/loop.h"
#include "world.h"

/* Odds in permille; what is left of 1000 is answered well and at once. */
struct mood {
    unsigned slow;      /* answered after slow_ms[0] to slow_ms[1] */
    unsigned drip;      /* the answer comes in pieces over that time */
    unsigned early;     /* answered at the head; the request's body is read later */
    unsigned closing;   /* the answer ends the connection, and says so */
    unsigned fail;      /* 503 */
    unsigned hang;      /* no answer, ever */
    unsigned reset;     /* RST at the head */
    unsigned reset_mid; /* RST within the answer */
    unsigned cut;       /* half an answer, then FIN */
    unsigned garbage;   /* no HTTP at all */
    uint64_t slow_ms[2];
    uint64_t body_max; /* bytes of an answer; most are small */
};

#define BACKEND_CHECK "/check" /* path of health checks */

struct backend {
    struct list link;
    struct world *w;
    int index;
    char name[32], ip[48], version[16];
    uint16_t port;
    struct loop *loop;
    struct net_listener *listener; /* NULL: refuses */
    struct list conns;
    struct mood mood;
    const char *fields;                 /* more lines of each answer's head, or NULL */
    bool lenient;                       /* what is no HTTP/1.1 is reset and no violation */
    unsigned n_conns, most_conns;       /* now, and at most at once */
    unsigned n_requests, most_requests; /* of those with a request under way */
    uint64_t requests;                  /* so far, without health checks */
    bool sick;                          /* health checks get 503 */
    uint64_t checks, checked_ns;        /* so far; when the last one came */
};

/* Listens on ip:port at once. */
struct backend *backend_new(struct world *w, const char *name, const char *version, const char *ip,
                            uint16_t port);
/* Whatever it has open is reset. */
void backend_free(struct backend *b);
struct backend *backend_at(struct world *w, int index);

/* Stops listening: new connections are refused. */
void backend_refuse(struct backend *b);
void backend_listen(struct backend *b);
/* After sim_crash_host or sim_kill_host: drops what the dead process had; backend_revive starts a
 * new one. */
void backend_died(struct backend *b);
void backend_revive(struct backend *b);

#endif
