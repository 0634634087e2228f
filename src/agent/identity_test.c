/* Identity, secrets and the agent as a whole, against a certificate service on loopback. */
#include "agent/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/stat.h>
#include "agent/agent.h"
#include "agent/sds_server.h"
#include "api/envoy.pb.h"
#include "api/istio.pb.h"
#include "base/log.h"
#include "grpc/grpc.h"
#include "serve/serve_client.h"
#include "serve/serve_server.h"
#include "tls/tls_testlib.h"
#include "xds/ads_client.h"

/* ---- a certificate service that can be made to misbehave ---- */

enum mood { GOOD, REFUSE, OTHER_NAME, OTHER_KEY, OTHER_ROOT, EMPTY };

struct service {
    struct loop *loop;
    struct tt_ca root, other;
    struct tt_cert cert;
    struct tls_ctx *tls;
    struct serve_server *http;
    struct grpc_server *grpc;
    enum mood mood;
    int64_t ttl;
    int calls;
    char bearer[64], peer[128], address[ADDR_TEXT_MAX];
};

static void sign(struct service *s, sv csr_pem, struct strbuf *leaf)
{
    struct error e = {0};
    struct tls_csr *csr = tls_csr_parse(csr_pem, &e);
    size_t n;
    assert_non_null(csr);
    const struct tls_san *names = tls_csr_sans(csr, &n);
    assert_int_equal(n, 1);
    struct tls_san name = s->mood == OTHER_NAME ? tt_san("spiffe://td/ns/books/sa/eve") : names[0];
    struct tls_leaf l = {.sans = &name, .n_sans = 1, .now_s = time(NULL), .ttl_s = s->ttl};
    struct tls_signer *by = s->mood == OTHER_ROOT ? s->other.signer : s->root.signer;
    if (s->mood == OTHER_KEY)
        assert_int_equal(tls_cert_sign_key(by, s->cert.key, &l, leaf, NULL, &e), 0);
    else
        assert_int_equal(tls_cert_sign(by, csr, &l, leaf, NULL, &e), 0);
    tls_csr_free(csr);
}

static void on_create(void *user, struct grpc_call *c, sv request)
{
    struct service *s = user;
    struct arena *a = grpc_call_arena(c);
    struct error e = {0};
    void *msg;
    struct strbuf leaf;
    const struct serve_peer *peer = grpc_call_peer(c);
    sv auth = http_headers_get_sv(&grpc_call_head(c)->h, SV("authorization"));
    snprintf(s->bearer, sizeof s->bearer, "%.*s", SV_ARG(auth));
    snprintf(s->peer, sizeof s->peer, "%.*s", SV_ARG(tls_info_peer_identity(peer->tls)));
    s->calls++;
    if (s->mood == REFUSE) {
        grpc_finish(c, GRPC_UNAUTHENTICATED, SV("the token has expired"), NULL);
        return;
    }
    assert_int_equal(pb_decode(&istio_IstioCertificateRequest_pb, request, a, NULL, &msg, &e), 0);
    strbuf_init(&leaf, 1 << 20);
    sign(s, ((struct istio_IstioCertificateRequest *)msg)->csr, &leaf);
    sv parts[] = {strbuf_sv(&leaf), strbuf_sv(&s->root.pem)};
    struct istio_IstioCertificateResponse r = {.cert_chain = {parts, s->mood == EMPTY ? 0 : 2}};
    grpc_respond(c, pb_encode_arena(&istio_IstioCertificateResponse_pb, &r, a));
    strbuf_fini(&leaf);
}

static void service_init(struct service *s, struct loop *l, int64_t ttl)
{
    struct error e = {0};
    memset(s, 0, sizeof *s);
    s->loop = l;
    s->ttl = ttl;
    tt_ca_init(&s->root, NULL, "root");
    tt_ca_init(&s->other, NULL, "other");
    tt_cert_init(&s->cert, &s->root, "istiod.istio-system.svc");
    struct tls_validation v = {.ca_pem = strbuf_sv(&s->root.pem)};
    sv h2 = SV("h2");
    s->tls = tls_ctx_new(&(struct tls_ctx_opts){.server = true,
                                                .certs = &s->cert.opts,
                                                .n_certs = 1,
                                                .validation = &v,
                                                .alpn = &h2,
                                                .n_alpn = 1,
                                                .client_auth = TLS_CLIENT_OPTIONAL},
                         &e);
    assert_non_null(s->tls);
    s->grpc = grpc_server_new(0);
    grpc_server_add_unary(s->grpc, istio_IstioCertificateService_CreateCertificate_PATH, on_create,
                          s);
    s->http = serve_server_new(&(struct serve_server_opts){.loop = l, .tls_ctx = s->tls});
    serve_server_add(s->http, grpc_server_accept, s->grpc);
    assert_int_equal(serve_server_listen_text(s->http, SV("127.0.0.1:0"), &e), 0);
    addr_text(serve_server_addr(s->http, 0), s->address);
}

static void service_fini(struct service *s)
{
    grpc_server_free(s->grpc);
    serve_server_free(s->http);
    tls_ctx_unref(s->tls);
    tt_cert_fini(&s->cert);
    tt_ca_fini(&s->root);
    tt_ca_fini(&s->other);
}

/* ---- identity ---- */

struct watch {
    int changes, failures;
    char why[400];
    uint64_t retry_ms;
};

static void on_change(void *arg, struct identity *id)
{
    ((struct watch *)arg)->changes++;
}

static void on_failure(void *arg, const char *why, uint64_t retry_ms)
{
    struct watch *w = arg;
    w->failures++;
    w->retry_ms = retry_ms;
    snprintf(w->why, sizeof w->why, "%s", why);
}

static struct identity *start_with(struct service *s, struct watch *w, const char *token_file)
{
    struct error e = {0};
    memset(w, 0, sizeof *w);
    struct identity *id = identity_new(&(struct identity_opts){.loop = s->loop,
                                                               .ca_address = sv_of(s->address),
                                                               .roots_pem = strbuf_sv(&s->root.pem),
                                                               .token = SV("secret-token"),
                                                               .token_file = sv_of(token_file),
                                                               .trust_domain = SV("td"),
                                                               .ns = SV("books"),
                                                               .service_account = SV("alice"),
                                                               .on_change = on_change,
                                                               .on_failure = on_failure,
                                                               .arg = w},
                                       &e);
    if (!id)
        fail_msg("%s", e.msg);
    return id;
}

static struct identity *start(struct service *s, struct watch *w)
{
    return start_with(s, w, NULL);
}

static void turn_until(struct loop *l, const int *v, int target, int max_ms)
{
    uint64_t end = loop_clock_ns(l) + (uint64_t)max_ms * 1000000;
    while (*v < target && loop_clock_ns(l) < end)
        loop_turn(l, 10000000);
}

static void test_first(void **state)
{
    struct loop *l = loop_new(NULL);
    struct service s;
    struct watch w;
    service_init(&s, l, TT_DAY);
    struct identity *id = start(&s, &w);
    assert_false(identity_ready(id));
    turn_until(l, &w.changes, 1, 60000);
    assert_int_equal(w.changes, 1);
    assert_string_equal(s.bearer, "Bearer secret-token");
    assert_string_equal(s.peer, "");
    assert_true(sv_eq(identity_uri(id), SV("spiffe://td/ns/books/sa/alice")));
    assert_true(sv_eq(tls_cert_info_san(identity_cert(id), TLS_SAN_URI, 0), identity_uri(id)));
    assert_true(sv_eq(identity_roots_pem(id), strbuf_sv(&s.root.pem)));
    const struct identity_stats *st = identity_stats(id);
    int64_t half = time(NULL) + TT_DAY / 2;
    assert_true(st->next_s > half - TT_DAY / 15 && st->next_s < half + TT_DAY / 15);
    assert_int_equal(st->rotations, 1);
    identity_free(id);
    service_fini(&s);
    loop_turn(l, 0);
    loop_free(l);
}

/* A life of 4 s: renewed after about 2, with a new key, by the certificate and no longer only the
 * token. */
static void test_rotation(void **state)
{
    struct loop *l = loop_new(NULL);
    struct service s;
    struct watch w;
    service_init(&s, l, 4);
    struct identity *id = start(&s, &w);
    turn_until(l, &w.changes, 1, 60000);
    struct tls_key *first = tls_key_ref(identity_key(id));
    time_t begin = time(NULL);
    turn_until(l, &w.changes, 2, 60000);
    assert_int_equal(w.changes, 2);
    assert_true(time(NULL) - begin >= 1);
    assert_string_equal(s.peer, "spiffe://td/ns/books/sa/alice");
    assert_false(tls_key_equal(first, identity_key(id)));
    assert_int_equal(w.failures, 0);
    tls_key_unref(first);
    identity_free(id);
    service_fini(&s);
    loop_turn(l, 0);
    loop_free(l);
}

static void expect_failure(struct service *s, struct watch *w, enum mood mood, const char *why)
{
    int before = w->failures;
    s->mood = mood;
    turn_until(s->loop, &w->failures, before + 1, 60000);
    assert_int_equal(w->failures, before + 1);
    if (!strstr(w->why, why))
        fail_msg("\"%s\" lacks \"%s\"", w->why, why);
}

static void put_token(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* The token is read anew for each attempt; a certificate that has ended is no proof any more, the
 * present token is. */
static void test_token_file(void **state)
{
    char path[] = "/tmp/weft-token-XXXXXX";
    struct loop *l = loop_new(NULL);
    struct service s;
    struct watch w;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    service_init(&s, l, 2);
    put_token(path, "first\n");
    struct identity *id = start_with(&s, &w, path);
    turn_until(l, &w.changes, 1, 60000);
    assert_string_equal(s.bearer, "Bearer first");
    put_token(path, "a\nb");
    identity_renew(id);
    expect_failure(&s, &w, REFUSE, "holds no token");
    assert_int_equal(unlink(path), 0);
    identity_renew(id);
    expect_failure(&s, &w, REFUSE, "cannot be read");
    while (!identity_expired(id))
        expect_failure(&s, &w, REFUSE, "cannot be read");
    assert_true(identity_ready(id));
    put_token(path, "second");
    s.mood = GOOD;
    identity_renew(id);
    turn_until(l, &w.changes, 2, 60000);
    assert_string_equal(s.bearer, "Bearer second");
    assert_string_equal(s.peer, "");
    assert_false(identity_expired(id));
    unlink(path);
    identity_free(id);
    service_fini(&s);
    loop_turn(l, 0);
    loop_free(l);
}

static void test_bad_answers(void **state)
{
    struct loop *l = loop_new(NULL);
    struct service s;
    struct watch w;
    service_init(&s, l, TT_DAY);
    s.mood = REFUSE;
    struct identity *id = start(&s, &w);
    expect_failure(&s, &w, REFUSE, "UNAUTHENTICATED: the token has expired");
    assert_true(w.retry_ms >= 400 && w.retry_ms <= 600);
    expect_failure(&s, &w, OTHER_NAME, "not for spiffe://td/ns/books/sa/alice");
    assert_true(w.retry_ms >= 800 && w.retry_ms <= 1200);
    expect_failure(&s, &w, OTHER_KEY, "does not match the certificate");
    expect_failure(&s, &w, OTHER_ROOT, "does not lead to a root");
    assert_false(identity_ready(id));
    s.mood = GOOD;
    turn_until(l, &w.changes, 1, 60000);
    assert_true(identity_ready(id));
    assert_string_equal(identity_stats(id)->last_error, "");
    /* What is in force stays when a renewal fails. */
    s.mood = EMPTY;
    identity_renew(id);
    expect_failure(&s, &w, EMPTY, "no certificate");
    assert_true(identity_ready(id));
    assert_int_equal(w.changes, 1);
    identity_free(id);
    service_fini(&s);
    loop_turn(l, 0);
    loop_free(l);
}

static void test_no_service(void **state)
{
    struct loop *l = loop_new(NULL);
    struct service s, stranger;
    struct watch w;
    service_init(&s, l, TT_DAY);
    service_init(&stranger, l, TT_DAY);
    strcpy(s.address, stranger.address); /* its certificate leads to another root */
    struct identity *id = start(&s, &w);
    turn_until(l, &w.failures, 1, 60000);
    assert_int_equal(w.failures, 1);
    assert_non_null(strstr(w.why, "UNAVAILABLE"));
    assert_non_null(strstr(w.why, "local issuer certificate"));
    assert_int_equal(stranger.calls, 0); /* the token was not shown to it */
    identity_free(id);
    serve_server_free(stranger.http); /* nobody listens */
    stranger.http = NULL;
    id = start(&s, &w);
    turn_until(l, &w.failures, 1, 60000);
    assert_non_null(strstr(w.why, "refused"));
    identity_free(id);
    service_fini(&stranger);
    service_fini(&s);
    loop_turn(l, 0);
    loop_free(l);
}

static void test_options(void **state)
{
    struct loop *l = loop_new(NULL);
    struct error e = {0};
    struct identity_opts o = {.loop = l,
                              .ca_address = SV("127.0.0.1:1"),
                              .trust_domain = SV("td"),
                              .ns = SV("a b"),
                              .service_account = SV("x")};
    assert_null(identity_new(&o, &e));
    assert_non_null(strstr(e.msg, "make no identity"));
    o.ns = SV("a");
    o.roots_pem = SV("junk");
    assert_null(identity_new(&o, &e));
    assert_non_null(strstr(e.msg, "roots of the certificate service"));
    loop_turn(l, 0);
    loop_free(l);
}

/* ---- the agent: store, SDS, names ---- */

struct told {
    struct tls_secret_user u;
    int n;
};

static void on_secret(struct tls_secret_user *u, struct tls_secret *now)
{
    container_of(u, struct told, u)->n++;
}

static struct agent *the_agent;

static void want(void *self, sv name, sv config)
{
    agent_want(the_agent, *(struct tls_secret_store **)self, name, config);
}

static void unwant(void *self, sv name, sv config)
{
    agent_unwant(the_agent, *(struct tls_secret_store **)self, name, config);
}

static struct agent *start_agent(struct service *s, const char *extra)
{
    struct error e = {0};
    struct strbuf json;
    strbuf_init(&json, 1 << 20);
    strbuf_addf(&json,
                "{\"ca_address\":\"%s\",\"token\":\"t\",\"trust_domain\":\"td\","
                "\"namespace\":\"books\",\"service_account\":\"alice\",%s"
                "\"root_certificates\":",
                s->address, extra);
    strbuf_add_json(&json, strbuf_sv(&s->root.pem));
    strbuf_add_ch(&json, '}');
    struct agent *a = agent_new(
        &(struct agent_opts){.loop = s->loop, .config = strbuf_sv(&json), .file = "agent.json"},
        &e);
    strbuf_fini(&json);
    if (!a)
        fail_msg("%s", e.msg);
    return a;
}

static void test_store(void **state)
{
    struct loop *l = loop_new(NULL);
    struct service s;
    struct tls_secret_store *st;
    struct tls_secret_source src = {want, unwant, &st};
    struct told cert = {.u.on_change = on_secret}, roots = cert, other = cert;
    service_init(&s, l, TT_DAY);
    the_agent = start_agent(&s, "");
    st = tls_secret_store_new(&src);
    assert_null(tls_secret_subscribe(st, SV("default"), SV("cfg"), &cert.u));
    assert_null(tls_secret_subscribe(st, SV("ROOTCA"), SV("cfg"), &roots.u));
    assert_null(tls_secret_subscribe(st, SV("file-cert:x"), SV("cfg"), &other.u));
    turn_until(l, &roots.n, 1, 60000);
    assert_int_equal(cert.n, 1);
    assert_int_equal(roots.n, 1);
    assert_int_equal(other.n, 0);
    struct tls_secret *now = tls_secret_store_get(st, SV("default"), SV("cfg"));
    assert_int_equal(now->kind, TLS_SECRET_CERT);
    assert_true(tls_key_equal(now->cert.key, identity_key(agent_identity(the_agent))));
    /* Who comes later gets it at once. */
    struct told late = {.u.on_change = on_secret};
    assert_non_null(tls_secret_subscribe(st, SV("default"), SV("other cfg"), &late.u));
    tls_secret_unsubscribe(&cert.u);
    assert_null(tls_secret_store_get(st, SV("default"), SV("cfg")));
    tls_secret_unsubscribe(&roots.u);
    tls_secret_unsubscribe(&other.u);
    tls_secret_unsubscribe(&late.u);
    struct strbuf m;
    strbuf_init(&m, 65536);
    agent_metrics(the_agent, &m);
    assert_non_null(strstr(m.p, "weft_agent_certificate_rotations_total 1\n"));
    strbuf_fini(&m);
    tls_secret_store_free(st);
    agent_free(the_agent);
    service_fini(&s);
    loop_turn(l, 0);
    loop_free(l);
}

/* A proxy's side of SDS: the machine of src/xds over gRPC on the Unix socket. */
struct proxy {
    struct serve_client *client;
    struct grpc_call *call;
    struct ads_client *ads;
    int updates, removed;
    char cert[4096], key[4096], roots[4096];
};

static void copy_source(char *to, const struct envoy_DataSource *d)
{
    assert_int_equal(d->which_specifier, envoy_DataSource_inline_bytes_tag);
    snprintf(to, 4096, "%.*s", SV_ARG(d->inline_bytes));
}

static void on_update(void *self, struct ads_update *u)
{
    struct proxy *p = self;
    struct arena a;
    struct error e = {0};
    void *msg;
    arena_init(&a);
    for (uint32_t i = 0; i < u->n_changed; i++) {
        assert_int_equal(pb_decode(&envoy_Secret_pb, u->changed[i].packed, &a, NULL, &msg, &e), 0);
        const struct envoy_Secret *s = msg;
        if (sv_eq(s->name, SV("default"))) {
            copy_source(p->cert, s->tls_certificate->certificate_chain);
            copy_source(p->key, s->tls_certificate->private_key);
        } else {
            copy_source(p->roots, s->validation_context->trusted_ca);
        }
        p->updates++;
    }
    p->removed += (int)u->n_removed;
    arena_free(&a);
}

static void send_up(void *arg, sv message)
{
    assert_int_equal(grpc_send(((struct proxy *)arg)->call, message), 0);
}

static void on_message(void *user, struct buf *msg, sv bytes)
{
    struct proxy *p = user;
    struct error e = {0};
    assert_int_equal(ads_client_receive(p->ads, bytes, &e), 0);
    ads_client_flush(p->ads);
}

static void on_done(void *user, const struct grpc_result *r)
{
    ((struct proxy *)user)->call = NULL;
}

static void proxy_start(struct proxy *p, struct loop *l, const char *path, bool delta)
{
    static const struct grpc_call_events ev = {.on_message = on_message, .on_done = on_done};
    struct envoy_Node node = {.id = SV("sidecar~10.0.0.1~a.books~x")};
    struct error e = {0};
    char target[160];
    memset(p, 0, sizeof *p);
    snprintf(target, sizeof target, "unix:%s", path);
    p->client = serve_client_new(
        &(struct serve_client_opts){.loop = l, .target = sv_of(target), .protocol = SERVE_HTTP2},
        &e);
    assert_non_null(p->client);
    p->ads = ads_client_new(&(struct ads_client_opts){
        .delta = delta, .node = &node, .handler = {.update = on_update, .self = p}});
    ads_client_subscribe(p->ads, XDS_SDS, SV("default"));
    ads_client_subscribe(p->ads, XDS_SDS, SV("ROOTCA"));
    p->call = grpc_call_start(serve_client_channel(p->client),
                              delta ? SV(envoy_SecretDiscoveryService_DeltaSecrets_PATH)
                                    : SV(envoy_SecretDiscoveryService_StreamSecrets_PATH),
                              NULL, NULL, &ev, p);
    ads_client_stream_open(p->ads, send_up, p);
    ads_client_flush(p->ads);
}

static void proxy_end(struct proxy *p)
{
    if (p->call)
        grpc_cancel(p->call);
    ads_client_free(p->ads);
    serve_client_free(p->client);
}

static void test_sds(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct loop *l = loop_new(NULL);
        struct service s;
        struct proxy early, late;
        struct stat st;
        char path[64], extra[128];
        service_init(&s, l, 4);
        s.mood = REFUSE; /* at first there is nothing to give */
        snprintf(path, sizeof path, "/tmp/weft-sds-%d.sock", (int)getpid());
        snprintf(extra, sizeof extra, "\"sds_socket\":\"%s\",", path);
        struct agent *a = start_agent(&s, extra);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        proxy_start(&early, l, path, delta);
        for (int i = 0; i < 50; i++)
            loop_turn(l, 2000000);
        assert_int_equal(early.updates + early.removed,
                         0); /* waits, is not told "no such secret" */
        s.mood = GOOD;
        turn_until(l, &early.updates, 2, 60000);
        assert_int_equal(early.updates, 2);
        assert_true(sv_eq_c(identity_chain_pem(agent_identity(a)), early.cert));
        assert_true(sv_eq_c(strbuf_sv(&s.root.pem), early.roots));
        struct error e = {0};
        struct tls_key *k = tls_key_from_pem(sv_of(early.key), SV(""), &e);
        assert_true(tls_key_equal(k, identity_key(agent_identity(a))));
        tls_key_unref(k);
        /* A rotation reaches every stream; the roots, which are the same, are not sent again. */
        proxy_start(&late, l, path, delta);
        turn_until(l, &late.updates, 2, 1000);
        turn_until(l, &late.updates, 3, 60000);
        assert_int_equal(late.updates, 3);
        assert_int_equal(early.updates, 3);
        assert_true(sv_eq_c(identity_chain_pem(agent_identity(a)), early.cert));
        assert_string_equal(early.cert, late.cert);
        proxy_end(&early);
        for (int i = 0; i < 10; i++)
            loop_turn(l, 1000000);
        agent_free(a); /* with a stream open */
        for (int i = 0; i < 10; i++)
            loop_turn(l, 1000000);
        proxy_end(&late);
        assert_int_not_equal(stat(path, &st), 0);
        service_fini(&s);
        loop_turn(l, 0);
        loop_free(l);
    }
}

static void test_agent_options(void **state)
{
    struct loop *l = loop_new(NULL);
    static const struct {
        const char *json, *why;
    } bad[] = {
        {"{\"nonsense\":1}", "nonsense"},
        {"{", "agent.json"},
        {"{\"dns_listen\":\"here\"}", "dns_listen"},
        {"{\"dns_listen\":\"127.0.0.1:0\",\"dns_upstreams\":[\"x\"]}", "dns_upstreams[0]"},
        {"{\"trust_domain\":\"td\",\"namespace\":\"n\",\"service_account\":\"s\"}", "ca_address"},
        {"{\"ca_address\":\"127.0.0.1:1\"}", "make no identity"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error e = {0};
        assert_null(agent_new(
            &(struct agent_opts){.loop = l, .config = sv_of(bad[i].json), .file = "agent.json"},
            &e));
        if (!strstr(e.msg, bad[i].why))
            fail_msg("\"%s\" lacks \"%s\"", e.msg, bad[i].why);
    }
    loop_turn(l, 0);
    loop_free(l);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    log_set_level(NULL, LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first),         cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_bad_answers),   cmocka_unit_test(test_token_file),
        cmocka_unit_test(test_no_service),    cmocka_unit_test(test_options),
        cmocka_unit_test(test_store),         cmocka_unit_test(test_sds),
        cmocka_unit_test(test_agent_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
