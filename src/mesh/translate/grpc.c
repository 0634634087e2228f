/* Listeners and names of proxyless gRPC clients, and their problems. */
#include "mesh/translate/grpc.h"
#include "base/strbuf.h"

void grpc_report(struct grpc_build *g, const struct model_object *o, sv field, const char *what)
{
    struct model_problem p = {.severity = MODEL_WARNING,
                              .kind = o->kind,
                              .has_object = true,
                              .ns = o->ns,
                              .name = o->name,
                              .file = o->file,
                              .line = o->line,
                              .field = field,
                              .code = SV("GrpcUnsupported")};

    if (!g->report)
        return;
    p.text =
        arena_printf(g->b.a, "%s %.*s/%.*s: %.*s: gRPC clients without a sidecar %s",
                     model_kind_name(o->kind), SV_ARG(o->ns), SV_ARG(o->name), SV_ARG(field), what);
    g->report(g->arg, &p);
}

/* ---- names ---- */

/* The service and port that a cluster or route configuration is named for. */
static const struct model_service *named(struct build *b, sv name, sv *direction, sv *subset,
                                         const struct model_port **port)
{
    const struct model_service *svc;
    sv host;
    uint16_t number;

    if (!translate_cluster_parse(name, direction, &number, subset, &host) ||
        !(sv_eq_c(*direction, "outbound") || (sv_eq_c(*direction, "refused") && !subset->n)))
        return NULL;
    svc = model_service_find(b->m, host);
    *port = svc ? build_port(svc, number) : NULL;
    if (!*port || (*port)->protocol == MODEL_UDP || !build_visible(b, svc))
        return NULL;
    return svc;
}

/* "host:80", also short ("flaskapp:80") as seen from the client's namespace. */
static const struct model_service *target(struct build *b, sv name, uint16_t *port)
{
    ptrdiff_t colon = sv_rfind(name, ':');
    const struct model_service *svc;
    uint64_t n;

    if (colon <= 0 || sv_to_u64(sv_from(name, (size_t)colon + 1), &n) || n > 65535)
        return NULL;
    *port = (uint16_t)n;
    svc = model_service_find(
        b->m,
        model_host_resolve(b->m, arena_lower(b->a, sv_first(name, (size_t)colon)), b->p->ns, b->a));
    return svc && build_port(svc, *port) && build_visible(b, svc) ? svc : NULL;
}

/* ---- the listener ---- */

static bool listener(struct build *b, sv name, sv *packed)
{
    uint16_t port;
    const struct model_service *svc = target(b, name, &port);
    struct envoy_HttpFilter *router;
    struct envoy_ConfigSource *ads;
    struct envoy_Rds *rds;
    struct envoy_HttpConnectionManager *h;
    struct envoy_Listener l = {.name = name};

    if (!svc)
        return false;
    router = MAKE(b, envoy_HttpFilter, .name = SV("envoy.filters.http.router"),
                  .which_config_type = envoy_HttpFilter_typed_config_tag,
                  .typed_config = pb_any_pack(&envoy_Router_pb, MAKE0(b, envoy_Router), b->a));
    ads = MAKE(b, envoy_ConfigSource, .resource_api_version = envoy_ApiVersion_V3,
               .which_config_source_specifier = envoy_ConfigSource_ads_tag,
               .ads = MAKE0(b, envoy_AggregatedConfigSource));
    rds = MAKE(b, envoy_Rds, .config_source = ads,
               .route_config_name =
                   translate_cluster_name(b->a, "outbound", port, (sv){NULL, 0}, svc->host));
    h = MAKE(b, envoy_HttpConnectionManager, .stat_prefix = rds->route_config_name,
             .which_route_specifier = envoy_HttpConnectionManager_rds_tag, .rds = rds,
             .http_filters = {.v = build_one(b, router), .n = 1});
    l.api_listener = MAKE(b, envoy_ApiListener,
                          .api_listener = pb_any_pack(&envoy_HttpConnectionManager_pb, h, b->a));
    *packed = pb_encode_arena(&envoy_Listener_pb, &l, b->a);
    return true;
}

/* ---- one resource by name ---- */

bool translate_grpc(const struct translate *t, const struct model *m,
                    const struct translate_proxy *p, enum translate_grpc_type type, sv name,
                    struct arena *a, sv *packed, translate_problem report, void *arg)
{
    struct grpc_build g = {.b = {.t = t, .m = m, .p = p, .a = a}, .report = report, .arg = arg};
    const struct model_service *svc;
    const struct model_port *port;
    const struct envoy_RouteConfiguration *rc;
    const struct envoy_Cluster *c;
    sv direction, subset;
    bool refused;

    if (type == TRANSLATE_GRPC_LISTENER)
        return listener(&g.b, name, packed);
    svc = named(&g.b, name, &direction, &subset, &port);
    if (!svc)
        return false;
    refused = sv_eq_c(direction, "refused");
    if (type == TRANSLATE_GRPC_CLUSTER) {
        c = refused ? grpc_refused_cluster(&g, name) : grpc_cluster(&g, svc, port, subset, name);
        if (c)
            *packed = pb_encode_arena(&envoy_Cluster_pb, c, a);
        return c != NULL;
    }
    if (subset.n || refused)
        return false;
    rc = grpc_routes(&g, svc, port->port, name);
    *packed = pb_encode_arena(&envoy_RouteConfiguration_pb, rc, a);
    return true;
}
