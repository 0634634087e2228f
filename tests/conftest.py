import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from meshtest import procs  # noqa: E402


@pytest.fixture
def spawn(tmp_path, request):
    """spawn(title, argv…) -> Proc; all are ended after the test, their output shown when it failed."""
    started = []

    def start(title, argv, **kw):
        p = procs.Proc(title, argv, tmp_path, **kw)
        started.append(p)
        return p

    yield start
    codes = []
    for p in reversed(started):
        try:
            code = p.stop()
        except AssertionError as e:
            code, text = None, str(e)
            codes.append(text)
        # Sanitizer reports come with their own exit code and always fail a test.
        if code == 99 or "ERROR: AddressSanitizer" in p.output() or "runtime error:" in p.output():
            codes.append(f"{p.title}: sanitizer report\n{p.output()}")
    if getattr(request.node, "failed", False):
        for p in started:
            print(p.output())
    assert not codes, "\n".join(codes)


LONGEST_S = 1800  # a test that does not come back, with its fixtures


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs fails by name, and the others go on."""
    def over(*_):
        raise AssertionError(f"not over after {LONGEST_S} s")
    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.failed = True
        report.sections.append(("again", f"tests: .venv/bin/python -m pytest '{item.nodeid}'"))


@pytest.fixture
def mesh(tmp_path, request):
    """mesh(**options) -> meshtest.mesh.Mesh; ended after the test, all logs shown when it failed."""
    from meshtest.mesh import Mesh
    made = []

    def make(**kw):
        made.append(Mesh(tmp_path, **kw))
        return made[-1]

    yield make
    for m in made:
        m.close(failed=getattr(request.node, "failed", False))
