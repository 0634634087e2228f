/* HTTP/1.1 as the simulation's clients and backends speak it: a reader of messages that shares no
 * code with what is tested, and bodies whose every byte can be checked.
 *
 * The reader is strict where a proxy could be wrong: one Content-Length or chunked coding and not
 * both, no bytes between messages, every body whole. Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_TEXT_H
#define WEFT_TESTS_SIM_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/sv.h"

#define TEXT_HEAD_MAX 16384

enum text_state {
    TEXT_EMPTY, /* no byte of the message yet */
    TEXT_HEAD,
    TEXT_BODY,
    TEXT_DONE,
    TEXT_BAD, /* why says it */
};

struct text_reader {
    bool request;
    bool no_body; /* set by the owner before the answer to HEAD */
    enum text_state state;
    char head[TEXT_HEAD_MAX];
    size_t head_n;
    sv method, path; /* request; views into head */
    unsigned status; /* response */
    bool close;      /* the connection ends with this message */
    bool chunked, until_close;
    uint64_t left;   /* of the body or the chunk */
    unsigned step;   /* within chunked coding */
    uint64_t body_n; /* bytes of body so far */
    uint64_t seed;   /* of the pattern that the body must have; set by the owner */
    bool check;      /* compare with the pattern */
    char said[96];   /* the body's first bytes */
    const char *why;
};

void text_reader_init(struct text_reader *r, bool request);
/* Takes bytes up to the end of the head, then, from the next call on, up to the end of the message:
 * in between the owner sets seed and check. True when the head is complete (now or before). */
bool text_reader_feed(struct text_reader *r, struct buf *in);
/* The peer has closed: done, or bad because it is cut. */
void text_reader_eof(struct text_reader *r);
/* A field's value (the first), p == NULL when absent. */
sv text_field(const struct text_reader *r, const char *name);
/* A field's value as a number; dflt when absent or none. */
uint64_t text_number(const struct text_reader *r, const char *name, uint64_t dflt);

/* Byte `at` of the body with this seed. */
static inline char text_pattern(uint64_t seed, uint64_t at)
{
    return (char)('a' + (seed * 31 + at * 7 + at / 251) % 26);
}
/* Appends n bytes of the body, from byte `at`. */
void text_body(struct buf *out, uint64_t seed, uint64_t at, size_t n);
/* The same in chunked coding, cut at odd places; with the last chunk if `last`. */
void text_chunks(struct buf *out, uint64_t seed, uint64_t at, size_t n, bool last);

#endif
