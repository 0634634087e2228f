#include "telemetry/istio_metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/pb_struct.h"
#include "api/stats.pb.h"
#include "base/mem.h"
#include "http/stream_info.h"
#include "route/match.h"
#include "telemetry/stats.h"

#define IDLE_MS     3600000
#define TCP_MS      15000
#define RETRY_EVERY 1024 /* uses of an overflow series before it is asked for again */

/* In the order in which they are shown. */
#define LABELS(X)                                                                                  \
    X(reporter)                                                                                    \
    X(source_workload)                                                                             \
    X(source_canonical_service)                                                                    \
    X(source_canonical_revision)                                                                   \
    X(source_workload_namespace)                                                                   \
    X(source_principal)                                                                            \
    X(source_app)                                                                                  \
    X(source_version)                                                                              \
    X(source_cluster)                                                                              \
    X(destination_workload)                                                                        \
    X(destination_workload_namespace)                                                              \
    X(destination_principal)                                                                       \
    X(destination_app)                                                                             \
    X(destination_version)                                                                         \
    X(destination_service)                                                                         \
    X(destination_canonical_service)                                                               \
    X(destination_canonical_revision)                                                              \
    X(destination_service_name)                                                                    \
    X(destination_service_namespace)                                                               \
    X(destination_cluster)                                                                         \
    X(request_protocol)                                                                            \
    X(response_flags)                                                                              \
    X(connection_security_policy)                                                                  \
    X(response_code)                                                                               \
    X(grpc_response_status)
enum label {
#define X(id) L_##id,
    LABELS(X)
#undef X
        L_COUNT
};
#define TCP_LABELS (L_connection_security_policy + 1) /* TCP has no answers */

static const sv label_names[L_COUNT] = {
#define X(id) SV_INIT(#id),
    LABELS(X)
#undef X
};

/* Name in Telemetry configuration, kind. */
#define METRICS(X)                                                                                 \
    X(requests_total, STAT_COUNTER)                                                                \
    X(request_duration_milliseconds, STAT_HISTOGRAM)                                               \
    X(request_bytes, STAT_HISTOGRAM)                                                               \
    X(response_bytes, STAT_HISTOGRAM)                                                              \
    X(request_messages_total, STAT_COUNTER)                                                        \
    X(response_messages_total, STAT_COUNTER)                                                       \
    X(tcp_connections_opened_total, STAT_COUNTER)                                                  \
    X(tcp_connections_closed_total, STAT_COUNTER)                                                  \
    X(tcp_received_bytes_total, STAT_COUNTER)                                                      \
    X(tcp_sent_bytes_total, STAT_COUNTER)
enum metric {
#define X(id, kind) M_##id,
    METRICS(X)
#undef X
        M_COUNT
};
static const struct {
    sv name, full;
    uint8_t kind;
} metrics[M_COUNT] = {
#define X(id, kind) {SV_INIT(#id), SV_INIT("istio_" #id), kind},
    METRICS(X)
#undef X
};

struct change { /* of one metric */
    bool drop;
    bool removed[L_COUNT];
    struct stat_label *fixed; /* labels with a constant value, also in place of standard ones */
    uint32_t n_fixed;
};

struct istio_metrics {
    struct stats *stats;
    struct stats_scope *scope;
    uint32_t id; /* 0: all without changes share their rows */
    enum istio_reporter reporter;
    bool no_host_fallback;
    uint64_t tcp_ms;
    struct istio_peer me;
    struct change change[M_COUNT];
};

/* ---- configuration ---- */

static void drop_scope(void *sc)
{
    stats_scope_unref(sc);
}

static int find_label(sv name)
{
    for (int i = 0; i < L_COUNT; i++)
        if (sv_eq(label_names[i], name))
            return i;
    return -1;
}

/* 'text' or "text" of CEL, without escapes. */
static bool literal(sv expr, sv *out)
{
    expr = sv_trim(expr);
    if (expr.n < 2 || (expr.p[0] != '\'' && expr.p[0] != '"') || expr.p[expr.n - 1] != expr.p[0])
        return false;
    *out = sv_make(expr.p + 1, expr.n - 2);
    return sv_find(*out, expr.p[0]) < 0 && sv_find(*out, '\\') < 0;
}

static int change_metric(struct change *c, const struct stats_MetricConfig *m, const char *path,
                         struct arena *a, struct error *err)
{
    c->drop |= m->drop;
    for (uint32_t i = 0; i < m->tags_to_remove.n; i++) {
        int l = find_label(m->tags_to_remove.v[i]);
        if (l < 0)
            return error_set(err, E_INVALID, "%s.tags_to_remove[%u]: '%.*s' is no standard label",
                             path, i, SV_ARG(m->tags_to_remove.v[i]));
        c->removed[l] = true;
    }
    struct stat_label *v = arena_array(a, struct stat_label, c->n_fixed + m->dimensions.n);
    for (uint32_t i = 0; i < c->n_fixed; i++)
        v[i] = c->fixed[i];
    c->fixed = v;
    for (uint32_t i = 0; i < m->dimensions.n; i++) {
        const struct stats_MetricConfig_DimensionsEntry *d = m->dimensions.v[i];
        struct stat_label *to = &c->fixed[c->n_fixed++];
        to->name = d->key;
        if (!literal(d->value, &to->value))
            return error_set(err, E_UNSUPPORTED,
                             "%s.dimensions['%.*s']: only quoted text is supported as an "
                             "expression, not '%.*s'",
                             path, SV_ARG(d->key), SV_ARG(d->value));
        int l = find_label(d->key);
        if (l >= 0)
            c->removed[l] = true;
    }
    return 0;
}

static int build_changes(const struct stats_PluginConfig *m, struct istio_metrics *c,
                         const char *path, struct arena *a, struct error *err)
{
    static _Atomic uint32_t last;
    if (m->metrics.n)
        c->id = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    for (uint32_t i = 0; i < m->metrics.n; i++) {
        const struct stats_MetricConfig *v = m->metrics.v[i];
        const char *at = arena_printf(a, "%s.metrics[%u]", path, i).p;
        bool any = false;
        for (int k = 0; k < M_COUNT; k++) {
            if (v->name.n && !sv_eq(v->name, metrics[k].name) && !sv_eq(v->name, metrics[k].full))
                continue;
            any = true;
            int rc = change_metric(&c->change[k], v, at, a, err);
            if (rc < 0)
                return rc;
        }
        if (!any)
            return error_set(err, E_INVALID, "%s.name: '%.*s' is no standard metric", at,
                             SV_ARG(v->name));
    }
    return 0;
}

/* istio_build{component="proxy",tag="1.27.0"} 1 */
static void show_version(const struct istio_metrics *c, const struct google_Struct *node)
{
    sv tag = pb_struct_text(node, SV("ISTIO_VERSION"));
    struct stat_label l[] = {{SV("component"), SV("proxy")},
                             {SV("tag"), tag.n ? tag : SV("unknown")}};
    struct stat_series *s =
        stats_series_hold(c->stats, c->scope, SV("istio_build"), STAT_GAUGE, l, 2);
    stat_series_gauge_set(s, 1);
    stat_series_release(s);
}

int istio_metrics_build(const struct stats_PluginConfig *m, enum istio_reporter reporter,
                        const struct google_Struct *node, struct stats *s, const char *path,
                        struct arena *a, const struct istio_metrics **out, struct error *err)
{
    struct istio_metrics *c = arena_new(a, struct istio_metrics);
    uint64_t idle = IDLE_MS;
    c->stats = s;
    c->reporter = m->reporter == stats_Reporter_SERVER_GATEWAY ? ISTIO_WAYPOINT : reporter;
    c->no_host_fallback = m->disable_host_header_fallback;
    c->tcp_ms = TCP_MS;
    istio_peer_of_node(node, &c->me);
    int rc = 0;
    if (m->tcp_reporting_duration)
        rc = duration_ms(m->tcp_reporting_duration,
                         arena_printf(a, "%s.tcp_reporting_duration", path).p, &c->tcp_ms, err);
    if (rc == 0 && m->rotation_interval)
        rc = duration_ms(m->rotation_interval, arena_printf(a, "%s.rotation_interval", path).p,
                         &idle, err);
    if (rc == 0)
        rc = build_changes(m, c, path, a, err);
    if (rc < 0)
        return rc;
    c->scope =
        stats_scope_get(s, &(struct stats_scope_spec){.prefix = SV("istiocustom."), .bare = true});
    arena_on_free(a, drop_scope, c->scope);
    stats_scope_set_idle_ms(c->scope, idle ? idle : UINT64_MAX);
    show_version(c, node);
    *out = c;
    return 0;
}

enum istio_reporter istio_metrics_reporter(const struct istio_metrics *c)
{
    return c->reporter;
}

bool istio_metrics_host_fallback(const struct istio_metrics *c)
{
    return !c->no_host_fallback;
}

uint64_t istio_metrics_tcp_ms(const struct istio_metrics *c)
{
    return c->tcp_ms;
}

/* ---- a worker ---- */

struct istio_worker {
    struct istio_book *book;
};

struct istio_worker *istio_worker_new(void)
{
    struct istio_worker *w = mem_new(struct istio_worker);
    w->book = istio_book_new();
    return w;
}

void istio_worker_free(void *worker)
{
    struct istio_worker *w = worker;
    istio_book_unref(w->book);
    free(w);
}

struct istio_book *istio_worker_book(struct istio_worker *w)
{
    if (istio_book_full(w->book)) {
        istio_book_unref(w->book);
        w->book = istio_book_new();
    }
    return istio_book_ref(w->book);
}

/* ---- the destination's service ---- */

static bool is_own(sv cluster)
{
    return sv_eq(cluster, SV("BlackHoleCluster")) || sv_eq(cluster, SV("PassthroughCluster")) ||
           sv_eq(cluster, SV("InboundPassthroughCluster")) ||
           sv_eq(cluster, SV("InboundPassthroughClusterIpv4")) ||
           sv_eq(cluster, SV("InboundPassthroughClusterIpv6"));
}

static const struct google_Struct *service_of(const struct envoy_Metadata *m)
{
    const struct google_Struct *s = istio_metadata_find(m, SV("istio"));
    for (uint32_t i = 0; s && i < s->fields.n; i++) {
        const struct google_Value *v = s->fields.v[i]->value;
        if (!sv_eq(s->fields.v[i]->key, SV("services")) ||
            v->which_kind != google_Value_list_value_tag || !v->list_value->values.n)
            continue;
        v = v->list_value->values.v[0];
        return v->which_kind == google_Value_struct_value_tag ? v->struct_value : NULL;
    }
    return NULL;
}

void istio_parties_service(struct istio_parties *p, struct istio_book *b, sv cluster,
                           const struct envoy_Metadata *m, sv host)
{
    const struct google_Struct *s = service_of(m);
    sv name = host, ns = {NULL, 0};
    if (is_own(cluster)) {
        name = cluster;
    } else if (s) {
        host = pb_struct_text(s, SV("host"));
        name = pb_struct_text(s, SV("name"));
        ns = pb_struct_text(s, SV("namespace"));
        if (!name.n)
            sv_cut(host, '.', &name, &(sv){0});
    }
    p->host = istio_book_name(b, host);
    p->name = istio_book_name(b, name);
    p->ns = istio_book_name(b, ns);
}

/* ---- rows ---- */

struct key {
    uint32_t config, kind; /* reporter, protocol, security */
    uint32_t peer, peer_principal, local_principal, host, name, ns;
    uint32_t answer; /* status, gRPC status */
    uint32_t zero;
    uint64_t flags;
};
struct row {
    struct key key;
    uint32_t uses;
    struct stat_series *v[M_COUNT];
};

static void rows_free(struct istio_book *b)
{
    map_each (e, &b->rows) {
        struct row *r = e->val;
        for (int i = 0; i < M_COUNT; i++)
            stat_series_release(r->v[i]);
    }
}

static uint32_t id(const struct istio_name *n)
{
    return n ? n->id : 0;
}

static struct row *find_row(const struct istio_metrics *c, struct istio_book *b,
                            const struct istio_parties *p)
{
    struct key k = {
        .config = c->id,
        .kind = (uint32_t)c->reporter << 16 | (uint32_t)p->protocol << 8 | (uint32_t)p->security,
        .peer = p->peer ? p->peer->id : 0,
        .peer_principal = id(p->peer_principal),
        .local_principal = id(p->local_principal),
        .host = id(p->host),
        .name = id(p->name),
        .ns = id(p->ns),
        .answer = (uint32_t)p->status << 16 | (uint16_t)p->grpc_status,
        .flags = p->flags,
    };
    struct row *r = map_get(&b->rows, sv_make((const char *)&k, sizeof k));
    if (r)
        return r;
    r = arena_new(&b->arena, struct row);
    r->key = k;
    map_put(&b->rows, sv_make((const char *)&r->key, sizeof r->key), r);
    b->rows_free = rows_free;
    return r;
}

/* ---- labels ---- */

static sv or_unknown(sv v)
{
    return v.n ? v : SV("unknown");
}

static sv text(const struct istio_name *n)
{
    return n ? n->text : SV("unknown");
}

/* The seven that are alike on both sides, in two orders of the table. */
static void workload(sv v[L_COUNT], bool source, const struct istio_peer *p, sv ns, sv principal)
{
    v[source ? L_source_workload : L_destination_workload] = or_unknown(p->workload);
    v[source ? L_source_workload_namespace : L_destination_workload_namespace] = or_unknown(ns);
    v[source ? L_source_principal : L_destination_principal] = principal;
    v[source ? L_source_app : L_destination_app] = or_unknown(p->app);
    v[source ? L_source_version : L_destination_version] = or_unknown(p->version);
    v[source ? L_source_canonical_service : L_destination_canonical_service] =
        or_unknown(p->service);
    v[source ? L_source_canonical_revision : L_destination_canonical_revision] =
        p->revision.n ? p->revision : SV("latest");
    v[source ? L_source_cluster : L_destination_cluster] = or_unknown(p->cluster);
}

static void fill(const struct istio_metrics *c, const struct istio_parties *p, sv v[L_COUNT],
                 struct strbuf *flags, char code[8], char grpc[12])
{
    static const struct istio_peer nobody;
    static const sv reporters[] = {SV_INIT("source"), SV_INIT("destination"), SV_INIT("waypoint")};
    static const sv protocols[] = {SV_INIT("http"), SV_INIT("grpc"), SV_INIT("tcp")};
    static const sv policies[] = {SV_INIT("unknown"), SV_INIT("none"), SV_INIT("mutual_tls")};
    const struct istio_peer *peer = p->peer ? p->peer : &nobody;
    bool source = c->reporter == ISTIO_SOURCE;
    /* What a certificate proves goes before what a peer says. */
    sv peer_ns =
        p->peer_principal ? istio_principal_namespace(p->peer_principal->text) : (sv){NULL, 0};
    if (!peer_ns.n)
        peer_ns = peer->ns;
    v[L_reporter] = reporters[c->reporter];
    workload(v, source, &c->me, c->me.ns, text(p->local_principal));
    workload(v, !source, peer, peer_ns, text(p->peer_principal));
    sv fallback = source ? (sv){NULL, 0} : c->me.service;
    v[L_destination_service] = p->host ? p->host->text : or_unknown(fallback);
    v[L_destination_service_name] = p->name ? p->name->text : or_unknown(fallback);
    sv ns = p->ns ? p->ns->text : source ? peer_ns : c->me.ns;
    v[L_destination_service_namespace] = or_unknown(ns);
    v[L_request_protocol] = protocols[p->protocol];
    stream_flags_text(p->flags, false, flags);
    v[L_response_flags] = strbuf_sv(flags);
    v[L_connection_security_policy] = policies[p->security];
    v[L_response_code] = sv_make(code, (size_t)snprintf(code, 8, "%u", (unsigned)p->status));
    v[L_grpc_response_status] =
        p->grpc_status < 0 ? (sv){"", 0}
                           : sv_make(grpc, (size_t)snprintf(grpc, 12, "%d", p->grpc_status));
}

static struct stat_series *make_series(const struct istio_metrics *c, const struct istio_parties *p,
                                       enum metric m)
{
    const struct change *ch = &c->change[m];
    uint32_t n = 0, of = p->protocol == ISTIO_TCP ? TCP_LABELS : L_COUNT;
    struct stat_label *l = mem_array(struct stat_label, L_COUNT + ch->n_fixed);
    sv v[L_COUNT];
    char code[8], grpc[12];
    struct strbuf flags;
    strbuf_init(&flags, 1024);
    fill(c, p, v, &flags, code, grpc);
    for (uint32_t i = 0; i < of; i++)
        if (!ch->removed[i])
            l[n++] = (struct stat_label){label_names[i], v[i]};
    for (uint32_t i = 0; i < ch->n_fixed; i++)
        l[n++] = ch->fixed[i];
    struct stat_series *s =
        stats_series_hold(c->stats, c->scope, metrics[m].full, metrics[m].kind, l, n);
    strbuf_fini(&flags);
    free(l);
    return s;
}

/* NULL: the metric is dropped. */
static struct stat_series *series(const struct istio_metrics *c, const struct istio_parties *p,
                                  struct row *r, enum metric m)
{
    struct stat_series *s = r->v[m];
    if (__builtin_expect(s && !stat_series_dead(s), 1)) {
        if (!stat_series_overflow(s) || ++r->uses % RETRY_EVERY)
            return s;
    }
    if (c->change[m].drop)
        return NULL;
    stat_series_release(s);
    return r->v[m] = make_series(c, p, m);
}

static void add(const struct istio_metrics *c, const struct istio_parties *p, struct row *r,
                enum metric m, uint64_t n)
{
    struct stat_series *s = series(c, p, r, m);
    if (s)
        stat_series_add(s, n);
}

static void record(const struct istio_metrics *c, const struct istio_parties *p, struct row *r,
                   enum metric m, uint64_t v)
{
    struct stat_series *s = series(c, p, r, m);
    if (s)
        stat_series_record(s, v);
}

void istio_report_request(const struct istio_metrics *c, struct istio_book *b,
                          const struct istio_parties *p, const struct istio_request *q)
{
    struct row *r = find_row(c, b, p);
    add(c, p, r, M_requests_total, 1);
    if (q->has_duration)
        record(c, p, r, M_request_duration_milliseconds, q->duration_ms);
    record(c, p, r, M_request_bytes, q->request_bytes);
    record(c, p, r, M_response_bytes, q->response_bytes);
    if (p->protocol == ISTIO_GRPC) {
        add(c, p, r, M_request_messages_total, q->request_messages);
        add(c, p, r, M_response_messages_total, q->response_messages);
    }
}

void istio_report_connection(const struct istio_metrics *c, struct istio_book *b,
                             const struct istio_parties *p, const struct istio_connection *q)
{
    struct row *r = find_row(c, b, p);
    if (q->opened)
        add(c, p, r, M_tcp_connections_opened_total, 1);
    add(c, p, r, M_tcp_received_bytes_total, q->received);
    add(c, p, r, M_tcp_sent_bytes_total, q->sent);
    if (q->closed)
        add(c, p, r, M_tcp_connections_closed_total, 1);
}
