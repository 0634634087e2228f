#include "base/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void same_seed_same_numbers(void **state)
{
    struct rand_state a, b, c;
    rand_seed(&a, 1);
    rand_seed(&b, 1);
    rand_seed(&c, 2);
    for (int i = 0; i < 100; i++)
        assert_true(rand_u64(&a) == rand_u64(&b));
    assert_true(rand_u64(&a) != rand_u64(&c));
    rand_seed_system(&a);
    rand_seed_system(&b);
    assert_true(rand_u64(&a) != rand_u64(&b));
}

/* The first outputs of xoshiro256** for the state 1, 2, 3, 4, as its authors' code gives them. */
static void known_answers(void **state)
{
    struct rand_state r = {{1, 2, 3, 4}};
    static const uint64_t want[] = {11520u, 0u, 1509978240u, 1215971899390074240u};
    for (size_t i = 0; i < 4; i++)
        assert_true(rand_u64(&r) == want[i]);
}

static void uniform(void **state)
{
    struct rand_state r;
    unsigned hits[7] = {0};
    double sum = 0;
    rand_seed(&r, 9);
    for (int i = 0; i < 70000; i++) {
        hits[rand_below(&r, 7)]++;
        double u = rand_unit(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(hits[i], 9500, 10500);
    assert_true(sum > 34500 && sum < 35500);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rand_below(&r, 1), 0);
        assert_true(rand_below(&r, UINT64_MAX) < UINT64_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_numbers),
        cmocka_unit_test(known_answers),
        cmocka_unit_test(uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
