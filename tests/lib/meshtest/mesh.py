"""A running mesh: `weft control` and workloads of `weft run`, under a mesh name, state directory and ports of its own.

    m = Mesh(tmp_path)                      # the control plane is up
    m.apply("app.yaml", service("app", "books", {"app": "app"}, 80, 8080))
    a = m.http_server("a", "app", version="v1")      # a workload running meshtest.apps
    c = m.client("c")                                # a workload that does what the test says (meshtest.remote)
    m.settle()                              # every file was read, every proxy has applied it
    c.call("meshtest.load:get", url="http://app.books/")
    m.close()                               # everything ends; fails on sanitizer reports and on what is left behind

Any command can be a workload (`run`); `proxy=` names another sidecar than weft-proxy, such as an Envoy.
Each workload's admin page is published on the host's loopback (`admin`, `stats`).
"""
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml

from . import procs
from .procs import fetch

LIB = Path(__file__).resolve().parents[1]
NAMES = itertools.count(1)


class NotYet(AssertionError):
    """A condition that did not come true in time; the text says how far it came."""


def until(condition, what, timeout=60, pause=0.02):
    """Waits for a true value and returns it. An AssertionError or OSError inside counts as not yet."""
    end, last = time.monotonic() + timeout, None
    while True:
        try:
            if got := condition():
                return got
            last = got
        except (AssertionError, OSError, ValueError, KeyError) as e:
            last = e
        if time.monotonic() > end:
            raise NotYet(f"{what}: not within {timeout} s; last: {last!r}")
        time.sleep(pause)


class Workload:
    """One `weft run`. Its command's standard input and output belong to the test (`proc.stdin`, …)."""

    def __init__(self, mesh, name, command, ns, labels, ports, proxy, publish, certificate_seconds, drain_s, args, env):
        self.mesh, self.name, self.ns = mesh, name, ns
        self.proxy_log = mesh.dir / f"{name}.proxy.log"
        self.log = mesh.dir / f"{name}.log"
        self.published = {15000: procs.free_port(), **{p: procs.free_port() for p in publish}}
        argv = [mesh.weft, "run", "--mesh", mesh.name, "--name", name, "--namespace", ns, "--proxy-log", self.proxy_log,
                "--service-account", name, "--drain-time-s", drain_s, "--labels",
                ",".join(f"{k}={v}" for k, v in (labels or {}).items())]
        argv += [x for p in ports for x in ("--port", p)]
        argv += [x for inner, outer in self.published.items() for x in ("--publish", f"{outer}:{inner}")]
        argv += ["--proxy", proxy] if proxy else []
        argv += ["--certificate-seconds", certificate_seconds] if certificate_seconds else []
        argv += [*args, "--", *command]
        self.argv = [str(a) for a in argv]
        with open(self.log, "ab") as err:
            self.proc = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                                         env=dict(os.environ, PYTHONPATH=str(LIB), **(env or {})))
        self.calls, self.ids, self.lock, self.reader = {}, itertools.count(1), threading.Lock(), None

    # ---- state ----

    def registered(self):
        """Its endpoint, healthy, as the control plane sees it (any service that selects it), else None."""
        for svc in self.mesh.page("/debug/registryz"):
            for port in svc["ports"]:
                for e in port["endpoints"]:
                    if e["workload"] == self.name and e["healthy"]:
                        return e
        return None

    def synced(self):
        """What /debug/syncz says of its proxy."""
        return next((p for p in self.mesh.page("/debug/syncz") if p["name"] == self.name and p["namespace"] == self.ns), None)

    def alive(self):
        if self.proc.poll() is not None:
            raise RuntimeError(f"workload {self.name} ended with {self.proc.returncode}\n{self.output()}")
        return True

    def wait_up(self, timeout=60):
        """The sidecar is connected and its admin answers."""
        until(lambda: self.alive() and self.synced() and self.admin("/ready"), f"workload {self.name} is up", timeout)
        return self

    @property
    def address(self):
        return until(self.synced, f"proxy of {self.name}")["ip"]

    def sidecar_pid(self):
        """The sidecar is the child of `weft run` whose command line has -c."""
        kids = Path(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").read_text().split()
        for pid in kids:
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"--concurrency" in argv and (b"-c" in argv or b"--config-yaml" in argv):
                    return int(pid)
        raise AssertionError(f"no sidecar among the children {kids} of {self.name}")

    # ---- the sidecar's admin ----

    def admin(self, path, method="GET"):
        return fetch(f"http://127.0.0.1:{self.published[15000]}{path}", method)

    def stats(self):
        """name -> number, counters and gauges."""
        return procs.parse_stats(self.admin("/stats"))

    def stat(self, pattern):
        """Sum of the stats whose name matches."""
        return sum(v for k, v in self.stats().items() if re.search(pattern, k))

    def rss_kb(self, peak=False):
        """The sidecar's resident memory now, or at most since forget_peak."""
        return procs.rss_kb(self.sidecar_pid(), peak)

    def forget_peak(self):
        Path(f"/proc/{self.sidecar_pid()}/clear_refs").write_text("5")

    # ---- inside its namespaces ----

    def exec_argv(self, *command):
        return [self.mesh.weft, "exec", "--mesh", self.mesh.name, self.name, "--", *map(str, command)]

    def exec(self, *command, timeout=60, check=True, **kw):
        r = subprocess.run(self.exec_argv(*command), capture_output=True, text=True, timeout=timeout, **kw)
        assert not check or r.returncode == 0, f"{command} in {self.name}: {r.returncode}\n{r.stdout}{r.stderr}"
        return r

    # ---- a command that is meshtest.remote: calls of Python functions ----

    def call(self, function, timeout=120, **args):
        """Runs "module:function" inside the workload and returns what it returned."""
        return self.start(function, **args).result(timeout)

    def start(self, function, **args):
        with self.lock:
            if not self.reader:
                self.reader = threading.Thread(target=self._read, daemon=True)
                self.reader.start()
            call = Call(self, next(self.ids), function)
            self.calls[call.id] = call
            self._send({"id": call.id, "call": function, "args": args})
        return call

    def _send(self, message):
        self.proc.stdin.write(json.dumps(message).encode() + b"\n")
        self.proc.stdin.flush()

    def _read(self):
        for line in self.proc.stdout:
            answer = json.loads(line)
            self.calls.pop(answer["id"])._done(answer)
        for call in list(self.calls.values()):
            call._done({"error": f"workload {self.name} has ended"})

    # ---- end ----

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """Signals `weft run` and waits; the exit code."""
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
        return self.wait(timeout)

    def wait(self, timeout=60):
        try:
            code = self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            raise AssertionError(f"workload {self.name} did not end\n{self.output()}") from None
        for f in (self.proc.stdin, self.proc.stdout):
            with contextlib.suppress(OSError):
                f.close()
        return code

    def output(self):
        text = [f"$ {' '.join(self.argv)}"]
        for log in (self.log, self.proxy_log):
            if log.exists():
                text.append(f"---- {log.name}\n" + log.read_text(errors="replace")[-6000:])
        return "\n".join(text)


class Call:
    """A function that runs inside a workload."""

    def __init__(self, workload, number, function):
        self.workload, self.id, self.function = workload, number, function
        self.event, self.answer = threading.Event(), None

    def _done(self, answer):
        self.answer = answer
        self.event.set()

    def done(self):
        return self.event.is_set()

    def stop(self):
        """Sets the `stop` event that the function was given."""
        with self.workload.lock:
            self.workload._send({"id": self.id, "stop": True})
        return self

    def result(self, timeout=120):
        if not self.event.wait(timeout):
            raise AssertionError(f"{self.function} in {self.workload.name} did not return within {timeout} s")
        if "error" in self.answer:
            raise AssertionError(f"{self.function} in {self.workload.name}: {self.answer['error']}")
        return self.answer["result"]


class Mesh:
    def __init__(self, tmp_path, namespace="books", control_args=(), weft=None, start=True):
        self.name = f"t{os.getpid()}-{next(NAMES)}"
        self.dir = Path(tmp_path) / self.name
        self.config, self.state = self.dir / "config", self.dir / "state"
        self.config.mkdir(parents=True)
        self.ns, self.control_args, self.weft = namespace, list(control_args), weft or procs.binary("weft")
        self.access_log, self.control_log = self.dir / "access.log", self.dir / "control.log"
        self.monitoring, self.control = procs.free_port(), None
        self.workloads = {}
        if start:
            self.start_control()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(failed=kind is not None)

    # ---- control plane ----

    def start_control(self, wait=True):
        argv = [self.weft, "control", "--mesh", self.name, "--config", self.config, "--namespace", self.ns, "--state", self.state,
                "--discovery-address", "", "--monitoring-address", f"127.0.0.1:{self.monitoring}",
                "--access-log-file", self.access_log, *self.control_args]
        with open(self.control_log, "ab") as log:
            self.control = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            until(lambda: self._control_alive() and fetch(f"http://127.0.0.1:{self.monitoring}/ready"), "the control plane is ready")

    def _control_alive(self):
        if self.control.poll() is not None:
            raise RuntimeError(f"weft control ended with {self.control.returncode}\n{self.control_output()}")
        return True

    def stop_control(self, sig=signal.SIGTERM, timeout=60):
        self.control.send_signal(sig)
        return self.control.wait(timeout)

    def control_output(self):
        return self.control_log.read_text(errors="replace")[-10000:]

    def page(self, path):
        """A page of the control plane, parsed."""
        return json.loads(fetch(f"http://127.0.0.1:{self.monitoring}{path}"))

    def metric(self, name):
        text = fetch(f"http://127.0.0.1:{self.monitoring}/metrics")
        return int(re.search(rf"^{name} (\d+)", text, re.M)[1])

    def problems(self):
        return self.page("/debug/problems")

    def proxy_status(self, *args):
        """What a person sees."""
        return subprocess.run([self.weft, "proxy-status", "--control", f"127.0.0.1:{self.monitoring}", *args],
                              capture_output=True, text=True, timeout=60, check=True).stdout

    # ---- configuration ----

    def write(self, name, *objects):
        """Objects (dicts) or YAML text into a file of the configuration, in one step, as editors do."""
        text = "---\n".join(o if isinstance(o, str) else yaml.safe_dump(o, sort_keys=False) for o in objects)
        new = self.dir / f".{name}.new"
        new.write_text(text)
        new.rename(self.config / name)

    def remove(self, name):
        (self.config / name).unlink()

    def apply(self, name, *objects, timeout=60):
        """Writes and waits until it is in force everywhere."""
        self.write(name, *objects)
        self.settle(timeout=timeout)

    def _stamps(self):
        stats = [(f, f.stat()) for f in self.config.rglob("*") if f.suffix in (".yaml", ".yml", ".json")]
        return sorted((str(f), s.st_ino, s.st_mtime_ns) for f, s in stats)

    def read_all(self):
        """The control plane has read the files as they are now."""
        return self._stamps() == sorted((f["file"], f["inode"], f["modifiedNs"]) for f in self.page("/debug/configz")["files"])

    def settle(self, proxies=None, timeout=60):
        """Every file was read and every proxy has answered what follows from it (refusals are answers: see
        proxy_status). `proxies`: how many there must be; default: one for each living workload."""
        want = proxies if proxies is not None else sum(w.proc.poll() is None for w in self.workloads.values())

        def there():
            stamps, c = self._stamps(), self.page("/debug/configz")
            read = sorted((f["file"], f["inode"], f["modifiedNs"]) for f in c["files"])
            assert read == stamps, f"files read {read}, there are {stamps}"
            assert not c["pending"] and c["proxies"] == c["applied"] == want, f"{c}, wanted {want} proxies"
            return True
        until(there, "the configuration is in force", timeout)

    # ---- workloads ----

    def run(self, name, command, ns=None, labels=None, ports=(), proxy=None, publish=(), certificate_seconds=None, drain_s=5,
            args=(), env=None, wait=True):
        """`weft run … -- command`. proxy: path of another sidecar program (an Envoy)."""
        w = Workload(self, name, [str(c) for c in command], ns or self.ns, labels, ports, proxy, publish, certificate_seconds,
                     drain_s, args, env)
        self.workloads[f"{name}#{len(self.workloads)}"] = w
        if wait:
            w.wait_up()
            if ports:
                until(lambda: w.alive() and w.registered(), f"{name} is an endpoint of a service")
        return w

    def http_server(self, name, app, version="v1", port=8080, args=(), **kw):
        """meshtest.apps' HTTP server; answers say its name and version."""
        return self.run(name, self.server_command(name, version, port, *args), labels={"app": app, "version": version}, ports=[port],
                        **kw)

    def server_command(self, name, version, port=8080, *args):
        return [sys.executable, "-m", "meshtest.apps", "http", "--port", port, "--name", name, "--version", version, *args]

    def client(self, name="client", **kw):
        """A workload for call() and start()."""
        kw.setdefault("labels", {"app": name})
        return self.run(name, [sys.executable, "-m", "meshtest.remote"], **kw)

    # ---- end ----

    def output(self):
        return "\n".join([f"==== control plane of {self.name}\n{self.control_output() if self.control else ''}",
                          *(f"==== workload {w.name}\n{w.output()}" for w in self.workloads.values())])

    def close(self, failed=False):
        """Ends everything. Sanitizer reports and leftovers fail the test; after a failure all logs are shown."""
        wrong = []
        living = [w for w in self.workloads.values() if w.proc.poll() is None]
        for w in living:
            w.proc.send_signal(signal.SIGTERM)
        for w in self.workloads.values():
            try:
                w.wait()
            except AssertionError as e:
                wrong.append(str(e))
        if self.control and self.control.poll() is None:
            try:
                code = self.stop_control()
                if code != 0:
                    wrong.append(f"weft control ended with {code}")
            except subprocess.TimeoutExpired:
                self.control.kill()
                self.control.wait()
                wrong.append("weft control did not end")
        for log in [self.control_log, *(f for w in self.workloads.values() for f in (w.log, w.proxy_log))]:
            text = log.read_text(errors="replace") if log.exists() else ""
            if re.search(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|runtime error:|assertion .*failed", text, re.I):
                wrong.append(f"sanitizer report in {log.name}\n{text[-8000:]}")
        try:
            until(lambda: not self.leftovers(), "nothing is left behind")
        except NotYet:
            wrong.append(f"left behind: {self.leftovers()}")
        if failed or wrong:
            print(self.output())
        assert failed or not wrong, "\n".join(wrong)

    def leftovers(self):
        """Runtime directories of this mesh."""
        places = [Path("/run/weft"), Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "weft",
                  Path(f"/tmp/weft-{os.geteuid()}")]
        return [str(p / self.name) for p in places if (p / self.name).exists()]


# ---- objects ----

def service(name, ns, selector, port, target, port_name="http", **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns},
            "spec": {"selector": selector, "ports": [{"name": port_name, "port": port, "targetPort": target}], **spec}}


def destination_rule(name, ns, host, subsets=("v1", "v2"), **spec):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name, "namespace": ns},
            "spec": {"host": host, **({"subsets": [{"name": s, "labels": {"version": s}} for s in subsets]} if subsets else {}), **spec}}


def virtual_service(name, ns, hosts, http):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": ns},
            "spec": {"hosts": [hosts] if isinstance(hosts, str) else hosts, "http": http}}


def to(host, subset=None, weight=None, **more):
    """A route's destination."""
    d = {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}
    return {**d, "weight": weight} if weight is not None else d
