#include "h2/h2_session.h"

#include <stdlib.h>
#include "base/mem.h"

static const uint8_t drain_opaque[8] = {'w', 'e', 'f', 't', 'd', 'r', 'a', 'i'};
static const uint8_t ping_opaque[8] = {'w', 'e', 'f', 't', 'p', 'i', 'n', 'g'};

static const struct http_codec_ops h2_codec_ops;

int h2_preface_match(sv first_bytes)
{
    sv have = sv_first(first_bytes, H2_PREFACE_BYTES);
    if (have.n && memcmp(have.p, H2_PREFACE, have.n) != 0)
        return -1;
    return have.n == H2_PREFACE_BYTES;
}

/* ---- life ---- */

static uint32_t clamp(uint32_t v, uint32_t least, uint32_t most)
{
    return v < least ? least : v > most ? most : v;
}

static struct h2_session *session_new(const struct http_limits *limits,
                                      const struct http_codec_events *events, void *user,
                                      bool server)
{
    struct h2_session *h = mem_new(struct h2_session);
    h->c = (struct http_codec){.ops = &h2_codec_ops,
                               .ev = events,
                               .user = user,
                               .state = HTTP_CODEC_OPEN,
                               .protocol = HTTP_2,
                               .server = server,
                               .want_read = true};
    buf_init(&h->c.out);
    h->lim = *limits;
    h->lim.max_frame_size = clamp(h->lim.max_frame_size, H2_DEFAULT_FRAME, H2_LARGEST_FRAME);
    h->lim.initial_stream_window = clamp(h->lim.initial_stream_window, 1, H2_MAX_WINDOW);
    h->lim.initial_conn_window =
        clamp(h->lim.initial_conn_window, H2_DEFAULT_WINDOW, H2_MAX_WINDOW);
    h->c.max_streams = h->lim.max_concurrent_streams;
    h->rx = server ? H2_RX_PREFACE : H2_RX_HEADER;
    buf_init(&h->block.rest);
    hpack_decoder_init(&h->dec);
    hpack_encoder_init(&h->enc);
    h->slots = h->inline_slots;
    h->slot_mask = H2_INLINE_SLOTS - 1;
    list_init(&h->all);
    list_init(&h->ready);
    list_init(&h->dead);
    list_init(&h->spare);
    h->next_id = 1;
    h->peer_window = h->send_window = h->recv_window = h->my_window = H2_DEFAULT_WINDOW;
    h->peer_max_frame = H2_DEFAULT_FRAME;
    return h;
}

struct http_codec *h2_server_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user)
{
    return &session_new(limits, events, user, true)->c;
}

struct http_codec *h2_client_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user)
{
    struct h2_session *h = session_new(limits, events, user, false);
    buf_append_static(&h->c.out, sv_make(H2_PREFACE, H2_PREFACE_BYTES));
    h2_send_settings(h);
    h->output = false;
    return &h->c;
}

void h2_send_settings(struct h2_session *h)
{
    struct h2_setting_value v[8];
    unsigned n = 0;
    const struct http_limits *l = &h->lim;
#define SETTING(name, number)                                                                      \
    v[n++] = (struct h2_setting_value)                                                             \
    {                                                                                              \
        H2_S_##name, (number)                                                                      \
    }
    if (l->hpack_table_size != 4096)
        SETTING(HEADER_TABLE_SIZE, l->hpack_table_size);
    if (h->c.server)
        SETTING(MAX_CONCURRENT_STREAMS, l->max_concurrent_streams);
    else
        SETTING(ENABLE_PUSH, 0);
    if (l->initial_stream_window != H2_DEFAULT_WINDOW)
        SETTING(INITIAL_WINDOW_SIZE, l->initial_stream_window);
    if (l->max_frame_size != H2_DEFAULT_FRAME)
        SETTING(MAX_FRAME_SIZE, l->max_frame_size);
    SETTING(MAX_HEADER_LIST_SIZE, l->max_head_bytes);
    if (h->c.server && l->allow_connect)
        SETTING(ENABLE_CONNECT_PROTOCOL, 1);
#undef SETTING
    h->settings_sent = true;
    h2_write_settings(&h->c.out, v, n);
    if (l->initial_conn_window > H2_DEFAULT_WINDOW) {
        h2_write_window_update(&h->c.out, 0, l->initial_conn_window - H2_DEFAULT_WINDOW);
        h->recv_window = l->initial_conn_window;
    }
    h->output = true;
}

/* ---- entering and leaving ---- */

bool h2_reap(struct h2_session *h)
{
    struct list *it = list_first(&h->dead);
    if (!it)
        return false;
    for (; it; it = list_first(&h->dead)) {
        struct h2_stream *s = container_of(it, struct h2_stream, work);
        list_del(it);
        if (s->known && s->s.ev && s->s.ev->on_close)
            s->s.ev->on_close(s->s.user);
        h2_stream_free(h, s);
    }
    h->idle = true;
    return true;
}

static void check_drained(struct h2_session *h)
{
    if (h->c.state != HTTP_CODEC_DRAINING || h->c.streams || (h->c.server && !h->final_sent))
        return;
    h->c.state = HTTP_CODEC_FLUSH;
    h->output = true;
}

static void tell_glue(struct h2_session *h)
{
    if (h->telling)
        return;
    h->telling = true;
    while (h->output) {
        h->output = false;
        if (h->c.ev->on_output)
            h->c.ev->on_output(h->c.user);
    }
    h->telling = false;
    if (h->idle) {
        h->idle = false;
        if (h->c.streams == 0 && h->c.ev->on_idle)
            h->c.ev->on_idle(h->c.user);
    }
}

static void leave(struct h2_session *h, bool may_reap)
{
    if (h->depth == 1) {
        do
            h2_pump(h);
        while (may_reap && h2_reap(h));
        check_drained(h);
        if (!list_empty(&h->dead))
            h->output = true; /* the glue comes back, and they are reaped */
    }
    if (--h->depth == 0)
        tell_glue(h);
}

void h2_leave(struct h2_session *h)
{
    leave(h, false);
}

void h2_leave_reap(struct h2_session *h)
{
    leave(h, true);
}

/* ---- ends ---- */

static void ping_done(struct h2_session *h, bool acked)
{
    h2_ping_fn fn = h->ping_fn;
    h->ping_fn = NULL;
    if (fn)
        fn(h->ping_user, acked);
}

static void end_streams(struct h2_session *h, enum http_reset why, const char *details)
{
    for (struct list *it; (it = list_first(&h->all));)
        h2_stream_gone(h, container_of(it, struct h2_stream, all), why, details);
    ping_done(h, false);
}

static const char *code_words(enum h2_error code)
{
    switch (code) {
    case H2_FLOW_CONTROL_ERROR:
        return "more was sent than the flow-control window allows";
    case H2_STREAM_CLOSED:
        return "a frame for a stream that is closed";
    case H2_FRAME_SIZE_ERROR:
        return "a frame of a size that it must not have";
    case H2_COMPRESSION_ERROR:
        return "a header block that cannot be decompressed";
    case H2_ENHANCE_YOUR_CALM:
        return "the peer exceeded a limit against abuse";
    default:
        return "the peer broke the HTTP/2 protocol";
    }
}

int h2_conn_error(struct h2_session *h, enum h2_error code, const char *details)
{
    if (!h2_alive(h))
        return h->error ? h->error : E_PROTOCOL;
    bool limit = code == H2_ENHANCE_YOUR_CALM;
    h->error = limit ? E_LIMIT : E_PROTOCOL;
    h->c.error_text = details;
    h->c.error_reason = code_words(code);
    h->c.state = HTTP_CODEC_FLUSH;
    if (!h->settings_sent)
        h2_send_settings(h);
    h2_write_goaway(&h->c.out, h->c.server ? h->last_id : 0, code, sv_of(details));
    H2_COUNT(h, goaway_sent);
    h->output = true;
    end_streams(h, limit ? HTTP_RESET_OVERFLOW : HTTP_RESET_PROTOCOL, details);
    return h->error;
}

static void codec_dead(struct h2_session *h, enum http_reset why, const char *details)
{
    if (h->c.state == HTTP_CODEC_DEAD)
        return;
    h2_enter(h);
    h->c.state = HTTP_CODEC_DEAD;
    end_streams(h, why, details);
    h2_leave_reap(h);
}

static void codec_fail(struct http_codec *c, enum http_reset why, const char *details)
{
    codec_dead(h2_of(c), why, details);
}

static void codec_feed_eof(struct http_codec *c)
{
    codec_dead(h2_of(c), HTTP_RESET_CONN_TERMINATION, "http2.remote_close");
}

static void codec_free(struct http_codec *c)
{
    if (!c)
        return;
    struct h2_session *h = h2_of(c);
    h->telling = true; /* the glue is gone */
    codec_dead(h, HTTP_RESET_CONN_TERMINATION, "http2.local_close");
    h2_streams_fini(h);
    hpack_decoder_fini(&h->dec);
    hpack_encoder_fini(&h->enc);
    buf_reset(&h->block.rest);
    buf_reset(&h->c.out);
    free(h);
}

/* ---- drain ---- */

void h2_final_goaway(struct h2_session *h)
{
    if (h->final_sent || !h2_alive(h))
        return;
    h->final_sent = true;
    h->goaway_last = h->c.server ? h->last_id : 0;
    h2_write_goaway(&h->c.out, h->goaway_last, H2_NO_ERROR, SV(""));
    H2_COUNT(h, goaway_sent);
    h->output = true;
}

static void codec_drain(struct http_codec *c)
{
    struct h2_session *h = h2_of(c);
    if (!h2_alive(h))
        return;
    h2_enter(h);
    h->c.state = HTTP_CODEC_DRAINING;
    if (!h->settings_sent)
        h2_send_settings(h);
    if (!h->c.server || h->notice_sent) {
        h2_final_goaway(h);
    } else {
        h->notice_sent = h->drain_ping = true;
        h2_write_goaway(&h->c.out, H2_MAX_STREAM, H2_NO_ERROR, SV(""));
        h2_write_ping(&h->c.out, false, drain_opaque);
        H2_COUNT(h, goaway_sent);
        h->output = true;
    }
    h2_leave(h);
}

/* ---- ping ---- */

int h2_ping(struct http_codec *c, h2_ping_fn fn, void *user)
{
    struct h2_session *h = h2_of(c);
    if (!h2_alive(h))
        return E_CLOSED;
    if (h->ping_fn)
        return E_BUSY;
    h2_enter(h);
    if (!h->settings_sent)
        h2_send_settings(h);
    h->ping_fn = fn;
    h->ping_user = user;
    h2_write_ping(&h->c.out, false, ping_opaque);
    h->output = true;
    h2_leave(h);
    return 0;
}

int h2_on_ping(struct h2_session *h, const uint8_t *p)
{
    if (!(h->f.flags & H2_F_ACK)) {
        h2_write_ping(&h->c.out, true, p);
        return h2_count_control_out(h);
    }
    if (h->drain_ping && memcmp(p, drain_opaque, 8) == 0) {
        h->drain_ping = false;
        h2_final_goaway(h);
    } else if (memcmp(p, ping_opaque, 8) == 0) {
        ping_done(h, true);
    }
    return 0;
}

/* ---- the rest of the codec's table ---- */

static int codec_feed(struct http_codec *c, struct buf *in)
{
    struct h2_session *h = h2_of(c);
    if (!h2_alive(h)) {
        buf_reset(in);
        return 0;
    }
    h2_enter(h);
    int r = h2_recv(h, in);
    /* A callback may have ended the connection under us (outbound flood). */
    if (r == 0 && h->error)
        r = h->error;
    h2_leave_reap(h);
    return r;
}

static bool codec_can_open(const struct http_codec *c)
{
    const struct h2_session *h = h2_of(c);
    return !c->server && c->state == HTTP_CODEC_OPEN && c->streams < c->max_streams &&
           h->next_id + 2 * (c->streams - h->in_table) <= H2_MAX_STREAM;
}

static struct http_stream *codec_open(struct http_codec *c, const struct http_stream_events *ev,
                                      void *user)
{
    if (!codec_can_open(c))
        return NULL;
    struct h2_stream *s = h2_stream_new(h2_of(c));
    s->known = true;
    http_stream_set_user(&s->s, ev, user);
    return &s->s;
}

static void codec_wrote(struct http_codec *c, size_t n)
{
    struct h2_session *h = h2_of(c);
    h2_enter(h);
    h2_count_written(h, n);
    h2_leave_reap(h);
}

static const struct http_codec_ops h2_codec_ops = {
    .feed = codec_feed,
    .feed_eof = codec_feed_eof,
    .fail = codec_fail,
    .open = codec_open,
    .can_open = codec_can_open,
    .drain = codec_drain,
    .wrote = codec_wrote,
    .free = codec_free,
};
