/* For the tests of this room: two ends of a connection whose events are counted and whose reading
 * is switched, over real loopback or a simulated network. */
#ifndef WEFT_NET_FIXTURE_H
#define WEFT_NET_FIXTURE_H

#include "net/conn.h"
#include "net/listener.h"

struct end {
    struct conn *c; /* NULL after it was closed */
    struct buf in, out;
    bool reads; /* reads all there is at each event */
    bool close_on_eof, close_on_error;
    bool eof;
    int error;                                  /* what a read, a write or CONN_EV_ERROR said */
    int connected, reads_n, writes_n, errors_n; /* events */
    size_t most;                                /* bytes of one conn_read; 0: plenty */
};

void end_init(struct end *e);
void end_event(struct conn *c, unsigned events, void *user);
/* Writes what is queued; returns how much went. */
ssize_t end_flush(struct end *e);
void end_close(struct end *e, bool reset);
void end_fini(struct end *e);

/* A listener on loopback and the ends it accepted. */
struct server {
    struct net_listener *l;
    struct loop *loop;
    struct end ends[64];
    int n;
};
void server_init(struct server *s, struct loop *l, const char *addr); /* "ip:port" or a path */
void server_fini(struct server *s);
/* Connects e to s and turns until both ends are up. */
void server_connect(struct server *s, struct end *e);

/* Turns (on the real clock at most ~5 s) until cond holds; fails the test otherwise. */
#define turn_until(loop, cond)                                                                     \
    do {                                                                                           \
        uint64_t turn_end = loop_clock_ns(loop) + 60000000000u;                                    \
        while (!(cond) && loop_clock_ns(loop) < turn_end)                                          \
            loop_turn((loop), 10000000);                                                           \
        assert_true(cond);                                                                         \
    } while (0)
/* Gives everything under way the time to arrive. */
void turn_quiet(struct loop *l);

#endif
