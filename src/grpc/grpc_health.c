/* grpc.health.v1.Health: Check answers once; Watch answers now and at each change. */
#include <stdlib.h>
#include "api/grpc.pb.h"
#include "base/map.h"
#include "base/mem.h"
#include "grpc/grpc.h"

struct grpc_health {
    struct grpc_server *srv;
    struct map services; /* name -> status, cast */
    struct list watchers;
};

struct watcher {
    struct list link;
    struct grpc_health *h;
    struct grpc_call *call;
    sv service; /* in the call's arena */
    bool asked;
    int32_t told;
};

static const int32_t unknown = grpc_HealthCheckResponse_SERVICE_UNKNOWN;

static int32_t status_of(const struct grpc_health *h, sv service)
{
    void *v = map_get(&h->services, service);
    return v ? (int32_t)(uintptr_t)v : unknown;
}

static void pack(int32_t status, struct strbuf *out)
{
    struct grpc_HealthCheckResponse r = {.status = status};
    strbuf_init(out, 64);
    pb_encode(&grpc_HealthCheckResponse_pb, &r, out);
}

/* The service that a request asks for, in the call's arena. False: the call is finished. */
static bool asked_service(struct grpc_call *c, sv request, sv *service)
{
    struct arena *a = grpc_call_arena(c);
    struct pb_opts opts = {.allow_unknown = true};
    void *m;
    if (pb_decode(&grpc_HealthCheckRequest_pb, request, a, &opts, &m, NULL) != 0) {
        grpc_finish(c, GRPC_INVALID_ARGUMENT, SV("malformed request"), NULL);
        return false;
    }
    *service = arena_sv(a, ((struct grpc_HealthCheckRequest *)m)->service);
    return true;
}

static void check(void *user, struct grpc_call *c, sv request)
{
    struct grpc_health *h = user;
    struct strbuf out;
    sv service;
    if (!asked_service(c, request, &service))
        return;
    int32_t status = status_of(h, service);
    if (status == unknown) {
        grpc_finish(c, GRPC_NOT_FOUND, SV("unknown service"), NULL);
        return;
    }
    pack(status, &out);
    grpc_respond(c, strbuf_sv(&out));
    strbuf_fini(&out);
}

/* ---- Watch ---- */

static void tell(struct watcher *w)
{
    int32_t status = status_of(w->h, w->service);
    /* A watcher that does not read misses what is between; it gets the latest when it does. */
    if (!w->asked || status == w->told || !grpc_writable(w->call))
        return;
    struct strbuf out;
    pack(status, &out);
    w->told = status;
    grpc_send(w->call, strbuf_sv(&out));
    strbuf_fini(&out);
}

static void watch_message(void *user, struct buf *msg, sv bytes)
{
    struct watcher *w = user;
    if (w->asked || !asked_service(w->call, bytes, &w->service))
        return;
    w->asked = true;
    tell(w);
}

static void watch_writable(void *user)
{
    tell(user);
}

static void watch_done(void *user, const struct grpc_result *r)
{
    struct watcher *w = user;
    list_del(&w->link);
}

static void watch(void *user, struct grpc_call *c)
{
    static const struct grpc_call_events events = {
        .on_message = watch_message, .on_writable = watch_writable, .on_done = watch_done};
    struct watcher *w = arena_new(grpc_call_arena(c), struct watcher);
    *w = (struct watcher){.h = user, .call = c, .told = -1};
    list_push(&w->h->watchers, &w->link);
    grpc_call_set_events(c, &events, w);
}

/* ---- life ---- */

struct grpc_health *grpc_health_new(struct grpc_server *srv)
{
    struct grpc_health *h = mem_new(struct grpc_health);
    h->srv = srv;
    map_init(&h->services);
    list_init(&h->watchers);
    grpc_health_set(h, SV(""), true);
    grpc_server_add_unary(srv, grpc_Health_Check_PATH, check, h);
    grpc_server_add_method(srv, grpc_Health_Watch_PATH, watch, h);
    return h;
}

void grpc_health_free(struct grpc_health *h)
{
    if (!h)
        return;
    for (struct list *it; (it = list_first(&h->watchers));) {
        struct watcher *w = container_of(it, struct watcher, link);
        list_del(it);
        grpc_cancel(w->call);
    }
    map_fini(&h->services);
    free(h);
}

void grpc_health_set(struct grpc_health *h, sv service, bool serving)
{
    int32_t status =
        serving ? grpc_HealthCheckResponse_SERVING : grpc_HealthCheckResponse_NOT_SERVING;
    map_put(&h->services, service, (void *)(uintptr_t)status);
    list_each_safe (it, &h->watchers)
        tell(container_of(it, struct watcher, link));
}
