"""Users who have just left, and may be back in a moment: a page that is loaded anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from rakit_ws.clock import Clock, Timer
    from rakit_ws.hub.client import Client

MAX_ABSENT: Final = 10_000
"""Clients whose end is held back at most; others have left at once."""


class Absences:
    """
    Holds back the ends of users' clients for `grace_s` seconds.

    A client that comes meanwhile takes the place of one that the same user has left: the oldest.
    Guests are nobody who could come back. `on_over` is called for each that did not.
    """

    def __init__(self, grace_s: float, clock: Clock, on_over: Callable[[Client], None]) -> None:
        self._grace_s = grace_s
        self._clock = clock
        self._on_over = on_over
        # When each left, and whose it was then, oldest first; and those of each user, likewise.
        self._absent: dict[Client, tuple[float, str]] = {}
        self._by_user: dict[str, dict[Client, None]] = {}
        self._timer: Timer | None = None

    def hold(self, client: Client) -> bool:
        """Hold a client's end back; False: it has left now."""
        if not self._grace_s or client.user_id is None or len(self._absent) >= MAX_ABSENT:
            return False
        self._absent[client] = self._clock.time(), client.user_id
        self._by_user.setdefault(client.user_id, {})[client] = None
        if self._timer is None:
            self._arm()
        return True

    def returned(self, client: Client) -> Client | None:
        """Return the client that this one is there for again, if any."""
        if client.user_id is None:
            return None
        clients = self._by_user.get(client.user_id)
        if not clients:
            return None
        before = next(iter(clients))
        self._forget(before)
        return before

    def configure(self, grace_s: float) -> None:
        """Hold ends back for so long, those of clients that are away already too."""
        self._grace_s = grace_s
        self._disarm()
        self._end_those_over()

    def clear(self) -> None:
        """Forget all, without a word."""
        self._absent.clear()
        self._by_user.clear()
        self._disarm()

    def _forget(self, client: Client) -> None:
        _, user_id = self._absent.pop(client)
        clients = self._by_user[user_id]
        del clients[client]
        if not clients:
            del self._by_user[user_id]

    def _end_those_over(self) -> None:
        self._timer = None
        now = self._clock.time()
        while self._absent:
            client, (since, _) = next(iter(self._absent.items()))
            if now - since < self._grace_s:
                break
            self._forget(client)
            self._on_over(client)
        self._arm()

    def _arm(self) -> None:
        if self._absent:
            since, _ = next(iter(self._absent.values()))
            wait_s = max(0.0, since + self._grace_s - self._clock.time())
            self._timer = self._clock.call_later(wait_s, self._end_those_over)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
