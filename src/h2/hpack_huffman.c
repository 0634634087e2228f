/* RFC 7541 appendix B. The code is canonical: the lengths say everything, and codes and the
 * decoding tables are computed from them once, before main. */
#include "h2/hpack.h"

#define SYMBOLS 257 /* 256 is EOS */
#define EOS     256
#define LONGEST 30
#define FAST    8 /* bits looked up at once: enough for nearly all of a header */

static const uint8_t code_bits[SYMBOLS] = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,
    5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,
    7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8,  13, 19, 13, 14, 6,
    15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,
    7,  7,  7,  15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
};

static uint32_t codes[SYMBOLS];
static uint16_t sorted[SYMBOLS]; /* symbols by length, then value */
/* By length L: codes of that length are first[L] .. first[L] + count[L] - 1, and their symbols
 * start at sorted[start[L]]. limit[L]: one past the last code, left-aligned to 32 bits. */
static uint32_t first[LONGEST + 1], count[LONGEST + 1], start[LONGEST + 1];
static uint64_t limit[LONGEST + 1];
static uint16_t fast[1 << FAST]; /* bits << 8 | symbol; 0: longer than FAST bits */

__attribute__((constructor)) static void huffman_build(void)
{
    uint32_t code = 0, n = 0;
    for (unsigned bits = 1; bits <= LONGEST; bits++) {
        code <<= 1;
        first[bits] = code;
        start[bits] = n;
        for (unsigned sym = 0; sym < SYMBOLS; sym++) {
            if (code_bits[sym] != bits)
                continue;
            sorted[n++] = (uint16_t)sym;
            if (bits <= FAST)
                for (unsigned i = 0; i < 1u << (FAST - bits); i++)
                    fast[code << (FAST - bits) | i] = (uint16_t)(bits << 8 | sym);
            codes[sym] = code++;
        }
        count[bits] = code - first[bits];
        limit[bits] = (uint64_t)code << (32 - bits);
    }
}

/* One symbol whose code is longer than FAST bits, from the top of `bits`. */
static unsigned long_symbol(uint64_t acc, unsigned *bits)
{
    uint64_t top = acc >> 32;
    unsigned n = FAST + 1;
    while (n < LONGEST && (count[n] == 0 || top >= limit[n]))
        n++;
    *bits = n;
    return sorted[start[n] + (uint32_t)(acc >> (64 - n)) - first[n]];
}

ssize_t hpack_huff_decode(const uint8_t *p, size_t n, char *out)
{
    const uint8_t *end = p + n;
    char *o = out;
    uint64_t acc = 0; /* left-aligned: the next bit is the top one */
    unsigned have = 0;
    for (;;) {
        if (have <= 32 && end - p >= 4) {
            uint32_t word =
                (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
            acc |= (uint64_t)word << (32 - have);
            have += 32;
            p += 4;
        }
        while (have < LONGEST && p < end) {
            acc |= (uint64_t)*p++ << (56 - have);
            have += 8;
        }
        if (have == 0)
            return o - out;
        unsigned e = fast[acc >> (64 - FAST)], bits = e >> 8, sym = e & 0xff;
        /* Padding: fewer than 8 bits of a longer code, the most significant bits of EOS: ones. */
        if (have < 8 && (e == 0 || bits > have))
            return acc >> (64 - have) == (1u << have) - 1 ? o - out : E_PROTOCOL;
        if (e == 0)
            sym = long_symbol(acc, &bits);
        if (bits > have || sym == EOS)
            return E_PROTOCOL;
        *o++ = (char)sym;
        acc <<= bits;
        have -= bits;
    }
}

size_t hpack_huff_bytes(sv v)
{
    size_t bits = 7;
    for (size_t i = 0; i < v.n; i++)
        bits += code_bits[(uint8_t)v.p[i]];
    return bits / 8;
}

uint8_t *hpack_huff_encode(uint8_t *out, sv v)
{
    uint64_t acc = 0; /* right-aligned, `have` bits of it are not written yet */
    unsigned have = 0;
    for (size_t i = 0; i < v.n; i++) {
        uint8_t c = (uint8_t)v.p[i];
        acc = acc << code_bits[c] | codes[c];
        have += code_bits[c];
        while (have >= 8) {
            have -= 8;
            *out++ = (uint8_t)(acc >> have);
        }
    }
    if (have)
        *out++ = (uint8_t)(acc << (8 - have) | (0xffu >> have));
    return out;
}
