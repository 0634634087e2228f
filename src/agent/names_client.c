#include "agent/names_client.h"

#include <stdlib.h>
#include <string.h>
#include "api/envoy.pb.h"
#include "api/pb_struct.h"
#include "api/weft.pb.h"
#include "base/arena.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc/grpc.h"
#include "serve/serve_client.h"
#include "tls/tls_ctx.h"
#include "xds/ads_client.h"

#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 30000
#define SERVER_NAME  "istiod.istio-system.svc"

LOG_COMPONENT(agent);

struct names_client {
    struct names_client_opts o;
    struct arena arena;
    struct ads_client *ads;
    struct serve_client *client;
    struct grpc_call *call;
    struct timer timer;
    uint32_t failures;
};

/* ---- messages ---- */

static void on_update(void *self, struct ads_update *u)
{
    struct names_client *n = self;
    for (uint32_t i = 0; i < u->n_changed; i++)
        if (u->type == XDS_NDS)
            (void)!n->o.on_names(n->o.arg, u->changed[i].packed, &u->changed[i].refused);
}

static void send_message(void *arg, sv message)
{
    struct names_client *n = arg;
    if (n->call)
        (void)!grpc_send(n->call, message);
}

static void on_message(void *user, struct buf *msg, sv bytes)
{
    struct names_client *n = user;
    struct error e = {0};
    n->failures = 0;
    if (ads_client_receive(n->ads, bytes, &e)) {
        log_warn(&log_agent, "names: the control plane's message cannot be read: %s", e.msg);
        grpc_half_close(n->call);
        return;
    }
    ads_client_flush(n->ads);
}

static void on_done(void *user, const struct grpc_result *r)
{
    struct names_client *n = user;
    uint64_t ms = RETRY_MIN_MS << (n->failures < 8 ? n->failures : 8);
    n->call = NULL;
    n->failures++;
    ads_client_stream_closed(n->ads);
    if (ms > RETRY_MAX_MS)
        ms = RETRY_MAX_MS;
    ms = (uint64_t)((double)ms * (0.5 + rand_unit(loop_rand(n->o.loop))));
    log_info(&log_agent, "names: stream ended, next in %lu ms: %s: %.*s", (unsigned long)ms,
             grpc_code_text(r->code), SV_ARG(r->message));
    timer_set(&n->timer, ms);
}

static const struct grpc_call_events EVENTS = {.on_message = on_message, .on_done = on_done};

/* ---- connecting ---- */

static int open_client(struct names_client *n, struct error *err)
{
    const struct identity *id = n->o.identity;
    struct tls_san_match name = {
        .type = TLS_SAN_DNS, .kind = TLS_MATCH_EXACT, .value = SV(SERVER_NAME)};
    struct tls_validation v = {.ca_pem = identity_roots_pem(id), .sans = &name, .n_sans = 1};
    struct tls_cert_opts own = {.chain_pem = identity_chain_pem(id), .key = identity_key(id)};
    sv h2 = SV("h2");
    serve_client_free(n->client);
    n->client = NULL;
    struct tls_ctx *ctx = tls_ctx_new(
        &(struct tls_ctx_opts){
            .validation = &v, .certs = &own, .n_certs = 1, .alpn = &h2, .n_alpn = 1},
        err);
    if (!ctx)
        return E_INVALID;
    n->client = serve_client_new(
        &(struct serve_client_opts){
            .loop = n->o.loop,
            .target = n->o.discovery_address,
            .authority = SV(SERVER_NAME),
            .protocol = SERVE_HTTP2,
            .mark = n->o.mark,
            .tls_ctx = ctx,
            .sni = SV(SERVER_NAME),
            .times = {.connect_ms = 5000, .ping_ms = 30000, .ping_timeout_ms = 10000}},
        err);
    tls_ctx_unref(ctx);
    return n->client ? 0 : E_INVALID;
}

static void on_timer(struct timer *t)
{
    struct names_client *n = container_of(t, struct names_client, timer);
    struct error e = {0};
    if (open_client(n, &e)) {
        log_warn(&log_agent, "names: %s", e.msg);
        timer_set(&n->timer, RETRY_MAX_MS);
        return;
    }
    n->call = grpc_call_start(serve_client_channel(n->client), sv_of(ads_client_method(n->ads)),
                              NULL, NULL, &EVENTS, n);
    ads_client_stream_open(n->ads, send_message, n);
    ads_client_flush(n->ads);
}

/* ---- who is asking ---- */

static const struct google_Struct *labels(struct names_client *n)
{
    const struct weft_AgentConfig *c = n->o.config;
    struct google_Struct *out = pb_struct_new(&n->arena, c->labels.n + 1);

    for (uint32_t i = 0; i < c->labels.n; i++)
        pb_struct_put_text(out, &n->arena, c->labels.v[i]->key, c->labels.v[i]->value);
    return out;
}

static const struct envoy_Node *make_node(struct names_client *n)
{
    struct arena *a = &n->arena;
    struct envoy_Node *node = arena_new(a, struct envoy_Node);
    struct google_Struct *meta = pb_struct_new(a, 4);

    pb_struct_put_text(meta, a, SV("NAMESPACE"), n->o.ns);
    pb_struct_put_text(meta, a, SV("SERVICE_ACCOUNT"), n->o.service_account);
    pb_struct_put_text(meta, a, SV("DNS_CAPTURE"), SV("true"));
    pb_struct_put_table(meta, a, SV("LABELS"), labels(n));
    node->id = n->o.node_id;
    node->metadata = meta;
    node->user_agent_name = SV("weft-agent");
    return node;
}

struct names_client *names_client_new(const struct names_client_opts *o)
{
    struct names_client *n = mem_new(struct names_client);
    arena_init(&n->arena);
    n->o = *o;
    n->o.discovery_address = arena_sv(&n->arena, o->discovery_address);
    n->o.node_id = arena_sv(&n->arena, o->node_id);
    n->o.ns = arena_sv(&n->arena, o->ns);
    n->o.service_account = arena_sv(&n->arena, o->service_account);
    n->ads = ads_client_new(&(struct ads_client_opts){
        .delta = true,
        .node = make_node(n),
        .handler = {.update = on_update, .self = n},
    });
    ads_client_subscribe(n->ads, XDS_NDS, sv_make(NULL, 0));
    timer_init(&n->timer, o->loop, on_timer);
    timer_set(&n->timer, 0);
    return n;
}

void names_client_free(struct names_client *n)
{
    if (!n)
        return;
    timer_cancel(&n->timer);
    if (n->call)
        grpc_cancel(n->call);
    ads_client_free(n->ads);
    serve_client_free(n->client);
    arena_free(&n->arena);
    free(n);
}
