/* TCP connections to hosts: made for one user each, never pooled. */
#include "base/mem.h"
#include "tls/tls_conn.h"
#include "upstream/proxy_header.h"
#include "upstream/worker.h"

/* From the attempt until the user is done with the connection. */
struct tcp_attempt {
    struct list link; /* host->tcp, then host->tcp_up */
    struct connector connector;
    struct upstream_open *open; /* NULL: the user has the connection */
    struct transport_ask ask;
    struct deferred gone;
    uint64_t conn_id;
    sv alpn[8];
    char first[PROXY_HEADER_MAX];
    char names[];
};

static void on_gone(struct deferred *d)
{
    free(container_of(d, struct tcp_attempt, gone));
}

static sv id_key(const uint64_t *id)
{
    return sv_make((const char *)id, sizeof *id);
}

static void attempt_end(struct tcp_attempt *t)
{
    struct upstream_worker *w = t->connector.host->core->w;
    list_del(&t->link);
    if (t->conn_id)
        map_del(&w->tcp_conns, id_key(&t->conn_id));
    loop_defer(w->loop, &t->gone, on_gone);
}

static void on_connected(struct connector *k, struct conn *c)
{
    struct tcp_attempt *t = container_of(k, struct tcp_attempt, connector);
    struct upstream_open got = *t->open;
    struct upstream_host *h = k->host;
    upstream_cluster_ref(got.handle);
    open_end(t->open);
    t->open = NULL;
    t->conn_id = c->id;
    map_put(&h->core->w->tcp_conns, id_key(&t->conn_id), t);
    list_del(&t->link);
    list_push(&h->tcp_up, &t->link);
    host_connected(h);
    host_rq_begin(h, UPSTREAM_DEFAULT);
    limits_force(&h->core->rt->limits, UPSTREAM_DEFAULT, LIMIT_RQ);
    host_hand_out(h, got.handle);
    conn_set_owner(c, NULL, NULL);
    got.cb.tcp->on_ready(got.user, c, h);
    upstream_cluster_unref(got.handle);
}

static void on_failed(struct connector *k, enum upstream_fail why, sv details)
{
    struct tcp_attempt *t = container_of(k, struct tcp_attempt, connector);
    struct upstream_open *o = t->open;
    attempt_end(t);
    stat_inc(core_stats(k->host->core), cluster_stat_upstream_rq_pending_failure_eject);
    open_fail(o, why, details);
}

static sv keep(char **at, sv v)
{
    if (v.n)
        memcpy(*at, v.p, v.n);
    sv out = sv_make(*at, v.n);
    *at += v.n;
    return out;
}

static struct tcp_attempt *attempt_new(const struct upstream_host *h,
                                       const struct upstream_ctx *ctx)
{
    const struct cluster_transport *ts = &h->core->cfg->transports[h->info->transport];
    const struct envoy_UpstreamTlsContext *u = ts->tls;
    uint32_t n = u ? ctx->n_alpn_override : 0;
    if (n > 8)
        n = 8;
    sv sni = u && u->auto_host_sni ? h->info->hostname : (sv){0};
    size_t size = sni.n;
    for (uint32_t i = 0; i < n; i++)
        size += ctx->alpn_override[i].n;
    struct tcp_attempt *t = mem_zalloc(sizeof *t + size);
    char *at = t->names;
    t->ask.sni = keep(&at, sni);
    t->ask.has_sni = sni.n > 0;
    if (u && u->auto_sni_san_validation)
        t->ask.expect_name = sni.n ? t->ask.sni : u->sni;
    for (uint32_t i = 0; i < n; i++)
        t->alpn[i] = keep(&at, ctx->alpn_override[i]);
    t->ask.alpn = t->alpn;
    t->ask.n_alpn = n;
    if (ts->proxy_protocol)
        t->ask.first = sv_make(t->first, proxy_header_write(t->first, ts->proxy_protocol,
                                                            ctx->client, ctx->original_dst));
    list_init(&t->link);
    return t;
}

struct upstream_open *upstream_tcp_open(struct upstream_cluster *handle,
                                        const struct upstream_ctx *ctx,
                                        const struct upstream_tcp_cb *cb, void *user)
{
    struct limits *l = &handle->core->rt->limits;
    struct upstream_host *h = host_choose(handle, ctx);
    if (!h) {
        cb->on_fail(user, UPSTREAM_FAIL_NO_HOST, NULL, (sv){0});
        return NULL;
    }
    if (!cx_allowed(h, UPSTREAM_DEFAULT, false, true)) {
        cb->on_fail(user, UPSTREAM_FAIL_OVERFLOW, h, (sv){0});
        return NULL;
    }
    if (!limits_take(l, UPSTREAM_DEFAULT, LIMIT_PENDING)) {
        limits_give(l, UPSTREAM_DEFAULT, LIMIT_CX);
        stat_inc(core_stats(handle->core), cluster_stat_upstream_rq_pending_overflow);
        cb->on_fail(user, UPSTREAM_FAIL_OVERFLOW, h, (sv){0});
        return NULL;
    }
    struct tcp_attempt *t = attempt_new(h, ctx);
    t->open = open_new(handle, h, user, UPSTREAM_DEFAULT);
    t->open->cb.tcp = cb;
    t->open->tcp = t;
    t->connector.done = on_connected;
    t->connector.failed = on_failed;
    list_push(&h->tcp, &t->link);
    connector_start(&t->connector, h, UPSTREAM_DEFAULT, &t->ask);
    return t->open;
}

void upstream_cancel(struct upstream_open *o)
{
    struct tcp_attempt *t = o->tcp;
    stat_inc(core_stats(o->handle->core), cluster_stat_upstream_rq_cancelled);
    if (t) {
        struct upstream_host *h = o->host;
        host_use(h);
        attempt_end(t);
        connector_cancel(&t->connector);
        open_end(o);
        host_unuse(h);
        return;
    }
    open_end(o);
}

/* ---- the user's connection is over ---- */

static void finished(struct tcp_attempt *t, const struct conn *c, enum cx_end by)
{
    struct upstream_host *h = t->connector.host;
    host_use(h);
    attempt_end(t);
    host_rq_end(h, UPSTREAM_DEFAULT, 1);
    cx_ended(h, UPSTREAM_DEFAULT, c, t->connector.start_ns, by, true);
    host_unuse(h);
}

void upstream_tcp_done(struct upstream_host *h)
{
    struct list *it = list_first(&h->tcp_up);
    if (it)
        finished(container_of(it, struct tcp_attempt, link), NULL, CX_LOCAL);
}

void upstream_tcp_finished(struct upstream_host *h, const struct conn *c, bool by_remote)
{
    struct stat_group *g = core_stats(h->core);
    struct tcp_attempt *t = map_get(&h->core->w->tcp_conns, id_key(&c->id));
    stat_add(g, cluster_stat_upstream_cx_rx_bytes_total, c->bytes_read);
    stat_add(g, cluster_stat_upstream_cx_tx_bytes_total, c->bytes_written);
    if (t)
        finished(t, c, by_remote ? CX_REMOTE : CX_LOCAL);
}

void tcp_attempts_close(struct upstream_host *h)
{
    for (struct list *it; (it = list_first(&h->tcp));) {
        struct tcp_attempt *t = container_of(it, struct tcp_attempt, link);
        struct upstream_open *o = t->open;
        attempt_end(t);
        connector_cancel(&t->connector);
        open_fail(o, UPSTREAM_FAIL_CANCELLED, (sv){0});
    }
    while (!list_empty(&h->tcp_up))
        upstream_tcp_done(h);
}
