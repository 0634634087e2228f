/* A virtual host: its own settings and its routes. */
#include <stdio.h>
#include "api/google.pb.h"
#include "route/route_int.h"

static int build_vclusters(struct route_builder *b, const struct envoy_VirtualHost *m,
                           struct route_vhost *out)
{
    out->vclusters = arena_array(b->a, struct route_virtual_cluster, m->virtual_clusters.n);
    for (uint32_t i = 0; i < m->virtual_clusters.n; i++) {
        const struct envoy_VirtualCluster *c = m->virtual_clusters.v[i];
        struct route_virtual_cluster *v = &out->vclusters[i];
        int rc = 0;
        if (c->name.n == 0)
            rc = error_set(b->err, E_INVALID, ".name: must not be empty");
        else if (c->headers.n == 0)
            rc = error_set(b->err, E_INVALID, ".headers: must not be empty");
        else
            rc = route_build_headers(b, c->headers.v, c->headers.n, "headers", &v->headers);
        if (rc != 0) {
            error_prefix(b->err, ".virtual_clusters[%u]", i);
            return rc;
        }
        v->name = c->name;
        v->n_headers = c->headers.n;
    }
    out->n_vclusters = m->virtual_clusters.n;
    return 0;
}

/* What routes inherit. */
static int build_defaults(struct route_builder *b, const struct envoy_VirtualHost *m)
{
    b->defaults = b->h->defaults;
    int rc = route_retry_build(b, m->retry_policy, &b->defaults.retry);
    if (rc == 0)
        rc = route_hedge_build(b, m->hedge_policy, &b->defaults.hedge);
    if (rc == 0 && m->request_mirror_policies.n) {
        rc = route_mirrors_build(b, m->request_mirror_policies.v, m->request_mirror_policies.n,
                                 &b->defaults.mirrors);
        b->defaults.n_mirrors = m->request_mirror_policies.n;
    }
    if (m->request_body_buffer_limit || m->per_request_buffer_limit_bytes) {
        b->defaults.has_body_limit = true;
        b->defaults.body_limit = m->request_body_buffer_limit
                                     ? m->request_body_buffer_limit->value
                                     : m->per_request_buffer_limit_bytes->value;
    }
    return rc;
}

static void set_probe(struct route_probe *p, const struct route_path_match *m)
{
    p->kind = (uint8_t)m->kind;
    if (m->ignore_case || m->kind == PATH_REGEX || m->kind == PATH_CONNECT)
        return;
    p->n = (uint32_t)m->text.n;
    p->head_n = (uint8_t)(m->text.n < sizeof(p->head) ? m->text.n : sizeof(p->head));
    if (p->head_n)
        memcpy(p->head, m->text.p, p->head_n);
}

static int build_routes(struct route_builder *b, const struct envoy_VirtualHost *m,
                        struct route_vhost *out)
{
    struct route_probe *probes = arena_array(b->a, struct route_probe, m->routes.n);
    out->routes = arena_array(b->a, struct route, m->routes.n);
    out->probes = probes;
    for (uint32_t i = 0; i < m->routes.n; i++) {
        struct route *r = &out->routes[i];
        r->index = i;
        r->vhost = out;
        int rc = route_build(b, m->routes.v[i], r);
        if (rc != 0) {
            error_prefix(b->err, ".routes[%u]", i);
            return rc;
        }
        set_probe(&probes[i], r->path);
    }
    out->n_routes = m->routes.n;
    return 0;
}

/* Unknown fields that are let pass are reported with the path from the table on. */
static void report_unknown(void *arg, const char *path)
{
    const struct route_builder *b = arg;
    const struct pb_opts *o = b->pb;
    char full[1024];
    if (b->host.n)
        snprintf(full, sizeof(full), "virtual_host '%.*s': %s", SV_ARG(b->host), path);
    else
        snprintf(full, sizeof(full), "route_config '%.*s': virtual_hosts[%u].%s",
                 SV_ARG(b->h->name), b->vhost, path);
    o->on_unknown(o->arg, full);
}

static struct pb_opts decode_opts(struct route_builder *b)
{
    struct pb_opts o = route_decode_opts(b);
    if (b->checking && b->pb && b->pb->on_unknown) {
        o.on_unknown = report_unknown;
        o.arg = b;
    }
    return o;
}

int route_vhost_build(struct route_builder *b, sv packed, struct route_vhost *out)
{
    void *decoded = NULL;
    struct pb_opts o = decode_opts(b);
    int rc = pb_decode(&envoy_VirtualHost_pb, packed, b->tmp, &o, &decoded, b->err);
    if (rc != 0) {
        error_prefix(b->err, ".");
        return rc;
    }
    const struct envoy_VirtualHost *m = decoded;
    out->name = m->name;
    out->include_attempt_count = m->include_request_attempt_count;
    out->include_attempt_count_in_response = m->include_attempt_count_in_response;
    out->include_is_timeout_retry = m->include_is_timeout_retry_header;
    out->require_tls = (uint8_t)m->require_tls;
    if (m->require_tls < 0 || m->require_tls > envoy_VirtualHost_ALL)
        return error_set(b->err, E_INVALID, ".require_tls: %d is not known", m->require_tls);
    rc = build_defaults(b, m);
    if (rc == 0)
        rc = build_vclusters(b, m, out);
    if (rc == 0)
        rc = route_ops_build(b, ROUTE_OPS_MSG(m), &out->ops);
    if (rc == 0)
        rc = route_filters_build(b, ROUTE_FILTERS(m), &out->filters);
    out->metadata = route_copy(b, &envoy_Metadata_pb, m->metadata);
    return rc == 0 ? build_routes(b, m, out) : rc;
}
