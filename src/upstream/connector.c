#include "upstream/connector.h"

#include <stdio.h>
#include "tls/tls_conn.h"
#include "upstream/worker.h"

static struct cluster_core *core_of(const struct connector *k)
{
    return k->host->core;
}

/* ---- accounting ---- */

bool cx_allowed(struct upstream_host *h, enum upstream_priority p, bool none_yet, bool count)
{
    struct cluster_core *c = h->core;
    uint32_t per_host = c->cfg->per_host_max_connections;
    bool host_full =
        per_host && atomic_load_explicit(&h->state->cx_active, memory_order_relaxed) >= per_host;
    if (!host_full && limits_take(&c->rt->limits, p, LIMIT_CX))
        return true;
    if (count)
        stat_inc(core_stats(c), cluster_stat_upstream_cx_overflow);
    if (!none_yet)
        return false;
    limits_force(&c->rt->limits, p, LIMIT_CX);
    return true;
}

static void cx_begun(struct connector *k)
{
    struct cluster_core *c = core_of(k);
    stat_inc(core_stats(c), cluster_stat_upstream_cx_total);
    stat_gauge_inc(core_stats(c), cluster_stat_upstream_cx_active);
    atomic_fetch_add_explicit(&k->host->state->cx_total, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&k->host->state->cx_active, 1, memory_order_relaxed);
    host_use(k->host);
}

void cx_ended(struct upstream_host *h, enum upstream_priority p, const struct conn *conn,
              uint64_t start_ns, enum cx_end by, bool with_active_rq)
{
    struct cluster_core *c = h->core;
    struct stat_group *g = core_stats(c);
    stat_gauge_dec(g, cluster_stat_upstream_cx_active);
    atomic_fetch_sub_explicit(&h->state->cx_active, 1, memory_order_relaxed);
    limits_give(&c->rt->limits, p, LIMIT_CX);
    stat_inc(g, cluster_stat_upstream_cx_destroy);
    stat_inc(g, by == CX_LOCAL ? cluster_stat_upstream_cx_destroy_local
                               : cluster_stat_upstream_cx_destroy_remote);
    if (with_active_rq) {
        stat_inc(g, cluster_stat_upstream_cx_destroy_with_active_rq);
        stat_inc(g, by == CX_LOCAL ? cluster_stat_upstream_cx_destroy_local_with_active_rq
                                   : cluster_stat_upstream_cx_destroy_remote_with_active_rq);
    }
    if (conn && conn->connected)
        stat_record(g, cluster_stat_upstream_cx_length_ms,
                    (loop_now_ns(c->w->loop) - start_ns) / 1000000u);
    host_unuse(h);
}

static void count_by_name(struct connector *k, const char *stem, const char *name)
{
    struct cluster_core *c = core_of(k);
    char text[160];
    int n = snprintf(text, sizeof text, "ssl.%s.%s", stem, name);
    if (name[0] && n > 0 && (size_t)n < sizeof text && c->w->series)
        stat_series_add(stats_cache_get(c->w->series, c->rt->stats.scope, sv_make(text, (size_t)n),
                                        STAT_COUNTER, NULL, 0),
                        1);
}

static void count_tls(struct connector *k)
{
    const struct tls_info *tls = k->conn->tls;
    struct stat_group *g = &core_of(k)->rt->stats.tls;
    if (!tls)
        return;
    stat_inc(g, cluster_tls_stat_handshake);
    if (tls->session_reused)
        stat_inc(g, cluster_tls_stat_session_reused);
    if (!tls->peer)
        stat_inc(g, cluster_tls_stat_no_certificate);
    count_by_name(k, "ciphers", tls->cipher);
    count_by_name(k, "versions", tls->version);
    count_by_name(k, "curves", tls->group);
    count_by_name(k, "sigalgs", tls->sigalg);
}

static void count_tls_failure(struct connector *k)
{
    static const unsigned stat[] = {
        [TLS_FAIL_NO_CERT] = cluster_tls_stat_fail_verify_no_cert,
        [TLS_FAIL_VERIFY] = cluster_tls_stat_fail_verify_error,
        [TLS_FAIL_SAN] = cluster_tls_stat_fail_verify_san,
        [TLS_FAIL_PIN] = cluster_tls_stat_fail_verify_cert_hash,
        [TLS_FAIL_PROTOCOL] = cluster_tls_stat_connection_error,
    };
    if (!tls_conn_is(k->conn) || tls_conn_fail(k->conn) == TLS_FAIL_NONE)
        return;
    stat_inc(&core_of(k)->rt->stats.tls, stat[tls_conn_fail(k->conn)]);
}

/* ---- ends ---- */

static void stop(struct connector *k)
{
    timer_cancel(&k->timer);
    list_del(&k->link);
    k->active = false;
}

static void fail(struct connector *k, enum upstream_fail why, sv details)
{
    struct cluster_core *c = core_of(k);
    struct upstream_host *h = k->host;
    struct conn *conn = k->conn;
    stop(k);
    stat_inc(core_stats(c), cluster_stat_upstream_cx_connect_fail);
    if (why == UPSTREAM_FAIL_CONNECT_TIMEOUT)
        stat_inc(core_stats(c), cluster_stat_upstream_cx_connect_timeout);
    atomic_fetch_add_explicit(&h->state->cx_connect_fail, 1, memory_order_relaxed);
    host_use(h);
    cx_ended(h, k->priority, conn, k->start_ns,
             why == UPSTREAM_FAIL_CONNECT_TIMEOUT ? CX_LOCAL : CX_REMOTE, false);
    k->conn = NULL;
    if (conn) /* its memory, and the details in it, last to the end of the turn */
        conn_close(conn);
    k->failed(k, why, details);
    host_unuse(h);
}

void connector_cancel(struct connector *k)
{
    if (!k->active)
        return;
    struct conn *conn = k->conn;
    stop(k);
    cx_ended(k->host, k->priority, conn, k->start_ns, CX_LOCAL, false);
    k->conn = NULL;
    if (conn)
        conn_close(conn);
}

static void connected(struct connector *k)
{
    struct conn *conn = k->conn;
    stop(k);
    count_tls(k);
    stat_record(core_stats(core_of(k)), cluster_stat_upstream_cx_connect_ms,
                (loop_now_ns(conn->loop) - k->start_ns) / 1000000u);
    k->conn = NULL;
    k->done(k, conn);
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct connector *k = user;
    if (events & CONN_EV_ERROR) {
        count_tls_failure(k);
        fail(k, UPSTREAM_FAIL_CONNECT,
             c->error_text.n ? c->error_text : sv_of(error_text(c->error)));
        return;
    }
    if (!(events & CONN_EV_CONNECTED))
        return;
    if (events & CONN_EV_READ)
        conn_kick(c); /* the new owner is told */
    connected(k);
}

static void on_timer(struct timer *t)
{
    struct connector *k = container_of(t, struct connector, timer);
    if (k->early_error)
        fail(k, UPSTREAM_FAIL_CONNECT, k->early_text);
    else
        fail(k, UPSTREAM_FAIL_CONNECT_TIMEOUT, SV("connection timeout"));
}

/* ---- begin ---- */

/* Told on the next turn: nothing fails from inside connector_start. */
static void fail_soon(struct connector *k, int code, sv text)
{
    k->early_error = code ? code : E_IO;
    k->early_text = text;
    timer_set(&k->timer, 0);
}

static void connect_socket(struct connector *k, struct tls_ctx *ctx)
{
    struct cluster_core *c = core_of(k);
    int code = 0;
    struct sock_opts so = c->cfg->sock;
    so.first = k->ask->first;
    so.bind_to = bind_source_for(&c->cfg->bind, &k->host->info->addr);
    struct conn *conn = conn_connect(c->w->loop, &k->host->info->addr, &so, on_event, k, &code);
    if (!conn) {
        if (so.bind_to)
            stat_inc(core_stats(c), cluster_stat_bind_errors);
        fail_soon(k, code, sv_of(error_text(code)));
        return;
    }
    if (ctx) {
        struct tls_client_params p = {.has_sni = k->ask->has_sni,
                                      .sni = k->ask->sni,
                                      .alpn = k->ask->alpn,
                                      .n_alpn = k->ask->n_alpn,
                                      .expect_name = k->ask->expect_name};
        conn = tls_conn_client(conn, ctx, &p, on_event, k);
    }
    k->conn = conn;
}

static void go(struct connector *k)
{
    struct cluster_core *c = core_of(k);
    uint32_t transport = k->host->info->transport;
    if (!c->cfg->transports[transport].tls) {
        connect_socket(k, NULL);
        return;
    }
    struct tls_ctx *ctx = NULL;
    sv why;
    switch (cluster_tls_get(c->cluster, transport, &ctx, &why)) {
    case CLUSTER_TLS_READY:
        connect_socket(k, ctx);
        tls_ctx_unref(ctx);
        break;
    case CLUSTER_TLS_WAIT:
        list_push(&c->awaiting_tls, &k->link);
        break;
    case CLUSTER_TLS_NOT_READY:
        stat_inc(&c->rt->stats.tls, cluster_tls_stat_upstream_context_secrets_not_ready);
        fail_soon(k, E_TLS, why);
        break;
    }
}

void connector_start(struct connector *k, struct upstream_host *host, enum upstream_priority p,
                     const struct transport_ask *ask)
{
    struct cluster_core *c = host->core;
    list_init(&k->link);
    k->host = host;
    k->priority = p;
    k->ask = ask;
    k->conn = NULL;
    k->early_error = 0;
    k->active = true;
    k->start_ns = loop_now_ns(c->w->loop);
    timer_init(&k->timer, c->w->loop, on_timer);
    timer_set(&k->timer, c->cfg->connect_timeout_ms);
    cx_begun(k);
    go(k);
}

void connector_tls_made(struct cluster_core *c)
{
    struct list todo;
    list_init(&todo);
    for (struct list *it; (it = list_first(&c->awaiting_tls));) {
        list_del(it);
        list_push(&todo, it);
    }
    for (struct list *it; (it = list_first(&todo));) {
        struct connector *k = container_of(it, struct connector, link);
        list_del(it);
        go(k);
    }
}
