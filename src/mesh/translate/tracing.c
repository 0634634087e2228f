/* Spans: every connection manager makes them, and sends them to the mesh's collector. Names of
 * operations and tags are Istio's. */
#include "api/envoy.pb.h"
#include "http/path.h"
#include "mesh/translate/internal.h"
#include "net/addr.h"

int tracing_init(struct translate *t, const struct translate_options *o, struct error *err)
{
    struct translate_tracing *x = &t->tracing;
    sv at = o->tracing_otlp.n ? o->tracing_otlp : o->tracing_zipkin;
    struct authority a;

    if (o->tracing_otlp.n && o->tracing_zipkin.n)
        return error_set(err, E_INVALID, "tracing: there is one collector, of OTLP or of Zipkin");
    if (!at.n)
        return 0;
    if (authority_parse(at, &a) < 0 || !a.port)
        return error_set(err, E_INVALID, "tracing: '%.*s' is not of the form HOST:PORT",
                         SV_ARG(at));
    if (!(o->tracing_sampling >= 0 && o->tracing_sampling <= 100))
        return error_set(err, E_INVALID, "tracing: a percentage is from 0 to 100");
    x->on = true;
    x->zipkin = o->tracing_zipkin.n != 0;
    x->host = arena_sv(&t->arena, a.host);
    x->authority = arena_sv(&t->arena, at);
    x->port = a.port;
    x->sampling = o->tracing_sampling;
    return 0;
}

bool translate_traces(const struct translate *t)
{
    return t->tracing.on;
}

/* The service that the collector is, as the proxy sees it, or NULL: it is reached by its address
 * or name then, through a cluster of its own. */
static const struct model_service *collector_service(struct build *b)
{
    const struct translate_tracing *x = &b->t->tracing;
    const struct model_service *svc = model_service_find(b->m, x->host);
    return svc && build_port(svc, x->port) && build_visible(b, svc) ? svc : NULL;
}

static sv own_cluster(const struct translate_tracing *x)
{
    return x->zipkin ? SV("zipkin") : SV("opentelemetry");
}

void build_tracing_cluster(struct build *b)
{
    const struct translate_tracing *x = &b->t->tracing;
    struct addr ignored;

    if (!x->on || collector_service(b))
        return;
    bool is_ip = addr_parse(&ignored, x->authority) == 0;
    struct envoy_LbEndpoint *e =
        MAKE(b, envoy_LbEndpoint, .which_host_identifier = envoy_LbEndpoint_endpoint_tag,
             .endpoint = MAKE(b, envoy_Endpoint, .address = build_address(b, x->host, x->port)));
    struct envoy_LocalityLbEndpoints *group =
        MAKE(b, envoy_LocalityLbEndpoints, .lb_endpoints = {build_one(b, e), 1});
    struct envoy_Cluster_TypedExtensionProtocolOptionsEntry *http =
        MAKE(b, envoy_Cluster_TypedExtensionProtocolOptionsEntry,
             .key = SV("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
             .value = x->zipkin ? b->t->http1_options : b->t->http2_options);
    struct envoy_Cluster *c =
        MAKE(b, envoy_Cluster, .name = own_cluster(x), .connect_timeout = build_ms(b, 10000),
             .which_cluster_discovery_type = envoy_Cluster_type_tag,
             .type = is_ip ? envoy_Cluster_STATIC : envoy_Cluster_STRICT_DNS,
             .dns_lookup_family = is_ip ? envoy_Cluster_AUTO : envoy_Cluster_V4_PREFERRED,
             .respect_dns_ttl = !is_ip,
             .load_assignment = MAKE(b, envoy_ClusterLoadAssignment, .cluster_name = own_cluster(x),
                                     .endpoints = {build_one(b, group), 1}));
    c->typed_extension_protocol_options.v = build_one(b, http);
    c->typed_extension_protocol_options.n = 1;
    build_emit(b, c->name, &envoy_Cluster_pb, c);
}

static const struct google_Any *provider_config(struct build *b, sv cluster)
{
    const struct translate_tracing *x = &b->t->tracing;

    if (x->zipkin)
        return pb_any_pack(&envoy_ZipkinConfig_pb,
                           MAKE(b, envoy_ZipkinConfig, .collector_cluster = cluster,
                                .collector_endpoint = SV("/api/v2/spans"),
                                .collector_endpoint_version = envoy_ZipkinConfig_HTTP_JSON,
                                .collector_hostname = x->authority, .trace_id_128bit = true,
                                .shared_span_context = build_bool(b, false)),
                           b->a);
    struct envoy_GrpcService_EnvoyGrpc *g =
        MAKE(b, envoy_GrpcService_EnvoyGrpc, .cluster_name = cluster, .authority = x->authority);
    return pb_any_pack(
        &envoy_OpenTelemetryConfig_pb,
        MAKE(b, envoy_OpenTelemetryConfig, .service_name = b->p->cluster,
             .grpc_service =
                 MAKE(b, envoy_GrpcService,
                      .which_target_specifier = envoy_GrpcService_envoy_grpc_tag, .envoy_grpc = g)),
        b->a);
}

static sv or_unknown(sv v)
{
    return v.n ? v : SV("unknown");
}

void build_tracing(struct build *b, struct envoy_HttpConnectionManager *h)
{
    const struct translate_tracing *x = &b->t->tracing;
    const struct translate_proxy *p = b->p;
    const struct {
        sv name, value;
    } tags[] = {
        {SV("istio.canonical_revision"), p->canonical_revision},
        {SV("istio.canonical_service"), or_unknown(p->canonical_service)},
        {SV("istio.cluster_id"), or_unknown(p->cluster_id)},
        {SV("istio.mesh_id"), or_unknown(p->mesh_id)},
        {SV("istio.namespace"), p->ns},
    };
    enum { N = sizeof tags / sizeof *tags };
    const struct envoy_CustomTag **list = arena_array(b->a, const struct envoy_CustomTag *, N);

    if (!x->on)
        return;
    for (unsigned i = 0; i < N; i++)
        list[i] =
            MAKE(b, envoy_CustomTag, .tag = tags[i].name, .which_type = envoy_CustomTag_literal_tag,
                 .literal = MAKE(b, envoy_CustomTag_Literal, .value = tags[i].value));
    const struct model_service *svc = collector_service(b);
    sv cluster = svc ? translate_cluster_name(b->a, "outbound", x->port, (sv){NULL, 0}, svc->host)
                     : own_cluster(x);
    struct envoy_trace_Tracing_Http *provider =
        MAKE(b, envoy_trace_Tracing_Http,
             .name = x->zipkin ? SV("envoy.tracers.zipkin") : SV("envoy.tracers.opentelemetry"),
             .which_config_type = envoy_trace_Tracing_Http_typed_config_tag,
             .typed_config = provider_config(b, cluster));
    h->tracing = MAKE(b, envoy_HttpConnectionManager_Tracing,
                      .random_sampling = MAKE(b, envoy_Percent, .value = x->sampling),
                      .custom_tags = {list, N}, .provider = provider);
}

const struct envoy_Decorator *build_operation(struct build *b, sv host, uint16_t port, sv path)
{
    if (!b->t->tracing.on)
        return NULL;
    return MAKE(b, envoy_Decorator,
                .operation = arena_printf(b->a, "%.*s:%u%.*s", SV_ARG(host), port, SV_ARG(path)));
}

const struct envoy_Decorator *build_route_operation(struct build *b, const struct envoy_Route *r,
                                                    sv name, uint16_t port)
{
    const struct envoy_RouteMatch *m = r->match;
    sv path = SV("/*"), direction, subset, host;

    if (!b->t->tracing.on)
        return NULL;
    if (m->which_path_specifier == envoy_RouteMatch_prefix_tag)
        path = arena_printf(b->a, "%.*s*", SV_ARG(m->prefix));
    else if (m->which_path_specifier == envoy_RouteMatch_path_tag)
        path = m->path;
    else if (m->which_path_specifier == envoy_RouteMatch_safe_regex_tag)
        path = m->safe_regex->regex;
    if (r->which_action == envoy_Route_route_tag &&
        r->route->which_cluster_specifier == envoy_RouteAction_cluster_tag &&
        translate_cluster_parse(r->route->cluster, &direction, &port, &subset, &host))
        name = host;
    else if (!name.n)
        return NULL;
    return build_operation(b, name, port, path);
}
