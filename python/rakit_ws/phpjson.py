"""JSON as PHP reads and writes it: `json_decode($text, true)`, `json_encode($value)`, `(string)`."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

MAX_DEPTH: Final = 511
"""
Levels of arrays and objects that PHP reads; text that is nested deeper is no JSON to it.

Its limit is 512, and what is in the innermost one counts.
"""

BLANKS: Final = " \t\n\r\v\0"
"""What `trim` takes off."""

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
# Longer ones are no integers of 64 bits, and Python would count their digits for long.
_MAX_INT_CHARS = 20
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class NotJsonError(ValueError):
    """PHP would not read, or write, this."""


def decode(text: str) -> Any:
    """
    Read JSON that is nested no deeper than `MAX_DEPTH`; objects are dicts in their order.

    Raises:
        NotJsonError: PHP would not read it.

    """
    try:
        value = _decoder.decode(text.strip(" \t\n\r"))
        if _HALF.search(text):
            _text_in(value)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from None
    return value


def encode(value: Any) -> bytes:
    """
    Write what `decode` has read, or anything made of the same types.

    Objects are PHP's arrays: those whose keys are 0, 1, 2 … become lists, the empty one too.

    Raises:
        NotJsonError: an infinite number, NaN, or too many levels.

    """
    pieces: list[str] = []
    try:
        _write(value, pieces.append)
    except RecursionError:
        raise NotJsonError("nested too deeply") from None
    return "".join(pieces).encode("ascii")


def encode_text(text: str) -> bytes:
    """Write a string."""
    return _string(text).encode("ascii")


def as_text(value: Any) -> str | None:
    """Return what PHP makes of a value where a string is wanted; None: it can't be one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value, digits=f"{value:.13e}", most_digits=14, exponent="E")
    return None


def _integer(digits: str) -> int | float:
    if len(digits) <= _MAX_INT_CHARS and _INT_MIN <= (number := int(digits)) <= _INT_MAX:
        return number
    return float(digits)


def _no_constant(word: str) -> Any:
    raise NotJsonError(word)


_decoder = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant)


def _text_in(value: Any) -> None:
    """Raise UnicodeEncodeError (a ValueError) for half a surrogate pair in any string."""
    json.dumps(value, ensure_ascii=False).encode()


def _write(value: Any, write: Any) -> None:
    # One frame a level: PHP's levels must fit in Python's.
    if isinstance(value, str):
        write(_string(value))
    elif isinstance(value, (dict, list)):
        is_list = isinstance(value, list) or _is_list(value)
        write("[" if is_list else "{")
        comma = ""
        for key in value:
            if is_list:
                write(comma)
            else:
                write(f"{comma}{_string(key)}:")
            comma = ","
            _write(value[key] if isinstance(value, dict) else key, write)
        write("]" if is_list else "}")
    elif value is None:
        write("null")
    elif isinstance(value, bool):
        write("true" if value else "false")
    elif isinstance(value, int):
        write(str(value))
    else:
        write(_float(value))


def _is_list(array: dict[str, Any]) -> bool:
    return all(key == str(number) for number, key in enumerate(array))


def _string(text: str) -> str:
    # Python writes DEL as an escape, PHP does not.
    inner = "\x7f".join(json.dumps(part)[1:-1] for part in text.split("\x7f"))
    return '"' + inner.replace("/", "\\/") + '"'


def _float(number: float) -> str:
    if not math.isfinite(number):
        raise NotJsonError("an infinite number")
    return _number(number, digits=repr(number), most_digits=17, exponent="e")


def _number(number: float, *, digits: str, most_digits: int, exponent: str) -> str:
    """Write a number as PHP lays out `digits`, which Python has found."""
    if math.isinf(number):
        return "INF" if number > 0 else "-INF"
    sign = "-" if math.copysign(1.0, number) < 0 else ""
    significant, point = _decimal(digits)
    if not significant:
        return f"{sign}0"
    # The value is 0.SIGNIFICANT times ten to the power of `point`.
    if point < -3 or point > most_digits:
        rest = significant[1:] or "0"
        power = point - 1
        return f"{sign}{significant[0]}.{rest}{exponent}{'-' if power < 0 else '+'}{abs(power)}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{significant}"
    whole, fraction = significant[:point].ljust(point, "0"), significant[point:]
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _decimal(digits: str) -> tuple[str, int]:
    """Take a number as Python writes it apart: its digits without zeros around, and its point."""
    mantissa, _, power = digits.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(power or 0)
    both = whole + fraction
    without = both.lstrip("0")
    return without.rstrip("0"), point - (len(both) - len(without))
