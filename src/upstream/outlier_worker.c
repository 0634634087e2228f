/* The worker's half of outlier detection: counting. */
#include "base/mem.h"
#include "upstream/outlier.h"

struct hit {
    struct mail mail;
    struct cluster *cluster;
    struct endpoint_info *info; /* NULL: the cluster is being used, no more */
    enum outlier_kind kind;
};

static void hit_free(struct mail *m)
{
    struct hit *h = (struct hit *)m;
    endpoint_info_unref(h->info);
    cluster_unref(h->cluster);
    free(h);
}

static void hit_run(struct mail *m)
{
    struct hit *h = (struct hit *)m;
    if (h->info)
        cluster_manager_outlier_hit(h->cluster, h->info->state, h->kind);
    else
        cluster_manager_outlier_used(h->cluster);
    hit_free(m);
}

static void tell_main(struct cluster *c, struct endpoint_info *info, enum outlier_kind k)
{
    struct hit *h = mem_new(struct hit);
    h->mail.run = hit_run;
    h->mail.drop = hit_free;
    h->cluster = cluster_ref(c);
    h->info = info ? endpoint_info_ref(info) : NULL;
    h->kind = k;
    mailbox_send(c->env->main, &h->mail);
}

void outlier_used(struct cluster *c)
{
    tell_main(c, NULL, OUTLIER_5XX);
}

static bool reaches(_Atomic uint32_t *run, uint32_t limit)
{
    return atomic_fetch_add_explicit(run, 1, memory_order_relaxed) + 1 == limit;
}

static void zero(_Atomic uint32_t *run)
{
    if (atomic_load_explicit(run, memory_order_relaxed))
        atomic_store_explicit(run, 0, memory_order_relaxed);
}

static void count(_Atomic uint32_t *total, _Atomic uint32_t *ok, bool success)
{
    atomic_fetch_add_explicit(total, 1, memory_order_relaxed);
    if (success)
        atomic_fetch_add_explicit(ok, 1, memory_order_relaxed);
}

static void answered(struct cluster *c, const struct outlier_config *cfg,
                     struct endpoint_info *info, uint16_t status)
{
    struct endpoint_outlier *o = &info->state->outlier;
    count(&o->window_total, &o->window_ok, status < 500);
    if (status < 500) {
        zero(&o->consecutive_5xx);
        zero(&o->consecutive_gateway);
        return;
    }
    if (status >= 502 && status <= 504) {
        if (reaches(&o->consecutive_gateway, cfg->consecutive_gateway))
            tell_main(c, info, OUTLIER_GATEWAY);
    } else {
        zero(&o->consecutive_gateway);
    }
    if (reaches(&o->consecutive_5xx, cfg->consecutive_5xx))
        tell_main(c, info, OUTLIER_5XX);
}

void outlier_result(struct cluster *c, struct endpoint_info *info, enum upstream_result r,
                    uint16_t http_status)
{
    const struct outlier_config *cfg = &cluster_rt(c)->cfg->outlier;
    struct endpoint_outlier *o = &info->state->outlier;
    bool local = r == UPSTREAM_LOCAL_TIMEOUT || r == UPSTREAM_LOCAL_RESET;
    if (!cfg->on)
        return;
    if (!cfg->split_local) {
        answered(c, cfg, info, http_status);
        return;
    }
    count(&o->window_local_total, &o->window_local_ok, !local);
    if (!local) {
        zero(&o->consecutive_local);
        answered(c, cfg, info, http_status);
    } else if (reaches(&o->consecutive_local, cfg->consecutive_local)) {
        tell_main(c, info, OUTLIER_LOCAL);
    }
}
