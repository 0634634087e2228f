/* Hash policies: the number that ring hash and Maglev take. The same keys give the same numbers as
 * in Envoy, so both can stand side by side in front of one set of endpoints. */
#include <stdio.h>
#include <stdlib.h>
#include "api/google.pb.h"
#include "base/code.h"
#include "http/path.h"
#include "route/route_int.h"

/* ---- building ---- */

static int build_regex(struct route_builder *b, const struct envoy_RegexMatchAndSubstitute *m,
                       struct route_hash_policy *p)
{
    int rc = route_regex_build(m->pattern, "", b->a, &p->regex, b->err);
    if (rc == 0) {
        p->to = m->substitution;
        rc = regex_check_rewrite(p->regex, p->to, b->err);
        if (rc != 0)
            error_prefix(b->err, ".header.regex_rewrite.substitution: ");
    } else {
        error_prefix(b->err, ".header.regex_rewrite.pattern");
    }
    return rc;
}

static int build_cookie(struct route_builder *b,
                        const struct envoy_RouteAction_HashPolicy_Cookie *m,
                        struct route_hash_policy *p)
{
    p->name = m->name;
    p->path = m->path;
    if (!http_name_valid(m->name))
        return error_set(b->err, E_INVALID, ".cookie.name: '%.*s' is no cookie name",
                         SV_ARG(m->name));
    if (!http_value_valid(m->path) || sv_find(m->path, ';') >= 0)
        return error_set(b->err, E_INVALID, ".cookie.path: has bytes a cookie may not have");
    if (m->ttl) {
        uint64_t ms;
        int rc = duration_ms(m->ttl, ".cookie.ttl", &ms, b->err);
        if (rc != 0)
            return rc;
        p->has_ttl = true;
        p->ttl_s = ms / 1000;
    }
    sv all = {0};
    for (uint32_t i = 0; i < m->attributes.n; i++) {
        const struct envoy_RouteAction_HashPolicy_CookieAttribute *x = m->attributes.v[i];
        if (x->name.n == 0 || !http_value_valid(x->name) || !http_value_valid(x->value) ||
            sv_find(x->name, ';') >= 0 || sv_find(x->value, ';') >= 0)
            return error_set(b->err, E_INVALID, ".cookie.attributes[%u]: is no cookie attribute",
                             i);
        all = x->value.n ? arena_printf(b->a, "%.*s; %.*s=%.*s", SV_ARG(all), SV_ARG(x->name),
                                        SV_ARG(x->value))
                         : arena_printf(b->a, "%.*s; %.*s", SV_ARG(all), SV_ARG(x->name));
    }
    p->attributes = all;
    return 0;
}

static int build_policy(struct route_builder *b, const struct envoy_RouteAction_HashPolicy *m,
                        struct route_hash_policy *p)
{
    p->terminal = m->terminal;
    switch (m->which_policy_specifier) {
    case envoy_RouteAction_HashPolicy_header_tag: {
        p->kind = HASH_HEADER;
        if (!http_name_valid(m->header->header_name) &&
            !(m->header->header_name.n > 1 && m->header->header_name.p[0] == ':'))
            return error_set(b->err, E_INVALID, ".header.header_name: '%.*s' is no header name",
                             SV_ARG(m->header->header_name));
        char *name = arena_cstr(b->a, m->header->header_name);
        for (char *c = name; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c + 32);
        p->name = sv_of(name);
        return m->header->regex_rewrite ? build_regex(b, m->header->regex_rewrite, p) : 0;
    }
    case envoy_RouteAction_HashPolicy_cookie_tag:
        p->kind = HASH_COOKIE;
        return build_cookie(b, m->cookie, p);
    case envoy_RouteAction_HashPolicy_connection_properties_tag:
        p->kind = HASH_SOURCE_IP;
        if (!m->connection_properties->source_ip)
            return error_set(b->err, E_INVALID,
                             ".connection_properties.source_ip: must be true to hash anything");
        return 0;
    case envoy_RouteAction_HashPolicy_query_parameter_tag:
        p->kind = HASH_QUERY;
        p->name = m->query_parameter->name;
        break;
    case envoy_RouteAction_HashPolicy_filter_state_tag:
        p->kind = HASH_FILTER_STATE;
        p->name = m->filter_state->key;
        break;
    default:
        return error_set(b->err, E_INVALID, ": names nothing to hash");
    }
    if (p->name.n == 0)
        return error_set(b->err, E_INVALID, ": the name must not be empty");
    return 0;
}

int route_hash_build(struct route_builder *b, const struct envoy_RouteAction *m,
                     const struct route_hash **out)
{
    *out = NULL;
    if (m->hash_policy.n == 0)
        return 0;
    struct route_hash *h = arena_new(b->a, struct route_hash);
    h->v = arena_array(b->a, struct route_hash_policy, m->hash_policy.n);
    for (h->n = 0; h->n < m->hash_policy.n; h->n++) {
        int rc = build_policy(b, m->hash_policy.v[h->n], &h->v[h->n]);
        if (rc != 0) {
            error_prefix(b->err, ".hash_policy[%u]", h->n);
            return rc;
        }
    }
    *out = h;
    return 0;
}

/* ---- hashing ---- */

static int by_text(const void *x, const void *y)
{
    return sv_cmp(*(const sv *)x, *(const sv *)y);
}

static sv rewritten(const struct route_hash_policy *p, sv v, struct arena *a)
{
    if (!p->regex)
        return v;
    struct strbuf s;
    strbuf_init(&s, 1 << 16);
    regex_replace_all(p->regex, v, p->to, &s);
    v = arena_sv(a, strbuf_sv(&s));
    strbuf_fini(&s);
    return v;
}

/* All values of the header, sorted, one after the other as the seed of the next. */
static bool hash_header(const struct route_hash_policy *p, const struct http_head *req,
                        struct arena *a, uint64_t *out)
{
    if (p->name.p[0] == ':' || sv_eq(p->name, SV("host"))) {
        sv v = http_head_get(req, p->name, a);
        if (!v.p)
            return false;
        *out = sv_hash_xx64(rewritten(p, v, a), 0);
        return true;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < req->h.n; i++)
        n += sv_eq(req->h.v[i].name, p->name);
    if (n == 0)
        return false;
    sv one, *values = n == 1 ? &one : arena_array(a, sv, n);
    n = 0;
    for (uint32_t i = 0; i < req->h.n; i++)
        if (sv_eq(req->h.v[i].name, p->name))
            values[n++] = rewritten(p, req->h.v[i].value, a);
    if (n > 1)
        qsort(values, n, sizeof(*values), by_text);
    uint64_t h = 0;
    for (uint32_t i = 0; i < n; i++)
        h = sv_hash_xx64(values[i], h);
    *out = h;
    return true;
}

/* A cookie that depends on the connection only, so that streams that race get the same one. */
static sv make_cookie(const struct route_hash_policy *p, const struct stream_info *si,
                      struct arena *a, sv *set_cookie)
{
    const struct stream_conn *d = si ? si->down : NULL;
    sv remote = si && d ? stream_info_remote(si) : (sv){0};
    sv local = d ? d->local : (sv){0};
    uint64_t h = sv_hash_xx64(arena_printf(a, "%.*s%.*s", SV_ARG(remote), SV_ARG(local)), 0);
    sv value = arena_printf(a, "%016llx", (unsigned long long)h);
    if (!set_cookie)
        return value;
    char age[40] = "";
    if (p->ttl_s)
        snprintf(age, sizeof(age), "; Max-Age=%llu", (unsigned long long)p->ttl_s);
    *set_cookie =
        arena_printf(a, "%.*s=\"%.*s\"%s%s%.*s%.*s; HttpOnly", SV_ARG(p->name), SV_ARG(value), age,
                     p->path.n ? "; Path=" : "", SV_ARG(p->path), SV_ARG(p->attributes));
    return value;
}

static bool hash_cookie(const struct route_hash_policy *p, const struct http_head *req,
                        const struct stream_info *si, struct arena *a, uint64_t *out,
                        sv *set_cookie)
{
    sv v = http_headers_cookie(&req->h, p->name);
    if (v.n == 0 && p->has_ttl)
        v = make_cookie(p, si, a, set_cookie);
    if (v.n == 0)
        return false;
    *out = sv_hash_xx64(v, 0);
    return true;
}

static bool hash_one(const struct route_hash_policy *p, const struct http_head *req,
                     const struct stream_info *si, struct arena *a, uint64_t *out, sv *set_cookie)
{
    sv v = {0};
    const struct stream_state *s;
    switch (p->kind) {
    case HASH_HEADER:
        return hash_header(p, req, a, out);
    case HASH_COOKIE:
        return hash_cookie(p, req, si, a, out, set_cookie);
    case HASH_SOURCE_IP:
        if (si && si->down)
            v = si->remote_ip.n ? si->remote_ip : stream_addr_ip(stream_info_remote(si));
        if (v.n == 0)
            return false;
        break;
    case HASH_QUERY:
        v = query_param(req->path, p->name);
        break;
    case HASH_FILTER_STATE:
        s = si ? stream_info_state_get(si, p->name) : NULL;
        v = s ? s->text : v;
        break;
    }
    if (!v.p)
        return false;
    *out = sv_hash_xx64(v, 0);
    return true;
}

HOT bool route_hash_of(const struct route *r, const struct http_head *req,
                       const struct stream_info *si, struct arena *a, uint64_t *hash,
                       sv *set_cookie)
{
    bool have = false;
    uint64_t sum = 0;
    if (set_cookie)
        *set_cookie = (sv){0};
    for (uint32_t i = 0; r->hash && i < r->hash->n; i++) {
        const struct route_hash_policy *p = &r->hash->v[i];
        uint64_t h;
        if (hash_one(p, req, si, a, &h, set_cookie)) {
            /* Rotated, so that the same rule twice does not cancel itself out. */
            sum = have ? (sum << 1 | sum >> 63) ^ h : h;
            have = true;
        }
        if (p->terminal && have)
            break;
    }
    if (have)
        *hash = sum;
    return have;
}

bool route_match_hash(const struct route_match *m, const struct http_head *req,
                      const struct stream_info *si, struct arena *a, uint64_t *hash, sv *set_cookie)
{
    if (set_cookie)
        *set_cookie = (sv){0};
    return m->route && route_hash_of(m->route, req, si, a, hash, set_cookie);
}
