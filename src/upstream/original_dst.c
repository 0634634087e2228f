/* ORIGINAL_DST clusters: the host is where the connection was going before it was intercepted, or
 * what a header says. Hosts are made as they come; those that were not used for a clean-up interval
 * and carry nothing go away again. */
#include "base/mem.h"
#include "upstream/worker.h"

static bool from_header(const struct cluster_core *c, const struct upstream_ctx *ctx,
                        struct addr *out)
{
    struct arena a;
    if (c->cfg->original_dst_header.n == 0 || !ctx->request)
        return false;
    arena_init(&a);
    sv v = http_head_get(ctx->request, c->cfg->original_dst_header, &a);
    bool found = v.p != NULL && v.n > 0;
    if (found && addr_parse(out, v) != 0)
        out->len = 0;
    arena_free(&a);
    return found;
}

static bool destination(struct cluster_core *c, const struct upstream_ctx *ctx, struct addr *out)
{
    *out = (struct addr){0};
    if (from_header(c, ctx, out)) {
        if (!out->len) {
            stat_inc(core_stats(c), cluster_stat_original_dst_host_invalid);
            return false;
        }
    } else if (ctx->original_dst && ctx->original_dst->len && !ctx->straight) {
        *out = *ctx->original_dst;
    } else {
        return false;
    }
    if (out->sa.sa_family != AF_INET && out->sa.sa_family != AF_INET6)
        return false;
    if (c->cfg->original_dst_port)
        addr_set_port(out, (uint16_t)c->cfg->original_dst_port);
    return true;
}

static struct upstream_host *add(struct cluster_core *c, const struct addr *a)
{
    struct endpoint_info *info =
        endpoint_info_adhoc(&c->rt->registry, a, cluster_config_transport(c->cfg, NULL));
    struct upstream_host *h = host_new(c, info);
    endpoint_info_unref(info);
    map_put(&c->by_addr, addr_key(&h->info->addr), h);
    stat_gauge_inc(core_stats(c), cluster_stat_membership_total);
    stat_gauge_inc(core_stats(c), cluster_stat_membership_healthy);
    return h;
}

struct upstream_host *original_dst_host(struct cluster_core *c, const struct upstream_ctx *ctx)
{
    struct addr a;
    if (!destination(c, ctx, &a))
        return NULL;
    struct upstream_host *h = map_get(&c->by_addr, addr_key(&a));
    if (!h)
        h = add(c, &a);
    h->touched = true;
    return h;
}

static void on_cleanup(struct timer *t)
{
    struct cluster_core *c = container_of(t, struct cluster_core, cleanup);
    list_each_safe (it, &c->hosts) {
        struct upstream_host *h = container_of(it, struct upstream_host, link);
        if (!h->touched && h->uses == 0) {
            host_remove(h);
            stat_gauge_dec(core_stats(c), cluster_stat_membership_total);
            stat_gauge_dec(core_stats(c), cluster_stat_membership_healthy);
        }
        h->touched = false;
    }
    timer_set(t, c->cfg->cleanup_ms);
}

void original_dst_start(struct cluster_core *c)
{
    timer_init(&c->cleanup, c->w->loop, on_cleanup);
    timer_set(&c->cleanup, c->cfg->cleanup_ms);
}
