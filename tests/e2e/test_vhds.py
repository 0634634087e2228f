"""Virtual hosts as resources of their own (VHDS): a small xDS server drives a weft-proxy and an Envoy through the same changes;
then `weft control` sends a change of one service's rule to each kind of proxy, and no more than that."""
import http.client
import json
import re
import subprocess
import sys

import pytest
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401  (for the Anys)
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from google.protobuf import json_format
from meshtest import bootstrap, procs
from meshtest.mesh import until
from meshtest.xds_server import LISTENER, MESSAGES, ROUTES, VHOST, DeltaServer

ADS = {"ads": {}, "resource_api_version": "V3"}


def message(url, tree):
    return json_format.ParseDict(tree, MESSAGES[url]())


def vhost(table, name, domains, body):
    return message(VHOST, {"name": f"{table}/{name}", "domains": domains, "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": body}}}]})


def routes(table, *hosts, vhds=True, **more):
    tree = {"name": table, "virtual_hosts": [json_format.MessageToDict(h) for h in hosts], **more}
    return message(ROUTES, {**tree, "vhds": {"config_source": ADS}} if vhds else tree)


def listener(name, port, table):
    hcm = {"@type": bootstrap.HCM, "stat_prefix": name, "rds": {"route_config_name": table, "config_source": ADS},
           "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": bootstrap.ROUTER}}]}
    return message(LISTENER, {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                              "filter_chains": [{"filters": [{"name": "hcm", "typed_config": hcm}]}]})


class Driven:
    """A proxy that gets everything from a DeltaServer; tables r1 and r2, a listener each."""

    def __init__(self, kind, spawn, tmp_path, server):
        self.kind, self.server = kind, server
        self.ports, self.admin = {"r1": procs.free_port(), "r2": procs.free_port()}, procs.free_port()
        boot = {"node": {"id": kind, "cluster": "c"},
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
                "dynamic_resources": {"ads_config": {
                    "api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {
                        "cluster_name": "xds", "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}}}]},
                    "lds_config": ADS, "cds_config": ADS},
                "static_resources": {"clusters": [bootstrap.cluster("xds", server.port,
                                                                    typed_extension_protocol_options=bootstrap.h2_options())]}}
        config = tmp_path / f"{kind}.json"
        config.write_text(json.dumps(boot))
        for table, port in self.ports.items():
            server.set(listener(f"l-{table}", port, table))
        binary = procs.envoy_binary() if kind == "envoy" else procs.binary("weft-proxy")
        self.proc = spawn(kind, [binary, "-c", config, "--concurrency", "1", "-l", "warning"] +
                          (["--disable-hot-restart"] if kind == "envoy" else []))

    def ask(self, table, host):
        c = http.client.HTTPConnection("127.0.0.1", self.ports[table], timeout=20)
        c.request("GET", "/", headers={"host": host})
        r = c.getresponse()
        body = r.read().decode()
        c.close()
        return body if r.status == 200 else r.status

    def see(self):
        return {h: self.ask(*h.split("/")) for h in ("r1/a.test", "r1/b.test", "r1/c.test", "r2/d.test", "r2/own.test")}

    def becomes(self, **want):
        """Until hosts answer so; then everything that can be seen."""
        want = {f"{k[:2]}/{k[3:]}.test": v for k, v in want.items()}
        until(lambda: all(self.ask(*h.split("/")) == v for h, v in want.items()), f"{self.kind}: {want}")
        return self.see()

    def stats(self, names):
        text = procs.fetch(f"http://127.0.0.1:{self.admin}/stats")
        return {n: v for n, v in procs.parse_stats(text).items() if re.fullmatch(names, n)}

    def series(self):
        """The same as Prometheus gets it, labels in order."""
        text = procs.fetch(f"http://127.0.0.1:{self.admin}/stats/prometheus")
        found = re.findall(r"^envoy_http_rds_(config_reload|update_success)\{(.*)\} (\d+)$", text, re.M)
        return sorted((name, sorted(labels.split(",")), value) for name, labels, value in found)

    def dump(self):
        """Table -> names of its virtual hosts, and whether it refers to VHDS."""
        page = json.loads(procs.fetch(f"http://127.0.0.1:{self.admin}/config_dump"))
        part = next(c for c in page["configs"] if c["@type"].endswith(".RoutesConfigDump"))
        found = [d["route_config"] for d in part["dynamic_route_configs"]]
        return {r["name"]: (sorted(v["name"] for v in r.get("virtual_hosts", [])), "vhds" in r) for r in found}


def play(kind, spawn, tmp_path):
    """Everything that happens, as it was seen: a list of observations."""
    out, own = [], vhost("r2", "own", ["own.test"], "own")
    with DeltaServer() as s:
        p = Driven(kind, spawn, tmp_path, s)
        s.set(routes("r1"), routes("r2", own))
        s.put_hosts("r1", vhost("r1", "a", ["a.test"], "a1"), vhost("r1", "b", ["b.test"], "b1"))
        s.put_hosts("r2", vhost("r2", "d", ["d.test"], "d1"))
        out.append(p.becomes(r1_a="a1", r2_d="d1"))
        # Virtual hosts are asked for once, and not by name.
        asked = [r for r in s.requests if r.type_url == VHOST and not r.response_nonce]
        out.append([list(r.resource_names_subscribe) for r in asked])
        out.append(p.stats(r"http\.l-r\d\.rds\.(vhds\.)?r\d\.(config_reload|update_success|update_rejected|update_failure)"))
        out.append(p.series())
        n = len(s.responses)
        s.put_hosts("r1", vhost("r1", "a", ["a.test"], "a2"))
        out.append(p.becomes(r1_a="a2"))
        out.append([[x.name for x in r.resources] for r in s.responses[n:]])
        s.put_hosts("r1", vhost("r1", "a", ["a.test", "b.test"], "a3"), vhost("r1", "b", ["c.test"], "b3"))  # a domain moves
        out.append(p.becomes(r1_b="a3"))
        nacks = len(s.nacks())
        s.put_hosts("r1", vhost("r1", "b", ["c.test", "a.test"], "b4"))  # and cannot be in two places
        s.wait(lambda _: len(s.nacks()) > nacks)
        out.append(p.see())
        assert "a.test" in s.nacks()[-1].error_detail.message, s.nacks()[-1]
        s.put_hosts("r1", vhost("r1", "b", ["c.test"], "b5"))
        out.append(p.becomes(r1_c="b5"))
        s.put_hosts("r1", drop=["b"])
        out.append(p.becomes(r1_c=404))
        s.set(routes("r1", response_headers_to_add=[{"header": {"key": "x", "value": "y"}}]))  # around them: they stay
        s.put_hosts("r2", vhost("r2", "d", ["d.test"], "d2"))
        out += [p.becomes(r1_a="a3", r2_d="d2"), p.dump()]
        # The server is gone for a while; what changed meanwhile comes, and nothing else.
        port, kept = s.port, s.resources
    out.append(p.see())
    with DeltaServer(port) as s:
        s.resources = kept
        s.change([(VHOST, "r1/a", vhost("r1", "a", ["a.test"], "a6"))], [(VHOST, "r2/d")])
        out.append(p.becomes(r1_a="a6", r2_d=404))
        out.append(sorted((r.type_url.rsplit(".", 1)[1], [x.name for x in r.resources], list(r.removed_resources))
                          for r in s.responses if r.resources or r.removed_resources))
        s.set(routes("r1", vhost("r1", "all", ["*"], "whole"), vhds=False))  # no longer apart
        out.append(p.becomes(r1_c="whole"))
    return out


def test_as_envoy(spawn, tmp_path):
    weft, envoy = (play(kind, spawn, tmp_path) for kind in ("weft", "envoy"))
    for a, b in zip(weft, envoy, strict=True):
        assert a == b


def test_a_bad_host_alone_is_refused(spawn, tmp_path):
    """Envoy refuses all hosts of a response for the sake of one; weft-proxy takes the good ones, and names the host and field."""
    with DeltaServer() as s:
        p = Driven("weft", spawn, tmp_path, s)
        s.set(routes("r1"), routes("r2", vhost("r2", "own", ["own.test"], "own")))
        s.put_hosts("r1", vhost("r1", "a", ["a.test"], "a1"), vhost("r1", "b", ["b.test"], "b1"))
        p.becomes(r1_a="a1")
        bad = message(VHOST, {"name": "r1/a", "domains": ["a.test"], "routes": [{"match": {"prefix": "/"}},
                                                                              {"match": {"safe_regex": {"regex": "("}}}]})
        s.put_hosts("r1", bad, vhost("r1", "b", ["b.test"], "b2"))
        s.wait(lambda _: s.nacks())
        why = s.nacks()[-1].error_detail.message
        assert why.startswith("VHDS 'r1/a': routes[") and s.nacks()[-1].type_url == VHOST, why
        assert "'r1/b'" not in why
        assert p.becomes(r1_b="b2")["r1/a.test"] == "a1"


def test_refused_by_name(spawn, tmp_path):
    """A table that stands in the listener has no VHDS; on-demand fetching is not there."""
    ports = {n: procs.free_port() for n in ("listen", "admin", "b1", "b2", "h2", "dead")}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(bootstrap.build({"hcm": {"route_config": {"name": "local", "vhds": {"config_source": ADS}}}}, ports)))
    p = spawn("weft", [procs.binary("weft-proxy"), "-c", path, "--mode", "validate"])
    assert p.wait(30) != 0 and "route_config.vhds: only route configurations that come over RDS" in p.output(), p.output()
    with DeltaServer() as s:
        Driven("weft", spawn, tmp_path, s)
        more = listener("more", procs.free_port(), "r1")
        hcm = http_connection_manager_pb2.HttpConnectionManager()
        more.filter_chains[0].filters[0].typed_config.Unpack(hcm)
        hcm.http_filters.insert(0, http_connection_manager_pb2.HttpFilter(name="envoy.filters.http.on_demand"))
        hcm.http_filters[0].typed_config.type_url = "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand"
        more.filter_chains[0].filters[0].typed_config.Pack(hcm)
        s.set(more)
        s.wait(lambda _: s.nacks())
        why = s.nacks()[-1].error_detail.message
        assert "OnDemand, which is not needed here: virtual hosts come when the control plane sends them" in why, why


# ---- weft control ----

def service(i):
    return f"""apiVersion: v1
kind: Service
metadata: {{name: svc-{i}, namespace: books}}
spec: {{clusterIP: 10.96.8.{i + 1}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
"""


def rule(status):
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc-7, namespace: books}}
spec: {{hosts: [svc-7], http: [{{directResponse: {{status: {status}}}}}]}}
"""


def told_envoy(tmp_path):
    """An Envoy whose node says VHDS: "true"."""
    path = tmp_path / "envoy-vhds"
    path.write_text(f"""#!{sys.executable}
import os, sys
args = [a.replace('"metadata":{{', '"metadata":{{"VHDS":"true",', 1) for a in sys.argv[1:]]  # of --config-yaml
for i, a in enumerate(args):
    if a == "-c":
        text = open(args[i + 1]).read()
        args[i + 1] += ".told"
        open(args[i + 1], "w").write(text.replace('"metadata":{{', '"metadata":{{"VHDS":"true",', 1))
os.execv({procs.envoy_binary()!r}, [{procs.envoy_binary()!r}, *args])
""")
    path.chmod(0o755)
    return path


RX = r"^cluster\.xds-grpc\.upstream_cx_rx_bytes_total$"


@pytest.mark.parametrize("kind", ["weft", "envoy", "envoy-told"])
def test_a_change_costs_what_changed(mesh, tmp_path, kind):
    m = mesh()
    m.write("services.yaml", "".join(service(i) for i in range(80)))
    m.apply("rule.yaml", rule(418))
    proxy = {"weft": None, "envoy": procs.envoy_binary(), "envoy-told": told_envoy(tmp_path)}[kind]
    c = m.client("c", proxy=proxy)
    m.settle()

    def status(host="svc-7.books"):
        return c.call("meshtest.load:get", url=f"http://{host}/")["status"]

    until(lambda: status() == 418, "the rule is in force")
    before, nothing = c.stat(RX), m.page("/debug/syncz")
    assert ("NOT SENT" if kind == "envoy" else "SYNCED") == nothing[0]["VHDS"]["state"]
    m.apply("rule.yaml", rule(419))
    until(lambda: status() == 419, "the change is in force")
    m.settle()
    cost = c.stat(RX) - before
    assert cost > 20_000 if kind == "envoy" else cost < 4_000, cost
    # Services that go and come, one at a time.
    before = c.stat(RX)
    m.apply("services.yaml", "".join(service(i) for i in range(80) if i != 3))
    names = until(lambda: "svc-3.books" not in c.admin("/config_dump") and c.admin("/config_dump"), "the virtual host is gone", 90)
    assert "svc-4.books" in names
    m.apply("services.yaml", "".join(service(i) for i in range(80)))
    until(lambda: "svc-3.books" in c.admin("/config_dump"), "the virtual host is back")
    assert status() == 419
    table = subprocess.run([m.weft, "proxy-config", "--admin", f"127.0.0.1:{c.published[15000]}", "routes"], capture_output=True, text=True)
    assert "svc-3.books" in table.stdout and "svc-7.books" in table.stdout, table.stdout + table.stderr
