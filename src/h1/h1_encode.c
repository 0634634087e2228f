#include "h1/h1_encode.h"
#include "base/code.h"
#include "base/mem.h"
#include "h1/h1.h"
#include "h1/h1_parse.h"
#include "http/chars.h"

/* ---- looking ---- */

bool h1_request_line_valid(const struct http_head *m)
{
    bool connect = sv_eq(m->method, SV("CONNECT"));
    if (!http_name_valid(m->method) || !http_target_valid(m->authority.p, m->authority.n))
        return false;
    if (connect)
        return m->authority.n > 0;
    return m->path.n > 0 && http_target_valid(m->path.p, m->path.n);
}

static void scan_connection(struct h1_scan *s, sv v)
{
    for (sv token; v.n;) {
        sv_cut(v, ',', &token, &v);
        token = sv_trim(token);
        s->close |= sv_eq_icase(token, SV("close"));
        s->keep_alive |= sv_eq_icase(token, SV("keep-alive"));
        s->upgrade |= sv_eq_icase(token, SV("upgrade"));
    }
}

/* Fields whose meaning the codec has already turned into framing. */
static inline bool is_ours(const struct http_header *e)
{
    return e->id == HTTP_H_TRANSFER_ENCODING || e->id == HTTP_H_HOST;
}

HOT int h1_scan_fields(const struct http_headers *h, struct h1_scan *s)
{
    *s = (struct h1_scan){0};
    for (uint32_t i = 0; i < h->n; i++) {
        const struct http_header *e = &h->v[i];
        if (is_ours(e))
            continue;
        if ((!e->id && !http_name_valid(e->name)) || !http_value_valid(e->value))
            return E_INVALID;
        s->bytes += e->name.n + e->value.n + 4;
        if (e->id == HTTP_H_CONTENT_LENGTH) {
            if (s->has_length || sv_to_u64(e->value, &s->length) != 0 || s->length > INT64_MAX)
                return E_INVALID;
            s->has_length = true;
        } else if (e->id == HTTP_H_CONNECTION) {
            scan_connection(s, e->value);
        } else if (e->id == HTTP_H_UPGRADE) {
            s->has_upgrade = true;
        }
    }
    return 0;
}

/* ---- writing ---- */

static inline char *put(char *w, const char *p, size_t n)
{
    return http_bytes_put(w, p, n);
}

static inline char *put_sv(char *w, sv v)
{
    return http_bytes_put(w, v.p, v.n);
}

/* "x-my-name" as "X-My-Name". */
static char *put_proper(char *w, sv name)
{
    bool within = false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool small = c >= 'a' && c <= 'z';
        *w++ = small && !within ? (char)(c - 'a' + 'A') : c;
        within = small || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    }
    return w;
}

/* The message's own comes first; without one there is nothing to keep. */
static enum http_spelling spelling_of(const struct http_headers *h, enum http_spelling own)
{
    return h->spelled                    ? HTTP_SPELLING_KEPT
           : own == HTTP_SPELLING_PROPER ? HTTP_SPELLING_PROPER
                                         : HTTP_SPELLING_LOWER;
}

static inline char *put_name(char *w, const struct http_header *e, enum http_spelling spelling)
{
    if (spelling == HTTP_SPELLING_PROPER)
        return put_proper(w, e->name);
    return put(w, spelling == HTTP_SPELLING_KEPT && e->raw ? e->raw : e->name.p, e->name.n);
}

/* A line of our own, whose name is in small letters. */
static char *put_line(char *w, sv line, enum http_spelling spelling)
{
    sv name, rest;
    if (spelling != HTTP_SPELLING_PROPER)
        return put_sv(w, line);
    sv_cut(line, ':', &name, &rest);
    return put_sv(put_proper(w, name), sv_from(line, name.n));
}

HOT static char *put_fields(char *w, const struct http_headers *h, const struct h1_style *style)
{
    enum http_spelling spelling = spelling_of(h, style->spelling);
    for (uint32_t i = 0; i < h->n; i++) {
        const struct http_header *e = &h->v[i];
        if (is_ours(e) || (style->drop_length && e->id == HTTP_H_CONTENT_LENGTH))
            continue;
        w = put_name(w, e, spelling);
        *w++ = ':';
        *w++ = ' ';
        w = put_sv(w, e->value);
        *w++ = '\r';
        *w++ = '\n';
    }
    for (size_t i = 0; i < sizeof(style->extra) / sizeof(style->extra[0]); i++)
        w = put_line(w, style->extra[i], spelling);
    return put(w, "\r\n", 2);
}

static size_t extra_bytes(const struct h1_style *style)
{
    return style->extra[0].n + style->extra[1].n + style->extra[2].n;
}

/* Memory for a head: in the chain itself, or apart when no block can hold it. */
struct room {
    char *p;
    bool apart;
};

static struct room room_for(struct buf *out, size_t n)
{
    size_t got;
    if (n <= BUF_BLOCK)
        return (struct room){.p = buf_reserve(out, n, &got)};
    return (struct room){.p = mem_alloc(n), .apart = true};
}

static size_t room_done(struct buf *out, struct room *r, const char *end)
{
    size_t n = (size_t)(end - r->p);
    if (r->apart) {
        buf_append(out, r->p, n);
        free(r->p);
    } else {
        buf_commit(out, n);
    }
    return n;
}

static struct h1_wrote wrote(size_t all, size_t first_line)
{
    return (struct h1_wrote){all, all - first_line - 2};
}

struct h1_wrote h1_write_request(struct buf *out, const struct http_head *m,
                                 const struct h1_scan *s, const struct h1_style *style)
{
    static const char version[] = " HTTP/1.1\r\n";
    sv target = sv_eq(m->method, SV("CONNECT")) ? m->authority : m->path;
    size_t most = m->method.n + 1 + target.n + sizeof(version) + 8 + m->authority.n + s->bytes +
                  extra_bytes(style) + 2;
    struct room r = room_for(out, most);
    char *w = put_sv(r.p, m->method);
    *w++ = ' ';
    w = put_sv(w, target);
    w = put(w, version, sizeof(version) - 1);
    size_t line = (size_t)(w - r.p);
    bool large = m->h.spelled ? m->large_host : style->spelling == HTTP_SPELLING_PROPER;
    w = put(w, large ? "Host: " : "host: ", 6);
    w = put_sv(w, m->authority);
    w = put(w, "\r\n", 2);
    return wrote(room_done(out, &r, put_fields(w, &m->h, style)), line);
}

HOT struct h1_wrote h1_write_response(struct buf *out, const struct http_head *m,
                                      const struct h1_scan *s, const struct h1_style *style)
{
    sv reason = h1_reason(m->status);
    struct room r = room_for(out, 16 + reason.n + s->bytes + extra_bytes(style) + 2);
    char *w = put(r.p, style->http10 ? "HTTP/1.0 " : "HTTP/1.1 ", 9);
    *w++ = (char)('0' + m->status / 100);
    *w++ = (char)('0' + m->status / 10 % 10);
    *w++ = (char)('0' + m->status % 10);
    *w++ = ' ';
    w = put_sv(w, reason);
    w = put(w, "\r\n", 2);
    size_t line = (size_t)(w - r.p);
    return wrote(room_done(out, &r, put_fields(w, &m->h, style)), line);
}

int h1_write_trailers(struct buf *out, const struct http_headers *t, enum http_spelling spelling,
                      size_t *bytes)
{
    size_t n = 5;
    for (uint32_t i = 0; i < t->n; i++) {
        if (!http_name_valid(t->v[i].name) || !http_value_valid(t->v[i].value))
            return E_INVALID;
        n += t->v[i].name.n + t->v[i].value.n + 4;
    }
    struct room r = room_for(out, n);
    char *w = put(r.p, "0\r\n", 3);
    spelling = spelling_of(t, spelling);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct http_header *e = &t->v[i];
        if (!h1_trailer_allowed(e->name))
            continue;
        w = put_name(w, e, spelling);
        w = put(w, ": ", 2);
        w = put_sv(w, e->value);
        w = put(w, "\r\n", 2);
    }
    *bytes = room_done(out, &r, put(w, "\r\n", 2));
    return 0;
}

size_t h1_write_chunk(struct buf *out, struct buf *data, bool last)
{
    static const char hex[] = "0123456789abcdef";
    char line[20], *p = line + sizeof(line);
    *--p = '\n';
    *--p = '\r';
    for (size_t v = data->len; v; v >>= 4)
        *--p = hex[v & 15];
    size_t n = (size_t)(line + sizeof(line) - p);
    buf_append(out, p, n);
    buf_move(out, data);
    sv end = last ? SV("\r\n0\r\n\r\n") : SV("\r\n");
    buf_append(out, end.p, end.n);
    return n + end.n;
}

/* ---- reason phrases ---- */

sv h1_reason(unsigned status)
{
    static const struct {
        uint16_t status;
        sv text;
    } list[] = {
        {200, SV_INIT("OK")},
        {100, SV_INIT("Continue")},
        {101, SV_INIT("Switching Protocols")},
        {102, SV_INIT("Processing")},
        {103, SV_INIT("Early Hints")},
        {201, SV_INIT("Created")},
        {202, SV_INIT("Accepted")},
        {203, SV_INIT("Non-Authoritative Information")},
        {204, SV_INIT("No Content")},
        {205, SV_INIT("Reset Content")},
        {206, SV_INIT("Partial Content")},
        {207, SV_INIT("Multi-Status")},
        {208, SV_INIT("Already Reported")},
        {226, SV_INIT("IM Used")},
        {300, SV_INIT("Multiple Choices")},
        {301, SV_INIT("Moved Permanently")},
        {302, SV_INIT("Found")},
        {303, SV_INIT("See Other")},
        {304, SV_INIT("Not Modified")},
        {305, SV_INIT("Use Proxy")},
        {307, SV_INIT("Temporary Redirect")},
        {308, SV_INIT("Permanent Redirect")},
        {400, SV_INIT("Bad Request")},
        {401, SV_INIT("Unauthorized")},
        {402, SV_INIT("Payment Required")},
        {403, SV_INIT("Forbidden")},
        {404, SV_INIT("Not Found")},
        {405, SV_INIT("Method Not Allowed")},
        {406, SV_INIT("Not Acceptable")},
        {407, SV_INIT("Proxy Authentication Required")},
        {408, SV_INIT("Request Timeout")},
        {409, SV_INIT("Conflict")},
        {410, SV_INIT("Gone")},
        {411, SV_INIT("Length Required")},
        {412, SV_INIT("Precondition Failed")},
        {413, SV_INIT("Payload Too Large")},
        {414, SV_INIT("URI Too Long")},
        {415, SV_INIT("Unsupported Media Type")},
        {416, SV_INIT("Range Not Satisfiable")},
        {417, SV_INIT("Expectation Failed")},
        {421, SV_INIT("Misdirected Request")},
        {422, SV_INIT("Unprocessable Entity")},
        {423, SV_INIT("Locked")},
        {424, SV_INIT("Failed Dependency")},
        {425, SV_INIT("Too Early")},
        {426, SV_INIT("Upgrade Required")},
        {428, SV_INIT("Precondition Required")},
        {429, SV_INIT("Too Many Requests")},
        {431, SV_INIT("Request Header Fields Too Large")},
        {451, SV_INIT("Unavailable For Legal Reasons")},
        {500, SV_INIT("Internal Server Error")},
        {501, SV_INIT("Not Implemented")},
        {502, SV_INIT("Bad Gateway")},
        {503, SV_INIT("Service Unavailable")},
        {504, SV_INIT("Gateway Timeout")},
        {505, SV_INIT("HTTP Version Not Supported")},
        {506, SV_INIT("Variant Also Negotiates")},
        {507, SV_INIT("Insufficient Storage")},
        {508, SV_INIT("Loop Detected")},
        {510, SV_INIT("Not Extended")},
        {511, SV_INIT("Network Authentication Required")},
    };
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (list[i].status == status)
            return list[i].text;
    return SV("Unknown");
}
