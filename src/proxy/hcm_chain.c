/* Walking the filters. Both directions are one code: `dir` says which callbacks, which half of a
 * filter, and which way on. A walk stops at a filter that says so and goes on from there when that
 * filter continues; what arrives in between is kept at it, or given to it, as http/filter.h says.
 */
#include "base/log.h"
#include "base/code.h"
#include "proxy/hcm.h"

typedef enum http_filter_status status;

static bool ended(const struct hcm_stream *s, int dir)
{
    return s->over || (dir == HCM_DEC ? s->dec_done : s->enc_done);
}

static bool in_chain(const struct hcm_stream *s, uint32_t i)
{
    return i < s->n_filters; /* going back past 0 wraps to a large number */
}

static uint32_t onward(int dir, uint32_t i)
{
    return dir == HCM_DEC ? i + 1 : i - 1;
}

static uint32_t index_of(const struct hcm_filter *f)
{
    return (uint32_t)(f - f->s->filters);
}

static bool is_terminal(const struct hcm_filter *f, int dir)
{
    return dir == HCM_DEC && f->conf->terminal;
}

/* A route may turn a filter on or off (FilterConfig.disabled). */
static bool left_out(struct hcm_stream *s, const struct http_filter_conf *c)
{
    int by_route = -1;
    if (c->terminal)
        return false;
    if (s->matched)
        route_match_filter_config(&s->match, c->name, &by_route);
    return by_route < 0 ? c->disabled : by_route > 0;
}

HOT void hcm_chain_make(struct hcm_stream *s, const struct http_filter_conf *conf, uint32_t n)
{
    s->filters = arena_alloc(s->arena, sizeof(struct hcm_filter) * n);
    s->chain_made = true;
    for (uint32_t i = 0; i < n; i++) {
        if (left_out(s, &conf[i]))
            continue;
        struct hcm_filter *f = &s->filters[s->n_filters];
        memset(f, 0, sizeof *f);
        f->s = s;
        f->conf = &conf[i];
        f->host = (struct http_filter_host){
            .ops = &hcm_host_ops,
            .info = &s->si,
            .arena = s->arena,
            .loop = s->hc->conn->loop,
            .worker = s->hc->nc->worker,
            .config_name = conf[i].name,
            .buffer_limit = s->buffer_limit,
        };
        f->f = conf[i].make(conf[i].config, &f->host);
        if (!f->f)
            continue;
        f->f->host = &f->host;
        s->n_filters++;
    }
    for (uint32_t i = 0; s->resp_pauses && i < s->n_filters; i++) /* a stream that began anew */
        if (s->filters[i].f->ops->on_response_watermark)
            s->filters[i].f->ops->on_response_watermark(s->filters[i].f, true);
}

/* ---- keeping ---- */

static void body_too_large(struct hcm_filter *f, int dir)
{
    struct hcm_stream *s = f->s;
    if (dir == HCM_DEC) {
        stat_inc(s->cfg->stats, hcm_stats_downstream_rq_too_large);
        hcm_local_reply(
            s, &(struct http_local_reply){.status = 413,
                                          .body = SV("Payload Too Large"),
                                          .details = STREAM_RCD_REQUEST_PAYLOAD_TOO_LARGE});
        return;
    }
    stat_inc(s->cfg->stats, hcm_stats_rs_too_large);
    if (s->head_sent)
        hcm_stream_reset(s, HTTP_RESET_LOCAL, 0, STREAM_RCD_RESPONSE_PAYLOAD_TOO_LARGE);
    else
        hcm_local_reply(
            s, &(struct http_local_reply){.status = 500,
                                          .body = SV("Internal Server Error"),
                                          .details = STREAM_RCD_RESPONSE_PAYLOAD_TOO_LARGE});
}

static void keep(struct hcm_filter *f, int dir, struct buf *data)
{
    struct hcm_half *h = &f->half[dir];
    buf_move(&h->kept, data);
    if (h->kept.len <= f->s->buffer_limit || !f->s->buffer_limit)
        return;
    if (!h->watermark) {
        body_too_large(f, dir);
    } else if (!h->paused) {
        h->paused = true;
        if (dir == HCM_DEC)
            hcm_pause_request(f->s, true);
        else
            hcm_pause_response(f->s, true);
    }
}

static void unpause(struct hcm_filter *f, int dir)
{
    if (!f->half[dir].paused)
        return;
    f->half[dir].paused = false;
    if (dir == HCM_DEC)
        hcm_pause_request(f->s, false);
    else
        hcm_pause_response(f->s, false);
}

/* ---- going on ---- */

/* Everything that waits at filter f goes on: head, kept body, trailers. A filter that stopped
 * everything at the head has not seen the body yet: it gets it first. */
static void go_on(struct hcm_filter *f, int dir)
{
    struct hcm_stream *s = f->s;
    struct hcm_half *h = &f->half[dir];
    uint32_t next = onward(dir, index_of(f));
    uint32_t body_from = h->stop_all ? index_of(f) : next;
    bool body_end = h->data_end && !h->trailers_wait;

    h->stopped = h->stop_all = h->resume = h->watermark = false;
    h->data_end = false;
    if (h->head_wait) {
        h->head_wait = false;
        bool end = body_end && !h->kept.len;
        hcm_chain_head(s, dir, next, dir == HCM_DEC ? s->si.req : s->si.resp, end);
        if (end || ended(s, dir))
            return;
    }
    if (h->kept.len || body_end) {
        struct buf data = h->kept;
        buf_init(&h->kept);
        hcm_chain_data(s, dir, body_from, &data, body_end);
        buf_reset(&data);
    }
    if (!ended(s, dir))
        unpause(f, dir);
    if (h->trailers_wait && !ended(s, dir)) {
        h->trailers_wait = false;
        hcm_chain_trailers(s, dir, body_from, s->trailers[dir]);
    }
}

static bool waits(const struct hcm_half *h)
{
    return h->head_wait || h->kept.len || h->data_end || h->trailers_wait || h->stopped;
}

void hcm_chain_continue(struct hcm_filter *f, int dir)
{
    struct hcm_half *h = &f->half[dir];
    if (f->s->over || (dir == HCM_DEC && f->s->dec_done))
        return;
    if (h->running) {
        h->resume = true;
        return;
    }
    if (waits(h))
        go_on(f, dir);
}

void hcm_chain_inject(struct hcm_filter *f, int dir, struct buf *data, bool end)
{
    struct hcm_stream *s = f->s;
    struct hcm_half *h = &f->half[dir];
    uint32_t next = onward(dir, index_of(f));
    if (ended(s, dir))
        return;
    if (h->head_wait) {
        h->head_wait = false;
        bool head_end = end && !data->len;
        hcm_chain_head(s, dir, next, dir == HCM_DEC ? s->si.req : s->si.resp, head_end);
        if (head_end || ended(s, dir))
            return;
    }
    if (end)
        h->data_end = false;
    hcm_chain_data(s, dir, next, data, end);
}

/* ---- heads ---- */

static status call_head(struct hcm_filter *f, int dir, struct http_head *head, bool end)
{
    const struct http_filter_ops *ops = f->f->ops;
    struct hcm_half *h = &f->half[dir];
    h->head_seen = true;
    if (dir == HCM_DEC ? !ops->decode_head : !ops->encode_head)
        return HTTP_FILTER_CONTINUE;
    h->running = true;
    status st =
        dir == HCM_DEC ? ops->decode_head(f->f, head, end) : ops->encode_head(f->f, head, end);
    h->running = false;
    return st;
}

HOT void hcm_chain_head(struct hcm_stream *s, int dir, uint32_t i, struct http_head *head, bool end)
{
    for (; in_chain(s, i); i = onward(dir, i)) {
        struct hcm_filter *f = &s->filters[i];
        struct hcm_half *h = &f->half[dir];
        status st = call_head(f, dir, head, end);
        if (ended(s, dir) || is_terminal(f, dir))
            return;
        bool resumed = h->resume && st != HTTP_FILTER_CONTINUE;
        h->resume = false;
        if (st == HTTP_FILTER_CONTINUE && !h->kept.len)
            continue;
        h->head_wait = true;
        h->data_end = end;
        if (st == HTTP_FILTER_CONTINUE || resumed) {
            go_on(f, dir);
            return;
        }
        h->stopped = true;
        h->stop_all = st != HTTP_FILTER_STOP;
        h->watermark = st == HTTP_FILTER_STOP_WATERMARK;
        return;
    }
    if (dir == HCM_ENC)
        hcm_stream_send_head(s, head, end);
}

/* ---- bodies ---- */

static status call_data(struct hcm_filter *f, int dir, struct buf *data, bool end)
{
    const struct http_filter_ops *ops = f->f->ops;
    struct hcm_half *h = &f->half[dir];
    if (dir == HCM_DEC ? !ops->decode_data : !ops->encode_data) /* its head may wait for a timer */
        return h->head_wait ? HTTP_FILTER_STOP_WATERMARK : HTTP_FILTER_CONTINUE;
    h->running = true;
    status st =
        dir == HCM_DEC ? ops->decode_data(f->f, data, end) : ops->encode_data(f->f, data, end);
    h->running = false;
    return st;
}

HOT void hcm_chain_data(struct hcm_stream *s, int dir, uint32_t i, struct buf *data, bool end)
{
    for (; in_chain(s, i); i = onward(dir, i)) {
        struct hcm_filter *f = &s->filters[i];
        struct hcm_half *h = &f->half[dir];
        if (h->stop_all) {
            h->data_end |= end;
            keep(f, dir, data);
            return;
        }
        status st = call_data(f, dir, data, end);
        if (ended(s, dir))
            return;
        if (is_terminal(f, dir)) {
            buf_reset(data);
            return;
        }
        struct http_headers *added = end ? s->added_trailers[dir] : NULL;
        if (added) {
            s->added_trailers[dir] = NULL;
            s->trailers[dir] = added;
        }
        bool resumed = h->resume && st != HTTP_FILTER_CONTINUE;
        h->resume = false;
        if (resumed && st == HTTP_FILTER_STOP)
            st = HTTP_FILTER_CONTINUE;
        if (st == HTTP_FILTER_CONTINUE && !h->head_wait && !h->kept.len) {
            h->stopped = false;
            if (!added)
                continue;
            hcm_chain_data(s, dir, onward(dir, i), data, false);
            if (!ended(s, dir))
                hcm_chain_trailers(s, dir, onward(dir, i), added);
            return;
        }
        h->data_end |= end;
        h->trailers_wait |= added != NULL;
        if (st == HTTP_FILTER_STOP) {
            h->stopped = true;
            buf_reset(data);
            return;
        }
        if (st == HTTP_FILTER_CONTINUE) {
            buf_move(&h->kept, data);
            go_on(f, dir);
            return;
        }
        h->stopped = true;
        h->watermark = st == HTTP_FILTER_STOP_WATERMARK;
        keep(f, dir, data);
        if (resumed && !ended(s, dir))
            go_on(f, dir);
        return;
    }
    if (dir == HCM_ENC)
        hcm_stream_send_data(s, data, end);
}

/* ---- trailers ---- */

static status call_trailers(struct hcm_filter *f, int dir, struct http_headers *t)
{
    const struct http_filter_ops *ops = f->f->ops;
    struct hcm_half *h = &f->half[dir];
    if (dir == HCM_DEC ? !ops->decode_trailers : !ops->encode_trailers)
        return h->stopped ? HTTP_FILTER_STOP : HTTP_FILTER_CONTINUE;
    h->running = true;
    status st = dir == HCM_DEC ? ops->decode_trailers(f->f, t) : ops->encode_trailers(f->f, t);
    h->running = false;
    return st;
}

void hcm_chain_trailers(struct hcm_stream *s, int dir, uint32_t i, struct http_headers *t)
{
    s->trailers[dir] = t;
    for (; in_chain(s, i); i = onward(dir, i)) {
        struct hcm_filter *f = &s->filters[i];
        struct hcm_half *h = &f->half[dir];
        if (h->stop_all) {
            h->trailers_wait = true;
            return;
        }
        status st = call_trailers(f, dir, t);
        if (ended(s, dir) || is_terminal(f, dir))
            return;
        if (h->resume)
            st = HTTP_FILTER_CONTINUE;
        h->resume = false;
        if (st != HTTP_FILTER_CONTINUE) {
            h->stopped = h->trailers_wait = true;
            return;
        }
        if (h->head_wait || h->kept.len) {
            h->trailers_wait = true;
            go_on(f, dir);
            return;
        }
        h->stopped = false;
    }
    if (dir == HCM_ENC)
        hcm_stream_send_trailers(s, t);
}

/* ---- the rest ---- */

void hcm_chain_info(struct hcm_stream *s, struct http_head *head)
{
    for (uint32_t i = s->n_filters; i-- > 0;) {
        struct http_filter *f = s->filters[i].f;
        if (!f->ops->encode_info)
            continue;
        f->ops->encode_info(f, head);
        if (ended(s, HCM_ENC))
            return;
    }
    hcm_stream_send_info(s, head);
}

void hcm_chain_reset(struct hcm_stream *s, enum http_reset why)
{
    if (s->reset_told)
        return;
    s->reset_told = true;
    for (uint32_t i = 0; i < s->n_filters; i++) {
        struct http_filter *f = s->filters[i].f;
        s->filters[i].host.ended = true;
        if (f->ops->on_reset)
            f->ops->on_reset(f, why);
    }
}

HOT void hcm_chain_destroy(struct hcm_stream *s)
{
    for (uint32_t i = 0; i < s->n_filters; i++) {
        struct hcm_filter *f = &s->filters[i];
        f->host.ended = true;
        if (!f->destroyed && f->f->ops->on_destroy)
            f->f->ops->on_destroy(f->f);
        f->destroyed = true;
        buf_reset(&f->half[HCM_DEC].kept);
        buf_reset(&f->half[HCM_ENC].kept);
    }
}
