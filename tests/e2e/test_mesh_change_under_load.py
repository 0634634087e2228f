"""Rules and endpoints change while requests run: none fails, each obeys the rules before or after the change, and a
change is in force soon."""
import bisect
import statistics
import time

from meshtest.mesh import destination_rule, fetch, service, to, until, virtual_service

HOST = "app.books.svc.cluster.local"
REQUESTS, RULES, COMINGS = 10000, 50, 20
RECEIVED = r"^http\.inbound.*downstream_rq_completed$"


def rule(version):
    return virtual_service("app", "books", HOST, [{"route": [to(HOST, version)]}])


def start(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), destination_rule("app", "books", HOST))
    m.write("vs.yaml", rule("v1"))
    for name, version in (("a1", "v1"), ("b1", "v2"), ("b2", "v2")):
        m.http_server(name, "app", version=version)
    return m, m.client("client")


def allowed(changes, begin, end):
    """Versions that were in force at some moment of [begin, end]. changes: (written, in force, version)."""
    now = changes[max(bisect.bisect_right([c[1] for c in changes], begin) - 1, 0)][2]
    return {now} | {c[2] for c in changes if c[0] <= end and c[1] >= begin}


def test_the_rule_is_rewritten_while_requests_run(mesh):
    m, c = start(mesh)
    m.settle()
    changes = [(0.0, 0.0, "v1")]
    load = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=3, timeout=60)
    done = 0
    while done < RULES:
        version = ("v2", "v1")[done % 2]
        wrote = time.monotonic()
        m.write("vs.yaml", rule(version))
        m.settle()
        changes.append((wrote, time.monotonic(), version))
        done += 1
        time.sleep(0.02)
    more = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=3, timeout=60, count=200)
    more.result()
    r = load.stop().result()
    seen = sorted(r["seen"])
    rest = c.call("meshtest.load:run", url=f"http://{HOST}/", threads=3, count=max(0, REQUESTS - len(seen)))
    assert not r["failed"] and not rest["failed"], (r["failed"] + rest["failed"])[:5]
    wrong = [s for s in seen if s[2] not in allowed(changes, s[0], s[1])]
    assert not wrong, f"{len(wrong)} of {len(seen)} answers under a rule of neither before nor after: {wrong[:3]}"
    # When the first answer under the new rule was begun, counted from the writing of the file.
    took = []
    for wrote, _, version in changes[1:]:
        first = next((s for s in seen if s[0] >= wrote and s[2] == version), None)
        if first:
            took.append(first[0] - wrote)
    took.sort()
    print(f"{len(seen)} requests under {done} changes; in force after median {statistics.median(took) * 1000:.0f} ms, "
          f"90 % {took[len(took) * 9 // 10] * 1000:.0f} ms, longest {took[-1] * 1000:.0f} ms")
    assert len(took) == RULES, "each change was seen by requests"
    # Soon: this machine's own pace is the measure.
    assert statistics.median(took) < max(0.2, 100 * statistics.median(s[1] - s[0] for s in seen))
    assert c.stat(r"^cluster\.xds-grpc\..*update_rejected|^cluster_manager\.cds\.update_rejected$") == 0


def test_endpoints_come_and_go_while_requests_run(mesh):
    """A third endpoint joins and leaves: a WorkloadEntry, so that the program itself goes on and its requests in
    flight must be answered."""
    m, c = start(mesh)
    m.write("vs.yaml", rule("v1"))
    extra = m.run("extra", m.server_command("extra", "v1"), labels={"app": "elsewhere"}, publish=[8080])
    until(lambda: fetch(f"http://127.0.0.1:{extra.published[8080]}/"), "the extra program listens")
    address = extra.address
    entry = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": "extra", "namespace": "books"},
             "spec": {"address": address, "labels": {"app": "app", "version": "v1"}, "ports": {"http": 8080},
                      "serviceAccount": "extra"}}
    m.settle()
    load = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=3, timeout=60)
    slow = c.start("meshtest.load:run", url=f"http://{HOST}/sleep?s=0.15", threads=4, timeout=60)
    spans = []
    for _ in range(COMINGS):
        begun, served = time.monotonic(), extra.stat(RECEIVED)
        m.apply("extra.yaml", entry)
        until(lambda: extra.stat(RECEIVED) > served, "it gets requests")
        time.sleep(0.05)
        m.remove("extra.yaml")
        m.settle()
        spans.append((begun, time.monotonic()))
    time.sleep(0.3)
    fast, slow = load.stop().result(), slow.stop().result()
    assert not fast["failed"] and not slow["failed"], (fast["failed"] + slow["failed"])[:5]
    by = {n: sum(s[3] == n for s in fast["seen"] + slow["seen"]) for n in ("a1", "extra")}
    assert by["extra"] >= COMINGS and by["a1"] >= COMINGS, by
    late = [s for s in fast["seen"] + slow["seen"] if s[3] == "extra" and not any(a < s[0] < b for a, b in spans)]
    assert not late, f"begun after its removal was in force: {late[:3]}"
    outlived = [s for s in slow["seen"] if s[3] == "extra" and any(s[0] < b < s[1] for _, b in spans)]
    assert outlived, "requests were in flight when their endpoint was removed, and were answered"
    print(f"{len(fast['seen']) + len(slow['seen'])} requests, {by}, {len(outlived)} outlived their endpoint's removal")


def test_a_workload_comes_and_goes_while_requests_run(mesh):
    """The same with real workloads, which end when they leave."""
    m, c = start(mesh)
    m.settle()
    load = c.start("meshtest.load:run", url=f"http://{HOST}/", threads=3, timeout=60)
    for i in range(3):
        w = m.http_server(f"extra{i}", "app", version="v1")
        until(lambda: c.admin("/clusters").count(w.address), f"{w.name} is known to the client")
        until(lambda: w.stat(RECEIVED) > 0, f"{w.name} gets requests")
        time.sleep(0.1)
        assert w.stop() == 0
        m.settle()
    r = load.stop().result()
    assert not r["failed"], r["failed"][:5]
    assert {s[3] for s in r["seen"]} == {"a1", "extra0", "extra1", "extra2"}
