#include "serve/serve_http.h"
#include <stdio.h>
#include <stdlib.h>
#include "h1/h1.h"
#include "http/path.h"

/* In the stream's arena, so it goes with the stream. */
struct request {
    struct serve_request r; /* first */
    struct serve_http *http;
    struct http_stream *s;
    struct strbuf body;
    struct http_headers extra;
    struct timer timer;
    struct deferred later;
    struct arena memory; /* of the stream, once that is gone */
    bool handed, answered, closed, high;
};

static struct request *self(struct serve_request *r)
{
    return container_of(r, struct request, r);
}

void serve_http_init(struct serve_http *h, serve_handler_fn fn, void *user)
{
    *h = (struct serve_http){.fn = fn, .user = user, .max_body = 1 << 20, .receive_ms = 30000};
}

/* ---- receiving ---- */

static void hand_over(struct request *q)
{
    timer_cancel(&q->timer);
    q->handed = true;
    q->r.body = strbuf_sv(&q->body);
    q->http->fn(q->http->user, &q->r);
}

/* Answers a request that will not be handed over, and does not wait for the rest of it. */
static void refuse(struct request *q, unsigned status)
{
    struct http_stream *s = q->s;
    timer_cancel(&q->timer);
    q->handed = true;
    bool whole = s->recv_end;
    if (whole) {
        serve_reply_text(&q->r, status, "%.*s\n", SV_ARG(h1_reason(status)));
        return;
    }
    struct http_head m;
    http_head_init(&m, s->arena);
    m.status = (uint16_t)status;
    q->answered = true;
    s->ops->send_head(s, &m, true);
    s->ops->reset(s, HTTP_RESET_NO_ERROR);
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct request *q = user;
    struct iovec v[16];
    if (q->handed)
        return;
    for (int n; (n = buf_iov(data, v, 16, SIZE_MAX)) > 0;) {
        for (int i = 0; i < n; i++) {
            strbuf_add(&q->body, v[i].iov_base, v[i].iov_len);
            buf_drain(data, v[i].iov_len);
        }
    }
    if (q->body.overflow)
        refuse(q, 413);
    else if (end)
        hand_over(q);
}

static void on_trailers(void *user, struct http_headers *t)
{
    struct request *q = user;
    if (!q->handed)
        hand_over(q);
}

static void on_timer(struct timer *t)
{
    refuse(container_of(t, struct request, timer), 408);
}

/* ---- the end ---- */

static void free_request(struct deferred *d)
{
    struct request *q = container_of(d, struct request, later);
    strbuf_fini(&q->body);
    struct arena a;
    arena_take(&a, &q->memory);
    arena_free(&a);
}

/* The stream goes, the request stays to the end of the turn: its handler may be on the stack. */
static void on_close(void *user)
{
    struct request *q = user;
    timer_cancel(&q->timer);
    q->closed = true;
    if (q->handed && !q->answered && q->r.on_gone)
        q->r.on_gone(&q->r);
    q->answered = true;
    arena_take(&q->memory, q->s->arena);
    q->r.arena = &q->memory;
    q->r.head->h.arena = &q->memory;
    loop_defer(q->r.peer->loop, &q->later, free_request);
}

static void on_high(void *user)
{
    ((struct request *)user)->high = true;
}

static void on_low(void *user)
{
    struct request *q = user;
    q->high = false;
    if (!q->answered && q->r.on_drain)
        q->r.on_drain(&q->r);
}

static const struct http_stream_events events = {
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_high = on_high,
    .on_low = on_low,
    .on_close = on_close,
};

bool serve_http_accept(void *user, struct http_stream *s, struct http_head *head, bool end,
                       const struct serve_peer *peer)
{
    struct serve_http *h = user;
    if (h->wants && !h->wants(h->user, head))
        return false;
    struct request *q = arena_new(s->arena, struct request);
    q->http = h;
    q->s = s;
    q->r.head = head;
    q->r.method = head->method;
    path_split(head->path, &q->r.path, &q->r.query);
    q->r.arena = s->arena;
    q->r.peer = peer;
    strbuf_init(&q->body, h->max_body);
    http_headers_init(&q->extra, s->arena);
    timer_init(&q->timer, peer->loop, on_timer);
    http_stream_set_user(s, &events, q);
    if (head->content_length > 0 && (uint64_t)head->content_length > h->max_body) {
        refuse(q, 413);
        return true;
    }
    if (end) {
        hand_over(q);
        return true;
    }
    if (h->receive_ms)
        timer_set(&q->timer, h->receive_ms);
    if (sv_eq_icase(http_headers_get(&head->h, HTTP_H_EXPECT), SV("100-continue"))) {
        struct http_head m;
        http_head_init(&m, s->arena);
        m.status = 100;
        s->ops->send_head(s, &m, false);
    }
    return true;
}

sv serve_query(const struct serve_request *r, sv key)
{
    sv v = path_query_get(r->query, key);
    return v.p ? path_decode(v, true, r->arena) : v;
}

/* ---- answering ---- */

void serve_reply_header(struct serve_request *r, const char *name, sv value)
{
    struct request *q = self(r);
    if (!q->closed)
        http_headers_set(&q->extra, sv_of(name), arena_sv(q->r.arena, value));
}

static int send_head(struct request *q, unsigned status, const char *type, sv length, bool end)
{
    struct http_head m;
    http_head_init(&m, q->r.arena);
    m.status = (uint16_t)status;
    m.h = q->extra;
    if (type && *type && status != 204 && status != 304)
        http_headers_set_id(&m.h, HTTP_H_CONTENT_TYPE, sv_of(type));
    if (length.n)
        http_headers_set_id(&m.h, HTTP_H_CONTENT_LENGTH, length);
    return q->s->ops->send_head(q->s, &m, end);
}

/* Takes all of body. */
static void reply_buf(struct request *q, unsigned status, const char *type, struct buf *body)
{
    char text[24];
    bool dead = q->answered || q->closed;
    q->answered = true;
    if (dead) {
        buf_reset(body);
        return;
    }
    snprintf(text, sizeof(text), "%zu", body->len);
    bool end = body->len == 0 || sv_eq(q->r.method, SV("HEAD"));
    int rc = send_head(q, status, type, body->len ? sv_of(text) : (sv){NULL, 0}, end);
    if (rc == 0 && !end)
        q->s->ops->send_data(q->s, body, true);
    buf_reset(body);
    if (rc == E_INVALID)
        q->s->ops->reset(q->s, HTTP_RESET_LOCAL);
}

void serve_reply(struct serve_request *r, unsigned status, const char *content_type, sv body)
{
    struct buf b;
    buf_init(&b);
    buf_append_sv(&b, body);
    reply_buf(self(r), status, content_type, &b);
}

void serve_reply_strbuf(struct serve_request *r, unsigned status, const char *content_type,
                        struct strbuf *s)
{
    if (s->overflow)
        serve_reply_text(r, 500, "the answer is larger than %zu bytes\n", s->max);
    else
        serve_reply(r, status, content_type, strbuf_sv(s));
    strbuf_fini(s);
}

void serve_reply_text(struct serve_request *r, unsigned status, const char *fmt, ...)
{
    struct strbuf s;
    va_list ap;
    strbuf_init(&s, 1 << 20);
    va_start(ap, fmt);
    strbuf_addv(&s, fmt, ap);
    va_end(ap);
    serve_reply(r, status, "text/plain; charset=utf-8", strbuf_sv(&s));
    strbuf_fini(&s);
}

int serve_reply_start(struct serve_request *r, unsigned status, const char *content_type)
{
    struct request *q = self(r);
    if (q->closed || q->answered)
        return E_CLOSED;
    if (!sv_eq(q->r.method, SV("HEAD")))
        return send_head(q, status, content_type, (sv){NULL, 0}, false);
    q->answered = true;
    send_head(q, status, content_type, (sv){NULL, 0}, true);
    return E_CLOSED;
}

int serve_reply_chunk(struct serve_request *r, sv bytes)
{
    struct request *q = self(r);
    struct buf b;
    if (q->closed || q->answered)
        return E_CLOSED;
    buf_init(&b);
    buf_append_sv(&b, bytes);
    int rc = q->s->ops->send_data(q->s, &b, false);
    return rc ? rc : q->high ? E_AGAIN : 0;
}

void serve_reply_end(struct serve_request *r)
{
    struct request *q = self(r);
    struct buf none;
    if (q->closed || q->answered)
        return;
    q->answered = true;
    buf_init(&none);
    q->s->ops->send_data(q->s, &none, true);
}

void serve_reply_abort(struct serve_request *r)
{
    struct request *q = self(r);
    if (q->closed || q->answered)
        return;
    q->answered = true;
    q->s->ops->reset(q->s, HTTP_RESET_LOCAL);
}
