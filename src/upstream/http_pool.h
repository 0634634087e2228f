/* Pools of HTTP connections to a host.
 *
 *            upstream_http_open
 *                   |   a connection that can take a stream? -> on_ready at once
 *                   v   else pending, and a new connection if those under way do not suffice
 *   pool:   ready (can take a stream; last used first)   busy (full)
 *           connecting                                    draining (finish what they carry)
 *           pending requests, in order
 *
 * A pool holds connections that are alike in everything that decided their identity: priority,
 * protocol, server name, expected name, ALPN list, PROXY header (rule of life 7); endpoint and
 * transport socket are the host's. A pool with names of its own ends with its last connection.
 * HTTP/1 connections carry one stream, HTTP/2 up to what peer and configuration allow. With ALPN a
 * pool learns on its first connection which of them it is. Failing to connect fails the requests
 * that this connection was for, oldest first. Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_HTTP_POOL_H
#define WEFT_UPSTREAM_HTTP_POOL_H

#include "upstream/worker.h"

enum pool_protocol { POOL_HTTP1, POOL_HTTP2, POOL_ALPN };

struct http_pool {
    struct list link; /* host->pools */
    struct upstream_host *host;
    enum upstream_priority priority;
    enum pool_protocol protocol;
    bool counted;             /* in LIMIT_POOLS */
    uint32_t n_conns;         /* http_conns whose memory is still there */
    bool serving;             /* on the stack: pending requests are being given out */
    struct transport_ask ask; /* points into `names` */
    char *names;              /* NULL: no names of its own */
    struct list ready, busy, connecting, draining;
    struct list pending;
    uint32_t n_pending, n_connecting;
    uint32_t learned; /* ALPN: streams the last connection could take, 0: nothing learned */
};

/* Removed host or replaced cluster: no connection outlives its streams. */
void http_pools_drain(struct upstream_host *h);
/* Everything is closed now; streams are reset, requests fail. */
void http_pools_close(struct upstream_host *h);
void http_pools_free(struct upstream_host *h);

/* ---- for http_conn.c and open.c ---- */
struct http_conn;
/* hc can take streams: pending requests get them. May run any callback. */
void http_pool_serve(struct http_pool *p);
/* A connection is up, was lost while connecting, or ended. */
void http_pool_connected(struct http_pool *p, struct http_conn *hc);
void http_pool_connect_failed(struct http_pool *p, struct http_conn *hc, enum upstream_fail why,
                              sv details);
void http_pool_conn_gone(struct http_pool *p);
/* The memory of one of its connections was freed; the pool may be gone after it. */
void http_pool_conn_freed(struct http_pool *p);
/* A pending request went away: connections that nobody waits for go on connecting, for the next. */
bool http_pool_draining(const struct http_pool *p);

#endif
