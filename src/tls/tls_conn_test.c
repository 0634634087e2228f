/* Connections: handshakes, bytes in every shape, ends of every kind, resumption, limits. */
#include "tls/tls_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/mem.h"
#include "tls/tls_priv.h"

static struct loop *loop;
static struct tt_ca ca;
static struct tt_cert alice, bob;

static int setup(void **state)
{
    loop = loop_new(NULL);
    tt_ca_init(&ca, NULL, "root");
    tt_cert_init(&alice, &ca, "spiffe://td/ns/a/sa/alice");
    tt_cert_init(&bob, &ca, "spiffe://td/ns/b/sa/bob");
    return 0;
}

static int teardown(void **state)
{
    tt_cert_fini(&alice);
    tt_cert_fini(&bob);
    tt_ca_fini(&ca);
    loop_free(loop);
    return 0;
}

static const sv ALPN[] = {SV_INIT("istio"), SV_INIT("h2")};

static struct tls_ctx *server_ctx(struct tls_ctx_opts o)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&ca.pem)};
    o.server = true;
    if (!o.certs) {
        o.certs = &bob.opts;
        o.n_certs = 1;
    }
    if (!o.validation)
        o.validation = &v;
    struct tls_ctx *c = tls_ctx_new(&o, &e);
    if (!c)
        fail_msg("%s", e.msg);
    return c;
}

static struct tls_ctx *client_ctx(struct tls_ctx_opts o)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&ca.pem)};
    if (!o.certs) {
        o.certs = &alice.opts;
        o.n_certs = 1;
    }
    if (!o.validation)
        o.validation = &v;
    struct tls_ctx *c = tls_ctx_new(&o, &e);
    if (!c)
        fail_msg("%s", e.msg);
    return c;
}

static struct tls_ctx_opts mutual(void)
{
    return (struct tls_ctx_opts){.client_auth = TLS_CLIENT_REQUIRE, .alpn = ALPN, .n_alpn = 2};
}

static void check_info(struct tt_pair *p, const char *version)
{
    const struct tls_info *c = p->client.c->tls, *s = p->server.c->tls;
    assert_string_equal(c->version, version);
    assert_string_equal(s->version, version);
    assert_true(sv_eq(c->alpn, SV("istio")));
    assert_true(sv_eq(s->alpn, SV("istio")));
    assert_true(sv_eq(s->sni, SV("bob.b.svc")));
    assert_true(sv_eq(c->sni, SV("Bob.b.svc")));
    assert_true(sv_eq(tls_info_peer_identity(c), SV("spiffe://td/ns/b/sa/bob")));
    assert_true(sv_eq(tls_info_peer_identity(s), SV("spiffe://td/ns/a/sa/alice")));
    assert_true(
        sv_eq(tls_cert_info_san(c->local, TLS_SAN_URI, 0), SV("spiffe://td/ns/a/sa/alice")));
    assert_true(sv_eq(tls_cert_info_san(s->local, TLS_SAN_URI, 0), SV("spiffe://td/ns/b/sa/bob")));
    assert_true(c->peer_validated && s->peer_validated);
    assert_true(s->server && !c->server);
    assert_string_equal(c->group, "X25519");
    assert_int_equal(s->n_chain, 1);
}

static void test_mutual(void **state)
{
    for (int v12 = 0; v12 < 2; v12++) {
        struct tls_ctx_opts so = mutual(), co = {.alpn = ALPN, .n_alpn = 1, .sni = SV("Bob.b.svc")};
        so.max_version = v12 ? TLS_VERSION_1_2 : TLS_VERSION_AUTO;
        struct tls_ctx *s = server_ctx(so), *c = client_ctx(co);
        struct tt_pair p;
        assert_true(tt_pair_init(&p, loop, c, s, NULL));
        check_info(&p, v12 ? "TLSv1.2" : "TLSv1.3");
        assert_string_equal(p.client.c->tls->cipher,
                            v12 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : "TLS_AES_128_GCM_SHA256");
        assert_int_equal(p.client.c->tls->session_id.n, v12 ? 64 : 0);
        struct strbuf chain;
        strbuf_init(&chain, 1 << 20);
        tls_conn_peer_chain_urlencoded(p.server.c, &chain);
        assert_non_null(strstr(chain.p, "BEGIN%20CERTIFICATE"));
        strbuf_fini(&chain);
        assert_true(tls_conn_is(p.client.c));
        assert_false(tls_conn_is(tls_conn_lower(p.client.c)));
        assert_int_equal(tls_conn_fail(p.client.c), TLS_FAIL_NONE);
        tt_pair_fini(&p);
        tls_ctx_unref(s);
        tls_ctx_unref(c);
    }
}

/* ---- bytes ---- */

static void pump(struct tt_pair *p, struct tt_side *from, struct buf *data, struct tt_side *to,
                 size_t total)
{
    for (int i = 0; i < 10000 && to->in.len < total; i++) {
        assert_true(conn_write(from->c, data) >= 0);
        loop_turn(p->loop, 1000000);
    }
    assert_int_equal(to->in.len, total);
}

static void fill(struct buf *b, size_t total, unsigned seed, size_t max_slice)
{
    struct buf one;
    buf_init(&one);
    for (size_t i = 0; i < total;) {
        char chunk[20000];
        seed = seed * 1103515245 + 12345;
        size_t n = 1 + (seed >> 8) % max_slice;
        if (n > total - i)
            n = total - i;
        for (size_t k = 0; k < n; k++)
            chunk[k] = (char)((i + k) * 7 + (i + k) / 256);
        buf_append(&one, chunk, n);
        buf_move(b, &one); /* a slice of its own */
        i += n;
    }
}

static void check_bytes(struct buf *b, size_t total)
{
    assert_int_equal(b->len, total);
    size_t n;
    char *p = buf_to_cstr(b, &n);
    for (size_t i = 0; i < total; i++)
        if (p[i] != (char)(i * 7 + i / 256))
            fail_msg("byte %zu differs", i);
    free(p);
}

static void test_bytes(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    static const size_t totals[] = {1, 100, 4096, 16384, 16385, 100000, 3000000};
    static const size_t slices[] = {1, 100, 5000, 20000};
    for (size_t i = 0; i < 7; i++) {
        for (size_t k = totals[i] > 200000 ? 1 : 0; k < 4; k++) {
            struct buf b;
            buf_init(&b);
            fill(&b, totals[i], (unsigned)(i * 4 + k), slices[k]);
            pump(&p, &p.client, &b, &p.server, totals[i]);
            check_bytes(&p.server.in, totals[i]);
            pump(&p, &p.server, &p.server.in, &p.client, totals[i]);
            check_bytes(&p.client.in, totals[i]);
            buf_reset(&p.client.in);
        }
    }
    assert_int_equal(p.client.c->bytes_written, p.server.c->bytes_read);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
}

/* Small slices share one record, and all records of a write leave in one piece. */
static void test_gathering(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    struct conn *lower = tls_conn_lower(p.client.c);
    struct buf b;
    buf_init(&b);
    uint64_t before = lower->bytes_written;
    for (int i = 0; i < 10; i++)
        buf_append_static(&b, SV("0123456789"));
    assert_int_equal(conn_write(p.client.c, &b), 100);
    assert_int_equal(lower->bytes_written - before, 100 + 22);
    before = lower->bytes_written;
    fill(&b, 40000, 1, 20000); /* 16384 + 16384 + rest */
    assert_int_equal(conn_write(p.client.c, &b), 40000);
    assert_true(lower->bytes_written - before <= 40000 + 6 * 22);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* A reader that stops makes the writer stop, with bounded memory, and go on afterwards. */
static void test_backpressure(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    p.server.paused = true;
    struct buf b;
    buf_init(&b);
    const size_t total = 4 << 20;
    fill(&b, total, 3, 20000);
    for (int i = 0; i < 50; i++) {
        assert_true(conn_write(p.client.c, &b) >= 0);
        loop_turn(loop, 100000);
    }
    assert_true(b.len > total / 2);
    assert_true(tls_conn_queued(p.client.c) <= 128 * 1024);
    assert_int_equal(p.client.writes, 0);
    p.server.paused = false;
    conn_kick(p.server.c);
    for (int i = 0; i < 5000 && p.server.in.len < total; i++) {
        loop_turn(loop, 1000000);
        if (p.client.writes) {
            p.client.writes = 0;
            assert_true(conn_write(p.client.c, &b) >= 0);
        }
    }
    check_bytes(&p.server.in, total);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* Bytes left unread come back after a kick, also when nothing is left in the socket. */
static void test_kick(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    p.server.paused = true;
    struct buf b, got;
    buf_init(&b);
    buf_init(&got);
    buf_append_static(&b, SV("hello, world"));
    conn_write(p.client.c, &b);
    tt_turns(loop, 3);
    assert_int_equal(conn_read(p.server.c, &got, 5), 5);
    assert_true(p.server.c->readable);
    p.server.seen = 0;
    tt_turns(loop, 2);
    assert_int_equal(p.server.seen, 0);
    conn_kick(p.server.c);
    tt_turns(loop, 3);
    assert_int_equal(p.server.seen, CONN_EV_READ);
    assert_int_equal(conn_read(p.server.c, &got, 100), 7);
    assert_false(p.server.c->readable);
    assert_int_equal(conn_read(p.server.c, &got, 100), E_AGAIN);
    buf_reset(&got);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* The record buffers go after a pause and come back with the next byte. */
static void test_idle(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    for (int round = 0; round < 2; round++) {
        struct buf b;
        buf_init(&b);
        fill(&b, 50000, 1, 20000);
        pump(&p, &p.client, &b, &p.server, 50000);
        pump(&p, &p.server, &p.server.in, &p.client, 50000);
        check_bytes(&p.client.in, 50000);
        buf_reset(&p.client.in);
        for (time_t end = time(NULL) + 3; round == 0 && time(NULL) < end;)
            loop_turn(loop, 100000000);
    }
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* ---- ends ---- */

static void test_half_close(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    struct buf b;
    buf_init(&b);
    buf_append_static(&b, SV("last words"));
    conn_write(p.client.c, &b);
    assert_int_equal(conn_shutdown_write(p.client.c), 0);
    tt_turns(loop, 5);
    assert_true(p.server.eof);
    assert_int_equal(p.server.in.len, 10);
    assert_true(p.server.c->peer_closed);
    assert_int_equal(conn_read(p.server.c, &b, 10), E_EOF);
    buf_append_static(&b, SV("answer"));
    assert_int_equal(conn_write(p.server.c, &b), 6);
    tt_turns(loop, 5);
    assert_int_equal(p.client.in.len, 6);
    assert_false(p.client.eof);
    tt_side_fini(&p.server);
    tt_turns(loop, 5);
    assert_true(p.client.eof);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

static void test_truncation(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    conn_shutdown_write(tls_conn_lower(p.client.c)); /* FIN without close_notify */
    tt_turns(loop, 5);
    assert_false(p.server.eof);
    assert_int_equal(p.server.error, E_RESET);
    assert_non_null(strstr(tls_conn_sentence(p.server.c).p, "without ending TLS"));
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* What was accepted is delivered although the owner has closed and gone. */
static void test_close_flushes(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, NULL));
    p.server.paused = true;
    struct buf b;
    buf_init(&b);
    fill(&b, 2 << 20, 3, 20000);
    size_t taken = 0;
    for (ssize_t n; (n = conn_write(p.client.c, &b)) > 0;)
        taken += (size_t)n;
    buf_reset(&b);
    assert_true(tls_conn_queued(p.client.c) > 0);
    tt_side_fini(&p.client);
    p.server.paused = false;
    conn_kick(p.server.c);
    tt_turns(loop, 100);
    check_bytes(&p.server.in, taken);
    assert_true(p.server.eof);
    tt_pair_fini(&p);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* The owner may close in any callback. */
static void close_at(struct conn *c, unsigned events, void *user)
{
    struct tt_side *s = user;
    s->seen |= events;
    s->c = NULL;
    conn_close(c);
}

static void test_close_in_callback(void **state)
{
    struct tls_ctx *s = server_ctx(mutual()), *c = client_ctx((struct tls_ctx_opts){0});
    struct conn *lower[2];
    struct tt_pair p = {.loop = loop};
    tt_sockets(loop, lower);
    p.client.c = tls_conn_client(lower[0], c, NULL, close_at, &p.client);
    p.server.c = tls_conn_server(lower[1], s, tt_event, &p.server);
    tt_turns(loop, 20);
    assert_int_equal(p.client.seen & CONN_EV_CONNECTED, CONN_EV_CONNECTED);
    assert_true(p.server.eof || p.server.error);
    tt_pair_fini(&p);
    /* Before anything happened, and aborting. */
    tt_sockets(loop, lower);
    conn_close(tls_conn_client(lower[0], c, NULL, tt_event, &p.client));
    conn_abort(tls_conn_server(lower[1], s, tt_event, &p.server));
    tt_turns(loop, 5);
    tls_ctx_unref(s);
    tls_ctx_unref(c);
}

/* ---- resumption ---- */

static bool reused(struct tls_ctx *c, struct tls_ctx *s, const struct tls_client_params *params)
{
    struct tt_pair p;
    assert_true(tt_pair_init(&p, loop, c, s, params));
    bool r = p.client.c->tls->session_reused;
    assert_int_equal(p.server.c->tls->session_reused, r);
    assert_true(sv_eq(tls_info_peer_identity(p.client.c->tls), SV("spiffe://td/ns/b/sa/bob")));
    assert_true(sv_eq(tls_info_peer_identity(p.server.c->tls), SV("spiffe://td/ns/a/sa/alice")));
    tt_pair_fini(&p);
    return r;
}

static void test_resumption(void **state)
{
    for (int v12 = 0; v12 < 2; v12++) {
        struct tls_ctx_opts so = mutual(), co = {.max_session_keys = 2};
        so.max_version = v12 ? TLS_VERSION_1_2 : TLS_VERSION_AUTO;
        struct tls_ctx *s = server_ctx(so), *c = client_ctx(co);
        struct tls_client_params other = {.has_sni = true, .sni = SV("other")};
        assert_false(reused(c, s, NULL));
        assert_true(reused(c, s, NULL));
        assert_true(reused(c, s, NULL));
        assert_false(reused(c, s, &other)); /* another name, another session */
        assert_true(reused(c, s, &other));
        tls_ctx_unref(s);
        s = server_ctx(so); /* its keys are new: the old tickets do not open */
        assert_false(reused(c, s, NULL));
        tls_ctx_unref(s);
        tls_ctx_unref(c);
        s = server_ctx(so);
        c = client_ctx((struct tls_ctx_opts){0}); /* none are kept */
        assert_false(reused(c, s, NULL));
        assert_false(reused(c, s, NULL));
        tls_ctx_unref(s);
        tls_ctx_unref(c);
    }
}

/* Same ticket keys, other rules: attack case 33. */
static void test_resumption_other_rules(void **state)
{
    char key[80];
    memset(key, 7, sizeof key);
    sv keys[] = {{key, sizeof key}};
    struct tls_ctx_opts so = mutual(), co = {.max_session_keys = 4};
    so.ticket_keys = keys;
    so.n_ticket_keys = 1;
    struct tls_ctx *c = client_ctx(co), *s1 = server_ctx(so), *s2 = server_ctx(so);
    assert_false(reused(c, s1, NULL));
    assert_true(reused(c, s2, NULL)); /* a replica */
    struct tls_san_match m = {
        .type = TLS_SAN_URI, .kind = TLS_MATCH_PREFIX, .value = SV("spiffe://td/")};
    struct tls_validation v = {.ca_pem = strbuf_sv(&ca.pem), .sans = &m, .n_sans = 1};
    so.validation = &v;
    struct tls_ctx *s3 = server_ctx(so);
    assert_false(reused(c, s3, NULL));
    assert_true(reused(c, s3, NULL));
    tls_ctx_unref(c);
    tls_ctx_unref(s1);
    tls_ctx_unref(s2);
    tls_ctx_unref(s3);
}

/* Clients that differ only in names share what is big, and nothing of what was proved: the session
 * of one is not offered by another, whose verification would have failed. */
static void test_shared_settings(void **state)
{
    struct tls_san_match bobs = {.type = TLS_SAN_URI, .value = SV("spiffe://td/ns/b/sa/bob")},
                         eves = {.type = TLS_SAN_URI, .value = SV("spiffe://td/ns/b/sa/eve")};
    struct tls_validation for_bob = {.ca_pem = strbuf_sv(&ca.pem), .sans = &bobs, .n_sans = 1},
                          for_eve = {.ca_pem = strbuf_sv(&ca.pem), .sans = &eves, .n_sans = 1},
                          shallow = {.ca_pem = strbuf_sv(&ca.pem), .max_depth = 3}, none = {0};
    struct tls_ctx_opts o = {.max_session_keys = 2, .sni = SV("b"), .validation = &for_bob};
    struct tls_ctx *b = client_ctx(o), *s = server_ctx(mutual()), *s2 = server_ctx(mutual());
    o.sni = SV("e");
    o.validation = &for_eve;
    struct tls_ctx *e = client_ctx(o);
    assert_ptr_equal(b->base, e->base);
    assert_false(sv_eq(tls_ctx_hash(b), tls_ctx_hash(e)));
    assert_ptr_not_equal(s->base, s2->base); /* a server's tickets are its own */
    struct tls_ctx_opts others[] = {o, o, o, o, o, o};
    others[0].alpn = ALPN, others[0].n_alpn = 1;
    others[1].max_version = TLS_VERSION_1_2;
    others[2].validation = &shallow;
    others[3].validation = &none;
    others[4].certs = &bob.opts, others[4].n_certs = 1;
    others[5].max_session_keys = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct tls_ctx *x = client_ctx(others[i]);
        assert_ptr_not_equal(x->base, b->base);
        tls_ctx_unref(x);
    }
    struct tls_client_params same = {.has_sni = true, .sni = SV("x")};
    assert_false(reused(b, s, &same));
    assert_true(reused(b, s, &same));
    struct tt_pair p;
    tt_pair_init(&p, loop, e, s, &same);
    assert_int_equal(tls_conn_fail(p.client.c), TLS_FAIL_SAN);
    tt_pair_fini(&p);
    tls_ctx_unref(e);
    assert_true(reused(b, s, &same)); /* what is shared is still there */
    tls_ctx_unref(b);
    tls_ctx_unref(s);
    tls_ctx_unref(s2);
}

/* A ticket does not outlive the certificate that it stands for. */
static void test_resumption_expired(void **state)
{
    struct tt_cert brief;
    struct tls_san san = tt_san("spiffe://td/ns/a/sa/alice");
    tt_cert_init_leaf(&brief, &ca,
                      (struct tls_leaf){.sans = &san, .n_sans = 1, .now_s = time(NULL), .ttl_s = 4},
                      TLS_KEY_EC_P256);
    for (int v12 = 0; v12 < 2; v12++) {
        if (v12) { /* the first round used it up */
            tt_cert_fini(&brief);
            tt_cert_init_leaf(
                &brief, &ca,
                (struct tls_leaf){.sans = &san, .n_sans = 1, .now_s = time(NULL), .ttl_s = 4},
                TLS_KEY_EC_P256);
        }
        struct tls_ctx_opts so = mutual(),
                            co = {.max_session_keys = 4, .certs = &brief.opts, .n_certs = 1};
        so.max_version = v12 ? TLS_VERSION_1_2 : TLS_VERSION_AUTO;
        struct tls_ctx *c = client_ctx(co), *s = server_ctx(so);
        assert_false(reused(c, s, NULL));
        struct tt_pair p;
        sleep(5);
        assert_false(tt_pair_init(&p, loop, c, s, NULL));
        assert_int_equal(tls_conn_fail(p.server.c), TLS_FAIL_VERIFY);
        /* By a whole handshake: the ticket was passed over. */
        assert_non_null(strstr(p.server.c->error_text.p, "X509_verify_cert"));
        assert_non_null(strstr(p.server.c->error_text.p, "certificate has expired"));
        tt_pair_fini(&p);
        tls_ctx_unref(c);
        tls_ctx_unref(s);
    }
    tt_cert_fini(&brief);
}

/* ---- abuse ---- */

/* A client that asks for key updates and never reads is cut off. */
static void test_key_update_flood(void **state)
{
    struct tls_ctx *s = server_ctx((struct tls_ctx_opts){0});
    int fd[2];
    struct addr a;
    struct tt_side srv = {0};
    addr_ip(&a, SV("127.0.0.1"), 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    srv.c = tls_conn_server(conn_from_fd(loop, fd[1], &a, &a, NULL, NULL), s, tt_event, &srv);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd[0]);
    for (int i = 0; i < 50 && SSL_connect(ssl) != 1; i++)
        loop_turn(loop, 1000000);
    assert_true(SSL_is_init_finished(ssl));
    int i;
    for (i = 0; i < 200000 && !srv.error; i++) {
        SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
        SSL_do_handshake(ssl);
        ERR_clear_error();
        loop_turn(loop, 0);
        assert_true(tls_conn_queued(srv.c) <= 300 * 1024);
    }
    assert_int_equal(srv.error, E_LIMIT);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd[0]);
    tt_side_fini(&srv);
    tt_turns(loop, 3);
    tls_ctx_unref(s);
}

/* Garbage at every point of a handshake ends it, never crashes it. */
static void test_garbage(void **state)
{
    struct tls_ctx *s = server_ctx(mutual());
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello",
                                        "\x15\x03\x01\x00\x02\x02\x28", "\x80\x80\x01\x03\x01"};
    for (int i = 0; i < 4; i++) {
        int fd[2];
        struct addr a;
        struct tt_side srv = {0};
        addr_ip(&a, SV("127.0.0.1"), 1);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
        srv.c = tls_conn_server(conn_from_fd(loop, fd[1], &a, &a, NULL, NULL), s, tt_event, &srv);
        size_t n = i == 0 ? strlen(texts[0]) : i == 1 ? 10 : i == 2 ? 7 : 5;
        assert_int_equal(write(fd[0], texts[i], n), (ssize_t)n);
        shutdown(fd[0], SHUT_WR);
        tt_turns(loop, 5);
        assert_int_equal(srv.seen & CONN_EV_ERROR, CONN_EV_ERROR);
        if (i == 0)
            assert_non_null(
                strstr(srv.c->error_text.p,
                       "TLS_error:|268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST"));
        close(fd[0]);
        tt_side_fini(&srv);
        tt_turns(loop, 2);
    }
    tls_ctx_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_gathering),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_kick),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_close_flushes),
        cmocka_unit_test(test_close_in_callback),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_resumption_other_rules),
        cmocka_unit_test(test_shared_settings),
        cmocka_unit_test(test_resumption_expired),
        cmocka_unit_test(test_key_update_flood),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
