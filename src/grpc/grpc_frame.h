/* Messages in a body: five bytes, then the message.
 *
 *   | compressed 8 | length 32, big endian | message ... |
 *
 * A reader takes body bytes as they come, cut anywhere, and gives whole messages back; it holds at
 * most what has arrived, never what a length claims, and refuses lengths past `max` as soon as the
 * five bytes are there. Thread: the owner of the buffers. */
#ifndef WEFT_GRPC_GRPC_FRAME_H
#define WEFT_GRPC_GRPC_FRAME_H

#include "base/buf.h"

#define GRPC_FRAME_HEADER 5

struct grpc_reader {
    struct buf in;
    uint32_t max; /* bytes of a message */
};

void grpc_reader_init(struct grpc_reader *r, uint32_t max_message_bytes);
void grpc_reader_fini(struct grpc_reader *r);
/* Takes all of `data`. */
void grpc_reader_add(struct grpc_reader *r, struct buf *data);
/* The next message, appended to msg (which may be of length 0). 0; E_AGAIN: not yet whole; E_LIMIT:
 * larger than max; E_UNSUPPORTED: compressed; E_PROTOCOL: flag other than 0 and 1. After an error
 * the reader is of no use. */
int grpc_reader_next(struct grpc_reader *r, struct buf *msg);
/* The body has ended: were all messages whole? */
bool grpc_reader_done(const struct grpc_reader *r);

/* Counts the messages of a body that passes: a message counts once its five bytes are there.
 * Zero-initialise. */
struct grpc_counter {
    uint64_t n;
    uint32_t left;  /* of the message */
    uint8_t head_n; /* bytes of the head so far */
    uint8_t head[GRPC_FRAME_HEADER];
};
void grpc_counter_add(struct grpc_counter *c, const struct buf *b);

/* Appends a message with its five bytes. */
void grpc_frame_append(struct buf *out, sv msg);
/* The same, moving the bytes. */
void grpc_frame_append_buf(struct buf *out, struct buf *msg);

#endif
