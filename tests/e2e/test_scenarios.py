"""tests/scenarios: the same configuration, driven by `weft control`, through weft-proxy and through a real Envoy."""
import warnings

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
    bad, first = world.confirmed(s)
    if first:
        warnings.warn(f"{s['name']} was played twice, the first time: " + "\n".join(first), stacklevel=1)  # to be seen, also when it passes
    assert not bad, "\n".join([*bad, "---- config", s.get("config") or ""])


# ---- the harness notices ----

def seen(**k):
    return {"status": 200, "seconds": 0.1, "headers": {"x-r": ["1"]}, "seen": {"x-a": ["1", "2"]}, "flags": "-", "version": "v1",
            "backend": "a1", **k}


@pytest.mark.parametrize("expect, bad", [
    ({"status": 200, "flags": "-", "version": "v1"}, 0), ({"status": 404}, 1), ({"flags": "UF"}, 1), ({"details": "x"}, 1),
    ({"headers": {"X-R": 1}}, 0), ({"headers": {"x-r": None}}, 1), ({"headers": {"x-s": None}}, 0), ({"headers": {"x-s": "1"}}, 1),
    ({"seen": {"x-a": ["1", "2"]}}, 0), ({"seen": {"x-a": ["2", "1"]}}, 1), ({"seen": {"x-a": "1"}}, 1),
    ({"flags": "~^-$"}, 0), ({"flags": "~U"}, 1), ({"takes": [0, 1]}, 0), ({"takes": [0.2, None]}, 1), ({"takes": [0, 0.05]}, 1),
])
def test_expectations(expect, bad):
    assert len(scenario.unmet(expect, [seen()])) == bad


def test_shares_and_spread():
    many = [seen() for _ in range(90)] + [seen(version="v2", backend="b1") for _ in range(10)]
    assert not scenario.unmet({"split": {"v1": 90, "v2": 10}, "spread": ["a1", "b1"]}, many)
    assert len(scenario.unmet({"split": {"v1": 50, "v2": 50}}, many)) == 2
    assert not scenario.unmet({"split": {"v1": 80, "v2": 20}}, many) and scenario.unmet({"split": {"v1": 80, "v2": 20}}, many * 8)
    assert scenario.unmet({"split": {"v1": 80, "v2": 20}}, many * 2, 2.6)
    assert len(scenario.unmet({"split": {"v1": 100}}, many)) == 2
    assert scenario.unmet({"statuses": {503: 50, 200: 50}}, many) and scenario.unmet({"same": True}, many)
    assert scenario.unmet({"spread": ["a1"]}, many) and scenario.unmet({"spread": ["a1", "b1", "a2"]}, many)


def test_two_observations_are_compared():
    a, b = scenario.comparable(seen(backend="a2")), scenario.comparable(seen(headers={"x-r": ["2"]}))
    assert scenario.differing(a, a) == [] and scenario.differing(a, b) == ["headers.x-r: weft ['1'], Envoy ['2']"]


@pytest.mark.parametrize("wrong", [{"name": "n"}, {"name": "n", "requests": [{"url": "http://a/"}]}, {"requests": []},
                                   {"name": "n", "request": []}, {"name": "n", "requests": [{"url": "u", "expect": {"stats": 1}}]},
                                   {"name": "n", "requests": [{"url": "u", "expect": {"status": 1}, "envoy": {"status": 2}}]},
                                   {"name": "n", "requests": [{"url": "u", "expect": {"status": 1}, "differs": "no-such-reason"}]}])
def test_scenarios_are_checked(wrong):
    with pytest.raises(AssertionError):
        scenario.check(wrong, "f", scenario.differences())
