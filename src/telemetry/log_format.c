/* Formats of log lines and local replies: text, or JSON whose values keep their types. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/google.pb.h"
#include "telemetry/access_log.h"

#define DEPTH_MAX 32

enum json_kind { JSON_LITERAL, JSON_FORMAT, JSON_OBJECT, JSON_ARRAY };

struct json_format {
    enum json_kind kind;
    sv literal; /* rendered */
    const struct substitution *format;
    struct json_member {
        sv key; /* rendered with ':', for objects */
        const struct json_format *value;
    } * v;
    uint32_t n;
    bool omit;
};

struct json_builder {
    struct arena *a;
    bool omit;
    struct error *err;
};

static int build_value(struct json_builder *b, const struct google_Value *v, int depth,
                       const struct json_format **out);

static int by_key(const void *x, const void *y)
{
    return sv_cmp((*(const struct google_Struct_FieldsEntry *const *)x)->key,
                  (*(const struct google_Struct_FieldsEntry *const *)y)->key);
}

static int build_object(struct json_builder *b, const struct google_Struct *s, int depth,
                        struct json_format *f)
{
    uint32_t n = s ? s->fields.n : 0;
    const struct google_Struct_FieldsEntry **sorted =
        arena_array(b->a, const struct google_Struct_FieldsEntry *, n);
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = s->fields.v[i];
    if (n)
        qsort(sorted, n, sizeof(*sorted), by_key); /* Envoy's order, and a stable one */
    f->kind = JSON_OBJECT;
    f->v = arena_array(b->a, struct json_member, n);
    for (f->n = 0; f->n < n; f->n++) {
        struct strbuf key;
        strbuf_init(&key, 65536);
        strbuf_add_json(&key, sorted[f->n]->key);
        strbuf_add_ch(&key, ':');
        f->v[f->n].key = arena_sv(b->a, strbuf_sv(&key));
        strbuf_fini(&key);
        int rc = build_value(b, sorted[f->n]->value, depth + 1, &f->v[f->n].value);
        if (rc != 0) {
            error_prefix(b->err, ".%.*s", SV_ARG(sorted[f->n]->key));
            return rc;
        }
    }
    return 0;
}

static int build_array(struct json_builder *b, const struct google_ListValue *l, int depth,
                       struct json_format *f)
{
    uint32_t n = l ? l->values.n : 0;
    f->kind = JSON_ARRAY;
    f->v = arena_array(b->a, struct json_member, n);
    for (f->n = 0; f->n < n; f->n++) {
        int rc = build_value(b, l->values.v[f->n], depth + 1, &f->v[f->n].value);
        if (rc != 0) {
            error_prefix(b->err, "[%u]", f->n);
            return rc;
        }
    }
    return 0;
}

static sv render_number(struct arena *a, double d)
{
    struct strbuf b;
    if (!isfinite(d))
        return SV("null");
    strbuf_init(&b, 40);
    strbuf_add_double(&b, d);
    sv text = arena_sv(a, strbuf_sv(&b));
    strbuf_fini(&b);
    return text;
}

static int build_value(struct json_builder *b, const struct google_Value *v, int depth,
                       const struct json_format **out)
{
    struct json_format *f = arena_new(b->a, struct json_format);
    struct substitution_opts o = {.use = SUBSTITUTION_LOG, .omit_empty = b->omit};
    f->omit = b->omit;
    *out = f;
    if (depth > DEPTH_MAX)
        return error_set(b->err, E_LIMIT, ": is nested more than %d deep", DEPTH_MAX);
    switch (v ? v->which_kind : 0) {
    case google_Value_string_value_tag: {
        f->kind = JSON_FORMAT;
        int rc = substitution_compile(v->string_value, &o, b->a, &f->format, b->err);
        if (rc != 0)
            error_prefix(b->err, ": ");
        return rc;
    }
    case google_Value_number_value_tag:
        f->literal = render_number(b->a, v->number_value);
        return 0;
    case google_Value_bool_value_tag:
        f->literal = v->bool_value ? SV("true") : SV("false");
        return 0;
    case google_Value_struct_value_tag:
        return build_object(b, v->struct_value, depth, f);
    case google_Value_list_value_tag:
        return build_array(b, v->list_value, depth, f);
    default:
        f->literal = SV("null");
        return 0;
    }
}

int json_format_build(const struct google_Struct *s, bool omit_empty, const char *path,
                      struct arena *a, const struct json_format **out, struct error *err)
{
    struct json_builder b = {a, omit_empty, err};
    struct json_format *f = arena_new(a, struct json_format);
    f->omit = omit_empty;
    int rc = build_object(&b, s, 0, f);
    if (rc != 0)
        error_prefix(err, "%s", path);
    else
        *out = f;
    return rc;
}

/* Appends the value; false when it is nothing (null, or empty with omit). */
static bool eval(const struct json_format *f, const struct substitution_ctx *c, struct strbuf *out)
{
    bool object = f->kind == JSON_OBJECT, any = false;
    switch (f->kind) {
    case JSON_LITERAL:
        strbuf_add_sv(out, f->literal);
        return !sv_eq(f->literal, SV("null"));
    case JSON_FORMAT:
        return substitution_eval_json(f->format, c, out);
    default:
        break;
    }
    strbuf_add_ch(out, object ? '{' : '[');
    for (uint32_t i = 0; i < f->n; i++) {
        size_t before = out->n;
        if (any)
            strbuf_add_ch(out, ',');
        strbuf_add_sv(out, f->v[i].key);
        if (!eval(f->v[i].value, c, out) && f->omit && object)
            strbuf_cut(out, before);
        else
            any = true;
    }
    strbuf_add_ch(out, object ? '}' : ']');
    return true;
}

/* ---- SubstitutionFormatString ---- */

static int check_formatters(const struct envoy_SubstitutionFormatString *m, struct error *err)
{
    static const sv built_in[] = {
        SV_INIT("envoy.extensions.formatter.cel.v3.Cel"),
        SV_INIT("envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"),
        SV_INIT("envoy.extensions.formatter.metadata.v3.Metadata"),
    };
    for (uint32_t i = 0; i < m->formatters.n; i++) {
        const struct envoy_TypedExtensionConfig *x = m->formatters.v[i];
        sv type = x->typed_config ? pb_any_type(x->typed_config->type_url) : (sv){0};
        if (!sv_in(type, built_in, sizeof(built_in) / sizeof(built_in[0])))
            return error_set(err, E_UNSUPPORTED, ".formatters[%u]: '%.*s' (%.*s) is not supported",
                             i, SV_ARG(x->name), SV_ARG(type));
    }
    return 0;
}

static int text_of(const struct envoy_DataSource *m, sv *out, struct arena *a, struct error *err)
{
    if (m && m->which_specifier == envoy_DataSource_inline_string_tag) {
        *out = m->inline_string;
    } else if (m && m->which_specifier == envoy_DataSource_inline_bytes_tag) {
        *out = m->inline_bytes;
    } else if (m && m->which_specifier == envoy_DataSource_environment_variable_tag) {
        const char *v = getenv(arena_cstr(a, m->environment_variable));
        if (!v)
            return error_set(err, E_NOT_FOUND,
                             ".text_format_source.environment_variable: '%.*s' is not set",
                             SV_ARG(m->environment_variable));
        *out = arena_sv(a, sv_of(v));
    } else if (m && m->which_specifier == envoy_DataSource_filename_tag) {
        return error_set(err, E_UNSUPPORTED, ".text_format_source.filename: is not supported");
    } else {
        return error_set(err, E_INVALID, ".text_format_source: names no source");
    }
    return 0;
}

static int build_format(const struct envoy_SubstitutionFormatString *m, enum substitution_use use,
                        struct arena *a, struct log_format *f, struct error *err)
{
    struct substitution_opts o = {.use = use, .omit_empty = m->omit_empty_values};
    sv text = m->text_format;
    int rc = check_formatters(m, err);
    if (rc != 0)
        return rc;
    switch (m->which_format) {
    case envoy_SubstitutionFormatString_json_format_tag:
        return json_format_build(m->json_format, m->omit_empty_values, ".json_format", a, &f->json,
                                 err);
    case envoy_SubstitutionFormatString_text_format_source_tag:
        rc = text_of(m->text_format_source, &text, a, err);
        if (rc != 0)
            return rc;
        break;
    case envoy_SubstitutionFormatString_text_format_tag:
        break;
    default:
        return error_set(err, E_INVALID,
                         ": one of text_format_source, json_format, text_format must be set");
    }
    rc = substitution_compile(text, &o, a, &f->text, err);
    if (rc != 0)
        error_prefix(err, ": ");
    return rc;
}

int log_format_build(const struct envoy_SubstitutionFormatString *m, enum substitution_use use,
                     const char *path, struct arena *a, struct log_format *out, struct error *err)
{
    struct log_format f = {.omit_empty = m->omit_empty_values, .content_type = m->content_type};
    int rc = build_format(m, use, a, &f, err);
    if (rc != 0)
        error_prefix(err, "%s", path);
    else
        *out = f;
    return rc;
}

void log_format_eval(const struct log_format *f, const struct substitution_ctx *c,
                     struct strbuf *out)
{
    if (f->json)
        eval(f->json, c, out);
    else
        substitution_eval(f->text, c, out);
}
