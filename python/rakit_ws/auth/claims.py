"""A user from a JSON object: of a token's claims, or of an answer of the application."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rakit_ws.user import User

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

NEVER_KEPT = frozenset({"password", "remember_token"})


def user_of(
    claims: Mapping[str, Any],
    *,
    id_key: str,
    name_key: str,
    email_key: str,
    channels_key: str,
    expires_at: float | None,
    left_out: Collection[str] = (),
) -> User | None:
    """
    Return whom an object is about; None where it has no id: a string or an integer.

    All else in it, but for `left_out` and passwords, is in `columns`. Names of channels that are
    no strings are passed over.
    """
    user_id = claims.get(id_key)
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int)) or user_id == "":
        return None
    dropped = NEVER_KEPT.union(left_out, (id_key, channels_key))
    return User(
        str(user_id),
        _text(claims.get(name_key)),
        _text(claims.get(email_key)),
        {key: value for key, value in claims.items() if key not in dropped},
        _names(claims.get(channels_key)),
        expires_at,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _names(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def seconds_of(value: object) -> float | None:
    """Return a time in Unix seconds; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
