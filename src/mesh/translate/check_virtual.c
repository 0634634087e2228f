/* What only shows between a VirtualService and other objects, and what in it has no effect. */
#include "mesh/translate/check.h"

/* ---- destinations ---- */

static bool subset_defined(const struct model_list *rules, sv subset)
{
    for (uint32_t i = 0; rules && i < rules->n; i++) {
        if (build_subset(rules->v[i]->spec, subset))
            return true;
    }
    return false;
}

/* Labels that none of the service's workloads has. A service without any is another matter. */
static void check_subset_workloads(struct checking *c, sv field, sv host,
                                   const struct model_service *svc, sv subset)
{
    const struct model_list *rules = map_get(&c->m->rules_by_host, host);

    for (uint32_t i = 0; i < rules->n; i++) {
        const struct istio_Subset *s = build_subset(rules->v[i]->spec, subset);
        if (s && check_selected(c->m, svc, s) == CHECK_SELECTS_NONE) {
            check_report(
                c, MODEL_WARNING, "SubsetEmpty",
                arena_printf(c->a, "%.*s.destination.subset", SV_ARG(field)),
                arena_printf(c->a,
                             "%.*s.destination.subset: no workload of '%.*s' has the labels of "
                             "subset '%.*s' of DestinationRule %.*s/%.*s; requests that take this "
                             "route get 503. Label the workloads, or correct the subset",
                             SV_ARG(field), SV_ARG(host), SV_ARG(subset), SV_ARG(rules->v[i]->ns),
                             SV_ARG(rules->v[i]->name)));
            return;
        }
    }
}

/* Sidecars in the rule's own namespace should know where it leads. */
static void check_seen(struct checking *c, sv field, const struct model_service *svc)
{
    if (model_service_exported_to(svc, c->o->ns))
        return;
    check_report(c, MODEL_WARNING, "HostNotExported",
                 arena_printf(c->a, "%.*s.destination.host", SV_ARG(field)),
                 arena_printf(c->a,
                              "%.*s.destination.host: service '%.*s' is not exported to namespace "
                              "'%.*s'; requests there that take this route get 503. Add the "
                              "namespace to its exportTo",
                              SV_ARG(field), SV_ARG(svc->host), SV_ARG(c->o->ns)));
}

/* Without a port, the destination's is the one that was called: some host has a port that it has.
 */
static void check_port_needed(struct checking *c, sv field, const struct model_service *svc)
{
    const struct istio_VirtualService *vs = c->o->spec;
    uint16_t called = 80;

    for (uint32_t i = 0; i < vs->hosts.n; i++) {
        sv host = model_host_resolve(c->m, arena_lower(c->a, vs->hosts.v[i]), c->o->ns, c->a);
        const struct model_service *from = model_service_find(c->m, host);
        for (uint32_t k = 0; from && k < from->spec->n_ports; k++) {
            called = from->spec->ports[k].port;
            if (build_port(svc, called))
                return;
        }
        if ((!from && build_port(svc, 80)) || sv_starts(host, SV("*")))
            return;
    }
    if (vs->hosts.n)
        check_report(
            c, MODEL_ERROR, "PortNotFound", arena_printf(c->a, "%.*s.destination", SV_ARG(field)),
            arena_printf(c->a,
                         "%.*s.destination: service '%.*s' has several ports, and none that the "
                         "hosts of this VirtualService are called on (such as %u); requests that "
                         "take this route get 503. Say which one with port: {number: %u}",
                         SV_ARG(field), SV_ARG(svc->host), called, svc->spec->ports[0].port));
}

static void check_destination(struct checking *c, sv field, const struct istio_Destination *d)
{
    sv host = model_host_resolve(c->m, d->host, c->o->ns, c->a);
    const struct model_service *svc = model_service_find(c->m, host);

    if (!svc) {
        check_report(
            c, MODEL_ERROR, "HostNotFound",
            arena_printf(c->a, "%.*s.destination.host", SV_ARG(field)),
            arena_printf(c->a,
                         "%.*s.destination.host: no service '%.*s' is known; requests that "
                         "take this route get 503. Define the Service, or correct the name",
                         SV_ARG(field), SV_ARG(host)));
        return;
    }
    check_seen(c, field, svc);
    if (!d->port && svc->spec->n_ports > 1)
        check_port_needed(c, field, svc);
    if (d->port && !build_port(svc, (uint16_t)d->port->number))
        check_report(
            c, MODEL_ERROR, "PortNotFound",
            arena_printf(c->a, "%.*s.destination.port", SV_ARG(field)),
            arena_printf(
                c->a,
                "%.*s.destination.port: service '%.*s' has no port %u; "
                "requests that take this route get 503. Correct the port, or add it to the Service",
                SV_ARG(field), SV_ARG(host), d->port->number));
    if (d->subset.n && subset_defined(map_get(&c->m->rules_by_host, host), d->subset))
        check_subset_workloads(c, field, host, svc, d->subset);
    else if (d->subset.n)
        check_report(
            c, MODEL_ERROR, "SubsetNotFound",
            arena_printf(c->a, "%.*s.destination.subset", SV_ARG(field)),
            arena_printf(c->a,
                         "%.*s.destination.subset: no DestinationRule of host '%.*s' defines "
                         "subset '%.*s'; requests that take this route get 503. Add the subset "
                         "to its DestinationRule, or correct the name",
                         SV_ARG(field), SV_ARG(host), SV_ARG(d->subset)));
}

static void check_http_destinations(struct checking *c, sv field, const struct istio_HTTPRoute *r)
{
    for (uint32_t k = 0; k < r->route.n; k++)
        check_destination(c, arena_printf(c->a, "%.*s.route[%u]", SV_ARG(field), k),
                          r->route.v[k]->destination);
    for (uint32_t k = 0; k < r->mirrors.n; k++)
        check_destination(c, arena_printf(c->a, "%.*s.mirrors[%u]", SV_ARG(field), k),
                          r->mirrors.v[k]->destination);
    if (r->mirror)
        check_destination(c, arena_printf(c->a, "%.*s.mirror", SV_ARG(field)), r->mirror);
}

static void check_l4_destinations(struct checking *c, const char *kind, uint32_t i,
                                  const struct istio_RouteDestination **v, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        check_destination(c, arena_printf(c->a, "spec.%s[%u].route[%u]", kind, i, k),
                          v[k]->destination);
}

static void check_fault(struct checking *c, uint32_t i, const struct istio_HTTPFaultInjection *f)
{
    const char *part = f->delay && !f->delay->percentage && !f->delay->percent ? "delay"
                       : f->abort && !f->abort->percentage                     ? "abort"
                                                                               : NULL;
    if (part)
        check_report(c, MODEL_WARNING, "NoEffect",
                     arena_printf(c->a, "spec.http[%u].fault.%s", i, part),
                     arena_printf(c->a,
                                  "spec.http[%u].fault.%s: without a percentage no request is "
                                  "touched: add percentage: {value: 100}",
                                  i, part));
}

/* There are no gateways here: only sidecars ("mesh") take rules. */
static void check_gateways(struct checking *c, const struct istio_VirtualService *vs)
{
    bool mesh = model_for_mesh(vs->gateways.v, vs->gateways.n);

    for (uint32_t i = 0; i < vs->gateways.n; i++) {
        if (sv_eq_c(vs->gateways.v[i], "mesh"))
            continue;
        check_report(
            c, MODEL_WARNING, "GatewayNotFound", arena_printf(c->a, "spec.gateways[%u]", i),
            arena_printf(c->a,
                         "spec.gateways[%u]: no gateway '%.*s' is there, weft has sidecars only; "
                         "%s",
                         i, SV_ARG(vs->gateways.v[i]),
                         mesh ? "the rules hold for sidecars alone: remove the entry"
                              : "the rules hold nowhere: add 'mesh' for sidecars, or remove "
                                "gateways"));
    }
}

void check_virtual_service(struct checking *c)
{
    const struct istio_VirtualService *vs = c->o->spec;

    for (uint32_t i = 0; i < vs->http.n; i++) {
        check_http_destinations(c, arena_printf(c->a, "spec.http[%u]", i), vs->http.v[i]);
        if (vs->http.v[i]->fault)
            check_fault(c, i, vs->http.v[i]->fault);
    }
    for (uint32_t i = 0; i < vs->tcp.n; i++)
        check_l4_destinations(c, "tcp", i, vs->tcp.v[i]->route.v, vs->tcp.v[i]->route.n);
    for (uint32_t i = 0; i < vs->tls.n; i++)
        check_l4_destinations(c, "tls", i, vs->tls.v[i]->route.v, vs->tls.v[i]->route.n);
    check_gateways(c, vs);
    check_order(c, vs);
}

/* ---- between VirtualServices ---- */

/* The namespace of an entry of exportTo. */
static sv exported_ns(const struct model_virtual *v, uint32_t i)
{
    sv to = v->spec->export_to.v[i];
    return sv_eq_c(to, ".") ? v->object->ns : to;
}

/* Some sidecar sees both. */
static bool seen_together(const struct model_virtual *a, const struct model_virtual *b)
{
    if (!a->mesh || !b->mesh)
        return false;
    if (!a->spec->export_to.n || !b->spec->export_to.n)
        return true;
    for (uint32_t i = 0; i < a->spec->export_to.n; i++) {
        for (uint32_t k = 0; k < b->spec->export_to.n; k++) {
            sv x = exported_ns(a, i), y = exported_ns(b, k);
            if (sv_eq_c(x, "*") || sv_eq_c(y, "*") || sv_eq(x, y))
                return true;
        }
    }
    return false;
}

static bool ends_with_all(const struct istio_VirtualService *vs)
{
    return vs->tcp.n && !vs->tcp.v[vs->tcp.n - 1]->match.n;
}

/* http rules of one host come from one VirtualService, the first; tcp and tls rules of all are
 * looked at in this order. */
static bool check_pair(struct checking *c, sv host, const struct model_virtual *first,
                       const struct model_virtual *v)
{
    const char *part = first->spec->http.n && v->spec->http.n         ? "http"
                       : ends_with_all(first->spec) && v->spec->tcp.n ? "tcp"
                                                                      : NULL;
    if (!part || first == v || !seen_together(first, v))
        return false;
    c->o = v->object;
    check_report(c, MODEL_ERROR, "Conflict", SV("spec.hosts"),
                 arena_printf(c->a,
                              "spec.hosts: host '%.*s' is already routed by VirtualService "
                              "%.*s/%.*s, which stays in force (older first, then by name); the %s "
                              "rules of this one are not used: merge the two, or remove the host "
                              "from one of them",
                              SV_ARG(host), SV_ARG(first->object->ns), SV_ARG(first->object->name),
                              part));
    return true;
}

static void check_unused_delegates(struct checking *c)
{
    struct map used;

    map_init_borrow(&used);
    for (uint32_t i = 0; i < c->m->virtuals.n; i++) {
        const struct model_virtual *v = c->m->virtuals.v[i];
        for (uint32_t k = 0; k < v->spec->http.n; k++) {
            const struct istio_Delegate *d = v->spec->http.v[k]->delegate;
            if (d)
                map_put(&used,
                        arena_printf(c->a, "%.*s/%.*s",
                                     SV_ARG(d->namespace.n ? d->namespace : v->object->ns),
                                     SV_ARG(d->name)),
                        c);
        }
    }
    for (uint32_t i = 0; i < c->m->n_objects[MODEL_VIRTUAL_SERVICE]; i++) {
        c->o = c->m->objects[MODEL_VIRTUAL_SERVICE][i];
        if (((const struct istio_VirtualService *)c->o->spec)->hosts.n ||
            map_has(&used, arena_printf(c->a, "%.*s/%.*s", SV_ARG(c->o->ns), SV_ARG(c->o->name))))
            continue;
        check_report(
            c, MODEL_WARNING, "DelegateUnused", SV("spec.hosts"),
            SV("spec.hosts: without hosts it is a delegate, and no VirtualService delegates "
               "to it: name it in one, or add hosts"));
    }
    map_fini(&used);
}

void check_virtual_hosts(struct checking *c)
{
    map_each (e, &c->m->virtuals_by_host) {
        const struct model_virtual_list *l = e->val;
        for (uint32_t i = 1; i < l->n; i++) {
            for (uint32_t k = 0; k < i && !check_pair(c, e->key, l->v[k], l->v[i]); k++)
                continue;
        }
    }
    for (uint32_t i = 1; i < c->m->n_wildcards; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (sv_eq(c->m->wildcards[k].host, c->m->wildcards[i].host))
                check_pair(c, c->m->wildcards[i].host, c->m->wildcards[k].v, c->m->wildcards[i].v);
        }
    }
    for (uint32_t i = 0; i < c->m->n_merge_problems; i++)
        c->emit(c->arg, &c->m->merge_problems[i]);
    check_unused_delegates(c);
}
