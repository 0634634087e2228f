/* EDS and the name table. */
#include <string.h>
#include "mesh/translate/locality.h"

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

static const struct envoy_Address *address_of(struct build *b, const struct model_endpoint *e)
{
    sv unix_ = SV("unix://");

    if (!sv_starts(e->address, unix_))
        return build_address(b, e->address, e->port);
    return MAKE(b, envoy_Address, .which_address = envoy_Address_pipe_tag,
                .pipe = MAKE(b, envoy_Pipe, .path = sv_from(e->address, unix_.n)));
}

/* One that terminates but still serves gets no new work as long as another one is ready; as the
 * last one it is better than nobody (as kube-proxy has it, KEP-1669). */
static int32_t status_of(const struct model_endpoint *e, bool any_ready)
{
    if (e->draining)
        return any_ready ? envoy_HealthStatus_DRAINING : envoy_HealthStatus_HEALTHY;
    return e->healthy ? envoy_HealthStatus_HEALTHY : envoy_HealthStatus_UNHEALTHY;
}

static bool any_ready(const struct locality_group *g, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < g[i].n; k++) {
            if (g[i].v[k]->healthy && !g[i].v[k]->draining)
                return true;
        }
    }
    return false;
}

static const struct envoy_LbEndpoint *lb_endpoint(struct build *b, const struct model_endpoint *e,
                                                  bool any_ready)
{
    struct envoy_Endpoint *ep = MAKE(b, envoy_Endpoint, .address = address_of(b, e));
    return MAKE(b, envoy_LbEndpoint, .which_host_identifier = envoy_LbEndpoint_endpoint_tag,
                .endpoint = ep, .health_status = status_of(e, any_ready),
                .metadata = metadata(b, e), .load_balancing_weight = build_u32(b, e->weight));
}

static const struct envoy_LocalityLbEndpoints *locality(struct build *b,
                                                        const struct model_service *svc,
                                                        const struct locality_group *g,
                                                        bool any_ready)
{
    struct envoy_LocalityLbEndpoints *l =
        MAKE(b, envoy_LocalityLbEndpoints, .load_balancing_weight = build_u32(b, g->weight),
             .priority = g->priority);
    const struct envoy_LbEndpoint **list = arena_array(b->a, const struct envoy_LbEndpoint *, g->n);

    l->locality =
        MAKE(b, envoy_Locality, .region = g->region, .zone = g->zone, .sub_zone = g->sub_zone);
    l->lb_endpoints.v = list;
    for (uint32_t i = 0; i < (svc->resolution == MODEL_RESOLVE_DNS_ONE ? 1 : g->n); i++) {
        /* gRPC refuses an assignment that has anything but IP addresses. */
        if (!b->p->grpc || !sv_starts(g->v[i]->address, SV("unix://")))
            list[l->lb_endpoints.n++] = lb_endpoint(b, g->v[i], any_ready);
    }
    return l;
}

const struct envoy_ClusterLoadAssignment *build_assignment(struct build *b,
                                                           const struct model_service *svc,
                                                           uint16_t port, sv subset, sv cluster)
{
    struct envoy_ClusterLoadAssignment *cla =
        MAKE(b, envoy_ClusterLoadAssignment, .cluster_name = cluster);
    const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port);
    const struct istio_Subset *s = subset.n ? build_subset(build_rule(b, svc), subset) : NULL;
    struct istio_TrafficPolicy policy = build_policy(b, svc, port, subset);
    const struct envoy_LocalityLbEndpoints **list;
    struct locality_group *g;
    uint32_t n;

    if (!eps)
        return cla;
    g = locality_groups(b, &policy, eps, s, &n);
    list = arena_array(b->a, const struct envoy_LocalityLbEndpoints *, n + 1);
    bool ready = any_ready(g, n);
    for (uint32_t i = 0; i < n; i++) {
        if (g[i].n)
            list[cla->endpoints.n++] = locality(b, svc, &g[i], ready);
        /* A logical name is one endpoint. */
        if (svc->resolution == MODEL_RESOLVE_DNS_ONE && cla->endpoints.n)
            break;
    }
    cla->endpoints.v = list;
    return cla;
}

/* Where no connection is ever made, port 0. Without any endpoint at first, gRPC for Go up to 1.64
 * lets calls wait for one. */
static const struct envoy_ClusterLoadAssignment *nobody(struct build *b, sv cluster)
{
    struct envoy_Endpoint *ep =
        MAKE(b, envoy_Endpoint, .address = build_address(b, SV("127.0.0.1"), 0));
    struct envoy_LbEndpoint *one =
        MAKE(b, envoy_LbEndpoint, .which_host_identifier = envoy_LbEndpoint_endpoint_tag,
             .endpoint = ep);
    struct envoy_LocalityLbEndpoints *l = MAKE(
        b, envoy_LocalityLbEndpoints, .locality = MAKE0(b, envoy_Locality),
        .load_balancing_weight = build_u32(b, 1), .lb_endpoints = {.v = build_one(b, one), .n = 1});

    return MAKE(b, envoy_ClusterLoadAssignment, .cluster_name = cluster,
                .endpoints = {.v = build_one(b, l), .n = 1});
}

bool translate_endpoints(const struct translate *t, const struct model *m,
                         const struct translate_proxy *p, sv cluster, struct arena *a, sv *packed)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a};
    const struct model_service *svc;
    sv direction, subset, host;
    uint16_t port;

    if (!translate_cluster_parse(cluster, &direction, &port, &subset, &host))
        return false;
    svc = model_service_find(m, host);
    if (p->grpc && sv_eq_c(direction, "refused") && svc && !subset.n) {
        *packed = pb_encode_arena(&envoy_ClusterLoadAssignment_pb, nobody(&b, cluster), a);
        return true;
    }
    if (!sv_eq_c(direction, "outbound"))
        return false;
    if (!svc || !model_endpoints_find(m, host, port) || !build_visible(&b, svc) ||
        svc->resolution != MODEL_RESOLVE_ENDPOINTS)
        return false;
    if (subset.n && !build_subset(build_rule(&b, svc), subset))
        return false;
    *packed = pb_encode_arena(&envoy_ClusterLoadAssignment_pb,
                              build_assignment(&b, svc, port, subset, cluster), a);
    return true;
}

/* ---- names ---- */

struct names {
    const struct istio_NameTable_TableEntry **v;
    uint32_t n;
};

static void add_name(struct build *b, struct names *out, const struct model_service *svc, sv name,
                     const sv *ips, uint32_t n)
{
    struct istio_NameTable_NameInfo *info;

    if (!n)
        return;
    info = MAKE(b, istio_NameTable_NameInfo, .ips = {.v = (sv *)ips, .n = n},
                .registry = svc->entry ? SV("External") : SV("Kubernetes"));
    if (!svc->entry && sv_eq(name, svc->host)) {
        info->shortname = svc->name;
        info->namespace = svc->ns;
    }
    out->v[out->n++] = MAKE(b, istio_NameTable_TableEntry, .key = name, .value = info);
}

/* A headless service is its endpoints; each has a name of its own below it. */
static void add_headless(struct build *b, struct names *out, const struct model_service *svc,
                         const struct model_endpoints *eps)
{
    sv *ips = arena_array(b->a, sv, eps->n + 1);
    uint32_t n = 0;

    for (uint32_t e = 0; e < eps->n; e++) {
        const struct model_endpoint *ep = &eps->v[e];
        if (!ep->healthy)
            continue;
        ips[n++] = ep->address;
        if (ep->workload.n)
            add_name(b, out, svc,
                     arena_printf(b->a, "%.*s.%.*s", SV_ARG(ep->workload), SV_ARG(svc->host)),
                     &ips[n - 1], 1);
    }
    add_name(b, out, svc, svc->host, ips, n);
}

static const struct model_endpoints *first_port(const struct model *m,
                                                const struct model_service *svc)
{
    return svc->spec->n_ports ? model_endpoints_find(m, svc->host, svc->spec->ports[0].port) : NULL;
}

sv translate_names(const struct translate *t, const struct model *m,
                   const struct translate_proxy *p, struct arena *a)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a};
    struct istio_NameTable table = {0};
    struct names out = {0};
    uint32_t most = m->n_services + 1;

    for (uint32_t i = 0; i < m->n_services; i++) {
        const struct model_endpoints *eps = first_port(m, m->service_list[i]);
        most += m->service_list[i]->spec->headless && eps ? eps->n : 0;
    }
    out.v = arena_array(a, const struct istio_NameTable_TableEntry *, most);
    for (uint32_t i = 0; i < m->n_services; i++) {
        const struct model_service *svc = m->service_list[i];
        const struct model_endpoints *eps = first_port(m, svc);
        if (!build_visible(&b, svc))
            continue;
        if (svc->n_addresses)
            add_name(&b, &out, svc, svc->host, svc->addresses, svc->n_addresses);
        else if (svc->vip.n)
            add_name(&b, &out, svc, svc->host, &svc->vip, 1);
        else if (svc->spec->headless && eps)
            add_headless(&b, &out, svc, eps);
    }
    table.table.v = out.v;
    table.table.n = out.n;
    return pb_encode_arena(&istio_NameTable_pb, &table, a);
}
