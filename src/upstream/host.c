/* Hosts: one endpoint as one worker uses it. */
#include "api/pb_struct.h"
#include "base/mem.h"
#include "base/code.h"
#include "upstream/cluster_manager.h"
#include "upstream/http_pool.h"
#include "upstream/outlier.h"
#include "upstream/worker.h"

/* An info that was replaced while somebody could still look at it. */
struct retired_info {
    struct list link;
    struct endpoint_info *info;
    struct epochs handed;
};

/* ---- what is told about it ---- */

const struct upstream_host_info *upstream_host_info(const struct upstream_host *h)
{
    return &h->about;
}

static void describe(struct upstream_host *h)
{
    const struct endpoint_info *i = h->info;
    h->about.addr = &i->addr;
    h->about.addr_text = i->addr_text;
    h->about.hostname = i->hostname;
    h->about.cluster = h->core->cluster->name;
    h->about.zone = i->zone;
    h->about.metadata = i->metadata;
}

void host_set_info(struct upstream_host *h, struct endpoint_info *info)
{
    if (h->handed_info.first) {
        struct retired_info *r = mem_new(struct retired_info);
        r->info = h->info;
        r->handed = h->handed_info;
        list_push(&h->core->retired, &r->link);
        core_sweep_soon(h->core);
    } else {
        endpoint_info_unref(h->info);
    }
    h->handed_info = (struct epochs){0};
    h->info = endpoint_info_ref(info);
    describe(h);
}

static void widen(struct epochs *e, uint32_t epoch)
{
    if (e->first == 0 || epoch < e->first)
        e->first = epoch;
    if (epoch > e->last)
        e->last = epoch;
}

void host_hand_out(struct upstream_host *h, const struct upstream_cluster *to)
{
    widen(&h->handed, to->epoch);
    widen(&h->handed_info, to->epoch);
}

/* ---- life ---- */

bool host_failed(const struct upstream_host *h)
{
    return (atomic_load_explicit(&h->state->flags, memory_order_relaxed) &
            (ENDPOINT_FAILED_ACTIVE_HC | ENDPOINT_FAILED_OUTLIER)) != 0;
}

struct upstream_host *host_new(struct cluster_core *c, struct endpoint_info *info)
{
    struct upstream_host *h = mem_new(struct upstream_host);
    h->core = c;
    h->info = endpoint_info_ref(info);
    h->state = info->state;
    h->index = LB_NONE;
    h->failed = host_failed(h);
    list_init(&h->pools);
    list_init(&h->tcp);
    list_init(&h->tcp_up);
    list_push(&c->hosts, &h->link);
    map_put(&c->by_state, sv_make((const char *)&h->state, sizeof h->state), h);
    describe(h);
    return h;
}

void host_use(struct upstream_host *h)
{
    h->uses++;
}

void host_unuse(struct upstream_host *h)
{
    if (--h->uses == 0 && h->removed)
        core_sweep_soon(h->core);
}

void host_remove(struct upstream_host *h)
{
    if (h->removed)
        return;
    h->removed = true;
    if (h->index != LB_NONE)
        h->core->by_index[h->index] = NULL;
    h->index = LB_NONE;
    map_del(&h->core->by_state, sv_make((const char *)&h->state, sizeof h->state));
    if (h->core->cfg->type == CLUSTER_ORIGINAL_DST)
        map_del(&h->core->by_addr, addr_key(&h->info->addr));
    list_del(&h->link);
    list_push(&h->core->removed, &h->link);
    host_use(h); /* draining may end the last use */
    http_pools_drain(h);
    host_unuse(h);
    core_sweep_soon(h->core);
}

void host_free(struct upstream_host *h)
{
    http_pools_free(h);
    list_del(&h->link);
    endpoint_info_unref(h->info);
    free(h);
}

void host_retired_sweep(struct cluster_core *c,
                        bool (*seen)(const struct cluster_core *c, const struct epochs *e))
{
    list_each_safe (it, &c->retired) {
        struct retired_info *r = container_of(it, struct retired_info, link);
        if (seen && seen(c, &r->handed))
            continue;
        list_del(&r->link);
        endpoint_info_unref(r->info);
        free(r);
    }
}

/* ---- choosing ---- */

/* Whether the endpoint has every value; one of its list counts as that value. */
static bool has_all(const struct google_Struct *have, const struct google_Struct *want)
{
    bool all = have && want && want->fields.n;
    for (uint32_t i = 0; all && i < want->fields.n; i++) {
        const struct google_Value *v = pb_struct_get(have, want->fields.v[i]->key);
        bool found = pb_value_equal(v, want->fields.v[i]->value);
        const struct google_ListValue *list =
            v && v->which_kind == google_Value_list_value_tag ? v->list_value : NULL;
        for (uint32_t k = 0; list && k < list->values.n && !found; k++)
            found = pb_value_equal(list->values.v[k], want->fields.v[i]->value);
        all = found;
    }
    return all;
}

static bool is_unwanted(void *arg, const struct endpoint *e)
{
    const struct upstream_ctx *ctx = arg;
    if (ctx->avoid_canaries && e->info->canary)
        return true;
    if (ctx->avoid_metadata &&
        has_all(endpoint_lb_metadata(e->info->metadata), endpoint_lb_metadata(ctx->avoid_metadata)))
        return true;
    for (uint32_t i = 0; i < ctx->n_tried; i++)
        if (ctx->tried[i]->state == e->info->state)
            return true;
    return false;
}

static struct upstream_host *at_index(struct cluster_core *c, uint32_t index)
{
    struct upstream_host *h = c->by_index[index];
    if (h)
        return h;
    /* The same endpoint may be listed twice in a static cluster. */
    struct endpoint_state *s = c->table->v[index].info->state;
    h = map_get(&c->by_state, sv_make((const char *)&s, sizeof s));
    if (!h) {
        h = host_new(c, c->table->v[index].info);
        h->index = index;
        h->about.priority = c->table->v[index].priority;
    }
    c->by_index[index] = h;
    return h;
}

HOT struct upstream_host *host_choose(struct upstream_cluster *handle,
                                      const struct upstream_ctx *ctx)
{
    struct cluster_core *c = handle->core;
    struct upstream_host *h = NULL;
    if (c->cfg->type == CLUSTER_ORIGINAL_DST) {
        h = original_dst_host(c, ctx);
    } else {
        struct lb_ask ask = {.criteria =
                                 c->lb.subsets ? endpoint_lb_metadata(ctx->metadata_match) : NULL,
                             .has_hash = ctx->has_hash,
                             .hash = ctx->hash,
                             .spent_priorities = ctx->spent_priorities};
        if (ctx->n_tried || ctx->avoid_canaries || ctx->avoid_metadata) {
            ask.avoid = is_unwanted;
            ask.arg = (void *)(uintptr_t)ctx;
        }
        uint32_t index = lb_pick(&c->lb, &ask);
        if (index != LB_NONE)
            h = at_index(c, index);
    }
    if (h)
        host_hand_out(h, handle);
    else
        stat_inc(core_stats(c), cluster_stat_upstream_cx_none_healthy);
    return h;
}

/* ---- requests ---- */

HOT void host_rq_begin(struct upstream_host *h, enum upstream_priority p)
{
    struct stat_group *g = core_stats(h->core);
    stat_inc(g, cluster_stat_upstream_rq_total);
    stat_gauge_inc(g, cluster_stat_upstream_rq_active);
    atomic_fetch_add_explicit(&h->state->rq_total, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->state->rq_active, 1, memory_order_relaxed);
    h->rq_active++;
}

void host_rq_end(struct upstream_host *h, enum upstream_priority p, uint32_t n)
{
    stat_gauge_add(core_stats(h->core), cluster_stat_upstream_rq_active, -(int64_t)n);
    atomic_fetch_sub_explicit(&h->state->rq_active, n, memory_order_relaxed);
    for (uint32_t i = 0; i < n; i++)
        limits_give(&h->core->rt->limits, p, LIMIT_RQ);
    h->rq_active -= n;
}

/* What an answer counts as, where the cluster says which statuses are errors. */
static uint16_t judged_status(const struct outlier_config *c, enum upstream_result r,
                              uint16_t status)
{
    if (!c->by_status || r == UPSTREAM_LOCAL_TIMEOUT || r == UPSTREAM_LOCAL_RESET)
        return status;
    return status < 640 && c->statuses[status / 64] >> status % 64 & 1 ? 500 : 200;
}

struct failing {
    struct mail mail;
    struct cluster *cluster;
    struct endpoint_info *info;
};

static void failing_free(struct mail *m)
{
    struct failing *f = (struct failing *)m;
    endpoint_info_unref(f->info);
    cluster_unref(f->cluster);
    free(f);
}

static void failing_run(struct mail *m)
{
    struct failing *f = (struct failing *)m;
    cluster_manager_host_failing(f->cluster, f->info->state);
    failing_free(m);
}

void upstream_host_response(struct upstream_host *h, const struct http_headers *head)
{
    if (h->core->cfg->health.kind == HEALTH_NONE ||
        !http_headers_get_sv(head, SV("x-envoy-immediate-health-check-fail")).p)
        return;
    struct failing *f = mem_new(struct failing);
    f->mail.run = failing_run;
    f->mail.drop = failing_free;
    f->cluster = cluster_ref(h->core->cluster);
    f->info = endpoint_info_ref(h->info);
    mailbox_send(h->core->cluster->env->main, &f->mail);
}

HOT void upstream_host_result(struct upstream_host *h, enum upstream_result r, uint16_t http_status)
{
    struct endpoint_state *s = h->state;
    if (h->core->cfg->outlier.on)
        outlier_result(h->core->cluster, h->info, r,
                       judged_status(&h->core->cfg->outlier, r, http_status));
    switch (r) {
    case UPSTREAM_OK:
        atomic_fetch_add_explicit(&s->rq_success, 1, memory_order_relaxed);
        break;
    case UPSTREAM_LOCAL_TIMEOUT:
        atomic_fetch_add_explicit(&s->rq_timeout, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->rq_error, 1, memory_order_relaxed);
        break;
    case UPSTREAM_5XX:
    case UPSTREAM_GATEWAY_ERROR:
    case UPSTREAM_LOCAL_RESET:
        atomic_fetch_add_explicit(&s->rq_error, 1, memory_order_relaxed);
        break;
    }
}

void host_connect_failed(struct upstream_host *h, bool timeout, bool http)
{
    if (h->core->cfg->outlier.on)
        outlier_result(h->core->cluster, h->info,
                       timeout ? UPSTREAM_LOCAL_TIMEOUT : UPSTREAM_LOCAL_RESET,
                       timeout ? 504 : 503);
    if (http)
        atomic_fetch_add_explicit(&h->state->rq_error, 1, memory_order_relaxed);
}

void host_connected(struct upstream_host *h)
{
    if (h->core->cfg->outlier.on)
        outlier_result(h->core->cluster, h->info, UPSTREAM_OK, 200);
}
