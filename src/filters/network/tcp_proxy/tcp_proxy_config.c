#include "api/envoy.pb.h"
#include "filters/context.h"
#include "filters/network/tcp_proxy/tcp_proxy_private.h"
#include "http/headers.h"
#include "http/substitution.h"
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

static int build_tunnel(const struct filter_ctx *x, const struct envoy_TcpProxy_TunnelingConfig *m,
                        struct tcp_proxy_config *c, struct error *err)
{
    struct substitution_opts o = {.use = SUBSTITUTION_HEADER,
                                  .path = filter_path(x, "tunneling_config")};
    if (!m)
        return 0;
    if (!m->hostname.n)
        return error_set(err, E_INVALID, "%s.hostname: must not be empty", o.path);
    if (m->propagate_response_headers || m->propagate_response_trailers)
        return error_set(err, E_UNSUPPORTED,
                         "%s.propagate_response_headers, propagate_response_trailers: are not "
                         "supported",
                         o.path);
    if (m->post_path.n && (!m->use_post || m->post_path.p[0] != '/'))
        return error_set(err, E_INVALID, "%s.post_path: is a path, and needs use_post", o.path);
    struct tcp_tunnel *t = arena_new(x->arena, struct tcp_tunnel);
    t->post = m->use_post;
    t->path = m->post_path.n ? arena_sv(x->arena, m->post_path) : SV("/");
    t->headers = arena_array(x->arena, struct tcp_tunnel_header, m->headers_to_add.n + 1);
    int rc = substitution_compile(m->hostname, &o, x->arena, &t->host, err);
    o.omit_empty = true;
    for (uint32_t i = 0; rc == 0 && i < m->headers_to_add.n; i++) {
        const struct envoy_HeaderValueOption *h = m->headers_to_add.v[i];
        struct tcp_tunnel_header *to = &t->headers[t->n_headers++];
        if (!h->header || !http_name_valid(h->header->key))
            return error_set(err, E_INVALID, "%s.headers_to_add[%u].header.key: is no header name",
                             o.path, i);
        if (h->append_action != envoy_HeaderValueOption_APPEND_IF_EXISTS_OR_ADD &&
            h->append_action != envoy_HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
            return error_set(err, E_UNSUPPORTED,
                             "%s.headers_to_add[%u].append_action: is not supported here", o.path,
                             i);
        to->append = h->append_action == envoy_HeaderValueOption_APPEND_IF_EXISTS_OR_ADD;
        char *name = arena_cstr(x->arena, h->header->key);
        for (char *p = name; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p + 32);
        to->name = sv_make(name, h->header->key.n);
        rc = substitution_compile(h->header->value, &o, x->arena, &to->value, err);
    }
    c->tunnel = t;
    return rc;
}

int tcp_proxy_parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_TcpProxy *m;
    int rc = filter_decode(x, &envoy_TcpProxy_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    if (!m->stat_prefix.n)
        return error_set(err, E_INVALID, "%s.stat_prefix: must not be empty", x->path);
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
        rc = build_tunnel(x, m->tunneling_config, c, err);
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
