"""Trace collectors of the test's own: OTLP over gRPC; OTLP and Zipkin over HTTP."""
import concurrent.futures
import http.server
import json
import socket
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
        self.events = [e.name for e in span.events]


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


class ZipkinSpan:
    """A span of Zipkin's JSON. `fields` are those beside ids, times and tags, as they came."""
    def __init__(self, span):
        span = dict(span)
        self.trace, self.id, self.parent = span.pop("traceId"), span.pop("id"), span.pop("parentId", "")
        self.start, self.duration = span.pop("timestamp", None), span.pop("duration", None)
        self.name, self.tags, self.kind = span.get("name"), span.pop("tags", {}), span.get("kind")
        told = span.pop("annotations", [])
        self.annotations, self.annotation_times = [a["value"] for a in told], [a["timestamp"] for a in told]
        self.fields = span


class HttpCollector:
    """Takes POSTs: Zipkin's JSON, or OTLP in protobuf at a path that ends with /traces. `fail` answers that many with 503,
    `hold` keeps them without an answer until it is cleared."""
    def __init__(self, host="127.0.0.1", fail=0):
        self.spans, self.requests, self.fail, self.more = [], [], fail, threading.Condition()
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer._take(self, self._body())

            def _body(self):
                if "content-length" in self.headers:
                    return self.rfile.read(int(self.headers["content-length"]))
                out = b""
                while size := int(self.rfile.readline(), 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return out

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _take(self, request, body):
        self.hold.wait()
        with self.more:
            refuse = self.fail > 0
            self.fail -= refuse
            if not refuse:
                self.requests.append((request.path, {k.lower(): v for k, v in request.headers.items()}))
                self.spans += self._spans(request.path, body)
                self.more.notify_all()
        otlp = request.path.endswith("/traces")
        request.send_response(503 if refuse else 200 if otlp else 202)
        request.send_header("content-length", "0")
        request.end_headers()

    def _spans(self, path, body):
        if not path.endswith("/traces"):
            return [ZipkinSpan(s) for s in json.loads(body)]
        message = service.ExportTraceServiceRequest.FromString(body)
        return [Span(s, r.resource) for r in message.resource_spans for p in r.instrumentation_library_spans for s in p.spans]

    wait = Collector.wait

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def outer_address():
    """An address of this machine that is not loopback: workloads reach it. None when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            return s.getsockname()[0]
        except OSError:
            return None
