/* A client: users who think, ask, read the whole answer, and think again, over HTTP/1.1.
 *
 * Each user has a connection of its own, kept between requests as the answers allow. Every request
 * carries its number in the book, some a body; every answer is checked: framing, number, who gave
 * it, each byte. What is wrong in itself is a violation at once; the rest is for world's judge.
 * Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_CLIENT_H
#define WEFT_TESTS_SIM_CLIENT_H

#include "net/addr.h"
#include "net/loop.h"
#include "world.h"

struct client_opts {
    const char *name, *ip; /* of its host */
    const char *to;        /* "10.96.0.10:80": where it connects */
    const char *host;      /* Host field */
    const char *path;      /* NULL: "/" */
    const char *fields;    /* more lines for each request, "name: value\r\n" each; may be NULL */
    unsigned users;
    uint64_t requests; /* of each user; 0: until client_stop */
    uint64_t think_ms[2];
    uint64_t patience_ms; /* then it gives up; 0: 60 s */
    unsigned post, jason; /* permille; jason: "end-user: jason" */
    unsigned chunked;     /* of the posts, permille */
    unsigned abort;       /* goes away within the request or the answer, permille */
    unsigned reconnect;   /* a new connection for the next request, permille */
    uint64_t body_max;    /* of posts */
};

struct sim_client {
    struct list link;
    struct world *w;
    struct client_opts o;
    const char *name;
    struct loop *loop;
    struct addr to;
    struct user *users;
    unsigned busy;    /* users with a request under way */
    unsigned running; /* users that will ask again */
    bool stopping;
};

/* Texts in o live as long as the client. Users begin at once, each after a think. */
struct sim_client *client_new(struct world *w, const struct client_opts *o);
/* Users end after the request they are at. */
void client_stop(struct sim_client *c);
/* All requests are over and connections closed. */
bool client_idle(const struct sim_client *c);
void client_free(struct sim_client *c);

#endif
