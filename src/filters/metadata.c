#include "filters/metadata.h"

#include "api/google.pb.h"
#include "api/pb.h"
#include "api/pb_struct.h"

#define TEXT_MAX  (1u << 20) /* of one nested value */
#define DEPTH_MAX 32

static const struct google_Value *value_of(const struct stream_meta *m, struct arena *a)
{
    struct google_Value *v = arena_new(a, struct google_Value);
    void *out;
    switch (m->kind) {
    case STREAM_META_STRING:
        v->which_kind = google_Value_string_value_tag;
        v->string_value = m->text;
        return v;
    case STREAM_META_NUMBER:
        v->which_kind = google_Value_number_value_tag;
        v->number_value = m->number;
        return v;
    case STREAM_META_BOOL:
        v->which_kind = google_Value_bool_value_tag;
        v->bool_value = m->boolean;
        return v;
    default:
        return pb_from_text(&google_Value_pb, m->text, "metadata", a, NULL, &out, NULL) < 0 ? v
                                                                                            : out;
    }
}

static const struct google_Value *merged(const struct google_Value *old,
                                         const struct google_Value *v, struct arena *a, int depth);

static const struct google_Struct *merged_tables(const struct google_Struct *old,
                                                 const struct google_Struct *over, struct arena *a,
                                                 int depth)
{
    struct google_Struct *s = pb_struct_new(a, old->fields.n + over->fields.n);
    for (uint32_t i = 0; i < old->fields.n; i++) {
        const struct google_Value *v = pb_struct_get(over, old->fields.v[i]->key);
        pb_struct_put(s, a, old->fields.v[i]->key,
                      v ? merged(old->fields.v[i]->value, v, a, depth) : old->fields.v[i]->value);
    }
    for (uint32_t i = 0; i < over->fields.n; i++)
        if (!pb_struct_get(old, over->fields.v[i]->key))
            pb_struct_put(s, a, over->fields.v[i]->key, over->fields.v[i]->value);
    return s;
}

static const struct google_Value *merged(const struct google_Value *old,
                                         const struct google_Value *v, struct arena *a, int depth)
{
    struct google_Value *out = arena_new(a, struct google_Value);
    if (!old || old->which_kind != v->which_kind || depth > DEPTH_MAX)
        return v;
    out->which_kind = v->which_kind;
    if (v->which_kind == google_Value_struct_value_tag) {
        out->struct_value = merged_tables(old->struct_value, v->struct_value, a, depth + 1);
        return out;
    }
    if (v->which_kind != google_Value_list_value_tag)
        return v;
    const struct google_ListValue *x = old->list_value, *y = v->list_value;
    struct google_ListValue *list = arena_new(a, struct google_ListValue);
    const struct google_Value **all =
        arena_array(a, const struct google_Value *, x->values.n + y->values.n + 1);
    for (uint32_t i = 0; i < x->values.n; i++)
        all[list->values.n++] = x->values.v[i];
    for (uint32_t i = 0; i < y->values.n; i++)
        all[list->values.n++] = y->values.v[i];
    list->values.v = all;
    out->list_value = list;
    return out;
}

void filter_metadata_set(struct stream_info *si, sv ns, sv key, const struct google_Value *v,
                         bool merge)
{
    const struct stream_meta *there = merge ? stream_info_meta_get(si, ns, key) : NULL;
    if (there)
        v = merged(value_of(there, si->arena), v, si->arena, 0);
    struct strbuf json;
    switch (v->which_kind) {
    case google_Value_string_value_tag:
        stream_info_meta_set(si, ns, key, v->string_value);
        return;
    case google_Value_number_value_tag:
        stream_info_meta_set_number(si, ns, key, v->number_value);
        return;
    case google_Value_bool_value_tag:
        stream_info_meta_set_bool(si, ns, key, v->bool_value);
        return;
    default:
        strbuf_init(&json, TEXT_MAX);
        pb_to_json(&google_Value_pb, v, &(struct pb_json_opts){0}, &json);
        if (!json.overflow)
            stream_info_meta_set_json(si, ns, key, strbuf_sv(&json));
        strbuf_fini(&json);
    }
}

bool filter_metadata_has(const struct stream_info *si, sv ns)
{
    for (const struct stream_meta *m = si->meta; m; m = m->next)
        if (sv_eq(m->ns, ns))
            return true;
    return false;
}

static const struct google_Struct *lb_of(const struct envoy_Metadata *m)
{
    for (uint32_t i = 0; m && i < m->filter_metadata.n; i++)
        if (sv_eq(m->filter_metadata.v[i]->key, SV("envoy.lb")))
            return m->filter_metadata.v[i]->value;
    return NULL;
}

const struct envoy_Metadata *filter_metadata_match(const struct stream_info *si,
                                                   const struct envoy_Metadata *route)
{
    const sv ns = SV("envoy.lb");
    uint32_t n = 0;
    for (const struct stream_meta *m = si->meta; m; m = m->next)
        n += sv_eq(m->ns, ns);
    if (!n)
        return route;
    struct arena *a = si->arena;
    const struct google_Struct *low = lb_of(route);
    struct google_Struct *s = pb_struct_new(a, n + (low ? low->fields.n : 0));
    for (uint32_t i = 0; low && i < low->fields.n; i++)
        if (!stream_info_meta_get(si, ns, low->fields.v[i]->key))
            pb_struct_put(s, a, low->fields.v[i]->key, low->fields.v[i]->value);
    for (const struct stream_meta *m = si->meta; m; m = m->next)
        if (sv_eq(m->ns, ns))
            pb_struct_put(s, a, m->key, value_of(m, a));
    struct envoy_Metadata_FilterMetadataEntry *e =
        arena_new(a, struct envoy_Metadata_FilterMetadataEntry);
    const struct envoy_Metadata_FilterMetadataEntry **v =
        arena_array(a, const struct envoy_Metadata_FilterMetadataEntry *, 1);
    struct envoy_Metadata *out = arena_new(a, struct envoy_Metadata);
    e->key = ns;
    e->value = s;
    v[0] = e;
    out->filter_metadata.v = v;
    out->filter_metadata.n = 1;
    return out;
}
