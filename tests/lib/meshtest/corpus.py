"""Plays a case of tests/e2e/corpus through one proxy; what came of it as plain data (see the README there).

A run has its own proxy, backends and DNS server: cases run side by side without seeing each other. The two runs of a
case have the same ports, since hashing places hosts by their addresses."""
import contextlib
import json
import re
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from h2.exceptions import ProtocolError

from . import bootstrap, dnsserver, http1, http2, operators, procs
from .backend import Backend
from .ports import free_port
from .scenario import within

# Fields whose value differs from run to run in any proxy: only their presence counts.
VOLATILE = {"date", "x-request-id", "x-envoy-upstream-service-time"}
# Random, times, ports: masked inside values.
MASKS = [(re.compile(r"127\.0\.0\.(\d+)[:_]\d+"), r"127.0.0.\1:PORT"),
         (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
         (re.compile(r'="[0-9a-f]{16}"'), '="HASH"'),
         (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID")]
LOG = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
       "cluster": "%UPSTREAM_CLUSTER_RAW%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "path": "%REQ(:PATH)%",
       "ended": "%CONNECTION_TERMINATION_DETAILS%", "sent": "%BYTES_SENT%"}


def mask(text):
    for pattern, to in MASKS:
        text = pattern.sub(to, text)
    return text


def fields(pairs, drop=(), spelled=False):
    """Order between different names does not count, order within a name does, and upper case where it is `spelled`."""
    out = {}
    for name, v in pairs:
        k = name.lower()
        if k not in drop:
            # What is left of a time-out when a retry is made differs by milliseconds.
            if k == "x-envoy-expected-rq-timeout-ms":
                v = str(-(-int(v) // 500) * 500)
            out.setdefault(name if spelled else k, []).append("*" if k in VOLATILE else mask(v))
    return out


def observe(response, request):
    if request.get("status_only"):  # a body that quotes a TLS library's own words
        return {"status": response.status}
    spelled = request.get("spelled", False)
    got = {"status": response.status, "headers": fields(response.headers, {"connection", "keep-alive"}, spelled),
           "infos": response.infos, "trailers": fields(response.trailers)}
    try:
        seen = json.loads(response.body)
        got["upstream"] = {"backend": seen["backend"], "method": seen["method"], "path": seen["path"],
                           "version": seen["version"], "headers": fields(seen["headers"], spelled=spelled), "body": seen["body"],
                           "trailers": fields(seen["trailers"]), "proxy": mask(str(seen.get("proxy")))}
        got["headers"].pop("content-length", None)
    except (ValueError, KeyError, TypeError):
        body = response.body if len(response.body) < 4000 else b"%d bytes" % len(response.body)
        got["body"] = mask(body.decode("latin1"))
    return got


def brief(o):
    return json.dumps([o.get("status", "closed" if "closed" in o else None), (o.get("upstream") or {}).get("backend")])


# ---- the world of a run ----

class Echo(Backend):
    """Lines come back as "NAME: line"; begins with "hello from NAME" when `greets`."""

    async def serve(self, reader, writer, proxy=None):
        self.connections += 1
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                if line.startswith(b"PROXY ") or line == b"\r\n":
                    proxy = await self.proxy_header(reader, line)
                    continue
                self.seen.append({"path": line.decode("latin1").strip(), "headers": []})
                if line.startswith(b"QUIT"):
                    break
                writer.write(self.name.encode() + b": " + (f"[{proxy}] ".encode() if proxy else b"") + line)
                await writer.drain()
        writer.close()


def make_backend(name, port, pki):
    if name.startswith("echo"):
        return Echo(name, port)
    if "tls" in name:  # tls, ptls (a PROXY header comes first), tls-LEAF, h2tls…
        ctx = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        leaf = pki.dir / f"{name.split('-')[1] if '-' in name else 'backend'}.pem"
        ctx.load_cert_chain(leaf, leaf.with_name(leaf.stem + "-key.pem"))
        if name.startswith("h2"):
            ctx.set_alpn_protocols(["h2"])
        return Backend(name, port, ssl=ctx, proxied=name == "ptls", h2c=name.startswith("h2"))
    return Backend(name, port, h2c=name.startswith("h2"))


BACKENDS = re.compile(r"\{((?:b|h2|echo)\w*|(?:p|h2)?tls(?:-\w+)?)\}")


def backends_of(case):
    return sorted(set(BACKENDS.findall(json.dumps([bootstrap.build(case, {}), case]))))


class Run:
    """One case through one proxy."""

    def __init__(self, kind, case, ports, folder, pki):
        self.kind, self.case, self.pki, self.folder = kind, case, pki, folder / case["name"] / kind
        self.folder.mkdir(parents=True)
        self.ports = dict(ports, tmp=str(self.folder), **pki.names)
        self.backends, self.dns, self.held = {}, None, {}

    def __enter__(self):
        for name in backends_of(self.case):
            self.backends[name] = make_backend(name, self.ports[name], self.pki).start()
        if "dns" in self.case:
            self.dns = dnsserver.Server(dict(self.case["dns"])).start()
            self.ports["dns"] = self.dns.port
        if "tell" in self.case:
            self.do_tell(self.case)
        config = self.folder / "config.json"
        boot = bootstrap.build(self.case, self.ports, LOG)
        for c in boot["static_resources"]["clusters"]:  # changes of health count at once
            c.setdefault("common_lb_config", {}).setdefault("update_merge_window", "0s")
        config.write_text(json.dumps(boot, indent=1))
        argv = [procs.envoy_binary() if self.kind == "envoy" else procs.binary("weft-proxy"), "-c", config, "--concurrency", "1",
                "-l", "warning", "--file-flush-interval-msec", "50", *self.case.get("args", [])]
        self.proxy = procs.Proc(f"{self.case['name']}-{self.kind}", argv + (["--disable-hot-restart"] if self.kind == "envoy" else []),
                                self.folder)
        return self

    def __exit__(self, *exc):
        for c in self.held.values():
            c.sock.close()
        try:
            self.proxy.stop()
        finally:
            for b in self.backends.values():
                b.stop()
            if self.dns:
                self.dns.stop()
        out = self.proxy.output()
        assert not re.search("ERROR: (Address|Leak)Sanitizer|runtime error:", out), out

    def stats(self):
        return procs.parse_stats(procs.fetch(f"http://127.0.0.1:{self.ports['admin']}/stats"))

    def all(self):
        procs.wait_port(self.ports["admin"], self.proxy)
        procs.wait_port(self.ports["listen"], self.proxy)
        before = self.settled()
        got = {"steps": [self.step(bootstrap.fill(r, self.ports)) for r in self.case.get("requests", [{}])]}
        after = self.settled()
        got["stats"] = {mask(k): v for k, v in after.items() if v or before.get(k)}
        got["names"] = sorted({mask(k) for k in after})
        return got

    def settled(self):
        """The stats once they stand still."""
        last = self.stats()
        for _ in range(40):
            time.sleep(0.05)
            now = self.stats()
            if {k: v for k, v in now.items() if not k.startswith(("server.", "filesystem.", "http.admin", "runtime."))} == \
               {k: v for k, v in last.items() if not k.startswith(("server.", "filesystem.", "http.admin", "runtime."))}:
                break
            last = now
        return now

    def log_lines(self, name):
        log = self.folder / name
        if not log.exists():
            return None
        lines = log.read_text().splitlines()
        return [mask(re.sub(r"\b\d+ms\b", "Nms", line)) for line in lines]

    # ---- steps ----

    def step(self, r):
        for name in ("until", "pause", "tell", "dns", "seen", "stats", "parallel", "connection", "admin", "hold", "drop", "stop"):
            if name in r and not ("until" == name and "tcp" in r):
                return getattr(self, "do_" + name)(r)
        times = r.get("times", 1)
        began = time.monotonic()
        got = [self.play(r) for _ in range(times)]
        return self.judged(r, got, time.monotonic() - began)

    def judged(self, r, got, seconds):
        if "takes" in r:
            low, high = r["takes"]
            if seconds < low * 0.9 or seconds > high:
                got.append({"takes": f"{seconds:.2f} s, not {r['takes']}"})
        if r.get("any_host"):  # which one answers is chance
            for o in got:
                o.get("upstream", {}).pop("backend", None)
                o.get("headers", {}).pop("x-backend", None)
        if "shares" in r:  # of backends, or of statuses where none answered
            counts = {}
            for o in got:
                k = (o.get("upstream") or {}).get("backend") or str(o.get("status", "closed"))
                counts[k] = counts.get(k, 0) + 1
            return {"shares": within(r["shares"], counts, len(got))}
        return got[0] if len(got) == 1 else sorted({brief(o) for o in got})

    def do_until(self, r):
        """Waits until stats have these values (a number, or ">=n")."""
        end = time.monotonic() + r.get("within", 60)
        while True:
            stats = self.stats()
            got = {k: stats.get(k, 0) for k in r["until"]}
            late = {k: got[k] for k, v in r["until"].items()
                    if not (got[k] >= int(v[2:]) if str(v).startswith(">=") else got[k] == v)}
            if not late:
                time.sleep(0.1)  # workers hear of it a little later
                return {"until": "came"}
            if time.monotonic() > end:
                return {"until": {mask(k): v for k, v in late.items()}}
            time.sleep(0.03)

    def do_pause(self, r):
        time.sleep(r["pause"])

    def do_tell(self, r):
        for name, wishes in r["tell"].items():
            self.backends[name].wishes = {k: [tuple(w) for w in v] for k, v in wishes.items()}

    def do_dns(self, r):
        self.dns.zone.update(r["dns"])

    def do_stop(self, r):
        for name in r["stop"]:
            self.backends[name].stop()

    def do_seen(self, r):
        """How many requests these backends got since; with `first`, what the first was like."""
        out = {}
        for name in r["seen"]:
            seen = self.backends[name].seen
            out[name] = len(seen) if r.get("count", True) else bool(seen)
            if r.get("first") and seen:
                out[name + "-first"] = [seen[0].get("method"), seen[0]["path"], fields(seen[0]["headers"])]
            seen.clear()
        return out

    def do_stats(self, r):
        stats = self.stats()
        return {mask(k): stats.get(k, 0) for k in r["stats"]}

    def do_admin(self, r):
        text = procs.fetch(f"http://127.0.0.1:{self.ports['admin']}{r['admin']}", r.get("method", "GET"))
        return sorted(re.findall(r["find"], mask(text), re.M)) if "find" in r else None

    def do_parallel(self, r):
        """Side by side, each on its connection; begun one after the other."""
        todo = [dict(q) for q in r["parallel"] for _ in range(q.pop("copies", 1))]
        with ThreadPoolExecutor(len(todo)) as pool:
            jobs = []
            for q in todo:
                jobs.append(pool.submit(self.step, q))
                time.sleep(r.get("apart", 0.05))
            got = [j.result() for j in jobs]
        return got if r.get("ordered", True) else sorted(got, key=json.dumps)

    def do_connection(self, r):
        """One after the other on one connection; `eof: true` at the end: it is closed then; `held: name`: kept open."""
        got = []
        client = http2.Client if r.get("http") == 2 else http1.Client
        c = client(self.ports[r.get("to", "listen")])
        if "preface" in r:
            c.send(r["preface"].encode("latin1"))
        try:
            for q in r["connection"]:
                if "pause" in q:
                    time.sleep(q["pause"])
                    continue
                got.append(observe(c.request(**self.arguments(q)), q))
                if "connection" in dict(got[-1].get("headers", {})):
                    got[-1]["connection"] = True
        except (http1.Closed, OSError, ProtocolError) as e:
            # A reset may overtake a GOAWAY.
            got.append({"closed": True, "got": mask(getattr(e, "got", b"").decode("latin1")) if r.get("http") != 2 else ""})
        if "eof" in r:
            got.append({"eof": self.ends(c, r["eof"])})
        if "held" in r:
            self.held[r["held"]] = c
        else:
            c.sock.close()
        return got

    def ends(self, c, timeout):
        """Whether the proxy closes within so many seconds (HTTP/2: whatever GOAWAY came before)."""
        c.sock.settimeout(float(timeout))
        try:
            while c.sock.recv(65536):
                pass
            return True
        except TimeoutError:
            return False
        except OSError:
            return True

    def do_hold(self, r):
        """Opens a connection that does nothing; what it says is seen: open, or closed at once."""
        c = http1.Client(self.ports[r.get("to", "listen")])
        self.held[r["hold"]] = c
        c.sock.settimeout(1)
        try:
            return {"closed": c.sock.recv(1) == b""}
        except TimeoutError:
            return {"closed": False}
        except OSError:
            return {"closed": True}

    def do_drop(self, r):
        self.held.pop(r["drop"]).sock.close()

    # ---- one request ----

    def arguments(self, request):
        kw = {"headers": [tuple(h) for h in request.get("headers", [])],
              "body": (request.get("body") or "").encode() * request.get("repeat_body", 1)}
        for h in request.get("repeat_header", []):  # [name, length of the value, how often]
            kw["headers"] += [(h[0].replace("#", str(i)), "v" * h[1]) for i in range(h[2])]
        for k in ("method", "path", "host", "version"):
            if k in request:
                kw[k] = request[k]
        if request.get("trailers") and request.get("http") == 2:
            kw["trailers"] = [tuple(t) for t in request["trailers"]]
        return kw

    def play(self, request):
        """The observation as plain data."""
        kw = self.arguments(request)
        port = self.ports[request.get("to", "listen")]
        try:
            if "tls" in request:
                return self.play_tls(request, kw, port)
            if "tcp" in request:
                with http1.Client(port) as c:
                    return play_tcp(c, request)
            if request.get("raw"):
                return play_raw(request, port)
            if request.get("upgrade"):
                return play_upgrade(request, kw, port)
            with (http2.Client if request.get("http") == 2 else http1.Client)(port) as c:
                return observe(c.request(**kw), request)
        except http1.Closed as e:
            return {"closed": True, "got": mask(e.got.decode("latin1")) if request.get("http") != 2 else ""}
        except (ConnectionResetError, BrokenPipeError):
            return {"eof": ""} if "tcp" in request else {"closed": True, "got": ""}  # reset as soon as it was accepted
        except TimeoutError:
            return {"timeout": True}

    def play_tls(self, request, kw, port):
        """Over TLS; what the handshake agreed on is part of the observation."""
        try:
            sock = tls_socket(port, request["tls"], self.pki)
            agreed = {"alpn": sock.selected_alpn_protocol(), "version": sock.version(),
                      "subject": str(sock.getpeercert().get("subject")) if request["tls"].get("trust", True) else None}
            client = http2.Client if agreed["alpn"] == "h2" else http1.Client
            with client(port, sock=sock) as c:
                return dict(observe(c.request(**kw), request), tls=agreed)
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            return {"tls_error": True}


def tls_socket(port, how, pki):
    """how: sni, alpn (list), cert (name of a leaf), trust (False: whatever the server shows), version."""
    ctx = ssl.create_default_context(cafile=str(pki.root_cert))
    ctx.check_hostname = False
    if not how.get("trust", True):
        ctx.verify_mode = ssl.CERT_NONE
    if how.get("alpn"):
        ctx.set_alpn_protocols(how["alpn"])
    if how.get("cert"):
        leaf = pki.leaf(how["cert"], days=how.get("days", 10))
        ctx.load_cert_chain(leaf.cert, leaf.key)
    if how.get("version"):
        ctx.maximum_version = ctx.minimum_version = ssl.TLSVersion[how["version"]]
    return ctx.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60), server_hostname=how.get("sni", "test.local"))


def play_tcp(c, request):
    """Bytes through a tunnel: what comes back, to the end of the first answer or of the connection."""
    got = b""
    try:
        c.send(request["tcp"].encode("latin1").replace(b"\n", b"\r\n"))
        while not got.endswith(request.get("until", "echo").encode()):
            piece = c.sock.recv(65536)
            if not piece:
                return {"eof": mask(got.decode("latin1"))}
            got += piece
    except (http1.Closed, ConnectionResetError, BrokenPipeError):
        return {"eof": mask(got.decode("latin1"))}
    if request.get("close"):  # our half ends; the other side's end must come through
        c.sock.shutdown(socket.SHUT_WR)
        while piece := c.sock.recv(65536):
            got += piece
    text = mask(re.sub(r"date: [^\r]*", "date: *", got.decode("latin1")))
    out = {"got": sorted(text.split("\r\n"))}  # the order of a head's fields does not count
    if "idle" in request:  # the proxy ends it within so many seconds
        c.sock.settimeout(request["idle"])
        try:
            out["idle"] = "closed" if c.sock.recv(1) == b"" else "data"
        except TimeoutError:
            out["idle"] = "open"
        except OSError:
            out["idle"] = "closed"
    return out


def play_raw(request, port):
    text = request["raw"].encode("latin1")
    with http1.Client(port) as c:
        c.send(text.replace(b"\n", b"\r\n") if request.get("crlf", True) else text)
        got = observe(c.response(), request)
        if request.get("eof"):
            got["eof"] = c.at_eof()
        return got


def play_upgrade(request, kw, port):
    with http1.Client(port) as c:
        r = c.request(path=kw.get("path", "/"), host=kw.get("host", "test.local"), headers=kw["headers"] + [
            ("connection", "upgrade"), ("upgrade", request["upgrade"])])
        got = observe(r, request)
        if r.status == 101:
            got["headers"].pop("date", None)
            c.send(b"hello")
            got["echo"] = c.take(10).decode()
        return got


def through(kind, case, ports, folder, pki):
    """{steps, stats, names, log, access_log} of a case through one proxy."""
    with Run(kind, case, ports, folder, pki) as r:
        try:
            got = r.all()
        except Exception as e:
            raise AssertionError(f"{case['name']} through {kind}: {type(e).__name__} {e}\n{r.proxy.output()}") from e
    got["log"] = [json.loads(line) for line in r.log_lines("log.json") or []]
    got["access_log"] = r.log_lines("access.log")
    got["operators"] = [operators.comparable(line) for line in r.log_lines("operators.json") or []]
    got["output"] = r.proxy.output()
    return got


def play(case, folder, pki):
    """(Envoy's, weft-proxy's) of a case."""
    ports = {n: free_port() for n in ("listen", "admin", "dead", "second", "third", *backends_of(case))}
    return [through(kind, case, ports, folder, pki) for kind in ("envoy", "weft")]
