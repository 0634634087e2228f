/* CONNECT, from both ends: tcp_stream and upstream_tunnel against a peer that the test plays byte
 * by byte, on a simulated network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>
#include "upstream/testing_rig.h"
#include "upstream/tunnel.h"

#define HIGH 4096
static struct rig rig;

/* ---- the peer ---- */

static struct peer {
    struct loop *loop;
    struct net_listener *listener;
    struct conn *c;
    struct buf got, out;
    size_t total; /* received, also what the test threw away */
    bool eof, dead, mute;
} peer;

static void peer_event(struct conn *c, unsigned events, void *user)
{
    while (!peer.mute && !peer.eof && !peer.dead) {
        size_t before = peer.got.len;
        ssize_t n = conn_read(c, &peer.got, 65536);
        peer.total += peer.got.len - before;
        if (n == E_AGAIN)
            break;
        peer.eof = n == E_EOF;
        peer.dead = n < 0 && n != E_EOF;
    }
    if (!peer.dead && peer.out.len)
        conn_write(c, &peer.out);
}

static void peer_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    if (peer.c)
        conn_close(peer.c);
    peer.eof = peer.dead = false;
    peer.c = conn_from_fd(peer.loop, fd, local, remote, peer_event, NULL);
}

static void peer_say(const char *text)
{
    buf_append(&peer.out, text, strlen(text));
    conn_write(peer.c, &peer.out);
    rig_run_ms(&rig, 2);
}

static void peer_heard(const char *text)
{
    size_t n;
    char *got = buf_to_cstr(&peer.got, &n);
    assert_string_equal(got, text);
    free(got);
    buf_reset(&peer.got);
}

static void peer_leave(bool reset)
{
    struct conn *c = peer.c;
    peer.c = NULL;
    peer.dead = true;
    (reset ? conn_abort : conn_close)(c);
    rig_run_ms(&rig, 2);
}

static int setup(void **state)
{
    struct listen_opts o = {0};
    struct error err = {0};
    struct addr a;
    rig_init(&rig, 1);
    rig_start(&rig);
    memset(&peer, 0, sizeof peer);
    peer.loop = loop_new(sim_host(rig.sim, "10.0.1.1"));
    buf_init(&peer.got);
    buf_init(&peer.out);
    assert_int_equal(addr_ip(&a, SV("10.0.1.1"), 80), 0);
    peer.listener = net_listener_new(peer.loop, &a, &o, peer_accept, NULL, &err);
    net_listener_start(peer.listener);
    rig_put_ok(&rig, "{name: c, connect_timeout: 1s, load_assignment: {cluster_name: c, endpoints: "
                     "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.1.1, "
                     "port_value: 80}}}}]}]}}");
    return 0;
}

static int teardown(void **state)
{
    rig_run_ms(&rig, 5);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 0);
    if (peer.c)
        conn_close(peer.c);
    net_listener_free(peer.listener);
    buf_reset(&peer.got);
    buf_reset(&peer.out);
    rig_run_ms(&rig, 2);
    loop_free(peer.loop);
    rig_fini(&rig);
    return 0;
}

/* ---- a CONNECT that ends here ---- */

static struct ended {
    struct upstream_cluster *cluster;
    struct http_stream *s;
    unsigned status, closes, highs, lows, resets;
    struct buf got;
    bool end;
} here;

static void on_head(void *user, struct http_head *head, bool end)
{
    here.status = head->status;
}
static void on_data(void *user, struct buf *data, bool end)
{
    buf_move(&here.got, data);
    here.end = end;
}
static void on_reset(void *user, enum http_reset why, const char *details)
{
    assert_int_equal(why, HTTP_RESET_CONN_TERMINATION);
    here.resets++;
}
static void on_high(void *user)
{
    here.highs++;
}
static void on_low(void *user)
{
    here.lows++;
}
static void on_close(void *user)
{
    here.closes++;
    here.s = NULL;
}
static const struct http_stream_events events = {.on_head = on_head,
                                                 .on_data = on_data,
                                                 .on_reset = on_reset,
                                                 .on_high = on_high,
                                                 .on_low = on_low,
                                                 .on_close = on_close};

static void ready(void *user, struct conn *c, struct upstream_host *host)
{
    here.s = tcp_stream_new(c, host, SV("first "), HIGH);
    http_stream_set_user(here.s, &events, NULL);
}
static void failed(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    fail_msg("%.*s", SV_ARG(details));
}
static const struct upstream_tcp_cb tcp_cb = {ready, failed};

static void send_text(const char *text, bool end)
{
    struct buf b;
    buf_init(&b);
    buf_append(&b, text, strlen(text));
    assert_int_equal(here.s->ops->send_data(here.s, &b, end), 0);
    rig_run_ms(&rig, 2);
}

static void connect_here(void)
{
    struct upstream_ctx ctx = {0};
    struct http_head head;
    struct arena a;
    memset(&here, 0, sizeof here);
    buf_init(&here.got);
    here.cluster = upstream_find(rig.worker, SV("c"));
    (void)upstream_tcp_open(here.cluster, &ctx, &tcp_cb, NULL);
    rig_run_ms(&rig, 5);
    assert_non_null(here.s);
    arena_init(&a);
    http_head_init(&head, &a);
    head.method = SV("CONNECT");
    assert_int_equal(here.s->ops->send_head(here.s, &head, false), 0);
    assert_int_equal(here.status, 0); /* not from inside */
    rig_run_ms(&rig, 2);
    assert_int_equal(here.status, 200);
    arena_free(&a);
    peer_heard("first ");
}

static void here_heard(const char *text)
{
    size_t n;
    char *got = buf_to_cstr(&here.got, &n);
    assert_string_equal(got, text);
    free(got);
    buf_reset(&here.got);
}

static void done_here(void)
{
    rig_run_ms(&rig, 2);
    assert_null(here.s);
    assert_int_equal(here.closes, 1);
    buf_reset(&here.got);
    upstream_cluster_unref(here.cluster);
}

static void bytes_go_both_ways_and_each_end_goes_alone(void **state)
{
    connect_here();
    send_text("ping", false);
    peer_heard("ping");
    peer_say("pong");
    here_heard("pong");
    send_text("last", true);
    peer_heard("last");
    assert_true(peer.eof);
    assert_false(here.end);
    assert_int_equal(here.closes, 0);
    peer_say("still here"); /* after our end */
    here_heard("still here");
    peer_leave(false);
    assert_true(here.end);
    assert_int_equal(here.resets, 0);
    done_here();
}

static void the_peer_may_end_first(void **state)
{
    connect_here();
    conn_shutdown_write(peer.c);
    rig_run_ms(&rig, 2);
    assert_true(here.end);
    assert_int_equal(here.closes, 0);
    send_text("more", false);
    peer_heard("more");
    struct http_headers none = {0};
    struct http_stream *s = here.s;
    assert_int_equal(s->ops->send_trailers(s, &none), 0); /* end it, and are dropped */
    rig_run_ms(&rig, 2);
    assert_true(peer.eof);
    done_here();
}

static void a_reset_of_the_peer_is_told_once(void **state)
{
    connect_here();
    peer_leave(true);
    assert_int_equal(here.resets, 1);
    done_here();
}

static void our_reset_cuts_the_connection(void **state)
{
    connect_here();
    here.s->ops->reset(here.s, HTTP_RESET_LOCAL);
    assert_int_equal(here.resets, 0);
    rig_run_ms(&rig, 2);
    assert_true(peer.eof || peer.dead);
    done_here();
}

static void nothing_is_sent_after_the_end(void **state)
{
    struct buf b;
    connect_here();
    send_text("x", true);
    buf_init(&b);
    buf_append(&b, "y", 1);
    assert_int_equal(here.s->ops->send_data(here.s, &b, false), E_CLOSED);
    assert_int_equal(b.len, 0);
    peer_heard("x");
    peer_leave(false);
    done_here();
}

static void a_peer_that_does_not_read_pauses_the_sender(void **state)
{
    static char block[65536];
    struct buf b;
    size_t sent = 0;
    connect_here();
    peer.mute = true;
    memset(block, 'x', sizeof block);
    while (!here.highs && sent < 64u << 20) {
        buf_init(&b);
        buf_append(&b, block, sizeof block);
        sent += sizeof block;
        assert_int_equal(here.s->ops->send_data(here.s, &b, false), 0);
        rig_run_ms(&rig, 1);
    }
    assert_int_equal(here.highs, 1);
    assert_true(here.s->queued > HIGH);
    peer.mute = false;
    buf_reset(&peer.got);
    peer.total = 0;
    conn_kick(peer.c);
    rig_run_ms(&rig, 50);
    assert_int_equal(here.lows, 1);
    assert_int_equal(here.s->queued, 0);
    assert_int_equal(peer.total, sent);
    here.s->ops->reset(here.s, HTTP_RESET_LOCAL);
    done_here();
}

static void a_paused_stream_reads_nothing(void **state)
{
    connect_here();
    here.s->ops->pause(here.s, true);
    here.s->ops->pause(here.s, true);
    peer_say("wait");
    here_heard("");
    here.s->ops->pause(here.s, false);
    rig_run_ms(&rig, 2);
    here_heard(""); /* one of two */
    here.s->ops->pause(here.s, false);
    rig_run_ms(&rig, 2);
    here_heard("wait");
    here.s->ops->pause(here.s, false); /* one too many does nothing */
    peer_say("go");
    here_heard("go");
    peer_leave(true);
    done_here();
}

/* ---- a conn through a CONNECT ---- */

static struct through {
    struct upstream_cluster *cluster;
    struct upstream_tunnel *t;
    struct conn *c;
    struct buf got;
    struct arena a;
    struct http_head ask;
    unsigned fails, errors;
    char why[128];
    bool eof, lazy;
} to;

static void conn_event(struct conn *c, unsigned events, void *user)
{
    to.errors += (events & CONN_EV_ERROR) != 0;
    while (!to.lazy && events & CONN_EV_READ) {
        ssize_t n = conn_read(c, &to.got, 65536);
        to.eof = n == E_EOF;
        if (n <= 0)
            break;
    }
}
static void tunnel_ready(void *user, struct conn *c, struct upstream_host *host)
{
    to.c = c;
    to.t = NULL;
    conn_set_owner(c, conn_event, NULL);
}
static void tunnel_failed(void *user, enum upstream_fail why, struct upstream_host *host,
                          sv details)
{
    assert_int_equal(why, UPSTREAM_FAIL_CONNECT);
    to.fails++;
    to.t = NULL;
    snprintf(to.why, sizeof to.why, "%.*s", SV_ARG(details));
}
static const struct upstream_tcp_cb tunnel_cb = {tunnel_ready, tunnel_failed};

static void ask(const char *cluster)
{
    static const struct upstream_ctx ctx;
    memset(&to, 0, sizeof to);
    buf_init(&to.got);
    arena_init(&to.a);
    http_head_init(&to.ask, &to.a);
    to.ask.method = SV("CONNECT");
    to.ask.authority = SV("far.test:443");
    to.cluster = upstream_find(rig.worker, sv_of(cluster));
    to.t = upstream_tunnel_open(rig.loop, to.cluster, &ctx, &to.ask, &tunnel_cb, NULL);
    rig_run_ms(&rig, 5);
}

static void asked_and_answered(const char *answer)
{
    ask("c");
    size_t n;
    char *got = buf_to_cstr(&peer.got, &n);
    assert_true(sv_starts(sv_make(got, n), SV("CONNECT far.test:443 HTTP/1.1\r\n")));
    free(got);
    buf_reset(&peer.got);
    assert_null(to.c);
    if (answer)
        peer_say(answer);
}

static void done_through(void)
{
    rig_run_ms(&rig, 2);
    buf_reset(&to.got);
    arena_free(&to.a);
    upstream_cluster_unref(to.cluster);
}

static void write_text(const char *text)
{
    struct buf b;
    buf_init(&b);
    buf_append(&b, text, strlen(text));
    assert_int_equal(conn_write(to.c, &b), strlen(text));
    rig_run_ms(&rig, 2);
}

static void a_tunnel_is_a_connection(void **state)
{
    struct buf none;
    asked_and_answered("HTTP/1.1 200 OK\r\n\r\nearly ");
    assert_non_null(to.c);
    assert_true(to.c->connected);
    conn_kick(to.c); /* what came with the answer */
    rig_run_ms(&rig, 2);
    write_text("ping");
    peer_heard("ping");
    peer_say("pong");
    size_t n;
    char *got = buf_to_cstr(&to.got, &n);
    assert_string_equal(got, "early pong");
    free(got);
    assert_int_equal(to.c->bytes_read, 10);
    assert_int_equal(to.c->bytes_written, 4);
    buf_init(&none);
    assert_int_equal(conn_write(to.c, &none), 0);
    assert_int_equal(conn_shutdown_write(to.c), 0);
    assert_int_equal(conn_shutdown_write(to.c), E_CLOSED);
    rig_run_ms(&rig, 2);
    assert_true(peer.eof);
    peer_say("after");
    peer_leave(false);
    assert_true(to.eof);
    assert_int_equal(to.errors, 0);
    conn_close(to.c);
    done_through();
}

static void a_refusal_says_its_status(void **state)
{
    asked_and_answered("HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno");
    assert_int_equal(to.fails, 1);
    assert_string_equal(to.why, "tunnel refused with status 403");
    assert_null(to.c);
    done_through();
}

static void an_end_instead_of_an_answer_fails(void **state)
{
    asked_and_answered(NULL);
    peer_leave(true);
    assert_int_equal(to.fails, 1);
    assert_null(to.c);
    done_through();
}

static void nobody_there_fails(void **state)
{
    net_listener_free(peer.listener);
    peer.listener = NULL;
    ask("c");
    assert_int_equal(to.fails, 1);
    done_through();
}

static void cancelled_before_the_answer(void **state)
{
    asked_and_answered(NULL);
    upstream_tunnel_cancel(to.t);
    rig_run_ms(&rig, 2);
    assert_true(peer.eof || peer.dead);
    assert_int_equal(to.fails, 0);
    done_through();

    ask("c"); /* and before the connection */
    if (to.t)
        upstream_tunnel_cancel(to.t);
    assert_int_equal(to.fails, 0);
    done_through();
}

static void a_cut_is_an_error_of_the_connection(void **state)
{
    struct buf b;
    asked_and_answered("HTTP/1.1 200 OK\r\n\r\n");
    peer_leave(true);
    assert_true(to.errors >= 1);
    assert_true(to.c->error < 0 && to.c->error_text.n);
    buf_init(&b);
    buf_append(&b, "x", 1);
    assert_true(conn_write(to.c, &b) < 0);
    assert_true(conn_read(to.c, &to.got, 10) < 0);
    buf_reset(&b);
    conn_close(to.c);
    done_through();
}

static void closing_cuts_the_stream(void **state)
{
    asked_and_answered("HTTP/1.1 200 OK\r\n\r\n");
    conn_close(to.c);
    rig_run_ms(&rig, 2);
    assert_true(peer.eof || peer.dead);
    done_through();
}

static void what_nobody_reads_pauses_the_peer(void **state)
{
    static char block[65536];
    size_t sent = 0;
    asked_and_answered("HTTP/1.1 200 OK\r\n\r\n");
    to.lazy = true;
    memset(block, 'y', sizeof block);
    for (int i = 0; i < 200; i++) { /* 13 MB */
        buf_append(&peer.out, block, sizeof block);
        sent += sizeof block;
    }
    conn_write(peer.c, &peer.out);
    rig_run_ms(&rig, 5000);
    assert_true(peer.out.len > sent - (2u << 20)); /* a few buffers full, and no more */
    size_t read = 0;
    for (int i = 0; i < 100000 && read < sent; i++) {
        ssize_t n = conn_read(to.c, &to.got, 10000);
        if (n == E_AGAIN)
            rig_run_ms(&rig, 1);
        else
            assert_true(n > 0);
        read += n > 0 ? (size_t)n : 0;
        buf_reset(&to.got);
    }
    assert_int_equal(read, sent);
    conn_close(to.c);
    done_through();
}

static void over_http2(void **state)
{
    static char block[30000];
    struct buf b;
    size_t sent = 0;
    struct backend *far = rig_backend(&rig, "10.0.1.2", 80);
    far->http2 = true;
    far->app = BACKEND_STREAM;
    rig_put_ok(&rig,
               "{name: h2, connect_timeout: 1s, load_assignment: {cluster_name: h2, endpoints: "
               "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.1.2, "
               "port_value: 80}}}}]}]}, typed_extension_protocol_options: "
               "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "
               "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
               "explicit_http_config: {http2_protocol_options: {}}}}}");
    ask("h2");
    assert_non_null(to.c);
    memset(block, 'z', sizeof block);
    buf_init(&b);
    for (int i = 0; i < 1000 && sent < 600000; i++) {
        if (!b.len) {
            buf_append(&b, block, sizeof block);
            sent += sizeof block;
        }
        assert_true(conn_write(to.c, &b) >= 0);
        rig_run_ms(&rig, 2);
    }
    rig_run_ms(&rig, 50);
    assert_int_equal(to.got.len + b.len, sent);
    assert_int_equal(conn_shutdown_write(to.c), 0);
    rig_run_ms(&rig, 20);
    assert_true(to.eof);
    buf_reset(&b);
    conn_close(to.c);
    done_through();
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(bytes_go_both_ways_and_each_end_goes_alone),
        T(the_peer_may_end_first),
        T(a_reset_of_the_peer_is_told_once),
        T(our_reset_cuts_the_connection),
        T(nothing_is_sent_after_the_end),
        T(a_peer_that_does_not_read_pauses_the_sender),
        T(a_paused_stream_reads_nothing),
        T(a_tunnel_is_a_connection),
        T(a_refusal_says_its_status),
        T(an_end_instead_of_an_answer_fails),
        T(nobody_there_fails),
        T(cancelled_before_the_answer),
        T(a_cut_is_an_error_of_the_connection),
        T(closing_cuts_the_stream),
        T(what_nobody_reads_pauses_the_peer),
        T(over_http2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
