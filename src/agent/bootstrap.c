#include "agent/bootstrap.h"

#include <string.h>

#define TYPE "\"@type\":\"type.googleapis.com/"
#define TLS  "envoy.extensions.transport_sockets.tls.v3."

void bootstrap_init(struct bootstrap *b)
{
    memset(b, 0, sizeof *b);
    b->domain_suffix = b->trust_domain = SV("cluster.local");
    b->admin_port = 15000;
    b->outbound_port = 15001;
    b->inbound_port = 15006;
    b->merged_stats_port = 15020;
    b->health_port = 15021;
    b->stats_port = 15090;
}

bool bootstrap_own_port(uint16_t port)
{
    struct bootstrap b;
    bootstrap_init(&b);
    const uint16_t own[] = {b.admin_port,  b.outbound_port, b.inbound_port,    b.merged_stats_port,
                            b.health_port, b.stats_port,    BOOTSTRAP_DNS_PORT};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] == port)
            return true;
    return false;
}

static void text(struct strbuf *out, const char *key, sv value)
{
    strbuf_addf(out, "\"%s\":", key);
    strbuf_add_json(out, value);
}

static void node(const struct bootstrap *b, struct strbuf *out)
{
    strbuf_addf(out, "\"node\":{\"id\":\"sidecar~%.*s~%.*s.%.*s~%.*s.svc.%.*s\",",
                SV_ARG(b->address), SV_ARG(b->name), SV_ARG(b->ns), SV_ARG(b->ns),
                SV_ARG(b->domain_suffix));
    /* Istio's name of the service in spans. */
    struct strbuf cluster;
    sv app = b->name;
    for (uint32_t i = 0; i < b->n_labels; i++)
        if (sv_eq(b->labels[i].key, SV("app")) && b->labels[i].value.n)
            app = b->labels[i].value;
    strbuf_init(&cluster, 65536);
    strbuf_addf(&cluster, "%.*s.%.*s", SV_ARG(app), SV_ARG(b->ns));
    text(out, "cluster", strbuf_sv(&cluster));
    strbuf_fini(&cluster);
    strbuf_add_c(out, ",\"metadata\":{");
    text(out, "NAME", b->name);
    strbuf_add_ch(out, ',');
    text(out, "WORKLOAD_NAME", b->name);
    strbuf_add_ch(out, ',');
    text(out, "NAMESPACE", b->ns);
    strbuf_add_ch(out, ',');
    text(out, "SERVICE_ACCOUNT", b->service_account);
    strbuf_add_ch(out, ',');
    text(out, "CLUSTER_ID", b->mesh);
    strbuf_add_ch(out, ',');
    text(out, "INSTANCE_IPS", b->address);
    strbuf_addf(out,
                ",\"ISTIO_VERSION\":\"1.27.0\",\"WEFT_VERSION\":\"%s\","
                "\"INTERCEPTION_MODE\":\"REDIRECT\",\"ENVOY_OUTBOUND_PORT\":\"%u\","
                "\"ENVOY_INBOUND_PORT\":\"%u\",\"DNS_CAPTURE\":\"%s\",\"LABELS\":{",
                WEFT_VERSION, b->outbound_port, b->inbound_port, b->dns_capture ? "true" : "false");
    for (uint32_t i = 0; i < b->n_labels; i++) {
        if (i)
            strbuf_add_ch(out, ',');
        strbuf_add_json(out, b->labels[i].key);
        strbuf_add_ch(out, ':');
        strbuf_add_json(out, b->labels[i].value);
    }
    strbuf_add_c(out, "}}}");
}

static void socket_address(struct strbuf *out, sv host, uint64_t port)
{
    strbuf_add_c(out, "{\"socket_address\":{\"address\":");
    strbuf_add_json(out, host);
    strbuf_addf(out, ",\"port_value\":%lu}}", port);
}

static void endpoint(struct strbuf *out, const char *cluster, sv host, uint64_t port)
{
    strbuf_addf(out,
                "\"load_assignment\":{\"cluster_name\":\"%s\",\"endpoints\":[{\"lb_endpoints\":"
                "[{\"endpoint\":{\"address\":",
                cluster);
    socket_address(out, host, port);
    strbuf_add_c(out, "}}]}]}");
}

/* "10.97.0.1:15012" */
static void split(sv address, sv *host, uint64_t *port)
{
    ptrdiff_t colon = sv_rfind(address, ':');

    *host = colon < 0 ? address : sv_first(address, (size_t)colon);
    *port = 0;
    if (colon >= 0 && sv_to_u64(sv_from(address, (size_t)colon + 1), port))
        *port = 0;
}

static void xds_cluster(const struct bootstrap *b, struct strbuf *out)
{
    sv host;
    uint64_t port;

    split(b->discovery_address, &host, &port);
    strbuf_add_c(out, "{\"name\":\"xds-grpc\",\"type\":\"STATIC\",\"connect_timeout\":\"1s\",");
    endpoint(out, "xds-grpc", host, port);
    strbuf_add_c(
        out,
        ",\"typed_extension_protocol_options\":{\"envoy.extensions.upstreams.http.v3."
        "HttpProtocolOptions\":{" TYPE
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions\",\"explicit_http_config\":"
        "{\"http2_protocol_options\":{}}}},"
        "\"upstream_connection_options\":{\"tcp_keepalive\":{\"keepalive_time\":300}},"
        "\"transport_socket\":{\"name\":\"envoy.transport_sockets.tls\",\"typed_config\":{" TYPE TLS
        "UpstreamTlsContext\",\"sni\":\"istiod.istio-system.svc\","
        "\"common_tls_context\":{\"alpn_protocols\":[\"h2\"],"
        "\"tls_certificate_sds_secret_configs\":[{\"name\":\"default\",\"sds_config\":"
        "{\"api_config_source\":{\"api_type\":\"GRPC\",\"transport_api_version\":\"V3\","
        "\"grpc_services\":[{\"envoy_grpc\":{\"cluster_name\":\"sds-grpc\"}}]},"
        "\"initial_fetch_timeout\":\"0s\",\"resource_api_version\":\"V3\"}}],"
        "\"validation_context\":{\"trusted_ca\":{");
    text(out, "inline_string", b->roots);
    strbuf_add_c(out, "},\"match_typed_subject_alt_names\":[{\"san_type\":\"DNS\",\"matcher\":"
                      "{\"exact\":\"istiod.istio-system.svc\"}}]}}}}}");
}

static void pipe_cluster(struct strbuf *out, const char *name, sv path)
{
    strbuf_addf(out, "{\"name\":\"%s\",\"type\":\"STATIC\",\"connect_timeout\":\"1s\",", name);
    strbuf_add_c(
        out, "\"typed_extension_protocol_options\":{\"envoy.extensions.upstreams.http.v3."
             "HttpProtocolOptions\":{" TYPE
             "envoy.extensions.upstreams.http.v3.HttpProtocolOptions\",\"explicit_http_config\":"
             "{\"http2_protocol_options\":{}}}},");
    strbuf_addf(out,
                "\"load_assignment\":{\"cluster_name\":\"%s\",\"endpoints\":[{\"lb_endpoints\":"
                "[{\"endpoint\":{\"address\":{\"pipe\":{",
                name);
    text(out, "path", path);
    strbuf_add_c(out, "}}}}]}]}}");
}

/* A port on which one page of the admin is seen from outside, and nothing else of it. */
static void page_listener(struct strbuf *out, const char *name, uint16_t port, const char *path,
                          const char *page)
{
    strbuf_addf(out, "{\"name\":\"%s\",\"address\":", name);
    socket_address(out, SV("0.0.0.0"), port);
    strbuf_addf(
        out,
        ",\"filter_chains\":[{\"filters\":[{\"name\":\"envoy.filters.network."
        "http_connection_manager\",\"typed_config\":{" TYPE
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\","
        "\"stat_prefix\":\"agent\",\"route_config\":{\"virtual_hosts\":[{\"name\":\"agent\","
        "\"domains\":[\"*\"],\"routes\":[{\"match\":{\"path\":\"%s\"},\"route\":{\"cluster\":"
        "\"prometheus_stats\",\"prefix_rewrite\":\"%s\"}}]}]},"
        "\"http_filters\":[{\"name\":\"envoy.filters.http.router\",\"typed_config\":{" TYPE
        "envoy.extensions.filters.http.router.v3.Router\"}}]}}]}]}",
        path, page);
}

void bootstrap_json(const struct bootstrap *b, struct strbuf *out)
{
    strbuf_add_ch(out, '{');
    node(b, out);
    strbuf_add_c(out, ",\"admin\":{\"address\":");
    socket_address(out, SV("127.0.0.1"), b->admin_port);
    strbuf_add_c(out, "},");
    if (b->mark)
        strbuf_addf(out,
                    "\"cluster_manager\":{\"upstream_bind_config\":{\"socket_options\":[{"
                    "\"description\":\"exempt from interception\",\"level\":1,\"name\":36,"
                    "\"int_value\":%u,\"state\":\"STATE_PREBIND\"}]}},",
                    b->mark);
    strbuf_add_c(out, "\"dynamic_resources\":{\"ads_config\":{\"api_type\":\"DELTA_GRPC\","
                      "\"transport_api_version\":\"V3\",\"grpc_services\":[{\"envoy_grpc\":"
                      /* The control plane is on this machine: it is back soon. */
                      "{\"cluster_name\":\"xds-grpc\",\"retry_policy\":{\"retry_back_off\":"
                      "{\"base_interval\":\"0.2s\",\"max_interval\":\"2s\"}}}}]},"
                      "\"cds_config\":{\"ads\":{},\"initial_fetch_timeout\":\"0s\","
                      "\"resource_api_version\":\"V3\"},"
                      "\"lds_config\":{\"ads\":{},\"initial_fetch_timeout\":\"0s\","
                      "\"resource_api_version\":\"V3\"}},"
                      "\"static_resources\":{\"clusters\":[");
    xds_cluster(b, out);
    strbuf_add_c(out, ",{\"name\":\"prometheus_stats\",\"type\":\"STATIC\",\"connect_timeout\":"
                      "\"0.25s\",");
    endpoint(out, "prometheus_stats", SV("127.0.0.1"), b->admin_port);
    strbuf_add_c(out, "},");
    /* A proxy with the agent inside needs no such cluster, but the name is part of what is served.
     */
    pipe_cluster(out, "sds-grpc", b->sds_socket.n ? b->sds_socket : SV("/nonexistent"));
    strbuf_add_c(out, "],\"listeners\":[");
    page_listener(out, "health", b->health_port, "/healthz/ready", "/ready");
    strbuf_add_ch(out, ',');
    page_listener(out, "stats", b->stats_port, "/stats/prometheus", "/stats/prometheus");
    strbuf_add_ch(out, ',');
    page_listener(out, "merged-stats", b->merged_stats_port, "/stats/prometheus",
                  "/stats/prometheus");
    strbuf_add_c(out, "]}}");
}
