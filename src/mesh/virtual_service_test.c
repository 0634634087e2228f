/* VirtualServices: what stands in the routes and listeners, which one holds, how delegates are
 * merged, what is refused and what is said to have no effect. What requests see of it:
 * tests/scenarios. */
#include "mesh/mesh_testlib.h"

/* covers: HTTPRoute.route, HTTPRoute.match, HTTPRoute.delegate, HTTPRetry.retryRemoteLocalities,
 * HTTPMatchRequest.statPrefix, TLSMatchAttributes.destinationSubnets */

#define VS(name, ns, spec)                                                                         \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: " name ", namespace: " ns "}\nspec: " spec "\n---\n"
#define TO_FLASK "route: [{destination: {host: flaskapp}}]"

static void load(struct fixture *f, const char *text)
{
    only_services(f);
    write_file(f, "vs.yaml", text);
    rebuild_accepted(f);
}

/* The only rule of the books' VirtualService, as route configuration "80". */
static void rule(struct fixture *f, const char *text)
{
    char yaml[4000];
    snprintf(yaml, sizeof yaml, VS("v", "books", "{hosts: [flaskapp], http: [{%s}]}"), text);
    load(f, yaml);
    routes(f, "80");
}

struct expected {
    const char *rule, *json;
};

static void expect_all(struct fixture *f, const struct expected *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rule(f, v[i].rule);
        if (!has(f, v[i].json))
            fail_msg("case %zu: no %s in %s", i, v[i].json, f->json.p);
    }
}

static void test_matches(void **state)
{
#define MATCH(m, json)                                                                             \
    {                                                                                              \
        "match: [{" m "}], " TO_FLASK, "\"match\":{" json                                          \
    }
    const struct expected cases[] = {
        MATCH("uri: {exact: /a}", "\"path\":\"/a\"}"),
        MATCH("uri: {prefix: /a}, ignoreUriCase: true",
              "\"prefix\":\"/a\",\"case_sensitive\":false}"),
        MATCH("uri: {regex: '/a.*'}", "\"safe_regex\":{\"regex\":\"/a.*\"}}"),
        MATCH("headers: {X-Y: {exact: z}}", "\"prefix\":\"/\",\"headers\":[{\"name\":\"x-y\","
                                            "\"string_match\":{\"exact\":\"z\"}}]}"),
        MATCH("headers: {x: {regex: '*'}}",
              "\"prefix\":\"/\",\"headers\":[{\"name\":\"x\",\"present_match\":true}]}"),
        MATCH("withoutHeaders: {x: {}}", "\"prefix\":\"/\",\"headers\":[{\"name\":\"x\","
                                         "\"present_match\":true,\"invert_match\":true}]}"),
        MATCH("withoutHeaders: {x: {prefix: y}}",
              "\"prefix\":\"/\",\"headers\":[{\"name\":\"x\",\"invert_match\":true,"
              "\"string_match\":{\"prefix\":\"y\"},\"treat_missing_header_as_empty\":true}]}"),
        MATCH("queryParams: {q: {exact: '1'}}",
              "\"prefix\":\"/\",\"query_parameters\":[{\"name\":\"q\",\"string_match\":"
              "{\"exact\":\"1\"}}]}"),
        {"match: [{uri: {prefix: /a}, statPrefix: api}], " TO_FLASK, "\"stat_prefix\":\"api\""},
        {"name: r, match: [{name: m, uri: {prefix: /a}}], " TO_FLASK, "\"name\":\"r.m\""},
    };
    expect_all(*state, cases, sizeof cases / sizeof *cases);
}

static void test_actions(void **state)
{
    const struct expected cases[] = {
        {"timeout: 2s, " TO_FLASK, "\"timeout\":\"2s\""},
        {"timeout: 2s, " TO_FLASK, "\"max_grpc_timeout\":\"2s\""},
        {TO_FLASK, "\"retry_on\":\"connect-failure,refused-stream,reset-before-request\""},
        {"retries: {attempts: 3}, " TO_FLASK,
         "\"retry_on\":\"connect-failure,refused-stream,unavailable,cancelled\",\"num_retries\":3"},
        {"retries: {attempts: 1, retryOn: '503,reset, 504'}, " TO_FLASK,
         "\"retry_on\":\"reset,retriable-status-codes\""},
        {"retries: {attempts: 1, retryOn: '503,reset, 504'}, " TO_FLASK,
         "\"retriable_status_codes\":[503,504]"},
        {"retries: {attempts: 1, retryRemoteLocalities: true}, " TO_FLASK,
         "envoy.retry_priorities.previous_priorities"},
        {"retries: {attempts: 1, backoff: 1s}, " TO_FLASK, "{\"base_interval\":\"1s\"}"},
        {"rewrite: {uri: /b, authority: x.y}, " TO_FLASK,
         "\"prefix_rewrite\":\"/b\",\"host_rewrite_literal\":\"x.y\""},
        {"headers: {request: {set: {Host: x.y}}}, " TO_FLASK, "\"host_rewrite_literal\":\"x.y\""},
        {"mirror: {host: db, port: {number: 3306}}, mirrorPercentage: {value: 0.5}, " TO_FLASK,
         "\"request_mirror_policies\":[{\"cluster\":\"outbound|3306||db.books.svc.cluster.local\","
         "\"runtime_fraction\":{\"default_value\":{\"numerator\":5000,\"denominator\":\"MILLION\"}}"
         ",\"disable_shadow_host_suffix_append\":true}]"},
        {"redirect: {derivePort: FROM_REQUEST_PORT, scheme: https}", "\"port_redirect\":80"},
        {"redirect: {uri: /x, redirectCode: 308}", "\"response_code\":\"PERMANENT_REDIRECT\""},
        {"directResponse: {status: 503, body: {string: x}}",
         "\"direct_response\":{\"status\":503,\"body\":{\"inline_string\":\"x\"}}"},
        {"fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 12.5}}}, " TO_FLASK,
         "\"abort\":{\"percentage\":{\"numerator\":125000,"
         "\"denominator\":\"MILLION\"},\"grpc_status\":14}"},
        {"fault: {delay: {fixedDelay: 1s, percent: 3}}, " TO_FLASK,
         "\"delay\":{\"fixed_delay\":\"1s\",\"percentage\":{\"numerator\":30000"},
        {"corsPolicy: {allowOrigins: [{prefix: a}], allowMethods: [GET, PUT], maxAge: 60s}, "
         "" TO_FLASK,
         "\"allow_origin_string_match\":[{\"prefix\":\"a\"}],\"allow_methods\":\"GET,PUT\","
         "\"max_age\":\"60\""},
    };
    expect_all(*state, cases, sizeof cases / sizeof *cases);
    rule(*state, "retries: {attempts: 0}, " TO_FLASK);
    assert_false(has(*state, "http[0]\",\"match\":{\"prefix\":\"/\"},\"route\":{\"retry_policy\""));
    rule(*state, "retries: {attempts: 2, retryIgnorePreviousHosts: false}, " TO_FLASK);
    assert_true(has(*state, "\"num_retries\":2,\"host_selection"));
}

/* ---- which one holds ---- */

static void test_which_holds(void **state)
{
    struct fixture *f = *state;
    /* No rule is for this client: the next one by precedence, in the end the service. */
    load(f, VS("a", "books",
               "{hosts: [flaskapp], http: [{match: [{sourceLabels: {app: x}}], directResponse: "
               "{status: 401}}]}") VS("b", "books",
                                      "{hosts: [flaskapp], http: [{match: [{sourceLabels: {app: "
                                      "y}}], directResponse: {status: 402}}]}"));
    routes(f, "80");
    assert_true(has(f, "\"name\":\"default\"") && !has(f, "\"status\":40"));
    f->proxy.labels = (struct model_labels){&(struct model_label){SV("app"), SV("y")}, 1};
    routes(f, "80");
    assert_true(has(f, "\"status\":402") && !has(f, "\"status\":401"));
    f->proxy.labels.n = 0;

    /* Exact before wildcard, the longer wildcard first; upper case is the same host. */
    load(f,
         VS("a", "books", "{hosts: ['*.cluster.local'], http: [{directResponse: {status: 401}}]}")
             VS("b", "books",
                "{hosts: ['*.svc.cluster.local'], http: [{directResponse: {status: 402}}]}"));
    routes(f, "80");
    assert_true(has(f, "\"status\":402") && !has(f, "\"status\":401"));
    load(f, VS("a", "books",
               "{hosts: ['*.svc.cluster.local'], http: [{directResponse: {status: 401}}]}")
                VS("b", "books", "{hosts: [FlaskApp], http: [{directResponse: {status: 402}}]}"));
    routes(f, "80");
    assert_true(has(f, "\"status\":402") && !has(f, "\"status\":401"));

    /* Not exported here; for gateways only. */
    load(f,
         VS("a", "other",
            "{hosts: [" FLASK "], exportTo: [.], http: [{directResponse: {status: 401}}]}")
             VS("b", "books",
                "{hosts: [flaskapp], gateways: [x/y], http: [{directResponse: {status: 402}}]}"));
    routes(f, "80");
    assert_false(has(f, "\"status\":40"));
    f->proxy.ns = SV("other");
    routes(f, "80");
    assert_true(has(f, "\"status\":401"));
}

static void test_hosts_without_service(void **state)
{
    struct fixture *f = *state;
    load(f, VS("a", "books", "{hosts: [made.up, '*.made.up'], http: [{" TO_FLASK "}]}"));
    routes(f, "80");
    assert_true(has(f, "\"name\":\"made.up:80\",\"domains\":[\"made.up\",\"*.made.up\"]"));
}

/* ---- delegation ---- */

#define ROOT(extra)                                                                                \
    VS("root", "books",                                                                            \
       "{hosts: [flaskapp], http: [{name: r, match: [{uri: {prefix: /a}, headers: {h: {exact: "    \
       "v}}}], delegate: {name: leaf, namespace: shop}" extra "}, {" TO_FLASK "}]}")

static void test_delegation(void **state)
{
    struct fixture *f = *state;
    load(f, ROOT(", timeout: 3s, mirror: {host: db}") VS(
                "leaf", "shop",
                "{http: [{name: l, match: [{uri: {exact: /a/b}}], retries: {attempts: 1}, route: "
                "[{destination: {host: s}}]}, {match: [{uri: {prefix: /c}}], " TO_FLASK "}]}"));
    routes(f, "80");
    /* Narrowed by the leaf, the header of the root kept; names of each in its own namespace. */
    assert_true(has(f, "{\"match\":{\"path\":\"/a/b\",\"headers\":[{\"name\":\"h\""));
    assert_true(has(f, "\"cluster\":\"outbound|80||s.shop.svc.cluster.local\""));
    assert_true(has(f, "\"timeout\":\"3s\"") && has(f, "\"num_retries\":1"));
    assert_true(has(f, "\"request_mirror_policies\":[{\"cluster\":\"outbound|80||db.books."));
    assert_false(has(f, "\"/c\""));
    problems(f);
    assert_true(has(f, "books/root Conflict: spec.http[0].delegate: spec.http[1] of the delegate "
                       "shop/leaf"));
    /* Nobody else may see it; it has hosts; it is gone. */
    load(f,
         ROOT("") VS("leaf", "shop", "{exportTo: [x], http: [{directResponse: {status: 401}}]}"));
    problems(f);
    assert_true(has(f, "books/root DelegateNotExported"));
    load(f, ROOT("") VS("leaf", "shop", "{hosts: [y], http: [{directResponse: {status: 401}}]}"));
    problems(f);
    assert_true(has(f, "has hosts, so it is no delegate"));
    load(f, ROOT(""));
    problems(f);
    assert_true(has(f, "there is no VirtualService shop/leaf"));
    routes(f, "80");
    assert_true(has(f, "books/root/http[1]"));
    load(f, VS("leaf", "books", "{http: [{" TO_FLASK "}]}"));
    problems(f);
    assert_true(has(f, "books/leaf DelegateUnused"));
}

/* ---- TCP and TLS ---- */

static void test_l4(void **state)
{
    struct fixture *f = *state;
    const char *l;
    load(f,
         "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: books}\n"
         "spec: {clusterIP: 10.9.9.9, ports: [{name: tls, port: 443}]}\n---\n" VS(
             "t", "books",
             "{hosts: [web, '*.x.y'], tls: [{match: [{sniHosts: [a.x.y, b.x.y], "
             "destinationSubnets: [10.9.0.0/16]}], route: [{destination: {host: db}}]}, {match: "
             "[{sniHosts: [b.x.y, c.x.y], destinationSubnets: [10.9.0.0/16]}, {sniHosts: [d.x.y], "
             "port: 444}], route: [{destination: {host: web}}]}]}")
             VS("d", "books",
                "{hosts: [db], tcp: [{match: [{destinationSubnets: [10.1.0.0/16], sourceSubnet: "
                "10.2.3.4}], route: [{destination: {host: db}, weight: 1}, {destination: {host: "
                "web}, weight: 3}]}, {match: [{destinationSubnets: [0.0.0.0/0]}], route: "
                "[{destination: {host: web}}]}]}"));
    listeners(f);
    l = line_of(f, "10.9.9.9_443");
    assert_non_null(strstr(l, "\"server_names\":[\"a.x.y\",\"b.x.y\"]"));
    /* b.x.y is the first rule's; what no rule names goes on. */
    assert_non_null(strstr(l, "\"server_names\":[\"c.x.y\"]"));
    assert_null(strstr(l, "d.x.y"));
    assert_non_null(strstr(l, "PassthroughFilterChain"));
    assert_non_null(strstr(l, "tls_inspector"));
    l = line_of(f, "10.1.2.3_3306");
    assert_non_null(strstr(l,
                           "\"prefix_ranges\":[{\"address_prefix\":\"10.1.0.0\",\"prefix_len\":16}"
                           "],\"source_prefix_ranges\":[{\"address_prefix\":\"10.2.3.4\","
                           "\"prefix_len\":32}]"));
    assert_non_null(strstr(l, "\"stat_prefix\":\"d.books\""));
    assert_non_null(strstr(l, "\"cluster\":\"outbound|443||web.books.svc.cluster.local\""));
    assert_null(strstr(l, "outbound|3306||db.books.svc.cluster.local\"}"));
}

/* ---- what is said ---- */

static void test_problems(void **state)
{
    struct fixture *f = *state;
    load(f, VS("a", "books", "{hosts: [flaskapp], http: [{" TO_FLASK "}, {" TO_FLASK "}]}")
                VS("b", "books", "{hosts: [flaskapp], http: [{" TO_FLASK "}]}") VS(
                    "c", "books", "{hosts: [flaskapp], exportTo: [.], tcp: [{" TO_FLASK "}]}")
                    VS("d", "books", "{hosts: [flaskapp], gateways: [g], http: [{" TO_FLASK "}]}"));
    problems(f);
    assert_true(has(f, "books/a Unreachable: spec.http[1]: is never reached"));
    assert_true(has(f, "books/b Conflict: spec.hosts: host '" FLASK "' is already routed by "
                       "VirtualService books/a"));
    assert_false(has(f, "books/c Conflict") || has(f, "books/d Conflict"));

    load(f, VS("a", "books",
               "{hosts: [flaskapp], http: [{match: [{uri: {prefix: /a}}], " TO_FLASK
               "}, {match: [{uri: {exact: /a/b}}, {uri: {prefix: /b}}, {uri: {prefix: /b}, name: "
               "again}, {uri: {prefix: /A}}], " TO_FLASK "}]}"));
    problems(f);
    assert_true(has(f, "spec.http[1].match[0]: is never reached: spec.http[0].match[0]"));
    assert_true(has(f, "spec.http[1].match[2]: is never reached: spec.http[1].match[1]"));
    assert_false(has(f, "spec.http[1].match[1]:") || has(f, "spec.http[1].match[3]:"));
}

/* "*-suffix" is a wildcard of HTTP, as "*.suffix" is. */
static void test_part_of_a_label(void **state)
{
    struct fixture *f = *state;

    only_services(f);
    write_file(f, "vs.yaml",
               VS("v", "books",
                  "{hosts: ['*-blue.Test', '*app.books.svc.cluster.local'], http: [{route: "
                  "[{destination: {host: far.test}}]}]}"));
    rebuild_accepted(f);
    routes(f, "80");
    expect(f->json.p, "\"domains\":[\"*-blue.test\"]");
    expect(f->json.p, "\"name\":\"" FLASK ":80\"");
    expect_not(f->json.p, "outbound|80||" FLASK);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *spec, *field;
    } cases[] = {
        {"{hosts: [a], http: [{fault: {}, " TO_FLASK "}]}", "spec.http[0].fault"},
        {"{hosts: [a], http: [{fault: {abort: {percentage: {value: 1}}}, " TO_FLASK "}]}",
         "spec.http[0].fault.abort"},
        {"{hosts: [a], http: [{fault: {delay: {percentage: {value: 1}}}, " TO_FLASK "}]}",
         "spec.http[0].fault.delay.fixedDelay"},
        {"{hosts: [a], http: [{fault: {abort: {httpStatus: 99}}, " TO_FLASK "}]}",
         "spec.http[0].fault.abort.httpStatus"},
        {"{hosts: ['*-a'], tls: [{match: [{sniHosts: ['*-a']}], route: [{destination: {host: "
         "a}}]}]}",
         "spec.hosts[0]"},
        {"{hosts: ['*a*'], http: [{" TO_FLASK "}]}", "spec.hosts[0]"},
        {"{hosts: [a], tcp: [{route: [{destination: {host: '*'}}]}]}",
         "spec.tcp[0].route[0].destination.host"},
        {"{hosts: [a], http: [{route: [{destination: {host: books/web}}]}]}",
         "spec.http[0].route[0].destination.host"},
        {"{hosts: [a], http: [{mirror: {host: a.*}, " TO_FLASK "}]}", "spec.http[0].mirror.host"},
        {"{hosts: [a], http: [{timeout: 0.0001s, " TO_FLASK "}]}", "spec.http[0].timeout"},
        {"{hosts: [a], http: [{retries: {attempts: 0, retryOn: 5xx}, " TO_FLASK "}]}",
         "spec.http[0].retries.attempts"},
        {"{hosts: [a], http: [{match: [{headers: {'a b': {}}}], " TO_FLASK "}]}",
         "spec.http[0].match[0].headers.a b"},
        {"{hosts: [a], http: [{match: [{method: {prefix: ''}}], " TO_FLASK "}]}",
         "spec.http[0].match[0].method.prefix"},
        {"{hosts: [a], http: [{match: [{port: 70000}], " TO_FLASK "}]}",
         "spec.http[0].match[0].port"},
        {"{hosts: [a], http: [{match: [{gateways: ['a b']}], " TO_FLASK "}]}",
         "spec.http[0].match[0].gateways[0]"},
        {"{hosts: [a], http: [{headers: {response: {set: {host: x}}}, " TO_FLASK "}]}",
         "spec.http[0].headers.response.set.host"},
        {"{hosts: [a], http: [{rewrite: {uriRegexRewrite: {match: a, rewrite: '\\3'}}, " TO_FLASK
         "}]}",
         "spec.http[0].rewrite.uriRegexRewrite.rewrite"},
        {"{hosts: [a], http: [{redirect: {redirectCode: 301}}]}", "spec.http[0].redirect"},
        {"{hosts: [a], http: [{mirrors: [{destination: {host: b}, percentage: {value: 101}}], "
         "" TO_FLASK "}]}",
         "spec.http[0].mirrors[0].percentage"},
        {"{hosts: [a], http: [{corsPolicy: {allowMethods: [FETCH]}, " TO_FLASK "}]}",
         "spec.http[0].corsPolicy.allowMethods[0]"},
        {"{hosts: [a, A], http: [{" TO_FLASK "}]}", "spec.hosts[1]"},
        {"{hosts: ['*.b', x.b], http: [{" TO_FLASK "}]}", "spec.hosts[1]"},
        {"{hosts: [a], exportTo: ['*', b], http: [{" TO_FLASK "}]}", "spec.exportTo[0]"},
        {"{http: [{delegate: {name: x}}]}", "spec.http[0].delegate"},
        {"{tcp: [{" TO_FLASK "}]}", "spec.tcp"},
        {"{hosts: [a], tls: [{match: [{sniHosts: []}], " TO_FLASK "}]}",
         "spec.tls[0].match[0].sniHosts"},
        {"{hosts: [a], tcp: [{match: [{sourceSubnet: x}], " TO_FLASK "}]}",
         "spec.tcp[0].match[0].sourceSubnet"},
        {"{hosts: [a], tcp: [{}]}", "spec.tcp[0].route"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1500];
        snprintf(text, sizeof text, VS("v", "books", "%s"), cases[i].spec);
        only_services(f);
        write_file(f, "vs.yaml", text);
        rebuild(f);
        if (f->m->n_problems != 1 || !sv_eq_c(f->m->problems[0].field, cases[i].field))
            fail_msg("case %zu (%s): %u problems, first of %.*s", i, cases[i].field,
                     f->m->n_problems, f->m->n_problems ? (int)f->m->problems[0].field.n : 0,
                     f->m->n_problems ? f->m->problems[0].field.p : "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_matches),    T(test_actions), T(test_which_holds), T(test_hosts_without_service),
        T(test_delegation), T(test_l4),      T(test_problems),    T(test_part_of_a_label),
        T(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
