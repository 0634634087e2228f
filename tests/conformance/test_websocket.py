"""WebSocket, frame by frame (RFC 6455, by the families of the Autobahn suite): what a real server answers to each
sequence of frames is, byte for byte, what comes through the proxy, over HTTP/1 and over HTTP/2 (RFC 8441)."""
import socket
import struct
import threading
import time

import h2.events
import pytest
from meshtest import http2, procs
from meshtest.answers import Answers
from meshtest.proxy import Proxy
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"


def frame(op, payload=b"", fin=True, rsv=0, mask=True, length=None):
    n = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | op])
    bit = 0x80 if mask else 0
    head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n) if n < 65536 else \
        bytes([bit | 127]) + struct.pack(">Q", n)
    if not mask:
        return head + payload
    key = (MASK * (len(payload) // 4 + 1))[:len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")
    return head + MASK + body


def bye(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def parts(op, payload, size):
    cut = [payload[i:i + size] for i in range(0, len(payload), size)] or [b""]
    return [frame(op if i == 0 else 0, c, fin=i == len(cut) - 1) for i, c in enumerate(cut)]


def cases():
    out = {}
    sizes = [0, 1, 125, 126, 127, 128, 65535, 65536, 65537]
    for n in sizes:
        out[f"1.1 text {n}"] = [frame(TEXT, b"*" * n), bye()]
        out[f"1.2 binary {n}"] = [frame(BINARY, b"\xfe" * n), bye()]
    for n in (0, 1, 125):
        out[f"2 ping {n}"] = [frame(PING, b"p" * n), bye()]
    out["2.5 ping too long"] = [frame(PING, b"p" * 126), bye()]
    out["2.4 ping of binary"] = [frame(PING, b"\x00\xff\xfe\xfd"), bye()]
    out["2.8 pong with a payload, then a ping"] = [frame(PONG, b"u"), frame(PING, b"p"), bye()]
    out["2.7 pong nobody asked for"] = [frame(PONG), frame(TEXT, b"x"), bye()]
    out["2.10 ten pings"] = [frame(PING, b"payload-%d" % i) for i in range(10)] + [bye()]
    for rsv in (1, 2, 3, 4, 5, 6, 7):
        out[f"3 reserved bits {rsv}"] = [frame(TEXT, b"before"), frame(TEXT, b"x", rsv=rsv), bye()]
    for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        out[f"4 opcode {op}"] = [frame(TEXT, b"before"), frame(op, b"x"), bye()]
    out["5.1 fragmented ping"] = [frame(PING, b"a", fin=False), frame(0, b"b"), bye()]
    out["5.3 text in two"] = parts(TEXT, b"fragment1fragment2", 9) + [bye()]
    a, b = parts(TEXT, b"fragment1fragment2", 9)
    out["5.6 ping between fragments"] = [a, frame(PING, b"now"), b, bye()]
    out["5.9 continuation of nothing"] = [frame(0, b"x"), bye()]
    out["5.15 text within text"] = [a, frame(TEXT, b"other"), bye()]
    out["5.19 many fragments with pings"] = [x for p in parts(TEXT, b"abcdefgh" * 8, 8) for x in (p, frame(PING, b"!"))] + [bye()]
    for name, text in {"valid": "Hello-µ@ßöäüàá-UTF-8!!".encode(), "cut": b"\xce\xba\xe1\xbd", "bad": b"\xce\xba\xed\xa0\x80edited",
                       "overlong": b"\xc0\xaf", "beyond": b"\xf4\x90\x80\x80", "boundary": "\U0010ffff".encode()}.items():
        out[f"6 utf-8 {name}"] = [frame(TEXT, text), bye()]
        out[f"6 utf-8 {name} byte by byte"] = parts(TEXT, text, 1) + [bye()]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        out[f"7.7 close {code}"] = [bye(code)]
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        out[f"7.9 close {code}"] = [bye(code)]
    out["7.3 close without a code"] = [frame(CLOSE)]
    out["7.3 close of one byte"] = [frame(CLOSE, b"a")]
    out["7.3 close with a long reason"] = [bye(1000, b"r" * 123)]
    out["7.3 close too long"] = [bye(1000, b"r" * 124)]
    out["7.5 close with bad utf-8"] = [bye(1000, b"\xce\xba\xed\xa0\x80")]
    out["7.1 text after close"] = [bye(), frame(TEXT, b"late")]
    out["7.1 close in the middle of a message"] = [a, bye()]
    for size in (64 << 10, 1 << 20, 4 << 20):
        out[f"9.1 text {size}"] = [frame(TEXT, b"*" * size), bye()]
        out[f"9.3 text {size} in pieces of 4096"] = parts(TEXT, b"*" * size, 4096) + [bye()]
    out["10 not masked"] = [frame(TEXT, b"x", mask=False), bye()]
    out["10 length in too many bytes"] = [b"\x81\xfe\x00\x01" + MASK + b"\x12", bye()]
    return out


CASES = cases()
assert len(CASES) >= 100


class Server(Answers):
    """Echoes each data frame as it came; the protocol is that of the websockets package, without its scheduling, so
    that the same frames always get the same bytes."""

    def __init__(self):
        super().__init__(self.serve)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    @staticmethod
    def echo(protocol, event):
        if event.opcode == Opcode.TEXT:
            protocol.send_text(event.data, event.fin)
        elif event.opcode == Opcode.BINARY:
            protocol.send_binary(event.data, event.fin)
        elif event.opcode == Opcode.CONT:
            protocol.send_continuation(event.data, event.fin)

    def serve(self, conn):
        protocol = ServerProtocol(max_size=16 << 20)
        for piece in pieces(conn):
            protocol.receive_data(piece) if piece else protocol.receive_eof()
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif protocol.state is State.OPEN:
                    self.echo(protocol, event)
            for out in protocol.data_to_send():
                if out:
                    conn.sendall(out)
                else:
                    conn.shutdown(socket.SHUT_WR)


def pieces(conn):
    """The head of the request, then one frame a piece, whole: what is answered does not depend on how bytes arrive."""
    buf = b""
    while True:
        data = conn.recv(1 << 18)
        buf += data
        while (n := piece_length(buf)) and len(buf) >= n:
            yield buf[:n]
            buf = buf[n:]
        if not data:
            if buf:
                yield buf
            yield b""
            return


def piece_length(buf):
    """0: not known yet."""
    if buf[:1] == b"G":
        return buf.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in buf else 0
    if len(buf) < 2:
        return 0
    n, key = buf[1] & 127, 4 * (buf[1] >> 7)
    more = {126: 2, 127: 8}.get(n, 0)
    if len(buf) < 2 + more:
        return 0
    return 2 + more + key + (int.from_bytes(buf[2:2 + more], "big") if more else n)


def send_all(sock, frames, chop):
    data = b"".join(frames)
    try:
        for i in range(0, len(data), chop or len(data)):
            sock.sendall(data[i:i + (chop or len(data))])
    except OSError:
        pass  # the server has ended it: what it said is judged


def over_http1(port, frames, chop=0):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.sendall(b"GET /chat HTTP/1.1\r\nHost: ws.local\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        got = b""
        while b"\r\n\r\n" not in got:
            chunk = s.recv(65536)
            assert chunk, got
            got += chunk
        head, got = got.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        writer = threading.Thread(target=send_all, args=(s, frames, chop))
        writer.start()
        try:
            while chunk := s.recv(1 << 20):
                got += chunk
        except ConnectionResetError:
            pass  # it did not read all that we sent
        writer.join()
        return got


def over_http2(port, frames, chop=0):
    with http2.Client(port) as c:
        sid = c.start("CONNECT", "/chat", [("sec-websocket-version", "13")], host="ws.local", end=False, protocol="websocket")
        left, got, status, ended = b"".join(frames), b"", None, False
        while not ended:
            for e in c.events():
                if isinstance(e, h2.events.ResponseReceived):
                    status = dict((bytes(k), bytes(v)) if isinstance(k, bytes) else (k.encode(), v.encode())
                                  for k, v in e.headers)[b":status"]
                    assert status == b"200", status
                elif isinstance(e, h2.events.DataReceived):
                    got += e.data
                    c.conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                elif isinstance(e, (h2.events.StreamEnded, h2.events.StreamReset)):
                    ended = True
            while status and left and not ended:
                n = min(len(left), chop or len(left), c.conn.local_flow_control_window(sid), c.conn.max_outbound_frame_size)
                if n <= 0:
                    break
                c.conn.send_data(sid, left[:n])
                left = left[n:]
            c.flush()
        return got


def settle(a, b):
    """A connection that is reset may lose the end of what was sent: then one is the other's beginning."""
    return a == b or (a and b and (a.startswith(b) or b.startswith(a)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("websocket")
    started = []

    def spawn(title, argv, **kw):
        started.append(procs.Proc(title, argv, path, **kw))
        return started[-1]

    with Server() as server:
        case = {"hcm": {"upgrade_configs": [{"upgrade_type": "websocket"}], "http2_protocol_options": {"allow_connect": True}},
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b1", "timeout": "0s"}}]}
        proxy = Proxy(spawn, path, case, {"b1": server.port})
        expected = {}
        yield server, proxy, expected
        end = time.monotonic() + 60
        while proxy.stat(r"^cluster\.b1\.upstream_cx_active$") and time.monotonic() < end:
            time.sleep(0.05)
        left = proxy.stat(r"upstream_rq_active$|upstream_cx_active$")
    for p in started:
        assert p.stop() == 0, p.output()
    assert left == 0, "connections are left behind"


@pytest.mark.parametrize("name", sorted(CASES))
def test_frames(name, world):
    server, proxy, expected = world
    frames = CASES[name]
    direct = over_http1(server.port, frames)
    for way in (over_http1, over_http2):
        got = way(proxy.port, frames)
        assert settle(direct, got), f"{way.__name__}: {got[:200]!r}, directly {direct[:200]!r}"
    if sum(map(len, frames)) < 300:
        assert settle(direct, over_http1(proxy.port, frames, chop=1)), "byte by byte"
