/* Expressions: Google's Common Expression Language, as much of it as Envoy turns on.
 *
 *   cel_compile("request.path.startsWith('/a') && response.code >= 500")  ->  struct cel
 *   cel_eval(cel, env)                                                    ->  struct cel_value
 *
 *   expr     or [ "?" or ":" expr ]
 *   or       and { "||" and }
 *   and      rel { "&&" rel }
 *   rel      sum { (== != < <= > >= in) sum }
 *   sum      product { (+ -) product }
 *   product  unary { (* / %) unary }
 *   unary    member | "!" { "!" } member | "-" { "-" } member
 *   member   primary { "." NAME [ "(" args ")" ] | "[" expr "]" }
 *   primary  NAME | NAME "(" args ")" | "(" expr ")" | "[" args "]" | "{" entries "}" | literal
 *
 * Known: literals (int, uint, double, string, bytes, bool, null, list, map), has(), size, contains,
 * startsWith, endsWith, matches (RE2), bool, int, uint, double, bytes, duration, timestamp, type,
 * dyn, the parts of times, and string() and + of texts where the options say so. Evaluation is by
 * the types that values have: an operation that its operands do not have is an error value, which
 * && and || absorb when the other side decides (langdef.md, "Logical operators"). Numbers of
 * different types compare by value.
 *
 * What could run long is not there: no macros over lists (all, exists, map …), as in Envoy. Time
 * and memory are bounded by the expression's size (CEL_TEXT_MAX, CEL_NODES_MAX, CEL_DEPTH_MAX)
 * times the size of the values it is given.
 *
 * This room knows nothing of HTTP: names are answered by the caller's environment.
 * Thread: compiling: any; a compiled expression may be evaluated by any number of threads. */
#ifndef WEFT_CEL_CEL_H
#define WEFT_CEL_CEL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

#define CEL_TEXT_MAX  16384
#define CEL_NODES_MAX 2000
#define CEL_DEPTH_MAX 200 /* of the tree: "a && b && c" is two deep */
#define CEL_NEST_MAX  32  /* of brackets in one another */

/* X(id, name of the type value) */
#define CEL_TYPES(X)                                                                               \
    X(ERROR, "error")                                                                              \
    X(NULL, "null_type")                                                                           \
    X(BOOL, "bool")                                                                                \
    X(INT, "int")                                                                                  \
    X(UINT, "uint")                                                                                \
    X(DOUBLE, "double")                                                                            \
    X(STRING, "string")                                                                            \
    X(BYTES, "bytes")                                                                              \
    X(DURATION, "google.protobuf.Duration")                                                        \
    X(TIMESTAMP, "google.protobuf.Timestamp")                                                      \
    X(LIST, "list")                                                                                \
    X(MAP, "map")                                                                                  \
    X(TYPE, "type")

enum cel_type {
#define X(id, name) CEL_##id,
    CEL_TYPES(X)
#undef X
};

/* A duration, or a point in time since 1970: s seconds and 0 <= ns < 10^9 after them. */
struct cel_time {
    int64_t s;
    int32_t ns;
};

struct cel_list;
struct cel_map;
struct cel_value {
    enum cel_type type;
    union {
        const char *why; /* ERROR: static */
        bool b;
        int64_t i;
        uint64_t u;
        double d;
        sv s;              /* STRING, BYTES: borrowed, as long as the arena of the evaluation */
        struct cel_time t; /* DURATION, TIMESTAMP */
        const struct cel_list *list;
        const struct cel_map *map;
        enum cel_type of; /* TYPE */
    };
};

struct cel_list {
    const struct cel_value *v;
    uint32_t n;
};
struct cel_entry {
    struct cel_value key, value;
};
/* A table of n entries, or, with `get`, whatever answers for a key; n is its size then, and
 * `entries` are what it shows as a whole (none: it cannot be shown or compared). */
struct cel_map {
    const struct cel_entry *v;
    uint32_t n;
    /* False when there is no such key. May allocate in a. */
    bool (*get)(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                struct cel_value *out);
    const void *arg;
    uint32_t tag; /* for get */
};

/* ---- making values ---- */
static inline struct cel_value cel_error(const char *why)
{
    return (struct cel_value){.type = CEL_ERROR, .why = why};
}
static inline struct cel_value cel_bool(bool b)
{
    return (struct cel_value){.type = CEL_BOOL, .b = b};
}
static inline struct cel_value cel_int(int64_t i)
{
    return (struct cel_value){.type = CEL_INT, .i = i};
}
static inline struct cel_value cel_uint(uint64_t u)
{
    return (struct cel_value){.type = CEL_UINT, .u = u};
}
static inline struct cel_value cel_double(double d)
{
    return (struct cel_value){.type = CEL_DOUBLE, .d = d};
}
static inline struct cel_value cel_string(sv s)
{
    return (struct cel_value){.type = CEL_STRING, .s = s};
}
static inline struct cel_value cel_duration_ns(int64_t ns)
{
    int64_t s = ns / 1000000000 - (ns % 1000000000 < 0);
    return (struct cel_value){.type = CEL_DURATION, .t = {s, (int32_t)(ns - s * 1000000000)}};
}
static inline struct cel_value cel_timestamp_ns(uint64_t ns)
{
    return (struct cel_value){.type = CEL_TIMESTAMP,
                              .t = {(int64_t)(ns / 1000000000), (int32_t)(ns % 1000000000)}};
}
/* A JSON text as google.protobuf.Struct reads it (numbers are doubles). An error when it is
 * none. */
struct cel_value cel_from_json(sv json, struct arena *a);

/* ---- compiling ---- */
struct cel;
struct cel_opts {
    /* Whether there is such a name, and such a field of it (p == NULL: the name is used by itself,
     * or the field is not known yet). An error says which names there are; the position is put in
     * front. NULL: any. */
    int (*check)(sv root, sv field, struct error *err);
    bool string_conversion; /* string() */
    bool string_concat;     /* + of strings and bytes */
};
/* Everything that lives as long as the expression is in `a`; text is copied. E_INVALID, E_LIMIT or
 * E_UNSUPPORTED with the position (1 is the first byte): "at 9: …". */
int cel_compile(sv text, const struct cel_opts *o, struct arena *a, const struct cel **out,
                struct error *err) MUST_CHECK;

/* ---- evaluating ---- */
struct cel_env {
    /* The value of a name; false when it is not known. */
    bool (*root)(const struct cel_env *e, sv name, struct cel_value *out);
    const void *arg;
    struct arena *arena; /* values that are made live here */
};
struct cel_value cel_eval(const struct cel *c, const struct cel_env *e);

/* ---- showing ---- */
/* As Envoy prints a value: "200", "1h30m", "CelMap value"; nothing for an error. */
void cel_print(const struct cel_value *v, struct strbuf *out);
/* As JSON, by the protobuf mapping: whole numbers that a double cannot hold, times and bytes are
 * strings; false (and "null") for what has no such form. */
bool cel_to_json(const struct cel_value *v, struct strbuf *out);

#endif
