/* A parsed YAML or JSON document as a tree that remembers where each value stood.
 *
 * Several documents a stream; anchors and aliases are resolved with a bound on expansion; duplicate
 * keys, tabs, binary tags and NUL are errors. Scalars keep their text and whether they were quoted:
 * the reader decides by its descriptor what they mean. Depth <= 100, document <= 64 MiB.
 * Nodes live in the arena. Thread: any. */
#ifndef WEFT_API_NODE_H
#define WEFT_API_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

enum node_kind { NODE_NULL, NODE_SCALAR, NODE_MAP, NODE_SEQ };

struct node {
    enum node_kind kind : 8;
    bool quoted;           /* scalar: written with quotes or as a block: always a string */
    uint32_t line, column; /* from 1 */
    uint32_t n;            /* children */
    const char *file;
    sv text;  /* scalar */
    sv *keys; /* map: n keys */
    uint32_t *key_lines;
    struct node **v; /* map: n values; seq: n items */
};

/* The next document of a YAML stream (JSON is a subset). *pos starts at 0 and is advanced;
 * E_EOF when no document is left; empty documents are skipped. */
int node_parse_next(sv text, size_t *pos, uint32_t *line, const char *file, struct arena *a,
                    struct node **out, struct error *err) MUST_CHECK;
/* Exactly one document. */
int node_parse(sv text, const char *file, struct arena *a, struct node **out,
               struct error *err) MUST_CHECK;
/* Member of a map, or NULL (also when n is NULL or no map). */
const struct node *node_get(const struct node *n, const char *key);
/* node_path(n, "metadata.labels") */
const struct node *node_path(const struct node *n, const char *dotted);
/* Text of a scalar member, p == NULL when absent or no scalar. */
sv node_str(const struct node *n, const char *key);
bool node_bool(const struct node *n, const char *key, bool dflt);
int64_t node_int(const struct node *n, const char *key, int64_t dflt);
/* A copy of the shape without the texts of scalars: it still says where each value stood. */
struct node *node_outline(const struct node *n, struct arena *a);
void node_to_json(const struct node *n, struct strbuf *out);

#endif
