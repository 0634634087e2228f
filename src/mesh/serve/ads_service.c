#include <stdlib.h>
#include "api/envoy.pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "mesh/serve/services.h"

LOG_COMPONENT(ads);

#define REQUEST_MAX (4u << 20)

struct ads_service {
    struct push *push;
    const struct ca *ca;
    struct loop *loop;
};

/* One open stream. */
struct stream {
    struct grpc_call *call;
    struct push_stream *push;
};

struct ca_caller service_caller(const struct grpc_call *c)
{
    const struct serve_peer *peer = grpc_call_peer(c);
    sv auth = http_headers_get(&grpc_call_head(c)->h, HTTP_H_AUTHORIZATION);
    struct ca_caller who = {.tls = peer ? peer->tls : NULL};

    if (sv_starts_icase(auth, SV("Bearer ")))
        who.bearer = sv_trim(sv_from(auth, 7));
    return who;
}

static void send_message(void *arg, struct buf *message)
{
    struct stream *st = arg;
    grpc_send_buf(st->call, message);
}

static void on_message(void *user, struct buf *msg, sv bytes)
{
    struct stream *st = user;
    struct error err = {0};
    int rc = push_stream_receive(st->push, bytes, &err);

    if (!rc)
        return;
    log_warn(&log_ads, "discovery stream ended: %s", err.msg);
    grpc_finish(st->call,
                rc == E_DENIED        ? GRPC_PERMISSION_DENIED
                : rc == E_UNSUPPORTED ? GRPC_UNIMPLEMENTED
                : rc == E_LIMIT       ? GRPC_RESOURCE_EXHAUSTED
                                      : GRPC_INVALID_ARGUMENT,
                sv_of(err.msg), NULL);
}

static void on_half_close(void *user)
{
    grpc_finish(((struct stream *)user)->call, GRPC_OK, (sv){NULL, 0}, NULL);
}

static void on_done(void *user, const struct grpc_result *r)
{
    struct stream *st = user;
    push_stream_close(st->push);
    free(st);
}

static const struct grpc_call_events events = {
    .on_message = on_message, .on_half_close = on_half_close, .on_done = on_done};

static void open_stream(struct ads_service *s, struct grpc_call *c, bool delta)
{
    const struct serve_peer *peer = grpc_call_peer(c);
    struct push_peer who = {0};
    struct ca_caller caller = service_caller(c);
    struct ca_identity id;
    struct strbuf uri;
    struct error err = {0};
    char text[ADDR_TEXT_MAX];
    struct stream *st;

    strbuf_init(&uri, 1024);
    if (peer)
        who.address = addr_text(&peer->remote, text);
    if (caller.tls || caller.bearer.n) {
        if (ca_authenticate(s->ca, &caller, (int64_t)(loop_wall_ns(s->loop) / 1000000000u), &id,
                            &err) ||
            ca_identity_uri(s->ca, &id, &uri)) {
            log_warn(&log_ads, "discovery stream refused peer=%.*s: %s", SV_ARG(who.address),
                     err.msg);
            grpc_finish(c, GRPC_UNAUTHENTICATED, sv_of(err.msg), NULL);
            strbuf_fini(&uri);
            return;
        }
        who.identity = strbuf_sv(&uri);
    }
    st = mem_new(struct stream);
    st->call = c;
    st->push = push_stream_open(s->push, delta, &who, send_message, st);
    grpc_call_set_events(c, &events, st);
    grpc_send_headers(c, NULL);
    strbuf_fini(&uri);
}

static void on_delta(void *user, struct grpc_call *c)
{
    open_stream(user, c, true);
}

static void on_sotw(void *user, struct grpc_call *c)
{
    open_stream(user, c, false);
}

struct ads_service *ads_service_new(struct grpc_server *g, struct push *p, const struct ca *ca,
                                    struct loop *l)
{
    struct ads_service *s = mem_new(struct ads_service);

    s->push = p;
    s->ca = ca;
    s->loop = l;
    grpc_server_add_method(g, envoy_AggregatedDiscoveryService_DeltaAggregatedResources_PATH,
                           on_delta, s);
    grpc_server_add_method(g, envoy_AggregatedDiscoveryService_StreamAggregatedResources_PATH,
                           on_sotw, s);
    return s;
}

void ads_service_free(struct ads_service *s)
{
    free(s);
}
