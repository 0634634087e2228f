"""The life of a secret that comes by ADS: fetched when somebody names it, given up when nobody does, its key out of the process'
memory once the last connection that used it has ended, fetched anew later; and no blink when one change drops and names it again."""
import json
import ssl
import subprocess

import pytest
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401  (for the Anys)
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401
from google.protobuf import json_format
from meshtest import bootstrap, certs, http1, procs
from meshtest.corpus import tls_socket
from meshtest.mesh import until
from meshtest.xds_server import LISTENER, MESSAGES, SECRET, DeltaServer

ADS = {"ads": {}, "resource_api_version": "V3"}
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def message(url, tree):
    return json_format.ParseDict(tree, MESSAGES[url]())


def forms_of_key(path):
    """What of a P-256 key would be found in memory: its text, and its number in both orders of bytes."""
    der = subprocess.run(["openssl", "pkey", "-in", path, "-outform", "DER"], check=True, capture_output=True).stdout
    at = der.index(b"\x04\x20") + 2
    lines = path.read_text().splitlines()[1:-1]
    return {"text": max(lines, key=len).encode(), "number": der[at:at + 32], "limbs": der[at:at + 32][::-1]}


def found_in_memory(pid, forms):
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, mode = line.split()[:2]
            low, high = (int(x, 16) for x in span.split("-"))
            if not mode.startswith("rw") or high - low > 1 << 30:  # a sanitizer's shadow
                continue
            mem.seek(low)
            try:
                data = mem.read(high - low)
            except OSError:
                continue
            found |= {n for n, f in forms.items() if f in data}
    return found


class World:
    def __init__(self, spawn, tmp_path, server, files):
        self.files, self.server, self.pki = files, server, certs.Pki(tmp_path / "pki")
        self.ports = {n: procs.free_port() for n in ("a", "b")}
        self.admin = procs.free_port()
        boot = {"node": {"id": "n", "cluster": "c"},
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
                "dynamic_resources": {"ads_config": {
                    "api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
                    "lds_config": ADS, "cds_config": ADS},
                "static_resources": {"clusters": [bootstrap.cluster("xds", server.port,
                                                                    typed_extension_protocol_options=bootstrap.h2_options())]}}
        config = tmp_path / "boot.json"
        config.write_text(json.dumps(boot))
        self.put_secret("one", "one")
        self.server.set(self.listener("a", "one"))
        self.proc = spawn("weft", [procs.binary("weft-proxy"), "-c", config, "--concurrency", "1", "-l", "info", "--drain-time-s", "1"])
        procs.wait_port(self.ports["a"], self.proc)

    def put_secret(self, name, leaf):
        made = self.pki.leaf(leaf)
        form = (lambda f: {"filename": str(f)}) if self.files else (lambda f: {"inline_string": f.read_text()})
        self.server.set(message(SECRET, {"name": name, "tls_certificate": {"certificate_chain": form(made.cert), "private_key": form(made.key)}}))

    def listener(self, name, secret):
        hcm = {"@type": bootstrap.HCM, "stat_prefix": name,
               "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": bootstrap.ROUTER}}]}
        down = {"@type": TLS + "DownstreamTlsContext", "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": secret, "sds_config": ADS}]}}
        return message(LISTENER, {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.ports[name]}},
                                  "filter_chains": [{"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": down},
                                                     "filters": [{"name": "hcm", "typed_config": hcm}]}]})

    def connect(self, name):
        """A connection, and which leaf the listener showed on it."""
        sock = tls_socket(self.ports[name], {"trust": False}, self.pki)
        der = sock.getpeercert(binary_form=True)
        shown = [n for n in ("one", "two") if (self.pki.dir / f"{n}.pem").exists()
                 and ssl.PEM_cert_to_DER_cert(self.pki.leaf(n).cert.read_text()) == der]
        return http1.Client(self.ports[name], sock=sock), shown[0]

    def shows(self, name):
        try:
            c, shown = self.connect(name)
        except OSError:
            return None
        c.sock.close()
        return shown

    def get(self, path):
        return procs.fetch(f"http://127.0.0.1:{self.admin}{path}")

    def secrets(self):
        dump = next(c for c in json.loads(self.get("/config_dump"))["configs"] if c["@type"].endswith("SecretsConfigDump"))
        return sorted(s["name"] for k in ("dynamic_active_secrets", "dynamic_warming_secrets") for s in dump.get(k, []))

    def stats(self, secret):
        return {n.split(".")[-1]: v for n, v in procs.parse_stats(self.get("/stats")).items() if n.startswith(f"sds.{secret}.")}

    def serial(self, leaf):
        out = subprocess.run(["openssl", "x509", "-in", self.pki.leaf(leaf).cert, "-noout", "-serial"], check=True, capture_output=True, text=True)
        return out.stdout.strip().split("=")[1].lower()


@pytest.fixture(params=[False, True], ids=["inline", "files"])
def world(spawn, tmp_path, request):
    with DeltaServer() as server:
        yield World(spawn, tmp_path, server, request.param)


def test_a_secret_that_nobody_uses_is_given_up(world):
    w = world
    forms = forms_of_key(w.pki.leaf("one").key)
    old, shown = w.connect("a")
    assert shown == "one" and w.secrets() == ["one"] and w.stats("one")["update_success"] == 1
    assert w.serial("one") in w.get("/certs").lower()
    assert "limbs" in found_in_memory(w.proc.pid, forms)  # it is a key in use
    w.put_secret("two", "two")
    w.server.set(w.listener("a", "two"))
    until(lambda: w.shows("a") == "two", "the other secret")
    until(lambda: w.server.subscribed(SECRET) == ["two"], "the subscription ends")
    until(lambda: w.secrets() == ["two"] and w.stats("one") == {}, "nothing shows it any more")
    assert w.serial("one") not in w.get("/certs").lower()
    old.sock.close()
    until(lambda: not found_in_memory(w.proc.pid, forms), "its key leaves the memory", pause=0.5)
    # Wanted again: another certificate has taken its name meanwhile.
    w.put_secret("one", "two")
    asked = len(w.server.requests)
    w.server.set(w.listener("b", "one"))
    until(lambda: w.shows("b") == "two", "a secret that is wanted again")
    assert any("one" in r.resource_names_subscribe for r in w.server.requests[asked:])
    assert w.stats("one")["update_success"] == 1


def test_a_change_that_drops_it_and_names_it_again_does_not_blink(world):
    w = world
    w.server.change([(LISTENER, "b", w.listener("b", "one"))], [(LISTENER, "a")])
    until(lambda: w.shows("b") == "one", "the listener that takes over")
    until(lambda: w.shows("a") is None, "the other one is gone")
    assert not any("one" in r.resource_names_unsubscribe for r in w.server.requests)
    assert w.stats("one")["update_success"] == 1 and w.secrets() == ["one"]
