#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#ifdef WEFT_ASAN /* not every compiler brings sanitizer/allocator_interface.h along */
size_t __sanitizer_get_current_allocated_bytes(void);
size_t __sanitizer_get_heap_size(void);
size_t __sanitizer_get_free_bytes(void);
#endif

/* A piece is a mapping of its own; or, when the address space is full of what malloc keeps for
 * itself, memory of malloc's: the lowest bit says so. */
static _Atomic(uintptr_t) reserve[MEM_PIECES];
static _Atomic unsigned missing; /* pieces */
static _Atomic uint64_t failures;

static bool fails(size_t n)
{
    return mem_test_fails && mem_test_fails(n);
}

static uintptr_t piece_new(void)
{
    if (fails(MEM_PIECE))
        return 0;
    void *p = mmap(NULL, MEM_PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        return (uintptr_t)p;
    p = malloc(MEM_PIECE);
    return p ? (uintptr_t)p | 1 : 0;
}

static void piece_free(uintptr_t p)
{
    if (p & 1)
        free((void *)(p - 1));
    else
        munmap((void *)p, MEM_PIECE);
}

void mem_reserve_init(void)
{
    for (unsigned i = 0; i < MEM_PIECES; i++)
        if (!atomic_load(&reserve[i]))
            atomic_store(&reserve[i], piece_new());
}

/* Gives one piece back to the system; false: there is none. */
static bool dip(void)
{
    for (unsigned i = 0; i < MEM_PIECES; i++) {
        uintptr_t p = atomic_exchange(&reserve[i], 0);
        if (!p)
            continue;
        atomic_fetch_add(&missing, 1);
        piece_free(p);
        return true;
    }
    return false;
}

static void refill_one(void)
{
    uintptr_t p = piece_new();
    for (unsigned i = 0; p && i < MEM_PIECES; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&reserve[i], &none, p)) {
            atomic_fetch_sub(&missing, 1);
            return;
        }
    }
    if (p)
        piece_free(p);
}

bool mem_short(void)
{
    if (__builtin_expect(atomic_load_explicit(&missing, memory_order_relaxed) == 0, 1))
        return false;
    refill_one();
    return atomic_load_explicit(&missing, memory_order_relaxed) > 0;
}

uint64_t mem_failures(void)
{
    return atomic_load_explicit(&failures, memory_order_relaxed);
}

static _Noreturn void out_of_memory(size_t n)
{
    fprintf(stderr, "out of memory: %zu bytes\n", n);
    abort();
}

/* One more time for each piece of the reserve. `p`: what is to be resized, or NULL. */
static void *again(void *p, size_t n, bool zero)
{
    atomic_fetch_add(&failures, 1);
    while (dip()) {
        void *q = zero ? calloc(1, n) : realloc(p, n);
        if (q)
            return q;
    }
    out_of_memory(n);
}

void *mem_alloc(size_t n)
{
    n += !n;
    void *p = fails(n) ? NULL : malloc(n);
    return __builtin_expect(p != NULL, 1) ? p : again(NULL, n, false);
}

void *mem_zalloc(size_t n)
{
    n += !n;
    void *p = fails(n) ? NULL : calloc(1, n);
    return __builtin_expect(p != NULL, 1) ? p : again(NULL, n, true);
}

void *mem_realloc(void *old, size_t n)
{
    n += !n;
    void *p = fails(n) ? NULL : realloc(old, n);
    return __builtin_expect(p != NULL, 1) ? p : again(old, n, false);
}

void *mem_try_realloc(void *old, size_t n)
{
    void *p = fails(n) ? NULL : realloc(old, n);
    if (!p)
        atomic_fetch_add(&failures, 1);
    return p;
}

struct mem_use mem_use(void)
{
#ifdef WEFT_ASAN
    return (struct mem_use){__sanitizer_get_current_allocated_bytes(), __sanitizer_get_heap_size(),
                            __sanitizer_get_free_bytes()};
#else
    struct mallinfo2 m = mallinfo2();
    return (struct mem_use){m.uordblks + m.hblkhd, m.arena + m.hblkhd, m.fordblks};
#endif
}
