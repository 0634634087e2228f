"""Every command operator that Envoy knows is in docs/observability.md: what is said to be there is accepted, the rest is refused by
name; and lines are Envoy's."""
import concurrent.futures
import json
import re
import subprocess
from pathlib import Path

import pytest
from meshtest import bootstrap, http1, procs
from meshtest.collector import HttpCollector
from meshtest.mesh import until
from meshtest.operators import EXTENSION, OURS, call, table
from test_tracing import PARENT, backend, case, proxies  # noqa: F401 (fixtures)
from test_tracing_zipkin import SINGLE, zipkin


def log(text, **more):
    return {"name": "f", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "{where}",
                                          "log_format": {"text_format_source": {"inline_string": text + "\n"}}}, **more}


def validate(tmp_path, kind, text, **more):
    ports = {"b1": 1, "b2": 1, "h2": 1, "dead": 1, "listen": procs.free_port(), "admin": procs.free_port(), "where": "/dev/null"}
    path = tmp_path / f"{kind}-{ports['listen']}.json"
    path.write_text(json.dumps(bootstrap.build({"hcm": {"access_log": [log(text, **more)]}}, ports)))
    binary = procs.envoy_binary() if kind == "envoy" else procs.binary("weft-proxy")
    out = subprocess.run([binary, "-c", path, "--mode", "validate"], capture_output=True, text=True)
    return out.returncode == 0, out.stdout + out.stderr


def test_the_page_is_right(tmp_path):
    ours, refused = table("operators"), table("Envoy's, refused by name")
    assert len(ours) > 140 and len(refused) > 10 and not set(ours) & set(refused) and len(set(ours)) == len(ours)
    assert validate(tmp_path, "weft", " ".join(map(call, ours)))[0]
    assert validate(tmp_path, "envoy", " ".join(call(n) for n in ours + refused if n not in OURS | EXTENSION))[0]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, (fine, words) in zip(refused, pool.map(lambda n: validate(tmp_path, "weft", call(n)), refused)):
            assert not fine and f"%{name}" in words, (name, words)


@pytest.mark.parametrize("text,words", [("%PATH(XX)%", "WQ or NQ"), ("%PATH(WQ:XX)%", "ORIG, PATH or ORIG_OR_PATH"), ("%QUERY_PARAMS(XX)%", "ORIG, DECODED"), ("%SPAN_ID(x)%", "takes no argument")])
def test_bad_arguments(tmp_path, text, words):
    fine, said = validate(tmp_path, "weft", text)
    assert not fine and words in said


LINES = ["%PATH%|%PATH(WQ)%|%PATH(NQ)%|%PATH(WQ:ORIG)%|%PATH(NQ:ORIG)%|%PATH(WQ:PATH)%|%PATH(NQ:PATH):5%|%PATH(WQ:ORIG_OR_PATH):4%", "%QUERY_PARAMS%|%QUERY_PARAMS(ORIG)%|%QUERY_PARAMS(DECODED)%|%QUERY_PARAM(a)%",
         "%TRACE_ID%|%SPAN_ID%"]


def lines_of(proxy, n):
    path = Path(proxy.ports["tmp"]) / f"{proxy.ports['listen']}.log"
    return until(lambda: (found := path.read_text().splitlines()) and len(found) >= n and found, f"{n} lines", timeout=30)


def run(proxies, build, requests, text):  # noqa: F811
    """The lines of both for the requests; ids that were drawn become their length."""
    def with_log(c):
        out = build(c)
        out.setdefault("hcm", {})["access_log"] = [log(text, typed_config={**log(text)["typed_config"], "path": "{tmp}/{listen}.log"})]
        out["routes"] = [{"match": {"prefix": "/old"}, "route": {"cluster": "b1", "prefix_rewrite": "/new"}}, {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]
        return out
    out = {}
    for kind, p in proxies(with_log, [HttpCollector(), HttpCollector()]).items():
        for path, fields in requests:
            http1.get(p.port, path, headers=fields)
        p.ask("/reopen_logs", "POST")
        out[kind] = lines_of(p, len(requests))
    return out


def test_paths_and_queries(proxies, backend):  # noqa: F811
    requests = [(p, []) for p in ("/", "/a?b=c", "/old?x=%20y&a=1%2B2", "/old/z", "/q?", "/p?a=b%3dc+d&a=2")]
    got = run(proxies, lambda c: {}, requests, " ".join(LINES[:2]))
    assert got["weft"] == got["envoy"]


@pytest.mark.parametrize("build", [case, zipkin])
def test_trace_and_span(proxies, backend, build):  # noqa: F811
    """Of Zipkin's spans Envoy does not tell the id; weft does."""
    requests = [("/", []), ("/a", [("traceparent", PARENT)]), ("/b", [("b3", SINGLE["full"])]), ("/c", [("b3", SINGLE["64"])])]
    got = run(proxies, build, requests, LINES[2] if build is case else "%TRACE_ID%")
    hide = lambda lines: [re.sub(r"\b[0-9a-f]{16,32}\b", lambda m: m.group() if m.group() in PARENT + SINGLE["full"] else f"<{len(m.group())}>", x) for x in lines]
    assert hide(got["weft"]) == hide(got["envoy"])


def test_metadata_filter_is_read(tmp_path):
    def filtered(value):
        return validate(tmp_path, "weft", "x", filter={"metadata_filter": value})
    matcher = {"filter": "f", "path": [{"key": "k"}], "value": {"string_match": {"exact": "v"}}}
    assert filtered({"matcher": matcher, "match_if_key_not_found": False})[0]
    fine, words = filtered({"matcher": {**matcher, "path": []}})
    assert not fine and "metadata_filter.matcher" in words


def expression(text, **config):
    return {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", "expression": text, **config}}}


@pytest.mark.parametrize("text,words", [("", "at 1: an expression is missing"), ("1 +", "at 4: an expression is missing"), ("[1].all(x, x > 0)", "at 5: the macro 'all'"),
                                        ("request.pat == ''", "at 9: 'request' has no 'pat'"), ("xds.node.id", "at 5: 'xds.node' is not supported"),
                                        ("requst.path", "at 1: there is no 'requst'"), ("'a'.matches('(')", "at 13:"), ("string(1)", "enable_string_conversion")])
def test_an_expression_that_is_none(tmp_path, text, words):
    fine, said = validate(tmp_path, "weft", "x", filter=expression(text))
    assert not fine and "filter.extension_filter.typed_config.expression: " in said and words in said
    fine, said = validate(tmp_path, "weft", f"%CEL({text})%")
    assert not fine and f"'%CEL({text})%'" in said and (words in said or not text)


def test_config_of_an_expression(tmp_path):
    assert validate(tmp_path, "weft", "x", filter=expression("string(1) + 'a' == '1a'", cel_config={"enable_string_conversion": True, "enable_string_concat": True}))[0]
    fine, said = validate(tmp_path, "weft", "x", filter=expression("1 == 1", cel_config={"enable_string_functions": True}))
    assert not fine and "cel_config.enable_string_functions" in said
