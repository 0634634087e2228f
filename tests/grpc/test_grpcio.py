"""Our gRPC server and client against gRPC's own (PyPI grpcio): every kind of call, statuses, metadata,
deadlines, cancellation, large messages, many at once, shutdown."""
import subprocess
import threading
import time
from concurrent import futures

import grpc
import pytest
from meshtest import procs

PEER = procs.BUILD / "tests" / "grpc" / "grpc_peer"
ECHO = "/weft.test.Echo/"


@pytest.fixture
def channel(spawn):
    server = spawn("grpc_peer", [PEER, "server", "0"])
    end = time.monotonic() + 60
    while "listening on" not in server.output():
        assert server.poll() is None and time.monotonic() < end, server.output()
        time.sleep(0.01)
    port = server.output().split("listening on ")[1].split()[0]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as ch:
        ch.server = server
        yield ch


def unary(ch, method, data=b"", **kw):
    return ch.unary_unary(method)(data, timeout=kw.pop("timeout", 60), **kw)


# ---- our server, their client ----

def test_unary(channel):
    assert unary(channel, ECHO + "Unary", b"hello") == b"hello"
    assert unary(channel, ECHO + "Unary", b"") == b""


def test_large_messages(channel):
    big = bytes(range(256)) * 8000
    assert unary(channel, ECHO + "Unary", big) == big
    with pytest.raises(grpc.RpcError) as e:
        unary(channel, ECHO + "Unary", b"x" * (4 * 1024 * 1024 + 1))
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_streams(channel):
    many = list(channel.unary_stream(ECHO + "Many")(b"500 5000", timeout=60))
    assert len(many) == 500 and all(len(m) == 5000 for m in many)
    assert channel.stream_unary(ECHO + "Sum")((b"x" * n for n in range(200)), timeout=60) == b"19900"
    sent = [bytes([i % 256]) * (i * 37 % 30000) for i in range(300)]
    assert list(channel.stream_stream(ECHO + "Stream")(iter(sent), timeout=60)) == sent


def test_empty_streams(channel):
    assert list(channel.stream_stream(ECHO + "Stream")(iter([]), timeout=60)) == []
    assert channel.stream_unary(ECHO + "Sum")(iter([]), timeout=60) == b"0"


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_statuses(channel, code):
    with pytest.raises(grpc.RpcError) as e:
        unary(channel, ECHO + "Fail", f"{code.value[0]} it's 50% \u00e9\n".encode())
    assert e.value.code() == code
    assert e.value.details() == "it's 50% \u00e9\n"
    trailers = dict(e.value.trailing_metadata())
    assert trailers["x-reason"] == "asked for" and trailers["x-raw-bin"] == b"\0\1\xff"


def test_metadata(channel):
    call = channel.unary_unary(ECHO + "Metadata").with_call
    answer, info = call(b"", timeout=60, metadata=[("x-ask", "a"), ("x-ask", "b"), ("x-ask-bin", b"\xff\0z")])
    assert answer == b"\xff\0z"
    assert ("x-answer", "a,b") in list(info.initial_metadata())


def test_unknown_method(channel):
    with pytest.raises(grpc.RpcError) as e:
        unary(channel, "/weft.test.Echo/None")
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "/weft.test.Echo/None" in e.value.details()


def test_deadline(channel):
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        unary(channel, ECHO + "Hang", timeout=0.2)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 60
    assert unary(channel, ECHO + "Unary", b"after") == b"after"


def test_cancel(channel):
    stream = channel.unary_stream(ECHO + "Many")(b"1000000 1000", timeout=60)
    assert len(next(stream)) == 1000
    stream.cancel()
    assert unary(channel, ECHO + "Unary", b"after") == b"after"


def test_slow_reader(channel):
    """50 MB to a reader that sleeps: what the server queues stays bounded."""
    stream = channel.unary_stream(ECHO + "Many")(b"500 100000", timeout=60)
    next(stream)
    time.sleep(0.5)
    with open(f"/proc/{channel.server.pid}/status") as f:
        rss_kb = int(next(line for line in f if line.startswith("VmRSS")).split()[1])
    assert rss_kb < 150_000
    assert sum(1 for _ in stream) == 499


def test_many_at_once(channel):
    with futures.ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: unary(channel, ECHO + "Unary", b"%d" % i), range(400)))
    assert results == [b"%d" % i for i in range(400)]


def test_health(channel):
    # grpc.health.v1: HealthCheckRequest{service = 1}, HealthCheckResponse{status = 1}
    assert unary(channel, "/grpc.health.v1.Health/Check") == b"\x08\x01"
    assert unary(channel, "/grpc.health.v1.Health/Check", b"\x0a\x05books") == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as e:
        unary(channel, "/grpc.health.v1.Health/Check", b"\x0a\x03no!")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x03no!", timeout=60)
    assert next(watch) == b"\x08\x03"
    watch.cancel()


def test_shutdown(channel):
    stream = channel.stream_stream(ECHO + "Stream")
    go = threading.Event()

    def requests():
        yield b"first"
        go.wait(60)

    answers = stream(requests(), timeout=60)
    assert next(answers) == b"first"
    channel.server.terminate()
    with pytest.raises(grpc.RpcError) as e:
        next(answers)
    go.set()
    assert e.value.code() == grpc.StatusCode.UNAVAILABLE
    assert e.value.details() == "shutting down"
    assert channel.server.wait(60) == 0


# ---- our client, their server ----

class Service(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rpartition("/")[2]
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "Stream": grpc.stream_stream_rpc_method_handler(lambda it, ctx: it),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Gzip": grpc.unary_unary_rpc_method_handler(self.gzip),
        }
        return handlers.get(name)

    @staticmethod
    def unary(request, ctx):
        assert dict(ctx.invocation_metadata())["user-agent"].startswith("grpc-weft/")
        return b"echo " + request

    @staticmethod
    def fail(request, ctx):
        ctx.set_trailing_metadata((("x-why", "because"),))
        ctx.abort(grpc.StatusCode.ABORTED, "50% \u00e9")

    @staticmethod
    def slow(request, ctx):
        time.sleep(0.5 if ctx.time_remaining() and ctx.time_remaining() < 1 else 0)
        return b"late"

    @staticmethod
    def many(request, ctx):
        count, size = map(int, request.split())
        return (b"z" * size for _ in range(count))

    @staticmethod
    def gzip(request, ctx):
        ctx.set_compression(grpc.Compression.Gzip)
        return b"a" * 10000


@pytest.fixture
def theirs():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def call(*args):
        argv = [str(PEER), "client", str(port), *map(str, args)]
        run = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0 and not run.stderr, f"{argv}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    yield call
    server.stop(None)


def test_their_unary(theirs):
    assert theirs("unary", ECHO + "Unary", "hi") == "message echo hi\ngot 0\nstatus OK \n"


def test_their_status(theirs):
    out = theirs("unary", ECHO + "Fail", "x")
    assert "status ABORTED 50% \u00e9\n" in out and "trailer x-why because\n" in out
    assert "status UNIMPLEMENTED " in theirs("unary", ECHO + "None", "x")


def test_their_deadline(theirs):
    assert "status DEADLINE_EXCEEDED" in theirs("unary", ECHO + "Slow", "x", 100)
    assert "message late" in theirs("unary", ECHO + "Slow", "x", 20000)


def test_their_streams(theirs):
    assert theirs("stream", ECHO + "Stream", 300, 20000) == "got 300\nstatus OK \n"
    assert theirs("stream", ECHO + "Stream", 0, 0) == "got 0\nstatus OK \n"
    assert theirs("read", ECHO + "Many", "400 10000") == "got 400\nstatus OK \n"
    assert theirs("read", ECHO + "Many", "100000 10", 7) == "got 7\ncancelled\n"


def test_their_compression(theirs):
    """A server that compresses although we said that we cannot read it."""
    assert "status UNIMPLEMENTED compressed messages are not supported" in theirs("unary", ECHO + "Gzip", "x")


def test_nobody_there():
    run = subprocess.run([PEER, "client", str(procs.free_port()), "unary", ECHO + "Unary", "x"],
                         capture_output=True, text=True, timeout=60)
    assert "status UNAVAILABLE no connection: " in run.stdout
