/* TLS contexts: everything about a TLS side that is decided before a connection exists.
 *
 *   options (plain data) -> tls_ctx_new -> immutable, refcounted context -> many connections
 *
 * A context never changes. New certificates or trust make a new context; connections that are up
 * keep the one they began with (tls_slot.h does this for contexts that name secrets).
 *
 * What verification means here (attack case 32): chain to one of the trusted certificates, dates,
 * revocation lists, extended key usage for the role; then pins; then names. Names are compared
 * with their exact length, a name that holds a NUL byte is refused, '*' in a certificate stands
 * for exactly one whole leftmost label and only where a DNS name is matched exactly, the common
 * name is never looked at, URI names are never wildcards. With pins but no trusted certificates
 * only the pins decide. Without any of them nothing is verified (Envoy's rule for clients).
 *
 * Resumption (attack case 33): server sessions carry the hash of the whole configuration as their
 * session id context and are sealed with keys of this context, so a session never outlives a
 * change of what is verified; tickets of peers whose certificate has expired are not accepted;
 * client sessions live in the context and are found by SNI and expected name. No 0-RTT. No
 * renegotiation.
 *
 * Thread: any; a context may be shared by all workers. */
#ifndef WEFT_TLS_TLS_CTX_H
#define WEFT_TLS_TLS_CTX_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/refcount.h"
#include "base/sv.h"
#include "tls/tls_info.h"

struct tls_ctx;
struct tls_key; /* tls_key.h */

enum tls_version {
    TLS_VERSION_AUTO,
    TLS_VERSION_1_0,
    TLS_VERSION_1_1,
    TLS_VERSION_1_2,
    TLS_VERSION_1_3
};

/* A certificate chain (leaf first) and its private key. The views are read during the call that
 * takes them, never kept. */
struct tls_cert_opts {
    sv chain_pem;
    sv key_pem; /* PKCS#8, PKCS#1 or SEC1, or empty when `key` is given */
    sv key_password;
    struct tls_key *key; /* a key that is in memory only; referenced, not taken over */
    const char *name;    /* for errors: "tls_certificates[0]" or the secret's name; may be NULL */
};

/* A compiled regular expression from a room that has an engine. Embedded in the maker's object. */
struct tls_regex {
    struct refcount ref;
    bool (*match)(const struct tls_regex *r, sv whole_text); /* full match; any thread */
    void (*free)(struct tls_regex *r);                       /* last reference is gone */
};

enum tls_match_kind {
    TLS_MATCH_EXACT,
    TLS_MATCH_PREFIX,
    TLS_MATCH_SUFFIX,
    TLS_MATCH_CONTAINS,
    TLS_MATCH_REGEX
};

struct tls_san_match {
    enum tls_san_type type; /* TLS_SAN_ANY: any of the four (Envoy's untyped matchers) */
    enum tls_match_kind kind;
    bool ignore_case;
    sv value;
    struct tls_regex *regex; /* TLS_MATCH_REGEX; referenced */
};

/* How the peer's certificate is verified; envoy CertificateValidationContext without protobuf. */
struct tls_validation {
    sv ca_pem;  /* trusted certificates, any number; intermediates may be anchors */
    sv crl_pem; /* revocation lists; then every certificate of a chain needs one of its issuer */
    bool only_leaf_crl;
    const struct tls_san_match *sans; /* any one must accept a name; n_sans == 0: no check */
    size_t n_sans;
    const sv *spki_pins; /* base64 SHA-256; any pin of either list suffices */
    size_t n_spki_pins;
    const sv *cert_hashes; /* hex SHA-256, ':' between bytes allowed */
    size_t n_cert_hashes;
    uint32_t max_depth; /* 0: 100, as Envoy */
    bool allow_expired;
    bool accept_untrusted; /* ACCEPT_UNTRUSTED: goes on, peer_validated says false */
    const char *name;      /* for errors; may be NULL */
};

/* What a peer must do about its certificate (servers). With OPTIONAL one that is presented is
 * verified all the same. */
enum tls_client_auth { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRE };

struct tls_ctx_opts {
    bool server;
    const struct tls_cert_opts *certs; /* servers need one; chosen by SNI, then key type */
    size_t n_certs;
    const struct tls_validation *validation; /* NULL: nothing is verified */
    enum tls_client_auth client_auth;
    const sv *alpn; /* by preference; servers without a common protocol go on without, as Envoy */
    size_t n_alpn;
    enum tls_version min_version, max_version; /* AUTO: 1.2 and 1.3 */
    const sv *ciphers; /* TLS <= 1.2, OpenSSL names; "[A|B]" as in BoringSSL. None: Envoy's */
    size_t n_ciphers;
    const sv *curves; /* "X25519", "P-256" ... None: those two */
    size_t n_curves;
    const sv *sigalgs; /* "ecdsa_secp256r1_sha256" ... None: the library's */
    size_t n_sigalgs;
    /* Servers. */
    bool prefer_client_ciphers;
    bool no_stateless_resumption, no_stateful_resumption;
    uint32_t session_timeout_s; /* 0: 7200 */
    const sv *ticket_keys;      /* 80 bytes each as in Envoy, first seals; none: random */
    size_t n_ticket_keys;
    /* Clients. */
    sv sni;                    /* default server name; a connection may say another */
    uint32_t max_session_keys; /* sessions kept; 0: no resumption */
};

/* Makes a context. Errors are sentences that name the part: "tls_certificates[0]: the private key
 * does not match the certificate", "... certificate expired on 2026-01-02T03:04:05Z" (only a
 * warning to Envoy: weft too starts with it unless it is not parseable), "... bad PEM".
 * NULL on failure. One reference belongs to the caller. */
struct tls_ctx *tls_ctx_new(const struct tls_ctx_opts *o, struct error *err);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *c); /* NULL is fine */
void tls_ctx_unref(struct tls_ctx *c);          /* NULL is fine */

bool tls_ctx_is_server(const struct tls_ctx *c);
/* 64 hex digits over everything that decides what a connection proves and accepts: for pool keys
 * (rule 7) and for noticing that nothing changed. Lives as long as c. */
sv tls_ctx_hash(const struct tls_ctx *c);
/* Certificates for admin /certs and for expiry metrics: own chain i (leaf first), trusted ones. */
size_t tls_ctx_n_certs(const struct tls_ctx *c);
const struct tls_cert_info *tls_ctx_cert(const struct tls_ctx *c, size_t i);
size_t tls_ctx_n_cas(const struct tls_ctx *c);
const struct tls_cert_info *tls_ctx_ca(const struct tls_ctx *c, size_t i);
/* The earliest not_after of own and trusted certificates; INT64_MAX when there are none. */
int64_t tls_ctx_expires_s(const struct tls_ctx *c);

/* The name rules, for tests and for other rooms that match names of certificates (XFCC, RBAC). */
bool tls_san_match_one(const struct tls_san_match *m, const struct tls_san *san);
/* `pattern` is a certificate's DNS name, perhaps with a leading "*." label. */
bool tls_dns_name_match(sv host, sv pattern);

#endif
