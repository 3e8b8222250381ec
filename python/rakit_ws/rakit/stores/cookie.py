"""The driver `cookie`: the browser keeps the whole session, encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rakit_ws.rakit.session import Record, record_of
from rakit_ws.rakit.stores.store import readable

if TYPE_CHECKING:
    from rakit_ws.rakit.crypter import Crypter

PAYLOAD_COOKIE = "session_payload"
"""The name of the cookie, which no setting of the framework changes."""


def record_in(payload: bytes, crypter: Crypter) -> Record | None:
    """Return the session in a payload cookie; None if it is none of this application."""
    serialized = crypter.decrypt(payload)
    return None if serialized is None else readable(lambda: record_of(serialized))
