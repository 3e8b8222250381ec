"""What runs beside everything else: the rest of async hooks and commands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Tasks:
    """The tasks of one server; it keeps them alive until they end, and logs their faults."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, awaitable: Awaitable[None]) -> asyncio.Task[None]:
        """Run `awaitable` from the loop's next turn on."""
        task = self._loop.create_task(_guarded(awaitable))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, timeout_s: float) -> None:
        """Wait until those that run now have ended, but no longer than `timeout_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def cancel(self) -> None:
        """Cancel all that still run."""
        for task in self._tasks:
            task.cancel()


async def _guarded(awaitable: Awaitable[None]) -> None:
    try:
        await awaitable
    except Exception as error:  # hooks guard themselves, so it is ours; the others go on
        log.exception("task failed", error=error)
