"""The servers of a scenario workload: python -m meshtest.echoes --name a1 [--cert PEM --key PEM]

8080  HTTP/1.1 (meshtest.backend: answers with what it saw, does what x-want-* headers ask)
9090  HTTP/2 without TLS: the same, and gRPC's framing comes back as it was sent
9000  TCP: each line comes back as "NAME: line"
8443  HTTPS with the certificate given (the same answers); its clients may show a certificate
"""
import argparse
import asyncio
import signal
import ssl
import threading

from .backend import Backend


async def tcp_echo(name, reader, writer):
    while line := await reader.readline():
        if line.startswith(b"QUIT"):
            break
        writer.write(name.encode() + b": " + line)
        await writer.drain()
    writer.close()


def serve_tcp(name, port):
    async def main():
        server = await asyncio.start_server(lambda r, w: tcp_echo(name, r, w), "0.0.0.0", port)
        await server.serve_forever()
    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--name", required=True)
    ap.add_argument("--cert")
    ap.add_argument("--key")
    ap.add_argument("--ca")
    o = ap.parse_args()
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *a: end.set())
    Backend(o.name, 8080, "0.0.0.0").start()
    Backend(o.name, 9090, "0.0.0.0", h2c=True).start()
    serve_tcp(o.name, 9000)
    if o.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(o.cert, o.key)
        tls.load_verify_locations(o.ca)
        tls.verify_mode = ssl.CERT_OPTIONAL
        Backend(o.name, 8443, "0.0.0.0", ssl=tls).start()
    end.wait()


if __name__ == "__main__":
    main()
