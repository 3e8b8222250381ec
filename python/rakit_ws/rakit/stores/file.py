"""The driver `file`: a file for each session, in a folder of the application."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rakit_ws.errors import SourceDownError
from rakit_ws.rakit.php import MalformedError
from rakit_ws.rakit.session import MAX_RECORD_BYTES, record_of
from rakit_ws.rakit.stores.store import broken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rakit_ws.rakit.session import Record

_LOCAL_FILE_SYSTEMS = frozenset(
    ("bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs",
     "tmpfs", "xfs", "zfs")
)  # fmt: skip

_MOST_HAVE_BYTES = 16 * 1024
# Enough to see that it is too long, guard included.
_MAX_BYTES = MAX_RECORD_BYTES + 4096

# PHP empties a file before it writes it: one that is not whole may be a moment later.
_ATTEMPTS = 4
_RETRY_S = 0.005


class FileStore:
    """
    Reads the files: in the loop where the disk is local, else in threads.

    A network's file system may stall. But the way to a thread and back costs three times what
    reading does (`benches/logins.py`).
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        self._folder = str(folder)
        self.is_immediate = is_local(folder)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rakit_ws-sessions")

    async def load(self, session_ids: Sequence[str]) -> Mapping[str, Record | Exception]:
        """Look up sessions (see Store)."""
        found: dict[str, Record | Exception] = {}
        torn: dict[str, MalformedError] = {}
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_RETRY_S)
            contents = await self._contents(list(torn) or session_ids)
            torn = {}
            for session_id, content in contents.items():
                record = _parsed(content)
                if isinstance(record, MalformedError):
                    torn[session_id] = record
                else:
                    found[session_id] = record
            if not torn:
                break
        for fault in torn.values():
            broken(fault)
        return found

    async def _contents(self, session_ids: Sequence[str]) -> dict[str, bytes]:
        if self.is_immediate:
            return self._read_all(session_ids)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read_all, session_ids)

    def _read_all(self, session_ids: Sequence[str]) -> dict[str, bytes]:
        contents = ((each, self._read(each)) for each in session_ids)
        return {each: content for each, content in contents if content is not None}

    def _read(self, session_id: str) -> bytes | None:
        """Return the record in a session's file; None if there is no such file."""
        digest = hashlib.sha1(session_id.encode(), usedforsecurity=False).hexdigest()
        path = f"{self._folder}/{digest}.session.php"
        try:
            return _without_guard(_content_of(path))
        except FileNotFoundError:
            self._must_be_there()
            return None
        except OSError as fault:
            raise SourceDownError(f"a session's file can't be read: {fault.strerror}") from None

    def _must_be_there(self) -> None:
        if not Path(self._folder).is_dir():
            raise SourceDownError(f"{self._folder} is not there, or no folder")

    async def aclose(self) -> None:
        """End the threads, but do not wait for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _content_of(path: str) -> bytes:
    """Read a file with three system calls, if it is as short as most: half the cost of `open`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _MOST_HAVE_BYTES)
        while len(content) >= _MOST_HAVE_BYTES and len(content) <= _MAX_BYTES:
            more = os.read(descriptor, _MAX_BYTES)
            if not more:
                break
            content += more
        return content
    finally:
        os.close(descriptor)


def is_local(folder: Path) -> bool:
    """Tell whether a folder is on a disk of this machine; False where that is not to be seen."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        return kind_of(os.path.realpath(folder), mounts) in _LOCAL_FILE_SYSTEMS
    except OSError:
        return False


def kind_of(path: str, mounts: str) -> str:
    """Return the kind of file system that a path is on, of those in `/proc/PID/mountinfo`."""
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split(" ")[4])
        holds_it = path == point or path.startswith(point.rstrip("/") + "/")
        # A later mount hides an earlier one at the same point.
        if holds_it and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def _parsed(content: bytes) -> Record | MalformedError:
    try:
        return record_of(content)
    except MalformedError as fault:
        return fault


def _without_guard(content: bytes) -> bytes:
    """Take off `<?php defined('DS') or exit('No direct access.');?>`."""
    if content.startswith(b"<?php"):
        return content.partition(b"?>")[2]
    return content
