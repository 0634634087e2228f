#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/codec.h"
#include "http/date.h"
#include "http/handle.h"
#include "http/headers.h"
#include "http/chars.h"
#include "http/limits.h"
#include "http/stream_info.h"

static struct arena arena;

static int setup(void **state)
{
    arena_init(&arena);
    return 0;
}

static int teardown(void **state)
{
    arena_free(&arena);
    return 0;
}

#define assert_sv(got, want)                                                                       \
    do {                                                                                           \
        sv got_ = (got);                                                                           \
        assert_int_equal(got_.n, strlen(want));                                                    \
        assert_memory_equal(got_.p, want, got_.n);                                                 \
    } while (0)

static void names_are_interned(void **state)
{
    for (unsigned id = 1; id < HTTP_H_COUNT; id++)
        assert_int_equal(http_name_find(http_name_text(id)), id);
    static const char *other[] = {"", "x", "hos", "hostt", "Host", "x-request-ie", "cookiE", "dat"};
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        assert_int_equal(http_name_find(sv_of(other[i])), HTTP_H_OTHER);
    assert_int_equal(http_name_text(HTTP_H_COUNT).n, 0);
}

static void validators_case_16(void **state)
{
    assert_true(http_name_valid(SV("X-a_b.1~!#$%&'*+^`|")));
    assert_true(http_name_lower_valid(SV("x-a_b.1")));
    assert_false(http_name_lower_valid(SV("X-a")));
    static const char *bad[] = {"", " ", "a b", "a:", "a\t", "\x7f", "a(", "\xc3\xa9", "a\"", "a/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(http_name_valid(sv_of(bad[i])));
        assert_false(http_name_lower_valid(sv_of(bad[i])));
    }
    assert_false(http_name_valid(sv_make("a\0b", 3)));
    assert_false(http_name_lower_valid(sv_make("\0", 1)));
    assert_true(http_value_valid(SV("")));
    assert_true(http_value_valid(SV("a \t \"\xff\x80~")));
    /* Every byte at every place of every length up to a step and a half. */
    for (int c = 0; c < 256; c++) {
        bool ok = c == '\t' || (c >= 0x20 && c != 0x7f);
        for (size_t n = 1; n < 26; n++)
            for (size_t at = 0; at < n; at++) {
                char v[26];
                memset(v, at & 1 ? 'a' : 0xfe, n);
                v[at] = (char)c;
                assert_int_equal(http_value_valid(sv_make(v, n)), ok);
                memset(v, 'a', n);
                v[at] = (char)c;
                assert_int_equal(http_target_valid(v, n), http_target_ok[c]);
            }
    }
    assert_true(http_target_valid("", 0));
}

static void what_was_added_is_found(void **state)
{
    struct http_headers a, b;
    http_headers_init(&a, &arena);
    http_headers_init(&b, &arena);
    for (unsigned id = 1; id < HTTP_H_COUNT; id++) {
        assert_null(http_headers_get(&a, (enum http_name)id).p);
        http_headers_add(&a, http_name_text((enum http_name)id), SV("v"));
        assert_non_null(http_headers_get(&a, (enum http_name)id).p);
    }
    assert_null(http_headers_get_sv(&a, SV("x-other")).p);
    http_headers_add(&a, SV("x-other"), SV("v"));
    http_headers_add_all(&b, &a);
    http_headers_add_all(&b, NULL);
    assert_int_equal(b.n, HTTP_H_COUNT);
    for (unsigned id = 1; id < HTTP_H_COUNT; id++) {
        assert_int_equal(http_headers_remove_id(&b, (enum http_name)id), 1);
        assert_null(http_headers_get(&b, (enum http_name)id).p);
        http_headers_set_id(&b, (enum http_name)id, SV("w"));
        assert_true(sv_eq(http_headers_get(&b, (enum http_name)id), SV("w")));
    }
    http_headers_copy(&a, &b, &arena);
    assert_true(sv_eq(http_headers_get(&a, HTTP_H_VIA), SV("w")));
    assert_true(sv_eq(http_headers_get_sv(&a, SV("x-other")), SV("v")));
}

static void add_get_set_remove(void **state)
{
    struct http_headers h;
    http_headers_init(&h, &arena);
    assert_null(http_headers_get(&h, HTTP_H_VIA).p);
    http_headers_add(&h, SV("x-a"), SV("1"));
    http_headers_add(&h, SV("via"), SV("v1"));
    http_headers_add(&h, SV("x-a"), SV("2"));
    http_headers_add_id(&h, HTTP_H_VIA, SV("v2"));
    http_headers_add(&h, SV("x-empty"), (sv){NULL, 0});
    assert_int_equal(h.v[1].id, HTTP_H_VIA);
    assert_sv(http_headers_get(&h, HTTP_H_VIA), "v1");
    assert_sv(http_headers_get_sv(&h, SV("x-a")), "1");
    assert_non_null(http_headers_get_sv(&h, SV("x-empty")).p);
    assert_null(http_headers_get_sv(&h, SV("x-none")).p);
    assert_sv(http_headers_joined(&h, SV("x-a"), &arena), "1,2");
    assert_sv(http_headers_joined(&h, SV("via"), &arena), "v1,v2");
    assert_null(http_headers_joined(&h, SV("x-none"), &arena).p);
    assert_int_equal(http_headers_bytes(&h, false), 3 + 1 + 3 + 2 + 3 + 1 + 3 + 2 + 7);
    assert_int_equal(http_headers_bytes(&h, true), 25 + 5 * 32);

    http_headers_set(&h, SV("x-a"), SV("9"));
    assert_int_equal(h.n, 4);
    assert_sv(h.v[0].value, "9");
    assert_sv(h.v[1].name, "via");
    http_headers_set_id(&h, HTTP_H_SERVER, SV("weft"));
    assert_sv(h.v[4].name, "server");
    assert_int_equal(http_headers_remove_id(&h, HTTP_H_VIA), 2);
    assert_int_equal(http_headers_remove(&h, SV("x-none")), 0);
    assert_int_equal(http_headers_remove(&h, SV("x-a")), 1);
    assert_int_equal(h.n, 2);
}

static void grows_and_copies(void **state)
{
    struct http_headers h, copy;
    http_headers_init(&h, &arena);
    for (int i = 0; i < 100; i++) {
        struct http_header *e = http_headers_push(&h);
        e->name = arena_printf(&arena, "n%d", i);
        e->value = arena_printf(&arena, "%d", i);
    }
    http_headers_add_id(&h, HTTP_H_HOST, SV("h"));
    h.v[3].raw = "N3";
    struct arena other;
    arena_init(&other);
    http_headers_copy(&copy, &h, &other);
    assert_int_equal(copy.n, 101);
    assert_sv(http_headers_get_sv(&copy, SV("n77")), "77");
    assert_ptr_not_equal(copy.v[77].value.p, h.v[77].value.p);
    assert_memory_equal(copy.v[3].raw, "N3", 2);
    assert_ptr_not_equal(copy.v[3].raw, h.v[3].raw);
    http_headers_add(&copy, SV("one-more"), SV("x"));
    assert_int_equal(copy.n, 102);
    arena_free(&other);
}

static void heads_by_name(void **state)
{
    struct http_head m;
    http_head_init(&m, &arena);
    assert_int_equal(m.content_length, -1);
    assert_null(http_head_get(&m, SV(":path"), &arena).p);
    assert_null(http_head_get(&m, SV(":status"), &arena).p);
    assert_int_equal(http_head_set(&m, SV(":method"), SV("GET")), 0);
    assert_int_equal(http_head_set(&m, SV(":path"), SV("/x")), 0);
    assert_int_equal(http_head_set(&m, SV("host"), SV("h")), 0);
    assert_int_equal(http_head_set(&m, SV(":scheme"), SV("https")), 0);
    assert_int_equal(http_head_set(&m, SV("x-b"), SV("1")), 0);
    assert_int_equal(http_head_set(&m, SV(":status"), SV("204")), 0);
    static const char *bad[] = {"", "20", "2040", "99", "600", "2x4"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(http_head_set(&m, SV(":status"), sv_of(bad[i])), E_INVALID);
    assert_int_equal(http_head_set(&m, SV(":nope"), SV("x")), E_INVALID);
    assert_int_equal(http_head_set(&m, SV(""), SV("x")), E_INVALID);
    assert_sv(http_head_get(&m, SV(":authority"), &arena), "h");
    assert_sv(http_head_get(&m, SV("host"), &arena), "h");
    assert_sv(http_head_get(&m, SV(":status"), &arena), "204");
    assert_sv(http_head_get(&m, SV("x-b"), &arena), "1");
    assert_null(http_head_get(&m, SV(":protocol"), &arena).p);
    assert_int_equal(m.h.n, 1);
}

/* An upgrade has the same size whether it came as one or as extended CONNECT. */
static void sizes(void **state)
{
    struct http_head m;
    assert_int_equal(http_head_size(NULL).n, 0);
    http_head_init(&m, &arena);
    m.method = SV("GET");
    m.path = SV("/");
    m.upgrade = true;
    m.connect_protocol = SV("websocket");
    size_t bytes = strlen(":methodGET:path/connectionupgradeupgradewebsocket");
    assert_int_equal(http_head_size(&m).n, 4);
    assert_int_equal(http_head_size(&m).bytes, bytes);
    http_headers_add_id(&m.h, HTTP_H_CONNECTION, SV("upgrade"));
    http_headers_add_id(&m.h, HTTP_H_UPGRADE, SV("websocket"));
    assert_int_equal(http_head_size(&m).n, 4);
    assert_int_equal(http_head_size(&m).bytes, bytes);
    http_head_init(&m, &arena);
    m.status = 200;
    assert_int_equal(http_head_size(&m).bytes, strlen(":status200"));
}

static void grpc_by_content_type(void **state)
{
    static const struct {
        const char *type;
        bool grpc;
    } t[] = {{"application/grpc", true},   {"application/grpc+proto", true},
             {"application/grpc;x", true}, {"application/grpc-web", false},
             {"application/json", false},  {"", false}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct http_head m;
        http_head_init(&m, &arena);
        http_headers_add_id(&m.h, HTTP_H_CONTENT_TYPE, sv_of(t[i].type));
        assert_int_equal(http_head_is_grpc(&m), t[i].grpc);
    }
}

static void texts(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    assert_int_equal(l.max_headers, 100);
    assert_string_equal(http_reset_text(HTTP_RESET_REMOTE), "remote_reset");
    assert_string_equal(http_reset_text(999), "unknown_reset");
    assert_string_equal(http_protocol_text(HTTP_11), "HTTP/1.1");
    assert_string_equal(http_protocol_text(HTTP_2), "HTTP/2");
}

static void dates(void **state)
{
    char d[HTTP_DATE_LEN + 1];
    http_date_format(784111777, d);
    assert_string_equal(d, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date_format(0, d);
    assert_string_equal(d, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date_format(951782400, d);
    assert_string_equal(d, "Tue, 29 Feb 2000 00:00:00 GMT");
    http_date_format(4107542399, d);
    assert_string_equal(d, "Sun, 28 Feb 2100 23:59:59 GMT");
    http_date_format(4107542400, d);
    assert_string_equal(d, "Mon, 01 Mar 2100 00:00:00 GMT");
    sv a = http_date(784111777ull * 1000000000u + 5);
    assert_sv(a, "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_ptr_equal(http_date(784111777ull * 1000000000u + 999999999u).p, a.p);
    assert_sv(http_date(784111778ull * 1000000000u), "Sun, 06 Nov 1994 08:49:38 GMT");
}

static void handles_die_with_their_object(void **state)
{
    int x, y;
    handle a = handle_new(&x), b = handle_new(&y);
    assert_ptr_equal(handle_get(a), &x);
    assert_ptr_equal(handle_get(b), &y);
    handle_drop(a);
    handle_drop(a);
    assert_null(handle_get(a));
    handle c = handle_new(&y);
    assert_int_equal((uint32_t)c, (uint32_t)a);
    assert_null(handle_get(a));
    assert_ptr_equal(handle_get(c), &y);
    assert_int_equal(handle_count(), 2);
    assert_null(handle_get(0));
    assert_null(handle_get(UINT64_MAX));
    handle_drop(b);
    handle_drop(c);
    handle_trim();
    handle d = handle_new(&x);
    assert_null(handle_get(a));
    assert_null(handle_get(c));
    assert_ptr_equal(handle_get(d), &x);
    handle_drop(d);
    for (int i = 0; i < 1000; i++)
        (void)handle_new(&x);
    assert_int_equal(handle_count(), 1000);
}

static void first_cause_is_kept(void **state)
{
    struct stream_info si;
    stream_info_init(&si, &arena);
    stream_info_fail(&si, STREAM_FLAG_UF | STREAM_FLAG_URX, SV("first"));
    stream_info_fail(&si, STREAM_FLAG_DC, SV("second"));
    assert_sv(si.details, "first");
    struct strbuf s;
    strbuf_init(&s, 1000);
    stream_flags_text(si.flags, false, &s);
    assert_sv(strbuf_sv(&s), "URX,UF,DC");
    strbuf_reset(&s);
    stream_flags_text(STREAM_FLAG_NR, true, &s);
    assert_sv(strbuf_sv(&s), "NoRouteFound");
    strbuf_reset(&s);
    stream_flags_text(0, false, &s);
    assert_sv(strbuf_sv(&s), "-");
    strbuf_fini(&s);
    assert_int_equal(stream_flag_find(SV("UAEX")), STREAM_FLAG_BIT_UAEX);
    assert_int_equal(stream_flag_find(SV("XX")), -1);
    assert_sv(stream_info_details(&si, STREAM_RCD_EARLY_UPSTREAM_RESET, SV("remote reset\n")),
              "upstream_reset_before_response_started{remote_reset_}");
    assert_sv(stream_info_details(&si, STREAM_RCD_VIA_UPSTREAM, SV("")), "via_upstream");
}

static void address_texts(void **state)
{
    assert_sv(stream_addr_ip(SV("10.0.0.1:80")), "10.0.0.1");
    assert_sv(stream_addr_ip(SV("[::1]:80")), "::1");
    assert_sv(stream_addr_ip(SV("::1")), "::1");
    assert_sv(stream_addr_ip(SV("[::1]")), "::1");
    assert_sv(stream_addr_ip(SV("/run/x:y")), "/run/x:y");
    assert_sv(stream_addr_port(SV("10.0.0.1:80")), "80");
    assert_sv(stream_addr_port(SV("[::1]:443")), "443");
    assert_sv(stream_addr_port(SV("::1")), "");
    assert_sv(stream_addr_port(SV("")), "");
    struct stream_info si;
    struct stream_conn conn = {.remote = SV_INIT("1.2.3.4:5")};
    stream_info_init(&si, &arena);
    assert_sv(stream_info_remote(&si), "");
    si.down = &conn;
    assert_sv(stream_info_remote(&si), "1.2.3.4:5");
    si.remote = SV("9.9.9.9:0");
    assert_sv(stream_info_remote(&si), "9.9.9.9:0");
}

static void metadata_and_state(void **state)
{
    struct stream_info si;
    stream_info_init(&si, &arena);
    stream_info_meta_set(&si, SV("f"), SV("k"), SV("v"));
    stream_info_meta_set_number(&si, SV("f"), SV("n"), 3);
    stream_info_meta_set_number(&si, SV("f"), SV("m"), 0.5);
    stream_info_meta_set_bool(&si, SV("g"), SV("k"), true);
    stream_info_meta_set_json(&si, SV("g"), SV("j"), SV("{\"a\":1}"));
    stream_info_meta_set(&si, SV("f"), SV("k"), SV("w"));
    assert_sv(stream_info_meta_get(&si, SV("f"), SV("k"))->text, "w");
    assert_sv(stream_info_meta_get(&si, SV("f"), SV("n"))->text, "3");
    assert_sv(stream_info_meta_get(&si, SV("f"), SV("m"))->text, "0.5");
    assert_true(stream_info_meta_get(&si, SV("g"), SV("k"))->boolean);
    assert_int_equal(stream_info_meta_get(&si, SV("g"), SV("j"))->kind, STREAM_META_JSON);
    assert_null(stream_info_meta_get(&si, SV("g"), SV("n")));
    stream_info_state_set(&si, SV("s"), &si, SV("t"));
    stream_info_state_set(&si, SV("s"), &arena, SV("u"));
    assert_ptr_equal(stream_info_state_get(&si, SV("s"))->obj, &arena);
    assert_null(stream_info_state_get(&si, SV("x")));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(names_are_interned),
        T(validators_case_16),
        T(what_was_added_is_found),
        T(add_get_set_remove),
        T(grows_and_copies),
        T(heads_by_name),
        T(sizes),
        T(grpc_by_content_type),
        T(texts),
        T(dates),
        T(handles_die_with_their_object),
        T(first_cause_is_kept),
        T(address_texts),
        T(metadata_and_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
