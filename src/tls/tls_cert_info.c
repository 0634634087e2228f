#include "tls/tls_info.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <time.h>
#include "base/mem.h"
#include "tls/tls_cert.h"
#include "tls/tls_native.h"

#define MAX_SANS 4096

const char *tls_san_type_name(enum tls_san_type t)
{
    static const char *const names[] = {"DNS", "URI", "EMAIL", "IP_ADDRESS", "ANY"};
    return (unsigned)t < 5 ? names[t] : "?";
}

int64_t tls_time_s(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || !ASN1_TIME_to_tm(t, &tm))
        return INT64_MIN;
    return (int64_t)timegm(&tm);
}

const char *tls_time_text(int64_t t_s, char out[TLS_TIME_TEXT])
{
    time_t t = (time_t)t_s;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || !strftime(out, TLS_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(out, TLS_TIME_TEXT, "%" PRId64, t_s);
    return out;
}

void tls_name_text(const X509_NAME *name, struct strbuf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
    long n = BIO_get_mem_data(bio, &data);
    strbuf_add(out, data, n > 0 ? (size_t)n : 0);
    BIO_free(bio);
}

/* ---- names ---- */

/* Text of one name; false when it is of a type that is passed over. Sets *bad instead of trusting
 * bytes that could be read in two ways: a NUL ends a C string elsewhere. */
static bool san_text(const GENERAL_NAME *g, struct tls_san *s, char ip[INET6_ADDRSTRLEN], bool *bad)
{
    const ASN1_STRING *str;
    switch (g->type) {
    case GEN_DNS:
        s->type = TLS_SAN_DNS;
        str = g->d.dNSName;
        break;
    case GEN_URI:
        s->type = TLS_SAN_URI;
        str = g->d.uniformResourceIdentifier;
        break;
    case GEN_EMAIL:
        s->type = TLS_SAN_EMAIL;
        str = g->d.rfc822Name;
        break;
    case GEN_IPADD:
        s->type = TLS_SAN_IP;
        str = g->d.iPAddress;
        break;
    default:
        return false;
    }
    const unsigned char *p = ASN1_STRING_get0_data(str);
    size_t n = (size_t)ASN1_STRING_length(str);
    if (s->type == TLS_SAN_IP) {
        if ((n != 4 && n != 16) ||
            !inet_ntop(n == 4 ? AF_INET : AF_INET6, p, ip, INET6_ADDRSTRLEN)) {
            *bad = true;
            return false;
        }
        s->value = sv_of(ip);
        return true;
    }
    if (n == 0 || memchr(p, '\0', n)) {
        *bad = true;
        return false;
    }
    s->value = sv_make((const char *)p, n);
    return true;
}

struct tls_san *tls_sans_decode(const GENERAL_NAMES *names, uint32_t *n, struct error *err)
{
    int all = names ? sk_GENERAL_NAME_num(names) : 0;
    if (all > MAX_SANS) {
        error_set(err, E_LIMIT, "more than %d subject alternative names", MAX_SANS);
        return NULL;
    }
    char ip[INET6_ADDRSTRLEN];
    size_t bytes = 0;
    uint32_t count = 0;
    bool bad = false;
    struct tls_san s;
    for (int i = 0; i < all; i++)
        if (san_text(sk_GENERAL_NAME_value(names, i), &s, ip, &bad)) {
            count++;
            bytes += s.value.n;
        }
    if (bad) {
        error_set(err, E_INVALID,
                  "a subject alternative name is empty, holds a NUL byte, or is no IP address");
        return NULL;
    }
    struct tls_san *out = mem_alloc(sizeof *out * (count ? count : 1) + bytes);
    char *to = (char *)(out + (count ? count : 1));
    uint32_t k = 0;
    for (int i = 0; i < all; i++)
        if (san_text(sk_GENERAL_NAME_value(names, i), &s, ip, &bad)) {
            memcpy(to, s.value.p, s.value.n);
            out[k++] = (struct tls_san){s.type, sv_make(to, s.value.n)};
            to += s.value.n;
        }
    *n = count;
    return out;
}

/* ---- one certificate ---- */

static void add_hex(struct strbuf *out, const unsigned char *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        strbuf_add_ch(out, digits[p[i] >> 4]);
        strbuf_add_ch(out, digits[p[i] & 15]);
    }
}

static void add_serial(struct strbuf *out, const X509 *x)
{
    const ASN1_INTEGER *a = X509_get0_serialNumber(x);
    const unsigned char *p = ASN1_STRING_get0_data(a);
    size_t n = (size_t)ASN1_STRING_length(a);
    if (ASN1_STRING_type(a) == V_ASN1_NEG_INTEGER)
        strbuf_add_ch(out, '-');
    if (n == 0)
        strbuf_add_c(out, "00");
    add_hex(out, p, n);
}

static void add_spki_hash(struct strbuf *out, X509 *x)
{
    unsigned char *der = NULL, md[SHA256_DIGEST_LENGTH], text[64];
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    if (n <= 0)
        return;
    SHA256(der, (size_t)n, md);
    OPENSSL_free(der);
    strbuf_add(out, text, (size_t)EVP_EncodeBlock(text, md, sizeof md));
}

/* Where each text begins in the strbuf; ends where the next begins. */
enum { T_SUBJECT, T_ISSUER, T_SERIAL, T_SHA256, T_SHA1, T_SPKI, T_DER, T_END };

static bool add_texts(X509 *x, struct strbuf *s, size_t at[T_END + 1])
{
    unsigned char md[SHA256_DIGEST_LENGTH], *der = NULL;
    int n = i2d_X509(x, &der);
    if (n <= 0)
        return false;
    at[T_SUBJECT] = s->n;
    tls_name_text(X509_get_subject_name(x), s);
    at[T_ISSUER] = s->n;
    tls_name_text(X509_get_issuer_name(x), s);
    at[T_SERIAL] = s->n;
    add_serial(s, x);
    at[T_SHA256] = s->n;
    add_hex(s, SHA256(der, (size_t)n, md), SHA256_DIGEST_LENGTH);
    at[T_SHA1] = s->n;
    add_hex(s, SHA1(der, (size_t)n, md), SHA_DIGEST_LENGTH);
    at[T_SPKI] = s->n;
    add_spki_hash(s, x);
    at[T_DER] = s->n;
    strbuf_add(s, der, (size_t)n);
    at[T_END] = s->n;
    OPENSSL_free(der);
    return !s->overflow;
}

struct tls_cert_info *tls_cert_info_from_x509(X509 *x, struct error *err)
{
    int crit = -1;
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, &crit, NULL);
    if (!names && crit != -1) {
        ERR_clear_error();
        error_set(err, E_INVALID, "the subject alternative names cannot be decoded");
        return NULL;
    }
    uint32_t n_sans = 0;
    struct tls_san *sans = tls_sans_decode(names, &n_sans, err);
    GENERAL_NAMES_free(names);
    if (!sans)
        return NULL;
    struct strbuf s;
    size_t at[T_END + 1];
    strbuf_init(&s, 4u << 20);
    struct tls_cert_info *c = NULL;
    if (add_texts(x, &s, at)) {
        c = mem_alloc(sizeof *c + s.n);
        char *base = memcpy(c + 1, s.p, s.n);
#define TEXT(k) sv_make(base + at[k], at[(k) + 1] - at[k])
        *c = (struct tls_cert_info){
            .sans = sans,
            .n_sans = n_sans,
            .subject = TEXT(T_SUBJECT),
            .issuer = TEXT(T_ISSUER),
            .serial = TEXT(T_SERIAL),
            .sha256 = TEXT(T_SHA256),
            .sha1 = TEXT(T_SHA1),
            .spki_sha256 = TEXT(T_SPKI),
            .not_before_s = tls_time_s(X509_get0_notBefore(x)),
            .not_after_s = tls_time_s(X509_get0_notAfter(x)),
            .is_ca = X509_check_ca(x) == 1,
            .der = TEXT(T_DER),
        };
#undef TEXT
        refcount_init(&c->ref);
    } else {
        free(sans);
        error_set(err, E_INVALID, "the certificate cannot be decoded");
    }
    strbuf_fini(&s);
    ERR_clear_error();
    return c;
}

struct tls_cert_info *tls_cert_info_from_pem(sv pem, struct error *err)
{
    STACK_OF(X509) *certs = tls_pem_certs(pem, "certificate", err);
    if (!certs)
        return NULL;
    struct tls_cert_info *c = tls_cert_info_from_x509(sk_X509_value(certs, 0), err);
    sk_X509_pop_free(certs, X509_free);
    return c;
}

struct tls_cert_info *tls_cert_info_from_der(sv der, struct error *err)
{
    const unsigned char *p = (const unsigned char *)der.p;
    X509 *x = der.n && der.n < (1u << 24) ? d2i_X509(NULL, &p, (long)der.n) : NULL;
    if (!x || p != (const unsigned char *)der.p + der.n) {
        X509_free(x);
        ERR_clear_error();
        error_set(err, E_INVALID, "the bytes are no DER certificate");
        return NULL;
    }
    struct tls_cert_info *c = tls_cert_info_from_x509(x, err);
    X509_free(x);
    return c;
}

struct tls_cert_info *tls_cert_info_ref(struct tls_cert_info *c)
{
    refcount_get(&c->ref);
    return c;
}

void tls_cert_info_unref(struct tls_cert_info *c)
{
    if (!c || !refcount_put(&c->ref))
        return;
    free(c->sans);
    free(c);
}

sv tls_cert_info_san(const struct tls_cert_info *c, enum tls_san_type t, uint32_t n)
{
    for (uint32_t i = 0; c && i < c->n_sans; i++)
        if ((t == TLS_SAN_ANY || c->sans[i].type == t) && n-- == 0)
            return c->sans[i].value;
    return sv_make(NULL, 0);
}

void tls_cert_info_sans_text(const struct tls_cert_info *c, enum tls_san_type t, struct strbuf *out)
{
    bool first = true;
    for (uint32_t i = 0; c && i < c->n_sans; i++) {
        if (t != TLS_SAN_ANY && c->sans[i].type != t)
            continue;
        if (!first)
            strbuf_add_ch(out, ',');
        first = false;
        strbuf_add_sv(out, c->sans[i].value);
    }
}

void tls_cert_info_pem(const struct tls_cert_info *c, struct strbuf *out)
{
    if (c)
        tls_pem_add(out, "CERTIFICATE", c->der);
}

void tls_cert_info_pem_urlencoded(const struct tls_cert_info *c, struct strbuf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    struct strbuf pem;
    if (!c)
        return;
    strbuf_init(&pem, 1u << 20);
    tls_cert_info_pem(c, &pem);
    for (size_t i = 0; i < pem.n; i++) {
        unsigned char b = (unsigned char)pem.p[i];
        /* What base64 and the PEM frame use and URLs reserve: '\n' ' ' '+' '/' '='. */
        if (b == '\n' || b == ' ' || b == '+' || b == '/' || b == '=') {
            strbuf_add_ch(out, '%');
            strbuf_add_ch(out, digits[b >> 4]);
            strbuf_add_ch(out, digits[b & 15]);
        } else {
            strbuf_add_ch(out, (char)b);
        }
    }
    strbuf_fini(&pem);
}

sv tls_info_peer_identity(const struct tls_info *info)
{
    if (!info || !info->peer_validated)
        return sv_make(NULL, 0);
    return tls_cert_info_san(info->peer, TLS_SAN_URI, 0);
}
