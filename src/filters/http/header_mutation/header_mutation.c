#include "filters/http/header_mutation/header_mutation.h"

#include "api/envoy.pb.h"
#include "filters/http/header_mutation/query.h"
#include "route/mutations.h"

struct config {
    const struct header_mutations *request, *request_trailers, *response, *response_trailers;
    const struct query_mutations *query;
    bool specific_wins; /* of the filter's own */
};

struct mutating {
    struct http_filter f;
    const struct config *own;
};

/* ---- configuration ---- */

static int build(const struct filter_ctx *x, const struct envoy_Mutations *m, struct config *c,
                 struct error *err)
{
    struct list {
        const struct envoy_HeaderMutation *const *v;
        uint32_t n;
        const char *field;
        const struct header_mutations **out;
    };
    if (!m)
        return 0;
    const struct list lists[] = {
        {m->request_mutations.v, m->request_mutations.n, "request_mutations", &c->request},
        {m->request_trailers_mutations.v, m->request_trailers_mutations.n,
         "request_trailers_mutations", &c->request_trailers},
        {m->response_mutations.v, m->response_mutations.n, "response_mutations", &c->response},
        {m->response_trailers_mutations.v, m->response_trailers_mutations.n,
         "response_trailers_mutations", &c->response_trailers},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        int rc = header_mutations_build(lists[i].v, lists[i].n,
                                        filter_path(x, "mutations.%s", lists[i].field), x->arena,
                                        lists[i].out, err);
        if (rc < 0)
            return rc;
    }
    return query_mutations_build(m->query_parameter_mutations.v, m->query_parameter_mutations.n,
                                 filter_path(x, "mutations.query_parameter_mutations"), x->arena,
                                 &c->query, err);
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_filter_HeaderMutation *m;
    int rc = filter_decode(x, &envoy_filter_HeaderMutation_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    c->specific_wins = m->most_specific_header_mutations_wins;
    *config = c;
    return build(x, m->mutations, c, err);
}

static int parse_route(const struct filter_ctx *x, sv packed, const void **config,
                       struct error *err)
{
    const struct envoy_HeaderMutationPerRoute *m;
    int rc = filter_decode(x, &envoy_HeaderMutationPerRoute_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    *config = c;
    return build(x, m->mutations, c, err);
}

/* ---- messages ---- */

/* The filter's own, then those of the route, of which the last one has the last word. */
static unsigned configs_of(struct mutating *m, const struct config *out[5])
{
    const void *v[4];
    unsigned n = m->f.host->ops->route_configs(m->f.host, v);
    out[0] = m->own;
    for (unsigned i = 0; i < n; i++)
        out[1 + i] = v[m->own->specific_wins ? i : n - 1 - i];
    return n + 1;
}

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    const struct config *v[5];
    unsigned n = configs_of(container_of(f, struct mutating, f), v);
    const struct substitution_ctx c = {.si = f->host->info, .req = head};
    for (unsigned i = 0; i < n; i++) {
        header_mutations_apply(v[i]->request, &head->h, &c, f->host->arena);
        if (v[i]->query)
            head->path = query_mutations_apply(v[i]->query, head->path, &c, f->host->arena);
    }
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status decode_trailers(struct http_filter *f, struct http_headers *t)
{
    const struct config *v[5];
    unsigned n = configs_of(container_of(f, struct mutating, f), v);
    const struct substitution_ctx c = {.si = f->host->info};
    for (unsigned i = 0; i < n; i++)
        header_mutations_apply(v[i]->request_trailers, t, &c, f->host->arena);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    const struct config *v[5];
    unsigned n = configs_of(container_of(f, struct mutating, f), v);
    const struct substitution_ctx c = {.si = f->host->info, .resp = head};
    for (unsigned i = 0; i < n; i++)
        header_mutations_apply(v[i]->response, &head->h, &c, f->host->arena);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_trailers(struct http_filter *f, struct http_headers *t)
{
    const struct config *v[5];
    unsigned n = configs_of(container_of(f, struct mutating, f), v);
    const struct substitution_ctx c = {.si = f->host->info, .resp_trailers = t};
    for (unsigned i = 0; i < n; i++)
        header_mutations_apply(v[i]->response_trailers, t, &c, f->host->arena);
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.header_mutation",
    .decode_head = decode_head,
    .decode_trailers = decode_trailers,
    .encode_head = encode_head,
    .encode_trailers = encode_trailers,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct mutating *m = arena_new(host->arena, struct mutating);
    m->f.ops = &ops;
    m->own = config;
    return &m->f;
}

const struct http_filter_type http_header_mutation_type = {
    .name = "envoy.filters.http.header_mutation",
    .config_type = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    .route_type = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    .parse = parse,
    .parse_route = parse_route,
    .make = make,
};
