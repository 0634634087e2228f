"""Attack cases 21-29 and 39-46, as far as they concern the data plane's traffic management: what a
rule decides about is what the upstream gets, and a hostile upstream harms nobody else."""
import socket
import urllib.parse

import pytest
from meshtest import http1
from meshtest.answers import Answers
from meshtest.backend import Backend
from meshtest.proxy import Proxy


def start(spawn, tmp_path, b1, **case):
    return Proxy(spawn, tmp_path, case, {"b1": b1.port})


def talk(port, raw, timeout=15):
    """All that comes back for these bytes, to the end of the connection or of patience."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(raw)
        got = b""
        try:
            while piece := s.recv(65536):
                got += piece
        except (ConnectionResetError, TimeoutError):
            pass
        return got


def status(got):
    return int(got.split(b" ")[1]) if got.startswith(b"HTTP/1.1 ") else None


@pytest.fixture
def b1():
    with Backend("b1") as b:
        yield b


def paths(b):
    return [r["path"] for r in b.seen]


# ---- 21, 22: bytes that come too early, or too late ----

@pytest.mark.parametrize("answer", ["refuse-upgrade", "close"])
def test_21_early_data_of_an_upgrade_is_no_request(spawn, tmp_path, b1, answer):
    p = start(spawn, tmp_path, b1, hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})
    talk(p.port, b"GET /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                 b"x-want: %s\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n" % answer.encode(), timeout=3)
    assert p.get("/after").status == 200
    assert "/smuggled" not in paths(b1)


def test_21_early_data_of_a_connect_waits_for_the_200(spawn, tmp_path, b1):
    p = start(spawn, tmp_path, b1, hcm={"upgrade_configs": [{"upgrade_type": "CONNECT"}]}, virtual_hosts=[
        {"name": "v", "domains": ["*"], "routes": [{"match": {"connect_matcher": {}}, "route": {"cluster": "b1"}},
                                                   {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]}])
    got = talk(p.port, b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\nx-want-status: 403\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", timeout=3)
    assert status(got) == 403
    assert p.get("/after").status == 200
    assert "/smuggled" not in paths(b1)


def test_22_leftovers_of_an_answered_request_go_nowhere(spawn, tmp_path, b1):
    p = start(spawn, tmp_path, b1)
    spliced = b"GET /spliced HTTP/1.1\r\nhost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", p.port), timeout=10) as s:
        s.sendall(b"POST /early HTTP/1.1\r\nhost: a\r\nx-want: early\r\ncontent-length: 100000\r\n\r\n")
        assert b" 413 " in s.recv(65536)
        try:
            s.sendall(spliced * 100)
        except OSError:
            pass
    for _ in range(5):
        assert p.get("/after").status == 200
    assert set(paths(b1)) == {"/after"}


# ---- 23, 24: paths ----

GUARD = [{"match": {"prefix": "/admin"}, "direct_response": {"status": 403}},
         {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]
STRICT = {"normalize_path": True, "merge_slashes": True, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"}
TRICKS = ["/a/../admin", "//admin", "/./admin", "/%2e/admin", "/a/%2e%2e/admin", "/%61dmin", "/a/..%2fadmin", "/a%5c..%5cadmin",
          "/a/..\\admin", "\\admin", "/.//admin", "/a/b/../../admin", "/..;/admin", "/%2E%2E/admin", "/admin%00", "/%c0%af/../admin",
          "/ADMIN/../admin", "/x/.%2e/admin", "/admin/..%2f..%2fadmin"]


@pytest.mark.parametrize("path", TRICKS)
def test_23_rule_and_upstream_see_the_same_path(spawn, tmp_path, b1, path):
    p = start(spawn, tmp_path, b1, hcm=STRICT, routes=GUARD)
    got = talk(p.port, b"GET %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path.encode())
    assert status(got) in (200, 400, 403, 404, 307)
    for seen in paths(b1):  # a server that resolves once more must not come to /admin
        parts = []
        for part in urllib.parse.unquote(seen.split("?")[0]).replace("\\", "/").split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        assert parts[:1] != ["admin"], seen


@pytest.mark.parametrize("path", ["/admin#x", "/admin?x", "/admin?", "/admin#", "/admin#/../x"])
def test_24_query_and_fragment_do_not_hide_a_path(spawn, tmp_path, b1, path):
    p = start(spawn, tmp_path, b1, routes=[{"match": {"path": "/admin"}, "direct_response": {"status": 403}},
                                           {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}])
    assert status(talk(p.port, b"GET %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path.encode())) in (400, 403)
    assert not b1.seen


# ---- 25, 28: hosts, schemes, methods ----

HOSTS = [{"name": "secret", "domains": ["secret.com"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 403}}]},
         {"name": "open", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]}]


@pytest.mark.parametrize("raw,want", [
    (b"GET / HTTP/1.1\r\nhost: SECRET.com\r\n", {403}),
    (b"GET / HTTP/1.1\r\nhost: secret.com:80\r\n", {403}),
    (b"GET / HTTP/1.1\r\nhost: SeCrEt.CoM:8080\r\n", {403}),
    (b"GET http://secret.com/ HTTP/1.1\r\nhost: open.com\r\n", {403}),
    (b"GET HtTp://secret.com/ HTTP/1.1\r\nhost: open.com\r\n", {403, 400}),
    (b"GET / HTTP/1.1\r\nhost: open.com\r\nhost: secret.com\r\n", {400}),
    (b"GET / HTTP/1.1\r\n", {400}),
    (b"GET http://open.com@secret.com/ HTTP/1.1\r\nhost: open.com\r\n", {400, 403}),
    (b"GET / HTTP/1.1\r\nhost: a b\r\n", {400}),
    (b"G\x01T / HTTP/1.1\r\nhost: a\r\n", {400}),
    (b"GET\t/ HTTP/1.1\r\nhost: a\r\n", {400}),
], ids=lambda v: v.decode("latin1").strip() if isinstance(v, bytes) else None)
def test_25_28_hosts_have_one_form(spawn, tmp_path, b1, raw, want):
    p = start(spawn, tmp_path, b1, virtual_hosts=HOSTS, hcm={"route_config": {"ignore_port_in_host_matching": True}})
    assert status(talk(p.port, raw + b"connection: close\r\n\r\n")) in want
    assert not b1.seen


# ---- 27, 29: fields ----

def test_27_every_value_of_a_field_goes_on_in_order(spawn, tmp_path, b1):
    p = start(spawn, tmp_path, b1)
    assert p.get("/", headers=[("x-role", "user"), ("x-role", "admin"), ("X-Role", "root")]).status == 200
    assert [v for k, v in b1.seen[0]["headers"] if k.lower() == "x-role"] == ["user", "admin", "root"]


def test_29_fields_of_trust_are_not_taken_from_outside(spawn, tmp_path, b1):
    p = start(spawn, tmp_path, b1, hcm={"use_remote_address": True, "internal_address_config": {
        "cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}})
    spoofed = [("x-envoy-internal", "true"), ("x-envoy-original-path", "/x"), ("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "9"),
               ("x-envoy-upstream-rq-timeout-ms", "1"), ("x-envoy-decorator-operation", "x"), ("x-forwarded-client-cert", "By=me"),
               ("x-forwarded-proto", "https"), ("x-forwarded-for", "10.1.1.1"), ("x-envoy-external-address", "10.1.1.1")]
    assert p.get("/", headers=spoofed).status == 200
    seen = {k.lower(): v for k, v in b1.seen[0]["headers"]}
    assert not {"x-envoy-internal", "x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms",
                "x-envoy-decorator-operation", "x-forwarded-client-cert", "x-envoy-original-path"} & set(seen)
    assert seen["x-forwarded-proto"] == "http" and seen["x-forwarded-for"].startswith("10.1.1.1,")
    assert seen.get("x-envoy-external-address") != "10.1.1.1"


@pytest.mark.parametrize("field", ["x-forwarded-for", "x-forwarded-proto", "host", "x-request-id", "authorization"])
def test_29_connection_does_not_take_fields_away(spawn, tmp_path, b1, field):
    p = start(spawn, tmp_path, b1, hcm={"use_remote_address": True})
    got = talk(p.port, b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: me\r\nconnection: close, %s\r\n\r\n" % field.encode())
    assert status(got) in (200, 400)
    for seen in b1.seen:
        names = {k.lower() for k, _ in seen["headers"]}
        assert {"x-forwarded-for", "x-forwarded-proto", "host", "x-request-id"} <= names


# ---- 39, 45: numbers and expressions ----

@pytest.mark.parametrize("value", ["99999999H", "999999999999999999999H", "0n", "-1S", "1", "H", "", "1.5S", "99999999u", "\xff1S"])
def test_39_grpc_timeouts_saturate(spawn, tmp_path, b1, value):
    p = start(spawn, tmp_path, b1, routes=[{"match": {"prefix": "/"}, "route": {
        "cluster": "b1", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}}])
    got = talk(p.port, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nconnection: close\r\ncontent-length: 0\r\n"
                       b"grpc-timeout: %s\r\n\r\n" % value.encode("latin1"))
    assert status(got) in (200, 400)
    assert p.get("/after").status == 200


def test_45_expressions_take_linear_time(spawn, tmp_path, b1):
    p = start(spawn, tmp_path, b1, routes=[{"match": {"safe_regex": {"regex": "/(a+)+(a+)+(a+)+b"}}, "direct_response": {"status": 403}},
                                           {"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    for _ in range(20):  # a backtracking engine would not come back from the first
        assert p.get("/" + "a" * 7000).status == 200


# ---- 42: a hostile upstream ----

def hostile(data):
    """Sends fixed bytes to whoever asks, then closes."""
    def serve(c):
        c.recv(65536)
        c.sendall(data)
        c.shutdown(socket.SHUT_WR)
        while c.recv(65536):
            pass
    return Answers(serve, timeout=10)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ANSWERS = {
    "informational-flood": (b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" * 100000 + OK, {200, 502, 503}),
    "header-bomb": (b"HTTP/1.1 200 OK\r\n" + b"x-%s: y\r\n" % (b"a" * 100) * 100000, {502, 503}),
    "endless-field": (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 4_000_000, {502, 503}),
    "204-with-body": (b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nHTTP/", {204, 502, 503}),
    "304-with-body": (b"HTTP/1.1 304 No\r\n\r\n" + OK, {304, 502, 503}),
    "two-lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!", {502, 503}),
    "length-and-chunked": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", {200, 502, 503}),
    "second-answer-unasked": (OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", {200}),
    "101-unasked": (b"HTTP/1.1 101 Switch\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + OK, {502, 503}),
    "nothing": (b"", {503}),
    "rubbish": (bytes(range(256)) * 10, {502, 503}),
}


@pytest.mark.parametrize("answer,want", ANSWERS.values(), ids=ANSWERS.keys())
def test_42_hostile_upstream(spawn, tmp_path, b1, answer, want):
    evil = hostile(answer)
    p = Proxy(spawn, tmp_path, {"routes": [{"match": {"prefix": "/evil"}, "route": {"cluster": "evil", "timeout": "20s"}},
                                           {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}],
                                "clusters": [{"name": "evil", "load_assignment": {"cluster_name": "evil", "endpoints": [{"lb_endpoints": [
                                    {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": evil.port}}}}]}]}}]},
              {"b1": b1.port})
    before = p.rss_kb()
    for _ in range(5):
        with http1.Client(p.port) as c:
            r = c.request(path="/evil")
        assert r.status in want and r.body != b"poison"
        assert p.get("/good").status == 200
    assert p.rss_kb() - before < 60_000
    evil.sock.close()


@pytest.mark.parametrize("end", [b"5\r\nhel", b"5\r\nhello\r\n", b"zz\r\n", b"5;" + b"x" * 100000])
def test_42_a_body_that_breaks_off_is_not_whole(spawn, tmp_path, b1, end):
    evil = hostile(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n" + end)
    p = Proxy(spawn, tmp_path, {"clusters": [{"name": "b1", "load_assignment": {"cluster_name": "b1", "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": evil.port}}}}]}]}}]}, {"b1": b1.port})
    with pytest.raises((http1.Closed, ConnectionResetError)):
        with http1.Client(p.port) as c:
            c.request(path="/")
    evil.sock.close()


# ---- 43: PROXY protocol from the downstream ----

V2 = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.mark.parametrize("header", [
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n", b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY TCP4 " + b"1" * 200,
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", V2 + b"\x21\x11\0\x04\1\2\3\4", V2 + b"\x31\x11\0\x0c" + b"\1" * 12,
    V2 + b"\x21\x11\0\x0f" + b"\1" * 12 + b"\x01\0\x09", V2 + b"\x21\x12\0\x0c" + b"\1" * 12, V2 + b"\x2f\x11\0\x0c" + b"\1" * 12,
    b"GET /none HTTP/1.1\r\n"], ids=lambda h: repr(h[:30]))
def test_43_a_bad_proxy_header_ends_the_connection(spawn, tmp_path, b1, header):
    p = start(spawn, tmp_path, b1, listener={"listener_filters": [{"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"}}]})
    request = b"GET /in HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    assert talk(p.port, header + request) == b""
    assert not b1.seen
    assert status(talk(p.port, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request)) == 200
    assert status(talk(p.port, V2 + b"\x20\0\0\x03xyz" + request)) == 200
