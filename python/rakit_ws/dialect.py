"""What the server says by itself, as its clients are used to: `compat`."""

from __future__ import annotations

from typing import Protocol

from rakit_ws import phpjson, wire
from rakit_ws.errors import UsageError


class Dialect(Protocol):
    """How the server's own voice sounds. What JSON can't hold is a UsageError."""

    id_chars: int
    """Characters of a client's id."""
    answers: bool
    """Whether clients are welcomed, and told what was done and what was not."""

    def broadcast(self, message: object) -> bytes:
        """Make a message to everyone."""

    def private(self, message: object) -> bytes:
        """Make a message to some clients."""

    def publication(self, channel: str, data: object) -> bytes:
        """Make a message to a channel, whose name is sound."""

    def arrival(self, client_id: str) -> bytes | None:
        """Make what everyone is told when a client comes; None: nothing."""

    def departure(self, client_id: str) -> bytes | None:
        """Make what everyone is told when a client goes; None: nothing."""


class Json:
    """The protocol as it is (docs/protocol.md)."""

    id_chars = 16
    answers = True

    def broadcast(self, message: object) -> bytes:
        """Make a message to everyone (see Dialect)."""
        return wire.server_broadcast(wire.encode(message))

    def private(self, message: object) -> bytes:
        """Make a message to some clients (see Dialect)."""
        return wire.server_private(wire.encode(message))

    def publication(self, channel: str, data: object) -> bytes:
        """Make a message to a channel (see Dialect)."""
        return wire.publication(channel, wire.encode(data), b"}")

    def arrival(self, client_id: str) -> None:  # noqa: ARG002 - presence tells
        """Make nothing (see Dialect)."""
        return

    def departure(self, client_id: str) -> None:  # noqa: ARG002 - as above
        """Make nothing (see Dialect)."""
        return


class Php:
    """The bytes of the PHP server (docs/compat.md): bare text, and notices of who comes and goes."""

    id_chars = 8
    answers = False

    def broadcast(self, message: object) -> bytes:
        """Make a message to everyone (see Dialect)."""
        return _bare(message)

    def private(self, message: object) -> bytes:
        """Make a message to some clients (see Dialect)."""
        return _bare(message)

    def publication(self, channel: str, data: object) -> bytes:  # noqa: ARG002 - it is not told
        """Make a message to a channel (see Dialect)."""
        return _bare(data)

    def arrival(self, client_id: str) -> bytes:
        """Make what everyone is told when a client comes (see Dialect)."""
        return b"Client #%b connected" % client_id.encode()

    def departure(self, client_id: str) -> bytes:
        """Make what everyone is told when a client goes (see Dialect)."""
        return b"Client #%b disconnected" % client_id.encode()


def _bare(message: object) -> bytes:
    """Return text as it is, and all else as PHP writes JSON."""
    as_json = wire.encode(message)  # which also sees to it that text is Unicode
    if isinstance(message, str):
        return message.encode()
    try:
        return phpjson.encode(phpjson.decode(as_json.decode()))
    except phpjson.NotJsonError as error:
        raise UsageError(f"PHP's JSON can't hold this {type(message).__name__}: {error}") from None


def dialect(compat: str) -> Dialect:
    """Return the dialect of the option `compat`."""
    return Php() if compat == "php" else Json()
