#include "tls/tls_priv.h"

#include "base/mem.h"

static const char *cert_name(const struct tls_cert_opts *o, size_t index, char *buf, size_t n)
{
    if (o->name)
        return o->name;
    snprintf(buf, n, "tls_certificates[%zu]", index);
    return buf;
}

static EVP_PKEY *load_key(const struct tls_cert_opts *o, const char *name, struct error *err)
{
    if (o->key) {
        EVP_PKEY *k = tls_key_native(o->key);
        EVP_PKEY_up_ref(k);
        return k;
    }
    if (o->key_pem.n == 0) {
        error_set(err, E_INVALID, "%s: there is no private key", name);
        return NULL;
    }
    return tls_pem_key(o->key_pem, o->key_password, name, err);
}

int tls_own_cert_load(struct tls_own_cert *c, const struct tls_cert_opts *o, size_t index,
                      struct error *err)
{
    char buf[48];
    const char *name = cert_name(o, index, buf, sizeof buf);
    memset(c, 0, sizeof *c);
    if (!(c->chain = tls_pem_certs(o->chain_pem, name, err)))
        return E_INVALID;
    c->leaf = sk_X509_shift(c->chain);
    if (!(c->info = tls_cert_info_from_x509(c->leaf, err))) {
        error_prefix(err, "%s: ", name);
        return E_INVALID;
    }
    if (!(c->key = load_key(o, name, err)))
        return E_INVALID;
    c->type = EVP_PKEY_get_base_id(c->key);
    if (X509_check_private_key(c->leaf, c->key) != 1) {
        ERR_clear_error();
        return error_set(err, E_INVALID,
                         "%s: the private key does not match the certificate \"%.*s\"", name,
                         SV_ARG(sv_first(c->info->subject, 300)));
    }
    if (!tls_key_acceptable(c->key))
        return error_set(err, E_INVALID,
                         "%s: the key is not accepted: RSA from 2048 to 8192 bits, P-256, P-384, "
                         "P-521 or Ed25519 are",
                         name);
    return 0;
}

void tls_own_cert_fini(struct tls_own_cert *c)
{
    X509_free(c->leaf);
    sk_X509_pop_free(c->chain, X509_free);
    EVP_PKEY_free(c->key);
    tls_cert_info_unref(c->info);
    memset(c, 0, sizeof *c);
}

/* 2: one of its names is exactly this host, 1: a wildcard of it stands for the host. */
static int fits(const struct tls_own_cert *c, sv host)
{
    int best = 0;
    for (uint32_t i = 0; i < c->info->n_sans && best < 2; i++) {
        const struct tls_san *s = &c->info->sans[i];
        if (s->type != TLS_SAN_DNS || !tls_dns_name_match(host, s->value))
            continue;
        best = s->value.p[0] == '*' ? 1 : 2;
    }
    return best;
}

/* Gives the SSL the best certificate of each key type for the name that was asked for; OpenSSL then
 * takes the type that the client's algorithms allow. No name or no match: the first ones. */
int tls_cert_select(SSL *ssl, void *arg)
{
    const struct tls_base *ctx = arg;
    struct tls_handshake *hs = SSL_get_app_data(ssl);
    int best = 0;
    if (!hs->sni)
        return 1;
    for (size_t i = 0; i < ctx->n_certs; i++) {
        int f = fits(&ctx->certs[i], sv_of(hs->sni));
        best = f > best ? f : best;
    }
    if (best == 0)
        return 1;
    SSL_certs_clear(ssl);
    for (size_t i = 0; i < ctx->n_certs; i++) {
        const struct tls_own_cert *c = &ctx->certs[i];
        bool first = fits(c, sv_of(hs->sni)) == best;
        for (size_t k = 0; k < i && first; k++)
            first = ctx->certs[k].type != c->type || fits(&ctx->certs[k], sv_of(hs->sni)) != best;
        if (first && SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1) != 1)
            return 0;
    }
    return 1;
}
