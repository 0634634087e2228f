"""Attack cases 40, 42 and 44: what comes from behind: compressed bodies, HTTP/2 servers, DNS."""
import gzip
import json
import socket
import struct
import subprocess
import time

import pytest
from meshtest import bootstrap, bystander, dnsserver, http1, procs
from meshtest.answers import Answers
from meshtest.backend import Backend
from meshtest.bystander import Undisturbed
from meshtest.mesh import until
from meshtest.proxy import Proxy
from meshtest.smuggling import CONTINUATION, DATA, HEADERS, RST, SETTINGS, block, frame

BYSTANDERS = {"match": {"path": "/bystander"}, "route": {"cluster": "b2"}}


@pytest.fixture
def b2():
    with Backend("b2") as b:
        yield b


# ---- 40: compressed bodies ----

def test_40_nothing_is_decompressed(spawn, tmp_path, b2):
    """A bomb goes through as the bytes that it is."""
    bomb = gzip.compress(b"\0" * 50_000_000, 9)
    got = {}

    def serve(c):
        data = b""
        while b"\r\n\r\n" not in data:
            data += c.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        while len(body) < len(bomb) and b"content-length" in head.lower():
            body += c.recv(65536)
        got["head"], got["body"] = head.lower(), body
        c.sendall(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(bomb), bomb))
    server = Answers(serve)
    p = Proxy(spawn, tmp_path, {"routes": [BYSTANDERS, {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]}, {"b1": server.port, "b2": b2.port}, env=bystander.ENV)
    with Undisturbed(p, rss_kb=20_000, cpu=5), http1.Client(p.port) as c:
        r = c.request("POST", headers=[("content-encoding", "gzip"), ("accept-encoding", "gzip, br;q=0.5, " + ", ".join(f"x{i}" for i in range(100)))], body=bomb)
        assert r.get("content-encoding") == "gzip"
        assert r.body == bomb
    assert got["body"] == bomb and b"content-encoding: gzip" in got["head"] and b"x99" in got["head"]
    server.sock.close()


@pytest.mark.parametrize("name", ["compressor.v3.Compressor", "decompressor.v3.Decompressor"])
def test_40_filters_that_would_are_refused_by_name(tmp_path, name):
    kind = name.split(".")[0]
    case = {"hcm": {"http_filters": [{"name": f"envoy.filters.http.{kind}", "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.http.{name}"}},
                                     {"name": "envoy.filters.http.router", "typed_config": {"@type": bootstrap.ROUTER}}]}}
    config = tmp_path / "c.json"
    config.write_text(json.dumps(bootstrap.build(case, {"listen": 1, "admin": 1, "b1": 1, "b2": 1, "h2": 1, "dead": 1})))
    r = subprocess.run([procs.binary("weft-proxy"), "-c", config, "--mode", "validate"], capture_output=True, text=True, timeout=60)
    assert r.returncode != 0
    assert name in r.stdout + r.stderr and "http_filters[0]" in r.stdout + r.stderr


# ---- 42: a hostile server of HTTP/2 ----

OK = block([(b":status", b"200")])
HELLO = frame(SETTINGS, 0, 0)
GOAWAY, PING, WINDOW, PUSH = 7, 6, 8, 5


def after_request(*frames):
    def serve(c):
        data = b""
        while b"\x01\x05" not in data and b"\x01\x04" not in data[24:]:  # a HEADERS frame
            data += c.recv(65536)
        for f in frames:
            c.sendall(f)
        while c.recv(65536):
            pass
    return serve


SERVERS = {
    "goaway-then-no-streams": after_request(HELLO, frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)), frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 0))),
    "no-streams": after_request(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 0)), frame(HEADERS, 5, 1, OK)),
    "ping-flood": after_request(HELLO, *[frame(PING, 0, 0, b"12345678") * 1000] * 200),
    "settings-flood": after_request(HELLO, *[frame(SETTINGS, 0, 0) * 1000] * 200),
    "informational-flood": after_request(HELLO, *[frame(HEADERS, 4, 1, block([(b":status", b"103"), (b"x", b"y")])) * 100] * 300, frame(HEADERS, 5, 1, OK)),
    "header-bomb": after_request(HELLO, frame(HEADERS, 0, 1, OK + block([(b"x", b"y" * 15000)])), *[frame(CONTINUATION, 0, 1, block([(b"x", b"y" * 15000)]))] * 500),
    "continuation-flood": after_request(HELLO, frame(HEADERS, 0, 1, OK), *[frame(CONTINUATION, 0, 1, b"") * 1000] * 100),
    "empty-data-flood": after_request(HELLO, frame(HEADERS, 4, 1, OK), *[frame(DATA, 0, 1) * 1000] * 100),
    "more-than-the-window": after_request(HELLO, frame(HEADERS, 4, 1, OK), *[frame(DATA, 0, 1, b"x" * 16384)] * 20000),
    "window-overflow": after_request(HELLO, frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff")),
    "push": after_request(HELLO, frame(PUSH, 4, 1, struct.pack(">I", 2) + block([(b":method", b"GET"), (b":path", b"/")]))),
    "answer-to-nobody": after_request(HELLO, frame(HEADERS, 5, 7, OK)),
    "two-answers": after_request(HELLO, frame(HEADERS, 4, 1, OK), frame(HEADERS, 4, 1, OK), frame(DATA, 1, 1, b"x")),
    "no-status": after_request(HELLO, frame(HEADERS, 5, 1, block([(b"x", b"y")]))),
    "te-chunked": after_request(HELLO, frame(HEADERS, 5, 1, OK + block([(b"transfer-encoding", b"chunked")]))),
    "crlf": after_request(HELLO, frame(HEADERS, 5, 1, OK + block([(b"x", b"a\r\nset-cookie: b")]))),
    "length-lie": after_request(HELLO, frame(HEADERS, 4, 1, OK + block([(b"content-length", b"5")])), frame(DATA, 1, 1, b"much more than five")),
    "reset": after_request(HELLO, frame(RST, 0, 1, struct.pack(">I", 0))),
    "http1": after_request(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    "huge-frame": after_request(HELLO, b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 100000),
}


@pytest.mark.parametrize("name", SERVERS)
def test_42_hostile_http2_server(spawn, tmp_path, b2, name):
    evil = Answers(SERVERS[name])
    p = Proxy(spawn, tmp_path, {"routes": [{"match": {"prefix": "/evil"}, "route": {"cluster": "h2", "timeout": "0.7s"}}, BYSTANDERS]},
              {"h2": evil.port, "b2": b2.port}, env=bystander.ENV)
    with Undisturbed(p):
        for _ in range(3):
            try:
                with http1.Client(p.port) as c:
                    r = c.request(path="/evil")
                assert r.status in (200, 502, 503, 504), r
                assert r.get("set-cookie") is None
                assert name in ("no-streams", "informational-flood", "more-than-the-window", "two-answers", "answer-to-nobody") or r.status != 200, r
            except http1.Closed:  # begun, and then cut
                pass
    evil.sock.close()


# ---- 44: DNS ----

def record(kind, ttl, data, name=b"\xc0\x0c"):
    return name + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


class HostileDns(dnsserver.Server):
    """The first label of a name says what its answer is like."""

    def answer(self, packet):
        name, kind, end = dnsserver.question(packet)
        self.asked.append((name, dnsserver.TYPES.get(kind, str(kind))))
        if kind != 1:
            return packet[:2] + struct.pack(">HHHHH", 0x8180, 1, 0, 0, 0) + packet[12:end]
        what, q, a = name.split(".")[0], packet[12:end], socket.inet_aton("127.0.0.1")
        def say(n, records, ident=packet[:2], flags=0x8180, question=q, questions=1):
            return ident + struct.pack(">HHHHH", flags, questions, n, 0, 0) + question + records
        return {
            "good": lambda: say(1, record(1, 60, a)),
            "loop": lambda: say(1, record(1, 60, a, name=struct.pack(">H", 0xc000 | end))),
            "loop-alias": lambda: say(1, record(5, 60, struct.pack(">H", 0xc000 | end + 12))),
            "forward": lambda: say(1, record(1, 60, a, name=b"\xff\xff")),
            "lie-long": lambda: say(1, b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 60000) + a),
            "lie-short": lambda: say(1, b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 3) + a),
            "lie-count": lambda: say(65535, record(1, 60, a)),
            "label-lie": lambda: say(1, b"\x3fabc"),
            "wrong-id": lambda: say(1, record(1, 60, a), ident=b"\xab\xcd"),
            "wrong-question": lambda: say(1, record(1, 60, a), question=b"\x04evil\x04test\0" + q[-4:]),
            "no-question": lambda: say(1, record(1, 60, a, name=b"\x04evil\x04test\0"), question=b"", questions=0),
            "a-question": lambda: say(1, record(1, 60, a), flags=0x0100),
            "cut": lambda: say(1, record(1, 60, a))[:-2],
            "empty": lambda: b"\0",
            "alias-loop": lambda: say(2, record(5, 60, q[:-4]) + record(5, 60, q[:-4])),
            "rubbish": lambda: packet[:2] + bytes(range(256)) * 2,
            "many": lambda: say(3000, record(1, 60, a) * 3000),
            "churn": lambda: say(1, record(1, 0, socket.inet_aton(f"127.0.{len(self.asked) % 200}.{len(self.asked) % 250 + 1}"))),
        }[what]()


NAMES = ["good", "loop", "loop-alias", "forward", "lie-long", "lie-short", "lie-count", "label-lie", "wrong-id", "wrong-question", "no-question", "a-question", "cut",
         "empty", "alias-loop", "rubbish", "many", "churn"]


def test_44_hostile_dns(spawn, tmp_path, b2):
    dns = HostileDns().start()
    resolver = {"name": "envoy.network.dns_resolver.cares", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": dns.port}}]}}
    clusters = [{"name": n, "type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY", "respect_dns_ttl": True, "dns_refresh_rate": "1s", "typed_dns_resolver_config": resolver,
                 "load_assignment": {"cluster_name": n, "endpoints": [{"lb_endpoints": [bootstrap.endpoint(b2.port, f"{n}.bad.test")]}]}} for n in NAMES]
    p = Proxy(spawn, tmp_path, {"routes": [BYSTANDERS, *({"match": {"prefix": f"/{n}/"}, "route": {"cluster": n}} for n in NAMES)], "clusters": clusters},
              {"b2": b2.port}, env=bystander.ENV)
    with Undisturbed(p):
        began = time.monotonic()
        deadline = began + 90
        while {n for n, _ in dns.asked} < {f"{n}.bad.test" for n in NAMES} or p.get("/good/").status != 200:
            assert time.monotonic() < deadline, dns.asked
            time.sleep(0.05)
        asked, then = len(dns.asked), time.monotonic()
        time.sleep(1.5)  # what is asked again and again, meanwhile
        for n in NAMES:
            status = p.get(f"/{n}/").status
            # Of what is no answer to the question nothing is taken.
            assert status in ((200,) if n == "good" else (200, 503) if n in ("many", "churn", "lie-count", "alias-loop", "a-question") else (503,)), n
        churn = sum(n == "churn.bad.test" for n, _ in dns.asked)
        now = time.monotonic()
        assert churn <= 8 + 2 * (now - began), (churn, now - began)  # a TTL of 0 does not make it ask all the time
        assert len(dns.asked) - asked < 100 + 200 * (now - then)
    until(lambda: (s := p.stats()) and all(s.get(f"cluster.{n}.update_failure", 0) + s.get(f"cluster.{n}.update_empty", 0) > 0
                                           for n in ("loop", "lie-long", "cut", "label-lie")), "what is no answer is counted")
    stats = p.stats()
    for n in ("loop", "lie-long", "cut", "label-lie"):
        assert stats[f"cluster.{n}.update_attempt"] > 0 and stats[f"cluster.{n}.membership_total"] == 0
        assert stats.get(f"cluster.{n}.update_failure", 0) + stats.get(f"cluster.{n}.update_empty", 0) > 0, n
    assert stats["cluster.many.membership_total"] <= 1024
    dns.stop()
