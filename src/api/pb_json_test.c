#include <math.h>
#include <stdio.h>
#include "api/istio.pb.h"
#include "api/pb_internal.h"
#include "api/pb_test.h"

static void *read_text(const struct pb_message *m, const char *text)
{
    void *out;
    err = (struct error){0};
    if (pb_from_text(m, sv_of(text), "f", &a, NULL, &out, &err) < 0)
        fail_msg("%s", err.msg);
    return out;
}

static void fails(const struct pb_message *m, const char *text, const char *want)
{
    void *out = &err;
    err = (struct error){0};
    if (pb_from_text(m, sv_of(text), "f", &a, NULL, &out, &err) == 0)
        fail_msg("accepted: %s", text);
    assert_string_equal(err.msg, want);
    assert_ptr_equal(out, &err);
}

static void prints(const struct pb_message *m, const void *msg, struct pb_json_opts o,
                   const char *want)
{
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    pb_to_json(m, msg, &o, &s);
    assert_string_equal(s.p, want);
    strbuf_fini(&s);
}

/* Text -> message -> JSON, which is read back to the same bytes. */
static void turns_into(const struct pb_message *m, const char *text, const char *want)
{
    const void *msg = read_text(m, text);
    prints(m, msg, (struct pb_json_opts){0}, want);
    const void *again = read_text(m, want);
    assert_true(sv_eq(pb_encode_arena(m, msg, &a), pb_encode_arena(m, again, &a)));
}

static void names_both_ways(void **state)
{
    const struct envoy_Cluster *c = read_text(&envoy_Cluster_pb, "name: x\n"
                                                                 "connectTimeout: 0.25s\n"
                                                                 "lb_policy: RING_HASH\n"
                                                                 "type: EDS\n");
    assert_int_equal(c->connect_timeout->nanos, 250000000);
    assert_int_equal(c->lb_policy, envoy_Cluster_RING_HASH);
    assert_int_equal(c->which_cluster_discovery_type, envoy_Cluster_type_tag);
    prints(&envoy_Cluster_pb, c, (struct pb_json_opts){.snake_case = true},
           "{\"name\":\"x\",\"type\":\"EDS\",\"connect_timeout\":\"0.250s\","
           "\"lb_policy\":\"RING_HASH\"}");
    prints(&envoy_Cluster_pb, c, (struct pb_json_opts){.pretty = true},
           "{\n \"name\": \"x\",\n \"type\": \"EDS\",\n \"connectTimeout\": \"0.250s\",\n"
           " \"lbPolicy\": \"RING_HASH\"\n}");
}

static void well_known(void **state)
{
    turns_into(&google_Duration_pb, "1.5s", "\"1.500s\"");
    turns_into(&google_Duration_pb, "-0.000001s", "\"-0.000001s\"");
    turns_into(&google_Duration_pb, "1h30m", "\"5400s\"");
    turns_into(&google_Duration_pb, "250ms", "\"0.250s\"");
    turns_into(&google_Timestamp_pb, "'2024-02-29T23:59:59.5+01:00'",
               "\"2024-02-29T22:59:59.500Z\"");
    turns_into(&google_Timestamp_pb, "'1969-12-31T23:59:59Z'", "\"1969-12-31T23:59:59Z\"");
    turns_into(&google_UInt32Value_pb, "7", "7");
    turns_into(&google_Int64Value_pb, "'-9223372036854775808'", "\"-9223372036854775808\"");
    turns_into(&google_BoolValue_pb, "false", "false");
    turns_into(&google_BytesValue_pb, "'-_-_'", "\"+/+/\"");
    turns_into(&google_DoubleValue_pb, "NaN", "\"NaN\"");
    turns_into(&google_DoubleValue_pb, "-Infinity", "\"-Infinity\"");
    turns_into(&google_DoubleValue_pb, "0.1", "0.1");
    turns_into(&google_FloatValue_pb, "0.1", "0.1");
    turns_into(&google_FieldMask_pb, "'a.fooBar,c'", "\"a.fooBar,c\"");
    turns_into(&google_Empty_pb, "{}", "{}");
    turns_into(&google_ListValue_pb, "[1, a, ~, {b: [true]}, '2']",
               "[1,\"a\",null,{\"b\":[true]},\"2\"]");
    turns_into(&google_Struct_pb, "{z: ~, a: {b: 1.5}}", "{\"a\":{\"b\":1.5},\"z\":null}");
}

static void any(void **state)
{
    turns_into(&envoy_HttpFilter_pb,
               "name: r\n"
               "typed_config:\n"
               "  \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n"
               "  suppress_envoy_headers: true\n",
               "{\"name\":\"r\",\"typedConfig\":{\"@type\":\"type.googleapis.com/"
               "envoy.extensions.filters.http.router.v3.Router\",\"suppressEnvoyHeaders\":true}}");
    turns_into(&google_Any_pb, "{\"@type\": x/google.protobuf.Duration, value: 1s}",
               "{\"@type\":\"x/google.protobuf.Duration\",\"value\":\"1s\"}");
    turns_into(&google_Any_pb,
               "{\"@type\": x/google.protobuf.Any, value: {\"@type\": "
               "x/google.protobuf.BoolValue, value: true}}",
               "{\"@type\":\"x/google.protobuf.Any\",\"value\":{\"@type\":"
               "\"x/google.protobuf.BoolValue\",\"value\":true}}");
    turns_into(&google_Any_pb, "{\"@type\": x/google.protobuf.Empty}",
               "{\"@type\":\"x/google.protobuf.Empty\"}");
    turns_into(&google_Any_pb, "{}", "{}");
    turns_into(&envoy_HttpFilter_pb,
               "{typed_config: {\"@type\": x/xds.type.v3.TypedStruct, type_url: "
               "x/envoy.extensions.filters.http.router.v3.Router, value: {suppress_envoy_headers: "
               "true}}}",
               "{\"typedConfig\":{\"@type\":\"x/envoy.extensions.filters.http.router.v3.Router\","
               "\"suppressEnvoyHeaders\":true}}");
    turns_into(&google_Any_pb,
               "{\"@type\": x/udpa.type.v1.TypedStruct, type_url: x/google.protobuf.Empty}",
               "{\"@type\":\"x/google.protobuf.Empty\"}");
    const struct google_Any unknown = {.type_url = SV_INIT("x/y"), .value = SV_INIT("hi")};
    prints(&google_Any_pb, &unknown, (struct pb_json_opts){0},
           "{\"@type\":\"x/y\",\"value\":\"aGk=\"}");
}

static void any_errors(void **state)
{
    fails(&envoy_HttpFilter_pb, "{typed_config: {x: 1}}", "f:1: typed_config: has no \"@type\"");
    fails(&envoy_HttpFilter_pb, "{typed_config: 7}",
          "f:1: typed_config: must be a mapping with \"@type\", is a scalar");
    fails(
        &envoy_HttpFilter_pb,
        "typed_config:\n  '@type': "
        "type.googleapis.com/envoy.extensions.filters.http.router.v3.Rooter\n",
        "f:2: typed_config: type \"envoy.extensions.filters.http.router.v3.Rooter\" is unknown to "
        "weft; did you mean envoy.extensions.filters.http.router.v3.Router?");
    fails(
        &envoy_HttpFilter_pb,
        "typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor}",
        "f:1: typed_config: type \"envoy.extensions.filters.http.compressor.v3.Compressor\" is an "
        "extension of Envoy that weft does not have");
    fails(&envoy_HttpFilter_pb, "typed_config: {'@type': type.googleapis.com/example.Mine}",
          "f:1: typed_config: type \"example.Mine\" is unknown to weft");
    fails(&envoy_HttpFilter_pb,
          "typed_config:\n  '@type': "
          "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n  dynamic: 1\n",
          "f:3: typed_config.dynamic: no such field in "
          "envoy.extensions.filters.http.router.v3.Router");
    fails(&google_Any_pb, "{\"@type\": x/google.protobuf.Duration, value: 1s, more: 2}",
          "f:1: a google.protobuf.Duration has only \"value\" beside \"@type\"");
    fails(&google_Any_pb,
          "{\"@type\": x/xds.type.v3.TypedStruct, type_url: "
          "x/envoy.extensions.filters.http.router.v3.Router, value: {dynamic: 1}}",
          "f:1: TypedStruct:1: dynamic: no such field in "
          "envoy.extensions.filters.http.router.v3.Router");
    fails(&google_Any_pb, "{\"@type\": x/xds.type.v3.TypedStruct}",
          "f:1: type_url: a TypedStruct needs one");
    fails(&google_Any_pb,
          "{\"@type\": x/xds.type.v3.TypedStruct, type_url: x/udpa.type.v1.TypedStruct}",
          "f:1: type_url: a TypedStruct in a TypedStruct");
    /* "@type" belongs to Anys only */
    fails(
        &envoy_HttpFilter_pb, "{\"@type\": x}",
        "f:1: @type: no such field in envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpFilter");
}

static void errors(void **state)
{
    const struct pb_message *b = &envoy_Bootstrap_pb;
    fails(b, "static_resources:\n  clusters:\n  - name: a\n  - name: b\n    lb_polcy: RANDOM\n",
          "f:5: static_resources.clusters[1].lb_polcy: no such field in "
          "envoy.config.cluster.v3.Cluster; did you mean lb_policy?");
    fails(b, "staticResources:\n  clusters:\n  - lbPolcy: RANDOM\n",
          "f:3: staticResources.clusters[0].lbPolcy: no such field in "
          "envoy.config.cluster.v3.Cluster; did you mean lbPolicy?");
    fails(b, "static_resources: {clusters: [{lb_policy: LEAST_REQEST}]}",
          "f:1: static_resources.clusters[0].lb_policy: \"LEAST_REQEST\" is no value of "
          "envoy.config.cluster.v3.Cluster.LbPolicy; did you mean LEAST_REQUEST?");
    fails(b, "static_resources: {clusters: [{lb_policy: 99}]}",
          "f:1: static_resources.clusters[0].lb_policy: \"99\" is no value of "
          "envoy.config.cluster.v3.Cluster.LbPolicy");
    fails(b, "static_resources: {clusters: {name: x}}",
          "f:1: static_resources.clusters: must be a list, is a mapping");
    fails(b, "static_resources: {clusters: [~]}",
          "f:1: static_resources.clusters[0]: null in a list");
    fails(b, "static_resources: x", "f:1: static_resources: must be a mapping, is a scalar");
    fails(b, "static_resources: [1]", "f:1: static_resources: must be a mapping, is a list");
    fails(b, "[]", "f:1: must be a mapping, is a list");
    fails(b, "completely_unlike_anything: 1",
          "f:1: completely_unlike_anything: no such field in envoy.config.bootstrap.v3.Bootstrap");
    fails(&envoy_Metadata_pb, "filter_metadata: {istio: [1]}",
          "f:1: filter_metadata[\"istio\"]: must be a mapping, is a list");
    fails(&envoy_Metadata_pb, "filter_metadata: {istio: ~}",
          "f:1: filter_metadata[\"istio\"]: null in a mapping");
    fails(&envoy_RouteMatch_pb, "prefix: /\npath: /x\n",
          "f:2: path: excludes prefix, which is set too (oneof path_specifier)");
    fails(&envoy_Cluster_pb, "lb_policy: RANDOM\nlbPolicy: RANDOM\n",
          "f:2: lbPolicy: is given twice, as lb_policy and as lbPolicy");
    fails(&envoy_Cluster_pb, "name: a\nname: b\n",
          "f:2: key \"name\" is given twice (first in line 1)");
    fails(&envoy_Cluster_pb, "name: [a]\n", "f:1: name: must be a string, is a list");
    fails(&envoy_Cluster_pb, "connect_timeout: 5\n",
          "f:1: connect_timeout: \"5\" is not a duration like \"1.5s\"");
    fails(&envoy_Cluster_pb, "connect_timeout: {seconds: 5}\n",
          "f:1: connect_timeout: must be a duration like \"1.5s\", is a mapping");
    fails(&envoy_Cluster_pb, "ignore_health_on_host_removal: \"true\"\n",
          "f:1: ignore_health_on_host_removal: must be true or false");
    fails(&google_BytesValue_pb, "'a'", "f:1: not valid base64");
    fails(&google_BytesValue_pb, "'abc=='", "f:1: not valid base64");
}

static void numbers(void **state)
{
    const struct pb_message *u32 = &google_UInt32Value_pb, *i64 = &google_Int64Value_pb;
    assert_int_equal(((struct google_UInt32Value *)read_text(u32, "1e3"))->value, 1000);
    assert_int_equal(((struct google_UInt32Value *)read_text(u32, "'12'"))->value, 12);
    assert_int_equal(((struct google_UInt32Value *)read_text(u32, "4294967295"))->value,
                     UINT32_MAX);
    assert_true(((struct google_Int64Value *)read_text(i64, "-9007199254740993"))->value ==
                -9007199254740993);
    fails(u32, "4294967296", "f:1: 4294967296 is out of range (uint32)");
    fails(u32, "-1", "f:1: -1 is out of range (uint32)");
    fails(u32, "1.5", "f:1: 1.5 is not an integer (uint32)");
    fails(u32, "1e400", "f:1: 1e400 is out of range (uint32)");
    fails(u32, "abc", "f:1: \"abc\" is not a number (uint32)");
    fails(u32, "010", "f:1: \"010\" is not a number (uint32)"); /* octal in YAML 1.1: ambiguous */
    fails(u32, "0x10", "f:1: \"0x10\" is not a number (uint32)");
    fails(u32, "''", "f:1: \"\" is not a number (uint32)");
    fails(i64, "9223372036854775808", "f:1: 9223372036854775808 is out of range (int64)");
    fails(&google_DoubleValue_pb, "1e999", "f:1: 1e999 is out of range (double)");
    fails(&google_FloatValue_pb, "1e39", "f:1: 1e39 is out of range (float)");
    fails(&google_DoubleValue_pb, "one", "f:1: \"one\" is not a number (double)");
}

static void null_is_absent(void **state)
{
    const struct envoy_Cluster *c = read_text(
        &envoy_Cluster_pb, "{name: ~, connect_timeout: null, type: ~, eds_cluster_config: ~}");
    assert_null(c->connect_timeout);
    assert_null(c->eds_cluster_config);
    assert_int_equal(c->which_cluster_discovery_type, 0);
}

static char reported[256];

static void on_unknown(void *arg, const char *path)
{
    strncpy(reported, path, sizeof reported - 1);
}

static void tolerant(void **state)
{
    void *out;
    struct pb_opts o = {.allow_unknown = true, .on_unknown = on_unknown, .path = "spec"};
    assert_int_equal(pb_from_text(&istio_VirtualService_pb,
                                  SV("http: [{retries: {attempts: 2, jitter: {x: [1]}}}]"), "f", &a,
                                  &o, &out, &err),
                     0);
    assert_string_equal(reported, "spec.http[0].retries.jitter");
    assert_int_equal(((struct istio_VirtualService *)out)->http.v[0]->retries->attempts, 2);
    o.allow_unknown = false;
    assert_int_equal(pb_from_text(&istio_VirtualService_pb, SV("http: [{rewrites: {}}]"), "f", &a,
                                  &o, &out, &err),
                     E_INVALID);
    assert_string_equal(err.msg, "f:1: spec.http[0].rewrites: no such field in "
                                 "istio.networking.v1alpha3.HTTPRoute; did you mean rewrite?");
}

/* As files for Envoy are spelled; strictly, each is an error (errors() above). */
static void lenient(void **state)
{
    static const char *const same[][2] = {
        {"{lb_policy: round_robin}", "{}"},
        {"{lb_policy: Ring_Hash}", "{\"lbPolicy\":\"RING_HASH\"}"},
        {"{lb_policy: \"1\"}", "{\"lbPolicy\":\"LEAST_REQUEST\"}"},
        {"{ignore_health_on_host_removal: \"true\"}", "{\"ignoreHealthOnHostRemoval\":true}"},
        {"{connect_timeout: {seconds: 5, nanos: 500000000}}", "{\"connectTimeout\":\"5.500s\"}"},
        {"{circuit_breakers: {thresholds: {priority: high}}}",
         "{\"circuitBreakers\":{\"thresholds\":[{\"priority\":\"HIGH\"}]}}"},
        {"{lb_subset_config: {subset_selectors: {keys: a}}}",
         "{\"lbSubsetConfig\":{\"subsetSelectors\":[{\"keys\":[\"a\"]}]}}"},
    };
    static const char *const wrong[][2] = {
        {"{lb_policy: round-robin}", "lb_policy: \"round-robin\" is no value of "
                                     "envoy.config.cluster.v3.Cluster.LbPolicy; did you mean "
                                     "ROUND_ROBIN?"},
        {"{ignore_health_on_host_removal: \"yes\"}",
         "ignore_health_on_host_removal: must be true or false"},
        {"{connect_timeout: {second: 5}}",
         "connect_timeout.second: no such field in google.protobuf.Duration; did you mean "
         "seconds?"},
        {"{dns_resolvers: x}", "dns_resolvers: must be a mapping, is a scalar"},
    };
    const struct pb_opts o = {.lenient = true};
    void *out;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        if (pb_from_text(&envoy_Cluster_pb, sv_of(same[i][0]), "f", &a, &o, &out, &err) < 0)
            fail_msg("%s: %s", same[i][0], err.msg);
        prints(&envoy_Cluster_pb, out, (struct pb_json_opts){0}, same[i][1]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (pb_from_text(&envoy_Cluster_pb, sv_of(wrong[i][0]), "f", &a, &o, &out, &err) == 0)
            fail_msg("accepted: %s", wrong[i][0]);
        assert_string_equal(err.msg + 5, wrong[i][1]);
    }
}

static void secrets(void **state)
{
    const void *s = read_text(&envoy_Secret_pb, "name: s\n"
                                                "tls_certificate:\n"
                                                "  certificate_chain: {inline_string: CERT}\n"
                                                "  private_key: {inline_bytes: S0VZ}\n"
                                                "  password: {filename: /x}\n");
    prints(&envoy_Secret_pb, s, (struct pb_json_opts){.redact_secrets = true},
           "{\"name\":\"s\",\"tlsCertificate\":{\"certificateChain\":{\"inlineString\":\"CERT\"},"
           "\"privateKey\":{\"inlineBytes\":\"[redacted]\"},"
           "\"password\":{\"filename\":\"[redacted]\"}}}");
    const struct google_Any *any = pb_any_pack(&envoy_Secret_pb, s, &a);
    const struct google_Any cut = {.type_url = any->type_url,
                                   .value = sv_first(any->value, any->value.n - 1)};
    prints(&google_Any_pb, &cut, (struct pb_json_opts){.redact_secrets = true},
           "{\"@type\":\"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\","
           "\"value\":\"[redacted]\"}");
}

static void defaults(void **state)
{
    const struct envoy_SimpleMetric m = {.name = SV_INIT("x")};
    prints(&envoy_SimpleMetric_pb, &m, (struct pb_json_opts){.defaults = true},
           "{\"type\":\"COUNTER\",\"value\":\"0\",\"name\":\"x\"}");
    const struct envoy_Clusters c = {{NULL, 0}};
    prints(&envoy_Clusters_pb, &c, (struct pb_json_opts){.defaults = true},
           "{\"clusterStatuses\":[]}");
    prints(&envoy_Clusters_pb, &c, (struct pb_json_opts){0}, "{}");
}

/* An Any in an Any in an Any: reading its JSON form again must not go as deep as it likes. */
static void nested_anys(void **state)
{
    struct google_Any any = {.type_url = SV_INIT("x/google.protobuf.Empty")};
    for (int i = 0; i < 200; i++) {
        sv bytes = pb_encode_arena(&google_Any_pb, &any, &a);
        any = (struct google_Any){.type_url = SV_INIT("x/google.protobuf.Any"), .value = bytes};
    }
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    pb_to_json(&google_Any_pb, &any, NULL, &s);
    unsigned levels = 0;
    for (const char *p = s.p; (p = strstr(p, "\"@type\"")); p++)
        levels++;
    assert_int_equal(levels, 33);
    strbuf_fini(&s);
}

static void text_forms(void **state)
{
    int64_t s;
    int32_t n;
    static const char *const bad_durations[] = {
        "", "s", "1", "-", "1.s", ".5s", "1.0000000001s", "1x", "--1s", "1s ", "400000000000s"};
    static const char *const bad_times[] = {
        "2024-02-30T00:00:00Z",     "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",     "2024-01-01T24:00:00Z", "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00",      "2024-01-01 00:00:00Z", "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00+1:00", "24-01-01T00:00:00Z"};
    for (size_t i = 0; i < sizeof bad_durations / sizeof *bad_durations; i++)
        assert_int_equal(pb_duration_parse(sv_of(bad_durations[i]), &s, &n), E_INVALID);
    for (size_t i = 0; i < sizeof bad_times / sizeof *bad_times; i++)
        assert_int_equal(pb_timestamp_parse(sv_of(bad_times[i]), &s, &n), E_INVALID);
    assert_int_equal(pb_duration_parse(SV("-1.5s"), &s, &n), 0);
    assert_true(s == -1 && n == -500000000);
    assert_int_equal(pb_timestamp_parse(SV("9999-12-31T23:59:59.999999999Z"), &s, &n), 0);
    assert_true(s == 253402300799 && n == 999999999);
}

/* The documents of the issue: users' YAML as it stands. */
static void istio_yaml(void **state)
{
    const struct istio_DestinationRule *d =
        read_text(&istio_DestinationRule_pb, "host: flaskapp.books.svc.cluster.local\n"
                                             "subsets:\n"
                                             "- name: subset-v1\n"
                                             "  labels: {version: v1}\n"
                                             "trafficPolicy:\n"
                                             "  outlierDetection: {baseEjectionTime: 3m}\n");
    assert_true(sv_eq(d->subsets.v[0]->labels.v[0]->value, SV("v1")));
    assert_int_equal(d->traffic_policy->outlier_detection->base_ejection_time->seconds, 180);
    const struct istio_VirtualService *v = read_text(
        &istio_VirtualService_pb,
        "hosts: [flaskapp.books.svc.cluster.local]\n"
        "http:\n"
        "- match: [{headers: {end-user: {exact: jason}}}]\n"
        "  route: [{destination: {host: flaskapp.books.svc.cluster.local, subset: subset-v2}}]\n");
    const struct istio_HTTPMatchRequest *m = v->http.v[0]->match.v[0];
    assert_true(sv_eq(m->headers.v[0]->key, SV("end-user")));
    assert_int_equal(m->headers.v[0]->value->which_match_type, istio_StringMatch_exact_tag);
    assert_true(sv_eq(m->headers.v[0]->value->exact, SV("jason")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_both_ways), TEST(well_known), TEST(any),
        TEST(any_errors),      TEST(errors),     TEST(numbers),
        TEST(null_is_absent),  TEST(tolerant),   TEST(lenient),
        TEST(secrets),         TEST(defaults),   TEST(nested_anys),
        TEST(text_forms),      TEST(istio_yaml),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
