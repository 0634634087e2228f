"""What somebody meets who knows Istio and tries its tasks with `weft run`."""
import yaml
from meshtest.mesh import service, until


def test_a_sidecar_does_not_ask_its_own_dns(mesh):
    """Applications get a made-up address for a host of the outside, so that its connections can be told apart. The sidecar
    itself looks for the real one: asked of its own DNS it would connect to what was made up."""
    m = mesh()
    c = m.client()
    host = "outside.invalid"  # nobody's, on every machine
    m.apply("outside.yaml", {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                             "metadata": {"name": "outside", "namespace": "books"},
                             "spec": {"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                                      "resolution": "DNS"}})
    assert c.exec("getent", "hosts", host).stdout.startswith("240.240.")
    # A cluster is made when it is first used, and a request waits for it.
    got = c.call("meshtest.load:get", url=f"http://{host}/")
    stats = {k: v for k, v in c.stats().items() if k.startswith(f"cluster.outbound|80||{host}.")}
    assert stats[f"cluster.outbound|80||{host}.update_attempt"] > 0
    assert stats[f"cluster.outbound|80||{host}.membership_total"] == 0, c.admin("/clusters")
    assert got["status"] == 503 and "no healthy upstream" in got["body"]


def test_a_link_is_read_again_when_its_target_changes(mesh):
    """Configuration is often linked from elsewhere (a checkout of git, a mounted ConfigMap)."""
    m = mesh()
    target = m.dir / "elsewhere.yaml"
    target.write_text(yaml.safe_dump(service("app", "books", {"app": "app"}, 80, 8080)))
    (m.config / "app.yaml").symlink_to(target)
    m.settle()
    ports = lambda: [p["port"] for s in m.page("/debug/registryz") if s["host"].startswith("app.") for p in s["ports"]]  # noqa: E731
    assert ports() == [80]
    target.write_text(yaml.safe_dump(service("app", "books", {"app": "app"}, 81, 8080)))
    m.settle()
    assert ports() == [81]
    # Taken away and put back, as editors and checkouts do.
    target.unlink()
    until(lambda: ports() == [], "the service is gone")
    target.write_text(yaml.safe_dump(service("app", "books", {"app": "app"}, 82, 8080)))
    m.settle()
    assert ports() == [82]
