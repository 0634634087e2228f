/* What gRPC clients without a sidecar get, and what is said of rules that they cannot follow. What
 * their calls see of it: tests/e2e/test_mesh_proxyless.py. */
#include "mesh/mesh_testlib.h"

#define TARGET  FLASK ":80"
#define CLUSTER "outbound|80||" FLASK
#define TO_V1   "route: [{destination: {host: flaskapp, subset: v1}}]"

/* The resource as JSON, then a line for each problem; false: there is none. */
static bool ask(struct fixture *f, enum translate_grpc_type type, const char *name)
{
    const struct pb_message *const types[] = {&envoy_Listener_pb, &envoy_RouteConfiguration_pb,
                                              &envoy_Cluster_pb};
    sv packed;
    bool ok;

    strbuf_reset(&f->json);
    f->type = types[type];
    f->proxy.grpc = true;
    ok = translate_grpc(f->t, f->m, &f->proxy, type, sv_of(name), &f->a, &packed, note, f);
    if (ok)
        emit(f, sv_of(name), packed);
    return ok;
}

static void rule(struct fixture *f, const char *text)
{
    char yaml[4000];
    snprintf(yaml, sizeof yaml,
             "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
             "metadata: {name: v, namespace: books}\nspec: {hosts: [flaskapp], http: [{%s}]}\n---\n"
             "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
             "metadata: {name: d, namespace: books}\n"
             "spec: {host: flaskapp, subsets: [{name: v1, labels: {version: v1}}]}\n",
             text);
    only_services(f);
    write_file(f, "rule.yaml", yaml);
    rebuild(f);
    if (f->m->n_problems)
        fail_msg("%.*s", SV_ARG(f->m->problems[0].text));
    assert_true(ask(f, TRANSLATE_GRPC_ROUTES, CLUSTER));
}

static unsigned count(struct fixture *f, const char *text)
{
    unsigned n = 0;
    for (const char *p = f->json.p; (p = strstr(p, text)); p++)
        n++;
    return n;
}

static void test_names(void **state)
{
    struct fixture *f = *state;

    only_services(f);
    assert_true(ask(f, TRANSLATE_GRPC_LISTENER, TARGET));
    assert_true(has(f, "\"name\":\"" TARGET "\"") &&
                has(f, "\"route_config_name\":\"" CLUSTER "\""));
    assert_true(ask(f, TRANSLATE_GRPC_LISTENER, "flaskapp:80"));
    assert_true(has(f, "\"name\":\"flaskapp:80\""));
    assert_true(ask(f, TRANSLATE_GRPC_LISTENER, "Flaskapp.Books:80"));
    f->proxy.ns = SV("elsewhere");
    assert_false(ask(f, TRANSLATE_GRPC_LISTENER, "flaskapp:80"));
    f->proxy.ns = SV("books");
    const char *const bad[] = {"",
                               ":80",
                               FLASK,
                               FLASK ":",
                               FLASK ":0x50",
                               FLASK ":65616",
                               FLASK ":81",
                               "nobody.books.svc.cluster.local:80",
                               "xds.istio.io/grpc/lds/inbound/0.0.0.0:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ask(f, TRANSLATE_GRPC_LISTENER, bad[i]));
    const char *const no_cluster[] = {"",
                                      "|||",
                                      "inbound|80||" FLASK,
                                      "outbound|81||" FLASK,
                                      "outbound|80|nix|" FLASK,
                                      "refused|80|v1|" FLASK,
                                      "refused|81||" FLASK,
                                      "PassthroughCluster",
                                      "80"};
    for (size_t i = 0; i < sizeof no_cluster / sizeof *no_cluster; i++) {
        assert_false(ask(f, TRANSLATE_GRPC_CLUSTER, no_cluster[i]));
        assert_false(ask(f, TRANSLATE_GRPC_ROUTES, no_cluster[i]));
    }
    assert_true(ask(f, TRANSLATE_GRPC_CLUSTER, "refused|80||" FLASK));
    assert_false(ask(f, TRANSLATE_GRPC_ROUTES, "refused|80||" FLASK));
}

static void test_matches(void **state)
{
    struct fixture *f = *state;

    rule(f, "match: [{uri: {exact: /a/B}, headers: {x: {exact: y}}}], timeout: 3s, " TO_V1);
    assert_true(has(f, "\"path\":\"/a/B\",\"headers\":[{\"name\":\"x\",\"string_match\":{\"exact\":"
                       "\"y\"}}]}"));
    assert_true(has(f, "\"max_stream_duration\":{\"max_stream_duration\":\"3s\"}"));
    assert_true(has(f, "\"cluster\":\"outbound|80|v1|" FLASK "\""));
    /* What is known of calls is no condition, or the rule is none of theirs. */
    rule(f, "match: [{method: {exact: POST}, authority: {prefix: flaskapp.}}], " TO_V1);
    assert_true(has(f, "|v1|") && !has(f, "headers"));
    const char *const never[] = {"method: {exact: GET}", "scheme: {exact: https}",
                                 "authority: {regex: 'www.*'}", "queryParams: {a: {exact: b}}"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        char text[300];
        snprintf(text, sizeof text, "match: [{%s}], " TO_V1, never[i]);
        rule(f, text);
        assert_true(!has(f, "|v1|") && has(f, "\"name\":\"default\""));
    }
    /* Absent, or there with another value. */
    rule(f, "match: [{withoutHeaders: {a: {exact: b}, c: {}}}], " TO_V1);
    assert_int_equal(count(f, "|v1|"), 2);
    assert_int_equal(count(f, "{\"name\":\"a\",\"present_match\":true,\"invert_match\":true}"), 1);
    assert_false(has(f, "treat_missing"));
    rule(f, "match: [{withoutHeaders: {a: {exact: b}, b: {exact: b}, c: {exact: b}, d: {exact: b},"
            " e: {exact: b}}}], " TO_V1);
    assert_true(has(f, "\"cluster\":\"refused|80||" FLASK) && has(f, "match.withoutHeaders") &&
                !has(f, "|v1|"));
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *rule, *field;
    } fails[] = {
        {"rewrite: {uri: /x}, " TO_V1, "spec.http[0].rewrite"},
        {"redirect: {uri: /x}", "spec.http[0].redirect"},
        {"directResponse: {status: 418}", "spec.http[0].directResponse"},
        {"headers: {request: {set: {a: b}}}, " TO_V1, "spec.http[0].headers"},
        {"fault: {abort: {httpStatus: 418, percentage: {value: 1}}}, " TO_V1, "spec.http[0].fault"},
    };

    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        rule(f, fails[i].rule);
        if (!has(f, fails[i].field) || !has(f, "GrpcUnsupported") ||
            !has(f, "\"cluster\":\"refused|80||" FLASK) || has(f, "|v1|"))
            fail_msg("case %zu: %s", i, f->json.p);
    }
    rule(f, "mirror: {host: flaskapp}, retries: {attempts: 2, retryOn: unavailable}, " TO_V1);
    assert_true(has(f, "spec.http[0].mirror") && has(f, "|v1|") && !has(f, "request_mirror"));
    assert_true(has(f, "\"retry_policy\":{\"retry_on\":\"unavailable\",\"num_retries\":2}"));
}

static void test_clusters(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *policy, *json; /* NULL: the cluster has no endpoints */
    } cases[] = {
        {"{}", "EDS"},
        {"{loadBalancer: {simple: RANDOM}}", "ROUND_ROBIN"},
        {"{loadBalancer: {consistentHash: {httpHeaderName: x}}}", "RING_HASH"},
        {"{connectionPool: {http: {http2MaxRequests: 7}}}", "\"max_requests\":7"},
        {"{tls: {mode: DISABLE}}", "EDS"},
        {"{tls: {mode: ISTIO_MUTUAL}}", NULL},
        {"{tls: {mode: SIMPLE}}", NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[1000];
        snprintf(yaml, sizeof yaml,
                 "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                 "metadata: {name: d, namespace: books}\n"
                 "spec: {host: flaskapp, trafficPolicy: %s}\n",
                 cases[i].policy);
        only_services(f);
        write_file(f, "rule.yaml", yaml);
        rebuild(f);
        assert_true(ask(f, TRANSLATE_GRPC_CLUSTER, CLUSTER));
        assert_false(has(f, "transport_socket"));
        assert_int_equal(has(f, "\"service_name\":\"refused|80||" FLASK), !cases[i].json);
        if (!cases[i].json)
            assert_true(has(f, "trafficPolicy.tls"));
        else if (!has(f, cases[i].json))
            fail_msg("case %zu: %s", i, f->json.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_names),
        T(test_matches),
        T(test_refused),
        T(test_clusters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
