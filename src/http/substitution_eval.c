/* From values to text: logs, header values, JSON. */
#include <stdio.h>
#include "http/chars.h"
#include "http/substitution_int.h"

#define OPS_ON_STACK 24

/* Length of the UTF-8 character at p that is worth printing, 0 when there is none: broken bytes
 * and the C1 controls, which terminals obey. */
static size_t utf8_span(const char *p, size_t left)
{
    uint8_t c = (uint8_t)p[0];
    size_t n = c >= 0xf0 && c <= 0xf4  ? 4
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xc2 && c < 0xe0 ? 2
                                       : 0;
    if (n == 0 || n > left)
        return 0;
    uint32_t cp = c & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (((uint8_t)p[i] & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | ((uint8_t)p[i] & 0x3f);
    }
    bool overlong = (n == 3 && cp < 0x800) || (n == 4 && cp < 0x10000);
    if (overlong || cp < 0xa0 || (cp >= 0xd800 && cp <= 0xdfff) || cp > 0x10ffff)
        return 0;
    return n;
}

static size_t escape_char(char out[8], uint8_t c)
{
    const char *two = c == '"'    ? "\\\""
                      : c == '\\' ? "\\\\"
                      : c == '\n' ? "\\n"
                      : c == '\r' ? "\\r"
                      : c == '\t' ? "\\t"
                                  : NULL;
    if (two) {
        memcpy(out, two, 2);
        return 2;
    }
    return (size_t)snprintf(out, 8, "\\x%02x", c);
}

#define EACH_BYTE(b) (0x0101010101010101ull * (b))
#define HIGH_BITS    EACH_BYTE(0x80)

static inline uint64_t zero_bytes(uint64_t x)
{
    return (x - EACH_BYTE(1)) & ~x & HIGH_BITS;
}

static inline bool eight_plain(const char *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    uint64_t below_space = (x - EACH_BYTE(0x20)) & ~x & HIGH_BITS;
    return !((x & HIGH_BITS) | below_space | zero_bytes(x ^ EACH_BYTE(0x7f)) |
             zero_bytes(x ^ EACH_BYTE('"')) | zero_bytes(x ^ EACH_BYTE('\\')));
}

static inline bool one_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* How many bytes from p need no escape and no second look. */
static size_t plain_span(const char *p, size_t n)
{
    size_t i = 0;
    while (i + 8 <= n && eight_plain(p + i))
        i += 8;
    if (n >= 8 && i + 8 > n && eight_plain(p + n - 8))
        return n;
    while (i < n && one_plain((uint8_t)p[i]))
        i++;
    return i;
}

void substitution_escape(struct strbuf *out, sv v)
{
    size_t from = 0, i = 0;
    while (i < v.n) {
        i += plain_span(v.p + i, v.n - i);
        if (i == v.n)
            break;
        uint8_t c = (uint8_t)v.p[i];
        size_t fine = c >= 0x80 ? utf8_span(v.p + i, v.n - i) : 0;
        if (fine) {
            i += fine;
            continue;
        }
        char esc[8];
        strbuf_add(out, v.p + from, i - from);
        strbuf_add(out, esc, escape_char(esc, c));
        from = ++i;
    }
    if (v.n > from)
        strbuf_add(out, v.p + from, v.n - from);
}

/* Decimal digits into the end of buf. */
static sv number_text(uint64_t n, char buf[24])
{
    size_t at = 24;
    do {
        buf[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    return sv_make(buf + at, 24 - at);
}

/* The plain text of a value, cut to the operator's length; not yet escaped. */
static sv plain(const struct sub_op *op, const struct sub_value *v, char buf[24], struct arena *a)
{
    switch (v->kind) {
    case SUB_VALUE_TEXT:
        return sv_first(v->text, op->max);
    case SUB_VALUE_NUMBER:
        return number_text(v->number, buf);
    case SUB_VALUE_JSON:
        return sv_first(substitution_json_text(v->text, a), op->max);
    default:
        return (sv){0};
    }
}

void substitution_eval(const struct substitution *f, const struct substitution_ctx *c,
                       struct strbuf *out)
{
    for (uint32_t i = 0; i < f->n; i++) {
        const struct sub_op *op = &f->ops[i];
        char buf[24];
        if (op->id == SUB_LITERAL) {
            strbuf_add_sv(out, op->a);
            continue;
        }
        struct sub_value v = substitution_value(op, c);
        if (v.kind == SUB_VALUE_NONE) {
            if (!f->omit_empty)
                strbuf_add_ch(out, '-');
            continue;
        }
        sv text = plain(op, &v, buf, c->si->arena);
        if (f->use == SUBSTITUTION_LOG && v.kind != SUB_VALUE_NUMBER)
            substitution_escape(out, text);
        else
            strbuf_add_sv(out, text);
    }
}

static void make_field_value(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (http_value_bad[(uint8_t)p[i]])
            p[i] = '_';
}

sv substitution_eval_arena(const struct substitution *f, const struct substitution_ctx *c,
                           struct arena *a)
{
    sv whole;
    if (substitution_constant(f, &whole))
        return whole;
    struct part {
        sv text;
        char buf[24];
    } stack[OPS_ON_STACK], *parts = stack;
    if (f->n > OPS_ON_STACK)
        parts = arena_array(a, struct part, f->n);
    size_t total = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct sub_op *op = &f->ops[i];
        if (op->id == SUB_LITERAL) {
            parts[i].text = op->a;
        } else {
            struct sub_value v = substitution_value(op, c);
            parts[i].text = plain(op, &v, parts[i].buf, a);
            if (v.kind == SUB_VALUE_NONE && !f->omit_empty)
                parts[i].text = SV("-");
        }
        total += parts[i].text.n;
    }
    char *p = arena_alloc(a, total + 1);
    size_t n = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        if (parts[i].text.n)
            memcpy(p + n, parts[i].text.p, parts[i].text.n);
        n += parts[i].text.n;
    }
    if (f->use == SUBSTITUTION_HEADER)
        make_field_value(p, n);
    return sv_make(p, n);
}

/* One operator alone: its own type. */
static bool single_json(const struct substitution *f, const struct substitution_ctx *c,
                        struct strbuf *out)
{
    char buf[24];
    const struct sub_op *op = &f->ops[0];
    if (op->id == SUB_TYPED_CEL)
        return substitution_typed(op, c, out);
    struct sub_value v = substitution_value(op, c);
    switch (v.kind) {
    case SUB_VALUE_NONE:
        strbuf_add_c(out, "null");
        return false;
    case SUB_VALUE_NUMBER:
        strbuf_add_sv(out, number_text(v.number, buf));
        return true;
    case SUB_VALUE_JSON:
        if (op->max == UINT32_MAX)
            strbuf_add_sv(out, v.text);
        else
            strbuf_add_json(out, plain(op, &v, buf, c->si->arena));
        return true;
    default:
        strbuf_add_json(out, sv_first(v.text, op->max));
        return v.text.n > 0 || !f->omit_empty;
    }
}

bool substitution_eval_json(const struct substitution *f, const struct substitution_ctx *c,
                            struct strbuf *out)
{
    if (f->n == 1 && f->ops[0].id != SUB_LITERAL)
        return single_json(f, c, out);
    struct substitution raw = *f;
    raw.use = SUBSTITUTION_BODY;
    sv text = substitution_eval_arena(&raw, c, c->si->arena);
    strbuf_add_json(out, text);
    return text.n > 0 || !f->omit_empty;
}
