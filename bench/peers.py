"""What `bench/run` measures: processes and their configurations. A peer is (commands to start, in order; the
port that is loaded)."""
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from meshtest import bootstrap, certs, procs

TOP = Path(__file__).resolve().parent.parent
RELEASE = TOP / "build/release"
WEFT = TOP / "build/tuned/src/main/weft-proxy"
PROXY_CORE, LOAD_CORE = 0, 1


def tree(pid):
    """A process and all below it."""
    out = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            out += tree(int(child))
    return out


def cpu_s(pids):
    """Seconds on a CPU of all threads, by the scheduler's clock: counting by ticks (/proc/PID/stat) misses a
    process that runs in short turns between two of them."""
    return sum(int((t / "schedstat").read_text().split()[0])
               for p in pids for t in Path(f"/proc/{p}/task").iterdir()) / 1e9


def rss_kb(pids):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{p}/status").read_text())[1]) for p in pids)


def wait_port(port, p, timeout=30):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if p.poll() is not None:
            raise RuntimeError(f"{' '.join(p.args)} ended with {p.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.002)
    raise RuntimeError(f"nothing on port {port}: {' '.join(p.args)}")


class Peers:
    """The processes of one case; close() ends them and removes their files."""

    kinds = ("weft", "envoy")

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="weft-bench-"))
        self.log = open(self.dir / "peers.log", "wb")
        self.running = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))

    def spawn(self, argv, core=PROXY_CORE, port=None):
        p = subprocess.Popen(["taskset", "-c", str(core), *map(str, argv)], stdin=subprocess.DEVNULL,
                             stdout=self.log, stderr=subprocess.STDOUT)
        self.running.append(p)
        if port:
            wait_port(port, p)
        return p

    def end(self, p):
        p.kill()
        p.wait()
        self.running.remove(p)

    def close(self):
        for p in reversed(list(self.running)):
            self.end(p)
        self.log.close()
        shutil.rmtree(self.dir)

    def tell(self):
        """What the processes said, for a failure."""
        self.log.flush()
        return (self.dir / "peers.log").read_text(errors="replace")[-3000:]

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    # ---- backends ----
    def backend(self, size):
        port = procs.free_port()
        self.spawn([RELEASE / "bench/backend", port, size, self.dir / "count"], LOAD_CORE, port)
        return port

    def backend_h2(self, size, grpc=False):
        port = procs.free_port()
        self.spawn([RELEASE / "bench/backend_h2", port, size, self.dir / "count"] + ["grpc"] * grpc, LOAD_CORE, port)
        return port

    def answered(self):
        """Requests that the backend has answered so far."""
        return int.from_bytes((self.dir / "count").read_bytes(), "little")

    # ---- proxies ----
    def envoy_like(self, kind, name, case, backend):
        """weft-proxy ("weft") or Envoy on the same bootstrap."""
        ports = {"listen": procs.free_port(), "admin": procs.free_port(), "tmp": str(self.dir), "name": name,
                 "b1": backend, "b2": backend, "h2": backend, "dead": 1}
        path = self.file(f"{name}.json", json.dumps(bootstrap.build(case, ports)))
        argv = [WEFT if kind == "weft" else procs.envoy_binary(), "-c", path, "--concurrency", "1", "-l", "error"]
        return [(argv + ["--disable-hot-restart"] * (kind == "envoy"), ports["listen"])], ports["listen"]

    def both(self, case, backend):
        return {k: self.envoy_like(k, k, case, backend) for k in self.kinds}

    def nginx(self, backend, log=False):
        port = procs.free_port()
        access = f"{self.dir}/nginx.log combined buffer=64k flush=1s" if log else "off"
        path = self.file("nginx.conf", f"""daemon off; master_process off; pid {self.dir}/nginx.pid;
error_log {self.dir}/nginx.err; events {{ worker_connections 4096; }}
http {{ access_log {access}; client_body_temp_path {self.dir}/b; proxy_temp_path {self.dir}/p; fastcgi_temp_path {self.dir}/f;
uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s; keepalive_requests 100000000;
upstream up {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
""")
        return [(["nginx", "-c", path, "-p", self.dir], port)], port

    def haproxy(self, backend, mode="http"):
        port = procs.free_port()
        path = self.file(f"haproxy-{mode}.cfg", f"""global
  nbthread 1
  maxconn 5000
defaults
  mode {mode}
  timeout client 60s
  timeout server 60s
  timeout connect 5s
{"  http-reuse always" if mode == "http" else ""}
listen l
  bind 127.0.0.1:{port}
  server s 127.0.0.1:{backend}
""")
        return [(["haproxy", "-db", "-f", path], port)], port

    def floor(self, backend):
        port = procs.free_port()
        return [([RELEASE / "bench/floor", port, backend], port)], port

    def mtls_pair(self, kind, backend):
        """Client side: plain in, mTLS HTTP/2 out. Server side: mTLS in, HTTP/1 out, RBAC where both know it."""
        pki = certs.Pki(self.dir / f"pki-{kind}")
        leaf = pki.leaf("a")
        identity = {"tls_certificates": [{"certificate_chain": {"filename": str(leaf.cert)}, "private_key": {"filename": str(leaf.key)}}],
                    "validation_context": {"trusted_ca": {"filename": str(pki.root_cert)}}, "alpn_protocols": ["h2"]}
        name = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
        server_tls = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": name + "DownstreamTlsContext", "common_tls_context": identity, "require_client_certificate": True}}
        client_tls = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": name + "UpstreamTlsContext", "common_tls_context": identity}}
        server, port = self.envoy_like(kind, f"{kind}-server", {"filter_chain": {"transport_socket": server_tls}}, backend)
        client, entry = self.envoy_like(kind, f"{kind}-client", {
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "peer"}}],
            "clusters": [bootstrap.cluster("peer", port, transport_socket=client_tls,
                                           typed_extension_protocol_options=bootstrap.h2_options())]}, backend)
        return server + client, entry
