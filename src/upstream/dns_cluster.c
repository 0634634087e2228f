#include "upstream/dns_cluster.h"

#include "base/mem.h"

#define MAX_ADDRS 256 /* of one name */

struct target {
    struct dns_cluster *d;
    char *name;
    struct resolve_query *query;
    struct timer timer;
    struct addr *addrs;
    size_t n;
    uint64_t backoff_ms; /* of the last failure, 0: none */
    bool answered;       /* once at least, be it with a failure */
};

struct dns_cluster {
    struct loop *loop;
    struct resolver *resolver;
    struct cluster *cluster;
    struct cluster_dns opts;
    bool logical;
    void (*fn)(void *arg, sv packed);
    void *arg;
    struct target *targets; /* in the order of the endpoints that have names */
    uint32_t n;
    uint64_t last_hash;
    bool told;
    struct deferred gone;
};

/* ---- making an assignment ---- */

static const struct envoy_LbEndpoint *with_address(struct arena *a,
                                                   const struct envoy_LbEndpoint *e,
                                                   const struct target *t, const struct addr *ip)
{
    char text[ADDR_TEXT_MAX];
    struct envoy_LbEndpoint *out = arena_new(a, struct envoy_LbEndpoint);
    struct envoy_Endpoint *ep = arena_new(a, struct envoy_Endpoint);
    struct envoy_Address *address = arena_new(a, struct envoy_Address);
    struct envoy_SocketAddress *s = arena_new(a, struct envoy_SocketAddress);
    *out = *e;
    *ep = *e->endpoint;
    *address = *e->endpoint->address;
    *s = *address->socket_address;
    s->address = arena_sv(a, addr_ip_text(ip, text));
    address->socket_address = s;
    ep->address = address;
    if (ep->hostname.n == 0)
        ep->hostname = sv_of(t->name);
    out->endpoint = ep;
    return out;
}

static bool has_name(const struct envoy_LbEndpoint *e)
{
    return e->endpoint && e->endpoint->address &&
           e->endpoint->address->which_address == envoy_Address_socket_address_tag;
}

static const struct envoy_LocalityLbEndpoints *
resolved_locality(const struct dns_cluster *d, struct arena *a,
                  const struct envoy_LocalityLbEndpoints *l, uint32_t *target)
{
    struct envoy_LocalityLbEndpoints *out = arena_new(a, struct envoy_LocalityLbEndpoints);
    size_t cap = 0;
    *out = *l;
    for (uint32_t i = 0, t = *target; i < l->lb_endpoints.n; i++)
        cap += has_name(l->lb_endpoints.v[i]) ? d->targets[t++].n : 1;
    out->lb_endpoints.v = arena_array(a, const struct envoy_LbEndpoint *, cap + 1);
    out->lb_endpoints.n = 0;
    for (uint32_t i = 0; i < l->lb_endpoints.n; i++) {
        const struct envoy_LbEndpoint *e = l->lb_endpoints.v[i];
        if (!has_name(e)) {
            out->lb_endpoints.v[out->lb_endpoints.n++] = e;
            continue;
        }
        const struct target *t = &d->targets[(*target)++];
        size_t n = d->logical && t->n > 1 ? 1 : t->n;
        for (size_t k = 0; k < n; k++)
            out->lb_endpoints.v[out->lb_endpoints.n++] = with_address(a, e, t, &t->addrs[k]);
    }
    return out;
}

static sv compose(const struct dns_cluster *d, struct arena *a)
{
    struct pb_opts fields = {.allow_unknown = true};
    void *pb;
    struct envoy_ClusterLoadAssignment out = {.cluster_name = d->cluster->name};
    uint32_t target = 0;
    if (pb_decode(&envoy_Cluster_pb, d->cluster->packed, a, &fields, &pb, NULL) != 0)
        return (sv){0};
    const struct envoy_ClusterLoadAssignment *cla = ((struct envoy_Cluster *)pb)->load_assignment;
    if (cla) {
        out.policy = cla->policy;
        out.endpoints.n = cla->endpoints.n;
        out.endpoints.v =
            arena_array(a, const struct envoy_LocalityLbEndpoints *, cla->endpoints.n + 1);
        for (uint32_t i = 0; i < cla->endpoints.n; i++)
            out.endpoints.v[i] = resolved_locality(d, a, cla->endpoints.v[i], &target);
    }
    return pb_encode_arena(&envoy_ClusterLoadAssignment_pb, &out, a);
}

/* Tells when all names were asked once, and then whenever the assignment differs. May end d. */
static void tell(struct dns_cluster *d)
{
    struct arena a;
    for (uint32_t i = 0; i < d->n; i++)
        if (!d->targets[i].answered)
            return;
    arena_init(&a);
    sv packed = compose(d, &a);
    uint64_t hash = sv_hash(packed);
    if (d->told && hash == d->last_hash) {
        cluster_count_update(d->cluster, CLUSTER_UPDATE_NO_REBUILD);
    } else {
        d->told = true;
        d->last_hash = hash;
        d->fn(d->arg, packed);
    }
    arena_free(&a);
}

/* ---- asking ---- */

static void ask(struct target *t);

static void on_timer(struct timer *t)
{
    ask(container_of(t, struct target, timer));
}

static int addr_order(const void *pa, const void *pb)
{
    const struct addr *a = pa, *b = pb;
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return sv_cmp(addr_key(a), addr_key(b));
}

/* Strict: sorted, so that a server that rotates its answers changes nothing. */
static void set_addrs(struct target *t, const struct addr *addrs, size_t n)
{
    if (n > MAX_ADDRS)
        n = MAX_ADDRS;
    free(t->addrs);
    t->addrs = n ? mem_array(struct addr, n) : NULL;
    t->n = n;
    if (n)
        memcpy(t->addrs, addrs, n * sizeof *addrs);
    if (n && !t->d->logical)
        qsort(t->addrs, n, sizeof *addrs, addr_order);
}

static uint64_t jitter(struct dns_cluster *d, uint64_t most)
{
    return most ? rand_below(loop_rand(d->loop), most) : 0;
}

static uint64_t after_success(struct target *t, size_t n, uint32_t ttl_s)
{
    struct dns_cluster *d = t->d;
    t->backoff_ms = 0;
    uint64_t wait = d->opts.refresh_ms;
    if (d->opts.respect_ttl && n > 0 && ttl_s > 0)
        wait = ttl_s * 1000ull;
    return wait + jitter(d, d->opts.jitter_ms);
}

static uint64_t after_failure(struct target *t)
{
    struct dns_cluster *d = t->d;
    if (!d->opts.failure_base_ms)
        return d->opts.refresh_ms + jitter(d, d->opts.jitter_ms);
    t->backoff_ms = t->backoff_ms ? t->backoff_ms * 2 : d->opts.failure_base_ms;
    if (t->backoff_ms > d->opts.failure_max_ms)
        t->backoff_ms = d->opts.failure_max_ms;
    return 1 + jitter(d, t->backoff_ms);
}

static void on_answer(void *user, int code, const struct addr *addrs, size_t n, uint32_t ttl_s)
{
    struct target *t = user;
    struct dns_cluster *d = t->d;
    t->query = NULL;
    t->answered = true;
    if (code == 0 || code == E_NOT_FOUND) {
        n = code == 0 ? n : 0;
        cluster_count_update(d->cluster, CLUSTER_UPDATE_SUCCESS);
        if (n == 0)
            cluster_count_update(d->cluster, CLUSTER_UPDATE_EMPTY);
        set_addrs(t, addrs, n);
        timer_set(&t->timer, after_success(t, n, ttl_s));
    } else {
        cluster_count_update(d->cluster, CLUSTER_UPDATE_FAILURE);
        timer_set(&t->timer, after_failure(t));
    }
    tell(d);
}

static void ask(struct target *t)
{
    cluster_count_update(t->d->cluster, CLUSTER_UPDATE_ATTEMPT);
    t->query = resolve_start(t->d->resolver, sv_of(t->name), t->d->opts.family, on_answer, t);
}

/* ---- life ---- */

static void add_targets(struct dns_cluster *d, const struct envoy_ClusterLoadAssignment *cla)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < cla->endpoints.n; i++)
        n += cla->endpoints.v[i]->lb_endpoints.n;
    d->targets = mem_array(struct target, n + 1);
    for (uint32_t i = 0; i < cla->endpoints.n; i++) {
        const struct envoy_LocalityLbEndpoints *l = cla->endpoints.v[i];
        for (uint32_t k = 0; k < l->lb_endpoints.n; k++) {
            if (!has_name(l->lb_endpoints.v[k]))
                continue;
            struct target *t = &d->targets[d->n++];
            t->d = d;
            t->name = sv_dup(l->lb_endpoints.v[k]->endpoint->address->socket_address->address);
            timer_init(&t->timer, d->loop, on_timer);
        }
    }
}

struct dns_cluster *dns_cluster_new(struct loop *l, struct resolver *r, struct cluster *c,
                                    const struct cluster_config *cfg,
                                    void (*fn)(void *arg, sv packed), void *arg)
{
    struct dns_cluster *d = mem_new(struct dns_cluster);
    d->loop = l;
    d->resolver = r;
    d->cluster = cluster_ref(c);
    d->opts = cfg->dns;
    d->logical = cfg->type == CLUSTER_LOGICAL_DNS;
    d->fn = fn;
    d->arg = arg;
    if (cfg->pb->load_assignment)
        add_targets(d, cfg->pb->load_assignment);
    for (uint32_t i = 0; i < d->n; i++)
        ask(&d->targets[i]);
    if (d->n == 0)
        tell(d);
    return d;
}

static void on_gone(struct deferred *gone)
{
    struct dns_cluster *d = container_of(gone, struct dns_cluster, gone);
    for (uint32_t i = 0; i < d->n; i++) {
        free(d->targets[i].name);
        free(d->targets[i].addrs);
    }
    free(d->targets);
    free(d);
}

void dns_cluster_free(struct dns_cluster *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->n; i++) {
        timer_cancel(&d->targets[i].timer);
        if (d->targets[i].query)
            resolve_cancel(d->targets[i].query);
        d->targets[i].query = NULL;
    }
    cluster_unref(d->cluster);
    d->cluster = NULL;
    loop_defer(d->loop, &d->gone, on_gone);
}
