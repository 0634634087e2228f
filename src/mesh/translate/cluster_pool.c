/* connectionPool, retryBudget and outlierDetection of a DestinationRule. */
#include "mesh/translate/cluster.h"

static const struct google_UInt32Value *positive(struct build *b, int32_t v,
                                                 const struct google_UInt32Value *dflt)
{
    return v > 0 ? build_u32(b, (uint32_t)v) : dflt;
}

static const struct envoy_Percent *percent(struct build *b, double v)
{
    return MAKE(b, envoy_Percent, .value = v);
}

/* ---- limits ---- */

static void apply_keepalive(struct outbound *o,
                            const struct istio_ConnectionPoolSettings_TCPSettings_TcpKeepalive *k)
{
    struct envoy_TcpKeepalive *out;

    if (!k)
        return;
    out = MAKE(o->b, envoy_TcpKeepalive,
               .keepalive_probes = positive(o->b, (int32_t)k->probes, NULL));
    if (k->time)
        out->keepalive_time = build_u32(o->b, (uint32_t)k->time->seconds);
    if (k->interval)
        out->keepalive_interval = build_u32(o->b, (uint32_t)k->interval->seconds);
    o->c->upstream_connection_options =
        MAKE(o->b, envoy_UpstreamConnectionOptions, .tcp_keepalive = out);
}

static void apply_budget(struct outbound *o, struct envoy_CircuitBreakers_Thresholds *t)
{
    const struct istio_TrafficPolicy_RetryBudget *rb = o->policy.retry_budget;

    if (!rb)
        return;
    t->max_retries = NULL; /* the budget takes its place */
    t->retry_budget = MAKE(o->b, envoy_CircuitBreakers_Thresholds_RetryBudget,
                           .budget_percent = percent(o->b, rb->percent ? rb->percent->value : 20),
                           .min_retry_concurrency = build_u32(
                               o->b, rb->min_retry_concurrency ? rb->min_retry_concurrency : 3));
}

void cluster_apply_pool(struct outbound *o)
{
    const struct istio_ConnectionPoolSettings *pool = o->policy.connection_pool;
    const struct istio_ConnectionPoolSettings_TCPSettings *tcp = pool ? pool->tcp : NULL;
    const struct istio_ConnectionPoolSettings_HTTPSettings *http = pool ? pool->http : NULL;
    struct envoy_CircuitBreakers_Thresholds *t =
        build_copy(o->b, o->c->circuit_breakers->thresholds.v[0], sizeof *t);

    if (tcp) {
        t->max_connections = positive(o->b, tcp->max_connections, t->max_connections);
        if (tcp->connect_timeout)
            o->c->connect_timeout = tcp->connect_timeout;
        apply_keepalive(o, tcp->tcp_keepalive);
    }
    if (http) {
        t->max_pending_requests =
            positive(o->b, http->http1_max_pending_requests, t->max_pending_requests);
        t->max_requests = positive(o->b, http->http2_max_requests, t->max_requests);
        if (http->max_retries > 0) {
            t->max_retries = build_u32(o->b, (uint32_t)http->max_retries);
            t->retry_budget = NULL; /* would take its place */
        }
    }
    apply_budget(o, t);
    o->c->circuit_breakers =
        MAKE(o->b, envoy_CircuitBreakers, .thresholds = {.v = build_one(o->b, t), .n = 1});
}

/* ---- HTTP versions and time-outs ---- */

/* Only ports that are known to be HTTP are upgraded: what is sniffed may be anything. */
static bool upgraded(const struct outbound *o,
                     const struct istio_ConnectionPoolSettings_HTTPSettings *http)
{
    enum model_protocol p = o->port->protocol;

    return p == MODEL_HTTP2 || p == MODEL_GRPC || p == MODEL_GRPC_WEB ||
           (p == MODEL_HTTP && http &&
            http->h2_upgrade_policy == istio_ConnectionPoolSettings_HTTPSettings_UPGRADE);
}

static const struct envoy_HttpProtocolOptions *
common_options(struct build *b, const struct istio_ConnectionPoolSettings_TCPSettings *tcp,
               const struct istio_ConnectionPoolSettings_HTTPSettings *http)
{
    struct envoy_HttpProtocolOptions c = {0};

    if (http) {
        c.idle_timeout = http->idle_timeout;
        c.max_requests_per_connection = positive(b, http->max_requests_per_connection, NULL);
    }
    if (tcp) {
        c.max_connection_duration = tcp->max_connection_duration;
        if (!c.idle_timeout)
            c.idle_timeout = tcp->idle_timeout;
    }
    return c.idle_timeout || c.max_requests_per_connection || c.max_connection_duration
               ? build_copy(b, &c, sizeof c)
               : NULL;
}

void cluster_init_http(struct outbound *o)
{
    const struct istio_ConnectionPoolSettings *pool = o->policy.connection_pool;
    const struct istio_ConnectionPoolSettings_HTTPSettings *http = pool ? pool->http : NULL;
    struct build *b = o->b;
    const struct envoy_Http1ProtocolOptions *h1 = MAKE0(b, envoy_Http1ProtocolOptions);
    struct envoy_Http2ProtocolOptions *h2 = MAKE0(b, envoy_Http2ProtocolOptions);

    if (!model_protocol_is_http(o->port->protocol) && o->port->protocol != MODEL_AUTO)
        return;
    o->http =
        MAKE(b, envoy_upstreams_HttpProtocolOptions,
             .common_http_protocol_options = common_options(b, pool ? pool->tcp : NULL, http));
    if (http) {
        h2->max_concurrent_streams = positive(b, http->max_concurrent_streams, NULL);
        if (http->http2_keep_alive)
            h2->connection_keepalive =
                MAKE(b, envoy_KeepaliveSettings, .interval = http->http2_keep_alive->interval,
                     .timeout = http->http2_keep_alive->timeout);
    }
    if (o->port->protocol == MODEL_AUTO || (http && http->use_client_protocol)) {
        o->http->which_upstream_protocol_options =
            envoy_upstreams_HttpProtocolOptions_use_downstream_protocol_config_tag;
        o->http->use_downstream_protocol_config =
            MAKE(b, envoy_upstreams_HttpProtocolOptions_UseDownstreamHttpConfig,
                 .http_protocol_options = h1, .http2_protocol_options = h2);
        return;
    }
    o->h2 = upgraded(o, http);
    o->http->which_upstream_protocol_options =
        envoy_upstreams_HttpProtocolOptions_explicit_http_config_tag;
    o->http->explicit_http_config =
        o->h2
            ? MAKE(
                  b, envoy_upstreams_HttpProtocolOptions_ExplicitHttpConfig,
                  .which_protocol_config =
                      envoy_upstreams_HttpProtocolOptions_ExplicitHttpConfig_http2_protocol_options_tag,
                  .http2_protocol_options = h2)
            : MAKE(
                  b, envoy_upstreams_HttpProtocolOptions_ExplicitHttpConfig,
                  .which_protocol_config =
                      envoy_upstreams_HttpProtocolOptions_ExplicitHttpConfig_http_protocol_options_tag,
                  .http_protocol_options = h1);
}

void cluster_finish_http(struct outbound *o)
{
    struct envoy_Cluster_TypedExtensionProtocolOptionsEntry *e;

    if (!o->http)
        return;
    e = MAKE(o->b, envoy_Cluster_TypedExtensionProtocolOptionsEntry,
             .key = SV("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
             .value = pb_any_pack(&envoy_upstreams_HttpProtocolOptions_pb, o->http, o->b->a));
    o->c->typed_extension_protocol_options.v = build_one(o->b, e);
    o->c->typed_extension_protocol_options.n = 1;
}

/* ---- outlier detection ---- */

static const struct envoy_MatchPredicate *status_is(struct build *b, uint32_t code)
{
    struct envoy_StringMatcher *s =
        MAKE(b, envoy_StringMatcher, .which_match_pattern = envoy_StringMatcher_exact_tag,
             .exact = arena_printf(b->a, "%u", code));
    struct envoy_HeaderMatcher *h = MAKE(
        b, envoy_HeaderMatcher, .name = SV(":status"),
        .which_header_match_specifier = envoy_HeaderMatcher_string_match_tag, .string_match = s);
    struct envoy_HttpHeadersMatch *m =
        MAKE(b, envoy_HttpHeadersMatch, .headers = {.v = build_one(b, h), .n = 1});

    return MAKE(b, envoy_MatchPredicate,
                .which_rule = envoy_MatchPredicate_http_response_headers_match_tag,
                .http_response_headers_match = m);
}

/* Which statuses are errors; of connections that are no HTTP there are none. */
static void apply_error_codes(struct outbound *o, const uint32_t *codes, uint32_t n)
{
    struct build *b = o->b;
    const struct envoy_MatchPredicate **rules, *m;

    if (!n || !o->http)
        return;
    rules = arena_array(b->a, const struct envoy_MatchPredicate *, n);
    for (uint32_t i = 0; i < n; i++)
        rules[i] = status_is(b, codes[i]);
    m = n == 1 ? rules[0]
               : MAKE(b, envoy_MatchPredicate, .which_rule = envoy_MatchPredicate_or_match_tag,
                      .or_match =
                          MAKE(b, envoy_MatchPredicate_MatchSet, .rules = {.v = rules, .n = n}));
    o->http->outlier_detection =
        MAKE(b, envoy_upstreams_HttpProtocolOptions_OutlierDetection, .error_matcher = m);
}

/* Counting to 0 means never. */
static const struct google_UInt32Value *enforcing(struct build *b,
                                                  const struct google_UInt32Value *v)
{
    return v ? build_u32(b, v->value ? 100 : 0) : NULL;
}

void cluster_apply_outliers(struct outbound *o)
{
    const struct istio_OutlierDetection *in = o->policy.outlier_detection;
    struct build *b = o->b;
    struct envoy_OutlierDetection *out;
    struct envoy_Cluster_CommonLbConfig *lb;

    if (!in)
        return;
    out =
        MAKE(b, envoy_OutlierDetection, .consecutive_5xx = in->consecutive_5xx_errors,
             .enforcing_consecutive_5xx = enforcing(b, in->consecutive_5xx_errors),
             .consecutive_gateway_failure = in->consecutive_gateway_errors,
             .enforcing_consecutive_gateway_failure = enforcing(b, in->consecutive_gateway_errors),
             .enforcing_success_rate = build_u32(b, 0), .interval = in->interval,
             .base_ejection_time = in->base_ejection_time,
             .max_ejection_percent = positive(b, in->max_ejection_percent, NULL));
    if (in->split_external_local_origin_errors) {
        out->split_external_local_origin_errors = true;
        out->enforcing_local_origin_success_rate = build_u32(b, 0);
        if (in->consecutive_local_origin_failures && in->consecutive_local_origin_failures->value) {
            out->consecutive_local_origin_failure = in->consecutive_local_origin_failures;
            out->enforcing_consecutive_local_origin_failure = build_u32(b, 100);
        }
    }
    o->c->outlier_detection = out;
    apply_error_codes(o, in->outlier_detection_http_error_codes.v,
                      in->outlier_detection_http_error_codes.n);
    /* Below this share of healthy endpoints all are used; a service of few endpoints is not helped
     * by that, so 0 unless it is said. */
    lb = build_copy(b, o->c->common_lb_config, sizeof *lb);
    lb->healthy_panic_threshold = percent(b, in->min_health_percent);
    o->c->common_lb_config = lb;
}
