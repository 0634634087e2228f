"""Envoy bootstraps from a case: a whole one, or deltas on the plain proxy below.

    listener :PORT -> HTTP connection manager -> routes -> clusters b1, b2 (HTTP/1), h2 (HTTP/2 cleartext)
"""
import copy

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
UPSTREAM = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def merge(base, delta):
    """Maps merge, everything else is replaced."""
    if isinstance(base, dict) and isinstance(delta, dict):
        out = dict(base)
        for k, v in delta.items():
            out[k] = merge(base[k], v) if k in base else v
        return out
    return copy.deepcopy(delta)


def endpoint(port, host="127.0.0.1"):
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}


def cluster(name, *ports, **extra):
    c = {"name": name, "type": "STATIC", "connect_timeout": "2s",
         "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint(p) for p in ports]}]}}
    return merge(c, extra)


def h2_options():
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
            {"@type": UPSTREAM, "explicit_http_config": {"http2_protocol_options": {}}}}


def build(case, ports):
    """ports: name -> number, with listen, admin, b1, b2, h2 and dead (nothing listens there)."""
    hcm = {"@type": HCM, "stat_prefix": "ingress",
           "route_config": {"name": "local", "virtual_hosts": case.get("virtual_hosts") or [
               {"name": "all", "domains": ["*"], "routes": case.get("routes") or [
                   {"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]}]},
           "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}
    hcm = merge(hcm, case.get("hcm", {}))
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}
    chains = case.get("filter_chains") or [merge(chain, case.get("filter_chain", {}))]
    listener = merge({"name": "main", "address": {"socket_address": {"address": "127.0.0.1", "port_value": "{listen}"}},
                      "filter_chains": chains}, case.get("listener", {}))
    clusters = {c["name"]: c for c in (
        cluster("b1", "{b1}"), cluster("b2", "{b2}"), cluster("dead", "{dead}"), cluster("empty"),
        cluster("h2", "{h2}", typed_extension_protocol_options=h2_options()))}
    clusters["empty"]["load_assignment"]["endpoints"] = []
    for c in case.get("clusters", []):
        clusters[c["name"]] = merge(clusters.get(c["name"], cluster(c["name"])), c)
    boot = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "{admin}"}}},
            "static_resources": {"listeners": [listener] + case.get("listeners", []), "clusters": list(clusters.values())}}
    return fill(merge(boot, case.get("bootstrap", {})), ports)


def fill(tree, names):
    """"{name}" alone becomes the value itself (a number stays one); inside text it is replaced."""
    if isinstance(tree, dict):
        return {k: fill(v, names) for k, v in tree.items()}
    if isinstance(tree, list):
        return [fill(v, names) for v in tree]
    if isinstance(tree, str) and "{" in tree:
        if tree[1:-1] in names and tree == "{%s}" % tree[1:-1]:
            return names[tree[1:-1]]
        for k, v in names.items():
            tree = tree.replace("{%s}" % k, str(v))
    return tree
