#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/pb_struct.h"
#include "upstream/testing_lb.h"

static void start(struct fixture *f)
{
    fixture_init(f, &lb_round_robin, 7);
    static const sv stage[] = {{"stage", 5}};
    f->selectors[0] = (struct lb_subset_selector){.keys = stage, .n_keys = 1};
    f->subsets = (struct lb_subset_config){
        .selectors = f->selectors, .n_selectors = 1, .fallback = LB_FALLBACK_NONE};
    f->cfg.subsets = &f->subsets;
}

static const struct google_Struct *stage_is(struct fixture *f, const char *stage)
{
    struct google_Struct *s = pb_struct_new(&f->cla.arena, 1);
    pb_struct_put_text(s, &f->cla.arena, SV("stage"), sv_of(stage));
    return s;
}

static void add(struct fixture *f, const char *addr, const char *stage, const char *zone,
                uint32_t zone_weight, uint32_t priority)
{
    struct arena *a = &f->cla.arena;
    struct envoy_LbEndpoint *e = test_cla_add(&f->cla, addr, 1, zone, zone_weight, priority);
    struct envoy_Metadata *m = arena_new(a, struct envoy_Metadata);
    struct envoy_Metadata_FilterMetadataEntry *entry =
        arena_new(a, struct envoy_Metadata_FilterMetadataEntry);
    entry->key = SV("envoy.lb");
    entry->value = stage_is(f, stage);
    m->filter_metadata.v = arena_array(a, const struct envoy_Metadata_FilterMetadataEntry *, 1);
    m->filter_metadata.v[0] = entry;
    m->filter_metadata.n = 1;
    e->metadata = m;
}

static void picks(struct fixture *f, const char *stage, int n)
{
    struct lb_ask ask = {.criteria = stage ? stage_is(f, stage) : NULL};
    pick(f, &ask, n);
}

static void expect_none(struct fixture *f, const char *stage)
{
    struct lb_ask ask = {.criteria = stage ? stage_is(f, stage) : NULL};
    assert_int_equal(lb_pick(&f->lb, &ask), LB_NONE);
}

static void endpoints_come_and_go(void **state)
{
    struct fixture f;
    start(&f);
    add(&f, "127.0.0.1:1", "prod", "", 0, 0);
    build(&f);
    assert_int_equal(lb_subsets_count(f.lb.subsets), 1);
    expect_none(&f, "dev");
    expect_none(&f, NULL);
    add(&f, "127.0.0.1:2", "dev", "", 0, 0);
    add(&f, "127.0.0.1:3", "dev", "", 0, 0);
    build(&f);
    assert_int_equal(lb_subsets_count(f.lb.subsets), 2);
    picks(&f, "dev", 100);
    assert_int_equal(f.count[1], 50);
    assert_int_equal(f.count[2], 50);
    picks(&f, "prod", 10);
    assert_int_equal(f.count[0], 10);
    finish(&f);
}

/* Health and panic are those of the subset, not of the cluster. */
static void health_is_looked_at_within(void **state)
{
    struct fixture f;
    start(&f);
    for (int i = 1; i <= 3; i++)
        add(&f, i == 1 ? "127.0.0.1:1" : i == 2 ? "127.0.0.1:2" : "127.0.0.1:3", "prod", "", 0, 0);
    for (int i = 4; i <= 5; i++)
        add(&f, i == 4 ? "127.0.0.1:4" : "127.0.0.1:5", "dev", "", 0, 0);
    build(&f);
    set_flag(&f, 0, ENDPOINT_FAILED_ACTIVE_HC);
    picks(&f, "prod", 100);
    assert_int_equal(f.count[0], 0);
    assert_int_equal(f.count[1], 50);
    set_flag(&f, 1, ENDPOINT_FAILED_ACTIVE_HC); /* one of three: panic */
    picks(&f, "prod", 99);
    assert_int_equal(f.count[0], 33);
    picks(&f, "dev", 10);
    assert_int_equal(f.count[3], 5);
    finish(&f);
}

static void priorities_hold_within(void **state)
{
    struct fixture f;
    start(&f);
    add(&f, "127.0.0.1:1", "prod", "", 0, 0);
    add(&f, "127.0.0.1:2", "prod", "", 0, 1);
    add(&f, "127.0.0.1:3", "dev", "", 0, 1);
    build(&f);
    picks(&f, "prod", 10);
    assert_int_equal(f.count[0], 10);
    picks(&f, "dev", 10); /* nobody of it has priority 0 */
    assert_int_equal(f.count[2], 10);
    set_flag(&f, 0, ENDPOINT_FAILED_ACTIVE_HC);
    picks(&f, "prod", 10);
    assert_int_equal(f.count[1], 10);
    finish(&f);
}

/* Zone a has weight 3 and 4 endpoints, one of them of the subset; b weight 1 and one. */
static void zones(struct fixture *f, bool aware, bool scale)
{
    start(f);
    f->cfg.locality_weighted = true;
    f->subsets.locality_weight_aware = aware;
    f->subsets.scale_locality_weight = scale;
    add(f, "127.0.0.1:1", "prod", "a", 4, 0);
    for (int i = 2; i <= 4; i++)
        add(f, i == 2 ? "127.0.0.1:2" : i == 3 ? "127.0.0.1:3" : "127.0.0.1:4", "dev", "a", 4, 0);
    add(f, "127.0.0.1:5", "prod", "b", 1, 0);
    build(f);
    picks(f, "prod", 1000);
}

static void localities(void **state)
{
    struct fixture f;
    zones(&f, false, false);
    assert_int_equal(f.count[0], 500);
    finish(&f);
    zones(&f, true, false);
    assert_in_range(f.count[0], 795, 805);
    finish(&f);
    zones(&f, true, true); /* a quarter of 4 is 1 */
    assert_in_range(f.count[0], 495, 505);
    finish(&f);
}

/* A match of more keys than any selector has, and values that are big: no subset, no harm. */
static void odd_matches(void **state)
{
    struct fixture f;
    char key[8];
    start(&f);
    f.subsets.fallback = LB_FALLBACK_ANY;
    add(&f, "127.0.0.1:1", "prod", "", 0, 0);
    build(&f);
    struct google_Struct *s = pb_struct_new(&f.cla.arena, 200);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        pb_struct_put_text(s, &f.cla.arena, arena_sv(&f.cla.arena, sv_of(key)), SV("v"));
    }
    struct lb_ask ask = {.criteria = s};
    assert_int_equal(lb_pick(&f.lb, &ask), 0);
    char *big = malloc(200000);
    memset(big, 'x', 200000);
    struct google_Struct *b = pb_struct_new(&f.cla.arena, 1);
    pb_struct_put_text(b, &f.cla.arena, SV("stage"), sv_make(big, 200000));
    ask.criteria = b;
    assert_int_equal(lb_pick(&f.lb, &ask), 0);
    ask.criteria = pb_struct_new(&f.cla.arena, 1);
    assert_int_equal(lb_pick(&f.lb, &ask), 0);
    free(big);
    finish(&f);
}

/* A hundred requests under way on the one that a key belongs to: it goes elsewhere, the same way
 * each time. */
static void bounded_loads(void **state)
{
    struct fixture f;
    char addr[32];
    start(&f);
    f.cfg.subsets = NULL;
    f.cfg.policy = &lb_ring_hash;
    f.cfg.hash_balance_factor = 120;
    for (int i = 1; i <= 8; i++) {
        snprintf(addr, sizeof addr, "127.0.0.1:%d", i);
        test_cla_add(&f.cla, addr, 1, "", 0, 0);
    }
    build(&f);
    struct lb_ask ask = {.has_hash = true, .hash = 12345};
    uint32_t home = lb_pick(&f.lb, &ask);
    atomic_store(&f.table->v[home].info->state->rq_active, 100);
    uint32_t other = lb_pick(&f.lb, &ask);
    assert_int_not_equal(other, home);
    assert_int_equal(lb_pick(&f.lb, &ask), other);
    for (uint32_t i = 0; i < f.table->n; i++) /* all alike: within the bound */
        atomic_store(&f.table->v[i].info->state->rq_active, 100);
    assert_int_equal(lb_pick(&f.lb, &ask), home);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_come_and_go),
        cmocka_unit_test(health_is_looked_at_within),
        cmocka_unit_test(priorities_hold_within),
        cmocka_unit_test(localities),
        cmocka_unit_test(odd_matches),
        cmocka_unit_test(bounded_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
