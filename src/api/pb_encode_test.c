#include <math.h>
#include <stdio.h>
#include "api/pb_test.h"
#include "api/istio.pb.h"

static void encodes(const struct pb_message *m, const void *msg, sv want)
{
    sv got = pb_encode_arena(m, msg, &a);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
}

static void numbers(void **state)
{
    const struct google_Int32Value minus = {.value = -1};
    const struct google_UInt64Value big = {.value = UINT64_MAX};
    const struct google_DoubleValue zero = {.value = -0.0}, one = {.value = 1.0};
    const struct google_FloatValue half = {.value = 0.5f};
    const struct google_BoolValue yes = {.value = true}, no = {.value = false};
    encodes(&google_Int32Value_pb, &minus,
            BYTES(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1));
    encodes(&google_UInt64Value_pb, &big,
            BYTES(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1));
    encodes(&google_DoubleValue_pb, &zero, BYTES(0x09, 0, 0, 0, 0, 0, 0, 0, 0x80));
    encodes(&google_DoubleValue_pb, &one, BYTES(0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f));
    encodes(&google_FloatValue_pb, &half, BYTES(0x0d, 0, 0, 0, 0x3f));
    encodes(&google_BoolValue_pb, &yes, BYTES(0x08, 1));
    encodes(&google_BoolValue_pb, &no, (sv){NULL, 0});
}

static void lists(void **state)
{
    uint32_t codes[] = {1, 300, 0};
    const struct envoy_RetryPolicy p = {.retriable_status_codes = {codes, 3}};
    encodes(&envoy_RetryPolicy_pb, &p, BYTES(0x3a, 4, 1, 0xac, 2, 0));
    sv names[] = {SV("a"), SV_INIT(""), SV("b")};
    const struct envoy_VirtualHost v = {.domains = {names, 3}};
    encodes(&envoy_VirtualHost_pb, &v, BYTES(0x12, 1, 'a', 0x12, 0, 0x12, 1, 'b'));
}

/* A set member of a oneof is written even when it is zero; a pointer may be NULL for "empty". */
static void presence(void **state)
{
    const struct envoy_RouteMatch prefix = {.which_path_specifier = envoy_RouteMatch_prefix_tag};
    encodes(&envoy_RouteMatch_pb, &prefix, BYTES(0x0a, 0));
    const struct envoy_RouteMatch connect = {.which_path_specifier =
                                                 envoy_RouteMatch_connect_matcher_tag};
    encodes(&envoy_RouteMatch_pb, &connect, BYTES(0x62, 0));
    const struct google_BoolValue no = {.value = false};
    const struct envoy_RouteMatch exact = {.case_sensitive = &no};
    encodes(&envoy_RouteMatch_pb, &exact, BYTES(0x22, 0));
}

/* Equal messages have equal bytes, whatever the order in which a map was filled. */
static void map_order(void **state)
{
    struct istio_Subset_LabelsEntry e[30];
    const struct istio_Subset_LabelsEntry *up[30], *down[30];
    char names[30][8];
    for (int i = 0; i < 30; i++) {
        snprintf(names[i], sizeof names[i], "k%d", i);
        e[i] = (struct istio_Subset_LabelsEntry){.key = sv_of(names[i]), .value = SV("v")};
        up[i] = down[29 - i] = &e[i];
    }
    const struct istio_Subset x = {.labels = {up, 30}}, y = {.labels = {down, 30}};
    sv bx = pb_encode_arena(&istio_Subset_pb, &x, &a);
    assert_true(sv_eq(bx, pb_encode_arena(&istio_Subset_pb, &y, &a)));
    assert_true(sv_starts(sv_from(bx, 4), SV("k0"))); /* then k1, k10, k11 ... */
    assert_ptr_equal(x.labels.v, up);
    assert_true(up[0] == &e[0] && down[0] == &e[29]); /* the message itself is left alone */
}

static void map_integers(void **state)
{
    struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry to[2] = {{SV("b"), 2},
                                                                         {SV("a"), 0}};
    const struct istio_LocalityLoadBalancerSetting_Distribute_ToEntry *v[2] = {&to[0], &to[1]};
    const struct istio_LocalityLoadBalancerSetting_Distribute d = {.to = {v, 2}};
    encodes(&istio_LocalityLoadBalancerSetting_Distribute_pb, &d,
            BYTES(0x12, 5, 0x0a, 1, 'a', 0x10, 0, 0x12, 5, 0x0a, 1, 'b', 0x10, 2));
}

/* Larger than the buffer on the stack. */
static void large(void **state)
{
    size_t n = 100000;
    char *text = malloc(n);
    memset(text, 'x', n);
    struct strbuf out, cut;
    strbuf_init(&out, 1 << 20);
    strbuf_init(&cut, 1000);
    struct envoy_Cluster *c = sample_cluster();
    c->alt_stat_name = sv_make(text, n);
    pb_encode(&envoy_Cluster_pb, c, &out);
    assert_true(out.n > n && !out.overflow);
    void *back;
    assert_int_equal(decode(&envoy_Cluster_pb, strbuf_sv(&out), NULL, &back), 0);
    assert_true(sv_eq(((struct envoy_Cluster *)back)->alt_stat_name, c->alt_stat_name));
    pb_encode(&envoy_Cluster_pb, c, &cut);
    assert_true(cut.overflow);
    strbuf_fini(&out);
    strbuf_fini(&cut);
    free(text);
}

static void any(void **state)
{
    void *out;
    const struct google_Any *packed = pb_any_pack(&envoy_Cluster_pb, sample_cluster(), &a);
    assert_true(sv_eq(packed->type_url, SV("type.googleapis.com/envoy.config.cluster.v3.Cluster")));
    assert_int_equal(pb_any_unpack(packed, &envoy_Cluster_pb, &a, NULL, &out, &err), 0);
    assert_true(sv_eq(((struct envoy_Cluster *)out)->name, SV("outbound|80||a.b.svc")));
    struct pb_opts o = {.path = "clusters[0].typed_config"};
    assert_int_equal(pb_any_unpack(packed, &envoy_Router_pb, &a, &o, &out, &err), E_INVALID);
    assert_string_equal(err.msg,
                        "clusters[0].typed_config: is a envoy.config.cluster.v3.Cluster, must be a "
                        "envoy.extensions.filters.http.router.v3.Router");
    assert_int_equal(pb_any_unpack(NULL, &envoy_Router_pb, &a, &o, &out, &err), E_INVALID);
    assert_string_equal(err.msg, "clusters[0].typed_config: missing, must be a "
                                 "envoy.extensions.filters.http.router.v3.Router");
    const struct google_Any broken = {.type_url = packed->type_url, .value = SV_INIT("\x30\x4d")};
    assert_int_equal(pb_any_unpack(&broken, &envoy_Cluster_pb, &a, &o, &out, &err), E_INVALID);
    assert_string_equal(err.msg, "clusters[0].typed_config.lb_policy: value 77 of enum "
                                 "envoy.config.cluster.v3.Cluster.LbPolicy (unknown to weft)");
    assert_true(sv_eq(pb_any_type(SV("Bare")), SV("Bare")));
    assert_true(sv_eq(pb_any_type(SV("a/b/")), SV("")));
}

static void registry(void **state)
{
    assert_ptr_equal(pb_find(SV("envoy.config.cluster.v3.Cluster")), &envoy_Cluster_pb);
    assert_ptr_equal(pb_find(SV("envoy.config.cluster.v3.Cluster.EdsClusterConfig")),
                     &envoy_Cluster_EdsClusterConfig_pb);
    assert_ptr_equal(pb_find(SV("google.protobuf.Any")), &google_Any_pb);
    assert_null(pb_find(SV("envoy.config.cluster.v3.Cluste")));
    assert_null(pb_find(SV("")));
    assert_null(pb_find(SV("zzz")));
    const struct pb_field *f = pb_field_by_name(&envoy_Cluster_pb, SV("connect_timeout"));
    assert_int_equal(f->number, 4);
    assert_ptr_equal(pb_field_by_name(&envoy_Cluster_pb, SV("connectTimeout")), f);
    assert_null(pb_field_by_name(&envoy_Cluster_pb, SV("connect_timeou")));
    assert_null(pb_field_by_name(&envoy_Cluster_pb, SV("connect_timeout2")));
    assert_null(pb_field_by_name(&envoy_Cluster_pb, SV("")));
    int32_t n = 0;
    assert_string_equal(pb_enum_name(&envoy_Cluster_LbPolicy_pb, 5), "MAGLEV");
    assert_string_equal(pb_enum_name(&envoy_Cluster_LbPolicy_pb, -12345), "-12345");
    assert_int_equal(pb_enum_number(&envoy_Cluster_LbPolicy_pb, SV("MAGLEV"), &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(pb_enum_number(&envoy_Cluster_LbPolicy_pb, SV("MAGLE"), &n), E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(numbers),      TEST(lists), TEST(presence), TEST(map_order),
        TEST(map_integers), TEST(large), TEST(any),      TEST(registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
