#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/rand.h"
#include "grpc/grpc_frame.h"

/* What a reader says of bytes given in pieces: sizes of messages, then the last code. */
static void read_all(const void *bytes, size_t n, size_t step, uint32_t max, char *out, size_t size)
{
    struct grpc_reader r;
    struct buf b, msg;
    size_t at = 0, used = 0;
    int code = E_AGAIN;
    grpc_reader_init(&r, max);
    out[0] = 0;
    while (at < n && code == E_AGAIN) {
        size_t k = n - at < step ? n - at : step;
        buf_init(&b);
        buf_append(&b, (const char *)bytes + at, k);
        grpc_reader_add(&r, &b);
        assert_int_equal(b.len, 0);
        at += k;
        for (;;) {
            buf_init(&msg);
            code = grpc_reader_next(&r, &msg);
            if (code == 0)
                used += (size_t)snprintf(out + used, size - used, "%zu ", msg.len);
            buf_reset(&msg);
            if (code)
                break;
        }
    }
    snprintf(out + used, size - used, "%d%s", code, grpc_reader_done(&r) ? " done" : "");
    grpc_reader_fini(&r);
}

static void test_reader(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *wants;
    } cases[] = {
#define B(text) text, sizeof(text) - 1
        {B("\0\0\0\0\0"), "0 -1 done"},
        {B("\0\0\0\0\3abc"), "3 -1 done"},
        {B("\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\1x"), "3 0 1 -1 done"},
        {B("\0\0\0\0\3ab"), "-1"},
        {B("\0\0\0"), "-1"},
        {B("\1\0\0\0\3abc"), "-16"},
        {B("\2\0\0\0\3abc"), "-14"},
        {B("\377\0\0\0\0"), "-14"},
        /* 39: a length that lies is refused, or waited for without memory */
        {B("\0\377\377\377\377abc"), "-5"},
        {B("\0\0\0\4\0abc"), "-1"},
        {B("\0\0\0\4\1abc"), "-5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step <= cases[i].n; step++) {
            char out[64];
            read_all(cases[i].bytes, cases[i].n, step, 1024, out, sizeof out);
            if (strcmp(out, cases[i].wants) != 0)
                fail_msg("case %zu in steps of %zu: %s", i, step, out);
        }
}

static void test_round_trip(void **state)
{
    struct rand_state rnd;
    rand_seed(&rnd, 1);
    for (int round = 0; round < 50; round++) {
        struct buf wire, msg;
        struct grpc_reader r;
        size_t sizes[20];
        static char bytes[100000];
        buf_init(&wire);
        for (int i = 0; i < 20; i++) {
            sizes[i] = rand_below(&rnd, rand_below(&rnd, 4) ? 100 : sizeof bytes);
            memset(bytes, 'a' + i, sizes[i]);
            if (i % 2) {
                grpc_frame_append(&wire, sv_make(bytes, sizes[i]));
            } else {
                buf_init(&msg);
                buf_append(&msg, bytes, sizes[i]);
                grpc_frame_append_buf(&wire, &msg);
                assert_int_equal(msg.len, 0);
            }
        }
        grpc_reader_init(&r, sizeof bytes);
        int got = 0;
        while (wire.len) {
            struct buf piece;
            buf_init(&piece);
            buf_move_n(&piece, &wire, 1 + rand_below(&rnd, 20000));
            grpc_reader_add(&r, &piece);
            for (;;) {
                buf_init(&msg);
                if (grpc_reader_next(&r, &msg) != 0)
                    break;
                assert_int_equal(msg.len, sizes[got]);
                sv v = buf_pullup(&msg, msg.len);
                for (size_t k = 0; k < v.n; k++)
                    assert_int_equal(v.p[k], 'a' + got);
                buf_reset(&msg);
                got++;
            }
        }
        assert_int_equal(got, 20);
        assert_true(grpc_reader_done(&r));
        grpc_reader_fini(&r);
    }
    assert_int_equal(buf_pool_blocks_in_use(), 0);
}

/* Attack case 10: a message in one-byte pieces, each out of its own block. */
static void test_crumbs(void **state)
{
    struct grpc_reader r;
    grpc_reader_init(&r, 1 << 20);
    for (int i = 0; i < 5000; i++) {
        struct buf b;
        char block[4000] = {0};
        block[3] = 0x10; /* a message of 1 MB begins */
        buf_init(&b);
        buf_append(&b, block, sizeof block);
        struct buf one;
        buf_init(&one);
        buf_move_n(&one, &b, i ? 1 : 5);
        grpc_reader_add(&r, &one);
        buf_reset(&b);
    }
    assert_true(buf_pinned(&r.in) < 64 * 1024);
    grpc_reader_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_crumbs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
