/* How HTTP is spoken to the hosts: typed_extension_protocol_options, and the older fields of the
 * cluster that they replaced. */
#include "upstream/cluster_config_private.h"

#include "api/google.pb.h"

/* The same parts from either place. */
struct parts {
    const struct envoy_HttpProtocolOptions *common;
    const struct envoy_UpstreamHttpProtocolOptions *upstream;
    const struct envoy_Http1ProtocolOptions *h1;
    const struct envoy_Http2ProtocolOptions *h2;
};

static int in_range(struct config_reader *r, const struct google_UInt32Value *v, const char *field,
                    uint32_t min, uint32_t max, uint32_t *out)
{
    if (!v)
        return 0;
    if (v->value < min || v->value > max)
        return config_invalid(r, "%s: must be between %u and %u", field, min, max);
    *out = v->value;
    return 0;
}

static int read_common(struct config_reader *r, const struct envoy_HttpProtocolOptions *c)
{
    struct cluster_http_config *h = &r->cfg->http;
    uint32_t kb = 0, headers = h->h1.max_headers;
    if (!c)
        return 0;
    if (c->max_stream_duration)
        return config_refuse(r, "common_http_protocol_options.max_stream_duration");
    if (c->headers_with_underscores_action)
        return config_refuse(r, "common_http_protocol_options.headers_with_underscores_action");
    int rc = config_ms(r, c->idle_timeout, "common_http_protocol_options.idle_timeout",
                       h->idle_timeout_ms, &h->idle_timeout_ms);
    if (rc == 0)
        rc = config_ms(r, c->max_connection_duration,
                       "common_http_protocol_options.max_connection_duration", 0,
                       &h->max_connection_ms);
    if (rc == 0)
        rc = in_range(r, c->max_headers_count, "common_http_protocol_options.max_headers_count", 1,
                      UINT32_MAX, &headers);
    if (rc == 0)
        rc = in_range(r, c->max_response_headers_kb,
                      "common_http_protocol_options.max_response_headers_kb", 1, 8192, &kb);
    if (rc)
        return rc;
    h->h1.max_headers = h->h2.max_headers = headers;
    if (kb)
        h->h1.max_head_bytes = h->h2.max_head_bytes = kb * 1024;
    if (c->max_requests_per_connection)
        h->max_requests_per_connection = c->max_requests_per_connection->value;
    return 0;
}

static int read_sni(struct config_reader *r, const struct envoy_UpstreamHttpProtocolOptions *u)
{
    if (!u)
        return 0;
    if (u->override_auto_sni_header.n && !u->auto_sni && !u->auto_san_validation)
        return config_invalid(r, "upstream_http_protocol_options.override_auto_sni_header: needs "
                                 "auto_sni or auto_san_validation");
    r->cfg->http.auto_sni = u->auto_sni;
    r->cfg->http.auto_san_validation = u->auto_san_validation;
    r->cfg->http.auto_sni_header = u->override_auto_sni_header;
    return 0;
}

static int read_key_format(struct config_reader *r,
                           const struct envoy_Http1ProtocolOptions_HeaderKeyFormat *f)
{
    if (!f)
        return 0;
    if (f->which_header_format ==
        envoy_Http1ProtocolOptions_HeaderKeyFormat_proper_case_words_tag) {
        r->cfg->http.h1.spelling = HTTP_SPELLING_PROPER;
        return 0;
    }
    if (!f->stateful_formatter)
        return config_invalid(r, "http_protocol_options.header_key_format: says no format");
    struct envoy_PreserveCaseFormatterConfig *p;
    int rc =
        config_any(r, f->stateful_formatter->typed_config, &envoy_PreserveCaseFormatterConfig_pb,
                   "http_protocol_options.header_key_format.stateful_formatter", &p);
    if (rc == 0)
        r->cfg->http.h1.spelling = HTTP_SPELLING_KEPT;
    return rc;
}

static int read_h1(struct config_reader *r, const struct envoy_Http1ProtocolOptions *o)
{
    struct http_limits *l = &r->cfg->http.h1;
    if (!o)
        return 0;
    if (o->default_host_for_http_10.n)
        return config_refuse(r, "http_protocol_options.default_host_for_http_10");
    if (o->override_stream_error_on_invalid_http_message &&
        o->override_stream_error_on_invalid_http_message->value)
        return config_refuse(r, "http_protocol_options."
                                "override_stream_error_on_invalid_http_message");
    if (o->send_fully_qualified_url)
        return config_refuse(r, "http_protocol_options.send_fully_qualified_url");
    if (o->ignore_http_11_upgrade.n)
        return config_refuse(r, "http_protocol_options.ignore_http_11_upgrade");
    l->enable_trailers = o->enable_trailers;
    l->allow_chunked_length = o->allow_chunked_length;
    return read_key_format(r, o->header_key_format);
}

static int read_keepalive(struct config_reader *r, const struct envoy_KeepaliveSettings *k)
{
    struct cluster_http_config *h = &r->cfg->http;
    if (!k)
        return 0;
    int rc = config_ms(r, k->interval, "http2_protocol_options.connection_keepalive.interval", 0,
                       &h->keepalive_interval_ms);
    if (rc == 0)
        rc = config_ms(r, k->timeout, "http2_protocol_options.connection_keepalive.timeout", 0,
                       &h->keepalive_timeout_ms);
    if (rc == 0)
        rc = config_ms(r, k->connection_idle_interval,
                       "http2_protocol_options.connection_keepalive.connection_idle_interval", 0,
                       &h->keepalive_idle_ms);
    if (rc == 0 && h->keepalive_timeout_ms == 0)
        rc = config_invalid(r, "http2_protocol_options.connection_keepalive.timeout: required");
    h->keepalive_jitter_percent = 15;
    if (rc == 0 && k->interval_jitter) {
        if (!(k->interval_jitter->value >= 0 && k->interval_jitter->value <= 100))
            rc = config_invalid(r, "http2_protocol_options.connection_keepalive.interval_jitter: "
                                   "must be between 0 and 100");
        else
            h->keepalive_jitter_percent = (uint32_t)k->interval_jitter->value;
    }
    return rc;
}

static int read_h2(struct config_reader *r, const struct envoy_Http2ProtocolOptions *o)
{
    struct http_limits *l = &r->cfg->http.h2;
    const uint32_t max31 = 0x7fffffff;
    if (!o)
        return 0;
    if (o->custom_settings_parameters.n)
        return config_refuse(r, "http2_protocol_options.custom_settings_parameters");
    const struct {
        const struct google_UInt32Value *v;
        const char *field;
        uint32_t min, max, *out;
    } numbers[] = {
        {o->hpack_table_size, "hpack_table_size", 0, UINT32_MAX, &l->hpack_table_size},
        {o->max_concurrent_streams, "max_concurrent_streams", 1, max31, &l->max_concurrent_streams},
        {o->initial_stream_window_size, "initial_stream_window_size", 65535, max31,
         &l->initial_stream_window},
        {o->initial_connection_window_size, "initial_connection_window_size", 65535, max31,
         &l->initial_conn_window},
        {o->max_outbound_frames, "max_outbound_frames", 1, UINT32_MAX, &l->max_outbound_frames},
        {o->max_outbound_control_frames, "max_outbound_control_frames", 1, UINT32_MAX,
         &l->max_outbound_control_frames},
        {o->max_consecutive_inbound_frames_with_empty_payload,
         "max_consecutive_inbound_frames_with_empty_payload", 0, UINT32_MAX, &l->max_empty_frames},
        {o->max_inbound_priority_frames_per_stream, "max_inbound_priority_frames_per_stream", 0,
         UINT32_MAX, &l->max_priority_per_stream},
        {o->max_inbound_window_update_frames_per_data_frame_sent,
         "max_inbound_window_update_frames_per_data_frame_sent", 1, UINT32_MAX,
         &l->max_window_updates_per_data},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const char *f =
            arena_printf(&r->cfg->arena, "http2_protocol_options.%s", numbers[i].field).p;
        int rc = in_range(r, numbers[i].v, f, numbers[i].min, numbers[i].max, numbers[i].out);
        if (rc)
            return rc;
    }
    l->allow_connect = o->allow_connect;
    return read_keepalive(r, o->connection_keepalive);
}

/* ---- where it stands ---- */

static int read_extension(struct config_reader *r, const struct google_Any *any, struct parts *p)
{
    struct envoy_upstreams_HttpProtocolOptions *o;
    struct cluster_http_config *h = &r->cfg->http;
    int rc = config_any(r, any, &envoy_upstreams_HttpProtocolOptions_pb,
                        "typed_extension_protocol_options", &o);
    if (rc)
        return rc;
    if (o->outlier_detection && o->outlier_detection->error_matcher)
        rc = config_read_error_matcher(r, o->outlier_detection->error_matcher);
    if (rc)
        return rc;
    p->common = o->common_http_protocol_options;
    p->upstream = o->upstream_http_protocol_options;
    switch (o->which_upstream_protocol_options) {
    case envoy_upstreams_HttpProtocolOptions_explicit_http_config_tag: {
        const struct envoy_upstreams_HttpProtocolOptions_ExplicitHttpConfig *e =
            o->explicit_http_config;
        p->h1 = e->http_protocol_options;
        p->h2 = e->http2_protocol_options;
        h->protocol = e->http2_protocol_options ? CLUSTER_HTTP2 : CLUSTER_HTTP1;
        if (!e->which_protocol_config)
            return config_invalid(r, "explicit_http_config: names no protocol");
        return 0;
    }
    case envoy_upstreams_HttpProtocolOptions_use_downstream_protocol_config_tag:
        p->h1 = o->use_downstream_protocol_config->http_protocol_options;
        p->h2 = o->use_downstream_protocol_config->http2_protocol_options;
        h->protocol = CLUSTER_HTTP_DOWNSTREAM;
        return 0;
    case envoy_upstreams_HttpProtocolOptions_auto_config_tag:
        p->h1 = o->auto_config->http_protocol_options;
        p->h2 = o->auto_config->http2_protocol_options;
        h->protocol = CLUSTER_HTTP_ALPN;
        return 0;
    default:
        return config_invalid(r, "typed_extension_protocol_options: one of explicit_http_config, "
                                 "use_downstream_protocol_config, auto_config is required");
    }
}

static void read_old_fields(struct config_reader *r, struct parts *p)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    p->common = c->common_http_protocol_options;
    p->upstream = c->upstream_http_protocol_options;
    p->h1 = c->http_protocol_options;
    p->h2 = c->http2_protocol_options;
    r->cfg->http.protocol = c->protocol_selection == envoy_Cluster_USE_DOWNSTREAM_PROTOCOL
                                ? CLUSTER_HTTP_DOWNSTREAM
                            : c->http2_protocol_options ? CLUSTER_HTTP2
                                                        : CLUSTER_HTTP1;
}

static int find_parts(struct config_reader *r, struct parts *p)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    const struct google_Any *http = NULL;
    for (uint32_t i = 0; i < c->typed_extension_protocol_options.n; i++) {
        const struct envoy_Cluster_TypedExtensionProtocolOptionsEntry *e =
            c->typed_extension_protocol_options.v[i];
        if (!sv_eq(e->key, SV("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")))
            return config_refuse(r, "typed_extension_protocol_options['%.*s']", SV_ARG(e->key));
        http = e->value;
    }
    if (!http) {
        read_old_fields(r, p);
        return 0;
    }
    if (c->common_http_protocol_options || c->upstream_http_protocol_options ||
        c->http_protocol_options || c->http2_protocol_options || c->protocol_selection)
        return config_invalid(r, "typed_extension_protocol_options: excludes the older HTTP "
                                 "options of the cluster");
    return read_extension(r, http, p);
}

int config_read_http(struct config_reader *r)
{
    struct cluster_http_config *h = &r->cfg->http;
    struct parts p = {0};
    http_limits_default(&h->h1);
    http_limits_default(&h->h2);
    h->h1.max_head_bytes = 80 * 1024; /* responses */
    h->h1.allow_http10 = true;
    h->h1.high_watermark = h->h2.high_watermark = r->cfg->buffer_limit;
    h->h1.low_watermark = h->h2.low_watermark = r->cfg->buffer_limit / 2;
    h->idle_timeout_ms = 3600000;
    if (r->cfg->pb->max_requests_per_connection)
        h->max_requests_per_connection = r->cfg->pb->max_requests_per_connection->value;
    int rc = find_parts(r, &p);
    if (rc == 0)
        rc = read_common(r, p.common);
    if (rc == 0)
        rc = read_sni(r, p.upstream);
    if (rc == 0)
        rc = read_h1(r, p.h1);
    return rc ? rc : read_h2(r, p.h2);
}
