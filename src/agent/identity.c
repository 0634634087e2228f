#include "agent/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/istio.pb.h"
#include "base/mem.h"
#include "grpc/grpc.h"
#include "serve/serve_client.h"
#include "tls/spiffe.h"
#include "tls/tls_cert.h"
#include "tls/tls_ctx.h"

#define CALL_MS        10000
#define RETRY_MIN_MS   500
#define RETRY_MAX_MS   60000
#define RETRY_FIRST_MS 5000 /* at most, while there is no certificate that is still good */
#define LOOK_MS        5000
#define TOKEN_MAX      65536u
#define PEM_MAX        (1u << 20)
#define CA_NAME        "istiod.istio-system.svc"

/* What is in force. */
struct credentials {
    struct tls_key *key;
    struct strbuf chain;
    struct tls_cert_info *cert;
};

struct identity {
    struct identity_opts o; /* views point to `arena` */
    struct arena arena;
    sv uri;
    struct credentials now;
    struct strbuf roots;
    struct identity_stats stats;
    uint32_t failures; /* in a row */
    struct timer timer;
    /* An attempt under way. */
    struct serve_client *client;
    struct grpc_call *call;
    struct tls_key *new_key;
};

static int64_t wall_s(const struct identity *id)
{
    return (int64_t)(loop_wall_ns(id->o.loop) / 1000000000u);
}

static void credentials_fini(struct credentials *c)
{
    tls_key_unref(c->key);
    tls_cert_info_unref(c->cert);
    strbuf_fini(&c->chain);
    memset(c, 0, sizeof *c);
}

/* ---- when ---- */

/* Sleeps towards stats.next_s, but looks at the wall clock from time to time: it may jump. */
static void sleep_on(struct identity *id, uint64_t exact_ms)
{
    int64_t left_s = id->stats.next_s - wall_s(id);
    uint64_t ms = exact_ms ? exact_ms : left_s > 0 ? (uint64_t)left_s * 1000 : 0;
    timer_set(&id->timer, ms < LOOK_MS ? ms : LOOK_MS);
}

static double jitter(struct identity *id, double part)
{
    return 1.0 + part * (2.0 * rand_unit(loop_rand(id->o.loop)) - 1.0);
}

static void plan_renewal(struct identity *id)
{
    int64_t now = wall_s(id), life = id->now.cert->not_after_s - now;
    int64_t wait = (int64_t)((double)life * 0.5 * jitter(id, 0.1));
    id->stats.next_s = now + (wait > 0 ? wait : 1);
    sleep_on(id, 0);
}

static void end_attempt(struct identity *id)
{
    id->call = NULL;
    tls_key_unref(id->new_key);
    id->new_key = NULL;
}

static void fail(struct identity *id, const char *why)
{
    uint64_t max = id->now.cert && !identity_expired(id) ? RETRY_MAX_MS : RETRY_FIRST_MS;
    uint64_t ms = RETRY_MIN_MS << (id->failures < 16 ? id->failures : 16);
    if (ms > max)
        ms = max;
    ms = (uint64_t)((double)ms * jitter(id, 0.2));
    id->failures++;
    id->stats.failures++;
    snprintf(id->stats.last_error, sizeof id->stats.last_error, "%s", why);
    end_attempt(id);
    id->stats.next_s = wall_s(id) + (int64_t)(ms / 1000);
    sleep_on(id, ms);
    if (id->o.on_failure)
        id->o.on_failure(id->o.arg, id->stats.last_error, ms);
}

/* ---- an answer ---- */

static bool only_our_name(const struct identity *id, const struct tls_cert_info *c)
{
    return c->n_sans == 1 && c->sans[0].type == TLS_SAN_URI && sv_eq(c->sans[0].value, id->uri);
}

/* Does the key fit, does the chain hold? A context that is made of them says so. */
static int check(const struct identity *id, const struct tls_cert_info *leaf, sv chain, sv roots,
                 struct error *err)
{
    struct tls_cert_opts cert = {.chain_pem = chain, .key = id->new_key, .name = "the answer"};
    struct tls_validation v = {.ca_pem = roots, .name = "the answer's roots"};
    if (!only_our_name(id, leaf))
        return error_set(err, E_INVALID, "the certificate is not for %.*s", SV_ARG(id->uri));
    struct tls_ctx *probe =
        tls_ctx_new(&(struct tls_ctx_opts){.certs = &cert, .n_certs = 1, .validation = &v}, err);
    tls_ctx_unref(probe);
    return probe ? tls_cert_verify_chain(chain, roots, wall_s(id), err) : E_INVALID;
}

static void put_in_force(struct identity *id, struct strbuf *chain, struct tls_cert_info *leaf,
                         sv roots)
{
    credentials_fini(&id->now);
    id->now.key = id->new_key;
    id->new_key = NULL;
    id->now.cert = leaf;
    id->now.chain = *chain;
    strbuf_init(chain, PEM_MAX);
    if (!sv_eq(roots, strbuf_sv(&id->roots))) {
        struct strbuf fresh;
        strbuf_init(&fresh, PEM_MAX);
        strbuf_add_sv(&fresh, roots);
        strbuf_fini(&id->roots);
        id->roots = fresh;
    }
    id->failures = 0;
    id->stats.last_error[0] = '\0';
    id->stats.not_after_s = leaf->not_after_s;
    id->stats.rotations++;
    plan_renewal(id);
    id->o.on_change(id->o.arg, id);
}

/* cert_chain: the leaf, what stands between, and last the roots; roots alone may be missing. */
static int take_answer(struct identity *id, const struct istio_IstioCertificateResponse *r,
                       struct error *err)
{
    uint32_t n = r->cert_chain.n;
    struct strbuf chain;
    if (n == 0)
        return error_set(err, E_INVALID, "the certificate service sent no certificate");
    sv roots = n > 1 ? r->cert_chain.v[n - 1] : strbuf_sv(&id->roots);
    strbuf_init(&chain, PEM_MAX);
    for (uint32_t i = 0; i < (n > 1 ? n - 1 : 1); i++) {
        strbuf_add_sv(&chain, r->cert_chain.v[i]);
        strbuf_add_ch(&chain, '\n');
    }
    struct tls_cert_info *leaf = tls_cert_info_from_pem(strbuf_sv(&chain), err);
    int code = leaf ? check(id, leaf, strbuf_sv(&chain), roots, err) : E_INVALID;
    if (code == 0)
        put_in_force(id, &chain, leaf, roots);
    else
        tls_cert_info_unref(leaf);
    strbuf_fini(&chain);
    return code;
}

static void on_answer(void *user, const struct grpc_result *r, sv answer)
{
    struct identity *id = user;
    struct error e = {0};
    struct arena a;
    void *msg;
    char why[400];
    id->call = NULL;
    if (r->code != GRPC_OK) {
        const char *detail = serve_client_error(id->client);
        snprintf(why, sizeof why, "certificate service %.*s: %s: %.*s%s%s",
                 SV_ARG(id->o.ca_address), grpc_code_text(r->code),
                 SV_ARG(sv_first(r->message, 200)),
                 r->code == GRPC_UNAVAILABLE && *detail ? ": " : "",
                 r->code == GRPC_UNAVAILABLE ? detail : "");
        fail(id, why);
        return;
    }
    arena_init(&a);
    struct pb_opts opts = {.allow_unknown = true};
    int code = pb_decode(&istio_IstioCertificateResponse_pb, answer, &a, &opts, &msg, &e);
    if (code == 0)
        code = take_answer(id, msg, &e);
    arena_free(&a);
    if (code)
        fail(id, e.msg);
}

/* ---- a question ---- */

/* Towards the service we are who we are by certificate, once there is one that is still good. */
static struct tls_ctx *make_context(const struct identity *id, struct error *err)
{
    struct tls_san_match name = {
        .type = TLS_SAN_DNS, .kind = TLS_MATCH_EXACT, .value = id->o.ca_name};
    struct tls_validation v = {.ca_pem = strbuf_sv(&id->roots),
                               .sans = &name,
                               .n_sans = 1,
                               .name = "roots of the certificate service"};
    struct tls_cert_opts own = {.chain_pem = strbuf_sv(&id->now.chain), .key = id->now.key};
    sv h2 = SV("h2");
    bool show = id->now.cert && !identity_expired(id);
    return tls_ctx_new(&(struct tls_ctx_opts){.validation = &v,
                                              .certs = show ? &own : NULL,
                                              .n_certs = show,
                                              .alpn = &h2,
                                              .n_alpn = 1},
                       err);
}

static int open_client(struct identity *id, struct error *err)
{
    serve_client_free(id->client);
    id->client = NULL;
    struct tls_ctx *ctx = make_context(id, err);
    if (!ctx)
        return E_INVALID;
    id->client = serve_client_new(
        &(struct serve_client_opts){.loop = id->o.loop,
                                    .target = id->o.ca_address,
                                    .authority = id->o.ca_name,
                                    .protocol = SERVE_HTTP2,
                                    .mark = id->o.mark,
                                    .tls_ctx = ctx,
                                    .sni = id->o.ca_name,
                                    .times = {.connect_ms = 5000, .idle_ms = 1000}},
        err);
    tls_ctx_unref(ctx);
    return id->client ? 0 : E_INVALID;
}

static int make_request(struct identity *id, struct strbuf *out, struct error *err)
{
    struct strbuf csr;
    struct tls_san san = {TLS_SAN_URI, id->uri};
    strbuf_init(&csr, PEM_MAX);
    id->new_key = tls_key_generate(id->o.key_kind, err);
    int code =
        id->new_key ? tls_csr_make(id->new_key, &san, 1, sv_make(NULL, 0), &csr, err) : E_TLS;
    if (code == 0) {
        struct istio_IstioCertificateRequest req = {.csr = strbuf_sv(&csr),
                                                    .validity_duration = id->o.ttl_s};
        pb_encode(&istio_IstioCertificateRequest_pb, &req, out);
    }
    strbuf_fini(&csr);
    return code;
}

/* The token of this attempt, into a buffer of TOKEN_MAX bytes. */
static int read_token(const struct identity *id, char *buf, sv *out, struct error *err)
{
    *out = id->o.token;
    if (!id->o.token_file.n)
        return 0;
    FILE *f = fopen(id->o.token_file.p, "re");
    if (f)
        setvbuf(f, NULL, _IONBF, 0);
    size_t n = f ? fread(buf, 1, TOKEN_MAX, f) : 0;
    bool bad = !f || ferror(f);
    if (f)
        fclose(f);
    if (bad || n == TOKEN_MAX)
        return error_set(err, E_IO, "token_file: %s %s", id->o.token_file.p,
                         bad ? "cannot be read" : "is too long for a token");
    while (n && strchr("\r\n\t ", buf[n - 1]))
        n--;
    *out = sv_make(buf, n);
    if (!n || !http_value_valid(*out))
        return error_set(err, E_INVALID, "token_file: %s holds no token", id->o.token_file.p);
    return 0;
}

static void call(struct identity *id, sv token, sv request)
{
    struct http_headers md;
    struct grpc_opts opts = {.timeout_ms = CALL_MS};
    struct arena a;
    arena_init(&a);
    http_headers_init(&md, &a);
    if (token.n)
        http_headers_add(&md, SV("authorization"), arena_printf(&a, "Bearer %.*s", SV_ARG(token)));
    id->call = grpc_unary(serve_client_channel(id->client),
                          SV(istio_IstioCertificateService_CreateCertificate_PATH), &md, &opts,
                          request, on_answer, id);
    arena_free(&a);
}

static void attempt(struct identity *id)
{
    struct strbuf req;
    struct error e = {0};
    char *buf = mem_alloc(TOKEN_MAX);
    sv token;
    id->stats.attempts++;
    strbuf_init(&req, PEM_MAX);
    if (read_token(id, buf, &token, &e) || open_client(id, &e) || make_request(id, &req, &e))
        fail(id, e.msg);
    else
        call(id, token, strbuf_sv(&req));
    tls_wipe(buf, TOKEN_MAX);
    free(buf);
    strbuf_fini(&req);
}

static void on_timer(struct timer *t)
{
    struct identity *id = container_of(t, struct identity, timer);
    if (id->call)
        return;
    if (wall_s(id) >= id->stats.next_s)
        attempt(id);
    else
        sleep_on(id, 0);
}

/* ---- life ---- */

static int check_options(const struct identity_opts *o, struct error *err)
{
    if (!spiffe_trust_domain_ok(o->trust_domain) || !spiffe_segment_ok(o->ns) ||
        !spiffe_segment_ok(o->service_account))
        return error_set(err, E_INVALID,
                         "\"%.*s\", \"%.*s\" and \"%.*s\" make no identity of a mesh",
                         SV_ARG(o->trust_domain), SV_ARG(o->ns), SV_ARG(o->service_account));
    if (o->ca_address.n == 0)
        return error_set(err, E_INVALID, "ca_address: is missing");
    return 0;
}

static void copy_options(struct identity *id, const struct identity_opts *o)
{
    struct arena *a = &id->arena;
    struct strbuf uri;
    id->o = *o;
    id->o.ca_address = arena_sv(a, o->ca_address);
    id->o.ca_name = arena_sv(a, o->ca_name.n ? o->ca_name : SV(CA_NAME));
    id->o.token = arena_sv(a, o->token);
    id->o.token_file = arena_sv(a, o->token_file);
    strbuf_init(&uri, 4096);
    if (spiffe_format(o->trust_domain, o->ns, o->service_account, &uri) == 0)
        id->uri = arena_sv(a, strbuf_sv(&uri));
    strbuf_fini(&uri);
    strbuf_init(&id->roots, PEM_MAX);
    strbuf_add_sv(&id->roots, o->roots_pem);
}

struct identity *identity_new(const struct identity_opts *o, struct error *err)
{
    if (check_options(o, err))
        return NULL;
    struct identity *id = mem_new(struct identity);
    arena_init(&id->arena);
    strbuf_init(&id->now.chain, PEM_MAX);
    copy_options(id, o);
    timer_init(&id->timer, o->loop, on_timer);
    /* What can never work is said now. */
    if (id->uri.n == 0 || open_client(id, err)) {
        identity_free(id);
        return NULL;
    }
    timer_set(&id->timer, 0);
    return id;
}

void identity_free(struct identity *id)
{
    if (!id)
        return;
    timer_cancel(&id->timer);
    if (id->call)
        grpc_cancel(id->call);
    end_attempt(id);
    serve_client_free(id->client);
    credentials_fini(&id->now);
    strbuf_fini(&id->roots);
    tls_wipe((void *)(uintptr_t)id->o.token.p, id->o.token.n);
    arena_free(&id->arena);
    free(id);
}

void identity_renew(struct identity *id)
{
    if (id->call)
        return;
    id->stats.next_s = 0;
    timer_set(&id->timer, 0);
}

/* ---- asking ---- */

bool identity_ready(const struct identity *id)
{
    return id->now.cert != NULL;
}

bool identity_expired(const struct identity *id)
{
    return id->now.cert && id->now.cert->not_after_s <= wall_s(id);
}

sv identity_uri(const struct identity *id)
{
    return id->uri;
}

sv identity_chain_pem(const struct identity *id)
{
    return strbuf_sv(&id->now.chain);
}

sv identity_roots_pem(const struct identity *id)
{
    return strbuf_sv(&id->roots);
}

struct tls_key *identity_key(const struct identity *id)
{
    return id->now.key;
}

const struct tls_cert_info *identity_cert(const struct identity *id)
{
    return id->now.cert;
}

const struct identity_stats *identity_stats(const struct identity *id)
{
    return &id->stats;
}
