/* Secrets and slots: not ready until all is there, rotation under live connections, bad values. */
#include "tls/tls_slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "tls/tls_testlib.h"

static struct tt_ca root, root2;
static struct tt_cert alice, bob, bob2;

static int setup(void **state)
{
    tt_ca_init(&root, NULL, "root");
    tt_ca_init(&root2, NULL, "new root");
    tt_cert_init(&alice, &root, "spiffe://td/ns/a/sa/alice");
    tt_cert_init(&bob, &root, "spiffe://td/ns/b/sa/bob");
    tt_cert_init(&bob2, &root2, "spiffe://td/ns/b/sa/bob");
    return 0;
}

static int teardown(void **state)
{
    tt_cert_fini(&alice);
    tt_cert_fini(&bob);
    tt_cert_fini(&bob2);
    tt_ca_fini(&root);
    tt_ca_fini(&root2);
    return 0;
}

/* ---- a source that writes down what it is asked ---- */

struct log {
    char text[256];
    struct tls_secret_store *store;
    bool answer; /* at once */
};

static void want(void *arg, sv name, sv config)
{
    struct log *l = arg;
    struct error e = {0};
    snprintf(l->text + strlen(l->text), sizeof l->text - strlen(l->text), "+%.*s", SV_ARG(name));
    if (l->answer)
        assert_int_equal(tls_secret_store_set_cert(l->store, name, config, &bob.opts, 1, &e), 0);
}

static void unwant(void *arg, sv name, sv config)
{
    struct log *l = arg;
    snprintf(l->text + strlen(l->text), sizeof l->text - strlen(l->text), "-%.*s", SV_ARG(name));
    tls_secret_store_remove(l->store, name, config);
}

struct user {
    struct tls_secret_user u;
    int told;
    uint64_t version;
    struct user *drop; /* unsubscribed when this one is told */
};

static void on_change(struct tls_secret_user *u, struct tls_secret *now)
{
    struct user *me = container_of(u, struct user, u);
    me->told++;
    me->version = now->version;
    if (me->drop)
        tls_secret_unsubscribe(&me->drop->u);
}

static void test_store(void **state)
{
    struct log l = {0};
    struct error e = {0};
    struct tls_secret_source src = {want, unwant, &l};
    struct tls_secret_store *st = l.store = tls_secret_store_new(&src);
    struct user a = {.u.on_change = on_change}, b = a, c = a;
    assert_null(tls_secret_subscribe(st, SV("default"), SV("sds"), &a.u));
    assert_null(tls_secret_subscribe(st, SV("default"), SV("sds"), &b.u));
    assert_null(tls_secret_subscribe(st, SV("default"), SV("other source"), &c.u));
    assert_string_equal(l.text, "+default+default");
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV("sds"), &alice.opts, 7, &e),
                     0);
    assert_int_equal(a.told, 1);
    assert_int_equal(b.told, 1);
    assert_int_equal(c.told, 0);
    struct tls_secret *s = tls_secret_store_get(st, SV("default"), SV("sds"));
    assert_int_equal(s->updated_s, 7);
    assert_int_equal(s->kind, TLS_SECRET_CERT);
    assert_true(sv_eq(s->cert.chain_pem, alice.opts.chain_pem));
    assert_int_equal(s->cert.key_pem.n, 0); /* kept as a key, not as text */
    /* The same again is no change; a bad one leaves the old. */
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV("sds"), &alice.opts, 8, &e),
                     0);
    assert_int_equal(a.told, 1);
    struct tls_cert_opts bad = {.chain_pem = alice.opts.chain_pem, .key = bob.key};
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV("sds"), &bad, 8, &e),
                     E_INVALID);
    assert_non_null(strstr(e.msg, "default: the private key does not match"));
    assert_ptr_equal(tls_secret_store_get(st, SV("default"), SV("sds")), s);
    /* Users may leave while they are told. */
    a.drop = &b;
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV("sds"), &bob.opts, 9, &e), 0);
    assert_int_equal(a.told, 2);
    assert_int_equal(b.told, 1);
    a.drop = &a;
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV("sds"), &alice.opts, 9, &e),
                     0);
    assert_string_equal(l.text, "+default+default-default");
    tls_secret_unsubscribe(&c.u);
    tls_secret_unsubscribe(&c.u);
    assert_string_equal(l.text, "+default+default-default-default");
    assert_null(tls_secret_store_get(st, SV("default"), SV("sds")));
    /* An answer from inside want() is the value returned. */
    l.answer = true;
    a.drop = NULL;
    a.told = 0;
    assert_non_null(tls_secret_subscribe(st, SV("quick"), SV("sds"), &a.u));
    assert_int_equal(a.told, 0);
    assert_int_equal(tls_secret_store_set_cert(st, SV("quick"), SV("sds"), &alice.opts, 9, &e), 0);
    assert_int_equal(a.told, 1);
    tls_secret_unsubscribe(&a.u);
    tls_secret_store_free(st);
}

static void test_bad_values(void **state)
{
    struct error e = {0};
    struct tls_secret_store *st = tls_secret_store_new(NULL);
    struct tls_validation v = {.ca_pem = SV("junk")};
    assert_int_equal(tls_secret_store_set_validation(st, SV("ROOTCA"), SV(""), &v, 1, &e),
                     E_INVALID);
    assert_non_null(strstr(e.msg, "ROOTCA"));
    sv keys[] = {SV("short")};
    assert_int_equal(tls_secret_store_set_ticket_keys(st, SV("t"), SV(""), keys, 1, 1, &e),
                     E_INVALID);
    assert_int_equal(tls_secret_store_set_ticket_keys(st, SV("t"), SV(""), keys, 0, 1, &e),
                     E_INVALID);
    assert_null(tls_secret_store_get(st, SV("ROOTCA"), SV("")));
    tls_secret_store_free(st);
}

/* ---- slots ---- */

static void count(struct tls_slot *s, void *arg)
{
    ++*(int *)arg;
}

static const struct tls_secret_name DEFAULT = {SV_INIT("default"), {NULL, 0}};

static void set_cert(struct tls_secret_store *st, struct tt_cert *c)
{
    struct error e = {0};
    assert_int_equal(tls_secret_store_set_cert(st, SV("default"), SV(""), &c->opts, 1, &e), 0);
}

static void set_roots(struct tls_secret_store *st, sv pem)
{
    struct error e = {0};
    struct tls_validation v = {.ca_pem = pem};
    assert_int_equal(tls_secret_store_set_validation(st, SV("ROOTCA"), SV(""), &v, 1, &e), 0);
}

static struct tls_slot *make_slot(struct tls_secret_store *st, bool server, int *changes)
{
    struct error e = {0};
    struct tls_san_match m = {
        .type = TLS_SAN_URI, .kind = TLS_MATCH_PREFIX, .value = SV("spiffe://td/")};
    struct tls_validation names = {.sans = &m, .n_sans = 1};
    struct tls_slot_opts o = {
        .ctx = {.server = server, .client_auth = TLS_CLIENT_REQUIRE, .validation = &names},
        .certs = &DEFAULT,
        .n_certs = 1,
        .validation = {SV("ROOTCA"), {NULL, 0}},
        .store = st,
        .on_change = count,
        .arg = changes,
    };
    struct tls_slot *s = tls_slot_new(&o, &e);
    if (!s)
        fail_msg("%s", e.msg);
    return s;
}

static void test_not_ready(void **state)
{
    struct tls_secret_store *st = tls_secret_store_new(NULL);
    int changes = 0;
    struct tls_slot *s = make_slot(st, true, &changes);
    assert_false(tls_slot_ready(s));
    assert_null(tls_slot_get(s));
    set_cert(st, &bob);
    assert_false(tls_slot_ready(s)); /* never a context without its roots */
    assert_null(tls_slot_get(s));
    assert_int_equal(changes, 0);
    set_roots(st, strbuf_sv(&root.pem));
    assert_true(tls_slot_ready(s));
    assert_int_equal(changes, 1);
    struct tls_ctx *c = tls_slot_get(s);
    assert_non_null(c);
    /* Removal of a secret leaves what was built in service. */
    tls_secret_store_remove(st, SV("default"), SV(""));
    assert_true(tls_slot_ready(s));
    tls_ctx_unref(c);
    tls_slot_free(s);
    tls_secret_store_free(st);
}

/* A value of the wrong kind or one that does not fit leaves the last good context in force. */
static void test_last_good(void **state)
{
    struct tls_secret_store *st = tls_secret_store_new(NULL);
    struct error e = {0};
    int changes = 0;
    set_cert(st, &bob);
    set_roots(st, strbuf_sv(&root.pem));
    struct tls_slot *s = make_slot(st, true, &changes);
    struct tls_ctx *before = tls_slot_get(s), *after;
    struct tls_validation v = {.ca_pem = strbuf_sv(&root.pem)};
    assert_int_equal(tls_secret_store_set_validation(st, SV("default"), SV(""), &v, 2, &e), 0);
    assert_non_null(strstr(tls_slot_error(s), "\"default\" is a validation_context"));
    after = tls_slot_get(s);
    assert_ptr_equal(before, after);
    tls_ctx_unref(after);
    set_cert(st, &bob2);
    assert_string_equal(tls_slot_error(s), "");
    after = tls_slot_get(s);
    assert_ptr_not_equal(before, after);
    tls_ctx_unref(after);
    tls_ctx_unref(before);
    assert_int_equal(tls_slot_generation(s), 2);
    tls_slot_free(s);
    tls_secret_store_free(st);
}

static void say(struct tt_side *from, struct tt_side *to, sv text)
{
    struct buf b;
    buf_init(&b);
    buf_append_sv(&b, text);
    assert_int_equal(conn_write(from->c, &b), text.n);
    tt_turns(from->c->loop, 3);
    assert_int_equal(to->in.len, text.n);
    buf_reset(&to->in);
}

static bool connect_now(struct tt_pair *p, struct loop *l, struct tls_slot *c, struct tls_slot *s)
{
    struct tls_ctx *cc = tls_slot_get(c), *sc = tls_slot_get(s);
    bool ok = tt_pair_init(p, l, cc, sc, NULL);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    return ok;
}

/* Rotation of certificate and root while a connection is up (root overlap as in a CA change). */
static void test_rotation(void **state)
{
    struct loop *l = loop_new(NULL);
    struct tls_secret_store *cs = tls_secret_store_new(NULL), *ss = tls_secret_store_new(NULL);
    struct tt_pair old, new;
    struct strbuf both;
    set_cert(cs, &alice);
    set_roots(cs, strbuf_sv(&root.pem));
    set_cert(ss, &bob);
    set_roots(ss, strbuf_sv(&root.pem));
    struct tls_slot *c = make_slot(cs, false, &(int){0}), *s = make_slot(ss, true, &(int){0});
    assert_true(connect_now(&old, l, c, s));
    set_cert(ss, &bob2); /* from a root that the client does not know yet */
    say(&old.client, &old.server, SV("still here"));
    assert_false(connect_now(&new, l, c, s));
    tt_pair_fini(&new);
    strbuf_init(&both, 1 << 20);
    strbuf_add_sv(&both, strbuf_sv(&root.pem));
    strbuf_add_sv(&both, strbuf_sv(&root2.pem));
    set_roots(cs, strbuf_sv(&both));
    assert_true(connect_now(&new, l, c, s));
    say(&new.client, &new.server, SV("hello"));
    say(&old.server, &old.client, SV("and here"));
    /* Slots and stores may go first: connections hold their context. */
    tls_slot_free(c);
    tls_slot_free(s);
    tls_secret_store_free(cs);
    tls_secret_store_free(ss);
    say(&old.client, &old.server, SV("to the end"));
    tt_pair_fini(&old);
    tt_pair_fini(&new);
    strbuf_fini(&both);
    loop_free(l);
}

static void test_inline(void **state)
{
    struct error e = {0};
    struct tls_slot_opts o = {.ctx = {.server = true, .certs = &bob.opts, .n_certs = 1}};
    struct tls_slot *s = tls_slot_new(&o, &e);
    assert_true(tls_slot_ready(s));
    tls_slot_free(s);
    o.ctx.n_certs = 0;
    assert_null(tls_slot_new(&o, &e));
    assert_non_null(strstr(e.msg, "needs a certificate"));
    o.certs = &DEFAULT;
    o.n_certs = 1;
    assert_null(tls_slot_new(&o, &e));
    assert_non_null(strstr(e.msg, "\"default\" is named, but there is no source"));
    /* What is inline is checked although a secret is still missing. */
    o.store = tls_secret_store_new(NULL);
    sv cipher = SV("ROT13");
    o.ctx.ciphers = &cipher;
    o.ctx.n_ciphers = 1;
    assert_null(tls_slot_new(&o, &e));
    assert_non_null(strstr(e.msg, "ROT13"));
    tls_secret_store_free(o.store);
}

static void test_ticket_keys(void **state)
{
    struct error e = {0};
    struct tls_secret_store *st = tls_secret_store_new(NULL);
    char key[80] = {1};
    sv keys[] = {{key, 80}};
    struct tls_slot_opts o = {.ctx = {.server = true, .certs = &bob.opts, .n_certs = 1},
                              .ticket_keys = {SV("tickets"), {NULL, 0}},
                              .store = st};
    struct tls_slot *s = tls_slot_new(&o, &e);
    assert_false(tls_slot_ready(s));
    assert_int_equal(tls_secret_store_set_ticket_keys(st, SV("tickets"), SV(""), keys, 1, 1, &e),
                     0);
    assert_true(tls_slot_ready(s));
    key[3] = 9;
    assert_int_equal(tls_secret_store_set_ticket_keys(st, SV("tickets"), SV(""), keys, 1, 1, &e),
                     0);
    assert_int_equal(tls_slot_generation(s), 2);
    tls_slot_free(s);
    tls_secret_store_free(st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store),       cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_not_ready),   cmocka_unit_test(test_last_good),
        cmocka_unit_test(test_rotation),    cmocka_unit_test(test_inline),
        cmocka_unit_test(test_ticket_keys),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
