/* histograms: bins, quantiles as Envoy prints them, intervals, concurrent recording. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "telemetry/stats_histogram.h"

static void test_bins(void **state)
{
    assert_int_equal(hist_bin_of(0), 0);
    uint64_t p = 1;
    for (uint32_t e = 0; e < 20; e++, p *= 10) {
        for (uint64_t m = 1; m <= 9; m++) {
            if (e == 19 && m > 1)
                break;
            uint64_t v = m * p;
            uint32_t bin = hist_bin_of(v);
            assert_int_equal(bin, 1 + 90 * e + m * 10 - 10);
            assert_true(hist_bin_low(bin) == (double)v);
        }
        if (e)
            assert_int_equal(hist_bin_of(p - 1), 1 + 90 * (e - 1) + (e == 1 ? 80 : 89));
    }
    assert_int_equal(hist_bin_of(UINT64_MAX), 1 + 90 * 19 + 8);
    /* Every value lies in its bin. */
    for (uint64_t v = 1; v < 100000; v++) {
        uint32_t b = hist_bin_of(v);
        assert_true(hist_bin_low(b) <= (double)v);
        assert_true((double)v < hist_bin_low(b) + hist_bin_width(b));
    }
}

static void assert_near(double a, double b)
{
    assert_true(fabs(a - b) < 1e-12);
}

/* The figures are what Envoy 1.40 printed for the same samples. */
static void test_quantiles(void **state)
{
    struct stat_histogram *h = hist_new();
    struct hist_bins b;
    hist_read(h, &b);
    assert_true(isnan(hist_quantile(&b, 0.5)));
    hist_bins_free(&b);

    hist_record(h, 0);
    hist_record(h, 1);
    hist_record(h, 1);
    hist_read(h, &b);
    assert_int_equal(b.total, 3);
    assert_near(hist_quantile(&b, 0), 0);
    assert_near(hist_quantile(&b, 0.25), 0);
    assert_near(hist_quantile(&b, 0.5), 1.0333333333333334);
    assert_near(hist_quantile(&b, 0.75), 1.0666666666666667);
    assert_near(hist_quantile(&b, 1), 1.0666666666666667);
    assert_int_equal(hist_below(&b, 0.5), 1);
    assert_int_equal(hist_below(&b, 1), 3);
    hist_bins_free(&b);
    assert_int_equal(atomic_load(&h->sum), 2);
    hist_free(h);

    h = hist_new();
    hist_record(h, 15);
    hist_read(h, &b);
    assert_near(hist_quantile(&b, 0.99), 15.5);
    hist_bins_free(&b);
    hist_free(h);
    hist_free(NULL);
}

static void test_interval(void **state)
{
    struct stat_histogram *h = hist_new();
    hist_record(h, 10);
    hist_close_interval(h);
    assert_int_equal(h->interval.total, 1);
    hist_record(h, 10);
    hist_record(h, 700);
    hist_record(h, 5);
    hist_close_interval(h);
    assert_int_equal(h->interval.total, 3);
    assert_int_equal(h->interval.n, 3);
    assert_near(hist_quantile(&h->interval, 0), 5.05);
    hist_close_interval(h);
    assert_int_equal(h->interval.total, 0);
    assert_int_equal(hist_count(h), 4);
    hist_free(h);
}

/* All bins there are, so that the chain of tables grows to its end. */
static void test_every_bin(void **state)
{
    struct stat_histogram *h = hist_new();
    uint64_t p = 1, n = 0;
    for (uint32_t e = 0; e < 19; e++, p *= 10)
        for (uint64_t m = 10; m < 100; m++) {
            uint64_t v = e ? m * (p / 10) : m / 10;
            hist_record(h, v);
            n++;
        }
    struct hist_bins b;
    hist_read(h, &b);
    assert_int_equal(b.total, n);
    assert_int_equal(b.n, 9 + 90 * 18);
    for (uint32_t i = 1; i < b.n; i++)
        assert_true(b.v[i - 1].bin < b.v[i].bin);
    hist_bins_free(&b);
    hist_free(h);
}

#define THREADS 4
#define EACH    20000

static void *recorder(void *arg)
{
    for (uint64_t i = 0; i < EACH; i++)
        hist_record(arg, i % 997);
    return NULL;
}

static void test_threads(void **state)
{
    struct stat_histogram *h = hist_new();
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, recorder, h);
    for (int i = 0; i < 50; i++)
        hist_close_interval(h);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    struct hist_bins b;
    hist_read(h, &b);
    assert_int_equal(b.total, THREADS * EACH);
    for (uint32_t i = 1; i < b.n; i++)
        assert_true(b.v[i - 1].bin < b.v[i].bin); /* no bin twice */
    hist_bins_free(&b);
    hist_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bins),     cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_interval), cmocka_unit_test(test_every_bin),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
