"""Envoy bootstraps from a case: a whole one, or deltas on the plain proxy below.

    listener :PORT -> HTTP connection manager -> routes -> clusters b1, b2 (HTTP/1), h2 (HTTP/2 cleartext)
"""
import copy

from . import operators

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


def hosts(levels):
    """Endpoints of a load assignment from the short form: [b1, {host: b2, load_balancing_weight: 3}], or a list of
    such lists, one a priority."""
    def one(h):
        h = dict(h) if isinstance(h, dict) else {"host": h}
        name = h.pop("host")
        address = {"address": h.pop("address", "127.0.0.1"), "port_value": "{%s}" % name if isinstance(name, str) else name}
        return merge({"endpoint": {"address": {"socket_address": address}}}, h)

    levels = levels if levels and isinstance(levels[0], list) else [levels]
    return [{"priority": i, "lb_endpoints": [one(h) for h in level]} for i, level in enumerate(levels)]


def expanded(c):
    """A cluster of a case: `hosts`, `http` (HttpProtocolOptions) and `tls` (UpstreamTlsContext) are short forms."""
    c = dict(c)
    if "hosts" in c:
        c["load_assignment"] = merge({"cluster_name": c["name"], "endpoints": hosts(c.pop("hosts"))}, c.get("load_assignment", {}))
    if "http" in c:
        http = {"@type": UPSTREAM, **c.pop("http")}
        if not {"explicit_http_config", "auto_config", "use_downstream_protocol_config"} & set(http):
            http["explicit_http_config"] = {"http_protocol_options": {}}
        c["typed_extension_protocol_options"] = {UPSTREAM.split("/")[1]: http}
    if "tls" in c:
        c["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", **c.pop("tls")}}
    return c


def file_log(path, log, **more):
    return [{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": path,
        "log_format": {"json_format": log, **more}}}]


def build(case, ports, log=None):
    """ports: name -> number, with listen, admin, b1, b2, h2 and dead (nothing listens there). `{log}` alone is an
    access log in {tmp}/log.json with the fields of `log`; the plain connection manager writes it, too. `{operators}` alone is one of every operator
    in {tmp}/operators.json."""
    tmp = ports.get("tmp")
    ports = dict(ports, operators=file_log(f"{tmp}/operators.json", operators.logged(), formatters=operators.FORMATTERS),
                 log=file_log(f"{tmp}/log.json", log) if log else [])
    hcm = {"@type": HCM, "stat_prefix": "ingress", **({"access_log": "{log}"} if log else {}),
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
    for c in map(expanded, case.get("clusters", [])):
        made = merge(clusters.get(c["name"], cluster(c["name"])), c)
        clusters[c["name"]] = {k: v for k, v in made.items() if v is not None}  # `load_assignment: null`: none
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
