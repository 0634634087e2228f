/* Hash policies: the values are XXH64's, combined as Envoy does. */
#include "route/route_test.h"

#define HASH_A   0xd24ec4f1a98c6e5bull /* XXH64("a") */
#define HASH_ABC 0x44bc2cf5ad770999ull /* XXH64("abc") */

static struct stream_conn down = {.local = {"10.0.0.2:80", 11}, .remote = {"10.0.0.1:999", 12}};

static bool hash_of(const char *policies, const char *req, uint64_t *h, sv *cookie)
{
    char yaml[2000];
    snprintf(yaml, sizeof(yaml),
             "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, "
             "route: {cluster: c, hash_policy: [%s]}}]}]}",
             policies);
    struct route_table *t = table(yaml);
    struct route_match m = match(t, req);
    struct stream_info si;
    stream_info_init(&si, &a);
    si.down = &down;
    stream_info_state_set(&si, SV("k"), NULL, SV("abc"));
    sv c;
    bool there = route_match_hash(&m, request(req), &si, &a, h, &c);
    if (cookie)
        *cookie = c.p ? arena_sv(&a, c) : c;
    route_table_unref(t);
    return there;
}

static void check(const char *policies, const char *req, uint64_t want)
{
    uint64_t h = 0;
    if (!hash_of(policies, req, &h, NULL) || h != want)
        fail_msg("%s, %s: %llx, want %llx", policies, req, (unsigned long long)h,
                 (unsigned long long)want);
}

static uint64_t rotl(uint64_t v)
{
    return v << 1 | v >> 63;
}

static void test_sources(void **state)
{
    uint64_t h;
    check("{header: {header_name: X}}", "GET h /\nx: abc", HASH_ABC);
    check("{header: {header_name: ':method'}}", "abc h /", HASH_ABC);
    check("{header: {header_name: x, regex_rewrite: {pattern: {regex: '[0-9]+'}, substitution: "
          "b}}}",
          "GET h /\nx: a7c", HASH_ABC);
    check("{cookie: {name: k}}", "GET h /\ncookie: a=1; k=abc; k=2", HASH_ABC);
    check("{cookie: {name: k}}", "GET h /\ncookie: z=1\ncookie: k=\"abc\"", HASH_ABC);
    check("{query_parameter: {name: q}}", "GET h /?z=1&q=abc&q=d", HASH_ABC);
    check("{filter_state: {key: k}}", "GET h /", HASH_ABC);
    assert_true(hash_of("{connection_properties: {source_ip: true}}", "GET h /", &h, NULL));
    uint64_t ip = h;
    check("{header: {header_name: x}}", "GET h /\nx: 10.0.0.1", ip);
    assert_false(hash_of("{header: {header_name: x}}", "GET h /", &h, NULL));
    assert_false(hash_of("{cookie: {name: k}}", "GET h /\ncookie: kk=1", &h, NULL));
    assert_false(hash_of("{query_parameter: {name: q}}", "GET h /?p", &h, NULL));
    assert_false(hash_of("", "GET h /", &h, NULL));
}

static void test_combining(void **state)
{
    uint64_t both, swapped;
    check("{header: {header_name: x}}, {header: {header_name: y}}", "GET h /\nx: abc\ny: a",
          rotl(HASH_ABC) ^ HASH_A);
    check("{header: {header_name: x}}, {header: {header_name: x}}", "GET h /\nx: abc",
          rotl(HASH_ABC) ^ HASH_ABC);
    check("{header: {header_name: no}}, {header: {header_name: y}}", "GET h /\ny: a", HASH_A);
    check("{header: {header_name: x}, terminal: true}, {header: {header_name: y}}",
          "GET h /\nx: abc\ny: a", HASH_ABC);
    check("{header: {header_name: no}, terminal: true}, {header: {header_name: y}}",
          "GET h /\ny: a", HASH_A);
    /* Several values: in any order the same. */
    assert_true(hash_of("{header: {header_name: x}}", "GET h /\nx: a\nx: b", &both, NULL));
    assert_true(hash_of("{header: {header_name: x}}", "GET h /\nx: b\nx: a", &swapped, NULL));
    assert_true(both == swapped);
    assert_true(both != HASH_A);
}

static void test_made_cookie(void **state)
{
    uint64_t h, again;
    sv cookie;
    assert_true(hash_of("{cookie: {name: k, ttl: 60s, path: /p, attributes: [{name: SameSite, "
                        "value: Strict}, {name: Secure}]}}",
                        "GET h /", &h, &cookie));
    char want[200];
    snprintf(want, sizeof(want), "; Max-Age=60; Path=/p; SameSite=Strict; Secure; HttpOnly");
    assert_true(sv_starts(cookie, SV("k=\"")));
    assert_true(sv_ends(cookie, sv_of(want)));
    /* Given back, it leads to the same place. */
    sv value = sv_make(cookie.p + 3, 16);
    char req[100];
    snprintf(req, sizeof(req), "GET h /\ncookie: k=%.*s", SV_ARG(value));
    assert_true(hash_of("{cookie: {name: k, ttl: 60s}}", req, &again, &cookie));
    assert_true(h == again);
    assert_null(cookie.p);
    assert_true(hash_of("{cookie: {name: k, ttl: 0s}}", "GET h /", &h, &cookie));
    assert_true(sv_ends(cookie, SV("\"; HttpOnly")));
    assert_true(sv_find_sv(cookie, SV("Max-Age")) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_sources), TEST(test_combining),
                                       TEST(test_made_cookie)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
