/* Between the files of cel: the tree of an expression. Private. */
#ifndef WEFT_CEL_CEL_INT_H
#define WEFT_CEL_CEL_INT_H

#include "api/regex.h"
#include "cel/cel.h"

enum cel_kind {
    CEL_K_CONST,
    CEL_K_NAME,   /* name */
    CEL_K_SELECT, /* v[0].name */
    CEL_K_HAS,    /* has(v[0].name) */
    CEL_K_INDEX,  /* v[0][v[1]] */
    CEL_K_LIST,
    CEL_K_MAP, /* v[2i]: v[2i+1] */
    CEL_K_CALL,
    CEL_K_NOT,
    CEL_K_NEG,
    CEL_K_AND,
    CEL_K_OR,
    CEL_K_COND,
    CEL_K_EQ,
    CEL_K_NE,
    CEL_K_LT,
    CEL_K_LE,
    CEL_K_GT,
    CEL_K_GE,
    CEL_K_IN,
    CEL_K_ADD,
    CEL_K_SUB,
    CEL_K_MUL,
    CEL_K_DIV,
    CEL_K_MOD,
};

/* X(id, name, arguments of f(…), arguments of x.f(…) without x, how many may be left out); -1: no
 * such form. */
#define CEL_FUNCTIONS(X)                                                                           \
    X(SIZE, "size", 1, 0, 0)                                                                       \
    X(CONTAINS, "contains", -1, 1, 0)                                                              \
    X(STARTS, "startsWith", -1, 1, 0)                                                              \
    X(ENDS, "endsWith", -1, 1, 0)                                                                  \
    X(MATCHES, "matches", 2, 1, 0)                                                                 \
    X(BOOL, "bool", 1, -1, 0)                                                                      \
    X(INT, "int", 1, -1, 0)                                                                        \
    X(UINT, "uint", 1, -1, 0)                                                                      \
    X(DOUBLE, "double", 1, -1, 0)                                                                  \
    X(STRING, "string", 1, -1, 0)                                                                  \
    X(BYTES, "bytes", 1, -1, 0)                                                                    \
    X(DURATION, "duration", 1, -1, 0)                                                              \
    X(TIMESTAMP, "timestamp", 1, -1, 0)                                                            \
    X(TYPE, "type", 1, -1, 0)                                                                      \
    X(DYN, "dyn", 1, -1, 0)                                                                        \
    X(YEAR, "getFullYear", -1, 1, 1)                                                               \
    X(MONTH, "getMonth", -1, 1, 1)                                                                 \
    X(DATE, "getDate", -1, 1, 1)                                                                   \
    X(DAY_OF_MONTH, "getDayOfMonth", -1, 1, 1)                                                     \
    X(DAY_OF_WEEK, "getDayOfWeek", -1, 1, 1)                                                       \
    X(DAY_OF_YEAR, "getDayOfYear", -1, 1, 1)                                                       \
    X(HOURS, "getHours", -1, 1, 1)                                                                 \
    X(MINUTES, "getMinutes", -1, 1, 1)                                                             \
    X(SECONDS, "getSeconds", -1, 1, 1)                                                             \
    X(MILLISECONDS, "getMilliseconds", -1, 1, 1)
enum cel_fn {
#define X(id, name, args, method_args, optional) CEL_FN_##id,
    CEL_FUNCTIONS(X)
#undef X
        CEL_FN_COUNT
};

struct cel_node {
    uint8_t kind; /* enum cel_kind */
    uint8_t fn;   /* CALL: enum cel_fn; v[0] is the receiver when it is a method */
    uint16_t depth;
    uint32_t n;
    uint32_t pos; /* of its first byte or operator, from 0 */
    const struct cel_node *const *v;
    sv name;
    struct cel_value value;    /* CONST */
    const struct regex *regex; /* matches with a constant pattern */
};
struct cel {
    const struct cel_node *top;
    struct cel_opts o;
};

/* ---- tokens ---- */
enum cel_token_kind {
    CEL_T_END,
    CEL_T_NAME,
    CEL_T_CONST, /* number, string, bytes: value */
    CEL_T_OP,    /* text: "&&", "(" … */
};
struct cel_lex {
    sv text;
    size_t at; /* behind the token */
    struct arena *a;
    struct error *err;
    /* the token */
    enum cel_token_kind kind;
    size_t pos;
    sv token;
    struct cel_value value;
    bool number;
};
/* The next token. E_INVALID with the position. */
int cel_lex_next(struct cel_lex *l) MUST_CHECK;
/* Sets "at POS: why" and returns the code. */
int cel_bad(struct error *err, size_t pos, int code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* A number with a sign that stands before it. */
int cel_number(sv text, bool negative, struct cel_value *out);

/* ---- values ---- */
struct cel_value cel_equal(const struct cel_value *a, const struct cel_value *b);
/* <0, 0, >0, or CEL_UNORDERED (not a number), CEL_NO_ORDER (types that do not compare). */
#define CEL_CONCAT_MAX 65536 /* bytes that + may make */
#define CEL_UNORDERED  2
#define CEL_NO_ORDER   3
int cel_compare(const struct cel_value *a, const struct cel_value *b);
struct cel_value cel_arithmetic(enum cel_kind op, const struct cel_value *a,
                                const struct cel_value *b, const struct cel *c,
                                struct arena *arena);
struct cel_value cel_negate(const struct cel_value *v);
/* False when there is no such key. */
bool cel_map_get(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                 struct cel_value *out);
struct cel_value cel_call(const struct cel_node *n, const struct cel_value *args, struct arena *a);

/* ---- times ---- */
#define CEL_DURATION_MAX_S 315576000000 /* 10,000 years: google.protobuf.Duration's */
struct cel_value cel_parse_duration(sv text);
struct cel_value cel_parse_timestamp(sv text);
/* Checks the range of a time that was computed. */
struct cel_value cel_time_value(enum cel_type type, __int128 ns);
__int128 cel_time_ns(struct cel_time t);
struct cel_value cel_time_part(enum cel_fn fn, const struct cel_value *v, const sv *zone);
void cel_print_duration(struct cel_time t, struct strbuf *out);
void cel_print_timestamp(struct cel_time t, const char *zone, struct strbuf *out);

#endif
