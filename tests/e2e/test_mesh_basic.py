"""The fixture itself, on the smallest mesh: who answers follows the rules, and what is configured is what is in force."""
import json

from meshtest.mesh import destination_rule, service, to, virtual_service

HOST = "app.books.svc.cluster.local"


def small(mesh):
    m = mesh()
    m.write("service.yaml", service("app", "books", {"app": "app"}, 80, 8080), destination_rule("app", "books", HOST))
    m.write("vs.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, "v1")]}]))
    m.http_server("a", "app", version="v1")
    m.http_server("b", "app", version="v2")
    return m, m.client("client")


def test_requests_follow_the_rule_that_is_in_force(mesh):
    m, c = small(mesh)
    m.settle()
    for version in ("v1", "v2", "v1"):
        m.apply("vs.yaml", virtual_service("app", "books", HOST, [{"route": [to(HOST, version)]}]))
        got = c.call("meshtest.load:get", url=f"http://{HOST}/")
        assert got["status"] == 200 and json.loads(got["body"])["version"] == version
    assert not m.problems()
    assert m.page("/debug/configz")["refused"] == 0
    assert "2 configuration files read; applied by 3 of 3 proxies\n" in m.proxy_status()
    assert c.stat(r"^cluster\.outbound\|80\|v1\|app.books.svc.cluster.local\.upstream_rq_200$") == 2
    assert "hello" in c.exec("echo", "hello").stdout
