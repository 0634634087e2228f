/* Fields and heads: RFC 9113 8.2 and 8.3, with the validators all codecs share. The first violation
 * is kept; after it, and past a limit, fields are only decoded (HPACK state) and not kept. */
#include "h2/h2_session.h"

#include "http/chars.h"
#include "http/path.h"

#define RULE  "http2.violation.of.messaging.rule"
#define FIELD "http2.invalid.header.field"
#define CONN  "http2.connection_specific_header"

#define BIT(pseudo) (1u << ((pseudo)-HPACK_AUTHORITY))
#define REQUEST_BITS                                                                               \
    (BIT(HPACK_AUTHORITY) | BIT(HPACK_METHOD) | BIT(HPACK_PATH) | BIT(HPACK_SCHEME) |              \
     BIT(HPACK_PROTOCOL))
#define FIELD_OVERHEAD 32 /* RFC 9113 10.5.1, attack case 7 */

static void malformed(struct h2_block_in *b, const char *details)
{
    b->malformed = details;
    b->drop = true;
}

/* ---- pseudo fields ---- */

static sv scheme_take(struct arena *a, sv v)
{
    if (sv_eq_icase(v, SV("http")))
        return SV("http");
    if (sv_eq_icase(v, SV("https")))
        return SV("https");
    v = arena_sv(a, v);
    for (size_t i = 0; i < v.n; i++)
        ((char *)(uintptr_t)v.p)[i] = (char)http_token_lower[(uint8_t)v.p[i]];
    return v;
}

static bool scheme_valid(sv v)
{
    for (size_t i = 0; i < v.n; i++) {
        uint8_t c = http_token_lower[(uint8_t)v.p[i]];
        bool alpha = c >= 'a' && c <= 'z';
        if (!alpha && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.')))
            return false;
    }
    return v.n > 0;
}

static bool path_valid(sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if (!http_target_ok[(uint8_t)v.p[i]] || v.p[i] == '#')
            return false;
    return v.n > 0;
}

static bool status_take(sv v, uint16_t *out)
{
    unsigned n = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9' || i == 3)
            return false;
        n = n * 10 + (unsigned)(v.p[i] - '0');
    }
    *out = (uint16_t)n;
    return v.n == 3 && n >= 100 && n <= 599;
}

static bool pseudo_take(struct h2_session *h, const struct hpack_field *f)
{
    struct h2_block_in *b = &h->block;
    struct http_head *m = b->head;
    struct arena *a = b->stream->s.arena;
    sv v = f->value;
    if (f->id == HPACK_STATUS)
        return status_take(v, &m->status);
    if (f->id == HPACK_SCHEME) {
        if (!scheme_valid(v))
            return false;
        m->scheme = f->flags & HPACK_F_STATIC_VALUE ? v : scheme_take(a, v);
        return true;
    }
    if (f->id == HPACK_PATH && v.n > h->lim.max_uri_bytes) {
        b->over_limit = b->drop = true;
        return true;
    }
    struct authority ignored;
    bool ok = f->id == HPACK_PATH        ? path_valid(v)
              : f->id == HPACK_AUTHORITY ? v.n == 0 || authority_parse(v, &ignored) == 0
                                         : http_name_valid(v);
    if (!(f->flags & HPACK_F_STATIC_VALUE))
        v = arena_sv(a, v);
    *(f->id == HPACK_PATH        ? &m->path
      : f->id == HPACK_AUTHORITY ? &m->authority
      : f->id == HPACK_METHOD    ? &m->method
                                 : &m->connect_protocol) = v;
    return ok;
}

static void pseudo_field(struct h2_session *h, const struct hpack_field *f)
{
    struct h2_block_in *b = &h->block;
    unsigned bit = BIT(f->id);
    unsigned allowed = b->kind == H2_BLOCK_REQUEST    ? REQUEST_BITS
                       : b->kind == H2_BLOCK_RESPONSE ? BIT(HPACK_STATUS)
                                                      : 0;
    if (b->regular || !(bit & allowed) || b->pseudo & bit) {
        malformed(b, RULE);
        return;
    }
    b->pseudo |= (uint8_t)bit;
    if (!pseudo_take(h, f))
        malformed(b, FIELD);
}

/* ---- ordinary fields ---- */

static void length_field(struct h2_session *h, sv v)
{
    struct h2_block_in *b = &h->block;
    uint64_t n;
    if (b->head->content_length >= 0 || sv_to_u64(v, &n) != 0 || n > INT64_MAX) {
        H2_COUNT(h, smuggling_rejected);
        malformed(b, "http2.invalid_content_length");
        return;
    }
    b->head->content_length = (int64_t)n;
}

/* False when the field is not to be kept. */
static bool known_field(struct h2_session *h, const struct hpack_field *f, sv value)
{
    struct h2_block_in *b = &h->block;
    bool trailers = b->kind == H2_BLOCK_TRAILERS;
    switch (f->id) {
    case HTTP_H_TRANSFER_ENCODING:
        H2_COUNT(h, smuggling_rejected);
        malformed(b, CONN);
        return false;
    case HTTP_H_CONNECTION:
    case HTTP_H_KEEP_ALIVE:
    case HTTP_H_PROXY_CONNECTION:
    case HTTP_H_UPGRADE:
        malformed(b, CONN);
        return false;
    case HTTP_H_TE:
        if (!sv_eq_icase(value, SV("trailers")))
            malformed(b, CONN);
        return !b->malformed;
    case HTTP_H_HOST:
        if (b->kind == H2_BLOCK_REQUEST) {
            if (b->host.p)
                malformed(b, RULE);
            else
                b->host = value.n ? arena_sv(b->stream->s.arena, value) : SV("");
        }
        return false;
    case HTTP_H_CONTENT_LENGTH:
        if (!trailers)
            length_field(h, value);
        else if (h->c.server) /* framing behind the body: from a client, refused; else dropped */
            malformed(b, RULE);
        return !trailers && !b->malformed;
    case HTTP_H_COOKIE:
        b->crumbs++;
        return true;
    default:
        return true;
    }
}

/* Envoy's headers_with_underscores_action; false: the field is not kept. */
static bool underscore_ok(struct h2_session *h, sv name)
{
    if (h->lim.allow_underscores || !h->c.server || h->block.kind != H2_BLOCK_REQUEST ||
        sv_find(name, '_') < 0)
        return true;
    if (h->lim.reject_underscores) {
        H2_COUNT(h, requests_rejected_with_underscores_in_headers);
        malformed(&h->block, "http2.unexpected_underscore");
    } else {
        H2_COUNT(h, dropped_headers_with_underscores);
    }
    return false;
}

static void regular_field(struct h2_session *h, const struct hpack_field *f)
{
    struct h2_block_in *b = &h->block;
    struct arena *a = b->stream->s.arena;
    sv value = sv_trim(f->value);
    b->regular = true;
    if (f->id == HTTP_H_OTHER) {
        if (!underscore_ok(h, f->name))
            return;
    } else if (!known_field(h, f, value)) {
        return;
    }
    struct http_header *e = http_headers_push(&b->head->h);
    http_headers_name(&b->head->h, e, f->id);
    e->name = f->id                            ? http_name_text(f->id)
              : f->flags & HPACK_F_STATIC_NAME ? f->name
                                               : arena_sv(a, f->name);
    e->value = f->flags & HPACK_F_STATIC_VALUE ? value : arena_sv(a, value);
    e->flags = f->flags & HPACK_F_NEVER_INDEX ? HTTP_HF_NEVER_INDEX : 0;
}

void h2_on_field(void *session, const struct hpack_field *f)
{
    struct h2_session *h = session;
    struct h2_block_in *b = &h->block;
    if (b->drop || b->kind == H2_BLOCK_IGNORE)
        return;
    b->fields++;
    b->bytes += (uint32_t)(f->name.n + f->value.n);
    if (b->fields > h->lim.max_headers ||
        (uint64_t)b->bytes + b->fields * FIELD_OVERHEAD > h->lim.max_head_bytes) {
        if (b->fields > h->lim.max_headers)
            H2_COUNT(h, too_many_headers);
        else
            H2_COUNT(h, header_overflow);
        b->over_limit = b->drop = true;
        return;
    }
    if (f->flags & (HPACK_F_BAD_NAME | HPACK_F_BAD_VALUE)) {
        H2_COUNT(h, invalid_header);
        malformed(b, f->id == HPACK_PSEUDO_UNKNOWN ? RULE : FIELD);
        return;
    }
    if (f->id >= HPACK_AUTHORITY)
        pseudo_field(h, f);
    else
        regular_field(h, f);
}

/* ---- whole heads ---- */

/* 8.2.3: crumbs become one field again, for everyone who does not speak HTTP/2. */
static void join_cookies(struct http_headers *h)
{
    size_t total = 0;
    struct http_header *first = NULL;
    uint32_t w = 0;
    for (uint32_t i = 0; i < h->n; i++)
        if (h->v[i].id == HTTP_H_COOKIE)
            total += h->v[i].value.n + 2;
    char *out = arena_alloc(h->arena, total), *p = out;
    for (uint32_t i = 0; i < h->n; i++) {
        struct http_header *e = &h->v[i];
        if (e->id == HTTP_H_COOKIE) {
            if (first) {
                memcpy(p, "; ", 2);
                p += 2;
            }
            if (e->value.n)
                memcpy(p, e->value.p, e->value.n);
            p += e->value.n;
            if (first) {
                first->flags |= e->flags;
                continue;
            }
            first = &h->v[w];
        }
        h->v[w++] = *e;
    }
    h->n = w;
    first->value = sv_make(out, (size_t)(p - out));
}

/* 8.3.1: Host may stand for :authority, and must not contradict it. */
static bool take_host(struct h2_block_in *b, struct http_head *m)
{
    struct authority ignored;
    if (b->host.n == 0)
        return true;
    if (m->authority.n)
        return sv_eq_icase(b->host, m->authority);
    m->authority = b->host;
    return authority_parse(b->host, &ignored) == 0;
}

static const char *check_connect(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    unsigned seen = h->block.pseudo, target = BIT(HPACK_SCHEME) | BIT(HPACK_PATH);
    if (!(seen & BIT(HPACK_AUTHORITY)) || m->authority.n == 0)
        return RULE;
    if (!(seen & BIT(HPACK_PROTOCOL))) {
        s->connect = true;
        return seen & target ? RULE : NULL;
    }
    if (!h->lim.allow_connect || (seen & target) != target)
        return RULE;
    /* Handed up as a HTTP/1 upgrade is. */
    m->method = SV("GET");
    m->upgrade = true;
    s->upgrade = true;
    return m->path.n && m->path.p[0] == '/' ? NULL : RULE;
}

static const char *check_plain(const struct h2_session *h, const struct http_head *m)
{
    unsigned need = BIT(HPACK_SCHEME) | BIT(HPACK_PATH);
    if ((h->block.pseudo & need) != need || h->block.pseudo & BIT(HPACK_PROTOCOL) || !m->path.n)
        return RULE;
    if (m->path.p[0] == '/')
        return NULL;
    return sv_eq(m->path, SV("*")) && sv_eq(m->method, SV("OPTIONS")) ? NULL : RULE;
}

const char *h2_check_request(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    struct h2_block_in *b = &h->block;
    if (!(b->pseudo & BIT(HPACK_METHOD)))
        return RULE;
    const char *bad = sv_eq(m->method, SV("CONNECT")) ? check_connect(h, s, m) : check_plain(h, m);
    if (bad)
        return bad;
    if (!take_host(b, m))
        return "http2.host_mismatch";
    if (b->crumbs > 1)
        join_cookies(&m->h);
    m->protocol = HTTP_2;
    if (s->connect || s->upgrade)
        m->content_length = -1;
    s->content_left = m->content_length;
    return b->end_stream && m->content_length > 0 ? "http2.content_length_mismatch" : NULL;
}

const char *h2_check_response(struct h2_session *h, struct h2_stream *s, struct http_head *m)
{
    struct h2_block_in *b = &h->block;
    if (!(b->pseudo & BIT(HPACK_STATUS)))
        return RULE;
    m->protocol = HTTP_2;
    /* 8.1: 101 has no meaning here, and an interim response ends nothing. */
    if (m->status < 200)
        return m->status == 101 || b->end_stream ? RULE : NULL;
    if (s->upgrade && m->status == 200) {
        m->status = 101;
        m->upgrade = true;
        m->connect_protocol = s->upgrade_token;
    }
    bool tunnel = (s->connect || s->upgrade) && (m->status / 100 == 2 || m->status == 101);
    if (tunnel)
        m->content_length = -1;
    s->no_body = s->head_request || m->status == 204 || m->status == 304;
    s->content_left = s->no_body ? -1 : m->content_length;
    return b->end_stream && s->content_left > 0 ? "http2.content_length_mismatch" : NULL;
}
