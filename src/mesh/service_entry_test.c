/* ServiceEntries and WorkloadEntries: the services and endpoints that come of them, their clusters,
 * listeners, virtual hosts and names, and what is refused. */
#include "mesh/mesh_testlib.h"

/* covers: ServiceEntry.hosts, ServiceEntry.addresses, ServiceEntry.ports, ServiceEntry.location,
 * ServiceEntry.resolution, ServiceEntry.endpoints, ServiceEntry.workloadSelector,
 * ServiceEntry.exportTo, ServiceEntry.subjectAltNames, ServicePort.number, ServicePort.protocol,
 * ServicePort.name, ServicePort.targetPort, WorkloadEntry.address, WorkloadEntry.ports,
 * WorkloadEntry.labels, WorkloadEntry.network, WorkloadEntry.locality, WorkloadEntry.weight,
 * WorkloadEntry.serviceAccount */

#define ENTRY(name, spec)                                                                          \
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                     \
    "metadata: {name: " name ", namespace: books}\nspec: " spec "\n---\n"
#define WORKLOAD(name, spec)                                                                       \
    "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"                                    \
    "metadata: {name: " name ", namespace: books}\nspec: " spec "\n---\n"
#define HTTP  "{number: 80, name: http, protocol: HTTP}"
#define HTTPS "{number: 443, name: https, protocol: HTTPS}"
#define TCP   "{number: 9000, name: tcp, protocol: TCP}"

static void entries(struct fixture *f, const char *text)
{
    write_file(f, "entries.yaml", text);
    rebuild_accepted(f);
    clusters(f);
}

/* ---- how endpoints are found ---- */

static void test_resolutions(void **state)
{
    struct fixture *f = *state;
    const char *c;

    entries(
        f,
        ENTRY("none",
              "{hosts: ['*.wild.test'], ports: [" HTTP
              ", {number: 81, name: other, protocol: HTTP, targetPort: 8443}], resolution: NONE}")
            ENTRY("dns", "{hosts: [dns.test], ports: [{number: 443, name: https, protocol: "
                         "HTTPS, targetPort: 8443}], resolution: DNS}")
                ENTRY("one",
                      "{hosts: [one.test], ports: [" HTTP "], resolution: DNS_ROUND_ROBIN, "
                      "endpoints: [{address: real.test, ports: {http: 81}, locality: eu/a}]}")
                    ENTRY("static", "{hosts: [static.test], ports: [" HTTP "], resolution: STATIC, "
                                    "endpoints: [{address: 192.0.2.1, weight: 3, labels: {v: x}, "
                                    "locality: eu/a/b}, {address: 192.0.2.2}]}"));
    c = line_of(f, "outbound|80||*.wild.test");
    expect(c, "\"type\":\"ORIGINAL_DST\"");
    expect_not(c, "eds_cluster_config");
    expect_not(c, "transport_socket");
    expect_not(c, "original_dst_lb_config");
    c = line_of(f, "outbound|81||*.wild.test");
    expect(c, "\"original_dst_lb_config\":{\"upstream_port_override\":8443}");
    c = line_of(f, "outbound|443||dns.test");
    expect(c, "\"type\":\"STRICT_DNS\"");
    expect(c, "\"address\":\"dns.test\",\"port_value\":8443");
    expect(c, "\"respect_dns_ttl\":true");
    c = line_of(f, "outbound|80||one.test");
    expect(c, "\"type\":\"LOGICAL_DNS\"");
    expect(c, "\"address\":\"real.test\",\"port_value\":81");
    expect(c, "\"locality\":{\"region\":\"eu\",\"zone\":\"a\"}");
    assert_false(endpoints(f, "outbound|80||one.test"));
    assert_true(endpoints(f, "outbound|80||static.test"));
    expect(f->json.p, "\"address\":\"192.0.2.1\",\"port_value\":80");
    expect(f->json.p, "\"load_balancing_weight\":3");
    expect(f->json.p, "\"sub_zone\":\"b\"");
}

/* Outside the mesh nobody speaks mTLS; inside, who has an identity or says so. */
static void test_locations(void **state)
{
    struct fixture *f = *state;
    const char *all =
        "ports: [" HTTP "], resolution: STATIC, endpoints: [{address: 192.0.2.1, "
        "serviceAccount: vm}, {address: 192.0.2.2}, {address: 192.0.2.3, labels: "
        "{security.istio.io/tlsMode: istio}}, {address: 192.0.2.4, serviceAccount: vm, "
        "labels: {security.istio.io/tlsMode: disabled}}]}";
    char text[2000];
    const char *p;
    int n = 0;

    snprintf(text, sizeof text,
             ENTRY("in", "{hosts: [in.test], location: MESH_INTERNAL, subjectAltNames: "
                         "['spiffe://o/x'], %s") ENTRY("out", "{hosts: [out.test], location: "
                                                              "MESH_EXTERNAL, %s"),
             all, all);
    entries(f, text);
    expect(line_of(f, "outbound|80||in.test"), "\"name\":\"tlsMode-istio\"");
    expect(line_of(f, "outbound|80||in.test"), "spiffe://cluster.local/ns/books/sa/vm");
    expect(line_of(f, "outbound|80||in.test"), "spiffe://o/x");
    expect_not(line_of(f, "outbound|80||out.test"), "transport_socket");
    assert_true(endpoints(f, "outbound|80||in.test"));
    for (p = f->json.p; (p = strstr(p, "\"tlsMode\":\"istio\"")); p++)
        n++;
    assert_int_equal(n, 2);
    assert_true(endpoints(f, "outbound|80||out.test"));
    assert_false(has(f, "tlsMode"));
}

/* WorkloadEntries and pods, of a ServiceEntry's selector and of a Service's. */
static void test_selected(void **state)
{
    struct fixture *f = *state;
    entries(f,
            ENTRY("vms", "{hosts: [vms.test], ports: [" HTTP "], resolution: STATIC, location: "
                         "MESH_INTERNAL, workloadSelector: {labels: {app: flaskapp}}}")
                WORKLOAD("vm",
                         "{address: 192.0.2.9, ports: {http: 8088}, labels: {app: flaskapp, "
                         "version: v1}, serviceAccount: vm, network: far, weight: 2, locality: "
                         "eu/a}") WORKLOAD("other", "{address: 192.0.2.10, labels: {app: other}}"));
    assert_true(endpoints(f, "outbound|80||vms.test"));
    assert_true(has(f, "192.0.2.9") && has(f, "\"port_value\":8088") && has(f, "10.0.0.1"));
    assert_false(has(f, "192.0.2.10"));
    assert_true(endpoints(f, "outbound|80|subset-v1|" FLASK));
    assert_true(has(f, "192.0.2.9") && has(f, "10.0.0.1") && !has(f, "10.0.0.2"));
    clusters(f);
    expect(line_of(f, "outbound|80||" FLASK), "spiffe://cluster.local/ns/books/sa/vm");
    /* The machine itself serves the port. */
    f->proxy.ip = SV("192.0.2.9");
    clusters(f);
    line_of(f, "inbound|8088||");
    /* Endpoints that come and go are not configuration; those that are resolved are. */
    write_file(f, "more.yaml", WORKLOAD("vm2", "{address: 192.0.2.11, labels: {app: flaskapp}}"));
    rebuild(f);
    assert_false(f->delta->config);
    assert_int_equal(f->delta->n_endpoint_hosts, 2);
}

/* One address several times, and what is outside of the mesh, at the proxy's own address. */
static void test_own_address(void **state)
{
    struct fixture *f = *state;
    f->proxy.ip = SV("192.0.2.9");
    entries(f,
            ENTRY("many", "{hosts: [m.test], location: MESH_INTERNAL, ports: [" HTTP
                          "], resolution: STATIC, endpoints: [{address: 192.0.2.9, ports: {http: "
                          "1}}, {address: 192.0.2.9, ports: {http: 2}}, {address: 192.0.2.9, "
                          "ports: {http: 3}}, {address: 192.0.2.9, ports: {http: 3}}]}")
                ENTRY("out", "{hosts: [o.test], ports: [" HTTP "], resolution: STATIC, "
                             "endpoints: [{address: 192.0.2.9, ports: {http: 9}}]}"));
    line_of(f, "inbound|1||");
    line_of(f, "inbound|2||");
    line_of(f, "inbound|3||");
    assert_false(has(f, "inbound|9||"));
    listeners(f);
}

static void test_unix(void **state)
{
    struct fixture *f = *state;
    entries(f, ENTRY("u", "{hosts: [u.test], ports: [" HTTP "], resolution: STATIC, endpoints: "
                          "[{address: 'unix:///run/x.sock'}]}"));
    assert_true(endpoints(f, "outbound|80||u.test"));
    expect(f->json.p, "\"pipe\":{\"path\":\"/run/x.sock\"}");
}

/* ---- TLS to the outside ---- */

static void test_tls_names(void **state)
{
    struct fixture *f = *state;
    const char *c;

    entries(
        f,
        ENTRY("a", "{hosts: [a.test], ports: [" HTTPS ", " TCP ", " HTTP "], resolution: DNS, "
                   "subjectAltNames: [b.test]}")
            ENTRY(
                "c",
                "{hosts: [c.test], ports: [" TCP
                "], resolution: DNS}") "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                                       "metadata: {name: t, namespace: books}\n"
                                       "spec: {host: '*.test', trafficPolicy: {tls: {mode: "
                                       "SIMPLE}}}\n");
    c = line_of(f, "outbound|9000||a.test");
    expect(c, "\"sni\":\"a.test\"");
    expect(c, "\"exact\":\"b.test\"");
    expect(line_of(f, "outbound|80||a.test"), "\"auto_sni\":true");
    expect_not(line_of(f, "outbound|80||a.test"), "auto_san");
    /* No HTTP that could name it: the host that is called. */
    expect(line_of(f, "outbound|9000||c.test"), "\"exact\":\"c.test\"");
}

/* ---- listeners, virtual hosts, names ---- */

static void test_addresses(void **state)
{
    struct fixture *f = *state;
    const char *l;

    entries(f, ENTRY("ips", "{hosts: [ips.test], addresses: [192.0.2.1, 192.0.2.2], ports: [" TCP
                            ", " HTTP "], resolution: STATIC}")
                   ENTRY("range", "{hosts: [range.test], addresses: [198.51.100.0/24], ports: [" TCP
                                  ", " HTTPS "], resolution: NONE}")
                       ENTRY("sni", "{hosts: [sni.test, '*.sni.test'], ports: [" HTTPS
                                    "], resolution: NONE}"));
    listeners(f);
    expect(line_of(f, "192.0.2.1_9000"), "outbound|9000||ips.test");
    expect(line_of(f, "192.0.2.2_9000"), "outbound|9000||ips.test");
    l = line_of(f, "0.0.0.0_9000");
    expect(l, "\"prefix_ranges\":[{\"address_prefix\":\"198.51.100.0\",\"prefix_len\":24}]");
    expect(l, "outbound|9000||range.test");
    expect(l, "PassthroughFilterChain");
    l = line_of(f, "0.0.0.0_443");
    expect(l, "\"server_names\":[\"sni.test\"]");
    expect(l, "\"server_names\":[\"*.sni.test\"]");
    expect(l, "\"server_names\":[\"range.test\"]");
    expect(l, "envoy.filters.listener.tls_inspector");
    expect(l, "PassthroughFilterChain");
    routes(f, "80");
    expect(f->json.p, "\"domains\":[\"ips.test\",\"192.0.2.1\",\"192.0.2.2\",\"ips.test.\"]");
    names(f);
    expect(f->json.p, "\"ips.test\":{\"ips\":[\"192.0.2.1\",\"192.0.2.2\"]");
    assert_false(has(f, "range.test"));
}

/* An automatic address serves proxies whose applications ask their DNS; the others share a port. */
static void test_automatic_addresses(void **state)
{
    struct fixture *f = *state;
    sv vip;
    char name[64];

    entries(f, ENTRY("t", "{hosts: [tcp.test], ports: [" TCP "], resolution: DNS}")
                   ENTRY("w", "{hosts: ['*.wild.test', none.test], ports: [" HTTP
                              "], resolution: NONE}"));
    vip = model_service_find(f->m, SV("tcp.test"))->vip;
    assert_true(sv_starts(vip, SV("240.240.")));
    assert_int_equal(model_service_find(f->m, SV("*.wild.test"))->vip.n, 0);
    assert_int_equal(model_service_find(f->m, SV("none.test"))->vip.n, 0);
    snprintf(name, sizeof name, "%.*s_9000", SV_ARG(vip));
    listeners(f);
    expect(line_of(f, "0.0.0.0_9000"), "outbound|9000||tcp.test");
    assert_null(strstr(f->json.p, name));
    f->proxy.dns_capture = true;
    listeners(f);
    expect(line_of(f, name), "outbound|9000||tcp.test");
    assert_false(has(f, "0.0.0.0_9000"));
    routes(f, "80");
    expect(f->json.p, "\"domains\":[\"*.wild.test\"]");
    names(f);
    assert_true(has(f, "tcp.test") && !has(f, "wild.test"));
}

/* HTTP and one TCP service without an address on the same port: what looks like HTTP, and the rest.
 */
static void test_shared_port(void **state)
{
    struct fixture *f = *state;
    const char *l;

    entries(
        f, ENTRY("h", "{hosts: [h.test], ports: [{number: 9000, name: http, protocol: HTTP}], "
                      "resolution: NONE}")
               ENTRY("t", "{hosts: [t.test], ports: [" TCP "], resolution: NONE}") ENTRY(
                   "a", "{hosts: [a.test], ports: [{number: 9001, name: any}], resolution: NONE}"));
    listeners(f);
    l = line_of(f, "0.0.0.0_9000");
    expect(l, "\"application_protocols\":[\"http/1.0\",\"http/1.1\",\"h2c\"]");
    expect(l, "\"route_config_name\":\"9000\"");
    expect(l, "outbound|9000||t.test");
    expect(line_of(f, "0.0.0.0_9001"), "\"route_config_name\":\"9001\"");
    /* What is not HTTP is in no chain that asks for part of what HTTP is. */
    expect(line_of(f, "0.0.0.0_9001"), "\"default_filter_chain\":{\"filters\":[{\"name\":"
                                       "\"envoy.filters.network.tcp_proxy\"");
    routes(f, "9001");
    expect(f->json.p, "\"domains\":[\"a.test\",\"a.test.\"]");
}

static void test_export(void **state)
{
    struct fixture *f = *state;
    entries(f, ENTRY("mine", "{hosts: [mine.test], ports: [" HTTP "], resolution: NONE, exportTo: "
                             "['.']}"));
    line_of(f, "outbound|80||mine.test");
    f->proxy.ns = SV("shop");
    clusters(f);
    assert_false(has(f, "mine.test"));
}

static void test_host_twice(void **state)
{
    struct fixture *f = *state;
    entries(f, ENTRY("a", "{hosts: [x.test], ports: [" HTTP "], resolution: NONE}")
                   ENTRY("b", "{hosts: [x.test, y.test], ports: [" TCP "], resolution: DNS}"));
    problems(f);
    expect(f->json.p, "books/b Conflict: spec.hosts[0]: host 'x.test' already belongs to "
                      "ServiceEntry books/a");
    line_of((clusters(f), f), "outbound|80||x.test");
    line_of(f, "outbound|9000||y.test");
}

/* Several that are alike are one: ports and addresses add up, each with its own endpoints. */
static void test_host_in_parts(void **state)
{
    struct fixture *f = *state;
    const char *c;

    entries(
        f,
        ENTRY("a", "{hosts: [x.test], addresses: [192.0.2.1], ports: [" HTTP
                   "], resolution: STATIC, exportTo: [., shop], endpoints: [{address: 10.1.0.1}]}")
            ENTRY("b", "{hosts: [X.test], addresses: [192.0.2.2, 192.0.2.1], ports: [" TCP
                       ", {number: 80, name: web, protocol: HTTP, targetPort: 8080}], resolution: "
                       "STATIC, exportTo: [shop, .], endpoints: [{address: 10.1.0.2, ports: {web: "
                       "81}}, {address: 10.1.0.1, ports: {web: 80}}]}"));
    line_of(f, "outbound|80||x.test");
    line_of(f, "outbound|9000||x.test");
    assert_true(endpoints(f, "outbound|80||x.test"));
    expect(f->json.p, "\"address\":\"10.1.0.1\",\"port_value\":80");
    expect(f->json.p, "\"address\":\"10.1.0.2\",\"port_value\":81");
    c = strstr(f->json.p, "10.1.0.1");
    assert_null(strstr(c + 1, "10.1.0.1"));
    assert_true(endpoints(f, "outbound|9000||x.test"));
    expect(f->json.p, "\"address\":\"10.1.0.2\",\"port_value\":9000");
    listeners(f);
    expect(line_of(f, "192.0.2.1_9000"), "outbound|9000||x.test");
    expect(line_of(f, "192.0.2.2_9000"), "outbound|9000||x.test");
    problems(f);
    assert_false(has(f, "books/"));

    /* What the younger one says changes the service. */
    write_file(f, "entries.yaml",
               ENTRY("a", "{hosts: [x.test], ports: [" HTTP "], resolution: DNS}")
                   ENTRY("b", "{hosts: [x.test], ports: [" HTTPS "], resolution: DNS}"));
    rebuild_accepted(f);
    write_file(f, "entries.yaml",
               ENTRY("a", "{hosts: [x.test], ports: [" HTTP "], resolution: DNS}") ENTRY(
                   "b", "{hosts: [x.test], ports: [" HTTPS
                        "], resolution: DNS, subjectAltNames: [y.test], endpoints: [{address: "
                        "z.test}]}"));
    rebuild_accepted(f);
    assert_int_equal(f->delta->n_hosts, 1);
    clusters(f);
    expect(line_of(f, "outbound|443||x.test"), "\"address\":\"z.test\",\"port_value\":443");
    expect(line_of(f, "outbound|80||x.test"), "\"address\":\"x.test\",\"port_value\":80");
    assert_ptr_equal(model_port_entry(model_service_find(f->m, SV("x.test")), 443),
                     f->m->objects[MODEL_SERVICE_ENTRY][1]->spec);

    /* One address is all that DNS_ROUND_ROBIN can have; a port is what the older one says. */
    entries(f, ENTRY("a", "{hosts: [x.test], ports: [" HTTP "], resolution: DNS_ROUND_ROBIN}")
                   ENTRY("b", "{hosts: [x.test], ports: [{number: 80, name: tcp, protocol: TCP}], "
                              "resolution: DNS_ROUND_ROBIN, endpoints: [{address: z.test}]}"));
    c = line_of(f, "outbound|80||x.test");
    expect(c, "\"address\":\"x.test\"");
    expect_not(c, "z.test");
    problems(f);
    expect(f->json.p, "books/b Conflict: spec.ports[0].protocol: port 80 of 'x.test' is HTTP by an "
                      "older ServiceEntry, which stays in force, and TCP here");
}

/* Two namespaces that say the same of a host both have it, and nobody else. */
static void test_host_repeated(void **state)
{
    struct fixture *f = *state;
    const char *theirs = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
                         "metadata: {name: a, namespace: aaa}\n"
                         "spec: {hosts: [x.test, z.test], ports: [" HTTP
                         "], resolution: DNS, exportTo: ['.']}\n---\n";
    char text[2000];

    snprintf(
        text, sizeof text, "%s%s", theirs,
        ENTRY("mine", "{hosts: [x.test], ports: [" HTTP "], resolution: DNS, exportTo: ['.']}"));
    entries(f, text);
    line_of(f, "outbound|80||x.test");
    assert_false(has(f, "z.test"));
    problems(f);
    assert_false(has(f, "books/mine"));
    f->proxy.ns = SV("shop");
    clusters(f);
    assert_false(has(f, "x.test"));
    f->proxy.ns = SV("aaa");
    clusters(f);
    assert_true(has(f, "x.test") && has(f, "z.test"));

    f->proxy.ns = SV("books");
    snprintf(
        text, sizeof text, "%s%s%s", theirs,
        ENTRY("mine", "{hosts: [x.test], ports: [" HTTP "], resolution: DNS, exportTo: ['.']}"),
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\n"
        "metadata: {name: s, namespace: books}\nspec: {egress: [{hosts: [./*]}]}\n");
    entries(f, text);
    line_of(f, "outbound|80||x.test");

    snprintf(
        text, sizeof text, "%s%s", theirs,
        ENTRY("mine", "{hosts: [x.test], ports: [" HTTPS "], resolution: DNS, exportTo: ['.']}"));
    write_file(f, "entries.yaml", text);
    rebuild_accepted(f);
    assert_true(f->delta->n_hosts >= 1);
    clusters(f);
    assert_false(has(f, "x.test"));
    problems(f);
    expect(f->json.p, "books/mine Conflict: spec.hosts[0]: host 'x.test' already belongs to "
                      "ServiceEntry aaa/a, which stays in force; say the same in both");
}

/* A selector without labels selects every workload of the namespace, as Istio has it. */
static void test_selects_all(void **state)
{
    struct fixture *f = *state;

    entries(f, ENTRY("all", "{hosts: [x.test], ports: [" HTTP "], resolution: STATIC, "
                            "workloadSelector: {}}")
                   WORKLOAD("vm", "{address: 192.0.2.7, labels: {app: vm}}"));
    assert_true(endpoints(f, "outbound|80||x.test"));
    assert_true(has(f, "192.0.2.7") && has(f, "10.0.0.1"));
    problems(f);
    assert_false(has(f, "books/all"));
    entries(f, ENTRY("all", "{hosts: [x.test], ports: [" HTTP "], workloadSelector: {}}"));
    problems(f);
    expect(f->json.p, "books/all NoEffect: spec.workloadSelector: with resolution NONE");
}

/* Several hosts at one address: TLS goes by the server name, TCP to the older one. */
static void test_shared_addresses(void **state)
{
    struct fixture *f = *state;
    const char *l;

    entries(f, ENTRY("tls", "{hosts: [a.test, b.test], addresses: [192.0.2.1], ports: [" HTTPS
                            "], resolution: DNS}")
                   ENTRY("tcp", "{hosts: [c.test], addresses: [192.0.2.1], ports: [{number: 443, "
                                "name: other, protocol: TCP}, " TCP "], resolution: DNS}")
                       ENTRY("two", "{hosts: [d.test], addresses: [192.0.2.9, 192.0.2.1], ports: "
                                    "[" TCP "], resolution: DNS}"));
    listeners(f);
    l = line_of(f, "192.0.2.1_443");
    expect(l, "\"server_names\":[\"a.test\"]");
    expect(l, "\"server_names\":[\"b.test\"]");
    expect(l, "outbound|443||a.test");
    expect(l, "outbound|443||b.test");
    expect(l, "outbound|443||c.test");
    expect(l, "envoy.filters.listener.tls_inspector");
    expect_not(l, "PassthroughFilterChain");
    assert_null(strstr(strstr(f->json.p, "\n192.0.2.1_443 ") + 1, "\n192.0.2.1_443 "));
    l = line_of(f, "192.0.2.1_9000");
    expect(l, "\"listener_filters_timeout\":\"1s\"");
    expect(l, "outbound|9000||c.test");
    expect_not(l, "d.test");
    expect(line_of(f, "192.0.2.9_9000"), "outbound|9000||d.test");
    problems(f);
    expect(f->json.p, "books/two PortShared: spec.ports[0]: TCP to 'd.test' cannot be told from "
                      "TCP to 'c.test', which takes 192.0.2.1 port 9000");
    assert_false(has(f, "books/tls") || has(f, "books/tcp"));
    /* Without anything for the rest, other names go where they were going. */
    entries(f, ENTRY("tls", "{hosts: [a.test, b.test], addresses: [192.0.2.1], ports: [" HTTPS
                            "], resolution: DNS}"));
    listeners(f);
    expect(line_of(f, "192.0.2.1_443"), "PassthroughFilterChain");
    expect(line_of(f, "192.0.2.1_443"), "\"listener_filters_timeout\":\"0s\"");
}

/* TCP that nothing but the port could tell apart is said. */
static void test_ports_shared(void **state)
{
    struct fixture *f = *state;
    entries(f, ENTRY("a", "{hosts: [A.test], ports: [" TCP "], resolution: NONE}")
                   ENTRY("b", "{hosts: [b.test], ports: [" TCP "], resolution: NONE}")
                       ENTRY("c", "{hosts: [c.test], addresses: [192.0.2.1], ports: [" TCP
                                  "], resolution: NONE}")
                           ENTRY("d", "{hosts: [d.test], ports: [" TCP "], resolution: DNS}"));
    line_of(f, "outbound|9000||a.test");
    problems(f);
    expect(f->json.p, "books/b PortShared: spec.ports[0]: TCP to 'b.test' cannot be told from TCP "
                      "to 'a.test', which takes port 9000");
    assert_false(has(f, "books/c") || has(f, "books/d") || has(f, "books/a "));
}

/* ---- ExternalName ---- */

static void test_external_name(void **state)
{
    struct fixture *f = *state;
    const char *c;

    entries(f,
            "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: books}\n"
            "spec: {type: ExternalName, externalName: www.x.test, ports: [{name: http, port: "
            "80}]}\n---\n"
            "apiVersion: v1\nkind: Service\nmetadata: {name: alias, namespace: books}\n"
            "spec: {type: ExternalName, externalName: " FLASK ", ports: [{name: http, port: 80}, "
            "{name: other, port: 81}]}\n");
    c = line_of(f, "outbound|80||out.books.svc.cluster.local");
    expect(c, "\"type\":\"STRICT_DNS\"");
    expect(c, "\"address\":\"www.x.test\",\"port_value\":80");
    expect_not(c, "transport_socket");
    c = line_of(f, "outbound|80||alias.books.svc.cluster.local");
    expect(c, "spiffe://cluster.local/ns/books/sa/v1");
    assert_true(endpoints(f, "outbound|80||alias.books.svc.cluster.local"));
    assert_true(has(f, "10.0.0.1") && has(f, "10.0.0.2"));
    names(f);
    expect(f->json.p, "\"out.books.svc.cluster.local\":{\"ips\":[\"240.240.");
}

/* ---- headless services ---- */

/* Pods of a headless service are called one by one, those with a sidecar over mTLS. */
static void test_headless(void **state)
{
    struct fixture *f = *state;
    const char *c, *l;

    entries(f,
            "apiVersion: v1\nkind: Service\nmetadata: {name: pods, namespace: books}\n"
            "spec: {clusterIP: None, selector: {app: flaskapp}, ports: [{name: tcp, port: 7000}, "
            "{name: http, port: 7001}]}\n---\n"
            "apiVersion: v1\nkind: Pod\nmetadata: {name: plain, namespace: books, labels: {app: "
            "flaskapp}}\nspec: {}\nstatus: {podIP: 10.0.0.8}\n");
    c = line_of(f, "outbound|7000||*.pods.books.svc.cluster.local");
    expect(c, "\"type\":\"ORIGINAL_DST\"");
    expect(c, "\"sni\":\"outbound_.7000_._.pods.books.svc.cluster.local\"");
    expect(c, "spiffe://cluster.local/ns/books/sa/v1");
    listeners(f);
    l = line_of(f, "0.0.0.0_7000");
    expect(l, "\"prefix_ranges\":[{\"address_prefix\":\"10.0.0.1\",\"prefix_len\":32},"
              "{\"address_prefix\":\"10.0.0.2\",\"prefix_len\":32}]");
    expect(l, "outbound|7000||*.pods.books.svc.cluster.local");
    expect(l, "PassthroughFilterChain");
    expect(l, "\"prefix_ranges\":[{\"address_prefix\":\"10.0.0.8\",\"prefix_len\":32}]");
    routes(f, "7001");
    expect(f->json.p, "\"domains\":[\"10.0.0.1\",\"10.0.0.2\"]");
    expect(f->json.p, "outbound|7001||*.pods.books.svc.cluster.local");
    expect(f->json.p, "\"domains\":[\"10.0.0.8\"]");
    expect(f->json.p, "\"domains\":[\"pods.books.svc.cluster.local\",\"pods\"");
    names(f);
    expect(f->json.p, "\"flaskapp-v1.pods.books.svc.cluster.local\":{\"ips\":[\"10.0.0.1\"]");
    /* All have one: names below the service's too. A change of pods changes listeners. */
    write_file(
        f, "entries.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: pods, namespace: books}\n"
        "spec: {clusterIP: None, selector: {app: flaskapp}, ports: [{name: http, port: 7001}]}\n");
    rebuild(f);
    assert_true(f->delta->config);
    routes(f, "7001");
    expect(f->json.p, "\"10.0.0.2\",\"*.pods.books.svc.cluster.local\"");
}

/* ---- what is refused ---- */

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *kind, *spec, *text;
    } cases[] = {
        {"ServiceEntry", "{hosts: []}", "at least one host is needed"},
        {"ServiceEntry", "{hosts: ['a b']}", "spec.hosts[0]: 'a b' is no host name"},
        {"ServiceEntry", "{hosts: ['*']}", "would be every host"},
        {"ServiceEntry", "{hosts: ['*.a'], resolution: DNS}", "a wildcard cannot be resolved"},
        {"ServiceEntry", "{hosts: [a], resolution: DYNAMIC_DNS}", "spec.resolution: not supported"},
        {"ServiceEntry", "{hosts: [a], ports: [{number: 0, name: x}]}", "must be 1 to 65535"},
        {"ServiceEntry", "{hosts: [a], ports: [{number: 1, name: x, targetPort: 65536}]}",
         "spec.ports[0].targetPort"},
        {"ServiceEntry", "{hosts: [a], ports: [{number: 1}]}",
         "ports[0].name: a port needs a name"},
        {"ServiceEntry", "{hosts: [a], ports: [{number: 1, name: x, protocol: SMTP}]}",
         "'SMTP' is not"},
        {"ServiceEntry", "{hosts: [a], ports: [{number: 1, name: x}, {number: 1, name: y}]}",
         "two ports"},
        {"ServiceEntry", "{hosts: [a], addresses: [b]}",
         "'b' is neither an IP address nor a range"},
        {"ServiceEntry", "{hosts: [a], addresses: [10.0.0.0/33]}", "neither"},
        {"ServiceEntry", "{hosts: [a], addresses: [10.0.0.0/8], resolution: DNS}",
         "ranges go only"},
        {"ServiceEntry", "{hosts: [a], endpoints: [{address: 10.0.0.1}]}", "goes where"},
        {"ServiceEntry",
         "{hosts: [a], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: "
         "[{address: "
         "10.0.0.1}]}",
         "endpoints or workloadSelector"},
        {"ServiceEntry", "{hosts: [a], resolution: STATIC, endpoints: [{address: b.test}]}",
         "spec.endpoints[0].address: must be an IP address"},
        {"ServiceEntry",
         "{hosts: [a], resolution: DNS_ROUND_ROBIN, endpoints: [{address: b}, {address: c}]}",
         "at most one endpoint"},
        {"ServiceEntry", "{hosts: [a], resolution: STATIC, endpoints: [{address: 'unix:///x'}]}",
         "exactly one port"},
        {"ServiceEntry",
         "{hosts: [a], resolution: STATIC, endpoints: [{address: 'unix://x', ports: {h: 1}}]}",
         "a Unix socket is"},
        {"ServiceEntry", "{hosts: [a], resolution: STATIC, endpoints: [{ports: {h: 1}}]}",
         "spec.endpoints[0].address: an address is needed"},
        {"ServiceEntry",
         "{hosts: [a], ports: [{number: 1, name: x}], resolution: STATIC, endpoints: [{address: "
         "10.0.0.1, ports: {y: 2}}]}",
         "spec.endpoints[0].ports.y: spec.ports has no port of this name"},
        {"ServiceEntry", "{hosts: [-a]}", "spec.hosts[0]: '-a' is no host name"},
        {"ServiceEntry", "{hosts: [a..b]}", "spec.hosts[0]: 'a..b' is no host name"},
        {"ServiceEntry", "{hosts: [a], workloadSelector: {labels: {'': b}}}",
         "spec.workloadSelector.labels: a label has a name"},
        {"ServiceEntry", "{hosts: [a], workloadSelector: {labels: {a: '*'}}}",
         "there are no wildcards"},
        {"ServiceEntry", "{hosts: [a], exportTo: ['~', b]}", "'~' is nobody"},
        {"ServiceEntry", "{hosts: [a], exportTo: [B]}", "'B' is neither"},
        {"WorkloadEntry", "{labels: {a: b}}", "spec.address: an address is needed"},
        {"WorkloadEntry", "{address: 'a b'}", "is no host name"},
        {"WorkloadEntry", "{address: '*.a'}", "must not be a wildcard"},
        {"WorkloadEntry", "{address: 10.0.0.1, ports: {h: 65536}}",
         "spec.ports.h: must be 1 to 65535"},
        {"WorkloadEntry", "{address: 10.0.0.1, weight: 1000001}", "spec.weight: must be at most"},
        {"WorkloadEntry", "{address: 'unix:///a/'}", "a Unix socket is"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000];
        snprintf(text, sizeof text,
                 "apiVersion: networking.istio.io/v1\nkind: %s\n"
                 "metadata: {name: bad, namespace: books}\nspec: %s\n",
                 cases[i].kind, cases[i].spec);
        expect_refused(f, i, text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_resolutions),   T(test_locations),        T(test_selected),
        T(test_unix),          T(test_own_address),      T(test_tls_names),
        T(test_addresses),     T(test_host_twice),       T(test_automatic_addresses),
        T(test_shared_port),   T(test_ports_shared),     T(test_external_name),
        T(test_host_in_parts), T(test_shared_addresses), T(test_selects_all),
        T(test_host_repeated), T(test_export),           T(test_headless),
        T(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
