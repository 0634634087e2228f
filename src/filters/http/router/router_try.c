/* One attempt: a stream to an endpoint, from asking for it to its end. */
#include "filters/http/router/router_private.h"
#include "base/code.h"
#include "upstream/proxy_header.h"
#include "upstream/tunnel.h"

/* ---- the end of an attempt ---- */

HOT static void count_end(struct router_try *t, enum router_end how)
{
    struct router *r = t->r;
    if (t->counted || !t->host)
        return;
    t->counted = true;
    uint16_t st = t->status;
    enum upstream_result res = st >= 502 && st <= 504 ? UPSTREAM_GATEWAY_ERROR
                               : st >= 500            ? UPSTREAM_5XX
                                                      : UPSTREAM_OK;
    if (how == ROUTER_END_TIMEOUT && !t->got_head)
        res = UPSTREAM_LOCAL_TIMEOUT;
    else if (how == ROUTER_END_RESET && !t->got_head)
        res = UPSTREAM_LOCAL_RESET;
    if ((how != ROUTER_END_CANCEL || t->got_head) && !t->late)
        upstream_host_result(t->host, res,
                             t->got_head                 ? st
                             : how == ROUTER_END_TIMEOUT ? 504
                                                         : 503);
    if (t->got_head && r->cfg->dynamic_stats && !r->si->health_check && !r->redirected &&
        !t->passed_over) {
        uint64_t now = loop_stamp_ns(r->w->loop);
        uint64_t from = r->req_end_ns ? r->req_end_ns : t->start_ns;
        if (t->retried) {
            upstream_count_retried(r->cluster, st);
            return;
        }
        upstream_count_response(r->cluster, st, (now - from) / 1000u, r->si->internal);
        router_count_named_status(r, st, (now - from) / 1000u);
    }
}

static void take_sizes(struct router_try *t)
{
    struct stream_info *si = t->r->si;
    si->up_head_in += t->s->head_bytes_in;
    si->up_head_out += t->s->head_bytes_out;
    si->up_head_plain_in += t->s->head_plain_in;
    si->up_head_plain_out += t->s->head_plain_out;
    si->up_wire_in += t->s->wire_bytes_in;
    si->up_wire_out += t->s->wire_bytes_out;
}

static void keep_arena(void *a)
{
    arena_free(a);
}

/* The head and its views stay as long as the downstream's stream, whatever becomes of the upstream
 * one: its memory is taken over instead of copied. */
HOT static void adopt_arena(struct router *r, struct http_stream *s)
{
    struct arena *a = arena_alloc(router_host(r)->arena, sizeof *a);
    arena_take(a, s->arena);
    arena_on_free(router_host(r)->arena, keep_arena, a);
}

static const struct http_stream_events dead_events;

/* No event of the stream reaches the router any more. */
static void detach(struct router_try *t)
{
    take_sizes(t);
    http_stream_set_user(t->s, &dead_events, NULL);
    t->s = NULL;
}

static void unpause_request(struct router_try *t)
{
    struct http_filter_host *h = router_host(t->r);
    if (t->paused_request)
        h->ops->pause_request(h, false);
    t->paused_request = false;
}

static void unlink_try(struct router_try *t)
{
    struct router *r = t->r;
    if (r->cur == t) {
        r->cur = NULL;
        timer_cancel(&r->per_try);
        return;
    }
    for (struct router_try **p = &r->hedged; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            return;
        }
}

void router_try_drop(struct router *r, enum router_end how)
{
    while (r->hedged)
        router_try_end(r->hedged, how);
    if (r->cur)
        router_try_end(r->cur, how);
}

HOT void router_try_end(struct router_try *t, enum router_end how)
{
    struct router *r = t->r;
    unlink_try(t);
    t->dropped = true;
    unpause_request(t);
    router_trace_end(
        t, &(struct router_trace_end){.flags = how == ROUTER_END_TIMEOUT ? STREAM_FLAG_UT : 0,
                                      .cancelled = how != ROUTER_END_OK || !t->got_end});
    count_end(t, how);
    if (t->open) {
        upstream_cancel(t->open);
        t->open = NULL;
    }
    if (!t->s)
        return;
    struct http_stream *s = t->s;
    bool whole = t->got_end && t->end_sent;
    if (r->responding) /* logs will speak of the response's head when this stream is long gone */
        adopt_arena(r, s);
    detach(t);
    if (whole)
        return;
    if (s->codec->protocol == HTTP_2) /* HTTP/1 has no resets: the connection is closed */
        upstream_count(r->cluster, UPSTREAM_upstream_rq_tx_reset);
    s->ops->reset(s, HTTP_RESET_LOCAL);
}

/* ---- failures ---- */

static const struct reset_kind {
    sv text; /* in bodies, with spaces; in details, with underscores */
    uint64_t flags;
} kinds[] = {
    [ROUTER_RESET_CONNECT] = {SV_INIT("remote connection failure"), STREAM_FLAG_UF},
    [ROUTER_RESET_CONNECT_TIMEOUT] = {SV_INIT("connection timeout"), STREAM_FLAG_UF},
    [ROUTER_RESET_OVERFLOW] = {SV_INIT("overflow"), STREAM_FLAG_UO},
    [ROUTER_RESET_REFUSED] = {SV_INIT("remote refused stream reset"), STREAM_FLAG_UR},
    [ROUTER_RESET_REMOTE] = {SV_INIT("remote reset"), STREAM_FLAG_UR},
    [ROUTER_RESET_TERMINATION] = {SV_INIT("connection termination"), STREAM_FLAG_UC},
    [ROUTER_RESET_PROTOCOL] = {SV_INIT("protocol error"), STREAM_FLAG_UPE},
    [ROUTER_RESET_LOCAL] = {SV_INIT("local reset"), STREAM_FLAG_LR},
    [ROUTER_RESET_PER_TRY] = {SV_INIT("local reset"), STREAM_FLAG_UT},
};

static sv inner_details(struct router *r, enum router_reset_kind k)
{
    sv why = r->si->upstream_failure;
    if (!why.n)
        return kinds[k].text;
    return arena_printf(router_host(r)->arena, "%.*s|%.*s", SV_ARG(kinds[k].text), SV_ARG(why));
}

/* A host that cancels has a reason that both ends know, such as a deadline that has passed: to the
 * client it is told as what it was, and not as an error of the proxy. */
static enum http_reset code_for_client(const struct router *r, enum router_reset_kind k)
{
    if (k == ROUTER_RESET_REMOTE && r->host_cancelled)
        return HTTP_RESET_REMOTE_CANCEL;
    return k == ROUTER_RESET_PROTOCOL ? HTTP_RESET_PROTOCOL : HTTP_RESET_LOCAL;
}

/* The attempt failed and there is no other. */
static void give_up(struct router *r, enum router_reset_kind k)
{
    if (r->responding && k == ROUTER_RESET_TERMINATION && r->si->upstream_protocol < HTTP_2)
        k = ROUTER_RESET_PROTOCOL; /* a message that ends too early breaks HTTP/1's framing */
    struct arena *a = router_host(r)->arena;
    struct http_filter_host *h = router_host(r);
    sv inner = inner_details(r, k);
    if (r->responding) {
        stat_inc((struct stat_group *)&r->cfg->stats,
                 router_stats_rq_reset_after_downstream_response_started);
        sv details = stream_info_details(r->si, STREAM_RCD_LATE_UPSTREAM_RESET, inner);
        r->si->details = details; /* instead of via_upstream: now it is known how that ended */
        router_finish(r);
        h->ops->reset(h, code_for_client(r, k), kinds[k].flags, details);
        return;
    }
    sv details = stream_info_details(r->si, STREAM_RCD_EARLY_UPSTREAM_RESET, inner);
    sv body = arena_printf(
        a, "upstream connect error or disconnect/reset before headers. %sreset reason: %.*s",
        r->retry.retried ? "retried and the latest " : "", SV_ARG(kinds[k].text));
    router_reply(r, k == ROUTER_RESET_PROTOCOL ? 502 : 503, body, kinds[k].flags, details);
}

static void failed(struct router_try *t, enum router_reset_kind k, bool head_sent)
{
    struct router *r = t->r;
    router_trace_end(t,
                     &(struct router_trace_end){.reset = kinds[k].text, .flags = kinds[k].flags});
    if (!r->responding && t == r->cur) { /* a hedged one has been made again already */
        bool retry = router_retry_on_reset(r, k, head_sent);
        if (router_retry_go(r, retry, NULL))
            return;
    }
    router_try_end(t, ROUTER_END_RESET);
    if (!r->responding && router_trying(r)) /* another may still answer */
        router_count_status(r, k == ROUTER_RESET_PROTOCOL ? 502 : 503);
    else
        give_up(r, k);
}

/* ---- the response ---- */

static void response_headers(struct router_try *t, struct http_head *head)
{
    struct router *r = t->r;
    struct arena *a = router_host(r)->arena;
    struct http_headers *h = &head->h;
    h->arena = a;
    if (!r->cfg->suppress_envoy_headers && r->req_end_ns) {
        uint64_t ms = (t->r->si->upstream_first_rx_ns - r->req_end_ns) / 1000000u;
        http_headers_set_id(h, HTTP_H_X_ENVOY_UPSTREAM_SERVICE_TIME, arena_u64(a, ms));
    }
    if (r->m->vhost && r->m->vhost->include_attempt_count_in_response)
        http_headers_set_id(h, HTTP_H_X_ENVOY_ATTEMPT_COUNT, arena_printf(a, "%u", r->attempts));
    if (r->set_cookie.p)
        http_headers_add_id(h, HTTP_H_SET_COOKIE, r->set_cookie);
    route_match_response(r->m, head, r->si, a);
}

/* The response has ended; the request may still be coming. */
HOT static void response_ended(struct router_try *t, const struct http_headers *trailers)
{
    struct router *r = t->r;
    router_trace_end(t, &(struct router_trace_end){.trailers = trailers});
    t->got_end = true;
    r->si->upstream_last_rx_ns = loop_stamp_ns(r->w->loop);
    count_end(t, ROUTER_END_OK);
    router_retry_settled(r);
    router_timeouts_stop(r);
    r->done = true;
    if (t->end_sent)
        return;
    /* Nobody will read the rest of the request. */
    struct http_stream *s = t->s;
    unpause_request(t);
    adopt_arena(r, s);
    detach(t);
    s->ops->reset(s, HTTP_RESET_NO_ERROR);
}

static void note_host(struct router_try *t)
{
    struct stream_info *si = t->r->si;
    const struct upstream_host_info *info = upstream_host_info(t->host);
    si->up = &t->up;
    si->upstream_host = info->addr_text;
    si->upstream_host_name = info->hostname;
    si->upstream_endpoint = t->host;
}

/* Its answer is the one; nobody waits for the others any more. */
static void win(struct router_try *t)
{
    struct router *r = t->r;
    r->retry.waiting = false;
    timer_cancel(&r->backoff);
    if (t != r->cur) {
        unlink_try(t);
        if (r->cur)
            router_try_end(r->cur, ROUTER_END_CANCEL);
        r->cur = t;
        r->retry.pending = false; /* the retry is not what helped */
        note_host(t);
    }
    while (r->hedged)
        router_try_end(r->hedged, ROUTER_END_CANCEL);
}

/* A bad answer while attempts are hedged: another one's is waited for, if there is another. */
static bool pass_over(struct router_try *t)
{
    struct router *r = t->r;
    if (t == r->cur && !r->hedged)
        return false;
    unlink_try(t);
    if (!router_trying(r)) {
        r->cur = t;
        note_host(t);
        return false;
    }
    t->passed_over = true;
    router_try_end(t, ROUTER_END_OK);
    return true;
}

static void on_head(void *user, struct http_head *head, bool end)
{
    struct router_try *t = user;
    struct router *r = t->r;
    struct http_filter_host *h = router_host(r);
    router_timeouts_active(r);
    r->si->upstream_first_rx_ns = loop_stamp_ns(r->w->loop);
    t->got_head = true;
    t->got_end = end;
    t->status = head->status;
    upstream_host_response(t->host, &head->h);
    t->answer = head;
    if (!r->per_try_idle_ms && t == r->cur)
        timer_cancel(&r->per_try);
    if (router_retry_on_head(r, head)) {
        if ((t == r->cur && router_retry_go(r, true, head)) || pass_over(t))
            return;
    }
    win(t);
    if (router_redirect(r, head))
        return;
    r->responding = true;
    if (!r->mirrors) {
        r->holding = false;
        buf_drain(&r->body, t->sent);
        t->sent = 0;
    }
    stream_info_set_details(r->si, STREAM_RCD_VIA_UPSTREAM);
    r->si->upstream_protocol = head->protocol;
    r->si->has_upstream_protocol = true;
    r->si->response_code = head->status;
    response_headers(t, head);
    if (end)
        response_ended(t, NULL);
    h->ops->respond_head(h, head, end);
}

static void on_info(void *user, struct http_head *head)
{
    struct router_try *t = user;
    struct http_filter_host *h = router_host(t->r);
    if (t != t->r->cur)
        return;
    router_timeouts_active(t->r);
    if (head->status == 100 && t->got_continue)
        return;
    t->got_continue |= head->status == 100;
    router_count_status(t->r, head->status);
    h->ops->respond_info(h, head);
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct router_try *t = user;
    struct http_filter_host *h = router_host(t->r);
    router_timeouts_active(t->r);
    if (end)
        response_ended(t, NULL);
    h->ops->respond_data(h, data, end);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    struct router_try *t = user;
    struct http_filter_host *h = router_host(t->r);
    trailers->arena = h->arena;
    response_ended(t, trailers);
    h->ops->respond_trailers(h, trailers);
}

static enum router_reset_kind kind_of(enum http_reset why)
{
    switch (why) {
    case HTTP_RESET_REMOTE_REFUSED:
        return ROUTER_RESET_REFUSED;
    case HTTP_RESET_CONN_TERMINATION:
        return ROUTER_RESET_TERMINATION;
    case HTTP_RESET_CONN_FAILURE:
        return ROUTER_RESET_CONNECT;
    case HTTP_RESET_PROTOCOL:
        return ROUTER_RESET_PROTOCOL;
    case HTTP_RESET_OVERFLOW:
        return ROUTER_RESET_PROTOCOL;
    case HTTP_RESET_LOCAL:
    case HTTP_RESET_TIMEOUT:
        return ROUTER_RESET_LOCAL;
    default:
        return ROUTER_RESET_REMOTE;
    }
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct router_try *t = user;
    struct router *r = t->r;
    if (t->s->codec->protocol == HTTP_2 &&
        (why == HTTP_RESET_REMOTE || why == HTTP_RESET_REMOTE_CANCEL))
        upstream_count(r->cluster, UPSTREAM_upstream_rq_rx_reset);
    unpause_request(t);
    if (t->got_end) { /* only the request's half: the response is whole */
        count_end(t, ROUTER_END_RESET);
        return;
    }
    r->host_cancelled = why == HTTP_RESET_REMOTE_CANCEL;
    if (why == HTTP_RESET_CONN_TERMINATION && details && sv_starts(sv_of(details), SV("TLS_error")))
        r->si->upstream_failure = arena_sv(router_host(r)->arena, sv_of(details));
    /* The stream is gone: on_close follows, and finds the attempt dropped. */
    adopt_arena(r, t->s);
    detach(t);
    if (t == r->cur && router_retry_replay(r, kind_of(why)))
        return;
    count_end(t, ROUTER_END_RESET);
    failed(t, kind_of(why), t->head_sent);
}

static void on_close(void *user)
{
    struct router_try *t = user;
    adopt_arena(t->r, t->s);
    detach(t);
}

/* ---- flow control ---- */

static void on_high(void *user)
{
    struct router_try *t = user;
    struct http_filter_host *h = router_host(t->r);
    upstream_count(t->r->cluster, UPSTREAM_upstream_flow_control_backed_up_total);
    if (t->paused_request)
        return;
    t->paused_request = true;
    h->ops->pause_request(h, true);
}

static void on_low(void *user)
{
    struct router_try *t = user;
    upstream_count(t->r->cluster, UPSTREAM_upstream_flow_control_drained_total);
    unpause_request(t);
}

void router_try_watermark(struct router *r, bool high)
{
    r->down_high += high ? 1u : -1u;
    if (r->down_high != (high ? 1u : 0u))
        return;
    for (struct router_try *t = r->hedged; t; t = t->next)
        if (t->s)
            t->s->ops->pause(t->s, high);
    if (!r->cur || !r->cur->s)
        return;
    upstream_count(r->cluster, high ? UPSTREAM_upstream_flow_control_paused_reading_total
                                    : UPSTREAM_upstream_flow_control_resumed_reading_total);
    r->cur->s->ops->pause(r->cur->s, high);
}

static const struct http_stream_events events = {
    .on_head = on_head,
    .on_info = on_info,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_high = on_high,
    .on_low = on_low,
    .on_close = on_close,
};

/* ---- the request ---- */

HOT void router_try_send(struct router_try *t)
{
    struct router *r = t->r;
    if (!t->s || !t->head_sent || t->end_sent)
        return;
    size_t n = r->body.len - t->sent;
    bool end = r->req_end && !r->trailers;
    if (n || end) {
        struct buf out;
        buf_init(&out);
        if (r->holding) {
            buf_share(&out, &r->body, t->sent, n);
            t->sent += n;
        } else {
            buf_move(&out, &r->body);
            t->sent = 0;
        }
        t->end_sent = end;
        int rc = t->s->ops->send_data(t->s, &out, end);
        buf_reset(&out);
        if (rc < 0 || t->dropped || !t->s)
            return;
    }
    if (r->req_end && r->trailers) {
        t->end_sent = true;
        t->s->ops->send_trailers(t->s, r->trailers);
    }
    if (t->end_sent)
        r->si->upstream_last_tx_ns = loop_stamp_ns(r->w->loop);
    if (r->paused_request && r->body.len <= router_host(r)->buffer_limit) {
        r->paused_request = false;
        router_host(r)->ops->pause_request(router_host(r), false);
    }
}

static void note_connection(struct router_try *t, const struct conn *conn)
{
    struct router *r = t->r;
    struct stream_info *si = r->si;
    upstream_conn_describe(conn, router_host(r)->arena, &t->up);
    t->up.remote = t->up.direct_remote = upstream_host_info(t->host)->addr_text;
    note_host(t);
    si->upstream_pool_ns = loop_stamp_ns(r->w->loop);
    if (!si->upstream_connect_done_ns)
        si->upstream_connect_done_ns = si->upstream_pool_ns;
}

/* For the next attempt, if there is one: hosts and priorities that had their chance. */
HOT static void remember_host(struct router *r, const struct upstream_host *host)
{
    const struct route_retry_policy *p = r->retry.policy;
    if (!p || !host)
        return;
    r->ctx.avoid_canaries = p->host_predicates & ROUTE_HOSTS_OMIT_CANARY;
    r->ctx.avoid_metadata = p->omit_hosts;
    uint32_t priority = upstream_host_info(host)->priority;
    r->n_tried++;
    if (priority < 64)
        r->tried_priorities |= 1ull << priority;
    if (p->priority_update && r->n_tried % p->priority_update == 0)
        r->ctx.spent_priorities = r->tried_priorities;
    if (!(p->host_predicates & ROUTE_HOSTS_PREVIOUS) || r->ctx.n_tried >= ROUTER_TRIED_MAX)
        return;
    r->tried[r->ctx.n_tried++] = host;
    r->ctx.tried = r->tried;
}

HOT static void on_ready(void *user, struct http_stream *s, struct upstream_host *host,
                         const struct conn *conn)
{
    struct router_try *t = user;
    struct router *r = t->r;
    t->open = NULL;
    t->s = s;
    t->host = host;
    http_stream_set_user(s, &events, t);
    note_connection(t, conn);
    remember_host(r, host);
    router_count_named(r, "upstream_rq_total");
    r->si->upstream_failure = (sv){NULL, 0};
    if (r->route->auto_host_rewrite && r->si->upstream_host_name.n) {
        if (!r->cfg->suppress_envoy_headers && r->attempts <= 1)
            http_headers_set(&r->req->h, SV("x-envoy-original-host"), r->req->authority);
        route_set_authority(r->req, r->si->upstream_host_name, r->route->append_x_forwarded_host,
                            router_host(r)->arena);
    }
    if (r->si->scheme_of_upstream)
        r->req->scheme = t->up.tls ? SV("https") : SV("http");
    router_host(r)->ops->upstream_ready(router_host(r), r->req);
    if (r->down_high)
        s->ops->pause(s, true);
    t->end_sent = r->req_end && !r->body.len && !r->trailers;
    t->whole_in_head = t->end_sent;
    t->reused = s->codec->protocol < HTTP_2 && s->codec->streams_total > 1;
    t->head_sent = true;
    t->protocol = s->codec->protocol;
    r->si->upstream_protocol = t->protocol;
    r->si->has_upstream_protocol = true;
    r->si->upstream_first_tx_ns = loop_stamp_ns(r->w->loop);
    if (t->end_sent)
        r->si->upstream_last_tx_ns = r->si->upstream_first_tx_ns;
    int rc = s->ops->send_head(s, r->req, t->end_sent);
    if (rc < 0) {
        t->head_sent = false;
        router_retry_abandon(r);
        router_try_drop(r, ROUTER_END_CANCEL);
        router_reply(r, 503, SV("upstream request cannot be sent"), STREAM_FLAG_UPE,
                     STREAM_RCD_FILTER_REMOVED_REQUEST_HEADERS);
        return;
    }
    if (t->dropped)
        return;
    router_try_send(t);
    if (!t->dropped && !t->got_head)
        router_timeouts_try_ready(r);
}

static void note_failed_host(struct router *r, struct upstream_host *host)
{
    if (!host)
        return;
    const struct upstream_host_info *info = upstream_host_info(host);
    r->si->upstream_host = info->addr_text;
    r->si->upstream_host_name = info->hostname;
    r->si->upstream_endpoint = host;
    remember_host(r, host);
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct router_try *t = user;
    struct router *r = t->r;
    t->open = NULL;
    if (t->dropped)
        return;
    note_failed_host(r, host);
    if (why != UPSTREAM_FAIL_NO_HOST)
        r->si->upstream_pool_ns = loop_stamp_ns(r->w->loop);
    r->si->upstream_failure = details.n ? arena_sv(router_host(r)->arena, details) : (sv){NULL, 0};
    switch (why) {
    case UPSTREAM_FAIL_NO_HOST:
        t->span = NULL; /* nothing was attempted */
        router_try_end(t, ROUTER_END_CANCEL);
        if (router_trying(r))
            return;
        router_reply(r, 503, SV("no healthy upstream"), STREAM_FLAG_UH,
                     STREAM_RCD_NO_HEALTHY_UPSTREAM);
        return;
    case UPSTREAM_FAIL_OVERFLOW:
        failed(t, ROUTER_RESET_OVERFLOW, false);
        return;
    case UPSTREAM_FAIL_CONNECT_TIMEOUT:
        r->si->upstream_failure = (sv){NULL, 0};
        failed(t, ROUTER_RESET_CONNECT_TIMEOUT, false);
        return;
    default:
        failed(t, ROUTER_RESET_CONNECT, false);
    }
}

static const struct upstream_http_cb open_cb = {on_ready, on_fail};

/* For a CONNECT that ends here: the connection stands in for a stream. */
static void on_tcp_ready(void *user, struct conn *c, struct upstream_host *host)
{
    struct router_try *t = user;
    struct router *r = t->r;
    char header[PROXY_HEADER_MAX];
    sv first = {NULL, 0};
    if (r->tcp->connect_proxy_protocol)
        first = sv_make(header, proxy_header_write(header, r->tcp->connect_proxy_protocol,
                                                   r->ctx.client, r->ctx.original_dst));
    on_ready(t, tcp_stream_new(c, host, first, upstream_cluster_buffer_limit(r->cluster)), host, c);
}

static const struct upstream_tcp_cb tcp_cb = {on_tcp_ready, on_fail};

HOT void router_try_start(struct router *r)
{
    struct http_filter_host *h = router_host(r);
    struct router_try *t = arena_new(h->arena, struct router_try);
    t->r = r;
    t->start_ns = loop_stamp_ns(r->w->loop);
    r->cur = t;
    r->si->attempts = ++r->attempts;
    if (r->m->vhost && r->m->vhost->include_attempt_count)
        http_headers_set_id(&r->req->h, HTTP_H_X_ENVOY_ATTEMPT_COUNT,
                            arena_printf(h->arena, "%u", r->attempts));
    if (r->attempts > 1 && r->m->vhost && r->m->vhost->include_is_timeout_retry)
        http_headers_set(&r->req->h, SV("x-envoy-is-timeout-retry"),
                         r->retry.by_timeout ? SV("true") : SV("false"));
    r->retry.by_timeout = false;
    t->number = r->attempts - 1;
    router_trace_start(t);
    if (!r->si->upstream_connect_start_ns)
        r->si->upstream_connect_start_ns = t->start_ns;
    struct upstream_open *o = r->tcp ? upstream_tcp_open(r->cluster, &r->ctx, &tcp_cb, t)
                                     : upstream_http_open(r->cluster, &r->ctx, &open_cb, t);
    if (o)
        t->open = o;
}
