/* The control plane of a simulated mesh: see mesh.h. */
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "api/node.h"
#include "base/mem.h"
#include "grpc/grpc.h"
#include "mesh.h"
#include "mesh/ca/ca.h"
#include "mesh/push/push.h"
#include "mesh/serve/services.h"
#include "mesh/source/object_reader.h"
#include "serve/serve_server.h"
#include "tls/tls_key.h"
#include "tls/tls_slot.h"

#define SOURCE "sim"
#define DAY_S  (24 * 3600)

struct plane {
    struct world *w;
    struct model_store *store; /* outlives the process, as files do */
    struct translate *t;
    struct ca *ca;
    /* of the process */
    struct loop *loop;
    struct push *push;
    struct grpc_server *grpc;
    struct ads_service *ads;
    struct ca_service *certificates;
    struct serve_server *server;
    struct tls_secret_store *secrets;
    struct tls_slot *slot;
    struct tls_key *key;
};

static void must(bool ok, const struct error *err)
{
    if (ok)
        return;
    fprintf(stderr, "control plane: %s\n", err->msg);
    abort();
}

/* ---- randomness and time of OpenSSL ---- */

static struct rand_state tls_rand;

static int rand_fill(unsigned char *buf, int num)
{
    for (int i = 0; i < num; i++)
        buf[i] = (unsigned char)rand_u64(&tls_rand);
    return 1;
}

static int rand_ready(void)
{
    return 1;
}

/* OpenSSL puts the time into session tickets. This definition comes before libc's. */
static const struct world *tls_world;
time_t time(time_t *t)
{
    time_t now = 1767225600 + (time_t)(tls_world ? sim_now(tls_world->sim) / SIM_SECOND : 0);
    if (t)
        *t = now;
    return now;
}

void mesh_seed_tls(uint64_t seed)
{
    static const RAND_METHOD method = {
        .bytes = rand_fill, .pseudorand = rand_fill, .status = rand_ready};
    rand_seed(&tls_rand, seed);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    RAND_set_rand_method(&method);
#pragma GCC diagnostic pop
}

/* ---- its certificates ---- */

static char ca_dir[64];

static void remove_ca_dir(void)
{
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", ca_dir);
    if (system(cmd))
        fprintf(stderr, "%s is left behind\n", ca_dir);
}

static int64_t now_s(const struct plane *p)
{
    return (int64_t)(loop_wall_ns(p->loop) / 1000000000u);
}

static void open_ca(struct plane *p)
{
    struct error err = {0};
    if (!ca_dir[0]) {
        strcpy(ca_dir, "/tmp/weft-sim-ca-XXXXXX");
        if (!mkdtemp(ca_dir))
            abort();
        atexit(remove_ca_dir);
    }
    p->ca = ca_open(&(struct ca_opts){.dir = ca_dir, .trust_domain = SV("cluster.local")}, now_s(p),
                    &err);
    must(p->ca, &err);
}

static void start_tls(struct plane *p)
{
    static const sv alpn[] = {SV_INIT("h2")};
    static const struct tls_secret_name own = {.name = SV_INIT("own")};
    const struct tls_san sans[] = {{TLS_SAN_DNS, SV("istiod.istio-system.svc")}};
    struct tls_slot_opts o = {
        .ctx = {.server = true, .client_auth = TLS_CLIENT_OPTIONAL, .alpn = alpn, .n_alpn = 1},
        .certs = &own,
        .n_certs = 1,
        .validation = {.name = SV("roots")}};
    struct error err = {0};
    struct strbuf pem;
    strbuf_init(&pem, 1 << 20);
    o.store = p->secrets = tls_secret_store_new(NULL);
    p->key = tls_key_generate(TLS_KEY_EC_P256, &err);
    must(p->key && !ca_issue(p->ca, p->key, sans, 1, 30 * DAY_S, now_s(p), &pem, &err), &err);
    struct tls_cert_opts cert = {.chain_pem = strbuf_sv(&pem), .key = p->key};
    struct tls_validation v = {.ca_pem = ca_roots_pem(p->ca)};
    must(!tls_secret_store_set_cert(p->secrets, SV("own"), (sv){NULL, 0}, &cert, now_s(p), &err),
         &err);
    must(!tls_secret_store_set_validation(p->secrets, SV("roots"), (sv){NULL, 0}, &v, now_s(p),
                                          &err),
         &err);
    p->slot = tls_slot_new(&o, &err);
    must(p->slot, &err);
    strbuf_fini(&pem);
}

/* ---- life ---- */

void plane_restart(struct plane *p)
{
    struct error err = {0};
    p->loop = loop_new(sim_host(p->w->sim, MESH_CONTROL_IP));
    if (!p->ca)
        open_ca(p);
    start_tls(p);
    p->push = push_new(p->loop, p->store, p->t);
    p->grpc = grpc_server_new(4u << 20);
    p->ads = ads_service_new(p->grpc, p->push, p->ca, p->loop);
    p->certificates = ca_service_new(p->grpc, p->ca, p->loop);
    p->server = serve_server_new(&(struct serve_server_opts){
        .loop = p->loop,
        .tls = p->slot,
        .times = {
            .connect_ms = 10000, .head_ms = 10000, .ping_ms = 30000, .ping_timeout_ms = 20000}});
    serve_server_add(p->server, grpc_server_accept, p->grpc);
    must(!serve_server_listen_text(p->server, SV("*:15012"), &err), &err);
}

/* What the process held; its sockets are dead, or die with it. */
static void drop_process(struct plane *p)
{
    if (!p->loop)
        return;
    grpc_server_shutdown(p->grpc, "the control plane ends");
    serve_server_free(p->server);
    loop_turn(p->loop, 0);
    grpc_server_free(p->grpc);
    ads_service_free(p->ads);
    ca_service_free(p->certificates);
    push_free(p->push);
    tls_slot_free(p->slot);
    tls_secret_store_free(p->secrets);
    tls_key_unref(p->key);
    world_bury(p->w, p->loop);
    p->loop = NULL;
    p->push = NULL;
}

struct plane *plane_new(struct world *w)
{
    struct plane *p = mem_new(struct plane);
    struct error err = {0};
    p->w = w;
    tls_world = w;
    p->store = model_store_new(SV("cluster.local"), SV("cluster.local"));
    p->t = translate_new(&(struct translate_options){0}, &err);
    must(p->t, &err);
    plane_restart(p);
    return p;
}

void plane_crash(struct plane *p)
{
    sim_crash_host(p->w->sim, MESH_CONTROL_IP);
    drop_process(p);
}

bool plane_up(const struct plane *p)
{
    return p->loop != NULL;
}

const struct push *plane_push(const struct plane *p)
{
    return p->push;
}

void plane_free(struct plane *p)
{
    if (!p)
        return;
    drop_process(p);
    translate_free(p->t);
    model_store_free(p->store);
    ca_close(p->ca);
    tls_world = NULL;
    free(p);
}

/* ---- documents ---- */

static bool apply_document(struct plane *p, const struct node *doc, struct arena *a)
{
    struct model_problem problem;
    struct model_object *o;
    if (object_read(doc, SV("sim.yaml"), SV("mesh"), a, &o, &problem)) {
        model_store_problem(p->store, SOURCE, &problem);
        return false;
    }
    if (o)
        model_store_put(p->store, SOURCE, o);
    return o != NULL;
}

bool plane_apply(struct plane *p, const char *fmt, ...)
{
    struct strbuf text;
    struct error err = {0};
    struct arena a;
    struct node *doc;
    size_t pos = 0;
    uint32_t line = 1;
    va_list ap;
    int rc;
    bool ok = true;
    strbuf_init(&text, 1 << 20);
    va_start(ap, fmt);
    strbuf_addv(&text, fmt, ap);
    va_end(ap);
    arena_init(&a);
    model_store_clear_problems(p->store, SOURCE, SV("sim.yaml"));
    while ((rc = node_parse_next(strbuf_sv(&text), &pos, &line, "sim.yaml", &a, &doc, &err)) == 0)
        ok &= apply_document(p, doc, &a);
    must(rc == E_EOF, &err);
    arena_free(&a);
    strbuf_fini(&text);
    if (p->push)
        push_changed(p->push);
    return ok;
}

void plane_delete(struct plane *p, const char *kind, const char *ns, const char *name)
{
    for (int k = 0; k < MODEL_KINDS; k++)
        if (!strcmp(model_kind_name((enum model_kind)k), kind))
            model_store_del(p->store, SOURCE, (enum model_kind)k, sv_of(ns), sv_of(name),
                            SV("sim.yaml"));
    if (p->push)
        push_changed(p->push);
}

void plane_token(struct plane *p, const char *ns, const char *account, struct strbuf *out)
{
    struct ca_identity who = {0};
    struct error err = {0};
    struct strbuf token;
    snprintf(who.ns, sizeof who.ns, "%s", ns);
    snprintf(who.sa, sizeof who.sa, "%s", account);
    int64_t now = (int64_t)(sim_host(p->w->sim, MESH_CONTROL_IP)
                                ->ops->wall_ns(sim_host(p->w->sim, MESH_CONTROL_IP)->self) /
                            1000000000u);
    strbuf_init(&token, CA_TOKEN_MAX);
    must(!ca_token_make(p->ca, &who, sv_of(account), now + DAY_S, &token, &err), &err);
    strbuf_add_c(out, "\"token\":");
    strbuf_add_json(out, strbuf_sv(&token));
    strbuf_add_c(out, ",\"root_certificates\":");
    strbuf_add_json(out, ca_roots_pem(p->ca));
    strbuf_fini(&token);
}

sv plane_roots(const struct plane *p)
{
    return ca_roots_pem(p->ca);
}
