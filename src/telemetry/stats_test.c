/* stats: groups and scopes, codes, dynamic series, pages in Envoy's shapes, counting while reading.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "telemetry/stats_internal.h"

#define THING_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                            \
    COUNTER(P, rq_total)                                                                           \
    COUNTER(P, upstream_rq_2xx)                                                                    \
    GAUGE(P, rq_active)                                                                            \
    HISTOGRAM(P, rq_time, STAT_UNIT_MS)                                                            \
    TEXT(P, version_text)
STAT_GROUP_DECLARE(thing_stats, THING_STATS);
STAT_GROUP_DEFINE(thing_stats, THING_STATS);

static char *page(struct stats *s, const char *query)
{
    struct stats_query q;
    struct error err = {0};
    assert_int_equal(stats_query_parse(sv_of(query), &q, &err), 0);
    struct strbuf out;
    strbuf_init(&out, 1 << 20);
    stats_render(s, &q, &out);
    stats_query_fini(&q);
    return strbuf_steal(&out, NULL);
}

static void assert_page(struct stats *s, const char *query, const char *want)
{
    char *got = page(s, query);
    assert_string_equal(got, want);
    free(got);
}

static void assert_has(struct stats *s, const char *query, const char *part, bool there)
{
    char *got = page(s, query);
    if ((strstr(got, part) != NULL) != there)
        fail_msg("%s should %shave '%s':\n%s", query, there ? "" : "not ", part, got);
    free(got);
}

static void test_lazy_and_shared(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = stats_scope_cluster(s, SV("outbound|80||x"));
    struct stat_group a, b;
    stat_group_init(&a, &thing_stats_def, sc);
    stat_group_init(&b, &thing_stats_def, sc);
    stats_scope_unref(sc);
    assert_page(s, "/stats?filter=cluster", "");
    assert_int_equal(stat_get(&a, thing_stats_rq_total), 0);

    stat_inc(&a, thing_stats_rq_total);
    stat_add(&b, thing_stats_rq_total, 2);
    assert_int_equal(stat_get(&a, thing_stats_rq_total), 3);
    uint64_t v = 0;
    assert_true(stats_find(s, SV("cluster.outbound|80||x.rq_total"), &v));
    assert_int_equal(v, 3);
    assert_false(stats_find(s, SV("cluster.outbound|80||x.rq"), &v));

    /* A new version of the cluster goes on counting; when both are gone so are the values. */
    stat_group_fini(&a);
    struct stats_scope *again = stats_scope_cluster(s, SV("outbound|80||x"));
    stat_group_init(&a, &thing_stats_def, again);
    stats_scope_unref(again);
    stat_inc(&a, thing_stats_rq_total);
    assert_int_equal(stat_get(&b, thing_stats_rq_total), 4);
    stat_group_fini(&a);
    stat_group_fini(&b);
    assert_page(s, "/stats?filter=cluster", "");
    struct stat_group zero = {0};
    stat_group_fini(&zero);
    stats_free(s);
}

static void test_gauges(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = stats_scope_plain(s, SV("server."));
    struct stat_group g;
    stat_group_init(&g, &thing_stats_def, sc);
    stats_scope_unref(sc);
    stat_group_touch(&g);
    assert_page(s, "/stats?type=Gauges&filter=server", "server.rq_active: 0\n");
    assert_page(s, "/stats?type=Gauges&filter=server&usedonly", "");
    stat_gauge_dec(&g, thing_stats_rq_active);
    assert_int_equal(stat_get(&g, thing_stats_rq_active), 0);
    stat_gauge_inc(&g, thing_stats_rq_active);
    assert_int_equal(stat_get(&g, thing_stats_rq_active), 0);
    assert_page(s, "/stats?type=Gauges&filter=server&usedonly", "server.rq_active: 0\n");
    stat_gauge_set(&g, thing_stats_rq_active, 4294967295u);
    stat_gauge_add(&g, thing_stats_rq_active, 5);
    assert_page(s, "/stats?type=Gauges&filter=server", "server.rq_active: 4294967300\n");
    stat_gauge_set(&g, thing_stats_rq_active, 0xfff0000000000000u); /* a hash, as of versions */
    assert_page(s, "/stats?type=Gauges&filter=server", "server.rq_active: 18442240474082181120\n");
    stat_group_fini(&g);
    stats_free(s);
}

static void fill(struct stat_group *g, struct stat_codes *codes)
{
    stat_inc(g, thing_stats_rq_total);
    stat_inc(g, thing_stats_upstream_rq_2xx);
    stat_gauge_set(g, thing_stats_rq_active, 2);
    stat_record(g, thing_stats_rq_time, 0);
    stat_record(g, thing_stats_rq_time, 1);
    stat_record(g, thing_stats_rq_time, 1);
    stat_text_set(g, thing_stats_version_text, SV("v0"));
    stat_text_set(g, thing_stats_version_text, SV("v1\"x"));
    stat_codes_inc(codes, 503);
    stat_codes_inc(codes, 200);
    stat_codes_inc(codes, 503);
    stat_codes_inc(codes, 99);
    stat_codes_inc(codes, 600);
}

static void test_pages(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = stats_scope_cluster(s, SV("a.b"));
    struct stat_group g;
    struct stat_codes codes, same;
    stat_group_init(&g, &thing_stats_def, sc);
    stat_codes_init(&codes, "upstream_rq", sc);
    stat_codes_init(&same, "upstream_rq", sc);
    stats_scope_unref(sc);
    fill(&g, &codes);
    stat_codes_inc(&same, 503);

    assert_page(s, "/stats?filter=cluster",
                "cluster.a.b.version_text: \"v1\"x\"\n"
                "cluster.a.b.rq_active: 2\n"
                "cluster.a.b.rq_total: 1\n"
                "cluster.a.b.upstream_rq_200: 1\n"
                "cluster.a.b.upstream_rq_2xx: 1\n"
                "cluster.a.b.upstream_rq_503: 3\n"
                "cluster.a.b.rq_time: P0(nan,0) P25(nan,0) P50(nan,1.0333333333333334) "
                "P75(nan,1.0666666666666667) P90(nan,1.0666666666666667) "
                "P95(nan,1.0666666666666667) P99(nan,1.0666666666666667) "
                "P99.5(nan,1.0666666666666667) P99.9(nan,1.0666666666666667) "
                "P100(nan,1.0666666666666667)\n");
    stats_sweep(s, 1);
    assert_has(s, "/stats", "P0(0,0) P25(0,0) P50(1.0333333333333334,1.0333333333333334)", true);
    stats_sweep(s, 2);
    assert_has(s, "/stats", "P0(nan,0) ", true);
    assert_page(s, "/stats?filter=%72q_time%24&histogram_buckets=disjoint",
                "cluster.a.b.rq_time: B0.5(0,1) B1(0,2) B5(0,0) B10(0,0) B25(0,0) B50(0,0) "
                "B100(0,0) B250(0,0) B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) "
                "B30000(0,0) B60000(0,0) B300000(0,0) B600000(0,0) B1.8e+06(0,0) B3.6e+06(0,0)\n");
    assert_page(s, "/stats?format=json&filter=cluster.*(rq_2|rq_total|version)",
                "{\"stats\":[{\"name\":\"cluster.a.b.version_text\",\"value\":\"v1\\\"x\"},"
                "{\"name\":\"cluster.a.b.rq_total\",\"value\":1},"
                "{\"name\":\"cluster.a.b.upstream_rq_200\",\"value\":1},"
                "{\"name\":\"cluster.a.b.upstream_rq_2xx\",\"value\":1}]}");
    assert_has(s, "/stats?format=json",
               "{\"histograms\":{\"supported_quantiles\":[0,25,50,75,90,95,99,99.5,99.9,100],"
               "\"computed_quantiles\":[{\"name\":\"cluster.a.b.rq_time\",\"values\":["
               "{\"cumulative\":0,\"interval\":null}",
               true);

    stats_reset_counters(s);
    assert_page(s, "/stats?filter=cluster&usedonly&type=Counters", "");
    assert_int_equal(stat_get(&g, thing_stats_rq_active), 2);
    stat_group_fini(&g);
    stat_codes_fini(&codes);
    stat_codes_fini(&same);
    stats_free(s);
}

static void test_prometheus(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = stats_scope_cluster(s, SV("outbound|80||x\"\\\n"));
    struct stats_scope *listener = stats_scope_listener(s, SV("0.0.0.0:15006"));
    struct stat_label l = {SV("envoy.http_conn_manager_prefix"), SV("in")};
    struct stats_scope *sub = stats_scope_sub(listener, SV("http."), SV("in."), &l, 1);
    assert_true(sv_eq_c(stats_scope_prefix(sub), "listener.0.0.0.0_15006.http.in."));
    struct stat_group g, lg;
    struct stat_codes codes;
    stat_group_init(&g, &thing_stats_def, sc);
    stat_group_init(&lg, &thing_stats_def, sub);
    stat_codes_init(&codes, "upstream_rq", sc);
    stats_scope_unref(sc);
    stats_scope_unref(sub);
    stats_scope_unref(listener);
    fill(&g, &codes);
    stat_inc(&lg, thing_stats_rq_total);
#define NAME "envoy_cluster_name=\"outbound|80||x\\\"\\\\\\n\""
    assert_page(s, "/stats/prometheus?type=Counters&usedonly&filter=x|listener",
                "# TYPE envoy_cluster_rq_total counter\n"
                "envoy_cluster_rq_total{" NAME "} 1\n"
                "# TYPE envoy_cluster_upstream_rq counter\n"
                "envoy_cluster_upstream_rq{envoy_response_code=\"200\"," NAME "} 1\n"
                "envoy_cluster_upstream_rq{envoy_response_code=\"503\"," NAME "} 2\n"
                "# TYPE envoy_cluster_upstream_rq_xx counter\n"
                "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\"," NAME "} 1\n"
                "# TYPE envoy_listener_http_rq_total counter\n"
                "envoy_listener_http_rq_total{envoy_http_conn_manager_prefix=\"in\","
                "envoy_listener_address=\"0.0.0.0_15006\"} 1\n");
    double bounds[] = {0.5, 1, 3600000};
    stats_set_buckets(s, bounds, 3);
    assert_page(s, "/stats/prometheus?type=Histograms&usedonly",
                "# TYPE envoy_cluster_rq_time histogram\n"
                "envoy_cluster_rq_time_bucket{" NAME ",le=\"0.5\"} 1\n"
                "envoy_cluster_rq_time_bucket{" NAME ",le=\"1\"} 3\n"
                "envoy_cluster_rq_time_bucket{" NAME ",le=\"3600000\"} 3\n"
                "envoy_cluster_rq_time_bucket{" NAME ",le=\"+Inf\"} 3\n"
                "envoy_cluster_rq_time_sum{" NAME "} 2\n"
                "envoy_cluster_rq_time_count{" NAME "} 3\n");
    assert_page(s, "/stats/prometheus?type=TextReadouts&usedonly", "");
    assert_page(s, "/stats/prometheus?type=TextReadouts&usedonly&text_readouts",
                "# TYPE envoy_cluster_version_text gauge\n"
                "envoy_cluster_version_text{" NAME ",text_value=\"v1\\\"x\"} 0\n");
    assert_page(s, "/stats?format=openmetrics&filter=bound[^z]*rq_(total|2xx)",
                "# TYPE envoy_cluster_rq counter\n"
                "envoy_cluster_rq_total{" NAME "} 1\n"
                "# TYPE envoy_cluster_upstream_rq_xx counter\n"
                "envoy_cluster_upstream_rq_xx_total{envoy_response_code_class=\"2\"," NAME "} 1\n"
                "# EOF\n");
    assert_has(s, "/stats/prometheus", "envoy_stats_series{} ", false);
    stat_group_fini(&g);
    stat_group_fini(&lg);
    stat_codes_fini(&codes);
    stats_free(s);
}

static void test_query_errors(void **state)
{
    struct stats_query q;
    struct error err = {0};
    assert_int_equal(stats_query_parse(SV("/stats?format=x"), &q, &err), E_INVALID);
    assert_int_equal(stats_query_parse(SV("/stats?type=x"), &q, &err), E_INVALID);
    assert_string_equal(err.msg, "invalid &type= param");
    assert_int_equal(stats_query_parse(SV("/stats?histogram_buckets=x"), &q, &err), E_INVALID);
    assert_int_equal(stats_query_parse(SV("/stats?filter=a&filter=(("), &q, &err), 0);
    assert_true(sv_eq_c(q.filter_text, "a"));
    assert_true(sv_eq_c(stats_content_type(&q), "text/plain; charset=UTF-8"));
    stats_query_fini(&q);
    assert_int_equal(stats_query_parse(SV("/stats?x&filter=(("), &q, &err), E_INVALID);
    assert_non_null(strstr(err.msg, "Invalid re2 regex: "));
    assert_int_equal(stats_query_parse(SV("/stats?filter=a&type=zzz"), &q, &err), E_INVALID);
}

static struct stats_scope *istio_scope(struct stats *s)
{
    return stats_scope_get(s,
                           &(struct stats_scope_spec){.prefix = SV("istiocustom."), .bare = true});
}

static void test_series(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = istio_scope(s);
    struct stats_cache *c = stats_cache_new(s, 100), *other = stats_cache_new(s, 100);
    struct stat_label l[] = {{SV("reporter"), SV("source")}, {SV("response_code"), SV("200")}};
    struct stat_series *e = stats_cache_get(c, sc, SV("istio_requests_total"), STAT_COUNTER, l, 2);
    stat_series_add(e, 2);
    assert_ptr_equal(e, stats_cache_get(c, sc, SV("istio_requests_total"), STAT_COUNTER, l, 2));
    assert_ptr_equal(e, stats_cache_get(other, sc, SV("istio_requests_total"), STAT_COUNTER, l, 2));
    stat_series_record(stats_cache_get(c, sc, SV("istio_ms"), STAT_HISTOGRAM, l, 1), 7);
    stat_series_gauge_add(stats_cache_get(c, sc, SV("open"), STAT_GAUGE, l, 1), 3);
    assert_page(s, "/stats?filter=istio&type=Counters",
                "istiocustom.istio_requests_total.reporter.source.response_code.200: 2\n");
    assert_page(s, "/stats/prometheus?filter=istiocustom.*(total|open)",
                "# TYPE istio_requests_total counter\n"
                "istio_requests_total{reporter=\"source\",response_code=\"200\"} 2\n"
                "# TYPE open gauge\n"
                "open{reporter=\"source\"} 3\n");
    /* A scope that goes takes its series along; caches notice. */
    stats_scope_unref(sc);
    assert_has(s, "/stats", "istiocustom", false);
    sc = istio_scope(s);
    e = stats_cache_get(c, sc, SV("istio_requests_total"), STAT_COUNTER, l, 2);
    stat_series_add(e, 1);
    assert_has(s, "/stats", "response_code.200: 1\n", true);
    stats_cache_free(c);
    stats_cache_free(other);
    stats_cache_free(NULL);
    stats_scope_unref(sc);
    stats_free(s);
}

/* Labels that stand inside of the dotted name, and outside of the metric's. */
static void test_series_with_places(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = stats_scope_plain(s, SV("vhost."));
    struct stats_cache *c = stats_cache_new(s, 100);
    struct stat_label l[] = {{SV("envoy.virtual_host"), SV("a.b:80")},
                             {SV("envoy.virtual_cluster"), SV("100%")}};
    sv name = SV("%.vcluster.%.upstream_rq_503");
    stat_series_add(stats_cache_get(c, sc, name, STAT_COUNTER, l, 2), 2);
    assert_page(s, "/stats?filter=vhost", "vhost.a.b:80.vcluster.100%.upstream_rq_503: 2\n");
    assert_page(s, "/stats/prometheus?filter=vhost",
                "# TYPE envoy_vhost_vcluster_upstream_rq counter\n"
                "envoy_vhost_vcluster_upstream_rq{envoy_response_code=\"503\","
                "envoy_virtual_host=\"a.b:80\",envoy_virtual_cluster=\"100%\"} 2\n");
    stats_set_budget(s, 1);
    stat_series_add(stats_cache_get(c, sc, SV("%.vcluster.%.upstream_rq_200"), STAT_COUNTER, l, 2),
                    1);
    assert_has(s, "/stats", "vhost.%.vcluster.%.upstream_rq_200.overflow.true: 1", true);
    stats_cache_free(c);
    stats_scope_unref(sc);
    stats_free(s);
}

static void add_numbered(struct stats_cache *c, struct stats_scope *sc, int i)
{
    char text[16];
    snprintf(text, sizeof(text), "%d", i);
    struct stat_label l = {SV("path"), sv_of(text)};
    stat_series_add(stats_cache_get(c, sc, SV("rq"), STAT_COUNTER, &l, 1), 1);
}

static void test_budget(void **state)
{
    struct stats *s = stats_new();
    stats_set_budget(s, 3);
    struct stats_scope *sc = istio_scope(s);
    struct stats_cache *c = stats_cache_new(s, 100);
    for (int i = 0; i < 10; i++)
        add_numbered(c, sc, i);
    assert_page(s, "/stats?filter=istiocustom",
                "istiocustom.rq.overflow.true: 7\n"
                "istiocustom.rq.path.0: 1\n"
                "istiocustom.rq.path.1: 1\n"
                "istiocustom.rq.path.2: 1\n");
    uint64_t v;
    assert_true(stats_find(s, SV("stats.series_refused"), &v));
    assert_int_equal(v, 7);
    assert_true(stats_find(s, SV("stats.series"), &v));
    assert_int_equal(v, 3);
    /* What varies is the name: one for all of them. */
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        stat_series_add(stats_cache_get(c, sc, sv_of(name), STAT_COUNTER, NULL, 0), 1);
    }
    assert_has(s, "/stats", "istiocustom.overflow.overflow.true: 3\n", true);
    /* So is an identity without measure. */
    char *huge = calloc(1, 100000);
    memset(huge, 'x', 99999);
    struct stat_label l = {SV("path"), sv_of(huge)};
    stats_set_budget(s, 100);
    stat_series_add(stats_cache_get(c, sc, SV("rq"), STAT_COUNTER, &l, 1), 1);
    free(huge);
    assert_has(s, "/stats", "istiocustom.rq.overflow.true: 8\n", true);
    stats_cache_free(c);
    stats_scope_unref(sc);
    stats_free(s);
}

static void test_eviction(void **state)
{
    struct stats *s = stats_new();
    stats_set_idle_ms(s, 1000);
    struct stats_scope *sc = istio_scope(s);
    struct stats_cache *c = stats_cache_new(s, 100);
    struct stat_label l = {SV("a"), SV("b")};
    stat_series_gauge_set(stats_cache_get(c, sc, SV("open"), STAT_GAUGE, &l, 1), 1);
    for (int i = 0; i < 5; i++)
        add_numbered(c, sc, i);
    stats_sweep(s, 5000);
    stats_sweep(s, 5500);
    add_numbered(c, sc, 3);
    stats_sweep(s, 5900);
    assert_has(s, "/stats", "rq.path.0: 1\n", true);
    stats_sweep(s, 6000);
    assert_has(s, "/stats", "rq.path.0", false);
    assert_has(s, "/stats", "rq.path.3: 2\n", true);
    assert_has(s, "/stats", "open.a.b: 1\n", true); /* a gauge that stands is in use */
    uint64_t v;
    assert_true(stats_find(s, SV("stats.series_evicted"), &v));
    assert_int_equal(v, 4);
    /* The cache finds out. */
    add_numbered(c, sc, 0);
    assert_has(s, "/stats", "rq.path.0: 1\n", true);
    stats_cache_free(c);
    stats_scope_unref(sc);
    stats_free(s);
}

static void test_cache_bound(void **state)
{
    struct stats *s = stats_new();
    struct stats_scope *sc = istio_scope(s);
    struct stats_cache *c = stats_cache_new(s, 16);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 100; i++)
            add_numbered(c, sc, i);
    for (int i = 0; i < 100; i++) {
        char name[40];
        snprintf(name, sizeof(name), "istiocustom.rq.path.%d", i);
        uint64_t v = 0;
        assert_true(stats_find(s, sv_of(name), &v));
        assert_int_equal(v, 3);
    }
    stats_cache_free(c);
    stats_scope_unref(sc);
    stats_free(s);
}

/* ---- everything at once ---- */

#define THREADS 3
#define ROUNDS  3000

static void *worker(void *arg)
{
    struct stats *s = arg;
    struct stats_cache *c = stats_cache_new(s, 64);
    struct stats_scope *istio = istio_scope(s);
    for (int i = 0; i < ROUNDS; i++) {
        struct stats_scope *sc = stats_scope_cluster(s, i % 2 ? SV("odd") : SV("even"));
        struct stat_group g;
        struct stat_codes codes;
        stat_group_init(&g, &thing_stats_def, sc);
        stat_codes_init(&codes, "upstream_rq", sc);
        stats_scope_unref(sc);
        stat_inc(&g, thing_stats_rq_total);
        stat_gauge_inc(&g, thing_stats_rq_active);
        stat_record(&g, thing_stats_rq_time, (uint64_t)i);
        stat_text_set(&g, thing_stats_version_text, SV("text"));
        stat_codes_inc(&codes, (unsigned)(200 + i % 7));
        stat_gauge_dec(&g, thing_stats_rq_active);
        add_numbered(c, istio, i % 20);
        stat_group_fini(&g);
        stat_codes_fini(&codes);
    }
    stats_scope_unref(istio);
    stats_cache_free(c);
    return NULL;
}

static void test_threads(void **state)
{
    struct stats *s = stats_new();
    stats_set_idle_ms(s, 2);
    stats_set_budget(s, 15);
    struct stats_scope *sc = stats_scope_cluster(s, SV("odd"));
    struct stats_scope *istio = istio_scope(s);
    struct stat_group g;
    stat_group_init(&g, &thing_stats_def, sc);
    stats_scope_unref(sc);
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, worker, s);
    for (int i = 0; i < 40; i++) {
        free(page(s, i % 2 ? "/stats" : "/stats/prometheus"));
        stats_sweep(s, (uint64_t)i);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    stat_group_touch(&g);
    assert_int_equal(stat_get(&g, thing_stats_rq_total), THREADS * ROUNDS / 2);
    assert_int_equal(stat_get(&g, thing_stats_rq_active), 0);
    assert_int_equal(stat_get(&g, thing_stats_rq_time), THREADS * ROUNDS / 2);
    stat_group_fini(&g);
    stats_scope_unref(istio);
    stats_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lazy_and_shared),
        cmocka_unit_test(test_gauges),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_prometheus),
        cmocka_unit_test(test_query_errors),
        cmocka_unit_test(test_series),
        cmocka_unit_test(test_series_with_places),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_cache_bound),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
