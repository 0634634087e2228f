/* What the parts of the protobuf runtime share; nobody outside src/api includes this.
 * Thread: any. */
#ifndef WEFT_API_PB_INTERNAL_H
#define WEFT_API_PB_INTERNAL_H

#include "api/pb.h"

#define PB_MAX_DEPTH 100

/* A repeated or map member, whatever its element type. */
struct pb_array {
    void *v;
    uint32_t n;
};

/* Where a reader is: one frame a field, on the stack of the recursion, so that a path costs
 * nothing until somebody must be told. `name` is the field as the input spells it; with
 * index >= 0 an element of a list, with key.p an entry of a map. */
struct pb_frame {
    const struct pb_frame *up;
    sv name;
    int64_t index;
    sv key;
    const struct pb_field *field; /* instead of name */
};

/* Writes "prefix.a[2].b["key"].last" with a NUL into buf, from `fr` up to the root; `last` (may be
 * empty) is a further field below `fr`. Too long paths lose their front. Returns buf. */
const char *pb_path(const struct pb_frame *fr, sv last, const struct pb_opts *o, char *buf,
                    size_t size);

/* "uint32", "string" ... as in .proto files. */
const char *pb_kind_name(uint8_t kind);

/* Bytes of one element of a list of that kind (a pointer for PB_MESSAGE). */
static inline size_t pb_kind_size(uint8_t kind)
{
    static const uint8_t sizes[] = {[PB_BOOL] = sizeof(bool),
                                    [PB_INT32] = 4,
                                    [PB_INT64] = 8,
                                    [PB_UINT32] = 4,
                                    [PB_UINT64] = 8,
                                    [PB_SINT32] = 4,
                                    [PB_SINT64] = 8,
                                    [PB_FIXED32] = 4,
                                    [PB_FIXED64] = 8,
                                    [PB_SFIXED32] = 4,
                                    [PB_SFIXED64] = 8,
                                    [PB_FLOAT] = 4,
                                    [PB_DOUBLE] = 8,
                                    [PB_STRING] = sizeof(sv),
                                    [PB_BYTES] = sizeof(sv),
                                    [PB_ENUM] = 4,
                                    [PB_MESSAGE] = sizeof(void *)};
    return sizes[kind];
}

/* The wire type that a single value of that kind has. */
static inline unsigned pb_kind_wire(uint8_t kind)
{
    static const uint8_t wires[] = {
        [PB_FIXED32] = 5, [PB_FIXED64] = 1, [PB_SFIXED32] = 5, [PB_SFIXED64] = 1, [PB_FLOAT] = 5,
        [PB_DOUBLE] = 1,  [PB_STRING] = 2,  [PB_BYTES] = 2,    [PB_MESSAGE] = 2};
    return wires[kind];
}

const struct pb_field *pb_field_by_number_slow(const struct pb_message *m, uint32_t number);
static inline const struct pb_field *pb_field_by_number(const struct pb_message *m, uint32_t number)
{
    if (number >= m->n_index)
        return pb_field_by_number_slow(m, number);
    uint8_t i = m->index[number];
    return i ? &m->fields[i - 1] : NULL;
}

/* Whether a member (at `at`) that has no presence of its own has its default. Minus zero is not
 * zero: it has other bits. */
static inline bool pb_is_default(const struct pb_field *f, const char *at)
{
    switch (pb_kind_size(f->kind)) {
    case 1:
        return !*(const bool *)at;
    case 4:
        return *(const uint32_t *)(const void *)at == 0;
    case 8: /* numbers and pointers */
        return *(const uint64_t *)(const void *)at == 0;
    default:
        return ((const sv *)(const void *)at)->n == 0;
    }
}
bool pb_enum_has(const struct pb_enum *e, int32_t number);
/* Zeroes the member of f, as when another member of its oneof is set. */
void pb_clear(const struct pb_field *f, void *msg);
/* A zeroed message. */
void *pb_new(const struct pb_message *m, struct arena *a);
/* The keys of map entries a and b (messages of type `entry`) in the order of their values. */
int pb_map_key_cmp(const struct pb_message *entry, const void *a, const void *b);
/* The entries of a map in that order; malloc'd, the caller frees it. */
const void **pb_map_sorted(const struct pb_message *entry, const struct pb_array *map);

/* pb_text.c: the text forms of well-known types. All return 0 or E_INVALID. */
int pb_duration_parse(sv text, int64_t *seconds, int32_t *nanos);
void pb_duration_print(int64_t seconds, int32_t nanos, struct strbuf *out);
int pb_timestamp_parse(sv text, int64_t *seconds, int32_t *nanos);
void pb_timestamp_print(int64_t seconds, int32_t nanos, struct strbuf *out);
/* Shortest text that reads back as the same value; NaN and infinities by name, quoted. */
void pb_double_print(double v, struct strbuf *out);
void pb_float_print(float v, struct strbuf *out);

#endif
