#include "filters/trace_export.h"

#include <string.h>

#include "api/envoy.pb.h"
#include "api/opentelemetry.pb.h"
#include "base/map.h"
#include "base/mem.h"
#include "filters/worker.h"
#include "grpc/grpc_frame.h"
#include "grpc/grpc_status.h"
#include "route/match.h"
#include "upstream/upstream.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "0"
#endif

#define FLUSH_SPANS 5
#define FLUSH_MS    5000
#define TIMEOUT_MS  10000 /* of a call, where none is configured */
#define MAX_SPANS   1024  /* waiting for a call, where no number is configured */
#define TARGETS_MAX 64    /* of one worker: past it, spans of new ones are dropped */

#define TRACE_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                            \
    COUNTER(P, spans_sent)                                                                         \
    COUNTER(P, spans_dropped)                                                                      \
    COUNTER(P, timer_flushed)
STAT_GROUP_DECLARE(trace_stats, TRACE_STATS);
STAT_GROUP_DEFINE(trace_stats, TRACE_STATS);

struct exporter {
    struct trace_worker *all;
    struct trace_target t; /* views into own */
    struct arena own;
    struct strbuf batch;
    uint32_t spans;
    struct timer flush;
    struct call *call; /* under way, or NULL */
};

struct trace_worker {
    struct filter_worker *w;
    struct stat_group stats;
    struct map exporters; /* key -> exporter */
    bool ended;
};

struct call {
    struct exporter *e;
    struct arena arena;
    struct upstream_cluster *cluster;
    struct upstream_open *open;
    struct http_stream *s;
    struct upstream_ctx ctx;
    struct http_head head;
    struct buf body;
    struct timer timer;
    struct deferred freeing;
    uint32_t spans;
    bool ok, over;
};

/* ---- one call ---- */

static void free_call(struct deferred *d)
{
    struct call *c = container_of(d, struct call, freeing);
    buf_reset(&c->body);
    arena_free(&c->arena);
    free(c);
}

static void count(struct exporter *e, unsigned which, uint32_t n)
{
    stat_add(&e->all->stats, which, n);
}

static void end(struct call *c)
{
    struct exporter *e = c->e;
    if (c->over)
        return;
    c->over = true;
    timer_cancel(&c->timer);
    upstream_cluster_unref(c->cluster);
    count(e, c->ok ? trace_stats_spans_sent : trace_stats_spans_dropped, c->spans);
    loop_defer(e->all->w->loop, &c->freeing, free_call);
    e->call = NULL;
    if (e->spans && !e->all->ended && !timer_active(&e->flush))
        timer_set(&e->flush, e->spans >= FLUSH_SPANS ? 1 : FLUSH_MS);
}

static void look_at_status(struct call *c, const struct http_headers *h)
{
    sv status = http_headers_get(h, HTTP_H_GRPC_STATUS);
    if (status.p)
        c->ok = sv_eq(status, SV("0"));
}

static void on_head(void *user, struct http_head *head, bool last)
{
    if (head->status == 200)
        look_at_status(user, &head->h);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    look_at_status(user, trailers);
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct call *c = user;
    c->ok = false;
}

static void on_close(void *user)
{
    struct call *c = user;
    c->s = NULL;
    end(c);
}

static const struct http_stream_events events = {
    .on_head = on_head, .on_trailers = on_trailers, .on_reset = on_reset, .on_close = on_close};
static const struct http_stream_events no_events;

static void give_up(struct call *c)
{
    struct http_stream *s = c->s;
    c->ok = false;
    if (c->open)
        upstream_cancel(c->open);
    c->open = NULL;
    c->s = NULL;
    if (s) {
        http_stream_set_user(s, &no_events, NULL);
        s->ops->reset(s, HTTP_RESET_LOCAL);
    }
    end(c);
}

static void on_ready(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn)
{
    struct call *c = user;
    c->open = NULL;
    c->s = s;
    http_stream_set_user(s, &events, c);
    if (s->codec->protocol != HTTP_2 || s->ops->send_head(s, &c->head, false) < 0) {
        give_up(c);
        return;
    }
    if (!c->over)
        s->ops->send_data(s, &c->body, true);
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct call *c = user;
    c->open = NULL;
    end(c);
}

static const struct upstream_http_cb open_cb = {on_ready, on_fail};

static void on_timeout(struct timer *t)
{
    give_up(container_of(t, struct call, timer));
}

static void make_head(struct call *c)
{
    const struct trace_target *t = &c->e->t;
    struct http_head *h = &c->head;
    char timeout[16];
    http_head_init(h, &c->arena);
    h->method = SV("POST");
    h->scheme = SV("http");
    h->path = SV(opentelemetry_TraceService_Export_PATH);
    h->authority = arena_sv(&c->arena, t->authority.n ? t->authority : t->cluster);
    h->protocol = HTTP_2;
    h->content_length = -1;
    http_headers_add_id(&h->h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    http_headers_add_id(&h->h, HTTP_H_TE, SV("trailers"));
    http_headers_add_id(&h->h, HTTP_H_USER_AGENT, SV("OTel-OTLP-Exporter-Weft/" WEFT_VERSION));
    http_headers_add_id(&h->h, HTTP_H_GRPC_TIMEOUT,
                        arena_sv(&c->arena, grpc_timeout_format(t->timeout_ms, timeout)));
    for (uint32_t i = 0; i < t->n_metadata; i++)
        http_headers_add(&h->h, t->metadata[i]->key, t->metadata[i]->value);
}

static void make_body(struct call *c)
{
    struct exporter *e = c->e;
    struct strbuf m;
    strbuf_init(&m, SIZE_MAX / 2);
    trace_otlp_request(&m, &e->batch, e->t.service_name);
    grpc_frame_append(&c->body, strbuf_sv(&m));
    strbuf_fini(&m);
    c->spans = e->spans;
    e->spans = 0;
    strbuf_fini(&e->batch);
    strbuf_init(&e->batch, 2 * TRACE_BATCH_BYTES);
}

static void flush(struct exporter *e)
{
    struct upstream_cluster *cluster = upstream_find(e->all->w->upstream, e->t.cluster);
    timer_cancel(&e->flush);
    if (!cluster) {
        count(e, trace_stats_spans_dropped, e->spans);
        e->spans = 0;
        strbuf_reset(&e->batch);
        return;
    }
    struct call *c = mem_new(struct call);
    c->e = e;
    c->cluster = cluster;
    arena_init(&c->arena);
    buf_init(&c->body);
    make_head(c);
    make_body(c);
    c->ctx = (struct upstream_ctx){
        .request = &c->head, .sni_override = c->head.authority, .downstream_protocol = HTTP_2};
    timer_init(&c->timer, e->all->w->loop, on_timeout);
    timer_set(&c->timer, e->t.timeout_ms);
    e->call = c;
    struct upstream_open *o = upstream_http_open(cluster, &c->ctx, &open_cb, c);
    if (o && !c->over)
        c->open = o;
}

static void on_flush(struct timer *t)
{
    struct exporter *e = container_of(t, struct exporter, flush);
    if (e->spans < FLUSH_SPANS)
        count(e, trace_stats_timer_flushed, 1);
    if (e->spans && !e->call)
        flush(e);
}

/* ---- spans in ---- */

static struct trace_worker *worker_of(struct filter_worker *w)
{
    if (w->traces)
        return w->traces;
    struct trace_worker *t = mem_new(struct trace_worker);
    struct stats_scope *sc = stats_scope_plain(w->stats, SV("tracing.opentelemetry."));
    t->w = w;
    map_init(&t->exporters);
    stat_group_init(&t->stats, &trace_stats_def, sc);
    stats_scope_unref(sc);
    return w->traces = t;
}

static struct exporter *exporter_of(struct trace_worker *all, const struct trace_target *t)
{
    struct exporter *e = map_get(&all->exporters, t->key);
    if (e || all->exporters.n >= TARGETS_MAX)
        return e;
    e = mem_new(struct exporter);
    arena_init(&e->own);
    e->all = all;
    e->t = *t;
    e->t.key = arena_sv(&e->own, t->key);
    e->t.cluster = arena_sv(&e->own, t->cluster);
    e->t.authority = arena_sv(&e->own, t->authority);
    e->t.service_name = arena_sv(&e->own, t->service_name);
    struct envoy_HeaderValue *h = arena_array(&e->own, struct envoy_HeaderValue, t->n_metadata + 1);
    const struct envoy_HeaderValue **v = arena_alloc(&e->own, sizeof *v * (t->n_metadata + 1));
    for (uint32_t i = 0; i < t->n_metadata; i++) {
        h[i].key = arena_sv(&e->own, t->metadata[i]->key);
        h[i].value = arena_sv(&e->own, t->metadata[i]->value);
        v[i] = &h[i];
    }
    e->t.metadata = v;
    strbuf_init(&e->batch, 2 * TRACE_BATCH_BYTES);
    timer_init(&e->flush, all->w->loop, on_flush);
    map_put(&all->exporters, e->t.key, e);
    return e;
}

void trace_export(struct filter_worker *w, const struct trace_target *t, const struct trace_span *s,
                  const struct stream_info *si)
{
    struct trace_worker *all = worker_of(w);
    struct exporter *e = all->ended ? NULL : exporter_of(all, t);
    if (!e || e->spans >= e->t.max_spans || e->batch.n >= TRACE_BATCH_BYTES) {
        stat_inc(&all->stats, trace_stats_spans_dropped);
        return;
    }
    trace_otlp_add(&e->batch, s, si);
    e->spans++;
    if (e->spans >= FLUSH_SPANS && !e->call)
        flush(e);
    else if (!timer_active(&e->flush))
        timer_set(&e->flush, FLUSH_MS);
}

void trace_worker_end(struct trace_worker *t)
{
    if (!t)
        return;
    t->ended = true;
    map_each (it, &t->exporters) {
        struct exporter *e = it->val;
        timer_cancel(&e->flush);
        if (e->call)
            give_up(e->call);
        count(e, trace_stats_spans_dropped, e->spans);
        e->spans = 0;
    }
}

void trace_worker_free(struct trace_worker *t)
{
    if (!t)
        return;
    map_each (it, &t->exporters) {
        struct exporter *e = it->val;
        strbuf_fini(&e->batch);
        arena_free(&e->own);
        free(e);
    }
    map_fini(&t->exporters);
    stat_group_fini(&t->stats);
    free(t);
}

/* ---- configuration ---- */

static int bad(const struct filter_ctx *x, struct error *err, const char *field, const char *why)
{
    return error_set(err, E_UNSUPPORTED, "%s.%s: %s", x->path, field, why);
}

static int check(const struct filter_ctx *x, const struct envoy_OpenTelemetryConfig *m,
                 struct error *err)
{
    const struct envoy_GrpcService *g = m->grpc_service;
    if (m->http_service)
        return bad(x, err, "http_service", "is not supported, only grpc_service");
    if (!g || g->which_target_specifier != envoy_GrpcService_envoy_grpc_tag)
        return bad(x, err, "grpc_service.envoy_grpc", "is required");
    if (!g->envoy_grpc->cluster_name.n)
        return error_set(err, E_INVALID,
                         "%s.grpc_service.envoy_grpc.cluster_name: must not be empty", x->path);
    if (g->retry_policy || g->envoy_grpc->retry_policy)
        return bad(x, err, "grpc_service.retry_policy", "is not supported");
    for (uint32_t i = 0; i < g->initial_metadata.n; i++) {
        const struct envoy_HeaderValue *h = g->initial_metadata.v[i];
        if (!http_name_lower_valid(h->key) || !http_value_valid(h->value) || h->raw_value.n)
            return error_set(err, E_INVALID,
                             "%s.grpc_service.initial_metadata[%u]: '%.*s' is no "
                             "lower-case name with a plain value",
                             x->path, i, SV_ARG(h->key));
    }
    return 0;
}

int trace_target_build(const struct filter_ctx *x, const struct envoy_trace_Tracing_Http *m,
                       const struct trace_target **out, struct error *err)
{
    static const char type[] = "envoy.config.trace.v3.OpenTelemetryConfig";
    const struct envoy_OpenTelemetryConfig *c;
    sv got = m->typed_config ? pb_any_type(m->typed_config->type_url) : (sv){NULL, 0};
    if (!sv_eq(got, sv_of(type)))
        return error_set(err, E_UNSUPPORTED, "%s: tracer '%.*s' (%.*s) is not supported, only %s",
                         x->path, SV_ARG(m->name), SV_ARG(got), type);
    /* Its messages live as long as the target. */
    struct filter_ctx inner = *filter_ctx_at(x, "typed_config");
    struct pb_opts o = x->pb ? *x->pb : (struct pb_opts){0};
    o.path = inner.path;
    int rc = pb_any_unpack(m->typed_config, &envoy_OpenTelemetryConfig_pb, x->arena, &o,
                           (void **)&c, err);
    if (rc == 0)
        rc = check(&inner, c, err);
    if (rc < 0)
        return rc;
    struct trace_target *t = arena_new(x->arena, struct trace_target);
    const struct envoy_GrpcService *g = c->grpc_service;
    t->cluster = g->envoy_grpc->cluster_name;
    t->authority = g->envoy_grpc->authority;
    t->service_name = c->service_name.n ? c->service_name : SV("unknown_service:envoy");
    t->metadata = (const struct envoy_HeaderValue *const *)g->initial_metadata.v;
    t->n_metadata = g->initial_metadata.n;
    t->max_spans =
        c->max_cache_size && c->max_cache_size->value ? c->max_cache_size->value : MAX_SPANS;
    rc = 0;
    if (g->timeout)
        rc = duration_ms(g->timeout, filter_path(&inner, "grpc_service.timeout"), &t->timeout_ms,
                         err);
    if (!t->timeout_ms)
        t->timeout_ms = TIMEOUT_MS;
    t->key = pb_encode_arena(&envoy_OpenTelemetryConfig_pb, c, x->arena);
    *out = t;
    return rc;
}
