#include "grpc/grpc_call.h"

#include <stdlib.h>
#include "base/mem.h"

static void later(struct deferred *d);
static void on_timer(struct timer *t);

/* ---- life ---- */

struct grpc_call *grpc_call_new(struct loop *loop, uint32_t max_message_bytes)
{
    static const struct grpc_call_events no_events;
    struct grpc_call *c = mem_new(struct grpc_call);
    c->loop = loop;
    c->ev = &no_events;
    arena_init(&c->arena);
    timer_init(&c->timer, loop, on_timer);
    grpc_reader_init(&c->in, max_message_bytes ? max_message_bytes : GRPC_DEFAULT_MAX_MESSAGE);
    list_init(&c->link);
    list_init(&c->open.link);
    buf_init(&c->out);
    buf_init(&c->request);
    return c;
}

static void call_free(struct grpc_call *c)
{
    timer_cancel(&c->timer);
    grpc_reader_fini(&c->in);
    buf_reset(&c->out);
    buf_reset(&c->request);
    arena_free(&c->arena);
    free(c);
}

static void call_later(struct grpc_call *c)
{
    if (c->later_due)
        return;
    c->later_due = true;
    loop_defer(c->loop, &c->later, later);
}

void grpc_call_set_deadline(struct grpc_call *c, uint64_t timeout_ms)
{
    if (timeout_ms > GRPC_TIMEOUT_MAX_MS)
        timeout_ms = GRPC_TIMEOUT_MAX_MS;
    c->deadline_ms = loop_now_ms(c->loop) + timeout_ms;
    timer_set(&c->timer, timeout_ms);
}

uint64_t grpc_call_time_left_ms(const struct grpc_call *c)
{
    if (!c->deadline_ms)
        return UINT64_MAX;
    uint64_t now = loop_now_ms(c->loop);
    return c->deadline_ms > now ? c->deadline_ms - now : 0;
}

static void on_timer(struct timer *t)
{
    struct grpc_call *c = container_of(t, struct grpc_call, timer);
    if (c->server)
        grpc_finish(c, GRPC_DEADLINE_EXCEEDED, SV("deadline exceeded"), NULL);
    else
        grpc_call_end(c, GRPC_DEADLINE_EXCEEDED, SV("deadline exceeded"), true);
}

/* ---- leaving the stream ---- */

/* What is left of a stream whose call is over: a server's answer may still be on its way out, and
 * the client is told to stop sending once it is. `user` is the stream. */
static void linger_data(void *user, struct buf *data, bool end)
{
    struct http_stream *s = user;
    if (s->sent_end && !end)
        s->ops->reset(s, HTTP_RESET_NO_ERROR);
}
static const struct http_stream_events linger = {.on_data = linger_data};

/* The call lets go of its stream; `abort` resets it, otherwise what was sent goes out. */
static void leave_stream(struct grpc_call *c, bool abort)
{
    struct http_stream *s = c->s;
    if (c->opening) {
        c->opening = false;
        serve_channel_cancel(c->ch, &c->open);
    }
    if (!s)
        return;
    c->s = NULL;
    c->peer = NULL;
    http_stream_set_user(s, &linger, s);
    if (!abort)
        for (; c->pauses; c->pauses--)
            s->ops->pause(s, false);
    /* A client has its answer: what it did not send yet is not wanted any more. */
    abort = abort || (!c->server && !s->sent_end);
    if (abort || (s->sent_end && !s->recv_end))
        s->ops->reset(s, abort ? HTTP_RESET_LOCAL : HTTP_RESET_NO_ERROR);
}

/* ---- the end ---- */

void grpc_call_end(struct grpc_call *c, int code, sv message, bool local)
{
    if (c->done || c->dead)
        return;
    c->done = true;
    c->local = local;
    c->result.code = code;
    c->result.message = arena_sv(&c->arena, message);
    timer_cancel(&c->timer);
    if (!c->server)
        leave_stream(c, true);
    call_later(c);
}

static void tell(struct grpc_call *c)
{
    c->dead = true;
    if (c->server)
        grpc_server_forget(c);
    if (c->ev->on_done)
        c->ev->on_done(c->user, &c->result);
}

static void later(struct deferred *d)
{
    struct grpc_call *c = container_of(d, struct grpc_call, later);
    c->later_due = false;
    if (!c->dead && !c->pauses && !c->local)
        grpc_call_pump(c);
    if (!c->dead && c->done && (c->local || !c->pauses))
        tell(c);
    if (!c->dead || c->later_due)
        return;
    leave_stream(c, false);
    call_free(c);
}

void grpc_cancel(struct grpc_call *c)
{
    if (c->dead)
        return;
    c->dead = true;
    timer_cancel(&c->timer);
    if (c->server)
        grpc_server_forget(c);
    leave_stream(c, !c->done);
    call_later(c);
}

/* ---- messages in ---- */

static void bad_message(struct grpc_call *c, int error)
{
    enum grpc_code code = error == E_LIMIT         ? GRPC_RESOURCE_EXHAUSTED
                          : error == E_UNSUPPORTED ? GRPC_UNIMPLEMENTED
                                                   : GRPC_INTERNAL;
    sv text = error == E_LIMIT         ? SV("message larger than the limit")
              : error == E_UNSUPPORTED ? SV("compressed messages are not supported")
                                       : SV("malformed message frame");
    if (c->server)
        grpc_finish(c, code, text, NULL);
    else
        grpc_call_end(c, code, text, true);
}

static void deliver(struct grpc_call *c, struct buf *msg)
{
    if (c->request_fn) {
        if (c->request_seen)
            grpc_finish(c, GRPC_INTERNAL, SV("more than one request message"), NULL);
        c->request_seen = true;
        buf_move(&c->request, msg);
        return;
    }
    if (c->ev->on_message)
        c->ev->on_message(c->user, msg, buf_pullup(msg, msg->len));
}

static void received_all(struct grpc_call *c)
{
    if (c->half_told)
        return;
    c->half_told = true;
    bool failed = c->result_known && c->result.code != GRPC_OK;
    if (!grpc_reader_done(&c->in) && !failed) {
        bad_message(c, E_PROTOCOL);
    } else if (c->request_fn) {
        grpc_server_unary(c);
    } else if (c->server) {
        if (c->ev->on_half_close)
            c->ev->on_half_close(c->user);
    } else if (!c->done) {
        if (c->result_known)
            c->done = true;
        else
            grpc_call_end(c, GRPC_UNKNOWN, SV("the response ended without a status"), true);
        timer_cancel(&c->timer);
        call_later(c);
    }
}

void grpc_call_pump(struct grpc_call *c)
{
    if (c->pumping)
        return;
    c->pumping = true;
    while (!c->pauses && !c->local && !c->dead) {
        struct buf msg;
        buf_init(&msg);
        int r = grpc_reader_next(&c->in, &msg);
        if (r == 0)
            deliver(c, &msg);
        buf_reset(&msg);
        if (r == E_AGAIN)
            break;
        if (r)
            bad_message(c, r);
    }
    if (c->recv_end && !c->pauses && !c->local && !c->dead)
        received_all(c);
    c->pumping = false;
}

/* ---- stream events ---- */

/* The server's status: from trailers, or from a head that is all there is. */
static void take_status(struct grpc_call *c, const struct http_headers *h, unsigned http_status)
{
    sv text = http_headers_get(h, HTTP_H_GRPC_STATUS);
    uint64_t code = 0;
    http_headers_copy(&c->trailers, h, &c->arena);
    c->result.trailers = &c->trailers;
    if (!text.p) {
        grpc_call_end(c, http_status == 200 ? GRPC_UNKNOWN : (int)grpc_code_of_http(http_status),
                      arena_printf(&c->arena, "HTTP status %u without grpc-status", http_status),
                      false);
        return;
    }
    if (sv_to_u64(text, &code) != 0 || code > INT32_MAX)
        code = GRPC_UNKNOWN;
    sv message = http_headers_get(&c->trailers, HTTP_H_GRPC_MESSAGE);
    c->result.code = (int)code;
    c->result.message = message.p ? grpc_message_decode(message, &c->arena) : SV("");
    c->result_known = true;
}

static void on_head(void *user, struct http_head *m, bool end)
{
    struct grpc_call *c = user;
    if (c->done || c->dead)
        return;
    bool grpc = m->status == 200 && http_head_is_grpc(m);
    if (end || (!grpc && http_headers_get(&m->h, HTTP_H_GRPC_STATUS).p)) {
        c->recv_end = true;
        take_status(c, &m->h, m->status);
        grpc_call_pump(c);
        return;
    }
    if (!grpc) {
        sv type = http_headers_get(&m->h, HTTP_H_CONTENT_TYPE);
        grpc_call_end(c, m->status == 200 ? GRPC_UNKNOWN : (int)grpc_code_of_http(m->status),
                      m->status == 200
                          ? arena_printf(&c->arena, "not a gRPC response: content-type '%.*s'",
                                         SV_ARG(sv_first(type, 200)))
                          : arena_printf(&c->arena, "HTTP status %u", m->status),
                      true);
        return;
    }
    if (c->ev->on_headers) {
        struct http_headers *h = arena_new(&c->arena, struct http_headers);
        http_headers_copy(h, &m->h, &c->arena);
        c->ev->on_headers(c->user, h);
    }
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct grpc_call *c = user;
    if (c->done || c->dead) {
        if (c->s)
            linger_data(c->s, data, end);
        return;
    }
    grpc_reader_add(&c->in, data);
    c->recv_end = end;
    grpc_call_pump(c);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    struct grpc_call *c = user;
    if (c->done || c->dead)
        return;
    c->recv_end = true;
    if (!c->server)
        take_status(c, trailers, 200);
    grpc_call_pump(c);
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct grpc_call *c = user;
    c->s = NULL;
    c->peer = NULL;
    if (c->result_known)
        return; /* the answer was whole; only our sending was cut */
    /* What came before it is delivered first, in the deferred part. */
    grpc_call_end(c, c->server ? GRPC_CANCELLED : (int)grpc_code_of_reset(why),
                  arena_printf(&c->arena, "stream reset: %s (%s)", http_reset_text(why),
                               details ? details : ""),
                  false);
}

static void on_high(void *user)
{
    struct grpc_call *c = user;
    c->high = true;
}

static void on_low(void *user)
{
    struct grpc_call *c = user;
    c->high = false;
    if (!c->done && !c->dead && c->ev->on_writable)
        c->ev->on_writable(c->user);
}

static void on_close(void *user)
{
    struct grpc_call *c = user;
    c->s = NULL;
    c->peer = NULL;
}

const struct http_stream_events grpc_stream_events = {.on_head = on_head,
                                                      .on_data = on_data,
                                                      .on_trailers = on_trailers,
                                                      .on_reset = on_reset,
                                                      .on_high = on_high,
                                                      .on_low = on_low,
                                                      .on_close = on_close};

/* ---- both sides ---- */

static int send_framed(struct grpc_call *c, struct buf *framed)
{
    if (c->server && !c->head_sent)
        grpc_send_headers(c, NULL);
    if (!c->s) {
        buf_move(&c->out, framed);
        return 0;
    }
    int r = c->s->ops->send_data(c->s, framed, false);
    return r ? E_CLOSED : 0;
}

static bool may_send(const struct grpc_call *c)
{
    return !c->done && !c->dead && !c->out_end && (c->s || c->opening);
}

int grpc_send(struct grpc_call *c, sv packed)
{
    if (!may_send(c))
        return E_CLOSED;
    struct buf framed;
    buf_init(&framed);
    grpc_frame_append(&framed, packed);
    return send_framed(c, &framed);
}

int grpc_send_buf(struct grpc_call *c, struct buf *packed)
{
    if (!may_send(c)) {
        buf_reset(packed);
        return E_CLOSED;
    }
    struct buf framed;
    buf_init(&framed);
    grpc_frame_append_buf(&framed, packed);
    return send_framed(c, &framed);
}

bool grpc_writable(const struct grpc_call *c)
{
    return may_send(c) && !c->high && c->out.len <= GRPC_QUEUE_MAX;
}

void grpc_pause(struct grpc_call *c, bool on)
{
    if (c->dead || (!on && c->pauses == 0))
        return;
    c->pauses += on ? 1u : -1u;
    if (c->s)
        c->s->ops->pause(c->s, on);
    if (c->pauses == 0)
        call_later(c); /* what was held is delivered from there */
}

void grpc_call_set_events(struct grpc_call *c, const struct grpc_call_events *ev, void *user)
{
    c->ev = ev;
    c->user = user;
}

struct arena *grpc_call_arena(struct grpc_call *c)
{
    return &c->arena;
}
