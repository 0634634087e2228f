#include "tls/tls_cert.h"

#include <openssl/rand.h>
#include "base/mem.h"
#include "tls/tls_native.h"

#define ROOT_SKEW_S 3600
#define LEAF_SKEW_S 120

struct tls_signer {
    X509 *cert;
    struct tls_key *key;
    struct tls_cert_info *info;
};

/* ---- pieces of a certificate ---- */

/* 128 random bits, positive, never zero (CA/Browser Forum asks for 64 at least). */
static bool set_serial(X509 *x)
{
    unsigned char b[16];
    if (RAND_bytes(b, sizeof b) != 1)
        return false;
    b[0] = (unsigned char)((b[0] & 0x7f) | 0x40);
    BIGNUM *bn = BN_bin2bn(b, sizeof b, NULL);
    bool ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
    BN_free(bn);
    return ok;
}

static bool set_name(X509_NAME *name, int nid, sv v)
{
    return v.n == 0 || X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8,
                                                  (unsigned char *)(uintptr_t)v.p, (int)v.n, -1, 0);
}

static bool add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    return ok;
}

static bool set_times(X509 *x, int64_t from_s, int64_t to_s)
{
    return ASN1_TIME_set(X509_getm_notBefore(x), (time_t)from_s) &&
           ASN1_TIME_set(X509_getm_notAfter(x), (time_t)to_s);
}

static const EVP_MD *digest_for(EVP_PKEY *k)
{
    return EVP_PKEY_get_base_id(k) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

/* Signs and appends PEM. */
static int finish(X509 *x, EVP_PKEY *signer, struct strbuf *out, struct error *err)
{
    unsigned char *der = NULL;
    int n = X509_sign(x, signer, digest_for(signer)) ? i2d_X509(x, &der) : 0;
    if (n <= 0)
        return error_set(err, E_TLS, "the certificate cannot be signed (%s)", tls_openssl_reason());
    tls_pem_add(out, "CERTIFICATE", sv_make((char *)der, (size_t)n));
    OPENSSL_free(der);
    return 0;
}

/* ---- authorities ---- */

static int make_ca(struct tls_signer *parent, struct tls_key *key, sv o, sv cn, int64_t from_s,
                   int64_t to_s, struct strbuf *out, struct error *err)
{
    EVP_PKEY *pub = tls_key_native(key);
    X509 *x = X509_new(), *issuer = parent ? parent->cert : x;
    X509_NAME *name = X509_NAME_new();
    ERR_clear_error();
    bool ok = X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
              set_name(name, NID_organizationName, o) && set_name(name, NID_commonName, cn) &&
              X509_set_subject_name(x, name) &&
              X509_set_issuer_name(x, parent ? X509_get_subject_name(issuer) : name) &&
              set_times(x, from_s, to_s) && X509_set_pubkey(x, pub) &&
              add_ext(x, issuer, NID_basic_constraints,
                      parent ? "critical,CA:TRUE,pathlen:0" : "critical,CA:TRUE") &&
              add_ext(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign") &&
              add_ext(x, issuer, NID_subject_key_identifier, "hash") &&
              (!parent || add_ext(x, issuer, NID_authority_key_identifier, "keyid"));
    int code =
        ok ? finish(x, parent ? tls_key_native(parent->key) : pub, out, err)
           : error_set(err, E_TLS, "the CA certificate cannot be made (%s)", tls_openssl_reason());
    X509_NAME_free(name);
    X509_free(x);
    return code;
}

int tls_cert_make_root(struct tls_key *key, sv organization, sv common_name, int64_t now_s,
                       int64_t ttl_s, struct strbuf *out_pem, struct error *err)
{
    return make_ca(NULL, key, organization, common_name, now_s - ROOT_SKEW_S, now_s + ttl_s,
                   out_pem, err);
}

int tls_cert_make_intermediate(struct tls_signer *parent, struct tls_key *key, sv organization,
                               sv common_name, int64_t now_s, int64_t ttl_s, struct strbuf *out_pem,
                               struct error *err)
{
    int64_t to = now_s + ttl_s;
    if (to > parent->info->not_after_s)
        to = parent->info->not_after_s;
    return make_ca(parent, key, organization, common_name, now_s - ROOT_SKEW_S, to, out_pem, err);
}

struct tls_signer *tls_signer_new(sv cert_pem, struct tls_key *key, struct error *err)
{
    STACK_OF(X509) *certs = tls_pem_certs(cert_pem, "CA certificate", err);
    if (!certs)
        return NULL;
    X509 *x = sk_X509_value(certs, 0);
    struct tls_signer *s = NULL;
    struct tls_cert_info *info = tls_cert_info_from_x509(x, err);
    if (info && !info->is_ca) {
        error_set(err, E_INVALID, "CA certificate: \"%.*s\" is not a certificate authority",
                  SV_ARG(info->subject));
    } else if (info && X509_check_private_key(x, tls_key_native(key)) != 1) {
        error_set(err, E_INVALID, "CA certificate: the private key does not match \"%.*s\"",
                  SV_ARG(info->subject));
    } else if (info) {
        s = mem_new(struct tls_signer);
        X509_up_ref(x);
        s->cert = x;
        s->key = tls_key_ref(key);
        s->info = tls_cert_info_ref(info);
    }
    tls_cert_info_unref(info);
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    return s;
}

void tls_signer_free(struct tls_signer *s)
{
    if (!s)
        return;
    X509_free(s->cert);
    tls_key_unref(s->key);
    tls_cert_info_unref(s->info);
    free(s);
}

const struct tls_cert_info *tls_signer_info(const struct tls_signer *s)
{
    return s->info;
}

/* ---- leaves ---- */

static bool add_leaf_extensions(X509 *x, X509 *issuer, const struct tls_leaf *leaf,
                                X509_EXTENSION *san)
{
    const char *eku = leaf->server_auth == leaf->client_auth ? "serverAuth,clientAuth"
                      : leaf->server_auth                    ? "serverAuth"
                                                             : "clientAuth";
    return add_ext(x, issuer, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
           add_ext(x, issuer, NID_ext_key_usage, eku) &&
           add_ext(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
           add_ext(x, issuer, NID_authority_key_identifier, "keyid") &&
           (!san || X509_add_ext(x, san, -1));
}

static int sign_leaf(struct tls_signer *s, EVP_PKEY *pub, const struct tls_leaf *leaf,
                     struct strbuf *out, int64_t *not_after_s, struct error *err)
{
    int64_t to = leaf->now_s + leaf->ttl_s;
    if (to > s->info->not_after_s)
        to = s->info->not_after_s;
    if (to <= leaf->now_s)
        return error_set(err, E_INVALID, "the CA certificate \"%.*s\" has expired",
                         SV_ARG(s->info->subject));
    bool no_subject = leaf->organization.n == 0 && leaf->common_name.n == 0;
    X509_EXTENSION *san = NULL;
    if (leaf->n_sans && !(san = tls_sans_extension(leaf->sans, leaf->n_sans, no_subject, err)))
        return E_INVALID;
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    ERR_clear_error();
    bool ok = X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
              set_name(name, NID_organizationName, leaf->organization) &&
              set_name(name, NID_commonName, leaf->common_name) && X509_set_subject_name(x, name) &&
              X509_set_issuer_name(x, X509_get_subject_name(s->cert)) &&
              set_times(x, leaf->now_s - LEAF_SKEW_S, to) && X509_set_pubkey(x, pub) &&
              add_leaf_extensions(x, s->cert, leaf, san);
    int code =
        ok ? finish(x, tls_key_native(s->key), out, err)
           : error_set(err, E_TLS, "the certificate cannot be made (%s)", tls_openssl_reason());
    if (code == 0 && not_after_s)
        *not_after_s = to;
    X509_EXTENSION_free(san);
    X509_NAME_free(name);
    X509_free(x);
    return code;
}

int tls_cert_sign(struct tls_signer *s, const struct tls_csr *csr, const struct tls_leaf *leaf,
                  struct strbuf *out_pem, int64_t *not_after_s, struct error *err)
{
    return sign_leaf(s, X509_REQ_get0_pubkey(tls_csr_native(csr)), leaf, out_pem, not_after_s, err);
}

int tls_cert_sign_key(struct tls_signer *s, struct tls_key *key, const struct tls_leaf *leaf,
                      struct strbuf *out_pem, int64_t *not_after_s, struct error *err)
{
    return sign_leaf(s, tls_key_native(key), leaf, out_pem, not_after_s, err);
}

/* ---- reading ---- */

int tls_cert_each(sv pem, void (*fn)(void *arg, struct tls_cert_info *c), void *arg,
                  struct error *err)
{
    STACK_OF(X509) *certs = tls_pem_certs(pem, "certificates", err);
    if (!certs)
        return E_INVALID;
    int code = 0;
    for (int i = 0; i < sk_X509_num(certs) && code == 0; i++) {
        struct tls_cert_info *c = tls_cert_info_from_x509(sk_X509_value(certs, i), err);
        if (c)
            fn(arg, c);
        else
            code = E_INVALID;
        tls_cert_info_unref(c);
    }
    sk_X509_pop_free(certs, X509_free);
    return code;
}

int tls_cert_verify_chain(sv leaf_and_chain_pem, sv roots_pem, int64_t now_s, struct error *err)
{
    STACK_OF(X509) *chain = tls_pem_certs(leaf_and_chain_pem, "certificate chain", err);
    STACK_OF(X509) *roots = chain ? tls_pem_certs(roots_pem, "root certificates", err) : NULL;
    int code = E_INVALID;
    if (roots) {
        X509_STORE *store = X509_STORE_new();
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        for (int i = 0; i < sk_X509_num(roots); i++)
            X509_STORE_add_cert(store, sk_X509_value(roots, i));
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
        X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain);
        X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
        if (X509_verify_cert(ctx) == 1)
            code = 0;
        else
            error_set(err, E_INVALID,
                      "the chain does not lead to a root certificate: %s at depth %d",
                      X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)),
                      X509_STORE_CTX_get_error_depth(ctx));
        X509_STORE_CTX_free(ctx);
        X509_STORE_free(store);
    }
    sk_X509_pop_free(roots, X509_free);
    sk_X509_pop_free(chain, X509_free);
    ERR_clear_error();
    return code;
}
