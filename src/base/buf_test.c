#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include "base/rand.h"

static void expect(const struct buf *b, const char *text, size_t n)
{
    assert_int_equal(b->len, n);
    size_t len;
    char *all = buf_to_cstr(b, &len);
    assert_int_equal(len, n);
    assert_memory_equal(all, text, n);
    free(all);
}

static void append_and_drain(void **state)
{
    struct buf b;
    buf_init(&b);
    buf_append_sv(&b, SV("hello "));
    buf_append_static(&b, SV("static "));
    buf_printf(&b, "%d", 42);
    expect(&b, "hello static 42", 15);
    assert_true(sv_eq(buf_front(&b), SV("hello ")));
    buf_prepend(&b, "> ", 2);
    buf_prepend(&b, "-", 1);
    expect(&b, "-> hello static 42", 18);
    buf_drain(&b, 3);
    char out[8];
    assert_int_equal(buf_peek(&b, 4, out, 4), 4);
    assert_memory_equal(out, "o st", 4);
    assert_int_equal(buf_peek(&b, 13, out, 8), 2);
    assert_int_equal(buf_peek(&b, 15, out, 8), 0);
    buf_drain(&b, 15);
    assert_null(b.head);
    assert_null(b.tail);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
    char big[3000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    buf_printf(&b, "%s|", big);
    assert_int_equal(b.len, sizeof big);
    buf_reset(&b);
}

static void moving_is_not_copying(void **state)
{
    struct buf a, b;
    buf_init(&a);
    buf_init(&b);
    buf_append_sv(&a, SV("abcdef"));
    const char *p = buf_front(&a).p;
    buf_move_n(&b, &a, 2);
    expect(&b, "ab", 2);
    expect(&a, "cdef", 4);
    assert_ptr_equal(buf_front(&b).p, p);
    /* a's block is shared now: what is appended to b must not write over a's bytes */
    buf_append_sv(&b, SV("XYZ"));
    expect(&a, "cdef", 4);
    expect(&b, "abXYZ", 5);
    buf_move(&b, &a);
    assert_null(a.head);
    expect(&b, "abXYZcdef", 9);
    buf_move_n(&a, &b, 99);
    expect(&a, "abXYZcdef", 9);
    assert_null(b.head);
    buf_share(&b, &a, 1, 5);
    expect(&b, "bXYZc", 5);
    buf_append_sv(&b, SV("!"));
    buf_append_sv(&a, SV("?"));
    expect(&a, "abXYZcdef?", 10);
    expect(&b, "bXYZc!", 6);
    buf_reset(&a);
    expect(&b, "bXYZc!", 6);
    buf_reset(&b);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
}

static void reservations(void **state)
{
    struct buf b;
    size_t room;
    buf_init(&b);
    char *p = buf_reserve(&b, 100, &room);
    assert_int_equal(room, BUF_BLOCK);
    buf_commit(&b, 0);
    assert_null(b.head);
    p = buf_reserve(&b, BUF_BLOCK, &room);
    memcpy(p, "abc", 3);
    buf_commit(&b, 3);
    expect(&b, "abc", 3);
    p = buf_reserve(&b, 1, &room);
    assert_int_equal(room, BUF_BLOCK - 3);
    memcpy(p, "def", 3);
    buf_commit(&b, 3);
    expect(&b, "abcdef", 6);
    buf_reserve(&b, BUF_BLOCK, &room); /* a second block, unused */
    buf_commit(&b, 0);
    expect(&b, "abcdef", 6);
    assert_int_equal(buf_pool_blocks_in_use(), 1);
    struct buf_block *blk = buf_front_block(&b);
    p = buf_reserve(&b, 1, &room); /* views into the first block are held: not extended */
    assert_int_equal(room, BUF_BLOCK);
    *p = 'g';
    buf_commit(&b, 1);
    expect(&b, "abcdefg", 7);
    buf_reset(&b);
    assert_int_equal(buf_pool_blocks_in_use(), 1);
    buf_block_unref(blk);
    buf_block_unref(NULL);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
}

static void reservations_in_several_blocks(void **state)
{
    for (size_t before = 0; before <= 20000; before += 5000)
        for (size_t fill = 0; fill <= 60000; fill += 4096) {
            struct buf b;
            struct iovec iov[4];
            buf_init(&b);
            char *model = malloc(100000);
            for (size_t i = 0; i < before; i++) {
                model[i] = (char)i;
                buf_append(&b, &model[i], 1);
            }
            int n = buf_reserve_iov(&b, iov, 4, 60000);
            size_t total = 0;
            for (int i = 0; i < n; i++)
                total += iov[i].iov_len;
            assert_true(total <= 60000);
            size_t take = fill < total ? fill : total, done = 0;
            for (int i = 0; i < n && done < take; i++)
                for (size_t k = 0; k < iov[i].iov_len && done < take; k++, done++)
                    ((char *)iov[i].iov_base)[k] = model[before + done] = (char)(done * 7);
            buf_commit(&b, take);
            expect(&b, model, before + take);
            buf_append_sv(&b, SV("end"));
            memcpy(model + before + take, "end", 3);
            expect(&b, model, before + take + 3);
            buf_reset(&b);
            assert_int_equal(buf_pool_blocks_in_use(), 0);
            free(model);
        }
}

/* What is left in a block after its front went elsewhere: the room behind it is nobody's to fill.
 */
static void reservations_behind_a_shared_block(void **state)
{
    for (int left = 0; left <= 2; left++) {
        struct buf b, gone;
        struct iovec iov[4];
        buf_init(&b);
        buf_init(&gone);
        buf_append_sv(&b, SV("0123456789"));
        buf_move_n(&gone, &b, (size_t)(10 - left));
        int n = buf_reserve_iov(&b, iov, 4, 20000);
        assert_true(n > 0 && iov[0].iov_len >= 3);
        memcpy(iov[0].iov_base, "new", 3);
        buf_commit(&b, 3);
        char want[16];
        snprintf(want, sizeof want, "%.*snew", left, &"89"[2 - left]);
        expect(&b, want, strlen(want));
        buf_reset(&b);
        buf_reset(&gone);
        assert_int_equal(buf_pool_blocks_in_use(), 0);
    }
}

static void pullup(void **state)
{
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 10; i++)
        buf_append_static(&b, SV("0123456789"));
    buf_append_static(&b, SV("tail"));
    sv v = buf_pullup(&b, 25);
    assert_true(sv_eq(v, SV("0123456789012345678901234")));
    sv longer = buf_pullup(&b, 30); /* in place: the first view holds */
    assert_ptr_equal(v.p, longer.p);
    assert_int_equal(longer.n, 30);
    struct buf_block *held = buf_front_block(&b);
    longer = buf_pullup(&b, 104);
    assert_ptr_not_equal(v.p, longer.p);
    assert_memory_equal(v.p, longer.p, 25);
    assert_true(sv_ends(longer, SV("789tail")));
    assert_int_equal(b.len, 104);
    buf_block_unref(held);
    assert_int_equal(buf_pullup(&b, 0).n, 0);
    buf_reset(&b);
    char *big = calloc(1, 100000);
    buf_append(&b, big, 100000);
    assert_int_equal(buf_pullup(&b, 100000).n, 100000);
    assert_ptr_equal(b.head, b.tail);
    buf_append(&b, "x", 1);
    assert_int_equal(b.len, 100001);
    buf_reset(&b);
    free(big);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
}

static void gathers(void **state)
{
    struct buf b;
    struct iovec iov[3];
    buf_init(&b);
    assert_int_equal(buf_iov(&b, iov, 3, 100), 0);
    for (int i = 0; i < 5; i++)
        buf_append_static(&b, SV("abcd"));
    assert_int_equal(buf_iov(&b, iov, 3, 100), 3);
    assert_int_equal(buf_iov(&b, iov, 3, 6), 2);
    assert_int_equal(iov[1].iov_len, 2);
    assert_int_equal(buf_pinned(&b), 0);
    buf_append(&b, "x", 1);
    assert_true(buf_pinned(&b) >= 1000 && buf_pinned(&b) < 2000);
    buf_reset(&b);
}

/* Random operations on two chains against plain strings. */
static void against_a_model(void **state)
{
    enum { MAX = 300000 };
    struct rand_state r;
    char *m[2] = {malloc(MAX), malloc(MAX)}, *data = malloc(MAX);
    size_t n[2] = {0, 0};
    struct buf b[2];
    buf_init(&b[0]);
    buf_init(&b[1]);
    rand_seed(&r, 7);
    for (size_t i = 0; i < MAX; i++)
        data[i] = (char)rand_u64(&r);
    for (int step = 0; step < 4000; step++) {
        int w = (int)rand_below(&r, 2), o = 1 - w;
        size_t k = rand_below(&r, rand_below(&r, 8) == 0 ? 40000 : 300);
        const char *from = data + rand_below(&r, MAX - 40000);
        size_t room;
        char *p;
        if (n[w] + n[o] + k > MAX - 50000) {
            buf_drain(&b[w], n[w]);
            n[w] = 0;
        }
        switch (rand_below(&r, 9)) {
        case 0:
            buf_append(&b[w], from, k);
            memcpy(m[w] + n[w], from, k);
            n[w] += k;
            break;
        case 1:
            buf_append_static(&b[w], sv_make(from, k));
            memcpy(m[w] + n[w], from, k);
            n[w] += k;
            break;
        case 2:
            buf_prepend(&b[w], from, k);
            memmove(m[w] + k, m[w], n[w]);
            memcpy(m[w], from, k);
            n[w] += k;
            break;
        case 3:
            k = k < n[w] ? k : n[w];
            buf_drain(&b[w], k);
            memmove(m[w], m[w] + k, n[w] - k);
            n[w] -= k;
            break;
        case 4:
            k = k < n[o] ? k : n[o];
            buf_move_n(&b[w], &b[o], k);
            memcpy(m[w] + n[w], m[o], k);
            memmove(m[o], m[o] + k, n[o] - k);
            n[w] += k;
            n[o] -= k;
            break;
        case 5:
            k = k < n[o] ? k : n[o];
            room = rand_below(&r, n[o] - k + 1);
            buf_share(&b[w], &b[o], room, k);
            memcpy(m[w] + n[w], m[o] + room, k);
            n[w] += k;
            break;
        case 6:
            k = k < n[w] ? k : n[w];
            assert_memory_equal(buf_pullup(&b[w], k).p ?: "", m[w], k);
            break;
        case 7:
            k = k < BUF_BLOCK ? k : BUF_BLOCK;
            p = buf_reserve(&b[w], k, &room);
            assert_true(room >= k);
            memcpy(p, from, k);
            buf_commit(&b[w], k);
            memcpy(m[w] + n[w], from, k);
            n[w] += k;
            break;
        default:
            buf_move(&b[w], &b[o]);
            memcpy(m[w] + n[w], m[o], n[o]);
            n[w] += n[o];
            n[o] = 0;
        }
        if (step % 16 == 0) {
            expect(&b[0], m[0], n[0]);
            expect(&b[1], m[1], n[1]);
        }
    }
    buf_reset(&b[0]);
    buf_reset(&b[1]);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
    free(m[0]);
    free(m[1]);
    free(data);
}

static void pool_gives_memory_back(void **state)
{
    struct buf b;
    buf_init(&b);
    char block[BUF_BLOCK] = {0};
    for (int i = 0; i < 200; i++)
        buf_append(&b, block, sizeof block);
    buf_reset(&b);
    int rounds = 0;
    buf_pool_age();
    while (!buf_pool_idle()) {
        buf_pool_age();
        assert_true(++rounds < 100);
    }
    buf_pool_trim(0);
    assert_true(buf_pool_idle());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_and_drain),
        cmocka_unit_test(moving_is_not_copying),
        cmocka_unit_test(reservations),
        cmocka_unit_test(reservations_in_several_blocks),
        cmocka_unit_test(reservations_behind_a_shared_block),
        cmocka_unit_test(pullup),
        cmocka_unit_test(gathers),
        cmocka_unit_test(against_a_model),
        cmocka_unit_test(pool_gives_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
