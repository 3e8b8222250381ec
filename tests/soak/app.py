"""The server that the soak is about: short deadlines, small limits, and a command that looks inside."""

from __future__ import annotations

import asyncio
import gc
import os

from rakit_ws import Client, Opcode, Server

# Every deadline comes due many times in a soak of minutes.
server = Server(
    port=0,
    handshake_timeout=3,
    ping_interval=4,
    ping_timeout=15,
    close_timeout=2,
    max_buffer_size=256 * 1024,
    max_send_buffer=256 * 1024,
    max_channels_per_client=16,
    presence={"interval": 2},
    compression={"enabled": True},
    # Where `--tls` was asked for.
    tls={
        "certificate": os.environ.get("SOAK_CERTIFICATE", ""),
        "key": os.environ.get("SOAK_KEY", ""),
    },
)


@server.command("tables")
def tables(_client: Client, collect: bool = False) -> object:
    """Tell how much of everything there is."""
    if collect:
        gc.collect()
    return {
        "clients": len(server.clients),
        "channels": len(server.channels),
        "subscriptions": sum(server.channels.values()),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()) if collect else 0,
        "counters": server.counters,
    }


@server.on("receive")
async def received(client: Client, opcode: int, payload: bytes) -> bool:
    """Take binary messages over, after some other work: mailboxes and tasks are in use."""
    if opcode != Opcode.BINARY:
        return False
    await asyncio.sleep(0)
    client.send_frame(opcode, payload)
    return True
