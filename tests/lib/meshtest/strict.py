"""HTTP/1 requests read as strictly as RFC 9112 allows: what two servers could read in two ways is an error."""
import re
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
VALUE = re.compile(rb"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?\Z|\Z")
TARGET = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]+\Z")  # no blank, no control, no "#"
EXTENSION = re.compile(rb"(;[\t\x20-\x7e\x80-\xff]*)?\Z")
NOT_IN_TRAILERS = {b"content-length", b"transfer-encoding", b"host", b"authorization", b"connection", b"te", b"trailer"}


class Unclear(Exception):
    """The bytes break the grammar."""


class Incomplete(Exception):
    """They end within a request."""


@dataclass
class Request:
    method: bytes
    target: bytes
    version: bytes
    fields: list
    body: bytes = b""
    trailers: list = field(default_factory=list)
    complete: bool = False

    def get(self, name):
        return [v for k, v in self.fields if k == name]

    @property
    def host(self):
        return (self.get(b"host") or [b""])[0]


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def line(self):
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise Incomplete
        line, self.at = self.data[self.at:end + 1], end + 1
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Unclear(f"line end: {line!r}")
        return line[:-2]

    def take(self, n):
        if len(self.data) - self.at < n:
            raise Incomplete
        self.at += n
        return self.data[self.at - n:self.at]

    def fields(self):
        out = []
        while line := self.line():
            name, colon, value = line.partition(b":")
            value = value.strip(b" \t")
            if not colon or not TOKEN.match(name) or not VALUE.match(value):
                raise Unclear(f"field: {line!r}")
            out.append((name.lower(), value))
        return out

    def request(self):
        parts = self.line().split(b" ")
        if len(parts) != 3:
            raise Unclear(f"request line: {parts!r}")
        r = Request(*parts, self.fields())
        if not TOKEN.match(r.method) or not TARGET.match(r.target) or r.version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Unclear(f"request line: {parts!r}")
        hosts, lengths, codings = r.get(b"host"), r.get(b"content-length"), r.get(b"transfer-encoding")
        if len(hosts) != 1 and r.version == b"HTTP/1.1":
            raise Unclear(f"hosts: {hosts!r}")
        if len(lengths) + len(codings) > 1:
            raise Unclear(f"framing: {lengths!r} {codings!r}")
        if lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise Unclear(f"content-length: {lengths!r}")
        if codings and codings[0].lower() != b"chunked":
            raise Unclear(f"transfer-encoding: {codings!r}")
        if r.method == b"CONNECT" and (lengths or codings):
            raise Unclear("a CONNECT with a body")
        return r

    def body(self, r):
        if r.get(b"content-length"):
            n = int(r.get(b"content-length")[0])
            r.body = self.data[self.at:self.at + n]
            self.take(n)
        while r.get(b"transfer-encoding"):
            line = self.line()
            size, sep, rest = line.partition(b";")
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size) or not EXTENSION.match(sep + rest):
                raise Unclear(f"chunk: {line!r}")
            if int(size, 16) == 0:
                r.trailers = self.fields()
                if bad := {k for k, _ in r.trailers} & NOT_IN_TRAILERS:
                    raise Unclear(f"trailers: {bad}")
                break
            piece = self.data[self.at:self.at + int(size, 16)]
            r.body += piece
            self.take(int(size, 16))
            if self.take(2) != b"\r\n":
                raise Unclear("chunk without its line end")
        r.complete = True


def read(data):
    """(requests, complaint or None). The last request may be incomplete; after an upgrade or a CONNECT nothing
    is read as a request."""
    reader, out = Reader(data), []
    try:
        while reader.at < len(data):
            r = reader.request()
            out.append(r)
            reader.body(r)
            if r.method == b"CONNECT" or r.get(b"upgrade"):
                break
    except Incomplete:
        pass
    except Unclear as e:
        return out, str(e)
    return out, None
