#include "upstream/http_pool.h"
#include "base/code.h"

#include "base/mem.h"
#include "upstream/http_conn.h"
#include "upstream/proxy_header.h"

static const sv alpn_h1[] = {SV_INIT("http/1.1")};
static const sv alpn_h2[] = {SV_INIT("h2")};
static const sv alpn_both[] = {SV_INIT("h2"), SV_INIT("http/1.1")};

/* ---- what decides a connection's identity ---- */

static enum pool_protocol protocol_of(const struct cluster_config *cfg,
                                      const struct upstream_ctx *ctx)
{
    switch (cfg->http.protocol) {
    case CLUSTER_HTTP1:
        return POOL_HTTP1;
    case CLUSTER_HTTP2:
        return POOL_HTTP2;
    case CLUSTER_HTTP_DOWNSTREAM:
        return ctx->downstream_protocol >= HTTP_2 ? POOL_HTTP2 : POOL_HTTP1;
    case CLUSTER_HTTP_ALPN:
        break;
    }
    return POOL_ALPN;
}

/* A host name to be used as server name: without port; addresses are none (RFC 6066 3). */
static sv server_name(sv authority)
{
    struct addr ip;
    ptrdiff_t colon = sv_rfind(authority, ':');
    if (authority.n == 0 || authority.p[0] == '[')
        return (sv){0};
    if (colon >= 0)
        authority = sv_first(authority, (size_t)colon);
    return addr_ip(&ip, authority, 0) == 0 ? (sv){0} : authority;
}

static sv auto_name(const struct cluster_config *cfg, const struct upstream_ctx *ctx,
                    struct arena *a)
{
    sv name = ctx->sni_override;
    if (cfg->http.auto_sni_header.n && ctx->request) {
        sv v = http_head_get(ctx->request, cfg->http.auto_sni_header, a);
        if (v.n)
            name = v;
    }
    return server_name(name);
}

static void ask_alpn(const struct envoy_UpstreamTlsContext *u, enum pool_protocol p,
                     const struct upstream_ctx *ctx, struct transport_ask *ask)
{
    const struct envoy_CommonTlsContext *c = u->common_tls_context;
    if (ctx->n_alpn_override) {
        ask->alpn = ctx->alpn_override;
        ask->n_alpn = ctx->n_alpn_override;
    } else if (!c || c->alpn_protocols.n == 0) {
        /* What the context does not say follows from the protocol. */
        ask->alpn = p == POOL_HTTP1 ? alpn_h1 : p == POOL_HTTP2 ? alpn_h2 : alpn_both;
        ask->n_alpn = p == POOL_ALPN ? 2 : 1;
    }
}

static void ask_tls(const struct upstream_host *h, enum pool_protocol p,
                    const struct upstream_ctx *ctx, struct arena *a, struct transport_ask *ask)
{
    const struct cluster_config *cfg = h->core->cfg;
    const struct envoy_UpstreamTlsContext *u = cfg->transports[h->info->transport].tls;
    if (!u)
        return;
    sv name = {0};
    if (cfg->http.auto_sni || cfg->http.auto_san_validation)
        name = auto_name(cfg, ctx, a);
    if (cfg->http.auto_sni && name.n)
        ask->sni = name;
    else if (u->auto_host_sni && h->info->hostname.n)
        ask->sni = server_name(h->info->hostname);
    ask->has_sni = ask->sni.n > 0;
    if (cfg->http.auto_san_validation)
        ask->expect_name = name;
    else if (u->auto_sni_san_validation)
        ask->expect_name = ask->has_sni ? ask->sni : u->sni;
    ask_alpn(u, p, ctx, ask);
}

/* room[] must last as long as *ask. */
static void ask_proxy(const struct upstream_host *h, const struct upstream_ctx *ctx,
                      char room[PROXY_HEADER_MAX], struct transport_ask *ask)
{
    unsigned version = h->core->cfg->transports[h->info->transport].proxy_protocol;
    if (version)
        ask->first =
            sv_make(room, proxy_header_write(room, version, ctx->client, ctx->original_dst));
}

static bool same_alpn(const struct transport_ask *a, const struct transport_ask *b)
{
    if (a->n_alpn != b->n_alpn)
        return false;
    for (uint32_t i = 0; a->alpn != b->alpn && i < a->n_alpn; i++)
        if (!sv_eq(a->alpn[i], b->alpn[i]))
            return false;
    return true;
}

static bool same_ask(const struct transport_ask *a, const struct transport_ask *b)
{
    return a->has_sni == b->has_sni && sv_eq(a->sni, b->sni) &&
           sv_eq(a->expect_name, b->expect_name) && sv_eq(a->first, b->first) && same_alpn(a, b);
}

/* ---- pools ---- */

static sv keep(char **at, sv v)
{
    if (v.n)
        memcpy(*at, v.p, v.n);
    sv out = sv_make(*at, v.n);
    *at += v.n;
    return out;
}

/* The pool's own copy: the request's views end with it. */
static void copy_ask(struct http_pool *p, const struct transport_ask *ask)
{
    bool fixed = ask->alpn == alpn_h1 || ask->alpn == alpn_h2 || ask->alpn == alpn_both;
    uint32_t n = fixed ? 0 : ask->n_alpn;
    size_t size = ask->sni.n + ask->expect_name.n + ask->first.n;
    p->ask = *ask;
    for (uint32_t i = 0; i < n; i++)
        size += sizeof(sv) + ask->alpn[i].n;
    if (size == 0)
        return;
    sv *alpn = mem_alloc(size);
    char *at = (char *)(alpn + n);
    p->names = (char *)alpn;
    p->ask.sni = keep(&at, ask->sni);
    p->ask.expect_name = keep(&at, ask->expect_name);
    p->ask.first = keep(&at, ask->first);
    for (uint32_t i = 0; i < n; i++)
        alpn[i] = keep(&at, ask->alpn[i]);
    if (n)
        p->ask.alpn = alpn;
}

static struct http_pool *pool_new(struct upstream_host *h, enum upstream_priority prio,
                                  enum pool_protocol protocol, const struct transport_ask *ask)
{
    struct cluster_core *c = h->core;
    if (!limits_take(&c->rt->limits, prio, LIMIT_POOLS)) {
        stat_inc(core_stats(c), cluster_stat_upstream_cx_pool_overflow);
        return NULL;
    }
    struct http_pool *p = mem_new(struct http_pool);
    p->host = h;
    p->priority = prio;
    p->protocol = protocol;
    list_init(&p->ready);
    list_init(&p->busy);
    list_init(&p->connecting);
    list_init(&p->draining);
    list_init(&p->pending);
    copy_ask(p, ask);
    list_push(&h->pools, &p->link);
    return p;
}

static void pool_free(struct http_pool *p)
{
    limits_give(&p->host->core->rt->limits, p->priority, LIMIT_POOLS);
    list_del(&p->link);
    free(p->names);
    free(p);
}

static struct http_pool *pool_of(struct upstream_host *h, const struct upstream_ctx *ctx)
{
    enum pool_protocol protocol = protocol_of(h->core->cfg, ctx);
    struct transport_ask ask = {0};
    struct http_pool *found = NULL;
    char header[PROXY_HEADER_MAX];
    struct arena a;
    arena_init(&a);
    ask_tls(h, protocol, ctx, &a, &ask);
    ask_proxy(h, ctx, header, &ask);
    list_each (it, &h->pools) {
        struct http_pool *p = container_of(it, struct http_pool, link);
        if (p->priority == ctx->priority && p->protocol == protocol && same_ask(&p->ask, &ask)) {
            found = p;
            break;
        }
    }
    if (!found)
        found = pool_new(h, ctx->priority, protocol, &ask);
    arena_free(&a);
    return found;
}

bool http_pool_draining(const struct http_pool *p)
{
    const struct upstream_host *h = p->host;
    return h->removed || h->core->detached || h->core->w->draining;
}

static bool pool_empty(const struct http_pool *p)
{
    return list_empty(&p->ready) && list_empty(&p->busy) && list_empty(&p->connecting) &&
           list_empty(&p->draining);
}

/* ---- connecting ---- */

/* Streams that one of the connections under way will be able to carry. */
static uint32_t expected(const struct http_pool *p)
{
    if (p->protocol == POOL_HTTP1)
        return 1;
    if (p->learned)
        return p->learned;
    return p->host->core->cfg->http.h2.max_concurrent_streams;
}

/* `asked`: for a new request, so that an overflow counts; else only to catch up. */
static void connect_more(struct http_pool *p, bool asked)
{
    while (p->n_pending > (uint64_t)p->n_connecting * expected(p)) {
        if (!cx_allowed(p->host, p->priority, pool_empty(p), asked))
            break;
        p->n_connecting++;
        http_conn_new(p);
    }
}

/* ---- giving streams ---- */

HOT static struct http_conn *take_ready(struct http_pool *p)
{
    for (struct list *it; (it = list_first(&p->ready));) {
        struct http_conn *hc = container_of(it, struct http_conn, link);
        if (http_conn_ready(hc))
            return hc;
        /* It closed, or is listed elsewhere now; but do not meet it again. */
        if (list_first(&p->ready) == it) {
            list_del(it);
            list_push(&p->busy, it);
        }
    }
    return NULL;
}

void http_pool_serve(struct http_pool *p)
{
    struct cluster_core *c = p->host->core;
    if (p->serving)
        return;
    p->serving = true;
    host_use(p->host);
    while (p->n_pending) {
        struct http_conn *hc = take_ready(p);
        if (!hc || !p->n_pending)
            break;
        struct upstream_open *o = container_of(list_first(&p->pending), struct upstream_open, link);
        if (!limits_take(&c->rt->limits, p->priority, LIMIT_RQ)) {
            stat_inc(core_stats(c), cluster_stat_upstream_rq_active_overflow);
            open_fail(o, UPSTREAM_FAIL_OVERFLOW, (sv){0});
            continue;
        }
        struct upstream_open got = *o;
        upstream_cluster_ref(got.handle);
        open_end(o);
        http_conn_give(hc, got.handle, got.cb.http, got.user);
        upstream_cluster_unref(got.handle);
    }
    p->serving = false;
    connect_more(p, false);
    host_unuse(p->host);
}

HOT struct upstream_open *upstream_http_open(struct upstream_cluster *handle,
                                             const struct upstream_ctx *ctx,
                                             const struct upstream_http_cb *cb, void *user)
{
    struct cluster_core *c = handle->core;
    struct limits *l = &c->rt->limits;
    if (c->w->working)
        http_conn_count_ended(c->w->working);
    struct upstream_host *h = host_choose(handle, ctx);
    if (!h) {
        cb->on_fail(user, UPSTREAM_FAIL_NO_HOST, NULL, (sv){0});
        return NULL;
    }
    struct http_pool *p = pool_of(h, ctx);
    struct http_conn *hc = p ? take_ready(p) : NULL;
    if (hc && limits_take(l, ctx->priority, LIMIT_RQ)) {
        http_conn_give(hc, handle, cb, user);
        return NULL;
    }
    if (!p || hc || !limits_take(l, ctx->priority, LIMIT_PENDING)) {
        if (p)
            stat_inc(core_stats(c), hc ? cluster_stat_upstream_rq_active_overflow
                                       : cluster_stat_upstream_rq_pending_overflow);
        cb->on_fail(user, UPSTREAM_FAIL_OVERFLOW, h, (sv){0});
        return NULL;
    }
    struct upstream_open *o = open_new(handle, h, user, ctx->priority);
    o->cb.http = cb;
    o->pool = p;
    list_push(&p->pending, &o->link);
    p->n_pending++;
    connect_more(p, true);
    return o;
}

/* ---- what becomes of connections ---- */

void http_pool_connected(struct http_pool *p, struct http_conn *hc)
{
    p->n_connecting--;
    if (p->protocol == POOL_ALPN)
        p->learned = hc->http2 ? p->host->core->cfg->http.h2.max_concurrent_streams : 1;
    if (http_pool_draining(p) && !p->n_pending) {
        http_conn_drain(hc);
        return;
    }
    http_pool_serve(p);
}

/* As many as the lost connection would have carried, the oldest first. */
void http_pool_connect_failed(struct http_pool *p, struct http_conn *hc, enum upstream_fail why,
                              sv details)
{
    struct upstream_host *h = p->host;
    struct list failed;
    p->n_connecting--;
    host_use(h);
    list_init(&failed);
    for (uint32_t most = expected(p); most > 0 && !list_empty(&p->pending); most--) {
        struct list *it = list_first(&p->pending);
        list_del(it);
        list_push(&failed, it);
    }
    for (struct list *it; (it = list_first(&failed));) {
        stat_inc(core_stats(h->core), cluster_stat_upstream_rq_pending_failure_eject);
        open_fail(container_of(it, struct upstream_open, link), why, details);
    }
    connect_more(p, false);
    host_unuse(h);
}

void http_pool_conn_gone(struct http_pool *p)
{
    if (p->n_pending && !p->serving)
        connect_more(p, false);
}

/* One a client, or one an authority: they must not pile up. */
void http_pool_conn_freed(struct http_pool *p)
{
    if (--p->n_conns == 0 && p->names && !p->n_pending)
        pool_free(p);
}

/* ---- all pools of a host ---- */

static void each_conn(struct list *l, void (*fn)(struct http_conn *hc))
{
    list_each_safe (it, l) {
        fn(container_of(it, struct http_conn, link));
    }
}

void http_pools_drain(struct upstream_host *h)
{
    list_each (it, &h->pools) {
        struct http_pool *p = container_of(it, struct http_pool, link);
        each_conn(&p->ready, http_conn_drain);
        each_conn(&p->busy, http_conn_drain);
    }
}

static void close_local(struct http_conn *hc)
{
    http_conn_close(hc, CX_LOCAL);
}

void http_pools_close(struct upstream_host *h)
{
    list_each (it, &h->pools) {
        struct http_pool *p = container_of(it, struct http_pool, link);
        p->serving = true; /* nothing new */
        while (!list_empty(&p->pending))
            open_fail(container_of(list_first(&p->pending), struct upstream_open, link),
                      UPSTREAM_FAIL_CANCELLED, (sv){0});
        each_conn(&p->connecting, close_local);
        each_conn(&p->ready, close_local);
        each_conn(&p->busy, close_local);
        each_conn(&p->draining, close_local);
    }
}

void http_pools_free(struct upstream_host *h)
{
    for (struct list *it; (it = list_first(&h->pools));)
        pool_free(container_of(it, struct http_pool, link));
}
