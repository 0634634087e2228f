#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/pb_internal.h"
#include "base/base64.h"

#define MAX_DURATION_S                                                                             \
    315576000000 /* ten thousand years: the limit of google.protobuf.Duration                      \
                  */

/* Up to 9 digits after a '.', as nanoseconds. *p moves behind them. */
static int fraction(const char **p, const char *end, int32_t *nanos)
{
    int32_t v = 0, digits = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, digits++) {
        if (digits == 9)
            return E_INVALID;
        v = v * 10 + (**p - '0');
    }
    if (digits == 0)
        return E_INVALID;
    for (; digits < 9; digits++)
        v *= 10;
    *nanos = v;
    return 0;
}

static int64_t unit_ns(const char **p, const char *end)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {/* longer names first */
                 {"ms", 1000000}, {"us", 1000},      {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000},
                 {"ns", 1},       {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t n = strlen(units[i].name);
        if ((size_t)(end - *p) >= n && memcmp(*p, units[i].name, n) == 0) {
            *p += n;
            return units[i].ns;
        }
    }
    return 0;
}

/* "1.5s" as the JSON mapping has it, and "1h30m", "250ms" as Istio's documents write it. */
int pb_duration_parse(sv text, int64_t *seconds, int32_t *nanos)
{
    const char *p = text.p, *end = p + text.n;
    bool minus = text.n && *p == '-';
    __int128 total = 0;
    p += minus;
    if (p == end)
        return E_INVALID;
    while (p < end) {
        int64_t whole = 0;
        int32_t part = 0;
        const char *digits = p;
        for (; p < end && *p >= '0' && *p <= '9'; p++) {
            whole = whole * 10 + (*p - '0');
            if (whole > MAX_DURATION_S * 1000)
                return E_INVALID;
        }
        if (p == digits || (p < end && *p == '.' && (p++, fraction(&p, end, &part) < 0)))
            return E_INVALID;
        int64_t unit = unit_ns(&p, end);
        if (!unit)
            return E_INVALID;
        total += (__int128)whole * unit + (__int128)part * unit / 1000000000;
        if (total > (__int128)MAX_DURATION_S * 1000000000)
            return E_INVALID;
    }
    *seconds = (int64_t)(total / 1000000000) * (minus ? -1 : 1);
    *nanos = (int32_t)(total % 1000000000) * (minus ? -1 : 1);
    return 0;
}

/* 0, 3, 6 or 9 digits, whatever the value needs. */
static void fraction_print(int32_t nanos, struct strbuf *out)
{
    if (nanos == 0)
        return;
    if (nanos % 1000000 == 0)
        strbuf_addf(out, ".%03d", nanos / 1000000);
    else if (nanos % 1000 == 0)
        strbuf_addf(out, ".%06d", nanos / 1000);
    else
        strbuf_addf(out, ".%09d", nanos);
}

void pb_duration_print(int64_t seconds, int32_t nanos, struct strbuf *out)
{
    if (seconds < 0 || nanos < 0)
        strbuf_add_ch(out, '-');
    uint64_t s = seconds < 0 ? -(uint64_t)seconds : (uint64_t)seconds;
    strbuf_addf(out, "%llu", (unsigned long long)s);
    fraction_print(nanos < 0 ? -(nanos % 1000000000) : nanos % 1000000000, out);
    strbuf_add_ch(out, 's');
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, years 1 to 9999. */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = y / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool leap(int64_t y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* n digits, then the byte `then` unless that is 0. */
static int digits(const char **p, const char *end, int n, char then, int64_t *out)
{
    int64_t v = 0;
    for (; n > 0; n--, (*p)++) {
        if (*p == end || **p < '0' || **p > '9')
            return E_INVALID;
        v = v * 10 + (**p - '0');
    }
    if (then) {
        if (*p == end || (**p | 0x20) != (then | 0x20))
            return E_INVALID;
        (*p)++;
    }
    *out = v;
    return 0;
}

/* "Z" or "+01:00" at the very end, as seconds to subtract. */
static int zone(const char *p, const char *end, int64_t *offset)
{
    int64_t h, m;
    *offset = 0;
    if (end - p == 1 && (*p | 0x20) == 'z')
        return 0;
    if (p == end || (*p != '+' && *p != '-'))
        return E_INVALID;
    int64_t sign = *p++ == '-' ? -1 : 1;
    if (digits(&p, end, 2, ':', &h) < 0 || digits(&p, end, 2, 0, &m) < 0 || p != end || h > 23 ||
        m > 59)
        return E_INVALID;
    *offset = sign * (h * 3600 + m * 60);
    return 0;
}

int pb_timestamp_parse(sv text, int64_t *seconds, int32_t *nanos)
{
    static const uint8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *p = text.p, *end = p + text.n;
    int64_t y, mo, d, h, mi, s, offset;
    int32_t frac = 0;
    if (digits(&p, end, 4, '-', &y) < 0 || digits(&p, end, 2, '-', &mo) < 0 ||
        digits(&p, end, 2, 't', &d) < 0 || digits(&p, end, 2, ':', &h) < 0 ||
        digits(&p, end, 2, ':', &mi) < 0 || digits(&p, end, 2, 0, &s) < 0)
        return E_INVALID;
    if (p < end && *p == '.' && (p++, fraction(&p, end, &frac) < 0))
        return E_INVALID;
    if (zone(p, end, &offset) < 0 || y < 1 || mo < 1 || mo > 12 || d < 1 ||
        d > month_days[mo - 1] + (mo == 2 && leap(y)) || h > 23 || mi > 59 || s > 59)
        return E_INVALID;
    *seconds = days_of(y, mo, d) * 86400 + h * 3600 + mi * 60 + s - offset;
    *nanos = frac;
    return 0;
}

void pb_timestamp_print(int64_t seconds, int32_t nanos, struct strbuf *out)
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);
    strbuf_addf(out, "%04lld-%02lld-%02lldT%02lld:%02lld:%02lld", (long long)year, (long long)month,
                (long long)(doy - (153 * mp + 2) / 5 + 1), (long long)(rest / 3600),
                (long long)(rest / 60 % 60), (long long)(rest % 60));
    fraction_print(nanos < 0 ? 0 : nanos % 1000000000, out);
    strbuf_add_ch(out, 'Z');
}

/* Both alphabets are read. */
static int digit_value(char c)
{
    return c == '-' ? 62 : c == '_' ? 63 : base64_value(c);
}

int pb_base64_parse(sv text, struct arena *a, sv *out)
{
    size_t n = text.n, made = 0;
    while (n && text.n - n < 2 && text.p[n - 1] == '=')
        n--;
    if (n % 4 == 1 || (n != text.n && text.n % 4 != 0))
        return E_INVALID;
    uint8_t *bytes = arena_alloc(a, n / 4 * 3 + 3);
    uint32_t acc = 0;
    for (size_t i = 0; i < n; i++) {
        int v = digit_value(text.p[i]);
        if (v < 0)
            return E_INVALID;
        acc = acc << 6 | (uint32_t)v;
        if (i % 4 != 0) /* each character after the first of a group completes a byte */
            bytes[made++] = (uint8_t)(acc >> (6 - i % 4 * 2));
    }
    *out = sv_make((const char *)bytes, made);
    return 0;
}

void pb_base64_print(sv bytes, struct strbuf *out)
{
    for (size_t i = 0; i < bytes.n; i += 3) {
        char quad[4];
        base64_group(base64_standard, bytes.p + i, bytes.n - i, quad);
        strbuf_add(out, quad, 4);
    }
}

void pb_double_print(double v, struct strbuf *out)
{
    char buf[40];
    if (isnan(v) || isinf(v)) {
        strbuf_add_c(out, isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(buf, sizeof buf, "%.*g", precision, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    strbuf_add_c(out, buf);
}

void pb_float_print(float v, struct strbuf *out)
{
    char buf[40];
    if (isnan(v) || isinf(v)) {
        pb_double_print((double)v, out);
        return;
    }
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(buf, sizeof buf, "%.*g", precision, (double)v);
        if (strtof(buf, NULL) == v)
            break;
    }
    strbuf_add_c(out, buf);
}
