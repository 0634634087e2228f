"""A small HTTP/2 client on the h2 package: one connection, one request after the other (or raw)."""
import socket

import h2.config
import h2.connection
import h2.events

from .http1 import Closed, Response


class Client:
    def __init__(self, port, host="127.0.0.1", timeout=60, sock=None):
        self.sock = sock or socket.create_connection((host, port), timeout=timeout)
        self.sock.settimeout(timeout)
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin1",
                                                                         validate_outbound_headers=False,
                                                                         normalize_outbound_headers=False))
        self.conn.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def events(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            raise Closed(b"", reset=True) from None
        if not data:
            raise Closed(b"")
        events = self.conn.receive_data(data)
        self.flush()
        return events

    def start(self, method="GET", path="/", headers=(), host="test.local", end=True, scheme="http", protocol=None):
        sid = self.conn.get_next_available_stream_id()
        head = [(":method", method), (":scheme", scheme), (":authority", host), (":path", path)]
        if protocol:
            head.append((":protocol", protocol))
        self.conn.send_headers(sid, head + [(k, str(v)) for k, v in headers], end_stream=end)
        self.flush()
        return sid

    def finish(self, sid):
        r = Response(0, [], b"", version="HTTP/2")
        while True:
            for e in self.events():
                if getattr(e, "stream_id", None) not in (sid, None, 0):
                    continue
                if isinstance(e, h2.events.ResponseReceived):
                    heads = [tuple(h) for h in e.headers]
                    r.status = int(dict(heads)[":status"])
                    r.headers = [h for h in heads if not h[0].startswith(":")]
                elif isinstance(e, h2.events.InformationalResponseReceived):
                    r.infos.append(int(dict(tuple(h) for h in e.headers)[":status"]))
                elif isinstance(e, h2.events.DataReceived):
                    r.body += e.data
                    self.conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                    self.flush()
                elif isinstance(e, h2.events.TrailersReceived):
                    r.trailers = [tuple(h) for h in e.headers]
                elif isinstance(e, h2.events.StreamReset):
                    raise Closed(f"stream reset {e.error_code}, status {r.status}".encode(), reset=True)
                elif isinstance(e, h2.events.ConnectionTerminated):
                    raise Closed(f"goaway {e.error_code}".encode())
                if isinstance(e, h2.events.StreamEnded):
                    return r

    def request(self, method="GET", path="/", headers=(), body=b"", host="test.local", trailers=(), **kw):
        sid = self.start(method, path, headers, host, end=not body and not trailers, **kw)
        while body:
            n = min(len(body), self.conn.local_flow_control_window(sid), self.conn.max_outbound_frame_size)
            if n == 0:
                self.events()
                continue
            self.conn.send_data(sid, body[:n], end_stream=n == len(body) and not trailers)
            body = body[n:]
            self.flush()
        if trailers:
            self.conn.send_headers(sid, list(trailers), end_stream=True)
            self.flush()
        return self.finish(sid)
