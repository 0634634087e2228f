"""A gRPC service and its client for workloads, without generated code: messages are JSON.

python -m meshtest.grpcapp --port 50051 --name g1   serves /weft.test.Echo/{Unary,Download,Upload,Chat,Count}:
  Unary     answers {"name", "metadata", "got"}; {"abort": [code, details]} ends with that status, {"sleep": s} waits
  Download  {"n", "size", "pause"} answers n messages
  Upload    answers {"n", "bytes"} of what came
  Chat      answers each message at once
  Count     {"cancelled", "deadlines"} that the server has seen
Initial metadata x-backend, trailing metadata x-served (Unary, Chat: "done"). SIGTERM ends it at once.
"""
import argparse
import concurrent.futures
import json
import random
import signal
import threading
import time

import grpc

from . import procs

SERVICE = "/weft.test.Echo/"
dump, load = lambda m: json.dumps(m).encode(), json.loads
counts = {"cancelled": 0}


def unary(name):
    def answer(m, context):
        context.send_initial_metadata((("x-backend", name),))
        context.set_trailing_metadata((("x-served", "done"), ("x-bytes-bin", b"\x00\x01\xff")))
        if m.get("sleep"):
            gone = threading.Event()
            context.add_callback(gone.set)
            if gone.wait(m["sleep"]):
                counts["cancelled"] += 1
                return {}
        if m.get("abort"):
            code, details = m["abort"]
            context.abort({c.value[0]: c for c in grpc.StatusCode}[code], details)
        return {"name": name, "metadata": [[k, v if isinstance(v, str) else v.hex()] for k, v in context.invocation_metadata()],
                "got": m}
    return answer


def download(m, context):
    whole = threading.Event()
    # The library may end the call without coming back here.
    context.add_callback(lambda: whole.is_set() or counts.update(cancelled=counts["cancelled"] + 1))
    for i in range(m["n"]):
        yield {"i": i, "pad": "x" * m.get("size", 0)}
        time.sleep(m.get("pause", 0))
    whole.set()


def upload(messages, context):
    n = size = 0
    for m in messages:
        n, size = n + 1, size + len(m.get("pad", ""))
    return {"n": n, "bytes": size}


def chat(name):
    def answer(messages, context):
        context.send_initial_metadata((("x-backend", name),))
        context.set_trailing_metadata((("x-served", "done"),))
        for m in messages:
            if m.get("abort"):
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, m["abort"])
            yield {"echo": m}
    return answer


def serve(port, name, host="0.0.0.0"):
    kw = {"request_deserializer": load, "response_serializer": dump}
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary(name), **kw),
                "Download": grpc.unary_stream_rpc_method_handler(download, **kw),
                "Upload": grpc.stream_unary_rpc_method_handler(upload, **kw),
                "Chat": grpc.stream_stream_rpc_method_handler(chat(name), **kw),
                "Count": grpc.unary_unary_rpc_method_handler(lambda m, c: counts, **kw)}
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weft.test.Echo", handlers),))
    assert server.add_insecure_port(f"{host}:{port}")
    server.start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server.wait_for_termination()


# ---- clients: functions for Workload.call and start ----

def channel(target):
    return grpc.insecure_channel(target, options=[("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)])


def pairs(metadata):
    return [[k, v if isinstance(v, str) else v.hex()] for k, v in metadata or ()]


def outcome(call, get):
    """What a caller sees of one call."""
    try:
        result = get()
    except grpc.RpcError as e:
        call = e if call is None else call
        return {"code": call.code().value[0], "details": call.details(), "initial": pairs(call.initial_metadata()),
                "trailing": pairs(call.trailing_metadata())}
    return {"code": call.code().value[0], "result": result, "initial": pairs(call.initial_metadata()),
            "trailing": pairs(call.trailing_metadata())}


def call_unary(target, message, metadata=(), deadline=30, cancel_after=None):
    with channel(target) as ch:
        call = ch.unary_unary(SERVICE + "Unary", dump, load).future(message, timeout=deadline, metadata=[tuple(m) for m in metadata])
        if cancel_after is not None:
            time.sleep(cancel_after)
            call.cancel()
        try:
            result = call.result()
        except grpc.FutureCancelledError:
            return {"code": call.code().value[0]}
        except grpc.RpcError:
            return outcome(call, lambda: (_ for _ in ()).throw(call))
        return outcome(call, lambda: result)


def call_download(target, message, cancel_after=None):
    with channel(target) as ch:
        call = ch.unary_stream(SERVICE + "Download", dump, load)(message, timeout=60)
        seen = []
        try:
            for m in call:
                seen.append(m["i"])
                if cancel_after is not None and len(seen) == cancel_after:
                    call.cancel()
        except grpc.RpcError:
            pass
        return {"code": call.code().value[0], "seen": seen}


def call_upload(target, n, size):
    with channel(target) as ch:
        call = ch.stream_unary(SERVICE + "Upload", dump, load).future(({"pad": "x" * size} for _ in range(n)), timeout=60)
        return outcome(call, call.result)


def call_chat(target, messages):
    """Sends the next message only after the answer to the one before has come."""
    with channel(target) as ch:
        turn, todo = threading.Semaphore(1), list(messages)

        def say():
            for m in todo:
                turn.acquire()
                yield m
        call = ch.stream_stream(SERVICE + "Chat", dump, load)(say(), timeout=60)
        answers = []
        try:
            for a in call:
                answers.append(a["echo"])
                turn.release()
        except grpc.RpcError:
            pass
        return {"code": call.code().value[0], "details": call.details(), "answers": answers, "trailing": pairs(call.trailing_metadata())}


def call_count(target):
    with channel(target) as ch:
        return ch.unary_unary(SERVICE + "Count", dump, load)({}, timeout=30)


def run(stop, target, threads=3, message=None, timeout=30):
    """Unary calls on one channel until `stop`: [begin, end, backend] of each, and what failed."""
    seen, failed = [], []
    with channel(target) as ch:
        method = ch.unary_unary(SERVICE + "Unary", dump, load)

        def work():
            while not stop.is_set():
                begin = time.monotonic()
                try:
                    seen.append((begin, time.monotonic(), method(message or {}, timeout=timeout)["name"]))
                except grpc.RpcError as e:
                    failed.append((begin, time.monotonic(), f"{e.code()} {e.details()}"))
        procs.side_by_side(threads, work)
    return {"seen": seen, "failed": failed}


def cut(target, count, seed, explain=False):
    """Streams that are cancelled, or run out of time, at some moment; on one channel and on channels of their own."""
    dice, codes = random.Random(seed), {}
    with channel(target) as shared:
        for i in range(count):
            ch = channel(target) if dice.random() < 0.2 else shared
            if i % 2:
                call = ch.unary_stream(SERVICE + "Download", dump, load)({"n": 1000, "pause": 0.001, "size": dice.choice([0, 20000])},
                                                                         timeout=dice.choice([0.02, 0.1, 30]))
            else:
                call = ch.stream_stream(SERVICE + "Chat", dump, load)(({"pad": "x" * 5000} for _ in range(200)), timeout=dice.choice([0.02, 0.1, 30]))
            stop_at = dice.randrange(40)
            try:
                for n, _ in enumerate(call):
                    if n == stop_at:
                        call.cancel()
            except grpc.RpcError:
                pass
            what = f"{call.code().name} {call.details()}" if explain else call.code().name
            codes[what] = codes.get(what, 0) + 1
            if ch is not shared:
                ch.close()
    return codes


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, required=True)
    ap.add_argument("--name", default="grpc")
    ap.add_argument("--host", default="0.0.0.0")
    o = ap.parse_args()
    serve(o.port, o.name, o.host)
