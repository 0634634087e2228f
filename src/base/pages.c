#include "base/pages.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "base/mem.h"

#ifdef WEFT_ASAN

void *pages_get(void)
{
    return mem_alloc(PAGES_SIZE);
}

void pages_put(void *page)
{
    free(page);
}

uint32_t pages_hot(void)
{
    return 0;
}

size_t pages_age(uint32_t keep)
{
    return 0;
}

void pages_trim(void)
{
}

#else

#define REGION (1u << 20) /* bytes of address space taken at once */

struct page {
    struct page *next;
};

struct region {
    struct region *next;
    char *at;
};

static __thread struct {
    struct page *hot;
    uint32_t n_hot, low; /* low: fewest since the last ageing */
    uint32_t in_use;
    void **cold;
    uint32_t n_cold, cap_cold;
    char *fresh, *end; /* of the newest region: never touched */
    struct region *regions;
} t;

static bool add_region(void)
{
    char *at = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return false;
    madvise(at, REGION, MADV_NOHUGEPAGE);
    struct region *r = mem_alloc(sizeof *r);
    *r = (struct region){t.regions, at};
    t.regions = r;
    t.fresh = at;
    t.end = at + REGION;
    return true;
}

static void *get_slowly(void)
{
    if (t.n_cold)
        return t.cold[--t.n_cold];
    if (t.fresh == t.end && !add_region())
        return mem_alloc(PAGES_SIZE); /* out of the reserve; not given back */
    t.fresh += PAGES_SIZE;
    return t.fresh - PAGES_SIZE;
}

void *pages_get(void)
{
    struct page *p = t.hot;
    t.in_use++;
    if (__builtin_expect(!p, 0))
        return get_slowly();
    t.hot = p->next;
    if (--t.n_hot < t.low)
        t.low = t.n_hot;
    return p;
}

void pages_put(void *page)
{
    struct page *p = page;
    p->next = t.hot;
    t.hot = p;
    t.n_hot++;
    t.in_use--;
}

uint32_t pages_hot(void)
{
    return t.n_hot;
}

static void make_cold(struct page *p)
{
    if (t.n_cold == t.cap_cold) {
        t.cap_cold = t.cap_cold ? t.cap_cold * 2 : 64;
        t.cold = mem_realloc(t.cold, t.cap_cold * sizeof *t.cold);
    }
    madvise(p, PAGES_SIZE, MADV_DONTNEED);
    t.cold[t.n_cold++] = p;
}

static size_t cool(uint32_t keep)
{
    size_t went = 0;
    for (; t.n_hot > keep; t.n_hot--, went += PAGES_SIZE) {
        struct page *p = t.hot;
        t.hot = p->next;
        make_cold(p);
    }
    t.low = t.n_hot;
    return went;
}

size_t pages_age(uint32_t keep)
{
    uint32_t drop = t.low > 32 ? t.low / 2 : t.low;
    return cool(t.n_hot - drop > keep ? t.n_hot - drop : keep);
}

void pages_trim(void)
{
    if (t.in_use) {
        cool(0);
        return;
    }
    for (struct region *r = t.regions, *next; r; r = next) {
        next = r->next;
        munmap(r->at, REGION);
        free(r);
    }
    free(t.cold);
    t = (typeof(t)){0};
}

#endif
