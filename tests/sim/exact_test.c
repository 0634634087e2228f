/* Time-outs, retries, limits and drain of one proxy, to the millisecond. */
#include "base/log.h"
#include "exact.h"

static void route_timeout(void **state)
{
    exact_start(", timeout: 2s", "", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 504);
    assert_ms(exact_took_ms(1), 2000);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_timeout"), 1);
    assert_int_equal(b1->n_conns, 0); /* a connection with half an exchange is not kept */
    exact_stop();
}

/* Back-off of Envoy: evenly from 0 to base * 2^n, not above the maximum. */
static void retries(void **state)
{
    exact_start(", timeout: 60s, retry_policy: {retry_on: 'gateway-error,reset', num_retries: 4, "
                "per_try_timeout: 0.5s, retry_back_off: {base_interval: 0.1s, max_interval: 0.3s}}",
                "", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
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
    assert_ms(exact_took_ms(1), total + 500);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry"), 4);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_per_try_timeout"), 5);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry_limit_exceeded"), 1);
    exact_stop();
}

/* The route's time-out covers all tries. */
static void timeout_over_retries(void **state)
{
    exact_start(", timeout: 1.2s, retry_policy: {retry_on: 'gateway-error,reset', num_retries: 10, "
                "per_try_timeout: 0.5s, retry_back_off: {base_interval: 0.02s}}",
                "", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 504);
    assert_int_equal(world_request(w, 1)->arrivals, 3);
    assert_ms(exact_took_ms(1), 1200);
    exact_stop();
}

static void retry_that_succeeds(void **state)
{
    exact_start(", retry_policy: {retry_on: 5xx, num_retries: 3}", "",
                "    circuit_breakers: {thresholds: [{max_retries: 40}]}\n");
    b1->mood.fail = 500;
    exact_ask(40, 500);
    unsigned retried = 0;
    for (uint64_t id = 1; id <= 40; id++) {
        struct request *r = world_request(w, id);
        assert_int_equal(r->outcome, OUTCOME_ANSWERED);
        assert_true(r->status == 200 || r->arrivals == 4); /* gives up after three retries */
        retried += r->arrivals - 1;
    }
    assert_true(retried > 10);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry"), retried);
    exact_stop();
}

/* A GET whose kept connection ends without an answer is sent once more, at once, and not again, as
 * many such connections as there are. A POST is not. */
static void a_replay_is_one(void **state)
{
    exact_start("", "", "");
    b1->mood = (struct mood){.slow = 1000, .slow_ms = {100, 100}};
    exact_ask(4, 0);
    assert_int_equal(b1->n_conns, 4);
    b1->mood = (struct mood){.reset = 1000};
    for (int post = 0; post < 2; post++) {
        client_free(client);
        exact_ask(1, post ? 1000 : 0);
        struct request *r = world_request(w, w->n_requests);
        assert_int_equal(r->status, 503);
        assert_int_equal(r->arrivals, post ? 1 : 2);
        assert_ms(exact_took_ms(r->id), 0);
    }
    assert_int_equal(exact_stat("cluster.c.upstream_rq_replay"), 1);
    exact_stop();
}

static void connect_timeout(void **state)
{
    exact_start("", "", "    connect_timeout: 1s\n");
    sim_partition(w->sim, PROXY_IP, BACKEND_IP);
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 503);
    assert_ms(exact_took_ms(1), 1000);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_cx_connect_timeout"), 1);
    sim_heal(w->sim, PROXY_IP, BACKEND_IP);
    exact_stop();
}

static void refused(void **state)
{
    exact_start("", "", "");
    backend_refuse(b1);
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 503);
    assert_ms(exact_took_ms(1), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_cx_connect_fail"), 1);
    exact_stop();
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
        exact_start("", "", "");
        *(unsigned *)((char *)&b1->mood + cases[i].at) = 1000;
        b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 800;
        exact_ask(20, 300);
        for (uint64_t id = 1; id <= 20; id++) {
            struct request *r = world_request(w, id);
            /* Garbage may also begin like an answer. */
            if (cases[i].status == 502 && r->status == 200 && r->outcome == OUTCOME_CUT)
                continue;
            if (r->status != cases[i].status || r->outcome != cases[i].outcome)
                fail_msg("case %zu: %u, %s", i, r->status, outcome_name(r->outcome));
            assert_int_equal(r->arrivals, 1);
        }
        exact_stop();
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
    exact_start(
        ", timeout: 2s", "",
        "    circuit_breakers: {thresholds: [{max_connections: 2, max_pending_requests: 3}]}\n");
    b1->mood.hang = 1000;
    exact_ask_over(10, 0, 1000);
    assert_int_equal(with_status(503, 10), 5);
    assert_int_equal(with_status(504, 10), 5);
    for (uint64_t id = 1; id <= 10; id++)
        assert_ms(exact_took_ms(id), world_request(w, id)->status == 503 ? 0 : 2000);
    assert_int_equal(b1->most_conns, 2);
    assert_in_range(b1->requests, 2, 5); /* who waits may get a connection before its time is up */
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_pending_overflow"), 5);
    exact_stop();
}

static void requests_at_once(void **state)
{
    exact_start("", "", "    circuit_breakers: {thresholds: [{max_requests: 4}]}\n");
    b1->mood.slow = 1000;
    b1->mood.slow_ms[0] = b1->mood.slow_ms[1] = 500;
    exact_ask(10, 0);
    assert_int_equal(with_status(200, 10), 4);
    assert_int_equal(with_status(503, 10), 6);
    assert_int_equal(b1->most_requests, 4);
    exact_stop();
}

static void retries_at_once(void **state)
{
    exact_start(
        ", retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 1s}}", "",
        "    circuit_breakers: {thresholds: [{max_retries: 2}]}\n");
    b1->mood.fail = 1000;
    exact_ask(10, 0);
    assert_int_equal(with_status(503, 10), 10);
    assert_int_equal(b1->requests, 12);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_retry_overflow"), 8);
    exact_stop();
}

static void stream_idle(void **state)
{
    exact_start(", timeout: 0s", "          stream_idle_timeout: 3s\n", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 1)->status, 504);
    assert_ms(exact_took_ms(1), 3000);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_rq_idle_timeout"), 1);
    exact_stop();
}

/* A connection without requests goes after its time, not before. */
static void connection_idle(void **state)
{
    exact_start("", "          common_http_protocol_options: {idle_timeout: 5s}\n", "");
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
    exact_stop();
}

/* SIGTERM: what is under way ends well, nobody new is let in. */
static void drain(void **state)
{
    exact_start("", "", "");
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
    exact_stop();
}

int main(void)
{
    log_set_level(NULL, LOG_OFF);
    sv_hash_set_seed(1);
    const struct CMUnitTest tests[] = {
        T(route_timeout),
        T(retries),
        T(timeout_over_retries),
        T(retry_that_succeeds),
        T(a_replay_is_one),
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
