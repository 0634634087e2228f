"""Everything that DestinationRules, ServiceEntries and WorkloadEntries say reaches both kinds of sidecar and is accepted: weft-proxy and
an unmodified Envoy refuse nothing of it, and the control plane has no complaint."""
import json
import re

import pytest
from meshtest import procs
from meshtest.mesh import destination_rule, service

IN = {"apiVersion": "networking.istio.io/v1"}


def entry(name, spec, ns="books"):
    return {**IN, "kind": "ServiceEntry", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def workload_entry(name, spec, ns="books"):
    return {**IN, "kind": "WorkloadEntry", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def policies():
    tls = {"caCertificates": "/etc/ssl/certs/ca-certificates.crt"}
    yield "round-robin", {"loadBalancer": {"simple": "ROUND_ROBIN", "warmupDurationSecs": "10s"}}
    yield "least-request", {"loadBalancer": {"simple": "LEAST_REQUEST", "warmup": {"duration": "10s", "minimumPercent": 20, "aggression": 2}}}
    yield "least-conn", {"loadBalancer": {"simple": "LEAST_CONN"}}
    yield "random", {"loadBalancer": {"simple": "RANDOM"}}
    yield "passthrough", {"loadBalancer": {"simple": "PASSTHROUGH"}}
    yield "header", {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user", "ringHash": {"minimumRingSize": 2048}}}}
    yield "cookie", {"loadBalancer": {"consistentHash": {"httpCookie": {
        "name": "user", "path": "/", "ttl": "60s", "attributes": [{"name": "SameSite", "value": "Strict"}]}, "maglev": {"tableSize": 251}}}}
    yield "source", {"loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 512}}}
    yield "query", {"loadBalancer": {"consistentHash": {"httpQueryParameterName": "u"}}}
    yield "distribute", {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "eu/*", "to": {"eu/a/*": 80, "us/*": 20}}]}}}
    yield "failover", {"loadBalancer": {"localityLbSetting": {"enabled": True, "failover": [{"from": "eu", "to": "us"}]}},
                       "outlierDetection": {"consecutive5xxErrors": 3, "interval": "1s", "baseEjectionTime": "2s"}}
    yield "failover-priority", {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["topology.kubernetes.io/region", "app=x"]}}}
    yield "pool", {"connectionPool": {
        "tcp": {"maxConnections": 10, "connectTimeout": "1.5s", "tcpKeepalive": {"probes": 3, "time": "60s", "interval": "5s"},
                "maxConnectionDuration": "600s", "idleTimeout": "120s"},
        "http": {"http1MaxPendingRequests": 4, "http2MaxRequests": 5, "maxRequestsPerConnection": 6, "maxRetries": 7, "idleTimeout": "30s",
                 "h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 8, "http2KeepAlive": {"interval": "10s", "timeout": "2s"}}}}
    yield "client-protocol", {"connectionPool": {"http": {"useClientProtocol": True, "h2UpgradePolicy": "DO_NOT_UPGRADE"}}}
    yield "outliers", {"outlierDetection": {
        "consecutive5xxErrors": 7, "consecutiveGatewayErrors": 0, "splitExternalLocalOriginErrors": True,
        "consecutiveLocalOriginFailures": 4, "interval": "5s", "baseEjectionTime": "15s", "maxEjectionPercent": 50, "minHealthPercent": 30}}
    yield "budget", {"retryBudget": {"percent": 25, "minRetryConcurrency": 5}}
    yield "proxy-protocol-v1", {"proxyProtocol": {"version": "V1"}}
    yield "proxy-protocol-v2", {"proxyProtocol": {"version": "V2"}, "tls": {"mode": "SIMPLE", **tls}}
    yield "disable", {"tls": {"mode": "DISABLE"}}
    yield "simple", {"tls": {"mode": "SIMPLE", "sni": "x.test", "subjectAltNames": ["x.test", "spiffe://a/b", "10.0.0.1"], **tls}}
    yield "simple-by-host", {"tls": {"mode": "SIMPLE"}}
    yield "skip", {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}
    yield "istio-mutual", {"tls": {"mode": "ISTIO_MUTUAL", "sni": "y.test", "subjectAltNames": ["spiffe://cluster.local/ns/books/sa/z"]}}
    yield "ports", {"loadBalancer": {"simple": "RANDOM"},
                    "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}]}


def entries():
    http = {"number": 80, "name": "http", "protocol": "HTTP"}
    https = {"number": 443, "name": "https", "protocol": "HTTPS"}
    tcp = {"number": 9000, "name": "tcp", "protocol": "TCP"}
    yield entry("none", {"hosts": ["none.test", "*.wild.test"], "ports": [http, https], "resolution": "NONE"})
    yield entry("range", {"hosts": ["range.test"], "addresses": ["192.0.2.0/24", "198.51.100.7"], "ports": [tcp, https], "resolution": "NONE"})
    yield entry("static", {"hosts": ["static.test"], "ports": [http, tcp], "resolution": "STATIC", "location": "MESH_INTERNAL", "endpoints": [
        {"address": "192.0.2.1", "ports": {"http": 8080}, "labels": {"version": "v1"}, "locality": "eu/a/x", "weight": 3, "network": "n"},
        {"address": "192.0.2.2", "serviceAccount": "vm", "locality": "us/b"}]})
    yield entry("unix", {"hosts": ["unix.test"], "ports": [http], "resolution": "STATIC", "endpoints": [{"address": "unix:///tmp/x.sock"}]})
    yield entry("dns", {"hosts": ["dns.test"], "ports": [{**https, "targetPort": 8443}], "resolution": "DNS", "subjectAltNames": ["a.test"]})
    yield entry("dns-one", {"hosts": ["one.test"], "ports": [http], "resolution": "DNS_ROUND_ROBIN",
                            "endpoints": [{"address": "localhost", "ports": {"http": 8081}}]})
    yield entry("selected", {"hosts": ["vms.test"], "ports": [http], "resolution": "STATIC", "location": "MESH_INTERNAL",
                             "workloadSelector": {"labels": {"app": "vm"}}, "exportTo": ["*"]})
    yield workload_entry("vm-1", {"address": "192.0.2.9", "labels": {"app": "vm"}, "ports": {"http": 81}, "weight": 2})


def objects():
    out = list(entries())
    for name, policy in policies():
        out.append(service(f"s-{name}", "books", {"app": "app"}, 80, 8080))
        rule = destination_rule(f"s-{name}", "books", f"s-{name}", trafficPolicy=policy)
        rule["spec"]["subsets"][0]["trafficPolicy"] = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
        out.append(rule)
    out.append(service("pods", "books", {"app": "app"}, 9090, 9090, port_name="tcp", clusterIP="None"))
    out.append(service("web-pods", "books", {"app": "app"}, 8081, 8081, clusterIP="None"))
    return out


@pytest.mark.parametrize("proxy", ["weft", "envoy"])
def test_everything_is_accepted(mesh, proxy):
    m = mesh()
    m.write("all.yaml", *objects())
    here = {"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a"}
    m.run("app", m.server_command("app", "v1"), labels={"app": "app", "version": "v1", **here}, ports=[8080])
    c = m.client("client", proxy=procs.envoy_binary() if proxy == "envoy" else None,
                 labels={"app": "client", **here})
    m.settle()
    assert m.page("/debug/configz")["refused"] == 0, m.proxy_status()
    assert not m.problems()
    for name, _ in policies():
        if name in ("random", "header", "cookie", "source", "query", "budget", "outliers", "failover", "distribute", "ports", "pool"):
            got = c.call("meshtest.load:get", url=f"http://s-{name}/")
            assert got["status"] == 200 and json.loads(got["body"])["version"] == "v1", (name, got)


def pages():
    for start in ("upstream.md", "routing.md"):
        start = procs.TOP / "docs" / "traffic" / start
        yield from (start, *(start.parent / name for name in re.findall(r"^\| \[([\w-]+\.md)\]", start.read_text(), re.M)))


SUBSETS = destination_rule("web", "books", "web")


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.stem)
def test_what_the_manual_says_is_accepted(mesh, page):
    """Every YAML of a page, together with the service that all pages stand on."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)
    m = mesh()
    m.write("web.yaml", service("web", "books", {"app": "web"}, 80, 8080))
    m.write("page.yaml", *[b for b in blocks if "name: web, namespace: books}\nspec:\n  selector" not in b])
    if "subset:" in page.read_text() and not any("kind: DestinationRule" in b for b in blocks):
        m.write("subsets.yaml", SUBSETS)
    m.run("v1", m.server_command("v1", "v1"), labels={"app": "web", "version": "v1"}, ports=[8080])
    m.settle()
    # Of the web's versions only v1 runs here, so that subset v2 selects nothing: said, and right.
    assert not [p for p in m.problems() if p["code"] != "SubsetEmpty"]
    assert m.page("/debug/configz")["refused"] == 0, m.proxy_status()
