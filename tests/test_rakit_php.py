"""PHP's serialization format, and FastLZ: whatever the bytes are, one exception comes out."""

from __future__ import annotations

import contextlib
import json
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rakit_backends import FIXTURES
from rakit_ws.rakit.php import MAX_DEPTH, OBJECT, MalformedError, unserialize
from rakit_ws.rakit.session import MAX_RECORD_BYTES, Record, integer, record_of
from rakit_ws.rakit.stores import fastlz

RICH = b'a:3:{s:2:"id";s:1:"x";s:4:"data";a:2:{i:0;O:3:"Foo":1:{s:3:"bar";d:1.5;}s:1:"k";r:4;}s:13:"last_activity";i:7;}'


def serialize(value):
    """Write what PHP would; the opposite of what is tested, made apart from it."""
    if value is None:
        return b"N;"
    if isinstance(value, bool):
        return b"b:%d;" % value
    if isinstance(value, int):
        return b"i:%d;" % value
    if isinstance(value, float):
        return b"d:%s;" % repr(value).upper().replace("NAN", "NAN").encode()
    if isinstance(value, bytes):
        return b's:%d:"%b";' % (len(value), value)
    entries = b"".join(serialize(key) + serialize(each) for key, each in value.items())
    return b"a:%d:{%b}" % (len(value), entries)


INTEGERS = st.integers(-(2**63), 2**63 - 1)
WORDS = st.binary().filter(lambda text: not text[:1].isdigit() and text[:1] != b"-")
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.binary(),
    lambda inner: st.dictionaries(INTEGERS | WORDS, inner, max_size=5),
    max_leaves=30,
)


@settings(deadline=None)
@given(VALUES)
def test_what_php_writes_is_read(value):
    assert unserialize(serialize(value)) == value


@settings(deadline=None)
@given(VALUES, st.data())
def test_no_beginning_of_a_value_is_one(value, data):
    whole = serialize(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MalformedError):
        unserialize(whole[:cut])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_malformed(data):
    result(data)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"a:",
                b"O:",
                b"C:",
                b"E:",
                b"R:",
                b"s:",
                b"i:",
                b"d:",
                b"N;",
                b"b:1;",
                b"1",
                b"9" * 12,
                b":{",
                b"}",
                b'"',
                b'";',
                b";",
                b'1:"x"',
                b"i:0;",
                b"-",
                b"\0",
            ]
        ),
        max_size=40,
    )
)
@example([b"a:", b"1", b":{", b"i:0;", b"R:", b"1", b";", b"}"])
def test_any_pieces_of_the_format_are_a_value_or_malformed(pieces):
    result(b"".join(pieces))


@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_is_a_value_or_malformed(data):
    at = data.draw(st.integers(0, len(RICH) - 1))
    changed = bytearray(RICH)
    changed[at] = data.draw(st.integers(0, 255))
    result(bytes(changed))


def result(data):
    try:
        return unserialize(data)
    except MalformedError as fault:
        return str(fault)


def nested(levels):
    return b"a:1:{i:0;" * levels + b"N;" + b"}" * levels


def test_depth_is_bounded_as_in_php():
    assert isinstance(unserialize(nested(MAX_DEPTH - 1)), dict)
    assert isinstance(unserialize(nested(MAX_DEPTH)), dict)
    with pytest.raises(MalformedError, match="levels"):
        unserialize(nested(MAX_DEPTH + 1))


def test_values_are_bounded():
    def several(count):
        return b"a:%d:{%b}" % (count - 1, b"i:0;N;" * (count - 1))

    assert unserialize(several(9), max_values=10) == {0: None}
    assert unserialize(several(10), max_values=10) == {0: None}
    with pytest.raises(MalformedError, match="values"):
        unserialize(several(11), max_values=10)


def test_bytes_of_a_record_are_bounded():
    def long(size):
        head, tail = b's:%d:"', b'";}'
        frame = b'a:2:{s:2:"id";s:1:"x";s:1:"y";'
        length = size - len(frame) - len(head % 1000000) - len(tail)
        return frame + head % length + b"z" * length + tail

    assert len(long(MAX_RECORD_BYTES)) == MAX_RECORD_BYTES
    record_of(long(MAX_RECORD_BYTES - 1))
    record_of(long(MAX_RECORD_BYTES))
    with pytest.raises(MalformedError, match="bytes"):
        record_of(long(MAX_RECORD_BYTES + 1))


@pytest.mark.parametrize(
    "claim", [b"a:9999999999:{", b's:9999999999:"', b'O:9999999999:"', b"i:" + b"9" * 20 + b";"]
)
def test_what_is_only_claimed_is_neither_allocated_nor_believed(claim):
    with pytest.raises(MalformedError):
        unserialize(claim + b"i:0;N;")


def test_objects_are_passed_over_and_references_count_what_they_hold():
    data = unserialize(RICH)[b"data"]
    assert data == {0: OBJECT, b"k": OBJECT}
    # 1 the array, 2 the object, 3 its property, 4 "b"; R takes no number, r does.
    serialized = b'a:5:{i:0;O:1:"F":1:{s:1:"p";i:8;}i:1;s:1:"b";i:2;R:3;i:3;r:4;i:4;r:5;}'
    assert unserialize(serialized) == {0: OBJECT, 1: b"b", 2: 8, 3: b"b", 4: b"b"}


def test_behind_a_class_that_serializes_itself_references_are_not_followed():
    serialized = b'a:3:{i:0;C:1:"F":4:{i:9;}i:1;i:5;i:2;R:2;}'
    assert unserialize(serialized) == {0: OBJECT, 1: 5, 2: OBJECT}


def test_array_that_holds_itself_is_read():
    value = unserialize(b"a:1:{i:0;R:1;}")
    assert value[0] is value


def login_in(data):
    whole = {b"id": b"x", b"data": data, b"last_activity": 5}
    return record_of(serialize(whole)).login("magic")


LOGIN = b"system_auth_drivers_magic_login"


def test_login_is_taken_from_the_session_and_from_nothing_deeper():
    assert login_in({b"x": {LOGIN: 2}, b"y": serialize({LOGIN: 3}), b":newer:": {LOGIN: 4}}) is None
    assert login_in({LOGIN: 4, b":new:": {LOGIN: 5}, b":old:": {LOGIN: 6}}) == 4


def test_login_that_was_flashed_counts_where_there_is_no_other():
    assert login_in({b":new:": {LOGIN: 5}, b":old:": {LOGIN: 6}}) == 5
    assert login_in({LOGIN: None, b":old:": {LOGIN: 6}}) == 6
    assert login_in({b":new:": {b"x": {LOGIN: 5}}, b":old:": b"6"}) is None
    assert login_in({b":new:": {b"system_auth_drivers_facile_login": 5}}) is None


@pytest.mark.parametrize(
    ("last_activity", "now", "is_alive"),
    [
        (1000, 1000 + 3599, True),
        (1000, 1000 + 3600, True),
        (1000, 1000 + 3601, False),
        (9000, 1, True),
    ],
)
def test_session_lives_for_its_lifetime(last_activity, now, is_alive):
    assert Record(last_activity, {}).is_alive(now, 60) == is_alive


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1", 1), (b"+1", 1), (b" 1\n", 1), (b"-1", -1), (b"0", 0), (7, 7),
        (b"9223372036854775807", 2**63 - 1), (b"9223372036854775808", None),
        (b"-9223372036854775808", -(2**63)), (b"-9223372036854775809", None),
        (2**63, None), (b"", None), (b"01", None), (b"1.0", None), (b"0x1", None), (b"1e0", None),
        (b"1abc", None), (b"\xd9\xa1", None), ("1", None), (1.0, None), (True, None), (None, None),
        ({}, None), (OBJECT, None), (b"9" * 5000, None), (b"1\0", 1),
    ],
)  # fmt: skip
def test_integer(value, expected):
    assert integer(value) == expected


# --- FastLZ


def stored():
    entries = json.loads((FIXTURES / "memcached.json").read_text())["entries"]
    return next(entry for entry in entries if entry["flags"] & 64)


def test_literals_and_matches_of_the_first_level():
    assert fastlz.decompress(b"\x04abcde", max_bytes=5) == b"abcde"
    # A match of 3 bytes, 2 back, that overlaps with what it makes.
    assert fastlz.decompress(b"\x01ab" + bytes([1 << 5, 1]), max_bytes=5) == b"ababa"
    # 7 in the length: one more byte is added to it.
    assert fastlz.decompress(b"\x00a" + bytes([7 << 5, 10, 0]), max_bytes=20) == b"a" * 20


def test_long_and_far_matches_of_the_second_level():
    second = 1 << 5
    assert (
        fastlz.decompress(bytes([second]) + b"a" + bytes([7 << 5, 255, 3, 0]), max_bytes=268)
        == b"a" * 268
    )
    literals = b"".join(bytes([31]) + bytes([n % 251] * 32) for n in range(300))
    whole = bytes([literals[0] | second]) + literals[1:]
    plain = fastlz.decompress(whole, max_bytes=10**5)
    far = bytes([1 << 5 | 31, 255]) + struct.pack(">H", 100)
    distance = 8191 + 1 + 100
    assert fastlz.decompress(whole + far, max_bytes=10**5) == plain + plain[-distance:][:3]


@pytest.mark.parametrize(
    "compressed",
    [b"", b"\x04abcd", bytes([1 << 5]), b"\x00a" + bytes([1 << 5]), b"\x00a" + bytes([1 << 5, 1]),
     b"\x00a" + bytes([7 << 5]), bytes([7 << 5]) + b"x", bytes([1 << 5]) + b"a" + bytes([63, 255])],
)  # fmt: skip
def test_what_is_cut_or_points_before_the_beginning_is_malformed(compressed):
    with pytest.raises(MalformedError, match="fastlz"):
        fastlz.decompress(compressed, max_bytes=100)


def test_output_is_bounded():
    bomb = b"\x00a" + bytes([7 << 5, 255, 0]) * 1000
    with pytest.raises(MalformedError, match="more than it says"):
        fastlz.decompress(bomb, max_bytes=1000)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_decompressed_or_malformed(data):
    with contextlib.suppress(MalformedError):
        assert len(fastlz.decompress(data, max_bytes=5000)) <= 5000
