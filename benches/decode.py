"""
Frames to messages, and masking: rakit_ws beside plain Python, websockets and wsproto.

    python benches/decode.py [--quick] [--json FILE]

Each implementation decodes the same stream of masked frames, as a server that reads 64 KiB at a
time: many small frames in a read, or a large one over many reads. Rounds are interleaved, so that
a slow moment of the machine meets all alike; a ratio is taken within each round. Figures are the
median of the rounds with their least and greatest. Text is ASCII, the kindest case for Python's
own decoder.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import machine
import reference_decoder
from reference_decoder import BINARY, TEXT

READ_BYTES = 64 * 1024
MASKS_A_PASS = 64
KEY = bytes.fromhex("37fa213d")
MAX_MESSAGE_BYTES = 4 << 20
SIZES = {"64 B": 64, "1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
TEXT_SAMPLE = b'{"event":"message","channel":"lobby","data":{"text":"selamat pagi","n":12345}} '

Kind = Literal["binary", "text", "mask"]
# Takes what one read brought; returns the messages that it completed, whole and validated.
Receive = Callable[[bytes], Sequence[object]]
Start = Callable[[], Receive]
# Masks the payload it was made for.
Mask = Callable[[], bytes]
# Does a fixed amount of work; returns how many messages that was.
Pass = Callable[[], int]


# The implementations. Each raises ImportError where it is not installed ---------------------------


def rakit_ws_decoder() -> Receive:
    import rakit_ws

    return rakit_ws.FrameDecoder(max_message_bytes=MAX_MESSAGE_BYTES).receive_data


def reference() -> Receive:
    return reference_decoder.ReferenceDecoder(max_message_bytes=MAX_MESSAGE_BYTES).receive_data


def websockets_protocol() -> Receive:
    from websockets.frames import Frame, Opcode
    from websockets.protocol import Protocol, Side

    protocol = Protocol(Side.SERVER, max_size=MAX_MESSAGE_BYTES)

    def receive(data: bytes) -> Sequence[object]:
        protocol.receive_data(data)
        # The protocol leaves UTF-8 to its caller; its own connections decode in this way.
        return [
            str(event.data, "utf-8") if event.opcode is Opcode.TEXT else event.data
            for event in protocol.events_received()
            if isinstance(event, Frame)
        ]

    return receive


def wsproto_connection() -> Receive:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import BytesMessage, TextMessage

    connection = Connection(ConnectionType.SERVER)
    parts: list[str | bytes | bytearray] = []

    def receive(data: bytes) -> Sequence[object]:
        messages: list[object] = []
        connection.receive_data(data)
        for event in connection.events():
            # It hands out a message in the pieces in which it arrived; whoever wants it whole joins.
            if isinstance(event, BytesMessage | TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    messages.append(parts[0] if len(parts) == 1 else joined(parts))
                    parts.clear()
        return messages

    return receive


def joined(parts: list[str | bytes | bytearray]) -> str | bytes:
    texts = [part for part in parts if isinstance(part, str)]
    if texts:
        return "".join(texts)
    return b"".join(part for part in parts if not isinstance(part, str))


def rakit_ws_mask(payload: bytes, key: bytes) -> Mask:
    import rakit_ws

    return partial(rakit_ws.apply_mask, payload, key)


def reference_mask(payload: bytes, key: bytes) -> Mask:
    return partial(reference_decoder.apply_mask, payload, key)


def websockets_mask(payload: bytes, key: bytes) -> Mask:
    from websockets.speedups import apply_mask

    return partial(apply_mask, payload, key)


def memcpy(payload: bytes, key: bytes) -> Mask:
    """Copy only: what nothing that returns new bytes can beat."""
    del key
    return partial(bytes, bytearray(payload))


DECODERS: dict[str, Start] = {
    "rakit_ws": rakit_ws_decoder,
    "reference (Python)": reference,
    "websockets": websockets_protocol,
    "wsproto": wsproto_connection,
}
MASKERS: dict[str, Callable[[bytes, bytes], Mask]] = {
    "rakit_ws": rakit_ws_mask,
    "reference (Python)": reference_mask,
    "websockets (C)": websockets_mask,
    "memcpy": memcpy,
}


# What they do ------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Payloads of `size` bytes, as frames to decode or as bytes to mask."""

    kind: Kind
    label: str
    size: int

    def __str__(self) -> str:
        return f"{self.kind} {self.label}"

    def payload(self) -> bytes:
        """Make the same bytes each time."""
        if self.kind == "text":
            return (TEXT_SAMPLE * (self.size // len(TEXT_SAMPLE) + 1))[: self.size]
        return random.Random(self.size).randbytes(self.size)


CASES = [
    Case(kind, label, size) for kind in ("binary", "text", "mask") for label, size in SIZES.items()
]


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, seconds of a round for each, most bytes and messages of a pass."""

    rounds: int
    sample_s: float
    stream_bytes: int
    max_messages: int


FULL = Effort(rounds=9, sample_s=0.03, stream_bytes=4 << 20, max_messages=8192)
QUICK = Effort(rounds=3, sample_s=0.005, stream_bytes=2 << 20, max_messages=1024)


def passes(case: Case, effort: Effort) -> dict[str, Pass]:
    """Return each installed implementation's way to do the case, after a check of its result."""
    if case.kind == "mask":
        return {name: masking(name, case) for name in MASKERS if name not in missing}
    chunks, payloads = reads(case, effort)
    return {name: decoding(name, chunks, payloads) for name in DECODERS if name not in missing}


def reads(case: Case, effort: Effort) -> tuple[list[bytes], list[bytes]]:
    """Return a stream of the case's messages in reads, and their payloads."""
    count = max(2, min(effort.max_messages, effort.stream_bytes // case.size))
    payload, keys = case.payload(), random.Random(count)
    opcode = TEXT if case.kind == "text" else BINARY
    stream = b"".join(
        reference_decoder.encode_frame(opcode, payload, mask=keys.randbytes(4))
        for _ in range(count)
    )
    chunks = [stream[at : at + READ_BYTES] for at in range(0, len(stream), READ_BYTES)]
    return chunks, [payload] * count


def decoding(name: str, chunks: Sequence[bytes], payloads: Sequence[bytes]) -> Pass:
    start = DECODERS[name]
    receive = start()
    if [payload_of(message) for chunk in chunks for message in receive(chunk)] != payloads:
        raise SystemExit(f"{name} decodes wrongly")

    def once() -> int:
        receive = start()
        count = 0
        for chunk in chunks:
            count += len(receive(chunk))
        return count

    return once


def payload_of(message: object) -> bytes:
    payload: Any = getattr(message, "payload", message)
    return payload.encode() if isinstance(payload, str) else bytes(payload)


def masking(name: str, case: Case) -> Pass:
    payload = case.payload()
    mask = MASKERS[name](payload, KEY)
    if mask() != (payload if name == "memcpy" else reference_decoder.apply_mask(payload, KEY)):
        raise SystemExit(f"{name} masks wrongly")

    def once() -> int:
        for _ in range(MASKS_A_PASS):
            mask()
        return MASKS_A_PASS

    return once


missing: dict[str, str] = {}


def note_missing() -> None:
    """Fill `missing` with what cannot be measured here, and say so."""
    for name, start in DECODERS.items():
        note_if_missing(name, start)
    for name, start_mask in MASKERS.items():
        note_if_missing(name, partial(start_mask, b"", KEY))
    for name, reason in missing.items():
        print(f"NOT MEASURED: {name}: {reason}", file=sys.stderr)


def note_if_missing(name: str, start: Callable[[], object]) -> None:
    try:
        start()
    except ImportError as error:
        missing[name] = str(error)


# Measuring ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, their least and greatest."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up one figure for each round."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """What one implementation did in one case; a megabyte is 10⁶ bytes of payload."""

    kind: Kind
    payload_bytes: int
    implementation: str
    messages_per_s: Spread
    megabytes_per_s: Spread
    times_slower: Spread

    @classmethod
    def from_json(cls, figures: dict[str, Any]) -> Result:
        """Return what `asdict` was called on."""
        spreads = {key: Spread(**each) for key, each in figures.items() if isinstance(each, dict)}
        return cls(**{**figures, **spreads})


def measure(case: Case, effort: Effort, step: str) -> list[Result]:
    """Measure all implementations in rounds; `times_slower` is relative to the first of them."""
    ways = passes(case, effort)
    repeats = {name: repeats_for(way, effort.sample_s) for name, way in ways.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(effort.rounds):
        show_progress(f"{step} {case}: round {turn + 1} of {effort.rounds}")
        for name in names:
            rates[name].append(rate(ways[name], repeats[name]))
        names.append(names.pop(0))  # Nobody is always the first.
    first = rates[next(iter(ways))]
    return [
        Result(
            case.kind,
            case.size,
            name,
            Spread.of(own),
            Spread.of([each * case.size / 1e6 for each in own]),
            Spread.of([base / each for base, each in zip(first, own, strict=True)]),
        )
        for name, own in rates.items()
    ]


def repeats_for(way: Pass, sample_s: float) -> int:
    """How often to repeat `way` for a sample of about this length."""
    way()
    repeats = 1
    while (seconds := seconds_for(way, repeats)) < sample_s / 4:
        repeats *= 4
    return max(1, round(repeats * sample_s / seconds))


def rate(way: Pass, repeats: int) -> float:
    """Messages a second."""
    gc.collect()
    messages = way()
    return messages * repeats / seconds_for(way, repeats)


def seconds_for(way: Pass, repeats: int) -> float:
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(repeats):
            way()
        return time.perf_counter() - start
    finally:
        gc.enable()


# Showing ------------------------------------------------------------------------------------------


def show_progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def print_table(case: Case, results: Sequence[Result]) -> None:
    show_progress("")
    print(f"\n{case!s:20} {'messages/s':>11} {'min .. max':>26} {'MB/s':>9}", end="")
    print(f"   times slower than {results[0].implementation}")
    for result in results:
        rate, ratio = result.messages_per_s, result.times_slower
        print(
            f"  {result.implementation:18} {rate.median:11,.0f}"
            f" {f'{rate.min:,.0f} .. {rate.max:,.0f}':>26} {result.megabytes_per_s.median:9,.1f}"
            f"   {ratio.median:6.2f} ({ratio.min:.2f} .. {ratio.max:.2f})",
            flush=True,
        )


def report(effort: Effort, results: Sequence[Result]) -> dict[str, object]:
    """All figures with what is needed to read them later."""
    return {
        "command": shlex.join(["python", "benches/decode.py", *sys.argv[1:]]),
        "machine": machine.described(),
        "versions": {name: version(name) for name in ("rakit-ws", "websockets", "wsproto")},
        "not_measured": missing,
        "read_bytes": READ_BYTES,
        "effort": asdict(effort),
        "results": [asdict(result) for result in results],
    }


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure frame decoding and masking.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, rougher figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    effort = QUICK if arguments.quick else FULL
    note_missing()
    results: list[Result] = []
    for number, case in enumerate(CASES, 1):
        measured = measure(case, effort, f"[{number}/{len(CASES)}]")
        print_table(case, measured)
        results += measured
    if arguments.json:
        arguments.json.write_text(json.dumps(report(effort, results), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
