/* Virtual hosts that come on their own (VHDS), and the tables that are put together of them. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "proxy/rds_int.h"
#include "xds/xds_type.h"

LOG_COMPONENT(config);

/* ---- a table's hosts ---- */

static void drop_hosts(struct map *by_name)
{
    map_each (e, by_name)
        route_hosts_unref(e->val);
    map_fini(by_name);
    map_init(by_name);
}

/* What a response says of one host. */
struct change {
    sv name;
    struct route_hosts *now, *before; /* NULL: none. A reference each */
    struct config_resource *r;        /* NULL: it was removed */
};

/* The changes of one table, which are already in its map. */
struct changes {
    struct rds_provider *p;
    struct change *v;
    uint32_t n;
};

static void put(struct rds_provider *p, sv name, struct route_hosts *h)
{
    if (h)
        map_put(&p->hosts.by_name, name, h);
    else
        map_del(&p->hosts.by_name, name);
}

/* All hosts, those that a response brought last: of two that want one domain it is the later that
 * is refused. Returns how many are not of the response. */
static uint32_t in_order(const struct changes *c, struct route_hosts **out)
{
    struct map fresh;
    uint32_t n = 0;
    map_init_borrow(&fresh);
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->v[i].now)
            map_put(&fresh, c->v[i].name, c->p);
    }
    map_each (e, &c->p->hosts.by_name) {
        if (!map_has(&fresh, e->key))
            out[n++] = e->val;
    }
    map_fini(&fresh);
    uint32_t others = n;
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->v[i].now)
            out[n++] = c->v[i].now;
    }
    return others;
}

static struct change *find_change(struct changes *c, const struct route_hosts *h)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->v[i].now == h)
            return &c->v[i];
    }
    return NULL;
}

static void take_back(struct rds_provider *p, struct change *c)
{
    put(p, c->name, c->before);
    route_hosts_unref(c->now);
    c->now = c->before = NULL;
}

/* The table as it is with the changes; those that do not fit with the others are refused and taken
 * back. NULL when that cannot be, and err says why: only when there was no table before. */
static struct route_table *build(struct changes *c, struct error *err)
{
    struct rds_provider *p = c->p;
    struct route_hosts **v =
        mem_alloc((map_len(&p->hosts.by_name) + 1) * sizeof(struct route_hosts *));
    struct route_table *t = NULL;
    for (;;) {
        uint32_t culprit = 0, others = in_order(c, v), n = map_len(&p->hosts.by_name);
        *err = (struct error){0};
        if (route_table_extend(p->base, v, n, &t, &culprit, err) == 0)
            break;
        struct change *bad = culprit >= others && culprit < n ? find_change(c, v[culprit]) : NULL;
        if (!bad)
            break;
        bad->r->refused = *err;
        take_back(p, bad);
    }
    free(v);
    return t;
}

/* ---- the first ones ---- */

static void publish_base(struct rds_provider *p)
{
    struct changes none = {.p = p};
    struct error err;
    struct route_table *t = build(&none, &err);
    p->hosts.came = true;
    timer_cancel(&p->hosts.wait);
    if (t)
        rds_publish(p, t);
}

static void on_timeout(struct timer *timer)
{
    struct rds_provider *p =
        container_of(container_of(timer, struct rds_hosts, wait), struct rds_provider, hosts);
    log_warn(&log_config, "vhds: no virtual hosts came in time, going on without table=%s",
             p->name);
    subscription_timed_out(&p->hosts.counts.subscription);
    publish_base(p);
}

void rds_provider_give_up(struct rds_provider *p)
{
    if (p->hosts.subscribed && !p->hosts.came && !p->table)
        on_timeout(&p->hosts.wait);
}

static void subscribe(struct rds_provider *p, uint64_t wait_ms)
{
    struct config_source src = *p->m->o.source;
    p->hosts.subscribed = true;
    p->hosts.came = false;
    rds_counts_init(p, &p->hosts.counts, "vhds.");
    timer_init(&p->hosts.wait, p->m->o.main, on_timeout);
    if (wait_ms)
        timer_set(&p->hosts.wait, wait_ms);
    src.ops->subscribe(src.self, CONFIG_VHDS, sv_of(p->name));
}

void rds_hosts_leave(struct rds_provider *p)
{
    if (!p->hosts.subscribed)
        return;
    p->hosts.subscribed = p->hosts.came = false;
    timer_cancel(&p->hosts.wait);
    drop_hosts(&p->hosts.by_name);
    rds_counts_fini(&p->hosts.counts);
    if (p->m->o.source)
        p->m->o.source->ops->unsubscribe(p->m->o.source->self, CONFIG_VHDS, sv_of(p->name));
}

/* The hosts that are there, checked against another base. */
static int check_anew(struct rds_provider *p, const struct route_table *base, struct map *out,
                      struct error *err)
{
    map_each (e, &p->hosts.by_name) {
        struct route_hosts *h;
        int rc = route_hosts_build(base, e->key, route_hosts_packed(e->val), p->m->o.pb, &h, err);
        if (rc < 0) {
            error_prefix(err, "virtual_host '%.*s': ", SV_ARG(e->key));
            return rc;
        }
        map_put(out, e->key, h);
    }
    return 0;
}

int rds_hosts_take(struct rds_provider *p, struct route_table *base, struct error *err)
{
    const struct config_source *src = p->m->o.source;
    struct map hosts, before_hosts = p->hosts.by_name;
    struct route_table *t = NULL, *before = p->base;
    uint64_t wait_ms;
    int rc = 0;
    map_init(&hosts);
    route_table_vhds(base, &wait_ms);
    if (!src || !src->has_vhds)
        rc =
            error_set(err, E_UNSUPPORTED,
                      "route_config '%s': vhds: virtual hosts on their own come over delta streams "
                      "only (ads_config.api_type: DELTA_GRPC)",
                      p->name);
    if (rc == 0)
        rc = check_anew(p, base, &hosts, err);
    if (rc == 0) {
        struct changes none = {.p = p};
        p->base = base;
        p->hosts.by_name = hosts;
        t = build(&none, err);
        rc = t ? 0 : err->code;
        if (rc < 0) {
            p->base = before;
            p->hosts.by_name = before_hosts;
        }
    }
    if (rc < 0) {
        drop_hosts(&hosts);
        route_table_unref(base);
        return rc;
    }
    drop_hosts(&before_hosts);
    route_table_unref(before);
    if (p->hosts.came)
        rds_publish(p, t);
    else
        route_table_unref(t);
    if (!p->hosts.subscribed)
        subscribe(p, wait_ms);
    return 0;
}

/* ---- responses ---- */

static struct rds_provider *table_of(struct rds_manager *m, sv name)
{
    struct rds_provider *p = map_get(&m->dynamic, name);
    return p && p->hosts.subscribed ? p : NULL;
}

/* False when nothing is new. */
static bool take(struct rds_provider *p, struct config_resource *r, struct change *c)
{
    struct route_hosts *before = map_get(&p->hosts.by_name, r->name);
    *c = (struct change){.name = r->name, .r = r};
    if ((before && sv_eq(route_hosts_packed(before), r->packed)) ||
        route_hosts_build(p->base, r->name, r->packed, p->m->o.pb, &c->now, &r->refused) < 0)
        return false;
    c->before = before;
    put(p, c->name, c->now);
    return true;
}

static bool take_away(struct rds_provider *p, sv name, struct change *c)
{
    *c = (struct change){.name = name, .before = map_get(&p->hosts.by_name, name)};
    if (c->before)
        put(p, name, NULL);
    return c->before != NULL;
}

static void count_answer(struct rds_provider *p, bool refused, bool reloaded, sv version)
{
    struct rds_counts *c = &p->hosts.counts;
    if (reloaded)
        rds_counts_reload(p, c);
    if (refused)
        subscription_rejected(&c->subscription);
    else
        subscription_taken(&c->subscription, version, p->m->o.main);
}

/* The part of a response that is for one table. */
static void update_table(struct rds_provider *p, struct config_update *u)
{
    struct changes c = {.p = p, .v = mem_alloc((u->n + u->n_removed + 1) * sizeof(struct change))};
    struct map seen;
    bool refused = false, kept = false;
    struct route_table *t = NULL;
    struct error err;
    sv name = sv_of(p->name);

    map_init_borrow(&seen);
    for (uint32_t i = 0; i < u->n_removed; i++) {
        if (sv_eq(xds_host_table(u->removed[i]), name))
            c.n += take_away(p, u->removed[i], &c.v[c.n]);
    }
    for (uint32_t i = 0; i < u->n; i++) {
        if (!sv_eq(xds_host_table(u->v[i].name), name))
            continue;
        if (map_put(&seen, u->v[i].name, p))
            error_set(&u->v[i].refused, E_EXISTS, "comes twice in one response");
        else
            c.n += take(p, &u->v[i], &c.v[c.n]);
    }
    map_fini(&seen);
    if (c.n || !p->hosts.came)
        t = build(&c, &err);
    for (uint32_t i = 0; i < c.n; i++) {
        kept |= c.v[i].now || c.v[i].before; /* else it was taken back */
        route_hosts_unref(c.v[i].before);
    }
    for (uint32_t i = 0; i < u->n; i++)
        refused |= u->v[i].refused.code && sv_eq(xds_host_table(u->v[i].name), name);
    free(c.v);
    if (t && (kept || !p->hosts.came)) {
        p->hosts.came = true;
        timer_cancel(&p->hosts.wait);
        rds_publish(p, t);
    } else {
        route_table_unref(t);
    }
    count_answer(p, refused, kept, u->version);
    log_debug(&log_config, "vhds: applied table=%s hosts=%u version=%.*s", p->name,
              map_len(&p->hosts.by_name), SV_ARG(u->version));
}

void rds_hosts_update(struct rds_manager *m, struct config_update *u)
{
    struct map touched;
    map_init_borrow(&touched);
    for (uint32_t i = 0; i < u->n_removed; i++) {
        struct rds_provider *p = table_of(m, xds_host_table(u->removed[i]));
        /* The name of the table: it has no virtual hosts. */
        p = p ? p : table_of(m, u->removed[i]);
        if (p)
            map_put(&touched, sv_of(p->name), p);
    }
    for (uint32_t i = 0; i < u->n; i++) {
        struct rds_provider *p = table_of(m, xds_host_table(u->v[i].name));
        if (p)
            map_put(&touched, sv_of(p->name), p);
    }
    map_each (e, &touched)
        update_table(e->val, u);
    map_fini(&touched);
}
