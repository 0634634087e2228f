#include "base/strbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

static void adding(void **state)
{
    struct strbuf s;
    strbuf_init(&s, 1000);
    assert_int_equal(strbuf_sv(&s).n, 0);
    strbuf_add_c(&s, "a");
    strbuf_add_ch(&s, 'b');
    strbuf_add_sv(&s, SV("cd"));
    strbuf_addf(&s, "%d-%s", 5, "x");
    strbuf_add_c(&s, NULL);
    assert_string_equal(s.p, "abcd5-x");
    strbuf_cut(&s, 2);
    assert_string_equal(s.p, "ab");
    strbuf_cut(&s, 99);
    assert_int_equal(s.n, 2);
    strbuf_reset(&s);
    assert_string_equal(s.p, "");
    for (int i = 0; i < 100; i++)
        strbuf_addf(&s, "%09d,", i);
    assert_int_equal(s.n, 1000);
    assert_false(s.overflow);
    size_t n;
    char *p = strbuf_steal(&s, &n);
    assert_int_equal(n, 1000);
    assert_memory_equal(p + 990, "000000099,", 11);
    free(p);
    p = strbuf_steal(&s, NULL);
    assert_string_equal(p, "");
    free(p);
    strbuf_fini(&s);
}

static void the_maximum_holds(void **state)
{
    for (size_t max = 0; max < 20; max++) {
        struct strbuf s;
        strbuf_init(&s, max);
        strbuf_addf(&s, "%s", "0123456789");
        assert_int_equal(s.overflow, max < 10);
        strbuf_add_c(&s, "abcdef");
        assert_int_equal(s.overflow, max < 16);
        assert_int_equal(s.n, max < 16 ? max : 16);
        assert_memory_equal(s.p, "0123456789abcdef", s.n);
        assert_int_equal(s.p[s.n], 0);
        strbuf_reset(&s);
        assert_false(s.overflow);
        strbuf_fini(&s);
    }
}

static void json(void **state)
{
    static const struct {
        sv in;
        const char *out;
    } cases[] = {
        {SV_INIT(""), "\"\""},
        {SV_INIT("a\"b\\c/"), "\"a\\\"b\\\\c/\""},
        {SV_INIT("\b\f\n\r\t\x01\x1f\x7f"), "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\""},
        {{"a\0b", 3}, "\"a\\u0000b\""},
        {SV_INIT("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
         "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {SV_INIT("x\xc3"), "\"x\xef\xbf\xbd\""},
        {SV_INIT("\xc0\x80y"), "\"\xef\xbf\xbd\xef\xbf\xbdy\""},               /* overlong */
        {SV_INIT("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* surrogate */
        {SV_INIT("\xf4\x90\x80\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {SV_INIT("\xff"), "\"\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct strbuf s;
        strbuf_init(&s, 1000);
        strbuf_add_json(&s, cases[i].in);
        assert_string_equal(s.p, cases[i].out);
        strbuf_fini(&s);
    }
}

static void doubles(void **state)
{
    static const struct {
        double in;
        const char *out;
    } cases[] = {
        {0, "0"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {-1e300, "-1e+300"},
        {123456789012345678.0, "1.2345678901234568e+17"},
        {INFINITY, "inf"},
        {-NAN, "nan"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct strbuf s;
        strbuf_init(&s, 100);
        strbuf_add_double(&s, cases[i].in);
        assert_string_equal(s.p, cases[i].out);
        strbuf_fini(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adding),
        cmocka_unit_test(the_maximum_holds),
        cmocka_unit_test(json),
        cmocka_unit_test(doubles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
