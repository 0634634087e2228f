/* Chaos at every point around one proxy that speaks HTTP/1.1 both ways: retries, mirrors, faults,
 * time-outs, bodies and trailers, while configuration comes and goes. See chaos.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/log.h"
#include "chaos.h"
#include "given.h"
#include "stage.h"

static struct stage s;
static struct given given;
static size_t scene;

/* ---- what the backends do ---- */

static void with_trailers(struct script_conn *sc, sv text)
{
    script_send(sc, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n"
                    "content-type: application/grpc\r\n\r\n5\r\nhello\r\n");
    script_send_later(sc, "6\r\n again\r\n0\r\nx-sum: 11\r\ngrpc-status: 0\r\n\r\n", 20);
}

static void flaky(struct script_conn *sc, sv text)
{
    switch (sc->b->requests % 4) {
    case 1:
        script_503(sc, text);
        break;
    case 2:
        script_reset(sc, text);
        break;
    case 3:
        script_close(sc, text);
        break;
    default:
        script_ok(sc, text);
    }
}

static void slow(struct script_conn *sc, sv text)
{
    script_send_later(sc, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 300);
}

static void half(struct script_conn *sc, sv text)
{
    script_send(sc, "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf");
    sc->close_after = true;
    script_send(sc, "");
}

#define GET   "GET / HTTP/1.1\r\nhost: a\r\n\r\n"
#define GRPC  "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-type: application/grpc\r\n"
#define CHUNK "transfer-encoding: chunked\r\n\r\n"

static const struct scene {
    script_fn fn;
    const char *route;               /* in route: {...} */
    const char *first, *then, *last; /* what the client sends, 10 ms apart */
} scenes[] = {
    {script_ok, "", GET, GET, GET},
    {with_trailers, "", GRPC CHUNK "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\nx-end: 1\r\n\r\n"},
    {flaky,
     ", retry_policy: {retry_on: '5xx,reset', num_retries: 4, per_try_timeout: 0.2s, "
     "retry_back_off: {base_interval: 0.01s}}",
     "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc", "def", GET},
    {script_ok, ", request_mirror_policies: [{cluster: b3}, {cluster: b2}]",
     "POST / HTTP/1.1\r\nhost: a\r\n" CHUNK "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"},
    {slow, ", timeout: 0.25s", GET, "", GET},
    {script_hang,
     ", timeout: 1s, retry_policy: {retry_on: 'reset', num_retries: 2, per_try_timeout: 0.2s}", GET,
     "", ""},
    {half, ", retry_policy: {retry_on: 5xx}", GET, GET, ""},
};
static const char *const names[] = {"plain",   "trailers", "retry", "mirror",
                                    "timeout", "hang",     "half"};

/* ---- configuration ---- */

static void put_cluster(const char *name, unsigned port, const char *more)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{name: %s, connect_timeout: 1s, %s typed_extension_protocol_options: "
             "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
             "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
             "common_http_protocol_options: {idle_timeout: 30s}, explicit_http_config: "
             "{http_protocol_options: {enable_trailers: true}}}}, load_assignment: {cluster_name: "
             "%s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "
             "10.0.0.2, port_value: %u}}}}]}]}}",
             name, more, name, port);
    assert_string_equal(given_put(&given, CONFIG_CDS, name, text), "");
}

static void put_listener(const char *server)
{
    char text[2048];
    snprintf(text, sizeof text,
             "{name: l, address: {socket_address: {address: 0.0.0.0, port_value: 80}}, "
             "filter_chains: [{filters: [{name: hcm, typed_config: {\"@type\": "
             "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
             "HttpConnectionManager, stat_prefix: t, server_name: %s, http_protocol_options: "
             "{enable_trailers: true}, rds: {route_config_name: r1, config_source: {ads: {}}}, "
             "http_filters: [{name: fault, typed_config: {\"@type\": "
             "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, delay: "
             "{fixed_delay: 0.015s, percentage: {numerator: 50}}, abort: {http_status: 418, "
             "percentage: {numerator: 10}}}}, {name: router, typed_config: {\"@type\": "
             "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}",
             server);
    assert_string_equal(given_put(&given, CONFIG_LDS, "l", text), "");
}

static void put_routes(const char *cluster, const char *more)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{name: r1, virtual_hosts: [{name: v, domains: [\"*\"], routes: [{match: {prefix: /}, "
             "route: {cluster: %s%s}}]}]}",
             cluster, more);
    assert_string_equal(given_put(&given, CONFIG_RDS, "r1", text), "");
}

/* The proxy waits for what it asks for while it starts. */
static void answer(void *arg)
{
    static const enum config_type order[] = {CONFIG_CDS, CONFIG_LDS, CONFIG_RDS};
    unsigned *step = arg;
    if (given.sink.update && (given.wanted >> order[*step] & 1)) {
        if (*step == 0) {
            put_cluster("b1", 9001, "");
            put_cluster("b2", 9002, "");
            put_cluster("b3", 9003, "");
        } else if (*step == 1) {
            put_listener("one");
        } else {
            put_routes("b1", scenes[scene].route);
            return;
        }
        ++*step;
    }
    sim_at(s.w->sim, sim_now(s.w->sim) + SIM_MS, answer, arg);
}

/* ---- what breaks ---- */

static void reset_client(void *arg)
{
    sim_reset_connections(s.w->sim, SIM_CLIENT, SIM_PROXY);
}

static void reset_backend(void *arg)
{
    sim_reset_connections(s.w->sim, SIM_PROXY, SIM_BACKEND);
}

static void leap(void *arg)
{
    sim_leap(s.w->sim, 500 * SIM_MS);
}

static void other_routes(void *arg)
{
    put_routes("b2", "");
}

static void other_cluster(void *arg)
{
    put_cluster("b1", 9002, "lb_policy: RANDOM,");
}

static void other_listener(void *arg)
{
    put_listener("two");
}

static void no_cluster(void *arg)
{
    given_remove(&given, CONFIG_CDS, "b1");
    given_remove(&given, CONFIG_CDS, "b3");
}

static void no_listener(void *arg)
{
    given_remove(&given, CONFIG_LDS, "l");
}

static void no_routes(void *arg)
{
    given_put(&given, CONFIG_RDS, "r1", "{name: r1}");
}

static void drain(void *arg)
{
    proxy_server_drain(s.proxy->server);
}

static void stop(void *arg)
{
    proxy_server_stop(s.proxy->server);
}

static void leave(void *arg)
{
    raw_close(arg, false);
    ((struct raw *)arg)->c = NULL;
}

static const struct chaos_action actions[] = {
    {"reset-client", reset_client},
    {"reset-backend", reset_backend},
    {"leave", leave},
    {"leap", leap},
    {"routes", other_routes},
    {"cluster", other_cluster},
    {"listener", other_listener},
    {"no-cluster", no_cluster},
    {"no-listener", no_listener},
    {"no-routes", no_routes},
    {"drain", drain},
    {"stop", stop},
};

/* ---- a run ---- */

static void say(struct raw *c, const char *text)
{
    if (c->c && !c->eof && !c->error)
        raw_send(c, text);
    stage_run(&s, 10);
}

static void check(const char *stat)
{
    uint64_t n = sidecar_stat(s.proxy, stat);
    if (n)
        world_violation(s.w, "%u left in %s", (unsigned)n, stat);
}

static unsigned run(size_t scenario)
{
    const struct scene *x = &scenes[scenario];
    const script_fn fns[4] = {x->fn, script_ok, script_ok, NULL};
    unsigned step = 0;
    struct raw c;
    scene = scenario;
    stage_init(&s, 3, fns);
    sim_set_latency(s.w->sim, NULL, NULL, SIM_MS, SIM_MS);
    given_init(&given);
    sim_at(s.w->sim, sim_now(s.w->sim) + SIM_MS, answer, &step);
    stage_start(&s, "{}", &given.src);
    raw_open(&c, &s, 80);
    chaos_begin(s.w->sim, &c);
    say(&c, x->first);
    say(&c, x->then);
    say(&c, x->last);
    stage_run(&s, 2000); /* longer than any time-out of the scenes */
    chaos_end(s.w->sim);
    if (c.c) {
        world_note(s.w, "got: %s", c.got.n ? c.got.p : "nothing");
        raw_close(&c, false);
    }
    stage_run(&s, 1000);
    check("http.t.downstream_rq_active");
    check("http.t.downstream_cx_active");
    for (int i = 1; i <= 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "cluster.b%d.upstream_rq_active", i);
        check(name);
        snprintf(name, sizeof name, "cluster.b%d.upstream_rq_pending_active", i);
        check(name);
    }
    unsigned wrong = stage_end(&s);
    given_fini(&given);
    return wrong;
}

int main(int argc, char **argv)
{
    return chaos_main(&(struct chaos){.program = argv[0],
                                      .scenarios = names,
                                      .n_scenarios = sizeof names / sizeof names[0],
                                      .actions = actions,
                                      .n_actions = sizeof actions / sizeof actions[0],
                                      .stride = 1,
                                      .run = run});
}
