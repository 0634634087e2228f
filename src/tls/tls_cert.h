/* Making and reading certificates: the CA's tools. Thread: any. */
#ifndef WEFT_TLS_TLS_CERT_H
#define WEFT_TLS_TLS_CERT_H

#include "base/error.h"
#include "base/strbuf.h"
#include "tls/tls_csr.h"
#include "tls/tls_info.h"
#include "tls/tls_key.h"

/* A certificate authority's certificate with its key, ready to sign. Immutable after making. */
struct tls_signer;

/* Self-signed root: CA:TRUE, keyCertSign and cRLSign, SHA-256. not_before is one hour before now_s
 * so that peers with slow clocks accept it. Appends PEM. */
int tls_cert_make_root(struct tls_key *key, sv organization, sv common_name, int64_t now_s,
                       int64_t ttl_s, struct strbuf *out_pem, struct error *err) MUST_CHECK;
/* An intermediate under `parent`, pathlen 0. */
int tls_cert_make_intermediate(struct tls_signer *parent, struct tls_key *key, sv organization,
                               sv common_name, int64_t now_s, int64_t ttl_s, struct strbuf *out_pem,
                               struct error *err) MUST_CHECK;

/* The first certificate of cert_pem must be a CA and fit the key. */
struct tls_signer *tls_signer_new(sv cert_pem, struct tls_key *key, struct error *err);
void tls_signer_free(struct tls_signer *s); /* NULL is fine */
const struct tls_cert_info *tls_signer_info(const struct tls_signer *s);

/* What a leaf is to be. Zero-initialise. */
struct tls_leaf {
    const struct tls_san *sans; /* the names the certificate gets, whatever the request said */
    size_t n_sans;
    sv organization; /* subject; with none the subject is empty and SAN critical */
    sv common_name;
    int64_t now_s, ttl_s; /* not_before = now - 2 min (clock skew, as Istio), not_after = now
                             + ttl, cut at the signer's own end */
    bool server_auth, client_auth; /* extended key usage; neither: both */
};
/* Signs the request's public key. KU digitalSignature, keyEncipherment; CA:FALSE critical; random
 * 128-bit serial. Appends the leaf's PEM; *not_after_s gets the end it really got. */
int tls_cert_sign(struct tls_signer *s, const struct tls_csr *csr, const struct tls_leaf *leaf,
                  struct strbuf *out_pem, int64_t *not_after_s, struct error *err) MUST_CHECK;
/* The same for a key that is here (the control plane's own server certificate). */
int tls_cert_sign_key(struct tls_signer *s, struct tls_key *key, const struct tls_leaf *leaf,
                      struct strbuf *out_pem, int64_t *not_after_s, struct error *err) MUST_CHECK;

/* Calls fn for each certificate of a PEM text in order; E_INVALID with a sentence when one is
 * broken or there is none. fn may keep a reference. */
int tls_cert_each(sv pem, void (*fn)(void *arg, struct tls_cert_info *c), void *arg,
                  struct error *err) MUST_CHECK;
/* Does `leaf_and_chain` lead to one of `roots` at now_s? 0, or E_INVALID and why. */
int tls_cert_verify_chain(sv leaf_and_chain_pem, sv roots_pem, int64_t now_s,
                          struct error *err) MUST_CHECK;
/* Time as RFC 3339 in UTC, for messages; NUL-terminated. */
#define TLS_TIME_TEXT 32
const char *tls_time_text(int64_t t_s, char out[TLS_TIME_TEXT]);

#endif
