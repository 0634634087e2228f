/* Byte classes of HTTP, shared by the codecs, the URI code and the validators, so that all of them
 * agree on what is allowed (attack case 16). The tables say what is right; the functions look at 16
 * bytes a step where the machine can. Constant. Thread: any. */
#ifndef WEFT_HTTP_CHARS_H
#define WEFT_HTTP_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The lower-case form of a token byte (RFC 9110 5.6.2), 0 when it is none. */
extern const uint8_t http_token_lower[256];
/* 1 for bytes that no field value may have: controls except HTAB, DEL. */
extern const uint8_t http_value_bad[256];
/* 1 for bytes that may stand in a request target. */
extern const uint8_t http_target_ok[256];
/* The value of a hex digit plus one; 0 for every other byte. */
extern const uint8_t http_hex_plus1[256];

#ifdef __SSE2__
static inline __m128i http_load16(const char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
/* The n < 16 bytes at p, each at least once, in no order; letters when there are none. */
static inline __m128i http_load_short(const char *p, size_t n)
{
    uint32_t a, b;
    if (n >= 8)
        return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)(const void *)p),
                                  _mm_loadl_epi64((const __m128i *)(const void *)(p + n - 8)));
    if (n >= 4) {
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        return _mm_set1_epi64x((int64_t)((uint64_t)a << 32 | b));
    }
    if (n == 0)
        return _mm_set1_epi8('a');
    a = (uint8_t)p[0];
    a |= (uint32_t)(uint8_t)p[n / 2] << 8 | (uint32_t)(uint8_t)p[n - 1] << 16 | a << 24;
    return _mm_set1_epi32((int)a);
}
/* Bit i is set when byte i may not stand in a field value / in a target. */
static inline unsigned http_value_bad16(__m128i x)
{
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
    __m128i tab = _mm_cmpeq_epi8(x, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, control), del));
}
static inline unsigned http_target_bad16(__m128i x)
{
    /* Signed compare: bytes from 0x80 are below 0x21 too. */
    __m128i low = _mm_cmplt_epi8(x, _mm_set1_epi8(0x21));
    __m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, del));
}
#endif

/* How many bytes from p are allowed in a field value: stops at CR, LF, NUL and other controls. */
static inline size_t http_value_span(const char *p, size_t n)
{
    size_t i = 0;
#ifdef __SSE2__
    for (; i + 16 <= n; i += 16) {
        unsigned bad = http_value_bad16(http_load16(p + i));
        if (bad)
            return i + (unsigned)__builtin_ctz(bad);
    }
#endif
    while (i < n && !http_value_bad[(uint8_t)p[i]])
        i++;
    return i;
}

/* How many bytes from p may stand in a request target. */
static inline size_t http_target_span(const char *p, size_t n)
{
    size_t i = 0;
#ifdef __SSE2__
    for (; i + 16 <= n; i += 16) {
        unsigned bad = http_target_bad16(http_load16(p + i));
        if (bad)
            return i + (unsigned)__builtin_ctz(bad);
    }
#endif
    while (i < n && http_target_ok[(uint8_t)p[i]])
        i++;
    return i;
}

static inline bool http_target_valid(const char *p, size_t n)
{
#ifdef __SSE2__
    if (n < 16)
        return !http_target_bad16(http_load_short(p, n));
#endif
    return http_target_span(p, n) == n;
}

/* ---- short pieces, without a call: n is usually below 16 ---- */

static inline bool http_bytes_eq(const char *a, const char *b, size_t n)
{
    uint64_t x, y, u, v;
    if (n > 16)
        return memcmp(a, b, n) == 0;
    if (n >= 8) {
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        memcpy(&u, a + n - 8, 8);
        memcpy(&v, b + n - 8, 8);
        return ((x ^ y) | (u ^ v)) == 0;
    }
    if (n >= 4) {
        uint32_t s, t, q, r;
        memcpy(&s, a, 4);
        memcpy(&t, b, 4);
        memcpy(&q, a + n - 4, 4);
        memcpy(&r, b + n - 4, 4);
        return ((s ^ t) | (q ^ r)) == 0;
    }
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* Copies and returns the end of what was written. */
static inline char *http_bytes_put(char *to, const char *from, size_t n)
{
    uint64_t x, y;
    if (n > 16) {
        memcpy(to, from, n);
    } else if (n >= 8) {
        memcpy(&x, from, 8);
        memcpy(&y, from + n - 8, 8);
        memcpy(to, &x, 8);
        memcpy(to + n - 8, &y, 8);
    } else if (n >= 4) {
        uint32_t s, t;
        memcpy(&s, from, 4);
        memcpy(&t, from + n - 4, 4);
        memcpy(to, &s, 4);
        memcpy(to + n - 4, &t, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
    return to + n;
}

#endif
