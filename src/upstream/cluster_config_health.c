/* health_checks: one active check, with Envoy's defaults. */
#include "upstream/cluster_config_private.h"

#include "api/google.pb.h"

static const char *path_of(struct config_reader *r, const char *field)
{
    return arena_printf(&r->cfg->arena, "health_checks[0].%s", field).p;
}

static int times(struct config_reader *r, const struct envoy_HealthCheck *h)
{
    struct health_config *c = &r->cfg->health;
    const struct {
        const struct google_Duration *v;
        const char *field;
        const uint64_t *dflt; /* NULL: 0 */
        uint64_t *out;
    } all[] = {
        {h->timeout, "timeout", NULL, &c->timeout_ms},
        {h->interval, "interval", NULL, &c->interval_ms},
        {h->initial_jitter, "initial_jitter", NULL, &c->initial_jitter_ms},
        {h->interval_jitter, "interval_jitter", NULL, &c->interval_jitter_ms},
        {h->no_traffic_healthy_interval, "no_traffic_healthy_interval", &c->no_traffic_ms,
         &c->no_traffic_healthy_ms},
        {h->unhealthy_interval, "unhealthy_interval", &c->interval_ms, &c->unhealthy_ms},
        {h->unhealthy_edge_interval, "unhealthy_edge_interval", &c->unhealthy_ms,
         &c->unhealthy_edge_ms},
        {h->healthy_edge_interval, "healthy_edge_interval", &c->interval_ms, &c->healthy_edge_ms},
    };
    int rc = config_ms(r, h->no_traffic_interval, path_of(r, "no_traffic_interval"), 60000,
                       &c->no_traffic_ms);
    for (size_t i = 0; rc == 0 && i < sizeof all / sizeof *all; i++)
        rc = config_ms(r, all[i].v, path_of(r, all[i].field), all[i].dflt ? *all[i].dflt : 0,
                       all[i].out);
    if (rc)
        return rc;
    if (c->timeout_ms == 0 || c->interval_ms == 0)
        return config_invalid(r, "health_checks[0]: timeout and interval must be more than 0");
    return 0;
}

static int ranges(struct config_reader *r, const struct envoy_Int64Range **v, uint32_t n,
                  const char *field, const struct status_range **out)
{
    struct status_range *all = arena_array(&r->cfg->arena, struct status_range, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        all[i] = (struct status_range){v[i]->start, v[i]->end};
        if (v[i]->start >= v[i]->end || v[i]->start < 100 || v[i]->end > 600)
            return config_invalid(r, "%s[%u]: must be within 100 and 600", path_of(r, field), i);
    }
    *out = all;
    return 0;
}

static int headers(struct config_reader *r, const struct envoy_HeaderValueOption **v, uint32_t n,
                   const char *field)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct envoy_HeaderValue *h = v[i]->header;
        if (!h || h->key.n == 0)
            return config_invalid(r, "%s[%u].header: required", path_of(r, field), i);
        if (sv_find(h->value, '%') >= 0)
            return config_refuse(r, "%s[%u].header.value: a format string", path_of(r, field), i);
    }
    r->cfg->health.headers = v;
    r->cfg->health.n_headers = n;
    return 0;
}

static int http(struct config_reader *r, const struct envoy_HealthCheck_HttpHealthCheck *h)
{
    struct health_config *c = &r->cfg->health;
    if (h->send || h->receive.n)
        return config_refuse(r, "health_checks[0].http_health_check.%s",
                             h->send ? "send" : "receive");
    if (h->service_name_matcher)
        return config_refuse(r, "health_checks[0].http_health_check.service_name_matcher");
    if (h->codec_client_type == envoy_CodecClientType_HTTP3)
        return config_refuse(r, "health_checks[0].http_health_check.codec_client_type: HTTP3");
    if (h->path.n == 0 || h->path.p[0] != '/')
        return config_invalid(r, "health_checks[0].http_health_check.path: must begin with '/'");
    if (h->method == envoy_RequestMethod_CONNECT)
        return config_invalid(r, "health_checks[0].http_health_check.method: must not be CONNECT");
    c->kind = HEALTH_HTTP;
    c->http2 = h->codec_client_type == envoy_CodecClientType_HTTP2;
    c->method = h->method == envoy_RequestMethod_METHOD_UNSPECIFIED
                    ? SV("GET")
                    : sv_of(pb_enum_name(&envoy_RequestMethod_pb, h->method));
    c->host = h->host;
    c->path = h->path;
    c->remove = h->request_headers_to_remove.v;
    c->n_remove = h->request_headers_to_remove.n;
    c->n_expected = h->expected_statuses.n;
    c->n_retriable = h->retriable_statuses.n;
    int rc = ranges(r, h->expected_statuses.v, c->n_expected, "http_health_check.expected_statuses",
                    &c->expected);
    if (rc == 0)
        rc = ranges(r, h->retriable_statuses.v, c->n_retriable,
                    "http_health_check.retriable_statuses", &c->retriable);
    return rc ? rc
              : headers(r, h->request_headers_to_add.v, h->request_headers_to_add.n,
                        "http_health_check.request_headers_to_add");
}

static int grpc(struct config_reader *r, const struct envoy_HealthCheck_GrpcHealthCheck *g)
{
    struct health_config *c = &r->cfg->health;
    if (r->cfg->http.protocol != CLUSTER_HTTP2)
        return config_invalid(r, "health_checks[0].grpc_health_check: needs a cluster that speaks "
                                 "HTTP/2");
    c->kind = HEALTH_GRPC;
    c->http2 = true;
    c->method = SV("POST");
    c->path = SV("/grpc.health.v1.Health/Check");
    c->host = g->authority;
    c->grpc_service = g->service_name;
    return headers(r, g->initial_metadata.v, g->initial_metadata.n,
                   "grpc_health_check.initial_metadata");
}

static int hex_digit(char ch)
{
    return ch >= '0' && ch <= '9'   ? ch - '0'
           : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
           : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
                                    : -1;
}

static int payload(struct config_reader *r, const struct envoy_HealthCheck_Payload *p,
                   const char *field, sv *out)
{
    if (p->which_payload == envoy_HealthCheck_Payload_binary_tag) {
        *out = p->binary;
        return out->n ? 0 : config_invalid(r, "%s: must not be empty", path_of(r, field));
    }
    char *bytes = arena_alloc(&r->cfg->arena, p->text.n / 2 + 1);
    if (p->text.n == 0 || p->text.n % 2)
        return config_invalid(r, "%s.text: must be pairs of hexadecimal digits", path_of(r, field));
    for (size_t i = 0; i < p->text.n; i += 2) {
        int hi = hex_digit(p->text.p[i]), lo = hex_digit(p->text.p[i + 1]);
        if (hi < 0 || lo < 0)
            return config_invalid(r, "%s.text: must be pairs of hexadecimal digits",
                                  path_of(r, field));
        bytes[i / 2] = (char)(hi << 4 | lo);
    }
    *out = sv_make(bytes, p->text.n / 2);
    return 0;
}

static int tcp(struct config_reader *r, const struct envoy_HealthCheck_TcpHealthCheck *t)
{
    struct health_config *c = &r->cfg->health;
    c->kind = HEALTH_TCP;
    int rc = t->send ? payload(r, t->send, "tcp_health_check.send", &c->send) : 0;
    sv *receive = arena_array(&r->cfg->arena, sv, t->receive.n + 1);
    for (uint32_t i = 0; rc == 0 && i < t->receive.n; i++)
        rc = payload(r, t->receive.v[i], "tcp_health_check.receive", &receive[i]);
    c->receive = receive;
    c->n_receive = t->receive.n;
    return rc;
}

static int refuse(struct config_reader *r, const struct envoy_HealthCheck *h)
{
    if (h->event_log_path.n)
        return config_refuse(r, "health_checks[0].event_log_path");
    if (h->always_log_health_check_failures)
        return config_refuse(r, "health_checks[0].always_log_health_check_failures");
    if (h->transport_socket_match_criteria)
        return config_refuse(r, "health_checks[0].transport_socket_match_criteria");
    if (r->cfg->type == CLUSTER_ORIGINAL_DST)
        return config_refuse(r, "health_checks: of a cluster of type ORIGINAL_DST");
    return 0;
}

static int common(struct config_reader *r, const struct envoy_HealthCheck *h)
{
    struct health_config *c = &r->cfg->health;
    if (!h->unhealthy_threshold || !h->healthy_threshold)
        return config_invalid(r, "health_checks[0]: unhealthy_threshold and healthy_threshold are "
                                 "required");
    c->unhealthy_threshold = h->unhealthy_threshold->value;
    c->healthy_threshold = h->healthy_threshold->value;
    c->interval_jitter_percent = h->interval_jitter_percent;
    c->reuse_connection = !h->reuse_connection || h->reuse_connection->value;
    if (h->alt_port && (h->alt_port->value == 0 || h->alt_port->value > 65535))
        return config_invalid(r, "health_checks[0].alt_port: %u is no port", h->alt_port->value);
    c->alt_port = h->alt_port ? h->alt_port->value : 0;
    if (h->tls_options) {
        c->alpn = h->tls_options->alpn_protocols.v;
        c->n_alpn = h->tls_options->alpn_protocols.n;
    }
    return times(r, h);
}

int config_read_health(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    if (c->health_checks.n == 0) {
        if (r->cfg->lb.ignore_unchecked)
            return config_invalid(r, "common_lb_config.ignore_new_hosts_until_first_hc: needs "
                                     "health_checks");
        return 0;
    }
    if (c->health_checks.n > 1)
        return config_refuse(r, "health_checks: more than one");
    const struct envoy_HealthCheck *h = c->health_checks.v[0];
    int rc = refuse(r, h);
    if (rc == 0)
        rc = common(r, h);
    if (rc)
        return rc;
    switch (h->which_health_checker) {
    case envoy_HealthCheck_http_health_check_tag:
        return http(r, h->http_health_check);
    case envoy_HealthCheck_tcp_health_check_tag:
        return tcp(r, h->tcp_health_check);
    case envoy_HealthCheck_grpc_health_check_tag:
        return grpc(r, h->grpc_health_check);
    default:
        return config_invalid(r, "health_checks[0]: names no kind of check");
    }
}
