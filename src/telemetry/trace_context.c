#include <string.h>
#include "base/error.h"
#include "telemetry/trace.h"

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unhex(const char *p, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int hi = nibble(p[2 * i]), lo = nibble(p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

int trace_parent_parse(sv text, struct trace_context *out)
{
    struct trace_context c;
    uint8_t version, flags;
    if (text.n != TRACE_PARENT_LEN || text.p[2] != '-' || text.p[35] != '-' || text.p[52] != '-')
        return E_INVALID;
    if (!unhex(text.p, &version, 1) || !unhex(text.p + 3, c.trace_id, 16) ||
        !unhex(text.p + 36, c.span_id, 8) || !unhex(text.p + 53, &flags, 1))
        return E_INVALID;
    if (all_zero(c.trace_id, 16) || all_zero(c.span_id, 8))
        return E_INVALID;
    c.sampled = flags & 1;
    *out = c;
    return 0;
}

static char *hex(char *to, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *to++ = digits[p[i] >> 4];
        *to++ = digits[p[i] & 15];
    }
    return to;
}

void trace_parent_text(const struct trace_context *c, char out[TRACE_PARENT_LEN])
{
    memcpy(out, "00-", 3);
    char *p = hex(out + 3, c->trace_id, 16);
    *p++ = '-';
    p = hex(p, c->span_id, 8);
    memcpy(p, c->sampled ? "-01" : "-00", 3);
}
