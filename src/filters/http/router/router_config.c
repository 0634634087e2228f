#include "api/envoy.pb.h"
#include "filters/http/router/router_private.h"

STAT_GROUP_DEFINE(router_stats, ROUTER_STATS);

static void fini(void *g)
{
    stat_group_fini(g);
}

static int strict_headers(const struct filter_ctx *x, const struct envoy_Router *m,
                          struct router_config *c, struct error *err)
{
    static const sv known[] = {
        SV_INIT("x-envoy-upstream-rq-timeout-ms"),
        SV_INIT("x-envoy-upstream-rq-per-try-timeout-ms"),
        SV_INIT("x-envoy-max-retries"),
        SV_INIT("x-envoy-retry-grpc-on"),
        SV_INIT("x-envoy-retry-on"),
    };
    sv *v = arena_array(x->arena, sv, m->strict_check_headers.n);
    c->strict_headers = v;
    for (uint32_t i = 0; i < m->strict_check_headers.n; i++) {
        bool ok = false;
        for (unsigned k = 0; k < sizeof known / sizeof known[0] && !ok; k++)
            ok = sv_eq_icase(m->strict_check_headers.v[i], known[k]) && (v[i] = known[k], true);
        if (!ok)
            return error_set(err, E_INVALID,
                             "%s.strict_check_headers[%u]: '%.*s' cannot be checked", x->path, i,
                             SV_ARG(m->strict_check_headers.v[i]));
        c->n_strict++;
    }
    return 0;
}

static void unref_scope(void *sc)
{
    stats_scope_unref(sc);
}

int router_parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_Router *m;
    int rc = filter_decode(x, &envoy_Router_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    if (m->upstream_log.n)
        return error_set(err, E_UNSUPPORTED, "%s.upstream_log: is not supported", x->path);
    struct router_config *c = arena_new(x->arena, struct router_config);
    c->dynamic_stats = m->dynamic_stats ? m->dynamic_stats->value : true;
    c->suppress_envoy_headers = m->suppress_envoy_headers;
    c->respect_expected_timeout = m->respect_expected_rq_timeout;
    rc = strict_headers(x, m, c, err);
    if (rc < 0)
        return rc;
    struct stats_scope *sc = stats_scope_http(x->stats, x->stat_prefix);
    stat_group_init(&c->stats, &router_stats_def, sc);
    stats_scope_unref(sc);
    arena_on_free(x->arena, fini, &c->stats);
    c->vhosts = stats_scope_plain(x->stats, SV("vhost."));
    arena_on_free(x->arena, unref_scope, c->vhosts);
    *config = c;
    return 0;
}
