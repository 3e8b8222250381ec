"""
What TLS costs: resident memory of an idle connection, and CPU for handshakes and messages.

python benches/tls.py
python benches/tls.py --connections 5000

Each is measured with and without TLS, in turns, against `examples/echo.py`. Memory is the growth of
the server's resident memory, divided by the number of connections. CPU is that of the server, from
/proc, so a slow client does no harm. The certificate is made by the `openssl` program: ECDSA P-256,
as certbot's are. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Load:
    """Messages of one size, so many in flight, and so many in all."""

    size: int
    in_flight: int
    count: int


LOADS = (
    Load(size=64, in_flight=1, count=20_000),
    Load(size=64, in_flight=32, count=200_000),
    Load(size=64 * 1024, in_flight=1, count=10_000),
    Load(size=1024 * 1024, in_flight=1, count=800),
)


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    pid: int
    port: int
    context: ssl.SSLContext | None

    def connect(self) -> socket.socket:
        """Open a WebSocket."""
        plain = socket.create_connection(("127.0.0.1", self.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = self.context.wrap_socket(plain) if self.context else plain
        client.sendall(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = client.recv(4096)
            if not received:
                raise SystemExit(f"refused: {head!r}")
            head += received
        return client

    @property
    def resident(self) -> int:
        """Its resident memory in bytes."""
        return machine.resident_bytes(self.pid)

    @property
    def cpu_s(self) -> float:
        """The CPU time that it has used."""
        return machine.cpu_s(self.pid)


def main() -> int:
    """Print a row for each measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    machine.raise_descriptor_limit()
    print("| measure | plain | TLS | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        files = identity(Path(directory))
        show("idle connection, kB", 1000, memory(files, arguments.connections))
        show("after a message of 64 KiB, kB", 1000, memory(files, arguments.connections, 65_536))
        rounds = [handshakes(files, 1000) for _ in range(arguments.rounds)]
        show("connection opened and closed, µs", 1e-6, *rounds)
        for load in LOADS:
            rounds = [messages(files, load) for _ in range(arguments.rounds)]
            show(f"echo of {load.size} B, {load.in_flight} in flight, µs", 1e-6, *rounds)
    return 0


def show(name: str, unit: float, *rounds: tuple[float, float]) -> None:
    plain, tls = (statistics.median(each) / unit for each in zip(*rounds, strict=True))
    ratio = statistics.median(tls / plain for plain, tls in rounds)
    print(f"| {name} | {plain:.2f} | {tls:.2f} | {ratio:.2f} |", flush=True)


def memory(files: tuple[str, str], connections: int, size: int = 0) -> tuple[float, float]:
    """Return the bytes that one connection costs, that had echoed a message of `size`, if any."""

    def grown(server: Server) -> float:
        clients = [opened(server, size) for _ in range(50)]  # what all share is there before
        before = server.resident
        clients += [opened(server, size) for _ in range(connections)]
        after = server.resident
        for client in clients:
            client.close()
        return (after - before) / connections

    return both(files, grown)


def opened(server: Server, size: int) -> socket.socket:
    client = server.connect()
    if size:
        echo(client, Load(size=size, in_flight=1, count=1))
    return client


def handshakes(files: tuple[str, str], count: int) -> tuple[float, float]:
    """Return the CPU seconds for a connection from its beginning to its end; none is resumed."""

    def spent(server: Server) -> float:
        before = server.cpu_s
        for _ in range(count):
            server.connect().close()
        return (server.cpu_s - before) / count

    return both(files, spent)


def messages(files: tuple[str, str], load: Load) -> tuple[float, float]:
    """Return the CPU seconds for a message and its echo."""

    def spent(server: Server) -> float:
        with server.connect() as client:
            echo(client, Load(load.size, load.in_flight, load.in_flight * 10))
            before = server.cpu_s
            echo(client, load)
            return (server.cpu_s - before) / load.count

    return both(files, spent)


def both(files: tuple[str, str], measure: Callable[[Server], float]) -> tuple[float, float]:
    """Measure without and with TLS."""
    with running() as plain:
        without = measure(plain)
    with running(*files) as tls:
        return without, measure(tls)


def echo(client: socket.socket, load: Load) -> None:
    """Send messages, `in_flight` at a time, and read what comes back."""
    one = frame(load.size)
    batch = one * load.in_flight
    # An echo is shorter than its frame by the masking key.
    room = memoryview(bytearray((len(one) - 4) * load.in_flight))
    for _ in range(load.count // load.in_flight):
        client.sendall(batch)
        received = 0
        while received < len(room):
            count = client.recv_into(room[received:])
            if not count:
                raise SystemExit("the server has closed the connection")
            received += count


def frame(size: int) -> bytes:
    """Make a binary frame, masked with zeros."""
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return b"\x82" + length + bytes(4) + os.urandom(size)


@contextlib.contextmanager
def running(certificate: str = "", key: str = "") -> Iterator[Server]:
    """Start a server; stop it."""
    command = [sys.executable, str(ROOT / "examples" / "echo.py"), "--port", "0"]
    flags = ["--certificate", certificate, "--key", key, "--no-compression"]
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        yield Server(process.pid, port, context)
    finally:
        process.terminate()
        process.communicate()


def identity(directory: Path) -> tuple[str, str]:
    """Make a certificate and its key; return their paths."""
    certificate, key = str(directory / "server.crt"), str(directory / "server.key")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90"
    files = ["-subj", "/CN=localhost", "-out", certificate, "-keyout", key]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, key


if __name__ == "__main__":
    raise SystemExit(main())
