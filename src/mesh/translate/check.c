/* What only shows between objects. Each problem names object, field and remedy. */
#include <stdio.h>
#include "mesh/translate/internal.h"

struct checking {
    const struct model *m;
    struct arena *a;
    void (*emit)(void *arg, const struct model_problem *p);
    void *arg;
    const struct model_object *o;
};

static void report(struct checking *c, enum model_severity severity, const char *code, sv field,
                   sv text)
{
    struct model_problem p = {.severity = severity,
                              .kind = c->o->kind,
                              .has_object = true,
                              .ns = c->o->ns,
                              .name = c->o->name,
                              .file = c->o->file,
                              .line = c->o->line,
                              .field = field,
                              .text = text,
                              .code = sv_of(code)};
    c->emit(c->arg, &p);
}

static bool subset_defined(const struct model_list *rules, sv subset)
{
    for (uint32_t i = 0; rules && i < rules->n; i++) {
        if (build_subset(rules->v[i]->spec, subset))
            return true;
    }
    return false;
}

static void check_destination(struct checking *c, sv field, const struct istio_Destination *d)
{
    sv host = model_host_resolve(c->m, d->host, c->o->ns, c->a);
    const struct model_service *svc = model_service_find(c->m, host);

    if (!svc) {
        report(c, MODEL_ERROR, "HostNotFound",
               arena_printf(c->a, "%.*s.destination.host", SV_ARG(field)),
               arena_printf(c->a,
                            "%.*s.destination.host: no service '%.*s' is known; requests that "
                            "take this route get 503. Define the Service, or correct the name",
                            SV_ARG(field), SV_ARG(host)));
        return;
    }
    if (d->port && !build_port(svc, (uint16_t)d->port->number))
        report(c, MODEL_ERROR, "PortNotFound",
               arena_printf(c->a, "%.*s.destination.port", SV_ARG(field)),
               arena_printf(c->a, "%.*s.destination.port: service '%.*s' has no port %u",
                            SV_ARG(field), SV_ARG(host), d->port->number));
    if (d->subset.n && !subset_defined(map_get(&c->m->rules_by_host, host), d->subset))
        report(c, MODEL_ERROR, "SubsetNotFound",
               arena_printf(c->a, "%.*s.destination.subset", SV_ARG(field)),
               arena_printf(c->a,
                            "%.*s.destination.subset: no DestinationRule of host '%.*s' defines "
                            "subset '%.*s'; requests that take this route get 503. Add the subset "
                            "to its DestinationRule, or correct the name",
                            SV_ARG(field), SV_ARG(host), SV_ARG(d->subset)));
}

static void check_virtual_service(struct checking *c)
{
    const struct istio_VirtualService *vs = c->o->spec;

    for (uint32_t i = 0; i < vs->http.n; i++) {
        for (uint32_t k = 0; k < vs->http.v[i]->route.n; k++)
            check_destination(c, arena_printf(c->a, "spec.http[%u].route[%u]", i, k),
                              vs->http.v[i]->route.v[k]->destination);
    }
    for (uint32_t i = 0; i < vs->tcp.n; i++) {
        for (uint32_t k = 0; k < vs->tcp.v[i]->route.n; k++)
            check_destination(c, arena_printf(c->a, "spec.tcp[%u].route[%u]", i, k),
                              vs->tcp.v[i]->route.v[k]->destination);
    }
}

/* The first by precedence is in force; the others are told so. */
static void check_hosts(struct checking *c)
{
    map_each (e, &c->m->virtuals_by_host) {
        const struct model_list *l = e->val;
        for (uint32_t i = 1; i < l->n; i++) {
            c->o = l->v[i];
            report(
                c, MODEL_ERROR, "Conflict", SV("spec.hosts"),
                arena_printf(c->a,
                             "spec.hosts: host '%.*s' is already routed by VirtualService "
                             "%.*s/%.*s, which stays in force (older first, then by name): merge "
                             "the two, or remove the host from one of them",
                             SV_ARG(e->key), SV_ARG(l->v[0]->ns), SV_ARG(l->v[0]->name)));
        }
    }
}

static void check_rules(struct checking *c)
{
    map_each (e, &c->m->rules_by_host) {
        const struct model_list *l = e->val;
        for (uint32_t i = 0; i < l->n; i++) {
            c->o = l->v[i];
            if (!model_service_find(c->m, e->key) && e->key.n && e->key.p[0] != '*')
                report(c, MODEL_WARNING, "HostNotFound", SV("spec.host"),
                       arena_printf(c->a, "spec.host: no service '%.*s' is known", SV_ARG(e->key)));
            for (uint32_t k = 0; k < i; k++) {
                if (sv_eq(l->v[k]->ns, c->o->ns))
                    report(c, MODEL_ERROR, "Conflict", SV("spec.host"),
                           arena_printf(c->a,
                                        "spec.host: DestinationRule %.*s/%.*s already holds for "
                                        "'%.*s' and stays in force: merge the two",
                                        SV_ARG(l->v[k]->ns), SV_ARG(l->v[k]->name),
                                        SV_ARG(e->key)));
            }
        }
    }
}

void translate_check(const struct model *m, struct arena *a,
                     void (*emit)(void *arg, const struct model_problem *p), void *arg)
{
    struct checking c = {.m = m, .a = a, .emit = emit, .arg = arg};

    for (uint32_t i = 0; i < m->n_objects[MODEL_VIRTUAL_SERVICE]; i++) {
        c.o = m->objects[MODEL_VIRTUAL_SERVICE][i];
        check_virtual_service(&c);
    }
    check_hosts(&c);
    check_rules(&c);
}
