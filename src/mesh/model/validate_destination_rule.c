/* DestinationRule. */
#include "mesh/model/validate_internal.h"

#include <math.h>
#include <stdio.h>
#include "net/addr.h"

static const struct validate_refusal refused[] = {
    {"TrafficPolicy.RetryBudget", "budgetInterval",
     "the budget is a share of the requests that are under way, not of an interval; leave it out"},
    {"LoadBalancerSettings", "zoneAwareLbSetting",
     "use localityLbSetting, which prefers the client's zone and says what follows it"},
    {"OutlierDetection", "consecutiveErrors",
     "it is gone from Istio; use consecutive5xxErrors or consecutiveGatewayErrors"},
    {"ClientTLSSettings", "credentialName",
     "secrets are not handed to sidecars; use clientCertificate, privateKey and caCertificates"},
};

#define PATH(buf, ...) (snprintf(buf, sizeof buf, __VA_ARGS__), buf)

/* ---- values ---- */

struct number {
    const char *field;
    int64_t value;
};

static int check_not_negative(struct validating *c, const char *path, const struct number *v,
                              size_t n)
{
    char sub[VALIDATE_PATH_BYTES];

    for (size_t i = 0; i < n; i++) {
        if (v[i].value < 0)
            return validate_bad(c, PATH(sub, "%s.%s", path, v[i].field), "InvalidValue",
                                "%s.%s: must not be negative", path, v[i].field);
    }
    return 0;
}

static int check_percent(struct validating *c, const char *path, double v)
{
    return v >= 0 && v <= 100 ? 0
                              : validate_bad(c, path, "InvalidValue", "%s: must be 0 to 100", path);
}

/* ---- loadBalancer ---- */

static bool is_prime(uint64_t n)
{
    for (uint64_t i = 2; i * i <= n; i++) {
        if (n % i == 0)
            return false;
    }
    return n >= 2;
}

static int check_cookie(struct validating *c, const char *path,
                        const struct istio_LoadBalancerSettings_ConsistentHashLB_HTTPCookie *k)
{
    char sub[VALIDATE_PATH_BYTES];

    if (!k->name.n)
        return validate_bad(c, PATH(sub, "%s.name", path), "Required",
                            "%s.name: a cookie needs one", path);
    for (uint32_t i = 0; i < k->attributes.n; i++) {
        PATH(sub, "%s.attributes[%u].name", path, i);
        if (!k->attributes.v[i]->name.n)
            return validate_bad(c, sub, "Required", "%s: an attribute needs one", sub);
        for (uint32_t j = 0; j < i; j++) {
            if (sv_eq_icase(k->attributes.v[i]->name, k->attributes.v[j]->name))
                return validate_bad(c, sub, "Duplicate", "%s: '%.*s' stands there twice", sub,
                                    SV_ARG(k->attributes.v[i]->name));
        }
    }
    return validate_duration(c, PATH(sub, "%s.ttl", path), k->ttl, true);
}

static int check_hash(struct validating *c, const char *path,
                      const struct istio_LoadBalancerSettings_ConsistentHashLB *h)
{
    char sub[VALIDATE_PATH_BYTES];
    uint64_t ring = h->minimum_ring_size;

    if (!h->which_hash_key)
        return validate_bad(c, path, "Required",
                            "%s: needs one of httpHeaderName, httpCookie, useSourceIp and "
                            "httpQueryParameterName",
                            path);
    if (h->which_hash_algorithm == istio_LoadBalancerSettings_ConsistentHashLB_maglev_tag) {
        uint64_t size = h->maglev->table_size;
        PATH(sub, "%s.maglev.tableSize", path);
        if (size && (size > 5000011 || !is_prime(size)))
            return validate_bad(c, sub, "InvalidValue", "%s: must be a prime of at most 5000011",
                                sub);
    }
    if (h->which_hash_algorithm == istio_LoadBalancerSettings_ConsistentHashLB_ring_hash_tag)
        ring = h->ring_hash->minimum_ring_size;
    if (ring > 8388608)
        return validate_bad(c, path, "InvalidValue", "%s: the ring may have at most 8388608 places",
                            path);
    if (h->which_hash_key == istio_LoadBalancerSettings_ConsistentHashLB_http_cookie_tag)
        return check_cookie(c, PATH(sub, "%s.httpCookie", path), h->http_cookie);
    return 0;
}

static int check_shares(struct validating *c, const char *path,
                        const struct istio_LocalityLoadBalancerSetting_Distribute *d)
{
    char sub[VALIDATE_PATH_BYTES];
    uint64_t sum = 0;

    if (!d->from.n)
        return validate_bad(c, PATH(sub, "%s.from", path), "Required",
                            "%s.from: the client's locality is needed", path);
    for (uint32_t i = 0; i < d->to.n; i++)
        sum += d->to.v[i]->value;
    PATH(sub, "%s.to", path);
    return sum == 100 ? 0
                      : validate_bad(c, sub, "InvalidWeight",
                                     "%s: the shares must add up to 100, not %llu", sub,
                                     (unsigned long long)sum);
}

static int check_locality(struct validating *c, const char *path,
                          const struct istio_LocalityLoadBalancerSetting *l)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = 0;

    if (l->distribute.n && (l->failover.n || l->failover_priority.n))
        return validate_bad(c, path, "InvalidValue",
                            "%s: use distribute, or failover and failoverPriority", path);
    for (uint32_t i = 0; i < l->distribute.n && !rc; i++)
        rc = check_shares(c, PATH(sub, "%s.distribute[%u]", path, i), l->distribute.v[i]);
    for (uint32_t i = 0; i < l->failover.n && !rc; i++) {
        const struct istio_LocalityLoadBalancerSetting_Failover *f = l->failover.v[i];
        PATH(sub, "%s.failover[%u]", path, i);
        if (!f->from.n || !f->to.n || sv_eq(f->from, f->to))
            rc = validate_bad(c, sub, "InvalidValue", "%s: needs two different regions", sub);
        else if (sv_find(f->from, '/') >= 0 || sv_find(f->to, '/') >= 0 ||
                 sv_find(f->from, '*') >= 0 || sv_find(f->to, '*') >= 0)
            rc = validate_bad(c, sub, "InvalidValue", "%s: names regions, not zones or wildcards",
                              sub);
    }
    return rc;
}

static int check_warmup(struct validating *c, const char *path,
                        const struct istio_WarmupConfiguration *w)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc;

    PATH(sub, "%s.duration", path);
    if (!w->duration)
        return validate_bad(c, sub, "Required", "%s: is needed", sub);
    rc = validate_duration(c, sub, w->duration, false);
    if (!rc && w->minimum_percent)
        rc = check_percent(c, PATH(sub, "%s.minimumPercent", path), w->minimum_percent->value);
    PATH(sub, "%s.aggression", path);
    if (!rc && w->aggression && !(w->aggression->value > 0 && isfinite(w->aggression->value)))
        rc = validate_bad(c, sub, "InvalidValue", "%s: must be greater than 0", sub);
    return rc;
}

static int check_balancer(struct validating *c, const char *path,
                          const struct istio_LoadBalancerSettings *lb)
{
    char sub[VALIDATE_PATH_BYTES];
    bool starts = lb->warmup || lb->warmup_duration_secs;
    int rc = 0;

    if (lb->which_lb_policy == istio_LoadBalancerSettings_consistent_hash_tag)
        rc = check_hash(c, PATH(sub, "%s.consistentHash", path), lb->consistent_hash);
    if (!rc && starts &&
        (lb->which_lb_policy == istio_LoadBalancerSettings_consistent_hash_tag ||
         lb->simple == istio_LoadBalancerSettings_RANDOM ||
         lb->simple == istio_LoadBalancerSettings_PASSTHROUGH))
        rc = validate_bad(c, path, "InvalidValue",
                          "%s: warming up needs ROUND_ROBIN or LEAST_REQUEST", path);
    if (!rc && lb->warmup && lb->warmup_duration_secs)
        rc = validate_bad(c, path, "InvalidValue", "%s: use warmup or warmupDurationSecs, not both",
                          path);
    if (!rc && lb->locality_lb_setting)
        rc = check_locality(c, PATH(sub, "%s.localityLbSetting", path), lb->locality_lb_setting);
    if (!rc)
        rc = validate_duration(c, PATH(sub, "%s.warmupDurationSecs", path),
                               lb->warmup_duration_secs, false);
    if (!rc && lb->warmup)
        rc = check_warmup(c, PATH(sub, "%s.warmup", path), lb->warmup);
    return rc;
}

/* ---- connectionPool ---- */

static int check_tcp(struct validating *c, const char *path,
                     const struct istio_ConnectionPoolSettings_TCPSettings *t)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = check_not_negative(c, path, &(struct number){"maxConnections", t->max_connections}, 1);

    if (!rc)
        rc = validate_duration(c, PATH(sub, "%s.connectTimeout", path), t->connect_timeout, false);
    if (!rc)
        rc = validate_duration(c, PATH(sub, "%s.maxConnectionDuration", path),
                               t->max_connection_duration, false);
    if (!rc)
        rc = validate_duration(c, PATH(sub, "%s.idleTimeout", path), t->idle_timeout, true);
    if (!rc && t->tcp_keepalive)
        rc = validate_duration(c, PATH(sub, "%s.tcpKeepalive.time", path), t->tcp_keepalive->time,
                               false);
    if (!rc && t->tcp_keepalive)
        rc = validate_duration(c, PATH(sub, "%s.tcpKeepalive.interval", path),
                               t->tcp_keepalive->interval, false);
    return rc;
}

static int
check_keepalive(struct validating *c, const char *path,
                const struct istio_ConnectionPoolSettings_HTTPSettings_ConnectionKeepalive *k)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc;

    PATH(sub, "%s.timeout", path);
    if (!k->timeout)
        return validate_bad(c, sub, "Required", "%s: how long an answer may take is needed", sub);
    rc = validate_duration(c, sub, k->timeout, false);
    PATH(sub, "%s.interval", path);
    if (!rc && !k->interval)
        return validate_bad(c, sub, "Required", "%s: how often to ask is needed", sub);
    return rc ? rc : validate_duration(c, sub, k->interval, false);
}

static int check_http(struct validating *c, const char *path,
                      const struct istio_ConnectionPoolSettings_HTTPSettings *h)
{
    char sub[VALIDATE_PATH_BYTES];
    const struct number numbers[] = {{"http1MaxPendingRequests", h->http1_max_pending_requests},
                                     {"http2MaxRequests", h->http2_max_requests},
                                     {"maxRequestsPerConnection", h->max_requests_per_connection},
                                     {"maxRetries", h->max_retries},
                                     {"maxConcurrentStreams", h->max_concurrent_streams}};
    int rc = check_not_negative(c, path, numbers, sizeof numbers / sizeof *numbers);

    if (!rc)
        rc = validate_duration(c, PATH(sub, "%s.idleTimeout", path), h->idle_timeout, true);
    PATH(sub, "%s.h2UpgradePolicy", path);
    if (!rc && h->use_client_protocol &&
        h->h2_upgrade_policy == istio_ConnectionPoolSettings_HTTPSettings_UPGRADE)
        rc = validate_bad(c, sub, "InvalidValue",
                          "%s: UPGRADE contradicts useClientProtocol; use one of them", sub);
    if (!rc && h->http2_keep_alive)
        rc = check_keepalive(c, PATH(sub, "%s.http2KeepAlive", path), h->http2_keep_alive);
    return rc;
}

int validate_pool(struct validating *c, const char *path,
                  const struct istio_ConnectionPoolSettings *p)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = p->tcp ? check_tcp(c, PATH(sub, "%s.tcp", path), p->tcp) : 0;

    return rc || !p->http ? rc : check_http(c, PATH(sub, "%s.http", path), p->http);
}

/* ---- outlierDetection, tls, retryBudget ---- */

static int check_outliers(struct validating *c, const char *path,
                          const struct istio_OutlierDetection *o)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = validate_duration(c, PATH(sub, "%s.interval", path), o->interval, false);

    if (!rc)
        rc = validate_duration(c, PATH(sub, "%s.baseEjectionTime", path), o->base_ejection_time,
                               false);
    if (!rc)
        rc = check_percent(c, PATH(sub, "%s.maxEjectionPercent", path), o->max_ejection_percent);
    if (!rc)
        rc = check_percent(c, PATH(sub, "%s.minHealthPercent", path), o->min_health_percent);
    for (uint32_t i = 0; i < o->outlier_detection_http_error_codes.n && !rc; i++) {
        uint32_t code = o->outlier_detection_http_error_codes.v[i];
        PATH(sub, "%s.outlierDetectionHttpErrorCodes[%u]", path, i);
        if (code < 100 || code > 599)
            rc = validate_bad(c, sub, "InvalidStatus", "%s: must be 100 to 599", sub);
    }
    PATH(sub, "%s.consecutiveLocalOriginFailures", path);
    if (!rc && o->consecutive_local_origin_failures && !o->split_external_local_origin_errors)
        rc = validate_bad(c, sub, "InvalidValue",
                          "%s: holds only with splitExternalLocalOriginErrors: true", sub);
    return rc;
}

static int check_tls(struct validating *c, const char *path,
                     const struct istio_ClientTLSSettings *t)
{
    const struct {
        const char *field;
        sv v;
    } files[] = {{"clientCertificate", t->client_certificate},
                 {"privateKey", t->private_key},
                 {"caCertificates", t->ca_certificates},
                 {"caCrl", t->ca_crl}};
    char sub[VALIDATE_PATH_BYTES];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        bool needed = i < 2 && t->mode == istio_ClientTLSSettings_MUTUAL;
        PATH(sub, "%s.%s", path, files[i].field);
        if (needed && !files[i].v.n)
            return validate_bad(c, sub, "Required", "%s: mode MUTUAL needs one", sub);
        if (files[i].v.n && (t->mode == istio_ClientTLSSettings_ISTIO_MUTUAL ||
                             t->mode == istio_ClientTLSSettings_DISABLE ||
                             (i < 2 && t->mode == istio_ClientTLSSettings_SIMPLE)))
            return validate_bad(c, sub, "InvalidValue", "%s: does not go with this mode", sub);
    }
    PATH(sub, "%s.insecureSkipVerify", path);
    if (t->insecure_skip_verify && t->insecure_skip_verify->value &&
        (t->ca_certificates.n || t->ca_crl.n || t->subject_alt_names.n))
        return validate_bad(c, sub, "InvalidValue",
                            "%s: contradicts caCertificates, caCrl and subjectAltNames", sub);
    return 0;
}

static int check_budget(struct validating *c, const char *path,
                        const struct istio_TrafficPolicy_RetryBudget *r)
{
    char sub[VALIDATE_PATH_BYTES];
    return r->percent ? check_percent(c, PATH(sub, "%s.percent", path), r->percent->value) : 0;
}

static int check_tunnel(struct validating *c, const char *path,
                        const struct istio_TrafficPolicy_TunnelSettings *t)
{
    char sub[VALIDATE_PATH_BYTES];
    struct addr ip;
    int rc = 0;

    PATH(sub, "%s.protocol", path);
    if (t->protocol.n && !sv_eq(t->protocol, SV("CONNECT")) && !sv_eq(t->protocol, SV("POST")))
        return validate_bad(c, sub, "InvalidValue", "%s: must be CONNECT or POST", sub);
    PATH(sub, "%s.targetHost", path);
    if (!t->target_host.n || sv_find(t->target_host, '*') >= 0)
        return validate_bad(c, sub, "Required", "%s: a host name or an address is needed", sub);
    if (addr_ip(&ip, t->target_host, 0))
        rc = validate_host(c, sub, t->target_host);
    return rc ? rc : validate_port(c, PATH(sub, "%s.targetPort", path), t->target_port);
}

/* ---- policies ---- */

static int check_parts(struct validating *c, const char *path,
                       const struct istio_TrafficPolicy_PortTrafficPolicy *p)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = 0;

    if (p->load_balancer)
        rc = check_balancer(c, PATH(sub, "%s.loadBalancer", path), p->load_balancer);
    if (!rc && p->connection_pool)
        rc = validate_pool(c, PATH(sub, "%s.connectionPool", path), p->connection_pool);
    if (!rc && p->outlier_detection)
        rc = check_outliers(c, PATH(sub, "%s.outlierDetection", path), p->outlier_detection);
    if (!rc && p->tls)
        rc = check_tls(c, PATH(sub, "%s.tls", path), p->tls);
    return rc;
}

static int check_policy(struct validating *c, const char *path, const struct istio_TrafficPolicy *p)
{
    const struct istio_TrafficPolicy_PortTrafficPolicy parts = {
        .load_balancer = p->load_balancer,
        .connection_pool = p->connection_pool,
        .outlier_detection = p->outlier_detection,
        .tls = p->tls,
    };
    char sub[VALIDATE_PATH_BYTES], field[VALIDATE_PATH_BYTES + 16];
    int rc = check_parts(c, path, &parts);

    for (uint32_t i = 0; i < p->port_level_settings.n && !rc; i++) {
        const struct istio_TrafficPolicy_PortTrafficPolicy *pl = p->port_level_settings.v[i];
        PATH(sub, "%s.portLevelSettings[%u]", path, i);
        rc = validate_port(c, PATH(field, "%s.port.number", sub), pl->port ? pl->port->number : 0);
        for (uint32_t k = 0; k < i && !rc; k++) {
            if (p->port_level_settings.v[k]->port->number == pl->port->number)
                rc = validate_bad(c, field, "Duplicate", "%s: port %u has settings twice", field,
                                  pl->port->number);
        }
        rc = rc ? rc : check_parts(c, sub, pl);
    }
    if (!rc && p->retry_budget)
        rc = check_budget(c, PATH(sub, "%s.retryBudget", path), p->retry_budget);
    if (!rc && p->tunnel)
        rc = check_tunnel(c, PATH(sub, "%s.tunnel", path), p->tunnel);
    return rc;
}

static int check_subsets(struct validating *c, const struct istio_DestinationRule *r)
{
    char path[VALIDATE_PATH_BYTES];
    int rc = 0;

    for (uint32_t i = 0; i < r->subsets.n && !rc; i++) {
        const struct istio_Subset *s = r->subsets.v[i];
        PATH(path, "spec.subsets[%u].name", i);
        if (!s->name.n)
            return validate_bad(c, path, "Required", "%s: a subset needs a name", path);
        if (sv_find(s->name, '|') >= 0)
            return validate_bad(c, path, "InvalidValue", "%s: must not have a '|'", path);
        for (uint32_t k = 0; k < i; k++) {
            if (sv_eq(s->name, r->subsets.v[k]->name))
                return validate_bad(c, path, "Duplicate", "%s: subset '%.*s' is defined twice",
                                    path, SV_ARG(s->name));
        }
        if (s->traffic_policy)
            rc =
                check_policy(c, PATH(path, "spec.subsets[%u].trafficPolicy", i), s->traffic_policy);
    }
    return rc;
}

static int check_clients(struct validating *c, const struct istio_DestinationRule *r)
{
    int rc = validate_export(c, r->export_to.v, r->export_to.n, false);

    if (rc || !r->workload_selector)
        return rc;
    if (r->export_to.n && (r->export_to.n > 1 || !sv_eq_c(r->export_to.v[0], ".")))
        return validate_bad(c, "spec.exportTo", "InvalidExportTo",
                            "spec.exportTo: workloadSelector selects clients of this namespace "
                            "alone; leave exportTo out, or set it to ['.']");
    return VALIDATE_LABELS(c, "spec.workloadSelector.matchLabels",
                           r->workload_selector->match_labels);
}

int validate_destination_rule(struct validating *c, const struct istio_DestinationRule *r)
{
    int rc = validate_walk(c, refused, sizeof refused / sizeof *refused, &istio_DestinationRule_pb,
                           r, "spec");

    if (rc)
        return rc;
    if (!r->host.n)
        return validate_bad(c, "spec.host", "Required", "spec.host: a host is needed");
    rc = validate_host(c, "spec.host", r->host);
    rc = rc ? rc : check_clients(c, r);
    if (!rc && r->traffic_policy)
        rc = check_policy(c, "spec.trafficPolicy", r->traffic_policy);
    return rc ? rc : check_subsets(c, r);
}
