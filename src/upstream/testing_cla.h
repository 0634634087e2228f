/* For tests of this room: assignments written in a line each.
 *
 *   struct test_cla c;
 *   test_cla_init(&c);
 *   test_cla_add(&c, "127.0.0.1:80", 1, "zone-a", 0, 0);   weight, zone, locality weight, priority
 *   endpoint_table_new(&registry, &c.cla, &opts);
 *   test_cla_fini(&c);
 *
 * Thread: the test's. */
#ifndef WEFT_UPSTREAM_TESTING_CLA_H
#define WEFT_UPSTREAM_TESTING_CLA_H

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "base/arena.h"
#include "net/addr.h"

#define TEST_CLA_MAX 1024

struct test_cla {
    struct arena arena;
    struct envoy_ClusterLoadAssignment cla;
    const struct envoy_LocalityLbEndpoints *localities[TEST_CLA_MAX];
};

static inline void test_cla_init(struct test_cla *c)
{
    memset(c, 0, sizeof *c);
    arena_init(&c->arena);
    c->cla.endpoints.v = c->localities;
    c->cla.cluster_name = SV("test");
}

static inline void test_cla_fini(struct test_cla *c)
{
    arena_free(&c->arena);
}

static inline const struct google_UInt32Value *test_u32(struct arena *a, uint32_t v)
{
    struct google_UInt32Value *w = arena_new(a, struct google_UInt32Value);
    w->value = v;
    return w;
}

static inline struct envoy_LocalityLbEndpoints *
test_cla_locality(struct test_cla *c, sv zone, uint32_t weight, uint32_t priority)
{
    for (uint32_t i = 0; i < c->cla.endpoints.n; i++)
        if (sv_eq(c->localities[i]->locality->zone, zone) && c->localities[i]->priority == priority)
            return (struct envoy_LocalityLbEndpoints *)c->localities[i];
    struct envoy_LocalityLbEndpoints *l = arena_new(&c->arena, struct envoy_LocalityLbEndpoints);
    struct envoy_Locality *where = arena_new(&c->arena, struct envoy_Locality);
    where->zone = zone;
    l->locality = where;
    l->priority = priority;
    l->load_balancing_weight = weight ? test_u32(&c->arena, weight) : NULL;
    l->lb_endpoints.v = arena_array(&c->arena, const struct envoy_LbEndpoint *, TEST_CLA_MAX);
    c->localities[c->cla.endpoints.n++] = l;
    return l;
}

/* The endpoint, for what the line does not say (health, metadata, host name). */
static inline struct envoy_LbEndpoint *test_cla_add(struct test_cla *c, const char *ip_port,
                                                    uint32_t weight, const char *zone,
                                                    uint32_t locality_weight, uint32_t priority)
{
    struct arena *a = &c->arena;
    struct envoy_LocalityLbEndpoints *l =
        test_cla_locality(c, sv_of(zone), locality_weight, priority);
    struct envoy_SocketAddress *s = arena_new(a, struct envoy_SocketAddress);
    sv host, port;
    uint64_t n = 0;
    ptrdiff_t colon = sv_rfind(sv_of(ip_port), ':');
    host = sv_first(sv_of(ip_port), (size_t)colon);
    port = sv_from(sv_of(ip_port), (size_t)colon + 1);
    (void)sv_to_u64(port, &n);
    s->address = arena_sv(a, host);
    s->which_port_specifier = envoy_SocketAddress_port_value_tag;
    s->port_value = (uint32_t)n;
    struct envoy_Address *addr = arena_new(a, struct envoy_Address);
    addr->which_address = envoy_Address_socket_address_tag;
    addr->socket_address = s;
    struct envoy_Endpoint *ep = arena_new(a, struct envoy_Endpoint);
    ep->address = addr;
    struct envoy_LbEndpoint *e = arena_new(a, struct envoy_LbEndpoint);
    e->which_host_identifier = envoy_LbEndpoint_endpoint_tag;
    e->endpoint = ep;
    e->load_balancing_weight = weight != 1 ? test_u32(a, weight) : NULL;
    l->lb_endpoints.v[l->lb_endpoints.n++] = e;
    return e;
}

#endif
