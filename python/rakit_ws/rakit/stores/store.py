"""What every driver has in common."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from rakit_ws.log import log
from rakit_ws.rakit.batch import Batch
from rakit_ws.rakit.php import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rakit_ws.rakit.session import Record


class Store(Protocol):
    """Where sessions are, out of this process."""

    is_immediate: bool
    """Whether a look-up takes no longer than it would to wait for others to share it with."""

    async def load(self, session_ids: Sequence[str]) -> Mapping[str, Record | Exception]:
        """
        Look up sessions; what is not there is left out. Ends within the store's own time limit.

        Raises:
            SourceDownError: the store can't be asked.

        """

    async def aclose(self) -> None:
        """Let go of connections."""


class Sessions:
    """The sessions of a store, looked up many at a time."""

    def __init__(self, store: Store, *, max_loads: int) -> None:
        self._store = store
        self._batch: Batch[str, Record] = Batch(store.load, max_loads=max_loads)

    async def find(self, session_id: str) -> Record | None:
        """Return a session; None if there is none that can be read."""
        if self._store.is_immediate:
            record = (await self._store.load((session_id,))).get(session_id)
            if isinstance(record, Exception):
                raise record
            return record
        return await self._batch.get(session_id)

    async def aclose(self) -> None:
        """Let go of connections; who waits for a session is cancelled."""
        await self._batch.aclose()
        await self._store.aclose()


def readable(read: Callable[[], Record]) -> Record | None:
    """Return the record that `read` makes; None, with a line in the log, for one that is broken."""
    try:
        return read()
    except MalformedError as fault:
        broken(fault)
        return None


def broken(fault: Exception) -> None:
    """Say that a session can't be read. It is not there then."""
    log.limited(logging.WARNING, "session not readable", reason=str(fault))
