#include "base/sv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include "base/error.h"

static void numbers(void **state)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t v;
    } cases[] = {
        {"0", 0, 0},
        {"007", 0, 7},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", E_INVALID, 0},
        {"99999999999999999999", E_INVALID, 0},
        {"", E_INVALID, 0},
        {"+1", E_INVALID, 0},
        {"-1", E_INVALID, 0},
        {" 1", E_INVALID, 0},
        {"1 ", E_INVALID, 0},
        {"1a", E_INVALID, 0},
        {"0x1", E_INVALID, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t v = 42;
        assert_int_equal(sv_to_u64(sv_of(cases[i].text), &v), cases[i].rc);
        assert_true(v == (cases[i].rc ? 42 : cases[i].v));
    }
    int64_t s = 5;
    assert_int_equal(sv_to_i64(SV("-9223372036854775808"), &s), 0);
    assert_true(s == INT64_MIN);
    assert_int_equal(sv_to_i64(SV("9223372036854775807"), &s), 0);
    assert_true(s == INT64_MAX);
    assert_int_equal(sv_to_i64(SV("9223372036854775808"), &s), E_INVALID);
    assert_int_equal(sv_to_i64(SV("-9223372036854775809"), &s), E_INVALID);
    assert_int_equal(sv_to_i64(SV("-"), &s), E_INVALID);
    assert_int_equal(sv_to_i64(SV("--1"), &s), E_INVALID);
    assert_true(s == INT64_MAX);
}

static void comparing(void **state)
{
    assert_true(sv_eq(SV(""), sv_make(NULL, 0)));
    assert_false(sv_eq(SV("a"), SV("b")));
    assert_true(sv_eq_icase(SV("Content-LENGTH"), SV("content-length")));
    const sv some[] = {SV("a"), SV("bc")};
    assert_true(sv_in(SV("bc"), some, 2));
    assert_false(sv_in(SV("bc"), some, 1));
    assert_false(sv_in(SV("b"), some, 2));
    assert_false(sv_in(SV("a"), NULL, 0));
    assert_false(sv_eq_icase(SV("@"), SV("`"))); /* 0x40 and 0x60 are no letters */
    assert_false(sv_eq_icase(SV("["), SV("{")));
    assert_false(sv_eq_icase(SV("\xc0"), SV("\xe0")));
    assert_true(sv_starts_icase(SV("BEARER x"), SV("bearer ")));
    assert_false(sv_starts_icase(SV("be"), SV("bearer ")));
    assert_true(sv_starts(SV("abc"), SV("")));
    assert_true(sv_ends(SV("abc"), SV("bc")));
    assert_false(sv_ends(SV("c"), SV("bc")));
    assert_true(sv_cmp(SV("a"), SV("ab")) < 0);
    assert_true(sv_cmp(SV("b"), SV("ab")) > 0);
    assert_true(sv_cmp(SV(""), sv_make(NULL, 0)) == 0);
    assert_true(sv_cmp(SV("\xff"), SV("a")) > 0);
}

static void searching(void **state)
{
    assert_int_equal(sv_find(SV("a.b.c"), '.'), 1);
    assert_int_equal(sv_rfind(SV("a.b.c"), '.'), 3);
    assert_int_equal(sv_find(sv_make(NULL, 0), '.'), -1);
    assert_int_equal(sv_find_sv(SV("hello"), SV("lo")), 3);
    assert_int_equal(sv_find_sv(SV("hello"), SV("")), 0);
    assert_int_equal(sv_find_sv(SV("hel"), SV("hello")), -1);
    assert_true(sv_eq(sv_trim(SV(" \t a b \t")), SV("a b")));
    assert_true(sv_eq(sv_trim(SV(" \t ")), SV("")));
    assert_true(sv_eq(sv_from(SV("abc"), 3), SV("")));
    assert_true(sv_eq(sv_first(SV("abc"), 9), SV("abc")));
    sv v = SV("k=v=w"), head, rest;
    assert_true(sv_cut(v, '=', &head, &rest));
    assert_true(sv_eq(head, SV("k")) && sv_eq(rest, SV("v=w")));
    assert_true(sv_cut(rest, '=', &head, &rest));
    assert_true(sv_eq(head, SV("v")) && sv_eq(rest, SV("w")));
    assert_false(sv_cut(rest, '=', &head, &rest));
    assert_true(sv_eq(head, SV("w")) && rest.n == 0);
    assert_true(sv_cut(SV("k="), '=', &head, &rest) && rest.n == 0);
}

static void hashing_and_copies(void **state)
{
    assert_true(sv_hash(SV("abc")) == sv_hash(sv_make("abcd", 3)));
    assert_true(sv_hash(SV("abc")) != sv_hash(SV("abd")));
    assert_true(sv_hash(SV("")) == sv_hash(sv_make(NULL, 0)));
    uint64_t before = sv_hash(SV("abc"));
    sv_hash_set_seed(1);
    uint64_t one = sv_hash(SV("abc"));
    sv_hash_set_seed(2);
    assert_true(one != sv_hash(SV("abc")) && before != one);
    char *copy = sv_dup(sv_make("abcd", 3));
    assert_string_equal(copy, "abc");
    free(copy);
    copy = sv_dup(sv_make(NULL, 0));
    assert_string_equal(copy, "");
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(comparing),
        cmocka_unit_test(searching),
        cmocka_unit_test(hashing_and_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
