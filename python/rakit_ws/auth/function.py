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

    With `rechecks` it is asked again while the client is connected; one that takes what is good
    only once, a ticket for instance, must not be.

    Raises:
        UsageError: it can't be called.

    """

    name = "function"

    def __init__(
        self, function: Callable[[Request], Any], *, reads_cookies: bool, rechecks: bool = False
    ) -> None:
        if not callable(function):
            raise UsageError(f"what authenticates is a function, not {type(function).__name__}")
        self._function = function
        self.reads_cookies = reads_cookies
        self._rechecks = rechecks

    def authenticate(self, request: Request) -> Any:
        """Return what the function returns (see Source)."""
        return self._function(request)

    def recheck(self, request: Request, user: Any) -> Any:
        """Return what the function returns now, or `user` where it is not asked again."""
        return self._function(request) if self._rechecks else user

    async def aclose(self) -> None:
        """Do nothing: whatever the function uses is the application's."""
