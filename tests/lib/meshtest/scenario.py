"""Scenarios: a configuration, requests, and what must be observed, through weft-proxy and through a real Envoy.

The format is tests/scenarios/README.md. `load` reads and checks the files, `World` is the mesh that all of them
share, `World.play` runs one. Between two scenarios the file of objects is replaced, so that each configuration
is also an update of the one before."""
import json
import math
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from . import certs, procs
from .mesh import Mesh, until

TOP = Path(__file__).resolve().parents[3]
FOLDER = TOP / "tests" / "scenarios"
# name: (service, version, namespace, sidecar)
SERVERS = {"a1": ("app", "v1", "books", "weft"), "a2": ("app", "v1", "books", "weft"), "b1": ("app", "v2", "books", "envoy"),
           "s1": ("store", "v1", "shop", "weft"), "outside": ("outside", "v1", "books", "weft")}
CLIENTS = {"weft": "weft-client", "envoy": "envoy-client"}
# Clients are in region eu, zone x: ServiceEntries may have endpoints there and elsewhere.
CLIENT_LABELS = {"app": "client", "version": "v1", "topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "x"}
PORTS = (8080, 9090, 9000, 8443)
LOG = {"id": "%REQ(X-REQUEST-ID)%", "flags": "%RESPONSE_FLAGS%",
       "details": "%RESPONSE_CODE_DETAILS%", "cluster": "%UPSTREAM_CLUSTER_RAW%", "route": "%ROUTE_NAME%",
       "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "endpoint": "%UPSTREAM_HOST%", "code": "%RESPONSE_CODE%",
       "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "ended": "%CONNECTION_TERMINATION_DETAILS%"}
LOGGED = ("flags", "details", "cluster", "route", "attempts", "ended")

SCENARIO = {"name", "fields", "about", "with", "config", "before", "problems", "requests", "stats", "differs"}
REQUEST = {"url", "method", "headers", "body", "count", "parallel", "protocol", "authority", "connect", "sni", "send", "timeout",
           "new_connection", "expect", "envoy", "differs", "log", "compare"}
EXPECT = {"status", "error", "flags", "details", "cluster", "route", "attempts", "ended", "backend", "version", "method", "path",
          "protocol", "authority", "body", "sent", "seen", "headers", "trailers", "reply", "takes", "split", "statuses",
          "spread", "same", "alike", "certificate"}
DISTRIBUTED = {"split", "statuses", "spread", "same", "alike"}
PROBLEM = {"kind", "namespace", "name", "field", "code", "text", "severity"}

VOLATILE = {"date", "x-request-id", "x-key", "x-envoy-upstream-service-time", "x-b3-traceid", "x-b3-spanid", "traceparent"}
MASKS = [(re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"), (re.compile(r"Hash=[0-9a-f]{64}"), "Hash=HASH"),
         (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
         (re.compile(r'="[0-9a-f]{16}"'), '="HASH"'),
         (re.compile(r"\b(%s)\b" % "|".join(CLIENTS.values())), "CLIENT"),
         (re.compile(r"/sa/(%s)\b" % "|".join(SERVERS)), "/sa/SERVER")]


# ---- reading ----

def differences():
    return set(re.findall(r"^- \*\*([\w-]+)\.\*\*", (TOP / "docs" / "differences.md").read_text(), re.M))


def check_keys(what, given, known):
    unknown = set(given) - known
    assert not unknown, f"{what}: unknown keys {sorted(unknown)}; known are {sorted(known)}"


def check(s, where, reasons):
    assert isinstance(s, dict) and s.get("name"), f"{where}: a scenario without a name"
    what = f"{where}: {s['name']}"
    check_keys(what, s, SCENARIO)
    assert s.get("requests") or s.get("problems"), f"{what}: neither requests nor problems"
    for i, r in enumerate(s.get("requests") or []):
        at = f"{what}: requests[{i}]"
        check_keys(at, r, REQUEST)
        check_keys(at + ".expect", r.get("expect") or {}, EXPECT)
        check_keys(at + ".envoy", r.get("envoy") or {}, EXPECT)
        assert r.get("url") and r.get("expect"), f"{at}: url and expect are needed"
        reason = r.get("differs") or s.get("differs")
        assert not r.get("envoy") or reason, f"{at}: `envoy` only with `differs`"
        assert not reason or reason in reasons, f"{at}: docs/differences.md has no entry {reason}"
    for p in s.get("problems") or []:
        check_keys(what + ": problems", p, PROBLEM)


def load(folder=FOLDER):
    out, reasons = [], differences()
    for f in sorted(folder.glob("*.yaml")):
        names = set()
        for s in yaml.safe_load(f.read_text()) or []:
            check(s, f.name, reasons)
            assert s["name"] not in names, f"{f.name}: {s['name']} is there twice"
            names.add(s["name"])
            out.append({**s, "file": f.stem})
    return out


# ---- observing ----

def mask(text):
    for pattern, to in MASKS:
        text = pattern.sub(to, text)
    return text


def fields(pairs, clean):
    out = {}
    for k, v in pairs:
        k = k.lower()
        if k == "x-envoy-expected-rq-timeout-ms":  # what is left of a time-out differs by milliseconds
            v = str(-(-int(v) // 500) * 500)
        out.setdefault(k, []).append("*" if k in VOLATILE else clean(v))
    return out


def observe(rec, log, clean):
    """A response and its access-log line in the form that is compared."""
    o = {k: rec[k] for k in ("status", "error", "reply") if k in rec}
    o["seconds"] = rec["seconds"]
    if "headers" in rec:
        o["headers"] = fields(rec["headers"], clean)
        o["headers"].pop("content-length", None)
        o["trailers"] = fields(rec["trailers"], clean)
    seen = None
    if rec.get("body", "").startswith("{"):
        try:
            seen = json.loads(rec["body"])
        except ValueError:
            pass
    if seen and "backend" in seen:
        o.update(backend=seen["backend"], method=seen["method"], path=seen["path"], protocol=seen["version"], sent=seen["body"],
                 seen=fields(seen["headers"], clean), seen_trailers=fields(seen["trailers"], clean))
        o["authority"] = (o["seen"].pop("host", None) or [None])[0]
    elif "body" in rec:
        o["body"] = clean(rec["body"]) if len(rec["body"]) < 4000 else f"{len(rec['body'])} bytes"
    if "reply" in o and ": " in o["reply"]:
        o["backend"], o["reply"] = o["reply"].split(": ", 1)
    if o.get("backend") in SERVERS:
        o["version"] = SERVERS[o["backend"]][1]
    if log:
        o.update({k: clean(str(log[k])) if log[k] is not None else "-" for k in LOGGED})
        o["flags"] = ",".join(sorted(o["flags"].split(",")))  # a set: in which order they were set says nothing
    return o


def comparable(o):
    """Without what differs from one request to the next: who answered is compared where `expect` says it."""
    out = {k: v for k, v in o.items() if k not in ("seconds", "backend", "version")}
    if "headers" in out:
        out["headers"] = {k: v for k, v in out["headers"].items() if k not in ("x-backend",)}
    if out.get("error") == "reset":  # bytes that crossed the close make a reset of it
        out["error"] = "closed"
    return out


def differing(a, b, path=""):
    """The paths at which two observations differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in sorted({*a, *b}) for d in differing(a.get(k), b.get(k), f"{path}.{k}" if path else k)]
    return [] if a == b else [f"{path}: weft {a!r}, Envoy {b!r}"]


# ---- expecting ----

def matches(want, got):
    """A value; "~pattern" is a regular expression; null means that it is not there; a list of values of one name."""
    if want is None:
        return got is None
    if isinstance(got, list):
        return [str(x) for x in want] == got if isinstance(want, list) else len(got) == 1 and matches(want, got[0])
    if isinstance(want, str) and want.startswith("~"):
        return got is not None and re.search(want[1:], str(got), re.S) is not None
    return str(want) == str(got)


def within(share_of, counts, n, deviations=4.4):
    """Shares in percent (or parts); a right proxy fails this once in 100,000 runs (4.4 deviations; 2.6: once in 100)."""
    total, bad = sum(share_of.values()), []
    for key in {*map(str, share_of), *counts}:
        p = next((v for k, v in share_of.items() if str(k) == key), 0) / total
        slack = deviations * math.sqrt(n * p * (1 - p)) + (1 if 0 < p < 1 else 0)
        if abs(counts.get(key, 0) - n * p) > slack:
            bad.append(f"{key}: {counts.get(key, 0)} of {n}, expected {n * p:.0f} ± {slack:.0f}")
    return bad


def tally(observed, key):
    out = {}
    for o in observed:
        k = str(o.get(key, o.get("error")))
        out[k] = out.get(k, 0) + 1
    return out


def unmet_one(expect, o):
    bad = []
    for k, want in expect.items():
        if k in DISTRIBUTED or k == "certificate":
            continue
        if k == "takes":
            low, high = want
            if o["seconds"] < low * 0.95 or (high is not None and o["seconds"] > high):
                bad.append(f"takes {want}: took {o['seconds']:.3f} s")
        elif k in ("seen", "headers", "trailers"):
            got = o.get(k)
            bad += [f"{k}.{n}: expected {w!r}, got {(got or {}).get(n.lower())!r}" for n, w in want.items()
                    if got is None or not matches(w, got.get(n.lower()))]
        elif not matches(want, o.get(k)):
            told = [f"{n} {o[n]}" for n in ("error", "flags", "details", "ended", "cluster", "backend") if n != k and o.get(n) not in (None, "-")]
            bad.append(f"{k}: expected {want!r}, got {o.get(k)!r} ({', '.join(told)}, after {o['seconds']:.2f} s)")
    return bad


def unmet(expect, observed, deviations=4.4):
    bad, n = [], len(observed)
    for i, o in enumerate(observed):
        bad += [f"[{i}] {b}" if n > 1 else b for b in unmet_one(expect, o)]
    if "split" in expect:
        bad += ["split " + b for b in within(expect["split"], tally(observed, "version"), n, deviations)]
    if "statuses" in expect:
        bad += ["statuses " + b for b in within(expect["statuses"], tally(observed, "status"), n, deviations)]
    if "spread" in expect and set(tally(observed, "backend")) != set(expect["spread"]):
        bad.append(f"spread: expected all of {expect['spread']}, got {tally(observed, 'backend')}")
    if expect.get("same") and len(tally(observed, "backend")) != 1:
        bad.append(f"same: answers came from {tally(observed, 'backend')}")
    return bad


# ---- the mesh ----

class Tail:
    """The output of a client's sidecar as it grows: lines of the access log by request id, and those of TCP
    connections, which have none, in their order. (Not by the client's port: interception may change it.)"""

    def __init__(self, path):
        self.path, self.at, self.rest, self.lines, self.tcp = path, 0, b"", {}, []

    def read(self):
        with open(self.path, "rb") as f:
            f.seek(self.at)
            data = f.read()
        self.at += len(data)
        *whole, self.rest = (self.rest + data).split(b"\n")
        for line in whole:
            if line.startswith(b"{"):
                e = json.loads(line)
                if e["id"]:
                    self.lines[e["id"]] = e
                else:
                    self.tcp.append(e)

    def forget(self):
        self.read()
        self.tcp.clear()

    def wait(self, recs, timeout=5):
        """The lines of these responses; what has none after a while is not logged at all."""
        end = time.monotonic() + timeout
        while True:
            self.read()
            tcp = iter(self.tcp)
            got = [self.lines.get(r["id"]) or next(tcp, None) for r in recs]  # HTTP may pass as TCP, too
            if all(got) or time.monotonic() > end:
                return got
            time.sleep(0.01)


class World:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.pki = certs.Pki(self.folder / "certs")
        self.mesh = Mesh(self.folder, control_args=["--access-log-file", "/dev/stdout", "--access-log-json", json.dumps(LOG)])
        self.pool = ThreadPoolExecutor(8)
        try:
            self._start()
        except BaseException:
            self.close(failed=True)
            raise

    def _start(self):
        leaf = self.pki.leaf("server", uri="spiffe://outside.example/server", dns=["outside.example", "*.example"])
        self.pki.leaf("client-tls", uri="spiffe://outside.example/client")
        proxies = {"envoy": self._sidecar("envoy", procs.envoy_binary()), "weft": self._sidecar("weft-proxy", procs.binary("weft-proxy"))}
        for f in sorted((FOLDER / "mesh").glob("*.yaml")):
            self.mesh.write(f.name, f.read_text())
        self.servers, self.clients = {}, {}
        for name, (app, version, ns, sidecar) in SERVERS.items():
            command = [sys.executable, "-m", "meshtest.echoes", "--name", name, "--cert", leaf.cert, "--key", leaf.key,
                       "--ca", self.pki.root_cert]
            # One server stands outside: its sidecar takes nothing that comes in.
            args = ["--exclude-inbound-ports", ",".join(map(str, PORTS))] if name == "outside" else []
            self.servers[name] = self.mesh.run(name, command, ns=ns, labels={"app": app, "version": version}, ports=PORTS,
                                               proxy=proxies[sidecar], args=args, drain_s=1, wait=False)
        for kind, name in CLIENTS.items():
            self.clients[kind] = self.mesh.client(name, labels=CLIENT_LABELS, drain_s=1, wait=False, proxy=proxies[kind])
        for w in (*self.servers.values(), *self.clients.values()):
            w.wait_up()
        for name, w in self.servers.items():
            if SERVERS[name][0] != "outside":
                until(w.registered, f"{name} is an endpoint")
        self.mesh.settle()
        self.names = {n.replace("-", "_"): w.address for n, w in {**self.servers, **self.clients}.items() for w in [w]}
        self.names["certs"] = str(self.pki.dir)
        addresses = [(re.compile(re.escape(w.address) + r"(:\d+)?\b"), "CLIENT") for w in self.clients.values()]
        self.masks = addresses + [(re.compile(re.escape(w.address) + r"\b"), "SERVER") for w in self.servers.values()]
        self.logs = {kind: Tail(w.proxy_log) for kind, w in self.clients.items()}

    def _sidecar(self, name, binary):
        """A sidecar program whose access log is written soon."""
        path = self.folder / name
        path.write_text("#!/bin/bash\nargs=()\nfor a in \"$@\"; do\n  [ \"$last\" = --file-flush-interval-msec ] && a=20\n"
                        f"  args+=(\"$a\"); last=$a\ndone\nexec {binary} \"${{args[@]}}\"\n")
        path.chmod(0o755)
        return path

    def clean(self, text):
        for pattern, to in self.masks:
            text = pattern.sub(to, text)
        return mask(text)

    def fill(self, text):
        return re.sub(r"\$\{(\w+)\}", lambda m: self.names[m[1]], text)

    # ---- one scenario ----

    def configure(self, text, snippets=()):
        parts = [(FOLDER / "with" / f"{w}.yaml").read_text() for w in snippets] + [text or "# nothing\n"]
        self.mesh.apply("scenario.yaml", self.fill("---\n".join(parts)))

    def problems(self, wanted):
        """Exactly the problems that the scenario names are there."""
        there = self.mesh.problems()
        bad = []
        for w in wanted:
            hit = next((p for p in there if all(matches(v, p.get(k)) for k, v in w.items())), None)
            if hit:
                there.remove(hit)
            else:
                bad.append(f"no problem like {w}")
        bad += [f"problem {p['kind']}/{p['namespace']}/{p['name']} {p['field']} [{p['code']}]: {p['text']}" for p in there]
        refused = self.mesh.page("/debug/configz")["refused"]
        if refused:
            bad.append(f"{refused} proxies refused it:\n{self.mesh.proxy_status()}")
        return bad

    def ask(self, kind, request):
        client, log = self.clients[kind], self.logs[kind]
        log.forget()
        recs = client.call("meshtest.asker:ask", timeout=900, request={k: v for k, v in request.items() if k not in ("expect", "envoy")})
        logs = log.wait(recs) if request.get("log", True) else [None] * len(recs)
        return [observe(r, l, self.clean) for r, l in zip(recs, logs)]

    def request(self, r, differs, deviations):
        r = {k: yaml.safe_load(self.fill(yaml.safe_dump(v))) if k in ("url", "headers", "connect", "authority") else v
             for k, v in r.items()}
        r["expect"] = yaml.safe_load(self.fill(yaml.safe_dump(r["expect"])))
        # Each client's answers are waited for together: two clients ask at once.
        asked = {kind: self.pool.submit(self.ask, kind, r) for kind in CLIENTS}
        got = {kind: a.result() for kind, a in asked.items()}
        bad = []
        for kind, observed in got.items():
            expect = {**r["expect"], **(r.get("envoy") or {} if kind == "envoy" else {})}
            bad += [f"{kind}: {b}" for b in unmet(expect, observed, deviations)]
        if r["expect"].get("alike") and tally(got["weft"], "backend").keys() != tally(got["envoy"], "backend").keys():
            bad.append(f"alike: weft {tally(got['weft'], 'backend')}, Envoy {tally(got['envoy'], 'backend')}")
        if not differs and r.get("compare", True) and not DISTRIBUTED & set(r["expect"]):
            for a, b in zip(got["weft"], got["envoy"]):
                new = differing(comparable(a), comparable(b))
                bad += [d for d in new if d not in bad]
        return [f"{r.get('method', 'GET')} {r['url']}: {b}" for b in bad]

    def stats(self, wanted):
        return {kind: {p: c.stat(p) for p in wanted} for kind, c in self.clients.items()}

    def confirmed(self, s):
        """Plays it, and once more when something was not as it should be: chance and a busy machine do not do the same twice.
        Shares are looked at closely first, and then in many more answers, where what is wrong is far off and what is
        right never (once in 100,000). (what was wrong both times, what was the first time)"""
        first = self.play(s, 2.6)
        if not first:
            return [], []
        chance = lambda r: {"split", "statuses", "spread"} & set(r["expect"]) and "count" in r and not s.get("stats")  # noqa: E731
        self.configure(None)
        if not all(re.search(r": (split|statuses|spread)[ :]", b) for b in first):
            return self.play(s), first
        return self.play({**s, "requests": [{**r, "count": min(8 * r["count"], max(480, 2 * r["count"]))} if chance(r) else r for r in s.get("requests") or []]}), first

    def play(self, s, deviations=4.4):
        """Runs a scenario; the list of what is not as it should be."""
        if s.get("before"):
            self.configure(s["before"], s.get("with") or ())
        self.configure(s.get("config"), s.get("with") or ())
        bad = self.problems(s.get("problems") or [])
        before = self.stats(s.get("stats") or {})
        for r in s.get("requests") or []:
            bad += self.request(r, r.get("differs") or s.get("differs"), deviations)
        after = self.stats(s.get("stats") or {})
        for kind in CLIENTS:
            for pattern, want in (s.get("stats") or {}).items():
                grown = after[kind][pattern] - before[kind][pattern]
                if not (want[0] <= grown <= want[1] if isinstance(want, list) else grown == want):
                    bad.append(f"{kind}: stats {pattern} grew by {grown}, expected {want}")
        return bad

    def close(self, failed=False):
        self.pool.shutdown(wait=False)
        self.mesh.close(failed=failed)
