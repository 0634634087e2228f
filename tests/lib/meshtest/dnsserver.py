"""A DNS server for tests: answers from a table that the test changes while it runs.

zone: name -> {"A": [addresses], "AAAA": [...], "ttl": seconds, "rcode": 0, "silent": False}; other names do not exist."""
import ipaddress
import socket
import struct
import threading

TYPES = {1: "A", 28: "AAAA"}


def question(packet):
    """(name, type number, where the question ends)"""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels).lower(), struct.unpack(">H", packet[at + 1:at + 3])[0], at + 5


class Server:
    def __init__(self, zone=None, host="127.0.0.1"):
        self.zone, self.asked = zone or {}, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.sock.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join(5)
        self.sock.close()

    def serve(self):
        while True:
            packet, peer = self.sock.recvfrom(2048)
            if not packet:
                return
            try:
                answer = self.answer(packet)
            except (IndexError, struct.error, UnicodeDecodeError):
                continue
            if answer:
                self.sock.sendto(answer, peer)

    def answer(self, packet):
        name, kind, end = question(packet)
        self.asked.append((name, TYPES.get(kind, str(kind))))
        entry = self.zone.get(name)
        if entry and entry.get("silent"):
            return None
        rcode = entry.get("rcode", 0) if entry else 3
        found = entry.get(TYPES.get(kind), []) if entry and not rcode else []
        out = packet[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(found), 0, 0) + packet[12:end]
        for address in found:
            data = ipaddress.ip_address(address).packed
            out += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, entry.get("ttl", 60), len(data)) + data
        return out
