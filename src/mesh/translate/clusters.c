/* CDS: one cluster for each port of each visible service, one more for each subset; the inbound
 * clusters of the proxy's own workload; the two that let everything else through or nowhere. */
#include <stdlib.h>
#include "mesh/translate/internal.h"

/* ---- connection pool and limits ---- */

static const struct google_UInt32Value *positive(struct build *b, int32_t v,
                                                 const struct google_UInt32Value *dflt)
{
    return v > 0 ? build_u32(b, (uint32_t)v) : dflt;
}

static void apply_pool(struct build *b, struct envoy_Cluster *c,
                       const struct istio_ConnectionPoolSettings *pool)
{
    const struct istio_ConnectionPoolSettings_TCPSettings *tcp = pool ? pool->tcp : NULL;
    const struct istio_ConnectionPoolSettings_HTTPSettings *http = pool ? pool->http : NULL;
    struct envoy_CircuitBreakers_Thresholds *t =
        build_copy(b, c->circuit_breakers->thresholds.v[0], sizeof *t);

    if (tcp) {
        t->max_connections = positive(b, tcp->max_connections, t->max_connections);
        if (tcp->connect_timeout)
            c->connect_timeout = tcp->connect_timeout;
        if (tcp->tcp_keepalive) {
            struct envoy_TcpKeepalive *k =
                MAKE(b, envoy_TcpKeepalive,
                     .keepalive_probes = positive(b, (int32_t)tcp->tcp_keepalive->probes, NULL));
            if (tcp->tcp_keepalive->time)
                k->keepalive_time = build_u32(b, (uint32_t)tcp->tcp_keepalive->time->seconds);
            if (tcp->tcp_keepalive->interval)
                k->keepalive_interval =
                    build_u32(b, (uint32_t)tcp->tcp_keepalive->interval->seconds);
            c->upstream_connection_options =
                MAKE(b, envoy_UpstreamConnectionOptions, .tcp_keepalive = k);
        }
    }
    if (http) {
        t->max_pending_requests =
            positive(b, http->http1_max_pending_requests, t->max_pending_requests);
        t->max_requests = positive(b, http->http2_max_requests, t->max_requests);
        t->max_retries = positive(b, http->max_retries, t->max_retries);
    }
    c->circuit_breakers =
        MAKE(b, envoy_CircuitBreakers, .thresholds = {.v = build_one(b, t), .n = 1});
}

/* HTTP/1, HTTP/2, or what the client spoke. */
static void apply_protocol(struct build *b, struct envoy_Cluster *c, const struct model_port *port,
                           const struct istio_ConnectionPoolSettings *pool)
{
    const struct istio_ConnectionPoolSettings_HTTPSettings *http = pool ? pool->http : NULL;
    struct envoy_Cluster_TypedExtensionProtocolOptionsEntry *e;
    struct envoy_HttpProtocolOptions *common = NULL;
    const struct google_Any *base;
    struct error err = {0};
    void *msg;

    if (!model_protocol_is_http(port->protocol) && port->protocol != MODEL_AUTO)
        return;
    base = port->protocol == MODEL_AUTO ? b->t->downstream_options : b->t->http1_options;
    if (port->protocol == MODEL_HTTP2 || port->protocol == MODEL_GRPC ||
        port->protocol == MODEL_GRPC_WEB ||
        (http && http->h2_upgrade_policy == istio_ConnectionPoolSettings_HTTPSettings_UPGRADE))
        base = b->t->http2_options;
    if (http && (http->idle_timeout || http->max_requests_per_connection > 0 ||
                 (pool->tcp && pool->tcp->max_connection_duration))) {
        common = MAKE(b, envoy_HttpProtocolOptions, .idle_timeout = http->idle_timeout);
        common->max_requests_per_connection = positive(b, http->max_requests_per_connection, NULL);
        common->max_connection_duration = pool->tcp ? pool->tcp->max_connection_duration : NULL;
    }
    if (common &&
        pb_any_unpack(base, &envoy_upstreams_HttpProtocolOptions_pb, b->a, NULL, &msg, &err) == 0) {
        struct envoy_upstreams_HttpProtocolOptions *o = msg;
        o->common_http_protocol_options = common;
        base = pb_any_pack(&envoy_upstreams_HttpProtocolOptions_pb, o, b->a);
    }
    e = MAKE(b, envoy_Cluster_TypedExtensionProtocolOptionsEntry,
             .key = SV("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"), .value = base);
    c->typed_extension_protocol_options.v = build_one(b, e);
    c->typed_extension_protocol_options.n = 1;
}

static void apply_balancer(struct build *b, struct envoy_Cluster *c,
                           const struct istio_LoadBalancerSettings *lb)
{
    if (!lb || lb->which_lb_policy != istio_LoadBalancerSettings_simple_tag)
        return;
    switch (lb->simple) {
    case istio_LoadBalancerSettings_ROUND_ROBIN:
        c->lb_policy = envoy_Cluster_ROUND_ROBIN;
        break;
    case istio_LoadBalancerSettings_RANDOM:
        c->lb_policy = envoy_Cluster_RANDOM;
        break;
    case istio_LoadBalancerSettings_PASSTHROUGH:
        c->which_cluster_discovery_type = envoy_Cluster_type_tag;
        c->type = envoy_Cluster_ORIGINAL_DST;
        c->lb_policy = envoy_Cluster_CLUSTER_PROVIDED;
        c->eds_cluster_config = NULL;
        break;
    default:
        c->lb_policy = envoy_Cluster_LEAST_REQUEST;
    }
}

/* ---- TLS between sidecars ---- */

/* The identities that may answer for the service: those of its endpoints. */
static void add_identities(struct build *b, struct envoy_CertificateValidationContext *v,
                           const struct model_service *svc, uint16_t port)
{
    const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port);
    const struct envoy_SubjectAltNameMatcher **list =
        arena_array(b->a, const struct envoy_SubjectAltNameMatcher *, (eps ? eps->n : 0) + 1);
    struct map seen;

    map_init_borrow(&seen);
    for (uint32_t i = 0; eps && i < eps->n; i++) {
        const struct model_endpoint *e = &eps->v[i];
        if (!e->service_account.n)
            continue;
        sv id = arena_printf(b->a, "spiffe://%.*s/ns/%.*s/sa/%.*s", SV_ARG(b->m->trust_domain),
                             SV_ARG(e->ns), SV_ARG(e->service_account));
        if (map_has(&seen, id))
            continue;
        map_put(&seen, id, list);
        struct envoy_StringMatcher *s =
            MAKE(b, envoy_StringMatcher, .which_match_pattern = envoy_StringMatcher_exact_tag,
                 .exact = id);
        list[v->match_typed_subject_alt_names.n++] =
            MAKE(b, envoy_SubjectAltNameMatcher, .san_type = envoy_SubjectAltNameMatcher_URI,
                 .matcher = s);
    }
    v->match_typed_subject_alt_names.v = list;
    map_fini(&seen);
}

static const struct envoy_TransportSocket *
mesh_tls(struct build *b, const struct model_service *svc, uint16_t port, sv subset, bool h2)
{
    struct envoy_UpstreamTlsContext *u = build_copy(b, b->t->tls_upstream, sizeof *u);
    struct envoy_CommonTlsContext *c = build_copy(b, u->common_tls_context, sizeof *c);
    struct envoy_CommonTlsContext_CombinedCertificateValidationContext *comb =
        build_copy(b, c->combined_validation_context, sizeof *comb);
    struct envoy_CertificateValidationContext *v = MAKE0(b, envoy_CertificateValidationContext);
    sv *alpn = arena_array(b->a, sv, 3);

    add_identities(b, v, svc, port);
    comb->default_validation_context = v;
    c->combined_validation_context = comb;
    /* "istio" first: the inbound side knows its own kind by it. */
    alpn[0] = SV("istio-peer-exchange");
    alpn[1] = SV("istio");
    alpn[2] = SV("h2");
    c->alpn_protocols.v = alpn;
    c->alpn_protocols.n = h2 ? 3 : 2;
    u->common_tls_context = c;
    u->sni = translate_sni(b->a, port, subset, svc->host);
    return MAKE(b, envoy_TransportSocket, .name = SV("envoy.transport_sockets.tls"),
                .which_config_type = envoy_TransportSocket_typed_config_tag,
                .typed_config = pb_any_pack(&envoy_UpstreamTlsContext_pb, u, b->a));
}

static const struct envoy_DataSource *file_source(struct build *b, sv path)
{
    return MAKE(b, envoy_DataSource, .which_specifier = envoy_DataSource_filename_tag,
                .filename = path);
}

/* SIMPLE and MUTUAL: TLS that the user configures by files. */
static const struct envoy_TransportSocket *
user_tls(struct build *b, const struct istio_ClientTLSSettings *tls, bool h2)
{
    struct envoy_CommonTlsContext *c = MAKE0(b, envoy_CommonTlsContext);
    struct envoy_UpstreamTlsContext *u =
        MAKE(b, envoy_UpstreamTlsContext, .common_tls_context = c, .sni = tls->sni);
    const struct envoy_SubjectAltNameMatcher **list =
        arena_array(b->a, const struct envoy_SubjectAltNameMatcher *, tls->subject_alt_names.n + 1);
    sv *alpn = arena_array(b->a, sv, 1);

    if (tls->mode == istio_ClientTLSSettings_MUTUAL) {
        struct envoy_TlsCertificate *cert = MAKE(
            b, envoy_TlsCertificate, .certificate_chain = file_source(b, tls->client_certificate),
            .private_key = file_source(b, tls->private_key));
        c->tls_certificates.v = build_one(b, cert);
        c->tls_certificates.n = 1;
    }
    if (!(tls->insecure_skip_verify && tls->insecure_skip_verify->value)) {
        struct envoy_CertificateValidationContext *v =
            MAKE(b, envoy_CertificateValidationContext,
                 .trusted_ca = file_source(b, tls->ca_certificates.n
                                                  ? tls->ca_certificates
                                                  : SV("/etc/ssl/certs/ca-certificates.crt")));
        for (uint32_t i = 0; i < tls->subject_alt_names.n; i++) {
            struct envoy_StringMatcher *s =
                MAKE(b, envoy_StringMatcher, .which_match_pattern = envoy_StringMatcher_exact_tag,
                     .exact = tls->subject_alt_names.v[i]);
            list[i] = MAKE(b, envoy_SubjectAltNameMatcher,
                           .san_type = sv_find_sv(tls->subject_alt_names.v[i], SV("://")) >= 0
                                           ? envoy_SubjectAltNameMatcher_URI
                                           : envoy_SubjectAltNameMatcher_DNS,
                           .matcher = s);
        }
        v->match_typed_subject_alt_names.v = list;
        v->match_typed_subject_alt_names.n = tls->subject_alt_names.n;
        c->which_validation_context_type = envoy_CommonTlsContext_validation_context_tag;
        c->validation_context = v;
    }
    alpn[0] = h2 ? SV("h2") : SV("http/1.1");
    c->alpn_protocols.v = alpn;
    c->alpn_protocols.n = 1;
    return MAKE(b, envoy_TransportSocket, .name = SV("envoy.transport_sockets.tls"),
                .which_config_type = envoy_TransportSocket_typed_config_tag,
                .typed_config = pb_any_pack(&envoy_UpstreamTlsContext_pb, u, b->a));
}

static void apply_tls(struct build *b, struct envoy_Cluster *c, const struct model_service *svc,
                      uint16_t port, sv subset, const struct istio_ClientTLSSettings *tls, bool h2)
{
    const struct envoy_Cluster_TransportSocketMatch **list;

    if (tls) {
        switch (tls->mode) {
        case istio_ClientTLSSettings_ISTIO_MUTUAL:
            c->transport_socket = mesh_tls(b, svc, port, subset, h2);
            break;
        case istio_ClientTLSSettings_SIMPLE:
        case istio_ClientTLSSettings_MUTUAL:
            c->transport_socket = user_tls(b, tls, h2);
            break;
        default: /* DISABLE */
            break;
        }
        return;
    }
    /* Nobody said: mTLS to endpoints that have a sidecar, plain text to the others. */
    list = arena_array(b->a, const struct envoy_Cluster_TransportSocketMatch *, 2);
    list[0] = MAKE(b, envoy_Cluster_TransportSocketMatch, .name = SV("tlsMode-istio"),
                   .match = build_struct1(b, SV("tlsMode"), SV("istio")),
                   .transport_socket = mesh_tls(b, svc, port, subset, h2));
    list[1] = MAKE(b, envoy_Cluster_TransportSocketMatch, .name = SV("tlsMode-disabled"),
                   .match = MAKE0(b, google_Struct), .transport_socket = b->t->raw_buffer);
    c->transport_socket_matches.v = list;
    c->transport_socket_matches.n = 2;
}

/* ---- outbound ---- */

static void emit_outbound(struct build *b, const struct model_service *svc,
                          const struct model_port *port, sv subset)
{
    struct envoy_Cluster *c = build_copy(b, b->t->cluster_outbound, sizeof *c);
    struct istio_TrafficPolicy policy = build_policy(b, svc, port->port, subset);
    struct envoy_Cluster_EdsClusterConfig *eds = build_copy(b, c->eds_cluster_config, sizeof *eds);
    const struct istio_ConnectionPoolSettings_HTTPSettings *http =
        policy.connection_pool ? policy.connection_pool->http : NULL;
    bool h2 =
        port->protocol == MODEL_HTTP2 || port->protocol == MODEL_GRPC ||
        port->protocol == MODEL_GRPC_WEB || port->protocol == MODEL_AUTO ||
        (http && http->h2_upgrade_policy == istio_ConnectionPoolSettings_HTTPSettings_UPGRADE);

    c->name = translate_cluster_name(b->a, "outbound", port->port, subset, svc->host);
    eds->service_name = c->name;
    c->eds_cluster_config = eds;
    apply_pool(b, c, policy.connection_pool);
    apply_protocol(b, c, port, policy.connection_pool);
    apply_balancer(b, c, policy.load_balancer);
    apply_tls(b, c, svc, port->port, subset, policy.tls, h2);
    build_emit(b, c->name, &envoy_Cluster_pb, c);
}

static void emit_passthrough(struct build *b, const char *name)
{
    struct envoy_Cluster *c = build_copy(b, b->t->cluster_inbound, sizeof *c);
    struct envoy_Cluster_TypedExtensionProtocolOptionsEntry *e =
        MAKE(b, envoy_Cluster_TypedExtensionProtocolOptionsEntry,
             .key = SV("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
             .value = b->t->downstream_options);

    c->name = sv_of(name);
    c->typed_extension_protocol_options.v = build_one(b, e);
    c->typed_extension_protocol_options.n = 1;
    build_emit(b, c->name, &envoy_Cluster_pb, c);
}

void translate_clusters_outbound(const struct translate *t, const struct model *m,
                                 const struct translate_proxy *p, struct arena *a,
                                 translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};

    for (uint32_t i = 0; i < m->n_services; i++) {
        const struct model_service *svc = m->service_list[i];
        const struct istio_DestinationRule *r;
        if (!build_visible(&b, svc))
            continue;
        r = build_rule(&b, svc);
        for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
            const struct model_port *port = &svc->spec->ports[k];
            if (port->protocol == MODEL_UDP)
                continue;
            emit_outbound(&b, svc, port, (sv){NULL, 0});
            for (uint32_t s = 0; r && s < r->subsets.n; s++)
                emit_outbound(&b, svc, port, r->subsets.v[s]->name);
        }
    }
    emit_passthrough(&b, "PassthroughCluster");
    build_emit(&b, SV("BlackHoleCluster"), &envoy_Cluster_pb, t->black_hole);
}

/* ---- inbound ---- */

void translate_clusters_inbound(const struct translate *t, const struct model *m,
                                const struct translate_proxy *p, struct arena *a,
                                translate_emit emit, void *arg)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    struct inbound_port *ports;
    uint32_t n = build_inbound_ports(&b, &ports);

    for (uint32_t i = 0; i < n; i++) {
        struct envoy_Cluster *c = build_copy(&b, t->cluster_inbound, sizeof *c);
        const struct model_port as = {.protocol = ports[i].protocol};
        c->name = translate_cluster_name(a, "inbound", ports[i].port, (sv){NULL, 0}, (sv){NULL, 0});
        apply_protocol(&b, c, &as, NULL);
        build_emit(&b, c->name, &envoy_Cluster_pb, c);
    }
    emit_passthrough(&b, "InboundPassthroughCluster");
}
