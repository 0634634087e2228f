/* What HTTP/1 and HTTP/2 have in common: connections as pure state machines, and streams.
 *
 *   bytes in --feed()--> [ codec ] --events--> stream user (connection manager, upstream pool)
 *   bytes out <--out---- [ codec ] <--ops----- stream user
 *
 * A codec does no I/O: its holder ("glue") reads a conn, feeds the bytes, and writes codec->out
 * whenever on_output said there is something. Nobody above can tell HTTP/1 from HTTP/2.
 *
 * Stream life: two independent halves, received and sent. A stream is over when both ended, or on
 * reset; then events->on_close comes exactly once, last, and the stream's memory is freed by the
 * codec after it returns (the user must drop the pointer). A user that needs heads or views of the
 * stream longer takes its memory over in on_close: arena_take(&mine, s->arena); the codec then
 * frees an empty arena, and touches nothing that lived in it. Any event callback may call any op of
 * any stream, also reset. After reset() by the user no event but on_close follows.
 * Reset by the peer or by a connection error: on_reset (once), then on_close.
 *
 * Flow control: send_data queues; when more than the high watermark is queued for a stream (HTTP/1:
 * for the connection) on_high comes; on_low when it has drained. The user then pauses whoever feeds
 * it, with pause(true/false) on the opposite stream. Pauses count: two pauses need two resumes.
 * HTTP/1: a paused stream stops parsing, so the glue stops reading. HTTP/2: a paused stream gives
 * no WINDOW_UPDATE. Bodies are delivered as slices of the received blocks.
 * Thread: the connection's worker. */
#ifndef WEFT_HTTP_CODEC_H
#define WEFT_HTTP_CODEC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "http/headers.h"
#include "http/limits.h"

struct http_codec;
struct http_stream;

/* Why a stream was reset. */
#define HTTP_RESETS(X)                                                                             \
    X(NONE, "none")                                                                                \
    X(REMOTE, "remote_reset")           /* the peer's RST_STREAM */                                \
    X(REMOTE_CANCEL, "remote_cancel")   /* the peer's RST_STREAM with CANCEL: it lost interest */  \
    X(REMOTE_REFUSED, "remote_refused") /* REFUSED_STREAM, or GOAWAY below its id: not             \
                                           processed, safe to retry */                             \
    X(LOCAL, "local_reset")             /* we gave up */                                           \
    X(PROTOCOL, "protocol_error")       /* the peer broke the protocol */                          \
    X(CONN_TERMINATION, "connection_termination")                                                  \
    X(CONN_FAILURE, "connection_failure")                                                          \
    X(OVERFLOW, "overflow") /* a limit */                                                          \
    X(TIMEOUT, "timeout")                                                                          \
    X(NO_ERROR, "no_error") /* HTTP/2 NO_ERROR after a whole response: stop sending the request */

enum http_reset {
#define X(id, text) HTTP_RESET_##id,
    HTTP_RESETS(X)
#undef X
};
const char *http_reset_text(enum http_reset r);

/* Codec -> user. All may be NULL. `data` belongs to the callee during the call: it takes what it
 * wants with buf_move; what is left in it afterwards is dropped. */
struct http_stream_events {
    /* A request or final response head; `head` lives as long as the stream's arena. `end`: no body
     * follows. */
    void (*on_head)(void *user, struct http_head *head, bool end);
    /* 1xx other than 101 (client side). */
    void (*on_info)(void *user, struct http_head *head);
    void (*on_data)(void *user, struct buf *data, bool end);
    void (*on_trailers)(void *user, struct http_headers *trailers);         /* implies end */
    void (*on_reset)(void *user, enum http_reset why, const char *details); /* static text */
    void (*on_high)(void *user);
    void (*on_low)(void *user);
    void (*on_close)(void *user);
};

struct http_stream_ops {
    /* Server: a response head (1xx may precede it). Client: the request head. `head` and all its
     * views are only borrowed during the call. E_INVALID when the protocol cannot carry it. */
    int (*send_head)(struct http_stream *s, const struct http_head *head, bool end);
    /* Takes all of `data` (which is empty afterwards; may be empty before when end). */
    int (*send_data)(struct http_stream *s, struct buf *data, bool end);
    int (*send_trailers)(struct http_stream *s, const struct http_headers *trailers);
    /* Ends the stream at once in both directions. HTTP/1 closes the connection after it, unless
     * both halves had ended. on_close comes before the end of the loop turn or from inside. */
    void (*reset)(struct http_stream *s, enum http_reset why);
    void (*pause)(struct http_stream *s, bool on);
};

struct http_stream {
    const struct http_stream_ops *ops;
    struct http_codec *codec;
    const struct http_stream_events *ev;
    void *user;
    struct arena *arena; /* dies with the stream */
    uint32_t id;         /* HTTP/2 stream id; HTTP/1: number of the message on this connection */
    /* Fields of heads. HTTP/1: the lines without the first one. HTTP/2: frames as on the wire, and
     * names and values after decompression (HTTP/1: 0). */
    uint32_t head_bytes_in, head_bytes_out;
    uint32_t head_plain_in, head_plain_out;
    uint64_t body_bytes_in, body_bytes_out; /* without framing */
    uint64_t wire_bytes_in, wire_bytes_out; /* with framing */
    bool recv_end, sent_end;
    size_t queued; /* body bytes accepted by send_data and not yet written */
};

static inline void http_stream_set_user(struct http_stream *s, const struct http_stream_events *ev,
                                        void *user)
{
    s->ev = ev;
    s->user = user;
}

/* Codec -> glue. */
struct http_codec_events {
    /* Server: a new request begins. The callee calls http_stream_set_user before it returns;
     * on_head follows at once. false refuses the stream (HTTP/2: REFUSED_STREAM; HTTP/1: 503). */
    bool (*on_stream)(void *user, struct http_stream *s);
    /* Bytes were added to codec->out, a stream ended, want_read turned true, or the state changed:
     * come back when convenient (at the latest at the end of the loop turn; never from inside this
     * call): write, call ops->wrote(n) — also with n = 0: ended streams are closed there —, feed
     * what is left of the input if want_read, look at state. May come often; must be cheap. */
    void (*on_output)(void *user);
    /* Client: the peer will take no new streams (GOAWAY, Connection: close). */
    void (*on_goaway)(void *user);
    /* The last stream ended; the connection is idle and, if can_reuse, takes another. */
    void (*on_idle)(void *user);
    /* Client: the peer allows more concurrent streams than before (codec->max_streams). */
    void (*on_max_streams)(void *user);
};

enum http_codec_state {
    HTTP_CODEC_OPEN,
    HTTP_CODEC_DRAINING, /* GOAWAY / Connection: close was sent or received; streams finish */
    HTTP_CODEC_FLUSH,    /* write `out`, then close */
    HTTP_CODEC_DEAD,     /* close now */
};

struct http_codec_ops {
    /* Consumes bytes from the front of `in`. Returns 0 (bytes may be left: an unfinished head,
     * paused, or HTTP/1 pipelining waits for the response before it; keep them and append what is
     * read next), or E_PROTOCOL / E_LIMIT: codec->error_text and error_reason tell; `out` holds
     * what is to be flushed before the close (400, GOAWAY). Reentrancy: never called from its own
     * callbacks. */
    int (*feed)(struct http_codec *c, struct buf *in);
    /* The peer closed its side. HTTP/1 responses without length end here; all else is a reset.
     * After it state is FLUSH or DEAD unless the protocol lets sending go on. */
    void (*feed_eof)(struct http_codec *c);
    /* The transport died: every stream is reset with `why`. */
    void (*fail)(struct http_codec *c, enum http_reset why, const char *details);
    /* Client: a new stream. NULL when can_open() is false. */
    struct http_stream *(*open)(struct http_codec *c, const struct http_stream_events *ev,
                                void *user);
    bool (*can_open)(const struct http_codec *c);
    /* Stop taking new streams: HTTP/2 GOAWAY (first a notice with 2^31-1), HTTP/1 Connection: close
     * on the next response. */
    void (*drain)(struct http_codec *c);
    /* Tell the codec that n bytes of `out` were written (watermarks, queued counts). */
    void (*wrote)(struct http_codec *c, size_t n);
    void (*free)(struct http_codec *c); /* not from inside a callback of it: loop_defer */
};

/* An answer that the codec made and queued by itself. Lives as long as the codec. */
struct http_answer {
    struct arena arena; /* of the head's fields */
    struct http_head head;
    size_t field_bytes; /* of the lines of fields */
    size_t body_bytes;
    size_t wire_bytes; /* all of it */
};

struct http_codec {
    const struct http_codec_ops *ops;
    const struct http_codec_events *ev;
    void *user;
    struct buf out; /* the glue writes from here, then calls ops->wrote */
    enum http_codec_state state;
    enum http_protocol protocol;
    bool server;
    bool switched;        /* HTTP/1: after 101 or CONNECT 2xx, bytes only */
    bool want_read;       /* false: paused; the glue leaves bytes in the socket */
    bool shut_write;      /* switched, and our half ended: conn_shutdown_write once `out` is
                             written; the other half may go on */
    uint32_t streams;     /* active */
    uint32_t max_streams; /* client: what the peer allows now (HTTP/1: 1) */
    uint64_t streams_total;
    const char *error_text;     /* static, "http1.codec_error" style, as in response code details */
    const char *error_reason;   /* static, the cause in words, for logs; NULL when there is none */
    struct http_answer *answer; /* HTTP/1 server: what was answered for it; NULL: nothing */
    /* Set by the glue of a server, or NULL: adds fields to the head of an answer that the codec
     * makes itself, since no stream's user could. */
    void (*error_fields)(void *user, struct http_headers *to);
    uint64_t (*now_ms)(void *user); /* set by the glue; rates of abuse counters */
    struct http_codec_stats *stats; /* shared counters, may be NULL */
};

/* Counters by cause, incremented by codecs, read by the owner's stats (names as Envoy's
 * http1.* / http2.*). Plain integers: one set a worker. */
#define HTTP_CODEC_COUNTERS(X)                                                                     \
    X(dropped_headers_with_underscores)                                                            \
    X(metadata_not_supported_error)                                                                \
    X(requests_rejected_with_underscores_in_headers)                                               \
    X(response_flood)                                                                              \
    X(header_overflow)                                                                             \
    X(headers_cb_no_stream)                                                                        \
    X(inbound_empty_frames_flood)                                                                  \
    X(inbound_priority_frames_flood)                                                               \
    X(inbound_window_update_frames_flood)                                                          \
    X(keepalive_timeout)                                                                           \
    X(outbound_control_flood)                                                                      \
    X(outbound_flood)                                                                              \
    X(premature_resets)                                                                            \
    X(rx_messaging_error)                                                                          \
    X(rx_reset)                                                                                    \
    X(stream_refused_errors)                                                                       \
    X(trailers)                                                                                    \
    X(tx_reset)                                                                                    \
    X(goaway_sent)                                                                                 \
    X(too_many_headers)                                                                            \
    X(framing_error)                                                                               \
    X(invalid_header)                                                                              \
    X(smuggling_rejected)

struct http_codec_stats {
#define X(name) uint64_t name;
    HTTP_CODEC_COUNTERS(X)
#undef X
};

#endif
