/* CDS of proxyless gRPC clients: of a cluster gRPC knows endpoints, round robin or a ring by a
 * header, and how many calls may be open. */
#include "mesh/translate/grpc.h"

static void report(struct grpc_build *g, const struct model_service *svc, const char *field,
                   const char *what)
{
    const struct model_client c = {g->b.p->ns, g->b.p->labels};
    const struct model_rule *r = model_rule_find(g->b.m, svc, &c);

    if (r)
        grpc_report(g, r->object, sv_of(field), what);
}

/* False: it would be spoken to in plain text where the rule says TLS. */
static bool plain(struct grpc_build *g, const struct model_service *svc,
                  const struct istio_TrafficPolicy *p)
{
    if (!p->tls || p->tls->mode == istio_ClientTLSSettings_DISABLE)
        return true;
    report(g, svc, "trafficPolicy.tls", "cannot be given certificates; calls to the host fail");
    return false;
}

static void balancer(struct grpc_build *g, const struct model_service *svc,
                     const struct istio_LoadBalancerSettings *lb, struct envoy_Cluster *c)
{
    const struct istio_LoadBalancerSettings_ConsistentHashLB *h;

    c->lb_policy = envoy_Cluster_ROUND_ROBIN;
    if (!lb)
        return;
    if (lb->which_lb_policy != istio_LoadBalancerSettings_consistent_hash_tag) {
        if (lb->simple != istio_LoadBalancerSettings_UNSPECIFIED &&
            lb->simple != istio_LoadBalancerSettings_ROUND_ROBIN)
            report(g, svc, "trafficPolicy.loadBalancer.simple",
                   "have no such balancer; they take ROUND_ROBIN");
        return;
    }
    h = lb->consistent_hash;
    if (h->which_hash_key != istio_LoadBalancerSettings_ConsistentHashLB_http_header_name_tag) {
        report(g, svc, "trafficPolicy.loadBalancer.consistentHash",
               "hash nothing but a header; they take ROUND_ROBIN");
        return;
    }
    c->lb_policy = envoy_Cluster_RING_HASH;
}

static void limits(struct grpc_build *g, const struct model_service *svc,
                   const struct istio_TrafficPolicy *p, struct envoy_Cluster *c)
{
    const struct istio_ConnectionPoolSettings_HTTPSettings *http =
        p->connection_pool ? p->connection_pool->http : NULL;
    struct envoy_CircuitBreakers_Thresholds *t;

    if (p->outlier_detection)
        report(g, svc, "trafficPolicy.outlierDetection",
               "do not count failures in a row; no endpoint is ejected");
    if (!http || http->http2_max_requests <= 0)
        return;
    t = MAKE(&g->b, envoy_CircuitBreakers_Thresholds,
             .max_requests = build_u32(&g->b, (uint32_t)http->http2_max_requests));
    c->circuit_breakers =
        MAKE(&g->b, envoy_CircuitBreakers, .thresholds = {.v = build_one(&g->b, t), .n = 1});
}

static struct envoy_Cluster *eds_cluster(struct build *b, sv name, sv endpoints)
{
    struct envoy_Cluster_EdsClusterConfig *eds =
        build_copy(b, b->t->cluster_outbound->eds_cluster_config, sizeof *eds);

    eds->service_name = endpoints;
    return MAKE(b, envoy_Cluster, .name = name,
                .which_cluster_discovery_type = envoy_Cluster_type_tag, .type = envoy_Cluster_EDS,
                .eds_cluster_config = eds);
}

const struct envoy_Cluster *grpc_refused_cluster(struct grpc_build *g, sv name)
{
    return eds_cluster(&g->b, name, name);
}

/* It exists, and what comes to be in its place differs from it: grpc-js takes no notice of a
 * resource that goes and comes back as it was. */
static const struct envoy_Cluster *without_endpoints(struct grpc_build *g,
                                                     const struct model_service *svc,
                                                     const struct model_port *port, sv name)
{
    struct build *b = &g->b;

    return eds_cluster(
        b, name, translate_cluster_name(b->a, "refused", port->port, (sv){NULL, 0}, svc->host));
}

const struct envoy_Cluster *grpc_cluster(struct grpc_build *g, const struct model_service *svc,
                                         const struct model_port *port, sv subset, sv name)
{
    struct build *b = &g->b;
    struct istio_TrafficPolicy policy;
    struct envoy_Cluster *c;

    if (subset.n && !build_subset(build_rule(b, svc), subset))
        return NULL;
    if (svc->resolution != MODEL_RESOLVE_ENDPOINTS) {
        grpc_report(g, svc->object, SV("spec.resolution"),
                    "reach no hosts but those whose endpoints are known; calls to the host fail");
        return without_endpoints(g, svc, port, name);
    }
    policy = build_policy(b, svc, port->port, subset);
    if (!plain(g, svc, &policy))
        return without_endpoints(g, svc, port, name);
    c = eds_cluster(b, name, name);
    balancer(g, svc, policy.load_balancer, c);
    limits(g, svc, &policy, c);
    return c;
}
