#include "net/resolver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net/conn.h"
#include "net/listener.h"
#include "net/udp.h"
#include "net/net_fixture.h"

/* ---- a name server ----
 * Answers by the first label: "v4-N" N A records, "v6" an AAAA, "both", "alias" a CNAME with a
 * short TTL, "big" truncated over UDP and whole over TCP, "fail" SERVFAIL, "garbage" half a header,
 * "slow" nothing; everything else does not exist. */

static struct loop *l;
static struct udp_sock *dns;
static struct server tcp;
static int queries, tcp_queries, tcp_done;
static bool slowly; /* TCP answers byte by byte */

static size_t put16(unsigned char *p, size_t n, unsigned v)
{
    p[n] = (unsigned char)(v >> 8);
    p[n + 1] = (unsigned char)v;
    return n + 2;
}

static size_t put_rr(unsigned char *p, size_t n, unsigned name, unsigned type, unsigned ttl,
                     const void *data, unsigned len)
{
    n = put16(p, n, 0xc000 | name); /* where it was written before */
    n = put16(p, n, type);
    n = put16(p, n, 1);
    n = put16(p, n, ttl >> 16);
    n = put16(p, n, ttl & 0xffff);
    n = put16(p, n, len);
    memcpy(p + n, data, len);
    return n + len;
}

static size_t answer(const unsigned char *q, size_t qn, unsigned char *p, bool over_tcp)
{
    char name[64];
    size_t end = 12;
    assert_true(qn > 16);
    while (q[end])
        end += q[end] + 1u;
    end += 5;
    unsigned type = q[end - 3];
    snprintf(name, sizeof name, "%.*s", q[12], (const char *)q + 13);
    memcpy(p, q, end);
    unsigned count = 0, flags = 0x8180, owner = 12;
    size_t n = end;
    int v4 = 0, v6 = 0;
    if (!strncmp(name, "v4-", 3))
        v4 = atoi(name + 3);
    else if (!strcmp(name, "v6"))
        v6 = 1;
    else if (!strcmp(name, "both"))
        v4 = v6 = 1;
    else if (!strcmp(name, "big") && over_tcp)
        v4 = 40;
    else if (!strcmp(name, "big"))
        flags |= 0x0200;
    else if (!strcmp(name, "alias"))
        v4 = 1;
    else
        flags |= !strcmp(name, "fail") ? 2u : 3u;
    if (!strcmp(name, "alias")) {
        n = put_rr(p, n, 12, 5, 7, "\x04real\x04test\0", 11);
        owner = (unsigned)n - 11;
        count++;
    }
    for (int i = 0; type == 1 && i < v4; i++, count++)
        n = put_rr(p, n, owner, 1, 300 + (unsigned)i, (unsigned char[]){10, 0, 0, (unsigned char)i},
                   4);
    for (int i = 0; type == 28 && i < v6; i++, count++)
        n = put_rr(p, n, owner, 28, 60, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    put16(p, 2, flags);
    put16(p, 4, 1);
    put16(p, 6, count);
    put16(p, 8, 0);
    put16(p, 10, 0);
    return strcmp(name, "garbage") ? n : 7;
}

static void on_query(void *user, const char *q, size_t qn, const struct addr *from)
{
    static unsigned char p[65536];
    queries++;
    if (!memcmp(q + 12, "\x04slow", 5))
        return;
    size_t n = answer((const unsigned char *)q, qn, p, false);
    assert_int_equal(udp_send(dns, from, p, n), 0);
}

static void serve_tcp(void)
{
    for (int i = tcp_done; i < tcp.n; i++) {
        struct end *e = &tcp.ends[i];
        unsigned char p[65536];
        if (e->in.len < 2)
            continue;
        sv q = buf_pullup(&e->in, e->in.len);
        if (q.n < 2u + ((unsigned char)q.p[0] << 8 | (unsigned char)q.p[1]))
            continue;
        tcp_queries++;
        tcp_done = i + 1;
        size_t n = answer((const unsigned char *)q.p + 2, q.n - 2, p + 2, true);
        put16(p, 0, (unsigned)n);
        for (size_t k = 0; k < n + 2; k++) {
            buf_append(&e->out, p + k, 1);
            if (slowly) {
                end_flush(e);
                loop_turn(l, 0);
            }
        }
        end_flush(e);
    }
}

/* ---- results ---- */

struct result {
    int calls, code;
    size_t n;
    uint32_t ttl_s;
    char first[ADDR_TEXT_MAX];
    struct resolver *free;
};

static void on_result(void *user, int code, const struct addr *addrs, size_t n, uint32_t ttl_s)
{
    struct result *r = user;
    r->calls++;
    r->code = code;
    r->n = n;
    r->ttl_s = ttl_s;
    r->first[0] = 0;
    assert_true(code ? n == 0 : n > 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(addr_port(&addrs[i]), 0);
    if (n)
        addr_ip_text(&addrs[0], r->first);
    resolver_free(r->free);
}

static void lookup(struct resolver *r, const char *name, enum resolve_family f, struct result *res)
{
    memset(res, 0, sizeof *res);
    assert_non_null(resolve_start(r, sv_of(name), f, on_result, res));
    assert_int_equal(res->calls, 0);
    uint64_t end = loop_clock_ns(l) + 60000000000u;
    while (!res->calls && loop_clock_ns(l) < end) {
        loop_turn(l, 10000000);
        serve_tcp();
    }
    assert_int_equal(res->calls, 1);
}

static struct resolver *r;

static int up(void **state)
{
    char servers[ADDR_TEXT_MAX];
    struct error err = {0};
    l = loop_new(NULL);
    queries = tcp_queries = tcp_done = 0;
    server_init(&tcp, l, "127.0.0.1:0");
    dns = udp_new(l, net_listener_addr(tcp.l), on_query, NULL, &err);
    assert_non_null(dns);
    addr_text(udp_addr(dns), servers);
    r = resolver_new(l, servers, 0, &err);
    assert_non_null(r);
    return 0;
}

static int down(void **state)
{
    udp_free(dns);
    server_fini(&tcp);
    resolver_free(r);
    loop_turn(l, 0);
    loop_free(l);
    return 0;
}

static void addresses_and_ttls(void **state)
{
    struct result x;
    lookup(r, "v4-3.test.", RESOLVE_V4, &x);
    assert_int_equal(x.code, 0);
    assert_int_equal(x.n, 3);
    assert_int_equal(x.ttl_s, 300);
    assert_string_equal(x.first, "10.0.0.0");
    lookup(r, "v6.test.", RESOLVE_V6, &x);
    assert_string_equal(x.first, "2001:db8::1");
    assert_int_equal(x.ttl_s, 60);
    lookup(r, "alias.test.", RESOLVE_V4, &x);
    assert_string_equal(x.first, "10.0.0.0");
    assert_int_equal(x.ttl_s, 7); /* the alias may change before the address */
    lookup(r, "both.test.", RESOLVE_ALL, &x);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.ttl_s, 60);
    lookup(r, "v4-200.test.", RESOLVE_V4, &x);
    assert_int_equal(x.n, 200);
}

static void families(void **state)
{
    struct result x;
    lookup(r, "both.test.", RESOLVE_AUTO, &x);
    assert_string_equal(x.first, "2001:db8::1");
    assert_int_equal(x.n, 1);
    lookup(r, "both.test.", RESOLVE_V4_PREFERRED, &x);
    assert_string_equal(x.first, "10.0.0.0");
    lookup(r, "v4-1.test.", RESOLVE_AUTO, &x);
    assert_string_equal(x.first, "10.0.0.0");
    lookup(r, "v6.test.", RESOLVE_V4_PREFERRED, &x);
    assert_string_equal(x.first, "2001:db8::1");
    lookup(r, "v6.test.", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
}

static void failures(void **state)
{
    struct result x;
    lookup(r, "nothing.test.", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(r, "nothing.test.", RESOLVE_AUTO, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(r, "fail.test.", RESOLVE_V4, &x);
    assert_true(x.code == E_PROTOCOL || x.code == E_REFUSED);
    char longest[400];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    lookup(r, longest, RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(r, "", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(r, "a..b.test.", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    /* Nobody listens there any more. */
    udp_free(dns);
    dns = NULL;
    lookup(r, "v4-1.test.", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_REFUSED);
}

static void truncated_answers_come_over_tcp(void **state)
{
    struct result x;
    for (int i = 0; i < 2; i++) {
        slowly = i;
        uint64_t start = loop_clock_ns(l);
        lookup(r, "big.test.", RESOLVE_V4, &x);
        assert_int_equal(x.code, 0);
        assert_int_equal(x.n, 40);
        assert_int_equal(tcp_queries, i + 1);
        assert_true(loop_clock_ns(l) - start < 1000000000); /* no timeout was needed */
    }
}

static void names_that_need_no_server(void **state)
{
    struct result x;
    lookup(r, "10.1.2.3", RESOLVE_AUTO, &x);
    assert_string_equal(x.first, "10.1.2.3");
    assert_int_equal(x.ttl_s, 0);
    lookup(r, "::1", RESOLVE_ALL, &x);
    assert_string_equal(x.first, "::1");
    lookup(r, "::1", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(r, "localhost", RESOLVE_V4, &x);
    assert_string_equal(x.first, "127.0.0.1");
    assert_int_equal(queries, 0);
}

static void many_at_once(void **state)
{
    static struct result x[300];
    int done = 0;
    for (int i = 0; i < 300; i++) {
        char name[32];
        memset(&x[i], 0, sizeof x[i]);
        snprintf(name, sizeof name, "v4-%d.test.", i % 5 + 1);
        resolve_start(r, sv_of(name), RESOLVE_V4, on_result, &x[i]);
    }
    uint64_t end = loop_clock_ns(l) + 60000000000u;
    while (done < 300 && loop_clock_ns(l) < end) {
        loop_turn(l, 10000000);
        done = 0;
        for (int i = 0; i < 300; i++)
            done += x[i].calls;
    }
    assert_int_equal(done, 300);
    for (int i = 0; i < 300; i++)
        assert_int_equal(x[i].n, i % 5 + 1);
}

static void cancelling(void **state)
{
    struct result x = {0};
    resolve_cancel(NULL);
    /* Before it was sent, while it is under way, when its answer waits for the next turn. */
    struct resolve_query *q = resolve_start(r, SV("v4-1.test."), RESOLVE_V4, on_result, &x);
    resolve_cancel(q);
    q = resolve_start(r, SV("slow.test."), RESOLVE_AUTO, on_result, &x);
    turn_until(l, queries >= 2);
    resolve_cancel(q);
    q = resolve_start(r, SV("10.0.0.1"), RESOLVE_AUTO, on_result, &x);
    resolve_cancel(q);
    turn_quiet(l);
    assert_int_equal(x.calls, 0);
    lookup(r, "v4-1.test.", RESOLVE_V4, &x);
    assert_int_equal(x.code, 0);
    /* Freed with queries in each of these states. */
    struct result y = {0};
    resolve_start(r, SV("slow.test."), RESOLVE_AUTO, on_result, &y);
    resolve_start(r, SV("10.0.0.1"), RESOLVE_AUTO, on_result, &y);
    resolver_free(r);
    r = NULL;
    turn_quiet(l);
    assert_int_equal(y.calls, 0);
}

static void a_callback_may_free_the_resolver(void **state)
{
    struct result x = {.free = r}, y = {0};
    resolve_start(r, SV("v4-1.test."), RESOLVE_V4, on_result, &x);
    resolve_start(r, SV("slow.test."), RESOLVE_V4, on_result, &y);
    r = NULL;
    turn_until(l, x.calls);
    turn_quiet(l);
    assert_int_equal(y.calls, 0);
}

static void garbage_is_not_an_answer(void **state)
{
    struct result x = {0};
    struct resolve_query *q = resolve_start(r, SV("garbage.test."), RESOLVE_V4, on_result, &x);
    turn_until(l, queries > 0);
    turn_quiet(l);
    if (!x.calls)
        resolve_cancel(q);
    else
        assert_true(x.code < 0);
}

static void a_fixed_table(void **state)
{
    const char *const entries[] = {"a=10.0.0.1,10.0.0.2", "b=::1, 10.0.0.3", "c=x", "nonsense",
                                   "a6=2001:db8::1"};
    struct resolver *s = resolver_new_static(l, entries, 5);
    struct result x;
    lookup(s, "a", RESOLVE_AUTO, &x);
    assert_int_equal(x.n, 2);
    assert_string_equal(x.first, "10.0.0.1");
    lookup(s, "b", RESOLVE_AUTO, &x);
    assert_string_equal(x.first, "::1");
    lookup(s, "b", RESOLVE_V4_PREFERRED, &x);
    assert_string_equal(x.first, "10.0.0.3");
    lookup(s, "b", RESOLVE_ALL, &x);
    assert_int_equal(x.n, 2);
    lookup(s, "a6", RESOLVE_V4, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(s, "c", RESOLVE_ALL, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(s, "zz", RESOLVE_ALL, &x);
    assert_int_equal(x.code, E_NOT_FOUND);
    lookup(s, "1.2.3.4", RESOLVE_ALL, &x);
    assert_string_equal(x.first, "1.2.3.4");
    resolve_cancel(resolve_start(s, SV("a"), RESOLVE_ALL, on_result, &x));
    resolve_start(s, SV("a"), RESOLVE_ALL, on_result, &x);
    resolver_free(s);
    turn_quiet(l);
    assert_int_equal(x.calls, 1);
}

static void bad_servers_are_refused(void **state)
{
    struct error err = {0};
    assert_null(resolver_new(l, "not an address", 0, &err));
    assert_non_null(strstr(err.msg, "not an address"));
    struct resolver *plain = resolver_new(l, NULL, 0, &err);
    assert_non_null(plain);
    resolver_free(plain);
}

/* The kernel, except that it is watched who is marked: setting marks needs a capability. */
static int marked, mark_seen, mark_rc;

static int watched_setsockopt(void *os, int fd, int level, int opt, const void *v, socklen_t n)
{
    if (level != SOL_SOCKET || opt != SO_MARK)
        return os_real()->ops->setsockopt(os, fd, level, opt, v, n);
    marked++;
    memcpy(&mark_seen, v, sizeof mark_seen);
    return mark_rc;
}

static void sockets_bear_the_mark(void **state)
{
    static struct os_ops ops;
    struct os os = {&ops, os_real()->self};
    struct loop *servers = l;
    char text[ADDR_TEXT_MAX];
    struct error err = {0};
    struct result x;
    ops = *os_real()->ops;
    ops.setsockopt = watched_setsockopt;
    addr_text(udp_addr(dns), text);
    lookup(r, "v4-1.test.", RESOLVE_V4, &x);
    assert_int_equal(marked, 0);

    struct loop *watched = loop_new(&os);
    struct resolver *m = resolver_new(watched, text, 1337, &err);
    assert_non_null(m);
    memset(&x, 0, sizeof x);
    resolve_start(m, SV("v4-1.test."), RESOLVE_V4, on_result, &x);
    for (int i = 0; i < 6000 && !x.calls; i++) {
        loop_turn(servers, 1000000);
        loop_turn(watched, 10000000);
    }
    assert_int_equal(x.calls, 1);
    assert_int_equal(x.code, 0);
    assert_true(marked > 0);
    assert_int_equal(mark_seen, 1337);

    /* A question that would be intercepted is not asked at all. */
    int before = queries;
    mark_rc = -EPERM;
    memset(&x, 0, sizeof x);
    resolve_start(m, SV("v4-2.test."), RESOLVE_V4, on_result, &x);
    for (int i = 0; i < 6000 && !x.calls; i++) {
        loop_turn(servers, 1000000);
        loop_turn(watched, 10000000);
    }
    assert_int_equal(x.calls, 1);
    assert_int_equal(x.code, E_REFUSED);
    assert_int_equal(queries, before);
    resolver_free(m);
    loop_turn(watched, 0);
    loop_free(watched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, up, down)
        T(addresses_and_ttls),
        T(families),
        T(failures),
        T(truncated_answers_come_over_tcp),
        T(names_that_need_no_server),
        T(many_at_once),
        T(cancelling),
        T(a_callback_may_free_the_resolver),
        T(garbage_is_not_an_answer),
        T(a_fixed_table),
        T(bad_servers_are_refused),
        T(sockets_bear_the_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
