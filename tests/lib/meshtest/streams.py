"""Byte streams for workloads. Servers: python -m meshtest.streams websocket|tcp|bulk PORT; clients: the functions."""
import asyncio
import hashlib
import socket
import sys
import threading
import time

# ---- servers ----


async def websocket_server(port):
    from websockets.asyncio.server import serve

    async def handler(ws):
        async for m in ws:
            if m == "bye":
                await ws.close(4321, "bye")
                return
            await ws.send(f"echo: {m}" if isinstance(m, str) else m)

    async with serve(handler, "0.0.0.0", port, subprotocols=["chat.v1"], max_size=None):
        await asyncio.Future()


async def tcp_server(port):
    async def handler(reader, writer):
        writer.write(b"hello")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"end")
        writer.close()
    server = await asyncio.start_server(handler, "0.0.0.0", port)
    await server.serve_forever()


async def bulk_server(port):
    """Counts a chunked body and sends as much back, at the same time (HTTP/1.1)."""
    async def handler(reader, writer):
        while line := await reader.readline():
            size = int(line.split()[1].split(b"=")[1])
            while (await reader.readline()) not in (b"\r\n", b""):
                pass
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            got, digest, block = 0, hashlib.sha1(), bytes(range(256)) * 256

            async def send():
                left = size
                while left:
                    n = min(left, len(block))
                    writer.write(b"%x\r\n%s\r\n" % (n, block[:n]))
                    await writer.drain()
                    left -= n
            sending = asyncio.ensure_future(send())
            while n := int(await reader.readline(), 16):
                data = await reader.readexactly(n)
                await reader.readexactly(2)
                got += n
                digest.update(data)
            await reader.readline()
            await sending
            tail = b"%d %s" % (got, digest.hexdigest().encode())
            writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(tail), tail))
            await writer.drain()
        writer.close()
    server = await asyncio.start_server(handler, "0.0.0.0", port, limit=1 << 20)
    await server.serve_forever()


# ---- clients ----


def websocket_client(url, sizes):
    from websockets.sync.client import connect
    from websockets.exceptions import ConnectionClosed
    with connect(url, subprotocols=["chat.v1"], max_size=None) as ws:
        ws.send("grüße")
        out = {"text": ws.recv(), "sizes": [], "protocol": ws.subprotocol}
        for n in sizes:
            ws.send(b"\x07" * n)
            got = ws.recv()
            assert got == b"\x07" * n
            out["sizes"].append(len(got))
        begin = time.monotonic()
        assert ws.ping().wait(60)
        out["ping"] = time.monotonic() - begin
        ws.send("bye")
        try:
            ws.recv()
        except ConnectionClosed as e:
            out["close"] = [e.rcvd.code, e.rcvd.reason]
        return out


def websocket_stays(url, seconds):
    """One connection, a message every now and then."""
    from websockets.sync.client import connect
    with connect(url, subprotocols=["chat.v1"]) as ws:
        end, n = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            ws.send(str(n))
            assert ws.recv(timeout=60) == f"echo: {n}"
            n += 1
            time.sleep(0.2)
        return {"echoes": n}


def tcp_client(host, port, size):
    with socket.create_connection((host, port), timeout=60) as s:
        greeting = s.recv(5, socket.MSG_WAITALL)
        block, sent, got = bytes(range(256)) * 64, hashlib.sha1(), hashlib.sha1()

        def write():
            left = size
            while left:
                part = block[:min(left, len(block))]
                s.sendall(part)
                sent.update(part)
                left -= len(part)
            s.shutdown(socket.SHUT_WR)
        t = threading.Thread(target=write)
        t.start()
        n, tail = 0, b""
        while data := s.recv(65536):
            tail = (tail + data)
            take, tail = (tail[:-3], tail[-3:]) if len(tail) > 3 else (b"", tail)
            got.update(take)
            n += len(take)
        t.join()
        return {"greeting": greeting.decode(), "echoed": n, "same": sent.digest() == got.digest() and tail == b"end"}


def bulk(host, size, pause=0):
    """Sends and receives `size` bytes at the same time; reads nothing for `pause` seconds."""
    with socket.create_connection((host, 80), timeout=60) as s:
        f = s.makefile("rb", buffering=1 << 16)
        block, digest = bytes(range(256)) * 256, hashlib.sha1()
        s.sendall(b"POST /?size=%d HTTP/1.1\r\nhost: %s\r\ntransfer-encoding: chunked\r\n\r\n" % (size, host.encode()))

        def write():
            left = size
            while left:
                part = block[:min(left, len(block))]
                s.sendall(b"%x\r\n%s\r\n" % (len(part), part))
                digest.update(part)
                left -= len(part)
            s.sendall(b"0\r\n\r\n")
        t = threading.Thread(target=write)
        t.start()
        time.sleep(pause)
        status = f.readline()
        assert b" 200 " in status, status + f.read(1000)
        while f.readline() != b"\r\n":
            pass
        down, last = 0, b""
        while n := int(f.readline(), 16):
            left = n
            while left:
                data = f.read(min(left, 1 << 16))
                assert data, "the response broke off"
                left -= len(data)
                last = (last + data)[-100:]
            f.read(2)
            down += n
        t.join()
        tail = last.rsplit(b"\xff", 1)[-1] if b"\xff" in last else last
        count, _, hexa = tail.partition(b" ")
        return {"up": int(count), "down": down - len(tail), "digest_ok": hexa.decode() == digest.hexdigest()}


if __name__ == "__main__":
    asyncio.run({"websocket": websocket_server, "tcp": tcp_server, "bulk": bulk_server}[sys.argv[1]](int(sys.argv[2])))
