/* JSON as RFC 8259 has it, into a node tree: the quick way for configuration that programs wrote.
 * What is not strict JSON is left to the YAML reader, which accepts more. */
#include <string.h>
#include "api/node_build.h"
#include "api/pb_internal.h"

/* The text is copied once; scalars are views into the copy and escapes are undone in place. */
struct json {
    char *p, *end, *line_start;
    uint32_t line;
    struct node_build b;
};

static uint32_t column(const struct json *j, const char *at)
{
    return (uint32_t)(at - j->line_start) + 1;
}

static int no_json(void)
{
    return E_UNSUPPORTED;
}

static void space(struct json *j)
{
    if (j->p < j->end && (unsigned char)*j->p > ' ')
        return;
    for (; j->p < j->end; j->p++) {
        if (*j->p == '\n') {
            j->line++;
            j->line_start = j->p + 1;
        } else if (*j->p != ' ' && *j->p != '\t' && *j->p != '\r') {
            return;
        }
    }
}

static int hex4(const char *p, const char *end, uint32_t *out)
{
    uint32_t v = 0;
    if (end - p < 4)
        return E_INVALID;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            d = (uint32_t)((c | 0x20) - 'a') + 10;
        else
            return E_INVALID;
        v = v << 4 | d;
    }
    *out = v;
    return 0;
}

static char *put_utf8(char *w, uint32_t c)
{
    if (c < 0x80) {
        *w++ = (char)c;
    } else if (c < 0x800) {
        *w++ = (char)(0xc0 | c >> 6);
        *w++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *w++ = (char)(0xe0 | c >> 12);
        *w++ = (char)(0x80 | (c >> 6 & 0x3f));
        *w++ = (char)(0x80 | (c & 0x3f));
    } else {
        *w++ = (char)(0xf0 | c >> 18);
        *w++ = (char)(0x80 | (c >> 12 & 0x3f));
        *w++ = (char)(0x80 | (c >> 6 & 0x3f));
        *w++ = (char)(0x80 | (c & 0x3f));
    }
    return w;
}

/* \uXXXX, after the 'u'; a pair of surrogates makes one character. */
static int unicode(struct json *j, char **w)
{
    uint32_t c, low;
    if (hex4(j->p, j->end, &c) < 0)
        return no_json();
    j->p += 4;
    if (c >= 0xd800 && c < 0xdc00 && j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u' &&
        hex4(j->p + 2, j->end, &low) == 0 && low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        j->p += 6;
    }
    if (c == 0 || (c >= 0xd800 && c < 0xe000))
        return node_error(j->b.err, j->b.file, j->line, E_INVALID, "\\u%04x is not a character", c);
    *w = put_utf8(*w, c);
    return 0;
}

static int escape(struct json *j, char **w)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->p == j->end)
        return no_json();
    char c = *j->p++;
    if (c == 'u')
        return unicode(j, w);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return no_json();
    *(*w)++ = to[at - from];
    return 0;
}

/* Past the bytes that a string holds as they are: up to a quote, backslash or control byte. */
static char *plain_bytes(char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t w;
    for (; end - p >= 8; p += 8) {
        memcpy(&w, p, 8);
        uint64_t quote = w ^ ones * '"', back = w ^ ones * '\\';
        uint64_t hit =
            ((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) | ((back - ones) & ~back);
        if (hit & tops) /* the lowest marked byte is the first one; above it marks may be false */
            return p + __builtin_ctzll(hit & tops) / 8;
    }
    while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
        p++;
    return p;
}

/* At the opening quote; *out is what stands between the quotes. */
static int string(struct json *j, sv *out)
{
    char *start = ++j->p, *w;
    j->p = plain_bytes(j->p, j->end);
    for (w = j->p; j->p < j->end && *j->p != '"';) {
        if ((unsigned char)*j->p < 0x20)
            return no_json();
        if (*j->p != '\\') {
            *w++ = *j->p++;
            continue;
        }
        j->p++;
        int rc = escape(j, &w);
        if (rc < 0)
            return rc;
    }
    if (j->p == j->end)
        return no_json();
    j->p++;
    *out = sv_make(start, (size_t)(w - start));
    return 0;
}

/* A number, true, false or null. */
static int word(struct json *j)
{
    char *start = j->p;
    while (j->p < j->end && (unsigned char)*j->p > ' ' && *j->p != ',' && *j->p != ']' &&
           *j->p != '}')
        j->p++;
    sv v = sv_make(start, (size_t)(j->p - start));
    bool null = sv_eq(v, SV("null"));
    if (!null && !sv_eq(v, SV("true")) && !sv_eq(v, SV("false")) && !node_text_is_number(v))
        return no_json();
    node_build_scalar(&j->b, null ? NODE_NULL : NODE_SCALAR, v, false, j->line, column(j, start));
    return 0;
}

/* Key and colon of a map's next member. */
static int key(struct json *j)
{
    sv k;
    uint32_t line = j->line;
    space(j);
    if (j->p == j->end || *j->p != '"')
        return no_json();
    line = j->line;
    int rc = string(j, &k);
    if (rc < 0)
        return rc;
    space(j);
    if (j->p == j->end || *j->p != ':')
        return no_json();
    j->p++;
    node_build_key(&j->b, k, line);
    return 0;
}

/* What may follow a complete value: closing brackets, then a comma (and the next key), or nothing
 * at the very end. */
static int after_value(struct json *j)
{
    for (;;) {
        space(j);
        if (j->b.depth == 0)
            return j->p == j->end ? 0 : no_json();
        bool map = j->b.open[j->b.depth - 1].node->kind == NODE_MAP;
        if (j->p == j->end)
            return no_json();
        char c = *j->p++;
        if (c == ',')
            return map ? key(j) : 0;
        if (c != (map ? '}' : ']'))
            return no_json();
        int rc = node_build_close(&j->b);
        if (rc < 0)
            return rc;
    }
}

/* An opening bracket; an empty collection is closed at once by after_value(). */
static int open(struct json *j, bool *has_members)
{
    bool map = *j->p == '{';
    int rc = node_build_open(&j->b, map ? NODE_MAP : NODE_SEQ, j->line, column(j, j->p));
    if (rc < 0)
        return rc;
    j->p++;
    space(j);
    *has_members = j->p < j->end && *j->p != (map ? '}' : ']');
    return *has_members && map ? key(j) : 0;
}

static int value(struct json *j)
{
    space(j);
    if (j->p == j->end)
        return no_json();
    if (*j->p == '{' || *j->p == '[') {
        bool has_members;
        int rc = open(j, &has_members);
        return rc < 0 || has_members ? rc : after_value(j);
    }
    if (*j->p == '"') {
        uint32_t col = column(j, j->p);
        sv text;
        int rc = string(j, &text);
        if (rc < 0)
            return rc;
        node_build_scalar(&j->b, NODE_SCALAR, text, true, j->line, col);
    } else {
        int rc = word(j);
        if (rc < 0)
            return rc;
    }
    return after_value(j);
}

int node_parse_json(sv text, uint32_t line, const char *file, struct arena *a, struct node **out,
                    struct error *err)
{
    if (!pb_utf8_ok(text))
        return no_json();
    struct json j = {.line = line};
    j.p = j.line_start = arena_cstr(a, text);
    j.end = j.p + text.n;
    node_build_init(&j.b, a, file, err);
    int rc = 0;
    while (rc == 0 && !j.b.root)
        rc = value(&j);
    if (rc == 0)
        *out = j.b.root;
    node_build_fini(&j.b);
    return rc;
}
