#include "api/pb.h"

#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/pb_internal.h"

struct writer {
    const struct pb_json_opts *o;
    struct strbuf *out;
    struct arena scratch;  /* unpacked Anys */
    unsigned indent, anys; /* anys: how many Anys this one is inside of */
    bool secret;           /* inside a sensitive field, and secrets are to be hidden */
};

static void write_message(struct writer *w, const struct pb_message *m, const void *msg);
static void write_value(struct writer *w, const struct pb_field *f, const void *at);

static void newline(struct writer *w)
{
    if (!w->o->pretty)
        return;
    strbuf_add_ch(w->out, '\n');
    for (unsigned i = 0; i < w->indent; i++)
        strbuf_add_ch(w->out, ' ');
}

static void open(struct writer *w, char bracket)
{
    strbuf_add_ch(w->out, bracket);
    w->indent++;
}

static void close(struct writer *w, char bracket, bool empty)
{
    w->indent--;
    if (!empty)
        newline(w);
    strbuf_add_ch(w->out, bracket);
}

/* What goes before an element: a comma unless it is the first. */
static void next(struct writer *w, bool *first)
{
    if (!*first)
        strbuf_add_ch(w->out, ',');
    *first = false;
    newline(w);
}

static void write_key(struct writer *w, sv key, bool *first)
{
    next(w, first);
    strbuf_add_json(w->out, key);
    strbuf_add_c(w->out, w->o->pretty ? ": " : ":");
}

/* A string or bytes; secrets are replaced, empty ones too, so that nothing is told. */
static void write_text(struct writer *w, uint8_t kind, sv v)
{
    if (w->secret)
        v = SV("[redacted]");
    if (kind == PB_STRING || w->secret) {
        strbuf_add_json(w->out, v);
        return;
    }
    strbuf_add_ch(w->out, '"');
    pb_base64_print(v, w->out);
    strbuf_add_ch(w->out, '"');
}

static void write_scalar(struct writer *w, const struct pb_field *f, const void *at)
{
    const struct pb_enum *e = f->type;
    switch (f->kind) {
    case PB_BOOL:
        strbuf_add_c(w->out, *(const bool *)at ? "true" : "false");
        break;
    case PB_ENUM:
        if (e == &google_NullValue_pb)
            strbuf_add_c(w->out, "null");
        else if (pb_enum_has(e, *(const int32_t *)at))
            strbuf_addf(w->out, "\"%s\"", pb_enum_name(e, *(const int32_t *)at));
        else
            strbuf_addf(w->out, "%d", *(const int32_t *)at);
        break;
    case PB_UINT32:
    case PB_FIXED32:
        strbuf_addf(w->out, "%u", *(const uint32_t *)at);
        break;
    case PB_UINT64:
    case PB_FIXED64:
        strbuf_addf(w->out, "\"%llu\"", *(const unsigned long long *)at);
        break;
    case PB_INT64:
    case PB_SINT64:
    case PB_SFIXED64:
        strbuf_addf(w->out, "\"%lld\"", *(const long long *)at);
        break;
    case PB_FLOAT:
        pb_float_print(*(const float *)at, w->out);
        break;
    case PB_DOUBLE:
        pb_double_print(*(const double *)at, w->out);
        break;
    default:
        strbuf_addf(w->out, "%d", *(const int32_t *)at);
        break;
    }
}

static void write_value(struct writer *w, const struct pb_field *f, const void *at)
{
    if (f->kind == PB_STRING || f->kind == PB_BYTES)
        write_text(w, f->kind, *(const sv *)at);
    else if (f->kind == PB_MESSAGE)
        write_message(w, f->type, *(const void *const *)at);
    else
        write_scalar(w, f, at);
}

static void write_list(struct writer *w, const struct pb_field *f, const struct pb_array *list)
{
    size_t each = pb_kind_size(f->kind);
    bool first = true;
    open(w, '[');
    for (uint32_t i = 0; i < list->n; i++) {
        next(w, &first);
        write_value(w, f, (const char *)list->v + i * each);
    }
    close(w, ']', first);
}

static void write_map(struct writer *w, const struct pb_field *f, const struct pb_array *map)
{
    const struct pb_message *entry = f->type;
    const struct pb_field *k = &entry->fields[0], *v = &entry->fields[1];
    const void **sorted = pb_map_sorted(entry, map);
    bool first = true;
    open(w, '{');
    for (uint32_t i = 0; i < map->n; i++) {
        const char *e = sorted[i];
        if (k->kind == PB_STRING) {
            write_key(w, *(const sv *)(const void *)(e + k->offset), &first);
        } else {
            /* Other keys are quoted; 64-bit ones are quoted by write_scalar already. */
            bool quote = pb_kind_size(k->kind) != 8;
            next(w, &first);
            strbuf_add_c(w->out, quote ? "\"" : "");
            write_scalar(w, k, e + k->offset);
            strbuf_add_c(w->out, quote ? "\"" : "");
            strbuf_add_c(w->out, w->o->pretty ? ": " : ":");
        }
        write_value(w, v, e + v->offset);
    }
    close(w, '}', first);
    free(sorted);
}

/* ---- well-known types ---- */

static void write_fields(struct writer *w, const struct pb_message *m, const char *msg,
                         bool *first);

/* Each level of nesting decodes anew, so its depth is not bounded by the decoder. */
#define MAX_ANYS 32

static void write_any(struct writer *w, const struct google_Any *any)
{
    bool first = true, secret = w->secret;
    void *msg = NULL;
    const struct pb_message *m = pb_find(pb_any_type(any->type_url));
    const struct pb_opts tolerant = {.allow_unknown = true};
    if (m &&
        (w->anys == MAX_ANYS || pb_decode(m, any->value, &w->scratch, &tolerant, &msg, NULL) < 0)) {
        m = NULL; /* it may still hold a key: what cannot be looked into is hidden whole */
        w->secret = secret || w->o->redact_secrets;
    }
    w->anys++;
    open(w, '{');
    if (any->type_url.n) {
        write_key(w, SV("@type"), &first);
        strbuf_add_json(w->out, any->type_url);
    }
    if (m && m->well_known == PB_WKT_NONE) {
        write_fields(w, m, msg, &first);
    } else if (m && m->well_known != PB_WKT_EMPTY) {
        write_key(w, SV("value"), &first);
        write_message(w, m, msg);
    } else if (!m && any->value.n) {
        write_key(w, SV("value"), &first);
        write_text(w, PB_BYTES, any->value);
    }
    close(w, '}', first);
    w->anys--;
    w->secret = secret;
}

static void write_dynamic(struct writer *w, const struct google_Value *v)
{
    const struct pb_field *f = pb_field_by_number(&google_Value_pb, v->which_kind);
    if (!f)
        strbuf_add_c(w->out, "null");
    else
        write_value(w, f, (const char *)v + f->offset);
}

static void write_mask(struct writer *w, const struct google_FieldMask *mask)
{
    struct strbuf s;
    strbuf_init(&s, (size_t)1 << 20);
    for (uint32_t i = 0; i < mask->paths.n; i++) {
        sv p = mask->paths.v[i];
        if (i)
            strbuf_add_ch(&s, ',');
        for (size_t k = 0; k < p.n; k++) {
            bool up = p.p[k] == '_' && k + 1 < p.n && p.p[k + 1] >= 'a' && p.p[k + 1] <= 'z';
            strbuf_add_ch(&s, up ? (char)(p.p[++k] - 32) : p.p[k]);
        }
    }
    strbuf_add_json(w->out, strbuf_sv(&s));
    strbuf_fini(&s);
}

static void write_well_known(struct writer *w, const struct pb_message *m, const void *msg)
{
    const struct google_Duration *d = msg;
    const struct google_Timestamp *t = msg;
    const struct pb_field *f = m->n_fields ? &m->fields[0] : NULL;
    switch (m->well_known) {
    case PB_WKT_ANY:
        write_any(w, msg);
        break;
    case PB_WKT_DURATION:
        strbuf_add_ch(w->out, '"');
        pb_duration_print(d->seconds, d->nanos, w->out);
        strbuf_add_ch(w->out, '"');
        break;
    case PB_WKT_TIMESTAMP:
        strbuf_add_ch(w->out, '"');
        pb_timestamp_print(t->seconds, t->nanos, w->out);
        strbuf_add_ch(w->out, '"');
        break;
    case PB_WKT_WRAPPER:
        write_value(w, f, (const char *)msg + f->offset);
        break;
    case PB_WKT_STRUCT:
        write_map(w, f, (const struct pb_array *)(const void *)((const char *)msg + f->offset));
        break;
    case PB_WKT_LIST:
        write_list(w, f, (const struct pb_array *)(const void *)((const char *)msg + f->offset));
        break;
    case PB_WKT_VALUE:
        write_dynamic(w, msg);
        break;
    case PB_WKT_FIELD_MASK:
        write_mask(w, msg);
        break;
    default:
        strbuf_add_c(w->out, "{}");
        break;
    }
}

/* ---- messages ---- */

static bool is_set(const struct writer *w, const struct pb_field *f, const char *msg)
{
    const char *at = msg + f->offset;
    bool defaults = w->o->defaults && f->kind != PB_MESSAGE;
    switch (f->label) {
    case PB_REPEATED:
    case PB_MAP:
        return w->o->defaults || ((const struct pb_array *)(const void *)at)->n;
    case PB_OPTIONAL:
        return *(const bool *)(msg + f->has_offset);
    case PB_ONEOF:
        return *(const uint32_t *)(const void *)(msg + f->has_offset) == f->number;
    default:
        return defaults || !pb_is_default(f, at);
    }
}

static void write_fields(struct writer *w, const struct pb_message *m, const char *msg, bool *first)
{
    for (uint32_t i = 0; i < m->n_fields; i++) {
        const struct pb_field *f = &m->fields[i];
        const void *at = msg + f->offset;
        bool secret = w->secret;
        if (!is_set(w, f, msg))
            continue;
        w->secret = secret || (f->sensitive && w->o->redact_secrets);
        write_key(w, sv_of(w->o->snake_case ? f->name : f->json), first);
        if (f->label == PB_MAP)
            write_map(w, f, at);
        else if (f->label == PB_REPEATED)
            write_list(w, f, at);
        else
            write_value(w, f, at);
        w->secret = secret;
    }
}

static void write_message(struct writer *w, const struct pb_message *m, const void *msg)
{
    bool first = true;
    if (!msg) { /* a set member of a oneof without a struct is the empty message */
        strbuf_add_c(w->out, "{}");
        return;
    }
    if (m->well_known != PB_WKT_NONE) {
        write_well_known(w, m, msg);
        return;
    }
    open(w, '{');
    write_fields(w, m, msg, &first);
    close(w, '}', first);
}

void pb_to_json(const struct pb_message *m, const void *msg, const struct pb_json_opts *o,
                struct strbuf *out)
{
    static const struct pb_json_opts none;
    struct writer w = {.o = o ? o : &none, .out = out};
    arena_init(&w.scratch);
    write_message(&w, m, msg);
    arena_free(&w.scratch);
}
