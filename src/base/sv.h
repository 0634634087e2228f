/* String view: bytes with a length, not owned, not NUL-terminated.
 *
 * A view borrows; how long the bytes live is said where the view comes from (arena, packed
 * configuration, received block). The empty view has n == 0; p may then be NULL.
 * Thread: any. */
#ifndef WEFT_BASE_SV_H
#define WEFT_BASE_SV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct sv {
    const char *p;
    size_t n;
} sv;

/* A view of a string literal; the length is known at compile time. */
#define SV(lit) ((sv){(lit), sizeof(lit) - 1})
/* For static initialisers. */
#define SV_INIT(lit)                                                                               \
    {                                                                                              \
        (lit), sizeof(lit) - 1                                                                     \
    }
/* printf: printf("%.*s", SV_ARG(v)) */
#define SV_ARG(v) (int)(v).n, (v).p

static inline sv sv_of(const char *cstr)
{
    return cstr ? (sv){cstr, strlen(cstr)} : (sv){NULL, 0};
}

static inline sv sv_make(const char *p, size_t n)
{
    return (sv){p, n};
}

static inline bool sv_eq(sv a, sv b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool sv_eq_c(sv a, const char *cstr)
{
    return sv_eq(a, sv_of(cstr));
}

/* The part of v from byte `from` to its end; empty when from >= v.n. */
static inline sv sv_from(sv v, size_t from)
{
    return from >= v.n ? (sv){NULL, 0} : (sv){v.p + from, v.n - from};
}

/* The first n bytes of v, or all of it when it is shorter. */
static inline sv sv_first(sv v, size_t n)
{
    return (sv){v.p, n < v.n ? n : v.n};
}

static inline bool sv_starts(sv v, sv prefix)
{
    return v.n >= prefix.n && (prefix.n == 0 || memcmp(v.p, prefix.p, prefix.n) == 0);
}

static inline bool sv_ends(sv v, sv suffix)
{
    return v.n >= suffix.n &&
           (suffix.n == 0 || memcmp(v.p + v.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* ASCII case-insensitive; bytes above 0x7f compare as they are. */
bool sv_eq_icase(sv a, sv b);
bool sv_starts_icase(sv v, sv prefix);
/* Whether it is one of n. */
bool sv_in(sv v, const sv *list, size_t n);
/* <0, 0, >0 in byte order, shorter first among equal prefixes. */
int sv_cmp(sv a, sv b);
/* Index of the first byte c / first occurrence of needle, or -1. */
ptrdiff_t sv_find(sv v, char c);
ptrdiff_t sv_rfind(sv v, char c);
ptrdiff_t sv_find_sv(sv v, sv needle);
/* v without spaces and tabs at both ends. */
sv sv_trim(sv v);
/* Cuts at the first `sep`: *head gets what is before it, *rest what is after it; without `sep`,
 * *head = v, *rest = empty and the result is false. head and rest may alias v's storage. */
bool sv_cut(sv v, char sep, sv *head, sv *rest);
/* Strict decimal: only digits, at least one, no sign, no overflow. 0, or E_INVALID. */
int sv_to_u64(sv v, uint64_t *out);
/* Strict decimal with an optional '-'. */
int sv_to_i64(sv v, int64_t *out);
/* Seeded 64-bit hash (xxh3); the seed is drawn once per process, so a peer cannot aim at a
 * bucket (attack case 46). Not for anything that other programs must reproduce. */
uint64_t sv_hash(sv v);
/* Replaces the seed: simulations, before any map exists. */
void sv_hash_set_seed(uint64_t seed);
/* The same for every process and host (xxh3 without a seed): versions of resources, checksums.
 * Never for a table whose keys a peer chooses. */
uint64_t sv_hash_stable(sv v);
/* XXH64, which other programs compute too: what a ring, a hash policy and the gauge of a version
 * say is what Envoy says. As little for such a table. */
uint64_t sv_hash_xx64(sv v, uint64_t seed);
/* A malloc'd NUL-terminated copy; the caller frees it. */
char *sv_dup(sv v);

#endif
