#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "upstream/testing_rig.h"

#define HOSTS 10

static struct rig rig;
static struct backend *b[HOSTS];
static unsigned before[HOSTS];

static int setup(void **state)
{
    memset(before, 0, sizeof before);
    rig_init(&rig, 11);
    rig_start(&rig);
    rig_hosts(&rig, b, HOSTS);
    return 0;
}

static int teardown(void **state)
{
    rig_fini(&rig);
    return 0;
}

static void put(const char *outlier, int hosts)
{
    char fields[1024];
    snprintf(fields, sizeof fields, "outlier_detection: %s,", outlier);
    rig_put_hosts(&rig, fields, hosts);
}

/* What a router does: tells the result. */
static void requests(int n)
{
    struct req q;
    for (int i = 0; i < n; i++) {
        req_run(&rig, &q, "c");
        if (!q.failed)
            upstream_host_result(q.host,
                                 q.status == 503   ? UPSTREAM_GATEWAY_ERROR
                                 : q.status >= 500 ? UPSTREAM_5XX
                                                   : UPSTREAM_OK,
                                 (uint16_t)q.status);
        req_end(&q);
    }
}

static unsigned since(int i)
{
    unsigned n = b[i]->n_requests - before[i];
    before[i] = b[i]->n_requests;
    return n;
}

static void consecutive_failures_eject(void **state)
{
    put("{max_ejection_percent: 50}", 3);
    b[1]->app = BACKEND_FAIL;
    requests(15); /* five each */
    assert_int_equal(since(1), 5);
    assert_int_equal(
        rig_stat(&rig, "cluster.c.outlier_detection.ejections_enforced_consecutive_5xx"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_healthy"), 2);
    /* Gateway failures are noticed, but only 5xx are enforced by default. */
    assert_int_equal(
        rig_stat(&rig,
                 "cluster.c.outlier_detection.ejections_detected_consecutive_gateway_failure"),
        1);
    requests(20);
    assert_int_equal(since(1), 0);
    struct strbuf out;
    strbuf_init(&out, 1 << 16);
    cluster_manager_dump_text(rig.cm, &out);
    assert_non_null(strstr(out.p, "c::10.0.1.2:80::health_flags::/failed_outlier_check\n"));
    strbuf_fini(&out);
    /* Back after 30 s (looked at every 10 s), out again for 60. */
    rig_run_ms(&rig, 29000);
    requests(10);
    assert_int_equal(since(1), 0);
    rig_run_ms(&rig, 12000);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 0);
    requests(15);
    assert_int_equal(since(1), 5);
    rig_run_ms(&rig, 45000);
    requests(10);
    assert_int_equal(since(1), 0);
    b[1]->app = BACKEND_ANSWER;
    rig_run_ms(&rig, 25000);
    requests(9);
    assert_int_equal(since(1), 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_enforced_total"), 2);
}

static void a_success_breaks_the_run(void **state)
{
    put("{max_ejection_percent: 100}", 1);
    for (int i = 0; i < 5; i++) {
        b[0]->app = BACKEND_FAIL;
        requests(4);
        b[0]->app = BACKEND_ANSWER;
        requests(1);
    }
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 0);
}

#define ERRORS(matcher)                                                                            \
    "{max_ejection_percent: 100}, typed_extension_protocol_options: "                              \
    "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: "                                    \
    "{'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "       \
    "explicit_http_config: {http_protocol_options: {}}, outlier_detection: "                       \
    "{error_matcher: " matcher "}}}"
#define STATUS(value)                                                                              \
    "{http_response_headers_match: {headers: [{name: ':status', string_match: {exact: '" value     \
    "'}}]}}"

/* Only the statuses that are named are errors, also below 500. */
static void statuses_that_are_errors(void **state)
{
    put(ERRORS(STATUS("429")), 1);
    b[0]->app = BACKEND_FAIL; /* 503 */
    requests(10);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 0);
    put(ERRORS("{or_match: {rules: [" STATUS("429") ", " STATUS("503") "]}}"), 1);
    requests(5);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 1);
    put(ERRORS(STATUS("200")), 2);
    b[1]->app = BACKEND_ANSWER;
    requests(10);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 1);
}

static void refused_matchers(void **state)
{
    static const char *const bad[] = {
        "{any_match: true}",
        "{http_response_headers_match: {headers: [{name: x, string_match: {exact: '500'}}]}}",
        "{http_response_headers_match: {headers: [{name: ':status', string_match: {prefix: "
        "'5'}}]}}",
        STATUS("600"),
        STATUS("x"),
        "{or_match: {rules: [" STATUS("500") ", {any_match: true}]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char yaml[2048];
        snprintf(yaml, sizeof yaml, "{name: x, outlier_detection: " ERRORS("%s") "}", bad[i]);
        assert_int_not_equal(rig_put(&rig, yaml), 0);
        assert_non_null(strstr(rig.err.msg, "error_matcher"));
    }
}

static void not_more_than_allowed(void **state)
{
    put("{max_ejection_percent: 40}", 3);
    for (int i = 0; i < 3; i++)
        b[i]->app = BACKEND_FAIL;
    requests(30);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 1);
    assert_true(rig_stat(&rig, "cluster.c.outlier_detection.ejections_overflow") >= 2);
}

static void refused_connections_count(void **state)
{
    put("{max_ejection_percent: 50, consecutive_5xx: 3}", 2);
    backend_stop_listening(b[0]);
    requests(6);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_active"), 1);
    requests(10);
    assert_int_equal(since(1), 13);
}

static void local_failures_apart(void **state)
{
    put("{max_ejection_percent: 50, split_external_local_origin_errors: true, consecutive_5xx: "
        "100, consecutive_local_origin_failure: 2}",
        2);
    backend_stop_listening(b[0]);
    requests(4);
    assert_int_equal(
        rig_stat(&rig,
                 "cluster.c.outlier_detection.ejections_enforced_consecutive_local_origin_failure"),
        1);
}

static void success_rate_that_stands_out(void **state)
{
    put("{max_ejection_percent: 50, consecutive_5xx: 1000, success_rate_request_volume: 10, "
        "interval: 5s}",
        HOSTS);
    for (int k = 0; k < 30; k++) {
        b[4]->app = k % 2 ? BACKEND_FAIL : BACKEND_ANSWER;
        requests(HOSTS);
    }
    rig_run_ms(&rig, 6000);
    assert_int_equal(rig_stat(&rig, "cluster.c.outlier_detection.ejections_enforced_success_rate"),
                     1);
    for (int i = 0; i < HOSTS; i++)
        since(i);
    requests(18);
    assert_int_equal(since(4), 0);
}

static void failure_percentage(void **state)
{
    put("{max_ejection_percent: 50, consecutive_5xx: 1000, enforcing_success_rate: 0, "
        "enforcing_failure_percentage: 100, failure_percentage_request_volume: 10, interval: 5s}",
        HOSTS);
    b[2]->app = BACKEND_FAIL;
    requests(HOSTS * 12);
    rig_run_ms(&rig, 6000);
    assert_int_equal(
        rig_stat(&rig, "cluster.c.outlier_detection.ejections_enforced_failure_percentage"), 1);
}

static void bad_options(void **state)
{
    assert_int_not_equal(rig_put(&rig, "{name: x, outlier_detection: {max_ejection_percent: 101}}"),
                         0);
    assert_string_equal(rig.err.msg,
                        "cluster 'x': outlier_detection.max_ejection_percent: must be at most 100");
    assert_int_not_equal(rig_put(&rig, "{name: x, outlier_detection: {interval: 0s}}"), 0);
    assert_int_not_equal(rig_put(&rig, "{name: x, outlier_detection: {base_ejection_time: 30s, "
                                       "max_ejection_time: 10s}}"),
                         0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(consecutive_failures_eject), T(a_success_breaks_the_run),
        T(not_more_than_allowed),      T(refused_connections_count),
        T(local_failures_apart),       T(success_rate_that_stands_out),
        T(failure_percentage),         T(bad_options),
        T(statuses_that_are_errors),   T(refused_matchers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
