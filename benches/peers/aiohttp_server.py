"""
A peer for the benches: aiohttp. `/echo` echoes, every other path speaks the JSON of channels.

Written as its documentation advises for speed: uvloop, its C parser and writer (built in), no
compression unless it is asked for, text handed over as the bytes that it was. Several recipients
are awaited one after the other: a send that does not wait costs no task, which `gather()` would.
"""

from __future__ import annotations

import contextlib
import logging

import uvloop
import wire
from aiohttp import WSMsgType, web
from aiohttp.client_exceptions import ClientConnectionResetError

channels: wire.Channels[web.WebSocketResponse] = wire.Channels()

PORT, DEFLATE = wire.arguments()
TEXT = WSMsgType.TEXT


async def handle(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=DEFLATE, decode_text=False, autoclose=True)
    await socket.prepare(request)
    with contextlib.suppress(ClientConnectionResetError):
        await (echo(socket) if request.path == "/echo" else hub(socket))
    channels.forget(socket)
    return socket


async def echo(socket: web.WebSocketResponse) -> None:
    """Send back what comes."""
    async for message in socket:
        await socket.send_frame(message.data, message.type)


async def hub(socket: web.WebSocketResponse) -> None:
    """Route messages to the subscribers of their channel."""
    client_id = wire.client_id()
    async for frame in socket:
        message = wire.decode(frame.data)
        if message.event == "message":
            publication = wire.publication(message, client_id)
            for subscriber in tuple(channels.subscribers(message.channel)):
                await subscriber.send_frame(publication, TEXT)
        elif message.event == "subscribe":
            channels.subscribe(socket, message.channel)
        if message.id:
            await socket.send_frame(wire.ack(message.id, message.channel), TEXT)


def main() -> None:
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    uvloop.install()
    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    web.run_app(application, host="127.0.0.1", port=PORT, print=None, access_log=None, backlog=4096)


if __name__ == "__main__":
    main()
