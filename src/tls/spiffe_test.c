#include "tls/spiffe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static int parse(const char *s)
{
    struct spiffe_id id;
    return spiffe_parse(&id, sv_of(s));
}

static void test_workload(void **state)
{
    struct spiffe_id id;
    assert_int_equal(spiffe_parse_workload(&id, SV("spiffe://cluster.local/ns/books/sa/flaskapp")),
                     0);
    assert_true(sv_eq(id.trust_domain, SV("cluster.local")));
    assert_true(sv_eq(id.ns, SV("books")));
    assert_true(sv_eq(id.sa, SV("flaskapp")));
    assert_true(sv_eq(id.path, SV("/ns/books/sa/flaskapp")));
    static const char *const bad[] = {
        "spiffe://cluster.local/ns/books",
        "spiffe://cluster.local/ns/books/sa",
        "spiffe://cluster.local/ns/books/sa/",
        "spiffe://cluster.local/ns//sa/x",
        "spiffe://cluster.local/ns/a/b/sa/x",
        "spiffe://cluster.local/ns/a/sa/x/y",
        "spiffe://cluster.local/NS/a/sa/x",
        "spiffe://cluster.local/sa/a/ns/x",
        "spiffe://cluster.local",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(spiffe_parse_workload(&id, sv_of(bad[i])), E_INVALID);
}

static void test_strict(void **state)
{
    assert_int_equal(parse("spiffe://td"), 0);
    assert_int_equal(parse("spiffe://a.b-c_9/x/Y.z_-"), 0);
    static const char *const bad[] = {
        "",
        "spiffe:",
        "spiffe://",
        "SPIFFE://td/x",
        "http://td/x",
        "spiffe:///x",
        "spiffe://TD/x",
        "spiffe://td:80/x",
        "spiffe://u@td/x",
        "spiffe://td/",
        "spiffe://td/x/",
        "spiffe://td//x",
        "spiffe://td/./x",
        "spiffe://td/x/..",
        "spiffe://td/../x",
        "spiffe://td/%61",
        "spiffe://td/x?y",
        "spiffe://td/x#y",
        "spiffe://td/x y",
        "spiffe://td/\xc3\xa4",
        " spiffe://td",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse(bad[i]) != E_INVALID)
            fail_msg("accepted: %s", bad[i]);
    struct spiffe_id id;
    assert_int_equal(spiffe_parse(&id, sv_make("spiffe://td/a\0b", 15)), E_INVALID);
    char big[4096];
    memset(big, 'a', sizeof big);
    memcpy(big, "spiffe://td/", 12);
    assert_int_equal(spiffe_parse(&id, sv_make(big, 2048)), 0);
    assert_int_equal(spiffe_parse(&id, sv_make(big, 2049)), E_INVALID);
    memset(big + 9, 'a', 256);
    assert_int_equal(spiffe_parse(&id, sv_make(big, 9 + 255)), 0);
    assert_int_equal(spiffe_parse(&id, sv_make(big, 9 + 256)), E_INVALID);
}

static void test_format(void **state)
{
    struct strbuf s;
    strbuf_init(&s, 4096);
    assert_int_equal(spiffe_format(SV("cluster.local"), SV("ns1"), SV("default"), &s), 0);
    assert_true(sv_eq(strbuf_sv(&s), SV("spiffe://cluster.local/ns/ns1/sa/default")));
    size_t n = s.n;
    assert_int_equal(spiffe_format(SV("cluster.local"), SV("a/b"), SV("default"), &s), E_INVALID);
    assert_int_equal(spiffe_format(SV("cluster.local"), SV(""), SV("default"), &s), E_INVALID);
    assert_int_equal(spiffe_format(SV("Cluster"), SV("a"), SV("default"), &s), E_INVALID);
    assert_int_equal(spiffe_format(SV("c"), SV("a"), SV(".."), &s), E_INVALID);
    assert_int_equal(s.n, n);
    strbuf_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_workload),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
