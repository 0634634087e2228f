#include "upstream/cluster.h"

#include "base/mem.h"

/* ---- cluster ---- */

void cluster_env_unref(struct cluster_env *e)
{
    if (!refcount_put(&e->ref))
        return;
    mailbox_unref(e->main);
    free(e);
}

struct cluster *cluster_new(struct cluster_env *env, sv packed, bool is_static)
{
    struct cluster *c = mem_zalloc(sizeof *c + packed.n + 1);
    refcount_init(&c->ref);
    refcount_get(&env->ref);
    c->env = env;
    memcpy(c->bytes, packed.p, packed.n);
    c->packed = sv_make(c->bytes, packed.n);
    c->name = cluster_config_peek_name(c->packed);
    c->is_static = is_static;
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

struct cluster *cluster_ref(struct cluster *c)
{
    refcount_get(&c->ref);
    return c;
}

static void rt_free(struct cluster_rt *rt)
{
    if (!rt)
        return;
    for (uint32_t i = 0; i < rt->cfg->n_transports; i++)
        tls_slot_free(atomic_load_explicit(&rt->tls[i].slot, memory_order_relaxed));
    free(rt->tls);
    endpoint_registry_fini(&rt->registry);
    limits_fini(&rt->limits);
    cluster_stats_fini(&rt->stats);
    cluster_config_free(rt->cfg);
    free(rt);
}

/* Values live as long as their scopes. */
struct kept_stats {
    struct cluster_stats own;
    struct stats_scope *outlier, *health;
};

static void kept_free(struct kept_stats *k)
{
    if (!k)
        return;
    stats_scope_unref(k->outlier);
    stats_scope_unref(k->health);
    cluster_stats_fini(&k->own);
    free(k);
}

static void cluster_free(struct mail *m)
{
    struct cluster *c = container_of(m, struct cluster, gone);
    struct cluster_env *env = c->env;
    rt_free(atomic_load_explicit(&c->rt, memory_order_acquire));
    kept_free(c->kept);
    pthread_mutex_destroy(&c->lock);
    free(c);
    cluster_env_unref(env);
}

void cluster_unref(struct cluster *c)
{
    if (!c || !refcount_put(&c->ref))
        return;
    struct mailbox *main = mailbox_ref(c->env->main);
    c->gone.run = c->gone.drop = cluster_free;
    mailbox_send(main, &c->gone);
    mailbox_unref(main);
}

void cluster_keep_stats(struct cluster *c, const struct cluster *before, sv stat_name)
{
    if (c->kept || !before || !(before->kept || cluster_rt_if_used(before)))
        return;
    c->kept = mem_new(struct kept_stats);
    cluster_stats_init(&c->kept->own, c->env->stats, stat_name);
    c->kept->outlier =
        stats_scope_sub(c->kept->own.scope, SV("outlier_detection."), (sv){0}, NULL, 0);
    c->kept->health = stats_scope_sub(c->kept->own.scope, SV("health_check."), (sv){0}, NULL, 0);
}

/* ---- runtime form ---- */

static struct cluster_rt *rt_new(const struct cluster *c)
{
    struct cluster_rt *rt = mem_new(struct cluster_rt);
    struct error err = {0};
    /* Tolerant: what was to be refused was refused when the bytes came. */
    struct pb_opts fields = {.allow_unknown = true};
    rt->cfg = cluster_config_new(c->packed, &fields, &err);
    if (!rt->cfg)
        abort(); /* the same bytes were accepted before */
    rt->cfg->sock.mark = c->env->socket_mark;
    if (!rt->cfg->pb->upstream_bind_config)
        rt->cfg->bind = c->env->bind;
    cluster_stats_init(&rt->stats, c->env->stats, rt->cfg->stat_name);
    limits_init(&rt->limits, rt->cfg->limits, rt->stats.scope);
    endpoint_registry_init(&rt->registry);
    rt->tls = mem_array(struct cluster_tls, rt->cfg->n_transports);
    return rt;
}

static const unsigned update_stat[CLUSTER_UPDATES] = {
    [CLUSTER_UPDATE_ATTEMPT] = cluster_stat_update_attempt,
    [CLUSTER_UPDATE_SUCCESS] = cluster_stat_update_success,
    [CLUSTER_UPDATE_FAILURE] = cluster_stat_update_failure,
    [CLUSTER_UPDATE_EMPTY] = cluster_stat_update_empty,
    [CLUSTER_UPDATE_NO_REBUILD] = cluster_stat_update_no_rebuild,
    [CLUSTER_UPDATE_REJECTED] = cluster_stat_update_rejected,
};

/* What was counted before goes where it belongs. */
static void flush_updates(struct cluster *c, struct cluster_rt *rt)
{
    for (int i = 0; i < CLUSTER_UPDATES; i++) {
        uint32_t n = atomic_exchange_explicit(&c->updates[i], 0, memory_order_relaxed);
        if (n)
            stat_add(&rt->stats.g, update_stat[i], n);
    }
}

struct cluster_rt *cluster_rt_if_used(const struct cluster *c)
{
    return atomic_load_explicit(&c->rt, memory_order_acquire);
}

struct cluster_rt *cluster_rt(struct cluster *c)
{
    struct cluster_rt *rt = cluster_rt_if_used(c);
    if (rt)
        return rt;
    pthread_mutex_lock(&c->lock);
    rt = atomic_load_explicit(&c->rt, memory_order_relaxed);
    if (!rt) {
        rt = rt_new(c);
        atomic_store_explicit(&c->rt, rt, memory_order_release);
        flush_updates(c, rt);
    }
    pthread_mutex_unlock(&c->lock);
    return rt;
}

void cluster_count_update(struct cluster *c, enum cluster_update u)
{
    atomic_fetch_add_explicit(&c->updates[u], 1, memory_order_relaxed);
    struct cluster_rt *rt = cluster_rt_if_used(c);
    if (rt)
        flush_updates(c, rt);
}

/* ---- endpoints ---- */

struct endpoint_blob *endpoint_blob_new(sv packed)
{
    struct endpoint_blob *b = mem_alloc(sizeof *b + packed.n + 1);
    refcount_init(&b->ref);
    b->n = packed.n;
    memcpy(b->bytes, packed.p, packed.n);
    return b;
}

void endpoint_blob_unref(struct endpoint_blob *b)
{
    if (b && refcount_put(&b->ref))
        free(b);
}

struct endpoint_set *endpoint_set_new(struct cluster *c, struct endpoint_blob *b)
{
    struct endpoint_set *s = mem_new(struct endpoint_set);
    refcount_init(&s->ref);
    s->cluster = cluster_ref(c);
    if (b)
        refcount_get(&b->ref);
    s->blob = b;
    return s;
}

struct endpoint_set *endpoint_set_ref(struct endpoint_set *s)
{
    refcount_get(&s->ref);
    return s;
}

void endpoint_set_unref(struct endpoint_set *s)
{
    if (!s || !refcount_put(&s->ref))
        return;
    endpoint_table_free(atomic_load_explicit(&s->table, memory_order_acquire));
    endpoint_blob_unref(s->blob);
    cluster_unref(s->cluster);
    free(s);
}

struct endpoint_table *endpoint_set_build(const struct endpoint_set *s,
                                          const struct cluster_config *cfg,
                                          struct endpoint_registry *registry)
{
    static const struct envoy_ClusterLoadAssignment none;
    struct endpoint_table_opts o = {
        .transport = cfg->n_transports > 1 ? cluster_config_transport : NULL,
        .transport_cfg = cfg,
        .dedupe = cfg->type != CLUSTER_STATIC,
        .logical = cfg->type == CLUSTER_LOGICAL_DNS,
    };
    struct arena a;
    struct pb_opts fields = {.allow_unknown = true};
    const struct envoy_ClusterLoadAssignment *cla = cfg->pb->load_assignment;
    void *decoded;
    arena_init(&a);
    if (s->blob)
        cla = pb_decode(&envoy_ClusterLoadAssignment_pb, sv_make(s->blob->bytes, s->blob->n), &a,
                        &fields, &decoded, NULL) == 0
                  ? decoded
                  : NULL;
    else if (cfg->type != CLUSTER_STATIC)
        cla = NULL; /* nothing is known yet; what DNS clusters list are names */
    struct endpoint_table *t = endpoint_table_new(registry, cla ? cla : &none, &o);
    arena_free(&a);
    return t;
}

static void show(struct cluster_rt *rt, const struct endpoint_table *t)
{
    struct endpoint_counts n = endpoint_table_count(t);
    uint32_t heaviest = 0;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->v[i].weight > heaviest)
            heaviest = t->v[i].weight;
    stat_gauge_set(&rt->stats.g, cluster_stat_membership_total, n.total);
    stat_gauge_set(&rt->stats.g, cluster_stat_membership_healthy, n.healthy);
    stat_gauge_set(&rt->stats.g, cluster_stat_membership_degraded, n.degraded);
    stat_gauge_set(&rt->stats.g, cluster_stat_membership_excluded, n.excluded);
    stat_gauge_set(&rt->stats.g, cluster_stat_max_host_weight, heaviest);
    stat_gauge_set(&rt->stats.g, cluster_stat_warming_state, 0);
}

struct endpoint_table *endpoint_set_table(struct endpoint_set *s)
{
    struct endpoint_table *t = atomic_load_explicit(&s->table, memory_order_acquire);
    if (t)
        return t;
    struct cluster_rt *rt = cluster_rt(s->cluster);
    pthread_mutex_lock(&s->cluster->lock);
    t = atomic_load_explicit(&s->table, memory_order_relaxed);
    if (!t) {
        t = endpoint_set_build(s, rt->cfg, &rt->registry);
        atomic_store_explicit(&s->table, t, memory_order_release);
        show(rt, t);
        if (t->n)
            stat_inc(&rt->stats.g, cluster_stat_membership_change);
    }
    pthread_mutex_unlock(&s->cluster->lock);
    return t;
}

void endpoint_set_show(struct endpoint_set *s)
{
    show(cluster_rt(s->cluster), endpoint_set_table(s));
}
