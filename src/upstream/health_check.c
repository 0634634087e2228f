#include "upstream/health_check.h"

#include "base/mem.h"
#include "tls/tls_conn.h"
#include "upstream/proxy_header.h"

#define HEALTH_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                           \
    COUNTER(P, attempt)                                                                            \
    GAUGE(P, degraded)                                                                             \
    COUNTER(P, failure)                                                                            \
    GAUGE(P, healthy)                                                                              \
    COUNTER(P, network_failure)                                                                    \
    COUNTER(P, passive_failure)                                                                    \
    COUNTER(P, success)                                                                            \
    COUNTER(P, verify_cluster)
STAT_GROUP_DECLARE(health_stat, HEALTH_STATS);
STAT_GROUP_DEFINE(health_stat, HEALTH_STATS);

struct health_checker {
    struct loop *loop;
    struct cluster *cluster;
    struct cluster_rt *rt;
    const struct health_config *cfg;
    const struct health_probe_ops *ops;
    struct stat_group stats;
    struct list sessions;
    struct map by_state;
    uint32_t unchecked; /* sessions without a result so far */
    void (*on_change)(void *arg);
    void (*forgive)(void *arg, struct endpoint_state *s);
    void *arg;
};

struct health_session {
    struct list link;
    struct health_checker *h;
    struct endpoint_info *info;
    struct endpoint_state *state; /* info's */
    struct health_target target;
    struct health_probe *probe;
    struct timer interval, timeout;
    struct deferred gone;
    uint32_t good, bad; /* in a row, since the last change */
    bool first, listed, running;
};

enum edge { EDGE_NONE, EDGE_PENDING, EDGE_CHANGED };

static uint32_t flags(const struct health_session *s)
{
    return atomic_load_explicit(&s->info->state->flags, memory_order_relaxed);
}

/* True when it was not so before. */
static bool flag(struct health_session *s, uint32_t f, bool on)
{
    _Atomic uint32_t *v = &s->info->state->flags;
    uint32_t old = on ? atomic_fetch_or_explicit(v, f, memory_order_relaxed)
                      : atomic_fetch_and_explicit(v, ~f, memory_order_relaxed);
    return on ? !(old & f) : old & f;
}

/* ---- when to ask again ---- */

static bool has_traffic(const struct health_checker *h)
{
    return stat_get(&h->rt->stats.g, cluster_stat_upstream_cx_total) > 0;
}

static uint64_t next_in(struct health_checker *h, bool healthy, enum edge e)
{
    const struct health_config *c = h->cfg;
    uint64_t ms;
    if (!has_traffic(h))
        ms = healthy && e != EDGE_PENDING ? c->no_traffic_healthy_ms : c->no_traffic_ms;
    else if (healthy)
        ms = e == EDGE_PENDING ? c->healthy_edge_ms : c->interval_ms;
    else
        ms = e == EDGE_PENDING ? c->unhealthy_edge_ms : c->unhealthy_ms;
    uint64_t share = ms * c->interval_jitter_percent / 100;
    if (share)
        ms += rand_below(loop_rand(h->loop), share);
    if (c->interval_jitter_ms)
        ms += rand_below(loop_rand(h->loop), c->interval_jitter_ms);
    return ms ? ms : 1;
}

/* ---- results ---- */

static void show(struct health_checker *h)
{
    uint32_t healthy = 0, degraded = 0;
    list_each (it, &h->sessions) {
        uint32_t f = flags(container_of(it, struct health_session, link));
        healthy += !(f & ENDPOINT_FAILED_ACTIVE_HC);
        degraded += (f & ENDPOINT_DEGRADED_ACTIVE_HC) != 0;
    }
    stat_gauge_set(&h->stats, health_stat_healthy, healthy);
    stat_gauge_set(&h->stats, health_stat_degraded, degraded);
}

static enum edge succeeded(struct health_session *s, bool degraded)
{
    enum edge e = EDGE_NONE;
    s->bad = 0;
    if (flags(s) & ENDPOINT_FAILED_ACTIVE_HC) {
        e = EDGE_PENDING;
        if (s->first || ++s->good >= s->h->cfg->healthy_threshold) {
            s->good = 0;
            flag(s, ENDPOINT_FAILED_ACTIVE_HC | ENDPOINT_HC_TIMEOUT | ENDPOINT_EXCLUDED_HC_FAIL,
                 false);
            e = EDGE_CHANGED;
        }
    }
    if (flag(s, ENDPOINT_PENDING_ACTIVE_HC, false))
        e = EDGE_CHANGED;
    if (e == EDGE_CHANGED) { /* slow start begins anew */
        uint64_t now = loop_now_ms(s->h->loop);
        atomic_store_explicit(&s->state->warm_since_ms, now ? now : 1, memory_order_relaxed);
    }
    if (flag(s, ENDPOINT_DEGRADED_ACTIVE_HC, degraded))
        e = EDGE_CHANGED;
    stat_inc(&s->h->stats, health_stat_success);
    return e;
}

static enum edge failed(struct health_session *s, enum health_outcome o)
{
    enum edge e = EDGE_NONE;
    s->good = 0;
    if (!(flags(s) & ENDPOINT_FAILED_ACTIVE_HC)) {
        e = EDGE_PENDING;
        if (o == HEALTH_FAILED || o == HEALTH_LEAVING ||
            ++s->bad >= s->h->cfg->unhealthy_threshold) {
            s->bad = 0;
            flag(s, ENDPOINT_FAILED_ACTIVE_HC, true);
            e = EDGE_CHANGED;
        }
    }
    if (o == HEALTH_LEAVING && flag(s, ENDPOINT_EXCLUDED_HC_FAIL, true))
        e = EDGE_CHANGED;
    flag(s, ENDPOINT_HC_TIMEOUT, o == HEALTH_TIMEOUT && flags(s) & ENDPOINT_FAILED_ACTIVE_HC);
    if (flag(s, ENDPOINT_PENDING_ACTIVE_HC, false))
        e = EDGE_CHANGED;
    stat_inc(&s->h->stats, health_stat_failure);
    if (o == HEALTH_NETWORK || o == HEALTH_TIMEOUT)
        stat_inc(&s->h->stats, health_stat_network_failure);
    return e;
}

void health_session_result(struct health_session *s, enum health_outcome o)
{
    struct health_checker *h = s->h;
    bool good = o == HEALTH_OK || o == HEALTH_DEGRADED;
    if (!s->running)
        return;
    s->running = false;
    timer_cancel(&s->timeout);
    enum edge e = good ? succeeded(s, o == HEALTH_DEGRADED) : failed(s, o);
    timer_set(&s->interval, next_in(h, good, e));
    bool was_first = s->first;
    s->first = false;
    if (was_first)
        h->unchecked--;
    if (good)
        h->forgive(h->arg, s->info->state);
    if (e == EDGE_CHANGED)
        show(h);
    if (e == EDGE_CHANGED || (was_first && h->unchecked == 0))
        h->on_change(h->arg);
}

/* ---- asking ---- */

static void on_interval(struct timer *t)
{
    struct health_session *s = container_of(t, struct health_session, interval);
    s->running = true;
    stat_inc(&s->h->stats, health_stat_attempt);
    timer_set(&s->timeout, s->h->cfg->timeout_ms);
    s->h->ops->start(s->probe);
}

static void on_timeout(struct timer *t)
{
    struct health_session *s = container_of(t, struct health_session, timeout);
    s->h->ops->stop(s->probe);
    health_session_result(s, HEALTH_TIMEOUT);
}

const struct health_target *health_session_target(const struct health_session *s)
{
    return &s->target;
}

static struct conn *with_tls(struct health_session *s, struct conn *c, const sv *alpn,
                             uint32_t n_alpn, conn_fn fn, void *user)
{
    struct tls_ctx *ctx = NULL;
    sv why;
    uint32_t t = s->info->transport;
    const struct envoy_UpstreamTlsContext *u = s->h->rt->cfg->transports[t].tls;
    cluster_tls_make(s->h->cluster, t);
    if (cluster_tls_get(s->h->cluster, t, &ctx, &why) != CLUSTER_TLS_READY) {
        conn_close(c);
        return NULL;
    }
    struct tls_client_params p = {.alpn = alpn, .n_alpn = n_alpn};
    if (u->auto_host_sni && s->info->hostname.n) {
        p.has_sni = true;
        p.sni = s->info->hostname;
    }
    if (u->auto_sni_san_validation)
        p.expect_name = p.has_sni ? p.sni : u->sni;
    c = tls_conn_client(c, ctx, &p, fn, user);
    tls_ctx_unref(ctx);
    return c;
}

struct conn *health_session_connect(struct health_session *s, const sv *alpn, uint32_t n_alpn,
                                    conn_fn fn, void *user)
{
    const struct endpoint_info *i = s->info;
    struct addr to = i->health_addr.len ? i->health_addr : i->addr;
    int code;
    if (s->h->cfg->alt_port && !i->health_addr.len)
        addr_set_port(&to, (uint16_t)s->h->cfg->alt_port);
    const struct cluster_transport *t = &s->h->rt->cfg->transports[i->transport];
    struct sock_opts so = s->h->rt->cfg->sock;
    so.bind_to = bind_source_for(&s->h->rt->cfg->bind, &to);
    char header[PROXY_HEADER_MAX];
    if (t->proxy_protocol)
        so.first = sv_make(header, proxy_header_write(header, t->proxy_protocol, NULL, NULL));
    struct conn *c = conn_connect(s->h->loop, &to, &so, fn, user, &code);
    if (!c || !t->tls)
        return c;
    if (s->h->cfg->n_alpn) {
        alpn = s->h->cfg->alpn;
        n_alpn = s->h->cfg->n_alpn;
    }
    return with_tls(s, c, alpn, n_alpn, fn, user);
}

/* ---- sessions ---- */

static sv state_key(struct endpoint_state *const *s)
{
    return sv_make((const char *)s, sizeof *s);
}

static void session_new(struct health_checker *h, struct endpoint_info *info)
{
    struct health_session *s = mem_new(struct health_session);
    s->h = h;
    s->info = endpoint_info_ref(info);
    s->state = info->state;
    map_put(&h->by_state, state_key(&s->state), s);
    s->target = (struct health_target){
        .loop = h->loop,
        .cfg = h->cfg,
        .cluster = h->rt->cfg,
        .host = info->health_hostname.n ? info->health_hostname : h->cluster->name,
    };
    s->first = s->listed = true;
    timer_init(&s->interval, h->loop, on_interval);
    timer_init(&s->timeout, h->loop, on_timeout);
    list_push(&h->sessions, &s->link);
    h->unchecked++;
    flag(s, ENDPOINT_FAILED_ACTIVE_HC, true);
    if (h->rt->cfg->lb.ignore_unchecked)
        flag(s, ENDPOINT_PENDING_ACTIVE_HC, true);
    s->probe = h->ops->open(s);
    uint64_t jitter = h->cfg->initial_jitter_ms;
    timer_set(&s->interval, jitter ? rand_below(loop_rand(h->loop), jitter) : 0);
}

static void on_gone(struct deferred *d)
{
    free(container_of(d, struct health_session, gone));
}

static void session_end(struct health_session *s)
{
    timer_cancel(&s->interval);
    timer_cancel(&s->timeout);
    list_del(&s->link);
    s->running = false;
    if (s->first)
        s->h->unchecked--;
    s->h->ops->free(s->probe);
    map_del(&s->h->by_state, state_key(&s->state));
    endpoint_info_unref(s->info); /* now: the cluster may be gone by the end of the turn */
    s->info = NULL;
    loop_defer(s->h->loop, &s->gone, on_gone);
}

/* The session goes on, but the endpoint may be described differently now. */
static void session_keep(struct health_session *s, struct endpoint_info *info)
{
    s->listed = true;
    if (s->info == info)
        return;
    endpoint_info_ref(info);
    endpoint_info_unref(s->info);
    s->info = info;
    s->target.host = info->health_hostname.n ? info->health_hostname : s->h->cluster->name;
}

void health_checker_set_endpoints(struct health_checker *h, struct endpoint_set *set)
{
    const struct endpoint_table *t = endpoint_set_table(set);
    list_each (it, &h->sessions) {
        container_of(it, struct health_session, link)->listed = false;
    }
    for (uint32_t i = 0; i < t->n; i++) {
        struct endpoint_info *info = t->v[i].info;
        struct health_session *s = map_get(&h->by_state, state_key(&info->state));
        if (info->no_health_check)
            continue;
        if (s)
            session_keep(s, info);
        else
            session_new(h, info);
    }
    list_each_safe (it, &h->sessions) {
        struct health_session *s = container_of(it, struct health_session, link);
        if (!s->listed)
            session_end(s);
    }
    show(h);
    endpoint_set_show(set);
}

void health_checker_fail(struct health_checker *h, struct endpoint_state *e)
{
    struct health_session *s = map_get(&h->by_state, state_key(&e));
    if (!s)
        return;
    stat_inc(&h->stats, health_stat_passive_failure);
    if (failed(s, HEALTH_LEAVING) != EDGE_CHANGED)
        return;
    show(h);
    h->on_change(h->arg);
}

bool health_checker_warm(const struct health_checker *h)
{
    return h->unchecked == 0;
}

/* ---- life ---- */

struct health_checker *health_checker_new(struct loop *l, struct cluster *c,
                                          struct endpoint_set *set, void (*on_change)(void *arg),
                                          void (*forgive)(void *arg, struct endpoint_state *s),
                                          void *arg)
{
    struct health_checker *h = mem_new(struct health_checker);
    h->loop = l;
    h->cluster = cluster_ref(c);
    h->rt = cluster_rt(c);
    h->cfg = &h->rt->cfg->health;
    h->ops = h->cfg->kind == HEALTH_TCP ? &health_probe_tcp : &health_probe_http;
    h->on_change = on_change;
    h->forgive = forgive;
    h->arg = arg;
    list_init(&h->sessions);
    map_init_borrow(&h->by_state);
    struct stats_scope *sub =
        stats_scope_sub(h->rt->stats.scope, SV("health_check."), (sv){0}, NULL, 0);
    stat_group_init(&h->stats, &health_stat_def, sub);
    stats_scope_unref(sub);
    health_checker_set_endpoints(h, set);
    return h;
}

void health_checker_free(struct health_checker *h)
{
    if (!h)
        return;
    list_each_safe (it, &h->sessions) {
        session_end(container_of(it, struct health_session, link));
    }
    map_fini(&h->by_state);
    stat_group_fini(&h->stats);
    cluster_unref(h->cluster);
    free(h);
}
