#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "upstream/endpoint.h"
#include "upstream/testing_cla.h"

static struct endpoint_registry registry;
static struct test_cla cla;
static const struct endpoint_table_opts plain;

static int setup(void **state)
{
    endpoint_registry_init(&registry);
    test_cla_init(&cla);
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(map_len(&registry.infos), 0);
    assert_int_equal(map_len(&registry.states), 0);
    endpoint_registry_fini(&registry);
    test_cla_fini(&cla);
    return 0;
}

static void start_again(void)
{
    test_cla_fini(&cla);
    test_cla_init(&cla);
}

static void set_hostname(struct envoy_LbEndpoint *e, const char *name)
{
    ((struct envoy_Endpoint *)(uintptr_t)e->endpoint)->hostname = sv_of(name);
}

static void infos_outlive_updates(void **state)
{
    test_cla_add(&cla, "10.0.0.1:80", 1, "a", 0, 0);
    test_cla_add(&cla, "10.0.0.2:80", 1, "a", 0, 0);
    struct endpoint_table *t1 = endpoint_table_new(&registry, &cla.cla, &plain);
    start_again();
    test_cla_add(&cla, "10.0.0.2:80", 7, "a", 0, 0);
    test_cla_add(&cla, "10.0.0.3:80", 1, "a", 0, 0);
    struct endpoint_table *t2 = endpoint_table_new(&registry, &cla.cla, &plain);
    assert_ptr_equal(t1->v[1].info, t2->v[0].info); /* weight is the table's */
    assert_int_equal(t2->v[0].weight, 7);
    endpoint_table_free(t1);
    assert_int_equal(map_len(&registry.infos), 2);
    assert_true(sv_eq(t2->v[0].info->addr_text, SV("10.0.0.2:80")));
    assert_true(sv_eq(t2->localities[0].zone, SV("a")));
    endpoint_table_free(t2);
}

static void other_content_other_info_same_state(void **state)
{
    test_cla_add(&cla, "10.0.0.1:80", 1, "a", 0, 0);
    struct endpoint_table *t1 = endpoint_table_new(&registry, &cla.cla, &plain);
    start_again();
    set_hostname(test_cla_add(&cla, "10.0.0.1:80", 1, "a", 0, 0), "h");
    struct endpoint_table *t2 = endpoint_table_new(&registry, &cla.cla, &plain);
    assert_ptr_not_equal(t1->v[0].info, t2->v[0].info);
    assert_ptr_equal(t1->v[0].info->state, t2->v[0].info->state);
    endpoint_info_ref(t1->v[0].info); /* somebody still looks at the old one */
    struct endpoint_info *old = t1->v[0].info;
    endpoint_table_free(t1);
    assert_int_equal(old->hostname.n, 0);
    endpoint_info_unref(old);
    assert_true(sv_eq(t2->v[0].info->hostname, SV("h")));
    endpoint_table_free(t2);
}

static void an_address_may_count_once(void **state)
{
    struct endpoint_table_opts once = {.dedupe = true};
    test_cla_add(&cla, "10.0.0.1:80", 3, "a", 0, 0);
    test_cla_add(&cla, "10.0.0.1:80", 5, "b", 0, 1);
    struct endpoint_table *t = endpoint_table_new(&registry, &cla.cla, &once);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->v[0].weight, 3);
    endpoint_table_free(t);
    t = endpoint_table_new(&registry, &cla.cla, &plain);
    assert_int_equal(t->n, 2);
    assert_ptr_equal(t->v[0].info->state, t->v[1].info->state);
    endpoint_table_free(t);
}

static void order_of_priorities_and_localities(void **state)
{
    test_cla_add(&cla, "10.0.0.1:80", 1, "z", 5, 1);
    test_cla_add(&cla, "10.0.0.2:80", 1, "y", 6, 0);
    test_cla_add(&cla, "10.0.0.3:80", 1, "x", 7, 0);
    test_cla_add(&cla, "10.0.0.4:80", 1, "y", 6, 0);
    struct endpoint_table *t = endpoint_table_new(&registry, &cla.cla, &plain);
    assert_int_equal(t->n_priorities, 2);
    assert_int_equal(t->n_localities, 3);
    assert_true(sv_eq(t->localities[0].zone, SV("x")));
    assert_true(sv_eq(t->localities[1].zone, SV("y")));
    assert_int_equal(t->localities[1].n, 2);
    assert_int_equal(t->localities[2].priority, 1);
    /* By priority, then as they were listed. */
    assert_int_equal(addr_port(&t->v[0].info->addr), 80);
    assert_true(sv_eq(t->v[0].info->addr_text, SV("10.0.0.2:80")));
    assert_true(sv_eq(t->v[2].info->addr_text, SV("10.0.0.3:80")) ||
                sv_eq(t->v[1].info->addr_text, SV("10.0.0.3:80")));
    assert_true(sv_eq(t->v[3].info->addr_text, SV("10.0.0.1:80")));
    endpoint_table_free(t);
}

static void a_logical_endpoint_keeps_its_state(void **state)
{
    struct endpoint_table_opts logical = {.logical = true};
    test_cla_add(&cla, "10.0.0.1:80", 1, "", 0, 0);
    struct endpoint_table *t1 = endpoint_table_new(&registry, &cla.cla, &logical);
    start_again();
    test_cla_add(&cla, "10.0.0.9:80", 1, "", 0, 0);
    struct endpoint_table *t2 = endpoint_table_new(&registry, &cla.cla, &logical);
    assert_ptr_not_equal(t1->v[0].info, t2->v[0].info);
    assert_ptr_equal(t1->v[0].info->state, t2->v[0].info->state);
    endpoint_table_free(t1);
    endpoint_table_free(t2);
}

static void adhoc(void **state)
{
    struct addr a;
    assert_int_equal(addr_parse(&a, SV("[2001:db8::1]:443")), 0);
    struct endpoint_info *i = endpoint_info_adhoc(&registry, &a, 0);
    struct endpoint_info *k = endpoint_info_adhoc(&registry, &a, 0);
    assert_ptr_equal(i, k);
    assert_true(sv_eq(i->addr_text, SV("[2001:db8::1]:443")));
    endpoint_info_unref(i);
    endpoint_info_unref(k);
}

static void metadata(void **state)
{
    struct arena *a = &cla.arena;
    struct google_Value v = {.which_kind = google_Value_string_value_tag, .string_value = SV("k")};
    struct google_Value yes = {.which_kind = google_Value_bool_value_tag, .bool_value = true};
    const struct google_Struct_FieldsEntry f1 = {.key = SV("hash_key"), .value = &v},
                                           f2 = {.key = SV("canary"), .value = &yes};
    const struct google_Struct_FieldsEntry *fields[] = {&f1, &f2};
    struct google_Struct s = {.fields = {fields, 2}};
    struct envoy_Metadata_FilterMetadataEntry entry = {.key = SV("envoy.lb"), .value = &s};
    const struct envoy_Metadata_FilterMetadataEntry *entries[] = {&entry};
    struct envoy_Metadata *m = arena_new(a, struct envoy_Metadata);
    m->filter_metadata.v = entries;
    m->filter_metadata.n = 1;
    test_cla_add(&cla, "10.0.0.1:80", 1, "", 0, 0)->metadata = m;
    struct endpoint_table *t = endpoint_table_new(&registry, &cla.cla, &plain);
    start_again(); /* the info holds its own */
    const struct endpoint_info *i = t->v[0].info;
    assert_true(sv_eq(i->hash_key, SV("k")));
    assert_true(i->canary);
    assert_non_null(i->metadata);
    assert_true(sv_eq(i->metadata->filter_metadata.v[0]->key, SV("envoy.lb")));
    endpoint_table_free(t);
}

static void checking(void **state)
{
    struct error err = {0};
    struct envoy_LbEndpoint *e = test_cla_add(&cla, "10.0.0.1:80", 1, "", 0, 0);
    assert_int_equal(endpoint_check(&cla.cla, false, "p", &err), 0);
    struct envoy_SocketAddress *s =
        (struct envoy_SocketAddress *)(uintptr_t)e->endpoint->address->socket_address;
    s->protocol = envoy_SocketAddress_UDP;
    assert_int_equal(endpoint_check(&cla.cla, false, "p", &err), E_UNSUPPORTED);
    s->protocol = envoy_SocketAddress_TCP;
    s->port_value = 65536;
    assert_int_equal(endpoint_check(&cla.cla, false, "p", &err), E_INVALID);
    assert_string_equal(err.msg, "p.endpoints[0].lb_endpoints[0].endpoint.address.socket_address."
                                 "port_value: 65536 is no port");
    s->port_value = 80;
    ((struct envoy_LocalityLbEndpoints *)(uintptr_t)cla.localities[0])->priority = 129;
    assert_int_equal(endpoint_check(&cla.cla, false, "p", &err), E_INVALID);
    start_again();
    test_cla_add(&cla, "10.0.0.1:80", UINT32_MAX, "", 0, 0);
    test_cla_add(&cla, "10.0.0.2:80", UINT32_MAX, "", 0, 0);
    assert_int_equal(endpoint_check(&cla.cla, false, "p", &err), E_INVALID);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(infos_outlive_updates),
        T(other_content_other_info_same_state),
        T(an_address_may_count_once),
        T(order_of_priorities_and_localities),
        T(a_logical_endpoint_keeps_its_state),
        T(adhoc),
        T(metadata),
        T(checking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
