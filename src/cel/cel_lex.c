/* Tokens of an expression. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/pb.h"
#include "cel/cel_int.h"

int cel_bad(struct error *err, size_t pos, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_setv(err, code, fmt, ap);
    va_end(ap);
    error_prefix(err, "at %zu: ", pos + 1);
    return code;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int hex_digit(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static char peek(const struct cel_lex *l, size_t ahead)
{
    return l->at + ahead < l->text.n ? l->text.p[l->at + ahead] : 0;
}

static void skip_space(struct cel_lex *l)
{
    for (;;) {
        char c = peek(l, 0);
        if (l->at < l->text.n && (c == ' ' || (c >= '\t' && c <= '\r')))
            l->at++;
        else if (c == '/' && peek(l, 1) == '/')
            while (l->at < l->text.n && l->text.p[l->at] != '\n')
                l->at++;
        else
            return;
    }
}

/* ---- numbers ---- */

static int whole(sv v, bool negative, bool is_unsigned, struct cel_value *out)
{
    uint64_t n = 0;
    bool hex = v.n > 2 && v.p[0] == '0' && (v.p[1] | 0x20) == 'x';
    for (size_t i = hex ? 2 : 0; i < v.n; i++) {
        uint64_t base = hex ? 16 : 10, d = (uint64_t)hex_digit(v.p[i]);
        if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, d, &n))
            return E_INVALID;
    }
    if (is_unsigned) {
        if (negative)
            return E_INVALID;
        *out = cel_uint(n);
        return 0;
    }
    if (n > (uint64_t)INT64_MAX + negative)
        return E_INVALID;
    *out = cel_int(negative ? (int64_t)(0 - n) : (int64_t)n);
    return 0;
}

int cel_number(sv text, bool negative, struct cel_value *out)
{
    bool is_unsigned = text.n && (text.p[text.n - 1] | 0x20) == 'u';
    bool hex = text.n > 2 && (text.p[1] | 0x20) == 'x';
    bool real = false;
    for (size_t i = 0; i < text.n && !hex; i++)
        real = real || text.p[i] == '.' || (text.p[i] | 0x20) == 'e';
    if (!real)
        return whole(sv_first(text, text.n - is_unsigned), negative, is_unsigned, out);
    char copy[400];
    if (text.n >= sizeof(copy))
        return E_INVALID;
    snprintf(copy, sizeof(copy), "%.*s", SV_ARG(text));
    double d = strtod(copy, NULL);
    *out = cel_double(negative ? -d : d);
    return 0;
}

static void digits(struct cel_lex *l)
{
    while (is_digit(peek(l, 0)))
        l->at++;
}

static int number(struct cel_lex *l)
{
    if (peek(l, 0) == '0' && (peek(l, 1) | 0x20) == 'x' && hex_digit(peek(l, 2)) >= 0) {
        for (l->at += 2; hex_digit(peek(l, 0)) >= 0;)
            l->at++;
        l->at += (peek(l, 0) | 0x20) == 'u';
    } else {
        bool real = false;
        digits(l);
        if (peek(l, 0) == '.' && is_digit(peek(l, 1))) {
            real = true;
            l->at++;
            digits(l);
        }
        size_t sign = peek(l, 1) == '+' || peek(l, 1) == '-';
        if ((peek(l, 0) | 0x20) == 'e' && is_digit(peek(l, 1 + sign))) {
            real = true;
            l->at += 1 + sign;
            digits(l);
        }
        if (!real)
            l->at += (peek(l, 0) | 0x20) == 'u';
    }
    l->kind = CEL_T_CONST;
    l->number = true;
    l->token = sv_make(l->text.p + l->pos, l->at - l->pos);
    /* The smallest int is only one with its sign: the parser reads the text again. */
    if (cel_number(l->token, false, &l->value) != 0 && cel_number(l->token, true, &l->value) != 0)
        return cel_bad(l->err, l->pos, E_INVALID, "'%.*s' is no number that fits",
                       SV_ARG(l->token));
    return 0;
}

/* ---- strings ---- */

static size_t put_utf8(char *p, uint32_t c)
{
    if (c < 0x80) {
        p[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        p[i] = (char)(0x80 | (c & 0x3f));
    p[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}

/* n digits of a base at v. */
static bool code_at(sv v, size_t n, int base, uint32_t *out)
{
    uint32_t c = 0;
    if (v.n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int d = hex_digit(v.p[i]);
        if (d < 0 || d >= base)
            return false;
        c = c * (uint32_t)base + (uint32_t)d;
    }
    *out = c;
    return true;
}

/* v begins behind the backslash. Writes at most 4 bytes; 0 when it is no escape. */
static size_t escape(sv v, bool bytes, char *out, size_t *used)
{
    static const char plain[] = "a\ab\bf\fn\nr\rt\tv\v\\\\??\"\"''``";
    char c = v.n ? v.p[0] : 0;
    uint32_t code;
    for (const char *p = plain; c && *p; p += 2) {
        if (*p == c) {
            *out = p[1];
            *used = 1;
            return 1;
        }
    }
    size_t n = c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    bool ok;
    if (n) {
        ok = code_at(sv_from(v, 1), n, 16, &code) && (n == 2 || !bytes);
        *used = n + 1;
    } else {
        ok = c >= '0' && c <= '3' && code_at(v, 3, 8, &code);
        *used = 3;
    }
    if (!ok || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    if (bytes) {
        *out = (char)code;
        return 1;
    }
    return put_utf8(out, code);
}

/* Index of the closing quotes from l->at on, or -1. */
static ptrdiff_t closing(const struct cel_lex *l, char quote, size_t n, bool raw)
{
    for (size_t i = l->at; i < l->text.n; i++) {
        char c = l->text.p[i];
        if (c == '\\' && !raw) {
            i++;
        } else if (n == 1 && (c == '\n' || c == '\r')) {
            return -1;
        } else if (c == quote && (n == 1 || (i + 2 < l->text.n && l->text.p[i + 1] == quote &&
                                             l->text.p[i + 2] == quote))) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

static int unescape(struct cel_lex *l, sv body, size_t pos, bool bytes, sv *out)
{
    char *p = arena_alloc(l->a, body.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < body.n; i++) {
        if (body.p[i] != '\\') {
            p[n++] = body.p[i];
            continue;
        }
        size_t used = 0, made = escape(sv_from(body, i + 1), bytes, p + n, &used);
        if (made == 0)
            return cel_bad(l->err, pos + i, E_INVALID, "is no escape of a %s",
                           bytes ? "bytes literal" : "string");
        n += made;
        i += used;
    }
    *out = sv_make(p, n);
    return 0;
}

/* prefix: bytes of r, b before the quote. */
static int string(struct cel_lex *l, size_t prefix)
{
    bool raw = false, bytes = false;
    for (size_t i = 0; i < prefix; i++) {
        raw = raw || (peek(l, i) | 0x20) == 'r';
        bytes = bytes || (peek(l, i) | 0x20) == 'b';
    }
    l->at += prefix;
    char quote = peek(l, 0);
    size_t n = peek(l, 1) == quote && peek(l, 2) == quote ? 3 : 1;
    l->at += n;
    ptrdiff_t end = closing(l, quote, n, raw);
    if (end < 0)
        return cel_bad(l->err, l->pos, E_INVALID, "the string has no end");
    sv body = sv_make(l->text.p + l->at, (size_t)end - l->at), v = body;
    if (!raw) {
        int rc = unescape(l, body, l->at, bytes, &v);
        if (rc != 0)
            return rc;
    }
    if (!bytes && !pb_utf8_ok(v))
        return cel_bad(l->err, l->pos, E_INVALID, "the string is not UTF-8");
    l->at = (size_t)end + n;
    l->kind = CEL_T_CONST;
    l->value = (struct cel_value){.type = bytes ? CEL_BYTES : CEL_STRING, .s = v};
    return 0;
}

/* How many bytes of r, b stand before a quote; -1: this is no string. */
static int string_prefix(const struct cel_lex *l)
{
    char a = peek(l, 0), b = (char)(peek(l, 1) | 0x20), low = (char)(a | 0x20);
    if (a == '"' || a == '\'')
        return 0;
    char q = peek(l, 1);
    if ((low == 'r' || low == 'b') && (q == '"' || q == '\''))
        return 1;
    q = peek(l, 2);
    if (((low == 'b' && b == 'r') || (low == 'r' && b == 'b')) && (q == '"' || q == '\''))
        return 2;
    return -1;
}

static int operator(struct cel_lex *l)
{
    static const sv two[] = {SV_INIT("&&"), SV_INIT("||"), SV_INIT("=="),
                             SV_INIT("!="), SV_INIT("<="), SV_INIT(">=")};
    sv rest = sv_from(l->text, l->at);
    size_t n = rest.n >= 2 && sv_in(sv_first(rest, 2), two, sizeof(two) / sizeof(two[0])) ? 2 : 1;
    if (n == 1 && !strchr("()[]{}.,:?!-+*/%<>", rest.p[0]))
        return cel_bad(l->err, l->pos, E_INVALID, "no expression has '%c' here",
                       rest.p[0] > ' ' && rest.p[0] < 0x7f ? rest.p[0] : '?');
    l->kind = CEL_T_OP;
    l->token = sv_first(rest, n);
    l->at += n;
    return 0;
}

int cel_lex_next(struct cel_lex *l)
{
    skip_space(l);
    l->pos = l->at;
    l->number = false;
    l->token = (sv){0};
    if (l->at >= l->text.n) {
        l->kind = CEL_T_END;
        return 0;
    }
    char c = peek(l, 0);
    int prefix = string_prefix(l);
    if (prefix >= 0)
        return string(l, (size_t)prefix);
    if (is_digit(c) || (c == '.' && is_digit(peek(l, 1))))
        return number(l);
    if (!name_start(c))
        return c ? operator(l) : cel_bad(l->err, l->pos, E_INVALID, "no expression has NUL");
    while (name_start(peek(l, 0)) || is_digit(peek(l, 0)))
        l->at++;
    l->kind = CEL_T_NAME;
    l->token = sv_make(l->text.p + l->pos, l->at - l->pos);
    return 0;
}
