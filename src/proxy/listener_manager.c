#include "proxy/listener_manager.h"

#include <unistd.h>

#include "api/envoy.pb.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "net/listener.h"
#include "net/loop.h"
#include "proxy/conn_accept.h"
#include "proxy/listener_conf.h"
#include "proxy/rds.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "telemetry/stats.h"

LOG_COMPONENT(config);

#define LISTENER_MANAGER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                 \
    COUNTER(P, listener_added)                                                                     \
    COUNTER(P, listener_create_failure)                                                            \
    COUNTER(P, listener_create_success)                                                            \
    COUNTER(P, listener_in_place_updated)                                                          \
    COUNTER(P, listener_modified)                                                                  \
    COUNTER(P, listener_removed)                                                                   \
    COUNTER(P, listener_stopped)                                                                   \
    GAUGE(P, total_filter_chains_draining)                                                         \
    GAUGE(P, total_listeners_active)                                                               \
    GAUGE(P, total_listeners_draining)                                                             \
    GAUGE(P, total_listeners_warming)                                                              \
    GAUGE(P, workers_started)
STAT_GROUP_DECLARE(lm_stats, LISTENER_MANAGER_STATS);
STAT_GROUP_DEFINE(lm_stats, LISTENER_MANAGER_STATS);

/* Sockets and per-worker objects of one set of addresses. */
struct bound {
    struct worker_listener **wl; /* one a worker */
    struct addr *addrs;          /* as bound */
    uint32_t n_addrs;
    bool given; /* the workers have it */
};

struct listener {
    struct list link;
    struct listener_manager *m;
    char *name;
    bool doomed; /* removed at the next reap */
    struct listener_conf *active, *warming;
    struct bound *bound;         /* of the active one */
    struct bound *warming_bound; /* NULL: the same sockets */
    struct rds_wait *waits;
    uint32_t n_waits;
    struct timer patience; /* how long the warming one waits */
    char *error, *error_version;
    uint64_t error_wall_ns;
};

struct listener_manager {
    struct proxy_server *srv;
    struct worker *const *workers;
    uint32_t n_workers;
    struct map by_name; /* struct listener */
    struct list all;    /* in the order they came */
    bool open, stopped, drain_inbound, draining, draining_inbound;
    struct timer drain_end;
    struct stat_group stats;
};

static void on_drained(struct timer *t);

struct listener_manager *listener_manager_new(struct proxy_server *srv,
                                              struct worker *const *workers, uint32_t n_workers)
{
    struct listener_manager *m = mem_new(struct listener_manager);
    m->srv = srv;
    m->workers = workers;
    m->n_workers = n_workers;
    map_init(&m->by_name);
    list_init(&m->all);
    timer_init(&m->drain_end, proxy_server_loop(srv), on_drained);
    struct stats_scope *sc = stats_scope_plain(proxy_server_stats(srv), SV("listener_manager."));
    stat_group_init(&m->stats, &lm_stats_def, sc);
    stats_scope_unref(sc);
    stat_group_touch(&m->stats);
    return m;
}

static void count_states(struct listener_manager *m)
{
    uint32_t active = 0, warming = 0;
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        active += l->active != NULL;
        warming += l->warming != NULL;
    }
    stat_gauge_set(&m->stats, lm_stats_total_listeners_active, active);
    stat_gauge_set(&m->stats, lm_stats_total_listeners_warming, warming);
}

/* ---- sockets ---- */

/* Nothing of it ran yet: sockets were not started, so their loops do not know them. */
static void free_unused(void *arg)
{
    struct worker_listener *wl = arg;
    for (uint32_t i = 0; i < wl->n_socks; i++)
        net_listener_free(wl->socks[i]);
    stat_group_fini(&wl->stats);
    listener_conf_unref(wl->conf);
    free(wl->socks);
    free(wl);
}

static void bound_free(struct listener_manager *m, struct bound *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < m->n_workers && b->wl; i++)
        if (b->wl[i] && !b->given)
            loop_post(m->workers[i]->f.loop, free_unused, b->wl[i]);
    free(b->wl);
    free(b->addrs);
    free(b);
}

/* One socket a worker where the kernel can spread connections (SO_REUSEPORT), else one that all of
 * them share. */
static struct net_listener *bind_one(struct listener_manager *m, struct bound *b, uint32_t worker,
                                     uint32_t at, const struct listener_conf *c, struct error *err)
{
    struct worker_listener *wl = b->wl[worker];
    struct loop *loop = m->workers[worker]->f.loop;
    bool unix_socket = b->addrs[at].sa.sa_family == AF_UNIX;
    if (worker > 0 && (unix_socket || !c->reuse_port)) {
        int fd = dup(net_listener_fd(b->wl[0]->socks[at]));
        if (fd < 0) {
            error_set(err, E_LIMIT, "cannot share the listening socket: no descriptors left");
            return NULL;
        }
        return net_listener_from_fd(loop, fd, conn_accept, wl, err);
    }
    struct listen_opts o = {
        .reuse_port = c->reuse_port && !unix_socket && m->n_workers > 1,
        .transparent = c->transparent,
        .free_bind = c->freebind,
        .v6_only = c->v6_only,
        .backlog = c->backlog,
        .unix_mode = c->unix_mode,
    };
    struct net_listener *n = net_listener_new(loop, &b->addrs[at], &o, conn_accept, wl, err);
    if (n && worker == 0)
        b->addrs[at] = *net_listener_addr(n); /* the others get the same port */
    return n;
}

static int bind_all(struct listener_manager *m, struct bound *b, const struct listener_conf *c,
                    struct error *err)
{
    for (uint32_t w = 0; w < m->n_workers; w++) {
        struct worker_listener *wl = b->wl[w];
        wl->socks = mem_array(struct net_listener *, c->n_addrs);
        for (uint32_t i = 0; i < c->n_addrs; i++) {
            struct net_listener *n = bind_one(m, b, w, i, c, err);
            if (!n) {
                error_prefix(err, "listener '%.*s': ", SV_ARG(c->name));
                return err->code ? err->code : E_IO;
            }
            net_listener_on_exhausted(n, conn_accept_exhausted);
            wl->socks[wl->n_socks++] = n;
        }
    }
    return 0;
}

static int bound_new(struct listener_manager *m, struct listener_conf *c, struct bound **out,
                     struct error *err)
{
    struct bound *b = mem_new(struct bound);
    b->wl = mem_array(struct worker_listener *, m->n_workers);
    b->n_addrs = c->n_addrs;
    b->addrs = mem_array(struct addr, c->n_addrs);
    for (uint32_t i = 0; i < c->n_addrs; i++)
        b->addrs[i] = c->addrs[i];
    for (uint32_t w = 0; w < m->n_workers; w++) {
        listener_conf_ref(c);
        b->wl[w] = worker_listener_new(m->workers[w], c);
    }
    int rc = c->bind_to_port && !proxy_server_validating(m->srv) ? bind_all(m, b, c, err) : 0;
    if (rc < 0) {
        bound_free(m, b);
        return rc;
    }
    *out = b;
    return 0;
}

/* ---- going active ---- */

static void stop_waiting(struct listener *l)
{
    timer_cancel(&l->patience);
    for (uint32_t i = 0; i < l->n_waits; i++)
        rds_wait_cancel(&l->waits[i]);
    free(l->waits);
    l->waits = NULL;
    l->n_waits = 0;
}

static void give_to_workers(struct listener *l)
{
    struct listener_manager *m = l->m;
    if (!m->open || l->bound->given || m->stopped)
        return;
    l->bound->given = true;
    for (uint32_t w = 0; w < m->n_workers; w++)
        worker_add_listener(m->workers[w], l->bound->wl[w]);
    stat_add(&m->stats, lm_stats_listener_create_success, m->n_workers);
}

static void drop_bound(struct listener *l)
{
    struct listener_manager *m = l->m;
    struct bound *b = l->bound;
    l->bound = NULL;
    for (uint32_t w = 0; b && b->given && w < m->n_workers; w++)
        worker_remove_listener(m->workers[w], b->wl[w]);
    bound_free(m, b);
}

/* The sockets stay; a listener that the workers do not know yet just gets the new version. */
static void replace_in_place(struct listener *l)
{
    struct listener_manager *m = l->m;
    for (uint32_t w = 0; w < m->n_workers; w++) {
        struct worker_listener *wl = l->bound->wl[w];
        listener_conf_ref(l->warming);
        if (l->bound->given) {
            worker_update_listener(m->workers[w], wl, l->warming);
        } else {
            listener_conf_unref(wl->conf);
            wl->conf = l->warming;
        }
    }
    stat_inc(&m->stats, lm_stats_listener_in_place_updated);
}

static void activate(struct listener *l)
{
    struct bound *fresh = l->warming_bound;
    stop_waiting(l);
    if (!fresh) {
        replace_in_place(l);
    } else {
        drop_bound(l);
        l->bound = fresh;
        l->warming_bound = NULL;
    }
    listener_conf_unref(l->active);
    l->active = l->warming;
    l->warming = NULL;
    give_to_workers(l);
    log_info(&log_config, "listener active name=%s", l->name);
    count_states(l->m);
}

static void try_activate(void *arg)
{
    struct listener *l = arg;
    if (l->warming && listener_conf_ready(l->warming))
        activate(l);
}

static void on_routes(void *arg)
{
    proxy_server_warm_later(arg);
}

/* Envoy's initial_fetch_timeout: it serves with what there is. Chains without their certificate
 * refuse connections, managers without routes answer 404. */
static void on_patience(struct timer *t)
{
    struct listener *l = container_of(t, struct listener, patience);
    log_warn(&log_config, "listener goes active without all of its routes and secrets name=%s",
             l->name);
    for (uint32_t i = 0; i < l->warming->n_waits; i++)
        rds_provider_give_up(l->warming->waits[i]);
    activate(l);
    proxy_server_warm_later(l->m->srv);
}

static void wait_for_parts(struct listener *l)
{
    struct listener_conf *c = l->warming;
    stop_waiting(l);
    timer_init(&l->patience, proxy_server_loop(l->m->srv), on_patience);
    if (c->warm_ms)
        timer_set(&l->patience, c->warm_ms);
    l->waits = mem_array(struct rds_wait, c->n_waits ? c->n_waits : 1);
    for (uint32_t i = 0; i < c->n_waits; i++) {
        if (rds_provider_ready(c->waits[i]))
            continue;
        struct rds_wait *w = &l->waits[l->n_waits++];
        w->fn = on_routes;
        w->arg = l->m->srv;
        rds_provider_when_ready(c->waits[i], w);
    }
}

void listener_manager_check_warm(struct listener_manager *m)
{
    list_each_safe (it, &m->all)
        try_activate(container_of(it, struct listener, link));
}

bool listener_manager_warm(const struct listener_manager *m)
{
    list_each (it, (struct list *)&m->all)
        if (container_of(it, struct listener, link)->warming)
            return false;
    return true;
}

void listener_manager_open(struct listener_manager *m)
{
    m->open = true;
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        if (l->active)
            give_to_workers(l);
    }
    stat_gauge_set(&m->stats, lm_stats_workers_started, 1);
}

/* ---- changes ---- */

static struct listener *listener_new(struct listener_manager *m, sv name)
{
    struct listener *l = mem_new(struct listener);
    l->m = m;
    l->name = sv_dup(name);
    map_put(&m->by_name, name, l);
    list_push(&m->all, &l->link);
    return l;
}

static void listener_free(struct listener *l)
{
    stop_waiting(l);
    drop_bound(l);
    bound_free(l->m, l->warming_bound);
    listener_conf_unref(l->warming);
    listener_conf_unref(l->active);
    list_del(&l->link);
    map_del(&l->m->by_name, sv_of(l->name));
    free(l->error);
    free(l->error_version);
    free(l->name);
    free(l);
}

/* Two listeners on one address would take each other's connections. */
static int check_addresses(struct listener_manager *m, const struct listener_conf *c,
                           struct error *err)
{
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        const struct listener_conf *o = l->warming ? l->warming : l->active;
        if (!o || l->doomed || sv_eq(o->name, c->name) || o->bind_to_port != c->bind_to_port)
            continue;
        for (uint32_t i = 0; i < c->n_addrs; i++)
            for (uint32_t k = 0; k < o->n_addrs; k++) {
                char text[ADDR_TEXT_MAX];
                if (addr_port(&c->addrs[i]) == 0 && c->addrs[i].sa.sa_family != AF_UNIX)
                    continue;
                if (addr_eq(&c->addrs[i], &o->addrs[k]))
                    return error_set(err, E_EXISTS,
                                     "listener '%.*s': its address %.*s is the one of listener "
                                     "'%.*s'",
                                     SV_ARG(c->name), SV_ARG(addr_text(&c->addrs[i], text)),
                                     SV_ARG(o->name));
            }
    }
    return 0;
}

static bool unchanged(struct listener *l, sv packed)
{
    const struct listener_conf *c = l->warming ? l->warming : l->active;
    if (!c || !sv_eq(c->packed, packed))
        return false;
    l->doomed = false;
    return true;
}

/* The sockets of a listener that is about to go become the new one's. */
static struct listener *adopt_doomed(struct listener_manager *m, const struct listener_conf *c)
{
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        if (!l->doomed || !l->active || !listener_conf_same_addrs(l->active, c))
            continue;
        map_del(&m->by_name, sv_of(l->name));
        free(l->name);
        l->name = sv_dup(c->name);
        l->doomed = false;
        map_put(&m->by_name, c->name, l);
        return l;
    }
    return NULL;
}

static int install(struct listener_manager *m, struct listener_conf *c, struct error *err)
{
    struct listener *l = map_get(&m->by_name, c->name);
    if (l && !c->is_static && l->active && l->active->is_static)
        return error_set(err, E_DENIED, "listener '%.*s' is static and cannot be changed",
                         SV_ARG(c->name));
    int rc = check_addresses(m, c, err);
    if (rc < 0)
        return rc;
    if (!l && c->bind_to_port)
        l = adopt_doomed(m, c);
    struct bound *fresh = NULL;
    bool same = l && l->active && listener_conf_same_addrs(l->active, c);
    if (!same) {
        rc = bound_new(m, c, &fresh, err);
        if (rc < 0)
            return rc;
    }
    if (!l) {
        l = listener_new(m, c->name);
        stat_inc(&m->stats, lm_stats_listener_added);
    } else {
        stat_inc(&m->stats, lm_stats_listener_modified);
    }
    l->doomed = false;
    bound_free(m, l->warming_bound);
    listener_conf_unref(l->warming);
    l->warming = c;
    l->warming_bound = fresh;
    free(l->error);
    l->error = NULL;
    wait_for_parts(l);
    try_activate(l);
    count_states(m);
    return 0;
}

int listener_manager_put(struct listener_manager *m, sv packed, bool is_static, sv version,
                         const struct pb_opts *pb, struct error *err)
{
    struct arena scratch;
    arena_init(&scratch);
    sv name = listener_conf_name(packed, &scratch);
    struct listener *l = map_get(&m->by_name, name);
    bool same = l && unchanged(l, packed);
    arena_free(&scratch);
    if (same)
        return 0;
    struct listener_conf *c;
    int rc = listener_conf_build(m->srv, packed, is_static, pb, &c, err);
    if (rc == 0) {
        c->version = arena_sv(&c->arena, version);
        rc = install(m, c, err);
        if (rc < 0)
            listener_conf_unref(c);
    }
    if (rc < 0)
        stat_inc(&m->stats, lm_stats_listener_create_failure);
    return rc;
}

int listener_manager_remove(struct listener_manager *m, sv name)
{
    struct listener *l = map_get(&m->by_name, name);
    if (!l)
        return E_NOT_FOUND;
    const struct listener_conf *c = l->active ? l->active : l->warming;
    if (c && c->is_static)
        return E_DENIED;
    l->doomed = true;
    return 0;
}

void listener_manager_reap(struct listener_manager *m)
{
    list_each_safe (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        if (!l->doomed)
            continue;
        log_info(&log_config, "listener removed name=%s", l->name);
        listener_free(l);
        stat_inc(&m->stats, lm_stats_listener_removed);
    }
    count_states(m);
}

static void each_serving(struct listener_manager *m, bool inbound_only,
                         void (*fn)(struct worker *w, struct worker_listener *wl))
{
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        if (!l->active || !l->bound || !l->bound->given ||
            (inbound_only && l->active->direction != envoy_TrafficDirection_INBOUND))
            continue;
        for (uint32_t w = 0; w < m->n_workers; w++)
            fn(m->workers[w], l->bound->wl[w]);
        if (fn == worker_stop_listener)
            stat_inc(&m->stats, lm_stats_listener_stopped);
    }
}

static void on_drained(struct timer *t)
{
    struct listener_manager *m = container_of(t, struct listener_manager, drain_end);
    each_serving(m, m->drain_inbound, worker_stop_listener);
    m->stopped |= !m->drain_inbound;
}

void listener_manager_drain(struct listener_manager *m, bool inbound_only, bool graceful,
                            bool skip_exit)
{
    if (graceful) { /* once is enough: who is being told is not told to take longer */
        bool *begun = inbound_only ? &m->draining_inbound : &m->draining;
        if (*begun || m->draining)
            return;
        *begun = true;
        each_serving(m, inbound_only, worker_drain_listener);
        if (skip_exit)
            return;
    }
    m->drain_inbound = inbound_only;
    timer_set(&m->drain_end,
              graceful ? (uint64_t)proxy_server_options(m->srv)->drain_time_s * 1000 : 0);
}

void listener_manager_refused(struct listener_manager *m, sv name, sv version, const char *why)
{
    struct listener *l = map_get(&m->by_name, name);
    if (!l)
        return;
    free(l->error);
    free(l->error_version);
    l->error = sv_dup(sv_of(why));
    l->error_version = sv_dup(version);
    l->error_wall_ns = loop_wall_ns(proxy_server_loop(m->srv));
}

/* ---- looking ---- */

static void view_one(struct listener *l, struct listener_conf *c, enum listener_state state,
                     const struct bound *b, void (*fn)(void *arg, const struct listener_view *v),
                     void *arg)
{
    struct listener_view v = {
        .name = sv_of(l->name),
        .packed = c->packed,
        .version = c->version,
        .is_static = c->is_static,
        .state = state,
        .updated_wall_ns = c->updated_wall_ns,
        .addrs = b ? b->addrs : c->addrs,
        .n_addrs = c->n_addrs,
        .error = l->error,
        .error_version = sv_of(l->error_version),
        .error_wall_ns = l->error_wall_ns,
    };
    fn(arg, &v);
}

void listener_manager_each(struct listener_manager *m,
                           void (*fn)(void *arg, const struct listener_view *v), void *arg)
{
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        if (l->active)
            view_one(l, l->active, LISTENER_ACTIVE, l->bound, fn, arg);
        if (l->warming)
            view_one(l, l->warming, LISTENER_WARMING, l->warming_bound, fn, arg);
    }
}

void listener_manager_each_tls(struct listener_manager *m,
                               void (*fn)(void *arg, sv listener, struct tls_slot *slot), void *arg)
{
    list_each (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        const struct listener_conf *c = l->active;
        for (uint32_t i = 0; c && i < c->n_chains; i++)
            if (c->chains[i].tls)
                fn(arg, c->name, c->chains[i].tls);
        if (c && c->fallback && c->fallback->tls)
            fn(arg, c->name, c->fallback->tls);
    }
}

void listener_manager_free(struct listener_manager *m)
{
    if (!m)
        return;
    list_each_safe (it, &m->all) {
        struct listener *l = container_of(it, struct listener, link);
        struct bound *b = l->bound;
        l->bound = NULL; /* the workers had it and are gone, or never got it */
        if (b && !b->given)
            for (uint32_t w = 0; w < m->n_workers; w++)
                free_unused(b->wl[w]);
        if (b) {
            b->given = true;
            bound_free(m, b);
        }
        if (l->warming_bound) {
            for (uint32_t w = 0; w < m->n_workers; w++)
                free_unused(l->warming_bound->wl[w]);
            l->warming_bound->given = true;
        }
        listener_free(l);
    }
    timer_cancel(&m->drain_end);
    map_fini(&m->by_name);
    stat_group_fini(&m->stats);
    free(m);
}
