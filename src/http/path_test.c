#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/path.h"

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

struct canon {
    const char *in, *out; /* out NULL: rejected */
    struct path_opts o;
    bool redirect;
};

#define NORM   .o = {.normalize = true}
#define MERGE  .o = {.normalize = true, .merge_slashes = true}
#define DECODE .o = {.normalize = true, .merge_slashes = true, .escaped = PATH_SLASHES_FORWARD}

static const struct canon canons[] = {
    {"/a/../b", "/a/../b"},
    {"/a//b?x=/../y", "/a//b?x=/../y", NORM},
    {"/a/b/c", "/a/b/c", NORM},
    {"/a/b/../c", "/a/c", NORM},
    {"/a/b/./c", "/a/b/c", NORM},
    {"/a/b/../../../../c", "/c", NORM},
    {"/a/..\\c", "/c", NORM},
    {"/a/b/..", "/a/", NORM},
    {"/a/b/.", "/a/b/", NORM},
    {"/..", "/", NORM},
    {"/a/b/%2e%2E/c?%2e%2e", "/a/c?%2e%2e", NORM},
    {"/%2E", "/", NORM},
    {"/.a/..b/c.", "/.a/..b/c.", NORM},
    {"/%61dmin/%7euser", "/admin/~user", NORM},
    {"/%c0%af", "/%c0%af", NORM},
    {"/%5c%25", "/%5c%25", NORM},
    {"/%zz%4", "/%zz%4", NORM},
    {"/a/%%32e%%32e/b/%2%65%2%65", "/a/%%32e%%32e/b/%2%65%2%65", NORM},
    {"/a b\"\xc3\xa9", "/a%20b%22%C3%A9", NORM},
    {"/a;p=1/../b", "/b", NORM},
    {"/a/%00", NULL, NORM},
    {"/AAAAA%%0000/abc", NULL, NORM},
    {"a/b", NULL, NORM},
    {"?x", NULL, NORM},
    {"//a///b//", "/a/b/", MERGE},
    {"//..//x", "//x", NORM},
    {"/a//../b?u=//x", "/a/b?u=//x", MERGE},
    {"//", "/", .o = {.merge_slashes = true}},
    {"//?a//b", "/?a//b", .o = {.merge_slashes = true}},
    {"/a%2f..%5Cb?%2f", "/b?%2f", DECODE},
    {"/a%2F%2fb", "/a/b", DECODE},
    {"/a%2fb", NULL, .o = {.escaped = PATH_SLASHES_REJECT}},
    {"/a%5cb", NULL, .o = {.escaped = PATH_SLASHES_REJECT}},
    {"/ab?%2f", "/ab?%2f", .o = {.escaped = PATH_SLASHES_REJECT}},
    {"/a%2Fb?q", "/a/b?q", .o = {.escaped = PATH_SLASHES_REDIRECT}, .redirect = true},
    {"/a%5Cb", "/a\\b", .o = {.escaped = PATH_SLASHES_FORWARD}},
    {"/admin#x", NULL},
    {"/admin?a#x", NULL, NORM},
    {"", NULL},
    {"*", "*", NORM},
};

static void canonical_forms_case_23_24(void **state)
{
    for (size_t i = 0; i < sizeof(canons) / sizeof(canons[0]); i++) {
        const struct canon *c = &canons[i];
        sv out = SV("untouched");
        enum path_result r = path_canonical(sv_of(c->in), &c->o, &arena, &out);
        enum path_result want = !c->out ? PATH_REJECT : c->redirect ? PATH_REDIRECT : PATH_OK;
        if (r != want || (c->out && !sv_eq_c(out, c->out)))
            fail_msg("%s: result %d, \"%.*s\"", c->in, r, SV_ARG(out));
    }
}

/* Normalising what is normal changes nothing, for any bytes. */
static void canonical_form_is_stable(void **state)
{
    static const char alphabet[] = "/.%25eE2fFaA0\\;~?";
    struct path_opts o = {.normalize = true, .merge_slashes = true};
    uint32_t x = 1;
    for (int round = 0; round < 20000; round++) {
        char in[24] = "/";
        size_t n = 1;
        for (; n < 1 + (x >> 8) % 20; n++) {
            x = x * 1664525u + 1013904223u;
            in[n] = alphabet[(x >> 16) % (sizeof(alphabet) - 1)];
        }
        x = x * 1664525u + 1013904223u;
        sv once, twice;
        if (path_canonical(sv_make(in, n), &o, &arena, &once) != PATH_OK)
            continue;
        sv path = path_only(once);
        assert_true(path.p[0] == '/');
        assert_int_equal(sv_find_sv(path, SV("/../")), -1);
        assert_int_equal(sv_find_sv(path, SV("//")), -1);
        assert_int_equal(path_canonical(once, &o, &arena, &twice), PATH_OK);
        assert_true(sv_eq(once, twice));
    }
}

static void unchanged_paths_are_not_copied(void **state)
{
    struct path_opts o = {
        .normalize = true, .merge_slashes = true, .escaped = PATH_SLASHES_FORWARD};
    sv in = SV("/productpage/a.b?u=normal/../x&y=%2f"), out;
    assert_int_equal(path_canonical(in, &o, &arena, &out), PATH_OK);
    assert_ptr_equal(in.p, out.p);
    assert_int_equal(arena.used, 0);
}

static void splits_at_first_question_mark(void **state)
{
    sv p, q;
    path_split(SV("/a?b?c"), &p, &q);
    assert_sv(p, "/a");
    assert_sv(q, "b?c");
    path_split(SV("/a"), &p, &q);
    assert_sv(p, "/a");
    assert_null(q.p);
    path_split(SV("/a?"), &p, &q);
    assert_non_null(q.p);
    assert_int_equal(q.n, 0);
}

static void query_parameters(void **state)
{
    sv rest = SV("a=1&&b&c=x=y&=z&a=2"), k, v;
    const char *want[][2] = {{"a", "1"}, {"b", ""}, {"c", "x=y"}, {"", "z"}, {"a", "2"}};
    for (size_t i = 0; i < 5; i++) {
        assert_true(path_query_next(&rest, &k, &v));
        assert_sv(k, want[i][0]);
        assert_sv(v, want[i][1]);
    }
    assert_false(path_query_next(&rest, &k, &v));
    assert_sv(path_query_get(SV("x=1&a=2&a=3"), SV("a")), "2");
    assert_non_null(path_query_get(SV("x&a"), SV("a")).p);
    assert_null(path_query_get(SV("x=1"), SV("a")).p);
    assert_null(path_query_get((sv){NULL, 0}, SV("a")).p);
}

static void escapes(void **state)
{
    assert_sv(path_decode(SV("a%20b+c%2"), true, &arena), "a b c%2");
    assert_sv(path_decode(SV("a%20b+c"), false, &arena), "a b+c");
    assert_sv(path_encode(SV("a b/\xff~"), "/", &arena), "a%20b/%FF~");
}

static void authorities_case_25(void **state)
{
    static const struct {
        const char *in, *host;
        uint16_t port;
        bool ip6;
    } good[] = {
        {"a.example", "a.example", 0, false},
        {"A.Example:8080", "A.Example", 8080, false},
        {"a.example.", "a.example.", 0, false},
        {"10.0.0.1:80", "10.0.0.1", 80, false},
        {"[::1]:80", "::1", 80, true},
        {"[fe80::1]", "fe80::1", 0, true},
        {"under_score:1", "under_score", 1, false},
        {"h:", "h", 0, false},
        {"*.wild", "*.wild", 0, false},
    };
    static const char *bad[] = {"",       "user@host", "user:pw@host", ":80",   "h:0",    "h:65536",
                                "h:8a",   "h:-1",      "[::1",         "[]",    "[::1]x", "[::g]",
                                "a b",    "a/b",       "a?b",          "a#b",   "a:1:2",  "::1",
                                "h%2eom", "a\\b",      "h:000080",     "[1.2]", "a\tb",   "\xff"};
    struct authority p;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(authority_parse(sv_of(good[i].in), &p), 0);
        assert_sv(p.host, good[i].host);
        assert_int_equal(p.port, good[i].port);
        assert_int_equal(p.is_ip6, good[i].ip6);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (authority_parse(sv_of(bad[i]), &p) != E_INVALID)
            fail_msg("accepted %s", bad[i]);
    assert_int_equal(authority_parse(sv_make("[::1\0]", 6), &p), E_INVALID);
}

static void canonical_hosts_case_25(void **state)
{
    static const struct {
        const char *in, *out;
        bool port, dot;
    } t[] = {
        {"SECRET.com:80", "secret.com", true, false},
        {"secret.com:80", "secret.com:80", false, false},
        {"Secret.com.:80", "secret.com", true, true},
        {"Secret.com.:80", "secret.com:80", false, true},
        {"[2001:DB8::1]:443", "[2001:db8::1]", true, true},
        {"[::A]", "[::a]", true, true},
        {"secret.com.", "secret.com.", true, false},
        {"secret.com", "secret.com", true, true},
        {"Not An@Authority:80", "not an@authority:80", true, true},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        assert_sv(authority_canonical(sv_of(t[i].in), t[i].port, t[i].dot, &arena), t[i].out);
    assert_int_equal(authority_port(SV("a:8080"), SV("https")), 8080);
    assert_int_equal(authority_port(SV("a"), SV("https")), 443);
    assert_int_equal(authority_port(SV("a"), SV("http")), 80);
    assert_int_equal(authority_port(SV("a"), SV("gopher")), 0);
}

static void absolute_form(void **state)
{
    struct path_url u;
    assert_int_equal(path_url_parse(SV("HTTP://h:81/a?b"), &arena, &u), 0);
    assert_sv(u.scheme, "HTTP");
    assert_sv(u.authority, "h:81");
    assert_sv(u.path, "/a?b");
    assert_int_equal(path_url_parse(SV("http://h"), &arena, &u), 0);
    assert_sv(u.path, "/");
    assert_int_equal(path_url_parse(SV("https://[::1]?q=/"), &arena, &u), 0);
    assert_sv(u.authority, "[::1]");
    assert_sv(u.path, "/?q=/");
    static const char *bad[] = {"http:///x",  "ftp://h/",       "http://u@h/", "http:/h",
                                "/http://h/", "http://h/#f",    "http://h#f",  "://h",
                                "http://",    "http://h:99999/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (path_url_parse(sv_of(bad[i]), &arena, &u) != E_INVALID)
            fail_msg("accepted %s", bad[i]);
    assert_true(path_is_absolute(SV("x+y://z")));
    assert_false(path_is_absolute(SV("/x://z")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(canonical_forms_case_23_24, setup, teardown),
        cmocka_unit_test_setup_teardown(canonical_form_is_stable, setup, teardown),
        cmocka_unit_test_setup_teardown(unchanged_paths_are_not_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(splits_at_first_question_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(query_parameters, setup, teardown),
        cmocka_unit_test_setup_teardown(escapes, setup, teardown),
        cmocka_unit_test_setup_teardown(authorities_case_25, setup, teardown),
        cmocka_unit_test_setup_teardown(canonical_hosts_case_25, setup, teardown),
        cmocka_unit_test_setup_teardown(absolute_form, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
