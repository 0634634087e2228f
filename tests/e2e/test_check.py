"""What `make check` says when something fails: the reasons, each once, within what is seen of a long log (tools/check)."""
import importlib.util
from importlib.machinery import SourceFileLoader

import pytest
from meshtest import procs

REPORT = """<testsuites><testsuite><testcase classname="tests.e2e.test_a" name="fine"/>{}
<testcase classname="tests.e2e.test_b" name="other"><failure message="AssertionError: 3 is not 4">E   assert 3 == 4</failure></testcase>
<testcase classname="tests.e2e.test_c" name="later"><skipped message="not today"/></testcase>
<testcase classname="weft" name="weft:unit / arena"><failure/><system-out>[ RUN ] x
[  ERROR   ] --- 1 != 2
src/base/arena_test.c:7: error: Failure!</system-out></testcase></testsuite></testsuites>"""
LOST = '<testcase classname="tests.e2e.test_a" name="t[{0}]"><error message="failed on setup with &quot;AssertionError: port {0} is in use&#10;$ proxy&quot;">long</error></testcase>'


@pytest.fixture
def check():
    loader = SourceFileLoader("check", str(procs.TOP / "tools" / "check"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
    loader.exec_module(module)
    return module


def test_reasons_stand_at_the_end(check, tmp_path, capsys):
    report = tmp_path / "e2e.xml"
    report.write_text(REPORT.format("".join(LOST.format(i) for i in range(1900))))
    log, tally = check.TOP / "build" / "none.log", check.Tally()
    check.judge(tally, "e2e", 1, log, 0, *check.junit(report), lambda name: f"again {name}")
    assert (tally.passed, tally.failed) == (1, 1903)
    out = check.tell(tally.bad)
    text = "\n".join(out)
    assert len(out) <= 100 and len(capsys.readouterr().out.splitlines()) < 200
    assert "e2e: 1900 failed: failed on setup with \"AssertionError: port 0 is in use" in text and text.count("is in use") == 1
    assert "and 1884 more" in text and "again: again tests.e2e.test_a::t[0]" in text
    assert "AssertionError: 3 is not 4" in text and "skipped: not today" in text and "arena_test.c:7: error: Failure!" in text
    assert len("\n".join(check.tell(tally.bad, 10 ** 6, 10 ** 6)).splitlines()) > 1900


def test_a_suite_without_a_report_has_failed(check, tmp_path):
    log, tally = tmp_path / "e2e.log", check.Tally()
    log.write_text("collecting\nInterrupted: no space left\n")
    check.TOP = tmp_path
    check.judge(tally, "e2e", 2, log, 0, *check.junit(tmp_path / "e2e.xml"), str)
    assert tally.failed == 1 and "no such report" in tally.bad[0][2]
    (tmp_path / "e2e.xml").write_text("<testsuites/>")
    check.judge(tally, "e2e", 0, log, 0, *check.junit(tmp_path / "e2e.xml"), str)
    assert tally.failed == 2 and "no test ran" in tally.bad[1][2] + tally.bad[1][1]
