"""
The frame core on its own: `FrameDecoder`, `encode_frame`, `apply_mask`.

Each hand-written test runs on the native module and on the reference in benches/, so that the
oracle is tested too; then properties hold the one against the other. The Rust tests read the same
vectors.
"""

import json
import struct
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rakit_ws

sys.path.append(str(Path(__file__).parent.parent / "benches"))

import reference_decoder

MAX_HEADER_BYTES = 14
MAX_CONTROL_BYTES = 125
KEY = bytes.fromhex("37fa213d")  # The key of RFC 6455 §5.7.

# The same examples in each run, whatever the machine's pace.
fixed = settings(derandomize=True, deadline=None, database=None, max_examples=200)

both_cores = pytest.mark.parametrize(
    "core", [rakit_ws, reference_decoder], ids=["native", "reference"]
)


def new_decoder(core, **options):
    decoder = core.FrameDecoder if core is rakit_ws else core.ReferenceDecoder
    return decoder(**options)


def plain(event):
    """What both implementations must agree on. The reason of a failure is free text."""
    name = type(event).__name__
    if name == "Failed":
        return (name, event.code)
    return (name, *(getattr(event, field) for field in event.__match_args__))


def results(decoder, pieces):
    """The events of each call."""
    return [[plain(event) for event in decoder.receive_data(piece)] for piece in pieces]


def flat(lists):
    return [event for events in lists for event in events]


def pieces_of(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


# Vectors in the order of the RFC ------------------------------------------------------------------


def expand(notation):
    """Bytes of the vectors' notation: hex, or a list of hex and {"repeat": hex, "times": n}."""
    if isinstance(notation, str):
        return bytes.fromhex(notation)
    return b"".join(
        bytes.fromhex(part["repeat"]) * part["times"] if isinstance(part, dict) else expand(part)
        for part in notation
    )


def expected(event):
    match event["type"]:
        case "message":
            return ("Message", event["opcode"], expand(event["payload"]))
        case "ping" | "pong" as name:
            return (name.capitalize(), expand(event["payload"]))
        case "close":
            return ("Close", event["code"], event["reason"])
        case "failed":
            return ("Failed", event["code"])


VECTORS = json.loads(Path(__file__).with_name("vectors").joinpath("frames.json").read_text("utf-8"))


@both_cores
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector(core, vector):
    data = expand(vector["input"])
    events = [expected(event) for event in vector["events"]]
    smallest = 1 if len(data) < 1000 else 1009
    for size in (len(data) + 1, smallest, 3 * smallest):
        decoder = new_decoder(
            core, role=vector["role"], max_message_bytes=vector["max_message_bytes"]
        )
        assert flat(results(decoder, pieces_of(data, size))) == events, f"pieces of {size}"


@both_cores
def test_fault_is_reported_in_the_call_that_brings_the_byte_that_proves_it(core):
    for data in (b"\xc1\x80", b"\x83\x80", b"\x09\x80", b"\x89\xfe", b"\x81\x00", b"\x80\x80",
                 b"\x82\xfe\x00\x7d", b"\x82\xff" + bytes(6) + b"\xff\xff",
                 b"\x82\xff\x80" + bytes(7), b"\x82\x86", b"\x82\xfe\x01\x00",
                 b"\x81\x85\0\0\0\0\xed\xa0", b"\x88\x81\0\0\0\0\x03"):  # fmt: skip
        *before, last = results(new_decoder(core, max_message_bytes=5), pieces_of(data, 1))
        assert flat(before) == [], data
        assert [event[0] for event in last] == ["Failed"], data


@both_cores
def test_codes_that_a_close_may_carry(core):
    permitted = set()
    for code in range(1 << 16):
        (event,) = new_decoder(core, role="client").receive_data(struct.pack("!HH", 0x8802, code))
        assert event.code == (code if isinstance(event, core.Close) else 1002)
        if isinstance(event, core.Close):
            permitted.add(code)
    assert permitted == {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


# The decoder's contract ---------------------------------------------------------------------------


@both_cores
def test_defaults_are_a_server_and_a_mebibyte(core):
    assert new_decoder(core).receive_data(b"\x82\xff" + struct.pack("!Q", 1 << 20)) == []
    (failed,) = new_decoder(core).receive_data(b"\x82\xff" + struct.pack("!Q", (1 << 20) + 1))
    assert failed.code == 1009
    (failed,) = new_decoder(core).receive_data(b"\x82\x00")
    assert failed.code == 1002


@both_cores
def test_unknown_role_is_a_usage_error(core):
    with pytest.raises(core.UsageError, match="proxy"):
        new_decoder(core, role="proxy")


@both_cores
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_input_may_be_any_bytes_like_object(core, kind):
    decoder = new_decoder(core, role="client")
    assert flat(results(decoder, [kind(b"\x81"), kind(b"\x02hi")])) == [("Message", 1, b"hi")]


@both_cores
def test_text_or_number_as_input_is_a_type_error(core):
    for wrong in ("\x81\x00", 2, None):
        with pytest.raises(TypeError):
            new_decoder(core).receive_data(wrong)


@both_cores
def test_input_buffer_may_be_reused_after_the_call(core):
    decoder = new_decoder(core, role="client")
    first, second = bytearray(b"\x82\x02a"), bytearray(b"b\x89\x01p\x8a")
    decoder.receive_data(first)
    first[:] = bytes(3)
    events = decoder.receive_data(second)
    second[:] = bytes(5)
    assert [plain(event) for event in events] == [("Message", 2, b"ab"), ("Ping", b"p")]
    assert [plain(event) for event in decoder.receive_data(b"\x00")] == [("Pong", b"")]


@both_cores
def test_payloads_are_bytes(core):
    events = new_decoder(core, role="client").receive_data(
        bytearray(b"\x82\x01a\x89\x01b\x8a\x01c")
    )
    assert [type(event.payload) for event in events] == [bytes, bytes, bytes]


@both_cores
def test_end_of_input_without_a_close_fails_with_1006(core):
    for data in (b"", b"\x81", b"\x81\x80\0\0\0\0", b"\x82\x85\0\0\0\0ab", b"\x88\x82\0\0"):
        decoder = new_decoder(core)
        decoder.receive_data(data)
        assert [plain(event) for event in decoder.receive_eof()] == [("Failed", 1006)]
        assert decoder.receive_eof() == []


@both_cores
def test_end_of_input_after_a_close_or_a_fault_is_no_event(core):
    for data in (b"\x88\x80\0\0\0\0", b"\xff\xff"):
        decoder = new_decoder(core)
        assert len(decoder.receive_data(data)) == 1
        assert decoder.receive_data(b"\x89\x80\0\0\0\0") == []
        assert decoder.receive_eof() == []


@both_cores
def test_data_after_the_end_of_input_is_a_usage_error(core):
    for data in (b"", b"\x88\x80\0\0\0\0"):
        decoder = new_decoder(core)
        decoder.receive_data(data)
        decoder.receive_eof()
        with pytest.raises(core.UsageError, match="receive_eof"):
            decoder.receive_data(b"")


@both_cores
def test_buffered_bytes_counts_what_waits(core):
    decoder = new_decoder(core, role="client")
    counts = []
    for piece in (b"\x01\x03H", b"el", b"\x89", b"\x02p", b"q", b"\x80\x02l", b"o", b"\x88"):
        decoder.receive_data(piece)
        counts.append(decoder.buffered_bytes)
    assert counts == [1, 3, 4, 6, 3, 4, 0, 1]


@both_cores
def test_nothing_is_buffered_after_a_close_a_fault_or_the_end(core):
    for last in (b"\x88\x00rest", b"\xff\xffrest"):
        decoder = new_decoder(core, role="client")
        decoder.receive_data(b"\x01\x03Hel" + last)
        decoder.receive_data(b"more")
        assert decoder.buffered_bytes == 0
    decoder = new_decoder(core, role="client")
    decoder.receive_data(b"\x01\x03Hel\x89")
    decoder.receive_eof()
    assert decoder.buffered_bytes == 0


@both_cores
def test_events_are_values(core):
    (event,) = new_decoder(core, role="client").receive_data(b"\x81\x02hi")
    assert event == core.Message(1, b"hi")
    assert event != core.Message(2, b"hi")
    assert event != (1, b"hi")
    assert core.Close(1000, "") != core.Failed(1000, "")
    assert core.Ping(b"p") != core.Pong(b"p")
    assert repr(event).startswith("Message(")
    with pytest.raises(AttributeError):
        event.payload = b""


@both_cores
def test_events_can_be_matched(core):
    match core.Message(1, b"hi"):
        case core.Message(opcode, payload):
            assert (opcode, payload) == (1, b"hi")
    fields = {
        name: getattr(core, name).__match_args__ for name in ("Ping", "Pong", "Close", "Failed")
    }
    assert fields == {
        "Ping": ("payload",),
        "Pong": ("payload",),
        "Close": ("code", "reason"),
        "Failed": ("code", "reason"),
    }


@both_cores
def test_reason_of_each_failure_fits_into_a_close_frame(core):
    for vector in VECTORS:
        decoder = new_decoder(
            core, role=vector["role"], max_message_bytes=vector["max_message_bytes"]
        )
        for event in decoder.receive_data(expand(vector["input"])):
            if isinstance(event, core.Failed):
                assert 0 < len(event.reason.encode()) <= 123


# encode_frame and apply_mask ----------------------------------------------------------------------


@both_cores
def test_examples_of_section_5_7_are_encoded_byte_for_byte(core):
    encode = core.encode_frame
    assert encode(1, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert encode(1, b"Hello", mask=KEY) == bytes.fromhex("818537fa213d7f9f4d5158")
    assert encode(1, b"Hel", fin=False) + encode(0, b"lo") == bytes.fromhex("010348656c80026c6f")
    assert encode(9, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert encode(10, b"Hello", mask=KEY) == bytes.fromhex("8a8537fa213d7f9f4d5158")
    assert encode(2, bytes(256)) == bytes.fromhex("827e0100") + bytes(256)
    assert encode(2, bytes(65536)) == bytes.fromhex("827f0000000000010000") + bytes(65536)


@both_cores
@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e007e"),
        (65535, "827effff"),
        (65536, "827f0000000000010000"),
    ],
)
def test_length_is_encoded_in_its_shortest_form(core, length, header):
    payload = b"a" * length
    assert core.encode_frame(2, payload) == bytes.fromhex(header) + payload


@both_cores
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_payload_and_data_may_be_any_bytes_like_object(core, kind):
    assert core.encode_frame(1, kind(b"Hello")) == b"\x81\x05Hello"
    assert core.apply_mask(kind(b"Hello"), KEY) == bytes.fromhex("7f9f4d5158")


@both_cores
@pytest.mark.parametrize("opcode", [-1, 3, 7, 11, 15, 16, 129, 256, 1 << 40])
def test_encoding_a_reserved_opcode_is_a_usage_error(core, opcode):
    with pytest.raises(core.UsageError):
        core.encode_frame(opcode, b"")


@both_cores
@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_encoding_a_long_or_fragmented_control_frame_is_a_usage_error(core, opcode):
    assert len(core.encode_frame(opcode, bytes(125))) == 127
    with pytest.raises(core.UsageError):
        core.encode_frame(opcode, bytes(126))
    with pytest.raises(core.UsageError):
        core.encode_frame(opcode, b"", fin=False)


@both_cores
@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_key_that_is_not_four_bytes_is_a_usage_error(core, key):
    with pytest.raises(core.UsageError):
        core.encode_frame(1, b"", mask=key)
    with pytest.raises(core.UsageError):
        core.apply_mask(b"", key)


@both_cores
def test_masking_agrees_with_its_definition_at_every_length(core):
    data = bytes(range(256)) * 5
    for length in (*range(140), 511, 512, 513, 1024, 1279):
        masked = bytes(data[i] ^ KEY[i % 4] for i in range(length))
        assert core.apply_mask(data[:length], KEY) == masked


# Properties ---------------------------------------------------------------------------------------

keys = st.binary(min_size=4, max_size=4)
roles = st.sampled_from(["server", "client"])

# UTF-8, what is nearly UTF-8, and anything.
edges = [b"a", b"\x80", b"\xc0", b"\xc3", b"\xa9", b"\xe0", b"\xed", b"\xa0", b"\xf0", b"\x9f",
         b"\xf4", b"\x90", b"\xbf", b"\xff", "é".encode(), "€".encode(), "🌅".encode()]  # fmt: skip
texts = st.text(max_size=40).map(str.encode)
payloads = st.one_of(
    texts,
    st.lists(st.sampled_from(edges), max_size=12).map(b"".join),
    st.binary(max_size=150),
    st.integers(125, 300).map(bytes),
)
close_payloads = st.builds(
    lambda code, reason: (struct.pack("!H", code) + reason)[:MAX_CONTROL_BYTES],
    st.sampled_from([999, 1000, 1005, 1014, 1015, 3000, 4999, 5000]),
    payloads,
)
controls = st.tuples(st.sampled_from([9, 10]), st.binary(max_size=MAX_CONTROL_BYTES))
messages = st.one_of(st.tuples(st.just(1), texts), st.tuples(st.just(2), payloads))


@st.composite
def masks(draw, role):
    """What `encode_frame` takes as `mask` to send to a decoder of this role."""
    return draw(keys) if role == "server" else None


@st.composite
def cuts(draw, data):
    """`data` in one to six pieces, some perhaps empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=5)))
    return [data[start:end] for start, end in pairwise([0, *places, len(data)])]


@st.composite
def conversations(draw, role):
    """Valid frames for a decoder of this role, with the events that they are."""
    frames, events = [], []

    def frame(opcode, payload, fin=True):
        mask = draw(masks(role))
        frames.append(reference_decoder.encode_frame(opcode, payload, fin=fin, mask=mask))

    def perhaps_controls():
        for opcode, payload in draw(st.lists(controls, max_size=1)):
            frame(opcode, payload)
            events.append(("Ping" if opcode == 9 else "Pong", payload))

    for opcode, payload in draw(st.lists(messages, max_size=4)):
        *fragments, last = draw(cuts(payload))
        for index, fragment in enumerate(fragments):
            frame(0 if index else opcode, fragment, fin=False)
            perhaps_controls()
        frame(0 if fragments else opcode, last)
        events.append(("Message", opcode, payload))
        perhaps_controls()
    return frames, events


@st.composite
def odd_frames(draw, role):
    """A frame that may be out of place or forbidden, with a payload that may suit it."""
    permitted = [0x01, 0x81, 0x02, 0x00, 0x80, 0x88, 0x88, 0x89]
    forbidden = [0xC1, 0x83, 0x8B, 0x08, 0x09]
    first = draw(st.sampled_from(permitted * 2 + forbidden))
    payload = draw(close_payloads if first == 0x88 else payloads)
    frame = reference_decoder.encode_frame(2, payload, mask=draw(masks(role)))
    return bytes([first]) + frame[1:]


@st.composite
def disturbed(draw, role):
    """Frames, most of them valid, in any order and with damage."""
    valid, _ = draw(conversations(role))
    data = bytearray(b"".join(valid + draw(st.lists(odd_frames(role), max_size=4))))
    for _ in range(draw(st.integers(0, 2)) if data else 0):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2)) + b"\0"
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def inputs(draw):
    """Settings of a decoder, and bytes from a good, careless or hostile peer, in pieces."""
    role = draw(roles)
    limit = draw(st.sampled_from([0, 5, 125, 200, *[1 << 20] * 4]))
    conversation = conversations(role).map(lambda drawn: b"".join(drawn[0]))
    data = draw(st.one_of(conversation, disturbed(role), disturbed(role), st.binary(max_size=60)))
    return {"role": role, "max_message_bytes": limit}, draw(cuts(data))


@settings(fixed, max_examples=500)
@given(inputs())
def test_native_gives_the_events_of_the_reference_in_the_same_calls(given_input):
    options, pieces = given_input
    native, reference = (new_decoder(core, **options) for core in (rakit_ws, reference_decoder))
    for piece in pieces:
        assert results(native, [piece]) == results(reference, [piece])
        assert native.buffered_bytes == reference.buffered_bytes
    assert [plain(event) for event in native.receive_eof()] == [
        plain(event) for event in reference.receive_eof()
    ]


@both_cores
@fixed
@given(inputs())
def test_events_do_not_depend_on_how_the_input_was_cut(core, given_input):
    options, pieces = given_input
    data = b"".join(pieces)
    whole = flat(results(new_decoder(core, **options), [data]))
    assert flat(results(new_decoder(core, **options), pieces)) == whole
    assert flat(results(new_decoder(core, **options), pieces_of(data, 1))) == whole


@both_cores
@fixed
@given(inputs())
def test_buffered_bytes_stay_within_the_limit(core, given_input):
    options, pieces = given_input
    decoder = new_decoder(core, **options)
    most = options["max_message_bytes"] + MAX_HEADER_BYTES + MAX_CONTROL_BYTES
    received = 0
    for piece in pieces:
        decoder.receive_data(piece)
        received += len(piece)
        assert 0 <= decoder.buffered_bytes <= min(most, received)


@both_cores
@fixed
@given(st.data())
def test_what_was_encoded_is_decoded(core, data):
    role = data.draw(roles)
    frames, events = data.draw(conversations(role))
    decoder = new_decoder(core, role=role)
    assert flat(results(decoder, data.draw(cuts(b"".join(frames))))) == events
    assert decoder.buffered_bytes == 0


@fixed
@given(st.integers(-1, 16), payloads, st.booleans(), st.none() | st.binary(min_size=3, max_size=5))
def test_native_encodes_as_the_reference_does(opcode, payload, fin, mask):
    try:
        frame = reference_decoder.encode_frame(opcode, payload, fin=fin, mask=mask)
    except reference_decoder.UsageError:
        with pytest.raises(rakit_ws.UsageError):
            rakit_ws.encode_frame(opcode, payload, fin=fin, mask=mask)
    else:
        assert rakit_ws.encode_frame(opcode, payload, fin=fin, mask=mask) == frame


@both_cores
@fixed
@given(st.binary(max_size=2000), keys)
def test_masking_twice_is_nothing(core, data, key):
    masked = core.apply_mask(data, key)
    assert masked == reference_decoder.apply_mask(data, key)
    assert core.apply_mask(masked, key) == data
