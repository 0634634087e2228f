/* A downstream connection: conn and codec, one read and one write a turn.
 *
 * What arrives is fed at once; what is to be sent gathers in codec->out and leaves at the end of
 * the turn (hcm_later), so that pipelined responses and the pieces of one response share a write.
 *
 *   open --drain--> draining --last stream ended--> flush --[linger]--> closed
 */
#include "base/mem.h"
#include "base/code.h"
#include "h1/h1.h"
#include "h2/h2.h"
#include "net/loop.h"
#include "http/date.h"
#include "proxy/hcm.h"
#include "proxy/worker.h"
#include "tls/tls_info.h"

#define READ_CHUNK (64u << 10)

static void later(struct deferred *d);
static void conn_event(struct conn *c, unsigned events, void *user);

static uint64_t now_ms(const struct hcm_conn *hc)
{
    return loop_now_ms(hc->conn->loop);
}

void hcm_conn_flush_later(struct hcm_conn *hc)
{
    if (hc->later_set || hc->closed)
        return;
    hc->later_set = true;
    loop_defer(hc->conn->loop, &hc->later, later);
}

void hcm_conn_pump_later(struct hcm_conn *hc)
{
    hcm_conn_flush_later(hc);
}

/* ---- counters ---- */

HOT static void count_bytes(struct hcm_conn *hc)
{
    struct stat_group *g = hc->cfg->stats;
    uint64_t in = hc->conn->bytes_read, out = hc->conn->bytes_written;
    if (in != hc->counted_in)
        stat_add(g, hcm_stats_downstream_cx_rx_bytes_total, in - hc->counted_in);
    if (out != hc->counted_out)
        stat_add(g, hcm_stats_downstream_cx_tx_bytes_total, out - hc->counted_out);
    hc->counted_in = in;
    hc->counted_out = out;
}

static void count_open(struct hcm_conn *hc)
{
    struct stat_group *g = hc->cfg->stats;
    stat_inc(g, hcm_stats_downstream_cx_total);
    stat_gauge_inc(g, hcm_stats_downstream_cx_active);
    if (hc->nc->sc.tls) {
        stat_inc(g, hcm_stats_downstream_cx_ssl_total);
        stat_gauge_inc(g, hcm_stats_downstream_cx_ssl_active);
    }
}

static void count_protocol(struct hcm_conn *hc)
{
    bool h2 = hc->is_h2;
    struct stat_group *g = hc->cfg->stats;
    stat_inc(g, h2 ? hcm_stats_downstream_cx_http2_total : hcm_stats_downstream_cx_http1_total);
    stat_gauge_inc(g, h2 ? hcm_stats_downstream_cx_http2_active
                         : hcm_stats_downstream_cx_http1_active);
}

static void count_close(struct hcm_conn *hc, bool active)
{
    struct stat_group *g = hc->cfg->stats;
    bool remote = hc->remote_close;
    stat_gauge_dec(g, hcm_stats_downstream_cx_active);
    stat_inc(g, hcm_stats_downstream_cx_destroy);
    stat_inc(g, remote ? hcm_stats_downstream_cx_destroy_remote
                       : hcm_stats_downstream_cx_destroy_local);
    if (active) {
        stat_inc(g, hcm_stats_downstream_cx_destroy_active_rq);
        stat_inc(g, remote ? hcm_stats_downstream_cx_destroy_remote_active_rq
                           : hcm_stats_downstream_cx_destroy_local_active_rq);
    }
    if (hc->nc->sc.tls)
        stat_gauge_dec(g, hcm_stats_downstream_cx_ssl_active);
    if (hc->is_h1 || hc->is_h2)
        stat_gauge_dec(g, hc->is_h2 ? hcm_stats_downstream_cx_http2_active
                                    : hcm_stats_downstream_cx_http1_active);
    stat_record(g, hcm_stats_downstream_cx_length_ms, now_ms(hc) - hc->born_ms);
}

/* ---- the end ---- */

static void free_conn(struct deferred *d)
{
    struct hcm_conn *hc = container_of(d, struct hcm_conn, freeing);
    if (hc->codec)
        hc->codec->ops->free(hc->codec);
    buf_reset(&hc->in);
    free(hc->xfcc);
    free(hc->life);
    network_done(hc->nc);
    free(hc);
}

static struct hcm_codec_counters *codec_counters(const struct hcm_conn *hc)
{
    struct worker *w = container_of(hc->nc->worker, struct worker, f);
    return &w->codec[hc->is_h2];
}

static void close_conn(struct hcm_conn *hc, bool reset)
{
    if (hc->closed)
        return;
    hc->closed = true;
    bool active = hc->n_streams > 0;
    timer_cancel(&hc->timer);
    if (hc->life)
        timer_cancel(&hc->life->timer);
    if (hc->codec) {
        hc->codec->ops->fail(hc->codec, HTTP_RESET_CONN_TERMINATION, NULL);
        hcm_codec_counters_tell(codec_counters(hc));
    }
    count_bytes(hc);
    count_close(hc, active);
    loop_defer(hc->conn->loop, &hc->freeing, free_conn); /* before the conn's own end */
    if (reset)
        conn_abort(hc->conn);
    else
        conn_close(hc->conn);
}

/* The response is out but the peer may still be sending: closing now would make its kernel throw
 * the response away. So only our half is closed, until the peer's is too or the time is up. */
static void close_softly(struct hcm_conn *hc)
{
    if (!hc->linger || hc->remote_close || !hc->cfg->delayed_close_ms) {
        close_conn(hc, false);
        return;
    }
    if (hc->lingering)
        return;
    hc->lingering = true;
    conn_shutdown_write(hc->conn);
    timer_set(&hc->timer, hc->cfg->delayed_close_ms);
    buf_reset(&hc->in);
    conn_kick(hc->conn);
}

/* ---- timers ---- */

static void idle_timeout(struct hcm_conn *hc)
{
    uint64_t quiet = now_ms(hc) - hc->idle_since_ms;
    if (hc->n_streams || quiet < hc->cfg->idle_ms) {
        timer_set(&hc->timer, hc->n_streams ? hc->cfg->idle_ms : hc->cfg->idle_ms - quiet);
        return;
    }
    stat_inc(hc->cfg->stats, hcm_stats_downstream_cx_idle_timeout);
    if (!hc->codec) {
        close_conn(hc, false);
        return;
    }
    hcm_conn_drain(hc);
    hcm_conn_drain(hc); /* without the wait between two GOAWAYs: nothing is under way */
    if (hc->codec->protocol != HTTP_2) {
        close_conn(hc, false);
        return;
    }
    hcm_conn_flush_later(hc);
    timer_set(&hc->timer, hc->cfg->idle_ms);
}

static bool in_head(const struct hcm_conn *hc)
{
    return hc->codec && hc->codec->protocol != HTTP_2 && h1_in_head(hc->codec);
}

static void head_timeout(struct hcm_conn *hc)
{
    static const char answer[] = "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"
                                 "content-length: 0\r\n\r\n";
    stat_inc(hc->cfg->stats, hcm_stats_downstream_rq_header_timeout);
    buf_append(&hc->codec->out, answer, sizeof answer - 1);
    hc->codec->state = HTTP_CODEC_FLUSH;
    hc->linger = true;
    buf_reset(&hc->in);
    hcm_conn_flush_later(hc);
}

static void arm_idle(struct hcm_conn *hc)
{
    uint64_t wait = hc->cfg->idle_ms;
    if (hc->head_since_ms && hc->cfg->request_headers_ms) {
        uint64_t past = now_ms(hc) - hc->head_since_ms;
        uint64_t left = past < hc->cfg->request_headers_ms ? hc->cfg->request_headers_ms - past : 0;
        if (!wait || left < wait)
            wait = left;
    }
    if (wait || hc->head_since_ms)
        timer_set(&hc->timer, wait);
}

static void on_timer(struct timer *t)
{
    struct hcm_conn *hc = container_of(t, struct hcm_conn, timer);
    if (hc->lingering) {
        stat_inc(hc->cfg->stats, hcm_stats_downstream_cx_delayed_close_timeout);
        close_conn(hc, false);
    } else if (hc->draining && hc->codec->protocol == HTTP_2 && !hc->drain_final) {
        hcm_conn_drain(hc);
        arm_idle(hc);
    } else if (hc->head_since_ms && hc->cfg->request_headers_ms &&
               now_ms(hc) - hc->head_since_ms >= hc->cfg->request_headers_ms) {
        head_timeout(hc);
    } else if (hc->cfg->idle_ms) {
        idle_timeout(hc);
    }
}

/* A head that takes its time: the clock runs from its first byte. */
static void watch_head(struct hcm_conn *hc)
{
    if (!hc->cfg->request_headers_ms)
        return;
    bool receiving = in_head(hc);
    if (receiving && !hc->head_since_ms) {
        hc->head_since_ms = now_ms(hc);
        arm_idle(hc);
    } else if (!receiving) {
        hc->head_since_ms = 0;
    }
}

/* ---- HTTP/2 keepalive and max_connection_duration ---- */

static void arm_life(struct hcm_conn *hc);

static void on_pong(void *user, bool acked)
{
    struct hcm_conn *hc = user;
    if (acked)
        hc->life->ping_sent_ms = 0;
}

static void keepalive(struct hcm_conn *hc)
{
    const struct hcm_config *c = hc->cfg;
    if (hc->life->ping_sent_ms) {
        if (now_ms(hc) - hc->life->ping_sent_ms < c->ping_timeout_ms)
            return;
        if (hc->codec->stats)
            hc->codec->stats->keepalive_timeout++;
        close_conn(hc, true);
        return;
    }
    if (h2_ping(hc->codec, on_pong, hc) == 0) {
        hc->life->ping_sent_ms = now_ms(hc);
        hcm_conn_flush_later(hc);
    }
}

static void on_life(struct timer *t)
{
    struct hcm_conn *hc = container_of(t, struct hcm_life, timer)->hc;
    const struct hcm_config *c = hc->cfg;
    if (c->max_connection_ms && now_ms(hc) - hc->born_ms >= c->max_connection_ms && !hc->draining) {
        bool idle_h1 = hc->is_h1 && !hc->n_streams;
        if (!hc->leaving)
            stat_inc(c->stats, hcm_stats_downstream_cx_max_duration_reached);
        if (idle_h1 && !hc->leaving && c->drain_ms) { /* a request may be on its way */
            hc->leaving = true;
            timer_set(t, c->drain_ms);
            return;
        }
        if (!hc->codec || idle_h1) {
            close_conn(hc, false);
            return;
        }
        hcm_conn_drain(hc);
    }
    if (hc->codec && hc->codec->protocol == HTTP_2 && c->ping_interval_ms)
        keepalive(hc);
    if (!hc->closed)
        arm_life(hc);
}

static void arm_life(struct hcm_conn *hc)
{
    const struct hcm_config *c = hc->cfg;
    uint64_t wait = 0;
    if (c->max_connection_ms && !hc->draining) {
        uint64_t age = now_ms(hc) - hc->born_ms;
        wait = age < c->max_connection_ms ? c->max_connection_ms - age : 1;
    }
    if (hc->is_h2 && c->ping_interval_ms) {
        bool sent = hc->life && hc->life->ping_sent_ms;
        uint64_t next = sent ? c->ping_timeout_ms : c->ping_interval_ms;
        if (!sent && c->ping_jitter_percent)
            next += rand_below(loop_rand(hc->conn->loop), next * c->ping_jitter_percent / 100 + 1);
        if (!wait || next < wait)
            wait = next;
    }
    if (!wait)
        return;
    if (!hc->life) {
        hc->life = mem_new(struct hcm_life);
        hc->life->hc = hc;
        timer_init(&hc->life->timer, hc->conn->loop, on_life);
    }
    timer_set(&hc->life->timer, wait);
}

/* ---- draining ---- */

void hcm_conn_drain(struct hcm_conn *hc)
{
    if (hc->closed || !hc->codec || hc->drain_final)
        return;
    if (hc->draining)
        hc->drain_final = true;
    hc->draining = true;
    hc->codec->ops->drain(hc->codec);
    if (hc->codec->protocol == HTTP_2 && !hc->drain_final && hc->cfg->drain_ms)
        timer_set(&hc->timer, hc->cfg->drain_ms);
    hcm_conn_flush_later(hc);
}

static void owner_drain(void *owner)
{
    struct hcm_conn *hc = owner;
    if (hc->codec && !hc->draining && hc->codec->protocol == HTTP_2) {
        stat_inc(hc->cfg->stats, hcm_stats_downstream_cx_drain_close);
        hcm_conn_drain(hc);
    }
    /* HTTP/1 is told with the next response: network_drain_close() says so. */
}

static void owner_abort(void *owner)
{
    close_conn(owner, false);
}

static bool owner_idle(const void *owner)
{
    const struct hcm_conn *hc = owner;
    return hc->n_streams == 0 && (!hc->codec || hc->codec->out.len == 0);
}

static const struct network_owner_ops owner_ops = {owner_drain, owner_abort, owner_idle};

/* ---- codec events ---- */

HOT static bool on_stream(void *user, struct http_stream *s)
{
    struct hcm_conn *hc = user;
    const struct hcm_config *c = hc->cfg;
    if (hc->closed)
        return false;
    if (c->max_requests && hc->codec->streams_total >= c->max_requests && !hc->draining) {
        stat_inc(c->stats, hcm_stats_downstream_cx_max_requests_reached);
        hcm_conn_drain(hc);
    }
    return hcm_stream_start(hc, s);
}

HOT static void on_output(void *user)
{
    hcm_conn_flush_later(user);
}

static void on_idle(void *user)
{
    struct hcm_conn *hc = user;
    hc->idle_since_ms = now_ms(hc);
}

static const struct http_codec_events codec_events = {
    .on_stream = on_stream,
    .on_output = on_output,
    .on_idle = on_idle,
};

void hcm_conn_stream_ended(struct hcm_conn *hc, bool clean)
{
    if (!clean && hc->codec)
        hcm_codec_counters_tell(codec_counters(hc));
    if (!hc->n_streams)
        hc->idle_since_ms = now_ms(hc);
    hcm_conn_flush_later(hc);
}

static uint64_t codec_now(void *user)
{
    return now_ms(user);
}

/* What every answer carries, on those the codec gives by itself. */
static void error_fields(void *user, struct http_headers *to)
{
    struct hcm_conn *hc = user;
    sv date = http_date(loop_stamp_wall_ns(hc->conn->loop));
    http_headers_add_id(to, HTTP_H_DATE, arena_sv(to->arena, date));
    if (hc->cfg->server_header != HCM_SERVER_PASS)
        http_headers_add_id(to, HTTP_H_SERVER, hc->cfg->server_name);
}

static struct worker *worker_of(const struct hcm_conn *hc)
{
    return container_of(hc->nc->worker, struct worker, f);
}

static struct http_codec *take_spare(struct hcm_conn *hc)
{
    struct worker *w = worker_of(hc);
    return w->n_spares ? w->spares[--w->n_spares] : NULL;
}

/* Between two requests nothing is worth remembering: the codec goes to whoever needs one next, and
 * an idle connection has the size of one that was never used. */
static void rest(struct hcm_conn *hc)
{
    struct worker *w = worker_of(hc);
    if (!hc->is_h1 || !hc->codec || hc->n_streams || hc->in.len || hc->later_set ||
        !h1_at_rest(hc->codec))
        return;
    if (w->n_spares < WORKER_SPARES)
        w->spares[w->n_spares++] = hc->codec;
    else
        hc->codec->ops->free(hc->codec);
    hc->codec = NULL;
}

/* Chosen by configuration, ALPN, or the first bytes. False: more bytes are needed. */
static bool choose_codec(struct hcm_conn *hc)
{
    const struct hcm_config *c = hc->cfg;
    const struct tls_info *tls = hc->nc->sc.tls;
    bool known = hc->is_h1, h2 = c->codec == HCM_CODEC_HTTP2;
    if (c->codec == HCM_CODEC_AUTO && !known) {
        if (tls && sv_eq(tls->alpn, SV("h2"))) {
            h2 = true;
        } else {
            char first[sizeof H2_PREFACE];
            size_t n = buf_peek(&hc->in, 0, first, sizeof H2_PREFACE - 1);
            int m = h2_preface_match(sv_make(first, n));
            if (m == 0)
                return false;
            h2 = m > 0;
        }
    }
    hc->codec = h2 ? h2_server_new(&c->limits, &codec_events, hc)
                   : h1_server_new_from(take_spare(hc), &c->limits, &codec_events, hc);
    hc->is_h1 = !h2;
    hc->is_h2 = h2;
    hc->codec->streams_total = hc->nc->sc.requests; /* of the ones before it */
    hc->codec->now_ms = codec_now;
    hc->codec->error_fields = error_fields;
    hc->codec->stats = &codec_counters(hc)->now;
    if (known)
        return true;
    count_protocol(hc);
    arm_life(hc);
    return true;
}

/* ---- in and out ---- */

static void feed(struct hcm_conn *hc)
{
    if (hc->lingering || (!hc->codec && !choose_codec(hc)))
        return;
    struct http_codec *c = hc->codec;
    if (!hc->in.len || !c->want_read || c->state >= HTTP_CODEC_FLUSH)
        return;
    uint64_t before = c->streams_total;
    bool between = hc->n_streams == 0;
    size_t received = hc->in.len;
    int rc = c->ops->feed(c, &hc->in);
    if (rc < 0) {
        if (c->answer && between && c->streams_total == before)
            hcm_stream_refused(hc, received);
        if (hcm_codec_protocol_error(c))
            stat_inc(hc->cfg->stats, hcm_stats_downstream_cx_protocol_error);
        hcm_codec_counters_tell(codec_counters(hc));
        hc->linger = true;
        buf_reset(&hc->in);
        hcm_conn_flush_later(hc);
    }
    watch_head(hc);
}

static void saw_eof(struct hcm_conn *hc)
{
    hc->remote_close = true;
    if (!hc->codec || hc->lingering) {
        close_conn(hc, false);
        return;
    }
    hc->codec->ops->feed_eof(hc->codec);
    if (hc->codec->state == HTTP_CODEC_DEAD && hc->codec->out.len == 0)
        close_conn(hc, false);
    else
        hcm_conn_flush_later(hc);
}

static bool wants_bytes(const struct hcm_conn *hc)
{
    if (hc->closed || !hc->conn->readable)
        return false;
    return hc->lingering || !hc->codec ||
           (hc->codec->want_read && hc->codec->state < HTTP_CODEC_FLUSH);
}

/* Nothing is read while a response is under way, so a client that went away is only noticed by what
 * the kernel announces. As Envoy, a half-closed client counts as gone: nobody can tell the two
 * apart, and work for nobody is what costs. */
static bool left_alone(const struct hcm_conn *hc)
{
    return hc->conn->peer_closed && hc->codec && hc->n_streams && !hc->codec->want_read &&
           !hc->codec->switched && hc->codec->state < HTTP_CODEC_FLUSH;
}

HOT static void read_conn(struct hcm_conn *hc)
{
    while (wants_bytes(hc)) {
        if (loop_full(hc->conn->loop)) {
            conn_kick(hc->conn);
            return;
        }
        ssize_t n = conn_read(hc->conn, &hc->in, READ_CHUNK);
        if (n == E_AGAIN)
            return;
        if (n == E_EOF) {
            saw_eof(hc);
            return;
        }
        if (n < 0) {
            hc->remote_close = n == E_RESET;
            close_conn(hc, true);
            return;
        }
        if (hc->lingering)
            buf_reset(&hc->in);
        feed(hc);
    }
}

static void write_conn(struct hcm_conn *hc)
{
    struct http_codec *c = hc->codec;
    if (!c)
        return;
    ssize_t n = 0;
    if (c->out.len && !hc->lingering) {
        n = conn_write(hc->conn, &c->out);
        if (n < 0) {
            hc->remote_close = true;
            close_conn(hc, true);
            return;
        }
    }
    c->ops->wrote(c, (size_t)n);
    hcm_codec_counters_tell(codec_counters(hc));
    if (hc->closed || c->out.len)
        return;
    if (c->shut_write && c->state < HTTP_CODEC_FLUSH)
        conn_shutdown_write(hc->conn);
    if (c->state >= HTTP_CODEC_FLUSH)
        close_softly(hc);
}

HOT static void later(struct deferred *d)
{
    struct hcm_conn *hc = container_of(d, struct hcm_conn, later);
    /* Still set while writing: what that changes is seen to below, without another pass. */
    if (!hc->closed)
        write_conn(hc);
    hc->later_set = false;
    if (hc->closed || !hc->codec)
        return;
    if (hc->in.len && hc->codec->want_read) {
        feed(hc);
        if (hc->closed)
            return;
    }
    if (hc->codec->out.len && hc->conn->writable)
        hcm_conn_flush_later(hc);
    read_conn(hc);
    if (!hc->closed)
        rest(hc);
}

HOT static void conn_event(struct conn *c, unsigned events, void *user)
{
    struct hcm_conn *hc = user;
    if (events & CONN_EV_READ) {
        read_conn(hc);
        if (hc->closed)
            return;
        if (left_alone(hc)) {
            hc->remote_close = true;
            close_conn(hc, false);
            return;
        }
    }
    if (events & CONN_EV_ERROR) {
        hc->remote_close = c->error == E_RESET;
        close_conn(hc, true);
        return;
    }
    if (events & CONN_EV_WRITE)
        hcm_conn_flush_later(hc);
}

void hcm_start(const void *config, struct network_conn *nc)
{
    struct hcm_conn *hc = mem_new(struct hcm_conn);
    hc->nc = nc;
    hc->cfg = config;
    hc->conn = nc->conn;
    list_init(&hc->streams);
    buf_init(&hc->in);
    hc->born_ms = hc->idle_since_ms = now_ms(hc);
    timer_init(&hc->timer, hc->conn->loop, on_timer);
    nc->owner = hc;
    nc->owner_ops = &owner_ops;
    conn_set_owner(hc->conn, conn_event, hc);
    count_open(hc);
    if (hc->cfg->idle_ms)
        timer_set(&hc->timer, hc->cfg->idle_ms);
    arm_life(hc);
    read_conn(hc);
}
