/* envoy HttpConnectionManager -> struct hcm_config. What is not supported is refused by the field's
 * name; defaults are Envoy's. */
#include "proxy/hcm_config.h"

#include "api/envoy.pb.h"
#include "base/log.h"
#include "filters/registry.h"
#include "proxy/config_files.h"
#include "proxy/hcm_reply.h"
#include "proxy/hcm_tracing.h"
#include "proxy/listener_conf.h"
#include "proxy/rds.h"
#include "proxy/server.h"
#include "telemetry/access_log.h"
#include "telemetry/access_log_file.h"

LOG_COMPONENT(config);

typedef struct envoy_HttpConnectionManager Hcm;

struct build {
    const struct filter_ctx *x;
    const Hcm *m;
    struct hcm_config *c;
    struct error *err;
};

static const char *at(const struct build *b, const char *field)
{
    return filter_path(b->x, "%s", field);
}

static int bad(const struct build *b, const char *field, const char *why)
{
    return error_set(b->err, E_UNSUPPORTED, "%s.%s: %s", b->x->path, field, why);
}

static int ms(const struct build *b, const struct google_Duration *d, const char *field,
              uint64_t dflt, uint64_t *out)
{
    *out = dflt;
    return d ? duration_ms(d, at(b, field), out, b->err) : 0;
}

static bool flag(const struct google_BoolValue *v, bool dflt)
{
    return v ? v->value : dflt;
}

/* ---- fields that are refused ---- */

static int refuse_unsupported(const struct build *b)
{
    const Hcm *m = b->m;
    if (m->codec_type == envoy_HttpConnectionManager_HTTP3)
        return bad(b, "codec_type", "HTTP3 is not supported");
    if (m->represent_ipv4_remote_address_as_ipv4_mapped_ipv6)
        return bad(b, "represent_ipv4_remote_address_as_ipv4_mapped_ipv6", "is not supported");
    return 0;
}

/* ---- times ---- */

static int build_times(const struct build *b)
{
    const Hcm *m = b->m;
    struct hcm_config *c = b->c;
    const struct envoy_HttpProtocolOptions *o = m->common_http_protocol_options;
    const struct envoy_HttpConnectionManager_HcmAccessLogOptions *l = m->access_log_options;
    int rc = 0;
#define MS(src, field, dflt, dst)                                                                  \
    if (rc == 0)                                                                                   \
    rc = ms(b, (src), (field), (dflt), &c->dst)
    MS(m->stream_idle_timeout, "stream_idle_timeout", 300000, stream_idle_ms);
    MS(m->request_timeout, "request_timeout", 0, request_ms);
    MS(m->request_headers_timeout, "request_headers_timeout", 0, request_headers_ms);
    MS(m->drain_timeout, "drain_timeout", 5000, drain_ms);
    MS(m->delayed_close_timeout, "delayed_close_timeout", 1000, delayed_close_ms);
    MS(o ? o->idle_timeout : NULL, "common_http_protocol_options.idle_timeout", 3600000, idle_ms);
    MS(o ? o->max_connection_duration : NULL,
       "common_http_protocol_options.max_connection_duration", 0, max_connection_ms);
    MS(o ? o->max_stream_duration : NULL, "common_http_protocol_options.max_stream_duration", 0,
       max_stream_ms);
    MS(l ? l->access_log_flush_interval : NULL, "access_log_options.access_log_flush_interval", 0,
       log_flush_ms);
#undef MS
    if (l) {
        c->log_on_request = l->flush_access_log_on_new_request;
        c->log_on_tunnel = l->flush_log_on_tunnel_successfully_established;
    }
    return rc;
}

/* ---- protocols ---- */

static int build_http1(const struct build *b)
{
    const struct envoy_Http1ProtocolOptions *o = b->m->http_protocol_options;
    struct hcm_config *c = b->c;
    struct http_limits *l = &c->limits;
    l->allow_absolute_url = true;
    l->allow_http10 = false;
    c->stream_error_on_bad = flag(b->m->stream_error_on_invalid_http_message, false);
    if (!o)
        return 0;
    l->allow_absolute_url = flag(o->allow_absolute_url, true);
    l->allow_http10 = o->accept_http_10;
    l->enable_trailers = o->enable_trailers;
    l->allow_chunked_length = o->allow_chunked_length;
    c->default_host = o->default_host_for_http_10;
    c->stream_error_on_bad =
        flag(o->override_stream_error_on_invalid_http_message, c->stream_error_on_bad);
    if (o->send_fully_qualified_url)
        return bad(b, "http_protocol_options.send_fully_qualified_url", "is for clusters only");
    if (o->header_key_format &&
        o->header_key_format->which_header_format ==
            envoy_Http1ProtocolOptions_HeaderKeyFormat_proper_case_words_tag)
        l->spelling = HTTP_SPELLING_PROPER;
    else if (o->header_key_format && o->header_key_format->stateful_formatter) {
        const struct envoy_TypedExtensionConfig *e = o->header_key_format->stateful_formatter;
        if (!e->typed_config ||
            !sv_eq(pb_any_type(e->typed_config->type_url),
                   SV("envoy.extensions.http.header_formatters.preserve_case.v3."
                      "PreserveCaseFormatterConfig")))
            return bad(b, "http_protocol_options.header_key_format.stateful_formatter",
                       "only preserve_case is supported");
        l->spelling = HTTP_SPELLING_KEPT;
    }
    struct string_match *v =
        arena_array(b->x->arena, struct string_match, o->ignore_http_11_upgrade.n);
    c->ignored_upgrades = v;
    for (uint32_t i = 0; i < o->ignore_http_11_upgrade.n; i++) {
        int rc = string_match_build(o->ignore_http_11_upgrade.v[i],
                                    at(b, "http_protocol_options.ignore_http_11_upgrade"),
                                    b->x->arena, &v[c->n_ignored_upgrades++], b->err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int u32(const struct build *b, const struct google_UInt32Value *v, const char *field,
               uint32_t lo, uint32_t hi, uint32_t *dst)
{
    if (!v)
        return 0;
    if (v->value < lo || v->value > hi)
        return error_set(b->err, E_INVALID, "%s.%s: %u is not in %u..%u", b->x->path, field,
                         v->value, lo, hi);
    *dst = v->value;
    return 0;
}

static int build_keepalive(const struct build *b, const struct envoy_KeepaliveSettings *k)
{
    struct hcm_config *c = b->c;
    if (!k)
        return 0;
    int rc = ms(b, k->interval, "http2_protocol_options.connection_keepalive.interval", 0,
                &c->ping_interval_ms);
    if (rc == 0)
        rc = ms(b, k->timeout, "http2_protocol_options.connection_keepalive.timeout", 0,
                &c->ping_timeout_ms);
    if (rc == 0)
        rc = ms(b, k->connection_idle_interval,
                "http2_protocol_options.connection_keepalive.connection_idle_interval", 0,
                &c->ping_idle_ms);
    if (rc < 0)
        return rc;
    if (!c->ping_timeout_ms)
        return error_set(b->err, E_INVALID,
                         "%s.http2_protocol_options.connection_keepalive.timeout: is required",
                         b->x->path);
    c->ping_jitter_percent = k->interval_jitter ? (uint32_t)k->interval_jitter->value : 15;
    return 0;
}

static int build_http2(const struct build *b)
{
    const struct envoy_Http2ProtocolOptions *o = b->m->http2_protocol_options;
    struct http_limits *l = &b->c->limits;
    if (!o)
        return 0;
#define P "http2_protocol_options."
    int rc = u32(b, o->hpack_table_size, P "hpack_table_size", 0, UINT32_MAX, &l->hpack_table_size);
    if (rc == 0)
        rc = u32(b, o->max_concurrent_streams, P "max_concurrent_streams", 1, INT32_MAX,
                 &l->max_concurrent_streams);
    if (rc == 0)
        rc = u32(b, o->initial_stream_window_size, P "initial_stream_window_size", 65535, INT32_MAX,
                 &l->initial_stream_window);
    if (rc == 0)
        rc = u32(b, o->initial_connection_window_size, P "initial_connection_window_size", 65535,
                 INT32_MAX, &l->initial_conn_window);
    if (rc == 0)
        rc = u32(b, o->max_outbound_frames, P "max_outbound_frames", 1, UINT32_MAX,
                 &l->max_outbound_frames);
    if (rc == 0)
        rc = u32(b, o->max_outbound_control_frames, P "max_outbound_control_frames", 1, UINT32_MAX,
                 &l->max_outbound_control_frames);
    if (rc == 0)
        rc = u32(b, o->max_consecutive_inbound_frames_with_empty_payload,
                 P "max_consecutive_inbound_frames_with_empty_payload", 0, UINT32_MAX,
                 &l->max_empty_frames);
    if (rc == 0)
        rc = u32(b, o->max_inbound_priority_frames_per_stream,
                 P "max_inbound_priority_frames_per_stream", 0, UINT32_MAX,
                 &l->max_priority_per_stream);
    if (rc == 0)
        rc = u32(b, o->max_inbound_window_update_frames_per_data_frame_sent,
                 P "max_inbound_window_update_frames_per_data_frame_sent", 1, UINT32_MAX,
                 &l->max_window_updates_per_data);
    if (rc < 0)
        return rc;
    if (o->custom_settings_parameters.n)
        return bad(b, P "custom_settings_parameters", "is not supported");
    l->allow_connect = o->allow_connect;
    return build_keepalive(b, o->connection_keepalive);
#undef P
}

static int build_limits(const struct build *b)
{
    struct http_limits *l = &b->c->limits;
    const struct envoy_HttpProtocolOptions *o = b->m->common_http_protocol_options;
    uint32_t kb = 60;
    http_limits_default(l);
    const struct listener_conf *listener = b->x->listener;
    if (listener && listener->buffer_limit) { /* how much of an answer may wait for the client */
        l->high_watermark = listener->buffer_limit;
        l->low_watermark = listener->buffer_limit / 2;
    }
    int rc = u32(b, b->m->max_request_headers_kb, "max_request_headers_kb", 1, 8192, &kb);
    if (rc < 0)
        return rc;
    l->max_head_bytes = kb * 1024;
    if (l->max_uri_bytes > l->max_head_bytes)
        l->max_uri_bytes = l->max_head_bytes;
    l->allow_underscores = true;
    if (o) {
        rc = u32(b, o->max_headers_count, "common_http_protocol_options.max_headers_count", 1,
                 65535, &l->max_headers);
        if (rc == 0)
            rc = u32(b, o->max_requests_per_connection,
                     "common_http_protocol_options.max_requests_per_connection", 0, UINT32_MAX,
                     &b->c->max_requests);
        if (rc < 0)
            return rc;
        l->allow_underscores =
            o->headers_with_underscores_action == envoy_HttpProtocolOptions_ALLOW;
        l->reject_underscores =
            o->headers_with_underscores_action == envoy_HttpProtocolOptions_REJECT_REQUEST;
    }
    switch (b->m->codec_type) {
    case envoy_HttpConnectionManager_HTTP1:
        b->c->codec = HCM_CODEC_HTTP1;
        break;
    case envoy_HttpConnectionManager_HTTP2:
        b->c->codec = HCM_CODEC_HTTP2;
        break;
    default:
        b->c->codec = HCM_CODEC_AUTO;
    }
    rc = build_http1(b);
    return rc < 0 ? rc : build_http2(b);
}

/* ---- addresses, fields, paths ---- */

static int build_internal(const struct build *b)
{
    const struct envoy_HttpConnectionManager_InternalAddressConfig *i =
        b->m->internal_address_config;
    struct hcm_config *c = b->c;
    if (!i)
        return 0; /* nobody is trusted for having a private address */
    c->internal_unix = i->unix_sockets;
    struct cidr *v = arena_array(b->x->arena, struct cidr, i->cidr_ranges.n);
    for (uint32_t k = 0; k < i->cidr_ranges.n; k++) {
        const struct envoy_CidrRange *r = i->cidr_ranges.v[k];
        if (cidr_make(&v[k], r->address_prefix, r->prefix_len ? r->prefix_len->value : 0) < 0)
            return error_set(b->err, E_INVALID,
                             "%s.internal_address_config.cidr_ranges[%u]: '%.*s' is no range",
                             b->x->path, k, SV_ARG(r->address_prefix));
    }
    c->internal = v;
    c->n_internal = i->cidr_ranges.n;
    return 0;
}

static int build_extensions(const struct build *b)
{
    const Hcm *m = b->m;
    struct hcm_extensions *e = &b->c->extensions;
    if (m->original_ip_detection_extensions.n && (b->c->use_remote_address || b->c->trusted_hops))
        return error_set(b->err, E_INVALID,
                         "%s: original_ip_detection_extensions exclude use_remote_address and "
                         "xff_num_trusted_hops",
                         b->x->path);
    int rc = hcm_early_build(b->x, m->early_header_mutation_extensions.v,
                             m->early_header_mutation_extensions.n, e, b->err);
    return rc < 0 ? rc
                  : hcm_detectors_build(b->x, m->original_ip_detection_extensions.v,
                                        m->original_ip_detection_extensions.n, e, b->err);
}

static unsigned xfcc_fields(const struct envoy_HttpConnectionManager_SetCurrentClientCertDetails *d)
{
    if (!d)
        return 0;
    return (flag(d->subject, false) ? HCM_XFCC_SUBJECT : 0) | (d->cert ? HCM_XFCC_CERT : 0) |
           (d->chain ? HCM_XFCC_CHAIN : 0) | (d->dns ? HCM_XFCC_DNS : 0) |
           (d->uri ? HCM_XFCC_URI : 0);
}

static int build_request_id(const struct build *b)
{
    const struct envoy_RequestIDExtension *e = b->m->request_id_extension;
    struct hcm_config *c = b->c;
    c->pack_trace_reason = c->use_request_id_for_sampling = true;
    if (!e || !e->typed_config)
        return 0;
    const struct envoy_UuidRequestIdConfig *u;
    struct pb_opts o = b->x->pb ? *b->x->pb : (struct pb_opts){0};
    o.path = at(b, "request_id_extension.typed_config");
    int rc = pb_any_unpack(e->typed_config, &envoy_UuidRequestIdConfig_pb, b->x->scratch, &o,
                           (void **)&u, b->err);
    if (rc < 0)
        return rc;
    c->pack_trace_reason = flag(u->pack_trace_reason, true);
    c->use_request_id_for_sampling = flag(u->use_request_id_for_trace_sampling, true);
    return 0;
}

static int build_fields(const struct build *b)
{
    const Hcm *m = b->m;
    struct hcm_config *c = b->c;
    static const enum path_escaped_slashes slashes[] = {PATH_SLASHES_KEEP, PATH_SLASHES_KEEP,
                                                        PATH_SLASHES_REJECT, PATH_SLASHES_REDIRECT,
                                                        PATH_SLASHES_FORWARD};
    c->use_remote_address = flag(m->use_remote_address, false);
    c->trusted_hops = m->xff_num_trusted_hops;
    c->skip_xff_append = m->skip_xff_append;
    c->append_forwarded_port = m->append_x_forwarded_port;
    c->via = m->via;
    c->server_name = m->server_name.n ? m->server_name : SV("envoy");
    c->server_header =
        m->server_header_transformation == envoy_HttpConnectionManager_APPEND_IF_ABSENT
            ? HCM_SERVER_IF_ABSENT
        : m->server_header_transformation == envoy_HttpConnectionManager_PASS_THROUGH
            ? HCM_SERVER_PASS
            : HCM_SERVER_OVERWRITE;
    c->generate_request_id = flag(m->generate_request_id, true);
    c->preserve_request_id = m->preserve_external_request_id;
    c->request_id_in_response = m->always_set_request_id_in_response;
    c->xfcc = (enum hcm_xfcc)m->forward_client_cert_details;
    c->xfcc_set = xfcc_fields(m->set_current_client_cert_details);
    c->scheme_of_upstream =
        m->scheme_header_transformation && m->scheme_header_transformation->match_upstream;
    if (m->scheme_header_transformation && m->scheme_header_transformation->which_transformation) {
        c->scheme_overwrite = m->scheme_header_transformation->scheme_to_overwrite;
        if (!sv_eq(c->scheme_overwrite, SV("http")) && !sv_eq(c->scheme_overwrite, SV("https")))
            return error_set(b->err, E_INVALID,
                             "%s.scheme_header_transformation.scheme_to_overwrite: '%.*s' is "
                             "neither http nor https",
                             b->x->path, SV_ARG(c->scheme_overwrite));
    }
    if (flag(m->add_user_agent, false) && b->x->node)
        c->user_agent = b->x->node->cluster;
    c->path.normalize = flag(m->normalize_path, false);
    c->path.merge_slashes = m->merge_slashes;
    if (m->path_with_escaped_slashes_action >= 0 && m->path_with_escaped_slashes_action <= 4)
        c->path.escaped = slashes[m->path_with_escaped_slashes_action];
    c->strip_matching_port = m->strip_matching_host_port;
    c->strip_port = m->strip_any_host_port;
    c->strip_dot = m->strip_trailing_host_dot;
    c->proxy_100_continue = m->proxy_100_continue;
    if (c->strip_matching_port && m->which_strip_port_mode)
        return error_set(b->err, E_INVALID,
                         "%s: strip_matching_host_port and strip_any_host_port exclude each other",
                         b->x->path);
    int rc = build_request_id(b);
    if (rc == 0)
        rc = build_extensions(b);
    return rc < 0 ? rc : build_internal(b);
}

/* ---- filters ---- */

static int build_filters(const struct build *b, const char *field,
                         const struct envoy_HttpFilter *const *v, uint32_t n,
                         const struct http_filter_conf **out, uint32_t *n_out)
{
    struct arena *a = b->x->arena;
    struct http_filter_conf *f = arena_array(a, struct http_filter_conf, n ? n : 1);
    uint32_t made = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct filter_ctx *x = filter_ctx_at(b->x, "%s[%u]", field, i);
        x->stat_prefix = b->m->stat_prefix;
        int rc = registry_http(x, v[i]->name, v[i]->typed_config, &f[made], b->err);
        if (rc == E_UNSUPPORTED && v[i]->is_optional) {
            log_warn(&log_config, "optional filter left out: %s", b->err->msg);
            *b->err = (struct error){0};
            continue;
        }
        if (rc < 0)
            return rc;
        bool last = i + 1 == n;
        if (f[made].terminal != last)
            return error_set(b->err, E_INVALID,
                             last ? "%s: '%.*s' (%s) is the last filter but not a terminal one"
                                  : "%s: '%.*s' (%s) is a terminal filter and must be the last one",
                             x->path, SV_ARG(v[i]->name), f[made].kind);
        f[made++].disabled = v[i]->disabled;
    }
    if (!made)
        return error_set(b->err, E_INVALID,
                         "%s.%s: must not be empty: a terminal filter (router) "
                         "is required",
                         b->x->path, field);
    *out = f;
    *n_out = made;
    return 0;
}

static int build_upgrades(const struct build *b)
{
    const Hcm *m = b->m;
    struct hcm_upgrade *u = arena_array(b->x->arena, struct hcm_upgrade, m->upgrade_configs.n);
    b->c->upgrades = u;
    for (uint32_t i = 0; i < m->upgrade_configs.n; i++, u++) {
        const struct envoy_HttpConnectionManager_UpgradeConfig *cfg = m->upgrade_configs.v[i];
        for (uint32_t k = 0; k < i; k++)
            if (sv_eq_icase(m->upgrade_configs.v[k]->upgrade_type, cfg->upgrade_type))
                return error_set(b->err, E_INVALID,
                                 "%s.upgrade_configs[%u]: duplicate upgrade '%.*s'", b->x->path, i,
                                 SV_ARG(cfg->upgrade_type));
        u->type = cfg->upgrade_type;
        u->enabled = flag(cfg->enabled, true);
        b->c->n_upgrades++;
        if (!cfg->filters.n)
            continue;
        sv field = arena_printf(b->x->arena, "upgrade_configs[%u].filters", i);
        int rc =
            build_filters(b, field.p, cfg->filters.v, cfg->filters.n, &u->filters, &u->n_filters);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- routes ---- */

static void unref_provider(void *p)
{
    rds_provider_unref(p);
}

static int build_routes(const struct build *b)
{
    const Hcm *m = b->m;
    struct proxy_server *srv = b->x->proxy;
    struct rds_manager *rm = proxy_server_rds(srv);
    int rc;
    switch (m->which_route_specifier) {
    case envoy_HttpConnectionManager_route_config_tag: {
        sv packed = pb_encode_arena(&envoy_RouteConfiguration_pb, m->route_config, b->x->scratch);
        rc = rds_static(rm, packed, at(b, "route_config"), &b->c->routes, b->err);
        break;
    }
    case envoy_HttpConnectionManager_rds_tag: {
        const struct envoy_ConfigSource *src = m->rds->config_source;
        if (!src || (src->which_config_source_specifier != envoy_ConfigSource_ads_tag &&
                     !config_files_is(src)))
            return bad(b, "rds.config_source", "only ads and path_config_source are supported");
        if (!m->rds->route_config_name.n)
            return error_set(b->err, E_INVALID, "%s.rds.route_config_name: is required",
                             b->x->path);
        struct listener_conf *l = b->x->listener;
        uint64_t wait = 15000;
        rc = ms(b, src->initial_fetch_timeout, "rds.config_source.initial_fetch_timeout", 15000,
                &wait);
        if (rc == 0 && l && (wait == 0 || (l->warm_ms && wait > l->warm_ms)))
            l->warm_ms = wait;
        if (rc == 0)
            rc = rds_dynamic(rm, m->rds->route_config_name, m->stat_prefix, src, &b->c->routes,
                             b->err);
        if (rc < 0)
            error_prefix(b->err, "%s: ", b->x->path);
        break;
    }
    default:
        return error_set(b->err, E_INVALID, "%s: one of route_config, rds is required", b->x->path);
    }
    if (rc < 0)
        return rc;
    arena_on_free(b->x->arena, unref_provider, b->c->routes);
    if (b->x->listener)
        listener_conf_wait_for(b->x->listener, b->c->routes);
    return 0;
}

/* ---- counters ---- */

static void fini_group(void *g)
{
    stat_group_fini(g);
}

static struct stat_group *new_group(struct arena *a, const struct stat_group_def *def,
                                    struct stats_scope *sc)
{
    struct stat_group *g = arena_new(a, struct stat_group);
    stat_group_init(g, def, sc);
    arena_on_free(a, fini_group, g);
    stats_scope_unref(sc);
    return g;
}

static void build_stats(const struct build *b)
{
    struct arena *a = b->x->arena;
    struct hcm_config *c = b->c;
    c->stats = new_group(a, &hcm_stats_def, stats_scope_http(b->x->stats, c->stat_prefix));
    if (!b->x->scope)
        return;
    sv tagged = arena_printf(a, "%.*s.", SV_ARG(c->stat_prefix));
    struct stat_label label = {SV("envoy.http_conn_manager_prefix"), c->stat_prefix};
    c->listener_stats = new_group(a, &hcm_listener_stats_def,
                                  stats_scope_sub(b->x->scope, SV("http."), tagged, &label, 1));
}

/* ---- all of it ---- */

static int build(const struct build *b)
{
    const Hcm *m = b->m;
    struct hcm_config *c = b->c;
    if (!m->stat_prefix.n)
        return error_set(b->err, E_INVALID, "%s.stat_prefix: must not be empty", b->x->path);
    c->stat_prefix = m->stat_prefix;
    int rc = refuse_unsupported(b);
    if (rc == 0)
        rc = build_times(b);
    if (rc == 0)
        rc = build_limits(b);
    if (rc == 0)
        rc = build_fields(b);
    if (rc == 0 && m->local_reply_config)
        rc = hcm_reply_build(m->local_reply_config, at(b, "local_reply_config"), b->x->runtime,
                             b->x->arena, &c->replies, b->err);
    if (rc == 0)
        rc = build_filters(b, "http_filters", m->http_filters.v, m->http_filters.n, &c->filters,
                           &c->n_filters);
    if (rc == 0)
        rc = build_upgrades(b);
    if (rc == 0)
        rc = filter_access_logs(b->x, m->access_log.v, m->access_log.n, &c->logs, b->err);
    if (rc == 0 && m->tracing)
        rc = hcm_tracing_build(b->x, m->tracing, c->stat_prefix, &c->tracing, b->err);
    if (rc == 0)
        rc = build_routes(b);
    if (rc == 0)
        build_stats(b);
    return rc;
}

int hcm_config_parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    struct build b = {.x = x, .err = err, .c = arena_new(x->arena, struct hcm_config)};
    int rc = filter_decode(x, &envoy_HttpConnectionManager_pb, packed, (const void **)&b.m, err);
    if (rc == 0)
        rc = build(&b);
    if (rc == 0)
        *config = b.c;
    return rc;
}
