#include "base/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/strbuf.h"

static void set(struct runtime *r, unsigned layer, const char *key, const char *text)
{
    runtime_set(r, layer, sv_of(key), text ? &(struct runtime_value){.text = sv_of(text)} : NULL);
}

static void layers(void **state)
{
    struct runtime *r = runtime_new(2);
    struct runtime_key *k = runtime_key(r, SV("a.b"));
    assert_ptr_equal(runtime_key(r, SV("a.b")), k);
    assert_null(runtime_key(r, SV("")));
    assert_null(runtime_key(NULL, SV("a")));
    assert_int_equal(runtime_number(k, 7), 7);
    set(r, 0, "a.b", "5");
    assert_int_equal(runtime_number(k, 7), 7); /* not yet published */
    runtime_publish(r);
    assert_int_equal(runtime_number(k, 7), 5);
    set(r, 1, "a.b", "6");
    runtime_publish(r);
    assert_int_equal(runtime_number(k, 7), 6);
    set(r, 0, "a.b", "8");
    runtime_publish(r);
    assert_int_equal(runtime_number(k, 7), 6);
    set(r, 1, "a.b", NULL);
    set(r, 1, "never", NULL);
    runtime_publish(r);
    assert_int_equal(runtime_number(k, 7), 8);
    assert_int_equal(runtime_number(runtime_key(r, SV("a.b")), 0), 8);
    runtime_clear(r, 0);
    runtime_publish(r);
    assert_int_equal(runtime_number(k, 7), 7);
    runtime_free(r);
    runtime_free(NULL);
}

static void kinds(void **state)
{
    static const struct {
        const char *text;
        uint64_t number;   /* 99: none */
        uint64_t fraction; /* of 100; 999: none */
    } v[] = {
        {"0", 0, 0},       {"30", 30, 30},       {"1e+02", 100, 100}, {"200", 200, 200},
        {"1.5", 99, 999},  {"3.0", 3, 3},        {"-1", 99, 999},     {"", 99, 999},
        {"true", 99, 999}, {"3 or so", 99, 999},
    };
    struct runtime *r = runtime_new(1);
    struct runtime_key *k = runtime_key(r, SV("k"));
    uint32_t n, d;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        set(r, 0, "k", v[i].text);
        runtime_publish(r);
        assert_int_equal(runtime_number(k, 99), v[i].number);
        assert_int_equal(runtime_text_number(r, SV("k"), 99), v[i].number);
        assert_int_equal(runtime_fraction(k, &n, &d) ? n : 999, v[i].fraction);
    }
    runtime_set(r, 0, SV("k"), &(struct runtime_value){SV("5 of 10000"), 5, 10000});
    runtime_publish(r);
    assert_true(runtime_fraction(k, &n, &d));
    assert_int_equal(n, 5);
    assert_int_equal(d, 10000);
    assert_int_equal(runtime_number(k, 99), 99);
    assert_false(runtime_fraction(NULL, &n, &d));
    runtime_free(r);
}

static void list(void *arg, sv key, sv value, const sv *of, unsigned n)
{
    strbuf_addf(arg, "%.*s=%.*s", SV_ARG(key), SV_ARG(value));
    for (unsigned i = 0; i < n; i++)
        strbuf_addf(arg, ",%.*s", of[i].p ? (int)of[i].n : 1, of[i].p ? of[i].p : "-");
    strbuf_add_c(arg, " ");
}

static void listing(void **state)
{
    struct runtime *r = runtime_new(2);
    struct strbuf b;
    strbuf_init(&b, 1024);
    set(r, 0, "z", "1");
    set(r, 1, "a", "2");
    set(r, 1, "z", "");
    runtime_publish(r);
    runtime_each(r, list, &b);
    assert_string_equal(b.p, "a=2,-,2 z=,1, ");
    assert_int_equal(runtime_count(r, 1), 2);
    assert_true(sv_eq(runtime_text(r, SV("a")), SV("2")));
    assert_null(runtime_text(r, SV("b")).p);
    assert_null(runtime_text(NULL, SV("b")).p);
    strbuf_fini(&b);
    runtime_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers), cmocka_unit_test(kinds),
                                       cmocka_unit_test(listing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
