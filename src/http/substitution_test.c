/* format strings: every operator, what is refused, escaping, JSON types, times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "http/substitution.h"

struct world {
    struct arena a;
    struct stream_info si;
    struct stream_conn down, up;
    struct http_head req, resp;
    struct http_headers trailers;
    struct substitution_ctx c;
};

#define MS 1000000ull

static void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    arena_init(&w->a);
    stream_info_init(&w->si, &w->a);
    http_head_init(&w->req, &w->a);
    http_head_init(&w->resp, &w->a);
    http_headers_init(&w->trailers, &w->a);
    w->req.method = SV("GET");
    w->req.path = SV("/p/a?x=1&y=%20&z");
    w->req.authority = SV("books:80");
    w->req.scheme = SV("http");
    http_headers_add(&w->req.h, SV("user-agent"), SV("curl/8"));
    http_headers_add(&w->req.h, SV("x-request-id"), SV("id-1"));
    w->resp.status = 200;
    http_headers_add(&w->resp.h, SV("x-envoy-upstream-service-time"), SV("7"));
    http_headers_add(&w->trailers, SV("x-t"), SV("trail"));
    w->down = (struct stream_conn){.id = 9,
                                   .local = SV("10.0.0.2:15006"),
                                   .remote = SV("10.0.0.1:4711"),
                                   .direct_remote = SV("10.9.9.9:1"),
                                   .sni = SV("sni.example")};
    w->up = (struct stream_conn){
        .id = 33, .local = SV("10.0.0.2:50000"), .remote = SV("[fd00::1]:8080")};
    struct stream_info *si = &w->si;
    si->down = &w->down;
    si->up = &w->up;
    si->req = &w->req;
    si->resp = &w->resp;
    si->resp_trailers = &w->trailers;
    si->start_wall_ns = 1481814427871123456ull; /* 2016-12-15T15:07:07.871123456Z */
    si->start_ns = 1000 * MS;
    si->upstream_connect_start_ns = 1001 * MS;
    si->upstream_connect_done_ns = 1002 * MS;
    si->upstream_handshake_done_ns = 1003 * MS;
    si->upstream_pool_ns = si->upstream_first_tx_ns = 1004 * MS;
    si->upstream_last_tx_ns = 1006 * MS;
    si->request_end_ns = 1005 * MS;
    si->upstream_first_rx_ns = 1010 * MS;
    si->upstream_last_rx_ns = 1012 * MS;
    si->response_start_ns = 1011 * MS + 500000;
    si->response_end_ns = 1013 * MS;
    si->end_ns = 1014 * MS;
    si->response_code = 200;
    si->bytes_received = 5;
    si->bytes_sent = 77;
    si->down_wire_in = 101;
    si->down_wire_out = 102;
    si->down_head_in = 103;
    si->down_head_out = 104;
    si->up_wire_in = 201;
    si->up_wire_out = 202;
    si->up_head_in = 203;
    si->up_head_out = 204;
    si->has_upstream_protocol = true;
    si->upstream_protocol = HTTP_2;
    si->details = SV("via_upstream");
    si->route_name = SV("default");
    static const sv books = SV_INIT("books:80");
    si->virtual_host = &books;
    si->upstream_cluster = SV("outbound|80||books");
    si->upstream_host = SV("[fd00::1]:8080");
    si->attempts = 2;
    si->stream_id = 5;
    w->c.si = si;
}

static char *text_of(struct world *w, const char *format, enum substitution_use use, bool omit)
{
    const struct substitution *f = NULL;
    struct error err = {0};
    struct substitution_opts o = {.use = use, .omit_empty = omit};
    if (substitution_compile(sv_of(format), &o, &w->a, &f, &err) != 0)
        fail_msg("%s: %s", format, err.msg);
    struct strbuf b;
    strbuf_init(&b, 100000);
    substitution_eval(f, &w->c, &b);
    return strbuf_steal(&b, NULL);
}

static void assert_text(struct world *w, const char *format, const char *want)
{
    char *got = text_of(w, format, SUBSTITUTION_LOG, false);
    if (strcmp(got, want) != 0)
        fail_msg("%s: got '%s', want '%s'", format, got, want);
    free(got);
}

static void assert_json(struct world *w, const char *format, const char *want, bool there)
{
    const struct substitution *f = NULL;
    struct error err = {0};
    struct substitution_opts o = {.use = SUBSTITUTION_LOG, .omit_empty = true};
    assert_int_equal(substitution_compile(sv_of(format), &o, &w->a, &f, &err), 0);
    struct strbuf b;
    strbuf_init(&b, 100000);
    assert_int_equal(substitution_eval_json(f, &w->c, &b), there);
    assert_string_equal(b.p, want);
    strbuf_fini(&b);
}

static void test_default_format(void **state)
{
    struct world w;
    world_init(&w);
    assert_text(&w, substitution_default_format.p,
                "[2016-12-15T15:07:07.871Z] \"GET /p/a?x=1&y=%20&z HTTP/1.1\" 200 - 5 77 14 7 "
                "\"-\" \"curl/8\" \"id-1\" \"books:80\" \"[fd00::1]:8080\"\n");
    arena_free(&w.a);
}

static void test_operators(void **state)
{
    static const struct {
        const char *format, *want;
    } cases[] = {
        {"", ""},
        {"100%%", "100%"},
        {"%REQ(:method)%", "GET"},
        {"%REQ(X-NONE?USER-AGENT)%", "curl/8"},
        {"%REQ(USER-AGENT):4%", "curl"},
        {"%REQ(:AUTHORITY):0%", ""},
        {"%REQ(host)%", "books:80"},
        {"%REQ_WITHOUT_QUERY(:PATH)%", "/p/a"},
        {"%QUERY_PARAM(x)%|%QUERY_PARAM(y)%|%QUERY_PARAM(q)%", "1|%20|-"},
        {"%RESP(:STATUS)% %RESP(nope)%", "200 -"},
        {"%TRAILER(X-T)% %TRAILER(nope?x-t):2%", "trail tr"},
        {"%PROTOCOL% %UPSTREAM_PROTOCOL%", "HTTP/1.1 HTTP/2"},
        {"%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%", "200 via_upstream"},
        {"%BYTES_RECEIVED% %BYTES_SENT%", "5 77"},
        {"%DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT%", "101 102"},
        {"%DOWNSTREAM_HEADER_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_SENT%", "103 104"},
        {"%UPSTREAM_WIRE_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_SENT%", "201 202"},
        {"%UPSTREAM_HEADER_BYTES_RECEIVED% %UPSTREAM_HEADER_BYTES_SENT%", "203 204"},
        {"%DURATION% %REQUEST_DURATION% %REQUEST_TX_DURATION%", "14 5 6"},
        {"%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "10 3"},
        {"%ROUNDTRIP_DURATION% %DOWNSTREAM_HANDSHAKE_DURATION%", "- -"},
        {"%UPSTREAM_CONNECTION_POOL_READY_DURATION%", "3"},
        {"%COMMON_DURATION(DS_RX_BEG:DS_TX_BEG:us)%", "11500"},
        {"%COMMON_DURATION(US_CX_BEG:US_HS_END:ms)%", "2"},
        {"%COMMON_DURATION(US_RX_END:US_RX_BEG:ns)%", "-"},
        {"%ROUTE_NAME% %VIRTUAL_HOST_NAME% %VIRTUAL_CLUSTER_NAME%", "default books:80 -"},
        {"%UPSTREAM_HOST% %UPSTREAM_HOST_NAME_WITHOUT_PORT%", "[fd00::1]:8080 fd00::1"},
        {"%UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%", "outbound|80||books outbound|80||books"},
        {"%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%",
         "10.0.0.2:50000 10.0.0.2 50000"},
        {"%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
         "[fd00::1]:8080 fd00::1 8080"},
        {"%UPSTREAM_CONNECTION_ID% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "33 2"},
        {"%UPSTREAM_TRANSPORT_FAILURE_REASON%", "-"},
        {"%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
         "10.0.0.1:4711 10.0.0.1"},
        {"%DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_DIRECT_REMOTE_PORT%", "4711 1"},
        {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
         "10.9.9.9:1 10.9.9.9"},
        {"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% "
         "%DOWNSTREAM_LOCAL_PORT%",
         "10.0.0.2:15006 10.0.0.2 15006"},
        {"%REQUESTED_SERVER_NAME%", "sni.example"},
        {"%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_TLS_CIPHER%", "- - -"},
        {"%DOWNSTREAM_PEER_CERT_V_START% %UPSTREAM_PEER_CERT_V_END(%s)%", "- -"},
        {"%RESPONSE_FLAGS%|%RESPONSE_FLAGS_LONG%", "-|-"},
        {"%CONNECTION_ID% %STREAM_ID% %TRACE_ID%", "9 - -"},
        {"%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%", "92 40 8"},
        {"%REQUEST_HEADER(USER-AGENT)% %RESPONSE_HEADER(:STATUS)% %RESPONSE_TRAILER(X-T)%",
         "curl/8 200 trail"},
        {"%UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT% %DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT%",
         "204 104"},
        {"%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%",
         "[fd00::1]:8080 fd00::1"},
        {"%ACCESS_LOG_TYPE% %LOCAL_REPLY_BODY%", "NotSet "},
        {"%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "- -"},
        {"%DYNAMIC_METADATA(ns:key)% %CLUSTER_METADATA(ns)%", "- -"},
        {"%FILTER_STATE(key)% %FILTER_STATE(key:PLAIN):3%", "- -"},
        {"%CONNECTION_TERMINATION_DETAILS%", "-"},
        {"%EMIT_TIME%", "2016-12-15T15:07:07.885Z"},
    };
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_text(&w, cases[i].format, cases[i].want);
    setenv("WEFT_TEST_ENV", "value", 1);
    assert_text(&w, "<%ENVIRONMENT(WEFT_TEST_ENV)%> <%ENVIRONMENT(WEFT_TEST_ENV):2%>",
                "<value> <va>");
    assert_text(&w, "%ENVIRONMENT(WEFT_TEST_NO_SUCH)%", "-");
    char host[300] = "";
    gethostname(host, 256);
    assert_text(&w, "%HOSTNAME%", host);
    w.c.log_type = "DownstreamEnd";
    w.c.local_reply_body = SV("oops");
    assert_text(&w, "%ACCESS_LOG_TYPE% %LOCAL_REPLY_BODY%", "DownstreamEnd oops");
    arena_free(&w.a);
}

static void test_failure_fields(void **state)
{
    struct world w;
    world_init(&w);
    w.si.flags = STREAM_FLAG_UF | STREAM_FLAG_URX;
    w.si.details = SV("upstream reset {a b}");
    w.si.upstream_failure = SV("TLS_error: SSL routines");
    w.si.termination_details = SV("rbac_access_denied_matched_policy[none]");
    assert_text(&w, "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
                "URX,UF UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
    assert_text(&w, "%RESPONSE_CODE_DETAILS%", "upstream_reset_{a_b}");
    assert_text(&w, "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "upstream reset {a b}");
    assert_text(&w, "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "TLS_error:_SSL_routines");
    assert_text(&w, "%CONNECTION_TERMINATION_DETAILS%", "rbac_access_denied_matched_policy[none]");
    arena_free(&w.a);
}

static void test_grpc(void **state)
{
    struct world w;
    world_init(&w);
    http_headers_add(&w.req.h, SV("content-type"), SV("application/grpc+proto"));
    assert_text(&w, "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%",
                "Unknown UNKNOWN 2");
    http_headers_add(&w.trailers, SV("grpc-status"), SV("5"));
    assert_text(&w, "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%",
                "NotFound NOT_FOUND 5");
    http_headers_set(&w.trailers, SV("grpc-status"), SV("99"));
    assert_text(&w, "%GRPC_STATUS%", "99");
    arena_free(&w.a);
}

static void test_metadata(void **state)
{
    struct world w;
    world_init(&w);
    stream_info_meta_set(&w.si, SV("ns"), SV("s"), SV("text \"x\""));
    stream_info_meta_set_number(&w.si, SV("ns"), SV("n"), 3);
    stream_info_meta_set_bool(&w.si, SV("ns"), SV("b"), true);
    stream_info_meta_set_json(
        &w.si, SV("ns"), SV("j"),
        SV("{\"a\":{\"b\":\"v\\u00e9\\n\",\"c\":[1,{\"x\":\"}\"}]},\"z\":4}"));
    assert_text(&w, "%DYNAMIC_METADATA(ns:s)%", "text \\\"x\\\"");
    assert_text(&w, "%DYNAMIC_METADATA(ns:s):6%", "text \\\"");
    assert_text(&w, "%DYNAMIC_METADATA(ns:n)% %METADATA(DYNAMIC:ns:b)%", "3 true");
    assert_text(&w, "%DYNAMIC_METADATA(ns:j:a:b)%", "v\xc3\xa9\\n");
    assert_text(&w, "%DYNAMIC_METADATA(ns:j:z)% %DYNAMIC_METADATA(ns:j:q)%", "4 -");
    assert_text(&w, "%DYNAMIC_METADATA(ns:s:deeper)% %DYNAMIC_METADATA(no)%", "- -");
    assert_json(&w, "%DYNAMIC_METADATA(ns:j:a)%", "{\"b\":\"v\\u00e9\\n\",\"c\":[1,{\"x\":\"}\"}]}",
                true);
    assert_json(&w, "%DYNAMIC_METADATA(ns:n)%", "3", true);
    assert_json(&w, "%DYNAMIC_METADATA(ns:b)%", "true", true);
    /* The older form, in header values alone. */
    char *got = text_of(&w, "%DYNAMIC_METADATA([\"ns\", \"j\",\"z\"])%", SUBSTITUTION_HEADER, true);
    assert_string_equal(got, "4");
    free(got);
    static const char *const wrong[] = {"%DYNAMIC_METADATA([\"ns\")%", "%DYNAMIC_METADATA([ns])%",
                                        "%DYNAMIC_METADATA([\"\"])%", "%DYNAMIC_METADATA([])%",
                                        "%DYNAMIC_METADATA([)%"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct substitution *f;
        struct error err = {0};
        struct substitution_opts o = {.use = SUBSTITUTION_HEADER};
        assert_int_equal(substitution_compile(sv_of(wrong[i]), &o, &w.a, &f, &err), E_INVALID);
    }
    stream_info_state_set(&w.si, SV("k"), NULL, SV("state"));
    assert_text(&w, "%FILTER_STATE(k)% %FILTER_STATE(k:TYPED):2%", "state st");
    arena_free(&w.a);
}

static sv fake_tls(const struct tls_info *t, enum substitution_tls_field f, struct arena *a)
{
    switch (f) {
    case SUBSTITUTION_TLS_VERSION:
        return SV("TLSv1.3");
    case SUBSTITUTION_TLS_PEER_URI_SAN:
        return SV("spiffe://td/ns/a/sa/b");
    case SUBSTITUTION_TLS_PEER_CERT_V_START:
        return SV("1481814427");
    default:
        return (sv){0};
    }
}

static sv fake_conn(const struct stream_conn *down, enum substitution_conn_field f, struct arena *a)
{
    return f == SUBSTITUTION_CONN_DIRECT_LOCAL        ? SV("10.0.0.3:15001")
           : f == SUBSTITUTION_CONN_FILTER_CHAIN_NAME ? SV("chain")
                                                      : (sv){0};
}

static void test_attempts(void **state)
{
    struct world w;
    world_init(&w);
    struct stream_attempt second = {NULL, SV("10.0.0.8:1"), {0}},
                          first = {&second, SV("10.0.0.7:1"), SV("seven")};
    w.si.attempted = &first;
    assert_text(&w, "%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_CONNECTION_IDS_ATTEMPTED%",
                "10.0.0.7:1,10.0.0.8:1,[fd00::1]:8080 33");
    w.si.up = NULL;
    assert_text(&w, "%UPSTREAM_HOST_NAMES_ATTEMPTED% %UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%",
                "seven,10.0.0.8:1 10.0.0.7,10.0.0.8");
    w.si.attempted = NULL;
    assert_text(&w, "%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_REMOTE_ADDRESS%", "- -");
    arena_free(&w.a);
}

static sv fake_metadata(const struct stream_info *si, enum substitution_metadata which, sv ns,
                        const sv *path, uint32_t n, struct arena *a)
{
    return which == SUBSTITUTION_META_ROUTE && n == 1 ? SV("\"from \\\"route\\\"\"") : (sv){0};
}

static void test_hooks(void **state)
{
    static const struct substitution_hooks h = {
        .tls = fake_tls, .metadata = fake_metadata, .conn = fake_conn};
    struct world w;
    world_init(&w);
    w.down.tls = (const struct tls_info *)&w;
    substitution_set_hooks(&h);
    assert_text(&w, "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN%",
                "TLSv1.3 spiffe://td/ns/a/sa/b");
    assert_text(&w, "%DOWNSTREAM_PEER_CERT_V_START% %DOWNSTREAM_PEER_CERT_V_START(%Y)%",
                "2016-12-15T15:07:07.000Z 2016");
    assert_text(&w,
                "%FILTER_CHAIN_NAME% %DOWNSTREAM_DIRECT_LOCAL_ADDRESS% "
                "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_LOCAL_PORT% "
                "%DOWNSTREAM_PEER_CHAIN_SERIALS%",
                "chain 10.0.0.3:15001 10.0.0.3 15001 -");
    assert_text(&w, "%UPSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_SUBJECT%", "- -");
    assert_text(&w, "%METADATA(ROUTE:ns:k)% %METADATA(CLUSTER:ns:k)%", "from \\\"route\\\" -");
    assert_json(&w, "%METADATA(ROUTE:ns:k)%", "\"from \\\"route\\\"\"", true);
    substitution_set_hooks(NULL);
    arena_free(&w.a);
}

static void test_times(void **state)
{
    static const struct {
        const char *format, *want;
    } cases[] = {
        {"%START_TIME(%s)%", "1481814427"},
        {"%START_TIME(%s.%3f)%", "1481814427.871"},
        {"%START_TIME(%f %1f %6f %9f)%", "871123456 8 871123 871123456"},
        {"%START_TIME(%Y/%m/%dT%H:%M:%S%z)%", "2016/12/15T15:07:07+0000"},
        {"%START_TIME(%E0S %E3S %E*S %Ez)%", "07 07.871 07.871123456 +00:00"},
        {"%START_TIME(%a, %d %b)%", "Thu, 15 Dec"},
        {"%START_TIME(%%s %)%", "%s %"},
    };
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_text(&w, cases[i].format, cases[i].want);
    /* The cache of the default format follows the clock, forwards and backwards. */
    w.si.start_wall_ns += 1000 * MS;
    assert_text(&w, "%START_TIME%", "2016-12-15T15:07:08.871Z");
    w.si.start_wall_ns -= 2000 * MS;
    assert_text(&w, "%START_TIME%", "2016-12-15T15:07:06.871Z");
    w.si.start_wall_ns = 0;
    assert_text(&w, "%START_TIME%", "1970-01-01T00:00:00.000Z");
    w.si.start_wall_ns = UINT64_MAX;
    free(text_of(&w, "%START_TIME% %START_TIME_LOCAL% %START_TIME(%c%E*S)%", SUBSTITUTION_LOG,
                 false));
    arena_free(&w.a);
}

/* Attack case 47: nothing a peer sends ends the line, closes the quotes or moves the terminal. */
static void test_escape(void **state)
{
    struct world w;
    world_init(&w);
    w.req.path = SV("/\r\n\"evil\" \\ \x1b[2J\t\x7f");
    assert_text(&w, "\"%REQ(:PATH)%\"\n", "\"/\\r\\n\\\"evil\\\" \\\\ \\x1b[2J\\t\\x7f\"\n");
    w.down.sni = sv_make("a\0b", 3);
    assert_text(&w, "%REQUESTED_SERVER_NAME%", "a\\x00b");
    w.down.sni = SV("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_text(&w, "%REQUESTED_SERVER_NAME%", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
    w.down.sni = SV("\xc2\x9b \xff \xc3 \xe0\x80\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xc0\xaf");
    assert_text(&w, "%REQUESTED_SERVER_NAME%",
                "\\xc2\\x9b \\xff \\xc3 \\xe0\\x80\\xaf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80 "
                "\\xc0\\xaf");
    assert_json(&w, "a %REQ(:METHOD)% %REQ(:PATH)%",
                "\"a GET /\\r\\n\\\"evil\\\" \\\\ \\u001b[2J\\t\\u007f\"", true);
    arena_free(&w.a);
}

static void test_json(void **state)
{
    struct world w;
    world_init(&w);
    assert_json(&w, "%RESPONSE_CODE%", "200", true);
    assert_json(&w, "x%RESPONSE_CODE%", "\"x200\"", true);
    assert_json(&w, "%PROTOCOL%", "\"HTTP/1.1\"", true);
    assert_json(&w, "%REQ(NOPE)%", "null", false);
    assert_json(&w, "%RESPONSE_FLAGS%", "\"-\"", true);
    assert_json(&w, "%DOWNSTREAM_REMOTE_PORT%", "4711", true);
    assert_json(&w, "constant", "\"constant\"", true);
    assert_json(&w, "", "\"\"", false);
    arena_free(&w.a);
}

static void test_header_values(void **state)
{
    struct world w;
    world_init(&w);
    w.req.path = SV("/a\r\nb\x01");
    const struct substitution *f = NULL;
    struct error err = {0};
    struct substitution_opts o = {.use = SUBSTITUTION_HEADER, .omit_empty = true};
    assert_int_equal(substitution_compile(SV("v=%REQ(:PATH)%%REQ(nope)%"), &o, &w.a, &f, &err), 0);
    assert_false(substitution_constant(f, &(sv){0}));
    sv v = substitution_eval_arena(f, &w.c, &w.a);
    assert_true(sv_eq_c(v, "v=/a__b_"));
    assert_int_equal(substitution_compile(SV("con%%stant"), &o, &w.a, &f, &err), 0);
    assert_true(substitution_constant(f, &v));
    assert_true(sv_eq_c(v, "con%stant"));
    assert_true(sv_eq_c(substitution_eval_arena(f, &w.c, &w.a), "con%stant"));
    assert_int_equal(substitution_compile(SV("%REQ(nope)%"), &o, &w.a, &f, &err), 0);
    assert_int_equal(substitution_eval_arena(f, &w.c, &w.a).n, 0);
    /* More operators than the stack has room for. */
    char many[2000] = "";
    for (int i = 0; i < 60; i++)
        strcat(many, "%BYTES_RECEIVED%,");
    assert_int_equal(substitution_compile(sv_of(many), &o, &w.a, &f, &err), 0);
    assert_int_equal(substitution_eval_arena(f, &w.c, &w.a).n, 120);
    char *omitted = text_of(&w, "<%REQ(nope)%>", SUBSTITUTION_LOG, true);
    assert_string_equal(omitted, "<>");
    free(omitted);
    arena_free(&w.a);
}

static void test_refused(void **state)
{
    static const struct {
        const char *format, *part;
    } cases[] = {
        {"a %FOO% b", "field: '%FOO%' is not an operator weft knows"},
        {"%REQ%", "'%REQ%' needs an argument"},
        {"%REQ()%", "names no header"},
        {"%REQ(a b)%", "names no header"},
        {"%REQ(A?)%", "names no header"},
        {"%REQ(A?B?C)%", "more than one alternative"},
        {"%REQ(A):x%", "is no %OPERATOR"},
        {"%REQ(A):%", "has no length"},
        {"%REQ(A):99999999999999999999%", "has no length"},
        {"%REQ(A)", "is no %OPERATOR"},
        {"%REQ(A", "has no ')'"},
        {"100%", "is no %OPERATOR"},
        {"% %", "is no %OPERATOR"},
        {"%protocol%", "is no %OPERATOR"},
        {"%PROTOCOL(x)%", "takes no argument"},
        {"%PROTOCOL:5%", "takes no length"},
        {"%START_TIME:5%", "takes no length"},
        {"%GRPC_STATUS(X)%", "CAMEL_STRING"},
        {"%RESPONSE_CODE_DETAILS(X)%", "ALLOW_WHITESPACES"},
        {"%COMMON_DURATION(A:B:ms)%", "START:END"},
        {"%COMMON_DURATION(DS_RX_BEG:DS_TX_BEG)%", "START:END"},
        {"%METADATA(X:a:b)%", "TYPE:NAMESPACE:KEY"},
        {"%METADATA(ROUTE)%", "TYPE:NAMESPACE:KEY"},
        {"%DYNAMIC_METADATA(a::b)%", "empty part"},
        {"%FILTER_STATE(k:FIELD:x)%", "PLAIN or TYPED"},
        {"%ENVIRONMENT()%", "needs a name"},
        {"%DOWNSTREAM_VERSION%", "not an operator"},
    };
    struct arena a;
    arena_init(&a);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct substitution *f = NULL;
        struct error err = {0};
        struct substitution_opts o = {.use = SUBSTITUTION_LOG, .path = "field"};
        assert_int_equal(substitution_compile(sv_of(cases[i].format), &o, &a, &f, &err), E_INVALID);
        if (!strstr(err.msg, cases[i].part) || strncmp(err.msg, "field: ", 7) != 0)
            fail_msg("%s: '%s' lacks '%s'", cases[i].format, err.msg, cases[i].part);
        assert_null(f);
    }
    arena_free(&a);
}

/* A stream of which nothing is known, and one of TCP. */
static void test_nothing_there(void **state)
{
    struct world w;
    memset(&w, 0, sizeof(w));
    arena_init(&w.a);
    stream_info_init(&w.si, &w.a);
    w.c.si = &w.si;
    assert_text(&w, substitution_default_format.p,
                "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - 0 0 - - \"-\" \"-\" \"-\" \"-\" \"-\"\n");
    assert_text(&w, "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %UPSTREAM_LOCAL_ADDRESS%",
                "- - -");
    assert_text(&w, "%TRAILER(a)% %TRACE_ID% %GRPC_STATUS% %CONNECTION_ID%", "- - - -");
    char *id = text_of(&w, "%UNIQUE_ID%", SUBSTITUTION_LOG, false);
    assert_int_equal(strlen(id), 36);
    assert_int_equal(id[14], '4');
    free(id);
    arena_free(&w.a);
}

static void test_path_and_query(void **state)
{
    struct world w;
    world_init(&w);
    w.req.path = SV("/new?a=%41%20%7f&b=%4");
    assert_text(&w, "%PATH% %PATH(NQ)% %PATH(WQ:ORIG)% %PATH(NQ:PATH):2%",
                "/new?a=%41%20%7f&b=%4 /new - /n");
    assert_text(&w, "%QUERY_PARAMS% %QUERY_PARAMS(DECODED)% %QUERY_PARAM(a)%",
                "a=%41%20%7f&b=%4 a=A%20%7f&b=%4 A%20%7f");
    http_headers_add(&w.req.h, SV("x-envoy-original-path"), SV("/old?x"));
    assert_text(&w, "%PATH% %PATH(NQ)% %PATH(WQ:PATH):4%", "/old?x /old /new");
    w.req.path = SV("/");
    assert_text(&w, "%QUERY_PARAMS% %SPAN_ID%", "- -");
    w.si.span_id = SV("a2fb4a1d1a96d312");
    assert_text(&w, "%SPAN_ID%", "a2fb4a1d1a96d312");
    arena_free(&w.a);
}

static void test_trace_id(void **state)
{
    struct world w;
    world_init(&w);
    http_headers_add(&w.req.h, SV("b3"), SV("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"));
    assert_text(&w, "%TRACE_ID%", "80f198ee56343ba864fe8b2a57d3eff7");
    http_headers_add(&w.req.h, SV("x-b3-traceid"), SV("463ac35c9f6413ad"));
    assert_text(&w, "%TRACE_ID%", "463ac35c9f6413ad");
    http_headers_add(&w.req.h, SV("traceparent"),
                     SV("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_text(&w, "%TRACE_ID%", "0af7651916cd43dd8448eb211c80319c");
    http_headers_set(&w.req.h, SV("traceparent"), SV("00-x"));
    assert_text(&w, "%TRACE_ID%", "463ac35c9f6413ad");
    arena_free(&w.a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_format), cmocka_unit_test(test_operators),
        cmocka_unit_test(test_failure_fields), cmocka_unit_test(test_grpc),
        cmocka_unit_test(test_metadata),       cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_attempts),       cmocka_unit_test(test_times),
        cmocka_unit_test(test_escape),         cmocka_unit_test(test_json),
        cmocka_unit_test(test_header_values),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nothing_there),  cmocka_unit_test(test_path_and_query),
        cmocka_unit_test(test_trace_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
