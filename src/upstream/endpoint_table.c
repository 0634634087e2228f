#include "upstream/endpoint_private.h"

#include <stdio.h>
#include <stdlib.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "base/mem.h"

#define MAX_PRIORITY 128

/* ---- checking ---- */

static int check_address(const struct envoy_Address *a, bool names, const char *path,
                         struct error *err)
{
    if (!a || a->which_address == 0)
        return error_set(err, E_INVALID, "%s: required", path);
    struct addr out;
    if (a->which_address == envoy_Address_pipe_tag)
        return addr_unix(&out, a->pipe->path) == 0
                   ? 0
                   : error_set(err, E_INVALID, "%s.pipe.path: '%.*s' is not a socket path", path,
                               SV_ARG(a->pipe->path));
    const struct envoy_SocketAddress *s = a->socket_address;
    if (s->protocol != envoy_SocketAddress_TCP)
        return error_set(err, E_UNSUPPORTED, "%s.socket_address.protocol: UDP is not supported",
                         path);
    if (s->resolver_name.n)
        return error_set(err, E_UNSUPPORTED, "%s.socket_address.resolver_name: not supported",
                         path);
    if (s->which_port_specifier != envoy_SocketAddress_port_value_tag)
        return error_set(err, E_INVALID, "%s.socket_address.port_value: required", path);
    if (s->port_value > 65535)
        return error_set(err, E_INVALID, "%s.socket_address.port_value: %u is no port", path,
                         s->port_value);
    if (addr_ip(&out, s->address, (uint16_t)s->port_value) == 0)
        return 0;
    if (names && s->address.n > 0 && s->address.n <= 253)
        return 0;
    return error_set(err, E_INVALID, "%s.socket_address.address: '%.*s' is %s", path,
                     SV_ARG(s->address), names ? "no host name" : "no IP address");
}

static int check_endpoint(const struct envoy_LbEndpoint *e, bool names, const char *path,
                          struct error *err)
{
    char p[288];
    if (e->which_host_identifier == envoy_LbEndpoint_endpoint_name_tag)
        return error_set(err, E_UNSUPPORTED, "%s.endpoint_name: not supported", path);
    if (!e->endpoint)
        return error_set(err, E_INVALID, "%s.endpoint: required", path);
    if (e->endpoint->additional_addresses.n)
        return error_set(err, E_UNSUPPORTED, "%s.endpoint.additional_addresses: not supported",
                         path);
    if (e->load_balancing_weight && e->load_balancing_weight->value == 0)
        return error_set(err, E_INVALID, "%s.load_balancing_weight: must be at least 1", path);
    snprintf(p, sizeof p, "%s.endpoint.address", path);
    int rc = check_address(e->endpoint->address, names, p, err);
    const struct envoy_Endpoint_HealthCheckConfig *h = e->endpoint->health_check_config;
    if (rc || !h)
        return rc;
    if (h->port_value > 65535)
        return error_set(err, E_INVALID,
                         "%s.endpoint.health_check_config.port_value: %u is no port", path,
                         h->port_value);
    if (!h->address)
        return 0;
    snprintf(p, sizeof p, "%s.endpoint.health_check_config.address", path);
    return check_address(h->address, false, p, err);
}

static int check_policy(const struct envoy_ClusterLoadAssignment_Policy *p, const char *path,
                        struct error *err)
{
    if (!p)
        return 0;
    if (p->drop_overloads.n)
        return error_set(err, E_UNSUPPORTED, "%s.policy.drop_overloads: not supported", path);
    if (p->endpoint_stale_after)
        return error_set(err, E_UNSUPPORTED, "%s.policy.endpoint_stale_after: not supported", path);
    if (p->overprovisioning_factor && p->overprovisioning_factor->value == 0)
        return error_set(err, E_INVALID, "%s.policy.overprovisioning_factor: must be at least 1",
                         path);
    return 0;
}

int endpoint_check(const struct envoy_ClusterLoadAssignment *cla, bool names, const char *path,
                   struct error *err)
{
    int rc = check_policy(cla->policy, path, err);
    uint64_t locality_sum[MAX_PRIORITY + 1] = {0};
    for (uint32_t i = 0; rc == 0 && i < cla->endpoints.n; i++) {
        const struct envoy_LocalityLbEndpoints *l = cla->endpoints.v[i];
        char p[224];
        uint64_t sum = 0;
        if (l->priority > MAX_PRIORITY)
            return error_set(err, E_INVALID, "%s.endpoints[%u].priority: must be at most %d", path,
                             i, MAX_PRIORITY);
        if (l->proximity)
            return error_set(err, E_UNSUPPORTED, "%s.endpoints[%u].proximity: not supported", path,
                             i);
        for (uint32_t j = 0; rc == 0 && j < l->lb_endpoints.n; j++) {
            const struct envoy_LbEndpoint *e = l->lb_endpoints.v[j];
            snprintf(p, sizeof p, "%s.endpoints[%u].lb_endpoints[%u]", path, i, j);
            sum += e->load_balancing_weight ? e->load_balancing_weight->value : 1;
            rc = check_endpoint(e, names, p, err);
        }
        if (sum > UINT32_MAX)
            return error_set(err, E_INVALID,
                             "%s.endpoints[%u].lb_endpoints: the weights add up to more than %u",
                             path, i, UINT32_MAX);
        locality_sum[l->priority] += l->load_balancing_weight ? l->load_balancing_weight->value : 0;
        if (locality_sum[l->priority] > UINT32_MAX)
            return error_set(err, E_INVALID,
                             "%s.endpoints: the locality weights of priority %u add up to more "
                             "than %u",
                             path, l->priority, UINT32_MAX);
    }
    return rc;
}

/* ---- building ---- */

struct builder {
    struct endpoint_registry *r;
    const struct endpoint_table_opts *o;
    struct endpoint_table *t;
    struct info_store *store;
    struct map seen; /* packed addresses, when they count once */
    struct strbuf content;
};

static int locality_cmp(const void *pa, const void *pb)
{
    const struct endpoint_locality *a = pa, *b = pb;
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    int c = sv_cmp(a->region, b->region);
    if (c == 0)
        c = sv_cmp(a->zone, b->zone);
    return c ? c : sv_cmp(a->sub_zone, b->sub_zone);
}

static struct endpoint_locality locality_key(const struct envoy_LocalityLbEndpoints *l)
{
    struct endpoint_locality k = {.priority = l->priority};
    if (l->locality) {
        k.region = l->locality->region;
        k.zone = l->locality->zone;
        k.sub_zone = l->locality->sub_zone;
    }
    k.weight = l->load_balancing_weight ? l->load_balancing_weight->value : 0;
    return k;
}

static int locality_order(const void *pa, const void *pb)
{
    const struct endpoint_locality *a = pa, *b = pb;
    int c = locality_cmp(a, b);
    return c ? c : a->n < b->n ? -1 : 1;
}

/* All localities once, sorted. Of one that is listed twice the last weight counts. */
static void collect_localities(struct endpoint_table *t,
                               const struct envoy_ClusterLoadAssignment *cla)
{
    struct endpoint_locality *v = mem_array(struct endpoint_locality, cla->endpoints.n + 1);
    for (uint32_t i = 0; i < cla->endpoints.n; i++) {
        v[i] = locality_key(cla->endpoints.v[i]);
        v[i].n = i; /* keeps the order among equals */
        if (v[i].priority >= t->n_priorities)
            t->n_priorities = v[i].priority + 1;
    }
    qsort(v, cla->endpoints.n, sizeof *v, locality_order);
    uint32_t n = 0;
    for (uint32_t i = 0; i < cla->endpoints.n; i++) {
        if (n > 0 && locality_cmp(&v[n - 1], &v[i]) == 0)
            n--;
        v[n] = v[i];
        v[n++].n = 0;
    }
    t->localities = v;
    t->n_localities = n;
}

static void address_of(const struct envoy_Address *a, struct addr *out)
{
    if (a->which_address == envoy_Address_pipe_tag)
        (void)addr_unix(out, a->pipe->path);
    else
        (void)addr_ip(out, a->socket_address->address, (uint16_t)a->socket_address->port_value);
}

static void health_config(const struct envoy_Endpoint_HealthCheckConfig *h, struct info_spec *s)
{
    if (!h)
        return;
    s->health_hostname = h->hostname;
    s->no_health_check = h->disable_active_health_check;
    if (h->address)
        address_of(h->address, &s->health_addr);
    if (h->port_value) {
        if (!s->health_addr.len)
            s->health_addr = s->addr;
        addr_set_port(&s->health_addr, (uint16_t)h->port_value);
    }
}

/* The bytes that tell one endpoint from another at the same address. */
static void describe(struct builder *b, const struct envoy_LbEndpoint *e, struct info_spec *s)
{
    strbuf_reset(&b->content);
    if (s->metadata)
        pb_encode(&envoy_Metadata_pb, s->metadata, &b->content);
    s->metadata_n = b->content.n;
    const sv parts[] = {s->hostname, s->region, s->zone, s->sub_zone};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        strbuf_add_sv(&b->content, parts[i]);
        strbuf_add_ch(&b->content, 0);
    }
    strbuf_addf(&b->content, "%u;%d;", s->transport, s->logical);
    if (e->endpoint->health_check_config)
        pb_encode(&envoy_Endpoint_HealthCheckConfig_pb, e->endpoint->health_check_config,
                  &b->content);
    s->content = strbuf_sv(&b->content);
}

static void add_endpoint(struct builder *b, const struct envoy_LbEndpoint *e, uint32_t locality)
{
    const struct endpoint_locality *l = &b->t->localities[locality];
    struct info_spec s = {.hostname = e->endpoint->hostname,
                          .region = l->region,
                          .zone = l->zone,
                          .sub_zone = l->sub_zone,
                          .logical = b->o->logical,
                          .metadata = e->metadata};
    address_of(e->endpoint->address, &s.addr);
    sv key = addr_key(&s.addr);
    if (b->o->dedupe && map_has(&b->seen, key))
        return;
    health_config(e->endpoint->health_check_config, &s);
    if (b->o->transport)
        s.transport = b->o->transport(b->o->transport_cfg, e->metadata);
    describe(b, e, &s);
    struct endpoint *ep = &b->t->v[b->t->n++];
    ep->info = endpoint_info_get_locked(b->r, &s, &b->store);
    ep->weight = e->load_balancing_weight ? e->load_balancing_weight->value : 1;
    ep->locality = locality;
    ep->priority = l->priority;
    ep->eds_health = e->health_status;
    b->t->localities[locality].n++;
    if (b->o->dedupe)
        map_put(&b->seen, key, ep);
}

static void add_priority(struct builder *b, const struct envoy_ClusterLoadAssignment *cla,
                         uint32_t priority)
{
    for (uint32_t i = 0; i < cla->endpoints.n; i++) {
        const struct envoy_LocalityLbEndpoints *l = cla->endpoints.v[i];
        if (l->priority != priority)
            continue;
        struct endpoint_locality k = locality_key(l);
        const struct endpoint_locality *at =
            bsearch(&k, b->t->localities, b->t->n_localities, sizeof k, locality_cmp);
        for (uint32_t j = 0; at && j < l->lb_endpoints.n; j++)
            add_endpoint(b, l->lb_endpoints.v[j], (uint32_t)(at - b->t->localities));
    }
}

/* The names were views into the assignment; now they are the infos'. */
static void own_locality_names(struct endpoint_table *t)
{
    for (uint32_t i = 0; i < t->n_localities; i++)
        t->localities[i].region = t->localities[i].zone = t->localities[i].sub_zone = (sv){0};
    for (uint32_t i = 0; i < t->n; i++) {
        struct endpoint_locality *l = &t->localities[t->v[i].locality];
        l->region = t->v[i].info->region;
        l->zone = t->v[i].info->zone;
        l->sub_zone = t->v[i].info->sub_zone;
    }
}

struct endpoint_table *endpoint_table_new(struct endpoint_registry *r,
                                          const struct envoy_ClusterLoadAssignment *cla,
                                          const struct endpoint_table_opts *o)
{
    struct endpoint_table *t = mem_new(struct endpoint_table);
    struct builder b = {.r = r, .o = o, .t = t};
    uint32_t n = 0;
    for (uint32_t i = 0; i < cla->endpoints.n; i++)
        n += cla->endpoints.v[i]->lb_endpoints.n;
    t->registry = r;
    t->v = mem_array(struct endpoint, n + 1);
    t->n_priorities = 1;
    t->overprovisioning = cla->policy && cla->policy->overprovisioning_factor
                              ? cla->policy->overprovisioning_factor->value
                              : 140;
    t->weighted_priority_health = cla->policy && cla->policy->weighted_priority_health;
    collect_localities(t, cla);
    map_init(&b.seen);
    strbuf_init(&b.content, 1u << 24);
    pthread_mutex_lock(&r->lock);
    for (uint32_t p = 0; p < t->n_priorities; p++)
        add_priority(&b, cla, p);
    info_store_put(b.store);
    pthread_mutex_unlock(&r->lock);
    own_locality_names(t);
    strbuf_fini(&b.content);
    map_fini(&b.seen);
    return t;
}

void endpoint_table_free(struct endpoint_table *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->registry->lock);
    for (uint32_t i = 0; i < t->n; i++)
        endpoint_info_put_locked(t->v[i].info);
    pthread_mutex_unlock(&t->registry->lock);
    free(t->localities);
    free(t->v);
    free(t);
}

struct endpoint_counts endpoint_table_count(const struct endpoint_table *t)
{
    struct endpoint_counts c = {.total = t->n};
    for (uint32_t i = 0; i < t->n; i++) {
        enum endpoint_health h = endpoint_health(&t->v[i]);
        c.healthy += h == ENDPOINT_IS_HEALTHY;
        c.degraded += h == ENDPOINT_IS_DEGRADED;
        c.excluded += h == ENDPOINT_IS_EXCLUDED;
    }
    return c;
}
