#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "http/grpc_timeout.h"

static void test_read(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0m", 0},       {"1n", 1},      {"1000000n", 1},
                {"1000001n", 2}, {"7000u", 7},   {"300m", 300},
                {"2S", 2000},    {"3M", 180000}, {"99999999H", 99999999ull * 3600000ull}};
    static const char *const bad[] = {"",    "m",    "1",   "1x",         "-1m",
                                      "+1m", "1.5S", " 1m", "123456789m", "1 m"};
    uint64_t ms;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(http_grpc_timeout_read(sv_of(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (http_grpc_timeout_read(sv_of(bad[i]), &ms))
            fail_msg("'%s' is none", bad[i]);
    }
    assert_false(http_grpc_timeout_read((sv){NULL, 0}, &ms));
}

static void test_text(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } v[] = {{0, "0m"},
             {300, "300m"},
             {99999999, "99999999m"},
             {100000000, "100000S"},
             {UINT64_MAX, "99999999H"}};
    struct arena a;

    arena_init(&a);
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        sv got = http_grpc_timeout_text(&a, v[i].ms);
        if (!sv_eq_c(got, v[i].text))
            fail_msg("%.*s, not %s", SV_ARG(got), v[i].text);
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
