/* The sent half: stream operations to bytes. */
#include "h1/h1_encode.h"
#include "base/code.h"
#include "h1/h1_int.h"

#define LINE_CHUNKED    SV("transfer-encoding: chunked\r\n")
#define LINE_NO_BODY    SV("content-length: 0\r\n")
#define LINE_CLOSE      SV("connection: close\r\n")
#define LINE_KEEP_ALIVE SV("connection: keep-alive\r\n")
#define LINE_UPGRADE    SV("connection: upgrade\r\n")

static void add_line(struct h1_style *style, sv line)
{
    for (size_t i = 0; i < sizeof(style->extra) / sizeof(style->extra[0]); i++) {
        if (style->extra[i].n == 0) {
            style->extra[i] = line;
            return;
        }
    }
}

/* "upgrade: token" and "connection: upgrade", where the head does not have them (it came from an
 * extended CONNECT). */
static void add_upgrade(struct h1 *h, struct h1_style *style, const struct h1_scan *scan, sv token)
{
    if (!scan->upgrade)
        add_line(style, LINE_UPGRADE);
    if (!scan->has_upgrade && token.n)
        add_line(style, arena_printf(&h->arena, "upgrade: %.*s\r\n", SV_ARG(token)));
}

static void send_ended(struct h1 *h)
{
    h->s->s.sent_end = true;
    if (h->tx == TX_RAW)
        h->c.shut_write = true;
    h->tx = TX_DONE;
}

static void count_out(struct h1_stream *s, size_t framing, size_t body)
{
    s->s.body_bytes_out += body;
    s->s.wire_bytes_out += framing + body;
    s->s.queued += body;
}

static void count_head_out(struct h1_stream *s, struct h1_wrote w)
{
    s->s.head_bytes_out += (uint32_t)w.fields;
    s->s.wire_bytes_out += w.all;
}

/* ---- response heads ---- */

static int send_info(struct h1 *h, const struct http_head *m)
{
    struct h1_stream *s = h->s;
    struct h1_scan scan;
    struct h1_style style = {.spelling = h->l.spelling, .drop_length = true};
    if (s->http10)
        return 0;
    if (h1_scan_fields(&m->h, &scan) != 0)
        return E_INVALID;
    if (m->status == 100)
        s->expect = false;
    count_head_out(s, h1_write_response(&h->c.out, m, &scan, &style));
    h1_poke(h);
    return 0;
}

/* How the body of a final response is delimited (RFC 9112 6). */
static int response_framing(struct h1 *h, const struct http_head *m, const struct h1_scan *scan,
                            bool end, struct h1_style *style)
{
    struct h1_stream *s = h->s;
    if (s->head_request || m->status == 204 || m->status == 304) {
        h->tx = TX_NONE;
        style->drop_length = m->status == 204;
    } else if (scan->has_length) {
        if (end && scan->length)
            return E_INVALID;
        h->tx = TX_LENGTH;
        h->tx_left = scan->length;
    } else if (end) {
        h->tx = TX_NONE;
        add_line(style, LINE_NO_BODY);
    } else if (s->http10) {
        h->tx = TX_CLOSE;
        h->close_after = true;
    } else {
        h->tx = TX_CHUNKED;
        add_line(style, LINE_CHUNKED);
    }
    return 0;
}

static void response_connection(struct h1 *h, const struct h1_scan *scan, struct h1_style *style)
{
    struct h1_stream *s = h->s;
    h->close_after |=
        scan->close || s->upgrade || s->connect || s->expect || h->c.state >= HTTP_CODEC_DRAINING;
    if (h->close_after && !scan->close)
        add_line(style, LINE_CLOSE);
    else if (!h->close_after && s->http10 && !scan->keep_alive)
        add_line(style, LINE_KEEP_ALIVE);
}

static int response_switch(struct h1 *h, const struct http_head *m, const struct h1_scan *scan,
                           struct h1_style *style)
{
    style->drop_length = true;
    if (m->status == 101)
        add_upgrade(h, style, scan,
                    m->connect_protocol.n ? m->connect_protocol : h->s->head.connect_protocol);
    h->rx = RX_RAW;
    h->tx = TX_RAW;
    h->c.switched = true;
    h->close_after = true;
    return 0;
}

HOT static int send_response(struct http_stream *hs, const struct http_head *m, bool end)
{
    struct h1_stream *s = h1_stream_of(hs);
    struct h1 *h = h1_of(hs->codec);
    struct h1_scan scan;
    struct h1_style style = {.http10 = s->http10, .spelling = h->l.spelling};
    if (s->over)
        return E_CLOSED;
    if (s->head_sent || m->status < 100 || m->status > 599)
        return E_INVALID;
    if (m->status < 200 && m->status != 101)
        return end ? E_INVALID : send_info(h, m);
    if (h1_scan_fields(&m->h, &scan) != 0 || !http_value_valid(m->connect_protocol))
        return E_INVALID;
    if (m->status == 101 && !s->upgrade)
        return E_INVALID;
    bool switching = m->status == 101 || (s->connect && m->status / 100 == 2);
    int rc = switching ? response_switch(h, m, &scan, &style)
                       : response_framing(h, m, &scan, end, &style);
    if (rc)
        return rc;
    if (!switching)
        response_connection(h, &scan, &style);
    if (!switching && h->rx == RX_HOLD)
        h1_recv_ended(h);
    count_head_out(s, h1_write_response(&h->c.out, m, &scan, &style));
    s->head_sent = true;
    if (end)
        send_ended(h);
    h1_watermarks(h);
    h1_poke(h);
    return 0;
}

/* ---- request heads ---- */

static bool method_without_body(sv m)
{
    return sv_eq(m, SV("GET")) || sv_eq(m, SV("HEAD")) || sv_eq(m, SV("DELETE")) ||
           sv_eq(m, SV("TRACE")) || sv_eq(m, SV("CONNECT"));
}

static int request_framing(struct h1 *h, const struct http_head *m, const struct h1_scan *scan,
                           bool end, struct h1_style *style)
{
    struct h1_stream *s = h->s;
    if (s->upgrade || s->connect) {
        style->drop_length = true;
        h->tx = TX_HOLD;
    } else if (scan->has_length) {
        if (end && scan->length)
            return E_INVALID;
        h->tx = TX_LENGTH;
        h->tx_left = scan->length;
    } else if (end) {
        h->tx = TX_NONE;
        if (!method_without_body(m->method))
            add_line(style, LINE_NO_BODY);
    } else {
        h->tx = TX_CHUNKED;
        add_line(style, LINE_CHUNKED);
    }
    return 0;
}

HOT static int send_request(struct http_stream *hs, const struct http_head *m, bool end)
{
    struct h1_stream *s = h1_stream_of(hs);
    struct h1 *h = h1_of(hs->codec);
    struct h1_scan scan;
    struct h1_style style = {.spelling = h->l.spelling};
    if (s->over)
        return E_CLOSED;
    if (s->head_sent || !h1_request_line_valid(m) || h1_scan_fields(&m->h, &scan) != 0 ||
        !http_value_valid(m->connect_protocol))
        return E_INVALID;
    s->connect = sv_eq(m->method, SV("CONNECT"));
    s->upgrade = m->upgrade && !s->connect;
    s->head_request = sv_eq(m->method, SV("HEAD"));
    int rc = request_framing(h, m, &scan, end, &style);
    if (rc)
        return rc;
    if (s->upgrade)
        add_upgrade(h, &style, &scan, m->connect_protocol);
    h->close_after |= scan.close;
    count_head_out(s, h1_write_request(&h->c.out, m, &scan, &style));
    s->head_sent = true;
    /* An upgrade's end waits for the switch like its data. */
    if (end)
        send_ended(h);
    h1_watermarks(h);
    h1_poke(h);
    return 0;
}

void h1_send_switched(struct h1 *h)
{
    struct h1_stream *s = h->s;
    bool ended = s->s.sent_end;
    h->c.switched = true;
    h->close_after = true;
    h->tx = TX_RAW;
    size_t n = s->held.len;
    buf_move(&h->c.out, &s->held);
    s->s.body_bytes_out += n;
    s->s.wire_bytes_out += n;
    if (ended)
        send_ended(h);
    h1_poke(h);
}

/* What was held for a protocol that will not be spoken is dropped, and nothing can follow on this
 * connection (attack case 21). */
void h1_send_refused(struct h1 *h)
{
    buf_reset(&h->s->held);
    h->close_after = true;
    h->s->s.sent_end = true;
    h->tx = TX_DONE;
    h1_watermarks(h);
}

/* ---- bodies ---- */

static int broken(struct h1 *h, struct buf *data)
{
    buf_reset(data);
    h->s->over = true;
    h1_set_state(h, h->c.server ? HTTP_CODEC_FLUSH : HTTP_CODEC_DEAD);
    h1_poke(h);
    return E_INVALID;
}

static void put_chunk(struct h1 *h, struct buf *data, bool end)
{
    size_t body = data->len, framing;
    if (body) {
        framing = h1_write_chunk(&h->c.out, data, end);
    } else {
        sv last = end ? SV("0\r\n\r\n") : SV("");
        buf_append_sv(&h->c.out, last);
        framing = last.n;
    }
    count_out(h->s, framing, body);
}

static void put_plain(struct h1 *h, struct buf *data)
{
    size_t body = data->len;
    buf_move(&h->c.out, data);
    count_out(h->s, 0, body);
}

HOT static int send_data(struct http_stream *hs, struct buf *data, bool end)
{
    struct h1_stream *s = h1_stream_of(hs);
    struct h1 *h = h1_of(hs->codec);
    if (s->over || !s->head_sent || s->s.sent_end) {
        buf_reset(data);
        /* After a refused upgrade the sender may not know yet: not its mistake. */
        return s->over ? E_CLOSED : s->s.sent_end && (s->upgrade || s->connect) ? 0 : E_INVALID;
    }
    switch (h->tx) {
    case TX_LENGTH:
        if (data->len > h->tx_left || (end && data->len < h->tx_left))
            return broken(h, data);
        h->tx_left -= data->len;
        put_plain(h, data);
        break;
    case TX_CHUNKED:
        put_chunk(h, data, end);
        break;
    case TX_CLOSE:
    case TX_RAW:
        put_plain(h, data);
        break;
    case TX_HOLD:
        s->s.queued += data->len;
        buf_move(&s->held, data);
        break;
    default: /* TX_NONE: HEAD, 204, 304 have no body whatever their sender says */
        buf_reset(data);
    }
    if (end)
        send_ended(h);
    h1_watermarks(h);
    h1_poke(h);
    return 0;
}

static int send_trailers(struct http_stream *hs, const struct http_headers *t)
{
    struct h1_stream *s = h1_stream_of(hs);
    struct h1 *h = h1_of(hs->codec);
    struct buf none;
    size_t n;
    buf_init(&none);
    if (s->over || !s->head_sent || s->s.sent_end || h->tx != TX_CHUNKED || !h->l.enable_trailers)
        return send_data(hs, &none, true);
    if (h1_write_trailers(&h->c.out, t, h->l.spelling, &n) != 0)
        return E_INVALID;
    count_out(s, n, 0);
    send_ended(h);
    h1_watermarks(h);
    h1_poke(h);
    return 0;
}

/* ---- reset, pause ---- */

static void reset(struct http_stream *hs, enum http_reset why)
{
    struct h1_stream *s = h1_stream_of(hs);
    struct h1 *h = h1_of(hs->codec);
    if (s->over || (s->s.recv_end && s->s.sent_end))
        return;
    s->over = true;
    /* A response that ends with the connection must not look complete. */
    bool cut = h->tx == TX_CLOSE || h->tx == TX_RAW;
    h1_set_state(h, h->c.server && !cut ? HTTP_CODEC_FLUSH : HTTP_CODEC_DEAD);
    h1_poke(h);
}

static void pause_stream(struct http_stream *hs, bool on)
{
    struct h1_stream *s = h1_stream_of(hs);
    struct h1 *h = h1_of(hs->codec);
    if (on) {
        s->pauses++;
        h1_update_want(h);
    } else if (s->pauses && --s->pauses == 0) {
        h1_poke(h);
    }
}

const struct http_stream_ops h1_server_stream_ops = {
    .send_head = send_response,
    .send_data = send_data,
    .send_trailers = send_trailers,
    .reset = reset,
    .pause = pause_stream,
};

const struct http_stream_ops h1_client_stream_ops = {
    .send_head = send_request,
    .send_data = send_data,
    .send_trailers = send_trailers,
    .reset = reset,
    .pause = pause_stream,
};
