"""A raw HTTP/1 client: what is sent is exactly what the test wrote; what came back is kept whole."""
import socket
from dataclasses import dataclass, field


@dataclass
class Response:
    status: int
    headers: list
    body: bytes
    trailers: list = field(default_factory=list)
    infos: list = field(default_factory=list)
    version: str = "HTTP/1.1"
    closed: bool = False

    def get(self, name):
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return values[0] if values else None


class Closed(Exception):
    """The peer closed (or reset) before a whole response came."""

    def __init__(self, got, reset=False):
        super().__init__(f"{'reset' if reset else 'closed'} after {got!r}")
        self.got, self.reset = got, reset


class Client:
    def __init__(self, port, host="127.0.0.1", timeout=60, sock=None):
        self.sock = sock or socket.create_connection((host, port), timeout=timeout)
        self.sock.settimeout(timeout)
        self.buf = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, raw):
        self.sock.sendall(raw)

    def fill(self):
        try:
            got = self.sock.recv(65536)
        except ConnectionResetError:
            raise Closed(self.buf, reset=True) from None
        if not got:
            raise Closed(self.buf)
        self.buf += got

    def line(self):
        while b"\n" not in self.buf:
            self.fill()
        line, self.buf = self.buf.split(b"\n", 1)
        return line.rstrip(b"\r")

    def fields(self):
        out = []
        while line := self.line():
            name, _, value = line.partition(b":")
            out.append((name.decode("latin1"), value.strip().decode("latin1")))
        return out

    def take(self, n):
        while len(self.buf) < n:
            self.fill()
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def head(self):
        version, _, rest = self.line().decode("latin1").partition(" ")
        return version, int(rest.split(" ")[0]), self.fields()

    def response(self, method="GET"):
        infos = []
        while True:
            version, status, headers = self.head()
            if status >= 200 or status == 101:
                break
            infos.append(status)
        r = Response(status, headers, b"", infos=infos, version=version)
        if method == "HEAD" or status in (204, 304, 101) or (method == "CONNECT" and status < 300):
            return r
        if (r.get("transfer-encoding") or "").lower() == "chunked":
            while size := int(self.line().split(b";")[0], 16):
                r.body += self.take(size)
                self.take(2)
            r.trailers = self.fields()
        elif r.get("content-length") is not None:
            r.body = self.take(int(r.get("content-length")))
        else:
            try:
                while True:
                    self.fill()
            except Closed as e:
                r.body, self.buf, r.closed = e.got, b"", True
        return r

    def request(self, method="GET", path="/", headers=(), body=b"", host="test.local", version="HTTP/1.1"):
        names = {k.lower() for k, _ in headers}
        out = [f"{method} {path} {version}"]
        if "host" not in names and host is not None:
            out.append(f"host: {host}")
        if body and not names & {"content-length", "transfer-encoding"}:
            out.append(f"content-length: {len(body)}")
        out += [f"{k}: {v}" for k, v in headers]
        self.send("\r\n".join(out).encode("latin1") + b"\r\n\r\n" + body)
        return self.response(method)

    def at_eof(self, timeout=30):
        """True when the peer has closed with nothing more to say."""
        self.sock.settimeout(timeout)
        try:
            return not self.buf and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def get(port, path="/", **kw):
    with Client(port) as c:
        return c.request(path=path, **kw)
