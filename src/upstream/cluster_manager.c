#include "upstream/cluster_manager.h"

#include "base/mem.h"
#include "upstream/cluster_version.h"
#include "upstream/worker.h"

struct cluster_entry {
    struct cluster_manager *cm;
    struct cluster_version *active, *warming; /* one of them at least */
    uint64_t updated_wall_ns;
    char name[];
};

struct warm_waiter {
    struct warm_waiter *next;
    void (*fn)(void *arg);
    void *arg;
    char *name; /* of one cluster; NULL: all */
};

#define CM_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                               \
    GAUGE(P, active_clusters)                                                                      \
    COUNTER(P, cluster_added)                                                                      \
    COUNTER(P, cluster_modified)                                                                   \
    COUNTER(P, cluster_removed)                                                                    \
    GAUGE(P, warming_clusters)
STAT_GROUP_DECLARE(cm_stat, CM_STATS);
STAT_GROUP_DEFINE(cm_stat, CM_STATS);

struct cluster_manager {
    struct cluster_manager_opts opts;
    struct stat_group stats; /* cluster_manager.* */
    struct cluster_env *env;
    struct map entries;
    struct eds eds;
    struct map
        resolvers; /* by their servers ("": the process's), made with the first DNS cluster */
    struct list workers;
    struct warm_waiter *waiters;
    bool is_static;
};

/* ---- life ---- */

struct cluster_manager *cluster_manager_new(const struct cluster_manager_opts *o)
{
    struct cluster_manager *cm = mem_new(struct cluster_manager);
    struct cluster_env *env = mem_new(struct cluster_env);
    refcount_init(&env->ref);
    env->stats = o->stats;
    env->secrets = o->secrets;
    env->static_fields = o->static_fields;
    env->dynamic_fields = o->dynamic_fields;
    env->socket_mark = o->socket_mark;
    if (o->bind)
        env->bind = *o->bind;
    env->main = mailbox_new(o->main);
    env->cm = cm;
    cm->opts = *o;
    cm->opts.bind = NULL; /* was the caller's */
    cm->env = env;
    struct stats_scope *scope = stats_scope_plain(o->stats, SV("cluster_manager."));
    stat_group_init(&cm->stats, &cm_stat_def, scope);
    stats_scope_unref(scope);
    map_init(&cm->resolvers);
    map_init(&cm->entries);
    eds_init(&cm->eds, o->eds);
    list_init(&cm->workers);
    return cm;
}

static void count_change(struct stat_group *g, unsigned gauge, bool before, bool after)
{
    if (after && !before)
        stat_gauge_inc(g, gauge);
    else if (before && !after)
        stat_gauge_dec(g, gauge);
}

static void set_versions(struct cluster_entry *e, struct cluster_version *active,
                         struct cluster_version *warming)
{
    struct stat_group *g = &e->cm->stats;
    count_change(g, cm_stat_active_clusters, e->active, active);
    count_change(g, cm_stat_warming_clusters, e->warming, warming);
    e->active = active;
    e->warming = warming;
}

static void entry_free(struct cluster_entry *e)
{
    struct cluster_version *active = e->active, *warming = e->warming;
    set_versions(e, NULL, NULL);
    cluster_version_free(active);
    cluster_version_free(warming);
    free(e);
}

void cluster_manager_free(struct cluster_manager *cm)
{
    if (!cm)
        return;
    map_each (e, &cm->entries) {
        entry_free(e->val);
    }
    map_fini(&cm->entries);
    stat_group_fini(&cm->stats);
    eds_fini(&cm->eds);
    for (struct warm_waiter *w = cm->waiters, *next; w; w = next) {
        next = w->next;
        free(w->name);
        free(w);
    }
    map_each (e, &cm->resolvers) {
        resolver_free(e->val);
    }
    map_fini(&cm->resolvers);
    cm->env->cm = NULL;
    mailbox_close(cm->env->main); /* clusters that are freed from now on go at once */
    cluster_env_unref(cm->env);
    free(cm);
}

struct cluster_env *cluster_manager_env(struct cluster_manager *cm)
{
    return cm->env;
}

/* ---- workers ---- */

void cluster_manager_add_worker(struct cluster_manager *cm, struct upstream_worker *w)
{
    list_push(&cm->workers, &w->link);
}

void cluster_manager_del_worker(struct cluster_manager *cm, struct upstream_worker *w)
{
    list_del(&w->link);
}

static void tell_workers(struct cluster_manager *cm, enum worker_news what, struct cluster *c,
                         struct endpoint_set *set)
{
    list_each (it, &cm->workers) {
        worker_tell(container_of(it, struct upstream_worker, link), what, c, set);
    }
}

void cluster_manager_each_active(struct cluster_manager *cm,
                                 void (*fn)(void *arg, struct cluster *c, struct endpoint_set *s),
                                 void *arg)
{
    map_each (e, &cm->entries) {
        struct cluster_version *v = ((struct cluster_entry *)e->val)->active;
        if (v)
            fn(arg, v->cluster, v->set);
    }
}

void cluster_manager_tls_wanted(struct cluster *c, uint32_t transport)
{
    cluster_tls_make(c, transport);
    if (c->env->cm)
        tell_workers(c->env->cm, WORKER_TLS, c, NULL);
}

/* ---- outliers ---- */

static struct cluster_version *version_of(const struct cluster_manager *cm, const struct cluster *c)
{
    struct cluster_entry *e = cm ? map_get(&cm->entries, c->name) : NULL;
    return e && e->active && e->active->cluster == c ? e->active : NULL;
}

static void on_health(struct cluster_version *v)
{
    struct cluster_entry *e = v->owner;
    if (e->active == v)
        tell_workers(e->cm, WORKER_HEALTH, v->cluster, NULL);
}

static void on_ejections(void *arg)
{
    on_health(arg);
}

void cluster_manager_outlier_used(struct cluster *c)
{
    struct cluster_version *v = version_of(c->env->cm, c);
    if (v && !v->outlier)
        v->outlier = outlier_new(c->env->cm->opts.main, c, v->set, on_ejections, v);
}

void cluster_manager_outlier_hit(struct cluster *c, const struct endpoint_state *s,
                                 enum outlier_kind k)
{
    struct cluster_version *v = version_of(c->env->cm, c);
    if (v && v->outlier)
        outlier_hit(v->outlier, s, k);
}

void cluster_manager_host_failing(struct cluster *c, struct endpoint_state *s)
{
    struct cluster_version *v = version_of(c->env->cm, c);
    if (v && v->health)
        health_checker_fail(v->health, s);
}

const struct outlier *cluster_manager_outlier(const struct cluster_manager *cm,
                                              const struct cluster *c)
{
    const struct cluster_version *v = version_of(cm, c);
    return v ? v->outlier : NULL;
}

/* ---- warming ---- */

static bool entry_waited_for(const struct cluster_entry *e)
{
    return e && e->warming && e->warming->in_init;
}

static bool all_warm(const struct cluster_manager *cm)
{
    map_each (e, &cm->entries) {
        if (entry_waited_for(e->val))
            return false;
    }
    return true;
}

static bool waiter_due(const struct cluster_manager *cm, const char *name)
{
    return name ? !entry_waited_for(map_get(&cm->entries, sv_of(name))) : all_warm(cm);
}

/* One after the other, looking anew each time: the functions may add waiters and clusters. */
static void check_waiters(struct cluster_manager *cm)
{
    for (struct warm_waiter **at = &cm->waiters; *at;) {
        struct warm_waiter *w = *at;
        if (!waiter_due(cm, w->name)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->fn(w->arg);
        free(w->name);
        free(w);
        at = &cm->waiters;
    }
}

static void wait_warm(struct cluster_manager *cm, char *name, void (*fn)(void *arg), void *arg)
{
    if (waiter_due(cm, name)) {
        free(name);
        fn(arg);
        return;
    }
    struct warm_waiter *w = mem_new(struct warm_waiter), **end = &cm->waiters;
    w->fn = fn;
    w->arg = arg;
    w->name = name;
    while (*end)
        end = &(*end)->next;
    *end = w;
}

void cluster_manager_when_warm(struct cluster_manager *cm, void (*fn)(void *arg), void *arg)
{
    wait_warm(cm, NULL, fn, arg);
}

void cluster_manager_when_one_warm(struct cluster_manager *cm, sv name, void (*fn)(void *arg),
                                   void *arg)
{
    wait_warm(cm, sv_dup(name), fn, arg);
}

static void on_warm(struct cluster_version *v)
{
    struct cluster_entry *e = v->owner;
    struct cluster_version *old = e->active;
    set_versions(e, v, NULL);
    tell_workers(e->cm, WORKER_PUT, v->cluster, v->set);
    cluster_version_free(old);
    check_waiters(e->cm);
}

static void on_endpoints(struct cluster_version *v)
{
    struct cluster_entry *e = v->owner;
    tell_workers(e->cm, WORKER_ENDPOINTS, v->cluster, v->set);
}

/* ---- checking ---- */

/* Whom the cluster asks; NULL when nobody was asked for yet. */
static struct resolver *resolver_of(struct cluster_manager *cm, const struct cluster_config *cfg)
{
    return cm->opts.resolver
               ? cm->opts.resolver
               : map_get(&cm->resolvers, cfg->dns.servers ? sv_of(cfg->dns.servers) : SV(""));
}

static int need_resolver(struct cluster_manager *cm, const struct cluster_config *cfg,
                         struct error *err)
{
    if (resolver_of(cm, cfg) ||
        (cfg->type != CLUSTER_STRICT_DNS && cfg->type != CLUSTER_LOGICAL_DNS))
        return 0;
    const char *servers = cfg->dns.servers;
    struct resolver *r = resolver_new(cm->opts.main, servers ? servers : cm->opts.dns_servers,
                                      cm->opts.socket_mark, err);
    if (r) {
        map_put(&cm->resolvers, servers ? sv_of(servers) : SV(""), r);
        return 0;
    }
    error_prefix(err, "cluster '%.*s': type: no name resolution: ", SV_ARG(cfg->name));
    return err ? err->code : E_IO;
}

static struct cluster_config *checked(struct cluster_manager *cm, sv packed, struct error *err,
                                      int *rc)
{
    struct error local = {0};
    if (!err)
        err = &local;
    const struct pb_opts *fields = cm->is_static ? cm->opts.static_fields : cm->opts.dynamic_fields;
    struct cluster_config *cfg = cluster_config_new(packed, fields, err);
    *rc = cfg ? 0 : err->code ? err->code : E_INVALID;
    if (cfg && cfg->type == CLUSTER_EDS &&
        (!cm->opts.eds || (cm->opts.eds->no_ads && !cfg->eds_file.n)))
        *rc = error_set(err, E_UNSUPPORTED,
                        "cluster '%.*s': type: EDS needs a source of endpoints (ADS), and there "
                        "is none",
                        SV_ARG(cfg->name));
    if (*rc == 0)
        *rc = cluster_tls_check(cfg, cm->opts.secrets, err);
    if (*rc == 0)
        *rc = need_resolver(cm, cfg, err);
    if (*rc) {
        cluster_config_free(cfg);
        return NULL;
    }
    return cfg;
}

/* ---- changes ---- */

static bool is_version(const struct cluster_version *v, sv packed)
{
    return v && sv_eq(v->cluster->packed, packed);
}

static struct cluster_entry *entry_for(struct cluster_manager *cm, sv name)
{
    struct cluster_entry *e = map_get(&cm->entries, name);
    if (e)
        return e;
    e = mem_zalloc(sizeof *e + name.n + 1);
    memcpy(e->name, name.p, name.n);
    e->cm = cm;
    map_put(&cm->entries, name, e);
    return e;
}

static void start_version(struct cluster_manager *cm, struct cluster_entry *e, sv packed,
                          const struct cluster_config *cfg)
{
    struct cluster *c = cluster_new(cm->env, packed, cm->is_static);
    struct cluster_version *v = cluster_version_new(c, cm->opts.main), *old = e->warming;
    struct version_env env = {.loop = cm->opts.main,
                              .eds = &cm->eds,
                              .secrets = cm->opts.secrets,
                              .resolver = resolver_of(cm, cfg)};
    cluster_keep_stats(c, e->active ? e->active->cluster : NULL, cfg->stat_name);
    cluster_keep_stats(c, old ? old->cluster : NULL, cfg->stat_name);
    cluster_unref(c);
    v->on_warm = on_warm;
    v->on_endpoints = on_endpoints;
    v->on_health = on_health;
    v->owner = e;
    stat_inc(&cm->stats, e->active || old ? cm_stat_cluster_modified : cm_stat_cluster_added);
    set_versions(e, e->active, v);
    e->updated_wall_ns = loop_wall_ns(cm->opts.main);
    cluster_version_start(v, cfg, &env);
    cluster_version_free(old); /* after: what both need is not let go in between */
}

int cluster_manager_put(struct cluster_manager *cm, sv packed, struct error *err)
{
    int rc;
    struct cluster_config *cfg = checked(cm, packed, err, &rc);
    if (!cfg)
        return rc;
    struct cluster_entry *e = map_get(&cm->entries, cfg->name);
    if (e && e->active && e->active->cluster->is_static && !cm->is_static) {
        rc = error_set(err, E_EXISTS, "cluster '%.*s': is static and cannot be replaced",
                       SV_ARG(cfg->name));
    } else if (e && is_version(e->warming ? e->warming : e->active, packed)) {
        rc = 0;
    } else if (e && is_version(e->active, packed)) {
        struct cluster_version *given_up = e->warming;
        set_versions(e, e->active, NULL); /* back to what is in use */
        cluster_version_free(given_up);
        check_waiters(cm);
    } else {
        start_version(cm, entry_for(cm, cfg->name), packed, cfg);
    }
    cluster_config_free(cfg);
    return rc;
}

int cluster_manager_remove(struct cluster_manager *cm, sv name)
{
    struct cluster_entry *e = map_del(&cm->entries, name);
    if (!e)
        return E_NOT_FOUND;
    if (e->active)
        tell_workers(cm, WORKER_REMOVE, e->active->cluster, NULL);
    stat_inc(&cm->stats, cm_stat_cluster_removed);
    entry_free(e);
    check_waiters(cm);
    return 0;
}

static void count_update(struct eds_user *u, void *arg)
{
    struct cluster *c = container_of(u, struct cluster_version, eds)->cluster;
    cluster_count_update(c, CLUSTER_UPDATE_ATTEMPT);
    cluster_count_update(c, *(enum cluster_update *)arg);
}

static void count_more(struct eds_user *u, void *arg)
{
    cluster_count_update(container_of(u, struct cluster_version, eds)->cluster,
                         *(enum cluster_update *)arg);
}

static int check_assignment(struct cluster_manager *cm, sv packed, struct arena *a, sv *name,
                            struct error *err)
{
    void *pb;
    int rc =
        pb_decode(&envoy_ClusterLoadAssignment_pb, packed, a, cm->opts.dynamic_fields, &pb, err);
    if (rc)
        return rc;
    const struct envoy_ClusterLoadAssignment *cla = pb;
    if (cla->cluster_name.n == 0)
        return error_set(err, E_INVALID, "cluster_name: must not be empty");
    *name = cla->cluster_name;
    const char *path = arena_printf(a, "endpoints of cluster '%.*s'", SV_ARG(cla->cluster_name)).p;
    return endpoint_check(cla, false, path, err);
}

int cluster_manager_endpoints(struct cluster_manager *cm, sv packed, struct error *err)
{
    struct arena a;
    sv name = {0};
    enum cluster_update ok = CLUSTER_UPDATE_SUCCESS, rejected = CLUSTER_UPDATE_REJECTED,
                        same = CLUSTER_UPDATE_NO_REBUILD;
    arena_init(&a);
    int rc = check_assignment(cm, packed, &a, &name, err);
    eds_each_user(&cm->eds, name, count_update, rc ? &rejected : &ok);
    if (rc == 0 && eds_wanted(&cm->eds, name) && !eds_set(&cm->eds, name, packed))
        eds_each_user(&cm->eds, name, count_more, &same);
    arena_free(&a);
    return rc;
}

/* ---- asking ---- */

bool cluster_manager_has(const struct cluster_manager *cm, sv name)
{
    return map_has(&cm->entries, name);
}

bool cluster_manager_warm(const struct cluster_manager *cm, sv name)
{
    const struct cluster_entry *e = map_get(&cm->entries, name);
    return e && e->active;
}

void cluster_manager_set_static(struct cluster_manager *cm, bool is_static)
{
    cm->is_static = is_static;
}

void cluster_manager_each_assignment(const struct cluster_manager *cm,
                                     void (*fn)(void *arg, sv cluster, sv packed), void *arg)
{
    map_each (it, &cm->entries) {
        const struct cluster_entry *e = it->val;
        const struct cluster_version *v = e->active ? e->active : e->warming;
        if (v && v->type == CLUSTER_EDS && v->set && v->set->blob)
            fn(arg, it->key, sv_make(v->set->blob->bytes, v->set->blob->n));
    }
}

void cluster_manager_each(const struct cluster_manager *cm,
                          void (*fn)(void *arg, sv name, sv packed, bool warm, bool is_static,
                                     uint64_t updated_wall_ns),
                          void *arg)
{
    map_each (it, &cm->entries) {
        const struct cluster_entry *e = it->val;
        if (e->active)
            fn(arg, it->key, e->active->cluster->packed, true, e->active->cluster->is_static,
               e->updated_wall_ns);
        if (e->warming)
            fn(arg, it->key, e->warming->cluster->packed, false, e->warming->cluster->is_static,
               e->updated_wall_ns);
    }
}
