/* Inside of the HTTP/2 session; nothing outside src/h2 includes this.
 *
 * Files: h2_session.c  life, entering and leaving, errors, drain, ping
 *        h2_recv.c     bytes -> frames, DATA            h2_control.c  the other frames
 *        h2_head.c     header blocks -> http_head       h2_stream.c   streams: table, end, reset
 *        h2_send.c     heads, DATA, round robin         h2_abuse.c    what a peer may not do
 *
 * Reentrancy. Every entry (feed, wrote, stream ops, ...) stands between h2_enter and h2_leave.
 * Events run inside; they may call any op. Streams that ended wait in `dead`: on_close and the end
 * of their memory come only where the glue calls (feed between frames, wrote, feed_eof, fail,
 * free), never from inside an op, so a pointer to a stream stays valid within one entry and its
 * user's turn: look at s->closed after each event. on_output makes the glue come back for them.
 *
 * Windows. peer_window is the peer's SETTINGS_INITIAL_WINDOW_SIZE; a stream keeps only the
 * difference `send_credit`, so a change of the setting costs nothing per stream:
 *   what may be sent on a stream = h->peer_window + s->send_credit (may be negative, 6.9.2)
 * Thread: worker (owning loop). */
#ifndef WEFT_H2_H2_SESSION_H
#define WEFT_H2_H2_SESSION_H

#include "h2/h2.h"
#include "h2/h2_frame.h"
#include "h2/hpack.h"

struct h2_stream {
    struct http_stream s; /* first: the address is the http_stream's */
    struct arena arena;   /* may be taken over by the user in on_close; s itself is not in it */
    struct list all;      /* h->all */
    struct list work;     /* h->ready while it may send; h->dead once closed */
    struct buf pending;   /* body accepted, not framed */
    const struct http_headers *trailers; /* to be sent after pending */
    int64_t send_credit;
    int64_t content_left; /* body bytes still announced by content-length; -1 unknown */
    int32_t recv_window;
    uint32_t recv_used; /* consumed, not yet given back by WINDOW_UPDATE */
    uint32_t held;      /* delivered while paused */
    uint32_t pauses;
    uint32_t infos; /* 1xx responses received */
    uint64_t opened_ms;
    bool known;      /* server: the user has accepted it; client: always */
    bool head_done;  /* the final head was received */
    bool head_sent;  /* the final head was sent */
    bool end_queued; /* END_STREAM follows pending (and trailers) */
    bool high;       /* on_high was told */
    bool no_body;    /* client: no DATA may come (HEAD, 204, 304) */
    bool head_request, connect, upgrade;
    sv upgrade_token; /* client: :protocol of the extended CONNECT */
    bool closed;      /* out of the table, in h->dead */
};

enum h2_rx {
    H2_RX_PREFACE,
    H2_RX_HEADER,  /* 9 bytes */
    H2_RX_PAYLOAD, /* `need` bytes at once, then the frame's handler */
    H2_RX_DATA,    /* data_left bytes to rx_stream (or nobody), then pad */
    H2_RX_SKIP,    /* `left` bytes are dropped */
};

/* The frame that is being received. */
struct h2_frame_in {
    uint32_t length, left, need, id;
    uint8_t type, flags;
    uint32_t data_left;
    struct h2_stream *stream; /* DATA: NULL when it is dropped */
};

enum h2_block_kind { H2_BLOCK_IGNORE, H2_BLOCK_REQUEST, H2_BLOCK_RESPONSE, H2_BLOCK_TRAILERS };

/* The header block that is being received. */
struct h2_block_in {
    enum h2_block_kind kind;
    bool open; /* CONTINUATION must follow */
    bool end_stream, over_limit, refuse;
    bool regular, drop; /* a regular field was seen; nothing is kept any more */
    uint8_t pseudo;     /* 1 << (id - HPACK_AUTHORITY) of what was seen */
    uint32_t id, frames, fields, bytes, crumbs;
    uint32_t tried;        /* bytes of `rest` at the last try to decode them */
    const char *malformed; /* details of the first violation */
    struct h2_stream *stream;
    struct http_head *head; /* what fields go into; trailers: only its h */
    sv host;                /* the Host field, p NULL when there was none */
    struct buf rest;        /* an unfinished field */
};

#define H2_INLINE_SLOTS 8
#define H2_RESET_RING   32
#define H2_SKIPPED      4

struct h2_session {
    struct http_codec c; /* first */
    struct http_limits lim;

    enum h2_rx rx;
    struct h2_frame_in f;
    struct h2_block_in block;
    struct hpack_decoder dec;
    struct hpack_encoder enc;

    /* streams */
    struct h2_stream **slots; /* open addressing by id; inline_slots while few */
    uint32_t slot_mask, in_table;
    struct h2_stream *inline_slots[H2_INLINE_SLOTS];
    struct list all, ready, dead;
    struct list spare; /* free h2_streams, for the next ones; none while idle */
    uint32_t spares;
    uint32_t next_id;                   /* client: of the next stream */
    uint32_t last_id;                   /* highest id the peer (server) or we (client) opened */
    uint32_t reset_ring[H2_RESET_RING]; /* ids we reset: late frames on them are fine */
    uint32_t resets_kept;
    struct {
        uint32_t from, to;
    } skipped[H2_SKIPPED]; /* ids the peer passed over */
    uint32_t skips;

    /* windows */
    int64_t peer_window; /* SETTINGS_INITIAL_WINDOW_SIZE of the peer */
    int64_t max_credit;  /* no stream's send_credit is above this */
    int64_t send_window; /* connection */
    bool window_grew;    /* peer_window did: the next h2_pump looks at all streams */
    int64_t recv_window;
    uint32_t recv_used;
    int32_t my_window; /* initial window of streams that the peer may count on */

    /* settings */
    uint32_t peer_max_frame;
    bool peer_connect; /* the peer takes extended CONNECT */
    bool settings_sent, settings_acked, peer_settings;

    /* ends */
    int error;            /* what feed returns */
    uint32_t goaway_last; /* last id of the GOAWAY received or (server) sent */
    bool goaway_received, notice_sent, final_sent, drain_ping;
    h2_ping_fn ping_fn;
    void *ping_user;

    /* abuse: see h2_abuse.c */
    uint32_t empty_frames;
    uint64_t priority_frames, window_updates, data_sent, opened;
    uint64_t judged; /* streams opened before the time that counts */
    uint32_t premature;
    uint64_t written, mark; /* bytes of out: written so far; end of the older generation */
    uint32_t ctl_old, ctl_new, frames_old, frames_new;

    unsigned depth;
    bool output, idle, telling;
};

static inline struct h2_session *h2_of(const struct http_codec *c)
{
    return (struct h2_session *)(uintptr_t)c;
}
static inline struct h2_stream *h2_stream_of(struct http_stream *s)
{
    return (struct h2_stream *)s;
}
static inline struct h2_session *h2_session_of(const struct h2_stream *s)
{
    return h2_of(s->s.codec);
}
static inline bool h2_alive(const struct h2_session *h)
{
    return h->c.state == HTTP_CODEC_OPEN || h->c.state == HTTP_CODEC_DRAINING;
}
static inline uint64_t h2_now_ms(const struct h2_session *h)
{
    return h->c.now_ms ? h->c.now_ms(h->c.user) : 0;
}
#define H2_COUNT(h, name)                                                                          \
    do {                                                                                           \
        if ((h)->c.stats)                                                                          \
            (h)->c.stats->name++;                                                                  \
    } while (0)

/* ---- h2_session.c ---- */
static inline void h2_enter(struct h2_session *h)
{
    h->depth++;
}
void h2_leave(struct h2_session *h);
/* The same for what the glue calls: also reaps. */
void h2_leave_reap(struct h2_session *h);
/* on_close, and the end of the memory, for what was closed. True when there was any. */
bool h2_reap(struct h2_session *h);
/* Ends the connection: GOAWAY, every stream reset. Returns the code that feed returns. Safe to
 * call again. details: static text. */
int h2_conn_error(struct h2_session *h, enum h2_error code, const char *details);
void h2_send_settings(struct h2_session *h);
/* The PING of the drain was answered, or drain() came a second time. */
void h2_final_goaway(struct h2_session *h);

/* ---- h2_recv.c ---- */
int h2_recv(struct h2_session *h, struct buf *in);
/* n bytes of a stream's DATA (or of nobody's: s NULL) are consumed: they go back to the windows. */
void h2_credit(struct h2_session *h, struct h2_stream *s, uint32_t n);

/* ---- h2_control.c: handlers get the whole payload (GOAWAY: its first 8 bytes) ---- */
int h2_on_settings(struct h2_session *h, const uint8_t *p, uint32_t n);
int h2_on_ping(struct h2_session *h, const uint8_t *p);
int h2_on_rst(struct h2_session *h, const uint8_t *p);
int h2_on_priority(struct h2_session *h, const uint8_t *p);
int h2_on_window_update(struct h2_session *h, const uint8_t *p);
int h2_on_goaway(struct h2_session *h, const uint8_t *p);

/* ---- h2_head.c ---- */
/* HEADERS or CONTINUATION, payload without the frame header. */
int h2_on_block_frame(struct h2_session *h, const uint8_t *p, uint32_t n);

/* ---- h2_fields.c: what a field, and a whole head, may be (8.2, 8.3) ---- */
/* Takes a decoded field into the block's head (hpack_field_fn; user is the session). */
void h2_on_field(void *session, const struct hpack_field *f);
/* Look at the complete head; NULL, or what is malformed about it. */
const char *h2_check_request(struct h2_session *h, struct h2_stream *s, struct http_head *m);
const char *h2_check_response(struct h2_session *h, struct h2_stream *s, struct http_head *m);

/* ---- h2_send.c ---- */
extern const struct http_stream_ops h2_stream_ops;
/* Frames pending DATA of the streams in h->ready while the windows and `out` have room. */
void h2_pump(struct h2_session *h);
/* Puts the stream in h->ready if there is something it may send now. */
void h2_schedule(struct h2_session *h, struct h2_stream *s);

/* ---- h2_stream.c ---- */
struct h2_stream *h2_stream_find(const struct h2_session *h, uint32_t id);
struct h2_stream *h2_stream_new(struct h2_session *h);
void h2_stream_insert(struct h2_session *h, struct h2_stream *s, uint32_t id);
/* Out of the table; on_close and the memory follow when the entry is left. */
void h2_stream_close(struct h2_session *h, struct h2_stream *s);
/* Closes it when both halves have ended. */
void h2_stream_check_end(struct h2_session *h, struct h2_stream *s);
/* RST_STREAM to the peer, on_reset to the user, close. */
void h2_stream_error(struct h2_session *h, struct h2_stream *s, enum h2_error code,
                     enum http_reset why, const char *details);
/* on_reset to the user and close, without a frame. */
void h2_stream_gone(struct h2_session *h, struct h2_stream *s, enum http_reset why,
                    const char *details);
void h2_stream_free(struct h2_session *h, struct h2_stream *s);
/* RST_STREAM for a stream that is not in the table (any more). */
void h2_reset_unknown(struct h2_session *h, uint32_t id, enum h2_error code);
void h2_remember_reset(struct h2_session *h, uint32_t id);
/* True when late frames on the closed stream `id` are to be expected. */
bool h2_was_reset(const struct h2_session *h, uint32_t id);
bool h2_was_skipped(const struct h2_session *h, uint32_t id);
static inline bool h2_is_idle(const struct h2_session *h, uint32_t id)
{
    return id > h->last_id || (id & 1) == 0;
}
void h2_streams_fini(struct h2_session *h); /* the table and spares; no stream is left */

/* ---- h2_abuse.c: each returns 0, or ends the connection and returns its error ---- */
int h2_count_control_out(struct h2_session *h); /* after writing a PING or SETTINGS ACK, RST */
int h2_count_frame_out(struct h2_session *h);   /* any frame */
void h2_count_written(struct h2_session *h, size_t n);
int h2_check_empty(struct h2_session *h, bool empty);
int h2_check_priority(struct h2_session *h);
int h2_check_window_updates(struct h2_session *h);
/* A stream of the peer ended by a reset; fault: the peer made us send it. */
int h2_check_resets(struct h2_session *h, const struct h2_stream *s, bool fault);

/* How a reset of the user reads on the wire, and one of the peer to the user. */
enum h2_error h2_code_of(const struct h2_session *h, const struct h2_stream *s, enum http_reset r);
enum http_reset h2_reason_of(const struct h2_stream *s, uint32_t code);

#endif
