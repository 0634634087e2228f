/* A conn over the stream of a CONNECT. */
#include <stdio.h>
#include "base/mem.h"
#include "upstream/tunnel.h"

#define IN_HIGH (256u << 10) /* received and not yet read: more pauses the stream */

struct upstream_tunnel {
    struct conn c;
    const struct http_head *ask;
    const struct upstream_tcp_cb *cb;
    void *user;
    struct upstream_open *open;
    struct http_stream *s;
    struct upstream_host *host;
    struct buf in;
    struct timer kick;
    struct deferred gone;
    bool told; /* one of the callbacks came */
    bool eof, sent_end, blocked, paused, closed;
    char text[64];
};

static struct upstream_tunnel *of(struct conn *c)
{
    return container_of(c, struct upstream_tunnel, c);
}

static void tell(struct upstream_tunnel *t, unsigned events)
{
    if (!t->closed && t->c.fn)
        t->c.fn(&t->c, events, t->c.user);
}

/* ---- the end ---- */

static const struct http_stream_events no_events;

static void free_tunnel(struct deferred *d)
{
    free(container_of(d, struct upstream_tunnel, gone));
}

static void drop_stream(struct upstream_tunnel *t)
{
    struct http_stream *s = t->s;
    if (!s)
        return;
    t->s = NULL;
    http_stream_set_user(s, &no_events, NULL);
    if (!t->eof || !t->sent_end)
        s->ops->reset(s, HTTP_RESET_LOCAL);
}

static void end(struct upstream_tunnel *t)
{
    if (t->closed)
        return;
    t->closed = true;
    t->c.readable = t->c.writable = false;
    timer_cancel(&t->kick);
    if (t->open)
        upstream_cancel(t->open);
    t->open = NULL;
    drop_stream(t);
    buf_reset(&t->in);
    loop_defer(t->c.loop, &t->gone, free_tunnel);
}

static void give_up(struct upstream_tunnel *t, enum upstream_fail why, sv details)
{
    struct upstream_host *h = t->host;
    t->told = true;
    end(t);
    t->cb->on_fail(t->user, why, h, details);
}

static void died(struct upstream_tunnel *t, int code, const char *why)
{
    if (t->c.error == 0) {
        t->c.error = code;
        t->c.error_text = sv_of(why);
    }
    t->c.writable = false;
    if (t->told)
        tell(t, CONN_EV_ERROR);
    else
        give_up(t, UPSTREAM_FAIL_CONNECT, sv_of(why));
}

/* ---- the stream ---- */

static void on_head(void *user, struct http_head *head, bool is_end)
{
    struct upstream_tunnel *t = user;
    bool ok = head->status / 100 == 2;
    upstream_host_result(t->host, head->status < 500 ? UPSTREAM_OK : UPSTREAM_5XX, head->status);
    if (!ok) {
        snprintf(t->text, sizeof t->text, "tunnel refused with status %u", head->status);
        t->eof = is_end;
        give_up(t, UPSTREAM_FAIL_CONNECT, sv_of(t->text));
        return;
    }
    t->told = true;
    t->eof = is_end;
    t->c.connected = t->c.writable = true;
    t->c.readable = is_end;
    t->cb->on_ready(t->user, &t->c, t->host);
}

static void received(struct upstream_tunnel *t, bool is_end)
{
    t->eof = is_end;
    t->c.peer_closed = is_end;
    t->c.readable = true;
    if (!t->paused && !is_end && t->in.len > IN_HIGH) {
        t->paused = true;
        t->s->ops->pause(t->s, true);
    }
    tell(t, CONN_EV_READ);
}

static void on_data(void *user, struct buf *data, bool is_end)
{
    struct upstream_tunnel *t = user;
    buf_move(&t->in, data);
    received(t, is_end);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    received(user, true);
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct upstream_tunnel *t = user;
    http_stream_set_user(t->s, &no_events, NULL);
    t->s = NULL;
    if (!t->told)
        upstream_host_result(t->host, UPSTREAM_LOCAL_RESET, 503);
    died(t, E_IO, http_reset_text(why));
}

static void on_high(void *user)
{
    struct upstream_tunnel *t = user;
    t->c.writable = false;
}

static void on_low(void *user)
{
    struct upstream_tunnel *t = user;
    t->c.writable = t->c.error == 0 && !t->sent_end;
    if (t->blocked) {
        t->blocked = false;
        tell(t, CONN_EV_WRITE);
    }
}

static void on_close(void *user)
{
    struct upstream_tunnel *t = user;
    t->s = NULL;
}

static const struct http_stream_events events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_high = on_high,
    .on_low = on_low,
    .on_close = on_close,
};

/* ---- the conn ---- */

static ssize_t tunnel_read(struct conn *c, struct buf *into, size_t max)
{
    struct upstream_tunnel *t = of(c);
    size_t n = t->in.len < max ? t->in.len : max;
    if (t->closed)
        return E_CLOSED;
    if (!n)
        c->readable = false;
    if (!n && t->eof)
        return E_EOF;
    if (!n)
        return c->error ? c->error : E_AGAIN;
    buf_move_n(into, &t->in, n);
    c->bytes_read += n;
    if (!t->in.len)
        c->readable = t->eof;
    if (t->paused && t->in.len <= IN_HIGH / 2 && t->s) {
        t->paused = false;
        t->s->ops->pause(t->s, false);
    }
    return (ssize_t)n;
}

static ssize_t tunnel_write(struct conn *c, struct buf *from)
{
    struct upstream_tunnel *t = of(c);
    size_t n = from->len;
    if (t->closed || t->sent_end || !t->s)
        return c->error ? c->error : E_CLOSED;
    if (!n)
        return 0;
    if (!c->writable) {
        t->blocked = true;
        return 0;
    }
    c->bytes_written += n;
    int rc = t->s->ops->send_data(t->s, from, false);
    return rc < 0 ? rc : (ssize_t)n;
}

static int tunnel_shutdown_write(struct conn *c)
{
    struct upstream_tunnel *t = of(c);
    struct buf none;
    if (t->closed || t->sent_end || !t->s)
        return E_CLOSED;
    buf_init(&none);
    t->sent_end = true;
    c->writable = false;
    return t->s->ops->send_data(t->s, &none, true);
}

static void tunnel_close(struct conn *c, bool abort)
{
    end(of(c));
}

static void on_kick(struct timer *timer)
{
    struct upstream_tunnel *t = container_of(timer, struct upstream_tunnel, kick);
    if (t->in.len || t->eof)
        tell(t, CONN_EV_READ);
}

static void tunnel_kick(struct conn *c)
{
    struct upstream_tunnel *t = of(c);
    if (!t->closed)
        timer_set(&t->kick, 0);
}

static const struct conn_ops conn_table = {
    .read = tunnel_read,
    .write = tunnel_write,
    .shutdown_write = tunnel_shutdown_write,
    .close = tunnel_close,
    .kick = tunnel_kick,
};

/* ---- opening ---- */

static void on_ready(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn)
{
    struct upstream_tunnel *t = user;
    t->open = NULL;
    t->s = s;
    t->host = host;
    t->c.id = conn->id;
    t->c.remote = conn->remote;
    t->c.local = *conn_local((struct conn *)(uintptr_t)conn);
    http_stream_set_user(s, &events, t);
    if (s->ops->send_head(s, t->ask, false) < 0 && !t->told)
        give_up(t, UPSTREAM_FAIL_CONNECT, SV("the tunnel cannot be asked for"));
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct upstream_tunnel *t = user;
    t->open = NULL;
    t->host = host;
    give_up(t, why, details);
}

static const struct upstream_http_cb http_cb = {on_ready, on_fail};

struct upstream_tunnel *upstream_tunnel_open(struct loop *l, struct upstream_cluster *cluster,
                                             const struct upstream_ctx *ctx,
                                             const struct http_head *ask,
                                             const struct upstream_tcp_cb *cb, void *user)
{
    struct upstream_tunnel *t = mem_new(struct upstream_tunnel);
    t->c.ops = &conn_table;
    t->c.loop = l;
    t->ask = ask;
    t->cb = cb;
    t->user = user;
    buf_init(&t->in);
    timer_init(&t->kick, l, on_kick);
    struct upstream_open *o = upstream_http_open(cluster, ctx, &http_cb, t);
    if (o)
        t->open = o;
    return t->told ? NULL : t;
}

void upstream_tunnel_cancel(struct upstream_tunnel *t)
{
    end(t);
}
