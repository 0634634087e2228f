#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "upstream/testing_rig.h"

#define CHECK(more)                                                                                \
    "health_checks: [{timeout: 0.5s, interval: 1s, no_traffic_interval: 1s, unhealthy_threshold: " \
    "3, healthy_threshold: 2, " more "}]"
#define HTTP_CHECK CHECK("http_health_check: {path: /healthz}")
#define EP(ip)     "{endpoint: {address: {socket_address: {address: " ip ", port_value: 80}}}}"
#define CLUSTER(check, more)                                                                       \
    "{name: c, connect_timeout: 1s, " check ", load_assignment: {cluster_name: c, endpoints: "     \
    "[{lb_endpoints: [" EP("10.0.1.1") ", " EP("10.0.1.2") "]}]}" more "}"
#define H2 ", http2_protocol_options: {}"

static struct rig rig;
static struct backend *b1, *b2;

static int setup(void **state)
{
    rig_init(&rig, 5);
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

static uint64_t healthy(void)
{
    return rig_stat(&rig, "cluster.c.health_check.healthy");
}

static void go_to(const char *only)
{
    struct req q;
    for (int i = 0; i < 6; i++) {
        req_run(&rig, &q, "c");
        assert_true(q.ready);
        if (only)
            assert_string_equal(q.host_text, only);
        req_end(&q);
    }
}

static void a_cluster_warms_when_all_were_checked(void **state)
{
    assert_int_equal(rig_put(&rig, CLUSTER(HTTP_CHECK, "")), 0);
    assert_false(cluster_manager_warm(rig.cm, SV("c")));
    rig_run_ms(&rig, 50);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    assert_int_equal(healthy(), 2);
    assert_int_equal(b1->n_requests, 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_healthy"), 2);
    go_to(NULL);
    rig_run_ms(&rig, 10000);
    assert_in_range(b1->n_requests, 12, 15); /* three of ours, one a second of theirs */
    assert_in_range(b1->n_conns, 2, 3);      /* both kinds reuse their connections */
    assert_int_equal(rig_stat(&rig, "cluster.c.health_check.failure"), 0);
}

static void a_bad_answer_counts_at_once(void **state)
{
    struct strbuf out;
    rig_put_ok(&rig, CLUSTER(HTTP_CHECK, ""));
    rig_run_ms(&rig, 50);
    go_to(NULL);
    b1->app = BACKEND_FAIL;
    rig_run_ms(&rig, 1100);
    assert_int_equal(healthy(), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_healthy"), 1);
    go_to("10.0.1.2:80");
    strbuf_init(&out, 1 << 16);
    cluster_manager_dump_text(rig.cm, &out);
    assert_non_null(strstr(out.p, "c::10.0.1.1:80::health_flags::/failed_active_hc\n"));
    strbuf_fini(&out);
    b1->app = BACKEND_ANSWER; /* back after two good ones */
    rig_run_ms(&rig, 1100);
    assert_int_equal(healthy(), 1);
    rig_run_ms(&rig, 1100);
    assert_int_equal(healthy(), 2);
    go_to(NULL);
}

static void silence_counts_towards_the_threshold(void **state)
{
    rig_put_ok(&rig, CLUSTER(HTTP_CHECK, ""));
    rig_run_ms(&rig, 50);
    go_to(NULL);
    b2->mute = true;
    rig_run_ms(&rig, 3500); /* two timeouts */
    assert_int_equal(healthy(), 2);
    rig_run_ms(&rig, 1600);
    assert_int_equal(healthy(), 1);
    assert_true(rig_stat(&rig, "cluster.c.health_check.network_failure") >= 3);
    go_to("10.0.1.1:80");
}

static void refused_from_the_beginning(void **state)
{
    backend_stop_listening(b1);
    rig_put_ok(&rig, CLUSTER(HTTP_CHECK, ""));
    rig_run_ms(&rig, 50);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    assert_int_equal(healthy(), 1);
    go_to("10.0.1.2:80");
}

static void statuses(void **state)
{
    b1->app = BACKEND_FAIL;
    b2->app = BACKEND_FAIL;
    rig_put_ok(&rig, CLUSTER(CHECK("http_health_check: {path: /, expected_statuses: [{start: 503, "
                                   "end: 504}], retriable_statuses: [{start: 200, end: 201}], "
                                   "request_headers_to_add: [{header: {key: X-A, value: b}}]}"),
                             ""));
    rig_run_ms(&rig, 50);
    assert_int_equal(healthy(), 2);
    go_to(NULL);
    b2->app = BACKEND_ANSWER; /* retriable: three in a row */
    rig_run_ms(&rig, 2100);
    assert_int_equal(healthy(), 2);
    rig_run_ms(&rig, 1500);
    assert_int_equal(healthy(), 1);
}

static void tcp(void **state)
{
    rig_put_ok(&rig, CLUSTER(CHECK("tcp_health_check: {}"), ""));
    rig_run_ms(&rig, 50);
    assert_int_equal(healthy(), 2);
    go_to(NULL);
    backend_stop_listening(b1);
    backend_close_all(b1, true);
    rig_run_ms(&rig, 3500);
    assert_int_equal(healthy(), 1);
}

static void tcp_with_an_exchange(void **state)
{
    /* "GET / HTTP/1.1\r\nHost: a\r\n\r\n" -> "200" ... "ok" */
    rig_put_ok(&rig, CLUSTER(CHECK("tcp_health_check: {send: {text: "
                                   "'474554202f20485454502f312e310d0a486f73743a20610d0a0d0a'}, "
                                   "receive: [{text: '323030'}, {text: '6f6b'}]}"),
                             ""));
    rig_run_ms(&rig, 50);
    assert_int_equal(healthy(), 2);
    go_to(NULL);
    b1->app = BACKEND_FAIL;
    rig_run_ms(&rig, 6000);
    assert_int_equal(healthy(), 1);
    b1->app = BACKEND_ANSWER;
    rig_run_ms(&rig, 4000);
    assert_int_equal(healthy(), 2);
}

static void grpc(void **state)
{
    b1->http2 = b2->http2 = true;
    b1->app = b2->app = BACKEND_GRPC;
    rig_put_ok(&rig, CLUSTER(CHECK("grpc_health_check: {service_name: svc}"), H2));
    rig_run_ms(&rig, 50);
    assert_int_equal(healthy(), 2);
    go_to(NULL);
    b1->sick = true;
    rig_run_ms(&rig, 1200);
    assert_int_equal(healthy(), 1);
    go_to("10.0.1.2:80");
    b1->sick = false;
    rig_run_ms(&rig, 2500);
    assert_int_equal(healthy(), 2);
}

static void without_traffic_it_asks_seldom(void **state)
{
    rig_put_ok(&rig, CLUSTER("health_checks: [{timeout: 0.5s, interval: 1s, unhealthy_threshold: "
                             "3, healthy_threshold: 2, http_health_check: {path: /}}]",
                             ""));
    rig_run_ms(&rig, 59000);
    assert_int_equal(b1->n_requests, 1);
    rig_run_ms(&rig, 2000);
    assert_int_equal(b1->n_requests, 2);
}

static void endpoints_come_and_go(void **state)
{
    rig_put_ok(&rig,
               "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, " HTTP_CHECK "}");
    rig_endpoints_ok(&rig, "{cluster_name: c, endpoints: [{lb_endpoints: [" EP("10.0.1.1") "]}]}");
    rig_run_ms(&rig, 50);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    go_to("10.0.1.1:80");
    rig_endpoints_ok(&rig, "{cluster_name: c, endpoints: [{lb_endpoints: [" EP("10.0.1.1") ", " EP(
                               "10.0.1.2") "]}]}");
    rig_run_ms(&rig, 50);
    assert_int_equal(healthy(), 2);
    for (int i = 0; i < 20; i++) {
        rig_endpoints_ok(
            &rig, i % 2 ? "{cluster_name: c, endpoints: [{lb_endpoints: [" EP("10.0.1.1") ", " EP(
                              "10.0.1.2") "]}]}"
                        : "{cluster_name: c, endpoints: [{lb_endpoints: [" EP("10.0.1.2") "]}]}");
        rig_run_ms(&rig, (uint64_t)i * 3);
    }
    rig_run_ms(&rig, 50);
    assert_int_equal(healthy(), 2);
    go_to(NULL);
    assert_int_equal(cluster_manager_remove(rig.cm, SV("c")), 0);
    rig_run_ms(&rig, 50);
    unsigned n = b1->n_requests;
    rig_run_ms(&rig, 5000);
    assert_int_equal(b1->n_requests, n);
    assert_int_equal(sim_open_sockets(rig.sim, "10.0.0.1"), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_cluster_warms_when_all_were_checked),
        T(a_bad_answer_counts_at_once),
        T(silence_counts_towards_the_threshold),
        T(refused_from_the_beginning),
        T(statuses),
        T(tcp),
        T(tcp_with_an_exchange),
        T(grpc),
        T(without_traffic_it_asks_seldom),
        T(endpoints_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
