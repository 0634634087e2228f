/* What is known about a TLS connection and the certificates on both of its ends.
 *
 *   conn->tls -> struct tls_info -> peer  -> struct tls_cert_info   (NULL: none was presented)
 *                                -> local -> struct tls_cert_info   (NULL: none was sent)
 *
 * Made once, when the handshake is done, and read-only from then on (rule 11: the peer's identity
 * is verified once and attached to every stream of the connection). Views live as long as the
 * object that holds them: a tls_info as long as its conn, a tls_cert_info as long as a reference.
 * Every text that a peer chose (SNI, names, subject) is bytes without NUL, but not otherwise
 * escaped: access logs escape by their format (attack case 47).
 * Thread: any for reading; the lazy texts (..._pem) are made on the connection's worker. */
#ifndef WEFT_TLS_TLS_INFO_H
#define WEFT_TLS_TLS_INFO_H

#include <stdbool.h>
#include <stdint.h>
#include "base/refcount.h"
#include "base/strbuf.h"
#include "base/sv.h"

/* Types of subject alternative names that are told apart. */
enum tls_san_type { TLS_SAN_DNS, TLS_SAN_URI, TLS_SAN_EMAIL, TLS_SAN_IP, TLS_SAN_ANY };
const char *tls_san_type_name(enum tls_san_type t); /* "DNS", "URI", "EMAIL", "IP_ADDRESS" */

struct tls_san {
    enum tls_san_type type;
    sv value; /* IP addresses as text. Names with a NUL inside make the certificate unusable */
};

/* One certificate, decoded. Immutable, refcounted. */
struct tls_cert_info {
    struct refcount ref;
    struct tls_san *sans; /* in the certificate's order */
    uint32_t n_sans;
    sv subject, issuer; /* RFC 2253: "CN=a,O=b" */
    sv serial;          /* lower-case hex */
    sv sha256;          /* of the DER form, 64 lower-case hex digits */
    sv sha1;            /* 40 digits */
    sv spki_sha256;     /* base64 of SHA-256 over SubjectPublicKeyInfo: Envoy's SPKI pin */
    int64_t not_before_s, not_after_s; /* since 1970 */
    bool is_ca;
    sv der; /* the certificate itself */
};

/* Decodes the first certificate of a PEM text. NULL when there is none or it is broken; err says
 * which. One reference belongs to the caller. */
struct error;
struct tls_cert_info *tls_cert_info_from_pem(sv pem, struct error *err);
struct tls_cert_info *tls_cert_info_from_der(sv der, struct error *err);
struct tls_cert_info *tls_cert_info_ref(struct tls_cert_info *c);
void tls_cert_info_unref(struct tls_cert_info *c); /* NULL is fine */
/* The n-th (from 0) name of that type; empty view when there are fewer. */
sv tls_cert_info_san(const struct tls_cert_info *c, enum tls_san_type t, uint32_t n);
/* The names of a type joined with ',' as Envoy's %DOWNSTREAM_PEER_URI_SAN% prints them. */
void tls_cert_info_sans_text(const struct tls_cert_info *c, enum tls_san_type t,
                             struct strbuf *out);
/* PEM, and PEM with what is not unreserved %-encoded: the Cert= and Chain= of
 * x-forwarded-client-cert, %DOWNSTREAM_PEER_CERT%. */
void tls_cert_info_pem(const struct tls_cert_info *c, struct strbuf *out);
void tls_cert_info_pem_urlencoded(const struct tls_cert_info *c, struct strbuf *out);

/* Why a handshake failed, for the owner's counters (Envoy's ssl.*). */
enum tls_fail {
    TLS_FAIL_NONE,
    TLS_FAIL_NO_CERT,  /* fail_verify_no_cert: the peer had to present one and did not */
    TLS_FAIL_VERIFY,   /* fail_verify_error: chain, dates, revocation, purpose */
    TLS_FAIL_SAN,      /* fail_verify_san: no matcher accepts any of its names */
    TLS_FAIL_PIN,      /* fail_verify_cert_hash: neither hash nor SPKI pin */
    TLS_FAIL_PROTOCOL, /* connection_error: everything else: versions, ciphers, alerts, garbage */
};

/* A connection after its handshake. */
struct tls_info {
    bool server; /* this end was the server */
    bool session_reused;
    bool peer_validated; /* a certificate was presented and its verification succeeded */
    sv sni;              /* server: as received (lower case); client: as sent */
    sv alpn;             /* negotiated protocol, empty: none */
    const char *version; /* "TLSv1.3", static */
    const char *cipher;  /* "TLS_AES_128_GCM_SHA256": Envoy prints OpenSSL's name; static */
    const char *group;   /* key exchange group, "X25519"; "" when not known; static */
    const char *sigalg;  /* of the peer's signature, "ecdsa_secp256r1_sha256"; "": none; static */
    sv session_id;       /* hex; empty in TLS 1.3 */
    const struct tls_cert_info *peer;  /* NULL: none presented */
    const struct tls_cert_info *local; /* NULL: none sent */
    uint32_t n_chain;                  /* certificates the peer sent, with the leaf */
};

/* First URI SAN of the peer: its SPIFFE identity in a mesh. Empty when there is none or when it
 * was not validated: unverified names are nobody's identity. info may be NULL. */
sv tls_info_peer_identity(const struct tls_info *info);
/* The chain the peer sent, leaf first: each certificate, which lives for the call; or all as PEM,
 * url-encoded (x-forwarded-client-cert Chain=), up to a limit. Nothing for a reused session: the
 * chain does not survive in tickets. */
struct conn;
void tls_conn_peer_chain(const struct conn *c,
                         void (*each)(void *user, const struct tls_cert_info *cert), void *user);
void tls_conn_peer_chain_urlencoded(const struct conn *c, struct strbuf *out);

#endif
