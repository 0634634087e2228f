/* Heads, bodies and trailers out. Heads are encoded straight into `out`. Bodies wait per stream;
 * h2_pump frames them, one frame a stream in turn, while the windows allow it and `out` is short:
 * what is in `out` cannot be overtaken any more, so a new response does not wait behind megabytes
 * of another. */
#include "h2/h2_session.h"

#include <stdlib.h>
#include "base/mem.h"

#define OUT_MAX  (128 * 1024) /* framed body bytes waiting in `out` */
#define COPY_MAX 1024         /* shorter bodies are copied: cheaper than a slice of their own */

/* ---- header blocks ---- */

struct pseudo {
    unsigned id;
    sv value;
};

/* Fields that HTTP/2 does not carry (8.2.2), or that travel as pseudo fields. */
static bool carried(const struct http_header *e)
{
    switch (e->id) {
    case HTTP_H_CONNECTION:
    case HTTP_H_KEEP_ALIVE:
    case HTTP_H_PROXY_CONNECTION:
    case HTTP_H_TRANSFER_ENCODING:
    case HTTP_H_UPGRADE:
    case HTTP_H_HTTP2_SETTINGS:
    case HTTP_H_HOST:
        return false;
    case HTTP_H_TE:
        return sv_eq_icase(e->value, SV("trailers"));
    default:
        return true;
    }
}

static sv pseudo_name(unsigned id)
{
    static const sv names[] = {SV_INIT(":authority"), SV_INIT(":method"), SV_INIT(":path"),
                               SV_INIT(":scheme"),    SV_INIT(":status"), SV_INIT(":protocol")};
    return names[id - HPACK_AUTHORITY];
}

static size_t block_encode(struct h2_session *h, struct h2_stream *s, uint8_t *out,
                           const struct pseudo *pseudo, unsigned n, const struct http_headers *f)
{
    uint8_t *p = hpack_encode_begin(&h->enc, out);
    for (unsigned i = 0; i < n; i++) {
        sv name = pseudo_name(pseudo[i].id);
        p = hpack_encode(&h->enc, p, pseudo[i].id, name, pseudo[i].value, 0);
        s->s.head_plain_out += (uint32_t)(name.n + pseudo[i].value.n);
    }
    for (uint32_t i = 0; i < f->n; i++) {
        const struct http_header *e = &f->v[i];
        if (!carried(e))
            continue;
        p = hpack_encode(&h->enc, p, e->id, e->name, e->value,
                         e->flags & HTTP_HF_NEVER_INDEX ? HPACK_F_NEVER_INDEX : 0);
        s->s.head_plain_out += (uint32_t)(e->name.n + e->value.n);
    }
    return (size_t)(p - out);
}

static size_t block_bound(const struct pseudo *pseudo, unsigned n, const struct http_headers *f)
{
    size_t bound = HPACK_BLOCK_MAX;
    for (unsigned i = 0; i < n; i++)
        bound += HPACK_FIELD_MAX(10, pseudo[i].value.n);
    for (uint32_t i = 0; i < f->n; i++)
        bound += HPACK_FIELD_MAX(f->v[i].name.n, f->v[i].value.n);
    return bound;
}

/* A block that may not fit into one frame: HEADERS, then CONTINUATION. */
static size_t block_split(struct h2_session *h, uint32_t id, const uint8_t *block, size_t n,
                          bool end)
{
    struct buf *out = &h->c.out;
    size_t sent = 0, wire = 0;
    do {
        size_t k = n - sent < h->peer_max_frame ? n - sent : h->peer_max_frame;
        unsigned flags = sent + k == n ? H2_F_END_HEADERS : 0;
        if (sent == 0 && end)
            flags |= H2_F_END_STREAM;
        uint8_t header[H2_FRAME_HEADER];
        h2_put_header(header, (uint32_t)k, sent ? H2_CONTINUATION : H2_HEADERS, flags, id);
        buf_append(out, header, sizeof header);
        buf_append(out, block + sent, k);
        sent += k;
        wire += k + sizeof header;
        h2_count_frame_out(h);
    } while (sent < n);
    return wire;
}

static void count_head_out(struct h2_stream *s, size_t n)
{
    s->s.head_bytes_out += (uint32_t)n;
    s->s.wire_bytes_out += n;
}

static void send_block(struct h2_session *h, struct h2_stream *s, const struct pseudo *pseudo,
                       unsigned count, const struct http_headers *f, bool end)
{
    size_t bound = block_bound(pseudo, count, f), room;
    if (bound > h->peer_max_frame || bound + H2_FRAME_HEADER > BUF_BLOCK) {
        uint8_t *block = mem_alloc(bound);
        size_t n = block_encode(h, s, block, pseudo, count, f);
        count_head_out(s, block_split(h, s->s.id, block, n, end));
        free(block);
        return;
    }
    uint8_t *p = buf_reserve(&h->c.out, H2_FRAME_HEADER + bound, &room);
    size_t n = block_encode(h, s, p + H2_FRAME_HEADER, pseudo, count, f);
    h2_put_header(p, (uint32_t)n, H2_HEADERS, H2_F_END_HEADERS | (end ? H2_F_END_STREAM : 0),
                  s->s.id);
    buf_commit(&h->c.out, H2_FRAME_HEADER + n);
    count_head_out(s, H2_FRAME_HEADER + n);
    h2_count_frame_out(h);
}

static void sent_end(struct h2_session *h, struct h2_stream *s)
{
    s->s.sent_end = true;
    h2_stream_check_end(h, s);
}

/* ---- heads ---- */

static int send_response(struct h2_session *h, struct h2_stream *s, const struct http_head *m,
                         bool end)
{
    /* RFC 8441 4: what HTTP/1 says with 101 is a 2xx here. */
    unsigned status = s->upgrade && m->status == 101 ? 200 : m->status;
    if (status < 100 || status > 599 || status == 101 || (status < 200 && end))
        return E_INVALID;
    char text[3] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10),
                    (char)('0' + status % 10)};
    struct pseudo p = {HPACK_STATUS, sv_make(text, 3)};
    if (status >= 200)
        s->head_sent = true;
    send_block(h, s, &p, 1, &m->h, end);
    return 0;
}

/* The id is taken now, not at open(): ids must appear on the wire in their order (5.1.1). */
static int take_id(struct h2_session *h, struct h2_stream *s)
{
    if (h->next_id > H2_MAX_STREAM)
        return E_CLOSED;
    h2_stream_insert(h, s, h->next_id);
    h->last_id = h->next_id;
    h->next_id += 2;
    if (h->next_id > H2_MAX_STREAM && h->c.state == HTTP_CODEC_OPEN) {
        h->c.state = HTTP_CODEC_DRAINING;
        if (h->c.ev->on_goaway)
            h->c.ev->on_goaway(h->c.user);
    }
    return 0;
}

static int send_request(struct h2_session *h, struct h2_stream *s, const struct http_head *m,
                        bool end)
{
    struct pseudo p[5];
    unsigned n = 0;
    bool connect = sv_eq(m->method, SV("CONNECT")) && !m->upgrade;
    if (m->method.n == 0 || (!connect && m->path.n == 0) || (connect && m->authority.n == 0))
        return E_INVALID;
    if (m->upgrade && (!h->peer_connect || m->connect_protocol.n == 0))
        return E_INVALID;
    int r = take_id(h, s);
    if (r)
        return r;
    p[n++] = (struct pseudo){HPACK_METHOD, m->upgrade ? SV("CONNECT") : m->method};
    if (!connect) {
        p[n++] = (struct pseudo){HPACK_SCHEME, m->scheme.n ? m->scheme : SV("http")};
        p[n++] = (struct pseudo){HPACK_PATH, m->path};
    }
    if (m->authority.n)
        p[n++] = (struct pseudo){HPACK_AUTHORITY, m->authority};
    if (m->upgrade) {
        p[n++] = (struct pseudo){HPACK_PROTOCOL, m->connect_protocol};
        s->upgrade_token = arena_sv(&s->arena, m->connect_protocol);
    }
    s->upgrade = m->upgrade;
    s->connect = connect;
    s->head_request = sv_eq(m->method, SV("HEAD"));
    s->head_sent = true;
    send_block(h, s, p, n, &m->h, end);
    return 0;
}

static int op_send_head(struct http_stream *hs, const struct http_head *m, bool end)
{
    struct h2_stream *s = h2_stream_of(hs);
    struct h2_session *h = h2_session_of(s);
    if (s->closed || !h2_alive(h))
        return E_CLOSED;
    if (s->head_sent)
        return E_INVALID;
    h2_enter(h);
    int r = h->c.server ? send_response(h, s, m, end) : send_request(h, s, m, end);
    if (r == 0 && end && !s->closed) {
        s->end_queued = true;
        sent_end(h, s);
    }
    h2_leave(h);
    return r;
}

/* ---- bodies ---- */

static int64_t window_of(const struct h2_session *h, const struct h2_stream *s)
{
    return h->peer_window + s->send_credit;
}

static void frame_out(struct h2_session *h, struct h2_stream *s, uint32_t n, bool end)
{
    struct buf *out = &h->c.out;
    uint8_t header[H2_FRAME_HEADER];
    unsigned flags = end ? H2_F_END_STREAM : 0;
    if (n <= COPY_MAX) {
        size_t room;
        uint8_t *p = buf_reserve(out, H2_FRAME_HEADER + n, &room);
        h2_put_header(p, n, H2_DATA, flags, s->s.id);
        buf_peek(&s->pending, 0, p + H2_FRAME_HEADER, n);
        buf_commit(out, H2_FRAME_HEADER + n);
        buf_drain(&s->pending, n);
    } else {
        /* Received DATA has room for a frame header in front of it: the one it came with. */
        struct buf frame;
        buf_init(&frame);
        buf_move_n(&frame, &s->pending, n);
        h2_put_header(header, n, H2_DATA, flags, s->s.id);
        buf_prepend(&frame, header, sizeof header);
        buf_move(out, &frame);
    }
    h->send_window -= n;
    s->send_credit -= n;
    s->s.queued = s->pending.len;
    s->s.body_bytes_out += n;
    s->s.wire_bytes_out += H2_FRAME_HEADER + n;
    h->data_sent++;
    h2_count_frame_out(h);
}

/* All of the body is framed: what remains to be said. */
static void finish(struct h2_session *h, struct h2_stream *s)
{
    if (s->trailers) {
        send_block(h, s, NULL, 0, s->trailers, true);
        if (!s->closed)
            sent_end(h, s);
    } else if (s->end_queued) {
        frame_out(h, s, 0, true);
        if (!s->closed)
            sent_end(h, s);
    }
}

static void pump_one(struct h2_session *h, struct h2_stream *s)
{
    int64_t n = (int64_t)s->pending.len, window = window_of(h, s);
    n = n < window ? n : window;
    n = n < h->send_window ? n : h->send_window;
    n = n < (int64_t)h->peer_max_frame ? n : h->peer_max_frame;
    if (n <= 0)
        return;
    bool last = (size_t)n == s->pending.len;
    bool end = last && s->end_queued && !s->trailers;
    frame_out(h, s, (uint32_t)n, end);
    if (s->closed)
        return;
    if (s->high && s->pending.len <= h->lim.low_watermark) {
        s->high = false;
        if (s->s.ev && s->s.ev->on_low)
            s->s.ev->on_low(s->s.user);
        if (s->closed)
            return;
    }
    if (end)
        sent_end(h, s);
    else if (s->pending.len == 0 && s->trailers)
        finish(h, s);
    else
        h2_schedule(h, s);
}

void h2_schedule(struct h2_session *h, struct h2_stream *s)
{
    if (s->pending.len && list_empty(&s->work) && !s->closed && window_of(h, s) > 0)
        list_push(&h->ready, &s->work);
}

void h2_pump(struct h2_session *h)
{
    if (h->window_grew) {
        h->window_grew = false;
        list_each (it, &h->all)
            h2_schedule(h, container_of(it, struct h2_stream, all));
    }
    while (h2_alive(h) && h->send_window > 0 && h->c.out.len < OUT_MAX) {
        struct list *it = list_first(&h->ready);
        if (!it)
            break;
        list_del(it);
        pump_one(h, container_of(it, struct h2_stream, work));
    }
}

static int can_send(const struct h2_session *h, const struct h2_stream *s)
{
    if (s->closed || !h2_alive(h))
        return E_CLOSED;
    return s->head_sent && !s->end_queued ? 0 : E_INVALID;
}

/* Small pieces behind others are gathered: a slice each would pin the block it came in, and a body
 * of one-byte frames would cost many times its length (attack case 10). */
static void pending_add(struct h2_stream *s, struct buf *data)
{
    sv front = buf_front(data);
    if (s->pending.len && front.n == data->len && front.n <= COPY_MAX) {
        buf_append_sv(&s->pending, front);
        buf_reset(data);
    } else {
        buf_move(&s->pending, data);
    }
}

static int op_send_data(struct http_stream *hs, struct buf *data, bool end)
{
    struct h2_stream *s = h2_stream_of(hs);
    struct h2_session *h = h2_session_of(s);
    int r = can_send(h, s);
    if (r) {
        buf_reset(data);
        return r;
    }
    h2_enter(h);
    pending_add(s, data);
    s->s.queued = s->pending.len;
    s->end_queued = end;
    if (s->pending.len == 0)
        finish(h, s);
    else
        h2_schedule(h, s);
    h2_pump(h);
    if (!s->closed && !s->high && s->pending.len > h->lim.high_watermark) {
        s->high = true;
        if (s->s.ev && s->s.ev->on_high)
            s->s.ev->on_high(s->s.user);
    }
    h2_leave(h);
    return 0;
}

static int op_send_trailers(struct http_stream *hs, const struct http_headers *trailers)
{
    struct h2_stream *s = h2_stream_of(hs);
    struct h2_session *h = h2_session_of(s);
    int r = can_send(h, s);
    if (r)
        return r;
    h2_enter(h);
    s->end_queued = true;
    if (s->pending.len == 0) {
        s->trailers = trailers;
        finish(h, s);
    } else {
        struct http_headers *copy = arena_new(&s->arena, struct http_headers);
        http_headers_copy(copy, trailers, &s->arena);
        s->trailers = copy;
    }
    h2_leave(h);
    return 0;
}

/* ---- reset, pause ---- */

static void op_reset(struct http_stream *hs, enum http_reset why)
{
    struct h2_stream *s = h2_stream_of(hs);
    struct h2_session *h = h2_session_of(s);
    if (s->closed)
        return;
    h2_enter(h);
    enum h2_error code = h2_code_of(h, s, why);
    uint32_t id = s->s.id;
    h2_stream_close(h, s);
    if (id && h2_alive(h)) {
        h2_remember_reset(h, id);
        h2_reset_unknown(h, id, code);
    }
    h2_leave(h);
}

static void op_pause(struct http_stream *hs, bool on)
{
    struct h2_stream *s = h2_stream_of(hs);
    struct h2_session *h = h2_session_of(s);
    if (on) {
        s->pauses++;
        return;
    }
    if (s->pauses == 0 || --s->pauses || s->held == 0 || s->closed)
        return;
    h2_enter(h);
    uint32_t held = s->held;
    s->held = 0;
    h2_credit(h, s, held);
    h2_leave(h);
}

const struct http_stream_ops h2_stream_ops = {
    .send_head = op_send_head,
    .send_data = op_send_data,
    .send_trailers = op_send_trailers,
    .reset = op_reset,
    .pause = op_pause,
};
