"""Spans of attempts (spawn_upstream_span), verbose spans, names by format, custom tags by format and metadata, in a connection manager
and in routes: weft-proxy and a real Envoy with the same configuration make the same spans and tell the next hop the same."""
import json
import re
import subprocess

import pytest
from meshtest import bootstrap, http1, procs
from meshtest.collector import Collector, HttpCollector
from test_tracing import backend, case, proxies  # noqa: F401 (fixtures)
from test_tracing_zipkin import zipkin

KEY = {"key": "k", "path": [{"key": "p"}]}
TAGS = [{"tag": "format", "value": "%REQ(:METHOD)%-%RESPONSE_CODE%-%REQ(x-absent)%-%RESP(content-length)%"}, {"tag": "empty", "value": "%REQ(x-absent)%"},
        {"tag": "request", "metadata": {"kind": {"request": {}}, "metadata_key": KEY, "default_value": "none"}},
        {"tag": "no-request", "metadata": {"kind": {"request": {}}, "metadata_key": KEY}},
        {"tag": "route", "metadata": {"kind": {"route": {}}, "metadata_key": KEY}},
        {"tag": "deep", "metadata": {"kind": {"route": {}}, "metadata_key": {"key": "k", "path": [{"key": "o"}, {"key": "i"}]}}},
        {"tag": "object", "metadata": {"kind": {"route": {}}, "metadata_key": {"key": "k", "path": [{"key": "o"}]}}},
        *({"tag": "cluster-" + k, "metadata": {"kind": {"cluster": {}}, "metadata_key": {"key": "k", "path": [{"key": k}]}}} for k in "nbls"),
        {"tag": "host", "metadata": {"kind": {"host": {}}, "metadata_key": KEY, "default_value": "no host"}}]
ROUTES = [
    {"match": {"prefix": "/md"}, "route": {"cluster": "b1"}, "metadata": {"filter_metadata": {"k": {"p": "of the route", "o": {"i": 1}}}}},
    {"match": {"prefix": "/dead"}, "route": {"cluster": "dead", "retry_policy": {"retry_on": "connect-failure", "num_retries": 2}}},
    {"match": {"prefix": "/status"}, "route": {"cluster": "b1", "retry_policy": {"retry_on": "5xx", "num_retries": 1}}},
    {"match": {"prefix": "/decorated"}, "route": {"cluster": "b1"}, "decorator": {"operation": "decorated"}},
    {"match": {"prefix": "/own"}, "route": {"cluster": "b1"}, "decorator": {"operation": "decorated"},
     "tracing": {"operation": "own %REQ(:PATH)%", "upstream_operation": "own up", "custom_tags": [{"tag": "format", "value": "own %PROTOCOL%"}]}},
    {"match": {"prefix": "/nobody"}, "route": {"cluster": "empty"}}, {"match": {"prefix": "/direct"}, "direct_response": {"status": 204}},
    {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]
GRPC = {"content-type": "application/grpc"}
REQUESTS = {"/md": {}, "/dead": {}, "/status/503": {}, "/status/404": {}, "/decorated": {}, "/own": {}, "/nobody": {}, "/direct": {}, "/grpc/ok": GRPC, "/grpc/5": GRPC,
            "/grpc/13": GRPC, "/named": {}, "/plain": {}, "/told": {"x-envoy-decorator-operation": "told"}}
FORMATS = {"operation": "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %REQ(x-absent)%", "upstream_operation": "up %REQ(:PATH)%"}


def build(kind, collector, direction, **tracing):
    out = (case if kind == "otlp" else zipkin)(collector, direction, **{"custom_tags": TAGS, **tracing})
    out["routes"] = ROUTES
    out["clusters"].append({"name": "b1", "metadata": {"filter_metadata": {"k": {"n": 5, "b": True, "l": [1, "a"], "s": "text"}}}})
    return out


def describe(spans):
    """Each span beside its name, kind and parent, without ids and times."""
    ids = {s.id: s.name for s in spans}
    noise = ("guid:x-request-id", "upstream_address", "peer.address")
    return sorted(json.dumps([s.name, s.kind, s.parent and ids.get(s.parent, "?"), getattr(s, "status", None), getattr(s, "events", None), getattr(s, "annotations", None),
                              sorted((k, v if k not in noise else re.sub(r":\d+$", "", v) if "address" in k else "") for k, v in s.tags.items())]) for s in spans)


@pytest.mark.parametrize("kind", ["otlp", "zipkin"])
@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
@pytest.mark.parametrize("tracing", [{}, {"spawn_upstream_span": True}, {"verbose": True}, FORMATS, {"spawn_upstream_span": True, **FORMATS}],
                         ids=["tags", "spawn", "verbose", "formats", "spawn-formats"])
def test_spans_are_envoys(proxies, backend, kind, direction, tracing):  # noqa: F811
    make = Collector if kind == "otlp" else HttpCollector
    collectors = make(), make()
    two = proxies(lambda c: build(kind, c, direction, **tracing), collectors)
    told = {}
    for name, p in two.items():
        for path, fields in REQUESTS.items():
            got = http1.get(p.port, path, headers=list(fields.items()))
            seen = backend.seen.pop(path, {})
            told.setdefault(name, []).append((path, got.status, got.get("x-envoy-decorator-operation"), seen.get("x-envoy-decorator-operation"),
                                              "traceparent" in seen, "x-b3-parentspanid" in seen))
    assert told["weft"] == told["envoy"]
    n = len(REQUESTS) + (3 + 2 + 10 if "spawn_upstream_span" in tracing else 0)
    weft, envoy = (c.wait(n=n) for c in collectors)
    a, b = describe(weft), describe(envoy)
    only = sorted(set(a) - set(b)), sorted(set(b) - set(a))
    assert not any(only), "weft: %s\nenvoy: %s" % tuple("\n       ".join(o) for o in only)
    assert len(a) == len(b) == n
    if "spawn_upstream_span" in tracing:
        for spans in (weft, envoy):
            byid = {s.id: s for s in spans}
            attempts = [s for s in spans if s.kind.endswith("CLIENT")]
            assert len(attempts) == 15 and all(byid[s.parent].trace == s.trace for s in attempts)
    for c in collectors:
        c.stop()


def test_the_next_hop_is_told_of_the_attempt(proxies, backend):  # noqa: F811
    c = Collector()
    p = proxies(lambda c: build("otlp", c, "OUTBOUND", spawn_upstream_span=True), [c])["weft"]
    http1.get(p.port, "/plain")
    _, trace, span, _ = backend.seen["/plain"]["traceparent"].split("-")
    two = {s.kind: s for s in c.wait(n=2)}
    attempt, whole = two["SPAN_KIND_CLIENT"], two["SPAN_KIND_SERVER"]
    assert (attempt.trace, attempt.id, attempt.parent) == (trace, span, whole.id)
    assert whole.start <= attempt.start <= attempt.end <= whole.end
    c.stop()


def test_events_are_in_order(proxies, backend):  # noqa: F811
    c = HttpCollector()
    p = proxies(lambda c: build("zipkin", c, "INBOUND", verbose=True), [c])["weft"]
    http1.get(p.port, "/plain")
    s = c.wait()[0]
    times = s.annotation_times
    assert len(times) == 8 and times[0] >= s.start and abs(times[-1] - s.start - s.duration) <= 1 and max(times) == times[-1]
    c.stop()


@pytest.mark.parametrize("tracing,words", [
    ({"operation": "%NO_SUCH%"}, "tracing.operation: "), ({"upstream_operation": "%REQ(%"}, "tracing.upstream_operation: "),
    ({"custom_tags": [{"tag": "t", "value": "%NO_SUCH%"}]}, "tracing.custom_tags[0].value: "), ({"custom_tags": [{"tag": "", "literal": {"value": "v"}}]}, "tracing.custom_tags[0].tag: must not be empty"),
    ({"custom_tags": [{"tag": "t"}]}, "tracing.custom_tags[0]: names no source"),
    ({"custom_tags": [{"tag": "t", "metadata": {"metadata_key": KEY}}]}, "tracing.custom_tags[0].metadata.kind: must be set"),
    ({"custom_tags": [{"tag": "t", "metadata": {"kind": {"route": {}}, "metadata_key": {"key": "k"}}}]}, "tracing.custom_tags[0].metadata.metadata_key: needs a key and a path"),
    ({"custom_tags": [{"tag": "t", "metadata": {"kind": {"route": {}}, "metadata_key": {"key": "a:b", "path": [{"key": "p"}]}}}]}, "are not supported"),
])
def test_what_is_wrong_is_refused_by_name(tmp_path, tracing, words):
    ports = {"b1": 1, "b2": 1, "h2": 1, "dead": 1, "listen": procs.free_port(), "admin": procs.free_port()}
    collector = type("Nowhere", (), {"port": 1})
    path = tmp_path / "c.json"
    path.write_text(json.dumps(bootstrap.build(build("otlp", collector, "INBOUND", **tracing), ports)))
    out = subprocess.run([procs.binary("weft-proxy"), "-c", path, "--mode", "validate"], capture_output=True, text=True)
    assert out.returncode and words in out.stdout + out.stderr, out.stdout + out.stderr
