/* The fixed parts of what sidecars get, written as people read them. */
#include <stdlib.h>
#include "base/mem.h"
#include "mesh/translate/internal.h"

#define TYPE "\"@type\": \"type.googleapis.com/"

static const char hcm_common[] = "normalize_path: true\n"
                                 "server_header_transformation: PASS_THROUGH\n"
                                 "use_remote_address: false\n"
                                 "stream_idle_timeout: 0s\n"
                                 "upgrade_configs: [{upgrade_type: websocket}]\n";

#define ROUTER                                                                                     \
    "- {name: envoy.filters.http.router, typed_config: {" TYPE                                     \
    "envoy.extensions.filters.http.router.v3.Router\"}}\n"

/* Faults and CORS wait for a route that has something for them. */
static const char hcm_outbound[] =
    "stat_prefix: outbound\n"
    "generate_request_id: true\n"
    "http_filters:\n"
    "- {name: envoy.filters.http.fault, disabled: true, typed_config: {" TYPE
    "envoy.extensions.filters.http.fault.v3.HTTPFault\"}}\n"
    "- {name: envoy.filters.http.cors, disabled: true, typed_config: {" TYPE
    "envoy.extensions.filters.http.cors.v3.Cors\"}}\n" ROUTER;

/* The peer's identity goes to the application in x-forwarded-client-cert, as Istio passes it. */
static const char hcm_inbound[] =
    "stat_prefix: inbound\n"
    "forward_client_cert_details: APPEND_FORWARD\n"
    "set_current_client_cert_details: {subject: true, dns: true, uri: true}\n"
    "http_filters:\n" ROUTER;

static const char route_action[] =
    "timeout: 0s\n"
    "max_grpc_timeout: 0s\n"
    /* Only what the backend cannot have acted on is sent again by default. */
    "retry_policy:\n"
    "  retry_on: connect-failure,refused-stream,reset-before-request\n"
    "  num_retries: 2\n"
    "  host_selection_retry_max_attempts: 5\n"
    "  retry_host_predicate:\n"
    "  - {name: envoy.retry_host_predicates.previous_hosts, typed_config: {" TYPE
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate\"}}\n";

static const char retry_priority[] =
    "{name: envoy.retry_priorities.previous_priorities, typed_config: {" TYPE
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig\", "
    "update_frequency: 2}}\n";

/* No panic: endpoints that drain or are not ready are in EDS, and would get work in it. A retry
 * budget: a service that fails under load must not get a multiple of it. Its least is what a small
 * client has under way when an endpoint dies, so that nothing fails then. */
static const char cluster_outbound[] =
    "type: EDS\n"
    "connect_timeout: 10s\n"
    "lb_policy: LEAST_REQUEST\n"
    "eds_cluster_config: {eds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: "
    "V3}}\n"
    "circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: "
    "4294967295, max_requests: 4294967295, track_remaining: true, retry_budget: "
    "{budget_percent: {value: 20}, min_retry_concurrency: 16}}]}\n"
    "common_lb_config: {healthy_panic_threshold: {}}\n";

static const char cluster_inbound[] =
    "type: ORIGINAL_DST\n"
    "connect_timeout: 10s\n"
    "lb_policy: CLUSTER_PROVIDED\n"
    "circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: "
    "4294967295, max_requests: 4294967295, max_retries: 4294967295, track_remaining: true}]}\n";

static const char black_hole[] = "name: BlackHoleCluster\n"
                                 "type: STATIC\n"
                                 "connect_timeout: 10s\n";

static const char virtual_outbound[] = "name: virtualOutbound\n"
                                       "traffic_direction: OUTBOUND\n"
                                       "use_original_dst: true\n";

static const char virtual_inbound[] =
    "name: virtualInbound\n"
    "traffic_direction: INBOUND\n"
    "listener_filters_timeout: 1s\n"
    "continue_on_listener_filters_timeout: true\n"
    "listener_filters:\n"
    "- {name: envoy.filters.listener.original_dst, typed_config: {" TYPE
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst\"}}\n"
    "- {name: envoy.filters.listener.tls_inspector, typed_config: {" TYPE
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector\"}}\n";

static const char listener_http[] = "traffic_direction: OUTBOUND\n"
                                    "bind_to_port: false\n";

/* A port whose protocol nobody said: HTTP when it looks like it. */
static const char listener_tcp[] = "traffic_direction: OUTBOUND\n"
                                   "bind_to_port: false\n"
                                   "listener_filters_timeout: 1s\n"
                                   "continue_on_listener_filters_timeout: true\n";

static const char tls_upstream[] =
    "common_tls_context:\n"
    "  tls_params: {tls_minimum_protocol_version: TLSv1_2, "
    "tls_maximum_protocol_version: TLSv1_3}\n"
    "  tls_certificate_sds_secret_configs:\n"
    "  - {name: default, sds_config: {api_config_source: {api_type: GRPC, transport_api_version: "
    "V3, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, initial_fetch_timeout: 0s, "
    "resource_api_version: V3}}\n"
    "  combined_validation_context:\n"
    "    default_validation_context: {}\n"
    "    validation_context_sds_secret_config: {name: ROOTCA, sds_config: {api_config_source: "
    "{api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: "
    "sds-grpc}}]}, initial_fetch_timeout: 0s, resource_api_version: V3}}\n";

static const char tls_downstream[] =
    "name: envoy.transport_sockets.tls\n"
    "typed_config:\n"
    "  " TYPE "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\"\n"
    "  require_client_certificate: true\n"
    "  common_tls_context:\n"
    "    tls_params: {tls_minimum_protocol_version: TLSv1_2, "
    "tls_maximum_protocol_version: TLSv1_3}\n"
    "    alpn_protocols: [h2, http/1.1]\n"
    "    tls_certificate_sds_secret_configs:\n"
    "    - {name: default, sds_config: {api_config_source: {api_type: GRPC, "
    "transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, "
    "initial_fetch_timeout: 0s, resource_api_version: V3}}\n"
    "    combined_validation_context:\n"
    "      default_validation_context: {}\n"
    "      validation_context_sds_secret_config: {name: ROOTCA, sds_config: {api_config_source: "
    "{api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: "
    "sds-grpc}}]}, initial_fetch_timeout: 0s, resource_api_version: V3}}\n";

static const char raw_buffer[] =
    "name: envoy.transport_sockets.raw_buffer\n"
    "typed_config: {" TYPE "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer\"}\n";

#define OPTIONS TYPE "envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"\n"
static const char http1_options[] = OPTIONS "explicit_http_config: {http_protocol_options: {}}\n";
static const char http2_options[] = OPTIONS "explicit_http_config: {http2_protocol_options: {}}\n";
static const char downstream_options[] = OPTIONS
    "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}\n";

static const char istio_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% "
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static int parse(struct translate *t, const char *name, const struct pb_message *m, sv text,
                 const void *out, struct error *err)
{
    void *msg;
    int rc = pb_from_text(m, text, name, &t->arena, NULL, &msg, err);
    if (rc)
        return rc;
    *(void **)out = msg;
    return 0;
}

static int parse_access_log(struct translate *t, const struct translate_options *o,
                            struct error *err)
{
    struct build b = {.t = t, .a = &t->arena};
    struct envoy_SubstitutionFormatString *f;
    struct envoy_FileAccessLog *file;
    struct google_Struct *json = NULL;
    int rc;

    if (!o->access_log_path.n)
        return 0;
    f = MAKE0(&b, envoy_SubstitutionFormatString);
    if (o->access_log_json.n) {
        rc = parse(t, "access log JSON", &google_Struct_pb, o->access_log_json, &json, err);
        if (rc)
            return rc;
        f->which_format = envoy_SubstitutionFormatString_json_format_tag;
        f->json_format = json;
    } else {
        f->which_format = envoy_SubstitutionFormatString_text_format_source_tag;
        f->text_format_source =
            MAKE(&b, envoy_DataSource, .which_specifier = envoy_DataSource_inline_string_tag,
                 .inline_string = o->access_log_format.n ? arena_sv(&t->arena, o->access_log_format)
                                                         : sv_of(istio_format));
    }
    file = MAKE(&b, envoy_FileAccessLog, .path = arena_sv(&t->arena, o->access_log_path),
                .which_access_log_format = envoy_FileAccessLog_log_format_tag, .log_format = f);
    t->access_log = MAKE(&b, envoy_AccessLog, .name = SV("envoy.access_loggers.file"),
                         .which_config_type = envoy_AccessLog_typed_config_tag,
                         .typed_config = pb_any_pack(&envoy_FileAccessLog_pb, file, &t->arena));
    return 0;
}

static int parse_hcm(struct translate *t, const char *name, const char *own,
                     const struct envoy_HttpConnectionManager **out, struct error *err)
{
    struct build b = {.t = t, .a = &t->arena};
    sv text = arena_printf(&t->arena, "%s%s", own, hcm_common);
    struct envoy_HttpConnectionManager *h = NULL;
    int rc = parse(t, name, &envoy_HttpConnectionManager_pb, text, &h, err);

    if (rc)
        return rc;
    if (t->access_log) {
        h->access_log.v = build_one(&b, t->access_log);
        h->access_log.n = 1;
    }
    *out = h;
    return 0;
}

static int parse_all(struct translate *t, const struct translate_options *o, struct error *err)
{
    const struct {
        const char *name, *text;
        const struct pb_message *m;
        const void *out;
    } list[] = {
        {"outbound cluster", cluster_outbound, &envoy_Cluster_pb, &t->cluster_outbound},
        {"inbound cluster", cluster_inbound, &envoy_Cluster_pb, &t->cluster_inbound},
        {"black hole", black_hole, &envoy_Cluster_pb, &t->black_hole},
        {"virtualOutbound", virtual_outbound, &envoy_Listener_pb, &t->virtual_outbound},
        {"virtualInbound", virtual_inbound, &envoy_Listener_pb, &t->virtual_inbound},
        {"HTTP listener", listener_http, &envoy_Listener_pb, &t->listener_http},
        {"TCP listener", listener_tcp, &envoy_Listener_pb, &t->listener_tcp},
        {"upstream TLS", tls_upstream, &envoy_UpstreamTlsContext_pb, &t->tls_upstream},
        {"downstream TLS", tls_downstream, &envoy_TransportSocket_pb, &t->tls_downstream},
        {"raw buffer", raw_buffer, &envoy_TransportSocket_pb, &t->raw_buffer},
        {"route", route_action, &envoy_RouteAction_pb, &t->route_action},
        {"retry priority", retry_priority, &envoy_RetryPolicy_RetryPriority_pb, &t->retry_priority},
        {"HTTP/1 options", http1_options, &google_Any_pb, &t->http1_options},
        {"HTTP/2 options", http2_options, &google_Any_pb, &t->http2_options},
        {"downstream options", downstream_options, &google_Any_pb, &t->downstream_options},
    };
    int rc = parse_access_log(t, o, err);

    for (size_t i = 0; i < sizeof list / sizeof *list && !rc; i++)
        rc = parse(t, list[i].name, list[i].m, sv_of(list[i].text), list[i].out, err);
    rc = rc ? rc : parse_hcm(t, "outbound HTTP", hcm_outbound, &t->hcm_outbound, err);
    return rc ? rc : parse_hcm(t, "inbound HTTP", hcm_inbound, &t->hcm_inbound, err);
}

struct translate *translate_new(const struct translate_options *o, struct error *err)
{
    struct translate *t = mem_new(struct translate);

    arena_init_malloc(&t->arena);
    t->mtls_strict = o->mtls_strict;
    if (tracing_init(t, o, err) || parse_all(t, o, err)) {
        translate_free(t);
        return NULL;
    }
    return t;
}

void translate_free(struct translate *t)
{
    if (!t)
        return;
    arena_free(&t->arena);
    free(t);
}
