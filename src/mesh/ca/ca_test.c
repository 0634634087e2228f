/* The CA: its directory, its tokens, what it signs and what it refuses. */
#include "mesh/ca/ca.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tls/tls_csr.h"

#define NOW 1800000000ll

static char dir[64];
static const struct ca_identity ALICE = {"books", "alice"};

static int setup(void **state)
{
    strcpy(dir, "/tmp/weft-ca-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static struct ca *open_ca(struct ca_opts o)
{
    struct error e = {0};
    o.dir = o.dir ? o.dir : dir;
    struct ca *ca = ca_open(&o, NOW, &e);
    if (!ca)
        fail_msg("%s", e.msg);
    return ca;
}

static void expect_refused(struct ca_opts o, const char *why)
{
    struct error e = {0};
    o.dir = o.dir ? o.dir : dir;
    assert_null(ca_open(&o, NOW, &e));
    if (!strstr(e.msg, why))
        fail_msg("\"%s\" lacks \"%s\"", e.msg, why);
}

static const char *in_dir(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, sv text)
{
    FILE *f = fopen(in_dir(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
    fclose(f);
}

/* ---- the directory ---- */

static void test_made_once(void **state)
{
    struct ca *a = open_ca((struct ca_opts){0}), *b;
    struct stat st;
    char *roots = sv_dup(ca_roots_pem(a));
    assert_true(ca_is_self_made(a));
    assert_int_equal(ca_chain_pem(a).n, 0);
    assert_true(sv_eq(ca_trust_domain(a), SV("cluster.local")));
    assert_int_equal(ca_info(a)->not_after_s, NOW + CA_ROOT_TTL_S);
    ca_close(a);
    assert_int_equal(stat(in_dir("ca-key.pem"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_not_equal(access(in_dir(".making"), F_OK), 0);
    b = open_ca((struct ca_opts){0}); /* a restart finds it */
    assert_true(sv_eq_c(ca_roots_pem(b), roots));
    ca_close(b);
    free(roots);
}

static void test_makes_directory(void **state)
{
    char sub[128];
    struct stat st;
    snprintf(sub, sizeof sub, "%s/new", dir);
    ca_close(open_ca((struct ca_opts){.dir = sub}));
    assert_int_equal(stat(sub, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    expect_refused((struct ca_opts){.dir = "/proc/no/such"}, "cannot make directory");
}

/* Many that start at once agree on one root. */
static void test_two_makers(void **state)
{
    int fd[2], status;
    assert_int_equal(pipe(fd), 0);
    for (int i = 0; i < 6; i++) {
        if (fork() == 0) {
            struct error e = {0};
            struct ca *ca = ca_open(&(struct ca_opts){.dir = dir}, NOW, &e);
            ssize_t n = ca ? write(fd[1], ca_info(ca)->sha256.p, 64) : -1;
            _exit(n == 64 ? 0 : 1);
        }
    }
    char first[64], next[64];
    for (int i = 0; i < 6; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        assert_int_equal(read(fd[0], i ? next : first, 64), 64);
        if (i)
            assert_memory_equal(first, next, 64);
    }
    close(fd[0]);
    close(fd[1]);
}

/* An interrupted first start is made anew; a half plugged-in CA is never overwritten. */
static void test_half_there(void **state)
{
    write_file(".making", SV(""));
    write_file("ca-key.pem", SV("half"));
    ca_close(open_ca((struct ca_opts){0}));
    assert_int_equal(unlink(in_dir("ca-key.pem")), 0);
    expect_refused((struct ca_opts){0}, "has no ca-key.pem, but other files of a CA");
    write_file("ca-key.pem", SV("junk"));
    expect_refused((struct ca_opts){0}, "ca-key.pem: ");
}

static void plug_in(struct ca *root, const char *wrong)
{
    /* An intermediate below a root of another directory. */
    struct error e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/ca-key.pem", wrong);
    FILE *f = fopen(path, "r");
    char text[8192];
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    struct tls_key *root_key = tls_key_from_pem(sv_make(text, n), SV(""), &e);
    struct tls_signer *signer = tls_signer_new(ca_roots_pem(root), root_key, &e);
    struct tls_key *key = tls_key_generate(TLS_KEY_EC_P256, &e);
    struct strbuf pem;
    strbuf_init(&pem, 1 << 20);
    assert_int_equal(tls_cert_make_intermediate(signer, key, SV("o"), SV("plugged in"), NOW,
                                                86400 * 365, &pem, &e),
                     0);
    char *key_pem = tls_key_to_pem(key, &n);
    write_file("ca-key.pem", sv_make(key_pem, n));
    write_file("ca-cert.pem", strbuf_sv(&pem));
    write_file("root-cert.pem", ca_roots_pem(root));
    strbuf_add_sv(&pem, ca_roots_pem(root)); /* as Istio's Makefile does it */
    write_file("cert-chain.pem", strbuf_sv(&pem));
    tls_key_pem_free(key_pem, n);
    strbuf_fini(&pem);
    tls_key_unref(key);
    tls_key_unref(root_key);
    tls_signer_free(signer);
}

static struct strbuf make_csr(const struct tls_san *sans, size_t n)
{
    struct error e = {0};
    struct strbuf s;
    strbuf_init(&s, 65536);
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P256, &e);
    assert_int_equal(tls_csr_make(k, sans, n, SV(""), &s, &e), 0);
    tls_key_unref(k);
    return s;
}

static void test_plugged_in(void **state)
{
    struct error e = {0};
    char sub[128];
    snprintf(sub, sizeof sub, "%s/root", dir);
    struct ca *root = open_ca((struct ca_opts){.dir = sub});
    plug_in(root, sub);
    struct ca *ca = open_ca((struct ca_opts){0});
    assert_false(ca_is_self_made(ca));
    struct tls_cert_info *c = tls_cert_info_from_pem(ca_chain_pem(ca), &e);
    assert_non_null(strstr(c->subject.p, "CN=plugged in"));
    tls_cert_info_unref(c);
    struct strbuf csr = make_csr(NULL, 0), leaf;
    strbuf_init(&leaf, 1 << 20);
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, 0, NOW, &leaf, NULL, &e), 0);
    assert_int_not_equal(tls_cert_verify_chain(strbuf_sv(&leaf), ca_roots_pem(root), NOW, &e), 0);
    strbuf_add_sv(&leaf, ca_chain_pem(ca));
    assert_int_equal(tls_cert_verify_chain(strbuf_sv(&leaf), ca_roots_pem(root), NOW, &e), 0);
    /* A change on disk that is wrong leaves what is in force. */
    write_file("root-cert.pem", ca_chain_pem(ca));
    assert_int_equal(ca_reload(ca, NOW, &e), 0); /* the intermediate as its own anchor: fine */
    write_file("ca-cert.pem", ca_roots_pem(root));
    assert_int_equal(ca_reload(ca, NOW, &e), E_INVALID);
    assert_non_null(strstr(e.msg, "does not match"));
    strbuf_reset(&leaf);
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, 0, NOW, &leaf, NULL, &e), 0);
    strbuf_fini(&leaf);
    strbuf_fini(&csr);
    ca_close(ca);
    ca_close(root);
}

static void test_wrong_root(void **state)
{
    char sub[128];
    snprintf(sub, sizeof sub, "%s/root", dir);
    struct ca *root = open_ca((struct ca_opts){.dir = sub});
    plug_in(root, sub);
    snprintf(sub, sizeof sub, "%s/other", dir);
    struct ca *other = open_ca((struct ca_opts){.dir = sub});
    write_file("root-cert.pem", ca_roots_pem(other));
    write_file("cert-chain.pem", SV(""));
    expect_refused((struct ca_opts){0}, "ca-cert.pem: the chain does not lead to a root");
    /* Two roots in the bundle: both are handed out. */
    struct ca *both = open_ca((struct ca_opts){.dir = sub, .extra_roots_pem = ca_roots_pem(root)});
    assert_int_equal(ca_roots_pem(both).n, ca_roots_pem(other).n + ca_roots_pem(root).n);
    ca_close(both);
    expect_refused((struct ca_opts){.dir = sub, .extra_roots_pem = SV("x")}, "additional roots");
    expect_refused((struct ca_opts){.dir = sub, .trust_domain = SV("A b")},
                   "no SPIFFE trust domain");
    ca_close(other);
    ca_close(root);
}

/* ---- signing ---- */

static void test_sign(void **state)
{
    struct error e = {0};
    struct ca *ca = open_ca(
        (struct ca_opts){.trust_domain = SV("td"), .default_ttl_s = 600, .max_ttl_s = 3600});
    struct tls_san mine = {TLS_SAN_URI, SV("spiffe://td/ns/books/sa/alice")};
    struct strbuf csr = make_csr(&mine, 1), leaf;
    int64_t end;
    strbuf_init(&leaf, 1 << 20);
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, 0, NOW, &leaf, &end, &e), 0);
    assert_int_equal(end, NOW + 600);
    struct tls_cert_info *c = tls_cert_info_from_pem(strbuf_sv(&leaf), &e);
    assert_int_equal(c->n_sans, 1);
    assert_true(sv_eq(tls_cert_info_san(c, TLS_SAN_URI, 0), mine.value));
    tls_cert_info_unref(c);
    assert_int_equal(tls_cert_verify_chain(strbuf_sv(&leaf), ca_roots_pem(ca), NOW, &e), 0);
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, 3600, NOW, &leaf, &end, &e), 0);
    assert_int_equal(end, NOW + 3600);
    size_t n = leaf.n;
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, 3601, NOW, &leaf, &end, &e), E_LIMIT);
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, -1, NOW, &leaf, &end, &e), E_INVALID);
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, INT64_MIN, NOW, &leaf, &end, &e),
                     E_INVALID);
    struct ca_identity odd = {"a/b", "c"};
    assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &odd, 0, NOW, &leaf, &end, &e), E_INVALID);
    assert_int_equal(ca_sign(ca, SV("no request"), &ALICE, 0, NOW, &leaf, &end, &e), E_INVALID);
    assert_int_equal(leaf.n, n);
    strbuf_fini(&leaf);
    strbuf_fini(&csr);
    ca_close(ca);
}

static void test_names_refused(void **state)
{
    struct error e = {0};
    struct ca *ca = open_ca((struct ca_opts){0});
    const struct tls_san bad[][2] = {
        {{TLS_SAN_URI, SV("spiffe://cluster.local/ns/books/sa/eve")}},
        {{TLS_SAN_URI, SV("spiffe://other/ns/books/sa/alice")}},
        {{TLS_SAN_URI, SV("spiffe://cluster.local/ns/books/sa/alice2")}},
        {{TLS_SAN_DNS, SV("istiod.istio-system.svc")}},
        {{TLS_SAN_URI, SV("spiffe://cluster.local/ns/books/sa/alice")}, {TLS_SAN_DNS, SV("x")}},
    };
    struct strbuf leaf;
    strbuf_init(&leaf, 1 << 20);
    for (int i = 0; i < 5; i++) {
        struct strbuf csr = make_csr(bad[i], bad[i][1].value.n ? 2 : 1);
        assert_int_equal(ca_sign(ca, strbuf_sv(&csr), &ALICE, 0, NOW, &leaf, NULL, &e), E_DENIED);
        assert_non_null(
            strstr(e.msg, "but the caller is spiffe://cluster.local/ns/books/sa/alice"));
        strbuf_fini(&csr);
    }
    assert_int_equal(leaf.n, 0);
    strbuf_fini(&leaf);
    ca_close(ca);
}

/* ---- tokens and callers ---- */

static int verify(struct ca *ca, sv token, int64_t now, const char *why)
{
    struct error e = {0};
    struct ca_identity who;
    char workload[256];
    int code = ca_token_verify(ca, token, now, &who, workload, &e);
    if (code && !strstr(e.msg, why))
        fail_msg("\"%s\" lacks \"%s\"", e.msg, why);
    if (code == 0) {
        assert_string_equal(who.ns, "books");
        assert_string_equal(who.sa, "alice");
        assert_string_equal(workload, "flaskapp-v1");
    }
    return code;
}

static void test_tokens(void **state)
{
    struct error e = {0};
    struct ca *ca = open_ca((struct ca_opts){0}), *again, *other;
    struct strbuf t, u;
    strbuf_init(&t, 4096);
    strbuf_init(&u, 4096);
    assert_int_equal(ca_token_make(ca, &ALICE, SV("flaskapp-v1"), NOW + 60, &t, &e), 0);
    assert_int_equal(ca_token_make(ca, &ALICE, SV("flaskapp-v1"), NOW + 60, &u, &e), 0);
    assert_false(sv_eq(strbuf_sv(&t), strbuf_sv(&u)));
    assert_int_equal(verify(ca, strbuf_sv(&t), NOW, ""), 0);
    assert_int_equal(verify(ca, strbuf_sv(&t), NOW + 59, ""), 0);
    assert_int_equal(verify(ca, strbuf_sv(&t), NOW + 60, "of books/alice has expired"), E_DENIED);
    again = open_ca((struct ca_opts){0}); /* a replica, or after a restart */
    assert_int_equal(verify(again, strbuf_sv(&t), NOW, ""), 0);
    char sub[128];
    snprintf(sub, sizeof sub, "%s/other", dir);
    other = open_ca((struct ca_opts){.dir = sub});
    assert_int_equal(verify(other, strbuf_sv(&t), NOW, "not made by this CA"), E_DENIED);
    /* No byte of it may be changed, added or cut. */
    for (size_t i = 0; i < t.n; i++) {
        for (int k = 0; k < 2; k++) {
            char old = t.p[i];
            t.p[i] = k ? '.' : (old == 'A' ? 'B' : 'A');
            if (t.p[i] != old)
                assert_int_equal(verify(ca, strbuf_sv(&t), NOW, "the token"), E_DENIED);
            t.p[i] = old;
        }
        assert_int_equal(verify(ca, sv_first(strbuf_sv(&t), i), NOW, "the token"), E_DENIED);
    }
    strbuf_add_ch(&t, 'A');
    assert_int_equal(verify(ca, strbuf_sv(&t), NOW, "the token"), E_DENIED);
    assert_int_equal(verify(ca, SV("weft1.."), NOW, "the token"), E_DENIED);
    struct ca_identity odd = {"a/b", "c"};
    assert_int_equal(ca_token_make(ca, &odd, SV("w"), NOW, &t, &e), E_INVALID);
    assert_int_equal(ca_token_make(ca, &ALICE, SV("w w"), NOW, &t, &e), E_INVALID);
    strbuf_fini(&t);
    strbuf_fini(&u);
    ca_close(ca);
    ca_close(again);
    ca_close(other);
}

static struct tls_info peer_with(struct ca *ca, const char *uri, int64_t ttl)
{
    struct error e = {0};
    struct strbuf pem;
    struct tls_san san = {TLS_SAN_URI, sv_of(uri)};
    strbuf_init(&pem, 1 << 20);
    struct tls_key *k = tls_key_generate(TLS_KEY_EC_P256, &e);
    assert_int_equal(ca_issue(ca, k, &san, 1, ttl, NOW, &pem, &e), 0);
    struct tls_info i = {.peer = tls_cert_info_from_pem(strbuf_sv(&pem), &e),
                         .peer_validated = true};
    tls_key_unref(k);
    strbuf_fini(&pem);
    return i;
}

static void test_callers(void **state)
{
    struct error e = {0};
    struct ca *ca = open_ca((struct ca_opts){0});
    struct ca_identity who = {"", ""};
    struct tls_info tls = peer_with(ca, "spiffe://cluster.local/ns/books/sa/alice", 60);
    struct tls_info alien = peer_with(ca, "spiffe://elsewhere/ns/books/sa/alice", 60);
    struct tls_info odd = peer_with(ca, "spiffe://cluster.local/books", 60);
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){.tls = &tls}, NOW, &who, &e), 0);
    assert_string_equal(who.sa, "alice");
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){0}, NOW, &who, &e), E_DENIED);
    assert_non_null(strstr(e.msg, "neither a token nor a certificate"));
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){.tls = &tls}, NOW + 61, &who, &e),
                     E_DENIED);
    assert_non_null(strstr(e.msg, "has expired"));
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){.tls = &alien}, NOW, &who, &e),
                     E_DENIED);
    assert_non_null(strstr(e.msg, "trust domain elsewhere"));
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){.tls = &odd}, NOW, &who, &e),
                     E_DENIED);
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){.bearer = SV("x")}, NOW, &who, &e),
                     E_DENIED);
    tls.peer_validated = false;
    assert_int_equal(ca_authenticate(ca, &(struct ca_caller){.tls = &tls}, NOW, &who, &e),
                     E_DENIED);
    struct tls_info *all[] = {&tls, &alien, &odd};
    for (int i = 0; i < 3; i++)
        tls_cert_info_unref((struct tls_cert_info *)(uintptr_t)all[i]->peer);
    ca_close(ca);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_made_once),  T(test_makes_directory), T(test_two_makers), T(test_half_there),
        T(test_plugged_in), T(test_wrong_root),      T(test_sign),       T(test_names_refused),
        T(test_tokens),     T(test_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
