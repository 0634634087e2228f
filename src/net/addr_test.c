#include "net/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void parsing(void **state)
{
    static const struct {
        const char *in, *out; /* out NULL: refused */
    } cases[] = {
        {"10.0.0.1:80", "10.0.0.1:80"},
        {"0.0.0.0:0", "0.0.0.0:0"},
        {"[::1]:65535", "[::1]:65535"},
        {"[2001:DB8::0:1]:443", "[2001:db8::1]:443"},
        {"[::ffff:10.0.0.1]:80", "10.0.0.1:80"},
        {"[fe80::1%3]:80", "[fe80::1%3]:80"},
        {"", NULL},
        {":", NULL},
        {"10.0.0.1", NULL},
        {"10.0.0.1:", NULL},
        {"10.0.0.1:65536", NULL},
        {"10.0.0.1:-1", NULL},
        {"10.0.0.1:8x", NULL},
        {"10.0.0:80", NULL},
        {"10.0.0.256:80", NULL},
        {"10.0.0.01:80", NULL},
        {"10.0.0.1 :80", NULL},
        {"::1:80", NULL},
        {"[::1]80", NULL},
        {"[::1]", NULL},
        {"[::1", NULL},
        {"[10.0.0.1]:80", NULL},
        {"[::1%]:80", NULL},
        {"[::1%nosuchinterface]:80", NULL},
        {"example.com:80", NULL},
        {"10.0.0.1%1:80", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct addr a = {.len = 0};
        char text[ADDR_TEXT_MAX];
        int rc = addr_parse(&a, sv_of(cases[i].in));
        if (!cases[i].out) {
            assert_int_equal(rc, E_INVALID);
            assert_int_equal(a.len, 0);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_string_equal(addr_text(&a, text).p, cases[i].out);
        struct addr b;
        assert_int_equal(addr_parse(&b, sv_of(text)), 0);
        assert_true(addr_eq(&a, &b));
        assert_true(addr_hash(&a) == addr_hash(&b));
    }
    struct addr a;
    assert_int_equal(addr_ip(&a, sv_make("10.0.0.1\0x", 10), 1), E_INVALID);
    char far[300];
    memset(far, '1', sizeof far);
    assert_int_equal(addr_ip(&a, sv_make(far, sizeof far), 1), E_INVALID);
}

static void properties(void **state)
{
    struct addr a, b;
    char text[ADDR_TEXT_MAX];
    assert_int_equal(addr_ip(&a, SV("127.1.2.3"), 80), 0);
    assert_true(addr_is_loopback(&a));
    assert_false(addr_is_any(&a));
    assert_int_equal(addr_port(&a), 80);
    b = a;
    addr_set_port(&b, 81);
    assert_false(addr_eq(&a, &b));
    assert_string_equal(addr_ip_text(&b, text).p, "127.1.2.3");
    assert_int_equal(addr_ip(&a, SV("::"), 1), 0);
    assert_true(addr_is_any(&a));
    assert_int_equal(addr_ip(&a, SV("::1"), 1), 0);
    assert_true(addr_is_loopback(&a));
    assert_string_equal(addr_ip_text(&a, text).p, "::1");
    struct addr unset = {.len = 0};
    assert_string_equal(addr_text(&unset, text).p, "");
    assert_false(addr_is_any(&unset) || addr_is_loopback(&unset) || addr_port(&unset));
    assert_false(addr_eq(&unset, &a));
    assert_true(addr_eq(&unset, &unset));
}

static void unix_paths(void **state)
{
    struct addr a, b;
    char text[ADDR_TEXT_MAX], path[200];
    assert_int_equal(addr_unix(&a, SV("/run/x.sock")), 0);
    assert_string_equal(addr_text(&a, text).p, "/run/x.sock");
    struct sockaddr_storage ss;
    addr_from_sockaddr(&b, (struct sockaddr *)&ss, addr_sockaddr(&a, &ss));
    assert_true(addr_eq(&a, &b));
    /* a length that nobody trimmed */
    addr_from_sockaddr(&b, (struct sockaddr *)&ss, sizeof(struct sockaddr_un));
    assert_true(addr_eq(&a, &b));
    assert_int_equal(addr_unix(&b, SV("@abstract")), 0);
    assert_string_equal(addr_text(&b, text).p, "@abstract");
    assert_false(addr_eq(&a, &b));
    assert_int_equal(addr_port(&b), 0);
    memset(path, 'x', sizeof path);
    assert_int_equal(addr_unix(&a, sv_make(path, 107)), 0);
    assert_int_equal(addr_text(&a, text).n, 107);
    assert_int_equal(addr_unix(&a, sv_make(path, 108)), E_LIMIT);
    assert_int_equal(addr_unix(&a, SV("")), E_INVALID);
    assert_int_equal(addr_unix(&a, sv_make("a\0b", 3)), E_INVALID);
    path[0] = '@';
    assert_int_equal(addr_unix(&a, sv_make(path, 108)), 0);
    assert_int_equal(addr_text(&a, text).n, 108);
    assert_int_equal(addr_unix(&a, sv_make(path, 109)), E_LIMIT);
}

/* Every length, as a file and abstract: to the system's form and back, equal only to itself. */
static void unix_lengths(void **state)
{
    struct addr a, b, before = {.len = 0};
    struct sockaddr_storage ss;
    char text[ADDR_TEXT_MAX], path[200];
    for (int abstract = 0; abstract < 2; abstract++)
        for (size_t n = 2; n <= 107; n++) {
            memset(path, 'y', sizeof path);
            if (abstract)
                path[0] = '@';
            assert_int_equal(addr_unix(&a, sv_make(path, n)), 0);
            assert_true(addr_is_file(&a) == !abstract);
            socklen_t len = addr_sockaddr(&a, &ss);
            assert_int_equal(len, 2 + n + !abstract);
            addr_from_sockaddr(&b, (struct sockaddr *)&ss, len);
            assert_true(addr_eq(&a, &b));
            assert_int_equal(addr_hash(&a), addr_hash(&b));
            assert_true(sv_eq(addr_text(&b, text), sv_make(path, n)));
            assert_false(addr_eq(&b, &before));
            before = b;
        }
    /* A socket that nobody named. */
    ss.ss_family = AF_UNIX;
    addr_from_sockaddr(&a, (struct sockaddr *)&ss, sizeof ss.ss_family);
    assert_int_equal(a.len, sizeof ss.ss_family);
    assert_string_equal(addr_text(&a, text).p, "");
    assert_false(addr_is_file(&a));
}

/* Peers that bind ever new long names do not fill memory: the later ones are cut. */
static void many_long_paths(void **state)
{
    struct addr a;
    char text[ADDR_TEXT_MAX];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    for (int i = 0; i < 5000; i++) {
        snprintf(un.sun_path, sizeof un.sun_path, "/run/a/rather/long/path/of/%d", i);
        addr_from_sockaddr(&a, (struct sockaddr *)&un, sizeof un);
        if (i < 3000)
            assert_string_equal(addr_text(&a, text).p, un.sun_path);
    }
    assert_string_equal(addr_text(&a, text).p, "/run/a/rather/long/path/");
    assert_int_equal(addr_unix(&a, SV("/run/another/long/path/to/listen/on")), E_LIMIT);
}

static void from_the_kernel(void **state)
{
    struct addr a;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in6.sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01", 16);
    addr_from_sockaddr(&a, (struct sockaddr *)&in6, sizeof in6);
    assert_int_equal(a.sa.sa_family, AF_INET);
    addr_from_sockaddr(&a, (struct sockaddr *)&in6, 4);
    assert_int_equal(a.len, 0);
    addr_from_sockaddr(&a, NULL, 0);
    assert_int_equal(a.len, 0);
}

static void ranges(void **state)
{
    static const struct {
        const char *range, *ip;
        int rc;
        bool in;
    } cases[] = {
        {"10.0.0.0/8", "10.255.1.2", 0, true},
        {"10.0.0.0/8", "11.0.0.0", 0, false},
        {"10.1.2.3/8", "10.9.9.9", 0, true}, /* host bits do not count */
        {"0.0.0.0/0", "1.2.3.4", 0, true},
        {"0.0.0.0/0", "::1", 0, false},
        {"::/0", "1.2.3.4", 0, false},
        {"10.0.0.1", "10.0.0.1", 0, true},
        {"10.0.0.1", "10.0.0.2", 0, false},
        {"10.0.0.1/32", "10.0.0.1", 0, true},
        {"192.168.128.0/17", "192.168.127.255", 0, false},
        {"192.168.128.0/17", "192.168.255.255", 0, true},
        {"2001:db8::/33", "2001:db8:7fff::1", 0, true},
        {"2001:db8::/33", "2001:db8:8000::1", 0, false},
        {"::1", "::1", 0, true},
        {"::1/128", "::2", 0, false},
        {"::ffff:10.0.0.0/104", "10.1.1.1", 0, true},
        {"10.0.0.0/33", NULL, E_INVALID, false},
        {"::/129", NULL, E_INVALID, false},
        {"10.0.0.0/", NULL, E_INVALID, false},
        {"10.0.0.0/-1", NULL, E_INVALID, false},
        {"10.0.0.0/8/8", NULL, E_INVALID, false},
        {"/8", NULL, E_INVALID, false},
        {"", NULL, E_INVALID, false},
        {"x", NULL, E_INVALID, false},
        {"10.0.0.0/4294967304", NULL, E_INVALID, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cidr c;
        struct addr a;
        assert_int_equal(cidr_parse(&c, sv_of(cases[i].range)), cases[i].rc);
        if (cases[i].rc)
            continue;
        assert_int_equal(addr_ip(&a, sv_of(cases[i].ip), 5), 0);
        assert_int_equal(cidr_has(&c, &a), cases[i].in);
    }
    struct cidr c;
    struct addr u;
    assert_int_equal(cidr_make(&c, SV("10.0.0.0"), 8), 0);
    assert_int_equal(addr_unix(&u, SV("/x")), 0);
    assert_false(cidr_has(&c, &u));
    /* Bit by bit against arithmetic. */
    for (uint32_t bits = 0; bits <= 32; bits++)
        for (uint32_t flip = 0; flip < 32; flip++) {
            char ip[32];
            struct addr a;
            uint32_t v = 0xa5c3f00fu ^ 1u << flip;
            assert_int_equal(cidr_make(&c, SV("165.195.240.15"), bits), 0);
            snprintf(ip, sizeof ip, "%u.%u.%u.%u", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255);
            assert_int_equal(addr_ip(&a, sv_of(ip), 0), 0);
            assert_int_equal(cidr_has(&c, &a), flip < 32 - bits);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parsing),         cmocka_unit_test(properties),
        cmocka_unit_test(unix_paths),      cmocka_unit_test(from_the_kernel),
        cmocka_unit_test(ranges),          cmocka_unit_test(unix_lengths),
        cmocka_unit_test(many_long_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
