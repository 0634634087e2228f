"""Balancing that one request alone does not show: what weft-proxy chooses while others are under way, and what it counts,
is what Envoy does."""
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from meshtest import http1, mesh
from meshtest.backend import Backend
from meshtest.proxy import Proxy


@pytest.fixture(scope="module")
def backends():
    return [Backend(f"b{i}").start() for i in range(6)]


def endpoint(b, **lb):
    e = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": b.port}}}}
    return dict(e, metadata={"filter_metadata": {"envoy.lb": lb}}) if lb else e


def cluster(endpoints, **more):
    return dict({"name": "all", "load_assignment": {"cluster_name": "all", "endpoints": [{"lb_endpoints": endpoints}]}}, **more)


def places(proxy, keys, backends):
    """Where each of the keys goes while all before it are under way."""
    out, threads, gate = [None] * len(keys), [], str(proxy.port)
    for i, key in enumerate(keys):
        def one(i=i, key=key):
            out[i] = dict(http1.get(proxy.port, "/", headers=[("x-user", key), ("x-want-gate", gate)]).headers)["x-backend"]
        threads.append(threading.Thread(target=one))
        threads[-1].start()
        mesh.until(lambda: proxy.stat(r"^cluster\.all\.upstream_rq_active$") == i + 1, f"request {i} is under way")
    for b in backends:
        b.opened.add(gate)
    for t in threads:
        t.join()
    return out


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
@pytest.mark.parametrize("factor", [100, 150])
def test_bounded_loads(spawn, tmp_path, backends, policy, factor):
    case = {"clusters": [cluster([dict(endpoint(b), load_balancing_weight=1 + i % 2) for i, b in enumerate(backends)], lb_policy=policy,
                                 common_lb_config={"consistent_hashing_lb_config": {"hash_balance_factor": factor}})],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "all", "timeout": "0s", "hash_policy": [{"header": {"header_name": "x-user"}}]}}]}
    keys = ["same"] * 9 + ["a", "b", "same", "c"]
    two = [Proxy(spawn, tmp_path, case, kind=kind) for kind in ("envoy", "weft")]
    with ThreadPoolExecutor(2) as pool:
        envoy, weft = pool.map(lambda p: places(p, keys, backends), two)
    assert weft == envoy
    assert len(set(weft[:9])) > 1  # one key alone does not stay where it belongs


def test_without_a_bound_a_key_stays(spawn, tmp_path, backends):
    case = {"clusters": [cluster([endpoint(b) for b in backends], lb_policy="RING_HASH")],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "all", "timeout": "0s", "hash_policy": [{"header": {"header_name": "x-user"}}]}}]}
    assert len(set(places(Proxy(spawn, tmp_path, case), ["same"] * 5, backends))) == 1


def test_subsets_are_counted(spawn, tmp_path, backends):
    case = {"clusters": [cluster([endpoint(backends[0], stage="prod", pod="a"), endpoint(backends[1], stage="dev", pod="b"),
                                  endpoint(backends[2], stage="dev", pod="b")],
                                 lb_subset_config={"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"stage": "none"}, "panic_mode_any": True,
                                                   "subset_selectors": [{"keys": ["stage"]}, {"keys": ["pod"], "single_host_per_subset": True}]})],
            "routes": [{"match": {"prefix": f"/{k}"}, "route": {"cluster": "all", "metadata_match": {"filter_metadata": {"envoy.lb": {"stage": k}}}}}
                       for k in ("prod", "dev", "other")]}
    names = ["selected", "fallback", "fallback_panic", "created", "removed", "active", "single_host_per_subset_duplicate"]

    def counts(kind):
        p = Proxy(spawn, tmp_path, case, kind=kind)
        for path in ["/prod", "/dev/1", "/dev/2", "/other"]:
            assert p.get(path).status == 200
        s = p.stats()
        return {n: s.get(f"cluster.all.lb_subsets_{n}", 0) for n in names}
    envoy, weft = counts("envoy"), counts("weft")
    for n in ("created", "active"):  # Envoy's main thread, which sends nothing, has them too
        assert (n, envoy.pop(n)) == (n, 2 * weft.pop(n))
    assert weft == envoy
    assert weft["selected"] == 3 and weft["fallback_panic"] == 1
