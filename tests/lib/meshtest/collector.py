"""A trace collector of the test's own: OTLP over gRPC."""
import concurrent.futures
import threading

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def value(v):
    return getattr(v, v.WhichOneof("value"))


class Span:
    def __init__(self, span, resource):
        self.name, self.trace, self.id, self.parent = span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.kind, self.state = trace.Span.SpanKind.Name(span.kind), span.trace_state
        self.tags = {a.key: value(a.value) for a in span.attributes}
        self.keys = [a.key for a in span.attributes]
        self.status, self.resource = span.status.code, {a.key: value(a.value) for a in resource.attributes}
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano


class Collector:
    """`fail` answers that many calls with UNAVAILABLE."""
    def __init__(self, host="127.0.0.1", fail=0):
        self.spans, self.metadata, self.fail, self.more = [], [], fail, threading.Condition()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXPORT.split("/")[1], {
            "Export": grpc.unary_unary_rpc_method_handler(self._export, service.ExportTraceServiceRequest.FromString,
                                                          service.ExportTraceServiceResponse.SerializeToString)}),))
        self.port = self.server.add_insecure_port(f"{host}:0")
        self.server.start()

    def _export(self, request, context):
        with self.more:
            if self.fail:
                self.fail -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            self.metadata.append(dict(context.invocation_metadata()))
            self.spans += [Span(s, r.resource) for r in request.resource_spans for p in r.instrumentation_library_spans for s in p.spans]
            self.more.notify_all()
        return service.ExportTraceServiceResponse()

    def wait(self, want=lambda s: True, n=1, timeout=60):
        """The spans for which want() holds, once there are n."""
        found = lambda: [s for s in self.spans if want(s)]
        with self.more:
            assert self.more.wait_for(lambda: len(found()) >= n, timeout), [(s.name, s.tags) for s in self.spans]
            return found()

    def stop(self):
        self.server.stop(0).wait()
