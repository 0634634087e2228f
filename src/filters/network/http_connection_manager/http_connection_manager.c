#include "filters/network/http_connection_manager/http_connection_manager.h"

#include "base/arena.h"
#include "filters/context.h"

struct glue {
    const struct filter_hcm_glue *hcm;
    const void *config;
};

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    struct glue *g = arena_new(x->arena, struct glue);
    g->hcm = x->hcm;
    int rc = x->hcm->parse(x, packed, &g->config, err);
    if (rc == 0)
        *config = g;
    return rc;
}

static void start(const void *config, struct network_conn *nc)
{
    const struct glue *g = config;
    g->hcm->start(g->config, nc);
}

const struct network_filter_type network_http_connection_manager_type = {
    .name = "envoy.filters.network.http_connection_manager",
    .config_type = "envoy.extensions.filters.network.http_connection_manager.v3."
                   "HttpConnectionManager",
    .terminal = true,
    .parse = parse,
    .start = start,
};
