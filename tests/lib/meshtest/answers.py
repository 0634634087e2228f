"""A TCP server of a few lines: each connection is handed to a function, in a thread of its own.

    server = Answers(lambda c: c.sendall(b"…"))
    … server.port …
    server.sock.close()
"""
import contextlib
import socket
import threading


class Answers:
    def __init__(self, fn, timeout=60):
        self.sock, self.fn, self.timeout = socket.create_server(("127.0.0.1", 0), backlog=64), fn, timeout
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        c.settimeout(self.timeout)
        with c, contextlib.suppress(OSError):
            self.fn(c)
