"""
Fixed work in Python, to have its instructions counted: `route.py WORK N` handles N messages.

What runs is what a running server does with a message that the engine hands over. `route`: inbox,
router, wire, and the engine's `publish_from` to channels of one subscriber, which is written to after
every 40. `hook`: inbox, a `receive` hook that echoes, and the engine's `send` to a client that has
gone. Python calls the native receiver here, for some 900 instructions a message that a batch does
not need.
"""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import sys
from typing import Any, cast

from rakit_ws._core import TEXT
from rakit_ws.config import Config
from rakit_ws.hub.client import Client
from rakit_ws.hub.events import Hooks
from rakit_ws.running import Running

MESSAGES = [
    b'{"event":"message","channel":"lobby-%d","data":{"text":"selamat pagi, apa kabar?"}}' % number
    for number in range(8)
]
# What a subscriber gets in one write; N is a multiple of it.
BATCH = 40
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def echo(client: Client, opcode: int, payload: bytes) -> bool:
    client.send_frame(opcode, payload)
    return True


def main() -> None:
    work, times = sys.argv[1], int(sys.argv[2])
    loop = asyncio.new_event_loop()
    hooks = Hooks()
    if work == "hook":
        hooks.add("receive", echo)
    running = Running(Config(port=0, log_level="error"), hooks, {}, loop)
    # Its request is never looked at.
    client = Client(running.hub, 1, "A1b2C3d4E5f6G7h8", cast("Any", None))
    peer = subscriber(running) if work == "route" else None
    receive = running._receive  # noqa: SLF001 - what the batch of a running server calls
    gc.disable()
    for _ in range(times // BATCH):
        for number in range(BATCH):
            receive(client, TEXT, MESSAGES[number % len(MESSAGES)])
        if peer:
            running.engine.flush()
            peer.recv(1 << 16)


def subscriber(running: Running) -> socket.socket:
    """Connect a client that hears every channel."""
    engine = running.engine
    engine.listen("127.0.0.1", 0)
    host, _, port = engine.addresses[0].rpartition(":")
    peer = socket.create_connection((host, int(port)))
    peer.sendall(REQUEST)
    while not running.hub.by_id:
        select.select([engine.fileno()], [], [])
        running._handle_batch()  # noqa: SLF001 - as above
    (client,) = running.hub.by_id.values()
    for number in range(len(MESSAGES)):
        client.subscribe(f"lobby-{number}")
    engine.flush()
    peer.recv(1 << 16)
    return peer


if __name__ == "__main__":
    main()
