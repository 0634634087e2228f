/* Interned field names and the byte tables behind every check of names and values. */
#include "http/headers.h"
#include "base/code.h"
#include "http/chars.h"

static const sv name_texts[HTTP_H_COUNT] = {SV_INIT(""),
#define X(id, text) SV_INIT(text),
                                            HTTP_NAMES(X)
#undef X
};

/* Open addressing on a hash of three bytes and the length, chosen so that the names of today do not
 * collide; built once before main, so the list in the header stays the only place where names are
 * written. Never more than a quarter full. */
#define SLOTS 256
static uint8_t slots[SLOTS];
_Static_assert(HTTP_H_COUNT <= SLOTS / 4, "grow the table");

static inline unsigned name_hash(const char *p, size_t n)
{
    unsigned h = (unsigned)n * 17 + (uint8_t)p[0] + (uint8_t)p[n - 1] + (uint8_t)p[n / 2] * 3u;
    return (h ^ h >> 8) & (SLOTS - 1);
}

__attribute__((constructor)) static void names_build(void)
{
    for (unsigned id = 1; id < HTTP_H_COUNT; id++) {
        unsigned i = name_hash(name_texts[id].p, name_texts[id].n);
        while (slots[i])
            i = (i + 1) & (SLOTS - 1);
        slots[i] = (uint8_t)id;
    }
}

HOT enum http_name http_name_find(sv name)
{
    if (name.n == 0)
        return HTTP_H_OTHER;
    unsigned i = name_hash(name.p, name.n);
    while (slots[i]) {
        sv t = name_texts[slots[i]];
        if (t.n == name.n && http_bytes_eq(t.p, name.p, t.n))
            return slots[i];
        i = (i + 1) & (SLOTS - 1);
    }
    return HTTP_H_OTHER;
}

sv http_name_text(enum http_name id)
{
    return (unsigned)id < HTTP_H_COUNT ? name_texts[id] : name_texts[0];
}

/* RFC 9110 5.6.2 tchar, as the lower-case byte; 0 for everything that is not allowed. */
const uint8_t http_token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['a'] = 'a', ['b'] = 'b',   ['c'] = 'c',
    ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',   ['j'] = 'j',
    ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',   ['q'] = 'q',
    ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w',   ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',   ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',   ['L'] = 'l',
    ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',   ['S'] = 's',
    ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',   ['Z'] = 'z',
};

/* 1: not allowed in a field value (controls but HTAB, and DEL). */
const uint8_t http_value_bad[256] = {
    [0x00 ... 0x08] = 1,
    [0x0a ... 0x1f] = 1,
    [0x7f] = 1,
};

/* 1: allowed in a request target as it stands on the wire: visible ASCII. More than RFC 3986 has
 * (quotes, braces, '|'), because clients send it and Envoy takes it; nothing above 0x7e. */
const uint8_t http_target_ok[256] = {
    [0x21 ... 0x7e] = 1,
};

const uint8_t http_hex_plus1[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

bool http_name_valid(sv name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!http_token_lower[(uint8_t)name.p[i]])
            return false;
    return name.n > 0;
}

bool http_name_lower_valid(sv name)
{
    for (size_t i = 0; i < name.n; i++)
        if (http_token_lower[(uint8_t)name.p[i]] != (uint8_t)name.p[i] || name.p[i] == 0)
            return false;
    return name.n > 0;
}

HOT bool http_value_valid(sv value)
{
    const char *p = value.p;
    size_t n = value.n;
    unsigned bad = 0;
#ifdef __SSE2__
    if (n < 16)
        return !http_value_bad16(http_load_short(p, n));
    for (size_t i = 0; i + 16 <= n; i += 16)
        bad |= http_value_bad16(http_load16(p + i));
    /* The last 16 bytes once more instead of a loop over the rest. */
    bad |= http_value_bad16(http_load16(p + n - 16));
#else
    for (size_t i = 0; i < n; i++)
        bad |= http_value_bad[(uint8_t)p[i]];
#endif
    return !bad;
}

const char *http_protocol_text(enum http_protocol p)
{
    static const char *const text[] = {"HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"};
    return (unsigned)p < 4 ? text[p] : "HTTP/?";
}
