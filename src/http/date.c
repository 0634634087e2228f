#include "http/date.h"

static void two(char *p, unsigned v)
{
    p[0] = (char)('0' + v / 10);
    p[1] = (char)('0' + v % 10);
}

/* Days to year, month, day by counting 400-year eras that start on 1 March, which puts the leap
 * day at the end of a year. */
static void civil(uint64_t days, unsigned *y, unsigned *m, unsigned *d)
{
    uint64_t z = days + 719468;
    uint64_t era = z / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = (unsigned)(yoe + era * 400) + (*m <= 2);
}

void http_date_format(uint64_t s, char out[HTTP_DATE_LEN + 1])
{
    static const char wday[] = "ThuFriSatSunMonTueWed";
    static const char mon[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    unsigned y, m, d, t = (unsigned)(s % 86400);
    civil(s / 86400, &y, &m, &d);
    memcpy(out, "Xxx, 00 Xxx 0000 00:00:00 GMT", HTTP_DATE_LEN + 1);
    memcpy(out, wday + 3 * (s / 86400 % 7), 3);
    two(out + 5, d);
    memcpy(out + 8, mon + 3 * (m - 1), 3);
    two(out + 12, y / 100 % 100);
    two(out + 14, y % 100);
    two(out + 17, t / 3600);
    two(out + 20, t / 60 % 60);
    two(out + 23, t % 60);
}

sv http_date(uint64_t wall_ns)
{
    static __thread uint64_t cached = UINT64_MAX;
    static __thread char text[HTTP_DATE_LEN + 1];
    uint64_t s = wall_ns / 1000000000u;
    if (s != cached) {
        http_date_format(s, text);
        cached = s;
    }
    return sv_make(text, HTTP_DATE_LEN);
}
