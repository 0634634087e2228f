/* The mesh's certificate authority.
 *
 *   <dir>/ca-cert.pem      the signing certificate        (names as in Istio's `cacerts` secret,
 *         ca-key.pem       its key, 0600                   so that a plugged-in intermediate is
 *         root-cert.pem    trusted roots, one or many      four files copied here)
 *         cert-chain.pem   from the signing certificate to the root (may be missing)
 *         .lock .making    guards of the first start
 *
 * An empty or missing directory gets a self-made root once: two control planes that start at the
 * same time agree on one through a file lock, and a start that was interrupted is made anew. Any
 * later start loads what is there. Nothing of it is ever replaced by itself.
 *
 * Who may ask for what: callers are authenticated (ca_authenticate) by a bootstrap token of this CA
 * or by a certificate of it that is still valid, and get a certificate for exactly that identity;
 * a request that names anything else is refused.
 *
 * Times are passed in; nothing here reads a clock. Thread: main (signing: any, the CA's state is
 * swapped only by ca_reload). */
#ifndef WEFT_MESH_CA_CA_H
#define WEFT_MESH_CA_CA_H

#include "base/error.h"
#include "base/strbuf.h"
#include "tls/tls_cert.h"
#include "tls/tls_info.h"

struct ca;

#define CA_DEFAULT_TTL_S (24 * 3600)
#define CA_MAX_TTL_S     (90 * 24 * 3600ll)
#define CA_ROOT_TTL_S    (3650 * 24 * 3600ll)

struct ca_opts {
    const char *dir;
    sv trust_domain;       /* empty: "cluster.local" */
    int64_t default_ttl_s; /* of workload certificates when none is asked for; 0: 24 h */
    int64_t max_ttl_s;     /* more is refused; 0: 90 days, and never more */
    int64_t root_ttl_s;    /* of a self-made root; 0: 10 years */
    sv extra_roots_pem;    /* added to the bundle that workloads trust (root rotation) */
};

/* Opens or makes. NULL + a sentence that names the file. */
struct ca *ca_open(const struct ca_opts *o, int64_t now_s, struct error *err);
void ca_close(struct ca *ca); /* NULL is fine */
/* Reads the directory again (after a change of its files); what is in use stays on error. */
int ca_reload(struct ca *ca, int64_t now_s, struct error *err) MUST_CHECK;

sv ca_trust_domain(const struct ca *ca);
/* Roots, PEM; valid until ca_reload. */
sv ca_roots_pem(const struct ca *ca);
/* What stands between a leaf and the roots, PEM, empty for a self-made root. Until ca_reload. */
sv ca_chain_pem(const struct ca *ca);
/* The signing certificate, for expiry metrics. Borrowed until ca_reload. */
const struct tls_cert_info *ca_info(const struct ca *ca);
bool ca_is_self_made(const struct ca *ca); /* the signing certificate is a root */

/* ---- identities ---- */

struct ca_identity {
    char ns[256], sa[256];
};
/* "spiffe://td/ns/NS/sa/SA" of an identity in this trust domain; appends. */
int ca_identity_uri(const struct ca *ca, const struct ca_identity *who,
                    struct strbuf *out) MUST_CHECK;

/* ---- bootstrap tokens ----
 *
 *   weft1.<base64url(namespace/account/workload/expiry/nonce)>.<base64url(HMAC-SHA256)>
 *
 * The HMAC key is derived from the CA's private key, so that every replica with the same CA, and
 * the same one after a restart, verifies what another one gave out. */
#define CA_TOKEN_MAX 1024
/* Appends a token for a workload (its name is for logs) that ends at expires_s. */
int ca_token_make(const struct ca *ca, const struct ca_identity *who, sv workload,
                  int64_t expires_s, struct strbuf *out, struct error *err) MUST_CHECK;
/* E_DENIED and why ("the token has expired", "... was not made by this CA"). `workload` may be
 * NULL. */
int ca_token_verify(const struct ca *ca, sv token, int64_t now_s, struct ca_identity *who,
                    char workload[256], struct error *err) MUST_CHECK;

/* What a caller has to show. */
struct ca_caller {
    sv bearer;                  /* the token, without "Bearer "; empty: none */
    const struct tls_info *tls; /* of the connection; NULL: plaintext */
};
/* Token first, then certificate. E_DENIED and why. */
int ca_authenticate(const struct ca *ca, const struct ca_caller *caller, int64_t now_s,
                    struct ca_identity *who, struct error *err) MUST_CHECK;

/* ---- signing ---- */

/* Signs a request of an authenticated caller. ttl_s 0: the default; more than the maximum, or
 * negative, is refused. The request's names, if any, must be the caller's URI and nothing else.
 * Appends the leaf's PEM (without chain). E_INVALID, E_LIMIT, E_TLS. */
int ca_sign(const struct ca *ca, sv csr_pem, const struct ca_identity *who, int64_t ttl_s,
            int64_t now_s, struct strbuf *out_pem, int64_t *not_after_s,
            struct error *err) MUST_CHECK;
/* A certificate with chain for a key that is here, with any names: the control plane's own. */
int ca_issue(const struct ca *ca, struct tls_key *key, const struct tls_san *sans, size_t n_sans,
             int64_t ttl_s, int64_t now_s, struct strbuf *out_chain_pem,
             struct error *err) MUST_CHECK;

#endif
