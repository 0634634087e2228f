/* HPACK (RFC 7541): header compression, ours, without an allocation per field.
 *
 * Dynamic table, the same for both directions:
 *
 *   ring of entries   [ oldest ... newest ]   seq = number of the insertion, 0 based
 *   bytes             [ evicted | name value name value ... | free ]
 *                                 ^ of the oldest             ^ bytes_end
 *
 * Entries leave in the order they came, so live bytes are one range; when the end is reached the
 * live range is copied into a fresh piece of at least twice its size. Nothing is allocated before
 * the first insertion: an idle connection whose peer never used the table holds only the struct.
 *
 * The encoder inserts a field when it sees it for the second time (a 32-slot filter of hashes):
 * values that never repeat, such as request ids, do not churn the table. Credentials and cookies
 * are never inserted: one connection may carry many users (RFC 7541 7.1). What is inserted is
 * Huffman-coded, what is sent once is sent as it is: cheaper for both ends.
 * Thread: worker (owning loop). */
#ifndef WEFT_H2_HPACK_H
#define WEFT_H2_HPACK_H

#include <sys/types.h>
#include "base/error.h"
#include "base/sv.h"
#include "http/headers.h"

/* Ids of pseudo fields, beyond those of enum http_name. */
enum hpack_pseudo {
    HPACK_AUTHORITY = 0x100,
    HPACK_METHOD,
    HPACK_PATH,
    HPACK_SCHEME,
    HPACK_STATUS,
    HPACK_PROTOCOL,
    HPACK_PSEUDO_UNKNOWN, /* any other name that begins with ':' */
};
/* The id of any name as it came from the wire. */
unsigned hpack_id(sv name);

/* ---- tables ---- */
struct hpack_entry {
    uint32_t off, name_bytes, value_bytes;
    uint32_t prev; /* encoder: seq of the next older entry in the same bucket */
    uint16_t id, flags;
};

struct hpack_table {
    struct hpack_entry *ring;
    char *bytes;
    uint32_t ring_cap; /* 0 or a power of two */
    uint32_t bytes_cap, bytes_end;
    uint32_t inserted; /* seq of the next insertion; wraps */
    uint32_t count;
    uint32_t size, max; /* as RFC 7541 4.1 counts: 32 an entry */
};

/* Static entries 1..61; index 0 is unused. */
struct hpack_static {
    sv name, value;
    uint16_t id;
};
extern const struct hpack_static hpack_static[62];

void hpack_table_fini(struct hpack_table *t);
/* Evicts down to n bytes and keeps that as the maximum. */
void hpack_table_set_max(struct hpack_table *t, uint32_t n);
/* Evicts as needed and adds; name and value may lie in the table itself. NULL when the field is
 * larger than the table, which is then empty (not an error). */
struct hpack_entry *hpack_table_add(struct hpack_table *t, sv name, sv value);
/* The i-th newest, i < count. */
static inline struct hpack_entry *hpack_table_at(const struct hpack_table *t, uint32_t i)
{
    return &t->ring[(t->inserted - 1 - i) & (t->ring_cap - 1)];
}
static inline sv hpack_entry_name(const struct hpack_table *t, const struct hpack_entry *e)
{
    return sv_make(t->bytes + e->off, e->name_bytes);
}
static inline sv hpack_entry_value(const struct hpack_table *t, const struct hpack_entry *e)
{
    return sv_make(t->bytes + e->off + e->name_bytes, e->value_bytes);
}

/* ---- Huffman code (RFC 7541 5.2, appendix B) ---- */
/* Most bytes that n coded bytes can become: 5 bits is the shortest code. */
#define HPACK_HUFF_MAX(n) ((n)*8 / 5 + 1)
/* out has HPACK_HUFF_MAX(n) bytes. The decoded length, or E_PROTOCOL (EOS inside, padding longer
 * than 7 bits or not all ones). */
ssize_t hpack_huff_decode(const uint8_t *p, size_t n, char *out);
size_t hpack_huff_bytes(sv v);                  /* coded length */
uint8_t *hpack_huff_encode(uint8_t *out, sv v); /* returns the end */

/* ---- decoder ---- */
#define HPACK_F_NEVER_INDEX  1  /* == HTTP_HF_NEVER_INDEX */
#define HPACK_F_BAD_NAME     2  /* not a lower-case token (nor ':' and one) */
#define HPACK_F_BAD_VALUE    4  /* controls inside, see http_value_valid */
#define HPACK_F_STATIC_NAME  8  /* the name lives for ever */
#define HPACK_F_STATIC_VALUE 16 /* so does the value */

/* One decoded field. Views are valid during the call only. */
struct hpack_field {
    sv name, value;
    uint16_t id; /* enum http_name or enum hpack_pseudo */
    uint16_t flags;
};
typedef void (*hpack_field_fn)(void *user, const struct hpack_field *f);

struct hpack_decoder {
    struct hpack_table t;
    uint32_t allowed;   /* the table size we announced, and that was acknowledged */
    bool in_block;      /* a field of the current block was seen: no more size updates */
    bool update_needed; /* the announced size shrank: the next block must say so (4.2) */
};

void hpack_decoder_init(struct hpack_decoder *d);
void hpack_decoder_fini(struct hpack_decoder *d);
/* Our SETTINGS_HEADER_TABLE_SIZE was acknowledged. */
void hpack_decoder_allow(struct hpack_decoder *d, uint32_t table_bytes);
/* Decodes the whole fields at the front of p, calling fn for each; `last`: the block ends with
 * these bytes. Returns how many bytes were used (the rest is an unfinished field: give it again
 * with what follows), or E_PROTOCOL (RFC 9113: a connection error COMPRESSION_ERROR). */
ssize_t hpack_decode(struct hpack_decoder *d, const uint8_t *p, size_t n, bool last,
                     hpack_field_fn fn, void *user);

/* ---- encoder ---- */
#define HPACK_BUCKETS 64
#define HPACK_SEEN    32

struct hpack_encoder {
    struct hpack_table t;
    uint32_t update_min;            /* smallest maximum since the last block */
    bool update;                    /* a size update is owed to the peer */
    uint32_t bucket[HPACK_BUCKETS]; /* seq + 1 of the newest entry, 0 none */
    uint32_t seen[HPACK_SEEN];
};

void hpack_encoder_init(struct hpack_encoder *e);
void hpack_encoder_fini(struct hpack_encoder *e);
/* The size the peer allows now, already cut to what we want to hold. */
void hpack_encoder_set_max(struct hpack_encoder *e, uint32_t table_bytes);
/* Bytes that a block may need at most: HPACK_BLOCK_MAX + the sum of HPACK_FIELD_MAX. */
#define HPACK_BLOCK_MAX                          12
#define HPACK_FIELD_MAX(name_bytes, value_bytes) (18 + (name_bytes) + (value_bytes))
/* Writes what a block begins with; returns the end. */
uint8_t *hpack_encode_begin(struct hpack_encoder *e, uint8_t *out);
/* Writes one field. id as hpack_id(name) gives it; flags: HPACK_F_NEVER_INDEX. */
uint8_t *hpack_encode(struct hpack_encoder *e, uint8_t *out, unsigned id, sv name, sv value,
                      unsigned flags);

#endif
