"""Ports for servers that tests start by number.

A port is given once: not again to this process (before some 1,200 others were), not to another process
that asks here, and not by the kernel to a client, which is what happens to the ports of bind(0)."""
import collections
import contextlib
import random
import socket
import threading


def outside_of_clients_ports():
    """Above the mesh's own (15000-15100), and where the kernel takes no ports for clients, if there is room."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low, high = map(int, f.read().split())
    return next((r for r in ((16000, min(32000, low)), (max(16000, high + 1), 65000)) if r[1] - r[0] >= 4000), (16000, 32000))


FIRST, LAST = outside_of_clients_ports()
BLOCK, MOST = 50, 24        # a claim, and how many claims a process has
CLAIM = "\0weft-test-ports-%d"

_lock = threading.Lock()
_claims = []  # bound as long as the process lives; the names go with it
_turn = collections.deque()  # what is given next


def _claim():
    """The ports of a block that is this process's from now on."""
    starts = range(FIRST, LAST - BLOCK + 1, BLOCK)
    for start in random.sample(starts, len(starts)):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.bind(CLAIM % start)
        except OSError:
            s.close()
            continue
        _claims.append((s, start))
        return list(range(start, start + BLOCK))
    raise AssertionError("all test ports are claimed by processes that run")


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens at, and that is given to no one else."""
    tried = 0
    with _lock:
        while True:
            if not _turn:
                if len(_claims) < MOST:
                    _turn.extend(_claim())
                else:
                    _turn.extend(p for _, start in _claims for p in range(start, start + BLOCK))
            port = _turn.popleft()
            with contextlib.closing(socket.socket()) as s, contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                return port
            tried += 1
            assert tried < 2 * MOST * BLOCK, "no test port is free"
