/* Certificate signing requests (PKCS#10, RFC 2986). Thread: any. */
#ifndef WEFT_TLS_TLS_CSR_H
#define WEFT_TLS_TLS_CSR_H

#include "base/error.h"
#include "base/strbuf.h"
#include "tls/tls_info.h"
#include "tls/tls_key.h"

#define TLS_CSR_MAX 16384 /* bytes of PEM that are looked at; longer ones are refused */

/* Appends the PEM of a request for these names, signed with the key. Subject is empty but for
 * organization when that is given; the SAN extension is critical then, as SPIFFE asks. */
int tls_csr_make(struct tls_key *key, const struct tls_san *sans, size_t n_sans, sv organization,
                 struct strbuf *out_pem, struct error *err) MUST_CHECK;

struct tls_csr; /* a request whose self-signature was verified */
/* Refuses trailing garbage, a bad signature, weak keys (RSA < 2048, curves other than P-256, P-384,
 * P-521, Ed25519), names with NUL, more than 32 names. */
struct tls_csr *tls_csr_parse(sv pem, struct error *err);
void tls_csr_free(struct tls_csr *c); /* NULL is fine */
const struct tls_san *tls_csr_sans(const struct tls_csr *c, size_t *n);
sv tls_csr_subject(const struct tls_csr *c);   /* RFC 2253 */
bool tls_csr_is_ca(const struct tls_csr *c);   /* asks for basicConstraints CA:TRUE */
void *tls_csr_native(const struct tls_csr *c); /* X509_REQ *, for this room */

#endif
