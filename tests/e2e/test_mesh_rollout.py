"""Nobody notices that workloads are replaced: new ones come, old ones are told to end while requests are in flight."""
import sys
import time

import pytest
from meshtest import procs
from meshtest.mesh import service, until

HOST = "app.books.svc.cluster.local"


def grpc_server(m, name, port=50051, **kw):
    return m.run(name, [sys.executable, "-m", "meshtest.grpcapp", "--port", port, "--name", name],
                 labels={"app": "grpc", "version": "v1"}, ports=[port], **kw)


def roll(m, start, first, rounds):
    """Replaces one workload after the other, the new one first. Names of all."""
    old, names = first, [first.name]
    for i in range(rounds):
        new = start(f"s{i + 1}")
        names.append(new.name)
        time.sleep(0.3)
        assert old.stop() in (0, 143)  # SIGTERM's
        old = new
    time.sleep(0.3)
    return names


@pytest.mark.parametrize("kind", ["weft-proxy", "envoy"])
def test_http1_rollout(mesh, kind):
    """With either sidecar: the order of leaving is `weft run`'s."""
    m, proxy = mesh(), procs.envoy_binary() if kind == "envoy" else None
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    start = lambda name: m.http_server(name, "app", proxy=proxy)
    first, c = start("s0"), m.client("client", proxy=proxy)
    m.settle()
    loads = [c.start("meshtest.load:run", url=f"http://{HOST}/{path}", threads=n, timeout=60)
             for path, n in (("", 2), ("sleep?s=0.2", 3), ("sleep?s=1", 2))]
    posts = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=2, method="POST", body="x" * 100, timeout=60)
    names = roll(m, start, first, 3)
    results = [x.stop().result() for x in [*loads, posts]]
    failed = [f for r in results for f in r["failed"]]
    assert not failed, f"{len(failed)} failed: {failed[:5]}"
    assert {s[3] for r in results for s in r["seen"]} == set(names)
    print(sum(len(r["seen"]) for r in results), "requests, none failed, through", names)


def test_http2_rollout(mesh):
    m = mesh()
    m.write("service.yaml", service("grpc", "books", {"app": "grpc"}, 80, 50051, port_name="grpc"))
    start = lambda name: grpc_server(m, name)
    first, c = start("s0"), m.client("client")
    m.settle()
    target = "grpc.books.svc.cluster.local:80"
    loads = [c.start("meshtest.grpcapp:run", target=target, threads=2),
             c.start("meshtest.grpcapp:run", target=target, threads=4, message={"sleep": 0.5})]
    names = roll(m, start, first, 3)
    results = [x.stop().result() for x in loads]
    failed = [f for r in results for f in r["failed"]]
    assert not failed, f"{len(failed)} failed: {failed[:5]}"
    assert {s[2] for r in results for s in r["seen"]} == set(names)
    print(sum(len(r["seen"]) for r in results), "calls, none failed, through", names)


def test_what_takes_longer_than_the_drain_time_is_cut(mesh):
    """The drain ends: a request that would go on for a minute does not hold up the workload's end."""
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    s, c = m.http_server("s0", "app", drain_s=1), m.client("client")
    m.settle()
    slow = c.start("meshtest.load:run", url=f"http://{HOST}/sleep?s=60", threads=1, count=1, timeout=90)
    until(lambda: s.stat(r"^http\.inbound.*downstream_rq_active$") == 1, "the request is in flight")
    begin = time.monotonic()
    s.stop()
    assert time.monotonic() - begin < 50  # not the 60 s of the request
    assert slow.result()["failed"]
    assert "the drain time is over with requests under way" in s.output()


def test_an_idle_workload_ends_at_once(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    s, c = m.http_server("s0", "app", drain_s=50), m.client("client")
    m.settle()
    assert c.call("meshtest.load:get", url=f"http://{HOST}/")["status"] == 200
    begin = time.monotonic()
    s.stop()
    print(f"ended after {time.monotonic() - begin:.2f} s")
    assert time.monotonic() - begin < 40, "nothing waits for a whole drain time"


def test_keep_alive_race_with_the_application(mesh):
    """The application closes connections that were idle for a moment, without a word: its sidecar must not send a
    request into one that is closing, and sends it again where that is harmless."""
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    s = m.http_server("s0", "app", args=["--idle-close", "0.4"])
    c = m.client("client")
    m.settle()
    # Pauses around the time-out, so that requests come at the moment of closing.
    start = lambda method: [c.start("meshtest.load:run", url=f"http://{HOST}/", threads=8, pause=p, method=method, timeout=60)
                            for p in (0.393, 0.398, 0.4, 0.403)]
    # What may be sent twice is, also before anything was learned; POSTs come when it was.
    loads = start("GET")
    closed = r"^cluster\.inbound.*upstream_cx_destroy_remote$"
    until(lambda: s.stat(closed) >= 4, "the application has closed idle connections")
    loads += start("POST")
    time.sleep(4)
    results = [x.stop().result() for x in loads]
    failed = [f for r in results for f in r["failed"]]
    n = sum(len(r["seen"]) for r in results)
    print(n, "requests,", len(failed), "failed;", s.stat(closed), "idle connections closed by the application,",
          s.stat(r"^cluster\.inbound.*upstream_rq_replay$"), "requests sent again")
    assert not failed, f"{len(failed)} of {n} failed: {failed[:5]}"
