#include "proxy/rds.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "filters/registry.h"
#include "proxy/rds_int.h"
#include "upstream/data_source.h"
#include "upstream/upstream.h"

#define DIRECT_RESPONSE_MAX (16u << 20)

LOG_COMPONENT(config);

STAT_GROUP_DEFINE(rds_stats, RDS_STATS);

/* ---- per-filter configuration of routes ---- */

/* Runs on main when a table is checked and on workers when a virtual host is met first: it touches
 * nothing but the arena. */
static int filter_config(void *arg, sv filter, const struct google_Any *any, struct arena *a,
                         const void **out, struct error *err)
{
    const struct rds_manager *m = arg;
    struct filter_ctx x = {.arena = a, .pb = m->o.pb, .runtime = m->o.runtime};
    return registry_route_config(&x, filter, any, out, err);
}

static bool cluster_known(void *arg, sv name)
{
    const struct rds_manager *m = arg;
    return cluster_manager_has(m->o.clusters, name);
}

static int read_file(void *arg, sv path, struct arena *a, sv *out, struct error *err)
{
    return data_source_file(path, DIRECT_RESPONSE_MAX, "filename", a, out, err);
}

struct rds_manager *rds_manager_new(const struct rds_manager_opts *o)
{
    struct rds_manager *m = mem_new(struct rds_manager);
    m->o = *o;
    map_init(&m->dynamic);
    list_init(&m->providers);
    m->table_opts = (struct route_table_opts){
        .filter_config = filter_config,
        .cluster_known = o->clusters ? cluster_known : NULL,
        .arg = m,
        .read_file = read_file,
        .runtime = o->runtime,
    };
    m->static_opts = m->table_opts;
    m->static_opts.check_clusters = true; /* Envoy's default for routes that are not RDS */
    return m;
}

void rds_manager_set_source(struct rds_manager *m, const struct config_source *source)
{
    m->o.source = source;
}

/* ---- views ---- */

static struct rds_view *view_new(struct route_table *t)
{
    struct rds_view *v = mem_new(struct rds_view);
    v->refs = 1;
    v->table = t;
    route_table_ref(t);
    return v;
}

void rds_view_unref(struct rds_view *v)
{
    if (!v || --v->refs)
        return;
    route_table_unref(v->table);
    free(v);
}

struct rds_view *rds_provider_view(struct rds_provider *p, uint32_t index)
{
    struct rds_view *v = p->views[index];
    if (v)
        v->refs++;
    return v;
}

struct publish {
    struct rds_provider *p;
    struct rds_view *view;
    uint32_t index;
};

static void publish_on_worker(void *arg)
{
    struct publish *u = arg;
    rds_view_unref(u->p->views[u->index]);
    u->p->views[u->index] = u->view;
    rds_provider_unref(u->p);
    free(u);
}

/* Before the provider is known to any worker the views are set directly. */
static void set_table(struct rds_provider *p, struct route_table *t, bool published)
{
    route_table_unref(p->table);
    p->table = t;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!published) {
            p->views[i] = view_new(t);
            continue;
        }
        struct publish *u = mem_new(struct publish);
        *u = (struct publish){.p = p, .view = view_new(t), .index = i};
        rds_provider_ref(p);
        loop_post(p->m->o.workers[i], publish_on_worker, u);
    }
    p->updated_wall_ns = loop_wall_ns(p->m->o.main);
    p->given_up = false;
}

/* ---- providers ---- */

static struct rds_provider *provider_new(struct rds_manager *m, sv name, sv stat_prefix)
{
    struct rds_provider *p = mem_zalloc(sizeof *p + sizeof(struct rds_view *) * m->o.n_workers);
    p->refs = 1;
    p->m = m;
    p->n = m->o.n_workers;
    p->name = sv_dup(name);
    p->stat_prefix = sv_dup(stat_prefix);
    map_init(&p->hosts.by_name);
    list_init(&p->waiting);
    list_push(&m->providers, &p->link);
    return p;
}

static void provider_free(struct rds_provider *p)
{
    struct rds_manager *m = p->m;
    rds_hosts_leave(p);
    if (!p->is_static && map_get(&m->dynamic, sv_of(p->name)) == p) {
        map_del(&m->dynamic, sv_of(p->name));
        if (m->o.source)
            m->o.source->ops->unsubscribe(m->o.source->self, CONFIG_RDS, sv_of(p->name));
    }
    list_del(&p->link);
    for (uint32_t i = 0; i < p->n; i++)
        rds_view_unref(p->views[i]);
    route_table_unref(p->table);
    route_table_unref(p->base);
    map_fini(&p->hosts.by_name);
    rds_counts_fini(&p->counts);
    free(p->version);
    free(p->stat_prefix);
    free(p->name);
    free(p);
}

void rds_provider_ref(struct rds_provider *p)
{
    p->refs++;
}

static void unref_on_main(void *arg)
{
    struct rds_provider *p = arg;
    if (--p->refs == 0)
        provider_free(p);
}

/* Counted on main alone: while a reference is on its way there, rds_dynamic() may find the provider
 * again. */
void rds_provider_unref(struct rds_provider *p)
{
    if (p)
        loop_post(p->m->o.main, unref_on_main, p);
}

void rds_manager_free(struct rds_manager *m)
{
    if (!m)
        return;
    m->o.source = NULL;
    list_each_safe (it, &m->providers)
        provider_free(container_of(it, struct rds_provider, link));
    map_fini(&m->dynamic);
    free(m);
}

int rds_static(struct rds_manager *m, sv packed, const char *path, struct rds_provider **out,
               struct error *err)
{
    struct route_table *t;
    int rc = route_table_build(packed, &m->static_opts, &t, err);
    if (rc < 0) {
        error_prefix(err, "%s: ", path);
        return rc;
    }
    uint64_t ignored;
    if (route_table_vhds(t, &ignored)) {
        rc =
            error_set(err, E_UNSUPPORTED,
                      "%s.vhds: only route configurations that come over RDS have virtual hosts of "
                      "their own",
                      path);
        route_table_unref(t);
        return rc;
    }
    struct rds_provider *p = provider_new(m, route_table_name(t), (sv){NULL, 0});
    p->is_static = true;
    set_table(p, t, false);
    *out = p;
    return 0;
}

int rds_dynamic(struct rds_manager *m, sv name, sv stat_prefix,
                const struct envoy_ConfigSource *from, struct rds_provider **out, struct error *err)
{
    if (!m->o.source)
        return error_set(err, E_UNSUPPORTED,
                         "rds '%.*s': dynamic_resources has no source for route configurations",
                         SV_ARG(name));
    const struct config_source *src = m->o.source;
    int rc = src->ops->from ? src->ops->from(src->self, CONFIG_RDS, name, from, err) : 0;
    if (rc < 0) {
        error_prefix(err, "rds '%.*s': ", SV_ARG(name));
        return rc;
    }
    struct rds_provider *p = map_get(&m->dynamic, name);
    if (p) {
        rds_provider_ref(p);
    } else {
        p = provider_new(m, name, stat_prefix);
        map_put(&m->dynamic, name, p);
        m->o.source->ops->subscribe(m->o.source->self, CONFIG_RDS, name);
    }
    *out = p;
    return 0;
}

bool rds_provider_ready(const struct rds_provider *p)
{
    return p->table || p->given_up;
}

static void wake(struct rds_provider *p)
{
    while (!list_empty(&p->waiting)) {
        struct rds_wait *w = container_of(list_first(&p->waiting), struct rds_wait, link);
        list_del(&w->link);
        w->fn(w->arg);
    }
}

void rds_provider_when_ready(struct rds_provider *p, struct rds_wait *w)
{
    list_init(&w->link);
    if (rds_provider_ready(p))
        w->fn(w->arg);
    else
        list_push(&p->waiting, &w->link);
}

void rds_wait_cancel(struct rds_wait *w)
{
    if (w->link.next)
        list_del(&w->link);
}

/* ---- from the source ---- */

/* Counted as in Envoy: one attempt more than answers. */
void rds_counts_init(struct rds_provider *p, struct rds_counts *c, const char *middle)
{
    if (c->reloads.def || !p->m->o.stats)
        return;
    char text[512], table[300];
    snprintf(text, sizeof text, "http.%s.rds.%s%s.", p->stat_prefix, middle, p->name);
    snprintf(table, sizeof table, "%s%s", middle, p->name); /* so Envoy labels them */
    struct stat_label labels[] = {
        {SV("envoy.http_conn_manager_prefix"), sv_of(p->stat_prefix)},
        {SV("envoy.rds_route_config"), sv_of(table)},
    };
    struct stats_scope *sc = stats_scope_get(
        p->m->o.stats,
        &(struct stats_scope_spec){
            .prefix = sv_of(text), .family = SV("http.rds."), .labels = labels, .n_labels = 2});
    stat_group_init(&c->subscription, &subscription_stats_def, sc);
    stat_group_init(&c->reloads, &rds_stats_def, sc);
    stats_scope_unref(sc);
    stat_group_touch(&c->reloads);
    subscription_asked(&c->subscription);
}

void rds_counts_fini(struct rds_counts *c)
{
    stat_group_fini(&c->subscription);
    stat_group_fini(&c->reloads);
    *c = (struct rds_counts){0};
}

void rds_counts_reload(struct rds_provider *p, struct rds_counts *c)
{
    if (!c->reloads.def)
        return;
    stat_inc(&c->reloads, rds_stats_config_reload);
    stat_gauge_set(&c->reloads, rds_stats_config_reload_time_ms, p->updated_wall_ns / 1000000u);
}

static void taken(struct rds_provider *p, sv version)
{
    free(p->version);
    p->version = sv_dup(version);
    subscription_taken(&p->counts.subscription, version, p->m->o.main);
}

void rds_publish(struct rds_provider *p, struct route_table *t)
{
    set_table(p, t, true);
    rds_counts_reload(p, &p->counts);
    wake(p);
}

/* Takes over the reference. */
static int use(struct rds_provider *p, struct route_table *t, struct error *err)
{
    uint64_t ignored;
    if (route_table_vhds(t, &ignored))
        return rds_hosts_take(p, t, err);
    rds_hosts_leave(p);
    route_table_unref(p->base);
    p->base = t;
    route_table_ref(t);
    rds_publish(p, t);
    return 0;
}

int rds_update(struct rds_manager *m, const struct config_resource *r, struct error *err)
{
    struct rds_provider *p = map_get(&m->dynamic, r->name);
    if (!p)
        return 0; /* nobody needs it any more: it crossed our unsubscription */
    rds_counts_init(p, &p->counts, "");
    if (p->base && sv_eq(route_table_packed(p->base), r->packed)) {
        taken(p, r->version);
        return 0;
    }
    struct route_table *t;
    int rc = route_table_build(r->packed, &m->table_opts, &t, err);
    if (rc == 0 && !sv_eq(route_table_name(t), r->name)) {
        rc = error_set(err, E_INVALID, "route configuration '%.*s' came under the name '%.*s'",
                       SV_ARG(route_table_name(t)), SV_ARG(r->name));
        route_table_unref(t);
    } else if (rc == 0) {
        rc = use(p, t, err);
    }
    if (rc < 0) {
        subscription_rejected(&p->counts.subscription);
        return rc;
    }
    taken(p, r->version);
    log_debug(&log_config, "rds: applied name=%s version=%s", p->name, p->version);
    return 0;
}

void rds_missing(struct rds_manager *m, sv name)
{
    struct rds_provider *p = map_get(&m->dynamic, name);
    if (!p || p->base)
        return;
    rds_counts_init(p, &p->counts, "");
    subscription_timed_out(&p->counts.subscription);
    p->given_up = true;
    wake(p);
}

void rds_each(struct rds_manager *m,
              void (*fn)(void *arg, sv name, const struct route_table *t, bool is_static,
                         sv version, uint64_t updated_wall_ns),
              void *arg)
{
    list_each (it, &m->providers) {
        struct rds_provider *p = container_of(it, struct rds_provider, link);
        if (p->table)
            fn(arg, sv_of(p->name), p->table, p->is_static, sv_of(p->version), p->updated_wall_ns);
    }
}
