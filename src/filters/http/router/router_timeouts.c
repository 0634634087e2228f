/* How long a request may take: the route's timeout, what a trusted caller asks for, gRPC's
 * deadline; the whole, each attempt, and silence within an attempt. */
#include "filters/http/router/router_private.h"
#include "base/code.h"
#include "http/grpc_timeout.h"

static void grpc_deadline(struct router *r)
{
    const struct route *rt = r->route;
    if (rt->new_timeouts || !rt->has_grpc_timeout_max || !r->si->is_grpc)
        return;
    uint64_t ms = 0;
    if (!http_grpc_timeout_read(http_headers_get(&r->req->h, HTTP_H_GRPC_TIMEOUT), &ms))
        ms = 0;
    if (rt->grpc_timeout_offset_ms && ms > rt->grpc_timeout_offset_ms)
        ms -= rt->grpc_timeout_offset_ms;
    if (rt->grpc_timeout_max_ms && (ms == 0 || ms > rt->grpc_timeout_max_ms))
        ms = rt->grpc_timeout_max_ms;
    r->timeout_ms = ms;
}

HOT static bool take_ms(struct http_headers *h, enum http_name name, uint64_t *out)
{
    sv v = http_headers_get(h, name);
    if (!v.p)
        return false;
    uint64_t ms;
    bool ok = sv_to_u64(v, &ms) == 0;
    if (ok)
        *out = ms > INT64_MAX / 1000000 ? INT64_MAX / 1000000 : ms;
    http_headers_remove_id(h, name);
    return ok;
}

/* ---- timers ---- */

static void timed_out(struct router *r, sv details)
{
    if (r->responding) {
        stat_inc((struct stat_group *)&r->cfg->stats,
                 router_stats_rq_reset_after_downstream_response_started);
        r->si->details = details;
        router_finish(r);
        router_host(r)->ops->reset(router_host(r), HTTP_RESET_TIMEOUT, STREAM_FLAG_UT, details);
        return;
    }
    router_reply(r, r->alt_timeout_status ? 204 : 504,
                 r->alt_timeout_status ? SV("") : SV("upstream request timeout"), STREAM_FLAG_UT,
                 details);
}

static void on_overall(struct timer *t)
{
    struct router *r = container_of(t, struct router, overall);
    upstream_count(r->cluster, UPSTREAM_upstream_rq_timeout);
    router_count_named(r, "upstream_rq_timeout");
    /* Of several that wait, each counts as one that took too long; the answer counts once more. */
    for (struct router_try *h = r->cur      ? r->hedged
                                : r->hedged ? r->hedged->next
                                            : NULL;
         h; h = h->next) {
        upstream_count(r->cluster, UPSTREAM_upstream_rq_timeout);
        router_count_status(r, 504);
    }
    router_try_drop(r, ROUTER_END_TIMEOUT);
    timed_out(r, STREAM_RCD_UPSTREAM_TIMEOUT);
}

/* The attempt goes on: its answer may come before that of the one which is made beside it. */
static void hedge(struct router *r)
{
    struct router_try *t = r->cur;
    t->late = true;
    if (t->host)
        upstream_host_result(t->host, UPSTREAM_LOCAL_TIMEOUT, 504);
    r->retry.by_timeout = true;
    if (!router_retry_hedge(r) && r->per_try_idle_ms)
        timer_set(&r->per_try, r->per_try_idle_ms);
}

static void on_per_try(struct timer *t)
{
    struct router *r = container_of(t, struct router, per_try);
    bool idle = false;
    if (!r->cur)
        return;
    if (r->per_try_idle_ms) {
        uint64_t quiet = loop_now_ms(r->w->loop) - r->per_try_last_ms;
        idle = quiet >= r->per_try_idle_ms;
        uint64_t age = (loop_now_ns(r->w->loop) - r->cur->start_ns) / 1000000u;
        bool timed = r->per_try_ms && !r->responding && !r->cur->late;
        if (!idle && (!timed || age < r->per_try_ms)) {
            uint64_t ms = r->per_try_idle_ms - quiet;
            timer_set(t, timed && r->per_try_ms - age < ms ? r->per_try_ms - age : ms);
            return;
        }
    }
    if (!idle && r->hedge) {
        hedge(r);
        return;
    }
    upstream_count(r->cluster, idle ? UPSTREAM_upstream_rq_per_try_idle_timeout
                                    : UPSTREAM_upstream_rq_per_try_timeout);
    bool retry = !r->responding && router_retry_on_reset(r, ROUTER_RESET_PER_TRY, true);
    router_try_drop(r, ROUTER_END_TIMEOUT);
    r->retry.by_timeout = true;
    if (!r->responding && router_retry_go(r, retry, NULL))
        return;
    timed_out(r, idle ? STREAM_RCD_UPSTREAM_PER_TRY_IDLE_TIMEOUT
                      : STREAM_RCD_UPSTREAM_PER_TRY_TIMEOUT);
}

void router_timeouts_init(struct router *r)
{
    struct http_headers *h = &r->req->h;
    timer_init(&r->overall, r->w->loop, on_overall);
    timer_init(&r->per_try, r->w->loop, on_per_try);
    timer_init(&r->backoff, r->w->loop, router_retry_backoff_over);
    r->timeout_ms = r->route->new_timeouts ? 0 : r->route->timeout_ms;
    if (r->route->retry) {
        r->per_try_ms = r->route->retry->per_try_timeout_ms;
        r->per_try_idle_ms = r->route->retry->per_try_idle_timeout_ms;
    }
    grpc_deadline(r);
    sv expected = http_headers_get(h, HTTP_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS);
    uint64_t ms;
    if (r->cfg->respect_expected_timeout && expected.p && sv_to_u64(expected, &ms) == 0)
        r->timeout_ms = ms;
    else
        take_ms(h, HTTP_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &r->timeout_ms);
    take_ms(h, HTTP_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, &r->per_try_ms);
    sv hedge = http_headers_get_sv(h, SV("x-envoy-hedge-on-per-try-timeout"));
    r->hedge = sv_eq(hedge, SV("true")) || (r->route->hedge && !sv_eq(hedge, SV("false")));
    if (r->timeout_ms && r->per_try_ms >= r->timeout_ms)
        r->per_try_ms = 0;
    r->alt_timeout_status =
        http_headers_remove_id(h, HTTP_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) > 0;
    router_timeouts_say(r);
}

HOT void router_timeouts_say(struct router *r)
{
    uint64_t spent = r->req_end_ns ? (loop_stamp_ns(r->w->loop) - r->req_end_ns) / 1000000u : 0;
    uint64_t left = r->timeout_ms > spent ? r->timeout_ms - spent : r->timeout_ms ? 1 : 0;
    uint64_t say =
        r->per_try_ms && !r->hedge && (!left || r->per_try_ms < left) ? r->per_try_ms : left;
    if (!r->cfg->suppress_envoy_headers && say)
        http_headers_set_id(&r->req->h, HTTP_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                            arena_u64(router_host(r)->arena, say));
}

static void arm_per_try(struct router *r)
{
    uint64_t ms = r->per_try_ms;
    if (r->per_try_idle_ms && (!ms || r->per_try_idle_ms < ms))
        ms = r->per_try_idle_ms;
    if (ms)
        timer_set(&r->per_try, ms);
}

void router_timeouts_request_ended(struct router *r)
{
    if (r->done)
        return;
    if (r->timeout_ms) {
        timer_set(&r->overall, r->timeout_ms);
    }
    if (r->cur && !r->cur->got_head)
        router_timeouts_try_ready(r);
}

/* An attempt's clock runs from when its stream is there and the request complete. */
HOT void router_timeouts_try_ready(struct router *r)
{
    if (!r->req_end || (!r->per_try_ms && !r->per_try_idle_ms))
        return;
    r->per_try_last_ms = loop_now_ms(r->w->loop);
    arm_per_try(r);
}

void router_timeouts_active(struct router *r)
{
    r->per_try_last_ms = loop_now_ms(r->w->loop);
}

void router_timeouts_stop(struct router *r)
{
    timer_cancel(&r->overall);
    timer_cancel(&r->per_try);
    timer_cancel(&r->backoff);
}
