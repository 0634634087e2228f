/* Frames on the wire (RFC 9113 4.1 and 6): numbers, and writers that append whole frames.
 *
 *   +-----------------------------------------------+
 *   | length 24 | type 8 | flags 8 | R 1 | stream 31 |   9 bytes, then `length` bytes of payload
 *   +-----------------------------------------------+
 *
 * Thread: any; the buffer's owner. */
#ifndef WEFT_H2_H2_FRAME_H
#define WEFT_H2_H2_FRAME_H

#include "base/buf.h"

#define H2_FRAME_HEADER   9
#define H2_MAX_WINDOW     0x7fffffff
#define H2_MAX_STREAM     0x7fffffffu
#define H2_DEFAULT_WINDOW 65535
#define H2_DEFAULT_FRAME  16384
#define H2_LARGEST_FRAME  16777215
#define H2_PREFACE_BYTES  24

enum h2_type {
    H2_DATA = 0,
    H2_HEADERS = 1,
    H2_PRIORITY = 2,
    H2_RST_STREAM = 3,
    H2_SETTINGS = 4,
    H2_PUSH_PROMISE = 5,
    H2_PING = 6,
    H2_GOAWAY = 7,
    H2_WINDOW_UPDATE = 8,
    H2_CONTINUATION = 9,
};

enum h2_flag {
    H2_F_ACK = 0x1, /* SETTINGS, PING */
    H2_F_END_STREAM = 0x1,
    H2_F_END_HEADERS = 0x4,
    H2_F_PADDED = 0x8,
    H2_F_PRIORITY = 0x20,
};

/* RFC 9113 7 */
enum h2_error {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_FLOW_CONTROL_ERROR = 3,
    H2_SETTINGS_TIMEOUT = 4,
    H2_STREAM_CLOSED = 5,
    H2_FRAME_SIZE_ERROR = 6,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_COMPRESSION_ERROR = 9,
    H2_CONNECT_ERROR = 10,
    H2_ENHANCE_YOUR_CALM = 11,
    H2_INADEQUATE_SECURITY = 12,
    H2_HTTP_1_1_REQUIRED = 13,
};

enum h2_setting {
    H2_S_HEADER_TABLE_SIZE = 1,
    H2_S_ENABLE_PUSH = 2,
    H2_S_MAX_CONCURRENT_STREAMS = 3,
    H2_S_INITIAL_WINDOW_SIZE = 4,
    H2_S_MAX_FRAME_SIZE = 5,
    H2_S_MAX_HEADER_LIST_SIZE = 6,
    H2_S_ENABLE_CONNECT_PROTOCOL = 8, /* RFC 8441 */
};

static inline uint32_t h2_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void h2_put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}
/* Writes the 9 bytes at p. */
static inline void h2_put_header(uint8_t *p, uint32_t length, enum h2_type type, unsigned flags,
                                 uint32_t id)
{
    p[0] = (uint8_t)(length >> 16);
    p[1] = (uint8_t)(length >> 8);
    p[2] = (uint8_t)length;
    p[3] = (uint8_t)type;
    p[4] = (uint8_t)flags;
    h2_put32(p + 5, id);
}

struct h2_setting_value {
    uint16_t id;
    uint32_t value;
};

void h2_write_settings(struct buf *out, const struct h2_setting_value *v, unsigned n);
void h2_write_settings_ack(struct buf *out);
void h2_write_ping(struct buf *out, bool ack, const uint8_t opaque[8]);
void h2_write_rst(struct buf *out, uint32_t id, enum h2_error code);
void h2_write_window_update(struct buf *out, uint32_t id, uint32_t increment);
void h2_write_goaway(struct buf *out, uint32_t last_id, enum h2_error code, sv debug);

#endif
