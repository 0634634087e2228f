/* Choosing: virtual host, route, cluster. */
#include "http/path.h"
#include "route/route_int.h"

/* ---- the trail ---- */

static void say_route(const struct route_ctx *c, const struct route *r)
{
    strbuf_addf(c->trail, "route %u", r->index);
    if (r->name.n)
        strbuf_addf(c->trail, " '%.*s'", SV_ARG(r->name));
    strbuf_add_c(c->trail, ": ");
}

/* Starts a line that says why the route is passed over; false when nobody listens. */
static bool skip(const struct route_ctx *c, const struct route *r)
{
    if (!c->trail)
        return false;
    say_route(c, r);
    strbuf_add_c(c->trail, "passed over: ");
    return true;
}

/* ---- matching ---- */

static bool is_connect(const struct http_head *head)
{
    return sv_eq(head->method, SV("CONNECT"));
}

bool route_path_matches(const struct route_path_match *m, const struct http_head *head, sv path)
{
    switch (m->kind) {
    case PATH_PREFIX:
        return m->ignore_case ? sv_starts_icase(path, m->text) : sv_starts(path, m->text);
    case PATH_EXACT:
        return m->ignore_case ? sv_eq_icase(path, m->text) : sv_eq(path, m->text);
    case PATH_REGEX:
        return regex_full(m->regex, path);
    case PATH_SEPARATED:
        if (m->ignore_case ? !sv_starts_icase(path, m->text) : !sv_starts(path, m->text))
            return false;
        return path.n == m->text.n || path.p[m->text.n] == '/';
    case PATH_CONNECT:
        return is_connect(head);
    }
    return false;
}

static void say_path(const struct route_path_match *m, sv path, struct strbuf *out)
{
    static const char *const what[] = {
        [PATH_PREFIX] = "does not start with ",
        [PATH_EXACT] = "is not ",
        [PATH_REGEX] = "does not match regex ",
        [PATH_SEPARATED] = "is not below ",
    };
    if (m->kind == PATH_CONNECT) {
        strbuf_add_c(out, "the request is not a CONNECT\n");
        return;
    }
    strbuf_add_c(out, "path ");
    strbuf_add_json(out, path);
    strbuf_addf(out, " %s", what[m->kind]);
    strbuf_add_json(out, m->kind == PATH_REGEX ? regex_pattern(m->regex) : m->text);
    strbuf_add_ch(out, '\n');
}

static void say_header(const struct header_match *m, const struct http_head *head,
                       struct arena *scratch, struct strbuf *out)
{
    strbuf_add_c(out, "it asks for ");
    header_match_text(m, out);
    sv v = m->name.p[0] == ':' ? http_head_get(head, m->name, scratch)
                               : http_headers_joined(&head->h, m->name, scratch);
    if (v.p) {
        strbuf_add_c(out, "; the request has ");
        strbuf_add_json(out, v);
    } else {
        strbuf_add_c(out, "; the request has none");
    }
    strbuf_add_ch(out, '\n');
}

static bool match_headers(const struct route *r, const struct http_head *head,
                          const struct route_ctx *c, struct arena *scratch)
{
    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (header_match(&r->headers[i], head, scratch))
            continue;
        if (skip(c, r))
            say_header(&r->headers[i], head, scratch, c->trail);
        return false;
    }
    return true;
}

static bool match_query(const struct route *r, const struct http_head *head,
                        const struct route_ctx *c)
{
    for (uint32_t i = 0; i < r->n_query; i++) {
        const struct query_match *q = &r->query[i];
        if (query_match(q, head->path))
            continue;
        if (skip(c, r)) {
            strbuf_addf(c->trail, "query parameter '%.*s' ", SV_ARG(q->name));
            if (q->present_only) {
                strbuf_add_c(c->trail, q->present ? "is missing" : "is there");
            } else {
                strbuf_add_c(c->trail, "is not one that ");
                string_match_text(&q->string, c->trail);
            }
            strbuf_add_ch(c->trail, '\n');
        }
        return false;
    }
    return true;
}

static bool tls_agrees(int8_t want, bool is)
{
    return want < 0 || (want != 0) == is;
}

/* Conditions that few routes have. */
static bool match_rare(const struct route *r, const struct http_head *head,
                       const struct route_ctx *c, struct arena *scratch)
{
    const char *why = NULL;
    if (r->has_fraction && !fraction_hit(&r->fraction, c->random))
        why = "the random number is outside its runtime_fraction\n";
    else if (r->grpc && !http_head_is_grpc(head))
        why = "the request is not gRPC\n";
    else if (!tls_agrees(r->tls_presented, c->tls_presented))
        why = "tls_context.presented does not agree with the connection\n";
    else if (!tls_agrees(r->tls_validated, c->tls_validated))
        why = "tls_context.validated does not agree with the connection\n";
    for (uint32_t i = 0; !why && i < r->n_metadata_matches; i++)
        if (!metadata_match(r->metadata_matches[i], c->si, scratch))
            why = "its dynamic_metadata is not there\n";
    if (why && skip(c, r))
        strbuf_add_c(c->trail, why);
    return !why;
}

/* False only when the path certainly is not the route's. */
static inline bool probe(const struct route_probe *p, sv path)
{
    if (p->head_n == 0)
        return true;
    if (path.n < p->n || (p->kind == PATH_EXACT && path.n != p->n))
        return false;
    return memcmp(path.p, p->head, p->head_n) == 0;
}

static bool route_matches(const struct route *r, const struct http_head *head, sv path,
                          const struct route_ctx *c, struct arena *scratch)
{
    if (head->path.n == 0 && r->path->kind != PATH_CONNECT) {
        if (skip(c, r))
            strbuf_add_c(c->trail, "the request has no path\n");
        return false;
    }
    if (!route_path_matches(r->path, head, path)) {
        if (skip(c, r))
            say_path(r->path, path, c->trail);
        return false;
    }
    return match_rare(r, head, c, scratch) && match_headers(r, head, c, scratch) &&
           match_query(r, head, c);
}

/* ---- clusters ---- */

/* The single numeric value of the header that overrides the random number. */
static bool random_from_header(const struct route_weighted *w, const struct http_head *head,
                               uint64_t *out)
{
    uint32_t n = 0;
    sv v = {0};
    for (uint32_t i = 0; i < head->h.n; i++) {
        if (!sv_eq(head->h.v[i].name, w->random_header))
            continue;
        v = head->h.v[i].value;
        n++;
    }
    return n == 1 && sv_to_u64(v, out) == 0;
}

/* By the weights of this moment; NULL when they add up to nothing. */
static const struct route_weight *choose_live(const struct route_weighted *w, uint64_t number)
{
    uint64_t total = 0, end = 0;
    for (uint32_t i = 0; i < w->n; i++)
        total += runtime_number(w->v[i].live, w->v[i].weight) & UINT32_MAX;
    for (uint32_t i = 0; total && i < w->n; i++) {
        end += runtime_number(w->v[i].live, w->v[i].weight) & UINT32_MAX;
        if (number % total < end)
            return &w->v[i];
    }
    return NULL; /* or they changed in between */
}

static const struct route_weight *choose(const struct route *r, const struct http_head *head,
                                         const struct route_ctx *c, struct arena *scratch)
{
    const struct route_weighted *w = r->weighted;
    uint64_t number = c->random;
    if (w->random_header.n)
        random_from_header(w, head, &number);
    else if (w->use_hash)
        route_hash_of(r, head, c->si, scratch, &number, NULL);
    const struct route_weight *now = w->live ? choose_live(w, number) : NULL;
    if (now)
        return now;
    uint64_t selected = number % w->total;
    uint32_t i = 0;
    while (i + 1 < w->n && selected >= w->v[i].end)
        i++;
    return &w->v[i];
}

static void set_cluster(const struct route *r, const struct http_head *head,
                        const struct route_ctx *c, struct arena *scratch, struct route_match *out)
{
    sv header = r->cluster_header;
    out->cluster = r->cluster;
    out->metadata_match = r->metadata_match;
    if (r->weighted) {
        out->weight = choose(r, head, c, scratch);
        out->cluster = out->weight->cluster;
        out->metadata_match = out->weight->metadata_match;
        header = out->weight->cluster_header;
    }
    if (header.n)
        out->cluster = http_head_get(head, header, scratch);
}

static void say_match(const struct route_ctx *c, const struct route_match *m)
{
    static const char *const actions[] = {
        [ROUTE_NONE] = "nothing",
        [ROUTE_FORWARD] = "forwards to cluster ",
        [ROUTE_REDIRECT] = "redirects with ",
        [ROUTE_DIRECT_RESPONSE] = "answers with ",
        [ROUTE_NON_FORWARDING] = "is not for forwarding",
    };
    say_route(c, m->route);
    strbuf_addf(c->trail, "matches: %s", actions[m->action]);
    if (m->action == ROUTE_FORWARD) {
        strbuf_addf(c->trail, "'%.*s'", SV_ARG(m->cluster));
        if (m->weight)
            strbuf_addf(c->trail, " (chosen by weight, random number %llu)",
                        (unsigned long long)c->random);
    } else if (m->route->status) {
        strbuf_addf(c->trail, "%u", m->route->status);
    }
    strbuf_add_ch(c->trail, '\n');
}

/* ---- all together ---- */

static bool needs_https(const struct route_vhost *v, const struct http_head *head,
                        const struct route_ctx *c)
{
    if (v->require_tls == envoy_VirtualHost_NONE ||
        (v->require_tls == envoy_VirtualHost_EXTERNAL_ONLY && c->internal))
        return false;
    return !sv_eq(http_headers_get(&head->h, HTTP_H_X_FORWARDED_PROTO), SV("https"));
}

static void say_vhost(const struct route_ctx *c, const struct http_head *head,
                      const struct route_vhost *v, sv domain)
{
    strbuf_add_c(c->trail, "host ");
    strbuf_add_json(c->trail, head->authority);
    if (v)
        strbuf_addf(c->trail, ": virtual host '%.*s' by its domain '%.*s'\n", SV_ARG(v->name),
                    SV_ARG(domain));
    else
        strbuf_add_c(c->trail, ": no virtual host has this domain\n");
}

enum route_action route_table_match(const struct route_table *t, const struct http_head *head,
                                    const struct route_ctx *ctx, struct arena *scratch,
                                    struct route_match *out)
{
    sv domain = {0};
    *out = (struct route_match){.table = t};
    const struct route_vhost *v = route_table_vhost(t, head->authority, &domain);
    if (ctx->trail)
        say_vhost(ctx, head, v, domain);
    if (!v)
        return ROUTE_NONE;
    out->vhost = v;
    if (v->require_tls && needs_https(v, head, ctx)) {
        out->route = &t->head->https_route;
        out->https_only = true;
        if (ctx->trail)
            strbuf_add_c(ctx->trail, "the virtual host requires TLS: redirects to https\n");
        return out->action = ROUTE_REDIRECT;
    }
    sv path = path_only(head->path);
    if (t->head->ignore_path_params)
        path = sv_first(path, sv_find(path, ';') >= 0 ? (size_t)sv_find(path, ';') : path.n);
    for (uint32_t i = 0; i < v->n_routes; i++) {
        const struct route *r = &v->routes[i];
        if (!ctx->trail && !probe(&v->probes[i], path))
            continue;
        if (!route_matches(r, head, path, ctx, scratch))
            continue;
        out->route = r;
        out->action = r->action;
        if (r->action == ROUTE_FORWARD)
            set_cluster(r, head, ctx, scratch, out);
        if (ctx->trail)
            say_match(ctx, out);
        return out->action;
    }
    if (ctx->trail)
        strbuf_add_c(ctx->trail, "no route matches\n");
    return ROUTE_NONE;
}

sv route_match_virtual_cluster(const struct route_match *m, const struct http_head *req,
                               struct arena *scratch)
{
    const struct route_vhost *v = m->vhost;
    if (!v || v->n_vclusters == 0)
        return (sv){0};
    for (uint32_t i = 0; i < v->n_vclusters; i++)
        if (header_match_all(v->vclusters[i].headers, v->vclusters[i].n_headers, req, scratch))
            return v->vclusters[i].name;
    return SV("other");
}
