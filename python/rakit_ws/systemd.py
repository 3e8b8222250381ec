"""
Tells systemd how the service is (sd_notify(3)), where systemd has started it.

The protocol is a datagram of lines to the socket that NOTIFY_SOCKET names: no library is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# A change of state may wait so long for room in systemd's queue; a sign of life does not wait.
SEND_TIMEOUT_S = 1.0

# The status is told so often at most.
STATUS_INTERVAL_S = 10.0


class Systemd:
    """
    The service manager, or nobody: then every call does nothing.

    ```text
    starting ─ready─► ready ─reloading─► reloading ─► ready ─stopping─► stopping
    ```
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        # Opened now: later there may be no descriptor left.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self.watchdog_s = _watchdog_s(environ) if self._address else None
        """How soon it wants a sign of life again; None: it does not."""
        self._is_ready = False
        self._status = ""
        self._told_status_at_s = 0.0
        self._beat_at_s = 0.0

    def ready(self, status: str) -> None:
        """Say that the service works."""
        self._is_ready = True
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the configuration is read again, and in the end, however it went, that it was."""
        if not self._is_ready:
            yield
            return
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")
        try:
            yield
        finally:
            self._send("READY=1")

    def stopping(self, status: str) -> None:
        """Say that the service ends."""
        self._is_ready = False
        self._send("STOPPING=1", f"STATUS={status}")

    def beat(self, now_s: float, status: Callable[[], str]) -> None:
        """
        Give a sign of life, where one is due, and say how it is.

        To be called by what the service lives from, often: at least twice in `watchdog_s`.
        """
        if self._socket is None:
            return
        lines = []
        if self.watchdog_s is not None and now_s - self._beat_at_s >= self.watchdog_s / 2:
            self._beat_at_s = now_s
            lines.append("WATCHDOG=1")
        if self._is_ready and now_s - self._told_status_at_s >= STATUS_INTERVAL_S:
            self._told_status_at_s = now_s
            lines += self._news(status())
        if lines:
            self._send(*lines, timeout_s=0)

    def close(self) -> None:
        """Say nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _news(self, status: str) -> list[str]:
        if status == self._status:
            return []
        self._status = status
        return [f"STATUS={status}"]

    def _send(self, *lines: str, timeout_s: float = SEND_TIMEOUT_S) -> None:
        if self._socket is None:
            return
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.limited(logging.WARNING, "systemd not told", what=lines[0], reason=error)


def _address(text: str) -> str:
    """Return the address of a Unix socket, "" for none; `@` stands for the abstract namespace."""
    if text.startswith("@"):
        return "\0" + text[1:]
    if text and not text.startswith("/"):
        log.warning("systemd not told", reason="unsupported NOTIFY_SOCKET", address=text)
        return ""
    return text


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Tell after how much silence systemd ends this process (sd_watchdog_enabled(3))."""
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text) / 1e6
    if text:
        log.warning("watchdog ignored", WATCHDOG_USEC=text)
    return None


NOBODY = Systemd({})
"""Where systemd is not told: a server in somebody else's process."""
