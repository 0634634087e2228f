/* loadBalancer of a DestinationRule: the cluster's balancer, and what routes hash. */
#include <string.h>
#include "mesh/translate/cluster.h"

typedef struct istio_LoadBalancerSettings_ConsistentHashLB hash_lb;

/* ---- slow start ---- */

static const struct envoy_Cluster_SlowStartConfig *
slow_start(struct build *b, const struct istio_LoadBalancerSettings *lb)
{
    const struct istio_WarmupConfiguration *w = lb->warmup;
    struct envoy_Cluster_SlowStartConfig *out;

    if (!w && !lb->warmup_duration_secs)
        return NULL;
    out = MAKE(b, envoy_Cluster_SlowStartConfig,
               .slow_start_window = w ? w->duration : lb->warmup_duration_secs);
    if (w && w->aggression)
        out->aggression = MAKE(b, envoy_RuntimeDouble, .default_value = w->aggression->value,
                               .runtime_key = SV("upstream.slow_start.aggression"));
    if (w && w->minimum_percent)
        out->min_weight_percent = MAKE(b, envoy_Percent, .value = w->minimum_percent->value);
    return out;
}

static void round_robin(struct outbound *o, const struct istio_LoadBalancerSettings *lb)
{
    const struct envoy_Cluster_SlowStartConfig *s = slow_start(o->b, lb);

    o->c->lb_policy = envoy_Cluster_ROUND_ROBIN;
    if (!s)
        return;
    o->c->which_lb_config = envoy_Cluster_round_robin_lb_config_tag;
    o->c->round_robin_lb_config =
        MAKE(o->b, envoy_Cluster_RoundRobinLbConfig, .slow_start_config = s);
}

static void least_request(struct outbound *o, const struct istio_LoadBalancerSettings *lb)
{
    const struct envoy_Cluster_SlowStartConfig *s = slow_start(o->b, lb);

    o->c->lb_policy = envoy_Cluster_LEAST_REQUEST;
    if (!s)
        return;
    o->c->which_lb_config = envoy_Cluster_least_request_lb_config_tag;
    o->c->least_request_lb_config =
        MAKE(o->b, envoy_Cluster_LeastRequestLbConfig, .slow_start_config = s);
}

/* ---- the balancer ---- */

static void simple(struct outbound *o, const struct istio_LoadBalancerSettings *lb)
{
    switch (lb->simple) {
    case istio_LoadBalancerSettings_ROUND_ROBIN:
        round_robin(o, lb);
        break;
    case istio_LoadBalancerSettings_RANDOM:
        o->c->lb_policy = envoy_Cluster_RANDOM;
        break;
    case istio_LoadBalancerSettings_PASSTHROUGH:
        build_original_dst(o->c);
        break;
    default: /* UNSPECIFIED, LEAST_REQUEST, and its old name LEAST_CONN */
        least_request(o, lb);
    }
}

static const struct google_UInt64Value *u64(struct build *b, uint64_t v)
{
    return MAKE(b, google_UInt64Value, .value = v);
}

static void consistent(struct outbound *o, const hash_lb *h)
{
    uint64_t ring = h->minimum_ring_size ? h->minimum_ring_size : 1024;

    if (h->which_hash_algorithm == istio_LoadBalancerSettings_ConsistentHashLB_maglev_tag) {
        o->c->lb_policy = envoy_Cluster_MAGLEV;
        if (h->maglev->table_size) {
            o->c->which_lb_config = envoy_Cluster_maglev_lb_config_tag;
            o->c->maglev_lb_config = MAKE(o->b, envoy_Cluster_MaglevLbConfig,
                                          .table_size = u64(o->b, h->maglev->table_size));
        }
        return;
    }
    if (h->which_hash_algorithm == istio_LoadBalancerSettings_ConsistentHashLB_ring_hash_tag &&
        h->ring_hash->minimum_ring_size)
        ring = h->ring_hash->minimum_ring_size;
    o->c->lb_policy = envoy_Cluster_RING_HASH;
    o->c->which_lb_config = envoy_Cluster_ring_hash_lb_config_tag;
    o->c->ring_hash_lb_config =
        MAKE(o->b, envoy_Cluster_RingHashLbConfig, .minimum_ring_size = u64(o->b, ring));
}

void build_original_dst(struct envoy_Cluster *c)
{
    c->which_cluster_discovery_type = envoy_Cluster_type_tag;
    c->type = envoy_Cluster_ORIGINAL_DST;
    c->lb_policy = envoy_Cluster_CLUSTER_PROVIDED;
    c->which_lb_config = 0;
    c->eds_cluster_config = NULL;
    c->load_assignment = NULL;
}

const struct istio_LocalityLoadBalancerSetting *build_locality(const struct istio_TrafficPolicy *p)
{
    return p->load_balancer ? p->load_balancer->locality_lb_setting : NULL;
}

/* Localities have weights unless they are switched off. */
static void weigh_localities(struct outbound *o)
{
    const struct istio_LocalityLoadBalancerSetting *l = build_locality(&o->policy);
    struct envoy_Cluster_CommonLbConfig *c;

    if (l && l->enabled && !l->enabled->value)
        return;
    c = build_copy(o->b, o->c->common_lb_config, sizeof *c);
    c->which_locality_config_specifier =
        envoy_Cluster_CommonLbConfig_locality_weighted_lb_config_tag;
    c->locality_weighted_lb_config =
        MAKE0(o->b, envoy_Cluster_CommonLbConfig_LocalityWeightedLbConfig);
    o->c->common_lb_config = c;
}

void cluster_apply_balancer(struct outbound *o)
{
    const struct istio_LoadBalancerSettings *lb = o->policy.load_balancer;

    if (o->c->type == envoy_Cluster_ORIGINAL_DST)
        return;
    if (lb && lb->which_lb_policy == istio_LoadBalancerSettings_consistent_hash_tag)
        consistent(o, lb->consistent_hash);
    else if (lb)
        simple(o, lb);
    if (o->c->type != envoy_Cluster_ORIGINAL_DST)
        weigh_localities(o);
}

/* ---- what is hashed ---- */

static const hash_lb *hash_of(struct build *b, const struct model_service *svc, uint16_t port,
                              sv subset)
{
    struct istio_TrafficPolicy p = build_policy(b, svc, port, subset);

    return p.load_balancer && p.load_balancer->which_lb_policy ==
                                  istio_LoadBalancerSettings_consistent_hash_tag
               ? p.load_balancer->consistent_hash
               : NULL;
}

static const struct envoy_RouteAction_HashPolicy_Cookie *
hash_cookie(struct build *b,
            const struct istio_LoadBalancerSettings_ConsistentHashLB_HTTPCookie *in)
{
    struct envoy_RouteAction_HashPolicy_Cookie *c = MAKE(
        b, envoy_RouteAction_HashPolicy_Cookie, .name = in->name, .path = in->path, .ttl = in->ttl);
    const struct envoy_RouteAction_HashPolicy_CookieAttribute **list = arena_array(
        b->a, const struct envoy_RouteAction_HashPolicy_CookieAttribute *, in->attributes.n + 1);

    for (uint32_t i = 0; i < in->attributes.n; i++)
        list[i] = MAKE(b, envoy_RouteAction_HashPolicy_CookieAttribute,
                       .name = in->attributes.v[i]->name, .value = in->attributes.v[i]->value);
    c->attributes.v = list;
    c->attributes.n = in->attributes.n;
    return c;
}

static const struct envoy_RouteAction_HashPolicy *hash_policy(struct build *b, const hash_lb *h)
{
    switch (h->which_hash_key) {
    case istio_LoadBalancerSettings_ConsistentHashLB_http_header_name_tag:
        return MAKE(b, envoy_RouteAction_HashPolicy,
                    .which_policy_specifier = envoy_RouteAction_HashPolicy_header_tag,
                    .header = MAKE(b, envoy_RouteAction_HashPolicy_Header,
                                   .header_name = h->http_header_name));
    case istio_LoadBalancerSettings_ConsistentHashLB_http_cookie_tag:
        return MAKE(b, envoy_RouteAction_HashPolicy,
                    .which_policy_specifier = envoy_RouteAction_HashPolicy_cookie_tag,
                    .cookie = hash_cookie(b, h->http_cookie));
    case istio_LoadBalancerSettings_ConsistentHashLB_use_source_ip_tag:
        return h->use_source_ip
                   ? MAKE(b, envoy_RouteAction_HashPolicy,
                          .which_policy_specifier =
                              envoy_RouteAction_HashPolicy_connection_properties_tag,
                          .connection_properties =
                              MAKE(b, envoy_RouteAction_HashPolicy_ConnectionProperties,
                                   .source_ip = true))
                   : NULL;
    case istio_LoadBalancerSettings_ConsistentHashLB_http_query_parameter_name_tag:
        return MAKE(b, envoy_RouteAction_HashPolicy,
                    .which_policy_specifier = envoy_RouteAction_HashPolicy_query_parameter_tag,
                    .query_parameter = MAKE(b, envoy_RouteAction_HashPolicy_QueryParameter,
                                            .name = h->http_query_parameter_name));
    default:
        return NULL;
    }
}

void build_hash(struct build *b, struct envoy_RouteAction *a, sv cluster)
{
    const struct envoy_RouteAction_HashPolicy **list, *one = NULL;
    sv direction, subset, host;
    const struct model_service *svc;
    const hash_lb *h = NULL;
    uint16_t port;

    if (!translate_cluster_parse(cluster, &direction, &port, &subset, &host))
        return;
    svc = model_service_find(b->m, host);
    if (svc)
        h = hash_of(b, svc, port, subset);
    if (h)
        one = hash_policy(b, h);
    if (!one)
        return;
    list = arena_array(b->a, const struct envoy_RouteAction_HashPolicy *, a->hash_policy.n + 1);
    if (a->hash_policy.n)
        memcpy(list, a->hash_policy.v, a->hash_policy.n * sizeof *list);
    list[a->hash_policy.n++] = one;
    a->hash_policy.v = list;
}

/* ---- TCP ---- */

void build_tcp_policy(struct build *b, struct envoy_TcpProxy *t, sv cluster)
{
    sv direction, subset, host;
    const struct model_service *svc;
    struct istio_TrafficPolicy p;
    const struct istio_ConnectionPoolSettings_TCPSettings *tcp;
    uint16_t port;

    if (!translate_cluster_parse(cluster, &direction, &port, &subset, &host))
        return;
    svc = model_service_find(b->m, host);
    if (!svc)
        return;
    p = build_policy(b, svc, port, subset);
    tcp = p.connection_pool ? p.connection_pool->tcp : NULL;
    if (tcp && tcp->idle_timeout)
        t->idle_timeout = tcp->idle_timeout;
    if (tcp && tcp->max_connection_duration)
        t->max_downstream_connection_duration = tcp->max_connection_duration;
    if (p.load_balancer &&
        p.load_balancer->which_lb_policy == istio_LoadBalancerSettings_consistent_hash_tag &&
        p.load_balancer->consistent_hash->use_source_ip && !t->hash_policy.n) {
        struct envoy_HashPolicy *h =
            MAKE(b, envoy_HashPolicy, .which_policy_specifier = envoy_HashPolicy_source_ip_tag,
                 .source_ip = MAKE0(b, envoy_HashPolicy_SourceIp));
        t->hash_policy.v = build_one(b, h);
        t->hash_policy.n = 1;
    }
}

void build_tcp_tunnel(struct build *b, struct envoy_TcpProxy *t, sv cluster, bool split)
{
    const struct istio_TrafficPolicy_TunnelSettings *to;
    const struct model_service *svc;
    sv direction, subset, host;
    uint16_t port;

    if (!translate_cluster_parse(cluster, &direction, &port, &subset, &host))
        return;
    svc = model_service_find(b->m, host);
    to = svc ? build_policy(b, svc, port, split ? (sv){NULL, 0} : subset).tunnel : NULL;
    if (!to)
        return;
    bool v6 = sv_find(to->target_host, ':') >= 0;
    t->tunneling_config = MAKE(b, envoy_TcpProxy_TunnelingConfig,
                               .hostname = arena_printf(b->a, v6 ? "[%.*s]:%u" : "%.*s:%u",
                                                        SV_ARG(to->target_host), to->target_port),
                               .use_post = sv_eq(to->protocol, SV("POST")));
}
