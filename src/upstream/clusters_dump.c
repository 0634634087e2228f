/* Admin /clusters: as text, and as envoy.admin.v3.Clusters. Clusters that nobody uses are decoded
 * for the occasion and forgotten again. */
#include <stdio.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "base/mem.h"
#include "upstream/address.h"
#include "upstream/cluster_manager.h"

/* A cluster to be shown, used or not. */
struct view {
    struct cluster *cluster;
    const struct cluster_config *cfg;
    const struct endpoint_table *table;
    /* Of an unused one. */
    struct cluster_config *own_cfg;
    struct endpoint_table *own_table;
    struct endpoint_registry own_registry;
    bool own;
};

static void view_open(struct view *v, struct cluster *c, struct endpoint_set *s)
{
    struct cluster_rt *rt = cluster_rt_if_used(c);
    struct pb_opts fields = {.allow_unknown = true};
    *v = (struct view){.cluster = c};
    if (rt) {
        v->cfg = rt->cfg;
        v->table = endpoint_set_table(s);
        return;
    }
    v->own = true;
    endpoint_registry_init(&v->own_registry);
    v->cfg = v->own_cfg = cluster_config_new(c->packed, &fields, NULL);
    if (v->cfg)
        v->table = v->own_table = endpoint_set_build(s, v->cfg, &v->own_registry);
}

static void view_close(struct view *v)
{
    if (!v->own)
        return;
    endpoint_table_free(v->own_table);
    cluster_config_free(v->own_cfg);
    endpoint_registry_fini(&v->own_registry);
}

static sv service_name(const struct cluster_config *cfg)
{
    return cfg->pb->eds_cluster_config ? cfg->pb->eds_cluster_config->service_name : (sv){0};
}

/* ---- one host ---- */

#define HOST_STATS(X)                                                                              \
    X(cx_active, 1, cx_active)                                                                     \
    X(cx_connect_fail, 0, cx_connect_fail)                                                         \
    X(cx_total, 0, cx_total)                                                                       \
    X(rq_active, 1, rq_active)                                                                     \
    X(rq_error, 0, rq_error)                                                                       \
    X(rq_pending_active, 1, rq_pending)                                                            \
    X(rq_success, 0, rq_success)                                                                   \
    X(rq_timeout, 0, rq_timeout)                                                                   \
    X(rq_total, 0, rq_total)

static void rate(struct strbuf *out, double r)
{
    strbuf_addf(out, r < 0 ? "-1" : "%g", r);
}

static void host_text(struct strbuf *out, sv cluster, const struct endpoint *e)
{
    const struct endpoint_info *i = e->info;
    struct endpoint_state *s = i->state;
    uint32_t flags = endpoint_flags(e);
#define LINE(name) strbuf_addf(out, "%.*s::%.*s::" name "::", SV_ARG(cluster), SV_ARG(i->addr_text))
#define TEXT(name, v)                                                                              \
    LINE(name);                                                                                    \
    strbuf_add_sv(out, v);                                                                         \
    strbuf_add_ch(out, '\n')
#define X(name, gauge, field)                                                                      \
    LINE(#name);                                                                                   \
    strbuf_addf(out, "%llu\n",                                                                     \
                (unsigned long long)atomic_load_explicit(&s->field, memory_order_relaxed));
    HOST_STATS(X)
#undef X
    TEXT("hostname", i->hostname);
    LINE("health_flags");
    if (!flags)
        strbuf_add_c(out, "healthy");
    for (int b = 0; b < ENDPOINT_FLAG_COUNT; b++)
        if (flags & 1u << b)
            strbuf_addf(out, "/%s", endpoint_flag_text(b));
    strbuf_add_ch(out, '\n');
    LINE("weight");
    strbuf_addf(out, "%u\n", e->weight);
    TEXT("region", i->region);
    TEXT("zone", i->zone);
    TEXT("sub_zone", i->sub_zone);
    LINE("canary");
    strbuf_add_c(out, i->canary ? "true\n" : "false\n");
    LINE("priority");
    strbuf_addf(out, "%u\n", e->priority);
    LINE("success_rate");
    rate(out, s->outlier.success_rate);
    strbuf_add_ch(out, '\n');
    LINE("local_origin_success_rate");
    rate(out, s->outlier.local_success_rate);
    strbuf_add_ch(out, '\n');
#undef TEXT
#undef LINE
}

/* ---- hosts of a cluster ---- */

typedef void (*host_fn)(void *arg, const struct endpoint *e);

struct adhoc {
    host_fn fn;
    void *arg;
};

static void adhoc_host(void *arg, const struct endpoint_info *i)
{
    struct adhoc *a = arg;
    struct endpoint e = {.info = (struct endpoint_info *)(uintptr_t)i, .weight = 1};
    a->fn(a->arg, &e);
}

static void each_host(const struct view *v, host_fn fn, void *arg)
{
    if (v->cfg->type == CLUSTER_ORIGINAL_DST) {
        struct adhoc a = {fn, arg};
        struct cluster_rt *rt = cluster_rt_if_used(v->cluster);
        if (rt)
            endpoint_registry_each(&rt->registry, adhoc_host, &a);
        return;
    }
    for (uint32_t i = 0; v->table && i < v->table->n; i++)
        fn(arg, &v->table->v[i]);
}

/* ---- text ---- */

struct text_host {
    struct strbuf *out;
    sv cluster;
};

static void host_text_fn(void *arg, const struct endpoint *e)
{
    struct text_host *t = arg;
    host_text(t->out, t->cluster, e);
}

static void cluster_text(const struct cluster_manager *cm, struct view *v, struct strbuf *out)
{
    static const char *const priorities[2] = {"default", "high"};
    sv name = v->cluster->name;
    struct text_host t = {out, name};
    strbuf_addf(out, "%.*s::observability_name::%.*s\n", SV_ARG(name), SV_ARG(v->cfg->stat_name));
    if (v->cfg->outlier.on) {
        struct outlier_rates r = outlier_rates(cluster_manager_outlier(cm, v->cluster));
        const struct {
            const char *name;
            double rate;
        } lines[] = {{"success_rate_average", r.average},
                     {"success_rate_ejection_threshold", r.threshold},
                     {"local_origin_success_rate_average", r.local_average},
                     {"local_origin_success_rate_ejection_threshold", r.local_threshold}};
        for (int i = 0; i < 4; i++) {
            strbuf_addf(out, "%.*s::outlier::%s::", SV_ARG(name), lines[i].name);
            rate(out, lines[i].rate);
            strbuf_add_ch(out, '\n');
        }
    }
    for (int p = 0; p < 2; p++) {
        const uint32_t *max = v->cfg->limits[p].max;
        const struct {
            const char *name;
            uint32_t max;
        } lines[] = {{"max_connections", max[LIMIT_CX]},
                     {"max_pending_requests", max[LIMIT_PENDING]},
                     {"max_requests", max[LIMIT_RQ]},
                     {"max_retries", max[LIMIT_RETRY]}};
        for (int i = 0; i < 4; i++)
            strbuf_addf(out, "%.*s::%s_priority::%s::%u\n", SV_ARG(name), priorities[p],
                        lines[i].name, lines[i].max);
    }
    strbuf_addf(out, "%.*s::added_via_api::%s\n", SV_ARG(name),
                v->cluster->is_static ? "false" : "true");
    sv service = service_name(v->cfg);
    if (service.n)
        strbuf_addf(out, "%.*s::eds_service_name::%.*s\n", SV_ARG(name), SV_ARG(service));
    each_host(v, host_text_fn, &t);
}

struct text_out {
    const struct cluster_manager *cm;
    struct strbuf *out;
};

static void dump_text(void *arg, struct cluster *c, struct endpoint_set *s)
{
    struct text_out *t = arg;
    struct view v;
    view_open(&v, c, s);
    if (v.cfg)
        cluster_text(t->cm, &v, t->out);
    view_close(&v);
}

void cluster_manager_dump_text(struct cluster_manager *cm, struct strbuf *out)
{
    struct text_out t = {cm, out};
    cluster_manager_each_active(cm, dump_text, &t);
}

/* ---- JSON ---- */

struct json_hosts {
    struct arena *a;
    const struct envoy_HostStatus **v;
    uint32_t n, cap;
};

static void json_stats(struct arena *a, struct endpoint_state *s, struct envoy_HostStatus *h)
{
    const struct {
        const char *name;
        int gauge;
        uint64_t value;
    } all[] = {
#define X(name, gauge, field) {#name, gauge, atomic_load_explicit(&s->field, memory_order_relaxed)},
        HOST_STATS(X)
#undef X
    };
    const uint32_t n = sizeof all / sizeof *all;
    h->stats.v = arena_array(a, const struct envoy_SimpleMetric *, n);
    for (int gauge = 0; gauge < 2; gauge++) { /* counters first */
        for (uint32_t i = 0; i < n; i++) {
            if (all[i].gauge != gauge)
                continue;
            struct envoy_SimpleMetric *m = arena_new(a, struct envoy_SimpleMetric);
            m->name = sv_of(all[i].name);
            m->value = all[i].value;
            m->type = gauge ? envoy_SimpleMetric_GAUGE : envoy_SimpleMetric_COUNTER;
            h->stats.v[h->stats.n++] = m;
        }
    }
}

static const struct envoy_HostHealthStatus *json_health(struct arena *a, const struct endpoint *e)
{
    struct envoy_HostHealthStatus *h = arena_new(a, struct envoy_HostHealthStatus);
    uint32_t f = endpoint_flags(e);
    h->failed_active_health_check = f & ENDPOINT_FAILED_ACTIVE_HC;
    h->failed_outlier_check = f & ENDPOINT_FAILED_OUTLIER;
    h->failed_active_degraded_check = f & ENDPOINT_DEGRADED_ACTIVE_HC;
    h->pending_dynamic_removal = f & ENDPOINT_PENDING_REMOVAL;
    h->pending_active_hc = f & ENDPOINT_PENDING_ACTIVE_HC;
    h->excluded_via_immediate_hc_fail = f & ENDPOINT_EXCLUDED_HC_FAIL;
    h->active_hc_timeout = f & ENDPOINT_HC_TIMEOUT;
    h->eds_health_status =
        e->eds_health == envoy_HealthStatus_UNKNOWN ? envoy_HealthStatus_HEALTHY : e->eds_health;
    return h;
}

static const struct envoy_Percent *json_rate(struct arena *a, double r)
{
    if (r < 0)
        return NULL;
    struct envoy_Percent *p = arena_new(a, struct envoy_Percent);
    p->value = r;
    return p;
}

static void host_json(void *arg, const struct endpoint *e)
{
    struct json_hosts *j = arg;
    const struct endpoint_info *i = e->info;
    if (j->n == j->cap) {
        const struct envoy_HostStatus **old = j->v;
        j->cap = j->cap ? j->cap * 2 : 16;
        j->v = arena_array(j->a, const struct envoy_HostStatus *, j->cap);
        if (j->n)
            memcpy(j->v, old, j->n * sizeof *old);
    }
    struct envoy_HostStatus *h = arena_new(j->a, struct envoy_HostStatus);
    struct envoy_Locality *l = arena_new(j->a, struct envoy_Locality);
    /* Copies: infos of ORIGINAL_DST clusters may go before the text is made. */
    l->region = arena_sv(j->a, i->region);
    l->zone = arena_sv(j->a, i->zone);
    l->sub_zone = arena_sv(j->a, i->sub_zone);
    h->hostname = arena_sv(j->a, i->hostname);
    h->address = address_message(j->a, &i->addr);
    json_stats(j->a, i->state, h);
    h->health_status = json_health(j->a, e);
    h->weight = e->weight;
    h->priority = e->priority;
    h->success_rate = json_rate(j->a, i->state->outlier.success_rate);
    h->local_origin_success_rate = json_rate(j->a, i->state->outlier.local_success_rate);
    h->locality = l;
    j->v[j->n++] = h;
}

static const struct google_UInt32Value *u32(struct arena *a, uint32_t v)
{
    struct google_UInt32Value *w = arena_new(a, struct google_UInt32Value);
    w->value = v;
    return w;
}

static const struct envoy_CircuitBreakers *json_breakers(struct arena *a,
                                                         const struct cluster_config *cfg)
{
    struct envoy_CircuitBreakers *b = arena_new(a, struct envoy_CircuitBreakers);
    b->thresholds.v = arena_array(a, const struct envoy_CircuitBreakers_Thresholds *, 2);
    for (int p = 0; p < 2; p++) {
        struct envoy_CircuitBreakers_Thresholds *t =
            arena_new(a, struct envoy_CircuitBreakers_Thresholds);
        t->priority = p;
        t->max_connections = u32(a, cfg->limits[p].max[LIMIT_CX]);
        t->max_pending_requests = u32(a, cfg->limits[p].max[LIMIT_PENDING]);
        t->max_requests = u32(a, cfg->limits[p].max[LIMIT_RQ]);
        t->max_retries = u32(a, cfg->limits[p].max[LIMIT_RETRY]);
        b->thresholds.v[b->thresholds.n++] = t;
    }
    return b;
}

struct json_out {
    const struct cluster_manager *cm;
    struct strbuf *out;
    bool first;
};

/* Cluster by cluster, so that a big mesh is not held in memory twice. */
static void dump_json(void *arg, struct cluster *c, struct endpoint_set *s)
{
    struct json_out *o = arg;
    struct arena a;
    struct view v;
    view_open(&v, c, s);
    arena_init(&a);
    if (v.cfg) {
        struct json_hosts hosts = {.a = &a};
        struct pb_json_opts opts = {.snake_case = true, .pretty = true};
        each_host(&v, host_json, &hosts);
        struct outlier_rates r = outlier_rates(cluster_manager_outlier(o->cm, c));
        struct envoy_ClusterStatus st = {
            .name = c->name,
            .added_via_api = !c->is_static,
            .host_statuses = {hosts.v, hosts.n},
            .circuit_breakers = json_breakers(&a, v.cfg),
            .observability_name = v.cfg->stat_name,
            .eds_service_name = service_name(v.cfg),
            .success_rate_ejection_threshold = json_rate(&a, r.threshold),
            .local_origin_success_rate_ejection_threshold = json_rate(&a, r.local_threshold)};
        if (!o->first)
            strbuf_add_c(o->out, ",\n");
        o->first = false;
        pb_to_json(&envoy_ClusterStatus_pb, &st, &opts, o->out);
    }
    arena_free(&a);
    view_close(&v);
}

void cluster_manager_dump_json(struct cluster_manager *cm, struct strbuf *out)
{
    struct json_out o = {cm, out, true};
    strbuf_add_c(out, "{\n \"cluster_statuses\": [\n");
    cluster_manager_each_active(cm, dump_json, &o);
    strbuf_add_c(out, "\n ]\n}\n");
}
