/* Functions and conversions. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/pb.h"
#include "cel/cel_int.h"

/* A pattern that is not constant may be a peer's: Envoy's bound. */
#define PATTERN_MAX_PROGRAM 100

static struct cel_value no_overload(void)
{
    return cel_error("no such overload");
}

static struct cel_value size(const struct cel_value *v)
{
    int64_t n = 0;
    switch (v->type) {
    case CEL_STRING: /* characters */
        for (size_t i = 0; i < v->s.n; i++)
            n += (v->s.p[i] & 0xc0) != 0x80;
        return cel_int(n);
    case CEL_BYTES:
        return cel_int((int64_t)v->s.n);
    case CEL_LIST:
        return cel_int(v->list->n);
    case CEL_MAP:
        return cel_int(v->map->n);
    default:
        return no_overload();
    }
}

static struct cel_value text_test(const struct cel_node *n, const struct cel_value *v)
{
    if (v[0].type != CEL_STRING || v[1].type != CEL_STRING)
        return no_overload();
    switch (n->fn) {
    case CEL_FN_CONTAINS:
        return cel_bool(v[1].s.n == 0 || sv_find_sv(v[0].s, v[1].s) >= 0);
    case CEL_FN_STARTS:
        return cel_bool(sv_starts(v[0].s, v[1].s));
    case CEL_FN_ENDS:
        return cel_bool(sv_ends(v[0].s, v[1].s));
    default:
        break;
    }
    if (n->regex)
        return cel_bool(regex_partial(n->regex, v[0].s));
    struct regex *r;
    if (regex_new(v[1].s, PATTERN_MAX_PROGRAM, &r, NULL) != 0)
        return cel_error("the pattern is none, or too large");
    struct cel_value found = cel_bool(regex_partial(r, v[0].s));
    regex_free(r);
    return found;
}

/* ---- conversions ---- */

static struct cel_value out_of_range(void)
{
    return cel_error("the number does not fit");
}

static struct cel_value to_int(const struct cel_value *v)
{
    int64_t i;
    switch (v->type) {
    case CEL_INT:
        return *v;
    case CEL_UINT:
        return v->u > INT64_MAX ? out_of_range() : cel_int((int64_t)v->u);
    case CEL_DOUBLE: /* the bounds themselves are out: rounding could have made them */
        return v->d > -9223372036854775808.0 && v->d < 9223372036854775808.0
                   ? cel_int((int64_t)v->d)
                   : out_of_range();
    case CEL_STRING:
        return sv_to_i64(v->s, &i) == 0 ? cel_int(i) : cel_error("the text is no int");
    case CEL_TIMESTAMP:
        return cel_int(v->t.s);
    default:
        return no_overload();
    }
}

static struct cel_value to_uint(const struct cel_value *v)
{
    uint64_t u;
    switch (v->type) {
    case CEL_UINT:
        return *v;
    case CEL_INT:
        return v->i < 0 ? out_of_range() : cel_uint((uint64_t)v->i);
    case CEL_DOUBLE:
        return v->d >= 0 && v->d < 18446744073709551616.0 ? cel_uint((uint64_t)v->d)
                                                          : out_of_range();
    case CEL_STRING:
        return sv_to_u64(v->s, &u) == 0 ? cel_uint(u) : cel_error("the text is no uint");
    default:
        return no_overload();
    }
}

static struct cel_value text_to_double(sv text)
{
    char copy[400], *end;
    if (text.n == 0 || text.n >= sizeof(copy) || memchr(text.p, 0, text.n) ||
        memchr(text.p, 'x', text.n) || memchr(text.p, 'X', text.n))
        return cel_error("the text is no double");
    snprintf(copy, sizeof(copy), "%.*s", SV_ARG(text));
    double d = strtod(copy, &end);
    return *end || end == copy ? cel_error("the text is no double") : cel_double(d);
}

static struct cel_value to_double(const struct cel_value *v)
{
    switch (v->type) {
    case CEL_DOUBLE:
        return *v;
    case CEL_INT:
        return cel_double((double)v->i);
    case CEL_UINT:
        return cel_double((double)v->u);
    case CEL_STRING:
        return text_to_double(v->s);
    default:
        return no_overload();
    }
}

static struct cel_value to_bool(const struct cel_value *v)
{
    static const sv yes[] = {SV_INIT("true"), SV_INIT("True"), SV_INIT("TRUE"), SV_INIT("t"),
                             SV_INIT("1")};
    static const sv no[] = {SV_INIT("false"), SV_INIT("False"), SV_INIT("FALSE"), SV_INIT("f"),
                            SV_INIT("0")};
    if (v->type == CEL_BOOL)
        return *v;
    if (v->type != CEL_STRING)
        return no_overload();
    bool is = sv_in(v->s, yes, sizeof(yes) / sizeof(yes[0]));
    return is || sv_in(v->s, no, sizeof(no) / sizeof(no[0])) ? cel_bool(is)
                                                             : cel_error("the text is no bool");
}

static struct cel_value to_string(const struct cel_value *v, struct arena *a)
{
    struct strbuf b;
    switch (v->type) {
    case CEL_STRING:
        return *v;
    case CEL_BYTES:
        return pb_utf8_ok(v->s) ? cel_string(v->s) : cel_error("the bytes are not UTF-8");
    case CEL_BOOL:
        return cel_string(v->b ? SV("true") : SV("false"));
    case CEL_INT:
    case CEL_UINT:
    case CEL_DOUBLE:
    case CEL_DURATION:
    case CEL_TIMESTAMP:
        break;
    default:
        return no_overload();
    }
    strbuf_init(&b, 512);
    if (v->type == CEL_TIMESTAMP)
        cel_print_timestamp(v->t, "Z", &b);
    else if (v->type == CEL_DURATION)
        cel_to_json(v, &b);
    else
        cel_print(v, &b);
    sv text = strbuf_sv(&b);
    if (v->type == CEL_DURATION) /* without the quotes of JSON */
        text = sv_make(text.p + 1, text.n - 2);
    struct cel_value r = cel_string(arena_sv(a, text));
    strbuf_fini(&b);
    return r;
}

static struct cel_value to_bytes(const struct cel_value *v)
{
    if (v->type != CEL_STRING && v->type != CEL_BYTES)
        return no_overload();
    return (struct cel_value){.type = CEL_BYTES, .s = v->s};
}

static struct cel_value to_timestamp(const struct cel_value *v)
{
    if (v->type == CEL_STRING)
        return cel_parse_timestamp(v->s);
    if (v->type == CEL_INT)
        return cel_time_value(CEL_TIMESTAMP, (__int128)v->i * 1000000000);
    return v->type == CEL_TIMESTAMP ? *v : no_overload();
}

static struct cel_value time_part(const struct cel_node *n, const struct cel_value *v)
{
    if (n->n > 1 && v[1].type != CEL_STRING)
        return no_overload();
    return cel_time_part((enum cel_fn)n->fn, v, n->n > 1 ? &v[1].s : NULL);
}

struct cel_value cel_call(const struct cel_node *n, const struct cel_value *v, struct arena *a)
{
    switch (n->fn) {
    case CEL_FN_SIZE:
        return size(v);
    case CEL_FN_CONTAINS:
    case CEL_FN_STARTS:
    case CEL_FN_ENDS:
    case CEL_FN_MATCHES:
        return text_test(n, v);
    case CEL_FN_BOOL:
        return to_bool(v);
    case CEL_FN_INT:
        return to_int(v);
    case CEL_FN_UINT:
        return to_uint(v);
    case CEL_FN_DOUBLE:
        return to_double(v);
    case CEL_FN_STRING:
        return to_string(v, a);
    case CEL_FN_BYTES:
        return to_bytes(v);
    case CEL_FN_DURATION:
        return v->type == CEL_STRING     ? cel_parse_duration(v->s)
               : v->type == CEL_DURATION ? *v
                                         : no_overload();
    case CEL_FN_TIMESTAMP:
        return to_timestamp(v);
    case CEL_FN_TYPE:
        return (struct cel_value){.type = CEL_TYPE, .of = v->type};
    case CEL_FN_DYN:
        return *v;
    default:
        return time_part(n, v);
    }
}
