/* Objects with wrong, missing and absurd values: each is refused or carried out, and neither breaks
 * anything: reading, checks and every translation run over each of them (under sanitizers, that is
 * the point). Values of a good object are replaced one to three at a time, by seed. */
#include "base/rand.h"
#include "mesh/mesh_testlib.h"

#define ROUNDS 400

static const char *const objects[] = {
    "kind: DestinationRule\nmetadata: {name: m, namespace: books}\n"
    "spec: {host: flaskapp, exportTo: ['.'], workloadSelector: {matchLabels: {a: b}}, "
    "trafficPolicy: {loadBalancer: {simple: RANDOM, warmupDurationSecs: 1s, localityLbSetting: "
    "{enabled: true, failover: [{from: a, to: b}], failoverPriority: [a, b=c]}}, connectionPool: "
    "{tcp: {maxConnections: 1, connectTimeout: 1s, idleTimeout: 2s, maxConnectionDuration: 3s, "
    "tcpKeepalive: {probes: 1, time: 1s, interval: 1s}}, http: {http1MaxPendingRequests: 1, "
    "http2MaxRequests: 1, maxRequestsPerConnection: 1, maxRetries: 1, idleTimeout: 1s, "
    "h2UpgradePolicy: UPGRADE, useClientProtocol: false, maxConcurrentStreams: 1, http2KeepAlive: "
    "{interval: 1s, timeout: 1s}}}, outlierDetection: {consecutive5xxErrors: 1, "
    "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 1, interval: 1s, "
    "baseEjectionTime: 1s, maxEjectionPercent: 1, minHealthPercent: 1}, tls: {mode: SIMPLE, sni: "
    "a, "
    "subjectAltNames: [a], caCertificates: /a}, portLevelSettings: [{port: {number: 80}, tls: "
    "{mode: MUTUAL, clientCertificate: /a, privateKey: /b}}], proxyProtocol: {version: V2}, "
    "retryBudget: {percent: 1, minRetryConcurrency: 1}}, subsets: [{name: a, labels: {version: "
    "v1}, "
    "trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: a, path: /, ttl: 1s, "
    "attributes: [{name: a, value: b}]}, maglev: {tableSize: 5}}}}}]}\n",
    "kind: DestinationRule\nmetadata: {name: d, namespace: books}\n"
    "spec: {host: '*.books.svc.cluster.local', trafficPolicy: {loadBalancer: {consistentHash: "
    "{httpHeaderName: a, ringHash: {minimumRingSize: 1}}, localityLbSetting: {distribute: [{from: "
    "a/*, to: {a/*: 40, '*': 60}}]}}}}\n",
    "kind: ServiceEntry\nmetadata: {name: m, namespace: books}\n"
    "spec: {hosts: [a.test, '*.b.test'], addresses: [192.0.2.1, 192.0.2.0/24], ports: [{number: "
    "80, "
    "name: http, protocol: HTTP, targetPort: 81}, {number: 443, name: tls, protocol: TLS}, "
    "{number: "
    "9000, name: any}], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: "
    "192.0.2.1, ports: {http: 1}, labels: {a: b, security.istio.io/tlsMode: istio}, locality: "
    "a/b/c, "
    "weight: 2, network: n, serviceAccount: s}, {address: 192.0.2.3}], exportTo: ['*'], "
    "subjectAltNames: [a]}\n",
    "kind: ServiceEntry\nmetadata: {name: d, namespace: books}\n"
    "spec: {hosts: [d.test], ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: "
    "tcp, protocol: TCP}], resolution: DNS, endpoints: [{address: x.test, ports: {http: 1}, "
    "locality: "
    "a, weight: 3}]}\n",
    "kind: ServiceEntry\nmetadata: {name: s, namespace: books}\n"
    "spec: {hosts: [s.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: "
    "STATIC, "
    "workloadSelector: {labels: {app: flaskapp}}}\n",
    "kind: WorkloadEntry\nmetadata: {name: m, namespace: books}\n"
    "spec: {address: 192.0.2.8, ports: {http: 8}, labels: {app: flaskapp, version: v1}, network: "
    "n, "
    "locality: a/b/c, weight: 5, serviceAccount: a}\n",
    "kind: Sidecar\nmetadata: {name: m, namespace: books}\n"
    "spec: {workloadSelector: {labels: {app: a}}, egress: [{hosts: [./*, books/a.test, '*/*']}], "
    "outboundTrafficPolicy: {mode: REGISTRY_ONLY}, inboundConnectionPool: {tcp: {maxConnections: "
    "1}}}\n",
    "kind: Sidecar\nmetadata: {name: d, namespace: books}\nspec: {egress: [{hosts: ['~/*']}]}\n",
};

static const char *const values[] = {"''",
                                     "'*'",
                                     "'*.'",
                                     "0",
                                     "-1",
                                     "1",
                                     "65536",
                                     "~",
                                     "[]",
                                     "{}",
                                     "/",
                                     "a|b",
                                     "4294967295",
                                     "4294967296",
                                     "1e9",
                                     "NaN",
                                     "0s",
                                     "-1s",
                                     "1h",
                                     "'.'",
                                     "'a b'",
                                     "DNS",
                                     "NONE",
                                     "80",
                                     "81",
                                     "/a",
                                     "unix:///a",
                                     "'@'",
                                     "::1",
                                     "0.0.0.0/0",
                                     "1/2/3/4",
                                     "HTTP",
                                     "TCP",
                                     "TLS",
                                     "UDP",
                                     "STATIC",
                                     "PASSTHROUGH",
                                     "ISTIO_MUTUAL",
                                     "DISABLE",
                                     "true",
                                     "99999999999999999999",
                                     "'//'",
                                     "'|'",
                                     "flaskapp",
                                     "*"};

/* Where a value starts: after ": ", "[" or ", ". */
static size_t value_at(const char *text, size_t from)
{
    for (size_t i = from; text[i]; i++) {
        if (text[i] == '[' && text[i + 1] != '{')
            return i + 1;
        if ((text[i] == ':' || text[i] == ',') && text[i + 1] == ' ' && text[i + 2] != '{' &&
            text[i + 2] != '[')
            return i + 2;
    }
    return 0;
}

static void replace(char *text, size_t cap, struct rand_state *r)
{
    char *spec = strstr(text, "spec: "), tail[4096];
    size_t n = strlen(spec), at = value_at(spec, rand_below(r, n)), end;
    const char *v = values[rand_below(r, sizeof values / sizeof *values)];

    if (!at)
        return;
    end = at + strcspn(spec + at, ",]}\n");
    snprintf(tail, sizeof tail, "%s", spec + end);
    snprintf(spec + at, cap - (size_t)(spec - text) - at, "%s%s", v, tail);
}

static void everything(struct fixture *f)
{
    struct arena used = f->a;

    arena_init(&f->a);
    for (int capture = 0; capture < 2; capture++) {
        f->proxy.dns_capture = capture;
        clusters(f);
        listeners(f);
        names(f);
        for (uint32_t i = 0; i < f->m->n_services; i++) {
            const struct model_service *svc = f->m->service_list[i];
            for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
                char name[600];
                sv packed;
                snprintf(name, sizeof name, "outbound|%u||%.*s", svc->spec->ports[k].port,
                         SV_ARG(svc->host));
                endpoints(f, name);
                snprintf(name, sizeof name, "%u", svc->spec->ports[k].port);
                translate_routes(f->t, f->m, &f->proxy, sv_of(name), &f->a, &packed);
                snprintf(name, sizeof name, "%.*s:%u", SV_ARG(svc->host), svc->spec->ports[k].port);
                translate_routes(f->t, f->m, &f->proxy, sv_of(name), &f->a, &packed);
            }
        }
    }
    problems(f);
    arena_free(&f->a);
    f->a = used;
}

static void test_mutated(void **state)
{
    struct fixture *f = *state;
    struct rand_state r;
    uint32_t accepted = 0;

    rand_seed(&r, 7);
    f->proxy.region = SV("a");
    for (uint32_t i = 0; i < ROUNDS; i++) {
        char text[5000], file[6000];
        snprintf(text, sizeof text, "%s", objects[i % (sizeof objects / sizeof *objects)]);
        for (uint32_t k = 0; k <= i / 8 % 3; k++)
            replace(text, sizeof text, &r);
        snprintf(file, sizeof file, "apiVersion: networking.istio.io/v1\n%s", text);
        write_file(f, "mutated.yaml", file);
        rebuild(f);
        accepted += f->m->n_problems == 0;
        everything(f);
    }
    /* Both happen. */
    assert_in_range(accepted, ROUNDS / 20, ROUNDS - ROUNDS / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_mutated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
