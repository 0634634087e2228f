/* Calls between our client and our server in memory: unary and streams, deadlines, statuses,
 * metadata, cancellation from either side, backpressure, and raw HTTP answers that are no gRPC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "api/grpc.pb.h"
#include "grpc/grpc_testlib.h"

#define ECHO  "/test.Echo/Stream"
#define UNARY "/test.Echo/Unary"

/* ---- a log of what each side was told ---- */

struct side {
    struct strbuf log;
    struct grpc_call *call;
    unsigned messages, dones;
    size_t bytes;
    int code;
    bool cancel_on_message, echo, cancel_on_done, pause_each;
};

static void on_headers(void *user, const struct http_headers *h)
{
    struct side *t = user;
    strbuf_add_c(&t->log, "headers");
    sv v = http_headers_get_sv(h, SV("x-initial"));
    if (v.p)
        strbuf_addf(&t->log, " x-initial=%.*s", SV_ARG(v));
    strbuf_add_c(&t->log, ";");
}

static void on_message(void *user, struct buf *msg, sv bytes)
{
    struct side *t = user;
    assert_int_equal(msg->len, bytes.n);
    t->messages++;
    t->bytes += bytes.n;
    if (bytes.n < 40)
        strbuf_addf(&t->log, "msg %.*s;", SV_ARG(bytes));
    if (t->pause_each)
        grpc_pause(t->call, true);
    if (t->echo)
        grpc_send(t->call, bytes);
    if (t->cancel_on_message)
        grpc_cancel(t->call);
}

static void on_half_close(void *user)
{
    struct side *t = user;
    strbuf_add_c(&t->log, "half;");
    if (t->echo)
        grpc_finish(t->call, GRPC_OK, SV(""), NULL);
}

static void on_writable(void *user)
{
    strbuf_add_c(&((struct side *)user)->log, "writable;");
}

static void on_done(void *user, const struct grpc_result *r)
{
    struct side *t = user;
    t->dones++;
    t->code = r->code;
    strbuf_addf(&t->log, "done %s '%.*s'", grpc_code_text(r->code), SV_ARG(r->message));
    sv v = r->trailers ? http_headers_get_sv(r->trailers, SV("x-trailer")) : (sv){NULL, 0};
    if (v.p)
        strbuf_addf(&t->log, " x-trailer=%.*s", SV_ARG(v));
    strbuf_add_c(&t->log, ";");
    if (t->cancel_on_done)
        grpc_cancel(t->call);
    t->call = NULL;
}

static const struct grpc_call_events events = {.on_headers = on_headers,
                                               .on_message = on_message,
                                               .on_half_close = on_half_close,
                                               .on_writable = on_writable,
                                               .on_done = on_done};

struct rig {
    struct wire w;
    struct grpc_server *srv;
    struct side client, server;
    int handled;
};

static void echo_handler(void *user, struct grpc_call *c)
{
    struct rig *r = user;
    r->handled++;
    r->server.call = c;
    grpc_call_set_events(c, &events, &r->server);
}

static void unary_handler(void *user, struct grpc_call *c, sv request)
{
    struct rig *r = user;
    char out[64];
    int n = snprintf(out, sizeof out, "got %.*s", SV_ARG(sv_first(request, 40)));
    r->handled++;
    grpc_respond(c, sv_make(out, (size_t)n));
}

static void rig_init(struct rig *r, const struct http_limits *cl, const struct http_limits *sl)
{
    memset(r, 0, sizeof *r);
    strbuf_init(&r->client.log, 1 << 20);
    strbuf_init(&r->server.log, 1 << 20);
    r->srv = grpc_server_new(0);
    grpc_server_add_method(r->srv, ECHO, echo_handler, r);
    grpc_server_add_unary(r->srv, UNARY, unary_handler, r);
    wire_init(&r->w, cl, sl, grpc_server_accept, r->srv);
}

static void rig_fini(struct rig *r)
{
    wire_cut(&r->w);
    wire_run(&r->w);
    assert_int_equal(grpc_server_calls(r->srv), 0);
    grpc_server_free(r->srv);
    wire_fini(&r->w);
    strbuf_fini(&r->client.log);
    strbuf_fini(&r->server.log);
}

static void start(struct rig *r, const char *path, const struct grpc_opts *o)
{
    r->client.call = grpc_call_start(&r->w.ch, sv_of(path), NULL, o, &events, &r->client);
}

#define LOG(side, text) assert_string_equal((side).log.n ? (side).log.p : "", text)

/* ---- the usual ---- */

static void test_bidi(void **state)
{
    for (size_t piece = 1; piece < 100; piece += 7) {
        struct rig r;
        rig_init(&r, NULL, NULL);
        r.w.piece = piece;
        r.server.echo = true;
        start(&r, ECHO, NULL);
        assert_int_equal(grpc_send(r.client.call, SV("one")), 0);
        wire_run(&r.w);
        LOG(r.client, "headers;msg one;");
        assert_int_equal(grpc_send(r.client.call, SV("")), 0);
        assert_int_equal(grpc_send(r.client.call, SV("three")), 0);
        grpc_half_close(r.client.call);
        assert_int_equal(grpc_send(r.client.call, SV("late")), E_CLOSED);
        wire_run(&r.w);
        LOG(r.client, "headers;msg one;msg ;msg three;done OK '';");
        LOG(r.server, "msg one;msg ;msg three;half;done OK '';");
        rig_fini(&r);
    }
}

static char answer_text[64];
static int answer_code;
static void on_answer(void *user, const struct grpc_result *r, sv answer)
{
    answer_code = r->code;
    snprintf(answer_text, sizeof answer_text, "%.*s", SV_ARG(answer));
}

static void test_unary(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    answer_code = -1;
    grpc_unary(&r.w.ch, SV(UNARY), NULL, NULL, SV("question"), on_answer, NULL);
    assert_int_equal(answer_code, -1);
    wire_run(&r.w);
    assert_int_equal(answer_code, GRPC_OK);
    assert_string_equal(answer_text, "got question");
    /* Held until there is a connection. */
    r.w.hold = true;
    answer_code = -1;
    grpc_unary(&r.w.ch, SV(UNARY), NULL, NULL, SV("later"), on_answer, NULL);
    wire_run(&r.w);
    assert_int_equal(answer_code, -1);
    wire_release(&r.w);
    wire_run(&r.w);
    assert_string_equal(answer_text, "got later");
    /* No connection. */
    r.w.fail = true;
    grpc_unary(&r.w.ch, SV(UNARY), NULL, NULL, SV("x"), on_answer, NULL);
    wire_run(&r.w);
    assert_int_equal(answer_code, GRPC_UNAVAILABLE);
    assert_int_equal(r.handled, 2);
    rig_fini(&r);
}

static void test_unary_wrong_counts(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    start(&r, UNARY, NULL);
    grpc_half_close(r.client.call);
    wire_run(&r.w);
    LOG(r.client, "done INTERNAL 'no request message';");
    strbuf_reset(&r.client.log);
    start(&r, UNARY, NULL);
    grpc_send(r.client.call, SV("a"));
    grpc_send(r.client.call, SV("b"));
    wire_run(&r.w);
    LOG(r.client, "done INTERNAL 'more than one request message';");
    assert_int_equal(r.handled, 0);
    /* A client that expects one answer and gets two. */
    r.server.echo = true;
    struct grpc_call *c = grpc_unary(&r.w.ch, SV(ECHO), NULL, NULL, SV("x"), on_answer, NULL);
    (void)c;
    wire_step(&r.w);
    if (r.server.call)
        grpc_send(r.server.call, SV("second"));
    wire_run(&r.w);
    rig_fini(&r);
}

static void test_status_and_metadata(void **state)
{
    struct rig r;
    struct http_headers h;
    struct arena a;
    arena_init(&a);
    rig_init(&r, NULL, NULL);
    start(&r, ECHO, NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    const struct http_head *m = grpc_call_head(r.server.call);
    assert_true(sv_eq(m->path, SV(ECHO)));
    assert_true(sv_eq(m->authority, SV("test.local")));
    assert_true(sv_eq(http_headers_get(&m->h, HTTP_H_TE), SV("trailers")));
    assert_ptr_equal(grpc_call_peer(r.server.call), &r.w.peer);
    http_headers_init(&h, &a);
    http_headers_add(&h, SV("x-initial"), SV("1"));
    assert_int_equal(grpc_send_headers(r.server.call, &h), 0);
    assert_int_equal(grpc_send_headers(r.server.call, &h), E_INVALID);
    http_headers_init(&h, &a);
    http_headers_add(&h, SV("x-trailer"), SV("2"));
    grpc_finish(r.server.call, GRPC_FAILED_PRECONDITION, SV("50% \xc3\xa9\n"), &h);
    grpc_finish(r.server.call, GRPC_OK, SV("no"), NULL);
    assert_int_equal(grpc_send(r.server.call, SV("late")), E_CLOSED);
    wire_run(&r.w);
    LOG(r.client, "headers x-initial=1;done FAILED_PRECONDITION '50% \xc3\xa9\n' x-trailer=2;");
    /* Trailers only. */
    strbuf_reset(&r.client.log);
    start(&r, "/test.Echo/None", NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    LOG(r.client, "done UNIMPLEMENTED 'unknown method /test.Echo/None';");
    assert_int_equal(r.w.client->streams, 0);
    assert_int_equal(r.w.server->streams, 0);
    arena_free(&a);
    rig_fini(&r);
}

/* ---- ends ---- */

static void turn_for(struct rig *r, unsigned ms)
{
    uint64_t end = loop_clock_ns(r->w.loop) + ms * 1000000ull;
    while (loop_clock_ns(r->w.loop) < end) {
        wire_run(&r->w);
        loop_turn(r->w.loop, 1000000);
    }
    wire_run(&r->w);
}

static void test_deadlines(void **state)
{
    struct rig r;
    struct grpc_opts o = {.timeout_ms = 30};
    rig_init(&r, NULL, NULL);
    start(&r, ECHO, &o);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    assert_in_range(grpc_call_time_left_ms(r.server.call), 1, 30);
    turn_for(&r, 60);
    assert_int_equal(r.client.code, GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(r.client.dones, 1);
    assert_int_equal(r.server.dones, 1);
    assert_true(r.server.code == GRPC_DEADLINE_EXCEEDED || r.server.code == GRPC_CANCELLED);
    /* While connecting. */
    r.w.hold = true;
    start(&r, ECHO, &o);
    turn_for(&r, 60);
    assert_int_equal(r.client.dones, 2);
    assert_int_equal(r.client.code, GRPC_DEADLINE_EXCEEDED);
    assert_true(list_empty(&r.w.waiting));
    rig_fini(&r);
}

static void test_cancel(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    start(&r, ECHO, NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    grpc_cancel(r.client.call);
    wire_run(&r.w);
    LOG(r.client, "");
    LOG(r.server, "msg x;done CANCELLED 'stream reset: remote_cancel (http2.remote_reset)';");
    /* By the server: the client sees an end. */
    start(&r, ECHO, NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    grpc_cancel(r.server.call);
    wire_run(&r.w);
    assert_int_equal(r.client.code, GRPC_UNAVAILABLE);
    /* Inside a message, of several. */
    r.server.cancel_on_message = true;
    start(&r, ECHO, NULL);
    for (int i = 0; i < 5; i++)
        grpc_send(r.client.call, SV("y"));
    r.server.messages = 0;
    wire_run(&r.w);
    assert_int_equal(r.server.messages, 1);
    /* Before the stream is there; inside on_done. */
    r.w.hold = true;
    start(&r, ECHO, NULL);
    grpc_cancel(r.client.call);
    r.client.cancel_on_done = true;
    r.w.hold = false;
    r.w.fail = true;
    start(&r, ECHO, NULL);
    wire_run(&r.w);
    assert_int_equal(r.client.code, GRPC_UNAVAILABLE);
    rig_fini(&r);
}

static void test_connection_cut(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    start(&r, ECHO, NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    struct grpc_call *c = r.server.call;
    wire_cut(&r.w);
    /* on_done was not called from inside: both are still there until the loop turns. */
    assert_int_equal(r.client.dones + r.server.dones, 0);
    assert_null(grpc_call_peer(c));
    assert_int_equal(grpc_send(c, SV("y")), E_CLOSED);
    wire_run(&r.w);
    assert_int_equal(r.client.code, GRPC_UNAVAILABLE);
    assert_int_equal(r.server.code, GRPC_CANCELLED);
    assert_int_equal(r.client.dones, 1);
    rig_fini(&r);
}

static void test_shutdown(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    start(&r, ECHO, NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    grpc_server_shutdown(r.srv, "going away");
    wire_run(&r.w);
    LOG(r.client, "done UNAVAILABLE 'going away';");
    start(&r, ECHO, NULL);
    wire_run(&r.w);
    LOG(r.client, "done UNAVAILABLE 'going away';done UNAVAILABLE 'going away';");
    rig_fini(&r);
    /* Freed with calls under way. */
    rig_init(&r, NULL, NULL);
    start(&r, ECHO, NULL);
    grpc_send(r.client.call, SV("x"));
    wire_run(&r.w);
    grpc_server_free(r.srv);
    wire_run(&r.w);
    assert_int_equal(r.server.dones, 0);
    assert_int_equal(r.client.dones, 1);
    r.srv = grpc_server_new(0);
    rig_fini(&r);
}

/* ---- flow ---- */

static void test_backpressure(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.initial_stream_window = 65535;
    l.initial_conn_window = 65535;
    l.high_watermark = 100000;
    l.low_watermark = 50000;
    struct rig r;
    rig_init(&r, &l, &l);
    start(&r, ECHO, NULL);
    wire_run(&r.w);
    grpc_pause(r.server.call, true);
    static char big[20000];
    int sent = 0;
    while (grpc_writable(r.client.call) && sent < 1000) {
        grpc_send(r.client.call, sv_make(big, sizeof big));
        wire_run(&r.w);
        sent++;
    }
    /* A window of 65,535 and a high mark of 100,000 hold about eight. */
    assert_in_range(sent, 6, 12);
    assert_int_equal(r.server.messages, 0);
    grpc_pause(r.server.call, false);
    wire_run(&r.w);
    assert_int_equal(r.server.messages, sent);
    LOG(r.client, "writable;");
    assert_true(grpc_writable(r.client.call));
    grpc_cancel(r.client.call);
    rig_fini(&r);
}

/* What is queued before there is a stream counts, too; when it has gone out it is told. */
static void test_queue_before_stream(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    r.w.hold = true;
    start(&r, ECHO, NULL);
    static char big[20000];
    int sent = 0;
    for (; grpc_writable(r.client.call); sent++)
        grpc_send(r.client.call, sv_make(big, sizeof big));
    assert_int_equal(sent, 53);
    wire_release(&r.w);
    assert_true(grpc_writable(r.client.call));
    LOG(r.client, "writable;");
    wire_run(&r.w);
    assert_int_equal(r.server.messages, sent);
    rig_fini(&r);
}

/* Paused after each message; the end waits for them all. */
static void test_pause_each(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    r.server.echo = true;
    r.client.pause_each = true;
    start(&r, ECHO, NULL);
    for (int i = 0; i < 4; i++)
        grpc_send(r.client.call, SV("m"));
    grpc_half_close(r.client.call);
    wire_run(&r.w);
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(r.client.messages, i);
        assert_int_equal(r.client.dones, 0);
        grpc_pause(r.client.call, false);
        wire_run(&r.w);
    }
    assert_int_equal(r.client.dones, 1);
    assert_int_equal(r.client.code, GRPC_OK);
    rig_fini(&r);
}

static void test_large_messages(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    struct grpc_opts o = {.max_message_bytes = 1 << 20};
    r.server.echo = true;
    start(&r, ECHO, &o);
    size_t n = 1 << 20;
    char *big = calloc(1, n + 1);
    grpc_send(r.client.call, sv_make(big, n));
    wire_run(&r.w);
    assert_int_equal(r.client.bytes, n);
    grpc_send(r.client.call, sv_make(big, n + 1));
    wire_run(&r.w);
    assert_int_equal(r.client.code, GRPC_RESOURCE_EXHAUSTED);
    /* The server's limit: 4 MB. */
    char *huge = calloc(1, 4 * n + 1);
    strbuf_reset(&r.client.log);
    start(&r, ECHO, &o);
    grpc_send(r.client.call, sv_make(huge, 4 * n + 1));
    wire_run(&r.w);
    LOG(r.client, "done RESOURCE_EXHAUSTED 'message larger than the limit';");
    free(big);
    free(huge);
    rig_fini(&r);
}

/* ---- peers that are not ours: raw bytes and heads through the codec ---- */

struct raw {
    uint16_t status;
    const char *type, *grpc_status, *message;
    bool head_only;
    const char *body;
    size_t body_n;
    const char *trailer_status;
    bool end_with_data, reset;
};

static bool raw_accept(void *user, struct http_stream *s, struct http_head *head, bool end,
                       const struct serve_peer *peer)
{
    static const struct http_stream_events none;
    const struct raw *x = user;
    struct http_head m;
    struct http_headers t;
    struct buf b;
    http_stream_set_user(s, &none, NULL);
    http_head_init(&m, s->arena);
    http_headers_init(&t, s->arena);
    buf_init(&b);
    m.status = x->status;
    if (x->type)
        http_headers_add_id(&m.h, HTTP_H_CONTENT_TYPE, sv_of(x->type));
    if (x->grpc_status)
        http_headers_add_id(&m.h, HTTP_H_GRPC_STATUS, sv_of(x->grpc_status));
    if (x->message)
        http_headers_add_id(&m.h, HTTP_H_GRPC_MESSAGE, sv_of(x->message));
    s->ops->send_head(s, &m, x->head_only);
    if (x->head_only)
        return true;
    buf_append(&b, x->body, x->body_n);
    s->ops->send_data(s, &b, x->end_with_data);
    if (x->end_with_data)
        return true;
    if (x->reset) {
        s->ops->reset(s, HTTP_RESET_LOCAL);
        return true;
    }
    if (x->trailer_status)
        http_headers_add_id(&t, HTTP_H_GRPC_STATUS, sv_of(x->trailer_status));
    s->ops->send_trailers(s, &t);
    return true;
}

#define G "application/grpc"

static void test_foreign_servers(void **state)
{
    static const struct {
        const char *name;
        struct raw x;
        const char *log;
    } cases[] = {
#define M(text) .body = text, .body_n = sizeof(text) - 1
        {"fine",
         {200, G "+proto", .trailer_status = "0", M("\0\0\0\0\2hi")},
         "headers;msg hi;done OK '';"},
        {"trailers only",
         {200, G, "5", "no%20such", .head_only = true},
         "done NOT_FOUND 'no such';"},
        {"39: trailers only without status",
         {200, G, .head_only = true},
         "done UNKNOWN 'HTTP status 200 without grpc-status';"},
        {"39: status that is no number", {200, G, "abc", .head_only = true}, "done UNKNOWN '';"},
        {"39: status overflow",
         {200, G, "99999999999999999999", .head_only = true},
         "done UNKNOWN '';"},
        {"503",
         {503, "text/plain", .head_only = true},
         "done UNAVAILABLE 'HTTP status 503 without grpc-status';"},
        {"404 with a body",
         {404, "text/html", M("<html>")},
         "done UNIMPLEMENTED 'HTTP status 404';"},
        {"200 that is no gRPC",
         {200, "text/html", M("<html>")},
         "done UNKNOWN 'not a gRPC response: content-type 'text/html'';"},
        {"no status in the trailers",
         {200, G, M("\0\0\0\0\2hi")},
         "headers;msg hi;done UNKNOWN 'HTTP status 200 without grpc-status';"},
        {"no trailers",
         {200, G, .end_with_data = true, M("\0\0\0\0\2hi")},
         "headers;msg hi;done UNKNOWN 'the response ended without a status';"},
        {"cut message",
         {200, G, .trailer_status = "0", M("\0\0\0\0\5hi")},
         "headers;done INTERNAL 'malformed message frame';"},
        {"cut message of a failed call",
         {200, G, .trailer_status = "8", M("\0\0\0\0\5hi")},
         "headers;done RESOURCE_EXHAUSTED '';"},
        {"compressed",
         {200, G, .trailer_status = "0", M("\1\0\0\0\2hi")},
         "headers;done UNIMPLEMENTED 'compressed messages are not supported';"},
        {"bad flag",
         {200, G, .trailer_status = "0", M("\7\0\0\0\2hi")},
         "headers;done INTERNAL 'malformed message frame';"},
        {"39: length that lies",
         {200, G, .trailer_status = "0", M("\0\377\377\377\377hi")},
         "headers;done RESOURCE_EXHAUSTED 'message larger than the limit';"},
        {"reset",
         {200, G, .reset = true, M("\0\0\0\0\2hi")},
         "headers;msg hi;done UNAVAILABLE 'stream reset: remote_reset (http2.remote_reset)';"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece < 2000; piece *= 3) {
            struct rig r;
            rig_init(&r, NULL, NULL);
            r.w.accept = raw_accept;
            r.w.accept_user = (void *)(uintptr_t)&cases[i].x;
            r.w.piece = piece;
            start(&r, ECHO, NULL);
            wire_run(&r.w);
            const char *log = r.client.log.n ? r.client.log.p : "";
            if (strcmp(log, cases[i].log) != 0)
                fail_msg("%s: %s", cases[i].name, log);
            assert_int_equal(r.w.client->streams, 0);
            rig_fini(&r);
        }
}

/* Requests that are no proper gRPC. */
static unsigned got_status;
static char got_grpc_status[8];
static void raw_head(void *user, struct http_head *m, bool end)
{
    got_status = m->status;
    sv v = http_headers_get(&m->h, HTTP_H_GRPC_STATUS);
    snprintf(got_grpc_status, sizeof got_grpc_status, "%.*s", SV_ARG(v));
}

static void raw_request(struct rig *r, const char *method, const char *type, const char *timeout,
                        sv body)
{
    static const struct http_stream_events ev = {.on_head = raw_head};
    struct http_stream *s = r->w.client->ops->open(r->w.client, &ev, NULL);
    struct http_head m;
    struct buf b;
    http_head_init(&m, s->arena);
    m.method = sv_of(method);
    m.scheme = SV("http");
    m.authority = SV("a");
    m.path = SV(ECHO);
    if (type)
        http_headers_add_id(&m.h, HTTP_H_CONTENT_TYPE, sv_of(type));
    if (timeout)
        http_headers_add_id(&m.h, HTTP_H_GRPC_TIMEOUT, sv_of(timeout));
    got_status = 0;
    got_grpc_status[0] = 0;
    s->ops->send_head(s, &m, false);
    buf_init(&b);
    buf_append_sv(&b, body);
    s->ops->send_data(s, &b, true);
    wire_run(&r->w);
}

static void test_foreign_clients(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    raw_request(&r, "POST", "text/plain", NULL, SV(""));
    assert_int_equal(got_status, 404); /* not taken: the wire answers */
    raw_request(&r, "GET", G, NULL, SV(""));
    assert_int_equal(got_status, 405);
    raw_request(&r, "POST", G, "soon", SV(""));
    assert_int_equal(got_status, 200);
    assert_string_equal(got_grpc_status, "13");
    assert_int_equal(r.handled, 0);
    /* 39: a timeout for ever */
    r.server.echo = true;
    raw_request(&r, "POST", G, "99999999999H", SV("\0\0\0\0\1x"));
    LOG(r.server, "msg x;half;done OK '';");
    strbuf_reset(&r.server.log);
    raw_request(&r, "POST", G, NULL, SV("\1\0\0\0\1x"));
    assert_string_equal(got_grpc_status, "12");
    raw_request(&r, "POST", G, NULL, SV("\0\0\0\0\7x"));
    assert_string_equal(got_grpc_status, "13");
    raw_request(&r, "POST", G, NULL, SV("\0\377\0\0\7x"));
    assert_string_equal(got_grpc_status, "8");
    rig_fini(&r);
}

/* ---- health ---- */

static int32_t health_of(sv packed)
{
    struct arena a;
    void *m;
    arena_init(&a);
    assert_int_equal(pb_decode(&grpc_HealthCheckResponse_pb, packed, &a, NULL, &m, NULL), 0);
    int32_t status = ((struct grpc_HealthCheckResponse *)m)->status;
    arena_free(&a);
    return status;
}

static int32_t health_status;
static void on_health(void *user, const struct grpc_result *r, sv answer)
{
    answer_code = r->code;
    health_status = answer.p ? health_of(answer) : -1;
}
static void on_watch(void *user, struct buf *msg, sv bytes)
{
    strbuf_addf(user, "%d;", health_of(bytes));
}

static void ask_health(struct rig *r, const char *service)
{
    struct strbuf b;
    struct grpc_HealthCheckRequest q = {.service = sv_of(service)};
    strbuf_init(&b, 1000);
    pb_encode(&grpc_HealthCheckRequest_pb, &q, &b);
    grpc_unary(&r->w.ch, SV(grpc_Health_Check_PATH), NULL, NULL, strbuf_sv(&b), on_health, NULL);
    strbuf_fini(&b);
    wire_run(&r->w);
}

static void test_health(void **state)
{
    struct rig r;
    rig_init(&r, NULL, NULL);
    struct grpc_health *h = grpc_health_new(r.srv);
    ask_health(&r, "");
    assert_int_equal(health_status, grpc_HealthCheckResponse_SERVING);
    ask_health(&r, "books");
    assert_int_equal(answer_code, GRPC_NOT_FOUND);
    grpc_health_set(h, SV("books"), false);
    ask_health(&r, "books");
    assert_int_equal(health_status, grpc_HealthCheckResponse_NOT_SERVING);

    static const struct grpc_call_events watch = {.on_message = on_watch};
    struct strbuf log;
    strbuf_init(&log, 1000);
    struct grpc_call *c =
        grpc_call_start(&r.w.ch, SV(grpc_Health_Watch_PATH), NULL, NULL, &watch, &log);
    grpc_send(c, SV("\x0a\x04zoos"));
    wire_run(&r.w);
    assert_string_equal(log.p, "3;");
    grpc_health_set(h, SV("zoos"), true);
    grpc_health_set(h, SV("books"), true);
    wire_run(&r.w);
    grpc_health_set(h, SV("zoos"), false);
    wire_run(&r.w);
    assert_string_equal(log.p, "3;1;2;");
    grpc_cancel(c);
    wire_run(&r.w);
    grpc_health_set(h, SV("zoos"), true);
    /* A watcher that is there when the service goes. */
    c = grpc_call_start(&r.w.ch, SV(grpc_Health_Watch_PATH), NULL, NULL, &watch, &log);
    grpc_send(c, SV(""));
    wire_run(&r.w);
    grpc_health_free(h);
    wire_run(&r.w);
    assert_string_equal(log.p, "3;1;2;1;");
    strbuf_fini(&log);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bidi),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_unary_wrong_counts),
        cmocka_unit_test(test_status_and_metadata),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_connection_cut),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_queue_before_stream),
        cmocka_unit_test(test_pause_each),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_foreign_servers),
        cmocka_unit_test(test_foreign_clients),
        cmocka_unit_test(test_health),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
