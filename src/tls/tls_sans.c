#include "tls/tls_native.h"

#include <arpa/inet.h>

/* IA5String without controls: the characters that a DNS name, URI or address may have at all. */
static bool ia5_ok(sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if ((unsigned char)v.p[i] <= 0x20 || (unsigned char)v.p[i] >= 0x7f)
            return false;
    return v.n > 0 && v.n <= 2048;
}

static GENERAL_NAME *ip_name(sv text)
{
    char s[INET6_ADDRSTRLEN + 1];
    unsigned char ip[16];
    if (text.n >= sizeof s)
        return NULL;
    memcpy(s, text.p, text.n);
    s[text.n] = '\0';
    int n = inet_pton(AF_INET, s, ip) == 1 ? 4 : inet_pton(AF_INET6, s, ip) == 1 ? 16 : 0;
    if (n == 0)
        return NULL;
    ASN1_OCTET_STRING *o = ASN1_OCTET_STRING_new();
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_OCTET_STRING_set(o, ip, n);
    GENERAL_NAME_set0_value(g, GEN_IPADD, o);
    return g;
}

static GENERAL_NAME *make_name(const struct tls_san *san)
{
    int type;
    switch (san->type) {
    case TLS_SAN_DNS:
        type = GEN_DNS;
        break;
    case TLS_SAN_URI:
        type = GEN_URI;
        break;
    case TLS_SAN_EMAIL:
        type = GEN_EMAIL;
        break;
    case TLS_SAN_IP:
        return ip_name(san->value);
    default:
        return NULL;
    }
    if (!ia5_ok(san->value))
        return NULL;
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_STRING_set(s, san->value.p, (int)san->value.n);
    GENERAL_NAME_set0_value(g, type, s);
    return g;
}

X509_EXTENSION *tls_sans_extension(const struct tls_san *sans, size_t n, bool critical,
                                   struct error *err)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    for (size_t i = 0; i < n; i++) {
        GENERAL_NAME *g = make_name(&sans[i]);
        if (!g) {
            error_set(err, E_INVALID, "%s name \"%.*s\" cannot stand in a certificate",
                      tls_san_type_name(sans[i].type), SV_ARG(sv_first(sans[i].value, 200)));
            GENERAL_NAMES_free(names);
            return NULL;
        }
        sk_GENERAL_NAME_push(names, g);
    }
    X509_EXTENSION *ext = X509V3_EXT_i2d(NID_subject_alt_name, critical, names);
    GENERAL_NAMES_free(names);
    if (!ext)
        error_set(err, E_TLS, "the names cannot be encoded (%s)", tls_openssl_reason());
    return ext;
}
