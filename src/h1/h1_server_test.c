/* Requests: what is taken, how bodies are cut out of the bytes, what is answered. */
#include "h1/h1_test.h"

struct good {
    const char *in, *log;
};

/* Each is answered with "ok", so the log of one request ends with close and idle. */
static const struct good goods[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET|a|/ end\nclose\nidle\n"},
    {"\r\n\r\nGET /x?y=%20&z HTTP/1.1\r\nhost:a:80 \r\n\r\n",
     "GET|a:80|/x?y=%20&z end\nclose\nidle\n"},
    {"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
     "POST|a|/p|content-length=5\n<hello> end\nclose\nidle\n"},
    {"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
     "POST|a|/p|content-length=0 end\nclose\nidle\n"},
    {"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
     "5\r\nhello\r\n00A;a=b;c=\"d\"\r\n, world ok\r\n0;last\r\n\r\n",
     "POST|a|/p|transfer-encoding=Chunked\n<hello, world ok> end\nclose\nidle\n"},
    {"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "POST|a|/p|transfer-encoding=chunked\n end\nclose\nidle\n"},
    {"PUT /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
     "1 \t;x\r\nz\r\n0 \r\nX-T: 1\r\nHost: evil\r\n\r\n",
     "PUT|a|/p|transfer-encoding=chunked\n<z> end\nclose\nidle\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Pad: \t v w \t\r\nX-Bytes: \xc3\xa9\t\"\r\n\r\n",
     "GET|a|/|x-empty=|x-pad=v w|x-bytes=\xc3\xa9\t\" end\nclose\nidle\n"},
    {"GET http://B.example:81/q?r HTTP/1.1\r\nHost: a\r\n\r\n",
     "GET|B.example:81|/q?r|http end\nclose\nidle\n"},
    {"GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET|b|/|https end\nclose\nidle\n"},
    {"OPTIONS * HTTP/1.9\r\nHost: a\r\n\r\n", "OPTIONS|a|* end\nclose\nidle\n"},
    {"M-SEARCH!#$ /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
     "M-SEARCH!#$|[::1]:80|/x end\nclose\nidle\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\nVia: 1.1 x\r\n\r\n",
     "GET|a|/|cookie=a=1|cookie=b=2|via=1.1 x end\nclose\nidle\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
     "GET|a|/|connection=Upgrade, HTTP2-Settings|upgrade=h2c end\nclose\nidle\n"},
};

static void good_requests_in_every_split(void **state)
{
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        for (int way = 0; way < RIG_WAYS; way++) {
            struct rig r;
            rig_init(&r);
            rig_start(&r, true);
            rig_feed_way(&r, goods[i].in, strlen(goods[i].in), way);
            if (r.rc || strcmp(rig_log(&r), goods[i].log) != 0)
                fail_msg("way %d of %s: rc %d (%s)\n%s", way, goods[i].in, r.rc, r.c->error_reason,
                         rig_log(&r));
            assert_string_equal(rig_sent(&r), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            assert_int_equal(r.c->state, HTTP_CODEC_OPEN);
            assert_true(r.c->want_read);
            assert_int_equal(r.in.len, 0);
            rig_fini(&r);
        }
    }
}

static void all_good_requests_pipelined(void **state)
{
    struct strbuf in, log;
    strbuf_init(&in, 1 << 20);
    strbuf_init(&log, 1 << 20);
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        strbuf_add_c(&in, goods[i].in);
        strbuf_add_c(&log, goods[i].log);
    }
    for (int way = 0; way < RIG_WAYS; way++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, true);
        rig_feed_way(&r, in.p, in.n, way);
        assert_int_equal(r.rc, 0);
        assert_string_equal(rig_log(&r), log.p);
        assert_int_equal(r.c->streams_total, sizeof(goods) / sizeof(goods[0]));
        rig_fini(&r);
    }
    strbuf_fini(&in);
    strbuf_fini(&log);
}

static void next_request_waits_for_the_response(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_string_equal(rig_log(&r), "GET|a|/1 end\n");
    assert_false(r.c->want_read);
    assert_int_equal(r.in.len, 28);
    rig_clear(&r);
    int before = r.outputs;
    rig_default_answer(&r, r.s);
    assert_true(r.outputs > before);
    assert_string_equal(rig_log(&r), ""); /* nothing from inside the op */
    rig_flush(&r);
    assert_string_equal(rig_log(&r), "close\nidle\n");
    assert_true(r.c->want_read);
    rig_turn(&r);
    assert_string_equal(rig_log(&r), "close\nidle\nGET|a|/2 end\n");
    rig_fini(&r);
}

static void pipelining_stops_while_output_piles_up_case_11(void **state)
{
    struct rig r;
    rig_init(&r);
    r.l.high_watermark = 1000;
    r.l.low_watermark = 500;
    r.keep_out = true;
    char big[600];
    memset(big, 'x', sizeof(big));
    r.body = sv_make(big, sizeof(big));
    rig_start(&r, true);
    for (int i = 0; i < 10; i++)
        buf_append_sv(&r.in, SV("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    rig_turn(&r);
    assert_int_equal(r.c->streams_total, 2);
    assert_false(r.c->want_read);
    assert_int_equal(r.in.len, 8 * 27);
    r.keep_out = false;
    rig_flush(&r);
    assert_true(r.c->want_read);
    rig_turn(&r);
    assert_int_equal(r.c->streams_total, 10);
    rig_fini(&r);
}

static void big_heads_span_blocks(void **state)
{
    struct strbuf in;
    strbuf_init(&in, 1 << 20);
    strbuf_add_c(&in, "GET /big HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 50; i++)
        strbuf_addf(&in, "X-%d: %0900d\r\n", i, i);
    strbuf_add_c(&in, "\r\n");
    for (int way = 0; way < RIG_WAYS; way++) {
        struct rig r;
        rig_init(&r);
        r.answer = no_answer;
        rig_start(&r, true);
        rig_feed_way(&r, in.p, in.n, way);
        assert_int_equal(r.rc, 0);
        assert_non_null(r.s);
        /* The views outlive the input. */
        buf_reset(&r.in);
        assert_in_range(r.s->head_bytes_in, in.n / 2, in.n);
        assert_non_null(strstr(rig_log(&r), "|x-49=0000"));
        rig_fini(&r);
    }
    strbuf_fini(&in);
}

static void connection_persistence(void **state)
{
    static const struct {
        const char *in, *sent;
        bool open;
    } t[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\nConnection: keep-alive\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", false},
        {"GET / HTTP/1.0\r\n\r\n",
         "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
         "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", true},
        {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
         true},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, true);
        rig_feed_c(&r, t[i].in);
        assert_string_equal(rig_sent(&r), t[i].sent);
        assert_int_equal(r.c->state, t[i].open ? HTTP_CODEC_OPEN : HTTP_CODEC_FLUSH);
        if (!t[i].open) {
            rig_feed_c(&r, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_int_equal(r.c->streams_total, 1);
            assert_int_equal(r.in.len, 0);
        }
        rig_fini(&r);
    }
}

static void response_framing(void **state)
{
    static const struct {
        const char *in;
        unsigned status;
        const char *name, *value, *body, *sent;
        bool open;
    } t[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "x-a", "b", "hello",
         "HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
         true},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404, NULL, NULL, NULL,
         "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 204, "content-length", "0", NULL,
         "HTTP/1.1 204 No Content\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 304, "content-length", "7", NULL,
         "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 204, NULL, NULL, "dropped",
         "HTTP/1.1 204 No Content\r\n\r\n", true},
        {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, NULL, NULL, "dropped",
         "HTTP/1.1 200 OK\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, NULL, NULL, "to the close",
         "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nto the close", false},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "connection", "close", "x",
         "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
         "1\r\nx\r\n0\r\n\r\n",
         false},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "transfer-encoding", "gzip", "x",
         "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 599, NULL, NULL, NULL,
         "HTTP/1.1 599 Unknown\r\ncontent-length: 0\r\n\r\n", true},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct rig r;
        rig_init(&r);
        r.answer = no_answer;
        rig_start(&r, true);
        rig_feed_c(&r, t[i].in);
        respond(&r, t[i].status, t[i].name, t[i].value, t[i].body, true);
        rig_flush(&r);
        assert_string_equal(rig_sent(&r), t[i].sent);
        assert_int_equal(r.c->state, t[i].open ? HTTP_CODEC_OPEN : HTTP_CODEC_FLUSH);
        rig_fini(&r);
    }
}

static void body_must_fit_its_length_case_20(void **state)
{
    static const struct {
        const char *body;
        bool end;
        int rc;
    } t[] = {{"1234", true, E_INVALID}, {"123456", false, E_INVALID}, {"12345", true, 0}};
    for (size_t i = 0; i < 3; i++) {
        struct rig r;
        struct http_head m;
        struct buf b;
        rig_init(&r);
        r.answer = no_answer;
        rig_start(&r, true);
        rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        http_head_init(&m, r.s->arena);
        m.status = 200;
        http_headers_add_id(&m.h, HTTP_H_CONTENT_LENGTH, SV("5"));
        assert_int_equal(r.s->ops->send_head(r.s, &m, true), E_INVALID);
        assert_int_equal(r.c->out.len, 0);
        assert_int_equal(r.s->ops->send_head(r.s, &m, false), 0);
        buf_init(&b);
        buf_append_sv(&b, sv_of(t[i].body));
        assert_int_equal(r.s->ops->send_data(r.s, &b, t[i].end), t[i].rc);
        assert_int_equal(b.len, 0);
        rig_flush(&r);
        assert_null(r.s);
        assert_int_equal(r.c->state, t[i].rc ? HTTP_CODEC_FLUSH : HTTP_CODEC_OPEN);
        rig_fini(&r);
    }
}

static void line_breaks_are_not_sent(void **state)
{
    static const struct {
        const char *name, *value;
    } bad[] = {{"x", "a\r\nb: c"},
               {"x", "a\nb"},
               {"x\r\ny", "z"},
               {"x y", "z"},
               {"", "z"},
               {"x:", "y"},
               {"x", "a\rb"},
               {"content-length", "+1"},
               {"content-length", "1, 1"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rig r;
        struct http_head m;
        rig_init(&r);
        r.answer = no_answer;
        rig_start(&r, true);
        rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        http_head_init(&m, r.s->arena);
        m.status = 200;
        http_headers_add(&m.h, sv_of(bad[i].name), sv_of(bad[i].value));
        assert_int_equal(r.s->ops->send_head(r.s, &m, true), E_INVALID);
        assert_int_equal(r.c->out.len, 0);
        http_headers_set(&m.h, SV("x"), sv_make("a\0b", 3));
        assert_int_equal(r.s->ops->send_head(r.s, &m, true), E_INVALID);
        /* The stream can still be answered. */
        respond(&r, 500, NULL, NULL, NULL, true);
        rig_fini(&r);
    }
}

static void continue_is_the_users(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    const char *req = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                      "Content-Length: 2\r\n\r\n";
    rig_feed_c(&r, req);
    respond(&r, 100, NULL, NULL, NULL, false);
    rig_flush(&r);
    assert_string_equal(rig_sent(&r), "HTTP/1.1 100 Continue\r\n\r\n");
    respond(&r, 103, "link", "</x>", NULL, false);
    rig_feed_c(&r, "hi");
    respond(&r, 200, NULL, NULL, NULL, true);
    rig_flush(&r);
    assert_string_equal(rig_sent(&r), "HTTP/1.1 100 Continue\r\n\r\n"
                                      "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
                                      "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_int_equal(r.c->state, HTTP_CODEC_OPEN);
    /* Without 100 nobody knows whether the body comes: the connection cannot go on. */
    rig_clear(&r);
    rig_feed_c(&r, req);
    respond(&r, 403, NULL, NULL, NULL, true);
    rig_flush(&r);
    assert_non_null(strstr(rig_sent(&r), "connection: close"));
    r.s->ops->reset(r.s, HTTP_RESET_NO_ERROR);
    rig_flush(&r);
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
}

static void body_that_did_not_wait_for_100_is_a_body(void **state)
{
    static const char *const framing[] = {"Content-Length: 2\r\n\r\nhi",
                                          "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"};
    for (int i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, true);
        rig_feed_c(&r, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
        rig_feed_c(&r, framing[i]);
        assert_string_equal(rig_sent(&r), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_int_equal(r.c->state, HTTP_CODEC_OPEN);
        rig_fini(&r);
    }
}

static void blank_lines_are_few(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, true);
    for (int i = 0; i < 4; i++)
        rig_feed_c(&r, "\r\n");
    assert_int_equal(r.rc, 0);
    rig_feed_c(&r, "\r\n");
    assert_int_equal(r.rc, E_PROTOCOL);
    rig_fini(&r);
}

/* Even when the glue writes at once, a stream outlives the frames of whoever ended it. */
static void eager_answer(struct rig *r, struct http_stream *s)
{
    rig_default_answer(r, s);
    assert_ptr_equal(r->s, s);
    assert_true(s->sent_end);
}
static void ops_never_close_the_stream(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    r.eager = true;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eager_answer(&r, r.s);
    rig_flush(&r);
    assert_null(r.s);
    r.answer = eager_answer;
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_null(r.s);
    rig_fini(&r);
}

static void early_response_case_22(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r,
               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /evil HTTP/1.1\r\n");
    respond(&r, 200, NULL, NULL, NULL, true);
    rig_flush(&r);
    /* Response out, request not: the stream lives, and the rest is body, never a request. */
    assert_non_null(r.s);
    rig_feed_c(&r, "Host: a\r\n\r\n345678901234567890");
    assert_string_equal(
        rig_log(&r), "POST|a|/|content-length=40\n<GET /evil HTTP/1.1\r\nHost: a\r\n\r\n345678901>"
                     " end\nclose\nidle\n");
    assert_int_equal(r.in.len, 9);
    rig_fini(&r);
}

static void early_response_then_reset_case_22(void **state)
{
    struct rig r;
    rig_init(&r);
    r.answer = no_answer;
    rig_start(&r, true);
    rig_feed_c(&r, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /evil");
    respond(&r, 413, NULL, NULL, NULL, true);
    r.s->ops->reset(r.s, HTTP_RESET_NO_ERROR);
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    assert_true(r.c->out.len > 0);
    rig_feed_c(&r, " HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(r.c->streams_total, 1);
    assert_null(r.s);
    rig_fini(&r);
}

static void trailers_are_kept_and_filtered_case_18(void **state)
{
    static const char in[] =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        "X-Sum: 1\r\nContent-Length: 5\r\nHost: evil\r\nAuthorization: Bearer x\r\n"
        "Transfer-Encoding: chunked\r\nX-Envoy-Internal: true\r\nGrpc-Status: 0\r\n\r\n";
    for (int way = 0; way < RIG_WAYS; way++) {
        struct rig r;
        rig_init(&r);
        r.l.enable_trailers = true;
        rig_start(&r, true);
        rig_feed_way(&r, in, sizeof(in) - 1, way);
        assert_string_equal(rig_log(&r), "POST|a|/|transfer-encoding=chunked\n<abc>"
                                         " trailers|x-sum=1|grpc-status=0\nclose\nidle\n");
        rig_fini(&r);
    }
}

static void trailers_are_sent(void **state)
{
    for (int on = 0; on < 2; on++) {
        struct rig r;
        struct http_headers t;
        rig_init(&r);
        r.answer = no_answer;
        r.l.enable_trailers = on;
        rig_start(&r, true);
        rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        respond(&r, 200, NULL, NULL, "x", false);
        http_headers_init(&t, r.s->arena);
        http_headers_add(&t, SV("x-a"), SV("1\n"));
        if (on)
            assert_int_equal(r.s->ops->send_trailers(r.s, &t), E_INVALID);
        t.n = 0;
        http_headers_add(&t, SV("x-a"), SV("1"));
        http_headers_add(&t, SV("content-length"), SV("1"));
        assert_int_equal(r.s->ops->send_trailers(r.s, &t), 0);
        rig_flush(&r);
        assert_string_equal(strstr(rig_sent(&r), "1\r\nx"),
                            on ? "1\r\nx\r\n0\r\nx-a: 1\r\n\r\n" : "1\r\nx\r\n0\r\n\r\n");
        assert_null(r.s);
        rig_fini(&r);
    }
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(good_requests_in_every_split),
        T(all_good_requests_pipelined),
        T(next_request_waits_for_the_response),
        T(pipelining_stops_while_output_piles_up_case_11),
        T(big_heads_span_blocks),
        T(connection_persistence),
        T(response_framing),
        T(body_must_fit_its_length_case_20),
        T(line_breaks_are_not_sent),
        T(continue_is_the_users),
        T(body_that_did_not_wait_for_100_is_a_body),
        T(blank_lines_are_few),
        T(ops_never_close_the_stream),
        T(early_response_case_22),
        T(early_response_then_reset_case_22),
        T(trailers_are_kept_and_filtered_case_18),
        T(trailers_are_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
