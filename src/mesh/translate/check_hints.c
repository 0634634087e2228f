/* Between configuration and workloads; and what is allowed but surprises. */
#include <stdlib.h>
#include "mesh/translate/check.h"

/* ---- who is selected ---- */

/* Labels of a map<string, string> field. */
#define HAS_LABELS(labels_, map_)                                                                  \
    ({                                                                                             \
        bool ok_ = true;                                                                           \
        for (uint32_t i_ = 0; i_ < (map_).n; i_++)                                                 \
            ok_ &= sv_eq(model_labels_get((labels_), (map_).v[i_]->key), (map_).v[i_]->value);     \
        ok_;                                                                                       \
    })

enum check_selected check_selected(const struct model *m, const struct model_service *svc,
                                   const struct istio_Subset *s)
{
    enum check_selected found = CHECK_NO_WORKLOADS;

    if (svc->resolution == MODEL_RESOLVE_NONE)
        return found;
    for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
        const struct model_endpoints *eps =
            model_endpoints_find(m, svc->host, svc->spec->ports[k].port);
        for (uint32_t i = 0; eps && i < eps->n; i++) {
            if (HAS_LABELS(eps->v[i].labels, s->labels))
                return CHECK_SELECTS_SOME;
            found = CHECK_SELECTS_NONE;
        }
    }
    return found;
}

static const enum model_kind workload_kinds[] = {MODEL_POD, MODEL_WORKLOAD, MODEL_WORKLOAD_ENTRY};
#define N_WORKLOAD_KINDS (sizeof workload_kinds / sizeof *workload_kinds)

static bool has_workloads(const struct model *m)
{
    uint32_t n = m->n_objects[MODEL_ENDPOINT_SLICE];

    for (size_t k = 0; k < N_WORKLOAD_KINDS; k++)
        n += m->n_objects[workload_kinds[k]];
    return n > 0;
}

static struct model_labels labels_of(const struct model_object *o, struct arena *a)
{
    return o->kind == MODEL_WORKLOAD_ENTRY ? model_entry_labels(a, o->spec) : o->labels;
}

/* Some workload of the namespace passes the test. */
#define ANY_WORKLOAD(c, space, labels_, test)                                                      \
    ({                                                                                             \
        bool any_ = false;                                                                         \
        for (size_t k_ = 0; k_ < N_WORKLOAD_KINDS; k_++) {                                         \
            enum model_kind kind_ = workload_kinds[k_];                                            \
            for (uint32_t w_ = 0; w_ < (c)->m->n_objects[kind_] && !any_; w_++) {                  \
                const struct model_object *o_ = (c)->m->objects[kind_][w_];                        \
                struct model_labels labels_ = labels_of(o_, (c)->a);                               \
                any_ = sv_eq(o_->ns, (space)) && (test);                                           \
            }                                                                                      \
        }                                                                                          \
        any_;                                                                                      \
    })

static void nobody(struct checking *c, const char *field, const char *what)
{
    check_report(c, MODEL_WARNING, "SelectsNothing", sv_of(field),
                 arena_printf(c->a,
                              "%s: no workload in namespace '%.*s' has these labels; %s. Correct "
                              "the labels, or add the workloads",
                              field, SV_ARG(c->o->ns), what));
}

/* ---- services ---- */

static void hint_ports(struct checking *c, const struct model_service_spec *s)
{
    for (uint32_t i = 0; i < s->n_ports; i++) {
        const struct model_port *p = &s->ports[i];
        if (p->protocol != MODEL_AUTO)
            continue;
        c->line = p->line;
        check_report(
            c, MODEL_HINT, "ProtocolSniffed", arena_printf(c->a, "spec.ports[%u]", i),
            arena_printf(c->a,
                         "spec.ports[%u]: port %u%s%.*s%s does not say its protocol, so that "
                         "sidecars look at the first bytes of each connection; a server that "
                         "speaks first waits for that. Set appProtocol: http (or tcp, grpc …), or "
                         "begin the name with it (http-%s)",
                         i, p->port, p->name.n ? " '" : "", SV_ARG(p->name), p->name.n ? "'" : "",
                         p->name.n ? p->name.p : "web"));
        c->line = 0;
    }
}

static void hint_service(struct checking *c, bool workloads)
{
    const struct model_service_spec *s = c->o->spec;

    hint_ports(c, s);
    if (workloads && s->selector.n &&
        !ANY_WORKLOAD(c, c->o->ns, labels, model_labels_match(labels, s->selector)))
        nobody(c, "spec.selector", "requests to this service get 503");
}

/* ---- destination rules, sidecars, service entries ---- */

static void hint_rule(struct checking *c)
{
    const struct istio_DestinationRule *r = c->o->spec;
    const struct model_service *svc =
        model_service_find(c->m, model_host_resolve(c->m, r->host, c->o->ns, c->a));

    for (uint32_t i = 0; svc && i < r->subsets.n; i++) {
        if (check_selected(c->m, svc, r->subsets.v[i]) != CHECK_SELECTS_NONE)
            continue;
        check_report(
            c, MODEL_WARNING, "SubsetEmpty", arena_printf(c->a, "spec.subsets[%u].labels", i),
            arena_printf(c->a,
                         "spec.subsets[%u].labels: no workload of '%.*s' has the labels of subset "
                         "'%.*s'. Label the workloads, or correct the subset",
                         i, SV_ARG(svc->host), SV_ARG(r->subsets.v[i]->name)));
    }
    if (r->workload_selector && r->workload_selector->match_labels.n &&
        !ANY_WORKLOAD(c, c->o->ns, labels, HAS_LABELS(labels, r->workload_selector->match_labels)))
        nobody(c, "spec.workloadSelector", "this rule holds for no client");
}

/* Of two Sidecars that select one workload the older one holds. */
static void hint_two_sidecars(struct checking *c, const struct istio_Sidecar *s)
{
    for (uint32_t i = 0; s->workload_selector && s->workload_selector->labels.n; i++) {
        const struct model_object *o = c->m->objects[MODEL_SIDECAR][i];
        const struct istio_WorkloadSelector *other =
            ((const struct istio_Sidecar *)o->spec)->workload_selector;
        if (o == c->o)
            return;
        if (!sv_eq(o->ns, c->o->ns) || !other || !other->labels.n ||
            !ANY_WORKLOAD(c, c->o->ns, labels,
                          HAS_LABELS(labels, s->workload_selector->labels) &&
                              HAS_LABELS(labels, other->labels)))
            continue;
        check_report(c, MODEL_WARNING, "Conflict", SV("spec.workloadSelector"),
                     arena_printf(c->a,
                                  "spec.workloadSelector: Sidecar %.*s/%.*s selects some of the "
                                  "same workloads and stays in force for them: merge the two, or "
                                  "select others",
                                  SV_ARG(o->ns), SV_ARG(o->name)));
        return;
    }
}

static void hint_sidecar(struct checking *c)
{
    const struct istio_Sidecar *s = c->o->spec;

    if (s->workload_selector && s->workload_selector->labels.n &&
        !ANY_WORKLOAD(c, c->o->ns, labels, HAS_LABELS(labels, s->workload_selector->labels)))
        nobody(c, "spec.workloadSelector", "this Sidecar holds for no workload");
    hint_two_sidecars(c, s);
}

static void hint_entry(struct checking *c)
{
    const struct istio_ServiceEntry *s = c->o->spec;

    if (s->workload_selector && s->workload_selector->labels.n &&
        !ANY_WORKLOAD(c, c->o->ns, labels, HAS_LABELS(labels, s->workload_selector->labels)))
        nobody(c, "spec.workloadSelector", "requests to its hosts get 503");
}

/* ---- weights ---- */

static void hint_weights(struct checking *c)
{
    const struct istio_VirtualService *vs = c->o->spec;

    for (uint32_t i = 0; i < vs->http.n; i++) {
        const struct istio_HTTPRoute *r = vs->http.v[i];
        uint32_t sum = 0;
        for (uint32_t k = 0; k < r->route.n; k++)
            sum += (uint32_t)r->route.v[k]->weight;
        if (r->route.n < 2 || sum == 100 || !sum)
            continue;
        struct strbuf shares;
        strbuf_init(&shares, 4096);
        for (uint32_t k = 0; k < r->route.n; k++)
            strbuf_addf(&shares, "%s%.4g %%", k ? ", " : "", 100.0 * r->route.v[k]->weight / sum);
        check_report(c, MODEL_HINT, "WeightsNot100", arena_printf(c->a, "spec.http[%u].route", i),
                     arena_printf(c->a,
                                  "spec.http[%u].route: the weights add up to %u, not 100; the "
                                  "shares are %.*s. Make them add up to 100 if others read them "
                                  "as percentages",
                                  i, sum, (int)shares.n, shares.p));
        strbuf_fini(&shares);
    }
}

static void each_object(struct checking *c, enum model_kind kind, void (*fn)(struct checking *c))
{
    for (uint32_t i = 0; i < c->m->n_objects[kind]; i++) {
        c->o = c->m->objects[kind][i];
        fn(c);
    }
}

void translate_hints(const struct model *m, struct arena *a,
                     void (*emit)(void *arg, const struct model_problem *p), void *arg)
{
    struct checking c = {.m = m, .a = a, .emit = emit, .arg = arg};
    bool workloads = has_workloads(m);

    for (uint32_t i = 0; i < m->n_objects[MODEL_SERVICE]; i++) {
        c.o = m->objects[MODEL_SERVICE][i];
        hint_service(&c, workloads);
    }
    each_object(&c, MODEL_VIRTUAL_SERVICE, hint_weights);
    if (!workloads)
        return;
    each_object(&c, MODEL_DESTINATION_RULE, hint_rule);
    each_object(&c, MODEL_SIDECAR, hint_sidecar);
    each_object(&c, MODEL_SERVICE_ENTRY, hint_entry);
}
