#include "serve/serve_call.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "base/strbuf.h"

struct serve_call {
    struct serve_channel *ch;
    struct serve_open open;
    struct serve_call_opts o; /* views into the arena */
    struct arena arena;
    serve_call_fn done;
    void *user;
    struct http_stream *s; /* NULL before it was got and after it ended */
    struct http_head *head;
    struct strbuf body;
    struct timer timer;
    struct deferred later;
    char details[256];
    int code;
    bool waiting, over, whole, cancelled;
};

/* ---- the end ---- */

static void finish(struct deferred *d)
{
    struct serve_call *c = container_of(d, struct serve_call, later);
    struct serve_result r = {.code = c->code,
                             .details = c->details,
                             .status = c->head ? c->head->status : 0,
                             .head = c->head,
                             .body = strbuf_sv(&c->body)};
    if (!c->cancelled)
        c->done(c->user, &r);
    strbuf_fini(&c->body);
    arena_free(&c->arena);
    free(c);
}

/* The outcome is known. The stream, if there is one, goes; the rest follows at the turn's end. */
static void end(struct serve_call *c, int code, const char *details)
{
    if (c->over)
        return;
    c->over = true;
    c->code = code;
    snprintf(c->details, sizeof(c->details), "%s", details ? details : "");
    timer_cancel(&c->timer);
    if (c->waiting)
        serve_channel_cancel(c->ch, &c->open);
    c->waiting = false;
    if (c->s) {
        /* The call may be gone before the stream is. */
        static const struct http_stream_events nobody;
        struct http_stream *s = c->s;
        c->s = NULL;
        http_stream_set_user(s, &nobody, NULL);
        s->ops->reset(s, HTTP_RESET_LOCAL);
    }
    loop_defer(c->ch->loop, &c->later, finish);
}

/* ---- the response ---- */

static void on_head(void *user, struct http_head *head, bool end_)
{
    struct serve_call *c = user;
    if (c->over)
        return;
    /* A copy, because done comes when the stream is gone. */
    c->head = arena_alloc(&c->arena, sizeof(*c->head));
    http_head_init(c->head, &c->arena);
    c->head->status = head->status;
    c->head->protocol = head->protocol;
    c->head->content_length = head->content_length;
    http_headers_copy(&c->head->h, &head->h, &c->arena);
    c->whole = end_;
    if (c->o.on_head)
        c->o.on_head(c->user, c->head);
}

static void on_data(void *user, struct buf *data, bool end_)
{
    struct serve_call *c = user;
    struct iovec v[16];
    if (c->over)
        return;
    c->whole = end_;
    if (c->o.on_data) {
        if (data->len)
            c->o.on_data(c->user, data);
        return;
    }
    for (int n; (n = buf_iov(data, v, 16, SIZE_MAX)) > 0;) {
        for (int i = 0; i < n; i++) {
            strbuf_add(&c->body, v[i].iov_base, v[i].iov_len);
            buf_drain(data, v[i].iov_len);
        }
    }
    if (c->body.overflow)
        end(c, E_LIMIT, "the response's body is too large");
}

static void on_trailers(void *user, struct http_headers *t)
{
    ((struct serve_call *)user)->whole = true;
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct serve_call *c = user;
    if (!c->whole)
        end(c, E_RESET, details && *details ? details : http_reset_text(why));
}

static void on_close(void *user)
{
    struct serve_call *c = user;
    c->s = NULL;
    end(c, c->whole ? 0 : E_RESET, c->whole ? NULL : "the stream ended early");
}

static const struct http_stream_events events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_close = on_close,
};

/* ---- the request ---- */

static int send_request(struct serve_call *c)
{
    struct http_head m;
    char length[24];
    struct http_stream *s = c->s;
    http_head_init(&m, &c->arena);
    m.method = c->o.method;
    m.path = c->o.path;
    m.scheme = c->ch->scheme;
    m.authority = c->o.authority.n ? c->o.authority : c->ch->authority;
    for (size_t i = 0; i < c->o.n_headers; i++)
        http_headers_add(&m.h, c->o.headers[i].name, c->o.headers[i].value);
    if (c->o.content_type.n)
        http_headers_set_id(&m.h, HTTP_H_CONTENT_TYPE, c->o.content_type);
    if (c->o.body.n) {
        snprintf(length, sizeof(length), "%zu", c->o.body.n);
        http_headers_set_id(&m.h, HTTP_H_CONTENT_LENGTH, sv_of(length));
    }
    int rc = s->ops->send_head(s, &m, c->o.body.n == 0);
    if (rc == 0 && c->o.body.n && c->s) {
        struct buf b;
        buf_init(&b);
        buf_append_sv(&b, c->o.body);
        rc = s->ops->send_data(s, &b, true);
    }
    return rc;
}

static void on_open(struct serve_open *o, struct http_stream *s, enum http_reset why,
                    const char *details)
{
    struct serve_call *c = container_of(o, struct serve_call, open);
    c->waiting = false;
    if (!s) {
        end(c, E_REFUSED, details && *details ? details : http_reset_text(why));
        return;
    }
    c->s = s;
    http_stream_set_user(s, &events, c);
    if (send_request(c) == E_INVALID)
        end(c, E_INVALID, "the request cannot be sent");
}

static void on_timer(struct timer *t)
{
    struct serve_call *c = container_of(t, struct serve_call, timer);
    end(c, E_TIMEOUT,
        c->waiting ? "timed out waiting for a connection"
        : c->head  ? "timed out in the middle of the response"
                   : "timed out waiting for the response");
}

/* ---- for the owner ---- */

static void copy_opts(struct serve_call *c, const struct serve_call_opts *o)
{
    struct arena *a = &c->arena;
    c->o = *o;
    c->o.method = arena_sv(a, o->method);
    c->o.path = arena_sv(a, o->path);
    c->o.authority = arena_sv(a, o->authority);
    c->o.content_type = arena_sv(a, o->content_type);
    c->o.body = arena_sv(a, o->body);
    struct http_header *h = arena_array(a, struct http_header, o->n_headers);
    for (size_t i = 0; i < o->n_headers; i++) {
        h[i].name = arena_sv(a, o->headers[i].name);
        h[i].value = arena_sv(a, o->headers[i].value);
    }
    c->o.headers = h;
}

struct serve_call *serve_call_start(struct serve_channel *ch, const struct serve_call_opts *o,
                                    serve_call_fn done, void *user)
{
    struct serve_call *c = mem_new(struct serve_call);
    arena_init(&c->arena);
    c->ch = ch;
    c->done = done;
    c->user = user;
    copy_opts(c, o);
    strbuf_init(&c->body, o->max_body ? o->max_body : 4 << 20);
    timer_init(&c->timer, ch->loop, on_timer);
    if (o->timeout_ms)
        timer_set(&c->timer, o->timeout_ms);
    list_init(&c->open.link);
    c->open.fn = on_open;
    c->waiting = true;
    serve_channel_open(ch, &c->open);
    return c;
}

void serve_call_cancel(struct serve_call *c)
{
    c->cancelled = true;
    end(c, E_CANCELLED, "cancelled");
}

void serve_call_pause(struct serve_call *c, bool on)
{
    if (c->s)
        c->s->ops->pause(c->s, on);
}
