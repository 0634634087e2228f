/* The life of a stream: codec events in, codec calls out, reset, end, logs and counters. */
#include "http/limits.h"
#include "base/code.h"
#include "net/loop.h"
#include "proxy/hcm.h"
#include "proxy/hcm_headers.h"
#include "proxy/hcm_tracing.h"
#include "proxy/rds.h"
#include "telemetry/access_log.h"

/* ---- the end ---- */

HOT static void count_status(struct hcm_stream *s, uint16_t status)
{
    static const uint8_t by_class[6] = {0,
                                        hcm_stats_downstream_rq_1xx,
                                        hcm_stats_downstream_rq_2xx,
                                        hcm_stats_downstream_rq_3xx,
                                        hcm_stats_downstream_rq_4xx,
                                        hcm_stats_downstream_rq_5xx};
    unsigned class = status / 100u;
    if (s->si.health_check)
        return;
    struct stat_group *g = s->cfg->stats, *l = s->cfg->listener_stats;
    stat_inc(g, hcm_stats_downstream_rq_completed);
    if (l)
        stat_inc(l, hcm_listener_stats_downstream_rq_completed);
    if (class < 1 || class > 5)
        return;
    stat_inc(g, by_class[class]);
    if (l)
        stat_inc(l, hcm_listener_stats_downstream_rq_1xx + class - 1);
}

static void count_response(struct hcm_stream *s)
{
    count_status(s, s->si.response_code);
}

static void collect_sizes(struct hcm_stream *s)
{
    const struct http_stream *d = s->down;
    s->si.bytes_received = d->body_bytes_in;
    s->si.bytes_sent = d->body_bytes_out;
    s->si.down_head_in = d->head_bytes_in;
    s->si.down_head_out = d->head_bytes_out;
    s->si.down_head_plain_in = d->head_plain_in;
    s->si.down_head_plain_out = d->head_plain_out;
    s->si.down_wire_in = d->wire_bytes_in;
    s->si.down_wire_out = d->wire_bytes_out;
}

void hcm_stream_log(struct hcm_stream *s, const char *type)
{
    if (!s->cfg->logs)
        return;
    struct loop *l = s->hc->conn->loop;
    struct substitution_ctx c = {.si = &s->si, .log_type = type};
    access_log_write(s->cfg->logs, s->hc->nc->worker->logs, &c, rand_u64(loop_rand(l)));
}

/* Everything that is told once, when nothing of the stream can change any more. */
HOT static void complete(struct hcm_stream *s)
{
    if (s->completed)
        return;
    s->completed = true;
    s->over = true;
    struct hcm_conn *hc = s->hc;
    hcm_timeouts_stop(s);
    collect_sizes(s);
    s->si.end_ns = loop_stamp_ns(hc->conn->loop);
    struct stat_group *g = s->cfg->stats;
    stat_gauge_dec(g, hcm_stats_downstream_rq_active);
    if (s->upgrade_ok)
        stat_gauge_dec(g, hcm_stats_downstream_cx_upgrades_active);
    if (s->end_sent || s->head_sent)
        stat_record(g, hcm_stats_downstream_rq_time, (s->si.end_ns - s->si.start_ns) / 1000000u);
    for (uint32_t i = 0; i < s->n_filters; i++) {
        struct http_filter *f = s->filters[i].f;
        s->filters[i].host.ended = true;
        if (f->ops->on_complete)
            f->ops->on_complete(f);
    }
    if (s->si.span)
        hcm_tracing_finish(s);
    hcm_stream_log(s, "DownstreamEnd");
}

HOT static void free_stream(struct deferred *d)
{
    struct hcm_stream *s = container_of(d, struct hcm_stream, freeing);
    for (struct hcm_stream *x = s; x; x = x->before)
        rds_view_unref(x->view);
    struct arena a;
    arena_take(&a, &s->taken);
    arena_free(&a);
}

/* The arena's struct moves: everybody who points to it learns the new place. */
static void take_arena(struct hcm_stream *s)
{
    struct arena *old = s->arena;
    arena_take(&s->taken, s->down->arena);
    s->arena = s->si.arena = &s->taken;
    for (uint32_t i = 0; i < s->n_filters; i++)
        s->filters[i].host.arena = s->arena;
    struct http_headers *all[] = {s->si.req ? &s->si.req->h : NULL,
                                  s->si.resp ? &s->si.resp->h : NULL, s->trailers[0],
                                  s->trailers[1]};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] && all[i]->arena == old)
            all[i]->arena = s->arena;
}

static void on_close(void *user)
{
    struct hcm_stream *s = user;
    struct hcm_conn *hc = s->hc;
    bool clean = s->end_sent && s->recv_end;
    complete(s);
    hcm_chain_destroy(s);
    list_del(&s->link);
    hc->n_streams--;
    take_arena(s);
    s->down = NULL;
    loop_defer(hc->conn->loop, &s->freeing, free_stream);
    hcm_conn_stream_ended(hc, clean);
}

void hcm_stream_reset(struct hcm_stream *s, enum http_reset why, uint64_t flags, sv details)
{
    if (s->over)
        return;
    stream_info_fail(&s->si, flags, details);
    s->over = true;
    hcm_timeouts_stop(s);
    hcm_chain_reset(s, why);
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_tx_reset);
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_rx_reset); /* so Envoy counts it */
    if (!s->recv_end || !s->end_sent)
        s->hc->linger = true;
    if (s->down)
        s->down->ops->reset(s->down, why);
    hcm_conn_flush_later(s->hc);
}

/* The response is out. A request that is still coming has nobody left who wants it. */
HOT static void response_ended(struct hcm_stream *s)
{
    s->si.response_end_ns = loop_stamp_ns(s->hc->conn->loop);
    if (!s->down || s->recv_end || s->completed)
        return;
    s->over = true;
    s->hc->linger = true;
    hcm_timeouts_stop(s);
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_rx_reset); /* so Envoy counts it */
    s->down->ops->reset(s->down, HTTP_RESET_NO_ERROR);
}

/* ---- out ---- */

void hcm_stream_send_info(struct hcm_stream *s, struct http_head *head)
{
    if (s->over || s->head_sent)
        return;
    s->down->ops->send_head(s->down, head, false);
    count_status(s, head->status);
    hcm_conn_flush_later(s->hc);
}

static void before_head(struct hcm_stream *s, struct http_head *head)
{
    struct hcm_conn *hc = s->hc;
    if (!hc->draining && (s->close_after || hc->leaving || network_drain_close(hc->nc))) {
        if (!s->close_after && !hc->leaving)
            stat_inc(s->cfg->stats, hcm_stats_downstream_cx_drain_close);
        hcm_conn_drain(hc);
    }
    if (!s->recv_end && !(s->si.is_upgrade && head->status == 101) &&
        !(s->is_connect && head->status / 100 == 2)) {
        stat_inc(s->cfg->stats, hcm_stats_downstream_rq_response_before_rq_complete);
        if (!hc->draining && s->si.protocol < HTTP_2)
            hcm_conn_drain(hc); /* the rest of the request is in the way of the next one */
    }
}

HOT void hcm_stream_send_head(struct hcm_stream *s, struct http_head *head, bool end)
{
    if (s->over || s->head_sent)
        return;
    s->si.resp = head;
    s->si.response_code = head->status;
    hcm_headers_response(s, head);
    before_head(s, head);
    s->head_sent = true;
    s->si.response_start_ns = loop_stamp_ns(s->hc->conn->loop);
    if ((s->si.is_upgrade && head->status == 101) || (s->is_connect && head->status / 100 == 2)) {
        s->upgrade_ok = true;
        stat_inc(s->cfg->stats, hcm_stats_downstream_cx_upgrades_total);
        stat_gauge_inc(s->cfg->stats, hcm_stats_downstream_cx_upgrades_active);
    }
    count_response(s);
    hcm_stream_active(s);
    s->end_sent = end;
    int rc = s->down->ops->send_head(s->down, head, end);
    hcm_conn_flush_later(s->hc);
    if (s->completed)
        return;
    if (rc < 0) {
        hcm_stream_reset(s, HTTP_RESET_PROTOCOL, 0, STREAM_RCD_FILTER_REMOVED_RESPONSE_HEADERS);
        return;
    }
    if (end)
        response_ended(s);
}

HOT void hcm_stream_send_data(struct hcm_stream *s, struct buf *data, bool end)
{
    if (s->over || s->end_sent) {
        buf_reset(data);
        return;
    }
    hcm_stream_active(s);
    s->end_sent = end;
    if (s->is_head) { /* a filter may add a body to the answer to HEAD; it does not go out */
        buf_reset(data);
        if (!end)
            return;
    }
    s->down->ops->send_data(s->down, data, end);
    hcm_conn_flush_later(s->hc);
    if (end && !s->completed)
        response_ended(s);
}

void hcm_stream_send_trailers(struct hcm_stream *s, struct http_headers *t)
{
    if (s->over || s->end_sent)
        return;
    hcm_stream_active(s);
    s->si.resp_trailers = t;
    s->end_sent = true;
    s->down->ops->send_trailers(s->down, t);
    hcm_conn_flush_later(s->hc);
    if (!s->completed)
        response_ended(s);
}

/* ---- in ---- */

HOT static void request_ended(struct hcm_stream *s)
{
    s->recv_end = true;
    s->si.request_end_ns = loop_stamp_ns(s->hc->conn->loop);
    for (uint32_t i = 0; i < s->n_filters; i++)
        s->filters[i].host.request_ended = true;
    hcm_timeouts_request_ended(s);
}

static void on_head(void *user, struct http_head *head, bool end)
{
    struct hcm_stream *s = user;
    s->si.req = head;
    s->si.protocol = head->protocol;
    s->hc->head_since_ms = 0;
    if (end)
        request_ended(s);
    hcm_request_head(s, head, end);
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct hcm_stream *s = user;
    if (end && !s->recv_end)
        request_ended(s);
    if (s->over)
        return;
    hcm_stream_active(s);
    s->si.bytes_received = s->down->body_bytes_in;
    if (s->dec_done || !s->n_filters)
        return;
    hcm_chain_data(s, HCM_DEC, 0, data, end);
}

static void on_trailers(void *user, struct http_headers *trailers)
{
    struct hcm_stream *s = user;
    if (!s->recv_end)
        request_ended(s);
    if (s->over)
        return;
    hcm_stream_active(s);
    if (!s->dec_done && s->n_filters)
        hcm_chain_trailers(s, HCM_DEC, 0, trailers);
}

/* What the codec has just answered by itself, for the log. */
static void codec_answered(struct hcm_stream *s)
{
    const struct http_answer *a = s->hc->codec->answer;
    struct stream_info *si = &s->si;
    si->response_code = a->head.status;
    si->response_end_ns = loop_stamp_ns(s->hc->conn->loop);
    if (si->resp)
        return;
    struct http_head *m = arena_new(si->arena, struct http_head);
    *m = a->head;
    http_headers_copy(&m->h, &a->head.h, si->arena);
    si->resp = m;
    si->down_head_out = (uint32_t)a->field_bytes;
    si->down_wire_out = a->wire_bytes;
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct hcm_stream *s = user;
    struct hcm_conn *hc = s->hc;
    if (s->over)
        return;
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_rx_reset);
    uint64_t flags = STREAM_FLAG_DC;
    sv text = STREAM_RCD_DOWNSTREAM_REMOTE_DISCONNECT;
    if (!s->head_sent && hc->codec->answer) { /* the codec has answered by itself */
        codec_answered(s);
        count_response(s);
        if (hcm_codec_protocol_error(hc->codec))
            stat_inc(s->cfg->stats, hcm_stats_downstream_rq_response_before_rq_complete);
    }
    if (why == HTTP_RESET_PROTOCOL || why == HTTP_RESET_OVERFLOW) {
        flags = STREAM_FLAG_DPE;
        text = details ? sv_of(details) : STREAM_RCD_HTTP1_CODEC_ERROR;
    } else if (why == HTTP_RESET_REMOTE || why == HTTP_RESET_REMOTE_CANCEL ||
               why == HTTP_RESET_REMOTE_REFUSED) {
        flags = STREAM_FLAG_DR;
        text = why == HTTP_RESET_REMOTE_REFUSED ? STREAM_RCD_HTTP2_REMOTE_REFUSE
                                                : STREAM_RCD_HTTP2_REMOTE_RESET;
    } else if (!hc->remote_close) {
        text = STREAM_RCD_DOWNSTREAM_LOCAL_DISCONNECT;
    }
    stream_info_fail(&s->si, flags, text);
    s->over = true;
    hcm_timeouts_stop(s);
    hcm_chain_reset(s, why);
}

static void on_high(void *user)
{
    struct hcm_stream *s = user;
    if (!s->over)
        hcm_pause_response(s, true);
}

static void on_low(void *user)
{
    struct hcm_stream *s = user;
    if (!s->over)
        hcm_pause_response(s, false);
}

static const struct http_stream_events stream_events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_high = on_high,
    .on_low = on_low,
    .on_close = on_close,
};

bool hcm_codec_protocol_error(const struct http_codec *c)
{
    return !c->error_text || !sv_eq(sv_of(c->error_text), STREAM_RCD_MISSING_HOST);
}

void hcm_stream_refused(struct hcm_conn *hc, size_t received)
{
    struct loop *loop = hc->conn->loop;
    struct arena a;
    arena_init(&a);
    struct hcm_stream *s = arena_new(&a, struct hcm_stream);
    s->hc = hc;
    s->cfg = hc->cfg;
    stream_info_init(&s->si, &a);
    s->si.down = &hc->nc->sc;
    s->si.start_ns = s->si.end_ns = loop_stamp_ns(loop);
    s->si.start_wall_ns = loop_stamp_wall_ns(loop);
    s->si.stream_id = filter_worker_stream_id(hc->nc->worker);
    codec_answered(s);
    s->si.bytes_sent = hc->codec->answer->body_bytes;
    s->si.down_wire_in = received;
    s->si.protocol = hc->codec->protocol;
    s->si.local_reply = true;
    bool bad = hcm_codec_protocol_error(hc->codec);
    stream_info_fail(&s->si, bad ? STREAM_FLAG_DPE : 0, sv_of(hc->codec->error_text));
    if (bad) { /* as Envoy counts them */
        stat_inc(s->cfg->stats, hcm_stats_downstream_rq_rx_reset);
        stat_inc(s->cfg->stats, hcm_stats_downstream_rq_response_before_rq_complete);
    }
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_total);
    stat_inc(s->cfg->stats, hc->codec->protocol == HTTP_2 ? hcm_stats_downstream_rq_http2_total
                                                          : hcm_stats_downstream_rq_http1_total);
    count_response(s);
    hcm_stream_log(s, "DownstreamEnd");
    arena_free(&a);
}

/* A stream that the codec's one belongs to from now on. */
HOT static struct hcm_stream *new_stream(struct hcm_conn *hc, struct http_stream *down)
{
    struct hcm_stream *s = arena_new(down->arena, struct hcm_stream);
    s->hc = hc;
    s->cfg = hc->cfg;
    s->down = down;
    s->arena = down->arena;
    s->buffer_limit = hc->nc->buffer_limit;
    http_stream_set_user(down, &stream_events, s);
    list_push(&hc->streams, &s->link);
    stream_info_init(&s->si, down->arena);
    s->si.down = &hc->nc->sc;
    s->si.scheme_of_upstream = hc->cfg->scheme_of_upstream;
    s->si.stream_id = filter_worker_stream_id(hc->nc->worker);
    s->view = rds_provider_view(hc->cfg->routes, hc->nc->worker->index);
    struct stat_group *g = s->cfg->stats;
    stat_inc(g, hcm_stats_downstream_rq_total);
    stat_inc(g, hc->codec->protocol == HTTP_2 ? hcm_stats_downstream_rq_http2_total
                                              : hcm_stats_downstream_rq_http1_total);
    stat_gauge_inc(g, hcm_stats_downstream_rq_active);
    hcm_timeouts_start(s);
    return s;
}

bool hcm_stream_start(struct hcm_conn *hc, struct http_stream *down)
{
    struct loop *loop = hc->conn->loop;
    struct hcm_stream *s = new_stream(hc, down);
    hc->n_streams++;
    hc->nc->sc.requests++;
    s->si.start_ns = loop_stamp_ns(loop);
    s->si.start_wall_ns = loop_stamp_wall_ns(loop);
    return true;
}

/* ---- the same message once more ---- */

static void inherit(struct hcm_stream *s, const struct hcm_stream *old)
{
    const struct stream_info *from = &old->si;
    struct stream_info *si = &s->si;
    si->start_ns = from->start_ns;
    si->start_wall_ns = from->start_wall_ns;
    si->request_end_ns = from->request_end_ns;
    si->req = from->req;
    si->protocol = from->protocol;
    si->bytes_received = from->bytes_received;
    si->internal = from->internal;
    si->health_check = from->health_check;
    si->request_id = from->request_id;
    si->remote = from->remote;
    si->remote_ip = from->remote_ip;
    si->remote_addr = from->remote_addr;
    si->state = from->state;
    si->redirects = from->redirects;
    si->redirected = from->redirected;
    s->recv_end = true;
    s->close_after = old->close_after;
    s->resp_pauses = old->resp_pauses;
    s->request_due_ms = 0;
}

void hcm_stream_again(struct hcm_stream *s, struct http_head *resp, struct buf *body,
                      struct http_headers *trailers)
{
    struct hcm_conn *hc = s->hc;
    if (s->over)
        return;
    s->si.resp = resp;
    s->si.response_code = resp->status;
    s->si.details = STREAM_RCD_INTERNAL_REDIRECT;
    while (s->req_pauses)
        hcm_pause_request(s, false);
    complete(s);
    hcm_chain_destroy(s);
    list_del(&s->link);
    struct hcm_stream *next = new_stream(hc, s->down);
    next->again = true;
    next->before = s;
    s->down = NULL;
    inherit(next, s);
    bool more = body->len != 0;
    hcm_request_head(next, next->si.req, !more && !trailers);
    if (more && !next->over && !next->dec_done && next->n_filters)
        hcm_chain_data(next, HCM_DEC, 0, body, !trailers);
    if (trailers && !next->over && !next->dec_done && next->n_filters)
        hcm_chain_trailers(next, HCM_DEC, 0, trailers);
}
