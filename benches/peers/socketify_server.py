"""
A peer for the benches: socketify, uWebSockets in Python. `/echo` echoes, every other path speaks
the JSON of channels.

Written as its documentation advises for speed: topics and `publish()` of uWebSockets itself,
messages as `bytes` where they are not needed as text, no compression.
"""

from __future__ import annotations

from typing import Any

import wire
from socketify import App, OpCode

MAX_MESSAGE_BYTES = 16 << 20
NEVER = 0

app = App()


def upgrade(response: Any, request: Any, context: Any) -> None:
    response.upgrade(
        request.get_header("sec-websocket-key"),
        request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"),
        context,
        wire.client_id(),
    )


def echo(socket: Any, message: str | bytes, opcode: OpCode) -> None:
    socket.send(message, opcode)


def receive(socket: Any, text: str, opcode: OpCode) -> None:
    """Do what a message asks for."""
    del opcode
    message = wire.decode(text)
    if message.event == "message":
        publication = wire.publication(message, socket.get_user_data())
        app.publish(message.channel, publication, OpCode.TEXT)
    elif message.event == "subscribe":
        socket.subscribe(message.channel)
    if message.id:
        socket.send(wire.ack(message.id, message.channel), OpCode.TEXT)


def main() -> None:
    limits = {
        "max_payload_length": MAX_MESSAGE_BYTES,
        "max_backpressure": MAX_MESSAGE_BYTES,
        "idle_timeout": NEVER,
    }
    app.ws("/echo", {**limits, "message": echo})
    app.ws("/*", {**limits, "upgrade": upgrade, "message": receive})
    app.listen({"port": wire.arguments().port, "host": "127.0.0.1"}, lambda _: None)
    app.run()


if __name__ == "__main__":
    main()
