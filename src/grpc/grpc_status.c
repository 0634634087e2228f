#include "grpc/grpc_status.h"

#include <stdio.h>
#include "base/base64.h"
#include "http/chars.h"

#define MESSAGE_MAX 4096

static const struct {
    int code;
    const char *text;
} codes[] = {
#define X(name, number) {number, #name},
    GRPC_CODES(X)
#undef X
};
#define CODES (sizeof codes / sizeof *codes)

const char *grpc_code_text(int code)
{
    return code >= 0 && (size_t)code < CODES ? codes[code].text : "UNKNOWN";
}

/* "InvalidArgument" reads like "INVALID_ARGUMENT". */
static bool code_name_eq(sv text, const char *name)
{
    size_t i = 0;
    for (; *name; name++) {
        if (*name == '_' && (i == text.n || text.p[i] != '_'))
            continue;
        if (i == text.n || (text.p[i] != '_' && (text.p[i] & ~0x20) != *name) ||
            (text.p[i] == '_' && *name != '_'))
            return false;
        i++;
    }
    return i == text.n;
}

int grpc_code_parse(sv text, int *code)
{
    uint64_t n;
    if (sv_to_u64(text, &n) == 0) {
        if (n >= CODES)
            return E_INVALID;
        *code = (int)n;
        return 0;
    }
    for (size_t i = 0; i < CODES; i++)
        if (code_name_eq(text, codes[i].text)) {
            *code = codes[i].code;
            return 0;
        }
    return E_INVALID;
}

enum grpc_code grpc_code_of_http(unsigned status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

unsigned grpc_code_to_http(int code)
{
    switch (code) {
    case GRPC_OK:
        return 200;
    case GRPC_CANCELLED:
        return 499;
    case GRPC_INVALID_ARGUMENT:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_OUT_OF_RANGE:
        return 400;
    case GRPC_DEADLINE_EXCEEDED:
        return 504;
    case GRPC_NOT_FOUND:
        return 404;
    case GRPC_ALREADY_EXISTS:
    case GRPC_ABORTED:
        return 409;
    case GRPC_PERMISSION_DENIED:
        return 403;
    case GRPC_RESOURCE_EXHAUSTED:
        return 429;
    case GRPC_UNIMPLEMENTED:
        return 501;
    case GRPC_UNAVAILABLE:
        return 503;
    case GRPC_UNAUTHENTICATED:
        return 401;
    default:
        return 500;
    }
}

enum grpc_code grpc_code_of_reset(enum http_reset why)
{
    switch (why) {
    case HTTP_RESET_REMOTE_REFUSED:
    case HTTP_RESET_CONN_TERMINATION:
    case HTTP_RESET_CONN_FAILURE:
    case HTTP_RESET_REMOTE:
        return GRPC_UNAVAILABLE;
    case HTTP_RESET_REMOTE_CANCEL:
    case HTTP_RESET_LOCAL:
        return GRPC_CANCELLED;
    case HTTP_RESET_OVERFLOW:
        return GRPC_RESOURCE_EXHAUSTED;
    case HTTP_RESET_TIMEOUT:
        return GRPC_DEADLINE_EXCEEDED;
    default:
        return GRPC_INTERNAL;
    }
}

/* ---- grpc-message ---- */

static bool message_plain(uint8_t c)
{
    return c >= 0x20 && c <= 0x7e && c != '%';
}

sv grpc_message_encode(sv v, struct arena *a)
{
    static const char hex[] = "0123456789ABCDEF";
    v = sv_first(v, MESSAGE_MAX);
    size_t escapes = 0;
    for (size_t i = 0; i < v.n; i++)
        escapes += !message_plain((uint8_t)v.p[i]);
    if (escapes == 0)
        return v;
    char *out = arena_alloc(a, v.n + 2 * escapes), *p = out;
    for (size_t i = 0; i < v.n; i++) {
        uint8_t c = (uint8_t)v.p[i];
        if (message_plain(c)) {
            *p++ = (char)c;
            continue;
        }
        *p++ = '%';
        *p++ = hex[c >> 4];
        *p++ = hex[c & 15];
    }
    return sv_make(out, (size_t)(p - out));
}

sv grpc_message_decode(sv v, struct arena *a)
{
    if (sv_find(v, '%') < 0)
        return v;
    char *out = arena_alloc(a, v.n), *p = out;
    for (size_t i = 0; i < v.n; i++) {
        uint8_t hi = 0, lo = 0;
        if (v.p[i] == '%' && i + 2 < v.n) {
            hi = http_hex_plus1[(uint8_t)v.p[i + 1]];
            lo = http_hex_plus1[(uint8_t)v.p[i + 2]];
        }
        if (hi && lo) {
            *p++ = (char)((hi - 1) << 4 | (lo - 1));
            i += 2;
        } else {
            *p++ = v.p[i];
        }
    }
    return sv_make(out, (size_t)(p - out));
}

/* ---- grpc-timeout ---- */

int grpc_timeout_parse(sv v, uint64_t *ms)
{
    uint64_t n = 0;
    if (v.n < 2)
        return E_INVALID;
    for (size_t i = 0; i + 1 < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return E_INVALID;
        n = n * 10 + (uint64_t)(v.p[i] - '0');
        if (n > GRPC_TIMEOUT_MAX_MS)
            n = GRPC_TIMEOUT_MAX_MS;
    }
    uint64_t times = 1, divide = 1;
    switch (v.p[v.n - 1]) {
    case 'H':
        times = 3600 * 1000;
        break;
    case 'M':
        times = 60 * 1000;
        break;
    case 'S':
        times = 1000;
        break;
    case 'm':
        break;
    case 'u':
        divide = 1000;
        break;
    case 'n':
        divide = 1000 * 1000;
        break;
    default:
        return E_INVALID;
    }
    n = n > GRPC_TIMEOUT_MAX_MS / times ? GRPC_TIMEOUT_MAX_MS : n * times;
    *ms = (n + divide - 1) / divide;
    return 0;
}

sv grpc_timeout_format(uint64_t ms, char out[16])
{
    static const struct {
        uint64_t ms;
        char unit;
    } units[] = {{1, 'm'}, {1000, 'S'}, {60 * 1000, 'M'}, {3600 * 1000, 'H'}};
    unsigned i = 0;
    uint64_t n = ms;
    while (i < 3 && n > 99999999) {
        i++;
        n = ms / units[i].ms + (ms % units[i].ms != 0);
    }
    if (n > 99999999)
        n = 99999999;
    int k = snprintf(out, 16, "%u%c", (unsigned)n, units[i].unit);
    return sv_make(out, (size_t)k);
}

/* ---- binary metadata ---- */

void grpc_metadata_add_bin(struct http_headers *h, sv name, sv bytes)
{
    char *out = arena_alloc(h->arena, bytes.n * 4 / 3 + 4), *p = out;
    for (size_t i = 0; i < bytes.n; i += 3)
        p += base64_group(base64_standard, bytes.p + i, bytes.n - i, p);
    http_headers_add(h, name, sv_make(out, (size_t)(p - out)));
}

int grpc_metadata_get_bin(const struct http_headers *h, sv name, struct arena *a, sv *out)
{
    sv v = http_headers_get_sv(h, name), rest;
    if (!v.p)
        return E_NOT_FOUND;
    sv_cut(v, ',', &v, &rest); /* several values may be joined */
    v = sv_trim(v);
    if (v.n % 4 == 0)
        for (int pad = 0; pad < 2 && v.n && v.p[v.n - 1] == '='; pad++)
            v.n--;
    if (v.n % 4 == 1)
        return E_INVALID;
    char *bytes = arena_alloc(a, v.n * 3 / 4 + 1), *p = bytes;
    uint32_t acc = 0;
    for (size_t i = 0; i < v.n; i++) {
        int d = base64_value(v.p[i]);
        if (d < 0)
            return E_INVALID;
        acc = acc << 6 | (uint32_t)d;
        if (i % 4 == 1)
            *p++ = (char)(acc >> 4);
        else if (i % 4 == 2)
            *p++ = (char)(acc >> 2);
        else if (i % 4 == 3)
            *p++ = (char)acc;
    }
    *out = sv_make(bytes, (size_t)(p - bytes));
    return 0;
}
