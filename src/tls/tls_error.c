#include "tls/tls_priv.h"

#include <ctype.h>
#include <openssl/sslerr.h>

/* BoringSSL's names and numbers, which Envoy prints and its users search for, by OpenSSL's reason.
 * Alerts (1000 + number) are equal in both but for the names given here. */
struct reason {
    int openssl, boring;
    const char *name;
    const char *sentence; /* NULL: made from the name */
};

static const struct reason REASONS[] = {
    {SSL_R_CERTIFICATE_VERIFY_FAILED, 125, "CERTIFICATE_VERIFY_FAILED", NULL},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, 192, "PEER_DID_NOT_RETURN_A_CERTIFICATE",
     "the client presented no certificate, but one is required"},
    {SSL_R_WRONG_VERSION_NUMBER, 247, "WRONG_VERSION_NUMBER",
     "the peer does not speak TLS on this port: its answer is no TLS record"},
    {SSL_R_HTTP_REQUEST, 156, "HTTP_REQUEST", "the client sent plain HTTP to a TLS port"},
    {SSL_R_HTTPS_PROXY_REQUEST, 155, "HTTPS_PROXY_REQUEST",
     "the client sent a plain CONNECT request to a TLS port"},
    {SSL_R_UNSUPPORTED_PROTOCOL, 240, "UNSUPPORTED_PROTOCOL",
     "the peer's TLS versions and ours have none in common"},
    {SSL_R_VERSION_TOO_LOW, 240, "UNSUPPORTED_PROTOCOL",
     "the peer only speaks TLS versions that are too old here"},
    {SSL_R_NO_PROTOCOLS_AVAILABLE, 280, "NO_SUPPORTED_VERSIONS_ENABLED", NULL},
    {SSL_R_NO_SHARED_CIPHER, 184, "NO_SHARED_CIPHER",
     "the peer's cipher suites and ours have none in common"},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, 253, "NO_COMMON_SIGNATURE_ALGORITHMS",
     "the peer accepts no signature algorithm that our certificate can use"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, 253, "NO_COMMON_SIGNATURE_ALGORITHMS",
     "the peer accepts no signature algorithm that our certificate can use"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, 266, "NO_SHARED_GROUP",
     "the peer's key exchange groups and ours have none in common"},
    {SSL_R_NO_SUITABLE_GROUPS, 266, "NO_SHARED_GROUP",
     "the peer's key exchange groups and ours have none in common"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, 139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", NULL},
    {SSL_R_UNEXPECTED_MESSAGE, 223, "UNEXPECTED_MESSAGE", NULL},
    {SSL_R_UNEXPECTED_RECORD, 225, "UNEXPECTED_RECORD", NULL},
    {SSL_R_NO_APPLICATION_PROTOCOL, 307, "NO_APPLICATION_PROTOCOL", NULL},
    {SSL_R_NO_RENEGOTIATION, 182, "NO_RENEGOTIATION", NULL},
    {SSL_R_BAD_SIGNATURE, 114, "BAD_SIGNATURE", NULL},
    {SSL_R_BAD_ECC_CERT, 107, "BAD_ECC_CERT", NULL},
    {SSL_R_BAD_LENGTH, 111, "BAD_LENGTH", NULL},
    {SSL_R_LENGTH_MISMATCH, 137, "DECODE_ERROR", NULL},
    {SSL_R_DATA_LENGTH_TOO_LONG, 136, "DATA_LENGTH_TOO_LONG", NULL},
    {SSL_R_ENCRYPTED_LENGTH_TOO_LONG, 146, "ENCRYPTED_LENGTH_TOO_LONG", NULL},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, 150, "EXCESSIVE_MESSAGE_SIZE", NULL},
    {SSL_R_PACKET_LENGTH_TOO_LONG, 146, "ENCRYPTED_LENGTH_TOO_LONG", NULL},
    {SSL_R_INAPPROPRIATE_FALLBACK, 157, "INAPPROPRIATE_FALLBACK", NULL},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, 1042, "SSLV3_ALERT_BAD_CERTIFICATE",
     "the peer refuses our certificate as bad"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, 1045, "SSLV3_ALERT_CERTIFICATE_EXPIRED",
     "the peer says that our certificate has expired"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, 1044, "SSLV3_ALERT_CERTIFICATE_REVOKED",
     "the peer says that our certificate has been revoked"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, 1046, "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
     "the peer does not accept our certificate: its names are not those it expects"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, 1043, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
     "the peer does not accept the purpose (extended key usage) of our certificate"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, 1048, "TLSV1_ALERT_UNKNOWN_CA",
     "the peer does not trust the CA of our certificate"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, 1116, "TLSV1_ALERT_CERTIFICATE_REQUIRED",
     "the peer requires a certificate and we sent none"},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, 1040, "SSLV3_ALERT_HANDSHAKE_FAILURE",
     "the peer found no common TLS parameters, or requires a certificate that we did not send"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, 1070, "TLSV1_ALERT_PROTOCOL_VERSION",
     "the peer supports none of the TLS versions offered"},
    {SSL_R_TLSV1_UNRECOGNIZED_NAME, 1112, "TLSV1_ALERT_UNRECOGNIZED_NAME",
     "the peer serves no host of the name (SNI) that was sent"},
    {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, 1120, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
     "the peer supports none of the application protocols (ALPN) offered"},
    {SSL_R_TLSV1_BAD_CERTIFICATE_HASH_VALUE, 1114, "TLSV1_ALERT_BAD_CERTIFICATE_HASH_VALUE", NULL},
    {SSL_R_TLSV13_ALERT_MISSING_EXTENSION, 1109, "TLSV1_ALERT_MISSING_EXTENSION", NULL},
};

static const struct reason *find_reason(int openssl)
{
    for (size_t i = 0; i < sizeof REASONS / sizeof REASONS[0]; i++)
        if (REASONS[i].openssl == openssl)
            return &REASONS[i];
    return NULL;
}

/* "wrong version number" -> "WRONG_VERSION_NUMBER" */
static void add_upper(struct strbuf *out, const char *s)
{
    for (; s && *s; s++)
        strbuf_add_ch(out, isalnum((unsigned char)*s) ? (char)toupper((unsigned char)*s) : '_');
}

static enum tls_fail kind_of(int reason)
{
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return TLS_FAIL_NO_CERT;
    return reason == SSL_R_CERTIFICATE_VERIFY_FAILED ? TLS_FAIL_VERIFY : TLS_FAIL_PROTOCOL;
}

static void add_one(struct tls_handshake *hs, unsigned long code, struct strbuf *out)
{
    const char *text = ERR_reason_error_string(code), *lib = ERR_lib_error_string(code);
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) {
        strbuf_addf(out, "|%lu:%s:OPENSSL_internal:", code, lib ? lib : "");
        add_upper(out, text);
        return;
    }
    int reason = ERR_GET_REASON(code);
    const struct reason *r = find_reason(reason);
    strbuf_addf(out, "|%lu:SSL routines:OPENSSL_internal:",
                ((unsigned long)16 << 24) + (unsigned long)(r ? r->boring : reason));
    if (r)
        strbuf_add_c(out, r->name);
    else
        add_upper(out, text);
    if (hs->fail == TLS_FAIL_NONE)
        hs->fail = kind_of(reason);
    if (r && r->sentence)
        tls_handshake_say(hs, "%s", r->sentence);
    else
        tls_handshake_say(hs, "the TLS connection failed: %s", text ? text : "unknown cause");
}

bool tls_error_text(struct tls_handshake *hs, struct strbuf *out)
{
    unsigned long code;
    size_t begin = out->n;
    bool verify = false, no_cert = false;
    while ((code = ERR_get_error())) {
        if (out->n == begin)
            strbuf_add_c(out, "TLS_error:");
        add_one(hs, code, out);
        verify |= ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
        no_cert |= ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE;
    }
    if (out->n == begin)
        return false;
    if (verify && hs->detail)
        strbuf_addf(out, ":%s", hs->detail);
    else if (no_cert)
        strbuf_add_c(out, ":peer did not provide required client certificate");
    strbuf_add_c(out, ":TLS_error_end");
    return true;
}
