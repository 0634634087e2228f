/* When hosts are ejected, checked, let back in and warmed up, on simulated time to the millisecond.
 * The network's delay is fixed (1 ms a way), so that every time has one right value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "upstream/testing_rig.h"

#define HOSTS   10
#define TIMES   128
#define TICK_MS 2 /* wheel ticks and turns of the loops */

static struct rig rig;
static struct backend *b[HOSTS];

static int setup(void **state)
{
    rig_init(&rig, 11);
    sim_set_latency(rig.sim, NULL, NULL, SIM_MS, SIM_MS);
    sim_set_segments(rig.sim, false);
    sim_set_buffer(rig.sim, 65536);
    rig_start(&rig);
    rig_hosts(&rig, b, HOSTS);
    return 0;
}

static int teardown(void **state)
{
    rig_fini(&rig);
    return 0;
}

static void put(const char *fields, int hosts)
{
    rig_put_hosts(&rig, fields, hosts);
}

static uint64_t now_ms(void)
{
    return sim_now(rig.sim) / SIM_MS;
}

static void one_request(void)
{
    struct req q;
    req_run(&rig, &q, "c");
    if (!q.failed) /* the pool tells of connections that fail */
        upstream_host_result(q.host,
                             q.status == 503   ? UPSTREAM_GATEWAY_ERROR
                             : q.status >= 500 ? UPSTREAM_5XX
                                               : UPSTREAM_OK,
                             (uint16_t)q.status);
    req_end(&q);
}

static void requests(int n)
{
    while (n--)
        one_request();
    rig_run_ms(&rig, 1);
}

struct value {
    const char *stat;
    uint64_t want;
};

static bool is_so(void *arg)
{
    const struct value *v = arg;
    return rig_stat(&rig, v->stat) == v->want;
}

/* When the statistic gets that value. */
static uint64_t until(const char *stat, uint64_t want, uint64_t max_ms)
{
    struct value v = {stat, want};
    if (!sim_run_while(rig.sim, is_so, &v, max_ms * SIM_MS))
        fail_msg("%s is %u, not %u", stat, (unsigned)rig_stat(&rig, stat), (unsigned)want);
    uint64_t at = now_ms();
    rig_run_ms(&rig, 1); /* the worker hears of it */
    return at;
}

#define assert_ms(got, want)                                                                       \
    do {                                                                                           \
        int64_t got_ = (int64_t)(got), want_ = (int64_t)(want);                                    \
        if (got_ < want_ || got_ > want_ + TICK_MS)                                                \
            fail_msg("%d ms instead of %d", (int)got_, (int)want_);                                \
    } while (0)

/* ---- outlier detection ---- */

#define ACTIVE "cluster.c.outlier_detection.ejections_active"

/* Hosts come back at the first look, every interval, at which their time is over: the n-th
 * ejection in a row lasts n times the base, up to the maximum. */
static void ejections_grow(void **state)
{
    static const uint64_t lasts[] = {3000, 6000, 9000, 10000, 10000};
    put("outlier_detection: {consecutive_5xx: 3, interval: 1s, base_ejection_time: 3s, "
        "max_ejection_time: 10s, max_ejection_percent: 100},",
        1);
    b[0]->app = BACKEND_FAIL;
    requests(1);
    uint64_t grid = now_ms() - 6; /* the first request made the checks begin */
    for (int i = 0; i < 5; i++) {
        requests(i ? 3 : 2);
        assert_int_equal(rig_stat(&rig, ACTIVE), 1);
        uint64_t out = now_ms(), back = until(ACTIVE, 0, 20000);
        assert_in_range(back - out, lasts[i] - 2, lasts[i] + 1000 + TICK_MS);
        /* Looks are whole intervals apart. */
        assert_true((back - grid) % 1000 <= 15 || (back - grid) % 1000 >= 990);
    }
}

/* Each interval in which a host is in makes its next ejection one base shorter. */
static void good_behaviour_shortens(void **state)
{
    put("outlier_detection: {consecutive_5xx: 3, interval: 1s, base_ejection_time: 3s, "
        "max_ejection_percent: 100},",
        1);
    for (int i = 0; i < 3; i++) {
        b[0]->app = BACKEND_FAIL;
        requests(3);
        until(ACTIVE, 0, 20000);
    }
    rig_run_ms(&rig, 2100); /* three ejections less two: the next is the second */
    requests(3);
    uint64_t out = now_ms(), back = until(ACTIVE, 0, 20000);
    assert_in_range(back - out, 6000 - 2, 7000 + TICK_MS);
}

static void ejections_have_jitter(void **state)
{
    uint64_t least = UINT64_MAX, most = 0;
    put("outlier_detection: {consecutive_5xx: 1, interval: 0.01s, base_ejection_time: 1s, "
        "max_ejection_time: 1s, max_ejection_time_jitter: 4s, max_ejection_percent: 100},",
        1);
    b[0]->app = BACKEND_FAIL;
    for (int i = 0; i < 40; i++) {
        requests(1);
        uint64_t out = now_ms(), took = until(ACTIVE, 0, 20000) - out;
        least = took < least ? took : least;
        most = took > most ? took : most;
    }
    assert_in_range(least, 998, 1800);
    assert_in_range(most, 4200, 5000 + 10 + TICK_MS);
}

/* As soon as the run is long enough, not at the next look. */
static void runs_eject_at_once(void **state)
{
    static const struct {
        const char *fields;
        enum backend_app app;
        int n;
        const char *stat;
    } cases[] = {
        {"consecutive_5xx: 4", BACKEND_FAIL, 4, "5xx"},
        {"consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100", BACKEND_FAIL,
         2, "gateway_failure"},
        {"split_external_local_origin_errors: true, consecutive_local_origin_failure: 3",
         BACKEND_ANSWER, 3, "local_origin_failure"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char fields[400], stat[128];
        snprintf(fields, sizeof fields,
                 "outlier_detection: {interval: 3600s, max_ejection_percent: 100, %s},",
                 cases[i].fields);
        put(fields, 1);
        b[0]->app = cases[i].app;
        if (cases[i].app == BACKEND_ANSWER)
            backend_stop_listening(b[0]);
        requests(cases[i].n - 1);
        assert_int_equal(rig_stat(&rig, ACTIVE), 0);
        requests(1);
        assert_int_equal(rig_stat(&rig, ACTIVE), 1);
        snprintf(stat, sizeof stat, "cluster.c.outlier_detection.ejections_enforced_consecutive_%s",
                 cases[i].stat);
        assert_int_equal(rig_stat(&rig, stat), 1);
        teardown(NULL);
        setup(NULL);
    }
}

/* At looks only, from the figures of the interval that ends. */
static void rates_eject_at_looks(void **state)
{
    static const char *const fields[] = {
        "success_rate_minimum_hosts: 5, success_rate_request_volume: 10",
        "enforcing_failure_percentage: 100, enforcing_success_rate: 0, "
        "failure_percentage_minimum_hosts: 5, failure_percentage_request_volume: 10, "
        "failure_percentage_threshold: 50"};
    for (size_t i = 0; i < 2; i++) {
        char text[500];
        snprintf(text, sizeof text,
                 "outlier_detection: {consecutive_5xx: 1000000, interval: 20s, "
                 "base_ejection_time: 30s, %s},",
                 fields[i]);
        put(text, HOSTS);
        requests(1);
        uint64_t grid = now_ms();
        b[3]->app = BACKEND_FAIL;
        requests(HOSTS * 12);
        assert_int_equal(rig_stat(&rig, ACTIVE), 0);
        uint64_t out = until(ACTIVE, 1, 30000);
        assert_in_range(out - grid, 19980, 20000 + TICK_MS);
        b[3]->app = BACKEND_ANSWER;
        assert_ms(until(ACTIVE, 0, 60000) - out, 40000); /* looks at 20 s and 40 s */
        teardown(NULL);
        setup(NULL);
    }
}

/* ---- health checks ---- */

static uint64_t seen[TIMES];

static bool another(void *arg)
{
    struct backend *x = arg;
    static unsigned n;
    bool more = x->n_requests > n;
    n = x->n_requests;
    return more;
}

/* Notes when the next n checks come to the backend. */
static void watch(struct backend *x, int n)
{
    another(x);
    for (int i = 0; i < n; i++) {
        assert_true(sim_run_while(rig.sim, another, x, 4000 * SIM_SECOND));
        seen[i] = now_ms();
    }
}

#define HC(more) "health_checks: [{http_health_check: {path: /}, " more "}],"

/* An interval begins when the last check has ended: two ways later here. */
static void checks_come_in_intervals(void **state)
{
    put(HC("timeout: 1s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 2"), 1);
    rig_run_ms(&rig, 50);
    requests(1);
    watch(b[0], 2); /* the one that was waited for without traffic, and the next */
    watch(b[0], 5);
    for (int i = 1; i < 5; i++)
        assert_ms(seen[i] - seen[i - 1], 5000 + 2);
}

static void each_state_has_its_interval(void **state)
{
    put(HC("timeout: 1s, interval: 5s, unhealthy_interval: 3s, unhealthy_edge_interval: 1s, "
           "healthy_edge_interval: 2s, unhealthy_threshold: 3, healthy_threshold: 2, "
           "no_traffic_interval: 1s"),
        1);
    rig_run_ms(&rig, 50);
    requests(1);
    watch(b[0], 2);
    b[0]->app = BACKEND_FAIL; /* a 503 counts at once: unhealthy */
    watch(b[0], 4);
    assert_ms(seen[1] - seen[0], 3000 + 2);
    assert_ms(seen[2] - seen[1], 3000 + 2);
    b[0]->app = BACKEND_ANSWER;
    watch(b[0], 4); /* good, pending: the edge; good: healthy; then the usual one */
    assert_ms(seen[1] - seen[0], 2000 + 2);
    assert_ms(seen[2] - seen[1], 5000 + 2);
    assert_ms(seen[3] - seen[2], 5000 + 2);
}

/* On time-outs the threshold counts, and the pending edge has its interval. */
static void silence_takes_its_time(void **state)
{
    put(HC("timeout: 0.5s, interval: 5s, unhealthy_interval: 3s, unhealthy_edge_interval: 1s, "
           "unhealthy_threshold: 3, healthy_threshold: 1, no_traffic_interval: 5s"),
        1);
    rig_run_ms(&rig, 50);
    requests(1);
    watch(b[0], 2);
    b[0]->mute = true;
    uint64_t last = seen[1] + 1 /* the answer's way */,
             gone = until("cluster.c.health_check.healthy", 0, 60000);
    /* interval, time-out, edge, time-out, edge, time-out. A check that gets no answer also has to
     * connect anew. */
    assert_in_range(gone - last, 5000 + 500 + 1000 + 500 + 1000 + 500, 8500 + 6 * TICK_MS);
}

static void checks_have_jitter(void **state)
{
    uint64_t least = UINT64_MAX, most = 0;
    put(HC("timeout: 1s, interval: 1s, interval_jitter: 0.5s, interval_jitter_percent: 20, "
           "no_traffic_interval: 1s, unhealthy_threshold: 2, healthy_threshold: 2"),
        1);
    rig_run_ms(&rig, 50);
    requests(1);
    watch(b[0], 2);
    watch(b[0], 120);
    for (int i = 1; i < 120; i++) {
        uint64_t gap = seen[i] - seen[i - 1];
        least = gap < least ? gap : least;
        most = gap > most ? gap : most;
    }
    assert_in_range(least, 1002, 1150);
    assert_in_range(most, 1550, 1700 + 2 + TICK_MS);
}

static void first_checks_have_jitter(void **state)
{
    uint64_t start = now_ms(), least = UINT64_MAX, most = 0;
    put(HC("timeout: 1s, interval: 100s, initial_jitter: 10s, unhealthy_threshold: 2, "
           "healthy_threshold: 2"),
        HOSTS);
    for (uint64_t n = 1; n <= HOSTS; n++) {
        uint64_t at = until("cluster.c.health_check.attempt", n, 20000) - start;
        least = at < least ? at : least;
        most = at > most ? at : most;
    }
    assert_in_range(most, 5000, 10000 + TICK_MS);
    assert_in_range(least, 0, 5000);
}

/* Without traffic it asks at another pace; with the first connection of a request the usual one
 * begins after the wait that is under way. */
static void traffic_changes_the_pace(void **state)
{
    put(HC("timeout: 1s, interval: 1s, no_traffic_interval: 7s, no_traffic_healthy_interval: 9s, "
           "unhealthy_threshold: 2, healthy_threshold: 2"),
        1);
    watch(b[0], 3);
    assert_ms(seen[1] - seen[0], 9000 + 2);
    assert_ms(seen[2] - seen[1], 9000 + 2);
    requests(1);
    another(b[0]);
    watch(b[0], 3);
    assert_ms(seen[1] - seen[0], 1000 + 2);
    assert_ms(seen[2] - seen[1], 1000 + 2);
}

static void tcp_and_grpc_keep_time(void **state)
{
    static const char *const kinds[] = {"tcp_health_check: {}", "grpc_health_check: {}"};
    for (int i = 0; i < 2; i++) {
        char yaml[600];
        snprintf(
            yaml, sizeof yaml,
            "health_checks: [{%s, timeout: 0.7s, interval: 4s, unhealthy_interval: 2s, "
            "no_traffic_interval: 4s, no_traffic_healthy_interval: 4s, unhealthy_threshold: 2, "
            "healthy_threshold: 2}],%s",
            kinds[i],
            i ? " typed_extension_protocol_options: "
                "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
                "explicit_http_config: {http2_protocol_options: {}}}},"
              : "");
        b[0]->http2 = i;
        b[0]->app = i ? BACKEND_GRPC : BACKEND_ANSWER;
        put(yaml, 1);
        uint64_t one = until("cluster.c.health_check.success", 1, 100);
        uint64_t two = until("cluster.c.health_check.success", 2, 10000);
        uint64_t three = until("cluster.c.health_check.success", 3, 10000);
        assert_in_range(two - one, 4000, 4000 + 4 + TICK_MS);
        assert_in_range(three - two, 4000, 4000 + 4 + TICK_MS);
        /* The host falls silent: connections and answers are waited for as long as the time-out. */
        sim_partition(rig.sim, "10.0.0.1", "10.0.1.1");
        uint64_t gone = until("cluster.c.health_check.healthy", 0, 60000);
        assert_in_range(gone - three, 4000 + 700 + 4000 + 700, 9400 + 4 * TICK_MS);
        sim_heal(rig.sim, "10.0.0.1", "10.0.1.1");
        teardown(NULL);
        setup(NULL);
    }
}

/* ---- slow start ---- */

#define EP(n) "{endpoint: {address: {socket_address: {address: 10.0.1." #n ", port_value: 80}}}}"

/* The share of requests of a host that came so long ago, beside one that is warm. */
static double share_at(const char *fields, uint64_t age_ms)
{
    enum { N = 400 };
    char text[400];
    snprintf(text, sizeof text,
             "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, lb_policy: "
             "ROUND_ROBIN, round_robin_lb_config: {slow_start_config: {%s}}}",
             fields);
    rig_put_ok(&rig, text);
    rig_endpoints_ok(&rig, "{cluster_name: c, endpoints: [{lb_endpoints: [" EP(1) "]}]}");
    rig_run_ms(&rig, 200000);
    requests(1);
    rig_endpoints_ok(&rig,
                     "{cluster_name: c, endpoints: [{lb_endpoints: [" EP(1) ", " EP(2) "]}]}");
    rig_run_ms(&rig, age_ms);
    unsigned before = b[1]->n_requests;
    /* Requests take next to no time: the host does not grow warm meanwhile. */
    sim_set_latency(rig.sim, NULL, NULL, 0, 0);
    requests(N);
    double share = (double)(b[1]->n_requests - before) / N;
    teardown(NULL);
    setup(NULL);
    return share;
}

static void hosts_warm_up(void **state)
{
    static const struct {
        const char *fields;
        uint64_t ms;
        double weight;
    } cases[] = {
        {"slow_start_window: 100s", 1000, 0.10}, /* at least a tenth */
        {"slow_start_window: 100s", 25000, 0.25},
        {"slow_start_window: 100s", 50000, 0.50},
        {"slow_start_window: 100s", 100001, 1.00},
        {"slow_start_window: 100s, min_weight_percent: {value: 40}", 25000, 0.40},
        {"slow_start_window: 100s, aggression: {default_value: 2}", 25000, 0.50},
        {"slow_start_window: 100s, aggression: {default_value: 0.5}", 50000, 0.25},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double want = cases[i].weight / (1 + cases[i].weight);
        double got = share_at(cases[i].fields, cases[i].ms);
        if (got < want - 0.02 || got > want + 0.02)
            fail_msg("%s after %u ms: share %.3f instead of %.3f", cases[i].fields,
                     (unsigned)cases[i].ms, got, want);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ejections_grow),
        T(good_behaviour_shortens),
        T(ejections_have_jitter),
        T(runs_eject_at_once),
        T(rates_eject_at_looks),
        T(checks_come_in_intervals),
        T(each_state_has_its_interval),
        T(silence_takes_its_time),
        T(checks_have_jitter),
        T(first_checks_have_jitter),
        T(traffic_changes_the_pace),
        T(tcp_and_grpc_keep_time),
        T(hosts_warm_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
