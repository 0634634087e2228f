/* spawn_upstream_span: each attempt has a span of its own, below the request's, which the upstream
 * is told of in the request's place. */
#include "filters/http/router/router_private.h"
#include "base/code.h"
#include "filters/trace_export.h"

static struct trace_span *parent_of(const struct router *r)
{
    struct trace_span *s = r->si->span;
    return s && s->conf->spawn ? s : NULL;
}

static sv name(struct router *r, const struct trace_conf *c)
{
    const struct route_tracing *rt = &r->route->tracing;
    const struct substitution *f =
        rt->set && rt->upstream_operation ? rt->upstream_operation : c->upstream_operation;
    struct arena *a = router_host(r)->arena;
    if (f)
        return substitution_eval_arena(f, &(struct substitution_ctx){.si = r->si, .req = r->req},
                                       a);
    return arena_printf(a, "router %.*s egress", SV_ARG(r->si->upstream_cluster));
}

void router_trace_start(struct router_try *t)
{
    struct router *r = t->r;
    const struct trace_span *parent = parent_of(r);
    struct arena *a = router_host(r)->arena;
    if (!parent)
        return;
    t->span = arena_new(a, struct trace_span);
    trace_span_child(t->span, parent, loop_rand(r->w->loop));
    t->span->name = name(r, parent->conf);
    t->span->start_wall_ns = r->si->start_wall_ns + (t->start_ns - r->si->start_ns);
    trace_span_inject(t->span, &parent->conf->target->style, &r->req->h, a);
}

HOT void router_trace_end(struct router_try *t, const struct router_trace_end *how)
{
    struct router *r = t->r;
    struct trace_span *s = t->span;
    struct stream_info *si = r->si;
    t->span = NULL; /* once */
    if (!s || !s->ctx.sampled)
        return;
    const struct trace_conf *c = s->conf;
    const struct trace_attempt a = {
        .cluster = si->upstream_cluster,
        .cluster_alt = si->upstream_cluster_alt,
        .address = si->upstream_host,
        .has_protocol = t->head_sent,
        .protocol = t->protocol,
        .number = t->number,
        .status = t->status,
        .flags = how->flags,
        .reset = how->reset,
        .cancelled = how->cancelled,
        .answer = t->answer ? &t->answer->h : NULL,
        .trailers = how->trailers,
    };
    /* Custom tags speak of the attempt's answer, and as Envoy's only of one that is passed on. */
    const struct substitution_ctx ctx = {.si = si,
                                         .req = r->req,
                                         .resp = r->responding ? t->answer : NULL,
                                         .resp_trailers = how->trailers};
    uint16_t code = si->response_code;
    s->end_wall_ns = si->start_wall_ns + (loop_stamp_ns(r->w->loop) - si->start_ns);
    trace_span_attempt(s, si, &a);
    si->response_code = r->responding ? t->status : 0;
    trace_span_custom(s, &ctx, &c->tags);
    if (r->route->tracing.set)
        trace_span_custom(s, &ctx, &r->route->tracing.tags);
    si->response_code = code;
    trace_export(r->w, c->target, s, router_host(r)->arena);
}
