"""Presence: everyone is told who is connected, within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rakit_ws.hub.absences import Absences
from rakit_ws.hub.roster import roster

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rakit_ws.clock import Clock, Timer
    from rakit_ws.config import Presence as Settings
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub

# A full list may be sent to so many clients at once that sending alone would stall the loop.
# It goes out in slices, each of what the budget allows for this time.
SLICE_S = 0.05


class Presence:
    """
    Tells every client who is there, whenever that has changed.

    Changes within `interval` share one message. A message costs its length times its
    recipients, and the next one waits until `max_bytes_per_second` has paid for it: a full
    list at each connect is quadratic, and must not be able to stall messages.

    ```text
    Quiet ─change─► Waiting ─interval, budget─► Sending ─all have it─► Quiet, or Waiting again
    ```
    """

    def __init__(self, hub: Hub, settings: Settings, clock: Clock, *, compat: str = "") -> None:
        self._hub = hub
        self._settings = settings
        self._clock = clock
        self._is_stopped = False
        self._compat = compat
        self._roster = roster(settings, compat)
        self._absences = Absences(settings.grace, clock, self._gone)
        self._timer: Timer | None = None
        self._has_changed = False
        self._may_begin_at = 0.0
        self._payload = b""

    def configure(self, settings: Settings) -> None:
        """Go on with other settings; where they show more or less of the users, everyone is told."""
        before, self._settings = self._settings, settings
        self._absences.configure(settings.grace)
        if (settings.fields, settings.group_by) != (before.fields, before.group_by):
            self._absences.clear()
            self._roster = roster(settings, self._compat)
            for client in self._hub.by_id.values():
                self._roster.join(client)
        if settings.enabled and settings != before and len(self._roster):
            self.tell()

    def join(self, client: Client) -> None:
        """Show a client that was accepted; who was away takes its old place."""
        self._roster.join(client)
        came_back_from = self._absences.returned(client)
        if came_back_from is not None:
            self._roster.leave(came_back_from)
        self._changed()

    def update(self, client: Client) -> None:
        """Show a client, who is here, as who it is now."""
        if self._roster.update(client):
            self._changed()

    def leave(self, client: Client) -> None:
        """Show a client no more, or, for some time, as if it were still here (`grace`)."""
        if self._is_stopped or not self._absences.hold(client):
            self._gone(client)

    def _gone(self, client: Client) -> None:
        if self._roster.leave(client):
            self._changed()

    def _changed(self) -> None:
        if self._settings.enabled:
            self.tell()

    def tell(self) -> None:
        """Let a fresh presence go out soon, though nothing has changed."""
        if self._is_stopped:
            return
        self._has_changed = True
        if self._timer is None:
            wait = self._may_begin_at - self._clock.time()
            self._timer = self._clock.call_later(max(self._settings.interval, wait), self._begin)

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._absences.clear()
        self._is_stopped = True

    def message(self) -> bytes:
        """Make the message as it would be sent now: the newest clients, oldest first."""
        return self._roster.message(self._settings.max_users)

    @property
    def max_users(self) -> int:
        """How many users are listed at most."""
        return self._settings.max_users

    def entries_of(self, clients: Iterable[Client]) -> list[bytes]:
        """Return what presence tells of these clients, who are here."""
        return self._roster.of(clients)

    def _begin(self) -> None:
        self._timer = None
        self._has_changed = False
        self._payload = self.message()
        if self._hub.shows_sent:
            # The hooks make one call for each recipient anyway: slices would gain nothing.
            self._finish(self._hub.broadcast(self._payload))
        else:
            self._send_slice(0)

    def _send_slice(self, first: int) -> None:
        self._timer = None
        count, rest = self._hub.engine.broadcast_from(first, self._slice_size(), self._payload)
        if rest is None:
            self._finish(count)
        else:
            self._timer = self._clock.call_later(
                self._cost_s(count), lambda: self._send_slice(rest)
            )

    def _finish(self, count: int) -> None:
        self._may_begin_at = self._clock.time() + self._cost_s(count)
        self._payload = b""
        if self._has_changed:
            self.tell()

    def _slice_size(self) -> int:
        """Tell how many clients may be sent the message at once."""
        budget = self._settings.max_bytes_per_second * SLICE_S
        if not budget:
            return 1 << 32
        return max(1, int(budget / len(self._payload)))

    def _cost_s(self, recipients: int) -> float:
        """Tell for how long the budget pays for the message to so many clients."""
        budget = self._settings.max_bytes_per_second
        return recipients * len(self._payload) / budget if budget else 0.0
