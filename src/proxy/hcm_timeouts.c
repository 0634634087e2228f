/* Timers of a stream. Activity only writes a time; the idle timer looks at it when it fires, so
 * that a request that runs normally sets each timer once. */
#include "http/grpc_timeout.h"
#include "net/loop.h"
#include "proxy/hcm.h"

#define GRPC_DEADLINE_EXCEEDED 4

static uint64_t now(const struct hcm_stream *s)
{
    return loop_now_ms(s->hc->conn->loop);
}

/* Envoy's rule: 504 when the request was complete and the wait is the upstream's fault. */
static uint16_t timeout_status(const struct hcm_stream *s)
{
    return s->recv_end ? 504 : 408;
}

static void on_idle(struct timer *t)
{
    struct hcm_stream *s = container_of(t, struct hcm_stream, idle);
    uint64_t quiet = now(s) - s->last_active_ms;
    if (quiet < s->idle_ms) {
        timer_set(t, s->idle_ms - quiet);
        return;
    }
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_idle_timeout);
    if (s->head_sent) {
        hcm_stream_reset(s, HTTP_RESET_TIMEOUT, STREAM_FLAG_SI, STREAM_RCD_STREAM_IDLE_TIMEOUT);
        return;
    }
    hcm_local_reply(s, &(struct http_local_reply){.status = timeout_status(s),
                                                  .body = SV("stream timeout"),
                                                  .flags = STREAM_FLAG_SI,
                                                  .details = STREAM_RCD_STREAM_IDLE_TIMEOUT});
}

static void set_request_timer(struct hcm_stream *s)
{
    uint64_t due = s->request_due_ms;
    if (s->duration_due_ms && (!due || s->duration_due_ms < due))
        due = s->duration_due_ms;
    if (s->log_flush_due_ms && (!due || s->log_flush_due_ms < due))
        due = s->log_flush_due_ms;
    if (!due)
        timer_cancel(&s->request);
    else
        timer_set(&s->request, due > now(s) ? due - now(s) : 0);
}

static void request_timeout(struct hcm_stream *s)
{
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_timeout);
    if (s->head_sent) {
        hcm_stream_reset(s, HTTP_RESET_TIMEOUT, 0, STREAM_RCD_REQUEST_OVERALL_TIMEOUT);
        return;
    }
    hcm_local_reply(s, &(struct http_local_reply){.status = 408,
                                                  .body = SV("request timeout"),
                                                  .details = STREAM_RCD_REQUEST_OVERALL_TIMEOUT});
}

static void duration_timeout(struct hcm_stream *s)
{
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_max_duration_reached);
    if (s->head_sent) {
        hcm_stream_reset(s, HTTP_RESET_TIMEOUT, 0, STREAM_RCD_MAX_DURATION_TIMEOUT);
        return;
    }
    hcm_local_reply(s, &(struct http_local_reply){.status = timeout_status(s),
                                                  .body = SV("downstream duration timeout"),
                                                  .grpc_status = GRPC_DEADLINE_EXCEEDED,
                                                  .details = STREAM_RCD_MAX_DURATION_TIMEOUT});
}

static void on_request(struct timer *t)
{
    struct hcm_stream *s = container_of(t, struct hcm_stream, request);
    uint64_t at = now(s);
    if (s->log_flush_due_ms && at >= s->log_flush_due_ms) {
        s->log_flush_due_ms = at + s->cfg->log_flush_ms;
        hcm_stream_log(s, "DownstreamPeriodic");
    }
    if (s->request_due_ms && at >= s->request_due_ms) {
        s->request_due_ms = 0;
        request_timeout(s);
        return;
    }
    if (s->duration_due_ms && at >= s->duration_due_ms) {
        s->duration_due_ms = 0;
        duration_timeout(s);
        return;
    }
    set_request_timer(s);
}

void hcm_timeouts_start(struct hcm_stream *s)
{
    struct loop *l = s->hc->conn->loop;
    timer_init(&s->idle, l, on_idle);
    timer_init(&s->request, l, on_request);
    s->last_active_ms = now(s);
    s->idle_ms = s->cfg->stream_idle_ms;
    if (s->idle_ms)
        timer_set(&s->idle, s->idle_ms);
    if (s->cfg->request_ms)
        s->request_due_ms = now(s) + s->cfg->request_ms;
    if (s->cfg->max_stream_ms)
        s->duration_due_ms = now(s) + s->cfg->max_stream_ms;
    if (s->cfg->log_flush_ms)
        s->log_flush_due_ms = now(s) + s->cfg->log_flush_ms;
    if (s->request_due_ms || s->duration_due_ms || s->log_flush_due_ms)
        set_request_timer(s);
}

/* How long the stream may last: the caller's gRPC deadline where the route looks at it, within the
 * route's bound; the server is told what is left of it. Else the route's duration. 0: no end. */
static void set_duration(struct hcm_stream *s, const struct route *r, struct http_headers *h)
{
    uint64_t ms = 0;
    bool deadline = r->has_grpc_timeout_max &&
                    http_grpc_timeout_read(http_headers_get(h, HTTP_H_GRPC_TIMEOUT), &ms);

    if (deadline) {
        if (r->grpc_timeout_max_ms && ms > r->grpc_timeout_max_ms)
            ms = r->grpc_timeout_max_ms;
        ms -= ms > r->grpc_timeout_offset_ms ? r->grpc_timeout_offset_ms : ms;
    } else if (r->has_max_stream_duration) {
        ms = r->max_stream_duration_ms;
    } else {
        return;
    }
    if (s->si.is_grpc && (deadline || ms))
        http_headers_set_id(h, HTTP_H_GRPC_TIMEOUT, http_grpc_timeout_text(s->arena, ms));
    s->duration_due_ms = deadline || ms ? now(s) + ms : 0;
    set_request_timer(s);
}

void hcm_timeouts_route(struct hcm_stream *s, const struct route *r, struct http_head *head)
{
    if (s->over)
        return;
    if (r->has_idle_timeout && r->idle_timeout_ms != s->idle_ms) {
        s->idle_ms = r->idle_timeout_ms;
        if (s->idle_ms)
            timer_set(&s->idle, s->idle_ms);
        else
            timer_cancel(&s->idle);
    }
    if (r->new_timeouts)
        set_duration(s, r, &head->h);
}

void hcm_timeouts_request_ended(struct hcm_stream *s)
{
    if (!s->request_due_ms)
        return;
    s->request_due_ms = 0;
    set_request_timer(s);
}

void hcm_timeouts_stop(struct hcm_stream *s)
{
    timer_cancel(&s->idle);
    timer_cancel(&s->request);
}
