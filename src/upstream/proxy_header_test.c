#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "upstream/proxy_header.h"

static struct addr at(const char *text, uint16_t port)
{
    struct addr a;
    assert_int_equal(addr_ip(&a, sv_of(text), port), 0);
    return a;
}

static sv header(char *out, unsigned version, const char *from, const char *to)
{
    struct addr s = at(from, 1234), d = at(to, 80);
    return sv_make(out, proxy_header_write(out, version, &s, &d));
}

static void as_a_line(void **state)
{
    char out[PROXY_HEADER_MAX];
    assert_true(sv_eq(header(out, 1, "10.0.0.1", "10.0.0.2"),
                      SV("PROXY TCP4 10.0.0.1 10.0.0.2 1234 80\r\n")));
    assert_true(
        sv_eq(header(out, 1, "::1", "2001:db8::2"), SV("PROXY TCP6 ::1 2001:db8::2 1234 80\r\n")));
    assert_true(sv_eq(header(out, 1, "::1", "10.0.0.2"), SV("PROXY UNKNOWN\r\n")));
}

static void longest_line_fits(void **state)
{
    char out[PROXY_HEADER_MAX];
    const char *longest = "abcd:abcd:abcd:abcd:abcd:abcd:abcd:abcd";
    struct addr a = at(longest, 65535);
    sv v = sv_make(out, proxy_header_write(out, 1, &a, &a));
    assert_true(v.n < PROXY_HEADER_MAX);
    assert_true(sv_ends(v, SV(" 65535 65535\r\n")));
}

static void as_bytes(void **state)
{
    static const char v4[] =
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x04\xd2\0\x50";
    char out[PROXY_HEADER_MAX];
    assert_true(sv_eq(header(out, 2, "10.0.0.1", "10.0.0.2"), sv_make(v4, sizeof v4 - 1)));
    sv v6 = header(out, 2, "::1", "::2");
    assert_int_equal(v6.n, 52);
    assert_memory_equal(v6.p + 12, "\x21\x21\0\x24", 4);
    assert_int_equal(v6.p[31], 1);
    assert_int_equal(v6.p[47], 2);
    assert_memory_equal(v6.p + 48, "\x04\xd2\0\x50", 4);
}

static void of_nobody(void **state)
{
    char out[PROXY_HEADER_MAX];
    struct addr a = at("10.0.0.1", 1);
    assert_int_equal(proxy_header_write(out, 2, NULL, NULL), 16);
    assert_memory_equal(out + 12, "\x20\0\0\0", 4);
    assert_int_equal(proxy_header_write(out, 2, &a, NULL), 16);
    assert_int_equal(proxy_header_write(out, 1, NULL, NULL), 15);
    assert_memory_equal(out, "PROXY UNKNOWN\r\n", 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_line),
        cmocka_unit_test(longest_line_fits),
        cmocka_unit_test(as_bytes),
        cmocka_unit_test(of_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
