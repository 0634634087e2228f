/* Bytes -> frames. What a frame's header alone can tell is checked before its payload is awaited;
 * DATA is passed on as it arrives, every other frame is taken whole. */
#include "h2/h2_session.h"

#define MAX_SETTINGS 100 /* entries of one frame (CVE-2020-11080) */

/* Steps: 1 went on, 0 more bytes are needed, negative: the connection ended. */

static int preface_step(struct h2_session *h, struct buf *in)
{
    char have[H2_PREFACE_BYTES];
    size_t n = buf_peek(in, 0, have, sizeof have);
    int match = h2_preface_match(sv_make(have, n));
    if (match < 0) {
        H2_COUNT(h, framing_error);
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.bad_preface");
    }
    if (match == 0)
        return 0;
    buf_drain(in, n);
    if (!h->settings_sent)
        h2_send_settings(h);
    h->rx = H2_RX_HEADER;
    return 1;
}

static int size_error(struct h2_session *h)
{
    H2_COUNT(h, framing_error);
    return h2_conn_error(h, H2_FRAME_SIZE_ERROR, "http2.frame_size");
}

static int protocol_error(struct h2_session *h, const char *details)
{
    H2_COUNT(h, framing_error);
    return h2_conn_error(h, H2_PROTOCOL_ERROR, details);
}

/* ---- windows of what we receive ---- */

void h2_credit(struct h2_session *h, struct h2_stream *s, uint32_t n)
{
    h->recv_used += n;
    if (h->recv_used >= h->lim.initial_conn_window / 2 && h2_alive(h)) {
        h2_write_window_update(&h->c.out, 0, h->recv_used);
        h->recv_window += h->recv_used;
        h->recv_used = 0;
        h2_count_frame_out(h);
    }
    if (!s || s->s.recv_end || s->closed)
        return;
    s->recv_used += n;
    if (s->recv_used >= (uint32_t)h->my_window / 2 && h2_alive(h)) {
        h2_write_window_update(&h->c.out, s->s.id, s->recv_used);
        s->recv_window += (int32_t)s->recv_used;
        s->recv_used = 0;
        h2_count_frame_out(h);
    }
}

/* ---- DATA (6.1) ---- */

/* The stream that the frame is for; NULL with 1: drop the payload; negative: connection error. */
static int data_stream(struct h2_session *h, struct h2_stream **out)
{
    uint32_t id = h->f.id;
    *out = NULL;
    if (id == 0 || h2_is_idle(h, id))
        return protocol_error(h, "http2.data_on_idle");
    struct h2_stream *s = h2_stream_find(h, id);
    if (!s) {
        if (h2_was_reset(h, id) || h->final_sent)
            return 1;
        H2_COUNT(h, rx_messaging_error);
        int r = h2_check_resets(h, NULL, true);
        if (r)
            return r;
        h2_remember_reset(h, id);
        h2_reset_unknown(h, id, H2_STREAM_CLOSED);
        return h->error ? h->error : 1;
    }
    const char *details = NULL;
    enum h2_error code = H2_PROTOCOL_ERROR;
    if (s->s.recv_end) {
        code = H2_STREAM_CLOSED;
        details = "http2.data_after_end";
    } else if (!s->head_done) {
        details = "http2.data_before_head";
    } else if ((int64_t)h->f.length > s->recv_window) {
        code = H2_FLOW_CONTROL_ERROR;
        details = "http2.flow_control";
    }
    if (!details) {
        *out = s;
        return 1;
    }
    H2_COUNT(h, rx_messaging_error);
    int r = h2_check_resets(h, s, true);
    if (r)
        return r;
    h2_stream_error(h, s, code, HTTP_RESET_PROTOCOL, details);
    return h->error ? h->error : 1;
}

static void data_end(struct h2_session *h)
{
    h->rx = h->f.left ? H2_RX_SKIP : H2_RX_HEADER;
    h->f.stream = NULL;
}

/* Hands n bytes from the front of `in` to the stream's user. 0: it did not take them, and is reset.
 */
static int data_deliver(struct h2_session *h, struct buf *in, uint32_t n)
{
    struct h2_stream *s = h->f.stream;
    bool end = n == h->f.data_left && h->f.flags & H2_F_END_STREAM;
    if ((s->no_body && n) || (s->content_left >= 0 && n > s->content_left) ||
        (end && s->content_left > n)) {
        H2_COUNT(h, rx_messaging_error);
        int r = h2_check_resets(h, s, true);
        if (r)
            return r;
        h2_stream_error(h, s, H2_PROTOCOL_ERROR, HTTP_RESET_PROTOCOL,
                        "http2.content_length_mismatch");
        return h->error;
    }
    struct buf data;
    buf_init(&data);
    if (n)
        buf_move_n(&data, in, n);
    h->f.data_left -= n;
    h->f.left -= n;
    s->s.body_bytes_in += n;
    if (s->content_left >= 0)
        s->content_left -= n;
    if (end)
        s->s.recv_end = true;
    if ((n || end) && s->s.ev && s->s.ev->on_data)
        s->s.ev->on_data(s->s.user, &data, end);
    buf_reset(&data);
    if (s->pauses && !s->closed)
        s->held += n;
    else if (n)
        h2_credit(h, s, n);
    if (end)
        h2_stream_check_end(h, s);
    return 1;
}

static int data_step(struct h2_session *h, struct buf *in)
{
    if (h->f.data_left && in->len == 0)
        return 0;
    uint32_t n = in->len < h->f.data_left ? (uint32_t)in->len : h->f.data_left;
    if (h->f.stream) {
        int r = data_deliver(h, in, n);
        if (r < 0)
            return r;
        if (r > 0)
            n = 0;
    }
    /* Nobody's: its stream is closed, or was reset by what came just now. */
    if (n) {
        buf_drain(in, n);
        h->f.data_left -= n;
        h->f.left -= n;
        h2_credit(h, NULL, n);
    }
    if (h->f.data_left == 0)
        data_end(h);
    return 1;
}

/* The pad length is known: what is payload, what is to be skipped. */
static int data_begin(struct h2_session *h, uint32_t pad)
{
    if (pad > h->f.left)
        return protocol_error(h, "http2.padding");
    h->f.data_left = h->f.left - pad;
    bool end = h->f.flags & H2_F_END_STREAM;
    int r = h2_check_empty(h, h->f.data_left == 0 && !end);
    if (r)
        return r;
    if (h->f.length > h->f.data_left)
        h2_credit(h, h->f.stream, h->f.length - h->f.data_left);
    h->rx = H2_RX_DATA;
    return 1;
}

static int data_frame(struct h2_session *h)
{
    struct h2_frame_in *f = &h->f;
    if (f->length > h->recv_window)
        return h2_conn_error(h, H2_FLOW_CONTROL_ERROR, "http2.flow_control");
    h->recv_window -= f->length;
    int r = data_stream(h, &f->stream);
    if (r < 0)
        return r;
    if (f->stream) {
        f->stream->recv_window -= (int32_t)f->length;
        f->stream->s.wire_bytes_in += H2_FRAME_HEADER + f->length;
    }
    if (!(f->flags & H2_F_PADDED))
        return data_begin(h, 0);
    if (f->length == 0)
        return size_error(h);
    f->need = 1;
    h->rx = H2_RX_PAYLOAD;
    return 1;
}

/* ---- the other frames: what their header tells ---- */

static int await(struct h2_session *h, uint32_t need)
{
    h->f.need = need;
    h->rx = H2_RX_PAYLOAD;
    return 1;
}

static int settings_frame(struct h2_session *h)
{
    const struct h2_frame_in *f = &h->f;
    if (f->id)
        return protocol_error(h, "http2.stream_id");
    if (f->length % 6 || (f->flags & H2_F_ACK && f->length))
        return size_error(h);
    if (f->length > 6 * MAX_SETTINGS)
        return h2_conn_error(h, H2_ENHANCE_YOUR_CALM, "http2.too_many_settings");
    return await(h, f->length);
}

/* Frames of the connection (on_stream false) or of a stream with a fixed size. */
static int fixed_frame(struct h2_session *h, bool on_stream, uint32_t size)
{
    if ((h->f.id != 0) != on_stream)
        return protocol_error(h, "http2.stream_id");
    if (h->f.length != size)
        return size_error(h);
    return await(h, size);
}

static int frame_begin(struct h2_session *h)
{
    struct h2_frame_in *f = &h->f;
    if (f->length > h->lim.max_frame_size)
        return size_error(h);
    if (h->block.open && (f->type != H2_CONTINUATION || f->id != h->block.id))
        return protocol_error(h, "http2.continuation_expected");
    if (!h->peer_settings && (f->type != H2_SETTINGS || f->flags & H2_F_ACK))
        return protocol_error(h, "http2.settings_expected");
    switch (f->type) {
    case H2_DATA:
        return data_frame(h);
    case H2_HEADERS:
        if (f->id == 0)
            return protocol_error(h, "http2.stream_id");
        return await(h, f->length);
    case H2_PRIORITY:
        if (f->id == 0)
            return protocol_error(h, "http2.stream_id");
        return await(h, f->length == 5 ? 5 : 0);
    case H2_RST_STREAM:
        return fixed_frame(h, true, 4);
    case H2_SETTINGS:
        return settings_frame(h);
    case H2_PUSH_PROMISE:
        return protocol_error(h, "http2.push_promise");
    case H2_PING:
        return fixed_frame(h, false, 8);
    case H2_GOAWAY:
        if (f->id)
            return protocol_error(h, "http2.stream_id");
        return f->length < 8 ? size_error(h) : await(h, 8);
    case H2_WINDOW_UPDATE:
        return f->length != 4 ? size_error(h) : await(h, 4);
    case H2_CONTINUATION:
        if (!h->block.open)
            return protocol_error(h, "http2.unexpected_continuation");
        return await(h, f->length);
    default: {
        /* 4.1: unknown types are ignored; as useless frames they count with PRIORITY. */
        int r = h2_check_priority(h);
        h->rx = H2_RX_SKIP;
        return r ? r : 1;
    }
    }
}

static int header_step(struct h2_session *h, struct buf *in)
{
    uint8_t copy[H2_FRAME_HEADER];
    sv front = buf_front(in);
    const uint8_t *p = (const uint8_t *)front.p;
    if (front.n < H2_FRAME_HEADER) {
        if (buf_peek(in, 0, copy, sizeof copy) < sizeof copy)
            return 0;
        p = copy;
    }
    h->f = (struct h2_frame_in){.length = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2],
                                .type = p[3],
                                .flags = p[4],
                                .id = h2_get32(p + 5) & H2_MAX_STREAM};
    h->f.left = h->f.length;
    buf_drain(in, H2_FRAME_HEADER);
    return frame_begin(h);
}

static int handle(struct h2_session *h, const uint8_t *p)
{
    switch (h->f.type) {
    case H2_DATA: {
        int r = data_begin(h, *p);
        return r > 0 ? 0 : r;
    }
    case H2_HEADERS:
    case H2_CONTINUATION:
        return h2_on_block_frame(h, p, h->f.length);
    case H2_PRIORITY:
        return h2_on_priority(h, p);
    case H2_RST_STREAM:
        return h2_on_rst(h, p);
    case H2_SETTINGS:
        return h2_on_settings(h, p, h->f.length);
    case H2_PING:
        return h2_on_ping(h, p);
    case H2_GOAWAY:
        return h2_on_goaway(h, p);
    default:
        return h2_on_window_update(h, p);
    }
}

static int payload_step(struct h2_session *h, struct buf *in)
{
    uint32_t need = h->f.need;
    if (in->len < need)
        return 0;
    sv p = buf_pullup(in, need);
    h->f.left -= need;
    h->rx = h->f.left ? H2_RX_SKIP : H2_RX_HEADER;
    int r = handle(h, need ? (const uint8_t *)p.p : (const uint8_t *)"");
    buf_drain(in, need);
    return r ? r : 1;
}

static int skip_step(struct h2_session *h, struct buf *in)
{
    uint32_t n = in->len < h->f.left ? (uint32_t)in->len : h->f.left;
    buf_drain(in, n);
    h->f.left -= n;
    if (h->f.left)
        return 0;
    h->rx = H2_RX_HEADER;
    return 1;
}

int h2_recv(struct h2_session *h, struct buf *in)
{
    int r = 1;
    while (r > 0 && h2_alive(h)) {
        switch (h->rx) {
        case H2_RX_PREFACE:
            r = preface_step(h, in);
            break;
        case H2_RX_HEADER:
            r = header_step(h, in);
            break;
        case H2_RX_PAYLOAD:
            r = payload_step(h, in);
            break;
        case H2_RX_DATA:
            r = data_step(h, in);
            break;
        case H2_RX_SKIP:
            r = skip_step(h, in);
            break;
        }
        if (h->depth == 1)
            h2_reap(h);
    }
    if (!h2_alive(h))
        buf_reset(in);
    return r < 0 ? r : 0;
}
