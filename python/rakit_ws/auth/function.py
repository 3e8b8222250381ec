"""The source `function`: a function of the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rakit_ws.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rakit_ws._core import Request


class FunctionSource:
    """
    Asks a function, sync or async: `function(request)` returns a user or None.

    Raises:
        UsageError: it can't be called.

    """

    name = "function"

    def __init__(self, function: Callable[[Request], Any], *, reads_cookies: bool) -> None:
        if not callable(function):
            raise UsageError(f"what authenticates is a function, not {type(function).__name__}")
        self._function = function
        self.reads_cookies = reads_cookies

    def authenticate(self, request: Request) -> Any:
        """Return what the function returns (see Source)."""
        return self._function(request)

    async def aclose(self) -> None:
        """Do nothing: whatever the function uses is the application's."""
