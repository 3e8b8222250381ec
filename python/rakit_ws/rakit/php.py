"""
PHP's serialization format, read and never run.

An object is skipped over, never built: it is OBJECT. Strings are bytes, arrays are dicts with
bytes and ints as keys. Everything else that is wrong is a `MalformedError`, whatever the bytes:
the parser is a loop with a stack of its own, and memory follows the length of the input.
"""

from __future__ import annotations

import re
from typing import Any, Final

MAX_DEPTH = 4096
"""Levels of arrays and objects: what PHP takes."""
MAX_VALUES = 20_000
"""Values in all: about 20 ms of work, and some hundred times what sessions hold."""

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

# One value's beginning, by its first group that is there. Digits are bounded: what is longer
# is no length that fits, and int() of thousands of digits is slow.
_VALUE = re.compile(
    rb"""
      s:([0-9]{1,10}):"
    | i:([+-]?[0-9]{1,20});
    | a:([0-9]{1,10}):\{
    | b:([01]);
    | (N);
    | d:([^;]{1,64});
    | O:([0-9]{1,10}):"
    | ([Rr]):([0-9]{1,10});
    | C:([0-9]{1,10}):"
    | E:([0-9]{1,10}):"
    """,
    re.VERBOSE,
)
_STRING, _INT, _ARRAY, _BOOL, _NULL, _FLOAT, _OBJECT = 1, 2, 3, 4, 5, 6, 7
_REFERENCE, _CUSTOM, _ENUM = 9, 10, 11

_KEY = re.compile(rb's:([0-9]{1,10}):"|i:([+-]?[0-9]{1,20});')
_FLOAT_TEXT = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|-?INF|NAN")
_PROPERTY_COUNT = re.compile(rb'":([0-9]{1,10}):\{')
_CANONICAL_INT = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_INT_BEGINNINGS: Final = frozenset(b"%c" % byte for byte in b"-0123456789")


class MalformedError(ValueError):
    """Not PHP's serialization format, or more of it than a session can be; says where."""


class _Object:
    """What stands for an object, and for a reference that cannot be followed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "OBJECT"


OBJECT: Final = _Object()


def unserialize(data: bytes, *, max_values: int = MAX_VALUES) -> Any:
    """
    Return the value that `data` begins with; what is behind it does not matter, as to PHP.

    None, bool, int, float, bytes, dict, or OBJECT.

    Raises:
        MalformedError: the only exception, whatever `data` is.

    """
    return _Parser(data, max_values).parse()


class _Parser:
    """
    One pass over the bytes.

    `_into` is the array or object that is being filled, `_remaining` how many entries it still
    wants; `_outer` has those around it. The outermost is an array of our own, with one entry.
    """

    def __init__(self, data: bytes, max_values: int) -> None:
        self._data = data
        self._at = 0
        self._max_values = max_values
        self._into: dict[Any, Any] = {}
        self._remaining = 1
        self._outer: list[tuple[dict[Any, Any], int]] = []
        # What `R:n;` and `r:n;` count: every value in its order but those of `R`.
        self._slots: list[Any] = []
        self._has_slots = True

    def parse(self) -> Any:
        """
        Read value after value.

        What sessions are made of is read here, which saves a tenth.
        """
        data, root, slots = self._data, self._into, self._slots
        while self._remaining or self._outer:
            if not self._remaining:
                self._end_of_entries()
                continue
            key = self._key() if self._outer else 0
            self._remaining -= 1
            match = _VALUE.match(data, self._at)
            if match is None:
                raise self._fault("no value")
            if len(slots) >= self._max_values:
                raise self._fault(f"more than {self._max_values} values")
            self._at = match.end()
            kind = match.lastindex
            if kind == _STRING:
                value: Any = self._string(match[_STRING])
            elif kind == _INT:
                value = self._int(match[_INT])
            elif kind == _ARRAY:
                value = {}
            elif kind == _NULL:
                value = None
            else:
                self._other(kind, match, key)
                continue
            slots.append(value)
            self._into[key] = value
            if kind == _ARRAY:
                self._enter(value, match[_ARRAY])
        return root[0]

    def _end_of_entries(self) -> None:
        if self._data[self._at : self._at + 1] != b"}":
            raise self._fault("no } behind the entries")
        self._at += 1
        self._into, self._remaining = self._outer.pop()

    def _key(self) -> bytes | int:
        match = _KEY.match(self._data, self._at)
        if match is None:
            raise self._fault("no key")
        self._at = match.end()
        if match.lastindex == 2:
            return self._int(match[2])
        text = self._string(match[1])
        # Most begin with a letter, and few that begin with a digit are the text of an integer.
        if text[:1] in _INT_BEGINNINGS and _CANONICAL_INT.fullmatch(text):
            number = int(text)
            return number if _INT_MIN <= number <= _INT_MAX else text
        return text

    def _other(self, kind: int | None, match: re.Match[bytes], key: bytes | int) -> None:
        """Take a value of a kind that is rare."""
        value: Any
        if kind == _BOOL:
            value = match[_BOOL] == b"1"
        elif kind == _FLOAT:
            value = self._float(match[_FLOAT])
        elif kind == _REFERENCE:
            value = self._referenced(int(match[_REFERENCE]))
        else:
            value = OBJECT
        if not (kind == _REFERENCE and match[_REFERENCE - 1] == b"R"):
            self._slots.append(value)
        self._into[key] = value
        if kind == _OBJECT:
            self._enter_object(match[_OBJECT])
        elif kind in (_CUSTOM, _ENUM):
            self._skip(match[kind], is_custom=kind == _CUSTOM)

    def _enter(self, into: dict[Any, Any], count: bytes) -> None:
        if len(self._outer) >= MAX_DEPTH:
            raise self._fault(f"more than {MAX_DEPTH} levels")
        self._outer.append((self._into, self._remaining))
        self._into, self._remaining = into, int(count)

    def _enter_object(self, name_length: bytes) -> None:
        self._at += int(name_length)
        match = _PROPERTY_COUNT.match(self._data, self._at)
        if match is None:
            raise self._fault("no class")
        self._at = match.end()
        self._enter({}, match[1])  # for nobody: its properties only have to be passed over

    def _skip(self, name_length: bytes, *, is_custom: bool) -> None:
        """Pass over `C:…:"Class":LENGTH:{…}` or `E:…:"Class:Case";`."""
        self._at += int(name_length)
        if not is_custom:
            self._expect(b'";')
            return
        match = _PROPERTY_COUNT.match(self._data, self._at)
        if match is None:
            raise self._fault("no class")
        self._at = match.end() + int(match[1])
        self._expect(b"}")
        # It may hold values that count, in a form that only its class knows.
        self._has_slots = False

    def _string(self, length: bytes) -> bytes:
        start = self._at
        end = start + int(length)
        if self._data[end : end + 2] != b'";':
            raise self._fault("a string does not end where it says")
        self._at = end + 2
        return self._data[start:end]

    def _int(self, digits: bytes) -> int:
        number = int(digits)
        if not _INT_MIN <= number <= _INT_MAX:
            raise self._fault("an integer over 64 bits")
        return number

    def _float(self, text: bytes) -> float:
        if _FLOAT_TEXT.fullmatch(text) is None:
            raise self._fault("no float")
        return float(text)

    def _referenced(self, number: int) -> Any:
        if not self._has_slots:
            return OBJECT
        if not 1 <= number <= len(self._slots):
            raise self._fault("a reference to nothing")
        return self._slots[number - 1]

    def _expect(self, expected: bytes) -> None:
        if not self._data.startswith(expected, self._at):
            raise self._fault(f"no {expected.decode()}")
        self._at += len(expected)

    def _fault(self, what: str) -> MalformedError:
        return MalformedError(f"{what} at byte {min(self._at, len(self._data))}")
