#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_CR, CHUNK_LF, CHUNK_TRAILER };

void text_reader_init(struct text_reader *r, bool request)
{
    memset(r, 0, offsetof(struct text_reader, head));
    memset(&r->head_n, 0, sizeof *r - offsetof(struct text_reader, head_n));
    r->request = request;
}

static bool bad(struct text_reader *r, const char *why)
{
    if (r->state != TEXT_BAD)
        r->why = why;
    r->state = TEXT_BAD;
    return true;
}

/* The line up to the line feed, without its carriage return. */
static sv line_of(sv v, ptrdiff_t nl)
{
    size_t n = (size_t)nl;
    return sv_first(v, n && v.p[n - 1] == '\r' ? n - 1 : n);
}

static sv field_from(const struct text_reader *r, size_t from, const char *name, size_t *next)
{
    sv rest = sv_make(r->head + from, r->head_n - from), line;
    size_t at = from;
    while (rest.n) {
        ptrdiff_t nl = sv_find(rest, '\n');
        if (nl < 0)
            break;
        line = line_of(rest, nl);
        rest = sv_from(rest, (size_t)nl + 1);
        at += (size_t)nl + 1;
        ptrdiff_t colon = sv_find(line, ':');
        if (colon > 0 && sv_eq_icase(sv_first(line, (size_t)colon), sv_of(name))) {
            if (next)
                *next = at;
            return sv_trim(sv_from(line, (size_t)colon + 1));
        }
    }
    return (sv){NULL, 0};
}

sv text_field(const struct text_reader *r, const char *name)
{
    return field_from(r, 0, name, NULL);
}

uint64_t text_number(const struct text_reader *r, const char *name, uint64_t dflt)
{
    uint64_t v;
    sv text = text_field(r, name);
    return text.p && sv_to_u64(text, &v) == 0 ? v : dflt;
}

static bool start_line(struct text_reader *r)
{
    sv line = sv_make(r->head, r->head_n), rest;
    line = line_of(line, sv_find(line, '\n'));
    if (r->request) {
        if (!sv_cut(line, ' ', &r->method, &rest) || !sv_cut(rest, ' ', &r->path, &rest) ||
            !sv_eq_c(rest, "HTTP/1.1"))
            return !bad(r, "no request line of HTTP/1.1");
        return true;
    }
    if (!sv_starts(line, SV("HTTP/1.1 ")) || line.n < 12)
        return !bad(r, "no status line of HTTP/1.1");
    r->status = (unsigned)atoi(line.p + 9);
    if (r->status < 100 || r->status > 599)
        return !bad(r, "a status that is none");
    return true;
}

/* How the body ends: RFC 9112, 6.3. */
static void framing(struct text_reader *r)
{
    size_t next;
    sv length = text_field(r, "content-length"), coding = text_field(r, "transfer-encoding");
    r->close = sv_eq_icase(text_field(r, "connection"), SV("close"));
    if (length.p && coding.p) {
        bad(r, "content-length beside transfer-encoding");
        return;
    }
    field_from(r, 0, "content-length", &next);
    if (length.p && field_from(r, next, "content-length", NULL).p) {
        bad(r, "two content-lengths");
        return;
    }
    r->state = TEXT_BODY;
    if (!r->request && (r->no_body || r->status == 204 || r->status == 304 || r->status < 200)) {
        r->state = TEXT_DONE;
    } else if (coding.p) {
        r->chunked = true;
        if (!sv_eq_icase(coding, SV("chunked")))
            bad(r, "a transfer coding other than chunked");
    } else if (length.p) {
        if (sv_to_u64(length, &r->left))
            bad(r, "a content-length that is no number");
        else if (!r->left)
            r->state = TEXT_DONE;
    } else if (r->request) {
        r->state = TEXT_DONE;
    } else {
        r->until_close = r->close = true;
    }
}

static bool take_head(struct text_reader *r, struct buf *in)
{
    while (in->len) {
        sv front = buf_front(in);
        size_t n = 0;
        while (n < front.n) {
            if (r->head_n == sizeof r->head)
                return bad(r, "a head that is too long");
            r->head[r->head_n++] = front.p[n++];
            if (r->head_n >= 4 && !memcmp(r->head + r->head_n - 4, "\r\n\r\n", 4)) {
                buf_drain(in, n);
                if (start_line(r))
                    framing(r);
                return true;
            }
        }
        buf_drain(in, n);
    }
    return false;
}

static void body_bytes(struct text_reader *r, const char *p, size_t n)
{
    for (size_t i = 0; r->check && i < n; i++)
        if (p[i] != text_pattern(r->seed, r->body_n + i)) {
            bad(r, "a body with other bytes than were sent");
            return;
        }
    for (size_t i = 0; i < n && r->body_n + i + 1 < sizeof r->said; i++)
        r->said[r->body_n + i] = p[i];
    r->body_n += n;
}

/* Takes up to r->left bytes of the body. */
static void take_counted(struct text_reader *r, struct buf *in)
{
    while (in->len && r->left && r->state == TEXT_BODY) {
        sv front = buf_front(in);
        size_t n = front.n < r->left ? front.n : (size_t)r->left;
        body_bytes(r, front.p, n);
        r->left -= n;
        buf_drain(in, n);
    }
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One byte of the coding's own. `left` counts digits while the size is read. */
static void chunk_byte(struct text_reader *r, char c)
{
    switch (r->step) {
    case CHUNK_SIZE:
        if (hex(c) >= 0 && r->left < 1u << 30)
            r->left = r->left << 4 | (unsigned)hex(c);
        else if (c == '\n')
            r->step = r->left ? CHUNK_DATA : CHUNK_TRAILER;
        else if (c != '\r')
            bad(r, "a chunk size that is none");
        break;
    case CHUNK_CR:
    case CHUNK_LF:
        if (c != (r->step == CHUNK_CR ? '\r' : '\n'))
            bad(r, "a chunk without its end");
        r->step = r->step == CHUNK_CR ? CHUNK_LF : CHUNK_SIZE;
        break;
    default: /* trailers: an empty line ends them; left: bytes of the line */
        if (c == '\n' && !r->left)
            r->state = TEXT_DONE;
        else if (c == '\n')
            r->left = 0;
        else if (c != '\r')
            r->left++;
    }
}

static void take_chunked(struct text_reader *r, struct buf *in)
{
    while (in->len && r->state == TEXT_BODY) {
        if (r->step == CHUNK_DATA) {
            take_counted(r, in);
            if (!r->left)
                r->step = CHUNK_CR;
            continue;
        }
        char c = buf_front(in).p[0];
        buf_drain(in, 1);
        chunk_byte(r, c);
    }
}

bool text_reader_feed(struct text_reader *r, struct buf *in)
{
    if (r->state == TEXT_EMPTY && in->len)
        r->state = TEXT_HEAD;
    if (r->state == TEXT_HEAD)
        return take_head(r, in); /* the owner looks at it before the body is read */
    if (r->state != TEXT_BODY)
        return r->state == TEXT_DONE;
    if (r->until_close) {
        r->left = UINT64_MAX;
        take_counted(r, in);
    } else if (r->chunked) {
        take_chunked(r, in);
    } else {
        take_counted(r, in);
        if (r->state == TEXT_BODY && !r->left)
            r->state = TEXT_DONE;
    }
    return true;
}

void text_reader_eof(struct text_reader *r)
{
    if (r->state == TEXT_BODY && r->until_close)
        r->state = TEXT_DONE;
    else if (r->state == TEXT_HEAD || r->state == TEXT_BODY)
        bad(r, "cut");
}

void text_body(struct buf *out, uint64_t seed, uint64_t at, size_t n)
{
    char piece[512];
    while (n) {
        size_t k = n < sizeof piece ? n : sizeof piece;
        for (size_t i = 0; i < k; i++)
            piece[i] = text_pattern(seed, at + i);
        buf_append(out, piece, k);
        at += k;
        n -= k;
    }
}

void text_chunks(struct buf *out, uint64_t seed, uint64_t at, size_t n, bool last)
{
    while (n) {
        size_t k = 1 + (seed + at) % 1500;
        if (k > n)
            k = n;
        buf_printf(out, "%zx\r\n", k);
        text_body(out, seed, at, k);
        buf_append(out, "\r\n", 2);
        at += k;
        n -= k;
    }
    if (last)
        buf_append(out, "0\r\n\r\n", 5);
}
