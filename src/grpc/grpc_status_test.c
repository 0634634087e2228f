#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "grpc/grpc_status.h"

static void test_codes(void **state)
{
    int code = -1;
    assert_string_equal(grpc_code_text(GRPC_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
    assert_string_equal(grpc_code_text(17), "UNKNOWN");
    assert_string_equal(grpc_code_text(-1), "UNKNOWN");
    static const struct {
        const char *text;
        int code;
    } good[] = {
        {"InvalidArgument", 3}, {"INVALID_ARGUMENT", 3}, {"ok", 0},        {"OK", 0}, {"16", 16},
        {"Unavailable", 14},    {"dataLoss", 15},        {"data_loss", 15}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(grpc_code_parse(sv_of(good[i].text), &code), 0);
        assert_int_equal(code, good[i].code);
    }
    static const char *const bad[] = {"",
                                      "17",
                                      "-1",
                                      "Invalid",
                                      "InvalidArguments",
                                      "INVALID__ARGUMENT",
                                      "_OK",
                                      "O_K",
                                      "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (grpc_code_parse(sv_of(bad[i]), &code) != E_INVALID)
            fail_msg("'%s' is %d", bad[i], code);
    assert_int_equal(grpc_code_of_http(503), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_code_of_http(404), GRPC_UNIMPLEMENTED);
    assert_int_equal(grpc_code_of_http(500), GRPC_UNKNOWN);
    assert_int_equal(grpc_code_to_http(GRPC_PERMISSION_DENIED), 403);
    assert_int_equal(grpc_code_to_http(77), 500);
}

/* Attack case 39: saturates, whatever the number of digits. */
static void test_timeout_parse(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1S", 1000},
                {"2M", 120000},
                {"1H", 3600000},
                {"5m", 5},
                {"0m", 0},
                {"1u", 1},
                {"1000u", 1},
                {"1001u", 2},
                {"1n", 1},
                {"1000000n", 1},
                {"1000001n", 2},
                {"99999999H", 99999999ull * 3600000},
                {"99999999999H", GRPC_TIMEOUT_MAX_MS},
                {"99999999999999999999999999999999H", GRPC_TIMEOUT_MAX_MS},
                {"99999999999999999999999999999999m", GRPC_TIMEOUT_MAX_MS},
                {"00000000000000001S", 1000}};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(grpc_timeout_parse(sv_of(good[i].text), &ms), 0);
        if (ms != good[i].ms)
            fail_msg("%s: %llu", good[i].text, (unsigned long long)ms);
    }
    static const char *const bad[] = {"",     "1",   "S",   "1s",  "-1S", "+1S",
                                      "1.5S", " 1S", "1S ", "1SS", "0x1S"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ms = 77;
        if (grpc_timeout_parse(sv_of(bad[i]), &ms) != E_INVALID || ms != 77)
            fail_msg("'%s' was taken", bad[i]);
    }
}

static void test_timeout_format(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{0, "0m"},
                 {1, "1m"},
                 {99999999, "99999999m"},
                 {100000000, "100000S"},
                 {100000001, "100001S"},
                 {99999999999, "1666667M"},
                 {100000000001, "1666667M"},
                 {UINT64_C(99999999) * 1000, "99999999S"},
                 {UINT64_MAX, "99999999H"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[16];
        sv v = grpc_timeout_format(cases[i].ms, out);
        if (!sv_eq_c(v, cases[i].text))
            fail_msg("%llu: %.*s", (unsigned long long)cases[i].ms, SV_ARG(v));
    }
}

static void test_message(void **state)
{
    struct arena a;
    arena_init(&a);
    assert_true(sv_eq(grpc_message_encode(SV("plain text"), &a), SV("plain text")));
    sv v = grpc_message_encode(SV("50% \xc3\xa9\n"), &a);
    assert_true(sv_eq(v, SV("50%25 %C3%A9%0A")));
    assert_true(sv_eq(grpc_message_decode(v, &a), SV("50% \xc3\xa9\n")));
    assert_true(sv_eq(grpc_message_decode(SV("%zz%4%"), &a), SV("%zz%4%")));
    assert_true(sv_eq(grpc_message_decode(SV("%41%4g%42"), &a), SV("A%4gB")));
    char big[10000];
    memset(big, '%', sizeof big);
    assert_true(grpc_message_encode(sv_make(big, sizeof big), &a).n <= 3 * 4096);
    arena_free(&a);
}

static void test_binary_metadata(void **state)
{
    struct arena a;
    struct http_headers h;
    sv out;
    arena_init(&a);
    for (size_t n = 0; n < 40; n++) {
        char bytes[40];
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(i * 37 + n * 101);
        http_headers_init(&h, &a);
        grpc_metadata_add_bin(&h, SV("x-bin"), sv_make(bytes, n));
        assert_int_equal(grpc_metadata_get_bin(&h, SV("x-bin"), &a, &out), 0);
        assert_true(sv_eq(out, sv_make(bytes, n)));
    }
    static const struct {
        const char *text, *bytes;
    } good[] = {{"aGk=", "hi"}, {"aGk", "hi"},       {"aA==", "h"},
                {"aA", "h"},    {"aGk, aGk=", "hi"}, {"", ""}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        http_headers_init(&h, &a);
        http_headers_add(&h, SV("x-bin"), sv_of(good[i].text));
        assert_int_equal(grpc_metadata_get_bin(&h, SV("x-bin"), &a, &out), 0);
        assert_true(sv_eq_c(out, good[i].bytes));
    }
    static const char *const bad[] = {"a", "aGk=a", "a Gk", "aGk\xff", "====", "aGkaa", "a==="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        http_headers_init(&h, &a);
        http_headers_add(&h, SV("x-bin"), sv_of(bad[i]));
        if (grpc_metadata_get_bin(&h, SV("x-bin"), &a, &out) != E_INVALID)
            fail_msg("'%s' was taken", bad[i]);
    }
    assert_int_equal(grpc_metadata_get_bin(&h, SV("y-bin"), &a, &out), E_NOT_FOUND);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),           cmocka_unit_test(test_timeout_parse),
        cmocka_unit_test(test_timeout_format),  cmocka_unit_test(test_message),
        cmocka_unit_test(test_binary_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
