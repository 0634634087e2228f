/* From a URL to the rule that decides. */
#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/istio.pb.h"
#include "api/pb.h"
#include "cli/explain.h"

struct question {
    struct offline *o;
    struct explained *x;
    struct translate *t;
    struct arena *a;
    const struct model_service *svc;
    /* VIP:port, 0.0.0.0:port, and where every connection begins */
    const struct envoy_Listener *exact, *any, *first;
    const struct envoy_RouteConfiguration *routes;
};

static void *decode(const struct pb_message *m, sv packed, struct arena *a)
{
    struct error err = {0};
    void *msg;
    return pb_decode(m, packed, a, NULL, &msg, &err) == 0 ? msg : NULL;
}

/* ---- who asks ---- */

static int by_key(const void *a, const void *b)
{
    return sv_cmp(((const struct model_label *)a)->key, ((const struct model_label *)b)->key);
}

static struct model_labels parse_labels(sv text, struct arena *a)
{
    struct model_label *v = arena_array(a, struct model_label, text.n + 1);
    struct model_labels l = {v, 0};
    sv one;

    while (text.n) {
        sv_cut(text, ',', &one, &text);
        sv_cut(sv_trim(one), '=', &v[l.n].key, &v[l.n].value);
        l.n++;
    }
    if (l.n > 1)
        qsort(v, l.n, sizeof *v, by_key);
    return l;
}

static void be(struct explained *x, const struct model_object *o)
{
    const struct model_pod_spec *s = o->spec;

    x->proxy_found = true;
    x->proxy.workload = o->name;
    x->proxy.labels = o->labels;
    x->proxy.service_account = s->service_account;
    x->proxy.region = s->region;
    x->proxy.zone = s->zone;
    x->proxy.sub_zone = s->sub_zone;
    if (s->n_ips)
        x->proxy.ip = s->ips[0];
}

/* "NAMESPACE", "NAMESPACE/WORKLOAD", "NAMESPACE/k=v,k=v". */
static void read_from(struct question *q, sv from)
{
    static const enum model_kind kinds[] = {MODEL_POD, MODEL_WORKLOAD};
    struct explained *x = q->x;
    sv who;

    x->proxy = (struct translate_proxy){.outbound_port = 15001, .inbound_port = 15006};
    sv_cut(from, '/', &x->proxy.ns, &who);
    x->proxy.workload = who;
    if (sv_find(who, '=') >= 0) {
        x->proxy.labels = parse_labels(who, q->a);
        x->proxy.workload = (sv){NULL, 0};
    }
    for (size_t k = 0; who.n && k < 2; k++) {
        for (uint32_t i = 0; i < q->o->m->n_objects[kinds[k]]; i++) {
            const struct model_object *o = q->o->m->objects[kinds[k]][i];
            if (!sv_eq(o->ns, x->proxy.ns) || x->proxy_found)
                continue;
            if (x->proxy.labels.n ? model_labels_match(o->labels, x->proxy.labels)
                                  : sv_eq(o->name, who))
                be(x, o);
        }
    }
}

/* ---- the URL ---- */

static int read_url(struct question *q, sv url, struct error *err)
{
    struct explained *x = q->x;
    ptrdiff_t at = sv_find_sv(url, SV("://")), slash, colon;
    uint64_t port;

    x->scheme = at < 0 ? SV("http") : sv_first(url, (size_t)at);
    if (at >= 0)
        url = sv_from(url, (size_t)at + 3);
    if (!sv_eq_c(x->scheme, "http") && !sv_eq_c(x->scheme, "https"))
        return error_set(err, E_INVALID,
                         "'%.*s' is neither http nor https; a TCP port is asked about as "
                         "http://HOST:PORT, one with TLS as https://HOST:PORT",
                         SV_ARG(x->scheme));
    slash = sv_find(url, '/');
    x->path = slash < 0 ? SV("/") : sv_from(url, (size_t)slash);
    x->host = slash < 0 ? url : sv_first(url, (size_t)slash);
    x->port = sv_eq_c(x->scheme, "https") ? 443 : 80;
    colon = sv_rfind(x->host, ':');
    if (colon >= 0 && x->host.p[x->host.n - 1] != ']') {
        if (sv_to_u64(sv_from(x->host, (size_t)colon + 1), &port) || !port || port > 65535)
            return error_set(err, E_INVALID, "'%.*s' has no port that is a number",
                             SV_ARG(x->host));
        x->port = (uint16_t)port;
        x->host = sv_first(x->host, (size_t)colon);
    }
    if (!x->host.n)
        return error_set(err, E_INVALID, "the URL names no host");
    return 0;
}

/* As the resolver of the workload would complete the name; or by address. */
static void find_service(struct question *q)
{
    const struct model *m = q->o->m;
    sv host = arena_lower(q->a, q->x->host);

    q->svc = model_service_find(m, host);
    if (!q->svc)
        q->svc = model_service_find(m, model_host_resolve(m, host, q->x->proxy.ns, q->a));
    if (!q->svc)
        q->svc = model_service_find(
            m, arena_printf(q->a, "%.*s.%.*s", SV_ARG(host), SV_ARG(m->domain_suffix)));
    if (!q->svc)
        q->svc = model_service_find(
            m, arena_printf(q->a, "%.*s.svc.%.*s", SV_ARG(host), SV_ARG(m->domain_suffix)));
    for (uint32_t i = 0; !q->svc && i < m->n_services; i++) {
        if (m->service_list[i]->vip.n && sv_eq(m->service_list[i]->vip, host))
            q->svc = m->service_list[i];
    }
    if (q->svc)
        q->x->service = explain_place_of(q->svc->object, SV(""), q->a);
}

/* ---- the listener ---- */

static void on_listener(void *arg, sv name, sv packed)
{
    struct question *q = arg;
    const struct envoy_Listener *l;

    l = decode(&envoy_Listener_pb, packed, q->a);
    if (l && sv_eq_c(name, "virtualOutbound"))
        q->first = l;
    if (!l || !l->address || !l->address->socket_address ||
        l->address->socket_address->port_value != q->x->port)
        return;
    if (sv_eq_c(l->address->socket_address->address, "0.0.0.0"))
        q->any = l;
    else if (q->svc && q->svc->vip.n && sv_eq(l->address->socket_address->address, q->svc->vip))
        q->exact = l;
}

static bool has_name(const struct envoy_FilterChainMatch *m, sv host)
{
    for (uint32_t i = 0; m && i < m->server_names.n; i++) {
        sv want = m->server_names.v[i];
        if (sv_eq(want, host) || (want.n && want.p[0] == '*' && model_wildcard_matches(want, host)))
            return true;
    }
    return false;
}

static bool has_address(const struct envoy_FilterChainMatch *m, sv ip)
{
    for (uint32_t i = 0; m && i < m->prefix_ranges.n; i++) {
        if (sv_eq(m->prefix_ranges.v[i]->address_prefix, ip))
            return true;
    }
    return false;
}

static const void *filter_of(const struct envoy_FilterChain *c, const struct pb_message *m,
                             struct arena *a)
{
    for (uint32_t i = 0; c && i < c->filters.n; i++) {
        const struct google_Any *any = c->filters.v[i]->typed_config;
        struct error err = {0};
        void *out;
        if (any && pb_any_unpack(any, m, a, NULL, &out, &err) == 0)
            return out;
    }
    return NULL;
}

static void add_destination(struct question *q, sv cluster, double percent, bool mirror)
{
    struct explained *x = q->x;
    struct explained_destination *v =
        arena_array(q->a, struct explained_destination, x->n_destinations + 1);

    if (x->n_destinations)
        memcpy(v, x->destinations, x->n_destinations * sizeof *v);
    v[x->n_destinations] =
        (struct explained_destination){.cluster = cluster, .percent = percent, .mirror = mirror};
    explain_destination(q->o, q->t, &x->proxy, &v[x->n_destinations]);
    x->destinations = v;
    x->n_destinations++;
}

static void go_tcp(struct question *q, const struct envoy_TcpProxy *t)
{
    uint64_t sum = 0;

    q->x->tcp = true;
    q->x->kind = ROUTE_FORWARD;
    q->x->action = SV("forward the connection");
    if (!t->weighted_clusters) {
        add_destination(q, t->cluster, 100, false);
        return;
    }
    for (uint32_t i = 0; i < t->weighted_clusters->clusters.n; i++)
        sum += t->weighted_clusters->clusters.v[i]->weight;
    for (uint32_t i = 0; i < t->weighted_clusters->clusters.n; i++)
        add_destination(q, t->weighted_clusters->clusters.v[i]->name,
                        100.0 * t->weighted_clusters->clusters.v[i]->weight / (double)sum, false);
}

/* The route configuration of plain HTTP to the host, or what a connection of another kind meets. */
static void enter(struct question *q)
{
    const struct envoy_Listener *l = q->exact ? q->exact : q->any ? q->any : q->first;
    const struct envoy_TcpProxy *tcp = NULL;
    bool https = sv_eq_c(q->x->scheme, "https");
    int rank = 0;

    if (!l)
        return;
    q->x->listener = l->name;
    for (uint32_t i = 0; i < l->filter_chains.n; i++) {
        const struct envoy_FilterChain *c = l->filter_chains.v[i];
        const struct envoy_FilterChainMatch *m = c->filter_chain_match;
        const struct envoy_HttpConnectionManager *h =
            https ? NULL : filter_of(c, &envoy_HttpConnectionManager_pb, q->a);
        const struct envoy_TcpProxy *t = filter_of(c, &envoy_TcpProxy_pb, q->a);
        sv name = q->svc ? q->svc->host : q->x->host;
        int r = !t || (m && m->destination_port && m->destination_port->value != q->x->port) ? 0
                : https && has_name(m, name)                                                 ? 3
                : q->svc && has_address(m, q->svc->vip)                                      ? 2
                : !m || (!m->server_names.n && !m->prefix_ranges.n)                          ? 1
                                                                                             : 0;
        if (h && h->rds)
            q->x->route_config = h->rds->route_config_name;
        if (r > rank) {
            rank = r;
            tcp = t;
        }
    }
    if (!tcp && l->default_filter_chain)
        tcp = filter_of(l->default_filter_chain, &envoy_TcpProxy_pb, q->a);
    if (!q->x->route_config.n && tcp)
        go_tcp(q, tcp);
}

/* ---- the route ---- */

static int keep_filter(void *arg, sv name, const struct google_Any *config, struct arena *a,
                       const void **out, struct error *err)
{
    (void)arg;
    (void)name;
    (void)a;
    (void)err;
    *out = config;
    return 0;
}

static const struct envoy_Route *route_of(const struct question *q, const struct route *r)
{
    for (uint32_t i = 0; i < q->routes->virtual_hosts.n; i++) {
        const struct envoy_VirtualHost *v = q->routes->virtual_hosts.v[i];
        if (sv_eq(v->name, r->vhost->name) && r->index < v->routes.n)
            return v->routes.v[r->index];
    }
    return NULL;
}

/* The VirtualService that the control plane names in the route's metadata. */
static const struct model_virtual *virtual_of(const struct question *q, const struct envoy_Route *r)
{
    sv path = {NULL, 0};

    for (uint32_t i = 0; r->metadata && i < r->metadata->filter_metadata.n; i++) {
        const struct google_Struct *s = r->metadata->filter_metadata.v[i]->value;
        for (uint32_t k = 0; s && k < s->fields.n; k++) {
            if (sv_eq_c(s->fields.v[k]->key, "config") && s->fields.v[k]->value)
                path = s->fields.v[k]->value->string_value;
        }
    }
    for (uint32_t i = 0; path.n && i < q->o->m->virtuals.n; i++) {
        const struct model_virtual *v = q->o->m->virtuals.v[i];
        if (sv_ends(path, arena_printf(q->a, "/namespaces/%.*s/virtual-service/%.*s",
                                       SV_ARG(v->object->ns), SV_ARG(v->object->name))))
            return v;
    }
    return NULL;
}

bool explain_is_named(const struct model_http_rule *r, sv route, struct arena *a)
{
    sv name = r->route->name.n ? r->route->name
                               : arena_printf(a, "%.*s/%.*s/http[%u]", SV_ARG(r->from->ns),
                                              SV_ARG(r->from->name), r->index);
    return sv_eq(name, route) ||
           (sv_starts(route, name) && route.n > name.n && route.p[name.n] == '.');
}

static bool has_route(const struct question *q, const struct route_vhost *host,
                      const struct model_http_rule *r)
{
    for (uint32_t i = 0; i < host->n_routes; i++) {
        if (explain_is_named(r, host->routes[i].name, q->a))
            return true;
    }
    return false;
}

/* A rule in front of the one that decided, of which this client has no route. */
static void say_left_out(struct question *q, const struct model_http_rule *r)
{
    q->x->trail =
        arena_printf(q->a,
                     "%.*srule %.*s/%.*s spec.http[%u]: left out for this client (port, gateways, "
                     "sourceLabels, sourceNamespace)\n",
                     SV_ARG(q->x->trail), SV_ARG(r->from->ns), SV_ARG(r->from->name), r->index);
}

static void find_rule(struct question *q, const struct envoy_Route *r,
                      const struct route_vhost *host)
{
    const struct model_virtual *v = virtual_of(q, r);

    if (!v)
        return;
    q->x->virtual_service = explain_place_of(v->object, SV(""), q->a);
    for (uint32_t i = 0; i < v->n_http; i++) {
        if (!explain_is_named(&v->http[i], r->name, q->a)) {
            if (!has_route(q, host, &v->http[i]))
                say_left_out(q, &v->http[i]);
            continue;
        }
        q->x->rule_field = arena_printf(q->a, "spec.http[%u]", v->http[i].index);
        q->x->rule = explain_place_of(v->http[i].from, q->x->rule_field, q->a);
        return;
    }
}

static void list_filters(struct question *q, const struct envoy_Route *r)
{
    struct strbuf s;

    strbuf_init(&s, 4096);
    for (uint32_t i = 0; i < r->typed_per_filter_config.n; i++) {
        sv name = r->typed_per_filter_config.v[i]->key;
        ptrdiff_t dot = sv_rfind(name, '.');
        strbuf_addf(&s, "%s%.*s", s.n ? ", " : "", SV_ARG(sv_from(name, (size_t)(dot + 1))));
    }
    q->x->filters = arena_sv(q->a, strbuf_sv(&s));
    strbuf_fini(&s);
}

static void list_destinations(struct question *q, const struct envoy_Route *r,
                              const struct route_match *m)
{
    const struct envoy_RouteAction *a = r->route;
    uint64_t sum = 0;

    if (a->weighted_clusters) {
        for (uint32_t i = 0; i < a->weighted_clusters->clusters.n; i++) {
            const struct envoy_WeightedCluster_ClusterWeight *w =
                a->weighted_clusters->clusters.v[i];
            sum += w->weight ? w->weight->value : 0;
        }
        for (uint32_t i = 0; i < a->weighted_clusters->clusters.n; i++) {
            const struct envoy_WeightedCluster_ClusterWeight *w =
                a->weighted_clusters->clusters.v[i];
            add_destination(q, w->name,
                            sum && w->weight ? 100.0 * w->weight->value / (double)sum : 0, false);
        }
    } else {
        add_destination(q, arena_sv(q->a, m->cluster), 100, false);
    }
    for (uint32_t i = 0; i < m->route->n_mirrors; i++) {
        const struct route_mirror *mi = &m->route->mirrors[i];
        double percent = mi->has_fraction && mi->fraction.denominator
                             ? 100.0 * mi->fraction.numerator / mi->fraction.denominator
                             : 100;
        add_destination(q, mi->cluster, percent, true);
    }
}

/* The cluster that the number zero draws is no answer: all of them are listed. */
static void weighted_trail(struct question *q)
{
    const char *mark = "matches: ";
    ptrdiff_t at = sv_find_sv(q->x->trail, sv_of(mark));

    if (at >= 0)
        q->x->trail =
            arena_printf(q->a, "%.*s%sforwards by weight\n", (int)at, q->x->trail.p, mark);
}

static void act(struct question *q, const struct route_match *m, const struct http_head *head)
{
    const struct envoy_Route *r = m->route ? route_of(q, m->route) : NULL;
    struct explained *x = q->x;

    x->kind = m->action;
    x->found = m->route;
    if (r) {
        x->route = r->name;
        find_rule(q, r, m->route->vhost);
        list_filters(q, r);
    }
    switch (m->action) {
    case ROUTE_FORWARD:
        x->action = SV("forward");
        if (r && r->route)
            list_destinations(q, r, m);
        if (r && r->route && r->route->weighted_clusters)
            weighted_trail(q);
        break;
    case ROUTE_REDIRECT:
        x->action = arena_printf(q->a, "redirect with %u to %.*s", m->route->status,
                                 SV_ARG(route_match_redirect(m, head, q->a)));
        break;
    case ROUTE_DIRECT_RESPONSE:
        x->action = arena_printf(q->a, "answer with %u, without asking anybody", m->route->status);
        break;
    default:
        x->action = SV("answer with 404 (NR): no route matches");
    }
}

static int read_headers(const struct explain_request *in, struct http_head *head, struct arena *a,
                        struct error *err)
{
    for (uint32_t i = 0; i < in->n_headers; i++) {
        sv name, value;
        if (!sv_cut(in->headers[i], ':', &name, &value))
            return error_set(err, E_INVALID, "-H '%.*s': write NAME:VALUE", SV_ARG(in->headers[i]));
        name = arena_lower(a, sv_trim(name));
        if (sv_eq_c(name, "host"))
            head->authority = sv_trim(value);
        else
            http_headers_add(&head->h, name, sv_trim(value));
    }
    return 0;
}

static int match(struct question *q, const struct explain_request *in, struct route_table **table,
                 struct error *err)
{
    const struct route_table_opts opts = {.filter_config = keep_filter};
    struct explained *x = q->x;
    struct strbuf trail;
    struct http_head head;
    struct route_match m;
    sv packed;
    int rc;

    http_head_init(&head, q->a);
    head.method = x->method;
    head.scheme = x->scheme;
    head.path = x->path;
    head.authority =
        x->port == 80 ? x->host : arena_printf(q->a, "%.*s:%u", SV_ARG(x->host), x->port);
    http_headers_add_id(&head.h, HTTP_H_X_FORWARDED_PROTO, x->scheme);
    rc = read_headers(in, &head, q->a, err);
    if (rc || !x->route_config.n ||
        !translate_routes(q->t, q->o->m, &x->proxy, x->route_config, q->a, &packed))
        return rc;
    rc = route_table_build(packed, &opts, table, err);
    if (rc)
        return rc;
    q->routes = decode(&envoy_RouteConfiguration_pb, packed, q->a);
    strbuf_init(&trail, 1 << 20);
    route_table_match(*table, &head, &(struct route_ctx){.trail = &trail}, q->a, &m);
    x->trail = arena_sv(q->a, strbuf_sv(&trail));
    strbuf_fini(&trail);
    if (q->routes)
        act(q, &m, &head);
    return 0;
}

int explain(struct offline *o, const struct explain_request *in, struct explained *out,
            struct route_table **table, struct error *err)
{
    struct question q = {.o = o, .x = out, .a = &o->a};
    int rc;

    *table = NULL;
    *out = (struct explained){.method = in->method};
    read_from(&q, in->from);
    rc = read_url(&q, in->url, err);
    if (rc)
        return rc;
    q.t = translate_new(&(struct translate_options){0}, err);
    if (!q.t)
        return err->code;
    find_service(&q);
    translate_listeners_outbound(q.t, o->m, &out->proxy, &o->a, on_listener, &q);
    enter(&q);
    rc = match(&q, in, table, err);
    translate_free(q.t);
    return rc;
}
