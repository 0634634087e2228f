#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "upstream/lb/priority_load.h"

#define N(a) (sizeof(a) / sizeof *(a))

static struct priority_hosts hosts(uint32_t total, uint32_t healthy, uint32_t degraded)
{
    return (struct priority_hosts){.hosts = total,
                                   .healthy = healthy,
                                   .degraded = degraded,
                                   .healthy_weight = healthy,
                                   .degraded_weight = degraded,
                                   .total_weight = total};
}

/* Percent healthy at two priorities -> load: the table of Envoy's manual (overprovisioning 1.4). */
static void spills_to_the_next_priority(void **state)
{
    static const struct {
        uint32_t p0, p1, load0, load1;
    } cases[] = {
        {100, 100, 100, 0}, {72, 72, 100, 0}, {71, 71, 99, 1},  {50, 50, 70, 30},
        {25, 100, 35, 65},  {25, 25, 50, 50}, {0, 100, 0, 100}, {5, 65, 8, 92},
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct priority_hosts in[] = {hosts(100, cases[i].p0, 0), hosts(100, cases[i].p1, 0)};
        struct priority_load out[2];
        priority_load_compute(in, 2, 140, 0, out);
        assert_int_equal(out[0].healthy, cases[i].load0);
        assert_int_equal(out[1].healthy, cases[i].load1);
    }
}

static void three_priorities(void **state)
{
    static const uint32_t cases[][6] = {{100, 100, 100, 100, 0, 0}, {72, 72, 100, 100, 0, 0},
                                        {71, 71, 100, 99, 1, 0},    {50, 50, 100, 70, 30, 0},
                                        {25, 25, 100, 35, 35, 30},  {25, 25, 20, 37, 35, 28}};
    for (size_t i = 0; i < N(cases); i++) {
        struct priority_hosts in[3];
        struct priority_load out[3];
        for (int k = 0; k < 3; k++)
            in[k] = hosts(100, cases[i][k], 0);
        priority_load_compute(in, 3, 140, 0, out);
        for (int k = 0; k < 3; k++)
            assert_int_equal(out[k].healthy, cases[i][3 + k]);
    }
}

static void degraded_after_healthy(void **state)
{
    struct priority_hosts in[] = {hosts(100, 5, 0), hosts(100, 0, 100)};
    struct priority_load out[2];
    priority_load_compute(in, 2, 140, 0, out);
    assert_int_equal(out[0].healthy, 7);
    assert_int_equal(out[1].healthy, 0);
    assert_int_equal(out[1].degraded, 93);
    struct priority_hosts mixed[] = {hosts(100, 25, 25), hosts(100, 30, 0)};
    priority_load_compute(mixed, 2, 140, 0, out);
    assert_int_equal(out[0].healthy + out[1].healthy + out[0].degraded + out[1].degraded, 100);
    assert_true(out[0].degraded > 0);
}

static void panic_only_when_all_together_are_short(void **state)
{
    struct priority_hosts in[] = {hosts(10, 2, 0), hosts(10, 10, 0)};
    struct priority_load out[2];
    priority_load_compute(in, 2, 140, 50, out);
    assert_false(out[0].panic); /* priority 1 carries the rest */
    in[1] = hosts(10, 4, 0);
    priority_load_compute(in, 2, 140, 50, out);
    assert_true(out[0].panic);
    assert_true(out[1].panic);
    assert_int_equal(out[0].healthy, 50); /* by the number of hosts */
    assert_int_equal(out[1].healthy, 50);
    in[1] = hosts(30, 0, 0);
    priority_load_compute(in, 2, 140, 50, out);
    assert_int_equal(out[0].healthy, 25);
    assert_int_equal(out[1].healthy, 75);
}

static void panic_threshold_zero_disables_it(void **state)
{
    struct priority_hosts in[] = {hosts(4, 1, 0)};
    struct priority_load out[1];
    priority_load_compute(in, 1, 140, 0, out);
    assert_false(out[0].panic);
    assert_int_equal(out[0].healthy, 100);
    in[0] = hosts(4, 0, 0);
    priority_load_compute(in, 1, 140, 0, out);
    assert_false(out[0].panic);
    assert_int_equal(out[0].healthy, 100);
}

static void no_hosts_at_all(void **state)
{
    struct priority_hosts in[] = {hosts(0, 0, 0), hosts(0, 0, 0)};
    struct priority_load out[2];
    priority_load_compute(in, 2, 140, 50, out);
    assert_int_equal(out[0].healthy, 100);
    assert_int_equal(out[1].healthy, 0);
}

static void choosing_follows_the_loads(void **state)
{
    struct priority_load v[] = {{.healthy = 30}, {.healthy = 50, .degraded = 20}};
    uint32_t count[3] = {0};
    for (uint64_t h = 0; h < 1000; h++) {
        bool degraded;
        uint32_t p = priority_load_choose(v, 2, h, &degraded);
        count[degraded ? 2 : p]++;
        if (degraded)
            assert_int_equal(p, 1);
    }
    assert_int_equal(count[0], 300);
    assert_int_equal(count[1], 500);
    assert_int_equal(count[2], 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spills_to_the_next_priority),
        cmocka_unit_test(three_priorities),
        cmocka_unit_test(degraded_after_healthy),
        cmocka_unit_test(panic_only_when_all_together_are_short),
        cmocka_unit_test(panic_threshold_zero_disables_it),
        cmocka_unit_test(no_hosts_at_all),
        cmocka_unit_test(choosing_follows_the_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
