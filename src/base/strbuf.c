#include "base/strbuf.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"

void strbuf_init(struct strbuf *s, size_t max)
{
    *s = (struct strbuf){.max = max};
}

void strbuf_fini(struct strbuf *s)
{
    free(s->p);
    strbuf_init(s, s->max);
}

void strbuf_reset(struct strbuf *s)
{
    s->n = 0;
    s->overflow = false;
    if (s->p)
        s->p[0] = 0;
}

/* There is no memory for a text so big: it is as one that is at its maximum. */
static size_t make_do(struct strbuf *s, size_t n)
{
    s->overflow = true;
    if (!s->p) {
        s->p = mem_alloc(64);
        s->cap = 64;
        s->p[0] = 0;
    }
    size_t room = s->cap - s->n - 1;
    return n < room ? n : room;
}

/* Room for up to n more bytes and the NUL; returns how many of the n fit under the maximum. */
static size_t make_room(struct strbuf *s, size_t n)
{
    size_t left = s->max > s->n ? s->max - s->n : 0;
    if (n > left) {
        n = left;
        s->overflow = true;
    }
    if (!s->p || s->cap - s->n < n + 1) {
        size_t want = s->cap < 64 ? 64 : s->cap * 2;
        if (want < s->n + n + 1)
            want = s->n + n + 1;
        if (want > s->max + 1)
            want = s->max + 1;
        char *p = want < MEM_PIECE / 2 ? mem_realloc(s->p, want) : mem_try_realloc(s->p, want);
        if (!p)
            return make_do(s, n);
        s->p = p;
        s->cap = want;
        s->p[s->n] = 0;
    }
    return n;
}

void strbuf_add(struct strbuf *s, const void *p, size_t n)
{
    n = make_room(s, n);
    if (n)
        memcpy(s->p + s->n, p, n);
    s->n += n;
    s->p[s->n] = 0;
}

void strbuf_add_sv(struct strbuf *s, sv v)
{
    strbuf_add(s, v.p, v.n);
}

void strbuf_add_c(struct strbuf *s, const char *cstr)
{
    if (cstr)
        strbuf_add(s, cstr, strlen(cstr));
}

void strbuf_add_ch(struct strbuf *s, char c)
{
    strbuf_add(s, &c, 1);
}

void strbuf_addv(struct strbuf *s, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    size_t room = s->p ? s->cap - s->n : 0;
    int r = vsnprintf(room ? s->p + s->n : NULL, room, fmt, ap);
    size_t n = r > 0 ? (size_t)r : 0;
    if (n < room) {
        s->n += n;
    } else {
        size_t fits = make_room(s, n);
        vsnprintf(s->p + s->n, fits + 1, fmt, again);
        s->n += fits;
    }
    va_end(again);
}

void strbuf_add_double(struct strbuf *s, double d)
{
    char text[40];
    if (isnan(d)) { /* never "-nan" */
        strbuf_add_c(s, "nan");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    strbuf_add_c(s, text);
}

void strbuf_addf(struct strbuf *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    strbuf_addv(s, fmt, ap);
    va_end(ap);
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), or 0. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

static void add_json_ascii(struct strbuf *s, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char out[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    static const char short_from[] = "\"\\\b\f\n\r\t", short_to[] = "\"\\bfnrt";
    const char *hit = c ? strchr(short_from, c) : NULL;
    if (hit) {
        out[1] = short_to[hit - short_from];
        strbuf_add(s, out, 2);
    } else {
        strbuf_add(s, out, 6);
    }
}

void strbuf_add_json(struct strbuf *s, sv v)
{
    const unsigned char *p = (const unsigned char *)(v.p ? v.p : "");
    size_t plain = 0, i = 0;
    strbuf_add_ch(s, '"');
    while (i < v.n) {
        size_t len = utf8_len(p + i, v.n - i);
        if (len && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && p[i] != 0x7f) {
            i += len;
            continue;
        }
        strbuf_add(s, p + plain, i - plain);
        if (len)
            add_json_ascii(s, p[i]);
        else
            strbuf_add(s, "\xef\xbf\xbd", 3);
        plain = ++i;
    }
    strbuf_add(s, p + plain, v.n - plain);
    strbuf_add_ch(s, '"');
}

void strbuf_cut(struct strbuf *s, size_t n)
{
    if (n >= s->n)
        return;
    s->n = n;
    s->p[n] = 0;
}

char *strbuf_steal(struct strbuf *s, size_t *n)
{
    make_room(s, 0);
    char *p = s->p;
    if (n)
        *n = s->n;
    s->p = NULL;
    strbuf_init(s, s->max);
    return p;
}
