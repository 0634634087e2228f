/* How long connections, streams and tries live, to the millisecond. */
#include "base/log.h"
#include "exact.h"
#include "net/conn.h"

/* ---- tries ---- */

/* Each try that hears nothing for so long is over; what comes meanwhile counts. */
static void per_try_idle(void **state)
{
    exact_start(", timeout: 60s, retry_policy: {retry_on: '5xx,reset', num_retries: 1, "
                "per_try_idle_timeout: 0.7s, retry_back_off: {base_interval: 0.001s}}",
                "", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
    struct request *r = world_request(w, 1);
    assert_int_equal(r->status, 504);
    assert_int_equal(r->arrivals, 2);
    assert_in_range(exact_took_ms(1), 1400, 1401 + 2 * SLACK_MS + 6 * DELAY_MS);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_per_try_idle_timeout"), 2);
    /* An answer that drips for longer than that, but never stops for so long. */
    b1->mood = (struct mood){.drip = 1000, .slow_ms = {4000, 4000}, .body_max = 200};
    client_free(client);
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 2)->outcome, OUTCOME_ANSWERED);
    assert_in_range(exact_took_ms(2), 3900, 5000);
    exact_stop();
}

/* The time of a try is that until its answer begins, as in Envoy; from then on it may only not be
 * idle. */
static void per_try_beside_idle(void **state)
{
    exact_start(", timeout: 60s, retry_policy: {retry_on: 'reset', num_retries: 0, "
                "per_try_idle_timeout: 0.7s, per_try_timeout: 1s}",
                "", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
    assert_ms(exact_took_ms(1), 700);
    client_free(client);
    b1->mood = (struct mood){.drip = 1000, .slow_ms = {4000, 4000}, .body_max = 200};
    exact_ask(1, 0); /* the head comes after half a second, then a piece each half second */
    assert_int_equal(world_request(w, 2)->outcome, OUTCOME_ANSWERED);
    assert_in_range(exact_took_ms(2), 3900, 5000);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_per_try_timeout"), 0);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_per_try_idle_timeout"), 1);
    exact_stop();
}

/* Evenly between nothing and a bound that doubles, up to the maximum. */
static void back_off_is_drawn(void **state)
{
    uint64_t least[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}, most[4] = {0};
    exact_start(", timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 4, retry_back_off: "
                "{base_interval: 0.1s, max_interval: 0.5s}}",
                "", "    circuit_breakers: {thresholds: [{max_retries: 1000}]}\n");
    b1->mood.fail = 1000;
    exact_ask_over(200, 0, 60000);
    for (uint64_t id = 1; id <= 200; id++) {
        struct request *r = world_request(w, id);
        assert_int_equal(r->arrivals, 5);
        for (int i = 0; i < 4; i++) {
            uint64_t gap = (r->arrived_ns[i + 1] - r->arrived_ns[i]) / SIM_MS;
            least[i] = gap < least[i] ? gap : least[i];
            most[i] = gap > most[i] ? gap : most[i];
        }
    }
    static const uint64_t bound[] = {100, 200, 400, 500}; /* base * 2^n, at most max */
    for (int i = 0; i < 4; i++) {
        assert_in_range(least[i], 0, bound[i] / 10 + SLACK_MS + 4 * DELAY_MS);
        assert_in_range(most[i], bound[i] * 8 / 10, bound[i] + SLACK_MS + 4 * DELAY_MS);
    }
    exact_stop();
}

/* What the backend asks for is kept: not less, and at most half as much again. */
static void back_off_that_was_asked_for(void **state)
{
    exact_start(", timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 1, "
                "rate_limited_retry_back_off: {reset_headers: [{name: Retry-After, format: "
                "SECONDS}], max_interval: 10s}}",
                "", "    circuit_breakers: {thresholds: [{max_retries: 100}]}\n");
    b1->mood.fail = 1000;
    b1->fields = "retry-after: 4\r\n";
    exact_ask_over(30, 0, 100000);
    for (uint64_t id = 1; id <= 30; id++) {
        struct request *r = world_request(w, id);
        assert_int_equal(r->arrivals, 2);
        assert_in_range((r->arrived_ns[1] - r->arrived_ns[0]) / SIM_MS, 4000,
                        6000 + SLACK_MS + 4 * DELAY_MS);
    }
    assert_int_equal(exact_stat("cluster.c.upstream_rq_retry_backoff_ratelimited"), 30);
    /* Longer than the bound: as if it had not asked. */
    client_free(client);
    b1->fields = "retry-after: 60\r\n";
    exact_ask(1, 0);
    assert_in_range(exact_took_ms(31), 0, 25 + SLACK_MS + 6 * DELAY_MS);
    exact_stop();
}

/* A fifth of what is active may be retries at any time, and three always. */
static void retry_budget(void **state)
{
    exact_start(", timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: "
                "{base_interval: 5s, max_interval: 5s}}",
                "",
                "    circuit_breakers: {thresholds: [{max_requests: 1000, retry_budget: "
                "{budget_percent: {value: 20}, min_retry_concurrency: 3}}]}\n");
    b1->mood.fail = 1000;
    exact_ask(50, 0);
    /* As requests fail fewer are active, so the budget shrinks to its minimum while it is taken:
     * between 3 and a fifth of 50. */
    uint64_t retries = exact_stat("cluster.c.upstream_rq_retry");
    assert_in_range(retries, 3, 10);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_retry_overflow"), 50 - retries);
    assert_int_equal(b1->requests, 50 + retries);
    /* It is a matter of the moment: later ones have it again. */
    client_free(client);
    exact_ask(1, 0);
    assert_int_equal(exact_stat("cluster.c.upstream_rq_retry"), retries + 1);
    exact_stop();
}

/* ---- streams and connections of HTTP ---- */

static void stream_duration(void **state)
{
    exact_start(", timeout: 0s",
                "          common_http_protocol_options: {max_stream_duration: 2.5s}\n", "");
    b1->mood = (struct mood){.drip = 1000, .slow_ms = {8000, 8000}, .body_max = 200};
    exact_ask(1, 0);
    assert_int_equal(world_request(w, 1)->outcome, OUTCOME_CUT);
    assert_ms(exact_took_ms(1), 2500);
    assert_int_equal(exact_stat("http.in.downstream_rq_max_duration_reached"), 1);
    exact_stop();
}

static void route_stream_duration(void **state)
{
    exact_start(", timeout: 0s, max_stream_duration: {max_stream_duration: 1.5s}",
                "          common_http_protocol_options: {max_stream_duration: 60s}\n", "");
    b1->mood.hang = 1000;
    exact_ask(1, 0);
    assert_ms(exact_took_ms(1), 1500);
    exact_stop();
}

static void users_of(const char *name, unsigned users, uint64_t requests, uint64_t think_ms)
{
    client = client_new(w, &(struct client_opts){.name = name,
                                                 .ip = CLIENT_IP,
                                                 .to = PROXY_IP ":8080",
                                                 .host = "x",
                                                 .users = users,
                                                 .requests = requests,
                                                 .think_ms = {think_ms, think_ms},
                                                 .patience_ms = 600000});
}

/* A client whose connection's time has come hears so with its next answer; without one, the
 * connection ends when the drain does. One at work ends with the answer under way. */
static void connection_duration(void **state)
{
    const char *http = "          common_http_protocol_options: {max_connection_duration: 10s}\n"
                       "          drain_timeout: 4s\n";
    exact_start("", http, "");
    users_of("client", 1, 0, 3000);
    uint64_t begin = exact_until("http.in.downstream_cx_active", 1, 10000);
    uint64_t end = exact_until("http.in.downstream_cx_active", 0, 20000);
    assert_in_range(end - begin, 12000, 12000 + 4 * (SLACK_MS + 4 * DELAY_MS));
    assert_int_equal(exact_stat("http.in.downstream_cx_max_duration_reached"), 1);
    client_stop(client);
    exact_stop();

    exact_start("", http, "");
    users_of("client", 1, 0, 60000);
    begin = exact_until("http.in.downstream_cx_active", 1, 100000);
    end = exact_until("http.in.downstream_cx_active", 0, 20000);
    assert_ms(end - begin, 14000);
    assert_int_equal(exact_stat("http.in.downstream_cx_max_duration_reached"), 1);
    client_stop(client);
    exact_stop();

    exact_start("", "          common_http_protocol_options: {max_connection_duration: 10s}\n", "");
    b1->mood = (struct mood){.slow = 1000, .slow_ms = {12000, 12000}};
    users_of("client", 1, 1, 0);
    begin = exact_until("http.in.downstream_cx_active", 1, 1000);
    end = exact_until("http.in.downstream_cx_active", 0, 20000);
    assert_in_range(end - begin, 12000, 12000 + 3 * SLACK_MS + 8 * DELAY_MS);
    world_run_ms(w, 10);
    assert_int_equal(world_request(w, 1)->status, 200);
    exact_stop();
}

#define UPSTREAM_HTTP(common)                                                                      \
    "    typed_extension_protocol_options: "                                                       \
    "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "                          \
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "                 \
    "common_http_protocol_options: {" common "}, explicit_http_config: {http_protocol_options: "   \
    "{}}}}\n"

static void upstream_idle(void **state)
{
    exact_start("", "", UPSTREAM_HTTP("idle_timeout: 7s"));
    users_of("client", 1, 1, 0);
    uint64_t begin = exact_until("cluster.c.upstream_rq_completed", 1, 1000);
    uint64_t end = exact_until("cluster.c.upstream_cx_active", 0, 20000);
    assert_ms(end - begin, 7000);
    assert_int_equal(exact_stat("cluster.c.upstream_cx_idle_timeout"), 1);
    exact_stop();
}

static void upstream_duration(void **state)
{
    exact_start("", "", UPSTREAM_HTTP("max_connection_duration: 6s"));
    users_of("client", 1, 3, 1000);
    uint64_t begin = exact_until("cluster.c.upstream_cx_active", 1, 2000);
    uint64_t end = exact_until("cluster.c.upstream_cx_active", 0, 20000);
    assert_ms(end - begin, 6000);
    assert_int_equal(exact_stat("cluster.c.upstream_cx_max_duration_reached"), 1);
    exact_stop();
}

/* ---- TCP, and before there is a protocol ---- */

static void start_tcp(const char *listener, const char *tcp)
{
    static char text[4096];
    snprintf(text, sizeof text,
             "static_resources:\n"
             "  listeners:\n"
             "  - name: in\n"
             "    stat_prefix: in\n"
             "    address: {socket_address: {address: 0.0.0.0, port_value: 8080}}\n"
             "%s"
             "    filter_chains:\n"
             "    - filters:\n"
             "      - name: envoy.filters.network.tcp_proxy\n"
             "        typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network."
             "tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c%s}\n"
             "  clusters:\n"
             "  - name: c\n"
             "    type: STATIC\n"
             "    load_assignment:\n"
             "      cluster_name: c\n"
             "      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: "
             "{address: " BACKEND_IP ", port_value: 80}}}}]}]\n",
             listener, tcp);
    exact_start_text(text);
}

static void tcp_idle(void **state)
{
    start_tcp("", ", idle_timeout: 5s");
    users_of("client", 1, 0, 4000);
    world_run_ms(w, 41000); /* ten requests 4 s apart: never idle for so long */
    assert_int_equal(exact_stat("tcp.t.downstream_cx_total"), 1);
    client->o.think_ms[0] = client->o.think_ms[1] = 60000;
    world_run_ms(w, 4000);
    uint64_t last = w->book[w->n_requests - 1].done_ns / SIM_MS;
    uint64_t end = exact_until("listener.in.downstream_cx_active", 0, 20000);
    assert_in_range(end - last, 5000 - 2 * DELAY_MS, 5000 + SLACK_MS);
    assert_int_equal(exact_stat("tcp.t.idle_timeout"), 1);
    client_stop(client);
    exact_tear_down(NULL);
}

static void tcp_duration(void **state)
{
    start_tcp("", ", max_downstream_connection_duration: 9s");
    users_of("client", 1, 0, 2000);
    uint64_t begin = exact_until("listener.in.downstream_cx_active", 1, 10000);
    uint64_t end = exact_until("listener.in.downstream_cx_active", 0, 20000);
    assert_ms(end - begin, 9000);
    client_stop(client);
    exact_tear_down(NULL);
}

static void no_event(struct conn *c, unsigned events, void *user)
{
}

/* A client that says nothing keeps no listener filter waiting for longer. */
static void listener_filters(void **state)
{
    for (int go_on = 0; go_on < 2; go_on++) {
        char text[600];
        struct addr to;
        int code;
        snprintf(text, sizeof text,
                 "    listener_filters_timeout: 3s\n"
                 "    continue_on_listener_filters_timeout: %s\n"
                 "    listener_filters: [{name: envoy.filters.listener.tls_inspector, "
                 "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener."
                 "tls_inspector.v3.TlsInspector}}]\n",
                 go_on ? "true" : "false");
        start_tcp(text, "");
        struct loop *l = loop_new(sim_host(w->sim, CLIENT_IP));
        assert_int_equal(addr_parse(&to, SV(PROXY_IP ":8080")), 0);
        uint64_t begin = world_ms(w);
        struct conn *c = conn_connect(l, &to, NULL, no_event, NULL, &code);
        exact_until("listener.in.downstream_pre_cx_active", 1, 100);
        uint64_t end = exact_until("listener.in.downstream_pre_cx_active", 0, 20000);
        assert_ms(end - begin, 3000);
        assert_int_equal(exact_stat("listener.in.downstream_pre_cx_timeout"), 1);
        assert_int_equal(exact_stat("listener.in.downstream_cx_active"), go_on);
        conn_abort(c);
        world_run_ms(w, 10);
        loop_free(l);
        exact_tear_down(NULL);
    }
}

/* ---- drain ---- */

static void drain(void *arg)
{
    proxy_server_drain(proxy->server);
}

/* What is not over when the drain time is ends with the process. */
static void drain_has_an_end(void **state)
{
    static struct proxy_options cli;
    proxy_options_default(&cli);
    cli.drain_time_s = 20;
    exact_world();
    b1 = backend_new(w, "b1", "v1", BACKEND_IP, 80);
    b1->mood.hang = 1000;
    proxy = sidecar_new_opts(
        w, &(struct sidecar_opts){.name = "proxy",
                                  .ip = PROXY_IP,
                                  .cli = &cli,
                                  .bootstrap = exact_text(
                                      ", timeout: 0s", "          stream_idle_timeout: 0s\n", "")});
    world_run_ms(w, 100);
    users_of("client", 3, 1, 0);
    world_run_ms(w, 100);
    loop_post(proxy->loop, drain, NULL); /* as a signal does */
    uint64_t begin = world_ms(w);
    while (!proxy_server_ended(proxy->server) && world_ms(w) < begin + 30000)
        world_run_ms(w, 1);
    assert_in_range(world_ms(w) - begin, 20000, 20000 + 30);
}

int main(void)
{
    log_set_level(NULL, LOG_OFF);
    sv_hash_set_seed(1);
    const struct CMUnitTest tests[] = {
        T(per_try_idle),
        T(per_try_beside_idle),
        T(back_off_is_drawn),
        T(back_off_that_was_asked_for),
        T(retry_budget),
        T(stream_duration),
        T(route_stream_duration),
        T(connection_duration),
        T(upstream_idle),
        T(upstream_duration),
        T(tcp_idle),
        T(tcp_duration),
        T(listener_filters),
        T(drain_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
