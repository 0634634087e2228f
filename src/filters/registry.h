/* The one table of all filters: what a configuration may name, and what it becomes.
 *
 * A filter is found by the type of its typed_config; where Envoy allows a filter without
 * configuration it is found by name. What is not here is an error that names the object and the
 * path. To add a filter: its folder, one line in registry.c, and its sources in meson.build.
 * Thread: main. */
#ifndef WEFT_FILTERS_REGISTRY_H
#define WEFT_FILTERS_REGISTRY_H

#include "filters/context.h"
#include "filters/listener.h"
#include "filters/network.h"
#include "filters/worker.h"
#include "http/filter.h"

struct google_Any;

/* One kind of HTTP filter. */
struct http_filter_type {
    const char *name;        /* "envoy.filters.http.router" */
    const char *config_type; /* full name of its configuration message */
    const char *route_type;  /* message in typed_per_filter_config; NULL: none is taken */
    bool terminal;
    int (*parse)(const struct filter_ctx *x, sv packed, const void **config, struct error *err);
    int (*parse_route)(const struct filter_ctx *x, sv packed, const void **config,
                       struct error *err);
    http_filter_make_fn make;
};

/* Finds by configuration type, or by name when `any` is NULL or empty; then parses. Errors name
 * x->path, the filter's name and the type. */
int registry_http(const struct filter_ctx *x, sv name, const struct google_Any *any,
                  struct http_filter_conf *out, struct error *err) MUST_CHECK;
int registry_network(const struct filter_ctx *x, sv name, const struct google_Any *any,
                     struct network_filter *out, struct error *err) MUST_CHECK;
int registry_listener(const struct filter_ctx *x, sv name, const struct google_Any *any,
                      struct listener_filter *out, struct error *err) MUST_CHECK;
/* A route's typed_per_filter_config entry. `filter` is the name in the chain (unused for finding).
 * envoy.config.route.v3.FilterConfig wrappers are handled by the caller. */
int registry_route_config(const struct filter_ctx *x, sv filter, const struct google_Any *any,
                          const void **out, struct error *err) MUST_CHECK;

#endif
