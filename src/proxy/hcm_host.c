/* What the connection manager does for filters: struct http_filter_host_ops. */
#include "filters/registry.h"
#include "base/code.h"
#include "net/loop.h"
#include "proxy/hcm.h"
#include "proxy/rds.h"
#include "tls/tls_info.h"

static struct hcm_filter *filter_of(struct http_filter_host *h)
{
    return container_of(h, struct hcm_filter, host);
}

/* ---- flow control ---- */

void hcm_pause_request(struct hcm_stream *s, bool on)
{
    if (s->over && on)
        return;
    if (!on && !s->req_pauses)
        return;
    s->req_pauses += on ? 1u : -1u;
    if (s->req_pauses != (on ? 1u : 0u))
        return; /* only the first pause and the last resume are the codec's business */
    stat_inc(s->cfg->stats, on ? hcm_stats_downstream_flow_control_paused_reading_total
                               : hcm_stats_downstream_flow_control_resumed_reading_total);
    if (!s->down)
        return;
    s->down->ops->pause(s->down, on);
    if (!on)
        hcm_conn_pump_later(s->hc);
}

void hcm_pause_response(struct hcm_stream *s, bool on)
{
    if (!on && !s->resp_pauses)
        return;
    s->resp_pauses += on ? 1u : -1u;
    if (s->resp_pauses != (on ? 1u : 0u))
        return;
    for (uint32_t i = 0; i < s->n_filters && !s->over; i++) {
        struct http_filter *f = s->filters[i].f;
        if (f->ops->on_response_watermark)
            f->ops->on_response_watermark(f, on);
    }
}

static void host_pause_request(struct http_filter_host *h, bool on)
{
    hcm_pause_request(filter_of(h)->s, on);
}

static void host_pause_response(struct http_filter_host *h, bool on)
{
    hcm_pause_response(filter_of(h)->s, on);
}

/* ---- going on, answering ---- */

static void host_continue_decoding(struct http_filter_host *h)
{
    hcm_chain_continue(filter_of(h), HCM_DEC);
}

static void host_continue_encoding(struct http_filter_host *h)
{
    hcm_chain_continue(filter_of(h), HCM_ENC);
}

static void host_local_reply(struct http_filter_host *h, const struct http_local_reply *r)
{
    hcm_local_reply(filter_of(h)->s, r);
}

static void host_reset(struct http_filter_host *h, enum http_reset why, uint64_t flags, sv details)
{
    hcm_stream_reset(filter_of(h)->s, why, flags, details);
}

static void host_respond_info(struct http_filter_host *h, struct http_head *head)
{
    struct hcm_stream *s = filter_of(h)->s;
    if (s->over || s->enc_started)
        return;
    if (head->status == 100 && !s->cfg->proxy_100_continue)
        return; /* the codec has said it, or nobody asked */
    hcm_chain_info(s, head);
}

HOT static void host_respond_head(struct http_filter_host *h, struct http_head *head, bool end)
{
    struct hcm_stream *s = filter_of(h)->s;
    if (s->over || s->enc_started)
        return;
    s->enc_started = true;
    s->si.resp = head;
    hcm_chain_head(s, HCM_ENC, hcm_chain_first(s, HCM_ENC), head, end);
}

HOT static void host_respond_data(struct http_filter_host *h, struct buf *data, bool end)
{
    struct hcm_stream *s = filter_of(h)->s;
    if (s->over || s->enc_done || s->dec_done) {
        buf_reset(data);
        return;
    }
    hcm_stream_active(s);
    hcm_chain_data(s, HCM_ENC, hcm_chain_first(s, HCM_ENC), data, end);
}

static void host_respond_trailers(struct http_filter_host *h, struct http_headers *t)
{
    struct hcm_stream *s = filter_of(h)->s;
    if (s->over || s->enc_done || s->dec_done)
        return;
    hcm_chain_trailers(s, HCM_ENC, hcm_chain_first(s, HCM_ENC), t);
}

/* ---- bodies ---- */

static struct buf *host_request_body(struct http_filter_host *h)
{
    struct buf *b = &filter_of(h)->half[HCM_DEC].kept;
    return b->len ? b : NULL;
}

static struct buf *host_response_body(struct http_filter_host *h)
{
    struct buf *b = &filter_of(h)->half[HCM_ENC].kept;
    return b->len ? b : NULL;
}

static void host_add_request_data(struct http_filter_host *h, struct buf *data)
{
    buf_move(&filter_of(h)->half[HCM_DEC].kept, data);
}

static void host_add_response_data(struct http_filter_host *h, struct buf *data)
{
    buf_move(&filter_of(h)->half[HCM_ENC].kept, data);
}

static void host_inject_request_data(struct http_filter_host *h, struct buf *data, bool end)
{
    hcm_chain_inject(filter_of(h), HCM_DEC, data, end);
    buf_reset(data);
}

static void host_inject_response_data(struct http_filter_host *h, struct buf *data, bool end)
{
    hcm_chain_inject(filter_of(h), HCM_ENC, data, end);
    buf_reset(data);
}

static struct http_headers *add_trailers(struct http_filter_host *h, int dir)
{
    struct hcm_stream *s = filter_of(h)->s;
    if (s->trailers[dir])
        return s->trailers[dir];
    if (!s->added_trailers[dir]) {
        s->added_trailers[dir] = arena_new(s->arena, struct http_headers);
        http_headers_init(s->added_trailers[dir], s->arena);
    }
    return s->added_trailers[dir];
}

static struct http_headers *host_add_request_trailers(struct http_filter_host *h)
{
    return add_trailers(h, HCM_DEC);
}

static struct http_headers *host_add_response_trailers(struct http_filter_host *h)
{
    return add_trailers(h, HCM_ENC);
}

static void host_set_buffer_limit(struct http_filter_host *h, uint32_t bytes)
{
    struct hcm_stream *s = filter_of(h)->s;
    s->buffer_limit = bytes;
    for (uint32_t i = 0; i < s->n_filters; i++)
        s->filters[i].host.buffer_limit = bytes;
    h->buffer_limit = bytes;
}

/* ---- routing ---- */

HOT static bool find_route(struct hcm_stream *s, const struct http_head *head,
                           struct route_match *out)
{
    if (!s->view || !head) {
        *out = (struct route_match){0};
        return false;
    }
    const struct tls_info *tls = s->hc->nc->sc.tls;
    struct route_ctx ctx = {
        .random = rand_u64(loop_rand(s->hc->conn->loop)),
        .tls_presented = tls && tls->peer,
        .tls_validated = tls && tls->peer_validated,
        .internal = s->si.internal,
        .si = &s->si,
    };
    return route_table_match(s->view->table, head, &ctx, s->arena, out) != ROUTE_NONE;
}

HOT const struct route_match *hcm_route(struct hcm_stream *s)
{
    if (s->routed)
        return s->matched ? &s->match : NULL;
    s->routed = true;
    s->matched = false;
    bool found = find_route(s, s->si.req, &s->match);
    if (s->match.vhost) /* logs tell it also where none of its routes matches */
        s->si.virtual_host = &s->match.vhost->name;
    if (!found)
        return NULL;
    s->matched = true;
    s->si.route = s->match.route;
    if (s->match.route)
        s->si.route_name = s->match.route->name;
    return &s->match;
}

HOT static const void *host_route(struct http_filter_host *h)
{
    return hcm_route(filter_of(h)->s);
}

static bool host_route_for(struct http_filter_host *h, struct http_head *head,
                           struct route_match *out)
{
    struct hcm_stream *s = filter_of(h)->s;
    hcm_request_canonical(s, head);
    return !hcm_request_misdirected(s, head) && find_route(s, head, out);
}

static void host_clear_route_cache(struct http_filter_host *h)
{
    struct hcm_stream *s = filter_of(h)->s;
    s->routed = s->matched = false;
    s->si.route = NULL;
    s->si.virtual_host = NULL;
    s->si.route_name = (sv){NULL, 0};
}

static const void *host_route_config(struct http_filter_host *h)
{
    const struct route_match *m = hcm_route(filter_of(h)->s);
    return m ? route_match_filter_config(m, h->config_name, NULL) : NULL;
}

static unsigned host_route_configs(struct http_filter_host *h, const void *out[4])
{
    const struct route_match *m = hcm_route(filter_of(h)->s);
    return m ? route_match_filter_configs(m, h->config_name, out) : 0;
}

static sv host_route_config_bytes(struct http_filter_host *h)
{
    const struct route_match *m = hcm_route(filter_of(h)->s);
    return m ? route_match_filter_config_bytes(m, h->config_name) : (sv){NULL, 0};
}

static void host_close_after_response(struct http_filter_host *h)
{
    filter_of(h)->s->close_after = true;
}

static void host_again(struct http_filter_host *h, struct http_head *resp, struct buf *body,
                       struct http_headers *trailers)
{
    hcm_stream_again(filter_of(h)->s, resp, body, trailers);
}

HOT static void host_upstream_ready(struct http_filter_host *h, struct http_head *head)
{
    struct hcm_stream *s = filter_of(h)->s;
    for (uint32_t i = 0; i < s->n_filters; i++) {
        struct http_filter *f = s->filters[i].f;
        if (f->ops->on_upstream)
            f->ops->on_upstream(f, head);
    }
}

const struct http_filter_host_ops hcm_host_ops = {
    .continue_decoding = host_continue_decoding,
    .continue_encoding = host_continue_encoding,
    .local_reply = host_local_reply,
    .reset = host_reset,
    .respond_info = host_respond_info,
    .respond_head = host_respond_head,
    .respond_data = host_respond_data,
    .respond_trailers = host_respond_trailers,
    .request_body = host_request_body,
    .response_body = host_response_body,
    .add_request_data = host_add_request_data,
    .add_response_data = host_add_response_data,
    .inject_request_data = host_inject_request_data,
    .inject_response_data = host_inject_response_data,
    .add_request_trailers = host_add_request_trailers,
    .add_response_trailers = host_add_response_trailers,
    .set_buffer_limit = host_set_buffer_limit,
    .pause_request = host_pause_request,
    .pause_response = host_pause_response,
    .route = host_route,
    .route_for = host_route_for,
    .clear_route_cache = host_clear_route_cache,
    .route_config = host_route_config,
    .route_configs = host_route_configs,
    .route_config_bytes = host_route_config_bytes,
    .close_after_response = host_close_after_response,
    .again = host_again,
    .upstream_ready = host_upstream_ready,
};
