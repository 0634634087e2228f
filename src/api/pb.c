#include "api/pb.h"

#include <stdio.h>
#include <string.h>
#include "api/pb_internal.h"

const char *pb_kind_name(uint8_t kind)
{
    static const char *const names[] = {
        [PB_BOOL] = "bool",         [PB_INT32] = "int32",       [PB_INT64] = "int64",
        [PB_UINT32] = "uint32",     [PB_UINT64] = "uint64",     [PB_SINT32] = "sint32",
        [PB_SINT64] = "sint64",     [PB_FIXED32] = "fixed32",   [PB_FIXED64] = "fixed64",
        [PB_SFIXED32] = "sfixed32", [PB_SFIXED64] = "sfixed64", [PB_FLOAT] = "float",
        [PB_DOUBLE] = "double",     [PB_STRING] = "string",     [PB_BYTES] = "bytes",
        [PB_ENUM] = "enum",         [PB_MESSAGE] = "message"};
    return names[kind];
}

void *pb_new(const struct pb_message *m, struct arena *a)
{
    return arena_zalloc(a, m->size);
}

void pb_clear(const struct pb_field *f, void *msg)
{
    bool list = f->label == PB_REPEATED || f->label == PB_MAP;
    memset((char *)msg + f->offset, 0, list ? sizeof(struct pb_array) : pb_kind_size(f->kind));
}

const struct pb_field *pb_field_by_number_slow(const struct pb_message *m, uint32_t number)
{
    uint32_t lo = 0, hi = m->n_fields;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->fields[mid].number < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->n_fields && m->fields[lo].number == number ? &m->fields[lo] : NULL;
}

static bool is_name(sv v, const char *name)
{
    return strncmp(name, v.p, v.n) == 0 && name[v.n] == 0;
}

const struct pb_field *pb_field_by_name(const struct pb_message *m, sv name)
{
    if (!name.n || memchr(name.p, 0, name.n))
        return NULL;
    for (uint32_t i = 0; i < m->n_fields; i++)
        if (m->fields[i].name[0] == name.p[0] &&
            (is_name(name, m->fields[i].name) || is_name(name, m->fields[i].json)))
            return &m->fields[i];
    /* json_name options may begin differently from the name. */
    for (uint32_t i = 0; i < m->n_fields; i++)
        if (is_name(name, m->fields[i].json))
            return &m->fields[i];
    return NULL;
}

const char *pb_enum_name(const struct pb_enum *e, int32_t number)
{
    static __thread char buf[16];
    for (uint32_t i = 0; i < e->n; i++)
        if (e->values[i].number == number)
            return e->values[i].name;
    snprintf(buf, sizeof buf, "%d", number);
    return buf;
}

bool pb_enum_has(const struct pb_enum *e, int32_t number)
{
    for (uint32_t i = 0; i < e->n; i++)
        if (e->values[i].number == number)
            return true;
    return false;
}

int pb_enum_number(const struct pb_enum *e, sv name, int32_t *out)
{
    for (uint32_t i = 0; i < e->n; i++) {
        if (sv_eq_c(name, e->values[i].name)) {
            *out = e->values[i].number;
            return 0;
        }
    }
    return E_NOT_FOUND;
}

int pb_map_key_cmp(const struct pb_message *entry, const void *a, const void *b)
{
    const struct pb_field *k = &entry->fields[0];
    const char *x = (const char *)a + k->offset, *y = (const char *)b + k->offset;
    switch (k->kind) {
    case PB_STRING:
        return sv_cmp(*(const sv *)x, *(const sv *)y);
    case PB_BOOL:
        return (int)*(const bool *)x - (int)*(const bool *)y;
    case PB_UINT32:
    case PB_FIXED32:
        return (*(const uint32_t *)x > *(const uint32_t *)y) -
               (*(const uint32_t *)x < *(const uint32_t *)y);
    case PB_UINT64:
    case PB_FIXED64:
        return (*(const uint64_t *)x > *(const uint64_t *)y) -
               (*(const uint64_t *)x < *(const uint64_t *)y);
    case PB_INT64:
    case PB_SINT64:
    case PB_SFIXED64:
        return (*(const int64_t *)x > *(const int64_t *)y) -
               (*(const int64_t *)x < *(const int64_t *)y);
    default:
        return (*(const int32_t *)x > *(const int32_t *)y) -
               (*(const int32_t *)x < *(const int32_t *)y);
    }
}

/* Writes backwards: *at is the first byte in use; what does not fit is left out. */
static void prepend(char *buf, char **at, const char *p, size_t n)
{
    size_t room = (size_t)(*at - buf);
    if (n > room) {
        p += n - room;
        n = room;
    }
    *at -= n;
    if (n)
        memcpy(*at, p, n);
}

const char *pb_path(const struct pb_frame *fr, sv last, const struct pb_opts *o, char *buf,
                    size_t size)
{
    char *at = buf + size - 1;
    *at = 0;
    if (last.n)
        prepend(buf, &at, last.p, last.n);
    for (; fr; fr = fr->up) {
        char index[32] = "";
        if (*at && *at != '[')
            prepend(buf, &at, ".", 1);
        if (fr->key.p) {
            prepend(buf, &at, "\"]", 2);
            prepend(buf, &at, fr->key.p, fr->key.n);
            prepend(buf, &at, "[\"", 2);
        } else if (fr->index >= 0) {
            snprintf(index, sizeof index, "[%lld]", (long long)fr->index);
            prepend(buf, &at, index, strlen(index));
        }
        sv name = fr->field ? sv_of(fr->field->name) : fr->name;
        prepend(buf, &at, name.p, name.n);
    }
    if (o && o->path && o->path[0]) {
        if (*at && *at != '[')
            prepend(buf, &at, ".", 1);
        prepend(buf, &at, o->path, strlen(o->path));
    }
    memmove(buf, at, strlen(at) + 1);
    return buf;
}

bool pb_utf8_ok(sv v)
{
    if (!v.n)
        return true; /* v.p may be NULL */
    const uint8_t *p = (const uint8_t *)v.p, *end = p + v.n;
    while (p < end) {
        uint64_t w;
        while (end - p >= 8 && (memcpy(&w, p, 8), (w & 0x8080808080808080u) == 0))
            p += 8;
        if (p == end)
            break;
        uint8_t c = *p++;
        if (c < 0x80)
            continue;
        unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        if (c < 0xc2 || c > 0xf4 || (size_t)(end - p) < more)
            return false;
        /* The first continuation byte also rules out over-long forms, surrogates, > U+10FFFF. */
        uint8_t lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        uint8_t hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (p[0] < lo || p[0] > hi)
            return false;
        for (unsigned i = 1; i < more; i++)
            if ((p[i] & 0xc0) != 0x80)
                return false;
        p += more;
    }
    return true;
}
