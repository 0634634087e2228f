/* The server with real sockets: plain endpoints, limits, time-outs, long answers, drain. */
#include "serve/serve_test.h"

static struct serve_request *kept;
static int gone, drained;

static void on_gone(struct serve_request *r)
{
    gone++;
    kept = NULL;
}

static void site_handler(void *user, struct serve_request *r)
{
    if (sv_eq(r->path, SV("/echo"))) {
        serve_reply_header(r, "x-method", r->method);
        serve_reply(r, 200, "application/octet-stream", r->body);
    } else if (sv_eq(r->path, SV("/query"))) {
        sv v = serve_query(r, SV("name"));
        serve_reply_text(r, v.p ? 200 : 400, "%.*s|%.*s", SV_ARG(v), SV_ARG(r->query));
    } else if (sv_eq(r->path, SV("/empty"))) {
        serve_reply(r, 204, NULL, SV(""));
    } else if (sv_eq(r->path, SV("/strbuf"))) {
        struct strbuf s;
        strbuf_init(&s, 10);
        strbuf_add_c(&s, sv_eq(r->query, SV("big")) ? "12345678901" : "1234567890");
        serve_reply_strbuf(r, 200, "text/plain", &s);
    } else if (sv_eq(r->path, SV("/keep"))) {
        kept = r;
        r->on_gone = on_gone;
    } else {
        serve_reply_text(r, 404, "no %.*s\n", SV_ARG(r->path));
    }
}

static void answers_requests(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, site_handler, NULL);
    assert_true(addr_is_loopback(site_addr(&t)));
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "GET /query?x=1&name=a%20b+c HTTP/1.1\r\nHost: h\r\n\r\n"
                   "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
                   "HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\n"
                   "GET /empty HTTP/1.1\r\nHost: h\r\n\r\n"
                   "GET /nope HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    turn_until(raw_eof(&c));
    assert_string_equal(
        c.got.p,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 22\r\n\r\n"
        "a b c|x=1&name=a%20b+c"
        "HTTP/1.1 200 OK\r\nx-method: POST\r\ncontent-type: application/octet-stream\r\n"
        "content-length: 5\r\n\r\nhello"
        "HTTP/1.1 200 OK\r\nx-method: HEAD\r\ncontent-type: application/octet-stream\r\n\r\n"
        "HTTP/1.1 204 No Content\r\n\r\n"
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n"
        "content-length: 9\r\nconnection: close\r\n\r\nno /nope\n");
    assert_int_equal(serve_server_stats(t.s)->requests, 5);
    raw_close(&c);
    turn_until(serve_server_stats(t.s)->conns == 0);
    serve_server_free(t.s);
}

static bool wants_admin(void *user, const struct http_head *head)
{
    return sv_starts(head->path, SV("/admin/"));
}

static void unwanted_requests_are_404(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, site_handler, NULL);
    t.h.wants = wants_admin;
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc");
    turn_until(raw_eof(&c));
    assert_non_null(strstr(c.got.p, "HTTP/1.1 404 Not Found\r\n"));
    assert_int_equal(serve_server_stats(t.s)->not_found, 1);
    raw_close(&c);
    serve_server_free(t.s);
}

static void bodies_are_bounded(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, site_handler, NULL);
    t.h.max_body = 1000;
    /* Announced. */
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
    turn_until(raw_eof(&c));
    assert_non_null(strstr(c.got.p, "HTTP/1.1 413 "));
    raw_close(&c);
    /* Not announced. */
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 101 && !raw_eof(&c); i++)
        raw_send_c(&c, "a\r\n0123456789\r\n");
    turn_until(raw_eof(&c));
    assert_non_null(strstr(c.got.p, "HTTP/1.1 413 "));
    raw_close(&c);
    /* Just fits, and 100-continue is answered. */
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                   "Content-Length: 1000\r\n\r\n");
    turn_until(raw_has(&c, "HTTP/1.1 100 Continue\r\n\r\n"));
    char body[1000];
    memset(body, 'b', sizeof(body));
    raw_send(&c, body, sizeof(body));
    turn_until(raw_has(&c, "HTTP/1.1 200 OK\r\n") && c.got.n > 1000);
    raw_close(&c);
    serve_server_free(t.s);
}

static void slow_clients_time_out_case_12(void **state)
{
    struct site t;
    struct raw head, body, idle;
    struct serve_server_opts o = {.times = {.connect_ms = 200, .head_ms = 100, .idle_ms = 200}};
    site_start(&t, &o, site_handler, NULL);
    t.h.receive_ms = 100;
    raw_open(&head, site_addr(&t));
    raw_open(&body, site_addr(&t));
    raw_open(&idle, site_addr(&t));
    raw_send_c(&head, "GET / HTTP/1.1\r\nHo");
    raw_send_c(&body, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na");
    uint64_t began = loop_clock_ns(loop);
    turn_until(raw_eof(&head));
    assert_in_range((loop_clock_ns(loop) - began) / 1000000, 80, 2000);
    turn_until(raw_eof(&body));
    assert_non_null(strstr(body.got.p, "HTTP/1.1 408 "));
    turn_until(raw_eof(&idle));
    assert_int_equal(idle.got.n, 0);
    turn_until(serve_server_stats(t.s)->conns == 0);
    raw_close(&head);
    raw_close(&body);
    raw_close(&idle);
    serve_server_free(t.s);
}

static void bad_requests_get_their_answer(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, site_handler, NULL);
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    turn_until(raw_eof(&c));
    assert_string_equal(
        c.got.p, "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\n"
                 "connection: close\r\n\r\nBad Request");
    assert_int_equal(serve_server_stats(t.s)->codec.framing_error, 1);
    raw_close(&c);
    turn_until(serve_server_stats(t.s)->conns == 0);
    serve_server_free(t.s);
}

static void connections_are_limited_case_13(void **state)
{
    struct site t;
    struct raw c[3];
    struct serve_server_opts o = {.max_conns = 2};
    site_start(&t, &o, site_handler, NULL);
    for (int i = 0; i < 3; i++) {
        raw_open(&c[i], site_addr(&t));
        turn_until(serve_server_stats(t.s)->conns_total == (uint64_t)i + 1);
    }
    turn_until(raw_eof(&c[2]));
    assert_int_equal(serve_server_stats(t.s)->conns_refused, 1);
    raw_send_c(&c[0], "GET /empty HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(raw_has(&c[0], "204 No Content"));
    for (int i = 0; i < 3; i++)
        raw_close(&c[i]);
    serve_server_free(t.s);
}

static void late_answers_and_clients_that_leave(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, site_handler, NULL);
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(kept);
    turn_ms(30);
    assert_int_equal(c.got.n, 0);
    serve_reply_text(kept, 200, "late");
    turn_until(raw_has(&c, "late"));
    /* The same connection goes on. */
    kept = NULL;
    gone = 0;
    raw_send_c(&c, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(kept);
    raw_close(&c);
    turn_until(gone == 1);
    assert_null(kept);
    serve_server_free(t.s);
}

static char piece[10000];
static int pieces;

static void pump(struct serve_request *r)
{
    drained++;
    while (pieces < 1000) {
        pieces++;
        int rc = serve_reply_chunk(r, sv_make(piece, sizeof(piece)));
        if (rc == E_AGAIN)
            return;
        assert_int_equal(rc, 0);
    }
    serve_reply_end(r);
}

static void stream_handler(void *user, struct serve_request *r)
{
    r->on_drain = pump;
    r->on_gone = on_gone;
    if (serve_reply_start(r, 200, "text/event-stream") == 0)
        pump(r);
}

static void long_answers_wait_for_their_reader(void **state)
{
    struct site t;
    struct raw c;
    memset(piece, 'p', sizeof(piece));
    pieces = drained = gone = 0;
    site_start(&t, NULL, stream_handler, NULL);
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(pieces > 0);
    turn_ms(100);
    /* Nobody reads: what is queued stays near the high watermark, plus what the kernel holds. */
    assert_true(pieces < 1000);
    turn_until(raw_has(&c, "\r\n0\r\n\r\n"));
    assert_int_equal(pieces, 1000);
    assert_true(drained > 1 && gone == 0);
    assert_true(c.got.n > 10000000);
    raw_close(&c);
    turn_until(serve_server_stats(t.s)->conns == 0);
    /* HEAD has nothing to wait for. */
    pieces = 0;
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(raw_has(&c, "\r\n\r\n"));
    assert_int_equal(pieces, 0);
    raw_close(&c);
    serve_server_free(t.s);
}

static void abort_handler(void *user, struct serve_request *r)
{
    assert_int_equal(serve_reply_start(r, 200, "text/plain"), 0);
    serve_reply_chunk(r, SV("part"));
    serve_reply_abort(r);
}

static void broken_answers_look_broken(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, abort_handler, NULL);
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(raw_eof(&c));
    assert_null(strstr(c.got.p, "\r\n0\r\n"));
    raw_close(&c);
    serve_server_free(t.s);
}

static void overflown_answers_are_500(void **state)
{
    struct site t;
    struct raw c;
    site_start(&t, NULL, site_handler, NULL);
    raw_open(&c, site_addr(&t));
    raw_send_c(&c, "GET /strbuf HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(raw_has(&c, "1234567890"));
    raw_send_c(&c, "GET /strbuf?big HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(raw_has(&c, "HTTP/1.1 500 "));
    raw_close(&c);
    serve_server_free(t.s);
}

static void drain_lets_streams_finish(void **state)
{
    struct site t;
    struct raw busy, idle, stuck;
    site_start(&t, NULL, site_handler, NULL);
    raw_open(&busy, site_addr(&t));
    raw_open(&idle, site_addr(&t));
    raw_open(&stuck, site_addr(&t));
    raw_send_c(&stuck, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
    turn_until(serve_server_stats(t.s)->requests == 1);
    kept = NULL;
    raw_send_c(&busy, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(kept && serve_server_stats(t.s)->conns == 3);
    serve_server_drain(t.s, 300);
    turn_until(raw_eof(&idle));
    turn_ms(20);
    assert_false(raw_eof(&busy));
    serve_reply_text(kept, 200, "done");
    turn_until(raw_eof(&busy));
    assert_non_null(strstr(busy.got.p, "connection: close\r\n\r\ndone"));
    turn_until(raw_eof(&stuck)); /* the deadline */
    turn_until(serve_server_stats(t.s)->conns == 0);
    raw_close(&busy);
    raw_close(&idle);
    raw_close(&stuck);
    serve_server_free(t.s);
}

static void unix_sockets_and_addresses(void **state)
{
    struct addr a = {0};
    char text[ADDR_TEXT_MAX];
    static const struct {
        const char *in, *out;
    } t[] = {{"8080", "127.0.0.1:8080"}, {":8080", "127.0.0.1:8080"},
             {"*:80", "[::]:80"},        {"10.0.0.1:80", "10.0.0.1:80"},
             {"[::1]:80", "[::1]:80"},   {"unix:/run/x", "/run/x"}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        assert_int_equal(serve_addr_parse(&a, sv_of(t[i].in)), 0);
        addr_text(&a, text);
        assert_string_equal(text, t[i].out);
    }
    static const char *bad[] = {"", "x", "70000", "*", "*:", "*:x", "host:80", "1.2.3.4", ":-1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_not_equal(serve_addr_parse(&a, sv_of(bad[i])), 0);

    struct site s;
    struct error e = {0};
    struct raw c;
    char path[64];
    snprintf(path, sizeof(path), "unix:/tmp/weft-serve-%d", (int)getpid());
    site_start(&s, NULL, site_handler, NULL);
    assert_int_equal(serve_server_listen_text(s.s, sv_of(path), &e), 0);
    assert_int_equal(addr_unix(&a, sv_of(path + 5)), 0);
    raw_open(&c, &a);
    raw_send_c(&c, "GET /empty HTTP/1.1\r\nHost: h\r\n\r\n");
    turn_until(raw_has(&c, "204"));
    raw_close(&c);
    assert_null(serve_server_addr(s.s, 2));
    assert_int_equal(serve_server_listen_text(s.s, SV("nonsense"), &e), E_INVALID);
    assert_non_null(strstr(e.msg, "nonsense"));
    serve_server_free(s.s);
    assert_int_equal(access(path + 5, F_OK), -1);
}

static int setup(void **state)
{
    loop = loop_new(NULL);
    return 0;
}
static int teardown(void **state)
{
    loop_free(loop);
    return 0;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(answers_requests),
        T(unwanted_requests_are_404),
        T(bodies_are_bounded),
        T(slow_clients_time_out_case_12),
        T(bad_requests_get_their_answer),
        T(connections_are_limited_case_13),
        T(late_answers_and_clients_that_leave),
        T(long_answers_wait_for_their_reader),
        T(broken_answers_look_broken),
        T(overflown_answers_are_500),
        T(drain_lets_streams_finish),
        T(unix_sockets_and_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
