"""One corpus of Envoy bootstraps; what a client and the backends observe must be the same through a
real Envoy and through weft-proxy. A case is a document of corpus/*.yaml; see corpus/README.md."""
import json
import re
import socket
import ssl
from pathlib import Path

import pytest
import yaml
from meshtest import bootstrap, certs, http1, http2, procs
from meshtest.backend import Backend

CASES = [c for f in sorted((Path(__file__).parent / "corpus").glob("*.yaml"))
         for c in yaml.safe_load_all(f.read_text()) if c]

# Fields whose value differs from run to run in any proxy: only their presence counts.
VOLATILE = {"date", "x-request-id", "x-envoy-upstream-service-time"}
# Random, times, ports: masked inside values.
MASKS = [(re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
         (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
         (re.compile(r'="[0-9a-f]{16}"'), '="HASH"'),
         (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID")]


def mask(text):
    for pattern, to in MASKS:
        text = pattern.sub(to, text)
    return text


def fields(pairs, drop=()):
    """Order between different names does not count, order within a name does."""
    out = {}
    for k, v in pairs:
        k = k.lower()
        if k not in drop:
            # What is left of a time-out when a retry is made differs by milliseconds.
            if k == "x-envoy-expected-rq-timeout-ms":
                v = str(-(-int(v) // 500) * 500)
            out.setdefault(k, []).append("*" if k in VOLATILE else mask(v))
    return out


def observe(response, request):
    if request.get("status_only"):  # a body that quotes a TLS library's own words
        return {"status": response.status}
    got = {"status": response.status, "headers": fields(response.headers, {"connection", "keep-alive"}),
           "infos": response.infos, "trailers": fields(response.trailers)}
    try:
        seen = json.loads(response.body)
        got["upstream"] = {"backend": seen["backend"], "method": seen["method"], "path": seen["path"],
                           "version": seen["version"], "headers": fields(seen["headers"]), "body": seen["body"],
                           "trailers": fields(seen["trailers"]), "proxy": mask(str(seen.get("proxy")))}
        got["headers"].pop("content-length", None)
    except (ValueError, KeyError, TypeError):
        body = response.body if len(response.body) < 4000 else b"%d bytes" % len(response.body)
        got["body"] = mask(body.decode("latin1"))
    return got


def tls_socket(port, how, pki):
    """how: sni, alpn (list), cert (name of a leaf), trust (False: whatever the server shows)."""
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
    return ctx.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname=how.get("sni", "test.local"))


def play_tls(request, kw, port, pki):
    """Over TLS; what the handshake agreed on is part of the observation."""
    try:
        sock = tls_socket(port, request["tls"], pki)
        agreed = {"alpn": sock.selected_alpn_protocol(), "version": sock.version(),
                  "subject": str(sock.getpeercert().get("subject")) if request["tls"].get("trust", True) else None}
        client = http2.Client if agreed["alpn"] == "h2" else http1.Client
        with client(port, sock=sock) as c:
            return dict(observe(c.request(**kw), request), tls=agreed)
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return {"tls_error": True}


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
    except (ConnectionResetError, BrokenPipeError):
        return {"eof": mask(got.decode("latin1"))}
    if request.get("close"):  # our half ends; the other side's end must come through
        c.sock.shutdown(socket.SHUT_WR)
        while piece := c.sock.recv(65536):
            got += piece
    text = mask(re.sub(r"date: [^\r]*", "date: *", got.decode("latin1")))
    return {"got": sorted(text.split("\r\n"))}  # the order of a head's fields does not count


def play(case, request, ports, pki):
    """One request; the observation as plain data."""
    kw = {"headers": [tuple(h) for h in request.get("headers", [])],
          "body": (request.get("body") or "").encode() * request.get("repeat_body", 1)}
    for k in ("method", "path", "host"):
        if k in request:
            kw[k] = request[k]
    port = ports[request.get("to", "listen")]
    try:
        if "tls" in request:
            return play_tls(request, kw, port, pki)
        if "tcp" in request:
            with http1.Client(port) as c:
                return play_tcp(c, request)
        if request.get("raw"):
            with http1.Client(port) as c:
                c.send(request["raw"].encode("latin1").replace(b"\n", b"\r\n") if request.get("crlf", True)
                       else request["raw"].encode("latin1"))
                got = observe(c.response(), request)
                if request.get("eof"):
                    got["eof"] = c.at_eof()
                return got
        if request.get("upgrade"):
            with http1.Client(port) as c:
                r = c.request(path=kw.get("path", "/"), headers=kw["headers"] + [
                    ("connection", "upgrade"), ("upgrade", request["upgrade"])], host=kw.get("host", "test.local"))
                got = observe(r, request)
                if r.status == 101:
                    got["headers"].pop("date", None)
                    c.send(b"hello")
                    got["echo"] = c.take(10).decode()
                return got
        if request.get("http") == 2:
            kw["trailers"] = [tuple(t) for t in request.get("trailers", [])]
            with http2.Client(port) as c:
                return observe(c.request(**kw), request)
        with http1.Client(port) as c:
            if "version" in request:
                kw["version"] = request["version"]
            return observe(c.request(**kw), request)
    except http1.Closed as e:
        return {"closed": True, "got": mask(e.got.decode("latin1")) if request.get("http") != 2 else ""}


def run_through(kind, case, backends, spawn, tmp_path, pki):
    ports = {b.name: b.port for b in backends}
    ports.update(listen=procs.free_port(), admin=procs.free_port(), dead=procs.free_port(), second=procs.free_port())
    ports["tmp"] = str(tmp_path / kind)
    ports["pki"] = str(pki.dir)
    (tmp_path / kind).mkdir()
    config = tmp_path / f"{kind}.json"
    config.write_text(json.dumps(bootstrap.build(case, ports), indent=1))
    argv = [procs.envoy_binary() if kind == "envoy" else procs.binary("weft-proxy"), "-c", config, "--concurrency", "1",
            "-l", "warning", "--file-flush-interval-msec", "100"]
    p = spawn(kind, argv + (["--disable-hot-restart"] if kind == "envoy" else []))
    procs.wait_port(ports["listen"], p)
    observations = []
    for request in case.get("requests", [{}]):
        times = request.get("times", 1)
        got = [play(case, bootstrap.fill(request, ports), ports, pki) for _ in range(times)]
        observations.append(got[0] if times == 1 else tally(got))
    p.stop()
    log = tmp_path / kind / "access.log"
    if log.exists():
        observations.append({"access_log": [mask(re.sub(r"\b\d+ms\b", "Nms", l)) for l in log.read_text().splitlines()]})
    return observations


def tally(observations):
    """Many answers to the same request: the set of what was seen; shares are checked elsewhere."""
    return sorted({json.dumps([o.get("status"), (o.get("upstream") or {}).get("backend")]) for o in observations})


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = certs.Pki(tmp_path_factory.mktemp("pki"))
    for name in ("one", "two", "client", "backend"):
        made.leaf(name, dns=[f"{name}.test"])
    made.leaf("expired", days=0)
    certs.Pki(made.dir / "other", "another root").leaf("stranger")
    return made


@pytest.fixture(scope="module")
def backends(pki):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pki.leaf("backend").cert, pki.leaf("backend").key)
    made = [Backend("b1").start(), Backend("b2").start(), Backend("h2", h2c=True).start(),
            Backend("tls", ssl=server).start(), Backend("ptls", ssl=server, proxied=True).start()]
    yield made
    for b in made:
        b.stop()


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_same_as_envoy(case, backends, spawn, tmp_path, pki):
    for b in backends:
        b.fails.clear()
    envoy = run_through("envoy", case, backends, spawn, tmp_path, pki)
    for b in backends:
        b.fails.clear()
    weft = run_through("weft", case, backends, spawn, tmp_path, pki)
    for number, (want, got) in enumerate(zip(envoy, weft)):
        requests = case.get("requests", [{}])
        allowed = requests[number].get("differs") if number < len(requests) else None
        if allowed:  # a difference with its reason, kept in docs/differences.md
            continue
        assert got == want, f"request {number}: {json.dumps(requests[number] if number < len(requests) else 'log')}"


def test_corpus_is_large_enough():
    assert len(CASES) >= 40
    assert len({c["name"] for c in CASES}) == len(CASES)
