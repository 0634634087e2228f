"""What is wrong is refused by name, where people look, and disturbs nothing else: the last good state stays in force."""
import re
import sys

import pytest
from meshtest import ads, procs
from meshtest.mesh import destination_rule, service, to, until, virtual_service

HOST, OTHER = "app.books.svc.cluster.local", "other.books.svc.cluster.local"
GOOD = virtual_service("app", "books", HOST, [{"route": [to(HOST, "v1")]}])


@pytest.fixture
def world(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), service("other", "books", {"app": "app"}, 80, 8080))
    m.write("dr.yaml", destination_rule("app", "books", HOST))
    m.write("vs.yaml", GOOD)
    m.http_server("a", "app", version="v1")
    m.http_server("b", "app", version="v2")
    c = m.client("client")
    m.settle()
    assert version(c) == "v1" and not m.problems()
    return m, c


def version(c, host=HOST):
    r = c.call("meshtest.load:get", url=f"http://{host}/")
    return r["headers"]["x-version"] if r["status"] == 200 else r["status"]


def refused(m, kind, name, file, field, words, severity="error", line=None, text_of_log=None):
    """The problem is on /debug/problems, in proxy-status and in the control plane's log."""
    m.settle()
    found = [p for p in m.problems() if p["file"].endswith(file) and p["severity"] == severity]
    assert found, m.problems()
    p = next((p for p in found if re.search(words, p["text"])), None)
    assert p, found
    assert (p["kind"], p["name"]) == (kind, name), p
    if field is not None:
        assert p["field"] == field, p
    if line is not None:
        assert p["line"] == line, p
    status = m.proxy_status()
    assert p["text"] in status and file in status and (not name or name in status), status
    log = m.control_log.read_text()
    assert p["text"] in log, log[-3000:]
    return p


def in_force(m, c, want="v1"):
    """Nothing else is disturbed: the old rule holds, another host works, and no proxy refused anything."""
    assert version(c) == want
    assert version(c, OTHER) in ("v1", "v2")
    assert m.page("/debug/configz")["refused"] == 0


def mended(m, c):
    m.apply("vs.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, "v2")]}]))
    assert version(c) == "v2" and not m.problems()


def test_broken_yaml(world):
    m, c = world
    m.write("vs.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: app\nspec: [\n")
    p = refused(m, "", "", "vs.yaml", None, "did not find expected", line=4)
    assert "vs.yaml" not in p["text"]  # the file stands beside it
    in_force(m, c)
    mended(m, c)


def test_unknown_field(world):
    m, c = world
    m.write("vs.yaml", """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: books}
spec:
  hosts: [app.books.svc.cluster.local]
  http:
  - route:
    - destination: {host: app.books.svc.cluster.local, subset: v2}
    retrys: {attempts: 3}
""")
    refused(m, "VirtualService", "app", "vs.yaml", "spec.http[0].retrys", "retrys", line=9)
    in_force(m, c)
    mended(m, c)


def test_value_of_a_wrong_kind(world):
    m, c = world
    m.write("vs.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, "v2")], "timeout": "soon"}]))
    refused(m, "VirtualService", "app", "vs.yaml", "spec.http[0].timeout", "soon")
    in_force(m, c)
    mended(m, c)


def test_subset_that_is_not_defined(world):
    """A route to nowhere: said, and only requests that take the route fail, in words that name it."""
    m, c = world
    m.write("vs.yaml", virtual_service("app", "books", HOST, [
        {"match": [{"headers": {"x-new": {"exact": "yes"}}}], "route": [to(HOST, "v3")]}, {"route": [to(HOST, "v1")]}]))
    m.settle()
    found = [p for p in m.problems() if "v3" in p["text"]]
    assert found and found[0]["kind"] == "VirtualService" and found[0]["name"] == "app", m.problems()
    assert "spec.http[0].route[0].destination.subset" in found[0]["field"] + found[0]["text"], found
    assert found[0]["file"].endswith("vs.yaml") and found[0]["line"] > 0, found
    assert found[0]["text"] in m.proxy_status() and found[0]["text"] in m.control_log.read_text()
    in_force(m, c)
    r = c.call("meshtest.load:get", url=f"http://{HOST}/", headers={"x-new": "yes"})
    assert r["status"] == 503
    # Defined later, it works, and the problem is gone.
    m.write("dr.yaml", {**destination_rule("app", "books", HOST), "spec": {"host": HOST, "subsets": [
        {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}, {"name": "v3", "labels": {"version": "v2"}}]}})
    m.settle()
    assert not m.problems()
    assert c.call("meshtest.load:get", url=f"http://{HOST}/", headers={"x-new": "yes"})["headers"]["x-version"] == "v2"


def test_two_virtual_services_on_one_host(world):
    """Which one is in force does not depend on luck, and the other one says so."""
    m, c = world
    m.write("vs2.yaml", virtual_service("later", "books", HOST, [{"route": [to(HOST, "v2")]}]))
    m.settle()
    found = [p for p in m.problems() if HOST in p["text"] and "later" in p["text"] + p["name"]]
    assert found, m.problems()
    assert "app" in found[0]["text"] + found[0]["name"], found
    assert found[0]["text"] in m.proxy_status() and found[0]["text"] in m.control_log.read_text()
    in_force(m, c)
    # The same after a restart of the control plane: it is a rule, not an order of events.
    m.stop_control()
    m.start_control()
    m.settle()
    in_force(m, c)
    m.remove("vs2.yaml")
    m.settle()
    assert not m.problems()


def test_an_object_defined_in_two_files(world):
    m, c = world
    m.write("zz.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, "v2")]}]))
    m.settle()
    found = [p for p in m.problems() if p["file"].endswith("zz.yaml")]
    assert found and "vs.yaml" in found[0]["text"], m.problems()
    in_force(m, c)
    m.remove("vs.yaml")
    m.settle()
    assert version(c) == "v2" and not m.problems(), "the other one takes its place"


def server(m, behaviour):
    return m.run("bad", [sys.executable, "-m", "meshtest.misbehave", behaviour, "8080"], labels={"app": "bad"}, ports=[8080])


@pytest.mark.parametrize("behaviour, status, flag, words, counter", [
    ("reset", 503, "UC", "reset reason: connection termination", r"upstream_cx_destroy_remote_with_active_rq"),
    ("silent", 504, "UT", "upstream request timeout", r"upstream_rq_timeout"),
    ("garbage", 502, "UPE", "protocol error", r"upstream_cx_protocol_error"),
])
def test_endpoint_that_misbehaves(mesh, behaviour, status, flag, words, counter):
    m = mesh()
    m.write("service.yaml", service("bad", "books", {"app": "bad"}, 80, 8080))
    m.write("vs.yaml", virtual_service("bad", "books", "bad.books.svc.cluster.local",
                                       [{"route": [to("bad.books.svc.cluster.local")], "timeout": "1s" if behaviour == "silent" else "30s", "retries": {"attempts": 0}}]))
    s, c = server(m, behaviour), m.client("client")
    m.settle()
    r = c.call("meshtest.load:get", url="http://bad.books.svc.cluster.local/", timeout=30)
    assert (r["status"], words in r["body"]) == (status, True), r
    # The sidecar that met it counts and logs it: the client's own when nobody answers, else the server's.
    w, direction = (c, "outbound|80||bad") if behaviour == "silent" else (s, "inbound|8080||")
    until(lambda: w.stat(rf"^cluster\.{re.escape(direction)}.*{counter}$") > 0, f"{counter} counts")
    until(lambda: any(f" {status} " in x and flag in x and direction in x for x in m.access_log.read_text().splitlines()),
          f"logged with {status} {flag}")


def test_endpoint_that_refuses(mesh):
    """Its program has gone, its sidecar is there; and an address where nobody is."""
    m = mesh()
    m.write("service.yaml", service("bad", "books", {"app": "bad"}, 80, 8080))
    m.write("entry.yaml", {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "far", "namespace": "books"},
                           "spec": {"hosts": ["far.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC",
                                    "location": "MESH_EXTERNAL", "endpoints": [{"address": "10.97.0.1", "ports": {"http": 9}}]}})
    m.write("vs.yaml", virtual_service("far", "books", "far.example", [{"route": [to("far.example")], "retries": {"attempts": 0}}]))
    s, c = server(m, "once"), m.client("client")
    m.settle()
    url = "http://bad.books.svc.cluster.local/"
    assert c.call("meshtest.load:get", url=url)["status"] == 200
    # The program listens no more.
    r = until(lambda: (lambda r: r if r["status"] == 503 else None)(c.call("meshtest.load:get", url=url)), "refused")
    assert "connection failure" in r["body"] or "connection termination" in r["body"], r
    until(lambda: s.stat(r"^cluster\.inbound.*upstream_cx_connect_fail$") > 0, "connect failures are counted")
    r = c.call("meshtest.load:get", url="http://far.example/")
    assert r["status"] == 503 and "connection failure" in r["body"], r
    until(lambda: c.stat(r"^cluster\.outbound\|80\|\|far.example.*upstream_cx_connect_fail$") > 0, "connect failures are counted")
    log = until(lambda: [x for x in m.access_log.read_text().splitlines() if "UF" in x and "far.example" in x], "logged with UF")
    assert "10.97.0.1:9" in log[-1]


def test_what_a_proxy_refuses_is_shown_with_its_reason(mesh):
    """A proxy that is not ours asks, and refuses the clusters it gets."""
    port = procs.free_port()
    m = mesh(control_args=["--discovery-address", f"127.0.0.1:{port}"])
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    m.http_server("a", "app", version="v1")
    c = m.client("client")
    m.settle()
    why = "cluster 'outbound|80||app.books.svc.cluster.local': lb_policy: this one I do not understand"
    with ads.refusing(port, "sidecar~10.97.9.9~picky.books~books.svc.cluster.local", why):
        until(lambda: f"picky refused CDS: {why}" in m.proxy_status(), "the refusal is shown")
        mine = next(p for p in m.page("/debug/syncz") if p["name"] == "picky")
        assert mine["CDS"]["state"] == "NACK" and mine["CDS"]["nack"] == why and mine["CDS"]["nacked"] == 1
        assert m.page("/debug/configz")["refused"] == 1
        assert "1 of them refused a part" in m.proxy_status()
        assert why in m.control_log.read_text()
        assert m.metric("pilot_total_xds_rejects") == 1
        assert all(p["CDS"]["state"] == "SYNCED" for p in m.page("/debug/syncz") if p["name"] != "picky"), "others are not disturbed"
        assert version(c) == "v1"
    until(lambda: "picky" not in m.proxy_status(), "it has gone")
