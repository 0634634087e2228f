/* Arena: everything of one lifetime is allocated from it and dies with it in one step.
 *
 *   arena -> [chunk 4 KB] -> [chunk 4 KB] -> [big allocation] ...
 *
 * Chunks of the usual size are pages of the thread that creates the arena (pages.h); an arena is
 * created, used and freed on one thread (config arenas are handed over read-only inside a
 * snapshot; they then use arena_init_malloc). Allocations are 16-byte aligned and not zeroed
 * unless said so. Memory exhaustion aborts: what a peer can size is bounded by its parser's limits.
 */
#ifndef WEFT_BASE_ARENA_H
#define WEFT_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/error.h"
#include "base/mem.h"
#include "base/sv.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *head;
    char *cur, *end;
    size_t used;    /* bytes handed out since init or reset */
    bool on_malloc; /* chunks are malloc'd, so that another thread may free the arena */
    void *cleanups; /* private: list of arena_on_free() calls */
};

/* An empty arena that holds no memory until the first allocation. */
void arena_init(struct arena *a);
/* The same, with chunks that any thread may free (snapshots). */
void arena_init_malloc(struct arena *a);
/* Runs the cleanups in reverse order, frees all; the arena is empty and usable again. */
void arena_free(struct arena *a);

#define ARENA_ALIGN 16

void *arena_alloc_slow(struct arena *a, size_t n) __attribute__((malloc, returns_nonnull));
/* n bytes, aligned to 16; n == 0 gives a valid pointer. */
__attribute__((returns_nonnull)) static inline void *arena_alloc(struct arena *a, size_t n)
{
#ifndef WEFT_ASAN
    size_t rounded = (n + (ARENA_ALIGN - 1)) & ~(size_t)(ARENA_ALIGN - 1);
    /* rounded is 0 for nothing and for what is more than there can be. */
    if (__builtin_expect((size_t)(a->end - a->cur) > rounded - 1, 1)) {
        void *p = a->cur;
        a->cur += rounded;
        a->used += n;
        return p;
    }
#endif
    return arena_alloc_slow(a, n);
}
static inline void *arena_zalloc(struct arena *a, size_t n)
{
    return memset(arena_alloc(a, n), 0, n);
}
#define arena_new(a, type)      ((type *)arena_zalloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_zalloc((a), sizeof(type) * (size_t)(n)))
/* A copy of the bytes, followed by a NUL that is not counted. */
sv arena_sv(struct arena *a, sv v);
char *arena_cstr(struct arena *a, sv v);
/* v itself when no letter of it (ASCII) is upper case, else a copy. */
sv arena_lower(struct arena *a, sv v);
sv arena_u64(struct arena *a, uint64_t v); /* in decimal */
sv arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Calls fn(arg) when the arena is freed: for references that what lives here holds. */
void arena_on_free(struct arena *a, void (*fn)(void *arg), void *arg);

/* Moves all that src holds to dst, which must hold nothing; src is empty and usable. For who has to
 * keep another's arena longer than that one would: what points into the memory stays valid, what
 * points to the struct src does not follow. */
static inline void arena_take(struct arena *dst, struct arena *src)
{
    *dst = *src;
    *src = (struct arena){.on_malloc = dst->on_malloc};
}

/* The calling thread's unused chunks: gives memory back to the system (tests, idle). */
void arena_trim(void);
/* Gives back part of the chunks that were not needed since the last call; returns the bytes.
 * The loop calls it about once a second while the list holds more than a working minimum
 * (arena_pool_idle is false). */
size_t arena_age(void);
bool arena_pool_idle(void);

#endif
