"""
A peer for the benches: websockets. `/echo` echoes, every other path speaks the JSON of channels.

Written as its documentation advises for speed: uvloop, no compression unless it is asked for,
messages as bytes where they are parsed as such, and `broadcast()` for several recipients.
"""

from __future__ import annotations

import contextlib
import logging

import uvloop
import wire
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

channels: wire.Channels[ServerConnection] = wire.Channels()

NO_TAKEOVER = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


async def handle(connection: ServerConnection) -> None:
    path = connection.request.path if connection.request else "/"
    with contextlib.suppress(ConnectionClosed):
        await (echo(connection) if path == "/echo" else hub(connection))
    channels.forget(connection)


async def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    async for message in connection:
        await connection.send(message)


async def hub(connection: ServerConnection) -> None:
    """Route messages to the subscribers of their channel."""
    client_id = wire.client_id()
    while True:
        message = wire.decode(await connection.recv(decode=False))
        if message.event == "message":
            publication = wire.publication(message, client_id)
            broadcast(channels.subscribers(message.channel), publication, text=True)
        elif message.event == "subscribe":
            channels.subscribe(connection, message.channel)
        if message.id:
            await connection.send(wire.ack(message.id, message.channel), text=True)


async def main() -> None:
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    port, deflate = wire.arguments()
    extensions = [NO_TAKEOVER] if deflate else None
    async with serve(
        handle, "127.0.0.1", port, compression=None, extensions=extensions, backlog=4096
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
