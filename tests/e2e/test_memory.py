"""What the proxy's memory is spent on, in bytes that malloc handed out (/memory), so that neither the machine nor other
processes have a say: a client connection that does nothing, a cluster, an endpoint. The budgets are what they take now and a
fifth; who needs more should know that every user pays for it."""
import json
import socket
import time

import pytest
from meshtest import bootstrap, certs, http1
from meshtest.mesh import until
from meshtest.proxy import Proxy

N = 500
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
DIRECT = {"routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "here"}}}]}


def allocated(proxy):
    """When it has stopped changing: what a connection ended with, and what pools hold, goes back a little later."""
    last = None
    for _ in range(100):
        now = int(json.loads(proxy.ask("/memory"))["allocated"])
        if now == last:
            return now
        last = now
        time.sleep(0.2)
    return last


def connect(proxy, ask):
    s = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    if ask:
        s.sendall(REQUEST)
        got = b""
        while not got.endswith(b"here"):
            piece = s.recv(4096)
            assert piece, got
            got += piece
    return s


@pytest.mark.parametrize("used, budget", [(False, 1024), (True, 1024)])
def test_an_idle_client_connection(spawn, tmp_path, used, budget):
    proxy = Proxy(spawn, tmp_path, DIRECT)
    socks = [connect(proxy, True) for _ in range(50)]  # what is made once: stats, pools, tables
    before = allocated(proxy)
    socks += [connect(proxy, used) for _ in range(N)]
    until(lambda: proxy.stat(r"^http\..*\.downstream_cx_active$") >= N + 50, "all connections")
    each = (allocated(proxy) - before) / N
    print(f"{each:.0f} bytes a connection, used: {used}")
    assert each <= budget
    for s in socks:
        s.close()


def with_clusters(spawn, path, clusters, endpoints):
    path.mkdir()
    made = [bootstrap.cluster(f"c{i}", *[20000 + k for k in range(endpoints)]) for i in range(clusters)]
    return allocated(Proxy(spawn, path, dict(DIRECT, clusters=made)))


def test_clusters_and_endpoints(spawn, tmp_path):
    none = with_clusters(spawn, tmp_path / "none", 0, 0)
    few = with_clusters(spawn, tmp_path / "few", N, 1)
    many = with_clusters(spawn, tmp_path / "many", N, 11)
    cluster, endpoint = (few - none) / N, (many - few) / N / 10
    print(f"{cluster:.0f} bytes a cluster of one endpoint, {endpoint:.0f} an endpoint more")
    assert cluster <= 2000
    assert endpoint <= 400


def mutual(i):
    """As a mesh has it for each service: the names differ, certificate and roots do not."""
    names = [{"san_type": "URI", "matcher": {"exact": f"spiffe://cluster.local/ns/many/sa/s{i}"}}]
    return {"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": f"outbound_.80_._.s{i}.many.svc.cluster.local", "common_tls_context": {
            "alpn_protocols": ["istio"], "tls_certificate_sds_secret_configs": [{"name": "default"}],
            "combined_validation_context": {"default_validation_context": {"match_typed_subject_alt_names": names},
                                            "validation_context_sds_secret_config": {"name": "ROOTCA"}}}}}


def cost_of_use(spawn, path, tls):
    """Bytes of a cluster before anybody used it, and what it takes more once somebody did."""
    path.mkdir()
    pki, n = certs.Pki(path / "pki"), 100
    leaf = pki.leaf("me")
    file = lambda f: {"filename": str(f)}  # noqa: E731
    secrets = [{"name": "default", "tls_certificate": {"certificate_chain": file(leaf.cert), "private_key": file(leaf.key)}},
               {"name": "ROOTCA", "validation_context": {"trusted_ca": file(pki.root_cert)}}]
    made = [bootstrap.cluster(f"c{i}", "{dead}", **({"transport_socket": mutual(i)} if tls else {})) for i in range(n)]
    proxy = Proxy(spawn, path, {"routes": [{"match": {"prefix": "/"}, "route": {"cluster_header": "to"}}], "clusters": made,
                                "bootstrap": {"static_resources": {"secrets": secrets}}})
    unused = allocated(proxy)
    client = http1.Client(proxy.port)
    for i in range(n):
        assert client.request(path="/", headers=[("to", f"c{i}")]).status == 503
    client.sock.close()
    return unused / n, (allocated(proxy) - unused) / n


def test_clusters_with_mutual_tls(spawn, tmp_path):
    plain, tls = cost_of_use(spawn, tmp_path / "plain", False), cost_of_use(spawn, tmp_path / "tls", True)
    unused, used = tls[0] - plain[0], tls[1] - plain[1]
    print(f"mutual TLS: {unused:.0f} bytes more an unused cluster, {used:.0f} more once it is used")
    assert unused <= 1000
    assert used <= 8000
