"""Somebody else's requests through the same worker of a proxy while an attack runs: Undisturbed measures them.

As a program (a process of its own, so that the attacker's Python does not slow it): requests on one kept
connection; says "ready" after WARM of them, and what it measured when its input ends."""
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from . import http1, procs

WARM = 60
# How long the bystander's longest request may take while the attack runs: these times its p99 before, or FLOOR_S, whichever is
# more; and what the machine let them wait for a CPU meanwhile (all of it, which is far more than one request's part).
P99_FACTOR, FLOOR_S = 20, 0.7
CPU_FACTOR, CPU_FLOOR_S = 3, 0.002  # the proxy's CPU for one ordinary request afterwards, against before
RSS_KB = 40 * 1024  # the proxy may grow by this; what may wait for a slow reader is 1 MiB a stream
# Freed memory is kept in quarantine by AddressSanitizer, 256 MB of it: not here, where memory is measured.
ENV = {"ASAN_OPTIONS": ":".join([os.environ.get("ASAN_OPTIONS", "detect_leaks=1:exitcode=99"), "quarantine_size_mb=2"])}


def sustain(attack, seconds=0.7, least=3):
    """The attack again and again: a connection that is cut is no obstacle to somebody who opens another."""
    end, n = time.monotonic() + seconds, 0
    while n < least or time.monotonic() < end:
        attack()
        n += 1
    return n


def p99(times):
    return sorted(times)[max(0, len(times) * 99 // 100 - 1)] if times else 0.0


def main(port, path):
    before, during, failed = [], [], []

    def one(client, times):
        begin = time.monotonic()
        try:
            r = client.request(path=path)
            if r.status != 200:
                failed.append(r.status)
        except (OSError, http1.Closed) as e:
            failed.append(repr(e))
            client = http1.Client(port)
        times.append(time.monotonic() - begin)
        return client

    client = http1.Client(port)
    for _ in range(WARM):
        client = one(client, before)
    print("ready", flush=True)
    over, waited = False, waited_s(os.getpid())
    while not over and len(failed) < 100:
        over = bool(select.select([sys.stdin], [], [], 0.002)[0])
        client = one(client, during)  # once more when the attack is over
    print(json.dumps({"before": p99(before), "during": max(during), "n": len(during), "failed": failed[:10], "waited": waited_s(os.getpid()) - waited}), flush=True)


def schedstat_s(pid, field):
    return sum(int((t / "schedstat").read_text().split()[field]) for t in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def cpu_s(pid):
    """Seconds on a CPU, by the scheduler's clock."""
    return schedstat_s(pid, 0)


def waited_s(pid):
    """Seconds that it could have run, and others did."""
    return schedstat_s(pid, 1)


class Undisturbed:
    """with Undisturbed(proxy): attack. Fails when requests of others fail or wait meanwhile, when the proxy's memory
    grew by more than `rss_kb`, when it used more than `cpu` seconds, or when an ordinary request costs it more
    afterwards than before."""

    def __init__(self, proxy, path="/bystander", rss_kb=RSS_KB, cpu=20.0):
        self.proxy, self.path, self.rss_kb, self.cpu = proxy, path, rss_kb, cpu

    def cost(self, n=40):
        """The proxy's CPU for an ordinary request."""
        with http1.Client(self.proxy.port) as c:
            begin = cpu_s(self.proxy.pid)
            for _ in range(n):
                assert c.request(path=self.path).status == 200
            return (cpu_s(self.proxy.pid) - begin) / n

    def waits(self):
        """Of the proxy, and of this process, where backends are."""
        return waited_s(self.proxy.pid) + waited_s(os.getpid())

    def __enter__(self):
        self.cost_before = self.cost()
        self.other = subprocess.Popen([sys.executable, "-m", "meshtest.bystander", str(self.proxy.port), self.path],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      cwd=Path(__file__).resolve().parents[1])
        assert self.other.stdout.readline() == "ready\n"
        self.rss, self.cpu_before, self.waited = procs.rss_kb(self.proxy.pid), cpu_s(self.proxy.pid), self.waits()
        return self

    def __exit__(self, kind, *exc):
        used = cpu_s(self.proxy.pid) - self.cpu_before
        self.other.stdin.close()
        said = self.other.stdout.read()
        self.other.wait(60)
        waited = max(0, self.waits() - self.waited)  # threads that have ended take theirs with them
        if kind:
            return
        seen = json.loads(said)
        seen.update(cpu_s=used, grown_kb=procs.rss_kb(self.proxy.pid) - self.rss, cost_before=self.cost_before, proxy_waited=waited)
        dearest = max(CPU_FACTOR * seen["cost_before"], CPU_FLOOR_S)
        seen["cost"] = next((c for c in (self.cost() for _ in range(4)) if c <= dearest), None) or self.cost()  # what lasts, counts
        assert not seen["failed"] and seen["n"] > 0, seen
        assert seen["during"] <= max(P99_FACTOR * seen["before"], FLOOR_S) + waited + seen["waited"], seen
        assert seen["grown_kb"] <= self.rss_kb, seen
        assert seen["cpu_s"] <= self.cpu, seen
        assert seen["cost"] <= dearest, seen
        self.seen = seen


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
