"""Redirects that the proxy follows by itself, while everything around them goes wrong (attack case 41). What happens when all is well is
compared with Envoy in corpus/internal-redirects.yaml."""
import contextlib
import time

from meshtest import http1, http2, procs
from meshtest.backend import Backend
from meshtest.proxy import Proxy

POLICY = {"max_internal_redirects": 3}
ROUTES = [{"match": {"prefix": "/old"}, "route": {"cluster": "b1", "timeout": "10s", "internal_redirect_policy": POLICY,
                                                  "retry_policy": {"retry_on": "5xx", "num_retries": 2}}},
          {"match": {"prefix": "/new"}, "request_headers_to_remove": ["x-want-status", "x-want-header", "x-want-fail-first"],
           "route": {"cluster": "b2", "timeout": "10s"}}]
TO_NEW = [("x-want-status", "302"), ("x-want-header", "location: http://other.test/new")]


@contextlib.contextmanager
def two(spawn, tmp_path):
    with Backend("b1") as b1, Backend("b2") as b2:
        yield Proxy(spawn, tmp_path, {"routes": ROUTES}, {"b1": b1.port, "b2": b2.port}), b2


def test_bodies_arrive_whole_side_by_side(spawn, tmp_path):
    with two(spawn, tmp_path) as (p, b2):
        def one():
            with http1.Client(p.port) as c:
                for n in (0, 1, 1000, 60000):
                    r = c.request(method="POST", path="/old", headers=TO_NEW, body=b"y" * n)
                    assert r.status == 200 and r.get("x-backend") == "b2"
        procs.side_by_side(8, one)
        assert {len(s["body"]) for s in b2.seen} == {0, 1, 1000, 60000}
        assert all(dict(s["headers"])["x-envoy-original-url"].endswith("/old") for s in b2.seen)


def test_client_leaves_between_hops(spawn, tmp_path):
    with two(spawn, tmp_path) as (p, b2):
        for i in range(20):
            with http1.Client(p.port) as c:
                c.send(b"POST /old HTTP/1.1\r\nhost: test.local\r\ncontent-length: 4\r\nx-want-status: 302\r\n"
                       b"x-want-header: location: http://other.test/new\r\nx-want-delay: 0.05\r\n\r\nbody")
                time.sleep(0.01 * i)  # from before the first answer to after the second request
            with contextlib.suppress(http1.Closed), http2.Client(p.port) as c:
                sid = c.start("POST", "/old", headers=[*TO_NEW, ("x-want-delay", "0.05")], end=False)
                c.conn.send_data(sid, b"body", end_stream=True)
                c.flush()
                time.sleep(0.01 * i)
                c.conn.reset_stream(sid, 8)
                c.flush()
        with http1.Client(p.port) as c:
            assert c.request(path="/old", headers=TO_NEW).status == 200


def test_second_hop_fails(spawn, tmp_path):
    with two(spawn, tmp_path) as (p, b2):
        for how in ("reset", "close", "bad", "half"):
            with http1.Client(p.port) as c:
                with contextlib.suppress(http1.Closed):
                    r = c.request(method="POST", path="/old", headers=[*TO_NEW, ("x-want", how)], body=b"body")
                    assert r.status in (503, 502, 200)
        # The first hop fails first, is retried, and only then redirected.
        with http1.Client(p.port) as c:
            r = c.request(method="POST", path="/old", body=b"body",
                          headers=[*TO_NEW, ("x-want-fail-first", "2"), ("x-key", "k")])
            assert r.status == 200 and r.get("x-backend") == "b2"


def test_redirected_before_the_request_ended_goes_to_the_client(spawn, tmp_path):
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "h2", "internal_redirect_policy": POLICY}}]
    from test_resets import Server

    class Early(Server):
        @staticmethod
        def answer(c, sid, path, timeout):
            c.send_headers(sid, [(":status", "302"), ("location", "http://other.test/new")], end_stream=True)

    p = Proxy(spawn, tmp_path, {"routes": routes}, {"h2": Early().port})
    with http2.Client(p.port) as c:
        assert c.finish(c.start("POST", "/old", end=False)).status == 302
    assert p.stats()["cluster.h2.upstream_internal_redirect_failed_total"] == 1


def test_predicates_see_the_path_that_is_taken(spawn, tmp_path):
    listed = {"name": "a", "typed_config": {"allowed_route_names": ["good"], "@type": "type.googleapis.com/"
              "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig"}}
    routes = [{"match": {"prefix": "/old"}, "route": {"cluster": "b1", "internal_redirect_policy": {"predicates": [listed]}}},
              *({"match": {"prefix": f"/{name}"}, "name": name, "request_headers_to_remove": ["x-want-status", "x-want-header"],
                 "route": {"cluster": "b2"}} for name in ("good", "bad"))]
    with Backend("b1") as b1, Backend("b2") as b2:
        p = Proxy(spawn, tmp_path, {"routes": routes, "hcm": {"normalize_path": True, "merge_slashes": True}}, {"b1": b1.port, "b2": b2.port})
        with http1.Client(p.port) as c:
            def ask(to):
                return c.request(path="/old", headers=[("x-want-status", "302"), ("x-want-header", f"location: http://other.test{to}")])
            for to in ("/good/../bad", "/good/%2e%2e/bad", "//bad", "/bad"):
                assert ask(to).status == 302
            for to in ("/bad/../good", "//good"):
                assert ask(to).get("x-backend") == "b2"
        assert [s["path"] for s in b2.seen] == ["/good", "/good"]
    assert p.stats()["http.ingress.passthrough_internal_redirect_predicate"] == 4
