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

static bool tables_equal(const struct google_Struct *a, const struct google_Struct *b)
{
    uint32_t n = a ? a->fields.n : 0;
    if (n != (b ? b->fields.n : 0))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct google_Value *other = pb_struct_get(b, a->fields.v[i]->key);
        if (!other || !pb_value_equal(a->fields.v[i]->value, other))
            return false;
    }
    return true;
}

static bool lists_equal(const struct google_ListValue *a, const struct google_ListValue *b)
{
    uint32_t n = a ? a->values.n : 0;
    if (n != (b ? b->values.n : 0))
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!pb_value_equal(a->values.v[i], b->values.v[i]))
            return false;
    return true;
}

bool pb_value_equal(const struct google_Value *a, const struct google_Value *b)
{
    if (!a || !b || a->which_kind != b->which_kind)
        return a == b;
    switch (a->which_kind) {
    case google_Value_number_value_tag:
        return a->number_value == b->number_value;
    case google_Value_string_value_tag:
        return sv_eq(a->string_value, b->string_value);
    case google_Value_bool_value_tag:
        return a->bool_value == b->bool_value;
    case google_Value_struct_value_tag:
        return tables_equal(a->struct_value, b->struct_value);
    case google_Value_list_value_tag:
        return lists_equal(a->list_value, b->list_value);
    default:
        return true;
    }
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
