/* Times in format strings. */
#include <stdio.h>
#include <time.h>
#include "http/substitution_int.h"

const sv substitution_default_time = SV_INIT("%Y-%m-%dT%H:%M:%E3SZ");

#define OUT_MAX 512

struct writer {
    char *p;
    size_t n;
};

static void put(struct writer *w, const char *p, size_t n)
{
    if (n > OUT_MAX - w->n)
        n = OUT_MAX - w->n;
    memcpy(w->p + w->n, p, n);
    w->n += n;
}

static void put_fraction(struct writer *w, uint32_t ns, int digits)
{
    char text[12];
    snprintf(text, sizeof(text), "%09u", ns);
    put(w, text, (size_t)digits);
}

/* "%E3S": seconds with digits; "%E*S": as many as are needed. */
static void put_seconds(struct writer *w, const struct tm *tm, uint32_t ns, int digits)
{
    char text[12];
    snprintf(text, sizeof(text), "%02d", tm->tm_sec);
    put(w, text, 2);
    if (digits < 0) {
        digits = ns ? 9 : 0;
        for (uint32_t v = ns; v && v % 10 == 0; v /= 10)
            digits--;
    }
    if (digits == 0)
        return;
    put(w, ".", 1);
    put_fraction(w, ns, digits);
}

static void put_offset(struct writer *w, const struct tm *tm)
{
    long s = tm->tm_gmtoff, m = (s < 0 ? -s : s) / 60;
    char text[32];
    int n = snprintf(text, sizeof(text), "%c%02ld:%02ld", s < 0 ? '-' : '+', m / 60, m % 60);
    put(w, text, (size_t)n);
}

static void put_strftime(struct writer *w, const char *spec, size_t n, const struct tm *tm)
{
    char fmt[8], text[128];
    if (n >= sizeof(fmt))
        return;
    memcpy(fmt, spec, n);
    fmt[n] = 0;
    put(w, text, strftime(text, sizeof(text), fmt, tm));
}

/* One specifier at p[0] == '%'; returns its length. */
static size_t put_spec(struct writer *w, const char *p, size_t left, const struct tm *tm,
                       uint64_t wall_ns)
{
    uint32_t ns = (uint32_t)(wall_ns % 1000000000u);
    char text[24];
    if (left < 2) {
        put(w, p, left);
        return left;
    }
    bool digit = p[1] >= '1' && p[1] <= '9';
    size_t n = digit ? 2 : 1; /* where the letter is */
    if (n < left && p[n] == 'f') {
        put_fraction(w, ns, digit ? p[1] - '0' : 9);
        return n + 1;
    }
    if (n < left && p[n] == 's') {
        int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)(wall_ns / 1000000000u));
        put(w, text, (size_t)len);
        return n + 1;
    }
    if (p[1] == 'E' && left >= 3 && p[2] == 'z') {
        put_offset(w, tm);
        return 3;
    }
    if (p[1] == 'E' && left >= 4 && p[3] == 'S' && (p[2] == '*' || (p[2] >= '0' && p[2] <= '9'))) {
        put_seconds(w, tm, ns, p[2] == '*' ? -1 : p[2] - '0');
        return 4;
    }
    n = (p[1] == 'E' || p[1] == 'O') && left >= 3 ? 3 : 2;
    put_strftime(w, p, n, tm);
    return n;
}

static sv format_time(sv fmt, uint64_t wall_ns, bool local, char out[OUT_MAX])
{
    struct writer w = {out, 0};
    struct tm tm;
    time_t s = (time_t)(wall_ns / 1000000000u);
    if (local)
        localtime_r(&s, &tm);
    else
        gmtime_r(&s, &tm);
    for (size_t i = 0; i < fmt.n;) {
        if (fmt.p[i] == '%') {
            i += put_spec(&w, fmt.p + i, fmt.n - i, &tm, wall_ns);
        } else {
            put(&w, fmt.p + i, 1);
            i++;
        }
    }
    return sv_make(out, w.n);
}

/* The default format, whose seconds are made once a second. */
static sv default_time(uint64_t wall_ns, struct arena *a)
{
    static __thread uint64_t cached_s = UINT64_MAX;
    static __thread char cached[32];
    uint64_t s = wall_ns / 1000000000u;
    if (s != cached_s) {
        char text[OUT_MAX];
        sv v = format_time(SV("%Y-%m-%dT%H:%M:%S."), wall_ns, false, text);
        memcpy(cached, v.p, v.n < sizeof(cached) ? v.n : sizeof(cached));
        cached_s = s;
    }
    uint32_t ms = (uint32_t)(wall_ns / 1000000u % 1000u);
    char *p = arena_alloc(a, 24);
    memcpy(p, cached, 20);
    p[20] = (char)('0' + ms / 100);
    p[21] = (char)('0' + ms / 10 % 10);
    p[22] = (char)('0' + ms % 10);
    p[23] = 'Z';
    return sv_make(p, 24);
}

sv substitution_time(sv fmt, uint64_t wall_ns, bool local, struct arena *a)
{
    if (fmt.n == 0 && !local && wall_ns / 1000000000u < 253402300800u) /* year 10000 */
        return default_time(wall_ns, a);
    char text[OUT_MAX];
    if (fmt.n == 0)
        fmt = local ? SV("%Y-%m-%dT%H:%M:%E3S%z") : substitution_default_time;
    return arena_sv(a, format_time(fmt, wall_ns, local, text));
}
