"""The README's demo, from the build under test: every expectation of it must hold, nothing may stay behind."""
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from meshtest import procs


def leftovers(pid):
    """What a demo of that process id made: directories, and processes that name its mesh."""
    mesh, found = f"demo-{pid}", []
    for place in ("/run/weft", "/tmp/weft-[0-9]*"):
        found += [str(p) for p in Path("/").glob(f"{place[1:]}/{mesh}")]
    found += [str(p) for p in Path("/tmp").glob(f"weft-{mesh}-*")]
    for p in Path("/proc").glob("[0-9]*"):
        try:
            argv = (p / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mesh.encode() in argv or any(f"/tmp/weft-{mesh}-".encode() in a for a in argv):
            found.append(f"process {p.name}: {b' '.join(argv)[:200]!r}")
    return found


def run_demo(binary, user=None, cwd=None):
    argv = [binary, "demo"]
    if user is not None:
        argv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *argv]
    env = dict(os.environ, HOME="/nonexistent" if user else os.environ.get("HOME", "/root"))
    env.pop("XDG_RUNTIME_DIR", None)
    with tempfile.TemporaryFile() as out:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=env)
        try:
            code = p.wait(300)
        except subprocess.TimeoutExpired:
            p.terminate()
            code = f"not within 300 s, ended with {p.wait(60)}"
        out.seek(0)
        said = out.read().decode(errors="replace")
    print(said)
    assert code == 0, f"exit code {code}\n{said}"
    assert re.search(r"\b\d+ expectations, 0 failed", said), said
    assert said.count("mutual TLS, both identities from the mesh's CA") == 4, said
    assert "FAILED" not in said and "AddressSanitizer" not in said and "runtime error" not in said, said
    left = leftovers(p.pid)
    assert not left, f"left behind: {left}\n{said}"
    return said


def test_as_it_is():
    run_demo(procs.binary("weft"))


@pytest.mark.parametrize("name", ["nobody"])
def test_as_an_ordinary_user(name):
    """Without root the mesh lives in a user namespace; the binaries are where the user can read them."""
    user = pwd.getpwnam(name) if os.geteuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="weft-bin-", dir="/tmp"))
    try:
        place.chmod(0o755)
        for b in ("weft", "weft-proxy"):
            shutil.copy(procs.binary(b), place / b)
        said = run_demo(str(place / "weft"), user=user, cwd="/tmp")
        assert "as an ordinary user" in said
    finally:
        shutil.rmtree(place)


def test_two_at_once_do_not_disturb_each_other():
    """One ends while the other runs."""
    other = subprocess.Popen([procs.binary("weft"), "demo"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    run_demo(procs.binary("weft"))
    said = other.communicate(timeout=300)[0].decode(errors="replace")
    assert other.returncode == 0, said
    assert not leftovers(other.pid), said
