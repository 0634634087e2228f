/* What the fields of a head mean: where it is meant for, how its body ends, what becomes of the
 * connection (RFC 9112 3, 6, 9.3). */
#include "h1/h1_parse_int.h"
#include "base/code.h"
#include "http/path.h"

static int fail_codec(struct h1_error *err, const char *reason)
{
    return h1_fail(err, "http1.codec_error", reason, 400);
}

static int fail_smuggling(struct h1_error *err, const char *text, const char *reason,
                          uint16_t status)
{
    int rc = h1_fail(err, text, reason, status);
    err->smuggling = true;
    return rc;
}

/* ---- fields as they come ---- */

static int use_length(struct h1_head_info *info, sv value, struct h1_error *err)
{
    if (info->n_length++)
        return fail_smuggling(err, "http1.codec_error", "more than one Content-Length", 400);
    if (sv_to_u64(value, &info->length_value) != 0 || info->length_value > INT64_MAX)
        return fail_smuggling(err, "http1.codec_error", "Content-Length is not a number", 400);
    return 0;
}

static void use_connection(struct h1_head_info *info, sv value)
{
    for (sv token; value.n;) {
        sv_cut(value, ',', &token, &value);
        token = sv_trim(token);
        if (sv_eq_icase(token, SV("close")))
            info->close = true;
        else if (sv_eq_icase(token, SV("keep-alive")))
            info->keep_alive = true;
        else if (sv_eq_icase(token, SV("upgrade")))
            info->connection_upgrade = true;
    }
}

static int use_host(struct h1_use *u, struct http_headers *h, const struct http_header *e,
                    struct h1_error *err)
{
    sv value = e->value;
    h->n--;
    if (!u->request)
        return 0;
    if (u->info->n_host++)
        return fail_codec(err, "more than one Host");
    u->m->authority = value;
    u->m->large_host = e->raw && e->raw[0] == 'H';
    return 0;
}

HOT int h1_use_field(void *arg, struct http_headers *h, struct http_header *e, struct h1_error *err)
{
    struct h1_use *u = arg;
    struct h1_head_info *info = u->info;
    switch (e->id) {
    case HTTP_H_HOST:
        return use_host(u, h, e, err);
    case HTTP_H_CONTENT_LENGTH:
        return use_length(info, e->value, err);
    case HTTP_H_TRANSFER_ENCODING:
        if (info->n_te++)
            return fail_smuggling(err, "http1.invalid_transfer_encoding",
                                  "more than one Transfer-Encoding", 400);
        info->te = e->value;
        return 0;
    case HTTP_H_CONNECTION:
        use_connection(info, e->value);
        return 0;
    case HTTP_H_UPGRADE:
        if (!info->upgrade.n)
            info->upgrade = e->value;
        return 0;
    case HTTP_H_EXPECT:
        info->expect_continue = sv_eq_icase(e->value, SV("100-continue"));
        return 0;
    default:
        return 0;
    }
}

/* ---- the body ---- */

/* Transfer-Encoding against Content-Length; info->body is set for both sides. */
HOT static int body_of(const struct h1_limits *l, struct http_head *m, struct h1_head_info *info,
                       struct h1_error *err)
{
    info->body = H1_BODY_NONE;
    if (info->n_te) {
        if (m->protocol == HTTP_10)
            return fail_smuggling(err, "http1.transfer_encoding_not_allowed",
                                  "Transfer-Encoding in HTTP/1.0", 400);
        if (!sv_eq_icase(info->te, SV("chunked")))
            return fail_smuggling(err, "http1.invalid_transfer_encoding",
                                  "Transfer-Encoding is not \"chunked\"", 501);
        if (info->n_length && !(l && l->allow_chunked_length))
            return fail_smuggling(err, "http1.content_length_and_chunked_not_allowed",
                                  "both Transfer-Encoding and Content-Length", 400);
        if (info->n_length)
            http_headers_remove_id(&m->h, HTTP_H_CONTENT_LENGTH);
        info->body = H1_BODY_CHUNKED;
        return 0;
    }
    if (info->n_length) {
        m->content_length = (int64_t)info->length_value;
        info->length = info->length_value;
        info->body = info->length ? H1_BODY_LENGTH : H1_BODY_NONE;
    }
    return 0;
}

/* ---- requests ---- */

static int invalid_url(struct h1_error *err, const char *reason)
{
    return h1_fail(err, "http1.invalid_url", reason, 400);
}

static int target_absolute(const struct h1_limits *l, struct http_head *m, struct h1_error *err)
{
    struct path_url u;
    if (!l->allow_absolute_url)
        return invalid_url(err, "absolute-form target");
    if (path_url_parse(m->path, m->h.arena, &u) != 0) {
        bool http =
            sv_starts_icase(m->path, SV("http://")) || sv_starts_icase(m->path, SV("https://"));
        return http ? invalid_url(err, "invalid absolute-form target")
                    : h1_fail(err, "http1.invalid_scheme", "target's scheme is not http or https",
                              400);
    }
    m->scheme = u.scheme.n == 5 ? SV("https") : SV("http");
    m->authority = u.authority;
    m->path = u.path;
    return 0;
}

static int target_of(const struct h1_limits *l, struct http_head *m, struct h1_error *err)
{
    struct authority a;
    if (memchr(m->path.p, '#', m->path.n))
        return invalid_url(err, "fragment in the request target");
    if (sv_eq(m->method, SV("CONNECT"))) {
        if (authority_parse(m->path, &a) != 0 || a.port == 0)
            return invalid_url(err, "CONNECT without host and port");
        m->authority = m->path;
        m->path = (sv){NULL, 0};
        return 0;
    }
    if (m->path.p[0] == '/')
        return 0;
    if (m->path.n == 1 && m->path.p[0] == '*')
        return sv_eq(m->method, SV("OPTIONS")) ? 0 : invalid_url(err, "target \"*\"");
    if (path_is_absolute(m->path))
        return target_absolute(l, m, err);
    return h1_fail(err, "http1.codec_error", "request target has no form of RFC 9112", 400);
}

static int host_of(const struct http_head *m, const struct h1_head_info *info, struct h1_error *err)
{
    struct authority a;
    if (info->n_host == 0)
        return m->protocol == HTTP_10
                   ? 0
                   : h1_fail(err, "missing_host_header", "no Host in HTTP/1.1", 400);
    if (m->authority.n == 0)
        return h1_fail(err, "missing_host_header", "empty Host", 400);
    if (authority_parse(m->authority, &a) != 0)
        return fail_codec(err, "invalid Host");
    return 0;
}

/* An upgrade that is handed up: asked for properly, not h2c, and on a request without a body,
 * because two readings of where the new protocol begins must not exist. */
static void upgrade_of(struct http_head *m, const struct h1_head_info *info)
{
    if (!info->connection_upgrade || info->body != H1_BODY_NONE || m->protocol != HTTP_11)
        return;
    sv list = info->upgrade, token;
    while (list.n) {
        sv_cut(list, ',', &token, &list);
        token = sv_trim(token);
        if (token.n == 0 || sv_eq_icase(token, SV("h2c")))
            continue;
        m->upgrade = true;
        m->connect_protocol = token;
        return;
    }
}

int h1_request_meaning(const struct h1_limits *l, struct http_head *m, struct h1_head_info *info,
                       struct h1_error *err)
{
    if (m->protocol == HTTP_10 && !l->allow_http10)
        return h1_fail(err, "low_version", "HTTP/1.0 is not accepted here", 426);
    int rc = host_of(m, info, err);
    if (rc == 0)
        rc = target_of(l, m, err);
    if (rc == 0)
        rc = body_of(l, m, info, err);
    if (rc)
        return rc;
    if (m->protocol == HTTP_10)
        info->close |= !info->keep_alive;
    if (!sv_eq(m->method, SV("CONNECT")))
        upgrade_of(m, info);
    else if (info->body != H1_BODY_NONE)
        return h1_fail(err, "http1.body_disallowed", "CONNECT with a body", 400);
    return 0;
}

/* ---- responses ---- */

int h1_response_meaning(struct http_head *m, struct h1_head_info *info, struct h1_error *err)
{
    int rc = body_of(NULL, m, info, err);
    if (rc)
        return rc;
    if (m->protocol == HTTP_10)
        info->close |= !info->keep_alive;
    if (m->status == 101) {
        m->upgrade = true;
        m->connect_protocol = info->upgrade;
    }
    return 0;
}

void h1_response_body(const struct http_head *m, bool head_request, struct h1_head_info *info)
{
    if (head_request || m->status < 200 || m->status == 204 || m->status == 304)
        info->body = H1_BODY_NONE;
    else if (info->body == H1_BODY_NONE && info->n_length == 0)
        info->body = H1_BODY_CLOSE;
}

/* ---- trailers ---- */

bool h1_trailer_allowed(sv name)
{
    static const sv refused[] = {
        SV_INIT("transfer-encoding"),
        SV_INIT("content-length"),
        SV_INIT("host"),
        SV_INIT("connection"),
        SV_INIT("keep-alive"),
        SV_INIT("proxy-connection"),
        SV_INIT("upgrade"),
        SV_INIT("te"),
        SV_INIT("trailer"),
        SV_INIT("expect"),
        SV_INIT("max-forwards"),
        SV_INIT("range"),
        SV_INIT("content-encoding"),
        SV_INIT("content-type"),
        SV_INIT("content-range"),
        SV_INIT("authorization"),
        SV_INIT("proxy-authorization"),
        SV_INIT("cookie"),
        SV_INIT("www-authenticate"),
        SV_INIT("proxy-authenticate"),
        SV_INIT("set-cookie"),
        SV_INIT("cache-control"),
        SV_INIT("age"),
        SV_INIT("expires"),
        SV_INIT("location"),
        SV_INIT("retry-after"),
        SV_INIT("vary"),
        SV_INIT("if-match"),
        SV_INIT("if-none-match"),
        SV_INIT("if-modified-since"),
        SV_INIT("if-unmodified-since"),
        SV_INIT("if-range"),
        SV_INIT("http2-settings"),
        SV_INIT("forwarded"),
        SV_INIT("x-forwarded-for"),
        SV_INIT("x-forwarded-host"),
        SV_INIT("x-forwarded-proto"),
        SV_INIT("x-forwarded-client-cert"),
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (sv_eq(name, refused[i]))
            return false;
    /* What the mesh trusts is said in heads only (attack cases 18, 29). */
    return !sv_starts(name, SV("x-envoy-"));
}
