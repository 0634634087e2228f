"""CONNECT from both ends: what goes through a chain of two proxies is whole, ends are passed on, and
connections that are cut leave nothing behind."""
import contextlib
import hashlib
import os
import socket
import struct
import threading
import time

import h2.config
import h2.connection
import h2.events
import pytest
from meshtest.backend import Backend
from meshtest.proxy import Proxy

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class Server:
    """One function a connection, in a thread of its own."""

    def __init__(self, serve):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port, self.errors = self.sock.getsockname()[1], []
        threading.Thread(target=self.run, args=(serve,), daemon=True).start()

    def run(self, serve):
        def one(c):
            with c:
                try:
                    c.settimeout(30)
                    serve(c)
                except OSError as e:
                    self.errors.append(e)
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(c,), daemon=True).start()


def chain(spawn, tmp_path, server, http2, post=False):
    """client -> tcp_proxy with a tunnel -> CONNECT that ends -> server; both in one process."""
    how = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    match = {"prefix": "/"} if post else {"connect_matcher": {}}
    far = {"@type": HCM, "stat_prefix": "far", "upgrade_configs": [{"upgrade_type": "CONNECT"}],
           "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": match, "route": {
               "cluster": "end", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {"allow_post": post}}]}}]}]},
           "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}
    one = lambda name, port: {"name": name, "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]}}
    return Proxy(spawn, tmp_path, {
        "filter_chain": {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": TCP, "stat_prefix": "near", "cluster": "far", "tunneling_config": dict(hostname="end.test:1", use_post=post)}}]},
        "listeners": [{"name": "far", "address": {"socket_address": {"address": "127.0.0.1", "port_value": "{second}"}},
                       "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": far}]}]}],
        "clusters": [one("end", server.port), dict(one("far", "{second}"), typed_extension_protocol_options={
            OPTIONS: {"@type": "type.googleapis.com/" + OPTIONS, "explicit_http_config": how}})]})


def read_all(s):
    h, n = hashlib.sha256(), 0
    while piece := s.recv(65536):
        h.update(piece)
        n += len(piece)
    return h.hexdigest(), n


def send_all(c, data):
    with contextlib.suppress(OSError):
        c.sendall(data)


def eventually(check, seconds=60):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)


def nothing_left(p):
    eventually(lambda: p.stat(r"^cluster\.(end|far)\.upstream_rq_active") == 0 and p.stat(r"^cluster\.end\.upstream_cx_active") == 0 and
               p.stat(r"^http\.far\.downstream_rq_active") == 0)


KINDS = pytest.mark.parametrize("http2,post", [(False, False), (True, False), (True, True)], ids=["http1", "http2", "http2-post"])


@KINDS
def test_both_directions_at_once_are_whole(spawn, tmp_path, http2, post):
    down = os.urandom(6_000_000)
    got = {}

    def serve(c):
        sender = threading.Thread(target=send_all, args=(c, down))
        sender.start()
        up = read_all(c)
        if up[1]:  # not the one that looked whether somebody listens
            got["up"] = up
        sender.join()
        c.shutdown(socket.SHUT_WR)

    p = chain(spawn, tmp_path, Server(serve), http2, post)
    up = os.urandom(5_000_000)
    with socket.create_connection(("127.0.0.1", p.port), timeout=60) as s:
        def send():
            s.sendall(up)
            s.shutdown(socket.SHUT_WR)
        t = threading.Thread(target=send)
        t.start()
        assert read_all(s) == (hashlib.sha256(down).hexdigest(), len(down))
        t.join()
    assert got["up"] == (hashlib.sha256(up).hexdigest(), len(up))
    nothing_left(p)


@KINDS
def test_a_side_that_does_not_read_stops_the_other(spawn, tmp_path, http2, post):
    stop = threading.Event()
    p = chain(spawn, tmp_path, Server(lambda c: stop.wait(120)), http2, post)
    before, sent = p.rss_kb(), 0
    with socket.create_connection(("127.0.0.1", p.port), timeout=2) as s:
        try:
            while sent < 400_000_000:
                sent += s.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sent < 100_000_000 and p.rss_kb() - before < 60_000
    stop.set()
    nothing_left(p)


@KINDS
def test_cut_connections_leave_nothing(spawn, tmp_path, http2, post):
    def serve(c):
        c.sendall(b"hello")
        if c.recv(100).startswith(b"cut"):
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        c.recv(100)

    p = chain(spawn, tmp_path, Server(serve), http2, post)
    for i in range(20):
        s = socket.create_connection(("127.0.0.1", p.port), timeout=60)
        assert s.recv(5) == b"hello"
        s.sendall(b"cut" if i % 2 else b"me")
        if i % 2:
            try:
                assert s.recv(100) == b""
            except ConnectionResetError:
                pass
        else:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    nothing_left(p)


def test_nobody_at_the_end(spawn, tmp_path):
    gone = Server(lambda c: None)
    gone.sock.close()
    p = chain(spawn, tmp_path, gone, True)
    for _ in range(3):
        try:
            with socket.create_connection(("127.0.0.1", p.port), timeout=60) as s:
                assert s.recv(1) == b""
        except ConnectionResetError:  # as early as while connecting
            pass
    nothing_left(p)


@pytest.mark.parametrize("kind", ["weft", "envoy"])
def test_websocket_over_http2_to_an_http1_server(spawn, tmp_path, kind):
    """Extended CONNECT (RFC 8441) becomes an upgrade, and its 101 a 200."""
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp_path, {"hcm": {"upgrade_configs": [{"upgrade_type": "websocket"}], "http2_protocol_options": {"allow_connect": True}}},
                  {"b1": b1.port}, kind=kind)
        conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin1", validate_outbound_headers=False))
        conn.initiate_connection()
        got, events = b"", []
        with socket.create_connection(("127.0.0.1", p.port), timeout=60) as s:
            conn.send_headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"),
                                  (":authority", "a"), ("sec-websocket-version", "13")])
            s.sendall(conn.data_to_send())
            asked = False
            while not got.endswith(b"echo:hello"):
                data = s.recv(65536)
                assert data, events
                for e in conn.receive_data(data):
                    events.append(e)
                    if isinstance(e, h2.events.ResponseReceived):
                        assert dict(e.headers)[":status"] == "200"
                        assert conn.remote_settings.enable_connect_protocol == 1
                        conn.send_data(1, b"hello")
                        asked = True
                    if isinstance(e, h2.events.DataReceived):
                        got += e.data
                s.sendall(conn.data_to_send())
            assert asked and got == b"echo:hello"
