/* regex: full and partial matches, groups, substitution, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "api/regex.h"

static struct regex *make(sv pattern)
{
    struct regex *r = NULL;
    struct error err = {0};
    assert_int_equal(regex_new(pattern, 0, &r, &err), 0);
    return r;
}

static void test_match(void **state)
{
    struct regex *r = make(SV("/v[0-9]+/.*"));
    assert_true(regex_full(r, SV("/v12/books")));
    assert_false(regex_full(r, SV("x/v12/books")));
    assert_true(regex_partial(r, SV("x/v12/books")));
    assert_false(regex_full(r, (sv){0}));
    assert_true(sv_eq_c(regex_pattern(r), "/v[0-9]+/.*"));
    assert_true(regex_program_size(r) > 3);
    regex_free(r);
    regex_free(NULL);
}

static void test_groups_and_rewrite(void **state)
{
    struct regex *r = make(SV("^/(a+)/(b+)"));
    sv part;
    assert_true(regex_capture(r, SV("/aa/bbb/c"), 2, &part));
    assert_true(sv_eq_c(part, "bbb"));
    assert_true(regex_capture(r, SV("/aa/bbb/c"), 0, &part));
    assert_true(sv_eq_c(part, "/aa/bbb"));
    assert_false(regex_capture(r, SV("/aa/bbb/c"), 3, &part));
    assert_false(regex_capture(r, SV("/x"), 1, &part));

    struct error err = {0};
    assert_int_equal(regex_check_rewrite(r, SV("/\\2/\\1"), &err), 0);
    assert_int_equal(regex_check_rewrite(r, SV("\\3"), &err), E_INVALID);
    struct strbuf out;
    strbuf_init(&out, 1000);
    assert_true(regex_replace_all(r, SV("/aa/bbb/c"), SV("/\\2/\\1"), &out));
    assert_string_equal(out.p, "/bbb/aa/c");
    strbuf_reset(&out);
    assert_false(regex_replace_all(r, SV("/c"), SV("x"), &out));
    assert_string_equal(out.p, "/c");
    strbuf_fini(&out);
    regex_free(r);
}

static void test_refused(void **state)
{
    struct regex *r = NULL;
    struct error err = {0};
    assert_int_equal(regex_new(SV("a("), 0, &r, &err), E_INVALID);
    assert_non_null(strstr(err.msg, "missing )"));
    assert_int_equal(regex_new(SV("(?=a)"), 0, &r, &err), E_INVALID);
    assert_int_equal(regex_new(SV("(x{1,100}){1,10}"), 100, &r, &err), E_LIMIT);
    assert_int_equal(regex_new(SV("((x{1,100}){1,10}){1,10}"), 0, &r, &err), E_INVALID);
    assert_null(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_groups_and_rewrite),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
