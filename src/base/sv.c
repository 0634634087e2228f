#include "base/sv.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "base/error.h"
#include "base/mem.h"

static uint64_t hash_seed;

__attribute__((constructor)) static void draw_hash_seed(void)
{
    if (getrandom(&hash_seed, sizeof hash_seed, GRND_NONBLOCK) == (ssize_t)sizeof hash_seed)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    hash_seed = (uint64_t)ts.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)(uintptr_t)&ts;
}

void sv_hash_set_seed(uint64_t seed)
{
    hash_seed = seed;
}

uint64_t sv_hash(sv v)
{
    return XXH3_64bits_withSeed(v.n ? v.p : "", v.n, hash_seed);
}

uint64_t sv_hash_stable(sv v)
{
    return XXH3_64bits(v.n ? v.p : "", v.n);
}

uint64_t sv_hash_xx64(sv v, uint64_t seed)
{
    return XXH64(v.n ? v.p : "", v.n, seed);
}

static inline unsigned char lower(char c)
{
    unsigned char u = (unsigned char)c;
    return (unsigned char)((unsigned)u - 'A' < 26u ? u | 0x20 : u);
}

bool sv_eq_icase(sv a, sv b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool sv_in(sv v, const sv *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sv_eq(list[i], v))
            return true;
    return false;
}

bool sv_starts_icase(sv v, sv prefix)
{
    return v.n >= prefix.n && sv_eq_icase(sv_first(v, prefix.n), prefix);
}

int sv_cmp(sv a, sv b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int r = n ? memcmp(a.p, b.p, n) : 0;
    if (r)
        return r;
    return a.n < b.n ? -1 : a.n > b.n;
}

ptrdiff_t sv_find(sv v, char c)
{
    const char *p = v.n ? memchr(v.p, c, v.n) : NULL;
    return p ? p - v.p : -1;
}

ptrdiff_t sv_rfind(sv v, char c)
{
    const char *p = v.n ? memrchr(v.p, c, v.n) : NULL;
    return p ? p - v.p : -1;
}

ptrdiff_t sv_find_sv(sv v, sv needle)
{
    if (needle.n == 0)
        return 0;
    const char *p = v.n >= needle.n ? memmem(v.p, v.n, needle.p, needle.n) : NULL;
    return p ? p - v.p : -1;
}

sv sv_trim(sv v)
{
    while (v.n && (v.p[0] == ' ' || v.p[0] == '\t')) {
        v.p++;
        v.n--;
    }
    while (v.n && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t'))
        v.n--;
    return v;
}

bool sv_cut(sv v, char sep, sv *head, sv *rest)
{
    ptrdiff_t i = sv_find(v, sep);
    if (i < 0) {
        *head = v;
        *rest = sv_make(NULL, 0);
        return false;
    }
    *head = sv_first(v, (size_t)i);
    *rest = sv_from(v, (size_t)i + 1);
    return true;
}

int sv_to_u64(sv v, uint64_t *out)
{
    uint64_t r = 0;
    if (v.n == 0)
        return E_INVALID;
    for (size_t i = 0; i < v.n; i++) {
        unsigned d = (unsigned)(unsigned char)v.p[i] - '0';
        if (d > 9 || __builtin_mul_overflow(r, (uint64_t)10, &r) ||
            __builtin_add_overflow(r, (uint64_t)d, &r))
            return E_INVALID;
    }
    *out = r;
    return 0;
}

int sv_to_i64(sv v, int64_t *out)
{
    bool neg = v.n && v.p[0] == '-';
    uint64_t u;
    int rc = sv_to_u64(neg ? sv_from(v, 1) : v, &u);
    if (rc)
        return rc;
    if (u > (uint64_t)INT64_MAX + (neg ? 1 : 0))
        return E_INVALID;
    *out = neg ? (int64_t)(0 - u) : (int64_t)u;
    return 0;
}

char *sv_dup(sv v)
{
    char *p = mem_alloc(v.n + 1);
    if (v.n)
        memcpy(p, v.p, v.n);
    p[v.n] = 0;
    return p;
}
