/* What this room's tests share: a codec under test, a log of its events as text, and feeding the
 * same bytes whole, byte by byte, and in random pieces. */
#ifndef WEFT_H1_H1_TEST_H
#define WEFT_H1_H1_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/strbuf.h"
#include "h1/h1.h"

struct rig;
/* Called at the end of a request (server rigs) to answer it. */
typedef void (*rig_answer_fn)(struct rig *r, struct http_stream *s);

struct rig {
    struct http_codec *c;
    struct http_limits l;
    struct http_codec_stats stats;
    struct buf in;
    struct strbuf log;     /* events as text */
    struct strbuf sent;    /* everything that was in c->out */
    struct http_stream *s; /* the stream that runs, NULL after on_close */
    rig_answer_fn answer;
    bool refuse, keep_out;
    bool eager;        /* a glue that writes from inside on_output, which it should not */
    bool open_at_idle; /* can_open() as on_idle saw it */
    int outputs, rc;
    sv body; /* what the default answer says */
};

static inline void rig_head_log(struct rig *r, struct http_head *m, bool end)
{
    struct strbuf *l = &r->log;
    if (m->status)
        strbuf_addf(l, "%u", m->status);
    else
        strbuf_addf(l, "%.*s|%.*s|%.*s", SV_ARG(m->method), SV_ARG(m->authority), SV_ARG(m->path));
    if (m->scheme.n)
        strbuf_addf(l, "|%.*s", SV_ARG(m->scheme));
    if (m->upgrade)
        strbuf_addf(l, "|up=%.*s", SV_ARG(m->connect_protocol));
    if (m->protocol != HTTP_11)
        strbuf_addf(l, "|%s", http_protocol_text(m->protocol));
    for (uint32_t i = 0; i < m->h.n; i++)
        strbuf_addf(l, "|%.*s=%.*s", SV_ARG(m->h.v[i].name), SV_ARG(m->h.v[i].value));
    strbuf_add_c(l, end ? " end\n" : "\n");
}

static inline void rig_default_answer(struct rig *r, struct http_stream *s)
{
    struct http_head m;
    struct buf b;
    char len[24];
    http_head_init(&m, s->arena);
    m.status = 200;
    snprintf(len, sizeof(len), "%zu", r->body.n);
    http_headers_add_id(&m.h, HTTP_H_CONTENT_LENGTH, sv_of(len));
    assert_int_equal(s->ops->send_head(s, &m, false), 0);
    buf_init(&b);
    buf_append_sv(&b, r->body);
    assert_int_equal(s->ops->send_data(s, &b, true), 0);
}

static inline void rig_end(struct rig *r)
{
    if (r->c->server && r->answer)
        r->answer(r, r->s);
}

static inline void rig_on_head(void *user, struct http_head *m, bool end)
{
    struct rig *r = user;
    rig_head_log(r, m, end);
    if (end)
        rig_end(r);
}
static inline void rig_on_info(void *user, struct http_head *m)
{
    struct rig *r = user;
    strbuf_add_c(&r->log, "info ");
    rig_head_log(r, m, false);
}
/* Data is logged without its borders, which depend on the pieces that were fed. */
static inline void rig_on_data(void *user, struct buf *d, bool end)
{
    struct rig *r = user;
    if (d->len) {
        size_t n;
        char *p = buf_to_cstr(d, &n);
        if (r->log.n && r->log.p[r->log.n - 1] == '>')
            strbuf_cut(&r->log, r->log.n - 1);
        else
            strbuf_add_ch(&r->log, '<');
        strbuf_add(&r->log, p, n);
        strbuf_add_ch(&r->log, '>');
        free(p);
    }
    if (end) {
        strbuf_add_c(&r->log, " end\n");
        rig_end(r);
    }
}
static inline void rig_on_trailers(void *user, struct http_headers *t)
{
    struct rig *r = user;
    strbuf_add_c(&r->log, " trailers");
    for (uint32_t i = 0; i < t->n; i++)
        strbuf_addf(&r->log, "|%.*s=%.*s", SV_ARG(t->v[i].name), SV_ARG(t->v[i].value));
    strbuf_add_ch(&r->log, '\n');
    rig_end(r);
}
static inline void rig_on_reset(void *user, enum http_reset why, const char *details)
{
    struct rig *r = user;
    strbuf_addf(&r->log, "reset %s %s\n", http_reset_text(why), details);
}
static inline void rig_on_high(void *user)
{
    strbuf_add_c(&((struct rig *)user)->log, "high\n");
}
static inline void rig_on_low(void *user)
{
    strbuf_add_c(&((struct rig *)user)->log, "low\n");
}
static inline void rig_on_close(void *user)
{
    struct rig *r = user;
    strbuf_add_c(&r->log, "close\n");
    r->s = NULL;
}

static const struct http_stream_events rig_stream_events = {
    .on_head = rig_on_head,
    .on_info = rig_on_info,
    .on_data = rig_on_data,
    .on_trailers = rig_on_trailers,
    .on_reset = rig_on_reset,
    .on_high = rig_on_high,
    .on_low = rig_on_low,
    .on_close = rig_on_close,
};

static inline bool rig_on_stream(void *user, struct http_stream *s)
{
    struct rig *r = user;
    if (r->refuse)
        return false;
    r->s = s;
    http_stream_set_user(s, &rig_stream_events, r);
    return true;
}
static inline void rig_flush(struct rig *r);
static inline void rig_on_output(void *user)
{
    struct rig *r = user;
    r->outputs++;
    if (r->eager && r->c)
        rig_flush(r);
}
static inline void rig_on_goaway(void *user)
{
    strbuf_add_c(&((struct rig *)user)->log, "goaway\n");
}
static inline void rig_on_idle(void *user)
{
    struct rig *r = user;
    strbuf_add_c(&r->log, "idle\n");
    r->open_at_idle = r->c->ops->can_open(r->c);
}

static const struct http_codec_events rig_events = {
    .on_stream = rig_on_stream,
    .on_output = rig_on_output,
    .on_goaway = rig_on_goaway,
    .on_idle = rig_on_idle,
};

/* limits may be changed between rig_init and rig_start. */
static inline void rig_init(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    http_limits_default(&r->l);
    buf_init(&r->in);
    strbuf_init(&r->log, 1 << 22);
    strbuf_init(&r->sent, 1 << 22);
    r->answer = rig_default_answer;
    r->body = SV("ok");
}
static inline void rig_start(struct rig *r, bool server)
{
    r->c = server ? h1_server_new(&r->l, &rig_events, r) : h1_client_new(&r->l, &rig_events, r);
    r->c->stats = &r->stats;
}
static inline void rig_fini(struct rig *r)
{
    if (r->c)
        r->c->ops->free(r->c);
    buf_reset(&r->in);
    strbuf_fini(&r->log);
    strbuf_fini(&r->sent);
}

/* Takes what is in out, as if it had been written. */
static inline void rig_flush(struct rig *r)
{
    size_t n;
    char *p = buf_to_cstr(&r->c->out, &n);
    strbuf_add(&r->sent, p, n);
    free(p);
    buf_reset(&r->c->out);
    r->c->ops->wrote(r->c, n);
}

/* As a glue does it: feed, write, feed what was left as long as that helps. */
static inline void rig_turn(struct rig *r)
{
    for (size_t before = SIZE_MAX; r->rc == 0;) {
        r->rc = r->c->ops->feed(r->c, &r->in);
        if (!r->keep_out)
            rig_flush(r);
        if (!r->c->want_read || r->in.len == 0 || r->in.len == before)
            break;
        before = r->in.len;
    }
    if (!r->keep_out)
        rig_flush(r);
}
static inline void rig_feed(struct rig *r, const char *p, size_t n)
{
    buf_append(&r->in, p, n);
    rig_turn(r);
}
static inline void rig_feed_c(struct rig *r, const char *text)
{
    rig_feed(r, text, strlen(text));
}

static inline const char *rig_log(struct rig *r)
{
    return r->log.n ? r->log.p : "";
}
static inline const char *rig_sent(struct rig *r)
{
    return r->sent.n ? r->sent.p : "";
}
static inline void rig_clear(struct rig *r)
{
    strbuf_reset(&r->log);
    strbuf_reset(&r->sent);
}

/* Ways to cut the same bytes: 0 whole, 1 byte by byte, 2 byte by byte as slices of their own,
 * 3.. random pieces, every other one as slices. */
#define RIG_WAYS 12
static inline void rig_feed_way(struct rig *r, const char *p, size_t n, int way)
{
    uint32_t x = (uint32_t)way * 2654435761u + 1;
    while (n && r->rc == 0) {
        x = x * 1664525u + 1013904223u;
        size_t k = way == 0 ? n : way < 3 ? 1 : 1 + (x >> 16) % (way % 2 ? 7 : 40);
        if (k > n)
            k = n;
        if (way % 2)
            buf_append(&r->in, p, k);
        else
            buf_append_static(&r->in, sv_make(p, k));
        rig_turn(r);
        p += k;
        n -= k;
    }
}

static inline void no_answer(struct rig *r, struct http_stream *s)
{
}

/* Sends a response as the test wants it: fields, status, body in pieces. */
static inline void respond(struct rig *r, unsigned status, const char *name, const char *value,
                           const char *body, bool end)
{
    struct http_head m;
    struct buf b;
    http_head_init(&m, r->s->arena);
    m.status = (uint16_t)status;
    if (name)
        http_headers_add(&m.h, sv_of(name), sv_of(value));
    assert_int_equal(r->s->ops->send_head(r->s, &m, end && !body), 0);
    if (!body)
        return;
    buf_init(&b);
    buf_append_sv(&b, sv_of(body));
    assert_int_equal(r->s->ops->send_data(r->s, &b, end), 0);
    assert_int_equal(b.len, 0);
}

#endif
