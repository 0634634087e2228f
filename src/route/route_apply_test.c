/* What a match does to requests and responses. Rewrites, redirects and the order of header
 * operations are what Envoy 1.40 did. */
#include "route/route_test.h"

static struct stream_info si;

static const char *forwarded(const struct route_table *t, const char *req)
{
    struct http_head *h = request(req);
    struct route_match m;
    struct route_ctx c = {0};
    route_table_match(t, h, &c, &a, &m);
    stream_info_init(&si, &a);
    si.req = h;
    route_match_request(&m, h, &si, true, &a);
    return dump(h);
}

static void test_rewrites(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: rw, domains: ['*'], routes: [\n"
        "{match: {prefix: /p/}, route: {cluster: c, prefix_rewrite: /new/}},\n"
        "{match: {prefix: /PIC, case_sensitive: false}, route: {cluster: c, prefix_rewrite: "
        "/new}},\n"
        "{match: {path: /exact}, route: {cluster: c, prefix_rewrite: /new}},\n"
        "{match: {safe_regex: {regex: '/rgx/.*'}}, route: {cluster: c, prefix_rewrite: /new}},\n"
        "{match: {path_separated_prefix: /sep}, route: {cluster: c, prefix_rewrite: /new}},\n"
        "{match: {prefix: /rr/}, route: {cluster: c, regex_rewrite: {pattern: {regex: "
        "'^/([^/]+)/(.*)$'}, substitution: '/\\2/\\1'}}},\n"
        "{match: {prefix: /gone}, route: {cluster: c, regex_rewrite: {pattern: {regex: '^.*$'}, "
        "substitution: 'x'}}},\n"
        "{match: {prefix: /hl}, route: {cluster: c, host_rewrite_literal: lit.com, "
        "append_x_forwarded_host: true}},\n"
        "{match: {prefix: /hh}, route: {cluster: c, host_rewrite_header: X-H}},\n"
        "{match: {prefix: /hr/}, route: {cluster: c, host_rewrite_path_regex: {pattern: {regex: "
        "'^/hr/([^/]+)/.*$'}, substitution: '\\1.x'}, append_x_forwarded_host: true}},\n"
        "{match: {prefix: /}, route: {cluster: c}}]}]}");
    static const char *const cases[][2] = {
        {"GET rw.com:81 /p/a?q=/p/", "rw.com:81 /new/a?q=/p/\nx-envoy-original-path: /p/a?q=/p/\n"},
        {"GET h /PICa", "h /newa\nx-envoy-original-path: /PICa\n"},
        {"GET h /pic?x", "h /new?x\nx-envoy-original-path: /pic?x\n"},
        {"GET h /exact?q", "h /new?q\nx-envoy-original-path: /exact?q\n"},
        {"GET h /rgx/a?q", "h /new?q\nx-envoy-original-path: /rgx/a?q\n"},
        {"GET h /sep", "h /new\nx-envoy-original-path: /sep\n"},
        {"GET h /sep/x?y", "h /new/x?y\nx-envoy-original-path: /sep/x?y\n"},
        {"GET h /rr/a/b?c=/rr/a", "h /a/b/rr?c=/rr/a\nx-envoy-original-path: /rr/a/b?c=/rr/a\n"},
        {"GET h /gone?q", "h /x?q\nx-envoy-original-path: /gone?q\n"},
        {"GET rw.com:81 /hl",
         "lit.com /hl\nx-envoy-original-host: rw.com:81\nx-forwarded-host: rw.com:81\n"},
        {"GET rw.com /hl\nx-forwarded-host: prev",
         "lit.com /hl\nx-forwarded-host: prev,rw.com\nx-envoy-original-host: rw.com\n"},
        {"GET rw.com /hh\nx-h: hdr.host\nx-h: second",
         "hdr.host /hh\nx-h: hdr.host\nx-h: second\nx-envoy-original-host: rw.com\n"},
        {"GET rw.com /hh", "rw.com /hh\n"},
        {"GET rw.com /hr/abc/d?/hr/z/",
         "abc.x /hr/abc/d?/hr/z/\nx-envoy-original-host: rw.com\nx-forwarded-host: rw.com\n"},
        {"GET rw.com /hr/", "rw.com /hr/\n"}, /* no match: not "/hr/" as a host */
        {"GET rw.com /none", "rw.com /none\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(forwarded(t, cases[i][0]), cases[i][1]);
    struct http_head *h = request("GET h /p/a");
    struct route_match m = match(t, "GET h /p/a");
    route_match_request(&m, h, &si, false, &a); /* suppress_envoy_headers */
    assert_string_equal(dump(h), "h /new/a\n");
    route_table_unref(t);
}

#define OP(k, v, act) "{header: {key: " k ", value: '" v "'}, append_action: " act "}"
#define LEVEL(v)                                                                                   \
    "request_headers_to_add: [" OP(                                                                \
        "x-o", v,                                                                                  \
        "OVERWRITE_IF_EXISTS_OR_ADD") ", "                                                         \
                                      "{header: {key: x-a, value: " v                              \
                                      "}}], response_headers_to_add: [" OP(                        \
                                          "x-o", v,                                                \
                                          "OVERWRITE_IF_EXISTS_OR_ADD") ", {header: {key: X-A, "   \
                                                                        "value: " v "}}]"

static const char *levels(bool specific)
{
    return arena_printf(&a,
                        "{name: r, most_specific_header_mutations_wins: %s, " LEVEL(
                            "rc") ", virtual_hosts: "
                                  "[{name: v, domains: ['*'], " LEVEL(
                                      "vhost") ", routes: [{match: {prefix: "
                                               "/}, " LEVEL("route") ", "
                                                                     "request_"
                                                                     "headers_to_"
                                                                     "remove: "
                                                                     "[X-Rm], route: "
                                                                     "{weighted_"
                                                                     "clusters: "
                                                                     "{clusters: "
                                                                     "[{name: c, "
                                                                     "weight: 1, "
                                                                     "host_rewrite_"
                                                                     "literal: "
                                                                     "wc.host,"
                                                                     " " LEVEL("wc") "}]}}}"
                                                                                     "]}]}",
                        specific ? "true" : "false")
        .p;
}

static void test_levels(void **state)
{
    struct route_table *t = table(levels(false));
    assert_string_equal(forwarded(t, "GET h /\nx-o: cl\nx-a: cl\nx-rm: 1"),
                        "wc.host /\nx-o: rc\nx-a: cl\nx-a: wc\nx-a: route\nx-a: vhost\nx-a: rc\n");
    struct route_match m = match(t, "GET h /");
    struct http_head *resp = request("- - -");
    route_match_response(&m, resp, &si, &a);
    assert_string_equal(dump(resp), "- -\nx-o: rc\nx-a: wc\nx-a: route\nx-a: vhost\nx-a: rc\n");
    route_table_unref(t);
    t = table(levels(true));
    assert_string_equal(
        forwarded(t, "GET h /\nx-o: cl\nx-a: cl"),
        "wc.host /\nx-o: route\nx-a: cl\nx-a: wc\nx-a: rc\nx-a: vhost\nx-a: route\n");
    route_table_unref(t);
}

static void test_operations(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: "
        "{cluster: c}, request_headers_to_add: [{header: {key: x-1, value: v}}, {header: {key: "
        "x-1, value: w}}, " OP("x-2", "v", "ADD_IF_ABSENT") ", " OP(
            "x-3", "v",
            "OVERWRITE_IF_EXISTS") ", " OP("x-4", "v",
                                           "OVERWRITE_IF_EXISTS_OR_ADD") ", {header: {key: x-5, "
                                                                         "value: '%REQ(nope)%'}}, "
                                                                         "{header: {key: x-6, "
                                                                         "value: '%REQ(nope)%'}, "
                                                                         "keep_empty_value: true}, "
                                                                         "{header: {key: x-7, "
                                                                         "value: "
                                                                         "'%REQ(x-in)%/"
                                                                         "%REQ(:path)%/"
                                                                         "%PROTOCOL%'}}, {header: "
                                                                         "{key: x-8, value: ''}}, "
                                                                         "{header: {key: "
                                                                         "x-9, value: v}, append: "
                                                                         "false}, " OP(
                                                                             "x-1", "z",
                                                                             "OVERWRITE_IF_EXISTS_"
                                                                             "OR_ADD") "]}]}]}");
    assert_string_equal(forwarded(t, "GET h /a\nx-in: inval"),
                        "h /a\nx-in: inval\nx-4: v\nx-9: v\nx-1: z\nx-1: v\nx-1: w\nx-2: v\nx-6: \n"
                        "x-7: inval//a/HTTP/1.1\n");
    assert_string_equal(
        forwarded(t, "GET h /a\nx-1: c\nx-2: c\nx-3: c\nx-3: d\nx-4: c\nx-5: c\nx-6: c\nx-9: c"),
        "h /a\nx-1: z\nx-2: c\nx-3: v\nx-4: v\nx-5: c\nx-6: c\nx-9: v\nx-1: v\nx-1: w\nx-6: \n"
        "x-7: //a/HTTP/1.1\n");
    route_table_unref(t);
}

static const char *location(const struct route_table *t, const char *req, unsigned *status)
{
    struct route_match m = match(t, req);
    assert_int_equal(m.action, ROUTE_REDIRECT);
    if (status)
        *status = m.route->status;
    return arena_cstr(&a, route_match_redirect(&m, request(req), &a));
}

static void test_redirects(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: red, domains: ['*'], routes: [\n"
        "{match: {path: /https}, redirect: {https_redirect: true}},\n"
        "{match: {path: /scheme}, redirect: {scheme_redirect: ftp}},\n"
        "{match: {path: /host}, redirect: {host_redirect: h.com}},\n"
        "{match: {path: /port}, redirect: {port_redirect: 8443}},\n"
        "{match: {path: /httpsport}, redirect: {https_redirect: true, port_redirect: 8443}},\n"
        "{match: {path: /path}, redirect: {path_redirect: /new}},\n"
        "{match: {path: /pathq}, redirect: {path_redirect: '/new?z=1'}},\n"
        "{match: {path: /pathqs}, redirect: {path_redirect: '/new?z=1', strip_query: true}},\n"
        "{match: {path: /strip}, redirect: {strip_query: true}},\n"
        "{match: {path: /pathstrip}, redirect: {path_redirect: /new, strip_query: true}},\n"
        "{match: {prefix: /pfx/}, redirect: {prefix_rewrite: /n/, response_code: "
        "TEMPORARY_REDIRECT}},\n"
        "{match: {prefix: /PIC/, case_sensitive: false}, redirect: {prefix_rewrite: /n/}},\n"
        "{match: {path: /pathpfx}, redirect: {prefix_rewrite: /n/}},\n"
        "{match: {safe_regex: {regex: '/rxp/.*'}}, redirect: {prefix_rewrite: /n/}},\n"
        "{match: {path_separated_prefix: /psp}, redirect: {prefix_rewrite: /n}},\n"
        "{match: {prefix: /rx/}, redirect: {regex_rewrite: {pattern: {regex: "
        "'/([a-z]+)/([0-9]+)'}, substitution: '/\\2/\\1'}, response_code: PERMANENT_REDIRECT}},\n"
        "{match: {prefix: /all}, redirect: {https_redirect: true, host_redirect: h.com, "
        "path_redirect: /p}},\n"
        "{match: {prefix: /}, redirect: {response_code: SEE_OTHER}}]}]}");
    static const struct {
        const char *host, *path, *want;
    } cases[] = {
        {"red.com", "/https", "https://red.com/https"},
        {"red.com", "/scheme", "ftp://red.com/scheme"},
        {"red.com", "/host", "http://h.com/host"},
        {"red.com", "/port", "http://red.com:8443/port"},
        {"red.com", "/httpsport", "https://red.com:8443/httpsport"},
        {"red.com", "/path", "http://red.com/new"},
        {"red.com", "/path?a=1", "http://red.com/new?a=1"},
        {"red.com", "/pathq", "http://red.com/new?z=1"},
        {"red.com", "/pathq?a=1", "http://red.com/new?z=1"},
        {"red.com", "/pathqs?a=1", "http://red.com/new?z=1"},
        {"red.com", "/strip?a=1", "http://red.com/strip"},
        {"red.com", "/pathstrip?a=1", "http://red.com/new"},
        {"red.com", "/pfx/a/b?q=1", "http://red.com/n/a/b?q=1"},
        {"red.com", "/pic/A?q", "http://red.com/n/A?q"},
        {"red.com", "/pathpfx?q", "http://red.com/n/?q"},
        {"red.com", "/rxp/a?q", "http://red.com/n/?q"},
        {"red.com", "/psp", "http://red.com/n"},
        {"red.com", "/psp/x", "http://red.com/n/x"},
        {"red.com", "/rx/abc/12/?q=/abc/12", "http://red.com/rx/12/abc/?q=/abc/12"},
        {"red.com", "/all?q", "https://h.com/p?q"},
        {"red.com", "/other?q=1", "http://red.com/other?q=1"},
        {"red.com:80", "/https", "https://red.com/https"},
        {"red.com:80", "/port", "http://red.com:8443/port"},
        {"red.com:80", "/scheme", "ftp://red.com/scheme"},
        {"red.com:443", "/https", "https://red.com:443/https"},
        {"red.com:443", "/scheme", "ftp://red.com:443/scheme"},
        {"red.com:8080", "/https", "https://red.com:8080/https"},
        {"red.com:8080", "/port", "http://red.com:8443/port"},
        {"[::1]:80", "/https", "https://[::1]/https"},
        {"[::1]:80", "/port", "http://[::1]:8443/port"},
        {"[::1]", "/https", "https://[::1]/https"},
        {"[::1]", "/port", "http://[::1]:8443/port"},
        {"RED.com", "/https", "https://RED.com/https"},
        {"red.com:80", "/https\nx-forwarded-proto: https", "https://red.com:80/https"},
        {"red.com:443", "/scheme\nx-forwarded-proto: https", "ftp://red.com/scheme"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char req[200];
        snprintf(req, sizeof(req), "GET %s %s", cases[i].host, cases[i].path);
        assert_string_equal(location(t, req, NULL), cases[i].want);
    }
    unsigned status;
    location(t, "GET h /https", &status);
    assert_int_equal(status, 301);
    location(t, "GET h /pfx/", &status);
    assert_int_equal(status, 307);
    location(t, "GET h /rx/", &status);
    assert_int_equal(status, 308);
    location(t, "GET h /o", &status);
    assert_int_equal(status, 303);
    route_table_unref(t);
}

static int read_file(void *arg, sv path, struct arena *into, sv *out, struct error *e)
{
    if (!sv_eq_c(path, "/body"))
        return error_set(e, E_IO, "'%.*s' cannot be read", SV_ARG(path));
    *out = arena_sv(into, SV("from a file"));
    return 0;
}

static void test_direct(void **state)
{
    struct route_table_opts o = {.read_file = read_file};
    struct route_table *t = NULL;
    setenv("WEFT_TEST_BODY", "from the environment", 1);
    assert_int_equal(
        build("{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [\n"
              "{match: {path: /f}, direct_response: {status: 200, body: {filename: /body}}},\n"
              "{match: {path: /e}, direct_response: {status: 503, body: {environment_variable: "
              "WEFT_TEST_BODY}}},\n"
              "{match: {path: /t}, direct_response: {status: 200, body: {inline_string: b}, "
              "body_format: {text_format_source: {inline_string: '%REQ(:PATH)% "
              "%LOCAL_REPLY_BODY%'}, content_type: text/x}}},\n"
              "{match: {path: /n}, direct_response: {status: 204}},\n"
              "{match: {path: /x}, non_forwarding_action: {}}]}]}",
              &o, &t),
        0);
    sv type;
    struct route_match m = match(t, "GET h /f");
    assert_sv(route_match_body(&m, &si, &a, &type), "from a file");
    m = match(t, "GET h /e");
    assert_int_equal(m.route->status, 503);
    assert_sv(route_match_body(&m, &si, &a, &type), "from the environment");
    m = match(t, "GET h /n");
    assert_int_equal(route_match_body(&m, &si, &a, &type).n, 0);
    m = match(t, "GET h /t");
    stream_info_init(&si, &a);
    si.req = request("GET h /t");
    assert_sv(route_match_body(&m, &si, &a, &type), "/t b");
    assert_sv(type, "text/x");
    assert_int_equal(match(t, "GET h /x").action, ROUTE_NON_FORWARDING);
    route_table_unref(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rewrites),  TEST(test_levels), TEST(test_operations),
        TEST(test_redirects), TEST(test_direct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
