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

#define B3_TRACE  "463ac35c9f6413ad48485a3953bb6124"
#define B3_SPAN   "a2fb4a1d1a96d312"
#define B3_PARENT "0020000000000001"

static void test_b3_single(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "true",
        B3_TRACE,
        B3_TRACE "-",
        B3_TRACE "-" B3_SPAN "-",
        B3_TRACE "-" B3_SPAN "-x",
        B3_TRACE "-" B3_SPAN "_1",
        B3_TRACE "-" B3_SPAN "-1-",
        B3_TRACE "-" B3_SPAN "-1-" B3_PARENT "0",
        B3_TRACE "-" B3_SPAN "-" B3_PARENT,
        "z" B3_TRACE "-" B3_SPAN,
        "48485a3953bb612-" B3_SPAN,
        "48485a3953bb6124-" B3_SPAN "-1-z020000000000001",
        "48485a3953bb6124-+2fb4a1d1a96d312",
    };
    struct trace_b3 b = {.ctx.sampled = true}, before;
    assert_int_equal(trace_b3_parse(SV(B3_TRACE "-" B3_SPAN), &b), 0);
    assert_true(b.ids && b.single && b.ctx.sampled && !b.has_sampled && !b.has_parent);
    assert_int_equal(b.ctx.trace_id[0], 0x46);
    assert_int_equal(b.ctx.trace_id[15], 0x24);
    assert_int_equal(trace_b3_parse(SV("48485A3953BB6124-" B3_SPAN "-0-" B3_PARENT), &b), 0);
    assert_true(!b.ctx.sampled && b.has_sampled && b.has_parent);
    assert_int_equal(b.ctx.trace_id[0] | b.ctx.trace_id[7], 0);
    assert_int_equal(b.ctx.trace_id[8], 0x48);
    assert_int_equal(b.parent[1], 0x20);
    before = b;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(trace_b3_parse(sv_of(bad[i]), &b), E_INVALID);
    assert_memory_equal(&b, &before, sizeof b);
}

/* A server's span joins its client's, or is a child of it; the next hop is told in the same form.
 */
static void test_b3_span(void **state)
{
    (void)state;
    struct trace_style style = {.b3 = true, .shared = true};
    struct trace_span s = {0};
    struct http_headers h;
    struct rand_state r;
    struct arena a;
    arena_init(&a);
    rand_seed(&r, 1);
    http_headers_init(&h, &a);
    http_headers_add(&h, SV("x-b3-traceid"), SV(B3_TRACE));
    http_headers_add(&h, SV("x-b3-spanid"), SV(B3_SPAN));
    http_headers_add(&h, SV("x-b3-sampled"), SV("0"));
    assert_int_equal(trace_span_start(&s, &style, &h, true, &r, &a), 0);
    assert_true(!s.ctx.sampled && !s.has_parent);
    assert_true(sv_eq(trace_span_id_text(s.ctx.span_id, &a), SV(B3_SPAN)));
    style.shared = false;
    assert_int_equal(trace_span_start(&s, &style, &h, true, &r, &a), 0);
    assert_true(sv_eq(trace_span_id_text(s.parent, &a), SV(B3_SPAN)));
    trace_span_inject(&s, &style, &h, &a);
    assert_true(sv_eq(http_headers_get_sv(&h, SV("x-b3-parentspanid")), SV(B3_SPAN)));
    http_headers_add(&h, SV("b3"), SV("d"));
    assert_int_equal(trace_span_start(&s, &style, &h, false, &r, &a), 0);
    assert_true(s.b3_single && s.ctx.sampled);
    assert_int_equal(trace_id_text(&s.ctx, false, &a).n, 16);
    assert_int_equal(trace_id_text(&s.ctx, true, &a).n, 32);
    http_headers_set(&h, SV("b3"), SV("?"));
    assert_int_equal(trace_span_start(&s, &style, &h, false, &r, &a), E_INVALID);
    arena_free(&a);
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
        cmocka_unit_test(test_b3_single),
        cmocka_unit_test(test_b3_span),
        cmocka_unit_test(test_tags_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
