"""What the command line answers when a person asks it: weft analyze, weft explain."""
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from meshtest import procs
from meshtest.mesh import destination_rule, service, until

WEFT = procs.binary("weft")
DEMO = Path(__file__).resolve().parents[2] / "demo" / "books"

APP = """\
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: odd, port: 9000}
---
apiVersion: v1
kind: Pod
metadata: {name: app-v1, labels: {app: app, version: v1}, annotations: {sidecar.istio.io/status: "{}"}}
spec: {serviceAccountName: v1}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec:
  host: app
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""
RULES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: [app]
  http:
  - name: tests
    match: [{uri: {prefix: /t}, headers: {end-user: {exact: jason}}}]
    route:
    - {destination: {host: app, subset: v1}, weight: 30}
    - {destination: {host: app, subset: v7}, weight: 10}
  - route: [{destination: {host: gone}}]
    mirror: {host: nowhere}
  - match: [{uri: {prefix: /b}}]
    route: [{destination: {host: app, port: {number: 99}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app2}
spec:
  hosts: [app]
  http:
  - route: [{destination: {host: app}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec:
  hosts: [b]
  http:
  - match: [{uri: {regex: '['}}]
    route: [{destination: {host: app}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: typo}
spec:
  hosts: [c]
  http:
  - match: [{uri: {prefx: /}}]
    route: [{destination: {host: app}}]
"""


def weft(*args, code=0, **kw):
    r = subprocess.run([WEFT, *map(str, args)], capture_output=True, text=True, timeout=60, **kw)
    assert r.returncode == code, f"{args}: {r.returncode}, wanted {code}\n{r.stdout}{r.stderr}"
    return r


@pytest.fixture
def config(tmp_path):
    d = tmp_path / "config"
    d.mkdir()
    (d / "app.yaml").write_text(APP)
    (d / "rules.yaml").write_text(RULES)
    return d


# ---- weft analyze ----

def test_analyze_finds_everything_at_its_place(config):
    out = weft("analyze", "--namespace", "books", config, code=1).stdout
    found = {tuple(line.split(":")[:2]) + (line.split("WEFT ")[1].split()[0],) for line in out.splitlines() if line[0] != " "}
    app, rules = str(config / "app.yaml"), str(config / "rules.yaml")
    assert found == {
        (app, "8", "ProtocolSniffed"), (app, "23", "SubsetEmpty"),
        (rules, "21", "Conflict"),
        (rules, "10", "WeightsNot100"), (rules, "11", "SubsetNotFound"), (rules, "12", "HostNotFound"), (rules, "13", "HostNotFound"),
        (rules, "14", "Unreachable"), (rules, "15", "PortNotFound"), (rules, "31", "InvalidRegex"), (rules, "40", "ParseError")}, out
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if "SubsetNotFound" in line)
    assert "VirtualService books/app spec.http[0].route[1].destination.subset: no DestinationRule" in lines[at]
    assert lines[at + 1] == "    Add the subset to its DestinationRule, or correct the name"
    assert "    did you mean prefix?" in lines
    order = [(line.split(":")[0], int(line.split(":")[1])) for line in lines if line[0] != " "]
    assert order == sorted(order)


def test_analyze_json_says_the_same(config):
    text = [line for line in weft("analyze", "--namespace", "books", config, code=1).stdout.splitlines() if line[0] != " "]
    got = json.loads(weft("analyze", "--namespace", "books", "--json", config, code=1).stdout)
    assert [f"{p['file']}:{p['line']}: {p['severity']} WEFT {p['code']}" for p in got] == \
        [line[:line.index(p["code"]) + len(p["code"])] for line, p in zip(text, got, strict=True)]
    assert all(p["remedy"] for p in got if p["code"] in ("SubsetNotFound", "HostNotFound", "Conflict", "PortNotFound"))


def test_analyze_exit_codes(config):
    assert weft("analyze", "--namespace", "books", DEMO).stdout == ""
    (config / "rules.yaml").unlink()
    out = weft("analyze", "--namespace", "books", config)
    assert "0 errors, 1 warning, 1 hint" in out.stderr
    weft("analyze", "--strict", "--namespace", "books", config, code=1)
    weft("analyze", "--namespace", "books", config / "app.yaml")
    assert json.loads(weft("analyze", "--json", DEMO / "service.yaml").stdout) == []
    assert "say which directory" in weft("analyze", code=2).stderr
    assert "no file or directory" in weft("analyze", config / "none", code=2).stderr


def test_analyze_files_together(config):
    """A rule in one file and its service in another; alone, the rule's host is not known."""
    alone = weft("analyze", "--namespace", "books", config / "rules.yaml", code=1).stdout
    assert alone.count("WEFT HostNotFound") > 2
    both = weft("analyze", "--namespace", "books", config / "rules.yaml", config / "app.yaml", code=1).stdout
    assert both == weft("analyze", "--namespace", "books", config, code=1).stdout


MORE = """\
apiVersion: v1
kind: Service
metadata: {name: two, annotations: {networking.istio.io/exportTo: .}}
spec:
  ports:
  - {name: http-a, port: 8080}
  - {name: http-b, port: 8081}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: near}
spec:
  hosts: [app]
  http:
  - match: [{uri: {prefix: /a}}]
    route:
    - destination: {host: two}
  - route:
    - destination: {host: two, port: {number: 8081}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far, namespace: shop}
spec:
  hosts: [far.test]
  http:
  - route:
    - destination: {host: two.books.svc.cluster.local, port: {number: 8081}}
  tls:
  - match: [{sniHosts: [far.test], port: 443}]
    route: [{destination: {host: app.books.svc.cluster.local, port: {number: 80}}}]
  - match:
    - {sniHosts: [far.test], port: 443, sourceLabels: {app: x}}
    - {sniHosts: [far.test], port: 8443}
    route: [{destination: {host: app.books.svc.cluster.local, port: {number: 80}}}]
  tcp:
  - match: [{port: 7000}]
    route: [{destination: {host: app.books.svc.cluster.local, port: {number: 80}}}]
  - match:
    - {port: 7001}
    - {port: 7000, destinationSubnets: [10.0.0.0/8]}
    route: [{destination: {host: app.books.svc.cluster.local, port: {number: 80}}}]
"""


def test_analyze_rules_and_where_they_lead(config):
    (config / "rules.yaml").write_text(MORE)
    got = json.loads(weft("analyze", "--namespace", "books", "--json", config, code=1).stdout)
    got = {(p["line"], p["code"], p["field"]) for p in got if p["file"].endswith("rules.yaml")}
    assert got == {
        (17, "PortNotFound", "spec.http[0].route[0].destination"),
        (28, "HostNotExported", "spec.http[0].route[0].destination.host"),
        (33, "Unreachable", "spec.tls[1].match[0]"),
        (41, "Unreachable", "spec.tcp[1].match[1]")}, got


def test_every_code_is_explained():
    """docs/asking.md says what each code of a problem means."""
    top = Path(__file__).resolve().parents[2]
    sources = [f for d in ("translate", "model", "source") for f in (top / "src/mesh" / d).glob("*.c")]
    text = "".join(f.read_text() for f in sources)
    codes = set(re.findall(r'(?:check_report|validate_bad|fail)\([^;]*?"([A-Z][A-Za-z0-9]+)",', text))
    assert {"SubsetNotFound", "SelectsNothing", "ParseError", "Required"} <= codes
    page = (top / "docs/asking.md").read_text()
    missing = [c for c in sorted(codes) if f"`{c}`" not in page and not c.startswith("Invalid")]
    assert not missing, missing


def test_analyze_of_what_is_no_configuration_of_the_mesh(tmp_path):
    """Files as they are applied to a cluster, with slips of the hand."""
    (tmp_path / "app.yaml").write_text("""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: shop}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
---
apiVersion: networking.istio.io/v1
kind: VirtualServce
metadata: {name: app}
---
apiVersion: networking.istio.io/v2
kind: VirtualService
metadata: {name: app}
""")
    (tmp_path / "big.yaml").touch()
    os.truncate(tmp_path / "big.yaml", (64 << 20) + 1)
    (tmp_path / "tab.yaml").write_text("kind: Service\nmetadata:\n\tname: app\nspec: {}\n")
    found = {(p["file"].rsplit("/", 1)[1], p["line"]): p for p in json.loads(weft("analyze", "--json", tmp_path, code=1).stdout)}
    what = {place: (p["severity"], p["code"], p["text"], p["remedy"]) for place, p in found.items()}
    used = "is not used by the mesh"
    assert what == {
        ("app.yaml", 1): ("hint", "KindNotUsed", f"Deployment default/app (apps/v1) {used}", "Run its commands with weft run"),
        ("app.yaml", 5): ("hint", "KindNotUsed", f"ServiceAccount shop/app (v1) {used}", ""),
        ("app.yaml", 9): ("warning", "KindNotUsed", f"Gateway default/front (networking.istio.io/v1) {used}", ""),
        ("app.yaml", 13): ("warning", "KindNotUsed",
                           f"VirtualServce default/app (networking.istio.io/v1) {used}", "did you mean VirtualService?"),
        ("app.yaml", 17): ("warning", "KindNotUsed", f"VirtualService default/app (networking.istio.io/v2) {used}",
                           "Write apiVersion: networking.istio.io/v1"),
        ("big.yaml", 1): ("error", "ParseError",
                          "the file cannot be read (it is larger than 64 MiB): what it defined before stays", ""),
        ("tab.yaml", 3): ("error", "ParseError", "found character that cannot start any token, while scanning for the next token "
                          "that begins in line 3", "Indent with spaces, YAML takes no tabs")}, what
    assert "is no directory" in weft("control", "--config", tmp_path / "app.yaml", "--no-mesh-network", code=1).stderr


# ---- weft explain, of configuration ----

def explain(config, *args):
    return json.loads(weft("explain", "--json", "--namespace", "books", "--config", config, *args).stdout)


def test_explain_names_rule_and_reason(config):
    x = explain(config, "--from", "books/app-v1", "-H", "end-user: tom", "http://app/t?q=1")
    assert x["service"]["name"] == "app" and x["workloadFound"]
    assert x["virtualService"]["name"] == "app" and x["field"] == "spec.http[1]"
    assert (x["rule"]["file"], x["rule"]["line"]) == (str(config / "rules.yaml"), 12)
    assert any("passed over" in s and "end-user" in s and "tom" in s for s in x["steps"])
    to, mirror = x["destinations"]
    assert not to["known"] and to["host"] == "gone.books.svc.cluster.local" and mirror["mirror"]


def test_explain_lists_destinations_endpoints_identities(config):
    x = explain(config, "--from", "books/app=client", "-H", "end-user: jason", "http://app.books/t")
    assert x["route"] == "tests" and x["field"] == "spec.http[0]"
    assert [(d["subset"], d["percent"]) for d in x["destinations"]] == [("v1", 75), ("v7", 25)]
    v1 = x["destinations"][0]
    assert v1["destinationRule"]["name"] == "app" and v1["subsetAt"]["line"] == 22
    assert v1["identities"] == ["spiffe://cluster.local/ns/books/sa/v1"]
    assert [(e["address"], e["workload"], e["sidecar"]) for e in v1["endpoints"]] == [("10.0.0.1:8080", "books/app-v1", True)]
    assert x["retries"]["attempts"] == 2 and x["timeoutMs"] == 0
    text = weft("explain", "--config", config, "--namespace", "books", "-H", "end-user:jason", "http://app.books/t").stdout
    assert f"({config / 'rules.yaml'}:7)" in text and "75 %" in text and "forwards by weight" in text


def test_explain_follows_timeouts_redirects_answers(config):
    (config / "rules.yaml").write_text("""\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: [app]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - match: [{uri: {prefix: /gone}}]
    directResponse: {status: 410}
  - match: [{sourceLabels: {app: special}}]
    route: [{destination: {host: app, subset: v2}}]
  - timeout: 3s
    retries: {attempts: 5, perTryTimeout: 250ms, retryOn: 5xx}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}
    route: [{destination: {host: app, subset: v1}}]
""")
    assert explain(config, "http://app/old/a")["action"] == "redirect with 301 to http://app/new"
    assert explain(config, "http://app/gone")["action"].startswith("answer with 410")
    x = explain(config, "--method", "POST", "http://app:80/")
    assert any("http[2]: left out for this client" in s for s in x["steps"])
    assert x["field"] == "spec.http[3]" and x["timeoutMs"] == 3000 and "fault" in x["filters"]
    assert x["retries"] == {"attempts": 5, "on": "5xx", "perTryTimeoutMs": 250}
    assert explain(config, "--from", "books/app=special", "http://app/")["field"] == "spec.http[2]"
    outside = explain(config, "http://example.com/")
    assert outside["service"] is None and outside["destinations"][0]["cluster"] == "PassthroughCluster"
    tls = explain(config, "https://example.com/")
    assert [d["cluster"] for d in tls["destinations"]] == ["PassthroughCluster"]


def test_explain_tcp_by_name_and_address():
    books = Path(__file__).resolve().parents[2] / "src/mesh/testdata/books/books.yaml"
    for host in ("db", "db.books.svc.cluster.local", "10.1.2.3"):
        x = explain(books, "--from", "books", f"http://{host}:3306/")
        assert x["service"]["name"] == "db" and x["listener"] == "10.1.2.3_3306" and not x["steps"]
        assert [d["cluster"] for d in x["destinations"]] == ["outbound|3306||db.books.svc.cluster.local"]


def test_explain_usage(config):
    assert "--config" in weft("explain", "http://app/", code=2).stderr
    assert "one URL" in weft("explain", "--config", config, code=2).stderr
    assert "ftp" in weft("explain", "--config", config, "ftp://app/", code=2).stderr
    assert "NAME:VALUE" in weft("explain", "--config", config, "-H", "x", "http://app/", code=2).stderr
    weft("explain", "--config", config, "--from", "books/,,,,,,,,,,,,,,,=", "http://app/")
    for url in ("http://", "http://:80", "http://app:", "http://app:0", "http://app:99999", ""):
        assert "weft explain: " in weft("explain", "--config", config, url, code=2).stderr
    assert "http://HOST:PORT" in weft("explain", "--config", DEMO, "--from", "books", "tcp://flaskapp:80", code=2).stderr
    assert "no line of an access log" in weft("explain", "--live", "hello", code=2).stderr


# ---- weft explain --live, of requests that failed ----

def test_live_explains_requests_that_failed(mesh):
    m = mesh()
    m.apply("app.yaml", service("app", "books", {"app": "app"}, 80, 8080), service("wrong", "books", {"app": "app"}, 80, 8081),
            destination_rule("app", "books", "app"))
    m.write("vs.yaml", """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: books}
spec:
  hosts: [app]
  http:
  - match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: app, subset: v7}}]
  - match: [{uri: {prefix: /empty}}]
    route: [{destination: {host: app, subset: v2}}]
  - match: [{uri: {prefix: /broken}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: app, subset: v1}}]
  - route: [{destination: {host: app, subset: v1}}]
""")
    m.http_server("a", "app")
    c = m.client("c")
    m.settle()
    wanted = {"http://app.books/lost": ("503", "the sidecar does not have", "vs.yaml:7", "subset 'v7'"),
              "http://app.books/empty": ("503", "no endpoint that may be used", "vs.yaml:9", "subset 'v2'"),
              "http://app.books/broken": ("418", "aborted the request on purpose", "vs.yaml:11", ""),
              "http://wrong.books/x": ("503", "could not connect to its own application at endpoint", "app.yaml:", "wrong")}
    for url, (code, what, *said) in wanted.items():
        c.exec("curl", "-s", "-o", "/dev/null", "--max-time", "20", url)
        path = "/" + url.rsplit("/", 1)[1]
        line = until(lambda path=path: [x for x in m.access_log.read_text().splitlines()
                                        if f"GET {path} " in x and "via_upstream" not in x], f"{path} is in the access log")[-1]
        assert f'" {code} ' in line, line
        answer = weft("explain", "--live", line, "--config", m.config).stdout
        assert what in answer.splitlines()[0] and "\n    next: " in answer, f"{line}\n{answer}"
        assert all(s in answer for s in said), f"{line}\n{answer}"
        live = json.loads(weft("explain", "--json", "--live", "-", "--control", f"127.0.0.1:{m.monitoring}", input=line).stdout)
        assert live["what"] == answer.splitlines()[0] and live["todo"], live
    registry = json.loads(weft("explain", "--json", "--live", line, "--control", f"127.0.0.1:{m.monitoring}").stdout)
    assert {"about": "endpoints", "text": "1 of wrong.books.svc.cluster.local:80, 1 of them ready"} in registry["objects"], registry
