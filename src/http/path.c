#include "http/path.h"
#include "http/chars.h"

/* Classes of a path byte for canonicalisation. */
enum {
    PB_PASS = 0,
    PB_UNRESERVED = 1, /* an escape of it is decoded */
    PB_ESCAPE = 2,     /* may not stand in a path: escaped */
};

static const uint8_t path_class[256] = {
    [0x00 ... 0x20] = PB_ESCAPE,
    ['"'] = PB_ESCAPE,
    ['#'] = PB_ESCAPE,
    ['<'] = PB_ESCAPE,
    ['>'] = PB_ESCAPE,
    ['^'] = PB_ESCAPE,
    ['`'] = PB_ESCAPE,
    ['{'] = PB_ESCAPE,
    ['|'] = PB_ESCAPE,
    ['}'] = PB_ESCAPE,
    [0x7f ... 0xff] = PB_ESCAPE,
    ['-'] = PB_UNRESERVED,
    ['.'] = PB_UNRESERVED,
    ['_'] = PB_UNRESERVED,
    ['~'] = PB_UNRESERVED,
    ['0' ... '9'] = PB_UNRESERVED,
    ['A' ... 'Z'] = PB_UNRESERVED,
    ['a' ... 'z'] = PB_UNRESERVED,
};

void path_split(sv target, sv *path, sv *query)
{
    const char *q = target.n ? memchr(target.p, '?', target.n) : NULL;
    if (path)
        *path = q ? sv_make(target.p, (size_t)(q - target.p)) : target;
    if (query)
        *query = q ? sv_make(q + 1, target.n - (size_t)(q + 1 - target.p)) : (sv){NULL, 0};
}

/* The byte an escape at v.p[i] == '%' stands for, or -1. */
static int unescape(sv v, size_t i)
{
    if (v.n - i < 3)
        return -1;
    int hi = http_hex_plus1[(uint8_t)v.p[i + 1]] - 1;
    int lo = http_hex_plus1[(uint8_t)v.p[i + 2]] - 1;
    return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

/* What there is to do, found in one pass, so that the usual path is not copied. */
struct path_work {
    bool escaped_slash, normalize, merge;
};

static struct path_work path_look(sv p)
{
    struct path_work w = {0};
    char before = 0;
    for (size_t i = 0; i < p.n; before = p.p[i++]) {
        uint8_t c = (uint8_t)p.p[i];
        if (c == '%') {
            int d = unescape(p, i);
            w.escaped_slash |= d == '/' || d == '\\';
            w.normalize |= d >= 0 && (path_class[d] == PB_UNRESERVED || d == 0);
        } else if (c == '/') {
            w.merge |= before == '/';
        } else {
            w.normalize |= c == '\\' || path_class[c] == PB_ESCAPE || (c == '.' && before == '/');
        }
    }
    return w;
}

static size_t unescape_slashes(sv in, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        int d = in.p[i] == '%' ? unescape(in, i) : -1;
        if (d == '/' || d == '\\') {
            out[n++] = (char)d;
            i += 2;
        } else {
            out[n++] = in.p[i];
        }
    }
    return n;
}

/* One canonical byte sequence per input byte; decoded dots count as dots. `out` has room for three
 * bytes an input byte. False for an escaped NUL. */
static bool path_recode(sv in, char *out, size_t *n_out)
{
    static const char hex[] = "0123456789ABCDEF";
    /* Behind a '%' that begins no escape nothing is decoded, or "%%32e" would become "%2e" and mean
     * another path to whoever decodes next. */
    size_t n = 0, decode_from = 0;
    for (size_t i = 0; i < in.n; i++) {
        uint8_t c = (uint8_t)in.p[i];
        int d = c == '%' ? unescape(in, i) : -1;
        if (d == 0 || c == 0)
            return false;
        if (c == '%' && d < 0)
            decode_from = n + 3;
        if (d > 0 && path_class[d] == PB_UNRESERVED && n >= decode_from) {
            out[n++] = (char)d;
            i += 2;
        } else if (c == '\\') {
            out[n++] = '/';
        } else if (path_class[c] == PB_ESCAPE) {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        } else {
            out[n++] = (char)c;
        }
    }
    *n_out = n;
    return true;
}

/* RFC 3986 5.2.4 in place; p starts with '/'. */
static size_t path_remove_dots(char *p, size_t n)
{
    size_t w = 0, r = 0;
    while (r < n) {
        size_t end = r + 1;
        while (end < n && p[end] != '/')
            end++;
        size_t len = end - r - 1; /* of the segment behind the slash */
        bool dot = len == 1 && p[r + 1] == '.';
        bool dots = len == 2 && p[r + 1] == '.' && p[r + 2] == '.';
        if (dots)
            while (w > 0 && p[--w] != '/')
                ;
        if (dot || dots) {
            if (end == n)
                p[w++] = '/';
        } else {
            memmove(p + w, p + r, end - r);
            w += end - r;
        }
        r = end;
    }
    return w;
}

static size_t path_merge(char *p, size_t n)
{
    size_t w = 0;
    for (size_t r = 0; r < n; r++)
        if (p[r] != '/' || w == 0 || p[w - 1] != '/')
            p[w++] = p[r];
    return w;
}

static enum path_result path_rewrite(sv target, sv path, const struct path_opts *o, bool slashes,
                                     struct arena *a, sv *out)
{
    /* Recoding may triple the path; with the query it all goes into one allocation. */
    size_t tail = target.n - path.n;
    char *buf = arena_alloc(a, path.n * 4 + tail + 1);
    size_t n = path.n;
    if (slashes)
        n = unescape_slashes(path, buf);
    else
        memcpy(buf, path.p, n);
    if (o->normalize) {
        char *to = buf + path.n;
        if (!path_recode(sv_make(buf, n), to, &n))
            return PATH_REJECT;
        buf = to;
        if (n == 0 || buf[0] != '/')
            return PATH_REJECT;
        n = path_remove_dots(buf, n);
    }
    if (o->merge_slashes)
        n = path_merge(buf, n);
    memcpy(buf + n, path.p + path.n, tail);
    *out = sv_make(buf, n + tail);
    return PATH_OK;
}

enum path_result path_canonical(sv target, const struct path_opts *o, struct arena *a, sv *out)
{
    if (target.n == 0)
        return PATH_REJECT;
    if (memchr(target.p, '#', target.n))
        return PATH_REJECT;
    if (target.n == 1 && target.p[0] == '*') {
        *out = target;
        return PATH_OK;
    }
    sv path = path_only(target);
    struct path_work w = path_look(path);
    bool slashes = w.escaped_slash && o->escaped != PATH_SLASHES_KEEP;
    if (slashes && o->escaped == PATH_SLASHES_REJECT)
        return PATH_REJECT;
    bool rootless = o->normalize && (path.n == 0 || path.p[0] != '/');
    if (!slashes && !rootless && !(o->normalize && w.normalize) && !(o->merge_slashes && w.merge)) {
        *out = target;
        return PATH_OK;
    }
    enum path_result r = path_rewrite(target, path, o, slashes, a, out);
    return r == PATH_OK && slashes && o->escaped == PATH_SLASHES_REDIRECT ? PATH_REDIRECT : r;
}

/* ---- query ---- */

bool path_query_next(sv *rest, sv *key, sv *value)
{
    while (rest->n) {
        const char *amp = memchr(rest->p, '&', rest->n);
        sv part = amp ? sv_make(rest->p, (size_t)(amp - rest->p)) : *rest;
        *rest = amp ? sv_make(amp + 1, rest->n - part.n - 1) : (sv){NULL, 0};
        if (part.n == 0)
            continue;
        const char *eq = memchr(part.p, '=', part.n);
        *key = eq ? sv_make(part.p, (size_t)(eq - part.p)) : part;
        *value = eq ? sv_make(eq + 1, part.n - key->n - 1) : (sv){NULL, 0};
        return true;
    }
    return false;
}

sv path_query_get(sv query, sv key)
{
    sv k, v;
    while (path_query_next(&query, &k, &v))
        if (sv_eq(k, key))
            return v.p ? v : SV("");
    return (sv){NULL, 0};
}

sv path_decode(sv v, bool plus, struct arena *a)
{
    bool any = v.n && (memchr(v.p, '%', v.n) || (plus && memchr(v.p, '+', v.n)));
    if (!any)
        return v;
    char *out = arena_alloc(a, v.n);
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++) {
        int d = v.p[i] == '%' ? unescape(v, i) : -1;
        if (d >= 0)
            i += 2;
        else
            d = plus && v.p[i] == '+' ? ' ' : (uint8_t)v.p[i];
        out[n++] = (char)d;
    }
    return sv_make(out, n);
}

sv path_encode(sv v, const char *keep, struct arena *a)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = arena_alloc(a, v.n * 3);
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++) {
        uint8_t c = (uint8_t)v.p[i];
        if (path_class[c] == PB_UNRESERVED || (c && keep && strchr(keep, c))) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    return sv_make(out, n);
}
