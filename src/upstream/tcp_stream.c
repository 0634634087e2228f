/* A http_stream over a TCP connection. */
#include "base/mem.h"
#include "upstream/tunnel.h"

#define READ_CHUNK (64u << 10)

struct tcp_stream {
    struct http_stream s;
    struct http_codec codec; /* only says what is spoken: nothing that a reply could be framed by */
    struct arena arena;
    struct conn *c;
    struct upstream_host *host;
    struct buf out;
    size_t high;
    struct timer later; /* the answer, or a failure found while sending */
    struct deferred gone;
    uint32_t pauses;
    bool answered, above, shut, dead, closed;
};

static struct tcp_stream *of(struct http_stream *s)
{
    return container_of(s, struct tcp_stream, s);
}

/* ---- the end ---- */

static void free_stream(struct deferred *d)
{
    struct tcp_stream *t = container_of(d, struct tcp_stream, gone);
    arena_free(&t->arena);
    free(t);
}

static void end(struct tcp_stream *t, bool by_remote, bool abort)
{
    if (t->closed)
        return;
    t->closed = true;
    timer_cancel(&t->later);
    upstream_tcp_finished(t->host, t->c, by_remote);
    conn_set_owner(t->c, NULL, NULL);
    if (abort)
        conn_abort(t->c);
    else
        conn_close(t->c);
    buf_reset(&t->out);
    loop_defer(t->c->loop, &t->gone, free_stream);
    if (t->s.ev->on_close)
        t->s.ev->on_close(t->s.user);
}

static void fail(struct tcp_stream *t)
{
    if (t->closed)
        return;
    if (t->s.ev->on_reset)
        t->s.ev->on_reset(t->s.user, HTTP_RESET_CONN_TERMINATION, "connection_termination");
    end(t, true, true);
}

static void end_if_over(struct tcp_stream *t)
{
    if (t->s.recv_end && t->shut)
        end(t, true, false);
}

/* ---- to the host ---- */

static void flush(struct tcp_stream *t)
{
    if (t->out.len && conn_write(t->c, &t->out) < 0) {
        t->dead = true; /* told from a place where nobody of the stream is on the stack */
        timer_set(&t->later, 0);
        return;
    }
    t->s.queued = t->out.len;
    t->s.wire_bytes_out = t->c->bytes_written;
    if (!t->above && t->out.len > t->high) {
        t->above = true;
        if (t->s.ev->on_high)
            t->s.ev->on_high(t->s.user);
    } else if (t->above && t->out.len <= t->high / 2) {
        t->above = false;
        if (t->s.ev->on_low)
            t->s.ev->on_low(t->s.user);
    }
    if (t->closed || t->out.len || !t->s.sent_end || t->shut)
        return;
    t->shut = true;
    conn_shutdown_write(t->c);
}

static int send_head(struct http_stream *s, const struct http_head *head, bool is_end)
{
    struct tcp_stream *t = of(s);
    s->sent_end = is_end;
    timer_set(&t->later, 0);
    flush(t);
    return 0;
}

static int send_data(struct http_stream *s, struct buf *data, bool is_end)
{
    struct tcp_stream *t = of(s);
    if (t->closed || s->sent_end) {
        buf_reset(data);
        return E_CLOSED;
    }
    s->body_bytes_out += data->len;
    s->sent_end = is_end;
    buf_move(&t->out, data);
    flush(t);
    if (!t->closed)
        end_if_over(t);
    return 0;
}

static int send_trailers(struct http_stream *s, const struct http_headers *trailers)
{
    struct buf none;
    buf_init(&none);
    return send_data(s, &none, true); /* TCP has no place for them */
}

/* ---- from the host ---- */

static void read_in(struct tcp_stream *t)
{
    while (!t->closed && t->answered && !t->pauses && !t->s.recv_end && t->c->readable) {
        struct buf in;
        if (loop_full(t->c->loop)) {
            conn_kick(t->c);
            return;
        }
        buf_init(&in);
        ssize_t n = conn_read(t->c, &in, READ_CHUNK);
        if (n == E_AGAIN)
            return;
        if (n < 0 && n != E_EOF) {
            fail(t);
            return;
        }
        t->s.recv_end = n == E_EOF;
        t->s.body_bytes_in += in.len;
        t->s.wire_bytes_in = t->c->bytes_read;
        if (t->s.ev->on_data)
            t->s.ev->on_data(t->s.user, &in, t->s.recv_end);
        buf_reset(&in);
    }
    if (!t->closed)
        end_if_over(t);
}

static void on_later(struct timer *timer)
{
    struct tcp_stream *t = container_of(timer, struct tcp_stream, later);
    if (t->dead) {
        fail(t);
        return;
    }
    if (t->answered)
        return;
    struct http_head *head = arena_new(&t->arena, struct http_head);
    http_head_init(head, &t->arena);
    head->status = 200;
    head->protocol = HTTP_11;
    t->answered = true;
    if (t->s.ev->on_head)
        t->s.ev->on_head(t->s.user, head, false);
    read_in(t);
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct tcp_stream *t = user;
    if (events & CONN_EV_READ)
        read_in(t);
    if (events & CONN_EV_WRITE && !t->closed) {
        flush(t);
        if (!t->closed)
            end_if_over(t);
    }
    if (events & CONN_EV_ERROR)
        fail(t);
}

/* ---- the table ---- */

static void reset(struct http_stream *s, enum http_reset why)
{
    end(of(s), false, true);
}

static void pause_reading(struct http_stream *s, bool on)
{
    struct tcp_stream *t = of(s);
    if (t->closed || (!on && !t->pauses))
        return;
    t->pauses += on ? 1u : -1u;
    if (!t->pauses)
        conn_kick(t->c);
}

static const struct http_stream_ops ops = {
    .send_head = send_head,
    .send_data = send_data,
    .send_trailers = send_trailers,
    .reset = reset,
    .pause = pause_reading,
};
static const struct http_stream_events no_events;

struct http_stream *tcp_stream_new(struct conn *c, struct upstream_host *host, sv first,
                                   size_t high)
{
    struct tcp_stream *t = mem_new(struct tcp_stream);
    arena_init(&t->arena);
    buf_init(&t->out);
    buf_append_sv(&t->out, first);
    timer_init(&t->later, c->loop, on_later);
    t->c = c;
    t->host = host;
    t->high = high;
    t->codec.protocol = HTTP_11;
    t->codec.streams_total = t->codec.streams = 1;
    t->s.ops = &ops;
    t->s.ev = &no_events;
    t->s.codec = &t->codec;
    t->s.arena = &t->arena;
    conn_set_owner(c, on_event, t);
    return &t->s;
}
