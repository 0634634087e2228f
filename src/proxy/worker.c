#include "proxy/worker.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "filters/trace_export.h"
#include "net/listener.h"
#include "net/loop.h"
#include "proxy/accepted.h"
#include "proxy/conn_accept.h"
#include "telemetry/access_log_file.h"
#include "telemetry/istio_metrics.h"
#include "telemetry/stats.h"

#define SERIES_MAX 4096

/* ---- finding listeners by address ---- */

static struct worker_listener *lookup(struct worker *w, const struct addr *a,
                                      const struct worker_listener * not )
{
    struct worker_listener *wl = map_get(&w->by_addr, addr_key(a));
    return wl == not ? NULL : wl;
}

struct worker_listener *worker_find_listener(struct worker *w, const struct addr *a,
                                             const struct worker_listener * not )
{
    struct worker_listener *wl = lookup(w, a, not );
    if (wl || a->sa.sa_family == AF_UNIX)
        return wl;
    struct addr any;
    addr_ip(&any, a->sa.sa_family == AF_INET6 ? SV("::") : SV("0.0.0.0"), addr_port(a));
    return lookup(w, &any, not );
}

static void index_listener(struct worker_listener *wl, bool in)
{
    for (uint32_t i = 0; i < wl->conf->n_addrs; i++) {
        sv k = addr_key(&wl->conf->addrs[i]);
        if (in)
            map_put(&wl->w->by_addr, k, wl);
        else if (map_get(&wl->w->by_addr, k) == wl)
            map_del(&wl->w->by_addr, k);
    }
}

/* ---- listeners, on the worker ---- */

struct task {
    struct worker *w;
    struct worker_listener *wl;
    struct listener_conf *conf;
};

static void post(struct worker *w, void (*fn)(void *arg), struct worker_listener *wl,
                 struct listener_conf *conf)
{
    struct task *t = mem_new(struct task);
    *t = (struct task){w, wl, conf};
    loop_post(w->f.loop, fn, t);
}

static void stop_accepting(struct worker_listener *wl)
{
    for (uint32_t i = 0; i < wl->n_socks; i++)
        net_listener_free(wl->socks[i]);
    wl->n_socks = 0;
}

static void on_drain_end(struct timer *t)
{
    struct worker_listener *wl = container_of(t, struct worker_listener, drain_end);
    conn_accept_abort(wl, true);
}

static void add_now(void *arg)
{
    struct task *t = arg;
    struct worker_listener *wl = t->wl;
    list_push(&t->w->listeners, &wl->link);
    index_listener(wl, true);
    if (t->w->draining)
        stop_accepting(wl);
    for (uint32_t i = 0; i < wl->n_socks; i++)
        net_listener_start(wl->socks[i]);
    free(t);
}

static void update_now(void *arg)
{
    struct task *t = arg;
    struct worker_listener *wl = t->wl;
    struct listener_conf *old = wl->conf;
    wl->conf = t->conf;
    accepted_drain(wl, wl->conf);
    if (wl->w->drain_ms)
        timer_set(&wl->drain_end, wl->w->drain_ms);
    listener_conf_unref(old);
    free(t);
}

static void remove_now(void *arg)
{
    struct task *t = arg;
    struct worker_listener *wl = t->wl;
    stop_accepting(wl);
    index_listener(wl, false);
    wl->removed = true;
    accepted_drain(wl, NULL);
    if (!wl->n_conns)
        conn_accept_abort(wl, false);
    if (wl->n_conns)
        timer_set(&wl->drain_end, wl->w->drain_ms);
    conn_accept_reap(wl);
    free(t);
}

static void drain_listener_now(void *arg)
{
    struct task *t = arg;
    t->wl->draining = true;
    t->wl->drain_start_ms = loop_now_ms(t->w->f.loop);
    accepted_drain(t->wl, NULL);
    free(t);
}

static void stop_now(void *arg)
{
    struct task *t = arg;
    stop_accepting(t->wl);
    index_listener(t->wl, false);
    free(t);
}

static void drain_now(void *arg)
{
    struct task *t = arg;
    struct worker *w = t->w;
    w->draining = true;
    list_each (it, &w->listeners) {
        struct worker_listener *wl = container_of(it, struct worker_listener, link);
        stop_accepting(wl);
        accepted_drain(wl, NULL);
    }
    free(t);
}

void worker_add_listener(struct worker *w, struct worker_listener *wl)
{
    post(w, add_now, wl, NULL);
}

void worker_update_listener(struct worker *w, struct worker_listener *wl,
                            struct listener_conf *conf)
{
    post(w, update_now, wl, conf);
}

void worker_remove_listener(struct worker *w, struct worker_listener *wl)
{
    post(w, remove_now, wl, NULL);
}

void worker_drain_listener(struct worker *w, struct worker_listener *wl)
{
    post(w, drain_listener_now, wl, NULL);
}

void worker_stop_listener(struct worker *w, struct worker_listener *wl)
{
    post(w, stop_now, wl, NULL);
}

void worker_drain(struct worker *w)
{
    post(w, drain_now, NULL, NULL);
}

struct worker_listener *worker_listener_new(struct worker *w, struct listener_conf *conf)
{
    struct worker_listener *wl = mem_new(struct worker_listener);
    char name[32];
    int n = snprintf(name, sizeof name, "worker_%u.", w->f.index);
    struct stats_scope *sub =
        stats_scope_sub(conf->scope, sv_make(name, (size_t)n), (sv){0}, NULL, 0);
    stat_group_init(&wl->stats, &listener_worker_stats_def, sub);
    stats_scope_unref(sub);
    list_init(&wl->link);
    list_init(&wl->conns);
    list_init(&wl->accepting);
    wl->w = w;
    wl->conf = conf;
    timer_init(&wl->drain_end, w->f.loop, on_drain_end);
    return wl;
}

uint32_t worker_busy(struct worker *w)
{
    uint32_t n = 0;
    list_each (it, &w->listeners)
        n += accepted_busy(container_of(it, struct worker_listener, link));
    return n;
}

/* ---- the worker itself ---- */

static void on_log_flush(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, log_flush);
    access_log_writer_flush(w->f.logs);
    timer_set(t, w->flush_ms);
}

static void start_timers(void *arg)
{
    struct worker *w = arg;
    if (w->f.logs && w->flush_ms)
        timer_set(&w->log_flush, w->flush_ms);
}

struct worker *worker_new(const struct worker_opts *o)
{
    struct worker *w = mem_new(struct worker);
    w->server = o->server;
    w->own_loop = !o->loop;
    w->f.loop = o->loop ? o->loop : loop_new(o->os);
    if (!w->f.loop) {
        free(w);
        return NULL;
    }
    w->f.stats = o->stats;
    w->f.series = stats_cache_new(o->stats, SERIES_MAX);
    w->f.node = o->node;
    w->f.logs = o->logs;
    w->f.health_failed = o->health_failed;
    w->f.index = o->index;
    w->f.count = o->count;
    w->f.next_stream_id = o->index;
    w->drain_ms = o->drain_ms;
    w->drain_gradually = o->drain_gradually;
    w->flush_ms = o->flush_ms;
    list_init(&w->listeners);
    map_init(&w->by_addr);
    hcm_codec_counters_init(&w->codec[0], o->stats, SV("http1."));
    hcm_codec_counters_init(&w->codec[1], o->stats, SV("http2."));
    timer_init(&w->log_flush, w->f.loop, on_log_flush);
    loop_post(w->f.loop, start_timers, w);
    return w;
}

static void end_connections(void *arg)
{
    struct worker *w = arg;
    list_each_safe (it, &w->listeners) {
        struct worker_listener *wl = container_of(it, struct worker_listener, link);
        stop_accepting(wl);
        wl->removed = true;
        conn_accept_abort(wl, false);
        conn_accept_reap(wl);
    }
    timer_cancel(&w->log_flush);
    trace_worker_end(w->f.traces);
    if (w->own_loop)
        loop_stop(w->f.loop);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    char name[16];
    snprintf(name, sizeof name, "worker_%u", w->f.index);
    pthread_setname_np(pthread_self(), name);
    loop_run(w->f.loop);
    return NULL;
}

int worker_start(struct worker *w, bool pin_cpu)
{
    if (!w->own_loop)
        return 0;
    if (pthread_create(&w->thread, NULL, run, w) != 0)
        return E_LIMIT;
    w->running = true;
    (void)pin_cpu;
    return 0;
}

void worker_stop(struct worker *w)
{
    if (!w->own_loop || !w->running) {
        end_connections(w);
        loop_turn(w->f.loop, 0); /* what was posted to it, and what waits for the end of a turn */
        return;
    }
    loop_post(w->f.loop, end_connections, w);
    pthread_join(w->thread, NULL);
    w->running = false;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    timer_cancel(&w->log_flush);
    if (w->own_loop)
        loop_free(w->f.loop);
    trace_worker_free(w->f.traces);
    while (w->n_spares) {
        struct http_codec *c = w->spares[--w->n_spares];
        c->ops->free(c);
    }
    hcm_codec_counters_fini(&w->codec[0]);
    hcm_codec_counters_fini(&w->codec[1]);
    stats_cache_free(w->f.series);
    if (w->f.istio)
        istio_worker_free(w->f.istio);
    access_log_writer_free(w->f.logs);
    map_fini(&w->by_addr);
    free(w);
}
