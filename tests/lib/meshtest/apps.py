"""Servers for workloads: python -m meshtest.apps http --port 8080 --name a --version v1

http: answers JSON with what it saw; x-backend and x-version say who answered. The path or query asks for more:
  /sleep?s=0.5         answers after that time
  --idle-close S       closes connections that were idle that long, without a word (a short keep-alive)
"""
import argparse
import http.server
import json
import signal
import sys
import threading
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one write
    options = None

    def do_GET(self):
        u = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(u.query))
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if u.path == "/sleep":
            time.sleep(float(query.get("s", "1")))
        out = json.dumps({"backend": self.options.name, "version": self.options.version, "method": self.command, "path": self.path,
                          "peer": self.client_address[0], "body": body.decode("latin1"),
                          "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(int(query.get("status", "200")))
        self.send_header("content-type", "application/json")
        self.send_header("x-backend", self.options.name)
        self.send_header("x-version", self.options.version)
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve_http(o):
    Handler.options = o
    if o.idle_close:
        Handler.timeout = o.idle_close
    server = Server(("0.0.0.0", o.port), Handler)
    # As careful programs do: no new connections, then the end. What is in flight is the proxy's to wait for.
    signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("kind", choices=["http"])
    ap.add_argument("--port", type=int, default=8080)
    ap.add_argument("--name", default="app")
    ap.add_argument("--version", default="v1")
    ap.add_argument("--idle-close", type=float, default=0)
    o = ap.parse_args()
    serve_http(o)


if __name__ == "__main__":
    sys.exit(main())
