"""tests/scenarios: the same configuration, driven by `weft control`, through weft-proxy and through a real Envoy."""
import pytest
from meshtest import scenario

SCENARIOS = scenario.load()


@pytest.fixture(scope="session")
def world(tmp_path_factory, request):
    w = scenario.World(tmp_path_factory.mktemp("scenarios"))
    yield w
    w.close(failed=False)


@pytest.mark.parametrize("s", SCENARIOS, ids=[f"{s['file']}:{s['name']}" for s in SCENARIOS])
def test_scenario(world, s):
    bad = world.play(s)
    assert not bad, "\n".join([*bad, "---- config", s.get("config") or ""])
