"""
A peer for the benches: uvicorn, with `websockets` as its protocol. The path `/echo` echoes, every
other one speaks the JSON of channels.

Written as its documentation advises for speed: a plain ASGI application without a framework,
uvloop, httptools if it is there, no access log, no compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvicorn
import wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

channels: wire.Channels[Send] = wire.Channels()


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    try:
        await (echo(receive, send) if scope["path"] == "/echo" else hub(receive, send))
    except OSError:  # What ASGI says of a send to who has gone.
        pass
    finally:
        channels.forget(send)


async def echo(receive: Receive, send: Send) -> None:
    """Send back what comes."""
    while (event := await receive())["type"] == "websocket.receive":
        event["type"] = "websocket.send"
        await send(event)


async def hub(receive: Receive, send: Send) -> None:
    """Route messages to the subscribers of their channel."""
    client_id = wire.client_id()
    while (event := await receive())["type"] == "websocket.receive":
        message = wire.decode(event["text"])
        if message.event == "message":
            text = wire.publication(message, client_id).decode()
            publication = {"type": "websocket.send", "text": text}
            for subscriber in tuple(channels.subscribers(message.channel)):
                await subscriber(publication)
        elif message.event == "subscribe":
            channels.subscribe(send, message.channel)
        if message.id:
            text = wire.ack(message.id, message.channel).decode()
            await send({"type": "websocket.send", "text": text})


def main() -> None:
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=wire.arguments().port,
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=16 << 20,
        lifespan="off",
        access_log=False,
        log_level="critical",
        backlog=4096,
    )


if __name__ == "__main__":
    main()
