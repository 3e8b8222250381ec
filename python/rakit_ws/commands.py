"""Commands: `{"command":…}` objects, the five of the framework and the application's own."""

from __future__ import annotations

import hmac
import inspect
import logging
import sys
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from rakit_ws import wire
from rakit_ws.codes import CloseCode, ErrorCode
from rakit_ws.errors import UsageError
from rakit_ws.hub.events import FAULTS, reraise_if_cancelled
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rakit_ws.config import Config
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub
    from rakit_ws.hub.presence import Presence
    from rakit_ws.wire import Inbound

ACCESS = ("everyone", "operators", "nobody")

BUILT_IN = ("broadcast", "disconnect", "presence", "broadcast_to_channel", "private_message")


class Access:
    """Who may give commands (`command_access`)."""

    def __init__(self, config: Config, *, is_loopback_only: bool) -> None:
        self._token = config.operator_token.encode()
        self._operators = frozenset(config.operators)
        self.mode: str = config.command_access
        if self.mode == "auto":
            self.mode = "local" if is_loopback_only else "operators"

    def describe(self) -> str:
        """Say for the log who may."""
        if self.mode == "local":
            return "programs and pages of this machine, and operators"
        return self.mode

    def permits_at_connect(self, *, is_local: bool) -> bool:
        """Tell whether a client may give commands whoever it is."""
        return self.mode == "everyone" or (self.mode == "local" and is_local)

    def permits(self, client: Client, special: str | None = None) -> bool:
        """Tell whether `client` may give a command; `special` is the command's own access."""
        mode = special or self.mode
        if mode in ("everyone", "nobody"):
            return mode == "everyone"
        if special is None and client.may_command:
            return True
        return client.is_operator or self._lists(client)

    def _lists(self, client: Client) -> bool:
        """Tell whether the client's user is one of `operators`, by id or e-mail address."""
        if client.user is None:
            return False
        names = (str(getattr(client.user, "id", "")), client.email)
        return not self._operators.isdisjoint(names)

    def is_token(self, token: str) -> bool:
        """Tell, in constant time, whether this is the operator token. There may be none."""
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an `Authorization: Bearer …` header (RFC 6750 §2.1), "" if none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Command:
    """
    A command of the application: a function of a client and typed keyword arguments.

    The keys of the client's object are converted to the types of the parameters; one that is
    missing without a default, or does not fit, is a `bad_request` that names it.
    """

    def __init__(self, name: str, handler: Callable[..., Any], access: str | None) -> None:
        if name in BUILT_IN:
            raise UsageError(f"{name!r} is a command of the protocol and cannot be replaced")
        if access is not None and access not in ACCESS:
            raise UsageError(f"access must be one of {', '.join(ACCESS)}, not {access!r}")
        self.name = name
        self.access = access
        self._handler = handler
        self._arguments = msgspec.json.Decoder(_arguments_of(name, handler))

    def call(self, client: Client, payload: bytes) -> Any:
        """
        Call the handler with the arguments that `payload` holds; return what it returns.

        Raises:
            NotUnderstoodError: an argument that is missing or of the wrong type.

        """
        try:
            arguments = self._arguments.decode(payload)
        except msgspec.DecodeError as error:
            raise wire.bad_request(str(error)) from None
        return self._handler(client, **msgspec.structs.asdict(arguments))


def _arguments_of(name: str, handler: Callable[..., Any]) -> type[msgspec.Struct]:
    """Make a struct of the parameters behind the first one, which is the client."""
    if not callable(handler):
        raise UsageError(f"the handler of command {name!r} is not callable")
    fields: list[Any] = []
    parameters = list(_signature(handler).parameters.values())
    if not parameters:
        raise UsageError(f"the handler of command {name!r} must take the client first")
    del parameters[0]
    hints = _types_of(name, handler, parameters)
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise UsageError(f"command {name!r}: {parameter} cannot be given by name")
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        kind = hints.get(parameter.name, Any)
        has_default = parameter.default is not parameter.empty
        fields.append(
            (parameter.name, kind, parameter.default) if has_default else (parameter.name, kind)
        )
    try:
        return msgspec.defstruct("Arguments", fields, kw_only=True)
    except TypeError as error:  # a default that could be changed, a type without JSON
        raise UsageError(f"command {name!r}: {error}") from None


def _signature(handler: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, whether or not every annotation has a value yet (PEP 649)."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(handler, annotation_format=Format.FORWARDREF)
    return inspect.signature(handler)


def _types_of(
    name: str, handler: Callable[..., Any], parameters: list[inspect.Parameter]
) -> dict[str, Any]:
    """Resolve the types of these parameters alone: the client's may be there for checkers only."""
    annotations = {
        parameter.name: parameter.annotation
        for parameter in parameters
        if parameter.annotation is not parameter.empty
    }
    holder = type(name, (), {"__annotations__": annotations})
    function = inspect.unwrap(handler)
    try:
        return get_type_hints(holder, getattr(function, "__globals__", None), include_extras=True)
    except NameError as error:
        raise UsageError(f"command {name!r}: a parameter's type is unknown: {error}") from None


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
        self._built_in: dict[str, Callable[[Inbound], int]] = {
            "broadcast": self._broadcast,
            "disconnect": self._disconnect,
            "presence": self._tell_presence,
            "broadcast_to_channel": self._broadcast_to_channel,
            "private_message": self._private_message,
        }

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
            delivered = built_in(inbound)
            if request_id:
                self._hub.send(client, wire.ack(request_id, "delivered", b"%d" % delivered))
        elif custom is not None:
            return self._carry_out_custom(custom, client, payload, request_id)
        return None

    def authenticate(self, client: Client, token: str) -> None:
        """
        Make `client` an operator if this is the operator token.

        Raises:
            NotUnderstoodError: forbidden.

        """
        if not self._access.is_token(token):
            log.limited(logging.WARNING, "operator token refused", id=client.id)
            raise wire.NotUnderstoodError(ErrorCode.FORBIDDEN, "this token is not valid")
        client.is_operator = True
        log.info("operator authenticated", id=client.id)

    # --- the five of the framework ------------------------------------------------------------

    def _broadcast(self, inbound: Inbound) -> int:
        return self._hub.broadcast(wire.server_broadcast(wire.payload(inbound.message, "message")))

    def _disconnect(self, inbound: Inbound) -> int:
        target = self._client(inbound.client_id, "client_id")
        target.disconnect(CloseCode.DISCONNECTED, "disconnected by command")
        return 1

    def _tell_presence(self, _inbound: Inbound) -> int:
        self._presence.tell()
        return len(self._hub.by_handle)

    def _broadcast_to_channel(self, inbound: Inbound) -> int:
        channel = wire.text(inbound.channel, "channel")
        message = wire.payload(inbound.message, "message")
        return self._hub.publish(channel, wire.publication(channel, message, b"}"))

    def _private_message(self, inbound: Inbound) -> int:
        message = wire.payload(inbound.message, "message")
        target = self._client(inbound.to, "to")
        return int(self._hub.send(target, wire.server_private(message)))

    def _client(self, client_id: str | msgspec.UnsetType | None, key: str) -> Client:
        client = self._hub.by_id.get(wire.text(client_id, key))
        if client is None:
            raise wire.NotUnderstoodError(ErrorCode.UNKNOWN_CLIENT, "there is no such client")
        return client

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
