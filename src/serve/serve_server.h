/* The server for weft's own endpoints: listens, speaks HTTP/1.1 and HTTP/2 (ALPN over TLS, prior
 * knowledge without), and gives each request to who wants it. gRPC services take streams as they
 * are (serve_accept_fn); plain endpoints use serve_http.h on top.
 *
 *   listeners -> conns -> codecs -> accept functions in the order they were added -> 404
 *
 * Addresses without a host are loopback: weft's own endpoints are not for the network unless
 * somebody says so. Thread: the loop. */
#ifndef WEFT_SERVE_SERVE_SERVER_H
#define WEFT_SERVE_SERVE_SERVER_H

#include "base/error.h"
#include "serve/serve_conn.h"

struct serve_server;
struct tls_slot;
struct tls_ctx;

/* Zero-initialise; only loop is required. */
struct serve_server_opts {
    struct loop *loop;
    struct tls_slot *tls;    /* contexts are taken from it for each connection (rotation), or … */
    struct tls_ctx *tls_ctx; /* … this one always (referenced). Both NULL: plaintext */
    enum serve_protocol protocol;     /* SERVE_AUTO: both */
    const struct http_limits *limits; /* copied; NULL: serve_limits_default */
    struct serve_times times;         /* all 0: 10 s handshake and head, 5 min idle, no pings */
    uint32_t max_conns;               /* 0: 1024; past it new connections are closed at once */
};

struct serve_server *serve_server_new(const struct serve_server_opts *o);
/* Ends every connection and listener now. NULL is fine. */
void serve_server_free(struct serve_server *s);

/* Asks this function about each new request, after those that were added before. */
void serve_server_add(struct serve_server *s, serve_accept_fn fn, void *user);

/* Starts listening; several may be added. E_… and a sentence with the address. */
int serve_server_listen(struct serve_server *s, const struct addr *a, struct error *err) MUST_CHECK;
/* "8080" and ":8080" loopback, "*:8080" every address, "10.0.0.1:80", "[::1]:80", "unix:/path",
 * "unix:@abstract". */
int serve_server_listen_text(struct serve_server *s, sv text, struct error *err) MUST_CHECK;
/* Adopts a listening descriptor (owned from now on, also on failure). */
int serve_server_listen_fd(struct serve_server *s, int fd, struct error *err) MUST_CHECK;
/* While it is on, sockets listen but nothing is accepted: who connects waits. For a server that is
 * not ready to tell the truth yet. */
void serve_server_pause(struct serve_server *s, bool on);
/* The n-th listener's address with the port it got; NULL past the last. */
const struct addr *serve_server_addr(const struct serve_server *s, unsigned n);
/* Adopts a connection that somebody else accepted. */
void serve_server_take(struct serve_server *s, struct conn *c);

/* Stops accepting; connections end when their streams have, the rest after deadline_ms. */
void serve_server_drain(struct serve_server *s, uint32_t deadline_ms);

struct serve_server_stats {
    uint64_t conns_total, conns_refused, conns_failed, requests, not_found;
    uint32_t conns;
    struct http_codec_stats codec;
};
const struct serve_server_stats *serve_server_stats(const struct serve_server *s);

/* What serve_server_listen_text understands, as an address. E_INVALID. */
int serve_addr_parse(struct addr *a, sv text) MUST_CHECK;

#endif
