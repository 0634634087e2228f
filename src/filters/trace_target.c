/* Where spans go: what of OpenTelemetryConfig and ZipkinConfig is carried out. */
#include <string.h>
#include "api/envoy.pb.h"
#include "base/runtime.h"
#include "api/opentelemetry.pb.h"
#include "filters/trace_export.h"
#include "filters/worker.h"
#include "http/substitution.h"
#include "route/match.h"

#define OTLP_TIMEOUT_MS   10000 /* of a call, where none is configured */
#define ZIPKIN_TIMEOUT_MS 5000
#define FLUSH_SPANS       5 /* as Envoy */
#define FLUSH_MS          5000
#define MAX_SPANS         1024 /* waiting for a call, where no number is configured */

static int unsupported(const struct filter_ctx *x, struct error *err, const char *field,
                       const char *why)
{
    return error_set(err, E_UNSUPPORTED, "%s.%s: %s", x->path, field, why);
}

static int invalid(const struct filter_ctx *x, struct error *err, const char *field,
                   const char *why)
{
    return error_set(err, E_INVALID, "%s.%s: %s", x->path, field, why);
}

/* A field that every call carries. Operators of format strings have no request to speak of. */
static int add_header(const struct filter_ctx *x, const struct envoy_HeaderValue *h,
                      const char *path, struct trace_target *t, struct error *err)
{
    const struct substitution_opts o = {.use = SUBSTITUTION_HEADER, .path = path};
    const struct substitution *f;
    sv value;
    if (!h || !http_name_lower_valid(h->key) || !http_value_valid(h->value) || h->raw_value.n)
        return error_set(err, E_INVALID, "%s: '%.*s' is no lower-case name with a plain value",
                         path, SV_ARG(h ? h->key : SV("")));
    int rc = substitution_compile(h->value, &o, x->scratch, &f, err);
    if (rc < 0) {
        error_prefix(err, "%s: ", path);
        return rc;
    }
    if (!substitution_constant(f, &value))
        return error_set(err, E_UNSUPPORTED, "%s: operators are not supported here", path);
    t->headers[t->n_headers++] = (struct trace_header){h->key, arena_sv(x->arena, value)};
    return 0;
}

static int grpc_service(const struct filter_ctx *x, const struct envoy_GrpcService *g,
                        struct trace_target *t, struct error *err)
{
    int rc = 0;
    if (g->which_target_specifier != envoy_GrpcService_envoy_grpc_tag)
        return unsupported(x, err, "envoy_grpc", "is required");
    if (!g->envoy_grpc->cluster_name.n)
        return invalid(x, err, "envoy_grpc.cluster_name", "must not be empty");
    if (g->retry_policy || g->envoy_grpc->retry_policy)
        return unsupported(x, err, "retry_policy", "is not supported");
    t->protocol = TRACE_OTLP_GRPC;
    t->cluster = g->envoy_grpc->cluster_name;
    t->authority = g->envoy_grpc->authority.n ? g->envoy_grpc->authority : t->cluster;
    t->path = SV(opentelemetry_TraceService_Export_PATH);
    t->headers = arena_array(x->arena, struct trace_header, g->initial_metadata.n);
    for (uint32_t i = 0; rc == 0 && i < g->initial_metadata.n; i++)
        rc = add_header(x, g->initial_metadata.v[i], filter_path(x, "initial_metadata[%u]", i), t,
                        err);
    return rc == 0 && g->timeout
               ? duration_ms(g->timeout, filter_path(x, "timeout"), &t->timeout_ms, err)
               : rc;
}

/* "http://HOST/PATH", or the path alone; the cluster says where that is. */
static int split_uri(const struct filter_ctx *x, sv uri, struct trace_target *t, struct error *err)
{
    ptrdiff_t at = sv_find_sv(uri, SV("://"));
    if (at >= 0) {
        uri = sv_from(uri, (size_t)at + 3);
        at = sv_find(uri, '/');
        t->authority = at < 0 ? uri : sv_first(uri, (size_t)at);
        uri = at < 0 ? SV("/") : sv_from(uri, (size_t)at);
    }
    if (!t->authority.n)
        t->authority = t->cluster;
    t->path = uri;
    bool bad = !uri.n || uri.p[0] != '/' || !http_value_valid(t->authority);
    for (size_t i = 0; i < uri.n; i++)
        bad |= (unsigned char)uri.p[i] <= ' ' || (unsigned char)uri.p[i] >= 0x7f;
    return bad ? invalid(x, err, "http_uri.uri", "is no URI with a path") : 0;
}

static int http_service(const struct filter_ctx *x, const struct envoy_HttpService *h,
                        struct trace_target *t, struct error *err)
{
    const struct envoy_HttpUri *u = h->http_uri;
    if (!u || !u->cluster.n)
        return invalid(x, err, "http_uri.cluster", "must be set");
    t->cluster = u->cluster;
    int rc = split_uri(x, u->uri, t, err);
    if (rc == 0 && u->timeout)
        rc = duration_ms(u->timeout, filter_path(x, "http_uri.timeout"), &t->timeout_ms, err);
    t->headers = arena_array(x->arena, struct trace_header, h->request_headers_to_add.n);
    for (uint32_t i = 0; rc == 0 && i < h->request_headers_to_add.n; i++)
        rc = add_header(x, h->request_headers_to_add.v[i]->header,
                        filter_path(x, "request_headers_to_add[%u].header", i), t, err);
    return rc;
}

/* The runtime's value, else `otherwise`; never so large that a sum of times overflows. */
static uint64_t runtime(const struct filter_ctx *x, const char *key, uint64_t otherwise)
{
    uint64_t v = runtime_text_number(x->runtime, sv_of(key), otherwise);
    return v < 1 ? 1 : v > UINT32_MAX ? UINT32_MAX : v;
}

static int otlp(const struct filter_ctx *x, const struct envoy_OpenTelemetryConfig *c,
                struct trace_target *t, struct error *err)
{
    int rc;
    if (c->resource_detectors.n)
        return unsupported(x, err, "resource_detectors", "is not supported");
    if (c->sampler)
        return unsupported(x, err, "sampler", "is not supported");
    if (!c->grpc_service == !c->http_service)
        return invalid(x, err, "grpc_service", "this or http_service must be set, and not both");
    t->timeout_ms = OTLP_TIMEOUT_MS;
    t->flush_spans = (uint32_t)runtime(x, "tracing.opentelemetry.min_flush_spans", FLUSH_SPANS);
    t->flush_ms = runtime(x, "tracing.opentelemetry.flush_interval_ms", FLUSH_MS);
    if (c->http_service) {
        t->protocol = TRACE_OTLP_HTTP;
        rc = http_service(filter_ctx_at(x, "http_service"), c->http_service, t, err);
    } else {
        rc = grpc_service(filter_ctx_at(x, "grpc_service"), c->grpc_service, t, err);
        if (rc == 0 && !t->timeout_ms)
            t->timeout_ms = OTLP_TIMEOUT_MS;
    }
    t->service_name = c->service_name.n ? c->service_name : SV("unknown_service:envoy");
    t->max_spans =
        c->max_cache_size && c->max_cache_size->value ? c->max_cache_size->value : MAX_SPANS;
    return rc;
}

static int zipkin_service(const struct filter_ctx *x, const struct envoy_ZipkinConfig *c,
                          struct trace_target *t, struct error *err)
{
    if (c->collector_service)
        return http_service(filter_ctx_at(x, "collector_service"), c->collector_service, t, err);
    if (!c->collector_cluster.n)
        return invalid(x, err, "collector_cluster", "must not be empty");
    if (!c->collector_endpoint.n)
        return invalid(x, err, "collector_endpoint", "must not be empty");
    t->cluster = c->collector_cluster;
    t->authority = c->collector_hostname;
    int rc = split_uri(x, c->collector_endpoint, t, err);
    return rc < 0 ? invalid(x, err, "collector_endpoint", "is no path") : 0;
}

static int zipkin(const struct filter_ctx *x, const struct envoy_ZipkinConfig *c,
                  struct trace_target *t, struct error *err)
{
    if (c->collector_endpoint_version != envoy_ZipkinConfig_HTTP_JSON)
        return unsupported(x, err, "collector_endpoint_version", "only HTTP_JSON is supported");
    if (c->split_spans_for_request)
        return unsupported(x, err, "split_spans_for_request",
                           "is not supported; use spawn_upstream_span");
    t->protocol = TRACE_ZIPKIN;
    t->timeout_ms = runtime(x, "tracing.zipkin.request_timeout", ZIPKIN_TIMEOUT_MS);
    t->flush_spans = (uint32_t)runtime(x, "tracing.zipkin.min_flush_spans", FLUSH_SPANS);
    t->flush_ms = runtime(x, "tracing.zipkin.flush_interval_ms", FLUSH_MS);
    t->max_spans = MAX_SPANS;
    t->service_name = x->node ? x->node->cluster : SV("");
    t->style = (struct trace_style){
        .b3 = true,
        .wide_ids = c->trace_id_128bit,
        .shared = !c->shared_span_context || c->shared_span_context->value,
        .w3c_too = c->trace_context_option == envoy_ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION,
    };
    return zipkin_service(x, c, t, err);
}

int trace_target_build(const struct filter_ctx *x, const struct envoy_trace_Tracing_Http *m,
                       const struct trace_target **out, struct error *err)
{
    static const char otlp_type[] = "envoy.config.trace.v3.OpenTelemetryConfig",
                      zipkin_type[] = "envoy.config.trace.v3.ZipkinConfig";
    sv got = m->typed_config ? pb_any_type(m->typed_config->type_url) : (sv){NULL, 0};
    bool is_zipkin = sv_eq(got, sv_of(zipkin_type));
    if (!is_zipkin && !sv_eq(got, sv_of(otlp_type)))
        return error_set(err, E_UNSUPPORTED,
                         "%s: tracer '%.*s' (%.*s) is not supported, only %s and %s", x->path,
                         SV_ARG(m->name), SV_ARG(got), otlp_type, zipkin_type);
    const struct pb_message *type =
        is_zipkin ? &envoy_ZipkinConfig_pb : &envoy_OpenTelemetryConfig_pb;
    /* Its messages live as long as the target. */
    struct filter_ctx inner = *filter_ctx_at(x, "typed_config");
    struct pb_opts o = x->pb ? *x->pb : (struct pb_opts){0};
    o.path = inner.path;
    void *c;
    struct trace_target *t = arena_new(x->arena, struct trace_target);
    int rc = pb_any_unpack(m->typed_config, type, x->arena, &o, &c, err);
    if (rc == 0)
        rc = is_zipkin ? zipkin(&inner, c, t, err) : otlp(&inner, c, t, err);
    if (rc < 0)
        return rc;
    sv packed = pb_encode_arena(type, c, x->arena);
    char *key = arena_alloc(x->arena, packed.n + 1);
    key[0] = is_zipkin ? 'z' : 'o';
    memcpy(key + 1, packed.p, packed.n);
    t->key = sv_make(key, packed.n + 1);
    *out = t;
    return 0;
}
