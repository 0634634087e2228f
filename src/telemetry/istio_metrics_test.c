/* Peers out of headers and endpoints, and the series that requests make. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/stats.pb.h"
#include "telemetry/istio_metrics.h"
#include "telemetry/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct rig {
    struct arena a;
    struct stats *s;
    struct istio_worker *w;
    struct istio_book *b;
    const struct google_Struct *node;
};

static const void *from_text(struct rig *r, const struct pb_message *m, const char *text)
{
    struct error err = {0};
    void *out;
    if (pb_from_text(m, sv_of(text), "test", &r->a, NULL, &out, &err))
        fail_msg("%s", err.msg);
    return out;
}

static void begin(struct rig *r)
{
    arena_init(&r->a);
    r->s = stats_new();
    r->w = istio_worker_new();
    r->b = istio_worker_book(r->w);
    r->node = from_text(r, &google_Struct_pb,
                        "{NAME: a-1, WORKLOAD_NAME: a, NAMESPACE: n, CLUSTER_ID: c, LABELS: {app: "
                        "shop, version: v2}}");
}

static void end(struct rig *r)
{
    istio_book_unref(r->b);
    istio_worker_free(r->w);
    arena_free(&r->a); /* the scopes */
    stats_free(r->s);
}

static const struct istio_metrics *config(struct rig *r, const char *text)
{
    struct error err = {0};
    const struct istio_metrics *c;
    if (istio_metrics_build(from_text(r, &stats_PluginConfig_pb, text), ISTIO_SOURCE, r->node, r->s,
                            "cfg", &r->a, &c, &err) < 0)
        fail_msg("%s", err.msg);
    return c;
}

static void page(struct rig *r, struct strbuf *out)
{
    struct stats_query q;
    struct error err = {0};
    strbuf_init(out, 1 << 20);
    assert_int_equal(stats_query_parse(SV("/stats/prometheus"), &q, &err), 0);
    stats_render(r->s, &q, out);
    stats_query_fini(&q);
}

static void report(const struct istio_metrics *c, struct istio_book *b, const char *host,
                   uint16_t status)
{
    struct istio_parties p = {.status = status, .grpc_status = -1};
    istio_parties_service(&p, b, SV("x"), NULL, sv_of(host));
    istio_report_request(c, b, &p, &(struct istio_request){.has_duration = true});
}

static void header_there_and_back(void **state)
{
    struct rig r;
    begin(&r);
    sv value = istio_peer_value(r.node, &r.a);
    const struct istio_peer *p = istio_peer_of_header(r.b, value);
    assert_non_null(p);
    assert_true(sv_eq_c(p->workload, "a") && sv_eq_c(p->ns, "n") && sv_eq_c(p->cluster, "c"));
    assert_true(sv_eq_c(p->app, "shop") && sv_eq_c(p->service, "shop"));
    assert_true(sv_eq_c(p->version, "v2") && sv_eq_c(p->revision, "v2"));
    assert_ptr_equal(p, istio_peer_of_header(r.b, value));
    end(&r);
}

static void header_of_no_peer(void **state)
{
    static const char *const bad[] = {"!", "AAAA", "/////w==", "Zm9yZ2Vk"};
    struct rig r;
    begin(&r);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int again = 0; again < 2; again++)
            assert_null(istio_peer_of_header(r.b, sv_of(bad[i])));
    char *big = malloc(ISTIO_HEADER_MAX + 4);
    memset(big, 'A', ISTIO_HEADER_MAX + 4);
    assert_null(istio_peer_of_header(r.b, sv_make(big, ISTIO_HEADER_MAX + 4)));
    free(big);
    sv value = istio_peer_value(r.node, &r.a); /* every cut of a good one */
    for (size_t n = 0; n < value.n; n++)
        (void)istio_peer_of_header(r.b, sv_first(value, n));
    end(&r);
}

static void endpoint(void **state)
{
    struct rig r;
    begin(&r);
    const struct istio_peer *p = istio_peer_of_endpoint(
        r.b, from_text(&r, &envoy_Metadata_pb,
                       "filter_metadata: {istio: {workload: \"w\\u00e9;n2;svc;v9;c2\"}}"));
    assert_non_null(p);
    assert_true(sv_eq_c(p->workload, "w__")); /* nothing that is not printable */
    assert_true(sv_eq_c(p->ns, "n2") && sv_eq_c(p->service, "svc") && sv_eq_c(p->cluster, "c2"));
    assert_null(istio_peer_of_endpoint(r.b, NULL));
    end(&r);
}

static void labels_change_by_configuration(void **state)
{
    struct rig r;
    struct strbuf out;
    begin(&r);
    report(config(&r, "metrics: [{name: requests_total, tags_to_remove: [source_app, "
                      "response_flags], dimensions: {team: \"'web'\", source_version: \"'x'\"}}, "
                      "{name: request_bytes, drop: true}]"),
           r.b, "h", 200);
    page(&r, &out);
    assert_non_null(
        strstr(out.p, "istio_requests_total{reporter=\"source\",source_workload=\"a\","));
    assert_non_null(strstr(out.p, "team=\"web\""));
    assert_non_null(strstr(out.p, "source_version=\"x\""));
    assert_null(strstr(out.p, "istio_request_bytes"));
    char *line = strstr(out.p, "istio_requests_total{");
    *strchr(line, '\n') = 0;
    assert_null(strstr(line, "source_app"));
    strbuf_fini(&out);
    end(&r);
}

static void refused(struct rig *r, const char *text, const char *why)
{
    struct error err = {0};
    const struct istio_metrics *c;
    assert_true(istio_metrics_build(from_text(r, &stats_PluginConfig_pb, text), ISTIO_SOURCE,
                                    r->node, r->s, "cfg", &r->a, &c, &err) < 0);
    if (!strstr(err.msg, why))
        fail_msg("'%s' is not in '%s'", why, err.msg);
}

static void what_cannot_be_honoured_is_refused(void **state)
{
    struct rig r;
    begin(&r);
    refused(&r, "metrics: [{dimensions: {a: request.host}}]", "cfg.metrics[0].dimensions['a']");
    refused(&r, "metrics: [{tags_to_remove: [nothing]}]", "cfg.metrics[0].tags_to_remove[0]");
    refused(&r, "metrics: [{}, {name: nothing}]", "cfg.metrics[1].name");
    end(&r);
}

static void series_are_bounded_and_expire(void **state)
{
    struct rig r;
    struct strbuf out;
    char host[32];
    uint64_t n;
    begin(&r);
    const struct istio_metrics *c = config(&r, "rotation_interval: 10s");
    stats_set_budget(r.s, 40);
    for (int i = 0; i < 200; i++) {
        snprintf(host, sizeof host, "host-%d", i);
        report(c, r.b, host, 200);
    }
    assert_true(stats_find(r.s, SV("stats.series"), &n) && n <= 40);
    page(&r, &out);
    assert_non_null(strstr(out.p, "istio_requests_total{overflow=\"true\"}"));
    strbuf_fini(&out);
    stats_sweep(r.s, 1000);
    stats_sweep(r.s, 30000); /* idle for long */
    page(&r, &out);
    assert_null(strstr(out.p, "istio_requests_total{reporter"));
    strbuf_fini(&out);
    report(c, r.b, "host-1", 200); /* a row that held evicted series */
    page(&r, &out);
    assert_non_null(strstr(out.p, "destination_service=\"host-1\""));
    strbuf_fini(&out);
    end(&r);
}

static void books_are_bounded(void **state)
{
    struct rig r;
    char text[32];
    begin(&r);
    const struct istio_name *first = istio_book_name(r.b, SV("first"));
    for (int i = 0; i < 30000; i++) {
        snprintf(text, sizeof text, "name-%d", i);
        struct istio_book *b = istio_worker_book(r.w);
        assert_false(istio_book_full(b));
        istio_book_name(b, sv_of(text));
        istio_book_unref(b);
    }
    assert_true(sv_eq_c(first->text, "first")); /* its book is held */
    struct istio_book *now = istio_worker_book(r.w);
    assert_ptr_not_equal(now, r.b);
    istio_book_unref(now);
    end(&r);
}

int main(void)
{
#define T(f) cmocka_unit_test(f)
    const struct CMUnitTest tests[] = {
        T(header_there_and_back),
        T(header_of_no_peer),
        T(endpoint),
        T(labels_change_by_configuration),
        T(what_cannot_be_honoured_is_refused),
        T(series_are_bounded_and_expire),
        T(books_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
