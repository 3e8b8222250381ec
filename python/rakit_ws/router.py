"""From a client's message to what it asks for (protocol §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, DecodeError

from rakit_ws import wire
from rakit_ws._core import TEXT, is_deeper
from rakit_ws.codes import ErrorCode
from rakit_ws.permissions import act_when_permitted
from rakit_ws.wire import NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from msgspec import Raw

    from rakit_ws.commands import Commands
    from rakit_ws.hub.channels import Channels
    from rakit_ws.hub.client import Client, Receive
    from rakit_ws.hub.hub import Hub
    from rakit_ws.hub.presence import Presence
    from rakit_ws.permissions import Action, Permissions
    from rakit_ws.tokens import Tokens
    from rakit_ws.wire import Inbound

# Where the first key begins that JSON.stringify has written, and with what that of an event does.
_KEY_AT: Final = 2
_E: Final = ord("e")


class Router:
    """
    Decides what a message is and has it done. The first row of protocol §2 that fits decides.

    What cannot be done is answered with an `error`; nothing that a client sends raises.
    """

    def __init__(
        self,
        hub: Hub,
        channels: Channels,
        presence: Presence,
        commands: Commands,
        tokens: Tokens,
        permissions: Permissions,
        *,
        rejects_plain_text: bool,
    ) -> None:
        self._hub = hub
        self._channels = channels
        self._presence = presence
        self._commands = commands
        self._permissions = permissions
        self._is_open = permissions.are_open
        self._tokens = tokens
        self._rejects_plain_text = rejects_plain_text
        self._limits = hub.limits

    def shortcut(self) -> Receive | None:
        """
        Make what does the most frequent message without a call of ours, and returns True then.

        It does nothing that `route` would not (make bench-guard: route). None: there is none.
        """
        if not self._is_open:
            return None
        limits, publish_from = self._limits, self._hub.publish_from
        decode_message, starts = wire.decode_message, wire.publication_starts

        def publish_quickly(client: Client, opcode: int, payload: bytes) -> bool:
            size = len(payload)
            if (
                # {"event", and no {"message" or {"to": as good a guess as can be had for so little.
                size > _KEY_AT
                and payload[_KEY_AT] == _E
                and opcode == TEXT
                # As many levels need as many bytes: small messages cost a comparison.
                and (size <= limits.max_json_depth or not is_deeper(payload, limits.max_json_depth))
            ):
                try:
                    message = decode_message(payload)
                    publish_from(client, message.channel, message.data, starts)
                    return True
                except (DecodeError, NotUnderstoodError, RecursionError):
                    pass  # another object, or something is wrong with it: that takes its time
            return False

        return publish_quickly

    def route(self, client: Client, opcode: int, payload: bytes) -> Awaitable[None] | None:
        """Have a message done; return what is still to be awaited (an async command)."""
        request_id = b""
        try:
            if opcode != TEXT:
                raise NotUnderstoodError(
                    ErrorCode.UNSUPPORTED_BINARY, "binary messages mean nothing here"
                )
            # As many levels need as many bytes: small messages cost a comparison.
            max_depth = self._limits.max_json_depth
            if len(payload) > max_depth and is_deeper(payload, max_depth):
                self._hub.meet_limit("max_json_depth", client)
                raise wire.bad_request(f"the JSON is nested deeper than {max_depth} levels")
            try:
                inbound = wire.decode_strictly(payload)
            except DecodeError:
                lenient = wire.decode_leniently(payload)
                if lenient is None:
                    self._plain_text(client, payload)
                    return None
                inbound = lenient
            if inbound.id:
                request_id = wire.checked_id(inbound.id)
            return self._route_object(client, inbound, payload, request_id)
        except NotUnderstoodError as refusal:
            self._refuse(client, request_id, refusal)
        except RecursionError:
            self._refuse(client, request_id, wire.bad_request("the JSON is nested too deeply"))
        return None

    def _refuse(self, client: Client, request_id: bytes, refusal: NotUnderstoodError) -> None:
        self._hub.answer_error(client, request_id, refusal.code, refusal.text)

    def _route_object(
        self, client: Client, inbound: Inbound, payload: bytes, request_id: bytes
    ) -> Awaitable[None] | None:
        if inbound.ping:
            if request_id:
                self._hub.send(client, wire.pong(request_id))
        elif inbound.command is not UNSET:
            return self._commands.carry_out(client, inbound, payload, request_id)
        elif inbound.event is not UNSET:
            return self._event(client, inbound, payload, request_id)
        elif inbound.to is not UNSET:
            self._private(client, inbound, request_id)
        elif inbound.message:
            self._broadcast(client, inbound.message, request_id)
        else:
            self._plain_text(client, payload, request_id)
        return None

    def _event(
        self, client: Client, inbound: Inbound, payload: bytes, request_id: bytes
    ) -> Awaitable[None] | None:
        event = inbound.event
        if event == "message":
            channel = wire.text(inbound.channel, "channel")
            # Looked at first: what is no message asks nobody for leave.
            data = wire.payload(inbound.data, "data")
            return self._permitted(
                client,
                "publish",
                channel,
                payload,
                request_id,
                lambda: self._publish(client, channel, data, request_id),
            )
        if event == "subscribe":
            channel = wire.text(inbound.channel, "channel")
            return self._permitted(
                client,
                "subscribe",
                channel,
                payload,
                request_id,
                lambda: self._subscribe(client, channel, request_id),
            )
        if event == "unsubscribe":
            channel = wire.text(inbound.channel, "channel")
            self._channels.unsubscribe(client, channel)
            self._hub.acknowledge(client, request_id, "channel", wire.encode(channel))
        elif event == "members":
            channel = wire.text(inbound.channel, "channel")
            if not request_id:
                raise wire.bad_request("members needs an id, to be answered")
            return self._permitted(
                client,
                "members",
                channel,
                payload,
                request_id,
                lambda: self._members(client, channel, request_id),
            )
        elif event == "auth":
            return self._tokens.present(client, wire.text(inbound.token, "token"), request_id)
        else:
            wire.text(event, "event")
            raise NotUnderstoodError(ErrorCode.UNKNOWN_EVENT, "there is no such event")
        return None

    def _permitted(
        self,
        client: Client,
        action: Action,
        channel: str,
        payload: bytes,
        request_id: bytes,
        act: Callable[[], None],
    ) -> Awaitable[None] | None:
        """Act, now or when an async function has said that the client may."""
        pending = None
        if action == "members" or not self._is_open:
            # Before anybody is asked about it, or keeps it.
            wire.check_channel(channel)
            grant = wire.grant(payload)
            pending = self._permissions.check(client, action, channel, grant)
        if pending is None:
            act()
            return None
        return self._act_later(client, pending, request_id, act)

    async def _act_later(
        self, client: Client, pending: Awaitable[None], request_id: bytes, act: Callable[[], None]
    ) -> None:
        try:
            await act_when_permitted(client, pending, act)
        except NotUnderstoodError as refusal:
            self._refuse(client, request_id, refusal)

    def _publish(self, client: Client, channel: str, data: Raw, request_id: bytes) -> None:
        count = self._hub.publish_from(client, channel, data, wire.publication_starts)
        self._hub.acknowledge(client, request_id, "delivered", b"%d" % count)

    def _subscribe(self, client: Client, channel: str, request_id: bytes) -> None:
        self._channels.subscribe(client, channel)
        self._hub.acknowledge(client, request_id, "channel", wire.encode(channel))

    def _members(self, client: Client, channel: str, request_id: bytes) -> None:
        members = self._channels.members(channel, self._presence.max_users)
        entries = self._presence.entries_of(members)
        count = self._hub.engine.subscriber_count(channel)
        self._hub.send(client, wire.members(request_id, entries, count))

    def _private(self, client: Client, inbound: Inbound, request_id: bytes) -> None:
        receiver = wire.receiver(inbound.to)
        if not isinstance(receiver, str):
            self._permissions.check_user_message(client)
        # Without one the reference tells everyone what was meant for one.
        message = wire.payload(inbound.message, "message")
        private = wire.private(client.id, message)
        sent = self._hub.send_to(receiver, private, client.handle)
        self._hub.acknowledge(client, request_id, "delivered", b"%d" % sent)

    def _broadcast(self, client: Client, message: Raw | bytes, request_id: bytes) -> None:
        count = self._hub.broadcast(wire.message(client.id, message), client.handle)
        self._hub.acknowledge(client, request_id, "delivered", b"%d" % count)

    def _plain_text(self, client: Client, payload: bytes, request_id: bytes = b"") -> None:
        if not payload:
            raise wire.bad_request("the message is empty")
        if self._rejects_plain_text:
            raise wire.bad_request("this is none of the objects that the server knows")
        self._broadcast(client, wire.encode(payload.decode()), request_id)
