"""Look-ups that come together are made together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

MAX_KEYS = 100
"""Keys in one load: few enough for any store's statement, many enough that more gain nothing."""


class Batch(Generic[KeyT, ValueT]):
    """
    Looks up values by key, those of one turn of the loop with one call of `load`.

    While one runs, keys wait and go with the next; one that takes longer than `patience_s` is
    joined by another, until there are `max_loads`. So a store that is busy gets fewer and larger
    loads, and one that hangs holds `max_loads` of them. A load is not cancelled here, since its connection would be left with an answer that nobody has
    read: it must end by itself. Who waits may be cancelled at any time.

    `load` returns what it found; an exception in place of a value is raised for its key alone.
    """

    def __init__(
        self,
        load: Callable[[Sequence[KeyT]], Awaitable[Mapping[KeyT, ValueT | Exception]]],
        *,
        max_loads: int,
        patience_s: float = 0.002,
    ) -> None:
        self._load = load
        self._patience_s = patience_s
        self._last_start_s = 0.0
        self._max_loads = max_loads
        self._waiting: dict[KeyT, list[asyncio.Future[ValueT | None]]] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def get(self, key: KeyT) -> ValueT | None:
        """Return the value of a key, None if there is none; raises what `load` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ValueT | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(future)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._start)
        return await future

    def _start(self) -> None:
        self._is_due = False
        while self._waiting and self._may_load():
            taken = {
                key: futures
                for key in list(islice(self._waiting, MAX_KEYS))
                if (futures := _still_wanted(self._waiting.pop(key)))
            }
            if taken:
                task = asyncio.get_running_loop().create_task(self._run(taken))
                self._loads.add(task)
                self._last_start_s = asyncio.get_running_loop().time()
                task.add_done_callback(self._on_end)

    def _may_load(self) -> bool:
        """Tell whether another load may begin now; where it may later, it will."""
        if not self._loads:
            return True
        if len(self._loads) >= self._max_loads:
            return False
        loop = asyncio.get_running_loop()
        wait_s = self._last_start_s + self._patience_s - loop.time()
        if wait_s > 0 and not self._is_due:
            self._is_due = True
            loop.call_later(wait_s, self._start)
        return wait_s <= 0

    async def _run(self, taken: dict[KeyT, list[asyncio.Future[ValueT | None]]]) -> None:
        try:
            found = await self._load(list(taken))
        except Exception as error:  # whatever it is, it is the answer for those who asked
            found = dict.fromkeys(taken, error)
        except asyncio.CancelledError:
            _cancel(taken.values())
            raise
        for key, futures in taken.items():
            value = found.get(key)
            for future in _still_wanted(futures):
                if isinstance(value, Exception):
                    future.set_exception(value)
                else:
                    future.set_result(value)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        if not task.cancelled():
            self._start()

    async def aclose(self) -> None:
        """Cancel what is under way; who waits is cancelled too."""
        loads, waiting = list(self._loads), list(self._waiting.values())
        self._waiting.clear()
        for task in loads:
            task.cancel()
        _cancel(waiting)
        await asyncio.gather(*loads, return_exceptions=True)


def _cancel(waiting: Iterable[list[asyncio.Future[ValueT | None]]]) -> None:
    for futures in waiting:
        for future in futures:
            future.cancel()


def _still_wanted(
    futures: list[asyncio.Future[ValueT | None]],
) -> list[asyncio.Future[ValueT | None]]:
    return [future for future in futures if not future.done()]
