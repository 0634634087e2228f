/* Where a request may go: cluster, rule, endpoints, TLS. */
#include "cli/explain.h"

#include <string.h>
#include "api/google.pb.h"
#include "api/istio.pb.h"
#include "api/node.h"
#include "api/pb.h"
#include "mesh/model/validate.h"

struct explain_place explain_place_of(const struct model_object *o, sv field, struct arena *a)
{
    struct explain_place p = {
        .kind = sv_of(model_kind_name(o->kind)), .ns = o->ns, .name = o->name, .file = o->file};

    p.line = o->tree && field.n ? model_node_at(o->tree, arena_cstr(a, field))->line : o->line;
    return p;
}

static void *unpack(const struct google_Any *any, const struct pb_message *m, struct arena *a)
{
    const struct pb_opts opts = {.allow_unknown = true};
    struct error err = {0};
    void *out;

    return any && pb_any_unpack(any, m, a, &opts, &out, &err) == 0 ? out : NULL;
}

/* ---- TLS ---- */

static void read_tls(struct explained_destination *d, const struct envoy_TransportSocket *s,
                     bool automatic, struct arena *a)
{
    const struct envoy_UpstreamTlsContext *u =
        s ? unpack(s->typed_config, &envoy_UpstreamTlsContext_pb, a) : NULL;
    const struct envoy_CommonTlsContext *c = u ? u->common_tls_context : NULL;
    const struct envoy_CertificateValidationContext *v =
        !c ? NULL
        : c->combined_validation_context
            ? c->combined_validation_context->default_validation_context
            : c->validation_context;
    bool mesh = u && sv_starts(u->sni, SV("outbound_."));
    sv *names;

    d->tls = automatic ? SV("automatic: mutual TLS of the mesh to endpoints with a sidecar, plain "
                            "text to the others")
             : !s      ? SV("plain text")
             : !c      ? SV("another transport socket")
             : mesh    ? SV("mutual TLS of the mesh (ISTIO_MUTUAL)")
             : c->tls_certificates.n ? SV("TLS with a client certificate of files (MUTUAL)")
                                     : SV("TLS without client certificate (SIMPLE)");
    if (!v)
        return;
    names = arena_array(a, sv, v->match_typed_subject_alt_names.n + 1);
    for (uint32_t i = 0; i < v->match_typed_subject_alt_names.n; i++) {
        const struct envoy_SubjectAltNameMatcher *m = v->match_typed_subject_alt_names.v[i];
        if (m->matcher && m->matcher->exact.n)
            names[d->n_identities++] = m->matcher->exact;
    }
    d->identities = names;
}

struct wanted {
    struct explained_destination *d;
    struct arena *a;
};

static void on_cluster(void *arg, sv name, sv packed)
{
    struct wanted *w = arg;
    const struct envoy_Cluster *c;
    struct error err = {0};
    void *msg;

    if (!sv_eq(name, w->d->cluster) || pb_decode(&envoy_Cluster_pb, packed, w->a, NULL, &msg, &err))
        return;
    c = msg;
    w->d->known = true;
    w->d->listed = c->type == envoy_Cluster_EDS;
    if (c->transport_socket_matches.n)
        read_tls(w->d, c->transport_socket_matches.v[0]->transport_socket, true, w->a);
    else
        read_tls(w->d, c->transport_socket, false, w->a);
}

/* ---- endpoints ---- */

static const struct model_endpoint *endpoint_of(const struct model_endpoints *eps, sv address,
                                                uint32_t port)
{
    for (uint32_t i = 0; eps && i < eps->n; i++) {
        if (sv_eq(eps->v[i].address, address) && eps->v[i].port == port)
            return &eps->v[i];
    }
    return NULL;
}

static void add_endpoint(struct explained_destination *d, const struct model_endpoints *eps,
                         const struct envoy_LocalityLbEndpoints *l,
                         const struct envoy_LbEndpoint *e, struct arena *a)
{
    struct explained_endpoint *out = &d->endpoints[d->n_endpoints++];
    const struct envoy_Address *at = e->endpoint ? e->endpoint->address : NULL;
    const struct envoy_SocketAddress *s = at ? at->socket_address : NULL;
    const struct model_endpoint *m = s ? endpoint_of(eps, s->address, s->port_value) : NULL;
    const struct envoy_Locality *where = l->locality;

    if (s)
        out->address = arena_printf(a, "%.*s:%u", SV_ARG(s->address), s->port_value);
    out->health = e->health_status == envoy_HealthStatus_UNKNOWN
                      ? SV("HEALTHY")
                      : sv_of(pb_enum_name(&envoy_HealthStatus_pb, e->health_status));
    out->priority = l->priority;
    out->weight = e->load_balancing_weight ? e->load_balancing_weight->value : 1;
    if (where && where->region.n)
        out->locality = arena_printf(a, "%.*s%s%.*s%s%.*s", SV_ARG(where->region),
                                     where->zone.n ? "/" : "", SV_ARG(where->zone),
                                     where->sub_zone.n ? "/" : "", SV_ARG(where->sub_zone));
    if (m) {
        out->workload = arena_printf(a, "%.*s/%.*s", SV_ARG(m->ns), SV_ARG(m->workload));
        out->mtls = m->tls;
    }
}

static void read_endpoints(struct explained_destination *d, const struct model_endpoints *eps,
                           sv packed, struct arena *a)
{
    const struct envoy_ClusterLoadAssignment *c;
    struct error err = {0};
    uint32_t n = 0;
    void *msg;

    if (pb_decode(&envoy_ClusterLoadAssignment_pb, packed, a, NULL, &msg, &err))
        return;
    c = msg;
    for (uint32_t i = 0; i < c->endpoints.n; i++)
        n += c->endpoints.v[i]->lb_endpoints.n;
    d->endpoints =
        memset(arena_array(a, struct explained_endpoint, n + 1), 0, (n + 1) * sizeof *d->endpoints);
    for (uint32_t i = 0; i < c->endpoints.n; i++) {
        for (uint32_t k = 0; k < c->endpoints.v[i]->lb_endpoints.n; k++)
            add_endpoint(d, eps, c->endpoints.v[i], c->endpoints.v[i]->lb_endpoints.v[k], a);
    }
}

/* ---- all ---- */

static void read_rule(struct offline *o, const struct translate_proxy *p,
                      struct explained_destination *d)
{
    const struct model_service *svc = model_service_find(o->m, d->host);
    const struct model_rule *r =
        svc ? model_rule_find(o->m, svc, &(struct model_client){p->ns, p->labels}) : NULL;
    const struct model_list *all = map_get(&o->m->rules_by_host, d->host);

    if (r)
        d->rule = explain_place_of(r->object, SV(""), &o->a);
    for (uint32_t i = 0; d->subset.n && r && all && i < all->n; i++) {
        const struct istio_DestinationRule *spec = all->v[i]->spec;
        for (uint32_t k = 0; k < spec->subsets.n && !d->subset_at.kind.n; k++) {
            if (sv_eq(spec->subsets.v[k]->name, d->subset) && sv_eq(all->v[i]->ns, r->object->ns))
                d->subset_at =
                    explain_place_of(all->v[i], arena_printf(&o->a, "spec.subsets[%u]", k), &o->a);
        }
    }
}

void explain_destination(struct offline *o, const struct translate *t,
                         const struct translate_proxy *p, struct explained_destination *d)
{
    struct wanted w = {d, &o->a};
    sv direction, packed;

    translate_clusters_outbound(t, o->m, p, &o->a, on_cluster, &w);
    if (!translate_cluster_parse(d->cluster, &direction, &d->port, &d->subset, &d->host))
        return;
    read_rule(o, p, d);
    if (translate_endpoints(t, o->m, p, d->cluster, &o->a, &packed))
        read_endpoints(d, model_endpoints_find(o->m, d->host, d->port), packed, &o->a);
}
