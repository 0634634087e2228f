/* Outbound resources, made once for each scope and shared by the proxies of it. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "mesh/push/blob_table.h"

LOG_COMPONENT(push_scope);

/* ---- making ---- */

struct making {
    struct push_scope *c;
    enum xds_type type;
};

static void make_complete(void *arg, struct arena *a, translate_emit emit, void *to)
{
    const struct making *k = arg;
    const struct push *p = k->c->push;

    switch (k->type) {
    case XDS_CDS:
        translate_clusters_outbound(p->t, p->m, &k->c->view, a, emit, to);
        break;
    case XDS_LDS:
        translate_listeners_outbound(p->t, p->m, &k->c->view, a, emit, to);
        break;
    case XDS_NDS:
        emit(to, (sv){NULL, 0}, translate_names(p->t, p->m, &k->c->view, a));
        break;
    default:
        break;
    }
}

static void replace(struct push_scope *c, enum xds_type t, struct id_list *changed)
{
    struct making k = {c, t};
    blob_table_replace(&c->t[t], c->push->names, t, make_complete, &k, changed);
}

/* The others are complete lists. gRPC clients ask for everything by name. */
static bool by_name(const struct push_scope *c, enum xds_type t)
{
    return t == XDS_EDS || t == XDS_RDS || (c->view.grpc && (t == XDS_LDS || t == XDS_CDS));
}

static bool translate_named(const struct push_scope *c, enum xds_type t, sv name, struct arena *a,
                            sv *packed, translate_problem report, void *arg)
{
    const struct push *p = c->push;

    if (t == XDS_EDS)
        return translate_endpoints(p->t, p->m, &c->view, name, a, packed);
    if (!c->view.grpc)
        return t == XDS_RDS && translate_routes(p->t, p->m, &c->view, name, a, packed);
    return translate_grpc(p->t, p->m, &c->view,
                          t == XDS_LDS   ? TRANSLATE_GRPC_LISTENER
                          : t == XDS_RDS ? TRANSLATE_GRPC_ROUTES
                                         : TRANSLATE_GRPC_CLUSTER,
                          name, a, packed, report, arg);
}

/* ---- tables whose virtual hosts go on their own ---- */

struct hosts_made {
    struct push_scope *c;
    struct own_list now;
};

static void keep_host(void *arg, sv name, sv packed)
{
    struct hosts_made *k = arg;
    struct own_list *l = &k->now;

    if ((l->n & (l->n - 1)) == 0) /* grows at powers of two */
        l->v = mem_realloc(l->v, (l->n ? l->n * 2 : 1) * sizeof *l->v);
    l->v[l->n++] = blob_table_make(&k->c->t[XDS_VHDS], k->c->push->names, XDS_VHDS, name, packed);
}

static struct own_list *hosts_slot(struct push_scope *c, uint32_t id)
{
    if (id >= c->hosts_cap) {
        uint32_t cap = id + 16;
        c->hosts = mem_realloc(c->hosts, cap * sizeof *c->hosts);
        memset(c->hosts + c->hosts_cap, 0, (cap - c->hosts_cap) * sizeof *c->hosts);
        c->hosts_cap = cap;
    }
    return &c->hosts[id];
}

/* The table's virtual hosts are `now`; notes those that came, went or changed. */
static void put_hosts(struct push_scope *c, uint32_t id, struct own_list now)
{
    struct blob_table *table = &c->t[XDS_VHDS];
    struct id_list *changed = &c->changed[XDS_VHDS];
    struct own_list *slot = hosts_slot(c, id), old = *slot;
    struct xds_names *names = c->push->names;

    *slot = now;
    for (uint32_t i = 0; i < now.n; i++) {
        if (!blob_table_get(table, now.v[i]->id))
            id_list_add(changed, names, XDS_VHDS, now.v[i]->id);
    }
    for (uint32_t i = 0; i < old.n; i++)
        blob_table_set(table, old.v[i]->id, NULL);
    for (uint32_t i = 0; i < now.n; i++)
        blob_table_set(table, now.v[i]->id, xds_blob_ref(now.v[i]));
    for (uint32_t i = 0; i < old.n; i++) {
        if (blob_table_get(table, old.v[i]->id) != old.v[i])
            id_list_add(changed, names, XDS_VHDS, old.v[i]->id);
        xds_blob_unref(old.v[i]);
    }
    free(old.v);
}

/* ---- resources that go by name ---- */

/* One as it is now; the caller's reference, or NULL. Of a table, its virtual hosts with it. */
static struct xds_blob *make_named(struct push_scope *c, enum xds_type t, uint32_t id, sv name)
{
    const struct push *p = c->push;
    bool apart = t == XDS_RDS && c->view.hosts != TRANSLATE_HOSTS_INSIDE;
    struct hosts_made hosts = {.c = c};
    struct xds_blob *b = NULL;
    struct arena a;
    sv packed;

    arena_init(&a);
    if (apart ? translate_routes_apart(p->t, p->m, &c->view, name, &a, keep_host, &hosts, &packed)
              : translate_named(c, t, name, &a, &packed, NULL, NULL))
        b = blob_table_make(&c->t[t], p->names, t, name, packed);
    if (apart)
        put_hosts(c, id, hosts.now);
    arena_free(&a);
    return b;
}

/* ---- what clients cannot do ---- */

static void log_problem(void *arg, const struct model_problem *p)
{
    log_warn(&log_push_scope, "not for gRPC clients: %.*s", SV_ARG(p->text));
}

static void problems_of(const struct push_scope *c, enum xds_type t, sv name, translate_problem fn,
                        void *arg)
{
    struct arena a;
    sv packed;

    if (!c->view.grpc || (t != XDS_RDS && t != XDS_CDS))
        return;
    arena_init(&a);
    translate_named(c, t, name, &a, &packed, fn, arg);
    arena_free(&a);
}

void push_scope_problems(struct push_scope *c, translate_problem fn, void *arg)
{
    const struct id_list *asked = &c->t[XDS_RDS].asked;

    for (uint32_t i = 0; i < asked->n; i++) {
        sv name = xds_names_text(c->push->names, XDS_RDS, asked->v[i]);
        problems_of(c, XDS_RDS, name, fn, arg);
        problems_of(c, XDS_CDS, name, fn, arg); /* a cluster that is refused is not kept */
    }
}

/* ---- asking ---- */

void push_scope_list(struct push_scope *c, enum xds_type t,
                     void (*add)(void *arg, struct xds_blob *b), void *arg)
{
    if (by_name(c, t))
        return;
    if (!c->t[t].listed)
        replace(c, t, NULL);
    blob_table_each(&c->t[t], add, arg);
}

void push_scope_list_hosts(struct push_scope *c, const struct ads_session *session,
                           void (*add)(void *arg, struct xds_blob *b), void *arg)
{
    for (uint32_t id = 0; id < c->hosts_cap; id++) {
        const struct own_list *l = &c->hosts[id];
        if (!l->n || !ads_session_has(session, XDS_RDS, xds_host_table(l->v[0]->name)))
            continue;
        for (uint32_t i = 0; i < l->n; i++)
            add(arg, l->v[i]);
    }
}

struct xds_blob *push_scope_find(struct push_scope *c, enum xds_type t, uint32_t id, sv name)
{
    struct xds_blob *b = blob_table_get(&c->t[t], id);

    if (b || !by_name(c, t))
        return b;
    /* Names come from proxies: what does not exist is asked for again each time, and not kept. */
    b = make_named(c, t, id, name);
    problems_of(c, t, name, log_problem, NULL);
    if (!b)
        return NULL;
    blob_table_set(&c->t[t], id, b);
    id_list_add(&c->t[t].asked, c->push->names, t, id);
    return b;
}

/* ---- changes ---- */

/* "outbound|80|v1|host": endpoints of one of the hosts. */
static bool concerns(sv name, const struct map *hosts)
{
    return map_has(hosts, sv_from(name, (size_t)(sv_rfind(name, '|') + 1)));
}

static void refresh_named(struct push_scope *c, enum xds_type t, const struct map *hosts)
{
    struct xds_names *names = c->push->names;
    struct blob_table *table = &c->t[t];
    uint32_t kept = 0;

    for (uint32_t i = 0; i < table->asked.n; i++) {
        uint32_t id = table->asked.v[i];
        sv name = xds_names_text(names, t, id);
        if (hosts && !concerns(name, hosts)) {
            table->asked.v[kept++] = id;
            continue;
        }
        struct xds_blob *b = make_named(c, t, id, name);
        if (blob_table_set(table, id, b)) {
            id_list_add(&c->changed[t], names, t, id);
            problems_of(c, t, name, log_problem, NULL);
        }
        if (b)
            table->asked.v[kept++] = id;
        else
            xds_names_unref(names, t, id);
    }
    table->asked.n = kept;
}

void push_scope_refresh(struct push_scope *c, uint32_t types, const sv *hosts, uint32_t n_hosts)
{
    struct map only;

    map_init_borrow(&only);
    for (uint32_t i = 0; i < n_hosts; i++)
        map_put(&only, hosts[i], c);
    for (int t = 0; t < XDS_TYPES; t++)
        id_list_reset(&c->changed[t], c->push->names, (enum xds_type)t);
    for (int t = 0; t < XDS_TYPES; t++) {
        if (!(types & TYPE_BIT(t)))
            continue;
        if (by_name(c, (enum xds_type)t))
            refresh_named(c, (enum xds_type)t, t == XDS_EDS && n_hosts ? &only : NULL);
        else if (c->t[t].listed)
            replace(c, (enum xds_type)t, &c->changed[t]);
    }
    map_fini(&only);
}

/* ---- entering and leaving ---- */

static bool matters(const struct push *p, sv key)
{
    for (uint32_t i = 0; i < p->n_label_keys; i++) {
        if (sv_eq(p->label_keys[i], key))
            return true;
    }
    return false;
}

/* Its listeners name it: they are shared by its replicas alone. */
static bool traced(const struct push_stream *s)
{
    return translate_traces(s->push->t) && !s->proxy.grpc;
}

static sv key_of(const struct push_stream *s, struct strbuf *out)
{
    const struct translate_proxy *p = &s->proxy;

    strbuf_addf(out, "%.*s,%u,%d%d%d%d,%.*s/%.*s/%.*s,%.*s", SV_ARG(p->ns), p->outbound_port,
                p->dns_capture, p->weft, p->grpc, p->hosts, SV_ARG(p->region), SV_ARG(p->zone),
                SV_ARG(p->sub_zone), SV_ARG(p->network));
    for (uint32_t i = 0; i < s->proxy.labels.n; i++) {
        const struct model_label *l = &s->proxy.labels.v[i];
        if (matters(s->push, l->key))
            strbuf_addf(out, ",%.*s=%.*s", SV_ARG(l->key), SV_ARG(l->value));
    }
    if (traced(s))
        strbuf_addf(out, ",%.*s,%.*s,%.*s,%.*s,%.*s", SV_ARG(p->cluster),
                    SV_ARG(p->canonical_service), SV_ARG(p->canonical_revision),
                    SV_ARG(p->cluster_id), SV_ARG(p->mesh_id));
    return strbuf_sv(out);
}

static struct push_scope *scope_new(const struct push_stream *s, sv key)
{
    struct push_scope *c = mem_new(struct push_scope);
    struct model_label *labels;

    c->push = s->push;
    arena_init(&c->arena);
    c->key = arena_sv(&c->arena, key);
    c->view = (struct translate_proxy){.ns = arena_sv(&c->arena, s->proxy.ns),
                                       .outbound_port = s->proxy.outbound_port,
                                       .inbound_port = s->proxy.inbound_port,
                                       .region = arena_sv(&c->arena, s->proxy.region),
                                       .zone = arena_sv(&c->arena, s->proxy.zone),
                                       .sub_zone = arena_sv(&c->arena, s->proxy.sub_zone),
                                       .network = arena_sv(&c->arena, s->proxy.network),
                                       .dns_capture = s->proxy.dns_capture,
                                       .grpc = s->proxy.grpc,
                                       .weft = s->proxy.weft,
                                       .hosts = s->proxy.hosts};
    if (traced(s)) {
        c->view.cluster = arena_sv(&c->arena, s->proxy.cluster);
        c->view.canonical_service = arena_sv(&c->arena, s->proxy.canonical_service);
        c->view.canonical_revision = arena_sv(&c->arena, s->proxy.canonical_revision);
        c->view.cluster_id = arena_sv(&c->arena, s->proxy.cluster_id);
        c->view.mesh_id = arena_sv(&c->arena, s->proxy.mesh_id);
    }
    labels = arena_array(&c->arena, struct model_label, s->proxy.labels.n + 1);
    for (uint32_t i = 0; i < s->proxy.labels.n; i++) {
        const struct model_label *l = &s->proxy.labels.v[i];
        if (matters(s->push, l->key))
            labels[c->view.labels.n++] =
                (struct model_label){arena_sv(&c->arena, l->key), arena_sv(&c->arena, l->value)};
    }
    c->view.labels.v = labels;
    return c;
}

static void scope_free(struct push_scope *c)
{
    for (uint32_t id = 0; id < c->hosts_cap; id++) {
        for (uint32_t i = 0; i < c->hosts[id].n; i++)
            xds_blob_unref(c->hosts[id].v[i]);
        free(c->hosts[id].v);
    }
    free(c->hosts);
    for (int t = 0; t < XDS_TYPES; t++) {
        id_list_reset(&c->changed[t], c->push->names, (enum xds_type)t);
        blob_table_free(&c->t[t], c->push->names, (enum xds_type)t);
    }
    map_del(&c->push->scopes, c->key);
    arena_free(&c->arena);
    free(c);
}

void push_scope_enter(struct push_stream *s)
{
    struct push_scope *c;
    struct strbuf text;
    sv key;

    strbuf_init(&text, 65536);
    key = key_of(s, &text);
    c = map_get(&s->push->scopes, key);
    if (!c) {
        c = scope_new(s, key);
        map_put(&s->push->scopes, c->key, c);
    }
    strbuf_fini(&text);
    c->streams++;
    push_scope_leave(s);
    s->scope = c;
}

void push_scope_leave(struct push_stream *s)
{
    struct push_scope *c = s->scope;

    s->scope = NULL;
    if (c && --c->streams == 0)
        scope_free(c);
}

bool push_scope_keys_changed(struct push *p)
{
    struct arena a;
    const sv *keys;
    uint32_t n;
    bool same;

    arena_init(&a);
    n = translate_label_keys(p->m, &a, &keys);
    same = n == p->n_label_keys;
    for (uint32_t i = 0; i < n && same; i++)
        same = matters(p, keys[i]);
    if (same) {
        arena_free(&a);
        return false;
    }
    arena_free(&p->keys_arena);
    p->keys_arena = a;
    p->label_keys = keys;
    p->n_label_keys = n;
    return true;
}
