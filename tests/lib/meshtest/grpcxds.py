"""A gRPC client without a sidecar, and what it needs to find the control plane.

    c = Client("python" | "go" | "node", tmp_path, control_address)
    c.call("flaskapp.books.svc.cluster.local:80", {"x-user": "eva"}, n=20)  -> {"code", "details", "by": {backend: answers}}

python -m meshtest.grpcxds does with grpcio what tests/go/grpcxds does with grpc-go and tests/node/grpcxds.js with grpc-js: a JSON object a line.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

from . import procs

LIB = Path(__file__).resolve().parents[1]
COMMANDS = {"python": [sys.executable, "-m", "meshtest.grpcxds"], "go": [procs.TOP / ".peers" / "bin" / "grpcxds"],
            "node": ["node", procs.TOP / "tests" / "node" / "grpcxds.js", procs.TOP / ".peers" / "node" / "node_modules"]}


def bootstrap(address, ns, name, labels=None, generator="grpc"):
    """As Istio's agent writes it for gRPC; grpc-js demands a locality, which may be empty."""
    meta = {"GENERATOR": generator, "NAMESPACE": ns, "LABELS": labels or {}}
    return {"xds_servers": [{"server_uri": address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
            "node": {"id": f"sidecar~127.0.0.1~{name}.{ns}~{ns}.svc.cluster.local", "locality": {}, "metadata": meta}}


class Client:
    def __init__(self, kind, tmp_path, address, ns="books", **node):
        self.kind = kind
        path = Path(tmp_path) / f"bootstrap-{kind}.json"
        path.write_text(json.dumps(bootstrap(address, ns, f"client-{kind}", **node)))
        self.log = open(Path(tmp_path) / f"grpcxds-{kind}.log", "ab")
        env = dict(os.environ, PYTHONPATH=str(LIB), GRPC_XDS_BOOTSTRAP=str(path), GRPC_GO_LOG_SEVERITY_LEVEL="warning")
        self.proc = subprocess.Popen([str(c) for c in COMMANDS[kind]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=self.log, env=env, text=True)

    def call(self, target, metadata=None, n=1, deadline=60, method="/weft.test.Echo/Unary"):
        self.proc.stdin.write(json.dumps({"target": "xds:///" + target, "method": method, "metadata": metadata or {}, "n": n,
                                          "deadline": deadline}) + "\n")
        self.proc.stdin.flush()
        line = self.proc.stdout.readline()
        assert line, f"the client has ended, see {self.log.name}: {Path(self.log.name).read_text(errors='replace')[-3000:]}"
        return json.loads(line)

    def close(self):
        self.proc.stdin.close()
        try:
            self.proc.wait(30)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdout.close()
        self.log.close()


def main():
    import grpc
    channels = {}
    for line in sys.stdin:
        r = json.loads(line)
        if r["target"] not in channels:
            channels[r["target"]] = grpc.insecure_channel(r["target"])
        method = channels[r["target"]].unary_unary(r["method"])
        answer = {"code": 0, "details": "", "by": {}}
        for _ in range(r["n"]):
            try:
                _, call = method.with_call(b"{}", timeout=r["deadline"], metadata=list(r["metadata"].items()))
            except grpc.RpcError as e:
                answer.update(code=e.code().value[0], details=e.details())
                break
            name = dict(call.initial_metadata())["x-backend"]
            answer["by"][name] = answer["by"].get(name, 0) + 1
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
