/* Client and server of ours against each other in memory: random bodies, small windows, bytes that
 * arrive in random pieces, resets and drains in between; repeatable by seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/rand.h"
#include "h2/h2_testlib.h"

static struct rand_state rnd;

static unsigned pick(unsigned n)
{
    return (unsigned)rand_below(&rnd, n);
}

static struct http_limits random_limits(void)
{
    struct http_limits l;
    http_limits_default(&l);
    l.initial_stream_window = 1 + pick(3) * 30000 + pick(1000);
    l.initial_conn_window = 65535 + pick(2) * 100000;
    l.max_frame_size = 16384 + pick(2) * 10000;
    l.high_watermark = 1000 + pick(50000);
    l.low_watermark = l.high_watermark / 2;
    l.hpack_table_size = pick(3) ? 4096 : pick(300);
    /* Tiny windows make many updates and small frames: honest, but past the usual ratios. */
    l.max_window_updates_per_data = 1000;
    return l;
}

static bool step(struct side *c, struct side *s)
{
    return sides_exchange(c, s, 1 + pick(pick(2) ? 50 : 20000));
}

/* All windows are whole again when all was consumed. */
static void check_windows(const struct side *c, const struct side *s)
{
    const struct h2_session *a = h2_of(c->c), *b = h2_of(s->c);
    assert_int_equal(b->recv_window + b->recv_used, b->lim.initial_conn_window);
    assert_int_equal(a->recv_window + a->recv_used, a->lim.initial_conn_window);
    assert_int_equal(a->send_window, b->recv_window);
    assert_int_equal(b->send_window, a->recv_window);
    assert_int_equal(a->in_table, 0);
    assert_int_equal(b->in_table, 0);
    assert_ptr_equal(a->slots, a->inline_slots);
}

static void echo_once(unsigned seed)
{
    rand_seed(&rnd, seed);
    struct http_limits lc = random_limits(), ls = random_limits();
    struct side c, s;
    side_init(&c, false, &lc, APP_LOG);
    side_init(&s, true, &ls, APP_ECHO);
    c.quiet = s.quiet = true;
    struct side_stream *x[40];
    long size[40];
    unsigned n = 1 + pick(40);
    for (unsigned i = 0; i < n; i++) {
        size[i] = pick(4) ? 1 + pick(3000) : pick(300000);
        x[i] = side_request(&c, size[i] ? "POST" : "GET", "/echo", size[i]);
        assert_non_null(x[i]);
        for (unsigned k = pick(20); k; k--)
            step(&c, &s);
    }
    unsigned turns = 0;
    while (step(&c, &s))
        assert_true(++turns < 2000000);
    assert_int_equal(c.error, 0);
    assert_int_equal(s.error, 0);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(x[i]->status, 200);
        assert_true(x[i]->ended);
        assert_int_equal(x[i]->got, size[i]);
        assert_int_equal(x[i]->closes, 1);
        assert_int_equal(x[i]->resets, 0);
    }
    check_windows(&c, &s);
    assert_int_equal(c.c->streams, 0);
    assert_int_equal(s.c->streams, 0);
    side_fini(&c);
    side_fini(&s);
}

static void test_echo(void **state)
{
    for (unsigned seed = 1; seed <= 60; seed++)
        echo_once(seed);
}

/* The same with resets from either user, pings, a drain; every stream ends exactly once. */
static void chaos_once(unsigned seed)
{
    rand_seed(&rnd, seed);
    struct http_limits lc = random_limits(), ls = random_limits();
    struct side c, s;
    side_init(&c, false, &lc, APP_LOG);
    side_init(&s, true, &ls, pick(4) ? APP_ECHO : APP_RESET_DATA);
    c.quiet = s.quiet = true;
    unsigned opened = 0;
    for (unsigned turn = 0; turn < 400; turn++) {
        switch (pick(8)) {
        case 0:
        case 1:
            if (side_request(&c, "POST", "/", (long)pick(40000) - 100))
                opened++;
            break;
        case 2: {
            struct side *t = pick(2) ? &c : &s;
            unsigned k = pick(20);
            list_each (it, &t->streams) {
                struct side_stream *x = container_of(it, struct side_stream, link);
                if (x->s && k-- == 0) {
                    x->s->ops->reset(x->s, HTTP_RESET_LOCAL);
                    break;
                }
            }
            break;
        }
        case 3:
            h2_ping(pick(2) ? c.c : s.c, NULL, NULL);
            break;
        case 4:
            if (turn > 300 && pick(4) == 0)
                s.c->ops->drain(s.c);
            break;
        default:
            for (unsigned k = pick(10); k; k--)
                step(&c, &s);
        }
    }
    for (unsigned turns = 0; step(&c, &s); turns++)
        assert_true(turns < 2000000);
    assert_int_equal(c.error, 0);
    assert_int_equal(s.error, 0);
    /* Requests whose end was never sent are still open; the rest is over. */
    list_each (it, &c.streams) {
        struct side_stream *x = container_of(it, struct side_stream, link);
        if (x->s && (x->s->sent_end || x->s->recv_end))
            fail_msg("seed %u: stream %u hangs (of %u)", seed, x->s->id, opened);
    }
    /* A cut connection resets what is left. */
    c.c->ops->feed_eof(c.c);
    s.c->ops->feed_eof(s.c);
    assert_int_equal(c.c->streams + s.c->streams, 0);
    side_fini(&c);
    side_fini(&s);
}

static void test_chaos(void **state)
{
    for (unsigned seed = 1; seed <= 150; seed++)
        chaos_once(seed);
}

/* A large body does not hold up a small answer: frames of the streams alternate. */
static void test_fairness(void **state)
{
    struct side c, s;
    side_init(&c, false, NULL, APP_LOG);
    side_init(&s, true, NULL, APP_LOG);
    while (sides_exchange(&c, &s, 100000))
        ;
    side_flush(&c);
    strbuf_reset(&c.log);
    side_request(&c, "POST", "/", 2000000);
    side_request(&c, "POST", "/", 2000000);
    side_request(&c, "POST", "/", 10000);
    /* What is framed already goes out first, and is little. */
    assert_true(c.c->out.len < 200000);
    size_t n = c.c->out.len;
    buf_reset(&c.c->out);
    c.c->ops->wrote(c.c, n);
    side_flush(&c);
    const char *small = strstr(c.log.p, "> DATA 5 10000 end");
    assert_non_null(small);
    assert_true(small - c.log.p < 200);
    side_fini(&c);
    side_fini(&s);
}

/* Payloads are not copied: the block that was read is the block that is written. */
static void test_no_copies(void **state)
{
    struct side s;
    side_init(&s, true, NULL, APP_ECHO);
    side_feed_script(&s, "preface;settings;settings ack;headers 1 post", SIZE_MAX);
    side_flush(&s);
    struct buf b;
    buf_init(&b);
    script_bytes(&b, "data 1 15000");
    const char *at = buf_pullup(&b, b.len).p + H2_FRAME_HEADER;
    buf_move(&s.in, &b);
    s.c->ops->feed(s.c, &s.in);
    /* The frame header was put in front of it, where it had been. */
    assert_ptr_equal(buf_front(&s.c->out).p, at - H2_FRAME_HEADER);
    assert_int_equal(s.c->out.len, 15000 + H2_FRAME_HEADER);
    side_fini(&s);
}

/* Idle: no blocks, no table, and a session of known size. */
static void test_idle_memory(void **state)
{
    struct side c, s;
    side_init(&c, false, NULL, APP_LOG);
    side_init(&s, true, NULL, APP_ANSWER);
    for (int i = 0; i < 100; i++)
        side_request(&c, "GET", "/", 0);
    while (sides_exchange(&c, &s, 1000))
        ;
    assert_int_equal(s.c->streams_total, 100);
    assert_int_equal(s.c->out.len + c.c->out.len + s.in.len + c.in.len, 0);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
    const struct h2_session *h = h2_of(s.c);
    size_t table = h->dec.t.bytes_cap + h->enc.t.bytes_cap +
                   (h->dec.t.ring_cap + h->enc.t.ring_cap) * sizeof(struct hpack_entry);
    assert_true(sizeof *h <= 1400);
    assert_true(sizeof *h + table <= 3072);
    side_fini(&c);
    side_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),        cmocka_unit_test(test_chaos),
        cmocka_unit_test(test_fairness),    cmocka_unit_test(test_no_copies),
        cmocka_unit_test(test_idle_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
