/* What peers try, by the numbers of the attack cases: the connection ends with GOAWAY
 * ENHANCE_YOUR_CALM (or the stream is refused), the counter that names the cause moves, memory
 * stays bounded; and what honest peers do in numbers is let through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "h2/h2_testlib.h"

static struct http_limits limits(void)
{
    struct http_limits l;
    http_limits_default(&l);
    return l;
}

struct attack {
    const char *name;
    const char *script;
    enum app app;
    size_t counter; /* offset in http_codec_stats */
    const char *details;
};
#define C(name) offsetof(struct http_codec_stats, name)

static const struct attack floods[] = {
    {"4: pings whose answers are not read", CLIENT_HELLO "2000*ping", APP_LOG,
     C(outbound_control_flood), "http2.outbound_control_frames_flood"},
    {"4: settings whose acks are not read", CLIENT_HELLO "2000*settings 4=100", APP_LOG,
     C(outbound_control_flood), "http2.outbound_control_frames_flood"},
    {"5: priority", CLIENT_HELLO "headers 1 post;300*priority 1 0", APP_LOG,
     C(inbound_priority_frames_flood), "http2.inbound_priority_frames_flood"},
    {"5: unknown frames", CLIENT_HELLO "headers 1 post;300*raw 0x77 0 0 00", APP_LOG,
     C(inbound_priority_frames_flood), "http2.inbound_priority_frames_flood"},
    {"5: empty DATA", CLIENT_HELLO "headers 1 post;2*data 1", APP_LOG,
     C(inbound_empty_frames_flood), "http2.inbound_empty_frames_flood"},
    {"5: padded empty DATA", CLIENT_HELLO "headers 1 post;2*data 1 pad=100", APP_LOG,
     C(inbound_empty_frames_flood), "http2.inbound_empty_frames_flood"},
    {"5: empty CONTINUATION", CLIENT_HELLO "headers 1 -eh post;2*cont 1", APP_LOG,
     C(inbound_empty_frames_flood), "http2.inbound_empty_frames_flood"},
    {"5: window updates", CLIENT_HELLO "headers 1 post;100*wu 1 1", APP_LOG,
     C(inbound_window_update_frames_flood), "http2.inbound_window_update_frames_flood"},
    {"5: window updates of the connection", CLIENT_HELLO "100*wu 0 1", APP_LOG,
     C(inbound_window_update_frames_flood), "http2.inbound_window_update_frames_flood"},
    {"3: continuations", CLIENT_HELLO "headers 1 -eh post;100*cont 1 a=b", APP_LOG,
     C(header_overflow), "http2.too_many_continuations"},
};

static void check_flood(struct side *t, const struct attack *a)
{
    side_flush(t);
    assert_int_equal(t->error, E_LIMIT);
    if (!strstr(t->log.p, "ENHANCE_YOUR_CALM"))
        fail_msg("%s: no GOAWAY in\n%s", a->name, t->log.p);
    assert_string_equal(t->c->error_text, a->details);
    uint64_t *n = (uint64_t *)(void *)((char *)&t->stats + a->counter);
    if (*n != 1)
        fail_msg("%s: counted %llu times", a->name, (unsigned long long)*n);
    assert_int_equal(t->c->state, HTTP_CODEC_FLUSH);
    assert_int_equal(t->c->streams, 0);
}

static void test_floods(void **state)
{
    for (size_t i = 0; i < sizeof floods / sizeof *floods; i++) {
        const struct attack *a = &floods[i];
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            struct side t;
            side_init(&t, true, NULL, a->app);
            side_feed_script(&t, a->script, bytewise ? 1 : SIZE_MAX);
            check_flood(&t, a);
            side_fini(&t);
        }
    }
}

/* Each script opens and kills one stream, in as many ways as there are. */
static const char *const resets[] = {
    /* 1 */
    "headers %u post;rst %u 8",
    "headers %u es get;rst %u 8",
    /* 2: the peer makes us send the reset */
    "headers %u post;wu %u 0",
    "headers %u post;wu %u 0x7fffffff",
    "headers %u es post;data %u 1",
    "headers %u es post;headers %u es a=b",
    "headers %u post;raw 2 0 %u 000000000000",
    "headers %u post;headers %u a=b",
    "headers %u post content-length=3;data %u 4",
    /* 6: invalid heads */
    "headers %u es get Bad=x",
    "headers %u es get connection=close",
    "headers %u es :method=GET",
    "headers %u es get big=9000",
};

static unsigned rounds(struct side *t, const char *script, unsigned from, unsigned most, bool read)
{
    for (unsigned i = from; i < from + most && !t->error; i++) {
        char text[128];
        unsigned id = 1 + 2 * i;
        snprintf(text, sizeof text, script, id, id);
        side_feed_script(t, text, SIZE_MAX);
        assert_true(t->c->streams <= 1);
        if (read)
            side_flush(t);
        if (t->error)
            return i - from + 1;
    }
    return most;
}

/* Cases 1, 2 and 6: with a peer that reads what we write, the ratio of resets ends it. */
static void test_premature_resets(void **state)
{
    for (size_t k = 0; k < sizeof resets / sizeof *resets; k++) {
        struct http_limits l = limits();
        l.max_premature_resets = 50;
        l.max_head_bytes = 8192;
        struct side t;
        side_init(&t, true, &l, APP_LOG);
        t.quiet = true;
        side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
        unsigned n = rounds(&t, resets[k], 0, 1000, true);
        if (n != 50)
            fail_msg("'%s': %u times", resets[k], n);
        assert_int_equal(t.stats.premature_resets, 1);
        assert_int_equal(t.error, E_LIMIT);
        side_fini(&t);
    }
}

/* Case 6: with a peer that does not read, the queue of resets ends it. */
static void test_resets_unread(void **state)
{
    struct http_limits l = limits();
    l.max_premature_resets = 1u << 30;
    for (size_t k = 2; k < sizeof resets / sizeof *resets - 1; k++) {
        struct side t;
        side_init(&t, true, &l, APP_LOG);
        t.quiet = true;
        side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
        unsigned n = rounds(&t, resets[k], 0, 2000, false);
        if (t.stats.outbound_control_flood != 1 || n > 1001)
            fail_msg("'%s': %u times", resets[k], n);
        assert_true(t.c->out.len < 1 << 20);
        side_fini(&t);
    }
}

/* Honest clients cancel, too: few among many, or late. */
static void test_honest_resets(void **state)
{
    struct http_limits l = limits();
    l.max_premature_resets = 50;
    struct side t;
    side_init(&t, true, &l, APP_ANSWER);
    t.quiet = true;
    side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
    unsigned id = 0;
    for (int i = 0; i < 1000; i++) {
        rounds(&t, "headers %u es get", id++, 1, true);
        rounds(&t, "headers %u es get", id++, 1, true);
        rounds(&t, "headers %u post;rst %u 8", id++, 1, true);
    }
    assert_int_equal(t.error, 0);
    /* Late ones: a second after they were opened. */
    for (int i = 0; i < 1000; i++) {
        char text[64];
        snprintf(text, sizeof text, "headers %u post", 1 + 2 * id);
        side_feed_script(&t, text, SIZE_MAX);
        t.now += 1000;
        snprintf(text, sizeof text, "rst %u 8", 1 + 2 * id++);
        side_feed_script(&t, text, SIZE_MAX);
        side_flush(&t);
    }
    assert_int_equal(t.error, 0);
    /* A long good life does not buy a burst. */
    for (int i = 0; i < 5000; i++)
        rounds(&t, "headers %u es get", id++, 1, true);
    unsigned n = rounds(&t, "headers %u post;rst %u 8", id, 10000, true);
    assert_int_equal(t.stats.premature_resets, 1);
    assert_true(n < 400);
    side_fini(&t);
}

/* Case 1: a burst in one read does not pile up: each dead stream is freed before the next frame. */
static void test_burst_memory(void **state)
{
    struct http_limits l = limits();
    struct side t;
    side_init(&t, true, &l, APP_LOG);
    struct buf b;
    buf_init(&b);
    script_bytes(&b, CLIENT_HELLO);
    for (unsigned i = 0; i < 400; i++) {
        char text[64];
        snprintf(text, sizeof text, "headers %u post;rst %u 8", 1 + 2 * i, 1 + 2 * i);
        script_bytes(&b, text);
    }
    side_feed(&t, &b, SIZE_MAX);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.c->streams, 0);
    /* on_close came between, not at the end. */
    const char *close = strstr(t.log.p, "1 close"), *next = strstr(t.log.p, "3 head");
    assert_true(close && next && close < next);
    side_fini(&t);
}

/* Cases 3, 7, 8: limits of a head, while it is decoded. */
static void test_head_limits(void **state)
{
    struct http_limits l = limits();
    l.max_head_bytes = 8192;
    static const struct {
        const char *script, *wants;
        size_t counter;
    } cases[] = {
        {CLIENT_HELLO "headers 1 es get big=9000", ":status: 431", C(header_overflow)},
        {CLIENT_HELLO "headers 1 post big=9000", "> RST 1 NO_ERROR", C(header_overflow)},
        /* 8: tiny fields */
        {CLIENT_HELLO "headers 1 es get;headers 3 es get a=b a=b a=b a=b", NULL, 0},
        /* 7: one entry of 4,000 bytes, then references to it: 20 bytes on the wire, 80 KB decoded
         */
        {CLIENT_HELLO
         "headers 1 es get hex=40016100;headers 3 es get "
         "hex="
         "bebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebeb"
         "ebebebebe"
         "bebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebeb"
         "ebebebebebebebe"
         "bebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebeb"
         "ebebebebebebebe",
         ":status: 431", C(too_many_headers)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct side t;
        side_init(&t, true, &l, APP_LOG);
        side_feed_script(&t, cases[i].script, SIZE_MAX);
        side_flush(&t);
        assert_int_equal(t.error, 0);
        if (cases[i].wants) {
            if (!strstr(t.log.p, cases[i].wants))
                fail_msg("case %zu: %s", i, t.log.p);
            assert_int_equal(*(uint64_t *)(void *)((char *)&t.stats + cases[i].counter), 1);
        }
        /* The decoder is in step: the connection goes on. */
        side_feed_script(&t, "headers 5 es get", 1);
        assert_non_null(strstr(t.log.p, "5 head GET"));
        side_fini(&t);
    }
}

/* Case 7: cookie crumbs that reference one large entry. */
static void test_cookie_amplification(void **state)
{
    struct http_limits l = limits();
    struct side t;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
    /* cookie: 3900 bytes into the table, then 90 times by index: 90 bytes that mean 350 KB. */
    uint8_t block[8192];
    size_t n = 0;
    struct buf b;
    buf_init(&b);
    script_bytes(&b, "headers 1 es get");
    buf_drain(&b, H2_FRAME_HEADER);
    n = buf_peek(&b, 0, block, sizeof block);
    buf_reset(&b);
    block[n++] = 0x40 | 32;
    block[n++] = 0x7f;
    block[n++] = 0x80 | ((3900 - 127) & 0x7f);
    block[n++] = (3900 - 127) >> 7;
    memset(block + n, 'c', 3900);
    n += 3900;
    memset(block + n, 0xbe, 90);
    n += 90;
    uint8_t header[H2_FRAME_HEADER];
    h2_put_header(header, (uint32_t)n, H2_HEADERS, H2_F_END_STREAM | H2_F_END_HEADERS, 1);
    buf_append(&b, header, sizeof header);
    buf_append(&b, block, n);
    side_feed(&t, &b, SIZE_MAX);
    side_flush(&t);
    assert_int_equal(t.stats.header_overflow, 1);
    assert_non_null(strstr(t.log.p, ":status: 431"));
    assert_null(strstr(t.log.p, "1 head"));
    side_fini(&t);
}

/* Case 3: a field that never ends, in pieces, is bounded before it is whole. */
static void test_endless_field(void **state)
{
    struct http_limits l = limits();
    l.max_head_bytes = 8192;
    l.max_continuations = 1000000;
    struct side t;
    side_init(&t, true, &l, APP_LOG);
    /* A literal whose value says it has 1 MB. */
    side_feed_script(&t, CLIENT_HELLO "headers 1 -eh hex=0001617f81ff3f", SIZE_MAX);
    for (int i = 0; i < 100000 && !t.error; i++) {
        side_feed_script(&t, "cont 1 hex=6161616161616161616161616161616161616161", SIZE_MAX);
        assert_true(h2_of(t.c)->block.rest.len < 40000);
    }
    assert_int_equal(t.error, E_LIMIT);
    assert_int_equal(t.stats.header_overflow, 1);
    side_fini(&t);
}

/* Case 9: windows closed for ever: what is queued is bounded by the watermarks. */
static void test_window_stall(void **state)
{
    struct http_limits l = limits();
    l.high_watermark = 64 * 1024;
    l.low_watermark = 32 * 1024;
    l.initial_stream_window = 65535;
    l.initial_conn_window = 65535;
    struct side t;
    side_init(&t, true, &l, APP_ECHO);
    side_feed_script(&t, "preface;settings 4=0;settings ack;headers 1 post;8*data 1 8000",
                     SIZE_MAX);
    side_flush(&t);
    assert_null(strstr(t.log.p, "> DATA"));
    assert_int_equal(h2_of(t.c)->send_window, 65535);
    /* 64,000 queued, below the mark: the window was given back, and the echo goes on to the mark.
     */
    side_feed_script(&t, "data 1 8000", SIZE_MAX);
    assert_non_null(strstr(t.log.p, "1 high"));
    side_flush(&t);
    char *mark = strdup(t.log.p);
    /* Paused now: no WINDOW_UPDATE for what still comes, so that the peer runs out of window. */
    side_feed_script(&t, "3*data 1 8000", SIZE_MAX);
    side_flush(&t);
    assert_string_equal(t.log.p, mark);
    free(mark);
    for (int i = 0; i < 20 && !t.error; i++)
        side_feed_script(&t, "data 1 8000", SIZE_MAX);
    assert_int_equal(t.error, E_PROTOCOL);
    assert_string_equal(t.c->error_text, "http2.flow_control");
    side_fini(&t);
}

/* Case 9: window given back once the stall is over. */
static void test_window_resume(void **state)
{
    struct http_limits l = limits();
    l.high_watermark = 16 * 1024;
    l.low_watermark = 8 * 1024;
    l.initial_stream_window = l.initial_conn_window = 65535;
    struct side t;
    side_init(&t, true, &l, APP_ECHO);
    side_feed_script(&t, "preface;settings 4=0;settings ack;headers 1 post;4*data 1 16000",
                     SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "1 high"));
    assert_null(strstr(t.log.p, "> WU"));
    side_feed_script(&t, "wu 1 60000", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "1 low"));
    assert_non_null(strstr(t.log.p, "> WU 1 "));
    assert_non_null(strstr(t.log.p, "> WU 0 "));
    /* Everything that was held came back: a whole window may be sent again. */
    side_feed_script(&t, "wu 0 100000;wu 1 100000;4*data 1 16000;data 1 es 100", SIZE_MAX);
    side_flush(&t);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.got, 8 * 16000 + 100);
    side_fini(&t);
}

/* Outbound frames: answers that nobody reads. */
static void test_outbound_flood(void **state)
{
    struct http_limits l = limits();
    l.max_outbound_frames = 1000;
    struct side t;
    side_init(&t, true, &l, APP_HEAD_ANSWER);
    t.quiet = true;
    side_feed_script(&t, CLIENT_HELLO "2000*headers $ es get", SIZE_MAX);
    assert_int_equal(t.error, E_LIMIT);
    assert_int_equal(t.stats.outbound_flood, 1);
    assert_string_equal(t.c->error_text, "http2.outbound_frames_flood");
    side_fini(&t);
}

/* A peer that reads slowly but reads: the count follows. */
static void test_slow_reader(void **state)
{
    struct http_limits l = limits();
    l.max_outbound_frames = 1000;
    struct side t;
    side_init(&t, true, &l, APP_HEAD_ANSWER);
    t.quiet = true;
    side_feed_script(&t, CLIENT_HELLO, SIZE_MAX);
    for (unsigned i = 0; i < 20000; i++) {
        rounds(&t, "headers %u es get;ping", i, 1, false);
        /* As much as came, but never all of it. */
        if (t.c->out.len > 4000) {
            size_t n = t.c->out.len - 2000;
            buf_drain(&t.c->out, n);
            t.c->ops->wrote(t.c, n);
        }
    }
    assert_int_equal(t.error, 0);
    side_fini(&t);
}

/* Case 4: many settings in one frame. */
static void test_large_settings(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, "preface", SIZE_MAX);
    uint8_t header[H2_FRAME_HEADER], entry[6] = {0, 4, 0, 0, 1, 0};
    struct buf b;
    buf_init(&b);
    h2_put_header(header, 6 * 2730, H2_SETTINGS, 0, 0);
    buf_append(&b, header, sizeof header);
    for (int i = 0; i < 2730; i++)
        buf_append(&b, entry, 6);
    side_feed(&t, &b, SIZE_MAX);
    assert_int_equal(t.error, E_LIMIT);
    assert_string_equal(t.c->error_text, "http2.too_many_settings");
    side_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_premature_resets),
        cmocka_unit_test(test_resets_unread),
        cmocka_unit_test(test_honest_resets),
        cmocka_unit_test(test_burst_memory),
        cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_cookie_amplification),
        cmocka_unit_test(test_endless_field),
        cmocka_unit_test(test_window_stall),
        cmocka_unit_test(test_window_resume),
        cmocka_unit_test(test_outbound_flood),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_large_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
