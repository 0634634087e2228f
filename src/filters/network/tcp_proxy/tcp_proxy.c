/* Two connections, and a buffer in each direction that only holds what the other side would not
 * take:
 *
 *   downstream --read--> [to_up]   --write--> upstream
 *   downstream <-write-- [to_down] <--read--- upstream
 *
 * A side is read only while the buffer towards the other is empty, so that at most one read's worth
 * waits in each direction. The end of data is passed on as a half-close; the connection is over
 * when both sides ended, or when one of them breaks. */
#include "filters/network/tcp_proxy/tcp_proxy.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "filters/network/tcp_proxy/tcp_proxy_private.h"
#include "net/loop.h"
#include "telemetry/access_log.h"
#include "upstream/tunnel.h"
#include "upstream/upstream.h"

#define READ_MAX  (64u << 10) /* of one read */
#define READ_TURN (1u << 20)  /* bytes of one direction before others have their turn */

struct side {
    struct conn *c;
    struct buf out; /* for this side: read from the other, not yet taken */
    bool eof;       /* it sent its last byte */
    bool shut;      /* our half towards it is closed */
};

struct tcp_session {
    struct network_conn *nc;
    const struct tcp_proxy_config *cfg;
    struct side down, up;
    struct upstream_cluster *cluster;
    struct upstream_open *open;
    struct upstream_tunnel *tunnel; /* being asked for */
    struct http_head *ask;          /* of the tunnel; in `arena` */
    struct arena arena;
    struct upstream_host *host;
    const struct tcp_weighted *weighted; /* the one chosen, for all attempts */
    uint32_t attempts;
    struct stream_attempt *attempted; /* hosts that could not be reached */
    bool opening;                     /* inside upstream_tcp_open */
    bool retry_now;
    bool closed, connected;
    bool up_last; /* of two ends of data, the upstream's was the second: it closed the connection */
    uint64_t start_ns, last_ms;
    uint64_t connect_ns,
        pool_ns; /* the first attempt began; the last got its connection, or none */
    uint64_t flags;
    sv failure; /* transport failure reason; malloc'd */
    struct stream_conn up_conn;
    char up_local[ADDR_TEXT_MAX];
    struct timer idle, life, log_flush;
    struct deferred freeing;
};

static void connect_upstream(struct tcp_session *s);
static void on_down(struct conn *c, unsigned events, void *user);
static void on_up(struct conn *c, unsigned events, void *user);

static struct stat_group *stats(const struct tcp_session *s)
{
    return (struct stat_group *)&s->cfg->stats; /* counters change, the configuration does not */
}

/* ---- the log ---- */

static struct stream_info *describe(struct tcp_session *s, struct arena *a)
{
    struct filter_worker *w = s->nc->worker;
    struct stream_info *si = arena_new(a, struct stream_info);
    stream_info_init(si, a);
    si->down = &s->nc->sc;
    si->start_ns = s->start_ns;
    si->end_ns = loop_stamp_ns(w->loop);
    si->upstream_connect_start_ns = s->connect_ns;
    si->upstream_pool_ns = s->pool_ns;
    si->start_wall_ns = loop_stamp_wall_ns(w->loop) - (si->end_ns - s->start_ns);
    si->bytes_received = si->down_wire_in = s->down.c->bytes_read;
    si->bytes_sent = si->down_wire_out = s->down.c->bytes_written;
    si->flags = s->flags;
    si->attempts = s->attempts;
    si->attempted = s->attempted;
    si->upstream_failure = s->failure;
    si->termination_details = s->nc->termination_details;
    if (s->cluster) {
        si->cluster = s->cluster;
        si->upstream_cluster = upstream_cluster_name(s->cluster);
        si->upstream_cluster_alt = upstream_cluster_stat_name(s->cluster);
    }
    if (s->host) {
        const struct upstream_host_info *h = upstream_host_info(s->host);
        si->upstream_host = h->addr_text;
        si->upstream_host_name = h->hostname;
        si->upstream_endpoint = s->host;
    }
    if (s->connected)
        si->up = &s->up_conn;
    if (s->up.c) {
        si->up_wire_in = s->up.c->bytes_read;
        si->up_wire_out = s->up.c->bytes_written;
    }
    return si;
}

static void write_log(struct tcp_session *s, const char *type)
{
    struct filter_worker *w = s->nc->worker;
    struct arena a;
    if (!s->cfg->logs)
        return;
    arena_init(&a);
    const struct stream_info *si = describe(s, &a);
    struct substitution_ctx c = {.si = si, .log_type = type};
    access_log_write(s->cfg->logs, w->logs, &c, rand_u64(loop_rand(w->loop)));
    arena_free(&a);
}

static void tell(struct tcp_session *s,
                 void (*what)(struct network_conn *nc, const struct stream_info *si))
{
    struct arena a;
    if (!s->nc->observers)
        return;
    arena_init(&a);
    what(s->nc, describe(s, &a));
    arena_free(&a);
}

/* ---- the end ---- */

static void free_session(struct deferred *d)
{
    struct tcp_session *s = container_of(d, struct tcp_session, freeing);
    upstream_cluster_unref(s->cluster);
    free((char *)(uintptr_t)s->failure.p);
    arena_free(&s->arena);
    network_done(s->nc);
    free(s);
}

static void close_up(struct tcp_session *s, bool by_remote, bool reset)
{
    if (!s->up.c)
        return;
    if (!s->cfg->tunnel) /* else its stream was counted */
        upstream_tcp_finished(s->host, s->up.c, by_remote);
    conn_set_owner(s->up.c, NULL, NULL);
    if (reset)
        conn_abort(s->up.c);
    else
        conn_close(s->up.c);
    s->up.c = NULL;
}

static void finish(struct tcp_session *s, bool by_remote, bool reset_down)
{
    if (s->closed)
        return;
    s->closed = true;
    timer_cancel(&s->idle);
    timer_cancel(&s->life);
    timer_cancel(&s->log_flush);
    if (s->open)
        upstream_cancel(s->open);
    s->open = NULL;
    if (s->tunnel)
        upstream_tunnel_cancel(s->tunnel);
    s->tunnel = NULL;
    stat_add(stats(s), tcp_stats_downstream_cx_rx_bytes_total, s->down.c->bytes_read);
    stat_add(stats(s), tcp_stats_downstream_cx_tx_bytes_total, s->down.c->bytes_written);
    s->nc->flags |= s->flags;
    write_log(s, "TcpConnectionEnd");
    tell(s, network_tell_end);
    /* Before the connection's own end: its listener's log still reads from it. */
    loop_defer(s->nc->worker->loop, &s->freeing, free_session);
    close_up(s, by_remote, reset_down);
    conn_set_owner(s->down.c, NULL, NULL);
    if (reset_down)
        conn_abort(s->down.c);
    else
        conn_close(s->down.c);
    buf_reset(&s->down.out);
    buf_reset(&s->up.out);
}

/* ---- moving bytes ---- */

/* Writes what waits for `to`; false when the session ended. */
static bool drain(struct tcp_session *s, struct side *to)
{
    if (to->out.len && to->c) {
        ssize_t n = conn_write(to->c, &to->out);
        if (n < 0) {
            finish(s, to == &s->up, true);
            return false;
        }
    }
    return true;
}

/* Passes the end of data on once everything before it is out. */
static void pass_end(struct tcp_session *s, struct side *from, struct side *to)
{
    if (!from->eof || to->out.len || to->shut || !to->c)
        return;
    to->shut = true;
    conn_shutdown_write(to->c);
}

/* A client that resets is news only while nothing is connected: applications end connections with
 * whatever is at hand. (Envoy says no more either.) */
static uint64_t downstream_gone(const struct tcp_session *s)
{
    return s->connected ? 0 : STREAM_FLAG_DC;
}

static uint64_t upstream_gone(const struct tcp_session *s)
{
    return s->up.c && s->up.c->error == E_RESET ? STREAM_FLAG_UR : STREAM_FLAG_UC;
}

/* Everything that can go from one side to the other now. False when the session ended. */
static bool pump(struct tcp_session *s, struct side *from, struct side *to)
{
    size_t total = 0;
    if (!drain(s, to))
        return false;
    while (!from->eof && !to->out.len && to->c && from->c && from->c->readable) {
        if (total >= READ_TURN) {
            conn_kick(from->c);
            break;
        }
        ssize_t n = conn_read(from->c, &to->out, READ_MAX);
        if (n == E_AGAIN)
            break;
        if (n == E_EOF) {
            from->eof = true;
            s->up_last = from == &s->up;
            break;
        }
        if (n < 0) {
            s->flags |= from == &s->up ? upstream_gone(s) : downstream_gone(s);
            finish(s, from == &s->up, true);
            return false;
        }
        total += (size_t)n;
        if (!drain(s, to))
            return false;
    }
    if (total)
        s->last_ms = loop_now_ms(s->nc->worker->loop);
    pass_end(s, from, to);
    return true;
}

static void run(struct tcp_session *s, bool up_first)
{
    if (s->closed)
        return;
    struct side *a = up_first ? &s->up : &s->down, *b = up_first ? &s->down : &s->up;
    if (!pump(s, a, b) || !pump(s, b, a))
        return;
    if (s->down.eof && s->up.eof && !s->down.out.len && !s->up.out.len)
        finish(s, s->up_last, false);
}

static void on_down(struct conn *c, unsigned events, void *user)
{
    struct tcp_session *s = user;
    if (events & CONN_EV_ERROR) {
        s->flags |= downstream_gone(s);
        finish(s, false, true);
        return;
    }
    run(s, false);
}

static void on_up(struct conn *c, unsigned events, void *user)
{
    struct tcp_session *s = user;
    if (events & CONN_EV_ERROR) {
        s->flags |= upstream_gone(s);
        finish(s, true, true);
        return;
    }
    run(s, true);
}

/* ---- timers ---- */

static void on_idle(struct timer *t)
{
    struct tcp_session *s = container_of(t, struct tcp_session, idle);
    uint64_t quiet = loop_now_ms(s->nc->worker->loop) - s->last_ms;
    if (quiet < s->cfg->idle_ms) {
        timer_set(t, s->cfg->idle_ms - quiet);
        return;
    }
    stat_inc(stats(s), tcp_stats_idle_timeout);
    finish(s, false, false);
}

static void on_life(struct timer *t)
{
    struct tcp_session *s = container_of(t, struct tcp_session, life);
    stat_inc(stats(s), tcp_stats_max_downstream_connection_duration);
    s->flags |= STREAM_FLAG_DT;
    finish(s, false, false);
}

static void on_log_flush(struct timer *t)
{
    struct tcp_session *s = container_of(t, struct tcp_session, log_flush);
    write_log(s, "TcpPeriodic");
    timer_set(t, s->cfg->log_flush_ms);
}

/* ---- connecting ---- */

static void on_ready(void *user, struct conn *c, struct upstream_host *host)
{
    struct tcp_session *s = user;
    struct filter_worker *w = s->nc->worker;
    s->open = NULL;
    s->tunnel = NULL;
    s->up.c = c;
    s->host = host;
    s->connected = true;
    s->pool_ns = loop_stamp_ns(w->loop);
    s->last_ms = loop_now_ms(w->loop);
    conn_set_owner(c, on_up, s);
    s->up_conn.id = c->id;
    s->up_conn.local_addr = conn_local(c);
    s->up_conn.remote_addr = s->up_conn.direct_remote_addr = &c->remote;
    s->up_conn.local = addr_text(s->up_conn.local_addr, s->up_local);
    s->up_conn.remote = s->up_conn.direct_remote = upstream_host_info(host)->addr_text;
    s->up_conn.tls = c->tls;
    upstream_conn_ids(c, &s->up_conn.local_id, &s->up_conn.peer_id);
    tell(s, network_tell_connected);
    if (s->cfg->log_on_connected)
        write_log(s, "TcpUpstreamConnected");
    run(s, false);
}

static void give_up(struct tcp_session *s, enum upstream_fail why)
{
    s->flags |= why == UPSTREAM_FAIL_NO_HOST    ? STREAM_FLAG_UH
                : why == UPSTREAM_FAIL_OVERFLOW ? STREAM_FLAG_UO
                                                : STREAM_FLAG_UF;
    finish(s, false, why != UPSTREAM_FAIL_NO_HOST);
}

static void remember_host(struct tcp_session *s, struct upstream_host *host)
{
    struct stream_attempt *t = arena_new(&s->arena, struct stream_attempt), **at = &s->attempted;
    const struct upstream_host_info *info = upstream_host_info(host);
    t->host = arena_sv(&s->arena, info->addr_text);
    t->name = arena_sv(&s->arena, info->hostname);
    while (*at)
        at = &(*at)->next;
    *at = t;
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct tcp_session *s = user;
    s->open = NULL;
    s->tunnel = NULL;
    s->host = host;
    free((char *)(uintptr_t)s->failure.p);
    s->failure = details.n ? sv_make(sv_dup(details), details.n) : (sv){NULL, 0};
    if (why == UPSTREAM_FAIL_NO_HOST || why == UPSTREAM_FAIL_OVERFLOW)
        s->attempts--; /* nothing was tried */
    if (why != UPSTREAM_FAIL_NO_HOST)
        s->pool_ns = loop_stamp_ns(s->nc->worker->loop);
    bool connect = why == UPSTREAM_FAIL_CONNECT || why == UPSTREAM_FAIL_CONNECT_TIMEOUT;
    if (connect && host)
        remember_host(s, host);
    if (!connect || s->attempts >= s->cfg->attempts) {
        if (connect) { /* also when there was to be one attempt only, as Envoy says it */
            upstream_count(s->cluster, UPSTREAM_upstream_cx_connect_attempts_exceeded);
            s->flags |= STREAM_FLAG_URX;
        }
        give_up(s, why);
        return;
    }
    if (s->opening)
        s->retry_now = true;
    else
        connect_upstream(s);
}

static const struct upstream_tcp_cb tcp_cb = {on_ready, on_fail};

static const struct tcp_weighted *choose(const struct tcp_session *s)
{
    const struct tcp_proxy_config *c = s->cfg;
    if (!c->weighted)
        return NULL;
    uint64_t at = rand_below(loop_rand(s->nc->worker->loop), c->weighted[c->n_weighted - 1].upto);
    uint32_t i = 0;
    while (at >= c->weighted[i].upto)
        i++;
    return &c->weighted[i];
}

static struct upstream_ctx context(struct tcp_session *s, const struct tcp_weighted *w)
{
    struct upstream_ctx x = {
        .original_dst = s->nc->sc.local_addr,
        .straight = !s->nc->sc.original_dst,
        .client = s->nc->sc.remote_addr,
        .metadata_match = w && w->metadata ? w->metadata : s->cfg->metadata,
        .downstream_protocol = HTTP_11,
    };
    if (s->cfg->hash_source_ip) {
        char ip[ADDR_TEXT_MAX]; /* of the text, as Envoy: the same clients go to the same hosts */
        x.has_hash = true;
        x.hash = sv_hash_xx64(addr_ip_text(s->nc->sc.remote_addr, ip), 0);
    }
    return x;
}

/* The request for the tunnel: the same for all attempts. */
static void make_ask(struct tcp_session *s)
{
    const struct tcp_tunnel *t = s->cfg->tunnel;
    struct arena *a = &s->arena;
    struct substitution_ctx c = {.si = describe(s, a)};
    struct http_head *h = s->ask = arena_new(a, struct http_head);
    http_head_init(h, a);
    h->method = t->post ? SV("POST") : SV("CONNECT");
    h->authority = substitution_eval_arena(t->host, &c, a);
    h->content_length = -1;
    h->protocol = HTTP_11;
    if (t->post) {
        h->path = t->path;
        h->scheme = SV("http");
    }
    for (uint32_t i = 0; i < t->n_headers; i++) {
        sv value = substitution_eval_arena(t->headers[i].value, &c, a);
        if (t->headers[i].append)
            http_headers_add(&h->h, t->headers[i].name, value);
        else
            http_headers_set(&h->h, t->headers[i].name, value);
    }
}

/* One attempt; its callback may come from inside. */
static void open_upstream(struct tcp_session *s, const struct upstream_ctx *x)
{
    if (!s->connect_ns)
        s->connect_ns = loop_stamp_ns(s->nc->worker->loop);
    if (!s->cfg->tunnel) {
        struct upstream_open *o = upstream_tcp_open(s->cluster, x, &tcp_cb, s);
        if (o)
            s->open = o;
        return;
    }
    if (!s->ask)
        make_ask(s);
    struct upstream_ctx ctx = *x;
    ctx.request = s->ask;
    ctx.sni_override = s->ask->authority;
    struct upstream_tunnel *t =
        upstream_tunnel_open(s->nc->worker->loop, s->cluster, &ctx, s->ask, &tcp_cb, s);
    if (t)
        s->tunnel = t;
}

static void connect_upstream(struct tcp_session *s)
{
    const struct tcp_weighted *w = s->weighted;
    if (!s->attempts)
        w = s->weighted = choose(s);
    if (!s->cluster) {
        sv name = w ? w->cluster : s->cfg->cluster;
        s->cluster = upstream_find(s->nc->worker->upstream, name);
    }
    if (!s->cluster) {
        stat_inc(stats(s), tcp_stats_downstream_cx_no_route);
        s->flags |= STREAM_FLAG_NC;
        finish(s, false, false);
        return;
    }
    struct upstream_ctx x = context(s, w);
    do {
        s->retry_now = false;
        s->attempts++;
        s->opening = true;
        open_upstream(s, &x);
        s->opening = false;
    } while (s->retry_now && !s->closed);
}

/* ---- the owner ---- */

static void owner_drain(void *owner)
{
    /* There is nothing to tell a TCP peer: connections go on until the deadline. */
}

static void owner_abort(void *owner)
{
    finish(owner, false, false);
}

static bool owner_idle(const void *owner)
{
    return false;
}

static const struct stream_info *owner_describe(void *owner, struct arena *a)
{
    return describe(owner, a);
}

static const struct network_owner_ops owner_ops = {owner_drain, owner_abort, owner_idle,
                                                   owner_describe};

static void start(const void *config, struct network_conn *nc)
{
    struct tcp_session *s = mem_new(struct tcp_session);
    struct loop *l = nc->worker->loop;
    s->nc = nc;
    arena_init(&s->arena);
    s->cfg = config;
    s->down.c = nc->conn;
    buf_init(&s->down.out);
    buf_init(&s->up.out);
    s->start_ns = nc->sc.start_ns;
    s->last_ms = loop_now_ms(l);
    nc->owner = s;
    nc->owner_ops = &owner_ops;
    conn_set_owner(nc->conn, on_down, s);
    stat_inc(stats(s), tcp_stats_downstream_cx_total);
    timer_init(&s->idle, l, on_idle);
    timer_init(&s->life, l, on_life);
    timer_init(&s->log_flush, l, on_log_flush);
    if (s->cfg->log_flush_ms && s->cfg->logs)
        timer_set(&s->log_flush, s->cfg->log_flush_ms);
    if (s->cfg->idle_ms)
        timer_set(&s->idle, s->cfg->idle_ms);
    if (s->cfg->max_ms)
        timer_set(&s->life, s->cfg->max_ms);
    connect_upstream(s);
}

const struct network_filter_type network_tcp_proxy_type = {
    .name = "envoy.filters.network.tcp_proxy",
    .config_type = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    .terminal = true,
    .parse = tcp_proxy_parse,
    .start = start,
};
