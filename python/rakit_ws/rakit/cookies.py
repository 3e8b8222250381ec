"""The Cookie header, as PHP reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Collection


def values_of(header: str, names: Collection[str]) -> dict[str, bytes]:
    """
    Find the cookies with these names; the first of two that are called the same counts.

    `header` is as the engine gives it: ISO 8859-1. Blanks before a name are dropped, a name
    ends at the first `=`, a value is percent-decoded, and `+` in it is a blank.
    """
    found: dict[str, bytes] = {}
    for part in header.split(";"):
        name, equals, value = part.lstrip(" \t").partition("=")
        if equals and name in names and name not in found:
            found[name] = unquote_to_bytes(value.replace("+", " ").encode("latin-1"))
    return found
