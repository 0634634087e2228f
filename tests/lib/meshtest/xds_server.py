"""A small ADS server (delta), on the published descriptors: a test sets resources, proxies get the differences.

    with DeltaServer() as s:
        s.set(cluster, listener, route_configuration)     # one push, a response for each type
        s.put_hosts("r1", vhost, ...)                      # virtual hosts "r1/NAME", in one response
        s.drop(VHOST, "r1/NAME")
        s.requests                                         # every DeltaDiscoveryRequest, in order

A name that is asked for and does not exist is answered as removed. Virtual hosts go to whoever asked for what stands before
their last slash. Responses carry only what a stream does not have yet; what it says it has when it comes (initial versions) counts.
"""
import hashlib
import threading
from concurrent import futures

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

URL = "type.googleapis.com/"
CLUSTER = URL + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = URL + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = URL + "envoy.config.listener.v3.Listener"
ROUTES = URL + "envoy.config.route.v3.RouteConfiguration"
VHOST = URL + "envoy.config.route.v3.VirtualHost"
SECRET = URL + "envoy.extensions.transport_sockets.tls.v3.Secret"
ORDER = [CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTES, VHOST]
MESSAGES = {CLUSTER: cluster_pb2.Cluster, ENDPOINTS: endpoint_pb2.ClusterLoadAssignment, LISTENER: listener_pb2.Listener,
            ROUTES: route_pb2.RouteConfiguration, VHOST: route_components_pb2.VirtualHost, SECRET: secret_pb2.Secret}
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Stream:
    def __init__(self):
        self.names, self.wildcard, self.sent, self.started = {}, set(), {}, set()
        self.serial, self.closed = 0, False


class DeltaServer:
    def __init__(self, port=0):
        self.lock = threading.Condition()
        self.resources = {t: {} for t in ORDER}  # name -> (version, Any value)
        self.requests, self.responses, self.streams = [], [], []
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream, discovery_pb2.DeltaDiscoveryRequest.FromString, lambda m: m.SerializeToString())
        service, method = METHOD[1:].split("/")
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        with self.lock:
            for s in self.streams:
                s.closed = True
            self.lock.notify_all()
        self.server.stop(0).wait()

    # ---- what a test does ----

    def change(self, put=(), drop=()):
        """put: (type, name, message); drop: (type, name). All of it is one step."""
        with self.lock:
            for t, name, message in put:
                raw = message.SerializeToString(deterministic=True)
                self.resources[t][name] = (hashlib.sha256(raw).hexdigest()[:16], raw)
            for t, name in drop:
                self.resources[t].pop(name, None)
            self.lock.notify_all()

    def set(self, *messages):
        self.change([(URL + m.DESCRIPTOR.full_name, getattr(m, "cluster_name", "") or m.name, m) for m in messages])

    def put_hosts(self, table, *hosts, drop=()):
        """A virtual host is called as its resource is, as Envoy wants it."""
        self.change([(VHOST, h.name, h) for h in hosts], [(VHOST, f"{table}/{n}") for n in drop])

    def wait(self, what, timeout=60):
        """Until what(requests) is true; returns that."""
        with self.lock:
            got = self.lock.wait_for(lambda: what(self.requests), timeout)
        assert got, [str(r) for r in self.requests[-8:]]
        return got

    def nacks(self):
        return [r for r in self.requests if r.HasField("error_detail")]

    def subscribed(self, url):
        """Names asked for on the newest stream."""
        with self.lock:
            return sorted(self.streams[-1].names.get(url, ()))

    # ---- the protocol ----

    def _mine(self, s, url):
        names, out = s.names.get(url, set()), {}
        for name, value in self.resources[url].items():
            if url in s.wildcard or name in names or (url == VHOST and name.rpartition("/")[0] in names):
                out[name] = value
        return out

    def _response(self, s, url):
        mine, sent = self._mine(s, url), s.sent.setdefault(url, {})
        r = discovery_pb2.DeltaDiscoveryResponse(type_url=url)
        for name, (version, raw) in mine.items():
            if sent.get(name) != version:
                res = r.resources.add(name=name, version=version)
                res.resource.type_url, res.resource.value = url, raw
                sent[name] = version
        told = {name for name in s.names.get(url, ()) if not any(m == name or m.startswith(name + "/") for m in mine)}
        for name in [n for n in sent if n not in mine and sent[n] is not None] + [n for n in told if n not in sent]:
            r.removed_resources.append(name)
            sent[name] = None
        if not r.resources and not r.removed_resources and url in s.started:
            return None
        s.started.add(url)
        s.serial += 1
        r.nonce = r.system_version_info = str(s.serial)
        return r

    def _take(self, s, r):
        names, sent = s.names.setdefault(r.type_url, set()), s.sent.setdefault(r.type_url, {})
        if r.type_url not in s.started and not r.resource_names_subscribe and not r.response_nonce:
            s.wildcard.add(r.type_url)
        for name in r.resource_names_subscribe:
            if name == "*":
                s.wildcard.add(r.type_url)
                continue
            names.add(name)
            for n in [n for n in sent if n == name or n.startswith(name + "/")]:
                del sent[n]
        for name in r.resource_names_unsubscribe:
            names.discard(name)
            for n in [n for n in sent if n == name or n.startswith(name + "/")]:
                del sent[n]
        for name, version in r.initial_resource_versions.items():
            sent[name] = version

    def _stream(self, requests, context):
        s = Stream()
        with self.lock:
            self.streams.append(s)

        def read():
            try:
                for r in requests:
                    with self.lock:
                        self.requests.append(r)
                        self._take(s, r)
                        self.lock.notify_all()
            except Exception:  # the stream ended: grpc says so with an exception of its own
                pass
            with self.lock:
                s.closed = True
                self.lock.notify_all()
        threading.Thread(target=read, daemon=True).start()
        while True:
            out = []
            with self.lock:
                while not s.closed and not out:
                    for url in ORDER:
                        if url in s.names:
                            r = self._response(s, url)
                            if r:
                                out.append(r)
                    if not out:
                        self.lock.wait(1)
                if s.closed:
                    return
                self.responses += out
            yield from out
