"""The table of docs/threat-model.md holds: every case has tests that exist, and a counter that the proxy has."""
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
ROWS = {int(m[1]): (m[2], m[3]) for m in re.finditer(r"^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", (TOP / "docs/threat-model.md").read_text(), re.M)}
SOURCES = "\n".join(p.read_text() for p in (TOP / "src").rglob("*.[ch]") if not p.name.endswith("_test.c"))


def test_no_case_is_missing():
    assert {*range(1, 30), *range(39, 47)} <= set(ROWS)


@pytest.mark.parametrize("case", ROWS)
def test_its_tests_are_there(case):
    for name in ROWS[case][0].split(", "):
        file, _, function = name.partition("::")
        if function:
            text = (TOP / f"tests/e2e/test_{file}.py").read_text()
            assert re.search(rf"^def {function}\(", text, re.M), name
        else:  # room:unit test
            room, unit = name.split(":")
            assert (TOP / "src" / room / f"{unit}_test.c").exists(), name
            assert re.search(rf"'{unit}'", (TOP / "src" / room / "meson.build").read_text()), name


@pytest.mark.parametrize("case", ROWS)
def test_its_counter_is_one(case):
    if ROWS[case][1].startswith("none: "):
        return
    for name in ROWS[case][1].split(", "):
        last = name.split(".")[-1]
        if name.startswith("proxy_proto.versions"):
            assert "versions.v1." in SOURCES
        assert re.search(rf"\b{last}\b", SOURCES), name


def test_every_parser_has_a_fuzz_target():
    """fuzz/README.md lists what reads bytes of strangers, or text of configurations, and the target that tries it."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|$", (TOP / "fuzz/README.md").read_text(), re.M)
    assert len(rows) >= 20
    known = set(re.findall(r"^  '(\w+)':", (TOP / "fuzz/meson.build").read_text(), re.M))
    for path, targets in rows:
        assert (TOP / path).exists(), path
        assert set(targets.strip().split(", ")) <= known, (path, targets)
        for t in targets.strip().split(", "):
            assert any((TOP / "fuzz/corpus" / t).iterdir()), t
