/* What time does to a HTTP connection: it ends when it lies idle, when it is old, and when a HTTP/2
 * peer does not answer PINGs. */
#include "h2/h2.h"
#include "base/code.h"
#include "upstream/http_conn.h"

static struct cluster_core *core_of(const struct http_conn *hc)
{
    return hc->pool->host->core;
}

static void on_idle_timer(struct timer *t)
{
    struct http_conn *hc = container_of(t, struct http_conn, idle);
    uint64_t after = core_of(hc)->cfg->http.idle_timeout_ms;
    uint64_t now = loop_now_ms(hc->conn->loop);
    if (!hc->idle_set) /* in use: set again when it is idle the next time */
        return;
    if (now - hc->idle_since_ms < after) {
        timer_set(t, hc->idle_since_ms + after - now);
        return;
    }
    stat_inc(core_stats(core_of(hc)), cluster_stat_upstream_cx_idle_timeout);
    http_conn_close(hc, CX_LOCAL);
}

static void on_life_timer(struct timer *t)
{
    struct http_conn *hc = container_of(t, struct http_conn, life);
    stat_inc(core_stats(core_of(hc)), cluster_stat_upstream_cx_max_duration_reached);
    http_conn_drain(hc);
}

static void ping_later(struct http_conn *hc)
{
    const struct cluster_http_config *h = &core_of(hc)->cfg->http;
    uint64_t wait = h->keepalive_interval_ms;
    if (!wait)
        return;
    if (h->keepalive_jitter_percent)
        wait += rand_below(loop_rand(hc->conn->loop), wait * h->keepalive_jitter_percent / 100 + 1);
    timer_set(&hc->ping, wait);
}

static void on_pong(void *user, bool acked)
{
    struct http_conn *hc = user;
    hc->pinging = false;
    timer_cancel(&hc->ping);
    if (acked && hc->state != HTTP_CONN_CLOSED)
        ping_later(hc);
}

static void ping(struct http_conn *hc)
{
    if (hc->pinging || h2_ping(hc->codec, on_pong, hc) != 0)
        return;
    hc->pinging = true;
    timer_set(&hc->ping, core_of(hc)->cfg->http.keepalive_timeout_ms);
}

static void on_ping_timer(struct timer *t)
{
    struct http_conn *hc = container_of(t, struct http_conn, ping);
    if (!hc->pinging) {
        ping(hc);
        return;
    }
    hc->codec->stats->keepalive_timeout++;
    http_conn_close(hc, CX_LOCAL);
}

HOT void http_conn_went_idle(struct http_conn *hc)
{
    uint64_t after = core_of(hc)->cfg->http.idle_timeout_ms;
    hc->idle_since_ms = loop_now_ms(hc->conn->loop);
    hc->idle_set = true;
    if (after && !timer_active(&hc->idle))
        timer_set(&hc->idle, after);
}

void http_conn_used(struct http_conn *hc)
{
    uint64_t after = core_of(hc)->cfg->http.keepalive_idle_ms;
    if (hc->http2 && after && hc->idle_set &&
        loop_now_ms(hc->conn->loop) - hc->idle_since_ms >= after)
        ping(hc);
    hc->idle_set = false;
}

void http_conn_timers_init(struct http_conn *hc, struct loop *l)
{
    timer_init(&hc->idle, l, on_idle_timer);
    timer_init(&hc->life, l, on_life_timer);
    timer_init(&hc->ping, l, on_ping_timer);
}

void http_conn_timers_start(struct http_conn *hc)
{
    uint64_t most = core_of(hc)->cfg->http.max_connection_ms;
    if (most)
        timer_set(&hc->life, most);
    if (hc->http2)
        ping_later(hc);
}

void http_conn_timers_stop(struct http_conn *hc)
{
    timer_cancel(&hc->idle);
    timer_cancel(&hc->life);
    timer_cancel(&hc->ping);
}
