/* Client and server with each other on loopback: HTTP/1 and HTTP/2, plain and TLS, calls, streams
 * in both directions, failures of every step. */
#include <arpa/inet.h>
#include "net/resolver.h"
#include "serve/serve_test.h"

static struct serve_request *kept;
static int gone;

static void on_gone(struct serve_request *r)
{
    gone++;
    kept = NULL;
}

static void handler(void *user, struct serve_request *r)
{
    if (sv_eq(r->path, SV("/echo")))
        serve_reply(r, 200, "text/x", r->body);
    else if (sv_eq(r->path, SV("/host")))
        serve_reply_text(r, 200, "%.*s %.*s", SV_ARG(r->head->authority),
                         SV_ARG(http_headers_get_sv(&r->head->h, SV("x-test"))));
    else if (sv_eq(r->path, SV("/keep")))
        (kept = r)->on_gone = on_gone;
    else
        serve_reply_text(r, 404, "no\n");
}

/* What each protocol has in common. */
struct kind {
    const char *name;
    enum serve_protocol protocol;
    bool tls;
    enum http_protocol spoken;
};
static const struct kind kinds[] = {
    {"HTTP/1", SERVE_HTTP1, false, HTTP_11},       {"HTTP/2", SERVE_HTTP2, false, HTTP_2},
    {"HTTP/1 in TLS", SERVE_HTTP1, true, HTTP_11}, {"HTTP/2 in TLS", SERVE_HTTP2, true, HTTP_2},
    {"either", SERVE_AUTO, false, HTTP_11},        {"either in TLS", SERVE_AUTO, true, HTTP_2},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void start(struct site *t, struct serve_client **c, const struct kind *k,
                  struct serve_client_opts co)
{
    struct serve_server_opts so = {.tls_ctx = k->tls ? server_ctx : NULL};
    site_start(t, &so, handler, NULL);
    co.protocol = k->protocol;
    if (k->tls) {
        if (!co.tls_ctx)
            co.tls_ctx = client_ctx;
        co.authority = SV("localhost");
    }
    *c = client_to(site_addr(t), co);
}

static void calls_of_every_kind(void **state)
{
    struct strbuf big;
    strbuf_init(&big, 8 << 20);
    for (int i = 0; i < 300000; i++)
        strbuf_addf(&big, "%09d ", i);
    for (size_t i = 0; i < KINDS; i++) {
        struct site t;
        struct serve_client *c;
        struct outcome o;
        start(&t, &c, &kinds[i], (struct serve_client_opts){0});
        t.h.max_body = 8 << 20;
        for (int round = 0; round < 3; round++) {
            call_start(&o, c,
                       (struct serve_call_opts){.method = SV("POST"),
                                                .path = SV("/echo?x"),
                                                .body = round ? strbuf_sv(&big) : SV("hi"),
                                                .content_type = SV("a/b"),
                                                .timeout_ms = 10000});
            call_wait(&o);
            assert_string_equal(o.details, "");
            assert_int_equal(o.code, 0);
            assert_int_equal(o.status, 200);
            assert_body(&o, round ? big.p : "hi");
            assert_string_equal(o.type.p, "text/x");
            assert_int_equal(o.protocol, kinds[i].spoken);
            call_fini(&o);
        }
        struct http_header h = {.name = SV_INIT("x-test"), .value = SV_INIT("v")};
        call_start(&o, c,
                   (struct serve_call_opts){.path = SV("/host"),
                                            .authority = SV("other.example"),
                                            .headers = &h,
                                            .n_headers = 1});
        call_wait(&o);
        assert_body(&o, "other.example v");
        call_fini(&o);
        assert_int_equal(serve_client_connects(c), 1);
        assert_true(serve_client_connected(c));
        assert_string_equal(serve_client_error(c), "");
        assert_string_equal(serve_client_channel(c)->scheme.p, kinds[i].tls ? "https" : "http");
        serve_client_free(c);
        serve_server_free(t.s);
        turn_ms(5);
    }
    strbuf_fini(&big);
}

static void many_calls_at_once(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        struct site t;
        struct serve_client *c;
        struct outcome o[50];
        start(&t, &c, &kinds[i], (struct serve_client_opts){.max_conns = 4});
        for (int n = 0; n < 50; n++)
            call_start(&o[n], c,
                       (struct serve_call_opts){.method = SV("POST"),
                                                .path = SV("/echo"),
                                                .body = SV("x"),
                                                .timeout_ms = 10000});
        for (int n = 0; n < 50; n++) {
            call_wait(&o[n]);
            assert_int_equal(o[n].code, 0);
            assert_body(&o[n], "x");
            call_fini(&o[n]);
        }
        assert_in_range(serve_client_connects(c), 1, kinds[i].spoken == HTTP_2 ? 1 : 4);
        serve_client_free(c);
        serve_server_free(t.s);
        turn_ms(5);
    }
}

/* ---- failures ---- */

static void refused_and_unknown(void **state)
{
    struct site t;
    struct serve_client *c;
    struct outcome o;
    struct addr dead;
    struct error e = {0};
    site_start(&t, NULL, handler, NULL);
    dead = *site_addr(&t);
    serve_server_free(t.s);
    c = client_to(&dead, (struct serve_client_opts){0});
    for (int i = 0; i < 2; i++) {
        call_start(&o, c, (struct serve_call_opts){.path = SV("/")});
        call_wait(&o);
        assert_int_equal(o.code, E_REFUSED);
        assert_non_null(strstr(o.details, "127.0.0.1:"));
        assert_non_null(strstr(o.details, "refused"));
        assert_int_equal(o.status, 0);
        call_fini(&o);
    }
    assert_false(serve_client_connected(c));
    serve_client_free(c);

    static const char *bad[] = {"", "host", "host:0", "u@h:1", "unix:", "h:99999", "name:80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct serve_client_opts co = {.loop = loop, .target = sv_of(bad[i])};
        assert_null(serve_client_new(&co, &e));
        assert_int_equal(e.code, E_INVALID);
    }
}

static void names_are_resolved_and_addresses_tried(void **state)
{
    struct site t;
    struct serve_client *c;
    struct outcome o;
    char target[64];
    /* Nobody listens on 127.0.0.2: the next address has to be tried. */
    static const char *const entries[] = {"svc.test=127.0.0.2,127.0.0.1"};
    struct resolver *r = resolver_new_static(loop, entries, 1);
    site_start(&t, NULL, handler, NULL);
    snprintf(target, sizeof(target), "svc.test:%u", addr_port(site_addr(&t)));
    c = client_to(NULL, (struct serve_client_opts){.target = sv_of(target), .resolver = r});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/host")});
    call_wait(&o);
    assert_int_equal(o.code, 0);
    assert_true(sv_starts(strbuf_sv(&o.body), SV("svc.test:")));
    call_fini(&o);
    serve_client_free(c);

    c = client_to(NULL, (struct serve_client_opts){.target = SV("gone.test:80"), .resolver = r});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/host")});
    call_wait(&o);
    assert_int_equal(o.code, E_REFUSED);
    assert_non_null(strstr(o.details, "\"gone.test\" does not resolve"));
    call_fini(&o);
    serve_client_free(c);
    serve_server_free(t.s);
    resolver_free(r);
}

/* A listener whose connections are never accepted by anybody who answers. */
static int silent_listener(struct addr *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(in);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    addr_from_sockaddr(a, (struct sockaddr *)&in, n);
    return fd;
}

static void time_runs_out_at_every_step(void **state)
{
    struct addr a;
    int fd = silent_listener(&a);
    struct outcome o;
    /* The handshake. */
    struct serve_client *c = client_to(&a, (struct serve_client_opts){.tls_ctx = client_ctx,
                                                                      .authority = SV("localhost"),
                                                                      .times = {.connect_ms = 80}});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/")});
    call_wait(&o);
    assert_int_equal(o.code, E_REFUSED);
    assert_non_null(strstr(o.details, "timed out"));
    call_fini(&o);
    /* The wait for a connection is part of the call's time. */
    call_start(&o, c, (struct serve_call_opts){.path = SV("/"), .timeout_ms = 30});
    call_wait(&o);
    assert_int_equal(o.code, E_TIMEOUT);
    assert_string_equal(o.details, "timed out waiting for a connection");
    call_fini(&o);
    serve_client_free(c);
    /* The response. */
    c = client_to(&a, (struct serve_client_opts){0});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/"), .timeout_ms = 50});
    call_wait(&o);
    assert_int_equal(o.code, E_TIMEOUT);
    assert_string_equal(o.details, "timed out waiting for the response");
    call_fini(&o);
    serve_client_free(c);
    close(fd);
}

static void silent_http2_peers_are_noticed(void **state)
{
    struct addr a;
    int fd = silent_listener(&a);
    struct outcome o;
    struct serve_client *c =
        client_to(&a, (struct serve_client_opts){
                          .protocol = SERVE_HTTP2,
                          .times = {.connect_ms = 1000, .ping_ms = 40, .ping_timeout_ms = 60}});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/")});
    call_wait(&o);
    assert_int_equal(o.code, E_RESET);
    assert_string_equal(o.details, "keepalive_timeout");
    assert_string_equal(serve_client_error(c), "keepalive_timeout");
    assert_false(serve_client_connected(c));
    call_fini(&o);
    serve_client_free(c);
    close(fd);
}

static void answered_pings_keep_the_connection(void **state)
{
    struct site t;
    struct serve_client *c;
    struct outcome o;
    start(&t, &c, &kinds[1],
          (struct serve_client_opts){
              .times = {.connect_ms = 1000, .ping_ms = 20, .ping_timeout_ms = 500}});
    kept = NULL;
    call_start(&o, c, (struct serve_call_opts){.path = SV("/keep")});
    turn_until(kept);
    turn_ms(200);
    assert_int_equal(o.done, 0);
    serve_reply_text(kept, 200, "still here");
    call_wait(&o);
    assert_body(&o, "still here");
    call_fini(&o);
    serve_client_free(c);
    serve_server_free(t.s);
}

static void strangers_are_not_trusted(void **state)
{
    struct site t;
    struct serve_client *c;
    struct outcome o;
    start(&t, &c, &kinds[3], (struct serve_client_opts){.tls_ctx = stranger_ctx});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/")});
    call_wait(&o);
    assert_int_equal(o.code, E_REFUSED);
    assert_non_null(strstr(o.details, "certificate"));
    call_fini(&o);
    serve_client_free(c);
    /* The right root, the wrong name. */
    c = client_to(site_addr(&t), (struct serve_client_opts){.tls_ctx = client_ctx,
                                                            .expect_name = SV("elsewhere")});
    call_start(&o, c, (struct serve_call_opts){.path = SV("/")});
    call_wait(&o);
    assert_int_equal(o.code, E_REFUSED);
    call_fini(&o);
    serve_client_free(c);
    serve_server_free(t.s);
    turn_ms(5);
}

static void http2_needs_the_peers_consent(void **state)
{
    for (int tls = 0; tls < 2; tls++) {
        struct site t;
        struct outcome o;
        struct serve_server_opts so = {.protocol = SERVE_HTTP1, .tls_ctx = tls ? h1_ctx : NULL};
        site_start(&t, &so, handler, NULL);
        struct serve_client_opts co = {.protocol = SERVE_HTTP2};
        if (tls) {
            co.tls_ctx = client_ctx;
            co.authority = SV("localhost");
        }
        struct serve_client *c = client_to(site_addr(&t), co);
        call_start(&o, c, (struct serve_call_opts){.path = SV("/"), .timeout_ms = 5000});
        call_wait(&o);
        assert_int_equal(o.code, tls ? E_REFUSED : E_RESET);
        if (tls)
            assert_string_equal(o.details, "the peer does not speak HTTP/2 (ALPN)");
        call_fini(&o);
        serve_client_free(c);
        serve_server_free(t.s);
        turn_ms(5);
    }
}

static void servers_that_die(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        struct site t;
        struct serve_client *c;
        struct outcome o, p;
        start(&t, &c, &kinds[i], (struct serve_client_opts){0});
        kept = NULL;
        gone = 0;
        call_start(&o, c, (struct serve_call_opts){.path = SV("/keep")});
        turn_until(kept);
        struct addr a = *site_addr(&t);
        serve_server_free(t.s);
        call_wait(&o);
        assert_int_equal(o.code, E_RESET);
        assert_int_equal(gone, 1);
        call_fini(&o);
        /* It comes back at the same place: the next call connects anew. */
        struct serve_server_opts so = {.loop = loop, .tls_ctx = kinds[i].tls ? server_ctx : NULL};
        struct error e = {0};
        t.s = serve_server_new(&so);
        serve_http_init(&t.h, handler, NULL);
        serve_server_add(t.s, serve_http_accept, &t.h);
        assert_int_equal(serve_server_listen(t.s, &a, &e), 0);
        call_start(&p, c, (struct serve_call_opts){.path = SV("/host")});
        call_wait(&p);
        assert_int_equal(p.code, 0);
        call_fini(&p);
        assert_int_equal(serve_client_connects(c), 2);
        serve_client_free(c);
        serve_server_free(t.s);
        turn_ms(5);
    }
}

static void cancelled_calls_say_nothing(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        struct site t;
        struct serve_client *c;
        struct outcome o, p;
        start(&t, &c, &kinds[i], (struct serve_client_opts){0});
        call_start(&o, c, (struct serve_call_opts){.path = SV("/host")});
        serve_call_cancel(o.call); /* waiting for a connection */
        kept = NULL;
        gone = 0;
        call_start(&p, c, (struct serve_call_opts){.path = SV("/keep")});
        turn_until(kept);
        serve_call_cancel(p.call); /* waiting for the response */
        turn_until(gone == 1);
        assert_int_equal(o.done + p.done, 0);
        call_fini(&o);
        call_fini(&p);
        call_start(&o, c, (struct serve_call_opts){.path = SV("/host")});
        call_wait(&o);
        assert_int_equal(o.code, 0);
        call_fini(&o);
        /* Freed under a call: that is told. */
        kept = NULL;
        call_start(&p, c, (struct serve_call_opts){.path = SV("/keep")});
        turn_until(kept);
        serve_client_free(c);
        call_wait(&p);
        assert_int_equal(p.code, E_RESET);
        call_fini(&p);
        serve_server_free(t.s);
        turn_ms(5);
    }
}

static char piece[5000];
static int left;

static void many(struct serve_request *r)
{
    while (left) {
        left--;
        int rc = serve_reply_chunk(r, sv_make(piece, sizeof(piece)));
        if (rc == E_AGAIN)
            return;
        if (rc)
            return;
    }
    serve_reply_end(r);
}
static void many_handler(void *user, struct serve_request *r)
{
    r->on_drain = many;
    if (serve_reply_start(r, 200, "x/y") == 0)
        many(r);
}
static size_t seen;
static void count_data(void *user, struct buf *d)
{
    seen += d->len;
}

static void responses_are_bounded_or_streamed(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        struct site t;
        struct serve_client *c;
        struct outcome o;
        start(&t, &c, &kinds[i], (struct serve_client_opts){0});
        t.h.fn = many_handler;
        left = 2000;
        call_start(&o, c, (struct serve_call_opts){.path = SV("/"), .max_body = 100000});
        call_wait(&o);
        assert_int_equal(o.code, E_LIMIT);
        assert_int_equal(o.status, 200);
        call_fini(&o);
        /* As it comes, with a pause that reaches the sender. */
        seen = 0;
        left = 20000;
        call_start(&o, c, (struct serve_call_opts){.path = SV("/"), .on_data = count_data});
        turn_until(seen > 0);
        serve_call_pause(o.call, true);
        /* What HTTP/2's window had allowed still comes; then nothing. */
        for (size_t before = SIZE_MAX; before != seen;) {
            before = seen;
            turn_ms(100);
        }
        assert_true(seen < 8 << 20);
        assert_true(left > 0);
        serve_call_pause(o.call, false);
        call_wait(&o);
        assert_int_equal(o.code, 0);
        assert_int_equal(seen, 20000 * sizeof(piece));
        call_fini(&o);
        serve_client_free(c);
        serve_server_free(t.s);
        turn_ms(5);
    }
}

static void idle_and_renewed_connections(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        struct site t;
        struct serve_client *c;
        struct outcome o;
        start(&t, &c, &kinds[i],
              (struct serve_client_opts){.times = {.connect_ms = 2000, .idle_ms = 60}});
        call_start(&o, c, (struct serve_call_opts){.path = SV("/host")});
        call_wait(&o);
        call_fini(&o);
        turn_until(!serve_client_connected(c));
        turn_until(serve_server_stats(t.s)->conns == 0);
        call_start(&o, c, (struct serve_call_opts){.path = SV("/host")});
        call_wait(&o);
        assert_int_equal(o.code, 0);
        call_fini(&o);
        /* A call under way ends on the old connection, the next one takes a new one. */
        kept = NULL;
        call_start(&o, c, (struct serve_call_opts){.path = SV("/keep")});
        turn_until(kept);
        uint64_t before = serve_client_connects(c);
        serve_client_renew(c);
        struct outcome p;
        call_start(&p, c, (struct serve_call_opts){.path = SV("/host")});
        call_wait(&p);
        assert_int_equal(p.code, 0);
        assert_int_equal(serve_client_connects(c), before + 1);
        serve_reply_text(kept, 200, "old");
        call_wait(&o);
        assert_body(&o, "old");
        call_fini(&o);
        call_fini(&p);
        serve_client_free(c);
        serve_server_free(t.s);
        turn_ms(5);
    }
}

/* ---- streams in both directions, as gRPC uses them ---- */

struct talk {
    struct http_stream *s;
    struct strbuf got;
    bool head, end, trailers, closed, echo;
    int highs, lows;
};

static void talk_send(struct talk *t, const char *text, bool end)
{
    struct buf b;
    buf_init(&b);
    buf_append_sv(&b, sv_of(text));
    assert_int_equal(t->s->ops->send_data(t->s, &b, end), 0);
}
static void talk_head(void *user, struct http_head *m, bool end)
{
    struct talk *t = user;
    t->head = true;
    t->end |= end;
}
static void talk_data(void *user, struct buf *d, bool end)
{
    struct talk *t = user;
    size_t n;
    char *p = buf_to_cstr(d, &n);
    strbuf_add(&t->got, p, n);
    free(p);
    t->end |= end;
    if (!t->echo || !t->s)
        return;
    if (d->len)
        t->s->ops->send_data(t->s, d, false);
    if (end) {
        struct http_headers h;
        http_headers_init(&h, t->s->arena);
        http_headers_add(&h, SV("x-status"), SV("0"));
        t->s->ops->send_trailers(t->s, &h);
    }
}
static void talk_trailers(void *user, struct http_headers *h)
{
    struct talk *t = user;
    t->trailers = sv_eq(http_headers_get_sv(h, SV("x-status")), SV("0"));
    t->end = true;
}
static void talk_close(void *user)
{
    struct talk *t = user;
    t->closed = true;
    t->s = NULL;
}
static const struct http_stream_events talk_events = {.on_head = talk_head,
                                                      .on_data = talk_data,
                                                      .on_trailers = talk_trailers,
                                                      .on_close = talk_close};

static struct talk far;
static bool accept_talk(void *user, struct http_stream *s, struct http_head *head, bool end,
                        const struct serve_peer *peer)
{
    struct http_head m;
    if (!sv_eq(head->path, SV("/talk")))
        return false;
    assert_true(addr_is_loopback(&peer->remote));
    assert_ptr_equal(peer->loop, loop);
    far.s = s;
    http_stream_set_user(s, &talk_events, &far);
    http_head_init(&m, s->arena);
    m.status = 200;
    assert_int_equal(s->ops->send_head(s, &m, false), 0);
    return true;
}

struct wish {
    struct serve_open open;
    struct talk *t;
};
static void wish_granted(struct serve_open *o, struct http_stream *s, enum http_reset why,
                         const char *details)
{
    struct wish *w = container_of(o, struct wish, open);
    struct http_head m;
    assert_non_null(s);
    w->t->s = s;
    http_stream_set_user(s, &talk_events, w->t);
    http_head_init(&m, s->arena);
    m.method = SV("POST");
    m.path = SV("/talk");
    m.scheme = SV("http");
    m.authority = SV("h");
    assert_int_equal(s->ops->send_head(s, &m, false), 0);
}

static void streams_in_both_directions(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        struct talk near = {0};
        struct wish w = {.open.fn = wish_granted, .t = &near};
        memset(&far, 0, sizeof(far));
        far.echo = true;
        strbuf_init(&near.got, 1 << 20);
        strbuf_init(&far.got, 1 << 20);
        struct serve_server_opts so = {.loop = loop, .tls_ctx = kinds[i].tls ? server_ctx : NULL};
        struct error e = {0};
        struct serve_server *own = serve_server_new(&so);
        serve_server_add(own, accept_talk, NULL);
        assert_int_equal(serve_server_listen_text(own, SV("0"), &e), 0);
        struct serve_client_opts co = {.protocol = kinds[i].protocol};
        if (kinds[i].tls) {
            co.tls_ctx = client_ctx;
            co.authority = SV("localhost");
        }
        struct serve_client *oc = client_to(serve_server_addr(own, 0), co);
        serve_channel_open(serve_client_channel(oc), &w.open);
        turn_until(near.head);
        for (int n = 0; n < 20; n++) {
            char text[32];
            snprintf(text, sizeof(text), "message %d;", n);
            size_t before = near.got.n;
            talk_send(&near, text, false);
            turn_until(near.got.n == before + strlen(text));
            assert_false(near.end);
        }
        talk_send(&near, "last", true);
        turn_until(near.closed && far.closed);
        assert_true(near.end && near.trailers && far.end);
        assert_true(sv_eq(strbuf_sv(&near.got), strbuf_sv(&far.got)));
        assert_true(sv_ends(strbuf_sv(&near.got), SV("message 19;last")));
        strbuf_fini(&near.got);
        strbuf_fini(&far.got);
        serve_client_free(oc);
        serve_server_free(own);
        turn_ms(5);
    }
}

static void wishes_can_be_withdrawn(void **state)
{
    struct site t;
    struct serve_client *c;
    struct talk near = {0};
    struct wish w = {.open.fn = wish_granted, .t = &near};
    start(&t, &c, &kinds[1], (struct serve_client_opts){0});
    serve_channel_open(serve_client_channel(c), &w.open);
    serve_channel_cancel(serve_client_channel(c), &w.open);
    serve_channel_cancel(serve_client_channel(c), &w.open);
    turn_ms(50);
    assert_null(near.s);
    serve_client_free(c);
    serve_server_free(t.s);
}

static int setup(void **state)
{
    loop = loop_new(NULL);
    make_certs();
    return 0;
}
static int teardown(void **state)
{
    drop_certs();
    loop_free(loop);
    return 0;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(calls_of_every_kind),
        T(many_calls_at_once),
        T(refused_and_unknown),
        T(names_are_resolved_and_addresses_tried),
        T(time_runs_out_at_every_step),
        T(silent_http2_peers_are_noticed),
        T(answered_pings_keep_the_connection),
        T(strangers_are_not_trusted),
        T(http2_needs_the_peers_consent),
        T(servers_that_die),
        T(cancelled_calls_say_nothing),
        T(responses_are_bounded_or_streamed),
        T(idle_and_renewed_connections),
        T(streams_in_both_directions),
        T(wishes_can_be_withdrawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
