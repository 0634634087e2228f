#include "tls/tls_conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include "base/mem.h"
#include "tls/tls_bio.h"
#include "tls/tls_priv.h"

#define RECORD     16384       /* plaintext bytes of a full record */
#define OWN_RECORD 4096        /* a slice from this size on is not copied to share a record */
#define BURST      (64 * 1024) /* ciphertext gathered before it is offered to the lower conn */
#define QUEUE_MAX                                                                                  \
    (256 * 1024) /* more than this unsent: the peer does not read what it asks for                 \
                  */
#define READ_CHUNK  (RECORD + 512)
#define LINGER_MS   5000
#define IDLE_MS     1000 /* record buffers of a connection that does nothing are freed */
#define CHAIN_LIMIT (1u << 20)

enum state {
    WAITING, /* client: the lower conn is not connected yet */
    SHAKING,
    UP,
    DEAD,    /* base.error is set, the owner has yet to close */
    CLOSING, /* the owner is gone; `out` is being flushed */
    CLOSED,
};

struct tls_conn {
    struct conn base; /* first */
    struct conn *lower;
    SSL *ssl;
    struct tls_bio_end io; /* in, out */
    struct tls_handshake hs;
    struct tls_info info;
    struct strbuf error_text;
    char *session_hex;
    struct timer timer; /* start of a client, kick, or end of lingering */
    struct timer idle;
    bool active; /* something was read or written since the idle timer last fired */
    struct deferred freeing;
    enum state state;
    bool lower_eof;   /* the transport ended */
    bool notified;    /* close_notify came */
    bool sent_notify; /* ours was sent */
    bool want_write;  /* the owner waits for CONN_EV_WRITE */
};

static const struct conn_ops OPS;

/* The queue is nearly always empty, and looking costs a fifth of clearing. */
static inline void clear_errors(void)
{
    if (__builtin_expect(ERR_peek_error() != 0, 0))
        ERR_clear_error();
}

static struct tls_conn *self(const struct conn *c)
{
    return container_of(c, struct tls_conn, base);
}

/* ---- ending ---- */

static void free_now(struct deferred *d)
{
    struct tls_conn *t = container_of(d, struct tls_conn, freeing);
    SSL_free(t->ssl);
    buf_reset(&t->io.in);
    buf_reset(&t->io.out);
    if (t->info.peer)
        tls_cert_info_unref((struct tls_cert_info *)(uintptr_t)t->info.peer);
    tls_handshake_fini(&t->hs); /* drops the context, which holds the local certificate */
    strbuf_fini(&t->error_text);
    free(t->session_hex);
    free(t);
}

static void release(struct tls_conn *t, bool reset)
{
    t->state = CLOSED;
    timer_cancel(&t->timer);
    timer_cancel(&t->idle);
    if (reset)
        conn_abort(t->lower);
    else
        conn_close(t->lower);
    loop_defer(t->base.loop, &t->freeing, free_now);
}

static void emit(struct tls_conn *t, unsigned events)
{
    if (t->base.fn && events)
        t->base.fn(&t->base, events, t->base.user);
}

static int die(struct tls_conn *t, int code, sv text)
{
    if (t->base.error == 0) {
        t->base.error = code;
        t->base.error_text = text;
    }
    if (t->state < DEAD)
        t->state = DEAD;
    return t->base.error;
}

static int die_of_lower(struct tls_conn *t)
{
    tls_handshake_say(&t->hs, "the connection under TLS failed: %s",
                      error_text(t->lower->error ? t->lower->error : E_RESET));
    return die(t, t->lower->error ? t->lower->error : E_RESET, t->lower->error_text);
}

/* OpenSSL's queue says why. */
static int die_of_tls(struct tls_conn *t)
{
    if (t->io.overflow) {
        ERR_clear_error();
        tls_handshake_say(&t->hs, "the peer does not read the answers it asks for");
        return die(t, E_LIMIT, SV("TLS_error:|output queue is full:TLS_error_end"));
    }
    if (!tls_error_text(&t->hs, &t->error_text))
        return die(t, E_RESET, sv_make(NULL, 0));
    return die(t, E_TLS, strbuf_sv(&t->error_text));
}

static int die_of_truncation(struct tls_conn *t)
{
    tls_handshake_say(&t->hs, t->state == SHAKING
                                  ? "the peer closed the connection during the TLS handshake"
                                  : "the peer closed the connection without ending TLS, what it "
                                    "sent may be cut");
    return die(t, E_RESET, sv_make(NULL, 0));
}

/* ---- the lower conn ---- */

/* 0, or a negative code when it died. */
static int flush(struct tls_conn *t)
{
    if (t->io.out.len && conn_write(t->lower, &t->io.out) < 0) {
        buf_reset(&t->io.out);
        return die_of_lower(t);
    }
    t->base.writable = t->io.out.len == 0;
    return 0;
}

/* More ciphertext: >0 bytes, E_AGAIN, E_EOF (lower_eof is set), or dead. */
static ssize_t fill(struct tls_conn *t, size_t max)
{
    if (t->lower_eof)
        return E_EOF;
    ssize_t n = conn_read(t->lower, &t->io.in, max);
    if (n == E_EOF)
        t->lower_eof = true;
    else if (n < 0 && n != E_AGAIN)
        return die_of_lower(t);
    return n;
}

static bool may_have_bytes(const struct tls_conn *t)
{
    return t->io.in.len || SSL_pending(t->ssl) > 0 || t->lower_eof || t->notified ||
           t->lower->readable;
}

/* OpenSSL would free and allocate its 33 KB with every record (SSL_MODE_RELEASE_BUFFERS); this way
 * a busy connection keeps them and an idle one has none. */
static void on_idle(struct timer *timer)
{
    struct tls_conn *t = container_of(timer, struct tls_conn, idle);
    if (t->active || !SSL_free_buffers(t->ssl))
        timer_set(&t->idle, IDLE_MS);
    t->active = false;
}

static void touch(struct tls_conn *t)
{
    if (t->active)
        return;
    t->active = true;
    if (!timer_active(&t->idle))
        timer_set(&t->idle, IDLE_MS);
}

/* ---- handshake ---- */

static const char *group_name(SSL *ssl)
{
    switch (SSL_get_negotiated_group(ssl)) {
    case NID_X25519:
        return "X25519";
    case NID_X9_62_prime256v1:
        return "P-256";
    case NID_secp384r1:
        return "P-384";
    case NID_secp521r1:
        return "P-521";
    default:
        return "";
    }
}

/* By the names of RFC 8446, section 4.2.3. */
static const char *sigalg_name(SSL *ssl)
{
    static const struct {
        int type, hash;
        const char *name;
    } all[] = {
        {EVP_PKEY_EC, NID_sha256, "ecdsa_secp256r1_sha256"},
        {EVP_PKEY_EC, NID_sha384, "ecdsa_secp384r1_sha384"},
        {EVP_PKEY_EC, NID_sha512, "ecdsa_secp521r1_sha512"},
        {EVP_PKEY_RSA_PSS, NID_sha256, "rsa_pss_rsae_sha256"},
        {EVP_PKEY_RSA_PSS, NID_sha384, "rsa_pss_rsae_sha384"},
        {EVP_PKEY_RSA_PSS, NID_sha512, "rsa_pss_rsae_sha512"},
        {EVP_PKEY_RSA, NID_sha256, "rsa_pkcs1_sha256"},
        {EVP_PKEY_RSA, NID_sha384, "rsa_pkcs1_sha384"},
        {EVP_PKEY_RSA, NID_sha512, "rsa_pkcs1_sha512"},
    };
    int type, hash;
    if (!SSL_get_peer_signature_type_nid(ssl, &type) || !SSL_get_peer_signature_nid(ssl, &hash))
        return "";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].type == type && all[i].hash == hash)
            return all[i].name;
    return type == EVP_PKEY_ED25519 ? "ed25519" : "";
}

static void fill_session_id(struct tls_conn *t)
{
    unsigned n = 0;
    if (SSL_version(t->ssl) >= TLS1_3_VERSION)
        return;
    const unsigned char *id = SSL_SESSION_get_id(SSL_get_session(t->ssl), &n);
    t->session_hex = mem_alloc(2 * n + 1);
    for (unsigned i = 0; i < n; i++)
        snprintf(t->session_hex + 2 * i, 3, "%02x", id[i]);
    t->info.session_id = sv_make(t->session_hex, 2 * n);
}

static const struct tls_cert_info *local_cert(const struct tls_conn *t)
{
    const X509 *x = SSL_get_certificate(t->ssl);
    for (size_t i = 0; x && i < t->hs.ctx->base->n_certs; i++)
        if (t->hs.ctx->base->certs[i].leaf == x)
            return t->hs.ctx->base->certs[i].info;
    return NULL;
}

/* The peer's certificate: decoded while it was verified, or kept by the session. */
static struct tls_cert_info *take_peer(struct tls_conn *t)
{
    struct tls_cert_info *c = t->hs.peer;
    t->hs.peer = NULL;
    X509 *x = c ? NULL : SSL_get0_peer_certificate(t->ssl);
    return x ? tls_cert_info_from_x509(x, NULL) : c;
}

static void fill_info(struct tls_conn *t)
{
    struct tls_info *i = &t->info;
    const unsigned char *alpn = NULL;
    unsigned alpn_n = 0;
    SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_n);
    i->server = t->hs.ctx->server;
    i->session_reused = SSL_session_reused(t->ssl);
    i->sni = sv_of(t->hs.sni);
    i->alpn = sv_make((const char *)alpn, alpn_n);
    i->version = SSL_get_version(t->ssl);
    i->cipher = SSL_get_cipher_name(t->ssl);
    i->group = group_name(t->ssl);
    i->sigalg = sigalg_name(t->ssl);
    i->peer = take_peer(t);
    i->local = local_cert(t);
    i->peer_validated = i->peer && SSL_get_verify_result(t->ssl) == X509_V_OK &&
                        (tls_verifier_active(&t->hs.ctx->verify) || t->hs.expect_name);
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);
    i->n_chain = chain && sk_X509_num(chain) > 0 ? (uint32_t)sk_X509_num(chain) : 0;
    if (i->server && i->peer)
        i->n_chain++; /* servers do not find the leaf in the chain */
    fill_session_id(t);
}

/* A resumed session vouches for a certificate that was verified earlier. */
static bool resumed_peer_expired(const struct tls_conn *t)
{
    return t->info.session_reused && t->info.peer && !t->hs.ctx->verify.allow_expired &&
           t->info.peer_validated && t->info.peer->not_after_s < t->hs.now_s;
}

static void handshake_done(struct tls_conn *t)
{
    fill_info(t);
    if (resumed_peer_expired(t)) {
        tls_handshake_fail(&t->hs, TLS_FAIL_VERIFY, "verify cert failed: certificate has expired");
        tls_handshake_say(&t->hs, "the peer's certificate has expired since the session was made");
        die(t, E_TLS,
            SV("TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"
               "verify cert failed: certificate has expired:TLS_error_end"));
        emit(t, CONN_EV_ERROR);
        return;
    }
    t->state = UP;
    t->base.tls = &t->info;
    t->base.connected = true;
    t->base.readable = may_have_bytes(t);
    t->want_write = false;
    touch(t);
    emit(t, CONN_EV_CONNECTED | (t->base.readable ? CONN_EV_READ : 0));
}

static void drive(struct tls_conn *t)
{
    for (;;) {
        clear_errors();
        int r = SSL_do_handshake(t->ssl);
        int why = r == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, r);
        if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ) {
            die_of_tls(t);
            flush(t); /* the alert */
            break;
        }
        if (flush(t))
            break;
        if (why == SSL_ERROR_NONE) {
            handshake_done(t);
            return;
        }
        ssize_t n = t->lower->readable || t->lower_eof ? fill(t, READ_CHUNK) : E_AGAIN;
        if (n == E_AGAIN)
            return;
        if (n == E_EOF)
            die_of_truncation(t);
        if (n < 0)
            break;
    }
    emit(t, CONN_EV_ERROR);
}

static void start(struct tls_conn *t)
{
    t->state = SHAKING;
    timer_cancel(&t->timer);
    t->hs.now_s = (int64_t)(loop_wall_ns(t->base.loop) / 1000000000u);
    t->base.local = t->lower->local;
    t->base.remote = t->lower->remote;
    if (!t->hs.ctx->server)
        tls_session_offer(t->hs.ctx, t->ssl, &t->hs);
    drive(t);
}

/* ---- events from below ---- */

static void on_lower_closing(struct tls_conn *t, unsigned events)
{
    if (events & CONN_EV_ERROR) {
        release(t, false);
    } else if (events & CONN_EV_WRITE) {
        if (flush(t) || t->io.out.len == 0)
            release(t, false);
    }
}

static void on_lower_up(struct tls_conn *t, unsigned events)
{
    unsigned up = 0;
    if (events & CONN_EV_WRITE) {
        if (flush(t)) {
            emit(t, CONN_EV_ERROR);
            return;
        }
        if (t->want_write && t->io.out.len == 0) {
            t->want_write = false;
            up |= CONN_EV_WRITE;
        }
    }
    if (events & CONN_EV_READ) {
        t->base.readable = true;
        t->base.peer_closed |= t->lower->peer_closed;
        up |= CONN_EV_READ;
    }
    emit(t, up);
}

static void on_lower(struct conn *lower, unsigned events, void *user)
{
    struct tls_conn *t = user;
    if (t->state == CLOSING) {
        on_lower_closing(t, events);
        return;
    }
    if (t->state >= DEAD)
        return;
    if (events & CONN_EV_ERROR) {
        die_of_lower(t);
        emit(t, CONN_EV_ERROR);
        return;
    }
    if (t->state == WAITING) {
        if (events & CONN_EV_CONNECTED)
            start(t);
    } else if (t->state == SHAKING) {
        if (events & CONN_EV_WRITE && flush(t))
            emit(t, CONN_EV_ERROR);
        else if (events & CONN_EV_READ)
            drive(t);
    } else {
        on_lower_up(t, events);
    }
}

static void on_timer(struct timer *timer)
{
    struct tls_conn *t = container_of(timer, struct tls_conn, timer);
    if (t->state == CLOSING)
        release(t, true);
    else if (t->state == WAITING)
        start(t);
    else if (t->state == UP && (t->base.readable = may_have_bytes(t)))
        emit(t, CONN_EV_READ);
}

/* ---- reading ---- */

/* One SSL_read into the chain: >0, E_AGAIN (more ciphertext is needed), E_EOF, or dead. */
static ssize_t read_some(struct tls_conn *t, struct buf *into, size_t max)
{
    size_t room, n = 0;
    char *p = buf_reserve(into, max < 2048 ? max : 2048, &room);
    clear_errors();
    int ok = SSL_read_ex(t->ssl, p, room < max ? room : max, &n);
    buf_commit(into, ok ? n : 0);
    if (ok)
        return (ssize_t)n;
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        return E_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        t->notified = true;
        t->base.peer_closed = true;
        return E_EOF;
    default:
        return die_of_tls(t);
    }
}

static ssize_t read_all(struct tls_conn *t, struct buf *into, size_t max)
{
    size_t got = 0;
    bool starved = false; /* the rest of a record is missing */
    ssize_t n = E_AGAIN;
    while (got < max) {
        if (starved || (t->io.in.len == 0 && SSL_pending(t->ssl) == 0)) {
            if (!t->lower->readable && !t->lower_eof)
                break;
            size_t want = max - got + 512;
            n = fill(t, want < READ_CHUNK ? READ_CHUNK : want);
            if (n == E_EOF)
                n = die_of_truncation(t);
            if (n < 0)
                break;
            starved = false;
        }
        n = read_some(t, into, max - got);
        if (n == E_AGAIN)
            starved = true;
        else if (n < 0)
            break;
        else
            got += (size_t)n;
    }
    return got ? (ssize_t)got : n;
}

static ssize_t tls_read(struct conn *c, struct buf *into, size_t max)
{
    struct tls_conn *t = self(c);
    if (t->state != UP)
        return t->state < UP ? E_AGAIN : c->error ? c->error : E_CLOSED;
    if (t->notified || max == 0) {
        c->readable = false;
        return t->notified ? E_EOF : E_AGAIN;
    }
    ssize_t n = read_all(t, into, max);
    if (n > 0) {
        c->bytes_read += (uint64_t)n;
        touch(t);
    }
    /* Reading can make answers (KeyUpdate). */
    if (t->io.out.len && t->state == UP && flush(t) && n < 0)
        n = c->error;
    c->readable = n == E_EOF || n == E_AGAIN ? false : t->state != UP || may_have_bytes(t);
    return n;
}

/* ---- writing ---- */

/* The next record's plaintext: a big slice as it is, small ones copied together. */
static sv next_record(const struct buf *from)
{
    static __thread char scratch[RECORD];
    struct iovec iov[16];
    int n = buf_iov(from, iov, 16, RECORD);
    if (n == 1 || iov[0].iov_len >= OWN_RECORD)
        return sv_make(iov[0].iov_base, iov[0].iov_len);
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && iov[i].iov_len >= OWN_RECORD && iov[i].iov_len > len)
            break;
        memcpy(scratch + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    return sv_make(scratch, len);
}

static ssize_t tls_write(struct conn *c, struct buf *from)
{
    struct tls_conn *t = self(c);
    size_t taken = 0;
    if (t->state > UP || t->sent_notify)
        return c->error ? c->error : E_CLOSED;
    if (t->state < UP) {
        t->want_write = true;
        return 0;
    }
    while (from->len) {
        if (t->io.out.len >= (taken ? BURST : 1)) {
            if (flush(t))
                return c->error;
            if (t->io.out.len)
                break;
        }
        size_t n;
        sv rec = next_record(from);
        clear_errors();
        if (!SSL_write_ex(t->ssl, rec.p, rec.n, &n))
            return die_of_tls(t);
        buf_drain(from, n);
        taken += n;
    }
    c->bytes_written += taken;
    touch(t);
    if (flush(t))
        return c->error;
    t->want_write = from->len > 0;
    return (ssize_t)taken;
}

/* ---- ending by the owner ---- */

static void send_notify(struct tls_conn *t)
{
    if (t->state != UP || t->sent_notify)
        return;
    t->sent_notify = true;
    SSL_shutdown(t->ssl);
    ERR_clear_error();
}

static int tls_shutdown_write(struct conn *c)
{
    struct tls_conn *t = self(c);
    if (t->state != UP)
        return c->error ? c->error : E_CLOSED;
    send_notify(t);
    return flush(t);
}

static void tls_close(struct conn *c, bool reset)
{
    struct tls_conn *t = self(c);
    assert(t->state < CLOSING);
    c->fn = NULL;
    timer_cancel(&t->timer);
    bool lower_ok = t->lower->error == 0;
    if (!reset && lower_ok) {
        send_notify(t);
        flush(t);
    }
    if (!reset && t->lower->error == 0 && t->io.out.len) {
        t->state = CLOSING;
        timer_set(&t->timer, LINGER_MS);
        return;
    }
    release(t, reset);
}

static void tls_kick(struct conn *c)
{
    struct tls_conn *t = self(c);
    if (t->state == UP && (t->io.in.len || SSL_pending(t->ssl) > 0 || t->lower_eof || t->notified))
        timer_set(&t->timer, 0);
    else if (t->state < DEAD)
        conn_kick(t->lower);
}

static const struct conn_ops OPS = {
    .read = tls_read,
    .write = tls_write,
    .shutdown_write = tls_shutdown_write,
    .close = tls_close,
    .kick = tls_kick,
};

/* ---- making ---- */

static struct tls_conn *conn_make(struct conn *lower, struct tls_ctx *ctx, conn_fn fn, void *user)
{
    struct tls_conn *t = mem_new(struct tls_conn);
    t->base.ops = &OPS;
    t->base.loop = lower->loop;
    t->base.fn = fn;
    t->base.user = user;
    t->base.local = lower->local;
    t->base.remote = lower->remote;
    t->base.original_dst = lower->original_dst;
    t->base.id = lower->id;
    t->base.under = lower;
    t->lower = lower;
    t->hs.ctx = tls_ctx_ref(ctx);
    strbuf_init(&t->error_text, 4096);
    timer_init(&t->timer, lower->loop, on_timer);
    timer_init(&t->idle, lower->loop, on_idle);
    t->ssl = SSL_new(ctx->base->ssl);
    if (!t->ssl)
        abort(); /* memory is out */
    SSL_set_app_data(t->ssl, &t->hs);
    tls_bio_attach(t->ssl, &t->io, QUEUE_MAX);
    conn_set_owner(lower, on_lower, t);
    return t;
}

static bool is_ip(const char *s)
{
    unsigned char ip[16];
    return inet_pton(AF_INET, s, ip) == 1 || inet_pton(AF_INET6, s, ip) == 1;
}

static void set_alpn(SSL *ssl, const sv *names, size_t n)
{
    struct strbuf wire;
    strbuf_init(&wire, 8192);
    for (size_t i = 0; i < n; i++) {
        if (names[i].n == 0 || names[i].n > 255)
            continue;
        strbuf_add_ch(&wire, (char)names[i].n);
        strbuf_add_sv(&wire, names[i]);
    }
    if (wire.n && !wire.overflow)
        SSL_set_alpn_protos(ssl, (const unsigned char *)wire.p, (unsigned)wire.n);
    strbuf_fini(&wire);
}

struct conn *tls_conn_client(struct conn *lower, struct tls_ctx *ctx,
                             const struct tls_client_params *p, conn_fn fn, void *user)
{
    struct tls_conn *t = conn_make(lower, ctx, fn, user);
    SSL_set_connect_state(t->ssl);
    sv sni = p && p->has_sni ? p->sni : sv_of(ctx->sni);
    if (sni.n) {
        t->hs.sni = sv_dup(sni);
        /* RFC 6066 3: no addresses. */
        if (!is_ip(t->hs.sni))
            SSL_set_tlsext_host_name(t->ssl, t->hs.sni);
    }
    if (p && p->expect_name.n) {
        t->hs.expect_name = sv_dup(p->expect_name);
        SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    }
    if (p && p->n_alpn)
        set_alpn(t->ssl, p->alpn, p->n_alpn);
    t->state = WAITING;
    if (lower->connected)
        timer_set(&t->timer, 0);
    return &t->base;
}

struct conn *tls_conn_server(struct conn *lower, struct tls_ctx *ctx, conn_fn fn, void *user)
{
    struct tls_conn *t = conn_make(lower, ctx, fn, user);
    SSL_set_accept_state(t->ssl);
    t->state = WAITING;
    timer_set(&t->timer, 0); /* bytes may be there already, read or peeked at by somebody else */
    return &t->base;
}

/* ---- asking ---- */

bool tls_conn_is(const struct conn *c)
{
    return c && c->ops == &OPS;
}

struct conn *tls_conn_lower(const struct conn *c)
{
    return self(c)->lower;
}

enum tls_fail tls_conn_fail(const struct conn *c)
{
    return self(c)->base.error ? self(c)->hs.fail : TLS_FAIL_NONE;
}

sv tls_conn_sentence(const struct conn *c)
{
    return self(c)->base.error ? sv_of(self(c)->hs.sentence) : sv_make(NULL, 0);
}

size_t tls_conn_queued(const struct conn *c)
{
    return self(c)->io.out.len;
}

void tls_conn_peer_chain(const struct conn *c,
                         void (*each)(void *user, const struct tls_cert_info *cert), void *user)
{
    const struct tls_conn *t = self(c);
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);
    if (t->info.session_reused || !t->info.peer)
        return;
    if (t->info.server)
        each(user, t->info.peer);
    for (int i = 0; chain && i < sk_X509_num(chain); i++) {
        struct tls_cert_info *x = tls_cert_info_from_x509(sk_X509_value(chain, i), NULL);
        if (x)
            each(user, x);
        tls_cert_info_unref(x);
    }
}

static void add_pem(void *user, const struct tls_cert_info *cert)
{
    struct strbuf *out = user;
    if (out->n < CHAIN_LIMIT)
        tls_cert_info_pem_urlencoded(cert, out);
}

void tls_conn_peer_chain_urlencoded(const struct conn *c, struct strbuf *out)
{
    tls_conn_peer_chain(c, add_pem, out);
}
