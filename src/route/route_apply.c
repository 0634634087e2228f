/* Acting on a match: what changes in requests and responses, redirects, direct responses. */
#include "http/path.h"
#include "base/code.h"
#include "route/route_int.h"

/* ---- header operations ---- */

/* The levels' operations in the order they are applied: the weighted cluster's always first, then
 * from route to table, or the other way round when the most specific is to have the last word. */
HOT static uint32_t ops_in_order(const struct route_match *m, const struct route_ops *out[4])
{
    uint32_t n = 0;
    if (m->https_only)
        return 0;
    const struct route_ops *route = m->route ? m->route->ops : NULL;
    const struct route_ops *vhost = m->vhost ? m->vhost->ops : NULL;
    const struct route_ops *table = m->table ? m->table->head->ops : NULL;
    bool reverse = m->table && m->table->head->most_specific_wins;
    if (m->weight && m->weight->ops)
        out[n++] = m->weight->ops;
    const struct route_ops *levels[3] = {reverse ? table : route, vhost, reverse ? route : table};
    for (int i = 0; i < 3; i++)
        if (levels[i])
            out[n++] = levels[i];
    return n;
}

HOT void route_match_response(const struct route_match *m, struct http_head *resp,
                              const struct stream_info *si, struct arena *a)
{
    const struct route_ops *ops[4];
    uint32_t n = ops_in_order(m, ops);
    struct substitution_ctx c = {.si = si, .resp = resp};
    for (uint32_t i = 0; i < n; i++)
        route_ops_apply(&ops[i]->response, &resp->h, &c, a);
}

/* ---- paths ---- */

static sv concat(struct arena *a, sv x, sv y)
{
    char *p = arena_alloc(a, x.n + y.n + 1);
    if (x.n)
        memcpy(p, x.p, x.n);
    if (y.n)
        memcpy(p + x.n, y.p, y.n);
    return sv_make(p, x.n + y.n);
}

static sv replace_all(const struct regex *re, sv text, sv to, struct arena *a)
{
    struct strbuf s;
    strbuf_init(&s, 1 << 17);
    regex_replace_all(re, text, to, &s);
    sv v = s.overflow ? text : arena_sv(a, strbuf_sv(&s));
    strbuf_fini(&s);
    return v;
}

/* How much of the path the prefix rewrite stands for. */
static size_t matched_length(const struct route_path_match *m, sv path)
{
    bool is_prefix = m && (m->kind == PATH_PREFIX || m->kind == PATH_SEPARATED);
    return is_prefix && m->text.n <= path.n ? m->text.n : path.n;
}

/* The path after prefix or regex rewrite, query kept; the same view when there is none. What comes
 * out is always a path: a rewrite that leaves no '/' in front gets one. */
HOT static sv rewritten_path(const struct route *r, sv target, struct arena *a)
{
    const struct route_rewrite *w = r->rewrite;
    if (!w || target.n == 0 || (!w->prefix.p && !w->path))
        return target;
    sv path = path_only(target), query = sv_from(target, path.n);
    sv to = w->prefix.p ? concat(a, w->prefix, sv_from(path, matched_length(r->path, path)))
                        : replace_all(w->path, path, w->path_to, a);
    if (to.n == 0 || to.p[0] != '/')
        to = concat(a, SV("/"), to);
    return concat(a, to, query);
}

/* ---- hosts ---- */

void route_set_authority(struct http_head *req, sv host, bool append, struct arena *a)
{
    if (append && req->authority.n) {
        sv old = http_headers_get(&req->h, HTTP_H_X_FORWARDED_HOST);
        sv all = old.n ? concat(a, concat(a, old, SV(",")), req->authority) : req->authority;
        http_headers_set_id(&req->h, HTTP_H_X_FORWARDED_HOST, all);
    }
    req->authority = host;
}

static sv rewritten_host(const struct route *r, const struct http_head *req, struct arena *a)
{
    const struct route_rewrite *w = r->rewrite;
    if (!w)
        return (sv){0};
    if (w->host.n)
        return w->host;
    if (w->host_header.n)
        return http_head_get(req, w->host_header, a);
    sv path = path_only(req->path);
    /* A path that the pattern does not match would make itself the host: it is left alone. */
    if (w->host_path && regex_partial(w->host_path, path))
        return replace_all(w->host_path, path, w->host_to, a);
    return (sv){0};
}

void route_match_request(const struct route_match *m, struct http_head *req,
                         const struct stream_info *si, bool set_original_path, struct arena *a)
{
    const struct route_ops *ops[4];
    uint32_t n = ops_in_order(m, ops);
    /* Operations first: their formats may read what the rewrites change. */
    struct substitution_ctx c = {.si = si, .req = req};
    for (uint32_t i = 0; i < n; i++)
        route_ops_apply(&ops[i]->request, &req->h, &c, a);
    const struct route *r = m->route;
    if (!r || r->action != ROUTE_FORWARD)
        return;
    if (m->weight && m->weight->host_rewrite.n)
        req->authority = m->weight->host_rewrite;
    sv host = rewritten_host(r, req, a);
    if (host.n) {
        if (set_original_path && req->authority.n)
            http_headers_set(&req->h, SV("x-envoy-original-host"), req->authority);
        route_set_authority(req, host, r->append_x_forwarded_host, a);
    }
    sv path = rewritten_path(r, req->path, a);
    if (path.p == req->path.p)
        return;
    if (set_original_path)
        http_headers_set_id(&req->h, HTTP_H_X_ENVOY_ORIGINAL_PATH, req->path);
    req->path = path;
}

/* ---- redirects ---- */

/* The request's host without its port when that one has to go: a new port comes, or it was the
 * default of the scheme that is left. */
static sv redirect_host(const struct http_head *req, sv scheme, bool new_port)
{
    sv host = req->authority;
    ptrdiff_t colon;
    if (host.n && host.p[0] == '[') {
        ptrdiff_t end = sv_rfind(host, ']');
        colon = end >= 0 && (size_t)end + 1 < host.n && host.p[end + 1] == ':' ? end + 1 : -1;
    } else {
        colon = sv_rfind(host, ':');
    }
    if (colon < 0)
        return host;
    sv port = sv_from(host, (size_t)colon);
    sv proto = http_headers_get(&req->h, HTTP_H_X_FORWARDED_PROTO);
    if (proto.n == 0)
        proto = req->scheme;
    bool drop = new_port;
    if (!sv_eq(scheme, proto))
        drop = drop || (sv_eq(proto, SV("https")) && sv_eq(port, SV(":443"))) ||
               (sv_eq(proto, SV("http")) && sv_eq(port, SV(":80")));
    return drop ? sv_first(host, (size_t)colon) : host;
}

static sv redirect_path(const struct route *r, const struct http_head *req, struct arena *a)
{
    const struct route_rewrite *w = r->rewrite;
    sv path;
    if (w->redirect_path.n) {
        path = w->redirect_path;
        if (w->path_has_query)
            return path; /* its query stands, whatever strip_query says */
        path = concat(a, path, sv_from(req->path, path_only(req->path).n));
    } else {
        path = rewritten_path(r, req->path, a);
    }
    return w->strip_query ? path_only(path) : path;
}

sv route_match_redirect(const struct route_match *m, const struct http_head *req, struct arena *a)
{
    const struct route *r = m->route;
    const struct route_rewrite *w = r->rewrite;
    sv scheme = w->scheme.n ? w->scheme : w->https ? SV("https") : req->scheme;
    sv host =
        w->redirect_host.n ? w->redirect_host : redirect_host(req, scheme, w->redirect_port.n != 0);
    sv path = redirect_path(r, req, a);
    return arena_printf(a, "%.*s://%.*s%.*s%.*s", SV_ARG(scheme), SV_ARG(host),
                        SV_ARG(w->redirect_port), SV_ARG(path));
}

/* ---- direct responses ---- */

sv route_match_body(const struct route_match *m, const struct stream_info *si, struct arena *a,
                    sv *content_type)
{
    const struct route *r = m->route;
    *content_type = (sv){0};
    if (!r->body_format)
        return r->body;
    *content_type = r->body_content_type;
    struct substitution_ctx c = {.si = si, .local_reply_body = r->body};
    return substitution_eval_arena(r->body_format, &c, a);
}
