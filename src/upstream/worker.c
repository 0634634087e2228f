#include "upstream/worker.h"

#include "base/mem.h"
#include "upstream/cluster_manager.h"
#include "upstream/http_conn.h"

/* ---- what main tells ---- */

struct news {
    struct mail mail;
    struct upstream_worker *w;
    enum worker_news what;
    struct cluster *cluster;
    struct endpoint_set *set;
};

static void news_free(struct mail *m)
{
    struct news *n = (struct news *)m;
    endpoint_set_unref(n->set);
    cluster_unref(n->cluster);
    free(n);
}

static void entry_set(struct worker_entry *e, struct cluster *c, struct endpoint_set *s)
{
    cluster_ref(c);
    endpoint_set_ref(s);
    endpoint_set_unref(e->set);
    cluster_unref(e->cluster);
    e->cluster = c;
    e->set = s;
}

static void put(struct upstream_worker *w, struct cluster *c, struct endpoint_set *s)
{
    struct worker_entry *e = map_del(&w->entries, c->name);
    if (e)
        core_detach(e);
    else
        e = mem_new(struct worker_entry);
    entry_set(e, c, s);
    map_put(&w->entries, c->name, e); /* the key is the new cluster's */
}

static void entry_free(struct worker_entry *e)
{
    core_detach(e);
    endpoint_set_unref(e->set);
    cluster_unref(e->cluster);
    free(e);
}

static void removed(struct upstream_worker *w, struct cluster *c)
{
    struct worker_entry *e = map_get(&w->entries, c->name);
    if (e && e->cluster == c) {
        map_del(&w->entries, c->name);
        entry_free(e);
    }
}

static void tls_made(struct upstream_worker *w, struct cluster *c)
{
    list_each_safe (it, &w->cores) {
        struct cluster_core *core = container_of(it, struct cluster_core, link);
        if (core->cluster == c)
            connector_tls_made(core);
    }
}

static void news_run(struct mail *m)
{
    struct news *n = (struct news *)m;
    struct upstream_worker *w = n->w;
    struct worker_entry *e = map_get(&w->entries, n->cluster->name);
    bool current = e && e->cluster == n->cluster;
    switch (n->what) {
    case WORKER_PUT:
        put(w, n->cluster, n->set);
        break;
    case WORKER_REMOVE:
        removed(w, n->cluster);
        break;
    case WORKER_ENDPOINTS:
        if (!current)
            break;
        if (e->handle)
            core_update(e, n->set);
        entry_set(e, n->cluster, n->set);
        break;
    case WORKER_HEALTH:
        if (current && e->handle)
            core_health_changed(e->handle->core);
        break;
    case WORKER_TLS:
        tls_made(w, n->cluster);
        break;
    }
    news_free(m);
}

void worker_tell(struct upstream_worker *w, enum worker_news what, struct cluster *c,
                 struct endpoint_set *set)
{
    struct news *n = mem_new(struct news);
    n->mail.run = news_run;
    n->mail.drop = news_free;
    n->w = w;
    n->what = what;
    n->cluster = cluster_ref(c);
    n->set = set ? endpoint_set_ref(set) : NULL;
    mailbox_send(w->mail, &n->mail);
}

/* ---- life ---- */

static void add_known(void *arg, struct cluster *c, struct endpoint_set *s)
{
    put(arg, c, s);
}

struct upstream_worker *upstream_worker_new(struct cluster_manager *cm, struct loop *loop)
{
    struct upstream_worker *w = mem_new(struct upstream_worker);
    w->cm = cm;
    w->env = cluster_manager_env(cm);
    refcount_get(&w->env->ref);
    w->loop = loop;
    w->mail = mailbox_new(loop);
    map_init_borrow(&w->entries);
    map_init_borrow(&w->tcp_conns);
    list_init(&w->cores);
    w->opens = (struct pool){.size = sizeof(struct upstream_open), .cap = 1024};
    w->conns = (struct pool){.size = sizeof(struct http_conn), .cap = 256};
    w->series = stats_cache_new(w->env->stats, 256);
    cluster_manager_each_active(cm, add_known, w);
    cluster_manager_add_worker(cm, w);
    return w;
}

/* After everything that the end has deferred. */
static void on_gone(struct deferred *d)
{
    struct upstream_worker *w = container_of(d, struct upstream_worker, gone);
    if (!list_empty(&w->cores) && w->gone_tries++ < 8) { /* their sweeps come after this */
        loop_defer(w->loop, &w->gone, on_gone);
        return;
    }
    pool_trim(&w->opens, 0);
    pool_trim(&w->conns, 0);
    map_fini(&w->entries);
    map_fini(&w->tcp_conns);
    cluster_env_unref(w->env);
    free(w);
}

void upstream_worker_free(struct upstream_worker *w)
{
    if (!w)
        return;
    cluster_manager_del_worker(w->cm, w);
    mailbox_close(w->mail);
    mailbox_unref(w->mail);
    w->draining = true;
    map_each (e, &w->entries) {
        entry_free(e->val);
    }
    list_each_safe (it, &w->cores) {
        core_destroy(container_of(it, struct cluster_core, link));
    }
    stats_cache_free(w->series);
    w->series = NULL;
    loop_defer(w->loop, &w->gone, on_gone);
}

struct upstream_cluster *upstream_find(struct upstream_worker *w, sv name)
{
    struct worker_entry *e = map_get(&w->entries, name);
    if (!e)
        return NULL;
    struct upstream_cluster *h = e->handle ? e->handle : core_open(w, e);
    upstream_cluster_ref(h);
    return h;
}
