"""A server that does what no server should: python -m meshtest.misbehave reset|silent|garbage|once PORT"""
import signal
import socket
import struct
import sys
import threading
import time


def serve(kind, s):
    try:
        s.recv(65536)
        if kind == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "silent":
            time.sleep(3600)
        elif kind == "garbage":
            s.sendall(b"this is no HTTP\r\n\r\n")
        elif kind == "once":
            s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    except OSError:
        pass
    s.close()


def main():
    kind, port = sys.argv[1], int(sys.argv[2])
    listener = socket.create_server(("0.0.0.0", port), backlog=64)
    while True:
        s, _ = listener.accept()
        s.settimeout(60)
        first = b""
        try:
            first = s.recv(1, socket.MSG_PEEK)
        except OSError:
            pass
        threading.Thread(target=serve, args=(kind, s), daemon=True).start()
        if kind == "once" and first:
            listener.close()
            signal.pause()


main()
