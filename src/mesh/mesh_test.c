/* From a directory of YAML to resources: sources, model, checks and translation together. */
#include "mesh/mesh_testlib.h"

static void test_model(void **state)
{
    struct fixture *f = *state;
    const struct model_service *svc = model_service_find(f->m, SV(FLASK));
    const struct model_endpoints *eps = model_endpoints_find(f->m, SV(FLASK), 80);

    assert_int_equal(f->m->n_problems, 0);
    assert_non_null(svc);
    assert_true(sv_starts(svc->vip, SV("240.240.")));
    assert_int_equal(eps->n, 2);
    assert_true(sv_eq(eps->v[0].address, SV("10.0.0.1")));
    assert_int_equal(eps->v[0].port, 8080);
    assert_true(eps->v[0].tls);
    assert_true(sv_eq(model_host_resolve(f->m, SV("flaskapp"), SV("books"), &f->a), SV(FLASK)));
    assert_true(sv_eq(model_host_resolve(f->m, SV("flaskapp.books"), SV("x"), &f->a), SV(FLASK)));
    assert_true(sv_eq(model_host_resolve(f->m, SV("www.x.org"), SV("x"), &f->a), SV("www.x.org")));
}

static void test_protocols(void **state)
{
    const struct {
        const char *app, *name;
        enum model_protocol p;
    } cases[] = {
        {"", "http", MODEL_HTTP},         {"", "http-web", MODEL_HTTP}, {"", "https", MODEL_HTTPS},
        {"", "grpc-web", MODEL_GRPC_WEB}, {"", "grpc-x", MODEL_GRPC},   {"", "web", MODEL_AUTO},
        {"http2", "tcp", MODEL_HTTP2},    {"", "httpx", MODEL_AUTO},    {"", "", MODEL_AUTO},
        {"", "mysql", MODEL_TCP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(model_protocol_of(sv_of(cases[i].app), sv_of(cases[i].name), SV("TCP")),
                         cases[i].p);
    assert_int_equal(model_protocol_of(SV("http"), SV("http"), SV("UDP")), MODEL_UDP);
}

static void test_clusters(void **state)
{
    struct fixture *f = *state;
    clusters(f);
    assert_true(has(f, "outbound|80||" FLASK));
    assert_true(has(f, "outbound|80|subset-v1|" FLASK));
    assert_true(has(f, "outbound|80|subset-v2|" FLASK));
    assert_true(has(f, "outbound|3306||db.books.svc.cluster.local"));
    assert_true(has(f, "outbound_.80_.subset-v1_." FLASK));
    assert_true(has(f, "spiffe://cluster.local/ns/books/sa/v1"));
    assert_true(has(f, "PassthroughCluster"));
    assert_true(has(f, "BlackHoleCluster"));
    assert_false(has(f, "inbound|"));
    f->proxy.ip = SV("10.0.0.1");
    clusters(f);
    assert_true(has(f, "inbound|8080||"));
}

static void test_endpoints(void **state)
{
    struct fixture *f = *state;
    assert_true(endpoints(f, "outbound|80||" FLASK));
    assert_true(has(f, "10.0.0.1") && has(f, "10.0.0.2"));
    assert_true(endpoints(f, "outbound|80|subset-v2|" FLASK));
    assert_true(!has(f, "10.0.0.1") && has(f, "10.0.0.2") && has(f, "tlsMode"));
    assert_true(endpoints(f, "outbound|3306||db.books.svc.cluster.local"));
    assert_true(has(f, "10.0.0.3") && !has(f, "tlsMode"));
    assert_false(endpoints(f, "outbound|80|none|" FLASK));
    assert_false(endpoints(f, "outbound|81||" FLASK));
    assert_false(endpoints(f, "nonsense"));
}

/* A pod that terminates gets nothing new while another is ready; the last one is used. */
static void test_draining(void **state)
{
    struct fixture *f = *state;
    const char *slice = "apiVersion: v1\nkind: Service\n"
                        "metadata: {name: slow, namespace: books}\n"
                        "spec: {clusterIP: 10.1.3.3, ports: [{name: http, port: 80}]}\n---\n"
                        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
                        "metadata: {name: slow-a, namespace: books,\n"
                        "  labels: {kubernetes.io/service-name: slow}}\n"
                        "addressType: IPv4\nports: [{name: http, port: 80}]\nendpoints:\n"
                        "- {addresses: [10.0.9.1],\n"
                        "   conditions: {ready: false, serving: true, terminating: true}}\n"
                        "- {addresses: [10.0.9.2], conditions: {ready: %s}}\n";
    char text[2000];

    snprintf(text, sizeof text, slice, "true");
    write_file(f, "slow.yaml", text);
    rebuild(f);
    assert_true(endpoints(f, "outbound|80||slow.books.svc.cluster.local"));
    assert_true(has(f, "\"DRAINING\""));
    snprintf(text, sizeof text, slice, "false");
    write_file(f, "slow.yaml", text);
    rebuild(f);
    assert_true(endpoints(f, "outbound|80||slow.books.svc.cluster.local"));
    assert_true(has(f, "10.0.9.1"));
    assert_false(has(f, "\"DRAINING\""));
}

static void test_listeners(void **state)
{
    struct fixture *f = *state;
    f->proxy.ip = SV("10.0.0.1");
    listeners(f);
    assert_true(has(f, "virtualOutbound") && has(f, "virtualInbound"));
    assert_true(has(f, "\n0.0.0.0_80 "));
    assert_true(has(f, "\n10.1.2.3_3306 "));
    assert_true(has(f, "\n10.1.2.3_9000 "));
    assert_true(has(f, "\"route_config_name\":\"80\""));
    assert_true(has(f, "inbound|8080||"));
    assert_true(has(f, "\"route_config_name\":\"db.books.svc.cluster.local:9000\""));
}

static void test_routes(void **state)
{
    struct fixture *f = *state;
    char *jason, *rest;
    routes(f, "80");
    jason = strstr(f->json.p, "\"name\":\"books/flaskapp-policy/http[0]\"");
    rest = strstr(f->json.p, "\"name\":\"books/flaskapp-policy/http[1]\"");
    assert_true(jason && rest && jason < rest);
    assert_true(has(f, "\"cluster\":\"outbound|80|subset-v2|" FLASK "\""));
    assert_true(has(f, "\"domains\":[\"" FLASK "\",\"flaskapp\",\"flaskapp.books\""));
    assert_true(has(f, "allow_any"));
    f->proxy.ns = SV("other");
    routes(f, "80");
    assert_true(has(f, "\"domains\":[\"" FLASK "\",\"flaskapp.books\""));
}

static void test_weights_change(void **state)
{
    struct fixture *f = *state;
    char *text = strdup(books()), *vs = strstr(text, "apiVersion: networking.istio.io/v1beta1");
    *vs = 0;
    write_file(f, "books.yaml", text);
    write_file(f, "vs.yaml",
               "apiVersion: networking.istio.io/v1\n"
               "kind: VirtualService\n"
               "metadata: {name: flaskapp-policy, namespace: books}\n"
               "spec:\n"
               "  hosts: [flaskapp]\n"
               "  http:\n"
               "  - name: split\n"
               "    route:\n"
               "    - {destination: {host: flaskapp, subset: subset-v1}, weight: 90}\n"
               "    - {destination: {host: flaskapp, subset: subset-v2}, weight: 10}\n");
    free(text);
    rebuild(f);
    assert_int_equal(f->m->n_problems, 0);
    assert_true(f->delta->config);
    assert_int_equal(f->delta->n_hosts, 0);
    routes(f, "80");
    assert_true(has(f, "\"name\":\"split\"") && has(f, "\"weight\":90") && has(f, "\"weight\":10"));
}

/* A bad object never takes down a good one; its last good form stays; the problem says where. */
static void test_bad_input(void **state)
{
    struct fixture *f = *state;
    char *text = strdup(books()), *host = strstr(text, "  - match: [{headers");
    const struct model_problem *p;

    memcpy(host, "  - matcj: [{headers", 20);
    write_file(f, "books.yaml", text);
    rebuild(f);
    assert_int_equal(f->m->n_problems, 1);
    p = &f->m->problems[0];
    assert_int_equal(p->kind, MODEL_VIRTUAL_SERVICE);
    assert_true(sv_eq(p->name, SV("flaskapp-policy")));
    assert_true(sv_find_sv(p->text, SV("matcj")) >= 0);
    assert_true(sv_find_sv(p->text, SV("spec.http[0]")) >= 0);
    assert_int_equal(f->m->n_objects[MODEL_VIRTUAL_SERVICE], 1);
    routes(f, "80");
    assert_true(has(f, "books/flaskapp-policy/http[0]"));

    /* Broken YAML: everything of the file stays. */
    write_file(f, "books.yaml", "a: [\n");
    rebuild(f);
    assert_int_equal(f->m->n_problems, 1);
    assert_int_equal(f->m->n_services, 2);

    /* Repaired: no problem is left. Then removed: nothing is left. */
    write_file(f, "books.yaml", books());
    rebuild(f);
    assert_int_equal(f->m->n_problems, 0);
    remove_file(f, "books.yaml");
    rebuild(f);
    assert_int_equal(f->m->n_services, 0);
    free(text);
}

static void test_refused_fields(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *yaml, *text;
    } cases[] = {
        {"hosts: [a]\n  http: [{delegate: {name: x}, route: [{destination: {host: a}}]}]\n",
         "spec.http[0].delegate: a rule that delegates has no route"},
        {"hosts: [a]\n  http: [{route: [{destination: {host: a}, weight: -1}]}]\n",
         "spec.http[0].route[0].weight: must not be negative"},
        {"hosts: [a]\n  http: [{route: [{destination: {}}]}]\n",
         "spec.http[0].route[0].destination.host: a destination needs a host"},
        {"hosts: []\n  gateways: [mesh]\n  http: [{route: [{destination: {host: a}}]}]\n",
         "spec.gateways: a VirtualService without hosts is a delegate"},
        {"hosts: ['a b']\n  http: [{route: [{destination: {host: a}}]}]\n", "is no host name"},
        {"hosts: [a]\n  http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: "
         "a}}]}]\n",
         "spec.http[0].match[0].uri.regex"},
        {"hosts: [a]\n  http: [{redirect: {uri: /x}, route: [{destination: {host: a}}]}]\n",
         "exactly one of route, redirect and directResponse"},
        {"hosts: [a]\n", "at least one of http, tcp and tls"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000];
        snprintf(text, sizeof text,
                 "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                 "metadata: {name: bad, namespace: books}\nspec:\n  %s",
                 cases[i].yaml);
        expect_refused(f, i, text, cases[i].text);
        assert_int_equal(f->m->n_objects[MODEL_VIRTUAL_SERVICE], 1);
    }
}

static void test_checks(void **state)
{
    struct fixture *f = *state;
    translate_check(f->m, &f->a, note, f);
    assert_int_equal(f->json.n, 0);
    write_file(f, "z.yaml",
               "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
               "metadata: {name: second, namespace: books}\n"
               "spec:\n  hosts: [flaskapp]\n"
               "  http:\n  - route: [{destination: {host: flaskapp, subset: v9}}]\n"
               "    match: [{uri: {prefix: /a}}]\n"
               "  - route: [{destination: {host: nowhere}}]\n");
    rebuild(f);
    translate_check(f->m, &f->a, note, f);
    assert_true(has(f, "books/second Conflict"));
    assert_true(has(f, "SubsetNotFound: spec.http[0].route[0].destination.subset"));
    assert_true(has(f, "HostNotFound: spec.http[1].route[0].destination.host: no service "
                       "'nowhere.books.svc.cluster.local'"));
}

/* Two files that name the same object: the first keeps it, the second takes over when it goes. */
static void test_one_name_twice(void **state)
{
    struct fixture *f = *state;
    write_file(f, "later.yaml",
               "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: books}\n"
               "spec: {ports: [{port: 1}]}\n");
    rebuild(f);
    assert_int_equal(f->m->n_problems, 1);
    assert_true(sv_eq(f->m->problems[0].code, SV("Conflict")));
    assert_non_null(model_endpoints_find(f->m, SV("db.books.svc.cluster.local"), 3306));
    remove_file(f, "books.yaml");
    rebuild(f);
    assert_int_equal(f->m->n_problems, 0);
    assert_int_equal(f->m->n_services, 1);
    assert_non_null(model_endpoints_find(f->m, SV("db.books.svc.cluster.local"), 1));
}

static void test_endpoint_change_is_only_that(void **state)
{
    struct fixture *f = *state;
    write_file(
        f, "pod.yaml",
        "apiVersion: v1\nkind: Pod\n"
        "metadata: {name: flaskapp-v1b, namespace: books, labels: {app: flaskapp, version: v1}}\n"
        "spec: {}\nstatus: {podIP: 10.0.0.7}\n");
    rebuild(f);
    assert_false(f->delta->config);
    assert_int_equal(f->delta->n_endpoint_hosts, 1);
    assert_true(sv_eq(f->delta->endpoint_hosts[0], SV(FLASK)));
    assert_true(endpoints(f, "outbound|80|subset-v1|" FLASK));
    assert_true(has(f, "10.0.0.7"));
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    names(f);
    assert_true(has(f, "\"" FLASK "\":{\"ips\":[\"240.240."));
    assert_true(has(f, "\"db.books.svc.cluster.local\":{\"ips\":[\"10.1.2.3\"]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_model),          T(test_clusters),
        T(test_endpoints),      T(test_draining),
        T(test_listeners),      T(test_routes),
        T(test_weights_change), T(test_bad_input),
        T(test_refused_fields), T(test_checks),
        T(test_one_name_twice), T(test_endpoint_change_is_only_that),
        T(test_names),          cmocka_unit_test(test_protocols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
