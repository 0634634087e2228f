"""The same bytes through weft-proxy, Envoy, nginx and HAProxy to backends that keep what they get (attack cases 10-29).

What weft-proxy forwards is one request, by the strictest reading there is, for each that it counted, and for
the host and path that it was routed by. Where it goes another way than Envoy, most of the others go with it,
or meshtest/smuggling.py says why.

One process a proxy, LANES ports in each, with a backend to each port: inputs run side by side and nothing is
mixed up. An input is over when two requests of other clients were served since anything last happened."""
import concurrent.futures
import contextlib
import json
import re
import socket

import hpack
import pytest
from meshtest import bootstrap, procs, rawbackend, smuggling, strict

DIFFERENCES = (procs.TOP / "docs/differences.md").read_text()
LANES = 12
GOAWAY = 7
KINDS = ["weft", "envoy", "nginx", "haproxy"]
# What a proxy may add or change of its own.
OWN = re.compile(rb"(x-forwarded-(for|proto|host)|x-request-id|x-envoy-.*|x-routed|via|connection|keep-alive|te|host|content-length|transfer-encoding|date|"
                 rb"upgrade|http2-settings|proxy-connection|expect|cookie|user-agent|accept.*|x-b3-.*|forwarded)$")


def routed(name):
    return {"request_headers_to_add": [{"header": {"key": "x-routed", "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def envoy_config(lanes, admin, tmp):
    whole = None
    for i, lane in enumerate(lanes):
        hosts = [dict({"name": v, "domains": d, "routes": [
            dict({"match": {"connect_matcher": {}}, "route": {"cluster": f"b{i}"}}, **routed(v)),
            dict({"match": {"prefix": "/admin"}, "route": {"cluster": f"b{i}"}}, **routed(f"{v}-admin")),
            dict({"match": {"prefix": "/"}, "route": {"cluster": f"b{i}"}}, **routed(v))]})
                 for v, d in (("secret", ["secret.test"]), ("open", ["*"]))]
        case = {"virtual_hosts": hosts, "listener": {"name": f"lane{i}"}, "hcm": {
            "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}], "normalize_path": True, "delayed_close_timeout": "0s",
            "route_config": {"ignore_port_in_host_matching": True}, "http_protocol_options": {"accept_http_10": True, "enable_trailers": True}}}
        boot = bootstrap.build(case, {"listen": lane["port"], "admin": admin, "b1": 1, "b2": 1, "h2": 1, "dead": 1, "tmp": tmp})
        boot["static_resources"]["clusters"] = [bootstrap.cluster(f"b{i}", lane["backend"].port)]
        if whole is None:
            whole = boot
        else:
            for part in ("listeners", "clusters"):
                whole["static_resources"][part] += boot["static_resources"][part]
    return json.dumps(whole)


def nginx_config(lanes, tmp):
    servers = "".join(f"""
server {{ listen 127.0.0.1:{l['port']}; listen 127.0.0.1:{l['h2']} http2; location / {{ proxy_pass http://127.0.0.1:{l['backend'].port};
proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }} }}""" for l in lanes)
    return f"""daemon off; master_process off; pid {tmp}/nginx.pid; error_log {tmp}/nginx.err; events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {tmp}/b; proxy_temp_path {tmp}/p; fastcgi_temp_path {tmp}/f; uwsgi_temp_path {tmp}/u; scgi_temp_path {tmp}/s;
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }} {servers} }}"""


def haproxy_config(lanes):
    return """global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
""" + "".join(f"listen l{i}\n  bind 127.0.0.1:{l['port']}\n  server s 127.0.0.1:{l['backend'].port}\n" for i, l in enumerate(lanes))


def start(kind, pool, spawn, tmp):
    """The lanes of a proxy that runs."""
    tmp.mkdir()
    lanes = [{"port": procs.free_port(), "backend": pool.recorder(), "h2": 0} for _ in range(LANES)]
    for lane in lanes:
        lane["h2"] = procs.free_port() if kind == "nginx" else lane["port"]
    config = tmp / f"{kind}.conf"
    if kind in ("weft", "envoy"):
        config = tmp / f"{kind}.json"
        config.write_text(envoy_config(lanes, procs.free_port(), str(tmp)))
        binary = procs.envoy_binary() if kind == "envoy" else procs.binary("weft-proxy")
        argv = [binary, "-c", config, "--concurrency", "1", "-l", "error"] + ["--disable-hot-restart"] * (kind == "envoy")
    elif kind == "nginx":
        config.write_text(nginx_config(lanes, tmp))
        argv = ["nginx", "-c", config, "-p", tmp]
    else:
        config.write_text(haproxy_config(lanes))
        argv = ["haproxy", "-db", "-f", config]
    p = spawn(kind, argv)
    for lane in lanes:
        procs.wait_port(lane["port"], p)
    return p, lanes


# ---- one input through one proxy ----

def bystander(port):
    """A request of somebody else, answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.sendall(b"GET %s HTTP/1.1\r\nhost: bystander\r\nconnection: close\r\n\r\n" % rawbackend.SENTINEL)
        got = b""
        while piece := s.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 200"), got


class Attack:
    def __init__(self, lane, h2):
        self.lane, self.got, self.eof = lane, b"", False
        self.sock = socket.create_connection(("127.0.0.1", lane["h2"] if h2 else lane["port"]), timeout=10)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def drain(self):
        self.sock.setblocking(False)
        try:
            while piece := self.sock.recv(65536):
                self.got += piece
            self.eof = True
        except BlockingIOError:
            pass
        except OSError:
            self.eof = True
        self.sock.settimeout(60)

    def settle(self, rounds):
        last, still = None, 0
        while still < rounds:
            bystander(self.lane["port"])
            self.drain()
            now = (len(self.got), self.eof, [len(c) for c in self.lane["backend"].connections()])
            still = still + 1 if now == last else 0
            last = now


def h1_answers(got):
    """The statuses of all answers in the bytes; bodies are skipped by their length."""
    out = []
    while m := re.match(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n((?:[^\r\n]*\r\n)*?)\r\n", got):
        out.append(int(m[1]))
        got = got[m.end():]
        n = re.search(rb"(?i)^content-length: *(\d+)", m[2], re.M)
        got = got[int(n[1]):] if n else got if out[-1] < 200 else b""
    return out


def h2_answers(got):
    decoder, out, at = hpack.Decoder(), [], 0
    while len(got) - at >= 9 and len(got) - at >= 9 + (n := int.from_bytes(got[at:at + 3], "big")):
        kind, payload = got[at + 3], got[at + 9:at + 9 + n]
        if kind == smuggling.HEADERS:
            out += [int(v) for k, v in decoder.decode(payload) if k == ":status"]
        elif kind == smuggling.RST and int.from_bytes(payload, "big") or kind == GOAWAY and (not out or int.from_bytes(payload[4:8], "big")):
            out.append(400)
        at += 9 + n
    return out


def play(name, lane, rounds=2):
    h2 = name.startswith("h2-")
    lane["backend"].reset()
    attack = Attack(lane, h2)
    for piece in smuggling.INPUTS[name]:
        attack.send(piece)
        attack.settle(rounds)
    attack.sock.close()
    bystander(lane["port"])
    answers = (h2_answers if h2 else h1_answers)(attack.got)
    return {"forwarded": lane["backend"].connections(), "answers": answers, "closed": attack.eof, "got": attack.got[:300]}


def essence(r):
    """What a request says, without what a proxy may change: framing is told apart by the body."""
    return (r.method, re.sub(rb"(?i)^http://[^/?]*(?=/)", b"", r.target), r.host.lower(), tuple(sorted(f for f in r.fields if not OWN.match(f[0]))), r.body,
            tuple(r.trailers))


def verdict(seen):
    """(whole requests that came through, how it ended)"""
    whole = [essence(r) for c in seen["forwarded"] for r in strict.read(c)[0] if r.complete]
    complaints = [c for c in map(lambda c: strict.read(c)[1], seen["forwarded"]) if c]
    final = [a for a in seen["answers"] if a >= 200 or a == 101]
    if final and final[-1] >= 400 or seen["closed"] and not final:
        end = "refused"
    elif not final:
        end = "waits"
    else:
        end = "served"
    return whole, end, complaints


def alone(out, name):
    """Where weft stands alone, or no longer does, a busy machine may have looked at a proxy too early."""
    all_of = {k: verdict(out[k][name])[:2] for k in KINDS}
    count = {k: len(v[0]) for k, v in all_of.items()}
    as_others = all_of["weft"] == all_of["envoy"] or sum(all_of[k] == all_of["weft"] for k in KINDS[1:]) >= 2
    return count["weft"] > max(count[k] for k in KINDS[1:]) or as_others == (name in smuggling.DIFFERS)


# ---- what must hold ----

@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """kind -> name -> what happened, of all inputs."""
    tmp, pool, started = tmp_path_factory.mktemp("smuggling"), rawbackend.Pool(), {}

    def spawn(title, argv):
        started[title] = procs.Proc(title, argv, tmp)
        return started[title]

    out = {kind: {} for kind in KINDS}
    try:
        lanes = {kind: start(kind, pool, spawn, tmp / kind)[1] for kind in KINDS}
        pool.start()
        todo = {kind: iter(list(smuggling.INPUTS)) for kind in KINDS}

        def ask(kind, name, *how):
            try:
                out[kind][name] = play(name, *how)
            except (OSError, AssertionError) as e:
                raise AssertionError(f"{kind}, {name}: {e!r}\n{started[kind].output()}") from e

        def work(kind, lane):
            for name in todo[kind]:
                with contextlib.suppress(*[AssertionError] * (kind != "weft")):  # another proxy is asked again, by itself
                    ask(kind, name, lane)

        with concurrent.futures.ThreadPoolExecutor(LANES * len(KINDS)) as workers:
            for done in [workers.submit(work, kind, lane) for kind in KINDS for lane in lanes[kind]]:
                done.result()
        # What differs by itself is so each time.
        for rounds in (3, 6, 12):
            for name in [n for n in smuggling.INPUTS if any(n not in out[k] for k in KINDS) or alone(out, n)]:
                for kind in KINDS:
                    ask(kind, name, lanes[kind][0], rounds)
    finally:
        try:
            codes = {kind: p.stop() for kind, p in started.items()}
        finally:
            pool.stop()
    assert codes["weft"] == 0, f"weft-proxy ended with {codes['weft']}\n{started['weft'].output()}"
    return out


def test_enough_is_tried():
    assert len(smuggling.INPUTS) >= 150


@pytest.mark.parametrize("name", smuggling.INPUTS)
def test_what_is_forwarded_has_one_reading(seen, name):
    for got in seen["weft"][name]["forwarded"]:
        requests, complaint = strict.read(got)
        assert complaint is None, f"{complaint}\n{got!r}"
        assert len(requests) == 1, got
        r = requests[0]
        rest = strict.Reader(got)
        if r.complete and r.method != b"CONNECT" and not r.get(b"upgrade"):
            rest.body(rest.request())
            assert rest.at == len(got), f"more than one request: {got!r}"


@pytest.mark.parametrize("name", smuggling.INPUTS)
def test_what_is_forwarded_is_what_was_routed(seen, name):
    for got in seen["weft"][name]["forwarded"]:
        r = strict.read(got)[0][0]
        host = re.sub(rb":\d*$", b"", r.host.lower())
        want = b"secret" if host == b"secret.test" else b"open"
        if r.method != b"CONNECT" and r.target.startswith(b"/admin"):
            want += b"-admin"
        assert r.get(b"x-routed") == [want], got
        assert not r.target.startswith(b"http"), got


@pytest.mark.parametrize("name", smuggling.INPUTS)
def test_no_request_that_the_client_did_not_send(seen, name):
    """Never more requests than Envoy or the most cautious of the others found in the same bytes."""
    count = {k: len(verdict(seen[k][name])[0]) for k in KINDS}
    assert count["weft"] <= max(count[k] for k in KINDS if k != "weft"), count


@pytest.mark.parametrize("name", smuggling.INPUTS)
def test_the_answer_is_envoys_or_that_of_most(seen, name):
    all_of = {k: verdict(seen[k][name])[:2] for k in KINDS}
    same = all_of["weft"] == all_of["envoy"]
    agree = [k for k in KINDS[1:] if all_of[k] == all_of["weft"]]
    told = "\n".join(f"{k:8} {all_of[k]} {seen[k][name]['answers']} {seen[k][name]['forwarded']!r:.400} {seen[k][name]['got']!r:.120}" for k in KINDS)
    if name in smuggling.DIFFERS:
        assert not same and len(agree) < 2, f"no difference (any more): {told}"
        assert f"**{smuggling.DIFFERS[name]}" in DIFFERENCES
        return
    assert same or len(agree) >= 2, told
