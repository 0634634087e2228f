"""What the tests stand on: a port is given once."""
import io
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from meshtest import ports, procs

ASK = "from meshtest.ports import free_port; print(*[free_port() for _ in range(120)]); input()"


def test_no_port_is_given_twice():
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: ports.free_port(), range(400)))
    assert len(set(given)) == len(given)
    assert all(ports.FIRST <= p < ports.LAST for p in given)


@pytest.mark.parametrize("clients, ours", [("32768 60999", (16000, 32000)), ("20000 60999", (16000, 20000)), ("1024 40000", (40001, 65000)),
                                           ("1024 65535", (16000, 32000)), ("10000 12000", (16000, 65000))])
def test_ports_of_clients_are_left_out(monkeypatch, clients, ours):
    monkeypatch.setattr("builtins.open", lambda *_: io.StringIO(clients))
    assert ports.outside_of_clients_ports() == ours


def test_processes_share_no_ports():
    asked = [subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              cwd=procs.TOP / "tests/lib") for _ in range(4)]
    given = [int(p) for a in asked for p in a.stdout.readline().split()]
    for a in asked:
        a.communicate("\n")
    assert len(given) == 480 and len(set(given)) == 480


def test_a_port_in_use_is_not_given_when_its_turn_comes():
    with socket.socket() as s:
        s.bind(("127.0.0.1", port := ports.free_port()))
        s.listen()
        later = [ports.free_port() for _ in range(ports.BLOCK * ports.MOST)]
    assert port not in later
