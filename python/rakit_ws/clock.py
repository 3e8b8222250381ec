"""Time, as much of an event loop as those need who do things later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """The part of an event loop that is needed; tests have one that stands still."""

    def time(self) -> float:
        """Return seconds."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call `callback` after `delay` seconds."""


class Timer(Protocol):
    """What can be called off."""

    def cancel(self) -> None:
        """Do not call."""
