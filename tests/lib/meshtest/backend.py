"""Backends that answer with what they saw, and misbehave on request.

A request tells the backend what to do with headers: x-want-status, x-want-header ("name: value", may
repeat), x-want-delay (seconds before the head), x-want-size (bytes of body), x-want-trailer
("name: value"), x-want (one of: reset, close, half, bad, hang, info100, info103, chunked, nolength,
connection-close, early), x-want-fail-first N (503 for the first N requests that carry the same x-key),
x-want-gate NAME (waits until it is in `opened`), x-want-fail-after N (503, without the delay, for all but the first N of them), x-want-hex (the body's
bytes). `wishes` are such headers for all requests whose path begins with a text.
"""
import asyncio
import json
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions


class Backend:
    """Runs in a thread of its own. `name` comes back in x-backend and in the body."""

    def __init__(self, name, port=0, host="127.0.0.1", h2c=False, ssl=None, proxied=False):
        self.name, self.host, self.port, self.h2c, self.ssl = name, host, port, h2c, ssl
        self.seen, self.connections, self.fails = [], 0, {}
        self.proxied = proxied  # a PROXY header comes before TLS
        self.wishes = {}
        self.tasks, self.error = set(), None
        self.opened = set()

    def start(self):
        ready = threading.Event()
        self.loop = asyncio.new_event_loop()

        async def main():
            if self.proxied:
                self.server = socket.create_server((self.host, self.port))
                self.server.setblocking(False)
                self.port = self.server.getsockname()[1]
                self.tasks.add(asyncio.ensure_future(self.accept_proxied()))
            else:
                self.server = await asyncio.start_server(self.serve, self.host, self.port, ssl=self.ssl, limit=1 << 20)
                self.port = self.server.sockets[0].getsockname()[1]
            ready.set()

        def body():
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(main())
            except OSError as e:
                self.error = e
                ready.set()
                return
            self.loop.run_forever()

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()
        assert ready.wait(60), f"backend {self.name} did not start"
        assert not self.error, f"backend {self.name} cannot listen on port {self.port}: {self.error}"
        return self

    def stop(self):
        def end():
            self.server.close()
            for t in self.tasks:
                t.cancel()
            self.loop.call_later(0.05, self.loop.stop)
        self.loop.call_soon_threadsafe(end)
        self.thread.join(5)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    async def accept_proxied(self):
        """Takes exactly the PROXY line off the socket, so that TLS finds its own first byte."""
        while True:
            sock, _ = await self.loop.sock_accept(self.server)
            line = b""
            while not line.endswith(b"\n") and (c := await self.loop.sock_recv(sock, 1)):
                line += c
            proxy = await self.proxy_header(None, line)
            reader = asyncio.StreamReader(limit=1 << 20)
            make = lambda reader=reader, proxy=proxy: asyncio.StreamReaderProtocol(
                reader, lambda r, w: self.serve(r, w, proxy))
            await self.loop.connect_accepted_socket(make, sock, ssl=self.ssl)

    async def serve(self, reader, writer, proxy=None):
        self.connections += 1
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            await (self.serve_h2(reader, writer) if self.h2c else self.serve_h1(reader, writer, proxy))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    def plan(self, request):
        """(status, headers, body, trailers) for a request that was seen."""
        wishes = request["headers"] + [w for prefix, ws in self.wishes.items() if request["path"].startswith(prefix) for w in ws]

        def want(name):
            return [v for k, v in wishes if k.lower() == name]
        self.seen.append(request)
        status = int((want("x-want-status") or ["200"])[0])
        if want("x-want-fail-first"):
            key = (want("x-key") or ["-"])[0]
            self.fails[key] = self.fails.get(key, 0) + 1
            if self.fails[key] <= int(want("x-want-fail-first")[0]):
                status = 503
        if want("x-want-fail-after"):
            key = (want("x-key") or ["-"])[0]
            self.fails[key] = self.fails.get(key, 0) + 1
            if self.fails[key] > int(want("x-want-fail-after")[0]):
                status, wishes = 503, [w for w in wishes if w[0].lower() != "x-want-delay"]
        size = want("x-want-size")
        body = b"x" * int(size[0]) if size else json.dumps(dict(request, backend=self.name)).encode()
        if want("x-grpc"):  # one message that says what came
            body = "|".join([*(",".join(want(n)) for n in ("content-type", "te", "grpc-accept-encoding")),
                             request["body"]]).encode("latin1")
            body = b"\0" + len(body).to_bytes(4, "big") + body
        if want("x-want-hex"):
            body = bytes.fromhex(want("x-want-hex")[0])
        split = lambda h: tuple(x.strip() for x in h.split(":", 1))
        headers = [("content-type", "application/grpc" if want("x-grpc") else "application/json"), ("x-backend", self.name), *map(split, want("x-want-header"))]
        return status, headers, body, [split(t) for t in want("x-want-trailer")], want

    async def proxy_header(self, reader, line):
        """The PROXY header that `line` begins, as text; version 2 is read to its end."""
        if line.startswith(b"PROXY "):
            _, family, *rest = line.decode().split()
            return " ".join(["v1", family] + ([f"{rest[0]}:{rest[2]}", f"{rest[1]}:{rest[3]}"] if rest else []))
        head = line + await reader.readexactly(16 - len(line))
        body = await reader.readexactly(int.from_bytes(head[14:16], "big"))
        text = f"v2 {head[12]:02x} {head[13]:02x}"
        if head[13] == 0x11:
            ip = [".".join(map(str, body[i:i + 4])) for i in (0, 4)]
            text += "".join(f" {a}:{int.from_bytes(body[i:i + 2], 'big')}" for a, i in zip(ip, (8, 10)))
        return text + (" " + body[12:].hex() if body[12:] else "")

    async def serve_h1(self, reader, writer, proxy=None):
        while line := await reader.readline():
            if line.startswith(b"PROXY ") or line == b"\r\n":
                proxy = await self.proxy_header(reader, line)
                continue
            method, target, version = line.decode("latin1").rstrip("\r\n").split(" ")
            headers = []
            while (l := await reader.readline()) not in (b"\r\n", b""):
                k, _, v = l.decode("latin1").rstrip("\r\n").partition(":")
                headers.append((k, v.strip()))
            get = lambda n: next((v for k, v in headers if k.lower() == n), None)
            if get("x-want") == "early":
                writer.write(b"HTTP/1.1 413 Early\r\nx-backend: %s\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly" % self.name.encode())
                await writer.drain()
                return
            if (get("expect") or "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body, trailers = b"", []
            if (get("transfer-encoding") or "").lower() == "chunked":
                while size := int((await reader.readline()).split(b";")[0], 16):
                    body += await reader.readexactly(size)
                    await reader.readexactly(2)
                while (l := await reader.readline()) not in (b"\r\n", b""):
                    k, _, v = l.decode("latin1").rstrip("\r\n").partition(":")
                    trailers.append((k, v.strip()))
            elif get("content-length"):
                body = await reader.readexactly(int(get("content-length")))
            seen = {"method": method, "path": target, "version": version, "headers": headers, "proxy": proxy,
                    "body": body.decode("latin1"), "trailers": trailers}
            status, hs, out, tr, want = self.plan(seen)
            how = (want("x-want") or [""])[0]
            if want("x-want-delay"):
                await asyncio.sleep(float(want("x-want-delay")[0]))
            while not self.opened.issuperset(want("x-want-gate")):
                await asyncio.sleep(0.01)
            if how == "hang":
                await asyncio.sleep(600)
            if how == "reset":
                writer.transport.abort()
                return
            if how == "close":
                return
            if how == "bad":
                writer.write(b"HTTP/1.1 2x0 Bad\r\n\r\n")
                return
            if how.startswith("info"):
                writer.write(f"HTTP/1.1 {how[4:]} Info\r\nx-info: yes\r\n\r\n".encode())
            if get("upgrade") and method == "GET":
                if how == "refuse-upgrade":
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nx-backend: %s\r\ncontent-length: 2\r\n\r\nno" % self.name.encode())
                    continue
                writer.write(f"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {get('upgrade')}\r\n"
                             f"x-backend: {self.name}\r\n\r\n".encode())
                while data := await reader.read(65536):
                    writer.write(b"echo:" + data)
                    await writer.drain()
                return
            if method == "CONNECT":
                if get("x-want-status"):
                    writer.write(f"HTTP/1.1 {get('x-want-status')} No\r\ncontent-length: 2\r\n\r\nno".encode())
                    continue
                writer.write(f"HTTP/1.1 200 OK\r\nx-backend: {self.name}\r\n\r\n".encode())
                asked = "".join(f"{k.lower()}={v};" for k, v in sorted(headers))
                writer.write(f"{self.name}:{target}:{asked}\n".encode())
                while data := await reader.read(65536):
                    writer.write(b"echo:" + data)
                return
            head = [f"HTTP/1.1 {status} Status"] + [f"{k}: {v}" for k, v in hs]
            if how == "connection-close":
                head.append("connection: close")
            bodyless = method == "HEAD" or status in (204, 304)
            if tr or how == "chunked":
                head.append("transfer-encoding: chunked")
                half = len(out) // 2 or 1
                payload = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (out[:half], out[half:]) if p)
                payload += b"0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in tr) + b"\r\n"
            else:
                payload = out
                if how != "nolength" and status != 204:
                    head.append(f"content-length: {len(out)}")
            writer.write(("\r\n".join(head) + "\r\n\r\n").encode("latin1"))
            if how == "half":
                writer.write(payload[:len(payload) // 2])
                await writer.drain()
                return
            if not bodyless:
                writer.write(payload)
            await writer.drain()
            if how in ("nolength", "connection-close") or version == "HTTP/1.0":
                return

    async def serve_h2(self, reader, writer):
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin1",
                                                                    validate_inbound_headers=False))
        conn.initiate_connection()
        writer.write(conn.data_to_send())
        streams, room = {}, asyncio.Event()

        async def answer(sid):
            st = streams[sid]
            pseudo = {k: v for k, v in st["headers"] if k.startswith(":")}
            seen = {"method": pseudo.get(":method"), "path": pseudo.get(":path"), "version": "HTTP/2",
                    "headers": [("host", pseudo.get(":authority", ""))] + [(":scheme", pseudo.get(":scheme", ""))] +
                               [(k, v) for k, v in st["headers"] if not k.startswith(":")],
                    "body": st["body"].decode("latin1"), "trailers": st["trailers"]}
            status, hs, out, tr, want = self.plan(seen)
            how = (want("x-want") or [""])[0]
            if want("x-want-delay"):
                await asyncio.sleep(float(want("x-want-delay")[0]))
            try:
                if how == "hang":
                    await asyncio.sleep(600)
                if how in ("reset", "close"):
                    conn.reset_stream(sid, 8)
                elif how == "refuse":
                    conn.reset_stream(sid, 7)
                elif how == "goaway":
                    conn.close_connection()
                else:
                    bodyless = pseudo.get(":method") == "HEAD" or status in (204, 304)
                    extra = [] if bodyless or tr else [("content-length", str(len(out)))]
                    conn.send_headers(sid, [(":status", str(status)), *hs, *extra], end_stream=bodyless and not tr)
                    if how == "half":
                        conn.send_data(sid, out[:len(out) // 2])
                        conn.reset_stream(sid, 2)
                    elif not bodyless:
                        while out:
                            room.clear()
                            n = min(conn.local_flow_control_window(sid), conn.max_outbound_frame_size, len(out))
                            if n == 0:
                                writer.write(conn.data_to_send())
                                await room.wait()
                                continue
                            conn.send_data(sid, out[:n], end_stream=n == len(out) and not tr)
                            out = out[n:]
                            writer.write(conn.data_to_send())
                        if tr:
                            conn.send_headers(sid, tr, end_stream=True)
            except (h2.exceptions.ProtocolError, KeyError):
                pass
            writer.write(conn.data_to_send())

        jobs = set()
        try:
            while data := await reader.read(65536):
                for e in conn.receive_data(data):
                    if isinstance(e, h2.events.RequestReceived):
                        streams[e.stream_id] = {"headers": [tuple(x) for x in e.headers], "body": b"", "trailers": []}
                    elif isinstance(e, h2.events.DataReceived):
                        streams[e.stream_id]["body"] += e.data
                        conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                    elif isinstance(e, h2.events.TrailersReceived):
                        streams[e.stream_id]["trailers"] = [tuple(x) for x in e.headers]
                    elif isinstance(e, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
                        room.set()
                    if isinstance(e, h2.events.StreamEnded):
                        job = asyncio.ensure_future(answer(e.stream_id))
                        jobs.add(job)
                        job.add_done_callback(jobs.discard)
                writer.write(conn.data_to_send())
                await writer.drain()
        except h2.exceptions.ProtocolError:
            writer.write(conn.data_to_send())
        finally:
            for j in jobs:
                j.cancel()
