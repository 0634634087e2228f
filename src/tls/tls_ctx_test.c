/* Contexts: what is refused and how it is said, certificates by name, versions and algorithms. */
#include "tls/tls_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "tls/tls_priv.h"

static struct loop *loop;
static struct tt_ca root;
static struct tt_cert alice, bob;

static int setup(void **state)
{
    loop = loop_new(NULL);
    tt_ca_init(&root, NULL, "root");
    tt_cert_init(&alice, &root, "spiffe://td/ns/a/sa/alice");
    tt_cert_init(&bob, &root, "spiffe://td/ns/b/sa/bob");
    return 0;
}

static int teardown(void **state)
{
    tt_cert_fini(&alice);
    tt_cert_fini(&bob);
    tt_ca_fini(&root);
    loop_free(loop);
    return 0;
}

static void refuse(struct tls_ctx_opts o, const char *why)
{
    struct error e = {0};
    assert_null(tls_ctx_new(&o, &e));
    if (!strstr(e.msg, why))
        fail_msg("\"%s\" lacks \"%s\"", e.msg, why);
    assert_int_not_equal(e.code, 0);
}

static void test_refused(void **state)
{
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_cert_opts cert = {.chain_pem = alice.opts.chain_pem, .key = bob.key};
    refuse((struct tls_ctx_opts){.server = true}, "needs a certificate");
    refuse((struct tls_ctx_opts){.certs = &cert, .n_certs = 1},
           "tls_certificates[0]: the private key does not match the certificate");
    cert.name = "secret default";
    refuse((struct tls_ctx_opts){.certs = &cert, .n_certs = 1}, "secret default: the private key");
    cert = (struct tls_cert_opts){.chain_pem = alice.opts.chain_pem};
    refuse((struct tls_ctx_opts){.certs = &cert, .n_certs = 1}, "no private key");
    cert.key_pem = SV("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    refuse((struct tls_ctx_opts){.certs = &cert, .n_certs = 1}, "private key is bad PEM");
    cert = (struct tls_cert_opts){.chain_pem = SV("what"), .key = alice.key};
    refuse((struct tls_ctx_opts){.certs = &cert, .n_certs = 1}, "holds no certificate");
    cert.chain_pem = sv_first(alice.opts.chain_pem, alice.opts.chain_pem.n - 50);
    refuse((struct tls_ctx_opts){.certs = &cert, .n_certs = 1}, "certificate 1 is bad PEM");
    v.ca_pem = SV("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refuse((struct tls_ctx_opts){.validation = &v}, "validation_context: certificate 1 is bad PEM");
    v.ca_pem = strbuf_sv(&root.pem);
    v.crl_pem = SV("no list");
    refuse((struct tls_ctx_opts){.validation = &v}, "revocation list 1 is bad PEM");
    sv pin = SV("AAAA");
    v = (struct tls_validation){.spki_pins = &pin, .n_spki_pins = 1, .name = "ROOTCA"};
    refuse((struct tls_ctx_opts){.validation = &v}, "ROOTCA: verify_certificate_spki[0]: \"AAAA\"");
    struct tls_san_match m = {.type = TLS_SAN_URI, .value = SV("x")};
    v = (struct tls_validation){.sans = &m, .n_sans = 1};
    refuse((struct tls_ctx_opts){.validation = &v}, "without trusted CA is insecure");
    refuse(
        (struct tls_ctx_opts){
            .server = true, .certs = &alice.opts, .n_certs = 1, .client_auth = TLS_CLIENT_REQUIRE},
        "nothing says which are trusted");
}

static void test_algorithms_refused(void **state)
{
    sv bad[] = {SV("[ECDHE-ECDSA-AES128-GCM-SHA256|ROT13]")}, curve[] = {SV("X25519"), SV("P-999")};
    sv sig[] = {SV("md2_with_hope")}, alpn[] = {SV("h2"), SV("")}, key[] = {SV("short")};
    refuse((struct tls_ctx_opts){.ciphers = bad, .n_ciphers = 1}, "cipher suite \"ROT13\" is not");
    refuse((struct tls_ctx_opts){.curves = curve, .n_curves = 2}, "curve \"P-999\" is not known");
    refuse((struct tls_ctx_opts){.sigalgs = sig, .n_sigalgs = 1}, "signature algorithm \"md2");
    refuse((struct tls_ctx_opts){.alpn = alpn, .n_alpn = 2}, "alpn_protocols[1]");
    refuse((struct tls_ctx_opts){.ticket_keys = key, .n_ticket_keys = 1}, "has 5 bytes");
    refuse((struct tls_ctx_opts){.min_version = TLS_VERSION_1_3, .max_version = TLS_VERSION_1_2},
           "above the maximum");
}

static void test_hash(void **state)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_ctx_opts o = {.certs = &alice.opts, .n_certs = 1, .validation = &v};
    struct tls_ctx *a = tls_ctx_new(&o, &e), *b = tls_ctx_new(&o, &e), *c;
    assert_true(sv_eq(tls_ctx_hash(a), tls_ctx_hash(b)));
    assert_int_equal(tls_ctx_hash(a).n, 64);
    tls_ctx_unref(b);
#define DIFFERS                                                                                    \
    c = tls_ctx_new(&o, &e);                                                                       \
    assert_non_null(c);                                                                            \
    assert_false(sv_eq(tls_ctx_hash(a), tls_ctx_hash(c)));                                         \
    tls_ctx_unref(c)
    v.max_depth = 3;
    DIFFERS;
    v.max_depth = 0;
    struct tls_san_match m = {.type = TLS_SAN_URI, .value = SV("x")};
    v.sans = &m;
    v.n_sans = 1;
    DIFFERS;
    v.n_sans = 0;
    o.sni = SV("x");
    DIFFERS;
    o.sni.n = 0;
    o.certs = &bob.opts;
    DIFFERS;
    tls_ctx_unref(a);
}

static void test_shown(void **state)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    struct tls_ctx *c = tls_ctx_new(
        &(struct tls_ctx_opts){.certs = &alice.opts, .n_certs = 1, .validation = &v}, &e);
    assert_int_equal(tls_ctx_n_certs(c), 1);
    assert_int_equal(tls_ctx_n_cas(c), 1);
    assert_true(tls_ctx_ca(c, 0)->is_ca);
    assert_int_equal(tls_ctx_expires_s(c), tls_ctx_cert(c, 0)->not_after_s);
    assert_false(tls_ctx_is_server(c));
    tls_ctx_unref(c);
    tls_ctx_unref(NULL);
}

/* ---- certificates by name ---- */

static struct tls_ctx *client(enum tls_version max, const char *sigalg)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    sv sig = sv_of(sigalg);
    struct tls_ctx *c = tls_ctx_new(
        &(struct tls_ctx_opts){
            .validation = &v, .max_version = max, .sigalgs = &sig, .n_sigalgs = sigalg != NULL},
        &e);
    assert_non_null(c);
    return c;
}

static void got(struct tls_ctx *c, struct tls_ctx *s, const char *sni, const char *want, bool rsa)
{
    struct tt_pair p;
    struct tls_client_params params = {.has_sni = true, .sni = sv_of(sni)};
    assert_true(tt_pair_init(&p, loop, c, s, &params));
    sv name = tls_cert_info_san(p.client.c->tls->peer, TLS_SAN_DNS, 0);
    if (!sv_eq_c(name, want))
        fail_msg("%s gave %.*s", sni ? sni : "no name", SV_ARG(name));
    assert_true(sv_eq(tls_cert_info_san(p.server.c->tls->local, TLS_SAN_DNS, 0), name));
    sv der = p.client.c->tls->peer->der;
    const unsigned char *at = (const unsigned char *)der.p;
    X509 *x = d2i_X509(NULL, &at, (long)der.n);
    assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(x)) == EVP_PKEY_RSA, rsa);
    X509_free(x);
    tt_pair_fini(&p);
}

static void test_select(void **state)
{
    struct error e = {0};
    static const char *const names[] = {"first.test", "*.wild.test", "exact.wild.test",
                                        "first.test"};
    struct tt_cert c[4];
    struct tls_cert_opts opts[4];
    for (int i = 0; i < 4; i++) {
        struct tls_san san = tt_san(names[i]);
        tt_cert_init_leaf(
            &c[i], &root,
            (struct tls_leaf){.sans = &san, .n_sans = 1, .now_s = time(NULL), .ttl_s = 99},
            i == 3 ? TLS_KEY_RSA_2048 : TLS_KEY_EC_P256);
        opts[i] = c[i].opts;
    }
    struct tls_ctx *s =
        tls_ctx_new(&(struct tls_ctx_opts){.server = true, .certs = opts, .n_certs = 4}, &e);
    assert_non_null(s);
    for (int v = TLS_VERSION_1_2; v <= TLS_VERSION_1_3; v++) {
        struct tls_ctx *any = client(v, NULL), *rsa = client(v, "rsa_pss_rsae_sha256");
        got(any, s, "first.test", "first.test", false);
        got(any, s, "FIRST.test", "first.test", false);
        got(any, s, "x.wild.test", "*.wild.test", false);
        got(any, s, "exact.wild.test", "exact.wild.test", false);
        got(any, s, "unknown.test", "first.test", false);
        got(any, s, NULL, "first.test", false);
        if (v == TLS_VERSION_1_3) /* below it the sigalg does not choose the certificate alone */
            got(rsa, s, "first.test", "first.test", true);
        tls_ctx_unref(any);
        tls_ctx_unref(rsa);
    }
    tls_ctx_unref(s);
    for (int i = 0; i < 4; i++)
        tt_cert_fini(&c[i]);
}

/* ---- nothing in common ---- */

static void clash(struct tls_ctx_opts so, struct tls_ctx_opts co, const char *server_says,
                  const char *client_says)
{
    struct error e = {0};
    so.server = true;
    so.certs = &bob.opts;
    so.n_certs = 1;
    struct tls_ctx *s = tls_ctx_new(&so, &e), *c = tls_ctx_new(&co, &e);
    struct tt_pair p;
    assert_non_null(s);
    assert_non_null(c);
    assert_false(tt_pair_init(&p, loop, c, s, NULL));
    assert_int_equal(tls_conn_fail(p.server.c), TLS_FAIL_PROTOCOL);
    assert_true(tls_conn_sentence(p.server.c).n > 0);
    if (!strstr(p.server.c->error_text.p, server_says))
        fail_msg("server: \"%s\" lacks \"%s\"", p.server.c->error_text.p, server_says);
    if (!strstr(p.client.c->error_text.p, client_says))
        fail_msg("client: \"%s\" lacks \"%s\"", p.client.c->error_text.p, client_says);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

static void test_nothing_in_common(void **state)
{
    clash((struct tls_ctx_opts){.min_version = TLS_VERSION_1_3},
          (struct tls_ctx_opts){.max_version = TLS_VERSION_1_2},
          "|268435696:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL:TLS_error_end",
          "|268436526:SSL routines:OPENSSL_internal:TLSV1_ALERT_PROTOCOL_VERSION:TLS_error_end");
    sv a[] = {SV("ECDHE-ECDSA-AES128-GCM-SHA256")}, b[] = {SV("ECDHE-ECDSA-AES256-GCM-SHA384")};
    clash((struct tls_ctx_opts){.max_version = TLS_VERSION_1_2, .ciphers = a, .n_ciphers = 1},
          (struct tls_ctx_opts){.ciphers = b, .n_ciphers = 1, .max_version = TLS_VERSION_1_2},
          "NO_SHARED_CIPHER",
          "|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE");
    sv x[] = {SV("X25519")}, y[] = {SV("P-384")};
    clash((struct tls_ctx_opts){.curves = x, .n_curves = 1},
          (struct tls_ctx_opts){.curves = y, .n_curves = 1}, "|268435722:", "HANDSHAKE_FAILURE");
}

static void test_old_versions(void **state)
{
    struct error e = {0};
    sv ciphers[] = {SV("ECDHE-ECDSA-AES128-SHA")};
    struct tls_ctx_opts o = {.min_version = TLS_VERSION_1_0,
                             .max_version = TLS_VERSION_1_1,
                             .ciphers = ciphers,
                             .n_ciphers = 1};
    struct tls_ctx *c = tls_ctx_new(&o, &e);
    o.server = true;
    o.certs = &bob.opts;
    o.n_certs = 1;
    struct tls_ctx *s = tls_ctx_new(&o, &e);
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    assert_string_equal(p.client.c->tls->version, "TLSv1.1");
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

static void test_alpn(void **state)
{
    struct error e = {0};
    sv srv[] = {SV("h2"), SV("http/1.1")}, cli[] = {SV("http/1.1"), SV("h2")}, odd[] = {SV("odd")};
    struct tls_ctx *s = tls_ctx_new(
        &(struct tls_ctx_opts){
            .server = true, .certs = &bob.opts, .n_certs = 1, .alpn = srv, .n_alpn = 2},
        &e);
    struct tls_ctx *c = tls_ctx_new(&(struct tls_ctx_opts){.alpn = cli, .n_alpn = 2}, &e);
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    assert_true(sv_eq(p.client.c->tls->alpn, SV("h2"))); /* the server's preference */
    tt_pair_fini(&p);
    struct tls_client_params one = {.alpn = cli, .n_alpn = 1}, none = {.alpn = odd, .n_alpn = 1};
    assert_true(tt_pair_init(&p, loop, c, s, &one));
    assert_true(sv_eq(p.server.c->tls->alpn, SV("http/1.1")));
    tt_pair_fini(&p);
    assert_true(tt_pair_init(&p, loop, c, s, &none)); /* nothing in common: none, as Envoy */
    assert_int_equal(p.server.c->tls->alpn.n, 0);
    assert_int_equal(p.client.c->tls->alpn.n, 0);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_algorithms_refused),
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_shown),
        cmocka_unit_test(test_select),       cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_old_versions), cmocka_unit_test(test_alpn),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
