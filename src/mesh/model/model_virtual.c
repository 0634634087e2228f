/* VirtualServices as they are in force: see struct model_virtual. */
#include <stdlib.h>
#include <string.h>
#include "mesh/model/model_delegate.h"
#include "mesh/model/model_store.h"

struct merging {
    struct model *m;
    const struct model_object *root;
    struct map by_name; /* "ns/name" -> struct model_object, delegates and others */
    struct model_problem *problems;
    uint32_t n_problems, cap_problems;
    struct model_http_rule *rules; /* of the root at hand */
    uint32_t n_rules, cap_rules;
};

/* The array v of n elements has room for one more. */
#define GROW(a, v, n, cap)                                                                         \
    do {                                                                                           \
        if ((n) == (cap)) {                                                                        \
            (cap) = (cap) ? (cap)*2 : 8;                                                           \
            __typeof__(v) grown_ = arena_zalloc((a), (cap) * sizeof *(v));                         \
            if (n)                                                                                 \
                memcpy(grown_, (v), (n) * sizeof *(v));                                            \
            (v) = grown_;                                                                          \
        }                                                                                          \
    } while (0)

static void report(struct merging *g, const char *code, uint32_t rule, sv why)
{
    struct arena *a = &g->m->arena;
    sv field = arena_printf(a, "spec.http[%u].delegate", rule);

    GROW(a, g->problems, g->n_problems, g->cap_problems);
    g->problems[g->n_problems++] =
        (struct model_problem){.severity = MODEL_ERROR,
                               .kind = MODEL_VIRTUAL_SERVICE,
                               .has_object = true,
                               .ns = g->root->ns,
                               .name = g->root->name,
                               .file = g->root->file,
                               .line = g->root->line,
                               .field = field,
                               .code = sv_of(code),
                               .text = arena_printf(a, "%.*s: %.*s", SV_ARG(field), SV_ARG(why))};
}

static void add_rule(struct merging *g, const struct istio_HTTPRoute *r,
                     const struct model_object *from, uint32_t index)
{
    GROW(&g->m->arena, g->rules, g->n_rules, g->cap_rules);
    g->rules[g->n_rules++] = (struct model_http_rule){r, from, index};
}

/* ---- delegation ---- */

static const struct model_object *delegate_of(struct merging *g, uint32_t rule,
                                              const struct istio_Delegate *d)
{
    struct arena *a = &g->m->arena;
    sv ns = d->namespace.n ? d->namespace : g->root->ns;
    sv key = arena_printf(a, "%.*s/%.*s", SV_ARG(ns), SV_ARG(d->name));
    const struct model_object *o = map_get(&g->by_name, key);
    const struct istio_VirtualService *vs = o ? o->spec : NULL;

    if (!vs || vs->hosts.n) {
        report(
            g, "DelegateNotFound", rule,
            arena_printf(a,
                         vs ? "VirtualService %.*s has hosts, so it is no delegate; this rule is "
                              "left out. Remove its hosts, or name another one"
                            : "there is no VirtualService %.*s; this rule is left out. Define it "
                              "without hosts, or correct the name",
                         SV_ARG(key)));
        return NULL;
    }
    if (!model_exported_to(vs->export_to.v, vs->export_to.n, o->ns, g->root->ns)) {
        report(g, "DelegateNotExported", rule,
               arena_printf(a,
                            "VirtualService %.*s is not exported to namespace %.*s; this rule is "
                            "left out. Add the namespace to its exportTo",
                            SV_ARG(key), SV_ARG(g->root->ns)));
        return NULL;
    }
    return o;
}

static void add_delegated(struct merging *g, uint32_t rule, const struct istio_HTTPRoute *root)
{
    const struct model_object *o = delegate_of(g, rule, root->delegate);
    const struct istio_VirtualService *vs = o ? o->spec : NULL;

    for (uint32_t i = 0; vs && i < vs->http.n; i++) {
        const struct istio_HTTPRoute *r =
            model_delegate_merge(g->m, root, g->root->ns, vs->http.v[i]);
        if (r)
            add_rule(g, r, o, i);
        else
            report(
                g, "Conflict", rule,
                arena_printf(&g->m->arena,
                             "spec.http[%u] of the delegate %.*s/%.*s matches what this rule does "
                             "not; it is left out. A delegate may only narrow the root's match",
                             i, SV_ARG(o->ns), SV_ARG(o->name)));
    }
}

/* ---- one VirtualService ---- */

static const struct model_virtual *make(struct merging *g, const struct model_object *o)
{
    struct model *m = g->m;
    const struct istio_VirtualService *vs = o->spec;
    struct model_virtual *v = arena_new(&m->arena, struct model_virtual);
    sv *hosts = arena_array(&m->arena, sv, vs->hosts.n);

    g->root = o;
    g->rules = NULL;
    g->n_rules = g->cap_rules = 0;
    for (uint32_t i = 0; i < vs->hosts.n; i++)
        hosts[i] = model_host_resolve(m, arena_lower(&m->arena, vs->hosts.v[i]), o->ns, &m->arena);
    for (uint32_t i = 0; i < vs->http.n; i++) {
        if (vs->http.v[i]->delegate)
            add_delegated(g, i, vs->http.v[i]);
        else
            add_rule(g, vs->http.v[i], o, i);
    }
    *v = (struct model_virtual){.object = o,
                                .spec = vs,
                                .hosts = hosts,
                                .http = g->rules,
                                .n_http = g->n_rules,
                                .mesh = model_for_mesh(vs->gateways.v, vs->gateways.n)};
    return v;
}

/* ---- indexes ---- */

static void index_exact(struct model *m, sv host, const struct model_virtual *v)
{
    struct model_virtual_list *l = map_get(&m->virtuals_by_host, host);
    const struct model_virtual **list;

    if (!l) {
        l = arena_new(&m->arena, struct model_virtual_list);
        map_put(&m->virtuals_by_host, host, l);
    }
    list = arena_array(&m->arena, const struct model_virtual *, l->n + 1);
    if (l->n)
        memcpy(list, l->v, l->n * sizeof *list);
    list[l->n] = v;
    l->v = list;
    l->n++;
}

/* Stable for equal lengths: they stand in order of precedence. */
static void sort_wildcards(struct model_wildcard *w, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        struct model_wildcard x = w[i];
        uint32_t k = i;
        for (; k > 0 && w[k - 1].host.n < x.host.n; k--)
            w[k] = w[k - 1];
        w[k] = x;
    }
}

static void index_hosts(struct model *m)
{
    struct model_wildcard *wildcards = NULL;
    uint32_t n = 0, cap = 0;

    for (uint32_t i = 0; i < m->virtuals.n; i++) {
        const struct model_virtual *v = m->virtuals.v[i];
        for (uint32_t h = 0; h < v->spec->hosts.n; h++) {
            if (v->hosts[h].n && v->hosts[h].p[0] == '*') {
                GROW(&m->arena, wildcards, n, cap);
                wildcards[n++] = (struct model_wildcard){v->hosts[h], v};
            } else {
                index_exact(m, v->hosts[h], v);
            }
        }
    }
    sort_wildcards(wildcards, n);
    m->wildcards = wildcards;
    m->n_wildcards = n;
}

void model_virtual_build(struct model *m)
{
    uint32_t n = m->n_objects[MODEL_VIRTUAL_SERVICE];
    const struct model_virtual **list = arena_array(&m->arena, const struct model_virtual *, n + 1);
    struct merging g = {.m = m};

    map_init_borrow(&g.by_name);
    for (uint32_t i = 0; i < n; i++) {
        const struct model_object *o = m->objects[MODEL_VIRTUAL_SERVICE][i];
        map_put(&g.by_name, arena_printf(&m->arena, "%.*s/%.*s", SV_ARG(o->ns), SV_ARG(o->name)),
                (void *)o);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct model_object *o = m->objects[MODEL_VIRTUAL_SERVICE][i];
        if (((const struct istio_VirtualService *)o->spec)->hosts.n)
            list[m->virtuals.n++] = make(&g, o);
    }
    map_fini(&g.by_name);
    m->virtuals.v = list;
    index_hosts(m);
    m->merge_problems = g.problems;
    m->n_merge_problems = g.n_problems;
}
