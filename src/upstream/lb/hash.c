#include "upstream/lb/hash.h"

static uint64_t little_endian(const char *p, size_t n)
{
    uint64_t r = 0;
    while (n-- > 0)
        r = r << 8 | (uint8_t)p[n];
    return r;
}

static uint64_t shift_mix(uint64_t v)
{
    return v ^ v >> 47;
}

uint64_t hash_murmur2(sv v)
{
    const uint64_t mul = 0xc6a4a7935bd1e995ull;
    uint64_t h = 0xc70f6907ull ^ v.n * mul;
    size_t whole = v.n & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8)
        h = (h ^ shift_mix(little_endian(v.p + i, 8) * mul) * mul) * mul;
    if (v.n > whole)
        h = (h ^ little_endian(v.p + whole, v.n - whole)) * mul;
    h = shift_mix(h) * mul;
    return shift_mix(h);
}
