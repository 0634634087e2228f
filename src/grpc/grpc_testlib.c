#include "grpc/grpc_testlib.h"

#include <stdlib.h>
#include "base/mem.h"
#include "h2/h2.h"

/* ---- server: a stream waits for its head, then goes to the acceptor ---- */

struct pending {
    struct list link;
    struct wire *w;
    struct http_stream *s;
};

static void pending_free(struct pending *p)
{
    list_del(&p->link);
    free(p);
}

static void on_head(void *user, struct http_head *m, bool end)
{
    struct pending *p = user;
    struct wire *w = p->w;
    struct http_stream *s = p->s;
    pending_free(p);
    static const struct http_stream_events none;
    http_stream_set_user(s, &none, NULL);
    if (w->accept(w->accept_user, s, m, end, &w->peer))
        return;
    struct http_head answer;
    http_head_init(&answer, s->arena);
    answer.status = 404;
    http_headers_add_id(&answer.h, HTTP_H_CONTENT_TYPE, SV("text/plain"));
    s->ops->send_head(s, &answer, true);
}

static void on_close(void *user)
{
    pending_free(user);
}

static bool on_stream(void *user, struct http_stream *s)
{
    static const struct http_stream_events ev = {.on_head = on_head, .on_close = on_close};
    struct wire *w = user;
    struct pending *p = mem_new(struct pending);
    p->w = w;
    p->s = s;
    list_push(&w->accepted, &p->link);
    http_stream_set_user(s, &ev, p);
    return true;
}

static const struct http_codec_events codec_events = {.on_stream = on_stream};

/* ---- client ---- */

static void give(struct wire *w, struct serve_open *o)
{
    list_del(&o->link);
    struct http_stream *s = w->fail ? NULL : w->client->ops->open(w->client, NULL, NULL);
    o->fn(o, s, HTTP_RESET_CONN_FAILURE, "connection refused");
}

static void wire_open(struct serve_channel *c, struct serve_open *o)
{
    struct wire *w = (struct wire *)c;
    list_push(&w->waiting, &o->link);
    if (!w->hold)
        give(w, o);
}

static void wire_cancel(struct serve_channel *c, struct serve_open *o)
{
    list_del(&o->link);
}

void wire_release(struct wire *w)
{
    w->hold = false;
    for (struct list *it; (it = list_first(&w->waiting));)
        give(w, container_of(it, struct serve_open, link));
}

static const struct serve_channel_ops channel_ops = {.open = wire_open, .cancel = wire_cancel};

/* ---- the wire ---- */

void wire_init(struct wire *w, const struct http_limits *client, const struct http_limits *server,
               serve_accept_fn accept, void *user)
{
    struct http_limits l;
    http_limits_default(&l);
    *w = (struct wire){.piece = 1 << 20, .accept = accept, .accept_user = user};
    w->loop = loop_new(NULL);
    w->ch = (struct serve_channel){&channel_ops, w->loop, SV("http"), SV("test.local")};
    w->peer.loop = w->loop;
    list_init(&w->waiting);
    list_init(&w->accepted);
    w->client = h2_client_new(client ? client : &l, &codec_events, w);
    w->server = h2_server_new(server ? server : &l, &codec_events, w);
}

void wire_cut(struct wire *w)
{
    w->client->ops->feed_eof(w->client);
    w->server->ops->feed_eof(w->server);
}

void wire_fini(struct wire *w)
{
    wire_cut(w);
    loop_turn(w->loop, 0);
    w->client->ops->free(w->client);
    w->server->ops->free(w->server);
    buf_reset(&w->to_client);
    buf_reset(&w->to_server);
    loop_free(w->loop);
}

static bool carry(struct wire *w, struct http_codec *from, struct http_codec *to, struct buf *in)
{
    size_t n = from->out.len < w->piece ? from->out.len : w->piece;
    if (n == 0)
        return false;
    buf_move_n(in, &from->out, n);
    from->ops->wrote(from, n);
    to->ops->feed(to, in);
    return true;
}

bool wire_step(struct wire *w)
{
    bool moved = carry(w, w->client, w->server, &w->to_server);
    moved = carry(w, w->server, w->client, &w->to_client) || moved;
    return loop_turn(w->loop, 0) > 0 || moved;
}

void wire_run(struct wire *w)
{
    while (wire_step(w))
        ;
    while (wire_step(w))
        ;
}
