/* Lines of access logs, and what the table says of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/live.h"
#include "http/stream_info.h"

#define CLUSTER "outbound|80|v1|app.books.svc.cluster.local"

struct told {
    struct arena a;
    struct live_line l;
    struct strbuf text;
};

static int parse(struct told *t, const char *line)
{
    struct error err = {0};

    arena_init(&t->a);
    strbuf_init(&t->text, 1 << 16);
    return live_parse(sv_of(line), &t->a, &t->l, &err);
}

static const char *tell(struct told *t)
{
    const struct failure *f = failure_find(&t->l);

    failure_text(f->what, &t->l, &t->text);
    strbuf_add_ch(&t->text, '|');
    failure_text(f->todo, &t->l, &t->text);
    return t->text.p;
}

static void done(struct told *t)
{
    strbuf_fini(&t->text);
    arena_free(&t->a);
}

static void expect(const char *code, const char *flags, const char *details, const char *transport,
                   const char *cluster, const char *what)
{
    char line[2000];
    struct told t;
    const char *got;

    snprintf(line, sizeof line,
             "[2026-11-29T01:00:00.000Z] \"GET /x?y HTTP/1.1\" %s %s %s - \"%s\" 1 2 30 - \"-\" "
             "\"say \"hi\" all\" \"id\" \"app.books\" \"10.0.0.1:8080\" %s 10.0.0.9:5 10.0.0.5:80 "
             "10.0.0.9:4 - books/app/http[1]\n",
             code, flags, details, transport, cluster);
    assert_int_equal(parse(&t, line), 0);
    assert_true(sv_eq_c(t.l.route, "books/app/http[1]"));
    assert_true(sv_eq_c(t.l.upstream, "10.0.0.1:8080"));
    got = tell(&t);
    if (!strstr(got, what))
        fail_msg("%s %s: '%s' is not in '%s'", flags, details, what, got);
    assert_true(strchr(details, '{') || !strchr(got, '{'));
    done(&t);
}

static void test_table(void **state)
{
    (void)state;
    expect("503", "UF", "upstream_reset_before_response_started", "Connection refused", CLUSTER,
           "nobody listens at endpoint 10.0.0.1:8080 of subset 'v1' of app.books");
    expect("503", "URX,UF", "x",
           "TLS_error:|268435581:SSL_routines:OPENSSL_internal:"
           "CERTIFICATE_VERIFY_FAILED",
           CLUSTER, "certificate of endpoint 10.0.0.1:8080");
    expect("503", "UF", "x",
           "TLS_error:|268435703:SSL routines:OPENSSL_internal:"
           "WRONG_VERSION_NUMBER:TLS_error_end",
           CLUSTER, "answered in plain text");
    expect("503", "UF", "x", "-", "inbound|8080||", "could not connect to its own application");
    expect("503", "UF", "upstream_reset_before_response_started{connection_timeout}", "-", CLUSTER,
           "within connectTimeout");
    expect("503", "UC", "upstream_reset_before_response_started{connection_termination}", "-",
           CLUSTER, "closed the connection while the request was under way (upstream_reset");
    expect("404", "NR", "route_not_found", "-", "-", "no route matches GET app.books/x?y");
    expect("404", "NR", "route_not_found", "-", "inbound|8080||", "server's sidecar has no route");
    expect("503", "NC", "cluster_not_found", "-", CLUSTER, "the subset 'v1' in the Destination");
    expect("503", "UH", "no_healthy_upstream", "-", CLUSTER, "has no endpoint that may be used");
    expect("503", "UO", "x{overflow}", "-", CLUSTER, "raise connectionPool");
    expect("504", "UT", "response_timeout", "-", CLUSTER, "gave up after 30 ms");
    expect("504", "UT", "upstream_per_try_timeout", "-", CLUSTER, "perTryTimeout");
    expect("0", "DC", "downstream_remote_disconnect", "-", CLUSTER, "the client closed");
    expect("500", "FI", "fault_filter_abort", "-", "-", "fault that aborted the request");
    expect("403", "-", "rbac_access_denied_matched_policy[none]", "-", "inbound|80||",
           "policy does not allow");
    expect("500", "-", "via_upstream", "-", CLUSTER, "itself answered 500");
    expect("400", "DPE", "http1.codec_error", "-", "-", "(http1.codec_error)");
    expect("503", "-", "via_upstream", "-", CLUSTER, "or the sidecar before it");
    expect("503", "UF", "x", "CERTIFICATE_VERIFY_FAILED", "outbound|80||out.example",
           "s_client -connect 10.0.0.1:8080 -servername out.example");
    expect("503", "UF", "x", "verify SAN list", "outbound|80||out.example", "of another name");
    expect("503", "UH", "no_healthy_upstream", "-", "outbound|80||out.example",
           "getent hosts out.");
    expect("503", "UH", "-", "-", "BlackHoleCluster", "takes a connection to 10.0.0.5:80, and");
    expect("0", "URX,UF", "-", "Connection refused", "PassthroughCluster",
           "no service of the mesh has the address 10.0.0.1:8080");
    expect("599", "-", "something_new", "-", "-", "ended with 599 (something_new, flags none)");
}

#define TCP(flags, upstream, cluster, local, sni)                                                  \
    "[t] \"- - -\" 0 " flags " - - \"-\" 1 2 3 - \"-\" \"-\" \"-\" \"-\" \"" upstream              \
    "\" " cluster " - " local " 10.0.0.9:4 " sni " -"

static void test_connections(void **state)
{
    static const struct {
        const char *line, *what; /* NULL: nothing failed */
    } cases[] = {
        {TCP("-", "198.51.100.1:443", "outbound|443||out.example", "240.240.1.2:443",
             "out.example"),
         NULL},
        {TCP("-", "-", "PassthroughCluster", "198.51.100.1:25", "-"), NULL},
        {TCP("UH", "-", "BlackHoleCluster", "198.51.100.1:443", "out.example"),
         "takes a connection to out.example, and the outbound policy is REGISTRY_ONLY"},
        {TCP("URX,UF", "240.240.1.2:9002", "PassthroughCluster", "240.240.1.2:9002", "-"),
         "gave to a service, and that service has no port 9002"},
        {TCP("DC", "-", CLUSTER, "10.0.0.5:80", "-"), "the client closed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct told t;
        assert_int_equal(parse(&t, cases[i].line), 0);
        assert_int_equal(live_succeeded(&t.l), cases[i].what == NULL);
        if (cases[i].what && !strstr(tell(&t), cases[i].what))
            fail_msg("'%s' is not in '%s'", cases[i].what, t.text.p);
        done(&t);
    }
}

/* A flag that the proxies write has a row of its own, but for those that are no failure. */
static void test_every_flag(void **state)
{
    static const char *const fine[] = {"DI", "RFCF"};

    (void)state;
    for (int b = 0; b < STREAM_FLAG_COUNT; b++) {
        struct live_line l = {.code = SV("503")};
        struct strbuf text;
        sv flag;
        strbuf_init(&text, 100);
        stream_flags_text((uint64_t)1 << b, false, &text);
        flag = l.flags = strbuf_sv(&text);
        bool ok = *failure_find(&l)->flag != 0;
        for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
            ok |= sv_eq_c(flag, fine[i]);
        if (!ok)
            fail_msg("%.*s has no row", SV_ARG(flag));
        strbuf_fini(&text);
    }
}

static void test_forms(void **state)
{
    struct told t;

    (void)state;
    /* Envoy's default format */
    assert_int_equal(parse(&t, "[t] \"POST /a HTTP/2\" 503 UF 10 20 3 - \"-\" \"curl\" \"id\" "
                               "\"app\" \"10.0.0.1:80\""),
                     0);
    assert_true(sv_eq_c(t.l.duration, "3") && sv_eq_c(t.l.upstream, "10.0.0.1:80") &&
                sv_eq_c(t.l.authority, "app") && !t.l.details.n);
    done(&t);
    /* JSON; newer Istio ends cluster names with ';' */
    assert_int_equal(
        parse(&t, "{\"response_code\":503,\"response_flags\":\"UH\",\"path\":\"/\\u001b[31m\","
                  "\"upstream_host\":null,\"upstream_cluster\":\"" CLUSTER ";\"}\n"),
        0);
    assert_true(sv_eq_c(t.l.host, "app.books.svc.cluster.local") && t.l.port == 80 &&
                !t.l.upstream.n);
    failure_text("{path}", &t.l, &t.text);
    assert_string_equal(t.text.p, "/?[31m");
    done(&t);
    assert_int_equal(parse(&t, "[t] \"GET / HTTP/1.1\" 200 -"), E_INVALID);
    done(&t);
    assert_int_equal(parse(&t, "[t] \"GET / HTTP/1.1\" 204 - via_upstream - \"-\" 0 0 1"), 0);
    assert_true(live_succeeded(&t.l));
    done(&t);
}

/* Whatever stands in a log, cut anywhere, is read or refused. */
static void test_cut(void **state)
{
    static const char *const lines[] = {("[t] \"GET / HTTP/1.1\" 503 UF d{\"} - \"x\" y\" 0 0 1 - "
                                         "\"-\" \"u\" \"i\" \"a\" \"h\" c - - - - r"),
                                        "{\"response_code\":503,\"response_flags\":\"UH\"}",
                                        "\"\"[]\" \"",
                                        "[",
                                        "\"",
                                        " ",
                                        ""};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        for (size_t n = 0; n <= strlen(lines[i]); n++) {
            char *copy = malloc(n + 1);
            struct told t;
            memcpy(copy, lines[i], n);
            copy[n] = 0;
            if (parse(&t, copy) == 0)
                assert_true(strlen(tell(&t)) > 1);
            done(&t);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),      cmocka_unit_test(test_connections),
        cmocka_unit_test(test_every_flag), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
