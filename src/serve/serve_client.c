#include "serve/serve_client.h"
#include <stdio.h>
#include "base/mem.h"
#include "http/path.h"
#include "net/resolver.h"
#include "tls/tls_conn.h"
#include "tls/tls_slot.h"

#define ADDRS_MAX 8

/* One attempt: name to addresses to a connection that is up. */
struct attempt {
    bool on; /* one is under way */
    struct resolve_query *query;
    struct conn *conn;
    struct addr addrs[ADDRS_MAX];
    uint32_t n, next;
    struct timer timer; /* over all of it */
    char why[256];
};

struct serve_client {
    struct serve_channel ch;
    struct serve_client_opts o;
    struct http_limits limits;
    struct arena arena;
    struct addr fixed; /* the target when it is an address */
    sv host;           /* … else its name */
    uint16_t port;
    struct list waiting; /* serve_open.link */
    struct list conns;   /* serve_conn.link */
    uint32_t n_conns;
    struct attempt try;
    struct timer again; /* serves what waits, outside of callbacks */
    uint64_t connects;
    char error[256];
};

static void try_next(struct serve_client *c);

/* ---- what waits ---- */

static struct serve_open *first_waiting(struct serve_client *c)
{
    struct list *l = list_first(&c->waiting);
    return l ? container_of(l, struct serve_open, link) : NULL;
}

static void fail_waiting(struct serve_client *c, const char *details)
{
    /* Only those that wait now: their answers may put new ones in line. */
    struct list now;
    struct list *l;
    list_init(&now);
    while ((l = list_first(&c->waiting))) {
        list_del(l);
        list_push(&now, l);
    }
    while ((l = list_first(&now))) {
        struct serve_open *o = container_of(l, struct serve_open, link);
        list_del(l);
        o->fn(o, NULL, HTTP_RESET_CONN_FAILURE, details);
    }
}

/* ---- connecting ---- */

static void try_end(struct serve_client *c)
{
    struct attempt *t = &c->try;
    timer_cancel(&t->timer);
    if (t->query)
        resolve_cancel(t->query);
    t->query = NULL;
    if (t->conn)
        conn_close(t->conn);
    t->conn = NULL;
    t->on = false;
}

static void try_failed(struct serve_client *c, const char *why)
{
    snprintf(c->error, sizeof(c->error), "%s", why);
    try_end(c);
    fail_waiting(c, c->error);
}

static bool conn_stream(struct serve_conn *sc, struct http_stream *s)
{
    return false;
}

static void conn_ready(struct serve_conn *sc)
{
    struct serve_client *c = sc->owner;
    c->connects++;
    timer_set(&c->again, 0);
}

static void conn_changed(struct serve_conn *sc)
{
    struct serve_client *c = sc->owner;
    if (!list_empty(&c->waiting))
        timer_set(&c->again, 0);
}

static void conn_closed(struct serve_conn *sc)
{
    struct serve_client *c = sc->owner;
    list_del(&sc->link);
    c->n_conns--;
    if (sc->error)
        snprintf(c->error, sizeof(c->error), "%s", sc->error_text);
    /* Before it was usable: this was the attempt all are waiting for. */
    if (!sc->codec)
        fail_waiting(c, c->error);
    else if (!list_empty(&c->waiting))
        timer_set(&c->again, 0);
}

static const struct serve_conn_ops conn_ops = {
    .on_stream = conn_stream,
    .ready = conn_ready,
    .changed = conn_changed,
    .closed = conn_closed,
};

/* Connected, with TLS if there is any: from here on it is a serve_conn's. */
static void adopt(struct serve_client *c)
{
    struct attempt *t = &c->try;
    struct conn *conn = t->conn;
    t->conn = NULL;
    try_end(c);
    struct serve_conn *sc =
        serve_conn_client(conn, &c->limits, &c->o.times, c->o.protocol, &conn_ops, c);
    list_push(&c->conns, &sc->link);
    c->n_conns++;
    serve_conn_start(sc);
}

static void try_event(struct conn *conn, unsigned events, void *user)
{
    struct serve_client *c = user;
    struct attempt *t = &c->try;
    if (events & CONN_EV_ERROR) {
        char addr[ADDR_TEXT_MAX];
        sv to = addr_text(&conn->remote, addr);
        sv why = tls_conn_is(conn) ? tls_conn_sentence(conn) : (sv){NULL, 0};
        if (!why.n)
            why = conn->error_text.n ? conn->error_text : sv_of(error_text(conn->error));
        snprintf(t->why, sizeof(t->why), "%.*s: %.*s", SV_ARG(to), SV_ARG(why));
        conn_close(conn);
        t->conn = NULL;
        try_next(c);
    } else if (events & CONN_EV_CONNECTED) {
        adopt(c);
    }
}

static struct conn *wrap_tls(struct serve_client *c, struct conn *conn)
{
    struct tls_ctx *ctx = c->o.tls ? tls_slot_get(c->o.tls) : tls_ctx_ref(c->o.tls_ctx);
    if (!ctx)
        return NULL;
    static const sv both[] = {SV_INIT("h2"), SV_INIT("http/1.1")};
    struct tls_client_params p = {.sni = c->o.sni,
                                  .has_sni = c->o.sni.n > 0,
                                  .expect_name = c->o.expect_name,
                                  .alpn = c->o.protocol == SERVE_HTTP1 ? both + 1 : both,
                                  .n_alpn = c->o.protocol == SERVE_AUTO ? 2 : 1};
    struct conn *t = tls_conn_client(conn, ctx, &p, try_event, c);
    tls_ctx_unref(ctx);
    return t;
}

static void try_next(struct serve_client *c)
{
    struct attempt *t = &c->try;
    bool secure = c->o.tls || c->o.tls_ctx;
    struct sock_opts o = {.mark = c->o.mark, .no_delay = true};
    while (t->next < t->n) {
        int code = E_IO;
        const struct addr *a = &t->addrs[t->next++];
        t->conn = conn_connect(c->ch.loop, a, &o, try_event, c, &code);
        if (t->conn && secure) {
            struct conn *top = wrap_tls(c, t->conn);
            if (!top) {
                try_failed(c, "TLS credentials are not ready");
                return;
            }
            t->conn = top;
        }
        if (t->conn)
            return;
        char text[ADDR_TEXT_MAX];
        snprintf(t->why, sizeof(t->why), "%.*s: %s", SV_ARG(addr_text(a, text)), error_text(code));
    }
    char why[sizeof(t->why)];
    memcpy(why, t->why, sizeof(why));
    try_failed(c, why);
}

static void on_resolved(void *user, int code, const struct addr *addrs, size_t n, uint32_t ttl_s)
{
    struct serve_client *c = user;
    struct attempt *t = &c->try;
    t->query = NULL;
    for (size_t i = 0; code == 0 && i < n && t->n < ADDRS_MAX; i++) {
        t->addrs[t->n] = addrs[i];
        addr_set_port(&t->addrs[t->n++], c->port);
    }
    if (t->n == 0)
        snprintf(t->why, sizeof(t->why), "\"%.*s\" does not resolve: %s", SV_ARG(c->host),
                 error_text(code ? code : E_NOT_FOUND));
    try_next(c);
}

static void on_try_timer(struct timer *timer)
{
    struct serve_client *c = container_of(timer, struct serve_client, try.timer);
    char why[320];
    snprintf(why, sizeof(why), "connecting to %.*s timed out%s%s", SV_ARG(c->o.target),
             c->try.why[0] ? ", before that: " : "", c->try.why);
    try_failed(c, why);
}

static void try_start(struct serve_client *c)
{
    struct attempt *t = &c->try;
    t->on = true;
    t->n = t->next = 0;
    t->why[0] = 0;
    if (c->o.times.connect_ms)
        timer_set(&t->timer, c->o.times.connect_ms);
    if (c->fixed.len) {
        t->addrs[t->n++] = c->fixed;
        try_next(c);
    } else {
        t->query = resolve_start(c->o.resolver, c->host, RESOLVE_ALL, on_resolved, c);
    }
}

/* ---- handing out streams ---- */

static struct http_stream *open_now(struct serve_client *c)
{
    list_each (it, &c->conns) {
        struct http_stream *s = serve_conn_open(container_of(it, struct serve_conn, link));
        if (s)
            return s;
    }
    return NULL;
}

static void serve_waiting(struct serve_client *c)
{
    struct serve_open *o;
    while ((o = first_waiting(c)) != NULL) {
        struct http_stream *s = open_now(c);
        if (!s)
            break;
        list_del(&o->link);
        o->fn(o, s, HTTP_RESET_NONE, NULL);
    }
    if (o && !c->try.on && c->n_conns < c->o.max_conns)
        try_start(c);
}

static void on_again(struct timer *t)
{
    serve_waiting(container_of(t, struct serve_client, again));
}

static void channel_open(struct serve_channel *ch, struct serve_open *o)
{
    struct serve_client *c = container_of(ch, struct serve_client, ch);
    struct http_stream *s = list_empty(&c->waiting) ? open_now(c) : NULL;
    if (s) {
        list_init(&o->link);
        o->fn(o, s, HTTP_RESET_NONE, NULL);
        return;
    }
    list_push(&c->waiting, &o->link);
    timer_set(&c->again, 0);
}

static void channel_cancel(struct serve_channel *ch, struct serve_open *o)
{
    if (o->link.next)
        list_del(&o->link);
}

static const struct serve_channel_ops channel_ops = {channel_open, channel_cancel};

/* ---- life ---- */

static int parse_target(struct serve_client *c, struct error *err)
{
    struct authority a;
    sv t = c->o.target;
    if (sv_starts(t, SV("unix:")))
        return addr_unix(&c->fixed, sv_from(t, 5)) == 0
                   ? 0
                   : error_set(err, E_INVALID, "\"%.*s\": no usable socket path", SV_ARG(t));
    if (addr_parse(&c->fixed, t) == 0)
        return 0;
    c->fixed.len = 0;
    if (authority_parse(t, &a) != 0 || a.is_ip6 || a.port == 0)
        return error_set(err, E_INVALID, "\"%.*s\" is not host:port", SV_ARG(t));
    if (!c->o.resolver)
        return error_set(err, E_INVALID, "\"%.*s\": no resolver for names", SV_ARG(t));
    c->host = a.host;
    c->port = a.port;
    return 0;
}

static void set_names(struct serve_client *c)
{
    struct authority a;
    struct addr ip = {0};
    if (!c->o.authority.n)
        c->o.authority = sv_starts(c->o.target, SV("unix:")) ? SV("localhost") : c->o.target;
    bool name = authority_parse(c->o.authority, &a) == 0 && addr_ip(&ip, a.host, 0) != 0;
    if (!c->o.sni.n && name)
        c->o.sni = a.host;
}

struct serve_client *serve_client_new(const struct serve_client_opts *o, struct error *err)
{
    static const struct serve_times usual = {.connect_ms = 5000, .idle_ms = 60000};
    struct serve_client *c = mem_new(struct serve_client);
    arena_init_malloc(&c->arena);
    c->o = *o;
    c->o.target = arena_sv(&c->arena, o->target);
    c->o.authority = arena_sv(&c->arena, o->authority);
    c->o.sni = arena_sv(&c->arena, o->sni);
    c->o.expect_name = arena_sv(&c->arena, o->expect_name);
    if (parse_target(c, err) != 0) {
        arena_free(&c->arena);
        free(c);
        return NULL;
    }
    set_names(c);
    tls_ctx_ref(o->tls_ctx);
    if (memcmp(&o->times, &(struct serve_times){0}, sizeof(o->times)) == 0)
        c->o.times = usual;
    if (!c->o.max_conns)
        c->o.max_conns = 8;
    if (o->limits) {
        c->limits = *o->limits;
    } else {
        serve_limits_default(&c->limits);
    }
    c->ch = (struct serve_channel){.ops = &channel_ops,
                                   .loop = o->loop,
                                   .scheme = o->tls || o->tls_ctx ? SV("https") : SV("http"),
                                   .authority = c->o.authority};
    list_init(&c->waiting);
    list_init(&c->conns);
    timer_init(&c->again, o->loop, on_again);
    timer_init(&c->try.timer, o->loop, on_try_timer);
    return c;
}

void serve_client_free(struct serve_client *c)
{
    if (!c)
        return;
    try_end(c);
    struct list *l;
    while ((l = list_first(&c->conns)))
        serve_conn_close(container_of(l, struct serve_conn, link), HTTP_RESET_CONN_TERMINATION,
                         E_CANCELLED, "the client was closed");
    /* Whoever was told of an end may have wished anew: nobody will come. */
    while (!list_empty(&c->waiting))
        fail_waiting(c, "the client was closed");
    timer_cancel(&c->again);
    tls_ctx_unref(c->o.tls_ctx);
    arena_free(&c->arena);
    free(c);
}

struct serve_channel *serve_client_channel(struct serve_client *c)
{
    return &c->ch;
}

void serve_client_renew(struct serve_client *c)
{
    list_each_safe (it, &c->conns) {
        serve_conn_drain(container_of(it, struct serve_conn, link));
    }
}

bool serve_client_connected(const struct serve_client *c)
{
    for (const struct list *it = c->conns.next; it != &c->conns; it = it->next)
        if (container_of(it, const struct serve_conn, link)->codec)
            return true;
    return false;
}

const char *serve_client_error(const struct serve_client *c)
{
    return c->error;
}

uint64_t serve_client_connects(const struct serve_client *c)
{
    return c->connects;
}
