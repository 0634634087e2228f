/* SETTINGS, RST_STREAM, PRIORITY, WINDOW_UPDATE, GOAWAY. Lengths were checked by h2_recv.c. */
#include "h2/h2_session.h"

/* ---- SETTINGS (6.5) ---- */

/* Ours were taken: from here on the peer keeps to them. */
static int settings_acked(struct h2_session *h)
{
    if (!h->settings_sent || h->settings_acked)
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.unexpected_settings_ack");
    h->settings_acked = true;
    int32_t window = (int32_t)h->lim.initial_stream_window, by = window - h->my_window;
    h->my_window = window;
    list_each (it, &h->all) {
        struct h2_stream *s = container_of(it, struct h2_stream, all);
        s->recv_window += by;
    }
    hpack_decoder_allow(&h->dec, h->lim.hpack_table_size);
    return 0;
}

/* 6.9.2: every stream's window moves with the setting; none may pass 2^31-1. */
static int set_peer_window(struct h2_session *h, uint32_t v)
{
    if (v > H2_MAX_WINDOW)
        return h2_conn_error(h, H2_FLOW_CONTROL_ERROR, "http2.invalid_settings");
    if (v + h->max_credit > H2_MAX_WINDOW) {
        h->max_credit = 0;
        list_each (it, &h->all) {
            struct h2_stream *s = container_of(it, struct h2_stream, all);
            if (s->send_credit > h->max_credit)
                h->max_credit = s->send_credit;
        }
        if (v + h->max_credit > H2_MAX_WINDOW)
            return h2_conn_error(h, H2_FLOW_CONTROL_ERROR, "http2.flow_control");
    }
    if (v > h->peer_window)
        h->window_grew = true;
    h->peer_window = v;
    return 0;
}

static int set_max_streams(struct h2_session *h, uint32_t v)
{
    if (h->c.server)
        return 0;
    uint32_t before = h->c.max_streams;
    h->c.max_streams = v < h->lim.max_concurrent_streams ? v : h->lim.max_concurrent_streams;
    if (h->c.max_streams > before && h->c.ev->on_max_streams)
        h->c.ev->on_max_streams(h->c.user);
    return 0;
}

static int set_one(struct h2_session *h, unsigned id, uint32_t v)
{
    switch (id) {
    case H2_S_HEADER_TABLE_SIZE:
        hpack_encoder_set_max(&h->enc, v < h->lim.hpack_table_size ? v : h->lim.hpack_table_size);
        return 0;
    case H2_S_ENABLE_PUSH:
        if (v > 1 || (v == 1 && !h->c.server))
            break;
        return 0;
    case H2_S_MAX_CONCURRENT_STREAMS:
        return set_max_streams(h, v);
    case H2_S_INITIAL_WINDOW_SIZE:
        return set_peer_window(h, v);
    case H2_S_MAX_FRAME_SIZE:
        if (v < H2_DEFAULT_FRAME || v > H2_LARGEST_FRAME)
            break;
        h->peer_max_frame = v;
        return 0;
    case H2_S_ENABLE_CONNECT_PROTOCOL:
        if (v > 1 || (v == 0 && h->peer_connect))
            break;
        h->peer_connect = v;
        return 0;
    default:
        return 0;
    }
    return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.invalid_settings");
}

int h2_on_settings(struct h2_session *h, const uint8_t *p, uint32_t n)
{
    h->peer_settings = true;
    if (h->f.flags & H2_F_ACK)
        return settings_acked(h);
    for (uint32_t i = 0; i < n; i += 6) {
        int r = set_one(h, (unsigned)p[i] << 8 | p[i + 1], h2_get32(p + i + 2));
        if (r)
            return r;
    }
    h2_write_settings_ack(&h->c.out);
    return h2_count_control_out(h);
}

/* ---- RST_STREAM (6.4) ---- */

int h2_on_rst(struct h2_session *h, const uint8_t *p)
{
    uint32_t id = h->f.id;
    if (id == 0 || h2_is_idle(h, id))
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.rst_stream_on_idle");
    struct h2_stream *s = h2_stream_find(h, id);
    if (!s)
        return 0;
    H2_COUNT(h, rx_reset);
    enum http_reset why = h2_reason_of(s, h2_get32(p));
    int r = h2_check_resets(h, s, false);
    if (r)
        return r;
    h2_stream_gone(h, s, why,
                   why == HTTP_RESET_REMOTE_REFUSED ? "http2.remote_refuse" : "http2.remote_reset");
    return 0;
}

/* ---- PRIORITY (5.3 of RFC 7540; RFC 9113 6.3): read, checked, not acted on ---- */

int h2_on_priority(struct h2_session *h, const uint8_t *p)
{
    int r = h2_check_priority(h);
    if (r)
        return r;
    uint32_t id = h->f.id;
    bool bad_size = h->f.length != 5;
    if (!bad_size && (h2_get32(p) & H2_MAX_STREAM) != id)
        return 0;
    enum h2_error code = bad_size ? H2_FRAME_SIZE_ERROR : H2_PROTOCOL_ERROR;
    struct h2_stream *s = h2_stream_find(h, id);
    /* RST_STREAM must not be sent for an idle stream (6.4), and a closed one has nothing left to
     * end: a frame of the wrong size is then the connection's fault. */
    if (h2_is_idle(h, id) || (!s && bad_size))
        return h2_conn_error(h, code, "http2.invalid_priority");
    if (!s)
        return 0;
    r = h2_check_resets(h, s, true);
    if (r)
        return r;
    h2_stream_error(h, s, code, HTTP_RESET_PROTOCOL, "http2.invalid_priority");
    return 0;
}

/* ---- WINDOW_UPDATE (6.9) ---- */

static int update_stream(struct h2_session *h, uint32_t by)
{
    if (h2_is_idle(h, h->f.id))
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.window_update_on_idle");
    struct h2_stream *s = h2_stream_find(h, h->f.id);
    if (!s)
        return 0;
    if (by && h->peer_window + s->send_credit + by <= H2_MAX_WINDOW) {
        s->send_credit += by;
        if (s->send_credit > h->max_credit)
            h->max_credit = s->send_credit;
        h2_schedule(h, s);
        return 0;
    }
    int r = h2_check_resets(h, s, true);
    if (r)
        return r;
    h2_stream_error(h, s, by ? H2_FLOW_CONTROL_ERROR : H2_PROTOCOL_ERROR, HTTP_RESET_PROTOCOL,
                    "http2.invalid_window_update");
    return 0;
}

int h2_on_window_update(struct h2_session *h, const uint8_t *p)
{
    uint32_t by = h2_get32(p) & H2_MAX_WINDOW;
    int r = h2_check_window_updates(h);
    if (r)
        return r;
    if (h->f.id)
        return update_stream(h, by);
    if (by == 0)
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.invalid_window_update");
    if (h->send_window + by > H2_MAX_WINDOW)
        return h2_conn_error(h, H2_FLOW_CONTROL_ERROR, "http2.flow_control");
    h->send_window += by;
    return 0;
}

/* ---- GOAWAY (6.8) ---- */

int h2_on_goaway(struct h2_session *h, const uint8_t *p)
{
    uint32_t last = h2_get32(p) & H2_MAX_STREAM;
    if (h->goaway_received && last > h->goaway_last && !h->c.server)
        return h2_conn_error(h, H2_PROTOCOL_ERROR, "http2.goaway_id_grew");
    bool first = !h->goaway_received;
    h->goaway_received = true;
    /* A client that says goodbye opens no more streams; those it has go on. */
    if (h->c.server)
        return 0;
    h->goaway_last = last;
    h->c.state = HTTP_CODEC_DRAINING;
    if (first && h->c.ev->on_goaway)
        h->c.ev->on_goaway(h->c.user);
    /* Refused streams leave the list, and callbacks may close others: start over each time. */
    for (bool again = true; again;) {
        again = false;
        list_each (it, &h->all) {
            struct h2_stream *s = container_of(it, struct h2_stream, all);
            if (s->s.id && s->s.id <= last)
                continue;
            if (s->s.id)
                h2_remember_reset(h, s->s.id);
            h2_stream_gone(h, s, HTTP_RESET_REMOTE_REFUSED, "http2.remote_refuse");
            again = true;
            break;
        }
    }
    return 0;
}
