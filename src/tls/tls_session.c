#include "tls/tls_priv.h"

#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <time.h>
#include "base/mem.h"

#define SERVER_CACHE 1024 /* sessions of TLS 1.2 clients that have no tickets */
#define CLIENT_MAX   1024

/* ---- client: kept sessions ---- */

void tls_sessions_init(struct tls_sessions *s, uint32_t max)
{
    pthread_mutex_init(&s->lock, NULL);
    s->max = max > CLIENT_MAX ? CLIENT_MAX : max;
    s->n = 0;
    s->slots = s->max ? mem_array(struct tls_session_slot, s->max) : NULL;
}

static void slot_drop(struct tls_sessions *s, uint32_t i)
{
    free(s->slots[i].key);
    SSL_SESSION_free(s->slots[i].session);
    memmove(&s->slots[i], &s->slots[i + 1], sizeof s->slots[0] * (s->n - i - 1));
    s->n--;
}

void tls_sessions_fini(struct tls_sessions *s)
{
    while (s->n)
        slot_drop(s, s->n - 1);
    free(s->slots);
    pthread_mutex_destroy(&s->lock);
}

/* Sessions are only offered for the name and expectation that they were verified for. */
static char *session_key(const struct tls_handshake *hs)
{
    char *key = NULL;
    if (asprintf(&key, "%s\n%s", hs->sni ? hs->sni : "", hs->expect_name ? hs->expect_name : "") <
        0)
        return NULL;
    return key;
}

static bool peer_expired(const SSL_SESSION *session, int64_t now_s)
{
    X509 *peer = SSL_SESSION_get0_peer((SSL_SESSION *)(uintptr_t)session);
    return peer && tls_time_s(X509_get0_notAfter(peer)) < now_s;
}

/* SSL_CTX_sess_set_new_cb: takes the reference when it returns 1. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_handshake *hs = SSL_get_app_data(ssl);
    struct tls_sessions *s = &hs->ctx->sessions;
    char *key = session_key(hs);
    if (!key || !SSL_SESSION_is_resumable(session)) {
        free(key);
        return 0;
    }
    pthread_mutex_lock(&s->lock);
    if (s->n == s->max)
        slot_drop(s, 0);
    s->slots[s->n++] = (struct tls_session_slot){key, session};
    pthread_mutex_unlock(&s->lock);
    return 1;
}

void tls_session_offer(struct tls_ctx *ctx, SSL *ssl, const struct tls_handshake *hs)
{
    struct tls_sessions *s = &ctx->sessions;
    SSL_SESSION *found = NULL;
    SSL_set_session_id_context(ssl, (const unsigned char *)ctx->hash, 32);
    if (s->max == 0)
        return;
    char *key = session_key(hs);
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = s->n; key && i-- > 0 && !found;) {
        if (strcmp(s->slots[i].key, key) != 0)
            continue;
        SSL_SESSION *x = s->slots[i].session;
        bool stale = !ctx->verify.allow_expired && peer_expired(x, hs->now_s);
        if (!stale) {
            found = x;
            SSL_SESSION_up_ref(found);
        }
        /* RFC 8446 C.4: a TLS 1.3 ticket is used once. */
        if (stale || SSL_SESSION_get_protocol_version(x) >= TLS1_3_VERSION)
            slot_drop(s, i);
    }
    pthread_mutex_unlock(&s->lock);
    free(key);
    if (!found)
        return;
    SSL_set_session(ssl, found);
    SSL_SESSION_free(found);
}

/* ---- server: tickets ---- */

static int on_ticket_made(SSL *ssl, void *arg)
{
    return 1;
}

/* A ticket that opens is still refused when the certificate it vouches for has expired. */
static SSL_TICKET_RETURN on_ticket_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                          size_t name_n, SSL_TICKET_STATUS status, void *arg)
{
    const struct tls_handshake *hs = SSL_get_app_data(ssl);
    const struct tls_ctx *ctx = hs->ctx;
    switch (status) {
    case SSL_TICKET_SUCCESS:
    case SSL_TICKET_SUCCESS_RENEW:
        if (!ctx->verify.allow_expired && peer_expired(session, hs->now_s))
            return SSL_TICKET_RETURN_IGNORE_RENEW;
        /* TLS 1.3 tickets are for one use: give the next. */
        return status == SSL_TICKET_SUCCESS && SSL_version(ssl) < TLS1_3_VERSION
                   ? SSL_TICKET_RETURN_USE
                   : SSL_TICKET_RETURN_USE_RENEW;
    case SSL_TICKET_EMPTY:
    case SSL_TICKET_NO_DECRYPT:
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    default:
        return SSL_TICKET_RETURN_IGNORE;
    }
}

static bool ticket_crypto(const unsigned char *key, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int enc)
{
    OSSL_PARAM params[3] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)(key + 16), 32),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key + 48, iv, enc) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* Configured keys: the first seals, all open. -1 error, 0 unknown key, 1 fine, 2 fine but renew. */
static int on_ticket_key(SSL *ssl, unsigned char name[16], unsigned char *iv,
                         EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc)
{
    const struct tls_ctx *ctx = ((struct tls_handshake *)SSL_get_app_data(ssl))->ctx;
    if (enc) {
        if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
            return -1;
        memcpy(name, ctx->ticket_keys, 16);
        return ticket_crypto(ctx->ticket_keys, iv, cipher, mac, 1) ? 1 : -1;
    }
    for (size_t i = 0; i < ctx->n_ticket_keys; i++) {
        const unsigned char *key = ctx->ticket_keys + i * TLS_TICKET_KEY;
        if (CRYPTO_memcmp(name, key, 16) == 0)
            return !ticket_crypto(key, iv, cipher, mac, 0) ? -1 : i == 0 ? 1 : 2;
    }
    return 0;
}

static void setup_server(struct tls_base *base, const struct tls_ctx_opts *o)
{
    SSL_CTX_set_session_cache_mode(base->ssl, o->no_stateful_resumption ? SSL_SESS_CACHE_OFF
                                                                        : SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_cache_size(base->ssl, SERVER_CACHE);
    SSL_CTX_set_timeout(base->ssl, o->session_timeout_s ? (long)o->session_timeout_s : 7200);
    if (o->no_stateless_resumption) {
        SSL_CTX_set_options(base->ssl, SSL_OP_NO_TICKET);
        /* Otherwise TLS 1.3 would hand out tickets that name a stateful session. */
        if (o->no_stateful_resumption)
            SSL_CTX_set_num_tickets(base->ssl, 0);
        return;
    }
    SSL_CTX_set_num_tickets(base->ssl, 1);
    SSL_CTX_set_session_ticket_cb(base->ssl, on_ticket_made, on_ticket_opened, NULL);
    if (o->n_ticket_keys)
        SSL_CTX_set_tlsext_ticket_key_evp_cb(base->ssl, on_ticket_key);
}

void tls_session_setup(struct tls_base *base, const struct tls_ctx_opts *o)
{
    if (base->server) {
        setup_server(base, o);
        return;
    }
    if (o->max_session_keys == 0) {
        SSL_CTX_set_session_cache_mode(base->ssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(base->ssl, SSL_OP_NO_TICKET);
        return;
    }
    SSL_CTX_set_session_cache_mode(base->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(base->ssl, on_new_session);
}
