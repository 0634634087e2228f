/* Rules that forward: destinations, mirrors, rewrites, time-outs, retries. */
#include <string.h>
#include "base/strbuf.h"
#include "mesh/translate/route.h"

/* ---- retries ---- */

/* Numbers among the conditions are status codes. */
static void retry_conditions(struct build *b, struct envoy_RetryPolicy *out, sv list)
{
    uint32_t *codes = arena_array(b->a, uint32_t, list.n / 4 + 1), n = 0;
    struct strbuf on;
    sv item;

    strbuf_init(&on, 4096);
    while (list.n) {
        uint64_t code;
        sv_cut(list, ',', &item, &list);
        item = sv_trim(item);
        if (item.n == 3 && sv_to_u64(item, &code) == 0 && code >= 100 && code <= 599)
            codes[n++] = (uint32_t)code;
        else if (item.n)
            strbuf_addf(&on, "%s%.*s", on.n ? "," : "", SV_ARG(item));
    }
    if (n && sv_find_sv(strbuf_sv(&on), SV("retriable-status-codes")) < 0)
        strbuf_addf(&on, "%sretriable-status-codes", on.n ? "," : "");
    out->retry_on = arena_sv(b->a, strbuf_sv(&on));
    out->retriable_status_codes.v = codes;
    out->retriable_status_codes.n = n;
    strbuf_fini(&on);
}

/* Requests that are hashed to a host stay with it, unless the rule says otherwise. */
static const struct envoy_RetryPolicy *stay(struct build *b, const struct envoy_RetryPolicy *p)
{
    struct envoy_RetryPolicy *out = build_copy(b, p, sizeof *out);
    out->retry_host_predicate.n = 0;
    return out;
}

/* A rule that speaks of retries without saying when gets Istio's conditions; where no rule speaks,
 * only what the backend cannot have acted on is sent again. */
static const struct envoy_RetryPolicy *retries(struct build *b, const struct istio_HTTPRetry *in,
                                               bool hashed)
{
    const struct envoy_RetryPolicy *dflt = b->t->route_action->retry_policy;
    const struct google_BoolValue *other = in ? in->retry_ignore_previous_hosts : NULL;
    struct envoy_RetryPolicy *out;

    if (!in)
        return hashed ? stay(b, dflt) : dflt;
    if (in->attempts == 0)
        return NULL;
    out = build_copy(b, dflt, sizeof *out);
    out->num_retries = build_u32(b, (uint32_t)in->attempts);
    out->per_try_timeout = in->per_try_timeout;
    if (other ? !other->value : hashed)
        out->retry_host_predicate.n = 0;
    if (in->retry_remote_localities && in->retry_remote_localities->value)
        out->retry_priority = b->t->retry_priority;
    if (in->backoff)
        out->retry_back_off = MAKE(b, envoy_RetryPolicy_RetryBackOff, .base_interval = in->backoff);
    retry_conditions(b, out,
                     in->retry_on.n ? in->retry_on
                                    : SV("connect-failure,refused-stream,unavailable,cancelled"));
    return out;
}

/* ---- mirrors ---- */

static void mirror_to(struct build *b, const struct envoy_RouteAction_RequestMirrorPolicy **list,
                      uint32_t *n, const struct istio_Destination *d,
                      const struct istio_Percent *share, const struct google_UInt32Value *old_share,
                      sv ns, uint16_t port)
{
    double value = share ? share->value : old_share ? (double)old_share->value : 100.0;

    if (value > 0)
        list[(*n)++] = MAKE(b, envoy_RouteAction_RequestMirrorPolicy,
                            .cluster = build_destination(b, d, ns, port),
                            .disable_shadow_host_suffix_append = true,
                            .runtime_fraction = MAKE(b, envoy_RuntimeFractionalPercent,
                                                     .default_value = route_percent(b, value)));
}

static void apply_mirrors(struct build *b, struct envoy_RouteAction *a,
                          const struct istio_HTTPRoute *in, sv ns, uint16_t port)
{
    const struct envoy_RouteAction_RequestMirrorPolicy **list =
        arena_array(b->a, const struct envoy_RouteAction_RequestMirrorPolicy *, in->mirrors.n + 1);
    uint32_t n = 0;

    if (in->mirror)
        mirror_to(b, list, &n, in->mirror, in->mirror_percentage, in->mirror_percent, ns, port);
    for (uint32_t i = 0; i < in->mirrors.n; i++)
        mirror_to(b, list, &n, in->mirrors.v[i]->destination, in->mirrors.v[i]->percentage, NULL,
                  ns, port);
    a->request_mirror_policies.v = list;
    a->request_mirror_policies.n = n;
}

/* ---- rewrites ---- */

static void set_host_rewrite(struct envoy_RouteAction *a, sv authority)
{
    if (!authority.n || a->which_host_rewrite_specifier)
        return;
    a->which_host_rewrite_specifier = envoy_RouteAction_host_rewrite_literal_tag;
    a->host_rewrite_literal = authority;
}

static void apply_rewrite(struct build *b, struct envoy_RouteAction *a,
                          const struct istio_HTTPRewrite *rw)
{
    if (!rw)
        return;
    if (rw->uri_regex_rewrite)
        a->regex_rewrite = MAKE(b, envoy_RegexMatchAndSubstitute,
                                .pattern = build_regex(b, rw->uri_regex_rewrite->match),
                                .substitution = rw->uri_regex_rewrite->rewrite);
    else
        a->prefix_rewrite = rw->uri;
    set_host_rewrite(a, rw->authority);
}

/* ---- destinations ---- */

static void one_cluster(struct build *b, struct envoy_RouteAction *a, const struct route_at *at,
                        const struct istio_HTTPRouteDestination *d)
{
    a->which_cluster_specifier = envoy_RouteAction_cluster_tag;
    a->cluster = build_destination(b, d->destination, at->rule->from->ns, at->port);
    build_hash(b, a, a->cluster);
}

static const struct envoy_WeightedCluster_ClusterWeight *
one_weight(struct build *b, struct envoy_RouteAction *a, const struct route_at *at,
           const struct istio_HTTPRouteDestination *d)
{
    struct route_headers h = route_headers(b, d->headers, NULL);
    struct envoy_WeightedCluster_ClusterWeight *c =
        MAKE(b, envoy_WeightedCluster_ClusterWeight,
             .name = build_destination(b, d->destination, at->rule->from->ns, at->port),
             .weight = build_u32(b, (uint32_t)d->weight));

    ROUTE_PUT_HEADERS(c, &h);
    if (h.authority.n) {
        c->which_host_rewrite_specifier =
            envoy_WeightedCluster_ClusterWeight_host_rewrite_literal_tag;
        c->host_rewrite_literal = h.authority;
    }
    build_hash(b, a, c->name);
    return c;
}

/* A single destination takes everything, whatever its weight; several take their shares, and 0 is
 * none. */
static void destinations(struct build *b, struct envoy_RouteAction *a, const struct route_at *at,
                         const struct istio_HTTPRoute *in)
{
    const struct envoy_WeightedCluster_ClusterWeight **list;
    struct envoy_WeightedCluster *w;

    if (in->route.n == 1) {
        one_cluster(b, a, at, in->route.v[0]);
        return;
    }
    list = arena_array(b->a, const struct envoy_WeightedCluster_ClusterWeight *, in->route.n);
    w = MAKE(b, envoy_WeightedCluster, .clusters = {.v = list});
    for (uint32_t i = 0; i < in->route.n; i++) {
        if (in->route.v[i]->weight > 0)
            list[w->clusters.n++] = one_weight(b, a, at, in->route.v[i]);
    }
    a->which_cluster_specifier = envoy_RouteAction_weighted_clusters_tag;
    a->weighted_clusters = w;
}

const struct envoy_RouteAction *route_forward(struct build *b, const struct route_at *at,
                                              sv authority)
{
    const struct istio_HTTPRoute *in = at->rule->route;
    struct envoy_RouteAction *a = build_copy(b, b->t->route_action, sizeof *a);

    if (in->timeout)
        a->timeout = a->max_grpc_timeout = in->timeout;
    apply_rewrite(b, a, in->rewrite);
    set_host_rewrite(a, authority);
    apply_mirrors(b, a, in, at->rule->from->ns, at->port);
    destinations(b, a, at, in);
    a->retry_policy = retries(b, in->retries, in->route.n == 1 && a->hash_policy.n > 0);
    return a;
}

const struct envoy_RouteAction *route_forward_plain(struct build *b, sv cluster)
{
    struct envoy_RouteAction *a = build_copy(b, b->t->route_action, sizeof *a);

    a->which_cluster_specifier = envoy_RouteAction_cluster_tag;
    a->cluster = cluster;
    build_hash(b, a, cluster);
    a->retry_policy = retries(b, NULL, a->hash_policy.n > 0);
    return a;
}
