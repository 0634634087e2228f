#include "net/timer_wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include "base/rand.h"

static struct timer *next_of(struct list *out)
{
    struct list *l = list_first(out);
    if (!l)
        return NULL;
    list_del(l);
    return container_of(l, struct timer, link);
}

static void new_timer(struct timer *t)
{
    *t = (struct timer){.due_ms = 0};
    list_init(&t->link);
}

static void one_timer_at_each_distance(void **state)
{
    static const uint64_t starts[] = {0, 1, 63, 64, 4095, 123456789, 1ull << 36};
    static const uint64_t delays[] = {
        1,          2,         62,   63,    64,     65,     127,    128,      4095,
        4096,       4097,      8191, 60000, 262143, 262144, 262145, 1u << 24, (1u << 24) + 1,
        1ull << 30, 1ull << 40};
    struct timer_wheel *w = malloc(sizeof *w);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        for (size_t k = 0; k < sizeof delays / sizeof *delays; k++) {
            struct timer t;
            struct list out = LIST_INIT(out);
            uint64_t due = starts[i] + delays[k];
            timer_wheel_init(w, starts[i]);
            assert_true(timer_wheel_next(w) == UINT64_MAX);
            new_timer(&t);
            timer_wheel_add(w, &t, due);
            assert_true(timer_wheel_next(w) == due);
            timer_wheel_advance(w, due - 1, &out);
            assert_true(list_empty(&out));
            assert_true(timer_wheel_next(w) == due);
            timer_wheel_advance(w, due, &out);
            assert_ptr_equal(next_of(&out), &t);
            assert_true(timer_wheel_next(w) == UINT64_MAX);
        }
    free(w);
}

/* Random adds, moves, removals and jumps against a plain scan. */
static void against_a_scan(void **state)
{
    enum { N = 300 };
    struct timer_wheel *w = malloc(sizeof *w);
    struct timer *t = calloc(N, sizeof *t);
    uint64_t now = 1000000007;
    struct rand_state r;
    rand_seed(&r, 5);
    timer_wheel_init(w, now);
    for (int i = 0; i < N; i++)
        new_timer(&t[i]);
    for (int step = 0; step < 30000; step++) {
        struct timer *x = &t[rand_below(&r, N)];
        uint64_t span = 1ull << rand_below(&r, 30);
        struct list out = LIST_INIT(out);
        switch (rand_below(&r, 3)) {
        case 0:
            timer_wheel_remove(w, x);
            break;
        case 1:
            timer_wheel_remove(w, x);
            timer_wheel_add(w, x, now + 1 + rand_below(&r, span));
            break;
        default: {
            /* As a loop does: either to the next due tick, or somewhere. */
            uint64_t next = timer_wheel_next(w), last = 0;
            now = next != UINT64_MAX && rand_below(&r, 2) ? next : now + rand_below(&r, span);
            timer_wheel_advance(w, now, &out);
            for (struct timer *f; (f = next_of(&out));) {
                assert_true(f->due_ms <= now && f->due_ms >= last);
                last = f->due_ms;
            }
        }
        }
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < N; i++)
            if (!list_empty(&t[i].link)) {
                assert_true(t[i].due_ms > now);
                if (t[i].due_ms < least)
                    least = t[i].due_ms;
            }
        assert_true(timer_wheel_next(w) <= least);
        /* With few timers a slot it is exact. */
        assert_true(least == UINT64_MAX || timer_wheel_next(w) > now);
    }
    free(t);
    free(w);
}

static void next_is_exact(void **state)
{
    enum { N = 30 };
    struct timer_wheel *w = malloc(sizeof *w);
    struct timer t[N];
    struct rand_state r;
    uint64_t now = 77;
    rand_seed(&r, 6);
    timer_wheel_init(w, now);
    for (int i = 0; i < N; i++)
        new_timer(&t[i]);
    for (int step = 0; step < 20000; step++) {
        struct timer *x = &t[rand_below(&r, N)];
        struct list out = LIST_INIT(out);
        timer_wheel_remove(w, x);
        if (rand_below(&r, 3))
            timer_wheel_add(w, x, now + 1 + rand_below(&r, 100000));
        if (rand_below(&r, 4) == 0) {
            now += rand_below(&r, 3000);
            timer_wheel_advance(w, now, &out);
            while (next_of(&out))
                ;
        }
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < N; i++)
            if (!list_empty(&t[i].link) && t[i].due_ms < least)
                least = t[i].due_ms;
        assert_true(timer_wheel_next(w) == least);
    }
    free(w);
}

static void equal_ticks_keep_their_order(void **state)
{
    struct timer_wheel *w = malloc(sizeof *w);
    struct timer t[3];
    struct list out = LIST_INIT(out);
    timer_wheel_init(w, 0);
    for (int i = 0; i < 3; i++)
        new_timer(&t[i]);
    timer_wheel_add(w, &t[0], 5000); /* from level 2 down */
    timer_wheel_add(w, &t[1], 5000);
    timer_wheel_advance(w, 4999, &out);
    timer_wheel_add(w, &t[2], 5000);
    timer_wheel_advance(w, 5001, &out);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(next_of(&out), &t[i]);
    timer_wheel_add(w, &t[0], 5001); /* not after the present: with the next tick */
    timer_wheel_add(w, &t[1], 3);
    timer_wheel_advance(w, 5001, &out);
    assert_true(list_empty(&out));
    timer_wheel_advance(w, 5002, &out);
    assert_ptr_equal(next_of(&out), &t[0]);
    assert_ptr_equal(next_of(&out), &t[1]);
    timer_wheel_add(w, &t[0], UINT64_MAX / 2); /* past the horizon */
    assert_true(timer_wheel_next(w) > 1ull << 40);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_timer_at_each_distance),
        cmocka_unit_test(against_a_scan),
        cmocka_unit_test(next_is_exact),
        cmocka_unit_test(equal_ticks_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
