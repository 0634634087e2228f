"""Attack cases 1-20: the protocol's proper answer, a counter that names it, other clients undisturbed."""
import itertools
import socket
import struct
import time

import pytest
from meshtest import bystander, http1
from meshtest.backend import Backend
from meshtest.bystander import Undisturbed, sustain
from meshtest.proxy import Proxy

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
# HPACK: :method GET, :scheme http, :path /, :authority "a" (literal, not indexed)
GET = b"\x82\x86\x84\x01\x01a"
POST = b"\x83\x86\x84\x01\x01a"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class H2:
    """A raw HTTP/2 client: frames as the test wants them."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.buf = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data):
        """False when the peer has closed."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def read_frame(self):
        while len(self.buf) < 9 or len(self.buf) < 9 + int.from_bytes(self.buf[:3], "big"):
            got = self.sock.recv(65536)
            if not got:
                return None
            self.buf += got
        n = int.from_bytes(self.buf[:3], "big")
        kind, flags, stream = self.buf[3], self.buf[4], int.from_bytes(self.buf[5:9], "big")
        payload, self.buf = self.buf[9:9 + n], self.buf[9 + n:]
        return kind, flags, stream, payload

    def goaway(self, timeout=60):
        """The error code of the GOAWAY that ends the connection; "reset" when it was cut."""
        self.sock.settimeout(timeout)
        code = None
        try:
            while (f := self.read_frame()) is not None:
                if f[0] == GOAWAY:
                    code = struct.unpack(">I", f[3][4:8])[0]
        except ConnectionResetError:
            return code if code is not None else "reset"
        except TimeoutError:
            return "still open"
        return code

    def close(self):
        self.sock.close()


BYSTANDERS = [{"match": {"path": "/bystander"}, "route": {"cluster": "b2"}}, {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]


@pytest.fixture
def proxy(spawn, tmp_path):
    with Backend("b1") as b1, Backend("b2") as b2, Backend("h2", h2c=True) as h2:
        p = Proxy(spawn, tmp_path, {"routes": BYSTANDERS, "hcm": {"common_http_protocol_options": {"idle_timeout": "60s"},
                                            "request_headers_timeout": "2s", "stream_idle_timeout": "2s"}},
                  {"b1": b1.port, "b2": b2.port, "h2": h2.port}, env=bystander.ENV)
        p.backend = b1
        # Whoever was there before is served as before, and memory and CPU are bounded.
        with Undisturbed(p):
            yield p
        assert p.get("/after").status == 200


ENHANCE = 11


def cut(code):
    return code in (ENHANCE, "reset", 1)


def flood(c, pieces):
    """Sends them as long as the proxy takes them; whether it took all."""
    return all(map(c.send, pieces))


def test_01_rapid_reset(proxy):
    def attack():
        c = H2(proxy.port)
        alive = flood(c, (frame(HEADERS, 5, s, GET) + frame(RST, 0, s, b"\0\0\0\x08") for s in range(1, 40000, 2)))
        assert not alive or cut(c.goaway())
        c.close()
    rounds = sustain(attack)
    assert proxy.stat(r"^http2\.premature_resets$") == rounds
    assert len(proxy.backend.seen) < 250 * rounds


@pytest.mark.parametrize("poke", [
    lambda s: frame(WINDOW, 0, s, b"\0\0\0\0"),
    lambda s: frame(WINDOW, 0, s, b"\x7f\xff\xff\xff"),
    lambda s: frame(PRIORITY, 0, s, struct.pack(">IB", s, 1)),
], ids=["window-zero", "window-overflow", "self-dependency"])
def test_02_made_you_reset(proxy, poke):
    def attack():
        c = H2(proxy.port)
        alive = flood(c, (frame(HEADERS, 4, s, POST) + poke(s) for s in range(1, 40000, 2)))
        assert not alive or cut(c.goaway())
        c.close()
    rounds = sustain(attack)
    assert proxy.stat(r"^http2\.premature_resets$") == rounds
    assert proxy.stat(r"^http2\.tx_reset$") > 100


def test_03_continuation_flood(proxy):
    def attack():
        c = H2(proxy.port)
        c.send(frame(HEADERS, 0, 1, GET))
        alive = flood(c, itertools.repeat(frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y"), 20000))
        assert not alive or c.goaway() in (ENHANCE, "reset", 1, 9)
        c.close()
    rounds = sustain(attack)
    assert proxy.stat(r"^http2\.(header_overflow|too_many_headers)$") == rounds


@pytest.mark.parametrize("attack", [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0)], ids=["ping", "settings"])
def test_04_control_flood_unread(proxy, attack):
    def run():
        c = H2(proxy.port)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.sock.settimeout(60)
        sent = 0
        while sent < 60_000_000 and c.send(attack * 1000):
            sent += len(attack) * 1000
        assert cut(c.goaway()) or sent < 60_000_000
        c.close()
    rounds = sustain(run)
    assert proxy.stat(r"^http2\.outbound_control_flood$") == rounds


@pytest.mark.parametrize("attack", [frame(PRIORITY, 0, 1, b"\0\0\0\0\1"), frame(DATA, 0, 1)], ids=["priority", "empty-data"])
def test_05_useless_frames(proxy, attack):
    def run():
        c = H2(proxy.port)
        c.send(frame(HEADERS, 4, 1, POST))
        alive = flood(c, itertools.repeat(attack * 500, 200))
        assert not alive or cut(c.goaway())
        c.close()
    rounds = sustain(run)
    assert proxy.stat(r"^http2\.inbound_(priority|empty)_frames_flood$") == rounds


def test_06_invalid_headers_unread(proxy):
    def attack():
        c = H2(proxy.port)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.sock.settimeout(60)
        alive = flood(c, (frame(HEADERS, 5, s, GET + b"\x00\x01X\x01y") for s in range(1, 60000, 2)))
        assert not alive or cut(c.goaway())
        c.close()
    rounds = sustain(attack)
    assert proxy.stat(r"^http2\.invalid_header$") > 100
    assert proxy.stat(r"^http2\.(premature_resets|outbound_flood|outbound_control_flood)$") == rounds


def test_07_hpack_amplification(proxy):
    """One large entry, indexed over and over: small on the wire, huge when decoded."""
    before = proxy.rss_kb()
    entry = b"\x40\x06cookie\x7f\xd1\x1d" + b"v" * 3920

    def attack():
        c = H2(proxy.port)
        c.send(frame(HEADERS, 4, 1, GET + entry + b"\xbe" * 8000))
        c.send(frame(HEADERS, 5, 3, GET + b"\xbe" * 12000))
        c.sock.settimeout(60)
        while (f := c.read_frame()) is not None and not (f[0] == RST and f[2] == 3 or f[0] == HEADERS and f[2] == 3):
            pass
        c.close()
    rounds = sustain(attack)
    assert proxy.stat(r"^http2\.(header_overflow|too_many_headers)$") >= rounds
    assert proxy.rss_kb() - before < 20000


def test_08_many_tiny_headers(proxy):
    def attack():
        with http1.Client(proxy.port) as c:
            c.send(b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x%d: 1\r\n" % i for i in range(2000)) + b"\r\n")
            assert c.response().status == 431
            assert c.at_eof()
    assert proxy.stat(r"^http1\.too_many_headers$") == 0
    rounds = sustain(attack)
    assert proxy.stat(r"^http1\.too_many_headers$") == rounds


def test_09_window_stall(proxy):
    """A client that asks for much and never opens its window loses its streams, not our memory."""
    c = H2(proxy.port)
    c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
    # x-want-size: 1000000
    want = b"\x00\x0bx-want-size\x071000000"
    for i in range(20):
        c.send(frame(HEADERS, 5, 2 * i + 1, GET + want))
    c.sock.settimeout(60)
    resets = 0
    while resets < 20 and (f := c.read_frame()) is not None:
        resets += f[0] == RST
    assert resets == 20 or f is None
    assert proxy.stat(r"idle_timeout") > 0
    c.close()


def test_10_one_byte_chunks(proxy):
    before = proxy.rss_kb()
    with http1.Client(proxy.port) as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50000 + b"0\r\n\r\n")
        assert c.response().status == 200
    assert len(proxy.backend.seen[-1]["body"]) == 50000
    assert proxy.rss_kb() - before < 30000


def test_11_pipelined_bad_requests(proxy):
    """One error answer, then close; what follows is not looked at."""
    with http1.Client(proxy.port) as c:
        c.send(b"GET / HTTP/1.1\r\nbad header: x\r\nhost: a\r\n\r\n" * 1000)
        assert c.response().status == 400
        assert c.at_eof()
    assert proxy.stat(r"downstream_cx_protocol_error") >= 1


def test_12_slow_header_and_body(proxy):
    with http1.Client(proxy.port) as c:
        c.send(b"GET / HTTP/1.1\r\nho")
        assert c.response().status == 408
    with http1.Client(proxy.port) as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        assert c.response().status in (408, 504)
    assert proxy.stat(r"downstream_rq_(header_timeout|idle_timeout|timeout)") >= 2


def test_13_connection_flood(spawn, tmp_path):
    """Descriptors run out: accepting backs off, those who are in are served, and it recovers."""
    import resource
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp_path, {}, {"b1": b1.port}, env=bystander.ENV)
        with http1.Client(p.port) as known:
            assert known.request().status == 200
            with Undisturbed(p):
                resource.prlimit(p.pid, resource.RLIMIT_NOFILE, (64, 4096))
                socks = [socket.create_connection(("127.0.0.1", p.port)) for _ in range(200)]
                time.sleep(0.3)
                assert known.request().status == 200
                for s in socks:
                    s.close()
                resource.prlimit(p.pid, resource.RLIMIT_NOFILE, (4096, 4096))
                with http1.Client(p.port) as c:  # waits for the back-off's end
                    assert c.request().status == 200
        assert p.stat(r"^listener\..*downstream_cx_accept_exhausted$") > 0


@pytest.mark.parametrize("key,counter", [("envoy.resource_limits.listener.main.connection_limit", r"^listener\..*\.downstream_cx_overflow$"),
                                         ("overload.global_downstream_max_connections", r"^listener\..*\.downstream_global_cx_overflow$")])
def test_13_limits_of_connections(spawn, tmp_path, key, counter):
    """What is over the limit is closed unread, counted, and those who are in go on."""
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp_path, {"bootstrap": {"layered_runtime": {"layers": [{"name": "l", "static_layer": {key: 20}}]}}}, {"b1": b1.port})
        with Undisturbed(p):
            inside = [http1.Client(p.port) for _ in range(10)]
            assert all(c.request().status == 200 for c in inside)
            outside = [http1.Client(p.port) for _ in range(60)]
            closed = sum(c.at_eof() for c in outside[20:])
            assert closed == 40
            assert all(c.request().status == 200 for c in inside)
            for c in inside + outside:
                c.sock.close()
            while p.stat(r"^listener\.127.*\d\.downstream_cx_active$") > 2:
                time.sleep(0.02)
        assert p.stat(counter) >= 40
        assert p.get("/after").status == 200


BAD = {
    "14-both-lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "14-xchunked": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "14-two-lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
    "14-plus": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd",
    "14-hex": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x4\r\n\r\nabcd",
    "14-overflow": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nabcd",
    "15-empty-length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\n",
    "15-list": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4,\r\n\r\nabcd",
    "16-empty-name": b"GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n",
    "16-space-in-name": b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    "16-space-before-colon": b"GET / HTTP/1.1\r\nhost: a\r\nx : z\r\n\r\n",
    "16-nul": b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
    "16-bare-cr": b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
    "16-fold": b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
    "18-chunk-size": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
    "18-long-extension": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 100000 + b"\r\na\r\n0\r\n\r\n",
    "18-no-crlf": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_14_to_18_malformed_http1(proxy, raw):
    seen = len(proxy.backend.seen)
    with http1.Client(proxy.port) as c:
        c.send(raw)
        assert c.response().status in (400, 501, 431)
        assert c.at_eof()
    assert len(proxy.backend.seen) == seen
    assert proxy.stat(r"downstream_cx_protocol_error|smuggling_rejected|invalid_header|framing_error") > 0


def test_17_outer_whitespace(proxy):
    with http1.Client(proxy.port) as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-t: \t  v \t \r\n\r\n")
        assert c.response().status == 200
    assert ["x-t", "v"] in [[k.lower(), v] for k, v in proxy.backend.seen[-1]["headers"]]


def test_18_trailers_carry_no_framing(proxy):
    with http1.Client(proxy.port) as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
               b"content-length: 5\r\nhost: evil\r\nauthorization: x\r\n\r\n")
        assert c.response().status in (200, 400)
    for seen in proxy.backend.seen:
        assert not seen["trailers"]


H2_BAD = {
    "19-crlf-in-value": GET + b"\x00\x01x\x04a\r\nb",
    "19-transfer-encoding": GET + b"\x00\x11transfer-encoding\x07chunked",
    "19-connection": GET + b"\x00\x0aconnection\x05close",
    "19-upper-case": GET + b"\x00\x01X\x01y",
    "19-empty-name": GET + b"\x00\x00\x01y",
}


@pytest.mark.parametrize("block", H2_BAD.values(), ids=H2_BAD.keys())
def test_19_downgrade(proxy, block):
    seen = len(proxy.backend.seen)
    c = H2(proxy.port)
    c.send(frame(HEADERS, 5, 1, block))
    c.sock.settimeout(60)
    while (f := c.read_frame()) is not None and f[0] not in (RST, GOAWAY):
        pass
    assert f is not None
    assert len(proxy.backend.seen) == seen
    c.close()


@pytest.mark.parametrize("length,body,end_in_head", [(b"5", b"abc", False), (b"2", b"abc", False), (b"5", b"", True)],
                         ids=["short", "long", "none"])
def test_20_content_length_mismatch(proxy, length, body, end_in_head):
    c = H2(proxy.port)
    head = POST + b"\x00\x0econtent-length" + bytes([len(length)]) + length
    c.send(frame(HEADERS, 5 if end_in_head else 4, 1, head))
    if not end_in_head:
        c.send(frame(DATA, 1, 1, body))
    c.sock.settimeout(60)
    while (f := c.read_frame()) is not None and f[0] not in (RST, GOAWAY):
        pass
    assert f is not None
    c.close()
    # The upstream connection that carried the broken request is not used again.
    for _ in range(5):
        assert proxy.get("/next").status == 200
