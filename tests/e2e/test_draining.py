"""HTTP/2 while a proxy drains: two GOAWAYs, the first of which lets requests in that were on their way; the same from Envoy."""
import socket
import struct
import time

import hpack
import pytest
from meshtest import http1
from meshtest.backend import Backend
from meshtest.proxy import Proxy

GOAWAY, HEADERS, DATA, SETTINGS = 7, 1, 0, 4


class Raw:
    """Frames as they come; h2 does not let a connection go on after a GOAWAY."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(SETTINGS, 0, 0, b""))
        self.encoder, self.decoder, self.next = hpack.Encoder(), hpack.Decoder(), 1

    @staticmethod
    def frame(kind, flags, stream, body):
        return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body

    def ask(self, path):
        block = self.encoder.encode([(":method", "GET"), (":scheme", "http"), (":authority", "test.local"), (":path", path)])
        self.sock.sendall(self.frame(HEADERS, 5, self.next, block))
        self.next += 2

    def take(self, n):
        got = b""
        while len(got) < n:
            piece = self.sock.recv(n - len(got))
            if not piece:
                return None
            got += piece
        return got

    def events(self):
        """("status", stream, code), ("goaway", last stream, code), until the end of the connection."""
        while head := self.take(9):
            kind, stream = head[3], struct.unpack(">I", head[5:])[0]
            body = self.take(int.from_bytes(head[:3], "big"))
            if kind == HEADERS:
                yield "status", stream, dict(self.decoder.decode(body))[":status"]
            elif kind == GOAWAY:
                yield "goaway", *struct.unpack(">II", body[:8])
            elif kind == SETTINGS and not head[4] & 1:
                self.sock.sendall(self.frame(SETTINGS, 1, 0, b""))


@pytest.mark.parametrize("kind", ["envoy", "weft"])
@pytest.mark.parametrize("why", ["/healthcheck/fail", "/drain_listeners?graceful&skip_exit"])
def test_two_goaways(spawn, tmp_path, kind, why):
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp_path, {"hcm": {"drain_timeout": "2s"}}, {"b1": b1.port}, kind,
                  args=["--drain-strategy", "immediate", "--drain-time-s", "60"])
        c = Raw(p.port)
        got = c.events()
        c.ask("/before")
        assert next(got) == ("status", 1, "200")
        p.ask(why, "POST")
        c.ask("/told")
        seen = [next(got), next(got)]
        assert sorted(seen) == [("goaway", 0x7fffffff, 0), ("status", 3, "200")]
        c.ask("/on-its-way")  # sent before the first GOAWAY arrived
        assert next(got) == ("status", 5, "200")
        assert next(got) == ("goaway", 5, 0)
        assert next(got, None) is None, "closed when nothing is under way"


def test_gradual_drain_tells_more_and_more(spawn, tmp_path):
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp_path, {}, {"b1": b1.port}, args=["--drain-time-s", "4"])
        told = lambda: http1.get(p.port, "/").get("connection") == "close"  # noqa: E731
        assert not any(told() for _ in range(20))
        p.ask("/drain_listeners?graceful&skip_exit", "POST")
        first = sum(told() for _ in range(30))
        last, end = 0, time.monotonic() + 60
        while last < 30 and time.monotonic() < end:
            last = last + 1 if told() else 0
        assert last == 30 and first < 30, "few at the start, all in the end"
        assert p.stats()["http.ingress.downstream_cx_drain_close"] >= 30
