#include "http/grpc_timeout.h"

#include <inttypes.h>

#define DIGITS_MAX 99999999u

bool http_grpc_timeout_read(sv v, uint64_t *ms)
{
    uint64_t n;

    if (v.n < 2 || v.n > 9 || sv_to_u64(sv_first(v, v.n - 1), &n) < 0)
        return false;
    switch (v.p[v.n - 1]) {
    case 'H':
        *ms = n * 3600000u;
        return true;
    case 'M':
        *ms = n * 60000u;
        return true;
    case 'S':
        *ms = n * 1000u;
        return true;
    case 'm':
        *ms = n;
        return true;
    case 'u':
        *ms = (n + 999) / 1000;
        return true;
    case 'n':
        *ms = (n + 999999) / 1000000;
        return true;
    default:
        return false;
    }
}

sv http_grpc_timeout_text(struct arena *a, uint64_t ms)
{
    static const struct {
        uint32_t ms;
        char unit;
    } units[] = {{1, 'm'}, {1000, 'S'}, {60000, 'M'}, {3600000, 'H'}};

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (ms / units[i].ms <= DIGITS_MAX)
            return arena_printf(a, "%" PRIu64 "%c", ms / units[i].ms, units[i].unit);
    }
    return arena_printf(a, "%uH", DIGITS_MAX);
}
