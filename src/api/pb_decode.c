#include "api/pb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/pb_internal.h"

/* Structs may take this much more memory than the bytes that make them: a peer that sends a
 * million empty messages gets an error, not our memory. Real configuration stays below 20. */
#define EXPANSION       128
#define EXPANSION_FLOOR ((size_t)1 << 20)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed-size numbers are copied");

struct dec {
    struct arena *a;
    const struct pb_opts *o;
    struct error *err;
    size_t budget;
};

/* Lists carry their capacity in front of the first element while they may still grow. */
struct list_head {
    uint32_t cap;
} __attribute__((aligned(16)));

static int decode_fields(struct dec *d, const struct pb_message *m, const uint8_t *p,
                         const uint8_t *end, void *msg, const struct pb_frame *fr, unsigned depth);

static int fail(struct dec *d, const struct pb_frame *fr, const struct pb_field *f, int code,
                const char *fmt, ...) PRINTF_LIKE(5, 6);

static int fail(struct dec *d, const struct pb_frame *fr, const struct pb_field *f, int code,
                const char *fmt, ...)
{
    char path[512];
    va_list ap;
    va_start(ap, fmt);
    error_setv(d->err, code, fmt, ap);
    va_end(ap);
    pb_path(fr, f ? sv_of(f->name) : (sv){NULL, 0}, d->o, path, sizeof path);
    if (path[0])
        error_prefix(d->err, "%s: ", path);
    return code;
}

static void *take(struct dec *d, const struct pb_frame *fr, const struct pb_field *f, size_t n)
{
    if (n > d->budget) {
        fail(d, fr, f, E_LIMIT, "needs far more memory than its packed size accounts for");
        return NULL;
    }
    d->budget -= n;
    return arena_zalloc(d->a, n);
}

static const uint8_t *varint_long(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p == end)
            return NULL;
        uint8_t c = *p++;
        if (shift == 63 && c > 1)
            return NULL;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = v;
            return p;
        }
    }
    return NULL;
}

/* NULL when the bytes end early or the number has more than 64 bits. */
static inline const uint8_t *varint(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
    if (p < end && *p < 0x80) {
        *out = *p;
        return p + 1;
    }
    return varint_long(p, end, out);
}

/* One scalar of f from p; NULL when the bytes end early. */
static const uint8_t *scalar(uint8_t kind, const uint8_t *p, const uint8_t *end, void *at)
{
    uint64_t v;
    switch (pb_kind_wire(kind)) {
    case 0:
        p = varint(p, end, &v);
        if (!p)
            return NULL;
        break;
    case 1:
        if (end - p < 8)
            return NULL;
        memcpy(at, p, 8);
        return p + 8;
    default:
        if (end - p < 4)
            return NULL;
        memcpy(at, p, 4);
        return p + 4;
    }
    switch (kind) {
    case PB_BOOL:
        *(bool *)at = v != 0;
        break;
    case PB_INT64:
    case PB_UINT64:
        *(uint64_t *)at = v;
        break;
    case PB_SINT32:
        *(uint32_t *)at = (uint32_t)v >> 1 ^ (0u - ((uint32_t)v & 1));
        break;
    case PB_SINT64:
        *(uint64_t *)at = v >> 1 ^ (0u - (v & 1));
        break;
    default:
        *(uint32_t *)at = (uint32_t)v;
        break;
    }
    return p;
}

/* Tolerant mode: tells what is let pass. */
static void report(struct dec *d, const struct pb_frame *fr, const char *what)
{
    char path[512];
    if (d->o->on_unknown)
        d->o->on_unknown(d->o->arg, pb_path(fr, sv_of(what), d->o, path, sizeof path));
}

static int unknown_field(struct dec *d, const struct pb_message *m, uint32_t number,
                         const struct pb_frame *fr)
{
    if (!d->o || !d->o->allow_unknown)
        return fail(d, fr, NULL, E_INVALID, "field number %u of %s (unknown to weft)", number,
                    m->full_name);
    char what[256];
    snprintf(what, sizeof what, "field number %u of %s", number, m->full_name);
    report(d, fr, what);
    return 0;
}

static int check_enum(struct dec *d, const struct pb_field *f, int32_t v, const struct pb_frame *fr)
{
    const struct pb_enum *e = f->type;
    if (pb_enum_has(e, v))
        return 0;
    if (!d->o || !d->o->allow_unknown)
        return fail(d, fr, f, E_INVALID, "value %d of enum %s (unknown to weft)", v, e->full_name);
    char what[256];
    snprintf(what, sizeof what, "%s: value %d of enum %s", f->name, v, e->full_name);
    report(d, fr, what);
    return 0;
}

/* Room for `more` further elements; the list stays as it is on failure. */
static int grow(struct dec *d, const struct pb_field *f, struct pb_array *list, uint32_t more,
                const struct pb_frame *fr)
{
    struct list_head *head = list->v ? (struct list_head *)list->v - 1 : NULL;
    if (head && head->cap - list->n >= more)
        return 0;
    size_t each = pb_kind_size(f->kind);
    size_t cap = head && (size_t)head->cap * 2 > list->n + (size_t)more ? (size_t)head->cap * 2
                                                                        : list->n + (size_t)more;
    if (cap > UINT32_MAX)
        return fail(d, fr, f, E_LIMIT, "too many elements");
    head = take(d, fr, f, sizeof *head + cap * each);
    if (!head)
        return E_LIMIT;
    head->cap = (uint32_t)cap;
    if (list->n)
        memcpy(head + 1, list->v, list->n * each);
    list->v = head + 1;
    return 0;
}

/* How many fields with the tag at `tag` follow one another there: lists are nearly always written
 * in one run, so they get their exact size at once. */
static uint32_t run_length(const uint8_t *tag, size_t tag_len, const uint8_t *end)
{
    uint32_t n = 0;
    uint64_t len;
    while ((size_t)(end - tag) > tag_len) {
        const uint8_t *p = varint(tag + tag_len, end, &len);
        if (!p || len > (size_t)(end - p))
            break;
        n++;
        const uint8_t *next = p + len;
        if ((size_t)(end - next) < tag_len || memcmp(next, tag, tag_len) != 0)
            break;
        tag = next;
    }
    return n ? n : 1;
}

static int decode_packed(struct dec *d, const struct pb_field *f, struct pb_array *list,
                         const uint8_t *p, const uint8_t *end, const struct pb_frame *fr)
{
    size_t each = pb_kind_size(f->kind), n = 0;
    switch (pb_kind_wire(f->kind)) {
    case 0:
        for (const uint8_t *q = p; q < end; q++)
            n += *q < 0x80;
        break;
    case 1:
        n = (size_t)(end - p) / 8;
        break;
    default:
        n = (size_t)(end - p) / 4;
        break;
    }
    if (n > UINT32_MAX / 2)
        return fail(d, fr, f, E_LIMIT, "too many elements");
    int rc = n ? grow(d, f, list, (uint32_t)n, fr) : 0;
    if (rc < 0)
        return rc;
    while (p < end) {
        char *at = n ? (char *)list->v + list->n * each : NULL;
        const uint8_t *q = n-- ? scalar(f->kind, p, end, at) : NULL;
        if (!q)
            return fail(d, fr, f, E_INVALID, "malformed %s in a packed list",
                        pb_kind_name(f->kind));
        if (f->kind == PB_ENUM && (rc = check_enum(d, f, *(int32_t *)(void *)at, fr)) < 0)
            return rc;
        list->n++;
        p = q;
    }
    return 0;
}

static int set_bytes(struct dec *d, const struct pb_field *f, const uint8_t *p, size_t n, sv *at,
                     const struct pb_frame *fr)
{
    *at = sv_make((const char *)p, n);
    if (f->kind == PB_STRING && !pb_utf8_ok(*at))
        return fail(d, fr, f, E_INVALID, "not valid UTF-8");
    return 0;
}

/* A message-valued map entry without a value means the empty message; readers count on one. */
static int complete_entry(struct dec *d, const struct pb_message *entry, char *msg,
                          const struct pb_frame *fr)
{
    const struct pb_field *v = &entry->fields[1];
    void **at = (void **)(void *)(msg + v->offset);
    if (v->kind != PB_MESSAGE || *at)
        return 0;
    *at = take(d, fr, v, ((const struct pb_message *)v->type)->size);
    return *at ? 0 : E_LIMIT;
}

static int untyped(struct dec *d, struct google_Any *any, const struct pb_frame *fr)
{
    struct error why = {0};
    int rc = pb_any_untyped(any, d->a, d->o, &why);
    return rc < 0 ? fail(d, fr, NULL, rc, "%s", why.msg) : 0;
}

/* The length-delimited value [p, end) of field f, which is no packed list. */
static int set_delimited(struct dec *d, const struct pb_field *f, const uint8_t *tag,
                         size_t tag_len, const uint8_t *p, const uint8_t *end, const uint8_t *stop,
                         char *msg, const struct pb_frame *fr, unsigned depth)
{
    bool list = f->label == PB_REPEATED || f->label == PB_MAP;
    struct pb_array *arr = (struct pb_array *)(void *)(msg + f->offset);
    void *at = msg + f->offset;
    if (list) {
        uint32_t cap = arr->v ? ((struct list_head *)arr->v - 1)->cap : 0;
        if (arr->n == cap) {
            int rc = grow(d, f, arr, run_length(tag, tag_len, stop), fr);
            if (rc < 0)
                return rc;
        }
        at = (char *)arr->v + arr->n * pb_kind_size(f->kind);
    }
    struct pb_frame here = {.up = fr, .index = list ? (int64_t)arr->n : -1, .field = f};
    if (f->kind != PB_MESSAGE) {
        int rc = set_bytes(d, f, p, (size_t)(end - p), at, fr);
        if (list && rc == 0)
            arr->n++;
        return rc;
    }
    const struct pb_message *sub = f->type;
    void **ptr = at;
    if (!*ptr && !(*ptr = take(d, &here, NULL, sub->size)))
        return E_LIMIT;
    if (list)
        arr->n++;
    if (depth >= PB_MAX_DEPTH)
        return fail(d, &here, NULL, E_LIMIT, "nested deeper than %d", PB_MAX_DEPTH);
    int rc = decode_fields(d, sub, p, end, *ptr, &here, depth + 1);
    if (rc == 0 && f->label == PB_MAP)
        rc = complete_entry(d, sub, *ptr, &here);
    return rc == 0 && sub->well_known == PB_WKT_ANY ? untyped(d, *ptr, &here) : rc;
}

/* Marks f as the one that is set in its oneof, whoever was before it is zeroed; or as present. */
static void mark(const struct pb_message *m, const struct pb_field *f, char *msg)
{
    if (f->label == PB_OPTIONAL) {
        *(bool *)(msg + f->has_offset) = true;
    } else if (f->label == PB_ONEOF) {
        uint32_t *which = (uint32_t *)(void *)(msg + f->has_offset);
        if (*which && *which != f->number)
            pb_clear(pb_field_by_number(m, *which), msg);
        *which = f->number;
    }
}

static int wrong_wire(struct dec *d, const struct pb_field *f, unsigned wire,
                      const struct pb_frame *fr)
{
    return fail(d, fr, f, E_INVALID, "wire type %u where %s needs %u", wire, pb_kind_name(f->kind),
                pb_kind_wire(f->kind));
}

static int truncated(struct dec *d, const struct pb_frame *fr, const struct pb_field *f)
{
    return fail(d, fr, f, E_INVALID, "truncated or malformed bytes");
}

/* The value after a tag whose field is not known: where it ends, or NULL. */
static const uint8_t *skip(unsigned wire, const uint8_t *p, const uint8_t *end)
{
    uint64_t v;
    switch (wire) {
    case 0:
        return varint(p, end, &v);
    case 1:
        return end - p < 8 ? NULL : p + 8;
    case 2:
        p = varint(p, end, &v);
        return !p || v > (size_t)(end - p) ? NULL : p + v;
    case 5:
        return end - p < 4 ? NULL : p + 4;
    default:
        return NULL;
    }
}

/* A number of field f, alone or as an unpacked element of a list. */
static int set_scalar(struct dec *d, const struct pb_message *m, const struct pb_field *f,
                      const uint8_t **p, const uint8_t *end, char *msg, const struct pb_frame *fr)
{
    void *at = msg + f->offset;
    if (f->label == PB_REPEATED) {
        struct pb_array *arr = at;
        int rc = grow(d, f, arr, 1, fr);
        if (rc < 0)
            return rc;
        at = (char *)arr->v + arr->n * pb_kind_size(f->kind);
        arr->n++;
    } else {
        mark(m, f, msg);
    }
    *p = scalar(f->kind, *p, end, at);
    if (!*p)
        return truncated(d, fr, f);
    return f->kind == PB_ENUM ? check_enum(d, f, *(int32_t *)at, fr) : 0;
}

/* Map keys twice are a contradiction that readers would resolve differently. */
static int check_map(struct dec *d, const struct pb_field *f, const struct pb_array *map,
                     const struct pb_frame *fr)
{
    const struct pb_message *entry = f->type;
    const void **v = map->v, **sorted = NULL;
    int rc = 0;
    for (uint32_t i = 1; i < map->n && map->n <= 16; i++)
        for (uint32_t k = 0; k < i && rc == 0; k++)
            if (pb_map_key_cmp(entry, v[i], v[k]) == 0)
                rc = fail(d, fr, f, E_INVALID, "the same map key twice");
    if (map->n <= 16)
        return rc;
    sorted = pb_map_sorted(entry, map);
    for (uint32_t i = 1; i < map->n && rc == 0; i++)
        if (pb_map_key_cmp(entry, sorted[i - 1], sorted[i]) == 0)
            rc = fail(d, fr, f, E_INVALID, "the same map key twice");
    free(sorted);
    return rc;
}

static int check_maps(struct dec *d, const struct pb_message *m, const char *msg,
                      const struct pb_frame *fr)
{
    for (uint32_t i = 0; i < m->n_fields; i++) {
        const struct pb_field *f = &m->fields[i];
        const struct pb_array *map = (const struct pb_array *)(const void *)(msg + f->offset);
        int rc = f->label == PB_MAP && map->n > 1 ? check_map(d, f, map, fr) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* One field, from its tag on; *pp moves behind it. */
static int decode_field(struct dec *d, const struct pb_message *m, const uint8_t **pp,
                        const uint8_t *end, char *msg, const struct pb_frame *fr, unsigned depth,
                        bool *maps)
{
    const uint8_t *start = *pp;
    uint64_t tag, len;
    const uint8_t *p = varint(start, end, &tag);
    if (!p || tag > UINT32_MAX)
        return truncated(d, fr, NULL);
    size_t tag_len = (size_t)(p - start);
    uint32_t number = (uint32_t)(tag >> 3);
    unsigned wire = (unsigned)(tag & 7);
    if (number == 0 || (wire > 2 && wire != 5))
        return fail(d, fr, NULL, E_INVALID, "field number %u with wire type %u in %s", number, wire,
                    m->full_name);
    const struct pb_field *f = pb_field_by_number(m, number);
    if (!f) {
        *pp = skip(wire, p, end);
        return *pp ? unknown_field(d, m, number, fr) : truncated(d, fr, NULL);
    }
    unsigned need = pb_kind_wire(f->kind);
    if (wire == need && wire != 2) {
        *pp = p;
        return set_scalar(d, m, f, pp, end, msg, fr);
    }
    if (wire != 2 || (need != 2 && f->label != PB_REPEATED))
        return wrong_wire(d, f, wire, fr);
    p = varint(p, end, &len);
    if (!p || len > (size_t)(end - p))
        return truncated(d, fr, f);
    *pp = p + len;
    if (need != 2)
        return decode_packed(d, f, (struct pb_array *)(void *)(msg + f->offset), p, p + len, fr);
    if (f->label == PB_MAP)
        *maps = true;
    mark(m, f, msg);
    return set_delimited(d, f, start, tag_len, p, p + len, end, msg, fr, depth);
}

static int decode_fields(struct dec *d, const struct pb_message *m, const uint8_t *p,
                         const uint8_t *end, void *msg, const struct pb_frame *fr, unsigned depth)
{
    bool maps = false;
    while (p < end) {
        int rc = decode_field(d, m, &p, end, msg, fr, depth, &maps);
        if (rc < 0)
            return rc;
    }
    return maps ? check_maps(d, m, msg, fr) : 0;
}

int pb_decode(const struct pb_message *m, sv bytes, struct arena *a, const struct pb_opts *o,
              void **out, struct error *err)
{
    struct dec d = {.a = a, .o = o, .err = err};
    if (__builtin_mul_overflow(bytes.n, (size_t)EXPANSION, &d.budget) ||
        __builtin_add_overflow(d.budget, EXPANSION_FLOOR, &d.budget))
        d.budget = SIZE_MAX;
    void *msg = pb_new(m, a);
    const uint8_t *p = (const uint8_t *)(bytes.p ? bytes.p : "");
    int rc = decode_fields(&d, m, p, p + bytes.n, msg, NULL, 1);
    if (rc == 0)
        *out = msg;
    return rc;
}
