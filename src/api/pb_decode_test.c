#include <stdio.h>
#include "api/pb_test.h"
#include "api/istio.pb.h"

static void fails(const struct pb_message *m, sv bytes, int code, const char *text)
{
    void *out = &err;
    err = (struct error){0};
    assert_int_equal(decode(m, bytes, NULL, &out), code);
    assert_string_equal(err.msg, text);
    assert_int_equal(err.code, code);
    assert_ptr_equal(out, &err); /* untouched on failure */
}

static void round_trip(void **state)
{
    void *out;
    sv first = pb_encode_arena(&envoy_Cluster_pb, sample_cluster(), &a);
    assert_int_equal(pb_decode(&envoy_Cluster_pb, first, &a, NULL, &out, &err), 0);
    const struct envoy_Cluster *c = out;
    assert_true(sv_eq_c(c->name, "outbound|80||a.b.svc"));
    assert_true(c->name.p > first.p && c->name.p < first.p + first.n); /* a view */
    assert_int_equal(c->which_cluster_discovery_type, envoy_Cluster_type_tag);
    assert_int_equal(c->type, envoy_Cluster_STATIC);
    assert_int_equal(c->connect_timeout->nanos, 500000000);
    assert_int_equal(c->per_connection_buffer_limit_bytes->value, 32768);
    assert_null(c->transport_socket);
    const struct envoy_LocalityLbEndpoints *l = c->load_assignment->endpoints.v[0];
    assert_int_equal(l->lb_endpoints.n, 2);
    assert_int_equal(l->lb_endpoints.v[0]->endpoint->address->socket_address->port_value, 8080);
    assert_int_equal(l->lb_endpoints.v[1]->which_host_identifier,
                     envoy_LbEndpoint_endpoint_name_tag);
    assert_int_equal(l->lb_endpoints.v[1]->health_status, envoy_HealthStatus_DRAINING);
    assert_int_equal(c->typed_extension_protocol_options.n, 3);
    assert_true(sv_eq_c(c->typed_extension_protocol_options.v[0]->key, "a")); /* sorted */
    assert_true(sv_eq_c(c->typed_extension_protocol_options.v[1]->key, "aa"));
    assert_true(sv_eq(first, pb_encode_arena(&envoy_Cluster_pb, c, &a)));
}

/* Every prefix either decodes (a cut between fields) or says that it is cut; nothing else. */
static void every_prefix(void **state)
{
    sv whole = pb_encode_arena(&envoy_Cluster_pb, sample_cluster(), &a);
    size_t good = 0;
    for (size_t n = 0; n < whole.n; n++) {
        void *out;
        err = (struct error){0};
        int rc = decode(&envoy_Cluster_pb, sv_first(whole, n), NULL, &out);
        if (rc == 0)
            good++;
        else
            assert_non_null(strstr(err.msg, "truncated or malformed bytes"));
    }
    assert_int_equal(good, 9); /* one before each of the 9 fields of the outermost message */
}

/* Each byte replaced by some other ones: an error or a message, never a crash. */
static void every_byte_flipped(void **state)
{
    static const uint8_t other[] = {0x00, 0x01, 0x07, 0x0b, 0x7f, 0x80, 0xff};
    sv whole = pb_encode_arena(&envoy_Cluster_pb, sample_cluster(), &a);
    struct pb_opts tolerant = {.allow_unknown = true};
    for (size_t i = 0; i < whole.n; i++) {
        for (size_t k = 0; k < sizeof other; k++) {
            void *out;
            sv bytes = arena_sv(&a, whole);
            ((char *)bytes.p)[i] = (char)other[k];
            if (decode(&envoy_Cluster_pb, bytes, NULL, &out) == 0)
                (void)pb_encode_arena(&envoy_Cluster_pb, out, &a);
            (void)!decode(&envoy_Cluster_pb, bytes, &tolerant, &out);
        }
    }
}

static void unknown_fields(void **state)
{
    fails(&envoy_Cluster_pb, BYTES(0xf8, 0x3f, 1), E_INVALID,
          "field number 1023 of envoy.config.cluster.v3.Cluster (unknown to weft)");
    /* Bootstrap.static_resources(2).clusters(2)[1] has field 63 */
    fails(&envoy_Bootstrap_pb, BYTES(0x12, 7, 0x12, 0, 0x12, 3, 0xf8, 3, 1), E_INVALID,
          "static_resources.clusters[1]: field number 63 of envoy.config.cluster.v3.Cluster "
          "(unknown to weft)");
    /* a map entry's value */
    fails(&envoy_Metadata_pb, BYTES(0x0a, 7, 0x0a, 1, 'k', 0x12, 2, 0x78, 1), E_INVALID,
          "filter_metadata[0].value: field number 15 of google.protobuf.Struct (unknown to weft)");
    fails(&envoy_Cluster_pb, BYTES(0x30, 77), E_INVALID,
          "lb_policy: value 77 of enum envoy.config.cluster.v3.Cluster.LbPolicy (unknown to weft)");
}

static char reported[4][256];
static unsigned n_reported;

static void on_unknown(void *arg, const char *path)
{
    assert_ptr_equal(arg, &n_reported);
    strncpy(reported[n_reported++ % 4], path, 255);
}

static void unknown_fields_tolerated(void **state)
{
    void *out;
    struct pb_opts o = {.allow_unknown = true,
                        .on_unknown = on_unknown,
                        .arg = &n_reported,
                        .path = "resources[3]"};
    n_reported = 0;
    sv bytes = BYTES(0x12, 7, 0x12, 0, 0x12, 3, 0xf8, 3, 1,               /* varint */
                     0xfd, 0x3f, 1, 2, 3, 4, 0x12, 4, 0x12, 2, 0x30, 77); /* fixed32; enum */
    assert_int_equal(decode(&envoy_Bootstrap_pb, bytes, &o, &out), 0);
    const struct envoy_Bootstrap *b = out;
    assert_int_equal(b->static_resources->clusters.n, 3);
    assert_int_equal(b->static_resources->clusters.v[2]->lb_policy, 77);
    assert_int_equal(n_reported, 3);
    assert_string_equal(reported[0], "resources[3].static_resources.clusters[1].field number 63 of "
                                     "envoy.config.cluster.v3.Cluster");
    assert_string_equal(reported[1], "resources[3].field number 1023 of "
                                     "envoy.config.bootstrap.v3.Bootstrap");
    assert_string_equal(reported[2],
                        "resources[3].static_resources.clusters[2].lb_policy: value 77 of enum "
                        "envoy.config.cluster.v3.Cluster.LbPolicy");
}

static void malformed(void **state)
{
    const struct pb_message *c = &envoy_Cluster_pb;
    const char *cut = "truncated or malformed bytes";
    fails(c, BYTES(0x80), E_INVALID, cut); /* tag without end */
    fails(c, BYTES(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1), E_INVALID, cut);
    fails(c, BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2), E_INVALID, cut);
    fails(c, BYTES(0xf8, 0xff, 0xff, 0xff, 0x1f, 1), E_INVALID, cut); /* tag over 32 bits */
    fails(c, BYTES(0x00), E_INVALID,
          "field number 0 with wire type 0 in envoy.config.cluster.v3.Cluster");
    fails(c, BYTES(0x0b), E_INVALID, /* group */
          "field number 1 with wire type 3 in envoy.config.cluster.v3.Cluster");
    fails(c, BYTES(0x0c), E_INVALID,
          "field number 1 with wire type 4 in envoy.config.cluster.v3.Cluster");
    fails(c, BYTES(0x0e), E_INVALID,
          "field number 1 with wire type 6 in envoy.config.cluster.v3.Cluster");
    fails(c, BYTES(0x08, 1), E_INVALID, "name: wire type 0 where string needs 2");
    fails(c, BYTES(0x32, 0), E_INVALID, "lb_policy: wire type 2 where enum needs 0");
    fails(c, BYTES(0x35, 0, 0, 0, 0), E_INVALID, "lb_policy: wire type 5 where enum needs 0");
    fails(c, BYTES(0x22, 2, 0x0d, 0), E_INVALID,
          "connect_timeout.seconds: wire type 5 where int64 needs 0");
    fails(c, BYTES(0x30), E_INVALID, "lb_policy: truncated or malformed bytes");
    fails(c, BYTES(0x0a, 5, 'a'), E_INVALID, "name: truncated or malformed bytes");
    fails(c, BYTES(0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), E_INVALID,
          "name: truncated or malformed bytes");
    fails(c, BYTES(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f), E_INVALID,
          "name: truncated or malformed bytes");
    fails(c, BYTES(0x0a, 1, 0xff), E_INVALID, "name: not valid UTF-8");
    fails(&google_DoubleValue_pb, BYTES(0x09, 1, 2, 3), E_INVALID,
          "value: truncated or malformed bytes");
    fails(&envoy_RetryPolicy_pb, BYTES(0x3a, 2, 0x80, 0x80), E_INVALID,
          "retriable_status_codes: malformed uint32 in a packed list");
    fails(&envoy_RetryPolicy_pb, BYTES(0x3a, 3, 1, 2, 0x80), E_INVALID,
          "retriable_status_codes: malformed uint32 in a packed list");
}

static void utf8(void **state)
{
    static const struct {
        const char *s;
        bool ok;
    } cases[] = {{"plain ascii longer than eight", true},
                 {"h\xc3\xa9llo", true},
                 {"\xe6\x97\xa5\xe6\x9c\xac", true},
                 {"\xf0\x9f\x98\x80", true},
                 {"\xef\xbf\xbf", true},
                 {"\xf4\x8f\xbf\xbf", true},
                 {"12345678\x80", false},
                 {"\xc0\x80", false},     /* over-long NUL */
                 {"\xc1\xbf", false},     /* over-long */
                 {"\xe0\x9f\xbf", false}, /* over-long */
                 {"\xf0\x8f\xbf\xbf", false},
                 {"\xed\xa0\x80", false},     /* surrogate */
                 {"\xf4\x90\x80\x80", false}, /* above U+10FFFF */
                 {"\xf5\x80\x80\x80", false},
                 {"\xe6\x97", false}, /* cut */
                 {"\xc3", false},
                 {"\xc3(", false},
                 {"\xf0\x9f\x98(", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void *out;
        struct google_StringValue v = {.value = sv_of(cases[i].s)};
        sv bytes = pb_encode_arena(&google_StringValue_pb, &v, &a);
        int rc = decode(&google_StringValue_pb, bytes, NULL, &out);
        assert_int_equal(rc, cases[i].ok ? 0 : E_INVALID);
    }
}

static sv nested_predicates(int levels)
{
    struct strbuf s;
    sv inner = SV("\x20\x01"); /* any_match */
    strbuf_init(&s, 1 << 20);
    for (int i = 1; i < levels; i++) {
        const struct google_Any raw = {.type_url = inner}; /* field 1, length-delimited */
        strbuf_reset(&s);
        pb_encode(&google_Any_pb, &raw, &s);
        inner = arena_sv(&a, strbuf_sv(&s));
        ((char *)inner.p)[0] = 0x1a; /* not_match, field 3 */
    }
    strbuf_fini(&s);
    return inner;
}

static void deep(void **state)
{
    void *out;
    const struct pb_message *m = &envoy_ListenerFilterChainMatchPredicate_pb;
    assert_int_equal(decode(m, nested_predicates(100), NULL, &out), 0);
    assert_int_equal(decode(m, nested_predicates(101), NULL, &out), E_LIMIT);
    assert_non_null(strstr(err.msg, "not_match.not_match: nested deeper than 100"));
    assert_int_equal(decode(m, nested_predicates(5000), NULL, &out), E_LIMIT);
}

/* Two bytes an element, hundreds in memory: stopped long before memory is. */
static void expansion(void **state)
{
    void *out;
    size_t n = (size_t)4 << 20;
    char *p = malloc(n);
    for (size_t i = 0; i < n; i += 2) {
        p[i] = 0x12; /* Bootstrap.StaticResources.clusters */
        p[i + 1] = 0;
    }
    assert_int_equal(
        pb_decode(&envoy_Bootstrap_StaticResources_pb, sv_make(p, n), &a, NULL, &out, &err),
        E_LIMIT);
    assert_non_null(strstr(err.msg, "needs far more memory than its packed size accounts for"));
    free(p);
    assert_true(a.used < n * 130);
}

/* Interleaved lists cannot be sized in one look ahead; they grow and stay in order. */
static void interleaved_lists(void **state)
{
    void *out;
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        char name[2][8];
        snprintf(name[0], 8, "d%03d", i);
        snprintf(name[1], 8, "h%03d", i);
        strbuf_add(&s, "\x12\x04", 2); /* domains = 2 */
        strbuf_add(&s, name[0], 4);
        strbuf_add(&s, "\x5a\x04", 2); /* response_headers_to_remove = 11 */
        strbuf_add(&s, name[1], 4);
    }
    assert_int_equal(decode(&envoy_VirtualHost_pb, strbuf_sv(&s), NULL, &out), 0);
    const struct envoy_VirtualHost *v = out;
    assert_int_equal(v->domains.n, 1000);
    assert_int_equal(v->response_headers_to_remove.n, 1000);
    assert_true(sv_eq(v->domains.v[999], SV("d999")));
    assert_true(sv_eq(v->response_headers_to_remove.v[500], SV("h500")));
    strbuf_fini(&s);
}

static void numbers_packed_and_not(void **state)
{
    void *out;
    assert_int_equal(decode(&envoy_RetryPolicy_pb,
                            BYTES(0x38, 1, 0x3a, 3, 2, 0xac, 2, 0x38, 4, 0x3a, 0), NULL, &out),
                     0);
    const struct envoy_RetryPolicy *p = out;
    assert_int_equal(p->retriable_status_codes.n, 4);
    assert_int_equal(p->retriable_status_codes.v[2], 300);
    assert_int_equal(p->retriable_status_codes.v[3], 4);
}

/* Ten bytes for a negative int32, five for a truncated one, and their unsigned likes. */
static void number_forms(void **state)
{
    void *out;
    assert_int_equal(decode(&google_Int32Value_pb,
                            BYTES(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
                            NULL, &out),
                     0);
    assert_int_equal(((struct google_Int32Value *)out)->value, -1);
    assert_int_equal(
        decode(&google_Int32Value_pb, BYTES(0x08, 0xff, 0xff, 0xff, 0xff, 0x0f), NULL, &out), 0);
    assert_int_equal(((struct google_Int32Value *)out)->value, -1);
    assert_int_equal(decode(&google_BoolValue_pb, BYTES(0x08, 0x80, 0x80, 1), NULL, &out), 0);
    assert_true(((struct google_BoolValue *)out)->value);
    assert_int_equal(decode(&google_UInt64Value_pb,
                            BYTES(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
                            NULL, &out),
                     0);
    assert_true(((struct google_UInt64Value *)out)->value == UINT64_MAX);
}

static void oneof_last_wins(void **state)
{
    void *out;
    /* RouteMatch: prefix "/a", then safe_regex, then path "/b" */
    assert_int_equal(decode(&envoy_RouteMatch_pb,
                            BYTES(0x0a, 2, '/', 'a', 0x52, 0, 0x12, 2, '/', 'b'), NULL, &out),
                     0);
    const struct envoy_RouteMatch *m = out;
    assert_int_equal(m->which_path_specifier, envoy_RouteMatch_path_tag);
    assert_int_equal(m->prefix.n, 0);
    assert_null(m->safe_regex);
    assert_true(sv_eq(m->path, SV("/b")));
}

/* A message field that comes twice is merged, as the format says. */
static void split_message(void **state)
{
    void *out;
    assert_int_equal(
        decode(&envoy_Cluster_pb, BYTES(0x22, 2, 0x08, 5, 0x22, 2, 0x10, 7), NULL, &out), 0);
    const struct envoy_Cluster *c = out;
    assert_int_equal(c->connect_timeout->seconds, 5);
    assert_int_equal(c->connect_timeout->nanos, 7);
}

static void maps(void **state)
{
    void *out;
    /* a key without a value has the empty message; an entry without a key has the empty key */
    assert_int_equal(decode(&envoy_Metadata_pb, BYTES(0x0a, 3, 0x0a, 1, 'k', 0x0a, 0), NULL, &out),
                     0);
    const struct envoy_Metadata *m = out;
    assert_int_equal(m->filter_metadata.n, 2);
    assert_non_null(m->filter_metadata.v[0]->value);
    assert_int_equal(m->filter_metadata.v[1]->key.n, 0);
    assert_non_null(m->filter_metadata.v[1]->value);
    fails(&istio_Subset_pb, BYTES(0x12, 3, 0x0a, 1, 'k', 0x12, 3, 0x0a, 1, 'k'), E_INVALID,
          "labels: the same map key twice");
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    for (int i = 0; i < 40; i++)
        strbuf_addf(&s, "\x12\x04\n\x02%02d", i == 39 ? 7 : i);
    fails(&istio_Subset_pb, strbuf_sv(&s), E_INVALID, "labels: the same map key twice");
    strbuf_cut(&s, s.n - 6);
    assert_int_equal(decode(&istio_Subset_pb, strbuf_sv(&s), NULL, &out), 0);
    assert_int_equal(((struct istio_Subset *)out)->labels.n, 39);
    strbuf_fini(&s);
}

static void empty(void **state)
{
    void *out;
    assert_int_equal(pb_decode(&envoy_Cluster_pb, (sv){NULL, 0}, &a, NULL, &out, &err), 0);
    assert_int_equal(pb_encode_arena(&envoy_Cluster_pb, out, &a).n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(every_prefix),
        TEST(every_byte_flipped),
        TEST(unknown_fields),
        TEST(unknown_fields_tolerated),
        TEST(malformed),
        TEST(utf8),
        TEST(deep),
        TEST(expansion),
        TEST(interleaved_lists),
        TEST(numbers_packed_and_not),
        TEST(number_forms),
        TEST(oneof_last_wins),
        TEST(split_message),
        TEST(maps),
        TEST(empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
