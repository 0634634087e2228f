#include "proxy/conn_accept.h"
#include "base/code.h"

#include <stdio.h>
#include <string.h>

#include "api/envoy.pb.h"
#include "base/mem.h"
#include "http/path.h"
#include "net/loop.h"
#include "proxy/server_private.h"
#include "telemetry/access_log.h"
#include "telemetry/stats.h"
#include "tls/tls_conn.h"
#include "tls/tls_inspect.h"
#include "upstream/upstream.h"

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

/* ================ the connection, once a chain is chosen ================ */

struct handshake {
    struct timer timer;
    struct accepted *d;
};

static struct accepted *accepted_of(struct network_conn *nc)
{
    return container_of(nc, struct accepted, nc);
}

/* The listener's log, for the connections of those that have one. */
struct accept_log {
    struct network_observer observer;
    struct accepted *d;
};

static const struct stream_info *describe(struct accepted *d, struct arena *a)
{
    struct stream_info *si = arena_new(a, struct stream_info);
    stream_info_init(si, a);
    si->down = &d->nc.sc;
    si->start_ns = d->nc.sc.start_ns;
    si->start_wall_ns = d->start_wall_ns;
    si->end_ns = loop_stamp_ns(d->wl->w->f.loop);
    si->bytes_received = d->nc.conn->bytes_read;
    si->bytes_sent = d->nc.conn->bytes_written;
    si->termination_details = d->nc.termination_details;
    stream_info_fail(si, d->nc.flags, (sv){NULL, 0});
    return si;
}

static void write_log(struct accepted *d, const struct stream_info *si)
{
    struct filter_worker *w = &d->wl->w->f;
    struct arena a;
    arena_init(&a);
    struct substitution_ctx c = {.si = si ? si : describe(d, &a), .log_type = "NotSet"};
    access_log_write(d->conf->logs, w->logs, &c, rand_u64(loop_rand(w->loop)));
    arena_free(&a);
}

static void on_end_log(struct network_observer *o, const struct stream_info *si)
{
    struct accept_log *log = container_of(o, struct accept_log, observer);
    write_log(log->d, si);
    free(log);
}

static void on_connected_log(struct network_observer *o, const struct stream_info *si)
{
    (void)o;
    (void)si;
}

static void start_log(struct accepted *d)
{
    struct accept_log *log = mem_new(struct accept_log);
    log->observer.on_connected = on_connected_log;
    log->observer.on_end = on_end_log;
    log->d = d;
    network_observe(&d->nc, &log->observer);
}

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

static void free_accepted(struct deferred *df)
{
    struct accepted *d = container_of(df, struct accepted, freeing);
    listener_conf_unref(d->conf);
    free(d->texts);
    free(d->sni);
    free(d);
}

static void stop_handshake(struct accepted *d)
{
    if (d->handshake)
        timer_cancel(&d->handshake->timer);
    free(d->handshake);
    d->handshake = NULL;
}

static void end(struct accepted *d)
{
    if (d->done)
        return;
    d->done = true;
    network_tell_end(&d->nc, NULL);
    struct worker_listener *wl = d->wl;
    struct listener_conf *c = d->conf;
    stop_handshake(d);
    stat_gauge_dec(&c->stats, listener_stats_downstream_cx_active);
    stat_gauge_dec(&wl->stats, listener_worker_stats_downstream_cx_active);
    stat_inc(&c->stats, listener_stats_downstream_cx_destroy);
    stat_record(&c->stats, listener_stats_downstream_cx_length_ms,
                (loop_stamp_ns(wl->w->f.loop) - d->nc.sc.start_ns) / 1000000u);
    list_del(&d->nc.link);
    wl->n_conns--;
    wl->w->connections--;
    atomic_fetch_sub_explicit(&c->server->connections, 1, memory_order_relaxed);
    loop_defer(wl->w->f.loop, &d->freeing, free_accepted);
    conn_accept_reap(wl);
}

static void refuse(struct network_conn *nc, uint64_t flags, sv details)
{
    struct accepted *d = accepted_of(nc);
    if (d->done)
        return;
    nc->flags |= flags;
    if (!nc->termination_details.n)
        nc->termination_details = details;
    conn_set_owner(nc->conn, NULL, NULL);
    conn_close(nc->conn);
    end(d);
}

static void next(struct network_conn *nc)
{
    struct accepted *d = accepted_of(nc);
    if (d->done)
        return;
    const struct network_filter *f = &d->chain->filters[d->next_filter++];
    f->type->start(f->config, nc);
}

static void done(struct network_conn *nc)
{
    end(accepted_of(nc));
}

/* POST /healthcheck/fail: whoever asks is sent elsewhere, unless the listener says that only its
 * changes drain (drain_type). During a gradual drain the peers are told one after the other, so
 * that they do not all come back at once. */
HOT static bool drain_close(struct network_conn *nc)
{
    struct accepted *d = accepted_of(nc);
    struct worker *w = d->wl->w;
    if (!d->conf->modify_only && w->f.health_failed &&
        atomic_load_explicit(w->f.health_failed, memory_order_relaxed))
        return true;
    if (!d->draining)
        return false;
    if (!w->drain_gradually || !w->drain_ms)
        return true;
    uint64_t past = loop_now_ms(w->f.loop) - d->drain_start_ms;
    return past >= w->drain_ms || rand_below(loop_rand(w->f.loop), w->drain_ms) < past;
}

HOT static bool misdirected(struct network_conn *nc, sv authority, struct arena *a)
{
    const struct accepted *d = accepted_of(nc);
    const struct listener_conf *conf = d->conf;
    if (!conf->by_name || !d->chain->tls || !nc->sc.sni.n)
        return false;
    sv host = authority_canonical(authority, true, true, a);
    if (sv_eq(nc->sc.sni, host))
        return false;
    struct chain_conn cc = {
        .local = nc->sc.local_addr,
        .remote = nc->sc.remote_addr,
        .direct_remote = nc->sc.direct_remote_addr,
        .sni = host,
        .transport = SV("tls"),
    };
    const struct listener_chain *other = listener_conf_chain(conf, &cc);
    return other && other != d->chain && other != conf->fallback &&
           chain_match_names_better(&other->match, &d->chain->match, host);
}

static const struct network_conn_ops nc_ops = {
    .next = next,
    .refuse = refuse,
    .done = done,
    .drain_close = drain_close,
    .misdirected = misdirected,
};

/* ---- TLS ---- */

static void count_by_name(struct accepted *d, const char *stem, const char *name)
{
    if (!name || !name[0])
        return;
    char text[160];
    int n = snprintf(text, sizeof text, "ssl.%s.%s", stem, name);
    if (n > 0 && (size_t)n < sizeof text && d->wl->w->f.series)
        stat_series_add(stats_cache_get(d->wl->w->f.series, d->conf->scope,
                                        sv_make(text, (size_t)n), STAT_COUNTER, NULL, 0),
                        1);
}

static void count_handshake(struct accepted *d, const struct tls_info *t)
{
    struct stat_group *g = &d->conf->tls_stats;
    stat_inc(g, listener_tls_stats_handshake);
    if (t->session_reused)
        stat_inc(g, listener_tls_stats_session_reused);
    if (!t->peer)
        stat_inc(g, listener_tls_stats_no_certificate);
    count_by_name(d, "ciphers", t->cipher);
    count_by_name(d, "versions", t->version);
    count_by_name(d, "curves", t->group);
    count_by_name(d, "sigalgs", t->sigalg);
}

static void handshake_failed(struct accepted *d)
{
    static const uint8_t by_cause[] = {
        [TLS_FAIL_NONE] = listener_tls_stats_connection_error,
        [TLS_FAIL_NO_CERT] = listener_tls_stats_fail_verify_no_cert,
        [TLS_FAIL_VERIFY] = listener_tls_stats_fail_verify_error,
        [TLS_FAIL_SAN] = listener_tls_stats_fail_verify_san,
        [TLS_FAIL_PIN] = listener_tls_stats_fail_verify_cert_hash,
        [TLS_FAIL_PROTOCOL] = listener_tls_stats_connection_error,
    };
    struct network_conn *nc = &d->nc;
    enum tls_fail why = tls_conn_fail(nc->conn);
    if (nc->conn->error != E_RESET && nc->conn->error != E_EOF)
        stat_inc(&d->conf->tls_stats, by_cause[why]);
    nc->sc.transport_failure = nc->conn->error_text; /* lives until the end of the turn */
    nc->termination_details = SV("transport_socket_handshake_failure");
    conn_abort(nc->conn);
    end(d);
}

static void tls_event(struct conn *c, unsigned events, void *user)
{
    struct accepted *d = user;
    if (events & CONN_EV_ERROR) {
        handshake_failed(d);
        return;
    }
    if (!(events & CONN_EV_CONNECTED))
        return;
    stop_handshake(d);
    d->nc.sc.tls = c->tls;
    upstream_conn_ids(c, &d->nc.sc.local_id, &d->nc.sc.peer_id);
    if (c->tls->sni.n)
        d->nc.sc.sni = c->tls->sni;
    d->nc.sc.handshake_done_ns = loop_stamp_ns(c->loop);
    count_handshake(d, c->tls);
    next(&d->nc);
}

static void on_handshake_timeout(struct timer *t)
{
    struct accepted *d = container_of(t, struct handshake, timer)->d;
    stat_inc(&d->conf->stats, listener_stats_downstream_cx_transport_socket_connect_timeout);
    d->nc.termination_details = SV("transport_socket_timeout");
    conn_abort(d->nc.conn);
    end(d);
}

static void start_tls(struct accepted *d)
{
    struct tls_ctx *ctx = tls_slot_get(d->chain->tls);
    if (!ctx) { /* never a default: the certificate has not arrived (attack case 34) */
        stat_inc(&d->conf->sds_stats, listener_sds_stats_downstream_context_secrets_not_ready);
        refuse(&d->nc, 0, SV("secrets_not_ready"));
        return;
    }
    if (d->chain->require_sni && !d->nc.sc.sni.n) {
        tls_ctx_unref(ctx);
        stat_inc(&d->conf->tls_stats, listener_tls_stats_connection_error);
        refuse(&d->nc, 0, SV("server_name_required"));
        return;
    }
    d->nc.conn = tls_conn_server(d->nc.conn, ctx, tls_event, d);
    tls_ctx_unref(ctx);
    if (d->chain->connect_timeout_ms) {
        d->handshake = mem_new(struct handshake);
        d->handshake->d = d;
        timer_init(&d->handshake->timer, d->nc.worker->loop, on_handshake_timeout);
        timer_set(&d->handshake->timer, d->chain->connect_timeout_ms);
    }
}

/* ---- making it ---- */

static sv keep_text(char **at, const struct addr *a)
{
    char text[ADDR_TEXT_MAX];
    sv v = addr_text(a, text);
    memcpy(*at, v.p, v.n);
    v.p = *at;
    *at += v.n;
    return v;
}

/* Whether the connection was intercepted, or its PROXY header tells a destination. One that came
 * straight to the listener's address must not be sent there again, and again. */
static bool meant_elsewhere(struct accepted *d, bool claimed)
{
    struct conn *c = d->nc.conn;
    if (d->conf->transparent || claimed)
        return true;
    return c->original_dst.len && !addr_eq(&c->original_dst, conn_local(c));
}

static void fill_addresses(struct accepted *d, const struct addr *direct)
{
    struct stream_conn *sc = &d->nc.sc;
    struct conn *c = d->nc.conn;
    char text[ADDR_TEXT_MAX];
    bool claimed = !addr_eq(direct, &c->remote);
    sc->local_addr = c->original_dst.len ? &c->original_dst : &c->local;
    sc->original_dst = meant_elsewhere(d, claimed) ? sc->local_addr : NULL;
    sc->remote_addr = &c->remote;
    sc->direct_remote_addr = &c->remote;
    size_t need = addr_text(sc->local_addr, text).n + addr_text(&c->remote, text).n;
    if (claimed)
        need += addr_text(direct, text).n + sizeof *direct + 16;
    char *at = d->texts = mem_alloc(need + 1);
    if (claimed) { /* the struct first: malloc aligned it */
        memcpy(at, direct, sizeof *direct);
        sc->direct_remote_addr = (const struct addr *)at;
        at += sizeof *direct;
        sc->direct_remote = keep_text(&at, direct);
    }
    sc->local = keep_text(&at, sc->local_addr);
    sc->remote = keep_text(&at, &c->remote);
    if (!claimed)
        sc->direct_remote = sc->remote;
}

static void start_chain(struct worker_listener *wl, struct listener_conf *conf,
                        const struct listener_chain *chain, struct conn *c,
                        const struct addr *direct, sv sni)
{
    struct accepted *d = mem_new(struct accepted);
    struct worker *w = wl->w;
    d->nc.ops = &nc_ops;
    d->nc.worker = &w->f;
    d->nc.conn = c;
    d->nc.buffer_limit = conf->buffer_limit;
    d->wl = wl;
    d->conf = conf;
    d->chain = chain;
    listener_conf_ref(conf);
    d->draining = wl->removed || wl->draining || w->draining;
    d->drain_start_ms = wl->draining ? wl->drain_start_ms : loop_now_ms(w->f.loop);
    d->start_wall_ns = loop_stamp_wall_ns(w->f.loop);
    d->nc.sc.id = c->id;
    d->nc.sc.start_ns = loop_stamp_ns(w->f.loop);
    fill_addresses(d, direct);
    if (sni.n) {
        d->sni = sv_dup(sni);
        d->nc.sc.sni = sv_make(d->sni, sni.n);
    }
    list_push(&wl->conns, &d->nc.link);
    wl->n_conns++;
    w->connections++;
    atomic_fetch_add_explicit(&conf->server->connections, 1, memory_order_relaxed);
    stat_inc(&conf->stats, listener_stats_downstream_cx_total);
    stat_gauge_inc(&conf->stats, listener_stats_downstream_cx_active);
    stat_inc(&wl->stats, listener_worker_stats_downstream_cx_total);
    stat_gauge_inc(&wl->stats, listener_worker_stats_downstream_cx_active);
    if (conf->logs)
        start_log(d);
    if (chain->tls)
        start_tls(d);
    else
        next(&d->nc);
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

static void no_chain(struct worker_listener *wl, struct listener_conf *conf, struct conn *c,
                     const struct addr *direct)
{
    stat_inc(&conf->stats, listener_stats_no_filter_chain_match);
    if (conf->logs) { /* a line says why the connection went away */
        struct accepted d = {.wl = wl, .conf = conf};
        d.nc.conn = c;
        d.nc.flags = STREAM_FLAG_NR;
        d.nc.termination_details = SV("filter_chain_not_found");
        d.nc.sc.id = c->id;
        d.nc.sc.start_ns = loop_stamp_ns(wl->w->f.loop);
        d.start_wall_ns = loop_stamp_wall_ns(wl->w->f.loop);
        fill_addresses(&d, direct);
        write_log(&d, NULL);
        free(d.texts);
    }
    conn_set_owner(c, NULL, NULL);
    conn_abort(c);
}

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
        start_chain(wl, conf, chain, c, direct, cc.sni);
    else
        no_chain(wl, conf, c, direct);
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

/* ================ draining ================ */

static bool has_chain(const struct listener_conf *c, const struct listener_chain *chain)
{
    for (uint32_t i = 0; i < c->n_chains; i++)
        if (sv_eq(c->chains[i].packed, chain->packed))
            return true;
    return c->fallback && sv_eq(c->fallback->packed, chain->packed);
}

void conn_accept_drain(struct worker_listener *wl, const struct listener_conf *keep)
{
    uint64_t now = loop_now_ms(wl->w->f.loop);
    list_each_safe (it, &wl->conns) {
        struct accepted *d = container_of(it, struct accepted, nc.link);
        if (d->draining || (keep && (d->conf == keep || has_chain(keep, d->chain))))
            continue;
        d->draining = true;
        d->drain_start_ms = now;
        if (d->nc.owner_ops)
            d->nc.owner_ops->drain(d->nc.owner);
    }
}

void conn_accept_abort(struct worker_listener *wl, bool only_draining)
{
    list_each_safe (it, &wl->conns) {
        struct accepted *d = container_of(it, struct accepted, nc.link);
        if (only_draining && !d->draining)
            continue;
        if (d->nc.owner_ops)
            d->nc.owner_ops->abort(d->nc.owner);
        else
            refuse(&d->nc, 0, SV("listener_removed"));
    }
    list_each_safe (it, &wl->accepting) {
        struct accepting *p = container_of(it, struct accepting, link);
        if (only_draining && !wl->removed)
            break;
        conn_abort(p->a.conn);
        finish_accepting(p);
    }
}

uint32_t conn_accept_busy(const struct worker_listener *wl)
{
    uint32_t n = 0;
    list_each (it, &wl->conns) {
        struct accepted *d = container_of(it, struct accepted, nc.link);
        n += !d->nc.owner_ops || !d->nc.owner_ops->idle(d->nc.owner);
    }
    return n;
}
