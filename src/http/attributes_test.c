/* What expressions are told about a stream; what there is not. The same beside Envoy: the corpus'
 * expressions.yaml. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/attributes.h"

static struct arena a;
static struct stream_info si;
static struct stream_conn down, up;
static struct http_head req, resp;

static sv fake_tls(const struct tls_info *tls, enum substitution_tls_field f, struct arena *arena)
{
    (void)arena;
    if (tls != (const void *)&down && f == SUBSTITUTION_TLS_PEER_FINGERPRINT_256)
        return (sv){0};
    switch (f) {
    case SUBSTITUTION_TLS_VERSION:
        return SV("TLSv1.3");
    case SUBSTITUTION_TLS_PEER_URI_SAN:
        return SV("spiffe://a/b,spiffe://c");
    case SUBSTITUTION_TLS_PEER_SUBJECT:
        return SV("CN=peer");
    case SUBSTITUTION_TLS_PEER_FINGERPRINT_256:
        return SV("abcd");
    default:
        return (sv){0};
    }
}

static sv fake_metadata(const struct stream_info *s, enum substitution_metadata which, sv ns,
                        const sv *path, uint32_t n, struct arena *arena)
{
    (void)s;
    (void)path;
    (void)arena;
    if (which != SUBSTITUTION_META_ROUTE || n || !sv_eq(ns, SV("m")))
        return (sv){0};
    return SV("{\"k\":\"v\",\"n\":[1,2.5]}");
}

static int setup(void **state)
{
    static const struct substitution_hooks hooks = {fake_tls, fake_metadata};
    (void)state;
    substitution_set_hooks(&hooks);
    arena_init(&a);
    stream_info_init(&si, &a);
    http_head_init(&req, &a);
    http_head_init(&resp, &a);
    req.method = SV("GET");
    req.path = SV("/a?b=c");
    req.authority = SV("h");
    req.scheme = SV("http");
    http_headers_add(&req.h, SV("x-a"), SV("1"));
    http_headers_add(&req.h, SV("x-a"), SV("2"));
    resp.status = 200;
    http_headers_add(&resp.h, SV("grpc-status"), SV("7"));
    down = (struct stream_conn){.id = 9,
                                .local = SV("10.0.0.2:80"),
                                .remote = SV("10.0.0.1:4711"),
                                .sni = SV("sni.test"),
                                .tls = (const void *)&down};
    up = (struct stream_conn){.local = SV("10.0.0.2:5"), .tls = (const void *)&up};
    si.down = &down;
    si.up = &up;
    si.req = &req;
    si.resp = &resp;
    si.response_code = 200;
    si.bytes_received = 5;
    si.bytes_sent = 10;
    si.start_ns = 1000;
    si.request_end_ns = 2500;
    si.upstream_first_tx_ns = 3000;
    si.upstream_last_rx_ns = 1003000;
    si.upstream_host = SV("10.0.0.3:8080");
    si.attempts = 2;
    si.route = &si;
    stream_info_meta_set(&si, SV("f"), SV("s"), SV("text"));
    stream_info_meta_set_number(&si, SV("f"), SV("n"), 3);
    stream_info_meta_set_bool(&si, SV("f"), SV("b"), true);
    stream_info_meta_set_json(&si, SV("f"), SV("j"), SV("{\"x\":[true,null]}"));
    stream_info_state_set(&si, SV("key"), &si, SV("state"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    substitution_set_hooks(NULL);
    arena_free(&a);
    return 0;
}

static void expect(const char *text, const char *want)
{
    static const struct cel_opts o = {.check = attributes_check};
    struct error err = {0};
    const struct cel *c = NULL;
    struct strbuf out;
    if (cel_compile(sv_of(text), &o, &a, &c, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    struct substitution_ctx ctx = {.si = &si};
    struct cel_value v = attributes_eval(c, &ctx);
    strbuf_init(&out, 1000);
    cel_print(&v, &out);
    if (!sv_eq_c(v.type == CEL_ERROR ? SV("-") : strbuf_sv(&out), want))
        fail_msg("%s is '%.*s', not '%s'", text, SV_ARG(strbuf_sv(&out)), want);
    strbuf_fini(&out);
}

static void test_values(void **state)
{
    (void)state;
    expect("request.headers['X-A']", "1,2");
    expect("request.headers[':path']", "/a?b=c");
    expect("size(request.headers)", "6");
    expect("request.headers_bytes", "51"); /* four that begin with ':', and two */
    expect("request.total_size", "56");
    expect("request.duration", "1.5us");
    expect("response.backend_latency", "1ms");
    expect("response.headers[':status']", "200");
    expect("response.headers_bytes", "22");
    expect("response.grpc_status", "7");
    expect("source.address + destination.address", "-");
    expect("source.port + destination.port", "4791");
    expect("connection.id", "9");
    expect("connection.requested_server_name", "sni.test");
    expect("upstream.address", "10.0.0.3:8080");
    expect("upstream.port", "8080");
    expect("upstream.local_address", "10.0.0.2:5");
    expect("upstream.request_attempt_count == 2u", "true");
    expect("filter_state.key == b'state'", "true");
    expect("has(filter_state.none)", "false");
}

static void test_tls(void **state)
{
    (void)state;
    expect("connection.mtls", "true");
    expect("connection.tls_version", "TLSv1.3");
    expect("connection.uri_san_peer_certificate", "spiffe://a/b");
    expect("connection.subject_peer_certificate", "CN=peer");
    expect("connection.subject_local_certificate", "");
    expect("connection.sha256_peer_certificate_digest", "abcd");
    expect("has(connection.dns_san_peer_certificate)", "false");
    expect("upstream.tls_version", "TLSv1.3");
    down.tls = NULL;
    expect("connection.mtls", "false");
    expect("connection.tls_version", "-");
}

static void test_metadata(void **state)
{
    (void)state;
    expect("metadata.filter_metadata['f'].s", "text");
    expect("metadata.filter_metadata.f.n + 0.5", "3.5");
    expect("metadata.filter_metadata.f.b", "true");
    expect("metadata.filter_metadata.f.j.x[0]", "true");
    expect("metadata.filter_metadata.f.j.x[1] == null", "true");
    expect("has(metadata.filter_metadata.g)", "false");
    expect("xds.route_metadata.filter_metadata['m'].n[1]", "2.5");
    expect("'x' in xds.route_metadata.filter_metadata", "false");
    expect("xds.virtual_host_metadata.filter_metadata['m']", "-");
    expect("xds.cluster_metadata", "-");
}

/* The numbers are those of Envoy's flags. */
static void test_flags(void **state)
{
    static const struct {
        uint64_t flags;
        const char *number;
    } table[] = {{0, "0"},
                 {STREAM_FLAG_LH, "1"},
                 {STREAM_FLAG_UH, "2"},
                 {STREAM_FLAG_UF, "32"},
                 {STREAM_FLAG_NR, "256"},
                 {STREAM_FLAG_DC, "16384"},
                 {STREAM_FLAG_URX, "32768"},
                 {STREAM_FLAG_SI, "65536"},
                 {STREAM_FLAG_URX | STREAM_FLAG_UF, "32800"},
                 {STREAM_FLAG_UDO, "536870912"}};
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        si.flags = table[i].flags;
        expect("response.flags", table[i].number);
    }
}

/* A TCP connection's log, or a request that broke off. */
static void test_nothing_there(void **state)
{
    (void)state;
    stream_info_init(&si, &a);
    expect("request.path", "-");
    expect("request.headers['x']", "-");
    expect("size(request.headers)", "0");
    expect("'x' in response.trailers", "false");
    expect("has(response.code)", "false");
    expect("request.protocol", "-");
    expect("source.address", "-");
    expect("connection.id", "-");
    expect("connection.mtls", "false");
    expect("upstream.port", "-");
    expect("metadata.filter_metadata['f']", "-");
    expect("xds.route_name", "-");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_values), TEST(test_tls), TEST(test_metadata),
                                       TEST(test_flags), TEST(test_nothing_there)};
    return cmocka_run_group_tests_name("attributes", tests, NULL, NULL);
}
