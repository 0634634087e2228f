#include "proxy/config_ads.h"

#include <stdlib.h>

#include "api/pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc/grpc.h"
#include "proxy/cluster_channel.h"
#include "proxy/server_private.h"
#include "proxy/subscription.h"
#include "route/match.h"
#include "tls/tls_key.h"
#include "xds/ads_client.h"

LOG_COMPONENT(config);

#define BASE_MS     500u
#define MAX_MS      30000u
#define MESSAGE_MAX (128u << 20) /* a response with all endpoints of a large mesh */

#define CONTROL_PLANE_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                    \
    GAUGE(P, connected_state)                                                                      \
    TEXT(P, identifier)                                                                            \
    GAUGE(P, pending_requests)                                                                     \
    COUNTER(P, rate_limit_enforced)
STAT_GROUP_DECLARE(control_plane_stats, CONTROL_PLANE_STATS);
STAT_GROUP_DEFINE(control_plane_stats, CONTROL_PLANE_STATS);

struct config_ads {
    struct config_source src;
    struct proxy_server *s;
    struct arena arena;
    struct http_headers metadata;
    const char *method, *cluster;
    uint32_t message_max;
    struct serve_channel *channel;
    struct ads_client *client;
    struct grpc_call *call;
    struct config_sink sink;
    struct timer retry;
    uint64_t base_ms, max_ms, wait_ms; /* wait_ms: what the next wait is a part of */
    uint64_t started_ns;
    struct deferred flush;
    bool flush_due, ended;
    bool keys; /* the message that is read holds secrets */
    bool wildcard[CONFIG_TYPE_COUNT];
    struct stat_group stats;
};

enum xds_type config_ads_type(enum config_type t)
{
    static const enum xds_type types[] = {
#define X(id, type, stats) [CONFIG_##id] = XDS_##id,
        CONFIG_TYPES(X)
#undef X
    };
    return types[t];
}

static enum config_type config_of(enum xds_type t)
{
    int i = 0;
    while (i < CONFIG_TYPE_COUNT && config_ads_type((enum config_type)i) != t)
        i++;
    return (enum config_type)i;
}

/* ---- what the bootstrap asks for ---- */

static const struct envoy_GrpcService_EnvoyGrpc *target(const struct envoy_ApiConfigSource *c)
{
    const struct envoy_GrpcService *g = c->grpc_services.n ? c->grpc_services.v[0] : NULL;
    return g ? g->envoy_grpc : NULL;
}

static bool is_delta(const struct envoy_ApiConfigSource *c)
{
    return c->api_type == envoy_ApiConfigSource_DELTA_GRPC ||
           c->api_type == envoy_ApiConfigSource_AGGREGATED_DELTA_GRPC;
}

static int check_metadata(const struct envoy_GrpcService *g, const char *path, struct error *err)
{
    for (uint32_t i = 0; i < g->initial_metadata.n; i++) {
        const struct envoy_HeaderValue *h = g->initial_metadata.v[i];
        sv value = h->raw_value.n ? h->raw_value : h->value;
        if (!http_name_lower_valid(h->key) || sv_starts(h->key, SV("grpc-")))
            return error_set(err, E_INVALID,
                             "%s.grpc_services[0].initial_metadata[%u].key: '%.*s' is no name of "
                             "metadata",
                             path, i, SV_ARG(h->key));
        if (!http_value_valid(value) || sv_find(value, '%') >= 0)
            return error_set(err, E_UNSUPPORTED,
                             "%s.grpc_services[0].initial_metadata[%u].value: substitutions and "
                             "control characters are not supported",
                             path, i);
    }
    return 0;
}

/* Leaves what is not given as it was. */
static int read_backoff(const struct envoy_core_RetryPolicy *p, const char *path, uint64_t *base,
                        uint64_t *max, struct error *err)
{
    const struct envoy_BackoffStrategy *b = p ? p->retry_back_off : NULL;
    uint64_t least = 0, most = 0;
    int rc = 0;
    if (p && (p->num_retries || p->retry_on.n))
        return error_set(err, E_UNSUPPORTED,
                         "%s.grpc_services[0].envoy_grpc.retry_policy: only retry_back_off is "
                         "supported: streams are always tried again",
                         path);
    if (!b)
        return 0;
    if (!b->base_interval)
        return error_set(err, E_INVALID,
                         "%s.grpc_services[0].envoy_grpc.retry_policy.retry_back_off."
                         "base_interval: is required",
                         path);
    rc = duration_ms(b->base_interval, "base_interval", &least, err);
    most = least * 10;
    if (rc == 0 && b->max_interval)
        rc = duration_ms(b->max_interval, "max_interval", &most, err);
    if (rc == 0 && (!least || most < least))
        rc = error_set(err, E_INVALID, "base_interval must be positive and not above max_interval");
    if (rc < 0) {
        error_prefix(err, "%s.grpc_services[0].envoy_grpc.retry_policy.retry_back_off.", path);
        return rc;
    }
    *base = least;
    *max = most;
    return 0;
}

int config_ads_check(const struct envoy_ApiConfigSource *c, const char *path, struct error *err)
{
    const struct envoy_GrpcService_EnvoyGrpc *t = target(c);
    uint64_t base, max;
    if (!is_delta(c) && c->api_type != envoy_ApiConfigSource_GRPC &&
        c->api_type != envoy_ApiConfigSource_AGGREGATED_GRPC)
        return error_set(err, E_UNSUPPORTED, "%s.api_type: only GRPC and DELTA_GRPC are supported",
                         path);
    if (c->transport_api_version == envoy_ApiVersion_V2)
        return error_set(err, E_UNSUPPORTED, "%s.transport_api_version: only V3 is supported",
                         path);
    if (c->cluster_names.n)
        return error_set(err, E_INVALID, "%s.cluster_names: gRPC sources have grpc_services", path);
    if (c->grpc_services.n != 1 || !t)
        return error_set(err, E_UNSUPPORTED, "%s.grpc_services: one envoy_grpc is required", path);
    if (!t->cluster_name.n)
        return error_set(err, E_INVALID, "%s.grpc_services[0].envoy_grpc.cluster_name: is required",
                         path);
    if (c->grpc_services.v[0]->retry_policy)
        return error_set(err, E_UNSUPPORTED,
                         "%s.grpc_services[0].retry_policy: is not supported (the back-off of the "
                         "stream is in envoy_grpc.retry_policy)",
                         path);
    if (c->rate_limit_settings)
        return error_set(err, E_UNSUPPORTED, "%s.rate_limit_settings: is not supported", path);
    int rc = read_backoff(t->retry_policy, path, &base, &max, err);
    return rc ? rc : check_metadata(c->grpc_services.v[0], path, err);
}

sv config_ads_cluster(const struct envoy_ApiConfigSource *c)
{
    const struct envoy_GrpcService_EnvoyGrpc *t = target(c);
    return t ? t->cluster_name : (sv){NULL, 0};
}

/* ---- the stream ---- */

static void connect_now(struct config_ads *a);

static void count_failure(struct config_ads *a)
{
    for (int t = 0; t < CONFIG_TYPE_COUNT; t++) {
        if (a->wildcard[t])
            subscription_failed(&a->s->subscriptions[t]);
    }
}

/* Full jitter: proxies that lost the same control plane do not come back at one moment. */
static void connect_later(struct config_ads *a)
{
    uint64_t ms = rand_below(loop_rand(a->s->loop), a->wait_ms);
    a->wait_ms = a->wait_ms * 2 > a->max_ms ? a->max_ms : a->wait_ms * 2;
    timer_set(&a->retry, ms);
}

static void stream_over(struct config_ads *a)
{
    a->call = NULL;
    ads_client_stream_closed(a->client);
    stat_gauge_set(&a->stats, control_plane_stats_connected_state, 0);
    count_failure(a);
    connect_later(a);
}

static void on_retry(struct timer *t)
{
    connect_now(container_of(t, struct config_ads, retry));
}

static void on_headers(void *user, const struct http_headers *h)
{
    struct config_ads *a = user;
    stat_gauge_set(&a->stats, control_plane_stats_connected_state, 1);
}

static void on_message(void *user, struct buf *msg, sv bytes)
{
    struct config_ads *a = user;
    struct error err = {0};
    a->wait_ms = a->base_ms;
    stat_gauge_set(&a->stats, control_plane_stats_connected_state, 1);
    a->keys = false;
    int rc = mem_short() /* a new stream, later, brings it again */
                 ? error_set(&err, E_LIMIT, "memory is short")
                 : ads_client_receive(a->client, bytes, &err);
    if (a->keys)
        tls_wipe((void *)(uintptr_t)bytes.p, bytes.n);
    if (rc == 0)
        return;
    log_warn(&log_config, "ads: the stream is ended cluster=%s reason=%s", a->cluster, err.msg);
    grpc_cancel(a->call);
    stream_over(a);
}

static void on_done(void *user, const struct grpc_result *r)
{
    struct config_ads *a = user;
    uint64_t ms = (loop_now_ns(a->s->loop) - a->started_ns) / 1000000u;
    log_warn(&log_config, "ads: stream closed cluster=%s after_ms=%llu code=%s message=%.*s",
             a->cluster, (unsigned long long)ms, grpc_code_text(r->code), SV_ARG(r->message));
    stream_over(a);
}

static void send_message(void *arg, sv message)
{
    struct config_ads *a = arg;
    if (a->call)
        grpc_send(a->call, message);
}

static void connect_now(struct config_ads *a)
{
    static const struct grpc_call_events events = {
        .on_headers = on_headers, .on_message = on_message, .on_done = on_done};
    struct grpc_opts o = {.max_message_bytes = a->message_max};
    a->started_ns = loop_now_ns(a->s->loop);
    a->call = grpc_call_start(a->channel, sv_of(a->method), &a->metadata, &o, &events, a);
    ads_client_stream_open(a->client, send_message, a);
}

/* ---- resources ---- */

static void on_update(void *self, struct ads_update *u)
{
    struct config_ads *a = self;
    struct arena m;
    enum config_type type = config_of(u->type);
    a->keys |= type == CONFIG_SDS;
    arena_init(&m);
    struct config_update c = {.type = type,
                              .version = u->version,
                              .v = arena_array(&m, struct config_resource, u->n_changed),
                              .n = u->n_changed,
                              .removed = u->removed,
                              .n_removed = u->n_removed};
    for (uint32_t i = 0; i < c.n; i++) {
        const struct ads_resource *r = &u->changed[i];
        c.v[i] =
            (struct config_resource){.name = r->name, .version = r->version, .packed = r->packed};
    }
    a->sink.update(a->sink.self, &c);
    for (uint32_t i = 0; i < c.n; i++)
        u->changed[i].refused = c.v[i].refused;
    arena_free(&m);
    for (uint32_t i = 0; !xds_type_wildcard(u->type) && i < u->n_removed; i++)
        a->sink.missing(a->sink.self, type, u->removed[i]);
}

static void on_ack(void *self, enum xds_type t, bool accepted, sv details)
{
    struct config_ads *a = self;
    sv id = ads_client_control_plane(a->client);
    if (id.n)
        stat_text_set(&a->stats, control_plane_stats_identifier, id);
    if (accepted)
        log_debug(&log_config, "ads: accepted type=%s version=%.*s", xds_type_short(t),
                  SV_ARG(ads_client_version(a->client, t)));
    else
        log_warn(&log_config, "ads: refused type=%s reason=%.*s", xds_type_short(t),
                 SV_ARG(details));
}

/* ---- config_source ---- */

static void free_now(struct config_ads *a)
{
    arena_free(&a->arena);
    free(a);
}

static void run_flush(struct deferred *d)
{
    struct config_ads *a = container_of(d, struct config_ads, flush);
    a->flush_due = false;
    if (a->ended)
        free_now(a);
    else
        ads_client_flush(a->client);
}

/* Once a turn: what one response makes necessary leaves in one request a type. */
static void on_dirty(void *arg)
{
    struct config_ads *a = arg;
    if (a->flush_due)
        return;
    a->flush_due = true;
    loop_defer(a->s->loop, &a->flush, run_flush);
}

static void subscribe(void *self, enum config_type t, sv name)
{
    struct config_ads *a = self;
    if (!name.n) {
        a->wildcard[t] = true;
        subscription_asked(&a->s->subscriptions[t]);
    }
    ads_client_subscribe(a->client, config_ads_type(t), name);
}

static void unsubscribe(void *self, enum config_type t, sv name)
{
    struct config_ads *a = self;
    if (!name.n)
        a->wildcard[t] = false;
    ads_client_unsubscribe(a->client, config_ads_type(t), name);
}

static void start(void *self, const struct config_sink *sink)
{
    struct config_ads *a = self;
    a->sink = *sink;
    connect_now(a);
}

static void source_free(void *self)
{
    struct config_ads *a = self;
    timer_cancel(&a->retry);
    if (a->call)
        grpc_cancel(a->call);
    cluster_channel_free(a->channel);
    ads_client_free(a->client);
    stat_group_fini(&a->stats);
    a->ended = true;
    if (!a->flush_due)
        free_now(a);
}

static const struct config_source_ops ops = {subscribe, unsubscribe, start, source_free};

/* ---- making it ---- */

static void copy_metadata(struct config_ads *a, const struct envoy_GrpcService *g)
{
    http_headers_init(&a->metadata, &a->arena);
    for (uint32_t i = 0; i < g->initial_metadata.n; i++) {
        const struct envoy_HeaderValue *h = g->initial_metadata.v[i];
        http_headers_add(&a->metadata, arena_sv(&a->arena, h->key),
                         arena_sv(&a->arena, h->raw_value.n ? h->raw_value : h->value));
    }
}

static void make_client(struct config_ads *a, bool delta)
{
    struct ads_client_opts o = {.delta = delta,
                                .node = proxy_server_node_message(a->s),
                                .handler = {.update = on_update, .on_ack = on_ack, .self = a}};
    a->client = ads_client_new(&o);
    a->method = ads_client_method(a->client);
    ads_client_on_dirty(a->client, on_dirty, a);
}

struct config_source *config_ads_new(struct proxy_server *s, const struct envoy_ApiConfigSource *c,
                                     struct error *err)
{
    if (config_ads_check(c, "dynamic_resources.ads_config", err) < 0)
        return NULL;
    const struct envoy_GrpcService_EnvoyGrpc *t = target(c);
    struct config_ads *a = mem_new(struct config_ads);
    a->src = (struct config_source){&ops, a, is_delta(c)};
    a->s = s;
    a->base_ms = BASE_MS;
    a->max_ms = MAX_MS;
    arena_init(&a->arena);
    if (read_backoff(t->retry_policy, "", &a->base_ms, &a->max_ms, err) < 0) {
        free_now(a);
        return NULL;
    }
    a->wait_ms = a->base_ms;
    a->message_max =
        t->max_receive_message_length ? t->max_receive_message_length->value : MESSAGE_MAX;
    a->cluster = arena_cstr(&a->arena, t->cluster_name);
    copy_metadata(a, c->grpc_services.v[0]);
    make_client(a, is_delta(c));
    if (!s->main_upstream)
        s->main_upstream = upstream_worker_new(s->clusters, s->loop);
    a->channel = cluster_channel_new(s->main_upstream, s->loop, t->cluster_name, t->authority);
    timer_init(&a->retry, s->loop, on_retry);
    struct stats_scope *sc = stats_scope_plain(s->stats, SV("control_plane."));
    stat_group_init(&a->stats, &control_plane_stats_def, sc);
    stats_scope_unref(sc);
    stat_gauge_set(&a->stats, control_plane_stats_connected_state, 0);
    stat_gauge_set(&a->stats, control_plane_stats_pending_requests, 0);
    return &a->src;
}
