"""Attempts beside one another (hedge_on_per_try_timeout) when clients leave and backends fail at every moment. What happens when
all is well is compared with Envoy in corpus/hedging.yaml."""
import contextlib
import time

from meshtest import http1, http2, procs
from meshtest.backend import Backend
from meshtest.proxy import Proxy

ROUTE = {"match": {"prefix": "/"}, "route": {
    "cluster": "both", "timeout": "60s", "hedge_policy": {"hedge_on_per_try_timeout": True},
    "retry_policy": {"retry_on": "5xx", "num_retries": 3, "per_try_timeout": "0.1s", "retry_back_off": {"base_interval": "0.001s"}}}}


@contextlib.contextmanager
def hedging(spawn, tmp_path, slow_ms=0):
    from meshtest import bootstrap
    with Backend("b1") as b1, Backend("b2") as b2:
        case = {"routes": [bootstrap.merge(ROUTE, {"match": {"prefix": "/hang"}, "route": {"timeout": "2s"}}), ROUTE], "clusters": [bootstrap.cluster("both", b1.port, b2.port, circuit_breakers={
            "thresholds": [{"max_retries": 1000}]})]}
        yield Proxy(spawn, tmp_path, case), b1, b2


def test_answers_belong_to_their_requests(spawn, tmp_path):
    with hedging(spawn, tmp_path) as (p, b1, b2):
        def one():
            with http1.Client(p.port) as c:
                for i in range(6):
                    mark = f"{id(c)}-{i}"
                    r = c.request("POST", "/" + mark, headers=[("x-want-delay", f"{0.05 * i:.2f}")], body=mark.encode() * 500)
                    assert r.status == 200 and f'"/{mark}"' in r.body.decode() and (mark * 500) in r.body.decode()
        procs.side_by_side(10, one)
        stats = p.stats()
        assert stats["cluster.both.upstream_rq_retry"] > 0
        assert stats["cluster.both.upstream_rq_active"] == 0


def test_client_leaves_while_several_are_under_way(spawn, tmp_path):
    with hedging(spawn, tmp_path) as (p, b1, b2):
        for i in range(12):
            with http1.Client(p.port) as c:
                c.send(b"GET / HTTP/1.1\r\nhost: test.local\r\nx-want: hang\r\n\r\n")
                time.sleep(0.03 * i)
            with http2.Client(p.port) as c:
                sid = c.start("GET", "/", headers=[("x-want-delay", "0.25")])
                c.flush()
                time.sleep(0.03 * i)
                c.conn.reset_stream(sid, 8)
                c.flush()
        assert p.get().status == 200
        deadline = time.monotonic() + 60
        while p.stats()["cluster.both.upstream_rq_active"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert p.stats()["cluster.both.upstream_rq_active"] == 0


def test_backends_fail_side_by_side(spawn, tmp_path):
    with hedging(spawn, tmp_path) as (p, b1, b2):
        for how in ("reset", "close", "bad"):
            for delay in ("0.05", "0.15", "0.25"):
                r = p.get(headers=[("x-want", how), ("x-want-delay", delay)])
                assert r.status in (502, 503)
        assert p.get("/hang", headers=[("x-want", "hang"), ("x-envoy-max-retries", "0")]).status == 504
        assert p.get().status == 200
