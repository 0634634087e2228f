/* matchers: the tables of headers and query parameters are what Envoy 1.40 answered. */
#include "route/route_test.h"

static struct header_match header(const char *yaml)
{
    struct header_match h;
    const void *m = from_yaml(&envoy_HeaderMatcher_pb, yaml);
    if (header_match_build(m, "h", &a, &h, &err) != 0)
        fail_msg("%s: %s", yaml, err.msg);
    return h;
}

/* Columns: no field, empty, "a", "a" and "b" in two fields, "AbC", "abc", "9", "-5", "+5", "10",
 * "5x". */
static const char *const values[] = {NULL, "",   "a",  "a\nx: b", "AbC", "abc",
                                     "9",  "-5", "+5", "10",      "5x"};
static const struct {
    const char *yaml, *want;
} header_cases[] = {
    {"{name: x, present_match: true}", "nyyyyyyyyyy"},
    {"{name: x, present_match: false}", "ynnnnnnnnnn"},
    {"{name: x, present_match: true, invert_match: true}", "ynnnnnnnnnn"},
    {"{name: x, present_match: false, invert_match: true}", "nyyyyyyyyyy"},
    {"{name: x, present_match: true, treat_missing_header_as_empty: true}", "yyyyyyyyyyy"},
    {"{name: x, present_match: false, treat_missing_header_as_empty: true}", "nnnnnnnnnnn"},
    {"{name: x, present_match: true, treat_missing_header_as_empty: true, invert_match: true}",
     "nnnnnnnnnnn"},
    {"{name: x}", "nyyyyyyyyyy"},
    {"{name: X, string_match: {exact: a}}", "nnyynnnnnnn"},
    {"{name: x, string_match: {exact: a}, invert_match: true}", "nynnyyyyyyy"},
    {"{name: x, string_match: {exact: a}, treat_missing_header_as_empty: true}", "nnyynnnnnnn"},
    {"{name: x, string_match: {exact: a}, treat_missing_header_as_empty: true, invert_match: "
     "true}",
     "yynnyyyyyyy"},
    {"{name: x, string_match: {exact: ''}}", "nynnnnnnnnn"},
    {"{name: x, exact_match: ''}", "nyyyyyyyyyy"},
    {"{name: x, exact_match: '', treat_missing_header_as_empty: true}", "yyyyyyyyyyy"},
    {"{name: x, exact_match: a}", "nnyynnnnnnn"},
    {"{name: x, string_match: {exact: aBc, ignore_case: true}}", "nnnnyynnnnn"},
    {"{name: x, string_match: {prefix: a}}", "nnyynynnnnn"},
    {"{name: x, string_match: {prefix: A, ignore_case: true}}", "nnyyyynnnnn"},
    {"{name: x, prefix_match: ab}", "nnnnnynnnnn"},
    {"{name: x, string_match: {suffix: c}}", "nnnnnynnnnn"},
    {"{name: x, string_match: {suffix: bC, ignore_case: true}}", "nnnnyynnnnn"},
    {"{name: x, suffix_match: bc}", "nnnnnynnnnn"},
    {"{name: x, string_match: {contains: b}}", "nnnyyynnnnn"},
    {"{name: x, string_match: {contains: B, ignore_case: true}}", "nnnyyynnnnn"},
    {"{name: x, contains_match: b}", "nnnyyynnnnn"},
    {"{name: x, string_match: {safe_regex: {regex: 'a.*c'}}}", "nnnnnynnnnn"},
    {"{name: x, safe_regex_match: {regex: '[a-z]+'}}", "nnyynynnnnn"},
    {"{name: x, range_match: {start: -5, end: 10}}", "nnnnnnyyynn"},
    {"{name: x, range_match: {start: -5, end: 10}, treat_missing_header_as_empty: true}",
     "nnnnnnyyynn"},
    {"{name: x, string_match: {exact: 'a,b'}}", "nnnnnnnnnnn"},
};

static void test_headers(void **state)
{
    for (size_t i = 0; i < sizeof(header_cases) / sizeof(header_cases[0]); i++) {
        struct header_match h = header(header_cases[i].yaml);
        char got[16] = "";
        for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
            char text[100];
            snprintf(text, sizeof(text), "GET h /%s%s", values[k] ? "\nx: " : "",
                     values[k] ? values[k] : "");
            const struct http_head *head = request(text);
            got[k] = header_match(&h, head, &a) ? 'y' : 'n';
            assert_int_equal(header_match_list(&h, &head->h, &a), got[k] == 'y');
        }
        if (strcmp(got, header_cases[i].want) != 0)
            fail_msg("%s: %s, want %s", header_cases[i].yaml, got, header_cases[i].want);
    }
}

static void test_pseudo_headers(void **state)
{
    const struct http_head *r = request("GET Host.com /p?q\nuser-agent: x");
    static const char *const yes[] = {
        "{name: ':method', string_match: {exact: GET}}",
        "{name: ':authority', string_match: {exact: Host.com}}",
        "{name: host, string_match: {exact: Host.com}}",
        "{name: ':path', string_match: {exact: '/p?q'}}",
        "{name: ':scheme', string_match: {exact: http}}",
        "{name: ':status', present_match: false}",
        "{name: User-Agent, string_match: {exact: x}}",
    };
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        struct header_match h = header(yes[i]);
        if (!header_match(&h, r, &a))
            fail_msg("%s", yes[i]);
    }
    struct http_head *resp = arena_new(&a, struct http_head);
    http_head_init(resp, &a);
    resp->status = 503;
    struct header_match h = header("{name: ':status', range_match: {start: 500, end: 600}}");
    assert_true(header_match(&h, resp, &a));
}

static void test_refused(void **state)
{
    static const struct {
        const char *yaml, *want;
    } cases[] = {
        {"{name: ''}", "h.name: '' is no header name"},
        {"{name: 'a b'}", "h.name: 'a b' is no header name"},
        {"{name: x, string_match: {}}", "h.string_match: one of exact"},
        {"{name: x, string_match: {prefix: ''}}", "h.string_match: must not be empty"},
        {"{name: x, prefix_match: ''}", "h: the text to match must not be empty"},
        {"{name: x, string_match: {safe_regex: {regex: '('}}}",
         "h.string_match.safe_regex.regex: '(' is no regular expression: missing )"},
        {"{name: x, string_match: {safe_regex: {}}}",
         "h.string_match.safe_regex.regex: must not be empty"},
        {"{name: x, safe_regex_match: {regex: '*'}}", "h.safe_regex_match.regex: '*' is no"},
        {"{name: x, string_match: {safe_regex: {regex: a}, ignore_case: true}}",
         "h.string_match.ignore_case: has no effect"},
        {"{name: x, string_match: {safe_regex: {google_re2: {max_program_size: 3}, regex: "
         "'a.*b'}}}",
         "larger than the maximum of 3"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct header_match h = {0};
        const void *m = from_yaml(&envoy_HeaderMatcher_pb, cases[i].yaml);
        assert_true(header_match_build(m, "h", &a, &h, &err) < 0);
        if (!strstr(err.msg, cases[i].want))
            fail_msg("%s: '%s' lacks '%s'", cases[i].yaml, err.msg, cases[i].want);
    }
}

static void test_query(void **state)
{
    static const char *const paths[] = {
        "/",       "/?a",       "/?a=",  "/?a=1",   "/?a=1&a=2", "/?a=2&a=1",
        "/?b&a=1", "/?a=x%20y", "/?A=1", "/?&&a=1", "/?a=1?a=1",
    };
    static const struct {
        const char *yaml, *want;
    } cases[] = {
        {"{name: a, string_match: {exact: '1'}}", "nnnyynynnyn"},
        {"{name: a, string_match: {exact: ''}}", "nyynnnnnnnn"},
        {"{name: a, present_match: true}", "nyyyyyyynyy"},
        {"{name: a, present_match: false}", "ynnnnnnnynn"},
        {"{name: a}", "nyyyyyyynyy"},
        {"{name: a, string_match: {exact: 'x y'}}", "nnnnnnnnnnn"},
        {"{name: a, string_match: {safe_regex: {regex: '[0-9]+'}}}", "nnnyyyynnyn"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct query_match q;
        const void *m = from_yaml(&envoy_QueryParameterMatcher_pb, cases[i].yaml);
        assert_int_equal(query_match_build(m, "q", &a, &q, &err), 0);
        char got[16] = "";
        for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++)
            got[k] = query_match(&q, sv_of(paths[k])) ? 'y' : 'n';
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: %s, want %s", cases[i].yaml, got, cases[i].want);
    }
    struct query_match q;
    assert_int_equal(
        query_match_build(from_yaml(&envoy_QueryParameterMatcher_pb, "{}"), "q", &a, &q, &err),
        E_INVALID);
}

static bool metadata(const char *yaml, const struct stream_info *si)
{
    const struct metadata_match *m = NULL;
    if (metadata_match_build(from_yaml(&envoy_MetadataMatcher_pb, yaml), "m", &a, &m, &err) != 0)
        fail_msg("%s: %s", yaml, err.msg);
    return metadata_match(m, si, &a);
}

static void test_metadata(void **state)
{
    struct stream_info si;
    stream_info_init(&si, &a);
    stream_info_meta_set(&si, SV("f"), SV("s"), SV("text"));
    stream_info_meta_set_number(&si, SV("f"), SV("n"), 2.5);
    stream_info_meta_set_bool(&si, SV("f"), SV("b"), true);
    stream_info_meta_set_json(&si, SV("f"), SV("j"),
                              SV("{\"k\":{\"l\":[\"x\",\"y\"],\"z\":null,\"n\":7}}"));
    assert_true(
        metadata("{filter: f, path: [{key: s}], value: {string_match: {prefix: te}}}", &si));
    assert_false(metadata("{filter: f, path: [{key: s}], value: {string_match: {exact: x}}}", &si));
    assert_true(metadata("{filter: f, path: [{key: s}], value: {string_match: {exact: x}}, "
                         "invert: true}",
                         &si));
    assert_true(
        metadata("{filter: f, path: [{key: n}], value: {double_match: {exact: 2.5}}}", &si));
    assert_true(metadata("{filter: f, path: [{key: n}], value: {double_match: {range: {start: 2, "
                         "end: 3}}}}",
                         &si));
    assert_false(metadata("{filter: f, path: [{key: n}], value: {double_match: {range: {start: 0, "
                          "end: 2.5}}}}",
                          &si));
    assert_true(metadata("{filter: f, path: [{key: b}], value: {bool_match: true}}", &si));
    assert_false(metadata("{filter: f, path: [{key: b}], value: {bool_match: false}}", &si));
    assert_true(metadata("{filter: f, path: [{key: b}], value: {present_match: true}}", &si));
    assert_true(metadata("{filter: f, path: [{key: q}], value: {present_match: false}}", &si));
    assert_true(metadata("{filter: f, path: [{key: j}, {key: k}, {key: l}], value: {list_match: "
                         "{one_of: {string_match: {exact: y}}}}}",
                         &si));
    assert_true(metadata("{filter: f, path: [{key: j}, {key: k}, {key: z}], value: {null_match: "
                         "{}}}",
                         &si));
    assert_true(metadata("{filter: f, path: [{key: j}, {key: k}, {key: n}], value: {or_match: "
                         "{value_matchers: [{bool_match: true}, {double_match: {exact: 7}}]}}}",
                         &si));
    assert_false(
        metadata("{filter: f, path: [{key: s}, {key: t}], value: {present_match: true}}", &si));
    assert_false(metadata("{filter: f, path: [{key: s}], value: {present_match: true}}", NULL));

    const struct metadata_match *m = NULL;
    assert_int_equal(metadata_match_build(from_yaml(&envoy_MetadataMatcher_pb, "{filter: f}"), "m",
                                          &a, &m, &err),
                     E_INVALID);
    assert_string_equal(err.msg, "m.path: must not be empty");
    assert_int_equal(
        metadata_match_build(from_yaml(&envoy_MetadataMatcher_pb,
                                       "{filter: f, path: [{key: a}], value: {or_match: "
                                       "{value_matchers: [{}, {}]}}}"),
                             "m", &a, &m, &err),
        E_INVALID);
    assert_string_equal(err.msg, "m.value.or_match.value_matchers[0]: says nothing to match");
}

static void test_numbers(void **state)
{
    struct fraction f;
    const void *p = from_yaml(&envoy_FractionalPercent_pb, "{numerator: 5, denominator: MILLION}");
    assert_int_equal(fraction_build(p, "x", &f, &err), 0);
    assert_true(fraction_hit(&f, 3000004));
    assert_false(fraction_hit(&f, 3000005));
    uint64_t ms;
    struct google_Duration d = {.seconds = 1, .nanos = 1};
    assert_int_equal(duration_ms(&d, "d", &ms, &err), 0);
    assert_int_equal(ms, 1001);
    d = (struct google_Duration){.seconds = -1};
    assert_int_equal(duration_ms(&d, "d", &ms, &err), E_INVALID);
    d = (struct google_Duration){.seconds = INT64_MAX};
    assert_int_equal(duration_ms(&d, "d", &ms, &err), E_INVALID);
}

static void test_texts(void **state)
{
    struct strbuf b;
    strbuf_init(&b, 1000);
    struct header_match h = header("{name: X, string_match: {prefix: \"A\", ignore_case: true}, "
                                   "invert_match: true}");
    header_match_text(&h, &b);
    assert_string_equal(b.p, "not: header \"x\" starts with \"a\" (any case)");
    strbuf_reset(&b);
    h = header("{name: x, range_match: {start: 1, end: 3}}");
    header_match_text(&h, &b);
    assert_string_equal(b.p, "header \"x\" is a number from 1 to below 3");
    strbuf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_headers),  TEST(test_pseudo_headers), TEST(test_refused), TEST(test_query),
        TEST(test_metadata), TEST(test_numbers),        TEST(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
