#include <string.h>
#include "api/google.pb.h"
#include "api/node_build.h"
#include "api/pb_reader.h"

static int read_any(struct pb_reader *r, const struct node *n, struct google_Any *any,
                    const struct pb_frame *fr)
{
    if (pb_reader_need(r, n, NODE_MAP, "a mapping with \"@type\"", fr) < 0)
        return E_INVALID;
    if (n->n == 0)
        return 0;
    sv url = node_str(n, "@type");
    if (!url.n)
        return pb_reader_fail(r, n, fr, "has no \"@type\"");
    const struct pb_message *m = pb_find(pb_any_type(url));
    if (!m)
        return pb_reader_unknown_type(r, pb_any_type(url), node_get(n, "@type"), fr);
    void *msg = pb_new(m, r->a);
    int rc;
    if (m->well_known == PB_WKT_NONE) {
        const struct node *outer = r->any;
        r->any = n;
        rc = pb_read_message(r, m, n, msg, fr);
        r->any = outer;
    } else {
        const struct node *value = node_get(n, "value");
        if (n->n != 1 + (value != NULL))
            return pb_reader_fail(r, n, fr, "a %s has only \"value\" beside \"@type\"",
                                  m->full_name);
        struct pb_frame here = {fr, SV("value"), -1, {NULL, 0}, NULL};
        rc = value ? pb_read_message(r, m, value, msg, &here) : 0;
    }
    if (rc < 0)
        return rc;
    any->type_url = url;
    any->value = pb_encode_arena(m, msg, r->a);
    struct error why = {0};
    rc = pb_any_untyped(any, r->a, r->o, &why);
    return rc < 0 ? pb_reader_fail(r, n, fr, "%s", why.msg) : 0;
}

static int read_struct(struct pb_reader *r, const struct node *n, struct google_Struct *s,
                       const struct pb_frame *fr);

static int read_list(struct pb_reader *r, const struct node *n, struct google_ListValue *l,
                     const struct pb_frame *fr);

static int read_dynamic(struct pb_reader *r, const struct node *n, struct google_Value *v,
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
        return pb_read_bool(r, n, &v->bool_value, fr);
    case SCALAR_NUMBER:
        v->which_kind = google_Value_number_value_tag;
        return pb_read_float(r, pb_field_by_number(&google_Value_pb, google_Value_number_value_tag),
                             n, &v->number_value, fr);
    default:
        v->which_kind = google_Value_string_value_tag;
        v->string_value = n->text;
        return 0;
    }
}

static int read_struct(struct pb_reader *r, const struct node *n, struct google_Struct *s,
                       const struct pb_frame *fr)
{
    if (pb_reader_need(r, n, NODE_MAP, "a mapping", fr) < 0)
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

static int read_list(struct pb_reader *r, const struct node *n, struct google_ListValue *l,
                     const struct pb_frame *fr)
{
    if (pb_reader_need(r, n, NODE_SEQ, "a list", fr) < 0)
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

static int read_time(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                     void *msg, const struct pb_frame *fr)
{
    struct google_Duration *d = msg;
    struct google_Timestamp *t = msg;
    bool duration = m->well_known == PB_WKT_DURATION;
    const char *what =
        duration ? "a duration like \"1.5s\"" : "a time like \"2001-02-03T04:05:06Z\"";
    if (n->kind == NODE_MAP && pb_reader_lenient(r))
        return pb_read_fields(r, m, n, msg, fr);
    if (n->kind != NODE_SCALAR)
        return pb_reader_need(r, n, NODE_SCALAR, what, fr);
    int rc = duration ? pb_duration_parse(n->text, &d->seconds, &d->nanos)
                      : pb_timestamp_parse(n->text, &t->seconds, &t->nanos);
    if (rc < 0)
        return pb_reader_fail(r, n, fr, "\"%.*s\" is not %s", pb_reader_shown(n->text), n->text.p,
                              what);
    return 0;
}

/* "a.b,fooBar" -> paths a.b and foo_bar */
static int read_mask(struct pb_reader *r, const struct node *n, struct google_FieldMask *mask,
                     const struct pb_frame *fr)
{
    if (pb_reader_need(r, n, NODE_SCALAR, "a string", fr) < 0)
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

int pb_read_well_known(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                       void *msg, const struct pb_frame *fr)
{
    switch (m->well_known) {
    case PB_WKT_ANY:
        return read_any(r, n, msg, fr);
    case PB_WKT_DURATION:
    case PB_WKT_TIMESTAMP:
        return read_time(r, m, n, msg, fr);
    case PB_WKT_WRAPPER:
        return pb_read_value(r, &m->fields[0], n, (char *)msg + m->fields[0].offset, fr);
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
    if (pb_reader_need(r, n, NODE_MAP, "an empty mapping", fr) < 0)
        return E_INVALID;
    return n->n ? pb_reader_fail(r, n, fr, "must be an empty mapping") : 0;
}
