/* What the tests of this room share: a loop to turn, a raw client on a socket of its own, and
 * certificates. Everything is on loopback. */
#ifndef WEFT_SERVE_SERVE_TEST_H
#define WEFT_SERVE_SERVE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>
#include "base/strbuf.h"
#include "net/loop.h"
#include "serve/serve_call.h"
#include "serve/serve_client.h"
#include "serve/serve_http.h"
#include "serve/serve_server.h"
#include "tls/tls_cert.h"
#include "tls/tls_ctx.h"

static struct loop *loop;

#define turn_until(cond)                                                                           \
    do {                                                                                           \
        uint64_t turn_end = loop_clock_ns(loop) + 60000000000u;                                    \
        while (!(cond) && loop_clock_ns(loop) < turn_end)                                          \
            loop_turn(loop, 5000000);                                                              \
        assert_true(cond);                                                                         \
    } while (0)

static inline void turn_ms(unsigned ms)
{
    uint64_t end = loop_clock_ns(loop) + ms * 1000000ull;
    while (loop_clock_ns(loop) < end)
        loop_turn(loop, 2000000);
}

/* ---- a client that only knows bytes ---- */

struct raw {
    int fd;
    struct strbuf got;
    bool eof;
};

static inline void raw_open(struct raw *r, const struct addr *a)
{
    struct sockaddr_storage to;
    socklen_t n = addr_sockaddr(a, &to);
    r->fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(r->fd >= 0);
    assert_true(connect(r->fd, (struct sockaddr *)&to, n) == 0 || errno == EINPROGRESS);
    strbuf_init(&r->got, 64 << 20);
    r->eof = false;
}
static inline void raw_send(struct raw *r, const void *p, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = write(r->fd, (const char *)p + done, n - done);
        if (k > 0)
            done += (size_t)k;
        else if (errno != EAGAIN && errno != ENOTCONN)
            return;
        else
            loop_turn(loop, 1000000);
    }
}
static inline void raw_send_c(struct raw *r, const char *text)
{
    raw_send(r, text, strlen(text));
}
static inline bool raw_read(struct raw *r)
{
    char buf[65536];
    ssize_t n;
    while ((n = read(r->fd, buf, sizeof(buf))) > 0)
        strbuf_add(&r->got, buf, (size_t)n);
    r->eof |= n == 0 || (errno != EAGAIN && errno != ENOTCONN);
    return true;
}
static inline bool raw_has(struct raw *r, const char *text)
{
    raw_read(r);
    return r->got.n && strstr(r->got.p, text);
}
static inline bool raw_eof(struct raw *r)
{
    raw_read(r);
    return r->eof;
}
static inline void raw_close(struct raw *r)
{
    close(r->fd);
    strbuf_fini(&r->got);
}

/* ---- certificates ---- */

static struct tls_ctx *server_ctx, *h1_ctx, *client_ctx, *stranger_ctx;

static inline struct tls_ctx *ctx_new(const struct tls_ctx_opts *o)
{
    struct error e = {0};
    struct tls_ctx *c = tls_ctx_new(o, &e);
    if (!c)
        fail_msg("%s", e.msg);
    return c;
}

/* A root, a server certificate for localhost, and a client that trusts the root; another client
 * that trusts another root. */
static inline void make_certs(void)
{
    struct error e = {0};
    int64_t end, now = time(NULL);
    struct strbuf root, other, leaf;
    strbuf_init(&root, 65536);
    strbuf_init(&other, 65536);
    strbuf_init(&leaf, 65536);
    struct tls_key *rk = tls_key_generate(TLS_KEY_EC_P256, &e);
    struct tls_key *ok = tls_key_generate(TLS_KEY_EC_P256, &e);
    struct tls_key *lk = tls_key_generate(TLS_KEY_EC_P256, &e);
    assert_int_equal(tls_cert_make_root(rk, SV("t"), SV("root"), now, 3600, &root, &e), 0);
    assert_int_equal(tls_cert_make_root(ok, SV("t"), SV("other"), now, 3600, &other, &e), 0);
    struct tls_signer *s = tls_signer_new(strbuf_sv(&root), rk, &e);
    struct tls_san san = {.type = TLS_SAN_DNS, .value = SV("localhost")};
    struct tls_leaf l = {.sans = &san, .n_sans = 1, .now_s = now, .ttl_s = 3600};
    assert_int_equal(tls_cert_sign_key(s, lk, &l, &leaf, &end, &e), 0);
    struct tls_cert_opts cert = {.chain_pem = strbuf_sv(&leaf), .key = lk};
    static const sv alpn[] = {SV_INIT("h2"), SV_INIT("http/1.1")};
    server_ctx = ctx_new(&(struct tls_ctx_opts){
        .server = true, .certs = &cert, .n_certs = 1, .alpn = alpn, .n_alpn = 2});
    h1_ctx = ctx_new(&(struct tls_ctx_opts){
        .server = true, .certs = &cert, .n_certs = 1, .alpn = alpn + 1, .n_alpn = 1});
    struct tls_validation v = {.ca_pem = strbuf_sv(&root)}, w = {.ca_pem = strbuf_sv(&other)};
    client_ctx = ctx_new(&(struct tls_ctx_opts){.validation = &v});
    stranger_ctx = ctx_new(&(struct tls_ctx_opts){.validation = &w});
    tls_signer_free(s);
    tls_key_unref(rk);
    tls_key_unref(ok);
    tls_key_unref(lk);
    strbuf_fini(&root);
    strbuf_fini(&other);
    strbuf_fini(&leaf);
}
static inline void drop_certs(void)
{
    tls_ctx_unref(server_ctx);
    tls_ctx_unref(h1_ctx);
    tls_ctx_unref(client_ctx);
    tls_ctx_unref(stranger_ctx);
}

/* ---- a plain server with the handler of the test ---- */

struct site {
    struct serve_server *s;
    struct serve_http h;
};

static inline void site_start(struct site *t, const struct serve_server_opts *o,
                              serve_handler_fn fn, void *user)
{
    struct error e = {0};
    struct serve_server_opts opts = o ? *o : (struct serve_server_opts){0};
    opts.loop = loop;
    t->s = serve_server_new(&opts);
    serve_http_init(&t->h, fn, user);
    serve_server_add(t->s, serve_http_accept, &t->h);
    if (serve_server_listen_text(t->s, SV(":0"), &e) != 0)
        fail_msg("%s", e.msg);
}
static inline const struct addr *site_addr(const struct site *t)
{
    return serve_server_addr(t->s, 0);
}
static inline struct serve_client *client_to(const struct addr *a, struct serve_client_opts o)
{
    struct error e = {0};
    char text[ADDR_TEXT_MAX];
    o.loop = loop;
    if (!o.target.n)
        o.target = addr_text(a, text);
    struct serve_client *c = serve_client_new(&o, &e);
    if (!c)
        fail_msg("%s", e.msg);
    return c;
}

/* ---- one call and its outcome ---- */

struct outcome {
    struct serve_call *call;
    int done, code;
    unsigned status;
    char details[256];
    struct strbuf body, type;
    enum http_protocol protocol;
};

static inline void on_outcome(void *user, const struct serve_result *r)
{
    struct outcome *o = user;
    o->done++;
    o->code = r->code;
    o->status = r->status;
    o->call = NULL;
    snprintf(o->details, sizeof(o->details), "%s", r->details);
    strbuf_add_sv(&o->body, r->body);
    if (r->head) {
        strbuf_add_sv(&o->type, http_headers_get(&r->head->h, HTTP_H_CONTENT_TYPE));
        o->protocol = r->head->protocol;
    }
}
static inline void call_start(struct outcome *o, struct serve_client *c,
                              struct serve_call_opts opts)
{
    memset(o, 0, sizeof(*o));
    strbuf_init(&o->body, 64 << 20);
    strbuf_init(&o->type, 1000);
    if (!opts.method.n)
        opts.method = SV("GET");
    o->call = serve_call_start(serve_client_channel(c), &opts, on_outcome, o);
    assert_int_equal(o->done, 0);
}
static inline void call_wait(struct outcome *o)
{
    turn_until(o->done);
    assert_int_equal(o->done, 1);
}
static inline void call_fini(struct outcome *o)
{
    strbuf_fini(&o->body);
    strbuf_fini(&o->type);
}
#define assert_body(o, text) assert_string_equal((o)->body.n ? (o)->body.p : "", (text))

#endif
