/* /config_dump: what is in force, as envoy.admin.v3.ConfigDump.
 *   ?resource=static_clusters      only that field of the dumps, its entries as list
 *   ?mask=bootstrap,last_updated   fields to keep (of the entries, with resource)
 *   ?name_regex=.*                 only entries whose name matches
 *   ?include_eds                   endpoints, too */
#include "proxy/admin/admin.h"

#include <string.h>

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/regex.h"
#include "base/mem.h"
#include "net/loop.h"
#include "proxy/listener_manager.h"
#include "proxy/rds.h"
#include "proxy/server.h"
#include "upstream/upstream.h"

/* A list of messages that grows. */
struct grow {
    const void **v;
    uint32_t n, cap;
};

struct dump {
    struct proxy_server *s;
    struct arena *a;
    struct regex *name;
    sv resource, mask;
    struct grow all; /* google_Any of whole dumps, or of single entries with `resource` */
    bool known_resource;
};

static void push(struct dump *d, struct grow *g, const void *m)
{
    if (g->n == g->cap) {
        const void **old = g->v;
        g->cap = g->cap ? g->cap * 2 : 16;
        g->v = arena_alloc(d->a, sizeof(void *) * g->cap);
        if (g->n)
            memcpy(g->v, old, sizeof(void *) * g->n);
    }
    g->v[g->n++] = m;
}

static bool wanted(const struct dump *d, sv name)
{
    return !d->name || regex_full(d->name, name);
}

static const struct google_Any *any_of(struct dump *d, const char *type, sv packed)
{
    struct google_Any *any = arena_new(d->a, struct google_Any);
    any->type_url = arena_printf(d->a, "type.googleapis.com/%s", type);
    any->value = arena_sv(d->a, packed);
    return any;
}

static const struct google_Timestamp *when(struct dump *d, uint64_t wall_ns)
{
    return wall_ns ? admin_time(d->a, wall_ns) : NULL;
}

/* ---- masks ---- */

static bool in_mask(sv mask, const char *field)
{
    sv one;
    while (mask.n) {
        sv_cut(mask, ',', &one, &mask);
        sv first;
        sv_cut(sv_trim(one), '.', &first, &one);
        if (sv_eq_c(first, field))
            return true;
    }
    return false;
}

static size_t member_size(const struct pb_field *f)
{
    if (f->label == PB_REPEATED || f->label == PB_MAP)
        return sizeof(void *) + sizeof(uint32_t);
    switch (f->kind) {
    case PB_MESSAGE:
        return sizeof(void *);
    case PB_STRING:
    case PB_BYTES:
        return sizeof(sv);
    case PB_BOOL:
        return sizeof(bool);
    case PB_INT64:
    case PB_UINT64:
    case PB_SINT64:
    case PB_FIXED64:
    case PB_SFIXED64:
    case PB_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

/* A copy with only the fields of the mask: top-level names, as google.protobuf.FieldMask paths. */
static const void *masked(struct dump *d, const struct pb_message *m, const void *msg)
{
    if (!d->mask.n)
        return msg;
    char *copy = arena_alloc(d->a, m->size);
    memcpy(copy, msg, m->size);
    for (uint32_t i = 0; i < m->n_fields; i++) {
        const struct pb_field *f = &m->fields[i];
        if (in_mask(d->mask, f->name))
            continue;
        memset(copy + f->offset, 0, member_size(f));
    }
    return copy;
}

/* A finished dump: as a whole, or taken apart for ?resource=. */
static void add(struct dump *d, const struct pb_message *m, const void *msg)
{
    if (!d->resource.n) {
        push(d, &d->all, pb_any_pack(m, masked(d, m, msg), d->a));
        return;
    }
    const struct pb_field *f = pb_field_by_name(m, d->resource);
    if (!f || f->label != PB_REPEATED || f->kind != PB_MESSAGE)
        return;
    d->known_resource = true;
    struct {
        const void **v;
        uint32_t n;
    } list;
    memcpy(&list, (const char *)msg + f->offset, sizeof list);
    for (uint32_t i = 0; i < list.n; i++)
        push(d, &d->all, pb_any_pack(f->type, masked(d, f->type, list.v[i]), d->a));
}

#define LIST(field, g)                                                                             \
    do {                                                                                           \
        (field).v = (void *)(g).v;                                                                 \
        (field).n = (g).n;                                                                         \
    } while (0)

/* ---- bootstrap ---- */

static void dump_bootstrap(struct dump *d)
{
    struct envoy_BootstrapConfigDump m = {
        .bootstrap = proxy_server_bootstrap(d->s),
        .last_updated = when(d, proxy_server_started_wall_ns(d->s)),
    };
    add(d, &envoy_BootstrapConfigDump_pb, &m);
}

/* ---- clusters ---- */

struct clusters {
    struct dump *d;
    struct grow fixed, active, warming;
};

static void one_cluster(void *arg, sv name, sv packed, bool warm, bool is_static,
                        uint64_t updated_wall_ns)
{
    struct clusters *c = arg;
    struct dump *d = c->d;
    if (!wanted(d, name))
        return;
    const struct google_Any *any = any_of(d, "envoy.config.cluster.v3.Cluster", packed);
    if (is_static) {
        struct envoy_ClustersConfigDump_StaticCluster *m =
            arena_new(d->a, struct envoy_ClustersConfigDump_StaticCluster);
        m->cluster = any;
        m->last_updated = when(d, updated_wall_ns);
        push(d, &c->fixed, m);
        return;
    }
    struct envoy_ClustersConfigDump_DynamicCluster *m =
        arena_new(d->a, struct envoy_ClustersConfigDump_DynamicCluster);
    m->cluster = any;
    m->last_updated = when(d, updated_wall_ns);
    push(d, warm ? &c->active : &c->warming, m);
}

static void dump_clusters(struct dump *d)
{
    struct clusters c = {.d = d};
    struct envoy_ClustersConfigDump m = {.version_info = proxy_server_version(d->s, CONFIG_CDS)};
    cluster_manager_each(proxy_server_clusters(d->s), one_cluster, &c);
    LIST(m.static_clusters, c.fixed);
    LIST(m.dynamic_active_clusters, c.active);
    LIST(m.dynamic_warming_clusters, c.warming);
    add(d, &envoy_ClustersConfigDump_pb, &m);
}

/* ---- endpoints ---- */

struct endpoints {
    struct dump *d;
    struct grow fixed, dynamic;
};

static void one_dynamic(void *arg, sv cluster, sv packed)
{
    struct endpoints *e = arg;
    struct dump *d = e->d;
    if (!wanted(d, cluster))
        return;
    struct envoy_EndpointsConfigDump_DynamicEndpointConfig *m =
        arena_new(d->a, struct envoy_EndpointsConfigDump_DynamicEndpointConfig);
    m->endpoint_config = any_of(d, "envoy.config.endpoint.v3.ClusterLoadAssignment", packed);
    push(d, &e->dynamic, m);
}

/* Endpoints that stand in their cluster. */
static void one_inline(void *arg, sv name, sv packed, bool warm, bool is_static,
                       uint64_t updated_wall_ns)
{
    struct endpoints *e = arg;
    struct dump *d = e->d;
    struct pb_opts o = {.allow_unknown = true};
    void *m;
    if (!wanted(d, name) || pb_decode(&envoy_Cluster_pb, packed, d->a, &o, &m, NULL) < 0)
        return;
    const struct envoy_ClusterLoadAssignment *cla = ((struct envoy_Cluster *)m)->load_assignment;
    if (!cla)
        return;
    struct envoy_EndpointsConfigDump_StaticEndpointConfig *c =
        arena_new(d->a, struct envoy_EndpointsConfigDump_StaticEndpointConfig);
    c->endpoint_config = pb_any_pack(&envoy_ClusterLoadAssignment_pb, cla, d->a);
    push(d, &e->fixed, c);
}

static void dump_endpoints(struct dump *d)
{
    struct endpoints e = {.d = d};
    struct envoy_EndpointsConfigDump m = {0};
    cluster_manager_each(proxy_server_clusters(d->s), one_inline, &e);
    cluster_manager_each_assignment(proxy_server_clusters(d->s), one_dynamic, &e);
    LIST(m.static_endpoint_configs, e.fixed);
    LIST(m.dynamic_endpoint_configs, e.dynamic);
    add(d, &envoy_EndpointsConfigDump_pb, &m);
}

/* ---- listeners ---- */

struct listeners {
    struct dump *d;
    struct grow fixed, dynamic;
};

static struct envoy_ListenersConfigDump_DynamicListener *dynamic_listener(struct listeners *l,
                                                                          sv name)
{
    for (uint32_t i = 0; i < l->dynamic.n; i++) {
        struct envoy_ListenersConfigDump_DynamicListener *m = (void *)(uintptr_t)l->dynamic.v[i];
        if (sv_eq(m->name, name))
            return m;
    }
    struct envoy_ListenersConfigDump_DynamicListener *m =
        arena_new(l->d->a, struct envoy_ListenersConfigDump_DynamicListener);
    m->name = arena_sv(l->d->a, name);
    push(l->d, &l->dynamic, m);
    return m;
}

static const struct envoy_UpdateFailureState *failure(struct dump *d, const struct listener_view *v)
{
    struct envoy_UpdateFailureState *f = arena_new(d->a, struct envoy_UpdateFailureState);
    f->details = arena_sv(d->a, sv_of(v->error));
    f->version_info = arena_sv(d->a, v->error_version);
    f->last_update_attempt = when(d, v->error_wall_ns);
    return f;
}

static void one_listener(void *arg, const struct listener_view *v)
{
    struct listeners *l = arg;
    struct dump *d = l->d;
    if (!wanted(d, v->name))
        return;
    const struct google_Any *any = any_of(d, "envoy.config.listener.v3.Listener", v->packed);
    if (v->is_static) {
        struct envoy_ListenersConfigDump_StaticListener *m =
            arena_new(d->a, struct envoy_ListenersConfigDump_StaticListener);
        m->listener = any;
        m->last_updated = when(d, v->updated_wall_ns);
        push(d, &l->fixed, m);
        return;
    }
    struct envoy_ListenersConfigDump_DynamicListenerState *st =
        arena_new(d->a, struct envoy_ListenersConfigDump_DynamicListenerState);
    st->version_info = arena_sv(d->a, v->version);
    st->listener = any;
    st->last_updated = when(d, v->updated_wall_ns);
    struct envoy_ListenersConfigDump_DynamicListener *m = dynamic_listener(l, v->name);
    if (v->state == LISTENER_ACTIVE)
        m->active_state = st;
    else
        m->warming_state = st;
    if (v->error)
        m->error_state = failure(d, v);
}

static void dump_listeners(struct dump *d)
{
    struct listeners l = {.d = d};
    struct envoy_ListenersConfigDump m = {.version_info = proxy_server_version(d->s, CONFIG_LDS)};
    listener_manager_each(proxy_server_listeners(d->s), one_listener, &l);
    LIST(m.static_listeners, l.fixed);
    LIST(m.dynamic_listeners, l.dynamic);
    add(d, &envoy_ListenersConfigDump_pb, &m);
}

/* ---- routes ---- */

static void one_route(void *arg, sv name, const struct route_table *t, bool is_static, sv version,
                      uint64_t updated_wall_ns)
{
    struct listeners *l = arg;
    struct dump *d = l->d;
    if (!wanted(d, name))
        return;
    const struct google_Any *any =
        any_of(d, "envoy.config.route.v3.RouteConfiguration", route_table_whole(t, d->a));
    if (is_static) {
        struct envoy_RoutesConfigDump_StaticRouteConfig *m =
            arena_new(d->a, struct envoy_RoutesConfigDump_StaticRouteConfig);
        m->route_config = any;
        m->last_updated = when(d, updated_wall_ns);
        push(d, &l->fixed, m);
        return;
    }
    struct envoy_RoutesConfigDump_DynamicRouteConfig *m =
        arena_new(d->a, struct envoy_RoutesConfigDump_DynamicRouteConfig);
    m->version_info = arena_sv(d->a, version);
    m->route_config = any;
    m->last_updated = when(d, updated_wall_ns);
    push(d, &l->dynamic, m);
}

static void dump_routes(struct dump *d)
{
    struct listeners l = {.d = d};
    struct envoy_RoutesConfigDump m = {0};
    rds_each(proxy_server_rds(d->s), one_route, &l);
    LIST(m.static_route_configs, l.fixed);
    LIST(m.dynamic_route_configs, l.dynamic);
    add(d, &envoy_RoutesConfigDump_pb, &m);
}

/* ---- secrets: certificates are public, keys are not shown ---- */

static const struct envoy_DataSource *inline_bytes(struct dump *d, sv v)
{
    struct envoy_DataSource *s = arena_new(d->a, struct envoy_DataSource);
    s->which_specifier = envoy_DataSource_inline_bytes_tag;
    s->inline_bytes = v;
    return s;
}

static const struct google_Any *secret_any(struct dump *d, const struct tls_secret *s)
{
    struct envoy_Secret *m = arena_new(d->a, struct envoy_Secret);
    m->name = s->name;
    if (s->kind == TLS_SECRET_CERT) {
        struct envoy_TlsCertificate *c = arena_new(d->a, struct envoy_TlsCertificate);
        c->certificate_chain = inline_bytes(d, s->cert.chain_pem);
        c->private_key = inline_bytes(d, SV("[redacted]"));
        m->which_type = envoy_Secret_tls_certificate_tag;
        m->tls_certificate = c;
    } else if (s->kind == TLS_SECRET_VALIDATION) {
        struct envoy_CertificateValidationContext *c =
            arena_new(d->a, struct envoy_CertificateValidationContext);
        c->trusted_ca = inline_bytes(d, s->validation.ca_pem);
        m->which_type = envoy_Secret_validation_context_tag;
        m->validation_context = c;
    }
    return pb_any_pack(&envoy_Secret_pb, m, d->a);
}

struct secrets {
    struct dump *d;
    struct grow fixed, active, warming;
};

static void one_secret(void *arg, sv name, sv config, struct tls_secret *s)
{
    struct secrets *x = arg;
    struct dump *d = x->d;
    if (!wanted(d, name))
        return;
    uint64_t at = s ? (uint64_t)s->updated_s * 1000000000u : 0;
    if (s && !config.n) {
        struct envoy_SecretsConfigDump_StaticSecret *m =
            arena_new(d->a, struct envoy_SecretsConfigDump_StaticSecret);
        m->name = name;
        m->last_updated = when(d, at);
        m->secret = secret_any(d, s);
        push(d, &x->fixed, m);
        return;
    }
    struct envoy_SecretsConfigDump_DynamicSecret *m =
        arena_new(d->a, struct envoy_SecretsConfigDump_DynamicSecret);
    m->name = name;
    if (s) {
        m->version_info = arena_printf(d->a, "%llu", (unsigned long long)s->version);
        m->last_updated = when(d, at);
        m->secret = secret_any(d, s);
    }
    push(d, s ? &x->active : &x->warming, m);
}

static void dump_secrets(struct dump *d)
{
    struct secrets x = {.d = d};
    struct envoy_SecretsConfigDump m = {0};
    tls_secret_store_each(proxy_server_secrets(d->s), one_secret, &x);
    LIST(m.static_secrets, x.fixed);
    LIST(m.dynamic_active_secrets, x.active);
    LIST(m.dynamic_warming_secrets, x.warming);
    add(d, &envoy_SecretsConfigDump_pb, &m);
}

/* ---- all of it ---- */

static void run(struct dump *d, bool with_eds)
{
    dump_bootstrap(d);
    dump_clusters(d);
    if (with_eds)
        dump_endpoints(d);
    dump_listeners(d);
    dump_routes(d);
    dump_secrets(d);
}

void admin_config_dump(struct proxy_server *s, struct serve_request *r)
{
    struct arena a;
    struct error err = {0};
    struct dump d = {
        .s = s, .resource = serve_query(r, SV("resource")), .mask = serve_query(r, SV("mask"))};
    sv pattern = serve_query(r, SV("name_regex"));
    if (pattern.n && regex_new(pattern, 0, &d.name, &err) < 0) {
        serve_reply_text(r, 400, "Error while parsing name_regex from config dump: %s\n", err.msg);
        return;
    }
    arena_init(&a);
    d.a = &a;
    run(&d, admin_has_param(r, SV("include_eds")));
    regex_free(d.name);
    if (d.resource.n && !d.known_resource) {
        serve_reply_text(r, 404, "%.*s not found in config dump\n", SV_ARG(d.resource));
        arena_free(&a);
        return;
    }
    struct envoy_ConfigDump m = {0};
    struct strbuf b;
    LIST(m.configs, d.all);
    strbuf_init(&b, ADMIN_TEXT_MAX);
    admin_json(&envoy_ConfigDump_pb, &m, &b);
    arena_free(&a);
    serve_reply_strbuf(r, 200, ADMIN_JSON, &b);
}
