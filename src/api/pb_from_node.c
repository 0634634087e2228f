#include "api/pb.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/node_build.h"
#include "api/pb_all.h"
#include "api/pb_internal.h"

struct reader {
    struct arena *a;
    const struct pb_opts *o;
    struct error *err;
    const struct node *any; /* the mapping whose "@type" an Any has read already */
};

static int read_message(struct reader *r, const struct pb_message *m, const struct node *n,
                        void *msg, const struct pb_frame *fr);
static int read_value(struct reader *r, const struct pb_field *f, const struct node *n, void *at,
                      const struct pb_frame *fr);

static int fail(struct reader *r, const struct node *n, const struct pb_frame *fr, const char *fmt,
                ...) PRINTF_LIKE(4, 5);
static int fail_at(struct reader *r, const char *file, uint32_t line, const struct pb_frame *fr,
                   sv last, const char *fmt, ...) PRINTF_LIKE(6, 7);

static int fail_v(struct reader *r, const char *file, uint32_t line, const struct pb_frame *fr,
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

static int fail(struct reader *r, const struct node *n, const struct pb_frame *fr, const char *fmt,
                ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_v(r, n->file, n->line, fr, (sv){NULL, 0}, fmt, ap);
    va_end(ap);
    return E_INVALID;
}

static int fail_at(struct reader *r, const char *file, uint32_t line, const struct pb_frame *fr,
                   sv last, const char *fmt, ...)
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
static int shown(sv v)
{
    return (int)(v.n < 80 ? v.n : 80);
}

static int need(struct reader *r, const struct node *n, enum node_kind kind, const char *what,
                const struct pb_frame *fr)
{
    if (n->kind == kind)
        return 0;
    return fail(r, n, fr, "must be %s, is %s", what, kind_text(n));
}

/* ---- did you mean ---- */

#define MAX_NAME 128

/* Lower case without underscores, so that lbPolicy, lb_policy and LB_POLICY are the same. */
static size_t plain_name(sv v, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < v.n && n < MAX_NAME; i++)
        if (v.p[i] != '_')
            out[n++] = v.p[i] >= 'A' && v.p[i] <= 'Z' ? (char)(v.p[i] + 32) : v.p[i];
    return n;
}

/* Levenshtein's distance of the plain names. */
static unsigned distance(sv x, sv y)
{
    char a[MAX_NAME], b[MAX_NAME];
    unsigned row[MAX_NAME + 1];
    size_t na = plain_name(x, a), nb = plain_name(y, b);
    for (size_t k = 0; k <= nb; k++)
        row[k] = (unsigned)k;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t k = 1; k <= nb; k++) {
            unsigned best = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            row[k] = best;
        }
    }
    return row[nb];
}

struct guess {
    sv wanted;
    const char *best;
    unsigned distance;
};

static struct guess guess_start(sv wanted)
{
    /* A third of the letters may differ, not more: beyond that a guess is noise. */
    return (struct guess){wanted, NULL, (unsigned)(wanted.n / 3) + 1};
}

static void guess_try(struct guess *g, const char *name, const char *shown_as)
{
    unsigned d = g->distance ? distance(g->wanted, sv_of(name)) : 1;
    if (d < g->distance) {
        g->distance = d;
        g->best = shown_as;
    }
}

#define MEAN_FMT    "%s%s%s"
#define MEAN_ARG(g) (g).best ? "; did you mean " : "", (g).best ? (g).best : "", (g).best ? "?" : ""

static int unknown_field(struct reader *r, const struct pb_message *m, const struct node *n,
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
    return fail_at(r, n->file, n->key_lines[i], fr, n->keys[i], "no such field in %s" MEAN_FMT,
                   m->full_name, MEAN_ARG(g));
}

static int unknown_enum(struct reader *r, const struct pb_enum *e, const struct node *n,
                        const struct pb_frame *fr)
{
    struct guess g = guess_start(n->text);
    for (uint32_t i = 0; i < e->n; i++)
        guess_try(&g, e->values[i].name, e->values[i].name);
    return fail(r, n, fr, "\"%.*s\" is no value of %s" MEAN_FMT, shown(n->text), n->text.p,
                e->full_name, MEAN_ARG(g));
}

static int unknown_type(struct reader *r, sv type, const struct node *n, const struct pb_frame *fr)
{
    struct guess g = guess_start(type);
    for (uint32_t i = 0; i < pb_all_n; i++)
        guess_try(&g, pb_all[i]->full_name, pb_all[i]->full_name);
    return fail(r, n, fr, "type \"%.*s\" is unknown to weft" MEAN_FMT, shown(type), type.p,
                MEAN_ARG(g));
}

/* ---- scalars ---- */

/* An integer between lo and hi, also spelled 1e3 or 1.0 as the JSON mapping allows. */
static int read_int(struct reader *r, const struct pb_field *f, const struct node *n, __int128 lo,
                    __int128 hi, __int128 *out, const struct pb_frame *fr)
{
    const char *kind = pb_kind_name(f->kind);
    uint64_t u;
    bool minus = n->text.n && n->text.p[0] == '-';
    if (need(r, n, NODE_SCALAR, "a number", fr) < 0)
        return E_INVALID;
    if (!node_text_is_number(n->text))
        return fail(r, n, fr, "\"%.*s\" is not a number (%s)", shown(n->text), n->text.p, kind);
    if (sv_to_u64(sv_from(n->text, minus), &u) == 0) {
        *out = minus ? -(__int128)u : (__int128)u;
    } else {
        char buf[64];
        snprintf(buf, sizeof buf, "%.*s", (int)(n->text.n < 63 ? n->text.n : 63), n->text.p);
        double v = strtod(buf, NULL);
        if (n->text.n > 63 || fabs(v) > 1e19)
            v = v < 0 ? -1e20 : 1e20;
        else if (v != floor(v))
            return fail(r, n, fr, "%.*s is not an integer (%s)", shown(n->text), n->text.p, kind);
        *out = (__int128)v;
    }
    if (*out < lo || *out > hi)
        return fail(r, n, fr, "%.*s is out of range (%s)", shown(n->text), n->text.p, kind);
    return 0;
}

static int read_float(struct reader *r, const struct pb_field *f, const struct node *n, double *out,
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
    if (need(r, n, NODE_SCALAR, "a number", fr) < 0)
        return E_INVALID;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (sv_eq_c(n->text, special[i].name)) {
            *out = special[i].v;
            return 0;
        }
    }
    char buf[400];
    if (!node_text_is_number(n->text) || n->text.n >= sizeof buf)
        return fail(r, n, fr, "\"%.*s\" is not a number (%s)", shown(n->text), n->text.p,
                    pb_kind_name(f->kind));
    memcpy(buf, n->text.p, n->text.n);
    buf[n->text.n] = 0;
    *out = strtod(buf, NULL);
    if (isinf(*out) || (f->kind == PB_FLOAT && isinf((float)*out)))
        return fail(r, n, fr, "%.*s is out of range (%s)", shown(n->text), n->text.p,
                    pb_kind_name(f->kind));
    return 0;
}

static int read_bool(struct reader *r, const struct node *n, bool *out, const struct pb_frame *fr)
{
    if (n->kind != NODE_SCALAR || n->quoted || node_text_bool(n->text, out) < 0)
        return fail(r, n, fr, "must be true or false");
    return 0;
}

static int read_enum(struct reader *r, const struct pb_field *f, const struct node *n, int32_t *out,
                     const struct pb_frame *fr)
{
    __int128 v;
    const struct pb_enum *e = f->type;
    if (need(r, n, NODE_SCALAR, "the name of an enum's value", fr) < 0)
        return E_INVALID;
    if (pb_enum_number(e, n->text, out) == 0)
        return 0;
    if (n->quoted || !node_text_is_number(n->text))
        return unknown_enum(r, e, n, fr);
    int rc = read_int(r, f, n, INT32_MIN, INT32_MAX, &v, fr);
    if (rc < 0)
        return rc;
    if (!pb_enum_has(e, (int32_t)v) && !(r->o && r->o->allow_unknown))
        return unknown_enum(r, e, n, fr);
    *out = (int32_t)v;
    return 0;
}

static int read_number(struct reader *r, const struct pb_field *f, const struct node *n, void *at,
                       const struct pb_frame *fr)
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

static int read_text(struct reader *r, const struct pb_field *f, const struct node *n, sv *out,
                     const struct pb_frame *fr)
{
    if (need(r, n, NODE_SCALAR, "a string", fr) < 0)
        return E_INVALID;
    if (f->kind == PB_BYTES) {
        if (pb_base64_parse(n->text, r->a, out) < 0)
            return fail(r, n, fr, "not valid base64");
        return 0;
    }
    *out = n->text;
    return 0;
}

/* ---- well-known types ---- */

static int read_any(struct reader *r, const struct node *n, struct google_Any *any,
                    const struct pb_frame *fr)
{
    if (need(r, n, NODE_MAP, "a mapping with \"@type\"", fr) < 0)
        return E_INVALID;
    if (n->n == 0)
        return 0;
    sv url = node_str(n, "@type");
    if (!url.n)
        return fail(r, n, fr, "has no \"@type\"");
    const struct pb_message *m = pb_find(pb_any_type(url));
    if (!m)
        return unknown_type(r, pb_any_type(url), node_get(n, "@type"), fr);
    void *msg = pb_new(m, r->a);
    int rc;
    if (m->well_known == PB_WKT_NONE) {
        const struct node *outer = r->any;
        r->any = n;
        rc = read_message(r, m, n, msg, fr);
        r->any = outer;
    } else {
        const struct node *value = node_get(n, "value");
        if (n->n != 1 + (value != NULL))
            return fail(r, n, fr, "a %s has only \"value\" beside \"@type\"", m->full_name);
        struct pb_frame here = {fr, SV("value"), -1, {NULL, 0}, NULL};
        rc = value ? read_message(r, m, value, msg, &here) : 0;
    }
    if (rc < 0)
        return rc;
    any->type_url = url;
    any->value = pb_encode_arena(m, msg, r->a);
    return 0;
}

static int read_struct(struct reader *r, const struct node *n, struct google_Struct *s,
                       const struct pb_frame *fr);

static int read_list(struct reader *r, const struct node *n, struct google_ListValue *l,
                     const struct pb_frame *fr);

static int read_dynamic(struct reader *r, const struct node *n, struct google_Value *v,
                        const struct pb_frame *fr)
{
    struct google_Struct *s;
    struct google_ListValue *l;
    if (n->kind == NODE_MAP) {
        v->struct_value = s = arena_new(r->a, struct google_Struct);
        v->which_kind = google_Value_struct_value_tag;
        return read_struct(r, n, s, fr);
    }
    if (n->kind == NODE_SEQ) {
        v->list_value = l = arena_new(r->a, struct google_ListValue);
        v->which_kind = google_Value_list_value_tag;
        return read_list(r, n, l, fr);
    }
    switch (node_scalar_type(n)) {
    case SCALAR_NULL:
        v->which_kind = google_Value_null_value_tag;
        return 0;
    case SCALAR_BOOL:
        v->which_kind = google_Value_bool_value_tag;
        return read_bool(r, n, &v->bool_value, fr);
    case SCALAR_NUMBER:
        v->which_kind = google_Value_number_value_tag;
        return read_float(r, pb_field_by_number(&google_Value_pb, google_Value_number_value_tag), n,
                          &v->number_value, fr);
    default:
        v->which_kind = google_Value_string_value_tag;
        v->string_value = n->text;
        return 0;
    }
}

static int read_struct(struct reader *r, const struct node *n, struct google_Struct *s,
                       const struct pb_frame *fr)
{
    if (need(r, n, NODE_MAP, "a mapping", fr) < 0)
        return E_INVALID;
    s->fields.v = arena_alloc(r->a, n->n * sizeof *s->fields.v);
    for (uint32_t i = 0; i < n->n; i++) {
        struct pb_frame here = {fr, n->keys[i], -1, {NULL, 0}, NULL};
        struct google_Struct_FieldsEntry *e = arena_new(r->a, struct google_Struct_FieldsEntry);
        struct google_Value *v = arena_new(r->a, struct google_Value);
        int rc = read_dynamic(r, n->v[i], v, &here);
        if (rc < 0)
            return rc;
        e->key = n->keys[i];
        e->value = v;
        s->fields.v[s->fields.n++] = e;
    }
    return 0;
}

static int read_list(struct reader *r, const struct node *n, struct google_ListValue *l,
                     const struct pb_frame *fr)
{
    if (need(r, n, NODE_SEQ, "a list", fr) < 0)
        return E_INVALID;
    l->values.v = arena_alloc(r->a, n->n * sizeof *l->values.v);
    for (uint32_t i = 0; i < n->n; i++) {
        struct pb_frame here = {fr, (sv){NULL, 0}, i, {NULL, 0}, NULL};
        struct google_Value *v = arena_new(r->a, struct google_Value);
        int rc = read_dynamic(r, n->v[i], v, &here);
        if (rc < 0)
            return rc;
        l->values.v[l->values.n++] = v;
    }
    return 0;
}

static int read_time(struct reader *r, const struct pb_message *m, const struct node *n, void *msg,
                     const struct pb_frame *fr)
{
    struct google_Duration *d = msg;
    struct google_Timestamp *t = msg;
    bool duration = m->well_known == PB_WKT_DURATION;
    const char *what =
        duration ? "a duration like \"1.5s\"" : "a time like \"2001-02-03T04:05:06Z\"";
    if (n->kind != NODE_SCALAR)
        return need(r, n, NODE_SCALAR, what, fr);
    int rc = duration ? pb_duration_parse(n->text, &d->seconds, &d->nanos)
                      : pb_timestamp_parse(n->text, &t->seconds, &t->nanos);
    if (rc < 0)
        return fail(r, n, fr, "\"%.*s\" is not %s", shown(n->text), n->text.p, what);
    return 0;
}

/* "a.b,fooBar" -> paths a.b and foo_bar */
static int read_mask(struct reader *r, const struct node *n, struct google_FieldMask *mask,
                     const struct pb_frame *fr)
{
    if (need(r, n, NODE_SCALAR, "a string", fr) < 0)
        return E_INVALID;
    sv rest = n->text, one;
    uint32_t count = 1;
    for (size_t i = 0; i < rest.n; i++)
        count += rest.p[i] == ',';
    mask->paths.v = arena_array(r->a, sv, count);
    for (bool more = rest.n > 0; more;) {
        more = sv_cut(rest, ',', &one, &rest);
        char *p = arena_alloc(r->a, one.n * 2 + 1);
        size_t len = 0;
        for (size_t i = 0; i < one.n; i++) {
            bool upper = one.p[i] >= 'A' && one.p[i] <= 'Z';
            if (upper)
                p[len++] = '_';
            p[len++] = upper ? (char)(one.p[i] + 32) : one.p[i];
        }
        mask->paths.v[mask->paths.n++] = sv_make(p, len);
    }
    return 0;
}

static int read_well_known(struct reader *r, const struct pb_message *m, const struct node *n,
                           void *msg, const struct pb_frame *fr)
{
    switch (m->well_known) {
    case PB_WKT_ANY:
        return read_any(r, n, msg, fr);
    case PB_WKT_DURATION:
    case PB_WKT_TIMESTAMP:
        return read_time(r, m, n, msg, fr);
    case PB_WKT_WRAPPER:
        return read_value(r, &m->fields[0], n, (char *)msg + m->fields[0].offset, fr);
    case PB_WKT_STRUCT:
        return read_struct(r, n, msg, fr);
    case PB_WKT_VALUE:
        return read_dynamic(r, n, msg, fr);
    case PB_WKT_LIST:
        return read_list(r, n, msg, fr);
    case PB_WKT_FIELD_MASK:
        return read_mask(r, n, msg, fr);
    default:
        break;
    }
    if (need(r, n, NODE_MAP, "an empty mapping", fr) < 0)
        return E_INVALID;
    return n->n ? fail(r, n, fr, "must be an empty mapping") : 0;
}

/* ---- messages ---- */

/* Whether null says something other than "absent" for a field. */
static bool takes_null(const struct pb_field *f)
{
    if (f->kind == PB_MESSAGE)
        return ((const struct pb_message *)f->type)->well_known == PB_WKT_VALUE;
    return f->kind == PB_ENUM && f->type == &google_NullValue_pb;
}

static int read_value(struct reader *r, const struct pb_field *f, const struct node *n, void *at,
                      const struct pb_frame *fr)
{
    double v;
    int rc;
    switch (f->kind) {
    case PB_MESSAGE:
        *(void **)at = pb_new(f->type, r->a);
        return read_message(r, f->type, n, *(void **)at, fr);
    case PB_STRING:
    case PB_BYTES:
        return read_text(r, f, n, at, fr);
    case PB_BOOL:
        return read_bool(r, n, at, fr);
    case PB_ENUM:
        if (n->kind == NODE_NULL && takes_null(f))
            return 0;
        return read_enum(r, f, n, at, fr);
    case PB_FLOAT:
    case PB_DOUBLE:
        rc = read_float(r, f, n, &v, fr);
        if (rc == 0 && f->kind == PB_FLOAT)
            *(float *)at = (float)v;
        else if (rc == 0)
            *(double *)at = v;
        return rc;
    default:
        return read_number(r, f, n, at, fr);
    }
}

static int read_repeated(struct reader *r, const struct pb_field *f, const struct node *n,
                         struct pb_array *list, const struct pb_frame *fr, sv name)
{
    struct pb_frame here = {fr, name, -1, {NULL, 0}, NULL};
    size_t each = pb_kind_size(f->kind);
    if (need(r, n, NODE_SEQ, "a list", &here) < 0)
        return E_INVALID;
    list->v = arena_zalloc(r->a, n->n * each);
    for (uint32_t i = 0; i < n->n; i++) {
        here.index = i;
        if (n->v[i]->kind == NODE_NULL && !takes_null(f))
            return fail(r, n->v[i], &here, "null in a list");
        int rc = read_value(r, f, n->v[i], (char *)list->v + i * each, &here);
        if (rc < 0)
            return rc;
        list->n++;
    }
    return 0;
}

/* Map keys stand as text; numbers and booleans are read back from it. */
static int read_key(struct reader *r, const struct pb_field *f, const struct node *map, uint32_t i,
                    void *at, const struct pb_frame *fr)
{
    struct node key = {
        .kind = NODE_SCALAR, .line = map->key_lines[i], .file = map->file, .text = map->keys[i]};
    return read_value(r, f, &key, at, fr);
}

static int read_map(struct reader *r, const struct pb_field *f, const struct node *n,
                    struct pb_array *list, const struct pb_frame *fr, sv name)
{
    const struct pb_message *entry = f->type;
    const struct pb_field *k = &entry->fields[0], *v = &entry->fields[1];
    struct pb_frame here = {fr, name, -1, {NULL, 0}, NULL};
    if (need(r, n, NODE_MAP, "a mapping", &here) < 0)
        return E_INVALID;
    char **entries = arena_alloc(r->a, n->n * sizeof *entries);
    list->v = entries;
    for (uint32_t i = 0; i < n->n; i++) {
        here.key = n->keys[i];
        if (n->v[i]->kind == NODE_NULL && !takes_null(v))
            return fail(r, n->v[i], &here, "null in a mapping");
        entries[i] = pb_new(entry, r->a);
        int rc = read_key(r, k, n, i, entries[i] + k->offset, &here);
        if (rc == 0)
            rc = read_value(r, v, n->v[i], entries[i] + v->offset, &here);
        if (rc < 0)
            return rc;
        list->n++;
    }
    return 0;
}

/* E_INVALID when another member of f's oneof is set already. */
static int mark(struct reader *r, const struct pb_message *m, const struct pb_field *f, char *msg,
                const struct node *n, uint32_t i, const struct pb_frame *fr)
{
    if (f->label == PB_OPTIONAL) {
        *(bool *)(msg + f->has_offset) = true;
    } else if (f->label == PB_ONEOF) {
        uint32_t *which = (uint32_t *)(void *)(msg + f->has_offset);
        if (*which)
            return fail_at(r, n->file, n->key_lines[i], fr, n->keys[i],
                           "excludes %s, which is set too (oneof %s)",
                           pb_field_by_number(m, *which)->name, f->oneof);
        *which = f->number;
    }
    return 0;
}

static int read_member(struct reader *r, const struct pb_message *m, const struct pb_field *f,
                       const struct node *n, uint32_t i, char *msg, const struct pb_frame *fr)
{
    const struct node *v = n->v[i];
    void *at = msg + f->offset;
    if (f->label == PB_REPEATED)
        return read_repeated(r, f, v, at, fr, n->keys[i]);
    if (f->label == PB_MAP)
        return read_map(r, f, v, at, fr, n->keys[i]);
    int rc = mark(r, m, f, msg, n, i, fr);
    if (rc < 0)
        return rc;
    struct pb_frame here = {fr, n->keys[i], -1, {NULL, 0}, NULL};
    return read_value(r, f, v, at, &here);
}

static int read_message(struct reader *r, const struct pb_message *m, const struct node *n,
                        void *msg, const struct pb_frame *fr)
{
    uint64_t seen[4] = {0};
    if (m->well_known != PB_WKT_NONE)
        return read_well_known(r, m, n, msg, fr);
    if (need(r, n, NODE_MAP, "a mapping", fr) < 0)
        return E_INVALID;
    for (uint32_t i = 0; i < n->n; i++) {
        const struct pb_field *f = pb_field_by_name(m, n->keys[i]);
        int rc = 0;
        if (!f) {
            if (n != r->any || !sv_eq(n->keys[i], SV("@type")))
                rc = unknown_field(r, m, n, i, fr);
        } else {
            size_t bit = (size_t)(f - m->fields);
            if (seen[bit / 64] >> bit % 64 & 1)
                return fail_at(r, n->file, n->key_lines[i], fr, n->keys[i],
                               "is given twice, as %s and as %s", f->name, f->json);
            seen[bit / 64] |= (uint64_t)1 << bit % 64;
            if (n->v[i]->kind != NODE_NULL || takes_null(f))
                rc = read_member(r, m, f, n, i, msg, fr);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

int pb_from_node(const struct pb_message *m, const struct node *n, struct arena *a,
                 const struct pb_opts *o, void **out, struct error *err)
{
    struct reader r = {a, o, err, NULL};
    void *msg = pb_new(m, a);
    int rc = read_message(&r, m, n, msg, NULL);
    if (rc == 0)
        *out = msg;
    return rc;
}

int pb_from_text(const struct pb_message *m, sv text, const char *file, struct arena *a,
                 const struct pb_opts *o, void **out, struct error *err)
{
    struct node *n;
    int rc = node_parse(text, file, a, &n, err);
    return rc < 0 ? rc : pb_from_node(m, n, a, o, out, err);
}
