"""Configuration from files: what is moved into place is in force soon, what cannot be read changes nothing; as with Envoy."""
import json
import os
import socket

import pytest
from meshtest import bootstrap, http1, procs
from meshtest.backend import Backend
from meshtest.mesh import until
from meshtest.proxy import Proxy

T = "type.googleapis.com/envoy."
TYPES = {"cds": "config.cluster.v3.Cluster", "lds": "config.listener.v3.Listener", "rds": "config.route.v3.RouteConfiguration",
         "eds": "config.endpoint.v3.ClusterLoadAssignment"}


class Files:
    """A folder of DiscoveryResponses; each is replaced by a rename."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        folder.mkdir()

    def path(self, kind):
        return str(self.folder / f"{kind}.yaml")

    def put(self, kind, *resources, text=None):
        self.number += 1
        new = self.folder / f"{kind}.new"
        new.write_text(text if text is not None else json.dumps(
            {"version_info": str(self.number), "resources": [{"@type": T + TYPES[kind], **r} for r in resources]}))
        os.rename(new, self.path(kind))

    def source(self, kind):
        return {"path_config_source": {"path": self.path(kind)}, "resource_api_version": "V3"}


def assignment(*ports):
    return {"cluster_name": "all", "endpoints": [{"lb_endpoints": [bootstrap.endpoint(p) for p in ports]}]}


def routes(prefix="/", cluster="all"):
    return {"name": "local", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": prefix}, "route": {"cluster": cluster}}]}]}


def listener(files, name, port):
    hcm = {"@type": bootstrap.HCM, "stat_prefix": name, "rds": {"route_config_name": "local", "config_source": files.source("rds")},
           "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": bootstrap.ROUTER}}]}
    return {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}


def cluster(files, name="all"):
    return {"name": name, "type": "EDS", "connect_timeout": "2s",
            "eds_cluster_config": {"service_name": "all", "eds_config": files.source("eds")}}


@pytest.fixture(params=["weft", "envoy"])
def world(request, spawn, tmp_path):
    class World:
        kind = request.param
        files = Files(tmp_path / "conf")
        backends = [Backend("b1").start(), Backend("b2").start()]
        port = procs.free_port()
    w = World()
    w.files.put("eds", assignment(w.backends[0].port))
    w.files.put("cds", cluster(w.files))
    w.files.put("rds", routes())
    w.files.put("lds", listener(w.files, "one", w.port))
    w.proxy = Proxy(spawn, tmp_path, {"bootstrap": {"node": {"id": "n", "cluster": "c"}, "dynamic_resources": {
        "cds_config": w.files.source("cds"), "lds_config": w.files.source("lds")}}}, kind=w.kind)
    procs.wait_port(w.port, w.proxy.proc)
    w.answers = lambda path="/": (lambda r: (r.status, r.get("x-backend")))(http1.get(w.port, path))
    return w


def test_files_are_followed(world):
    f = world.files
    until(lambda: world.answers() == (200, "b1"), "the first configuration")
    f.put("eds", assignment(world.backends[1].port))
    until(lambda: world.answers() == (200, "b2"), "other endpoints")
    f.put("rds", routes("/only"))
    until(lambda: world.answers()[0] == 404, "other routes")
    assert world.answers("/only") == (200, "b2")
    second = procs.free_port()
    f.put("lds", listener(f, "one", world.port), listener(f, "two", second))
    procs.wait_port(second, world.proxy.proc)
    f.put("lds", listener(f, "two", second))

    def closed():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", world.port)) != 0
    until(closed, "the listener that is gone from its file")
    assert http1.get(second, "/only").status == 200
    assert world.proxy.stat(r"^listener_manager\.lds\.update_success$") == 3


@pytest.mark.parametrize("bad", ["{resources: [", "{resources: [{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, nmae: x}]}",
                                 "{resources: [{'@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: x}]}"])
def test_a_bad_file_changes_nothing(world, bad):
    until(lambda: world.answers() == (200, "b1"), "the first configuration")
    world.files.put("cds", text=bad)
    until(lambda: world.proxy.stat(r"^cluster_manager\.cds\.update_(failure|rejected)$") >= 1, "the file is looked at")
    assert world.answers() == (200, "b1")
    world.files.put("cds", cluster(world.files), cluster(world.files, "more"))
    until(lambda: "more::" in world.proxy.ask("/clusters"), "a good one follows")
    assert world.answers() == (200, "b1")
    if world.kind == "weft":
        world.proxy.proc.stop()
        assert "cds.yaml" in world.proxy.proc.output()


def test_a_file_must_be_there_at_the_start(spawn, tmp_path):
    conf = tmp_path / "b.json"
    conf.write_text(json.dumps({"node": {"id": "n", "cluster": "c"}, "dynamic_resources": {
        "cds_config": {"path_config_source": {"path": "/nonexistent/x.yaml"}}}}))
    p = spawn("weft", [procs.binary("weft-proxy"), "-c", conf, "--mode", "validate"])
    p.wait(60)
    assert "dynamic_resources.cds_config.path_config_source.path: '/nonexistent/x.yaml' cannot be read" in p.output()
