"""Clients, servers and sidecars that go away in the middle of things: nothing leaks, nobody else notices."""
import os
import signal
import sys
import time

from meshtest.mesh import service, until

HOST, GRPC = "app.books.svc.cluster.local", "grpc.books.svc.cluster.local:80"


def quiet(*workloads):
    """No request or stream is left anywhere."""
    for w in workloads:
        until(lambda: w.stat(r"(^http\.(in|out)bound|^cluster\.(in|out)bound).*_rq_active$") == 0, f"nothing is active in {w.name}")


def test_clients_that_cut_requests_short(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), service("bulk", "books", {"app": "bulk"}, 80, 8080),
            service("grpc", "books", {"app": "grpc"}, 80, 50051, port_name="grpc"))
    app = m.http_server("app", "app")
    bulk = m.run("bulk", [sys.executable, "-m", "meshtest.streams", "bulk", "8080"], labels={"app": "bulk"}, ports=[8080])
    rpc = m.run("rpc", [sys.executable, "-m", "meshtest.grpcapp", "--port", "50051", "--name", "rpc"], labels={"app": "grpc"}, ports=[50051])
    c = m.client("client")
    m.settle()
    others = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=2, pause=0.002)
    cuts = [c.start("meshtest.load:cut", host=HOST, path="/sleep?s=0.02", count=200, seed=1),
            c.start("meshtest.load:cut", host=HOST, path="/", count=200, seed=2, body=300000),
            c.start("meshtest.load:cut", host="bulk.books.svc.cluster.local", path="/?size=30000000", count=100, seed=3, body=3000000),
            c.start("meshtest.grpcapp:cut", target=GRPC, count=100, seed=4)]
    done = [x.result() for x in cuts]
    r = others.stop().result()
    assert not r["failed"], r["failed"][:5]
    quiet(c, app, bulk, rpc)
    print("cut:", done, len(r["seen"]), "requests of others, none failed")
    cut = lambda log: log.count(" DC ") + log.count(" DC,")  # noqa: E731
    until(lambda: cut(m.access_log.read_text()) > 50, "they are logged as cut by the client")


def test_a_sidecar_is_killed(mesh):
    """The server's sidecar dies under load: it is started again by itself, the program goes on, requests work again."""
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    s, c = m.http_server("app", "app"), m.client("client")
    m.settle()
    load = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=2, pause=0.01)
    time.sleep(0.3)
    before = s.sidecar_pid()
    os.kill(before, signal.SIGKILL)
    until(lambda: s.sidecar_pid() != before, "it is started again")
    until(lambda: c.call("meshtest.load:get", url=f"http://{HOST}/")["status"] == 200, "requests work again")
    m.settle()
    r = load.stop().result()
    back = max(f[1] for f in r["failed"]) if r["failed"] else 0
    after = [x for x in r["seen"] if x[0] > back]
    assert after, "and go on to work"
    assert all("503" in f[2] for f in r["failed"]), r["failed"][:5]
    assert "the sidecar died and is started again" in s.output()


def test_the_client_is_killed(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    s, c = m.http_server("app", "app"), m.client("client")
    m.settle()
    c.start("meshtest.load:run", url=f"http://{HOST}/sleep?s=0.05", threads=8)
    until(lambda: s.stat(r"^http\.inbound.*downstream_rq_active$") > 3, "requests are in flight")
    c.proc.kill()
    c.wait()
    quiet(s)
    m.settle()
    other = m.client("other")
    assert other.call("meshtest.load:get", url=f"http://{HOST}/")["status"] == 200
