/* The syntax of heads: request line, status line, field lines. What the fields mean for framing is
 * decided in h1_framing.c. */
#include "h1/h1_parse_int.h"
#include "base/code.h"
#include "http/chars.h"

#define FIELDS_PER_HEAD_MAX 10000 /* whatever limits say */

int h1_fail(struct h1_error *err, const char *text, const char *reason, uint16_t status)
{
    *err = (struct h1_error){status == 431 || status == 414 ? E_LIMIT : E_PROTOCOL, text, reason,
                             status};
    return err->code;
}

static int fail_codec(struct h1_error *err, const char *reason)
{
    return h1_fail(err, "http1.codec_error", reason, 400);
}

/* As Envoy has it: what controls a terminal has a name of its own in the details. */
static const char *text_of(char bad)
{
    bool control = (uint8_t)bad < ' ' || bad == 0x7f;
    return control ? "http1.invalid_characters" : "http1.codec_error";
}

/* The CRLF at p. 0, E_AGAIN, or a failure. */
HOT static int read_crlf(const char **p, const char *end, struct h1_error *err)
{
    const char *q = *p;
    if (q == end)
        return E_AGAIN;
    if (*q == '\n')
        return fail_codec(err, "line ends with a bare LF");
    if (*q != '\r')
        return h1_fail(err, "http1.invalid_characters", "control character in a line", 400);
    if (end - q < 2)
        return E_AGAIN;
    if (q[1] != '\n')
        return fail_codec(err, "bare CR");
    *p = q + 2;
    return 0;
}

/* ---- request line ---- */

static int read_method(const char **p, const char *end, struct http_head *m, struct h1_error *err)
{
    const char *q = *p;
    while (q < end && http_token_lower[(uint8_t)*q])
        q++;
    if (q == end)
        return E_AGAIN;
    if (*q != ' ' || q == *p)
        return fail_codec(err, "method is not a token");
    m->method = sv_make(*p, (size_t)(q - *p));
    /* It begins HTTP/2 and is no method of HTTP/1 (RFC 9113 11.6). */
    if (sv_eq(m->method, SV("PRI")))
        return fail_codec(err, "PRI is no method");
    *p = q + 1;
    return 0;
}

static int read_target(const char **p, const char *end, const struct h1_limits *l,
                       struct http_head *m, struct h1_error *err)
{
    size_t n = http_target_span(*p, (size_t)(end - *p));
    const char *q = *p + n;
    if (n > l->max_uri_bytes && l->max_uri_bytes < l->max_head_bytes)
        return h1_fail(err, "http1.headers_too_large", "request target is too long", 414);
    if (q == end)
        return E_AGAIN;
    if (*q == '\r' && n)
        return h1_fail(err, "low_version", "HTTP/0.9 is not accepted here", 426);
    if (*q != ' ' || n == 0)
        return h1_fail(err, text_of(*q), "invalid character in the request target", 400);
    m->path = sv_make(*p, n);
    *p = q + 1;
    return 0;
}

/* What is no HTTP/1: 505 when it is well formed, 400 when it is no version at all. */
static int refuse_version(const char *p, size_t n, struct h1_error *err)
{
    static const char form[8] = "HTTP/9.9";
    for (size_t i = 0; i < n; i++) {
        bool digit = p[i] >= '0' && p[i] <= '9';
        if (form[i] == '9' ? !digit : p[i] != form[i])
            return fail_codec(err, "not a version of HTTP");
    }
    if (n < sizeof(form))
        return E_AGAIN;
    return h1_fail(err, "http1.unsupported_version", "not HTTP/1", 505);
}

/* "HTTP/1.x"; a minor version that is higher than ours is read as 1.1 (RFC 9110 2.5). */
HOT static int read_version(const char **p, const char *end, struct http_head *m,
                            struct h1_error *err)
{
    size_t n = (size_t)(end - *p) < 8 ? (size_t)(end - *p) : 8;
    if (n < 8 || memcmp(*p, "HTTP/1.", 7) != 0 || (*p)[7] < '0' || (*p)[7] > '9')
        return refuse_version(*p, n, err);
    m->protocol = (*p)[7] == '0' ? HTTP_10 : HTTP_11;
    *p += 8;
    return 0;
}

/* ---- status line ---- */

static int read_status(const char **p, const char *end, struct http_head *m, struct h1_error *err)
{
    const char *q = *p;
    unsigned v = 0;
    if (end - q < 4)
        return E_AGAIN;
    if (q[0] != ' ')
        return fail_codec(err, "status line is malformed");
    for (int i = 1; i <= 3; i++) {
        if (q[i] < '0' || q[i] > '9')
            return fail_codec(err, "status is not a number of three digits");
        v = v * 10 + (unsigned)(q[i] - '0');
    }
    if (v < 100 || v > 599)
        return fail_codec(err, "status is not between 100 and 599");
    q += 4;
    if (q == end)
        return E_AGAIN;
    if (*q == ' ')
        q += 1 + http_value_span(q + 1, (size_t)(end - q - 1));
    m->status = (uint16_t)v;
    *p = q;
    return 0;
}

/* ---- field lines ---- */

/* Finds the end of a name and lower-cases its first bytes into low. Returns how many of them are in
 * low (NAME_KEEP at most, *q tells the length), and in *same whether they were lower case already.
 */
#define NAME_KEEP 128
static size_t scan_name(const char **q, const char *end, char low[NAME_KEEP], bool *same)
{
    const char *p = *q;
    size_t n = 0;
#ifdef __SSE2__
    /* The usual name: at most 16 letters, digits and '-', then the colon. */
    if (end - p > 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i letter = _mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
        letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
        __m128i digit = _mm_sub_epi8(x, _mm_set1_epi8('0'));
        digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
        __m128i dash = _mm_cmpeq_epi8(x, _mm_set1_epi8('-'));
        unsigned ok = (unsigned)_mm_movemask_epi8(_mm_or_si128(letter, _mm_or_si128(digit, dash)));
        n = (unsigned)__builtin_ctz(~ok);
        if (p[n] == ':') {
            __m128i lower = _mm_or_si128(x, _mm_and_si128(letter, _mm_set1_epi8(0x20)));
            _mm_storeu_si128((__m128i *)(void *)low, lower);
            unsigned eq = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(lower, x));
            *same = ((eq ^ 0xffff) & ((1u << n) - 1)) == 0;
            *q = p + n;
            return n;
        }
        n = 0;
    }
#endif
    *same = true;
    for (uint8_t c; p < end && (c = http_token_lower[(uint8_t)*p]); p++) {
        *same &= c == (uint8_t)*p;
        if (n < NAME_KEEP)
            low[n++] = (char)c;
    }
    *q = p;
    return n;
}

static sv lower_copy(struct arena *a, const char *p, size_t n)
{
    char *copy = arena_alloc(a, n);
    for (size_t i = 0; i < n; i++)
        copy[i] = (char)http_token_lower[(uint8_t)p[i]];
    return sv_make(copy, n);
}

/* The lower-case name. Interned names come out static; others are a view when the peer wrote them
 * in lower case, and a copy in the arena otherwise. */
static int read_name(const char **p, const char *end, struct http_headers *h, struct http_header *e,
                     struct h1_error *err)
{
    char low[NAME_KEEP];
    bool same;
    const char *start = *p, *q = start;
    size_t kept = scan_name(&q, end, low, &same), n = (size_t)(q - start);
    if (q == end)
        return E_AGAIN;
    if (*q != ':')
        return fail_codec(err, n == 0 && (*q == ' ' || *q == '\t')
                                   ? "folded field line"
                                   : "invalid character in a field name");
    if (n == 0)
        return fail_codec(err, "empty field name");
    *p = q + 1;
    http_headers_name(h, e, n == kept ? http_name_find(sv_make(low, n)) : HTTP_H_OTHER);
    e->raw = same ? NULL : start;
    if (e->id)
        e->name = http_name_text(e->id);
    else
        e->name = same ? sv_make(start, n) : lower_copy(h->arena, start, n);
    return 0;
}

static int read_value(const char **p, const char *end, struct http_header *e, struct h1_error *err)
{
    const char *q = *p;
    while (q < end && (*q == ' ' || *q == '\t'))
        q++;
    const char *stop = q + http_value_span(q, (size_t)(end - q));
    const char *after = stop;
    int rc = read_crlf(&after, end, err);
    if (rc)
        return rc;
    while (stop > q && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    e->value = sv_make(q, (size_t)(stop - q));
    *p = after;
    return 0;
}

static bool underscore_drop(const struct h1_limits *l, struct http_codec_stats *st,
                            struct http_headers *h, const struct http_header *e, int *rc,
                            struct h1_error *err)
{
    if (l->allow_underscores || !memchr(e->name.p, '_', e->name.n))
        return false;
    if (l->reject_underscores) {
        if (st)
            st->requests_rejected_with_underscores_in_headers++;
        *rc = h1_fail(err, "http1.unexpected_underscore", "underscore in a field name", 400);
        return true;
    }
    if (st)
        st->dropped_headers_with_underscores++;
    h->n--;
    return true;
}

/* One field line into a new entry of h. *kept is NULL when it was dropped. */
int h1_read_field(const char **p, const char *end, const struct h1_limits *l,
                  struct http_codec_stats *st, struct http_headers *h, struct http_header **kept,
                  struct h1_error *err)
{
    struct http_header *e = http_headers_push(h);
    int rc = read_name(p, end, h, e, err);
    if (rc == 0)
        rc = read_value(p, end, e, err);
    if (rc) {
        err->field = rc != E_AGAIN;
        return rc;
    }
    *kept = underscore_drop(l, st, h, e, &rc, err) ? NULL : e;
    return rc;
}

static int too_many(struct http_codec_stats *st, struct h1_error *err)
{
    if (st)
        st->too_many_headers++;
    return h1_fail(err, "http1.too_many_headers", "too many fields", 431);
}

static int too_large(struct http_codec_stats *st, struct h1_error *err)
{
    if (st)
        st->header_overflow++;
    return h1_fail(err, "http1.headers_too_large", "head is too large", 431);
}

/* Field lines up to and with the empty line; *fields is their number. `use` sees each one and may
 * take it out of h. */
HOT static int read_fields(const char **p, const char *end, size_t bytes, const struct h1_limits *l,
                           struct http_codec_stats *st, struct http_headers *h,
                           int (*use)(void *arg, struct http_headers *h, struct http_header *e,
                                      struct h1_error *err),
                           void *arg, uint32_t *fields, struct h1_error *err)
{
    for (uint32_t n = 0;;) {
        if (*p == end)
            return E_AGAIN;
        if (**p == '\r' || **p == '\n') {
            *fields = n;
            return read_crlf(p, end, err);
        }
        struct http_header *e;
        int rc = h1_read_field(p, end, l, st, h, &e, err);
        if (rc)
            return rc;
        if (++n > l->max_headers || n > FIELDS_PER_HEAD_MAX)
            return too_many(st, err);
        if (!e)
            continue;
        bytes += e->name.n + e->value.n;
        if (bytes > l->max_head_bytes)
            return too_large(st, err);
        rc = use(arg, h, e, err);
        if (rc)
            return rc;
    }
}

static void count_failure(int rc, const struct h1_error *err, struct http_codec_stats *st)
{
    if (rc != E_PROTOCOL || !st)
        return;
    if (err->smuggling)
        st->smuggling_rejected++;
    else if (err->field)
        st->invalid_header++;
    else
        st->framing_error++;
}

int h1_parse_request(sv v, const struct h1_limits *l, struct http_codec_stats *st,
                     struct http_head *m, struct h1_head_info *info, struct h1_error *err)
{
    const char *p = v.p, *end = v.p + v.n;
    struct h1_use u = {.m = m, .info = info, .request = true};
    *info = (struct h1_head_info){0};
    int rc = read_method(&p, end, m, err);
    if (rc == 0)
        rc = read_target(&p, end, l, m, err);
    if (rc == 0)
        rc = read_version(&p, end, m, err);
    if (rc == 0)
        rc = read_crlf(&p, end, err);
    info->first_line = (uint32_t)(p - v.p);
    if (rc == 0)
        rc = read_fields(&p, end, m->path.n, l, st, &m->h, h1_use_field, &u, &info->fields, err);
    if (rc == 0)
        rc = h1_request_meaning(l, m, info, err);
    info->bytes = (size_t)(p - v.p);
    count_failure(rc, err, st);
    return rc;
}

int h1_parse_response(sv v, const struct h1_limits *l, struct http_codec_stats *st,
                      struct http_head *m, struct h1_head_info *info, struct h1_error *err)
{
    const char *p = v.p, *end = v.p + v.n;
    struct h1_use u = {.m = m, .info = info};
    *info = (struct h1_head_info){0};
    int rc = read_version(&p, end, m, err);
    if (rc == 0)
        rc = read_status(&p, end, m, err);
    if (rc == 0)
        rc = read_crlf(&p, end, err);
    info->first_line = (uint32_t)(p - v.p);
    if (rc == 0)
        rc = read_fields(&p, end, 0, l, st, &m->h, h1_use_field, &u, &info->fields, err);
    if (rc == 0)
        rc = h1_response_meaning(m, info, err);
    info->bytes = (size_t)(p - v.p);
    count_failure(rc, err, st);
    return rc;
}

static int use_trailer(void *arg, struct http_headers *h, struct http_header *e,
                       struct h1_error *err)
{
    if (!h1_trailer_allowed(e->name))
        h->n--;
    return 0;
}

int h1_parse_trailers(sv v, const struct h1_limits *l, struct http_codec_stats *st,
                      struct http_headers *h, size_t *bytes, struct h1_error *err)
{
    const char *p = v.p;
    uint32_t fields;
    int rc = read_fields(&p, v.p + v.n, 0, l, st, h, use_trailer, NULL, &fields, err);
    *bytes = (size_t)(p - v.p);
    count_failure(rc, err, st);
    return rc;
}

bool h1_find_end(sv v, size_t from)
{
    const char *p = v.p + from, *end = v.p + v.n;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        p++;
        if (p < end && *p == '\n')
            return true;
        if (end - p >= 2 && p[0] == '\r' && p[1] == '\n')
            return true;
    }
    return false;
}

static void move_view(sv *v, const char *from, size_t n, const char *to)
{
    if ((uintptr_t)v->p - (uintptr_t)from < n)
        v->p = to + (v->p - from);
}

void h1_head_relocate(struct http_head *m, const char *from, size_t n, const char *to)
{
    move_view(&m->method, from, n, to);
    move_view(&m->path, from, n, to);
    move_view(&m->authority, from, n, to);
    move_view(&m->connect_protocol, from, n, to);
    for (uint32_t i = 0; i < m->h.n; i++) {
        struct http_header *e = &m->h.v[i];
        move_view(&e->name, from, n, to);
        move_view(&e->value, from, n, to);
        if ((uintptr_t)e->raw - (uintptr_t)from < n)
            e->raw = to + (e->raw - from);
    }
}
