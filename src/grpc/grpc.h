/* gRPC calls over serve streams, client and server: unary and streaming, deadlines, status and
 * metadata, cancellation.
 *
 *   client   grpc_call_start -> [grpc_send ...] -> grpc_half_close
 *                  on_headers? -> on_message * -> on_done(status)
 *   server   handler(call) -> on_message * -> on_half_close? -> grpc_send * -> grpc_finish(status)
 *                  ... -> on_done
 *
 * Life of a call: on_done comes exactly once, last, and never from inside a function of this
 * header; when it returns the call is gone. After grpc_cancel nothing comes any more and the call
 * is gone at once: the one exception. The first cause of an end is kept (deadline, reset, status
 * ...). Messages that arrived before the end are delivered before on_done, unless the end is local.
 *
 * Flow: grpc_send never blocks and never fails for being full: look at grpc_writable, and wait for
 * on_writable. grpc_pause stops on_message; what is held then is bounded by the stream's window.
 * Compression is not spoken: compressed messages end the call with UNIMPLEMENTED.
 * Thread: the loop of the channel or peer. */
#ifndef WEFT_GRPC_GRPC_H
#define WEFT_GRPC_GRPC_H

#include "grpc/grpc_status.h"
#include "serve/serve_stream.h"

struct grpc_call;
struct grpc_server;

/* How a call ended. Valid during on_done. */
struct grpc_result {
    int code;                            /* as the peer gave it; usually one of enum grpc_code */
    sv message;                          /* decoded */
    const struct http_headers *trailers; /* client: of the server, NULL when none came */
};

/* All may be NULL. Any of them may call any function here, also grpc_cancel. */
struct grpc_call_events {
    /* Client: the initial metadata. Lives as long as the call. */
    void (*on_headers)(void *user, const struct http_headers *h);
    /* One message; `bytes` is all of it, valid during the call. To keep it without a copy, move msg
     * away: bytes then stays valid as long as they stay in that chain. */
    void (*on_message)(void *user, struct buf *msg, sv bytes);
    /* Server: the client has sent all its messages. */
    void (*on_half_close)(void *user);
    /* What was queued has drained: grpc_writable is true again. */
    void (*on_writable)(void *user);
    void (*on_done)(void *user, const struct grpc_result *r);
};

struct grpc_opts {
    uint64_t timeout_ms;        /* 0: no deadline */
    uint32_t max_message_bytes; /* received; 0: 4 MiB */
};

/* ---- client ---- */
/* Starts a call. path: "/package.Service/Method" (copied); metadata (copied) and opts may be NULL.
 * The deadline covers everything from now on, also connecting. Never fails at once: what goes
 * wrong comes by on_done (UNAVAILABLE when no stream is to be had). */
struct grpc_call *grpc_call_start(struct serve_channel *ch, sv path,
                                  const struct http_headers *metadata, const struct grpc_opts *opts,
                                  const struct grpc_call_events *ev, void *user);
/* No more messages from here. */
void grpc_half_close(struct grpc_call *c);

/* One request, one answer. `answer` is the message, p == NULL unless r->code is OK (a missing or
 * second answer is INTERNAL). Cancel with grpc_cancel. */
typedef void (*grpc_unary_fn)(void *user, const struct grpc_result *r, sv answer);
struct grpc_call *grpc_unary(struct serve_channel *ch, sv path, const struct http_headers *metadata,
                             const struct grpc_opts *opts, sv request, grpc_unary_fn fn,
                             void *user);

/* ---- both sides ---- */
/* Queues a message (packed protobuf; copied). E_CLOSED after the end, after half_close or finish.
 */
int grpc_send(struct grpc_call *c, sv packed);
/* The same, taking the bytes of the chain. */
int grpc_send_buf(struct grpc_call *c, struct buf *packed);
/* False while more than the stream's high watermark is queued. */
bool grpc_writable(const struct grpc_call *c);
/* Counted, as http_stream's. */
void grpc_pause(struct grpc_call *c, bool on);
/* Ends the call at once, resets its stream; no event comes any more, the pointer is dead. */
void grpc_cancel(struct grpc_call *c);

/* ---- server ---- */
/* default_max_message_bytes: 0 for 4 MiB. */
struct grpc_server *grpc_server_new(uint32_t default_max_message_bytes);
/* Cancels the calls under way (their on_done does not come). */
void grpc_server_free(struct grpc_server *srv);
/* A call arrived. The handler calls grpc_call_set_events, or finishes at once. */
typedef void (*grpc_handler_fn)(void *user, struct grpc_call *c);
/* path lives as long as the server (a ..._PATH of the generated code). Replaces an older one. */
void grpc_server_add_method(struct grpc_server *srv, const char *path, grpc_handler_fn fn,
                            void *user);
/* For methods with one request message: fn is called with it, once the client has half-closed; it
 * answers with grpc_respond or grpc_finish, at once or later (then it sets events for on_done). */
typedef void (*grpc_request_fn)(void *user, struct grpc_call *c, sv request);
void grpc_server_add_unary(struct grpc_server *srv, const char *path, grpc_request_fn fn,
                           void *user);
/* A serve_accept_fn; user is the grpc_server. Takes HTTP/2 requests with a gRPC content type. */
bool grpc_server_accept(void *server, struct http_stream *s, struct http_head *head, bool end,
                        const struct serve_peer *peer);
/* Ends all calls with UNAVAILABLE and this message; new ones get the same. */
void grpc_server_shutdown(struct grpc_server *srv, const char *message);
uint32_t grpc_server_calls(const struct grpc_server *srv); /* under way */

void grpc_call_set_events(struct grpc_call *c, const struct grpc_call_events *ev, void *user);
/* The request's head: path, authority, metadata. Lives as long as the call. */
const struct http_head *grpc_call_head(const struct grpc_call *c);
/* NULL after the connection has ended. */
const struct serve_peer *grpc_call_peer(const struct grpc_call *c);
struct arena *grpc_call_arena(struct grpc_call *c); /* dies with the call */
/* Milliseconds left, UINT64_MAX without a deadline. */
uint64_t grpc_call_time_left_ms(const struct grpc_call *c);
/* Initial metadata, before the first message; optional. E_INVALID when it was sent already. */
int grpc_send_headers(struct grpc_call *c, const struct http_headers *metadata);
/* Ends the call: trailers (or, when nothing was sent yet, trailers only). message and trailers may
 * be empty / NULL; they are copied. Later calls do nothing. on_done follows. */
void grpc_finish(struct grpc_call *c, enum grpc_code code, sv message,
                 const struct http_headers *trailers);
/* send and finish OK. */
void grpc_respond(struct grpc_call *c, sv packed);

/* ---- grpc.health.v1.Health ---- */
struct grpc_health;
/* Registers Check and Watch. The empty service name stands for the whole server, SERVING at first.
 */
struct grpc_health *grpc_health_new(struct grpc_server *srv);
void grpc_health_free(struct grpc_health *h); /* before the server */
/* Tells watchers when it changed. The name is copied. */
void grpc_health_set(struct grpc_health *h, sv service, bool serving);

#endif
