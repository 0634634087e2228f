/* Redirects that the proxy follows by itself (internal_redirect_policy), as Envoy does it: the
 * request's head is changed to what Location says, and the stream starts anew with it, filters and
 * route included. What cannot be followed goes to the client as it is. */
#include "filters/http/router/router_private.h"
#include "http/path.h"

static bool refuse(struct router *r, enum router_stats why)
{
    stat_inc((struct stat_group *)&r->cfg->stats, why);
    return false;
}

static bool code_listed(const struct route_internal_redirect *p, uint16_t status)
{
    for (uint32_t i = 0; i < p->n_codes; i++)
        if (p->codes[i] == status)
            return true;
    return false;
}

/* ---- predicates ---- */

/* From one route to another only once a request. */
static bool first_time(struct router *r, sv from, sv to)
{
    struct stream_info *si = r->si;
    for (struct stream_redirect *x = si->redirected; x; x = x->next)
        if (sv_eq(x->from, from) && sv_eq(x->to, to))
            return false;
    struct stream_redirect *x = arena_new(si->arena, struct stream_redirect);
    *x = (struct stream_redirect){si->redirected, arena_sv(si->arena, from),
                                  arena_sv(si->arena, to)};
    si->redirected = x;
    return true;
}

static bool accepted(struct router *r, const struct route_internal_redirect *p, sv from, sv to,
                     bool was_http, bool to_http)
{
    for (uint32_t i = 0; i < p->n_predicates; i++) {
        const struct route_redirect_predicate *q = &p->predicates[i];
        bool ok = q->kind == ROUTE_PREVIOUS_ROUTES ? first_time(r, from, to)
                  : q->kind == ROUTE_ALLOW_LISTED  ? sv_in(to, q->names, q->n_names)
                                                   : !was_http || to_http;
        if (!ok)
            return false;
    }
    return true;
}

/* ---- the request as the redirect wants it ---- */

static void copy_fields(const struct route_internal_redirect *p, struct http_head *req,
                        const struct http_head *resp, struct arena *a)
{
    for (uint32_t i = 0; i < p->n_copy; i++) {
        http_headers_remove(&req->h, p->copy[i]);
        for (uint32_t k = 0; k < resp->h.n; k++)
            if (sv_eq(resp->h.v[k].name, p->copy[i]))
                http_headers_add(&req->h, p->copy[i], arena_sv(a, resp->h.v[k].value));
    }
}

/* RFC 9110 section 15.4.4: what follows is a GET, without the body. */
static void see_other(struct router *r)
{
    struct http_head *req = r->req;
    if (sv_eq(req->method, SV("GET")) || sv_eq(req->method, SV("HEAD")))
        return;
    req->method = SV("GET");
    req->content_length = -1;
    http_headers_remove_id(&req->h, HTTP_H_CONTENT_LENGTH);
    buf_reset(&r->body);
    r->trailers = NULL;
}

static bool is_http(const struct router *r)
{
    return sv_eq_icase(r->req->scheme, SV("http")) || !r->si->down->tls;
}

/* Changes the head; false: it may not be followed, and the head is as it was. */
static bool turn(struct router *r, const struct route_internal_redirect *p,
                 const struct http_head *resp, sv location)
{
    struct arena *a = router_host(r)->arena;
    struct http_filter_host *h = router_host(r);
    struct http_head *req = r->req, saved;
    ptrdiff_t fragment = sv_find(location, '#');
    struct path_url url;
    if (fragment >= 0)
        location = sv_first(location, (size_t)fragment);
    if (path_url_parse(arena_sv(a, location), a, &url) < 0)
        return refuse(r, router_stats_passthrough_internal_redirect_bad_location);
    bool was_http = is_http(r), to_http = sv_eq_icase(url.scheme, SV("http"));
    if (was_http != to_http && !p->cross_scheme)
        return refuse(r, router_stats_passthrough_internal_redirect_unsafe_scheme);
    if (r->si->redirects >= p->max)
        return refuse(r, router_stats_passthrough_internal_redirect_too_many_redirects);
    sv from = r->route->name;
    sv original = arena_printf(a, "%s://%.*s%.*s", was_http ? "http" : "https",
                               SV_ARG(req->authority), SV_ARG(req->path));
    saved = *req;
    saved.h.v = arena_array(a, struct http_header, req->h.cap);
    if (req->h.n)
        memcpy(saved.h.v, req->h.v, sizeof *saved.h.v * req->h.n);
    copy_fields(p, req, resp, a);
    req->scheme = to_http ? SV("http") : SV("https");
    req->authority = url.authority;
    req->path = url.path;
    struct route_match to = {0};
    bool no_route = !h->ops->route_for(h, req, &to) || !to.route;
    if (!no_route && accepted(r, p, from, to.route->name, was_http, to_http)) {
        http_headers_set(&req->h, SV("x-envoy-original-url"), original);
        return true;
    }
    *req = saved;
    return refuse(r, no_route ? router_stats_passthrough_internal_redirect_no_route
                              : router_stats_passthrough_internal_redirect_predicate);
}

bool router_redirect(struct router *r, struct http_head *resp)
{
    const struct route_internal_redirect *p = r->route->internal_redirect;
    struct http_filter_host *h = router_host(r);
    if (!p || !code_listed(p, resp->status))
        return false;
    sv location = http_headers_get(&resp->h, HTTP_H_LOCATION);
    if (!r->req_end || r->overflowed || !location.p || !turn(r, p, resp, location)) {
        upstream_count(r->cluster, UPSTREAM_upstream_internal_redirect_failed_total);
        return false;
    }
    upstream_count(r->cluster, UPSTREAM_upstream_internal_redirect_succeeded_total);
    r->si->redirects++;
    if (resp->status == 303)
        see_other(r);
    struct buf body;
    buf_init(&body);
    buf_move(&body, &r->body);
    struct http_headers *trailers = r->trailers;
    r->responding = true; /* logs look at the response's head */
    r->redirected = true;
    router_finish(r);
    h->ops->again(h, resp, &body, trailers);
    buf_reset(&body);
    return true;
}
