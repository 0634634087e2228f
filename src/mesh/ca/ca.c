#include "mesh/ca/ca.h"

#include "base/mem.h"
#include "mesh/ca/ca_files.h"
#include "mesh/ca/ca_internal.h"
#include "tls/spiffe.h"

/* ---- loading ---- */

struct chain_builder {
    struct strbuf *out;
    const struct ca_state *st;
};

/* The chain is what lies between leaf and roots: not the roots, and nothing twice. */
static void add_unless_root(void *arg, struct tls_cert_info *c)
{
    struct chain_builder *b = arg;
    bool signer = sv_eq(c->sha256, tls_signer_info(b->st->signer)->sha256);
    if (!signer && !sv_eq(c->subject, c->issuer))
        tls_cert_info_pem(c, b->out);
}

static int build_chain(struct ca_state *st, const struct ca_files *f, struct error *err)
{
    const struct tls_cert_info *signer = tls_signer_info(st->signer);
    struct chain_builder b = {&st->chain, st};
    if (!sv_eq(signer->subject, signer->issuer))
        tls_cert_info_pem(signer, &st->chain);
    if (f->chain.n == 0)
        return 0;
    int code = tls_cert_each(strbuf_sv(&f->chain), add_unless_root, &b, err);
    if (code)
        error_prefix(err, "CA: cert-chain.pem: ");
    return code;
}

/* Does what is handed out lead to what is trusted? */
static int check_chain(const struct ca_state *st, const struct ca_files *f, int64_t now_s,
                       struct error *err)
{
    struct strbuf all;
    strbuf_init(&all, 2 * CA_FILE_MAX);
    strbuf_add_sv(&all, strbuf_sv(&f->cert));
    strbuf_add_ch(&all, '\n');
    strbuf_add_sv(&all, strbuf_sv(&st->chain));
    int code = tls_cert_verify_chain(strbuf_sv(&all), strbuf_sv(&f->root), now_s, err);
    if (code)
        error_prefix(err, "CA: ca-cert.pem: ");
    strbuf_fini(&all);
    return code;
}

static void state_free(struct ca_state *st)
{
    if (!st)
        return;
    tls_signer_free(st->signer);
    strbuf_fini(&st->roots);
    strbuf_fini(&st->chain);
    tls_wipe(st->token_key, sizeof st->token_key);
    free(st);
}

static int state_fill(struct ca_state *st, const struct ca_files *f, const struct ca *ca,
                      int64_t now_s, struct error *err)
{
    struct tls_key *key = tls_key_from_pem(strbuf_sv(&f->key), sv_make(NULL, 0), err);
    if (!key) {
        error_prefix(err, "CA: ca-key.pem: ");
        return E_INVALID;
    }
    st->signer = tls_signer_new(strbuf_sv(&f->cert), key, err);
    int code = st->signer ? ca_token_key(key, st->token_key) : E_INVALID;
    tls_key_unref(key);
    if (code)
        return E_INVALID;
    code = build_chain(st, f, err);
    if (code == 0)
        code = check_chain(st, f, now_s, err);
    strbuf_add_sv(&st->roots, strbuf_sv(&f->root));
    if (st->roots.n && st->roots.p[st->roots.n - 1] != '\n')
        strbuf_add_ch(&st->roots, '\n');
    strbuf_add_sv(&st->roots, strbuf_sv(&ca->extra_roots));
    return code;
}

static struct ca_state *state_new(const struct ca_files *f, const struct ca *ca, int64_t now_s,
                                  struct error *err)
{
    struct ca_state *st = mem_new(struct ca_state);
    strbuf_init(&st->roots, 2 * CA_FILE_MAX);
    strbuf_init(&st->chain, CA_FILE_MAX);
    if (state_fill(st, f, ca, now_s, err) == 0)
        return st;
    state_free(st);
    return NULL;
}

/* ---- making a root ---- */

struct maker {
    const struct ca *ca;
    int64_t now_s;
};

static int make_root(struct ca_files *f, void *arg, struct error *err)
{
    const struct maker *m = arg;
    struct tls_key *key = tls_key_generate(TLS_KEY_EC_P256, err);
    if (!key)
        return E_TLS;
    struct ca_files empty;
    ca_files_init(&empty);
    ca_files_fini(f);
    *f = empty;
    size_t n;
    char *pem = tls_key_to_pem(key, &n);
    strbuf_add(&f->key, pem, n);
    tls_key_pem_free(pem, n);
    int code = tls_cert_make_root(key, strbuf_sv(&m->ca->trust_domain), sv_make(NULL, 0), m->now_s,
                                  m->ca->root_ttl_s, &f->cert, err);
    strbuf_add_sv(&f->root, strbuf_sv(&f->cert));
    tls_key_unref(key);
    return code;
}

/* ---- life ---- */

static int check_extra_roots(const struct ca_opts *o, struct error *err)
{
    int code =
        o->extra_roots_pem.n ? tls_cert_each(o->extra_roots_pem, ca_ignore_cert, NULL, err) : 0;
    if (code)
        error_prefix(err, "CA: additional roots: ");
    return code;
}

void ca_ignore_cert(void *arg, struct tls_cert_info *c)
{
}

static int set_options(struct ca *ca, const struct ca_opts *o, struct error *err)
{
    sv td = o->trust_domain.n ? o->trust_domain : SV("cluster.local");
    ca->dir = sv_dup(sv_of(o->dir));
    ca->max_ttl_s = o->max_ttl_s > 0 && o->max_ttl_s < CA_MAX_TTL_S ? o->max_ttl_s : CA_MAX_TTL_S;
    ca->default_ttl_s = o->default_ttl_s > 0 ? o->default_ttl_s : CA_DEFAULT_TTL_S;
    if (ca->default_ttl_s > ca->max_ttl_s)
        ca->default_ttl_s = ca->max_ttl_s;
    ca->root_ttl_s = o->root_ttl_s > 0 ? o->root_ttl_s : CA_ROOT_TTL_S;
    strbuf_init(&ca->trust_domain, 512);
    strbuf_init(&ca->extra_roots, CA_FILE_MAX);
    strbuf_add_sv(&ca->trust_domain, td);
    strbuf_add_sv(&ca->extra_roots, o->extra_roots_pem);
    if (!spiffe_trust_domain_ok(td))
        return error_set(err, E_INVALID, "CA: \"%.*s\" is no SPIFFE trust domain",
                         SV_ARG(sv_first(td, 255)));
    return check_extra_roots(o, err);
}

struct ca *ca_open(const struct ca_opts *o, int64_t now_s, struct error *err)
{
    struct ca *ca = mem_new(struct ca);
    struct ca_files f;
    ca_files_init(&f);
    if (set_options(ca, o, err) == 0 &&
        ca_files_create(&f, o->dir, make_root, &(struct maker){ca, now_s}, err) == 0)
        ca->state = state_new(&f, ca, now_s, err);
    ca_files_fini(&f);
    if (ca->state)
        return ca;
    ca_close(ca);
    return NULL;
}

void ca_close(struct ca *ca)
{
    if (!ca)
        return;
    state_free(ca->state);
    strbuf_fini(&ca->trust_domain);
    strbuf_fini(&ca->extra_roots);
    free(ca->dir);
    free(ca);
}

int ca_reload(struct ca *ca, int64_t now_s, struct error *err)
{
    struct ca_files f;
    ca_files_init(&f);
    int code = ca_files_read(&f, ca->dir, err);
    if (code == E_NOT_FOUND)
        error_set(err, code, "CA: %s no longer holds a CA", ca->dir);
    struct ca_state *st = code ? NULL : state_new(&f, ca, now_s, err);
    ca_files_fini(&f);
    if (!st)
        return code ? code : E_INVALID;
    state_free(ca->state);
    ca->state = st;
    return 0;
}

/* ---- asking ---- */

sv ca_trust_domain(const struct ca *ca)
{
    return strbuf_sv(&ca->trust_domain);
}

sv ca_roots_pem(const struct ca *ca)
{
    return strbuf_sv(&ca->state->roots);
}

sv ca_chain_pem(const struct ca *ca)
{
    return strbuf_sv(&ca->state->chain);
}

const struct tls_cert_info *ca_info(const struct ca *ca)
{
    return tls_signer_info(ca->state->signer);
}

bool ca_is_self_made(const struct ca *ca)
{
    const struct tls_cert_info *i = ca_info(ca);
    return sv_eq(i->subject, i->issuer);
}

int ca_identity_uri(const struct ca *ca, const struct ca_identity *who, struct strbuf *out)
{
    return spiffe_format(ca_trust_domain(ca), sv_of(who->ns), sv_of(who->sa), out);
}

/* ---- signing ---- */

static int check_names(const struct tls_csr *csr, sv uri, struct error *err)
{
    size_t n;
    const struct tls_san *sans = tls_csr_sans(csr, &n);
    for (size_t i = 0; i < n; i++)
        if (sans[i].type != TLS_SAN_URI || !sv_eq(sans[i].value, uri))
            return error_set(
                err, E_DENIED, "the request asks for the name %s \"%.*s\", but the caller is %.*s",
                tls_san_type_name(sans[i].type), SV_ARG(sv_first(sans[i].value, 300)), SV_ARG(uri));
    if (tls_csr_is_ca(csr))
        return error_set(err, E_DENIED, "the request asks for the certificate of an authority");
    return 0;
}

static int bound_ttl(const struct ca *ca, int64_t ttl_s, int64_t *out, struct error *err)
{
    if (ttl_s < 0)
        return error_set(err, E_INVALID, "the validity asked for is negative");
    if (ttl_s > ca->max_ttl_s)
        return error_set(err, E_LIMIT,
                         "the validity asked for (%lld s) is longer than the CA allows (%lld s)",
                         (long long)ttl_s, (long long)ca->max_ttl_s);
    *out = ttl_s ? ttl_s : ca->default_ttl_s;
    return 0;
}

int ca_sign(const struct ca *ca, sv csr_pem, const struct ca_identity *who, int64_t ttl_s,
            int64_t now_s, struct strbuf *out_pem, int64_t *not_after_s, struct error *err)
{
    struct strbuf uri;
    strbuf_init(&uri, 4096);
    struct tls_csr *csr = NULL;
    int64_t ttl = 0;
    int code = bound_ttl(ca, ttl_s, &ttl, err);
    if (code == 0 && ca_identity_uri(ca, who, &uri))
        code = error_set(err, E_INVALID, "\"%s/%s\" is no identity", who->ns, who->sa);
    if (code == 0 && !(csr = tls_csr_parse(csr_pem, err)))
        code = E_INVALID;
    if (code == 0)
        code = check_names(csr, strbuf_sv(&uri), err);
    if (code == 0) {
        struct tls_san san = {TLS_SAN_URI, strbuf_sv(&uri)};
        struct tls_leaf leaf = {.sans = &san, .n_sans = 1, .now_s = now_s, .ttl_s = ttl};
        code = tls_cert_sign(ca->state->signer, csr, &leaf, out_pem, not_after_s, err);
    }
    tls_csr_free(csr);
    strbuf_fini(&uri);
    return code;
}

int ca_issue(const struct ca *ca, struct tls_key *key, const struct tls_san *sans, size_t n_sans,
             int64_t ttl_s, int64_t now_s, struct strbuf *out, struct error *err)
{
    struct tls_leaf leaf = {.sans = sans, .n_sans = n_sans, .now_s = now_s, .ttl_s = ttl_s};
    int code = tls_cert_sign_key(ca->state->signer, key, &leaf, out, NULL, err);
    if (code == 0)
        strbuf_add_sv(out, strbuf_sv(&ca->state->chain));
    return code;
}
