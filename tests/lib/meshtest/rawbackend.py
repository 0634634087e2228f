"""Backends that keep every byte they got. Each answers one request a connection, as the strict reader sees it."""
import selectors
import socket
import threading

from . import strict

SENTINEL = b"/~sentinel"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


class Link:
    def __init__(self, sock):
        self.sock, self.got, self.answered = sock, b"", False


class Recorder:
    """One port. `connections()`: the bytes of each connection that was not a sentinel's, since reset()."""

    def __init__(self, pool):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.links, self.lock = [], pool.lock

    def reset(self):
        with self.lock:
            self.links.clear()

    def connections(self):
        with self.lock:
            return [bytes(l.got) for l in self.links if l.got and SENTINEL not in l.got.split(b"\r\n", 1)[0]]

    def answer(self, link):
        requests, complaint = strict.read(link.got)
        if complaint:
            link.answered = True
            return b"HTTP/1.1 400 Unclear\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        if not requests or not requests[0].complete:
            return b""
        link.answered = True
        return SWITCH if requests[0].get(b"upgrade") and requests[0].get(b"x-want") == [b"101"] else OK


class Pool:
    """All recorders of a run in one thread."""

    def __init__(self):
        self.lock, self.sel, self.over = threading.Lock(), selectors.DefaultSelector(), False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def recorder(self):
        r = Recorder(self)
        self.sel.register(r.listener, selectors.EVENT_READ, r)
        return r

    def start(self):
        self.thread.start()

    def stop(self):
        self.over = True
        if self.thread.is_alive():
            self.thread.join(60)
        for key in list(self.sel.get_map().values()):
            key.fileobj.close()
        self.sel.close()

    def run(self):
        while not self.over:
            for key, _ in self.sel.select(0.2):
                if isinstance(key.data, Recorder):
                    sock, _ = key.fileobj.accept()
                    sock.setblocking(False)
                    link = Link(sock)
                    with self.lock:
                        key.data.links.append(link)
                    self.sel.register(sock, selectors.EVENT_READ, (key.data, link))
                else:
                    self.read(*key.data)

    def read(self, recorder, link):
        try:
            got = link.sock.recv(1 << 20)
        except OSError:
            got = b""
        with self.lock:
            link.got += got
        try:
            if got and not link.answered and (out := recorder.answer(link)):
                link.sock.sendall(out)
                if out is OK:  # what else comes is recorded
                    link.sock.shutdown(socket.SHUT_WR)
        except OSError:
            got = b""
        if not got:
            self.sel.unregister(link.sock)
            link.sock.close()
