/* DestinationRules: rules of one namespace for one host are one rule; which of them a client gets.
 *
 * As Istio merges: older first. The first trafficPolicy is in force; subsets add up, of two with
 * the same name the first is in force. Rules with different workloadSelectors or exportTo stay
 * apart. What is hidden this way is reported by translate_check. */
#include <string.h>
#include "api/istio.pb.h"
#include "mesh/model/model_store.h"

#define ROOT_NS SV("istio-system")

bool model_same_names(const sv *a, uint32_t na, const sv *b, uint32_t nb)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < na; i++) {
        for (uint32_t k = 0; k < nb; k++)
            found += sv_eq(a[i], b[k]);
    }
    return na == nb && found == na;
}

static bool same_selector(const struct istio_type_WorkloadSelector *a,
                          const struct istio_type_WorkloadSelector *b)
{
    uint32_t found = 0;

    if (!a || !b)
        return a == b;
    for (uint32_t i = 0; i < a->match_labels.n; i++) {
        for (uint32_t k = 0; k < b->match_labels.n; k++)
            found += sv_eq(a->match_labels.v[i]->key, b->match_labels.v[k]->key) &&
                     sv_eq(a->match_labels.v[i]->value, b->match_labels.v[k]->value);
    }
    return a->match_labels.n == b->match_labels.n && found == a->match_labels.n;
}

bool model_rules_merge(const struct istio_DestinationRule *a, const struct istio_DestinationRule *b)
{
    return same_selector(a->workload_selector, b->workload_selector) &&
           model_same_names(a->export_to.v, a->export_to.n, b->export_to.v, b->export_to.n);
}

static bool has_subset(const struct istio_DestinationRule *r, sv name)
{
    for (uint32_t i = 0; i < r->subsets.n; i++) {
        if (sv_eq(r->subsets.v[i]->name, name))
            return true;
    }
    return false;
}

static const struct istio_DestinationRule *merged(struct arena *a,
                                                  const struct istio_DestinationRule *first,
                                                  const struct istio_DestinationRule *more)
{
    struct istio_DestinationRule *out = arena_new(a, struct istio_DestinationRule);
    const struct istio_Subset **list =
        arena_array(a, const struct istio_Subset *, first->subsets.n + more->subsets.n + 1);
    uint32_t n = first->subsets.n;

    *out = *first;
    if (!out->traffic_policy)
        out->traffic_policy = more->traffic_policy;
    if (n)
        memcpy(list, first->subsets.v, n * sizeof *list);
    for (uint32_t i = 0; i < more->subsets.n; i++) {
        if (!has_subset(first, more->subsets.v[i]->name))
            list[n++] = more->subsets.v[i];
    }
    out->subsets.v = list;
    out->subsets.n = n;
    return out;
}

static sv key_of(struct arena *a, sv ns, sv host)
{
    return arena_printf(a, "%.*s|%.*s", SV_ARG(ns), SV_ARG(host));
}

/* Called in order of precedence. */
void model_rules_add(struct model *m, const struct model_object *o, sv host)
{
    const struct istio_DestinationRule *r = o->spec;
    sv key = key_of(&m->arena, o->ns, host);
    struct model_rules *l = map_get(&m->rules, key);
    struct model_rule *v;

    if (!l) {
        l = arena_new(&m->arena, struct model_rules);
        map_put(&m->rules, key, l);
    }
    for (uint32_t i = 0; i < l->n; i++) {
        if (model_rules_merge(l->v[i].spec, r)) {
            l->v[i].spec = merged(&m->arena, l->v[i].spec, r);
            return;
        }
    }
    v = arena_array(&m->arena, struct model_rule, l->n + 1);
    if (l->n)
        memcpy(v, l->v, l->n * sizeof *v);
    v[l->n] = (struct model_rule){o, r};
    l->v = v;
    l->n++;
}

/* ---- which one holds ---- */

static const struct model_rules *rules_at(const struct model *m, sv ns, sv host)
{
    char key[640];
    size_t n = ns.n + 1 + host.n;

    if (n > sizeof key)
        return NULL;
    memcpy(key, ns.p, ns.n);
    key[ns.n] = '|';
    memcpy(key + ns.n + 1, host.p, host.n);
    return map_get(&m->rules, sv_make(key, n));
}

static bool selects(const struct istio_type_WorkloadSelector *s, struct model_labels labels)
{
    for (uint32_t i = 0; i < s->match_labels.n; i++) {
        if (!sv_eq(model_labels_get(labels, s->match_labels.v[i]->key),
                   s->match_labels.v[i]->value))
            return false;
    }
    return true;
}

/* Among the rules of one host: one that selects the client before one for everybody. Selectors
 * speak of workloads of the rule's own namespace. */
static const struct model_rule *choose(const struct model_rules *l, sv ns,
                                       const struct model_client *c)
{
    const struct model_rule *any = NULL;

    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct istio_DestinationRule *r = l->v[i].spec;
        if (!model_exported_to(r->export_to.v, r->export_to.n, ns, c->ns))
            continue;
        if (!r->workload_selector)
            any = any ? any : &l->v[i];
        else if (sv_eq(ns, c->ns) && selects(r->workload_selector, c->labels))
            return &l->v[i];
    }
    return any;
}

/* The host itself, then wildcards, longest first. */
static const struct model_rule *rule_in(const struct model *m, sv ns, sv host,
                                        const struct model_client *c)
{
    const struct model_rule *r = choose(rules_at(m, ns, host), ns, c);
    char wild[260];
    sv rest = host;

    if (host.n && host.p[0] == '*')
        rest = sv_from(host, host.n > 1 ? 2 : 1);
    while (!r && rest.n) {
        sv label;
        if (!sv_cut(rest, '.', &label, &rest) || !rest.n || rest.n + 2 > sizeof wild)
            break;
        wild[0] = '*';
        wild[1] = '.';
        memcpy(wild + 2, rest.p, rest.n);
        r = choose(rules_at(m, ns, sv_make(wild, rest.n + 2)), ns, c);
    }
    return r ? r : choose(rules_at(m, ns, SV("*")), ns, c);
}

const struct model_rule *model_rule_find(const struct model *m, const struct model_service *svc,
                                         const struct model_client *c)
{
    const struct model_rule *r = NULL;

    if (!map_len(&m->rules))
        return NULL;
    if (!sv_eq(c->ns, ROOT_NS))
        r = rule_in(m, c->ns, svc->host, c);
    if (!r)
        r = rule_in(m, svc->ns, svc->host, c);
    return r ? r : rule_in(m, ROOT_NS, svc->host, c);
}
