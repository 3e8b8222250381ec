"""
The exceptions of rakit_ws: mistakes of those who call it or set it up.

A fault of the peer is never an exception but an event or a close code (`codes.py`).
"""

from __future__ import annotations


class RakitWsError(Exception):
    """The base of every exception that rakit_ws raises by itself."""


class UsageError(RakitWsError):
    """The caller's mistake: a call that does not fit its arguments or the state it found."""


class ConfigError(RakitWsError):
    """A setting that cannot be: one line that names its source, key, value and what is allowed."""


class ListenError(RakitWsError):
    """The address is taken, forbidden or not to be resolved."""


class CrashedError(RakitWsError):
    """The server ended by a fault of its own, which is the cause (`__cause__`)."""


class SourceDownError(RakitWsError):
    """
    Users cannot be looked up now, or not at all as things are set up; one line that says why.

    Raised by a source of users. What happens then is what `auth.on_failure` says.
    """


class Refused(RakitWsError):  # noqa: N818 - what a hook says, not what went wrong
    """
    Raised by a `connect` hook: refuse this handshake.

    The client gets an HTTP response with `status` (400 to 599) and `reason` as its
    one line of text, which is for everybody to read.

    Raises:
        UsageError: another status, or a reason of more than one line.

    """

    def __init__(self, status: int = 403, reason: str = "forbidden") -> None:
        if not 400 <= status <= 599:
            raise UsageError(f"a refusal has a status of 400 to 599, not {status}")
        if not reason.isprintable():
            raise UsageError(f"a reason is one line of text, not {reason!r:.100}")
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"
