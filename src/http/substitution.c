/* Compiling format strings. */
#include "http/attributes.h"
#include "http/substitution_int.h"

#include <stdlib.h>
#include <unistd.h>

const sv substitution_default_format =
    SV_INIT("[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
            "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
            "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" "
            "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
            "\"%UPSTREAM_HOST%\"\n");

struct op_def {
    sv name;
    uint8_t id, arg;
    uint8_t tls;
    bool upstream;
};

static const struct op_def op_defs[] = {
#define X(id, arg) {SV_INIT(#id), SUB_##id, arg, 0, false},
    SUB_OPS(X)
#undef X
#define X(id)                                                                                      \
    {SV_INIT("DOWNSTREAM_" #id), SUB_TLS, SUB_ARG_NONE, SUBSTITUTION_TLS_##id, false},             \
        {SV_INIT("UPSTREAM_" #id), SUB_TLS, SUB_ARG_NONE, SUBSTITUTION_TLS_##id, true},
        SUBSTITUTION_TLS_CERT(X)
#undef X
#define X(id)                                                                                      \
    {SV_INIT("DOWNSTREAM_TLS_" #id), SUB_TLS, SUB_ARG_NONE, SUBSTITUTION_TLS_##id, false},         \
        {SV_INIT("UPSTREAM_TLS_" #id), SUB_TLS, SUB_ARG_NONE, SUBSTITUTION_TLS_##id, true},
            SUBSTITUTION_TLS_SESSION(X)
#undef X
#define X(id)                                                                                      \
    {SV_INIT("DOWNSTREAM_" #id), SUB_TLS_DATE, SUB_ARG_OPTIONAL, SUBSTITUTION_TLS_##id, false},    \
        {SV_INIT("UPSTREAM_" #id), SUB_TLS_DATE, SUB_ARG_OPTIONAL, SUBSTITUTION_TLS_##id, true},
                SUBSTITUTION_TLS_DATES(X)
#undef X
#define X(id) {SV_INIT(#id), SUB_CONN, SUB_ARG_NONE, SUBSTITUTION_CONN_##id, false},
                    SUBSTITUTION_CONN_FIELDS(X)
#undef X
                        {SV_INIT("UPSTREAM_SERVER_NAME"), SUB_TLS, SUB_ARG_NONE,
                         SUBSTITUTION_TLS_SERVER_NAME, true},
    {SV_INIT("REQUEST_HEADER"), SUB_REQ, SUB_ARG_HEADER | SUB_LEN, 0, false},
    {SV_INIT("RESPONSE_HEADER"), SUB_RESP, SUB_ARG_HEADER | SUB_LEN, 0, false},
    {SV_INIT("RESPONSE_TRAILER"), SUB_TRAILER, SUB_ARG_HEADER | SUB_LEN, 0, false},
};

struct compiler {
    struct arena *a;
    const struct substitution_opts *o;
    struct error *err;
    struct substitution *f;
    uint32_t cap;
    sv op_text; /* "%REQ(X)%" for errors */
};

static int bad(struct compiler *c, const char *why)
{
    const char *path = c->o->path;
    return error_set(c->err, E_INVALID, "%s%s'%.*s' %s", path ? path : "", path ? ": " : "",
                     SV_ARG(c->op_text), why);
}

static struct sub_op *push(struct compiler *c)
{
    struct substitution *f = c->f;
    if (f->n == c->cap) {
        struct sub_op *old = f->ops;
        c->cap = c->cap ? c->cap * 2 : 8;
        f->ops = arena_array(c->a, struct sub_op, c->cap);
        if (f->n)
            memcpy(f->ops, old, f->n * sizeof(*old));
    }
    struct sub_op *op = &f->ops[f->n++];
    *op = (struct sub_op){.max = UINT32_MAX};
    return op;
}

/* Literal text grows the one before it. */
static void add_literal(struct compiler *c, sv text)
{
    if (text.n == 0)
        return;
    struct substitution *f = c->f;
    if (f->n && f->ops[f->n - 1].id == SUB_LITERAL) {
        sv *old = &f->ops[f->n - 1].a;
        char *p = arena_alloc(c->a, old->n + text.n);
        memcpy(p, old->p, old->n);
        memcpy(p + old->n, text.p, text.n);
        *old = sv_make(p, old->n + text.n);
        return;
    }
    struct sub_op *op = push(c);
    op->id = SUB_LITERAL;
    op->a = arena_sv(c->a, text);
}

static bool header_ok(sv name)
{
    sv rest = name.n && name.p[0] == ':' ? sv_from(name, 1) : name;
    return http_name_valid(rest);
}

static void set_field(struct compiler *c, struct sub_field *f, sv name)
{
    f->name = arena_lower(c->a, arena_sv(c->a, name));
    f->id = (uint16_t)http_name_find(f->name);
    f->part = SUB_FIELD;
    if (name.p[0] == ':')
        f->part = sv_eq(f->name, SV(":method"))      ? SUB_METHOD
                  : sv_eq(f->name, SV(":path"))      ? SUB_PATH_PART
                  : sv_eq(f->name, SV(":authority")) ? SUB_AUTHORITY
                  : sv_eq(f->name, SV(":scheme"))    ? SUB_SCHEME
                                                     : SUB_OTHER_PART;
    else if (f->id == HTTP_H_HOST)
        f->part = SUB_AUTHORITY;
}

static int set_header(struct compiler *c, struct sub_op *op, sv arg)
{
    sv alt;
    bool has_alt = sv_cut(arg, '?', &arg, &alt);
    if (has_alt && sv_find(alt, '?') >= 0)
        return bad(c, "names more than one alternative header");
    if (!header_ok(arg) || (has_alt && !header_ok(alt)))
        return bad(c, "names no header: write (NAME) or (NAME?ALTERNATIVE)");
    set_field(c, &op->field[0], arg);
    if (has_alt)
        set_field(c, &op->field[1], alt);
    return 0;
}

/* ["namespace", "key"]: the older form of (namespace:key), which Envoy still takes in header
 * values. */
static int set_listed_path(struct compiler *c, struct sub_op *op, sv arg)
{
    sv item, rest = sv_make(arg.p + 1, arg.n - 1);
    uint32_t n = 1;
    if (!sv_ends(arg, SV("]")))
        return bad(c, "has a list that does not end");
    rest.n--;
    for (size_t i = 0; i < rest.n; i++)
        n += rest.p[i] == ',';
    op->path = arena_array(c->a, sv, n);
    for (op->n_path = 0; op->n_path < n; op->n_path++) {
        sv_cut(rest, ',', &item, &rest);
        item = sv_trim(item);
        if (item.n < 3 || item.p[0] != '"' || item.p[item.n - 1] != '"')
            return bad(c, "has a list of something else than quoted names");
        op->path[op->n_path] = arena_sv(c->a, sv_make(item.p + 1, item.n - 2));
    }
    return 0;
}

static int set_path(struct compiler *c, struct sub_op *op, sv arg)
{
    uint32_t n = 1;
    if (c->o->use == SUBSTITUTION_HEADER && sv_starts(arg, SV("[")))
        return set_listed_path(c, op, arg);
    for (size_t i = 0; i < arg.n; i++)
        n += arg.p[i] == ':';
    op->path = arena_array(c->a, sv, n);
    arg = arena_sv(c->a, arg);
    for (op->n_path = 0; op->n_path < n; op->n_path++) {
        sv_cut(arg, ':', &op->path[op->n_path], &arg);
        if (op->path[op->n_path].n == 0)
            return bad(c, "has an empty part in its argument");
    }
    return 0;
}

/* METADATA(TYPE:NS:KEY…): the type goes off the path. */
static int set_metadata(struct compiler *c, struct sub_op *op)
{
    static const struct {
        sv name;
        enum substitution_metadata which;
    } types[] = {
        {SV_INIT("DYNAMIC"), SUBSTITUTION_META_DYNAMIC},
        {SV_INIT("CLUSTER"), SUBSTITUTION_META_CLUSTER},
        {SV_INIT("ROUTE"), SUBSTITUTION_META_ROUTE},
        {SV_INIT("UPSTREAM_HOST"), SUBSTITUTION_META_UPSTREAM_HOST},
        {SV_INIT("LISTENER"), SUBSTITUTION_META_LISTENER},
        {SV_INIT("VIRTUAL_HOST"), SUBSTITUTION_META_VIRTUAL_HOST},
    };
    if (op->id == SUB_DYNAMIC_METADATA)
        op->meta = SUBSTITUTION_META_DYNAMIC;
    else if (op->id == SUB_CLUSTER_METADATA)
        op->meta = SUBSTITUTION_META_CLUSTER;
    else if (op->id == SUB_UPSTREAM_METADATA)
        op->meta = SUBSTITUTION_META_UPSTREAM_HOST;
    if (op->id == SUB_METADATA) {
        size_t i = 0;
        while (i < sizeof(types) / sizeof(types[0]) && !sv_eq(types[i].name, op->path[0]))
            i++;
        if (i == sizeof(types) / sizeof(types[0]) || op->n_path < 2)
            return bad(c, "does not say (TYPE:NAMESPACE:KEY) with type DYNAMIC, CLUSTER, ROUTE, "
                          "UPSTREAM_HOST, LISTENER or VIRTUAL_HOST");
        op->meta = (uint8_t)types[i].which;
        op->path++;
        op->n_path--;
    }
    op->id = SUB_METADATA;
    op->a = op->path[0];
    op->path++;
    op->n_path--;
    return 0;
}

static int set_filter_state(struct compiler *c, struct sub_op *op)
{
    op->a = op->path[0];
    if (op->n_path == 1 ||
        (op->n_path == 2 && (sv_eq(op->path[1], SV("PLAIN")) || sv_eq(op->path[1], SV("TYPED")))))
        return 0;
    return bad(c, "may only add PLAIN or TYPED after the key");
}

static int point_of(sv name)
{
    static const sv names[] = {
#define X(id) SV_INIT(#id),
        SUB_POINTS(X)
#undef X
    };
    for (int i = 0; i < SUB_POINT_COUNT; i++)
        if (sv_eq(names[i], name))
            return i;
    return -1;
}

static int set_points(struct compiler *c, struct sub_op *op, sv arg)
{
    sv from, to, unit;
    sv_cut(arg, ':', &from, &to);
    sv_cut(to, ':', &to, &unit);
    int f = point_of(from), t = point_of(to);
    op->unit_ns = sv_eq(unit, SV("ms"))   ? 1000000
                  : sv_eq(unit, SV("us")) ? 1000
                  : sv_eq(unit, SV("ns")) ? 1
                                          : 0;
    if (f < 0 || t < 0 || op->unit_ns == 0)
        return bad(c, "does not say (START:END:ms|us|ns) with points like DS_RX_BEG, US_TX_END");
    op->from = (uint8_t)f;
    op->to = (uint8_t)t;
    return 0;
}

static int set_grpc(struct compiler *c, struct sub_op *op, sv arg)
{
    if (arg.n == 0 || sv_eq(arg, SV("CAMEL_STRING")))
        op->format = SUB_GRPC_CAMEL;
    else if (sv_eq(arg, SV("SNAKE_STRING")))
        op->format = SUB_GRPC_SNAKE;
    else if (sv_eq(arg, SV("NUMBER")))
        op->format = SUB_GRPC_NUMBER;
    else
        return bad(c, "has a format other than CAMEL_STRING, SNAKE_STRING, NUMBER");
    return 0;
}

/* (WQ|NQ:ORIG|PATH|ORIG_OR_PATH): with or without query; the path before rewrites, if it is known,
 * or the one as it is. */
static int set_request_path(struct compiler *c, struct sub_op *op, sv arg)
{
    sv query, which;
    sv_cut(arg, ':', &query, &which);
    op->format = sv_eq(query, SV("NQ")) ? SUB_PATH_NO_QUERY : 0;
    if (query.n && !op->format && !sv_eq(query, SV("WQ")))
        return bad(c, "has something else than WQ or NQ first");
    if (sv_eq(which, SV("PATH")))
        op->format |= SUB_PATH_NOT_ORIGINAL;
    else if (sv_eq(which, SV("ORIG")))
        op->format |= SUB_PATH_ORIGINAL_ONLY;
    else if (which.n && !sv_eq(which, SV("ORIG_OR_PATH")))
        return bad(c, "has something else than ORIG, PATH or ORIG_OR_PATH second");
    return 0;
}

static int set_optional(struct compiler *c, struct sub_op *op, sv arg)
{
    if (op->id == SUB_GRPC_STATUS)
        return set_grpc(c, op, arg);
    if (op->id == SUB_PATH)
        return set_request_path(c, op, arg);
    if (op->id == SUB_QUERY_PARAMS) {
        op->format = sv_eq(arg, SV("DECODED"));
        if (arg.n && !op->format && !sv_eq(arg, SV("ORIG")))
            return bad(c, "has an argument other than ORIG, DECODED");
        return 0;
    }
    if (op->id == SUB_RESPONSE_CODE_DETAILS) {
        op->format = arg.n != 0;
        if (arg.n && !sv_eq(arg, SV("ALLOW_WHITESPACES")))
            return bad(c, "has an argument other than ALLOW_WHITESPACES");
        return 0;
    }
    if (arg.n > 128)
        return bad(c, "has a time format longer than 128 bytes");
    op->a = arena_sv(c->a, arg);
    return 0;
}

/* Operators whose value is known now. */
static int constant(struct compiler *c, struct sub_op *op, sv arg)
{
    char host[256] = "";
    char *name = arena_cstr(c->a, arg);
    const char *value = op->id == SUB_HOSTNAME ? host : getenv(name);
    if (op->id == SUB_HOSTNAME)
        gethostname(host, sizeof(host) - 1);
    sv v = sv_first(sv_of(value), op->max);
    c->f->n--; /* the literal takes its place */
    add_literal(c, v.n ? v : c->o->omit_empty ? (sv){0} : SV("-"));
    return 0;
}

static int set_cel(struct compiler *c, struct sub_op *op, sv arg)
{
    static const struct cel_opts opts = {.check = attributes_check};
    int rc = cel_compile(arg, &opts, c->a, &op->cel, c->err);
    if (rc != 0) {
        const char *path = c->o->path;
        error_prefix(c->err, "%s%s'%.*s': ", path ? path : "", path ? ": " : "",
                     SV_ARG(c->op_text));
    }
    return rc;
}

static int set_arg(struct compiler *c, struct sub_op *op, uint8_t kind, bool has, sv arg)
{
    if (kind == SUB_ARG_NONE && has)
        return bad(c, "takes no argument");
    if (kind != SUB_ARG_NONE && kind != SUB_ARG_OPTIONAL && !has)
        return bad(c, "needs an argument in parentheses");
    int rc = 0;
    switch (kind) {
    case SUB_ARG_HEADER:
        return set_header(c, op, arg);
    case SUB_ARG_OPTIONAL:
        return set_optional(c, op, arg);
    case SUB_ARG_POINTS:
        return set_points(c, op, arg);
    case SUB_ARG_PATH:
        rc = set_path(c, op, arg);
        if (rc != 0)
            return rc;
        return op->id == SUB_FILTER_STATE ? set_filter_state(c, op) : set_metadata(c, op);
    case SUB_ARG_NAME:
        if (arg.n == 0)
            return bad(c, "needs a name in parentheses");
        op->a = arena_sv(c->a, arg);
        break;
    default:
        break;
    }
    if (op->id == SUB_HOSTNAME || op->id == SUB_ENVIRONMENT)
        return constant(c, op, arg);
    return op->id == SUB_CEL || op->id == SUB_TYPED_CEL ? set_cel(c, op, arg) : 0;
}

static const struct op_def *find_op(sv name)
{
    for (size_t i = 0; i < sizeof(op_defs) / sizeof(op_defs[0]); i++)
        if (sv_eq(op_defs[i].name, name))
            return &op_defs[i];
    return NULL;
}

static size_t name_span(sv v)
{
    size_t i = 0;
    while (i < v.n &&
           ((v.p[i] >= 'A' && v.p[i] <= 'Z') || (v.p[i] >= '0' && v.p[i] <= '9') || v.p[i] == '_'))
        i++;
    return i;
}

/* Index of the ')' that ends an argument: the first that the operator's end follows, since
 * expressions have others. Without one, the first ')', or -1. */
static ptrdiff_t argument_end(sv v)
{
    ptrdiff_t first = sv_find(v, ')');
    for (size_t i = first < 0 ? v.n : (size_t)first; i < v.n; i++) {
        size_t k = i + 1;
        if (v.p[i] != ')')
            continue;
        if (k < v.n && v.p[k] == ':')
            for (k++; k < v.n && v.p[k] >= '0' && v.p[k] <= '9';)
                k++;
        if (k < v.n && v.p[k] == '%')
            return (ptrdiff_t)i;
    }
    return first;
}

/* whole starts at the opening '%'. *used gets the bytes up to and with the closing one. */
static int compile_op(struct compiler *c, sv whole, size_t *used)
{
    sv v = sv_make(whole.p + 1, whole.n - 1);
    size_t i = name_span(v);
    sv name = sv_first(v, i), arg = {0}, max = {0};
    bool has_arg = i < v.n && v.p[i] == '(';
    c->op_text = sv_first(whole, 60);
    if (has_arg) {
        ptrdiff_t close = argument_end(sv_from(v, i));
        if (close < 0)
            return bad(c, "has no ')'");
        arg = sv_make(v.p + i + 1, (size_t)close - 1);
        i += (size_t)close + 1;
    }
    bool has_max = i < v.n && v.p[i] == ':';
    if (has_max) {
        size_t from = ++i;
        while (i < v.n && v.p[i] >= '0' && v.p[i] <= '9')
            i++;
        max = sv_make(v.p + from, i - from);
    }
    if (i >= v.n || v.p[i] != '%' || name.n == 0)
        return bad(c, "is no %OPERATOR(argument):length%; write %% for a percent sign");
    *used = i + 2;
    c->op_text = sv_first(whole, i + 2);
    const struct op_def *d = find_op(name);
    if (!d)
        return bad(c, "is not an operator weft knows");
    struct sub_op *op = push(c);
    op->id = d->id;
    op->tls = d->tls;
    op->upstream = d->upstream;
    uint64_t n;
    if (has_max) {
        if (!(d->arg & SUB_LEN))
            return bad(c, "takes no length");
        if (sv_to_u64(max, &n) != 0 || n >= UINT32_MAX)
            return bad(c, "has no length after ':'");
        op->max = (uint32_t)n;
    }
    return set_arg(c, op, d->arg & 0xf, has_arg, arg);
}

int substitution_compile(sv format, const struct substitution_opts *o, struct arena *a,
                         const struct substitution **out, struct error *err)
{
    struct compiler c = {.a = a, .o = o, .err = err, .f = arena_new(a, struct substitution)};
    c.f->use = o->use;
    c.f->omit_empty = o->omit_empty;
    while (format.n) {
        ptrdiff_t at = sv_find(format, '%');
        if (at < 0) {
            add_literal(&c, format);
            break;
        }
        add_literal(&c, sv_first(format, (size_t)at));
        format = sv_from(format, (size_t)at);
        if (format.n > 1 && format.p[1] == '%') {
            add_literal(&c, SV("%"));
            format = sv_from(format, 2);
            continue;
        }
        size_t used = 0;
        int rc = compile_op(&c, format, &used);
        if (rc != 0)
            return rc;
        format = sv_from(format, used);
    }
    *out = c.f;
    return 0;
}

bool substitution_constant(const struct substitution *f, sv *text)
{
    if (f->n > 1 || (f->n == 1 && f->ops[0].id != SUB_LITERAL))
        return false;
    *text = f->n ? f->ops[0].a : (sv){0};
    return true;
}
