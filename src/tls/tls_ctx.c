#include "tls/tls_priv.h"

#include "base/mem.h"

/* ---- the hash over everything that decides what is proved and accepted ---- */

struct hasher {
    EVP_MD_CTX *md;
};

static void hash_sv(struct hasher *h, sv v)
{
    uint64_t n = v.n;
    EVP_DigestUpdate(h->md, &n, sizeof n);
    EVP_DigestUpdate(h->md, v.p, v.n);
}

static void hash_num(struct hasher *h, uint64_t v)
{
    EVP_DigestUpdate(h->md, &v, sizeof v);
}

static void hash_list(struct hasher *h, const sv *v, size_t n)
{
    hash_num(h, n);
    for (size_t i = 0; i < n; i++)
        hash_sv(h, v[i]);
}

static void hash_validation(struct hasher *h, const struct tls_validation *v)
{
    hash_num(h, v != NULL);
    if (!v)
        return;
    hash_sv(h, v->ca_pem);
    hash_sv(h, v->crl_pem);
    hash_num(h, v->only_leaf_crl);
    hash_num(h, v->n_sans);
    for (size_t i = 0; i < v->n_sans; i++) {
        hash_num(h, v->sans[i].type);
        hash_num(h, v->sans[i].kind);
        hash_num(h, v->sans[i].ignore_case);
        hash_sv(h, v->sans[i].value);
    }
    hash_list(h, v->spki_pins, v->n_spki_pins);
    hash_list(h, v->cert_hashes, v->n_cert_hashes);
    hash_num(h, v->max_depth);
    hash_num(h, (uint64_t)v->allow_expired << 1 | v->accept_untrusted);
}

static void hash_options(struct tls_ctx *c, const struct tls_ctx_opts *o)
{
    struct hasher h = {EVP_MD_CTX_new()};
    unsigned char md[32];
    EVP_DigestInit_ex(h.md, EVP_sha256(), NULL);
    hash_num(&h, o->server);
    hash_num(&h, c->base->n_shown);
    for (size_t i = 0; i < c->base->n_shown; i++)
        hash_sv(&h, c->base->shown[i]->sha256);
    hash_validation(&h, o->validation);
    hash_num(&h, o->client_auth);
    hash_list(&h, o->alpn, o->n_alpn);
    hash_num(&h, o->min_version);
    hash_num(&h, o->max_version);
    hash_list(&h, o->ciphers, o->n_ciphers);
    hash_list(&h, o->curves, o->n_curves);
    hash_list(&h, o->sigalgs, o->n_sigalgs);
    hash_num(&h, o->prefer_client_ciphers);
    hash_sv(&h, o->sni);
    EVP_DigestFinal_ex(h.md, md, NULL);
    EVP_MD_CTX_free(h.md);
    for (int i = 0; i < 32; i++)
        snprintf(c->hash + 2 * i, 3, "%02x", md[i]);
}

/* ---- life ---- */

static int check_ticket_keys(const struct tls_ctx_opts *o, struct error *err)
{
    for (size_t i = 0; i < o->n_ticket_keys; i++)
        if (o->ticket_keys[i].n != TLS_TICKET_KEY)
            return error_set(err, E_INVALID,
                             "session_ticket_keys.keys[%zu]: has %zu bytes and must have %d", i,
                             o->ticket_keys[i].n, TLS_TICKET_KEY);
    return 0;
}

static int init_verifier(struct tls_ctx *c, const struct tls_ctx_opts *o, struct error *err)
{
    const struct tls_validation *v = o->validation;
    int code = tls_verifier_init(&c->verify, v, err);
    if (code == 0 && o->server && o->client_auth != TLS_CLIENT_NONE &&
        !tls_verifier_active(&c->verify) && !c->verify.accept_untrusted)
        code =
            error_set(err, E_INVALID,
                      "%s: client certificates are asked for, but nothing says which are trusted",
                      v && v->name ? v->name : "validation_context");
    return code;
}

static void copy_ticket_keys(struct tls_ctx *c, const struct tls_ctx_opts *o)
{
    if (!o->server || o->no_stateless_resumption || !o->n_ticket_keys)
        return;
    c->n_ticket_keys = o->n_ticket_keys;
    c->ticket_keys = mem_alloc(TLS_TICKET_KEY * o->n_ticket_keys);
    for (size_t i = 0; i < o->n_ticket_keys; i++)
        memcpy(c->ticket_keys + i * TLS_TICKET_KEY, o->ticket_keys[i].p, TLS_TICKET_KEY);
}

struct tls_ctx *tls_ctx_new(const struct tls_ctx_opts *o, struct error *err)
{
    struct tls_ctx *c = mem_new(struct tls_ctx);
    refcount_init(&c->ref);
    c->server = o->server;
    tls_sessions_init(&c->sessions, o->server ? 0 : o->max_session_keys);
    if (check_ticket_keys(o, err) || init_verifier(c, o, err) ||
        !(c->base = tls_base_get(o, tls_verifier_active(&c->verify), err))) {
        tls_ctx_unref(c);
        return NULL;
    }
    if (o->sni.n)
        c->sni = sv_dup(o->sni);
    copy_ticket_keys(c, o);
    hash_options(c, o);
    if (c->server)
        SSL_CTX_set_session_id_context(c->base->ssl, (const unsigned char *)c->hash, 32);
    return c;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *c)
{
    if (c)
        refcount_get(&c->ref);
    return c;
}

void tls_ctx_unref(struct tls_ctx *c)
{
    if (!c || !refcount_put(&c->ref))
        return;
    tls_verifier_fini(&c->verify);
    tls_sessions_fini(&c->sessions); /* before the library's context, which they point to */
    tls_base_unref(c->base);
    tls_wipe(c->ticket_keys, c->n_ticket_keys * TLS_TICKET_KEY);
    free(c->ticket_keys);
    free(c->sni);
    free(c);
}

bool tls_ctx_is_server(const struct tls_ctx *c)
{
    return c->server;
}

sv tls_ctx_hash(const struct tls_ctx *c)
{
    return sv_make(c->hash, 64);
}

size_t tls_ctx_n_certs(const struct tls_ctx *c)
{
    return c->base->n_shown;
}

const struct tls_cert_info *tls_ctx_cert(const struct tls_ctx *c, size_t i)
{
    return c->base->shown[i];
}

size_t tls_ctx_n_cas(const struct tls_ctx *c)
{
    return c->base->n_cas;
}

const struct tls_cert_info *tls_ctx_ca(const struct tls_ctx *c, size_t i)
{
    return c->base->cas[i];
}

int64_t tls_ctx_expires_s(const struct tls_ctx *c)
{
    int64_t min = INT64_MAX;
    for (size_t i = 0; i < c->base->n_shown; i++)
        if (c->base->shown[i]->not_after_s < min)
            min = c->base->shown[i]->not_after_s;
    for (size_t i = 0; i < c->base->n_cas; i++)
        if (c->base->cas[i]->not_after_s < min)
            min = c->base->cas[i]->not_after_s;
    return min;
}
