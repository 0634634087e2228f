#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include "base/rand.h"

static void basics(void **state)
{
    struct map m;
    int a, b;
    map_init(&m);
    assert_null(map_get(&m, SV("x")));
    assert_null(map_del(&m, SV("x")));
    assert_null(map_put(&m, SV("x"), &a));
    assert_ptr_equal(map_put(&m, SV("x"), &b), &a);
    assert_ptr_equal(map_get(&m, SV("x")), &b);
    assert_null(map_put(&m, SV("null"), NULL));
    assert_true(map_has(&m, SV("null")));
    assert_null(map_put(&m, sv_make(NULL, 0), &a));
    assert_ptr_equal(map_get(&m, SV("")), &a);
    assert_int_equal(map_len(&m), 3);
    assert_ptr_equal(map_del(&m, SV("x")), &b);
    assert_false(map_has(&m, SV("x")));
    map_fini(&m);
    assert_int_equal(map_len(&m), 0);
    map_each (e, &m) {
        fail();
    }
}

static void order_is_insertion(void **state)
{
    struct map m;
    char key[16];
    map_init(&m);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%d", i * 7919 % 1000);
        map_put(&m, sv_of(key), &m);
    }
    int i = 0;
    map_each (e, &m) {
        snprintf(key, sizeof key, "k%d", i++ * 7919 % 1000);
        assert_true(sv_eq_c(e->key, key));
    }
    assert_int_equal(i, 1000);
    map_fini(&m);
}

static void against_an_array(void **state)
{
    enum { KEYS = 500 };
    static char names[KEYS][8];
    for (int borrow = 0; borrow < 2; borrow++) {
        struct rand_state r;
        struct map m;
        void *model[KEYS] = {NULL};
        uint32_t count = 0;
        rand_seed(&r, 3);
        borrow ? map_init_borrow(&m) : map_init(&m);
        for (int i = 0; i < KEYS; i++)
            snprintf(names[i], sizeof names[i], "%d", i);
        for (int step = 0; step < 60000; step++) {
            /* Grows, shrinks, grows: by phases more puts or more deletes. */
            bool put = rand_below(&r, 10) < (step / 6000 % 2 ? 3 : 7);
            size_t k = rand_below(&r, KEYS);
            sv key = sv_of(names[k]);
            void *val = put ? names + rand_below(&r, KEYS) : NULL;
            void *old = put ? map_put(&m, key, val) : map_del(&m, key);
            assert_ptr_equal(old, model[k]);
            count += (uint32_t)((val != NULL) - (model[k] != NULL));
            model[k] = val;
            assert_int_equal(map_len(&m), count);
            size_t probe = rand_below(&r, KEYS);
            assert_ptr_equal(map_get(&m, sv_of(names[probe])), model[probe]);
        }
        for (int i = 0; i < KEYS; i++)
            assert_ptr_equal(map_get(&m, sv_of(names[i])), model[i]);
        map_fini(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basics),
        cmocka_unit_test(order_is_insertion),
        cmocka_unit_test(against_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
