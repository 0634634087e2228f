"""Spans of weft-proxy and of a real Envoy with the same configuration, for the same requests: what the collector gets
(names, kinds, attributes), what the next hop is told, what is counted."""
import http.server
import json
import re
import subprocess
import threading
import time

import pytest
from meshtest import bootstrap, http1, procs
from meshtest.collector import Collector
from meshtest.mesh import until
from meshtest.proxy import Proxy

CONFIG = "type.googleapis.com/envoy.config.trace.v3."
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PASSED = ("traceparent", "tracestate", "x-envoy-decorator-operation")

# path -> fields. Each case has a path of its own: it is how its span is found.
REQUESTS = {
    "/plain?a=b": {"user-agent": "ua", "x-tagged": "here"}, "/decorated": {}, "/direct": {}, "/status/503": {}, "/status/404": {},
    "/dead": {}, "/tagged": {}, "/" + "l" * 300: {}, "/redecorated": {"x-envoy-decorator-operation": "other"},
    "/child": {"traceparent": PARENT, "tracestate": "a=b"}, "/upper": {"traceparent": PARENT.upper()},
    "/version": {"traceparent": "cc" + PARENT[2:]}, "/flags": {"traceparent": PARENT[:-2] + "ff"},
    "/state-alone": {"tracestate": "a=b"}, "/client": {"x-client-trace-id": "c1"}, "/from": {"x-envoy-downstream-service-cluster": "me"},
    "/grpc/ok": {"content-type": "application/grpc", "grpc-timeout": "9S"}, **{f"/grpc/{i}": {"content-type": "application/grpc"} for i in range(1, 18)},

    # no span, or one that is not sent
    "/unsampled": {"traceparent": PARENT[:-2] + "00"}, "/short": {"traceparent": PARENT[:-1]}, "/long": {"traceparent": PARENT + "-x"},
    "/zero": {"traceparent": "00-" + "0" * 32 + PARENT[35:]}, "/junk": {"traceparent": "zz"}, "/no-uuid": {"x-request-id": "abc"},
}
UNSENT = ("/unsampled", "/short", "/long", "/zero", "/junk", "/no-uuid")


@pytest.fixture
def backend():
    """Answers as the path says, and keeps the fields that came."""
    seen = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body in two writes: 40 ms otherwise

        def do_GET(self):
            seen[self.path] = {k.lower(): v for k, v in self.headers.items()}
            _, kind, value = (self.path + "/").split("/")[:3]
            self.send_response(int(value) if kind == "status" else 200)
            if kind == "grpc":
                self.send_header("content-type", "application/grpc")
                self.send_header("grpc-status", "0" if value == "ok" else value)
                self.send_header("grpc-message", "as told")
            if kind == "named":
                self.send_header("x-envoy-decorator-operation", "named by the server")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"hi")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = seen
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def collector():
    c = Collector()
    yield c
    c.stop()


def case(collector, direction="INBOUND", **tracing):
    otlp = {"@type": CONFIG + "OpenTelemetryConfig", "service_name": "shop",
            "grpc_service": {"envoy_grpc": {"cluster_name": "otel"}, "timeout": "10s"}}
    tags = [{"tag": "lit", "literal": {"value": "v"}}, {"tag": "env", "environment": {"name": "HOME"}},
            {"tag": "unset", "environment": {"name": "NOT_SET_AT_ALL", "default_value": "d"}},
            {"tag": "head", "request_header": {"name": "x-tagged", "default_value": "none"}},
            {"tag": "absent", "request_header": {"name": "x-absent"}}]
    return {"clusters": [dict(bootstrap.cluster("otel", collector.port), typed_extension_protocol_options=bootstrap.h2_options())],
            "listener": {"traffic_direction": direction},
            "bootstrap": {"node": {"id": "node-1", "cluster": "c", "locality": {"zone": "z1"}},
                          # not 5 s, which both wait otherwise
                          "layered_runtime": {"layers": [{"name": "quick", "static_layer": {
                              f"tracing.{t}.flush_interval_ms": 100 for t in ("opentelemetry", "zipkin")}}]}},
            "routes": [{"match": {"prefix": "/decorated"}, "route": {"cluster": "b1"}, "decorator": {"operation": "op"}},
                       {"match": {"prefix": "/direct"}, "direct_response": {"status": 204}},
                       {"match": {"prefix": "/dead"}, "route": {"cluster": "dead"}},
                       {"match": {"prefix": "/never"}, "route": {"cluster": "b1"}, "tracing": {"random_sampling": {"numerator": 0}}},
                       {"match": {"prefix": "/tagged"}, "route": {"cluster": "b1"},
                        "tracing": {"custom_tags": [{"tag": "lit", "literal": {"value": "the route's"}}]}},
                       {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}],
            "hcm": {"tracing": {"custom_tags": tags, "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": otlp}, **tracing}}}


@pytest.fixture
def proxies(spawn, tmp_path, backend):
    def make(build, collectors):
        return {kind: Proxy(spawn, tmp_path, build(c), {"b1": backend.server_port}, kind=kind)
                for kind, c in zip(("weft", "envoy"), collectors)}
    return make


def without_ids(span):
    tags = {k: v for k, v in span.tags.items() if k != "guid:x-request-id"}
    return [span.name, span.kind, span.status, span.parent, span.state, bool(span.parent) and span.trace, tags,
            span.resource["service.name"]]


def ask_all(proxy, backend, requests):
    told = {}
    for path, fields in requests.items():
        got = http1.get(proxy.port, path, headers=list(fields.items()))
        told[path] = {k: re.sub(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-", "00-*-*-", v) for k, v in backend.seen.pop(path, {}).items()
                      if k in PASSED}
        told[path]["answer"] = (got.status, got.get("x-envoy-decorator-operation"))
    return told


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
def test_spans_are_envoys(proxies, backend, direction):
    collectors = Collector(), Collector()
    two = proxies(lambda c: case(c, direction), collectors)
    requests = dict(REQUESTS, **{"/named": {}})
    told = {k: ask_all(p, backend, requests) for k, p in two.items()}
    assert told["weft"] == told["envoy"]
    n = len(requests) - len(UNSENT)
    spans = []
    for c in collectors:
        c.wait(n=n)
        spans.append({s.tags["http.url"]: without_ids(s) for s in c.spans})
        assert all(s.end >= s.start and abs(s.start / 1e9 - time.time()) < 600 for s in c.spans)
        assert len({s.id for s in c.spans}) == len(c.spans) == n
        c.stop()
    assert not [(a, spans[1][url]) for url, a in spans[0].items() if a != spans[1][url]]
    assert spans[0].keys() == spans[1].keys()
    counted = {k: {n: v for n, v in p.stats().items() if n.startswith("http.ingress.tracing.")} for k, p in two.items()}
    assert counted["weft"] == counted["envoy"]
    assert counted["weft"]["http.ingress.tracing.client_enabled"] == 1
    until(lambda: two["weft"].stats()["tracing.opentelemetry.spans_sent"] == n, "all are counted")  # once the answer is there


def test_next_hop_continues_the_trace(proxies, backend, collector):
    p = proxies(case, [collector])["weft"]
    http1.get(p.port, "/a", headers=[("traceparent", PARENT)])
    version, trace, span, flags = backend.seen["/a"]["traceparent"].split("-")
    got = collector.wait()[0]
    assert (got.trace, got.id, got.parent) == (trace, span, PARENT.split("-")[2])
    assert (version, trace, flags) == ("00", PARENT.split("-")[1], "01") and span != got.parent


def test_bytes_that_are_not_utf8_do_not_cost_the_batch(proxies, backend, collector):
    """A collector refuses a whole message for one such string; a real one refuses Envoy's."""
    p = proxies(case, [collector])["weft"]
    http1.get(p.port, "/bytes", headers=[("x-tagged", "caf\xe9"), ("user-agent", "caf\xc3\xa9")])
    tags = collector.wait()[0].tags
    assert (tags["head"], tags["user_agent"]) == ("caf!", "café")


@pytest.mark.parametrize("tracing,ids", [({"random_sampling": {"value": 25}}, True), ({"random_sampling": {"value": 0}}, False),
                                         ({"overall_sampling": {"value": 50}}, True), ({"client_sampling": {"value": 0}}, False)])
def test_sampling_decides_as_envoy(proxies, backend, collector, tracing, ids):
    """The decision and the digit of x-request-id that says it, for the same ids and fields."""
    two = proxies(lambda c: case(c, **tracing), [collector, collector])
    found = {}
    for kind, p in two.items():
        for i in range(40 if ids else 8):
            for reason in "49ab0":
                for extra in ((), (("x-envoy-force-trace", "1"),), (("x-client-trace-id", "1"),)):
                    if extra and i > 1:
                        continue
                    rid = f"{i * 977:08x}-0000-{reason}000-8000-000000000000"
                    path = f"/never/{i}" if i == 3 else f"/{i}"
                    # use_remote_address is off and x-forwarded-for internal: the fields of insiders stay
                    fields = [("x-request-id", rid), ("x-forwarded-for", "10.0.0.1"), *extra]
                    http1.get(p.port, path, headers=fields)
                    seen = backend.seen[path]
                    found.setdefault(kind, []).append((rid, extra, seen["x-request-id"], seen["traceparent"][-2:]))
    assert found["weft"] == found["envoy"]
    assert len({f[3] for f in found["weft"]}) == 2


def test_a_collector_that_fails_costs_spans_and_nothing_else(proxies, backend, collector):
    collector.fail = 2
    p = proxies(case, [collector])["weft"]
    for i in range(40):
        assert http1.get(p.port, f"/{i}").status == 200
    total = lambda: [p.stats().get(f"tracing.opentelemetry.{n}", 0) for n in ("spans_sent", "spans_dropped")]
    until(lambda: sum(total()) == 40, "every span is accounted for")
    sent, dropped = total()
    assert dropped >= 2 and sent == len(collector.spans)


def test_a_collector_that_is_not_there(proxies, backend, collector):
    collector.stop()
    p = proxies(lambda c: case(c), [collector])["weft"]
    for i in range(12):
        assert http1.get(p.port, f"/{i}").status == 200
    until(lambda: p.stats().get("tracing.opentelemetry.spans_dropped") == 12, "all are dropped")


@pytest.mark.parametrize("change,words", [
    ({"random_sampling": {"value": 101}}, "tracing.random_sampling: must be between 0 and 100"),
    ({"provider": {"name": "envoy.tracers.datadog", "typed_config": {"@type": CONFIG + "DatadogConfig", "collector_cluster": "b1"}}},
     "tracing.provider"),
    ({"provider": {"name": "o", "typed_config": {"@type": CONFIG + "OpenTelemetryConfig"}}},
     "tracing.provider.typed_config.grpc_service: this or http_service must be set, and not both"),
    ({"provider": {"name": "o", "typed_config": {"@type": CONFIG + "OpenTelemetryConfig", "grpc_service": {"google_grpc": {"target_uri": "a", "stat_prefix": "b"}}}}},
     "google_grpc"),
    ({"provider": {"name": "o", "typed_config": {"@type": CONFIG + "OpenTelemetryConfig", "sampler": {"name": "s"}}}},
     "tracing.provider.typed_config.sampler: is not supported"),
    ({"provider": {"name": "o", "typed_config": {"@type": CONFIG + "OpenTelemetryConfig", "resource_detectors": [{"name": "s"}]}}},
     "tracing.provider.typed_config.resource_detectors: is not supported"),
])
def test_what_is_not_carried_out_is_refused_by_name(spawn, tmp_path, collector, change, words):
    ports = {"b1": 1, "b2": 1, "h2": 1, "dead": 1, "listen": procs.free_port(), "admin": procs.free_port()}
    config = tmp_path / "c.json"
    config.write_text(json.dumps(bootstrap.build(case(collector, **change), ports)))
    out = subprocess.run([procs.binary("weft-proxy"), "-c", config, "--mode", "validate"], capture_output=True, text=True)
    assert out.returncode and words in out.stdout + out.stderr, out.stdout + out.stderr
