#include "h2/hpack.h"

#define STATIC_ENTRIES 61
#define DEFAULT_TABLE  4096
#define CHAIN          8 /* entries of a bucket that are looked at */

void hpack_encoder_init(struct hpack_encoder *e)
{
    memset(e, 0, sizeof *e);
    e->t.max = DEFAULT_TABLE;
    e->update_min = DEFAULT_TABLE;
}

void hpack_encoder_fini(struct hpack_encoder *e)
{
    hpack_table_fini(&e->t);
}

void hpack_encoder_set_max(struct hpack_encoder *e, uint32_t table_bytes)
{
    if (table_bytes == e->t.max && !e->update)
        return;
    if (!e->update || table_bytes < e->update_min)
        e->update_min = table_bytes;
    e->update = true;
    hpack_table_set_max(&e->t, table_bytes);
}

static uint8_t *put_int(uint8_t *out, uint8_t first, unsigned prefix_bits, size_t v)
{
    size_t most = (1u << prefix_bits) - 1;
    if (v < most) {
        *out++ = (uint8_t)(first | v);
        return out;
    }
    *out++ = (uint8_t)(first | most);
    for (v -= most; v >= 128; v >>= 7)
        *out++ = (uint8_t)(0x80 | (v & 0x7f));
    *out++ = (uint8_t)v;
    return out;
}

static uint8_t *put_string(uint8_t *out, sv v, bool huffman)
{
    if (huffman) {
        size_t n = hpack_huff_bytes(v);
        if (n < v.n)
            return hpack_huff_encode(put_int(out, 0x80, 7, n), v);
    }
    out = put_int(out, 0, 7, v.n);
    if (v.n)
        memcpy(out, v.p, v.n);
    return out + v.n;
}

uint8_t *hpack_encode_begin(struct hpack_encoder *e, uint8_t *out)
{
    if (!e->update)
        return out;
    /* RFC 7541 4.2: the smallest maximum in between, then the one in force. */
    if (e->update_min < e->t.max)
        out = put_int(out, 0x20, 5, e->update_min);
    out = put_int(out, 0x20, 5, e->t.max);
    e->update = false;
    return out;
}

/* Index in the static table of the name (*whole false) or of name and value (*whole true). */
static unsigned static_find(unsigned id, sv name, sv value, bool *whole)
{
    static const uint8_t by_id[HTTP_H_COUNT] = {
        [HTTP_H_ACCEPT_ENCODING] = 16,
        [HTTP_H_ACCEPT] = 19,
        [HTTP_H_AUTHORIZATION] = 23,
        [HTTP_H_CONTENT_LENGTH] = 28,
        [HTTP_H_CONTENT_TYPE] = 31,
        [HTTP_H_COOKIE] = 32,
        [HTTP_H_DATE] = 33,
        [HTTP_H_EXPECT] = 35,
        [HTTP_H_HOST] = 38,
        [HTTP_H_LOCATION] = 46,
        [HTTP_H_REFERER] = 51,
        [HTTP_H_SERVER] = 54,
        [HTTP_H_SET_COOKIE] = 55,
        [HTTP_H_TRANSFER_ENCODING] = 57,
        [HTTP_H_USER_AGENT] = 58,
        [HTTP_H_VIA] = 60,
    };
    static const struct {
        uint8_t from, to;
    } pseudo[] = {{1, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 14}, {0, 0}, {0, 0}};
    *whole = false;
    if (id >= HPACK_AUTHORITY) {
        unsigned from = pseudo[id - HPACK_AUTHORITY].from;
        for (unsigned i = from; i && i <= pseudo[id - HPACK_AUTHORITY].to; i++)
            if (hpack_static[i].value.n && sv_eq(hpack_static[i].value, value)) {
                *whole = true;
                return i;
            }
        return from;
    }
    if (id != HTTP_H_OTHER) {
        *whole = id == HTTP_H_ACCEPT_ENCODING && sv_eq(hpack_static[16].value, value);
        return by_id[id];
    }
    return 0;
}

/* Names of the static table that are not interned, found only when a field is inserted. */
static unsigned static_name(sv name)
{
    for (unsigned i = 15; i <= STATIC_ENTRIES; i++)
        if (hpack_static[i].id == HTTP_H_OTHER && sv_eq(hpack_static[i].name, name))
            return i;
    return 0;
}

static bool never_inserted(unsigned id, sv name)
{
    switch (id) {
    case HTTP_H_AUTHORIZATION:
    case HTTP_H_COOKIE:
    case HTTP_H_SET_COOKIE:
    case HTTP_H_CONTENT_LENGTH:
        return true;
    case HTTP_H_OTHER:
        return sv_eq(name, SV("proxy-authorization"));
    default:
        return false;
    }
}

static uint32_t name_hash(unsigned id, sv name)
{
    return id != HTTP_H_OTHER && id != HPACK_PSEUDO_UNKNOWN ? id * 0x9e3779b1u
                                                            : (uint32_t)sv_hash(name);
}

static inline bool seq_live(const struct hpack_table *t, uint32_t seq)
{
    return t->inserted - seq <= t->count && t->inserted != seq;
}

/* Index of the entry with name and value (*whole), else of the newest with the name, else 0. */
static unsigned dynamic_find(const struct hpack_encoder *e, uint32_t hash, unsigned id, sv name,
                             sv value, bool *whole)
{
    const struct hpack_table *t = &e->t;
    uint32_t seq = e->bucket[hash % HPACK_BUCKETS] - 1;
    unsigned by_name = 0;
    for (int i = 0; i < CHAIN && seq_live(t, seq); i++) {
        const struct hpack_entry *x = &t->ring[seq & (t->ring_cap - 1)];
        if (x->id == id && ((id != HTTP_H_OTHER && id != HPACK_PSEUDO_UNKNOWN) ||
                            sv_eq(hpack_entry_name(t, x), name))) {
            unsigned index = STATIC_ENTRIES + t->inserted - seq;
            if (sv_eq(hpack_entry_value(t, x), value)) {
                *whole = true;
                return index;
            }
            if (!by_name)
                by_name = index;
        }
        seq = x->prev;
    }
    return by_name;
}

static void insert(struct hpack_encoder *e, uint32_t hash, unsigned id, sv name, sv value)
{
    struct hpack_entry *x = hpack_table_add(&e->t, name, value);
    if (!x)
        return;
    uint32_t *bucket = &e->bucket[hash % HPACK_BUCKETS];
    x->id = (uint16_t)id;
    x->prev = *bucket - 1;
    *bucket = e->t.inserted;
}

/* True when the field went by before: then it is worth its place in the table. */
static bool seen_before(struct hpack_encoder *e, uint32_t hash, sv value)
{
    uint32_t h = (uint32_t)sv_hash(value) ^ hash;
    uint32_t *slot = &e->seen[h % HPACK_SEEN];
    if (*slot == h)
        return true;
    *slot = h;
    return false;
}

static uint8_t *put_literal(uint8_t *out, uint8_t first, unsigned prefix_bits, unsigned name_index,
                            sv name, sv value, bool huffman)
{
    out = put_int(out, first, prefix_bits, name_index);
    if (!name_index)
        out = put_string(out, name, huffman);
    return put_string(out, value, huffman);
}

uint8_t *hpack_encode(struct hpack_encoder *e, uint8_t *out, unsigned id, sv name, sv value,
                      unsigned flags)
{
    bool whole;
    unsigned index = static_find(id, name, value, &whole);
    if (whole)
        return put_int(out, 0x80, 7, index);
    if (flags & HPACK_F_NEVER_INDEX)
        return put_literal(out, 0x10, 4, index, name, value, false);
    if (never_inserted(id, name) || name.n + value.n + 32 > e->t.max / 2)
        return put_literal(out, 0, 4, index, name, value, false);
    uint32_t hash = name_hash(id, name);
    unsigned found = dynamic_find(e, hash, id, name, value, &whole);
    if (whole)
        return put_int(out, 0x80, 7, found);
    if (!index)
        index = found;
    if (!seen_before(e, hash, value))
        return put_literal(out, 0, 4, index, name, value, false);
    if (!index && id == HTTP_H_OTHER)
        index = static_name(name);
    out = put_literal(out, 0x40, 6, index, name, value, true);
    insert(e, hash, id, name, value);
    return out;
}
