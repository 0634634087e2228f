/* Client calls: from the wish for a stream to the request's head. */
#include "grpc/grpc_call.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "0"
#endif

static int send_request_head(struct grpc_call *c)
{
    struct http_head m;
    char timeout[16];
    http_head_init(&m, c->s->arena);
    m.protocol = HTTP_2;
    m.method = SV("POST");
    m.scheme = c->ch->scheme;
    m.authority = c->ch->authority;
    m.path = c->path;
    http_headers_add_id(&m.h, HTTP_H_TE, SV("trailers"));
    http_headers_add_id(&m.h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    http_headers_add_id(&m.h, HTTP_H_USER_AGENT, SV("grpc-weft/" WEFT_VERSION));
    http_headers_add(&m.h, SV("grpc-accept-encoding"), SV("identity"));
    if (c->deadline_ms)
        http_headers_add_id(&m.h, HTTP_H_GRPC_TIMEOUT,
                            grpc_timeout_format(grpc_call_time_left_ms(c), timeout));
    http_headers_add_all(&m.h, &c->metadata);
    return c->s->ops->send_head(c->s, &m, false);
}

static void opened(struct serve_open *o, struct http_stream *s, enum http_reset why,
                   const char *details)
{
    struct grpc_call *c = container_of(o, struct grpc_call, open);
    c->opening = false;
    if (!s) {
        grpc_call_end(
            c, GRPC_UNAVAILABLE,
            arena_printf(&c->arena, "no connection: %s", details ? details : http_reset_text(why)),
            false);
        return;
    }
    c->s = s;
    http_stream_set_user(s, &grpc_stream_events, c);
    for (unsigned i = 0; i < c->pauses; i++)
        s->ops->pause(s, true);
    if (send_request_head(c) != 0) {
        grpc_call_end(c, GRPC_INTERNAL, SV("the request's head cannot be sent"), true);
        return;
    }
    c->head_sent = true;
    bool was_full = c->out.len > GRPC_QUEUE_MAX;
    if (c->s && (c->out.len || c->out_end))
        s->ops->send_data(s, &c->out, c->out_end);
    if (was_full && grpc_writable(c) && c->ev->on_writable)
        c->ev->on_writable(c->user);
}

struct grpc_call *grpc_call_start(struct serve_channel *ch, sv path,
                                  const struct http_headers *metadata, const struct grpc_opts *opts,
                                  const struct grpc_call_events *ev, void *user)
{
    struct grpc_call *c = grpc_call_new(ch->loop, opts ? opts->max_message_bytes : 0);
    c->ch = ch;
    c->path = arena_sv(&c->arena, path);
    c->open.fn = opened;
    if (ev)
        grpc_call_set_events(c, ev, user);
    if (metadata)
        http_headers_copy(&c->metadata, metadata, &c->arena);
    if (opts && opts->timeout_ms)
        grpc_call_set_deadline(c, opts->timeout_ms);
    c->opening = true;
    serve_channel_open(ch, &c->open);
    return c;
}

void grpc_half_close(struct grpc_call *c)
{
    if (c->server || c->done || c->dead || c->out_end)
        return;
    c->out_end = true;
    if (c->s)
        c->s->ops->send_data(c->s, &c->out, true);
}

/* ---- unary ---- */

struct unary {
    struct grpc_call *call;
    grpc_unary_fn fn;
    void *user;
    struct buf answer;
    unsigned answers;
};

static void unary_message(void *user, struct buf *msg, sv bytes)
{
    struct unary *u = user;
    if (u->answers++ == 0)
        buf_move(&u->answer, msg);
}

static void unary_done(void *user, const struct grpc_result *r)
{
    struct unary *u = user;
    struct grpc_result wrong = {GRPC_INTERNAL, SV_INIT("not exactly one answer"), r->trailers};
    if (r->code != GRPC_OK)
        u->fn(u->user, r, (sv){NULL, 0});
    else if (u->answers != 1)
        u->fn(u->user, &wrong, (sv){NULL, 0});
    else
        u->fn(u->user, r, u->answer.len ? buf_pullup(&u->answer, u->answer.len) : SV(""));
}

static void unary_free(void *arg)
{
    struct unary *u = arg;
    buf_reset(&u->answer);
}

struct grpc_call *grpc_unary(struct serve_channel *ch, sv path, const struct http_headers *metadata,
                             const struct grpc_opts *opts, sv request, grpc_unary_fn fn, void *user)
{
    static const struct grpc_call_events events = {.on_message = unary_message,
                                                   .on_done = unary_done};
    struct grpc_call *c = grpc_call_start(ch, path, metadata, opts, NULL, NULL);
    struct unary *u = arena_new(&c->arena, struct unary);
    *u = (struct unary){.call = c, .fn = fn, .user = user};
    arena_on_free(&c->arena, unary_free, u);
    grpc_call_set_events(c, &events, u);
    grpc_send(c, request);
    grpc_half_close(c);
    return c;
}
