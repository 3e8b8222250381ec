"""What `send` hooks are told: every delivery, in order, within a bound."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from rakit_ws.hub.client import Client
    from rakit_ws.hub.events import Hooks

# Deliveries that may wait for an async hook: what it can't keep up with must not pile up.
MAX_WAITING = 1024


class Showing:
    """
    Shows deliveries to the `send` hooks of a server.

    While an async one runs, the next deliveries wait for it, all in one queue: hooks see them
    in the order in which they were sent. Of those beyond `MAX_WAITING` they are not told.

    ```text
    Idle ─a hook is async─► Working ─queue empty─► Idle
    ```
    """

    def __init__(self, hooks: Hooks, run_later: Callable[[Awaitable[None]], object]) -> None:
        self._hooks = hooks
        self._run_later = run_later
        self._waiting: deque[tuple[Client, int, bytes]] = deque()
        self._is_calling = False
        self._is_working = False
        self._worker: asyncio.Task[object] | None = None
        self.missed = 0
        """Deliveries that no hook was told of."""

    def show(self, clients: Iterable[Client], opcode: int, payload: bytes) -> None:
        """Tell the hooks of a message for `clients`: one call for each."""
        if self._is_calling or self._is_called_by_a_hook():
            return  # what a `send` hook sends itself, or it would go on for ever
        for client in clients:
            if not self._is_working:
                pending = self._call(client, opcode, payload)
                if pending is not None:
                    self._is_working = True
                    self._run_later(self._work_through(pending))
            elif len(self._waiting) < MAX_WAITING:
                self._waiting.append((client, opcode, payload))
            else:
                self.missed += 1
                log.limited(logging.WARNING, "send hook is too slow", missed=self.missed)

    def _is_called_by_a_hook(self) -> bool:
        return self._worker is not None and asyncio.current_task() is self._worker

    def _call(self, client: Client, opcode: int, payload: bytes) -> Awaitable[None] | None:
        self._is_calling = True
        try:
            return self._hooks.notify("send", client, opcode, payload)
        finally:
            self._is_calling = False

    async def _work_through(self, pending: Awaitable[None]) -> None:
        """Await the call that is under way, then show what was sent meanwhile."""
        self._worker = asyncio.current_task()
        next_call: Awaitable[None] | None = pending
        try:
            while True:
                if next_call is not None:
                    await next_call
                if not self._waiting:
                    return
                next_call = self._call(*self._waiting.popleft())
        finally:
            self._worker = None
            self._is_working = False
            self.missed += len(self._waiting)  # it was cancelled
            self._waiting.clear()
