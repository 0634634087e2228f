/* The codec's state, shared by h1_codec.c (life), h1_recv.c (feed) and h1_send.c (stream ops).
 *
 *   received half  rx:  HEAD -> { LENGTH | CHUNKED -> TRAILERS | CLOSE } -> DONE
 *                       HEAD -> HOLD (upgrade asked for) -> { RAW | DONE }
 *   sent half      tx:  HEAD -> { NONE | LENGTH | CHUNKED | CLOSE | RAW } -> DONE
 *                       HEAD -> HOLD (client's upgrade) -> { RAW | DONE }
 *
 * A stream is over when both halves ended or `over` is set; h1_settle() then closes it, which
 * happens only when no callback and no op is on the stack (depth). */
#ifndef WEFT_H1_H1_INT_H
#define WEFT_H1_H1_INT_H

#include "h1/h1.h"
#include "h1/h1_parse.h"

enum h1_rx { RX_HEAD, RX_LENGTH, RX_CHUNKED, RX_TRAILERS, RX_CLOSE, RX_RAW, RX_HOLD, RX_DONE };
enum h1_tx { TX_HEAD, TX_NONE, TX_LENGTH, TX_CHUNKED, TX_CLOSE, TX_RAW, TX_HOLD, TX_DONE };

struct h1_stream {
    struct http_stream s;
    struct http_head head; /* the received one */
    struct http_headers trailers;
    struct buf held; /* client: what was sent before an upgrade was confirmed */
    uint32_t pauses;
    bool over;      /* nothing more happens but on_close */
    bool head_sent; /* the final one */
    bool connect, upgrade, head_request;
    bool expect; /* 100-continue was asked for and neither 100 nor body was seen */
    bool http10; /* the peer's version */
};

struct h1 {
    struct http_codec c;
    struct h1_stream *s; /* lives in `arena`; NULL when idle */
    struct arena arena;  /* of the stream; its user may take it over in on_close */
    struct h1_limits l;
    struct h1_chunk chunk;
    uint64_t rx_left, tx_left; /* of bodies with a length */
    uint32_t scanned;          /* bytes of an unfinished head that hold no end */
    uint8_t rx, tx;
    uint8_t depth;    /* entries and callbacks on the stack */
    uint8_t blanks;   /* empty lines before this request */
    uint8_t infos;    /* 1xx heads of this response */
    bool close_after; /* the connection ends with this stream */
    bool junk;        /* client: bytes came that belong to no response */
    bool above;       /* over the high watermark */
};

static inline struct h1 *h1_of(struct http_codec *c)
{
    return (struct h1 *)c;
}
static inline struct h1_stream *h1_stream_of(struct http_stream *s)
{
    return (struct h1_stream *)s;
}

/* A stream in a fresh arena. */
struct h1_stream *h1_stream_new(struct h1 *h);
/* Drops a stream nobody was told about. */
void h1_stream_drop(struct h1 *h);
/* Tells the user of a reset, once. on_close follows in h1_settle. */
void h1_kill(struct h1 *h, enum http_reset why, const char *details);
/* Closes the stream if it is over. `unread`: input that was not consumed. */
void h1_settle(struct h1 *h, size_t unread);
/* A failure of the peer: answer (server), kill the stream, set the codec's state. Returns
 * err->code. */
int h1_peer_error(struct h1 *h, const struct h1_error *err);
/* Queues an answer of the codec's own (c.answer, which this makes: at most once) and ends the
 * connection. */
void h1_answer(struct h1 *h, unsigned status);
void h1_answer_free(struct h1 *h);
void h1_set_state(struct h1 *h, enum http_codec_state st); /* only ever forwards */
void h1_update_want(struct h1 *h);
/* Asks the glue to come back (after ops). */
void h1_poke(struct h1 *h);
/* The received half ended. */
void h1_recv_ended(struct h1 *h);

int h1_feed(struct http_codec *c, struct buf *in);
void h1_feed_eof(struct http_codec *c);

extern const struct http_stream_ops h1_server_stream_ops, h1_client_stream_ops;
/* Bytes queued for the connection. */
size_t h1_queued(const struct h1 *h);
/* Watermarks after a change of what is queued. */
void h1_watermarks(struct h1 *h);
/* Client: the answer to an upgrade or CONNECT came. */
void h1_send_switched(struct h1 *h);
void h1_send_refused(struct h1 *h);

#endif
