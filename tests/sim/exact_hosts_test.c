/* What becomes of endpoints that are removed, degraded or slow, to the millisecond. */
#include "base/log.h"
#include "exact.h"
#include "given.h"

#define OTHER_IP "10.0.0.31"

static struct given given;
static struct backend *b2;

/* ---- a cluster of two endpoints that come over EDS ---- */

static const char *const one = BACKEND_IP, *const other = OTHER_IP;

static void put_endpoints(const char *first, const char *second)
{
    const char *const ips[] = {first, second};
    char text[1024];
    int n = snprintf(text, sizeof text, "{cluster_name: c, endpoints: [{lb_endpoints: [");
    for (int i = 0; i < 2; i++)
        if (ips[i])
            n += snprintf(text + n, sizeof text - (size_t)n,
                          "{endpoint: {address: {socket_address: {address: %s, port_value: 80}}}}"
                          ", ",
                          ips[i]);
    snprintf(text + n, sizeof text - (size_t)n, "]}]}");
    assert_string_equal(given_put(&given, CONFIG_EDS, "c", text), "");
}

static bool wants_endpoints(void *arg)
{
    return given.sink.update && given.wanted >> CONFIG_EDS & 1;
}

static bool is_live(void *arg)
{
    return proxy_server_state(proxy->server) == PROXY_LIVE;
}

static void start(const char *route, const char *cluster)
{
    static char text[8192];
    snprintf(text, sizeof text, "%s", exact_text(route, "", ""));
    char *clusters = strstr(text, "  clusters:\n");
    snprintf(clusters, sizeof text - (size_t)(clusters - text),
             "  clusters:\n"
             "  - name: c\n"
             "    type: EDS\n"
             "    eds_cluster_config: {eds_config: {ads: {}}}\n"
             "    connect_timeout: 5s\n"
             "%s",
             cluster);
    exact_world();
    b1 = backend_new(w, "b1", "v1", BACKEND_IP, 80);
    b2 = backend_new(w, "b2", "v1", OTHER_IP, 80);
    given_init(&given);
    proxy = sidecar_new_opts(
        w, &(struct sidecar_opts){
               .name = "proxy", .ip = PROXY_IP, .bootstrap = text, .source = &given.src});
    assert_true(sim_run_while(w->sim, wants_endpoints, NULL, 10 * SIM_SECOND));
    put_endpoints(one, other);
    /* Nothing comes of the other types: it waits for them in vain first. */
    assert_true(sim_run_while(w->sim, is_live, NULL, 60 * SIM_SECOND));
    world_run_ms(w, 10);
}

static int tear_down(void **state)
{
    client_free(client);
    client = NULL;
    backend_free(b2);
    b2 = NULL;
    exact_tear_down(state);
    given_fini(&given);
    return 0;
}

static void users_of(unsigned users, uint64_t requests, uint64_t think_ms)
{
    client = client_new(w, &(struct client_opts){.name = "client",
                                                 .ip = CLIENT_IP,
                                                 .to = PROXY_IP ":8080",
                                                 .host = "x",
                                                 .users = users,
                                                 .requests = requests,
                                                 .think_ms = {0, think_ms},
                                                 .patience_ms = 600000});
}

static void all_answered(uint64_t from, uint64_t to)
{
    for (uint64_t id = from; id <= to; id++)
        if (world_request(w, id)->outcome != OUTCOME_ANSWERED ||
            world_request(w, id)->status != 200)
            fail_msg("request %u: %s %u", (unsigned)id, outcome_name(world_request(w, id)->outcome),
                     world_request(w, id)->status);
}

/* ---- removed ---- */

/* From then on it gets nothing; what is under way there ends well; connections end with that, idle
 * ones at once, long before their idle time. */
static void removed_with_requests(void **state)
{
    start(", timeout: 0s", "");
    b1->mood.slow = b2->mood.slow = 1000;
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = b2->mood.slow_ms[1] = 100;
    exact_ask(40, 0);
    client_free(client);
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 3000;
    users_of(20, 0, 200);
    world_run_ms(w, 500);
    assert_true(b1->n_requests > 2 && b1->n_conns > b1->n_requests && b2->requests > 2);
    put_endpoints(other, NULL);
    world_run_ms(w, SLACK_MS + DELAY_MS); /* what was on its way */
    uint64_t before = b1->requests, elsewhere = b2->requests, sent = w->n_requests;
    unsigned busy = b1->n_requests;
    assert_int_equal(b1->n_conns, busy); /* the idle ones are closed */
    world_run_ms(w, 2400);
    assert_true(b1->n_conns > 0); /* the others are not, yet */
    world_run_ms(w, 1000);
    assert_int_equal(b1->n_conns, 0);
    assert_int_equal(b1->requests, before);
    assert_true(b2->requests > elsewhere + 20);
    assert_true(w->n_requests > sent);
    client_stop(client);
    world_run_ms(w, 10000);
    assert_true(client_idle(client));
    all_answered(1, w->n_requests);
    assert_int_equal(exact_stat("cluster.c.membership_total"), 1);
}

/* With the last endpoint the cluster has none: 503 at once, and requests under way go on. It comes
 * back, and is as new. */
static void the_last_is_removed(void **state)
{
    start(", timeout: 0s", "");
    put_endpoints(one, NULL);
    world_run_ms(w, 10);
    b1->mood.slow = 1000;
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 3000;
    users_of(1, 1, 0);
    world_run_ms(w, 1000);
    struct sim_client *first = client;
    put_endpoints(NULL, NULL);
    world_run_ms(w, 10);
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 2)->status, 503);
    assert_string_equal(world_request(w, 2)->said, "no healthy upstream");
    assert_ms(exact_took_ms(2), 0);
    world_run_ms(w, 3000);
    all_answered(1, 1);
    assert_in_range(exact_took_ms(1), 3000, 3000 + SLACK_MS + 8 * DELAY_MS);
    assert_int_equal(b1->n_conns, 0);
    client_free(first);
    client_free(client);
    put_endpoints(one, NULL);
    world_run_ms(w, 10);
    exact_ask(1, 0);
    all_answered(3, 3);
    assert_int_equal(b1->n_conns, 1);
}

/* Back before its requests are over: the old connections drain all the same. */
static void removed_and_back(void **state)
{
    start(", timeout: 0s", "");
    b1->mood.slow = b2->mood.slow = 1000;
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 2000;
    users_of(10, 1, 0);
    world_run_ms(w, 100);
    unsigned busy = b1->n_requests;
    assert_in_range(busy, 1, 9);
    put_endpoints(other, NULL);
    world_run_ms(w, 100);
    put_endpoints(other, one);
    world_run_ms(w, 1700);
    assert_int_equal(b1->n_conns, busy);
    world_run_ms(w, 200);
    assert_int_equal(b1->n_conns, 0);
    all_answered(1, 10);
}

/* ---- degraded ---- */

#define CHECKS                                                                                     \
    "    health_checks: [{http_health_check: {path: " BACKEND_CHECK                                \
    "}, timeout: 1s, interval: 5s, no_traffic_interval: 5s, unhealthy_threshold: 2, "              \
    "healthy_threshold: 2}]\n"

static double share(struct backend *b, unsigned n)
{
    uint64_t before = b->requests, first = w->n_requests + 1;
    client_free(client);
    exact_ask_over(n, 0, 1500);
    all_answered(first, first + n - 1);
    return (double)(b->requests - before) / n;
}

static void assert_share(double got, double want)
{
    if (got < want - 0.05 || got > want + 0.05)
        fail_msg("a share of %.3f instead of %.3f", got, want);
}

/* A check that says so is enough, without a threshold, both ways; with half of the endpoints well
 * and 140 % a well one stands for, three tenths of the requests go to the degraded one. */
static void degraded_by_a_check(void **state)
{
    start("", CHECKS);
    exact_until("cluster.c.membership_healthy", 2, 10000);
    assert_share(share(b1, 400), 0.5);
    uint64_t checks = b1->checks;
    b1->fields = "x-envoy-degraded: true\r\n";
    uint64_t at = exact_until("cluster.c.membership_degraded", 1, 6000);
    assert_int_equal(b1->checks, checks + 1); /* the first one that said it */
    assert_in_range(at, b1->checked_ns / SIM_MS, b1->checked_ns / SIM_MS + SLACK_MS + DELAY_MS);
    assert_int_equal(exact_stat("cluster.c.membership_healthy"), 1);
    assert_int_equal(exact_stat("cluster.c.health_check.degraded"), 1);
    assert_share(share(b1, 400), 0.3);
    b1->fields = NULL;
    checks = b1->checks;
    exact_until("cluster.c.membership_degraded", 0, 6000);
    assert_int_equal(b1->checks, checks + 1);
    assert_int_equal(exact_stat("cluster.c.membership_healthy"), 2);
    assert_share(share(b1, 400), 0.5);
}

/* The degraded stand in for those that fail: when none is well, they get all. */
static void degraded_when_none_is_well(void **state)
{
    start("", CHECKS);
    exact_until("cluster.c.membership_healthy", 2, 10000);
    b1->fields = "x-envoy-degraded: true\r\n";
    b2->sick = true;
    uint64_t checks = b2->checks;
    exact_until("cluster.c.membership_healthy", 0, 20000);
    assert_int_equal(b2->checks, checks + 1); /* a status takes no threshold, as in Envoy */
    assert_int_equal(exact_stat("cluster.c.membership_degraded"), 1);
    assert_share(share(b1, 100), 1.0);
    assert_int_equal(exact_stat("cluster.c.lb_healthy_panic"), 0);
}

/* ---- hedging ---- */

#define HEDGE                                                                                      \
    ", timeout: 3s, hedge_policy: {hedge_on_per_try_timeout: true}, retry_policy: {retry_on: "     \
    "5xx, num_retries: 1, per_try_timeout: 0.5s, retry_back_off: {base_interval: 0.1s}}"

static void slow_by(uint64_t ms)
{
    b1->mood = (struct mood){.slow = 1000, .slow_ms = {ms, ms}, .body_max = 200};
}

static void quick(void *arg)
{
    slow_by(200);
}

static void slower(void *arg)
{
    slow_by(1000);
}

static void failing(void *arg)
{
    b1->mood = (struct mood){.fail = 1000};
}

static void resetting(void *arg)
{
    b1->mood = (struct mood){.reset = 1000};
}

/* One endpoint, whose first answer takes so long; the second is as `then` says. */
static struct request *hedged(uint64_t first_ms, void (*then)(void *arg))
{
    start(HEDGE, "");
    put_endpoints(one, NULL);
    world_run_ms(w, 10);
    slow_by(first_ms);
    sim_at(w->sim, sim_now(w->sim) + 300 * SIM_MS, then, NULL);
    users_of(1, 1, 0);
    world_run_ms(w, 400);
    assert_int_equal(world_request(w, 1)->arrivals, 1);
    world_run_ms(w, 220);
    /* The other begins when the time of the first is over and a back-off of up to 100 ms. */
    struct request *r = world_request(w, 1);
    assert_int_equal(r->arrivals, 2);
    assert_in_range((r->arrived_ns[1] - r->arrived_ns[0]) / SIM_MS, 500,
                    600 + SLACK_MS + 3 * DELAY_MS);
    return r;
}

static void let_end(const struct request *r, unsigned status)
{
    world_run_ms(w, 5000);
    assert_int_equal(r->outcome, OUTCOME_ANSWERED);
    assert_int_equal(r->status, status);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_active"), 0);
    assert_int_equal(exact_stat("cluster.c.circuit_breakers.default.rq_retry_open"), 0);
    assert_int_equal(w->n_violations, 0);
}

/* The second answers first: it is told at once, and the first one's connection, which HTTP/1.1
 * cannot use any more, is closed then. */
static void the_second_wins(void **state)
{
    struct request *r = hedged(2000, quick);
    assert_int_equal(b1->n_conns, 2);
    uint64_t second = (r->arrived_ns[1] - r->sent_ns) / SIM_MS;
    world_run_ms(w,
                 second + 200 + SLACK_MS + 4 * DELAY_MS - (sim_now(w->sim) - r->sent_ns) / SIM_MS);
    assert_ms(exact_took_ms(1), second + 200);
    world_run_ms(w, SLACK_MS);
    assert_int_equal(b1->n_conns, 1); /* the winner's, kept */
    let_end(r, 200);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_retry"), 1);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_retry_success"), 1);
}

/* The first does, after all. */
static void the_first_wins(void **state)
{
    struct request *r = hedged(700, slower);
    world_run_ms(w, 100 + SLACK_MS + 4 * DELAY_MS);
    assert_ms(exact_took_ms(1), 700);
    world_run_ms(w, SLACK_MS);
    assert_int_equal(b1->n_conns, 1);
    let_end(r, 200);
}

/* A bad answer of the second does not count while the first may have a better one. */
static void the_second_fails(void **state)
{
    static void (*const how[])(void *) = {failing, resetting};
    for (int i = 0; i < 2; i++) {
        struct request *r = hedged(1200, how[i]);
        assert_int_equal(r->outcome, OUTCOME_PENDING);
        let_end(r, 200);
        assert_ms(exact_took_ms(1), 1200);
        if (i == 0)
            tear_down(NULL);
    }
}

/* Neither in the route's time. */
static void neither_answers(void **state)
{
    start(HEDGE, "");
    put_endpoints(one, NULL);
    world_run_ms(w, 10);
    b1->mood.hang = 1000;
    users_of(1, 1, 0);
    world_run_ms(w, 2990);
    assert_int_equal(b1->n_conns, 2);
    let_end(world_request(w, 1), 504);
    assert_ms(exact_took_ms(1), 3000);
    assert_int_equal(world_request(w, 1)->arrivals, 2);
    assert_int_equal(b1->n_conns, 0);
}

#undef T
#define T(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    log_set_level(NULL, LOG_OFF);
    sv_hash_set_seed(1);
    const struct CMUnitTest tests[] = {
        T(removed_with_requests), T(the_last_is_removed),        T(removed_and_back),
        T(degraded_by_a_check),   T(degraded_when_none_is_well), T(the_second_wins),
        T(the_first_wins),        T(the_second_fails),           T(neither_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
