/* CDS: one cluster for each port of each visible service, one more for each subset; the inbound
 * clusters of the proxy's own workload; the two that let everything else through or nowhere. */
#include "api/pb_struct.h"
#include "mesh/translate/cluster.h"

/* ---- outbound ---- */

/* The service behind the cluster, for whoever names it in metrics: Istio's form. */
static const struct envoy_Metadata *service_metadata(struct build *b,
                                                     const struct model_service *svc)
{
    struct google_Struct *fields = pb_struct_new(b->a, 3);

    pb_struct_put_text(fields, b->a, SV("host"), svc->host);
    pb_struct_put_text(fields, b->a, SV("name"), svc->name);
    pb_struct_put_text(fields, b->a, SV("namespace"), svc->ns);
    struct google_Value *one =
        MAKE(b, google_Value, .which_kind = google_Value_struct_value_tag, .struct_value = fields);
    struct google_Value *list =
        MAKE(b, google_Value, .which_kind = google_Value_list_value_tag,
             .list_value = MAKE(b, google_ListValue, .values = {build_one(b, one), 1}));
    struct google_Struct *s = pb_struct_new(b->a, 1);
    pb_struct_put(s, b->a, SV("services"), list);
    struct envoy_Metadata_FilterMetadataEntry *e =
        MAKE(b, envoy_Metadata_FilterMetadataEntry, .key = SV("istio"), .value = s);
    return MAKE(b, envoy_Metadata, .filter_metadata = {build_one(b, e), 1});
}

/* How endpoints are found. */
static void apply_discovery(struct outbound *o)
{
    struct envoy_Cluster_EdsClusterConfig *eds;
    bool one = o->svc->resolution == MODEL_RESOLVE_DNS_ONE;

    switch (o->svc->resolution) {
    case MODEL_RESOLVE_NONE:
        build_original_dst(o->c);
        if (o->port->target_port && o->port->target_port != o->port->port) {
            o->c->which_lb_config = envoy_Cluster_original_dst_lb_config_tag;
            o->c->original_dst_lb_config =
                MAKE(o->b, envoy_Cluster_OriginalDstLbConfig,
                     .upstream_port_override = build_u32(o->b, o->port->target_port));
        }
        break;
    case MODEL_RESOLVE_DNS:
    case MODEL_RESOLVE_DNS_ONE:
        o->c->type = one ? envoy_Cluster_LOGICAL_DNS : envoy_Cluster_STRICT_DNS;
        o->c->eds_cluster_config = NULL;
        o->c->dns_lookup_family = envoy_Cluster_V4_PREFERRED;
        o->c->dns_refresh_rate = build_ms(o->b, 60000);
        o->c->dns_jitter = build_ms(o->b, 100);
        o->c->respect_dns_ttl = true;
        o->c->load_assignment =
            build_assignment(o->b, o->svc, o->port->port, o->subset, o->c->name);
        break;
    default:
        eds = build_copy(o->b, o->c->eds_cluster_config, sizeof *eds);
        eds->service_name = o->c->name;
        o->c->eds_cluster_config = eds;
    }
}

static void emit_outbound(struct build *b, const struct model_service *svc,
                          const struct model_port *port, sv subset)
{
    struct outbound o = {.b = b, .svc = svc, .port = port, .subset = subset};

    o.policy = build_policy(b, svc, port->port, subset);
    o.c = build_copy(b, b->t->cluster_outbound, sizeof *o.c);
    o.c->name = translate_cluster_name(b->a, "outbound", port->port, subset, svc->host);
    o.c->metadata = service_metadata(b, svc);
    apply_discovery(&o);
    cluster_init_http(&o);
    cluster_apply_pool(&o);
    cluster_apply_outliers(&o);
    cluster_apply_balancer(&o);
    cluster_apply_tls(&o);
    cluster_finish_http(&o);
    build_emit(b, o.c->name, &envoy_Cluster_pb, o.c);
}

/* Pods of a headless service, each by its own address. */
static void emit_pods(struct build *b, const struct model_service *svc,
                      const struct model_port *port)
{
    struct outbound o = {.b = b, .svc = svc, .port = port};

    if (!build_pods(b, svc, port))
        return;
    o.policy = build_policy(b, svc, port->port, (sv){NULL, 0});
    o.c = build_copy(b, b->t->cluster_outbound, sizeof *o.c);
    o.c->name = build_pods_cluster(b, svc, port->port);
    o.c->metadata = service_metadata(b, svc);
    build_original_dst(o.c);
    cluster_init_http(&o);
    cluster_apply_pool(&o);
    cluster_apply_outliers(&o);
    o.c->transport_socket = cluster_mesh_tls(&o, o.policy.tls);
    cluster_finish_http(&o);
    build_emit(b, o.c->name, &envoy_Cluster_pb, o.c);
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
            emit_pods(&b, svc, port);
            for (uint32_t s = 0; r && s < r->subsets.n; s++)
                emit_outbound(&b, svc, port, r->subsets.v[s]->name);
        }
    }
    build_tracing_cluster(&b);
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
        struct outbound o = {.b = &b, .port = &as, .c = c};
        const struct istio_Sidecar *s = build_sidecar(&b);
        if (s)
            o.policy.connection_pool = s->inbound_connection_pool;
        c->name = translate_cluster_name(a, "inbound", ports[i].port, (sv){NULL, 0}, (sv){NULL, 0});
        c->metadata = service_metadata(&b, ports[i].svc);
        cluster_init_http(&o);
        cluster_apply_pool(&o);
        cluster_finish_http(&o);
        build_emit(&b, c->name, &envoy_Cluster_pb, c);
    }
    emit_passthrough(&b, "InboundPassthroughCluster");
}
