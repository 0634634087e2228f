/* What a proxy says of itself: Istio's node identity and metadata.
 *
 *   id        sidecar~10.0.0.5~flaskapp-v1.books~books.svc.cluster.local
 *   metadata  NAMESPACE, SERVICE_ACCOUNT, LABELS {…}, NAME, DNS_CAPTURE, GENERATOR …
 */
#include <stdlib.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "mesh/push/push_internal.h"
#include "telemetry/istio_peer.h"

static const struct google_Value *meta(const struct envoy_Node *node, const char *key)
{
    for (uint32_t i = 0; node->metadata && i < node->metadata->fields.n; i++) {
        if (sv_eq_c(node->metadata->fields.v[i]->key, key))
            return node->metadata->fields.v[i]->value;
    }
    return NULL;
}

static sv meta_text(struct push_stream *s, const struct envoy_Node *node, const char *key)
{
    const struct google_Value *v = meta(node, key);
    return v && v->which_kind == google_Value_string_value_tag
               ? arena_sv(&s->arena, v->string_value)
               : (sv){NULL, 0};
}

static int by_key(const void *a, const void *b)
{
    return sv_cmp(((const struct model_label *)a)->key, ((const struct model_label *)b)->key);
}

static void read_labels(struct push_stream *s, const struct envoy_Node *node)
{
    const struct google_Value *v = meta(node, "LABELS");
    const struct google_Struct *m =
        v && v->which_kind == google_Value_struct_value_tag ? v->struct_value : NULL;
    struct model_label *out;

    if (!m)
        return;
    out = arena_array(&s->arena, struct model_label, m->fields.n + 1);
    for (uint32_t i = 0; i < m->fields.n; i++) {
        const struct google_Value *x = m->fields.v[i]->value;
        if (!x || x->which_kind != google_Value_string_value_tag)
            continue;
        out[s->proxy.labels.n].key = arena_sv(&s->arena, m->fields.v[i]->key);
        out[s->proxy.labels.n++].value = arena_sv(&s->arena, x->string_value);
    }
    if (s->proxy.labels.n > 1)
        qsort(out, s->proxy.labels.n, sizeof *out, by_key);
    s->proxy.labels.v = out;
}

/* Where the proxy runs: what it says, else its labels. */
static void read_locality(struct push_stream *s, const struct envoy_Node *node)
{
    struct translate_proxy *p = &s->proxy;

    p->network = meta_text(s, node, "NETWORK");
    if (!p->network.n)
        p->network = model_labels_get(p->labels, SV("topology.istio.io/network"));
    if (node->locality && node->locality->region.n) {
        p->region = arena_sv(&s->arena, node->locality->region);
        p->zone = arena_sv(&s->arena, node->locality->zone);
        p->sub_zone = arena_sv(&s->arena, node->locality->sub_zone);
    } else {
        model_locality_of_labels(p->labels, &p->region, &p->zone, &p->sub_zone);
    }
}

/* What spans say of the proxy. */
static void read_names(struct push_stream *s, const struct envoy_Node *node)
{
    struct translate_proxy *p = &s->proxy;
    struct istio_peer me;

    istio_peer_of_node(node->metadata, &me);
    p->canonical_service = arena_sv(&s->arena, me.service.n ? me.service : p->workload);
    p->canonical_revision = arena_sv(&s->arena, me.revision);
    p->cluster_id = meta_text(s, node, "CLUSTER_ID");
    p->mesh_id = meta_text(s, node, "MESH_ID");
    p->cluster = node->cluster.n
                     ? arena_sv(&s->arena, node->cluster)
                     : arena_printf(&s->arena, "%.*s.%.*s", SV_ARG(p->workload), SV_ARG(p->ns));
}

/* Which form of configuration the client wants: a sidecar's unless it says so. */
static int read_generator(struct push_stream *s, const struct envoy_Node *node, struct error *err)
{
    sv generator = meta_text(s, node, "GENERATOR");

    s->proxy.grpc = sv_eq_c(generator, "grpc");
    if (generator.n && !s->proxy.grpc)
        return error_set(err, E_UNSUPPORTED,
                         "node metadata GENERATOR '%.*s' is not served, only 'grpc', or none for a "
                         "sidecar",
                         SV_ARG(generator));
    return 0;
}

/* spiffe://domain/ns/NS/sa/SA against what the node says. */
static int check_identity(struct push_stream *s, struct error *err)
{
    sv rest, ns, sa;
    ptrdiff_t at;

    if (!s->identity.n)
        return 0;
    at = sv_find_sv(s->identity, SV("/ns/"));
    if (at < 0)
        return error_set(err, E_DENIED, "'%.*s' is no workload identity", SV_ARG(s->identity));
    rest = sv_from(s->identity, (size_t)at + 4);
    at = sv_find_sv(rest, SV("/sa/"));
    if (at < 0)
        return error_set(err, E_DENIED, "'%.*s' is no workload identity", SV_ARG(s->identity));
    ns = sv_first(rest, (size_t)at);
    sa = sv_from(rest, (size_t)at + 4);
    if (!sv_eq(ns, s->proxy.ns) ||
        (s->proxy.service_account.n && !sv_eq(sa, s->proxy.service_account)))
        return error_set(err, E_DENIED,
                         "node '%.*s' claims %.*s/%.*s, but its certificate is for %.*s/%.*s",
                         SV_ARG(s->node_id), SV_ARG(s->proxy.ns), SV_ARG(s->proxy.service_account),
                         SV_ARG(ns), SV_ARG(sa));
    return 0;
}

/* weft-proxy says that it takes virtual hosts on their own. An Envoy (1.40 does) has to be told to
 * by its node metadata, VHDS: "true": its virtual hosts have other names then (see
 * docs/decisions/0005-virtual-hosts.md). */
static void read_hosts(struct push_stream *s, const struct envoy_Node *node)
{
    s->proxy.hosts = TRANSLATE_HOSTS_INSIDE;
    if (!s->delta || s->proxy.grpc)
        return;
    if (sv_eq_c(meta_text(s, node, "VHDS"), "true"))
        s->proxy.hosts = TRANSLATE_HOSTS_ENVOY;
    for (uint32_t i = 0; i < node->client_features.n; i++) {
        if (sv_eq_c(node->client_features.v[i], XDS_FEATURE_VHDS))
            s->proxy.hosts = TRANSLATE_HOSTS_APART;
    }
}

int push_node_read(struct push_stream *s, const struct envoy_Node *node, struct error *err)
{
    sv kind, ip, name, domain, rest, workload, ns;
    int rc;

    s->node_id = arena_sv(&s->arena, node->id);
    if (!sv_cut(s->node_id, '~', &kind, &rest) || !sv_cut(rest, '~', &ip, &rest) ||
        !sv_cut(rest, '~', &name, &domain))
        return error_set(err, E_INVALID,
                         "node id '%.*s' is not of the form sidecar~IP~NAME.NAMESPACE~DOMAIN",
                         SV_ARG(node->id));
    if (!sv_eq_c(kind, "sidecar"))
        return error_set(err, E_UNSUPPORTED, "node type '%.*s' is not served, only sidecars",
                         SV_ARG(kind));
    /* NAME may have dots; a namespace has none. */
    ptrdiff_t dot = sv_rfind(name, '.');
    workload = dot < 0 ? name : sv_first(name, (size_t)dot);
    ns = meta_text(s, node, "NAMESPACE");
    if (!ns.n && dot >= 0)
        ns = sv_from(name, (size_t)dot + 1);
    if (!ns.n)
        return error_set(err, E_INVALID, "node '%.*s' does not say its namespace",
                         SV_ARG(node->id));
    s->proxy = (struct translate_proxy){
        .ns = ns, .workload = workload, .ip = ip, .outbound_port = 15001, .inbound_port = 15006};
    s->proxy.service_account = meta_text(s, node, "SERVICE_ACCOUNT");
    s->proxy.dns_capture = sv_eq_c(meta_text(s, node, "DNS_CAPTURE"), "true");
    s->proxy.weft = sv_eq_c(node->user_agent_name, "weft");
    rc = read_generator(s, node, err);
    if (rc)
        return rc;
    read_hosts(s, node);
    uint64_t port;
    if (sv_to_u64(meta_text(s, node, "ENVOY_OUTBOUND_PORT"), &port) == 0 && port < 65536)
        s->proxy.outbound_port = (uint16_t)port;
    if (sv_to_u64(meta_text(s, node, "ENVOY_INBOUND_PORT"), &port) == 0 && port < 65536)
        s->proxy.inbound_port = (uint16_t)port;
    read_labels(s, node);
    read_locality(s, node);
    read_names(s, node);
    return check_identity(s, err);
}
