/* A server connection's life: upgrades and tunnels, pauses and watermarks, resets, drain. */
#include "h1/h1_test.h"

static void upgrade_switches_after_101_case_21(void **state)
{
    static const char req[] = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                              "Upgrade: websocket\r\n\r\n";
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    buf_append_sv(&r.in, SV(req));
    rig_feed_c(&r, "early");
    assert_string_equal(rig_log(&r),
                        "GET|a|/chat|up=websocket|connection=Upgrade|upgrade=websocket\n");
    assert_false(r.c->want_read);
    assert_int_equal(r.in.len, 5); /* held back */
    respond(&r, 101, NULL, NULL, NULL, false);
    rig_turn(&r);
    assert_true(r.c->switched);
    assert_string_equal(rig_sent(&r), "HTTP/1.1 101 Switching Protocols\r\n"
                                      "connection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_non_null(strstr(rig_log(&r), "\n<early>"));
    rig_clear(&r);
    rig_feed_c(&r, "\x01\r\n\r\n");
    struct buf b;
    buf_init(&b);
    buf_append_sv(&b, SV("raw"));
    assert_int_equal(r.s->ops->send_data(r.s, &b, false), 0);
    rig_flush(&r);
    assert_string_equal(rig_sent(&r), "raw");
    r.c->ops->feed_eof(r.c);
    assert_string_equal(rig_log(&r), "<\x01\r\n\r\n> end\n");
    assert_non_null(r.s);
    assert_int_equal(r.s->ops->send_data(r.s, &b, true), 0);
    assert_true(r.c->shut_write);
    rig_flush(&r);
    assert_null(r.s);
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
}

static void refused_upgrade_closes_case_21(void **state)
{
    static const char *req[] = {
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"};
    static const unsigned status[] = {200, 403};
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r);
        r.answer = no_answer;
        rig_start(&r, true);
        rig_feed_c(&r, req[i]);
        assert_int_equal(r.c->streams_total, 1);
        respond(&r, status[i], NULL, NULL, "no", true);
        rig_turn(&r);
        assert_non_null(strstr(rig_sent(&r), "connection: close"));
        assert_false(r.c->switched);
        assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
        assert_int_equal(r.c->streams_total, 1);
        rig_turn(&r);
        assert_int_equal(r.in.len, 0);
        rig_fini(&r);
    }
}

static void upgrade_needs_its_connection_option_case_21(void **state)
{
    static const char *req[] = {
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
         "Content-Length: 1\r\n\r\nx")};
    for (size_t i = 0; i < 3; i++) {
        struct rig r;
        struct http_head m;
        rig_init(&r);
        r.answer = no_answer;
        rig_start(&r, true);
        rig_feed_c(&r, req[i]);
        assert_true(r.s->recv_end);
        assert_null(strstr(rig_log(&r), "|up="));
        http_head_init(&m, r.s->arena);
        m.status = 101;
        assert_int_equal(r.s->ops->send_head(r.s, &m, false), E_INVALID);
        rig_fini(&r);
    }
}

static void connect_tunnels(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "CONNECT B.example:443 HTTP/1.1\r\nHost: other\r\n\r\nhello");
    assert_string_equal(rig_log(&r), "CONNECT|B.example:443|\n");
    respond(&r, 200, "content-length", "5", NULL, false);
    rig_turn(&r);
    assert_string_equal(rig_sent(&r), "HTTP/1.1 200 OK\r\n\r\n");
    assert_string_equal(rig_log(&r), "CONNECT|B.example:443|\n<hello>");
    rig_fini(&r);
}

static void pause_stops_reading_bodies(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12");
    r.s->ops->pause(r.s, true);
    r.s->ops->pause(r.s, true);
    assert_false(r.c->want_read);
    rig_feed_c(&r, "34");
    r.s->ops->pause(r.s, false);
    assert_false(r.c->want_read);
    rig_clear(&r);
    rig_turn(&r);
    assert_string_equal(rig_log(&r), "");
    int before = r.outputs;
    r.s->ops->pause(r.s, false);
    assert_true(r.c->want_read && r.outputs > before);
    rig_turn(&r);
    assert_string_equal(rig_log(&r), "<34>");
    rig_fini(&r);
}

static void watermarks(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    r.keep_out = true;
    r.l.high_watermark = 1000;
    r.l.low_watermark = 400;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    char big[900] = {0};
    struct buf b;
    buf_init(&b);
    respond(&r, 200, "content-length", "1800", NULL, false);
    rig_clear(&r);
    buf_append(&b, big, sizeof(big));
    r.s->ops->send_data(r.s, &b, false);
    assert_string_equal(rig_log(&r), "");
    buf_append(&b, big, sizeof(big));
    r.s->ops->send_data(r.s, &b, false);
    assert_string_equal(rig_log(&r), "high\n");
    assert_int_equal(r.s->queued, 1800);
    buf_drain(&r.c->out, 1000);
    r.c->ops->wrote(r.c, 1000);
    assert_string_equal(rig_log(&r), "high\n");
    size_t left = r.c->out.len - 400;
    buf_drain(&r.c->out, left);
    r.c->ops->wrote(r.c, left);
    assert_string_equal(rig_log(&r), "high\nlow\n");
    assert_int_equal(r.s->queued, 400);
    r.s->ops->send_data(r.s, &b, true);
    rig_fini(&r);
}

static void resets_and_ends_of_connections(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_clear(&r);
    r.c->ops->feed_eof(r.c);
    assert_string_equal(rig_log(&r),
                        "reset connection_termination downstream_remote_disconnect\nclose\nidle\n");
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);

    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_clear(&r);
    (r.c->ops->fail)(r.c, HTTP_RESET_CONN_FAILURE, "gone");
    assert_string_equal(rig_log(&r), "reset connection_failure gone\nclose\nidle\n");
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);

    /* By the user, in the middle of a response whose end is the connection's end. */
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.0\r\n\r\n");
    respond(&r, 200, NULL, NULL, "part", false);
    r.s->ops->reset(r.s, HTTP_RESET_LOCAL);
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    assert_int_equal(r.s->ops->send_data(r.s, &(struct buf){0}, true), E_CLOSED);
    rig_clear(&r);
    rig_flush(&r);
    assert_string_equal(rig_log(&r), "close\nidle\n"); /* no on_reset for our own */
    rig_fini(&r);

    rig_init(&r);
    rig_start(&r, true);
    r.c->ops->feed_eof(r.c);
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);
}

static void refused_stream_is_503(void **state)
{
    struct rig r;
    rig_init(&r);
    r.refuse = true;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_string_equal(rig_sent(&r), "HTTP/1.1 503 Service Unavailable\r\n"
                                      "content-length: 19\r\ncontent-type: text/plain\r\n"
                                      "connection: close\r\n\r\nService Unavailable");
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
}

static void drain_says_close_on_the_next_response(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, true);
    r.c->ops->drain(r.c);
    assert_int_equal(r.c->state, HTTP_CODEC_DRAINING);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_string_equal(rig_sent(&r),
                        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
}

static void drain_in_the_middle_of_a_response(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    respond(&r, 200, NULL, NULL, "half", false);
    r.c->ops->drain(r.c);
    rig_flush(&r);
    assert_int_equal(r.c->state, HTTP_CODEC_DRAINING);
    struct buf none;
    buf_init(&none);
    r.s->ops->send_data(r.s, &none, true);
    rig_flush(&r);
    assert_null(r.s);
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
}

static void names_are_spelled_as_asked(void **state)
{
    static const char *const want[] = {
        [HTTP_SPELLING_LOWER] = "\nx-my-name: v\r\ncontent-length: 0\r",
        [HTTP_SPELLING_KEPT] = "\nX-My-NAME: v\r\ncontent-length: 0\r",
        [HTTP_SPELLING_PROPER] = "\nX-My-Name: v\r\nContent-Length: 0\r",
    };
    for (int i = 0; i < 3; i++) {
        struct rig r;
        struct http_head m;
        rig_init(&r);
        r.answer = no_answer;
        r.l.spelling = (enum http_spelling)i;
        rig_start(&r, true);
        rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        http_head_init(&m, r.s->arena);
        m.status = 200;
        http_headers_add(&m.h, SV("x-my-name"), SV("v"));
        m.h.v[0].raw = "X-My-NAME";
        m.h.spelled = i == HTTP_SPELLING_KEPT;
        r.s->ops->send_head(r.s, &m, true);
        rig_flush(&r);
        assert_non_null(strstr(rig_sent(&r), want[i]));
        rig_fini(&r);
    }
}

/* The user may keep the stream's memory: nothing that lived there is touched after on_close. */
static struct arena taken;
static void take_on_close(void *user)
{
    struct rig *r = user;
    arena_take(&taken, r->s->arena);
    arena_free(&taken);
    r->s = NULL;
}

static void arena_may_be_taken(void **state)
{
    struct rig r;
    struct http_stream_events ev = rig_stream_events;
    ev.on_close = take_on_close;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    for (int i = 0; i < 3; i++) {
        rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\nX-Unknown-Name: v\r\n\r\n");
        r.s->ev = &ev;
        rig_default_answer(&r, r.s);
        rig_flush(&r);
        assert_null(r.s);
    }
    rig_fini(&r);
}

static void counts_bytes(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    const char *head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    rig_feed_c(&r, head);
    rig_feed_c(&r, "3\r\nabc\r\n0\r\n\r\n");
    assert_int_equal(r.s->head_bytes_in, 4 + 1 + 3 + 17 + 7 + 3); /* of ": " and CRLF, 3 */
    assert_int_equal(r.s->body_bytes_in, 3);
    assert_int_equal(r.s->wire_bytes_in, strlen(head) + 13);
    respond(&r, 200, NULL, NULL, "hello", false);
    assert_int_equal(r.s->body_bytes_out, 5);
    assert_int_equal(r.s->wire_bytes_out, r.c->out.len);
    assert_int_equal(r.s->head_bytes_out, r.c->out.len - 10 - strlen("HTTP/1.1 200 OK\r\n\r\n"));
    rig_fini(&r);
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(upgrade_switches_after_101_case_21),
        T(refused_upgrade_closes_case_21),
        T(upgrade_needs_its_connection_option_case_21),
        T(connect_tunnels),
        T(pause_stops_reading_bodies),
        T(watermarks),
        T(resets_and_ends_of_connections),
        T(refused_stream_is_503),
        T(drain_says_close_on_the_next_response),
        T(drain_in_the_middle_of_a_response),
        T(names_are_spelled_as_asked),
        T(arena_may_be_taken),
        T(counts_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
