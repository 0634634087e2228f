/* From text to a tree, by recursive descent; names and functions are looked up on the way. */
#include "cel/cel_int.h"

struct parser {
    struct cel_lex l;
    struct cel *c;
    struct arena *a;
    struct error *err;
    uint32_t nodes, nest;
};

typedef const struct cel_node *node;

static int expr(struct parser *p, node *out);

static bool at_op(const struct parser *p, const char *op)
{
    return p->l.kind == CEL_T_OP && sv_eq_c(p->l.token, op);
}

/* Takes the operator if it stands here; *rc says whether the next token could be read. */
static bool take(struct parser *p, const char *op, int *rc)
{
    if (!at_op(p, op))
        return false;
    *rc = cel_lex_next(&p->l);
    return true;
}

static int unexpected(struct parser *p, const char *wanted)
{
    if (p->l.kind == CEL_T_END)
        return cel_bad(p->err, p->l.pos, E_INVALID, "%s is missing", wanted);
    sv t = sv_first(sv_make(p->l.text.p + p->l.pos, p->l.at - p->l.pos), 40);
    return cel_bad(p->err, p->l.pos, E_INVALID, "%s is missing before '%.*s'", wanted, SV_ARG(t));
}

static int expect(struct parser *p, const char *op)
{
    char quoted[8] = {'\'', op[0], '\'', 0};
    return at_op(p, op) ? cel_lex_next(&p->l) : unexpected(p, quoted);
}

/* A node over n others. */
static int make(struct parser *p, enum cel_kind kind, size_t pos, const node *v, uint32_t n,
                struct cel_node **out)
{
    if (++p->nodes > CEL_NODES_MAX)
        return cel_bad(p->err, pos, E_LIMIT, "the expression has more than %d parts",
                       CEL_NODES_MAX);
    struct cel_node *x = arena_new(p->a, struct cel_node);
    node *children = arena_array(p->a, node, n);
    for (uint32_t i = 0; i < n; i++) {
        children[i] = v[i];
        if (v[i]->depth >= x->depth)
            x->depth = (uint16_t)(v[i]->depth + 1);
    }
    if (x->depth > CEL_DEPTH_MAX)
        return cel_bad(p->err, pos, E_LIMIT, "the expression is more than %d parts deep",
                       CEL_DEPTH_MAX);
    x->kind = (uint8_t)kind;
    x->pos = (uint32_t)pos;
    x->v = children;
    x->n = n;
    *out = x;
    return 0;
}

static int make_const(struct parser *p, size_t pos, struct cel_value v, node *out)
{
    struct cel_node *x;
    int rc = make(p, CEL_K_CONST, pos, NULL, 0, &x);
    if (rc == 0) {
        x->value = v;
        *out = x;
    }
    return rc;
}

static int make_pair(struct parser *p, enum cel_kind kind, size_t pos, node a, node b, node *out)
{
    struct cel_node *x;
    int rc = make(p, kind, pos, (const node[]){a, b}, b ? 2 : 1, &x);
    if (rc == 0)
        *out = x;
    return rc;
}

/* ---- calls ---- */

static const struct {
    sv name;
    int args, method_args, optional;
} functions[] = {
#define X(id, name, args, method_args, optional) {SV_INIT(name), args, method_args, optional},
    CEL_FUNCTIONS(X)
#undef X
};

static int function_find(const struct parser *p, sv name, bool method)
{
    for (int i = 0; i < CEL_FN_COUNT; i++)
        if (sv_eq(functions[i].name, name))
            return (method ? functions[i].method_args : functions[i].args) < 0 ||
                           (i == CEL_FN_STRING && !p->c->o.string_conversion)
                       ? -1
                       : i;
    return -1;
}

static int no_function(struct parser *p, sv name, size_t pos, bool method)
{
    static const sv macros[] = {SV_INIT("all"), SV_INIT("exists"), SV_INIT("exists_one"),
                                SV_INIT("map"), SV_INIT("filter")};
    if (method && sv_in(name, macros, sizeof(macros) / sizeof(macros[0])))
        return cel_bad(p->err, pos, E_UNSUPPORTED,
                       "the macro '%.*s' over a list is not supported (nor is it by Envoy)",
                       SV_ARG(name));
    if (sv_eq(name, SV("string")) && !method)
        return cel_bad(p->err, pos, E_UNSUPPORTED,
                       "string() needs cel_config.enable_string_conversion");
    return cel_bad(p->err, pos, E_INVALID, "there is no function '%.*s'%s", SV_ARG(name),
                   method ? " of a value" : "");
}

/* A list of expressions up to `end`; a comma may stand at the end of it in literals. */
static int list(struct parser *p, const char *end, bool comma_ends, node **out, uint32_t *n)
{
    uint32_t cap = 0;
    int rc = 0;
    *n = 0;
    *out = NULL;
    while (!at_op(p, end)) {
        if (*n == cap) {
            node *old = *out;
            cap = cap ? cap * 2 : 4;
            *out = arena_array(p->a, node, cap);
            if (*n)
                memcpy(*out, old, *n * sizeof(node));
        }
        if ((rc = expr(p, &(*out)[*n])) != 0)
            return rc;
        ++*n;
        if (!take(p, ",", &rc))
            break;
        if (rc != 0)
            return rc;
        if (at_op(p, end) && !comma_ends)
            return unexpected(p, "an expression");
    }
    return expect(p, end);
}

static int compile_pattern(struct parser *p, struct cel_node *x)
{
    node pattern = x->v[x->n - 1];
    struct regex *r;
    if (pattern->kind != CEL_K_CONST || pattern->value.type != CEL_STRING)
        return 0;
    int rc = regex_new(pattern->value.s, 0, &r, p->err);
    if (rc != 0) {
        error_prefix(p->err, "at %u: ", pattern->pos + 1);
        return rc;
    }
    arena_on_free(p->a, regex_free_fn, r);
    x->regex = r;
    return 0;
}

/* has(a.b): the field is not fetched. */
static int has(struct parser *p, size_t pos, const node *args, uint32_t n, node *out)
{
    if (n != 1 || args[0]->kind != CEL_K_SELECT)
        return cel_bad(p->err, pos, E_INVALID, "has() takes one field, has(a.b)");
    struct cel_node *x;
    int rc = make(p, CEL_K_HAS, pos, args[0]->v, 1, &x);
    if (rc == 0) {
        x->name = args[0]->name;
        *out = x;
    }
    return rc;
}

/* Behind the '('. receiver: NULL for f(x). */
static int call(struct parser *p, sv name, size_t pos, node receiver, node *out)
{
    node *args;
    uint32_t n;
    int id = function_find(p, name, receiver != NULL);
    bool is_has = !receiver && sv_eq(name, SV("has"));
    if (id < 0 && !is_has)
        return no_function(p, name, pos, receiver != NULL);
    int rc = list(p, ")", false, &args, &n);
    if (rc != 0 || is_has)
        return rc != 0 ? rc : has(p, pos, args, n, out);
    int want = receiver ? functions[id].method_args : functions[id].args;
    if ((int)n > want || (int)n < want - functions[id].optional)
        return cel_bad(p->err, pos, E_INVALID, "'%.*s' takes %d argument%s, not %u", SV_ARG(name),
                       want, want == 1 ? "" : "s", n);
    node v[4] = {receiver};
    uint32_t all = receiver ? 1 : 0;
    for (uint32_t i = 0; i < n; i++)
        v[all++] = args[i];
    struct cel_node *x;
    if ((rc = make(p, CEL_K_CALL, pos, v, all, &x)) != 0)
        return rc;
    x->fn = (uint8_t)id;
    *out = x;
    return id == CEL_FN_MATCHES ? compile_pattern(p, x) : 0;
}

/* ---- names ---- */

static bool is_type(sv name, enum cel_type *out)
{
    static const sv names[] = {
#define X(id, name) SV_INIT(name),
        CEL_TYPES(X)
#undef X
    };
    for (size_t i = CEL_NULL; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sv_eq(names[i], name)) {
            *out = (enum cel_type)i;
            return true;
        }
    }
    return false;
}

static int check(struct parser *p, size_t pos, sv root, sv field)
{
    if (!p->c->o.check)
        return 0;
    int rc = p->c->o.check(root, field, p->err);
    if (rc != 0)
        error_prefix(p->err, "at %zu: ", pos + 1);
    return rc;
}

static int name_node(struct parser *p, sv name, size_t pos, node *out)
{
    static const sv reserved[] = {SV_INIT("as"),       SV_INIT("break"),     SV_INIT("const"),
                                  SV_INIT("continue"), SV_INIT("else"),      SV_INIT("for"),
                                  SV_INIT("function"), SV_INIT("if"),        SV_INIT("import"),
                                  SV_INIT("in"),       SV_INIT("let"),       SV_INIT("loop"),
                                  SV_INIT("package"),  SV_INIT("namespace"), SV_INIT("return"),
                                  SV_INIT("var"),      SV_INIT("void"),      SV_INIT("while")};
    enum cel_type type;
    struct cel_value v = {.type = CEL_NULL};
    if (sv_eq(name, SV("null")))
        return make_const(p, pos, v, out);
    if (sv_eq(name, SV("true")) || sv_eq(name, SV("false")))
        return make_const(p, pos, cel_bool(name.p[0] == 't'), out);
    if (sv_in(name, reserved, sizeof(reserved) / sizeof(reserved[0])))
        return cel_bad(p->err, pos, E_INVALID, "'%.*s' is a reserved word", SV_ARG(name));
    if (is_type(name, &type))
        return make_const(p, pos, (struct cel_value){.type = CEL_TYPE, .of = type}, out);
    int rc = check(p, pos, name, (sv){0});
    struct cel_node *x;
    if (rc == 0 && (rc = make(p, CEL_K_NAME, pos, NULL, 0, &x)) == 0) {
        x->name = arena_sv(p->a, name);
        *out = x;
    }
    return rc;
}

/* ---- primaries and what follows them ---- */

static int map_literal(struct parser *p, size_t pos, node *out)
{
    uint32_t n = 0, cap = 0;
    node *v = NULL;
    int rc = 0;
    while (!at_op(p, "}")) {
        if (n + 2 > cap) {
            node *old = v;
            cap = cap ? cap * 2 : 8;
            v = arena_array(p->a, node, cap);
            if (n)
                memcpy(v, old, n * sizeof(node));
        }
        if ((rc = expr(p, &v[n])) != 0 || (rc = expect(p, ":")) != 0 ||
            (rc = expr(p, &v[n + 1])) != 0)
            return rc;
        n += 2;
        if (!take(p, ",", &rc))
            break;
        if (rc != 0)
            return rc;
    }
    struct cel_node *x;
    if ((rc = expect(p, "}")) == 0 && (rc = make(p, CEL_K_MAP, pos, v, n, &x)) == 0)
        *out = x;
    return rc;
}

static int list_literal(struct parser *p, size_t pos, node *out)
{
    node *v;
    uint32_t n;
    struct cel_node *x;
    int rc = list(p, "]", true, &v, &n);
    if (rc == 0 && (rc = make(p, CEL_K_LIST, pos, v, n, &x)) == 0)
        *out = x;
    return rc;
}

static int primary(struct parser *p, node *out)
{
    size_t pos = p->l.pos;
    int rc = 0;
    if (p->l.kind == CEL_T_CONST) {
        struct cel_value v = p->l.value;
        if (p->l.number && cel_number(p->l.token, false, &v) != 0)
            return cel_bad(p->err, pos, E_INVALID, "'%.*s' is no number that fits",
                           SV_ARG(p->l.token));
        rc = cel_lex_next(&p->l);
        return rc == 0 ? make_const(p, pos, v, out) : rc;
    }
    if (take(p, "(", &rc)) {
        if (rc == 0)
            rc = expr(p, out);
        return rc == 0 ? expect(p, ")") : rc;
    }
    if (take(p, "[", &rc))
        return rc == 0 ? list_literal(p, pos, out) : rc;
    if (take(p, "{", &rc))
        return rc == 0 ? map_literal(p, pos, out) : rc;
    if (take(p, ".", &rc) && rc != 0) /* ".a": from the outermost names, which are all there are */
        return rc;
    if (p->l.kind != CEL_T_NAME)
        return unexpected(p, "an expression");
    sv name = p->l.token;
    pos = p->l.pos;
    if ((rc = cel_lex_next(&p->l)) != 0)
        return rc;
    if (take(p, "(", &rc))
        return rc == 0 ? call(p, name, pos, NULL, out) : rc;
    return name_node(p, name, pos, out);
}

static int select_or_call(struct parser *p, node *x)
{
    if (p->l.kind != CEL_T_NAME)
        return unexpected(p, "the name of a field");
    sv name = p->l.token;
    size_t pos = p->l.pos;
    int rc = cel_lex_next(&p->l);
    if (rc != 0)
        return rc;
    if (take(p, "(", &rc))
        return rc == 0 ? call(p, name, pos, *x, x) : rc;
    if ((*x)->kind == CEL_K_NAME && (rc = check(p, pos, (*x)->name, name)) != 0)
        return rc;
    struct cel_node *s;
    rc = make(p, CEL_K_SELECT, pos, x, 1, &s);
    if (rc == 0) {
        s->name = arena_sv(p->a, name);
        *x = s;
    }
    return rc;
}

static int member(struct parser *p, node *out)
{
    int rc = primary(p, out);
    while (rc == 0) {
        size_t pos = p->l.pos;
        if (take(p, ".", &rc)) {
            if (rc == 0)
                rc = select_or_call(p, out);
        } else if (take(p, "[", &rc)) {
            node key;
            if (rc != 0 || (rc = expr(p, &key)) != 0 || (rc = expect(p, "]")) != 0)
                return rc;
            if ((*out)->kind == CEL_K_NAME && key->kind == CEL_K_CONST &&
                key->value.type == CEL_STRING)
                rc = check(p, key->pos, (*out)->name, key->value.s);
            if (rc == 0)
                rc = make_pair(p, CEL_K_INDEX, pos, *out, key, out);
        } else {
            break;
        }
    }
    return rc;
}

/* ---- operators ---- */

static int unary(struct parser *p, node *out)
{
    size_t pos = p->l.pos;
    uint32_t n = 0;
    int rc = 0;
    const char *op = at_op(p, "!") ? "!" : "-";
    while (rc == 0 && take(p, op, &rc))
        n++;
    if (rc != 0)
        return rc;
    if (n && op[0] == '-' && p->l.kind == CEL_T_CONST && p->l.number) {
        struct cel_value v;
        if (cel_number(p->l.token, true, &v) == 0) {
            p->l.value = v;
            p->l.number = false; /* it is read already */
            n--;
        }
    }
    rc = member(p, out);
    /* Two of them are none for truth values and numbers, and an error as one for all else. */
    for (n = n > 2 ? 2 - n % 2 : n; rc == 0 && n; n--)
        rc = make_pair(p, op[0] == '!' ? CEL_K_NOT : CEL_K_NEG, pos, *out, NULL, out);
    return rc;
}

static const struct {
    sv op;
    uint8_t kind, binds;
} binary[] = {
    {SV_INIT("||"), CEL_K_OR, 1}, {SV_INIT("&&"), CEL_K_AND, 2}, {SV_INIT("=="), CEL_K_EQ, 3},
    {SV_INIT("!="), CEL_K_NE, 3}, {SV_INIT("<="), CEL_K_LE, 3},  {SV_INIT(">="), CEL_K_GE, 3},
    {SV_INIT("<"), CEL_K_LT, 3},  {SV_INIT(">"), CEL_K_GT, 3},   {SV_INIT("in"), CEL_K_IN, 3},
    {SV_INIT("+"), CEL_K_ADD, 4}, {SV_INIT("-"), CEL_K_SUB, 4},  {SV_INIT("*"), CEL_K_MUL, 5},
    {SV_INIT("/"), CEL_K_DIV, 5}, {SV_INIT("%"), CEL_K_MOD, 5},
};

static int find_binary(const struct parser *p)
{
    if (p->l.kind == CEL_T_OP || (p->l.kind == CEL_T_NAME && sv_eq(p->l.token, SV("in"))))
        for (int i = 0; i < (int)(sizeof(binary) / sizeof(binary[0])); i++)
            if (sv_eq(binary[i].op, p->l.token))
                return i;
    return -1;
}

/* Operators that bind at least as strongly as `least`. */
static int operators(struct parser *p, int least, node *out)
{
    int rc = unary(p, out);
    while (rc == 0) {
        size_t pos = p->l.pos;
        node right;
        int op = find_binary(p);
        if (op < 0 || binary[op].binds < least)
            break;
        if ((rc = cel_lex_next(&p->l)) == 0 &&
            (rc = operators(p, binary[op].binds + 1, &right)) == 0)
            rc = make_pair(p, (enum cel_kind)binary[op].kind, pos, *out, right, out);
    }
    return rc;
}

static int expr(struct parser *p, node *out)
{
    size_t pos = p->l.pos;
    int rc;
    if (++p->nest > CEL_NEST_MAX)
        return cel_bad(p->err, pos, E_LIMIT, "expressions are nested more than %d deep",
                       CEL_NEST_MAX);
    node v[3];
    if ((rc = operators(p, 1, &v[0])) != 0)
        return rc;
    *out = v[0];
    if (take(p, "?", &rc)) {
        struct cel_node *x;
        if (rc != 0 || (rc = operators(p, 1, &v[1])) != 0 || (rc = expect(p, ":")) != 0 ||
            (rc = expr(p, &v[2])) != 0 || (rc = make(p, CEL_K_COND, pos, v, 3, &x)) != 0)
            return rc;
        *out = x;
    }
    p->nest--;
    return rc;
}

int cel_compile(sv text, const struct cel_opts *o, struct arena *a, const struct cel **out,
                struct error *err)
{
    struct cel *c = arena_new(a, struct cel);
    if (text.n > CEL_TEXT_MAX)
        return error_set(err, E_LIMIT, "the expression is longer than %d bytes", CEL_TEXT_MAX);
    text = arena_sv(a, text);
    c->o = *o;
    struct parser p = {.l = {.text = text, .a = a, .err = err}, .c = c, .a = a, .err = err};
    int rc = cel_lex_next(&p.l);
    if (rc == 0)
        rc = expr(&p, &c->top);
    if (rc == 0 && p.l.kind != CEL_T_END)
        rc = unexpected(&p, "an operator");
    if (rc == 0)
        *out = c;
    return rc;
}
