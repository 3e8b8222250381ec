"""The JSON of channels, as far as the benches need it: what the Python peers have in common."""

from __future__ import annotations

import argparse
import secrets
import string
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import msgspec

Connection = TypeVar("Connection")

ALPHABET = string.ascii_letters + string.digits


class Message(msgspec.Struct):
    """What a client sends; `data` and `id` stay the JSON that they were, or empty."""

    event: str
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw = msgspec.Raw(b"")


decode = msgspec.json.Decoder(Message).decode


class Channels(Generic[Connection]):
    """Who hears which channel."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[Connection]] = {}
        self._channels: dict[Connection, list[str]] = {}

    def subscribe(self, connection: Connection, channel: str) -> None:
        """Let a connection hear a channel."""
        self._subscribers.setdefault(channel, set()).add(connection)
        self._channels.setdefault(connection, []).append(channel)

    def subscribers(self, channel: str) -> set[Connection]:
        """Return who hears a channel."""
        return self._subscribers.get(channel, set())

    def forget(self, connection: Connection) -> None:
        """Take a connection out of its channels."""
        for channel in self._channels.pop(connection, ()):
            self._subscribers[channel].discard(connection)


@lru_cache(maxsize=65536)
def quoted(channel: str) -> bytes:
    """Return a channel's name as JSON."""
    return msgspec.json.encode(channel)


def client_id() -> bytes:
    """Make 16 characters of [A-Za-z0-9]."""
    return "".join(secrets.choice(ALPHABET) for _ in range(16)).encode()


def publication(message: Message, client: bytes) -> bytes:
    """Splice `data` into what the subscribers get, without looking into it."""
    return b'{"type":"channel","channel":%b,"data":%b,"client_id":"%b"}' % (
        quoted(message.channel),
        message.data,
        client,
    )


def ack(request: msgspec.Raw, channel: str) -> bytes:
    """Answer the message that had `request` as its `id`."""
    return b'{"type":"ack","id":%b,"channel":%b}' % (request, quoted(channel))


class Arguments(NamedTuple):
    """The command line of a peer: where to listen, and whether to compress."""

    port: int
    deflate: bool


def arguments() -> Arguments:
    """Read `--port P [--deflate]` from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--deflate", action="store_true", help="without context takeover")
    given = parser.parse_args()
    return Arguments(given.port, given.deflate)
