"""What the command line answers when a person asks it: weft analyze, weft explain."""
import json
import subprocess
from pathlib import Path

import pytest
from meshtest import procs

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
