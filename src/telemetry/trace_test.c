#include "telemetry/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define GOOD "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static void test_parent(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-012",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333:-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0/",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01",
    };
    struct trace_context c, before;
    char text[TRACE_PARENT_LEN];
    assert_int_equal(trace_parent_parse(SV(GOOD), &c), 0);
    assert_true(c.sampled);
    assert_int_equal(c.trace_id[0], 0x0a);
    assert_int_equal(c.span_id[7], 0x31);
    trace_parent_text(&c, text);
    assert_memory_equal(text, GOOD, sizeof text);
    before = c;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(trace_parent_parse(sv_of(bad[i]), &c), E_INVALID);
    assert_memory_equal(&c, &before, sizeof c);
}

static void test_tags_are_replaced(void **state)
{
    (void)state;
    struct arena a;
    struct trace_span s = {.n_tags = 0};
    arena_init(&a);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 100; i++)
            trace_span_tag(&s, &a, arena_printf(&a, "k%u", i), arena_printf(&a, "%u", round));
    assert_int_equal(s.n_tags, 100);
    assert_true(sv_eq(s.tags[99].key, SV("k99")));
    assert_true(sv_eq(s.tags[99].value, SV("1")));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parent),
        cmocka_unit_test(test_tags_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
