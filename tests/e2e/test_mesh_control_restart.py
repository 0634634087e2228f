"""The control plane is killed and started again: requests go on, nothing is forgotten, changes made meanwhile arrive."""
import re
import signal
import time
from datetime import datetime

from meshtest.mesh import destination_rule, service, to, until, virtual_service

HOST = "app.books.svc.cluster.local"


def rule(version):
    return virtual_service("app", "books", HOST, [{"route": [to(HOST, version)]}])


def start(mesh, servers=("v1", "v2")):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), destination_rule("app", "books", HOST))
    m.write("vs.yaml", rule("v1"))
    for i, version in enumerate(servers):
        m.http_server(f"s{i}", "app", version=version)
    return m, m.client("client")


def test_killed_and_started_again_under_load(mesh):
    m, c = start(mesh, ("v1", "v1", "v2", "v2"))
    m.settle()
    load = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=4, pause=0.002)
    time.sleep(1)
    m.stop_control(signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(1)
    m.write("vs.yaml", rule("v2"))
    time.sleep(1)
    m.start_control()
    started = time.monotonic()
    m.settle()
    settled = time.monotonic()
    time.sleep(1)
    r = load.stop().result()
    assert not r["failed"], r["failed"][:5]
    seen = r["seen"]
    between = [s for s in seen if killed < s[0] and s[1] < started]
    assert len(between) > 20 and {s[2] for s in between} == {"v1"}
    after = [s for s in seen if s[0] > settled]
    assert len(after) > 20 and {s[2] for s in after} == {"v2"}
    assert {s[3] for s in after} == {"s2", "s3"}, "both endpoints of v2 are there again"
    assert {s[2] for s in seen} == {"v1", "v2"}
    # Not all at once: each proxy waits a random time before it comes again.
    log = m.control_log.read_text().split("control plane is up")[-1]
    stamps = sorted(datetime.fromisoformat(x).timestamp() for x in re.findall(r"(?m)^(\S+)Z info  push   proxy connected", log))
    assert len(stamps) == 5 and len(set(stamps)) >= 2, stamps
    print("reconnected and in force", round(settled - started, 3), "s after the start;", [round(s - stamps[0], 3) for s in stamps])


def test_workloads_that_left_while_it_was_away_are_gone(mesh):
    m, c = start(mesh, ("v1", "v1", "v2"))
    m.settle()
    m.stop_control(signal.SIGKILL)
    gone = m.workloads["s1#1"]
    assert gone.stop() == 0
    m.start_control()
    m.settle()
    eps = [e["workload"] for svc in m.page("/debug/registryz") for p in svc["ports"] for e in p["endpoints"]]
    assert sorted(eps) == ["s0", "s2"]
    assert not c.call("meshtest.load:run", url=f"http://{HOST}/", count=50)["failed"]


def test_a_name_is_still_taken_after_a_restart(mesh):
    """Registered anew means: the lease is held again, and ends with its workload."""
    m, c = start(mesh, ("v1",))
    m.stop_control(signal.SIGKILL)
    m.start_control()
    m.settle()
    m.workloads["s0#0"].stop()
    until(lambda: [] == [e for s in m.page("/debug/registryz") for p in s["ports"] for e in p["endpoints"]], "the endpoint is gone")
    got = c.call("meshtest.load:get", url=f"http://{HOST}/")
    assert got["status"] == 503 and "no healthy upstream" in got["body"]
