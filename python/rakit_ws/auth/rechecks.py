"""Who a client is, looked at again while it is connected: logged out means out."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from rakit_ws.auth.chain import is_awaitable
from rakit_ws.codes import CloseCode
from rakit_ws.hub.events import FAULTS, reraise_if_cancelled
from rakit_ws.log import log
from rakit_ws.user import Identified, id_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from rakit_ws._core import Request
    from rakit_ws.clock import Clock, Timer
    from rakit_ws.hub.client import Client
    from rakit_ws.tasks import Tasks

MAX_A_TICK = 25
"""Checks that begin at once: they share a load, and 25 of 0.1 ms each stall nobody."""
MAX_UNDER_WAY = 400
"""Checks that wait for their source; while they do, no others begin."""
DOUBT_S = 1.0
"""So much later an end is looked at again before it is believed."""
MIN_TICK_S = 0.0125
MAX_TICK_S = 1.0


class Rechecks:
    """
    Asks for each client that a source named, once in each interval, who it is now.

    They stand in a queue, and as many leave its head for its end as are due: so they are spread
    evenly over the interval, however many came at once, and those that are due together are
    looked up together. At most `MAX_A_TICK / MIN_TICK_S` begin in a second; with more clients the
    interval stretches. `recheck` is that of a `Chain`.

    That a store has no such session is believed when it is seen twice: PHP may be writing the file,
    and a replica may have just taken over.

    ```text
    Queued ─due─► Checking ─still so, or not known─► Queued
                     └─no session─► Doubted ─a second later─► Checking ─no session─► closed, 4001
    ```
    """

    def __init__(
        self,
        interval_s: float,
        clock: Clock,
        tasks: Tasks,
        *,
        recheck: Callable[[Request, Identified], Awaitable[Any] | Any],
        counts: dict[str, int],
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._recheck = recheck
        self._tasks = tasks
        self._counts = counts
        # Each client with the time of its last check; that of the head is the oldest.
        # A dict would walk over all that have left its head to find the next one.
        self._queue: OrderedDict[Client, float] = OrderedDict()
        self._doubted: OrderedDict[Client, float] = OrderedDict()
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._due = 0.0
        self._ticked_at = 0.0
        self._timer: Timer | None = None

    def add(self, client: Client) -> None:
        """Look at a client from now on, if a source has named it."""
        if client.identified is None or client in self._queue:
            return
        self._queue[client] = self._clock.time()
        if self._timer is None:
            self._due = 0.0
            self._arm()

    def remove(self, client: Client) -> None:
        """Look at a client no more."""
        self._queue.pop(client, None)
        self._doubted.pop(client, None)

    def configure(self, interval_s: float) -> None:
        """Look at each client once in so many seconds; 0: never."""
        self._interval_s = interval_s
        self._disarm()
        self._queue = OrderedDict.fromkeys(self._queue, self._clock.time())
        self._arm()

    def stop(self) -> None:
        """Look at nobody any more; a source that hangs must not hold up the end."""
        self._is_stopped = True
        self._disarm()
        for task in list(self._under_way):
            self._tasks.cancel(task)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._queue and self._interval_s and not self._is_stopped:
            self._ticked_at = self._clock.time()
            each_s = self._interval_s / len(self._queue)
            wait_s = min(max(MAX_A_TICK * each_s, MIN_TICK_S), MAX_TICK_S, self._interval_s)
            self._timer = self._clock.call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.time()
        self._due += len(self._queue) * (now - self._ticked_at) / self._interval_s
        self._due = min(self._due, len(self._queue))
        for _ in range(MAX_A_TICK):
            if len(self._under_way) >= MAX_UNDER_WAY:
                log.limited(logging.WARNING, "rechecks wait", under_way=MAX_UNDER_WAY)
                break
            if not self._begin_one(now):
                break
        self._arm()

    def _begin_one(self, now: float) -> bool:
        """Look at whoever is due first; tell whether anybody is."""
        doubted = next(iter(self._doubted), None)
        if doubted is not None and now - self._doubted[doubted] >= min(DOUBT_S, self._interval_s):
            del self._doubted[doubted]
            self._begin(doubted, now, is_second=True)
            return True
        if not self._is_one_due(now):
            return False
        self._due = max(0.0, self._due - 1)
        self._begin(next(iter(self._queue)), now, is_second=False)
        return True

    def _is_one_due(self, now: float) -> bool:
        if not self._queue:
            return False
        return self._due >= 1 or now - next(iter(self._queue.values())) >= self._interval_s

    def _begin(self, client: Client, now: float, *, is_second: bool) -> None:
        known = client.identified
        if known is None or not _is(client, known):
            # Code has made it somebody else: that is for code to end.
            self.remove(client)
            return
        self._queue.pop(client)
        self._queue[client] = now  # the last one now
        self._counts["user_rechecks"] += 1
        found = self._recheck(client.request, known)
        if is_awaitable(found):
            task = self._tasks.run(self._finish_later(client, known, found, is_second=is_second))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        else:
            self._finish(client, known, found, is_certain=True)

    async def _finish_later(
        self, client: Client, known: Identified, pending: Awaitable[Any], *, is_second: bool
    ) -> None:
        self._finish(client, known, await pending, is_certain=is_second)

    def _finish(self, client: Client, known: Identified, found: Any, *, is_certain: bool) -> None:
        if client not in self._queue or client.identified is not known:
            return  # it has left meanwhile, or has come to be known anew
        if found is None and is_certain:
            self.remove(client)
            self._counts["sessions_ended"] += 1
            client.disconnect(CloseCode.SESSION_ENDED, "the session has ended")
            return
        if found is None:
            # The first doubt counts: a short interval must not put off the second look for ever.
            self._doubted.setdefault(client, self._clock.time())
            return
        try:
            self._renew(client, known, found)
        except FAULTS as error:  # the application's: its users may do anything
            reraise_if_cancelled(error)
            log.limited(logging.ERROR, "user not renewed", error=error, id=client.id)

    def _renew(self, client: Client, known: Identified, found: Any) -> None:
        if found is known.user or found == known.user:
            return
        is_as_named = client.user is known.user  # else a hook has put its own in place
        client.identified = Identified(found, known.source)
        if is_as_named:
            client.user = found


def _is(client: Client, known: Identified) -> bool:
    try:
        return client.user_id == id_of(known.user)
    except FAULTS:  # logged when it came
        return False
