#include "base/buf.h"
#include "base/code.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "base/pool.h"

#define SMALL_BYTES 1008 /* usable bytes of a small block: with its header 1 KB */
#define SMALL_MAX   512  /* longest append that starts a small block */
#define FREE_BLOCKS 512  /* at most 8 MB in a thread's free list */
#define FREE_SMALL  1024
#define FREE_SLICES 4096
#define KEEP        8 /* ageing leaves this many blocks */

enum block_kind { BLOCK_FULL, BLOCK_SMALL, BLOCK_EXACT };

struct buf_block {
    uint32_t refs; /* slices, and buf_front_block */
    uint32_t kind;
    size_t cap;
    char data[];
};

/* block NULL: static storage. Bytes past the end of a slice are free to be written when the slice
 * holds the block's only reference. A reservation is a slice of no bytes behind the tail. */
struct buf_slice {
    struct buf_slice *next;
    struct buf_block *block;
    char *p;
    size_t n;
};

static __thread struct pool full_pool = {.cap = FREE_BLOCKS,
                                         .size = sizeof(struct buf_block) + BUF_BLOCK};
static __thread struct pool small_pool = {.cap = FREE_SMALL,
                                          .size = sizeof(struct buf_block) + SMALL_BYTES};
static __thread struct pool slice_pool = {.cap = FREE_SLICES, .size = sizeof(struct buf_slice)};
static __thread size_t in_use;

/* ---- blocks and slices ---- */

static struct buf_block *block_init(struct buf_block *b, enum block_kind kind, size_t n)
{
    if (__builtin_expect(in_use++ == 0, 0))
        pool_at_thread_exit();
    b->refs = 1;
    b->kind = kind;
    b->cap = n;
    return b;
}

static struct buf_block *block_exact(size_t n)
{
    return block_init(mem_alloc(sizeof(struct buf_block) + n), BLOCK_EXACT, n);
}

HOT static struct buf_block *block_new(size_t n)
{
    struct buf_block *b;
    enum block_kind kind;
    if (n > BUF_BLOCK)
        return block_exact(n);
    if (n <= SMALL_BYTES) {
        kind = BLOCK_SMALL;
        n = SMALL_BYTES;
        b = pool_get(&small_pool);
    } else {
        kind = BLOCK_FULL;
        n = BUF_BLOCK;
        b = pool_get(&full_pool);
    }
    return block_init(b, kind, n);
}

void buf_block_unref(struct buf_block *b)
{
    if (!b || --b->refs)
        return;
    in_use--;
    if (b->kind == BLOCK_FULL)
        pool_put(&full_pool, b);
    else if (b->kind == BLOCK_SMALL)
        pool_put(&small_pool, b);
    else
        free(b);
}

/* Takes over the caller's reference to the block. */
static struct buf_slice *slice_new(struct buf_block *b, char *p, size_t n)
{
    struct buf_slice *s = pool_get(&slice_pool);
    s->next = NULL;
    s->block = b;
    s->p = p;
    s->n = n;
    return s;
}

static void slice_free(struct buf_slice *s)
{
    buf_block_unref(s->block);
    pool_put(&slice_pool, s);
}

static inline void push(struct buf *b, struct buf_slice *s)
{
    if (b->tail)
        b->tail->next = s;
    else
        b->head = s;
    b->tail = s;
    b->len += s->n;
}

static inline void push_front(struct buf *b, struct buf_slice *s)
{
    s->next = b->head;
    b->head = s;
    if (!b->tail)
        b->tail = s;
    b->len += s->n;
}

/* Writable bytes after the slice. */
static inline size_t room_after(const struct buf_slice *s)
{
    if (!s || !s->block || s->block->refs != 1)
        return 0;
    return (size_t)(s->block->data + s->block->cap - (s->p + s->n));
}

HOT void buf_reset(struct buf *b)
{
    for (struct buf_slice *s = b->head, *next; s; s = next) {
        next = s->next;
        slice_free(s);
    }
    buf_init(b);
}

/* ---- adding ---- */

void buf_append(struct buf *b, const void *p, size_t n)
{
    const char *from = p;
    while (n) {
        size_t room = room_after(b->tail);
        if (room == 0) {
            bool after_small = b->tail && b->tail->block && b->tail->block->kind == BLOCK_SMALL;
            struct buf_block *blk = block_new(n <= SMALL_MAX && !after_small ? n : BUF_BLOCK);
            push(b, slice_new(blk, blk->data, 0));
            room = blk->cap;
        }
        size_t k = n < room ? n : room;
        memcpy(b->tail->p + b->tail->n, from, k);
        b->tail->n += k;
        b->len += k;
        from += k;
        n -= k;
    }
}

void *buf_append_room(struct buf *b, size_t n)
{
    struct buf_block *blk = block_exact(n);
    push(b, slice_new(blk, blk->data, n));
    return blk->data;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[512];
    va_list ap;
    va_start(ap, fmt);
    int r = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (r <= 0)
        return;
    size_t n = (size_t)r;
    if (n < sizeof small) {
        buf_append(b, small, n);
        return;
    }
    char *big = mem_alloc(n + 1);
    va_start(ap, fmt);
    vsnprintf(big, n + 1, fmt, ap);
    va_end(ap);
    buf_append(b, big, n);
    free(big);
}

void buf_move(struct buf *dst, struct buf *src)
{
    if (!src->head)
        return;
    if (dst->tail)
        dst->tail->next = src->head;
    else
        dst->head = src->head;
    dst->tail = src->tail;
    dst->len += src->len;
    buf_init(src);
}

static struct buf_slice *slice_share(const struct buf_slice *s, size_t from, size_t n)
{
    if (s->block)
        s->block->refs++;
    return slice_new(s->block, s->p + from, n);
}

HOT void buf_move_n(struct buf *dst, struct buf *src, size_t n)
{
    if (n >= src->len) {
        buf_move(dst, src);
        return;
    }
    while (n) {
        struct buf_slice *s = src->head;
        if (s->n > n) {
            push(dst, slice_share(s, 0, n));
            s->p += n;
            s->n -= n;
            src->len -= n;
            return;
        }
        src->head = s->next;
        src->len -= s->n;
        n -= s->n;
        s->next = NULL;
        push(dst, s);
    }
}

void buf_share(struct buf *dst, const struct buf *src, size_t from, size_t n)
{
    for (const struct buf_slice *s = src->head; s && n; s = s->next) {
        if (from >= s->n) {
            from -= s->n;
            continue;
        }
        size_t k = s->n - from < n ? s->n - from : n;
        push(dst, slice_share(s, from, k));
        from = 0;
        n -= k;
    }
}

void buf_prepend(struct buf *b, const void *p, size_t n)
{
    if (!n)
        return;
    struct buf_slice *s = b->head;
    if (s && s->block && s->block->refs == 1 && (size_t)(s->p - s->block->data) >= n) {
        s->p -= n;
        s->n += n;
        b->len += n;
    } else {
        /* At the block's end, so that the next prepend finds room in front. */
        struct buf_block *blk = block_new(n);
        push_front(b, slice_new(blk, blk->data + blk->cap - n, n));
    }
    memcpy(b->head->p, p, n);
}

void buf_append_static(struct buf *b, sv v)
{
    if (v.n)
        push(b, slice_new(NULL, (char *)(uintptr_t)v.p, v.n));
}

/* ---- reservations ---- */

static struct buf_slice *reserve_block(struct buf *b, size_t n)
{
    struct buf_block *blk = block_new(n);
    struct buf_slice *s = slice_new(blk, blk->data, 0);
    push(b, s);
    return s;
}

HOT void *buf_reserve(struct buf *b, size_t min_bytes, size_t *room)
{
    struct buf_slice *s = b->tail;
    if (min_bytes == 0)
        min_bytes = 1;
    size_t n = room_after(s);
    if (n < min_bytes) {
        s = reserve_block(b, min_bytes > BUF_BLOCK ? min_bytes : BUF_BLOCK);
        n = s->block->cap;
    }
    *room = n;
    return s->p + s->n;
}

int buf_reserve_iov(struct buf *b, struct iovec *iov, int max, size_t want_bytes)
{
    int count = 0;
    struct buf_slice *last = b->tail;
    size_t room = room_after(last);
    if (room && max > 0 && want_bytes) {
        size_t n = room < want_bytes ? room : want_bytes;
        iov[count++] = (struct iovec){last->p + last->n, n};
        want_bytes -= n;
    }
    /* Behind the tail, not yet part of the chain: buf_commit takes what was filled. */
    struct buf tmp;
    buf_init(&tmp);
    for (; count < max && want_bytes; count++) {
        struct buf_slice *s = reserve_block(&tmp, BUF_BLOCK);
        size_t n = want_bytes < BUF_BLOCK ? want_bytes : BUF_BLOCK;
        iov[count] = (struct iovec){s->p, n};
        want_bytes -= n;
    }
    if (!tmp.head)
        return count;
    if (last)
        last->next = tmp.head;
    else
        b->head = b->tail = tmp.head;
    return count;
}

/* Fills, in order, the room of the tail that the reservation had (none when its block is shared)
 * and then what hangs behind it, and drops what stayed empty. */
HOT void buf_commit(struct buf *b, size_t n)
{
    struct buf_slice *s = b->tail;
    b->len += n;
    while (s && n) {
        size_t room = room_after(s);
        size_t k = n < room ? n : room;
        s->n += k;
        n -= k;
        b->tail = s;
        if (n)
            s = s->next;
    }
    assert(n == 0);
    if (!b->tail)
        return;
    struct buf_slice *rest = b->tail->next;
    b->tail->next = NULL;
    for (struct buf_slice *next; rest; rest = next) {
        next = rest->next;
        slice_free(rest);
    }
    if (b->tail->n)
        return;
    /* The tail itself is an unused reservation. */
    struct buf_slice *empty = b->tail, **link = &b->head;
    b->tail = NULL;
    while (*link != empty) {
        b->tail = *link;
        link = &(*link)->next;
    }
    *link = NULL;
    slice_free(empty);
}

/* ---- taking ---- */

HOT void buf_drain(struct buf *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    b->len -= n;
    while (b->head && n >= b->head->n) {
        struct buf_slice *s = b->head;
        n -= s->n;
        b->head = s->next;
        slice_free(s);
    }
    if (!b->head)
        b->tail = NULL;
    if (n) {
        b->head->p += n;
        b->head->n -= n;
    }
}

HOT size_t buf_peek(const struct buf *b, size_t from, void *out, size_t n)
{
    size_t got = 0;
    for (const struct buf_slice *s = b->head; s && got < n; s = s->next) {
        if (from >= s->n) {
            from -= s->n;
            continue;
        }
        size_t k = s->n - from < n - got ? s->n - from : n - got;
        memcpy((char *)out + got, s->p + from, k);
        got += k;
        from = 0;
    }
    return got;
}

sv buf_front(const struct buf *b)
{
    return b->head ? sv_make(b->head->p, b->head->n) : sv_make(NULL, 0);
}

sv buf_pullup(struct buf *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    if (n == 0)
        return sv_make(NULL, 0);
    struct buf_slice *s = b->head;
    if (s->n < n && room_after(s) < n - s->n) {
        struct buf_block *blk = block_new(n > SMALL_BYTES ? n : SMALL_BYTES + 1);
        size_t k = buf_peek(b, 0, blk->data, n);
        buf_drain(b, n);
        push_front(b, slice_new(blk, blk->data, k));
    } else if (s->n < n) {
        size_t miss = n - s->n;
        buf_peek(b, s->n, s->p + s->n, miss);
        struct buf rest = {s->next, b->tail, b->len - s->n};
        buf_drain(&rest, miss);
        s->n = n;
        s->next = rest.head;
        b->tail = rest.tail ? rest.tail : s;
    }
    return sv_make(b->head->p, n);
}

int buf_iov(const struct buf *b, struct iovec *iov, int max, size_t max_bytes)
{
    int count = 0;
    for (const struct buf_slice *s = b->head; s && count < max && max_bytes; s = s->next) {
        size_t n = s->n < max_bytes ? s->n : max_bytes;
        if (!n)
            continue;
        iov[count++] = (struct iovec){s->p, n};
        max_bytes -= n;
    }
    return count;
}

char *buf_to_cstr(const struct buf *b, size_t *len)
{
    char *p = mem_alloc(b->len + 1);
    size_t n = buf_peek(b, 0, p, b->len);
    p[n] = 0;
    if (len)
        *len = n;
    return p;
}

size_t buf_pinned(const struct buf *b)
{
    size_t total = 0;
    const struct buf_block *before = NULL;
    for (const struct buf_slice *s = b->head; s; s = s->next) {
        if (s->block && s->block != before)
            total += sizeof *s->block + s->block->cap;
        before = s->block;
    }
    return total;
}

struct buf_block *buf_front_block(const struct buf *b)
{
    struct buf_block *blk = b->head ? b->head->block : NULL;
    if (blk)
        blk->refs++;
    return blk;
}

/* ---- the thread's pools ---- */

size_t buf_pool_blocks_in_use(void)
{
    return in_use;
}

void buf_pool_trim(size_t keep_blocks)
{
    pool_trim(&full_pool, keep_blocks < FREE_BLOCKS ? (uint32_t)keep_blocks : FREE_BLOCKS);
    if (keep_blocks)
        return;
    pool_trim(&small_pool, 0);
    pool_trim(&slice_pool, 0);
}

size_t buf_pool_age(void)
{
    return pool_age(&full_pool, KEEP) + pool_age(&small_pool, KEEP * 4) +
           pool_age(&slice_pool, KEEP * 16);
}

bool buf_pool_idle(void)
{
    return full_pool.n <= KEEP && small_pool.n <= KEEP * 4 && slice_pool.n <= KEEP * 16;
}
