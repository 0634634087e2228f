#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/node_build.h"
#include "api/pb_all.h"
#include "api/pb_reader.h"
#include "base/distance.h"

static int fail_v(struct pb_reader *r, const char *file, uint32_t line, const struct pb_frame *fr,
                  sv last, const char *fmt, va_list ap)
{
    char path[512];
    error_setv(r->err, E_INVALID, fmt, ap);
    if (*pb_path(fr, last, r->o, path, sizeof path))
        error_prefix(r->err, "%s:%u: %s: ", file, line, path);
    else
        error_prefix(r->err, "%s:%u: ", file, line);
    return E_INVALID;
}

int pb_reader_fail(struct pb_reader *r, const struct node *n, const struct pb_frame *fr,
                   const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_v(r, n->file, n->line, fr, (sv){NULL, 0}, fmt, ap);
    va_end(ap);
    return E_INVALID;
}

int pb_reader_fail_at(struct pb_reader *r, const char *file, uint32_t line,
                      const struct pb_frame *fr, sv last, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_v(r, file, line, fr, last, fmt, ap);
    va_end(ap);
    return E_INVALID;
}

static const char *kind_text(const struct node *n)
{
    switch (n->kind) {
    case NODE_MAP:
        return "a mapping";
    case NODE_SEQ:
        return "a list";
    case NODE_NULL:
        return "null";
    default:
        return n->quoted ? "a quoted string" : "a scalar";
    }
}

/* Scalars in messages are cut: they may be as long as a document. */
int pb_reader_shown(sv v)
{
    return (int)(v.n < 80 ? v.n : 80);
}

int pb_reader_need(struct pb_reader *r, const struct node *n, enum node_kind kind, const char *what,
                   const struct pb_frame *fr)
{
    if (n->kind == kind)
        return 0;
    return pb_reader_fail(r, n, fr, "must be %s, is %s", what, kind_text(n));
}

/* ---- did you mean ---- */

struct guess {
    sv wanted;
    const char *best;
    unsigned distance;
};

static struct guess guess_start(sv wanted)
{
    /* A third of the letters may differ, not more: beyond that a guess is noise. Of a type it
     * is its last part that counts: most types share their first parts with many. */
    return (struct guess){wanted, NULL, (unsigned)(wanted.n / 3) + 1};
}

static void guess_try(struct guess *g, const char *name, const char *shown_as)
{
    unsigned d = g->distance ? name_distance(g->wanted, sv_of(name)) : 1;
    if (d < g->distance) {
        g->distance = d;
        g->best = shown_as;
    }
}

#define MEAN_FMT    "%s%s%s"
#define MEAN_ARG(g) (g).best ? "; did you mean " : "", (g).best ? (g).best : "", (g).best ? "?" : ""

int pb_reader_unknown_field(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                            uint32_t i, const struct pb_frame *fr)
{
    char path[512];
    if (r->o && r->o->allow_unknown) {
        if (r->o->on_unknown)
            r->o->on_unknown(r->o->arg, pb_path(fr, n->keys[i], r->o, path, sizeof path));
        return 0;
    }
    struct guess g = guess_start(n->keys[i]);
    bool snake = memchr(n->keys[i].p, '_', n->keys[i].n) != NULL;
    for (uint32_t k = 0; k < m->n_fields; k++)
        guess_try(&g, m->fields[k].name, snake ? m->fields[k].name : m->fields[k].json);
    return pb_reader_fail_at(r, n->file, n->key_lines[i], fr, n->keys[i],
                             "no such field in %s" MEAN_FMT, m->full_name, MEAN_ARG(g));
}

static int unknown_enum(struct pb_reader *r, const struct pb_enum *e, const struct node *n,
                        const struct pb_frame *fr)
{
    struct guess g = guess_start(n->text);
    for (uint32_t i = 0; i < e->n; i++)
        guess_try(&g, e->values[i].name, e->values[i].name);
    return pb_reader_fail(r, n, fr, "\"%.*s\" is no value of %s" MEAN_FMT, pb_reader_shown(n->text),
                          n->text.p, e->full_name, MEAN_ARG(g));
}

int pb_reader_unknown_type(struct pb_reader *r, sv type, const struct node *n,
                           const struct pb_frame *fr)
{
    sv last = type, rest = type;
    while (sv_cut(rest, '.', &last, &rest))
        ;
    struct guess g = guess_start(last);
    g.wanted = type;
    for (uint32_t i = 0; i < pb_all_n; i++)
        guess_try(&g, pb_all[i]->full_name, pb_all[i]->full_name);
    bool extension = !g.best && sv_starts(type, SV("envoy."));
    return pb_reader_fail(r, n, fr, "type \"%.*s\" is %s" MEAN_FMT, pb_reader_shown(type), type.p,
                          extension ? "an extension of Envoy that weft does not have"
                                    : "unknown to weft",
                          MEAN_ARG(g));
}

/* ---- scalars ---- */

/* An integer between lo and hi, also spelled 1e3 or 1.0 as the JSON mapping allows. */
static int read_int(struct pb_reader *r, const struct pb_field *f, const struct node *n,
                    __int128 lo, __int128 hi, __int128 *out, const struct pb_frame *fr)
{
    const char *kind = pb_kind_name(f->kind);
    uint64_t u;
    bool minus = n->text.n && n->text.p[0] == '-';
    if (pb_reader_need(r, n, NODE_SCALAR, "a number", fr) < 0)
        return E_INVALID;
    if (!node_text_is_number(n->text))
        return pb_reader_fail(r, n, fr, "\"%.*s\" is not a number (%s)", pb_reader_shown(n->text),
                              n->text.p, kind);
    if (sv_to_u64(sv_from(n->text, minus), &u) == 0) {
        *out = minus ? -(__int128)u : (__int128)u;
    } else {
        char buf[64];
        snprintf(buf, sizeof buf, "%.*s", (int)(n->text.n < 63 ? n->text.n : 63), n->text.p);
        double v = strtod(buf, NULL);
        if (n->text.n > 63 || fabs(v) > 1e19)
            v = v < 0 ? -1e20 : 1e20;
        else if (v != floor(v))
            return pb_reader_fail(r, n, fr, "%.*s is not an integer (%s)", pb_reader_shown(n->text),
                                  n->text.p, kind);
        *out = (__int128)v;
    }
    if (*out < lo || *out > hi)
        return pb_reader_fail(r, n, fr, "%.*s is out of range (%s)", pb_reader_shown(n->text),
                              n->text.p, kind);
    return 0;
}

int pb_read_float(struct pb_reader *r, const struct pb_field *f, const struct node *n, double *out,
                  const struct pb_frame *fr)
{
    static const struct {
        const char *name;
        double v;
    } special[] = {{"NaN", NAN},
                   {".nan", NAN},
                   {"Infinity", INFINITY},
                   {".inf", INFINITY},
                   {"-Infinity", -INFINITY},
                   {"-.inf", -INFINITY}};
    if (pb_reader_need(r, n, NODE_SCALAR, "a number", fr) < 0)
        return E_INVALID;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (sv_eq_c(n->text, special[i].name)) {
            *out = special[i].v;
            return 0;
        }
    }
    char buf[400];
    if (!node_text_is_number(n->text) || n->text.n >= sizeof buf)
        return pb_reader_fail(r, n, fr, "\"%.*s\" is not a number (%s)", pb_reader_shown(n->text),
                              n->text.p, pb_kind_name(f->kind));
    memcpy(buf, n->text.p, n->text.n);
    buf[n->text.n] = 0;
    *out = strtod(buf, NULL);
    if (isinf(*out) || (f->kind == PB_FLOAT && isinf((float)*out)))
        return pb_reader_fail(r, n, fr, "%.*s is out of range (%s)", pb_reader_shown(n->text),
                              n->text.p, pb_kind_name(f->kind));
    return 0;
}

int pb_read_bool(struct pb_reader *r, const struct node *n, bool *out, const struct pb_frame *fr)
{
    bool quoted = n->quoted && !(pb_reader_lenient(r) &&
                                 (sv_eq_c(n->text, "true") || sv_eq_c(n->text, "false")));
    if (n->kind != NODE_SCALAR || quoted || node_text_bool(n->text, out) < 0)
        return pb_reader_fail(r, n, fr, "must be true or false");
    return 0;
}

/* The value whose name differs in case only; names of values are in capitals. */
static int enum_in_any_case(const struct pb_enum *e, sv name, int32_t *out)
{
    char upper[128];
    if (name.n > sizeof upper)
        return E_NOT_FOUND;
    for (size_t i = 0; i < name.n; i++)
        upper[i] = name.p[i] >= 'a' && name.p[i] <= 'z' ? (char)(name.p[i] - 32) : name.p[i];
    return pb_enum_number(e, (sv){upper, name.n}, out);
}

static int read_enum(struct pb_reader *r, const struct pb_field *f, const struct node *n,
                     int32_t *out, const struct pb_frame *fr)
{
    __int128 v;
    const struct pb_enum *e = f->type;
    if (pb_reader_need(r, n, NODE_SCALAR, "the name of an enum's value", fr) < 0)
        return E_INVALID;
    if (pb_enum_number(e, n->text, out) == 0)
        return 0;
    if (pb_reader_lenient(r) && enum_in_any_case(e, n->text, out) == 0)
        return 0;
    if ((n->quoted && !pb_reader_lenient(r)) || !node_text_is_number(n->text))
        return unknown_enum(r, e, n, fr);
    int rc = read_int(r, f, n, INT32_MIN, INT32_MAX, &v, fr);
    if (rc < 0)
        return rc;
    if (!pb_enum_has(e, (int32_t)v) && !(r->o && r->o->allow_unknown))
        return unknown_enum(r, e, n, fr);
    *out = (int32_t)v;
    return 0;
}

static int read_number(struct pb_reader *r, const struct pb_field *f, const struct node *n,
                       void *at, const struct pb_frame *fr)
{
    __int128 v, lo = 0, hi = UINT64_MAX;
    switch (f->kind) {
    case PB_INT32:
    case PB_SINT32:
    case PB_SFIXED32:
        lo = INT32_MIN;
        hi = INT32_MAX;
        break;
    case PB_INT64:
    case PB_SINT64:
    case PB_SFIXED64:
        lo = INT64_MIN;
        hi = INT64_MAX;
        break;
    case PB_UINT32:
    case PB_FIXED32:
        hi = UINT32_MAX;
        break;
    default:
        break;
    }
    int rc = read_int(r, f, n, lo, hi, &v, fr);
    if (rc < 0)
        return rc;
    if (pb_kind_size(f->kind) == 4)
        *(uint32_t *)at = (uint32_t)v;
    else
        *(uint64_t *)at = (uint64_t)v;
    return 0;
}

static int read_text(struct pb_reader *r, const struct pb_field *f, const struct node *n, sv *out,
                     const struct pb_frame *fr)
{
    if (pb_reader_need(r, n, NODE_SCALAR, "a string", fr) < 0)
        return E_INVALID;
    if (f->kind == PB_BYTES) {
        if (pb_base64_parse(n->text, r->a, out) < 0)
            return pb_reader_fail(r, n, fr, "not valid base64");
        return 0;
    }
    *out = n->text;
    return 0;
}

bool pb_takes_null(const struct pb_field *f)
{
    if (f->kind == PB_MESSAGE)
        return ((const struct pb_message *)f->type)->well_known == PB_WKT_VALUE;
    return f->kind == PB_ENUM && f->type == &google_NullValue_pb;
}

int pb_read_scalar(struct pb_reader *r, const struct pb_field *f, const struct node *n, void *at,
                   const struct pb_frame *fr)
{
    double v;
    int rc;
    switch (f->kind) {
    case PB_STRING:
    case PB_BYTES:
        return read_text(r, f, n, at, fr);
    case PB_BOOL:
        return pb_read_bool(r, n, at, fr);
    case PB_ENUM:
        if (n->kind == NODE_NULL && pb_takes_null(f))
            return 0;
        return read_enum(r, f, n, at, fr);
    case PB_FLOAT:
    case PB_DOUBLE:
        rc = pb_read_float(r, f, n, &v, fr);
        if (rc == 0 && f->kind == PB_FLOAT)
            *(float *)at = (float)v;
        else if (rc == 0)
            *(double *)at = v;
        return rc;
    default:
        return read_number(r, f, n, at, fr);
    }
}
