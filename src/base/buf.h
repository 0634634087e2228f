/* Buffer chain: the form in which bytes travel.
 *
 *   buf -> slice -> slice -> slice
 *           |        |        |
 *         block    block    (same block, another range)
 *
 * A block is a pooled piece of memory (BUF_BLOCK bytes; a small one for a few bytes between bigger
 * slices; or one exact size for big ones) with a reference count; a slice is a range of one block.
 * Bodies are read once into a block and written once from it: moving bytes between chains moves
 * slices, never copies. Reference counts are not atomic: blocks belong to the thread whose pool
 * made them. Empty chains hold no memory, so an idle connection holds none. Thread: the one that
 * created the blocks. */
#ifndef WEFT_BASE_BUF_H
#define WEFT_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/sv.h"
#include "base/error.h"

#define BUF_BLOCK 16384 /* usable bytes of a pooled block */

struct buf_block; /* opaque: refcount, capacity, filled end, bytes */
struct buf_slice; /* opaque: next, block, start, length */

struct buf {
    struct buf_slice *head, *tail;
    size_t len; /* bytes in all slices */
};

static inline void buf_init(struct buf *b)
{
    b->head = b->tail = NULL;
    b->len = 0;
}

/* Drops everything; the chain is empty and usable. */
void buf_reset(struct buf *b);

/* ---- adding at the end ---- */
/* Copies n bytes in (fills the last block when it is not shared and has room). */
void buf_append(struct buf *b, const void *p, size_t n);
static inline void buf_append_sv(struct buf *b, sv v)
{
    buf_append(b, v.p, v.n);
}
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Moves all of src (which becomes empty) / its first n bytes to the end of dst. */
void buf_move(struct buf *dst, struct buf *src);
void buf_move_n(struct buf *dst, struct buf *src, size_t n);
/* Adds references to the bytes [from, from+n) of src; src keeps them (mirroring, retries). */
void buf_share(struct buf *dst, const struct buf *src, size_t from, size_t n);
/* Puts bytes in front. */
void buf_prepend(struct buf *b, const void *p, size_t n);
/* Adds n bytes in one block of just that size and returns where to write them: for bytes that are
 * kept long and shared (buf_share), where a pooled block's slack would be kept with them. */
void *buf_append_room(struct buf *b, size_t n);
/* Adds bytes that live in static or longer-lived storage, without a copy. */
void buf_append_static(struct buf *b, sv v);

/* Room for writing in place: *room gets at least min_bytes (min_bytes <= BUF_BLOCK) of writable
 * memory at the end of the chain; nothing counts until buf_commit(n) says how much was written.
 * At most one reservation is open on a chain, and the chain is not used for anything else until
 * the commit; buf_commit(b, 0) gives an unused one back. */
void *buf_reserve(struct buf *b, size_t min_bytes, size_t *room);
/* The same over several blocks, for readv: room for up to want_bytes in at most max entries (the
 * rest of the last block first). Returns the number of entries; buf_commit follows as above. */
int buf_reserve_iov(struct buf *b, struct iovec *iov, int max, size_t want_bytes);
void buf_commit(struct buf *b, size_t n);

/* ---- taking from the front ---- */
void buf_drain(struct buf *b, size_t n); /* n <= len */
/* Copies up to n bytes starting at offset `from`; returns how many. Does not consume. */
size_t buf_peek(const struct buf *b, size_t from, void *out, size_t n);
/* The first slice as a view; empty when the chain is. Valid until the chain changes. */
sv buf_front(const struct buf *b);
/* Makes the first n bytes contiguous (copying only if they are not) and returns them; n <= len.
 * The view stays valid as long as those bytes stay in the chain. */
sv buf_pullup(struct buf *b, size_t n);
/* Fills iov from the front, at most max entries and max_bytes; returns the count. */
int buf_iov(const struct buf *b, struct iovec *iov, int max, size_t max_bytes);
/* All of it, copied into malloc'd memory with a NUL after it. */
char *buf_to_cstr(const struct buf *b, size_t *len);
/* Bytes of memory the chain pins (whole blocks), for limits that count real memory. */
size_t buf_pinned(const struct buf *b);

/* ---- blocks held by somebody else than a chain ---- */
/* A reference to the block under the first slice: keeps views into it alive after the bytes were
 * drained (the header views of a request). Released with buf_block_unref. NULL when empty. */
struct buf_block *buf_front_block(const struct buf *b);
void buf_block_unref(struct buf_block *blk); /* NULL is fine */

/* Statistics and trimming of the calling thread's pool. */
size_t buf_pool_blocks_in_use(void);
void buf_pool_trim(size_t keep_blocks);
/* As arena_age and arena_pool_idle, for the blocks and slices. */
size_t buf_pool_age(void);
bool buf_pool_idle(void);

#endif
