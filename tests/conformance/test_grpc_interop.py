"""gRPC's own interop suite (client and server of grpc-go) through two sidecars."""
import pytest
from meshtest import procs
from meshtest.mesh import Mesh, service, until

PEERS = procs.TOP / ".peers" / "bin"
CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
         "timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
         "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service"]


@pytest.fixture(scope="module")
def interop(tmp_path_factory):
    m = Mesh(tmp_path_factory.mktemp("interop"))
    try:
        m.write("service.yaml", service("interop", "books", {"app": "interop"}, 80, 10000, port_name="grpc"))
        server = m.run("server", [PEERS / "grpc-interop-server", "--port", "10000"], labels={"app": "interop"}, ports=[10000])
        client = m.client("client")
        m.settle()
        yield client, server
    except BaseException:
        m.close(failed=True)
        raise
    m.close()


@pytest.mark.parametrize("case", CASES)
def test_case(interop, case):
    client, server = interop
    r = client.call("meshtest.interop:run", timeout=120,
                    argv=[str(PEERS / "grpc-interop-client"), "--server_host", "interop.books.svc.cluster.local", "--server_port", "80",
                          "--test_case", case])
    assert r["code"] == 0, r["output"]


def test_it_went_through_the_mesh(interop):
    client, server = interop
    for w, direction in ((client, "outbound"), (server, "inbound")):
        assert w.stat(rf"^cluster\.{direction}.*upstream_rq_total$") >= len(CASES)
        until(lambda w=w, d=direction: w.stat(rf"^cluster\.{d}.*upstream_rq_active$") == 0, "nothing is under way")
    assert server.stat(r"^listener.*ssl\.handshake$") > 0, "mutual TLS between the sidecars"
