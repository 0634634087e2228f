"""Spans of a mesh: the sidecar that asks and the one that answers tell the collector of one trace, under Istio's names."""
import json
import subprocess

import pytest
from meshtest import procs
from meshtest.collector import Collector, HttpCollector, outer_address
from meshtest.mesh import destination_rule, service, to, until, virtual_service

HOST = "app.books.svc.cluster.local"
ISTIO = {"istio.canonical_revision", "istio.canonical_service", "istio.cluster_id", "istio.mesh_id", "istio.namespace"}
AT = outer_address()


@pytest.fixture(params=["otlp", "zipkin"])
def collector(request):
    assert AT, "workloads reach a collector of this machine by an address that is not loopback: there is none"
    c = (Collector if request.param == "otlp" else HttpCollector)(AT)
    c.kind, c.flag = request.param, ["--tracing-" + request.param, f"{AT}:{c.port}"]
    yield c
    c.stop()


def app(m, *http, **client):
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), destination_rule("app", "books", HOST))
    m.write("vs.yaml", virtual_service("shop", "books", HOST, list(http) or [{"route": [to(HOST, "v1")]}]))
    server = m.http_server("a", "app", version="v1")
    c = m.client("client", **client)
    m.settle()
    return server, c


def service_name(span):
    return span.resource["service.name"] if hasattr(span, "resource") else span.fields["localEndpoint"]["serviceName"]


def by_kind(spans):
    return {s.kind.replace("SPAN_KIND_", ""): s for s in spans}


@pytest.mark.parametrize("proxy", ["weft", "envoy"])
def test_one_request_is_one_trace(mesh, collector, proxy):
    m = mesh(control_args=[*collector.flag, "--tracing-sampling", "100"])
    server, c = app(m, proxy=procs.envoy_binary() if proxy == "envoy" else None)
    got = c.call("meshtest.load:get", url=f"http://{HOST}/books?x=1")
    assert got["status"] == 200
    seen = {k.lower(): v for k, v in json.loads(got["body"])["headers"].items()}
    two = by_kind(collector.wait(lambda s: s.tags.get("http.url", "").endswith("/books?x=1"), n=2))
    client, answering = two["CLIENT"], two["SERVER"]
    assert client.trace == answering.trace and not client.parent and answering.parent == client.id
    # the application is told of the server's span: what it asks in turn is its child
    told = seen["traceparent"].split("-")[1:3] if collector.kind == "otlp" else [seen["x-b3-traceid"], seen["x-b3-spanid"]]
    assert told == [answering.trace, answering.id]
    assert (client.name, answering.name) == (f"{HOST}:80/*", f"{HOST}:80/*")
    assert (service_name(client), service_name(answering)) == ("client.books", "app.books")
    assert answering.tags["istio.canonical_service"] == "app" and answering.tags["istio.canonical_revision"] == "v1"
    assert client.tags["istio.canonical_service"] == "client"
    for s in (client, answering):
        assert ISTIO <= s.tags.keys() and s.tags["istio.namespace"] == "books" and s.tags["http.status_code"] == "200"
    assert client.tags["upstream_cluster.name"] == f"outbound|80|v1|{HOST}"
    assert client.tags["guid:x-request-id"] == answering.tags["guid:x-request-id"]

    # what the application forwards becomes part of the trace
    if collector.kind == "otlp":
        fields = {"traceparent": f"00-{answering.trace}-{answering.id}-01"}
    else:
        fields = {"b3": f"{answering.trace}-{answering.id}-1"}
    assert c.call("meshtest.load:get", url=f"http://{HOST}/next", headers=fields)["status"] == 200
    two = by_kind(collector.wait(lambda s: s.tags.get("http.url", "").endswith("/next"), n=2))
    assert {s.trace for s in two.values()} == {client.trace} and two["CLIENT"].parent == answering.id
    assert two["SERVER"].parent == two["CLIENT"].id


def test_names_of_routes(mesh, collector):
    rules = [{"match": [{"uri": {"exact": "/exact"}}], "route": [to(HOST, "v1")]},
             {"match": [{"uri": {"prefix": "/split"}}], "route": [to(HOST, "v1", weight=50), to(HOST, "v1", weight=50)]},
             {"match": [{"uri": {"regex": "/r.*x"}}], "route": [to(HOST, "v1")]}, {"match": [{"uri": {"prefix": "/no"}}], "directResponse": {"status": 403}},
             {"route": [to(HOST, "v1")]}]
    m = mesh(control_args=[*collector.flag, "--tracing-sampling", "100"])
    _, c = app(m, *rules)
    want = {"/exact": f"{HOST}:80/exact", "/split/a": "shop:80/split*", "/regex": f"{HOST}:80/r.*x", "/no": "shop:80/no*", "/other": f"{HOST}:80/*"}
    for path in want:
        c.call("meshtest.load:get", url=f"http://{HOST}{path}")
    spans = collector.wait(lambda s: s.kind.endswith("CLIENT"), n=len(want))
    assert {s.tags["http.url"].partition(HOST)[2]: s.name for s in spans} == want


def test_sampling_is_decided_once(mesh, collector):
    """None of the requests that come without a decision; one that brings one is traced by both sidecars."""
    m = mesh(control_args=[*collector.flag, "--tracing-sampling", "0"])
    _, c = app(m)
    for i in range(20):
        assert c.call("meshtest.load:get", url=f"http://{HOST}/{i}")["status"] == 200
    trace = "463ac35c9f6413ad48485a3953bb6124"
    fields = {"traceparent": f"00-{trace}-a2fb4a1d1a96d312-01"} if collector.kind == "otlp" else {"b3": f"{trace}-a2fb4a1d1a96d312-1"}
    c.call("meshtest.load:get", url=f"http://{HOST}/decided", headers=fields)
    assert {s.trace for s in collector.wait(n=2)} == {trace} and len(collector.spans) == 2


def test_the_collector_is_a_service(mesh, collector):
    """Named by the host of a ServiceEntry, it is reached through that service's cluster; before it is there, spans are lost, requests are not."""
    m = mesh(control_args=[collector.flag[0], "collector.example:4317", "--tracing-sampling", "100"])
    _, c = app(m)
    assert c.call("meshtest.load:get", url=f"http://{HOST}/before")["status"] == 200
    m.apply("entry.yaml", {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "collector", "namespace": "books"},
                           "spec": {"hosts": ["collector.example"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                                    "ports": [{"number": 4317, "name": "grpc-otlp" if collector.kind == "otlp" else "http", "targetPort": collector.port}],
                                    "endpoints": [{"address": AT}]}})

    def both():  # the connection between the sidecars that was there before is drained with the configuration it began with
        assert c.call("meshtest.load:get", url=f"http://{HOST}/after")["status"] == 200
        return {s.kind.replace("SPAN_KIND_", "") for s in collector.spans if s.tags["http.url"].endswith("/after")} == {"CLIENT", "SERVER"}
    until(both, "both sidecars tell of it", pause=0.5)
    assert c.stat(r"^cluster\.outbound\|4317\|\|collector\.example\.upstream_rq_total") >= 1


def test_without_tracing_nothing_is_said(mesh):
    m = mesh()
    _, c = app(m)
    got = c.call("meshtest.load:get", url=f"http://{HOST}/")
    assert not {"traceparent", "b3", "x-b3-traceid"} & {k.lower() for k in json.loads(got["body"])["headers"]}
    assert "decorator" not in c.admin("/config_dump") and '"tracing"' not in c.admin("/config_dump")


@pytest.mark.parametrize("args,words", [
    (["--tracing-otlp", "nowhere"], "'nowhere' is not of the form HOST:PORT"), (["--tracing-zipkin", "a b:1"], "'a b:1' is not of the form HOST:PORT"),
    (["--tracing-otlp", "a:1", "--tracing-zipkin", "a:1"], "there is one collector"), (["--tracing-otlp", "a:0"], "not of the form"),
    (["--tracing-sampling", "101"], "'101' is no percentage"), (["--tracing-sampling", "x"], "'x' is no percentage")])
def test_bad_flags(tmp_path, args, words):
    out = subprocess.run([procs.binary("weft"), "control", "--config", tmp_path, "--state", tmp_path / "s", "--no-mesh-network", "--discovery-address", "",
                          "--monitoring-address", "", *args], capture_output=True, text=True, timeout=60)
    assert out.returncode and words in out.stdout + out.stderr
