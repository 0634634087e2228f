"""The README's demo, from the build under test: every expectation of it must hold, nothing may stay behind."""
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from meshtest import procs


def leftovers():
    nets = [p.name for p in Path("/run/weft").glob("demo-*")] if Path("/run/weft").exists() else []
    return nets + [p.name for p in Path("/tmp").glob("weft-demo-*")] + [
        p.name for d in Path("/tmp").glob("weft-[0-9]*") for p in d.glob("demo-*")]


def run_demo(binary, args=(), user=None, cwd=None):
    argv = [binary, "demo", *args]
    if user is not None:
        argv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *argv]
    env = dict(os.environ, HOME="/nonexistent" if user else os.environ.get("HOME", "/root"))
    env.pop("XDG_RUNTIME_DIR", None)
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, cwd=cwd, env=env)
    said = r.stdout + r.stderr
    assert r.returncode == 0, said
    assert re.search(r"\b\d+ expectations, 0 failed", said), said
    assert said.count("mutual TLS, both identities from the mesh's CA") == 4, said
    assert "FAILED" not in said and "AddressSanitizer" not in said and "runtime error" not in said, said
    return said


@pytest.mark.parametrize("proxy", ["weft", "envoy"])
def test_as_it_is(proxy):
    """`--proxy envoy`: every sidecar is an unmodified Envoy, and the same is expected of it."""
    before = leftovers()
    said = run_demo(procs.binary("weft"), ["--proxy", procs.envoy_binary()] if proxy == "envoy" else [])
    table = said[said.index("2. Who is there"):said.index("3. Requests")]
    assert table.count("SYNCED") == 3, said
    assert leftovers() == before


@pytest.mark.parametrize("name", ["nobody"])
def test_as_an_ordinary_user(name, tmp_path):
    """Without root the mesh lives in a user namespace; the binaries are where the user can read them."""
    user = pwd.getpwnam(name) if os.geteuid() == 0 else None
    place = Path(subprocess.run(["mktemp", "-d", "/tmp/weft-bin-XXXXXX"], check=True, capture_output=True, text=True).stdout.strip())
    try:
        place.chmod(0o755)
        for b in ("weft", "weft-proxy"):
            shutil.copy(procs.binary(b), place / b)
        before = leftovers()
        said = run_demo(str(place / "weft"), user=user, cwd="/tmp")
        assert "as an ordinary user" in said
        assert leftovers() == before
    finally:
        shutil.rmtree(place)
