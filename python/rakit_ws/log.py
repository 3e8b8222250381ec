"""
The log: events with fields, under the standard library's logger "rakit_ws".

    log.info("client connected", id=client.id, user=client.user)
    2026-11-23T14:09:21.123Z INFO client connected id=k3Jx… user=-

Nothing that a peer sends can forge a line: what is not printable is escaped.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from datetime import datetime, timezone
from functools import lru_cache
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any, TextIO

from rakit_ws.background import Background, Descriptor
from rakit_ws.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rakit_ws.config import Config

LOGGER_NAME = "rakit_ws"

# Longer values are cut: a request header may have 16 KiB.
_MAX_VALUE_CHARS = 512
_LIMITED_INTERVAL_S = 1.0

# ASCII only, so that any terminal and any lone surrogate will do.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Event:
    """A name and its fields. As text, whatever handler writes it, both."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: Mapping[str, object]) -> None:
        self.name = name
        self.fields = fields

    def __str__(self) -> str:
        pairs = (f" {key}={_text(value)}" for key, value in self.fields.items())
        return escaped(self.name) + "".join(pairs)


class Log:
    """
    What the code logs with. Fields are keyword arguments.

    `wants_debug`, `wants_info` and `wants_warning` are plain attributes, for code that must
    not even build the fields of an event that nobody will see. They hold what the logger's
    level was at the last `refresh()`.
    """

    def __init__(
        self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._limited: dict[tuple[str, str], _Limit] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the logger's level again, as a server does at its start; limits begin anew."""
        self._limited.clear()
        self.wants_debug = self._logger.isEnabledFor(logging.DEBUG)
        self.wants_info = self._logger.isEnabledFor(logging.INFO)
        self.wants_warning = self._logger.isEnabledFor(logging.WARNING)

    def debug(self, event: str, /, **fields: object) -> None:
        """Log what only helps to find a fault; the only level that may show payloads."""
        if self.wants_debug:
            self._logger.debug(Event(event, fields), stacklevel=2)

    def info(self, event: str, /, **fields: object) -> None:
        """Log what is as it should be."""
        if self.wants_info:
            self._logger.info(Event(event, fields), stacklevel=2)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what somebody should look at."""
        if self.wants_warning:
            self._logger.warning(Event(event, fields), stacklevel=2)

    def error(self, event: str, /, **fields: object) -> None:
        """Log what went wrong."""
        self._logger.error(Event(event, fields), stacklevel=2)

    def exception(
        self, event: str, /, *, error: BaseException | None = None, **fields: object
    ) -> None:
        """Log what went wrong with the traceback of `error`, or of the one being handled."""
        exc_info = True if error is None else error
        self._logger.error(Event(event, fields), exc_info=exc_info, stacklevel=2)

    def limited(
        self,
        level: int,
        event: str,
        /,
        *,
        source: str = "",
        error: BaseException | None = None,
        **fields: object,
    ) -> None:
        """
        Log at most one such event a second, with the number of those left out in between.

        For what a peer can provoke at will. `event` and `source` are the key: constants of the
        code, such as the name of a hook, never a peer's data, or the table of keys would grow.
        The traceback of `error` is logged too.
        """
        if not self._logger.isEnabledFor(level):
            return
        limit = self._limited.setdefault((event, source), _Limit())
        suppressed = limit.taken(self._clock())
        if suppressed is None:
            return
        if suppressed:
            fields["suppressed"] = suppressed
        self._logger.log(level, Event(event, fields), exc_info=error, stacklevel=2)


class _Limit:
    """When an event was last logged, and how many were not since."""

    __slots__ = ("last_s", "suppressed")

    def __init__(self) -> None:
        self.last_s = -_LIMITED_INTERVAL_S
        self.suppressed = 0

    def taken(self, now_s: float) -> int | None:
        """Tell how many were left out since the last one; None: leave out this one too."""
        if now_s - self.last_s < _LIMITED_INTERVAL_S:
            self.suppressed += 1
            return None
        suppressed, self.suppressed = self.suppressed, 0
        self.last_s = now_s
        return suppressed


def configure(config: Config, *, in_background: bool = False) -> None:
    """
    Write the log where and how `config` says; what an earlier call set up is taken down.

    `in_background` leaves the writing to a thread: no line waits for who reads it, and where
    10,000 wait, more are dropped and counted.

    The logger is the process's: of two servers the last one to configure it decides. With
    `logging_enabled` false nothing below error is logged, errors go to standard error, and
    the log file is not opened.

    Raises:
        ConfigError: the log file can't be opened.

    """
    handler = _handler(config)
    if in_background:
        handler = _in_background(handler)
    handler.set_name(LOGGER_NAME)
    handler.setFormatter(JsonFormatter() if config.log_format == "json" else TextFormatter())
    logger = logging.getLogger(LOGGER_NAME)
    for earlier in [each for each in logger.handlers if each.get_name() == LOGGER_NAME]:
        logger.removeHandler(earlier)
        earlier.close()
    logger.addHandler(handler)
    logger.setLevel(config.log_level.upper() if config.logging_enabled else logging.ERROR)
    logger.propagate = False
    log.refresh()


def _handler(config: Config) -> logging.Handler:
    if not config.logging_enabled:
        return _stream_handler(sys.stderr)
    if config.logging_output == "stdout":
        return _stream_handler(sys.stdout)
    try:
        return WatchedFileHandler(config.log_file, encoding="utf-8")
    except OSError as fault:
        raise ConfigError(
            f'log_file: "{config.log_file}" can\'t be opened: {fault.strerror}; '
            "allowed: a file that can be appended to"
        ) from None


def _in_background(handler: logging.Handler) -> logging.Handler:
    if isinstance(handler, WatchedFileHandler):
        target = handler

        def write(lines: str) -> None:
            target.reopenIfNeeded()
            stream: Any = target.stream
            stream.write(f"{lines}\n")
            stream.flush()

        return Background(write, handler.close, _dropped)
    stream = getattr(handler, "stream", None)
    try:
        descriptor = stream.fileno() if isinstance(stream, io.TextIOWrapper) else None
    except OSError:  # it is none of the system's
        descriptor = None
    if descriptor is None or not isinstance(stream, io.TextIOWrapper):
        return handler
    stream.flush()
    output = Descriptor(descriptor, stream.encoding)
    return Background(output.write, handler.close, _dropped, output.write_now)


def _dropped(count: int) -> logging.LogRecord:
    event = Event("log lines dropped", {"count": count})
    return logging.LogRecord(LOGGER_NAME, logging.WARNING, __file__, 0, event, None, None)


def _stream_handler(stream: TextIO) -> logging.Handler:
    # Where the locale is not UTF-8, a name that it can't show must not lose the line.
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return logging.StreamHandler(stream)


class TextFormatter(logging.Formatter):
    """`2026-11-23T14:09:21.123Z INFO client connected id=… user=…`."""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record on one line, its traceback indented on further ones."""
        message = record.getMessage()
        if not isinstance(record.msg, Event):
            message = escaped(message)
        line = f"{_time(record)} {record.levelname} {message}"
        # Indented and escaped: an exception's text may hold a peer's data.
        return "\n    ".join([line, *map(escaped, self._traceback(record).splitlines())])

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """`{"time":"2026-11-23T14:09:21.123Z","level":"info","event":"client connected","id":"…"}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record on one line; the traceback is its last key."""
        event = record.msg if isinstance(record.msg, Event) else Event(record.getMessage(), {})
        members: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": event.name,
        }
        for key, value in event.fields.items():
            members.setdefault(key, _json(value))
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return _ENCODER.encode(members)


def escaped(text: str) -> str:
    """`text` on one line: what is not printable as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    text = _cut(str(value))
    # A bare value has nothing in it that a reader could take for the end of it.
    if text and text != "-" and text.isprintable() and not set(text) & set(" \"'=\\"):
        return text
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _json(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "…"


def _time(record: logging.LogRecord) -> str:
    second = int(record.created)
    return f"{_second(second)}.{int((record.created - second) * 1000):03}Z"


@lru_cache(maxsize=1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


log = Log(logging.getLogger(LOGGER_NAME))
