"""The cases of `bench/run`. A case returns {table: Table}; what is measured is CPU time of the proxy a request
unless its unit says otherwise."""
import dataclasses
import re
import socket
import statistics
import subprocess
import time

from meshtest import bootstrap

import peers as P

FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
CPU = "CPU µs/request"


@dataclasses.dataclass
class Goal:
    most: float
    of: str = ""  # the peer that it is a multiple of; without one it is in the table's own unit


@dataclasses.dataclass
class Table:
    title: str
    unit: str
    figures: dict  # peer -> figure, smaller is better
    goals: list = dataclasses.field(default_factory=list)


# ---- load ----

def wrk(port, seconds, connections=64, headers=()):
    argv = ["taskset", "-c", str(P.LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    out = subprocess.run([*argv, *[a for h in headers for a in ("-H", h)], f"http://127.0.0.1:{port}/"],
                         check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"wrk saw failures:\n{out}")
    unit = {"us": 1, "ms": 1000, "s": 1e6}
    m = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    return int(re.search(r"(\d+) requests in", out)[1]), float(m[1]) * unit[m[2]]


def h2load(port, seconds, args=()):
    out = subprocess.run(["taskset", "-c", str(P.LOAD_CORE), "h2load", "-t1", "-c8", "-m32", f"-D{seconds}", "--warm-up-time=0", *args,
                          f"http://127.0.0.1:{port}/bench.Bench/Call"], check=True, capture_output=True, text=True).stdout
    m = re.search(r"(\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", out)
    bad = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", out)
    if any(int(x) for x in (*m.groups()[1:], *bad.groups())):
        raise RuntimeError(f"h2load saw failures:\n{out}")
    return int(m[1]), 0.0


def measure(b, args, peers, load, in_flight=64):
    """Medians over the rounds, the peers (but None) taking turns: CPU µs a request and p50 latency in µs."""
    peers = {n: p for n, p in peers.items() if p}
    pids, cost, p50 = {}, {n: [] for n in peers}, {n: [] for n in peers}
    for name, (argvs, port) in peers.items():
        started = [b.spawn(a, P.PROXY_CORE, p) for a, p in argvs]
        pids[name] = [q for p in started for q in P.tree(p.pid)]
        load(port, 1)
    for _ in range(args.rounds):
        for name, (_, port) in peers.items():
            spent, done = P.cpu_s(pids[name]), b.answered()
            n, latency = load(port, args.seconds)
            cost[name].append((P.cpu_s(pids[name]) - spent) / n * 1e6)
            p50[name].append(latency)
            done = b.answered() - done
            if not n <= done <= n + 2 * in_flight:  # what was in flight at the end is not counted as answered
                raise RuntimeError(f"{name}: {n} answers to the client, but the backend gave {done}")
    return ({n: statistics.median(v) for n, v in cost.items()}, {n: statistics.median(v) for n, v in p50.items()})


# ---- HTTP ----

def http1(b, args):
    backend = b.backend(1024)
    got, _ = measure(b, args, {**b.both({}, backend), "nginx": b.nginx(backend), "haproxy": b.haproxy(backend),
                               "floor": b.floor(backend)}, wrk)
    return {"http1": Table("HTTP/1 proxied, 64 connections", CPU, got, [Goal(0.42, "envoy"), Goal(1.0, "nginx")])}


def routes_20():
    """The last of 20 takes the request: ten differ by path, nine by a header, four of those also by a pattern."""
    to = {"cluster": "b1"}
    out = [{"match": {"prefix": f"/service-{i}/"}, "route": to} for i in range(10)]
    for i in range(9):
        match = [{"name": "x-user", "string_match": {"exact": f"user-{i}"}}]
        if i % 2:
            match.append({"name": "x-version", "string_match": {"safe_regex": {"regex": f"v{i}\\.[0-9]+"}}})
        out.append({"match": {"prefix": "/", "headers": match}, "route": to})
    return out + [{"match": {"prefix": "/", "headers": [{"name": "x-version", "present_match": True}]}, "route": to}]


HEADERS = ("x-user: user-77", "x-version: v1.2", "user-agent: bench/1.0", "accept: */*")


def http1_mesh(b, args):
    backend = b.backend(1024)
    got, _ = measure(b, args, b.both({"routes": routes_20()}, backend), lambda port, s: wrk(port, s, headers=HEADERS))
    return {"http1-mesh": Table("the same with 20 routes, 10 of them by header", CPU, got, [Goal(0.42, "envoy")])}


def http1_log(b, args):
    backend = b.backend(1024)
    case = {"routes": routes_20(), "hcm": {"access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": FILE_LOG, "path": "{tmp}/{name}.access.log"}}]}}
    got, _ = measure(b, args, {**b.both(case, backend), "nginx": b.nginx(backend, log=True)},
                     lambda port, s: wrk(port, s, headers=HEADERS))
    return {"http1-log": Table("the same with an access log (nginx: no routes)", CPU, got, [Goal(0.42, "envoy")])}


def http1_100k(b, args):
    backend = b.backend(102400)
    got, _ = measure(b, args, {**b.both({}, backend), "nginx": b.nginx(backend), "haproxy": b.haproxy(backend),
                               "floor": b.floor(backend)}, wrk)
    return {"http1-100k": Table("HTTP/1 proxied, 100 KB responses", CPU, got, [Goal(1.0, "haproxy")])}


def latency(b, args):
    backend = b.backend(1024)
    _, p50 = measure(b, args, {**b.both({}, backend), "nginx": b.nginx(backend), "haproxy": b.haproxy(backend),
                               "floor": b.floor(backend)}, lambda port, s: wrk(port, s, connections=1))
    return {"latency": Table("one connection, p50 latency", "µs", p50, [Goal(1.0, "nginx")])}


H2_CASE = {"routes": [{"match": {"prefix": "/"}, "route": {"cluster": "h2"}}], "hcm": {"codec_type": "HTTP2"}}


def http2(b, args):
    backend = b.backend_h2(1024)
    got, _ = measure(b, args, b.both(H2_CASE, backend), h2load, 256)
    return {"http2": Table("HTTP/2 cleartext both sides, 8 × 32 streams", CPU, got, [Goal(0.60, "envoy")])}


def grpc(b, args):
    backend = b.backend_h2(1024, grpc=True)
    message = b.dir / "message"
    message.write_bytes(b"\0" + (128).to_bytes(4, "big") + bytes(128))
    got, _ = measure(b, args, b.both(H2_CASE, backend), lambda port, s: h2load(
        port, s, ["-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"]), 256)
    return {"grpc": Table("gRPC unary, 8 × 32 calls", CPU, got, [Goal(0.55, "envoy")])}


def mtls_pair(b, args):
    backend = b.backend(1024)
    got, _ = measure(b, args, {k: b.mtls_pair(k, backend) for k in b.kinds}, wrk)
    return {"mtls-pair": Table("two sidecars, mTLS and HTTP/2 between, both together", CPU, got, [Goal(0.45, "envoy")])}


def tcp(b, args):
    backend = b.backend(1024)
    case = {"filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": TCP, "stat_prefix": "tcp", "cluster": "b1"}}]}]}
    got, _ = measure(b, args, {**b.both(case, backend), "haproxy": b.haproxy(backend, "tcp"), "floor": b.floor(backend)}, wrk)
    return {"tcp": Table("TCP proxy, an exchange of 1 KB", CPU, got, [Goal(1.08, "floor")])}


def virtual_hosts(n):
    return [{"name": f"svc-{i}", "domains": [f"svc-{i}.ns.svc.cluster.local", f"svc-{i}.ns", f"svc-{i}.ns:8080"],
             "routes": [{"match": {"prefix": f"/p{k}/" if k < 9 else "/"}, "route": {"cluster": "b1"}} for k in range(10)]}
            for i in range(n)]


def routes_10k(b, args):
    backend = b.backend(1024)
    peers = {f"{k}{tag}": b.envoy_like(k, f"{k}{tag}", {"virtual_hosts": hosts}, backend)
             for tag, hosts in (("", virtual_hosts(10000)), (", one host", virtual_hosts(1)))
             for k in b.kinds}
    host = {port: f"Host: svc-{0 if 'one' in n else 7777}.ns.svc.cluster.local" for n, (_, port) in peers.items()}
    got, _ = measure(b, args, peers, lambda port, s: wrk(port, s, headers=[host[port]]))
    return {"routes-10k": Table("a table of 10,000 virtual hosts × 10 routes", CPU, got, [Goal(1.1, "weft, one host")])}


# ---- weight ----

def first_answer(b, peer):
    """Starts it and asks until it answers; returns the process and the seconds that took."""
    (argv, port), = peer[0]
    began = time.monotonic()
    p = b.spawn(argv)
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
                s.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                if s.recv(12).startswith(b"HTTP/1.1 200"):
                    return p, time.monotonic() - began
        except OSError:
            if time.monotonic() > began + 30:
                raise RuntimeError("it never answered:\n" + b.tell()) from None
            time.sleep(0.0003)


def settled_kb(p):
    """Resident memory once it has stopped shrinking."""
    low = P.rss_kb(P.tree(p.pid))
    for _ in range(20):
        time.sleep(0.25)
        now = P.rss_kb(P.tree(p.pid))
        if now >= low:
            return low
        low = now
    return low


def connect(port):
    return socket.create_connection(("127.0.0.1", port))


def ask(s):
    s.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")


def idle_kb(b, p, port, used, n=2000):
    """KB for a client connection that does nothing now: fresh, or after one request. Those follow one another, so
    that they share one connection to the backend."""
    socks = [connect(port) for _ in range(20)]
    for s in socks:
        ask(s)
        s.recv(4096)
    before = settled_kb(p)
    for _ in range(n):
        s = connect(port)
        socks.append(s)
        if used:
            ask(s)
            s.recv(4096)
    time.sleep(1)
    grown = settled_kb(p) - before
    for s in socks:
        s.close()
    return grown / n


def memory(b, args):
    backend = b.backend(1024)
    many = [bootstrap.cluster(f"c{i}", *[20000 + k for k in range(10)]) for i in range(1000)]
    cols = ("rest", "big", "fresh", "used", "first", "start")
    got = {c: {} for c in cols}
    for kind in ("weft", "envoy"):
        plain = b.envoy_like(kind, kind, {}, backend)
        big = b.envoy_like(kind, f"{kind}-big", {"clusters": many}, backend)
        firsts, starts = [], []
        for _ in range(args.rounds):
            p, seconds = first_answer(b, plain)
            firsts.append(seconds * 1000)
            b.end(p)
            p, _ = first_answer(b, big)
            starts.append(P.cpu_s(P.tree(p.pid)) * 1000)
            got["big"][kind] = settled_kb(p) / 1024
            b.end(p)
        got["first"][kind], got["start"][kind] = statistics.median(firsts), statistics.median(starts)
        for used in (False, True):
            p, _ = first_answer(b, plain)
            if not used:
                got["rest"][kind] = settled_kb(p) / 1024
            got["used" if used else "fresh"][kind] = idle_kb(b, p, plain[1], used)
            b.end(p)
    return {"memory-rest": Table("resident memory at rest", "MB", got["rest"], [Goal(7)]),
            "memory-1000": Table("resident memory, 1,000 static clusters × 10 endpoints, unused", "MB", got["big"], [Goal(12)]),
            "memory-fresh": Table("a client connection that has asked nothing yet", "KB", got["fresh"], [Goal(1)]),
            "memory-idle": Table("an idle client connection after one request", "KB", got["used"], [Goal(1)]),
            "first-answer": Table("start to first answer", "ms", got["first"], [Goal(7)]),
            "start-1000": Table("CPU of a start with 1,000 × 10", "ms", got["start"], [Goal(50)])}


CASES = {"http1": http1, "http1-mesh": http1_mesh, "http1-log": http1_log, "http1-100k": http1_100k, "latency": latency,
         "http2": http2, "grpc": grpc, "mtls-pair": mtls_pair, "tcp": tcp, "routes-10k": routes_10k, "memory": memory}
