"""Attack case 46: what a stranger can make many of costs in proportion to its number, no more. Measured as CPU time of
the proxy, by the scheduler's clock, for N and for 4 N: a quadratic cost would be 16 times as much."""
import json
import subprocess

import pytest
from meshtest import bootstrap, http1, procs
from meshtest.backend import Backend
from meshtest.bystander import cpu_s
from meshtest.proxy import Proxy

GROWTH = 8  # of the cost when the number is 4 times as large; the fixed part of a request makes it less than 4


def cost(p, raw, times=12, trials=4):
    """The least that a request cost the proxy; the least, since others use the machine, too."""
    best = 1e9
    for _ in range(trials):
        with http1.Client(p.port) as c:
            c.send(raw)
            assert c.response().status in (200, 404), raw[:100]
            begin = cpu_s(p.pid)
            for _ in range(times):
                c.send(raw)
                c.response()
            best = min(best, (cpu_s(p.pid) - begin) / times)
    return best


def get(fields, path=b"/"):
    return b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + fields + b"\r\n"


def colliding(n):
    """Names of one length that differ in two bytes: what a weak hash throws together."""
    return b"".join(b"x-%04x%s: y\r\n" % (i, b"a" * 20) for i in range(n))


MANY = {
    "names": (400, lambda n: get(colliding(n))),
    "one-name": (400, lambda n: get(b"x-same: y\r\n" * n)),
    "cookies": (400, lambda n: get(b"".join(b"cookie: c%d=v\r\n" % i for i in range(n)))),
    "cookie-crumbs": (2000, lambda n: get(b"cookie: " + b"; ".join(b"c%d=v" % i for i in range(n)) + b"\r\n")),
    "connection-tokens": (1000, lambda n: get(b"connection: " + b", ".join(b"x-%d" % i for i in range(n)) + b"\r\n" + colliding(90))),
    "accept-encoding": (2000, lambda n: get(b"accept-encoding: " + b", ".join(b"e%d;q=0.1" % i for i in range(n)) + b"\r\n")),
    "forwarded-for": (2000, lambda n: get(b"x-forwarded-for: " + b", ".join(b"1.2.3.4" for _ in range(n)) + b"\r\n")),
    "query": (1000, lambda n: get(b"", b"/q?" + b"&".join(b"k%d=v" % i for i in range(n)))),
    "segments": (2000, lambda n: get(b"", b"/" + b"a/../" * n)),
    "slashes": (4000, lambda n: get(b"", b"/" + b"/" * n)),
    "escapes": (2000, lambda n: get(b"", b"/" + b"%61%2e" * n)),
    "regex": (2000, lambda n: get(b"", b"/re/" + b"a" * n)),
    "te-tokens": (2000, lambda n: get(b"te: " + b", ".join(b"t%d" % i for i in range(n)) + b"\r\n")),
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    tmp, started = tmp_path_factory.mktemp("growth"), []

    def spawn(title, argv, **kw):
        started.append(procs.Proc(title, argv, tmp, **kw))
        return started[-1]
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp, {
            "hcm": {"common_http_protocol_options": {"max_headers_count": 5000}, "max_request_headers_kb": 512, "use_remote_address": True, "xff_num_trusted_hops": 1,
                    "normalize_path": True, "merge_slashes": True, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"},
            "routes": [{"match": {"prefix": "/q", "query_parameters": [{"name": "none", "present_match": True}]}, "direct_response": {"status": 404}},
                       {"match": {"safe_regex": {"regex": "/re/(a|aa)+(a|aa)+b"}}, "direct_response": {"status": 404}},
                       {"match": {"prefix": "/", "headers": [{"name": "x-none", "string_match": {"exact": "y"}}]}, "direct_response": {"status": 404}},
                       {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}, {"b1": b1.port})
        yield p
        assert p.proc.stop() == 0, p.proc.output()


@pytest.mark.parametrize("name", MANY)
def test_46_many_of_a_kind(proxy, name):
    n, make = MANY[name]
    for _ in range(3):  # others use the machine, too: what lasts, counts
        few, many = cost(proxy, make(n)), cost(proxy, make(4 * n))
        if many <= GROWTH * max(few, 20e-6):
            break
    assert many <= GROWTH * max(few, 20e-6), f"{n}: {few * 1e6:.0f} us, {4 * n}: {many * 1e6:.0f} us"



def route(i):
    return {"name": f"v{i:05d}", "domains": [f"h{i:05d}.test", f"*.w{i:05d}.test"], "routes": [{"match": {"prefix": f"/{i:05d}"}, "route": {"cluster": "b1"}}]}


CONFIGS = {
    "virtual-hosts": lambda n: {"virtual_hosts": [route(i) for i in range(n)]},
    "routes": lambda n: {"routes": [{"match": {"prefix": f"/{i:05d}"}, "route": {"cluster": "b1"}} for i in range(n)]},
    "clusters": lambda n: {"clusters": [{"name": f"c{i:05d}" + "a" * 20} for i in range(n)]},
    "endpoints": lambda n: {"clusters": [{"name": "big", "load_assignment": {"cluster_name": "big", "endpoints": [{"lb_endpoints": [
        bootstrap.endpoint(1000 + i % 60000, f"127.{i // 60000}.{i // 250 % 250}.{i % 250}") for i in range(n)]}]}}]},
    "ring-hash": lambda n: {"clusters": [{"name": "big", "lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}, "load_assignment": {
        "cluster_name": "big", "endpoints": [{"lb_endpoints": [bootstrap.endpoint(1000 + i, "127.0.0.1") for i in range(n)]}]}}]},
    "server-names": lambda n: {"listener": {"listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]}, "filter_chains": [
        {"filter_chain_match": {"server_names": [f"h{i:05d}.test", f"*.w{i:05d}.test"]}, "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "b1"}}]} for i in range(n)]},
}


def loading(tmp_path, case, ports):
    """CPU seconds to read and check a configuration."""
    config = tmp_path / "c.json"
    config.write_text(json.dumps(bootstrap.build(case, ports)))
    best = 1e9
    for _ in range(2):
        r = subprocess.run(["bash", "-c", 'TIMEFORMAT="%U"; time "$0" -c "$1" --mode validate >"$1.out" 2>&1', procs.binary("weft-proxy"), config],
                           capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, (tmp_path / "c.json.out").read_text()[-2000:]
        best = min(best, float(r.stderr.split()[-1]))
    return best


@pytest.mark.parametrize("name", CONFIGS)
def test_46_configuration_in_proportion(tmp_path, name):
    ports = {"listen": procs.free_port(), "admin": procs.free_port(), "b1": 1, "b2": 1, "h2": 1, "dead": 1}
    for _ in range(3):
        few, many = (loading(tmp_path, CONFIGS[name](n), ports) for n in (500, 2000))
        if many <= GROWTH * max(few, 0.02):
            break
    assert many <= GROWTH * max(few, 0.02), f"500: {few} s, 2000: {many} s"
