"""Spans in Zipkin's JSON with B3 propagation, and OTLP over HTTP: weft-proxy and a real Envoy with the same configuration, for
the same requests: what the collector gets, what the next hop is told, what is counted."""
import json
import re
import subprocess

import pytest
from meshtest import bootstrap, http1, procs
from meshtest.collector import HttpCollector
from meshtest.mesh import until
from test_tracing import CONFIG, PARENT, REQUESTS, UNSENT, backend, case, proxies  # noqa: F401 (fixtures)

TRACE, SPAN, UP = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312", "0020000000000001"
NAMES = ("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "traceparent", "tracestate",
         "x-envoy-decorator-operation")


def multi(trace=TRACE, span=SPAN, sampled=None, parent=None, **more):
    fields = {"x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": sampled, "x-b3-parentspanid": parent}
    return [(k, v) for k, v in {**fields, **{k.replace("_", "-"): v for k, v in more.items()}}.items() if v is not None]


SINGLE = {
    "full": f"{TRACE}-{SPAN}-1-{UP}", "no-parent": f"{TRACE}-{SPAN}-1", "ids": f"{TRACE}-{SPAN}", "zero": f"{TRACE}-{SPAN}-0",
    "debug": f"{TRACE}-{SPAN}-d", "64": f"{TRACE[16:]}-{SPAN}-1-{UP}", "64-no-parent": f"{TRACE[16:]}-{SPAN}-1", "64-ids": f"{TRACE[16:]}-{SPAN}",
    "1": "1", "0": "0", "d": "d", "x": "x", "empty": "", "trace": TRACE, "bad-flag": f"{TRACE}-{SPAN}-x", "bad-flag-parent": f"{TRACE}-{SPAN}-x-{UP}",
    "long": f"{TRACE}-{SPAN}-1-{UP}0", "short-parent": f"{TRACE}-{SPAN}-1-{UP[1:]}", "bad-trace": f"z{TRACE[1:]}-{SPAN}-1",
    "bad-low": f"{TRACE[:31]}z-{SPAN}-1", "bad-span": f"{TRACE}-z{SPAN[1:]}-1", "bad-parent": f"{TRACE}-{SPAN}-1-z{UP[1:]}",
    "dash": f"{TRACE}-{SPAN}-", "parent-alone": f"{TRACE}-{SPAN}-{UP}", "other-dash": f"{TRACE}-{SPAN}_1", "upper": f"{TRACE}-{SPAN}-1-{UP}".upper(),
    "zero-trace": f"{'0' * 32}-{SPAN}-1", "zero-span": f"{TRACE}-{'0' * 16}-1", "true": "true", "0x": f"0x{TRACE[2:]}-{SPAN}-1",
    "no-dash": TRACE + SPAN + "1", "list": f"{TRACE}-{SPAN}-1, {TRACE}-{SPAN}-0",
}
FIELDS = {
    "none": [], "all": multi(sampled="1", parent=UP), "no-parent": multi(sampled="1"), "64": multi(TRACE[16:], sampled="1"), "ids": multi(),
    "0": multi(sampled="0"), "true": multi(sampled="true"), "TRUE": multi(sampled="TRUE"), "d": multi(sampled="d"), "empty-sampled": multi(sampled=""),
    "flags": multi(x_b3_flags="1"), "flags-0": multi(sampled="0", x_b3_flags="1"), "short": multi("abc", "1"), "17": multi("1" * 17),
    "31": multi(TRACE[1:]), "zeros-17": multi("0" * 9 + TRACE[:16]), "bad-trace": multi("zz"), "bad-high": multi("z" + TRACE[1:]), "bad-span": multi(span="zz"),
    "bad-parent": multi(parent="zz"), "empty-parent": multi(parent=""), "empty-trace": multi(""), "empty-span": multi(span=""), "trace-alone": multi(span=None),
    "span-alone": multi(None), "zero": multi("0" * 32), "zero-span": multi(span="0" * 16), "zero-parent": multi(parent="0" * 16), "upper": multi(TRACE.upper(), SPAN.upper()),
    "0x": multi("0x" + TRACE[:14], "0x12"), "sign": multi("-1"), "space": multi("1 2"), "high-zero": multi("0" * 16 + TRACE[16:]),
    "sampled-1": [("x-b3-sampled", "1")], "sampled-0": [("x-b3-sampled", "0")], "sampled-x": [("x-b3-sampled", "x")], "flags-alone": [("x-b3-flags", "1")],
    "twice": multi() + [("x-b3-traceid", SPAN)], "both": [("b3", SINGLE["ids"])] + multi("1" * 16, "2" * 16, "0"), "both-0": [("b3", "0")] + multi(sampled="1"),
    "both-bad": [("b3", "zz")] + multi(sampled="1"), "w3c": [("traceparent", PARENT), ("tracestate", "a=b")], "w3c-0": [("traceparent", PARENT[:-1] + "0")],
    "w3c-bad": [("traceparent", PARENT[:-1])], "w3c-b3": [("traceparent", PARENT), ("b3", SINGLE["full"])], "w3c-b3-bad": [("traceparent", PARENT), ("b3", "zz")],
    "w3c-b3-0": [("traceparent", PARENT), ("b3", "0")], "w3c-sampled-0": [("traceparent", PARENT), ("x-b3-sampled", "0")],
    "w3c-sampled-1": [("traceparent", PARENT[:-1] + "0"), ("x-b3-sampled", "1")],
    **{"b3-" + k: [("b3", v)] for k, v in SINGLE.items()},
}


def zipkin(collector, direction="INBOUND", config=None, **tracing):
    out = case(collector, direction, **tracing)
    out["clusters"] = [bootstrap.cluster("zipkin", collector.port)]
    out["hcm"]["tracing"]["provider"] = {"name": "envoy.tracers.zipkin", "typed_config": {
        "@type": CONFIG + "ZipkinConfig", "collector_cluster": "zipkin", "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": "HTTP_JSON", **(config or {})}}
    out["bootstrap"]["node"]["cluster"] = "shop"
    return out


def masked(value, sent):
    """Ids that the request named stay, those that were drawn become their length."""
    keep = "".join(v.lower() for _, v in sent)
    return re.sub(r"\b[0-9a-f]{16,32}\b", lambda m: m.group() if m.group() in keep or m.group().startswith("0000") else f"<{len(m.group())}>",
                  value or "")


def ask_all(proxy, backend, requests):
    told = {}
    for path, fields in requests.items():
        got = http1.get(proxy.port, path, headers=fields)
        told[path] = {k: masked(v, fields) for k, v in backend.seen.pop(path, {}).items() if k in NAMES}
        told[path]["answer"] = (got.status, got.get("x-envoy-decorator-operation"))
    return told


def told_of(span, fields):
    tags = {k: v for k, v in span.tags.items() if k != "guid:x-request-id"}
    return [span.fields, masked(span.trace, fields), masked(span.id, fields), masked(span.parent, fields), span.annotations, tags,
            span.start is not None, span.duration is not None, span.trace.endswith(span.id)]


def path_of(span):
    return re.sub(r"^http://[^/]*", "", span.tags["http.url"])


def compare(proxies, backend, build, requests, unsent):
    """Both answer, tell the next hop and the collector the same. `unsent`: how many requests have no span, or one that is not sent."""
    collectors = HttpCollector(), HttpCollector()
    two = proxies(build, collectors)
    told = {k: ask_all(p, backend, requests) for k, p in two.items()}
    assert not {path: (a, told["envoy"][path]) for path, a in told["weft"].items() if a != told["envoy"][path]}
    spans = []
    for c in collectors:
        c.wait(n=len(requests) - unsent)
        spans.append({path_of(s): s for s in c.spans})
        c.stop()
    return two, spans, collectors


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
@pytest.mark.parametrize("config", [{}, {"shared_span_context": False}, {"trace_id_128bit": True, "trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"}],
                         ids=["default", "not-shared", "128-w3c"])
def test_b3_is_read_and_written_as_envoy_does(proxies, backend, direction, config):  # noqa: F811
    requests = {"/" + k: v for k, v in FIELDS.items()}
    two, (weft, envoy), _ = compare(proxies, backend, lambda c: zipkin(c, direction, config), requests, 41)
    assert weft.keys() == envoy.keys()
    assert not [(told_of(s, requests[p]), told_of(envoy[p], requests[p])) for p, s in weft.items() if told_of(s, requests[p]) != told_of(envoy[p], requests[p])]
    assert all(abs(s.start - envoy[p].start) < 600e6 and 0 <= s.duration < 60e6 for p, s in weft.items())
    until(lambda: all(p.stats().get("tracing.zipkin.spans_sent") == len(weft) for p in two.values()), "all are counted")  # once the answer is there
    counted = {k: {n: v for n, v in p.stats().items() if re.match(r"tracing.zipkin.(spans|reports)", n)} for k, p in two.items()}
    assert counted["weft"].pop("tracing.zipkin.spans_dropped") == 0
    assert counted["weft"]["tracing.zipkin.spans_sent"] == counted["envoy"]["tracing.zipkin.spans_sent"] == len(weft)
    assert counted["weft"].keys() == counted["envoy"].keys()
    for p in two.values():  # the calls are counted at their cluster, too
        until(lambda p=p: p.stats().get("cluster.zipkin.internal.upstream_rq_2xx") == p.stats()["tracing.zipkin.reports_sent"] > 0, "answers are counted")


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
def test_spans_are_envoys(proxies, backend, direction):  # noqa: F811
    requests = {path: list(fields.items()) for path, fields in REQUESTS.items() if path not in UNSENT}
    _, (weft, envoy), collectors = compare(proxies, backend, lambda c: zipkin(c, direction), requests, 0)
    assert weft.keys() == envoy.keys()
    assert not [(told_of(s, []), told_of(envoy[p], [])) for p, s in weft.items() if told_of(s, []) != told_of(envoy[p], [])]
    for path, fields in (c.requests[0] for c in collectors):
        assert (path, fields["host"], fields["content-type"]) == ("/api/v2/spans", "zipkin", "application/json")


@pytest.mark.parametrize("config,host,path", [({"collector_hostname": "spans.example"}, "spans.example", "/api/v2/spans"), ({"collector_service": {
    "http_uri": {"uri": "http://other.example:9411/sp?x=1", "cluster": "zipkin", "timeout": "5s"},
    "request_headers_to_add": [{"header": {"key": "authorization", "value": "Basic 100%%"}}]}}, "other.example:9411", "/sp?x=1")])
def test_where_zipkin_spans_go(proxies, backend, config, host, path):  # noqa: F811
    collectors = HttpCollector(), HttpCollector()
    for p in proxies(lambda c: zipkin(c, config=config), collectors).values():
        http1.get(p.port, "/a")
    for c in collectors:
        c.wait(n=1)
        assert c.requests[0][0] == path and c.requests[0][1]["host"] == host
    if "collector_service" in config:
        assert collectors[0].requests[0][1]["authorization"] == "Basic 100%"


def otlp_http(collector, direction="INBOUND", **tracing):
    out = case(collector, direction, **tracing)
    out["clusters"] = [bootstrap.cluster("otel", collector.port)]
    config = out["hcm"]["tracing"]["provider"]["typed_config"]
    del config["grpc_service"]
    config["http_service"] = {"http_uri": {"uri": "http://otel.example/v1/traces", "cluster": "otel", "timeout": "5s"},
                              "request_headers_to_add": [{"header": {"key": "x-token", "value": "t"}}]}
    return out


def test_otlp_over_http(proxies, backend):  # noqa: F811
    requests = {path: list(fields.items()) for path, fields in REQUESTS.items() if path not in UNSENT}
    _, (weft, envoy), collectors = compare(proxies, backend, otlp_http, requests, 0)
    tell = lambda s: [s.name, s.kind, s.status, s.parent, s.state, {k: v for k, v in s.tags.items() if k != "guid:x-request-id"}, s.resource["service.name"]]
    assert weft.keys() == envoy.keys()
    assert not [(tell(s), tell(envoy[p])) for p, s in weft.items() if tell(s) != tell(envoy[p])]
    said = [(path, {k: v for k, v in fields.items() if k in ("host", "content-type", "x-token")}) for path, fields in (c.requests[0] for c in collectors)]
    assert said[0] == said[1] == ("/v1/traces", {"host": "otel.example", "content-type": "application/x-protobuf", "x-token": "t"})


@pytest.mark.parametrize("build,prefix", [(zipkin, "zipkin"), (otlp_http, "opentelemetry")])
def test_a_collector_that_fails_costs_spans_and_nothing_else(proxies, backend, build, prefix):  # noqa: F811
    c = HttpCollector(fail=2)
    p = proxies(build, [c])["weft"]
    for i in range(40):
        assert http1.get(p.port, f"/{i}").status == 200
    count = lambda n: p.stats().get(f"tracing.{prefix}.{n}", 0)
    until(lambda: count("spans_sent") + count("spans_dropped") == 40, "every span is accounted for")
    assert count("spans_dropped") >= 2 and count("spans_sent") == len(c.spans)
    if prefix == "zipkin":
        assert (count("reports_dropped"), count("reports_sent"), count("reports_failed")) == (2, len(c.requests), 0)
    c.stop()


def test_a_collector_that_is_not_there(proxies, backend):  # noqa: F811
    c = HttpCollector()
    c.stop()
    p = proxies(zipkin, [c])["weft"]
    for i in range(12):
        assert http1.get(p.port, f"/{i}").status == 200
    until(lambda: p.stats().get("tracing.zipkin.spans_dropped") == 12, "all are dropped")
    assert p.stats()["tracing.zipkin.reports_failed"] >= 1 and p.stats()["tracing.zipkin.spans_sent"] == 0


def test_a_collector_that_does_not_answer_bounds_what_waits(proxies, backend):  # noqa: F811
    """One call waits, requests do not; what waits is at most 1024 spans."""
    c = HttpCollector()
    c.hold.clear()
    p = proxies(zipkin, [c])["weft"]
    with http1.Client(p.port) as client:
        for i in range(1100):
            assert client.request(path="/x").status == 200
    assert p.stats()["tracing.zipkin.spans_dropped"] >= 1100 - 1024 - 5 - 1024
    until(lambda: p.stats()["tracing.zipkin.reports_failed"] >= 1, "the call is given up after its timeout")
    c.hold.set()
    until(lambda: p.stats()["tracing.zipkin.spans_sent"] + p.stats()["tracing.zipkin.spans_dropped"] == 1100, "all are accounted for")
    c.stop()


def test_bytes_that_are_not_utf8(proxies, backend):  # noqa: F811
    c = HttpCollector()
    p = proxies(zipkin, [c])["weft"]
    http1.get(p.port, "/bytes", headers=[("x-tagged", "caf\xe9\"\\"), ("user-agent", "caf\xc3\xa9")])
    tags = c.wait()[0].tags
    assert (tags["head"], tags["user_agent"]) == ('caf\ufffd"\\', "café")
    c.stop()


@pytest.mark.parametrize("config,words", [
    ({"collector_endpoint_version": "HTTP_PROTO"}, "collector_endpoint_version: only HTTP_JSON is supported"),
    ({"collector_endpoint_version": 0}, "collector_endpoint_version: only HTTP_JSON is supported"),
    ({"split_spans_for_request": True}, "split_spans_for_request: is not supported"),
    ({"collector_cluster": ""}, "collector_cluster: must not be empty"),
    ({"collector_endpoint": "no path"}, "collector_endpoint: is no path"),
    ({"collector_service": {"http_uri": {"uri": "http://a/b", "timeout": "1s"}}}, "collector_service.http_uri.cluster: must be set"),
    ({"collector_service": {"http_uri": {"uri": "http://a/b c", "cluster": "zipkin", "timeout": "1s"}}}, "collector_service.http_uri.uri: is no URI with a path"),
    ({"collector_service": {"http_uri": {"uri": "/b", "cluster": "zipkin", "timeout": "1s"}, "request_headers_to_add": [{"header": {"key": "a", "value": "%PROTOCOL%"}}]}},
     "collector_service.request_headers_to_add[0].header: operators are not supported here"),
    ({"collector_service": {"http_uri": {"uri": "/b", "cluster": "zipkin", "timeout": "1s"}, "request_headers_to_add": [{"header": {"key": "A b", "value": "v"}}]}},
     "'A b' is no lower-case name with a plain value"),
])
def test_what_is_not_carried_out_is_refused_by_name(spawn, tmp_path, config, words):
    ports = {"b1": 1, "b2": 1, "h2": 1, "dead": 1, "listen": procs.free_port(), "admin": procs.free_port()}
    collector = type("Nowhere", (), {"port": 1})
    path = tmp_path / "c.json"
    path.write_text(json.dumps(bootstrap.build(zipkin(collector, config=config), ports)))
    out = subprocess.run([procs.binary("weft-proxy"), "-c", path, "--mode", "validate"], capture_output=True, text=True)
    assert out.returncode and "tracing.provider.typed_config." + words in out.stdout + out.stderr or words.startswith("'"), out.stdout + out.stderr
    assert words in out.stdout + out.stderr
