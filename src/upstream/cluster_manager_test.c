#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "upstream/testing_rig.h"
#include "base/strbuf.h"

#define EP(ip, more)                                                                               \
    "{endpoint: {address: {socket_address: {address: " ip ", port_value: 80}}}" more "}"
#define CLA(name, eps) "{cluster_name: " name ", endpoints: [{lb_endpoints: [" eps "]}]}"
#define EDS(name, more)                                                                            \
    "{name: " name ", type: EDS, eds_cluster_config: {eds_config: {ads: {}}" more                  \
    "}, connect_timeout: 1s}"

static struct rig rig;
static struct backend *b1, *b2;

static int setup(void **state)
{
    rig_init(&rig, 7);
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

static void get(const char *cluster, struct req *q, unsigned status)
{
    req_run(&rig, q, cluster);
    assert_int_equal(q->status, status);
    req_end(q);
}

/* ---- what is refused, and in which words ---- */

static void refused_by_name(void **state)
{
    static const char *const cases[][2] = {
        {"{name: x, health_checks: [{timeout: 1s, interval: 1s, tcp_health_check: {}}]}",
         "cluster 'x': health_checks[0]: unhealthy_threshold and healthy_threshold are required"},
        {"{name: x, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, "
         "healthy_threshold: 1, http_health_check: {path: /h, receive: [{text: '00'}]}}]}",
         "cluster 'x': health_checks[0].http_health_check.receive: not supported"},
        {"{name: x, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, "
         "healthy_threshold: 1, tcp_health_check: {send: {text: '0g'}}}]}",
         "cluster 'x': health_checks[0].tcp_health_check.send.text: must be pairs"},
        {"{name: x, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, "
         "healthy_threshold: 1, grpc_health_check: {}}]}",
         "cluster 'x': health_checks[0].grpc_health_check: needs a cluster that speaks HTTP/2"},
        {"{name: x, lb_subset_config: {subset_selectors: [{keys: [a, b], single_host_per_subset: "
         "true}]}}",
         "cluster 'x': lb_subset_config.subset_selectors[0].single_host_per_subset: needs exactly"},
        {"{name: x, lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_policy: "
         "KEYS_SUBSET}]}}",
         "subset_selectors[0].fallback_keys_subset: KEYS_SUBSET needs keys"},
        {"{name: x, lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_policy: "
         "KEYS_SUBSET, fallback_keys_subset: [c]}]}}",
         "fallback_keys_subset: 'c' is not among keys"},
        {"{name: x, lb_subset_config: {subset_selectors: [{keys: [b, a, a], fallback_policy: "
         "KEYS_SUBSET, fallback_keys_subset: [a, b]}]}}",
         "fallback_keys_subset: must have fewer keys"},
        {"{name: x, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, lb_subset_config: {}}",
         "lb_subset_config: not with lb_policy CLUSTER_PROVIDED"},
        {"{name: x, lb_policy: RING_HASH, common_lb_config: {consistent_hashing_lb_config: "
         "{hash_balance_factor: 99}}}",
         "consistent_hashing_lb_config.hash_balance_factor: must be at least 100"},
        {"{name: x, type: EDS}", "cluster 'x': eds_cluster_config.eds_config: required"},
        {"{name: x, type: EDS, eds_cluster_config: {eds_config: {api_config_source: {}}}}",
         "cluster 'x': eds_cluster_config.eds_config.api_config_source: not supported"},
        {"{name: x, connect_timeout: 0s}", "cluster 'x': connect_timeout: must be more than 0"},
        {"{name: x, connect_timeout: -1s}", "cluster 'x': connect_timeout: must be a duration"},
        {"{name: ''}", "cluster: name: must not be empty"},
        {"{name: x, lb_policy: CLUSTER_PROVIDED}", "cluster 'x': lb_policy: CLUSTER_PROVIDED"},
        {"{name: x, type: ORIGINAL_DST}", "cluster 'x': lb_policy: CLUSTER_PROVIDED"},
        {"{name: x, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 20, "
         "maximum_ring_size: 10}}",
         "cluster 'x': ring_hash_lb_config: minimum_ring_size (20) > maximum_ring_size (10)"},
        {"{name: x, lb_policy: MAGLEV, maglev_lb_config: {table_size: 8}}",
         "cluster 'x': maglev_lb_config.table_size: must be a prime"},
        {"{name: x, round_robin_lb_config: {slow_start_config: {aggression: {default_value: 0, "
         "runtime_key: x}}}}",
         "cluster 'x': round_robin_lb_config.slow_start_config.aggression: must be greater than 0"},
        {"{name: x, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: "
         "{address: {socket_address: {address: some.name, port_value: 80}}}}]}]}}",
         "cluster 'x': load_assignment.endpoints[0].lb_endpoints[0].endpoint.address."
         "socket_address.address: 'some.name' is no IP address"},
        {"{name: x, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: "
         "{address: {socket_address: {address: 1.2.3.4, port_value: 80}}}, "
         "load_balancing_weight: 0}]}]}}",
         "lb_endpoints[0].load_balancing_weight: must be at least 1"},
        {"{name: x, transport_socket: {name: t, typed_config: {'@type': "
         "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3."
         "ProxyProtocolUpstreamTransport}}}",
         "cluster 'x': transport_socket.typed_config.transport_socket: required"},
        {"{name: x, transport_socket: {name: t, typed_config: {'@type': "
         "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3."
         "ProxyProtocolUpstreamTransport, config: {pass_through_tlvs: {}}}}}",
         "cluster 'x': transport_socket.typed_config.config.pass_through_tlvs: not supported"},
        {"{name: x, transport_socket: {name: t, typed_config: {'@type': "
         "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "
         "common_tls_context: {validation_context: {trusted_ca: {filename: /nonexistent/ca}}}}}}",
         "cluster 'x': transport_socket.typed_config.common_tls_context.validation_context."
         "trusted_ca: cannot open '/nonexistent/ca'"},
        {"{name: x, transport_socket: {name: t, typed_config: {'@type': "
         "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "
         "common_tls_context: {validation_context: {trusted_ca: {inline_string: rubbish}}}}}}",
         "cluster 'x': transport_socket: "},
        {"{name: x, typed_extension_protocol_options: {some.other: {'@type': "
         "type.googleapis.com/google.protobuf.Struct, value: {}}}}",
         "cluster 'x': typed_extension_protocol_options['some.other']: not supported"},
        {"{name: x, type: LOGICAL_DNS, load_assignment: {cluster_name: x}}",
         "cluster 'x': load_assignment: LOGICAL_DNS needs exactly one"},
        {"{name: x, circuit_breakers: {per_host_thresholds: [{max_requests: 1}]}}",
         "cluster 'x': circuit_breakers.per_host_thresholds[0]"},
        {"{name: x, load_balancing_policy: {policies: [{typed_extension_config: {name: "
         "mine, typed_config: {'@type': type.googleapis.com/google.protobuf.Struct, value: "
         "{}}}}]}}",
         "cluster 'x': load_balancing_policy.policies: 'mine': not supported"},
        {"{name: x, upstream_bind_config: {source_address: {address: a, port_value: 0}}}",
         "cluster 'x': upstream_bind_config.source_address: 'a' is no IP address"},
        {"{name: x, upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}, "
         "additional_source_addresses: [{address: 127.0.0.7, port_value: 0}]}}",
         "additional_source_addresses[0]: must be of the other IP version"},
        {"{name: x, upstream_bind_config: {additional_source_addresses: [{address: 127.0.0.7, "
         "port_value: 0}]}}",
         "additional_source_addresses: needs source_address"},
        {"{name: x, common_lb_config: {zone_aware_lb_config: {min_cluster_size: 6}}}",
         "cluster 'x': common_lb_config.zone_aware_lb_config: zone aware routing: not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_not_equal(rig_put(&rig, cases[i][0]), 0);
        if (!strstr(rig.err.msg, cases[i][1]))
            fail_msg("\n%s\ngave:     %s\nexpected: %s", cases[i][0], rig.err.msg, cases[i][1]);
    }
    assert_false(cluster_manager_has(rig.cm, SV("x")));
    /* Bytes that are no message. */
    struct error err = {0};
    assert_int_not_equal(cluster_manager_put(rig.cm, SV("\x0a\x01y\xff\xff"), &err), 0);
    assert_non_null(strstr(err.msg, "cluster 'y'"));
    assert_int_not_equal(rig_endpoints(&rig, CLA("x", EP("a.name", ""))), 0);
    assert_non_null(strstr(rig.err.msg, "endpoints of cluster 'x'.endpoints[0].lb_endpoints[0]"));
    assert_int_not_equal(rig_endpoints(&rig, "{cluster_name: x, policy: {drop_overloads: "
                                             "[{category: a}]}}"),
                         0);
    assert_non_null(strstr(rig.err.msg, "policy.drop_overloads: not supported"));
}

static void accepted(void **state)
{
    static const char *const cases[] = {
        "{name: x, type: STRICT_DNS, respect_dns_ttl: true, dns_lookup_family: V4_ONLY, "
        "dns_refresh_rate: 60s, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: "
        "[{endpoint: {address: {socket_address: {address: one.test, port_value: 80}}}}]}]}}",
        "{name: x, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: 60s}",
        "{name: x, lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 3}, "
        "circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: "
        "4294967295, max_requests: 4294967295, max_retries: 4294967295, track_remaining: true}]}, "
        "common_lb_config: {locality_weighted_lb_config: {}}, metadata: {filter_metadata: {istio: "
        "{config: a}}}, upstream_connection_options: {tcp_keepalive: {keepalive_time: 300}}}",
        "{name: x, load_balancing_policy: {policies: [{typed_extension_config: {name: unknown, "
        "typed_config: {'@type': type.googleapis.com/google.protobuf.Struct, value: {}}}}, "
        "{typed_extension_config: {name: w, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality, "
        "endpoint_picking_policy: {policies: [{typed_extension_config: {name: r, typed_config: "
        "{'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3."
        "RoundRobin}}}]}}}}]}}",
        "{name: x, upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}}}",
        ("{name: x, upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}, "
         "additional_source_addresses: [{address: '::1', port_value: 0}]}}"),
        "{name: x, http2_protocol_options: {max_concurrent_streams: 100}}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (rig_put(&rig, cases[i]) != 0)
            fail_msg("%s\n%s", cases[i], rig.err.msg);
}

/* ---- EDS and warming ---- */

static void warm(void *arg)
{
    (*(int *)arg)++;
}

static void eds_warms_and_updates(void **state)
{
    struct req q;
    int warmed = 0;
    assert_int_equal(rig_put(&rig, EDS("c", ", service_name: svc")), 0);
    assert_string_equal(rig.wanted, " +svc");
    assert_true(cluster_manager_has(rig.cm, SV("c")));
    assert_false(cluster_manager_warm(rig.cm, SV("c")));
    rig_run_ms(&rig, 1);
    assert_null(upstream_find(rig.worker, SV("c")));
    cluster_manager_when_warm(rig.cm, warm, &warmed);
    assert_int_equal(warmed, 0);
    rig_endpoints_ok(&rig, CLA("svc", EP("10.0.1.1", "")));
    assert_int_equal(warmed, 1);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    get("c", &q, 200);
    assert_string_equal(q.host_text, "10.0.1.1:80");
    rig_endpoints_ok(&rig, CLA("svc", EP("10.0.1.2", "")));
    get("c", &q, 200);
    assert_string_equal(q.host_text, "10.0.1.2:80");
    assert_int_equal(b1->open_conns, 0); /* drained */
    rig_endpoints_ok(&rig, CLA("svc", EP("10.0.1.2", "")));
    assert_int_equal(rig_stat(&rig, "cluster.c.update_attempt"), 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.update_success"), 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.update_no_rebuild"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_change"), 2);
    rig_endpoints_ok(&rig, "{cluster_name: svc}");
    req_run(&rig, &q, "c");
    assert_int_equal(q.why, UPSTREAM_FAIL_NO_HOST);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_total"), 0);
    assert_int_equal(cluster_manager_remove(rig.cm, SV("c")), 0);
    assert_int_equal(cluster_manager_remove(rig.cm, SV("c")), E_NOT_FOUND);
    assert_string_equal(rig.wanted, " +svc -svc");
    rig_run_ms(&rig, 1);
    assert_null(upstream_find(rig.worker, SV("c")));
}

static void warming_times_out(void **state)
{
    int warmed = 0;
    assert_int_equal(rig_put(&rig, EDS("c", "")), 0);
    cluster_manager_when_warm(rig.cm, warm, &warmed);
    rig_run_ms(&rig, 14900);
    assert_int_equal(warmed, 0);
    rig_run_ms(&rig, 200);
    assert_int_equal(warmed, 1);
    struct req q;
    req_run(&rig, &q, "c");
    assert_int_equal(q.why, UPSTREAM_FAIL_NO_HOST);
    req_end(&q);
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", ""))); /* better late */
    get("c", &q, 200);
}

static void the_old_one_serves_while_the_new_one_warms(void **state)
{
    struct req q;
    rig_put_ok(&rig, EDS("c", ", service_name: a"));
    rig_endpoints_ok(&rig, CLA("a", EP("10.0.1.1", "")));
    get("c", &q, 200);
    rig_put_ok(&rig, EDS("c", ", service_name: b"));
    get("c", &q, 200);
    assert_string_equal(q.host_text, "10.0.1.1:80");
    rig_endpoints_ok(&rig, CLA("b", EP("10.0.1.2", "")));
    get("c", &q, 200);
    assert_string_equal(q.host_text, "10.0.1.2:80");
    rig_run_ms(&rig, 5);
    assert_int_equal(b1->open_conns, 0);
    assert_string_equal(rig.wanted, " +a +b -a");
    /* A new version that needs the same endpoints has them at once. */
    /* What was counted goes on, although the new version was used by nobody at first. */
    uint64_t total = rig_stat(&rig, "cluster.c.upstream_rq_total");
    assert_int_not_equal(total, 0);
    rig_put_ok(&rig, EDS("c", ", service_name: b}, lb_policy: RANDOM, metadata: {"));
    rig_run_ms(&rig, 1000);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_total"), total);
    rig_put_ok(&rig, EDS("c", ", service_name: b}, lb_policy: LEAST_REQUEST, metadata: {"));
    rig_run_ms(&rig, 1000);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_total"), total);
    rig_put_ok(&rig, EDS("c", ", service_name: b}, alt_stat_name: other, metadata: {"));
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    get("c", &q, 200);
    assert_string_equal(rig.wanted, " +a +b -a");
    assert_int_equal(rig_stat(&rig, "cluster.other.upstream_rq_total"), 1);
}

static void equal_bytes_change_nothing(void **state)
{
    struct req q;
    uint64_t conn;
    rig_put_ok(&rig, EDS("c", ""));
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", "")));
    get("c", &q, 200);
    conn = q.conn_id;
    rig_put_ok(&rig, EDS("c", ""));
    get("c", &q, 200);
    assert_int_equal(q.conn_id, conn);
    assert_string_equal(rig.wanted, " +c");
}

/* ---- hosts through updates ---- */

static void hosts_keep_their_identity(void **state)
{
    struct req q, held;
    b2->app = BACKEND_HOLD;
    rig_put_ok(&rig, EDS("c", ""));
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", "")));
    get("c", &q, 200);
    uint64_t conn = q.conn_id;
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", ", load_balancing_weight: 5, metadata: "
                                                   "{filter_metadata: {a: {b: c}}}")));
    get("c", &q, 200);
    assert_int_equal(q.conn_id, conn);
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.2", "")));
    req_start(&rig, &held, "c");
    rig_run_ms(&rig, 20);
    assert_true(held.ready);
    /* Its endpoint goes away under it: the stream ends in peace, its host can be looked at. */
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", "")));
    get("c", &q, 200);
    assert_string_equal(q.host_text, "10.0.1.1:80");
    rig_run_ms(&rig, 1000);
    assert_false(held.closed);
    const struct upstream_host_info *i = upstream_host_info(held.host);
    assert_true(sv_eq(i->addr_text, SV("10.0.1.2:80")));
    backend_answer_all(b2);
    rig_run_ms(&rig, 20);
    assert_int_equal(held.status, 200);
    assert_false(held.reset);
    assert_int_equal(b2->open_conns, 0);
    assert_true(sv_eq(upstream_host_info(held.host)->addr_text, SV("10.0.1.2:80")));
    upstream_host_result(held.host, UPSTREAM_OK, 200);
    req_end(&held);
}

/* Views of a host's info outlive the update that replaces it, while a handle is held. */
static void views_live_with_the_handle(void **state)
{
    struct req q;
    rig_put_ok(&rig, EDS("c", ""));
    for (int i = 0; i < 20; i++) {
        char cla[512];
        snprintf(cla, sizeof cla,
                 "{cluster_name: c, endpoints: [{locality: {zone: zone%d}, lb_endpoints: "
                 "[{endpoint: {hostname: h%d, address: {socket_address: {address: 10.0.1.1, "
                 "port_value: 80}}}}]}]}",
                 i, i);
        rig_endpoints_ok(&rig, cla);
        req_run(&rig, &q, "c");
        sv zone = upstream_host_info(q.host)->zone, name = upstream_host_info(q.host)->hostname;
        snprintf(cla, sizeof cla, "zone%d", i);
        assert_true(sv_eq_c(zone, cla));
        rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", ", metadata: {filter_metadata: {x: {}}}")));
        assert_true(sv_eq_c(zone, cla)); /* still there, under ASan */
        snprintf(cla, sizeof cla, "h%d", i);
        assert_true(sv_eq_c(name, cla));
        assert_int_equal(upstream_host_info(q.host)->zone.n, 0);
        assert_non_null(upstream_host_info(q.host)->metadata);
        req_end(&q);
    }
    assert_int_equal(b1->n_conns, 1);
}

static void removed_while_in_use(void **state)
{
    struct req held, late;
    b1->app = BACKEND_HOLD;
    rig_put_ok(&rig, "{name: c, load_assignment: " CLA("c", EP("10.0.1.1", "")) "}");
    req_start(&rig, &held, "c");
    rig_run_ms(&rig, 20);
    assert_int_equal(cluster_manager_remove(rig.cm, SV("c")), 0);
    rig_run_ms(&rig, 20);
    assert_null(upstream_find(rig.worker, SV("c")));
    assert_false(held.closed);
    assert_true(sv_eq(upstream_cluster_name(held.cluster), SV("c")));
    /* A retry on the handle it holds still works. */
    memset(&late, 0, sizeof late);
    late.rig = &rig;
    backend_answer_all(b1);
    rig_run_ms(&rig, 20);
    assert_int_equal(held.status, 200);
    assert_int_equal(b1->open_conns, 0);
    req_end(&held);
    rig_run_ms(&rig, 5);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_total"), 0); /* gone with the cluster */
}

static void churn_under_load(void **state)
{
    struct req q[40];
    int done = 0;
    rig_put_ok(&rig, EDS("c", ""));
    rig_endpoints_ok(&rig, CLA("c", EP("10.0.1.1", "") ", " EP("10.0.1.2", "")));
    for (int round = 0; round < 60; round++) {
        static const char *const sets[] = {
            CLA("c", EP("10.0.1.1", "")), CLA("c", EP("10.0.1.2", "")),
            CLA("c", EP("10.0.1.1", "") ", " EP("10.0.1.2", ", load_balancing_weight: 3")),
            CLA("c", EP("10.0.1.2", "") ", " EP("10.0.1.1", ", health_status: DRAINING"))};
        for (int i = 0; i < 40; i++) {
            req_start(&rig, &q[i], "c");
            if (i % 10 == 9)
                assert_int_equal(rig_endpoints(&rig, sets[(round + i / 10) % 4]), 0);
            if (i == 20 && round % 10 == 5) {
                char alt[160];
                snprintf(alt, sizeof alt,
                         "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, "
                         "connect_timeout: %ds}",
                         round + 1);
                assert_int_equal(rig_put(&rig, alt), 0);
            }
        }
        rig_run_ms(&rig, 30);
        for (int i = 0; i < 40; i++) {
            if (q[i].status != 200 || q[i].reset)
                fail_msg("round %d request %d: status %u failed %d why %d %s", round, i,
                         q[i].status, q[i].failed, (int)q[i].why, q[i].details);
            done++;
            req_end(&q[i]);
        }
    }
    assert_int_equal(done, 2400);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_active"), 0);
    rig_run_ms(&rig, 10);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"),
                     b1->open_conns + b2->open_conns);
}

/* ---- DNS and original destinations ---- */

#define DNS(type, name)                                                                            \
    "{name: c, type: " type ", dns_lookup_family: V4_ONLY, load_assignment: {cluster_name: c, "    \
    "endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: " name            \
    ", port_value: 80}}}}]}]}}"

static void strict_dns(void **state)
{
    struct req q;
    int seen[2] = {0};
    assert_int_equal(rig_put(&rig, DNS("STRICT_DNS", "two.test")), 0);
    assert_false(cluster_manager_warm(rig.cm, SV("c")));
    rig_run_ms(&rig, 5);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    for (int i = 0; i < 10; i++) {
        req_run(&rig, &q, "c");
        seen[strcmp(q.host_text, "10.0.1.1:80") == 0]++;
        assert_true(sv_eq(upstream_host_info(q.host)->hostname, SV("two.test")));
        req_end(&q);
    }
    assert_int_equal(seen[0], 5);
    assert_int_equal(seen[1], 5);
    rig_run_ms(&rig, 5100);
    assert_true(rig_stat(&rig, "cluster.c.update_attempt") >= 2);
    assert_true(rig_stat(&rig, "cluster.c.update_no_rebuild") >= 1);
}

static void dns_that_fails(void **state)
{
    struct req q;
    rig_put_ok(&rig, DNS("STRICT_DNS", "no.such.name"));
    rig_run_ms(&rig, 10);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    req_run(&rig, &q, "c");
    assert_int_equal(q.why, UPSTREAM_FAIL_NO_HOST);
    req_end(&q);
    assert_int_equal(cluster_manager_remove(rig.cm, SV("c")), 0);
}

static void logical_dns(void **state)
{
    struct req q;
    rig_put_ok(&rig, DNS("LOGICAL_DNS", "two.test"));
    rig_run_ms(&rig, 10);
    for (int i = 0; i < 4; i++)
        get("c", &q, 200);
    assert_string_equal(q.host_text, "10.0.1.2:80");
    assert_int_equal(b1->n_conns, 0);
}

static void original_destination(void **state)
{
    struct req q;
    rig_put_ok(&rig, "{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, "
                     "cleanup_interval: 1s, original_dst_lb_config: {use_http_header: true}}");
    req_run(&rig, &q, "c");
    assert_int_equal(q.why, UPSTREAM_FAIL_NO_HOST);
    req_end(&q);
    for (int i = 0; i < 4; i++) {
        q = (struct req){.ctx.original_dst = i & 1 ? &b1->addr : &b2->addr};
        req_go(&rig, &q, "c");
        rig_run_ms(&rig, 20);
        assert_int_equal(q.status, 200);
        assert_string_equal(q.host_text, i & 1 ? "10.0.1.1:80" : "10.0.1.2:80");
        req_end(&q);
    }
    assert_int_equal(b1->n_conns, 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_total"), 2);
    struct arena a;
    struct http_head h;
    arena_init(&a);
    http_head_init(&h, &a);
    http_headers_add(&h.h, SV("x-envoy-original-dst-host"), SV("10.0.1.1:80"));
    q = (struct req){.ctx = {.original_dst = &b2->addr, .request = &h}};
    req_go(&rig, &q, "c");
    rig_run_ms(&rig, 20);
    assert_string_equal(q.host_text, "10.0.1.1:80");
    req_end(&q);
    http_headers_set(&h.h, SV("x-envoy-original-dst-host"), SV("nonsense"));
    q = (struct req){.ctx = {.original_dst = &b2->addr, .request = &h}};
    req_go(&rig, &q, "c");
    assert_int_equal(q.why, UPSTREAM_FAIL_NO_HOST);
    req_end(&q);
    arena_free(&a);
    assert_int_equal(rig_stat(&rig, "cluster.c.original_dst_host_invalid"), 1);
    backend_close_all(b1, false);
    backend_close_all(b2, false);
    rig_run_ms(&rig, 3000);
    assert_int_equal(rig_stat(&rig, "cluster.c.membership_total"), 0);
}

/* ---- admin ---- */

static void dumps(void **state)
{
    struct strbuf out;
    struct req q;
    cluster_manager_set_static(rig.cm, true);
    rig_put_ok(&rig,
               "{name: s, alt_stat_name: alt, load_assignment: {cluster_name: s, endpoints: "
               "[{locality: {region: r, zone: z}, lb_endpoints: [" EP("10.0.1.1", "") "]}]}}");
    cluster_manager_set_static(rig.cm, false);
    rig_put_ok(&rig, EDS("d", ", service_name: svc"));
    rig_endpoints_ok(&rig, CLA("svc", EP("10.0.1.2", ", health_status: UNHEALTHY")));
    strbuf_init(&out, 1 << 20);
    cluster_manager_dump_text(rig.cm, &out);
    static const char *const lines[] = {
        "s::observability_name::alt\n",
        "s::default_priority::max_retries::3\n",
        "s::added_via_api::false\n",
        "s::10.0.1.1:80::rq_total::0\n",
        "s::10.0.1.1:80::region::r\n",
        "s::10.0.1.1:80::health_flags::healthy\n",
        "s::10.0.1.1:80::success_rate::-1\n",
        "d::added_via_api::true\nd::eds_service_name::svc\nd::10.0.1.2:80::cx_active::0\n",
        "d::10.0.1.2:80::health_flags::/failed_eds_health\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(out.p, lines[i]))
            fail_msg("no %s in\n%s", lines[i], out.p);
    assert_int_equal(rig_stat(&rig, "cluster.alt.membership_total"), 0); /* looking is no touch */
    get("s", &q, 200);
    strbuf_reset(&out);
    cluster_manager_dump_text(rig.cm, &out);
    assert_non_null(strstr(out.p, "s::10.0.1.1:80::rq_total::1\n"));
    assert_non_null(strstr(out.p, "s::10.0.1.1:80::cx_active::1\n"));
    strbuf_reset(&out);
    cluster_manager_dump_json(rig.cm, &out);
    assert_non_null(strstr(out.p, "\"observability_name\": \"alt\""));
    assert_non_null(strstr(out.p, "\"eds_health_status\": \"UNHEALTHY\""));
    strbuf_fini(&out);
    assert_int_not_equal(rig_put(&rig, "{name: s}"), 0);
    assert_non_null(strstr(rig.err.msg, "is static"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(refused_by_name),
        T(accepted),
        T(eds_warms_and_updates),
        T(warming_times_out),
        T(the_old_one_serves_while_the_new_one_warms),
        T(equal_bytes_change_nothing),
        T(hosts_keep_their_identity),
        T(views_live_with_the_handle),
        T(removed_while_in_use),
        T(churn_under_load),
        T(strict_dns),
        T(dns_that_fails),
        T(logical_dns),
        T(original_destination),
        T(dumps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
