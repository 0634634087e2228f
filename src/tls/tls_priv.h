/* The inside of contexts and what a connection's handshake shares with them. Not for other rooms.
 *
 *   tls_ctx -> tls_base (the library's context; clients of equal settings share one)
 *   SSL app data -> struct tls_handshake (embedded in the tls conn) -> tls_ctx */
#ifndef WEFT_TLS_TLS_PRIV_H
#define WEFT_TLS_TLS_PRIV_H

#include <pthread.h>
#include "tls/tls_ctx.h"
#include "tls/tls_native.h"

#define TLS_TICKET_KEY 80 /* name 16, HMAC key 32, AES key 32 */

/* ---- what is verified: tls_verify.c ---- */
struct tls_verifier {
    struct tls_san_match *sans; /* values owned */
    size_t n_sans;
    unsigned char (*pins)[32]; /* SHA-256 of SubjectPublicKeyInfo */
    size_t n_pins;
    unsigned char (*hashes)[32]; /* SHA-256 of the certificate */
    size_t n_hashes;
    bool has_ca, accept_untrusted, allow_expired;
};
/* Does it ask for anything at all? */
bool tls_verifier_active(const struct tls_verifier *v);
int tls_verifier_init(struct tls_verifier *v, const struct tls_validation *val, struct error *err);
void tls_verifier_fini(struct tls_verifier *v);
/* For SSL_CTX_set_cert_verify_callback; arg is the tls_ctx. */
int tls_verify_peer(X509_STORE_CTX *sc, void *arg);

/* ---- own certificates: tls_cert_select.c ---- */
struct tls_own_cert {
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf */
    EVP_PKEY *key;
    struct tls_cert_info *info;
    int type; /* EVP_PKEY_RSA, EVP_PKEY_EC … */
};
int tls_own_cert_load(struct tls_own_cert *c, const struct tls_cert_opts *o, size_t index,
                      struct error *err);
void tls_own_cert_fini(struct tls_own_cert *c);
/* SSL_CTX_set_cert_cb of servers with several certificates. */
int tls_cert_select(SSL *ssl, void *ctx);

/* ---- sessions: tls_session.c ---- */
struct tls_session_slot {
    char *key; /* SNI and expected name */
    SSL_SESSION *session;
};
struct tls_sessions {
    pthread_mutex_t lock;
    struct tls_session_slot *slots; /* newest last */
    uint32_t n, max;
};
void tls_sessions_init(struct tls_sessions *s, uint32_t max);
void tls_sessions_fini(struct tls_sessions *s);
/* Sets callbacks and options about resumption on base->ssl. */
struct tls_base;
void tls_session_setup(struct tls_base *base, const struct tls_ctx_opts *o);
/* Client, before the handshake: offers a kept session; the one that comes of it is good for this
 * context only. */
struct tls_handshake;
void tls_session_offer(struct tls_ctx *ctx, SSL *ssl, const struct tls_handshake *hs);

/* ---- what contexts of equal settings share: tls_base.c ----
 * The library's own context, with certificates and trust: some 30 KB. A mesh has a thousand
 * clusters that differ in the name that is asked for and in the names that are accepted, and in
 * nothing else. Immutable. Only clients share; a base goes, and the key with it, with the last
 * context and connection that uses it. Callbacks find the context through the SSL. Any thread. */
struct tls_base {
    struct refcount ref;
    unsigned char key[32]; /* over all settings that it was made of */
    bool shared, server;
    SSL_CTX *ssl;
    struct tls_own_cert *certs;
    size_t n_certs;
    struct tls_cert_info **shown; /* own leaves and chains, for /certs */
    size_t n_shown;
    struct tls_cert_info **cas;
    size_t n_cas;
    unsigned char *alpn; /* wire format */
    unsigned alpn_n;
};
/* active: tls_verifier_active of the context's verifier. */
struct tls_base *tls_base_get(const struct tls_ctx_opts *o, bool active, struct error *err);
void tls_base_unref(struct tls_base *b); /* NULL is fine */

struct tls_ctx {
    struct refcount ref;
    struct tls_base *base;
    bool server;
    char hash[65];
    struct tls_verifier verify;
    char *sni;
    unsigned char *ticket_keys;
    size_t n_ticket_keys;
    struct tls_sessions sessions;
};

/* State of one connection that callbacks reach through the SSL. */
struct tls_handshake {
    struct tls_ctx *ctx;
    int64_t now_s;     /* wall time of the loop at the start: certificates are checked by it */
    char *expect_name; /* client: replaces the matchers; NULL */
    char *sni;         /* server: received, lower case; client: sent; NULL */
    struct tls_cert_info *peer;
    enum tls_fail fail;
    char *detail;   /* "verify cert failed: …" */
    char *sentence; /* for a person */
};
void tls_handshake_fini(struct tls_handshake *hs);
/* Keeps the first cause (rule 13). Both texts are printf'ed copies. */
void tls_handshake_fail(struct tls_handshake *hs, enum tls_fail fail, const char *detail_fmt, ...)
    PRINTF_LIKE(3, 4);
void tls_handshake_say(struct tls_handshake *hs, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- tls_error.c ---- */
/* Empties OpenSSL's error queue into Envoy's form of a transport failure reason. Sets hs->fail and
 * hs->sentence when nothing more exact is known. False when the queue was empty. */
bool tls_error_text(struct tls_handshake *hs, struct strbuf *out);

#endif
