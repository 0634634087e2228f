/* For tests of balancers: one with its endpoints, and what it chose.
 *
 *   struct fixture f;
 *   fixture_init(&f, &lb_round_robin, 42);
 *   test_cla_add(&f.cla, ...);
 *   build(&f);
 *   pick(&f, &ask, 100);   f.count[i]: how often endpoint i was chosen
 *   finish(&f);
 *
 * Thread: the test's. */
#ifndef WEFT_UPSTREAM_TESTING_LB_H
#define WEFT_UPSTREAM_TESTING_LB_H

#include "upstream/lb/lb.h"
#include "upstream/lb/subset.h"
#include "upstream/testing_cla.h"

#define MAX 64

struct fixture {
    struct endpoint_registry registry;
    struct test_cla cla;
    struct endpoint_table *table;
    struct lb_config cfg;
    struct lb_subset_config subsets;
    struct lb_subset_selector selectors[2];
    struct lb lb;
    struct rand_state rand;
    uint32_t count[MAX];
};

/* cfg may be changed before the first build(). */
static inline void fixture_init(struct fixture *f, const struct lb_policy *policy, uint64_t seed)
{
    memset(f, 0, sizeof *f);
    endpoint_registry_init(&f->registry);
    test_cla_init(&f->cla);
    lb_config_default(&f->cfg, policy);
    rand_seed(&f->rand, seed);
}

static inline void build(struct fixture *f)
{
    struct endpoint_table_opts o = {0};
    struct endpoint_table *old = f->table;
    if (!f->lb.cfg)
        lb_init(&f->lb, &f->cfg, &f->rand);
    f->table = endpoint_table_new(&f->registry, &f->cla.cla, &o);
    lb_update(&f->lb, f->table);
    endpoint_table_free(old);
}

static inline void finish(struct fixture *f)
{
    lb_fini(&f->lb);
    endpoint_table_free(f->table);
    endpoint_registry_fini(&f->registry);
    test_cla_fini(&f->cla);
}

static inline void pick(struct fixture *f, const struct lb_ask *ask, int n)
{
    memset(f->count, 0, sizeof f->count);
    for (int i = 0; i < n; i++) {
        uint32_t at = lb_pick(&f->lb, ask);
        assert_true(at < f->table->n);
        f->count[at]++;
    }
}

static inline void set_flag(struct fixture *f, uint32_t index, uint32_t flag)
{
    atomic_store(&f->table->v[index].info->state->flags, flag);
    lb_update(&f->lb, f->table);
}

#endif
