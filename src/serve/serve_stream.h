/* Streams for weft's own services and calls: what a protocol on top (gRPC, plain handlers) needs to
 * know about the server and client below it. A stream is the codecs' http_stream; nothing here
 * can tell HTTP/1 from HTTP/2, a socket from a pool of the proxy's clusters, or a test.
 *
 *   server:  connection -> head arrives -> serve_accept_fn takes the stream (or 404)
 *   client:  serve_channel.open -> connect, wait, reuse ... -> serve_open.fn gets a stream, or why
 *            not
 *
 * Implementations of serve_channel: src/serve (its own connections), src/upstream (a cluster of the
 * proxy), tests (in memory). Thread: the loop of the peer or channel. */
#ifndef WEFT_SERVE_SERVE_STREAM_H
#define WEFT_SERVE_SERVE_STREAM_H

#include "http/codec.h"
#include "net/addr.h"
#include "net/loop.h"

struct tls_info; /* src/tls/tls_info.h */

/* ---- server ---- */

/* The other end of a connection. Lives as long as the connection, so as any stream on it. */
struct serve_peer {
    struct loop *loop;
    struct addr local, remote;
    const struct tls_info *tls; /* NULL: plaintext */
};

/* A request's head arrived. The callee takes the stream with http_stream_set_user before it
 * returns; all further events are its own (on_head does not come again; `end`: no body follows). It
 * may answer or reset at once. false: not taken, and untouched: the server answers 404.
 * `head` lives as long as the stream's arena. */
typedef bool (*serve_accept_fn)(void *user, struct http_stream *s, struct http_head *head, bool end,
                                const struct serve_peer *peer);

/* ---- client ---- */

struct serve_channel;

/* One wish for a stream; lives inside its owner, and is the channel's from open until fn or cancel.
 * fn comes exactly once unless cancelled, possibly before open returns.
 *   s != NULL: new, nothing is sent yet; take it with http_stream_set_user before returning.
 *   s == NULL: none can be had; why and details (static text, or until fn returns) tell. */
struct serve_open {
    struct list link; /* the channel's */
    void (*fn)(struct serve_open *o, struct http_stream *s, enum http_reset why,
               const char *details);
};

struct serve_channel_ops {
    void (*open)(struct serve_channel *c, struct serve_open *o);
    /* fn will not come. Fine when o is not waiting (its link is empty). */
    void (*cancel)(struct serve_channel *c, struct serve_open *o);
};

/* Where a client's streams come from. */
struct serve_channel {
    const struct serve_channel_ops *ops;
    struct loop *loop;
    sv scheme;    /* "http" or "https" */
    sv authority; /* of requests; lives as long as the channel */
};

static inline void serve_channel_open(struct serve_channel *c, struct serve_open *o)
{
    c->ops->open(c, o);
}
static inline void serve_channel_cancel(struct serve_channel *c, struct serve_open *o)
{
    c->ops->cancel(c, o);
}

#endif
