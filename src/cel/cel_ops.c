/* Equality, order and arithmetic. */
#include <math.h>
#include "cel/cel_int.h"

static struct cel_value no_overload(void)
{
    return cel_error("no such overload");
}

static bool is_number(const struct cel_value *v)
{
    return v->type == CEL_INT || v->type == CEL_UINT || v->type == CEL_DOUBLE;
}

static int sign(bool less, bool more)
{
    return (int)more - (int)less;
}

/* A whole number between -2^63 and 2^64 with a double: by value, without rounding. */
static int order_whole(__int128 n, double d)
{
    if (isnan(d))
        return CEL_UNORDERED;
    if (d >= 18446744073709551616.0)
        return -1;
    if (d < -9223372036854775808.0)
        return 1;
    __int128 floor_d = (__int128)floor(d);
    return n != floor_d ? sign(n<floor_d, n> floor_d) : (floor(d) < d ? -1 : 0);
}

static __int128 as_whole(const struct cel_value *v)
{
    return v->type == CEL_INT ? (__int128)v->i : (__int128)v->u;
}

static int order_numbers(const struct cel_value *a, const struct cel_value *b)
{
    if (a->type == CEL_DOUBLE && b->type == CEL_DOUBLE)
        return isnan(a->d) || isnan(b->d) ? CEL_UNORDERED : sign(a->d<b->d, a->d> b->d);
    if (b->type == CEL_DOUBLE)
        return order_whole(as_whole(a), b->d);
    if (a->type == CEL_DOUBLE) {
        int r = order_whole(as_whole(b), a->d);
        return r == CEL_UNORDERED ? r : -r;
    }
    __int128 x = as_whole(a), y = as_whole(b);
    return sign(x<y, x> y);
}

int cel_compare(const struct cel_value *a, const struct cel_value *b)
{
    if (is_number(a) && is_number(b))
        return order_numbers(a, b);
    if (a->type != b->type)
        return CEL_NO_ORDER;
    switch (a->type) {
    case CEL_BOOL:
        return (int)a->b - (int)b->b;
    case CEL_STRING:
    case CEL_BYTES: {
        int r = sv_cmp(a->s, b->s);
        return sign(r<0, r> 0);
    }
    case CEL_DURATION:
    case CEL_TIMESTAMP:
        return a->t.s != b->t.s ? sign(a->t.s<b->t.s, a->t.s> b->t.s)
                                : sign(a->t.ns<b->t.ns, a->t.ns> b->t.ns);
    default:
        return CEL_NO_ORDER;
    }
}

static struct cel_value equal_lists(const struct cel_list *a, const struct cel_list *b)
{
    struct cel_value r = cel_bool(a->n == b->n);
    for (uint32_t i = 0; r.type == CEL_BOOL && r.b && i < a->n; i++)
        r = cel_equal(&a->v[i], &b->v[i]);
    return r;
}

static struct cel_value equal_maps(const struct cel_map *a, const struct cel_map *b)
{
    if (a->get || b->get)
        return no_overload();
    struct cel_value r = cel_bool(a->n == b->n), other;
    for (uint32_t i = 0; r.type == CEL_BOOL && r.b && i < a->n; i++)
        r = cel_map_get(b, &a->v[i].key, NULL, &other) ? cel_equal(&a->v[i].value, &other)
                                                       : cel_bool(false);
    return r;
}

struct cel_value cel_equal(const struct cel_value *a, const struct cel_value *b)
{
    if (is_number(a) && is_number(b))
        return cel_bool(order_numbers(a, b) == 0);
    if (a->type != b->type)
        return cel_bool(false);
    switch (a->type) {
    case CEL_NULL:
        return cel_bool(true);
    case CEL_TYPE:
        return cel_bool(a->of == b->of);
    case CEL_LIST:
        return equal_lists(a->list, b->list);
    case CEL_MAP:
        return equal_maps(a->map, b->map);
    default:
        return cel_bool(cel_compare(a, b) == 0);
    }
}

/* ---- arithmetic ---- */

static struct cel_value overflow(void)
{
    return cel_error("the number does not fit");
}

static bool fits(enum cel_type type, __int128 v)
{
    return type == CEL_INT ? v >= INT64_MIN && v <= INT64_MAX : v >= 0 && v <= UINT64_MAX;
}

/* Of two ints or two uints. */
static struct cel_value whole(enum cel_kind op, const struct cel_value *a,
                              const struct cel_value *b)
{
    __int128 x = as_whole(a), y = as_whole(b), r = 0;
    bool over = false;
    switch (op) {
    case CEL_K_ADD:
        r = x + y;
        break;
    case CEL_K_SUB:
        r = x - y;
        break;
    case CEL_K_MUL:
        over = __builtin_mul_overflow(x, y, &r); /* two large uints */
        break;
    default:
        if (y == 0)
            return cel_error("divided by zero");
        over = !fits(a->type, x / y); /* the rest, too, is that of a quotient */
        r = op == CEL_K_DIV ? x / y : x % y;
        break;
    }
    if (over || !fits(a->type, r))
        return overflow();
    return a->type == CEL_INT ? cel_int((int64_t)r) : cel_uint((uint64_t)r);
}

static double divide(double a, double b)
{
    /* IEEE's answer, which the sanitizers want to hear said. */
    if (b == 0)
        return a == 0 || isnan(a) ? NAN : (signbit(a) != signbit(b) ? -INFINITY : INFINITY);
    return a / b;
}

static struct cel_value doubles(enum cel_kind op, double a, double b)
{
    switch (op) {
    case CEL_K_ADD:
        return cel_double(a + b);
    case CEL_K_SUB:
        return cel_double(a - b);
    case CEL_K_MUL:
        return cel_double(a * b);
    case CEL_K_DIV:
        return cel_double(divide(a, b));
    default:
        return no_overload();
    }
}

static struct cel_value times(enum cel_kind op, const struct cel_value *a,
                              const struct cel_value *b)
{
    bool both_points = a->type == CEL_TIMESTAMP && b->type == CEL_TIMESTAMP;
    __int128 x = cel_time_ns(a->t), y = cel_time_ns(b->t);
    if (op == CEL_K_ADD && !both_points)
        return cel_time_value(a->type == CEL_TIMESTAMP || b->type == CEL_TIMESTAMP ? CEL_TIMESTAMP
                                                                                   : CEL_DURATION,
                              x + y);
    if (op == CEL_K_SUB && (both_points || b->type == CEL_DURATION))
        return cel_time_value(both_points ? CEL_DURATION : a->type, x - y);
    return no_overload();
}

static struct cel_value concat(const struct cel_value *a, const struct cel_value *b,
                               struct arena *arena)
{
    if (a->s.n + b->s.n > CEL_CONCAT_MAX)
        return cel_error("the text grows too long");
    char *p = arena_alloc(arena, a->s.n + b->s.n);
    if (a->s.n)
        memcpy(p, a->s.p, a->s.n);
    if (b->s.n)
        memcpy(p + a->s.n, b->s.p, b->s.n);
    return (struct cel_value){.type = a->type, .s = sv_make(p, a->s.n + b->s.n)};
}

static bool is_time(const struct cel_value *v)
{
    return v->type == CEL_DURATION || v->type == CEL_TIMESTAMP;
}

struct cel_value cel_arithmetic(enum cel_kind op, const struct cel_value *a,
                                const struct cel_value *b, const struct cel *c, struct arena *arena)
{
    if (is_time(a) && is_time(b))
        return times(op, a, b);
    if (a->type != b->type)
        return no_overload();
    switch (a->type) {
    case CEL_INT:
    case CEL_UINT:
        return whole(op, a, b);
    case CEL_DOUBLE:
        return doubles(op, a->d, b->d);
    case CEL_STRING:
    case CEL_BYTES:
        return op == CEL_K_ADD && c->o.string_concat ? concat(a, b, arena) : no_overload();
    default:
        return no_overload();
    }
}

struct cel_value cel_negate(const struct cel_value *v)
{
    if (v->type == CEL_INT)
        return v->i == INT64_MIN ? overflow() : cel_int(-v->i);
    return v->type == CEL_DOUBLE ? cel_double(-v->d) : no_overload();
}
