#include "filters/registry.h"

#include "api/google.pb.h"
#include "filters/http/router/router.h"
#include "filters/http/buffer/buffer.h"
#include "filters/http/cors/cors.h"
#include "filters/http/fault/fault.h"
#include "filters/http/grpc_stats/grpc_stats.h"
#include "filters/http/grpc_web/grpc_web.h"
#include "filters/http/header_mutation/header_mutation.h"
#include "filters/http/header_to_metadata/header_to_metadata.h"
#include "filters/http/health_check/health_check.h"
#include "filters/http/istio_stats/istio_stats.h"
#include "filters/http/peer_metadata/peer_metadata.h"
#include "filters/http/set_metadata/set_metadata.h"
#include "filters/listener/http_inspector/http_inspector.h"
#include "filters/listener/original_dst/original_dst.h"
#include "filters/listener/proxy_protocol/proxy_protocol.h"
#include "filters/listener/tls_inspector/tls_inspector.h"
#include "filters/network/http_connection_manager/http_connection_manager.h"
#include "filters/network/istio_stats/istio_stats.h"
#include "filters/network/tcp_proxy/tcp_proxy.h"

/* ================ the table ================ */

static const struct http_filter_type *const http_filters[] = {
    &http_buffer_type,
    &http_cors_type,
    &http_fault_type,
    &http_grpc_stats_type,
    &http_grpc_web_type,
    &http_header_mutation_type,
    &http_header_to_metadata_type,
    &http_health_check_type,
    &http_istio_stats_type,
    &http_peer_metadata_type,
    &http_router_type,
    &http_set_metadata_type,
};

static const struct network_filter_type *const network_filters[] = {
    &network_http_connection_manager_type,
    &network_istio_stats_type,
    &network_tcp_proxy_type,
};

static const struct listener_filter_type *const listener_filters[] = {
    &listener_http_inspector_type,
    &listener_original_dst_type,
    &listener_proxy_protocol_type,
    &listener_tls_inspector_type,
};

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))

/* ================ looking things up ================ */

static sv type_of(const struct google_Any *any)
{
    return any && any->type_url.n ? pb_any_type(any->type_url) : (sv){NULL, 0};
}

static bool is_it(const char *name, const char *type, sv want_name, sv want_type)
{
    if (want_type.n)
        return type && sv_eq_c(want_type, type);
    return sv_eq_c(want_name, name);
}

static int unknown(const struct filter_ctx *x, const char *category, sv name, sv type,
                   struct error *err)
{
    if (!type.n)
        return error_set(err, E_UNSUPPORTED,
                         "%s: there is no %s filter '%.*s', and typed_config does not say a type",
                         x->path ? x->path : category, category, SV_ARG(name));
    return error_set(err, E_UNSUPPORTED, "%s: %s filter '%.*s' has the type %.*s, which is not %s",
                     x->path ? x->path : category, category, SV_ARG(name), SV_ARG(type),
                     sv_eq_c(type, "envoy.extensions.filters.http.on_demand.v3.OnDemand")
                         ? "needed here: virtual hosts come when the control plane sends them"
                         : "supported");
}

static sv value_of(const struct google_Any *any)
{
    return any ? any->value : (sv){NULL, 0};
}

int registry_http(const struct filter_ctx *x, sv name, const struct google_Any *any,
                  struct http_filter_conf *out, struct error *err)
{
    sv type = type_of(any);
    for (size_t i = 0; i < COUNT(http_filters); i++) {
        const struct http_filter_type *t = http_filters[i];
        if (!is_it(t->name, t->config_type, name, type))
            continue;
        struct filter_ctx *in = filter_ctx_at(x, "typed_config");
        const void *config = NULL;
        int rc = t->parse ? t->parse(in, value_of(any), &config, err) : 0;
        if (rc < 0)
            return rc;
        *out = (struct http_filter_conf){.make = t->make,
                                         .config = config,
                                         .name = name,
                                         .kind = t->name,
                                         .terminal = t->terminal};
        return 0;
    }
    return unknown(x, "http", name, type, err);
}

int registry_network(const struct filter_ctx *x, sv name, const struct google_Any *any,
                     struct network_filter *out, struct error *err)
{
    sv type = type_of(any);
    for (size_t i = 0; i < COUNT(network_filters); i++) {
        const struct network_filter_type *t = network_filters[i];
        if (!is_it(t->name, t->config_type, name, type))
            continue;
        struct filter_ctx *in = filter_ctx_at(x, "typed_config");
        const void *config = NULL;
        int rc = t->parse ? t->parse(in, value_of(any), &config, err) : 0;
        if (rc < 0)
            return rc;
        *out = (struct network_filter){.type = t, .config = config, .name = name};
        return 0;
    }
    return unknown(x, "network", name, type, err);
}

int registry_listener(const struct filter_ctx *x, sv name, const struct google_Any *any,
                      struct listener_filter *out, struct error *err)
{
    sv type = type_of(any);
    for (size_t i = 0; i < COUNT(listener_filters); i++) {
        const struct listener_filter_type *t = listener_filters[i];
        if (!is_it(t->name, t->config_type, name, type))
            continue;
        struct filter_ctx *in = filter_ctx_at(x, "typed_config");
        const void *config = NULL;
        int rc = t->parse ? t->parse(in, value_of(any), &config, err) : 0;
        if (rc < 0)
            return rc;
        *out = (struct listener_filter){.type = t, .config = config, .name = name};
        return 0;
    }
    return unknown(x, "listener", name, type, err);
}

int registry_route_config(const struct filter_ctx *x, sv filter, const struct google_Any *any,
                          const void **out, struct error *err)
{
    sv type = type_of(any);
    for (size_t i = 0; i < COUNT(http_filters); i++) {
        const struct http_filter_type *t = http_filters[i];
        if (!t->route_type || !sv_eq_c(type, t->route_type))
            continue;
        return t->parse_route(x, any->value, out, err);
    }
    return error_set(err, E_UNSUPPORTED,
                     "typed_per_filter_config['%.*s']: the type %.*s is not supported",
                     SV_ARG(filter), SV_ARG(type));
}
