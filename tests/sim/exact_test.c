/* Times and limits of one proxy, to the millisecond: simulated time says exactly when a time-out,
 * a retry or a refusal happens. The network's delay is fixed, so every time has one right value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "backend.h"
#include "base/log.h"
#include "client.h"
#include "mesh.h"

#define PROXY_IP   "10.0.0.10"
#define CLIENT_IP  "10.0.0.20"
#define BACKEND_IP "10.0.0.30"
#define DELAY_MS   1 /* one way */
/* Wheel ticks, turns of the loop, and the ways to and fro. */
#define SLACK_MS 4

#define ROUTER                                                                                     \
    "{name: envoy.filters.http.router, typed_config: {'@type': "                                   \
    "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"

static struct world *w;
static struct sidecar *proxy;
static struct backend *b1;
static struct sim_client *client;

/* A proxy on :8080 with one route (the text is inside of `route: {…}`), one cluster. */
static char *bootstrap(const char *route, const char *hcm, const char *cluster)
{
    static char text[8192];
    snprintf(text, sizeof text,
             "static_resources:\n"
             "  listeners:\n"
             "  - name: in\n"
             "    address: {socket_address: {address: 0.0.0.0, port_value: 8080}}\n"
             "    filter_chains:\n"
             "    - filters:\n"
             "      - name: envoy.filters.network.http_connection_manager\n"
             "        typed_config:\n"
             "          '@type': type.googleapis.com/envoy.extensions.filters.network."
             "http_connection_manager.v3.HttpConnectionManager\n"
             "          stat_prefix: in\n"
             "%s"
             "          http_filters: [" ROUTER "]\n"
             "          route_config:\n"
             "            name: r\n"
             "            virtual_hosts:\n"
             "            - name: all\n"
             "              domains: ['*']\n"
             "              routes: [{match: {prefix: /}, route: {cluster: c%s}}]\n"
             "  clusters:\n"
             "  - name: c\n"
             "    type: STATIC\n"
             "%s"
             "    load_assignment:\n"
             "      cluster_name: c\n"
             "      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: "
             "{address: " BACKEND_IP ", port_value: 80}}}}]}]\n",
             hcm, route, cluster);
    return text;
}

static void start(const char *route, const char *hcm, const char *cluster)
{
    w = world_new(1);
    sim_set_latency(w->sim, NULL, NULL, DELAY_MS * SIM_MS, DELAY_MS * SIM_MS);
    sim_set_buffer(w->sim, 256 * 1024);
    sim_set_segments(w->sim, false);
    b1 = backend_new(w, "b1", "v1", BACKEND_IP, 80);
    proxy = sidecar_new(w, NULL, "proxy", PROXY_IP, NULL, bootstrap(route, hcm, cluster));
    world_run_ms(w, 100);
    assert_int_equal(proxy_server_state(proxy->server), PROXY_LIVE);
}

static int tear_down(void **state)
{
    client_free(client);
    sidecar_free(proxy);
    backend_free(b1);
    client = NULL;
    proxy = NULL;
    b1 = NULL;
    assert_int_equal(world_free(w), 0);
    w = NULL;
    return 0;
}

static void stop(void)
{
    client_free(client);
    client = NULL;
    world_run_ms(w, 2 * 3600 * 1000); /* idle connections go */
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_rq_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_cx_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_pending_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_cx_active"), 0);
    assert_int_equal(w->n_violations, 0);
    tear_down(NULL);
}

/* So many requests, one a user, within spread_ms; runs until all are over. */
static void ask_over(unsigned users, unsigned post, uint64_t spread_ms)
{
    client = client_new(w, &(struct client_opts){.name = "client",
                                                 .ip = CLIENT_IP,
                                                 .to = PROXY_IP ":8080",
                                                 .host = "x",
                                                 .users = users,
                                                 .requests = 1,
                                                 .think_ms = {0, spread_ms},
                                                 .post = post,
                                                 .patience_ms = 600000});
    for (int i = 0; i < 1000 && !client_idle(client); i++)
        world_run_ms(w, 1000);
    assert_true(client_idle(client));
}

static void ask(unsigned users, unsigned post)
{
    ask_over(users, post, 0);
}

static uint64_t took_ms(uint64_t id)
{
    struct request *r = world_request(w, id);
    return (r->done_ns - r->sent_ns) / SIM_MS;
}

#define assert_ms(got, want)                                                                       \
    do {                                                                                           \
        uint64_t ms_ = (got);                                                                      \
        uint64_t want_ = (want);                                                                   \
        if (ms_ < want_ || ms_ > want_ + SLACK_MS + 4 * DELAY_MS)                                  \
            fail_msg("took %u ms instead of %u", (unsigned)ms_, (unsigned)want_);                  \
    } while (0)

static void route_timeout(void **state)
{
    start(", timeout: 2s", "", "");
    b1->mood.hang = 1000;
    ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 504);
    assert_ms(took_ms(1), 2000);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_timeout"), 1);
    assert_int_equal(b1->n_conns, 0); /* a connection with half an exchange is not kept */
    stop();
}

/* Back-off of Envoy: evenly from 0 to base * 2^n, not above the maximum. */
static void retries(void **state)
{
    start(", timeout: 60s, retry_policy: {retry_on: 'gateway-error,reset', num_retries: 4, "
          "per_try_timeout: 0.5s, retry_back_off: {base_interval: 0.1s, max_interval: 0.3s}}",
          "", "");
    b1->mood.hang = 1000;
    ask(1, 0);
    struct request *r = world_request(w, 1);
    assert_int_equal(r->status, 504);
    assert_int_equal(r->arrivals, 5);
    static const uint64_t most[] = {100, 200, 300, 300};
    uint64_t total = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t gap = (r->arrived_ns[i + 1] - r->arrived_ns[i]) / SIM_MS;
        /* Each try has a connection of its own: three ways more than the reset takes. */
        assert_in_range(gap, 500, 500 + most[i] + SLACK_MS + 6 * DELAY_MS);
        total += gap;
    }
    assert_ms(took_ms(1), total + 500);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry"), 4);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_per_try_timeout"), 5);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry_limit_exceeded"), 1);
    stop();
}

/* The route's time-out covers all tries. */
static void timeout_over_retries(void **state)
{
    start(", timeout: 1.2s, retry_policy: {retry_on: 'gateway-error,reset', num_retries: 10, "
          "per_try_timeout: 0.5s, retry_back_off: {base_interval: 0.02s}}",
          "", "");
    b1->mood.hang = 1000;
    ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 504);
    assert_int_equal(world_request(w, 1)->arrivals, 3);
    assert_ms(took_ms(1), 1200);
    stop();
}

static void retry_that_succeeds(void **state)
{
    start(", retry_policy: {retry_on: 5xx, num_retries: 3}", "",
          "    circuit_breakers: {thresholds: [{max_retries: 40}]}\n");
    b1->mood.fail = 500;
    ask(40, 500);
    unsigned retried = 0;
    for (uint64_t id = 1; id <= 40; id++) {
        struct request *r = world_request(w, id);
        assert_int_equal(r->outcome, OUTCOME_ANSWERED);
        assert_true(r->status == 200 || r->arrivals == 4); /* gives up after three retries */
        retried += r->arrivals - 1;
    }
    assert_true(retried > 10);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry"), retried);
    stop();
}

static void connect_timeout(void **state)
{
    start("", "", "    connect_timeout: 1s\n");
    sim_partition(w->sim, PROXY_IP, BACKEND_IP);
    ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 503);
    assert_ms(took_ms(1), 1000);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_cx_connect_timeout"), 1);
    sim_heal(w->sim, PROXY_IP, BACKEND_IP);
    stop();
}

static void refused(void **state)
{
    start("", "", "");
    backend_refuse(b1);
    ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 503);
    assert_ms(took_ms(1), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_cx_connect_fail"), 1);
    stop();
}

/* What a backend does wrong, and what the client is told. */
static void bad_answers(void **state)
{
    static const struct {
        size_t at;
        unsigned status;
        enum outcome outcome;
    } cases[] = {
        {offsetof(struct mood, reset), 503, OUTCOME_ANSWERED},
        {offsetof(struct mood, garbage), 502, OUTCOME_ANSWERED},
        {offsetof(struct mood, fail), 503, OUTCOME_ANSWERED},
        {offsetof(struct mood, cut), 200, OUTCOME_CUT},
        {offsetof(struct mood, closing), 200, OUTCOME_ANSWERED},
        {offsetof(struct mood, early), 200, OUTCOME_ANSWERED},
        {offsetof(struct mood, drip), 200, OUTCOME_ANSWERED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start("", "", "");
        *(unsigned *)((char *)&b1->mood + cases[i].at) = 1000;
        b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 800;
        ask(20, 300);
        for (uint64_t id = 1; id <= 20; id++) {
            struct request *r = world_request(w, id);
            /* Garbage may also begin like an answer. */
            if (cases[i].status == 502 && r->status == 200 && r->outcome == OUTCOME_CUT)
                continue;
            if (r->status != cases[i].status || r->outcome != cases[i].outcome)
                fail_msg("case %zu: %u, %s", i, r->status, outcome_name(r->outcome));
            assert_int_equal(r->arrivals, 1);
        }
        stop();
    }
}

static unsigned with_status(unsigned status, uint64_t n)
{
    unsigned found = 0;
    for (uint64_t id = 1; id <= n; id++)
        found += world_request(w, id)->status == status;
    return found;
}

/* What waits for a connection to open is pending, too: so they come one after another. */
static void connections_and_pending(void **state)
{
    start(", timeout: 2s", "",
          "    circuit_breakers: {thresholds: [{max_connections: 2, max_pending_requests: 3}]}\n");
    b1->mood.hang = 1000;
    ask_over(10, 0, 1000);
    assert_int_equal(with_status(503, 10), 5);
    assert_int_equal(with_status(504, 10), 5);
    for (uint64_t id = 1; id <= 10; id++)
        assert_ms(took_ms(id), world_request(w, id)->status == 503 ? 0 : 2000);
    assert_int_equal(b1->most_conns, 2);
    assert_in_range(b1->requests, 2, 5); /* who waits may get a connection before its time is up */
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_pending_overflow"), 5);
    stop();
}

static void requests_at_once(void **state)
{
    start("", "", "    circuit_breakers: {thresholds: [{max_requests: 4}]}\n");
    b1->mood.slow = 1000;
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 500;
    ask(10, 0);
    assert_int_equal(with_status(200, 10), 4);
    assert_int_equal(with_status(503, 10), 6);
    assert_int_equal(b1->most_requests, 4);
    stop();
}

static void retries_at_once(void **state)
{
    start(", retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 1s}}",
          "", "    circuit_breakers: {thresholds: [{max_retries: 2}]}\n");
    b1->mood.fail = 1000;
    ask(10, 0);
    assert_int_equal(with_status(503, 10), 10);
    assert_int_equal(b1->requests, 12);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry_overflow"), 8);
    stop();
}

static void stream_idle(void **state)
{
    start(", timeout: 0s", "          stream_idle_timeout: 3s\n", "");
    b1->mood.hang = 1000;
    ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 504);
    assert_ms(took_ms(1), 3000);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_rq_idle_timeout"), 1);
    stop();
}

/* A connection without requests goes after its time, not before. */
static void connection_idle(void **state)
{
    start("", "          common_http_protocol_options: {idle_timeout: 5s}\n", "");
    client = client_new(w, &(struct client_opts){.name = "client",
                                                 .ip = CLIENT_IP,
                                                 .to = PROXY_IP ":8080",
                                                 .host = "x",
                                                 .users = 1,
                                                 .think_ms = {60000, 60000}});
    world_run_ms(w, 60000 + 10);
    assert_int_equal(w->n_requests, 1);
    assert_int_equal(world_request(w, 1)->outcome, OUTCOME_ANSWERED);
    world_run_ms(w, 4980);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_cx_active"), 1);
    world_run_ms(w, 30);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_cx_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_cx_idle_timeout"), 1);
    client_stop(client);
    stop();
}

/* SIGTERM: what is under way ends well, nobody new is let in. */
static void drain(void **state)
{
    start("", "", "");
    b1->mood.slow = 1000;
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 3000;
    client = client_new(w, &(struct client_opts){.name = "client",
                                                 .ip = CLIENT_IP,
                                                 .to = PROXY_IP ":8080",
                                                 .host = "x",
                                                 .users = 5,
                                                 .requests = 1});
    world_run_ms(w, 1000);
    proxy_server_drain(proxy->server);
    world_run_ms(w, 100);
    struct sim_client *late = client_new(w, &(struct client_opts){.name = "late",
                                                                  .ip = CLIENT_IP,
                                                                  .to = PROXY_IP ":8080",
                                                                  .host = "x",
                                                                  .users = 5,
                                                                  .requests = 1});
    world_run_ms(w, 10000);
    assert_true(client_idle(client) && client_idle(late));
    for (uint64_t id = 1; id <= 5; id++)
        assert_int_equal(world_request(w, id)->status, 200);
    for (uint64_t id = 6; id <= 10; id++)
        assert_int_equal(world_request(w, id)->outcome, OUTCOME_UNSENT);
    client_free(late);
    stop();
}

#define T(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    log_set_level(NULL, LOG_OFF);
    sv_hash_set_seed(1);
    const struct CMUnitTest tests[] = {
        T(route_timeout),
        T(retries),
        T(timeout_over_retries),
        T(retry_that_succeeds),
        T(connect_timeout),
        T(refused),
        T(bad_answers),
        T(connections_and_pending),
        T(requests_at_once),
        T(retries_at_once),
        T(stream_idle),
        T(connection_idle),
        T(drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
