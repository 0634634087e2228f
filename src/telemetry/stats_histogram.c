#include "telemetry/stats_histogram.h"
#include "base/code.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define FIRST_SLOTS 16
#define PROBES      8
#define COUNT_BITS  48
#define COUNT_MASK  ((1ull << COUNT_BITS) - 1)

struct hist_table {
    _Atomic(struct hist_table *) next;
    uint32_t mask;
    _Atomic uint64_t slot[];
};

static const uint64_t pow10_u64[20] = {1ull,
                                       10ull,
                                       100ull,
                                       1000ull,
                                       10000ull,
                                       100000ull,
                                       1000000ull,
                                       10000000ull,
                                       100000000ull,
                                       1000000000ull,
                                       10000000000ull,
                                       100000000000ull,
                                       1000000000000ull,
                                       10000000000000ull,
                                       100000000000000ull,
                                       1000000000000000ull,
                                       10000000000000000ull,
                                       100000000000000000ull,
                                       1000000000000000000ull,
                                       10000000000000000000ull};

uint32_t hist_bin_of(uint64_t value)
{
    /* What nearly all samples are, without a division by a variable. */
    if (value < 10)
        return value ? 1 + (uint32_t)value * 10 - 10 : 0;
    if (value < 100)
        return 91 + (uint32_t)value - 10;
    if (value < 1000)
        return 181 + (uint32_t)value / 10 - 10;
    /* log10 from log2: 1233/4096 is just above log10(2). */
    uint32_t e = (uint32_t)(64 - __builtin_clzll(value)) * 1233 >> 12;
    if (e > 19 || value < pow10_u64[e])
        e--;
    return 1 + 90 * e + (uint32_t)(value / pow10_u64[e - 1]) - 10;
}

double hist_bin_width(uint32_t bin)
{
    return bin == 0 ? 0 : pow(10, (double)((bin - 1) / 90) - 1);
}

double hist_bin_low(uint32_t bin)
{
    if (bin == 0)
        return 0;
    uint32_t e = (bin - 1) / 90, m = (bin - 1) % 90 + 10;
    return e ? (double)m * (double)pow10_u64[e - 1] : m / 10.0;
}

static struct hist_table *table_new(uint32_t slots)
{
    struct hist_table *t = mem_zalloc(sizeof(*t) + slots * sizeof(t->slot[0]));
    t->mask = slots - 1;
    return t;
}

struct stat_histogram *hist_new(void)
{
    struct stat_histogram *h = mem_new(struct stat_histogram);
    atomic_init(&h->tables, table_new(FIRST_SLOTS));
    return h;
}

void hist_free(struct stat_histogram *h)
{
    if (!h)
        return;
    struct hist_table *t = atomic_load(&h->tables);
    while (t) {
        struct hist_table *next = atomic_load(&t->next);
        free(t);
        t = next;
    }
    hist_bins_free(&h->last);
    hist_bins_free(&h->interval);
    free(h);
}

/* The key's slot in this table, taken if it is free; NULL when its places hold other keys. A key
 * always lands in the first place of its order that was free, and places never become free, so two
 * threads cannot put one key in two places. */
static _Atomic uint64_t *slot_of(struct hist_table *t, uint64_t key)
{
    uint32_t at = (uint32_t)(key * 0x9e3779b1u >> 7);
    for (uint32_t i = 0; i < PROBES; i++) {
        _Atomic uint64_t *s = &t->slot[(at + i) & t->mask];
        uint64_t v = atomic_load_explicit(s, memory_order_relaxed);
        if (v == 0 && atomic_compare_exchange_strong_explicit(
                          s, &v, key << COUNT_BITS, memory_order_relaxed, memory_order_relaxed))
            return s;
        if (v >> COUNT_BITS == key)
            return s;
    }
    return NULL;
}

static struct hist_table *next_table(struct hist_table *t)
{
    struct hist_table *next = atomic_load_explicit(&t->next, memory_order_acquire);
    if (next)
        return next;
    struct hist_table *fresh = table_new((t->mask + 1) * 4);
    if (atomic_compare_exchange_strong_explicit(&t->next, &next, fresh, memory_order_acq_rel,
                                                memory_order_acquire))
        return fresh;
    free(fresh);
    return next;
}

HOT void hist_record(struct stat_histogram *h, uint64_t value)
{
    uint64_t key = hist_bin_of(value) + 1;
    struct hist_table *t = atomic_load_explicit(&h->tables, memory_order_acquire);
    _Atomic uint64_t *s;
    while (!(s = slot_of(t, key)))
        t = next_table(t);
    atomic_fetch_add_explicit(s, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

static int by_bin(const void *a, const void *b)
{
    uint32_t x = ((const struct hist_bin *)a)->bin, y = ((const struct hist_bin *)b)->bin;
    return x < y ? -1 : x > y;
}

void hist_read(const struct stat_histogram *h, struct hist_bins *out)
{
    uint32_t cap = 16;
    *out = (struct hist_bins){.v = mem_array(struct hist_bin, cap)};
    struct hist_table *t = atomic_load_explicit(&h->tables, memory_order_acquire);
    for (; t; t = atomic_load_explicit(&t->next, memory_order_acquire)) {
        for (uint32_t i = 0; i <= t->mask; i++) {
            uint64_t v = atomic_load_explicit(&t->slot[i], memory_order_relaxed);
            if (!(v & COUNT_MASK))
                continue;
            if (out->n == cap) {
                cap *= 2;
                out->v = mem_realloc(out->v, cap * sizeof(out->v[0]));
            }
            out->v[out->n++] = (struct hist_bin){(uint32_t)(v >> COUNT_BITS) - 1, v & COUNT_MASK};
            out->total += v & COUNT_MASK;
        }
    }
    qsort(out->v, out->n, sizeof(out->v[0]), by_bin);
}

void hist_bins_free(struct hist_bins *b)
{
    free(b->v);
    *b = (struct hist_bins){0};
}

uint64_t hist_count(const struct stat_histogram *h)
{
    uint64_t n = 0;
    struct hist_table *t = atomic_load_explicit(&h->tables, memory_order_acquire);
    for (; t; t = atomic_load_explicit(&t->next, memory_order_acquire))
        for (uint32_t i = 0; i <= t->mask; i++)
            n += atomic_load_explicit(&t->slot[i], memory_order_relaxed) & COUNT_MASK;
    return n;
}

void hist_close_interval(struct stat_histogram *h)
{
    hist_bins_free(&h->interval);
    if (hist_count(h) == h->last.total)
        return;
    struct hist_bins now, *d = &h->interval;
    hist_read(h, &now);
    d->v = mem_array(struct hist_bin, now.n);
    for (uint32_t i = 0, j = 0; i < now.n; i++) {
        while (j < h->last.n && h->last.v[j].bin < now.v[i].bin)
            j++;
        uint64_t before =
            j < h->last.n && h->last.v[j].bin == now.v[i].bin ? h->last.v[j].count : 0;
        if (now.v[i].count == before)
            continue;
        d->v[d->n++] = (struct hist_bin){now.v[i].bin, now.v[i].count - before};
        d->total += now.v[i].count - before;
    }
    hist_bins_free(&h->last);
    h->last = now;
}

double hist_quantile(const struct hist_bins *b, double q)
{
    if (b->total == 0)
        return NAN;
    double want = ceil(q * (double)b->total);
    uint64_t rank = want < 1 ? 1 : (uint64_t)want;
    if (rank > b->total)
        rank = b->total;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct hist_bin *x = &b->v[i];
        if (rank <= seen + x->count)
            return hist_bin_low(x->bin) +
                   hist_bin_width(x->bin) * ((double)(rank - seen) / (double)(x->count + 1));
        seen += x->count;
    }
    return NAN;
}

uint64_t hist_below(const struct hist_bins *b, double bound)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < b->n && hist_bin_low(b->v[i].bin) <= bound; i++)
        n += b->v[i].count;
    return n;
}
