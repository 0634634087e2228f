/* Names, and every way in which a peer's certificate is refused (attack cases 32 and 34). */
#include "tls/tls_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include "base/mem.h"
#include "tls/tls_priv.h"

static struct loop *loop;
static struct tt_ca root, other, inter;
static struct tt_cert alice, bob;

static int setup(void **state)
{
    loop = loop_new(NULL);
    tt_ca_init(&root, NULL, "root");
    tt_ca_init(&other, NULL, "other root");
    tt_ca_init(&inter, &root, "intermediate");
    tt_cert_init(&alice, &root, "spiffe://td/ns/a/sa/alice");
    tt_cert_init(&bob, &root, "spiffe://td/ns/b/sa/bob");
    return 0;
}

static int teardown(void **state)
{
    tt_cert_fini(&alice);
    tt_cert_fini(&bob);
    tt_ca_fini(&inter);
    tt_ca_fini(&root);
    tt_ca_fini(&other);
    loop_free(loop);
    return 0;
}

/* ---- names ---- */

static void test_dns_names(void **state)
{
    assert_true(tls_dns_name_match(SV("a.example.com"), SV("A.Example.COM")));
    assert_true(tls_dns_name_match(SV("a.example.com"), SV("*.example.com")));
    assert_false(tls_dns_name_match(SV("a.b.example.com"), SV("*.example.com")));
    assert_false(tls_dns_name_match(SV("example.com"), SV("*.example.com")));
    assert_false(tls_dns_name_match(SV(".example.com"), SV("*.example.com")));
    assert_false(tls_dns_name_match(SV("a.example.com"), SV("*")));
    assert_false(tls_dns_name_match(SV("a.example.com"), SV("*.*.com")));
    assert_false(tls_dns_name_match(SV("a.example.com"), SV("a.*.com")));
    assert_false(tls_dns_name_match(SV("ab.example.com"), SV("a*.example.com")));
    assert_false(tls_dns_name_match(SV("com"), SV("*.")));
    assert_false(tls_dns_name_match(SV(""), SV("")));
    assert_false(tls_dns_name_match(SV("a.com"), SV("a.com\0.evil.org")));
    assert_false(tls_dns_name_match(SV("a.com"), SV("a.com.")));
}

static bool match(enum tls_san_type mt, enum tls_match_kind k, const char *want, bool icase,
                  enum tls_san_type st, sv have)
{
    struct tls_san_match m = {.type = mt, .kind = k, .ignore_case = icase, .value = sv_of(want)};
    struct tls_san s = {st, have};
    return tls_san_match_one(&m, &s);
}

#define U TLS_SAN_URI
static void test_matchers(void **state)
{
    const sv id = SV("spiffe://td/ns/a/sa/b");
    assert_true(match(U, TLS_MATCH_EXACT, "spiffe://td/ns/a/sa/b", false, U, id));
    assert_false(match(U, TLS_MATCH_EXACT, "spiffe://td/ns/a/sa/B", false, U, id));
    assert_true(match(U, TLS_MATCH_EXACT, "spiffe://td/ns/a/sa/B", true, U, id));
    assert_false(match(U, TLS_MATCH_EXACT, "spiffe://td/ns/a/sa/", false, U, id));
    assert_false(match(TLS_SAN_DNS, TLS_MATCH_EXACT, "spiffe://td/ns/a/sa/b", false, U, id));
    assert_true(match(TLS_SAN_ANY, TLS_MATCH_EXACT, "spiffe://td/ns/a/sa/b", false, U, id));
    assert_true(match(U, TLS_MATCH_PREFIX, "spiffe://td/ns/a/", false, U, id));
    assert_false(match(U, TLS_MATCH_PREFIX, "spiffe://td/ns/b/", false, U, id));
    assert_true(match(U, TLS_MATCH_SUFFIX, "/sa/b", false, U, id));
    assert_true(match(U, TLS_MATCH_SUFFIX, "/SA/B", true, U, id));
    assert_false(match(U, TLS_MATCH_SUFFIX, "/sa/bb", false, U, id));
    assert_false(match(U, TLS_MATCH_SUFFIX, "xspiffe://td/ns/a/sa/b", false, U, id));
    assert_true(match(U, TLS_MATCH_CONTAINS, "/ns/a/", false, U, id));
    assert_true(match(U, TLS_MATCH_CONTAINS, "/NS/A/", true, U, id));
    assert_false(match(U, TLS_MATCH_CONTAINS, "/ns/aa/", false, U, id));
    /* A wildcard counts for exact DNS names only. */
    assert_true(match(TLS_SAN_DNS, TLS_MATCH_EXACT, "x.y.z", false, TLS_SAN_DNS, SV("*.y.z")));
    assert_false(match(TLS_SAN_DNS, TLS_MATCH_PREFIX, "x.", false, TLS_SAN_DNS, SV("*.y.z")));
    assert_false(match(U, TLS_MATCH_EXACT, "spiffe://td/x", false, U, SV("spiffe://td/*")));
    /* What stands behind a NUL does not hide. */
    assert_false(match(U, TLS_MATCH_PREFIX, "spiffe://td", false, U, SV("spiffe://td\0.evil")));
    assert_false(match(U, TLS_MATCH_REGEX, "x", false, U, id));
}

/* ---- handshakes that must fail ---- */

struct want {
    enum tls_fail fail;
    const char *text; /* in error_text of the one who verifies */
    const char *sentence;
    const char *peer_text; /* in error_text of the other side; NULL: not looked at */
};

static void expect(struct tls_ctx *c, struct tls_ctx *s, const struct tls_client_params *params,
                   bool client_verifies, const struct want *w)
{
    struct tt_pair p;
    bool up = tt_pair_init(&p, loop, c, s, params);
    struct conn *judge = client_verifies ? p.client.c : p.server.c;
    struct conn *judged = client_verifies ? p.server.c : p.client.c;
    if (w->fail == TLS_FAIL_NONE) {
        if (!up)
            fail_msg("failed: %.*s %.*s", SV_ARG(p.client.c->error_text),
                     SV_ARG(p.server.c->error_text));
    } else {
        assert_false(up);
        assert_int_equal(tls_conn_fail(judge), w->fail);
        assert_int_equal(judge->error, E_TLS);
        assert_null(judge->tls);
        if (!strstr(judge->error_text.p, w->text))
            fail_msg("\"%s\" lacks \"%s\"", judge->error_text.p, w->text);
        assert_true(sv_starts(judge->error_text, SV("TLS_error:|")));
        assert_true(sv_ends(judge->error_text, SV(":TLS_error_end")));
        if (!strstr(tls_conn_sentence(judge).p, w->sentence))
            fail_msg("\"%s\" lacks \"%s\"", tls_conn_sentence(judge).p, w->sentence);
        if (w->peer_text && !(judged->error_text.p && strstr(judged->error_text.p, w->peer_text)))
            fail_msg("peer: \"%.*s\" lacks \"%s\"", SV_ARG(judged->error_text), w->peer_text);
    }
    tt_pair_fini(&p);
}

static struct tls_ctx *make(struct tls_ctx_opts o)
{
    struct error e = {0};
    struct tls_ctx *c = tls_ctx_new(&o, &e);
    if (!c)
        fail_msg("%s", e.msg);
    return c;
}

/* The certificate at the client, judged by a server with these rules; then the other way round. */
static void judge(struct tt_cert *cert, struct tls_validation *v, const struct want *w)
{
    struct tls_validation trust = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_ctx *s = make((struct tls_ctx_opts){.server = true,
                                                   .certs = &bob.opts,
                                                   .n_certs = 1,
                                                   .validation = v,
                                                   .client_auth = TLS_CLIENT_REQUIRE});
    struct tls_ctx *c = make((struct tls_ctx_opts){
        .certs = cert ? &cert->opts : NULL, .n_certs = cert != NULL, .validation = &trust});
    expect(c, s, NULL, false, w);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
    if (!cert)
        return;
    s = make((struct tls_ctx_opts){.server = true, .certs = &cert->opts, .n_certs = 1});
    c = make((struct tls_ctx_opts){.validation = v});
    expect(c, s, NULL, true, w);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

static void test_no_certificate(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    judge(NULL, &v,
          &(struct want){TLS_FAIL_NO_CERT,
                         "|268435648:SSL routines:OPENSSL_internal:"
                         "PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required "
                         "client certificate",
                         "presented no certificate", "CERTIFICATE_REQUIRED"});
}

static void test_other_root(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&other.pem)};
    judge(
        &alice, &v,
        &(struct want){TLS_FAIL_VERIFY,
                       "|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify "
                       "cert failed: X509_verify_cert: certificate verification error at depth 0: "
                       "unable to get local issuer certificate",
                       "(spiffe://td/ns/a/sa/alice, issued by \"CN=root,O=test\") is not trusted",
                       "TLSV1_ALERT_UNKNOWN_CA"});
}

static void test_dates(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_san san = tt_san("spiffe://td/x");
    struct tt_cert old, early;
    tt_cert_init_leaf(
        &old, &root,
        (struct tls_leaf){.sans = &san, .n_sans = 1, .now_s = time(NULL) - 1000, .ttl_s = 500},
        TLS_KEY_EC_P256);
    tt_cert_init_leaf(
        &early, &root,
        (struct tls_leaf){.sans = &san, .n_sans = 1, .now_s = time(NULL) + 1000, .ttl_s = 500},
        TLS_KEY_EC_P256);
    judge(&old, &v,
          &(struct want){TLS_FAIL_VERIFY, "depth 0: certificate has expired",
                         "(spiffe://td/x) expired on 20", "ALERT_CERTIFICATE_EXPIRED"});
    judge(&early, &v,
          &(struct want){TLS_FAIL_VERIFY, "certificate is not yet valid", "is valid only from 20",
                         NULL});
    v.allow_expired = true;
    judge(&old, &v, &(struct want){TLS_FAIL_NONE});
    tt_cert_fini(&old);
    tt_cert_fini(&early);
}

static void test_purpose(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_san san = tt_san("spiffe://td/x");
    struct tls_leaf leaf = {.sans = &san, .n_sans = 1, .now_s = time(NULL), .ttl_s = 500};
    struct tt_cert srv, cli;
    leaf.server_auth = true;
    tt_cert_init_leaf(&srv, &root, leaf, TLS_KEY_EC_P256);
    leaf.server_auth = false;
    leaf.client_auth = true;
    tt_cert_init_leaf(&cli, &root, leaf, TLS_KEY_EC_P256);
    struct want bad = {TLS_FAIL_VERIFY, "unsuitable certificate purpose", "extended key usage",
                       "UNSUPPORTED_CERTIFICATE"};
    struct tls_ctx *s = make((struct tls_ctx_opts){.server = true,
                                                   .certs = &bob.opts,
                                                   .n_certs = 1,
                                                   .validation = &v,
                                                   .client_auth = TLS_CLIENT_REQUIRE});
    struct tls_ctx *c = make((struct tls_ctx_opts){.certs = &srv.opts, .n_certs = 1});
    expect(c, s, NULL, false, &bad);
    tls_ctx_unref(c);
    c = make((struct tls_ctx_opts){.certs = &cli.opts, .n_certs = 1});
    expect(c, s, NULL, false, &(struct want){TLS_FAIL_NONE});
    tls_ctx_unref(c);
    tls_ctx_unref(s);
    s = make((struct tls_ctx_opts){.server = true, .certs = &cli.opts, .n_certs = 1});
    c = make((struct tls_ctx_opts){.validation = &v});
    expect(c, s, NULL, true, &bad);
    tls_ctx_unref(c);
    tls_ctx_unref(s);
    tt_cert_fini(&srv);
    tt_cert_fini(&cli);
}

static void test_names(void **state)
{
    struct tls_san_match m[] = {
        {.type = TLS_SAN_URI, .kind = TLS_MATCH_EXACT, .value = SV("spiffe://td/ns/a/sa/eve")},
        {.type = TLS_SAN_DNS, .kind = TLS_MATCH_EXACT, .value = SV("alice")},
    };
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem), .sans = m, .n_sans = 2};
    struct want bad = {
        TLS_FAIL_SAN,
        "CERTIFICATE_VERIFY_FAILED:verify cert failed: SAN matcher, certificate SANs "
        "are [spiffe://td/ns/a/sa/alice]",
        "would be is spiffe://td/ns/a/sa/eve", "SSLV3_ALERT_CERTIFICATE_UNKNOWN"};
    judge(&alice, &v, &bad);
    m[1] = (struct tls_san_match){
        .type = TLS_SAN_URI, .kind = TLS_MATCH_EXACT, .value = SV("spiffe://td/ns/a/sa/alice")};
    judge(&alice, &v, &(struct want){TLS_FAIL_NONE});
    /* The common name is no name. */
    struct tt_cert cn;
    tt_cert_init_leaf(&cn, &root,
                      (struct tls_leaf){.common_name = SV("spiffe://td/ns/a/sa/alice"),
                                        .now_s = time(NULL),
                                        .ttl_s = 500},
                      TLS_KEY_EC_P256);
    judge(&cn, &v,
          &(struct want){TLS_FAIL_SAN, "SAN matcher, certificate SANs are []", "none of", NULL});
    tt_cert_fini(&cn);
}

static void test_expected_name(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tt_cert cert;
    struct tls_san sans[] = {tt_san("*.books.svc"), tt_san("10.0.0.7")};
    tt_cert_init_leaf(
        &cert, &root,
        (struct tls_leaf){.sans = sans, .n_sans = 2, .now_s = time(NULL), .ttl_s = 99},
        TLS_KEY_EC_P256);
    struct tls_ctx *s =
        make((struct tls_ctx_opts){.server = true, .certs = &cert.opts, .n_certs = 1});
    struct tls_ctx *c = make((struct tls_ctx_opts){.validation = &v});
    static const char *const good[] = {"x.books.svc", "X.BOOKS.svc", "10.0.0.7"};
    static const char *const bad[] = {"a.x.books.svc", "books.svc", "10.0.0.8", "*.books"};
    struct want no = {TLS_FAIL_SAN, "verify SAN list, expected SANs: [",
                      "the peer's certificate is for [*.books.svc, 10.0.0.7], not for ", NULL};
    for (int i = 0; i < 3; i++)
        expect(c, s, &(struct tls_client_params){.expect_name = sv_of(good[i])}, true,
               &(struct want){TLS_FAIL_NONE});
    for (int i = 0; i < 4; i++)
        expect(c, s, &(struct tls_client_params){.expect_name = sv_of(bad[i])}, true, &no);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
    tt_cert_fini(&cert);
}

static void test_pins(void **state)
{
    struct error e = {0};
    struct tls_cert_info *a = tls_cert_info_from_pem(strbuf_sv(&alice.chain), &e);
    struct tls_cert_info *b = tls_cert_info_from_pem(strbuf_sv(&bob.chain), &e);
    struct want bad = {TLS_FAIL_PIN, "verify cert failed: cert hash and spki", "pinned", NULL};
    struct want good = {TLS_FAIL_NONE};
    sv pin = b->spki_sha256, hash = b->sha256;
    struct tls_validation v = {.spki_pins = &pin, .n_spki_pins = 1};
    judge(&alice, &v, &bad); /* pins alone decide, no CA */
    pin = a->spki_sha256;
    judge(&alice, &v, &good);
    v.ca_pem = strbuf_sv(&other.pem); /* a pin does not replace the chain when there is trust */
    judge(&alice, &v, &(struct want){TLS_FAIL_VERIFY, "X509_verify_cert", "not trusted", NULL});
    v = (struct tls_validation){
        .ca_pem = strbuf_sv(&root.pem), .cert_hashes = &hash, .n_cert_hashes = 1};
    judge(&alice, &v, &bad);
    char colons[100];
    for (int i = 0; i < 32; i++)
        snprintf(colons + 3 * i, 4, "%c%c:", a->sha256.p[2 * i], a->sha256.p[2 * i + 1]);
    hash = sv_make(colons, 95);
    judge(&alice, &v, &good);
    hash = sv_make(colons, 94);
    assert_null(tls_ctx_new(&(struct tls_ctx_opts){.validation = &v}, &e));
    assert_non_null(strstr(e.msg, "verify_certificate_hash[0]"));
    tls_cert_info_unref(a);
    tls_cert_info_unref(b);
}

static void test_intermediate(void **state)
{
    struct tt_cert leaf;
    struct want good = {TLS_FAIL_NONE};
    tt_cert_init(&leaf, &inter, "spiffe://td/x");
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    judge(&leaf, &v, &good);
    v.ca_pem = strbuf_sv(&inter.pem); /* an intermediate as anchor */
    judge(&leaf, &v, &good);
    judge(&alice, &v, &(struct want){TLS_FAIL_VERIFY, "local issuer", "not trusted", NULL});
    v.ca_pem = strbuf_sv(&root.pem);
    /* Without the intermediate nothing leads to the root. */
    struct tls_cert_opts whole = leaf.opts;
    leaf.opts.chain_pem = sv_first(whole.chain_pem, whole.chain_pem.n - inter.pem.n);
    judge(&leaf, &v, &(struct want){TLS_FAIL_VERIFY, "local issuer", "not trusted", NULL});
    tt_cert_fini(&leaf);
    /* A leaf is no CA: what it signs is worth nothing. */
    struct tt_ca fake = {.key = tls_key_ref(alice.key)};
    struct error e = {0};
    assert_null(tls_signer_new(strbuf_sv(&alice.chain), fake.key, &e));
    tls_key_unref(fake.key);
}

static void test_untrusted_accepted(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&other.pem), .accept_untrusted = true};
    struct tls_ctx *s = make((struct tls_ctx_opts){.server = true,
                                                   .certs = &bob.opts,
                                                   .n_certs = 1,
                                                   .validation = &v,
                                                   .client_auth = TLS_CLIENT_OPTIONAL});
    struct tls_ctx *c =
        make((struct tls_ctx_opts){.certs = &alice.opts, .n_certs = 1, .max_session_keys = 1});
    for (int i = 0; i < 2; i++) { /* and resumption does not make it trusted */
        struct tt_pair p;
        assert_true(tt_pair_init(&p, loop, c, s, NULL));
        assert_int_equal(p.server.c->tls->session_reused, i == 1);
        assert_non_null(p.server.c->tls->peer);
        assert_false(p.server.c->tls->peer_validated);
        assert_int_equal(tls_info_peer_identity(p.server.c->tls).n, 0);
        /* The client verifies nothing and knows it. */
        assert_non_null(p.client.c->tls->peer);
        assert_false(p.client.c->tls->peer_validated);
        tt_pair_fini(&p);
    }
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

static void test_optional(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_ctx *s = make((struct tls_ctx_opts){.server = true,
                                                   .certs = &bob.opts,
                                                   .n_certs = 1,
                                                   .validation = &v,
                                                   .client_auth = TLS_CLIENT_OPTIONAL});
    struct tls_ctx *none = make((struct tls_ctx_opts){0});
    struct tt_cert eve;
    tt_cert_init(&eve, &other, "spiffe://td/ns/a/sa/alice");
    struct tls_ctx *bad = make((struct tls_ctx_opts){.certs = &eve.opts, .n_certs = 1});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, none, s, NULL));
    assert_null(p.server.c->tls->peer);
    assert_false(p.server.c->tls->peer_validated);
    tt_pair_fini(&p);
    expect(bad, s, NULL, false,
           &(struct want){TLS_FAIL_VERIFY, "local issuer", "not trusted", NULL});
    tls_ctx_unref(s);
    tls_ctx_unref(none);
    tls_ctx_unref(bad);
    tt_cert_fini(&eve);
}

/* ---- certificates that this project never makes ---- */

/* Signs alice's certificate anew after `change` had its way. */
static struct tt_cert forge(void (*change)(X509 *x))
{
    struct error e = {0};
    struct tt_cert c = {.key = tls_key_ref(alice.key)};
    STACK_OF(X509) *one = tls_pem_certs(strbuf_sv(&alice.chain), "t", &e);
    X509 *x = sk_X509_value(one, 0);
    unsigned char *der = NULL;
    change(x);
    assert_true(X509_sign(x, tls_key_native(root.key), EVP_sha256()) > 0);
    int n = i2d_X509(x, &der);
    strbuf_init(&c.chain, 1 << 20);
    tls_pem_add(&c.chain, "CERTIFICATE", sv_make((char *)der, (size_t)n));
    OPENSSL_free(der);
    sk_X509_pop_free(one, X509_free);
    c.opts = (struct tls_cert_opts){.chain_pem = strbuf_sv(&c.chain), .key = c.key};
    return c;
}

static void put_san(X509 *x, int type, const char *p, int n)
{
    int at = X509_get_ext_by_NID(x, NID_subject_alt_name, -1);
    X509_EXTENSION_free(X509_delete_ext(x, at));
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    ASN1_STRING_set(s, p, n);
    GENERAL_NAME_set0_value(g, type, s);
    sk_GENERAL_NAME_push(names, g);
    X509_add1_ext_i2d(x, NID_subject_alt_name, names, 1, 0);
    GENERAL_NAMES_free(names);
}

static void with_nul_uri(X509 *x)
{
    put_san(x, GEN_URI, "spiffe://td/ns/a/sa/alice\0.evil", 31);
}

static void with_nul_dns(X509 *x)
{
    put_san(x, GEN_DNS, "good.com\0.evil.com", 18);
}

static void test_nul_in_names(void **state)
{
    struct tls_san_match m = {
        .type = TLS_SAN_URI, .kind = TLS_MATCH_PREFIX, .value = SV("spiffe://td/ns/a/sa/alice")};
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem), .sans = &m, .n_sans = 1};
    struct want bad = {TLS_FAIL_VERIFY, "holds a NUL byte", "is not acceptable", NULL};
    struct tt_cert c = forge(with_nul_uri);
    /* This side would not even load it, so the client is OpenSSL without us. */
    struct error e = {0};
    assert_null(tls_ctx_new(&(struct tls_ctx_opts){.certs = &c.opts, .n_certs = 1}, &e));
    void (*const changes[])(X509 *) = {with_nul_uri, with_nul_dns};
    for (int i = 0; i < 2; i++) {
        struct tt_cert f = forge(changes[i]);
        struct tls_ctx *s = make((struct tls_ctx_opts){.server = true,
                                                       .certs = &bob.opts,
                                                       .n_certs = 1,
                                                       .validation = &v,
                                                       .client_auth = TLS_CLIENT_REQUIRE});
        struct tls_ctx *cl = make((struct tls_ctx_opts){.certs = &alice.opts, .n_certs = 1});
        STACK_OF(X509) *one = tls_pem_certs(f.opts.chain_pem, "t", &e);
        assert_int_equal(SSL_CTX_use_certificate(cl->base->ssl, sk_X509_value(one, 0)), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(cl->base->ssl, tls_key_native(alice.key)), 1);
        sk_X509_pop_free(one, X509_free);
        expect(cl, s, NULL, false, &bad);
        tls_ctx_unref(s);
        tls_ctx_unref(cl);
        tt_cert_fini(&f);
    }
    tt_cert_fini(&c);
}

/* ---- revocation ---- */

static void make_crl(struct strbuf *out, struct tt_ca *ca, struct tt_cert *revoked)
{
    struct error e = {0};
    X509_CRL *crl = X509_CRL_new();
    STACK_OF(X509) *cas = tls_pem_certs(strbuf_sv(&ca->pem), "t", &e);
    ASN1_TIME *t = ASN1_TIME_set(NULL, time(NULL) - 100);
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(sk_X509_value(cas, 0)));
    X509_CRL_set1_lastUpdate(crl, t);
    ASN1_TIME *until = ASN1_TIME_set(NULL, time(NULL) + 1000);
    X509_CRL_set1_nextUpdate(crl, until);
    if (revoked) {
        STACK_OF(X509) *one = tls_pem_certs(strbuf_sv(&revoked->chain), "t", &e);
        X509_REVOKED *r = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(sk_X509_value(one, 0)));
        X509_REVOKED_set_revocationDate(r, t);
        X509_CRL_add0_revoked(crl, r);
        sk_X509_pop_free(one, X509_free);
    }
    X509_CRL_sign(crl, tls_key_native(ca->key), EVP_sha256());
    unsigned char *der = NULL;
    int n = i2d_X509_CRL(crl, &der);
    tls_pem_add(out, "X509 CRL", sv_make((char *)der, (size_t)n));
    OPENSSL_free(der);
    ASN1_TIME_free(t);
    ASN1_TIME_free(until);
    X509_CRL_free(crl);
    sk_X509_pop_free(cas, X509_free);
}

static void test_revocation(void **state)
{
    struct strbuf crl;
    strbuf_init(&crl, 1 << 20);
    make_crl(&crl, &root, &alice);
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem), .crl_pem = strbuf_sv(&crl)};
    struct tt_cert carol;
    tt_cert_init(&carol, &root, "spiffe://td/ns/c/sa/carol");
    judge(&alice, &v,
          &(struct want){TLS_FAIL_VERIFY, "certificate revoked", "has been revoked",
                         "CERTIFICATE_REVOKED"});
    judge(&carol, &v, &(struct want){TLS_FAIL_NONE});
    /* No list of the issuer: refused, unless only the leaf's counts and that is there. */
    struct tt_cert leaf;
    tt_cert_init(&leaf, &inter, "spiffe://td/x");
    judge(&leaf, &v, &(struct want){TLS_FAIL_VERIFY, "unable to get certificate CRL", "CRL", NULL});
    struct strbuf inter_crl;
    strbuf_init(&inter_crl, 1 << 20);
    make_crl(&inter_crl, &inter, NULL);
    v.crl_pem = strbuf_sv(&inter_crl);
    judge(&leaf, &v, &(struct want){TLS_FAIL_VERIFY, "unable to get certificate CRL", "CRL", NULL});
    v.only_leaf_crl = true;
    judge(&leaf, &v, &(struct want){TLS_FAIL_NONE});
    tt_cert_fini(&leaf);
    tt_cert_fini(&carol);
    strbuf_fini(&crl);
    strbuf_fini(&inter_crl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dns_names),
        cmocka_unit_test(test_matchers),
        cmocka_unit_test(test_no_certificate),
        cmocka_unit_test(test_other_root),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_purpose),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_expected_name),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_intermediate),
        cmocka_unit_test(test_untrusted_accepted),
        cmocka_unit_test(test_optional),
        cmocka_unit_test(test_nul_in_names),
        cmocka_unit_test(test_revocation),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
