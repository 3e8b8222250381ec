"""
What each case of the conformance suite sends, and what a strict server answers.

The numbers are those of the Autobahn TestSuite, so that a case can be looked up there; frames and
expectations are ours, from RFC 6455. Where that suite is content with several outcomes, here is
one: the strictest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raw_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame

# How a case's bytes are cut: all in one write, or a write for each frame; otherwise a size.
AT_ONCE, FRAME_WISE, OCTET_WISE = 0, -1, 1

# Instead of a frame: so far nothing may have come that was not read, a Close neither.
QUIET = b""

NORMAL, PROTOCOL_ERROR, INVALID_PAYLOAD = 1000, 1002, 1007
HELLO = "Hello, world!"


@dataclass(frozen=True)
class Case:
    """
    One connection's life.

    `sends` are frames; an (opcode, payload) pair among them is an answer that must come before
    the next one is sent. `answers` must come at the end, in order and with nothing in between.
    Then the server's Close must have `code`; where that is None the server has no reason to
    close, so the client does, with 1000.
    """

    number: str
    sends: list[bytes | tuple[int, bytes]] = field(repr=False)
    answers: list[tuple[int, bytes]] = field(repr=False)
    code: int | None = None
    cut: int = AT_ONCE
    # How often the whole exchange is repeated, before a Close.
    rounds: int = 1


@dataclass(frozen=True)
class Echo:
    """A message that comes back as it was sent; `sends` and `answers` are made when asked for."""

    number: str
    pattern: bytes
    length: int
    opcode: int = TEXT
    fragment_size: int | None = None
    ends_empty: bool = False
    cut: int = AT_ONCE
    rounds: int = 1
    code: None = None

    @property
    def payload(self):
        return (self.pattern * (self.length // len(self.pattern) + 1))[: self.length]

    @property
    def sends(self):
        frames = fragments(self.payload, self.fragment_size, self.opcode)
        if self.ends_empty:
            frames[-1] = bytes([frames[-1][0] & 0x7F]) + frames[-1][1:]
            frames.append(frame(CONTINUATION))
        return frames

    @property
    def answers(self):
        return [(self.opcode, self.payload)]


def echoed(number, text, **how):
    """Make a case in which this text comes back as it was sent."""
    return Echo(number, text or b"-", len(text), **how)


def refused(number, *sends, code=PROTOCOL_ERROR, answers=(), **how):
    """Make a case in which the server must fail the connection."""
    return Case(number, list(sends), list(answers), code, **how)


def fragments(payload, size, opcode=TEXT):
    """Make the frames of one message: one, or one for each `size` bytes of it."""
    if size is None or len(payload) <= size:
        return [frame(opcode, payload)]
    starts = range(0, len(payload), size)
    return [
        frame(
            CONTINUATION if start else opcode,
            payload[start : start + size],
            fin=start + size >= len(payload),
        )
        for start in starts
    ]


# --- 1 to 4: framing, control frames, reserved bits, opcodes


def framing():
    sizes = [0, 125, 126, 127, 128, 65535, 65536, 65536]
    for index, size in enumerate(sizes, start=1):
        cut = 997 if index == 8 else AT_ONCE
        yield Echo(f"1.1.{index}", b"*", size, cut=cut)
        yield Echo(f"1.2.{index}", b"\xfe", size, BINARY, cut=cut)


def pings_and_pongs():
    binary = bytes.fromhex("00fffefdfcfb00ff")
    full = b"\xfe" * 125
    unsolicited = frame(PONG, "nobody asked")

    def ponged(number, payload, **how):
        return Case(number, [frame(PING, payload)], [(PONG, payload)], **how)

    yield ponged("2.1", b"")
    yield ponged("2.2", HELLO.encode())
    yield ponged("2.3", binary)
    yield ponged("2.4", full)
    yield refused("2.5", frame(PING, b"\xfe" * 126))
    yield ponged("2.6", full, cut=OCTET_WISE)
    yield Case("2.7", [frame(PONG), close(NORMAL)], [], NORMAL)
    yield Case("2.8", [unsolicited, close(NORMAL)], [], NORMAL)
    yield Case("2.9", [unsolicited, frame(PING, "asked")], [(PONG, b"asked")])
    ten = [b"number %d" % index for index in range(10)]
    for number, cut in [("2.10", AT_ONCE), ("2.11", OCTET_WISE)]:
        yield Case(
            number, [frame(PING, each) for each in ten], [(PONG, each) for each in ten], cut=cut
        )


def after_a_greeting(number, offence, **how):
    """The echo of what came before the offence precedes the Close; the ping after it is void."""
    return refused(
        number,
        frame(TEXT, HELLO),
        offence,
        frame(PING),
        answers=[(TEXT, HELLO.encode())],
        **how,
    )


def reserved_bits():
    yield refused("3.1", frame(TEXT, HELLO, reserved=1))
    yield after_a_greeting("3.2", frame(TEXT, HELLO, reserved=2))
    yield after_a_greeting("3.3", frame(TEXT, HELLO, reserved=3), cut=FRAME_WISE)
    yield after_a_greeting("3.4", frame(TEXT, HELLO, reserved=4), cut=OCTET_WISE)
    yield refused("3.5", frame(BINARY, b"\x00\xff", reserved=5))
    yield refused("3.6", frame(PING, HELLO, reserved=6))
    yield refused("3.7", frame(CLOSE, reserved=7))


def opcodes():
    for group, first in [(1, 0x3), (2, 0xB)]:
        yield refused(f"4.{group}.1", frame(first))
        yield refused(f"4.{group}.2", frame(first + 1, "reserved"))
        yield after_a_greeting(f"4.{group}.3", frame(first + 2))
        yield after_a_greeting(f"4.{group}.4", frame(first + 3, HELLO))
        yield after_a_greeting(f"4.{group}.5", frame(first + 4, HELLO), cut=OCTET_WISE)


# --- 5: fragmentation

CUTS = [AT_ONCE, FRAME_WISE, OCTET_WISE]


def fragmentation():
    first, last = frame(TEXT, "one", fin=False), frame(CONTINUATION, "two")
    middle = frame(CONTINUATION, "mid", fin=False)
    whole = (TEXT, b"onetwo")
    ping, pong = frame(PING, "now"), (PONG, b"now")

    yield refused("5.1", frame(PING, "one", fin=False), last)
    yield refused("5.2", frame(PONG, "one", fin=False), last)
    for number, cut in zip(("5.3", "5.4", "5.5"), CUTS, strict=True):
        yield Case(number, [first, last], [whole], cut=cut)
    for number, cut in zip(("5.6", "5.7", "5.8"), CUTS, strict=True):
        yield Case(number, [first, ping, last], [pong, whole], cut=cut)
    # A continuation of nothing, final or not.
    for number, cut in zip(("5.9", "5.10", "5.11"), CUTS, strict=True):
        yield refused(number, frame(CONTINUATION, "?"), frame(TEXT, HELLO), cut=cut)
    for number, cut in zip(("5.12", "5.13", "5.14"), CUTS, strict=True):
        yield refused(number, frame(CONTINUATION, "?", fin=False), frame(TEXT, HELLO), cut=cut)
    yield refused("5.15", first, last, middle, frame(TEXT, HELLO), answers=[whole])
    yield refused("5.16", *[frame(CONTINUATION, "?", fin=False), first, last] * 2)
    yield refused("5.17", *[frame(CONTINUATION, "?"), first, last] * 2)
    yield refused("5.18", first, frame(TEXT, "two"))
    # The pong of the first ping comes while the message is still under way.
    for number, cut in [("5.19", AT_ONCE), ("5.20", FRAME_WISE)]:
        yield Case(
            number,
            [first, middle, ping, pong, QUIET, middle, middle, ping, last],
            [pong, (TEXT, b"onemidmidmidtwo")],
            cut=cut,
        )


# --- 6: UTF-8

# Eleven bytes: the Greek word kosme, one letter of it three bytes long.
GREEK = bytes.fromhex("ceba e1bdb9 cf83 cebc ceb5")
# Refused at the thirteenth byte of each: 0xA0, 0x90.
SURROGATE = GREEK + b"\xed\xa0\x80" + b"edited"
OUT_OF_RANGE = GREEK + b"\xf4\x90\x80\x80" + b"edited"
INCOMPLETE = ["c0", "e080", "f08080", "f8808080", "fc80808080"]
INCOMPLETE += ["df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"]
# High and low halves of UTF-16 pairs, at the edges of their ranges.
HIGH = ["eda080", "edadbf", "edae80", "edafbf"]
LOW = ["edb080", "edbfbf"]

# The texts of 6.5 to 6.23, each group under its number: valid ones, and others.
VALID, INVALID = True, False
TEXTS = {
    5: [
        (VALID, f"hello{character}world".encode().hex())
        for character in ("\x24", "\xa2", "\u20ac", "\U00024b62")
    ]
    + [(VALID, GREEK.hex())],
    # Every beginning of the Greek word; those that end within a character are incomplete.
    6: [(end in (2, 5, 7, 9, 11), GREEK[:end].hex()) for end in range(1, 12)],
    7: [(VALID, text) for text in ("00", "c280", "e0a080", "f0908080")],
    8: [(INVALID, text) for text in ("f888808080", "fc8480808080")],
    9: [(VALID, text) for text in ("7f", "dfbf", "efbfbf", "f48fbfbf")],
    10: [(INVALID, text) for text in ("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf")],
    11: [(VALID, text) for text in ("ed9fbf", "ee8080", "efbfbd", "f48fbfbf")]
    + [(INVALID, "f4908080")],
    12: [(INVALID, text) for text in ("80", "bf", "80bf", "80bf80", "80bf80bf")]
    + [(INVALID, text) for text in ("80bf80bf80", "80bf80bf80bf")]
    + [(INVALID, bytes(range(0x80, 0xBF)).hex())],
    13: [
        (INVALID, "".join(f"{lead:02x}20" for lead in range(start, end)))
        for start, end in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ],
    14: [(INVALID, text) for text in INCOMPLETE],
    15: [(INVALID, "".join(INCOMPLETE))],
    16: [(INVALID, text) for text in ("fe", "ff", "fefeffff")],
    17: [(INVALID, text) for text in ("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af")],
    18: [(INVALID, text) for text in ("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf")],
    19: [(INVALID, text) for text in ("c080", "e08080", "f0808080", "f880808080", "fc8080808080")],
    20: [(INVALID, text) for text in [*HIGH, "edb080", "edbe80", "edbfbf"]],
    21: [(INVALID, high + low) for high in HIGH for low in LOW],
    # What Unicode calls no characters is valid UTF-8 all the same: the last two of each plane.
    22: [(VALID, "efbfbe"), (VALID, "efbfbf")]
    + [
        (VALID, chr(plane << 16 | low).encode().hex())
        for plane in range(1, 17)
        for low in (0xFFFE, 0xFFFF)
    ],
    23: [(VALID, chr(code).encode().hex()) for code in range(0xFFF9, 0x10000)],
}


def texts():
    """Yield number, whether it is valid, and the bytes of every text of 6.5 to 6.23."""
    for group, rows in TEXTS.items():
        for index, (valid, text) in enumerate(rows, start=1):
            yield f"6.{group}.{index}", valid, bytes.fromhex(text)


def utf8():
    empty = [frame(TEXT, fin=False), frame(CONTINUATION, fin=False), frame(CONTINUATION)]
    accented = "Größe: 5 µm @ café, déjà vu".encode()
    yield echoed("6.1.1", b"")
    yield Case("6.1.2", empty, [(TEXT, b"")])
    yield Case(
        "6.1.3",
        [empty[0], frame(CONTINUATION, "middle", fin=False), empty[2]],
        [(TEXT, b"middle")],
    )
    yield echoed("6.2.1", accented)
    # Cut between two characters, and within each.
    yield echoed("6.2.2", accented, fragment_size=len("Größe: 5 µ".encode()))
    yield echoed("6.2.3", accented, fragment_size=1)
    yield echoed("6.2.4", GREEK, fragment_size=1)
    yield refused("6.3.1", frame(TEXT, SURROGATE), code=INVALID_PAYLOAD)
    yield refused("6.3.2", *fragments(SURROGATE, 1), code=INVALID_PAYLOAD)
    yield from fail_fast()
    for number, valid, text in texts():
        if valid:
            yield echoed(number, text)
        else:
            yield refused(number, frame(TEXT, text), code=INVALID_PAYLOAD)


def fail_fast():
    """
    What proves that a text is invalid must be answered before any more of it was sent.

    In 6.4.1 and 6.4.2 it is in the second of three fragments, in the other two in the second of
    three pieces of one frame. The third never comes.
    """
    text = OUT_OF_RANGE
    # 6.4.2 and 6.4.4 send the proof alone: the beginning of the bad character came before it.
    for number, start, end in [("6.4.1", 11, 15), ("6.4.2", 12, 13)]:
        yield refused(
            number,
            frame(TEXT, text[:start], fin=False),
            QUIET,
            frame(CONTINUATION, text[start:end], fin=False),
            code=INVALID_PAYLOAD,
        )
    whole = frame(TEXT, text)
    header = len(whole) - len(text)
    for number, start, end in [("6.4.3", 11, 15), ("6.4.4", 12, 13)]:
        yield refused(
            number,
            whole[: header + start],
            QUIET,
            whole[header + start : header + end],
            code=INVALID_PAYLOAD,
        )


# --- 7: the closing handshake

VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
UNDEFINED_CODES = [5000, 65535]


def closing():
    bye = close(NORMAL)
    hello = (TEXT, HELLO.encode())
    big = b"0123456789abcdef" * (16 * 1024)

    def closed(number, *sends, answers=(), code=NORMAL):
        return Case(number, list(sends), list(answers), code)

    yield closed("7.1.1", frame(TEXT, HELLO), bye, answers=[hello])
    # What follows a Close is ignored.
    yield closed("7.1.2", bye, close())
    yield closed("7.1.3", bye, frame(PING))
    yield closed("7.1.4", bye, frame(TEXT, HELLO))
    yield closed("7.1.5", frame(TEXT, "one", fin=False), bye, frame(CONTINUATION, "two"))
    # Both echoes precede the Close, large as the first one is.
    yield closed(
        "7.1.6",
        frame(TEXT, big),
        frame(TEXT, HELLO),
        bye,
        frame(PING),
        answers=[(TEXT, big), hello],
    )
    yield closed("7.3.1", close(), code=NO_CODE)
    yield closed("7.3.2", frame(CLOSE, b"a"), code=PROTOCOL_ERROR)
    yield closed("7.3.3", bye)
    yield closed("7.3.4", close(NORMAL, HELLO))
    yield closed("7.3.5", close(NORMAL, "*" * 123))
    yield closed("7.3.6", close(NORMAL, "*" * 124), code=PROTOCOL_ERROR)
    bad_reason = frame(CLOSE, NORMAL.to_bytes(2, "big") + SURROGATE)
    yield closed("7.5.1", bad_reason, code=INVALID_PAYLOAD)
    for index, code in enumerate(VALID_CODES, start=1):
        yield closed(f"7.7.{index}", close(code), code=code)
    for index, code in enumerate(INVALID_CODES, start=1):
        yield closed(f"7.9.{index}", close(code), code=PROTOCOL_ERROR)
    for index, code in enumerate(UNDEFINED_CODES, start=1):
        yield closed(f"7.13.{index}", close(code), code=PROTOCOL_ERROR)


# A Close without a code is answered with one that has none (RFC 6455 §7.1.5).
NO_CODE = 1005


# --- 9 and 10: sizes, fragments, pieces, round trips

KIB, MIB = 1 << 10, 1 << 20
KINDS = [(1, TEXT, b"lorem ipsum "), (2, BINARY, b"\x00\xff\x80\x7f\xc3")]
ROUNDS = 1000


def sizes():
    for group, opcode, pattern in KINDS:
        for index, size in enumerate((64, 256, 1024, 4096, 8192, 16384), start=1):
            yield Echo(f"9.{group}.{index}", pattern, size * KIB, opcode)
    # 65,536 fragments of 64 bytes in 9.3.1 and 9.4.1, one of 4 MiB in 9.3.9 and 9.4.9; the last
    # one is empty.
    fragment_sizes = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB]
    for group, opcode, pattern in [(3, TEXT, b"*"), (4, BINARY, b"\xfe")]:
        for index, size in enumerate(fragment_sizes, start=1):
            yield Echo(f"9.{group}.{index}", pattern, 4 * MIB, opcode, size, ends_empty=True)
    for group, (_, opcode, pattern) in zip((5, 6), KINDS, strict=True):
        for index, size in enumerate((64, 128, 256, 512, 1024, 2048), start=1):
            yield Echo(f"9.{group}.{index}", pattern, MIB, opcode, cut=size)
    for group, opcode, pattern in [(7, TEXT, b"*"), (8, BINARY, b"\xfe")]:
        for index, size in enumerate((0, 16, 64, 256, 1024, 4096), start=1):
            yield Echo(f"9.{group}.{index}", pattern, size, opcode, rounds=ROUNDS)


def fragments_of_any_size():
    yield Echo("10.1.1", b"*", 65536, fragment_size=1300)


def all_cases():
    """Yield the cases of groups 1 to 7, 9 and 10, in the suite's order; it has no group 8."""
    yield from framing()
    yield from pings_and_pongs()
    yield from reserved_bits()
    yield from opcodes()
    yield from fragmentation()
    yield from utf8()
    yield from closing()
    yield from sizes()
    yield from fragments_of_any_size()
