/* Keys, requests and certificates: what is made can be read, what is broken is refused by name. */
#include "tls/tls_cert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include "tls/tls_native.h"

#define NOW 1800000000
#define DAY 86400

static const struct tls_san ID[] = {{TLS_SAN_URI, SV_INIT("spiffe://cluster.local/ns/a/sa/b")}};

struct ca {
    struct tls_key *key;
    struct strbuf pem;
    struct tls_signer *signer;
};

static void ca_init(struct ca *ca, enum tls_key_kind kind)
{
    struct error e = {0};
    ca->key = tls_key_generate(kind, &e);
    assert_non_null(ca->key);
    strbuf_init(&ca->pem, 65536);
    assert_int_equal(tls_cert_make_root(ca->key, SV("cluster.local"), SV("weft root"), NOW,
                                        3650ll * DAY, &ca->pem, &e),
                     0);
    ca->signer = tls_signer_new(strbuf_sv(&ca->pem), ca->key, &e);
    assert_non_null(ca->signer);
}

static void ca_fini(struct ca *ca)
{
    tls_signer_free(ca->signer);
    tls_key_unref(ca->key);
    strbuf_fini(&ca->pem);
}

static void test_keys(void **state)
{
    struct error e = {0};
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P256, &e), *other;
    size_t n;
    char *pem = tls_key_to_pem(k, &n);
    assert_non_null(strstr(pem, "BEGIN PRIVATE KEY"));
    struct tls_key *back = tls_key_from_pem(sv_make(pem, n), sv_make(NULL, 0), &e);
    assert_non_null(back);
    assert_true(tls_key_equal(k, back));
    other = tls_key_generate(TLS_KEY_RSA_2048, &e);
    assert_false(tls_key_equal(k, other));
    pem[60] ^= 1;
    assert_null(tls_key_from_pem(sv_make(pem, n), sv_make(NULL, 0), &e));
    assert_non_null(strstr(e.msg, "private key"));
    assert_null(tls_key_from_pem(SV("hello"), sv_make(NULL, 0), &e));
    assert_non_null(strstr(e.msg, "holds no private key"));
    tls_key_pem_free(pem, n);
    tls_key_unref(back);
    tls_key_unref(other);
    tls_key_unref(k);
}

static void test_encrypted_key(void **state)
{
    struct error e = {0};
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P256, &e), *back;
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, tls_key_native(k), EVP_aes_128_cbc(),
                                                   (char *)"secret", 6, NULL, NULL),
                     1);
    sv pem = sv_make(NULL, (size_t)BIO_get_mem_data(bio, &data));
    pem.p = data;
    back = tls_key_from_pem(pem, SV("secret"), &e);
    assert_non_null(back);
    tls_key_unref(back);
    assert_null(tls_key_from_pem(pem, sv_make(NULL, 0), &e));
    assert_non_null(strstr(e.msg, "no password is given"));
    assert_null(tls_key_from_pem(pem, SV("wrong"), &e));
    assert_non_null(strstr(e.msg, "password is wrong"));
    BIO_free(bio);
    tls_key_unref(k);
}

static void test_sign(void **state)
{
    struct error e = {0};
    struct ca ca;
    struct strbuf csr_pem, leaf_pem;
    ca_init(&ca, TLS_KEY_EC_P256);
    strbuf_init(&csr_pem, 65536);
    strbuf_init(&leaf_pem, 65536);
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P256, &e);
    assert_int_equal(tls_csr_make(k, ID, 1, sv_make(NULL, 0), &csr_pem, &e), 0);
    struct tls_csr *csr = tls_csr_parse(strbuf_sv(&csr_pem), &e);
    assert_non_null(csr);
    size_t n;
    const struct tls_san *sans = tls_csr_sans(csr, &n);
    assert_int_equal(n, 1);
    assert_true(sv_eq(sans[0].value, ID[0].value));
    assert_false(tls_csr_is_ca(csr));
    assert_int_equal(tls_csr_subject(csr).n, 0);

    struct tls_leaf leaf = {.sans = ID, .n_sans = 1, .now_s = NOW, .ttl_s = DAY};
    int64_t end = 0;
    assert_int_equal(tls_cert_sign(ca.signer, csr, &leaf, &leaf_pem, &end, &e), 0);
    assert_int_equal(end, NOW + DAY);
    struct tls_cert_info *c = tls_cert_info_from_pem(strbuf_sv(&leaf_pem), &e);
    assert_non_null(c);
    assert_true(sv_eq(tls_cert_info_san(c, TLS_SAN_URI, 0), ID[0].value));
    assert_int_equal(c->not_before_s, NOW - 120);
    assert_int_equal(c->not_after_s, NOW + DAY);
    assert_false(c->is_ca);
    assert_int_equal(c->sha256.n, 64);
    assert_int_equal(c->spki_sha256.n, 44);
    assert_int_equal(c->serial.n, 32);
    assert_true(sv_eq(c->issuer, SV("CN=weft root,O=cluster.local")));
    assert_int_equal(tls_cert_verify_chain(strbuf_sv(&leaf_pem), strbuf_sv(&ca.pem), NOW, &e), 0);
    assert_int_equal(
        tls_cert_verify_chain(strbuf_sv(&leaf_pem), strbuf_sv(&ca.pem), NOW + 2 * DAY, &e),
        E_INVALID);
    assert_non_null(strstr(e.msg, "expired"));

    /* Extensions as Istio's: usage, purpose, critical SAN under an empty subject. */
    STACK_OF(X509) *certs = tls_pem_certs(strbuf_sv(&leaf_pem), "t", &e);
    X509 *x = sk_X509_value(certs, 0);
    assert_int_equal(X509_get_key_usage(x), KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
    assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    int at = X509_get_ext_by_NID(x, NID_subject_alt_name, -1);
    assert_true(X509_EXTENSION_get_critical(X509_get_ext(x, at)));
    sk_X509_pop_free(certs, X509_free);

    tls_cert_info_unref(c);
    tls_csr_free(csr);
    tls_key_unref(k);
    strbuf_fini(&csr_pem);
    strbuf_fini(&leaf_pem);
    ca_fini(&ca);
}

/* A leaf never outlives its signer. */
static void test_ttl_is_cut(void **state)
{
    struct error e = {0};
    struct ca ca;
    struct strbuf pem;
    ca_init(&ca, TLS_KEY_EC_P256);
    strbuf_init(&pem, 65536);
    int64_t end = 0, root_end = tls_signer_info(ca.signer)->not_after_s;
    struct tls_leaf leaf = {.sans = ID, .n_sans = 1, .now_s = root_end - 100, .ttl_s = DAY};
    assert_int_equal(tls_cert_sign_key(ca.signer, ca.key, &leaf, &pem, &end, &e), 0);
    assert_int_equal(end, root_end);
    leaf.now_s = root_end;
    assert_int_equal(tls_cert_sign_key(ca.signer, ca.key, &leaf, &pem, &end, &e), E_INVALID);
    assert_non_null(strstr(e.msg, "has expired"));
    strbuf_fini(&pem);
    ca_fini(&ca);
}

static void test_intermediate(void **state)
{
    struct error e = {0};
    struct ca ca;
    struct strbuf pem;
    ca_init(&ca, TLS_KEY_RSA_2048);
    strbuf_init(&pem, 65536);
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P384, &e);
    struct strbuf inter;
    strbuf_init(&inter, 65536);
    assert_int_equal(
        tls_cert_make_intermediate(ca.signer, k, SV("o"), SV("inter"), NOW, 100 * DAY, &inter, &e),
        0);
    assert_null(tls_signer_new(strbuf_sv(&inter), ca.key, &e));
    assert_non_null(strstr(e.msg, "does not match"));
    struct tls_signer *s = tls_signer_new(strbuf_sv(&inter), k, &e);
    assert_non_null(s);
    struct tls_leaf leaf = {.sans = ID, .n_sans = 1, .now_s = NOW, .ttl_s = DAY};
    assert_int_equal(tls_cert_sign_key(s, k, &leaf, &pem, NULL, &e), 0);
    sv leaf_only = strbuf_sv(&pem);
    assert_int_equal(tls_cert_verify_chain(leaf_only, strbuf_sv(&ca.pem), NOW, &e), E_INVALID);
    assert_null(tls_signer_new(leaf_only, k, &e));
    assert_non_null(strstr(e.msg, "not a certificate authority"));
    strbuf_add_sv(&pem, strbuf_sv(&inter));
    assert_int_equal(tls_cert_verify_chain(strbuf_sv(&pem), strbuf_sv(&ca.pem), NOW, &e), 0);
    tls_signer_free(s);
    tls_key_unref(k);
    strbuf_fini(&inter);
    strbuf_fini(&pem);
    ca_fini(&ca);
}

static void test_csr_refused(void **state)
{
    struct error e = {0};
    struct strbuf pem;
    strbuf_init(&pem, 1 << 20);
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P256, &e);
    struct tls_san nul = {TLS_SAN_URI, SV("spiffe://a\0b")}, ctl = {TLS_SAN_DNS, SV("a\nb")};
    assert_int_equal(tls_csr_make(k, &nul, 1, sv_make(NULL, 0), &pem, &e), E_INVALID);
    assert_int_equal(tls_csr_make(k, &ctl, 1, sv_make(NULL, 0), &pem, &e), E_INVALID);
    assert_int_equal(pem.n, 0);
    assert_int_equal(tls_csr_make(k, ID, 1, sv_make(NULL, 0), &pem, &e), 0);
    /* Every single changed byte of the base64 body must be noticed. */
    size_t begin = (size_t)(strchr(pem.p, '\n') - pem.p) + 1;
    size_t stop = (size_t)(strstr(pem.p, "\n-----END") - pem.p);
    for (size_t i = begin; i < stop; i += 7) {
        char old = pem.p[i];
        if (old == '\n' || pem.p[i + 1] == '=' || old == '=')
            continue;
        pem.p[i] = old == 'A' ? 'Q' : 'A';
        struct tls_csr *c = tls_csr_parse(strbuf_sv(&pem), &e);
        assert_null(c);
        pem.p[i] = old;
    }
    assert_null(tls_csr_parse(SV(""), &e));
    assert_null(tls_csr_parse(sv_first(strbuf_sv(&pem), pem.n - 30), &e));
    strbuf_add_c(&pem, "trailing");
    assert_null(tls_csr_parse(strbuf_sv(&pem), &e));
    assert_non_null(strstr(e.msg, "exactly one block"));
    while (pem.n <= TLS_CSR_MAX)
        strbuf_add_ch(&pem, '\n');
    assert_null(tls_csr_parse(strbuf_sv(&pem), &e));
    assert_non_null(strstr(e.msg, "longer than"));
    tls_key_unref(k);
    strbuf_fini(&pem);
}

static void test_weak_key(void **state)
{
    struct error e = {0};
    struct strbuf pem;
    strbuf_init(&pem, 65536);
    struct tls_key *k = tls_key_wrap(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024));
    assert_int_equal(tls_csr_make(k, ID, 1, sv_make(NULL, 0), &pem, &e), 0);
    assert_null(tls_csr_parse(strbuf_sv(&pem), &e));
    assert_non_null(strstr(e.msg, "key is not accepted"));
    tls_key_unref(k);
    k = tls_key_wrap(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"));
    strbuf_reset(&pem);
    assert_int_equal(tls_csr_make(k, ID, 1, sv_make(NULL, 0), &pem, &e), 0);
    assert_null(tls_csr_parse(strbuf_sv(&pem), &e));
    tls_key_unref(k);
    strbuf_fini(&pem);
}

static void count(void *arg, struct tls_cert_info *c)
{
    ++*(int *)arg;
}

static void test_bundle(void **state)
{
    struct error e = {0};
    struct ca a, b;
    ca_init(&a, TLS_KEY_EC_P256);
    ca_init(&b, TLS_KEY_EC_P256);
    struct strbuf both;
    strbuf_init(&both, 65536);
    strbuf_add_c(&both, "# first root\n");
    strbuf_add_sv(&both, strbuf_sv(&a.pem));
    strbuf_add_c(&both, "\n\n");
    strbuf_add_sv(&both, strbuf_sv(&b.pem));
    int n = 0;
    assert_int_equal(tls_cert_each(strbuf_sv(&both), count, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_int_equal(tls_cert_each(sv_first(strbuf_sv(&both), both.n - 40), count, &n, &e),
                     E_INVALID);
    assert_non_null(strstr(e.msg, "certificate 2 is bad PEM"));
    assert_int_equal(tls_cert_each(SV("nothing"), count, &n, &e), E_INVALID);
    assert_non_null(strstr(e.msg, "holds no certificate"));
    strbuf_fini(&both);
    ca_fini(&a);
    ca_fini(&b);
}

static void test_texts(void **state)
{
    struct error e = {0};
    struct ca ca;
    ca_init(&ca, TLS_KEY_EC_P256);
    static const struct tls_san names[] = {
        {TLS_SAN_DNS, SV_INIT("a.example")}, {TLS_SAN_DNS, SV_INIT("*.b.example")},
        {TLS_SAN_IP, SV_INIT("10.1.2.3")},   {TLS_SAN_IP, SV_INIT("2001:db8::1")},
        {TLS_SAN_EMAIL, SV_INIT("x@y.z")},
    };
    struct tls_leaf leaf = {.sans = names,
                            .n_sans = 5,
                            .organization = SV("o,\"x"),
                            .common_name = SV("cn"),
                            .now_s = NOW,
                            .ttl_s = 60};
    struct strbuf pem, out;
    strbuf_init(&pem, 65536);
    strbuf_init(&out, 65536);
    assert_int_equal(tls_cert_sign_key(ca.signer, ca.key, &leaf, &pem, NULL, &e), 0);
    struct tls_cert_info *c = tls_cert_info_from_pem(strbuf_sv(&pem), &e);
    assert_non_null(c);
    assert_int_equal(c->n_sans, 5);
    tls_cert_info_sans_text(c, TLS_SAN_DNS, &out);
    assert_true(sv_eq(strbuf_sv(&out), SV("a.example,*.b.example")));
    assert_true(sv_eq(tls_cert_info_san(c, TLS_SAN_IP, 1), SV("2001:db8::1")));
    assert_true(sv_eq(c->subject, SV("CN=cn,O=o\\,\\\"x")));
    strbuf_reset(&out);
    tls_cert_info_pem(c, &out);
    assert_true(sv_eq(strbuf_sv(&out), strbuf_sv(&pem)));
    strbuf_reset(&out);
    tls_cert_info_pem_urlencoded(c, &out);
    assert_non_null(strstr(out.p, "-----BEGIN%20CERTIFICATE-----%0A"));
    assert_null(strchr(out.p, '+'));
    struct tls_cert_info *again = tls_cert_info_from_der(c->der, &e);
    assert_true(sv_eq(again->sha256, c->sha256));
    tls_cert_info_unref(again);
    assert_null(tls_cert_info_from_der(sv_first(c->der, c->der.n - 1), &e));
    tls_cert_info_unref(c);
    strbuf_fini(&pem);
    strbuf_fini(&out);
    ca_fini(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),         cmocka_unit_test(test_encrypted_key),
        cmocka_unit_test(test_sign),         cmocka_unit_test(test_ttl_is_cut),
        cmocka_unit_test(test_intermediate), cmocka_unit_test(test_csr_refused),
        cmocka_unit_test(test_weak_key),     cmocka_unit_test(test_bundle),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
