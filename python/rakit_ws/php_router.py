"""From a client's message to what it asks for, as the PHP server decides: `compat = "php"`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from rakit_ws import phpjson, wire
from rakit_ws._core import TEXT, is_deeper
from rakit_ws.codes import CloseCode
from rakit_ws.log import log
from rakit_ws.permissions import act_when_permitted
from rakit_ws.wire import NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rakit_ws.access import Access
    from rakit_ws.commands import Commands
    from rakit_ws.hub.channels import Channels
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub
    from rakit_ws.hub.presence import Presence
    from rakit_ws.permissions import Action, Permissions
    from rakit_ws.tokens import Tokens

    Members = dict[str, Any]

# What a command needs beside its name.
_KEYS = {
    "broadcast": ("message",),
    "disconnect": ("client_id",),
    "presence": (),
    "broadcast_to_channel": ("channel", "message"),
    "private_message": ("to", "message"),
}


class PhpRouter:
    """
    Decides what a message is, in the order of the PHP server (docs/compat.md).

    Nothing is ever answered: what can't be done is ignored, counted and logged. What was meant for
    one client or channel is never told to everyone, as it was there. `counts` outlives a reload.
    """

    def __init__(
        self,
        hub: Hub,
        channels: Channels,
        presence: Presence,
        commands: Commands,
        tokens: Tokens,
        permissions: Permissions,
        access: Access,
        *,
        counts: dict[str, int],
    ) -> None:
        self._hub = hub
        self._channels = channels
        self._presence = presence
        self._commands = commands
        self._tokens = tokens
        self._permissions = permissions
        self._access = access
        self._counts = counts
        self._max_depth = min(phpjson.MAX_DEPTH, hub.limits.max_json_depth)

    def shortcut(self) -> None:
        """Return None: nothing is quicker here."""

    def route(self, client: Client, opcode: int, payload: bytes) -> Awaitable[None] | None:
        """Have a message done; return what is still to be awaited."""
        if opcode != TEXT:
            self._ignore(client, "binary")
            return None
        text = payload.decode().strip(phpjson.BLANKS)
        try:
            members = self._members(payload, text)
            if members is None:
                self._broadcast(client, text)
                return None
            return self._route_object(client, members, text, payload)
        except NotUnderstoodError as refusal:
            self._ignore(client, refusal.code.value)
        return None

    def _members(self, payload: bytes, text: str) -> Members | None:
        """
        Return what stands in an object; None for what is text to PHP, and may be told to everyone.

        Raises:
            NotUnderstoodError: an object that PHP can't read, and that may be meant for some alone.

        """
        if not text.startswith("{"):
            return None
        if len(payload) > self._max_depth and is_deeper(payload, self._max_depth):
            raise wire.bad_request("PHP reads no JSON that is nested so deeply")
        try:
            value = phpjson.decode(text)
        except phpjson.NotJsonError:
            if _is_for_some(text):
                raise wire.bad_request("PHP reads no half of a character") from None
            return None
        return value if isinstance(value, dict) else None

    def _route_object(
        self, client: Client, members: Members, text: str, payload: bytes
    ) -> Awaitable[None] | None:
        if members.get("ping") is not None:
            return None
        name = members.get("command")
        if isinstance(name, str):
            if name in _KEYS and all(members.get(key) is not None for key in _KEYS[name]):
                self._command(client, name, members, text)
                return None
            if self._commands.knows(name) and name not in _KEYS:
                return self._commands.carry_out(client, wire.Inbound(command=name), payload, b"")
        if members.get("event") is not None:
            return self._event(client, members)
        if "to" in members:
            self._private(client, members)
        else:
            self._broadcast(client, text)
        return None

    def _ignore(self, client: Client, why: str) -> None:
        self._counts["messages_ignored"] += 1
        log.limited(logging.INFO, "message ignored", source=why, why=why, id=client.id)

    # --- commands -----------------------------------------------------------------------------

    def _command(self, client: Client, name: str, members: Members, text: str) -> None:
        if not self._access.permits(client):
            self._ignore(client, "forbidden")
            return
        message = phpjson.as_text(members.get("message"))
        if name == "presence":
            self._presence.tell()
        elif name == "disconnect":
            self._disconnect(client, members["client_id"])
        elif name == "broadcast" and message is None:
            self._broadcast(client, text)
        elif message is None:
            # There a message to some, which was no text, was told to everyone.
            self._ignore(client, "bad_request")
        elif name == "broadcast":
            self._hub.broadcast(message.encode(), client.handle)
        elif name == "broadcast_to_channel":
            self._publish_bare(client, members["channel"], message)
        else:
            self._send(client, members["to"], message.encode())

    def _disconnect(self, client: Client, client_id: object) -> None:
        target = self._hub.by_id.get(client_id) if isinstance(client_id, str) else None
        if target is None:
            self._ignore(client, "unknown_client")
        else:
            target.disconnect(CloseCode.DISCONNECTED, "disconnected by command")

    def _publish_bare(self, client: Client, channel: object, message: str) -> None:
        if isinstance(channel, str) and wire.is_channel(channel):
            self._hub.publish(channel, message.encode(), client.handle)
        else:
            self._ignore(client, "bad_request")

    def _send(self, client: Client, receiver_id: object, payload: bytes) -> None:
        receiver = self._hub.by_id.get(receiver_id) if isinstance(receiver_id, str) else None
        if receiver is None:
            self._ignore(client, "unknown_client")
        else:
            self._hub.send(receiver, payload, sender=client.handle)

    # --- events -------------------------------------------------------------------------------

    def _event(self, client: Client, members: Members) -> Awaitable[None] | None:
        event, channel = members["event"], members.get("channel")
        if event == "auth" and isinstance(token := members.get("token"), str):
            return self._tokens.present(client, token, b"")
        if event not in ("subscribe", "message") or not isinstance(channel, str):
            self._ignore(client, "bad_request")
            return None
        wire.check_channel(channel)
        if event == "subscribe":
            return self._permitted(
                client, "subscribe", members, lambda: self._channels.subscribe(client, channel)
            )
        data = members.get("data")
        if data is None:
            self._ignore(client, "bad_request")
            return None
        publication = self._publication(client, channel, data)
        return self._permitted(
            client,
            "publish",
            members,
            lambda: self._hub.publish(channel, publication, client.handle),
        )

    def _publication(self, client: Client, channel: str, data: object) -> bytes:
        try:
            encoded = phpjson.encode(data)
        except phpjson.NotJsonError:
            raise wire.bad_request("PHP can't write this") from None
        name = phpjson.encode_text(channel)
        return b'{"channel":%b,"data":%b,"client_id":"%b"}' % (name, encoded, client.id.encode())

    def _permitted(
        self, client: Client, action: Action, members: Members, act: Callable[[], object]
    ) -> Awaitable[None] | None:
        """Act, now or when an async function has said that the client may."""
        grant = members.get("grant", UNSET)
        pending = self._permissions.check(
            client, action, members["channel"], grant if isinstance(grant, str) else UNSET
        )
        if pending is None:
            act()
            return None
        return self._act_later(client, pending, act)

    async def _act_later(
        self, client: Client, pending: Awaitable[None], act: Callable[[], object]
    ) -> None:
        try:
            await act_when_permitted(client, pending, act)
        except NotUnderstoodError as refusal:
            self._ignore(client, refusal.code.value)

    # --- messages -----------------------------------------------------------------------------

    def _private(self, client: Client, members: Members) -> None:
        message = phpjson.as_text(members.get("message"))
        if message is None or members["to"] is None:
            # There it was told to everyone, though it was meant for one.
            self._ignore(client, "bad_request")
            return
        self._send(client, members["to"], self._from(client, message.strip(phpjson.BLANKS)))

    def _broadcast(self, client: Client, text: str) -> None:
        self._hub.broadcast(self._from(client, text), client.handle)

    def _from(self, client: Client, text: str) -> bytes:
        return b'{"client_id":"%b","message":%b}' % (
            client.id.encode(),
            phpjson.encode_text(text),
        )


def _is_for_some(text: str) -> bool:
    """Tell whether what PHP can't read is an object for one client or channel, or a command."""
    inbound = wire.decode_leniently(text.encode())
    if inbound is None:
        return False
    return any(key is not UNSET for key in (inbound.to, inbound.event, inbound.command))


def new_counts() -> dict[str, int]:
    """Make the totals of a server (`docs/counters.md`)."""
    return {"messages_ignored": 0}
