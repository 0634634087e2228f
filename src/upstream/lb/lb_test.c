#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "upstream/lb/hash.h"
#include "upstream/testing_lb.h"

static void start(struct fixture *f, const struct lb_policy *policy)
{
    fixture_init(f, policy, 42);
    lb_init(&f->lb, &f->cfg, &f->rand);
}

static void add_n(struct fixture *f, int n)
{
    char a[32];
    for (int i = 0; i < n; i++) {
        snprintf(a, sizeof a, "127.0.0.1:%d", 90 + i);
        test_cla_add(&f->cla, a, 1, "", 0, 0);
    }
    build(f);
}

static void picks(struct fixture *f, int n)
{
    struct lb_ask ask = {0};
    pick(f, &ask, n);
}

static uint64_t test_now(const void *clock)
{
    return *(const uint64_t *)clock;
}

/* Four endpoints that have been there for long, and then a fifth. */
static void warm_up(struct fixture *f, const struct lb_policy *policy, uint64_t *now)
{
    start(f, policy);
    *now = 1000;
    f->cfg.slow_start_ms = 10000;
    f->lb.now_ms = test_now;
    f->lb.clock = now;
    add_n(f, 4);
    *now += 20000;
    test_cla_add(&f->cla, "127.0.0.1:99", 1, "", 0, 0);
    build(f);
}

static void new_endpoints_warm_up(void **state)
{
    struct fixture f;
    uint64_t now;
    warm_up(&f, &lb_round_robin, &now);
    picks(&f, 4100); /* a tenth of the weight of the others */
    assert_in_range(f.count[4], 80, 120);
    now += 5000; /* half of it */
    picks(&f, 4500);
    assert_in_range(f.count[4], 480, 520);
    now += 5000;
    picks(&f, 5000);
    assert_in_range(f.count[4], 980, 1020);
    build(&f); /* known already: it does not begin again */
    picks(&f, 5000);
    assert_int_equal(f.count[4], 1000);
    finish(&f);
}

static void slow_start_bends(void **state)
{
    struct fixture f;
    uint64_t now;
    warm_up(&f, &lb_least_request, &now);
    f.cfg.slow_start_aggression = 2.0;
    now += 2500; /* the root of a quarter is a half */
    picks(&f, 4500);
    assert_in_range(f.count[4], 440, 560);
    f.cfg.slow_start_min = 1.0;
    picks(&f, 5000);
    assert_in_range(f.count[4], 950, 1050);
    finish(&f);
}

static void all_new_endpoints_are_equal(void **state)
{
    struct fixture f;
    uint64_t now = 5;
    start(&f, &lb_round_robin);
    f.cfg.slow_start_ms = 10000;
    f.lb.now_ms = test_now;
    f.lb.clock = &now;
    add_n(&f, 4);
    picks(&f, 400);
    for (int i = 0; i < 4; i++)
        assert_int_equal(f.count[i], 100);
    finish(&f);
}

static void spent_priorities_are_passed_over(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    test_cla_add(&f.cla, "127.0.0.1:80", 1, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:81", 1, "", 0, 1);
    test_cla_add(&f.cla, "127.0.0.1:82", 1, "", 0, 2);
    build(&f);
    struct lb_ask ask = {0};
    assert_int_equal(f.table->v[lb_pick(&f.lb, &ask)].priority, 0);
    ask.spent_priorities = 1;
    assert_int_equal(f.table->v[lb_pick(&f.lb, &ask)].priority, 1);
    ask.spent_priorities = 3;
    assert_int_equal(f.table->v[lb_pick(&f.lb, &ask)].priority, 2);
    ask.spent_priorities = 7; /* nobody is left: as if none were */
    assert_int_equal(f.table->v[lb_pick(&f.lb, &ask)].priority, 0);
    ask.spent_priorities = 1;
    set_flag(&f, 1, ENDPOINT_FAILED_ACTIVE_HC);
    assert_int_equal(f.table->v[lb_pick(&f.lb, &ask)].priority, 2);
    finish(&f);
}

static void round_robin_takes_turns(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    add_n(&f, 4);
    picks(&f, 4000);
    for (int i = 0; i < 4; i++)
        assert_int_equal(f.count[i], 1000);
    struct lb_ask ask = {0};
    uint32_t a = lb_pick(&f.lb, &ask);
    for (int i = 1; i < 9; i++)
        assert_int_equal(lb_pick(&f.lb, &ask), (a + (uint32_t)i) % 4);
    finish(&f);
}

static void round_robin_keeps_weights(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    test_cla_add(&f.cla, "127.0.0.1:90", 1, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:91", 2, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:92", 7, "", 0, 0);
    build(&f);
    picks(&f, 10000);
    assert_in_range(f.count[0], 998, 1002);
    assert_in_range(f.count[1], 1998, 2002);
    assert_in_range(f.count[2], 6998, 7002);
    finish(&f);
}

static void random_is_even_and_ignores_weights(void **state)
{
    struct fixture f;
    start(&f, &lb_random);
    test_cla_add(&f.cla, "127.0.0.1:90", 1, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:91", 9, "", 0, 0);
    build(&f);
    picks(&f, 10000);
    assert_in_range(f.count[0], 4750, 5250);
    finish(&f);
}

static void least_request_prefers_the_idle(void **state)
{
    struct fixture f;
    start(&f, &lb_least_request);
    add_n(&f, 2);
    atomic_store(&f.table->v[0].info->state->rq_active, 5);
    picks(&f, 4000);
    /* The busy one only when both choices fall on it. */
    assert_in_range(f.count[0], 900, 1100);
    f.cfg.full_scan = true;
    picks(&f, 100);
    assert_int_equal(f.count[0], 0);
    finish(&f);
}

static void least_request_full_scan_breaks_ties_evenly(void **state)
{
    struct fixture f;
    start(&f, &lb_least_request);
    f.cfg.full_scan = true;
    add_n(&f, 4);
    picks(&f, 8000);
    for (int i = 0; i < 4; i++)
        assert_in_range(f.count[i], 1850, 2150);
    finish(&f);
}

static void least_request_weights_and_load(void **state)
{
    struct fixture f;
    start(&f, &lb_least_request);
    test_cla_add(&f.cla, "127.0.0.1:90", 1, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:91", 3, "", 0, 0);
    build(&f);
    picks(&f, 4000);
    assert_in_range(f.count[1], 2990, 3010);
    /* Three requests under way leave the heavy one with 3/4 of weight. */
    atomic_store(&f.table->v[1].info->state->rq_active, 3);
    picks(&f, 7000);
    assert_in_range(f.count[1], 2950, 3050);
    f.cfg.active_request_bias = 0;
    picks(&f, 4000);
    assert_in_range(f.count[1], 2950, 3050);
    finish(&f);
}

static void unhealthy_are_left_out_until_panic(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    add_n(&f, 4);
    set_flag(&f, 1, ENDPOINT_FAILED_ACTIVE_HC);
    picks(&f, 3000);
    assert_int_equal(f.count[1], 0);
    assert_int_equal(f.count[0], 1000);
    set_flag(&f, 2, ENDPOINT_FAILED_OUTLIER);
    picks(&f, 1000);
    assert_int_equal(f.count[1] + f.count[2], 0); /* exactly half: no panic */
    set_flag(&f, 3, ENDPOINT_FAILED_ACTIVE_HC);
    picks(&f, 4000);
    for (int i = 0; i < 4; i++)
        assert_int_equal(f.count[i], 1000);
    f.cfg.fail_traffic_on_panic = true;
    struct lb_ask ask = {0};
    assert_int_equal(lb_pick(&f.lb, &ask), LB_NONE);
    finish(&f);
}

static void eds_health_counts(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    test_cla_add(&f.cla, "127.0.0.1:90", 1, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:91", 1, "", 0, 0)->health_status = envoy_HealthStatus_DRAINING;
    test_cla_add(&f.cla, "127.0.0.1:92", 1, "", 0, 0)->health_status = envoy_HealthStatus_HEALTHY;
    test_cla_add(&f.cla, "127.0.0.1:93", 1, "", 0, 0)->health_status = envoy_HealthStatus_DEGRADED;
    build(&f);
    picks(&f, 1000);
    assert_int_equal(f.count[0], 500 - f.count[3] / 2);
    assert_int_equal(f.count[1], 0);
    struct endpoint_counts c = endpoint_table_count(f.table);
    assert_int_equal(c.total, 4);
    assert_int_equal(c.healthy, 2);
    assert_int_equal(c.degraded, 1);
    finish(&f);
}

static void priorities_fail_over(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    for (int i = 0; i < 4; i++) {
        char a[32];
        snprintf(a, sizeof a, "127.0.0.1:%d", 90 + i);
        test_cla_add(&f.cla, a, 1, "", 0, i < 2 ? 0 : 1);
    }
    build(&f);
    picks(&f, 1000);
    assert_int_equal(f.count[0] + f.count[1], 1000);
    set_flag(&f, 0, ENDPOINT_FAILED_ACTIVE_HC); /* 50 % healthy -> 70 % of the load */
    picks(&f, 10000);
    assert_int_equal(f.count[0], 0);
    assert_in_range(f.count[1], 6800, 7200);
    set_flag(&f, 1, ENDPOINT_FAILED_ACTIVE_HC);
    picks(&f, 1000);
    assert_int_equal(f.count[2] + f.count[3], 1000);
    finish(&f);
}

static void localities_by_weight(void **state)
{
    struct fixture f;
    start(&f, &lb_round_robin);
    f.cfg.locality_weighted = true;
    test_cla_add(&f.cla, "127.0.0.1:90", 1, "a", 1, 0);
    test_cla_add(&f.cla, "127.0.0.1:91", 1, "b", 3, 0);
    test_cla_add(&f.cla, "127.0.0.1:92", 1, "b", 3, 0);
    test_cla_add(&f.cla, "127.0.0.1:93", 1, "c", 0, 0); /* no weight: no load */
    build(&f);
    picks(&f, 4000);
    assert_in_range(f.count[0], 999, 1001);
    assert_in_range(f.count[1], 1499, 1501);
    assert_in_range(f.count[2], 1499, 1501);
    assert_int_equal(f.count[3], 0);
    /* Half of b is gone: 1.4 * 0.5 of its weight is left: 1 to 2.1. */
    set_flag(&f, 1, ENDPOINT_FAILED_ACTIVE_HC);
    picks(&f, 3100);
    assert_in_range(f.count[0], 990, 1010);
    finish(&f);
}

static bool avoid_below(void *arg, const struct endpoint *e)
{
    return addr_port(&e->info->addr) < *(int *)arg;
}

static void tried_hosts_are_avoided(void **state)
{
    static const struct lb_policy *const all[] = {&lb_round_robin, &lb_random, &lb_least_request,
                                                  &lb_ring_hash, &lb_maglev};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture f;
        int limit = 99; /* all but one */
        start(&f, all[i]);
        add_n(&f, 10);
        struct lb_ask ask = {.has_hash = true, .hash = 7, .avoid = avoid_below, .arg = &limit};
        for (int k = 0; k < 100; k++)
            assert_int_equal(lb_pick(&f.lb, &ask), 9);
        limit = 1000; /* none is left: better one that was tried than none */
        assert_true(lb_pick(&f.lb, &ask) < 10);
        finish(&f);
    }
}

static void nobody_there(void **state)
{
    static const struct lb_policy *const all[] = {&lb_round_robin, &lb_random, &lb_least_request,
                                                  &lb_ring_hash, &lb_maglev};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture f;
        struct lb_ask ask = {0};
        start(&f, all[i]);
        assert_int_equal(lb_pick(&f.lb, &ask), LB_NONE);
        build(&f);
        assert_int_equal(lb_pick(&f.lb, &ask), LB_NONE);
        finish(&f);
    }
}

static uint32_t pick_hash(struct fixture *f, uint64_t hash)
{
    struct lb_ask ask = {.has_hash = true, .hash = hash};
    return lb_pick(&f->lb, &ask);
}

/* The rings and tables that Envoy's own tests write down. */
static void ring_hash_as_envoy(void **state)
{
    struct fixture f;
    start(&f, &lb_ring_hash);
    f.cfg.min_ring_size = 12;
    add_n(&f, 6);
    assert_int_equal(pick_hash(&f, 0), 4);
    assert_int_equal(pick_hash(&f, UINT64_MAX), 4);
    assert_int_equal(pick_hash(&f, 3551244743356806947ull), 5);
    assert_int_equal(pick_hash(&f, 3551244743356806948ull), 3);
    assert_int_equal(pick_hash(&f, 16117243373044804880ull), 0);
    finish(&f);
}

static void ring_hash_murmur2_as_envoy(void **state)
{
    struct fixture f;
    start(&f, &lb_ring_hash);
    f.cfg.min_ring_size = 12;
    f.cfg.murmur2 = true;
    for (int i = 0; i < 6; i++) {
        char a[32];
        snprintf(a, sizeof a, "127.0.0.1:%d", 80 + i);
        test_cla_add(&f.cla, a, 1, "", 0, 0);
    }
    build(&f);
    assert_int_equal(pick_hash(&f, 0), 5);
    assert_int_equal(pick_hash(&f, 1358027074129602068ull), 5);
    assert_int_equal(pick_hash(&f, 1358027074129602069ull), 3);
    assert_int_equal(pick_hash(&f, 10150910876324007730ull), 2);
    finish(&f);
}

static void hashes_as_published(void **state)
{
    assert_true(sv_hash_xx64(SV("127.0.0.1:94_0"), 0) == 833437586790550860ull ||
                sv_hash_xx64(SV("127.0.0.1:94_1"), 0) == 833437586790550860ull);
    assert_true(hash_murmur2(SV("127.0.0.1:85_0")) == 1358027074129602068ull ||
                hash_murmur2(SV("127.0.0.1:85_1")) == 1358027074129602068ull);
}

static void maglev_as_envoy(void **state)
{
    static const uint32_t expect[] = {2, 4, 0, 1, 5, 0, 3};
    struct fixture f;
    start(&f, &lb_maglev);
    f.cfg.table_size = 7;
    add_n(&f, 6);
    for (uint64_t i = 0; i < 21; i++)
        assert_int_equal(pick_hash(&f, i), expect[i % 7]);
    finish(&f);
}

static void maglev_with_host_names_as_envoy(void **state)
{
    static const uint32_t expect[] = {2, 5, 0, 3, 4, 1, 0};
    static const char *const names[] = {"90", "91", "92", "93", "94", "95"};
    struct fixture f;
    start(&f, &lb_maglev);
    f.cfg.table_size = 7;
    f.cfg.hash_hostname = true;
    for (int i = 0; i < 6; i++) {
        char a[32];
        snprintf(a, sizeof a, "127.0.0.1:%d", 90 + i);
        struct envoy_LbEndpoint *e = test_cla_add(&f.cla, a, 1, "", 0, 0);
        ((struct envoy_Endpoint *)e->endpoint)->hostname = sv_of(names[i]);
    }
    build(&f);
    for (uint64_t i = 0; i < 21; i++)
        assert_int_equal(pick_hash(&f, i), expect[i % 7]);
    finish(&f);
}

static void maglev_keeps_weights(void **state)
{
    struct fixture f;
    start(&f, &lb_maglev);
    test_cla_add(&f.cla, "127.0.0.1:90", 1, "", 0, 0);
    test_cla_add(&f.cla, "127.0.0.1:91", 3, "", 0, 0);
    build(&f);
    uint32_t count = 0;
    for (uint64_t i = 0; i < 65537; i++)
        count += pick_hash(&f, i);
    assert_in_range(count, 49150, 49156);
    finish(&f);
}

/* Consistency: of nine endpoints' keys few move when the tenth goes away. (The ring gives those
 * that are left a few more places each, as Envoy's does.) */
static void few_keys_move(void **state)
{
    static const struct lb_policy *const all[] = {&lb_ring_hash, &lb_maglev};
    for (size_t k = 0; k < 2; k++) {
        struct fixture f;
        uint32_t before[1000], moved = 0;
        start(&f, all[k]);
        add_n(&f, 10);
        for (uint64_t i = 0; i < 1000; i++)
            before[i] = pick_hash(&f, i * 0x9e3779b97f4a7c15ull);
        set_flag(&f, 3, ENDPOINT_FAILED_ACTIVE_HC);
        for (uint64_t i = 0; i < 1000; i++) {
            uint32_t now = pick_hash(&f, i * 0x9e3779b97f4a7c15ull);
            assert_int_not_equal(now, 3);
            moved += before[i] != 3 && now != before[i];
        }
        assert_in_range(moved, 0, 100);
        finish(&f);
    }
}

static void panic_is_for_hashing_too(void **state)
{
    struct fixture f;
    start(&f, &lb_ring_hash);
    f.cfg.min_ring_size = 12;
    add_n(&f, 6);
    for (uint32_t i = 0; i < 6; i++)
        set_flag(&f, i, ENDPOINT_FAILED_ACTIVE_HC);
    assert_int_equal(pick_hash(&f, 0), 4);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_takes_turns),
        cmocka_unit_test(spent_priorities_are_passed_over),
        cmocka_unit_test(new_endpoints_warm_up),
        cmocka_unit_test(slow_start_bends),
        cmocka_unit_test(all_new_endpoints_are_equal),
        cmocka_unit_test(round_robin_keeps_weights),
        cmocka_unit_test(random_is_even_and_ignores_weights),
        cmocka_unit_test(least_request_prefers_the_idle),
        cmocka_unit_test(least_request_full_scan_breaks_ties_evenly),
        cmocka_unit_test(least_request_weights_and_load),
        cmocka_unit_test(unhealthy_are_left_out_until_panic),
        cmocka_unit_test(eds_health_counts),
        cmocka_unit_test(priorities_fail_over),
        cmocka_unit_test(localities_by_weight),
        cmocka_unit_test(tried_hosts_are_avoided),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(ring_hash_as_envoy),
        cmocka_unit_test(ring_hash_murmur2_as_envoy),
        cmocka_unit_test(hashes_as_published),
        cmocka_unit_test(maglev_as_envoy),
        cmocka_unit_test(maglev_with_host_names_as_envoy),
        cmocka_unit_test(maglev_keeps_weights),
        cmocka_unit_test(few_keys_move),
        cmocka_unit_test(panic_is_for_hashing_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
