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

/* ---- what is never reached ---- */

static void unreachable(struct checking *c, sv field, sv why)
{
    check_report(c, MODEL_WARNING, "Unreachable", field,
                 arena_printf(c->a, "%.*s: is never reached: %.*s", SV_ARG(field), SV_ARG(why)));
}

/* Conditions besides the path. */
static bool has_conditions(const struct istio_HTTPMatchRequest *m)
{
    return m->headers.n || m->without_headers.n || m->query_params.n ||
           build_string_set(m->scheme) || build_string_set(m->method) ||
           build_string_set(m->authority) || m->port || m->source_labels.n || m->gateways.n ||
           m->source_namespace.n;
}

/* What a takes and b would, by the path alone. */
static bool path_covers(const struct istio_HTTPMatchRequest *a,
                        const struct istio_HTTPMatchRequest *b)
{
    sv text;

    if (has_conditions(a) || (b->ignore_uri_case && !a->ignore_uri_case))
        return false;
    if (build_takes_everything(a))
        return true;
    if (!b->uri || !b->uri->which_match_type ||
        b->uri->which_match_type == istio_StringMatch_regex_tag)
        return false;
    text = b->uri->which_match_type == istio_StringMatch_exact_tag ? b->uri->exact : b->uri->prefix;
    if (a->uri->which_match_type == istio_StringMatch_exact_tag)
        return b->uri->which_match_type == istio_StringMatch_exact_tag &&
               (a->ignore_uri_case ? sv_eq_icase(text, a->uri->exact) : sv_eq(text, a->uri->exact));
    return a->uri->which_match_type == istio_StringMatch_prefix_tag &&
           (a->ignore_uri_case ? sv_starts_icase(text, a->uri->prefix)
                               : sv_starts(text, a->uri->prefix));
}

/* The same conditions under another name. */
static bool same_match(struct checking *c, const struct istio_HTTPMatchRequest *a,
                       const struct istio_HTTPMatchRequest *b)
{
    struct istio_HTTPMatchRequest x = *a, y = *b;
    uint32_t kind = a->uri ? a->uri->which_match_type : 0;

    /* The path alone tells most of them apart. */
    if (kind != (b->uri ? b->uri->which_match_type : 0) || a->headers.n != b->headers.n ||
        (kind == istio_StringMatch_exact_tag && !sv_eq(a->uri->exact, b->uri->exact)) ||
        (kind == istio_StringMatch_prefix_tag && !sv_eq(a->uri->prefix, b->uri->prefix)) ||
        (kind == istio_StringMatch_regex_tag && !sv_eq(a->uri->regex, b->uri->regex)))
        return false;
    x.name = y.name = x.stat_prefix = y.stat_prefix = (sv){NULL, 0};
    return sv_eq(pb_encode_arena(&istio_HTTPMatchRequest_pb, &x, c->a),
                 pb_encode_arena(&istio_HTTPMatchRequest_pb, &y, c->a));
}

static void check_match(struct checking *c, const struct istio_VirtualService *vs, uint32_t rule,
                        uint32_t match)
{
    const struct istio_HTTPMatchRequest *m = vs->http.v[rule]->match.v[match];

    for (uint32_t i = 0; i <= rule; i++) {
        const struct istio_HTTPRoute *r = vs->http.v[i];
        for (uint32_t k = 0; k < r->match.n && (i < rule || k < match); k++) {
            if (!path_covers(r->match.v[k], m) && !same_match(c, r->match.v[k], m))
                continue;
            unreachable(c, arena_printf(c->a, "spec.http[%u].match[%u]", rule, match),
                        arena_printf(c->a, "spec.http[%u].match[%u] takes all of it", i, k));
            return;
        }
    }
}

#define UNREACHABLE_MATCHES_MAX 512

static void check_http_order(struct checking *c, const struct istio_VirtualService *vs)
{
    uint32_t seen = 0;

    for (uint32_t i = 0; i < vs->http.n; i++) {
        if (i && !vs->http.v[i - 1]->match.n) {
            unreachable(c, arena_printf(c->a, "spec.http[%u]", i),
                        arena_printf(c->a,
                                     "spec.http[%u] has no match and takes everything; move "
                                     "this rule in front of it",
                                     i - 1));
            return;
        }
        /* Every match is compared with those before it: not for lists that nobody wrote by hand. */
        for (uint32_t k = 0; k < vs->http.v[i]->match.n && seen < UNREACHABLE_MATCHES_MAX;
             k++, seen++)
            check_match(c, vs, i, k);
    }
}

static void check_tcp_order(struct checking *c, const struct istio_VirtualService *vs)
{
    for (uint32_t i = 1; i < vs->tcp.n; i++) {
        if (!vs->tcp.v[i - 1]->match.n) {
            unreachable(
                c, arena_printf(c->a, "spec.tcp[%u]", i),
                arena_printf(c->a, "spec.tcp[%u] has no match and takes everything", i - 1));
            return;
        }
    }
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
    check_http_order(c, vs);
    check_tcp_order(c, vs);
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
