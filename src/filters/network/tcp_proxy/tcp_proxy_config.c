#include "api/envoy.pb.h"
#include "filters/context.h"
#include "filters/network/tcp_proxy/tcp_proxy_private.h"
#include "route/match.h"
#include "telemetry/access_log.h"

STAT_GROUP_DEFINE(tcp_stats, TCP_STATS);

static void fini(void *g)
{
    stat_group_fini(g);
}

/* Balancers read metadata_match later: it is decoded again, into memory that stays. */
static int keep_metadata(const struct filter_ctx *x, const struct envoy_Metadata *m,
                         const void **out, struct error *err)
{
    if (!m)
        return 0;
    sv packed = pb_encode_arena(&envoy_Metadata_pb, m, x->arena);
    return pb_decode(&envoy_Metadata_pb, packed, x->arena, NULL, (void **)out, err);
}

static int build_weighted(const struct filter_ctx *x,
                          const struct envoy_TcpProxy_WeightedCluster *m,
                          struct tcp_proxy_config *c, struct error *err)
{
    struct tcp_weighted *w = arena_array(x->arena, struct tcp_weighted, m->clusters.n + 1);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->clusters.n; i++) {
        sum += m->clusters.v[i]->weight;
        if (!m->clusters.v[i]->name.n || !m->clusters.v[i]->weight || sum > UINT32_MAX)
            return error_set(err, E_INVALID,
                             "%s.weighted_clusters.clusters[%u]: needs a name and a weight, and "
                             "all weights together at most 4294967295",
                             x->path, i);
        w[i].cluster = m->clusters.v[i]->name;
        w[i].upto = (uint32_t)sum;
        int rc = keep_metadata(x, m->clusters.v[i]->metadata_match, &w[i].metadata, err);
        if (rc < 0)
            return rc;
    }
    if (!m->clusters.n)
        return error_set(err, E_INVALID, "%s.weighted_clusters.clusters: must not be empty",
                         x->path);
    c->weighted = w;
    c->n_weighted = m->clusters.n;
    return 0;
}

static int build_times(const struct filter_ctx *x, const struct envoy_TcpProxy *m,
                       struct tcp_proxy_config *c, struct error *err)
{
    int rc = 0;
    c->idle_ms = 3600000;
    if (m->idle_timeout)
        rc = duration_ms(m->idle_timeout, filter_path(x, "idle_timeout"), &c->idle_ms, err);
    if (rc == 0 && m->max_downstream_connection_duration)
        rc = duration_ms(m->max_downstream_connection_duration,
                         filter_path(x, "max_downstream_connection_duration"), &c->max_ms, err);
    const struct envoy_TcpProxy_TcpAccessLogOptions *l = m->access_log_options;
    if (rc == 0 && l && l->access_log_flush_interval)
        rc = duration_ms(l->access_log_flush_interval,
                         filter_path(x, "access_log_options.access_log_flush_interval"),
                         &c->log_flush_ms, err);
    c->log_on_connected = l && l->flush_access_log_on_connected;
    return rc;
}

static int build_hash(const struct filter_ctx *x, const struct envoy_TcpProxy *m,
                      struct tcp_proxy_config *c, struct error *err)
{
    for (uint32_t i = 0; i < m->hash_policy.n; i++) {
        if (m->hash_policy.v[i]->which_policy_specifier != envoy_HashPolicy_source_ip_tag)
            return error_set(err, E_UNSUPPORTED, "%s.hash_policy[%u]: only source_ip is supported",
                             x->path, i);
        c->hash_source_ip = true;
    }
    return 0;
}

int tcp_proxy_parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_TcpProxy *m;
    int rc = filter_decode(x, &envoy_TcpProxy_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    if (!m->stat_prefix.n)
        return error_set(err, E_INVALID, "%s.stat_prefix: must not be empty", x->path);
    if (m->tunneling_config)
        return error_set(err, E_UNSUPPORTED, "%s.tunneling_config: is not supported", x->path);
    struct tcp_proxy_config *c = arena_new(x->arena, struct tcp_proxy_config);
    c->attempts = m->max_connect_attempts ? m->max_connect_attempts->value : 1;
    if (!c->attempts)
        return error_set(err, E_INVALID, "%s.max_connect_attempts: must be at least 1", x->path);
    switch (m->which_cluster_specifier) {
    case envoy_TcpProxy_cluster_tag:
        c->cluster = m->cluster;
        break;
    case envoy_TcpProxy_weighted_clusters_tag:
        rc = build_weighted(x, m->weighted_clusters, c, err);
        break;
    default:
        return error_set(err, E_INVALID, "%s: one of cluster, weighted_clusters is required",
                         x->path);
    }
    if (rc == 0)
        rc = keep_metadata(x, m->metadata_match, &c->metadata, err);
    if (rc == 0)
        rc = build_times(x, m, c, err);
    if (rc == 0)
        rc = build_hash(x, m, c, err);
    if (rc == 0)
        rc = filter_access_logs(x, m->access_log.v, m->access_log.n, &c->logs, err);
    if (rc < 0)
        return rc;
    struct stats_scope *sc = stats_scope_tcp(x->stats, m->stat_prefix);
    stat_group_init(&c->stats, &tcp_stats_def, sc);
    stats_scope_unref(sc);
    arena_on_free(x->arena, fini, &c->stats);
    *config = c;
    return 0;
}
