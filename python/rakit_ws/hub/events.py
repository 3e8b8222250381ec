"""Hooks: the application's functions that are told of what happens."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from rakit_ws.errors import Refused, UsageError
from rakit_ws.log import log

EVENTS = ("start", "connect", "disconnect", "receive", "send", "crash", "stop", "idle")

Hook = Callable[..., Any]
HookT = TypeVar("HookT", bound=Hook)

# What code of the application may raise and others must not suffer for. That the task which a
# hook awaits was cancelled is one of them, though Python makes it no Exception.
FAULTS: Final = (Exception, asyncio.CancelledError)

_BROKEN: Final = Refused(500, "internal error")


class Hooks:
    """
    The hooks of one server, each event's in the order they were added.

    A hook may be sync or async; a sync one costs no task. One that raises is logged with its
    traceback, once a second at most, and the next one is called all the same.
    """

    def __init__(self) -> None:
        self._hooks: dict[str, list[Hook]] = {event: [] for event in EVENTS}
        self.receive = self._hooks["receive"]
        self.send = self._hooks["send"]
        self.idle = self._hooks["idle"]

    def add(self, event: str, hook: HookT) -> HookT:
        """
        Call `hook` at `event` from now on.

        Raises:
            UsageError: no such event, or not callable.

        """
        if event not in self._hooks:
            near = difflib.get_close_matches(event, EVENTS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(EVENTS)}"
            raise UsageError(f"no event is called {event!r}{hint}")
        if not callable(hook):
            raise UsageError(f"a hook must be callable, not {type(hook).__name__}")
        self._hooks[event].append(hook)
        return hook

    def notify(self, event: str, *args: object) -> Awaitable[None] | None:
        """Call every hook of `event`; None when done, else what is still to be awaited."""
        hooks = self._hooks[event]
        for index, hook in enumerate(hooks):
            result = _called(event, hook, args)
            if _is_awaitable(result):
                return self._notify_rest(event, result, hooks[index + 1 :], args)
        return None

    def take(self, *args: object) -> Awaitable[bool] | bool:
        """Offer a message to the `receive` hooks until one takes it; tell whether one did."""
        return self.take_rest(_called("receive", self.receive[0], args), args)

    def take_rest(self, result: Any, args: tuple[object, ...]) -> Awaitable[bool] | bool:
        """Go on as `take` where the first hook has returned `result`."""
        rest = self.receive[1:]
        while not _is_awaitable(result):
            if result:
                return True
            if not rest:
                return False
            result = _called("receive", rest.pop(0), args)
        return self._take_rest(result, rest, args)

    def admit(self, *args: object) -> Awaitable[Refused | None] | Refused | None:
        """
        Ask the `connect` hooks; the first refusal decides, None lets in.

        A hook refuses by returning False or raising `Refused`. One that raises anything else
        refuses too, with 500: who was to guard the door must not be missed unnoticed.
        """
        hooks = self._hooks["connect"]
        for index, hook in enumerate(hooks):
            verdict = _verdict(hook, args)
            if isinstance(verdict, Refused):
                return verdict
            if verdict is not None:
                return self._admit_rest(verdict, hooks[index + 1 :], args)
        return None

    async def _notify_rest(
        self, event: str, pending: Awaitable[object], rest: list[Hook], args: tuple[object, ...]
    ) -> None:
        await _awaited(event, pending)
        for hook in rest:
            result = _called(event, hook, args)
            if _is_awaitable(result):
                await _awaited(event, result)

    async def _take_rest(
        self, pending: Awaitable[object], rest: list[Hook], args: tuple[object, ...]
    ) -> bool:
        if await _awaited("receive", pending):
            return True
        for hook in rest:
            result = _called("receive", hook, args)
            if _is_awaitable(result):
                result = await _awaited("receive", result)
            if result:
                return True
        return False

    async def _admit_rest(
        self, pending: Awaitable[object], rest: list[Hook], args: tuple[object, ...]
    ) -> Refused | None:
        verdict = await _awaited_verdict(pending)
        for hook in rest:
            if verdict is not None:
                break
            answer = _verdict(hook, args)
            if isinstance(answer, Refused) or answer is None:
                verdict = answer
            else:
                verdict = await _awaited_verdict(answer)
        return verdict


def _called(event: str, hook: Hook, args: tuple[object, ...]) -> Any:
    try:
        return hook(*args)
    except FAULTS as error:  # the application's; it must not stop the server
        report(error, event, hook)
        return None


async def _awaited(event: str, pending: Awaitable[Any]) -> Any:
    try:
        return await pending
    except FAULTS as error:  # as above
        reraise_if_cancelled(error)
        report(error, event, pending)
        return None


def _verdict(hook: Hook, args: tuple[object, ...]) -> Awaitable[object] | Refused | None:
    try:
        result = hook(*args)
    except Refused as refused:
        return refused
    except FAULTS as error:  # as above
        report(error, "connect", hook)
        return _BROKEN
    return result if _is_awaitable(result) else _refusal_of(result)


async def _awaited_verdict(pending: Awaitable[object]) -> Refused | None:
    try:
        return _refusal_of(await pending)
    except Refused as refused:
        return refused
    except FAULTS as error:  # as above
        reraise_if_cancelled(error)
        report(error, "connect", pending)
        return _BROKEN


def _refusal_of(result: object) -> Refused | None:
    return Refused() if result is False else None


def reraise_if_cancelled(error: BaseException) -> None:
    """
    Let a cancellation of the task that runs this through; one inside the hook is its fault.

    Before Python 3.11 nothing tells them apart: there it is never taken for the hook's.
    """
    if isinstance(error, asyncio.CancelledError):
        cancelling: Any = getattr(asyncio.current_task(), "cancelling", None)
        if cancelling is None or cancelling() > 0:
            raise error


def _is_awaitable(result: object) -> bool:
    # Cheaper than inspect.isawaitable, and None is by far the most frequent.
    return result is not None and hasattr(type(result), "__await__")


def report(error: BaseException, event: str, hook: object) -> None:
    """Log a fault of a hook, or of the coroutine that it returned. A peer may cause many."""
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    source = f"{event} {name}"
    log.limited(logging.ERROR, "hook failed", source=source, error=error, event=event, hook=name)
