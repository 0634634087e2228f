/* ClientHellos whole, byte by byte, in tiny records, broken in every place. */
#include "tls/tls_inspect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/ssl.h>

struct bytes {
    uint8_t p[70000];
    size_t n;
};

static void put(struct bytes *b, uint32_t v, int bytes)
{
    while (bytes--)
        b->p[b->n++] = (uint8_t)(v >> (8 * bytes));
}

static void put_raw(struct bytes *b, const void *p, size_t n)
{
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

/* A ClientHello message with these extension bytes. */
static void hello(struct bytes *m, uint32_t version, const struct bytes *exts)
{
    struct bytes *body = calloc(1, sizeof *body);
    put(body, version, 2);
    for (int i = 0; i < 32; i++)
        put(body, (uint32_t)i, 1);
    put(body, 0, 1);
    put(body, 4, 2);
    put(body, 0x1301, 2);
    put(body, 0x0a0a, 2);
    put(body, 1, 1);
    put(body, 0, 1);
    if (exts) {
        put(body, (uint32_t)exts->n, 2);
        put_raw(body, exts->p, exts->n);
    }
    m->n = 0;
    put(m, 1, 1);
    put(m, (uint32_t)body->n, 3);
    put_raw(m, body->p, body->n);
    free(body);
}

static void ext_sni(struct bytes *e, const char *name, size_t n)
{
    put(e, 0, 2);
    put(e, (uint32_t)n + 5, 2);
    put(e, (uint32_t)n + 3, 2);
    put(e, 0, 1);
    put(e, (uint32_t)n, 2);
    put_raw(e, name, n);
}

/* Wraps a message into records of at most `size` bytes. */
static void records(struct bytes *out, const struct bytes *m, size_t size)
{
    out->n = 0;
    for (size_t i = 0; i < m->n; i += size) {
        size_t k = m->n - i < size ? m->n - i : size;
        put(out, 22, 1);
        put(out, 0x0301, 2);
        put(out, (uint32_t)k, 2);
        put_raw(out, m->p + i, k);
    }
}

static enum tls_verdict feed_all(struct tls_inspect *t, const struct bytes *b, size_t step)
{
    tls_inspect_init(t, 0);
    for (size_t i = 0; i < b->n; i += step) {
        size_t k = b->n - i < step ? b->n - i : step;
        uint8_t *copy = malloc(k); /* exact size: a read past it is seen by the sanitizer */
        memcpy(copy, b->p + i, k);
        tls_inspect_feed(t, copy, k);
        free(copy);
    }
    return t->verdict;
}

/* What OpenSSL really sends. */
static void real_hello(struct bytes *out)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *wr = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, wr);
    SSL_set_tlsext_host_name(ssl, "Flaskapp.Books.SVC");
    SSL_set_alpn_protos(ssl, (const unsigned char *)"\x05istio\x02h2\x08http/1.1", 18);
    SSL_connect(ssl);
    char *p;
    long n = BIO_get_mem_data(wr, &p);
    out->n = 0;
    put_raw(out, p, (size_t)n);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

static void check_real(struct tls_inspect *t)
{
    assert_int_equal(t->verdict, TLS_IS_TLS);
    assert_true(sv_eq(t->sni, SV("flaskapp.books.svc")));
    assert_int_equal(t->n_alpns, 3);
    assert_true(sv_eq(t->alpns[0], SV("istio")));
    assert_true(sv_eq(t->alpns[1], SV("h2")));
    assert_true(sv_eq(t->alpns[2], SV("http/1.1")));
    assert_int_equal(t->max_version, 0x0304);
}

static void test_real(void **state)
{
    struct bytes *b = calloc(1, sizeof *b), *m = calloc(1, sizeof *m), *r = calloc(1, sizeof *r);
    struct tls_inspect t;
    real_hello(b);
    for (size_t step = 1; step <= b->n; step = step < 8 ? step + 1 : step * 2) {
        feed_all(&t, b, step);
        check_real(&t);
        tls_inspect_fini(&t);
    }
    /* Need more at every shorter length. */
    for (size_t n = 0; n < b->n; n++) {
        tls_inspect_init(&t, 0);
        assert_int_equal(tls_inspect_feed(&t, b->p, n), TLS_NEED_MORE);
        tls_inspect_fini(&t);
    }
    /* The same message cut into records of every small size. */
    put_raw(m, b->p + 5, b->n - 5);
    for (size_t size = 1; size < 40; size++) {
        records(r, m, size);
        feed_all(&t, r, size % 3 + 1);
        check_real(&t);
        tls_inspect_fini(&t);
    }
    free(b);
    free(m);
    free(r);
}

/* Each byte flipped: any verdict is fine, but no crash, and never plaintext once it began as a
 * ClientHello. */
static void test_mutations(void **state)
{
    struct bytes *b = calloc(1, sizeof *b);
    struct tls_inspect t;
    real_hello(b);
    for (size_t i = 0; i < b->n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            b->p[i] ^= (uint8_t)(1 << bit);
            feed_all(&t, b, 1 + i % 7);
            if (i > 5)
                assert_int_not_equal(t.verdict, TLS_NOT_TLS);
            tls_inspect_fini(&t);
            b->p[i] ^= (uint8_t)(1 << bit);
        }
    }
    free(b);
}

static void test_not_tls(void **state)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x",
                                        "\x16\x02\x01",           "PRI * HTTP/2.0",
                                        "\x80\x2e\x01",           "\x16\x03\x01\x02\x00\x02"};
    struct tls_inspect t;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        tls_inspect_init(&t, 0);
        size_t n = i == 5 ? 6 : strlen(texts[i]);
        assert_int_equal(tls_inspect_feed(&t, texts[i], n), TLS_NOT_TLS);
        assert_int_equal(tls_inspect_feed(&t, "\x16", 1), TLS_NOT_TLS);
        tls_inspect_fini(&t);
    }
    tls_inspect_init(&t, 0); /* one byte decides */
    assert_int_equal(tls_inspect_feed(&t, "G", 1), TLS_NOT_TLS);
    tls_inspect_fini(&t);
}

static void expect_broken(const struct bytes *exts, const char *why)
{
    struct bytes *m = calloc(1, sizeof *m), *r = calloc(1, sizeof *r);
    struct tls_inspect t;
    hello(m, 0x0303, exts);
    records(r, m, 16384);
    feed_all(&t, r, 1);
    assert_int_equal(t.verdict, TLS_BROKEN);
    if (!strstr(t.why, why))
        fail_msg("%s instead of %s", t.why, why);
    assert_int_equal(t.sni.n, 0);
    tls_inspect_fini(&t);
    free(m);
    free(r);
}

static void test_names(void **state)
{
    struct bytes *e = calloc(1, sizeof *e);
    static const struct {
        const char *name;
        size_t n;
    } bad[] = {{"", 0}, {"a\0b", 3}, {"a b", 3}, {"a\r\n", 3}, {"\xff.x", 3}};
    for (size_t i = 0; i < 5; i++) {
        e->n = 0;
        ext_sni(e, bad[i].name, bad[i].n);
        expect_broken(e, "server name");
    }
    char long_name[300];
    memset(long_name, 'a', sizeof long_name);
    e->n = 0;
    ext_sni(e, long_name, 256);
    expect_broken(e, "255");
    e->n = 0;
    ext_sni(e, "a", 1);
    ext_sni(e, "b", 1);
    expect_broken(e, "twice");
    e->n = 0;
    put(e, 0, 2); /* two names in one list */
    put(e, 10, 2);
    put(e, 8, 2);
    for (int i = 0; i < 2; i++) {
        put(e, 0, 1);
        put(e, 1, 2);
        put(e, 'x', 1);
    }
    expect_broken(e, "one host name");
    e->n = 0;
    put(e, 16, 2); /* empty ALPN name */
    put(e, 3, 2);
    put(e, 1, 2);
    put(e, 0, 1);
    expect_broken(e, "ALPN");
    e->n = 0;
    put(e, 5, 2); /* extension longer than the rest */
    put(e, 100, 2);
    expect_broken(e, "longer than what holds it");
    free(e);
}

static void test_good_edges(void **state)
{
    struct bytes *e = calloc(1, sizeof *e), *m = calloc(1, sizeof *m), *r = calloc(1, sizeof *r);
    struct tls_inspect t;
    hello(m, 0x0301, NULL); /* TLS 1.0 without extensions */
    records(r, m, 16384);
    assert_int_equal(feed_all(&t, r, 3), TLS_IS_TLS);
    assert_int_equal(t.max_version, 0x0301);
    assert_int_equal(t.sni.n, 0);
    tls_inspect_fini(&t);
    put(e, 0x1a1a, 2); /* GREASE, empty */
    put(e, 0, 2);
    ext_sni(e, "X.y", 3);
    put(e, 43, 2);
    put(e, 5, 2);
    put(e, 4, 1);
    put(e, 0x7a7a, 2);
    put(e, 0x0304, 2);
    hello(m, 0x0303, e);
    records(r, m, 16384);
    assert_int_equal(feed_all(&t, r, 1000), TLS_IS_TLS);
    assert_int_equal(t.max_version, 0x0304);
    assert_true(sv_eq(t.sni, SV("x.y")));
    assert_int_equal(t.n_alpns, 0);
    tls_inspect_fini(&t);
    free(e);
    free(m);
    free(r);
}

static void test_bounds(void **state)
{
    struct bytes *e = calloc(1, sizeof *e), *m = calloc(1, sizeof *m), *r = calloc(1, sizeof *r);
    struct tls_inspect t;
    put(e, 21, 2); /* padding up to and past the limit */
    put(e, 16384, 2);
    e->n += 16384;
    hello(m, 0x0303, e);
    records(r, m, 1000);
    assert_int_equal(feed_all(&t, r, 1), TLS_BROKEN);
    assert_non_null(strstr(t.why, "longer than allowed"));
    assert_true(t.cap <= 1024); /* refused when the length was read, not when it had come */
    tls_inspect_fini(&t);
    tls_inspect_init(&t, 20000);
    tls_inspect_feed(&t, r->p, r->n);
    assert_int_equal(t.verdict, TLS_IS_TLS);
    tls_inspect_fini(&t);
    /* An empty record, another type, and a record that is too long inside the hello. */
    static const uint8_t begin[] = {22, 3, 1, 0, 1, 1};
    static const uint8_t bad[][5] = {{22, 3, 1, 0, 0}, {23, 3, 1, 0, 9}, {22, 3, 3, 0x40, 1}};
    for (int i = 0; i < 3; i++) {
        tls_inspect_init(&t, 0);
        tls_inspect_feed(&t, begin, sizeof begin);
        assert_int_equal(tls_inspect_feed(&t, bad[i], 5), TLS_BROKEN);
        tls_inspect_fini(&t);
    }
    free(e);
    free(m);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real),       cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_not_tls),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_good_edges), cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
