#include "serve/serve_server.h"
#include "base/mem.h"
#include "net/listener.h"
#include "tls/tls_conn.h"
#include "tls/tls_slot.h"

struct acceptor {
    struct acceptor *next;
    serve_accept_fn fn;
    void *user;
};

struct listening {
    struct listening *next;
    struct net_listener *l;
};

struct serve_server {
    struct serve_server_opts o;
    struct http_limits limits;
    struct acceptor *acceptors;
    struct listening *listening;
    struct list conns; /* serve_conn.link */
    struct serve_server_stats stats;
    struct timer deadline;
    bool draining, paused;
};

/* ---- requests ---- */

static void refuse_not_found(struct serve_server *sv_, struct http_stream *s)
{
    struct http_head m;
    sv_->stats.not_found++;
    http_head_init(&m, s->arena);
    m.status = 404;
    bool whole = s->recv_end;
    s->ops->send_head(s, &m, true);
    if (!whole)
        s->ops->reset(s, HTTP_RESET_NO_ERROR);
}

/* Who a stream belongs to until somebody took it; in the stream's arena. */
struct asked {
    struct serve_conn *conn;
    struct http_stream *s;
};

static void on_head(void *user, struct http_head *head, bool end)
{
    struct asked *q = user;
    struct serve_server *server = q->conn->owner;
    server->stats.requests++;
    for (struct acceptor *a = server->acceptors; a; a = a->next)
        if (a->fn(a->user, q->s, head, end, &q->conn->peer))
            return;
    refuse_not_found(server, q->s);
}

static const struct http_stream_events untaken = {.on_head = on_head};

static bool on_stream(struct serve_conn *c, struct http_stream *s)
{
    struct asked *q = arena_new(s->arena, struct asked);
    *q = (struct asked){c, s};
    http_stream_set_user(s, &untaken, q);
    return true;
}

/* ---- connections ---- */

static void conn_ready(struct serve_conn *c)
{
    struct serve_server *s = c->owner;
    c->codec->stats = &s->stats.codec;
    if (s->draining)
        serve_conn_drain(c);
}

static void conn_closed(struct serve_conn *c)
{
    struct serve_server *s = c->owner;
    s->stats.conns--;
    if (c->error)
        s->stats.conns_failed++;
    list_del(&c->link);
}

static const struct serve_conn_ops conn_ops = {
    .on_stream = on_stream,
    .ready = conn_ready,
    .closed = conn_closed,
};

static struct conn *wrap_tls(struct serve_server *s, struct conn *c)
{
    struct tls_ctx *ctx = s->o.tls ? tls_slot_get(s->o.tls) : tls_ctx_ref(s->o.tls_ctx);
    if (!ctx)
        return NULL;
    struct conn *t = tls_conn_server(c, ctx, NULL, NULL);
    tls_ctx_unref(ctx);
    return t;
}

void serve_server_take(struct serve_server *s, struct conn *c)
{
    s->stats.conns_total++;
    struct conn *top = c;
    if (s->stats.conns >= s->o.max_conns || s->draining)
        top = NULL;
    else if (s->o.tls || s->o.tls_ctx)
        top = wrap_tls(s, c);
    if (!top) {
        s->stats.conns_refused++;
        conn_close(c);
        return;
    }
    struct serve_conn *sc =
        serve_conn_server(top, &s->limits, &s->o.times, s->o.protocol, &conn_ops, s);
    list_push(&s->conns, &sc->link);
    s->stats.conns++;
}

static void no_event(struct conn *c, unsigned events, void *user)
{
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct serve_server *s = user;
    serve_server_take(s, conn_from_fd(s->o.loop, fd, local, remote, no_event, NULL));
}

/* ---- listening ---- */

static int add_listener(struct serve_server *s, struct net_listener *l, struct error *err)
{
    if (!l)
        return err && err->code ? err->code : E_IO;
    struct listening *n = mem_new(struct listening), **tail = &s->listening;
    n->l = l;
    while (*tail)
        tail = &(*tail)->next;
    *tail = n;
    if (!s->paused)
        net_listener_start(l);
    return 0;
}

void serve_server_pause(struct serve_server *s, bool on)
{
    s->paused = on;
    for (struct listening *n = s->listening; n; n = n->next) {
        if (on)
            net_listener_stop(n->l);
        else
            net_listener_start(n->l);
    }
}

int serve_server_listen(struct serve_server *s, const struct addr *a, struct error *err)
{
    struct listen_opts o = {0};
    return add_listener(s, net_listener_new(s->o.loop, a, &o, on_accept, s, err), err);
}

int serve_server_listen_fd(struct serve_server *s, int fd, struct error *err)
{
    return add_listener(s, net_listener_from_fd(s->o.loop, fd, on_accept, s, err), err);
}

int serve_addr_parse(struct addr *a, sv text)
{
    uint64_t port;
    bool any = sv_starts(text, SV("*:"));
    if (sv_starts(text, SV("unix:")))
        return addr_unix(a, sv_from(text, 5));
    sv number = any ? sv_from(text, 2) : sv_starts(text, SV(":")) ? sv_from(text, 1) : text;
    if (sv_to_u64(number, &port) != 0)
        return any ? E_INVALID : addr_parse(a, text);
    if (port > 65535)
        return E_INVALID;
    return addr_ip(a, any ? SV("::") : SV("127.0.0.1"), (uint16_t)port);
}

int serve_server_listen_text(struct serve_server *s, sv text, struct error *err)
{
    struct addr a = {0};
    if (serve_addr_parse(&a, text) != 0)
        return error_set(err, E_INVALID, "\"%.*s\" is not an address to listen on", SV_ARG(text));
    int rc = serve_server_listen(s, &a, err);
    if (rc && a.sa.sa_family == AF_INET6 && addr_is_any(&a)) {
        /* A host without IPv6. */
        struct error again = {0};
        uint16_t port = addr_port(&a);
        if (addr_ip(&a, SV("0.0.0.0"), port) == 0 && serve_server_listen(s, &a, &again) == 0)
            rc = 0;
    }
    return rc;
}

const struct addr *serve_server_addr(const struct serve_server *s, unsigned n)
{
    const struct listening *l = s->listening;
    while (l && n--)
        l = l->next;
    return l ? net_listener_addr(l->l) : NULL;
}

/* ---- life ---- */

static void close_all(struct serve_server *s)
{
    struct list *l;
    while ((l = list_first(&s->conns)))
        serve_conn_close(container_of(l, struct serve_conn, link), HTTP_RESET_CONN_TERMINATION, 0,
                         NULL);
}

static void on_deadline(struct timer *t)
{
    close_all(container_of(t, struct serve_server, deadline));
}

void serve_server_drain(struct serve_server *s, uint32_t deadline_ms)
{
    s->draining = true;
    for (struct listening *l = s->listening; l; l = l->next)
        net_listener_stop(l->l);
    list_each_safe (it, &s->conns) {
        serve_conn_drain(container_of(it, struct serve_conn, link));
    }
    timer_set(&s->deadline, deadline_ms);
}

struct serve_server *serve_server_new(const struct serve_server_opts *o)
{
    struct serve_server *s = mem_new(struct serve_server);
    static const struct serve_times usual = {
        .connect_ms = 10000, .head_ms = 10000, .idle_ms = 300000};
    s->o = *o;
    tls_ctx_ref(o->tls_ctx);
    if (memcmp(&o->times, &(struct serve_times){0}, sizeof(o->times)) == 0)
        s->o.times = usual;
    if (!s->o.max_conns)
        s->o.max_conns = 1024;
    if (o->limits) {
        s->limits = *o->limits;
    } else {
        serve_limits_default(&s->limits);
    }
    list_init(&s->conns);
    timer_init(&s->deadline, o->loop, on_deadline);
    return s;
}

void serve_server_free(struct serve_server *s)
{
    if (!s)
        return;
    timer_cancel(&s->deadline);
    for (struct listening *l = s->listening, *next; l; l = next) {
        next = l->next;
        net_listener_free(l->l);
        free(l);
    }
    close_all(s);
    for (struct acceptor *a = s->acceptors, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    tls_ctx_unref(s->o.tls_ctx);
    free(s);
}

void serve_server_add(struct serve_server *s, serve_accept_fn fn, void *user)
{
    struct acceptor *a = mem_new(struct acceptor), **tail = &s->acceptors;
    *a = (struct acceptor){.fn = fn, .user = user};
    while (*tail)
        tail = &(*tail)->next;
    *tail = a;
}

const struct serve_server_stats *serve_server_stats(const struct serve_server *s)
{
    return &s->stats;
}
