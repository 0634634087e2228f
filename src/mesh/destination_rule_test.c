/* DestinationRules: which one holds, what stands in the clusters, routes, listeners and endpoint
 * assignments, what is refused. */
#include "mesh/mesh_testlib.h"

/* covers: DestinationRule.host, DestinationRule.trafficPolicy, DestinationRule.subsets,
 * DestinationRule.exportTo, DestinationRule.workloadSelector, TrafficPolicy.loadBalancer,
 * TrafficPolicy.connectionPool, TrafficPolicy.outlierDetection, TrafficPolicy.tls,
 * TrafficPolicy.portLevelSettings, TrafficPolicy.tunnel, TrafficPolicy.TunnelSettings.protocol,
 * TrafficPolicy.TunnelSettings.targetHost, TrafficPolicy.TunnelSettings.targetPort,
 * TrafficPolicy.proxyProtocol, TrafficPolicy.retryBudget,
 * TrafficPolicy.PortTrafficPolicy.port, TrafficPolicy.PortTrafficPolicy.loadBalancer,
 * TrafficPolicy.PortTrafficPolicy.connectionPool, TrafficPolicy.PortTrafficPolicy.outlierDetection,
 * TrafficPolicy.PortTrafficPolicy.tls, TrafficPolicy.ProxyProtocol.version,
 * TrafficPolicy.RetryBudget.percent, TrafficPolicy.RetryBudget.minRetryConcurrency, Subset.name,
 * Subset.labels, Subset.trafficPolicy, LoadBalancerSettings.simple,
 * LoadBalancerSettings.consistentHash, LoadBalancerSettings.localityLbSetting,
 * LoadBalancerSettings.warmupDurationSecs, LoadBalancerSettings.warmup,
 * LoadBalancerSettings.ConsistentHashLB.httpHeaderName,
 * LoadBalancerSettings.ConsistentHashLB.httpCookie,
 * LoadBalancerSettings.ConsistentHashLB.useSourceIp,
 * LoadBalancerSettings.ConsistentHashLB.httpQueryParameterName,
 * LoadBalancerSettings.ConsistentHashLB.ringHash, LoadBalancerSettings.ConsistentHashLB.maglev,
 * LoadBalancerSettings.ConsistentHashLB.minimumRingSize,
 * LoadBalancerSettings.ConsistentHashLB.RingHash.minimumRingSize,
 * LoadBalancerSettings.ConsistentHashLB.MagLev.tableSize,
 * LoadBalancerSettings.ConsistentHashLB.HTTPCookie.name,
 * LoadBalancerSettings.ConsistentHashLB.HTTPCookie.path,
 * LoadBalancerSettings.ConsistentHashLB.HTTPCookie.ttl,
 * LoadBalancerSettings.ConsistentHashLB.HTTPCookie.attributes,
 * LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute.name,
 * LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute.value, WarmupConfiguration.duration,
 * WarmupConfiguration.minimumPercent, WarmupConfiguration.aggression, ConnectionPoolSettings.tcp,
 * ConnectionPoolSettings.http, ConnectionPoolSettings.TCPSettings.maxConnections,
 * ConnectionPoolSettings.TCPSettings.connectTimeout,
 * ConnectionPoolSettings.TCPSettings.tcpKeepalive,
 * ConnectionPoolSettings.TCPSettings.maxConnectionDuration,
 * ConnectionPoolSettings.TCPSettings.idleTimeout,
 * ConnectionPoolSettings.TCPSettings.TcpKeepalive.probes,
 * ConnectionPoolSettings.TCPSettings.TcpKeepalive.time,
 * ConnectionPoolSettings.TCPSettings.TcpKeepalive.interval,
 * ConnectionPoolSettings.HTTPSettings.http1MaxPendingRequests,
 * ConnectionPoolSettings.HTTPSettings.http2MaxRequests,
 * ConnectionPoolSettings.HTTPSettings.maxRequestsPerConnection,
 * ConnectionPoolSettings.HTTPSettings.maxRetries, ConnectionPoolSettings.HTTPSettings.idleTimeout,
 * ConnectionPoolSettings.HTTPSettings.h2UpgradePolicy,
 * ConnectionPoolSettings.HTTPSettings.useClientProtocol,
 * ConnectionPoolSettings.HTTPSettings.maxConcurrentStreams,
 * ConnectionPoolSettings.HTTPSettings.http2KeepAlive,
 * ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive.interval,
 * ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive.timeout,
 * OutlierDetection.splitExternalLocalOriginErrors, OutlierDetection.consecutiveLocalOriginFailures,
 * OutlierDetection.consecutiveGatewayErrors, OutlierDetection.consecutive5xxErrors,
 * OutlierDetection.interval, OutlierDetection.baseEjectionTime,
 * OutlierDetection.maxEjectionPercent, OutlierDetection.minHealthPercent,
 * OutlierDetection.outlierDetectionHttpErrorCodes, ClientTLSSettings.mode,
 * ClientTLSSettings.clientCertificate, ClientTLSSettings.privateKey,
 * ClientTLSSettings.caCertificates, ClientTLSSettings.subjectAltNames, ClientTLSSettings.sni,
 * ClientTLSSettings.insecureSkipVerify, ClientTLSSettings.caCrl,
 * LocalityLoadBalancerSetting.distribute, LocalityLoadBalancerSetting.failover,
 * LocalityLoadBalancerSetting.failoverPriority, LocalityLoadBalancerSetting.enabled,
 * LocalityLoadBalancerSetting.Distribute.from, LocalityLoadBalancerSetting.Distribute.to,
 * LocalityLoadBalancerSetting.Failover.from, LocalityLoadBalancerSetting.Failover.to */

#define RULE(name, ns, spec)                                                                       \
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                                  \
    "metadata: {name: " name ", namespace: " ns "}\nspec: " spec "\n---\n"

static void rules(struct fixture *f, const char *text)
{
    only_services(f);
    write_file(f, "rules.yaml", text);
    rebuild_accepted(f);
    clusters(f);
}

static const char *cluster(struct fixture *f, const char *policy)
{
    char text[4000];
    snprintf(text, sizeof text, RULE("r", "books", "{host: flaskapp, trafficPolicy: %s}"), policy);
    rules(f, text);
    return line_of(f, "outbound|80||" FLASK);
}

/* The default of the field, and so not written. */
static void expect_round_robin(const char *json)
{
    expect_not(json, "\"lb_policy\"");
}

static void test_balancers(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *lb, *part;
    } cases[] = {
        {"{simple: RANDOM}", "\"lb_policy\":\"RANDOM\""},
        {"{simple: LEAST_REQUEST}", "\"lb_policy\":\"LEAST_REQUEST\""},
        {"{simple: LEAST_CONN}", "\"lb_policy\":\"LEAST_REQUEST\""},
        {"{simple: UNSPECIFIED}", "\"lb_policy\":\"LEAST_REQUEST\""},
        {"{simple: PASSTHROUGH}", "\"type\":\"ORIGINAL_DST\""},
        {"{simple: PASSTHROUGH}", "\"lb_policy\":\"CLUSTER_PROVIDED\""},
        {"{consistentHash: {httpHeaderName: x}}",
         "\"ring_hash_lb_config\":{\"minimum_ring_size\":\"1024\"}"},
        {"{consistentHash: {useSourceIp: true, minimumRingSize: 7}}",
         "\"ring_hash_lb_config\":{\"minimum_ring_size\":\"7\"}"},
        {"{consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 9}}}",
         "\"ring_hash_lb_config\":{\"minimum_ring_size\":\"9\"}"},
        {"{consistentHash: {httpQueryParameterName: u, maglev: {}}}", "\"lb_policy\":\"MAGLEV\""},
        {"{consistentHash: {httpQueryParameterName: u, maglev: {tableSize: 251}}}",
         "\"maglev_lb_config\":{\"table_size\":\"251\"}"},
        {"{simple: ROUND_ROBIN, warmupDurationSecs: 30s}",
         "\"round_robin_lb_config\":{\"slow_start_config\":{\"slow_start_window\":\"30s\"}}"},
        {"{warmup: {duration: 5s, minimumPercent: 20, aggression: 2}}",
         "\"least_request_lb_config\":{\"slow_start_config\":{\"slow_start_window\":\"5s\","
         "\"aggression\":{\"default_value\":2,\"runtime_key\":\"upstream.slow_start.aggression\"},"
         "\"min_weight_percent\":{\"value\":20}}}"},
        {"{simple: RANDOM}", "\"locality_weighted_lb_config\":{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text, "{loadBalancer: %s}", cases[i].lb);
        expect(cluster(f, text), cases[i].part);
    }
    expect_round_robin(cluster(f, "{loadBalancer: {simple: ROUND_ROBIN}}"));
    expect_not(cluster(f, "{loadBalancer: {localityLbSetting: {enabled: false}}}"),
               "locality_weighted");
}

/* What is hashed stands in the route, also of every destination of a split. */
static void test_hash_policies(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *key, *part;
    } cases[] = {
        {"httpHeaderName: x-user", "\"hash_policy\":[{\"header\":{\"header_name\":\"x-user\"}}]"},
        {"useSourceIp: true", "\"hash_policy\":[{\"connection_properties\":{\"source_ip\":true}}]"},
        {"httpQueryParameterName: u", "\"hash_policy\":[{\"query_parameter\":{\"name\":\"u\"}}]"},
        {"httpCookie: {name: c, path: /p, ttl: 3s, attributes: [{name: Secure, value: ''}]}",
         "\"hash_policy\":[{\"cookie\":{\"name\":\"c\",\"ttl\":\"3s\",\"path\":\"/p\","
         "\"attributes\":[{\"name\":\"Secure\"}]}}]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text, "{loadBalancer: {consistentHash: {%s}}}", cases[i].key);
        cluster(f, text);
        routes(f, "80");
        expect(f->json.p, cases[i].part);
    }
    rules(
        f,
        RULE(
            "r", "books",
            "{host: flaskapp, subsets: [{name: a, labels: {version: v1}, trafficPolicy: "
            "{loadBalancer: {consistentHash: {httpHeaderName: x-a}}}}, {name: b}]}") "apiVersion: "
                                                                                     "networking."
                                                                                     "istio.io/"
                                                                                     "v1\nkind: "
                                                                                     "VirtualServic"
                                                                                     "e\n"
                                                                                     "metadata: "
                                                                                     "{name: "
                                                                                     "split, "
                                                                                     "namespace: "
                                                                                     "books}\nspec:"
                                                                                     "\n  hosts: "
                                                                                     "[flaskapp]\n"
                                                                                     "  http: "
                                                                                     "[{route: "
                                                                                     "[{"
                                                                                     "destination: "
                                                                                     "{host: "
                                                                                     "flaskapp, "
                                                                                     "subset: b}, "
                                                                                     "weight: 1}, "
                                                                                     "{destination:"
                                                                                     " {host: "
                                                                                     "flaskapp, "
                                                                                     "subset: a}, "
                                                                                     "weight: "
                                                                                     "1}]}]\n");
    routes(f, "80");
    expect(f->json.p, "\"hash_policy\":[{\"header\":{\"header_name\":\"x-a\"}}]");
}

static void test_pools(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *pool, *part;
    } cases[] = {
        {"{tcp: {maxConnections: 3}}", "\"max_connections\":3,\"max_pending_requests\":4294967295"},
        {"{tcp: {connectTimeout: 0.25s}}", "\"connect_timeout\":\"0.250s\""},
        {"{tcp: {tcpKeepalive: {probes: 2, time: 60s, interval: 7s}}}",
         "\"tcp_keepalive\":{\"keepalive_probes\":2,\"keepalive_time\":60,\"keepalive_interval\":"
         "7}"},
        {"{tcp: {maxConnectionDuration: 9s}}", "\"max_connection_duration\":\"9s\""},
        {"{tcp: {idleTimeout: 8s}}", "\"common_http_protocol_options\":{\"idle_timeout\":\"8s\"}"},
        {"{tcp: {idleTimeout: 8s}, http: {idleTimeout: 4s}}", "\"idle_timeout\":\"4s\""},
        {"{http: {http1MaxPendingRequests: 4}}", "\"max_pending_requests\":4,"},
        {"{http: {http2MaxRequests: 5}}", "\"max_requests\":5,"},
        {"{http: {maxRetries: 6}}", "\"max_retries\":6,"},
        {"{http: {maxRequestsPerConnection: 2}}", "\"max_requests_per_connection\":2"},
        {"{http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 8}}",
         "\"http2_protocol_options\":{\"max_concurrent_streams\":8}"},
        {"{http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", "\"http_protocol_options\":{}"},
        {"{http: {useClientProtocol: true}}", "\"use_downstream_protocol_config\":{"},
        {"{http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 3s, timeout: 1s}}}",
         "\"connection_keepalive\":{\"interval\":\"3s\",\"timeout\":\"1s\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text, "{connectionPool: %s}", cases[i].pool);
        expect(cluster(f, text), cases[i].part);
    }
    /* A budget also where nothing is said, but not beside a limit. */
    expect(cluster(f, "{}"),
           "\"retry_budget\":{\"budget_percent\":{\"value\":20},\"min_retry_concurrency\":16}");
    if (strstr(cluster(f, "{connectionPool: {http: {maxRetries: 6}}}"), "retry_budget"))
        fail_msg("two limits: %s", f->json.p);
    expect(cluster(f, "{retryBudget: {percent: 30, minRetryConcurrency: 2}}"),
           "\"retry_budget\":{\"budget_percent\":{\"value\":30},\"min_retry_concurrency\":2}");
    expect(cluster(f, "{retryBudget: {}}"),
           "\"retry_budget\":{\"budget_percent\":{\"value\":20},\"min_retry_concurrency\":3}");
    /* Limits of TCP connections stand in the listener. */
    rules(f, RULE("r", "books",
                  "{host: db, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 5s, "
                  "maxConnectionDuration: 50s}}, loadBalancer: {consistentHash: {useSourceIp: "
                  "true}}}}"));
    listeners(f);
    expect(line_of(f, "10.1.2.3_3306"), "\"idle_timeout\":\"5s\"");
    expect(line_of(f, "10.1.2.3_3306"), "\"max_downstream_connection_duration\":\"50s\"");
    expect(line_of(f, "10.1.2.3_3306"), "\"hash_policy\":[{\"source_ip\":{}}]");
}

/* TCP goes through a forward proxy: a subset's tunnel is its own, and a split has that of the rule.
 */
static void test_tunnel(void **state)
{
    struct fixture *f = *state;
    const char *split =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: db, namespace: "
        "books}\nspec: {hosts: [db], tcp: [{route: [{destination: {host: db, subset: v1}, weight: "
        "1}, "
        "{destination: {host: db, subset: v2}, weight: 1}]}]}\n---\n";
    const struct {
        const char *rule, *expected;
        const char *route; /* to subset v1, or split, or NULL */
    } cases[] = {
        {"tunnel: {targetHost: ext.test, targetPort: 443}",
         "\"tunneling_config\":{\"hostname\":\"ext.test:443\"}", NULL},
        {"tunnel: {targetHost: ext.test, targetPort: 443, protocol: CONNECT}",
         "\"tunneling_config\":{\"hostname\":\"ext.test:443\"}", split},
        {"tunnel: {targetHost: '2001:db8::1', targetPort: 1, protocol: POST}",
         "\"tunneling_config\":{\"hostname\":\"[2001:db8::1]:1\",\"use_post\":true}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4000];
        snprintf(text, sizeof text,
                 "%s" RULE("r", "books",
                           "{host: db, trafficPolicy: {%s}, subsets: [{name: v1}, {name: v2}]}"),
                 cases[i].route ? cases[i].route : "", cases[i].rule);
        rules(f, text);
        listeners(f);
        expect(line_of(f, "10.1.2.3_3306"), cases[i].expected);
    }
    const char *to_v1 =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: db, namespace: "
        "books}\nspec: {hosts: [db], tcp: [{route: [{destination: {host: db, subset: "
        "v1}}]}]}\n---\n";
    char text[4000];
    snprintf(text, sizeof text,
             "%s" RULE("r", "books",
                       "{host: db, trafficPolicy: {tunnel: {targetHost: a, targetPort: 1}}, "
                       "subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]}"),
             to_v1);
    rules(f, text);
    listeners(f);
    expect_not(line_of(f, "10.1.2.3_3306"), "tunneling_config");
    snprintf(text, sizeof text,
             "%s" RULE("r", "books",
                       "{host: db, subsets: [{name: v1, trafficPolicy: {tunnel: {targetHost: a, "
                       "targetPort: 1}}}]}"),
             to_v1);
    rules(f, text);
    listeners(f);
    expect(line_of(f, "10.1.2.3_3306"), "\"tunneling_config\":{\"hostname\":\"a:1\"}");
}

static void test_outliers(void **state)
{
    struct fixture *f = *state;
    const char *c = cluster(f, "{outlierDetection: {consecutive5xxErrors: 3, "
                               "consecutiveGatewayErrors: 0, interval: 2s, baseEjectionTime: 4s, "
                               "maxEjectionPercent: 60, minHealthPercent: 20, "
                               "splitExternalLocalOriginErrors: true, "
                               "consecutiveLocalOriginFailures: 6}}");
    expect(c, "\"consecutive_5xx\":3,\"interval\":\"2s\",\"base_ejection_time\":\"4s\","
              "\"max_ejection_percent\":60,\"enforcing_consecutive_5xx\":100,"
              "\"enforcing_success_rate\":0,\"consecutive_gateway_failure\":0,"
              "\"enforcing_consecutive_gateway_failure\":0,"
              "\"split_external_local_origin_errors\":true,"
              "\"consecutive_local_origin_failure\":6,"
              "\"enforcing_consecutive_local_origin_failure\":100,"
              "\"enforcing_local_origin_success_rate\":0");
    expect(c, "\"healthy_panic_threshold\":{\"value\":20}");
    c = cluster(f, "{outlierDetection: {outlierDetectionHttpErrorCodes: [503]}}");
    expect(c, "\"outlier_detection\":{\"error_matcher\":{\"http_response_headers_match\":{"
              "\"headers\":[{\"name\":\":status\",\"string_match\":{\"exact\":\"503\"}}]}}}");
    c = cluster(f, "{outlierDetection: {outlierDetectionHttpErrorCodes: [429, 503]}}");
    expect(c, "\"error_matcher\":{\"or_match\":{\"rules\":[");
    /* Without a word of it all endpoints are never used at once. */
    expect(cluster(f, "{outlierDetection: {}}"), "\"healthy_panic_threshold\":{}");
    expect(cluster(f, "{}"), "\"healthy_panic_threshold\":{}");
}

static void test_tls(void **state)
{
    struct fixture *f = *state;
    const char *c = cluster(f, "{tls: {mode: DISABLE}}");

    expect_not(c, "transport_socket");
    c = cluster(f, "{tls: {mode: SIMPLE, sni: s.test, subjectAltNames: [a.test, 'x://y', 10.0.0.1, "
                   "m@x], caCertificates: /ca, caCrl: /crl}}");
    expect(c, "\"sni\":\"s.test\"");
    expect(c, "\"trusted_ca\":{\"filename\":\"/ca\"}");
    expect(c, "\"crl\":{\"filename\":\"/crl\"}");
    expect(c, "{\"san_type\":\"DNS\",\"matcher\":{\"exact\":\"a.test\"}}");
    expect(c, "{\"san_type\":\"URI\",\"matcher\":{\"exact\":\"x://y\"}}");
    expect(c, "{\"san_type\":\"IP_ADDRESS\",\"matcher\":{\"exact\":\"10.0.0.1\"}}");
    expect(c, "{\"san_type\":\"EMAIL\",\"matcher\":{\"exact\":\"m@x\"}}");
    expect_not(c, "auto_sni");
    c = cluster(f, "{tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}");
    expect(c, "\"certificate_chain\":{\"filename\":\"/c\"},\"private_key\":{\"filename\":\"/k\"}");
    expect(c, "\"auto_sni\":true,\"auto_san_validation\":true");
    expect(c, "/etc/ssl/certs/ca-certificates.crt");
    c = cluster(f, "{tls: {mode: SIMPLE, insecureSkipVerify: true}}");
    expect_not(c, "validation_context");
    expect(c, "\"upstream_http_protocol_options\":{\"auto_sni\":true}");
    c = cluster(f, "{tls: {mode: ISTIO_MUTUAL, sni: s.test, subjectAltNames: ['spiffe://t/x']}}");
    expect(c, "\"sni\":\"s.test\"");
    expect(c, "spiffe://t/x");
    expect_not(c, "spiffe://cluster.local");
    c = cluster(f, "{tls: {mode: ISTIO_MUTUAL}}");
    expect(c, "\"sni\":\"outbound_.80_._." FLASK "\"");
    expect(c, "spiffe://cluster.local/ns/books/sa/v1");
    expect_not(c, "transport_socket_matches");
    c = cluster(f, "{proxyProtocol: {version: V2}, tls: {mode: SIMPLE}}");
    expect(c, "\"transport_socket\":{\"name\":\"envoy.transport_sockets.upstream_proxy_protocol\"");
    expect(c, "\"config\":{\"version\":\"V2\"}");
    /* mTLS by endpoint: the line goes before either. */
    c = cluster(f, "{proxyProtocol: {}}");
    expect(c, "\"name\":\"tlsMode-istio\"");
    expect(c, "upstream_proxy_protocol");
}

/* Clients that choose endpoints themselves speak mTLS when all endpoints do. */
static void test_passthrough_tls(void **state)
{
    struct fixture *f = *state;

    expect(cluster(f, "{loadBalancer: {simple: PASSTHROUGH}}"),
           "\"sni\":\"outbound_.80_._." FLASK "\"");
    write_file(f, "plain.yaml",
               "apiVersion: v1\nkind: Pod\nmetadata: {name: plain, namespace: books, labels: {app: "
               "flaskapp}}\nspec: {}\nstatus: {podIP: 10.0.0.8}\n");
    expect_not(cluster(f, "{loadBalancer: {simple: PASSTHROUGH}}"), "transport_socket");
}

/* A subset takes each part that it has from itself, else from the rule; a port's settings stand in
 * place of all of them. */
static void test_inheritance(void **state)
{
    struct fixture *f = *state;
    rules(f,
          RULE("r", "books",
               "{host: flaskapp, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: "
               "{tcp: {maxConnections: 7}}}, subsets: [{name: a, trafficPolicy: {loadBalancer: "
               "{simple: ROUND_ROBIN}}}, {name: b}, {name: p, trafficPolicy: {portLevelSettings: "
               "[{port: {number: 80}, tls: {mode: DISABLE}}]}}, {name: q, trafficPolicy: "
               "{portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}}]}"));
    expect_round_robin(line_of(f, "outbound|80|a|" FLASK));
    expect(line_of(f, "outbound|80|a|" FLASK), "\"max_connections\":7");
    expect(line_of(f, "outbound|80|b|" FLASK), "\"lb_policy\":\"RANDOM\"");
    expect(line_of(f, "outbound|80|p|" FLASK), "\"lb_policy\":\"LEAST_REQUEST\"");
    expect_not(line_of(f, "outbound|80|p|" FLASK), "\"max_connections\":7");
    expect_not(line_of(f, "outbound|80|p|" FLASK), "transport_socket");
    expect(line_of(f, "outbound|80|q|" FLASK), "\"lb_policy\":\"RANDOM\"");
    /* At the top a port's settings hide the rule's own, and a subset's come over them. */
    rules(f, RULE("r", "books",
                  "{host: flaskapp, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, "
                  "outlierDetection: {}, portLevelSettings: [{port: {number: 80}, loadBalancer: "
                  "{simple: RANDOM}}]}, subsets: [{name: a, trafficPolicy: {connectionPool: {tcp: "
                  "{maxConnections: 9}}}}]}"));
    expect(line_of(f, "outbound|80||" FLASK), "\"lb_policy\":\"RANDOM\"");
    expect_not(line_of(f, "outbound|80||" FLASK), "\"max_connections\":7");
    expect_not(line_of(f, "outbound|80||" FLASK), "outlier_detection");
    expect(line_of(f, "outbound|80|a|" FLASK), "\"lb_policy\":\"RANDOM\"");
    expect(line_of(f, "outbound|80|a|" FLASK), "\"max_connections\":9");
}

/* The client's namespace, then the service's, then the root; exact before wildcard; exportTo. */
static void test_which_rule(void **state)
{
    struct fixture *f = *state;
#define LB(name) "trafficPolicy: {loadBalancer: {simple: " name "}}"
    const char *root = RULE("r", "istio-system", "{host: '*.local', " LB("RANDOM") "}");
    const char *own =
        RULE("r", "books", "{host: '*.books.svc.cluster.local', " LB("ROUND_ROBIN") "}");
    const char *hidden =
        RULE("h", "books", "{host: flaskapp, exportTo: ['.'], " LB("PASSTHROUGH") "}");
    const char *client = RULE("c", "shop", "{host: " FLASK ", " LB("LEAST_REQUEST") "}");
    char text[4000];

    rules(f, root);
    expect(line_of(f, "outbound|80||" FLASK), "\"lb_policy\":\"RANDOM\"");
    snprintf(text, sizeof text, "%s%s", root, own);
    rules(f, text);
    expect_round_robin(line_of(f, "outbound|80||" FLASK));
    snprintf(text, sizeof text, "%s%s%s", root, own, hidden);
    rules(f, text);
    expect(line_of(f, "outbound|80||" FLASK), "\"lb_policy\":\"CLUSTER_PROVIDED\"");
    f->proxy.ns = SV("shop");
    clusters(f);
    expect_round_robin(line_of(f, "outbound|80||" FLASK));
    snprintf(text, sizeof text, "%s%s%s%s", root, own, hidden, client);
    rules(f, text);
    expect(line_of(f, "outbound|80||" FLASK), "\"lb_policy\":\"LEAST_REQUEST\"");
}

/* Rules of one namespace and host are one; a rule for some workloads stands beside them. */
static void test_merged_rules(void **state)
{
    struct fixture *f = *state;
    struct model_label web[] = {{SV_INIT("app"), SV_INIT("web")}};

    rules(f, RULE("a", "books", "{host: flaskapp, subsets: [{name: v1, labels: {version: v1}}]}")
                 RULE("b", "books",
                      "{host: " FLASK ", " LB("RANDOM") ", subsets: [{name: v1}, {name: v2, "
                                                        "labels: {version: v2}}]}")
                     RULE("c", "books",
                          "{host: flaskapp, workloadSelector: {matchLabels: {app: web}}, " LB(
                              "ROUND_ROBIN") "}"));
    expect(line_of(f, "outbound|80||" FLASK), "\"lb_policy\":\"RANDOM\"");
    line_of(f, "outbound|80|v1|" FLASK);
    line_of(f, "outbound|80|v2|" FLASK);
    assert_true(endpoints(f, "outbound|80|v1|" FLASK));
    assert_true(has(f, "10.0.0.1") && !has(f, "10.0.0.2"));
    problems(f);
    expect(f->json.p, "books/b Conflict: spec.subsets: DestinationRule books/a of the same host "
                      "already has subset 'v1'");
    assert_false(has(f, "books/c"));
    f->proxy.labels = (struct model_labels){web, 1};
    clusters(f);
    expect_round_robin(line_of(f, "outbound|80||" FLASK));
    assert_false(has(f, "outbound|80|v1|"));
    /* Two policies: the older one. */
    rules(f, RULE("a", "books", "{host: flaskapp, " LB("RANDOM") "}")
                 RULE("b", "books", "{host: flaskapp, " LB("ROUND_ROBIN") "}"));
    f->proxy.labels.n = 0;
    clusters(f);
    expect(line_of(f, "outbound|80||" FLASK), "\"lb_policy\":\"RANDOM\"");
    problems(f);
    expect(f->json.p, "books/b Conflict: spec.trafficPolicy: DestinationRule books/a");
    /* A client's namespace hides the service's subsets from its clients. */
    rules(f, RULE("a", "books", "{host: flaskapp, subsets: [{name: v1}]}")
                 RULE("b", "shop", "{host: " FLASK ", " LB("ROUND_ROBIN") "}"));
    problems(f);
    expect(f->json.p,
           "shop/b Hidden: spec.host: clients in namespace 'shop' get this rule instead of "
           "books/a");
    expect(f->json.p, "'v1'");
}

/* ---- localities ---- */

#define POD(name, ip, region, zone)                                                                \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: books, labels: {app: far, "  \
    "kind: " name ", topology.kubernetes.io/region: " region                                       \
    ", topology.kubernetes.io/zone: " zone "}}\nspec: {}\nstatus: {podIP: " ip "}\n---\n"
#define FAR "far.books.svc.cluster.local"
static const char far_pods[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: books}\n"
    "spec: {selector: {app: far}, ports: [{name: http, port: 80}]}\n---\n" POD(
        "a", "10.2.0.1", "eu", "x") POD("b", "10.2.0.2", "eu", "y") POD("c", "10.2.0.3", "us", "x")
        POD("d", "10.2.0.4", "ap", "x");

static void localities(struct fixture *f, const char *policy)
{
    char text[4000];

    f->proxy.region = SV("eu");
    f->proxy.zone = SV("x");
    write_file(f, "far.yaml", far_pods);
    snprintf(text, sizeof text, RULE("r", "books", "{host: far, trafficPolicy: %s}"), policy);
    rules(f, text);
    assert_true(endpoints(f, "outbound|80||" FAR));
}

/* "address priority weight", in this order within a locality's JSON */
static void expect_locality(struct fixture *f, const char *address, uint32_t priority,
                            uint32_t weight)
{
    const char *at = strstr(f->json.p, address), *end, *p;
    char text[64];

    if (!priority && !weight) {
        assert_null(at);
        return;
    }
    assert_non_null(at);
    end = strstr(at, "\"locality\":{");
    if (!end)
        end = at + strlen(at);
    snprintf(text, sizeof text, "],\"load_balancing_weight\":%u", weight);
    p = strstr(at, text);
    if (!p || p > end)
        fail_msg("%s has not weight %u in\n%s", address, weight, f->json.p);
    p += strlen(text);
    snprintf(text, sizeof text, ",\"priority\":%u}", priority);
    if (priority ? strncmp(p, text, strlen(text)) != 0 : *p != '}')
        fail_msg("%s has not priority %u in\n%s", address, priority, f->json.p);
}

static void test_failover(void **state)
{
    struct fixture *f = *state;
    /* Nothing said, no outlier detection: everybody alike. */
    localities(f, "{}");
    expect_locality(f, "10.2.0.1", 0, 1);
    expect_locality(f, "10.2.0.4", 0, 1);
    /* Outlier detection alone: zone, region, elsewhere. */
    localities(f, "{outlierDetection: {}}");
    expect_locality(f, "10.2.0.1", 0, 1);
    expect_locality(f, "10.2.0.2", 1, 1);
    expect_locality(f, "10.2.0.3", 2, 1);
    expect_locality(f, "10.2.0.4", 2, 1);
    /* A region named to follow; it needs no outlier detection. */
    localities(f, "{loadBalancer: {localityLbSetting: {failover: [{from: eu, to: ap}]}}}");
    expect_locality(f, "10.2.0.2", 1, 1);
    expect_locality(f, "10.2.0.3", 3, 1);
    expect_locality(f, "10.2.0.4", 2, 1);
    localities(f, "{loadBalancer: {localityLbSetting: {enabled: true}}}");
    expect_locality(f, "10.2.0.2", 1, 1);
    localities(f, "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}");
    expect_locality(f, "10.2.0.4", 0, 1);
    /* By labels: the first that differs decides. */
    localities(f, "{loadBalancer: {localityLbSetting: {failoverPriority: "
                  "[topology.kubernetes.io/region, topology.kubernetes.io/zone]}}}");
    expect_locality(f, "10.2.0.1", 0, 1);
    expect_locality(f, "10.2.0.2", 1, 1);
    expect_locality(f, "10.2.0.3", 2, 1);
    localities(f, "{loadBalancer: {localityLbSetting: {failoverPriority: ['kind=c']}}}");
    expect_locality(f, "10.2.0.3", 0, 1);
    expect_locality(f, "10.2.0.1", 1, 1);
}

static void test_distribute(void **state)
{
    struct fixture *f = *state;
    localities(f, "{loadBalancer: {localityLbSetting: {distribute: [{from: us, to: {ap: 100}}, "
                  "{from: eu/x, to: {'eu/*': 70, us/x: 30}}]}}}");
    expect_locality(f, "10.2.0.1", 0, 35);
    expect_locality(f, "10.2.0.2", 0, 35);
    expect_locality(f, "10.2.0.3", 0, 30);
    expect_locality(f, "10.2.0.4", 0, 0);
    /* Nobody's share: as if nothing was said. */
    localities(f, "{loadBalancer: {localityLbSetting: {distribute: [{from: us, to: {ap: 100}}]}}}");
    expect_locality(f, "10.2.0.4", 0, 1);
}

/* ---- what is refused ---- */

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *policy, *text;
    } cases[] = {
        {"{tunnel: {targetPort: 1}}", "tunnel.targetHost: a host name or an address is needed"},
        {"{tunnel: {targetHost: '*.a', targetPort: 1}}", "tunnel.targetHost: a host name"},
        {"{tunnel: {targetHost: 'a b', targetPort: 1}}",
         "tunnel.targetHost: 'a b' is no host name"},
        {"{tunnel: {targetHost: a}}", "tunnel.targetPort: must be 1 to 65535"},
        {"{tunnel: {targetHost: a, targetPort: 65536}}", "tunnel.targetPort: must be 1 to 65535"},
        {"{tunnel: {targetHost: a, targetPort: 1, protocol: GET}}",
         "tunnel.protocol: must be CONNECT or POST"},
        {"{retryBudget: {budgetInterval: 1s}}", "retryBudget.budgetInterval: not supported"},
        {"{retryBudget: {percent: 101}}", "retryBudget.percent: must be 0 to 100"},
        {"{loadBalancer: {zoneAwareLbSetting: {enabled: true}}}",
         "zoneAwareLbSetting: not supported"},
        {"{outlierDetection: {consecutiveErrors: 1}}", "consecutiveErrors: not supported"},
        {"{outlierDetection: {outlierDetectionHttpErrorCodes: [600]}}",
         "outlierDetectionHttpErrorCodes[0]: must be 100 to 599"},
        {"{outlierDetection: {maxEjectionPercent: 101}}", "maxEjectionPercent: must be 0 to 100"},
        {"{outlierDetection: {minHealthPercent: -1}}", "minHealthPercent: must be 0 to 100"},
        {"{outlierDetection: {interval: 0s}}", "interval: must be at least 1ms"},
        {"{outlierDetection: {consecutiveLocalOriginFailures: 1}}", "only with split"},
        {"{tls: {mode: SIMPLE, credentialName: x}}", "credentialName: not supported"},
        {"{tls: {mode: MUTUAL, clientCertificate: /c}}", "privateKey: mode MUTUAL needs one"},
        {"{tls: {mode: SIMPLE, privateKey: /c}}", "privateKey: does not go with this mode"},
        {"{tls: {mode: ISTIO_MUTUAL, caCertificates: /c}}", "does not go with this mode"},
        {"{tls: {mode: SIMPLE, insecureSkipVerify: true, caCrl: /c}}", "contradicts"},
        {"{connectionPool: {tcp: {maxConnections: -1}}}", "maxConnections: must not be negative"},
        {"{connectionPool: {tcp: {connectTimeout: 0s}}}", "connectTimeout: must be at least 1ms"},
        {"{connectionPool: {http: {maxRetries: -1}}}", "maxRetries: must not be negative"},
        {"{connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}}",
         "contradicts useClientProtocol"},
        {"{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}", "timeout: how long"},
        {"{connectionPool: {http: {http2KeepAlive: {timeout: 1s}}}}", "interval: how often"},
        {"{loadBalancer: {consistentHash: {}}}", "needs one of httpHeaderName"},
        {"{loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}}", "httpCookie.name: a cookie"},
        {"{loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: [{name: A}, {name: "
         "a}]}}}}",
         "httpCookie.attributes[1].name: 'a' stands there twice"},
        {"{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 4}}}}",
         "a prime"},
        {"{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 8388609}}}",
         "8388608"},
        {"{loadBalancer: {simple: RANDOM, warmupDurationSecs: 1s}}", "warming up needs"},
        {"{loadBalancer: {warmup: {minimumPercent: 1}}}", "warmup.duration: is needed"},
        {"{loadBalancer: {warmup: {duration: 1s, aggression: 0}}}", "aggression: must be greater"},
        {"{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}}",
         "distribute[0].to: the shares must add up to 100, not 99"},
        {"{loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}", "two different"},
        {"{loadBalancer: {localityLbSetting: {failover: [{from: a/b, to: c}]}}}", "names regions"},
        {"{loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], distribute: [{from: a, "
         "to: {b: 100}}]}}}",
         "use distribute, or failover"},
        {"{portLevelSettings: [{tls: {mode: DISABLE}}]}", "portLevelSettings[0].port.number"},
        {"{portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]}", "has settings twice"},
    };
    only_services(f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000];
        snprintf(text, sizeof text, RULE("bad", "books", "{host: a, trafficPolicy: %s}"),
                 cases[i].policy);
        expect_refused(f, i, text, cases[i].text);
        assert_int_equal(f->m->problems[0].line, 4);
    }
    expect_refused(f, 0, RULE("bad", "books", "{host: a, exportTo: ['*', b]}"),
                   "spec.exportTo[0]: '*' is everybody");
    expect_refused(
        f, 1,
        RULE("bad", "books", "{host: a, exportTo: ['*'], workloadSelector: {matchLabels: {a: b}}}"),
        "workloadSelector selects clients of this namespace alone");
    expect_refused(f, 2,
                   RULE("bad", "books", "{host: a, workloadSelector: {matchLabels: {'': b}}}"),
                   "a label has a name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_balancers),    T(test_hash_policies), T(test_pools),       T(test_outliers),
        T(test_tunnel),       T(test_tls),           T(test_inheritance), T(test_which_rule),
        T(test_merged_rules), T(test_failover),      T(test_distribute),  T(test_passthrough_tls),
        T(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
