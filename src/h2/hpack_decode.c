#include "h2/hpack.h"

#include <stdlib.h>
#include "base/mem.h"
#include "http/chars.h"

#define STATIC_ENTRIES 61
#define SCRATCH        4096
#define DEFAULT_TABLE  4096 /* RFC 9113 6.5.2 */
#define MAX_STRING     (1u << 24)

void hpack_decoder_init(struct hpack_decoder *d)
{
    *d = (struct hpack_decoder){.allowed = DEFAULT_TABLE, .t.max = DEFAULT_TABLE};
}

void hpack_decoder_fini(struct hpack_decoder *d)
{
    hpack_table_fini(&d->t);
}

void hpack_decoder_allow(struct hpack_decoder *d, uint32_t table_bytes)
{
    d->allowed = table_bytes;
    if (d->t.max > table_bytes)
        d->update_needed = true;
}

/* The bytes of a block and how far they are used. Steps return 1, 0 (cut here), or E_PROTOCOL. */
struct input {
    const uint8_t *p, *end;
};

static int take_int(struct input *in, unsigned prefix_bits, uint32_t *out)
{
    if (in->p == in->end)
        return 0;
    uint32_t most = (1u << prefix_bits) - 1, v = *in->p & most;
    const uint8_t *p = in->p + 1;
    if (v == most) {
        unsigned shift = 0;
        uint8_t b;
        do {
            if (p == in->end)
                return 0;
            b = *p++;
            /* Four bytes reach 2^28, which is more than anything here may be (5.1). */
            if (shift > 21)
                return E_PROTOCOL;
            v += (uint32_t)(b & 0x7f) << shift;
            shift += 7;
        } while (b & 0x80);
    }
    in->p = p;
    *out = v;
    return 1;
}

/* A string as it lies on the wire. */
struct coded {
    const uint8_t *p;
    uint32_t n;
    bool huffman;
};

static int take_string(struct input *in, struct coded *s)
{
    if (in->p == in->end)
        return 0;
    s->huffman = *in->p & 0x80;
    int r = take_int(in, 7, &s->n);
    if (r <= 0)
        return r;
    if (s->n > MAX_STRING)
        return E_PROTOCOL;
    if (s->n > (size_t)(in->end - in->p))
        return 0;
    s->p = in->p;
    in->p += s->n;
    return 1;
}

static size_t room_needed(const struct coded *s)
{
    return s->huffman ? HPACK_HUFF_MAX((size_t)s->n) : 0;
}

/* Points *out at the string's bytes, decoded into *room (which moves on) when they are coded. */
static int string_open(const struct coded *s, char **room, sv *out)
{
    if (!s->huffman) {
        *out = sv_make((const char *)s->p, s->n);
        return 1;
    }
    ssize_t n = hpack_huff_decode(s->p, s->n, *room);
    if (n < 0)
        return E_PROTOCOL;
    *out = sv_make(*room, (size_t)n);
    *room += n;
    return 1;
}

static uint16_t check_name(sv name, unsigned id)
{
    if (id != HTTP_H_OTHER)
        return id == HPACK_PSEUDO_UNKNOWN ? HPACK_F_BAD_NAME : 0;
    return http_name_lower_valid(name) ? 0 : HPACK_F_BAD_NAME;
}

static uint16_t check_value(sv value)
{
    return http_value_span(value.p, value.n) == value.n ? 0 : HPACK_F_BAD_VALUE;
}

static int field_at(const struct hpack_decoder *d, uint32_t index, struct hpack_field *f)
{
    if (index == 0)
        return E_PROTOCOL;
    if (index <= STATIC_ENTRIES) {
        const struct hpack_static *e = &hpack_static[index];
        *f = (struct hpack_field){e->name, e->value, e->id,
                                  HPACK_F_STATIC_NAME | HPACK_F_STATIC_VALUE};
        return 1;
    }
    index -= STATIC_ENTRIES + 1;
    if (index >= d->t.count)
        return E_PROTOCOL;
    const struct hpack_entry *e = hpack_table_at(&d->t, index);
    *f = (struct hpack_field){hpack_entry_name(&d->t, e), hpack_entry_value(&d->t, e), e->id,
                              e->flags};
    return 1;
}

enum literal { LITERAL_PLAIN, LITERAL_INDEXED, LITERAL_NEVER };

static int literal_emit(struct hpack_decoder *d, enum literal kind, uint32_t name_index,
                        const struct coded *name, const struct coded *value, char *room,
                        hpack_field_fn fn, void *user)
{
    struct hpack_field f = {.id = HTTP_H_OTHER};
    int r = name_index ? field_at(d, name_index, &f) : string_open(name, &room, &f.name);
    if (r <= 0 || (r = string_open(value, &room, &f.value)) <= 0)
        return r;
    if (!name_index) {
        f.id = (uint16_t)hpack_id(f.name);
        f.flags = check_name(f.name, f.id);
    }
    f.flags &= HPACK_F_BAD_NAME | HPACK_F_STATIC_NAME;
    f.flags |= check_value(f.value);
    if (kind == LITERAL_INDEXED) {
        struct hpack_entry *e = hpack_table_add(&d->t, f.name, f.value);
        if (e) {
            e->id = f.id;
            e->flags = f.flags & ~HPACK_F_STATIC_NAME;
            /* A name that came from the table may have been evicted by its own insertion. */
            f.name = hpack_entry_name(&d->t, e);
            f.flags &= ~HPACK_F_STATIC_NAME;
        }
    } else if (kind == LITERAL_NEVER) {
        f.flags |= HPACK_F_NEVER_INDEX;
    }
    fn(user, &f);
    return 1;
}

static int literal(struct hpack_decoder *d, struct input *in, enum literal kind, unsigned bits,
                   hpack_field_fn fn, void *user)
{
    uint32_t name_index;
    struct coded name = {.n = 0}, value;
    int r = take_int(in, bits, &name_index);
    if (r > 0 && name_index == 0)
        r = take_string(in, &name);
    if (r > 0)
        r = take_string(in, &value);
    if (r <= 0)
        return r;
    char scratch[SCRATCH], *big = NULL;
    size_t need = room_needed(&name) + room_needed(&value);
    if (need > sizeof scratch)
        big = mem_alloc(need);
    r = literal_emit(d, kind, name_index, &name, &value, big ? big : scratch, fn, user);
    free(big);
    return r;
}

static int size_update(struct hpack_decoder *d, struct input *in)
{
    uint32_t n;
    int r = take_int(in, 5, &n);
    if (r <= 0)
        return r;
    if (d->in_block || n > d->allowed)
        return E_PROTOCOL;
    hpack_table_set_max(&d->t, n);
    d->update_needed = false;
    return 1;
}

static int indexed(struct hpack_decoder *d, struct input *in, hpack_field_fn fn, void *user)
{
    uint32_t index;
    struct hpack_field f;
    int r = take_int(in, 7, &index);
    if (r <= 0 || (r = field_at(d, index, &f)) <= 0)
        return r;
    fn(user, &f);
    return 1;
}

static int one(struct hpack_decoder *d, struct input *in, hpack_field_fn fn, void *user)
{
    uint8_t b = *in->p;
    if ((b & 0xe0) == 0x20)
        return size_update(d, in);
    if (d->update_needed)
        return E_PROTOCOL;
    int r;
    if (b & 0x80)
        r = indexed(d, in, fn, user);
    else if (b & 0x40)
        r = literal(d, in, LITERAL_INDEXED, 6, fn, user);
    else
        r = literal(d, in, b & 0x10 ? LITERAL_NEVER : LITERAL_PLAIN, 4, fn, user);
    if (r > 0)
        d->in_block = true;
    return r;
}

ssize_t hpack_decode(struct hpack_decoder *d, const uint8_t *p, size_t n, bool last,
                     hpack_field_fn fn, void *user)
{
    struct input in = {p, p + n};
    const uint8_t *done = p;
    int r = 1;
    while (r > 0 && in.p < in.end) {
        r = one(d, &in, fn, user);
        if (r > 0)
            done = in.p;
    }
    if (r < 0)
        return r;
    if (last) {
        d->in_block = false;
        if (done != in.end)
            return E_PROTOCOL;
    }
    return done - p;
}
