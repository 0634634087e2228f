"""Attack case 26: a request for a host whose own filter chain is another one than the connection's."""
import ssl

import pytest
from meshtest import bystander, certs, http1, http2
from meshtest.backend import Backend
from meshtest.bootstrap import HCM, ROUTER
from meshtest.bystander import Undisturbed
from meshtest.corpus import tls_socket
from meshtest.proxy import Proxy

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
INSPECTOR = {"name": "envoy.filters.listener.tls_inspector",
             "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}


def redirects(cluster):
    return [{"match": {"prefix": "/go"}, "route": {"cluster": cluster, "internal_redirect_policy": {"allow_cross_scheme_redirect": True}}},
            {"match": {"prefix": "/there"}, "request_headers_to_remove": ["x-want-status"], "route": {"cluster": cluster}}]


def chain(pki, names, cluster, require=False):
    """Every chain would take every host: it is the connection that decides who may ask."""
    leaf = pki.leaf("shared", dns=["*.shop.test", "shop.test"])
    common = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [
        {"certificate_chain": {"filename": str(leaf.cert)}, "private_key": {"filename": str(leaf.key)}}]}
    if require:
        common["validation_context"] = {"trusted_ca": {"filename": str(pki.root_cert)}}
    return {"filter_chain_match": {"server_names": names} if names else {}, "transport_socket": {
        "name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS, "require_client_certificate": require, "common_tls_context": common}},
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": HCM, "stat_prefix": "ingress", "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                {"match": {"path": "/bystander"}, "route": {"cluster": cluster}}, *redirects(cluster), {"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}}]}


@pytest.fixture
def gateway(spawn, tmp_path):
    pki = certs.Pki(tmp_path / "pki")
    pki.leaf("client")
    with Backend("open") as b1, Backend("admin") as b2:
        p = Proxy(spawn, tmp_path, {"listener": {"listener_filters": [INSPECTOR]}, "filter_chains": [
            chain(pki, ["*.shop.test", "shop.test"], "b1"), chain(pki, ["admin.shop.test"], "b2", require=True), chain(pki, [], "b1")]},
            {"b1": b1.port, "b2": b2.port}, env=bystander.ENV)
        p.pki, p.open, p.admin_backend = pki, b1, b2
        yield p


def ask(p, sni, host, alpn="h2", cert=None):
    how = {"sni": sni, "alpn": [alpn]}
    if cert:
        how["cert"] = cert
    sock = tls_socket(p.port, how, p.pki)
    with (http2.Client if alpn == "h2" else http1.Client)(p.port, sock=sock) as c:
        return c.request(host=host).status


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_26_a_host_of_another_chain_is_misdirected(gateway, alpn):
    p = gateway
    # Without a certificate of its own, nobody reaches the chain that asks for one by another's connection.
    for sni in ("www.shop.test", "shop.test", "other.test"):
        for host in ("admin.shop.test", "ADMIN.shop.test:443"):
            assert ask(p, sni, host, alpn) == 421
    assert not p.admin_backend.seen
    assert not p.open.seen
    assert p.stat(r"^http\.ingress\.downstream_rq_misdirected$") == 6
    # What is coalesced within a chain, or with a chain that fits no better, is served.
    for sni, host in (("www.shop.test", "www.shop.test"), ("www.shop.test", "img.shop.test"), ("www.shop.test", "unknown.test"),
                      ("shop.test", "www.shop.test"), ("other.test", "another.test")):
        assert ask(p, sni, host, alpn) == 200
    assert ask(p, "admin.shop.test", "admin.shop.test", alpn, cert="client") == 200
    assert len(p.admin_backend.seen) == 1


def test_26_the_connection_goes_on(gateway):
    sock = tls_socket(gateway.port, {"sni": "www.shop.test", "alpn": ["h2"]}, gateway.pki)
    with http2.Client(gateway.port, sock=sock) as c:
        for host, status in (("www.shop.test", 200), ("admin.shop.test", 421), ("img.shop.test", 200)):
            assert c.request(host=host).status == status


def test_26_a_redirect_does_not_lead_there_either(gateway):
    """A server that redirects where it is told to, and a proxy that follows: the other chain's host is still not served."""
    sock = tls_socket(gateway.port, {"sni": "www.shop.test", "alpn": ["h2"]}, gateway.pki)
    with http2.Client(gateway.port, sock=sock) as c:
        for host, status in (("admin.shop.test", 302), ("ADMIN.shop.test:443", 302), ("img.shop.test", 200)):
            r = c.request(host="www.shop.test", path="/go", headers=[("x-want-status", "302"), ("x-want-header", f"location: https://{host}/there")])
            assert r.status == status
    assert [dict(s["headers"])["host"] for s in gateway.open.seen if s["path"] == "/there"] == ["img.shop.test"]
    assert not gateway.admin_backend.seen


def test_35_a_hello_that_never_ends_disturbs_nobody(spawn, tmp_path):
    """Client hellos in single bytes, records that lie about their length, and no hello at all: other clients are served."""
    pki = certs.Pki(tmp_path / "pki")
    with Backend("b1") as b1:
        p = Proxy(spawn, tmp_path, {"listener": {"listener_filters": [INSPECTOR], "listener_filters_timeout": "1s"}, "filter_chains": [
            chain(pki, ["shop.test"], "b1"),
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": chain(pki, [], "b1")["filters"]}]}, {"b1": b1.port}, env=bystander.ENV)
        ctx = ssl.create_default_context()
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        out = ssl.MemoryBIO()
        hello = ctx.wrap_bio(ssl.MemoryBIO(), out, server_hostname="shop.test")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        bytes_of_hello = out.read()
        attacks = [bytes_of_hello[:3], bytes_of_hello[:-1], b"\x16\x03\x01\xff\xff" + bytes_of_hello[5:], b"\x16\x03\x01\x00\x01\x01" * 3000, b""]
        with Undisturbed(p):
            socks = []
            for data in attacks * 10:
                c = http1.Client(p.port)
                for i in range(0, min(len(data), 600)):
                    try:
                        c.send(data[i:i + 1])
                    except OSError:  # refused already
                        break
                socks.append(c)
            for c in socks:  # an alert may come first
                c.sock.settimeout(60)
                try:
                    while c.sock.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        assert p.stat(r"^listener\..*\.(downstream_pre_cx_timeout|downstream_listener_filter_error)$") > 0
