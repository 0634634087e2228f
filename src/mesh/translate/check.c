/* What only shows between objects. Each problem names object, field and remedy. */
#include <stdio.h>
#include "api/node.h"
#include "base/strbuf.h"
#include "mesh/model/validate.h"
#include "mesh/translate/check.h"

static uint32_t check_line(const struct model_object *o, sv field, struct arena *a)
{
    return o->tree ? model_node_at(o->tree, arena_cstr(a, field))->line : o->line;
}

void check_report(struct checking *c, enum model_severity severity, const char *code, sv field,
                  sv text)
{
    struct model_problem p = {.severity = severity,
                              .kind = c->o->kind,
                              .has_object = true,
                              .ns = c->o->ns,
                              .name = c->o->name,
                              .file = c->o->file,
                              .line = c->line ? c->line : check_line(c->o, field, c->a),
                              .field = field,
                              .text = text,
                              .code = sv_of(code)};
    c->emit(c->arg, &p);
}

/* ---- destination rules ---- */

static void check_merged(struct checking *c, const struct model_object *first)
{
    const struct istio_DestinationRule *a = first->spec, *b = c->o->spec;

    if (a->traffic_policy && b->traffic_policy)
        check_report(
            c, MODEL_WARNING, "Conflict", SV("spec.trafficPolicy"),
            arena_printf(c->a,
                         "spec.trafficPolicy: DestinationRule %.*s/%.*s of the same host has a "
                         "trafficPolicy, which stays in force: merge the two",
                         SV_ARG(first->ns), SV_ARG(first->name)));
    for (uint32_t i = 0; i < b->subsets.n; i++) {
        if (build_subset(a, b->subsets.v[i]->name))
            check_report(
                c, MODEL_WARNING, "Conflict", SV("spec.subsets"),
                arena_printf(c->a,
                             "spec.subsets: DestinationRule %.*s/%.*s of the same host already "
                             "has subset '%.*s', which stays in force: rename one of them",
                             SV_ARG(first->ns), SV_ARG(first->name),
                             SV_ARG(b->subsets.v[i]->name)));
    }
}

/* A rule in another namespace than the service's takes its place for the clients there. */
static void check_hidden(struct checking *c, const struct model_object *other)
{
    const struct istio_DestinationRule *mine = c->o->spec, *r = other->spec;
    struct strbuf lost;

    if (!model_exported_to(r->export_to.v, r->export_to.n, other->ns, c->o->ns))
        return;
    strbuf_init(&lost, 4096);
    for (uint32_t i = 0; i < r->subsets.n; i++) {
        if (!build_subset(mine, r->subsets.v[i]->name))
            strbuf_addf(&lost, "%s'%.*s'", lost.n ? ", " : "", SV_ARG(r->subsets.v[i]->name));
    }
    check_report(
        c, MODEL_WARNING, "Hidden", SV("spec.host"),
        arena_printf(c->a,
                     "spec.host: clients in namespace '%.*s' get this rule instead of %.*s/%.*s%s"
                     "%.*s: repeat here what they need of it",
                     SV_ARG(c->o->ns), SV_ARG(other->ns), SV_ARG(other->name),
                     lost.n ? ", and so do not know its subsets " : "", (int)lost.n,
                     lost.n ? lost.p : ""));
    strbuf_fini(&lost);
}

static void check_rule(struct checking *c, sv host, const struct model_list *l, uint32_t i)
{
    const struct model_service *svc = model_service_find(c->m, host);

    if (!svc && host.n && host.p[0] != '*')
        check_report(c, MODEL_WARNING, "HostNotFound", SV("spec.host"),
                     arena_printf(c->a, "spec.host: no service '%.*s' is known", SV_ARG(host)));
    for (uint32_t k = 0; k < i; k++) {
        if (sv_eq(l->v[k]->ns, c->o->ns) && model_rules_merge(l->v[k]->spec, c->o->spec))
            check_merged(c, l->v[k]);
    }
    for (uint32_t k = 0; svc && k < l->n && !sv_eq(c->o->ns, svc->ns); k++) {
        if (sv_eq(l->v[k]->ns, svc->ns) && !sv_eq_c(c->o->ns, "istio-system"))
            check_hidden(c, l->v[k]);
    }
}

static void check_rules(struct checking *c)
{
    map_each (e, &c->m->rules_by_host) {
        const struct model_list *l = e->val;
        for (uint32_t i = 0; i < l->n; i++) {
            c->o = l->v[i];
            check_rule(c, e->key, l, i);
        }
    }
}

/* ---- service entries ---- */

static bool is_opaque(const struct model_port *p)
{
    return p->protocol == MODEL_TCP || p->protocol == MODEL_AUTO;
}

/* Who has the port, or the address and port, so far: the older one. */
struct first {
    const struct model_service *svc;
    uint32_t port; /* index */
};

static void check_shared(struct checking *c, struct map *seen, sv key, struct first mine)
{
    struct first *first = map_get(seen, key), loser = mine;

    if (!first) {
        first = arena_new(c->a, struct first);
        *first = mine;
        map_put(seen, key, first);
        return;
    }
    if (build_older(mine.svc, first->svc)) {
        loser = *first;
        *first = mine;
    }
    if (!loser.svc->entry)
        return;
    c->o = loser.svc->object;
    check_report(
        c, MODEL_WARNING, "PortShared", arena_printf(c->a, "spec.ports[%u]", loser.port),
        arena_printf(c->a,
                     "spec.ports[%u]: TCP to '%.*s' cannot be told from TCP to '%.*s', which takes "
                     "%s%.*s: give %s",
                     loser.port, SV_ARG(loser.svc->host), SV_ARG(first->svc->host),
                     sv_find(key, ' ') >= 0 ? "" : "port ", SV_ARG(key),
                     sv_find(key, ' ') >= 0 ? "it an address of its own"
                                            : "addresses, or a resolution other than NONE"));
}

/* TCP can be told by nothing but address and port. */
static void check_shared_ports(struct checking *c)
{
    struct map seen;

    map_init_borrow(&seen);
    for (uint32_t i = 0; i < c->m->n_services; i++) {
        const struct model_service *svc = c->m->service_list[i];
        for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
            const struct model_port *p = &svc->spec->ports[k];
            struct first mine = {svc, k};
            if (!is_opaque(p))
                continue;
            if (svc->entry && !svc->vip.n && !svc->n_cidrs)
                check_shared(c, &seen, arena_printf(c->a, "%u", p->port), mine);
            for (uint32_t a = 0; a < svc->n_addresses; a++)
                check_shared(c, &seen,
                             arena_printf(c->a, "%.*s port %u", SV_ARG(svc->addresses[a]), p->port),
                             mine);
        }
    }
    map_fini(&seen);
}

static const char *protocol_name(enum model_protocol p)
{
    static const char *const names[] = {"TCP", "HTTP",  "HTTP2", "GRPC",   "GRPC-WEB",
                                        "TLS", "HTTPS", "UDP",   "sniffed"};
    return names[p];
}

/* A port that another ServiceEntry of the host has too, and has otherwise. */
static void check_same_port(struct checking *c, const struct model_service *svc)
{
    const struct model_service *mine = svc->more;

    while (mine && mine->object != c->o)
        mine = mine->more;
    for (uint32_t k = 0; mine && k < mine->spec->n_ports; k++) {
        const struct model_port *p = &mine->spec->ports[k], *q = build_port(svc, p->port);
        if (p->protocol != q->protocol)
            check_report(
                c, MODEL_WARNING, "Conflict", arena_printf(c->a, "spec.ports[%u].protocol", k),
                arena_printf(c->a,
                             "spec.ports[%u].protocol: port %u of '%.*s' is %s by an older "
                             "ServiceEntry, which stays in force, and %s here: correct one of them",
                             k, p->port, SV_ARG(svc->host), protocol_name(q->protocol),
                             protocol_name(p->protocol)));
    }
}

/* A host has one owner: a Service, or ServiceEntries that are alike. */
static void check_entry(struct checking *c)
{
    const struct istio_ServiceEntry *se = c->o->spec;

    if (se->workload_selector && se->resolution == istio_ServiceEntry_NONE)
        check_report(c, MODEL_WARNING, "NoEffect", SV("spec.workloadSelector"),
                     SV("spec.workloadSelector: with resolution NONE connections go where they "
                        "were going, not to workloads. Set resolution: STATIC"));
    for (uint32_t i = 0; i < se->hosts.n; i++) {
        const struct model_service *svc =
            model_service_find(c->m, arena_lower(c->a, se->hosts.v[i]));
        if (svc && model_service_is_of(svc, c->o)) {
            check_same_port(c, svc);
            continue;
        }
        if (svc)
            check_report(
                c, MODEL_ERROR, "Conflict", arena_printf(c->a, "spec.hosts[%u]", i),
                arena_printf(c->a,
                             "spec.hosts[%u]: host '%.*s' already belongs to %s %.*s/%.*s, which "
                             "stays in force%s",
                             i, SV_ARG(svc->host), model_kind_name(svc->object->kind),
                             SV_ARG(svc->object->ns), SV_ARG(svc->object->name),
                             !svc->entry ? ""
                             : sv_eq(svc->ns, c->o->ns)
                                 ? "; make resolution, workloadSelector and exportTo the same in "
                                   "both, and their ports add up"
                                 : "; say the same in both, or export that one to this namespace"));
    }
}

/* ---- sidecars ---- */

/* Of two for the whole namespace the older one holds. */
static void check_sidecar(struct checking *c, uint32_t i)
{
    const struct istio_Sidecar *s = c->o->spec;

    if (s->workload_selector && s->workload_selector->labels.n)
        return;
    for (uint32_t k = 0; k < i; k++) {
        const struct model_object *o = c->m->objects[MODEL_SIDECAR][k];
        const struct istio_Sidecar *other = o->spec;
        if (!sv_eq(o->ns, c->o->ns) ||
            (other->workload_selector && other->workload_selector->labels.n))
            continue;
        check_report(c, MODEL_ERROR, "Conflict", SV("spec.workloadSelector"),
                     arena_printf(c->a,
                                  "spec.workloadSelector: Sidecar %.*s/%.*s already holds for the "
                                  "whole namespace and stays in force: merge the two, or select "
                                  "workloads",
                                  SV_ARG(o->ns), SV_ARG(o->name)));
        return;
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
    check_virtual_hosts(&c);
    check_rules(&c);
    for (uint32_t i = 0; i < m->n_objects[MODEL_SERVICE_ENTRY]; i++) {
        c.o = m->objects[MODEL_SERVICE_ENTRY][i];
        check_entry(&c);
    }
    if (m->n_objects[MODEL_SERVICE_ENTRY])
        check_shared_ports(&c);
    for (uint32_t i = 0; i < m->n_objects[MODEL_SIDECAR]; i++) {
        c.o = m->objects[MODEL_SIDECAR][i];
        check_sidecar(&c, i);
    }
}
