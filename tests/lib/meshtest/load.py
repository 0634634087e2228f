"""HTTP clients for workloads (mesh.py's call and start): they keep connections, as applications do."""
import http.client
import random
import socket
import struct
import threading
import time
import urllib.parse

from . import procs


class Conn:
    """One kept HTTP/1.1 connection. A connection that the peer closed while idle is opened anew, as every
    client does; a response that breaks off is a failure."""

    def __init__(self, url, timeout=30):
        u = urllib.parse.urlsplit(url)
        self.host, self.port, self.path = u.hostname, u.port or 80, (u.path or "/") + (f"?{u.query}" if u.query else "")
        self.timeout, self.c = timeout, None

    def request(self, method="GET", headers=None, body=None):
        fresh = self.c is None
        if fresh:
            self.c = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            self.c.request(method, self.path, body=body, headers=headers or {})
            r = self.c.getresponse()
            data = r.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if fresh:
                raise
            return self.request(method, headers, body)
        except Exception:
            self.close()
            raise
        if r.will_close:
            self.close()
        return r.status, r.getheaders(), data

    def close(self):
        if self.c:
            self.c.close()
        self.c = None


def get(url, headers=None, method="GET", body=None, timeout=30):
    """One request on a connection of its own."""
    c = Conn(url, timeout)
    try:
        status, hs, data = c.request(method, headers, body.encode() if body else None)
        return {"status": status, "headers": {k.lower(): v for k, v in hs}, "body": data.decode("latin1")}
    finally:
        c.close()


def run(stop, url, threads=4, count=None, pause=0, headers=None, method="GET", body=None, timeout=30, expect=200):
    """Requests until `stop` or `count`, on `threads` kept connections. Returns what each response was:
    [begin, end, x-version, x-backend] (times of CLOCK_MONOTONIC, the same in every process of the machine), and
    what failed: [begin, end, why]."""
    seen, failed, lock = [], [], threading.Lock()
    left = [count if count is not None else 1 << 62]

    def take():
        with lock:
            left[0] -= 1
            return left[0] >= 0

    def work():
        c = Conn(url, timeout)
        while not stop.is_set() and take():
            begin = time.monotonic()
            try:
                status, hs, data = c.request(method, headers, body.encode() if body else None)
                h = {k.lower(): v for k, v in hs}
                if status == expect:
                    seen.append((begin, time.monotonic(), h.get("x-version"), h.get("x-backend")))
                else:
                    failed.append((begin, time.monotonic(), f"{status} {data[:200]!r} {h}"))
            except Exception as e:
                failed.append((begin, time.monotonic(), repr(e)))
            if pause:
                time.sleep(pause)
        c.close()

    procs.side_by_side(threads, work)
    return {"seen": seen, "failed": failed}


def cut(host, path, count, seed, body=0):
    """Requests that end too early: after some of the request, or some of the answer, by FIN or RST."""
    dice, how = random.Random(seed), {"fin": 0, "rst": 0}
    for _ in range(count):
        with socket.create_connection((host, 80), timeout=30) as s:
            head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: {host}\r\n"
            head += "transfer-encoding: chunked\r\n\r\n" if body and "size=" in path else f"content-length: {body}\r\n\r\n" if body else "\r\n"
            s.settimeout(0.05)
            try:
                s.sendall(head.encode()[:dice.choice([10, 60, 1000, 1000, 1000])])
                if body and dice.random() < 0.8:
                    left = dice.randrange(body)
                    while left > 0:
                        n = min(left, 16384)
                        s.sendall(b"%x\r\n%s\r\n" % (n, b"y" * n) if "size=" in path else b"y" * n)
                        left -= n
                want = dice.choice([0, 0, 1, 5000, 500000])
                while want > 0 and (got := s.recv(65536)):
                    want -= len(got)
                time.sleep(dice.choice([0, 0, 0.001, 0.01]))
            except OSError:
                pass
            if dice.random() < 0.5:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                how["rst"] += 1
            else:
                how["fin"] += 1
    return how
