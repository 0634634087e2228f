#include "proxy/hcm_tracing.h"

#include <string.h>

#include "api/envoy.pb.h"
#include "filters/trace_export.h"
#include "net/loop.h"
#include "proxy/hcm.h"

#define MAX_PATH 256

#define TRACING_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                          \
    COUNTER(P, random_sampling)                                                                    \
    COUNTER(P, service_forced)                                                                     \
    COUNTER(P, client_enabled)                                                                     \
    COUNTER(P, not_traceable)                                                                      \
    COUNTER(P, health_check)
STAT_GROUP_DECLARE(tracing_stats, TRACING_STATS);
STAT_GROUP_DEFINE(tracing_stats, TRACING_STATS);

struct hcm_tracing {
    struct trace_conf spans; /* target NULL: decides, and makes no spans */
    struct fraction client, random, overall;
    bool egress;
    struct stat_group *stats; /* counters change, the handle does not */
};

/* ---- configuration ---- */

static int percent(const struct filter_ctx *x, const struct envoy_Percent *p, const char *field,
                   sv key, struct fraction *out, struct error *err)
{
    double v = p ? p->value : 100;
    if (!(v >= 0 && v <= 100))
        return error_set(err, E_INVALID, "%s.%s: must be between 0 and 100", x->path, field);
    *out = (struct fraction){(uint32_t)(v * 100), 10000, runtime_key(x->runtime, key)};
    return 0;
}

static int operation(const struct filter_ctx *x, sv format, const char *field,
                     const struct substitution **out, struct error *err)
{
    const struct substitution_opts o = {.use = SUBSTITUTION_BODY, .omit_empty = true};
    int rc = format.n ? substitution_compile(format, &o, x->arena, out, err) : 0;
    if (rc < 0)
        error_prefix(err, "%s.%s: ", x->path, field);
    return rc;
}

/* What spans are given; m lives as long as x->arena. */
static int build_spans(const struct filter_ctx *x,
                       const struct envoy_HttpConnectionManager_Tracing *m, struct trace_conf *c,
                       struct error *err)
{
    c->max_path = m->max_path_tag_length ? m->max_path_tag_length->value : MAX_PATH;
    c->verbose = m->verbose;
    c->spawn = m->spawn_upstream_span && m->spawn_upstream_span->value;
    int rc =
        custom_tags_build((const struct envoy_CustomTag *const *)m->custom_tags.v, m->custom_tags.n,
                          filter_path(x, "custom_tags"), x->arena, &c->tags, err);
    if (rc == 0)
        rc = operation(x, m->operation, "operation", &c->operation, err);
    if (rc == 0)
        rc = operation(x, m->upstream_operation, "upstream_operation", &c->upstream_operation, err);
    if (rc == 0 && m->provider)
        rc = trace_target_build(filter_ctx_at(x, "provider"), m->provider, &c->target, err);
    return rc;
}

static void fini_stats(void *p)
{
    stat_group_fini(p);
}

static void make_stats(const struct filter_ctx *x, sv stat_prefix, struct hcm_tracing *t)
{
    struct stats_scope *http = stats_scope_http(x->stats, stat_prefix);
    struct stats_scope *sc = stats_scope_sub(http, SV("tracing."), (sv){NULL, 0}, NULL, 0);
    t->stats = arena_new(x->arena, struct stat_group);
    stat_group_init(t->stats, &tracing_stats_def, sc);
    stats_scope_unref(sc);
    stats_scope_unref(http);
    arena_on_free(x->arena, fini_stats, t->stats);
}

int hcm_tracing_build(const struct filter_ctx *parent,
                      const struct envoy_HttpConnectionManager_Tracing *m, sv stat_prefix,
                      const struct hcm_tracing **out, struct error *err)
{
    const struct filter_ctx *x = filter_ctx_at(parent, "tracing");
    struct hcm_tracing *t = arena_new(x->arena, struct hcm_tracing);
    int rc = percent(x, m->client_sampling, "client_sampling", SV("tracing.client_enabled"),
                     &t->client, err);
    if (rc == 0)
        rc = percent(x, m->random_sampling, "random_sampling", SV("tracing.random_sampling"),
                     &t->random, err);
    if (rc == 0)
        rc = percent(x, m->overall_sampling, "overall_sampling", SV("tracing.global_enabled"),
                     &t->overall, err);
    if (rc < 0)
        return rc;
    /* The message goes with the scratch; a copy of it stays with what points into it. */
    struct pb_opts o = {.allow_unknown = true};
    void *copy;
    sv packed = pb_encode_arena(&envoy_HttpConnectionManager_Tracing_pb, m, x->arena);
    rc = pb_decode(&envoy_HttpConnectionManager_Tracing_pb, packed, x->arena, &o, &copy, err);
    if (rc == 0)
        rc = build_spans(x, copy, &t->spans, err);
    if (rc < 0)
        return rc;
    t->egress = x->direction == FILTER_DIRECTION_OUTBOUND;
    make_stats(x, stat_prefix, t);
    *out = t;
    return 0;
}

/* ---- the decision ---- */

#define REASON_AT 14
#define UUID_LEN  36

enum { NOT_TRACED = '4', SAMPLED = '9', FORCED = 'a', BY_CLIENT = 'b' };

static char reason_of(sv id)
{
    char c = id.n == UUID_LEN ? id.p[REASON_AT] : NOT_TRACED;
    return c == SAMPLED || c == FORCED || c == BY_CLIENT ? c : NOT_TRACED;
}

static sv set_reason(struct hcm_stream *s, struct http_head *head, sv id, char reason)
{
    if (!s->cfg->pack_trace_reason || id.n != UUID_LEN || id.p[REASON_AT] == reason)
        return id;
    char *p = arena_alloc(s->arena, UUID_LEN);
    memcpy(p, id.p, UUID_LEN);
    p[REASON_AT] = reason;
    id = sv_make(p, UUID_LEN);
    http_headers_set_id(&head->h, HTTP_H_X_REQUEST_ID, id);
    return s->si.request_id = id;
}

sv hcm_tracing_forget_reason(struct hcm_stream *s, struct http_head *head)
{
    return set_reason(s, head, http_headers_get(&head->h, HTTP_H_X_REQUEST_ID), NOT_TRACED);
}

/* The first 8 digits of the id, as a number. */
static bool id_number(sv id, uint32_t *out)
{
    uint32_t v = 0;
    if (id.n < 8)
        return false;
    for (unsigned i = 0; i < 8; i++) {
        char c = (char)(id.p[i] | 0x20);
        if (id.p[i] >= '0' && id.p[i] <= '9')
            v = v << 4 | (uint32_t)(id.p[i] - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static const struct route_tracing *route_tracing(struct hcm_stream *s)
{
    const struct route_match *m = s->matched ? &s->match : NULL;
    return m && m->route && m->route->tracing.set ? &m->route->tracing : NULL;
}

static char decide(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_tracing *t = s->cfg->tracing;
    const struct route_tracing *r = hcm_route(s) ? route_tracing(s) : NULL;
    sv id = http_headers_get(&head->h, HTTP_H_X_REQUEST_ID);
    uint32_t number;
    if (!s->cfg->use_request_id_for_sampling)
        return SAMPLED;
    if (!id.p || !id_number(id, &number))
        return NOT_TRACED;
    number %= 10000;
    char had = reason_of(id), now = had;
    if (had == NOT_TRACED) {
        if (http_headers_get_sv(&head->h, SV("x-client-trace-id")).p &&
            fraction_hit(r ? &r->client : &t->client, rand_u64(loop_rand(s->hc->conn->loop))))
            now = BY_CLIENT;
        else if (http_headers_get(&head->h, HTTP_H_X_ENVOY_FORCE_TRACE).p)
            now = FORCED;
        else if (fraction_hit(r ? &r->random : &t->random, number))
            now = SAMPLED;
    }
    if (now == NOT_TRACED)
        return now; /* the id stays as it came */
    if (!fraction_hit(r ? &r->overall : &t->overall, number))
        now = NOT_TRACED;
    set_reason(s, head, id, now);
    return now;
}

static void count(const struct hcm_tracing *t, char reason)
{
    stat_inc(t->stats, reason == SAMPLED     ? tracing_stats_random_sampling
                       : reason == FORCED    ? tracing_stats_service_forced
                       : reason == BY_CLIENT ? tracing_stats_client_enabled
                                             : tracing_stats_not_traceable);
}

/* ---- the span ---- */

static struct trace_span *new_span(struct hcm_stream *s, const struct http_head *head)
{
    const struct hcm_tracing *t = s->cfg->tracing;
    struct trace_span *span = arena_new(s->arena, struct trace_span);
    span->conf = &t->spans;
    span->egress = t->egress && !t->spans.spawn;
    int rc = trace_span_start(span, &t->spans.target->style, &head->h, s->si.trace_sampled,
                              loop_rand(s->hc->conn->loop), s->arena);
    return rc < 0 ? NULL : span;
}

static void name_span(struct hcm_stream *s, struct trace_span *span, struct http_head *head)
{
    static const char header[] = "x-envoy-decorator-operation";
    const struct route_match *m = hcm_route(s);
    const struct route *route = m ? m->route : NULL;
    const struct hcm_tracing *t = s->cfg->tracing;
    const struct route_tracing *rt = route_tracing(s);
    const struct substitution *format = rt && rt->operation ? rt->operation : t->spans.operation;
    span->name = t->spans.target->style.b3 ? head->authority
                 : t->egress ? arena_printf(s->arena, "egress %.*s", SV_ARG(head->authority))
                             : SV("ingress");
    if (format) {
        const struct substitution_ctx ctx = {.si = &s->si, .req = head};
        span->name = substitution_eval_arena(format, &ctx, s->arena);
        span->named = true;
        return;
    }
    if (route && route->decorator.n) {
        span->name = route->decorator;
        if (route->decorator_propagate)
            span->decorator = route->decorator;
    }
    if (t->egress) {
        if (span->decorator.n)
            http_headers_set(&head->h, sv_of(header), span->decorator);
        return;
    }
    sv other = http_headers_get_sv(&head->h, sv_of(header));
    if (!other.p)
        return;
    if (other.n) {
        span->name = other;
        span->decorator = (sv){NULL, 0};
    }
    http_headers_remove(&head->h, sv_of(header));
}

void hcm_tracing_start(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_tracing *t = s->cfg->tracing;
    char reason = decide(s, head);
    s->si.trace_sampled = reason != NOT_TRACED;
    count(t, reason);
    struct trace_span *span = t->spans.target ? new_span(s, head) : NULL;
    if (!span)
        return;
    s->si.span = span;
    s->si.trace_id = trace_id_text(&span->ctx, !t->spans.target->style.b3, s->arena);
    s->si.span_id = trace_span_id_text(span->ctx.span_id, s->arena);
    name_span(s, span, head);
    if (!t->spans.spawn) /* else the router does, for each attempt */
        trace_span_inject(span, &t->spans.target->style, &head->h, s->arena);
}

void hcm_tracing_response(struct hcm_stream *s, struct http_head *head)
{
    static const char header[] = "x-envoy-decorator-operation";
    struct trace_span *span = s->si.span;
    if (span->named)
        return;
    if (!s->cfg->tracing->egress) {
        if (span->decorator.n)
            http_headers_set(&head->h, sv_of(header), span->decorator);
        return;
    }
    sv other = http_headers_get_sv(&head->h, sv_of(header));
    if (other.n)
        span->name = other;
    if (other.p)
        http_headers_remove(&head->h, sv_of(header));
}

void hcm_tracing_finish(struct hcm_stream *s)
{
    const struct trace_conf *c = &s->cfg->tracing->spans;
    struct trace_span *span = s->si.span;
    const struct filter_node *node = s->hc->nc->worker->node;
    const struct substitution_ctx ctx = {.si = &s->si};
    const struct route_tracing *r = route_tracing(s);
    if (!span->ctx.sampled)
        return;
    span->start_wall_ns = s->si.start_wall_ns;
    span->end_wall_ns = s->si.start_wall_ns + (s->si.end_ns - s->si.start_ns);
    trace_span_finish(span, &s->si, &(struct trace_node){node->id, node->zone}, c->max_path);
    trace_span_custom(span, &ctx, &c->tags);
    if (r)
        trace_span_custom(span, &ctx, &r->tags);
    if (c->verbose)
        trace_span_events(span, &s->si);
    trace_export(s->hc->nc->worker, c->target, span, s->arena);
}
