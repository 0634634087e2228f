"""Every case of h2spec against the proxy, with an HTTP/1 and with an HTTP/2 backend."""
import subprocess
import xml.etree.ElementTree as ET

import pytest
from meshtest import http2, procs
from meshtest.backend import Backend
from meshtest.proxy import Proxy

H2SPEC = procs.TOP / ".peers" / "bin" / "h2spec"


@pytest.mark.parametrize("cluster", ["b1", "h2"])
def test_every_case(cluster, spawn, tmp_path):
    with Backend("b1") as b1, Backend("h2", h2c=True) as h2:
        # Not AUTO: what does not begin with the preface is HTTP/1 there and gets 400 in HTTP/1's words, as
        # with Envoy, where h2spec (3.5) takes nothing but the end of the connection.
        case = {"hcm": {"codec_type": "HTTP2"},
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}
        proxy = Proxy(spawn, tmp_path, case, {"b1": b1.port, "h2": h2.port})
        report = tmp_path / "h2spec.xml"
        run = subprocess.run([H2SPEC, "-h", "127.0.0.1", "-p", str(proxy.port), "-o", "10", "-j", report],
                             capture_output=True, text=True, timeout=900)
        cases = list(ET.parse(report).getroot().iter("testcase"))
        bad = [f"{c.get('package')} {c.get('classname')}" for c in cases
               if c.find("failure") is not None or c.find("error") is not None]
        assert not bad, run.stdout[-8000:]
        assert len(cases) >= 145
        with http2.Client(proxy.port) as client:
            assert client.request(path="/after").status == 200
