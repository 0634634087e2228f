/* What a DestinationRule says of one port and subset of a service. */
#include "mesh/translate/internal.h"

bool build_on_wildcard(struct build *b, const struct model_service *svc)
{
    return svc->entry && !svc->n_addresses && !svc->n_cidrs &&
           (!svc->auto_vip || !b->p->dns_capture);
}

bool build_older(const struct model_service *a, const struct model_service *b)
{
    uint64_t old_a = a->object->created_ns, old_b = b->object->created_ns;
    return old_a != old_b ? old_a < old_b : sv_cmp(a->host, b->host) < 0;
}

bool build_pods(struct build *b, const struct model_service *svc, const struct model_port *port)
{
    const struct model_endpoints *eps = model_endpoints_find(b->m, svc->host, port->port);
    struct istio_TrafficPolicy p;

    if (!svc->spec->headless || svc->entry || port->protocol == MODEL_UDP)
        return false;
    p = build_policy(b, svc, port->port, (sv){NULL, 0});
    if (p.tls && p.tls->mode != istio_ClientTLSSettings_ISTIO_MUTUAL)
        return false;
    for (uint32_t i = 0; eps && i < eps->n; i++) {
        if (eps->v[i].tls)
            return true;
    }
    return false;
}

sv build_pods_cluster(struct build *b, const struct model_service *svc, uint16_t port)
{
    return arena_printf(b->a, "outbound|%u||*.%.*s", port, SV_ARG(svc->host));
}

const struct model_port *build_port(const struct model_service *svc, uint16_t port)
{
    for (uint32_t i = 0; i < svc->spec->n_ports; i++) {
        if (svc->spec->ports[i].port == port)
            return &svc->spec->ports[i];
    }
    return NULL;
}

const struct istio_DestinationRule *build_rule(struct build *b, const struct model_service *svc)
{
    const struct model_client c = {b->p->ns, b->p->labels};
    const struct model_rule *r = model_rule_find(b->m, svc, &c);
    return r ? r->spec : NULL;
}

const struct istio_Subset *build_subset(const struct istio_DestinationRule *r, sv name)
{
    for (uint32_t i = 0; r && i < r->subsets.n; i++) {
        if (sv_eq(r->subsets.v[i]->name, name))
            return r->subsets.v[i];
    }
    return NULL;
}

static void overlay(struct istio_TrafficPolicy *out, const struct istio_TrafficPolicy *p,
                    uint16_t port)
{
    if (!p)
        return;
#define TAKE(field)                                                                                \
    if (p->field)                                                                                  \
    out->field = p->field
    TAKE(load_balancer);
    TAKE(connection_pool);
    TAKE(outlier_detection);
    TAKE(tls);
    TAKE(proxy_protocol);
    TAKE(retry_budget);
#undef TAKE
    for (uint32_t i = 0; i < p->port_level_settings.n; i++) {
        const struct istio_TrafficPolicy_PortTrafficPolicy *pl = p->port_level_settings.v[i];
        if (!pl->port || pl->port->number != port)
            continue;
        /* What a port's settings leave out is the default, not what stands above them. */
        out->load_balancer = pl->load_balancer;
        out->connection_pool = pl->connection_pool;
        out->outlier_detection = pl->outlier_detection;
        out->tls = pl->tls;
        return;
    }
}

struct istio_TrafficPolicy build_policy(struct build *b, const struct model_service *svc,
                                        uint16_t port, sv subset)
{
    struct istio_TrafficPolicy out = {0};
    const struct istio_DestinationRule *r = build_rule(b, svc);
    const struct istio_Subset *s = subset.n ? build_subset(r, subset) : NULL;
    const struct istio_TrafficPolicy *own;

    if (r)
        overlay(&out, r->traffic_policy, port);
    if (s)
        overlay(&out, s->traffic_policy, port);
    own = subset.n ? (s ? s->traffic_policy : NULL) : r ? r->traffic_policy : NULL;
    out.tunnel = own ? own->tunnel : NULL;
    return out;
}
