#include "upstream/lb/priority_load.h"

#define MAX_PRIORITIES 130 /* priorities are at most 128 */

struct availability {
    uint32_t healthy[MAX_PRIORITIES], degraded[MAX_PRIORITIES];
    uint32_t total; /* of all, at most 100 */
};

static uint32_t percent(uint64_t part, uint64_t whole, uint32_t overprovisioning)
{
    uint64_t p = whole ? overprovisioning * part / whole : 0;
    return p > 100 ? 100 : (uint32_t)p;
}

static void availability(const struct priority_hosts *in, uint32_t n, uint32_t overprovisioning,
                         struct availability *a)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool any = in[i].hosts > in[i].excluded;
        a->healthy[i] =
            any ? percent(in[i].healthy_weight, in[i].total_weight, overprovisioning) : 0;
        a->degraded[i] =
            any ? percent(in[i].degraded_weight, in[i].total_weight, overprovisioning) : 0;
        sum += a->healthy[i] + a->degraded[i];
    }
    a->total = sum > 100 ? 100 : (uint32_t)sum;
}

/* Hands out `left` percent by availability, in order; returns what could not be given away and
 * the first priority that could take anything (n: none). */
static uint32_t distribute(const uint32_t *available, uint32_t total, uint32_t n, uint32_t left,
                           uint32_t *load, uint32_t *first)
{
    *first = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t want = available[i] * 100 / total;
        if (available[i] && *first == n)
            *first = i;
        load[i] = want < left ? want : left;
        left -= load[i];
    }
    return left;
}

static void spread(const struct availability *a, uint32_t n, struct priority_load *out)
{
    uint32_t load[MAX_PRIORITIES], first_healthy, first_degraded;
    uint32_t left = distribute(a->healthy, a->total, n, 100, load, &first_healthy);
    for (uint32_t i = 0; i < n; i++)
        out[i].healthy = load[i];
    left = distribute(a->degraded, a->total, n, left, load, &first_degraded);
    for (uint32_t i = 0; i < n; i++)
        out[i].degraded = load[i];
    /* What rounding left over goes to the first that can take it. */
    if (first_healthy < n)
        out[first_healthy].healthy += left;
    else if (first_degraded < n)
        out[first_degraded].degraded += left;
}

static bool in_panic(const struct priority_hosts *h, uint32_t panic_percent)
{
    if (h->hosts <= h->excluded)
        return panic_percent > 0;
    double usable = 100.0 * (h->healthy + h->degraded) / (h->hosts - h->excluded);
    return usable < panic_percent;
}

/* Every priority is in panic: all hosts take part, whatever their health. */
static void spread_by_size(const struct priority_hosts *in, uint32_t n, struct priority_load *out)
{
    uint64_t hosts = 0;
    uint32_t left = 100, first = n;
    for (uint32_t i = 0; i < n; i++)
        hosts += in[i].hosts;
    for (uint32_t i = 0; i < n; i++) {
        out[i].degraded = 0;
        out[i].healthy = hosts ? (uint32_t)(100ull * in[i].hosts / hosts) : 0;
        left -= out[i].healthy;
        if (in[i].hosts && first == n)
            first = i;
    }
    out[first < n ? first : 0].healthy += left;
}

void priority_load_compute(const struct priority_hosts *in, uint32_t n, uint32_t overprovisioning,
                           uint32_t panic_percent, struct priority_load *out)
{
    struct availability a;
    bool all_panic = true;
    if (n > MAX_PRIORITIES)
        n = MAX_PRIORITIES;
    availability(in, n, overprovisioning, &a);
    for (uint32_t i = 0; i < n; i++)
        out[i] = (struct priority_load){0};
    if (a.total > 0)
        spread(&a, n, out);
    else if (panic_percent == 0) {
        out[0].healthy = 100;
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i].panic = a.total < 100 && in_panic(&in[i], panic_percent);
        all_panic = all_panic && out[i].panic;
    }
    if (all_panic)
        spread_by_size(in, n, out);
}

uint32_t priority_load_choose(const struct priority_load *v, uint32_t n, uint64_t hash,
                              bool *degraded)
{
    uint32_t mark = (uint32_t)(hash % 100) + 1, sum = 0;
    *degraded = false;
    for (uint32_t i = 0; i < n; i++) {
        sum += v[i].healthy;
        if (mark <= sum)
            return i;
    }
    *degraded = true;
    for (uint32_t i = 0; i < n; i++) {
        sum += v[i].degraded;
        if (mark <= sum)
            return i;
    }
    *degraded = false;
    return 0;
}
