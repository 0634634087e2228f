#include "h2/h2_frame.h"

void h2_write_settings(struct buf *out, const struct h2_setting_value *v, unsigned n)
{
    uint8_t p[H2_FRAME_HEADER + 6 * 16];
    h2_put_header(p, 6 * n, H2_SETTINGS, 0, 0);
    uint8_t *at = p + H2_FRAME_HEADER;
    for (unsigned i = 0; i < n && i < 16; i++, at += 6) {
        at[0] = (uint8_t)(v[i].id >> 8);
        at[1] = (uint8_t)v[i].id;
        h2_put32(at + 2, v[i].value);
    }
    buf_append(out, p, (size_t)(at - p));
}

void h2_write_settings_ack(struct buf *out)
{
    uint8_t p[H2_FRAME_HEADER];
    h2_put_header(p, 0, H2_SETTINGS, H2_F_ACK, 0);
    buf_append(out, p, sizeof p);
}

void h2_write_ping(struct buf *out, bool ack, const uint8_t opaque[8])
{
    uint8_t p[H2_FRAME_HEADER + 8];
    h2_put_header(p, 8, H2_PING, ack ? H2_F_ACK : 0, 0);
    memcpy(p + H2_FRAME_HEADER, opaque, 8);
    buf_append(out, p, sizeof p);
}

void h2_write_rst(struct buf *out, uint32_t id, enum h2_error code)
{
    uint8_t p[H2_FRAME_HEADER + 4];
    h2_put_header(p, 4, H2_RST_STREAM, 0, id);
    h2_put32(p + H2_FRAME_HEADER, code);
    buf_append(out, p, sizeof p);
}

void h2_write_window_update(struct buf *out, uint32_t id, uint32_t increment)
{
    uint8_t p[H2_FRAME_HEADER + 4];
    h2_put_header(p, 4, H2_WINDOW_UPDATE, 0, id);
    h2_put32(p + H2_FRAME_HEADER, increment);
    buf_append(out, p, sizeof p);
}

void h2_write_goaway(struct buf *out, uint32_t last_id, enum h2_error code, sv debug)
{
    uint8_t p[H2_FRAME_HEADER + 8];
    h2_put_header(p, (uint32_t)(8 + debug.n), H2_GOAWAY, 0, 0);
    h2_put32(p + H2_FRAME_HEADER, last_id);
    h2_put32(p + H2_FRAME_HEADER + 4, code);
    buf_append(out, p, sizeof p);
    buf_append_sv(out, debug);
}
