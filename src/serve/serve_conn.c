#include "serve/serve_conn.h"
#include <stdio.h>
#include "base/mem.h"
#include "h1/h1.h"
#include "h2/h2.h"
#include "tls/tls_conn.h"

#define HELD_MAX  (16u << 10) /* unwanted bytes taken only to see the end of the connection */
#define LINGER_MS 1000

static void flush(struct deferred *d);

static uint64_t now_ms(const struct serve_conn *c)
{
    return loop_now_ms(c->peer.loop);
}

static void flush_later(struct serve_conn *c)
{
    if (c->flush_set || c->closed)
        return;
    c->flush_set = true;
    loop_defer(c->peer.loop, &c->flush, flush);
}

/* ---- the end ---- */

static void free_conn(struct deferred *d)
{
    struct serve_conn *c = container_of(d, struct serve_conn, freeing);
    if (c->codec)
        c->codec->ops->free(c->codec);
    buf_reset(&c->in);
    free(c);
}

void serve_conn_close(struct serve_conn *c, enum http_reset why, int error, const char *text)
{
    if (c->closed)
        return;
    c->closed = true;
    c->error = error;
    snprintf(c->error_text, sizeof(c->error_text), "%s", text ? text : "");
    timer_cancel(&c->timer);
    timer_cancel(&c->ping_timer);
    if (c->codec) {
        c->codec->ops->fail(c->codec, why, c->error_text);
        c->codec->stats = NULL; /* the owner's, who may go before the codec */
    }
    conn_close(c->conn);
    loop_defer(c->peer.loop, &c->freeing, free_conn);
    c->ops->closed(c);
}

static void close_in_order(struct serve_conn *c)
{
    serve_conn_close(c, HTTP_RESET_CONN_TERMINATION, 0, NULL);
}

/* What the transport or the handshake says; TLS has whole sentences. */
static void close_transport(struct serve_conn *c, int code)
{
    char text[256];
    sv why = tls_conn_is(c->conn) ? tls_conn_sentence(c->conn) : (sv){NULL, 0};
    if (!why.n)
        why = c->conn->error_text;
    if (why.n)
        snprintf(text, sizeof(text), "%.*s", SV_ARG(why));
    else
        snprintf(text, sizeof(text), "%s", error_text(code));
    serve_conn_close(c, c->codec ? HTTP_RESET_CONN_TERMINATION : HTTP_RESET_CONN_FAILURE, code,
                     text);
}

/* The last bytes are out. A peer that may still be sending would lose them to a reset, so only our
 * half is closed and the rest is read and dropped for a moment. */
static void close_softly(struct serve_conn *c)
{
    if (c->lingering)
        return;
    if (!c->server || c->conn->peer_closed || c->codec->state == HTTP_CODEC_DEAD) {
        close_in_order(c);
        return;
    }
    c->lingering = true;
    conn_shutdown_write(c->conn);
    c->since_ms = now_ms(c);
    timer_set(&c->timer, LINGER_MS);
    buf_reset(&c->in);
    conn_kick(c->conn);
}

/* ---- clocks ---- */

/* What the timer waits for now: ms from since_ms, 0 = nothing. */
static uint32_t limit_now(const struct serve_conn *c)
{
    if (c->lingering)
        return LINGER_MS;
    if (!c->conn->connected)
        return c->times.connect_ms;
    if (c->codec && c->codec->streams)
        return 0;
    return c->in_head && c->times.head_ms ? c->times.head_ms : c->times.idle_ms;
}

static void watch(struct serve_conn *c)
{
    c->since_ms = now_ms(c);
    uint32_t limit = limit_now(c);
    if (limit)
        timer_set(&c->timer, limit);
}

static void on_timer(struct timer *t)
{
    struct serve_conn *c = container_of(t, struct serve_conn, timer);
    uint32_t limit = limit_now(c);
    uint64_t past = now_ms(c) - c->since_ms;
    if (!limit)
        return;
    if (past < limit)
        timer_set(&c->timer, limit - past);
    else if (c->lingering)
        close_in_order(c);
    else if (!c->conn->connected)
        serve_conn_close(c, HTTP_RESET_CONN_FAILURE, E_TIMEOUT, "connection timed out");
    else if (c->in_head)
        serve_conn_close(c, HTTP_RESET_TIMEOUT, E_TIMEOUT, "request head timed out");
    else
        close_in_order(c);
}

static void on_pong(void *user, bool acked)
{
    struct serve_conn *c = user;
    if (acked)
        c->ping_out = false;
}

/* Fires when it may be time for a PING or when one was not answered. */
static void on_ping_timer(struct timer *t)
{
    struct serve_conn *c = container_of(t, struct serve_conn, ping_timer);
    uint64_t quiet = now_ms(c) - c->received_ms;
    if (c->ping_out) {
        if (c->codec->stats)
            c->codec->stats->keepalive_timeout++;
        serve_conn_close(c, HTTP_RESET_CONN_TERMINATION, E_TIMEOUT, "keepalive_timeout");
    } else if (quiet < c->times.ping_ms) {
        timer_set(&c->ping_timer, c->times.ping_ms - quiet);
    } else if (h2_ping(c->codec, on_pong, c) == 0) {
        c->ping_out = true;
        timer_set(&c->ping_timer, c->times.ping_timeout_ms ? c->times.ping_timeout_ms : 20000);
        flush_later(c);
    }
}

/* Anything that is received says the peer lives. */
static void received(struct serve_conn *c)
{
    c->received_ms = now_ms(c);
    if (c->ping_out) {
        c->ping_out = false;
        timer_set(&c->ping_timer, c->times.ping_ms);
    }
}

/* ---- codec events ---- */

static bool on_stream(void *user, struct http_stream *s)
{
    struct serve_conn *c = user;
    c->in_head = false;
    return !c->closed && c->ops->on_stream(c, s);
}

static void on_output(void *user)
{
    flush_later(user);
}

static void changed(void *user)
{
    struct serve_conn *c = user;
    if (!c->closed && c->ops->changed)
        c->ops->changed(c);
}

static void on_idle(void *user)
{
    struct serve_conn *c = user;
    if (c->closed)
        return;
    watch(c);
    changed(c);
}

static const struct http_codec_events codec_events = {
    .on_stream = on_stream,
    .on_output = on_output,
    .on_goaway = changed,
    .on_idle = on_idle,
    .on_max_streams = changed,
};

static uint64_t codec_now(void *user)
{
    return now_ms(user);
}

/* ---- which protocol ---- */

/* 1: HTTP/2, 0: HTTP/1, E_AGAIN: more bytes are needed, E_UNSUPPORTED: the peer does not agree. */
static int which(struct serve_conn *c)
{
    bool by_alpn = c->conn->tls && sv_eq(c->conn->tls->alpn, SV("h2"));
    if (c->protocol == SERVE_HTTP1)
        return 0;
    if (c->protocol == SERVE_HTTP2)
        return by_alpn || c->server || !c->conn->tls ? 1 : E_UNSUPPORTED;
    if (by_alpn || !c->server)
        return by_alpn;
    char first[sizeof(H2_PREFACE)];
    size_t n = buf_peek(&c->in, 0, first, sizeof(H2_PREFACE) - 1);
    int m = h2_preface_match(sv_make(first, n));
    return m == 0 ? E_AGAIN : m > 0;
}

static bool choose_codec(struct serve_conn *c)
{
    int h2 = which(c);
    if (h2 == E_AGAIN)
        return false;
    if (h2 < 0) {
        serve_conn_close(c, HTTP_RESET_CONN_FAILURE, E_UNSUPPORTED,
                         "the peer does not speak HTTP/2 (ALPN)");
        return false;
    }
    if (c->server)
        c->codec = h2 ? h2_server_new(c->limits, &codec_events, c)
                      : h1_server_new(c->limits, &codec_events, c);
    else
        c->codec = h2 ? h2_client_new(c->limits, &codec_events, c)
                      : h1_client_new(c->limits, &codec_events, c);
    c->codec->now_ms = codec_now;
    if (h2 && c->times.ping_ms) {
        c->received_ms = now_ms(c);
        timer_set(&c->ping_timer, c->times.ping_ms);
    }
    if (c->codec->out.len)
        flush_later(c);
    if (c->ops->ready)
        c->ops->ready(c);
    return !c->closed;
}

/* ---- in ---- */

/* The head of a request is being received: from here its own clock runs. */
static void watch_head(struct serve_conn *c)
{
    if (!c->server || c->closed)
        return;
    bool in_head = !c->codec || (c->codec->protocol != HTTP_2 && h1_in_head(c->codec));
    if (in_head != c->in_head) {
        c->in_head = in_head;
        watch(c);
    }
}

static void feed(struct serve_conn *c)
{
    if (!c->codec && !choose_codec(c)) {
        watch_head(c);
        return;
    }
    if (!c->in.len || !c->codec->want_read || c->codec->state >= HTTP_CODEC_FLUSH)
        return;
    if (c->codec->ops->feed(c->codec, &c->in) < 0)
        buf_reset(&c->in);
    /* Bytes that were left because the codec has to wait are fed again; those of an unfinished head
     * only with more bytes. */
    c->blocked = c->in.len && !c->codec->want_read;
    watch_head(c);
    flush_later(c);
}

static void saw_eof(struct serve_conn *c)
{
    if (c->lingering || !c->codec) {
        serve_conn_close(c, HTTP_RESET_CONN_TERMINATION, c->server ? 0 : E_EOF,
                         c->server ? NULL : "the peer closed the connection");
        return;
    }
    c->codec->ops->feed_eof(c->codec);
    flush_later(c);
}

/* Bytes that nobody wants yet are taken up to a limit all the same when the peer has closed: only
 * behind them is the end that a waiting stream must hear of. */
static bool wants_bytes(const struct serve_conn *c)
{
    if (c->closed || !c->conn->readable)
        return false;
    if (c->lingering || !c->codec)
        return true;
    if (c->codec->state >= HTTP_CODEC_FLUSH)
        return false;
    return c->codec->want_read || (c->conn->peer_closed && c->in.len < HELD_MAX);
}

static void read_conn(struct serve_conn *c)
{
    while (wants_bytes(c)) {
        if (loop_full(c->conn->loop)) {
            conn_kick(c->conn);
            return;
        }
        ssize_t n = conn_read(c->conn, &c->in, 64 << 10);
        if (n == E_AGAIN)
            return;
        if (n == E_EOF) {
            saw_eof(c);
            return;
        }
        if (n < 0) {
            close_transport(c, (int)n);
            return;
        }
        received(c);
        if (c->lingering)
            buf_reset(&c->in);
        else
            feed(c);
    }
}

/* ---- out ---- */

static void write_conn(struct serve_conn *c)
{
    struct http_codec *k = c->codec;
    ssize_t n = 0;
    if (k->out.len && !c->lingering) {
        n = conn_write(c->conn, &k->out);
        if (n < 0) {
            close_transport(c, (int)n);
            return;
        }
    }
    k->ops->wrote(k, (size_t)n);
    if (c->closed)
        return;
    if (k->state == HTTP_CODEC_DEAD || (k->state == HTTP_CODEC_FLUSH && !k->out.len)) {
        close_softly(c);
        return;
    }
    if (!k->out.len && k->shut_write)
        conn_shutdown_write(c->conn);
}

static void flush(struct deferred *d)
{
    struct serve_conn *c = container_of(d, struct serve_conn, flush);
    c->flush_set = false;
    if (c->closed || !c->codec)
        return;
    write_conn(c);
    if (c->closed || c->lingering)
        return;
    if (c->blocked && c->codec->want_read)
        feed(c);
    if (!c->closed && c->codec->out.len && c->conn->writable)
        flush_later(c);
    if (wants_bytes(c))
        conn_kick(c->conn);
}

static void connected(struct serve_conn *c)
{
    c->peer.tls = c->conn->tls;
    c->peer.local = *conn_local(c->conn);
    watch(c);
    /* A plaintext server has to see bytes first; all others know by now. */
    if (!c->server || c->conn->tls)
        choose_codec(c);
}

static void conn_event(struct conn *conn, unsigned events, void *user)
{
    struct serve_conn *c = user;
    if (c->closed)
        return;
    if (events & CONN_EV_CONNECTED)
        connected(c);
    if (!c->closed && events & CONN_EV_READ)
        read_conn(c);
    if (!c->closed && events & CONN_EV_ERROR) {
        close_transport(c, conn->error ? conn->error : E_IO);
        return;
    }
    if (!c->closed && events & CONN_EV_WRITE && c->codec)
        flush_later(c);
}

/* ---- making ---- */

void serve_limits_default(struct http_limits *l)
{
    http_limits_default(l);
    l->enable_trailers = true;
    l->initial_stream_window = 1 << 20;
    l->initial_conn_window = 4 << 20;
}

static struct serve_conn *make(struct conn *conn, const struct http_limits *limits,
                               const struct serve_times *times, enum serve_protocol p,
                               const struct serve_conn_ops *ops, void *owner)
{
    struct serve_conn *c = mem_new(struct serve_conn);
    list_init(&c->link);
    c->ops = ops;
    c->owner = owner;
    c->conn = conn;
    c->limits = limits;
    c->times = *times;
    c->protocol = p;
    c->peer = (struct serve_peer){
        .loop = conn->loop, .local = conn->local, .remote = conn->remote, .tls = conn->tls};
    buf_init(&c->in);
    timer_init(&c->timer, conn->loop, on_timer);
    timer_init(&c->ping_timer, conn->loop, on_ping_timer);
    conn_set_owner(conn, conn_event, c);
    return c;
}

struct serve_conn *serve_conn_server(struct conn *conn, const struct http_limits *limits,
                                     const struct serve_times *times, enum serve_protocol p,
                                     const struct serve_conn_ops *ops, void *owner)
{
    struct serve_conn *c = make(conn, limits, times, p, ops, owner);
    c->server = true;
    watch(c);
    return c;
}

struct serve_conn *serve_conn_client(struct conn *conn, const struct http_limits *limits,
                                     const struct serve_times *times, enum serve_protocol p,
                                     const struct serve_conn_ops *ops, void *owner)
{
    return make(conn, limits, times, p, ops, owner);
}

void serve_conn_start(struct serve_conn *c)
{
    connected(c);
    /* What came together with the connection was announced to its owner before. */
    if (!c->closed)
        conn_kick(c->conn);
}

/* ---- for the owner ---- */

void serve_conn_drain(struct serve_conn *c)
{
    if (c->closed)
        return;
    if (!c->codec || (c->codec->protocol != HTTP_2 && !c->codec->streams)) {
        close_in_order(c);
        return;
    }
    c->codec->ops->drain(c->codec);
    flush_later(c);
}

bool serve_conn_can_open(const struct serve_conn *c)
{
    return !c->closed && c->codec && !c->conn->peer_closed && c->codec->ops->can_open(c->codec);
}

struct http_stream *serve_conn_open(struct serve_conn *c)
{
    static const struct http_stream_events nobody;
    if (!serve_conn_can_open(c))
        return NULL;
    return c->codec->ops->open(c->codec, &nobody, NULL);
}
