/* What a configuration becomes, and what is refused with which words. */
#include "route/route_test.h"

static void refused(const char *yaml, const char *want)
{
    struct route_table *t = NULL;
    err = (struct error){0};
    if (build(yaml, NULL, &t) == 0)
        fail_msg("accepted: %s", yaml);
    assert_null(t);
    if (!strstr(err.msg, want))
        fail_msg("'%s' lacks '%s'", err.msg, want);
}

/* A route table around one route; the sentence must start with the path to it. */
static void route_refused(const char *route, const char *want)
{
    char yaml[4000], full[1000];
    snprintf(yaml, sizeof(yaml),
             "{name: x, virtual_hosts: [{name: a, domains: [a]}, {name: b, domains: [b], routes: "
             "[{match: {prefix: /}, redirect: {}}, %s]}]}",
             route);
    snprintf(full, sizeof(full), "route_config 'x': virtual_hosts[1].routes[1]%s", want);
    refused(yaml, full);
    if (strncmp(err.msg, full, strlen(full)) != 0)
        fail_msg("'%s' does not start with '%s'", err.msg, full);
}

static void test_hosts_refused(void **state)
{
    refused("{name: x, virtual_hosts: [{name: first, domains: [a, B.com]}, {name: second, domains: "
            "[c, b.COM]}]}",
            "route_config 'x': virtual_hosts[1].domains[1]: 'b.COM' of virtual host 'second' "
            "belongs to virtual host 'first' (virtual_hosts[0]) already");
    refused("{name: x, virtual_hosts: [{name: first, domains: ['*']}, {name: second, domains: "
            "['*']}]}",
            "'*' of virtual host 'second' belongs to virtual host 'first'");
    refused("{name: x, virtual_hosts: [{name: v, domains: ['*.a', '*.a']}]}",
            "'*.a' of virtual host 'v' belongs to virtual host 'v' (virtual_hosts[0]) already");
    refused("{name: x, virtual_hosts: [{name: v, domains: ['a.*.b']}]}",
            "virtual_hosts[0].domains[0]: 'a.*.b' has a '*' that is neither first nor last");
    refused("{name: x, virtual_hosts: [{name: v, domains: ['']}]}",
            "domains[0]: must not be empty");
    refused("{name: x, virtual_hosts: [{name: v, domains: []}]}", "[0].domains: must not be empty");
    refused("{name: x, virtual_hosts: [{domains: [a]}]}", "[0].name: must not be empty");
    refused("{name: x, internal_only_headers: [a, 'b c']}",
            "route_config 'x': internal_only_headers[1]: 'b c' is no header name");
    refused("{name: x, request_headers_to_add: [{header: {key: ':path', value: a}}]}",
            "route_config 'x': request_headers_to_add[0].header.key: ':path' must not be changed");
    refused("{name: x, virtual_hosts: [{name: v, domains: [a], response_headers_to_remove: "
            "['a b']}]}",
            "virtual_hosts[0].response_headers_to_remove[0]: 'a b' is no header name");
    /* Domains of different kinds do not collide. */
    route_table_unref(
        table("{name: x, virtual_hosts: [{name: v, domains: [a, 'a*', '*a', '*']}]}"));
}

static void test_matches_refused(void **state)
{
    route_refused("{redirect: {}}", ".match: must be set");
    route_refused("{match: {}, redirect: {}}", ".match: one of prefix, path, safe_regex");
    route_refused("{match: {safe_regex: {regex: 'a('}}, redirect: {}}",
                  ".match.safe_regex.regex: 'a(' is no regular expression: missing )");
    route_refused("{match: {path_separated_prefix: /a/}, redirect: {}}",
                  ".match.path_separated_prefix: '/a/' must start with '/'");
    route_refused("{match: {prefix: /, headers: [{name: a}, {name: ''}]}, redirect: {}}",
                  ".match.headers[1].name: '' is no header name");
    route_refused("{match: {prefix: /, query_parameters: [{name: ''}]}, redirect: {}}",
                  ".match.query_parameters[0].name: must not be empty");
    route_refused("{match: {prefix: /, runtime_fraction: {}}, redirect: {}}",
                  ".match.runtime_fraction.default_value: must be set");
    route_refused("{match: {prefix: /, dynamic_metadata: [{filter: f, path: [{key: k}], value: "
                  "{string_match: {safe_regex: {regex: '['}}}}]}, redirect: {}}",
                  ".match.dynamic_metadata[0].value.string_match.safe_regex.regex: '['");
    route_refused("{match: {prefix: /}}", ": one of route, redirect, direct_response");
}

static void test_actions_refused(void **state)
{
#define FORWARD(body, want) route_refused("{match: {prefix: /}, route: {" body "}}", ".route" want)
    FORWARD("cluster: ''", ".cluster: must not be empty");
    FORWARD("timeout: 1s", ": one of cluster, cluster_header, weighted_clusters must be set");
    FORWARD("cluster_header: 'a b'", ".cluster_header: 'a b' is no header name");
    FORWARD("weighted_clusters: {}", ".weighted_clusters.clusters: must not be empty");
    FORWARD("weighted_clusters: {clusters: [{name: a, weight: 0}]}",
            ".weighted_clusters.clusters: the sum of the weights must be greater than 0");
    FORWARD("weighted_clusters: {clusters: [{name: a}]}",
            ".weighted_clusters.clusters[0].weight: must be set");
    FORWARD("weighted_clusters: {clusters: [{name: a, weight: 4294967295}, {name: b, weight: 1}]}",
            ".weighted_clusters.clusters: the sum of the weights must be at most 4294967295");
    FORWARD("weighted_clusters: {total_weight: 10, clusters: [{name: a, weight: 9}]}",
            ".weighted_clusters.total_weight: is 10, but the weights add up to 9");
    FORWARD("weighted_clusters: {clusters: [{name: a, cluster_header: b, weight: 9}]}",
            ".weighted_clusters.clusters[0]: one of name, cluster_header must be set");
    FORWARD("cluster: a, prefix_rewrite: /, regex_rewrite: {pattern: {regex: a}}",
            ".prefix_rewrite: must not be set beside regex_rewrite");
    FORWARD("cluster: a, regex_rewrite: {pattern: {regex: 'a(b)'}, substitution: '\\2'}",
            ".regex_rewrite.substitution: '\\2' is no substitution");
    FORWARD("cluster: a, host_rewrite_path_regex: {pattern: {regex: '('}}",
            ".host_rewrite_path_regex.pattern.regex: '('");
    FORWARD("cluster: a, retry_policy: {retry_on: '5xx,foo'}",
            ".retry_policy.retry_on: 'foo' is not known");
    FORWARD("cluster: a, retry_policy: {retry_back_off: {}}",
            ".retry_policy.retry_back_off.base_interval: must be set");
    FORWARD("cluster: a, retry_policy: {retry_back_off: {base_interval: 1s, max_interval: 0.5s}}",
            ".retry_policy.retry_back_off.max_interval: must not be less");
    FORWARD("cluster: a, retry_policy: {retriable_status_codes: [99]}",
            ".retry_policy.retriable_status_codes[0]: 99 is no HTTP status");
    FORWARD("cluster: a, retry_policy: {retriable_headers: [{name: ''}]}",
            ".retry_policy.retriable_headers[0].name: '' is no header name");
    FORWARD("cluster: a, retry_policy: {retry_host_predicate: [{name: x}]}",
            ".retry_policy.retry_host_predicate[0]: 'x' () is not supported");
    FORWARD("cluster: a, hedge_policy: {additional_request_chance: {numerator: 1}}",
            ".hedge_policy.additional_request_chance: is not supported");
    FORWARD("cluster: a, hedge_policy: {initial_requests: 2}",
            ".hedge_policy.initial_requests: only 1 is supported");
    FORWARD("cluster: a, request_mirror_policies: [{cluster: b}, {}]",
            ".request_mirror_policies[1]: one of cluster, cluster_header must be set");
    FORWARD("cluster: a, hash_policy: [{terminal: true}]",
            ".hash_policy[0]: names nothing to hash");
    FORWARD("cluster: a, hash_policy: [{cookie: {name: 'a;b'}}]",
            ".hash_policy[0].cookie.name: 'a;b' is no cookie name");
    FORWARD("cluster: a, upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: WebSocket}]",
            ".upgrade_configs[1].upgrade_type: 'WebSocket' is there twice");
    FORWARD("cluster: a, upgrade_configs: [{upgrade_type: websocket, connect_config: {}}]",
            ".upgrade_configs[0].connect_config: only means something");
    FORWARD("cluster: a, internal_redirect_policy: {response_headers_to_copy: [Host]}",
            ".internal_redirect_policy.response_headers_to_copy[0]: 'Host' cannot be copied");
    FORWARD(
        "cluster: a, internal_redirect_policy: {predicates: [{name: x, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3."
        "PreviousHostsPredicate}}]}",
        ".internal_redirect_policy.predicates[0]: 'x' "
        "(envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate) is not "
        "supported");
    FORWARD("cluster: a, timeout: -1s", ".timeout: must not be negative");
    FORWARD("cluster: a, max_stream_duration: {grpc_timeout_header_max: -1s}",
            ".max_stream_duration.grpc_timeout_header_max: must not be negative");
    route_refused("{match: {prefix: /}, redirect: {port_redirect: 65536}}",
                  ".redirect.port_redirect: 65536 is no port");
    route_refused("{match: {prefix: /}, redirect: {host_redirect: \"a\\nb\"}}",
                  ".redirect: has bytes that a header value may not have");
    route_refused("{match: {prefix: /}, direct_response: {status: 99}}",
                  ".direct_response.status: 99 is none of");
    route_refused("{match: {prefix: /}, direct_response: {status: 200, body: {filename: /x}}}",
                  ".direct_response.body.filename: is not supported here");
    route_refused("{match: {prefix: /}, direct_response: {status: 200, body_format: {json_format: "
                  "{a: b}}}}",
                  ".direct_response.body_format.json_format: is not supported here");
    route_refused("{match: {prefix: /}, redirect: {}, request_headers_to_add: [{header: {key: a, "
                  "value: '%NOPE%'}}]}",
                  ".request_headers_to_add[0].header.value: '%NOPE%' is not an operator");
    route_refused("{match: {prefix: /}, redirect: {}, request_headers_to_remove: [Host]}",
                  ".request_headers_to_remove[0]: 'Host' must not be changed");
    route_refused("{match: {prefix: /}, redirect: {}, response_headers_to_add: [{header: {key: a}, "
                  "append: true, append_action: ADD_IF_ABSENT}]}",
                  ".response_headers_to_add[0].append: must not be set beside append_action");
    route_refused("{match: {prefix: /}, redirect: {}, typed_per_filter_config: {f: {'@type': "
                  "type.googleapis.com/google.protobuf.Empty}}}",
                  ".typed_per_filter_config['f']: no filter takes a configuration here");
    char big[6000];
    memset(big, 'x', sizeof(big));
    snprintf(big, sizeof(big),
             "{name: x, virtual_hosts: [{name: b, domains: [b], routes: [{match: {prefix: /}, "
             "direct_response: {status: 200, body: {inline_string: '%*s'}}}]}]}",
             5000, "");
    refused(big, "routes[0].direct_response.body: has 5000 bytes, the maximum is 4096");
}

static void test_broken_bytes(void **state)
{
    struct route_table *t = NULL;
    const void *m = from_yaml(&envoy_RouteConfiguration_pb,
                              "{name: x, virtual_hosts: [{name: v, domains: [a, b], routes: "
                              "[{match: {prefix: /}, route: {cluster: c}}]}], "
                              "ignore_port_in_host_matching: true}");
    sv packed = pb_encode_arena(&envoy_RouteConfiguration_pb, m, &a);
    /* Every prefix, and every byte changed: an error or a table, never more. */
    for (size_t n = 0; n < packed.n; n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, packed.p, n);
        if (route_table_build(sv_make(copy, n), NULL, &t, &err) == 0)
            route_table_unref(t);
        free(copy);
    }
    for (size_t i = 0; i < packed.n; i++) {
        for (int x = 0; x < 256; x += 5) {
            char *copy = malloc(packed.n);
            memcpy(copy, packed.p, packed.n);
            copy[i] = (char)x;
            if (route_table_build(sv_make(copy, packed.n), NULL, &t, &err) == 0) {
                match(t, "GET a /");
                match(t, "GET b /");
                route_table_unref(t);
            }
            free(copy);
        }
    }
}

static void test_defaults_and_policies(void **state)
{
    struct route_table *t = table(
        "{name: r, request_mirror_policies: [{cluster: m0}], virtual_hosts: [{name: v, domains: "
        "['*'], include_request_attempt_count: true, retry_policy: {retry_on: '5xx'}, "
        "request_body_buffer_limit: 77, hedge_policy: {}, routes: [\n"
        "{match: {path: /d}, route: {cluster: c}},\n"
        "{match: {path: /p}, stat_prefix: sp, request_body_buffer_limit: 99, decorator: "
        "{operation: op, propagate: false}, tracing: {random_sampling: {numerator: 7}}, metadata: "
        "{filter_metadata: {f: {k: v}}}, route: {cluster: c, timeout: 0s, idle_timeout: 3s, "
        "priority: HIGH, cluster_not_found_response_code: NOT_FOUND, max_stream_duration: "
        "{max_stream_duration: 9s, grpc_timeout_header_max: 0s, grpc_timeout_header_offset: "
        "0.1s}, request_mirror_policies: [{cluster: m1, runtime_fraction: {default_value: "
        "{numerator: 1, denominator: MILLION}}, trace_sampled: false}, {cluster_header: x-m, "
        "disable_shadow_host_suffix_append: true}], upgrade_configs: [{upgrade_type: websocket}, "
        "{upgrade_type: CONNECT, enabled: false, connect_config: {allow_post: true}}], "
        "retry_policy: {retry_on: "
        "'connect-failure, unavailable', num_retries: 4, per_try_timeout: 0.25s, "
        "per_try_idle_timeout: 1s, retriable_status_codes: [503], retriable_headers: [{name: x}], "
        "retriable_request_headers: [{name: y}], retry_back_off: {base_interval: 0.01s}, "
        "rate_limited_retry_back_off: {reset_headers: [{name: Retry-After}, {name: x, format: "
        "UNIX_TIMESTAMP}]}, host_selection_retry_max_attempts: 5, retry_host_predicate: [{name: "
        "p, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3."
        "PreviousHostsPredicate}}], retry_priority: {name: q, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3."
        "PreviousPrioritiesConfig, update_frequency: 2}}}}}]}]}");
    const struct route *d = match(t, "GET h /d").route;
    assert_int_equal(d->timeout_ms, 15000);
    assert_false(d->has_idle_timeout);
    assert_int_equal(d->retry->retry_on, ROUTE_RETRY_5XX);
    assert_int_equal(d->retry->num_retries, 1);
    assert_int_equal(d->retry->backoff_base_ms, 25);
    assert_int_equal(d->retry->backoff_max_ms, 250);
    assert_int_equal(d->n_mirrors, 1);
    assert_sv(d->mirrors[0].cluster, "m0");
    assert_int_equal(d->body_limit, 77);
    assert_int_equal(d->cluster_not_found_status, 503);
    assert_true(d->vhost->include_attempt_count);
    assert_int_equal(route_upgrade_allowed(d, SV("websocket"), NULL), -1);

    const struct route *p = match(t, "GET h /p").route;
    assert_sv(p->stat_prefix, "sp");
    assert_int_equal(p->timeout_ms, 0);
    assert_int_equal(p->idle_timeout_ms, 3000);
    assert_int_equal(p->priority, 1);
    assert_int_equal(p->cluster_not_found_status, 404);
    assert_int_equal(p->max_stream_duration_ms, 9000);
    assert_true(p->new_timeouts);
    assert_true(p->has_grpc_timeout_max && p->grpc_timeout_max_ms == 0);
    assert_int_equal(p->grpc_timeout_offset_ms, 100);
    assert_int_equal(p->body_limit, 99);
    assert_sv(p->decorator, "op");
    assert_false(p->decorator_propagate);
    assert_true(p->tracing.set);
    assert_int_equal(p->tracing.random.numerator, 7);
    assert_int_equal(p->tracing.overall.numerator, 100);
    assert_sv(p->metadata->filter_metadata.v[0]->key, "f");
    assert_int_equal(p->n_mirrors, 2);
    assert_int_equal(p->mirrors[0].fraction.denominator, 1000000);
    assert_int_equal(p->mirrors[0].trace_sampled, 0);
    assert_int_equal(p->mirrors[1].trace_sampled, -1);
    assert_true(p->mirrors[1].keep_host);
    const struct route_upgrade *u = NULL;
    assert_int_equal(route_upgrade_allowed(p, SV("WEBSOCKET"), &u), 1);
    assert_int_equal(route_upgrade_allowed(p, SV("connect"), &u), 0);
    assert_true(u->connect && u->connect_allow_post);
    const struct route_retry_policy *r = p->retry;
    assert_int_equal(r->retry_on, ROUTE_RETRY_CONNECT_FAILURE | ROUTE_RETRY_GRPC_UNAVAILABLE);
    assert_int_equal(r->num_retries, 4);
    assert_int_equal(r->per_try_timeout_ms, 250);
    assert_int_equal(r->per_try_idle_timeout_ms, 1000);
    assert_int_equal(r->codes[0], 503);
    assert_int_equal(r->n_headers + r->n_request_headers, 2);
    assert_int_equal(r->backoff_base_ms, 10);
    assert_int_equal(r->backoff_max_ms, 100);
    assert_int_equal(r->n_reset_headers, 2);
    assert_sv(r->reset_headers[0].name, "retry-after");
    assert_true(r->reset_headers[1].unix_time);
    assert_int_equal(r->reset_max_ms, 300000);
    assert_int_equal(r->host_attempts, 5);
    assert_int_equal(r->host_predicates, ROUTE_HOSTS_PREVIOUS);
    assert_int_equal(r->priority_update, 2);
    route_table_unref(t);
}

static void test_retry_words(void **state)
{
    sv unknown;
    assert_int_equal(route_retry_on_parse(SV("5xx, gateway-error ,x,y,"), &unknown),
                     ROUTE_RETRY_5XX | ROUTE_RETRY_GATEWAY_ERROR);
    assert_sv(unknown, "x");
    assert_int_equal(route_retry_on_parse((sv){0}, &unknown), 0);
    assert_int_equal(unknown.n, 0);
}

/* ---- clusters and filters ---- */

static bool known(void *arg, sv name)
{
    return !sv_eq_c(name, "missing");
}

static int filter_config(void *arg, sv name, const struct google_Any *any, struct arena *into,
                         const void **out, struct error *e)
{
    if (sv_eq_c(name, "unknown"))
        return error_set(e, E_UNSUPPORTED, ": there is no such filter");
    (*(int *)arg)++;
    *out = arena_cstr(into, name);
    return 0;
}

static void note(void *arg, sv cluster)
{
    strbuf_addf(arg, "%.*s ", SV_ARG(cluster));
}

static void test_clusters_known(void **state)
{
    static const char yaml[] =
        "{name: x, request_mirror_policies: [{cluster: m}], virtual_hosts: [{name: v, domains: "
        "[a], routes: [{match: {prefix: /a}, route: {cluster: c}}, {match: {prefix: /}, route: "
        "{weighted_clusters: {clusters: [{name: w, weight: 1}, {name: missing, weight: 1}]}}}]}]}";
    struct route_table *t = NULL;
    struct route_table_opts o = {.cluster_known = known};
    assert_int_equal(build(yaml, &o, &t), 0);
    struct strbuf b;
    strbuf_init(&b, 1000);
    route_table_each_cluster(t, note, &b);
    assert_string_equal(b.p, "m c w missing ");
    strbuf_fini(&b);
    route_table_unref(t);
    o.check_clusters = true;
    assert_int_equal(build(yaml, &o, &t), E_NOT_FOUND);
    assert_string_equal(err.msg, "route_config 'x': virtual_hosts[0].routes[1].route."
                                 "weighted_clusters.clusters[1].name: unknown cluster 'missing'");
}

#define EMPTY   "{'@type': type.googleapis.com/google.protobuf.Empty}"
#define WRAP(x) "{'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, " x "}"

static void test_filters(void **state)
{
    int parsed = 0;
    struct route_table *t = NULL;
    struct route_table_opts o = {.filter_config = filter_config, .arg = &parsed};
    assert_int_equal(
        build(
            "{name: x, typed_per_filter_config: {f: " EMPTY ", t: " EMPTY "}, virtual_hosts: "
            "[{name: other, domains: [o], typed_per_filter_config: {z: " EMPTY "}}, {name: v, "
            "domains: [h], typed_per_filter_config: {f: " EMPTY ", off: " WRAP(
                "disabled: true") "}, routes: [{match: {path: /r}, "
                                  "typed_per_filter_config: {f: " EMPTY ", unknown: " WRAP(
                                      "is_optional: true, "
                                      "config: " EMPTY) ", g: " WRAP("config: " EMPTY) "}, "
                                                                                       "route: "
                                                                                       "{weighted"
                                                                                       "_clusters"
                                                                                       ": "
                                                                                       "{clusters"
                                                                                       ": "
                                                                                       "[{name: "
                                                                                       "c, "
                                                                                       "weight: "
                                                                                       "1, "
                                                                                       "typed_"
                                                                                       "per_"
                                                                                       "filter_"
                                                                                       "config: "
                                                                                       "{f:"
                                                                                       " " EMPTY
                                                                                       "}}]}}}, "
                                                                                       "{match: "
                                                                                       "{prefix: "
                                                                                       "/}, "
                                                                                       "route: "
                                                                                       "{cluster:"
                                                                                       " "
                                                                                       "c}, "
                                                                                       "typed_"
                                                                                       "per_"
                                                                                       "filter_"
                                                                                       "config: "
                                                                                       "{off:"
                                                                                       " " WRAP(
                                                                                           "disab"
                                                                                           "led: "
                                                                                           "fals"
                                                                                           "e") "}}"
                                                                                                "]}"
                                                                                                "]"
                                                                                                "}",
            &o, &t),
        0);
    int at_build = parsed;
    assert_int_equal(at_build, 7);
    struct route_match m = match(t, "GET h /r");
    assert_int_equal(parsed, at_build); /* on main only */
    const void *v[4];
    int off = 5;
    assert_int_equal(route_match_filter_configs(&m, SV("f"), v), 4);
    assert_ptr_equal(route_match_filter_config(&m, SV("f"), &off), v[3]);
    assert_int_equal(off, 0);
    assert_string_equal(route_match_filter_config(&m, SV("g"), NULL), "g");
    assert_string_equal(route_match_filter_config(&m, SV("t"), NULL), "t");
    assert_null(route_match_filter_config(&m, SV("unknown"), NULL));
    assert_null(route_match_filter_config(&m, SV("none"), &off));
    assert_int_equal(off, -1);
    assert_null(route_match_filter_config(&m, SV("off"), &off));
    assert_int_equal(off, 1);
    m = match(t, "GET h /x");
    route_match_filter_config(&m, SV("off"), &off);
    assert_int_equal(off, 0);
    assert_int_equal(route_match_filter_configs(&m, SV("f"), v), 2);
    assert_int_equal(route_match_filter_config_bytes(&m, SV("none")).n, 0);
    route_table_unref(t);
    assert_int_equal(build("{name: x, virtual_hosts: [{name: v, domains: [h], "
                           "typed_per_filter_config: {unknown: " EMPTY "}}]}",
                           &o, &t),
                     E_UNSUPPORTED);
    assert_string_equal(err.msg, "route_config 'x': virtual_hosts[0].typed_per_filter_config"
                                 "['unknown']: there is no such filter");
}

static void count_unknown(void *arg, const char *path)
{
    strbuf_addf(arg, "%s\n", path);
}

static void test_unknown_fields(void **state)
{
    /* Field 200, in the table and in a virtual host. */
    static const char bytes[] =
        "\x0a\x01x\xc0\x0c\x01\x12\x0b\x0a\x01v\x12\x01h\xc0\x0c\x01\xc0\x0c";
    struct strbuf b;
    strbuf_init(&b, 1000);
    sv packed = sv_make(bytes, 6 + 2 + 9);
    char *fixed = arena_cstr(&a, packed);
    fixed[7] = 9;
    struct route_table *t = NULL;
    assert_int_equal(route_table_build(sv_make(fixed, packed.n), NULL, &t, &err), E_INVALID);
    struct pb_opts pb = {.allow_unknown = true, .on_unknown = count_unknown, .arg = &b};
    struct route_table_opts o = {.pb = &pb};
    assert_int_equal(route_table_build(sv_make(fixed, packed.n), &o, &t, &err), 0);
    assert_non_null(strstr(b.p, "route_config 'x': virtual_hosts[0]."));
    match(t, "GET h /");
    route_table_unref(t);
    strbuf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hosts_refused),         TEST(test_matches_refused),
        TEST(test_actions_refused),       TEST(test_broken_bytes),
        TEST(test_defaults_and_policies), TEST(test_retry_words),
        TEST(test_clusters_known),        TEST(test_filters),
        TEST(test_unknown_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
