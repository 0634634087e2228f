/* ServiceEntry and WorkloadEntry in the model's words. */
#include <stdlib.h>
#include "api/istio.pb.h"
#include "api/pb.h"
#include "mesh/model/model_store.h"

static int by_key(const void *a, const void *b)
{
    return sv_cmp(((const struct model_label *)a)->key, ((const struct model_label *)b)->key);
}

struct model_labels model_entry_labels(struct arena *a, const struct istio_WorkloadEntry *w)
{
    struct model_label *v = arena_array(a, struct model_label, w->labels.n + 1);

    for (uint32_t i = 0; i < w->labels.n; i++)
        v[i] = (struct model_label){w->labels.v[i]->key, w->labels.v[i]->value};
    if (w->labels.n > 1)
        qsort(v, w->labels.n, sizeof *v, by_key);
    return (struct model_labels){v, w->labels.n};
}

/* As Istio: the label decides; without it, a workload with an identity of its own has a sidecar. */
static bool speaks_mtls(const struct istio_WorkloadEntry *w, struct model_labels labels)
{
    sv mode = model_labels_get(labels, SV("security.istio.io/tlsMode"));
    return mode.p ? sv_eq_c(mode, "istio") : w->service_account.n > 0;
}

static uint16_t target_of(const struct istio_WorkloadEntry *w, const struct model_port *port)
{
    for (uint32_t i = 0; i < w->ports.n; i++) {
        if (sv_eq(w->ports.v[i]->key, port->name) ||
            (port->target_name.n && sv_eq(w->ports.v[i]->key, port->target_name)))
            return (uint16_t)w->ports.v[i]->value;
    }
    return port->target_port ? port->target_port : port->port;
}

void model_entry_endpoint(const struct istio_WorkloadEntry *w, const struct model_port *port,
                          struct model_endpoint *e)
{
    e->address = w->address;
    e->port = sv_starts(w->address, SV("unix://")) ? 0 : target_of(w, port);
    e->weight = w->weight ? w->weight : 1;
    e->service_account = w->service_account;
    e->network = w->network;
    e->healthy = true;
    e->tls = speaks_mtls(w, e->labels);
    if (w->locality.n)
        model_locality_parse(w->locality, '/', &e->region, &e->zone, &e->sub_zone);
    else
        model_locality_of_labels(e->labels, &e->region, &e->zone, &e->sub_zone);
}

static enum model_resolution resolution_of(const struct istio_ServiceEntry *se)
{
    switch (se->resolution) {
    case istio_ServiceEntry_NONE:
        return MODEL_RESOLVE_NONE;
    case istio_ServiceEntry_DNS:
        return MODEL_RESOLVE_DNS;
    case istio_ServiceEntry_DNS_ROUND_ROBIN:
        return MODEL_RESOLVE_DNS_ONE;
    default:
        return MODEL_RESOLVE_ENDPOINTS;
    }
}

static const struct model_service_spec *spec_of(struct arena *a,
                                                const struct istio_ServiceEntry *se)
{
    struct model_service_spec *s = arena_new(a, struct model_service_spec);
    struct model_port *ports = arena_array(a, struct model_port, se->ports.n + 1);

    for (uint32_t i = 0; i < se->ports.n; i++) {
        const struct istio_ServicePort *p = se->ports.v[i];
        ports[i] =
            (struct model_port){.name = p->name,
                                .port = (uint16_t)p->number,
                                .target_port = (uint16_t)p->target_port,
                                .protocol = model_protocol_of(p->protocol, p->name, p->protocol)};
    }
    s->ports = ports;
    s->n_ports = se->ports.n;
    if (se->workload_selector) {
        const struct istio_WorkloadSelector *w = se->workload_selector;
        struct model_label *v = arena_array(a, struct model_label, w->labels.n + 1);
        for (uint32_t i = 0; i < w->labels.n; i++)
            v[i] = (struct model_label){w->labels.v[i]->key, w->labels.v[i]->value};
        if (w->labels.n > 1)
            qsort(v, w->labels.n, sizeof *v, by_key);
        s->selector = (struct model_labels){v, w->labels.n};
        s->selects = true; /* without labels, every workload of the namespace, as in Istio */
    }
    s->export_to = se->export_to.v;
    s->n_export_to = se->export_to.n;
    return s;
}

struct model_service *model_entry_service(struct arena *a, const struct model_object *o, sv host)
{
    const struct istio_ServiceEntry *se = o->spec;
    struct model_service *svc = arena_new(a, struct model_service);
    sv *addresses = arena_array(a, sv, se->addresses.n + 1);
    sv *cidrs = arena_array(a, sv, se->addresses.n + 1);

    svc->host = arena_lower(a, host);
    svc->ns = o->ns;
    svc->name = o->name;
    svc->object = o;
    svc->entry = se;
    svc->spec = spec_of(a, se);
    svc->resolution = resolution_of(se);
    svc->mesh_external = se->location == istio_ServiceEntry_MESH_EXTERNAL;
    for (uint32_t i = 0; i < se->addresses.n; i++) {
        if (sv_find(se->addresses.v[i], '/') >= 0)
            cidrs[svc->n_cidrs++] = se->addresses.v[i];
        else
            addresses[svc->n_addresses++] = se->addresses.v[i];
    }
    svc->addresses = addresses;
    svc->cidrs = cidrs;
    return svc;
}

/* ---- several of one host ---- */

static const struct model_port *port_of(const struct model_service_spec *s, uint16_t number)
{
    for (uint32_t i = 0; i < s->n_ports; i++) {
        if (s->ports[i].port == number)
            return &s->ports[i];
    }
    return NULL;
}

static bool alike(const struct model_service *x, const struct model_service *y)
{
    const struct model_service_spec *a = x->spec, *b = y->spec;

    return x->entry && y->entry && sv_eq(x->ns, y->ns) && x->resolution == y->resolution &&
           a->selects == b->selects && a->selector.n == b->selector.n &&
           model_labels_match(a->selector, b->selector) &&
           model_same_names(a->export_to, a->n_export_to, b->export_to, b->n_export_to);
}

/* Both lists, each name once. */
static const sv *joined(struct arena *a, const sv *x, uint32_t *nx, const sv *y, uint32_t ny)
{
    sv *out = arena_array(a, sv, *nx + ny + 1);
    uint32_t n = *nx;

    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i];
    for (uint32_t i = 0; i < ny; i++) {
        uint32_t k = 0;
        while (k < n && !sv_eq(out[k], y[i]))
            k++;
        out[k] = y[i];
        n += k == n;
    }
    *nx = n;
    return out;
}

bool model_entry_merge(struct arena *a, struct model_service *into, struct model_service *part)
{
    struct model_service_spec *s = arena_new(a, struct model_service_spec);
    struct model_port *ports;
    struct model_service *last = into;

    if (into->also || !alike(into, part))
        return false;
    *s = *into->spec;
    ports = arena_array(a, struct model_port, s->n_ports + part->spec->n_ports + 1);
    for (uint32_t i = 0; i < s->n_ports; i++)
        ports[i] = s->ports[i];
    s->ports = ports;
    for (uint32_t i = 0; i < part->spec->n_ports; i++) {
        if (!port_of(s, part->spec->ports[i].port))
            ports[s->n_ports++] = part->spec->ports[i];
    }
    /* What the first alone said is kept as a part too. */
    if (!into->more) {
        struct model_service *first = arena_new(a, struct model_service);
        *first = *into;
        into->more = first;
    }
    while (last->more)
        last = (struct model_service *)last->more;
    last->more = part;
    into->spec = s;
    into->addresses =
        joined(a, into->addresses, &into->n_addresses, part->addresses, part->n_addresses);
    into->cidrs = joined(a, into->cidrs, &into->n_cidrs, part->cidrs, part->n_cidrs);
    if (!into->vip.n && into->n_addresses)
        into->vip = into->addresses[0];
    return true;
}

const struct istio_ServiceEntry *model_port_entry(const struct model_service *svc, uint16_t port)
{
    for (const struct model_service *p = svc->more; p; p = p->more) {
        if (port_of(p->spec, port))
            return p->entry;
    }
    return svc->entry;
}

bool model_service_is_of(const struct model_service *svc, const struct model_object *o)
{
    for (const struct model_service *x = svc; x; x = x->more) {
        if (x->object == o)
            return true;
    }
    for (const struct model_service *x = svc->also; x; x = x->also) {
        if (x->object == o)
            return true;
    }
    return false;
}

/* ---- the same in several namespaces ---- */

/* All that it says of its hosts; who sees them is another matter. */
static sv said(struct arena *a, const struct istio_ServiceEntry *e)
{
    struct istio_ServiceEntry x = *e;

    x.hosts.n = x.export_to.n = 0;
    return pb_encode_arena(&istio_ServiceEntry_pb, &x, a);
}

bool model_entry_repeats(struct arena *a, struct model_service *of, struct model_service *again)
{
    struct model_service *last = of;

    if (!of->entry || of->more || sv_eq(of->ns, again->ns) || of->entry->workload_selector ||
        !sv_eq(said(a, of->entry), said(a, again->entry)))
        return false;
    while (last->also) {
        last = (struct model_service *)last->also;
        if (sv_eq(last->ns, again->ns))
            return false;
    }
    last->also = again;
    return true;
}

bool model_service_exported_to(const struct model_service *svc, sv ns)
{
    for (; svc; svc = svc->also) {
        if (model_exported_to(svc->spec->export_to, svc->spec->n_export_to, svc->ns, ns))
            return true;
    }
    return false;
}
