"""What a scenario's client does inside its workload (called through meshtest.remote): one request description
in, one record for each response out. See tests/scenarios/README.md for the description."""
import socket
import ssl
import threading
import time
import urllib.parse
import uuid

from . import http1, http2, procs

PORTS = {"http": 80, "https": 443, "tcp": 9000, "tls": 443}


def target(r):
    """(host to connect to, port, authority, path, scheme)"""
    u = urllib.parse.urlsplit(r["url"])
    port = u.port or PORTS[u.scheme]
    host = u.hostname
    if r.get("connect"):
        host, _, p = r["connect"].partition(":")
        port = int(p or port)
    path = (u.path or "/") + (f"?{u.query}" if u.query else "")
    return host, port, u.netloc, path, u.scheme


def tls_wrap(sock, r, host):
    c = ssl.create_default_context()
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c.wrap_socket(sock, server_hostname=r.get("sni", host) or None)


class Link:
    """One connection; opened when needed, and anew after it was closed."""

    def __init__(self, r):
        self.r, self.c = r, None
        self.host, self.port, self.authority, self.path, self.scheme = target(r)
        self.timeout = r.get("timeout", 60)

    def open(self):
        if self.c:
            return self.c
        sock = socket.create_connection((self.host, self.port), timeout=self.timeout)
        if self.scheme in ("https", "tls"):
            sock = tls_wrap(sock, self.r, self.host)
        kind = http2.Client if self.r.get("protocol") == "h2" else http1.Client
        self.c = kind(self.port, sock=sock, timeout=self.timeout)
        return self.c

    def close(self):
        if self.c:
            self.c.sock.close()
        self.c = None

    def ask(self, number):
        began = time.monotonic()
        rec = {"id": str(uuid.uuid4()) if self.scheme in ("http", "https") else None}
        try:
            self.http(rec) if self.scheme in ("http", "https") else self.raw(rec)
        except http1.Closed as e:
            rec["error"] = "reset" if e.reset else "closed"
            rec["got"] = e.got.decode("latin1")[:200]
        except ssl.SSLError as e:
            rec["error"] = "tls"
            rec["got"] = str(e)
        except TimeoutError:
            rec["error"] = "timeout"
        except OSError as e:
            rec["error"] = {ConnectionRefusedError: "refused", ConnectionResetError: "reset", BrokenPipeError: "reset",
                            socket.gaierror: "unknown host"}.get(type(e), "network")
            rec["got"] = str(e)
        rec["seconds"] = time.monotonic() - began
        if "error" in rec or rec.pop("last", False):
            self.close()
        return rec

    def http(self, rec):
        r = self.r
        # Names as they were written: a header may be there several times (a list).
        headers = [(k, str(x)) for k, v in (r.get("headers") or {}).items() for x in (v if isinstance(v, list) else [v])]
        headers += [("x-request-id", rec["id"]), ("x-key", rec["id"])]
        body = r.get("body", "").encode()
        c = self.open()
        got = c.request(r.get("method", "GET"), self.path, headers=headers, body=body, host=r.get("authority", self.authority),
                        **({"version": f"HTTP/{r['protocol']}"} if r.get("protocol") == "1.0" else {}))
        rec.update(status=got.status, headers=got.headers, body=got.body.decode("latin1"), trailers=got.trailers)
        rec["last"] = got.closed or (got.get("connection") or "").lower() == "close" or bool(r.get("new_connection"))

    def raw(self, rec):
        c = self.open()
        if self.scheme == "tls":
            cert = c.sock.getpeercert(True)
            rec["certificate"] = ssl.DER_cert_to_PEM_cert(cert) if cert else None
        send = self.r.get("send")
        if send is not None:
            c.send(send.encode() + b"\n")
            rec["reply"] = c.line().decode("latin1")
        rec["last"] = True


def ask(request):
    """`count` responses (1), on `parallel` connections (1)."""
    count, parallel = request.get("count", 1), request.get("parallel", 1)
    out, lock, left = [], threading.Lock(), [count]

    def work():
        link = Link(request)
        while True:
            with lock:
                if left[0] == 0:
                    break
                left[0] -= 1
            rec = link.ask(left[0])
            with lock:
                out.append(rec)
        link.close()

    procs.side_by_side(parallel, work)
    return out
