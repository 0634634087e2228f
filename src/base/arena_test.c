#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

static void sizes_and_alignment(void **state)
{
    struct arena a;
    arena_init(&a);
    assert_null(a.head);
    char *kept[400];
    size_t total = 0;
    for (size_t i = 0; i < 400; i++) {
        size_t n = i % 7 == 0 ? i * 37 : i % 50;
        kept[i] = arena_alloc(&a, n);
        assert_int_equal((uintptr_t)kept[i] % 16, 0);
        memset(kept[i], (int)(i & 0xff), n);
        total += n;
    }
    assert_int_equal(a.used, total);
    for (size_t i = 0; i < 400; i++) {
        size_t n = i % 7 == 0 ? i * 37 : i % 50;
        for (size_t k = 0; k < n; k++)
            assert_int_equal((unsigned char)kept[i][k], i & 0xff);
    }
    arena_free(&a);
    assert_null(a.head);
    assert_int_equal(a.used, 0);
    char *again = arena_zalloc(&a, 3000);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(again[i], 0);
    arena_free(&a);
    arena_trim();
}

static void strings(void **state)
{
    struct arena a;
    arena_init(&a);
    sv v = arena_sv(&a, sv_make("hello world", 5));
    assert_string_equal(v.p, "hello");
    assert_int_equal(v.n, 5);
    assert_string_equal(arena_cstr(&a, sv_make(NULL, 0)), "");
    v = arena_printf(&a, "%s=%d", "k", 7);
    assert_true(sv_eq(v, SV("k=7")));
    for (int n = 250; n < 260; n++) { /* around the size of the first try */
        v = arena_printf(&a, "%*d", n, 1);
        assert_int_equal(v.n, n);
        assert_int_equal(v.p[n - 1], '1');
        assert_int_equal(v.p[n], 0);
    }
    arena_free(&a);
}

static char order[16];
static void note(void *arg)
{
    strcat(order, arg);
}

static void cleanups_run_last_first(void **state)
{
    struct arena a;
    arena_init(&a);
    arena_on_free(&a, note, arena_cstr(&a, SV("a")));
    arena_on_free(&a, note, arena_cstr(&a, SV("b")));
    arena_on_free(&a, note, arena_cstr(&a, SV("c")));
    arena_free(&a);
    assert_string_equal(order, "cba");
    arena_free(&a);
    assert_string_equal(order, "cba");
}

static void nothing_is_a_pointer(void **state)
{
    struct arena a;
    void (*const inits[])(struct arena *) = {arena_init, arena_init_malloc};
    for (int i = 0; i < 2; i++) {
        inits[i](&a);
        assert_non_null(arena_zalloc(&a, 0));
        char *p = arena_zalloc(&a, 3);
        memset(p, 1, 3);
        assert_non_null(arena_zalloc(&a, 0));
        assert_int_equal(p[2], 1);
        arena_free(&a);
    }
}

static void *free_it(void *arg)
{
    arena_free(arg);
    return NULL;
}

static void another_thread_frees(void **state)
{
    struct arena a;
    arena_init_malloc(&a);
    for (int i = 0; i < 2000; i++)
        memset(arena_alloc(&a, (size_t)i), 1, (size_t)i);
    pthread_t t;
    pthread_create(&t, NULL, free_it, &a);
    pthread_join(t, NULL);
    assert_null(a.head);
    assert_true(a.on_malloc);
}

static void *use_pool(void *arg)
{
    struct arena a[64];
    for (int i = 0; i < 64; i++) {
        arena_init(&a[i]);
        arena_alloc(&a[i], 100);
    }
    for (int i = 0; i < 64; i++)
        arena_free(&a[i]);
    return NULL;
}

static void threads_leave_nothing(void **state)
{
    pthread_t t;
    pthread_create(&t, NULL, use_pool, NULL);
    pthread_join(t, NULL); /* LeakSanitizer and valgrind look */
    use_pool(NULL);
    int rounds = 0;
    while (!arena_pool_idle()) {
        arena_age();
        assert_true(++rounds < 100);
    }
    arena_trim();
    assert_true(arena_pool_idle());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_alignment),     cmocka_unit_test(strings),
        cmocka_unit_test(cleanups_run_last_first), cmocka_unit_test(nothing_is_a_pointer),
        cmocka_unit_test(another_thread_frees),    cmocka_unit_test(threads_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
