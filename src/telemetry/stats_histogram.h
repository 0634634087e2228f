/* Log-linear histograms of whole numbers: 90 bins a decade (two significant digits), as in Envoy.
 *
 *   bin 0: the value 0      bin 1 + 90·e + (m - 10): [m/10·10^e, (m+1)/10·10^e),  10 <= m <= 99
 *
 * Only bins that were hit take memory: a slot is one word, the bin's number above and its count
 * below, in a chain of growing open-addressed tables whose slots are never emptied or moved:
 *
 *   tables -> [16 slots] -> [64] -> [256] -> …       slot: bin+1 (16 bits) | count (48 bits)
 *
 * so recording is a look-up and two relaxed additions, without a lock, and reading can go on at the
 * same time. The interval's bins (what was added between the last two closings) belong to the
 * reader. Thread: hist_record any; the rest one at a time (main). */
#ifndef WEFT_TELEMETRY_STATS_HISTOGRAM_H
#define WEFT_TELEMETRY_STATS_HISTOGRAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct hist_table;

struct hist_bin {
    uint32_t bin;
    uint64_t count;
};
/* Bins in ascending order with their total. */
struct hist_bins {
    struct hist_bin *v;
    uint32_t n;
    uint64_t total;
};

struct stat_histogram {
    _Atomic uint64_t sum; /* exact sum of the samples, wraps */
    _Atomic(struct hist_table *) tables;
    struct hist_bins last, interval; /* the reader's */
};

struct stat_histogram *hist_new(void);
void hist_free(struct stat_histogram *h); /* NULL is fine */
void hist_record(struct stat_histogram *h, uint64_t value);
/* Copies the bins as they stand; hist_bins_free afterwards. */
void hist_read(const struct stat_histogram *h, struct hist_bins *out);
void hist_bins_free(struct hist_bins *b);
/* Closes the interval: what came since the last closing becomes h->interval. */
void hist_close_interval(struct stat_histogram *h);
uint64_t hist_count(const struct stat_histogram *h);

/* The value below which the fraction q (0..1) of the samples lies, interpolated inside its bin as
 * Envoy does: sample k of c in a bin lies at k/(c+1) of its width. NaN when there is no sample. */
double hist_quantile(const struct hist_bins *b, double q);
/* Samples in bins that begin at or below `bound`. */
uint64_t hist_below(const struct hist_bins *b, double bound);
/* The bin of a value, its lower bound and its width. */
uint32_t hist_bin_of(uint64_t value);
double hist_bin_low(uint32_t bin);
double hist_bin_width(uint32_t bin);

#endif
