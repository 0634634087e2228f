/* Workers on threads of their own take contexts from slots that main rotates meanwhile; sessions
 * are shared by all of them. Meant for the thread sanitizer. */
#include "tls/tls_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include "tls/tls_slot.h"

#define WORKERS 3
#define ROUNDS  12

struct shared {
    struct tls_slot *client, *server;
    _Atomic int done, good;
};

static void *worker(void *arg)
{
    struct shared *s = arg;
    struct loop *l = loop_new(NULL);
    for (int i = 0; i < ROUNDS; i++) {
        struct tls_ctx *c = tls_slot_get(s->client), *sv = tls_slot_get(s->server);
        struct tt_pair p;
        if (tt_pair_init(&p, l, c, sv, NULL) && tls_info_peer_identity(p.server.c->tls).n &&
            p.server.c->tls->local)
            atomic_fetch_add(&s->good, 1);
        tls_ctx_unref(c); /* the connections hold theirs */
        tls_ctx_unref(sv);
        tt_pair_fini(&p);
    }
    loop_turn(l, 0);
    loop_free(l);
    atomic_fetch_add(&s->done, 1);
    return NULL;
}

static void set_cert(struct tls_secret_store *st, struct tt_cert *c)
{
    struct error e = {0};
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV(""), &c->opts, 1, &e), 0);
}

static struct tls_slot *make_slot(struct tls_secret_store *st, bool server)
{
    static const struct tls_secret_name cert = {SV_INIT("default"), {NULL, 0}};
    struct error e = {0};
    struct tls_slot *s = tls_slot_new(
        &(struct tls_slot_opts){
            .ctx = {.server = server, .client_auth = TLS_CLIENT_REQUIRE, .max_session_keys = 4},
            .certs = &cert,
            .n_certs = 1,
            .validation = {SV("ROOTCA"), {NULL, 0}},
            .store = st,
        },
        &e);
    assert_non_null(s);
    return s;
}

static void test_threads(void **state)
{
    struct tt_ca root;
    struct tt_cert a, b;
    struct error e = {0};
    struct shared s = {0};
    pthread_t t[WORKERS];
    tt_ca_init(&root, NULL, "root");
    tt_cert_init(&a, &root, "spiffe://td/ns/a/sa/alice");
    tt_cert_init(&b, &root, "spiffe://td/ns/b/sa/bob");
    struct tls_secret_store *st = tls_secret_store_new(NULL);
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    assert_int_equal(tls_secret_store_set_validation(st, SV("ROOTCA"), SV(""), &v, 1, &e), 0);
    set_cert(st, &a);
    s.client = make_slot(st, false);
    s.server = make_slot(st, true);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, worker, &s), 0);
    for (int i = 0; atomic_load(&s.done) < WORKERS; i++) {
        set_cert(st, i % 2 ? &a : &b);
        usleep(3000);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&s.good), WORKERS * ROUNDS);
    assert_true(tls_slot_generation(s.server) > 2);
    tls_slot_free(s.client);
    tls_slot_free(s.server);
    tls_secret_store_free(st);
    tt_cert_fini(&a);
    tt_cert_fini(&b);
    tt_ca_fini(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
