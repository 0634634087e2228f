"""What somebody meets who knows Istio and tries its tasks with `weft run`."""
import subprocess
import sys

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


def test_a_command_that_the_mesh_cannot_reach_is_told(mesh):
    """A port of the loopback (the default of many frameworks), and none at all."""
    m = mesh()
    m.apply("app.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    listen = "import socket, time; s = socket.create_server((%r, %d)); time.sleep(100)"
    alone = m.run("alone", [sys.executable, "-c", listen % ("127.0.0.1", 8080)], labels={"app": "app"}, ports=[8080])
    other = m.run("other", [sys.executable, "-c", listen % ("0.0.0.0", 8081)], labels={"app": "app"}, ports=[8080], wait=False)
    fine = m.run("fine", [sys.executable, "-c", listen % ("0.0.0.0", 8080)], labels={"app": "app"}, ports=[8080])
    until(lambda: "the command listens on 127.0.0.1 only" in alone.log.read_text(), "the loopback is told")
    until(lambda: "nothing listens on 10.97." in other.log.read_text(), "the silence is told")
    assert not other.registered() and "listens" not in fine.log.read_text()


def test_two_control_planes(mesh, tmp_path):
    m = mesh()
    for args, said in ((["--mesh", m.name, "--discovery-address", "", "--monitoring-address", ""], f"mesh '{m.name}' has a control plane"),
                       (["--no-mesh-network", "--discovery-address", "", "--monitoring-address", f"127.0.0.1:{m.monitoring}"],
                        "give this one addresses of its own (--discovery-address")):
        r = subprocess.run([m.weft, "control", "--config", m.config, "--state", tmp_path / "state", *args],
                           capture_output=True, text=True, timeout=60)
        assert r.returncode == 1 and said in r.stderr, r.stderr
    assert m.page("/debug/configz")  # the first one is as it was


def test_what_cannot_begin_says_what_to_do(mesh, tmp_path):
    m = mesh()

    def weft(*args):
        r = subprocess.run([m.weft, *args], capture_output=True, text=True, timeout=60)
        return r.returncode, r.stderr

    code, said = weft("run", "--mesh", m.name, "--name", "app", "--port", "15006", "--", "true")
    assert code == 125 and "--port 15006 is the sidecar's own: let the command listen at another" in said
    code, said = weft("control", "--config", m.config, "--mesh", f"{m.name}-b", "--state", "/dev/null/state")
    assert code != 0 and "/dev/null/state cannot be made" in said and "say --state DIR" in said
    code, said = weft("run", "--mesh", f"{m.name}-none", "--name", "app", "--", "true")
    assert code == 125 and "waiting for the control plane" in said and "start it with `weft control" in said
