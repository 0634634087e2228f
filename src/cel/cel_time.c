/* Durations and points in time. */
#include <stdio.h>
#include <time.h>
#include "cel/cel_int.h"

#define SECOND     ((__int128)1000000000)
#define FIRST_S    (-62135596800) /* year 1 */
#define LAST_S     253402300799   /* the end of year 9999 */
#define LONGEST_NS (CEL_DURATION_MAX_S * SECOND)

__int128 cel_time_ns(struct cel_time t)
{
    return t.s * SECOND + t.ns;
}

struct cel_value cel_time_value(enum cel_type type, __int128 ns)
{
    __int128 s = ns / SECOND - (ns % SECOND < 0);
    bool fits =
        type == CEL_DURATION ? ns >= -LONGEST_NS && ns <= LONGEST_NS : s >= FIRST_S && s <= LAST_S;
    if (!fits)
        return cel_error("the time is out of range");
    return (struct cel_value){.type = type, .t = {(int64_t)s, (int32_t)(ns - s * SECOND)}};
}

/* ---- reading ---- */

static const struct {
    sv name;
    int64_t ns;
} units[] = {{SV_INIT("h"), 3600000000000}, {SV_INIT("ms"), 1000000}, {SV_INIT("m"), 60000000000},
             {SV_INIT("s"), 1000000000},    {SV_INIT("us"), 1000},    {SV_INIT("ns"), 1}};

/* "1.5h": the number, which may have a fraction, times its unit. Returns the bytes, 0 when it is
 * none. */
static size_t duration_part(sv v, __int128 *ns)
{
    __int128 whole = 0, part = 0, scale = 1;
    size_t i = 0, n_digits = 0;
    for (; i < v.n && v.p[i] >= '0' && v.p[i] <= '9'; i++, n_digits++) {
        whole = whole * 10 + (v.p[i] - '0');
        if (whole > LONGEST_NS)
            return 0;
    }
    if (i < v.n && v.p[i] == '.')
        for (i++; i < v.n && v.p[i] >= '0' && v.p[i] <= '9'; i++, n_digits++) {
            if (scale >= 1000000000000000) /* more digits than any unit has */
                continue;
            part = part * 10 + (v.p[i] - '0');
            scale *= 10;
        }
    sv rest = sv_from(v, i);
    for (size_t k = 0; n_digits && k < sizeof(units) / sizeof(units[0]); k++) {
        if (sv_starts(rest, units[k].name)) {
            *ns = whole * units[k].ns + part * units[k].ns / scale;
            return i + units[k].name.n;
        }
    }
    return 0;
}

struct cel_value cel_parse_duration(sv v)
{
    __int128 total = 0, ns;
    bool negative = v.n && v.p[0] == '-';
    if (v.n && (negative || v.p[0] == '+'))
        v = sv_from(v, 1);
    if (sv_eq(v, SV("0")))
        return cel_duration_ns(0);
    while (v.n || total == 0) {
        size_t used = duration_part(v, &ns);
        if (used == 0 || (total += ns) > LONGEST_NS)
            return cel_error("the text is no duration");
        v = sv_from(v, used);
        if (v.n == 0)
            break;
    }
    return cel_time_value(CEL_DURATION, negative ? -total : total);
}

static bool number_at(sv *v, size_t n, int *out)
{
    *out = 0;
    if (v->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (v->p[i] < '0' || v->p[i] > '9')
            return false;
        *out = *out * 10 + (v->p[i] - '0');
    }
    *v = sv_from(*v, n);
    return true;
}

static bool take(sv *v, char c)
{
    if (!v->n || (v->p[0] | 0x20) != (c | 0x20))
        return false;
    *v = sv_from(*v, 1);
    return true;
}

/* "+02:00" */
static bool zone_at(sv *v, int64_t *seconds)
{
    int h, m, back = v->n && v->p[0] == '-';
    if (!v->n || (v->p[0] != '+' && v->p[0] != '-'))
        return false;
    *v = sv_from(*v, 1);
    if (!number_at(v, 2, &h) || !take(v, ':') || !number_at(v, 2, &m) || h > 23 || m > 59)
        return false;
    *seconds = (back ? -1 : 1) * (h * 3600 + m * 60);
    return true;
}

static bool fraction_at(sv *v, int32_t *ns)
{
    int32_t unit = 100000000;
    *ns = 0;
    if (v->n < 2 || v->p[1] < '0' || v->p[1] > '9')
        return false;
    for (*v = sv_from(*v, 1); v->n && v->p[0] >= '0' && v->p[0] <= '9'; *v = sv_from(*v, 1)) {
        *ns += (v->p[0] - '0') * unit;
        unit /= 10;
    }
    return true;
}

/* RFC 3339. */
struct cel_value cel_parse_timestamp(sv v)
{
    struct tm tm = {0}, back;
    int64_t zone = 0;
    int32_t ns = 0;
    bool ok = number_at(&v, 4, &tm.tm_year) && take(&v, '-') && number_at(&v, 2, &tm.tm_mon) &&
              take(&v, '-') && number_at(&v, 2, &tm.tm_mday) && take(&v, 'T') &&
              number_at(&v, 2, &tm.tm_hour) && take(&v, ':') && number_at(&v, 2, &tm.tm_min) &&
              take(&v, ':') && number_at(&v, 2, &tm.tm_sec);
    if (ok && v.n && v.p[0] == '.')
        ok = fraction_at(&v, &ns);
    ok = ok && (take(&v, 'z') || zone_at(&v, &zone)) && v.n == 0 && tm.tm_sec < 60;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    struct tm given = tm;
    time_t s = ok ? timegm(&tm) : 0;
    /* A 30th of February is moved to March by timegm. */
    if (!ok || !gmtime_r(&s, &back) || back.tm_mday != given.tm_mday ||
        back.tm_mon != given.tm_mon || back.tm_hour != given.tm_hour || back.tm_min != given.tm_min)
        return cel_error("the text is no time as RFC 3339 has it");
    return cel_time_value(CEL_TIMESTAMP, (s - zone) * SECOND + ns);
}

/* ---- parts ---- */

static struct cel_value of_duration(enum cel_fn fn, struct cel_time t)
{
    __int128 ns = cel_time_ns(t);
    switch (fn) {
    case CEL_FN_HOURS:
        return cel_int((int64_t)(ns / (3600 * SECOND)));
    case CEL_FN_MINUTES:
        return cel_int((int64_t)(ns / (60 * SECOND)));
    case CEL_FN_SECONDS:
        return cel_int((int64_t)(ns / SECOND));
    case CEL_FN_MILLISECONDS: /* those of the last second */
        return cel_int((int64_t)(ns / 1000000 % 1000));
    default:
        return cel_error("no such overload");
    }
}

struct cel_value cel_time_part(enum cel_fn fn, const struct cel_value *v, const sv *zone)
{
    int64_t offset = 0;
    struct tm tm;
    if (v->type == CEL_DURATION && !zone)
        return of_duration(fn, v->t);
    if (v->type != CEL_TIMESTAMP)
        return cel_error("no such overload");
    sv rest = zone ? *zone : (sv){0};
    if (zone && !sv_eq(*zone, SV("UTC")) && (!zone_at(&rest, &offset) || rest.n))
        return cel_error("only offsets like +01:00 and UTC are known as time zones");
    time_t s = v->t.s + offset;
    gmtime_r(&s, &tm);
    switch (fn) {
    case CEL_FN_YEAR:
        return cel_int(tm.tm_year + 1900);
    case CEL_FN_MONTH:
        return cel_int(tm.tm_mon);
    case CEL_FN_DATE: /* from 1 */
        return cel_int(tm.tm_mday);
    case CEL_FN_DAY_OF_MONTH: /* from 0 */
        return cel_int(tm.tm_mday - 1);
    case CEL_FN_DAY_OF_WEEK:
        return cel_int(tm.tm_wday);
    case CEL_FN_DAY_OF_YEAR:
        return cel_int(tm.tm_yday);
    case CEL_FN_HOURS:
        return cel_int(tm.tm_hour);
    case CEL_FN_MINUTES:
        return cel_int(tm.tm_min);
    case CEL_FN_SECONDS:
        return cel_int(tm.tm_sec);
    default:
        return cel_int(v->t.ns / 1000000);
    }
}

/* ---- showing ---- */

/* whole.fraction without zeros at its end; width: digits of the fraction. */
static void put_decimal(struct strbuf *out, uint64_t whole, uint64_t fraction, int width)
{
    char text[24];
    strbuf_addf(out, "%llu", (unsigned long long)whole);
    if (!fraction)
        return;
    snprintf(text, sizeof(text), "%0*llu", width, (unsigned long long)fraction);
    size_t n = strlen(text);
    while (n && text[n - 1] == '0')
        n--;
    strbuf_add_ch(out, '.');
    strbuf_add(out, text, n);
}

/* "1h30m0.5s", "1.5ms", "0" */
void cel_print_duration(struct cel_time t, struct strbuf *out)
{
    __int128 ns = cel_time_ns(t);
    if (ns < 0) {
        strbuf_add_ch(out, '-');
        ns = -ns;
    }
    uint64_t s = (uint64_t)(ns / SECOND), rest = (uint64_t)(ns % SECOND);
    if (ns == 0) {
        strbuf_add_ch(out, '0');
    } else if (s == 0) {
        int width = rest < 1000 ? 0 : rest < 1000000 ? 3 : 6;
        uint64_t unit = width == 0 ? 1 : width == 3 ? 1000 : 1000000;
        put_decimal(out, rest / unit, rest % unit, width);
        strbuf_add_c(out, width == 0 ? "ns" : width == 3 ? "us" : "ms");
    } else {
        if (s >= 3600)
            strbuf_addf(out, "%lluh", (unsigned long long)(s / 3600));
        if (s / 60 % 60)
            strbuf_addf(out, "%llum", (unsigned long long)(s / 60 % 60));
        if (s % 60 || rest) {
            put_decimal(out, s % 60, rest, 9);
            strbuf_add_ch(out, 's');
        }
    }
}

void cel_print_timestamp(struct cel_time t, const char *zone, struct strbuf *out)
{
    struct tm tm;
    time_t s = t.s;
    gmtime_r(&s, &tm);
    strbuf_addf(out, "%04d-%02d-%02dT%02d:%02d:", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                tm.tm_hour, tm.tm_min);
    if (tm.tm_sec < 10)
        strbuf_add_ch(out, '0');
    put_decimal(out, (uint64_t)tm.tm_sec, (uint64_t)t.ns, 9);
    strbuf_add_c(out, zone);
}
