/* Header blocks: HEADERS and CONTINUATION (6.2, 6.10), and what follows when one is whole. */
#include "h2/h2_session.h"

#define MAX_INFOS 100 /* 1xx responses of one request (attack case 42) */

/* ---- where the block belongs ---- */

/* A client's new id passes over others: they are closed for ever (5.1.1). */
static void note_new_id(struct h2_session *h, uint32_t id)
{
    uint32_t next = h->last_id ? h->last_id + 2 : 1;
    if (id > next) {
        h->skipped[h->skips % H2_SKIPPED].from = next;
        h->skipped[h->skips % H2_SKIPPED].to = id - 2;
        h->skips++;
    }
    h->last_id = id;
}

static void block_into(struct h2_session *h, struct h2_stream *s, enum h2_block_kind kind)
{
    h->block.kind = kind;
    h->block.stream = s;
    h->block.head = arena_new(s->s.arena, struct http_head);
    http_head_init(h->block.head, s->s.arena);
}

static int begin_on_closed(struct h2_session *h, uint32_t id)
{
    if (h2_was_reset(h, id))
        return 0; /* it may not have known; only decoded */
    H2_COUNT(h, headers_cb_no_stream);
    if (h2_was_skipped(h, id))
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.stream_id_order");
    return h2_conn_error(h, H2_STREAM_CLOSED, "http2.headers_on_closed");
}

/* HEADERS on a stream that is open. */
static int begin_on_stream(struct h2_session *h, struct h2_stream *s)
{
    if (!s->s.recv_end) {
        block_into(h, s, h->c.server || s->head_done ? H2_BLOCK_TRAILERS : H2_BLOCK_RESPONSE);
        return 0;
    }
    H2_COUNT(h, rx_messaging_error);
    int r = h2_check_resets(h, s, true);
    if (r)
        return r;
    h2_stream_error(h, s, H2_STREAM_CLOSED, HTTP_RESET_PROTOCOL, "http2.headers_after_end");
    return h->error;
}

static int begin_request(struct h2_session *h, uint32_t id)
{
    if ((id & 1) == 0)
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.stream_id");
    if (id <= h->last_id)
        return begin_on_closed(h, id);
    note_new_id(h, id);
    if (h->final_sent) {
        h2_remember_reset(h, id); /* above the id of our GOAWAY: silently dropped (6.8) */
        return 0;
    }
    if (h->c.streams >= h->lim.max_concurrent_streams) {
        h->block.refuse = true;
        return 0;
    }
    struct h2_stream *s = h2_stream_new(h);
    h2_stream_insert(h, s, id);
    block_into(h, s, H2_BLOCK_REQUEST);
    return 0;
}

static int block_begin(struct h2_session *h)
{
    struct h2_block_in *b = &h->block;
    uint32_t id = h->f.id;
    *b = (struct h2_block_in){
        .kind = H2_BLOCK_IGNORE, .id = id, .end_stream = h->f.flags & H2_F_END_STREAM};
    struct h2_stream *s = h2_stream_find(h, id);
    if (s)
        return begin_on_stream(h, s);
    if (h->c.server)
        return begin_request(h, id);
    if (h2_is_idle(h, id))
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.headers_on_idle");
    return begin_on_closed(h, id);
}

/* ---- decoding ---- */

static int compression_error(struct h2_session *h)
{
    H2_COUNT(h, framing_error);
    return h2_conn_error(h, H2_COMPRESSION_ERROR, "http2.compression");
}

/* A field that is cut waits in `rest`. It is tried again at the block's end or when twice as much
 * is there, so that a field sent in tiny pieces is not copied again for each of them. */
static int block_bytes(struct h2_session *h, const uint8_t *p, uint32_t n, bool last)
{
    struct h2_block_in *b = &h->block;
    if (b->rest.len + n > 2 * (uint64_t)h->lim.max_head_bytes + H2_DEFAULT_FRAME) {
        H2_COUNT(h, header_overflow);
        return h2_conn_error(h, H2_ENHANCE_YOUR_CALM, "http2.header_overflow");
    }
    if (b->rest.len == 0) {
        ssize_t used = hpack_decode(&h->dec, p, n, last, h2_on_field, h);
        if (used < 0)
            return compression_error(h);
        buf_append(&b->rest, p + used, n - (size_t)used);
        b->tried = (uint32_t)b->rest.len;
        return 0;
    }
    buf_append(&b->rest, p, n);
    if (!last && b->rest.len < 2 * (size_t)b->tried)
        return 0;
    sv all = buf_pullup(&b->rest, b->rest.len);
    ssize_t used = hpack_decode(&h->dec, (const uint8_t *)all.p, all.n, last, h2_on_field, h);
    if (used < 0)
        return compression_error(h);
    buf_drain(&b->rest, (size_t)used);
    b->tried = (uint32_t)b->rest.len;
    return 0;
}

/* ---- the block is whole ---- */

/* 431 and the end of the stream, for a head past the limits (RFC 6585 5). */
static void reply_too_large(struct h2_session *h, struct h2_stream *s)
{
    const sv text = SV("Request Header Fields Too Large");
    struct http_head m;
    struct buf body;
    http_head_init(&m, s->s.arena);
    m.status = 431;
    http_headers_add_id(&m.h, HTTP_H_CONTENT_LENGTH, arena_printf(s->s.arena, "%zu", text.n));
    http_headers_add_id(&m.h, HTTP_H_CONTENT_TYPE, SV("text/plain"));
    if (h->c.error_fields)
        h->c.error_fields(h->c.user, &m.h);
    buf_init(&body);
    buf_append_sv(&body, text);
    s->s.recv_end = h->block.end_stream;
    s->s.ops->send_head(&s->s, &m, false);
    s->s.ops->send_data(&s->s, &body, true);
    buf_reset(&body);
    h2_stream_error(h, s, H2_NO_ERROR, HTTP_RESET_OVERFLOW, "http2.header_overflow");
}

/* The stream cannot go on: what came on it is malformed or too large. */
static int block_bad(struct h2_session *h, struct h2_stream *s, const char *details)
{
    const struct h2_block_in *b = &h->block;
    H2_COUNT(h, rx_messaging_error);
    int r = h2_check_resets(h, s, true);
    if (r)
        return r;
    if (b->over_limit && b->kind == H2_BLOCK_REQUEST)
        reply_too_large(h, s);
    else if (b->over_limit)
        h2_stream_error(h, s, h->c.server ? H2_ENHANCE_YOUR_CALM : H2_CANCEL, HTTP_RESET_OVERFLOW,
                        b->fields > h->lim.max_headers ? "http2.too_many_headers"
                                                       : "http2.header_overflow");
    else
        h2_stream_error(h, s, H2_PROTOCOL_ERROR, HTTP_RESET_PROTOCOL, details);
    return h->error;
}

static void deliver_head(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    bool end = h->block.end_stream;
    s->head_done = true;
    s->s.recv_end = end;
    if (s->s.ev && s->s.ev->on_head)
        s->s.ev->on_head(s->s.user, m, end);
    h2_stream_check_end(h, s);
}

static int deliver_request(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    bool taken = h->c.ev->on_stream && h->c.ev->on_stream(h->c.user, &s->s);
    if (taken) {
        s->known = true;
        if (!s->closed)
            deliver_head(h, s, m);
        return h->error;
    }
    H2_COUNT(h, stream_refused_errors);
    h2_stream_error(h, s, H2_REFUSED_STREAM, HTTP_RESET_LOCAL, "http2.refused");
    return h->error;
}

static int deliver_response(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    if (m->status >= 200 || m->upgrade) {
        deliver_head(h, s, m);
        return h->error;
    }
    if (++s->infos > MAX_INFOS) {
        h2_stream_error(h, s, H2_ENHANCE_YOUR_CALM, HTTP_RESET_OVERFLOW, "http2.too_many_1xx");
        return h->error;
    }
    if (s->s.ev && s->s.ev->on_info)
        s->s.ev->on_info(s->s.user, m);
    return h->error;
}

static int deliver_trailers(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    H2_COUNT(h, trailers);
    s->s.recv_end = true;
    if (s->s.ev && s->s.ev->on_trailers)
        s->s.ev->on_trailers(s->s.user, &m->h);
    h2_stream_check_end(h, s);
    return h->error;
}

static int block_refused(struct h2_session *h)
{
    H2_COUNT(h, stream_refused_errors);
    /* Before the peer has taken our SETTINGS it cannot know the limit. */
    int r = h->settings_acked ? h2_check_resets(h, NULL, true) : 0;
    if (r)
        return r;
    h2_remember_reset(h, h->block.id);
    h2_reset_unknown(h, h->block.id, H2_REFUSED_STREAM);
    return h->error;
}

static int block_end(struct h2_session *h)
{
    struct h2_block_in *b = &h->block;
    struct h2_stream *s = b->stream;
    struct http_head *m = b->head;
    b->open = false;
    b->stream = NULL;
    buf_reset(&b->rest);
    if (!s)
        return b->refuse ? block_refused(h) : 0;
    s->s.head_plain_in += b->bytes;
    const char *bad = b->malformed;
    if (!bad && !b->over_limit) {
        if (b->kind == H2_BLOCK_REQUEST)
            bad = h2_check_request(h, s, m);
        else if (b->kind == H2_BLOCK_RESPONSE)
            bad = h2_check_response(h, s, m);
        else if (!b->end_stream)
            bad = "http2.trailers_without_end";
        else if (s->content_left > 0)
            bad = "http2.content_length_mismatch";
    }
    if (bad || b->over_limit)
        return block_bad(h, s, bad);
    switch (b->kind) {
    case H2_BLOCK_REQUEST:
        return deliver_request(h, s, m);
    case H2_BLOCK_RESPONSE:
        return deliver_response(h, s, m);
    default:
        return deliver_trailers(h, s, m);
    }
}

/* ---- frames ---- */

/* Cuts padding and priority off a HEADERS payload. */
static int headers_payload(struct h2_session *h, const uint8_t **p, uint32_t *n, bool *self_dep)
{
    uint32_t pad = 0,
             fixed = (h->f.flags & H2_F_PADDED ? 1 : 0) + (h->f.flags & H2_F_PRIORITY ? 5 : 0);
    if (*n < fixed)
        return h2_conn_error(h, H2_FRAME_SIZE_ERROR, "http2.frame_size");
    if (h->f.flags & H2_F_PADDED)
        pad = (*p)[0];
    if (h->f.flags & H2_F_PRIORITY)
        *self_dep = (h2_get32(*p + fixed - 5) & H2_MAX_STREAM) == h->f.id;
    if (pad > *n - fixed)
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.padding");
    *p += fixed;
    *n -= fixed + pad;
    return 0;
}

static void count_head_in(struct h2_stream *s, uint32_t n)
{
    s->s.head_bytes_in += n;
    s->s.wire_bytes_in += n;
}

int h2_on_block_frame(struct h2_session *h, const uint8_t *p, uint32_t n)
{
    struct h2_block_in *b = &h->block;
    bool last = h->f.flags & H2_F_END_HEADERS, self_dep = false;
    int r = 0;
    if (h->f.type == H2_HEADERS) {
        r = headers_payload(h, &p, &n, &self_dep);
        if (!r)
            r = block_begin(h);
        if (!r && self_dep && b->stream) {
            b->malformed = "http2.invalid_priority";
            b->drop = true;
        }
    } else if (++b->frames > h->lim.max_continuations) {
        H2_COUNT(h, header_overflow);
        r = h2_conn_error(h, H2_ENHANCE_YOUR_CALM, "http2.too_many_continuations");
    }
    if (r)
        return r;
    bool counts = h->f.type == H2_CONTINUATION || !b->end_stream;
    r = h2_check_empty(h, n == 0 && counts);
    if (r)
        return r;
    if (b->stream)
        count_head_in(b->stream, H2_FRAME_HEADER + h->f.length);
    b->open = !last;
    r = block_bytes(h, p, n, last);
    if (r)
        return r;
    return last ? block_end(h) : 0;
}
