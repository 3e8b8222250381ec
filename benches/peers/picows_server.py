"""
A peer for the benches: picows. `/echo` echoes, every other path speaks the JSON of channels.

Written as its documentation advises for speed: the core API (listeners, no coroutine for a
message), payloads as views, uvloop, and its own transport (aiofastnet), which is its default.
Fragmented messages are not put together, which no load of the benches has.
"""

from __future__ import annotations

import logging

import uvloop
import wire
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

channels: wire.Channels[WSTransport] = wire.Channels()

# Read once: an attribute of an enum class costs more than a global name.
TEXT = WSMsgType.TEXT
BINARY = WSMsgType.BINARY
CLOSE = WSMsgType.CLOSE


class Echo(WSListener):
    """Sends back what it gets."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: D102
        kind = frame.msg_type
        if kind is TEXT or kind is BINARY:
            transport.send(kind, frame.get_payload_as_memoryview())
        elif kind is CLOSE:
            close(transport, frame)


class Hub(WSListener):
    """Routes messages to the subscribers of their channel."""

    def __init__(self) -> None:
        self.client_id = wire.client_id()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: D102
        kind = frame.msg_type
        if kind is TEXT:
            self.receive(transport, wire.decode(frame.get_payload_as_memoryview()))
        elif kind is CLOSE:
            close(transport, frame)

    def receive(self, transport: WSTransport, message: wire.Message) -> None:
        """Do what a message asks for."""
        if message.event == "message":
            publication = wire.publication(message, self.client_id)
            for subscriber in channels.subscribers(message.channel):
                subscriber.send(TEXT, publication)
        elif message.event == "subscribe":
            channels.subscribe(transport, message.channel)
        if message.id:
            transport.send(TEXT, wire.ack(message.id, message.channel))

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: D102
        channels.forget(transport)


def close(transport: WSTransport, frame: WSFrame) -> None:
    transport.send_close(frame.get_close_code(), frame.get_close_message())
    transport.disconnect()


def listener(request: WSUpgradeRequest) -> WSListener:
    return Echo() if request.path == b"/echo" else Hub()


async def main() -> None:
    logging.getLogger("picows").setLevel(logging.CRITICAL)
    server = await ws_create_server(listener, "127.0.0.1", wire.arguments().port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
