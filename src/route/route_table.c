#include <stdlib.h>
#include "api/google.pb.h"
#include "base/mem.h"
#include "route/route_int.h"

#define VIRTUAL_HOSTS_FIELD 2 /* RouteConfiguration.virtual_hosts */
#define WIRE_BYTES          2

/* ---- taking the packed configuration apart ----
 * The virtual hosts stay as they are; what is around them is decoded once. */

static bool varint(sv *v, uint64_t *out)
{
    uint64_t x = 0;
    for (unsigned shift = 0; shift < 64 && v->n; shift += 7) {
        uint8_t c = (uint8_t)v->p[0];
        *v = sv_from(*v, 1);
        x |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80)) {
            *out = x;
            return true;
        }
    }
    return false;
}

/* Takes one field off *v; *value gets its bytes when it is length-delimited, else p == NULL. */
static bool next_field(sv *v, uint32_t *number, sv *value)
{
    uint64_t tag, n;
    *value = (sv){0};
    if (!varint(v, &tag) || tag >> 3 > UINT32_MAX)
        return false;
    *number = (uint32_t)(tag >> 3);
    switch (tag & 7) {
    case 0:
        return varint(v, &n);
    case 1:
    case 5:
        n = (tag & 7) == 1 ? 8 : 4;
        break;
    case WIRE_BYTES:
        if (!varint(v, &n) || n > v->n)
            return false;
        *value = sv_make(v->p, n);
        break;
    default:
        return false;
    }
    if (n > v->n)
        return false;
    *v = sv_from(*v, n);
    return true;
}

/* Counts the virtual hosts and notes them in slots, if given; the other fields go to `rest`. */
static bool split(sv packed, struct strbuf *rest, struct route_vhost_slot *slots, uint32_t *n)
{
    *n = 0;
    while (packed.n) {
        uint32_t number;
        sv before = packed, value;
        if (!next_field(&packed, &number, &value))
            return false;
        if (number == VIRTUAL_HOSTS_FIELD && value.p) {
            if (slots)
                slots[*n].packed = value;
            (*n)++;
        } else if (rest) {
            strbuf_add(rest, before.p, before.n - packed.n);
        }
    }
    return true;
}

/* The last value of a string field. */
static sv string_field(sv packed, uint32_t field)
{
    uint32_t number;
    sv value, found = {0};
    while (packed.n && next_field(&packed, &number, &value))
        if (number == field && value.p)
            found = value;
    return found;
}

/* ---- kept objects ---- */

int route_keep(struct route_builder *b, route_make_fn make, const void *arg, struct route_kept *out)
{
    struct route_table *t = b->t;
    if (!b->checking) {
        *out = t->kept[b->kept++];
        return 0;
    }
    struct route_kept k = {0};
    int rc = make ? make(b, arg, &k) : 0;
    if (rc != 0)
        return rc;
    if (t->n_kept == t->kept_cap) {
        t->kept_cap = t->kept_cap ? t->kept_cap * 2 : 8;
        t->kept = mem_realloc(t->kept, t->kept_cap * sizeof(*t->kept));
    }
    t->kept[t->n_kept++] = k;
    b->kept = t->n_kept;
    *out = k;
    return 0;
}

const void *route_copy(struct route_builder *b, const struct pb_message *type, const void *m)
{
    void *copy = NULL;
    if (!m)
        return NULL;
    sv packed = pb_encode_arena(type, m, b->a);
    struct pb_opts o = {.allow_unknown = true};
    if (pb_decode(type, packed, b->a, &o, &copy, NULL) != 0)
        abort(); /* just encoded */
    return copy;
}

/* ---- domains ---- */

/* Fields 1 and 2 of a packed virtual host are its name and domains. */
static sv vhost_name(const struct route_table *t, uint32_t i)
{
    return string_field(t->vhosts[i].packed, 1);
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
    return error_set(err, E_EXISTS,
                     ".domains[%u]: '%.*s' of virtual host '%.*s' belongs to virtual host "
                     "'%.*s' (virtual_hosts[%u]) already",
                     at, SV_ARG(domain), SV_ARG(b), SV_ARG(a), other);
}

static int add_domains(struct route_table *t, uint32_t vhost, struct error *err)
{
    sv rest = t->vhosts[vhost].packed, value;
    uint32_t number, at = 0;
    if (vhost_name(t, vhost).n == 0)
        return error_set(err, E_INVALID, ".name: must not be empty");
    while (rest.n && next_field(&rest, &number, &value)) {
        if (number != 2)
            continue;
        int rc = add_domain(t, vhost, at++, value, err);
        if (rc != 0)
            return rc;
    }
    return at ? 0 : error_set(err, E_INVALID, ".domains: must not be empty");
}

/* ---- building ---- */

static int check_vhosts(struct route_table *t, struct error *err)
{
    struct arena a, tmp;
    int rc = 0;
    arena_init(&a);
    arena_init(&tmp);
    for (uint32_t i = 0; rc == 0 && i < t->n_vhosts; i++) {
        struct route_builder b = {
            .t = t, .a = &a, .tmp = &tmp, .err = err, .checking = true, .vhost = i};
        struct route_vhost dropped = {0};
        b.kept = t->vhosts[i].kept_from = t->n_kept;
        rc = route_vhost_build(&b, t->vhosts[i].packed, &dropped);
        if (rc == 0)
            rc = add_domains(t, i, err);
        if (rc != 0)
            error_prefix(err, "virtual_hosts[%u]", i);
        arena_free(&a);
        arena_free(&tmp);
    }
    return rc;
}

static int build_head(struct route_table *t, const struct envoy_RouteConfiguration *m,
                      struct arena *tmp, struct error *err)
{
    struct route_builder b = {.t = t, .a = &t->arena, .tmp = tmp, .err = err, .checking = true};
    t->most_specific_wins = m->most_specific_header_mutations_wins;
    t->ignore_port = m->ignore_port_in_host_matching;
    t->ignore_path_params = m->ignore_path_parameters_in_path_matching;
    t->max_body = m->max_direct_response_body_size_bytes
                      ? m->max_direct_response_body_size_bytes->value
                      : 4096;
    t->check_clusters = m->validate_clusters ? m->validate_clusters->value : t->opts.check_clusters;
    t->metadata = route_copy(&b, &envoy_Metadata_pb, m->metadata);
    int rc = route_ops_build(&b, ROUTE_OPS_MSG(m), &t->ops);
    if (rc == 0)
        rc = route_filters_build(&b, ROUTE_FILTERS(m), &t->filters);
    if (rc == 0)
        rc = route_mirrors_build(&b, m->request_mirror_policies.v, m->request_mirror_policies.n,
                                 &t->defaults.mirrors);
    t->defaults.n_mirrors = m->request_mirror_policies.n;
    if (rc == 0 && m->internal_only_headers.n)
        rc = error_set(err, E_UNSUPPORTED, ".internal_only_headers: is not supported");
    if (rc != 0 && err && err->msg[0] == '.') /* a field of the configuration itself */
        memmove(err->msg, err->msg + 1, strlen(err->msg));
    return rc;
}

static int build_table(struct route_table *t, struct error *err)
{
    struct arena tmp;
    struct strbuf rest;
    void *m = NULL;
    uint32_t n;
    arena_init(&tmp);
    strbuf_init(&rest, t->packed.n);
    int rc = 0;
    if (!split(t->packed, &rest, NULL, &n))
        rc = error_set(err, E_INVALID, "is no packed RouteConfiguration");
    if (rc == 0) {
        t->name = string_field(t->packed, 1);
        t->vhosts = arena_array(&t->arena, struct route_vhost_slot, n);
        split(t->packed, NULL, t->vhosts, &t->n_vhosts);
        /* What is decoded keeps views of the bytes: they live as long as the table. */
        rc = pb_decode(&envoy_RouteConfiguration_pb, arena_sv(&t->arena, strbuf_sv(&rest)), &tmp,
                       t->opts.pb, &m, err);
    }
    if (rc == 0)
        rc = build_head(t, m, &tmp, err);
    if (rc == 0)
        rc = check_vhosts(t, err);
    strbuf_fini(&rest);
    arena_free(&tmp);
    return rc;
}

static void make_https_route(struct route_table *t)
{
    t->https_rewrite = (struct route_rewrite){.https = true};
    t->https_route = (struct route){.action = ROUTE_REDIRECT,
                                    .status = 301,
                                    .rewrite = &t->https_rewrite,
                                    .tls_presented = -1,
                                    .tls_validated = -1};
}

static void table_free(struct route_table *t)
{
    for (uint32_t i = 0; i < t->n_vhosts; i++) {
        struct route_vhost_built *v = atomic_load(&t->vhosts[i].built);
        if (!v)
            continue;
        arena_free(&v->arena);
        free(v);
    }
    route_index_fini(&t->index);
    pthread_mutex_destroy(&t->build_lock);
    free(t->kept);
    arena_free(&t->arena);
    free(t);
}

int route_table_build(sv packed, const struct route_table_opts *o, struct route_table **out,
                      struct error *err)
{
    static const struct route_table_opts none;
    struct route_table *t = mem_new(struct route_table);
    refcount_init(&t->ref);
    arena_init_malloc(&t->arena);
    pthread_mutex_init(&t->build_lock, NULL);
    route_index_init(&t->index);
    t->opts = o ? *o : none;
    t->allow_unknown = t->opts.pb && t->opts.pb->allow_unknown;
    t->packed = arena_sv(&t->arena, packed);
    make_https_route(t);
    int rc = build_table(t, err);
    t->opts.pb = NULL;
    if (rc != 0) {
        error_prefix(err, "route_config '%.*s': ", SV_ARG(t->name));
        table_free(t);
        return rc;
    }
    *out = t;
    return 0;
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
    return t->name;
}

sv route_table_packed(const struct route_table *t)
{
    return t->packed;
}

uint32_t route_table_vhosts(const struct route_table *t)
{
    return t->n_vhosts;
}

uint32_t route_table_built_vhosts(const struct route_table *t)
{
    return atomic_load_explicit(&t->n_built, memory_order_relaxed);
}

/* ---- virtual hosts at work ---- */

static struct route_vhost_built *build_vhost(struct route_table *t, struct route_vhost_slot *slot)
{
    struct route_vhost_built *v = mem_new(struct route_vhost_built);
    struct arena tmp;
    struct error err = {0};
    arena_init(&tmp);
    arena_init_malloc(&v->arena);
    struct route_builder b = {
        .t = t, .a = &v->arena, .tmp = &tmp, .err = &err, .kept = slot->kept_from};
    int rc = route_vhost_build(&b, slot->packed, &v->pub);
    arena_free(&tmp);
    if (rc != 0)
        abort(); /* the same bytes were built before, when the table was checked */
    atomic_fetch_add_explicit(&t->n_built, 1, memory_order_relaxed);
    return v;
}

static const struct route_vhost *get_vhost(const struct route_table *table, uint32_t i)
{
    /* Immutable to everybody but this once-guard. */
    struct route_table *t = (struct route_table *)(uintptr_t)table;
    struct route_vhost_slot *slot = &t->vhosts[i];
    struct route_vhost_built *v = atomic_load_explicit(&slot->built, memory_order_acquire);
    if (__builtin_expect(v != NULL, 1))
        return &v->pub;
    pthread_mutex_lock(&t->build_lock);
    v = atomic_load_explicit(&slot->built, memory_order_relaxed);
    if (!v) {
        v = build_vhost(t, slot);
        atomic_store_explicit(&slot->built, v, memory_order_release);
    }
    pthread_mutex_unlock(&t->build_lock);
    return &v->pub;
}

/* Where ":port" starts, or the end. */
static size_t port_start(sv host)
{
    ptrdiff_t colon = sv_rfind(host, ':'), bracket = sv_rfind(host, ']');
    return colon >= 0 && bracket < colon ? (size_t)colon : host.n;
}

const struct route_vhost *route_table_vhost(const struct route_table *t, sv authority, sv *domain)
{
    char small[256], *big = NULL;
    const struct domain_entry *e = NULL;
    if (t->ignore_port)
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
    return get_vhost(t, found);
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
    for (uint32_t i = 0; i < t->defaults.n_mirrors; i++)
        if (t->defaults.mirrors[i].cluster.n)
            fn(arg, t->defaults.mirrors[i].cluster);
    for (uint32_t i = 0; i < t->n_vhosts; i++) {
        struct arena a;
        void *m = NULL;
        arena_init(&a);
        if (pb_decode(&envoy_VirtualHost_pb, t->vhosts[i].packed, &a, &o, &m, NULL) == 0)
            each_in_vhost(m, fn, arg);
        arena_free(&a);
    }
}
