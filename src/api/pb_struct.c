#include "api/pb_struct.h"

const struct google_Value *pb_struct_get(const struct google_Struct *s, sv key)
{
    for (uint32_t i = 0; s && i < s->fields.n; i++) {
        if (sv_eq(s->fields.v[i]->key, key))
            return s->fields.v[i]->value;
    }
    return NULL;
}

sv pb_struct_text(const struct google_Struct *s, sv key)
{
    const struct google_Value *v = pb_struct_get(s, key);
    return v && v->which_kind == google_Value_string_value_tag ? v->string_value : (sv){NULL, 0};
}

const struct google_Struct *pb_struct_table(const struct google_Struct *s, sv key)
{
    const struct google_Value *v = pb_struct_get(s, key);
    return v && v->which_kind == google_Value_struct_value_tag ? v->struct_value : NULL;
}

struct google_Struct *pb_struct_new(struct arena *a, uint32_t max_fields)
{
    struct google_Struct *s = arena_new(a, struct google_Struct);
    s->fields.v = arena_array(a, const struct google_Struct_FieldsEntry *, max_fields);
    return s;
}

void pb_struct_put(struct google_Struct *s, struct arena *a, sv key, const struct google_Value *v)
{
    struct google_Struct_FieldsEntry *e = arena_new(a, struct google_Struct_FieldsEntry);
    e->key = key;
    e->value = v;
    s->fields.v[s->fields.n++] = e;
}

void pb_struct_put_text(struct google_Struct *s, struct arena *a, sv key, sv text)
{
    struct google_Value *v = arena_new(a, struct google_Value);
    v->which_kind = google_Value_string_value_tag;
    v->string_value = text;
    pb_struct_put(s, a, key, v);
}

void pb_struct_put_table(struct google_Struct *s, struct arena *a, sv key,
                         const struct google_Struct *table)
{
    struct google_Value *v = arena_new(a, struct google_Value);
    v->which_kind = google_Value_struct_value_tag;
    v->struct_value = table;
    pb_struct_put(s, a, key, v);
}
