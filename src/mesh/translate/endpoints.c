/* EDS and the name table. */
#include <string.h>
#include "mesh/translate/internal.h"

static bool in_subset(const struct istio_Subset *s, const struct model_endpoint *e)
{
    for (uint32_t i = 0; s && i < s->labels.n; i++) {
        if (!sv_eq(model_labels_get(e->labels, s->labels.v[i]->key), s->labels.v[i]->value))
            return false;
    }
    return true;
}

/* tlsMode for the choice of transport socket, and the workload for whoever reads the dump. */
static const struct envoy_Metadata *metadata(struct build *b, const struct model_endpoint *e)
{
    struct envoy_Metadata *m = MAKE0(b, envoy_Metadata);
    const struct envoy_Metadata_FilterMetadataEntry **list =
        arena_array(b->a, const struct envoy_Metadata_FilterMetadataEntry *, 2);

    if (e->tls)
        list[m->filter_metadata.n++] =
            MAKE(b, envoy_Metadata_FilterMetadataEntry, .key = SV("envoy.transport_socket_match"),
                 .value = build_struct1(b, SV("tlsMode"), SV("istio")));
    list[m->filter_metadata.n++] =
        MAKE(b, envoy_Metadata_FilterMetadataEntry, .key = SV("istio"),
             .value = build_struct1(
                 b, SV("workload"),
                 arena_printf(b->a, "%.*s;%.*s;%.*s;%.*s;", SV_ARG(e->workload), SV_ARG(e->ns),
                              SV_ARG(model_labels_get(e->labels, SV("app"))),
                              SV_ARG(model_labels_get(e->labels, SV("version"))))));
    m->filter_metadata.v = list;
    return m;
}

static const struct envoy_LbEndpoint *lb_endpoint(struct build *b, const struct model_endpoint *e)
{
    struct envoy_Endpoint *ep =
        MAKE(b, envoy_Endpoint, .address = build_address(b, e->address, e->port));
    return MAKE(b, envoy_LbEndpoint, .which_host_identifier = envoy_LbEndpoint_endpoint_tag,
                .endpoint = ep,
                .health_status = e->draining  ? envoy_HealthStatus_DRAINING
                                 : e->healthy ? envoy_HealthStatus_HEALTHY
                                              : envoy_HealthStatus_UNHEALTHY,
                .metadata = metadata(b, e), .load_balancing_weight = build_u32(b, e->weight));
}

static bool same_locality(const struct model_endpoint *a, const struct model_endpoint *b)
{
    return sv_eq(a->region, b->region) && sv_eq(a->zone, b->zone) &&
           sv_eq(a->sub_zone, b->sub_zone);
}

/* All endpoints of the locality of `first`, from its place on. */
static const struct envoy_LocalityLbEndpoints *locality(struct build *b,
                                                        const struct model_endpoints *eps,
                                                        const struct istio_Subset *s,
                                                        const struct model_endpoint *first)
{
    struct envoy_LocalityLbEndpoints *l = MAKE0(b, envoy_LocalityLbEndpoints);
    const struct envoy_LbEndpoint **list =
        arena_array(b->a, const struct envoy_LbEndpoint *, eps->n);
    uint32_t weight = 0;

    for (const struct model_endpoint *e = first; e < eps->v + eps->n; e++) {
        if (!in_subset(s, e) || !same_locality(e, first))
            continue;
        list[l->lb_endpoints.n++] = lb_endpoint(b, e);
        weight += e->weight;
    }
    l->locality = MAKE(b, envoy_Locality, .region = first->region, .zone = first->zone,
                       .sub_zone = first->sub_zone);
    l->lb_endpoints.v = list;
    l->load_balancing_weight = build_u32(b, weight);
    return l;
}

bool translate_endpoints(const struct translate *t, const struct model *m,
                         const struct translate_proxy *p, sv cluster, struct arena *a, sv *packed)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a};
    struct envoy_ClusterLoadAssignment cla = {.cluster_name = cluster};
    const struct envoy_LocalityLbEndpoints **list;
    const struct model_service *svc;
    const struct model_endpoints *eps;
    const struct istio_Subset *s = NULL;
    sv direction, subset, host;
    uint16_t port;

    if (!translate_cluster_parse(cluster, &direction, &port, &subset, &host) ||
        !sv_eq_c(direction, "outbound"))
        return false;
    svc = model_service_find(m, host);
    eps = model_endpoints_find(m, host, port);
    if (!svc || !eps || !build_visible(&b, svc))
        return false;
    if (subset.n) {
        s = build_subset(build_rule(&b, svc), subset);
        if (!s)
            return false;
    }
    list = arena_array(a, const struct envoy_LocalityLbEndpoints *, eps->n + 1);
    for (uint32_t i = 0; i < eps->n; i++) {
        bool seen = false;
        if (!in_subset(s, &eps->v[i]))
            continue;
        for (uint32_t k = 0; k < i && !seen; k++)
            seen = in_subset(s, &eps->v[k]) && same_locality(&eps->v[i], &eps->v[k]);
        if (!seen)
            list[cla.endpoints.n++] = locality(&b, eps, s, &eps->v[i]);
    }
    cla.endpoints.v = list;
    *packed = pb_encode_arena(&envoy_ClusterLoadAssignment_pb, &cla, a);
    return true;
}

/* Services by name; a headless one is its endpoints. */
sv translate_names(const struct translate *t, const struct model *m,
                   const struct translate_proxy *p, struct arena *a)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a};
    struct istio_NameTable table = {0};
    const struct istio_NameTable_TableEntry **list =
        arena_array(a, const struct istio_NameTable_TableEntry *, m->n_services + 1);

    for (uint32_t i = 0; i < m->n_services; i++) {
        const struct model_service *svc = m->service_list[i];
        const struct model_endpoints *eps =
            svc->spec->n_ports ? model_endpoints_find(m, svc->host, svc->spec->ports[0].port)
                               : NULL;
        struct istio_NameTable_NameInfo *info;
        sv *ips = arena_array(a, sv, (eps ? eps->n : 0) + 1);
        uint32_t n = 0;

        if (!build_visible(&b, svc))
            continue;
        if (svc->vip.n)
            ips[n++] = svc->vip;
        for (uint32_t e = 0; !svc->vip.n && eps && e < eps->n; e++) {
            if (eps->v[e].healthy)
                ips[n++] = eps->v[e].address;
        }
        if (!n)
            continue;
        info = MAKE(&b, istio_NameTable_NameInfo, .ips = {.v = ips, .n = n},
                    .registry = SV("Kubernetes"), .shortname = svc->name, .namespace = svc->ns);
        list[table.table.n++] =
            MAKE(&b, istio_NameTable_TableEntry, .key = svc->host, .value = info);
    }
    table.table.v = list;
    return pb_encode_arena(&istio_NameTable_pb, &table, a);
}
