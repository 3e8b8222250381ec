"""What a source of users is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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

    def recheck(self, request: Request, user: Any) -> Awaitable[Any | None] | Any | None:
        """
        Return who `user`, whom `authenticate` named for this handshake, is now.

        Asked every `auth.recheck_interval` while the client is connected, for many clients in one
        turn of the loop. None, a user with another `id`, or one whose `expires_at` has passed: its
        session has ended, and the client is closed with 4001. One that is not equal to `user`
        takes its place. A source that cannot know better returns `user`. May be cancelled.

        Raises:
            SourceDownError: it can't be asked now; the client stays.
            Refused: its session has ended.

        """

    async def aclose(self) -> None:
        """Let go of connections: it is asked no more."""


@runtime_checkable
class TokenSource(Source, Protocol):
    """A source that knows users by tokens, which may also come behind the handshake."""

    def identify(self, token: str) -> Awaitable[Any | None] | Any | None:
        """Return whom a token names, at once or when awaited; None: it is not valid."""
