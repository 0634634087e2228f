#include "tls/tls_opts.h"

#include "base/mem.h"
#include "tls/tls_native.h"

static sv *copy_list(struct arena *a, const sv *v, size_t n)
{
    sv *out = arena_array(a, sv, n + 1);
    for (size_t i = 0; i < n; i++)
        out[i] = arena_sv(a, v[i]);
    return out;
}

static void drop_key(void *key)
{
    tls_key_unref(key);
}

static void drop_regex(void *regex)
{
    struct tls_regex *r = regex;
    if (refcount_put(&r->ref))
        r->free(r);
}

int tls_cert_opts_copy(struct arena *a, struct tls_cert_opts *to, const struct tls_cert_opts *from,
                       struct error *err)
{
    struct tls_key *key = NULL;
    if (from->key)
        key = tls_key_ref(from->key);
    else if (from->key_pem.n) {
        EVP_PKEY *p = tls_pem_key(from->key_pem, from->key_password,
                                  from->name ? from->name : "tls_certificate", err);
        if (!p)
            return E_INVALID;
        key = tls_key_wrap(p);
    }
    if (key)
        arena_on_free(a, drop_key, key);
    *to = (struct tls_cert_opts){
        .chain_pem = arena_sv(a, from->chain_pem),
        .key = key,
        .name = from->name ? arena_cstr(a, sv_of(from->name)) : NULL,
    };
    return 0;
}

static struct tls_san_match *copy_sans(struct arena *a, const struct tls_san_match *s, size_t n)
{
    struct tls_san_match *out = arena_array(a, struct tls_san_match, n + 1);
    for (size_t i = 0; i < n; i++) {
        out[i] = s[i];
        out[i].value = arena_sv(a, s[i].value);
        if (s[i].regex) {
            refcount_get(&s[i].regex->ref);
            arena_on_free(a, drop_regex, s[i].regex);
        }
    }
    return out;
}

void tls_validation_copy(struct arena *a, struct tls_validation *to,
                         const struct tls_validation *from)
{
    *to = *from;
    to->ca_pem = arena_sv(a, from->ca_pem);
    to->crl_pem = arena_sv(a, from->crl_pem);
    to->sans = copy_sans(a, from->sans, from->n_sans);
    to->spki_pins = copy_list(a, from->spki_pins, from->n_spki_pins);
    to->cert_hashes = copy_list(a, from->cert_hashes, from->n_cert_hashes);
    to->name = from->name ? arena_cstr(a, sv_of(from->name)) : NULL;
}

int tls_ctx_opts_copy(struct arena *a, struct tls_ctx_opts *to, const struct tls_ctx_opts *from,
                      struct error *err)
{
    *to = *from;
    struct tls_cert_opts *certs = arena_array(a, struct tls_cert_opts, from->n_certs + 1);
    for (size_t i = 0; i < from->n_certs; i++) {
        int code = tls_cert_opts_copy(a, &certs[i], &from->certs[i], err);
        if (code)
            return code;
    }
    to->certs = certs;
    if (from->validation) {
        struct tls_validation *v = arena_new(a, struct tls_validation);
        tls_validation_copy(a, v, from->validation);
        to->validation = v;
    }
    to->alpn = copy_list(a, from->alpn, from->n_alpn);
    to->ciphers = copy_list(a, from->ciphers, from->n_ciphers);
    to->curves = copy_list(a, from->curves, from->n_curves);
    to->sigalgs = copy_list(a, from->sigalgs, from->n_sigalgs);
    to->ticket_keys = copy_list(a, from->ticket_keys, from->n_ticket_keys);
    to->sni = arena_sv(a, from->sni);
    return 0;
}

static const sv *join(struct arena *a, const sv *x, size_t n, const sv *y, size_t m)
{
    sv *out = arena_array(a, sv, n + m + 1);
    if (n)
        memcpy(out, x, n * sizeof *x);
    if (m)
        memcpy(out + n, y, m * sizeof *y);
    return out;
}

void tls_validation_merge(struct arena *a, struct tls_validation *to,
                          const struct tls_validation *base, const struct tls_validation *over)
{
    struct tls_san_match *sans =
        arena_array(a, struct tls_san_match, base->n_sans + over->n_sans + 1);
    if (base->n_sans)
        memcpy(sans, base->sans, base->n_sans * sizeof *sans);
    if (over->n_sans)
        memcpy(sans + base->n_sans, over->sans, over->n_sans * sizeof *sans);
    *to = (struct tls_validation){
        .ca_pem = over->ca_pem.n ? over->ca_pem : base->ca_pem,
        .crl_pem = over->crl_pem.n ? over->crl_pem : base->crl_pem,
        .only_leaf_crl = over->only_leaf_crl || base->only_leaf_crl,
        .sans = sans,
        .n_sans = base->n_sans + over->n_sans,
        .spki_pins =
            join(a, base->spki_pins, base->n_spki_pins, over->spki_pins, over->n_spki_pins),
        .n_spki_pins = base->n_spki_pins + over->n_spki_pins,
        .cert_hashes =
            join(a, base->cert_hashes, base->n_cert_hashes, over->cert_hashes, over->n_cert_hashes),
        .n_cert_hashes = base->n_cert_hashes + over->n_cert_hashes,
        .max_depth = over->max_depth ? over->max_depth : base->max_depth,
        .allow_expired = over->allow_expired || base->allow_expired,
        .accept_untrusted = over->accept_untrusted || base->accept_untrusted,
        .name = base->name ? base->name : over->name,
    };
}

/* ---- hashes ---- */

static void add(EVP_MD_CTX *md, const void *p, size_t n)
{
    uint64_t len = n;
    EVP_DigestUpdate(md, &len, sizeof len);
    EVP_DigestUpdate(md, p, n);
}

static void add_sv(EVP_MD_CTX *md, sv v)
{
    add(md, v.p, v.n);
}

void tls_cert_opts_hash(const struct tls_cert_opts *c, unsigned char out[32])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char *der = NULL;
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    add_sv(md, c->chain_pem);
    int n = c->key ? i2d_PUBKEY(tls_key_native(c->key), &der) : 0;
    add(md, der, n > 0 ? (size_t)n : 0);
    OPENSSL_free(der);
    EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
}

void tls_validation_hash(const struct tls_validation *v, unsigned char out[32])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint32_t flags[] = {v->only_leaf_crl, v->max_depth, v->allow_expired, v->accept_untrusted};
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    add_sv(md, v->ca_pem);
    add_sv(md, v->crl_pem);
    add(md, flags, sizeof flags);
    for (size_t i = 0; i < v->n_sans; i++) {
        uint32_t how[] = {v->sans[i].type, v->sans[i].kind, v->sans[i].ignore_case};
        add(md, how, sizeof how);
        add_sv(md, v->sans[i].value);
    }
    add(md, "|", 1);
    for (size_t i = 0; i < v->n_spki_pins; i++)
        add_sv(md, v->spki_pins[i]);
    add(md, "|", 1);
    for (size_t i = 0; i < v->n_cert_hashes; i++)
        add_sv(md, v->cert_hashes[i]);
    EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
}
