#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "tls/tls_secret.h"
#include <time.h>
#include "upstream/testing_rig.h"

/* Certificates are checked, and so to be made, on simulated time. */
static struct rig rig;
static time_t simulated_time(time_t *unused)
{
    return (time_t)(loop_wall_ns(rig.main) / 1000000000u);
}
#define time simulated_time
#include "tls/tls_testlib.h"

#define TLS_SOCKET(inner)                                                                          \
    "{name: tls, typed_config: {'@type': "                                                         \
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, " inner     \
    "}}"
#define SDS                                                                                        \
    "common_tls_context: {tls_certificate_sds_secret_configs: [{name: default}], "                 \
    "combined_validation_context: {default_validation_context: {match_typed_subject_alt_names: "   \
    "[{san_type: URI, matcher: {exact: 'spiffe://td/ns/a/sa/server'}}]}, "                         \
    "validation_context_sds_secret_config: {name: ROOTCA}}}"
#define EP(ip, more)                                                                               \
    "{endpoint: {hostname: host.test, address: {socket_address: {address: " ip ", port_value: "    \
    "80}}}" more "}"
#define CLUSTER(eps, more)                                                                         \
    "{name: c, connect_timeout: 1s, load_assignment: {cluster_name: c, endpoints: "                \
    "[{lb_endpoints: [" eps "]}]}" more "}"
#define HTTP(inner)                                                                                \
    ", typed_extension_protocol_options: "                                                         \
    "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: "                                    \
    "{'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, " inner \
    "}}"

static struct backend *b1, *b2;
static struct tt_ca ca;
static struct tt_cert client_cert;

static int setup(void **state)
{
    rig_init(&rig, 3);
    tt_ca_init(&ca, NULL, "root");
    tt_cert_init(&client_cert, &ca, "spiffe://td/ns/a/sa/client");
    rig_start(&rig);
    b1 = rig_backend(&rig, "10.0.1.1", 80);
    b2 = rig_backend(&rig, "10.0.1.2", 80);
    return 0;
}

static int teardown(void **state)
{
    rig_fini(&rig);
    tt_cert_fini(&client_cert);
    tt_ca_fini(&ca);
    return 0;
}

static void serve_tls(struct backend *b, const char *name, bool mutual, const char *alpn)
{
    struct error err = {0};
    struct tt_cert cert;
    sv protocols[1] = {sv_of(alpn)};
    struct tls_validation v = {.ca_pem = strbuf_sv(&ca.pem)};
    tt_cert_init(&cert, &ca, name);
    struct tls_ctx_opts o = {.server = true,
                             .certs = &cert.opts,
                             .n_certs = 1,
                             .validation = mutual ? &v : NULL,
                             .client_auth = mutual ? TLS_CLIENT_REQUIRE : TLS_CLIENT_NONE,
                             .alpn = protocols,
                             .n_alpn = alpn ? 1 : 0};
    b->tls = tls_ctx_new(&o, &err);
    assert_non_null(b->tls);
    tt_cert_fini(&cert);
}

static void give_secrets(void)
{
    struct error err = {0};
    struct tls_validation v = {.ca_pem = strbuf_sv(&ca.pem)};
    assert_int_equal(
        tls_secret_store_set_cert(rig.secrets, SV("default"), (sv){0}, &client_cert.opts, 1, &err),
        0);
    assert_int_equal(
        tls_secret_store_set_validation(rig.secrets, SV("ROOTCA"), (sv){0}, &v, 1, &err), 0);
}

static void mutual_tls_by_sds(void **state)
{
    struct req q;
    serve_tls(b1, "spiffe://td/ns/a/sa/server", true, "http/1.1");
    assert_int_equal(
        rig_put(&rig, CLUSTER(EP("10.0.1.1", ""), ", transport_socket: " TLS_SOCKET(SDS))), 0);
    assert_false(cluster_manager_warm(rig.cm, SV("c")));
    give_secrets();
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    rig_run_ms(&rig, 1);
    for (int i = 0; i < 3; i++) {
        req_run(&rig, &q, "c");
        if (q.failed)
            fail_msg("%s", q.details);
        assert_int_equal(q.status, 200);
        req_end(&q);
    }
    assert_int_equal(b1->n_conns, 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.handshake"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.session_reused"), 0);
    backend_close_all(b1, false);
    rig_run_ms(&rig, 10);
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.handshake"), 2);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.session_reused"), 1);
    /* A new certificate is for new connections. */
    tt_cert_fini(&client_cert);
    tt_cert_init(&client_cert, &ca, "spiffe://td/ns/a/sa/client");
    uint64_t conn = q.conn_id;
    give_secrets();
    rig_run_ms(&rig, 10);
    req_run(&rig, &q, "c");
    assert_int_equal(q.conn_id, conn);
    req_end(&q);
}

static void many_requests_wait_for_the_first_context(void **state)
{
    struct req q[10];
    give_secrets();
    serve_tls(b1, "spiffe://td/ns/a/sa/server", true, "h2");
    b1->http2 = true;
    rig_put_ok(&rig, CLUSTER(EP("10.0.1.1", ""), ", transport_socket: " TLS_SOCKET(SDS)
                                                     HTTP("explicit_http_config: "
                                                          "{http2_protocol_options: {}}")));
    for (int i = 0; i < 10; i++)
        req_start(&rig, &q[i], "c");
    rig_run_ms(&rig, 100);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(q[i].status, 200);
        req_end(&q[i]);
    }
    assert_int_equal(b1->n_conns, 1);
}

static void secrets_that_never_come(void **state)
{
    struct req q;
    assert_int_equal(
        rig_put(&rig, CLUSTER(EP("10.0.1.1", ""), ", transport_socket: " TLS_SOCKET(SDS))), 0);
    rig_run_ms(&rig, 15100);
    assert_true(cluster_manager_warm(rig.cm, SV("c")));
    req_run(&rig, &q, "c");
    assert_true(q.failed);
    assert_int_equal(q.why, UPSTREAM_FAIL_CONNECT);
    assert_string_equal(q.details, "TLS_error:Secret is not supplied by SDS");
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.upstream_context_secrets_not_ready"), 1);
    give_secrets();
    serve_tls(b1, "spiffe://td/ns/a/sa/server", true, "http/1.1");
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
}

static void the_wrong_peer(void **state)
{
    struct req q;
    give_secrets();
    serve_tls(b1, "spiffe://td/ns/evil/sa/server", true, "http/1.1");
    rig_put_ok(&rig, CLUSTER(EP("10.0.1.1", ""), ", transport_socket: " TLS_SOCKET(SDS)));
    req_run(&rig, &q, "c");
    assert_true(q.failed);
    assert_int_equal(q.why, UPSTREAM_FAIL_CONNECT);
    assert_non_null(strstr(q.details, "CERTIFICATE_VERIFY_FAILED"));
    req_end(&q);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.fail_verify_san"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.handshake"), 0);
    assert_int_equal(b1->n_requests, 0);
}

/* Istio's auto mTLS: TLS to endpoints whose metadata says so, plain text to the others. */
static void sockets_by_metadata(void **state)
{
    struct req q;
    give_secrets();
    serve_tls(b1, "spiffe://td/ns/a/sa/server", true, "http/1.1");
    rig_put_ok(
        &rig,
        CLUSTER(EP("10.0.1.1",
                   ", metadata: {filter_metadata: "
                   "{envoy.transport_socket_match: {tlsMode: istio}}}") ", " EP("10.0.1.2", ""),
                ", transport_socket_matches: [{name: tlsMode-istio, match: {tlsMode: "
                "istio}, transport_socket: " TLS_SOCKET(
                    SDS) "}, {name: tlsMode-disabled, match: {}, transport_socket: {name: "
                         "envoy.transport_sockets.raw_buffer, typed_config: {'@type': "
                         "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3."
                         "RawBuffer}}}]"));
    for (int i = 0; i < 4; i++) {
        req_run(&rig, &q, "c");
        assert_int_equal(q.status, 200);
        req_end(&q);
    }
    assert_int_equal(b1->n_requests, 2);
    assert_int_equal(b2->n_requests, 2);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.handshake"), 1);
}

/* An endpoint that learns TLS is another host: what is up in plain text is not used any more. */
static void a_new_socket_is_a_new_host(void **state)
{
    struct req q;
    const char *cluster = "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, "
                          "transport_socket_matches: [{name: t, match: {tlsMode: istio}, "
                          "transport_socket: " TLS_SOCKET(SDS) "}]}";
    give_secrets();
    rig_put_ok(&rig, cluster);
    rig_endpoints_ok(&rig,
                     "{cluster_name: c, endpoints: [{lb_endpoints: [" EP("10.0.1.1", "") "]}]}");
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
    serve_tls(b1, "spiffe://td/ns/a/sa/server", true, "http/1.1");
    rig_endpoints_ok(&rig,
                     "{cluster_name: c, endpoints: [{lb_endpoints: [" EP(
                         "10.0.1.1", ", metadata: {filter_metadata: "
                                     "{envoy.transport_socket_match: {tlsMode: istio}}}") "]}]}");
    rig_run_ms(&rig, 10);
    req_run(&rig, &q, "c");
    assert_int_equal(q.status, 200);
    req_end(&q);
    assert_int_equal(b1->n_conns, 2);
    assert_int_equal(b1->open_conns, 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.ssl.handshake"), 1);
}

static void the_handshake_settles_the_protocol(void **state)
{
    struct req q;
    char ca_yaml[8192], yaml[12000];
    size_t n = 0;
    for (size_t i = 0; i < ca.pem.n; i++) { /* PEM as a double-quoted scalar */
        if (ca.pem.p[i] == '\n')
            n += (size_t)snprintf(ca_yaml + n, sizeof ca_yaml - n, "\\n");
        else
            ca_yaml[n++] = ca.pem.p[i];
    }
    ca_yaml[n] = 0;
    serve_tls(b1, "a.test", false, "h2");
    b1->http2 = true;
    serve_tls(b2, "a.test", false, "http/1.1");
    snprintf(yaml, sizeof yaml,
             CLUSTER(EP("10.0.1.1", "") ", " EP("10.0.1.2", ""),
                     ", transport_socket: " TLS_SOCKET(
                         "sni: a.test, common_tls_context: {validation_context: {trusted_ca: "
                         "{inline_string: \"%s\"}}}") HTTP("auto_config: {}")),
             ca_yaml);
    rig_put_ok(&rig, yaml);
    for (int i = 0; i < 6; i++) {
        req_run(&rig, &q, "c");
        if (q.failed)
            fail_msg("%s", q.details);
        assert_int_equal(q.status, 200);
        req_end(&q);
    }
    assert_int_equal(b1->n_requests, 3);
    assert_int_equal(b2->n_requests, 3);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_http1_total"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_http2_total"), 1);
}

static void server_names_have_pools_of_their_own(void **state)
{
    struct req q;
    static const char *const names[] = {"a.test", "b.test:443", "a.test:8080", "10.0.0.1"};
    give_secrets();
    serve_tls(b1, "a.test", false, "http/1.1");
    rig_put_ok(&rig, CLUSTER(EP("10.0.1.1", ""),
                             ", transport_socket: " TLS_SOCKET(
                                 "common_tls_context: {validation_context_sds_secret_config: "
                                 "{name: ROOTCA}}")
                                 HTTP("explicit_http_config: {http_protocol_options: {}}, "
                                      "upstream_http_protocol_options: {auto_sni: true, "
                                      "auto_san_validation: true}")));
    for (int i = 0; i < 4; i++) {
        q = (struct req){.ctx.sni_override = sv_of(names[i])};
        req_go(&rig, &q, "c");
        rig_run_ms(&rig, 50);
        if (i == 1) {
            assert_true(q.failed); /* the certificate is for a.test */
            assert_non_null(strstr(q.details, "VERIFY_FAILED"));
        } else {
            assert_int_equal(q.status, 200);
        }
        req_end(&q);
    }
    assert_int_equal(b1->n_conns, 3); /* a.test with and without port is one name */
}

/* ---- TCP ---- */

struct tcp {
    struct conn *c;
    struct upstream_host *host;
    bool failed;
    enum upstream_fail why;
    char details[128];
};

static void tcp_event(struct conn *c, unsigned events, void *user)
{
}

static void tcp_ready(void *user, struct conn *c, struct upstream_host *host)
{
    struct tcp *t = user;
    t->c = c;
    t->host = host;
    conn_set_owner(c, tcp_event, t);
}

static void tcp_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct tcp *t = user;
    t->failed = true;
    t->why = why;
    snprintf(t->details, sizeof t->details, "%.*s", SV_ARG(details));
}

static const struct upstream_tcp_cb tcp_cb = {tcp_ready, tcp_fail};

static void tcp_connections(void **state)
{
    struct tcp t[3] = {{0}};
    struct upstream_ctx ctx = {0};
    rig_put_ok(&rig, CLUSTER(EP("10.0.1.1", ""),
                             ", circuit_breakers: {thresholds: [{max_connections: 2}]}"));
    struct upstream_cluster *c = upstream_find(rig.worker, SV("c"));
    for (int i = 0; i < 3; i++)
        upstream_tcp_open(c, &ctx, &tcp_cb, &t[i]);
    assert_true(t[2].failed);
    assert_int_equal(t[2].why, UPSTREAM_FAIL_OVERFLOW);
    rig_run_ms(&rig, 10);
    assert_non_null(t[0].c);
    assert_non_null(t[1].c);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 2);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_overflow"), 1);
    struct buf out;
    buf_init(&out);
    buf_append(&out, "hello", 5);
    assert_int_equal(conn_write(t[0].c, &out), 5);
    upstream_tcp_finished(t[0].host, t[0].c, true);
    conn_close(t[0].c);
    conn_close(t[1].c);
    upstream_tcp_done(t[1].host);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_active"), 0);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_tx_bytes_total"), 5);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_destroy_remote"), 1);
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_cx_destroy_local"), 1);
    /* Cancelled, refused. */
    struct tcp d = {0};
    struct upstream_open *o = upstream_tcp_open(c, &ctx, &tcp_cb, &d);
    upstream_cancel(o);
    rig_run_ms(&rig, 10);
    assert_null(d.c);
    assert_false(d.failed);
    backend_stop_listening(b1);
    upstream_tcp_open(c, &ctx, &tcp_cb, &d);
    rig_run_ms(&rig, 10);
    assert_true(d.failed);
    assert_int_equal(d.why, UPSTREAM_FAIL_CONNECT);
    assert_non_null(strstr(d.details, "refused"));
    assert_int_equal(rig_stat(&rig, "cluster.c.upstream_rq_pending_active"), 0);
    upstream_cluster_unref(c);
}

static void tcp_over_tls(void **state)
{
    struct tcp t = {0};
    struct upstream_ctx ctx = {0};
    give_secrets();
    serve_tls(b1, "spiffe://td/ns/a/sa/server", true, NULL);
    rig_put_ok(&rig, CLUSTER(EP("10.0.1.1", ""), ", transport_socket: " TLS_SOCKET(SDS)));
    struct upstream_cluster *c = upstream_find(rig.worker, SV("c"));
    upstream_tcp_open(c, &ctx, &tcp_cb, &t);
    rig_run_ms(&rig, 50);
    assert_non_null(t.c);
    assert_non_null(t.c->tls);
    assert_true(sv_eq(tls_info_peer_identity(t.c->tls), SV("spiffe://td/ns/a/sa/server")));
    upstream_tcp_finished(t.host, t.c, false);
    conn_close(t.c);
    upstream_cluster_unref(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(mutual_tls_by_sds),
        T(many_requests_wait_for_the_first_context),
        T(secrets_that_never_come),
        T(the_wrong_peer),
        T(sockets_by_metadata),
        T(a_new_socket_is_a_new_host),
        T(the_handshake_settles_the_protocol),
        T(server_names_have_pools_of_their_own),
        T(tcp_connections),
        T(tcp_over_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
