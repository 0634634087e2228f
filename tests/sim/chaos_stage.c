#include "chaos_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "chaos.h"

struct stage s;
struct given given;
static const struct chaos_plan *plan;

/* ---- configuration ---- */

static void put_cluster(const char *name, unsigned port, const char *more)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{name: %s, connect_timeout: 1s, per_connection_buffer_limit_bytes: 32768, %s "
             "typed_extension_protocol_options: "
             "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
             "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
             "common_http_protocol_options: {idle_timeout: 30s}, explicit_http_config: "
             "{%s}}}, load_assignment: {cluster_name: "
             "%s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "
             "10.0.0.2, port_value: %u}}}}]}]}}",
             name, more, plan->upstream, name, port);
    assert_string_equal(given_put(&given, CONFIG_CDS, name, text), "");
}

static void put_listener(const char *server)
{
    char text[2048];
    snprintf(text, sizeof text,
             "{name: l, per_connection_buffer_limit_bytes: 32768, address: {socket_address: "
             "{address: 0.0.0.0, port_value: 80}}, "
             "filter_chains: [{filters: [{name: hcm, typed_config: {\"@type\": "
             "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
             "HttpConnectionManager, stat_prefix: t, server_name: %s, %s, rds: {route_config_name: "
             "r1, config_source: {ads: {}}}, "
             "http_filters: [{name: fault, typed_config: {\"@type\": "
             "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, %s}}, {name: "
             "router, typed_config: {\"@type\": "
             "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}",
             server, plan->downstream, plan->fault);
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
            put_routes("b1", plan->route);
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

static const struct chaos_action actions[] = {
    {"reset-client", reset_client},
    {"reset-backend", reset_backend},
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

void chaos_stage_up(const struct chaos_plan *p, const script_fn fns[4])
{
    static unsigned step;
    plan = p;
    step = 0;
    stage_init(&s, 3, fns);
    sim_set_latency(s.w->sim, NULL, NULL, SIM_MS, SIM_MS);
    given_init(&given);
    sim_at(s.w->sim, sim_now(s.w->sim) + SIM_MS, answer, &step);
}

void chaos_stage_start(void)
{
    stage_start(&s, "{}", &given.src);
}

static void check(const char *stat)
{
    uint64_t n = sidecar_stat(s.proxy, stat);
    if (n)
        world_violation(s.w, "%u left in %s", (unsigned)n, stat);
}

unsigned chaos_stage_down(void)
{
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

int chaos_stage_main(struct chaos c)
{
    c.actions = actions;
    c.n_actions = sizeof actions / sizeof actions[0];
    return chaos_main(&c);
}
