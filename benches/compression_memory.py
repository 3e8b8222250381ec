"""
Resident memory of a compressed connection, by what was agreed on.

python benches/compression_memory.py
python benches/compression_memory.py --connections 5000

For each setting a server of its own: so many connections are opened, each sends one message of
1 KiB and gets one, both compressed, and is idle from then on. What is told is the growth of the
server's resident memory, divided by their number. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import zlib

import machine

SERVER = """
import sys, json
from rakit_ws import Server
server = Server(port=0, welcome=False, presence={"enabled": False}, log_level="error",
                max_connections=20_000, compression=json.loads(sys.argv[1]))

@server.on("start")
def started(server):
    print(server.addresses[0], flush=True)

@server.on("receive")
def echo(client, opcode, payload):
    client.send_frame(opcode, payload)
    return True

server.run()
"""

CONTEXT: dict[str, object] = {"enabled": True, "server_context_takeover": True}
SETTINGS: dict[str, dict[str, object]] = {
    "not compressed": {"enabled": False},
    "no context takeover (default)": {"enabled": True},
    "client_context_takeover": {"enabled": True, "client_context_takeover": True},
    "client_context_takeover, client_window_bits = 10": {
        "enabled": True,
        "client_context_takeover": True,
        "client_window_bits": 10,
    },
    "server_context_takeover": CONTEXT,
    "server_context_takeover, server_window_bits = 12, memory_level = 5": {
        **CONTEXT,
        "server_window_bits": 12,
        "memory_level": 5,
    },
    "server_context_takeover, server_window_bits = 9, memory_level = 1": {
        **CONTEXT,
        "server_window_bits": 9,
        "memory_level": 1,
    },
}

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)


def main() -> int:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--messages", type=int, default=1, help="that each sends and gets")
    arguments = parser.parse_args()
    machine.raise_descriptor_limit()
    print("| setting | kB for a connection |\n|---|---|")
    for name, compression in SETTINGS.items():
        grown = measured(compression, arguments.connections, arguments.messages)
        print(f"| {name} | {grown / 1000:.1f} |", flush=True)
    return 0


def measured(compression: dict[str, object], connections: int, messages: int) -> float:
    """Return the bytes that one connection costs."""
    command = [sys.executable, "-c", SERVER, json.dumps(compression)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host, _, port = server.stdout.readline().strip().rpartition(":")
            return asyncio.run(grown_by(server.pid, host, int(port), connections, messages))
        finally:
            server.terminate()


async def grown_by(pid: int, host: str, port: int, connections: int, messages: int) -> float:
    """Return the growth of the server by each of so many connections."""
    # What is shared by all, and what the allocator keeps, is there before.
    clients = [await connected(host, port, messages) for _ in range(50)]
    before = machine.resident_bytes(pid)
    clients += [await connected(host, port, messages) for _ in range(connections)]
    after = machine.resident_bytes(pid)
    for _, writer in clients:
        writer.close()
    return (after - before) / connections


async def connected(
    host: str, port: int, messages: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection that has sent its messages and got them back."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    is_compressed = b"permessage-deflate" in head
    for number in range(messages):
        writer.write(frame(number, is_compressed=is_compressed))
        _, second = await reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2), "big")
        await reader.readexactly(length)
    return reader, writer


def frame(number: int, *, is_compressed: bool) -> bytes:
    """Make a text frame with 1 KiB of JSON, masked with zeros."""
    orders = [{"id": 7919 * (n + number) % 100_003, "customer": f"c{n}"} for n in range(40)]
    payload = json.dumps({"orders": orders}).encode()[:1024]
    first = 0x81
    if is_compressed:
        # By itself, so that it can be sent whatever was agreed on.
        deflate = zlib.compressobj(wbits=-10)
        payload = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        payload, first = payload.removesuffix(b"\x00\x00\xff\xff"), 0xC1
    return bytes([first, 0x80 | 126]) + len(payload).to_bytes(2, "big") + bytes(4) + payload


if __name__ == "__main__":
    raise SystemExit(main())
