"""Memory that is out (docs/threads-and-memory.md): new work is refused by name, what is under way goes on, and the process
lives. With the release build, since sanitizers want all the address space there is."""
import contextlib
import os
import resource
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from meshtest import certs, http1, procs
from meshtest.backend import Backend
from meshtest.proxy import Proxy

ENDS = (http1.Closed, OSError, ssl.SSLError, AssertionError)


@pytest.fixture
def release(monkeypatch):
    subprocess.run(["make", "all"], cwd=procs.TOP, check=True, capture_output=True)
    monkeypatch.setattr(procs, "BUILD", procs.TOP / "build" / "release")


def virtual_bytes(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


def eventually(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


class Deaf:
    """Accepts and never reads: what is sent there stays in the proxy's buffers."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.sock.getsockname()[1]
        self.held = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                self.held.append(self.sock.accept()[0])


def stuff(port, n):
    """A client that sends as much of a large body as is taken."""
    s = socket.create_connection(("127.0.0.1", port), timeout=60)
    s.setblocking(False)
    with contextlib.suppress(OSError):  # refused already
        s.send(b"POST /deaf HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % n)
    return s


def answered(proxy):
    try:
        return http1.get(proxy.port, "/").status == 200
    except ENDS:
        return False


def test_buffers_up_to_a_limit_of_address_space(spawn, tmp_path, release):
    deaf = Deaf()
    with Backend("b1") as b1:
        proxy = Proxy(spawn, tmp_path, {"routes": [{"match": {"prefix": "/deaf"}, "route": {"cluster": "b2", "timeout": "0s"}},
                                                   {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]},
                      ports={"b1": b1.port, "b2": deaf.port})
        assert answered(proxy)
        limit = virtual_bytes(proxy.pid) + (24 << 20)  # and what the arenas of malloc have mapped
        resource.prlimit(proxy.pid, resource.RLIMIT_AS, (limit, limit))
        clients, chunk = [stuff(proxy.port, 64 << 20) for _ in range(250)], b"x" * 65536

        def push():
            for s in clients:
                with contextlib.suppress(OSError):
                    s.send(chunk)
            return not answered(proxy)

        eventually(push, 120)
        for _ in range(20):  # it stays so, and the process lives, while they push
            push()
        assert proxy.proc.poll() is None, proxy.proc.output()
        for s in clients:  # a reset: behind data that nobody reads, nobody would hear of an end
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        eventually(lambda: answered(proxy))
        eventually(lambda: proxy.stats()["server.memory_short"] == 0)
        stats = proxy.stats()
        assert stats["server.memory_allocation_failures"] > 0
        refused = [v for k, v in stats.items() if k.endswith(("downstream_cx_overload_reject", "downstream_rq_overload_close"))]
        assert sum(refused) > 0, stats
        assert all(answered(proxy) for _ in range(20))
        assert "memory was short" in proxy.proc.output()


@pytest.fixture(scope="module")
def failmalloc(tmp_path_factory):
    so = tmp_path_factory.mktemp("failmalloc") / "failmalloc.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", so, procs.TOP / "tests" / "lib" / "failmalloc.c"], check=True)
    return so


@pytest.mark.parametrize("one_in, requests", [(5000, 300), (300, 300), (50, 40)])
def test_allocations_that_fail_by_chance(spawn, tmp_path, release, failmalloc, one_in, requests):
    """Of the proxy and of its libraries (TLS handshakes at both ends), under load."""
    pki = certs.Pki(tmp_path / "pki")
    pair = pki.leaf("proxy", dns=["localhost"])
    tls = {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [{"certificate_chain": {"filename": str(pair.cert)},
                                                     "private_key": {"filename": str(pair.key)}}]}}}
    client = ssl.create_default_context(cafile=str(pki.root_cert))
    outcomes = {"ok": 0, "refused": 0, "ended": 0}

    def once():
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as raw, \
                    client.wrap_socket(raw, server_hostname="localhost") as s:
                answer = http1.Client(0, sock=s)
                answer.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20000\r\n\r\n" + b"b" * 20000)
                status = answer.response().status
            assert status in (200, 500, 502, 503), status
            outcomes["ok" if status == 200 else "refused"] += 1
        except ENDS:
            outcomes["ended"] += 1

    with Backend("b1") as b1:
        proxy = Proxy(spawn, tmp_path, {"filter_chain": {"transport_socket": tls}}, ports={"b1": b1.port},
                      env={"LD_PRELOAD": str(failmalloc), "FAILMALLOC": str(one_in), "FAILSEED": "7"})
        once()
        assert outcomes["ok"] == 1
        os.kill(proxy.pid, signal.SIGRTMIN + 5)
        for _ in range(requests):
            once()
        os.kill(proxy.pid, signal.SIGRTMIN + 5)
        code = proxy.proc.poll()
        print(outcomes)
        if code is not None:  # so many that the reserve was used up: by its own word, never by a crash
            assert code == -signal.SIGABRT and "out of memory: " in proxy.proc.output(), (code, proxy.proc.output())
            assert one_in < 300, outcomes
            return
        eventually(lambda: (outcomes.update(ok=0), once(), outcomes["ok"] == 1)[-1])
        for _ in range(20):
            once()
        assert outcomes["ok"] == 21, outcomes
        stats = proxy.stats()
        assert stats["server.memory_allocation_failures"] > 0
        assert stats["http.ingress.downstream_rq_active"] == 0 and stats["cluster.b1.upstream_rq_active"] == 0
