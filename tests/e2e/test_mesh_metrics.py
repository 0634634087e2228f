"""Istio's standard metrics of a real mesh: who asked whom, with both ends' names, and what stays between proxies."""
import json
import re
import sys

from meshtest.mesh import destination_rule, service, to, until, virtual_service

HOST = "app.books.svc.cluster.local"
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"(?:,|$)')


def parse(text):
    """Prometheus text -> [(name, labels, value)]; every line must be well formed, every family typed once."""
    out, types = [], {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} is typed twice"
            types[name] = kind
        elif line and not line.startswith("#"):
            m = SAMPLE.match(line)
            assert m, line
            labels, at = {}, 0
            while at < len(m[2] or ""):
                l = LABEL.match(m[2], at)
                assert l and l[1] not in labels, line
                labels[l[1]] = l[2]
                at = l.end()
            family = re.sub(r"_(bucket|sum|count)$", "", m[1])
            assert m[1] in types or types.get(family) == "histogram", f"{m[1]} has no type"
            out.append((m[1], labels, float(m[3])))
    return out


def series(workload, name):
    return [(l, v) for n, l, v in parse(workload.admin("/stats/prometheus")) if n == name and "overflow" not in l]


def one(workload, name, value=None, **want):
    """(labels, value), once it has come to this value: what is told of a request is told after its end."""
    def there():
        got = [(l, v) for l, v in series(workload, name) if all(l.get(k) == x for k, x in want.items())]
        assert len(got) == 1 and value in (None, got[0][1]), (name, want, value, got or series(workload, name))
        return got[0]
    return until(there, name)


def test_both_ends_of_a_request_are_named(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), destination_rule("app", "books", HOST))
    m.write("vs.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, "v1")]}]))
    server = m.http_server("a", "app", version="v1")
    c = m.client("client")
    m.settle()
    forged = [["x-envoy-peer-metadata", "Zm9yZ2Vk"], ["x-envoy-peer-metadata-id", "me"]]
    for _ in range(3):
        got = c.call("meshtest.load:get", url=f"http://{HOST}/", headers=dict(forged))
        assert got["status"] == 200
        seen = set(json.loads(got["body"])["headers"]) | set(got["headers"])
        assert not [k for k in seen if k.startswith("x-envoy-peer")], seen
    until(lambda: series(c, "istio_requests_total") and series(server, "istio_requests_total"), "requests are counted")

    same = {"source_workload": "client", "source_workload_namespace": "books", "destination_workload": "a",
            "destination_workload_namespace": "books", "destination_service": HOST, "destination_service_name": "app",
            "destination_service_namespace": "books", "destination_version": "v1", "destination_app": "app",
            "destination_canonical_service": "app", "destination_canonical_revision": "v1",
            "request_protocol": "http", "response_code": "200", "response_flags": "-", "grpc_response_status": ""}
    for who, reporter, policy in ((c, "source", "unknown"), (server, "destination", "mutual_tls")):
        labels, value = one(who, "istio_requests_total", 3, reporter=reporter)
        assert {k: labels[k] for k in same} == same
        assert value == 3 and labels["connection_security_policy"] == policy
        assert labels["source_principal"].startswith("spiffe://cluster.local/ns/books/sa/")
        assert labels["destination_principal"].startswith("spiffe://cluster.local/ns/books/sa/")
        for h in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"):
            assert one(who, h + "_count", 3, reporter=reporter)[1] == 3
            assert one(who, h + "_bucket", 3, reporter=reporter, le="+Inf")[1] == 3
        assert one(who, "istio_request_bytes_sum", reporter=reporter)[1] > 3 * 50


def test_what_has_no_route_is_counted_too(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), destination_rule("app", "books", HOST))
    m.write("vs.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, "v1")]}]))
    c = m.client("client")
    m.settle()
    assert c.call("meshtest.load:get", url=f"http://{HOST}/")["status"] == 503
    labels, value = one(c, "istio_requests_total", response_code="503")
    assert value == 1 and labels["response_flags"] == "UH" and labels["destination_workload"] == "unknown"
    assert labels["destination_service_name"] == "app"


def test_connections_are_counted(mesh):
    m = mesh()
    m.write("service.yaml", service("db", "books", {"app": "db"}, 3306, 8080, port_name="tcp"))
    server = m.http_server("d", "db", version="v1")
    c = m.client("client")
    m.settle()
    assert c.call("meshtest.load:get", url="http://db.books.svc.cluster.local:3306/")["status"] == 200
    until(lambda: series(c, "istio_tcp_connections_closed_total") and series(server, "istio_tcp_connections_closed_total"),
          "the connection is over on both sides")
    for who, reporter in ((c, "source"), (server, "destination")):
        labels, value = one(who, "istio_tcp_connections_opened_total", reporter=reporter)
        assert value == 1 and labels["request_protocol"] == "tcp" and "response_code" not in labels
        assert labels["destination_service"] == "db.books.svc.cluster.local"
        assert labels["source_workload_namespace"] == "books" and labels["destination_workload"] == "d"
        assert one(who, "istio_tcp_connections_closed_total", reporter=reporter)[1] == 1
        assert one(who, "istio_tcp_received_bytes_total", reporter=reporter)[1] > 30
        assert one(who, "istio_tcp_sent_bytes_total", reporter=reporter)[1] > 30


def test_grpc_messages_are_counted(mesh):
    m = mesh()
    m.write("service.yaml", service("grpc", "books", {"app": "grpc"}, 80, 50051, port_name="grpc"))
    server = m.run("server", [sys.executable, "-m", "meshtest.grpcapp", "--port", "50051", "--name", "server"],
                   labels={"app": "grpc"}, ports=[50051])
    c = m.client("client")
    m.settle()
    target = "grpc.books.svc.cluster.local:80"
    r = c.call("meshtest.grpcapp:call_upload", target=target, n=50, size=20000)
    assert r["code"] == 0 and r["result"]["n"] == 50
    until(lambda: series(c, "istio_requests_total") and series(server, "istio_requests_total"), "the call is counted")
    for who, reporter in ((c, "source"), (server, "destination")):
        labels, value = one(who, "istio_request_messages_total", 50, reporter=reporter)
        assert value == 50 and labels["request_protocol"] == "grpc" and labels["grpc_response_status"] == "0"
        assert one(who, "istio_response_messages_total", 1, reporter=reporter)[1] == 1
    r = c.call("meshtest.grpcapp:call_unary", target=target, message={"abort": [7, "no"]})
    assert r["code"] == 7
    until(lambda: [1 for l, _ in series(c, "istio_requests_total") if l["grpc_response_status"] == "7"], "its status is a label")
