/* The HTTP/2 codec on a loopback port, alone: for conformance tools (h2spec) and load generators,
 * without a proxy between them.
 *
 *   h2_server PORT     prints "listening on PORT" when ready (0: any free one); SIGTERM drains
 *
 * GET answers 200 with a line; GET /bytes/N answers N bytes; any other method echoes its body. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "h2/h2.h"
#include "net/listener.h"

#define READ_MAX (64 * 1024)

static struct loop *loop;
static struct http_limits limits;
static struct net_listener *listener;
static struct list conns = LIST_INIT(conns);
static bool draining;

struct glue {
    struct list link;
    struct conn *conn;
    struct http_codec *codec;
    struct buf in;
    struct deferred write, gone;
    bool write_due, closed;
};

/* ---- requests ---- */

static void respond(struct http_stream *s, bool end)
{
    struct arena *a = s->arena;
    struct http_head m;
    http_head_init(&m, a);
    m.status = 200;
    http_headers_add_id(&m.h, HTTP_H_SERVER, SV("weft"));
    http_headers_add_id(&m.h, HTTP_H_CONTENT_TYPE, SV("text/plain"));
    s->ops->send_head(s, &m, end);
}

static void on_head(void *user, struct http_head *m, bool end)
{
    struct http_stream *s = user;
    if (!sv_eq(m->method, SV("GET"))) {
        respond(s, end);
        return;
    }
    uint64_t n = 0;
    struct buf body;
    buf_init(&body);
    if (sv_starts(m->path, SV("/bytes/")) && sv_to_u64(sv_from(m->path, 7), &n) == 0) {
        static char block[16384];
        for (; n; n -= n < sizeof block ? n : sizeof block)
            buf_append_static(&body, sv_make(block, n < sizeof block ? n : sizeof block));
    } else {
        buf_append_static(&body, SV("hello from weft\n"));
    }
    respond(s, false);
    s->ops->send_data(s, &body, true);
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct http_stream *s = user;
    if (!s->sent_end)
        s->ops->send_data(s, data, end);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    struct http_stream *s = user;
    if (!s->sent_end)
        s->ops->send_trailers(s, trailers);
}

static void on_high(void *user)
{
    struct http_stream *s = user;
    s->ops->pause(s, true);
}

static void on_low(void *user)
{
    struct http_stream *s = user;
    s->ops->pause(s, false);
}

static const struct http_stream_events stream_events = {.on_head = on_head,
                                                        .on_data = on_data,
                                                        .on_trailers = on_trailers,
                                                        .on_high = on_high,
                                                        .on_low = on_low};

static bool on_stream(void *user, struct http_stream *s)
{
    http_stream_set_user(s, &stream_events, s);
    return true;
}

/* ---- glue ---- */

static void glue_free(struct deferred *d)
{
    struct glue *g = container_of(d, struct glue, gone);
    g->codec->ops->free(g->codec);
    buf_reset(&g->in);
    free(g);
    if (draining && list_empty(&conns))
        loop_stop(loop);
}

static void glue_close(struct glue *g)
{
    if (g->closed)
        return;
    g->closed = true;
    list_del(&g->link);
    conn_close(g->conn);
    g->codec->ops->fail(g->codec, HTTP_RESET_CONN_TERMINATION, "closed");
    loop_defer(loop, &g->gone, glue_free);
}

static void glue_write(struct glue *g)
{
    struct http_codec *c = g->codec;
    while (c->out.len) {
        ssize_t n = conn_write(g->conn, &c->out);
        if (n < 0) {
            glue_close(g);
            return;
        }
        if (n == 0)
            return;
        c->ops->wrote(c, (size_t)n);
    }
    if (c->state == HTTP_CODEC_FLUSH || c->state == HTTP_CODEC_DEAD)
        glue_close(g);
}

static void write_later(struct deferred *d)
{
    struct glue *g = container_of(d, struct glue, write);
    g->write_due = false;
    if (!g->closed)
        glue_write(g);
}

static void on_output(void *user)
{
    struct glue *g = user;
    if (g->write_due || g->closed)
        return;
    g->write_due = true;
    loop_defer(loop, &g->write, write_later);
}

static void glue_read(struct glue *g)
{
    for (;;) {
        ssize_t n = conn_read(g->conn, &g->in, READ_MAX);
        if (n == E_AGAIN)
            return;
        if (n < 0) {
            glue_close(g);
            return;
        }
        if (g->codec->ops->feed(g->codec, &g->in) != 0 || !g->conn->readable)
            return;
    }
}

static void on_conn(struct conn *c, unsigned events, void *user)
{
    struct glue *g = user;
    if (events & CONN_EV_ERROR) {
        glue_close(g);
        return;
    }
    if (events & CONN_EV_READ)
        glue_read(g);
    if (!g->closed && events & CONN_EV_WRITE)
        glue_write(g);
}

static const struct http_codec_events codec_events = {.on_stream = on_stream,
                                                      .on_output = on_output};

static uint64_t now_ms(void *user)
{
    return loop_now_ms(loop);
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct glue *g = mem_new(struct glue);
    g->conn = conn_from_fd(loop, fd, local, remote, on_conn, g);
    g->codec = h2_server_new(&limits, &codec_events, g);
    g->codec->now_ms = now_ms;
    list_push(&conns, &g->link);
    conn_kick(g->conn);
}

static void on_term(int signo, void *arg)
{
    draining = true;
    net_listener_stop(listener);
    list_each_safe (it, &conns) {
        struct glue *g = container_of(it, struct glue, link);
        g->codec->ops->drain(g->codec);
    }
    if (list_empty(&conns))
        loop_stop(loop);
}

int main(int argc, char **argv)
{
    struct addr a;
    struct error err = {0};
    if (argc != 2 || addr_ip(&a, SV("127.0.0.1"), (uint16_t)atoi(argv[1])) != 0) {
        fprintf(stderr, "usage: h2_server PORT\n");
        return 2;
    }
    loop = loop_new(NULL);
    http_limits_default(&limits);
    limits.max_concurrent_streams = 100;
    struct listen_opts opts = {0};
    listener = net_listener_new(loop, &a, &opts, on_accept, NULL, &err);
    if (!listener) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    net_listener_start(listener);
    printf("listening on %d\n", addr_port(net_listener_addr(listener)));
    fflush(stdout);
    loop_on_signal(loop, SIGTERM, on_term, NULL);
    loop_run(loop);
    net_listener_free(listener);
    loop_free(loop);
    return 0;
}
