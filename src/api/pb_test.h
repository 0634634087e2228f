/* Shared by the tests of src/api: an arena and an error per test, and a cluster with a bit of
 * everything in it. Include it once per test program. */
#ifndef WEFT_API_PB_TEST_H
#define WEFT_API_PB_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"

static struct arena a;
static struct error err;

static int setup(void **state)
{
    (void)state;
    arena_init(&a);
    err = (struct error){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&a);
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#define BYTES(...)                                                                                 \
    sv_make((const char *)(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Decodes from a block of exactly the size, so that a read past its end is seen. The block stays
 * until the arena goes, since the message has views into it. */
static inline int decode(const struct pb_message *m, sv bytes, const struct pb_opts *o, void **out)
{
    char *copy = malloc(bytes.n ? bytes.n : 1);
    if (bytes.n)
        memcpy(copy, bytes.p, bytes.n);
    arena_on_free(&a, free, copy);
    return pb_decode(m, sv_make(copy, bytes.n), &a, o, out, &err);
}

/* STATIC (zero, but set) with a timeout, two endpoints and a map of three entries. */
static inline struct envoy_Cluster *sample_cluster(void)
{
    static const struct google_Duration timeout = {.seconds = 1, .nanos = 500000000};
    static const struct google_UInt32Value limit = {.value = 32768};
    static const struct envoy_SocketAddress socket = {.address = SV_INIT("10.0.0.1"),
                                                      .which_port_specifier =
                                                          envoy_SocketAddress_port_value_tag,
                                                      .port_value = 8080};
    static const struct envoy_Address address = {.which_address = envoy_Address_socket_address_tag,
                                                 .socket_address = &socket};
    static const struct envoy_Endpoint endpoint = {.address = &address};
    static const struct envoy_LbEndpoint lb[2] = {
        {.which_host_identifier = envoy_LbEndpoint_endpoint_tag, .endpoint = &endpoint},
        {.which_host_identifier = envoy_LbEndpoint_endpoint_name_tag,
         .endpoint_name = SV_INIT(""),
         .health_status = envoy_HealthStatus_DRAINING}};
    static const struct envoy_LbEndpoint *lbs[2] = {&lb[0], &lb[1]};
    static const struct envoy_LocalityLbEndpoints locality = {.lb_endpoints = {lbs, 2}};
    static const struct envoy_LocalityLbEndpoints *localities[1] = {&locality};
    static const struct envoy_ClusterLoadAssignment load = {.cluster_name = SV_INIT("c"),
                                                            .endpoints = {localities, 1}};
    static const struct google_Any any = {.type_url = SV_INIT("x/y"), .value = SV_INIT("\0\xff")};
    static const struct envoy_Cluster_TypedExtensionProtocolOptionsEntry entries[3] = {
        {SV_INIT("b"), &any}, {SV_INIT("a"), &any}, {SV_INIT("aa"), &any}};
    static const struct envoy_Cluster_TypedExtensionProtocolOptionsEntry *order[3] = {
        &entries[0], &entries[1], &entries[2]};
    struct envoy_Cluster *c = arena_new(&a, struct envoy_Cluster);
    c->name = SV("outbound|80||a.b.svc");
    c->which_cluster_discovery_type = envoy_Cluster_type_tag;
    c->type = envoy_Cluster_STATIC;
    c->connect_timeout = &timeout;
    c->per_connection_buffer_limit_bytes = &limit;
    c->load_assignment = &load;
    c->typed_extension_protocol_options.v = order;
    c->typed_extension_protocol_options.n = 3;
    c->lb_policy = envoy_Cluster_MAGLEV;
    return c;
}

#endif
