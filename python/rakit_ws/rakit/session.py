"""What a session says: its record, and the number of the user in it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from rakit_ws.rakit.php import MalformedError, unserialize

MAX_RECORD_BYTES = 1024 * 1024
"""Longer records are refused: browsers are given sessions of a few kB."""

# 40 characters of these are what the framework makes. Nothing else gets as far as a store.
_SESSION_ID = re.compile(rb"[A-Za-z0-9]{40}")

# Blanks are PHP's; leading zeros make no integer.
_INTEGER = re.compile(rb"[ \t\n\r\v\0]*([+-]?(?:0|[1-9][0-9]{0,18}))[ \t\n\r\v\0]*")
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class Record(NamedTuple):
    """A session, as a store has it."""

    last_activity: int
    """Unix seconds of the last request."""
    data: dict[Any, Any]
    """What the application has put into it."""

    def is_alive(self, now: float, lifetime_minutes: int) -> bool:
        """Tell whether the session has not expired. Its last request may lie ahead of `now`."""
        return int(now) - self.last_activity <= lifetime_minutes * 60

    def login(self, auth_driver: str) -> Any:
        """
        Return what the application's login has stored; None if nobody is logged in.

        As in the framework, what was flashed to the next request counts where the session itself
        has nothing: `:new:`, then `:old:`.
        """
        key = b"system_auth_drivers_%b_login" % auth_driver.encode()
        login = self.data.get(key)
        for bag in (self.data.get(b":new:"), self.data.get(b":old:")):
            if login is None and isinstance(bag, dict):
                login = bag.get(key)
        return login


def record_of(serialized: bytes) -> Record:
    """
    Read a whole record: the array `id`, `last_activity`, `data`.

    Raises:
        MalformedError: it is none.

    """
    if len(serialized) > MAX_RECORD_BYTES:
        raise MalformedError(f"more than {MAX_RECORD_BYTES} bytes")
    record = unserialize(serialized)
    if not isinstance(record, dict) or record.get(b"id") is None:
        raise MalformedError("no array with an id")
    return Record(integer(record.get(b"last_activity")) or 0, _array(record.get(b"data")))


def record_of_row(last_activity: object, serialized: bytes) -> Record:
    """
    Read a record whose parts stand in columns.

    Raises:
        MalformedError: `serialized` is no array.

    """
    if len(serialized) > MAX_RECORD_BYTES:
        raise MalformedError(f"more than {MAX_RECORD_BYTES} bytes")
    data = unserialize(serialized)
    if not isinstance(data, dict):
        raise MalformedError("no array")
    text = last_activity.encode() if isinstance(last_activity, str) else last_activity
    return Record(integer(text) or 0, data)


def _array(data: object) -> dict[Any, Any]:
    return data if isinstance(data, dict) else {}


def is_session_id(decrypted: bytes) -> bool:
    """Tell whether the framework may have made this as the id of a session."""
    return _SESSION_ID.fullmatch(decrypted) is not None


def login_in_remember_cookie(decrypted: bytes) -> bytes:
    """Return the id of the user in a remember cookie: `ID|RANDOM`."""
    return decrypted.partition(b"|")[0]


def remember_cookie(auth_driver: str) -> str:
    """Return the name of the remember cookie."""
    return f"system_auth_drivers_{auth_driver}_remember"


def integer(value: object) -> int | None:
    """
    Return the integer that `value` is, or is the text of; None if it is none of 64 bits.

    `"1"`, `"+1"` and `" 1 "` are integers; `"01"`, `"1.0"`, `"0x1"`, `"1e0"`, floats and
    booleans are not.
    """
    if isinstance(value, bytes):
        match = _INTEGER.fullmatch(value)
        value = int(match[1]) if match else None
    if type(value) is not int or not _INT_MIN <= value <= _INT_MAX:
        return None
    return value
