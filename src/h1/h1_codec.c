/* Life of the codec and of its one stream. */
#include "base/mem.h"
#include "base/code.h"
#include "h1/h1_int.h"

struct h1_stream *h1_stream_new(struct h1 *h)
{
    arena_init(&h->arena);
    struct h1_stream *s = arena_new(&h->arena, struct h1_stream);
    s->s.ops = h->c.server ? &h1_server_stream_ops : &h1_client_stream_ops;
    s->s.codec = &h->c;
    s->s.arena = &h->arena;
    http_head_init(&s->head, &h->arena);
    s->head.h.spelled = h->l.spelling == HTTP_SPELLING_KEPT;
    h->s = s;
    h->rx = RX_HEAD;
    h->tx = TX_HEAD;
    return s;
}

void h1_stream_drop(struct h1 *h)
{
    h->s = NULL;
    arena_free(&h->arena);
}

void h1_set_state(struct h1 *h, enum http_codec_state st)
{
    if (st > h->c.state)
        h->c.state = st;
}

/* ---- want_read ---- */

HOT void h1_update_want(struct h1 *h)
{
    const struct h1_stream *s = h->s;
    if (h->c.state >= HTTP_CODEC_FLUSH)
        h->c.want_read = false;
    else if (!s)
        h->c.want_read = !h->c.server || h->c.out.len <= h->l.high_watermark;
    else if (s->pauses || h->rx == RX_HOLD)
        h->c.want_read = false;
    else
        h->c.want_read = !h->c.server || h->rx != RX_DONE;
}

HOT void h1_poke(struct h1 *h)
{
    h1_update_want(h);
    if (!h->c.ev->on_output)
        return;
    h->depth++;
    h->c.ev->on_output(h->c.user);
    h->depth--;
}

/* ---- watermarks ---- */

size_t h1_queued(const struct h1 *h)
{
    return h->c.out.len + (h->s ? h->s->held.len : 0);
}

HOT void h1_watermarks(struct h1 *h)
{
    struct h1_stream *s = h->s;
    size_t n = h1_queued(h);
    bool was = h->above;
    if (n > h->l.high_watermark)
        h->above = true;
    else if (n <= h->l.low_watermark)
        h->above = false;
    if (was == h->above || !s || s->over || !s->s.ev)
        return;
    void (*fn)(void *) = h->above ? s->s.ev->on_high : s->s.ev->on_low;
    if (fn)
        fn(s->s.user);
}

/* ---- the end of a stream ---- */

void h1_kill(struct h1 *h, enum http_reset why, const char *details)
{
    struct h1_stream *s = h->s;
    if (s->over)
        return;
    s->over = true;
    if (s->s.ev && s->s.ev->on_reset)
        s->s.ev->on_reset(s->s.user, why, details);
}

static void state_after(struct h1 *h, bool clean, size_t unread)
{
    bool end = !clean || h->close_after || h->c.switched || h->c.state == HTTP_CODEC_DRAINING;
    if (h->c.server) {
        if (end)
            h1_set_state(h, HTTP_CODEC_FLUSH);
    } else if (end || h->junk || unread || h->c.out.len) {
        h1_set_state(h, HTTP_CODEC_DEAD);
    }
}

static void finish(struct h1 *h, size_t unread)
{
    struct h1_stream *s = h->s;
    bool clean = !s->over && s->s.recv_end && s->s.sent_end;
    s->over = true;
    buf_reset(&s->held);
    h->depth++;
    if (s->s.ev && s->s.ev->on_close)
        s->s.ev->on_close(s->s.user);
    arena_free(&h->arena);
    h->s = NULL;
    h->c.streams = 0;
    h->rx = RX_HEAD;
    h->tx = TX_HEAD;
    h->scanned = 0;
    h->blanks = 0;
    h->infos = 0;
    h->above = false;
    state_after(h, clean, unread);
    h1_update_want(h);
    if (h->c.ev->on_idle)
        h->c.ev->on_idle(h->c.user);
    if (h->c.state >= HTTP_CODEC_FLUSH && h->c.ev->on_output)
        h->c.ev->on_output(h->c.user);
    h->depth--;
}

void h1_settle(struct h1 *h, size_t unread)
{
    if (h->s && (h->s->over || (h->s->s.recv_end && h->s->s.sent_end)))
        finish(h, unread);
}

void h1_recv_ended(struct h1 *h)
{
    h->s->s.recv_end = true;
    h->rx = RX_DONE;
}

/* ---- errors of the peer ---- */

int h1_peer_error(struct h1 *h, const struct h1_error *err)
{
    if (!h->c.error_text) {
        h->c.error_text = err->text;
        h->c.error_reason = err->reason;
    }
    if (!h->c.server)
        h1_set_state(h, HTTP_CODEC_DEAD);
    else if (!h->s || !h->s->head_sent)
        h1_answer(h, err->status);
    else
        h1_set_state(h, HTTP_CODEC_FLUSH);
    if (h->s)
        h1_kill(h, HTTP_RESET_PROTOCOL, err->text);
    return err->code;
}

/* ---- entries ---- */

static void fail(struct http_codec *c, enum http_reset why, const char *details)
{
    struct h1 *h = h1_of(c);
    h1_set_state(h, HTTP_CODEC_DEAD);
    if (h->s) {
        bool outer = h->depth++ == 0;
        h1_kill(h, why, details);
        h->depth--;
        if (outer)
            h1_settle(h, 0);
    }
    h1_update_want(h);
}

HOT static void wrote(struct http_codec *c, size_t n)
{
    struct h1 *h = h1_of(c);
    if (h->s && h->s->s.queued > h1_queued(h))
        h->s->s.queued = h1_queued(h);
    if (h->depth) {
        h1_watermarks(h);
        return;
    }
    h->depth++;
    h1_watermarks(h);
    h->depth--;
    h1_settle(h, 0);
    h1_update_want(h);
}

static bool can_open(const struct http_codec *c)
{
    const struct h1 *h = (const struct h1 *)c;
    return !c->server && c->state == HTTP_CODEC_OPEN && !h->s && !h->junk;
}

HOT static struct http_stream *open_stream(struct http_codec *c,
                                           const struct http_stream_events *ev, void *user)
{
    struct h1 *h = h1_of(c);
    if (!can_open(c))
        return NULL;
    struct h1_stream *s = h1_stream_new(h);
    http_stream_set_user(&s->s, ev, user);
    s->s.id = (uint32_t)++c->streams_total;
    c->streams = 1;
    h1_update_want(h);
    return &s->s;
}

static void drain(struct http_codec *c)
{
    struct h1 *h = h1_of(c);
    h1_set_state(h, c->server || h->s ? HTTP_CODEC_DRAINING : HTTP_CODEC_FLUSH);
    h1_poke(h);
}

static void codec_free(struct http_codec *c)
{
    struct h1 *h = h1_of(c);
    if (h->s)
        fail(c, HTTP_RESET_CONN_TERMINATION, "connection_termination");
    h1_answer_free(h);
    buf_reset(&c->out);
    free(h);
}

static const struct http_codec_ops codec_ops = {
    .feed = h1_feed,
    .feed_eof = h1_feed_eof,
    .fail = fail,
    .open = open_stream,
    .can_open = can_open,
    .drain = drain,
    .wrote = wrote,
    .free = codec_free,
};

static struct http_codec *codec_init(struct h1 *h, const struct http_limits *l,
                                     const struct http_codec_events *events, void *user,
                                     bool server)
{
    memset(h, 0, sizeof *h);
    h->c.ops = &codec_ops;
    h->c.ev = events;
    h->c.user = user;
    buf_init(&h->c.out);
    h->c.state = HTTP_CODEC_OPEN;
    h->c.protocol = HTTP_11;
    h->c.server = server;
    h->c.want_read = true;
    h->c.max_streams = 1;
    h->l = (struct h1_limits){
        .max_head_bytes = l->max_head_bytes,
        .max_headers = l->max_headers,
        .max_uri_bytes = l->max_uri_bytes,
        .max_chunk_ext_bytes = l->max_chunk_ext_bytes,
        .high_watermark = l->high_watermark,
        .low_watermark = l->low_watermark,
        .allow_http10 = server ? l->allow_http10 : true,
        .allow_absolute_url = l->allow_absolute_url,
        .allow_chunked_length = l->allow_chunked_length,
        .spelling = l->spelling,
        .allow_underscores = l->allow_underscores,
        .reject_underscores = l->reject_underscores,
        .enable_trailers = l->enable_trailers,
    };
    return &h->c;
}

struct http_codec *h1_server_new_from(struct http_codec *spare, const struct http_limits *limits,
                                      const struct http_codec_events *events, void *user)
{
    struct h1 *h = spare ? h1_of(spare) : mem_alloc(sizeof *h);
    return codec_init(h, limits, events, user, true);
}

bool h1_at_rest(const struct http_codec *c)
{
    const struct h1 *h = (const struct h1 *)c;
    return c->state == HTTP_CODEC_OPEN && !h->s && !c->out.len && !h->scanned && !h->blanks &&
           !h->depth && !h->close_after && !c->switched && !c->shut_write && !c->error_text;
}

struct http_codec *h1_server_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user)
{
    return h1_server_new_from(NULL, limits, events, user);
}

struct http_codec *h1_client_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user)
{
    return codec_init(mem_alloc(sizeof(struct h1)), limits, events, user, false);
}

bool h1_in_head(const struct http_codec *c)
{
    const struct h1 *h = (const struct h1 *)c;
    return h->scanned > 0 && h->rx == RX_HEAD;
}
