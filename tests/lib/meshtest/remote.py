"""The command of a client workload: does what the test says, in the workload's namespaces (mesh.py's call and start).

Lines of JSON come in: {"id": 1, "call": "module:function", "args": {…}}; each runs in a thread of its own and is
answered by {"id": 1, "result": …} or {"id": 1, "error": "traceback"}. {"id": 1, "stop": true} sets the event
that a function with a parameter `stop` was given. The end of standard input ends it.
"""
import importlib
import inspect
import json
import os
import sys
import threading
import traceback

out, lock, stops = sys.stdout, threading.Lock(), {}
sys.stdout = sys.stderr  # what a function prints is no answer


def answer(message):
    with lock:
        out.write(json.dumps(message) + "\n")
        out.flush()


def work(job):
    try:
        module, _, name = job["call"].partition(":")
        function, args = getattr(importlib.import_module(module), name), job["args"]
        if "stop" in inspect.signature(function).parameters:
            args["stop"] = stops[job["id"]]
        answer({"id": job["id"], "result": function(**args)})
    except BaseException:
        answer({"id": job["id"], "error": traceback.format_exc()})
    stops.pop(job["id"], None)


def main():
    for line in sys.stdin:
        job = json.loads(line)
        if job.get("stop"):
            if event := stops.get(job["id"]):
                event.set()
            continue
        stops[job["id"]] = threading.Event()
        threading.Thread(target=work, args=(job,), daemon=True).start()
    os._exit(0)


main()
