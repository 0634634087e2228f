#include "tls/tls_native.h"

#include <ctype.h>
#include <limits.h>
#include <openssl/pem.h>
#include "tls/tls_mem.h"

const char *tls_openssl_reason(void)
{
    static __thread char text[160];
    unsigned long code, last = 0;
    while ((code = ERR_get_error()))
        last = code;
    const char *r = last ? ERR_reason_error_string(last) : NULL;
    if (!r)
        return "unknown cause";
    snprintf(text, sizeof text, "%s", r);
    return text;
}

static BIO *mem_bio(sv pem)
{
    return BIO_new_mem_buf(pem.n ? pem.p : "", pem.n > INT_MAX ? INT_MAX : (int)pem.n);
}

/* After the last block PEM_read says "no start line"; anything else is a broken block. */
static bool at_end(void)
{
    unsigned long code = ERR_peek_last_error();
    bool end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (end)
        ERR_clear_error();
    return end;
}

/* Never asks a terminal, as OpenSSL would without a callback. */
static int no_password(char *buf, int size, int rw, void *arg)
{
    const sv *pw = arg;
    if (!pw || pw->n == 0 || pw->n > (size_t)size)
        return -1;
    memcpy(buf, pw->p, pw->n);
    return (int)pw->n;
}

STACK_OF(X509) * tls_pem_certs(sv pem, const char *what, struct error *err)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *bio = mem_bio(pem);
    X509 *x;
    int n = 0;
    ERR_clear_error();
    while (n < TLS_PEM_MAX && (x = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
        sk_X509_push(certs, x);
        n++;
    }
    if (n == TLS_PEM_MAX)
        error_set(err, E_LIMIT, "%s: more than %d certificates", what, TLS_PEM_MAX - 1);
    else if (!at_end())
        error_set(err, E_INVALID, "%s: certificate %d is bad PEM (%s)", what, n + 1,
                  tls_openssl_reason());
    else if (n == 0)
        error_set(err, E_INVALID, "%s: bad PEM, it holds no certificate", what);
    else
        goto out;
    sk_X509_pop_free(certs, X509_free);
    certs = NULL;
out:
    BIO_free(bio);
    ERR_clear_error();
    return certs;
}

STACK_OF(X509_CRL) * tls_pem_crls(sv pem, const char *what, struct error *err)
{
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
    BIO *bio = mem_bio(pem);
    X509_CRL *c;
    int n = 0;
    ERR_clear_error();
    while (n < TLS_PEM_MAX && (c = PEM_read_bio_X509_CRL(bio, NULL, no_password, NULL))) {
        sk_X509_CRL_push(crls, c);
        n++;
    }
    if (!at_end() || n == 0) {
        error_set(err, E_INVALID, "%s: revocation list %d is bad PEM", what, n + 1);
        sk_X509_CRL_pop_free(crls, X509_CRL_free);
        crls = NULL;
    }
    BIO_free(bio);
    ERR_clear_error();
    return crls;
}

EVP_PKEY *tls_pem_key(sv pem, sv password, const char *what, struct error *err)
{
    BIO *bio = mem_bio(pem);
    ERR_clear_error();
    tls_mem_wipe(true);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(bio, NULL, no_password, &password);
    tls_mem_wipe(false);
    if (!k && sv_find_sv(pem, SV("PRIVATE KEY-----")) < 0)
        error_set(err, E_INVALID, "%s: bad PEM, it holds no private key", what);
    else if (!k && sv_find_sv(pem, SV("ENCRYPTED")) >= 0)
        error_set(err, E_INVALID, "%s: the private key is encrypted and %s", what,
                  password.n ? "the password is wrong" : "no password is given");
    else if (!k)
        error_set(err, E_INVALID, "%s: the private key is bad PEM (%s)", what,
                  tls_openssl_reason());
    BIO_free(bio);
    ERR_clear_error();
    return k;
}

void tls_pem_add(struct strbuf *out, const char *label, sv der)
{
    unsigned char line[65];
    strbuf_addf(out, "-----BEGIN %s-----\n", label);
    for (size_t i = 0; i < der.n; i += 48) {
        int n = (int)(der.n - i < 48 ? der.n - i : 48);
        int m = EVP_EncodeBlock(line, (const unsigned char *)der.p + i, n);
        strbuf_add(out, line, (size_t)m);
        strbuf_add_ch(out, '\n');
    }
    strbuf_addf(out, "-----END %s-----\n", label);
}

static bool all_space(sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if (!isspace((unsigned char)v.p[i]))
            return false;
    return true;
}

unsigned char *tls_pem_single(sv pem, const char *label, const char *label2, size_t *n,
                              struct error *err)
{
    sv text = pem;
    while (text.n && isspace((unsigned char)text.p[0]))
        text = sv_from(text, 1);
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long len = 0;
    BIO *bio = mem_bio(text);
    ERR_clear_error();
    int ok = sv_starts(text, SV("-----BEGIN ")) && PEM_read_bio(bio, &name, &header, &data, &len);
    if (ok) {
        char *rest = NULL;
        long left = BIO_get_mem_data(bio, &rest);
        ok = (strcmp(name, label) == 0 || (label2 && strcmp(name, label2) == 0)) &&
             header[0] == '\0' && all_space(sv_make(rest, (size_t)left));
    }
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    ERR_clear_error();
    if (!ok) {
        OPENSSL_free(data);
        error_set(err, E_INVALID, "bad PEM: expected exactly one block \"%s\"", label);
        return NULL;
    }
    *n = (size_t)len;
    return data;
}
