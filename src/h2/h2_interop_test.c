/* Against libnghttp2's sessions in memory, both ways round: a peer that somebody else wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include "base/rand.h"
#include "h2/h2_testlib.h"

static struct rand_state rnd;

static unsigned pick(unsigned n)
{
    return (unsigned)rand_below(&rnd, n);
}

/* A stream of the nghttp2 side. */
struct far {
    int32_t id;
    uint32_t to_send; /* body bytes left */
    uint64_t got;
    char status[4];
    bool closed, trailers, interim, answered;
    uint32_t error;
};

struct peer {
    nghttp2_session *s;
    struct far streams[64];
    unsigned n;
    bool server;
    bool answers_trailers;
    int goaways;
};

static struct far *far_find(struct peer *p, int32_t id, bool make)
{
    for (unsigned i = 0; i < p->n; i++)
        if (p->streams[i].id == id)
            return &p->streams[i];
    if (!make)
        return NULL;
    assert_true(p->n < 64);
    struct far *f = &p->streams[p->n++];
    *f = (struct far){.id = id};
    return f;
}

#define NV(name, value)                                                                            \
    {                                                                                              \
        (uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE   \
    }

static ssize_t far_read(nghttp2_session *s, int32_t id, uint8_t *p, size_t n, uint32_t *flags,
                        nghttp2_data_source *src, void *user)
{
    struct peer *peer = user;
    struct far *f = src->ptr;
    size_t k = f->to_send < n ? f->to_send : n;
    if (k > 1 && pick(3) == 0)
        k = 1 + pick((unsigned)k);
    memset(p, 'f', k);
    f->to_send -= (uint32_t)k;
    if (f->to_send == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (peer->server && peer->answers_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_nv t[] = {NV("x-trailer", "last")};
            nghttp2_submit_trailer(s, id, t, 1);
        }
    }
    return (ssize_t)k;
}

static int far_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                      size_t nn, const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
    struct far *f = far_find(user, frame->hd.stream_id, true);
    if (nn == 7 && !memcmp(name, ":status", 7) && vn == 3) {
        if (value[0] == '1')
            f->interim = true;
        else
            memcpy(f->status, value, 3);
    }
    if (nn == 9 && !memcmp(name, "x-trailer", 9))
        f->trailers = true;
    return 0;
}

static int far_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                    void *user)
{
    far_find(user, id, true)->got += n;
    return 0;
}

static int far_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
    struct peer *p = user;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        p->goaways++;
    struct far *f = far_find(p, frame->hd.stream_id, false);
    if (!p->server || !f || f->answered || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    f->answered = true;
    nghttp2_nv nv[] = {NV(":status", "200"), NV("server", "nghttp2"),
                       NV("x-long", "0123456789abcdef")};
    nghttp2_nv early[] = {NV(":status", "103"), NV("link", "</a.css>")};
    nghttp2_data_provider body = {.source.ptr = f, .read_callback = far_read};
    f->to_send = (uint32_t)f->got;
    if (pick(3) == 0)
        nghttp2_submit_headers(s, 0, f->id, NULL, early, 2, NULL);
    nghttp2_submit_response(s, f->id, nv, 3, f->to_send || p->answers_trailers ? &body : NULL);
    return 0;
}

static int far_close(nghttp2_session *s, int32_t id, uint32_t error, void *user)
{
    struct far *f = far_find(user, id, true);
    f->closed = true;
    f->error = error;
    return 0;
}

static void peer_init(struct peer *p, bool server)
{
    *p = (struct peer){.server = server};
    nghttp2_session_callbacks *cb;
    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, far_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, far_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, far_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, far_close);
    if (server)
        nghttp2_session_server_new(&p->s, cb, p);
    else
        nghttp2_session_client_new(&p->s, cb, p);
    nghttp2_session_callbacks_del(cb);
    nghttp2_settings_entry iv[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000 + pick(100000)},
                                   {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, pick(5000)},
                                   {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 16384 + pick(1000)},
                                   {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 30}};
    nghttp2_submit_settings(p->s, 0, iv, 4);
}

/* Bytes from and to our codec, in random pieces. False when both are silent. */
static bool exchange(struct side *t, struct peer *p)
{
    const uint8_t *bytes;
    ssize_t n = nghttp2_session_mem_send(p->s, &bytes);
    assert_true(n >= 0);
    bool any = n > 0;
    for (size_t at = 0; at < (size_t)n;) {
        size_t k = 1 + pick(2000);
        if (k > (size_t)n - at)
            k = (size_t)n - at;
        buf_append(&t->in, bytes + at, k);
        at += k;
        int r = t->c->ops->feed(t->c, &t->in);
        if (r)
            fail_msg("feed: %s", t->c->error_text);
    }
    if (t->c->out.len) {
        any = true;
        size_t k = 1 + pick(pick(2) ? 30 : 30000);
        k = k < t->c->out.len ? k : t->c->out.len;
        char *copy = malloc(k);
        buf_peek(&t->c->out, 0, copy, k);
        buf_drain(&t->c->out, k);
        t->c->ops->wrote(t->c, k);
        ssize_t used = nghttp2_session_mem_recv(p->s, (uint8_t *)copy, k);
        free(copy);
        if (used != (ssize_t)k)
            fail_msg("nghttp2: %s", nghttp2_strerror((int)used));
    }
    return any;
}

static struct http_limits random_limits(void)
{
    struct http_limits l;
    http_limits_default(&l);
    l.initial_stream_window = 1000 + pick(100000);
    l.initial_conn_window = 65535 + pick(100000);
    l.hpack_table_size = pick(5000);
    l.high_watermark = 20000;
    l.low_watermark = 10000;
    l.max_window_updates_per_data = 1000;
    return l;
}

static void test_our_server(void **state)
{
    for (unsigned seed = 1; seed <= 40; seed++) {
        rand_seed(&rnd, seed);
        struct http_limits l = random_limits();
        struct side t;
        struct peer p;
        side_init(&t, true, &l, APP_ECHO);
        t.quiet = true;
        peer_init(&p, false);
        unsigned n = 1 + pick(20);
        uint32_t size[20];
        for (unsigned i = 0; i < n; i++) {
            struct far *f = &p.streams[p.n++];
            size[i] = pick(3) ? pick(500) : pick(200000);
            *f = (struct far){.to_send = size[i]};
            char length[16];
            snprintf(length, sizeof length, "%u", size[i]);
            nghttp2_nv nv[] = {NV(":method", "POST"), NV(":scheme", "http"),
                               NV(":path", "/e"),     NV(":authority", "a.test"),
                               NV("cookie", "a=1"),   NV("cookie", "b=2"),
                               NV("te", "trailers"),  NV("content-length", length)};
            nghttp2_data_provider body = {.source.ptr = f, .read_callback = far_read};
            f->id = nghttp2_submit_request(p.s, NULL, nv, 8, &body, NULL);
            assert_true(f->id > 0);
            for (unsigned k = pick(5); k; k--)
                exchange(&t, &p);
        }
        while (exchange(&t, &p))
            ;
        for (unsigned i = 0; i < n; i++) {
            assert_string_equal(p.streams[i].status, "200");
            assert_int_equal(p.streams[i].got, size[i]);
            assert_true(p.streams[i].closed);
            assert_int_equal(p.streams[i].error, 0);
        }
        assert_int_equal(t.c->streams, 0);
        t.c->ops->drain(t.c);
        while (exchange(&t, &p))
            ;
        /* Having no streams, nghttp2 takes the notice for the end and answers no PING: a second
         * call does not wait for it. */
        assert_int_equal(p.goaways, 1);
        t.c->ops->drain(t.c);
        assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
        nghttp2_session_del(p.s);
        side_fini(&t);
    }
}

static void test_our_client(void **state)
{
    for (unsigned seed = 1; seed <= 40; seed++) {
        rand_seed(&rnd, seed);
        struct http_limits l = random_limits();
        struct side t;
        struct peer p;
        side_init(&t, false, &l, APP_LOG);
        t.quiet = true;
        peer_init(&p, true);
        p.answers_trailers = seed % 2;
        unsigned n = 1 + pick(20);
        uint32_t size[20];
        struct side_stream *x[20];
        for (unsigned i = 0; i < n; i++) {
            size[i] = pick(3) ? pick(500) : pick(200000);
            x[i] = side_request(&t, size[i] ? "POST" : "GET", "/e", size[i]);
            assert_non_null(x[i]);
            for (unsigned k = pick(5); k; k--)
                exchange(&t, &p);
        }
        while (exchange(&t, &p))
            ;
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(x[i]->status, 200);
            assert_int_equal(x[i]->got, size[i]);
            assert_true(x[i]->ended && x[i]->closes == 1 && !x[i]->reset);
        }
        assert_int_equal(t.stats.trailers, p.answers_trailers ? n : 0);
        nghttp2_submit_goaway(p.s, 0, 2147483647, 0, NULL, 0);
        while (exchange(&t, &p))
            ;
        assert_int_equal(t.goaways, 1);
        nghttp2_session_del(p.s);
        side_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_server),
        cmocka_unit_test(test_our_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
