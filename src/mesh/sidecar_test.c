/* Sidecars: which one holds, what its proxies see, what is refused. */
#include "mesh/mesh_testlib.h"

/* covers: Sidecar.workloadSelector, Sidecar.egress, Sidecar.inboundConnectionPool,
 * Sidecar.outboundTrafficPolicy, IstioEgressListener.hosts, WorkloadSelector.labels,
 * OutboundTrafficPolicy.mode */

#define SIDECAR(name, ns, spec)                                                                    \
    "apiVersion: networking.istio.io/v1\nkind: Sidecar\n"                                          \
    "metadata: {name: " name ", namespace: " ns "}\nspec: " spec "\n---\n"
#define STORE "store.shop.svc.cluster.local"
#define DB    "db.books.svc.cluster.local"

static const char store[] = "apiVersion: v1\nkind: Service\nmetadata: {name: store, namespace: "
                            "shop}\nspec: {ports: [{name: http, port: 80}]}\n";

static void sidecars(struct fixture *f, const char *text)
{
    write_file(f, "store.yaml", store);
    write_file(f, "sidecar.yaml", text);
    rebuild_accepted(f);
    clusters(f);
}

static void sees(struct fixture *f, bool flask, bool db, bool shop)
{
    assert_int_equal(has(f, "outbound|80||" FLASK), flask);
    assert_int_equal(has(f, "outbound|3306||" DB), db);
    assert_int_equal(has(f, "outbound|80||" STORE), shop);
}

static void test_egress(void **state)
{
    struct fixture *f = *state;
    sidecars(f, "");
    sees(f, true, true, true);
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: [./*]}]}"));
    sees(f, true, true, false);
    assert_false(endpoints(f, "outbound|80||" STORE));
    names(f);
    assert_true(has(f, DB) && !has(f, STORE));
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: [shop/*, './" DB "']}]}"));
    sees(f, false, true, true);
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['*/*.shop.svc.cluster.local']}]}"));
    sees(f, false, false, true);
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: [~/*]}]}"));
    sees(f, false, false, false);
    /* "~" in front takes out. */
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['*/*', ~shop/*, './" DB "']}]}"));
    sees(f, true, true, false);
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['*/*', ~./*, './" DB "']}]}"));
    sees(f, false, false, true);
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['*/*', '~/" DB "']}]}"));
    sees(f, true, false, true);
    sidecars(f, SIDECAR("s", "books", "{egress: []}"));
    sees(f, true, true, true);
    /* Another namespace is not concerned. */
    sidecars(f, SIDECAR("s", "shop", "{egress: [{hosts: [~/*]}]}"));
    sees(f, true, true, true);
}

/* The workload's own before the namespace's before the root's. */
static void test_which(void **state)
{
    struct fixture *f = *state;
    struct model_label web[] = {{SV_INIT("app"), SV_INIT("web")}};

    sidecars(f, SIDECAR("r", "istio-system", "{egress: [{hosts: [shop/*]}]}"));
    sees(f, false, false, true);
    sidecars(f, SIDECAR("r", "istio-system", "{egress: [{hosts: [shop/*]}]}")
                    SIDECAR("n", "books", "{egress: [{hosts: ['./" DB "']}]}")
                        SIDECAR("w", "books",
                                "{workloadSelector: {labels: {app: web}}, egress: [{hosts: "
                                "['./" FLASK "']}]}"));
    sees(f, false, true, false);
    f->proxy.labels = (struct model_labels){web, 1};
    clusters(f);
    sees(f, true, false, false);
    sidecars(f, SIDECAR("a", "books", "{egress: [{hosts: [shop/*]}]}")
                    SIDECAR("b", "books", "{egress: [{hosts: [./*]}]}"));
    sees(f, false, false, true);
    problems(f);
    assert_true(has(f, "books/b Conflict: spec.workloadSelector: Sidecar books/a already holds"));
}

/* Where routes of a host that is seen lead, clusters are needed. */
static void test_imported(void **state)
{
    struct fixture *f = *state;
    write_file(f, "vs.yaml",
               "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
               "metadata: {name: db, namespace: books}\n"
               "spec: {hosts: [db], http: [{route: [{destination: {host: " STORE "}}]}]}\n");
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['./" DB "']}]}"));
    sees(f, false, true, true);
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['./" FLASK "']}]}"));
    sees(f, true, false, false);
}

#define RULES(name, ns, hosts, to)                                                                 \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: " name ", namespace: " ns "}\n"                                              \
    "spec: {hosts: " hosts ", http: [{route: [{destination: {host: " to "}}]}]}\n---\n"

/* Rules are seen where the Sidecar names one of their hosts in their own namespace. */
static void test_rules_seen(void **state)
{
    struct fixture *f = *state;

    only_services(f);
    write_file(f, "vs.yaml",
               RULES("far", "shop", "['*.cluster.local']", "far.test")
                   RULES("near", "books", "[" STORE ", other.test]", "near.test"));
    sidecars(f, "");
    routes(f, "80");
    assert_true(has(f, "outbound|80||far.test") && has(f, "outbound|80||near.test"));
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: [./*]}]}"));
    routes(f, "80");
    assert_false(has(f, "far.test"));
    /* A host that is not seen as a service is one that only a rule knows. */
    expect(f->json.p, "\"domains\":[\"" STORE "\",\"other.test\"]");
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: [./*, shop/*.svc.cluster.local]}]}"));
    routes(f, "80");
    assert_true(has(f, "far.test") && has(f, "near.test"));
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['*/*', ~shop/*, ~/other.test]}]}"));
    routes(f, "80");
    assert_true(!has(f, "far.test") && has(f, "near.test"));
    sidecars(f, SIDECAR("s", "books", "{egress: [{hosts: ['*/*', '~/*.test', ~/" STORE "]}]}"));
    routes(f, "80");
    assert_true(has(f, "far.test") && !has(f, "near.test"));
}

static void test_registry_only(void **state)
{
    struct fixture *f = *state;
    const char *l;

    sidecars(f, SIDECAR("s", "books", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"));
    listeners(f);
    l = line_of(f, "virtualOutbound");
    assert_null(strstr(l, "PassthroughCluster"));
    routes(f, "80");
    assert_true(has(f, "\"name\":\"block_all\"") && has(f, "\"status\":502"));
    assert_false(has(f, "allow_any"));
    sidecars(f, SIDECAR("s", "books", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}"));
    listeners(f);
    assert_non_null(strstr(line_of(f, "virtualOutbound"), "PassthroughCluster"));
}

static void test_inbound_pool(void **state)
{
    struct fixture *f = *state;
    f->proxy.ip = SV("10.0.0.1");
    sidecars(f, SIDECAR("s", "books",
                        "{inboundConnectionPool: {http: {http2MaxRequests: 7, "
                        "idleTimeout: 3s}, tcp: {maxConnections: 9}}}"));
    assert_non_null(strstr(line_of(f, "inbound|8080||"), "\"max_requests\":7"));
    assert_non_null(strstr(line_of(f, "inbound|8080||"), "\"max_connections\":9"));
    assert_non_null(strstr(line_of(f, "inbound|8080||"), "\"idle_timeout\":\"3s\""));
    assert_null(strstr(line_of(f, "outbound|80||" FLASK), "\"max_requests\":7"));
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *spec, *text;
    } cases[] = {
        {"{egress: [{hosts: []}]}", "spec.egress[0].hosts: at least one host is needed"},
        {"{egress: [{hosts: [x.test]}]}", "'x.test' is not NAMESPACE/HOST"},
        {"{egress: [{hosts: ['./a b']}]}", "is no host name"},
        {"{egress: [{hosts: ['*/*', ~Shop/*]}]}", "'~Shop/*' is not NAMESPACE/HOST"},
        {"{workloadSelector: {labels: {a: 'b*'}}}", "there are no wildcards"},
        {"{egress: [{port: {number: 80}, hosts: [./*]}]}", "spec.egress[0].port: not supported"},
        {"{egress: [{bind: 127.0.0.1, hosts: [./*]}]}", "spec.egress[0].bind: not supported"},
        {"{ingress: [{port: {number: 80}}]}", "spec.ingress: not supported"},
        {"{outboundTrafficPolicy: {egressProxy: {host: a}}}", "egressProxy: not supported"},
        {"{inboundConnectionPool: {http: {maxRetries: -1}}}", "maxRetries: must not be negative"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000];
        snprintf(text, sizeof text, SIDECAR("bad", "books", "%s"), cases[i].spec);
        expect_refused(f, i, text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_egress),        T(test_which),        T(test_imported), T(test_rules_seen),
        T(test_registry_only), T(test_inbound_pool), T(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
