/* Which virtual host and route take a request. Paths and hosts are what Envoy 1.40 answered. */
#include <pthread.h>
#include "route/route_test.h"

#define ANSWER(text) "direct_response: {status: 200, body: {inline_string: " text "}}"

static const char *answer(const struct route_table *t, const char *req)
{
    struct route_match m = match(t, req);
    if (m.action == ROUTE_NONE)
        return "-";
    sv type;
    return arena_cstr(&a, route_match_body(&m, NULL, &a, &type));
}

static void check(const struct route_table *t, const char *req, const char *want)
{
    const char *got = answer(t, req);
    if (strcmp(got, want) != 0)
        fail_msg("%s: %s, want %s", req, got, want);
}

static void test_paths(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [\n"
        "{match: {path: /Exact, case_sensitive: false}, " ANSWER(
            "exact-ic") "},\n"
                        "{match: {path: '/exactq?a=1'}, " ANSWER(
                            "exactq") "},\n"
                                      "{match: {path_separated_prefix: /sep}, " ANSWER(
                                          "sep") "},\n"
                                                 "{match: {path_separated_prefix: /Isep, "
                                                 "case_sensitive: false}, " ANSWER(
                                                     "isep") "},\n"
                                                             "{match: {safe_regex: {regex: "
                                                             "'/r[0-9]+'}}, " ANSWER(
                                                                 "regex") "},\n"
                                                                          "{match: {safe_regex: "
                                                                          "{regex: /RX}, "
                                                                          "case_sensitive: "
                                                                          "false}, " ANSWER(
                                                                              "regexic") "},\n"
                                                                                         "{match: "
                                                                                         "{prefix: "
                                                                                         "/pre},"
                                                                                         " " ANSWER(
                                                                                             "prefi"
                                                                                             "x") "},\n"
                                                                                                  "{match: {prefix: /PIC, case_sensitive: false}, " ANSWER(
                                                                                                      "prefixic") "},\n"
                                                                                                                  "{match: {connect_matcher: {}}, " ANSWER(
                                                                                                                      "connect") "},\n"
                                                                                                                                 "{match: {prefix: ''}, " ANSWER(
                                                                                                                                     "none") "}]}]}");
    static const char *const cases[][2] = {
        {"/exact", "exact-ic"},  {"/EXACT", "exact-ic"},
        {"/Exact?", "exact-ic"}, {"/Exact?x=1", "exact-ic"},
        {"/Exact/", "none"},     {"/exactq", "none"},
        {"/exactq?a=1", "none"}, {"/sep", "sep"},
        {"/sep/", "sep"},        {"/sep/x", "sep"},
        {"/sepx", "none"},       {"/sep?q", "sep"},
        {"/SEP", "none"},        {"/isep/x", "isep"},
        {"/ISEP", "isep"},       {"/r12", "regex"},
        {"/r12x", "none"},       {"/r12?x", "regex"},
        {"/rx", "none"},         {"/RX", "regexic"},
        {"/pre", "prefix"},      {"/prefix", "prefix"},
        {"/pr", "none"},         {"/pic/x", "prefixic"},
        {"/Pic", "prefixic"},    {"", "-"},
        {"*", "none"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char req[100];
        snprintf(req, sizeof(req), "GET h %s", cases[i][0]);
        check(t, req, cases[i][1]);
    }
    check(t, "CONNECT h:443 ", "connect");
    check(t, "CONNECT h:443 /pre", "prefix");
    route_table_unref(t);
}

/* Texts longer than what is looked at first. */
static void test_long_paths(void **state)
{
    struct route_table *t =
        table("{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [\n"
              "{match: {path: /abcdefghijklmnopqrstuvwxyz/1}, " ANSWER(
                  "exact") "},\n"
                           "{match: {prefix: /abcdefghijklmnopqrstuvwxyz/2}, " ANSWER(
                               "prefix") "},\n"
                                         "{match: {path_separated_prefix: "
                                         "/abcdefghijklmnopqrstuvwxyz/3}, " ANSWER(
                                             "sep") "},\n"
                                                    "{match: {path: /ABCDEFGHIJKLMNOPQRSTUVWXYZ/4, "
                                                    "case_sensitive: false}, " ANSWER(
                                                        "ic") "},\n"
                                                              "{match: {prefix: /}, " ANSWER(
                                                                  "none") "}]}]}");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/1", "exact");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/1?q", "exact");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/11", "none");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/", "none");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/2x", "prefix");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyZ/2x", "none");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/3", "sep");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/3/x", "sep");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/3x", "none");
    check(t, "GET h /abcdefghijklmnopqrstuvwxyz/4", "ic");
    route_table_unref(t);
}

static void test_hosts(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [\n"
        "{name: wild1, domains: ['*.foo.com', 'foo.*', '*-bar.foo.com'], routes: [{match: "
        "{prefix: /}, " ANSWER(
            "wild1") "}]},\n"
                     "{name: wild2, domains: ['*.b.foo.com', 'foo.b.*'], routes: [{match: {prefix: "
                     "/}, " ANSWER("wild2") "}]},\n"
                                            "{name: exactport, domains: ['port.com:8080', "
                                            "PORTUP.com], routes: [{match: {prefix: "
                                            "/}, " ANSWER(
                                                "exactport") "}]},\n"
                                                             "{name: any, domains: ['*'], routes: "
                                                             "[{match: {prefix: /}, " ANSWER(
                                                                 "any") "}]}]}");
    static const char *const cases[][2] = {
        {"a.foo.com", "wild1"},
        {".foo.com", "any"},
        {"foo.com", "wild1"},
        {"x.b.foo.com", "wild2"},
        {"b.foo.com", "wild1"},
        {"foo.x", "wild1"},
        {"foo.", "any"},
        {"foo.b.x", "wild2"},
        {"x-bar.foo.com", "wild1"},
        {"-bar.foo.com", "wild1"},
        {"x-bar.foo.com:80", "any"},
        {"port.com", "any"},
        {"port.com:8080", "exactport"},
        {"PORT.com:8080", "exactport"},
        {"portup.com", "exactport"},
        {"PortUp.Com", "exactport"},
        {"other", "any"},
        {"foo.com:80", "wild1"},
        {"a.FOO.com", "wild1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char req[100];
        snprintf(req, sizeof(req), "GET %s /", cases[i][0]);
        check(t, req, cases[i][1]);
    }
    check(t, "GET  /", "-"); /* no host at all */
    sv domain;
    assert_sv(route_table_vhost(t, SV("A.foo.com"), &domain)->name, "wild1");
    assert_sv(domain, ".foo.com");
    assert_sv(route_table_vhost(t, SV("zz"), &domain)->name, "any");
    assert_sv(domain, "*");
    /* A host longer than any buffer. */
    char *big = arena_alloc(&a, 70000);
    memset(big, 'A', 70000);
    memcpy(big + 69992, ".foo.com", 8);
    assert_sv(route_table_vhost(t, sv_make(big, 70000), NULL)->name, "wild1");
    route_table_unref(t);

    t = table("{name: r, ignore_port_in_host_matching: true, virtual_hosts: [\n"
              "{name: v, domains: [foo.com, '[::1]'], routes: [{match: {prefix: /}, " ANSWER(
                  "v") "}]}]}");
    check(t, "GET foo.com:8080 /", "v");
    check(t, "GET foo.com /", "v");
    check(t, "GET [::1]:80 /", "v");
    check(t, "GET [::1] /", "v");
    check(t, "GET bar.com:80 /", "-");
    route_table_unref(t);
    t = table(
        "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, " ANSWER(
            "v") "}]}]}");
    check(t, "GET  /", "v"); /* nothing but a default takes even no host */
    route_table_unref(t);
}

static void test_other_conditions(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [\n"
        "{match: {prefix: /, headers: [{name: a, string_match: {exact: '1'}}, {name: b}]}, " ANSWER(
            "headers") "},\n"
                       "{match: {prefix: /, query_parameters: [{name: q}]}, " ANSWER(
                           "query") "},\n"
                                    "{match: {prefix: /, grpc: {}}, " ANSWER(
                                        "grpc") "},\n"
                                                "{match: {prefix: /p, tls_context: {presented: "
                                                "true}}, " ANSWER(
                                                    "presented") "},\n"
                                                                 "{match: {prefix: /v, "
                                                                 "tls_context: {validated: "
                                                                 "false}}, " ANSWER(
                                                                     "unvalidated") "},\n"
                                                                                    "{match: "
                                                                                    "{prefix: /f, "
                                                                                    "runtime_"
                                                                                    "fraction: "
                                                                                    "{default_"
                                                                                    "value: "
                                                                                    "{numerator: "
                                                                                    "30}}},"
                                                                                    " " ANSWER(
                                                                                        "third") "}"
                                                                                                 ","
                                                                                                 "\n"
                                                                                                 "{"
                                                                                                 "m"
                                                                                                 "a"
                                                                                                 "t"
                                                                                                 "c"
                                                                                                 "h"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "{"
                                                                                                 "p"
                                                                                                 "r"
                                                                                                 "e"
                                                                                                 "f"
                                                                                                 "i"
                                                                                                 "x"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "/"
                                                                                                 "m"
                                                                                                 ","
                                                                                                 " "
                                                                                                 "d"
                                                                                                 "y"
                                                                                                 "n"
                                                                                                 "a"
                                                                                                 "m"
                                                                                                 "i"
                                                                                                 "c"
                                                                                                 "_"
                                                                                                 "m"
                                                                                                 "e"
                                                                                                 "t"
                                                                                                 "a"
                                                                                                 "d"
                                                                                                 "a"
                                                                                                 "t"
                                                                                                 "a"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "["
                                                                                                 "{"
                                                                                                 "f"
                                                                                                 "i"
                                                                                                 "l"
                                                                                                 "t"
                                                                                                 "e"
                                                                                                 "r"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "f"
                                                                                                 ","
                                                                                                 " "
                                                                                                 "p"
                                                                                                 "a"
                                                                                                 "t"
                                                                                                 "h"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "["
                                                                                                 "{"
                                                                                                 "k"
                                                                                                 "e"
                                                                                                 "y"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "k"
                                                                                                 "}"
                                                                                                 "]"
                                                                                                 ","
                                                                                                 " "
                                                                                                 "v"
                                                                                                 "a"
                                                                                                 "l"
                                                                                                 "u"
                                                                                                 "e"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "{"
                                                                                                 "s"
                                                                                                 "t"
                                                                                                 "r"
                                                                                                 "i"
                                                                                                 "n"
                                                                                                 "g"
                                                                                                 "_"
                                                                                                 "m"
                                                                                                 "a"
                                                                                                 "t"
                                                                                                 "c"
                                                                                                 "h"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "{"
                                                                                                 "e"
                                                                                                 "x"
                                                                                                 "a"
                                                                                                 "c"
                                                                                                 "t"
                                                                                                 ":"
                                                                                                 " "
                                                                                                 "x"
                                                                                                 "}"
                                                                                                 "}"
                                                                                                 "}"
                                                                                                 "]"
                                                                                                 "}"
                                                                                                 ","
                                                                                                 " " ANSWER(
                                                                                                     "metadata") "},\n"
                                                                                                                 "{match: {prefix: /}, " ANSWER(
                                                                                                                     "rest") "}]}]}");
    check(t, "GET h /\na: 1\nb: x", "headers");
    check(t, "GET h /\na: 1", "rest");
    check(t, "GET h /?q", "query");
    check(t, "POST h /\ncontent-type: application/grpc", "grpc");
    check(t, "POST h /\ncontent-type: application/grpc-web", "rest");

    struct stream_info si;
    stream_info_init(&si, &a);
    stream_info_meta_set(&si, SV("f"), SV("k"), SV("x"));
    struct {
        struct route_ctx c;
        const char *req, *want;
    } cases[] = {
        {{.tls_presented = true}, "GET h /p", "presented"},
        {{0}, "GET h /p", "rest"},
        {{0}, "GET h /v", "unvalidated"},
        {{.tls_validated = true}, "GET h /v", "rest"},
        {{.random = 100 * 7 + 29}, "GET h /f", "third"},
        {{.random = 30}, "GET h /f", "rest"},
        {{.si = &si}, "GET h /m", "metadata"},
        {{0}, "GET h /m", "rest"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct route_match m;
        sv type;
        route_table_match(t, request(cases[i].req), &cases[i].c, &a, &m);
        assert_sv(route_match_body(&m, NULL, &a, &type), cases[i].want);
    }
    route_table_unref(t);
}

static void test_require_tls(void **state)
{
    struct route_table *t =
        table("{name: r, virtual_hosts: [\n"
              "{name: all, domains: [all], require_tls: ALL, response_headers_to_add: [{header: "
              "{key: x, value: y}}], routes: [{match: {prefix: /}, " ANSWER(
                  "v") "}]},\n"
                       "{name: ext, domains: [ext], require_tls: EXTERNAL_ONLY, routes: [{match: "
                       "{prefix: "
                       "/}, " ANSWER("v") "}]}]}");
    struct route_match m = match(t, "GET all /a?b");
    assert_int_equal(m.action, ROUTE_REDIRECT);
    assert_true(m.https_only);
    assert_int_equal(m.route->status, 301);
    assert_sv(route_match_redirect(&m, request("GET all /a?b"), &a), "https://all/a?b");
    struct http_head *resp = request("- - -");
    route_match_response(&m, resp, NULL, &a);
    assert_int_equal(resp->h.n, 0);
    check(t, "GET all /\nx-forwarded-proto: https", "v");
    assert_int_equal(match(t, "GET ext /").action, ROUTE_REDIRECT);
    struct route_ctx c = {.internal = true};
    assert_int_equal(route_table_match(t, request("GET ext /"), &c, &a, &m), ROUTE_DIRECT_RESPONSE);
    route_table_unref(t);
}

static void test_clusters(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [\n"
        "{match: {path: /one}, name: n, route: {cluster: c1, metadata_match: {filter_metadata: "
        "{envoy.lb: {a: 1, b: 2}}}}},\n"
        "{match: {path: /header}, route: {cluster_header: X-C}},\n"
        "{match: {path: /w}, route: {metadata_match: {filter_metadata: {envoy.lb: {a: 1, b: 2}}}, "
        "weighted_clusters: {clusters: [{name: zero, weight: 0}, {name: w1, weight: 10, "
        "metadata_match: {filter_metadata: {envoy.lb: {b: 3}}}}, {cluster_header: x-c, weight: "
        "90}]}}},\n"
        "{match: {path: /wh}, route: {weighted_clusters: {header_name: X-Rnd, clusters: [{name: a, "
        "weight: 1}, {name: b, weight: 1}]}}},\n"
        "{match: {path: /hash}, route: {hash_policy: [{header: {header_name: x-h}}], "
        "weighted_clusters: {use_hash_policy: true, clusters: [{name: a, weight: 1}, {name: b, "
        "weight: 1}]}}}]}]}");
    struct route_match m = match(t, "GET h /one");
    assert_sv(m.cluster, "c1");
    assert_sv(m.route->name, "n");
    assert_int_equal(m.metadata_match->filter_metadata.v[0]->value->fields.n, 2);
    assert_sv(match(t, "GET h /header\nx-c: from").cluster, "from");
    assert_int_equal(match(t, "GET h /header").cluster.n, 0);

    uint32_t first = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        struct route_ctx c = {.random = i};
        route_table_match(t, request("GET h /w\nx-c: hc"), &c, &a, &m);
        assert_true(sv_eq_c(m.cluster, "w1") || sv_eq_c(m.cluster, "hc"));
        first += sv_eq_c(m.cluster, "w1");
    }
    assert_int_equal(first, 100);
    m = match(t, "GET h /w");
    assert_sv(m.cluster, "w1");
    const struct google_Struct *lb = m.metadata_match->filter_metadata.v[0]->value;
    assert_int_equal(lb->fields.n, 2);
    for (uint32_t i = 0; i < 2; i++)
        assert_true(lb->fields.v[i]->value->number_value ==
                    (sv_eq_c(lb->fields.v[i]->key, "a") ? 1 : 3));

    assert_sv(match(t, "GET h /wh\nx-rnd: 7").cluster, "b");
    assert_sv(match(t, "GET h /wh\nx-rnd: 8").cluster, "a");
    assert_sv(match(t, "GET h /wh\nx-rnd: 7\nx-rnd: 7").cluster, "a"); /* two: the random one */
    assert_sv(match(t, "GET h /wh\nx-rnd: x").cluster, "a");
    sv some = match(t, "GET h /hash\nx-h: k1").cluster;
    assert_true(sv_eq(some, match(t, "GET h /hash\nx-h: k1").cluster));
    bool both = false;
    for (int i = 0; i < 20; i++) {
        char req[60];
        snprintf(req, sizeof(req), "GET h /hash\nx-h: k%d", i);
        both = both || !sv_eq(some, match(t, req).cluster);
    }
    assert_true(both);
    route_table_unref(t);
}

static void test_trail(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: books, domains: ['*.books'], routes: [\n"
        "{name: jason, match: {prefix: /, headers: [{name: end-user, string_match: {exact: "
        "jason}}]}, route: {cluster: v2}},\n"
        "{match: {path: /x}, route: {cluster: x}},\n"
        "{match: {prefix: /, query_parameters: [{name: q, string_match: {prefix: a}}]}, route: "
        "{cluster: q}},\n"
        "{match: {prefix: /a, grpc: {}}, redirect: {}},\n"
        "{name: rest, match: {prefix: /a}, route: {cluster: v1}}]}]}");
    struct strbuf b;
    strbuf_init(&b, 10000);
    struct route_ctx c = {.trail = &b};
    struct route_match m;
    route_table_match(t, request("GET flask.books /a?q=z\nend-user: bob"), &c, &a, &m);
    assert_string_equal(
        b.p, "host \"flask.books\": virtual host 'books' by its domain '.books'\n"
             "route 0 'jason': passed over: it asks for header \"end-user\" is \"jason\"; the "
             "request has \"bob\"\n"
             "route 1: passed over: path \"/a\" is not \"/x\"\n"
             "route 2: passed over: query parameter 'q' is not one that starts with \"a\"\n"
             "route 3: passed over: the request is not gRPC\n"
             "route 4 'rest': matches: forwards to cluster 'v1'\n");
    strbuf_reset(&b);
    route_table_match(t, request("GET flask.books /b\x1b"), &c, &a, &m);
    assert_non_null(strstr(b.p, "the request has none\n"));
    assert_non_null(
        strstr(b.p, "path \"/b\\u001b\" does not start with \"/a\"\nno route matches\n"));
    strbuf_reset(&b);
    route_table_match(t, request("GET other /"), &c, &a, &m);
    assert_string_equal(b.p, "host \"other\": no virtual host has this domain\n");
    strbuf_fini(&b);
    route_table_unref(t);
}

static void test_virtual_clusters(void **state)
{
    struct route_table *t = table(
        "{name: r, virtual_hosts: [{name: v, domains: [h], virtual_clusters: [{name: get, headers: "
        "[{name: ':method', string_match: {exact: GET}}]}], routes: [{match: {prefix: /}, " ANSWER(
            "v") "}]}, {name: w, domains: [w], routes: [{match: {prefix: /}, " ANSWER("w") "}]}]}");
    struct route_match m = match(t, "GET h /");
    assert_sv(route_match_virtual_cluster(&m, request("GET h /"), &a), "get");
    assert_sv(route_match_virtual_cluster(&m, request("POST h /"), &a), "other");
    m = match(t, "GET w /");
    assert_int_equal(route_match_virtual_cluster(&m, request("GET w /"), &a).n, 0);
    route_table_unref(t);
}

/* ---- built when met ---- */

static struct route_table *many(uint32_t hosts)
{
    struct strbuf b;
    strbuf_init(&b, 100 << 20);
    struct envoy_RouteConfiguration rc = {.name = SV("many")};
    const struct envoy_VirtualHost *one = from_yaml(
        &envoy_VirtualHost_pb,
        "{name: v, domains: [x, y], routes: [{match: {prefix: /a, headers: [{name: x, "
        "string_match: "
        "{safe_regex: {regex: 'a.*b'}}}]}, route: {cluster: a}}, {match: {prefix: /}, route: "
        "{cluster: c}}]}");
    rc.virtual_hosts.n = hosts;
    rc.virtual_hosts.v = arena_array(&a, const struct envoy_VirtualHost *, hosts);
    for (uint32_t i = 0; i < hosts; i++) {
        struct envoy_VirtualHost *v = arena_new(&a, struct envoy_VirtualHost);
        *v = *one;
        v->name = arena_printf(&a, "v%u", i);
        v->domains.v = arena_array(&a, sv, 2);
        v->domains.v[0] = arena_printf(&a, "svc%u.ns.svc.cluster.local", i);
        v->domains.v[1] = arena_printf(&a, "*.svc%u", i);
        rc.virtual_hosts.v[i] = v;
    }
    struct route_table *t = NULL;
    if (route_table_build(pb_encode_arena(&envoy_RouteConfiguration_pb, &rc, &a), NULL, &t, &err) !=
        0)
        fail_msg("%s", err.msg);
    strbuf_fini(&b);
    return t;
}

static void test_lazy(void **state)
{
    struct route_table *t = many(300);
    assert_int_equal(route_table_vhosts(t), 300);
    assert_int_equal(route_table_built_vhosts(t), 0);
    for (int i = 0; i < 3; i++)
        assert_sv(match(t, "GET svc7.ns.svc.cluster.local /").cluster, "c");
    assert_int_equal(route_table_built_vhosts(t), 1);
    assert_sv(match(t, "GET q.svc299 /a\nx: ab").cluster, "a");
    assert_sv(match(t, "GET q.svc299 /a\nx: abc").vhost->name, "v299");
    assert_int_equal(route_table_built_vhosts(t), 2);
    assert_sv(route_table_name(t), "many");
    assert_true(route_table_packed(t).n > 1000);
    route_table_ref(t);
    route_table_unref(t);
    route_table_unref(t);
    route_table_unref(NULL);
}

static void *matcher(void *arg)
{
    struct arena mine;
    arena_init(&mine);
    struct route_ctx c = {0};
    for (int i = 0; i < 400; i++) {
        struct http_head h;
        struct route_match m;
        http_head_init(&h, &mine);
        h.method = SV("GET");
        h.path = SV("/");
        h.authority = arena_printf(&mine, "svc%d.ns.svc.cluster.local", i % 50);
        if (route_table_match(arg, &h, &c, &mine, &m) != ROUTE_FORWARD || !sv_eq_c(m.cluster, "c"))
            return arg;
    }
    arena_free(&mine);
    arena_trim();
    return NULL;
}

static void test_threads(void **state)
{
    struct route_table *t = many(60);
    pthread_t th[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, matcher, t);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(th[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(route_table_built_vhosts(t), 50);
    route_table_unref(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_paths),       TEST(test_long_paths),
        TEST(test_hosts),       TEST(test_other_conditions),
        TEST(test_require_tls), TEST(test_clusters),
        TEST(test_trail),       TEST(test_virtual_clusters),
        TEST(test_lazy),        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
