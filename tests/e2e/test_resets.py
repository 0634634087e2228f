"""What a client hears when its stream ends early behind the proxy: the same from Envoy and weft, for each way to end."""
import concurrent.futures
import contextlib

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from meshtest import http2
from meshtest.answers import Answers
from meshtest.http1 import Closed
from meshtest.proxy import Proxy

ROUTES = [{"match": {"prefix": "/limited"}, "route": {"cluster": "h2", "timeout": "0.3s"}},
          {"match": {"prefix": "/new"}, "route": {"cluster": "h2", "timeout": "0.1s", "max_stream_duration": {}}},
          {"match": {"prefix": "/duration"}, "route": {"cluster": "h2", "timeout": "0s", "max_stream_duration": {"max_stream_duration": "0.3s"}}},
          {"match": {"prefix": "/grpc"}, "route": {"cluster": "h2", "timeout": "0s",
                                                   "max_stream_duration": {"grpc_timeout_header_max": "0s"}}},
          {"match": {"prefix": "/bounded"}, "route": {"cluster": "h2", "max_stream_duration": {
              "max_stream_duration": "9s", "grpc_timeout_header_max": "1s", "grpc_timeout_header_offset": "0.1s"}}},
          {"match": {"prefix": "/"}, "route": {"cluster": "h2", "timeout": "0s"}}]


class Server(Answers):
    """HTTP/2. The path says what happens: /…/none answers nothing, /…/head a head and a piece; then a reset with the code, or silence."""

    def __init__(self):
        super().__init__(self.serve, timeout=None)

    def serve(self, s):
        c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin1"))
        c.initiate_connection()
        s.sendall(c.data_to_send())
        while data := s.recv(65536):
            for e in c.receive_data(data):
                if isinstance(e, h2.events.RequestReceived):
                    h = dict(tuple(h) for h in e.headers)
                    with contextlib.suppress(h2.exceptions.ProtocolError):  # the proxy has given it up already
                        self.answer(c, e.stream_id, h[":path"].split("/"), h.get("grpc-timeout", "none"))
            s.sendall(c.data_to_send())

    @staticmethod
    def answer(c, sid, path, timeout):
        if path[2] == "echo":
            c.send_headers(sid, [(":status", "200"), ("x-got", timeout)], end_stream=True)
            return
        if path[2] in ("head", "whole"):
            c.send_headers(sid, [(":status", "200"), ("content-type", "application/grpc")])
            c.send_data(sid, b"piece", end_stream=path[2] == "whole")
        if path[3] != "silence":
            c.reset_stream(sid, int(path[3]))


CASES = [(f"/plain/{what}/{code}", end, grpc) for what in ("none", "head") for code in (0, 2, 5, 7, 8, 11) for end in (True, False)
         for grpc in (False, True)]
CASES += [("/plain/whole/0", False, True), ("/plain/whole/8", False, True)]
CASES += [(f"{p}/{what}/silence", end, True) for p in ("/limited", "/duration", "/grpc") for what in ("none", "head") for end in (True, False)]


CASES += [("/new/none/silence", True, True), ("/duration/none/silence", True, False), ("/duration/none/silence", False, False)]
# What the server is told of the deadline.
CASES += [(f"{p}/echo/{t}", True, True) for p in ("/plain", "/limited", "/duration", "/grpc", "/bounded") for t in ("", "300m", "7000u", "2S", "99999999S", "bad")]


def outcome(port, path, end, grpc, patience=2):
    headers = [("content-type", "application/grpc"), ("te", "trailers")] if grpc else []
    asked = path.split("/")[3] if "/echo/" in path else "300m" if path.startswith("/grpc") else ""
    headers += [("grpc-timeout", asked)] if asked else []
    with http2.Client(port, timeout=patience) as c:
        sid = c.start("POST", path, headers, end=end)
        try:
            r = c.finish(sid)
        except Closed as e:
            return e.args[0] if e.args else repr(e)
        except TimeoutError:
            return 'silence'
        got = dict(r.headers)
        return r.status, got.get("grpc-status"), got.get("grpc-message"), got.get("x-got"), r.body, r.trailers


def different(seen):
    """case -> (what weft should do, what it does)"""
    # On purpose (docs/differences.md): CANCEL stays CANCEL, which gRPC does not take for a failure of the server.
    wanted = dict(seen["envoy"])
    # So is the end of a stream that took too long after its answer began.
    wanted.update((c, "reset after b'stream reset 8, status 200'") for c in CASES
                  if c[0] == "/plain/head/8" or c[0].endswith("/head/silence") and "stream reset 2" in str(wanted[c]))
    return {case: (wanted[case], seen["weft"][case]) for case in CASES if wanted[case] != seen["weft"][case]}


def test_the_same_as_envoy(spawn, tmp_path):
    server, seen = Server(), {}
    proxies = {kind: Proxy(spawn, tmp_path, {"routes": ROUTES}, {"h2": server.port}, kind=kind) for kind in ("envoy", "weft")}
    for kind, proxy in proxies.items():
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            seen[kind] = dict(zip(CASES, pool.map(lambda case, port=proxy.port: outcome(port, *case), CASES)))
    for case in different(seen):  # by itself, and with more patience: what differs on a busy machine alone is no difference
        for kind, proxy in proxies.items():
            seen[kind][case] = outcome(proxy.port, *case, patience=10)
    other = different(seen)
    server.sock.close()
    assert not other, "\n".join(f"{k}: wanted, got {v}" for k, v in other.items())
