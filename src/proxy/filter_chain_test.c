#include "proxy/filter_chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MAX 8

struct set {
    struct arena a;
    struct chain_match m[MAX];
    const struct chain_match *v[MAX];
    sv names[MAX];
    uint32_t n;
};

static int add(struct set *s, const char *name, const char *yaml, struct error *err)
{
    void *m;
    if (!s->n)
        arena_init(&s->a);
    assert_int_equal(
        pb_from_text(&envoy_FilterChainMatch_pb, sv_of(yaml), "t", &s->a, NULL, &m, err), 0);
    int rc = chain_match_build(m, name, &s->a, &s->m[s->n], err);
    s->v[s->n] = &s->m[s->n];
    s->names[s->n++] = sv_of(name);
    return rc;
}

static void ok(struct set *s, const char *name, const char *yaml)
{
    struct error err = {0};
    if (add(s, name, yaml, &err) < 0)
        fail_msg("%s", err.msg);
}

static const char *find(const struct set *s, const char *local, const char *remote, const char *sni,
                        const char *transport, const char *alpn1, const char *alpn2)
{
    struct addr l, r;
    sv alpn[2] = {sv_of(alpn1), sv_of(alpn2)};
    assert_int_equal(addr_parse(&l, sv_of(local)), 0);
    assert_int_equal(addr_parse(&r, sv_of(remote)), 0);
    struct chain_conn c = {.local = &l,
                           .remote = &r,
                           .direct_remote = &r,
                           .sni = sv_of(sni),
                           .transport = sv_of(transport),
                           .alpn = alpn,
                           .n_alpn = alpn2   ? 2
                                     : alpn1 ? 1
                                             : 0};
    int i = chain_match_find(s->v, s->n, &c);
    return i < 0 ? "none" : s->names[i].p;
}

#define PLAIN(s, l, r) find(s, l, r, NULL, "raw_buffer", NULL, NULL)
#define TLS(s, sni)    find(s, "1.1.1.1:443", "2.2.2.2:5", sni, "tls", NULL, NULL)

/* The port decides first; there is no way back from it to a chain without one. */
static void port_goes_first(void **state)
{
    struct set s = {0};
    ok(&s, "port",
       "{destination_port: 80, prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}");
    ok(&s, "any", "{}");
    assert_string_equal(PLAIN(&s, "10.1.1.1:80", "2.2.2.2:5"), "port");
    assert_string_equal(PLAIN(&s, "11.1.1.1:80", "2.2.2.2:5"), "none");
    assert_string_equal(PLAIN(&s, "11.1.1.1:81", "2.2.2.2:5"), "any");
    arena_free(&s.a);
}

static void longest_prefix(void **state)
{
    struct set s = {0};
    ok(&s, "8", "{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}");
    ok(&s, "24", "{prefix_ranges: [{address_prefix: 10.0.1.0, prefix_len: 24}]}");
    ok(&s, "0", "{prefix_ranges: [{address_prefix: 0.0.0.0, prefix_len: 0}]}");
    assert_string_equal(PLAIN(&s, "10.0.1.9:1", "2.2.2.2:5"), "24");
    assert_string_equal(PLAIN(&s, "10.9.1.9:1", "2.2.2.2:5"), "8");
    assert_string_equal(PLAIN(&s, "9.9.1.9:1", "2.2.2.2:5"), "0");
    assert_string_equal(PLAIN(&s, "[::1]:1", "[::1]:5"), "none");
    arena_free(&s.a);
}

static void server_names(void **state)
{
    struct set s = {0};
    ok(&s, "exact", "{server_names: [a.b.example.com]}");
    ok(&s, "deep", "{server_names: ['*.b.example.com']}");
    ok(&s, "wide", "{server_names: ['*.example.com', OTHER.org]}");
    ok(&s, "rest", "{transport_protocol: tls}");
    assert_string_equal(TLS(&s, "a.b.example.com"), "exact");
    assert_string_equal(TLS(&s, "x.b.example.com"), "deep");
    assert_string_equal(TLS(&s, "x.example.com"), "wide");
    assert_string_equal(TLS(&s, "other.org"), "wide");
    assert_string_equal(TLS(&s, "example.com"), "rest");
    assert_string_equal(TLS(&s, NULL), "rest");
    assert_string_equal(PLAIN(&s, "1.1.1.1:443", "2.2.2.2:5"), "none");
    arena_free(&s.a);
}

static void protocols_in_the_clients_order(void **state)
{
    struct set s = {0};
    ok(&s, "h1", "{application_protocols: [http/1.1]}");
    ok(&s, "h2", "{application_protocols: [h2]}");
    ok(&s, "istio", "{application_protocols: [istio, istio-http/1.1], transport_protocol: tls}");
    assert_string_equal(find(&s, "1.1.1.1:1", "2.2.2.2:5", NULL, "raw_buffer", "h2", "http/1.1"),
                        "h2");
    assert_string_equal(find(&s, "1.1.1.1:1", "2.2.2.2:5", NULL, "raw_buffer", "http/1.1", "h2"),
                        "h1");
    assert_string_equal(find(&s, "1.1.1.1:1", "2.2.2.2:5", NULL, "tls", "istio", NULL), "istio");
    assert_string_equal(find(&s, "1.1.1.1:1", "2.2.2.2:5", NULL, "raw_buffer", "x", NULL), "none");
    arena_free(&s.a);
}

static void sources(void **state)
{
    struct set s = {0};
    ok(&s, "local", "{source_type: SAME_IP_OR_LOOPBACK}");
    ok(&s, "port", "{source_type: EXTERNAL, source_ports: [5]}");
    ok(&s, "net",
       "{source_type: EXTERNAL, source_prefix_ranges: [{address_prefix: 3.0.0.0, prefix_len: 8}]}");
    assert_string_equal(PLAIN(&s, "1.1.1.1:1", "127.0.0.1:9"), "local");
    assert_string_equal(PLAIN(&s, "1.1.1.1:1", "1.1.1.1:9"), "local");
    assert_string_equal(PLAIN(&s, "1.1.1.1:1", "2.2.2.2:5"), "port");
    assert_string_equal(PLAIN(&s, "1.1.1.1:1", "2.2.2.2:6"), "none");
    assert_string_equal(PLAIN(&s, "1.1.1.1:1", "3.2.2.2:5"),
                        "net"); /* addresses come before ports */
    arena_free(&s.a);
}

static void same_rules_are_an_error(void **state)
{
    struct set s = {0};
    struct error err = {0};
    ok(&s, "a", "{server_names: [x.com, y.com], destination_port: 80}");
    ok(&s, "b", "{server_names: [z.com, y.com], destination_port: 81}");
    assert_int_equal(chain_match_check(s.v, s.names, s.n, &err), 0);
    ok(&s, "c", "{server_names: [z.com, y.com], destination_port: 80}");
    assert_true(chain_match_check(s.v, s.names, s.n, &err) < 0);
    assert_non_null(strstr(err.msg, "'c' has the same matching rules as 'a'"));
    arena_free(&s.a);
}

static void bits_past_the_prefix_do_not_count(void **state)
{
    struct set s = {0};
    struct error err = {0};
    ok(&s, "a", "{prefix_ranges: [{address_prefix: 10.1.2.3, prefix_len: 8}]}");
    ok(&s, "b", "{prefix_ranges: [{address_prefix: 10.9.9.9, prefix_len: 8}]}");
    assert_true(chain_match_check(s.v, s.names, s.n, &err) < 0);
    arena_free(&s.a);
}

static void bad_values(void **state)
{
    static const char *const v[][2] = {
        {"{destination_port: 70000}", "70000 is not a port"},
        {"{server_names: ['a*.com']}", "whole first label"},
        {"{address_suffix: x}", "address_suffix: is not supported"},
        {"{prefix_ranges: [{address_prefix: nope, prefix_len: 8}]}", "not an address range"},
        {"{source_ports: [0]}", "is not a port"},
    };
    for (unsigned i = 0; i < sizeof v / sizeof v[0]; i++) {
        struct set s = {0};
        struct error err = {0};
        assert_true(add(&s, "path", v[i][0], &err) < 0);
        assert_non_null(strstr(err.msg, v[i][1]));
        assert_int_equal(strncmp(err.msg, "path.", 5), 0);
        arena_free(&s.a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_goes_first),
        cmocka_unit_test(longest_prefix),
        cmocka_unit_test(server_names),
        cmocka_unit_test(protocols_in_the_clients_order),
        cmocka_unit_test(sources),
        cmocka_unit_test(same_rules_are_an_error),
        cmocka_unit_test(bits_past_the_prefix_do_not_count),
        cmocka_unit_test(bad_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
