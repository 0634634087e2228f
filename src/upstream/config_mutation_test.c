/* Whatever bytes a control plane sends: configuration is taken or refused with a sentence, and
 * nothing else happens. Valid messages are mutated at random; what is taken is used for a while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "api/envoy.pb.h"
#include "upstream/testing_rig.h"

#define TLS                                                                                        \
    "transport_socket: {name: tls, typed_config: {'@type': "                                       \
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: a, "   \
    "common_tls_context: {alpn_protocols: [h2], tls_certificate_sds_secret_configs: [{name: d}], " \
    "validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {safe_regex: "  \
    "{regex: 'a.*'}}}]}}}}"

static const char *const clusters[] = {
    "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}, service_name: s}, "
    "lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 16}, circuit_breakers: "
    "{thresholds: [{max_connections: 5, retry_budget: {}}]}, outlier_detection: {interval: 1s}}",
    "{name: c, load_assignment: {cluster_name: c, endpoints: [{locality: {zone: z}, priority: 1, "
    "load_balancing_weight: 3, lb_endpoints: [{endpoint: {hostname: h, address: {socket_address: "
    "{address: 10.0.1.1, port_value: 80}}}, metadata: {filter_metadata: {envoy.lb: {a: [1, true, "
    "{b: c}]}}}}]}]}, common_lb_config: {locality_weighted_lb_config: {}}, " TLS "}",
    "{name: c, type: STRICT_DNS, load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: "
    "[{endpoint: {address: {socket_address: {address: one.test, port_value: 80}}}}]}]}, "
    "typed_extension_protocol_options: "
    "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
    "explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 5}}}}}",
    "{name: c, load_balancing_policy: {policies: [{typed_extension_config: {name: m, "
    "typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.maglev."
    "v3.Maglev, table_size: 13}}}]}, health_checks: [{timeout: 1s, interval: 1s, "
    "unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /a}}], "
    "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: "
    "{socket_address: {address: 10.0.1.1, port_value: 80}}}}]}]}}",
};
static const char *const assignments[] = {
    "{cluster_name: s, policy: {overprovisioning_factor: 120}, endpoints: [{locality: {region: r, "
    "zone: z}, priority: 2, load_balancing_weight: 9, lb_endpoints: [{endpoint: {address: "
    "{socket_address: {address: 10.0.1.1, port_value: 80}}, health_check_config: {port_value: "
    "99}}, health_status: DEGRADED, load_balancing_weight: 4}]}, {lb_endpoints: [{endpoint: "
    "{address: {pipe: {path: /tmp/x}}}}]}]}",
};

static size_t mutate(struct rand_state *r, char *p, size_t n, size_t cap)
{
    for (uint64_t k = rand_below(r, 4); k > 0 && n > 0; k--) {
        size_t at = rand_below(r, n);
        switch (rand_below(r, 4)) {
        case 0:
            p[at] = (char)rand_below(r, 256);
            break;
        case 1:
            p[at] ^= (char)(1 << rand_below(r, 8));
            break;
        case 2: /* cut out */
            memmove(p + at, p + at + 1, n - at - 1);
            n--;
            break;
        case 3: /* twice */
            if (n < cap) {
                memmove(p + at + 1, p + at, n - at);
                n++;
            }
            break;
        }
    }
    return n;
}

static void mutations(void **state)
{
    struct rig r;
    struct arena a;
    struct rand_state rand;
    unsigned taken = 0, refused = 0;
    rig_init(&r, 1);
    rig_start(&r);
    arena_init(&a);
    rand_seed(&rand, 99);
    for (int i = 0; i < 12000; i++) {
        bool cla = i % 3 == 2;
        const struct pb_message *m = cla ? &envoy_ClusterLoadAssignment_pb : &envoy_Cluster_pb;
        const char *yaml = cla ? assignments[0] : clusters[rand_below(&rand, 4)];
        struct error err = {0};
        void *msg;
        char bytes[2048];
        assert_int_equal(pb_from_text(m, sv_of(yaml), "t", &a, NULL, &msg, &err), 0);
        sv packed = pb_encode_arena(m, msg, &a);
        assert_true(packed.n < sizeof bytes);
        memcpy(bytes, packed.p, packed.n);
        size_t n = mutate(&rand, bytes, packed.n, sizeof bytes);
        /* On the heap, so that reading past it is seen. */
        char *exact = malloc(n ? n : 1);
        memcpy(exact, bytes, n);
        int rc = cla ? cluster_manager_endpoints(r.cm, sv_make(exact, n), &err)
                     : cluster_manager_put(r.cm, sv_make(exact, n), &err);
        free(exact);
        if (rc == 0) {
            taken++;
        } else {
            refused++;
            assert_true(err.msg[0] != 0);
        }
        if (i % 50 == 49) {
            struct req q;
            rig_run_ms(&r, 5);
            struct upstream_cluster *c = upstream_find(r.worker, SV("c"));
            if (c) {
                upstream_cluster_unref(c);
                req_start(&r, &q, "c");
                rig_run_ms(&r, 5);
                req_end(&q);
            }
            if (i % 500 == 499)
                (void)cluster_manager_remove(r.cm, SV("c"));
        }
        arena_free(&a);
    }
    arena_free(&a);
    rig_fini(&r);
    assert_true(taken > 500);
    assert_true(refused > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
