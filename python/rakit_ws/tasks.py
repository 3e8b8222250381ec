"""What runs beside everything else: the rest of async hooks and commands."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

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
        task = asyncio.ensure_future(awaitable, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._on_end)
        return task

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel one, behind its first step: before it, what it awaits would never be awaited."""
        coroutine: Any = task.get_coro()
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            self._loop.call_soon(task.cancel)
        else:
            task.cancel()

    async def finish(self, timeout_s: float) -> None:
        """Wait until those that run now have ended, but no longer than `timeout_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def cancel_all(self) -> None:
        """Cancel all that still run."""
        for task in list(self._tasks):
            self.cancel(task)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # Hooks guard themselves, so it is ours; those that end the process pass through the loop.
        if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            log.limited(logging.ERROR, "task failed", error=error)
