/* transport_socket and transport_socket_matches: what stands between a connection and the bytes. */
#include "upstream/cluster_config_private.h"

#include "api/google.pb.h"
#include "api/pb_struct.h"

static int read_one(struct config_reader *r, const struct envoy_TransportSocket *s,
                    const char *path, struct cluster_transport *out);

/* PROXY protocol around another transport socket. */
static int read_proxy(struct config_reader *r, const struct envoy_TransportSocket *s,
                      const char *path, struct cluster_transport *out)
{
    struct envoy_ProxyProtocolUpstreamTransport *p;
    const char *field = arena_printf(&r->cfg->arena, "%s.typed_config", path).p;
    int rc = config_any(r, s->typed_config, &envoy_ProxyProtocolUpstreamTransport_pb, field, &p);
    if (rc)
        return rc;
    if (out->proxy_protocol)
        return config_refuse(r, "%s: PROXY protocol inside PROXY protocol", field);
    if (p->config && p->config->pass_through_tlvs)
        return config_refuse(r, "%s.config.pass_through_tlvs", field);
    if (!p->transport_socket)
        return config_invalid(r, "%s.transport_socket: required", field);
    out->proxy_protocol = p->config && p->config->version == envoy_ProxyProtocolConfig_V2 ? 2 : 1;
    return read_one(r, p->transport_socket,
                    arena_printf(&r->cfg->arena, "%s.transport_socket", field).p, out);
}

static int read_one(struct config_reader *r, const struct envoy_TransportSocket *s,
                    const char *path, struct cluster_transport *out)
{
    if (!s) {
        out->tls = NULL;
        return 0;
    }
    const char *field = arena_printf(&r->cfg->arena, "%s.typed_config", path).p;
    if (!s->typed_config) {
        /* Istio names the plain one without a configuration. */
        if (sv_eq(s->name, SV("raw_buffer")) ||
            sv_eq(s->name, SV("envoy.transport_sockets.raw_buffer")))
            return 0;
        return config_invalid(r, "%s: required", field);
    }
    sv type = pb_any_type(s->typed_config->type_url);
    if (sv_eq(type, SV("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))) {
        struct envoy_RawBuffer *raw;
        return config_any(r, s->typed_config, &envoy_RawBuffer_pb, field, &raw);
    }
    if (sv_eq(type, SV("envoy.extensions.transport_sockets.proxy_protocol.v3."
                       "ProxyProtocolUpstreamTransport")))
        return read_proxy(r, s, path, out);
    if (!sv_eq(type, SV("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext")))
        return config_refuse(r, "%s: transport socket '%.*s' of type '%.*s'", field,
                             SV_ARG(s->name), SV_ARG(type));
    struct envoy_UpstreamTlsContext *u;
    int rc = config_any(r, s->typed_config, &envoy_UpstreamTlsContext_pb, field, &u);
    if (rc == 0)
        out->tls = u;
    out->path = path;
    return rc;
}

static int read_match(struct config_reader *r, uint32_t i)
{
    const struct envoy_Cluster_TransportSocketMatch *m = r->cfg->pb->transport_socket_matches.v[i];
    struct cluster_transport *t = &r->cfg->transports[i + 1];
    t->name = m->name;
    t->match = m->match;
    t->path = arena_printf(&r->cfg->arena, "transport_socket_matches[%u].transport_socket", i).p;
    if (m->name.n == 0)
        return config_invalid(r, "transport_socket_matches[%u].name: must not be empty", i);
    if (!m->match) /* matches every endpoint */
        t->match = arena_new(&r->cfg->arena, struct google_Struct);
    return read_one(r, m->transport_socket, t->path, t);
}

int config_read_transports(struct config_reader *r)
{
    struct cluster_config *c = r->cfg;
    c->n_transports = c->pb->transport_socket_matches.n + 1;
    c->transports = arena_array(&c->arena, struct cluster_transport, c->n_transports);
    c->transports[0].path = "transport_socket";
    bool any_plain = false;
    int rc = read_one(r, c->pb->transport_socket, c->transports[0].path, &c->transports[0]);
    for (uint32_t i = 0; rc == 0 && i < c->pb->transport_socket_matches.n; i++)
        rc = read_match(r, i);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < c->n_transports; i++)
        any_plain = any_plain || !c->transports[i].tls;
    if (c->http.protocol == CLUSTER_HTTP_ALPN && any_plain)
        return config_invalid(r, "auto_config: needs a transport socket that negotiates the "
                                 "protocol (TLS) everywhere");
    return 0;
}

/* ---- choosing by metadata ---- */

static const struct google_Struct *socket_metadata(const struct envoy_Metadata *m)
{
    for (uint32_t i = 0; m && i < m->filter_metadata.n; i++)
        if (sv_eq(m->filter_metadata.v[i]->key, SV("envoy.transport_socket_match")))
            return m->filter_metadata.v[i]->value;
    return NULL;
}

uint32_t cluster_config_transport(const void *arg, const struct envoy_Metadata *m)
{
    const struct cluster_config *c = arg;
    const struct google_Struct *have = socket_metadata(m);
    for (uint32_t i = 1; i < c->n_transports; i++) {
        const struct google_Struct *want = c->transports[i].match;
        uint32_t k = 0;
        while (k < want->fields.n) {
            const struct google_Value *v = pb_struct_get(have, want->fields.v[k]->key);
            if (!v || !pb_value_equal(want->fields.v[k]->value, v))
                break;
            k++;
        }
        if (k == want->fields.n)
            return i;
    }
    return 0;
}
