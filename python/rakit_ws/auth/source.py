"""What a source of users is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from rakit_ws._core import Request


class Source(Protocol):
    """Somebody who may know the user of a handshake."""

    name: str
    """As in `auth.sources`."""
    reads_cookies: bool
    """
    Whether what it knows may come from a cookie, which browsers send along for any page.

    Such a user is let in for the pages of allowed origins only.
    """

    def authenticate(self, request: Request) -> Awaitable[Any | None] | Any | None:
        """
        Return the user, at once or when awaited; None: not known here.

        A user is an object with the attributes `id`, `name` and `email`. May be cancelled
        while it waits.

        Raises:
            SourceDownError: it can't be asked now.
            Refused: this handshake is not to be accepted, whatever other sources say.

        """

    async def aclose(self) -> None:
        """Let go of connections: it is asked no more."""
