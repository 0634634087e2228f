/* What the files of this room share about OpenSSL's objects. Not for other rooms. */
#ifndef WEFT_TLS_TLS_NATIVE_H
#define WEFT_TLS_TLS_NATIVE_H

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include "base/error.h"
#include "base/strbuf.h"
#include "tls/tls_ctx.h"
#include "tls/tls_info.h"
#include "tls/tls_key.h"

/* ---- tls_cert_info.c ---- */
/* Decodes a certificate. NULL + err when a name holds a NUL byte or the like. */
struct tls_cert_info *tls_cert_info_from_x509(X509 *x, struct error *err);
/* Names of a certificate or request as an array in one malloc'd block (also when n is 0). NULL +
 * err on names that cannot be trusted to mean what they show. */
struct tls_san *tls_sans_decode(const GENERAL_NAMES *names, uint32_t *n, struct error *err);
/* RFC 2253 text of a name into a strbuf. */
void tls_name_text(const X509_NAME *name, struct strbuf *out);
int64_t tls_time_s(const ASN1_TIME *t); /* INT64_MIN when it cannot be read */

/* ---- tls_pem.c ---- */
/* All certificates of a PEM text, in order; at most TLS_PEM_MAX. NULL + err; `what` begins the
 * sentence. The caller frees with sk_X509_pop_free(…, X509_free). */
#define TLS_PEM_MAX 1000
STACK_OF(X509) * tls_pem_certs(sv pem, const char *what, struct error *err);
STACK_OF(X509_CRL) * tls_pem_crls(sv pem, const char *what, struct error *err);
EVP_PKEY *tls_pem_key(sv pem, sv password, const char *what, struct error *err);
/* Appends PEM of a block of DER ("CERTIFICATE"). */
void tls_pem_add(struct strbuf *out, const char *label, sv der);
/* Bytes of the one block with this label (or label2, may be NULL) and nothing else around it but
 * white space, into a malloc'd buffer. NULL + err. */
unsigned char *tls_pem_single(sv pem, const char *label, const char *label2, size_t *n,
                              struct error *err);
/* The newest reason in OpenSSL's queue as text, static or per thread; empties the queue. */
const char *tls_openssl_reason(void);

/* ---- tls_key.c ---- */
struct tls_key *tls_key_wrap(EVP_PKEY *k); /* takes over the reference */
/* Is this public key strong enough and of a kind that is accepted? */
bool tls_key_acceptable(EVP_PKEY *k);

/* ---- tls_sans.c: making the extension ---- */
/* Critical or not, as an extension object the caller frees. NULL + err on a name with wrong bytes.
 */
X509_EXTENSION *tls_sans_extension(const struct tls_san *sans, size_t n, bool critical,
                                   struct error *err);

#endif
