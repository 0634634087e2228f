/* Real sockets on loopback, with the openssl program at the other end. */
#include "tls/tls_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include "net/listener.h"
#include "tls/tls_key.h"

static struct loop *loop;
static struct tt_ca root;
static struct tt_cert alice, bob;
static char dir[] = "/tmp/weft-tls-XXXXXX";

static void write_file(const char *name, sv text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
    fclose(f);
}

static void write_cert(const char *name, struct tt_cert *c)
{
    char file[64];
    size_t n;
    char *key = tls_key_to_pem(c->key, &n);
    snprintf(file, sizeof file, "%s.pem", name);
    write_file(file, strbuf_sv(&c->chain));
    snprintf(file, sizeof file, "%s.key", name);
    write_file(file, sv_make(key, n));
    tls_key_pem_free(key, n);
}

static int setup(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    loop = loop_new(NULL);
    tt_ca_init(&root, NULL, "root");
    tt_cert_init(&alice, &root, "spiffe://td/ns/a/sa/alice");
    tt_cert_init(&bob, &root, "spiffe://td/ns/b/sa/bob");
    assert_non_null(mkdtemp(dir));
    write_file("root.pem", strbuf_sv(&root.pem));
    write_cert("alice", &alice);
    write_cert("bob", &bob);
    return 0;
}

static int teardown(void **state)
{
    static const char *const files[] = {"root.pem", "alice.pem", "alice.key", "bob.pem", "bob.key"};
    char path[128];
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    tt_cert_fini(&alice);
    tt_cert_fini(&bob);
    tt_ca_fini(&root);
    loop_free(loop);
    return 0;
}

struct child {
    pid_t pid;
    int in, out; /* its stdin and stdout */
};

static struct child run(const char *const *argv)
{
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (chdir(dir))
            _exit(126);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    return (struct child){pid, in[1], out[0]};
}

static void finish(struct child *c)
{
    kill(c->pid, SIGTERM);
    waitpid(c->pid, NULL, 0);
    close(c->in);
    close(c->out);
}

/* Reads its output, turning the loop meanwhile, until `text` came or 60 s have gone. */
static bool wait_for(struct child *c, const char *text, char *buf, size_t cap)
{
    size_t n = 0;
    for (int i = 0; i < 12000; i++) {
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        loop_turn(loop, 1000000);
        if (poll(&p, 1, 4) == 1) {
            ssize_t k = read(c->out, buf + n, cap - 1 - n);
            if (k <= 0)
                break;
            n += (size_t)k;
        }
        buf[n] = '\0';
        if (strstr(buf, text))
            return true;
    }
    buf[n] = '\0';
    return false;
}

static struct tls_ctx *make(struct tls_ctx_opts o, struct tt_cert *own)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    o.validation = &v;
    o.certs = own ? &own->opts : NULL;
    o.n_certs = own != NULL;
    struct tls_ctx *c = tls_ctx_new(&o, &e);
    assert_non_null(c);
    return c;
}

/* ---- our client, openssl s_server ---- */

static void with_s_server(const char *version, bool give_cert, bool expect_up)
{
    const char *argv[] = {"openssl",
                          "s_server",
                          "-accept",
                          "127.0.0.1:0",
                          "-cert",
                          "bob.pem",
                          "-key",
                          "bob.key",
                          "-CAfile",
                          "root.pem",
                          "-Verify",
                          "2",
                          "-verify_return_error",
                          "-alpn",
                          "h2,http/1.1",
                          "-rev",
                          version,
                          NULL};
    struct child child = run(argv);
    char text[8192], *at;
    if (!wait_for(&child, "ACCEPT 127.0.0.1:", text, sizeof text))
        fail_msg("openssl s_server: %s", text);
    at = strstr(text, "ACCEPT 127.0.0.1:");
    struct addr a;
    addr_ip(&a, SV("127.0.0.1"), (uint16_t)atoi(at + 17));
    struct tls_ctx *ctx =
        make((struct tls_ctx_opts){.max_session_keys = 1}, give_cert ? &alice : NULL);
    sv alpn = SV("h2");
    struct tls_client_params params = {
        .alpn = &alpn, .n_alpn = 1, .has_sni = true, .sni = SV("x.y")};
    for (int round = 0; round < 2; round++) {
        struct tt_side s = {0};
        int code;
        struct conn *lower = conn_connect(loop, &a, NULL, NULL, NULL, &code);
        s.c = tls_conn_client(lower, ctx, &params, tt_event, &s);
        for (int i = 0; i < 12000 && !(s.seen & (CONN_EV_CONNECTED | CONN_EV_ERROR)); i++)
            loop_turn(loop, 10000000);
        struct buf b;
        buf_init(&b);
        buf_append_static(&b, SV("hello\n"));
        if (s.seen & CONN_EV_CONNECTED)
            conn_write(s.c, &b);
        for (int i = 0; i < 12000 && s.in.len < 6 && !s.error && !s.eof; i++)
            loop_turn(loop, 10000000);
        if (expect_up) {
            assert_int_equal(s.error, 0);
            assert_true(sv_eq(buf_pullup(&s.in, 6), SV("olleh\n")));
            assert_true(sv_eq(s.c->tls->alpn, SV("h2")));
            assert_true(sv_eq(tls_info_peer_identity(s.c->tls), SV("spiffe://td/ns/b/sa/bob")));
            assert_int_equal(s.c->tls->session_reused, round);
        } else {
            assert_int_equal(s.error, E_TLS);
            assert_non_null(strstr(s.c->error_text.p, "TLS_error:|"));
        }
        buf_reset(&b);
        tt_side_fini(&s);
        tt_turns(loop, 3);
    }
    tls_ctx_unref(ctx);
    finish(&child);
}

static void test_s_server(void **state)
{
    with_s_server("-tls1_3", true, true);
    with_s_server("-tls1_2", true, true);
    with_s_server("-tls1_3", false, false);
    with_s_server("-tls1_2", false, false);
}

/* ---- our server, openssl s_client ---- */

struct echo {
    struct tls_ctx *ctx;
    struct tt_side side;
    bool echoed;
};

static void echo_event(struct conn *c, unsigned events, void *user)
{
    struct echo *e = user;
    tt_event(c, events, &e->side);
    if (e->side.in.len && !e->side.error) {
        conn_write(c, &e->side.in);
        e->echoed = true;
    }
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct echo *e = user;
    struct conn *lower = conn_from_fd(loop, fd, local, remote, NULL, NULL);
    e->side.c = tls_conn_server(lower, e->ctx, echo_event, e);
}

static void with_s_client(const char *version, bool give_cert, const char *want)
{
    struct error err = {0};
    struct addr a;
    sv alpn[] = {SV("istio"), SV("h2")};
    struct echo e = {.ctx = make((struct tls_ctx_opts){.server = true,
                                                       .alpn = alpn,
                                                       .n_alpn = 2,
                                                       .client_auth = TLS_CLIENT_REQUIRE},
                                 &bob)};
    addr_ip(&a, SV("127.0.0.1"), 0);
    struct net_listener *l =
        net_listener_new(loop, &a, &(struct listen_opts){0}, on_accept, &e, &err);
    assert_non_null(l);
    net_listener_start(l);
    char target[ADDR_TEXT_MAX], text[16384];
    addr_text(net_listener_addr(l), target);
    const char *argv[] = {"openssl",
                          "s_client",
                          "-connect",
                          target,
                          "-CAfile",
                          "root.pem",
                          "-servername",
                          "Bob.Books",
                          "-alpn",
                          "h2,istio",
                          "-verify_return_error",
                          version,
                          give_cert ? "-cert" : "-brief",
                          give_cert ? "alice.pem" : NULL,
                          "-key",
                          "alice.key",
                          NULL};
    struct child child = run(argv);
    assert_int_equal(write(child.in, "marco polo\n", 11), 11);
    if (!wait_for(&child, want, text, sizeof text))
        fail_msg("\"%s\" not in: %s", want, text);
    if (give_cert) {
        for (int i = 0; i < 300 && !e.echoed; i++)
            loop_turn(loop, 10000000);
        assert_true(e.echoed);
        if (!strstr(text, "marco polo"))
            assert_true(wait_for(&child, "marco polo", text, sizeof text));
        assert_true(sv_eq(tls_info_peer_identity(e.side.c->tls), SV("spiffe://td/ns/a/sa/alice")));
        assert_true(sv_eq(e.side.c->tls->sni, SV("bob.books")));
        assert_true(sv_eq(e.side.c->tls->alpn, SV("istio")));
    } else {
        tt_turns(loop, 10);
        assert_int_equal(tls_conn_fail(e.side.c), TLS_FAIL_NO_CERT);
    }
    finish(&child);
    tt_side_fini(&e.side);
    net_listener_free(l);
    tt_turns(loop, 3);
    tls_ctx_unref(e.ctx);
}

static void test_s_client(void **state)
{
    with_s_client("-tls1_3", true, "Verify return code: 0 (ok)");
    with_s_client("-tls1_2", true, "Verify return code: 0 (ok)");
    with_s_client("-tls1_3", false, "alert certificate required");
    with_s_client("-tls1_2", false, "alert handshake failure");
}

/* A port that is closed: the reason of the socket is the reason of the stack. */
static void test_refused(void **state)
{
    struct addr a;
    struct error err = {0};
    addr_ip(&a, SV("127.0.0.1"), 0);
    struct net_listener *l =
        net_listener_new(loop, &a, &(struct listen_opts){0}, on_accept, NULL, &err);
    a = *net_listener_addr(l);
    net_listener_free(l);
    struct tls_ctx *ctx = make((struct tls_ctx_opts){0}, NULL);
    struct tt_side s = {0};
    int code;
    struct conn *lower = conn_connect(loop, &a, NULL, NULL, NULL, &code);
    s.c = tls_conn_client(lower, ctx, NULL, tt_event, &s);
    tt_turns(loop, 10);
    assert_int_equal(s.error, E_REFUSED);
    assert_true(s.c->error_text.n > 0);
    assert_int_equal(tls_conn_fail(s.c), TLS_FAIL_NONE);
    tt_side_fini(&s);
    tt_turns(loop, 3);
    tls_ctx_unref(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s_server),
        cmocka_unit_test(test_s_client),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
