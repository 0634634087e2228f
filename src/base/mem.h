/* malloc for small allocations whose size no peer chooses, and what happens when memory is out.
 *
 * A small allocation never returns NULL. A process that serves keeps a reserve (mem_reserve_init):
 *
 *   malloc fails --> a piece of the reserve is given back --> malloc again
 *                    no piece is left, or there never was a reserve: "out of memory", abort
 *
 * While a piece is missing memory is short, and who would begin something new asks mem_short()
 * first and refuses it: a connection, a request, a configuration. What is under way goes on out of
 * the reserve. Each question tries to get a piece back, so the state ends by itself.
 * A big allocation whose size somebody else decides goes through mem_try_realloc, which says no.
 * The reserve is address space without memory until it is needed: it guards against limits that
 * make malloc fail (RLIMIT_AS, vm.overcommit_memory=2). Thread: any. */
#ifndef WEFT_BASE_MEM_H
#define WEFT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif

#define MEM_PIECE  (256u << 10)
#define MEM_PIECES 64u

void *mem_alloc(size_t n) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *p, size_t n) __attribute__((returns_nonnull));

/* Bytes that malloc has handed out, all threads, and what its heaps hold of the system's memory. */
struct mem_use {
    size_t allocated, heap, unused;
};
struct mem_use mem_use(void);

#define mem_new(type)      ((type *)mem_zalloc(sizeof(type)))
#define mem_array(type, n) ((type *)mem_zalloc(sizeof(type) * (size_t)(n)))

/* NULL when there is no memory for it; p is as it was then. Leaves the reserve alone. */
void *mem_try_realloc(void *p, size_t n);

/* Once, when the process begins to serve. */
void mem_reserve_init(void);
/* Part of the reserve is used up. Cheap when it is not. */
bool mem_short(void);
/* Allocations that failed so far, also those that went well out of the reserve. */
uint64_t mem_failures(void);

/* Defined by tests only: whether an allocation of n bytes is to fail. */
bool mem_test_fails(size_t n) __attribute__((weak));

#endif
