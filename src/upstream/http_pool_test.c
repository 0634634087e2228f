#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "upstream/testing_rig.h"

/* A static cluster "c" of endpoints 10.0.1.1:80 … with more fields. */
#define ENDPOINT(ip) "{endpoint: {address: {socket_address: {address: " ip ", port_value: 80}}}}"
#define CLUSTER(endpoints, more)                                                                   \
    "{name: c, connect_timeout: 1s, load_assignment: {cluster_name: c, endpoints: "                \
    "[{lb_endpoints: [" endpoints "]}]}" more "}"
#define H2_OPTIONS(inner)                                                                          \
    ", typed_extension_protocol_options: "                                                         \
    "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: "                                    \
    "{'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, " inner \
    "}}"
#define H2 H2_OPTIONS("explicit_http_config: {http2_protocol_options: {}}")

static struct rig rig;
static struct backend *b1, *b2;

static int setup(void **state)
{
    rig_init(&rig, 1);
    rig_start(&rig);
    b1 = rig_backend(&rig, "10.0.1.1", 80);
    b2 = rig_backend(&rig, "10.0.1.2", 80);
    return 0;
}

static int teardown(void **state)
{
    rig_fini(&rig);
    return 0;
}

static void connections_are_reused(void **state)
{
    struct req q[3];
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 3; i++) {
        req_run(&rig, &q[i], "c");
        assert_int_equal(q[i].status, 200);
        assert_int_equal(q[i].body, 2);
        assert_string_equal(q[i].host_text, "10.0.1.1:80");
        assert_int_equal(q[i].conn_id, q[0].conn_id);
    }
    for (int i = 0; i < 3; i++)
        req_end(&q[i]);
    assert_int_equal(b1->n_conns, 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_total"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_http1_total"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_total"), 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 0);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_pending_total"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_pending_active"), 0);
    assert_true(rig_stat(&rig, "cluster.c.upstream_cx_rx_bytes_total") > 0);
    assert_true(rig_stat(&rig, "cluster.c.upstream_cx_tx_bytes_total") > 0);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_total"), 1);
}

static void last_used_first(void **state)
{
    struct req q[3], again;
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 3; i++)
        req_start(&rig, &q[i], "c");
    rig_run_ms(&rig, 20);
    assert_int_equal(b1->n_conns, 3);
    backend_answer_all(b1);
    b1->app = BACKEND_ANSWER;
    rig_run_ms(&rig, 5);
    req_run(&rig, &again, "c");
    uint64_t last = again.conn_id;
    req_end(&again);
    for (int i = 0; i < 5; i++) {
        req_run(&rig, &again, "c");
        assert_int_equal(again.conn_id, last);
        req_end(&again);
    }
    for (int i = 0; i < 3; i++)
        req_end(&q[i]);
}

static void circuit_breakers(void **state)
{
    struct req q[5];
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"),
                             ", circuit_breakers: {thresholds: [{max_connections: 1, "
                             "max_pending_requests: 2, track_remaining: true}]}"));
    for (int i = 0; i < 5; i++)
        req_start(&rig, &q[i], "c"); /* all pending: nothing is connected yet */
    assert_false(q[1].failed);
    assert_true(q[2].failed);
    assert_int_equal(q[2].why, UPSTREAM_FAIL_OVERFLOW);
    assert_string_equal(q[2].host_text, "10.0.1.1:80");
    assert_true(q[4].failed);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_pending_overflow"), 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.circuit_breakers.default.rq_pending_open"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.circuit_breakers.default.cx_open"), 1);
    rig_run_ms(&rig, 20);
    assert_true(q[0].ready);
    assert_false(q[1].ready);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_overflow"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.circuit_breakers.default.remaining_pending"), 1);
    backend_answer_all(b1);
    rig_run_ms(&rig, 20);
    assert_true(q[0].closed);
    assert_true(q[1].ready); /* on the same connection */
    assert_int_equal(q[1].conn_id, q[0].conn_id);
    backend_answer_all(b1);
    rig_run_ms(&rig, 20);
    for (int i = 0; i < 5; i++)
        req_end(&q[i]);
    assert_int_equal(rig_stat(&rig, "cluster.c.circuit_breakers.default.rq_pending_open"), 0);
    assert_int_equal(b1->n_conns, 1);
}

static void max_requests_counts_streams(void **state)
{
    struct req q[3];
    b1->app = BACKEND_HOLD;
    b1->http2 = true;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"),
                             H2 ", circuit_breakers: {thresholds: [{max_requests: 2}]}"));
    for (int i = 0; i < 3; i++)
        req_start(&rig, &q[i], "c");
    rig_run_ms(&rig, 20);
    assert_true(q[0].ready && q[1].ready);
    assert_true(q[2].failed);
    assert_int_equal(q[2].why, UPSTREAM_FAIL_OVERFLOW);
    req_end(&q[0]); /* a reset gives its place back */
    req_end(&q[2]);
    req_start(&rig, &q[2], "c");
    assert_true(q[2].ready);
    backend_answer_all(b1);
    rig_run_ms(&rig, 20);
    req_end(&q[1]);
    req_end(&q[2]);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 0);
}

static void refused(void **state)
{
    struct req q;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    backend_stop_listening(b1);
    req_run(&rig, &q, "c");
    assert_true(q.failed);
    assert_int_equal(q.why, UPSTREAM_FAIL_CONNECT);
    assert_non_null(strstr(q.details, "refused"));
    assert_string_equal(q.host_text, "10.0.1.1:80");
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_connect_fail"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 0);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_pending_failure_eject"), 1);
}

static void connect_timeout(void **state)
{
    struct req q;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.9.9.9"), "")); /* a black hole */
    uint64_t before = sim_now(rig.sim);
    req_run(&rig, &q, "c");
    assert_true(q.failed);
    assert_int_equal(q.why, UPSTREAM_FAIL_CONNECT_TIMEOUT);
    assert_in_range(sim_now(rig.sim) - before, SIM_SECOND, SIM_SECOND + 10 * SIM_MS);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_connect_timeout"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_connect_fail"), 1);
    assert_int_equal(sim_open_sockets(rig.sim, "10.0.0.1"), 0);
}

static void reset_by_the_peer(void **state)
{
    struct req q;
    b1->app = BACKEND_RESET;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    req_run(&rig, &q, "c");
    assert_true(q.ready && q.reset && q.closed);
    assert_int_equal(q.reset_why, HTTP_RESET_CONN_TERMINATION);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_destroy_remote_with_active_rq"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 0);
    b1->app = BACKEND_ANSWER;
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
}

static void connection_close_is_obeyed(void **state)
{
    struct req q;
    b1->app = BACKEND_CLOSE;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 3; i++) {
        req_run(&rig, &q, "c");
        assert_int_equal(q.status, 200);
        assert_false(q.reset);
        req_end(&q);
    }
    assert_int_equal(b1->n_conns, 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 0);
}

static void a_closed_idle_connection_is_not_used(void **state)
{
    struct req q;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 5; i++) {
        req_run(&rig, &q, "c");
        assert_int_equal(q.status, 200);
        req_end(&q);
        backend_close_all(b1, i & 1);
        rig_run_ms(&rig, 10);
        assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 0);
    }
    assert_int_equal(b1->n_conns, 5);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_destroy_remote"), 5);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_destroy_with_active_rq"), 0);
}

static void nothing(void *arg)
{
}

static void use_once(void)
{
    struct req q;
    loop_post(rig.loop, nothing, NULL); /* a turn: the loop knows what time it is */
    rig_run_ms(&rig, 1);
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
    rig_run_ms(&rig, 1); /* it goes idle */
}

/* A host that has closed two idle connections after 10 s is not trusted with one that is idle for
 * 8 s. */
static void the_hosts_idle_timeout_is_learned(void **state)
{
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 2; i++) {
        use_once();
        rig_run_ms(&rig, 10000);
        backend_close_all(b1, i & 1);
        rig_run_ms(&rig, 10);
    }
    assert_int_equal(b1->n_conns, 2);
    for (int i = 0; i < 3; i++) {
        use_once();
        rig_run_ms(&rig, 7000); /* short enough */
    }
    assert_int_equal(b1->n_conns, 3);
    rig_run_ms(&rig, 1000);
    use_once();
    assert_int_equal(b1->n_conns, 4);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_destroy_local"), 1);
    /* A close at another time: it is not known any more. */
    rig_run_ms(&rig, 1000);
    backend_close_all(b1, false);
    rig_run_ms(&rig, 10);
    use_once();
    rig_run_ms(&rig, 9000);
    use_once();
    assert_int_equal(b1->n_conns, 5);
}

static void http2_multiplexes(void **state)
{
    struct req q[50];
    b1->http2 = true;
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), H2));
    for (int i = 0; i < 50; i++)
        req_start(&rig, &q[i], "c");
    rig_run_ms(&rig, 50);
    assert_int_equal(b1->n_conns, 1);
    assert_int_equal(b1->n_requests, 50);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 50);
    backend_answer_all(b1);
    rig_run_ms(&rig, 50);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(q[i].status, 200);
        req_end(&q[i]);
    }
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_http2_total"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 0);
}

static void http2_more_connections_when_full(void **state)
{
    struct req q[6];
    b1->http2 = true;
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"),
                             H2_OPTIONS("explicit_http_config: {http2_protocol_options: "
                                        "{max_concurrent_streams: 2}}")));
    for (int i = 0; i < 6; i++)
        req_start(&rig, &q[i], "c");
    rig_run_ms(&rig, 50);
    assert_int_equal(b1->n_conns, 3);
    assert_int_equal(b1->n_requests, 6);
    backend_answer_all(b1);
    rig_run_ms(&rig, 50);
    for (int i = 0; i < 6; i++)
        req_end(&q[i]);
}

static void goaway_drains(void **state)
{
    struct req a, b;
    b1->http2 = true;
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), H2));
    req_start(&rig, &a, "c");
    rig_run_ms(&rig, 20);
    backend_drain_all(b1);
    rig_run_ms(&rig, 20);
    req_start(&rig, &b, "c");
    rig_run_ms(&rig, 20);
    assert_int_equal(b1->n_conns, 2);
    assert_int_not_equal(a.conn_id, b.conn_id);
    backend_answer_all(b1);
    rig_run_ms(&rig, 20);
    assert_int_equal(a.status, 200);
    assert_int_equal(b.status, 200);
    assert_false(a.reset);
    req_end(&a);
    req_end(&b);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_close_notify"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 1);
}

static void limits_of_a_connections_life(void **state)
{
    struct req q;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"),
                             H2_OPTIONS("explicit_http_config: {http_protocol_options: {}}, "
                                        "common_http_protocol_options: {idle_timeout: 2s, "
                                        "max_connection_duration: 10s, "
                                        "max_requests_per_connection: 3}")));
    for (int i = 0; i < 4; i++) {
        req_run(&rig, &q, "c");
        req_end(&q);
    }
    assert_int_equal(b1->n_conns, 2);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_max_requests"), 1);
    rig_run_ms(&rig, 1900);
    assert_int_equal(b1->open_conns, 1);
    req_run(&rig, &q, "c");
    req_end(&q);
    rig_run_ms(&rig, 1900);
    assert_int_equal(b1->open_conns, 1);
    rig_run_ms(&rig, 200);
    assert_int_equal(b1->open_conns, 0);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_idle_timeout"), 1);
    b1->app = BACKEND_HOLD;
    req_start(&rig, &q, "c");
    rig_run_ms(&rig, 11000);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_max_duration_reached"), 1);
    assert_int_equal(b1->open_conns, 1); /* what it carries may end */
    backend_answer_all(b1);
    rig_run_ms(&rig, 10);
    assert_int_equal(q.status, 200);
    assert_int_equal(b1->open_conns, 0);
    req_end(&q);
}

static void cancelling(void **state)
{
    struct req q[3];
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 3; i++)
        req_start(&rig, &q[i], "c");
    req_end(&q[1]);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_cancelled"), 1);
    rig_run_ms(&rig, 20);
    assert_true(q[0].closed && q[2].closed);
    assert_false(q[1].ready || q[1].failed);
    req_end(&q[0]);
    req_end(&q[2]);
}

static void reset_in_on_ready(struct req *q)
{
    q->stream->ops->reset(q->stream, HTTP_RESET_LOCAL);
}

static void callbacks_may_end_the_stream_at_once(void **state)
{
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    for (int i = 0; i < 5; i++) {
        struct req q = {.on_ready = reset_in_on_ready};
        req_go(&rig, &q, "c");
        rig_run_ms(&rig, 10);
        assert_true(q.closed);
        req_end(&q);
    }
    struct req q;
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 0);
}

static struct req second;

static void again(struct req *q)
{
    memset(&second, 0, sizeof second);
    req_go(q->rig, &second, "c");
}

static void callbacks_may_open_again(void **state)
{
    struct req q = {.then = again};
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    req_go(&rig, &q, "c");
    rig_run_ms(&rig, 20);
    assert_int_equal(second.status, 200);
    req_end(&q);
    req_end(&second);
    backend_stop_listening(b1);
    backend_close_all(b1, false);
    rig_run_ms(&rig, 20);
    q = (struct req){.then = again};
    req_go(&rig, &q, "c");
    rig_run_ms(&rig, 20);
    assert_true(q.failed && second.failed);
    req_end(&q);
    req_end(&second);
}

static void tried_hosts_are_avoided(void **state)
{
    struct req a, b;
    const struct upstream_host *tried[1];
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1") ", " ENDPOINT("10.0.1.2"), ""));
    for (int i = 0; i < 10; i++) {
        req_run(&rig, &a, "c");
        tried[0] = a.host;
        b = (struct req){.ctx = {.tried = tried, .n_tried = 1}};
        req_go(&rig, &b, "c");
        rig_run_ms(&rig, 20);
        assert_string_not_equal(a.host_text, b.host_text);
        req_end(&b);
        req_end(&a);
    }
}

static void priorities_have_pools_of_their_own(void **state)
{
    struct req q = {.ctx.priority = UPSTREAM_HIGH}, d;
    rig_put_ok(&rig,
               CLUSTER(ENDPOINT("10.0.1.1"), ", circuit_breakers: {thresholds: [{priority: HIGH, "
                                             "max_pending_requests: 0}]}"));
    req_go(&rig, &q, "c");
    assert_true(q.failed);
    assert_int_equal(q.why, UPSTREAM_FAIL_OVERFLOW);
    req_run(&rig, &d, "c");
    assert_int_equal(d.status, 200);
    req_end(&q);
    req_end(&d);
}

static void nobody_there(void **state)
{
    struct req q;
    rig_put_ok(&rig, "{name: c, connect_timeout: 1s}");
    req_run(&rig, &q, "c");
    assert_true(q.failed);
    assert_int_equal(q.why, UPSTREAM_FAIL_NO_HOST);
    assert_null(q.host);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_none_healthy"), 1);
    assert_null(upstream_find(rig.worker, SV("d")));
}

static void retry_budget(void **state)
{
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"),
                             ", circuit_breakers: {thresholds: [{max_retries: 2}, {priority: HIGH, "
                             "retry_budget: {budget_percent: {value: 50}, "
                             "min_retry_concurrency: 1}}]}"));
    struct upstream_cluster *c = upstream_find(rig.worker, SV("c"));
    assert_true(upstream_retry_take(c, UPSTREAM_DEFAULT));
    assert_true(upstream_retry_take(c, UPSTREAM_DEFAULT));
    assert_false(upstream_retry_take(c, UPSTREAM_DEFAULT));
    assert_int_equal(rig_stat(&rig, "cluster.c.circuit_breakers.default.rq_retry_open"), 1);
    upstream_retry_give(c, UPSTREAM_DEFAULT);
    assert_true(upstream_retry_take(c, UPSTREAM_DEFAULT));
    upstream_retry_give(c, UPSTREAM_DEFAULT);
    upstream_retry_give(c, UPSTREAM_DEFAULT);
    struct req q[6];
    b1->app = BACKEND_HOLD;
    assert_true(upstream_retry_take(c, UPSTREAM_HIGH));
    assert_false(upstream_retry_take(c, UPSTREAM_HIGH));
    for (int i = 0; i < 6; i++) {
        q[i] = (struct req){.ctx.priority = UPSTREAM_HIGH};
        req_go(&rig, &q[i], "c");
    }
    assert_true(upstream_retry_take(c, UPSTREAM_HIGH)); /* half of six */
    assert_true(upstream_retry_take(c, UPSTREAM_HIGH));
    assert_false(upstream_retry_take(c, UPSTREAM_HIGH));
    for (int i = 0; i < 3; i++)
        upstream_retry_give(c, UPSTREAM_HIGH);
    for (int i = 0; i < 6; i++)
        req_end(&q[i]);
    upstream_cluster_unref(c);
}

static void bodies_both_ways(void **state)
{
    struct req q = {.keep_open = true};
    struct buf data;
    b1->app = BACKEND_STREAM;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"), ""));
    req_go(&rig, &q, "c");
    rig_run_ms(&rig, 20);
    assert_int_equal(q.status, 200);
    buf_init(&data);
    for (int i = 0; i < 100; i++) {
        char piece[10000] = {0};
        buf_append(&data, piece, sizeof piece);
        assert_int_equal(q.stream->ops->send_data(q.stream, &data, i == 99), 0);
    }
    rig_run_ms(&rig, 2000);
    assert_true(q.closed);
    assert_false(q.reset);
    assert_int_equal(q.body, 1000000);
    req_end(&q);
}

static void http2_keep_alive(void **state)
{
    struct req q;
    b1->http2 = true;
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, CLUSTER(ENDPOINT("10.0.1.1"),
                             H2_OPTIONS("explicit_http_config: {http2_protocol_options: "
                                        "{connection_keepalive: {interval: 1s, timeout: 0.5s}}}")));
    req_start(&rig, &q, "c");
    rig_run_ms(&rig, 10000);
    assert_true(q.ready);
    assert_false(q.reset); /* the peer answers */
    b1->mute = true;
    rig_run_ms(&rig, 2000);
    assert_true(q.reset);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.http2.keepalive_timeout"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 0);
}

/* Whole lives under many seeds: delays, segments and interleavings differ; nothing may leak and no
 * request may be lost. Servers close idle connections all the time. */
static void many_seeds(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct rig r;
        struct req q[30];
        rig_init(&r, seed);
        rig_start(&r);
        struct backend *a = rig_backend(&r, "10.0.1.1", 80), *b = rig_backend(&r, "10.0.1.2", 80);
        a->http2 = b->http2 = seed % 2;
        rig_put_ok(&r, seed % 2 ? CLUSTER(ENDPOINT("10.0.1.1") ", " ENDPOINT("10.0.1.2"), H2)
                                : CLUSTER(ENDPOINT("10.0.1.1") ", " ENDPOINT("10.0.1.2"), ""));
        for (int round = 0; round < 10; round++) {
            for (int i = 0; i < 30; i++) {
                req_start(&r, &q[i], "c");
                if (rand_below(sim_rand(r.sim), 3) == 0)
                    sim_run_for(r.sim, rand_below(sim_rand(r.sim), 2 * SIM_MS));
            }
            rig_run_ms(&r, 100);
            for (int i = 0; i < 30; i++) {
                if (q[i].status != 200 || q[i].body != 2 || q[i].reset)
                    fail_msg("seed %u round %d request %d: %u %s", (unsigned)seed, round, i,
                             q[i].status, q[i].details);
                req_end(&q[i]);
            }
            backend_close_all(rand_below(sim_rand(r.sim), 2) ? a : b, false);
            rig_run_ms(&r, 1 + rand_below(sim_rand(r.sim), 50));
        }
        assert_int_equal(rig_stat(&r, "cluster.c.upstream_rq_active"), 0);
        assert_int_equal(rig_stat(&r, "cluster.c.upstream_cx_active"),
                         a->open_conns + b->open_conns);
        rig_fini(&r);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(connections_are_reused),
        T(last_used_first),
        T(circuit_breakers),
        T(max_requests_counts_streams),
        T(refused),
        T(connect_timeout),
        T(reset_by_the_peer),
        T(connection_close_is_obeyed),
        T(a_closed_idle_connection_is_not_used),
        T(the_hosts_idle_timeout_is_learned),
        T(http2_multiplexes),
        T(http2_more_connections_when_full),
        T(goaway_drains),
        T(limits_of_a_connections_life),
        T(cancelling),
        T(callbacks_may_end_the_stream_at_once),
        T(callbacks_may_open_again),
        T(tried_hosts_are_avoided),
        T(priorities_have_pools_of_their_own),
        T(nobody_there),
        T(retry_budget),
        T(bodies_both_ways),
        T(http2_keep_alive),
        cmocka_unit_test(many_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
