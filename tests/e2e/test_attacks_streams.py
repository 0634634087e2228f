"""Attack cases 39 and 41: gRPC that lies, and streams that end at every point of their life."""
import base64
import concurrent.futures
import contextlib
import itertools
import socket
import struct
import time

import pytest
from meshtest import bootstrap, bystander
from meshtest.backend import Backend
from meshtest.bystander import Undisturbed, sustain
from meshtest.proxy import Proxy
from meshtest.smuggling import DATA, HEADERS, PREFACE, RST, SETTINGS, block, frame
from test_attacks import H2

WEB = {"name": "envoy.filters.http.grpc_web", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"}}
FAULT = {"name": "envoy.filters.http.fault", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
         "delay": {"header_delay": {}, "percentage": {"numerator": 100}}, "abort": {"header_abort": {}, "percentage": {"numerator": 100}}}}
CORS = {"name": "envoy.filters.http.cors", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}}
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": bootstrap.ROUTER}}


@pytest.fixture
def proxy(spawn, tmp_path):
    with Backend("b1") as b1, Backend("b2") as b2, Backend("h2", h2c=True) as h2:
        retry = {"retry_on": "5xx,reset", "num_retries": 3, "retry_back_off": {"base_interval": "0.02s", "max_interval": "0.03s"}}
        p = Proxy(spawn, tmp_path, {
            "hcm": {"http_filters": [CORS, WEB, FAULT, ROUTER], "stream_idle_timeout": "5s",
                    "http2_protocol_options": {"allow_connect": True}, "upgrade_configs": [{"upgrade_type": "websocket"}]},
            "routes": [{"match": {"path": "/bystander"}, "route": {"cluster": "b2"}},
                       *[{"match": {"prefix": f"/{c}/retry"}, "route": {"cluster": c, "retry_policy": retry, "timeout": "2s"}} for c in ("b1", "h2")],
                       *[{"match": {"prefix": f"/{c}/mirror"}, "route": {"cluster": c, "request_mirror_policies": [{"cluster": "b2"}]}} for c in ("b1", "h2")],
                       *[{"match": {"prefix": f"/{c}/short"}, "route": {"cluster": c, "timeout": "0.03s"}} for c in ("b1", "h2")],
                       *[{"match": {"prefix": f"/{c}/"}, "route": {"cluster": c, "timeout": "5s"}} for c in ("b1", "h2")]]},
            {"b1": b1.port, "b2": b2.port, "h2": h2.port}, env=bystander.ENV)
        p.b1, p.h2 = b1, h2
        yield p
        assert p.get("/b1/after").status == 200


# ---- 39: gRPC ----

GRPC = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/h2/svc/Method"), (b"content-type", b"application/grpc"), (b"te", b"trailers")]
LIES = {
    "length-4g": b"\0\xff\xff\xff\xff" + b"hello",
    "length-short": b"\0\0\0\0\1" + b"hello",
    "length-cut": b"\0\0\0",
    "flags": b"\xff\0\0\0\5hello",
    "compressed-flag": b"\1\0\0\0\5hello",
    "empty": b"",
    "trailer-frame": b"\x80\0\0\0\5hello",
    "many-empty": b"\0\0\0\0\0" * 300,
}


def exchange(port, raw, timeout=60):
    """What ends stream 1: ("answer", status), ("reset", code) or ("closed",)"""
    c = H2(port)
    c.send(raw)
    c.sock.settimeout(timeout)
    status = None
    decoder = __import__("hpack").Decoder()
    with contextlib.closing(c):
        while (f := c.read_frame()) is not None:
            if f[0] == HEADERS and f[2] == 1:
                status = dict(decoder.decode(f[3])).get(":status", status)
            if f[0] == RST and f[2] == 1:
                return ("reset", int.from_bytes(f[3], "big"))
            if f[0] in (HEADERS, DATA) and f[2] == 1 and f[1] & 1:
                return ("answer", status)
    return ("closed",)


def request(head, body, end=True):
    return frame(HEADERS, 4, 1, block(head)) + b"".join(frame(DATA, 0, 1, body[i:i + 16000]) for i in range(0, len(body), 16000)) + frame(DATA, end, 1)


@pytest.mark.parametrize("web", [None, b"application/grpc-web", b"application/grpc-web-text"])
@pytest.mark.parametrize("name", LIES)
def test_39_lengths_that_lie(proxy, name, web):
    """The proxy relays messages, it reserves nothing for what they announce."""
    head, body = GRPC, LIES[name]
    if web:
        head = [(n, web if n == b"content-type" else v) for n, v in GRPC if n != b"te"]
        body = base64.b64encode(body) if b"text" in web else body
    with Undisturbed(proxy, rss_kb=10_000):
        sustain(lambda: exchange(proxy.port, request(head, body)), seconds=0.1)
    assert exchange(proxy.port, request(head, body))[0] == "answer"


@pytest.mark.parametrize("text", [b"====", b"AAA", b"A", b"AAAAA", b"\xff\xff\xff\xff", b"AA=A", b"=AAA", b"AAA\nAAAA", b"A" * 100001])
def test_39_base64_that_is_none(proxy, text):
    head = [(n, b"application/grpc-web-text" if n == b"content-type" else v) for n, v in GRPC if n != b"te"]
    got = exchange(proxy.port, request(head, text))
    assert got in (("answer", "400"), ("answer", "200"), ("reset", 8)), got  # 200: gRPC's own way to say no
    assert not [r for r in proxy.h2.seen if r["body"]]


@pytest.mark.parametrize("fields", [[(b"x-meta", b"\xff\xfe\x80")], [(b"x-meta", b"\xc0\xaf")], [(b"x-bin", b"not base64 at all!")], [(b"x-bin", b"=")], [(b"x-meta", b"")],
                                    [(b"grpc-timeout", t)] if (t := b"99999999999H") else [], [(b"grpc-timeout", b"99999999H")], [(b"grpc-timeout", b"-1S"), (b"grpc-timeout", b"1S")],
                                    [(b"grpc-encoding", b"gzip, " * 1000)], [(b"grpc-message", b"%00%ff%")], [(b"grpc-status", b"99999999999999999999")]],
                         ids=lambda f: repr(f)[:40])
def test_39_metadata(proxy, fields):
    got = exchange(proxy.port, request(GRPC + fields, b"\0\0\0\0\5hello"))
    assert got[0] in ("answer", "reset")


@pytest.mark.parametrize("kind", [0x4d, 0x4e, 0xff], ids=["metadata", "unassigned", "last"])
@pytest.mark.parametrize("payload", [b"", b"x" * 100])
def test_39_frames_that_nobody_knows(proxy, kind, payload):
    """Envoy's METADATA frames among them, empty and many: skipped, and whoever sent them is still served."""
    def flood():
        c = H2(proxy.port)
        for _ in range(20):
            c.send(frame(kind, 4, 0, payload) * 500 + frame(kind, 4, 1, payload) * 0)
        c.send(frame(HEADERS, 5, 1, block([(n, v) for n, v in GRPC])))
        c.sock.settimeout(60)
        while (f := c.read_frame()) is not None and f[0] not in (HEADERS, 7):
            pass
        assert f is not None
        c.close()
    with Undisturbed(proxy):
        sustain(flood)


@pytest.mark.parametrize("trailers", [[(b"grpc-status", b"x")], [(b"grpc-status", b"-1")], [(b"grpc-status", b"0"), (b"grpc-status", b"13")],
                                      [(b"grpc-message", b"\xff\xff")], [(b"x", b"y" * 15000)]], ids=repr)
def test_39_trailers_of_a_request(proxy, trailers):
    raw = frame(HEADERS, 4, 1, block(GRPC)) + frame(DATA, 0, 1, b"\0\0\0\0\0") + frame(HEADERS, 5, 1, block(trailers))
    assert exchange(proxy.port, raw)[0] in ("answer", "reset")


# ---- 41: an end at every point ----

PLANS = {
    "plain": [], "big-answer": [("x-want-size", "2000000")], "slow": [("x-want-delay", "0.05")], "delayed": [("x-envoy-fault-delay-request", "40")],
    "aborted": [("x-envoy-fault-abort-request", "503")], "delayed-abort": [("x-envoy-fault-delay-request", "30"), ("x-envoy-fault-abort-request", "503")],
    "retry": [("x-want-status", "503")], "retry-reset": [("x-want", "reset")], "mirror": [], "short": [("x-want-delay", "0.06")],
    "half": [("x-want", "half")], "close": [("x-want", "close")], "early": [("x-want", "early")], "trailers": [("x-want-trailer", "x: y")],
    "info": [("x-want", "info103")], "web": [("content-type", "application/grpc-web-text")], "cors": [("origin", "http://x"), ("access-control-request-method", "GET")],
}


def path_of(cluster, plan):
    return f"/{cluster}/{plan.split('-')[0] if plan.split('-')[0] in ('retry', 'mirror', 'short') else 'x'}"


def h1_bytes(cluster, plan, body):
    head = f"{'POST' if body else 'GET'} {path_of(cluster, plan)} HTTP/1.1\r\nhost: a\r\n" + "".join(f"{k}: {v}\r\n" for k, v in PLANS[plan])
    return (head + ("transfer-encoding: chunked\r\n\r\n" if body else "\r\n")).encode() + (b"400\r\n" + b"AAAA" * 256 + b"\r\n" + b"5\r\nAAAA=\r\n0\r\n\r\n" if body else b"")


def h2_bytes(cluster, plan, body):
    head = [(b":method", b"POST" if body else b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path_of(cluster, plan).encode())]
    head += [(k.encode(), v.encode()) for k, v in PLANS[plan]]
    return PREFACE + frame(SETTINGS, 0, 0) + (request(head, b"AAAA" * 256) if body else frame(HEADERS, 5, 1, block(head)))


def cut_off(port, raw, at, wait, how, read):
    """Sends the bytes up to `at`, waits, perhaps reads a little, and ends."""
    with contextlib.suppress(OSError):
        s = socket.create_connection(("127.0.0.1", port), timeout=60)
        with s:
            s.sendall(raw[:at])
            if wait:
                time.sleep(wait)
            if read:
                s.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    s.recv(read)
                s.setblocking(True)
            if how == "stream":
                s.sendall(frame(RST, 0, 1, struct.pack(">I", 8)))
                time.sleep(0.002)
            elif how == "rst":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "half":
                s.shutdown(socket.SHUT_WR)
                time.sleep(0.02)


def points(n):
    """Where a request is cut: in its head densely, then at some places; at its end after several times."""
    return [(at, 0) for at in [*range(1, n, max(1, n // 24)), n - 1]] + [(n, t) for t in (0, 0.001, 0.004, 0.01, 0.02, 0.03, 0.045, 0.07)]


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("cluster", ["b1", "h2"])
def test_41_an_end_at_every_point(proxy, protocol, cluster):
    make, hows = (h1_bytes, ("fin", "rst", "half")) if protocol == "h1" else (h2_bytes, ("fin", "rst", "stream"))
    jobs = []
    for (plan, body), how in zip(itertools.product(PLANS, (False, True)), itertools.cycle(hows)):
        raw = make(cluster, plan, body)
        jobs += [(raw, at, wait, h, read) for at, wait in points(len(raw)) for h in ([how] if at < len(raw) else hows)
                 for read in ([0, 100] if wait >= 0.01 else [0])]
    with Undisturbed(proxy), concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda job: cut_off(proxy.port, *job), jobs))
    assert len(jobs) > 1000
    # Nothing is left of any of them.
    left, deadline = None, time.monotonic() + 90
    while time.monotonic() < deadline:
        left = {k: v for k, v in proxy.stats().items() if v and (k.endswith(("rq_active", "rq_pending_active")) or k == "http.ingress.downstream_cx_active"
                                                                 or k.endswith("fault.active_faults") or k.endswith("rq_retry_active"))}
        if not left:
            break
        time.sleep(0.1)
    assert not left
    assert proxy.stat(r"downstream_rq_rx_reset") > 100
