/* Whether a failed attempt is made again, as Envoy decides it, and after how long. */
#include "filters/http/router/router_private.h"
#include "base/code.h"

/* ---- what the request and its route ask for ---- */

static uint32_t count_list(sv list)
{
    uint32_t n = list.n ? 1 : 0;
    for (size_t i = 0; i < list.n; i++)
        n += list.p[i] == ',';
    return n;
}

static void take_codes(struct router *r, struct arena *a)
{
    sv rest = http_headers_get(&r->req->h, HTTP_H_X_ENVOY_RETRIABLE_STATUS_CODES), one;
    if (!rest.p)
        return;
    r->retry.codes = arena_alloc(a, sizeof(uint16_t) * (count_list(rest) + 1));
    while (rest.n) {
        uint64_t code;
        sv_cut(rest, ',', &one, &rest);
        if (sv_to_u64(sv_trim(one), &code) == 0 && code < 1000)
            r->retry.codes[r->retry.n_codes++] = (uint16_t)code;
    }
    http_headers_remove_id(&r->req->h, HTTP_H_X_ENVOY_RETRIABLE_STATUS_CODES);
}

static void take_header_names(struct router *r, struct arena *a)
{
    sv rest = http_headers_get(&r->req->h, HTTP_H_X_ENVOY_RETRIABLE_HEADER_NAMES), one;
    if (!rest.p)
        return;
    r->retry.headers = arena_alloc(a, sizeof(sv) * (count_list(rest) + 1));
    while (rest.n) {
        sv_cut(rest, ',', &one, &rest);
        one = sv_trim(one);
        if (one.n)
            r->retry.headers[r->retry.n_headers++] = one;
    }
    http_headers_remove_id(&r->req->h, HTTP_H_X_ENVOY_RETRIABLE_HEADER_NAMES);
}

static uint32_t take_retry_on(struct router *r, enum http_name name)
{
    sv v = http_headers_get(&r->req->h, name);
    if (!v.p)
        return 0;
    uint32_t bits = route_retry_on_parse(v, NULL);
    http_headers_remove_id(&r->req->h, name);
    return bits;
}

void router_retry_init(struct router *r)
{
    struct router_retry *y = &r->retry;
    struct arena *a = router_host(r)->arena;
    const struct route_retry_policy *p = r->route->retry;
    bool mine = !p || !p->n_request_headers;
    for (uint32_t i = 0; p && i < p->n_request_headers && !mine; i++)
        mine = header_match(&p->request_headers[i], r->req, a);
    if (p && mine) {
        y->policy = p;
        y->on = p->retry_on;
        y->left = p->has_num_retries ? p->num_retries : 1;
    } else {
        y->left = 1;
    }
    y->on |= take_retry_on(r, HTTP_H_X_ENVOY_RETRY_ON);
    y->on |= take_retry_on(r, HTTP_H_X_ENVOY_RETRY_GRPC_ON);
    sv max = http_headers_get(&r->req->h, HTTP_H_X_ENVOY_MAX_RETRIES);
    uint64_t n;
    if (max.p && y->on && sv_to_u64(max, &n) == 0)
        y->left = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    if (max.p)
        http_headers_remove_id(&r->req->h, HTTP_H_X_ENVOY_MAX_RETRIES);
    take_codes(r, a);
    take_header_names(r, a);
    if (y->n_codes)
        y->on |= ROUTE_RETRY_RETRIABLE_STATUS_CODES;
    r->holding = y->on != 0 || r->route->internal_redirect;
}

/* ---- the decision ---- */

static bool code_listed(const struct router_retry *y, uint16_t status)
{
    for (uint32_t i = 0; y->policy && i < y->policy->n_codes; i++)
        if (y->policy->codes[i] == status)
            return true;
    for (uint32_t i = 0; i < y->n_codes; i++)
        if (y->codes[i] == status)
            return true;
    return false;
}

static bool header_listed(struct router *r, const struct http_head *head)
{
    const struct router_retry *y = &r->retry;
    for (uint32_t i = 0; y->policy && i < y->policy->n_headers; i++)
        if (header_match(&y->policy->headers[i], head, router_host(r)->arena))
            return true;
    for (uint32_t i = 0; i < y->n_headers; i++)
        if (http_headers_get_sv(&head->h, y->headers[i]).p)
            return true;
    return false;
}

static bool grpc_retriable(uint32_t on, const struct http_head *head)
{
    uint64_t status;
    sv v = http_headers_get(&head->h, HTTP_H_GRPC_STATUS);
    if (!v.p || sv_to_u64(v, &status) < 0)
        return false;
    switch (status) {
    case 1:
        return on & ROUTE_RETRY_GRPC_CANCELLED;
    case 4:
        return on & ROUTE_RETRY_GRPC_DEADLINE_EXCEEDED;
    case 8:
        return on & ROUTE_RETRY_GRPC_RESOURCE_EXHAUSTED;
    case 13:
        return on & ROUTE_RETRY_GRPC_INTERNAL;
    case 14:
        return on & ROUTE_RETRY_GRPC_UNAVAILABLE;
    default:
        return false;
    }
}

bool router_retry_on_head(struct router *r, const struct http_head *head)
{
    uint32_t on = r->retry.on;
    uint16_t st = head->status;
    if (!on)
        return false;
    if (http_headers_get_sv(&head->h, SV("x-envoy-ratelimited")).p)
        return on & ROUTE_RETRY_ENVOY_RATELIMITED;
    if (st >= 500 && on & ROUTE_RETRY_5XX)
        return true;
    if ((st == 502 || st == 503 || st == 504) && on & ROUTE_RETRY_GATEWAY_ERROR)
        return true;
    if (st == 409 && on & ROUTE_RETRY_RETRIABLE_4XX)
        return true;
    if (on & ROUTE_RETRY_RETRIABLE_STATUS_CODES && code_listed(&r->retry, st))
        return true;
    if (on & ROUTE_RETRY_RETRIABLE_HEADERS && header_listed(r, head))
        return true;
    return grpc_retriable(on, head);
}

bool router_retry_on_reset(struct router *r, enum router_reset_kind k, bool head_sent)
{
    uint32_t on = r->retry.on;
    if (!on || k == ROUTER_RESET_OVERFLOW)
        return false;
    if (on & (ROUTE_RETRY_RESET | ROUTE_RETRY_5XX | ROUTE_RETRY_GATEWAY_ERROR))
        return true;
    if (!head_sent && on & ROUTE_RETRY_RESET_BEFORE_REQUEST)
        return true;
    if ((k == ROUTER_RESET_CONNECT || k == ROUTER_RESET_CONNECT_TIMEOUT) &&
        on & ROUTE_RETRY_CONNECT_FAILURE)
        return true;
    return k == ROUTER_RESET_REFUSED && on & ROUTE_RETRY_REFUSED_STREAM;
}

/* ---- doing it ---- */

static bool idempotent(sv method)
{
    static const sv known[] = {SV_INIT("GET"),   SV_INIT("HEAD"), SV_INIT("OPTIONS"),
                               SV_INIT("TRACE"), SV_INIT("PUT"),  SV_INIT("DELETE")};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (sv_eq(method, known[i]))
            return true;
    return false;
}

bool router_retry_replay(struct router *r, enum router_reset_kind k)
{
    struct router_try *t = r->cur;
    if (k != ROUTER_RESET_TERMINATION || !t || !t->reused || !t->whole_in_head || t->got_head ||
        r->replayed || !idempotent(r->req->method))
        return false;
    r->replayed = true;
    t->counted = true;
    upstream_count(r->cluster, UPSTREAM_upstream_rq_replay);
    router_try_end(t, ROUTER_END_OK);
    r->retry.waiting = true;
    timer_set(&r->backoff, 0);
    return true;
}

void router_retry_backoff_over(struct timer *t)
{
    struct router *r = container_of(t, struct router, backoff);
    r->retry.waiting = false;
    router_timeouts_say(r);
    router_try_start(r);
}

/* What the server asked for in a reset header; 0: nothing usable. */
static uint64_t asked_delay(struct router *r, const struct http_head *head)
{
    const struct route_retry_policy *p = r->retry.policy;
    for (uint32_t i = 0; head && p && i < p->n_reset_headers; i++) {
        sv v = http_headers_get_sv(&head->h, p->reset_headers[i].name);
        uint64_t n, now = loop_stamp_wall_ns(r->w->loop) / 1000000000u;
        if (!v.p || sv_to_u64(v, &n) < 0)
            continue;
        if (p->reset_headers[i].unix_time)
            n = n > now ? n - now : 0;
        if (n == 0 || n > p->reset_max_ms / 1000)
            continue;
        uint64_t ms = n * 1000;
        return ms + rand_below(loop_rand(r->w->loop), ms / 2 + 1); /* everybody was told the same */
    }
    return 0;
}

/* Full jitter: anything between 0 and base × 2^n, bounded. */
static uint64_t backoff_ms(struct router *r)
{
    const struct route_retry_policy *p = r->retry.policy;
    uint64_t base = p && p->backoff_base_ms ? p->backoff_base_ms : 25;
    uint64_t max = p && p->backoff_max_ms ? p->backoff_max_ms : base * 10;
    uint32_t shift = r->retry.n < 20 ? r->retry.n : 20;
    uint64_t top = (base << shift) - 1;
    if (top > max)
        top = max;
    return top ? rand_below(loop_rand(r->w->loop), top) : 0;
}

static void give_back(struct router *r)
{
    if (r->retry.taken)
        upstream_retry_give(r->cluster, r->ctx.priority);
    r->retry.taken = false;
}

HOT void router_retry_settled(struct router *r)
{
    if (r->retry.pending && !r->done) {
        upstream_count(r->cluster, UPSTREAM_upstream_rq_retry_success);
        router_count_named(r, "upstream_rq_retry_success");
    }
    r->retry.pending = false;
    give_back(r);
}

void router_retry_abandon(struct router *r)
{
    r->retry.on = 0;
    give_back(r);
}

/* Counts and schedules one more attempt, or says why not. */
static bool schedule(struct router *r, const struct http_head *head)
{
    give_back(r);
    if (!r->retry.left) {
        upstream_count(r->cluster, UPSTREAM_upstream_rq_retry_limit_exceeded);
        router_count_named(r, "upstream_rq_retry_limit_exceeded");
        stream_info_fail(r->si, STREAM_FLAG_URX, (sv){NULL, 0});
        return false;
    }
    r->retry.left--;
    if (!upstream_retry_take(r->cluster, r->ctx.priority)) {
        upstream_count(r->cluster, UPSTREAM_upstream_rq_retry_overflow);
        router_count_named(r, "upstream_rq_retry_overflow");
        stream_info_fail(r->si, STREAM_FLAG_UO, (sv){NULL, 0});
        return false;
    }
    r->retry.taken = r->retry.retried = r->retry.pending = true;
    upstream_count(r->cluster, UPSTREAM_upstream_rq_retry);
    router_count_named(r, "upstream_rq_retry");
    uint64_t wait = asked_delay(r, head);
    upstream_count(r->cluster, wait ? UPSTREAM_upstream_rq_retry_backoff_ratelimited
                                    : UPSTREAM_upstream_rq_retry_backoff_exponential);
    if (!wait)
        wait = backoff_ms(r);
    r->retry.n++;
    r->retry.waiting = true;
    timer_set(&r->backoff, wait);
    return true;
}

bool router_retry_go(struct router *r, bool wanted, const struct http_head *head)
{
    if (!wanted || r->overflowed) {
        if (!wanted)
            router_retry_settled(r);
        return false;
    }
    r->retry.pending = false;
    if (!schedule(r, head))
        return false;
    if (r->cur) {
        r->cur->retried = true;
        router_try_end(r->cur, ROUTER_END_OK);
    }
    return true;
}

bool router_retry_hedge(struct router *r)
{
    struct router_try *t = r->cur;
    if (!r->retry.on || r->overflowed || !schedule(r, NULL))
        return false;
    r->cur = NULL;
    t->next = r->hedged;
    r->hedged = t;
    return true;
}
