/* RDS: virtual hosts for the services of a port. */
#include "mesh/translate/internal.h"

/* ---- virtual hosts ---- */

static sv as_domain(struct build *b, sv address)
{
    return sv_find(address, ':') >= 0 ? arena_printf(b->a, "[%.*s]", SV_ARG(address)) : address;
}

/* All forms under which the host is known here: a.b.svc.cluster.local, a.b.svc, a.b, a (in its own
 * namespace), and its addresses; a ServiceEntry's host has no short forms. Ports are ignored when
 * matching. */
static uint32_t domains_of(struct build *b, const struct model_service *svc, sv *out)
{
    uint32_t n = 0;

    out[n++] = svc->host;
    if (!svc->entry) {
        if (sv_eq(svc->ns, b->p->ns))
            out[n++] = svc->name;
        out[n++] = arena_printf(b->a, "%.*s.%.*s", SV_ARG(svc->name), SV_ARG(svc->ns));
        out[n++] = arena_printf(b->a, "%.*s.%.*s.svc", SV_ARG(svc->name), SV_ARG(svc->ns));
    }
    for (uint32_t i = 0; i < svc->n_addresses; i++)
        out[n++] = as_domain(b, svc->addresses[i]);
    if (!svc->n_addresses && svc->vip.n)
        out[n++] = as_domain(b, svc->vip);
    if (svc->host.p[0] != '*')
        out[n++] = arena_printf(b->a, "%.*s.", SV_ARG(svc->host)); /* absolute, as DNS writes it */
    return n;
}

/* The first VirtualService that names the host and has a rule for clients like this one; of
 * wildcards only the most specific. A host for which none has is routed to its service. */
static void service_routes(struct build *b, const struct model_service *svc, uint16_t port,
                           struct route_list *out)
{
    struct model_virtual_list l = build_http_virtuals(b, svc->host);

    for (uint32_t i = 0; i < l.n; i++) {
        if (build_http_routes(b, l.v[i], port, out))
            return;
    }
    build_default_route(b, translate_cluster_name(b->a, "outbound", port, (sv){NULL, 0}, svc->host),
                        out);
}

static const struct envoy_VirtualHost *virtual_host(struct build *b, struct map *taken,
                                                    const struct model_service *svc, uint16_t port)
{
    struct route_list routes = {0};
    sv *domains = arena_array(b->a, sv, svc->n_addresses + 8);
    sv *candidates = arena_array(b->a, sv, svc->n_addresses + 8);
    uint32_t n = domains_of(b, svc, candidates), kept = 0;

    /* Two addresses alike, or a service called as another one's short form: the first keeps it. */
    for (uint32_t i = 0; i < n; i++) {
        if (map_has(taken, candidates[i]))
            continue;
        map_put(taken, candidates[i], domains);
        domains[kept++] = candidates[i];
    }
    service_routes(b, svc, port, &routes);
    return MAKE(b, envoy_VirtualHost,
                .name = arena_printf(b->a, "%.*s:%u", SV_ARG(svc->host), port),
                .domains = {.v = domains, .n = kept}, .routes = {.v = routes.v, .n = routes.n},
                .include_request_attempt_count = true);
}

/* Requests to single pods of a headless service: over mTLS to those that have a sidecar, in plain
 * text to the others; by their addresses, and, where all pods are of one kind, by their names below
 * the service's. NULL: nothing to say. */
static const struct envoy_VirtualHost *pods_host(struct build *b, struct map *taken,
                                                 const struct model_service *svc,
                                                 const struct model_port *port, bool mtls)
{
    const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port->port);
    bool any = build_pods(b, svc, port);
    sv *domains, kind = mtls ? SV("pods") : SV("plain-pods");
    uint32_t n = 0, fit = 0;
    struct route_list routes = {0};

    if (!eps || !svc->spec->headless || svc->entry || (mtls && !any))
        return NULL;
    domains = arena_array(b->a, sv, eps->n + 1);
    for (uint32_t i = 0; i < eps->n; i++) {
        sv ip = as_domain(b, eps->v[i].address);
        if ((any && eps->v[i].tls) != mtls)
            continue;
        fit++;
        if (!map_has(taken, ip)) {
            map_put(taken, ip, domains);
            domains[n++] = ip;
        }
    }
    if (fit && fit == eps->n)
        domains[n++] = arena_printf(b->a, "*.%.*s", SV_ARG(svc->host));
    if (!n)
        return NULL;
    build_default_route(b, mtls ? build_pods_cluster(b, svc, port->port) : SV("PassthroughCluster"),
                        &routes);
    return MAKE(b, envoy_VirtualHost,
                .name =
                    arena_printf(b->a, "%.*s.%.*s:%u", SV_ARG(kind), SV_ARG(svc->host), port->port),
                .domains = {.v = domains, .n = n}, .routes = {.v = routes.v, .n = routes.n},
                .include_request_attempt_count = true);
}

/* Whatever no service claims goes where it was going. */
static const struct envoy_VirtualHost *allow_any(struct build *b)
{
    struct envoy_RouteAction *a =
        MAKE(b, envoy_RouteAction, .which_cluster_specifier = envoy_RouteAction_cluster_tag,
             .cluster = SV("PassthroughCluster"), .timeout = build_ms(b, 0));
    struct envoy_Route *r =
        MAKE(b, envoy_Route, .name = SV("allow_any"), .match = build_route_match(b, NULL),
             .which_action = envoy_Route_route_tag, .route = a);
    sv *star = arena_array(b->a, sv, 1);
    star[0] = SV("*");
    return MAKE(b, envoy_VirtualHost, .name = SV("allow_any"), .domains = {.v = star, .n = 1},
                .routes = {.v = build_one(b, r), .n = 1}, .include_request_attempt_count = true);
}

/* Or is not reached. */
static const struct envoy_VirtualHost *block_all(struct build *b)
{
    struct envoy_Route *r =
        MAKE(b, envoy_Route, .name = SV("block_all"), .match = build_route_match(b, NULL),
             .which_action = envoy_Route_direct_response_tag,
             .direct_response = MAKE(b, envoy_DirectResponseAction, .status = 502));
    sv *star = arena_array(b->a, sv, 1);
    star[0] = SV("*");
    return MAKE(b, envoy_VirtualHost, .name = SV("block_all"), .domains = {.v = star, .n = 1},
                .routes = {.v = build_one(b, r), .n = 1}, .include_request_attempt_count = true);
}

struct hosts {
    const struct envoy_VirtualHost **v;
    uint32_t n;
};

static void hosts_of_port(struct build *b, uint16_t port, const struct model_service *only,
                          struct map *taken, struct hosts *out)
{
    for (uint32_t i = 0; i < b->m->n_services; i++) {
        const struct model_service *svc = b->m->service_list[i];
        const struct model_port *p = build_port(svc, port);
        if (!p || !build_visible(b, svc) || (only && only != svc))
            continue;
        if (model_protocol_is_http(p->protocol) ||
            (p->protocol == MODEL_AUTO && (only || build_on_wildcard(b, svc)))) {
            const struct envoy_VirtualHost *pods[2] = {pods_host(b, taken, svc, p, true),
                                                       pods_host(b, taken, svc, p, false)};
            out->v[out->n++] = virtual_host(b, taken, svc, port);
            for (int k = 0; k < 2; k++) {
                if (pods[k])
                    out->v[out->n++] = pods[k];
            }
        }
    }
}

/* A service that the proxy sees has the host, or one that the wildcard takes. *here: on the port.
 */
static bool service_has(struct build *b, sv host, uint16_t port, bool *here)
{
    const struct model_service *svc = model_service_find(b->m, host);
    bool found = svc && build_visible(b, svc);

    *here |= found && build_port(svc, port);
    for (uint32_t i = 0; !svc && host.n && host.p[0] == '*' && i < b->m->n_services; i++) {
        if (!model_wildcard_matches(host, b->m->service_list[i]->host) ||
            !build_visible(b, b->m->service_list[i]))
            continue;
        found = true;
        *here |= build_port(b->m->service_list[i], port) != NULL;
    }
    return found;
}

/* Hosts of VirtualServices that no service has: they are routed on the ports of the other hosts of
 * their VirtualService, and on port 80. */
static void other_hosts(struct build *b, uint16_t port, struct map *taken, struct hosts *out)
{
    for (uint32_t i = 0; i < b->m->virtuals.n; i++) {
        const struct model_virtual *v = b->m->virtuals.v[i];
        struct route_list routes = {0};
        sv *domains = arena_array(b->a, sv, v->spec->hosts.n);
        uint32_t n = 0;
        bool here = port == 80;
        for (uint32_t h = 0; h < v->spec->hosts.n; h++) {
            if (!service_has(b, v->hosts[h], port, &here) && !map_has(taken, v->hosts[h]))
                domains[n++] = as_domain(b, v->hosts[h]);
        }
        if (!n || !here || !build_virtual_usable(b, v) || !build_http_routes(b, v, port, &routes))
            continue;
        for (uint32_t h = 0; h < n; h++)
            map_put(taken, domains[h], domains);
        out->v[out->n++] = MAKE(
            b, envoy_VirtualHost, .name = arena_printf(b->a, "%.*s:%u", SV_ARG(domains[0]), port),
            .domains = {.v = domains, .n = n}, .routes = {.v = routes.v, .n = routes.n},
            .include_request_attempt_count = true);
    }
}

/* The virtual hosts of "80" or "host:port". */
static struct hosts hosts_of(struct build *b, sv name)
{
    struct hosts hosts = {.v = arena_array(b->a, const struct envoy_VirtualHost *,
                                           b->m->n_services * 3 + b->m->virtuals.n + 1)};
    const struct model_service *only = NULL;
    struct map taken;
    sv port_text = name;
    ptrdiff_t colon = sv_rfind(name, ':');
    uint64_t port;

    if (colon >= 0) {
        only = model_service_find(b->m, sv_first(name, (size_t)colon));
        port_text = sv_from(name, (size_t)colon + 1);
        if (!only)
            return hosts;
    }
    if (sv_to_u64(port_text, &port) || port > 65535)
        return hosts;
    map_init_borrow(&taken);
    hosts_of_port(b, (uint16_t)port, only, &taken, &hosts);
    if (hosts.n && !only)
        other_hosts(b, (uint16_t)port, &taken, &hosts);
    map_fini(&taken);
    if (hosts.n)
        hosts.v[hosts.n++] = build_registry_only(b) ? block_all(b) : allow_any(b);
    return hosts;
}

static sv pack_table(struct build *b, struct envoy_RouteConfiguration *rc)
{
    rc->ignore_port_in_host_matching = true;
    rc->max_direct_response_body_size_bytes = build_u32(b, 1 << 20);
    rc->validate_clusters = build_bool(b, false);
    return pb_encode_arena(&envoy_RouteConfiguration_pb, rc, b->a);
}

bool translate_routes(const struct translate *t, const struct model *m,
                      const struct translate_proxy *p, sv name, struct arena *a, sv *packed)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a};
    struct hosts hosts = hosts_of(&b, name);
    struct envoy_RouteConfiguration rc = {.name = name,
                                          .virtual_hosts = {.v = hosts.v, .n = hosts.n}};

    if (!hosts.n)
        return false;
    *packed = pack_table(&b, &rc);
    return true;
}

bool translate_routes_apart(const struct translate *t, const struct model *m,
                            const struct translate_proxy *p, sv name, struct arena *a,
                            translate_emit emit, void *arg, sv *packed)
{
    struct build b = {.t = t, .m = m, .p = p, .a = a, .emit = emit, .arg = arg};
    struct hosts hosts = hosts_of(&b, name);
    struct envoy_ConfigSource *ads =
        MAKE(&b, envoy_ConfigSource, .resource_api_version = envoy_ApiVersion_V3,
             .which_config_source_specifier = envoy_ConfigSource_ads_tag,
             .ads = MAKE0(&b, envoy_AggregatedConfigSource));
    struct envoy_RouteConfiguration rc = {.name = name,
                                          .vhds = MAKE(&b, envoy_Vhds, .config_source = ads)};

    if (!hosts.n)
        return false;
    for (uint32_t i = 0; i < hosts.n; i++) {
        struct envoy_VirtualHost v = *hosts.v[i];
        sv resource = arena_printf(a, "%.*s/%.*s", SV_ARG(name), SV_ARG(v.name));
        if (p->hosts == TRANSLATE_HOSTS_ENVOY)
            v.name = resource;
        build_emit(&b, resource, &envoy_VirtualHost_pb, &v);
    }
    *packed = pack_table(&b, &rc);
    return true;
}
