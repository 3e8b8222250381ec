"""Presence: everyone is told who is connected, within a budget."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from rakit_ws import wire
from rakit_ws.hub.client import GUEST
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rakit_ws.config import Presence as Settings
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub

# A full list may be sent to so many clients at once that sending alone would stall the loop.
# It goes out in slices, each of what the budget allows for this time.
SLICE_S = 0.05


class Clock(Protocol):
    """The part of an event loop that presence needs; tests have one that stands still."""

    def time(self) -> float:
        """Return seconds."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call `callback` after `delay` seconds."""


class Timer(Protocol):
    """What can be called off."""

    def cancel(self) -> None:
        """Do not call."""


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

    def __init__(self, hub: Hub, settings: Settings, clock: Clock) -> None:
        self._hub = hub
        self._settings = settings
        self._clock = clock
        self._is_stopped = False
        self._entries: dict[str, bytes] = {}
        self._timer: Timer | None = None
        self._has_changed = False
        self._may_begin_at = 0.0
        self._payload = b""

    def configure(self, settings: Settings) -> None:
        """Go on with other settings; where they show more or less of the users, everyone is told."""
        before, self._settings = self._settings, settings
        if settings.fields != before.fields:
            clients = self._hub.by_id.values()
            self._entries = {client.id: self._entry_of(client) for client in clients}
        if settings.enabled and settings != before and self._entries:
            self.tell()

    def join(self, client: Client) -> None:
        """Show a client that was accepted."""
        self._entries[client.id] = self._entry_of(client)
        self._changed()

    def update(self, client: Client) -> None:
        """Show a client, who is here, as who it is now."""
        entry = self._entry_of(client)
        if self._entries.get(client.id) != entry:
            self._entries[client.id] = entry
            self._changed()

    def leave(self, client: Client) -> None:
        """Show a client no more."""
        if self._entries.pop(client.id, None) is not None:
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
        self._is_stopped = True

    def message(self) -> bytes:
        """Make the message as it would be sent now: the newest clients, oldest first."""
        newest = list(islice(reversed(self._entries.values()), self._settings.max_users))
        return wire.presence(reversed(newest), len(self._entries))

    @property
    def max_users(self) -> int:
        """How many users are listed at most."""
        return self._settings.max_users

    def entries_of(self, clients: Iterable[Client]) -> list[bytes]:
        """Return what presence tells of these clients, who are here."""
        return [self._entries[client.id] for client in clients]

    def _entry_of(self, client: Client) -> bytes:
        """Encode a client's entry; a user whom JSON can't hold is shown as a guest."""
        fields = self._settings.fields
        try:
            shown = _shown(client, fields)
            return wire.presence_entry(client.id, shown, client.connected_at)
        except Exception as error:  # the application's: its users' attributes may do anything
            log.limited(logging.ERROR, "user not shown", error=error, id=client.id)
        guest = {field: GUEST if field == "name" else None for field in fields}
        return wire.presence_entry(client.id, guest, client.connected_at)

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


def _shown(client: Client, fields: tuple[str, ...]) -> dict[str, object]:
    """Return what presence tells of a client's user; a guest has only a name."""
    shown = {field: getattr(client.user, field, None) for field in fields}
    if "name" in shown:
        shown["name"] = client.name
    return shown
