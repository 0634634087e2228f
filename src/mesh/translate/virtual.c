/* Which VirtualServices hold for a host, and where their destinations lead. */
#include "mesh/translate/internal.h"

static bool listed(const struct model_virtual **v, uint32_t n, const struct model_virtual *x)
{
    for (uint32_t i = 0; i < n; i++) {
        if (v[i] == x)
            return true;
    }
    return false;
}

struct model_virtual_list build_virtuals(struct build *b, sv host)
{
    const struct model_virtual_list *exact = map_get(&b->m->virtuals_by_host, host);
    uint32_t n = 0, most = (exact ? exact->n : 0) + b->m->n_wildcards;
    const struct model_virtual **v = arena_array(b->a, const struct model_virtual *, most + 1);

    for (uint32_t i = 0; exact && i < exact->n; i++) {
        if (build_virtual_usable(b, exact->v[i]))
            v[n++] = exact->v[i];
    }
    for (uint32_t i = 0; i < b->m->n_wildcards; i++) {
        const struct model_wildcard *w = &b->m->wildcards[i];
        if (model_wildcard_matches(w->host, host) && build_virtual_usable(b, w->v) &&
            !listed(v, n, w->v))
            v[n++] = w->v;
    }
    return (struct model_virtual_list){v, n};
}

struct model_virtual_list build_http_virtuals(struct build *b, sv host)
{
    const struct model_virtual_list *exact = map_get(&b->m->virtuals_by_host, host);
    struct model_virtual_list l = build_virtuals(b, host);
    uint32_t n_exact = 0;

    for (uint32_t i = 0; exact && i < exact->n; i++)
        n_exact += build_virtual_usable(b, exact->v[i]);
    if (l.n > (n_exact ? n_exact : 1))
        l.n = n_exact ? n_exact : 1;
    return l;
}

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
