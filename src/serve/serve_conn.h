/* One connection of this room: a conn (plain or TLS) with a codec on it, and the clocks that watch
 * it. Servers and clients are both made of these.
 *
 *   conn events --read--> in --feed--> codec --> streams        at once
 *   conn <--write-- codec->out <-- streams                      at the end of the loop's turn
 *
 * Life: made by serve_conn_server/_client; ends by itself (peer, error, time-out, drained) or by
 * serve_conn_close; then every stream has seen on_reset and on_close, ops->closed comes once, and
 * the memory goes at the end of the turn. Thread: the loop. */
#ifndef WEFT_SERVE_SERVE_CONN_H
#define WEFT_SERVE_SERVE_CONN_H

#include "serve/serve_stream.h"
#include "net/conn.h"

struct serve_conn;

enum serve_protocol {
    SERVE_AUTO, /* ALPN; without TLS a server looks for HTTP/2's preface, a client speaks HTTP/1 */
    SERVE_HTTP1,
    SERVE_HTTP2, /* prior knowledge; over TLS the peer must agree by ALPN */
};

/* Times are in ms, 0 = never. */
struct serve_times {
    uint32_t connect_ms;      /* connecting and handshake; a server's handshake */
    uint32_t head_ms;         /* server: from the first byte of a request to the end of its head */
    uint32_t idle_ms;         /* without any stream */
    uint32_t ping_ms;         /* HTTP/2: a PING when nothing was received for so long … */
    uint32_t ping_timeout_ms; /* … and the end of the connection when its answer takes longer */
};

struct serve_conn_ops {
    /* Server: as in http_codec_events. */
    bool (*on_stream)(struct serve_conn *c, struct http_stream *s);
    /* The handshake is done and the codec chosen (client: streams can be opened). */
    void (*ready)(struct serve_conn *c);
    /* Client: another stream may fit, or none will any more (look at can_open). */
    void (*changed)(struct serve_conn *c);
    /* The end; c->error and c->error_text say why (0: in order). c is gone after the turn. */
    void (*closed)(struct serve_conn *c);
};

struct serve_conn {
    struct list link; /* the owner's */
    const struct serve_conn_ops *ops;
    void *owner;
    struct serve_peer peer;
    struct conn *conn;
    struct http_codec *codec;         /* NULL until ready */
    const struct http_limits *limits; /* lives as long as the connection's owner */
    struct serve_times times;
    enum serve_protocol protocol;
    int error;
    char error_text[256];
    /* private */
    struct buf in;
    struct timer timer, ping_timer;
    struct deferred flush, freeing;
    uint64_t since_ms; /* of what the timer watches: handshake, head, idleness, lingering */
    uint64_t received_ms;
    bool server, flush_set, closed, lingering, in_head, ping_out, blocked;
};

/* Limits of weft's own endpoints and calls: the codecs' defaults, with trailers, and with HTTP/2
 * windows of 1 MiB a stream and 4 MiB a connection, which is also what a paused stream may hold. */
void serve_limits_default(struct http_limits *l);

/* Both take over `conn`, whose owner they become; never NULL. limits are borrowed. A client's conn
 * is connected, with its handshake done: serve_conn_start begins, and may call ready or closed. */
struct serve_conn *serve_conn_server(struct conn *conn, const struct http_limits *limits,
                                     const struct serve_times *times, enum serve_protocol p,
                                     const struct serve_conn_ops *ops, void *owner);
struct serve_conn *serve_conn_client(struct conn *conn, const struct http_limits *limits,
                                     const struct serve_times *times, enum serve_protocol p,
                                     const struct serve_conn_ops *ops, void *owner);
void serve_conn_start(struct serve_conn *c);
/* Ends it now: streams are reset with `why`; text is copied, may be NULL. Calls ops->closed. */
void serve_conn_close(struct serve_conn *c, enum http_reset why, int error, const char *text);
/* No new streams; closes when the last one ends. */
void serve_conn_drain(struct serve_conn *c);
bool serve_conn_can_open(const struct serve_conn *c);
/* Opens a stream without a user yet. NULL when there is no room. */
struct http_stream *serve_conn_open(struct serve_conn *c);

#endif
