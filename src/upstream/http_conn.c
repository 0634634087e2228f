#include "upstream/http_conn.h"
#include "base/code.h"

#include "base/mem.h"
#include "h1/h1.h"
#include "h2/h2.h"
#include "tls/tls_info.h"

#define READ_CHUNK   (64u << 10)
#define LOOK_IDLE_MS 20 /* after so long a connection is looked at before it is used */

static struct cluster_core *core_of(const struct http_conn *hc)
{
    return hc->pool->host->core;
}

static uint64_t codec_now_ms(void *user)
{
    const struct http_conn *hc = user;
    return loop_now_ms(hc->conn->loop);
}

/* ---- end ---- */

static void on_gone(struct deferred *d)
{
    struct http_conn *hc = container_of(d, struct http_conn, gone);
    struct http_pool *p = hc->pool;
    struct upstream_host *h = p->host;
    if (hc->codec)
        hc->codec->ops->free(hc->codec);
    buf_reset(&hc->in);
    pool_put(&h->core->w->conns, hc);
    http_pool_conn_freed(p);
    host_unuse(h);
}

static void relist(struct http_conn *hc);
static void flush_soon(struct http_conn *hc);

HOT static void count_bytes(struct http_conn *hc)
{
    struct stat_group *g = core_stats(core_of(hc));
    if (hc->conn->bytes_read > hc->counted_rx)
        stat_add(g, cluster_stat_upstream_cx_rx_bytes_total, hc->conn->bytes_read - hc->counted_rx);
    if (hc->conn->bytes_written > hc->counted_tx)
        stat_add(g, cluster_stat_upstream_cx_tx_bytes_total,
                 hc->conn->bytes_written - hc->counted_tx);
    hc->counted_rx = hc->conn->bytes_read;
    hc->counted_tx = hc->conn->bytes_written;
}

HOT void http_conn_count_ended(struct http_conn *hc)
{
    if (!hc->codec || hc->active <= hc->codec->streams)
        return;
    uint32_t n = hc->active - hc->codec->streams;
    hc->active = hc->codec->streams;
    hc->cut |= hc->codec->state == HTTP_CODEC_DEAD;
    struct cluster_core *core = core_of(hc);
    cluster_stats_codec(&core->rt->stats, hc->http2, &core->codec_stats[hc->http2]);
    host_rq_end(hc->pool->host, hc->pool->priority, n);
}

/* Around every call into the codec: its callbacks may come back here. */
struct inside {
    struct upstream_worker *w;
    struct http_conn *outer;
};

static struct inside enter(struct http_conn *hc)
{
    struct upstream_worker *w = core_of(hc)->w;
    struct inside in = {w, w->working};
    w->working = hc;
    hc->depth++;
    return in;
}

static void leave(struct http_conn *hc, struct inside in)
{
    hc->depth--;
    in.w->working = in.outer;
}

/* Streams that are still there hear of it. With TLS 1.3 a peer's word that our certificate is not
 * accepted comes only when requests are under way already: "TLS_error:..." is then the details. */
static void fail_streams(struct http_conn *hc, enum cx_end by)
{
    struct inside in = enter(hc);
    const char *why =
        hc->conn->error == E_TLS && hc->conn->error_text.n ? hc->conn->error_text.p : NULL;
    if (by == CX_REMOTE)
        hc->codec->ops->fail(hc->codec, HTTP_RESET_CONN_TERMINATION,
                             why ? why : "connection_termination");
    else
        hc->codec->ops->fail(hc->codec, HTTP_RESET_LOCAL, "local_connection_close");
    leave(hc, in);
    http_conn_count_ended(hc);
}

static void close_open(struct http_conn *hc, enum cx_end by)
{
    struct cluster_core *core = core_of(hc);
    bool active = hc->active > 0 || hc->cut;
    http_conn_timers_stop(hc);
    fail_streams(hc, by);
    count_bytes(hc);
    stat_record(core_stats(core), cluster_stat_upstream_rq_per_cx, hc->opened);
    cluster_stats_codec(&core->rt->stats, hc->http2, &core->codec_stats[hc->http2]);
    cx_ended(hc->pool->host, hc->pool->priority, hc->conn, hc->connector.start_ns, by, active);
    conn_close(hc->conn);
}

static uint64_t idle_ms(const struct http_conn *hc)
{
    return hc->idle_set ? loop_now_ms(hc->conn->loop) - hc->idle_since_ms : 0;
}

/* The peer closed a connection that served requests and lay idle. */
static void learn_idle(struct http_conn *hc)
{
    uint64_t *seen = hc->pool->host->idle_closed_ms;
    if (hc->state != HTTP_CONN_OPEN || !hc->opened || !hc->idle_set || hc->active)
        return;
    seen[1] = seen[0];
    seen[0] = idle_ms(hc);
}

/* Longer than this a connection to the host should not have lain idle; UINT64_MAX: not known. */
static uint64_t safe_idle_ms(const struct upstream_host *h)
{
    uint64_t a = h->idle_closed_ms[0], b = h->idle_closed_ms[1];
    uint64_t least = a < b ? a : b, most = a < b ? b : a;
    if (least < LOOK_IDLE_MS || most - least > most / 4)
        return UINT64_MAX;
    return least - least / 4;
}

void http_conn_close(struct http_conn *hc, enum cx_end by)
{
    bool connecting = hc->state == HTTP_CONN_CONNECTING;
    if (hc->state == HTTP_CONN_CLOSED)
        return;
    if (by == CX_REMOTE)
        learn_idle(hc);
    if (hc->depth) {
        hc->doomed = true;
        hc->doomed_by = by;
        hc->state = HTTP_CONN_DRAINING;
        relist(hc);
        flush_soon(hc);
        return;
    }
    hc->state = HTTP_CONN_CLOSED;
    list_del(&hc->link);
    if (connecting) {
        hc->pool->n_connecting--;
        connector_cancel(&hc->connector);
    } else {
        close_open(hc, by);
    }
    loop_defer(core_of(hc)->w->loop, &hc->gone, on_gone);
    http_pool_conn_gone(hc->pool);
}

/* ---- where it stands in the pool ---- */

HOT static bool can_take(const struct http_conn *hc)
{
    uint32_t most = hc->http2 ? core_of(hc)->cfg->http.h2.max_concurrent_streams : 1;
    return hc->state == HTTP_CONN_OPEN && hc->codec->state == HTTP_CODEC_OPEN &&
           hc->codec->streams < most && hc->codec->ops->can_open(hc->codec);
}

HOT static void relist(struct http_conn *hc)
{
    list_del(&hc->link);
    if (hc->state == HTTP_CONN_DRAINING)
        list_push(&hc->pool->draining, &hc->link);
    else if (can_take(hc))
        list_push_front(&hc->pool->ready, &hc->link);
    else
        list_push(&hc->pool->busy, &hc->link);
}

void http_conn_drain(struct http_conn *hc)
{
    if (hc->state == HTTP_CONN_OPEN) {
        hc->state = HTTP_CONN_DRAINING;
        relist(hc);
    }
    if (hc->state == HTTP_CONN_DRAINING && hc->codec->streams == 0)
        http_conn_close(hc, CX_LOCAL);
}

/* After anything that may have changed streams or state: puts everything right. May close it. */
HOT static void settle(struct http_conn *hc)
{
    http_conn_count_ended(hc);
    if (hc->state == HTTP_CONN_CLOSED || hc->depth)
        return;
    if (hc->doomed) {
        http_conn_close(hc, hc->doomed_by);
        return;
    }
    switch (hc->codec->state) {
    case HTTP_CODEC_DEAD:
        http_conn_close(hc, hc->conn->peer_closed || hc->conn->error ? CX_REMOTE : CX_LOCAL);
        return;
    case HTTP_CODEC_FLUSH:
        if (hc->codec->out.len == 0) {
            http_conn_close(hc, hc->conn->peer_closed ? CX_REMOTE : CX_LOCAL);
            return;
        }
        hc->state = HTTP_CONN_DRAINING;
        break;
    case HTTP_CODEC_DRAINING:
        hc->state = HTTP_CONN_DRAINING;
        break;
    case HTTP_CODEC_OPEN:
        break;
    }
    if (http_pool_draining(hc->pool))
        hc->state = HTTP_CONN_DRAINING;
    if (hc->codec->streams == 0 && !hc->idle_set)
        http_conn_went_idle(hc);
    if (hc->state == HTTP_CONN_DRAINING && hc->codec->streams == 0 && hc->codec->out.len == 0) {
        http_conn_close(hc, CX_LOCAL);
        return;
    }
    relist(hc);
    if (hc->pool->n_pending)
        http_pool_serve(hc->pool);
}

/* ---- bytes ---- */

/* False when it ends here. */
static bool feed(struct http_conn *hc)
{
    struct inside in = enter(hc);
    int rc = hc->codec->ops->feed(hc->codec, &hc->in);
    leave(hc, in);
    if (rc)
        stat_inc(core_stats(core_of(hc)), cluster_stat_upstream_cx_protocol_error);
    return rc == 0;
}

static void at_eof(struct http_conn *hc)
{
    struct inside in = enter(hc);
    hc->codec->ops->feed_eof(hc->codec);
    if (hc->codec->protocol < HTTP_2 && hc->codec->error_text)
        stat_inc(core_stats(core_of(hc)), cluster_stat_upstream_cx_protocol_error);
    leave(hc, in);
    if (hc->codec->streams == 0)
        http_conn_close(hc, CX_REMOTE);
}

HOT static void read_in(struct http_conn *hc)
{
    while (hc->codec->want_read) {
        ssize_t n = conn_read(hc->conn, &hc->in, READ_CHUNK);
        if (n == E_AGAIN)
            break;
        if (n == E_EOF) {
            at_eof(hc);
            break;
        }
        if (n < 0) {
            http_conn_close(hc, CX_REMOTE);
            return;
        }
        if (!feed(hc) || !hc->conn->readable)
            break;
        if (loop_full(hc->conn->loop)) {
            flush_soon(hc); /* behind the writes of what was read */
            break;
        }
    }
    if (hc->state != HTTP_CONN_CLOSED)
        count_bytes(hc);
    settle(hc);
}

HOT static bool write_out(struct http_conn *hc)
{
    struct http_codec *c = hc->codec;
    ssize_t n = c->out.len ? conn_write(hc->conn, &c->out) : 0;
    if (n < 0) {
        http_conn_close(hc, CX_REMOTE);
        return false;
    }
    struct inside in = enter(hc);
    c->ops->wrote(c, (size_t)n);
    leave(hc, in);
    if (c->shut_write && c->out.len == 0 && !hc->shut) {
        hc->shut = true;
        (void)conn_shutdown_write(hc->conn);
    }
    return true;
}

/* The end of the turn: what was queued goes out, what was paused goes on. */
HOT static void on_flush(struct deferred *d)
{
    struct http_conn *hc = container_of(d, struct http_conn, flush);
    hc->flush_due = false;
    if (hc->state == HTTP_CONN_CLOSED || !write_out(hc))
        return;
    if (hc->in.len && hc->codec->want_read && !feed(hc)) {
        settle(hc);
        return;
    }
    if (hc->codec->want_read && hc->conn->readable)
        read_in(hc);
    else
        settle(hc);
}

static void flush_soon(struct http_conn *hc)
{
    if (hc->flush_due || hc->state == HTTP_CONN_CLOSED)
        return;
    hc->flush_due = true;
    loop_defer(hc->conn->loop, &hc->flush, on_flush);
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct http_conn *hc = user;
    if (events & CONN_EV_READ)
        read_in(hc);
    if (events & CONN_EV_WRITE && hc->state != HTTP_CONN_CLOSED && write_out(hc))
        settle(hc);
    if (events & CONN_EV_ERROR)
        http_conn_close(hc, CX_REMOTE);
}

/* ---- codec events ---- */

HOT static void on_output(void *user)
{
    flush_soon(user);
}

static void on_goaway(void *user)
{
    struct http_conn *hc = user;
    if (hc->state != HTTP_CONN_OPEN)
        return;
    hc->state = HTTP_CONN_DRAINING;
    stat_inc(core_stats(core_of(hc)), cluster_stat_upstream_cx_close_notify);
    relist(hc);
    flush_soon(hc);
}

static void on_change(void *user) /* idle, or more streams allowed */
{
    struct http_conn *hc = user;
    if (!hc->depth) /* else who called the codec settles what it changed */
        flush_soon(hc);
}

static const struct http_codec_events codec_events = {.on_output = on_output,
                                                      .on_goaway = on_goaway,
                                                      .on_idle = on_change,
                                                      .on_max_streams = on_change};
static const struct http_stream_events no_events;

/* ---- streams ---- */

static void make_readable(struct conn *c)
{
    for (; c; c = c->under)
        c->readable = true;
}

bool http_conn_ready(struct http_conn *hc)
{
    if (!can_take(hc))
        return false;
    if (hc->conn->peer_closed || hc->conn->error) {
        http_conn_close(hc, CX_REMOTE);
        return false;
    }
    if (idle_ms(hc) < LOOK_IDLE_MS)
        return true;
    if (idle_ms(hc) > safe_idle_ms(hc->pool->host)) {
        http_conn_close(hc, CX_LOCAL);
        return false;
    }
    make_readable(hc->conn);
    read_in(hc);
    return can_take(hc);
}

HOT void http_conn_give(struct http_conn *hc, struct upstream_cluster *to,
                        const struct upstream_http_cb *cb, void *user)
{
    const struct cluster_http_config *h = &core_of(hc)->cfg->http;
    struct upstream_host *host = hc->pool->host;
    struct http_stream *s = hc->codec->ops->open(hc->codec, &no_events, NULL);
    http_conn_used(hc);
    hc->active++;
    hc->opened++;
    host_rq_begin(host, hc->pool->priority);
    if (h->max_requests_per_connection && hc->opened >= h->max_requests_per_connection) {
        stat_inc(core_stats(core_of(hc)), cluster_stat_upstream_cx_max_requests);
        hc->state = HTTP_CONN_DRAINING;
    }
    if (hc->state == HTTP_CONN_DRAINING || !can_take(hc))
        relist(hc);
    host_hand_out(host, to);
    cb->on_ready(user, s, host, hc->conn);
}

/* ---- begin ---- */

static bool negotiated_http2(const struct http_conn *hc)
{
    switch (hc->pool->protocol) {
    case POOL_HTTP1:
        return false;
    case POOL_HTTP2:
        return true;
    case POOL_ALPN:
        break;
    }
    return hc->conn->tls && sv_eq(hc->conn->tls->alpn, SV("h2"));
}

static void count_protocol(struct cluster_core *c, bool http2)
{
    stat_inc(core_stats(c),
             http2 ? cluster_stat_upstream_cx_http2_total : cluster_stat_upstream_cx_http1_total);
}

static void on_connected(struct connector *k, struct conn *c)
{
    struct http_conn *hc = container_of(k, struct http_conn, connector);
    struct cluster_core *core = core_of(hc);
    const struct cluster_http_config *h = &core->cfg->http;
    hc->conn = c;
    conn_set_owner(c, on_event, hc);
    hc->http2 = negotiated_http2(hc);
    hc->codec = hc->http2 ? h2_client_new(&h->h2, &codec_events, hc)
                          : h1_client_new(&h->h1, &codec_events, hc);
    hc->codec->now_ms = codec_now_ms;
    hc->codec->stats = &core->codec_stats[hc->http2];
    hc->state = HTTP_CONN_OPEN;
    if (hc->pool->protocol == POOL_ALPN)
        count_protocol(core, hc->http2);
    http_conn_timers_start(hc);
    list_del(&hc->link);
    http_conn_went_idle(hc);
    if (hc->codec->out.len)
        flush_soon(hc);
    relist(hc);
    http_pool_connected(hc->pool, hc);
}

static void on_connect_failed(struct connector *k, enum upstream_fail why, sv details)
{
    struct http_conn *hc = container_of(k, struct http_conn, connector);
    struct upstream_worker *w = core_of(hc)->w;
    hc->state = HTTP_CONN_CLOSED;
    list_del(&hc->link);
    loop_defer(w->loop, &hc->gone, on_gone);
    http_pool_connect_failed(hc->pool, hc, why, details);
}

struct http_conn *http_conn_new(struct http_pool *p)
{
    struct upstream_worker *w = p->host->core->w;
    struct http_conn *hc = pool_get(&w->conns);
    memset(hc, 0, sizeof *hc);
    hc->pool = p;
    buf_init(&hc->in);
    http_conn_timers_init(hc, w->loop);
    hc->connector.done = on_connected;
    hc->connector.failed = on_connect_failed;
    p->n_conns++;
    list_push(&p->connecting, &hc->link);
    host_use(p->host);
    if (p->protocol != POOL_ALPN) /* else when it is known */
        count_protocol(p->host->core, p->protocol == POOL_HTTP2);
    connector_start(&hc->connector, p->host, p->priority, &p->ask);
    return hc;
}
