/* lb_policy, load_balancing_policy and common_lb_config. */
#include "upstream/cluster_config_private.h"

#include <math.h>
#include "api/google.pb.h"

static int set_percent(struct config_reader *r, const struct envoy_Percent *p, const char *field,
                       uint32_t *out)
{
    if (!p)
        return 0;
    if (!(p->value >= 0 && p->value <= 100))
        return config_invalid(r, "%s: must be between 0 and 100", field);
    *out = (uint32_t)lround(p->value);
    return 0;
}

/* The message exists twice, for either form of the configuration, with the same fields. */
static int slow_start(struct config_reader *r, const struct google_Duration *window,
                      const struct envoy_RuntimeDouble *aggression, const struct envoy_Percent *min,
                      const char *field)
{
    struct lb_config *l = &r->cfg->lb;
    const char *f = arena_printf(&r->cfg->arena, "%s.slow_start_config", field).p;
    int rc = config_ms(r, window, arena_printf(&r->cfg->arena, "%s.slow_start_window", f).p, 0,
                       &l->slow_start_ms);
    if (rc)
        return rc;
    if (aggression) {
        if (!(aggression->default_value > 0) || isinf(aggression->default_value))
            return config_invalid(r, "%s.aggression: must be greater than 0", f);
        l->slow_start_aggression = aggression->default_value;
    }
    if (min) {
        if (!(min->value >= 0 && min->value <= 100))
            return config_invalid(r, "%s.min_weight_percent: must be between 0 and 100", f);
        l->slow_start_min = min->value / 100;
    }
    return 0;
}
#define SLOW_START(r, m, field)                                                                    \
    ((m) ? slow_start(r, (m)->slow_start_window, (m)->aggression, (m)->min_weight_percent, field)  \
         : 0)

/* ---- options of single policies, the same from both forms ---- */

static int set_choices(struct config_reader *r, const struct google_UInt32Value *count,
                       const struct envoy_RuntimeDouble *bias, const char *field)
{
    struct lb_config *l = &r->cfg->lb;
    if (count) {
        if (count->value < 2)
            return config_invalid(r, "%s.choice_count: must be at least 2", field);
        l->choice_count = count->value;
    }
    if (bias) {
        if (!(bias->default_value >= 0) || isinf(bias->default_value))
            return config_invalid(r, "%s.active_request_bias: must not be negative", field);
        l->active_request_bias = bias->default_value;
    }
    return 0;
}

static int set_ring(struct config_reader *r, const struct google_UInt64Value *min,
                    const struct google_UInt64Value *max, bool murmur2, const char *field)
{
    struct lb_config *l = &r->cfg->lb;
    if (min)
        l->min_ring_size = min->value;
    if (max)
        l->max_ring_size = max->value;
    l->murmur2 = murmur2;
    if (l->max_ring_size > 8u << 20)
        return config_invalid(r, "%s.maximum_ring_size: must be at most 8388608", field);
    if (l->min_ring_size < 1 || l->min_ring_size > l->max_ring_size)
        return config_invalid(r, "%s: minimum_ring_size (%llu) > maximum_ring_size (%llu)", field,
                              (unsigned long long)l->min_ring_size,
                              (unsigned long long)l->max_ring_size);
    return 0;
}

static bool is_prime(uint64_t n)
{
    if (n < 2)
        return false;
    for (uint64_t i = 2; i * i <= n; i++)
        if (n % i == 0)
            return false;
    return true;
}

static int set_table(struct config_reader *r, const struct google_UInt64Value *size,
                     const char *field)
{
    if (!size)
        return 0;
    if (size->value > 5000011 || !is_prime(size->value))
        return config_invalid(r, "%s.table_size: must be a prime number of at most 5000011", field);
    r->cfg->lb.table_size = (uint32_t)size->value;
    return 0;
}

static int set_balance(struct config_reader *r, const struct google_UInt32Value *factor,
                       const char *field)
{
    if (factor && factor->value < 100)
        return config_invalid(r, "%s.hash_balance_factor: must be at least 100", field);
    if (factor)
        r->cfg->lb.hash_balance_factor = factor->value;
    return 0;
}

static int set_consistent(struct config_reader *r, const struct envoy_ConsistentHashingLbConfig *c,
                          const char *field)
{
    if (!c)
        return 0;
    if (c->hash_policy.n)
        return config_refuse(r, "%s.consistent_hashing_lb_config.hash_policy", field);
    r->cfg->lb.hash_hostname = c->use_hostname_for_hashing;
    return set_balance(r, c->hash_balance_factor,
                       arena_printf(&r->cfg->arena, "%s.consistent_hashing_lb_config", field).p);
}

/* ---- load_balancing_policy: extensions ---- */

static int set_locality(struct config_reader *r, const struct envoy_LocalityLbConfig *l,
                        const char *field)
{
    if (!l)
        return 0;
    if (l->which_locality_config_specifier ==
        envoy_LocalityLbConfig_locality_weighted_lb_config_tag)
        r->cfg->lb.locality_weighted = true;
    const struct envoy_LocalityLbConfig_ZoneAwareLbConfig *z = l->zone_aware_lb_config;
    if (l->which_locality_config_specifier != envoy_LocalityLbConfig_zone_aware_lb_config_tag)
        return 0;
    if (z->routing_enabled || z->min_cluster_size)
        return config_refuse(r, "%s.locality_lb_config.zone_aware_lb_config: zone aware routing",
                             field);
    r->cfg->lb.fail_traffic_on_panic = z->fail_traffic_on_panic;
    return 0;
}

static int ext_round_robin(struct config_reader *r, const struct google_Any *any, const char *f)
{
    struct envoy_RoundRobin *c;
    int rc = config_any(r, any, &envoy_RoundRobin_pb, f, &c);
    if (rc == 0)
        rc = SLOW_START(r, c->slow_start_config, f);
    return rc ? rc : set_locality(r, c->locality_lb_config, f);
}

static int ext_random(struct config_reader *r, const struct google_Any *any, const char *f)
{
    struct envoy_Random *c;
    int rc = config_any(r, any, &envoy_Random_pb, f, &c);
    return rc ? rc : set_locality(r, c->locality_lb_config, f);
}

static int ext_least_request(struct config_reader *r, const struct google_Any *any, const char *f)
{
    struct envoy_LeastRequest *c;
    int rc = config_any(r, any, &envoy_LeastRequest_pb, f, &c);
    if (rc == 0)
        rc = SLOW_START(r, c->slow_start_config, f);
    if (rc == 0)
        rc = set_choices(r, c->choice_count, c->active_request_bias, f);
    if (rc)
        return rc;
    r->cfg->lb.full_scan = c->selection_method == envoy_LeastRequest_FULL_SCAN ||
                           (c->enable_full_scan && c->enable_full_scan->value);
    return set_locality(r, c->locality_lb_config, f);
}

static int ext_ring_hash(struct config_reader *r, const struct google_Any *any, const char *f)
{
    struct envoy_RingHash *c;
    int rc = config_any(r, any, &envoy_RingHash_pb, f, &c);
    if (rc == 0)
        rc = set_ring(r, c->minimum_ring_size, c->maximum_ring_size,
                      c->hash_function == envoy_RingHash_MURMUR_HASH_2, f);
    if (rc == 0)
        rc = set_balance(r, c->hash_balance_factor, f);
    if (rc)
        return rc;
    r->cfg->lb.locality_weighted = c->locality_weighted_lb_config != NULL;
    r->cfg->lb.hash_hostname = c->use_hostname_for_hashing;
    return set_consistent(r, c->consistent_hashing_lb_config, f);
}

static int ext_maglev(struct config_reader *r, const struct google_Any *any, const char *f)
{
    struct envoy_Maglev *c;
    int rc = config_any(r, any, &envoy_Maglev_pb, f, &c);
    if (rc == 0)
        rc = set_table(r, c->table_size, f);
    if (rc)
        return rc;
    r->cfg->lb.locality_weighted = c->locality_weighted_lb_config != NULL;
    return set_consistent(r, c->consistent_hashing_lb_config, f);
}

static int ext_cluster_provided(struct config_reader *r, const struct google_Any *any,
                                const char *f)
{
    struct envoy_ClusterProvided *c;
    return config_any(r, any, &envoy_ClusterProvided_pb, f, &c);
}

static int read_policies(struct config_reader *r, const struct envoy_LoadBalancingPolicy *p,
                         const char *field, unsigned depth);

static int ext_wrr_locality(struct config_reader *r, const struct google_Any *any, const char *f,
                            unsigned depth)
{
    struct envoy_WrrLocality *c;
    int rc = config_any(r, any, &envoy_WrrLocality_pb, f, &c);
    if (rc)
        return rc;
    if (!c->endpoint_picking_policy)
        return config_invalid(r, "%s.endpoint_picking_policy: required", f);
    if (depth > 1)
        return config_invalid(r, "%s: policies inside policies inside policies", f);
    rc = read_policies(r, c->endpoint_picking_policy,
                       arena_printf(&r->cfg->arena, "%s.endpoint_picking_policy", f).p, depth + 1);
    r->cfg->lb.locality_weighted = true;
    return rc;
}

static int ext_subset(struct config_reader *r, const struct google_Any *any, const char *f,
                      unsigned depth)
{
    struct envoy_Subset *c;
    int rc = config_any(r, any, &envoy_Subset_pb, f, &c);
    if (rc)
        return rc;
    if (!c->subset_lb_policy)
        return config_invalid(r, "%s.subset_lb_policy: required", f);
    if (depth > 0)
        return config_invalid(r, "%s: subsets inside another policy", f);
    rc = read_policies(r, c->subset_lb_policy,
                       arena_printf(&r->cfg->arena, "%s.subset_lb_policy", f).p, depth + 1);
    return rc ? rc : config_read_subset_policy(r, c, f);
}

static const struct {
    const char *type;
    const struct lb_policy *policy;
    int (*read)(struct config_reader *r, const struct google_Any *any, const char *field);
} extensions[] = {
    {"round_robin.v3.RoundRobin", &lb_round_robin, ext_round_robin},
    {"random.v3.Random", &lb_random, ext_random},
    {"least_request.v3.LeastRequest", &lb_least_request, ext_least_request},
    {"ring_hash.v3.RingHash", &lb_ring_hash, ext_ring_hash},
    {"maglev.v3.Maglev", &lb_maglev, ext_maglev},
    {"cluster_provided.v3.ClusterProvided", &lb_cluster_provided, ext_cluster_provided},
};

/* The first policy of the list that is known here is taken, as the API asks. */
static int read_policies(struct config_reader *r, const struct envoy_LoadBalancingPolicy *p,
                         const char *field, unsigned depth)
{
    const sv prefix = SV("envoy.extensions.load_balancing_policies.");
    sv unknown = {0};
    for (uint32_t i = 0; i < p->policies.n; i++) {
        const struct envoy_TypedExtensionConfig *e = p->policies.v[i]->typed_extension_config;
        if (!e || !e->typed_config)
            return config_invalid(r,
                                  "%s.policies[%u].typed_extension_config.typed_config: "
                                  "required",
                                  field, i);
        const char *f =
            arena_printf(&r->cfg->arena, "%s.policies[%u].typed_extension_config", field, i).p;
        sv type = pb_any_type(e->typed_config->type_url);
        unknown = e->name;
        if (!sv_starts(type, prefix))
            continue;
        type = sv_from(type, prefix.n);
        if (sv_eq(type, SV("subset.v3.Subset")))
            return ext_subset(r, e->typed_config, f, depth);
        if (sv_eq(type, SV("wrr_locality.v3.WrrLocality")))
            return ext_wrr_locality(r, e->typed_config, f, depth);
        for (size_t k = 0; k < sizeof extensions / sizeof *extensions; k++) {
            if (!sv_eq_c(type, extensions[k].type))
                continue;
            r->cfg->lb.policy = extensions[k].policy;
            return extensions[k].read(r, e->typed_config, f);
        }
    }
    return config_refuse(r, "%s.policies: '%.*s'", field, SV_ARG(unknown));
}

/* ---- lb_policy and common_lb_config: the older form ---- */

static int read_policy_options(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    switch (c->which_lb_config) {
    case envoy_Cluster_round_robin_lb_config_tag:
        return SLOW_START(r, c->round_robin_lb_config->slow_start_config, "round_robin_lb_config");
    case envoy_Cluster_least_request_lb_config_tag: {
        const struct envoy_Cluster_LeastRequestLbConfig *l = c->least_request_lb_config;
        int rc = SLOW_START(r, l->slow_start_config, "least_request_lb_config");
        return rc ? rc
                  : set_choices(r, l->choice_count, l->active_request_bias,
                                "least_request_lb_config");
    }
    case envoy_Cluster_ring_hash_lb_config_tag:
        return set_ring(
            r, c->ring_hash_lb_config->minimum_ring_size, c->ring_hash_lb_config->maximum_ring_size,
            c->ring_hash_lb_config->hash_function == envoy_Cluster_RingHashLbConfig_MURMUR_HASH_2,
            "ring_hash_lb_config");
    case envoy_Cluster_maglev_lb_config_tag:
        return set_table(r, c->maglev_lb_config->table_size, "maglev_lb_config");
    default:
        return 0;
    }
}

static int read_common(struct config_reader *r)
{
    const struct envoy_Cluster_CommonLbConfig *c = r->cfg->pb->common_lb_config;
    struct lb_config *l = &r->cfg->lb;
    uint64_t merge;
    if (!c)
        return 0;
    int rc = set_percent(r, c->healthy_panic_threshold, "common_lb_config.healthy_panic_threshold",
                         &l->panic_percent);
    if (rc == 0)
        rc =
            config_ms(r, c->update_merge_window, "common_lb_config.update_merge_window", 0, &merge);
    if (rc)
        return rc;
    if (merge)
        return config_refuse(r, "common_lb_config.update_merge_window: a delay");
    l->ignore_unchecked = c->ignore_new_hosts_until_first_hc;
    if (c->close_connections_on_host_set_change)
        return config_refuse(r, "common_lb_config.close_connections_on_host_set_change");
    const struct envoy_Cluster_CommonLbConfig_ConsistentHashingLbConfig *h =
        c->consistent_hashing_lb_config;
    l->hash_hostname = h && h->use_hostname_for_hashing;
    if (h)
        rc =
            set_balance(r, h->hash_balance_factor, "common_lb_config.consistent_hashing_lb_config");
    if (rc)
        return rc;
    if (c->which_locality_config_specifier ==
        envoy_Cluster_CommonLbConfig_locality_weighted_lb_config_tag)
        l->locality_weighted = true;
    if (c->which_locality_config_specifier != envoy_Cluster_CommonLbConfig_zone_aware_lb_config_tag)
        return 0;
    if (c->zone_aware_lb_config->routing_enabled || c->zone_aware_lb_config->min_cluster_size)
        return config_refuse(r, "common_lb_config.zone_aware_lb_config: zone aware routing");
    l->fail_traffic_on_panic = c->zone_aware_lb_config->fail_traffic_on_panic;
    return 0;
}

static const struct lb_policy *by_enum(int32_t p)
{
    switch (p) {
    case envoy_Cluster_ROUND_ROBIN:
        return &lb_round_robin;
    case envoy_Cluster_LEAST_REQUEST:
        return &lb_least_request;
    case envoy_Cluster_RING_HASH:
        return &lb_ring_hash;
    case envoy_Cluster_RANDOM:
        return &lb_random;
    case envoy_Cluster_MAGLEV:
        return &lb_maglev;
    case envoy_Cluster_CLUSTER_PROVIDED:
        return &lb_cluster_provided;
    default:
        return NULL;
    }
}

/* What a load_balancing_policy says for itself must not be said beside it, too. */
static int check_alone(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    if (c->lb_subset_config)
        return config_invalid(r, "load_balancing_policy: not together with lb_subset_config");
    if (c->common_lb_config && (c->common_lb_config->which_locality_config_specifier ||
                                c->common_lb_config->consistent_hashing_lb_config))
        return config_invalid(r, "load_balancing_policy: not together with zone_aware_lb_config, "
                                 "locality_weighted_lb_config or consistent_hashing_lb_config of "
                                 "common_lb_config");
    return 0;
}

int config_read_lb(struct config_reader *r)
{
    const struct envoy_Cluster *c = r->cfg->pb;
    int rc;
    lb_config_default(&r->cfg->lb, by_enum(c->lb_policy));
    if (c->load_balancing_policy) {
        rc = check_alone(r);
        if (rc == 0)
            rc = read_common(r);
        if (rc == 0)
            rc = read_policies(r, c->load_balancing_policy, "load_balancing_policy", 0);
    } else if (!r->cfg->lb.policy) {
        return c->lb_policy == envoy_Cluster_LOAD_BALANCING_POLICY_CONFIG
                   ? config_invalid(r, "load_balancing_policy: required")
                   : config_refuse(r, "lb_policy: %d", c->lb_policy);
    } else {
        rc = read_policy_options(r);
        if (rc == 0)
            rc = read_common(r);
        if (rc == 0)
            rc = config_read_subsets(r);
    }
    if (rc)
        return rc;
    bool provided = r->cfg->lb.policy == &lb_cluster_provided;
    if (provided != (r->cfg->type == CLUSTER_ORIGINAL_DST))
        return config_invalid(r, "lb_policy: CLUSTER_PROVIDED and type ORIGINAL_DST need each "
                                 "other");
    return 0;
}
