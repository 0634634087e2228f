"""What is not plain HTTP/1, through both sidecars: gRPC, WebSocket, TCP, large bodies."""
import os
import sys

from meshtest.mesh import service, until

GRPC = "grpc.books.svc.cluster.local:80"


def grpc_mesh(mesh):
    m = mesh()
    m.write("service.yaml", service("grpc", "books", {"app": "grpc"}, 80, 50051, port_name="grpc"))
    s = m.run("server", [sys.executable, "-m", "meshtest.grpcapp", "--port", "50051", "--name", "server"],
              labels={"app": "grpc"}, ports=[50051])
    c = m.client("client")
    m.settle()
    return m, s, c


def test_grpc(mesh):
    m, s, c = grpc_mesh(mesh)
    G = "meshtest.grpcapp:"

    # Unary: message, metadata both ways, also binary.
    r = c.call(G + "call_unary", target=GRPC, message={"hello": "world"}, metadata=[["x-one", "1"], ["x-two", "b"]])
    assert r["code"] == 0 and r["result"]["got"] == {"hello": "world"}
    sent = dict(map(tuple, r["result"]["metadata"]))
    assert sent["x-one"] == "1" and sent["x-two"] == "b"
    assert ["x-backend", "server"] in r["initial"]
    assert ["x-served", "done"] in r["trailing"] and ["x-bytes-bin", "0001ff"] in r["trailing"]

    # Every status arrives with its words, also those that are no ASCII.
    for code in (1, 3, 5, 7, 8, 9, 13, 16):
        r = c.call(G + "call_unary", target=GRPC, message={"abort": [code, "schade: 50 % größer"]})
        assert r["code"] == code and r["details"] == "schade: 50 % größer", r
        assert ["x-served", "done"] in r["trailing"]

    # Deadline: the client's own; the server hears of it.
    r = c.call(G + "call_unary", target=GRPC, message={"sleep": 60}, deadline=2)
    assert r["code"] == 4
    until(lambda: c.call(G + "call_count", target=GRPC)["cancelled"] == 1, "the server's call was cancelled")

    # Cancellation reaches the server.
    r = c.call(G + "call_unary", target=GRPC, message={"sleep": 60}, cancel_after=2)
    assert r["code"] == 1
    until(lambda: c.call(G + "call_count", target=GRPC)["cancelled"] == 2, "the cancelled call has ended on the server")

    # Streams in each direction.
    r = c.call(G + "call_download", target=GRPC, message={"n": 200, "size": 20000})
    assert r == {"code": 0, "seen": list(range(200))}
    r = c.call(G + "call_upload", target=GRPC, n=200, size=20000)
    assert r["code"] == 0 and r["result"] == {"n": 200, "bytes": 4000000}
    r = c.call(G + "call_chat", target=GRPC, messages=[{"i": i} for i in range(100)])
    assert r["code"] == 0 and r["answers"] == [{"i": i} for i in range(100)] and ["x-served", "done"] in r["trailing"]
    r = c.call(G + "call_chat", target=GRPC, messages=[{"i": 0}, {"abort": "enough"}, {"i": 2}])
    assert r["code"] == 9 and r["details"] == "enough" and r["answers"] == [{"i": 0}]
    r = c.call(G + "call_download", target=GRPC, message={"n": 1000, "pause": 0.02}, cancel_after=5)
    assert r["code"] == 1 and len(r["seen"]) < 20
    until(lambda: c.call(G + "call_count", target=GRPC)["cancelled"] == 3, "the stream has ended on the server")
    # Many of them: what is logged of a cut stream must not depend on what is gone already.
    for cut in [1, 2, 3] * 10:
        assert c.call(G + "call_download", target=GRPC, message={"n": 1000, "pause": 0.001}, cancel_after=cut)["code"] == 1

    # It was HTTP/2 and mutual TLS on the way, and nothing is left open.
    assert s.stat(r"^http\.inbound.*downstream_cx_http2_total$") > 0
    for w in (c, s):
        until(lambda: w.stat(r"^cluster\.(out|in)bound.*upstream_rq_active$") == 0, f"no stream is left in {w.name}")


def test_grpc_server_that_is_not_there(mesh):
    m, s, c = grpc_mesh(mesh)
    assert c.call("meshtest.grpcapp:call_unary", target=GRPC, message={})["code"] == 0
    s.stop()
    m.settle()
    r = c.call("meshtest.grpcapp:call_unary", target=GRPC, message={})
    assert r["code"] == 14 and "no healthy upstream" in r["details"], r


def raw_mesh(mesh, kind, port_name, env=None):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080, port_name=port_name))
    s = m.run("server", [sys.executable, "-m", "meshtest.streams", kind, "8080"], labels={"app": "app"}, ports=[8080], env=env)
    c = m.client("client", env=env)
    m.settle()
    return m, s, c


def test_websocket(mesh):
    m, s, c = raw_mesh(mesh, "websocket", "http")
    r = c.call("meshtest.streams:websocket_client", url="ws://app.books.svc.cluster.local/chat", sizes=[0, 1, 125, 126, 70000, 1000000])
    assert r["text"] == "echo: grüße" and r["sizes"] == [0, 1, 125, 126, 70000, 1000000] and r["protocol"] == "chat.v1"
    assert r["close"] == [4321, "bye"], "the server's closing words"
    assert r["ping"] < 60
    log = until(lambda: [l for l in m.access_log.read_text().splitlines() if "GET /chat" in l and " 101 " in l], "it was logged as 101")
    assert log


def test_tcp(mesh):
    m, s, c = raw_mesh(mesh, "tcp", "tcp")
    r = c.call("meshtest.streams:tcp_client", host="app.books.svc.cluster.local", port=80, size=3 << 20)
    assert r["echoed"] == 3 << 20 and r["same"], "what was sent came back, also after the client had ended its side"
    # The server speaks first.
    assert r["greeting"] == "hello"
    until(lambda: s.stat(r"^listener.*ssl\.handshake$") > 0, "mutual TLS between the sidecars")
    until(lambda: c.stat(r"^cluster\.outbound\|80\|\|app.*upstream_cx_active$") == 0, "no connection is left")


def test_large_bodies_both_ways_in_bounded_memory(mesh):
    # ASan keeps what was freed for a while, which would hide what is held.
    options = {"env": {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}}
    m, s, c = raw_mesh(mesh, "bulk", "http", **options)
    size = 192 << 20
    warm = c.call("meshtest.streams:bulk", host="app.books.svc.cluster.local", size=8 << 20, timeout=400)
    assert warm["up"] == warm["down"] == 8 << 20
    for w in (c, s):
        w.forget_peak()
    before = {w.name: w.rss_kb() for w in (c, s)}
    # The reader is slow at first: what it does not take must wait at its origin, not in a proxy.
    r = c.call("meshtest.streams:bulk", host="app.books.svc.cluster.local", size=size, pause=1.5, timeout=400)
    assert r["up"] == r["down"] == size and r["digest_ok"]
    grown = {w.name: w.rss_kb(peak=True) - before[w.name] for w in (c, s)}
    print("192 MiB each way; resident memory grew by", grown, "KiB at most")
    assert all(g < 24 << 10 for g in grown.values()), grown
