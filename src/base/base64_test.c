#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* RFC 4648 section 10, and the digits that differ between the alphabets. */
static void test_groups(void **state)
{
    const struct {
        const char *alphabet, *bytes;
        size_t n, digits;
        const char *text;
    } cases[] = {
        {base64_standard, "f", 1, 2, "Zg=="},
        {base64_standard, "fo", 2, 3, "Zm8="},
        {base64_standard, "foo", 3, 4, "Zm9v"},
        {base64_standard, "foobar", 6, 4, "Zm9v"},
        {base64_standard, "\xfb\xff\xbf", 3, 4, "+/+/"},
        {base64_url, "\xfb\xff\xbf", 3, 4, "-_-_"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[4];
        assert_int_equal(base64_group(cases[i].alphabet, cases[i].bytes, cases[i].n, out),
                         cases[i].digits);
        assert_memory_equal(out, cases[i].text, 4);
    }
}

static void test_values(void **state)
{
    for (int c = 0; c < 256; c++) {
        const char *at = c ? strchr(base64_standard, c) : NULL;
        assert_int_equal(base64_value((char)c), at ? at - base64_standard : -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
