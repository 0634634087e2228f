#include "proxy/conn_accept.h"

#include <string.h>

#include "api/envoy.pb.h"
#include "base/mem.h"
#include "net/loop.h"
#include "proxy/accepted.h"
#include "proxy/server_private.h"
#include "telemetry/stats.h"
#include "tls/tls_inspect.h"

struct accepting {
    struct listener_accept a;
    struct list link; /* worker_listener.accepting */
    struct worker_listener *wl;
    struct listener_conf *conf;
    struct arena arena;
    uint32_t filter; /* the running one */
    bool begun;      /* its on_accept was called */
    bool handed;     /* came from another listener: not handed on again */
    bool inspecting;
    bool over;
    struct tls_inspect hello;
    struct timer timer;
    struct deferred freeing;
    size_t seen;        /* bytes at the last look */
    struct addr direct; /* the peer, whatever a filter makes of conn->remote */
};

static void choose_chain(struct accepting *p);

static void free_worker_listener(struct deferred *df)
{
    struct worker_listener *wl = container_of(df, struct worker_listener, freeing);
    stat_group_fini(&wl->stats);
    listener_conf_unref(wl->conf);
    free(wl->socks);
    free(wl);
}

void conn_accept_reap(struct worker_listener *wl)
{
    if (!wl->removed || wl->n_conns || !list_empty(&wl->accepting))
        return;
    timer_cancel(&wl->drain_end);
    list_del(&wl->link);
    wl->removed = false; /* once */
    loop_defer(wl->w->f.loop, &wl->freeing, free_worker_listener);
}

/* ================ listener filters ================ */

static void free_accepting(struct deferred *df)
{
    struct accepting *p = container_of(df, struct accepting, freeing);
    listener_conf_unref(p->conf);
    arena_free(&p->arena);
    free(p);
}

static void fini_filter(struct accepting *p)
{
    const struct listener_filter *f = &p->conf->lfs[p->filter].f;
    if (p->begun && f->type->fini)
        f->type->fini(f->config, &p->a);
    p->begun = false;
    p->a.state = NULL;
}

/* The looking is over; the conn is not closed here. */
static void finish_accepting(struct accepting *p)
{
    p->over = true;
    timer_cancel(&p->timer);
    if (p->filter < p->conf->n_lfs)
        fini_filter(p);
    if (p->inspecting)
        tls_inspect_fini(&p->hello);
    p->inspecting = false;
    stat_gauge_dec(&p->conf->stats, listener_stats_downstream_pre_cx_active);
    list_del(&p->link);
    loop_defer(p->wl->w->f.loop, &p->freeing, free_accepting);
    conn_accept_reap(p->wl);
}

static void drop(struct accepting *p, unsigned counter, bool reset)
{
    stat_inc(&p->conf->stats, counter);
    if (reset)
        conn_abort(p->a.conn);
    else
        conn_close(p->a.conn);
    finish_accepting(p);
}

static enum listener_hello hello(struct listener_accept *a, sv bytes, uint32_t max)
{
    struct accepting *p = container_of(a, struct accepting, a);
    if (!p->inspecting) {
        p->inspecting = true;
        tls_inspect_init(&p->hello, max);
    }
    struct tls_inspect *t = &p->hello;
    sv fresh = sv_from(bytes, t->seen);
    switch (fresh.n ? tls_inspect_feed(t, fresh.p, fresh.n) : t->verdict) {
    case TLS_NEED_MORE:
        return LISTENER_HELLO_MORE;
    case TLS_NOT_TLS:
        return LISTENER_HELLO_NO;
    case TLS_BROKEN:
        return LISTENER_HELLO_BAD;
    case TLS_IS_TLS:
        break;
    }
    a->sni = arena_sv(a->arena, t->sni);
    a->n_alpn = t->n_alpns < LISTENER_MAX_ALPN ? t->n_alpns : LISTENER_MAX_ALPN;
    for (uint32_t i = 0; i < a->n_alpn; i++)
        a->alpn[i] = arena_sv(a->arena, t->alpns[i]);
    return LISTENER_HELLO_YES;
}

static const struct listener_accept_ops accept_ops = {hello};

/* filter_disabled: envoy.config.listener.v3.ListenerFilterChainMatchPredicate. */
static bool predicate(const struct envoy_ListenerFilterChainMatchPredicate *m, uint16_t port,
                      int depth)
{
    bool hit;
    if (depth > 32)
        return false;
    switch (m->which_rule) {
    case envoy_ListenerFilterChainMatchPredicate_or_match_tag:
        hit = false;
        for (uint32_t i = 0; i < m->or_match->rules.n && !hit; i++)
            hit = predicate(m->or_match->rules.v[i], port, depth + 1);
        return hit;
    case envoy_ListenerFilterChainMatchPredicate_and_match_tag:
        hit = true;
        for (uint32_t i = 0; i < m->and_match->rules.n && hit; i++)
            hit = predicate(m->and_match->rules.v[i], port, depth + 1);
        return hit;
    case envoy_ListenerFilterChainMatchPredicate_not_match_tag:
        return !predicate(m->not_match, port, depth + 1);
    case envoy_ListenerFilterChainMatchPredicate_any_match_tag:
        return m->any_match;
    case envoy_ListenerFilterChainMatchPredicate_destination_port_range_tag:
        return port >= m->destination_port_range->start && port < m->destination_port_range->end;
    default:
        return false;
    }
}

static const struct addr *destination(struct conn *c)
{
    return c->original_dst.len ? &c->original_dst : conn_local(c);
}

/* Bytes that the filter said are its own are taken off. */
static bool consume(struct accepting *p)
{
    struct buf taken;
    bool ok = true;
    buf_init(&taken);
    while (p->a.consume && ok) {
        ssize_t n = conn_read(p->a.conn, &taken, p->a.consume);
        ok = n > 0;
        if (ok)
            p->a.consume -= (uint32_t)n;
        buf_reset(&taken);
    }
    p->seen = 0;
    return ok;
}

static enum listener_status look_at_bytes(struct accepting *p, const struct listener_filter *f)
{
    static __thread char bytes[LISTENER_PEEK_MAX];
    ssize_t n = conn_peek(p->a.conn, bytes, sizeof bytes);
    if (n == E_AGAIN)
        return LISTENER_MORE;
    bool eof = n == E_EOF || p->a.conn->peer_closed;
    if (n < 0 && n != E_EOF) {
        p->a.why = "read_error";
        return LISTENER_CLOSE;
    }
    size_t got = n > 0 ? (size_t)n : 0;
    if (got == p->seen && got && !eof)
        return LISTENER_MORE;
    p->seen = got;
    enum listener_status st =
        got ? f->type->on_bytes(f->config, &p->a, sv_make(bytes, got), eof) : LISTENER_MORE;
    if (st == LISTENER_MORE && (eof || got == sizeof bytes)) {
        p->a.why = eof ? "remote_close" : "too_long";
        return LISTENER_CLOSE;
    }
    return st;
}

static enum listener_status run_filter(struct accepting *p)
{
    const struct listener_lf *lf = &p->conf->lfs[p->filter];
    const struct listener_filter_type *t = lf->f.type;
    if (!p->begun) {
        if (lf->disabled && predicate(lf->disabled, addr_port(destination(p->a.conn)), 0))
            return LISTENER_CONTINUE;
        p->begun = true;
        p->seen = 0;
        if (t->on_accept) {
            enum listener_status st = t->on_accept(lf->f.config, &p->a);
            if (st != LISTENER_CONTINUE || !t->on_bytes)
                return st;
        }
    }
    if (!t->on_bytes)
        return LISTENER_CONTINUE;
    enum listener_status st = look_at_bytes(p, &lf->f);
    if (st == LISTENER_CONTINUE && p->a.consume && !consume(p)) {
        p->a.why = "read_error";
        return LISTENER_CLOSE;
    }
    return st;
}

static void run_filters(struct accepting *p)
{
    while (p->filter < p->conf->n_lfs) {
        switch (run_filter(p)) {
        case LISTENER_MORE:
            return;
        case LISTENER_CLOSE:
            drop(p,
                 p->a.why && !strcmp(p->a.why, "remote_close")
                     ? listener_stats_downstream_listener_filter_remote_close
                     : listener_stats_downstream_listener_filter_error,
                 true);
            return;
        case LISTENER_CONTINUE:
            fini_filter(p);
            p->filter++;
        }
    }
    choose_chain(p);
}

static void accepting_event(struct conn *c, unsigned events, void *user)
{
    struct accepting *p = user;
    if (p->over)
        return;
    if (events & CONN_EV_ERROR)
        drop(p, listener_stats_downstream_listener_filter_error, true);
    else if (events & CONN_EV_READ)
        run_filters(p);
}

static void on_accept_timeout(struct timer *t)
{
    struct accepting *p = container_of(t, struct accepting, timer);
    stat_inc(&p->conf->stats, listener_stats_downstream_pre_cx_timeout);
    if (p->conf->continue_on_timeout) {
        choose_chain(p);
        return;
    }
    conn_abort(p->a.conn);
    finish_accepting(p);
}

static void begin(struct worker_listener *wl, struct conn *c, bool handed)
{
    struct accepting *p = mem_new(struct accepting);
    arena_init(&p->arena);
    p->wl = wl;
    p->conf = wl->conf;
    listener_conf_ref(p->conf);
    p->handed = handed;
    p->a.ops = &accept_ops;
    p->a.conn = c;
    p->a.worker = &wl->w->f;
    p->a.arena = &p->arena;
    p->direct = c->remote;
    list_push(&wl->accepting, &p->link);
    stat_gauge_inc(&p->conf->stats, listener_stats_downstream_pre_cx_active);
    timer_init(&p->timer, wl->w->f.loop, on_accept_timeout);
    if (p->conf->lf_timeout_ms)
        timer_set(&p->timer, p->conf->lf_timeout_ms);
    conn_set_owner(c, accepting_event, p);
    run_filters(p);
}

/* ================ which chain ================ */

static bool wants_local(const struct listener_conf *c)
{
    return addr_is_any(&c->addrs[0]) || c->n_addrs > 1;
}

static void match(struct worker_listener *wl, struct listener_conf *conf, struct conn *c,
                  const struct addr *direct, const struct listener_accept *a)
{
    if (!c->original_dst.len && wants_local(conf) && c->local.sa.sa_family != AF_UNIX)
        conn_local(c); /* a wildcard address says nothing */
    struct chain_conn cc = {
        .local = c->original_dst.len ? &c->original_dst : &c->local,
        .remote = &c->remote,
        .direct_remote = direct,
        .transport = SV("raw_buffer"),
    };
    if (a) {
        cc.sni = a->sni;
        cc.alpn = a->alpn;
        cc.n_alpn = a->n_alpn;
        if (a->transport.n)
            cc.transport = a->transport;
    }
    const struct listener_chain *chain = listener_conf_chain(conf, &cc);
    if (chain)
        accepted_start(wl, conf, chain, c, direct, cc.sni);
    else
        accepted_none(wl, conf, c, direct);
}

static void choose_chain(struct accepting *p)
{
    struct worker_listener *wl = p->wl;
    struct listener_conf *conf = p->conf;
    struct conn *c = p->a.conn;
    struct worker_listener *other = conf->use_original_dst && !p->handed && p->a.restored_dst
                                        ? worker_find_listener(wl->w, &c->original_dst, wl)
                                        : NULL;
    conn_set_owner(c, NULL, NULL);
    if (other && other != wl)
        worker_hand_over(other, c);
    else
        match(wl, conf, c, &p->direct, &p->a);
    finish_accepting(p);
}

void worker_hand_over(struct worker_listener *wl, struct conn *c)
{
    if (wl->conf->n_lfs) {
        begin(wl, c, true);
        return;
    }
    struct addr direct = c->remote;
    match(wl, wl->conf, c, &direct, NULL);
}

void conn_accept_exhausted(void *user)
{
    struct worker_listener *wl = user;
    stat_inc(&wl->conf->stats, listener_stats_downstream_cx_accept_exhausted);
}

/* One connection more would be too many: it is closed unread, as Envoy does (attack case 13). */
static bool over_limit(struct listener_conf *c)
{
    if (mem_short()) {
        stat_inc(&c->stats, listener_stats_downstream_cx_overload_reject);
        return true;
    }
    if (c->max_connections != UINT64_MAX &&
        stat_gauge_get(&c->stats, listener_stats_downstream_cx_active) +
                stat_gauge_get(&c->stats, listener_stats_downstream_pre_cx_active) >=
            c->max_connections) {
        stat_inc(&c->stats, listener_stats_downstream_cx_overflow);
        return true;
    }
    if (atomic_load_explicit(&c->server->connections, memory_order_relaxed) <
        c->server->max_connections)
        return false;
    stat_inc(&c->stats, listener_stats_downstream_global_cx_overflow);
    return true;
}

void conn_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct worker_listener *wl = user;
    struct conn *c = conn_from_fd(wl->w->f.loop, fd, local, remote, NULL, NULL);
    if (over_limit(wl->conf)) {
        conn_close(c);
        return;
    }
    if (wl->conf->n_lfs)
        begin(wl, c, false);
    else
        match(wl, wl->conf, c, remote, NULL);
}

/* ================ the end ================ */

void conn_accept_abort(struct worker_listener *wl, bool only_draining)
{
    accepted_abort(wl, only_draining);
    list_each_safe (it, &wl->accepting) {
        struct accepting *p = container_of(it, struct accepting, link);
        if (only_draining && !wl->removed)
            break;
        conn_abort(p->a.conn);
        finish_accepting(p);
    }
}
