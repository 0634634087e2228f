/* The sidecar's DNS: messages whole, cut and mutated; the table; the proxy over real sockets. */
#include "agent/dns_proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent/dns_msg.h"
#include "api/istio.pb.h"
#include "base/buf.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/udp.h"

/* ---- messages ---- */

static int parse(struct dns_query *q, const void *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1); /* exact: a read past the end is seen */
    memcpy(copy, p, n);
    int code = dns_query_parse(q, copy, n);
    free(copy);
    return code;
}

static void test_query(void **state)
{
    uint8_t p[512];
    struct dns_query q;
    size_t n =
        dns_query_write(p, sizeof p, 0x1234, SV("FlaskApp.Books.svc.cluster.local."), DNS_A, true);
    assert_true(n > 0);
    assert_int_equal(parse(&q, p, n), 0);
    assert_int_equal(q.id, 0x1234);
    assert_string_equal(q.name, "flaskapp.books.svc.cluster.local");
    assert_int_equal(q.type, DNS_A);
    assert_int_equal(q.qclass, 1);
    assert_true(q.has_edns && q.recursion_desired);
    assert_int_equal(q.udp_size, 1232);
    for (size_t k = 0; k < n; k++) { /* every shorter one is refused, none is read past its end */
        int code = parse(&q, p, k);
        assert_int_equal(code, k < 12 ? E_INVALID : E_PROTOCOL);
    }
    p[n] = 0; /* bytes behind the last record */
    assert_int_equal(parse(&q, p, n + 1), E_PROTOCOL);
    n = dns_query_write(p, sizeof p, 1, SV("x"), DNS_AAAA, false);
    assert_int_equal(parse(&q, p, n), 0);
    assert_false(q.has_edns);
    assert_int_equal(q.udp_size, 512);
    p[2] |= 0x80; /* a response is no question */
    assert_int_equal(parse(&q, p, n), E_INVALID);
    p[2] = 0x28; /* UPDATE */
    assert_int_equal(parse(&q, p, n), E_UNSUPPORTED);
    p[2] = 1;
    p[5] = 2; /* two questions */
    assert_int_equal(parse(&q, p, n), E_PROTOCOL);
    p[5] = 1;
    p[7] = 1; /* an answer in a question */
    assert_int_equal(parse(&q, p, n), E_PROTOCOL);
}

static void test_names(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\x40", 1},     /* reserved label type */
        {"\xc0\x0c", 2}, /* a pointer to itself */
        {"\xc0\x00", 2}, /* into the header */
        {"\x01"
         "a\xc0\x0c",
         4}, /* a loop */
        {"\x03"
         "a.b\x00",
         5}, /* a dot inside a label */
        {"\x02"
         "a\x00\x00",
         4}, /* NUL */
        {"\x02"
         "a\xff\x00",
         4},
        {"\x05"
         "ab",
         3}, /* cut */
    };
    uint8_t p[512];
    struct dns_query q;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(p, 0, sizeof p);
        p[5] = 1;
        memcpy(p + 12, bad[i].bytes, bad[i].n);
        p[12 + bad[i].n + 1] = 1;
        p[12 + bad[i].n + 3] = 1;
        if (parse(&q, p, 12 + bad[i].n + 4) != E_PROTOCOL)
            fail_msg("bad name %zu was accepted", i);
    }
    /* 255 bytes at most: 4 labels of 61 and one of 5 make 255 with the root, one more is too long.
     */
    char name[300] = "";
    for (int i = 0; i < 4; i++)
        strcat(name, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.");
    strcat(name, "aaaaa");
    size_t n = dns_query_write(p, sizeof p, 1, sv_of(name), DNS_A, false);
    assert_true(n > 0);
    assert_int_equal(parse(&q, p, n), 0);
    assert_int_equal(q.name_len, 253);
    strcat(name, "a");
    assert_int_equal(dns_query_write(p, sizeof p, 1, sv_of(name), DNS_A, false), 0);
    assert_int_equal(dns_query_write(p, sizeof p, 1, SV("a..b"), DNS_A, false), 0);
    assert_int_equal(dns_query_write(p, sizeof p, 1, SV(""), DNS_A, false), 0);
    assert_int_equal(dns_query_write(p, sizeof p, 1, SV("a b"), DNS_A, false), 0);
}

/* Each bit flipped: whatever comes, nothing is read out of bounds and nothing loops. */
static void test_mutations(void **state)
{
    uint8_t p[512];
    struct dns_query q, asked;
    size_t n = dns_query_write(p, sizeof p, 7, SV("a.bc.def"), DNS_A, true);
    for (size_t i = 0; i < n * 8; i++) {
        p[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_true(parse(&q, p, n) <= 0);
        p[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(parse(&asked, p, n), 0);
    uint8_t r[512];
    struct dns_writer w;
    struct addr a;
    addr_ip(&a, SV("10.1.2.3"), 0);
    dns_write_begin(&w, &asked, r, sizeof r, DNS_OK, false);
    dns_write_cname(&w, NULL, "x.y", 30);
    dns_write_addr(&w, "x.y", &a, 30);
    n = dns_write_end(&w);
    assert_int_equal(dns_response_check(r, n, 7, &asked), 0);
    for (size_t i = 0; i < n * 8; i++) {
        r[i / 8] ^= (uint8_t)(1 << i % 8);
        uint8_t *copy = malloc(n);
        memcpy(copy, r, n);
        assert_true(dns_response_check(copy, n, 7, &asked) <= 0);
        free(copy);
        r[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t k = 0; k < n; k++)
        assert_int_equal(dns_response_check(r, k, 7, &asked), E_INVALID);
    assert_int_equal(dns_response_check(r, n, 8, &asked), E_INVALID); /* another id */
    strcpy(asked.name, "a.bc.deg");
    assert_int_equal(dns_response_check(r, n, 7, &asked), E_INVALID); /* another name */
}

static void test_answer(void **state)
{
    uint8_t p[512], r[600];
    struct dns_query q;
    struct dns_writer w;
    struct addr a;
    size_t n = dns_query_write(p, sizeof p, 9, SV("ab.c"), DNS_A, false);
    p[13] = 'A'; /* the letters' case comes back */
    assert_int_equal(parse(&q, p, n), 0);
    addr_ip(&a, SV("10.0.0.1"), 0);
    dns_write_begin(&w, &q, r, 512, DNS_OK, true);
    dns_write_addr(&w, NULL, &a, 30);
    n = dns_write_end(&w);
    static const uint8_t want[] = {0,   9,   0x85, 0x80, 0, 1,  0, 1, 0,  0,    0,  0, 2,
                                   'A', 'b', 1,    'c',  0, 0,  1, 0, 1,  0xc0, 12, 0, 1,
                                   0,   1,   0,    0,    0, 30, 0, 4, 10, 0,    0,  1};
    assert_int_equal(n, sizeof want);
    assert_memory_equal(r, want, n);
    /* Too many for 512 bytes: the flag says so, and what is there is whole. */
    dns_write_begin(&w, &q, r, 512, DNS_OK, true);
    for (int i = 0; i < 100; i++)
        dns_write_addr(&w, NULL, &a, 30);
    n = dns_write_end(&w);
    assert_true(n <= 512);
    assert_true(dns_truncated(r));
    assert_int_equal(dns_response_check(r, n, 9, &q), 0);
}

/* ---- the table ---- */

struct row {
    const char *name, *ips[4], *shortname, *ns;
};

static struct strbuf pack(const struct row *rows, uint32_t n)
{
    struct arena a;
    struct strbuf out;
    struct istio_NameTable t = {0};
    arena_init(&a);
    strbuf_init(&out, 1 << 20);
    const struct istio_NameTable_TableEntry **v =
        arena_array(&a, const struct istio_NameTable_TableEntry *, n);
    for (uint32_t i = 0; i < n; i++) {
        struct istio_NameTable_NameInfo *info = arena_new(&a, struct istio_NameTable_NameInfo);
        struct istio_NameTable_TableEntry *e = arena_new(&a, struct istio_NameTable_TableEntry);
        info->ips.v = arena_array(&a, sv, 4);
        while (info->ips.n < 4 && rows[i].ips[info->ips.n]) {
            info->ips.v[info->ips.n] = sv_of(rows[i].ips[info->ips.n]);
            info->ips.n++;
        }
        if (rows[i].shortname) {
            info->registry = SV("Kubernetes");
            info->shortname = sv_of(rows[i].shortname);
            info->namespace = sv_of(rows[i].ns);
        }
        e->key = sv_of(rows[i].name);
        e->value = info;
        v[i] = e;
    }
    t.table.v = v;
    t.table.n = n;
    pb_encode(&istio_NameTable_pb, &t, &out);
    arena_free(&a);
    return out;
}

static const struct row ROWS[] = {
    {"flaskapp.books.svc.cluster.local", {"10.0.0.1", "fd00::1"}, "flaskapp", "books"},
    {"client.shop.svc.cluster.local", {"10.0.0.2"}, "client", "shop"},
    {"API.example.com", {"10.0.0.3", "10.0.0.4"}, NULL, NULL},
    {"*.wild.com", {"10.0.0.5"}, NULL, NULL},
    {"bad name", {"10.0.0.6"}, NULL, NULL},
    {"odd.com", {"10.0.0.7", "not an address"}, NULL, NULL},
};

static struct dns_table *make_table(void)
{
    struct error e = {0};
    struct strbuf packed = pack(ROWS, 6);
    struct dns_table *t =
        dns_table_new(strbuf_sv(&packed), SV("books"), SV("books.svc.cluster.local"), &e);
    strbuf_fini(&packed);
    assert_non_null(t);
    return t;
}

static void test_table(void **state)
{
    struct dns_table *t = make_table();
    struct dns_answer a;
    static const struct {
        const char *name, *cname;
        uint32_t n;
    } good[] = {
        {"flaskapp.books.svc.cluster.local", NULL, 2},
        {"flaskapp.books.svc", NULL, 2},
        {"flaskapp.books", NULL, 2},
        {"flaskapp", NULL, 2},
        {"client.shop", NULL, 1},
        {"api.example.com", NULL, 2},
        {"x.wild.com", NULL, 1},
        {"y.x.wild.com", NULL, 1},
        {"flaskapp.books.books.svc.cluster.local", "flaskapp.books", 2},
        {"api.example.com.books.svc.cluster.local", "api.example.com", 2},
        {"odd.com", NULL, 1},
    };
    static const char *const bad[] = {"client",
                                      "wild.com",
                                      "example.com",
                                      "flaskapp.shop",
                                      "x.api.example.com",
                                      "books.svc.cluster.local",
                                      "com",
                                      "flaskapp.books.shop.svc.cluster.local",
                                      "bad name"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!dns_table_find(t, sv_of(good[i].name), &a))
            fail_msg("%s is not known", good[i].name);
        assert_int_equal(a.n, good[i].n);
        if (good[i].cname)
            assert_string_equal(a.cname, good[i].cname);
        else
            assert_null(a.cname);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (dns_table_find(t, sv_of(bad[i]), &a))
            fail_msg("%s is known", bad[i]);
    assert_int_equal(dns_table_hosts(t), 5);
    assert_int_equal(dns_table_skipped(t), 2);
    dns_table_free(t);
    struct error e = {0};
    assert_null(dns_table_new(SV("\x0a\xff"), SV(""), SV(""), &e));
    assert_true(e.msg[0]);
}

/* ---- the proxy ---- */

enum how { ANSWER, SILENT, LIE_ID, LIE_NAME, GARBAGE, REFUSE };

struct server {
    struct loop *loop;
    struct udp_sock *udp;
    struct net_listener *tcp;
    struct conn *conn;
    struct buf in;
    enum how how;
    int asked;
    char name[DNS_NAME_MAX];
};

/* Answers everything with 192.0.2.1. */
static size_t reply(struct server *s, const void *p, size_t n, uint8_t r[600])
{
    struct dns_query q;
    struct dns_writer w;
    struct addr a;
    s->asked++;
    assert_int_equal(dns_query_parse(&q, p, n), 0);
    strcpy(s->name, q.name);
    if (s->how == LIE_ID)
        q.id ^= 1;
    if (s->how == LIE_NAME)
        q.question[1] ^= 1;
    addr_ip(&a, SV("192.0.2.1"), 0);
    dns_write_begin(&w, &q, r, 512, s->how == REFUSE ? DNS_REFUSED : DNS_OK, false);
    if (s->how != REFUSE)
        dns_write_addr(&w, NULL, &a, 5);
    n = dns_write_end(&w);
    return s->how == GARBAGE ? n - 1 : n;
}

static void on_server_udp(void *user, const char *p, size_t n, const struct addr *from)
{
    struct server *s = user;
    uint8_t r[600];
    n = reply(s, p, n, r);
    if (s->how != SILENT)
        udp_send(s->udp, from, r, n);
}

static void on_server_conn(struct conn *c, unsigned events, void *user)
{
    struct server *s = user;
    uint8_t r[602];
    if (!(events & CONN_EV_READ) || conn_read(c, &s->in, 65536) <= 0 || s->in.len < 3)
        return;
    sv m = buf_pullup(&s->in, s->in.len);
    size_t n = reply(s, m.p + 2, m.n - 2, r + 2);
    r[0] = (uint8_t)(n >> 8);
    r[1] = (uint8_t)n;
    buf_reset(&s->in);
    struct buf out;
    buf_init(&out);
    buf_append(&out, r, n + 2);
    conn_write(c, &out);
}

static void on_server_accept(void *user, int fd, const struct addr *local,
                             const struct addr *remote)
{
    struct server *s = user;
    if (s->conn)
        conn_close(s->conn);
    s->conn = conn_from_fd(s->loop, fd, local, remote, on_server_conn, s);
}

static void server_init(struct server *s, struct loop *l, enum how how)
{
    struct error e = {0};
    struct addr a;
    memset(s, 0, sizeof *s);
    s->loop = l;
    s->how = how;
    addr_ip(&a, SV("127.0.0.1"), 0);
    for (int i = 0; i < 50 && !s->tcp; i++) { /* the same port for both may be taken */
        udp_free(s->udp);
        s->udp = udp_new(l, &a, on_server_udp, s, &e);
        assert_non_null(s->udp);
        s->tcp = net_listener_new(l, udp_addr(s->udp), &(struct listen_opts){0}, on_server_accept,
                                  s, &e);
    }
    assert_non_null(s->tcp);
    net_listener_start(s->tcp);
}

static void server_fini(struct server *s)
{
    udp_free(s->udp);
    net_listener_free(s->tcp);
    if (s->conn)
        conn_close(s->conn);
    buf_reset(&s->in);
}

struct client {
    struct udp_sock *udp;
    uint8_t got[4096];
    size_t n;
    int answers;
};

static void on_client_udp(void *user, const char *p, size_t n, const struct addr *from)
{
    struct client *c = user;
    assert_true(n <= sizeof c->got);
    memcpy(c->got, p, n);
    c->n = n;
    c->answers++;
}

struct rig {
    struct loop *loop;
    struct server up[2];
    struct dns_proxy *d;
    struct client c;
};

static void rig_init(struct rig *r, enum how first, enum how second, bool upstreams)
{
    struct error e = {0};
    struct addr listen, servers[2], any;
    memset(r, 0, sizeof *r);
    r->loop = loop_new(NULL);
    server_init(&r->up[0], r->loop, first);
    server_init(&r->up[1], r->loop, second);
    servers[0] = *udp_addr(r->up[0].udp);
    servers[1] = *udp_addr(r->up[1].udp);
    addr_ip(&listen, SV("127.0.0.1"), 0);
    addr_ip(&any, SV("127.0.0.1"), 0);
    struct dns_proxy_opts o = {.loop = r->loop,
                               .listen = &listen,
                               .n_listen = 1,
                               .upstreams = servers,
                               .n_upstreams = upstreams ? 2 : 0,
                               .own_suffix = SV("cluster.local")};
    for (int i = 0; i < 50 && !r->d; i++)
        r->d = dns_proxy_new(&o, &e);
    assert_non_null(r->d);
    dns_proxy_set_table(r->d, make_table());
    r->c.udp = udp_new(r->loop, &any, on_client_udp, &r->c, &e);
    assert_non_null(r->c.udp);
}

static void rig_fini(struct rig *r)
{
    dns_proxy_free(r->d);
    server_fini(&r->up[0]);
    server_fini(&r->up[1]);
    udp_free(r->c.udp);
    loop_turn(r->loop, 0);
    loop_free(r->loop);
}

/* Asks and waits. The answer's rcode, or -1. */
static int ask(struct rig *r, const char *name, uint16_t type, uint16_t *answers)
{
    uint8_t p[512];
    struct dns_query q;
    size_t n = dns_query_write(p, sizeof p, 0x4242, sv_of(name), type, true);
    int before = r->c.answers;
    assert_int_equal(dns_query_parse(&q, p, n), 0);
    udp_send(r->c.udp, dns_proxy_addr(r->d, 0), p, n);
    for (int i = 0; i < 600 && r->c.answers == before; i++)
        loop_turn(r->loop, 10000000);
    if (r->c.answers == before)
        return -1;
    assert_int_equal(dns_response_check(r->c.got, r->c.n, 0x4242, &q), 0);
    if (answers)
        *answers = (uint16_t)(r->c.got[6] << 8 | r->c.got[7]);
    return (int)dns_rcode_of(r->c.got);
}

static void test_own_names(void **state)
{
    struct rig r;
    uint16_t n;
    rig_init(&r, ANSWER, ANSWER, true);
    assert_int_equal(ask(&r, "Flaskapp.BOOKS", DNS_A, &n), DNS_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ask(&r, "flaskapp.books", DNS_AAAA, &n), DNS_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ask(&r, "client.shop", DNS_AAAA, &n), DNS_OK); /* known, no such address */
    assert_int_equal(n, 0);
    assert_int_equal(ask(&r, "client.shop", DNS_PTR, &n), DNS_OK);
    assert_int_equal(n, 0);
    assert_int_equal(ask(&r, "flaskapp.books.books.svc.cluster.local", DNS_A, &n), DNS_OK);
    assert_int_equal(n, 2); /* CNAME and address */
    assert_int_equal(ask(&r, "nobody.books.svc.cluster.local", DNS_A, &n), DNS_NXDOMAIN);
    assert_int_equal(ask(&r, "example.com.books.svc.cluster.local", DNS_A, &n), DNS_NXDOMAIN);
    assert_int_equal(r.up[0].asked + r.up[1].asked, 0); /* nothing of it went out */
    /* Addresses take turns. */
    uint8_t first = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ask(&r, "api.example.com", DNS_A, &n), DNS_OK);
        assert_int_equal(n, 2);
        uint8_t last = r.c.got[12 + 17 + 4 + 12 + 3]; /* last byte of the first address */
        if (i)
            assert_int_not_equal(last, first);
        first = last;
    }
    assert_int_equal(dns_proxy_stats(r.d)->from_table, 9);
    assert_int_equal(dns_proxy_stats(r.d)->nxdomain, 2);
    rig_fini(&r);
}

static void test_pass_on(void **state)
{
    struct rig r;
    uint16_t n;
    rig_init(&r, ANSWER, ANSWER, true);
    assert_int_equal(ask(&r, "www.outside.org", DNS_A, &n), DNS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(r.up[0].name, "www.outside.org");
    assert_int_equal(dns_proxy_stats(r.d)->outstanding, 0);
    assert_int_equal(dns_proxy_stats(r.d)->passed_on, 1);
    rig_fini(&r);
    rig_init(&r, ANSWER, ANSWER, false);
    assert_int_equal(ask(&r, "www.outside.org", DNS_A, &n), DNS_REFUSED);
    rig_fini(&r);
}

static void test_second_server(void **state)
{
    /* Silence, wrong id, wrong name, cut message: none is taken, the second server is asked. */
    static const enum how bad[] = {SILENT, LIE_ID, LIE_NAME, GARBAGE, REFUSE};
    for (int i = 0; i < 5; i++) {
        struct rig r;
        uint16_t n;
        rig_init(&r, bad[i], ANSWER, true);
        assert_int_equal(ask(&r, "www.outside.org", DNS_A, &n), DNS_OK);
        assert_int_equal(n, 1);
        assert_int_equal(r.up[0].asked, 1);
        assert_int_equal(r.up[1].asked, 1);
        rig_fini(&r);
    }
}

static void test_nobody_answers(void **state)
{
    struct rig r;
    rig_init(&r, SILENT, LIE_ID, true);
    assert_int_equal(ask(&r, "www.outside.org", DNS_A, NULL), DNS_SERVFAIL);
    assert_int_equal(dns_proxy_stats(r.d)->upstream_failures, 1);
    assert_int_equal(dns_proxy_stats(r.d)->outstanding, 0);
    rig_fini(&r);
}

static void test_bounded(void **state)
{
    struct rig r;
    uint8_t p[512];
    rig_init(&r, SILENT, SILENT, true);
    size_t n = dns_query_write(p, sizeof p, 1, SV("slow.org"), DNS_A, false);
    for (int i = 0; i < 700; i++) {
        dns_set_id(p, (uint16_t)i);
        udp_send(r.c.udp, dns_proxy_addr(r.d, 0), p, n);
        loop_turn(r.loop, 0);
    }
    for (int i = 0; i < 20; i++)
        loop_turn(r.loop, 1000000);
    const struct dns_proxy_stats *st = dns_proxy_stats(r.d);
    assert_int_equal(st->outstanding, 512);
    assert_true(st->overflow >= 100);
    assert_int_equal(dns_rcode_of(r.c.got), DNS_SERVFAIL);
    assert_int_equal(ask(&r, "flaskapp.books", DNS_A, NULL), DNS_OK); /* own names still work */
    rig_fini(&r); /* with all of them on their way */
}

static void test_malformed(void **state)
{
    struct rig r;
    rig_init(&r, ANSWER, ANSWER, true);
    uint8_t p[64] = {0, 5, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1};
    udp_send(r.c.udp, dns_proxy_addr(r.d, 0), p, 18);
    for (int i = 0; i < 60000 && !r.c.answers; i++)
        loop_turn(r.loop, 1000000);
    assert_int_equal(r.c.answers, 1);
    assert_int_equal(dns_rcode_of(r.c.got), DNS_FORMERR);
    assert_int_equal(r.c.got[1], 5);
    udp_send(r.c.udp, dns_proxy_addr(r.d, 0), "short", 5);
    for (int i = 0; i < 10; i++)
        loop_turn(r.loop, 1000000);
    assert_int_equal(r.c.answers, 1);
    assert_int_equal(dns_proxy_stats(r.d)->malformed, 2);
    rig_fini(&r);
}

/* ---- TCP ---- */

struct tcp {
    struct conn *c;
    struct buf in;
    bool ended;
};

static void on_tcp(struct conn *c, unsigned events, void *user)
{
    struct tcp *t = user;
    if (events & CONN_EV_READ) {
        ssize_t n;
        while ((n = conn_read(c, &t->in, 65536)) > 0)
            ;
        t->ended |= n != E_AGAIN;
    }
    t->ended |= (events & CONN_EV_ERROR) != 0;
}

static void test_tcp(void **state)
{
    struct rig r;
    struct tcp t = {0};
    int code;
    uint8_t p[1100];
    rig_init(&r, ANSWER, ANSWER, true);
    t.c = conn_connect(r.loop, dns_proxy_addr(r.d, 0), NULL, on_tcp, &t, &code);
    assert_non_null(t.c);
    for (int i = 0; i < 60000 && !t.c->connected; i++)
        loop_turn(r.loop, 1000000);
    /* Two questions in one go, byte by byte: one of ours, one that is passed on (over TCP). */
    size_t n = dns_query_write(p + 2, 512, 1, SV("flaskapp.books"), DNS_A, false);
    p[0] = 0;
    p[1] = (uint8_t)n;
    size_t m = dns_query_write(p + 2 + n + 2, 512, 2, SV("out.org"), DNS_A, false);
    p[2 + n] = 0;
    p[2 + n + 1] = (uint8_t)m;
    for (size_t i = 0; i < 2 + n + 2 + m; i++) {
        struct buf b;
        buf_init(&b);
        buf_append(&b, p + i, 1);
        assert_int_equal(conn_write(t.c, &b), 1);
        loop_turn(r.loop, 100000);
    }
    for (int i = 0; i < 60000 && t.in.len < 2 + n + 16 + 2 + m + 16; i++)
        loop_turn(r.loop, 5000000);
    assert_int_equal(t.in.len, 2 + n + 16 + 2 + m + 16);
    assert_string_equal(r.up[0].name, "out.org");
    assert_non_null(r.up[0].conn); /* it came over TCP */
    buf_reset(&t.in);
    /* A client that goes while its question is on its way. */
    r.up[0].how = SILENT;
    struct buf b;
    buf_init(&b);
    buf_append(&b, p + 2 + n, 2 + m);
    conn_write(t.c, &b);
    for (int i = 0; i < 10; i++)
        loop_turn(r.loop, 1000000);
    conn_close(t.c);
    for (int i = 0; i < 10; i++)
        loop_turn(r.loop, 1000000);
    assert_int_equal(dns_proxy_stats(r.d)->outstanding, 0);
    buf_reset(&t.in);
    rig_fini(&r);
}

static void test_tcp_garbage(void **state)
{
    struct rig r;
    struct tcp t = {0};
    int code;
    rig_init(&r, ANSWER, ANSWER, true);
    t.c = conn_connect(r.loop, dns_proxy_addr(r.d, 0), NULL, on_tcp, &t, &code);
    for (int i = 0; i < 60000 && !t.c->connected; i++)
        loop_turn(r.loop, 1000000);
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 40000; i++)
        buf_append(&b, "\xff\xff\x01", 3);
    for (int i = 0; i < 100; i++) {
        conn_write(t.c, &b);
        loop_turn(r.loop, 1000000);
    }
    assert_int_equal(ask(&r, "flaskapp.books", DNS_A, NULL), DNS_OK); /* others go on */
    buf_reset(&b);
    conn_close(t.c);
    buf_reset(&t.in);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),          cmocka_unit_test(test_names),
        cmocka_unit_test(test_mutations),      cmocka_unit_test(test_answer),
        cmocka_unit_test(test_table),          cmocka_unit_test(test_own_names),
        cmocka_unit_test(test_pass_on),        cmocka_unit_test(test_second_server),
        cmocka_unit_test(test_nobody_answers), cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_malformed),      cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tcp_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
