"""Certificates are short-lived here: they are renewed at half of their life under requests and open connections, and
when they cannot be renewed any more, peers refuse them and everybody says so."""
import json
import signal
import sys
import time
from datetime import datetime

from meshtest.mesh import destination_rule, service, until

LIFE = 6
HOST = "app.books.svc.cluster.local"


def certificate(w):
    """Serial, end and so on of the workload's own certificate."""
    for c in json.loads(w.admin("/certs"))["certificates"]:
        for leaf in c.get("cert_chain", []):
            if any("/sa/" in san.get("uri", "") for san in leaf.get("subject_alt_names", [])):
                return leaf
    raise AssertionError(f"no certificate of its own in /certs of {w.name}")


def test_rotation_under_requests_and_open_connections(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), service("ws", "books", {"app": "ws"}, 80, 8080))
    s = m.http_server("s", "app", certificate_seconds=LIFE)
    ws = m.run("ws", [sys.executable, "-m", "meshtest.streams", "websocket", "8080"], labels={"app": "ws"}, ports=[8080],
               certificate_seconds=LIFE)
    c = m.client("client", certificate_seconds=LIFE)
    m.settle()
    seconds = LIFE * 1.5
    kept = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=2, pause=0.002)
    fresh = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=1, headers={"connection": "close"}, pause=0.01)
    slow = c.start("meshtest.load:get", url=f"http://{HOST}/sleep?s={seconds}", timeout=60)
    socket = c.start("meshtest.streams:websocket_stays", url="ws://ws.books.svc.cluster.local/", seconds=seconds)
    serials, begin = {w.name: [] for w in (s, ws, c)}, time.monotonic()
    while time.monotonic() < begin + seconds:
        for w in (s, ws, c):
            serial = certificate(w)["serial_number"]
            if not serials[w.name] or serials[w.name][-1][0] != serial:
                serials[w.name].append((serial, time.monotonic()))
        time.sleep(0.05)
    results = [kept.stop().result(), fresh.stop().result()]
    assert not [f for r in results for f in r["failed"]], [f for r in results for f in r["failed"]][:5]
    assert slow.result()["status"] == 200
    assert socket.result()["echoes"] > 20
    for name, seen in serials.items():
        assert len(seen) >= 3 and len({x for x, _ in seen}) == len(seen), f"{name}: {seen}"
        ages = [(b[1] - a[1]) / LIFE for a, b in zip(seen[1:], seen[2:])]
        assert all(0.3 < age < 0.8 for age in ages), f"{name} renewed at {ages} of its certificate's life"
    for w in (s, ws, c):
        assert w.stat(r"ssl\.(fail_|connection_error)") == 0, w.name
    n = sum(len(r["seen"]) for r in results)
    print(n, "requests, none failed; serials seen:", {k: len(v) for k, v in serials.items()})
    assert n > 200


def test_certificate_that_could_not_be_renewed_is_refused(mesh):
    """The control plane is gone for longer than a certificate lives."""
    m = mesh()
    # A connection for each request: one that was verified in time may go on.
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080),
            destination_rule("app", "books", HOST, None, trafficPolicy={"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}))
    s, c = m.http_server("s", "app", certificate_seconds=3), m.client("client")
    m.settle()
    get = lambda: c.call("meshtest.load:get", url=f"http://{HOST}/")
    assert get()["status"] == 200
    m.stop_control(signal.SIGKILL)
    r = until(lambda: (lambda r: r if r["status"] == 503 else None)(get()), "the expired certificate is refused", timeout=30, pause=0.2)
    assert datetime.fromisoformat(certificate(s)["expiration_time"].rstrip("Z") + "+00:00").timestamp() <= time.time(), "not before"
    assert "remote connection failure" in r["body"], r["body"]
    assert c.stat(r"^cluster\.outbound.*ssl\.fail_verify_error$") > 0
    log = until(lambda: [x for x in m.access_log.read_text().splitlines() if " 503 " in x and "UF" in x and "outbound|80" in x], "logged with UF")
    assert "certificate_has_expired" in log[-1], log[-1]
    # Its agent tried in time, and says that it is over.
    until(lambda: "certificate HAS EXPIRED and cannot be renewed" in s.proxy_log.read_text(), "the agent says so")
    assert "certificate not renewed, it ends in" in s.proxy_log.read_text()
    # It comes back by itself.
    m.start_control()
    until(lambda: get()["status"] == 200, "renewed", timeout=60, pause=0.2)
