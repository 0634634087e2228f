/* The core of a cluster on a worker: its balancer and hosts through updates, and the handles on it.
 */
#include "base/mem.h"
#include "base/code.h"
#include "upstream/http_pool.h"
#include "upstream/outlier.h"
#include "upstream/worker.h"

/* ---- handles ---- */

static struct upstream_cluster *handle_new(struct cluster_core *c)
{
    struct upstream_cluster *h = mem_new(struct upstream_cluster);
    h->refs = 1;
    h->core = c;
    h->epoch = ++c->epoch;
    list_push(&c->handles, &h->link);
    return h;
}

void upstream_cluster_ref(struct upstream_cluster *h)
{
    h->refs++;
}

HOT void upstream_cluster_unref(struct upstream_cluster *h)
{
    if (!h || --h->refs)
        return;
    list_del(&h->link);
    core_sweep_soon(h->core);
    free(h);
}

/* What goes away stays visible to the holders of older handles only. */
static void begin_epoch(struct worker_entry *e)
{
    struct upstream_cluster *old = e->handle;
    e->handle = handle_new(old->core);
    upstream_cluster_unref(old);
}

sv upstream_cluster_name(const struct upstream_cluster *h)
{
    return h->core->cluster->name;
}

sv upstream_cluster_stat_name(const struct upstream_cluster *h)
{
    return h->core->cfg->stat_name;
}

const void *upstream_cluster_metadata(const struct upstream_cluster *h)
{
    return h->core->cfg->pb->metadata;
}

void upstream_cluster_members(const struct upstream_cluster *h, uint32_t *usable, uint32_t *total)
{
    struct endpoint_counts n = endpoint_table_count(h->core->table);
    *usable = n.healthy + n.degraded;
    *total = n.total;
}

uint32_t upstream_cluster_buffer_limit(const struct upstream_cluster *h)
{
    return h->core->cfg->buffer_limit;
}

/* ---- sweeping ---- */

static bool epoch_seen(const struct cluster_core *c, const struct epochs *e)
{
    struct list *head = (struct list *)(uintptr_t)&c->handles;
    if (e->first == 0)
        return false;
    list_each (it, head) {
        uint32_t epoch = container_of(it, struct upstream_cluster, link)->epoch;
        if (epoch >= e->first && epoch <= e->last)
            return true;
    }
    return false;
}

static void core_free(struct cluster_core *c)
{
    host_retired_sweep(c, NULL);
    timer_cancel(&c->cleanup);
    list_del(&c->link);
    lb_fini(&c->lb);
    map_fini(&c->by_state);
    map_fini(&c->by_addr);
    free(c->by_index);
    endpoint_set_unref(c->set);
    cluster_unref(c->cluster);
    free(c);
}

static void sweep_hosts(struct cluster_core *c)
{
    list_each_safe (it, &c->removed) {
        struct upstream_host *h = container_of(it, struct upstream_host, link);
        if (h->uses == 0 && !epoch_seen(c, &h->handed))
            host_free(h);
    }
}

static void remove_all_hosts(struct cluster_core *c)
{
    for (struct list *it; (it = list_first(&c->hosts));)
        host_remove(container_of(it, struct upstream_host, link));
}

static void sweep(struct deferred *d)
{
    struct cluster_core *c = container_of(d, struct cluster_core, sweep);
    c->sweep_due = true; /* what comes up in here is part of this sweep */
    if (c->detached && list_empty(&c->handles))
        remove_all_hosts(c);
    sweep_hosts(c);
    host_retired_sweep(c, epoch_seen);
    c->sweep_due = false;
    if (c->detached && list_empty(&c->handles) && list_empty(&c->removed))
        core_free(c);
}

void core_sweep_soon(struct cluster_core *c)
{
    if (c->sweep_due)
        return;
    c->sweep_due = true;
    loop_defer(c->w->loop, &c->sweep, sweep);
}

/* ---- updates ---- */

static struct upstream_host *host_of(struct cluster_core *c, const struct endpoint *e)
{
    struct upstream_host *h =
        map_get(&c->by_state, sv_make((const char *)&e->info->state, sizeof e->info->state));
    /* With another transport socket it is another host: what is up there stays as it is. */
    return h && h->info->transport == e->info->transport ? h : NULL;
}

/* Finds the hosts of the new table; returns whether anything was taken away. */
static bool adopt(struct cluster_core *c, const struct endpoint_table *t)
{
    bool changed = false;
    struct upstream_host **by_index = mem_array(struct upstream_host *, t->n + 1);
    list_each (it, &c->hosts) {
        container_of(it, struct upstream_host, link)->index = LB_NONE;
    }
    for (uint32_t i = 0; i < t->n; i++) {
        struct upstream_host *h = host_of(c, &t->v[i]);
        if (!h)
            continue;
        by_index[i] = h;
        if (h->index != LB_NONE)
            continue;
        h->index = i;
        h->about.priority = t->v[i].priority;
        if (h->info != t->v[i].info) {
            host_set_info(h, t->v[i].info);
            changed = true;
        }
    }
    free(c->by_index);
    c->by_index = by_index;
    return changed;
}

static bool drop_unlisted(struct cluster_core *c)
{
    bool changed = false;
    struct list gone;
    list_init(&gone);
    list_each_safe (it, &c->hosts) {
        struct upstream_host *h = container_of(it, struct upstream_host, link);
        if (h->index != LB_NONE)
            continue;
        list_del(it);
        list_push(&gone, it);
    }
    for (struct list *it; (it = list_first(&gone)); changed = true)
        host_remove(container_of(it, struct upstream_host, link));
    return changed;
}

void core_update(struct worker_entry *e, struct endpoint_set *set)
{
    struct cluster_core *c = e->handle->core;
    struct endpoint_set *old = c->set;
    const struct endpoint_table *t = endpoint_set_table(set);
    bool changed = adopt(c, t);
    c->set = endpoint_set_ref(set);
    c->table = t;
    lb_update(&c->lb, t);
    if (c->cfg->type != CLUSTER_ORIGINAL_DST)
        changed |= drop_unlisted(c);
    endpoint_set_unref(old);
    if (changed)
        begin_epoch(e);
}

/* Connections to a host that has just failed are not used again: to its next life, or in panic, new
 * ones are made. */
static void drain_failed(struct cluster_core *c)
{
    list_each (it, &c->hosts) {
        struct upstream_host *h = container_of(it, struct upstream_host, link);
        bool failed = host_failed(h);
        if (failed && !h->failed)
            http_pools_drain(h);
        h->failed = failed;
    }
}

void core_health_changed(struct cluster_core *c)
{
    lb_update(&c->lb, c->table);
    drain_failed(c);
}

/* ---- begin and end ---- */

static uint64_t now_ms(const void *loop)
{
    return loop_now_ms(loop);
}

struct upstream_cluster *core_open(struct upstream_worker *w, struct worker_entry *e)
{
    if (e->handle)
        return e->handle;
    struct cluster_core *c = mem_new(struct cluster_core);
    list_push(&w->cores, &c->link);
    c->w = w;
    c->cluster = cluster_ref(e->cluster);
    c->rt = cluster_rt(e->cluster);
    c->cfg = c->rt->cfg;
    c->set = endpoint_set_ref(e->set);
    c->table = endpoint_set_table(e->set);
    c->by_index = mem_array(struct upstream_host *, c->table->n + 1);
    map_init(&c->by_state);
    map_init_borrow(&c->by_addr);
    list_init(&c->hosts);
    list_init(&c->removed);
    list_init(&c->retired);
    list_init(&c->handles);
    list_init(&c->awaiting_tls);
    lb_init(&c->lb, &c->cfg->lb, loop_rand(w->loop));
    c->lb.now_ms = now_ms;
    c->lb.clock = w->loop;
    c->lb.stats = &c->rt->stats.g;
    c->lb.ring = &c->rt->stats.ring;
    c->lb.maglev = &c->rt->stats.maglev;
    if (c->cfg->type == CLUSTER_ORIGINAL_DST)
        original_dst_start(c);
    else
        lb_update(&c->lb, c->table);
    if (c->cfg->outlier.on)
        outlier_used(c->cluster);
    e->handle = handle_new(c);
    return e->handle;
}

/* Closes idle connections now and the others when their streams end. */
static void drain(struct cluster_core *c)
{
    list_each (it, &c->hosts) {
        http_pools_drain(container_of(it, struct upstream_host, link));
    }
}

void core_detach(struct worker_entry *e)
{
    struct upstream_cluster *h = e->handle;
    if (!h)
        return;
    struct cluster_core *c = h->core;
    e->handle = NULL;
    /* Streams that hold the old handle may still open connections; those drain like the others. */
    c->detached = true;
    timer_cancel(&c->cleanup);
    drain(c);
    upstream_cluster_unref(h);
    core_sweep_soon(c);
}

void core_destroy(struct cluster_core *c)
{
    c->detached = true;
    timer_cancel(&c->cleanup);
    remove_all_hosts(c);
    list_each_safe (it, &c->removed) {
        struct upstream_host *h = container_of(it, struct upstream_host, link);
        http_pools_close(h);
        tcp_attempts_close(h);
    }
    list_each_safe (it, &c->handles) {
        struct upstream_cluster *h = container_of(it, struct upstream_cluster, link);
        list_del(&h->link);
        free(h);
    }
    list_each_safe (it, &c->removed) {
        container_of(it, struct upstream_host, link)->handed = (struct epochs){0};
    }
    core_sweep_soon(c);
}
