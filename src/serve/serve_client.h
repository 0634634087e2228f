/* A client for weft's own calls: one target, its connections, and a serve_channel on top.
 *
 *   serve_call (one request), gRPC, ... --> serve_channel --> [ serve_client ] --> connections
 *
 * Names are resolved at each new connection and addresses tried in order until one answers, all
 * within connect_ms. HTTP/2: one connection (more when the peer's stream limit is reached);
 * HTTP/1: up to max_conns, reused. A wish that cannot be met now waits in order. When connecting
 * fails all that wait are told at once and the next wish tries again: waiting between attempts is
 * the caller's business. Thread: the loop. */
#ifndef WEFT_SERVE_SERVE_CLIENT_H
#define WEFT_SERVE_SERVE_CLIENT_H

#include "base/error.h"
#include "serve/serve_conn.h"

struct serve_client;
struct resolver;
struct tls_ctx;
struct tls_slot;

/* Zero-initialise; loop and target are required. Views are copied. */
struct serve_client_opts {
    struct loop *loop;
    struct resolver *resolver; /* NULL: target is an address, or "unix:" */
    sv target;    /* "host:port", "10.0.0.1:80", "[::1]:80", "unix:/path", "unix:@abstract" */
    sv authority; /* empty: the target; "localhost" for Unix sockets */
    enum serve_protocol protocol;
    const struct http_limits *limits; /* copied; NULL: serve_limits_default */
    struct serve_times times; /* all 0: 5 s to connect, idle connections end after 60 s, no pings */
    uint32_t max_conns;       /* 0: 8 */
    uint32_t mark;            /* SO_MARK */
    /* TLS: a slot (the current context for each connection) or a context (referenced). */
    struct tls_slot *tls;
    struct tls_ctx *tls_ctx;
    sv sni;         /* empty: the host of the authority, when that is a name */
    sv expect_name; /* the server's certificate must have it; empty: the context's matchers */
};

/* NULL + err when the target is no target. Does not connect yet. */
struct serve_client *serve_client_new(const struct serve_client_opts *o, struct error *err);
/* Ends connections (streams are reset) and fails what waits. NULL is fine. Not from inside one of
 * its own callbacks. */
void serve_client_free(struct serve_client *c);
struct serve_channel *serve_client_channel(struct serve_client *c);
/* Connections drain; the next wish connects anew (credentials or address have changed). */
void serve_client_renew(struct serve_client *c);
/* Is there a connection that is up? */
bool serve_client_connected(const struct serve_client *c);
/* Why the last connection could not be made or broke; empty when none did. */
const char *serve_client_error(const struct serve_client *c);
/* Number of connections that came up so far. */
uint64_t serve_client_connects(const struct serve_client *c);

#endif
