/* The HTTP/2 server session on any bytes. The first byte chooses what the user does and how the
 * bytes are cut; the second the limits. After each feed what was written is taken and parsed
 * again (h2_testlib asserts that it is whole frames, and that each stream closed exactly once). */
#include "h2/h2_testlib.c"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    struct http_limits l;
    http_limits_default(&l);
    l.allow_connect = p[1] & 1;
    l.allow_underscores = !(p[1] & 2);
    if (p[1] & 4)
        l.max_head_bytes = 300;
    if (p[1] & 8) {
        l.high_watermark = 40;
        l.low_watermark = 20;
        l.initial_stream_window = 100;
    }
    if (p[1] & 16)
        l.max_concurrent_streams = 1;
    if (p[1] & 32)
        l.hpack_table_size = 64;
    struct side t;
    side_init(&t, true, &l, (enum app)(p[0] % 7));
    t.quiet = true;
    if (!(p[0] & 8))
        side_feed_script(&t, "preface;settings;settings ack", SIZE_MAX);
    struct buf b;
    buf_init(&b);
    buf_append(&b, p + 2, n - 2);
    size_t step = p[0] & 16 ? 1 + (size_t)(p[0] >> 5) : SIZE_MAX;
    if (p[1] & 64) {
        size_t half = b.len / 2;
        struct buf first;
        buf_init(&first);
        buf_move_n(&first, &b, half);
        side_feed(&t, &first, step);
        side_flush(&t);
        t.c->ops->drain(t.c);
    }
    side_feed(&t, &b, step);
    if (p[1] & 128)
        t.c->ops->feed_eof(t.c);
    side_flush(&t);
    side_fini(&t);
    return 0;
}
