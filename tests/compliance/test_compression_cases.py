"""
Groups 12 and 13: compressed messages, against `examples/echo.py`.

Group 12 sends five kinds of data with the default offer, group 13 one kind with seven offers; each in
18 sizes, in one frame or in fragments. The suite sends a thousand messages a case, we fewer. The
peer is Python's zlib, whose window is no larger than what was agreed on.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import zlib
from dataclasses import dataclass

import pytest
from cases import NORMAL
from peer import Peer, echo_server

from raw_client import BINARY, CONTINUATION, TEXT, close, frame

# Size of a message, and of its fragments after compression; None for one frame.
SIZES = [(size, None) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
SIZES += [(size, 256) for size in (8192, 16384, 32768, 65536, 131072)]
SIZES += [(131072, size) for size in (1024, 4096, 32768)]

# Every offer says that the client can do without context, and with a smaller window.
BOTH = "client_no_context_takeover; client_max_window_bits"
PLAIN = f"permessage-deflate; {BOTH}"
NO_CONTEXT = f"permessage-deflate; server_no_context_takeover; {BOTH}"
OFFERS = [
    PLAIN,
    NO_CONTEXT,
    f"{PLAIN}; server_max_window_bits=9",
    f"{PLAIN}; server_max_window_bits=15",
    f"{NO_CONTEXT}; server_max_window_bits=9",
    f"{NO_CONTEXT}; server_max_window_bits=15",
    f"{NO_CONTEXT}; server_max_window_bits=9, {NO_CONTEXT}, {PLAIN}",
]
ASKED = re.compile(r"server_max_window_bits=(\d+)")
# What a message lacks (RFC 7692 §7.2.1).
TAIL = b"\x00\x00\xff\xff"


def rounds(size):
    return 30 if size < 8192 else 8 if size < 65536 else 4


# --- What is sent


def records():
    dice = random.Random(1)
    rows = [
        {"id": number, "name": f"Nama {dice.randrange(900)} 名前", "score": dice.random()}
        for number in range(4000)
    ]
    return json.dumps(rows, ensure_ascii=False)


def picture():
    dice = random.Random(2)
    return bytes((x * y // 64 + dice.randrange(4)) % 256 for y in range(512) for x in range(512))


def prose():
    dice = random.Random(3)
    words = [
        dice.choice("bdfgklmnprst") + dice.choice("aeiou") * dice.randrange(1, 3)
        for _ in range(300)
    ]
    return " ".join(dice.choice(words) for _ in range(60_000)).encode()


def markup():
    return "".join(
        f'<li class="row-{n % 7}"><a href="/é/{n}">Nr. {n}</a></li>\n' for n in range(6000)
    )


def incompressible():
    return random.Random(5).randbytes(300_000)


DATA = {}


def data(kind):
    """Return what a kind of data is, made once."""
    if kind not in DATA:
        DATA[kind] = kind()
    return DATA[kind]


KINDS = [records, picture, prose, markup, incompressible]


@dataclass(frozen=True)
class Case:
    """Messages of one size from one kind of data, with one offer."""

    number: str
    kind: object
    offer: str
    size: int
    fragment_size: int | None

    def messages(self):
        """Yield opcode and payload of each message: the next part of the data."""
        everything = data(self.kind)
        opcode = BINARY if isinstance(everything, bytes) else TEXT
        for index in range(rounds(self.size)):
            start = index * self.size % (len(everything) - self.size)
            part = everything[start : start + self.size]
            yield opcode, part if opcode == BINARY else part.encode()


def all_cases():
    for group, kind in enumerate(KINDS, start=1):
        for index, (size, fragment_size) in enumerate(SIZES, start=1):
            yield Case(f"12.{group}.{index}", kind, PLAIN, size, fragment_size)
    for group, offer in enumerate(OFFERS, start=1):
        for index, (size, fragment_size) in enumerate(SIZES, start=1):
            yield Case(f"13.{group}.{index}", records, offer, size, fragment_size)


CASES = list(all_cases())


# --- Who sends it


class CompressingPeer(Peer):
    """A client that compresses everything, as was agreed on."""

    def __init__(self, port, offer):
        super().__init__(port, headers=[("Sec-WebSocket-Extensions", offer)])
        line = re.search(r"(?im)^sec-websocket-extensions: permessage-deflate(.*?)\r$", self.head)
        assert line, self.head
        pairs = (part.strip().partition("=") for part in line[1].split(";")[1:])
        self.agreed = {name: value for name, _, value in pairs}
        check_agreement(self.agreed, offer)
        self.server_bits = int(self.agreed.get("server_max_window_bits", 15))
        self.client_bits = int(self.agreed.get("client_max_window_bits", 15))
        self.deflater = self.inflater = None

    def send_compressed(self, opcode, payload, fragment_size):
        if self.deflater is None or "client_no_context_takeover" in self.agreed:
            self.deflater = zlib.compressobj(1, zlib.DEFLATED, -self.client_bits)
        compressed = self.deflater.compress(payload) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
        compressed = compressed.removesuffix(TAIL)
        size = fragment_size or len(compressed)
        starts = range(0, len(compressed), size)
        self.send(
            b"".join(
                frame(
                    CONTINUATION if start else opcode,
                    compressed[start : start + size],
                    fin=start + size >= len(compressed),
                    reserved=0 if start else 4,
                )
                for start in starts
            )
        )

    def read_message(self):
        """Read a message, which may be compressed; return its opcode and payload."""
        first, payload = self.read_any_frame()
        assert first & 0xB0 == 0x80
        if first & 0x40:
            if self.inflater is None or "server_no_context_takeover" in self.agreed:
                self.inflater = zlib.decompressobj(-self.server_bits)
            payload = self.inflater.decompress(payload + TAIL)
            assert not self.inflater.unconsumed_tail
        return first & 0x0F, payload


def check_agreement(agreed, offer):
    """Check that an answer is one that some offer allows (RFC 7692 §7.1)."""
    assert set(agreed) <= {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }
    first = offer.split(",")[0]
    if "server_no_context_takeover" in first:
        assert "server_no_context_takeover" in agreed
    if asked := ASKED.search(first):
        assert 8 <= int(agreed["server_max_window_bits"]) <= int(asked[1])


@pytest.fixture(scope="module")
def echo_port():
    with echo_server() as port:
        yield port


def test_no_case_of_these_groups_is_missing():
    assert len(CASES) == 216
    assert len({case.number for case in CASES}) == 216


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_case(echo_port, case):
    with contextlib.closing(CompressingPeer(echo_port, case.offer)) as peer:
        for opcode, payload in case.messages():
            peer.send_compressed(opcode, payload, case.fragment_size)
            assert peer.read_message() == (opcode, payload)
        peer.send(close(NORMAL))
        assert peer.read_close() == NORMAL
        assert peer.at_end()
