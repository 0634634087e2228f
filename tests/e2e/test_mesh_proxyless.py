"""gRPC's own xDS clients (grpcio, grpc-go, grpc-js) find and call services of the mesh through `weft control`, without a sidecar."""
import socket
import sys

import pytest
from meshtest import grpcxds, procs
from meshtest.mesh import destination_rule, service, to, until, virtual_service

HOST = "echo.books.svc.cluster.local"
V1, V2, MORE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def pod(name, ip, version):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "books", "labels": {"app": "echo", "version": version}},
            "spec": {}, "status": {"podIP": ip, "phase": "Running"}}


@pytest.fixture
def world(mesh, spawn, tmp_path):
    """A mesh whose services run on loopback addresses; world.client is of the kind that the test is for."""
    return World(mesh, spawn, tmp_path)


@pytest.fixture(params=["python", "go", "node"])
def client(request, world, tmp_path):
    c = grpcxds.Client(request.param, tmp_path, world.address)
    yield c
    c.close()


class World:
    def __init__(self, mesh, spawn, tmp_path):
        self.spawn, self.port = spawn, procs.free_port()
        self.address = f"127.0.0.1:{procs.free_port()}"
        self.mesh = mesh(control_args=["--discovery-address", self.address])
        self.mesh.write("echo.yaml", service("echo", "books", {"app": "echo"}, 80, self.port, port_name="grpc"))
        self.mesh.write("pods.yaml", pod("echo-v1", V1, "v1"), pod("echo-v2", V2, "v2"))
        self.mesh.write("rule.yaml", destination_rule("echo", "books", "echo"))
        for ip, name in ((V1, "v1"), (V2, "v2"), (MORE, "more")):
            spawn(name, [sys.executable, "-m", "meshtest.grpcapp", "--port", str(self.port), "--name", name, "--host", ip],
                  env={"PYTHONPATH": str(grpcxds.LIB)})
            until(lambda ip=ip: not socket.create_connection((ip, self.port), 5).close(), f"{name} listens")

    def route(self, *http):
        self.mesh.write("routes.yaml", virtual_service("echo", "books", "echo", list(http)))

    def settle(self):
        self.mesh.settle(proxies=self.mesh.page("/debug/configz")["proxies"])

    def refused(self):
        return [p["field"] for p in self.mesh.problems() if p["code"] == "GrpcUnsupported"]


def by(client, metadata=None, n=20, target=HOST + ":80"):
    r = client.call(target, metadata, n)
    assert r["code"] == 0, r
    return r["by"]


def test_routes_endpoints_and_names(world, client):
    # Without rules every endpoint gets its turn; short names are names too.
    assert set(until(lambda: len(b := by(client)) == 2 and b, "both versions answer")) == {"v1", "v2"}
    assert set(by(client, target="echo:80")) <= {"v1", "v2"}

    # By header; what has none of these values; the rest.
    world.route({"match": [{"headers": {"x-user": {"exact": "eva"}}}], "route": [to("echo", "v2")]},
                {"match": [{"headers": {"x-user": {"regex": "a[ln]+a?"}}}], "route": [to("echo", "v2")]},
                {"match": [{"withoutHeaders": {"x-kind": {"exact": "beta"}}, "queryParams": {"q": {"exact": "1"}}}], "route": [to("nobody")]},
                {"match": [{"withoutHeaders": {"x-kind": {"exact": "beta"}}, "uri": {"prefix": "/weft."}, "method": {"exact": "POST"}}],
                 "route": [to("echo", "v1")]},
                {"route": [to("echo", "v2")]})
    world.settle()
    until(lambda: by(client, {"x-user": "eva"}) == {"v2": 20}, "eva's calls go to v2")
    assert by(client, {"x-user": "ann"}) == {"v2": 20} and by(client, {"x-user": "bob"}) == {"v1": 20} and by(client) == {"v1": 20}
    assert by(client, {"x-kind": "alpha"}) == {"v1": 20} and by(client, {"x-kind": "beta"}) == {"v2": 20}

    # Shares.
    world.route({"route": [to("echo", "v1", 80), to("echo", "v2", 20)]})
    world.settle()
    until(lambda: set(by(client, n=100)) == {"v1", "v2"}, "both get a share")
    got = by(client, n=500)
    assert 40 <= got["v2"] <= 180, got

    # An endpoint comes, another goes.
    world.route({"route": [to("echo", "v2")]})
    world.settle()
    until(lambda: by(client) == {"v2": 20}, "all go to v2")
    world.mesh.write("pods.yaml", pod("echo-v1", V1, "v1"), pod("echo-v2", V2, "v2"), pod("echo-more", MORE, "v2"))
    until(lambda: set(by(client)) == {"v2", "more"}, "the new one is used")
    world.mesh.write("pods.yaml", pod("echo-v1", V1, "v1"), pod("echo-more", MORE, "v2"))
    until(lambda: by(client) == {"more": 20}, "the old one is no longer used")
    assert not world.refused()
    # grpcio has a stream for each target, grpc-go one.
    until(lambda: all(s[t]["state"] == "SYNCED" for s in world.mesh.page("/debug/syncz") for t in ("CDS", "EDS", "LDS", "RDS")),
          "the clients have taken everything")


def test_unknown(world, client):
    by(client)
    nobody = "nobody.books.svc.cluster.local:80"
    # gRPC waits 15 s for what it has never seen; the control plane says at once that there is none.
    assert client.call(nobody, deadline=1)["code"] in (4, 14)
    assert client.call(HOST + ":81", deadline=1)["code"] in (4, 14)
    # It comes to be: the same channel finds it. And goes.
    world.mesh.write("nobody.yaml", service("nobody", "books", {"app": "echo"}, 80, world.port, port_name="grpc"))
    until(lambda: client.call(nobody)["code"] == 0, "a service that comes later is found")
    world.mesh.remove("nobody.yaml")
    r = until(lambda: (r := client.call(nobody))["code"] == 14 and r, "a service that went is gone")
    assert "nobody" in r["details"] or client.kind != "python", r  # the others say that there is no connection, or no address
    by(client)


def test_refused_by_name(world, client):
    by(client)
    world.route({"match": [{"headers": {"x-user": {"exact": "eva"}}}], "rewrite": {"uri": "/other"}, "route": [to("echo", "v2")]},
                {"route": [to("echo", "v1")], "mirror": {"host": "echo", "subset": "v2"}})
    world.settle()
    until(lambda: by(client) == {"v1": 20}, "the other rule is in force")
    r = client.call(HOST + ":80", {"x-user": "eva"})
    assert r["code"] == 14, "what cannot be rewritten fails, and goes nowhere else"
    assert sorted(world.refused()) == ["spec.http[0].rewrite", "spec.http[1].mirror"]

    # TLS that the rule wants is not replaced by plain text.
    world.mesh.write("rule.yaml", destination_rule("echo", "books", "echo", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}))
    until(lambda: client.call(HOST + ":80")["code"] == 14, "nothing is sent in plain text")
    assert "trafficPolicy.tls" in world.refused()
    # The last good routes were never lost.
    world.mesh.write("rule.yaml", destination_rule("echo", "books", "echo", trafficPolicy={"loadBalancer": {"simple": "RANDOM"}}))
    until(lambda: client.call(HOST + ":80")["code"] == 0, "it works again")
    assert "trafficPolicy.loadBalancer.simple" in world.refused()


def test_other_generators_are_refused(world, tmp_path):
    c = grpcxds.Client("go", tmp_path, world.address, generator="ztunnel")
    try:
        assert c.call(HOST + ":80", deadline=5)["code"] in (4, 14)
        until(lambda: "GENERATOR 'ztunnel' is not served" in world.mesh.control_output(), "the refusal is logged")
    finally:
        c.close()
