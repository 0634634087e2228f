/* Preloaded into a process: from the first SIGRTMIN+5 to the next, each malloc, calloc and realloc
 * of it and of its libraries fails with a chance of 1 in FAILMALLOC, drawn by FAILSEED. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t k, size_t n);
extern void *__libc_realloc(void *p, size_t n);

static atomic_bool on;
static _Atomic uint64_t state, one_in;

static void toggle(int sig)
{
    atomic_store(&on, !atomic_load(&on));
}

static __attribute__((constructor)) void begin(void)
{
    const char *n = getenv("FAILMALLOC"), *seed = getenv("FAILSEED");
    atomic_store(&one_in, n ? strtoull(n, NULL, 10) : 1000);
    atomic_store(&state, seed ? strtoull(seed, NULL, 10) : 1);
    signal(SIGRTMIN + 5, toggle);
}

static int fails(void)
{
    if (!atomic_load_explicit(&on, memory_order_relaxed))
        return 0;
    uint64_t x = atomic_fetch_add(&state, 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    if ((x ^ (x >> 31)) % atomic_load(&one_in))
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t k, size_t n)
{
    return fails() ? NULL : __libc_calloc(k, n);
}

void *realloc(void *p, size_t n)
{
    return fails() ? NULL : __libc_realloc(p, n);
}
