/* Evaluating a tree. Recursion is bounded by the tree's depth, which the parser bounds. */
#include "cel/cel_int.h"

struct eval {
    const struct cel *c;
    const struct cel_env *e;
};

static struct cel_value eval(const struct eval *x, const struct cel_node *n);

static struct cel_value no_key(void)
{
    return cel_error("no such key");
}

bool cel_map_get(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                 struct cel_value *out)
{
    if (m->get)
        return m->get(m, key, a, out);
    for (uint32_t i = 0; i < m->n; i++) {
        struct cel_value same = cel_equal(&m->v[i].key, key);
        if (same.type == CEL_BOOL && same.b) {
            *out = m->v[i].value;
            return true;
        }
    }
    return false;
}

static struct cel_value field(const struct eval *x, const struct cel_node *n)
{
    struct cel_value of = eval(x, n->v[0]), key = cel_string(n->name), v;
    if (of.type == CEL_ERROR)
        return of;
    if (of.type != CEL_MAP)
        return cel_error("no such overload");
    bool there = cel_map_get(of.map, &key, x->e->arena, &v);
    if (n->kind == CEL_K_HAS)
        return cel_bool(there);
    return there ? v : no_key();
}

/* An int from a key of a list: also of a double that is whole. */
static bool position(const struct cel_value *v, uint64_t *out)
{
    if (v->type == CEL_UINT)
        *out = v->u;
    else if (v->type == CEL_INT)
        *out = (uint64_t)v->i; /* negative: past every end */
    else if (v->type == CEL_DOUBLE && v->d >= 0 && v->d < UINT32_MAX && v->d == (uint32_t)v->d)
        *out = (uint32_t)v->d;
    else
        return false;
    return true;
}

static bool may_be_key(enum cel_type t)
{
    return t == CEL_STRING || t == CEL_INT || t == CEL_UINT || t == CEL_BOOL;
}

static struct cel_value index_of(const struct eval *x, const struct cel_node *n)
{
    struct cel_value of = eval(x, n->v[0]), key, v;
    uint64_t i;
    if (of.type == CEL_ERROR)
        return of;
    key = eval(x, n->v[1]);
    if (key.type == CEL_ERROR)
        return key;
    if (of.type == CEL_LIST && position(&key, &i))
        return i < of.list->n ? of.list->v[i] : cel_error("index is out of bounds");
    if (of.type != CEL_MAP || (!may_be_key(key.type) && key.type != CEL_DOUBLE))
        return cel_error("no such overload");
    return cel_map_get(of.map, &key, x->e->arena, &v) ? v : no_key();
}

static struct cel_value in(const struct eval *x, const struct cel_value *v,
                           const struct cel_value *where)
{
    struct cel_value ignored;
    if (where->type == CEL_MAP)
        return may_be_key(v->type) || v->type == CEL_DOUBLE
                   ? cel_bool(cel_map_get(where->map, v, x->e->arena, &ignored))
                   : cel_error("no such overload");
    if (where->type != CEL_LIST)
        return cel_error("no such overload");
    struct cel_value failed = cel_bool(false);
    for (uint32_t i = 0; i < where->list->n; i++) {
        struct cel_value same = cel_equal(v, &where->list->v[i]);
        if (same.type == CEL_BOOL && same.b)
            return same;
        if (same.type == CEL_ERROR)
            failed = same;
    }
    return failed;
}

/* One side alone may decide, whatever the other is, an error included. */
static struct cel_value logic(const struct eval *x, const struct cel_node *n)
{
    bool decides = n->kind == CEL_K_OR;
    struct cel_value a = eval(x, n->v[0]);
    if (a.type == CEL_BOOL && a.b == decides)
        return a;
    struct cel_value b = eval(x, n->v[1]);
    if (b.type == CEL_BOOL && (b.b == decides || a.type == CEL_BOOL))
        return b;
    return a.type == CEL_ERROR ? a : b.type == CEL_ERROR ? b : cel_error("no such overload");
}

static struct cel_value condition(const struct eval *x, const struct cel_node *n)
{
    struct cel_value c = eval(x, n->v[0]);
    if (c.type != CEL_BOOL)
        return c.type == CEL_ERROR ? c : cel_error("no such overload");
    return eval(x, n->v[c.b ? 1 : 2]);
}

static struct cel_value list(const struct eval *x, const struct cel_node *n)
{
    struct cel_value *v = arena_array(x->e->arena, struct cel_value, n->n);
    for (uint32_t i = 0; i < n->n; i++) {
        v[i] = eval(x, n->v[i]);
        if (v[i].type == CEL_ERROR)
            return v[i];
    }
    struct cel_list *l = arena_new(x->e->arena, struct cel_list);
    *l = (struct cel_list){v, n->n};
    return (struct cel_value){.type = CEL_LIST, .list = l};
}

static struct cel_value map(const struct eval *x, const struct cel_node *n)
{
    struct cel_entry *v = arena_array(x->e->arena, struct cel_entry, n->n / 2);
    struct cel_map *m = arena_new(x->e->arena, struct cel_map);
    struct cel_value ignored;
    m->v = v;
    for (; m->n < n->n / 2; m->n++) {
        struct cel_entry *at = &v[m->n];
        at->key = eval(x, n->v[2 * m->n]);
        at->value = eval(x, n->v[2 * m->n + 1]);
        if (at->key.type == CEL_ERROR)
            return at->key;
        if (at->value.type == CEL_ERROR)
            return at->value;
        if (!may_be_key(at->key.type))
            return cel_error("no key of a map");
        if (cel_map_get(m, &at->key, x->e->arena, &ignored))
            return cel_error("a key stands twice");
    }
    return (struct cel_value){.type = CEL_MAP, .map = m};
}

static struct cel_value call(const struct eval *x, const struct cel_node *n)
{
    struct cel_value args[4];
    for (uint32_t i = 0; i < n->n; i++) {
        args[i] = eval(x, n->v[i]);
        if (args[i].type == CEL_ERROR)
            return args[i];
    }
    return cel_call(n, args, x->e->arena);
}

static struct cel_value negation(const struct eval *x, const struct cel_node *n)
{
    struct cel_value v = eval(x, n->v[0]);
    if (v.type == CEL_ERROR)
        return v;
    if (n->kind == CEL_K_NEG)
        return cel_negate(&v);
    return v.type == CEL_BOOL ? cel_bool(!v.b) : cel_error("no such overload");
}

static struct cel_value compare(enum cel_kind op, const struct cel_value *a,
                                const struct cel_value *b)
{
    int order = cel_compare(a, b);
    if (order == CEL_NO_ORDER)
        return cel_error("no such overload");
    if (order == CEL_UNORDERED)
        return cel_bool(false);
    return cel_bool(op == CEL_K_LT   ? order < 0
                    : op == CEL_K_LE ? order <= 0
                    : op == CEL_K_GT ? order > 0
                                     : order >= 0);
}

static struct cel_value binary(const struct eval *x, const struct cel_node *n)
{
    struct cel_value a = eval(x, n->v[0]), b, same;
    if (a.type == CEL_ERROR)
        return a;
    b = eval(x, n->v[1]);
    if (b.type == CEL_ERROR)
        return b;
    switch (n->kind) {
    case CEL_K_EQ:
        return cel_equal(&a, &b);
    case CEL_K_NE:
        same = cel_equal(&a, &b);
        return same.type == CEL_BOOL ? cel_bool(!same.b) : same;
    case CEL_K_LT:
    case CEL_K_LE:
    case CEL_K_GT:
    case CEL_K_GE:
        return compare((enum cel_kind)n->kind, &a, &b);
    case CEL_K_IN:
        return in(x, &a, &b);
    default:
        return cel_arithmetic((enum cel_kind)n->kind, &a, &b, x->c, x->e->arena);
    }
}

static struct cel_value eval(const struct eval *x, const struct cel_node *n)
{
    struct cel_value v;
    switch (n->kind) {
    case CEL_K_CONST:
        return n->value;
    case CEL_K_NAME:
        return x->e->root && x->e->root(x->e, n->name, &v) ? v : cel_error("no such name");
    case CEL_K_SELECT:
    case CEL_K_HAS:
        return field(x, n);
    case CEL_K_INDEX:
        return index_of(x, n);
    case CEL_K_LIST:
        return list(x, n);
    case CEL_K_MAP:
        return map(x, n);
    case CEL_K_CALL:
        return call(x, n);
    case CEL_K_NOT:
    case CEL_K_NEG:
        return negation(x, n);
    case CEL_K_AND:
    case CEL_K_OR:
        return logic(x, n);
    case CEL_K_COND:
        return condition(x, n);
    default:
        return binary(x, n);
    }
}

struct cel_value cel_eval(const struct cel *c, const struct cel_env *e)
{
    struct eval x = {c, e};
    return eval(&x, c->top);
}
