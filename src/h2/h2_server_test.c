/* The server beside its frames: limits, windows, counters, pings, drain. See h2_testlib.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "h2/h2_testlib.h"

static void test_underscores(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    struct side t;
    l.allow_underscores = false;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO "headers 1 es get hex=0003615f6200 c=d", SIZE_MAX);
    assert_null(strstr(t.log.p, "a_b"));
    assert_non_null(strstr(t.log.p, "c: d"));
    assert_int_equal(t.stats.dropped_headers_with_underscores, 1);
    side_fini(&t);
    l.reject_underscores = true;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO "headers 1 es get hex=0003615f6200 c=d", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> RST 1 PROTOCOL_ERROR"));
    assert_int_equal(t.stats.requests_rejected_with_underscores_in_headers, 1);
    side_fini(&t);
}

static void test_uri_limit(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.max_uri_bytes = 10;
    struct side t;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t,
                     CLIENT_HELLO "headers 1 es :method=GET :scheme=http :path=/234567890;"
                                  "headers 3 es :method=GET :scheme=http :path=/2345678901",
                     SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "1 head GET"));
    assert_null(strstr(t.log.p, "3 head"));
    assert_non_null(strstr(t.log.p, "> HEADERS 3\n    :status: 431\n    content-length: 31\n"));
    side_fini(&t);
}

/* A stream has its own window, whatever the connection's. */
static void test_stream_window(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.initial_stream_window = 1000;
    for (int acked = 0; acked < 2; acked++) {
        struct side t;
        side_init(&t, true, &l, APP_LOG);
        side_feed_script(&t, acked ? CLIENT_HELLO : "preface;settings", SIZE_MAX);
        side_feed_script(&t, "headers 1 post", SIZE_MAX);
        struct http_stream *x = container_of(list_first(&t.streams), struct side_stream, link)->s;
        x->ops->pause(x, true);
        /* Before our SETTINGS are acknowledged 65,535 may come. */
        side_feed_script(&t, acked ? "data 1 600;data 1 400" : "4*data 1 16000;data 1 1535",
                         SIZE_MAX);
        side_flush(&t);
        assert_null(strstr(t.log.p, "> RST"));
        side_feed_script(&t, "data 1 1", SIZE_MAX);
        side_flush(&t);
        assert_non_null(strstr(t.log.p, "> RST 1 FLOW_CONTROL_ERROR"));
        assert_int_equal(t.error, 0);
        side_fini(&t);
    }
}

/* What was never to be indexed stays so from hop to hop (RFC 7541 6.2.3). */
static void test_never_indexed(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO "headers 1 post hex=10017803616263 y=z", SIZE_MAX);
    assert_non_null(strstr(t.log.p, "  x: abc !\n  y: z\n"));
    side_fini(&t);
}

static void test_byte_counts(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO "headers 1 post", SIZE_MAX);
    struct http_stream *s = container_of(list_first(&t.streams), struct side_stream, link)->s;
    assert_int_equal(s->head_plain_in, 7 + 4 + 7 + 4 + 5 + 1 + 10 + 6);
    uint64_t head = s->wire_bytes_in;
    assert_int_equal(s->head_bytes_in, head);
    side_feed_script(&t, "data 1 pad=9 7;data 1 8", SIZE_MAX);
    assert_int_equal(s->body_bytes_in, 15);
    assert_int_equal(s->wire_bytes_in - head, 2 * H2_FRAME_HEADER + 1 + 9 + 15);
    side_fini(&t);
}

static void test_counters(void **state)
{
    static const struct {
        const char *script;
        size_t offset;
    } cases[] = {
#define C(name) offsetof(struct http_codec_stats, name)
        {CLIENT_HELLO "headers 1 post;rst 1 8", C(rx_reset)},
        {CLIENT_HELLO "headers 1 post;wu 1 0", C(tx_reset)},
        {CLIENT_HELLO "headers 1 es get A=b", C(invalid_header)},
        {CLIENT_HELLO "headers 1 post transfer-encoding=x", C(smuggling_rejected)},
        {CLIENT_HELLO "headers 1 post content-length=x", C(smuggling_rejected)},
        {CLIENT_HELLO "headers 1 es get connection=x", C(rx_messaging_error)},
        {CLIENT_HELLO "headers 1 post;headers 1 es a=b", C(trailers)},
        {CLIENT_HELLO "raw 6 0 0 00", C(framing_error)},
        {CLIENT_HELLO "raw 6 0 0 00", C(goaway_sent)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct side t;
        side_init(&t, true, NULL, APP_LOG);
        side_feed_script(&t, cases[i].script, SIZE_MAX);
        uint64_t *n = (uint64_t *)(void *)((char *)&t.stats + cases[i].offset);
        if (*n != 1)
            fail_msg("case %zu: counted %llu", i, (unsigned long long)*n);
        side_fini(&t);
    }
}

static void test_drain(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_ANSWER);
    side_feed_script(&t, CLIENT_HELLO "headers 1 post", SIZE_MAX);
    t.c->ops->drain(t.c);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> GOAWAY 2147483647 NO_ERROR\n> PING"));
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    /* On its way before the client saw the notice: still served. */
    side_feed_script(&t, "headers 3 es get;ping ack weftdrai;headers 5 es get", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> GOAWAY 3 NO_ERROR"));
    assert_non_null(strstr(t.log.p, "> DATA 3 2 end"));
    assert_null(strstr(t.log.p, "5 head"));
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    side_feed_script(&t, "data 1 es 3", SIZE_MAX);
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    assert_int_equal(t.c->streams, 0);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> DATA 1 2 end"));
    assert_int_equal(t.error, 0);
    side_fini(&t);

    /* Idle: the second call ends it at once. */
    side_init(&t, true, NULL, APP_ANSWER);
    side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
    t.c->ops->drain(t.c);
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    t.c->ops->drain(t.c);
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    side_fini(&t);
}

static bool pinged, ping_acked;
static void on_ping(void *user, bool acked)
{
    pinged = true;
    ping_acked = acked;
}

static void test_ping(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
    pinged = false;
    assert_int_equal(h2_ping(t.c, on_ping, NULL), 0);
    assert_int_equal(h2_ping(t.c, on_ping, NULL), E_BUSY);
    side_feed_script(&t, "ping ack 12345678", SIZE_MAX);
    assert_false(pinged);
    side_feed_script(&t, "ping ack weftping", SIZE_MAX);
    assert_true(pinged && ping_acked);
    pinged = false;
    assert_int_equal(h2_ping(t.c, on_ping, NULL), 0);
    t.c->ops->feed_eof(t.c);
    assert_true(pinged && !ping_acked);
    assert_int_equal(h2_ping(t.c, on_ping, NULL), E_CLOSED);
    side_fini(&t);
}

static void test_transport_dies(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO "headers 1 post;headers 3 es get;headers 5 -eh get",
                     SIZE_MAX);
    (t.c->ops->fail)(t.c, HTTP_RESET_CONN_FAILURE, "tls");
    assert_non_null(strstr(t.log.p, "1 reset connection_failure tls\n"));
    assert_non_null(strstr(t.log.p, "3 reset connection_failure tls\n"));
    assert_null(strstr(t.log.p, "5 "));
    assert_int_equal(t.c->state, HTTP_CODEC_DEAD);
    assert_int_equal(t.c->streams, 0);
    side_fini(&t);
}

/* Over the limit of streams: refused, and again taken when one has ended. */
static void test_concurrency(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.max_concurrent_streams = 2;
    struct side t;
    side_init(&t, true, &l, APP_ANSWER);
    side_feed_script(&t,
                     CLIENT_HELLO
                     "headers 1 post;headers 3 post;headers 5 post;data 5 3;headers 5 es a=b;"
                     "data 1 es 1;headers 7 es get",
                     SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> RST 5 REFUSED_STREAM"));
    assert_null(strstr(t.log.p, "5 head"));
    assert_non_null(strstr(t.log.p, "> DATA 7 2 end"));
    assert_int_equal(t.stats.stream_refused_errors, 1);
    assert_int_equal(t.error, 0);
    side_fini(&t);
}

static void test_preface_match(void **state)
{
    assert_int_equal(h2_preface_match(SV("")), 0);
    assert_int_equal(h2_preface_match(SV("PRI")), 0);
    assert_int_equal(h2_preface_match(SV("PUT")), -1);
    assert_int_equal(h2_preface_match(SV("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")), 1);
    assert_int_equal(h2_preface_match(SV("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore")), 1);
    assert_int_equal(h2_preface_match(SV("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_underscores),    cmocka_unit_test(test_uri_limit),
        cmocka_unit_test(test_stream_window),  cmocka_unit_test(test_never_indexed),
        cmocka_unit_test(test_byte_counts),    cmocka_unit_test(test_counters),
        cmocka_unit_test(test_drain),          cmocka_unit_test(test_ping),
        cmocka_unit_test(test_transport_dies), cmocka_unit_test(test_concurrency),
        cmocka_unit_test(test_preface_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
