#include "filters/trace_export.h"

#include <string.h>

#include "api/opentelemetry.pb.h"
#include "base/map.h"
#include "base/mem.h"
#include "filters/worker.h"
#include "grpc/grpc_frame.h"
#include "grpc/grpc_status.h"
#include "upstream/upstream.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "0"
#endif

#define TARGETS_MAX 64 /* of one worker: past it, spans of new ones are dropped */

/* Those of calls come last: only Zipkin's has them. */
#define TRACE_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                            \
    COUNTER(P, spans_sent)                                                                         \
    COUNTER(P, spans_dropped)                                                                      \
    COUNTER(P, timer_flushed)                                                                      \
    COUNTER(P, reports_sent)                                                                       \
    COUNTER(P, reports_dropped)                                                                    \
    COUNTER(P, reports_failed)                                                                     \
    COUNTER(P, reports_skipped_no_cluster)
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
    struct stat_group otlp, zipkin;
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
    uint64_t sent_ns;
    bool answered, ok, over;
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
    bool zipkin = e->t.protocol == TRACE_ZIPKIN;
    if (zipkin || which < trace_stats_reports_sent)
        stat_add(zipkin ? &e->all->zipkin : &e->all->otlp, which, n);
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
    count(e,
          c->ok         ? trace_stats_reports_sent
          : c->answered ? trace_stats_reports_dropped
                        : trace_stats_reports_failed,
          1);
    loop_defer(e->all->w->loop, &c->freeing, free_call);
    e->call = NULL;
    if (e->spans && !e->all->ended && !timer_active(&e->flush))
        timer_set(&e->flush, e->spans >= e->t.flush_spans ? 1 : e->t.flush_ms);
}

static void look_at_status(struct call *c, const struct http_headers *h)
{
    sv status = http_headers_get(h, HTTP_H_GRPC_STATUS);
    if (status.p)
        c->ok = sv_eq(status, SV("0"));
}

static void on_head(void *user, struct http_head *head, bool last)
{
    struct call *c = user;
    c->answered = true;
    upstream_count_response(c->cluster, head->status,
                            (loop_stamp_ns(c->e->all->w->loop) - c->sent_ns) / 1000, true);
    if (c->e->t.protocol != TRACE_OTLP_GRPC)
        c->ok = head->status / 100 == 2;
    else if (head->status == 200)
        look_at_status(c, &head->h);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    struct call *c = user;
    if (c->e->t.protocol == TRACE_OTLP_GRPC)
        look_at_status(c, trailers);
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct call *c = user;
    c->ok = c->answered = false;
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
    c->ok = c->answered = false;
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
    c->sent_ns = loop_stamp_ns(c->e->all->w->loop);
    http_stream_set_user(s, &events, c);
    bool grpc = c->e->t.protocol == TRACE_OTLP_GRPC;
    if ((grpc && s->codec->protocol != HTTP_2) || s->ops->send_head(s, &c->head, false) < 0) {
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

static void make_grpc_fields(struct call *c)
{
    struct http_headers *h = &c->head.h;
    char timeout[16];
    http_headers_add_id(h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    http_headers_add_id(h, HTTP_H_TE, SV("trailers"));
    http_headers_add_id(h, HTTP_H_GRPC_TIMEOUT,
                        arena_sv(&c->arena, grpc_timeout_format(c->e->t.timeout_ms, timeout)));
}

static void make_http_fields(struct call *c)
{
    struct http_headers *h = &c->head.h;
    http_headers_add_id(h, HTTP_H_CONTENT_TYPE,
                        c->e->t.protocol == TRACE_ZIPKIN ? SV("application/json")
                                                         : SV("application/x-protobuf"));
    http_headers_add_id(h, HTTP_H_CONTENT_LENGTH, arena_printf(&c->arena, "%zu", c->body.len));
    c->head.content_length = (int64_t)c->body.len;
}

/* The body is made. */
static void make_head(struct call *c)
{
    const struct trace_target *t = &c->e->t;
    struct http_head *h = &c->head;
    http_head_init(h, &c->arena);
    h->method = SV("POST");
    h->scheme = SV("http");
    h->path = arena_sv(&c->arena, t->path);
    h->authority = arena_sv(&c->arena, t->authority);
    h->protocol = HTTP_2;
    h->content_length = -1;
    if (t->protocol == TRACE_OTLP_GRPC)
        make_grpc_fields(c);
    else
        make_http_fields(c);
    if (t->protocol != TRACE_ZIPKIN)
        http_headers_add_id(&h->h, HTTP_H_USER_AGENT, SV("OTel-OTLP-Exporter-Weft/" WEFT_VERSION));
    for (uint32_t i = 0; i < t->n_headers; i++)
        http_headers_add(&h->h, t->headers[i].name, t->headers[i].value);
}

static void make_body(struct call *c)
{
    struct exporter *e = c->e;
    struct strbuf m;
    strbuf_init(&m, SIZE_MAX / 2);
    if (e->t.protocol == TRACE_ZIPKIN) {
        strbuf_add_ch(&m, '[');
        strbuf_add_sv(&m, strbuf_sv(&e->batch));
        strbuf_add_ch(&m, ']');
    } else {
        trace_otlp_request(&m, &e->batch, e->t.service_name);
    }
    if (e->t.protocol == TRACE_OTLP_GRPC)
        grpc_frame_append(&c->body, strbuf_sv(&m));
    else
        buf_append_sv(&c->body, strbuf_sv(&m));
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
        count(e, trace_stats_reports_skipped_no_cluster, 1);
        e->spans = 0;
        strbuf_reset(&e->batch);
        return;
    }
    struct call *c = mem_new(struct call);
    c->e = e;
    c->cluster = cluster;
    arena_init(&c->arena);
    buf_init(&c->body);
    make_body(c);
    make_head(c);
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
    if (e->spans < e->t.flush_spans)
        count(e, trace_stats_timer_flushed, 1);
    if (e->spans && !e->call)
        flush(e);
}

/* ---- spans in ---- */

static void init_stats(struct filter_worker *w, struct stat_group *g, sv prefix)
{
    struct stats_scope *sc = stats_scope_plain(w->stats, prefix);
    stat_group_init(g, &trace_stats_def, sc);
    stats_scope_unref(sc);
}

static struct trace_worker *worker_of(struct filter_worker *w)
{
    if (w->traces)
        return w->traces;
    struct trace_worker *t = mem_new(struct trace_worker);
    t->w = w;
    map_init(&t->exporters);
    init_stats(w, &t->otlp, SV("tracing.opentelemetry."));
    init_stats(w, &t->zipkin, SV("tracing.zipkin."));
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
    e->t.path = arena_sv(&e->own, t->path);
    e->t.service_name = arena_sv(&e->own, t->service_name);
    e->t.headers = arena_array(&e->own, struct trace_header, t->n_headers);
    for (uint32_t i = 0; i < t->n_headers; i++)
        e->t.headers[i] = (struct trace_header){arena_sv(&e->own, t->headers[i].name),
                                                arena_sv(&e->own, t->headers[i].value)};
    strbuf_init(&e->batch, 2 * TRACE_BATCH_BYTES);
    timer_init(&e->flush, all->w->loop, on_flush);
    map_put(&all->exporters, e->t.key, e);
    return e;
}

static void add(struct exporter *e, const struct trace_span *s, struct arena *a)
{
    const struct trace_zipkin_endpoint at = {e->t.service_name, e->all->w->node->local_ip};
    if (e->t.protocol == TRACE_ZIPKIN)
        trace_zipkin_add(&e->batch, s, a, &at, &e->t.style);
    else
        trace_otlp_add(&e->batch, s, a);
    e->spans++;
}

void trace_export(struct filter_worker *w, const struct trace_target *t, const struct trace_span *s,
                  struct arena *a)
{
    struct trace_worker *all = worker_of(w);
    struct exporter *e = all->ended ? NULL : exporter_of(all, t);
    if (!e || e->spans >= e->t.max_spans || e->batch.n >= TRACE_BATCH_BYTES) {
        stat_inc(t->protocol == TRACE_ZIPKIN ? &all->zipkin : &all->otlp,
                 trace_stats_spans_dropped);
        return;
    }
    add(e, s, a);
    if (e->spans >= e->t.flush_spans && !e->call)
        flush(e);
    else if (!timer_active(&e->flush))
        timer_set(&e->flush, e->t.flush_ms);
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
    stat_group_fini(&t->otlp);
    stat_group_fini(&t->zipkin);
    free(t);
}
