/* Inside of calls; nothing outside src/grpc includes this.
 *
 * Ends. The first cause is stored by grpc_call_end and told by on_done from a deferred function,
 * so a user's stack never has a call die under it. A local end (deadline, bad message, finish)
 * drops what was not delivered yet; an end that the peer sent waits until its messages were.
 *
 *   stream events -> reader -> pump: on_message ... -> half close / result -> later: on_done, free
 *
 * The stream and the call die separately: `s` is NULL before the stream is there and after its
 * on_close; a call that is over leaves its stream to the `linger` events. */
#ifndef WEFT_GRPC_GRPC_CALL_H
#define WEFT_GRPC_GRPC_CALL_H

#include "grpc/grpc.h"
#include "grpc/grpc_frame.h"

#define GRPC_DEFAULT_MAX_MESSAGE (4u * 1024 * 1024)
#define GRPC_QUEUE_MAX           (1024 * 1024) /* queued before the stream is there: writable until then */

struct grpc_call {
    struct http_stream *s;
    struct loop *loop;
    struct arena arena;
    const struct grpc_call_events *ev;
    void *user;
    struct timer timer;
    uint64_t deadline_ms; /* loop time; 0 none */
    struct deferred later;
    struct grpc_reader in;
    unsigned pauses;

    /* client */
    struct serve_channel *ch;
    struct serve_open open;
    sv path;
    struct http_headers metadata;
    struct buf out; /* framed messages, until the stream is there */

    /* server */
    struct grpc_server *srv;
    struct list link; /* srv->calls */
    struct http_head head;
    const struct serve_peer *peer;
    grpc_request_fn request_fn;
    void *request_user;
    struct buf request;

    struct grpc_result result;
    struct http_headers trailers;

    bool server, opening;
    bool head_sent, out_end, high;
    bool recv_end, half_told; /* the peer has sent all; server: on_half_close was called */
    bool result_known;        /* client: the server's trailers are in `result` */
    bool request_seen;
    bool done, local; /* over; by us, so that nothing more is delivered */
    bool dead;        /* cancelled, or on_done was called */
    bool later_due, pumping;
};

struct grpc_server {
    struct map *methods; /* path -> struct method; private to grpc_server.c */
    struct list calls;
    uint32_t n_calls, max_message_bytes;
    sv closing; /* message of grpc_server_shutdown, p NULL before */
};

extern const struct http_stream_events grpc_stream_events;

struct grpc_call *grpc_call_new(struct loop *loop, uint32_t max_message_bytes);
void grpc_call_set_deadline(struct grpc_call *c, uint64_t timeout_ms);
/* Over: stores the first cause and arranges for on_done. message is copied. */
void grpc_call_end(struct grpc_call *c, int code, sv message, bool local);
/* Delivers what can be delivered. */
void grpc_call_pump(struct grpc_call *c);
/* Server: unlinks a call that is going away. */
void grpc_server_forget(struct grpc_call *c);
/* Server: the body of a unary request came to its end. */
void grpc_server_unary(struct grpc_call *c);

#endif
