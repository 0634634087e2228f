/* The received half: bytes to events. */
#include "h1/h1_int.h"
#include "base/code.h"

/* Heads up to this size are copied into the stream's arena, so that a stream that lives long does
 * not pin a whole read block; bigger ones keep their block. */
#define COPY_MAX   2048
#define BLANKS_MAX 4  /* empty lines tolerated before a request (RFC 9112 2.2) */
#define INFOS_MAX  20 /* 1xx responses before the final one (attack case 42) */

#define WAIT 1 /* more bytes are needed, or the state forbids to go on */

static const struct h1_error head_overflow = {E_LIMIT, "http1.headers_too_large",
                                              "head is too large", 431};

/* Most bytes a head may have on the wire: what it may have decoded, and the syntax around it. */
static size_t wire_max(const struct h1 *h)
{
    return (size_t)h->l.max_head_bytes + 8 * (size_t)h->l.max_headers + 1024;
}

/* ---- a head or trailer section that may still be incomplete ---- */

typedef int (*parse_fn)(struct h1 *h, sv v, struct buf *in, struct h1_error *err);

static int more_head(struct h1 *h, sv v)
{
    if (v.n >= wire_max(h)) {
        if (h->c.stats)
            h->c.stats->header_overflow++;
        return h1_peer_error(h, &head_overflow);
    }
    h->scanned = (uint32_t)v.n;
    return WAIT;
}

/* Tries the first slice as it is (the usual case: one read brings the whole head), then all that
 * is there; after that only looks for an empty line before parsing again. */
HOT static int try_head(struct h1 *h, struct buf *in, parse_fn parse)
{
    struct h1_error err = {0};
    sv v = buf_front(in);
    if (h->scanned) {
        size_t from = h->scanned > 2 ? h->scanned - 2 : 0;
        v = buf_pullup(in, in->len < wire_max(h) ? in->len : wire_max(h));
        if (!h1_find_end(v, from))
            return more_head(h, v);
    }
    int rc = parse(h, v, in, &err);
    if (rc == E_AGAIN && v.n < in->len && v.n < wire_max(h)) {
        v = buf_pullup(in, in->len < wire_max(h) ? in->len : wire_max(h));
        rc = parse(h, v, in, &err);
    }
    if (rc == E_AGAIN)
        return more_head(h, v);
    h->scanned = 0;
    return rc < 0 ? h1_peer_error(h, &err) : rc;
}

static void unref_block(void *blk)
{
    buf_block_unref(blk);
}

/* Takes the head's bytes out of `in` and makes the views of m outlive them. */
HOT static void keep_head(struct h1 *h, struct buf *in, struct http_head *m, size_t n)
{
    sv v = buf_front(in);
    if (n <= COPY_MAX) {
        char *copy = arena_alloc(&h->arena, n);
        memcpy(copy, v.p, n);
        h1_head_relocate(m, v.p, n, copy);
    } else {
        struct buf_block *blk = buf_front_block(in);
        if (blk)
            arena_on_free(&h->arena, unref_block, blk);
    }
    buf_drain(in, n);
}

/* As Envoy counts: without the first line, and of ": " and the line's end three bytes. */
static void count_head(struct h1_stream *s, const struct h1_head_info *info)
{
    s->s.head_bytes_in += (uint32_t)(info->bytes - info->first_line - 2 - info->fields);
    s->s.wire_bytes_in += info->bytes;
}

HOT static void set_body(struct h1 *h, const struct h1_head_info *info)
{
    switch (info->body) {
    case H1_BODY_NONE:
        h1_recv_ended(h);
        break;
    case H1_BODY_LENGTH:
        h->rx = RX_LENGTH;
        h->rx_left = info->length;
        break;
    case H1_BODY_CHUNKED:
        h->rx = RX_CHUNKED;
        h1_chunk_init(&h->chunk);
        break;
    case H1_BODY_CLOSE:
        h->rx = RX_CLOSE;
        h->close_after = true;
        break;
    }
}

/* ---- server: a request ---- */

static int begin_request(struct h1 *h, const struct h1_head_info *info)
{
    struct h1_stream *s = h->s;
    struct http_head *m = &s->head;
    s->connect = sv_eq(m->method, SV("CONNECT"));
    s->head_request = sv_eq(m->method, SV("HEAD"));
    s->upgrade = m->upgrade;
    s->http10 = m->protocol == HTTP_10;
    s->expect = info->expect_continue && info->body != H1_BODY_NONE && !s->http10;
    s->s.id = (uint32_t)++h->c.streams_total;
    h->c.streams = 1;
    h->c.protocol = m->protocol;
    h->close_after = info->close;
    if (s->connect || s->upgrade)
        h->rx = RX_HOLD;
    else
        set_body(h, info);
    if (!h->c.ev->on_stream || !h->c.ev->on_stream(h->c.user, &s->s)) {
        s->over = true;
        s->s.ev = NULL;
        h1_answer(h, 503);
        return 0;
    }
    if (!s->over && s->s.ev && s->s.ev->on_head)
        s->s.ev->on_head(s->s.user, m, s->s.recv_end);
    return 0;
}

HOT static int parse_request(struct h1 *h, sv v, struct buf *in, struct h1_error *err)
{
    struct h1_head_info info;
    struct h1_stream *s = h1_stream_new(h);
    int rc = h1_parse_request(v, &h->l, h->c.stats, &s->head, &info, err);
    if (rc) {
        h1_stream_drop(h);
        return rc;
    }
    keep_head(h, in, &s->head, info.bytes);
    count_head(s, &info);
    return begin_request(h, &info);
}

static int skip_blanks(struct h1 *h, struct buf *in)
{
    static const struct h1_error bad = {E_PROTOCOL, "http1.codec_error",
                                        "a request does not begin with a method", 400};
    while (in->len) {
        char two[2];
        size_t n = buf_peek(in, 0, two, 2);
        if (two[0] != '\r' && two[0] != '\n')
            return 0;
        if (two[0] == '\r' && n < 2)
            return WAIT;
        if (two[0] == '\n' || two[1] != '\n' || ++h->blanks > BLANKS_MAX)
            return h1_peer_error(h, &bad);
        buf_drain(in, 2);
    }
    return WAIT;
}

static int feed_request(struct h1 *h, struct buf *in)
{
    if (h->c.out.len > h->l.high_watermark)
        return WAIT;
    if (!h->scanned) {
        int rc = skip_blanks(h, in);
        if (rc)
            return rc;
    }
    return try_head(h, in, parse_request);
}

/* ---- client: a response ---- */

static int info_response(struct h1 *h, struct http_head *m, struct h1_error *err)
{
    struct h1_stream *s = h->s;
    if (++h->infos > INFOS_MAX) {
        *err = (struct h1_error){E_PROTOCOL, "http1.codec_error", "too many 1xx responses", 502};
        return err->code;
    }
    if (s->s.ev->on_info)
        s->s.ev->on_info(s->s.user, m);
    return 0;
}

static int final_response(struct h1 *h, struct http_head *m, struct h1_head_info *info,
                          struct h1_error *err)
{
    struct h1_stream *s = h->s;
    bool switching = (m->status == 101 && s->upgrade) || (m->status / 100 == 2 && s->connect);
    if (m->status == 101 && !s->upgrade) {
        *err = (struct h1_error){E_PROTOCOL, "http1.codec_error",
                                 "101 without an upgrade being asked for", 502};
        return err->code;
    }
    s->head = *m;
    h->close_after |= info->close || !s->head_sent;
    if (switching) {
        h->rx = RX_RAW;
        h1_send_switched(h);
    } else {
        h1_response_body(m, s->head_request, info);
        set_body(h, info);
        if (s->connect || s->upgrade)
            h1_send_refused(h);
    }
    if (h->close_after && !switching && h->c.ev->on_goaway)
        h->c.ev->on_goaway(h->c.user);
    if (!s->over && s->s.ev->on_head)
        s->s.ev->on_head(s->s.user, &s->head, s->s.recv_end);
    return 0;
}

HOT static int parse_response(struct h1 *h, sv v, struct buf *in, struct h1_error *err)
{
    struct h1_head_info info;
    struct http_head *m = arena_alloc(&h->arena, sizeof(*m));
    http_head_init(m, &h->arena);
    m->h.spelled = h->l.spelling == HTTP_SPELLING_KEPT;
    int rc = h1_parse_response(v, &h->l, h->c.stats, m, &info, err);
    if (rc)
        return rc;
    keep_head(h, in, m, info.bytes);
    count_head(h->s, &info);
    h->c.protocol = m->protocol;
    if (m->status < 200 && m->status != 101)
        return info_response(h, m, err);
    return final_response(h, m, &info, err);
}

/* ---- bodies ---- */

HOT static void deliver(struct h1 *h, struct buf *data, bool end)
{
    struct h1_stream *s = h->s;
    s->s.body_bytes_in += data->len;
    if (end)
        h1_recv_ended(h);
    if (!s->over && s->s.ev && s->s.ev->on_data && (data->len || end))
        s->s.ev->on_data(s->s.user, data, end);
    buf_reset(data);
}

static int feed_length(struct h1 *h, struct buf *in)
{
    struct buf data;
    buf_init(&data);
    size_t n = h->rx_left < in->len ? (size_t)h->rx_left : in->len;
    buf_move_n(&data, in, n);
    h->rx_left -= n;
    h->s->s.wire_bytes_in += n;
    deliver(h, &data, h->rx_left == 0);
    return 0;
}

static int feed_all(struct h1 *h, struct buf *in)
{
    struct buf data;
    buf_init(&data);
    buf_move(&data, in);
    h->s->s.wire_bytes_in += data.len;
    deliver(h, &data, false);
    return 0;
}

static int parse_trailers(struct h1 *h, sv v, struct buf *in, struct h1_error *err)
{
    struct h1_stream *s = h->s;
    size_t n;
    http_headers_init(&s->trailers, &h->arena);
    s->trailers.spelled = h->l.spelling == HTTP_SPELLING_KEPT;
    int rc = h1_parse_trailers(v, &h->l, h->c.stats, &s->trailers, &n, err);
    if (rc)
        return rc;
    struct http_head m;
    http_head_init(&m, &h->arena);
    m.h = s->trailers;
    keep_head(h, in, &m, n);
    s->s.wire_bytes_in += n;
    if (!h->l.enable_trailers || s->trailers.n == 0) {
        struct buf none;
        buf_init(&none);
        deliver(h, &none, true);
        return 0;
    }
    if (h->c.stats)
        h->c.stats->trailers++;
    h1_recv_ended(h);
    if (!s->over && s->s.ev && s->s.ev->on_trailers)
        s->s.ev->on_trailers(s->s.user, &s->trailers);
    return 0;
}

static int feed_trailers(struct h1 *h, struct buf *in)
{
    /* An empty line at the very front has no line end before it to be found by. */
    char first;
    if (in->len < 2 && buf_peek(in, 0, &first, 1) && first == '\r')
        return WAIT;
    return try_head(h, in, parse_trailers);
}

static int feed_chunked(struct h1 *h, struct buf *in)
{
    struct h1_stream *s = h->s;
    struct h1_error err;
    struct buf data;
    buf_init(&data);
    size_t before = in->len;
    enum h1_chunk_result r = h1_chunk_feed(&h->chunk, in, &data, h->l.max_chunk_ext_bytes, &err);
    s->s.wire_bytes_in += before - in->len;
    if (r == H1_CHUNK_ERROR) {
        buf_reset(&data);
        if (h->c.stats)
            h->c.stats->framing_error++;
        return h1_peer_error(h, &err);
    }
    bool end = false;
    if (r == H1_CHUNK_END) {
        char crlf[2];
        h->rx = RX_TRAILERS;
        end = buf_peek(in, 0, crlf, 2) == 2 && memcmp(crlf, "\r\n", 2) == 0;
        if (end) {
            buf_drain(in, 2);
            s->s.wire_bytes_in += 2;
        }
    }
    deliver(h, &data, end);
    return 0;
}

/* ---- the entry ---- */

static int feed_stream(struct h1 *h, struct buf *in)
{
    if (h->s->pauses)
        return WAIT;
    switch (h->rx) {
    case RX_HEAD:
        return try_head(h, in, parse_response);
    case RX_LENGTH:
        h->s->expect = false;
        return feed_length(h, in);
    case RX_CHUNKED:
        h->s->expect = false;
        return feed_chunked(h, in);
    case RX_TRAILERS:
        return feed_trailers(h, in);
    case RX_CLOSE:
    case RX_RAW:
        return feed_all(h, in);
    case RX_HOLD:
        return WAIT;
    default: /* RX_DONE: a server's next request waits; a client's peer talks out of turn */
        if (h->c.server)
            return WAIT;
        h->junk = true;
        buf_reset(in);
        return 0;
    }
}

static int feed_idle(struct h1 *h, struct buf *in)
{
    static const struct h1_error junk = {E_PROTOCOL, "http1.codec_error",
                                         "bytes from the server without a request", 502};
    if (h->c.server)
        return feed_request(h, in);
    h->junk = true;
    buf_reset(in);
    return h1_peer_error(h, &junk);
}

HOT int h1_feed(struct http_codec *c, struct buf *in)
{
    struct h1 *h = h1_of(c);
    int rc = 0;
    if (h->depth)
        return 0;
    h1_settle(h, in->len);
    while (rc == 0 && in->len && c->state < HTTP_CODEC_FLUSH) {
        h->depth++;
        rc = h->s ? feed_stream(h, in) : feed_idle(h, in);
        h->depth--;
        h1_settle(h, in->len);
    }
    if (c->state >= HTTP_CODEC_FLUSH)
        buf_reset(in);
    h1_update_want(h);
    if (c->out.len && c->state == HTTP_CODEC_FLUSH && c->ev->on_output)
        c->ev->on_output(c->user);
    return rc < 0 ? rc : 0;
}

void h1_feed_eof(struct http_codec *c)
{
    struct h1 *h = h1_of(c);
    struct buf none;
    buf_init(&none);
    if (h->depth)
        return;
    h1_settle(h, 0);
    if (!h->s) {
        h1_set_state(h, c->out.len ? HTTP_CODEC_FLUSH : HTTP_CODEC_DEAD);
        h1_update_want(h);
        return;
    }
    h->depth++;
    if (h->rx == RX_CLOSE || h->rx == RX_RAW) {
        h->close_after = true;
        deliver(h, &none, true);
    } else if (!(h->rx == RX_DONE && c->switched)) {
        /* A client that has its whole response only loses the wish to send the rest. */
        bool served = !c->server && h->rx == RX_DONE;
        if (!c->server && !served && h->rx != RX_HEAD && !c->error_text) {
            c->error_text = "http1.codec_error";
            c->error_reason = "closed inside a response";
        }
        h1_set_state(h, HTTP_CODEC_DEAD);
        h1_kill(h, served ? HTTP_RESET_NO_ERROR : HTTP_RESET_CONN_TERMINATION,
                c->server ? "downstream_remote_disconnect" : "connection_termination");
    }
    h->depth--;
    h1_settle(h, 0);
    h1_update_want(h);
}
