"""Certificates are short-lived here: they are renewed at half of their life under requests and open connections, and
when they cannot be renewed any more, peers refuse them and everybody says so."""
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest
from meshtest.mesh import destination_rule, service, until

LIFE = 8
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
        assert all(0.3 < age < 1 for age in ages), f"{name} renewed at {ages} of its certificate's life"
    for w in (s, ws, c):
        assert w.stat(r"ssl\.(fail_|connection_error)") == 0, w.name
    n = sum(len(r["seen"]) for r in results)
    print(n, "requests, none failed; serials seen:", {k: len(v) for k, v in serials.items()})
    assert n > 50


def end_of(w):
    """When the workload's own certificate ends."""
    return datetime.fromisoformat(certificate(w)["expiration_time"].rstrip("Z") + "+00:00").timestamp()


def expired(w):
    return "weft_agent_certificate_expired 1" in w.admin("/stats/prometheus")


@pytest.mark.parametrize("who", ["server", "client"])
def test_certificate_that_could_not_be_renewed_is_refused(mesh, who):
    """The control plane is gone for longer than a certificate lives, and the token that it was had with."""
    m = mesh(control_args=["--token-seconds", 2])
    # A connection for each request: one that was verified in time may go on.
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080),
            destination_rule("app", "books", HOST, None, trafficPolicy={"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}))
    short = {"certificate_seconds": 3}
    s, c = m.http_server("s", "app", **(short if who == "server" else {})), m.client("client", **(short if who == "client" else {}))
    late = s if who == "server" else c
    m.settle()
    get = lambda: c.call("meshtest.load:get", url=f"http://{HOST}/")
    assert get()["status"] == 200 and not expired(late)
    m.stop_control(signal.SIGKILL)
    until(lambda: get()["status"] == 503, "the expired certificate is refused", timeout=30, pause=0.2)
    assert end_of(late) <= time.time() and expired(late) and not expired(c if late is s else s)
    log = until(lambda: [x for x in m.access_log.read_text().splitlines() if " 503 " in x and "outbound|80" in x], "it is logged")
    answer = subprocess.run([m.weft, "explain", "--live", log[-1]], capture_output=True, text=True, timeout=30).stdout
    if who == "server":
        assert "UF" in log[-1] and "certificate_has_expired" in log[-1], log[-1]
        assert c.stat(r"^cluster\.outbound.*ssl\.fail_verify_error$") > 0
        assert "the certificate of endpoint" in answer and "has ended" in answer, answer
    else:
        assert s.stat(r"^listener.*ssl\.fail_verify_error$") > 0
        assert "refused the certificate of this sidecar, which has ended" in answer, f"{log[-1]}\n{answer}"
    # Its agent tried in time, and says that it is over.
    until(lambda: "certificate HAS EXPIRED and cannot be renewed" in late.proxy_log.read_text(), "the agent says so")
    assert "certificate not renewed, it ends in" in late.proxy_log.read_text()
    # It comes back by itself.
    m.start_control()
    until(lambda: get()["status"] == 200, "renewed", timeout=60, pause=0.2)
    assert not expired(late)


def test_a_machine_that_slept(mesh):
    """A workload stands still until its certificate and its token have ended, while the control plane did not even notice.
    The sidecar that is started again later needs a token, too."""
    m = mesh(control_args=["--token-seconds", 2])
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    m.http_server("s", "app")
    c = m.client("client", certificate_seconds=3)
    m.settle()
    get = lambda: c.call("meshtest.load:get", url=f"http://{HOST}/")
    assert get()["status"] == 200
    first, end_of_first, processes = certificate(c)["serial_number"], end_of(c), (c.proc.pid, c.sidecar_pid())
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    end = max(time.time(), end_of_first) + 2
    until(lambda: time.time() > end, "the night is over")
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    until(lambda: get()["status"] == 200 and certificate(c)["serial_number"] != first and not expired(c), "awake", pause=0.1)
    before = c.sidecar_pid()
    os.kill(before, signal.SIGKILL)
    until(lambda: c.sidecar_pid() != before and get()["status"] == 200, "the next sidecar has a certificate", pause=0.1)
