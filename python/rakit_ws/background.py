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
    `dropped` makes the record that tells how many were. `write_now` writes a line if that does
    not block, and tells whether it did: then no thread has a part in it, and lines stay in order
    with what the application prints.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        close: Callable[[], None],
        dropped: Callable[[int], logging.LogRecord],
        write_now: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__()
        self._write = write
        self._close_target = close
        self._dropped_record = dropped
        self._write_now = write_now
        # Each is changed by one thread alone: lines given to the thread and done by it, those that
        # found no room, those that could not be written, and how many of both the log has told of.
        self._put = 0
        self._done = 0
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
            line = self.format(record)
        except Exception:  # as every handler of the standard library
            self.handleError(record)
            return
        is_idle = self._put == self._done and not self._untold()
        if not (is_idle and self._write_now is not None and self._write_now(line)):
            self._put += 1
            self._queue.put(line)

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
            count = len(lines)
            self._write_all(lines)
            self._done += count
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

    def _untold(self) -> int:
        return self._refused + self._failed - self._told

    def _write_all(self, lines: list[str]) -> None:
        # What is dropped from here on is told of by the next batch.
        dropped = self._untold()
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


class Descriptor:
    """
    Writes lines to a descriptor, past Python's own buffers.

    Those have a lock, which a thread that hangs would still hold when the process ends.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def write(self, lines: str) -> None:
        """Write lines, however long that takes."""
        self._write_whole(memoryview(self._encoded(lines)))

    def write_now(self, line: str) -> bool:
        """Write a line if that does not block; tell whether it is written."""
        data = self._encoded(line)
        # A pipe that is ready takes so much at once, whole (poll(2), pipe(7)).
        if len(data) > select.PIPE_BUF or not self._room.poll(0):
            return False
        try:
            written = os.write(self._descriptor, data)
        except OSError:  # the thread meets it too, and counts it
            return False
        self._write_whole(memoryview(data)[written:])  # nothing, unless it is no pipe
        return True

    def _write_whole(self, rest: memoryview) -> None:
        while rest:
            rest = rest[self._write_some(rest) :]

    def _encoded(self, lines: str) -> bytes:
        return f"{lines}\n".encode(self._encoding, "backslashreplace")

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # somebody has made it non-blocking
            self._room.poll()
            return 0
