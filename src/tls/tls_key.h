/* Private keys in memory: made here, wiped when the last reference goes, never logged.
 * Thread: any; a key is immutable and refcounted. */
#ifndef WEFT_TLS_TLS_KEY_H
#define WEFT_TLS_TLS_KEY_H

#include <stdbool.h>
#include "base/error.h"
#include "base/sv.h"

struct tls_key;

enum tls_key_kind { TLS_KEY_EC_P256, TLS_KEY_EC_P384, TLS_KEY_RSA_2048, TLS_KEY_RSA_4096 };

/* A new key from the system's randomness. NULL: the library failed; err says how. */
struct tls_key *tls_key_generate(enum tls_key_kind kind, struct error *err);
/* PKCS#8 ("PRIVATE KEY", with a password also "ENCRYPTED PRIVATE KEY"), PKCS#1 or SEC1. */
struct tls_key *tls_key_from_pem(sv pem, sv password, struct error *err);
struct tls_key *tls_key_ref(struct tls_key *k);
void tls_key_unref(struct tls_key *k); /* NULL is fine */
/* PKCS#8 PEM in malloc'd memory; release with tls_key_pem_free, which wipes it. */
char *tls_key_to_pem(const struct tls_key *k, size_t *len);
void tls_key_pem_free(char *pem, size_t len);
/* The same public key? (does a key fit a certificate or request) */
bool tls_key_equal(const struct tls_key *a, const struct tls_key *b);
/* The library's object (EVP_PKEY *), borrowed. For this room. */
void *tls_key_native(const struct tls_key *k);
/* Overwrites memory in a way the compiler keeps. */
void tls_wipe(void *p, size_t n);

#endif
