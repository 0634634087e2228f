"""An ADS client (state of the world) that refuses what it gets, on the published descriptors."""
import contextlib
import queue
import threading

import grpc

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


@contextlib.contextmanager
def refusing(port, node, why):
    """Asks for clusters and answers the first response with a NACK that says `why`; stays connected."""
    from envoy.service.discovery.v3 import discovery_pb2
    todo = queue.Queue()
    first = discovery_pb2.DiscoveryRequest(type_url=CLUSTER)
    first.node.id = node
    todo.put(first)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
                                     lambda m: m.SerializeToString(), discovery_pb2.DiscoveryResponse.FromString)(iter(todo.get, None))

        def answer():
            with contextlib.suppress(grpc.RpcError):
                for r in call:
                    nack = discovery_pb2.DiscoveryRequest(type_url=r.type_url, response_nonce=r.nonce)
                    nack.error_detail.code = 3
                    nack.error_detail.message = why
                    todo.put(nack)
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        call.cancel()
        todo.put(None)
        thread.join()
