#include "upstream/cluster_version.h"

#include "base/mem.h"

#define SECRET_TIMEOUT_MS 15000

struct secret_wait {
    struct tls_secret_user user;
    struct cluster_version *version;
    bool have;
};

static void on_health(void *arg);
static void forgive(void *arg, struct endpoint_state *s);

static void set_endpoints(struct cluster_version *v, struct endpoint_blob *b)
{
    struct endpoint_set *old = v->set;
    v->set = endpoint_set_new(v->cluster, b);
    if (v->health)
        health_checker_set_endpoints(v->health, v->set);
    else if (v->checked)
        v->health = health_checker_new(v->timeout.loop, v->cluster, v->set, on_health, forgive, v);
    endpoint_set_unref(old);
}

static void check_warm(struct cluster_version *v)
{
    bool endpoints = v->type != CLUSTER_EDS || v->set;
    bool names = !v->dns || v->set;
    if (v->starting || v->warm || v->dead)
        return;
    bool healths = !v->checked || (v->health && health_checker_warm(v->health));
    if (!v->timed_out && !(endpoints && names && healths && v->n_missing == 0))
        return;
    v->warm = true;
    timer_cancel(&v->timeout);
    if (!v->set)
        set_endpoints(v, NULL);
    v->on_warm(v);
}

static void on_health(void *arg)
{
    struct cluster_version *v = arg;
    endpoint_set_show(v->set);
    if (v->warm)
        v->on_health(v);
    else
        check_warm(v);
}

static void forgive(void *arg, struct endpoint_state *s)
{
    struct cluster_version *v = arg;
    if (v->outlier)
        outlier_forgive(v->outlier, s);
}

static void on_timeout(struct timer *t)
{
    struct cluster_version *v = container_of(t, struct cluster_version, timeout);
    v->timed_out = true;
    check_warm(v);
}

static void new_endpoints(struct cluster_version *v, struct endpoint_blob *b)
{
    if (v->dead)
        return;
    set_endpoints(v, b);
    if (v->outlier)
        outlier_set_endpoints(v->outlier, v->set);
    if (v->warm)
        v->on_endpoints(v);
    else
        check_warm(v);
}

/* ---- EDS ---- */

static void on_blob(struct eds_user *u, struct endpoint_blob *b)
{
    new_endpoints(container_of(u, struct cluster_version, eds), b);
}

static void start_eds(struct cluster_version *v, const struct cluster_config *cfg)
{
    v->eds.on_blob = on_blob;
    struct endpoint_blob *b = eds_join(v->eds_table, &v->eds, cfg->eds_name, cfg->eds_file);
    if (b && !v->set)
        set_endpoints(v, b);
}

/* ---- DNS ---- */

static void on_names(void *arg, sv packed)
{
    struct cluster_version *v = arg;
    struct endpoint_blob *b = endpoint_blob_new(packed);
    new_endpoints(v, b);
    endpoint_blob_unref(b);
}

/* ---- secrets ---- */

static void on_secret(struct tls_secret_user *u, struct tls_secret *now)
{
    struct secret_wait *s = container_of(u, struct secret_wait, user);
    if (s->have || !now)
        return;
    s->have = true;
    s->version->n_missing--;
    check_warm(s->version);
}

static void count_secret(void *arg, const struct tls_secret_name *name)
{
    (*(uint32_t *)arg)++;
}

struct subscribing {
    struct cluster_version *v;
    struct tls_secret_store *store;
};

static void subscribe(void *arg, const struct tls_secret_name *name)
{
    struct subscribing *s = arg;
    struct secret_wait *w = &s->v->secrets[s->v->n_secrets++];
    w->version = s->v;
    w->user.on_change = on_secret;
    s->v->n_missing++;
    if (tls_secret_subscribe(s->store, name->name, name->config, &w->user) && !w->have) {
        w->have = true;
        s->v->n_missing--;
    }
}

static void start_secrets(struct cluster_version *v, const struct cluster_config *cfg,
                          struct tls_secret_store *store)
{
    uint32_t n = 0;
    if (!store)
        return;
    cluster_tls_secrets(cfg, count_secret, &n);
    if (n == 0)
        return;
    struct subscribing s = {v, store};
    v->secrets = mem_array(struct secret_wait, n);
    cluster_tls_secrets(cfg, subscribe, &s);
}

/* ---- life ---- */

struct cluster_version *cluster_version_new(struct cluster *c, struct loop *l)
{
    struct cluster_version *v = mem_new(struct cluster_version);
    v->cluster = cluster_ref(c);
    timer_init(&v->timeout, l, on_timeout);
    return v;
}

void cluster_version_start(struct cluster_version *v, const struct cluster_config *cfg,
                           const struct version_env *env)
{
    uint64_t wait = cfg->type == CLUSTER_EDS ? cfg->eds_timeout_ms : SECRET_TIMEOUT_MS;
    v->starting = true; /* answers may come from inside these calls */
    v->type = cfg->type;
    v->in_init = cfg->wait_for_warm;
    v->checked = cfg->health.kind != HEALTH_NONE;
    v->eds_table = env->eds;
    if (cfg->type == CLUSTER_EDS)
        start_eds(v, cfg);
    start_secrets(v, cfg, env->secrets);
    if (cfg->type == CLUSTER_STRICT_DNS || cfg->type == CLUSTER_LOGICAL_DNS)
        v->dns = dns_cluster_new(env->loop, env->resolver, v->cluster, cfg, on_names, v);
    if (v->checked && cfg->type == CLUSTER_STATIC)
        set_endpoints(v, NULL);
    v->starting = false;
    if (wait)
        timer_set(&v->timeout, wait);
    check_warm(v);
}

static void on_gone(struct deferred *d)
{
    struct cluster_version *v = container_of(d, struct cluster_version, gone);
    free(v->secrets);
    free(v);
}

void cluster_version_free(struct cluster_version *v)
{
    if (!v)
        return;
    v->dead = true;
    timer_cancel(&v->timeout);
    if (v->eds_table)
        eds_leave(v->eds_table, &v->eds);
    for (uint32_t i = 0; i < v->n_secrets; i++)
        tls_secret_unsubscribe(&v->secrets[i].user);
    dns_cluster_free(v->dns);
    health_checker_free(v->health);
    outlier_free(v->outlier);
    endpoint_set_unref(v->set);
    cluster_unref(v->cluster);
    loop_defer(v->timeout.loop, &v->gone, on_gone);
}
