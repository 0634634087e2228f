#include "tls/tls_native.h"

#include <openssl/crypto.h>
#include <openssl/pem.h>
#include "base/mem.h"

struct tls_key {
    struct refcount ref;
    EVP_PKEY *pkey;
};

void tls_wipe(void *p, size_t n)
{
    if (p)
        OPENSSL_cleanse(p, n);
}

struct tls_key *tls_key_wrap(EVP_PKEY *pkey)
{
    struct tls_key *k = mem_new(struct tls_key);
    refcount_init(&k->ref);
    k->pkey = pkey;
    return k;
}

struct tls_key *tls_key_generate(enum tls_key_kind kind, struct error *err)
{
    EVP_PKEY *p = NULL;
    ERR_clear_error();
    switch (kind) {
    case TLS_KEY_EC_P256:
        p = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
        break;
    case TLS_KEY_EC_P384:
        p = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
        break;
    case TLS_KEY_RSA_2048:
        p = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
        break;
    case TLS_KEY_RSA_4096:
        p = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)4096);
        break;
    }
    if (!p) {
        error_set(err, E_TLS, "no private key could be made (%s)", tls_openssl_reason());
        return NULL;
    }
    return tls_key_wrap(p);
}

struct tls_key *tls_key_from_pem(sv pem, sv password, struct error *err)
{
    EVP_PKEY *p = tls_pem_key(pem, password, "private key", err);
    return p ? tls_key_wrap(p) : NULL;
}

struct tls_key *tls_key_ref(struct tls_key *k)
{
    refcount_get(&k->ref);
    return k;
}

void tls_key_unref(struct tls_key *k)
{
    if (!k || !refcount_put(&k->ref))
        return;
    EVP_PKEY_free(k->pkey); /* clears the private parts */
    free(k);
}

char *tls_key_to_pem(const struct tls_key *k, size_t *len)
{
    BIO *bio = BIO_new(BIO_s_mem()); /* clears its memory when it grows and when it is freed */
    char *data, *out = NULL;
    if (PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL)) {
        long n = BIO_get_mem_data(bio, &data);
        out = mem_alloc((size_t)n + 1);
        memcpy(out, data, (size_t)n);
        out[n] = '\0';
        if (len)
            *len = (size_t)n;
    }
    BIO_free(bio);
    ERR_clear_error();
    return out;
}

void tls_key_pem_free(char *pem, size_t len)
{
    tls_wipe(pem, len);
    free(pem);
}

bool tls_key_equal(const struct tls_key *a, const struct tls_key *b)
{
    bool eq = EVP_PKEY_eq(a->pkey, b->pkey) == 1;
    ERR_clear_error();
    return eq;
}

void *tls_key_native(const struct tls_key *k)
{
    return k->pkey;
}

bool tls_key_acceptable(EVP_PKEY *k)
{
    switch (EVP_PKEY_get_base_id(k)) {
    case EVP_PKEY_RSA:
        return EVP_PKEY_get_bits(k) >= 2048 && EVP_PKEY_get_bits(k) <= 8192;
    case EVP_PKEY_EC: {
        char name[64];
        size_t n;
        if (!EVP_PKEY_get_group_name(k, name, sizeof name, &n))
            return false;
        return strcmp(name, SN_X9_62_prime256v1) == 0 || strcmp(name, SN_secp384r1) == 0 ||
               strcmp(name, SN_secp521r1) == 0;
    }
    case EVP_PKEY_ED25519:
        return true;
    default:
        return false;
    }
}
