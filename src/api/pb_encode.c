#include "api/pb.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "api/pb_internal.h"

/* Messages are written back to front: when the length of a nested message must be written, its
 * bytes are already there, so nothing is measured beforehand and nothing is moved.
 *
 *   base [ free ......... ][ packed bytes, complete from `at` ] base + cap
 */
struct enc {
    char *base;
    size_t cap, n; /* n bytes in use, at the end */
    bool on_heap;
};

static void grow(struct enc *e, size_t n)
{
    size_t cap = e->cap * 2;
    while (cap - e->n < n)
        cap *= 2;
    char *base = mem_alloc(cap);
    memcpy(base + cap - e->n, e->base + e->cap - e->n, e->n);
    if (e->on_heap)
        free(e->base);
    e->base = base;
    e->cap = cap;
    e->on_heap = true;
}

static inline char *room(struct enc *e, size_t n)
{
    if (e->cap - e->n < n)
        grow(e, n);
    e->n += n;
    return e->base + e->cap - e->n;
}

static void put(struct enc *e, const void *p, size_t n)
{
    if (n)
        memcpy(room(e, n), p, n);
}

static inline void put_varint(struct enc *e, uint64_t v)
{
    size_t n = (size_t)(63 - __builtin_clzll(v | 1)) / 7 + 1;
    uint8_t *p = (uint8_t *)room(e, n);
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p = (uint8_t)v;
}

static void put_tag(struct enc *e, const struct pb_field *f, unsigned wire)
{
    put_varint(e, (uint64_t)f->number << 3 | wire);
}

static void put_scalar(struct enc *e, uint8_t kind, const void *at)
{
    uint32_t w;
    uint64_t v;
    switch (kind) {
    case PB_BOOL:
        put_varint(e, *(const bool *)at);
        break;
    case PB_INT32:
    case PB_ENUM:
        put_varint(e, (uint64_t)(int64_t)(*(const int32_t *)at));
        break;
    case PB_UINT32:
        put_varint(e, *(const uint32_t *)at);
        break;
    case PB_INT64:
    case PB_UINT64:
        put_varint(e, *(const uint64_t *)at);
        break;
    case PB_SINT32:
        w = *(const uint32_t *)at;
        put_varint(e, (uint32_t)(w << 1 ^ (0u - (w >> 31))));
        break;
    case PB_SINT64:
        v = *(const uint64_t *)at;
        put_varint(e, v << 1 ^ (0u - (v >> 63)));
        break;
    default:
        put(e, at, pb_kind_size(kind));
        break;
    }
}

static void put_message(struct enc *e, const struct pb_message *m, const char *msg);

/* One value of f with its tag, present whatever it is. */
static void put_value(struct enc *e, const struct pb_field *f, const void *at)
{
    if (f->kind == PB_MESSAGE) {
        size_t before = e->n;
        const void *sub = *(const void *const *)at;
        if (sub) /* NULL is the empty message where something says that the field is set */
            put_message(e, f->type, sub);
        put_varint(e, e->n - before);
    } else if (f->kind == PB_STRING || f->kind == PB_BYTES) {
        const sv *v = at;
        put(e, v->p, v->n);
        put_varint(e, v->n);
    } else {
        put_scalar(e, f->kind, at);
    }
    put_tag(e, f, pb_kind_wire(f->kind));
}

/* Entries carry key and value even when they are zero, as other implementations write them. */
static void put_entry(struct enc *e, const struct pb_field *f, const char *entry)
{
    const struct pb_message *m = f->type;
    size_t before = e->n;
    put_value(e, &m->fields[1], entry + m->fields[1].offset);
    put_value(e, &m->fields[0], entry + m->fields[0].offset);
    put_varint(e, e->n - before);
    put_tag(e, f, 2);
}

static int by_key(const void *a, const void *b, void *entry)
{
    return pb_map_key_cmp(entry, *(const void *const *)a, *(const void *const *)b);
}

const void **pb_map_sorted(const struct pb_message *entry, const struct pb_array *map)
{
    const void **v = mem_array(const void *, map->n ? map->n : 1);
    if (map->n)
        memcpy(v, map->v, map->n * sizeof *v);
    qsort_r(v, map->n, sizeof *v, by_key, (void *)entry);
    return v;
}

static void put_map(struct enc *e, const struct pb_field *f, const struct pb_array *map)
{
    if (map->n == 1) {
        put_entry(e, f, *(const char *const *)map->v);
        return;
    }
    const void **v = map->n ? pb_map_sorted(f->type, map) : NULL;
    for (uint32_t i = map->n; i-- > 0;)
        put_entry(e, f, v[i]);
    free(v);
}

static void put_list(struct enc *e, const struct pb_field *f, const struct pb_array *list)
{
    size_t each = pb_kind_size(f->kind), before = e->n;
    for (uint32_t i = list->n; i-- > 0;) {
        const char *at = (const char *)list->v + i * each;
        if (f->packed)
            put_scalar(e, f->kind, at);
        else
            put_value(e, f, at);
    }
    if (f->packed && list->n) {
        put_varint(e, e->n - before);
        put_tag(e, f, 2);
    }
}

/* A field that is no plain single one. */
static void put_field(struct enc *e, const struct pb_field *f, const char *msg)
{
    const char *at = msg + f->offset;
    switch (f->label) {
    case PB_MAP:
        put_map(e, f, (const struct pb_array *)(const void *)at);
        break;
    case PB_REPEATED:
        put_list(e, f, (const struct pb_array *)(const void *)at);
        break;
    case PB_OPTIONAL:
        if (*(const bool *)(msg + f->has_offset))
            put_value(e, f, at);
        break;
    case PB_ONEOF:
        if (*(const uint32_t *)(const void *)(msg + f->has_offset) == f->number)
            put_value(e, f, at);
        else /* a pointer without its tag in which_o is a mistake of the code that built this */
            assert(f->kind != PB_MESSAGE || pb_is_default(f, at));
        break;
    default:
        break;
    }
}

static void put_message(struct enc *e, const struct pb_message *m, const char *msg)
{
    for (uint32_t i = m->n_fields; i-- > 0;) {
        const struct pb_field *f = &m->fields[i];
        /* Most fields of most messages are absent: these go by without a call. */
        if (f->label != PB_SINGULAR)
            put_field(e, f, msg);
        else if (!pb_is_default(f, msg + f->offset))
            put_value(e, f, msg + f->offset);
    }
}

void pb_encode(const struct pb_message *m, const void *msg, struct strbuf *out)
{
    char first[4096];
    struct enc e = {.base = first, .cap = sizeof first};
    put_message(&e, m, msg);
    strbuf_add(out, e.base + e.cap - e.n, e.n);
    if (e.on_heap)
        free(e.base);
}

sv pb_encode_arena(const struct pb_message *m, const void *msg, struct arena *a)
{
    char first[4096];
    struct enc e = {.base = first, .cap = sizeof first};
    put_message(&e, m, msg);
    sv out = arena_sv(a, sv_make(e.base + e.cap - e.n, e.n));
    if (e.on_heap)
        free(e.base);
    return out;
}
