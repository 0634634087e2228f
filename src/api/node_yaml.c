/* One YAML document, by libyaml's events, into a node tree. */
#include <string.h>
#include <yaml.h>
#include "api/node_build.h"
#include "base/mem.h"

#define MAX_ANCHORS  1000
#define MAX_MERGED   1000   /* keys that one "<<" brings in */
#define MAX_EXPANDED 100000 /* nodes that aliases add, counted as if they were written out */

struct anchor {
    sv name;
    struct node *node; /* NULL while the anchored node is still open */
    uint32_t depth, count;
};

struct yaml {
    yaml_parser_t parser;
    struct node_build b;
    uint32_t line, last_line; /* of the document */
    bool want_key;            /* the next scalar is a map's key */
    struct anchor *anchors;
    uint32_t n_anchors, expanded;
    int32_t anchor_of[NODE_MAX_DEPTH]; /* index of the anchor of an open node, or -1 */
};

/* At the end of the text libyaml counts a line that is not there. */
static uint32_t line_of(const struct yaml *y, const yaml_mark_t *m)
{
    uint32_t line = y->line + (uint32_t)m->line;
    return line < y->last_line ? line : y->last_line;
}

static int fail(struct yaml *y, const yaml_mark_t *m, int code, const char *text)
{
    return node_error(y->b.err, y->b.file, line_of(y, m), code, "%s", text);
}

static int syntax_error(struct yaml *y)
{
    const yaml_parser_t *p = &y->parser;
    const char *problem = p->problem ? p->problem : "not valid YAML";
    if (p->error == YAML_MEMORY_ERROR)
        return node_error(y->b.err, y->b.file, y->line, E_NO_MEMORY, "out of memory");
    if (p->error == YAML_READER_ERROR) {
        return node_error(y->b.err, y->b.file, line_of(y, &p->mark), E_INVALID,
                          "not valid UTF-8 text (%s)", problem);
    }
    if (p->context) {
        /* The parser stands on what it does not understand. */
        bool tab =
            p->buffer.pointer && p->buffer.pointer < p->buffer.last && *p->buffer.pointer == '\t';
        return node_error(y->b.err, y->b.file, line_of(y, &p->problem_mark), E_INVALID,
                          "%s, %s that begins in line %u%s", problem, p->context,
                          line_of(y, &p->context_mark),
                          tab ? ". Indent with spaces, YAML takes no tabs" : "");
    }
    return fail(y, &p->problem_mark, E_INVALID, problem);
}

/* Whether the parser stands in a map (so that keys and values alternate). */
static bool in_map(const struct yaml *y)
{
    return y->b.depth && y->b.open[y->b.depth - 1].node->kind == NODE_MAP;
}

/* A value is complete: in a map a key comes next. */
static void value_done(struct yaml *y)
{
    y->want_key = in_map(y);
}

static bool is_null(sv v)
{
    return v.n == 0 || sv_eq(v, SV("~")) || sv_eq(v, SV("null")) || sv_eq(v, SV("Null")) ||
           sv_eq(v, SV("NULL"));
}

/* 0 and what the tag says about the scalar; E_INVALID for tags that mean nothing here. */
static int scalar_tag(const char *tag, bool *quoted)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    static const char *const plain[] = {"int", "float", "bool", "null", "timestamp"};
    if (!tag)
        return 0;
    if (strcmp(tag, "!") == 0 || strcmp(tag, YAML_STR_TAG) == 0) {
        *quoted = true;
        return 0;
    }
    if (strncmp(tag, prefix, sizeof prefix - 1) == 0)
        for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
            if (strcmp(tag + sizeof prefix - 1, plain[i]) == 0)
                return 0;
    return E_INVALID;
}

static int add_anchor(struct yaml *y, const yaml_char_t *name, const yaml_mark_t *m, int32_t *index)
{
    *index = -1;
    if (!name)
        return 0;
    if (y->n_anchors == MAX_ANCHORS)
        return fail(y, m, E_LIMIT, "too many anchors");
    if (!y->anchors)
        y->anchors = mem_array(struct anchor, MAX_ANCHORS);
    *index = (int32_t)y->n_anchors;
    sv copy = arena_sv(y->b.a, sv_of((const char *)name));
    y->anchors[y->n_anchors++] = (struct anchor){.name = copy};
    return 0;
}

/* How deep a subtree is and how many nodes it has when its aliases are written out. */
static void measure(const struct node *n, uint32_t *depth, uint32_t *count)
{
    uint32_t deepest = 0;
    (*count)++;
    for (uint32_t i = 0; i < n->n && *count <= MAX_EXPANDED; i++) {
        uint32_t d = 0;
        measure(n->v[i], &d, count);
        if (d > deepest)
            deepest = d;
    }
    *depth = deepest + (n->kind == NODE_MAP || n->kind == NODE_SEQ);
}

static void anchored(struct yaml *y, int32_t index, struct node *n)
{
    if (index < 0)
        return;
    struct anchor *a = &y->anchors[index];
    measure(n, &a->depth, &a->count);
    a->node = n;
}

static struct node *last_node(const struct yaml *y)
{
    return y->b.depth ? y->b.items[y->b.n_items - 1].node : y->b.root;
}

static int on_alias(struct yaml *y, const yaml_event_t *e)
{
    sv name = sv_of((const char *)e->data.alias.anchor);
    if (y->want_key)
        return fail(y, &e->start_mark, E_INVALID, "an alias cannot be a key");
    for (uint32_t i = y->n_anchors; i-- > 0;) {
        const struct anchor *a = &y->anchors[i];
        if (!sv_eq(a->name, name))
            continue;
        if (!a->node)
            return fail(y, &e->start_mark, E_INVALID, "an alias inside the node that it names");
        y->expanded += a->count;
        if (y->expanded > MAX_EXPANDED || y->b.depth + a->depth > NODE_MAX_DEPTH)
            return fail(y, &e->start_mark, E_LIMIT, "aliases expand to too much");
        node_build_add(&y->b, a->node);
        value_done(y);
        return 0;
    }
    return fail(y, &e->start_mark, E_INVALID, "an alias of an anchor that is not defined");
}

static int on_scalar(struct yaml *y, const yaml_event_t *e)
{
    sv text = sv_make((const char *)e->data.scalar.value, e->data.scalar.length);
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    int32_t anchor;
    /* An escape ("\0") can bring in what the text as a whole was checked not to contain. */
    if (memchr(text.p, 0, text.n))
        return fail(y, &e->start_mark, E_INVALID, "contains a NUL byte");
    if (scalar_tag((const char *)e->data.scalar.tag, &quoted) < 0)
        return node_error(y->b.err, y->b.file, line_of(y, &e->start_mark), E_INVALID,
                          "tag %s is not supported", (const char *)e->data.scalar.tag);
    int rc = add_anchor(y, e->data.scalar.anchor, &e->start_mark, &anchor);
    if (rc < 0)
        return rc;
    sv copy = arena_sv(y->b.a, text);
    if (y->want_key) {
        if (anchor >= 0)
            return fail(y, &e->start_mark, E_INVALID, "a key cannot be an anchor");
        node_build_key(&y->b, copy, line_of(y, &e->start_mark));
        y->want_key = false;
        return 0;
    }
    node_build_scalar(&y->b, !quoted && is_null(text) ? NODE_NULL : NODE_SCALAR, copy, quoted,
                      line_of(y, &e->start_mark), (uint32_t)e->start_mark.column + 1);
    anchored(y, anchor, last_node(y));
    value_done(y);
    return 0;
}

static int on_open(struct yaml *y, const yaml_event_t *e, enum node_kind kind)
{
    bool map = kind == NODE_MAP;
    const yaml_char_t *tag = map ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    int32_t anchor;
    if (y->want_key)
        return fail(y, &e->start_mark, E_INVALID, "a key must be a scalar");
    if (tag && strcmp((const char *)tag, map ? YAML_MAP_TAG : YAML_SEQ_TAG) != 0)
        return node_error(y->b.err, y->b.file, line_of(y, &e->start_mark), E_INVALID,
                          "tag %s is not supported", (const char *)tag);
    int rc = add_anchor(y, map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor,
                        &e->start_mark, &anchor);
    if (rc < 0)
        return rc;
    rc = node_build_open(&y->b, kind, line_of(y, &e->start_mark),
                         (uint32_t)e->start_mark.column + 1);
    if (rc < 0)
        return rc;
    y->anchor_of[y->b.depth - 1] = anchor;
    y->want_key = map;
    return 0;
}

/* Adds the members of `from` that the map under construction does not have itself. */
static int merge_from(struct yaml *y, struct node *from)
{
    if (from->kind == NODE_SEQ) {
        for (uint32_t i = 0; i < from->n; i++) {
            int rc = merge_from(y, from->v[i]);
            if (rc < 0)
                return rc;
        }
        return 0;
    }
    if (from->kind != NODE_MAP)
        return node_error(y->b.err, y->b.file, from->line, E_INVALID,
                          "\"<<\" needs a mapping or a list of mappings");
    uint32_t first = y->b.open[y->b.depth - 1].first;
    y->expanded += from->n;
    if (from->n > MAX_MERGED || y->expanded > MAX_EXPANDED)
        return node_error(y->b.err, y->b.file, from->line, E_LIMIT, "too many keys to merge");
    for (uint32_t i = 0; i < from->n; i++) {
        bool have = false;
        for (uint32_t k = first; k < y->b.n_items && !have; k++)
            have = sv_eq(y->b.items[k].key, from->keys[i]);
        if (have)
            continue;
        node_build_key(&y->b, from->keys[i], from->key_lines[i]);
        node_build_add(&y->b, from->v[i]);
    }
    return 0;
}

/* YAML 1.1's merge key: "<<: *defaults". */
static int merge(struct yaml *y)
{
    uint32_t first = y->b.open[y->b.depth - 1].first;
    for (uint32_t i = first; i < y->b.n_items; i++) {
        if (!sv_eq(y->b.items[i].key, SV("<<")))
            continue;
        struct node *from = y->b.items[i].node;
        memmove(y->b.items + i, y->b.items + i + 1, (y->b.n_items - i - 1) * sizeof *y->b.items);
        y->b.n_items--;
        return merge_from(y, from);
    }
    return 0;
}

static int on_close(struct yaml *y, bool map)
{
    int32_t anchor = y->anchor_of[y->b.depth - 1];
    int rc = map ? merge(y) : 0;
    if (rc == 0)
        rc = node_build_close(&y->b);
    if (rc < 0)
        return rc;
    anchored(y, anchor, last_node(y));
    value_done(y);
    return 0;
}

static int on_event(struct yaml *y, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return on_alias(y, e);
    case YAML_SCALAR_EVENT:
        return on_scalar(y, e);
    case YAML_MAPPING_START_EVENT:
        return on_open(y, e, NODE_MAP);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(y, e, NODE_SEQ);
    case YAML_MAPPING_END_EVENT:
        return on_close(y, true);
    case YAML_SEQUENCE_END_EVENT:
        return on_close(y, false);
    default:
        return 0;
    }
}

static uint32_t last_line(sv text, uint32_t line)
{
    for (size_t i = 0; i + 1 < text.n; i++)
        line += text.p[i] == '\n';
    return line;
}

int node_parse_yaml(sv text, uint32_t line, const char *file, struct arena *a, struct node **out,
                    struct error *err)
{
    struct yaml y = {.line = line, .last_line = last_line(text, line)};
    yaml_event_t e;
    int rc = 0;
    bool end = false;
    if (!yaml_parser_initialize(&y.parser))
        return error_set(err, E_NO_MEMORY, "%s: out of memory", file);
    yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)text.p, text.n);
    node_build_init(&y.b, a, file, err);
    while (rc == 0 && !end) {
        if (!yaml_parser_parse(&y.parser, &e)) {
            rc = syntax_error(&y);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        rc = on_event(&y, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&y.parser);
    if (rc == 0)
        *out = y.b.root && y.b.root->kind != NODE_NULL ? y.b.root : NULL;
    node_build_fini(&y.b);
    free(y.anchors);
    return rc;
}
