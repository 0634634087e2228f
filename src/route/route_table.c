/* A table: the head that was decoded, virtual hosts by reference, and the index over them. */
#include <stdio.h>
#include <stdlib.h>
#include "api/google.pb.h"
#include "base/code.h"
#include "base/mem.h"
#include "route/route_int.h"

/* ---- domains ---- */

static sv vhost_name(const struct route_table *t, uint32_t i)
{
    return route_string_field(t->vhosts[i]->packed, ROUTE_NAME_FIELD);
}

static int add_domain(struct route_table *t, uint32_t vhost, uint32_t at, sv domain,
                      struct error *err)
{
    enum domain_kind kind;
    sv text;
    if (domain.n == 0)
        return error_set(err, E_INVALID, ".domains[%u]: must not be empty", at);
    if (!domain_parse(arena_lower(&t->arena, domain), &kind, &text))
        return error_set(err, E_INVALID,
                         ".domains[%u]: '%.*s' has a '*' that is neither first nor last", at,
                         SV_ARG(domain));
    uint32_t other = route_index_add(&t->index, kind, text, vhost);
    if (other == ROUTE_INDEX_NONE)
        return 0;
    sv a = vhost_name(t, other), b = vhost_name(t, vhost);
    char where[40] = "";
    if (t->vhosts[other]->of == t->hosts[0])
        snprintf(where, sizeof(where), " (virtual_hosts[%u])", other);
    return error_set(err, E_EXISTS,
                     ".domains[%u]: '%.*s' of virtual host '%.*s' belongs to virtual host "
                     "'%.*s'%s already",
                     at, SV_ARG(domain), SV_ARG(b), SV_ARG(a), where);
}

static int add_domains(struct route_table *t, uint32_t vhost, struct error *err)
{
    sv rest = t->vhosts[vhost]->packed, value;
    uint32_t number, at = 0;
    while (rest.n && route_next_field(&rest, &number, &value)) {
        if (number != ROUTE_DOMAINS_FIELD)
            continue;
        int rc = add_domain(t, vhost, at++, value, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- the head ---- */

static int read_vhds(struct route_head *h, const struct envoy_Vhds *v, struct error *err)
{
    if (!v)
        return 0;
    if (!v->config_source ||
        v->config_source->which_config_source_specifier != envoy_ConfigSource_ads_tag)
        return error_set(err, E_UNSUPPORTED, ".vhds.config_source: only ads is supported");
    h->vhds = true;
    h->vhds_wait_ms = 15000;
    return v->config_source->initial_fetch_timeout
               ? duration_ms(v->config_source->initial_fetch_timeout,
                             ".vhds.config_source.initial_fetch_timeout", &h->vhds_wait_ms, err)
               : 0;
}

static int read_internal_only(struct route_head *h, const struct envoy_RouteConfiguration *m,
                              struct error *err)
{
    uint32_t n = m->internal_only_headers.n;
    sv *names = arena_array(&h->keep.arena, sv, n);
    for (uint32_t i = 0; i < n; i++) {
        sv name = m->internal_only_headers.v[i];
        if (!http_name_valid(name))
            return error_set(err, E_INVALID, ".internal_only_headers[%u]: '%.*s' is no header name",
                             i, SV_ARG(name));
        names[i] = http_name_to_lower(name, &h->keep.arena);
    }
    h->internal_only = names;
    h->n_internal_only = n;
    return 0;
}

static int read_head(struct route_head *h, const struct envoy_RouteConfiguration *m,
                     struct arena *tmp, struct error *err)
{
    struct route_builder b = {
        .h = h, .keep = &h->keep, .a = &h->keep.arena, .tmp = tmp, .err = err, .checking = true};
    h->most_specific_wins = m->most_specific_header_mutations_wins;
    h->ignore_port = m->ignore_port_in_host_matching;
    h->ignore_path_params = m->ignore_path_parameters_in_path_matching;
    h->max_body = m->max_direct_response_body_size_bytes
                      ? m->max_direct_response_body_size_bytes->value
                      : 4096;
    h->check_clusters = m->validate_clusters ? m->validate_clusters->value : h->opts.check_clusters;
    h->metadata = route_copy(&b, &envoy_Metadata_pb, m->metadata);
    int rc = route_ops_build(&b, ROUTE_OPS_MSG(m), &h->ops);
    if (rc == 0)
        rc = route_filters_build(&b, ROUTE_FILTERS(m), &h->filters);
    if (rc == 0)
        rc = route_mirrors_build(&b, m->request_mirror_policies.v, m->request_mirror_policies.n,
                                 &h->defaults.mirrors);
    h->defaults.n_mirrors = m->request_mirror_policies.n;
    if (rc == 0)
        rc = read_internal_only(h, m, err);
    if (rc == 0)
        rc = read_vhds(h, m->vhds, err);
    if (rc != 0 && err && err->msg[0] == '.') /* a field of the configuration itself */
        memmove(err->msg, err->msg + 1, strlen(err->msg));
    return rc;
}

static void make_https_route(struct route_head *h)
{
    h->https_rewrite = (struct route_rewrite){.https = true};
    h->https_route = (struct route){.action = ROUTE_REDIRECT,
                                    .status = 301,
                                    .rewrite = &h->https_rewrite,
                                    .tls_presented = -1,
                                    .tls_validated = -1};
}

/* All fields but the virtual hosts, which stay as they are. */
static bool without_hosts(sv packed, struct strbuf *rest)
{
    while (packed.n) {
        uint32_t number;
        sv before = packed, value;
        if (!route_next_field(&packed, &number, &value))
            return false;
        if (number != ROUTE_VHOSTS_FIELD)
            strbuf_add(rest, before.p, before.n - packed.n);
    }
    return true;
}

void route_head_unref(struct route_head *h)
{
    if (!refcount_put(&h->ref))
        return;
    pthread_mutex_destroy(&h->build_lock);
    arena_free(&h->keep.arena);
    free(h->keep.v);
    free(h);
}

static int head_build(sv packed, const struct route_table_opts *o, struct route_head **out,
                      struct error *err)
{
    struct route_head *h = mem_new(struct route_head);
    struct arena tmp;
    struct strbuf rest;
    void *m = NULL;
    int rc = 0;
    refcount_init(&h->ref);
    arena_init_malloc(&h->keep.arena);
    pthread_mutex_init(&h->build_lock, NULL);
    if (o)
        h->opts = *o;
    h->opts.pb = NULL;
    h->allow_unknown = o && o->pb && o->pb->allow_unknown;
    h->name = arena_sv(&h->keep.arena, route_string_field(packed, ROUTE_NAME_FIELD));
    make_https_route(h);
    arena_init(&tmp);
    strbuf_init(&rest, packed.n);
    if (!without_hosts(packed, &rest))
        rc = error_set(err, E_INVALID, "is no packed RouteConfiguration");
    /* What is decoded keeps views of the bytes: they live as long as the head. */
    if (rc == 0)
        rc = pb_decode(&envoy_RouteConfiguration_pb, arena_sv(&h->keep.arena, strbuf_sv(&rest)),
                       &tmp, o ? o->pb : NULL, &m, err);
    if (rc == 0)
        rc = read_head(h, m, &tmp, err);
    strbuf_fini(&rest);
    arena_free(&tmp);
    if (rc == 0) {
        *out = h;
        return 0;
    }
    error_prefix(err, "route_config '%.*s': ", SV_ARG(h->name));
    route_head_unref(h);
    return rc;
}

/* ---- the table ---- */

static void table_free(struct route_table *t)
{
    for (uint32_t i = 0; i < t->n_hosts; i++)
        route_hosts_unref(t->hosts[i]);
    free(t->hosts);
    free(t->vhosts);
    route_index_fini(&t->index);
    arena_free(&t->arena);
    route_head_unref(t->head);
    free(t);
}

/* A table of these hosts, of which it takes references. *culprit: the number of the virtual host
 * that cannot be put in. */
static int assemble(struct route_head *head, struct route_hosts *const *first,
                    struct route_hosts *const *v, uint32_t n, struct route_table **out,
                    uint32_t *culprit, struct error *err)
{
    struct route_table *t = mem_new(struct route_table);
    uint32_t n_vhosts = (*first)->n;
    int rc = 0;
    refcount_init(&t->ref);
    arena_init_malloc(&t->arena);
    route_index_init(&t->index);
    t->head = head;
    refcount_get(&head->ref);
    t->hosts = mem_alloc((n + 1) * sizeof(struct route_hosts *));
    t->hosts[t->n_hosts++] = *first;
    for (uint32_t i = 0; i < n; i++) {
        t->hosts[t->n_hosts++] = v[i];
        n_vhosts += v[i]->n;
    }
    t->vhosts = mem_alloc((n_vhosts + 1) * sizeof(struct route_vhost_slot *));
    for (uint32_t i = 0; i < t->n_hosts; i++) {
        refcount_get(&t->hosts[i]->ref);
        for (uint32_t k = 0; k < t->hosts[i]->n; k++)
            t->vhosts[t->n_vhosts++] = &t->hosts[i]->slots[k];
    }
    for (uint32_t i = 0; rc == 0 && i < t->n_vhosts; i++) {
        rc = add_domains(t, i, err);
        if (rc != 0)
            *culprit = i;
    }
    if (rc != 0)
        table_free(t);
    else
        *out = t;
    return rc;
}

int route_table_build(sv packed, const struct route_table_opts *o, struct route_table **out,
                      struct error *err)
{
    struct route_head *head;
    struct route_hosts *hosts = NULL;
    uint32_t culprit = 0;
    int rc = head_build(packed, o, &head, err);
    if (rc != 0)
        return rc;
    rc = route_hosts_inline(head, packed, o ? o->pb : NULL, &hosts, err);
    if (rc == 0) {
        rc = assemble(head, &hosts, NULL, 0, out, &culprit, err);
        if (rc != 0)
            error_prefix(err, "virtual_hosts[%u]", culprit);
    }
    if (rc != 0)
        error_prefix(err, "route_config '%.*s': ", SV_ARG(head->name));
    route_hosts_unref(hosts);
    route_head_unref(head);
    return rc;
}

int route_table_extend(const struct route_table *base, struct route_hosts *const *v, uint32_t n,
                       struct route_table **out, uint32_t *culprit, struct error *err)
{
    uint32_t own = base->hosts[0]->n, at = 0;
    int rc = assemble(base->head, base->hosts, v, n, out, &at, err);
    if (rc != 0) {
        *culprit = at < own ? 0 : at - own; /* one host each */
        if (err && err->msg[0] == '.')
            memmove(err->msg, err->msg + 1, strlen(err->msg));
    }
    return rc;
}

bool route_table_vhds(const struct route_table *t, uint64_t *wait_ms)
{
    *wait_ms = t->head->vhds_wait_ms;
    return t->head->vhds;
}

void route_table_ref(struct route_table *t)
{
    refcount_get(&t->ref);
}

void route_table_unref(struct route_table *t)
{
    if (t && refcount_put(&t->ref))
        table_free(t);
}

sv route_table_name(const struct route_table *t)
{
    return t->head->name;
}

const sv *route_table_internal_only(const struct route_table *t, uint32_t *n)
{
    *n = t->head->n_internal_only;
    return t->head->internal_only;
}

sv route_table_packed(const struct route_table *t)
{
    return t->hosts[0]->packed;
}

/* A repeated field may stand in several places: what came on its own is appended. */
sv route_table_whole(const struct route_table *t, struct arena *a)
{
    struct strbuf s;
    strbuf_init(&s, SIZE_MAX / 2);
    strbuf_add(&s, t->hosts[0]->packed.p, t->hosts[0]->packed.n);
    for (uint32_t i = 1; i < t->n_hosts; i++) {
        sv host = t->hosts[i]->packed;
        size_t n = host.n;
        strbuf_add_ch(&s, ROUTE_VHOSTS_FIELD << 3 | 2);
        for (; n >= 0x80; n >>= 7)
            strbuf_add_ch(&s, (char)(n | 0x80));
        strbuf_add_ch(&s, (char)n);
        strbuf_add(&s, host.p, host.n);
    }
    sv out = arena_sv(a, strbuf_sv(&s));
    strbuf_fini(&s);
    return out;
}

uint32_t route_table_vhosts(const struct route_table *t)
{
    return t->n_vhosts;
}

uint32_t route_table_built_vhosts(const struct route_table *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_vhosts; i++)
        n += atomic_load_explicit(&t->vhosts[i]->built, memory_order_relaxed) != NULL;
    return n;
}

/* ---- virtual hosts at work ---- */

/* Where ":port" starts, or the end. */
static size_t port_start(sv host)
{
    ptrdiff_t colon = sv_rfind(host, ':'), bracket = sv_rfind(host, ']');
    return colon >= 0 && bracket < colon ? (size_t)colon : host.n;
}

HOT const struct route_vhost *route_table_vhost(const struct route_table *t, sv authority,
                                                sv *domain)
{
    char small[256], *big = NULL;
    const struct domain_entry *e = NULL;
    if (t->head->ignore_port)
        authority = sv_first(authority, port_start(authority));
    sv host = authority;
    size_t i = 0;
    while (i < host.n && !(host.p[i] >= 'A' && host.p[i] <= 'Z'))
        i++;
    if (i < host.n) {
        char *p = host.n <= sizeof(small) ? small : (big = mem_alloc(host.n));
        for (i = 0; i < host.n; i++)
            p[i] = host.p[i] >= 'A' && host.p[i] <= 'Z' ? (char)(host.p[i] + 32) : host.p[i];
        host.p = p;
    }
    uint32_t found = route_index_find(&t->index, host, &e);
    free(big);
    if (found == ROUTE_INDEX_NONE)
        return NULL;
    if (domain)
        *domain = e ? sv_make(e->p, e->n) : SV("*");
    return route_slot_vhost(t->vhosts[found]);
}

static void each_in_vhost(const struct envoy_VirtualHost *m, void (*fn)(void *arg, sv cluster),
                          void *arg)
{
    for (uint32_t i = 0; i < m->request_mirror_policies.n; i++)
        if (m->request_mirror_policies.v[i]->cluster.n)
            fn(arg, m->request_mirror_policies.v[i]->cluster);
    for (uint32_t i = 0; i < m->routes.n; i++) {
        const struct envoy_RouteAction *r = m->routes.v[i]->route;
        if (!r)
            continue;
        if (r->cluster.n)
            fn(arg, r->cluster);
        for (uint32_t k = 0; r->weighted_clusters && k < r->weighted_clusters->clusters.n; k++)
            if (r->weighted_clusters->clusters.v[k]->name.n)
                fn(arg, r->weighted_clusters->clusters.v[k]->name);
        for (uint32_t k = 0; k < r->request_mirror_policies.n; k++)
            if (r->request_mirror_policies.v[k]->cluster.n)
                fn(arg, r->request_mirror_policies.v[k]->cluster);
    }
}

void route_table_each_cluster(const struct route_table *t, void (*fn)(void *arg, sv cluster),
                              void *arg)
{
    struct pb_opts o = {.allow_unknown = true};
    for (uint32_t i = 0; i < t->head->defaults.n_mirrors; i++)
        if (t->head->defaults.mirrors[i].cluster.n)
            fn(arg, t->head->defaults.mirrors[i].cluster);
    for (uint32_t i = 0; i < t->n_vhosts; i++) {
        struct arena a;
        void *m = NULL;
        arena_init(&a);
        if (pb_decode(&envoy_VirtualHost_pb, t->vhosts[i]->packed, &a, &o, &m, NULL) == 0)
            each_in_vhost(m, fn, arg);
        arena_free(&a);
    }
}
