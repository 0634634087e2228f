#include "filters/http/router/router.h"
#include "base/code.h"

#include <stdio.h>

#include "base/base64.h"
#include "filters/http/router/router_private.h"
#include "filters/metadata.h"
#include "http/path.h"

static struct router *of(struct http_filter *f)
{
    return container_of(f, struct router, f);
}

static struct stat_group *stats(const struct router *r)
{
    return (struct stat_group *)&r->cfg->stats; /* counters change, the configuration does not */
}

/* ---- answers of our own ---- */

/* vhost.HOST.vcluster.NAME.… or vhost.HOST.route.PREFIX.…: `kind` and its label. */
static struct stat_series *series(struct router *r, const char *kind, sv label, sv value,
                                  const char *name, enum stat_kind what)
{
    char full[96];
    struct stat_label labels[] = {{SV("envoy.virtual_host"), r->m->vhost->name}, {label, value}};
    int n = snprintf(full, sizeof full, "%%.%s.%%.%s", kind, name);
    return stats_cache_get(r->w->series, r->cfg->vhosts, sv_make(full, (size_t)n), what, labels, 2);
}

static bool counts_by_name(const struct router *r)
{
    bool any = r->vcluster.n || (r->route && r->route->stat_prefix.n);
    return any && r->m->vhost && r->w->series && !r->si->health_check;
}

HOT void router_count_named(struct router *r, const char *name)
{
    if (!counts_by_name(r))
        return;
    if (r->vcluster.n)
        stat_series_add(
            series(r, "vcluster", SV("envoy.virtual_cluster"), r->vcluster, name, STAT_COUNTER), 1);
    if (r->route->stat_prefix.n)
        stat_series_add(
            series(r, "route", SV("envoy.route"), r->route->stat_prefix, name, STAT_COUNTER), 1);
}

static void record_time(struct router *r, uint64_t ms)
{
    static const char name[] = "upstream_rq_time";
    if (r->vcluster.n)
        stat_series_record(
            series(r, "vcluster", SV("envoy.virtual_cluster"), r->vcluster, name, STAT_HISTOGRAM),
            ms);
    if (r->route->stat_prefix.n)
        stat_series_record(
            series(r, "route", SV("envoy.route"), r->route->stat_prefix, name, STAT_HISTOGRAM), ms);
}

void router_count_named_status(struct router *r, uint16_t status, uint64_t time_us)
{
    char name[48];
    if (!counts_by_name(r))
        return;
    router_count_named(r, "upstream_rq_completed");
    snprintf(name, sizeof name, "upstream_rq_%uxx", status / 100u);
    router_count_named(r, name);
    snprintf(name, sizeof name, "upstream_rq_%u", status);
    router_count_named(r, name);
    if (time_us != UPSTREAM_NO_TIME)
        record_time(r, time_us / 1000u);
}

struct reply_fields {
    struct router *r;
    sv location;
    sv content_type;
    bool overloaded;
    bool by_route; /* the route's header operations apply */
};

static void reply_headers(struct http_head *head, void *arg)
{
    const struct reply_fields *x = arg;
    struct router *r = x->r;
    struct arena *a = router_host(r)->arena;
    if (x->location.p)
        http_headers_set_id(&head->h, HTTP_H_LOCATION, x->location);
    if (x->content_type.n)
        http_headers_set_id(&head->h, HTTP_H_CONTENT_TYPE, x->content_type);
    if (x->overloaded && !r->cfg->suppress_envoy_headers)
        http_headers_set(&head->h, SV("x-envoy-overloaded"), SV("true"));
    if (r->attempts && r->m->vhost && r->m->vhost->include_attempt_count_in_response)
        http_headers_set_id(&head->h, HTTP_H_X_ENVOY_ATTEMPT_COUNT,
                            arena_printf(a, "%u", r->attempts));
    if (x->by_route)
        route_match_response(r->m, head, r->si, a);
}

static void reply(struct router *r, uint16_t status, sv body, uint64_t flags, sv details,
                  struct reply_fields *x)
{
    struct http_filter_host *h = router_host(r);
    x->r = r;
    r->done = true;
    h->ops->local_reply(h, &(struct http_local_reply){
                               .status = status,
                               .body = body,
                               .flags = flags,
                               .details = details,
                               .modify = reply_headers,
                               .arg = x,
                           });
}

void router_count_status(struct router *r, uint16_t status)
{
    if (!r->cluster || !r->cfg->dynamic_stats)
        return;
    if (!r->si->health_check)
        upstream_count_response(r->cluster, status, UPSTREAM_NO_TIME, r->si->internal);
    router_count_named_status(r, status, UPSTREAM_NO_TIME);
}

void router_reply(struct router *r, uint16_t status, sv body, uint64_t flags, sv details)
{
    struct reply_fields x = {.overloaded = (flags & STREAM_FLAG_UO) != 0};
    router_count_status(r, status);
    router_finish(r);
    reply(r, status, body, flags, details, &x);
}

static void answer_none(struct router *r)
{
    struct reply_fields x = {0};
    stat_inc(stats(r), router_stats_no_route);
    reply(r, 404, SV(""), STREAM_FLAG_NR, STREAM_RCD_ROUTE_NOT_FOUND, &x);
}

static void answer_no_cluster(struct router *r)
{
    struct reply_fields x = {0};
    uint16_t status = r->route ? r->route->cluster_not_found_status : 0;
    stat_inc(stats(r), router_stats_no_cluster);
    reply(r, status ? status : 503, SV(""), STREAM_FLAG_NC, STREAM_RCD_CLUSTER_NOT_FOUND, &x);
}

static void answer_redirect(struct router *r)
{
    struct reply_fields x = {.by_route = true};
    stat_inc(stats(r), router_stats_rq_direct_response); /* as Envoy counts */
    uint16_t status = r->route ? r->route->status : 0;
    x.location = route_match_redirect(r->m, r->req, router_host(r)->arena);
    reply(r, status ? status : 301, SV(""), 0, STREAM_RCD_DIRECT_RESPONSE, &x);
}

static void answer_direct(struct router *r)
{
    struct reply_fields x = {.by_route = true};
    stat_inc(stats(r), router_stats_rq_direct_response);
    sv body = route_match_body(r->m, r->si, router_host(r)->arena, &x.content_type);
    reply(r, r->route->status, body, 0, STREAM_RCD_DIRECT_RESPONSE, &x);
}

/* ---- checks ---- */

/* strict_check_headers: what is malformed is refused instead of ignored. */
static bool check_strict(struct router *r)
{
    for (uint32_t i = 0; i < r->cfg->n_strict; i++) {
        sv name = r->cfg->strict_headers[i], unknown = {NULL, 0};
        sv v = http_headers_get_sv(&r->req->h, name);
        uint64_t n;
        if (!v.p)
            continue;
        if (sv_ends(name, SV("-on")))
            route_retry_on_parse(v, &unknown);
        else if (sv_to_u64(v, &n) < 0)
            unknown = v;
        if (!unknown.n)
            continue;
        struct reply_fields x = {0};
        sv body = arena_printf(router_host(r)->arena, "invalid header '%.*s' with value '%.*s'",
                               SV_ARG(name), SV_ARG(v));
        reply(r, 400, body, STREAM_FLAG_IH, STREAM_RCD_INVALID_ENVOY_HEADERS, &x);
        return false;
    }
    return true;
}

/* ---- forwarding ---- */

static void prepare_ctx(struct router *r)
{
    struct upstream_ctx *c = &r->ctx;
    c->priority = r->route->priority ? UPSTREAM_HIGH : UPSTREAM_DEFAULT;
    c->has_hash =
        route_match_hash(r->m, r->req, r->si, router_host(r)->arena, &c->hash, &r->set_cookie);
    c->original_dst = r->si->down->local_addr;
    c->straight = !r->si->down->original_dst;
    c->client = r->si->down->remote_addr;
    c->request = r->req;
    c->metadata_match = filter_metadata_match(r->si, r->m->metadata_match);
    c->downstream_protocol = r->si->protocol;
}

/* A CONNECT (or a POST in its place) that the route ends here. */
static const struct route_upgrade *ends_here(const struct router *r)
{
    const struct route_upgrade *u = NULL;
    if (route_upgrade_allowed(r->route, SV("CONNECT"), &u) != 1 || !u->connect || r->req->upgrade)
        return NULL;
    return sv_eq(r->req->method, SV("CONNECT")) ||
                   (u->connect_allow_post && sv_eq(r->req->method, SV("POST")))
               ? u
               : NULL;
}

/* The request is complete: its clock starts, copies of it can be made. */
HOT static void after_end(struct router *r)
{
    if (r->done)
        return;
    router_timeouts_request_ended(r);
    if (r->mirrors)
        router_mirror_go(r);
}

/* A WebSocket that began over HTTP/2 has no key (RFC 8441 section 5); a host that is spoken to over
 * HTTP/1 refuses it without one (RFC 6455 section 4.2.1). 16 random bytes in base64 are 22 letters,
 * the last one of four, and two signs of padding. */
static void add_websocket_key(struct router *r, struct arena *a)
{
    struct rand_state *rnd = loop_rand(r->w->loop);
    char key[24];

    if (!r->req->upgrade || !sv_eq_icase(r->req->connect_protocol, SV("websocket")) ||
        http_headers_get_sv(&r->req->h, SV("sec-websocket-key")).p)
        return;
    for (int i = 0; i < 22; i++)
        key[i] = base64_standard[i < 21 ? rand_below(rnd, 64) : rand_below(rnd, 4) * 16];
    key[22] = key[23] = '=';
    http_headers_add(&r->req->h, SV("sec-websocket-key"), arena_sv(a, sv_make(key, 24)));
}

static void forward(struct router *r, bool end)
{
    struct arena *a = router_host(r)->arena;
    r->cluster = r->m->cluster.n ? upstream_find(r->w->upstream, r->m->cluster) : NULL;
    if (!r->cluster) {
        answer_no_cluster(r);
        return;
    }
    r->si->cluster = r->cluster;
    r->si->upstream_cluster = upstream_cluster_name(r->cluster);
    r->si->upstream_cluster_alt = upstream_cluster_stat_name(r->cluster);
    if (r->cfg->n_strict && !check_strict(r))
        return;
    router_timeouts_init(r);
    router_retry_init(r);
    http_headers_remove_id(&r->req->h, HTTP_H_X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    prepare_ctx(r);
    r->vcluster = route_match_virtual_cluster(r->m, r->req, a);
    if (!sv_eq(r->vcluster, SV("other"))) /* it has no name in logs, as in Envoy */
        r->si->virtual_cluster = r->vcluster;
    r->tcp = ends_here(r);
    if (!r->si->original_path.p)
        r->si->original_path = r->req->path;
    r->si->attempts = 1; /* the first is being made: headers may say so */
    route_match_request(r->m, r->req, r->si, !r->cfg->suppress_envoy_headers, a);
    add_websocket_key(r, a);
    r->ctx.sni_override = r->req->authority;
    if (r->route->n_mirrors)
        router_mirror_init(r);
    if (end) {
        r->req_end = true;
        r->req_end_ns = r->si->request_end_ns;
    }
    router_try_start(r);
    if (end)
        after_end(r);
}

HOT static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head,
                                               bool end)
{
    struct router *r = of(f);
    r->req = head;
    r->m = f->host->ops->route(f->host);
    stat_inc(stats(r), router_stats_rq_total);
    if (!r->m) {
        answer_none(r);
        return HTTP_FILTER_STOP;
    }
    r->route = r->m->route;
    switch (r->m->action) {
    case ROUTE_FORWARD:
        forward(r, end);
        break;
    case ROUTE_REDIRECT:
        answer_redirect(r);
        break;
    case ROUTE_DIRECT_RESPONSE:
        answer_direct(r);
        break;
    case ROUTE_NON_FORWARDING:
        answer_no_cluster(r);
        break;
    default:
        answer_none(r);
    }
    return HTTP_FILTER_STOP;
}

/* ---- the request's body ---- */

HOT static void request_ended(struct router *r)
{
    r->req_end = true;
    r->req_end_ns = r->si->request_end_ns;
}

/* The body outgrew what may be held: from now on it only passes. Between two attempts there is
 * nobody to pass it to. */
static bool stop_holding(struct router *r)
{
    r->holding = false;
    r->overflowed = true;
    r->mirrors = NULL;
    upstream_count(r->cluster, UPSTREAM_retry_or_shadow_abandoned);
    if (!r->cur) {
        router_reply(r, 507, SV("exceeded request buffer limit while retrying upstream"), 0,
                     STREAM_RCD_REQUEST_PAYLOAD_RETRY_LIMIT);
        return false;
    }
    router_retry_abandon(r);
    buf_drain(&r->body, r->cur->sent);
    r->cur->sent = 0;
    return true;
}

/* Past what may be kept of a request by every filter of the stream. */
static bool too_large(const struct router *r)
{
    uint32_t limit = r->f.host->buffer_limit;
    return limit && r->body.len > limit;
}

/* What the route says about that goes over what filters were granted to keep. */
static bool too_large_to_hold(const struct router *r)
{
    return r->route->has_body_limit ? r->body.len > r->route->body_limit : too_large(r);
}

static enum http_filter_status decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct router *r = of(f);
    if (r->done)
        return HTTP_FILTER_STOP;
    if (end)
        request_ended(r);
    buf_move(&r->body, data);
    if (r->holding && too_large_to_hold(r) && !stop_holding(r))
        return HTTP_FILTER_STOP;
    if (r->cur)
        router_try_send(r->cur);
    if (r->done)
        return HTTP_FILTER_STOP;
    if (!r->holding && too_large(r) && !r->paused_request && !end) {
        r->paused_request = true;
        f->host->ops->pause_request(f->host, true);
    }
    if (end)
        after_end(r);
    return HTTP_FILTER_STOP;
}

static enum http_filter_status decode_trailers(struct http_filter *f, struct http_headers *t)
{
    struct router *r = of(f);
    if (r->done)
        return HTTP_FILTER_STOP;
    r->trailers = t;
    request_ended(r);
    if (r->cur)
        router_try_send(r->cur);
    after_end(r);
    return HTTP_FILTER_STOP;
}

/* ---- the end ---- */

HOT void router_finish(struct router *r)
{
    r->done = true;
    router_timeouts_stop(r);
    router_try_drop(r, ROUTER_END_CANCEL);
    router_retry_abandon(r);
    buf_reset(&r->body);
}

static void on_response_watermark(struct http_filter *f, bool high)
{
    router_try_watermark(of(f), high);
}

static void on_reset(struct http_filter *f, enum http_reset why)
{
    struct router *r = of(f);
    if (r->cluster)
        router_finish(r);
}

HOT static void on_destroy(struct http_filter *f)
{
    struct router *r = of(f);
    if (!r->cluster)
        return;
    router_finish(r);
    upstream_cluster_unref(r->cluster);
    r->cluster = NULL;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.router",
    .decode_head = decode_head,
    .decode_data = decode_data,
    .decode_trailers = decode_trailers,
    .on_response_watermark = on_response_watermark,
    .on_reset = on_reset,
    .on_destroy = on_destroy,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct router *r = arena_new(host->arena, struct router);
    r->f.ops = &ops;
    r->cfg = config;
    r->w = host->worker;
    r->si = host->info;
    buf_init(&r->body);
    return &r->f;
}

const struct http_filter_type http_router_type = {
    .name = "envoy.filters.http.router",
    .config_type = "envoy.extensions.filters.http.router.v3.Router",
    .terminal = true,
    .parse = router_parse,
    .make = make,
};
