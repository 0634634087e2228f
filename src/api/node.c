#include "api/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/node_build.h"
#include "base/map.h"
#include "base/mem.h"

#define FEW 16 /* up to so many keys are compared with one another, more go into a map */

int node_error(struct error *err, const char *file, uint32_t line, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_setv(err, code, fmt, ap);
    va_end(ap);
    error_prefix(err, "%s:%u: ", file, line);
    return code;
}

void node_build_init(struct node_build *b, struct arena *a, const char *file, struct error *err)
{
    *b = (struct node_build){.a = a, .file = file, .err = err};
}

void node_build_fini(struct node_build *b)
{
    free(b->items);
    b->items = NULL;
}

int node_build_open(struct node_build *b, enum node_kind kind, uint32_t line, uint32_t column)
{
    if (b->depth == NODE_MAX_DEPTH)
        return node_error(b->err, b->file, line, E_LIMIT, "nested deeper than %d", NODE_MAX_DEPTH);
    struct node *n = arena_new(b->a, struct node);
    n->kind = kind;
    n->line = line;
    n->column = column;
    n->file = b->file;
    b->open[b->depth].node = n;
    b->open[b->depth].first = b->n_items;
    b->open[b->depth].key = b->key;
    b->open[b->depth].key_line = b->key_line;
    b->depth++;
    return 0;
}

void node_build_key(struct node_build *b, sv key, uint32_t line)
{
    b->key = key;
    b->key_line = line;
}

void node_build_add(struct node_build *b, struct node *n)
{
    if (b->depth == 0) {
        b->root = n;
        return;
    }
    if (b->n_items == b->cap_items) {
        b->cap_items = b->cap_items ? b->cap_items * 2 : 64;
        b->items = mem_realloc(b->items, b->cap_items * sizeof *b->items);
    }
    b->items[b->n_items++] = (struct node_item){n, b->key, b->key_line};
}

void node_build_scalar(struct node_build *b, enum node_kind kind, sv text, bool quoted,
                       uint32_t line, uint32_t column)
{
    struct node *n = arena_alloc(b->a, sizeof *n);
    *n = (struct node){.kind = kind,
                       .quoted = quoted,
                       .line = line,
                       .column = column,
                       .file = b->file,
                       .text = text};
    node_build_add(b, n);
}

static int duplicate(const struct node_build *b, const struct node_item *again, uint32_t before)
{
    return node_error(b->err, b->file, again->key_line, E_INVALID,
                      "key \"%.*s\" is given twice (first in line %u)", SV_ARG(again->key), before);
}

static int check_keys(const struct node_build *b, const struct node_item *v, uint32_t n)
{
    struct map seen;
    int rc = 0;
    if (n <= FEW) {
        for (uint32_t i = 1; i < n; i++)
            for (uint32_t k = 0; k < i; k++)
                if (sv_eq(v[i].key, v[k].key))
                    return duplicate(b, &v[i], v[k].key_line);
        return 0;
    }
    map_init_borrow(&seen);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        const struct node_item *before = map_put(&seen, v[i].key, (void *)&v[i]);
        if (before)
            rc = duplicate(b, &v[i], before->key_line);
    }
    map_fini(&seen);
    return rc;
}

int node_build_close(struct node_build *b)
{
    b->depth--;
    struct node *n = b->open[b->depth].node;
    const struct node_item *v = b->items ? b->items + b->open[b->depth].first : NULL;
    n->n = b->n_items - b->open[b->depth].first;
    bool map = n->kind == NODE_MAP && n->n;
    int rc = map ? check_keys(b, v, n->n) : 0;
    if (rc < 0)
        return rc;
    if (n->n) {
        size_t each = sizeof *n->v + (map ? sizeof *n->keys + sizeof *n->key_lines : 0);
        n->v = arena_alloc(b->a, n->n * each); /* one block: values, keys, lines of keys */
        for (uint32_t i = 0; i < n->n; i++)
            n->v[i] = v[i].node;
    }
    if (map) {
        n->keys = (sv *)(void *)(n->v + n->n);
        n->key_lines = (uint32_t *)(void *)(n->keys + n->n);
        for (uint32_t i = 0; i < n->n; i++) {
            n->keys[i] = v[i].key;
            n->key_lines[i] = v[i].key_line;
        }
    }
    b->n_items = b->open[b->depth].first;
    b->key = b->open[b->depth].key;
    b->key_line = b->open[b->depth].key_line;
    node_build_add(b, n);
    return 0;
}

/* ---- where documents begin and end ---- */

/* "---" or "..." at the start of a line, then its end or a blank. */
static bool is_marker(const char *p, const char *end, char c)
{
    return end - p >= 3 && p[0] == c && p[1] == c && p[2] == c &&
           (end - p == 3 || p[3] == ' ' || p[3] == '\t' || p[3] == '\n' || p[3] == '\r');
}

/* Markers end a document even inside a block or quoted scalar, so lines decide without parsing:
 * a document that is broken does not take the next ones with it. */
static sv cut_document(sv text, size_t *pos, uint32_t *line)
{
    const char *start = text.p + *pos, *end = text.p + text.n, *p = start;
    bool begun = false;
    uint32_t lines = 0;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *next = nl ? nl + 1 : end;
        if (is_marker(p, end, '.')) {
            lines += nl != NULL;
            p = next;
            break;
        }
        if (is_marker(p, end, '-')) {
            if (begun)
                break;
            begun = true;
        } else if (*p != '#' && *p != '%' && *p != '\n' && *p != '\r') {
            begun = true;
        }
        lines += nl != NULL;
        p = next;
    }
    *pos += (size_t)(p - start);
    *line += lines;
    return sv_make(start, (size_t)(p - start));
}

static bool looks_like_json(sv doc)
{
    for (size_t i = 0; i < doc.n; i++)
        if (!strchr(" \t\r\n", doc.p[i]))
            return strchr("{[\"", doc.p[i]) != NULL;
    return false;
}

static int parse_document(sv doc, uint32_t line, const char *file, struct arena *a,
                          struct node **out, struct error *err)
{
    const char *nul = memchr(doc.p, 0, doc.n);
    if (nul) {
        for (const char *p = doc.p; p < nul; p++)
            line += *p == '\n';
        return node_error(err, file, line, E_INVALID, "contains a NUL byte");
    }
    if (looks_like_json(doc)) {
        int rc = node_parse_json(doc, line, file, a, out, err);
        if (rc != E_UNSUPPORTED)
            return rc;
    }
    return node_parse_yaml(doc, line, file, a, out, err);
}

int node_parse_next(sv text, size_t *pos, uint32_t *line, const char *file, struct arena *a,
                    struct node **out, struct error *err)
{
    if (*line == 0)
        *line = 1;
    if (text.n > NODE_MAX_BYTES) {
        *pos = text.n;
        return node_error(err, file, *line, E_LIMIT, "larger than %zu MiB", NODE_MAX_BYTES >> 20);
    }
    while (*pos < text.n) {
        uint32_t first = *line;
        sv doc = cut_document(text, pos, line);
        struct node *n = NULL;
        int rc = parse_document(doc, first, file, a, &n, err);
        if (rc < 0)
            return rc;
        if (n) {
            *out = n;
            return 0;
        }
    }
    return E_EOF;
}

int node_parse(sv text, const char *file, struct arena *a, struct node **out, struct error *err)
{
    size_t pos = 0;
    uint32_t line = 1;
    struct node *n = NULL, *more = NULL;
    int rc = node_parse_next(text, &pos, &line, file, a, &n, err);
    if (rc == E_EOF)
        return node_error(err, file, 1, E_INVALID, "empty");
    if (rc < 0)
        return rc;
    rc = node_parse_next(text, &pos, &line, file, a, &more, err);
    if (rc == 0)
        return node_error(err, file, more->line, E_INVALID,
                          "a second document, where only one is expected");
    if (rc != E_EOF)
        return rc;
    *out = n;
    return 0;
}

/* ---- reading ---- */

static const struct node *member(const struct node *n, sv key)
{
    if (!n || n->kind != NODE_MAP)
        return NULL;
    for (uint32_t i = 0; i < n->n; i++)
        if (sv_eq(n->keys[i], key))
            return n->v[i];
    return NULL;
}

const struct node *node_get(const struct node *n, const char *key)
{
    return member(n, sv_of(key));
}

const struct node *node_path(const struct node *n, const char *dotted)
{
    sv rest = sv_of(dotted), head;
    bool more = true;
    while (n && more) {
        more = sv_cut(rest, '.', &head, &rest);
        n = member(n, head);
    }
    return n;
}

sv node_str(const struct node *n, const char *key)
{
    const struct node *m = node_get(n, key);
    if (!m || m->kind != NODE_SCALAR)
        return sv_make(NULL, 0);
    return m->text.p ? m->text : SV("");
}

bool node_bool(const struct node *n, const char *key, bool dflt)
{
    const struct node *m = node_get(n, key);
    bool v = dflt;
    if (!m || m->kind != NODE_SCALAR || m->quoted || node_text_bool(m->text, &v) < 0)
        return dflt;
    return v;
}

int64_t node_int(const struct node *n, const char *key, int64_t dflt)
{
    int64_t v;
    sv text = node_str(n, key);
    return text.p && sv_to_i64(text, &v) == 0 ? v : dflt;
}

int node_text_bool(sv text, bool *out)
{
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes",
                                      "YES",  "on",   "On",   "ON"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No",
                                     "NO",    "off",   "Off",   "OFF"};
    if (text.n < 2 || text.n > 5)
        return E_INVALID;
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (sv_eq_c(text, yes[i]) || sv_eq_c(text, no[i])) {
            *out = sv_eq_c(text, yes[i]);
            return 0;
        }
    }
    return E_INVALID;
}

bool node_text_is_number(sv text)
{
    const char *p = text.p, *end = p + text.n, *from;
    p += text.n && *p == '-';
    from = p;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    if (p == from || (*from == '0' && p - from > 1))
        return false;
    if (p < end && *p == '.') {
        from = ++p;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == from)
            return false;
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        from = p;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == from)
            return false;
    }
    return p == end;
}

enum node_scalar node_scalar_type(const struct node *n)
{
    bool b;
    if (n->kind == NODE_NULL)
        return SCALAR_NULL;
    if (n->quoted)
        return SCALAR_STRING;
    if (node_text_is_number(n->text))
        return SCALAR_NUMBER;
    return node_text_bool(n->text, &b) == 0 ? SCALAR_BOOL : SCALAR_STRING;
}

struct node *node_outline(const struct node *n, struct arena *a)
{
    struct node *out = arena_zalloc(a, sizeof *out);

    out->kind = n->kind;
    out->line = n->line;
    out->column = n->column;
    out->n = n->kind == NODE_MAP || n->kind == NODE_SEQ ? n->n : 0;
    if (!out->n)
        return out;
    out->v = arena_array(a, struct node *, out->n);
    if (n->kind == NODE_MAP) {
        out->keys = arena_array(a, sv, out->n);
        out->key_lines = arena_array(a, uint32_t, out->n);
    }
    for (uint32_t i = 0; i < out->n; i++) {
        if (n->kind == NODE_MAP) {
            out->keys[i] = arena_sv(a, n->keys[i]);
            out->key_lines[i] = n->key_lines[i];
        }
        out->v[i] = node_outline(n->v[i], a);
    }
    return out;
}

static void scalar_to_json(const struct node *n, struct strbuf *out)
{
    bool b = false;
    switch (node_scalar_type(n)) {
    case SCALAR_NULL:
        strbuf_add_c(out, "null");
        break;
    case SCALAR_BOOL:
        (void)!node_text_bool(n->text, &b);
        strbuf_add_c(out, b ? "true" : "false");
        break;
    case SCALAR_NUMBER:
        strbuf_add_sv(out, n->text);
        break;
    case SCALAR_STRING:
        strbuf_add_json(out, n->text);
        break;
    }
}

void node_to_json(const struct node *n, struct strbuf *out)
{
    if (!n || n->kind == NODE_NULL || n->kind == NODE_SCALAR) {
        if (n)
            scalar_to_json(n, out);
        else
            strbuf_add_c(out, "null");
        return;
    }
    strbuf_add_ch(out, n->kind == NODE_MAP ? '{' : '[');
    for (uint32_t i = 0; i < n->n; i++) {
        if (i)
            strbuf_add_ch(out, ',');
        if (n->kind == NODE_MAP) {
            strbuf_add_json(out, n->keys[i]);
            strbuf_add_ch(out, ':');
        }
        node_to_json(n->v[i], out);
    }
    strbuf_add_ch(out, n->kind == NODE_MAP ? '}' : ']');
}
