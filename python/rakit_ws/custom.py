"""Commands of the application: functions that clients call by name, with typed arguments."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from rakit_ws import wire
from rakit_ws.access import ACCESS
from rakit_ws.codes import BUILT_IN_COMMANDS
from rakit_ws.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rakit_ws.hub.client import Client


class Command:
    """
    A command of the application: a function of a client and typed keyword arguments.

    The keys of the client's object are converted to the types of the parameters; one that is
    missing without a default, or does not fit, is a `bad_request` that names it.
    """

    def __init__(self, name: str, handler: Callable[..., Any], access: str | None) -> None:
        if name in BUILT_IN_COMMANDS:
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
