/* One HTTP connection to a host: the glue between a conn and a client codec.
 *
 *   connecting -> open <-> (idle) -> draining -> closed
 *
 * Output is written once, at the end of the turn in which it was queued, with one writev. Input is
 * read until the transport is empty, the codec is paused, or it had its share of the turn.
 * A connection takes a stream only if nothing says that its peer is gone: the end of data that came
 * since the last turn is known, and one that lay idle for a while is looked at first (one read),
 * since servers close idle connections just when the next request comes. What lies between the look
 * and the request's arrival is closed by learning: when a host has closed two idle connections
 * after the same time, one that is idle for three quarters of it is not used any more.
 * Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_HTTP_CONN_H
#define WEFT_UPSTREAM_HTTP_CONN_H

#include "upstream/http_pool.h"

enum http_conn_state { HTTP_CONN_CONNECTING, HTTP_CONN_OPEN, HTTP_CONN_DRAINING, HTTP_CONN_CLOSED };

struct http_conn {
    struct list link; /* one of the pool's */
    struct http_pool *pool;
    struct connector connector;
    struct conn *conn;
    struct http_codec *codec;
    struct buf in;
    struct deferred flush, gone;
    struct timer idle, life, ping;
    uint64_t idle_since_ms;
    uint64_t opened; /* streams so far */
    uint64_t counted_rx, counted_tx;
    uint32_t active; /* streams that are counted */
    uint32_t depth;  /* calls into the codec that are on the stack */
    enum http_conn_state state;
    bool http2, flush_due, shut, pinging;
    bool idle_set; /* idle_since_ms counts */
    bool cut;      /* a stream that was not over took the connection along */
    bool doomed;   /* is to be closed as soon as its codec is not on the stack */
    enum cx_end doomed_by;
};

/* Starts connecting; LIMIT_CX has been taken. */
struct http_conn *http_conn_new(struct http_pool *p);
/* Can it take a stream now? Closes it when it turns out to be dead. */
bool http_conn_ready(struct http_conn *hc);
/* Opens a stream for the holder of `to`; LIMIT_RQ has been taken. Runs on_ready. */
void http_conn_give(struct http_conn *hc, struct upstream_cluster *to,
                    const struct upstream_http_cb *cb, void *user);
/* ---- http_conn_timers.c: idle time-out, maximum age, HTTP/2 keep-alive ---- */
void http_conn_timers_init(struct http_conn *hc, struct loop *l);
void http_conn_timers_start(struct http_conn *hc); /* it is open */
void http_conn_timers_stop(struct http_conn *hc);
/* The last stream ended: from now on time counts against it. */
void http_conn_went_idle(struct http_conn *hc);
/* A stream begins. */
void http_conn_used(struct http_conn *hc);

/* Gives back what ended streams held. */
void http_conn_count_ended(struct http_conn *hc);
/* No new streams; closes when the last one ends, at once if there is none. */
void http_conn_drain(struct http_conn *hc);
/* Closes now; streams are reset. */
void http_conn_close(struct http_conn *hc, enum cx_end by);

#endif
