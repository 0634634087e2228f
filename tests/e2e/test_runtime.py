"""The runtime of a directory and of the admin: what a swapped link brings is in force soon, as with Envoy."""
import json
import os
import urllib.error

import pytest
from meshtest import procs
from meshtest.mesh import until
from meshtest.proxy import Proxy

FAULT = {"name": "envoy.filters.http.fault", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", "abort": {"http_status": 503, "percentage": {"numerator": 0}}}}


class Directory:
    """As in Envoy's fault injection sandbox: ROOT/current is a link to the version in force."""

    def __init__(self, root):
        self.root, self.n = root, 0
        root.mkdir()

    def put(self, **keys):
        self.n += 1
        for key, text in keys.items():
            file = self.root / f"v{self.n}" / "envoy" / key.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        new = self.root / "new"
        new.symlink_to(self.root / f"v{self.n}")
        os.rename(new, self.root / "current")

    def layers(self):
        return [{"name": "disk", "disk_layer": {"symlink_root": str(self.root / "current"), "subdirectory": "envoy"}}, {"name": "admin", "admin_layer": {}}]


def case(layers):
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    fraction = {"default_value": {"numerator": 0}, "runtime_key": "routing.shift"}
    return {"bootstrap": {"layered_runtime": {"layers": layers}}, "hcm": {"http_filters": [FAULT, router]},
            "routes": [{"match": {"prefix": "/", "runtime_fraction": fraction}, "direct_response": {"status": 210}},
                       {"match": {"prefix": "/"}, "direct_response": {"status": 211}}]}


@pytest.mark.parametrize("kind", ["weft", "envoy"])
def test_a_swapped_directory_is_followed(spawn, tmp_path, kind):
    d = Directory(tmp_path / "runtime")
    d.put(routing__shift="100\n")
    p = Proxy(spawn, tmp_path, case(d.layers()), kind=kind)
    assert p.get().status == 210
    d.put(routing__shift="# less\n0\n", fault__http__abort__http_status="418")
    until(lambda: p.get().status == 211, "the next version")
    d.put(routing__shift="numerator: 100\ndenominator: HUNDRED\n", fault__http__abort__abort_percent="0")
    until(lambda: p.get().status == 210, "a fraction")
    d.put(fault__http__abort__abort_percent="100", fault__http__abort__http_status="418")
    until(lambda: p.get().status == 418, "a fault")
    assert p.ask("/runtime_modify?fault.http.abort.abort_percent=0", "POST") == "OK\n"
    assert p.get().status == 211
    runtime = json.loads(p.ask("/runtime"))
    assert runtime["layers"] == ["disk", "admin"]
    assert runtime["entries"]["fault.http.abort.abort_percent"] == {"final_value": "0", "layer_values": ["100", "0"]}
    assert p.stats()["runtime.num_layers"] == 2 and p.stats()["runtime.admin_overrides_active"] == 1
    assert p.ask("/runtime_modify?fault.http.abort.abort_percent=", "POST") == "OK\n"
    assert p.get().status == 418
    for path, status in (("/runtime_modify", 400), ("/runtime_modify?a=b", None)):
        try:
            p.ask(path, "POST")
            assert status is None
        except urllib.error.HTTPError as e:
            assert e.code == status


def test_what_cannot_be_read_leaves_what_there_was(spawn, tmp_path):
    d = Directory(tmp_path / "runtime")
    d.put(routing__shift="100")
    p = Proxy(spawn, tmp_path, case(d.layers()))
    d.put(routing__shift="0", routing__long="x" * 5000)
    until(lambda: p.stat(r"^runtime\.load_error$") >= 1, "the new version is looked at")
    assert p.get().status == 210
    d.put(routing__shift="0")
    until(lambda: p.get().status == 211, "a good one follows")


@pytest.mark.parametrize("layers,message", [
    ([{"name": "", "static_layer": {}}], "layered_runtime.layers[0].name: must not be empty"),
    ([{"name": "a", "static_layer": {}}, {"name": "a", "admin_layer": {}}], "layered_runtime.layers[1].name: 'a' is the name of another layer, too"),
    ([{"name": "a"}], "layered_runtime.layers[0]: one of static_layer, disk_layer, admin_layer must be set"),
    ([{"name": "a", "admin_layer": {}}, {"name": "b", "admin_layer": {}}], "layered_runtime.layers[1].admin_layer: there is one already"),
    ([{"name": "a", "disk_layer": {"symlink_root": "/nonexistent/x"}}], "layered_runtime.layers[0].disk_layer.symlink_root: '/nonexistent/x': No such file"),
    ([{"name": "a", "rtds_layer": {"name": "x"}}], "layered_runtime.layers[0].rtds_layer: no such field"),
])
def test_layers_that_are_refused(spawn, tmp_path, layers, message):
    conf = tmp_path / "b.json"
    conf.write_text(json.dumps({"layered_runtime": {"layers": layers}}))
    p = spawn("weft", [procs.binary("weft-proxy"), "-c", conf, "--mode", "validate"])
    p.wait(20)
    assert message in p.output()


def test_without_an_admin_layer(spawn, tmp_path):
    p = Proxy(spawn, tmp_path, case([{"name": "own", "static_layer": {"routing": {"shift": 100}}}]))
    assert p.get().status == 210
    with pytest.raises(urllib.error.HTTPError) as e:
        p.ask("/runtime_modify?routing.shift=0", "POST")
    assert e.value.code == 503 and p.get().status == 210
