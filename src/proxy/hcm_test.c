/* The connection manager and the router, as a client and scripted backends see them. */
#include "proxy/sim_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void up(struct world *w, const backend_fn fns[4], const char *hcm, const char *routes)
{
    char *text = world_bootstrap(hcm, routes, NULL);
    world_init(w, 7, fns);
    world_start(w, text, NULL);
    free(text);
}

static void has(const char *got, const char *text)
{
    if (!strstr(got, text))
        fail_msg("'%s' is not in:\n%s", text, got);
}

#define ALL(fn) ((const backend_fn[4]){fn, fn, fn, fn})
#define TO_B1   "{match: {prefix: /}, route: {cluster: b1}}"

static void forwards(void **state)
{
    struct world w;
    up(&w, ALL(backend_ok), "", TO_B1);
    char *got = client_get(&w, "/x?y");
    has(got, "HTTP/1.1 200 OK\r\n");
    has(got, "GET /x?y HTTP/1.1\r\nhost: test\r\n");
    has(got, "connection: close");
    free(got);
    assert_int_equal(world_stat(&w, "http.t.downstream_rq_2xx"), 1);
    assert_int_equal(world_stat(&w, "http.t.downstream_rq_active"), 0);
    world_fini(&w);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_ok), "", TO_B1);
    client_open(&c, &w, 80);
    client_send(&c, "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
                    "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&c, "GET /3", 1000));
    assert_true(strstr(c.got.p, "GET /1") < strstr(c.got.p, "GET /2"));
    assert_true(strstr(c.got.p, "GET /2") < strstr(c.got.p, "GET /3"));
    assert_int_equal(w.b[0].connections, 1);
    client_close(&c, false);
    world_fini(&w);
}

static void route_timeout_is_exact(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_hang), "", "{match: {prefix: /}, route: {cluster: b1, timeout: 2.5s}}");
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_false(client_wait(&c, "504", 2490));
    assert_true(client_wait(&c, "upstream request timeout", 50));
    assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_timeout"), 1);
    client_close(&c, false);
    world_fini(&w);
}

static void idle_streams_end(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_hang), "stream_idle_timeout: 1s",
       "{match: {prefix: /}, route: {cluster: b1, timeout: 0s}}");
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&c, "stream timeout", 1100));
    has(c.got.p, "HTTP/1.1 504");
    client_close(&c, false);
    client_open(&c, &w, 80);
    client_send(&c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
    assert_true(client_wait(&c, "HTTP/1.1 408", 1100));
    client_close(&c, false);
    world_fini(&w);
}

static void slow_heads_end(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_ok), "request_headers_timeout: 1s", TO_B1);
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nho");
    assert_true(client_wait(&c, "HTTP/1.1 408", 1100));
    assert_true(client_wait_eof(&c, 3000));
    assert_int_equal(world_stat(&w, "http.t.downstream_rq_header_timeout"), 1);
    client_close(&c, false);
    world_fini(&w);
}

static void idle_connections_end(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_ok), "common_http_protocol_options: {idle_timeout: 5s}", TO_B1);
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&c, "GET /", 1000));
    assert_false(client_wait_eof(&c, 4900));
    assert_true(client_wait_eof(&c, 300));
    assert_int_equal(world_stat(&w, "http.t.downstream_cx_idle_timeout"), 1);
    client_close(&c, false);
    world_fini(&w);
}

static void half_an_answer(struct backend_conn *bc, sv text)
{
    backend_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nx-port: 9001\r\n\r\nhalf");
}

/* The client goes away in the middle of an answer: the log still tells of the answer's head, whose
 * memory came from a stream that is gone by then. */
static void cut_answers_are_logged(void **state)
{
    struct world w;
    struct client c;
    char path[] = "/tmp/weft-hcm-test-XXXXXX", hcm[500], got[200] = "";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    snprintf(hcm, sizeof hcm,
             "access_log: [{name: file, typed_config: {'@type': type.googleapis.com/"
             "envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %s, log_format: "
             "{text_format_source: {inline_string: \"%%RESPONSE_CODE%% %%RESP(X-PORT)%% "
             "%%RESPONSE_FLAGS%%\\n\"}}}}]",
             path);
    for (int reset = 0; reset < 2; reset++) {
        up(&w, ALL(half_an_answer), hcm, TO_B1);
        client_open(&c, &w, 80);
        client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_true(client_wait(&c, "half", 1000));
        client_close(&c, reset);
        world_run(&w, 100);
        world_fini(&w);
    }
    assert_true(read(fd, got, sizeof got - 1) > 0);
    assert_string_equal(got, "200 9001 DC\n200 9001 DC\n");
    close(fd);
    unlink(path);
}

/* ---- retries ---- */

static void flaky(struct backend_conn *bc, sv text)
{
    if (bc->b->requests < 3)
        backend_503(bc, text);
    else
        backend_ok(bc, text);
}

/* Closes the connection when the second request comes in it; b->requests counts all. */
static void closes_kept_ones(struct backend_conn *bc, sv text)
{
    if (bc->requests > 1)
        (bc->b->requests & 1 ? backend_close : backend_reset)(bc, text);
    else
        backend_ok(bc, text);
}

static void request_twice(struct world *w, const char *second, const char *answer)
{
    struct client c;
    client_open(&c, w, 80);
    client_send(&c, "GET /one HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&c, "GET /one", 1000));
    client_send(&c, second);
    if (!client_wait(&c, answer, 1000))
        fail_msg("'%s' got: %s", second, c.got.p);
    client_close(&c, false);
}

/* RFC 9112 9.3.1: the server closed a kept connection just when a request was on its way. */
static void idempotent_requests_are_replayed(void **state)
{
    static const char *const methods[] = {"GET", "DELETE", "OPTIONS", "PUT"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct world w;
        char second[100];
        up(&w, ALL(closes_kept_ones), "", TO_B1);
        snprintf(second, sizeof second, "%s /two HTTP/1.1\r\nhost: a\r\n\r\n", methods[i]);
        request_twice(&w, second, "/two");
        assert_int_equal(w.b[0].requests, 3);
        assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_replay"), 1);
        assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_retry"), 0);
        assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_active"), 0);
        world_fini(&w);
    }
}

static void others_are_not_replayed(void **state)
{
    static const char *const requests[] = {
        "POST /two HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        "PUT /two HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"};
    struct world w;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        up(&w, ALL(closes_kept_ones), "", TO_B1);
        request_twice(&w, requests[i], "HTTP/1.1 503");
        assert_int_equal(w.b[0].requests, 2);
        world_fini(&w);
    }
    /* A connection that was made for the request: its end is an answer. */
    up(&w, ALL(backend_close), "", TO_B1);
    char *got = client_get(&w, "/");
    has(got, "HTTP/1.1 503");
    free(got);
    assert_int_equal(w.b[0].requests, 1);
    assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_replay"), 0);
    world_fini(&w);
}

static void retries_until_it_works(void **state)
{
    struct world w;
    up(&w, (const backend_fn[4]){flaky, NULL, NULL, NULL}, "",
       "{match: {prefix: /}, route: {cluster: b1, retry_policy: {retry_on: 5xx, num_retries: 3}}}");
    char *got = client_get(&w, "/");
    has(got, "HTTP/1.1 200");
    free(got);
    assert_int_equal(w.b[0].requests, 3);
    assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_retry"), 2);
    assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_retry_success"), 1);
    world_fini(&w);
}

static void retries_have_a_limit(void **state)
{
    struct world w;
    up(&w, ALL(backend_503), "",
       "{match: {prefix: /}, route: {cluster: b1, retry_policy: {retry_on: 5xx, num_retries: 2}}}");
    char *got = client_get(&w, "/");
    has(got, "HTTP/1.1 503");
    free(got);
    assert_int_equal(w.b[0].requests, 3);
    assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_retry_limit_exceeded"), 1);
    world_fini(&w);
}

static void bodies_are_sent_again(void **state)
{
    struct world w;
    struct client c;
    up(&w, (const backend_fn[4]){flaky, NULL, NULL, NULL}, "",
       "{match: {prefix: /}, route: {cluster: b1, retry_policy: {retry_on: 5xx, num_retries: 3}}}");
    client_open(&c, &w, 80);
    client_send(&c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello again");
    assert_true(client_wait(&c, "HTTP/1.1 200", 5000));
    has(w.b[0].last, "hello again");
    client_close(&c, false);
    world_fini(&w);
}

static void other_hosts_first(void **state)
{
    struct world w;
    up(&w, (const backend_fn[4]){backend_reset, backend_ok, NULL, NULL}, "",
       "{match: {prefix: /}, route: {cluster: both, retry_policy: {retry_on: reset, num_retries: "
       "1, "
       "host_selection_retry_max_attempts: 5, retry_host_predicate: [{name: p, typed_config: "
       "{\"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3."
       "PreviousHostsPredicate}}]}}}");
    for (int i = 0; i < 10; i++) {
        char *got = client_get(&w, "/");
        has(got, "HTTP/1.1 200");
        free(got);
    }
    world_fini(&w);
}

static void each_try_has_its_time(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_hang), "",
       "{match: {prefix: /}, route: {cluster: b1, timeout: 30s, retry_policy: {retry_on: 5xx, "
       "num_retries: 2, per_try_timeout: 1s}}}");
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_false(client_wait(&c, "504", 2990));
    assert_true(client_wait(&c, "upstream request timeout", 500));
    assert_int_equal(w.b[0].requests, 3);
    assert_int_equal(world_stat(&w, "cluster.b1.upstream_rq_per_try_timeout"), 3);
    client_close(&c, false);
    world_fini(&w);
}

/* ---- ends ---- */

static void a_client_that_leaves_ends_the_work(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_hang), "", TO_B1);
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    world_run(&w, 100);
    assert_int_equal(w.b[0].open, 1);
    client_close(&c, true);
    world_run(&w, 100);
    assert_int_equal(w.b[0].open, 0);
    assert_int_equal(world_stat(&w, "http.t.downstream_rq_active"), 0);
    world_fini(&w);
}

static void truncated(struct backend_conn *bc, sv text)
{
    backend_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
    bc->close_after = true;
    backend_send(bc, "");
}

static void a_truncated_response_stays_truncated(void **state)
{
    struct world w;
    up(&w, ALL(truncated), "", TO_B1);
    char *got = client_get(&w, "/");
    has(got, "content-length: 100");
    assert_string_equal(strstr(got, "\r\n\r\n") + 4, "abc");
    free(got);
    world_fini(&w);
}

static void early(struct backend_conn *bc, sv text)
{
    backend_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
}

static void drain_finishes_what_is_under_way(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(backend_hang), "", "{match: {prefix: /}, route: {cluster: b1, timeout: 3s}}");
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    world_run(&w, 100);
    proxy_server_drain(w.server);
    world_run(&w, 100);
    struct client late;
    client_open(&late, &w, 80);
    world_run(&w, 100);
    assert_true(late.error);
    client_close(&late, false);
    assert_false(proxy_server_ended(w.server));
    assert_true(client_wait(&c, "504", 3000));
    has(c.got.p, "connection: close");
    assert_true(client_wait_eof(&c, 3000));
    world_run(&w, 200);
    assert_true(proxy_server_ended(w.server));
    client_close(&c, false);
    world_fini(&w);
}

static void big(struct backend_conn *bc, sv text)
{
    static char body[1 << 20];
    memset(body, 'x', sizeof body - 1);
    backend_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 10485750\r\n\r\n");
    for (int i = 0; i < 10; i++)
        backend_send(bc, body);
}

static void big_bodies_pass_whole(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(big), "", TO_B1);
    client_open(&c, &w, 80);
    client_send(&c, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_true(client_wait_eof(&c, 60000));
    assert_int_equal(c.got.n - (size_t)(strstr(c.got.p, "\r\n\r\n") + 4 - c.got.p), 10485750);
    client_close(&c, false);
    world_fini(&w);
}

static void early_response_ends_the_connection(void **state)
{
    struct world w;
    struct client c;
    up(&w, ALL(early), "", "{match: {prefix: /}, direct_response: {status: 403}}");
    client_open(&c, &w, 80);
    client_send(&c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc");
    assert_true(client_wait(&c, "HTTP/1.1 403", 1000));
    has(c.got.p, "connection: close");
    assert_true(client_wait_eof(&c, 3000));
    client_close(&c, false);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forwards),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(route_timeout_is_exact),
        cmocka_unit_test(idle_streams_end),
        cmocka_unit_test(slow_heads_end),
        cmocka_unit_test(idle_connections_end),
        cmocka_unit_test(idempotent_requests_are_replayed),
        cmocka_unit_test(others_are_not_replayed),
        cmocka_unit_test(cut_answers_are_logged),
        cmocka_unit_test(retries_until_it_works),
        cmocka_unit_test(retries_have_a_limit),
        cmocka_unit_test(bodies_are_sent_again),
        cmocka_unit_test(other_hosts_first),
        cmocka_unit_test(each_try_has_its_time),
        cmocka_unit_test(a_client_that_leaves_ends_the_work),
        cmocka_unit_test(a_truncated_response_stays_truncated),
        cmocka_unit_test(drain_finishes_what_is_under_way),
        cmocka_unit_test(big_bodies_pass_whole),
        cmocka_unit_test(early_response_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
