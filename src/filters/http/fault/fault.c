#include "filters/http/fault/fault.h"

#include "api/envoy.pb.h"
#include "net/loop.h"
#include "route/route.h"
#include "telemetry/stats.h"

#define FAULT_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                            \
    COUNTER(P, aborts_injected)                                                                    \
    GAUGE(P, active_faults)                                                                        \
    COUNTER(P, delays_injected)                                                                    \
    COUNTER(P, faults_overflow)
STAT_GROUP_DECLARE(fault_stats, FAULT_STATS);
STAT_GROUP_DEFINE(fault_stats, FAULT_STATS);

enum fault_kind { FAULT_NONE, FAULT_FIXED, FAULT_HTTP, FAULT_GRPC, FAULT_BY_HEADER };

/* One of these in the chain; others in typed_per_filter_config take its place whole. */
struct policy {
    enum fault_kind delay, abort;
    uint64_t delay_ms;
    uint32_t status; /* HTTP or gRPC */
    struct fraction delay_share, abort_share;
    sv upstream_cluster;
    const struct header_match *headers;
    uint32_t n_headers;
    const sv *nodes;
    uint32_t n_nodes;
    bool has_max;
    uint32_t max_active;
    /* What the runtime says instead, now. */
    const struct runtime_key *delay_now, *http_now, *grpc_now, *max_now;
};

struct config {
    struct policy p;
    struct stat_group stats;
};

struct fault {
    struct http_filter f;
    struct config *cfg;
    const struct policy *p;
    struct timer timer;
    bool active; /* counted in active_faults */
};

/* ---- configuration ---- */

static void fini(void *g)
{
    stat_group_fini(g);
}

static int build_delay(const struct filter_ctx *x, const struct envoy_FaultDelay *m,
                       struct policy *p, struct error *err)
{
    if (!m)
        return 0;
    switch (m->which_fault_delay_secifier) {
    case envoy_FaultDelay_fixed_delay_tag: {
        p->delay = FAULT_FIXED;
        int rc =
            duration_ms(m->fixed_delay, filter_path(x, "delay.fixed_delay"), &p->delay_ms, err);
        if (rc < 0)
            return rc;
        break;
    }
    case envoy_FaultDelay_header_delay_tag:
        p->delay = FAULT_BY_HEADER;
        break;
    default:
        return error_set(err, E_INVALID, "%s.delay: one of fixed_delay, header_delay is required",
                         x->path);
    }
    p->delay_share = (struct fraction){0, 100, NULL};
    return m->percentage ? fraction_build(m->percentage, filter_path(x, "delay.percentage"),
                                          &p->delay_share, err)
                         : 0;
}

static int build_abort(const struct filter_ctx *x, const struct envoy_FaultAbort *m,
                       struct policy *p, struct error *err)
{
    if (!m)
        return 0;
    switch (m->which_error_type) {
    case envoy_FaultAbort_http_status_tag:
        if (m->http_status < 200 || m->http_status > 599)
            return error_set(err, E_INVALID, "%s.abort.http_status: %u is not in 200..599", x->path,
                             m->http_status);
        p->abort = FAULT_HTTP;
        p->status = m->http_status;
        break;
    case envoy_FaultAbort_grpc_status_tag:
        p->abort = FAULT_GRPC;
        p->status = m->grpc_status;
        break;
    case envoy_FaultAbort_header_abort_tag:
        p->abort = FAULT_BY_HEADER;
        break;
    default:
        return error_set(err, E_INVALID,
                         "%s.abort: one of http_status, grpc_status, header_abort is required",
                         x->path);
    }
    p->abort_share = (struct fraction){0, 100, NULL};
    return m->percentage ? fraction_build(m->percentage, filter_path(x, "abort.percentage"),
                                          &p->abort_share, err)
                         : 0;
}

static int refuse_unsupported(const struct filter_ctx *x, const struct envoy_HTTPFault *m,
                              struct error *err)
{
    const char *field = m->response_rate_limit ? "response_rate_limit"
                        : m->response_rate_limit_percent_runtime.n
                            ? "response_rate_limit_percent_runtime"
                            : NULL;
    return field ? error_set(err, E_UNSUPPORTED, "%s.%s: is not supported", x->path, field) : 0;
}

static const struct runtime_key *key(const struct filter_ctx *x, sv own, const char *usual)
{
    return runtime_key(x->runtime, own.n ? own : sv_of(usual));
}

static void follow_runtime(const struct filter_ctx *x, const struct envoy_HTTPFault *m,
                           struct policy *p)
{
    p->delay_share.live = key(x, m->delay_percent_runtime, "fault.http.delay.fixed_delay_percent");
    p->abort_share.live = key(x, m->abort_percent_runtime, "fault.http.abort.abort_percent");
    p->delay_now = key(x, m->delay_duration_runtime, "fault.http.delay.fixed_duration_ms");
    p->http_now = key(x, m->abort_http_status_runtime, "fault.http.abort.http_status");
    p->grpc_now = key(x, m->abort_grpc_status_runtime, "fault.http.abort.grpc_status");
    p->max_now = key(x, m->max_active_faults_runtime, "fault.http.max_active_faults");
}

static int build(const struct filter_ctx *x, sv packed, struct policy *p, struct error *err)
{
    const struct envoy_HTTPFault *m;
    int rc = filter_decode(x, &envoy_HTTPFault_pb, packed, (const void **)&m, err);
    if (rc == 0)
        rc = refuse_unsupported(x, m, err);
    if (rc == 0)
        rc = build_delay(x, m->delay, p, err);
    if (rc == 0)
        rc = build_abort(x, m->abort, p, err);
    if (rc < 0)
        return rc;
    follow_runtime(x, m, p);
    p->upstream_cluster = m->upstream_cluster;
    struct header_match *h = arena_array(x->arena, struct header_match, m->headers.n + 1);
    for (uint32_t i = 0; i < m->headers.n; i++) {
        rc = header_match_build(m->headers.v[i], filter_path(x, "headers[%u]", i), x->arena,
                                &h[p->n_headers++], err);
        if (rc < 0)
            return rc;
    }
    p->headers = h;
    sv *nodes = arena_array(x->arena, sv, m->downstream_nodes.n + 1);
    for (uint32_t i = 0; i < m->downstream_nodes.n; i++)
        nodes[p->n_nodes++] = m->downstream_nodes.v[i];
    p->nodes = nodes;
    if (m->max_active_faults) {
        p->has_max = true;
        p->max_active = m->max_active_faults->value;
    }
    return 0;
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    struct config *c = arena_new(x->arena, struct config);
    int rc = build(x, packed, &c->p, err);
    if (rc < 0)
        return rc;
    struct stats_scope *http = stats_scope_http(x->stats, x->stat_prefix);
    struct stats_scope *sc = stats_scope_sub(http, SV("fault."), (sv){NULL, 0}, NULL, 0);
    stat_group_init(&c->stats, &fault_stats_def, sc);
    stats_scope_unref(sc);
    stats_scope_unref(http);
    arena_on_free(x->arena, fini, &c->stats);
    *config = c;
    return 0;
}

static int parse_route(const struct filter_ctx *x, sv packed, const void **config,
                       struct error *err)
{
    struct policy *p = arena_new(x->arena, struct policy);
    int rc = build(x, packed, p, err);
    *config = p;
    return rc;
}

/* ---- is it for this request? ---- */

static bool for_node(const struct policy *p, const struct http_head *head)
{
    if (!p->n_nodes)
        return true;
    sv node = http_headers_get_sv(&head->h, SV("x-envoy-downstream-service-node"));
    return sv_in(node, p->nodes, p->n_nodes);
}

static bool for_request(struct fault *f, const struct http_head *head)
{
    const struct policy *p = f->p;
    if (p->upstream_cluster.n) {
        const struct route_match *m = f->f.host->ops->route(f->f.host);
        if (!m || !sv_eq(m->cluster, p->upstream_cluster))
            return false;
    }
    return for_node(p, head) && header_match_all(p->headers, p->n_headers, head, f->f.host->arena);
}

static bool header_number(const struct http_head *head, sv name, uint64_t *out)
{
    sv v = http_headers_get_sv(&head->h, name);
    return v.p && sv_to_u64(v, out) == 0;
}

/* A request may ask for less than the configured share, not for more. */
static bool roll(struct fault *f, const struct http_head *head, const struct fraction *share,
                 sv header)
{
    struct fraction mine = fraction_now(share);
    mine.live = NULL;
    uint64_t asked;
    if (header.n && header_number(head, header, &asked) && asked < mine.numerator)
        mine.numerator = (uint32_t)asked;
    return fraction_hit(&mine, rand_u64(loop_rand(f->f.host->loop)));
}

/* ---- injecting ---- */

static bool take_active(struct fault *f)
{
    struct stat_group *g = &f->cfg->stats;
    if (f->active)
        return true;
    uint64_t most = runtime_number(f->p->max_now, f->p->has_max ? f->p->max_active : UINT64_MAX);
    if (most != UINT64_MAX && stat_get(g, fault_stats_active_faults) >= most) {
        stat_inc(g, fault_stats_faults_overflow);
        return false;
    }
    stat_gauge_inc(g, fault_stats_active_faults);
    f->active = true;
    return true;
}

static uint16_t http_of_grpc(uint32_t grpc)
{
    static const uint16_t v[] = {200, 499, 500, 400, 504, 404, 409, 403, 429,
                                 400, 409, 400, 501, 500, 503, 500, 401};
    return grpc < sizeof v / sizeof v[0] ? v[grpc] : 500;
}

static bool abort_wanted(struct fault *f, const struct http_head *head, struct http_local_reply *r)
{
    const struct policy *p = f->p;
    uint64_t n;
    switch (p->abort) {
    case FAULT_HTTP:
        n = runtime_number(p->http_now, p->status);
        r->status = (uint16_t)(n >= 200 && n <= 599 ? n : p->status);
        return roll(f, head, &p->abort_share, (sv){NULL, 0});
    case FAULT_GRPC:
        n = runtime_number(p->grpc_now, p->status);
        r->status = http_of_grpc((uint32_t)n);
        r->grpc_status = (int)n;
        return roll(f, head, &p->abort_share, (sv){NULL, 0});
    case FAULT_BY_HEADER:
        if (header_number(head, SV("x-envoy-fault-abort-request"), &n) && n >= 200 && n < 600) {
            r->status = (uint16_t)n;
        } else if (header_number(head, SV("x-envoy-fault-abort-grpc-request"), &n) && n <= 16) {
            r->status = http_of_grpc((uint32_t)n);
            r->grpc_status = (int)n;
        } else {
            return false;
        }
        return roll(f, head, &p->abort_share, SV("x-envoy-fault-abort-request-percentage"));
    default:
        return false;
    }
}

/* True when the request was answered. */
static bool maybe_abort(struct fault *f, const struct http_head *head)
{
    struct http_filter_host *h = f->f.host;
    struct http_local_reply r = {.body = SV("fault filter abort"),
                                 .flags = STREAM_FLAG_FI,
                                 .details = STREAM_RCD_FAULT_ABORT};
    if (!abort_wanted(f, head, &r) || !take_active(f))
        return false;
    stat_inc(&f->cfg->stats, fault_stats_aborts_injected);
    h->ops->local_reply(h, &r);
    return true;
}

static void on_timer(struct timer *t)
{
    struct fault *f = container_of(t, struct fault, timer);
    struct http_filter_host *h = f->f.host;
    if (!maybe_abort(f, h->info->req))
        h->ops->continue_decoding(h);
}

static uint64_t delay_now(const struct policy *p)
{
    uint64_t ms = runtime_number(p->delay_now, p->delay_ms);
    return ms < 3600000 ? ms : p->delay_ms;
}

static uint64_t delay_wanted(struct fault *f, const struct http_head *head)
{
    const struct policy *p = f->p;
    uint64_t ms;
    switch (p->delay) {
    case FAULT_FIXED:
        return roll(f, head, &p->delay_share, (sv){NULL, 0}) ? delay_now(p) : 0;
    case FAULT_BY_HEADER:
        if (!header_number(head, SV("x-envoy-fault-delay-request"), &ms) ||
            !roll(f, head, &p->delay_share, SV("x-envoy-fault-delay-request-percentage")))
            return 0;
        return ms < 3600000 ? ms : 3600000;
    default:
        return 0;
    }
}

static enum http_filter_status decode_head(struct http_filter *hf, struct http_head *head, bool end)
{
    struct fault *f = container_of(hf, struct fault, f);
    const struct policy *by_route = hf->host->ops->route_config(hf->host);
    if (by_route)
        f->p = by_route;
    if (!for_request(f, head))
        return HTTP_FILTER_CONTINUE;
    uint64_t ms = delay_wanted(f, head);
    if (ms && take_active(f)) {
        stat_inc(&f->cfg->stats, fault_stats_delays_injected);
        stream_info_fail(hf->host->info, STREAM_FLAG_DI, (sv){NULL, 0});
        timer_init(&f->timer, hf->host->loop, on_timer);
        timer_set(&f->timer, ms);
        return HTTP_FILTER_STOP_WATERMARK;
    }
    return maybe_abort(f, head) ? HTTP_FILTER_STOP : HTTP_FILTER_CONTINUE;
}

static void on_destroy(struct http_filter *hf)
{
    struct fault *f = container_of(hf, struct fault, f);
    timer_cancel(&f->timer);
    if (f->active)
        stat_gauge_dec(&f->cfg->stats, fault_stats_active_faults);
    f->active = false;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.fault",
    .decode_head = decode_head,
    .on_destroy = on_destroy,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct fault *f = arena_new(host->arena, struct fault);
    f->f.ops = &ops;
    f->cfg = (struct config *)config; /* only its counters change */
    f->p = &f->cfg->p;
    return &f->f;
}

const struct http_filter_type http_fault_type = {
    .name = "envoy.filters.http.fault",
    .config_type = "envoy.extensions.filters.http.fault.v3.HTTPFault",
    .route_type = "envoy.extensions.filters.http.fault.v3.HTTPFault",
    .parse = parse,
    .parse_route = parse_route,
    .make = make,
};
