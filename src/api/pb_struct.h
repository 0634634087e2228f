/* google.protobuf.Struct as the texts and tables that most of them are. Thread: any. */
#ifndef WEFT_API_PB_STRUCT_H
#define WEFT_API_PB_STRUCT_H

#include "api/google.pb.h"
#include "base/arena.h"

/* ---- reading; s may be NULL ---- */
const struct google_Value *pb_struct_get(const struct google_Struct *s, sv key); /* or NULL */
/* Empty when it is not there or no string; borrowed. */
sv pb_struct_text(const struct google_Struct *s, sv key);
/* NULL when it is not there or no table. */
const struct google_Struct *pb_struct_table(const struct google_Struct *s, sv key);

/* Whether both say the same, whatever the order of tables' fields. */
bool pb_value_equal(const struct google_Value *a, const struct google_Value *b);

/* ---- making, in a; keys and texts are borrowed ---- */
struct google_Struct *pb_struct_new(struct arena *a, uint32_t max_fields);
void pb_struct_put(struct google_Struct *s, struct arena *a, sv key, const struct google_Value *v);
void pb_struct_put_text(struct google_Struct *s, struct arena *a, sv key, sv text);
void pb_struct_put_table(struct google_Struct *s, struct arena *a, sv key,
                         const struct google_Struct *table);

#endif
