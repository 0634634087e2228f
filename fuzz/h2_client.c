/* The HTTP/2 client session on any bytes from a server, with some requests under way. The first
 * byte chooses the requests and how the bytes are cut, the second the limits. */
#include "h2/h2_testlib.c"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    struct http_limits l;
    http_limits_default(&l);
    if (p[1] & 4)
        l.max_head_bytes = 300;
    if (p[1] & 8)
        l.initial_stream_window = 100;
    if (p[1] & 32)
        l.hpack_table_size = 64;
    struct side t;
    side_init(&t, false, &l, p[1] & 1 ? APP_RESET : p[1] & 2 ? APP_RESET_DATA : APP_LOG);
    t.quiet = true;
    static const char *const methods[] = {"GET", "HEAD", "POST", "CONNECT"};
    for (unsigned i = 0; i < 1u + (p[0] & 3); i++)
        side_request(&t, methods[i], "/", i == 2 ? 300000 : i == 3 ? -1 : 0);
    side_flush(&t);
    if (!(p[0] & 8))
        side_feed_script(&t, "settings;settings ack", SIZE_MAX);
    struct buf b;
    buf_init(&b);
    buf_append(&b, p + 2, n - 2);
    size_t step = p[0] & 16 ? 1 + (size_t)(p[0] >> 5) : SIZE_MAX;
    side_feed(&t, &b, step);
    if (t.c->ops->can_open(t.c))
        side_request(&t, "GET", "/again", 0);
    if (p[1] & 128)
        t.c->ops->feed_eof(t.c);
    side_flush(&t);
    side_fini(&t);
    return 0;
}
