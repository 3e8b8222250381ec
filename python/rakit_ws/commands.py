"""Commands: `{"command":…}` objects, the five of the framework and the application's own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rakit_ws import wire
from rakit_ws.codes import CloseCode, ErrorCode
from rakit_ws.hub.events import FAULTS, reraise_if_cancelled
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rakit_ws.access import Access
    from rakit_ws.custom import Command
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub
    from rakit_ws.hub.presence import Presence
    from rakit_ws.wire import Inbound


class Commands:
    """Carries out the commands of clients and answers them."""

    def __init__(
        self,
        hub: Hub,
        presence: Presence,
        access: Access,
        custom: dict[str, Command],
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._access = access
        self._custom = custom
        self._built_in: dict[str, Callable[[Client, Inbound], int]] = {
            "broadcast": self._broadcast,
            "disconnect": self._disconnect,
            "presence": self._tell_presence,
            "broadcast_to_channel": self._broadcast_to_channel,
            "private_message": self._private_message,
        }

    def knows(self, name: str) -> bool:
        """Tell whether the application has added a command of this name."""
        return name in self._custom

    def carry_out(
        self, client: Client, inbound: Inbound, payload: bytes, request_id: bytes
    ) -> Awaitable[None] | None:
        """
        Carry out a command; acknowledge it if it has an id.

        Returns what is still to be awaited: an async command of the application.

        Raises:
            NotUnderstoodError: unknown_command, forbidden, bad_request, unknown_client.

        """
        name = wire.text(inbound.command, "command")
        built_in = self._built_in.get(name)
        custom = self._custom.get(name)
        if built_in is None and custom is None:
            raise wire.NotUnderstoodError(ErrorCode.UNKNOWN_COMMAND, "there is no such command")
        if not self._access.permits(client, custom.access if custom else None):
            raise wire.NotUnderstoodError(ErrorCode.FORBIDDEN, "you may not give this command")
        if built_in is not None:
            delivered = built_in(client, inbound)
            self._hub.acknowledge(client, request_id, "delivered", b"%d" % delivered)
        elif custom is not None:
            return self._carry_out_custom(custom, client, payload, request_id)
        return None

    # --- the five of the framework ------------------------------------------------------------

    def _broadcast(self, client: Client, inbound: Inbound) -> int:
        message = wire.payload(inbound.message, "message")
        return self._hub.broadcast(wire.server_broadcast(message), client.handle)

    def _disconnect(self, _client: Client, inbound: Inbound) -> int:
        target = self._hub.named(wire.text(inbound.client_id, "client_id"))
        target.disconnect(CloseCode.DISCONNECTED, "disconnected by command")
        return 1

    def _tell_presence(self, _client: Client, _inbound: Inbound) -> int:
        self._presence.tell()
        return len(self._hub.by_handle)

    def _broadcast_to_channel(self, client: Client, inbound: Inbound) -> int:
        channel = wire.text(inbound.channel, "channel")
        message = wire.payload(inbound.message, "message")
        return self._hub.publish(channel, wire.publication(channel, message, b"}"), client.handle)

    def _private_message(self, client: Client, inbound: Inbound) -> int:
        message = wire.payload(inbound.message, "message")
        private = wire.server_private(message)
        return self._hub.send_to(wire.receiver(inbound.to), private, client.handle)

    # --- the application's own ----------------------------------------------------------------

    def _carry_out_custom(
        self, command: Command, client: Client, payload: bytes, request_id: bytes
    ) -> Awaitable[None] | None:
        try:
            result = command.call(client, payload)
            if hasattr(result, "__await__"):
                return self._finish(command, client, result, request_id)
            self._answer(client, result, request_id)
        except wire.NotUnderstoodError:
            raise
        except FAULTS as error:  # the application's; it must not stop the server
            self._report(command, client, error, request_id)
        return None

    async def _finish(
        self, command: Command, client: Client, pending: Awaitable[object], request_id: bytes
    ) -> None:
        try:
            self._answer(client, await pending, request_id)
        except FAULTS as error:  # as above
            reraise_if_cancelled(error)
            self._report(command, client, error, request_id)

    def _answer(self, client: Client, result: object, request_id: bytes) -> None:
        if request_id:
            self._hub.send(client, wire.ack(request_id, "result", wire.encode(result)))

    def _report(
        self, command: Command, client: Client, error: BaseException, request_id: bytes
    ) -> None:
        name = command.name
        log.limited(
            logging.ERROR, "command failed", source=name, error=error, command=name, id=client.id
        )
        self._hub.answer_error(client, request_id, ErrorCode.INTERNAL, "the command failed")
