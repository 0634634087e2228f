/* Puts a node tree together from the events of a parser; shared by the JSON and the YAML reader.
 *
 *     open(map) key scalar key open(seq) scalar close close      -> one tree
 *
 * Checks depth, duplicate keys and that map keys and values alternate is the parser's business.
 * Nodes are made in the arena; the work space is malloc'd and freed by node_build_fini().
 * Thread: any. */
#ifndef WEFT_API_NODE_BUILD_H
#define WEFT_API_NODE_BUILD_H

#include "api/node.h"

#define NODE_MAX_DEPTH 100
#define NODE_MAX_BYTES ((size_t)64 << 20)

struct node_item {
    struct node *node;
    sv key;
    uint32_t key_line;
};

struct node_build {
    struct arena *a;
    const char *file;
    struct error *err;
    struct node *root;       /* once the outermost node is complete */
    struct node_item *items; /* finished children of all open nodes, innermost last */
    uint32_t n_items, cap_items;
    uint32_t depth;
    struct {
        struct node *node;
        uint32_t first; /* its first child in items */
        sv key;         /* the key that it will have in its parent */
        uint32_t key_line;
    } open[NODE_MAX_DEPTH];
    sv key; /* of the next value */
    uint32_t key_line;
};

void node_build_init(struct node_build *b, struct arena *a, const char *file, struct error *err);
void node_build_fini(struct node_build *b);
/* E_LIMIT when nested too deep. */
int node_build_open(struct node_build *b, enum node_kind kind, uint32_t line,
                    uint32_t column) MUST_CHECK;
void node_build_key(struct node_build *b, sv key, uint32_t line);
/* A complete node as the next value (the caller made it, or it is the target of an alias). */
void node_build_add(struct node_build *b, struct node *n);
void node_build_scalar(struct node_build *b, enum node_kind kind, sv text, bool quoted,
                       uint32_t line, uint32_t column);
/* E_INVALID for duplicate keys. The closed node is b->root or the last item. */
int node_build_close(struct node_build *b) MUST_CHECK;

/* "file:line: " and the sentence. */
int node_error(struct error *err, const char *file, uint32_t line, int code, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* One JSON text. E_UNSUPPORTED when it is no JSON (it may still be YAML), other codes are final. */
int node_parse_json(sv text, uint32_t line, const char *file, struct arena *a, struct node **out,
                    struct error *err) MUST_CHECK;
/* One YAML document; *out is NULL when it is empty. */
int node_parse_yaml(sv text, uint32_t line, const char *file, struct arena *a, struct node **out,
                    struct error *err) MUST_CHECK;

/* What a scalar means where no descriptor says so (Struct, JSON output): the core schema, with
 * YAML 1.1's yes/no/on/off. */
enum node_scalar { SCALAR_NULL, SCALAR_BOOL, SCALAR_NUMBER, SCALAR_STRING };
enum node_scalar node_scalar_type(const struct node *n);
/* Spellings of booleans; E_INVALID for others. */
int node_text_bool(sv text, bool *out);
/* -?digits[.digits][e[+-]digits] without leading zeros: a JSON number. */
bool node_text_is_number(sv text);

#endif
