"""The two ends of a conformance case: the example that echoes, and a client that can do wrong."""

from __future__ import annotations

import contextlib
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from cases import AT_ONCE, NO_CODE

from raw_client import CLOSE, PING, PONG, frame, request

ECHO = Path(__file__).parents[2] / "examples" / "echo.py"
TIMEOUT_S = 30


@contextlib.contextmanager
def echo_server():
    """Run the example; yield its port. It must have nothing to say but where it listens."""
    command = [sys.executable, str(ECHO), "--port", "0", "--log-level", "error"]
    echo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield int(re.search(r":(\d+)", echo.stdout.readline())[1])
    finally:
        echo.send_signal(signal.SIGTERM)
        _, errors = echo.communicate(timeout=TIMEOUT_S)
    assert errors == ""
    assert echo.returncode == 0


class Peer:
    """A WebSocket over a blocking socket, for which every write is a segment of its own."""

    def __init__(self, port, *, headers=()):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request(headers=headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        self.head = head.decode("latin-1")

    def close(self):
        self.socket.close()

    def send(self, data, cut=AT_ONCE):
        """Send bytes, `cut` of them at a time."""
        size = cut if cut > 0 else len(data)
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def read(self, count):
        """Read so many bytes."""
        data = bytearray(count)
        at = 0
        while at < count:
            received = self.socket.recv_into(memoryview(data)[at:])
            assert received, f"TCP ended {count - at} bytes early"
            at += received
        return bytes(data)

    def read_frame(self):
        """Read opcode and payload of a frame, which must be whole, unmasked and in short form."""
        first, payload = self.read_any_frame()
        assert first & 0xF0 == 0x80
        return first & 0x0F, payload

    def read_any_frame(self):
        """Read the first byte and the payload of a frame."""
        first, length = self.read(2)
        if length == 126:
            length = int.from_bytes(self.read(2), "big")
            assert length >= 126
        elif length == 127:
            length = int.from_bytes(self.read(8), "big")
            assert length >= 1 << 16
        assert length < 1 << 63
        return first, self.read(length)

    def read_close(self):
        """Read a Close, which must come next; return its code."""
        opcode, payload = self.read_frame()
        assert opcode == CLOSE, (opcode, payload[:100])
        payload[2:].decode()
        return int.from_bytes(payload[:2], "big") if payload else NO_CODE

    def at_end(self):
        """Tell whether TCP ends without another byte, and without a reset."""
        return self.socket.recv(1) == b""

    def has_nothing(self, bystander):
        """Tell whether all that was sent so far has been read and given no answer."""
        bystander.send(frame(PING, "read?"))
        assert bystander.read_frame() == (PONG, b"read?")
        return not select.select([self.socket], [], [], 0)[0]
