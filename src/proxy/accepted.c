#include "proxy/accepted.h"

#include <stdio.h>
#include <string.h>

#include "base/code.h"
#include "base/mem.h"
#include "http/path.h"
#include "net/loop.h"
#include "proxy/conn_accept.h"
#include "proxy/server_private.h"
#include "telemetry/access_log.h"
#include "telemetry/stats.h"
#include "tls/tls_conn.h"
#include "upstream/upstream.h"

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

static void start_log(struct accepted *d)
{
    struct accept_log *log = mem_new(struct accept_log);
    log->observer.on_end = on_end_log;
    log->d = d;
    network_observe(&d->nc, &log->observer);
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
    conn_close(nc->conn); /* not a reset: the alert says why, and it has to arrive */
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

void accepted_start(struct worker_listener *wl, struct listener_conf *conf,
                    const struct listener_chain *chain, struct conn *c, const struct addr *direct,
                    sv sni)
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

void accepted_none(struct worker_listener *wl, struct listener_conf *conf, struct conn *c,
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

/* ---- draining ---- */

static bool has_chain(const struct listener_conf *c, const struct listener_chain *chain)
{
    for (uint32_t i = 0; i < c->n_chains; i++)
        if (sv_eq(c->chains[i].packed, chain->packed))
            return true;
    return c->fallback && sv_eq(c->fallback->packed, chain->packed);
}

void accepted_drain(struct worker_listener *wl, const struct listener_conf *keep)
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

void accepted_abort(struct worker_listener *wl, bool only_draining)
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
}

uint32_t accepted_busy(const struct worker_listener *wl)
{
    uint32_t n = 0;
    list_each (it, &wl->conns) {
        struct accepted *d = container_of(it, struct accepted, nc.link);
        n += !d->nc.owner_ops || !d->nc.owner_ops->idle(d->nc.owner);
    }
    return n;
}
