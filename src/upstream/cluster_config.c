#include "upstream/cluster_config_private.h"

#include <stdio.h>
#include "api/google.pb.h"
#include "base/mem.h"

/* ---- for all parts ---- */

int config_invalid(struct config_reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = error_setv(r->err, E_INVALID, fmt, ap);
    va_end(ap);
    error_prefix(r->err, "cluster '%.*s': ", SV_ARG(r->cfg->name));
    return rc;
}

int config_refuse(struct config_reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = error_setv(r->err, E_UNSUPPORTED, fmt, ap);
    va_end(ap);
    error_prefix(r->err, "cluster '%.*s': ", SV_ARG(r->cfg->name));
    if (r->err) {
        struct error *e = r->err;
        size_t n = strlen(e->msg);
        snprintf(e->msg + n, sizeof e->msg - n, ": not supported");
    }
    return rc;
}

int config_ms(struct config_reader *r, const struct google_Duration *d, const char *field,
              uint64_t dflt, uint64_t *out)
{
    *out = dflt;
    if (!d)
        return 0;
    if (d->seconds < 0 || d->nanos < 0 || d->nanos > 999999999 || d->seconds > 315576000000)
        return config_invalid(r, "%s: must be a duration that is not negative", field);
    *out = (uint64_t)d->seconds * 1000 + ((uint64_t)d->nanos + 999999) / 1000000;
    return 0;
}

int config_any(struct config_reader *r, const struct google_Any *any, const struct pb_message *m,
               const char *field, void *out)
{
    if (!any)
        return config_invalid(r, "%s: required", field);
    int rc = pb_any_unpack(any, m, &r->cfg->arena, r->fields, (void **)out, r->err);
    if (rc)
        error_prefix(r->err, "cluster '%.*s': %s: ", SV_ARG(r->cfg->name), field);
    return rc;
}

/* ---- refused as a whole ---- */

static int read_refused(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    if (c->use_tcp_for_dns_lookups)
        return config_refuse(r, "use_tcp_for_dns_lookups");
    if (c->dns_resolvers.n)
        return config_refuse(r, "dns_resolvers");
    if (c->dns_resolution_config)
        return config_refuse(r, "dns_resolution_config");
    if (c->close_connections_on_host_health_failure)
        return config_refuse(r, "close_connections_on_host_health_failure");
    if (c->connection_pool_per_downstream_connection)
        return config_refuse(r, "connection_pool_per_downstream_connection");
    return 0;
}

/* ---- discovery ---- */

static int read_eds(struct config_reader *r)
{
    const struct envoy_Cluster_EdsClusterConfig *e = r->cfg->pb->eds_cluster_config;
    if (!e || !e->eds_config)
        return config_invalid(r, "eds_cluster_config.eds_config: required for type EDS");
    if (r->cfg->pb->load_assignment)
        return config_invalid(r, "load_assignment: a cluster of type EDS has none");
    switch (e->eds_config->which_config_source_specifier) {
    case envoy_ConfigSource_ads_tag:
    case envoy_ConfigSource_self_tag:
        break;
    case envoy_ConfigSource_path_tag:
    case envoy_ConfigSource_path_config_source_tag:
        r->cfg->eds_file = pb_encode_arena(&envoy_ConfigSource_pb, e->eds_config, &r->cfg->arena);
        break;
    case envoy_ConfigSource_api_config_source_tag:
        return config_refuse(r, "eds_cluster_config.eds_config.api_config_source");
    default:
        return config_invalid(r, "eds_cluster_config.eds_config: names no source");
    }
    r->cfg->eds_name = e->service_name.n ? e->service_name : r->cfg->name;
    return config_ms(r, e->eds_config->initial_fetch_timeout,
                     "eds_cluster_config.eds_config.initial_fetch_timeout", 15000,
                     &r->cfg->eds_timeout_ms);
}

static int read_dns_times(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    struct cluster_dns *d = &r->cfg->dns;
    int rc = config_ms(r, c->dns_refresh_rate, "dns_refresh_rate", 5000, &d->refresh_ms);
    if (rc == 0)
        rc = config_ms(r, c->dns_jitter, "dns_jitter", 0, &d->jitter_ms);
    if (rc == 0 && d->refresh_ms == 0)
        rc = config_invalid(r, "dns_refresh_rate: must be at least 1 ms");
    const struct envoy_Cluster_RefreshRate *f = c->dns_failure_refresh_rate;
    if (rc || !f)
        return rc;
    rc = config_ms(r, f->base_interval, "dns_failure_refresh_rate.base_interval", 0,
                   &d->failure_base_ms);
    if (rc == 0 && d->failure_base_ms == 0)
        rc = config_invalid(r, "dns_failure_refresh_rate.base_interval: must be at least 1 ms");
    if (rc == 0)
        rc = config_ms(r, f->max_interval, "dns_failure_refresh_rate.max_interval",
                       10 * d->failure_base_ms, &d->failure_max_ms);
    if (rc == 0 && d->failure_max_ms < d->failure_base_ms)
        rc = config_invalid(r, "dns_failure_refresh_rate.max_interval: must not be smaller than "
                               "base_interval");
    return rc;
}

static int read_dns_servers(struct config_reader *r, const struct envoy_CaresDnsResolverConfig *k)
{
    sv all = SV("");
    for (uint32_t i = 0; i < k->resolvers.n; i++) {
        const struct envoy_Address *a = k->resolvers.v[i];
        const struct envoy_SocketAddress *s =
            a->which_address == envoy_Address_socket_address_tag ? a->socket_address : NULL;
        struct addr server;
        char text[ADDR_TEXT_MAX];
        uint32_t port = s && s->port_value ? s->port_value : 53;
        if (!s || port > 65535 || addr_ip(&server, s->address, (uint16_t)port) < 0)
            return config_invalid(r,
                                  "typed_dns_resolver_config.typed_config.resolvers[%u]: must be "
                                  "an IP address and a port",
                                  i);
        all = arena_printf(&r->cfg->arena, "%.*s%s%.*s", SV_ARG(all), i ? "," : "",
                           SV_ARG(addr_text(&server, text)));
    }
    r->cfg->dns.servers = all.n ? arena_printf(&r->cfg->arena, "%.*s", SV_ARG(all)).p : NULL;
    return 0;
}

static int read_dns(struct config_reader *r)
{
    static const enum resolve_family family[] = {RESOLVE_AUTO, RESOLVE_V4, RESOLVE_V6,
                                                 RESOLVE_V4_PREFERRED, RESOLVE_ALL};
    const struct envoy_Cluster *c = r->cfg->pb;
    if (c->dns_lookup_family < 0 || c->dns_lookup_family > envoy_Cluster_ALL)
        return config_invalid(r, "dns_lookup_family: %d is unknown", c->dns_lookup_family);
    r->cfg->dns.family = family[c->dns_lookup_family];
    r->cfg->dns.respect_ttl = c->respect_dns_ttl;
    if (c->typed_dns_resolver_config) {
        struct envoy_CaresDnsResolverConfig *k;
        int rc = config_any(r, c->typed_dns_resolver_config->typed_config,
                            &envoy_CaresDnsResolverConfig_pb,
                            "typed_dns_resolver_config.typed_config", &k);
        if (rc)
            return rc;
        rc = read_dns_servers(r, k);
        if (rc)
            return rc;
        if (k->use_resolvers_as_fallback || k->dns_resolver_options || k->query_timeout_seconds ||
            k->query_tries || k->rotate_nameservers || k->filter_unroutable_families)
            return config_refuse(r, "typed_dns_resolver_config.typed_config: options");
    }
    return read_dns_times(r);
}

/* A logical host has exactly one name. */
static int check_logical(struct config_reader *r)
{
    const struct envoy_ClusterLoadAssignment *l = r->cfg->pb->load_assignment;
    if (!l || l->endpoints.n != 1 || l->endpoints.v[0]->lb_endpoints.n != 1)
        return config_invalid(r, "load_assignment: LOGICAL_DNS needs exactly one locality with "
                                 "exactly one endpoint");
    const struct envoy_Endpoint *e = l->endpoints.v[0]->lb_endpoints.v[0]->endpoint;
    if (!e->address || e->address->which_address != envoy_Address_socket_address_tag)
        return config_invalid(r, "load_assignment: LOGICAL_DNS needs a host name");
    return 0;
}

static int read_assignment(struct config_reader *r)
{
    const struct envoy_ClusterLoadAssignment *l = r->cfg->pb->load_assignment;
    bool dns = r->cfg->type == CLUSTER_STRICT_DNS || r->cfg->type == CLUSTER_LOGICAL_DNS;
    if (l) {
        const char *path =
            arena_printf(&r->cfg->arena, "cluster '%.*s': load_assignment", SV_ARG(r->cfg->name)).p;
        int rc = endpoint_check(l, dns, path, r->err);
        if (rc)
            return rc;
    }
    return r->cfg->type == CLUSTER_LOGICAL_DNS ? check_logical(r) : 0;
}

static int read_original_dst(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    const struct envoy_Cluster_OriginalDstLbConfig *o =
        c->which_lb_config == envoy_Cluster_original_dst_lb_config_tag ? c->original_dst_lb_config
                                                                       : NULL;
    int rc = config_ms(r, c->cleanup_interval, "cleanup_interval", 5000, &r->cfg->cleanup_ms);
    if (rc == 0 && r->cfg->cleanup_ms == 0)
        rc = config_invalid(r, "cleanup_interval: must be more than 0");
    if (rc == 0 && c->load_assignment && c->load_assignment->endpoints.n)
        rc = config_invalid(r, "load_assignment: a cluster of type ORIGINAL_DST has none");
    if (rc || !o)
        return rc;
    if (o->metadata_key)
        return config_refuse(r, "original_dst_lb_config.metadata_key");
    if (o->http_header_name.n && !o->use_http_header)
        return config_invalid(r, "original_dst_lb_config.http_header_name: needs use_http_header");
    if (o->use_http_header)
        r->cfg->original_dst_header =
            o->http_header_name.n ? o->http_header_name : SV("x-envoy-original-dst-host");
    if (o->upstream_port_override) {
        if (o->upstream_port_override->value > 65535)
            return config_invalid(r, "original_dst_lb_config.upstream_port_override: %u is no port",
                                  o->upstream_port_override->value);
        r->cfg->original_dst_port = o->upstream_port_override->value;
    }
    return 0;
}

/* cluster_type envoy.cluster.dns says what the fields of Cluster say for STRICT_DNS, or, with one
 * endpoint for all addresses, LOGICAL_DNS; it is read as if those had been set. */
static int read_custom(struct config_reader *r, const struct envoy_Cluster_CustomClusterType *t)
{
    static const int32_t families[] = {envoy_Cluster_AUTO,         envoy_Cluster_AUTO,
                                       envoy_Cluster_V4_ONLY,      envoy_Cluster_V6_ONLY,
                                       envoy_Cluster_V4_PREFERRED, envoy_Cluster_ALL};
    struct envoy_Cluster *c = (struct envoy_Cluster *)r->cfg->pb; /* ours, not yet seen by others */
    struct envoy_DnsCluster *d;
    sv type = t->typed_config ? pb_any_type(t->typed_config->type_url) : (sv){NULL, 0};
    if (!sv_eq_c(type, "envoy.extensions.clusters.dns.v3.DnsCluster"))
        return config_refuse(r, "cluster_type: '%.*s' (%.*s)", SV_ARG(t->name), SV_ARG(type));
    int rc = config_any(r, t->typed_config, &envoy_DnsCluster_pb, "cluster_type.typed_config", &d);
    if (rc)
        return rc;
    if (d->dns_lookup_family < 0 || d->dns_lookup_family > envoy_DnsLookupFamily_ALL)
        return config_invalid(r, "cluster_type.typed_config.dns_lookup_family: %d is unknown",
                              d->dns_lookup_family);
    c->type =
        d->all_addresses_in_single_endpoint ? envoy_Cluster_LOGICAL_DNS : envoy_Cluster_STRICT_DNS;
    c->dns_refresh_rate = d->dns_refresh_rate;
    c->respect_dns_ttl = d->respect_dns_ttl;
    c->dns_jitter = d->dns_jitter;
    c->typed_dns_resolver_config = d->typed_dns_resolver_config;
    c->dns_lookup_family = families[d->dns_lookup_family];
    c->dns_failure_refresh_rate = NULL;
    if (!d->dns_failure_refresh_rate)
        return 0;
    struct envoy_Cluster_RefreshRate *f =
        arena_new(&r->cfg->arena, struct envoy_Cluster_RefreshRate);
    f->base_interval = d->dns_failure_refresh_rate->base_interval;
    f->max_interval = d->dns_failure_refresh_rate->max_interval;
    c->dns_failure_refresh_rate = f;
    return 0;
}

static int read_discovery(struct config_reader *r)
{
    if (r->cfg->pb->which_cluster_discovery_type == envoy_Cluster_cluster_type_tag) {
        int rc = read_custom(r, r->cfg->pb->cluster_type);
        if (rc)
            return rc;
    }
    static const enum cluster_type types[] = {
        CLUSTER_STATIC, CLUSTER_STRICT_DNS, CLUSTER_LOGICAL_DNS, CLUSTER_EDS, CLUSTER_ORIGINAL_DST};
    int32_t t = r->cfg->pb->type;
    if (t < 0 || t > envoy_Cluster_ORIGINAL_DST)
        return config_invalid(r, "type: %d is unknown", t);
    r->cfg->type = types[t];
    if (r->cfg->pb->eds_cluster_config && r->cfg->type != CLUSTER_EDS)
        return config_invalid(r, "eds_cluster_config: only for type EDS");
    if (r->cfg->type == CLUSTER_EDS)
        return read_eds(r);
    if (r->cfg->type == CLUSTER_ORIGINAL_DST)
        return read_original_dst(r);
    int rc = read_assignment(r);
    return rc || r->cfg->type == CLUSTER_STATIC ? rc : read_dns(r);
}

/* ---- circuit breakers ---- */

static void threshold(const struct google_UInt32Value *v, uint32_t *out)
{
    if (v)
        *out = v->value;
}

static int read_budget(struct config_reader *r,
                       const struct envoy_CircuitBreakers_Thresholds_RetryBudget *b,
                       struct limit_config *l)
{
    if (!b)
        return 0;
    l->budget = true;
    l->budget_percent = b->budget_percent ? b->budget_percent->value : 20.0;
    l->budget_min = b->min_retry_concurrency ? b->min_retry_concurrency->value : 3;
    if (!(l->budget_percent >= 0 && l->budget_percent <= 100))
        return config_invalid(r, "circuit_breakers.thresholds.retry_budget.budget_percent: must be "
                                 "between 0 and 100");
    return 0;
}

static int read_per_host(struct config_reader *r)
{
    const struct envoy_CircuitBreakers *b = r->cfg->pb->circuit_breakers;
    for (uint32_t i = 0; i < b->per_host_thresholds.n; i++) {
        const struct envoy_CircuitBreakers_Thresholds *t = b->per_host_thresholds.v[i];
        if (t->priority != envoy_RoutingPriority_DEFAULT || t->max_pending_requests ||
            t->max_requests || t->max_retries || t->retry_budget || t->max_connection_pools ||
            t->track_remaining)
            return config_refuse(r,
                                 "circuit_breakers.per_host_thresholds[%u]: anything but "
                                 "max_connections of priority DEFAULT",
                                 i);
        threshold(t->max_connections, &r->cfg->per_host_max_connections);
    }
    return 0;
}

static int read_limits(struct config_reader *r)
{
    const struct envoy_CircuitBreakers *b = r->cfg->pb->circuit_breakers;
    limit_config_default(&r->cfg->limits[0]);
    limit_config_default(&r->cfg->limits[1]);
    for (uint32_t i = 0; b && i < b->thresholds.n; i++) {
        const struct envoy_CircuitBreakers_Thresholds *t = b->thresholds.v[i];
        if (t->priority < 0 || t->priority > 1)
            return config_invalid(r, "circuit_breakers.thresholds[%u].priority: %d is unknown", i,
                                  t->priority);
        struct limit_config *l = &r->cfg->limits[t->priority];
        threshold(t->max_connections, &l->max[LIMIT_CX]);
        threshold(t->max_pending_requests, &l->max[LIMIT_PENDING]);
        threshold(t->max_requests, &l->max[LIMIT_RQ]);
        threshold(t->max_retries, &l->max[LIMIT_RETRY]);
        threshold(t->max_connection_pools, &l->max[LIMIT_POOLS]);
        l->track_remaining = t->track_remaining;
        int rc = read_budget(r, t->retry_budget, l);
        if (rc)
            return rc;
    }
    return b ? read_per_host(r) : 0;
}

/* ---- sockets ---- */

static int read_socket(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    struct sock_opts *s = &r->cfg->sock;
    s->no_delay = true;
    const struct envoy_TcpKeepalive *k =
        c->upstream_connection_options ? c->upstream_connection_options->tcp_keepalive : NULL;
    if (k) {
        s->keepalive = true;
        threshold(k->keepalive_time, &s->keepalive_time_s);
        threshold(k->keepalive_interval, &s->keepalive_interval_s);
        threshold(k->keepalive_probes, &s->keepalive_probes);
    }
    const struct envoy_BindConfig *b = c->upstream_bind_config;
    if (!b)
        return 0;
    if (b->socket_options.n)
        return config_refuse(r, "upstream_bind_config.socket_options");
    const char *path =
        arena_printf(&r->cfg->arena, "cluster '%.*s': upstream_bind_config", SV_ARG(r->cfg->name))
            .p;
    return bind_source_read(b, path, &r->cfg->bind, r->err);
}

/* ---- all ---- */

static int read_all(struct config_reader *r)
{
    struct cluster_config *cfg = r->cfg;
    const struct envoy_Cluster *c = cfg->pb;
    cfg->stat_name = c->alt_stat_name.n ? c->alt_stat_name : c->name;
    cfg->wait_for_warm = !c->wait_for_warm_on_init || c->wait_for_warm_on_init->value;
    cfg->buffer_limit = c->per_connection_buffer_limit_bytes
                            ? c->per_connection_buffer_limit_bytes->value
                            : 1024 * 1024;
    int rc = config_ms(r, c->connect_timeout, "connect_timeout", 5000, &cfg->connect_timeout_ms);
    if (rc == 0 && cfg->connect_timeout_ms == 0)
        rc = config_invalid(r, "connect_timeout: must be more than 0");
    if (rc == 0)
        rc = read_refused(r);
    if (rc == 0)
        rc = read_discovery(r);
    if (rc == 0)
        rc = read_limits(r);
    if (rc == 0)
        rc = read_socket(r);
    if (rc == 0)
        rc = config_read_lb(r);
    if (rc == 0)
        rc = config_read_http(r);
    if (rc == 0)
        rc = config_read_transports(r);
    if (rc == 0)
        rc = config_read_outlier(r);
    if (rc == 0)
        rc = config_read_health(r);
    return rc;
}

struct cluster_config *cluster_config_new(sv packed, const struct pb_opts *fields,
                                          struct error *err)
{
    struct cluster_config *c = mem_new(struct cluster_config);
    struct config_reader r = {.cfg = c, .fields = fields, .err = err};
    void *pb;
    arena_init_malloc(&c->arena);
    if (pb_decode(&envoy_Cluster_pb, packed, &c->arena, fields, &pb, err) != 0) {
        sv name = cluster_config_peek_name(packed);
        error_prefix(err, "cluster '%.*s': ", SV_ARG(name));
        goto fail;
    }
    c->pb = pb;
    c->name = c->pb->name;
    if (c->name.n == 0) {
        error_set(err, E_INVALID, "cluster: name: must not be empty");
        goto fail;
    }
    if (read_all(&r) == 0)
        return c;
fail:
    cluster_config_free(c);
    return NULL;
}

void cluster_config_free(struct cluster_config *c)
{
    if (!c)
        return;
    arena_free(&c->arena);
    free(c);
}

/* ---- the name alone ---- */

static bool varint(sv *v, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && v->n > 0; shift += 7) {
        uint8_t b = (uint8_t)v->p[0];
        *v = sv_from(*v, 1);
        *out |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
    }
    return false;
}

sv cluster_config_peek_name(sv packed)
{
    sv name = {0};
    uint64_t tag, n;
    while (packed.n > 0) {
        if (!varint(&packed, &tag))
            break;
        uint64_t skip = 0;
        switch (tag & 7) {
        case 0:
            if (!varint(&packed, &n))
                return name;
            break;
        case 1:
            skip = 8;
            break;
        case 2:
            if (!varint(&packed, &skip))
                return name;
            break;
        case 5:
            skip = 4;
            break;
        default:
            return name;
        }
        if (skip > packed.n)
            break;
        if (tag == (1 << 3 | 2))
            name = sv_first(packed, skip);
        packed = sv_from(packed, skip);
    }
    return name;
}
