/* The client's reaction to what servers send: one or more requests are opened, then a script of the
 * server's frames is fed whole and byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "h2/h2_testlib.h"

#define HELLO "settings;settings ack;"

struct reaction {
    const char *name;
    const char *method; /* of the one request; a POST is left open */
    const char *script;
    const char *wants[4];
    const char *never;
};

static const struct reaction table[] = {
    {"answer",
     "GET",
     HELLO "headers 1 :status=200 a=b;data 1 es 5",
     {"1 head 200", "  a: b", "1 body 5 end", "1 close"},
     "reset"},
    {"answer without body",
     "GET",
     HELLO "headers 1 es :status=404",
     {"1 head 404 end", "1 close"},
     NULL},
    {"trailers",
     "GET",
     HELLO "headers 1 :status=200;data 1 5;headers 1 es grpc-status=0",
     {"1 trailers", "  grpc-status: 0", "1 body 5 end", "1 close"},
     NULL},
    {"interim",
     "GET",
     HELLO "headers 1 :status=100;headers 1 :status=103;headers 1 es :status=200",
     {"1 info 100", "1 info 103", "1 head 200 end"},
     NULL},
    {"HEAD",
     "HEAD",
     HELLO "headers 1 es :status=200 content-length=55",
     {"1 head 200 end", "  content-length: 55", "1 close"},
     "reset"},
    {"304 with a length",
     "GET",
     HELLO "headers 1 es :status=304 content-length=55",
     {"1 head 304 end"},
     "reset"},
    {"end before the request's end",
     "POST",
     HELLO "headers 1 es :status=200;rst 1 0",
     {"1 head 200 end", "1 reset no_error", "1 close"},
     NULL},
    {"reset", "GET", HELLO "rst 1 2", {"1 reset remote_reset http2.remote_reset", "1 close"}, NULL},
    {"cancelled",
     "GET",
     HELLO "rst 1 8",
     {"1 reset remote_cancel http2.remote_reset", "1 close"},
     NULL},
    {"refused",
     "GET",
     HELLO "rst 1 7",
     {"1 reset remote_refused http2.remote_refuse", "1 close"},
     NULL},
    {"goaway above",
     "GET",
     HELLO "goaway 0 0",
     {"on_goaway", "1 reset remote_refused", "1 close"},
     NULL},
    {"goaway below",
     "GET",
     HELLO "goaway 1 0;headers 1 es :status=200",
     {"on_goaway", "1 head 200 end", "1 close"},
     "reset"},
    {"goaway twice",
     "GET",
     HELLO "goaway 0x7fffffff 0;goaway 1 0;headers 1 es :status=200",
     {"on_goaway\n1 head 200 end"},
     "reset"},
    {"goaway, then no streams at all",
     "GET",
     HELLO "goaway 1 0;settings 3=0;headers 1 es :status=200",
     {"1 head 200 end"},
     "reset"}, /* 42 */

    {"goaway that grows",
     "GET",
     HELLO "goaway 1 0;goaway 3 0",
     {"1 reset protocol_error", "> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"settings must be first", "GET", "ping", {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"push promise",
     "GET",
     HELLO "raw 5 4 1 0000000282",
     {"1 reset protocol_error", "> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"enable push", "GET", "settings 2=1", {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"headers on an idle stream",
     "GET",
     HELLO "headers 3 es :status=200",
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"headers on an even stream",
     "GET",
     HELLO "headers 2 es :status=200",
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"headers on a closed stream",
     "GET",
     HELLO "headers 1 es :status=200;headers 1 es :status=200",
     {"1 close", "> GOAWAY 0 STREAM_CLOSED"},
     NULL},
    {"data on a closed stream",
     "GET",
     HELLO "headers 1 es :status=200;data 1 3",
     {"1 close", "> RST 1 STREAM_CLOSED"},
     "GOAWAY"},
    {"data before the head",
     "GET",
     HELLO "data 1 3",
     {"1 reset protocol_error", "> RST 1 PROTOCOL_ERROR"},
     "GOAWAY"},
    {"no status",
     "GET",
     HELLO "headers 1 es a=b",
     {"1 reset protocol_error http2.violation.of.messaging.rule", "> RST 1 PROTOCOL_ERROR"},
     "1 head"},
    {"status 99", "GET", HELLO "headers 1 es :status=99", {"1 reset protocol_error"}, "1 head"},
    {"status 600", "GET", HELLO "headers 1 es :status=600", {"1 reset protocol_error"}, "1 head"},
    {"status 2x0", "GET", HELLO "headers 1 es :status=2x0", {"1 reset protocol_error"}, "1 head"},
    {"status twice",
     "GET",
     HELLO "headers 1 es :status=200 :status=200",
     {"1 reset protocol_error"},
     "1 head"},
    {"101", "GET", HELLO "headers 1 :status=101", {"1 reset protocol_error"}, "info"},
    {"interim that ends",
     "GET",
     HELLO "headers 1 es :status=100",
     {"1 reset protocol_error"},
     "info"},
    {"path in a response",
     "GET",
     HELLO "headers 1 es :status=200 :path=/",
     {"1 reset protocol_error"},
     "1 head"},
    {"connection",
     "GET",
     HELLO "headers 1 es :status=200 connection=close",
     {"1 reset protocol_error"},
     "1 head"},
    {"204 with a body",
     "GET",
     HELLO "headers 1 :status=204;data 1 es 3",
     {"1 head 204", "1 reset protocol_error"},
     "body"}, /* 42 */
    {"HEAD with a body",
     "HEAD",
     HELLO "headers 1 :status=200;data 1 es 3",
     {"1 reset protocol_error"},
     "body"},
    {"20: short body",
     "GET",
     HELLO "headers 1 :status=200 content-length=5;data 1 es 3",
     {"1 reset protocol_error http2.content_length_mismatch"},
     "body"},
    {"20: long body",
     "GET",
     HELLO "headers 1 :status=200 content-length=5;data 1 es 8",
     {"1 reset protocol_error http2.content_length_mismatch"},
     "body"},
    {"42: interim flood",
     "GET",
     HELLO "200*headers 1 :status=103",
     {"1 reset overflow http2.too_many_1xx", "> RST 1 ENHANCE_YOUR_CALM"},
     NULL},
    {"42: header bomb",
     "GET",
     HELLO "headers 1 -eh :status=200 big=16000;5*cont 1 big=16000;cont 1 eh a=b",
     {"1 reset overflow http2.header_overflow", "> RST 1 CANCEL"},
     "GOAWAY"},
    {"window overflow",
     "POST",
     HELLO "wu 1 0x7fffffff",
     {"1 reset protocol_error", "> RST 1 FLOW_CONTROL_ERROR"},
     "GOAWAY"},
};

static char *run(const struct reaction *r, size_t step)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    assert_non_null(side_request(&t, r->method, "/", strcmp(r->method, "POST") ? 0 : -1));
    side_feed_script(&t, r->script, step);
    side_flush(&t);
    strbuf_addf(&t.log, "error %d\n", t.error);
    char *log = strdup(t.log.p);
    side_fini(&t);
    return log;
}

static void test_reactions(void **state)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct reaction *r = &table[i];
        char *whole = run(r, SIZE_MAX);
        const char *at = whole;
        for (int k = 0; k < 4 && r->wants[k]; k++) {
            at = strstr(at, r->wants[k]);
            if (!at)
                fail_msg("%s: '%s' is missing in\n%s", r->name, r->wants[k], whole);
        }
        if (r->never && strstr(whole, r->never))
            fail_msg("%s: '%s' must not be in\n%s", r->name, r->never, whole);
        for (size_t step = 1; step < 20; step += 2) {
            char *cut = run(r, step);
            if (strcmp(whole, cut) != 0)
                fail_msg("%s: in steps of %zu\n%s\ninstead of\n%s", r->name, step, cut, whole);
            free(cut);
        }
        free(whole);
    }
}

static void test_request_on_the_wire(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    struct side_stream *x = side_request(&t, "POST", "/p?q", 5);
    assert_int_equal(x->s->id, 1);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> SETTINGS\n> WU 0 "));
    assert_non_null(strstr(t.log.p,
                           "> HEADERS 1\n    :method: POST\n    :scheme: http\n    :path: /p?q\n"
                           "    :authority: a.test\n    user-agent: test/1\n> DATA 1 5 end"));
    assert_int_equal(x->s->body_bytes_out, 5);
    assert_in_range(x->s->wire_bytes_out, 5 + 2 * H2_FRAME_HEADER + 20,
                    5 + 2 * H2_FRAME_HEADER + 60);
    assert_in_range(x->s->head_plain_out, 60, 120);
    assert_int_equal(x->s->head_bytes_out, x->s->wire_bytes_out - 5 - H2_FRAME_HEADER);
    side_fini(&t);
}

/* Ids follow the order of heads, not of open(). */
static void test_ids(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    struct http_stream_events ev = {0};
    struct http_stream *first = t.c->ops->open(t.c, &ev, NULL);
    struct side_stream *x = side_request(&t, "GET", "/", 0);
    assert_int_equal(x->s->id, 1);
    assert_int_equal(first->id, 0);
    assert_int_equal(t.c->streams, 2);
    /* Never sent: nothing is to be reset on the wire. */
    first->ops->reset(first, HTTP_RESET_LOCAL);
    side_flush(&t);
    assert_null(strstr(t.log.p, "> RST"));
    assert_int_equal(t.c->streams, 1);
    side_fini(&t);
}

/* No op closes a stream under its user: on_close waits until the glue calls, and the memory of the
 * stream can be taken over there. */
static void test_no_close_inside_ops(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_feed_script(&t, HELLO, SIZE_MAX);
    struct side_stream *x = side_request(&t, "GET", "/", 0);
    struct http_stream *s = x->s;
    unsigned outputs = t.outputs;
    s->ops->reset(s, HTTP_RESET_LOCAL);
    assert_int_equal(x->closes, 0);
    assert_int_equal(s->id, 1);
    assert_int_equal(t.c->streams, 0);
    assert_true(t.outputs > outputs);
    t.c->ops->wrote(t.c, 0);
    assert_int_equal(x->closes, 1);
    /* Never sent: nothing is written, but the glue is asked to come back. */
    x = side_request(&t, "GET", "/", 0);
    side_flush(&t);
    outputs = t.outputs;
    struct http_stream_events ev = {0};
    struct http_stream *unsent = t.c->ops->open(t.c, &ev, NULL);
    unsent->ops->reset(unsent, HTTP_RESET_LOCAL);
    assert_true(t.outputs > outputs);
    t.c->ops->wrote(t.c, 0);
    assert_true(list_empty(&h2_of(t.c)->dead));
    side_fini(&t);
}

static void test_limits_of_the_peer(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_feed_script(&t, "settings 3=2;settings ack", SIZE_MAX);
    assert_int_equal(t.c->max_streams, 2);
    assert_non_null(side_request(&t, "GET", "/", 0));
    assert_non_null(side_request(&t, "GET", "/", 0));
    assert_false(t.c->ops->can_open(t.c));
    assert_null(side_request(&t, "GET", "/", 0));
    side_feed_script(&t, "headers 1 es :status=200", SIZE_MAX);
    assert_true(t.c->ops->can_open(t.c));
    side_feed_script(&t, "settings 3=0", SIZE_MAX);
    assert_false(t.c->ops->can_open(t.c));
    assert_int_equal(t.max_streams, 0);
    side_feed_script(&t, "settings 3=100", SIZE_MAX);
    assert_int_equal(t.max_streams, 1);
    assert_true(t.c->ops->can_open(t.c));
    side_feed_script(&t, "headers 3 es :status=200", SIZE_MAX);
    assert_int_equal(t.idles, 1);
    side_feed_script(&t, "goaway 3 0", SIZE_MAX);
    assert_false(t.c->ops->can_open(t.c));
    assert_int_equal(t.goaways, 1);
    /* Nothing is left to wait for. */
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    side_fini(&t);
}

static void test_stream_ids_run_out(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_feed_script(&t, HELLO, SIZE_MAX);
    h2_of(t.c)->next_id = H2_MAX_STREAM - 2;
    assert_non_null(side_request(&t, "GET", "/", 0));
    assert_int_equal(t.goaways, 0);
    assert_non_null(side_request(&t, "GET", "/", 0));
    assert_int_equal(t.goaways, 1);
    assert_false(t.c->ops->can_open(t.c));
    side_feed_script(&t, "headers 0x7ffffffd es :status=200;headers 0x7fffffff es :status=200",
                     SIZE_MAX);
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    side_fini(&t);
}

static void test_window_settings(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_feed_script(&t, "settings 4=10;settings ack", SIZE_MAX);
    side_request(&t, "POST", "/", 100);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> DATA 1 10\n"));
    /* 6.9.2: a window may become negative, and must be filled up first. */
    side_feed_script(&t, "settings 4=0;wu 1 10", SIZE_MAX);
    side_flush(&t);
    assert_null(strstr(strstr(t.log.p, "> DATA 1 10\n") + 1, "> DATA"));
    side_feed_script(&t, "wu 1 5", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> DATA 1 5\n"));
    side_feed_script(&t, "settings 4=1000", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> DATA 1 85 end\n"));
    side_fini(&t);
}

/* Trailers wait for the body; an end without body needs no window. */
static void test_trailers_wait(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_feed_script(&t, "settings 4=3;settings ack", SIZE_MAX);
    struct side_stream *x = side_request(&t, "POST", "/", -1),
                       *y = side_request(&t, "POST", "/", -1);
    struct buf b;
    buf_init(&b);
    buf_append(&b, "hello", 5);
    assert_int_equal(x->s->ops->send_data(x->s, &b, false), 0);
    assert_int_equal(b.len, 0);
    assert_int_equal(x->s->queued, 2);
    char value[] = "v";
    struct http_headers tr;
    http_headers_init(&tr, x->s->arena);
    http_headers_add(&tr, SV("x-t"), sv_of(value));
    assert_int_equal(x->s->ops->send_trailers(x->s, &tr), 0);
    value[0] = '?'; /* borrowed during the call only */
    assert_int_equal(y->s->ops->send_data(y->s, &b, true), 0);
    side_flush(&t);
    assert_null(strstr(t.log.p, "x-t"));
    assert_non_null(strstr(t.log.p, "> DATA 3 0 end"));
    assert_int_equal(x->s->ops->send_data(x->s, &b, true), E_INVALID);
    side_feed_script(&t, "wu 1 100", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> DATA 1 2\n> HEADERS 1 end\n    x-t: v\n"));
    side_fini(&t);
}

static void test_websocket(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_request(&t, "GET", "/", 0);
    struct http_head m;
    struct arena a;
    arena_init(&a);
    http_head_init(&m, &a);
    m.method = SV("GET");
    m.scheme = SV("http");
    m.authority = SV("b");
    m.path = SV("/chat");
    m.upgrade = true;
    m.connect_protocol = SV("websocket");
    http_headers_add_id(&m.h, HTTP_H_CONNECTION, SV("Upgrade"));
    http_headers_add_id(&m.h, HTTP_H_UPGRADE, SV("websocket"));
    struct http_stream_events ev = {0};
    struct http_stream *s = t.c->ops->open(t.c, &ev, NULL);
    /* Not announced by the peer: cannot be carried. */
    assert_int_equal(s->ops->send_head(s, &m, false), E_INVALID);
    side_feed_script(&t, "settings 8=1;settings ack", SIZE_MAX);
    assert_int_equal(s->ops->send_head(s, &m, false), 0);
    side_flush(&t);
    assert_non_null(strstr(t.log.p,
                           "> HEADERS 3\n    :method: CONNECT\n    :scheme: http\n"
                           "    :path: /chat\n    :authority: b\n    :protocol: websocket\n"));
    assert_null(strstr(t.log.p, "connection: "));
    struct side_stream *y = calloc(1, sizeof *y);
    y->side = &t;
    y->s = s;
    list_push(&t.streams, &y->link);
    http_stream_set_user(s, &side_stream_events, y);
    side_feed_script(&t, "headers 3 :status=200;data 3 4", SIZE_MAX);
    if (!strstr(t.log.p, "3 head 101 upgrade"))
        fail_msg("%s", t.log.p);
    side_fini(&t);
    arena_free(&a);
}

/* A head that needs several frames. */
static void test_large_head(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.max_head_bytes = 1 << 20;
    struct side c, s;
    side_init(&c, false, &l, APP_LOG);
    side_init(&s, true, &l, APP_ANSWER);
    struct arena a;
    arena_init(&a);
    struct http_head m;
    http_head_init(&m, &a);
    m.method = SV("GET");
    m.scheme = SV("http");
    m.authority = SV("b");
    m.path = SV("/");
    char *big = malloc(100000);
    memset(big, 'b', 100000);
    http_headers_add(&m.h, SV("x-big"), sv_make(big, 100000));
    http_headers_add(&m.h, SV("x-after"), SV("1"));
    struct side_stream *x = calloc(1, sizeof *x);
    x->side = &c;
    list_push(&c.streams, &x->link);
    x->s = c.c->ops->open(c.c, &side_stream_events, x);
    assert_int_equal(x->s->ops->send_head(x->s, &m, true), 0);
    while (sides_exchange(&c, &s, 1000))
        ;
    assert_non_null(strstr(s.log.p, "x-after: 1"));
    assert_int_equal(x->status, 200);
    side_fini(&c);
    side_fini(&s);
    free(big);
    arena_free(&a);
}

static void test_drain(void **state)
{
    struct side t;
    side_init(&t, false, NULL, APP_LOG);
    side_feed_script(&t, HELLO, SIZE_MAX);
    side_request(&t, "GET", "/", 0);
    t.c->ops->drain(t.c);
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    assert_false(t.c->ops->can_open(t.c));
    side_feed_script(&t, "headers 1 es :status=200", SIZE_MAX);
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    side_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reactions),
        cmocka_unit_test(test_request_on_the_wire),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_no_close_inside_ops),
        cmocka_unit_test(test_limits_of_the_peer),
        cmocka_unit_test(test_stream_ids_run_out),
        cmocka_unit_test(test_window_settings),
        cmocka_unit_test(test_trailers_wait),
        cmocka_unit_test(test_websocket),
        cmocka_unit_test(test_large_head),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
