"""Secrets from files: certificates, keys and roots that change on disk are in force for new connections while old ones go on, as with Envoy."""
import json
import os
import ssl

import pytest
from meshtest import bootstrap, certs, http1, procs
from meshtest.backend import Backend
from meshtest.corpus import tls_socket
from meshtest.mesh import until
from meshtest.proxy import Proxy

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


class Renamed:
    """Files that are replaced one after the other."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def put(self, **files):
        for name, data in files.items():
            new = self.folder.parent / f"{self.folder.name}-{name}.new"
            new.write_bytes(data)
            os.rename(new, self.folder / name)


class Volume(Renamed):
    """As Kubernetes mounts a Secret: NAME -> ..data/NAME, ..data -> a folder; all change at once when ..data is replaced."""
    number = 0

    def put(self, **files):
        self.number += 1
        version = self.folder / f"..version-{self.number}"
        version.mkdir()
        old = self.folder / "..data"
        if old.exists():
            files = {**{f.name: f.read_bytes() for f in old.iterdir()}, **files}
        for name, data in files.items():
            (version / name).write_bytes(data)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        os.rename(link, old)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


class World:
    """A plain listener :port -> cluster with a client certificate -> the proxy's own :second, which asks for one -> a backend.
    The three secrets are server, client and roots, each in a folder of its own."""

    def __init__(self, spawn, tmp_path, kind, folders, watched):
        self.kind, self.watched, self.sds = kind, watched, tmp_path / "sds"
        self.sds.mkdir()
        self.pki, self.other = certs.Pki(tmp_path / "pki"), certs.Pki(tmp_path / "pki/other", "another root")
        self.at = {n: folders(tmp_path / n) for n in ("server", "client", "roots")}
        self.backend = Backend("b1").start()
        self.spawn, self.tmp_path = spawn, tmp_path

    def put_cert(self, secret, leaf):
        self.at[secret].put(crt=leaf.cert.read_bytes(), key=leaf.key.read_bytes())

    def put_all(self):
        self.put_cert("server", self.pki.leaf("one"))
        self.put_cert("client", self.pki.leaf("anna"))
        self.at["roots"].put(ca=self.pki.root_cert.read_bytes())

    def file(self, secret, name):
        return {"filename": str(self.at[secret].folder / name)}

    def put_source(self, name, text=None, called=None, key="key"):
        body = {"trusted_ca": self.file(name, "ca")} if name == "roots" else {
            "certificate_chain": self.file(name, "crt"), "private_key": self.file(name, key)}
        if self.watched:
            body["watched_directory"] = {"path": str(self.at[name].folder)}
        kind = "validation_context" if name == "roots" else "tls_certificate"
        new = self.sds / f"{name}.new"
        new.write_text(text or json.dumps({"resources": [{"@type": TLS + "Secret", "name": called or name, kind: body}]}))
        os.rename(new, self.sds / f"{name}.json")

    def reference(self, name, **more):
        return {"name": name, "sds_config": {"path_config_source": {"path": str(self.sds / f"{name}.json")}, "resource_api_version": "V3", **more}}

    def bootstrap(self):
        down = {"@type": TLS + "DownstreamTlsContext", "require_client_certificate": True, "common_tls_context": {
            "tls_certificate_sds_secret_configs": [self.reference("server")],
            "validation_context_sds_secret_config": self.reference("roots")}}
        up = {"common_tls_context": {"tls_certificate_sds_secret_configs": [self.reference("client")]}}
        # The same secret, but not the same ConfigSource.
        again = {"common_tls_context": {"tls_certificate_sds_secret_configs": [self.reference("client", initial_fetch_timeout="7s")]}}
        hcm = {"@type": bootstrap.HCM, "stat_prefix": "inner", "forward_client_cert_details": "SANITIZE_SET",
               "set_current_client_cert_details": {"subject": True},
               "route_config": {"name": "inner", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]}]},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": bootstrap.ROUTER}}]}
        once = {"hosts": ["second"], "http": {"common_http_protocol_options": {"max_requests_per_connection": 1}}}
        return {"routes": [{"match": {"prefix": f"/{n}"}, "route": {"cluster": n or "inner"}} for n in ("again", "")],
                "clusters": [{"name": "inner", "tls": up, **once}, {"name": "again", "tls": again, **once}],
                "listeners": [{"name": "inner", "address": {"socket_address": {"address": "127.0.0.1", "port_value": "{second}"}},
                               "filter_chains": [{"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": down},
                                                  "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}],
                "bootstrap": {"node": {"id": "n", "cluster": "c"}}}

    def start(self):
        for name in self.at:
            self.put_source(name)
        self.proxy = Proxy(self.spawn, self.tmp_path, self.bootstrap(), {"b1": self.backend.port}, kind=self.kind)
        until(lambda: self.upstream_client() == "anna" and self.server() == "one", "the first secrets")
        return self

    def connect(self, pki, cert):
        """A connection to the inner listener, and the server's name on it; None: refused."""
        try:
            sock = tls_socket(self.proxy.ports["second"], {"cert": cert, "trust": False}, pki)
            c = http1.Client(self.proxy.ports["second"], sock=sock)
            assert c.request(path="/").status == 200
        except (ssl.SSLError, http1.Closed, OSError):
            return None, None
        der = sock.getpeercert(binary_form=True)
        return c, next(n for n in ("one", "two") if ssl.PEM_cert_to_DER_cert(self.pki.leaf(n).cert.read_text()) == der)

    def server(self, pki=None, cert="visitor"):
        c, name = self.connect(pki or self.pki, cert)
        if c:
            c.sock.close()
        return name

    def upstream_client(self, path="/"):
        """Whose certificate the cluster showed; else the status."""
        r = http1.get(self.proxy.port, path)
        if r.status != 200:
            return r.status
        said = dict(json.loads(r.body)["headers"])["x-forwarded-client-cert"]
        return said.split('O=')[1].split('"')[0]

    def count(self, secret, what):
        return self.proxy.stats().get(f"sds.{secret}.{what}", 0)


@pytest.fixture(params=["weft", "envoy"])
def kind(request):
    return request.param


@pytest.mark.parametrize("folders,watched", [(Renamed, False), (Volume, False), (Volume, True)], ids=["renames", "volume", "watched-volume"])
def test_rotated_files_serve_new_connections(spawn, tmp_path, kind, folders, watched):
    w = World(spawn, tmp_path, kind, folders, watched)
    w.put_all()
    w.start()
    old, _ = w.connect(w.pki, "visitor")
    w.put_cert("server", w.pki.leaf("two"))
    until(lambda: w.server() == "two", "the new certificate")
    w.put_cert("client", w.pki.leaf("bert"))
    until(lambda: w.upstream_client() == "bert", "the new client certificate")
    until(lambda: w.upstream_client("/again") == "bert", "also where another cluster names it")
    assert w.server(w.other, "stranger") is None
    w.at["roots"].put(ca=w.other.root_cert.read_bytes())
    until(lambda: w.server(w.other, "stranger") == "two", "the new root")
    assert w.server() is None and w.upstream_client() == 503
    assert old.request(path="/").status == 200
    for name in w.at:
        assert (w.count(name, "update_success"), w.count(name, "update_rejected"), w.count(name, "update_failure")) == ((2 if kind == "envoy" and name == "client" else 1), 0, 0)
    if folders is Volume:  # never a certificate beside another's key
        assert w.count("server", "key_rotation_failed") == 0


def test_what_is_bad_changes_nothing(spawn, tmp_path, kind):
    w = World(spawn, tmp_path, kind, Renamed, False)
    w.put_all()
    w.start()
    w.at["server"].put(crt=b"no certificate")
    until(lambda: w.count("server", "key_rotation_failed") >= 1, "the file is looked at")
    assert w.server() == "one"
    w.at["server"].put(crt=w.pki.leaf("two").cert.read_bytes())  # of another key
    until(lambda: w.count("server", "key_rotation_failed") >= 2, "the other file is looked at")
    assert w.server() == "one"
    w.put_source("server", text="{resources: [")
    until(lambda: w.count("server", "update_failure") == 1, "a source that is no YAML")
    w.put_source("server", called="somebody")
    until(lambda: w.count("server", "update_rejected") == 1, "a source without the secret")
    w.put_source("server", key="nowhere")
    until(lambda: w.count("server", "update_rejected") == 2, "a source that names a file that is not there")
    assert w.server() == "one" and w.upstream_client() == "anna"
    assert w.count("server", "update_attempt") == 4
    w.put_cert("server", w.pki.leaf("two"))
    w.put_source("server")
    until(lambda: w.server() == "two", "good files")
    if kind == "weft":
        w.proxy.proc.stop()
        out = w.proxy.proc.output()
        assert "files of a secret refused, the last good ones stay in force name=server" in out
        assert "it has no such secret" in out and "private_key: cannot open" in out
        assert "PRIVATE KEY" not in out


def test_files_that_come_after_the_start(spawn, tmp_path):
    """Envoy refuses the secret for good then; here its files are waited for."""
    w = World(spawn, tmp_path, "weft", Volume, True)
    w.put_cert("client", w.pki.leaf("anna"))
    w.at["roots"].put(ca=w.pki.root_cert.read_bytes())
    for name in w.at:
        w.put_source(name)
    ports = {n: procs.free_port() for n in ("listen", "second", "admin", "dead", "b2", "h2")}
    conf = tmp_path / "boot.json"
    conf.write_text(json.dumps(bootstrap.build(w.bootstrap(), {**ports, "b1": w.backend.port})))
    proc = spawn("weft", [procs.binary("weft-proxy"), "-c", conf, "--concurrency", "1"])
    stats = lambda: procs.parse_stats(procs.fetch(f"http://127.0.0.1:{ports['admin']}/stats"))  # noqa: E731
    until(lambda: stats().get("sds.server.update_rejected") == 1, "the secret without files")
    w.put_cert("server", w.pki.leaf("one"))
    procs.wait_port(ports["second"], proc)
    until(lambda: http1.get(ports["listen"], "/").status == 200, "the certificate that came")


@pytest.mark.parametrize("there", [False, True], ids=["missing", "another"])
def test_a_source_is_refused_by_name(spawn, tmp_path, there):
    w = World(spawn, tmp_path, "weft", Volume, True)
    if there:
        w.put_all()
        for name in w.at:
            w.put_source(name)
    ports = {n: procs.free_port() for n in ("listen", "second", "admin", "dead", "b1", "b2", "h2")}
    conf = tmp_path / "boot.json"
    text = json.dumps(bootstrap.build(w.bootstrap(), ports))
    conf.write_text(text.replace("client.json", "server.json", 1))  # the first of two
    p = spawn("weft", [procs.binary("weft-proxy"), "-c", conf, "--mode", "validate"])
    p.wait(60)
    if there:
        assert "secret 'client': sds_config: this name comes from another source already" in p.output()
    else:
        assert "sds_config: path_config_source.path: " in p.output() and "cannot be read" in p.output()
