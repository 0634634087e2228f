/* Which VirtualService holds for a host, and where its destinations lead. */
#include "mesh/translate/internal.h"

/* ---- which VirtualService ---- */

static bool for_mesh(const struct istio_VirtualService *vs)
{
    if (!vs->gateways.n)
        return true;
    for (uint32_t i = 0; i < vs->gateways.n; i++) {
        if (sv_eq_c(vs->gateways.v[i], "mesh"))
            return true;
    }
    return false;
}

static bool usable(const struct model_object *o, sv client_ns)
{
    const struct istio_VirtualService *vs = o->spec;
    return for_mesh(vs) && model_exported_to(vs->export_to.v, vs->export_to.n, o->ns, client_ns);
}

static bool wildcard_matches(sv pattern, sv host)
{
    return pattern.n && pattern.p[0] == '*' && host.n >= pattern.n &&
           sv_ends(host, sv_from(pattern, 1));
}

const struct model_object *build_virtual(const struct model *m, sv host, sv client_ns)
{
    const struct model_list *exact = map_get(&m->virtuals_by_host, host);
    const struct model_object *best = NULL;
    size_t best_len = 0;

    /* Lists and objects are in order of precedence: the first usable one wins. */
    for (uint32_t i = 0; exact && i < exact->n; i++) {
        if (usable(exact->v[i], client_ns))
            return exact->v[i];
    }
    for (uint32_t i = 0; i < m->n_objects[MODEL_VIRTUAL_SERVICE]; i++) {
        const struct model_object *o = m->objects[MODEL_VIRTUAL_SERVICE][i];
        const struct istio_VirtualService *vs = o->spec;
        for (uint32_t h = 0; h < vs->hosts.n; h++) {
            if (wildcard_matches(vs->hosts.v[h], host) && vs->hosts.v[h].n > best_len &&
                usable(o, client_ns)) {
                best = o;
                best_len = vs->hosts.v[h].n;
            }
        }
    }
    return best;
}

/* ---- destinations ---- */

sv build_destination(struct build *b, const struct istio_Destination *d, sv ns,
                     uint16_t default_port)
{
    sv host = model_host_resolve(b->m, d->host, ns, b->a);
    const struct model_service *svc = model_service_find(b->m, host);
    uint16_t port = d->port ? (uint16_t)d->port->number : default_port;

    /* Without a port a service with one port is meant by it. */
    if (!d->port && svc && !build_port(svc, port) && svc->spec->n_ports == 1)
        port = svc->spec->ports[0].port;
    return translate_cluster_name(b->a, "outbound", port, d->subset, host);
}

bool build_port_matches(uint32_t want, uint16_t port)
{
    return !want || want == port;
}

const struct istio_TCPRoute *build_tcp_route(struct build *b, const struct model_object *vs,
                                             uint16_t port)
{
    const struct istio_VirtualService *spec = vs ? vs->spec : NULL;

    for (uint32_t i = 0; spec && i < spec->tcp.n; i++) {
        const struct istio_TCPRoute *r = spec->tcp.v[i];
        bool hit = r->match.n == 0;
        for (uint32_t k = 0; k < r->match.n && !hit; k++) {
            const struct istio_L4MatchAttributes *mt = r->match.v[k];
            bool labels = true;
            for (uint32_t s = 0; s < mt->source_labels.n; s++)
                labels &= sv_eq(model_labels_get(b->p->labels, mt->source_labels.v[s]->key),
                                mt->source_labels.v[s]->value);
            hit = build_port_matches(mt->port, port) && labels &&
                  (!mt->source_namespace.n || sv_eq(mt->source_namespace, b->p->ns));
        }
        if (hit)
            return r;
    }
    return NULL;
}
