"""One weft-proxy (or Envoy) with a static bootstrap, and its admin page."""
import json
import re

from . import bootstrap, http1, procs


class Proxy:
    def __init__(self, spawn, tmp_path, case=None, ports=None, kind="weft", args=(), env=None):
        self.ports = dict({"b1": 1, "b2": 1, "h2": 1}, **(ports or {}))
        self.ports.update(listen=procs.free_port(), admin=procs.free_port(), dead=procs.free_port(),
                          second=procs.free_port(), tmp=str(tmp_path))
        self.port, self.admin = self.ports["listen"], self.ports["admin"]
        self.config = tmp_path / f"{kind}-{self.port}.json"
        self.config.write_text(json.dumps(bootstrap.build(case or {}, self.ports), indent=1))
        binary = procs.envoy_binary() if kind == "envoy" else procs.binary("weft-proxy")
        argv = [binary, "-c", self.config, "--concurrency", "1", "-l", "info", "--file-flush-interval-msec", "50", *args]
        self.proc = spawn(kind, argv + (["--disable-hot-restart"] if kind == "envoy" else []), env=env)
        procs.wait_port(self.admin, self.proc)  # neither comes always first
        procs.wait_port(self.port, self.proc)

    @property
    def pid(self):
        return self.proc.pid

    def get(self, path="/", **kw):
        return http1.get(self.port, path, **kw)

    def ask(self, path, method="GET"):
        """The admin's answer as text."""
        return procs.fetch(f"http://127.0.0.1:{self.admin}{path}", method)

    def stats(self):
        return procs.parse_stats(self.ask("/stats"))

    def stat(self, pattern):
        """Sum of the stats whose name matches."""
        return sum(v for k, v in self.stats().items() if re.search(pattern, k))

    def rss_kb(self):
        return procs.rss_kb(self.pid)
