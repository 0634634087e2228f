/* Responses, requests as they are written, when a connection may be used again; and both sides of
 * the codec talking to each other. */
#include "h1/h1_test.h"

/* Opens a stream and sends a request head. */
static void request(struct rig *r, const char *method, const char *path, bool end)
{
    struct http_head m;
    struct arena a;
    r->s = r->c->ops->open(r->c, &rig_stream_events, r);
    assert_non_null(r->s);
    arena_init(&a);
    http_head_init(&m, &a);
    m.method = sv_of(method);
    m.path = sv_of(path);
    m.authority = SV("a");
    if (strcmp(path, "/chat") == 0) {
        m.upgrade = true;
        m.connect_protocol = SV("websocket");
    }
    assert_int_equal(r->s->ops->send_head(r->s, &m, end), 0);
    arena_free(&a); /* only borrowed */
}

static void send(struct rig *r, const char *body, bool end)
{
    struct buf b;
    buf_init(&b);
    buf_append_sv(&b, sv_of(body));
    assert_int_equal(r->s->ops->send_data(r->s, &b, end), 0);
}

struct good {
    const char *method, *in, *log;
    bool reuse, eof;
};

static const struct good goods[] = {
    {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello",
     "200|content-length=5|server=x\n<hello> end\nclose\nidle\n", true},
    {"GET", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "200|content-length=0 end\nclose\nidle\n",
     true},
    {"GET", "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
     "200|transfer-encoding=chunked\n<abcde> end\nclose\nidle\n", true},
    {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 end\nclose\nidle\n", true},
    {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
     "304|content-length=77 end\nclose\nidle\n", true},
    {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n",
     "200|content-length=77 end\nclose\nidle\n", true},
    {"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
     "200|transfer-encoding=chunked end\nclose\nidle\n", true},
    {"GET",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
     "info 100\ninfo 103|link=x\n200|content-length=1\n<x> end\nclose\nidle\n", true},
    {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
     "goaway\n200|connection=close|content-length=1\n<x> end\nclose\nidle\n", false},
    {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
     "goaway\n200|HTTP/1.0|content-length=1\n<x> end\nclose\nidle\n", false},
    {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
     "200|HTTP/1.0|content-length=1|connection=keep-alive\n<x> end\nclose\nidle\n", true},
    {"GET", "HTTP/1.1 200 OK\r\n\r\nto the close", "goaway\n200\n<to the close> end\nclose\nidle\n",
     false, true},
    {"GET", "HTTP/1.1 200 OK\r\n\r\n", "goaway\n200\n end\nclose\nidle\n", false, true},
    {"GET", "HTTP/1.1 200 Fine \xe2\x9c\x93 \t!\r\nContent-Length: 0\r\n\r\n",
     "200|content-length=0 end\nclose\nidle\n", true},
};

static void good_responses_in_every_split(void **state)
{
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        for (int way = 0; way < RIG_WAYS; way++) {
            const struct good *g = &goods[i];
            struct rig r;
            rig_init(&r);
            rig_start(&r, false);
            for (int round = 0; round < (g->reuse ? 3 : 1); round++) {
                request(&r, g->method, "/", true);
                rig_flush(&r);
                assert_false(r.c->ops->can_open(r.c));
                rig_clear(&r);
                rig_feed_way(&r, g->in, strlen(g->in), way);
                if (g->eof)
                    r.c->ops->feed_eof(r.c);
                if (r.rc || strcmp(rig_log(&r), g->log) != 0)
                    fail_msg("way %d of %s: rc %d (%s)\n%s", way, g->in, r.rc, r.c->error_reason,
                             rig_log(&r));
                assert_int_equal(r.c->ops->can_open(r.c), g->reuse);
                assert_int_equal(r.c->state, g->reuse ? HTTP_CODEC_OPEN : HTTP_CODEC_DEAD);
            }
            rig_fini(&r);
        }
    }
}

#define B(lit)                                                                                     \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }

static void bad_responses_case_14_16_42(void **state)
{
    static const struct {
        const char *in;
        size_t n;
    } t[] = {
        B("HTTP/1.1 099 x\r\n\r\n"),
        B("HTTP/1.1 600 x\r\n\r\n"),
        B("HTTP/1.1 20 x\r\n\r\n"),
        B("HTTP/1.1 2000 x\r\n\r\n"),
        B("HTTP/1.1  200 x\r\n\r\n"),
        B("HTTP/2 200 x\r\n\r\n"),
        B("ICY 200 OK\r\n\r\n"),
        B("HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        B("HTTP/1.1 200 O\0K\r\n\r\n"),
        B("HTTP/1.1 200 OK\r\nX : y\r\n\r\n"),
        B("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n"),
        B("HTTP/1.1 200 OK\r\n: y\r\n\r\n"),
        B("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        B("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx"),
        B("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        B("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        B("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        B("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        for (int way = 0; way < RIG_WAYS; way++) {
            struct rig r;
            rig_init(&r);
            rig_start(&r, false);
            request(&r, "GET", "/", true);
            rig_flush(&r);
            rig_feed_way(&r, t[i].in, t[i].n, way);
            if (r.rc != E_PROTOCOL)
                fail_msg("way %d accepted: %s", way, t[i].in);
            assert_non_null(strstr(rig_log(&r), "reset protocol_error http1."));
            assert_non_null(strstr(rig_log(&r), "\nclose\nidle\n"));
            assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
            assert_false(r.c->ops->can_open(r.c));
            rig_fini(&r);
        }
    }
}

static void informational_flood_case_42(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "GET", "/", true);
    rig_flush(&r);
    for (int i = 0; i < 30 && r.rc == 0; i++)
        rig_feed_c(&r, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    assert_int_equal(r.rc, E_PROTOCOL);
    rig_fini(&r);
}

static void nothing_else_may_arrive_rule_7(void **state)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct rig r;
    /* Together with the response. */
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "GET", "/", true);
    rig_flush(&r);
    buf_append_sv(&r.in, SV(ok));
    rig_feed_c(&r, "HTTP/1.1 200 OK\r\n");
    assert_non_null(strstr(rig_log(&r), "<ok> end\nclose\n"));
    assert_false(r.open_at_idle);
    assert_false(r.c->ops->can_open(r.c));
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);
    /* Later, on the idle connection. */
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "GET", "/", true);
    rig_flush(&r);
    rig_feed_c(&r, ok);
    assert_true(r.c->ops->can_open(r.c) && r.open_at_idle);
    rig_feed_c(&r, "\r\n");
    assert_int_equal(r.rc, E_PROTOCOL);
    assert_false(r.c->ops->can_open(r.c));
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);
    /* A body that HEAD or 304 must not have. */
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "HEAD", "/", true);
    rig_flush(&r);
    rig_feed_c(&r, ok);
    assert_false(r.c->ops->can_open(r.c));
    rig_fini(&r);
}

static void request_must_be_whole_for_reuse_rule_7_case_22(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "POST", "/", false);
    rig_flush(&r);
    rig_feed_c(&r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_non_null(r.s); /* response end does not end the request */
    assert_false(r.c->ops->can_open(r.c));
    send(&r, "rest", true);
    rig_flush(&r);
    assert_null(r.s);
    assert_true(r.c->ops->can_open(r.c));
    rig_fini(&r);
    /* Bytes after the early response are nobody's. */
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "POST", "/", false);
    rig_flush(&r);
    rig_feed_c(&r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    rig_feed_c(&r, "HTTP/1.1 200 OK\r\n");
    send(&r, "rest", true);
    rig_flush(&r);
    assert_false(r.c->ops->can_open(r.c));
    rig_fini(&r);
    /* The server closes after an early response: the request's sender is told to stop. */
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "POST", "/", false);
    rig_flush(&r);
    rig_feed_c(&r, "HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n");
    r.c->ops->feed_eof(r.c);
    assert_non_null(strstr(rig_log(&r), "413|content-length=0 end\nreset no_error"));
    rig_fini(&r);
    /* Reset by the user. */
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "GET", "/", true);
    r.s->ops->reset(r.s, HTTP_RESET_LOCAL);
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_flush(&r);
    assert_string_equal(rig_log(&r), "close\nidle\n");
    rig_fini(&r);
}

static void premature_end_is_a_reset(void **state)
{
    static const char *in[] = {"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"};
    for (size_t i = 0; i < 4; i++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, false);
        request(&r, "GET", "/", true);
        rig_flush(&r);
        rig_feed_c(&r, in[i]);
        r.c->ops->feed_eof(r.c);
        assert_non_null(strstr(rig_log(&r), "reset connection_termination"));
        assert_null(r.s);
        assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
        rig_fini(&r);
    }
}

static void requests_as_written(void **state)
{
    static const struct {
        const char *method, *path, *body, *sent;
    } t[] = {
        {"GET", "/x?y", NULL, "GET /x?y HTTP/1.1\r\nhost: a\r\n\r\n"},
        {"DELETE", "/", NULL, "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n"},
        {"POST", "/", NULL, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
        {"POST", "/", "hi",
         "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
        {"OPTIONS", "*", NULL, "OPTIONS * HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
        {"CONNECT", "", NULL, "CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n"},
        {"GET", "/chat", NULL,
         "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, false);
        bool open = t[i].body || strcmp(t[i].path, "/chat") == 0 || !*t[i].path;
        request(&r, t[i].method, t[i].path, !open);
        if (t[i].body)
            send(&r, t[i].body, true);
        rig_flush(&r);
        assert_string_equal(rig_sent(&r), t[i].sent);
        rig_fini(&r);
    }
}

static void bad_requests_are_not_sent(void **state)
{
    static const struct {
        const char *method, *authority, *path;
    } t[] = {{"G T", "a", "/"},   {"", "a", "/"},        {"GET", "a", "/ HTTP/1.1\r\nx: y"},
             {"GET", "a b", "/"}, {"GET", "a\r\n", "/"}, {"GET", "a", ""},
             {"GET", "a", "/\n"}, {"CONNECT", "", ""},   {"G\nT", "a", "/"}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct rig r;
        struct http_head m;
        rig_init(&r);
        rig_start(&r, false);
        r.s = r.c->ops->open(r.c, &rig_stream_events, &r);
        http_head_init(&m, r.s->arena);
        m.method = sv_of(t[i].method);
        m.authority = sv_of(t[i].authority);
        m.path = sv_of(t[i].path);
        assert_int_equal(r.s->ops->send_head(r.s, &m, true), E_INVALID);
        assert_int_equal(r.c->out.len, 0);
        rig_fini(&r);
    }
}

static void early_data_is_held_until_the_switch_case_21(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "GET", "/chat", false);
    send(&r, "early", false);
    rig_flush(&r);
    assert_null(strstr(rig_sent(&r), "early"));
    assert_int_equal(r.s->queued, 5);
    rig_clear(&r);
    rig_feed_c(&r, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                   "Upgrade: websocket\r\n\r\nhi");
    assert_string_equal(rig_sent(&r), "early");
    assert_string_equal(rig_log(&r), "101|up=websocket|connection=upgrade|upgrade=websocket\n<hi>");
    assert_true(r.c->switched);
    send(&r, "more", true);
    assert_true(r.c->shut_write);
    r.c->ops->feed_eof(r.c);
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);
}

static void refused_upgrade_drops_early_data_case_21(void **state)
{
    static const char *answers[] = {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
                                    "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"};
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, false);
        request(&r, "GET", "/chat", false);
        send(&r, "GET /evil HTTP/1.1\r\n", false);
        rig_flush(&r);
        rig_clear(&r);
        rig_feed_c(&r, answers[i]);
        assert_string_equal(rig_sent(&r), "");
        assert_non_null(strstr(rig_log(&r), "<no> end\nclose\n"));
        assert_false(r.c->switched);
        assert_false(r.c->ops->can_open(r.c));
        rig_fini(&r);
    }
}

static void connect_needs_2xx_case_21(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "CONNECT", "", false);
    rig_feed_c(&r, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nraw bytes");
    assert_true(r.c->switched);
    assert_string_equal(rig_log(&r), "200|content-length=3\n<raw bytes>");
    rig_fini(&r);
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "CONNECT", "", false);
    rig_feed_c(&r, "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nraw");
    assert_false(r.c->switched);
    assert_false(r.c->ops->can_open(r.c));
    assert_null(r.s);
    rig_fini(&r);
}

static void drain_and_idle_end(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, false);
    r.c->ops->drain(r.c);
    assert_false(r.c->ops->can_open(r.c));
    assert_null(r.c->ops->open(r.c, &rig_stream_events, &r));
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
    rig_init(&r);
    rig_start(&r, false);
    r.c->ops->feed_eof(r.c);
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    assert_false(r.c->ops->can_open(r.c));
    rig_fini(&r);
}

static void drain_ends_with_the_stream(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, false);
    request(&r, "GET", "/", true);
    rig_flush(&r);
    r.c->ops->drain(r.c);
    assert_int_equal(r.c->state, HTTP_CODEC_DRAINING);
    rig_feed_c(&r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_non_null(strstr(rig_log(&r), "200|content-length=0 end\nclose\nidle\n"));
    assert_false(r.open_at_idle);
    assert_int_equal(r.c->state, HTTP_CODEC_DEAD);
    rig_fini(&r);
}

/* ---- both sides, in memory ---- */

static void carry(struct rig *from, struct rig *to, uint32_t *x)
{
    while (from->c->out.len) {
        *x = *x * 1664525u + 1013904223u;
        size_t n = 1 + (*x >> 16) % 3000;
        if (n > from->c->out.len)
            n = from->c->out.len;
        buf_move_n(&to->in, &from->c->out, n);
        from->c->ops->wrote(from->c, n);
        assert_int_equal(to->c->ops->feed(to->c, &to->in), 0);
    }
}

/* The server echoes what it got, with trailers. */
static struct buf echo;
static bool chunked_answers;
static void echo_answer(struct rig *r, struct http_stream *s)
{
    struct http_head m;
    struct http_headers t;
    char len[24];
    http_head_init(&m, s->arena);
    m.status = 200;
    if (!chunked_answers) {
        snprintf(len, sizeof(len), "%zu", echo.len);
        http_headers_add_id(&m.h, HTTP_H_CONTENT_LENGTH, sv_of(len));
    }
    assert_int_equal(s->ops->send_head(s, &m, false), 0);
    if (!chunked_answers) {
        assert_int_equal(s->ops->send_data(s, &echo, true), 0);
        return;
    }
    struct buf half;
    buf_init(&half);
    buf_move_n(&half, &echo, echo.len / 2);
    assert_int_equal(s->ops->send_data(s, &half, false), 0);
    assert_int_equal(s->ops->send_data(s, &echo, false), 0);
    http_headers_init(&t, s->arena);
    http_headers_add(&t, SV("x-end"), SV("yes"));
    assert_int_equal(s->ops->send_trailers(s, &t), 0);
}
static void echo_data(void *user, struct buf *d, bool end)
{
    struct rig *r = user;
    buf_move(&echo, d);
    if (end)
        r->answer(r, r->s);
}
static struct http_stream_events echo_events;
static bool echo_stream(void *user, struct http_stream *s)
{
    struct rig *r = user;
    r->s = s;
    http_stream_set_user(s, &echo_events, r);
    return true;
}

static void client_and_server_round_trips(void **state)
{
    struct rig c, s;
    struct http_codec_events ev = rig_events;
    uint32_t x = 7;
    echo_events = rig_stream_events;
    echo_events.on_data = echo_data;
    ev.on_stream = echo_stream;
    rig_init(&c);
    rig_init(&s);
    c.l.enable_trailers = s.l.enable_trailers = true;
    s.answer = echo_answer;
    rig_start(&c, false);
    s.c = h1_server_new(&s.l, &ev, &s);
    buf_init(&echo);
    for (int round = 0; round < 300; round++) {
        size_t n = round % 3 ? (x >> 8) % 60000 : (x >> 8) % 20;
        char *body = malloc(n + 1);
        for (size_t i = 0; i < n; i++)
            body[i] = (char)('a' + (i * 7 + (size_t)round) % 26);
        body[n] = 0;
        chunked_answers = round & 1;
        rig_clear(&c);
        request(&c, "POST", "/echo", false);
        send(&c, body, false);
        carry(&c, &s, &x);
        send(&c, "", true);
        carry(&c, &s, &x);
        carry(&s, &c, &x);
        const char *log = rig_log(&c), *lt = strchr(log, '<'), *gt = strrchr(log, '>');
        if (n) {
            assert_int_equal(gt - lt - 1, n);
            assert_memory_equal(lt + 1, body, n);
        }
        assert_non_null(
            strstr(log, round & 1 ? " trailers|x-end=yes\nclose\nidle\n" : " end\nclose\nidle\n"));
        assert_true(c.c->ops->can_open(c.c));
        assert_null(s.s);
        free(body);
    }
    assert_int_equal(s.c->streams_total, 300);
    buf_reset(&echo);
    rig_fini(&c);
    rig_fini(&s);
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(good_responses_in_every_split),
        T(bad_responses_case_14_16_42),
        T(informational_flood_case_42),
        T(nothing_else_may_arrive_rule_7),
        T(request_must_be_whole_for_reuse_rule_7_case_22),
        T(premature_end_is_a_reset),
        T(requests_as_written),
        T(bad_requests_are_not_sent),
        T(early_data_is_held_until_the_switch_case_21),
        T(refused_upgrade_drops_early_data_case_21),
        T(connect_needs_2xx_case_21),
        T(drain_and_idle_end),
        T(drain_ends_with_the_stream),
        T(client_and_server_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
