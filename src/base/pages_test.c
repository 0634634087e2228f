#include "base/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "base/mem.h"

#ifndef WEFT_ASAN /* else there are no pages: each piece is malloc'd */
#define N 1000

static void *page[N];

static bool resident(void *p)
{
    unsigned char in;
    return mincore(p, PAGES_SIZE, &in) == 0 && (in & 1);
}

static void take_all(void)
{
    for (int i = 0; i < N; i++) {
        page[i] = pages_get();
        memset(page[i], i, PAGES_SIZE);
    }
}

/* Each alone goes back, whatever lies beside it, and comes again when it is wanted. */
static void a_page_goes_back_alone(void **state)
{
    take_all();
    for (int i = 0; i < N; i++)
        if (i % 2)
            pages_put(page[i]);
    assert_int_equal(pages_hot(), N / 2);
    pages_age(0); /* those of a moment ago were needed */
    while (pages_hot())
        assert_true(pages_age(0) >= PAGES_SIZE);
    for (int i = 0; i < N; i++) {
        assert_int_equal(resident(page[i]), i % 2 == 0);
        if (i % 2 == 0)
            assert_int_equal(*(unsigned char *)page[i], (unsigned char)i);
    }
    for (int i = 1; i < N; i += 2) {
        page[i] = pages_get();
        assert_false(resident(page[i]));
        assert_int_equal(*(char *)page[i], 0);
    }
    for (int i = 0; i < N; i++)
        pages_put(page[i]);
    pages_trim();
    assert_int_equal(pages_hot(), 0);
}

static void what_is_kept(void **state)
{
    take_all();
    for (int i = 0; i < N; i++)
        pages_put(page[i]);
    pages_age(16);
    for (int i = 0; i < 30; i++)
        pages_age(16);
    assert_int_equal(pages_hot(), 16);
    assert_int_equal(pages_age(16), 0);
    void *p = pages_get();
    pages_trim(); /* one is in use: it stays */
    memset(p, 7, PAGES_SIZE);
    pages_put(p);
    pages_trim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_goes_back_alone),
        cmocka_unit_test(what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    pages_put(pages_get());
    pages_trim();
    return pages_hot() != 0 || pages_age(0) != 0;
}
#endif
