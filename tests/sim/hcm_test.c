/* The connection manager and the router, as a client and scripted backends see them. */
#include "stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void up(struct stage *s, const script_fn fns[4], const char *hcm, const char *routes)
{
    char *text = stage_bootstrap(hcm, routes, NULL);
    stage_init(s, 7, fns);
    stage_start(s, text, NULL);
    free(text);
}

static void has(const char *got, const char *text)
{
    if (!strstr(got, text))
        fail_msg("'%s' is not in:\n%s", text, got);
}

#define ALL(fn) ((const script_fn[4]){fn, fn, fn, fn})
#define TO_B1   "{match: {prefix: /}, route: {cluster: b1}}"

static void forwards(void **state)
{
    struct stage s;
    up(&s, ALL(script_ok), "", TO_B1);
    char *got = raw_get(&s, "/x?y");
    has(got, "HTTP/1.1 200 OK\r\n");
    has(got, "GET /x?y HTTP/1.1\r\nhost: test\r\n");
    has(got, "connection: close");
    free(got);
    assert_int_equal(stage_stat(&s, "http.t.downstream_rq_2xx"), 1);
    assert_int_equal(stage_stat(&s, "http.t.downstream_rq_active"), 0);
    stage_fini(&s);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_ok), "", TO_B1);
    raw_open(&c, &s, 80);
    raw_send(&c, "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
                 "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&c, "GET /3", 1000));
    assert_true(strstr(c.got.p, "GET /1") < strstr(c.got.p, "GET /2"));
    assert_true(strstr(c.got.p, "GET /2") < strstr(c.got.p, "GET /3"));
    assert_int_equal(s.b[0].connections, 1);
    raw_close(&c, false);
    stage_fini(&s);
}

static void route_timeout_is_exact(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_hang), "", "{match: {prefix: /}, route: {cluster: b1, timeout: 2.5s}}");
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_false(raw_wait(&c, "504", 2490));
    assert_true(raw_wait(&c, "upstream request timeout", 50));
    assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_timeout"), 1);
    raw_close(&c, false);
    stage_fini(&s);
}

static void idle_streams_end(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_hang), "stream_idle_timeout: 1s",
       "{match: {prefix: /}, route: {cluster: b1, timeout: 0s}}");
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&c, "stream timeout", 1100));
    has(c.got.p, "HTTP/1.1 504");
    raw_close(&c, false);
    raw_open(&c, &s, 80);
    raw_send(&c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
    assert_true(raw_wait(&c, "HTTP/1.1 408", 1100));
    raw_close(&c, false);
    stage_fini(&s);
}

static void slow_heads_end(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_ok), "request_headers_timeout: 1s", TO_B1);
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nho");
    assert_true(raw_wait(&c, "HTTP/1.1 408", 1100));
    assert_true(raw_wait_eof(&c, 3000));
    assert_int_equal(stage_stat(&s, "http.t.downstream_rq_header_timeout"), 1);
    raw_close(&c, false);
    stage_fini(&s);
}

static void idle_connections_end(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_ok), "common_http_protocol_options: {idle_timeout: 5s}", TO_B1);
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&c, "GET /", 1000));
    assert_false(raw_wait_eof(&c, 4900));
    assert_true(raw_wait_eof(&c, 300));
    assert_int_equal(stage_stat(&s, "http.t.downstream_cx_idle_timeout"), 1);
    raw_close(&c, false);
    stage_fini(&s);
}

static void half_an_answer(struct script_conn *bc, sv text)
{
    script_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nx-port: 9001\r\n\r\nhalf");
}

/* The client goes away in the middle of an answer: the log still tells of the answer's head, whose
 * memory came from a stream that is gone by then. */
static void cut_answers_are_logged(void **state)
{
    struct stage s;
    struct raw c;
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
        up(&s, ALL(half_an_answer), hcm, TO_B1);
        raw_open(&c, &s, 80);
        raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_true(raw_wait(&c, "half", 1000));
        raw_close(&c, reset);
        stage_run(&s, 100);
        stage_fini(&s);
    }
    assert_true(read(fd, got, sizeof got - 1) > 0);
    assert_string_equal(got, "200 9001 DC\n200 9001 DC\n");
    close(fd);
    unlink(path);
}

/* ---- retries ---- */

static void flaky(struct script_conn *bc, sv text)
{
    if (bc->b->requests < 3)
        script_503(bc, text);
    else
        script_ok(bc, text);
}

/* Closes the connection when the second request comes in it; b->requests counts all. */
static void closes_kept_ones(struct script_conn *bc, sv text)
{
    if (bc->requests > 1)
        (bc->b->requests & 1 ? script_close : script_reset)(bc, text);
    else
        script_ok(bc, text);
}

static void request_twice(struct stage *s, const char *second, const char *answer)
{
    struct raw c;
    raw_open(&c, s, 80);
    raw_send(&c, "GET /one HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&c, "GET /one", 1000));
    raw_send(&c, second);
    if (!raw_wait(&c, answer, 1000))
        fail_msg("'%s' got: %s", second, c.got.p);
    raw_close(&c, false);
}

/* RFC 9112 9.3.1: the server closed a kept connection just when a request was on its way. */
static void idempotent_requests_are_replayed(void **state)
{
    static const char *const methods[] = {"GET", "DELETE", "OPTIONS", "PUT"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct stage s;
        char second[100];
        up(&s, ALL(closes_kept_ones), "", TO_B1);
        snprintf(second, sizeof second, "%s /two HTTP/1.1\r\nhost: a\r\n\r\n", methods[i]);
        request_twice(&s, second, "/two");
        assert_int_equal(s.b[0].requests, 3);
        assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_replay"), 1);
        assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_retry"), 0);
        assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_active"), 0);
        stage_fini(&s);
    }
}

static void others_are_not_replayed(void **state)
{
    static const char *const requests[] = {
        "POST /two HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        "PUT /two HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"};
    struct stage s;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        up(&s, ALL(closes_kept_ones), "", TO_B1);
        request_twice(&s, requests[i], "HTTP/1.1 503");
        assert_int_equal(s.b[0].requests, 2);
        stage_fini(&s);
    }
    /* A connection that was made for the request: its end is an answer. */
    up(&s, ALL(script_close), "", TO_B1);
    char *got = raw_get(&s, "/");
    has(got, "HTTP/1.1 503");
    free(got);
    assert_int_equal(s.b[0].requests, 1);
    assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_replay"), 0);
    stage_fini(&s);
}

static void retries_until_it_works(void **state)
{
    struct stage s;
    up(&s, (const script_fn[4]){flaky, NULL, NULL, NULL}, "",
       "{match: {prefix: /}, route: {cluster: b1, retry_policy: {retry_on: 5xx, num_retries: 3}}}");
    char *got = raw_get(&s, "/");
    has(got, "HTTP/1.1 200");
    free(got);
    assert_int_equal(s.b[0].requests, 3);
    assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_retry"), 2);
    assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_retry_success"), 1);
    stage_fini(&s);
}

static void retries_have_a_limit(void **state)
{
    struct stage s;
    up(&s, ALL(script_503), "",
       "{match: {prefix: /}, route: {cluster: b1, retry_policy: {retry_on: 5xx, num_retries: 2}}}");
    char *got = raw_get(&s, "/");
    has(got, "HTTP/1.1 503");
    free(got);
    assert_int_equal(s.b[0].requests, 3);
    assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_retry_limit_exceeded"), 1);
    stage_fini(&s);
}

static void bodies_are_sent_again(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, (const script_fn[4]){flaky, NULL, NULL, NULL}, "",
       "{match: {prefix: /}, route: {cluster: b1, retry_policy: {retry_on: 5xx, num_retries: 3}}}");
    raw_open(&c, &s, 80);
    raw_send(&c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello again");
    assert_true(raw_wait(&c, "HTTP/1.1 200", 5000));
    has(s.b[0].last, "hello again");
    raw_close(&c, false);
    stage_fini(&s);
}

static void other_hosts_first(void **state)
{
    struct stage s;
    up(&s, (const script_fn[4]){script_reset, script_ok, NULL, NULL}, "",
       "{match: {prefix: /}, route: {cluster: both, retry_policy: {retry_on: reset, num_retries: "
       "1, "
       "host_selection_retry_max_attempts: 5, retry_host_predicate: [{name: p, typed_config: "
       "{\"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3."
       "PreviousHostsPredicate}}]}}}");
    for (int i = 0; i < 10; i++) {
        char *got = raw_get(&s, "/");
        has(got, "HTTP/1.1 200");
        free(got);
    }
    stage_fini(&s);
}

static void each_try_has_its_time(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_hang), "",
       "{match: {prefix: /}, route: {cluster: b1, timeout: 30s, retry_policy: {retry_on: 5xx, "
       "num_retries: 2, per_try_timeout: 1s}}}");
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_false(raw_wait(&c, "504", 2990));
    assert_true(raw_wait(&c, "upstream request timeout", 500));
    assert_int_equal(s.b[0].requests, 3);
    assert_int_equal(stage_stat(&s, "cluster.b1.upstream_rq_per_try_timeout"), 3);
    raw_close(&c, false);
    stage_fini(&s);
}

/* ---- ends ---- */

static void a_client_that_leaves_ends_the_work(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_hang), "", TO_B1);
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    stage_run(&s, 100);
    assert_int_equal(s.b[0].open, 1);
    raw_close(&c, true);
    stage_run(&s, 100);
    assert_int_equal(s.b[0].open, 0);
    assert_int_equal(stage_stat(&s, "http.t.downstream_rq_active"), 0);
    stage_fini(&s);
}

static void truncated(struct script_conn *bc, sv text)
{
    script_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
    bc->close_after = true;
    script_send(bc, "");
}

static void a_truncated_response_stays_truncated(void **state)
{
    struct stage s;
    up(&s, ALL(truncated), "", TO_B1);
    char *got = raw_get(&s, "/");
    has(got, "content-length: 100");
    assert_string_equal(strstr(got, "\r\n\r\n") + 4, "abc");
    free(got);
    stage_fini(&s);
}

static void early(struct script_conn *bc, sv text)
{
    script_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
}

static void drain_finishes_what_is_under_way(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(script_hang), "", "{match: {prefix: /}, route: {cluster: b1, timeout: 3s}}");
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    stage_run(&s, 100);
    proxy_server_drain(s.proxy->server);
    stage_run(&s, 100);
    struct raw late;
    raw_open(&late, &s, 80);
    stage_run(&s, 100);
    assert_true(late.error);
    raw_close(&late, false);
    assert_false(proxy_server_ended(s.proxy->server));
    assert_true(raw_wait(&c, "504", 3000));
    assert_true(raw_wait(&c, "connection: close", 10));
    assert_true(raw_wait_eof(&c, 3000));
    stage_run(&s, 200);
    assert_true(proxy_server_ended(s.proxy->server));
    raw_close(&c, false);
    stage_fini(&s);
}

static void big(struct script_conn *bc, sv text)
{
    static char body[1 << 20];
    memset(body, 'x', sizeof body - 1);
    script_send(bc, "HTTP/1.1 200 OK\r\ncontent-length: 10485750\r\n\r\n");
    for (int i = 0; i < 10; i++)
        script_send(bc, body);
}

static void big_bodies_pass_whole(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(big), "", TO_B1);
    raw_open(&c, &s, 80);
    raw_send(&c, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_true(raw_wait_eof(&c, 60000));
    assert_int_equal(c.got.n - (size_t)(strstr(c.got.p, "\r\n\r\n") + 4 - c.got.p), 10485750);
    raw_close(&c, false);
    stage_fini(&s);
}

static void early_response_ends_the_connection(void **state)
{
    struct stage s;
    struct raw c;
    up(&s, ALL(early), "", "{match: {prefix: /}, direct_response: {status: 403}}");
    raw_open(&c, &s, 80);
    raw_send(&c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc");
    assert_true(raw_wait(&c, "HTTP/1.1 403", 1000));
    has(c.got.p, "connection: close");
    assert_true(raw_wait_eof(&c, 3000));
    raw_close(&c, false);
    stage_fini(&s);
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
