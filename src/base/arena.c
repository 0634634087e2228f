#include "base/arena.h"
#include "base/code.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "base/pages.h"
#include "base/pool.h"

#define CHUNK       PAGES_SIZE
#define FIRST_SMALL 512 /* first chunk of a malloc arena; they double up to LARGEST */
#define LARGEST     65536
#define ALIGN       ARENA_ALIGN
#define KEEP_CHUNKS 16 /* ageing leaves these */

#ifdef WEFT_ASAN
#define REDZONE ALIGN /* poisoned bytes between allocations */
#else
#define REDZONE 0
#endif

struct arena_chunk {
    struct arena_chunk *next;
    uint32_t size; /* of the whole chunk; 0 for one of its own size */
    bool pooled;
} __attribute__((aligned(ALIGN)));

struct cleanup {
    struct cleanup *next;
    void (*fn)(void *arg);
    void *arg;
};

void arena_init(struct arena *a)
{
    *a = (struct arena){.on_malloc = false};
}

void arena_init_malloc(struct arena *a)
{
    *a = (struct arena){.on_malloc = true};
}

HOT void arena_free(struct arena *a)
{
    while (a->cleanups) {
        struct cleanup *c = a->cleanups;
        a->cleanups = c->next;
        c->fn(c->arg);
    }
    for (struct arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        POOL_UNPOISON(c, c->size);
        if (c->pooled)
            pages_put(c);
        else
            free(c);
    }
    *a = (struct arena){.on_malloc = a->on_malloc};
}

static struct arena_chunk *chunk_new(struct arena *a, size_t n)
{
    struct arena_chunk *c;
    size_t size = CHUNK;
    if (a->on_malloc) {
        size = a->head && a->head->size ? a->head->size * 2u : FIRST_SMALL;
        if (size > LARGEST)
            size = LARGEST;
        while (size - sizeof *c < n)
            size *= 2;
        c = mem_alloc(size);
    } else {
        if (!pages_hot())
            pool_at_thread_exit();
        c = pages_get();
    }
    c->size = (uint32_t)size;
    c->pooled = !a->on_malloc;
    c->next = a->head;
    a->head = c;
    POOL_POISON(c + 1, size - sizeof *c);
    return c;
}

/* One allocation with a chunk of its own; the current chunk stays current. */
static void *alloc_big(struct arena *a, size_t n)
{
    if (n > SIZE_MAX - sizeof(struct arena_chunk))
        abort();
    struct arena_chunk *c = mem_alloc(sizeof *c + n);
    c->size = 0;
    c->pooled = false;
    if (a->head) {
        c->next = a->head->next;
        a->head->next = c;
    } else {
        c->next = NULL;
        a->head = c;
    }
    return c + 1;
}

static void *alloc_elsewhere(struct arena *a, size_t n, size_t rounded)
{
    size_t most = (a->on_malloc ? LARGEST / 4 : CHUNK) - sizeof(struct arena_chunk);
    if (rounded < n || rounded > most)
        return alloc_big(a, n);
    struct arena_chunk *c = chunk_new(a, rounded);
    char *p = (char *)(c + 1), *end = (char *)c + c->size;
    /* What is left of the fuller chunk is given up. */
    if ((size_t)(end - p) - rounded >= (size_t)(a->end - a->cur)) {
        a->cur = p + rounded;
        a->end = end;
    }
    POOL_UNPOISON(p, n);
    return p;
}

HOT void *arena_alloc_slow(struct arena *a, size_t n)
{
    size_t rounded = ((n + !n + (ALIGN - 1)) & ~(size_t)(ALIGN - 1)) + REDZONE;
    a->used += n;
    if (__builtin_expect((size_t)(a->end - a->cur) < rounded || rounded < n, 0))
        return alloc_elsewhere(a, n, rounded);
    void *p = a->cur;
    a->cur += rounded;
    POOL_UNPOISON(p, n);
    return p;
}

sv arena_sv(struct arena *a, sv v)
{
    return sv_make(arena_cstr(a, v), v.n);
}

char *arena_cstr(struct arena *a, sv v)
{
    char *p = arena_alloc(a, v.n + 1);
    if (v.n)
        memcpy(p, v.p, v.n);
    p[v.n] = 0;
    return p;
}

sv arena_lower(struct arena *a, sv v)
{
    size_t i = 0;
    while (i < v.n && !(v.p[i] >= 'A' && v.p[i] <= 'Z'))
        i++;
    if (i == v.n)
        return v;
    char *p = arena_cstr(a, v);
    for (; i < v.n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + 32);
    return sv_make(p, v.n);
}

sv arena_u64(struct arena *a, uint64_t v)
{
    char *text = arena_alloc(a, 20), *end = text + 20, *p = end;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    return sv_make(p, (size_t)(end - p));
}

sv arena_printf(struct arena *a, const char *fmt, ...)
{
    char small[256];
    va_list ap;
    va_start(ap, fmt);
    int r = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    size_t n = r > 0 ? (size_t)r : 0;
    if (n < sizeof small)
        return arena_sv(a, sv_make(small, n));
    char *p = arena_alloc(a, n + 1);
    va_start(ap, fmt);
    vsnprintf(p, n + 1, fmt, ap);
    va_end(ap);
    return sv_make(p, n);
}

void arena_on_free(struct arena *a, void (*fn)(void *arg), void *arg)
{
    struct cleanup *c = arena_alloc(a, sizeof *c);
    *c = (struct cleanup){.next = a->cleanups, .fn = fn, .arg = arg};
    a->cleanups = c;
}

void arena_trim(void)
{
    pages_trim();
}

size_t arena_age(void)
{
    return pages_age(KEEP_CHUNKS);
}

bool arena_pool_idle(void)
{
    return pages_hot() <= KEEP_CHUNKS;
}
