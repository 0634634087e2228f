#include "tls/tls_csr.h"

#include "base/mem.h"
#include "tls/tls_native.h"

#define MAX_NAMES 32

struct tls_csr {
    X509_REQ *req;
    struct tls_san *sans;
    uint32_t n_sans;
    bool is_ca;
    struct strbuf subject;
};

/* ---- making ---- */

static bool set_subject(X509_REQ *req, sv organization)
{
    X509_NAME *name = X509_NAME_new();
    bool ok = organization.n == 0 ||
              X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
                                         (unsigned char *)(uintptr_t)organization.p,
                                         (int)organization.n, -1, 0);
    ok = ok && X509_REQ_set_subject_name(req, name);
    X509_NAME_free(name);
    return ok;
}

static bool add_sans(X509_REQ *req, X509_EXTENSION *san)
{
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    sk_X509_EXTENSION_push(exts, san);
    bool ok = X509_REQ_add_extensions(req, exts);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return ok;
}

static const EVP_MD *digest_for(EVP_PKEY *k)
{
    return EVP_PKEY_get_base_id(k) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

int tls_csr_make(struct tls_key *key, const struct tls_san *sans, size_t n_sans, sv organization,
                 struct strbuf *out_pem, struct error *err)
{
    EVP_PKEY *pkey = tls_key_native(key);
    X509_EXTENSION *san = tls_sans_extension(sans, n_sans, organization.n == 0, err);
    if (!san)
        return E_INVALID;
    ERR_clear_error();
    X509_REQ *req = X509_REQ_new();
    unsigned char *der = NULL;
    int n = 0;
    if (set_subject(req, organization) && X509_REQ_set_version(req, 0) &&
        X509_REQ_set_pubkey(req, pkey)) {
        bool added = add_sans(req, san);
        san = NULL;
        if (added && X509_REQ_sign(req, pkey, digest_for(pkey)))
            n = i2d_X509_REQ(req, &der);
    }
    X509_EXTENSION_free(san);
    X509_REQ_free(req);
    if (n <= 0)
        return error_set(err, E_TLS, "the certificate request cannot be made (%s)",
                         tls_openssl_reason());
    tls_pem_add(out_pem, "CERTIFICATE REQUEST", sv_make((char *)der, (size_t)n));
    OPENSSL_free(der);
    return 0;
}

/* ---- reading ---- */

static int read_extensions(struct tls_csr *c, struct error *err)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(c->req);
    int crit_san = -1, crit_bc = -1, code = 0;
    GENERAL_NAMES *names =
        exts ? X509V3_get_d2i(exts, NID_subject_alt_name, &crit_san, NULL) : NULL;
    BASIC_CONSTRAINTS *bc =
        exts ? X509V3_get_d2i(exts, NID_basic_constraints, &crit_bc, NULL) : NULL;
    if ((!names && crit_san != -1) || (!bc && crit_bc != -1)) {
        code = error_set(err, E_INVALID, "an extension of the request is broken or occurs twice");
    } else if (names && sk_GENERAL_NAME_num(names) > MAX_NAMES) {
        code = error_set(err, E_LIMIT, "the request has more than %d names", MAX_NAMES);
    } else {
        c->sans = tls_sans_decode(names, &c->n_sans, err);
        c->is_ca = bc && bc->ca;
        code = c->sans ? 0 : E_INVALID;
    }
    GENERAL_NAMES_free(names);
    BASIC_CONSTRAINTS_free(bc);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return code;
}

static int check_key(struct tls_csr *c, struct error *err)
{
    EVP_PKEY *k = X509_REQ_get0_pubkey(c->req);
    if (!k || !tls_key_acceptable(k))
        return error_set(err, E_INVALID,
                         "the request's key is not accepted: RSA from 2048 to 8192 bits, P-256, "
                         "P-384, P-521 or Ed25519 are");
    if (X509_REQ_verify(c->req, k) != 1)
        return error_set(err, E_INVALID, "the request's signature does not fit its key");
    return 0;
}

struct tls_csr *tls_csr_parse(sv pem, struct error *err)
{
    size_t n;
    if (pem.n > TLS_CSR_MAX) {
        error_set(err, E_LIMIT, "the certificate request is longer than %d bytes", TLS_CSR_MAX);
        return NULL;
    }
    unsigned char *der =
        tls_pem_single(pem, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", &n, err);
    if (!der)
        return NULL;
    const unsigned char *p = der;
    struct tls_csr *c = mem_new(struct tls_csr);
    strbuf_init(&c->subject, TLS_CSR_MAX);
    c->req = d2i_X509_REQ(NULL, &p, (long)n);
    int code = 0;
    if (!c->req || p != der + n)
        code = error_set(err, E_INVALID, "the certificate request is no PKCS#10 structure");
    OPENSSL_free(der);
    if (code || check_key(c, err) || read_extensions(c, err)) {
        ERR_clear_error();
        tls_csr_free(c);
        return NULL;
    }
    tls_name_text(X509_REQ_get_subject_name(c->req), &c->subject);
    ERR_clear_error();
    return c;
}

void tls_csr_free(struct tls_csr *c)
{
    if (!c)
        return;
    X509_REQ_free(c->req);
    strbuf_fini(&c->subject);
    free(c->sans);
    free(c);
}

const struct tls_san *tls_csr_sans(const struct tls_csr *c, size_t *n)
{
    *n = c->n_sans;
    return c->sans;
}

sv tls_csr_subject(const struct tls_csr *c)
{
    return strbuf_sv(&c->subject);
}

bool tls_csr_is_ca(const struct tls_csr *c)
{
    return c->is_ca;
}

void *tls_csr_native(const struct tls_csr *c)
{
    return c->req;
}
