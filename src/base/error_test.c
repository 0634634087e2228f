#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

static void codes(void **state)
{
    assert_string_equal(error_text(E_REFUSED), "connection refused");
    assert_string_equal(error_text(-9999), "unknown error");
    assert_int_equal(error_from_errno(ECONNREFUSED), E_REFUSED);
    assert_int_equal(error_from_errno(EWOULDBLOCK), E_AGAIN);
    assert_int_equal(error_from_errno(4242), E_IO);
    assert_int_equal(error_from_errno(0), 0);
}

static void sentences(void **state)
{
    struct error e = {0};
    assert_int_equal(error_set(&e, E_INVALID, "weight: %d is negative", -1), E_INVALID);
    assert_string_equal(e.msg, "weight: -1 is negative");
    error_prefix(&e, "route %s: ", "r1");
    assert_string_equal(e.msg, "route r1: weight: -1 is negative");
    assert_int_equal(e.code, E_INVALID);
    assert_int_equal(error_set(NULL, E_LIMIT, "x"), E_LIMIT);
    error_prefix(NULL, "x");
}

static void long_sentences_are_cut(void **state)
{
    struct error e = {0};
    error_set(&e, E_INVALID, "%2000d", 1);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    error_prefix(&e, "%s", "prefix: ");
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_memory_equal(e.msg, "prefix:  ", 9);
    error_prefix(&e, "%2000d", 1);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes),
        cmocka_unit_test(sentences),
        cmocka_unit_test(long_sentences_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
