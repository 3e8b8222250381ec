"""Log lines written by a thread: what does not take them holds up nobody."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Lines that may wait: about 2 MB. More are dropped and counted.
MAX_WAITING = 10_000

# Lines that are written at once.
MAX_BATCH = 500

# The end of the process, or another configuration, waits so long for what is not written yet.
FLUSH_TIMEOUT_S = 1.0


class Background(logging.Handler):
    """
    Formats records at once, and has them written by a thread of its own.

    A pipe that nobody reads, or a disk that hangs, blocks that thread and no event loop.

    `write` takes whole lines; where it raises OSError they are lost, and counted as dropped.
    `dropped` makes the record that tells how many were.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        close: Callable[[], None],
        dropped: Callable[[int], logging.LogRecord],
    ) -> None:
        super().__init__()
        self._write = write
        self._close_target = close
        self._dropped_record = dropped
        # Each is changed by one thread alone: what found no room, what could not be written, and
        # how many of both the log has told of.
        self._refused = 0
        self._failed = 0
        self._told = 0
        self._is_closed = False
        # Putting something there never blocks, and may be done anywhere: in a signal handler too.
        self._queue: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rakit_ws log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Leave a line to the thread, or drop it if too many wait."""
        if self._queue.qsize() >= MAX_WAITING:
            self._refused += 1
            return
        try:
            self._queue.put(self.format(record))
        except Exception:  # as every handler of the standard library
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all that is there now is written, but not for ever."""
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait(FLUSH_TIMEOUT_S)

    def close(self) -> None:
        """Write what is there, within a second, and end."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
            self._thread.join(FLUSH_TIMEOUT_S)
        super().close()

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            lines: list[str] = []
            reached: list[threading.Event] = []
            for item in self._batch():
                if isinstance(item, str):
                    lines.append(item)
                elif item is None:
                    goes_on = False
                else:
                    reached.append(item)
            self._write_all(lines)
            for event in reached:
                event.set()
        with contextlib.suppress(OSError):  # there is nobody to tell any more
            self._close_target()

    def _batch(self) -> list[str | threading.Event | None]:
        batch = [self._queue.get()]
        with contextlib.suppress(Empty):
            while len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
        return batch

    def _write_all(self, lines: list[str]) -> None:
        # What is dropped from here on is told of by the next batch.
        dropped = self._refused + self._failed - self._told
        count = len(lines)
        if dropped:
            lines.append(self.format(self._dropped_record(dropped)))
        if not lines:
            return
        try:
            self._write("\n".join(lines))
        except OSError:
            self._failed += count
        else:
            self._told += dropped


def writer_to(descriptor: int, encoding: str) -> Callable[[str], None]:
    """
    Return what writes lines to a descriptor, past Python's own buffers.

    Those have a lock, which a thread that hangs would still hold when the process ends.
    """

    def write(lines: str) -> None:
        rest = memoryview(f"{lines}\n".encode(encoding, "backslashreplace"))
        while rest:
            rest = rest[_write(descriptor, rest) :]

    return write


def _write(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:  # somebody has made it non-blocking
        select.select([], [descriptor], [])
        return 0
