#include "grpc/grpc_frame.h"

#define CRUMB 1024

void grpc_reader_init(struct grpc_reader *r, uint32_t max_message_bytes)
{
    buf_init(&r->in);
    r->max = max_message_bytes;
}

void grpc_reader_fini(struct grpc_reader *r)
{
    buf_reset(&r->in);
}

void grpc_reader_add(struct grpc_reader *r, struct buf *data)
{
    sv front = buf_front(data);
    /* Crumbs are gathered: each would pin the block it came in (attack case 10). */
    if (front.n == data->len && front.n < CRUMB) {
        buf_append_sv(&r->in, front);
        buf_reset(data);
    } else {
        buf_move(&r->in, data);
    }
}

int grpc_reader_next(struct grpc_reader *r, struct buf *msg)
{
    uint8_t h[GRPC_FRAME_HEADER];
    if (buf_peek(&r->in, 0, h, sizeof h) < sizeof h)
        return E_AGAIN;
    uint32_t n = (uint32_t)h[1] << 24 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 8 | h[4];
    if (h[0])
        return h[0] == 1 ? E_UNSUPPORTED : E_PROTOCOL;
    if (n > r->max)
        return E_LIMIT;
    if (r->in.len - sizeof h < n)
        return E_AGAIN;
    buf_drain(&r->in, sizeof h);
    if (n)
        buf_move_n(msg, &r->in, n);
    return 0;
}

bool grpc_reader_done(const struct grpc_reader *r)
{
    return r->in.len == 0;
}

static void put_header(uint8_t h[GRPC_FRAME_HEADER], size_t n)
{
    h[0] = 0;
    h[1] = (uint8_t)(n >> 24);
    h[2] = (uint8_t)(n >> 16);
    h[3] = (uint8_t)(n >> 8);
    h[4] = (uint8_t)n;
}

void grpc_frame_append(struct buf *out, sv msg)
{
    uint8_t h[GRPC_FRAME_HEADER];
    put_header(h, msg.n);
    buf_append(out, h, sizeof h);
    buf_append_sv(out, msg);
}

void grpc_frame_append_buf(struct buf *out, struct buf *msg)
{
    uint8_t h[GRPC_FRAME_HEADER];
    put_header(h, msg->len);
    buf_prepend(msg, h, sizeof h);
    buf_move(out, msg);
}

void grpc_counter_add(struct grpc_counter *c, const struct buf *b)
{
    for (size_t at = 0; at < b->len;) {
        if (c->left) {
            size_t k = b->len - at < c->left ? b->len - at : c->left;
            c->left -= (uint32_t)k;
            at += k;
            continue;
        }
        size_t k = buf_peek(b, at, c->head + c->head_n, sizeof c->head - c->head_n);
        c->head_n = (uint8_t)(c->head_n + k);
        at += k;
        if (c->head_n < sizeof c->head)
            return;
        c->head_n = 0;
        c->n++;
        c->left = (uint32_t)c->head[1] << 24 | (uint32_t)c->head[2] << 16 |
                  (uint32_t)c->head[3] << 8 | c->head[4];
    }
}
