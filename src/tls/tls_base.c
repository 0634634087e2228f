#include "tls/tls_priv.h"

#include "base/map.h"
#include "base/mem.h"
#include "tls/tls_opts.h"

static const char DEFAULT_CIPHERS[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
static const char TLS13_SUITES[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char DEFAULT_CURVES[] = "X25519:P-256";

/* ---- algorithms ---- */

static int version_number(enum tls_version v, int dflt)
{
    static const int n[] = {0, TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
    return v == TLS_VERSION_AUTO ? dflt : n[v];
}

static int set_versions(struct tls_base *c, const struct tls_ctx_opts *o, struct error *err)
{
    int min = version_number(o->min_version, TLS1_2_VERSION);
    int max = version_number(o->max_version, TLS1_3_VERSION);
    if (min > max)
        return error_set(err, E_INVALID,
                         "tls_params: the minimum protocol version is above the maximum");
    SSL_CTX_set_min_proto_version(c->ssl, min);
    SSL_CTX_set_max_proto_version(c->ssl, max);
    return 0;
}

/* Names of a list joined with ':'; each is tried alone, since OpenSSL passes over unknown ones (on
 * the context itself, whose lists are set afterwards: another one costs a tenth of a ms). */
static int join_names(struct tls_base *c, const sv *names, size_t n, const char *what,
                      int (*try_one)(SSL_CTX *, const char *), struct strbuf *out,
                      struct error *err)
{
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        sv left = names[i];
        while (left.n && code == 0) { /* "[A|B]": equal preference; here in this order */
            size_t k = 0;
            char one[128];
            while (left.n && strchr("[]|:", left.p[0]))
                left = sv_from(left, 1);
            while (k < left.n && !strchr("[]|:", left.p[k]))
                k++;
            if (k == 0)
                break;
            snprintf(one, sizeof one, "%.*s", (int)k, left.p);
            left = sv_from(left, k);
            ERR_clear_error();
            if (k >= sizeof one || try_one(c->ssl, one) != 1)
                code =
                    error_set(err, E_UNSUPPORTED, "tls_params: %s \"%s\" is not known", what, one);
            if (out->n)
                strbuf_add_ch(out, ':');
            strbuf_add_c(out, one);
        }
    }
    ERR_clear_error();
    return code;
}

static int try_cipher(SSL_CTX *c, const char *name)
{
    return SSL_CTX_set_cipher_list(c, name);
}

static int try_curve(SSL_CTX *c, const char *name)
{
    return (int)SSL_CTX_set1_groups_list(c, name);
}

static int try_sigalg(SSL_CTX *c, const char *name)
{
    return (int)SSL_CTX_set1_sigalgs_list(c, name);
}

static int set_algorithms(struct tls_base *c, const struct tls_ctx_opts *o, struct error *err)
{
    struct strbuf list;
    strbuf_init(&list, 16384);
    int code = join_names(c, o->ciphers, o->n_ciphers, "cipher suite", try_cipher, &list, err);
    if (code == 0) {
        if (list.n == 0)
            strbuf_add_c(&list, DEFAULT_CIPHERS);
        /* TLS 1.0 and 1.1 need SHA-1, which OpenSSL 3 only has at level 0. */
        if (version_number(o->min_version, TLS1_2_VERSION) < TLS1_2_VERSION)
            strbuf_add_c(&list, ":@SECLEVEL=0");
        SSL_CTX_set_cipher_list(c->ssl, list.p);
        SSL_CTX_set_ciphersuites(c->ssl, TLS13_SUITES);
        strbuf_reset(&list);
        code = join_names(c, o->curves, o->n_curves, "curve", try_curve, &list, err);
    }
    if (code == 0) {
        SSL_CTX_set1_groups_list(c->ssl, list.n ? list.p : (char *)(uintptr_t)DEFAULT_CURVES);
        strbuf_reset(&list);
        code =
            join_names(c, o->sigalgs, o->n_sigalgs, "signature algorithm", try_sigalg, &list, err);
    }
    if (code == 0 && list.n) {
        SSL_CTX_set1_sigalgs_list(c->ssl, list.p);
        SSL_CTX_set1_client_sigalgs_list(c->ssl, list.p);
    }
    strbuf_fini(&list);
    ERR_clear_error();
    return code;
}

/* ---- ALPN and SNI ---- */

static int set_alpn(struct tls_base *c, const struct tls_ctx_opts *o, struct error *err)
{
    struct strbuf wire;
    strbuf_init(&wire, 8192);
    for (size_t i = 0; i < o->n_alpn; i++) {
        if (o->alpn[i].n == 0 || o->alpn[i].n > 255) {
            strbuf_fini(&wire);
            return error_set(err, E_INVALID, "alpn_protocols[%zu]: must have 1 to 255 bytes", i);
        }
        strbuf_add_ch(&wire, (char)o->alpn[i].n);
        strbuf_add_sv(&wire, o->alpn[i]);
    }
    if (wire.overflow) {
        strbuf_fini(&wire);
        return error_set(err, E_LIMIT, "alpn_protocols: longer than 8192 bytes");
    }
    c->alpn_n = (unsigned)wire.n;
    c->alpn = (unsigned char *)strbuf_steal(&wire, NULL);
    if (!c->server && c->alpn_n)
        SSL_CTX_set_alpn_protos(c->ssl, c->alpn, c->alpn_n);
    return 0;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *arg)
{
    const struct tls_base *c = arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_n, c->alpn, c->alpn_n, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int on_sni(SSL *ssl, int *alert, void *arg)
{
    struct tls_handshake *hs = SSL_get_app_data(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    free(hs->sni);
    hs->sni = sv_dup(sv_of(name));
    for (char *p = hs->sni; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + ('a' - 'A'));
    return SSL_TLSEXT_ERR_OK;
}

/* ---- certificates and trust ---- */

static void show(struct tls_base *c, X509 *x)
{
    struct tls_cert_info *info = tls_cert_info_from_x509(x, NULL);
    if (!info)
        return;
    c->shown = mem_realloc(c->shown, sizeof *c->shown * (c->n_shown + 1));
    c->shown[c->n_shown++] = info;
}

static int load_certs(struct tls_base *c, const struct tls_ctx_opts *o, struct error *err)
{
    if (o->server && o->n_certs == 0)
        return error_set(err, E_INVALID, "a TLS server needs a certificate and there is none");
    c->certs = mem_array(struct tls_own_cert, o->n_certs + 1);
    for (size_t i = 0; i < o->n_certs; i++) {
        struct tls_own_cert *own = &c->certs[i];
        c->n_certs++;
        int code = tls_own_cert_load(own, &o->certs[i], i, err);
        if (code)
            return code;
        show(c, own->leaf);
        for (int k = 0; k < sk_X509_num(own->chain); k++)
            show(c, sk_X509_value(own->chain, k));
        bool first_of_type = true;
        for (size_t k = 0; k < i; k++)
            first_of_type = first_of_type && c->certs[k].type != own->type;
        ERR_clear_error();
        if (first_of_type &&
            SSL_CTX_use_cert_and_key(c->ssl, own->leaf, own->key, own->chain, 1) != 1)
            return error_set(err, E_TLS, "%s: the certificate cannot be used (%s)",
                             o->certs[i].name ? o->certs[i].name : "tls_certificates",
                             tls_openssl_reason());
    }
    if (o->server && o->n_certs > 1)
        SSL_CTX_set_cert_cb(c->ssl, tls_cert_select, c);
    return 0;
}

static int load_cas(struct tls_base *c, const struct tls_validation *v, const char *name,
                    struct error *err)
{
    STACK_OF(X509) *certs = tls_pem_certs(v->ca_pem, name, err);
    if (!certs)
        return E_INVALID;
    X509_STORE *store = SSL_CTX_get_cert_store(c->ssl);
    int n = sk_X509_num(certs);
    c->cas = mem_array(struct tls_cert_info *, n);
    for (int i = 0; i < n; i++) {
        X509 *x = sk_X509_value(certs, i);
        X509_STORE_add_cert(store, x);
        if (c->server)
            SSL_CTX_add_client_CA(c->ssl, x);
        struct tls_cert_info *info = tls_cert_info_from_x509(x, NULL);
        if (info)
            c->cas[c->n_cas++] = info;
    }
    /* As Envoy: an intermediate that is trusted is an anchor of its own. */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    return 0;
}

static int load_crls(struct tls_base *c, const struct tls_validation *v, const char *name,
                     struct error *err)
{
    STACK_OF(X509_CRL) *crls = tls_pem_crls(v->crl_pem, name, err);
    if (!crls)
        return E_INVALID;
    X509_STORE *store = SSL_CTX_get_cert_store(c->ssl);
    for (int i = 0; i < sk_X509_CRL_num(crls); i++)
        X509_STORE_add_crl(store, sk_X509_CRL_value(crls, i));
    X509_STORE_set_flags(store, v->only_leaf_crl
                                    ? X509_V_FLAG_CRL_CHECK
                                    : X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
    ERR_clear_error();
    return 0;
}

static int load_trust(struct tls_base *c, const struct tls_ctx_opts *o, bool active,
                      struct error *err)
{
    const struct tls_validation *v = o->validation;
    const char *name = v && v->name ? v->name : "validation_context";
    int code = v && v->ca_pem.n ? load_cas(c, v, name, err) : 0;
    if (code == 0 && v && v->crl_pem.n)
        code = load_crls(c, v, name, err);
    int mode = SSL_VERIFY_NONE;
    if (!o->server && active)
        mode = SSL_VERIFY_PEER;
    if (o->server && o->client_auth == TLS_CLIENT_OPTIONAL)
        mode = SSL_VERIFY_PEER;
    if (o->server && o->client_auth == TLS_CLIENT_REQUIRE)
        mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(c->ssl, mode, NULL);
    SSL_CTX_set_verify_depth(c->ssl, v && v->max_depth ? (int)v->max_depth : 100);
    SSL_CTX_set_cert_verify_callback(c->ssl, tls_verify_peer, NULL);
    return code;
}

static void set_options(struct tls_base *c, const struct tls_ctx_opts *o)
{
    SSL_CTX_set_options(c->ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    if (o->server && !o->prefer_client_ciphers)
        SSL_CTX_set_options(c->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_NO_AUTO_CHAIN);
    if (c->server) {
        SSL_CTX_set_tlsext_servername_callback(c->ssl, on_sni);
        if (c->alpn_n)
            SSL_CTX_set_alpn_select_cb(c->ssl, on_alpn, c);
    }
}

/* ---- life ---- */

static void base_free(struct tls_base *c)
{
    SSL_CTX_free(c->ssl);
    for (size_t i = 0; i < c->n_certs; i++)
        tls_own_cert_fini(&c->certs[i]);
    for (size_t i = 0; i < c->n_shown; i++)
        tls_cert_info_unref(c->shown[i]);
    for (size_t i = 0; i < c->n_cas; i++)
        tls_cert_info_unref(c->cas[i]);
    free(c->certs);
    free(c->shown);
    free(c->cas);
    free(c->alpn);
    free(c);
}

static struct tls_base *base_make(const struct tls_ctx_opts *o, bool active, struct error *err)
{
    struct tls_base *c = mem_new(struct tls_base);
    refcount_init(&c->ref);
    c->server = o->server;
    c->ssl = SSL_CTX_new(o->server ? TLS_server_method() : TLS_client_method());
    if (!c->ssl || set_versions(c, o, err) || set_algorithms(c, o, err) || load_certs(c, o, err) ||
        load_trust(c, o, active, err) || set_alpn(c, o, err)) {
        if (!c->ssl)
            error_set(err, E_TLS, "no TLS context could be made (%s)", tls_openssl_reason());
        base_free(c);
        return NULL;
    }
    set_options(c, o);
    tls_session_setup(c, o);
    return c;
}

/* ---- sharing ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the table, and of giving up bases */
static struct map shared;                                /* key -> base, without a reference */

static void hash_list(EVP_MD_CTX *md, const sv *v, size_t n)
{
    EVP_DigestUpdate(md, &n, sizeof n);
    for (size_t i = 0; i < n; i++) {
        EVP_DigestUpdate(md, &v[i].n, sizeof v[i].n);
        EVP_DigestUpdate(md, v[i].p, v[i].n);
    }
}

/* Over all that base_make reads of a client's options. False: not to be shared. */
static bool make_key(const struct tls_ctx_opts *o, bool active, unsigned char key[32])
{
    static const struct tls_validation nothing;
    const struct tls_validation *v = o->validation ? o->validation : &nothing;
    if (o->server)
        return false;
    for (size_t i = 0; i < o->n_certs; i++)
        if (!o->certs[i].key)
            return false;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    EVP_DigestUpdate(md, &o->n_certs, sizeof o->n_certs);
    for (size_t i = 0; i < o->n_certs; i++) {
        unsigned char one[32];
        tls_cert_opts_hash(&o->certs[i], one);
        EVP_DigestUpdate(md, one, sizeof one);
    }
    const sv trust[] = {v->ca_pem, v->crl_pem};
    const uint32_t numbers[] = {active,
                                v->only_leaf_crl,
                                v->max_depth,
                                (uint32_t)o->min_version,
                                (uint32_t)o->max_version,
                                o->max_session_keys > 0};
    EVP_DigestUpdate(md, numbers, sizeof numbers);
    hash_list(md, trust, 2);
    hash_list(md, o->alpn, o->n_alpn);
    hash_list(md, o->ciphers, o->n_ciphers);
    hash_list(md, o->curves, o->n_curves);
    hash_list(md, o->sigalgs, o->n_sigalgs);
    EVP_DigestFinal_ex(md, key, NULL);
    EVP_MD_CTX_free(md);
    return true;
}

struct tls_base *tls_base_get(const struct tls_ctx_opts *o, bool active, struct error *err)
{
    unsigned char key[32];
    if (!make_key(o, active, key))
        return base_make(o, active, err);
    sv name = sv_make((const char *)key, sizeof key);
    pthread_mutex_lock(&lock);
    struct tls_base *c = map_get(&shared, name);
    if (c) {
        refcount_get(&c->ref);
    } else if ((c = base_make(o, active, err))) {
        memcpy(c->key, key, sizeof key);
        c->shared = true;
        if (map_len(&shared) == 0)
            map_init_borrow(&shared);
        map_put(&shared, sv_make((const char *)c->key, sizeof c->key), c);
    }
    pthread_mutex_unlock(&lock);
    return c;
}

void tls_base_unref(struct tls_base *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&lock);
    bool last = refcount_put(&c->ref);
    if (last && c->shared) {
        map_del(&shared, sv_make((const char *)c->key, sizeof c->key));
        if (map_len(&shared) == 0)
            map_fini(&shared);
    }
    pthread_mutex_unlock(&lock);
    if (last)
        base_free(c);
}
