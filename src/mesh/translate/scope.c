/* What a proxy sees: exportTo of services, and the Sidecar that holds for it.
 *
 * The Sidecar is that of the proxy's namespace which selects it, else the namespace's own, else the
 * one of istio-system; older first. Its egress hosts are the services that the proxy gets; those
 * that routes of these lead to come with them. */
#include "mesh/translate/internal.h"

static bool selects(const struct istio_WorkloadSelector *s, struct model_labels labels)
{
    for (uint32_t i = 0; i < s->labels.n; i++) {
        if (!sv_eq(model_labels_get(labels, s->labels.v[i]->key), s->labels.v[i]->value))
            return false;
    }
    return true;
}

static const struct istio_Sidecar *find(const struct build *b)
{
    const struct istio_Sidecar *own = NULL, *root = NULL;

    for (uint32_t i = 0; i < b->m->n_objects[MODEL_SIDECAR]; i++) {
        const struct model_object *o = b->m->objects[MODEL_SIDECAR][i];
        const struct istio_Sidecar *s = o->spec;
        bool all = !s->workload_selector || !s->workload_selector->labels.n;
        if (sv_eq(o->ns, b->p->ns)) {
            if (!all && selects(s->workload_selector, b->p->labels))
                return s;
            if (all && !own)
                own = s;
        }
        if (all && !root && sv_eq_c(o->ns, "istio-system"))
            root = s;
    }
    return own ? own : root;
}

const struct istio_Sidecar *build_sidecar(struct build *b)
{
    if (!b->scoped) {
        b->sidecar = find(b);
        b->scoped = true;
    }
    return b->sidecar;
}

/* "ns/host" of an egress listener against a host of a namespace; with `rule`, the host is one of a
 * VirtualService, which may be a wildcard for what is named. */
static bool named(const struct build *b, sv want, sv name, sv ns, sv host, bool rule)
{
    if ((sv_eq_c(want, ".") && !sv_eq(ns, b->p->ns)) ||
        (!sv_eq_c(want, "*") && !sv_eq_c(want, ".") && !sv_eq(want, ns)))
        return false;
    return sv_eq(name, host) || model_wildcard_matches(name, host) ||
           (rule && model_wildcard_matches(host, name));
}

/* "~ns/host" and "~/host" take out of the listener what its other hosts name. */
static bool in_listener(const struct build *b, const struct istio_IstioEgressListener *e, sv ns,
                        sv host, bool rule)
{
    bool in = false;

    for (uint32_t i = 0; i < e->hosts.n; i++) {
        sv want, name;
        bool out = sv_starts(e->hosts.v[i], SV("~"));
        sv_cut(out ? sv_from(e->hosts.v[i], 1) : e->hosts.v[i], '/', &want, &name);
        if (!named(b, want.n ? want : SV("*"), name, ns, host, rule && !out))
            continue;
        if (out)
            return false;
        in = true;
    }
    return in;
}

static bool in_egress(const struct build *b, const struct istio_Sidecar *s, sv ns, sv host,
                      bool rule)
{
    for (uint32_t i = 0; i < s->egress.n; i++) {
        if (in_listener(b, s->egress.v[i], ns, host, rule))
            return true;
    }
    return !s->egress.n;
}

bool build_virtual_usable(struct build *b, const struct model_virtual *v)
{
    const struct istio_Sidecar *s = build_sidecar(b);
    bool seen = !s;

    for (uint32_t h = 0; h < v->spec->hosts.n && !seen; h++)
        seen = in_egress(b, s, v->object->ns, v->hosts[h], true);
    return seen && v->mesh &&
           model_exported_to(v->spec->export_to.v, v->spec->export_to.n, v->object->ns, b->p->ns);
}

/* ---- what routes lead to ---- */

static void import(struct build *b, const struct istio_Destination *d, sv ns)
{
    if (d)
        map_put(b->imported, model_host_resolve(b->m, d->host, ns, b->a), b);
}

static void import_virtual(struct build *b, const struct model_virtual *v)
{
    const struct istio_VirtualService *vs = v->spec;

    for (uint32_t i = 0; i < v->n_http; i++) {
        const struct istio_HTTPRoute *r = v->http[i].route;
        for (uint32_t k = 0; k < r->route.n; k++)
            import(b, r->route.v[k]->destination, v->http[i].from->ns);
        import(b, r->mirror, v->http[i].from->ns);
        for (uint32_t k = 0; k < r->mirrors.n; k++)
            import(b, r->mirrors.v[k]->destination, v->http[i].from->ns);
    }
    for (uint32_t i = 0; i < vs->tcp.n; i++) {
        for (uint32_t k = 0; k < vs->tcp.v[i]->route.n; k++)
            import(b, vs->tcp.v[i]->route.v[k]->destination, v->object->ns);
    }
    for (uint32_t i = 0; i < vs->tls.n; i++) {
        for (uint32_t k = 0; k < vs->tls.v[i]->route.n; k++)
            import(b, vs->tls.v[i]->route.v[k]->destination, v->object->ns);
    }
}

static void free_map(void *m)
{
    map_fini(m);
}

static bool imported(struct build *b, sv host)
{
    if (!b->imported) {
        b->imported = arena_new(b->a, struct map);
        map_init_borrow(b->imported);
        arena_on_free(b->a, free_map, b->imported);
        for (uint32_t i = 0; i < b->m->virtuals.n; i++) {
            if (build_virtual_usable(b, b->m->virtuals.v[i]))
                import_virtual(b, b->m->virtuals.v[i]);
        }
    }
    return map_has(b->imported, host);
}

bool build_visible(struct build *b, const struct model_service *svc)
{
    const struct istio_Sidecar *s = NULL;

    if (!model_service_exported_to(svc, b->p->ns))
        return false;
    s = build_sidecar(b);
    for (const struct model_service *x = svc; s && x; x = x->also) {
        if (in_egress(b, s, x->ns, svc->host, false) &&
            model_exported_to(x->spec->export_to, x->spec->n_export_to, x->ns, b->p->ns))
            return true;
    }
    return !s || imported(b, svc->host);
}

bool build_registry_only(struct build *b)
{
    const struct istio_Sidecar *s = build_sidecar(b);
    return s && s->outbound_traffic_policy &&
           s->outbound_traffic_policy->mode == istio_OutboundTrafficPolicy_REGISTRY_ONLY;
}

sv build_elsewhere(struct build *b)
{
    return build_registry_only(b) ? SV("BlackHoleCluster") : SV("PassthroughCluster");
}
