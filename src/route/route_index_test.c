#include "route/route_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define MANY 10000

static struct arena a;

/* As a mesh names its services: each by four exact names, its pods by a suffix. */
static void fill(struct route_index *x, uint32_t hosts)
{
    static const char *const forms[] = {"svc%u.ns%u.svc.cluster.local", "svc%u.ns%u.svc",
                                        "svc%u.ns%u", "svc%u.ns%u.svc.cluster.local:8080"};
    route_index_init(x);
    for (uint32_t i = 0; i < hosts; i++) {
        for (unsigned k = 0; k < sizeof forms / sizeof *forms; k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            sv name = arena_printf(&a, forms[k], i + 10000, i % 100 + 100);
#pragma GCC diagnostic pop
            assert_int_equal(route_index_add(x, DOMAIN_EXACT, name, i), ROUTE_INDEX_NONE);
        }
        sv suffix = arena_printf(&a, ".svc%u.ns%u.pods.local", i + 10000, i % 100 + 100);
        assert_int_equal(route_index_add(x, DOMAIN_SUFFIX, suffix, i), ROUTE_INDEX_NONE);
    }
    assert_int_equal(route_index_add(x, DOMAIN_ANY, SV(""), hosts), ROUTE_INDEX_NONE);
}

struct cost {
    double exact, wildcard, none;
};

/* Mean numbers of entries looked at over `looks` hosts of the table. */
static struct cost cost_of(const struct route_index *x, uint32_t hosts, uint32_t looks)
{
    struct cost c = {0};
    for (uint32_t i = 0; i < looks; i++) {
        uint32_t h = i % hosts;
        sv exact = arena_printf(&a, "svc%u.ns%u.svc.cluster.local", h + 10000, h % 100 + 100);
        sv pod = arena_printf(&a, "pod%u.svc%u.ns%u.pods.local", i, h + 10000, h % 100 + 100);
        sv other = arena_printf(&a, "other%u.example.com", i);
        assert_int_equal(route_index_find(x, exact, NULL), h);
        assert_int_equal(route_index_find(x, pod, NULL), h);
        assert_int_equal(route_index_find(x, other, NULL), hosts);
        c.exact += route_index_probes(x, exact);
        c.wildcard += route_index_probes(x, pod);
        c.none += route_index_probes(x, other);
    }
    return (struct cost){c.exact / looks, c.wildcard / looks, c.none / looks};
}

/* A table of 10,000 hosts is searched as one of one host is: what a half full open-addressed table
 * costs, whatever its size (a look-up that fails ends at the first free slot). */
static void the_number_of_hosts_costs_nothing(void **state)
{
    struct route_index one, many;
    fill(&one, 1);
    fill(&many, MANY);
    struct cost c1 = cost_of(&one, 1, MANY), c = cost_of(&many, MANY, MANY);
    assert_true(c1.exact >= 1 && c1.exact <= 5);
    assert_true(c.exact >= 1 && c.exact <= 2.5);
    assert_true(c.wildcard >= 1 && c.wildcard <= 6);
    assert_true(c.none <= 10);
    route_index_fini(&one);
    route_index_fini(&many);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_number_of_hosts_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
