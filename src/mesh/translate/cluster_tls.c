/* tls and proxyProtocol of a DestinationRule, and mTLS where nobody says anything. */
#include "mesh/translate/cluster.h"

static void add_san(struct build *b, const struct envoy_SubjectAltNameMatcher **out, sv name,
                    int type)
{
    struct envoy_StringMatcher *s =
        MAKE(b, envoy_StringMatcher, .which_match_pattern = envoy_StringMatcher_exact_tag,
             .exact = name);

    *out = MAKE(b, envoy_SubjectAltNameMatcher, .san_type = type, .matcher = s);
}

/* A SPIFFE identity or another URI, an IP address, an e-mail address, else a DNS name. */
static int san_type(sv name)
{
    bool address = name.n > 0;

    if (sv_find_sv(name, SV("://")) >= 0)
        return envoy_SubjectAltNameMatcher_URI;
    if (sv_find(name, '@') >= 0)
        return envoy_SubjectAltNameMatcher_EMAIL;
    if (sv_find(name, ':') >= 0)
        return envoy_SubjectAltNameMatcher_IP_ADDRESS;
    for (size_t i = 0; i < name.n; i++)
        address &= (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '.';
    return address ? envoy_SubjectAltNameMatcher_IP_ADDRESS : envoy_SubjectAltNameMatcher_DNS;
}

static void add_names(struct build *b, struct envoy_CertificateValidationContext *v,
                      const sv *names, uint32_t n)
{
    const struct envoy_SubjectAltNameMatcher **list =
        arena_array(b->a, const struct envoy_SubjectAltNameMatcher *, n + 1);

    for (uint32_t i = 0; i < n; i++)
        add_san(b, &list[i], names[i], san_type(names[i]));
    v->match_typed_subject_alt_names.v = list;
    v->match_typed_subject_alt_names.n = n;
}

/* The identities that may answer for the service: those of its endpoints, and those that a
 * ServiceEntry names. */
static void add_identities(struct outbound *o, struct envoy_CertificateValidationContext *v)
{
    struct build *b = o->b;
    const struct model_endpoints *eps = model_endpoints_find(b->m, o->svc->host, o->port->port);
    const struct istio_ServiceEntry *se = model_port_entry(o->svc, o->port->port);
    uint32_t said = se ? se->subject_alt_names.n : 0, n = 0;
    const struct envoy_SubjectAltNameMatcher **list = arena_array(
        b->a, const struct envoy_SubjectAltNameMatcher *, (eps ? eps->n : 0) + said + 1);
    struct map seen;

    map_init_borrow(&seen);
    for (uint32_t i = 0; i < said; i++) {
        sv name = se->subject_alt_names.v[i];
        add_san(b, &list[n++], name, san_type(name));
    }
    for (uint32_t i = 0; eps && i < eps->n; i++) {
        const struct model_endpoint *e = &eps->v[i];
        sv id;
        if (!e->service_account.n)
            continue;
        id = arena_printf(b->a, "spiffe://%.*s/ns/%.*s/sa/%.*s", SV_ARG(b->m->trust_domain),
                          SV_ARG(e->ns), SV_ARG(e->service_account));
        if (map_has(&seen, id))
            continue;
        map_put(&seen, id, list);
        add_san(b, &list[n++], id, envoy_SubjectAltNameMatcher_URI);
    }
    v->match_typed_subject_alt_names.v = list;
    v->match_typed_subject_alt_names.n = n;
    map_fini(&seen);
}

const struct envoy_TransportSocket *cluster_mesh_tls(struct outbound *o,
                                                     const struct istio_ClientTLSSettings *tls)
{
    struct build *b = o->b;
    struct envoy_UpstreamTlsContext *u = build_copy(b, b->t->tls_upstream, sizeof *u);
    struct envoy_CommonTlsContext *c = build_copy(b, u->common_tls_context, sizeof *c);
    struct envoy_CommonTlsContext_CombinedCertificateValidationContext *comb =
        build_copy(b, c->combined_validation_context, sizeof *comb);
    struct envoy_CertificateValidationContext *v = MAKE0(b, envoy_CertificateValidationContext);
    sv *alpn = arena_array(b->a, sv, 3);

    if (tls && tls->subject_alt_names.n)
        add_names(b, v, tls->subject_alt_names.v, tls->subject_alt_names.n);
    else
        add_identities(o, v);
    comb->default_validation_context = v;
    c->combined_validation_context = comb;
    /* "istio" first: the inbound side knows its own kind by it. */
    alpn[0] = SV("istio-peer-exchange");
    alpn[1] = SV("istio");
    alpn[2] = SV("h2");
    c->alpn_protocols.v = alpn;
    c->alpn_protocols.n = o->h2 ? 3 : 2;
    u->common_tls_context = c;
    u->sni =
        tls && tls->sni.n ? tls->sni : translate_sni(b->a, o->port->port, o->subset, o->svc->host);
    return MAKE(b, envoy_TransportSocket, .name = SV("envoy.transport_sockets.tls"),
                .which_config_type = envoy_TransportSocket_typed_config_tag,
                .typed_config = pb_any_pack(&envoy_UpstreamTlsContext_pb, u, b->a));
}

static const struct envoy_DataSource *file_source(struct build *b, sv path)
{
    return MAKE(b, envoy_DataSource, .which_specifier = envoy_DataSource_filename_tag,
                .filename = path);
}

#define SYSTEM_ROOTS SV("/etc/ssl/certs/ca-certificates.crt")

/* Who may answer: what the rule says, else the ServiceEntry, else the host that is called. */
static void verify(struct outbound *o, const struct istio_ClientTLSSettings *tls,
                   struct envoy_CommonTlsContext *c)
{
    struct build *b = o->b;
    const struct istio_ServiceEntry *se = model_port_entry(o->svc, o->port->port);
    struct envoy_CertificateValidationContext *v = MAKE(
        b, envoy_CertificateValidationContext,
        .trusted_ca = file_source(b, tls->ca_certificates.n ? tls->ca_certificates : SYSTEM_ROOTS));

    if (tls->ca_crl.n)
        v->crl = file_source(b, tls->ca_crl);
    if (tls->subject_alt_names.n)
        add_names(b, v, tls->subject_alt_names.v, tls->subject_alt_names.n);
    else if (se && se->subject_alt_names.n)
        add_names(b, v, se->subject_alt_names.v, se->subject_alt_names.n);
    else if (o->http)
        o->auto_san = true;
    else if (se && o->svc->host.p[0] != '*')
        add_names(b, v, &o->svc->host, 1);
    c->which_validation_context_type = envoy_CommonTlsContext_validation_context_tag;
    c->validation_context = v;
}

/* SIMPLE and MUTUAL: TLS that the user configures by files. Without a name to send the one in the
 * request's host is sent; of connections that are no HTTP, the ServiceEntry's host. */
static const struct envoy_TransportSocket *user_tls(struct outbound *o,
                                                    const struct istio_ClientTLSSettings *tls)
{
    struct build *b = o->b;
    struct envoy_CommonTlsContext *c = MAKE0(b, envoy_CommonTlsContext);
    struct envoy_UpstreamTlsContext *u =
        MAKE(b, envoy_UpstreamTlsContext, .common_tls_context = c, .sni = tls->sni);

    if (tls->mode == istio_ClientTLSSettings_MUTUAL) {
        struct envoy_TlsCertificate *cert = MAKE(
            b, envoy_TlsCertificate, .certificate_chain = file_source(b, tls->client_certificate),
            .private_key = file_source(b, tls->private_key));
        c->tls_certificates.v = build_one(b, cert);
        c->tls_certificates.n = 1;
    }
    if (!(tls->insecure_skip_verify && tls->insecure_skip_verify->value))
        verify(o, tls, c);
    if (!tls->sni.n && o->http)
        o->auto_sni = true;
    else if (!tls->sni.n && o->svc->entry && o->svc->host.p[0] != '*')
        u->sni = o->svc->host;
    if (o->h2) {
        sv *alpn = arena_array(b->a, sv, 1);
        alpn[0] = SV("h2");
        c->alpn_protocols.v = alpn;
        c->alpn_protocols.n = 1;
    }
    return MAKE(b, envoy_TransportSocket, .name = SV("envoy.transport_sockets.tls"),
                .which_config_type = envoy_TransportSocket_typed_config_tag,
                .typed_config = pb_any_pack(&envoy_UpstreamTlsContext_pb, u, b->a));
}

static void name_by_request(struct outbound *o)
{
    if (o->http && (o->auto_sni || o->auto_san))
        o->http->upstream_http_protocol_options =
            MAKE(o->b, envoy_UpstreamHttpProtocolOptions, .auto_sni = o->auto_sni,
                 .auto_san_validation = o->auto_san);
}

/* ---- which of them ---- */

static bool all_speak_mtls(const struct outbound *o)
{
    const struct model_endpoints *eps = model_endpoints_find(o->b->m, o->svc->host, o->port->port);

    for (uint32_t i = 0; eps && i < eps->n; i++) {
        if (!eps->v[i].tls)
            return false;
    }
    return eps && eps->n;
}

/* Nobody said: mTLS to endpoints that have a sidecar, plain text to the others. */
static void automatic(struct outbound *o)
{
    struct build *b = o->b;
    const struct envoy_Cluster_TransportSocketMatch **list;

    if (o->svc->mesh_external)
        return;
    /* Where clients choose endpoints, those cannot be told apart: mTLS when all speak it. */
    if (o->c->type == envoy_Cluster_ORIGINAL_DST) {
        if (all_speak_mtls(o))
            o->c->transport_socket = cluster_mesh_tls(o, NULL);
        return;
    }
    list = arena_array(b->a, const struct envoy_Cluster_TransportSocketMatch *, 2);
    list[0] = MAKE(b, envoy_Cluster_TransportSocketMatch, .name = SV("tlsMode-istio"),
                   .match = build_struct1(b, SV("tlsMode"), SV("istio")),
                   .transport_socket = cluster_mesh_tls(o, NULL));
    list[1] = MAKE(b, envoy_Cluster_TransportSocketMatch, .name = SV("tlsMode-disabled"),
                   .match = MAKE0(b, google_Struct), .transport_socket = b->t->raw_buffer);
    o->c->transport_socket_matches.v = list;
    o->c->transport_socket_matches.n = 2;
}

/* A line with the client's address before everything else, also before TLS. */
static const struct envoy_TransportSocket *proxied(struct outbound *o,
                                                   const struct envoy_TransportSocket *inner)
{
    bool v2 = o->policy.proxy_protocol->version == istio_TrafficPolicy_ProxyProtocol_V2;
    struct envoy_ProxyProtocolUpstreamTransport *p = MAKE(
        o->b, envoy_ProxyProtocolUpstreamTransport,
        .config = MAKE(o->b, envoy_ProxyProtocolConfig,
                       .version = v2 ? envoy_ProxyProtocolConfig_V2 : envoy_ProxyProtocolConfig_V1),
        .transport_socket = inner ? inner : o->b->t->raw_buffer);

    return MAKE(o->b, envoy_TransportSocket,
                .name = SV("envoy.transport_sockets.upstream_proxy_protocol"),
                .which_config_type = envoy_TransportSocket_typed_config_tag,
                .typed_config = pb_any_pack(&envoy_ProxyProtocolUpstreamTransport_pb, p, o->b->a));
}

static void apply_proxy_protocol(struct outbound *o)
{
    for (uint32_t i = 0; i < o->c->transport_socket_matches.n; i++) {
        struct envoy_Cluster_TransportSocketMatch *m =
            build_copy(o->b, o->c->transport_socket_matches.v[i], sizeof *m);
        m->transport_socket = proxied(o, m->transport_socket);
        o->c->transport_socket_matches.v[i] = m;
    }
    if (!o->c->transport_socket_matches.n)
        o->c->transport_socket = proxied(o, o->c->transport_socket);
}

void cluster_apply_tls(struct outbound *o)
{
    const struct istio_ClientTLSSettings *tls = o->policy.tls;

    if (!tls)
        automatic(o);
    else if (tls->mode == istio_ClientTLSSettings_ISTIO_MUTUAL)
        o->c->transport_socket = cluster_mesh_tls(o, tls);
    else if (tls->mode != istio_ClientTLSSettings_DISABLE)
        o->c->transport_socket = user_tls(o, tls);
    name_by_request(o);
    if (o->policy.proxy_protocol)
        apply_proxy_protocol(o);
}
